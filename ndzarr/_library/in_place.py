"""
Files that are read in place: TIFFs with tiles, and videos, as pyramids that are not transcoded.

1. The file is parsed, as for transcoding.
2. The images of a TIFF that are levels become arrays whose chunks are tiles (`ndzarr._formats.tiff.array`).
3. Levels above the coarsest one of the file are made when they are first read (`ndzarr._library.overviews`).

`open_in_place` decides whether a file is read in place or transcoded.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndzarr._files import FileId, settle
from ndzarr._formats.base import Facts, Source
from ndzarr._formats.options import InPlaceOptions as Reading
from ndzarr._formats.options import Options, make_options
from ndzarr._formats.registry import file_kind
from ndzarr._formats.tiff.array import TiffArray
from ndzarr._formats.tiff.metadata import DamagedTiffError, open_parsed, read_content
from ndzarr._formats.tiff.open import open_shaped
from ndzarr._formats.tiff.segments import make_decoder, read_table
from ndzarr._formats.tiff.series import Image, ParsedTiff, find_levels, not_in_place, parse
from ndzarr._library.keys import SourceRequest as Request
from ndzarr._library.overviews import Base, levels_above
from ndzarr._pyramid.levels import Level
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._store.metadata import LevelShape, root_attributes
from ndzarr._store.presets import Encoding
from ndzarr.errors import (
    DamagedError,
    DamagedVideoWarning,
    NdzarrError,
    OptionError,
    SourceError,
    StoreError,
    did_you_mean,
)

if TYPE_CHECKING:
    from ndzarr._formats.video.source import VideoSource


@dataclass(frozen=True, slots=True)
class _Reopen:
    """Opens the file of a pyramid in another process, without repeating warnings."""

    reading: Reading

    def __call__(self, path: str, cache_bytes: int) -> Pyramid:
        if file_kind(path) == "video":
            return _open_video(path, self.reading, cache_bytes)[1]
        return open_tiff(path, self.reading, cache_bytes)


def open_tiff(path: str, reading: Reading, cache_bytes: int = 0) -> Pyramid:
    """
    Open a TIFF with tiles as a pyramid.

    Parameters
    ----------
    reading
        How the file is to be read.
    cache_bytes
        Keep so many bytes of decoded tiles between reads.

    Raises
    ------
    StoreError
        The file cannot be read in place.
    DamagedError
        It is truncated or damaged.
    """
    path = os.path.realpath(path)  # not abspath, which would take `link/..` for the directory that holds the link
    options = make_options(reading.axes, reading.channels, reading.nodata, reading.orient, reading.max_pixels)
    file = FileId.of(path)
    settle(file.mtime_ns)
    try:
        with open_parsed(path) as (tif, messages):
            if open_shaped(path, tif, options) is not None:
                raise not_in_place(path, "the rows of its image are stored as pages, so it is not read in place")
            parsed = parse(read_content(path, tif, messages), options)
            images, notes = find_levels(parsed, reading.kind)
            facts = replace(parsed, notes=(*parsed.notes, *notes)).facts().settle(options)
            native = [_array(file, k, image, parsed, facts, options) for k, image in enumerate(images)]
    except DamagedTiffError as error:
        raise DamagedError(str(error)) from error
    except SourceError as error:
        raise StoreError(str(error)) from error
    file.check()
    powers = [image.power for image in images]
    asked = reading.axes, reading.nodata
    base = Base(
        native[-1], powers[-1], file, facts.dims, facts.channels, facts.nodata, reading.kind, reading.cache, asked
    )
    above = levels_above(base)
    powers += range(powers[-1] + 1, powers[-1] + 1 + len(above))
    origin = {"path": file.path, "size": file.size, "mtime_ns": file.mtime_ns}
    levels = list(zip([*native, *above], powers, strict=True))
    return _pyramid(file.path, facts, origin, levels, reading, cache_bytes)


def _array(file: FileId, level: int, image: Image, parsed: ParsedTiff, facts: Facts, options: Options) -> TiffArray:
    form, layout = image.form, parsed.layout
    shape = (*facts.shape[:-2], *form.shape[2:4])
    table = read_table(file, level, image.series, form, layout.frames.size)
    decoder = make_decoder(image.series.page, form)
    array = TiffArray(level, facts.dims, shape, form, decoder, table, layout, parsed.fill(options), image.colour)
    if array.files != (file,):
        raise not_in_place(file.path, "its frames are in several files, so it is not read in place")
    return array


def _pyramid(
    path: str,
    source: Source | Facts,
    origin: Mapping[str, Any],
    levels: Sequence[tuple[Any, int]],
    reading: Reading,
    cache_bytes: int,
) -> Pyramid:
    """Build the pyramid of a file from its arrays and the power of 2 by which each is smaller."""
    from ndzarr._pyramid.transcode import describe, display

    about: Any = describe(source, Encoding(kind=reading.kind), origin)  # type: ignore[arg-type]
    factors = [tuple(2**power if d in "yx" else 1 for d in source.dims) for _, power in levels]
    shapes: list[Any] = [LevelShape(a.shape, None, f) for (a, _), f in zip(levels, factors, strict=True)]  # type: ignore[arg-type]
    limits = display(source.dtype, source.metadata.get("bits"))
    attrs = root_attributes(about, shapes, [limits] * len(source.channels))
    attrs["ndzarr"]["encoding"] = {"kind": reading.kind}
    arrays = tuple(Level(a, tuple(map(float, f))) for (a, _), f in zip(levels, factors, strict=True))
    return Pyramid(path, source.dims, arrays, source.channels, attrs, cache_bytes, _Reopen(reading))


def open_video(path: str, reading: Reading, cache_bytes: int = 0) -> Pyramid:
    """
    Open a video in place.

    Parameters
    ----------
    cache_bytes
        Not used: decoded frames are kept within a budget of their own.

    Raises
    ------
    StoreError
        The file has no video that can be decoded.

    Warns
    -----
    DamagedVideoWarning
        Frames do not decode, or the file ends too soon; the other frames can be read.
    """
    source, pyramid = _open_video(path, reading, cache_bytes)
    if source.trouble:
        warnings.warn(f"{source.name}: {'; '.join(source.trouble)}", DamagedVideoWarning, stacklevel=3)
    return pyramid


def _open_video(path: str, reading: Reading, cache_bytes: int) -> tuple[VideoSource, Pyramid]:
    from ndzarr._formats.video.source import VideoArray, open_video  # imports av, which files of other kinds do without
    from ndzarr._pyramid.transcode import identity

    path = os.path.realpath(path)
    origin = identity(path)
    options = make_options(reading.axes, reading.channels, reading.nodata, reading.orient, reading.max_pixels)
    try:
        source = open_video(path, options)
        shape, keys = source.shape, len(source.index.starts[0])
    except SourceError as error:
        raise StoreError(str(error)) from error
    array = VideoArray(path, shape, source.dtype, keys, source.windows())
    return source, _pyramid(path, source, origin, [(array, 0)], reading, cache_bytes)


def open_file(path: str, reading: Reading, cache_bytes: int = 0) -> Pyramid:
    """
    Open a file in place.

    Parameters
    ----------
    path
        A file that `file_kind` knows.

    Raises
    ------
    StoreError
        The file cannot be read in place; the message says why, and what to do.
    DamagedError
        The file is truncated or damaged.
    """
    opener = open_video if file_kind(path) == "video" else open_tiff
    return opener(path, reading, cache_bytes)


# --- Is a file read where it lies, or transcoded?


POLICIES = ("auto", "always", "never")

SIDES = (64, 1024)
"""Least and most pixels along a side of an efficient tile."""
TILE_BYTES = 4 << 20
"""Decoded bytes of an efficient tile, at most."""
TILES = 4 << 20
"""Tiles of an efficient file, at most: their places take 16 bytes each in memory."""
FRAMES = 1024
"""Frames of an efficient file, at most: each has a directory that is read when the file is opened."""
QUICK = frozenset(
    "none lzw deflate adobe_deflate packbits zstd zstd_deprecated jpeg webp lerc".split()  # noqa: SIM905
)
"""Compressions that decode about as quickly as deflate."""


def check_policy(transcode: str) -> str:
    """
    The option, if it is one of `POLICIES`.

    Raises
    ------
    OptionError
        It is not.
    """
    if transcode not in POLICIES:
        raise OptionError(f"transcode={transcode!r} is not known{did_you_mean(transcode, POLICIES)}")
    return transcode


def open_in_place(
    request: Request, transcode: str, encoding: Encoding, max_pixels: int | None, cache: Path
) -> Pyramid | None:
    """
    The pyramid of a file that is read where it lies; None if the file is to be transcoded.

    Parameters
    ----------
    transcode
        One of `POLICIES`.
    encoding
        How it would be transcoded.
    cache
        Where levels are kept that the file does not have.

    Raises
    ------
    StoreError
        `transcode` is 'never', and the file cannot be read where it lies.
    """
    if transcode == "always":
        return None
    path = os.path.realpath(request.path)
    kind = file_kind(path)
    known = kind is not None
    if transcode == "auto":
        return _if_efficient(path, request, encoding, max_pixels, cache) if kind == "TIFF" else None
    if not known and os.path.exists(path):
        raise StoreError(
            f"{request.path}: this file cannot be read where it lies, and transcode='never' forbids to transcode it; "
            f"pass transcode='auto', or convert it to a TIFF with tiles"
        )
    return open_file(path, _reading(request, encoding, max_pixels, cache)) if known else None


def _if_efficient(
    path: str, request: Request, encoding: Encoding, max_pixels: int | None, cache: Path
) -> Pyramid | None:
    if encoding.chunks or encoding.access != "frames" or encoding.reduce != "yx":
        return None  # somebody wants chunks, or levels, that the file does not have
    try:
        pyramid = open_file(path, _reading(request, encoding, max_pixels, cache))
    except NdzarrError:
        return None  # transcoding may do, or else says what is wrong with the source
    return pyramid if inefficient(pyramid) is None else None


def _reading(request: Request, encoding: Encoding, max_pixels: int | None, cache: Path) -> Reading:
    return Reading(
        request.orient, request.axes, request.channels, request.nodata, max_pixels, kind=encoding.kind, cache=cache
    )


def inefficient(pyramid: Pyramid) -> str | None:
    """Why windows of a file that was opened in place would be slow; None if they would not."""
    from ndzarr._library.overviews import side_store

    native = pyramid.levels[0].array
    if native.engine == "video decoder":
        return "it is a video, of which whole frames are decoded"
    if not isinstance(native, TiffArray):
        return None
    height, width = native.chunks[-2:]
    *lead, rows, columns = native.segments
    if min(height, width) < SIDES[0] or max(height, width) > SIDES[1] or native.form.segment_bytes > TILE_BYTES:
        return f"its tiles have {width} x {height} pixels"
    if native.form.compression not in QUICK:
        return f"{native.form.compression} decodes slowly"
    if native.converts:
        return "its colours have to be converted"
    if prod(lead) * rows * columns > TILES or native.frames > FRAMES:
        return f"it has {native.frames} frames of {rows * columns} tiles"
    if side_store(pyramid) is not None:
        return "it has no overviews"
    return None


def agreeing(pyramid: Pyramid, request: Request) -> Pyramid:
    """
    A store that was not made for a request, if it says what the request does.

    Raises
    ------
    OptionError
        It says something else.
    """
    for option, own in (("axes", "".join(pyramid.dims)), ("channels", pyramid.channels), ("nodata", pyramid.nodata)):
        asked = getattr(request, option)
        if asked is not None and asked != own and not (asked != asked and own != own):
            raise OptionError(
                f"{request.path}: {option}={asked!r} was asked for, but this Zarr store has {own!r}, and is taken as "
                f"it is; leave it out, or transcode the store"
            )
    return pyramid
