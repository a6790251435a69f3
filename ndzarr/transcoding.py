"""How does a source of pixels become a pyramid?

1. The source is opened and described (`sources`).
2. Its bands of rows go, top to bottom and each once, to a `PyramidWriter`, which makes all levels on the way.
3. Metadata follow; then the store is published by a rename.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ndzarr.errors import DamagedVideoWarning, SourceError
from ndzarr.geometry import levels as geometry
from ndzarr.pyramid import metadata
from ndzarr.pyramid.layout import Encoding, chunks_option, layout
from ndzarr.pyramid.metadata import Description, LevelShape
from ndzarr.pyramid.open import open_pyramid
from ndzarr.pyramid.publish import local, publishing, refuse_existing
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.pyramid.reduce import reducer
from ndzarr.pyramid.volume import halve
from ndzarr.pyramid.writer import PyramidWriter
from ndzarr.rowbar import row_bar
from ndzarr.sources.sequence import SequenceSource
from ndzarr.sources.source import Source
from ndzarr.streaming import as_stream, write_stream

BAND_BYTES = 16 << 20
"""Pixels read at a time, at least one band of the source."""


def transcode(
    source: Any,
    dest: str | os.PathLike[str],
    *,
    preset: str = "fast",
    kind: str = "intensity",
    axes: str | None = None,
    channels: Sequence[str] | None = None,
    nodata: float | None = None,
    orient: bool | tuple[int, int] = True,
    chunks: Mapping[str, int] | None = None,
    access: str = "frames",
    reduce: str = "yx",
    stack: str = "t",
    start: float | None = None,
    stop: float | None = None,
    step: int = 1,
    size: tuple[int, int] | float | None = None,
    overwrite: bool = False,
    progress: bool = False,
    workers: int | None = None,
    max_pixels: int | None = None,
) -> Pyramid:
    """
    Write a source as a pyramid.

    Parameters
    ----------
    source
        Path of an image (PNG, JPEG, TIFF, OME-TIFF, WebP, BMP, GIF, JPEG 2000, JPEG XL, NPY), of a video (anything
        that FFmpeg decodes; see docs/videos.md), of a Zarr array, or a numpy, dask, xarray or Zarr array; or a list of
        them, or a pattern such as 'frames/*.png', that become one.
    dest
        Directory of the store to make; conventionally ends in .zarr.
    preset
        'fast' (lossless), 'compact' (lossless, smaller, slower); see docs/layouts.md.
    kind
        'intensity', or 'labels' for class maps and masks, whose levels must not mix values.
    axes
        Meaning of the source's axes, such as 'tyxc'; needed for arrays of more than 3 axes without names.
    channels
        Names of the channels, where the source's own are not wanted.  A video is converted to 'gray' or 'rgb'.
    nodata
        Value of pixels that hold no data; the source's own if it states one.
    orient
        Turn photographs upright by their EXIF orientation; (width, height) takes whichever orientation has that size.
    chunks
        Lengths of chunks by axis, where those of `preset` and `access` do not suit.
    access
        How frames or planes will be read: 'frames' (whole ones), 'tubes' (short windows through many), 'mixed'; see
        docs/layouts.md.
    reduce
        The axes that levels halve: 'yx', or 'zyx' for volumes whose planes are as close as their pixels.
    stack
        What the images of a list are: frames, 't', or planes, 'z'.
    start, stop
        Of a video, take the frames that are shown at or after `start` and before `stop`, in seconds of its own clock.
    step
        Of those frames, take every so many.
    size
        (height, width) of the frames of a video in pixels, or how many times as large as they are.
    overwrite
        Replace `dest` if it exists, once the new store is complete.
    progress
        Show a progress bar.
    workers
        Threads that encode; the number of processors if left out.
    max_pixels
        Refuse larger images; the default depends on whether they can be read in pieces.

    Returns
    -------
    The pyramid, open for reading.

    Raises
    ------
    SourceError, MissingError
        The source cannot be used; nothing was written.
    ExistsError
        `dest` exists.
    WriteError
        `dest` cannot be written, or the disk is full; nothing is left of it.

    Warns
    -----
    DamagedVideoWarning
        Frames of a video do not decode, or it ends too soon; the others were written.
    """
    from ndzarr.sources.open import open_source

    encoding = Encoding(preset, kind, chunks_option(chunks), access=access, reduce=reduce)
    target = local(dest)
    refuse_existing(target, overwrite)
    with open_source(
        source,
        axes=axes,
        channels=channels,
        nodata=nodata,
        orient=orient,
        max_pixels=max_pixels,
        stack=stack,
        start=start,
        stop=stop,
        step=step,
        size=size,
    ) as opened:
        write_pyramid(opened, target, encoding, overwrite=overwrite, progress=progress, workers=workers)
    return open_pyramid(target)


def write_pyramid(
    source: Source,
    dest: Path,
    encoding: Encoding,
    *,
    overwrite: bool = False,
    progress: bool = False,
    workers: int | None = None,
    origin: Mapping[str, Any] | None = None,
    number: int = 0,
) -> None:
    """
    Write an open source as a store; see `transcode`.

    Parameters
    ----------
    origin
        The `identity` of the source's file before it was opened, and whatever else the store is to record of it; its
        identity now if left out.
    number
        Of the source's level, where it is not the native one of a pyramid: halves are rounded by it.

    Raises
    ------
    SourceError
        The source cannot be read, or its file was changed meanwhile; nothing was written.
    """
    origin = identity(source.name) if origin is None else origin
    stream = as_stream(source)
    levels = level_shapes(source, encoding) if stream is None else []
    volume = "z" in encoding.reduce and "z" in source.dims
    plain = reducer(source.dtype, encoding.kind, source.nodata, volume)

    def reduce(image: np.ndarray[Any, Any], level: int) -> np.ndarray[Any, Any]:
        return plain(image, level + number)

    halved = levels[:-1] if volume else []
    with publishing(dest, overwrite) as work, row_bar(source, progress, halved) as bar:
        if stream is not None:
            frame = stream.expected_shape[1:]
            levels = write_stream(
                stream,
                lambda t: level_shapes(source, encoding, (t, *frame)),
                lambda levels: PyramidWriter(work, levels, reduce, workers),
                BAND_BYTES,
                bar.update,
            )
        else:
            with PyramidWriter(work, levels[:1] if volume else levels, reduce, workers) as writer:
                for block, window in _bands(source, levels[0]):
                    rows = source.read(window)
                    writer.write(block, rows)
                    bar.update(rows.shape[-2] * prod(rows.shape[:-2]))
                writer.finish()
        if volume:
            halve(work, levels, reduce, workers, bar.update)
        _refuse_changed(source, origin)
        about = describe(source, encoding, origin)
        limits = display(source.dtype, source.metadata.get("bits"))
        metadata.write(work, about, levels, [limits] * len(source.channels))
    if stream is not None and stream.trouble:
        warnings.warn(f"{source.name}: {'; '.join(stream.trouble)}", DamagedVideoWarning, stacklevel=2)


def describe(source: Source, encoding: Encoding, origin: Mapping[str, Any]) -> Description:
    """What a store of a source, or whatever else has its facts, says about itself."""
    return Description(
        dims=source.dims,
        channels=source.channels,
        dtype=source.dtype,
        encoding=encoding,
        nodata=source.nodata,
        times=None if source.times is None else tuple(float(t) for t in source.times),
        source={"name": source.name, **source.metadata, **origin},
    )


def identity(name: str) -> dict[str, Any]:
    """What tells whether a file has changed: its size and time of modification; nothing for what is not a file."""
    try:
        stat = os.stat(name)
    except OSError:
        return {}
    return {"path": name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _refuse_changed(source: Source, origin: Mapping[str, Any]) -> None:
    """Raise `SourceError` if a file is there whose identity is another by now."""
    if isinstance(source, SequenceSource):
        source.refuse_changed()
    now = identity(origin["path"]) if origin else {}
    if any(now[key] != origin[key] for key in now):
        raise SourceError(f"{origin['path']}: was changed while it was read; transcode it once it is complete")


def level_shapes(source: Source, encoding: Encoding, native: tuple[int, ...] | None = None) -> list[LevelShape]:
    """
    The levels that a source gets, from native to coarsest; `OptionError` where a preset cannot hold its pixels.

    Parameters
    ----------
    native
        Shape of the native level, where it is not that of the source.
    """
    native = source.shape if native is None else native
    out = []
    for k in range(geometry.count(*native[-2:])):
        shape = geometry.shape_at(k, source.dims, native, encoding.reduce)
        factors = tuple(2**k if d in encoding.reduce else 1 for d in source.dims)
        out.append(LevelShape(shape, layout(source.dims, shape, source.dtype, encoding), factors))
    return out


def _bands(source: Source, level: LevelShape) -> Iterator[tuple[tuple[int, ...], dict[str, slice]]]:
    """(first index of the block before y, window to read), blocks of whole chunks, rows top to bottom."""
    lengths = dict(zip(source.dims, source.shape, strict=True))
    block = dict(zip(source.dims, level.layout.shards, strict=True))
    step = dict(zip(source.dims, level.layout.chunks, strict=True))
    step["c"] = lengths["c"] if source.interleaved else block["c"]
    lead = source.dims[:-2]
    row_bytes = source.dtype.itemsize * lengths["x"] * prod(min(step[d], lengths[d]) for d in lead)
    unit = max(1, source.band)
    rows = min(lengths["y"], unit * max(1, BAND_BYTES // max(1, unit * row_bytes)))
    for start in product(*(range(0, lengths[d], step[d]) for d in lead)):
        window = {d: slice(i, min(i + step[d], lengths[d])) for d, i in zip(lead, start, strict=True)}
        for y in range(0, lengths["y"], rows):
            yield start, {**window, "y": slice(y, min(y + rows, lengths["y"]))}


def display(dtype: np.dtype[Any], bits: int | None = None) -> tuple[float, float]:
    """The range of values that viewers show; of so many bits where not all of the type's are used."""
    if bits is not None and dtype.kind == "u":
        return 0.0, float(2**bits - 1)
    if dtype.kind in "iu":
        return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    return 0.0, 1.0
