"""How does a video become a pyramid without being transcoded?

It has one level, its own; its pixels are those that `ndzarr.transcode` would write.  What the header says of the number
of frames is not believed: see `sources.video.index`.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

from ndzarr.errors import DamagedVideoWarning, SourceError, StoreError
from ndzarr.inplace.reading import Reading
from ndzarr.inplace.video.array import VideoArray
from ndzarr.pyramid import metadata
from ndzarr.pyramid.layout import Encoding
from ndzarr.pyramid.metadata import LevelShape
from ndzarr.pyramid.pyramid import Level, Pyramid
from ndzarr.sources.options import make_options
from ndzarr.sources.video.source import VideoSource
from ndzarr.sources.video.source import open_video as open_source


def open_video(path: str, reading: Reading, cache_bytes: int = 0) -> Pyramid:
    """
    Open a video where it lies.

    Parameters
    ----------
    cache_bytes
        Of no use here: decoded frames are kept within a budget of their own.

    Raises
    ------
    StoreError
        It has no video that can be decoded.

    Warns
    -----
    DamagedVideoWarning
        Frames do not decode, or it ends too soon; the others can be read.
    """
    source, pyramid = _open(path, reading, cache_bytes)
    if source.trouble:
        warnings.warn(f"{source.name}: {'; '.join(source.trouble)}", DamagedVideoWarning, stacklevel=3)
    return pyramid


@dataclass(frozen=True, slots=True)
class _Reopen:
    """What a pyramid pickles to, with its path; what is wrong with the video has been said."""

    reading: Reading

    def __call__(self, path: str, cache_bytes: int) -> Pyramid:
        return _open(path, self.reading, cache_bytes)[1]


def _open(path: str, reading: Reading, cache_bytes: int) -> tuple[VideoSource, Pyramid]:
    from ndzarr.transcoding import describe, display, identity

    path = os.path.realpath(path)
    origin = identity(path)
    options = make_options(reading.axes, reading.channels, reading.nodata, reading.orient, reading.max_pixels)
    try:
        source = open_source(path, options)
        shape, keys = source.shape, len(source.index.starts[0])
    except SourceError as error:
        raise StoreError(str(error)) from error
    array = VideoArray(path, shape, source.dtype, keys, source.windows())
    factors = (1,) * len(shape)
    levels: list[Any] = [LevelShape(shape, None, factors)]  # type: ignore[arg-type]
    limits = display(source.dtype, source.metadata["bits"])
    about = describe(source, Encoding(kind=reading.kind), origin)
    attrs = metadata.attributes(about, levels, [limits] * len(source.channels))
    attrs["ndzarr"]["encoding"] = {"kind": reading.kind}
    level = Level(array, tuple(map(float, factors)))
    return source, Pyramid(path, source.dims, (level,), source.channels, attrs, cache_bytes, _Reopen(reading))
