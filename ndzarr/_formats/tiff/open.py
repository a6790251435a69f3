"""
TIFF files as sources.

A source reads its segments through the same `TiffArray` as a file that is read in place, then converts the colours of
the window and turns it upright.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any, TypeVar

import numpy as np
import tifffile

from ndzarr._files import FileId
from ndzarr._formats.arrays import MOST_COLOURS, ArraySource, FileArray, open_numpy
from ndzarr._formats.base import Facts, Pixels, Region, Source
from ndzarr._formats.options import Options
from ndzarr._formats.orientation import Orientation
from ndzarr._formats.tiff.array import TiffArray
from ndzarr._formats.tiff.colour import Conversion
from ndzarr._formats.tiff.libtiff import LibtiffSource
from ndzarr._formats.tiff.masks import internal_masks, mask_notes, masks_beside
from ndzarr._formats.tiff.metadata import AGAIN, open_parsed, parsing, read_content
from ndzarr._formats.tiff.segments import cut_strips, make_decoder, read_table, refuse_implausible
from ndzarr._formats.tiff.series import ParsedTiff, parse
from ndzarr._indexing.plan import plan_reads
from ndzarr._store.read import execute
from ndzarr._store.sharding import ChunkCache
from ndzarr.errors import SourceError, StoreError

Opened = TypeVar("Opened", bound=Source)

_BLOCK_BYTES = 1 << 20
"""Bytes of plain strips that are read at a time, and decoded bytes from which on a strip read in parts is kept."""


class TiffSource(Source):
    """A TIFF file, read segment by segment."""

    def __init__(self, facts: Facts, orientation: Orientation, array: TiffArray, colour: Conversion) -> None:
        """Take samples as stored, axes `facts.dims`, and how they become channels."""
        super().__init__(facts, orientation)
        self._array, self._colour = array, colour
        form = array.form
        keeps = not form.tiled and not form.is_plain and form.segment_bytes >= _BLOCK_BYTES
        self._cache = ChunkCache(form.segment_bytes * form.grid[0]) if keeps else None

    def _pixels(self, region: Region) -> Pixels:
        c = self.dims.index("c")
        stored = list(region)
        if self._colour.whole:
            stored[c] = slice(0, self._array.shape[c])
        pixels = self._stored(stored)
        if self._colour.convert is None:
            return pixels
        part = dict(zip(self.dims, region, strict=True))
        frames = self._array.layout.frames_of(part.get("t", slice(0, 1)), part.get("z", slice(0, 1)))
        whole = self._colour.convert(pixels[tuple(slice(None) if d in self.dims else None for d in "tczyx")], frames)
        pixels = whole[tuple(slice(None) if d in self.dims else 0 for d in "tczyx")]
        return pixels[(*(slice(None),) * c, region[c])] if self._colour.whole else pixels

    def _stored(self, region: list[slice]) -> Pixels:
        """Samples of a window as stored."""
        array = self._array
        shape = [s.stop - s.start for s in region]
        # A large strip that is only used in part is kept, because the next window will want the rest.
        cache = self._cache if shape[-2] < array.chunks[-2] else None
        plan = plan_reads([(array, tuple(slice(s.start, s.stop, 1) for s in region))])
        try:
            return execute(plan, cache=cache)[0]
        except StoreError as error:
            raise SourceError.like(error) from error

    def _release(self) -> None:
        self._cache = None
        for file in self._array.files:
            file.close()


def open_tiff(path: str, options: Options) -> TiffSource | LibtiffSource | ArraySource:
    """Open a TIFF of any flavour that tifffile knows."""
    file = FileId.of(path)
    with open_parsed(path) as (tif, remarks):
        if (shaped := open_shaped(path, tif, options)) is not None:
            return shaped
        parsed = parse(read_content(path, tif, remarks), options)
        try:
            masks = internal_masks(file, parsed, parsed.layout.dims)
            parsed = replace(parsed, notes=(*parsed.notes, *mask_notes(parsed, masks)))
            if parsed.decoded_whole:
                return _with_mask(_open_whole(path, parsed, options), masks)
            layout, series = parsed.layout, parsed.series
            table = read_table(file, 0, series, parsed.form, layout.frames.size)
            refuse_implausible(file, parsed.form, table)
            form, table = cut_strips(parsed.form, table, _BLOCK_BYTES)
            decoder, fill = make_decoder(series.page, form), parsed.fill(options)
            array = TiffArray(0, layout.dims, parsed.stored_shape(), form, decoder, table, layout, fill)
        except StoreError as error:
            raise SourceError.like(error) from error
        facts = parsed.facts().settle(options)
    return _with_mask(TiffSource(facts, parsed.orientation, array, parsed.colour), masks)


def open_mask_beside(path: str, size: tuple[int, int]) -> TiffSource:
    """Open the mask beside a file whose image is stored with (height, width) `size`."""
    try:
        return _mask_source(masks_beside(path, size)[0])
    except StoreError as error:
        raise SourceError.like(error) from error


def _with_mask(source: Opened, masks: Mapping[int, TiffArray]) -> Opened:
    """Return the source with the mask of its own size, if there is one."""
    if masks:
        source.add_mask(_mask_source(masks[0]))
    return source


def _mask_source(array: TiffArray) -> TiffSource:
    """Return a mask as a source of one channel, as it is stored."""
    name, rows = array.files[0].path, array.chunks[-2]
    facts = Facts(name=name, dims=array.dims, shape=array.shape, dtype=array.dtype, channels=("mask",), band=rows)
    return TiffSource(facts, Orientation(), array, Conversion(("mask",), array.dtype, "mask"))


def _open_whole(path: str, parsed: ParsedTiff, options: Options) -> LibtiffSource:
    """Open a file whose pages libtiff decodes."""
    options.check_pixels(path, parsed.form.shape[2], parsed.form.shape[3], whole=True)
    pages = parsed.pages()
    return LibtiffSource(parsed.facts().settle(options), parsed.orientation, pages)


def open_shaped(path: str, tif: tifffile.TiffFile, options: Options) -> ArraySource | None:
    """Open a file whose pages are not images, but the rows of one; None if the file is not of this kind."""
    with parsing(path):
        series = tif.series[0] if tif.series and options.series in (None, 0) else None
        if series is None or series.kind != "shaped" or len(series.shape) != 3 or series.axes[-2:] != "YX":
            return None
        start, dtype, shape = series.dataoffset, series.dtype, tuple(series.shape)
    height, width, samples = shape
    if start is None or not _is_interleaved(height, width, samples, options):
        return None
    options.check_pixels(path, height, width, whole=False)
    if start + prod(shape) * dtype.itemsize > tif.filehandle.size:
        raise SourceError(f"{path}: this TIFF ends before its pixels do; it is truncated", path=path, hint=AGAIN)
    pixels = np.memmap(path, dtype.newbyteorder(tif.byteorder), "r", start, shape)
    orient: Any = True  # rows of pixels have no orientation, and their size is checked here
    options = replace(options, axes="yxc", orient=orient)
    return open_numpy(pixels, options, path, "TIFF", FileArray.fetch(pixels, path))


def _is_interleaved(height: int, width: int, samples: int, options: Options) -> bool:
    if options.axes is not None:
        return options.axes == "yxc"
    if isinstance(options.orient, tuple):
        return options.orient == (width, height) != (samples, width)
    return samples <= MOST_COLOURS < min(height, width)
