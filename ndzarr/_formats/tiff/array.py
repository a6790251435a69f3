"""
An image of a TIFF as an array whose chunks are its segments.

A chunk is a tile or strip with all samples that are stored together in it.  It is decoded into a buffer with the
segment's own order of axes (rows, columns, samples), from which a plan copies what it wants; where colours are
converted, into the order of the array.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ndzarr._files import Bytes, FileId, OpenFile
from ndzarr._formats.base import Pixels
from ndzarr._formats.tiff.colour import Conversion
from ndzarr._formats.tiff.metadata import AGAIN, FarTable
from ndzarr._formats.tiff.segments import (
    Decoder,
    FrameFile,
    FrameFormat,
    SegmentError,
    SegmentTable,
    TiffFile,
    segment_name,
)
from ndzarr._formats.tiff.series import Layout
from ndzarr._indexing.selection import Selection
from ndzarr._remote.files import RemoteFile
from ndzarr._remote.stores import Landed, Range
from ndzarr._store import core
from ndzarr._store.arrays import Tables
from ndzarr._store.remote import fetch, locate
from ndzarr.errors import DamagedError

SHARD = 2048
"""Pixels along y and x of tiles that lazy arrays read together."""
_SLOW = 32 << 10
"""Decoded bytes of a tile from which on decompressing it takes longer than waking a thread."""
_THREADED_PLAIN = 4 << 20
"""The same for segments that are only read."""
_BLOCK = 2048
"""Entries of a table that are read together."""
_LONG_ROW = 1 << 14
"""Bytes of a row from which on it is cheaper to read the few columns wanted of each row than whole rows."""


@dataclass(frozen=True, slots=True)
class SegmentCodec:
    """How a segment is laid out in memory once it is decoded."""

    shape: tuple[int, ...]
    """Shape of a chunk, along the axes of the array."""
    dtype: np.dtype[Any]
    order: tuple[int, ...] | None
    """Order of axes in memory, None where it is that of the array."""
    slow: bool
    """True where decoding a chunk takes so long that each of a plan is worth a thread."""

    @property
    def threaded_bytes(self) -> int:
        """Decoded bytes of a chunk from which on threads pay."""
        return 0 if self.slow else _THREADED_PLAIN

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the buffer."""
        return self.shape if self.order is None else tuple(self.shape[i] for i in self.order)

    def scratch(self) -> Pixels:
        """A buffer that a segment can be decoded into."""
        return np.empty(self.stored_shape, self.dtype)

    def view(self, scratch: Pixels) -> Pixels:
        """The buffer with the axes of the array."""
        return scratch if self.order is None else scratch.transpose(np.argsort(self.order))


class TiffArray:
    """One image of a TIFF, decoded segment by segment."""

    chunked: Literal[True] = True
    shard_count = 1
    """The file: the table of its tiles is what the index of a shard is to a store."""

    def __init__(
        self,
        level: int,
        dims: tuple[str, ...],
        shape: tuple[int, ...],
        form: FrameFormat,
        decoder: Decoder,
        table: SegmentTable,
        layout: Layout,
        fill: float | tuple[float, ...],
        colour: Conversion | None = None,
    ) -> None:
        """
        Put an array together.

        Parameters
        ----------
        dims, shape
            Axes of the array, after colours are converted.
        fill
            Stored value of pixels that are not in the file, or that of each channel.
        colour
            Conversion of samples; samples are the channels if left out.  All samples of a pixel must be stored
            together if each channel needs all of them.
        """
        depth, height, width = form.segment
        together = form.shape[4]
        self._convert = None if colour is None else colour.convert
        self._level, self.dims, self.layout = level, dims, layout
        self.form, self._decoder = form, decoder
        self._table = table.arranged(lambda flat: _arranged(flat, layout, dims))
        self._only = self._table.files[0] if self._table.which is None else None
        self.remote = isinstance(table.files[0].file, RemoteFile)
        self._segment = (depth, height, width, together)[depth == 1 :]
        # The last strip has only the rows that are left; tiles are whole.
        self._last_rows = height if form.tiled else form.shape[2] - (form.grid[2] - 1) * height
        lengths = {"y": height, "x": width, layout.depths[0]: depth, layout.samples[0]: together}
        if colour is not None and self._convert is not None and colour.whole:
            lengths["c"] = len(colour.channels)
        self.shape, self.chunks = shape, tuple(lengths.get(d, 1) for d in dims)
        self._fills = np.array(fill, form.dtype) if isinstance(fill, tuple) else None
        self._fill = form.dtype.type(0 if isinstance(fill, tuple) else fill)
        if colour is None or self._convert is None:
            self.dtype, self.fill = form.dtype, self._fill
            # A segment has the axes depth, rows, columns, samples; all other axes of a chunk have length 1.
            before, after = [layout.depths[0]] if depth > 1 else [], [layout.samples[0]] if together > 1 else []
            last = [*before, "y", "x", *after]
            order = tuple(dims.index(d) for d in (*(d for d in dims if d not in last), *last))
        else:
            self.dtype, self.fill = colour.dtype, colour.dtype.type(0)
            order = tuple(range(len(dims)))
        slow = not form.tiled or (not form.is_plain and form.segment_bytes >= _SLOW)
        self.codec = SegmentCodec(self.chunks, self.dtype, None if order == tuple(range(len(dims))) else order, slow)
        form_of_core = None
        if self._convert is None and self._fills is None and self._only is not None:
            tables = self._only.jpeg_tables
            form_of_core = decoder.chunk_format(self.chunks, self.codec.order, self._fill, tables)
        self.chunk_format = None if self.remote else form_of_core
        self.fetched_format = form_of_core if self.remote else None
        # The fill value as text: NaN is not equal to itself.
        self._id = self._table.files[0].file, level, self._convert is not None, repr(fill)

    @property
    def name(self) -> str:
        """What explanations and errors call it."""
        return f"{self._table.files[0].file.path}, level {self._level}"

    @property
    def engine(self) -> str:
        """What decodes it."""
        return f"tiles of {os.path.basename(self._table.files[0].file.path)} ({self.form.compression})"

    @property
    def decoder(self) -> str:
        """What decodes its chunks."""
        found = self.chunk_format or self.fetched_format
        return "compiled core" if core.enabled and found is not None and found.known else "Python"

    @property
    def per_shard(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return self.segments

    @cached_property
    def _places(self) -> tuple[npt.NDArray[np.int64], int]:
        """Offset and bytes of each tile, -1 for those not in the file, as a shard has them; and their address."""
        counts = self._table.counts
        if self.form.is_plain:
            counts = np.minimum(counts, self.form.segment_bytes)
        table = np.stack([self._table.offsets, np.where(counts > 0, counts, -1)], -1).astype(np.int64)
        return table, table.ctypes.data

    def shards_touched(self, selection: Selection) -> int:
        """Return 1."""
        return 1

    def shards_of(self, selection: Sequence[slice]) -> list[_OpenTable]:
        """Return the open file."""
        return [_OpenTable(self._file.opened(), *self._places)]

    def place(self, chunk: tuple[int, ...]) -> tuple[tuple[int, int, int], OpenFile]:
        """Return the open file, offset and length of a tile, and what must live while it is read."""
        opened = self._file.opened()
        offset, count = self._places[0][chunk].tolist()
        return (opened.fd, offset, count), opened

    def locate(self, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], OpenFile]:
        """Do the same for many: positions have the shape (chunk, axis), the result has (chunk, 3)."""
        opened = self._file.opened()
        places = self._places[0][tuple(positions.T)]
        return np.column_stack([np.full(len(places), opened.fd), places]), opened

    def check(self) -> None:
        """Raise `StoreError` if the path leads to another file by now."""
        self._file.check()

    @property
    def _file(self) -> FileId:
        file = self._table.files[0].file
        assert isinstance(file, FileId)
        return file

    @property
    def files(self) -> tuple[TiffFile, ...]:
        """The files that hold its segments."""
        return tuple({shared.file: None for shared in self._table.files})

    @property
    def converts(self) -> bool:
        """True where samples are not channels."""
        return self._convert is not None

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.layout.frames.size

    @property
    def segments(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(self._table.counts.shape)

    @property
    def shards(self) -> tuple[int, ...]:
        """Shape of what lazy arrays read together."""
        near = [max(1, SHARD // n) for n in self.chunks[-2:]]
        return (*self.chunks[:-2], *(c * n for c, n in zip(self.chunks[-2:], near, strict=True)))

    def key(self, chunk: tuple[int, ...]) -> tuple[Any, ...]:
        """What identifies a chunk in caches; it changes when the file does."""
        return self._id, chunk

    def encoded_size(self, chunk: tuple[int, ...]) -> int:
        """Bytes of a segment, 0 if it is not in the file."""
        if self._table.far is None:
            return int(self._table.counts[chunk])
        [ranges] = locate([(self, chunk)])
        return sum(int(r.stop or 0) - int(r.start or 0) for r in ranges)

    def decode(self, chunk: tuple[int, ...], out: Pixels, wanted: tuple[slice, ...] | None = None) -> bool:
        """
        Decode a segment, or at least its wanted rows and columns, into a C-contiguous buffer of `codec.stored_shape`.

        Return False where it is not in the file: nothing was written, its pixels are the fill value.
        """
        if self.remote:
            [(_, encoded)] = fetch([(self, chunk)])
            if encoded is not None:
                self.decode_fetched(chunk, encoded, out, wanted)
                return True
            count = 0
        else:
            count = self._table.counts.item(chunk)
        return self._decode_or_fill(chunk, count, None, out, wanted)

    def where(self, chunk: tuple[int, ...], tables: Tables) -> tuple[Range, ...] | None:
        """Return where a segment of a remote file is: () if it is not in the file, None if a table must be read."""
        table = self._table
        if table.far is None:
            start, count = table.offsets.item(chunk), table.counts.item(chunk)
        else:
            number = table.offsets.item(chunk)
            frame, number = divmod(number, table.offsets.size // len(table.far))
            starts, counts = table.far[frame]
            first, length = self._entry(starts, number, tables), self._entry(counts, number, tables)
            if first is None or length is None:
                return None
            start, count = first, length if first else 0
        if not count:
            return ()
        file = (self._only or self._shared(chunk)).file
        assert isinstance(file, RemoteFile)
        if table.far is not None:
            self._check_place(chunk, start, count, file)
        return (file.range(start, start + count),)

    def _entry(self, table: FarTable, number: int, tables: Tables) -> int | None:
        """Return an entry of a table that is read piece by piece; None if its piece was not read yet."""
        file = self._table.files[0].file
        assert isinstance(file, RemoteFile)
        block, place = divmod(number, _BLOCK)
        size = table.dtype.itemsize
        start = table.start + block * _BLOCK * size
        stop = min(start + _BLOCK * size, table.stop)
        key = file, table.start, block
        found = tables.look(key, partial(file.range, start, stop), partial(_numbers, table.dtype))
        return None if found is None else int(found[place])

    def _check_place(self, chunk: tuple[int, ...], start: int, count: int, file: RemoteFile) -> None:
        if start + count > file.size or (self.form.is_plain and count < self.form.segment_bytes):
            name = segment_name(self.form, chunk[-2], chunk[-1])
            what = f"level {self._level}, {name} has bytes {start} to {start + count} of {file.size}"
            raise DamagedError(f"{file.path}: {what}; the file is truncated or damaged", path=file.path, hint=AGAIN)

    def ranges(self, chunks: Sequence[tuple[int, ...]]) -> Sequence[tuple[Range, ...]]:
        """Return where segments of a remote file are, fetching the tables that tell."""
        return locate([(self, chunk) for chunk in chunks])

    def missing(self, chunk: tuple[int, ...]) -> Any:
        """Return the pixels of a segment that is not in the file: a number, or an array of the shape of a chunk."""
        scratch = self.codec.scratch()
        return self.codec.view(scratch) if self._decode_or_fill(chunk, 0, None, scratch, None) else self.fill

    def decode_fetched(
        self,
        chunk: tuple[int, ...],
        encoded: Sequence[Bytes],
        out: Pixels,
        wanted: tuple[slice, ...] | None = None,
    ) -> None:
        """Decode a segment from its bytes, as `decode` does."""
        self._decode_or_fill(chunk, encoded[0].size, encoded[0], out, wanted)

    def _decode_or_fill(
        self, chunk: tuple[int, ...], count: int, data: Bytes | None, out: Pixels, wanted: tuple[slice, ...] | None
    ) -> bool:
        """Decode a segment of `count` bytes, read from its file if they are not given; as `decode`."""
        if self._convert is None:
            if count:
                self._decode(chunk, count, data, out.reshape(self._segment), wanted)
            elif self._fills is not None:
                out.reshape(self._segment)[...] = self._fill_of(chunk)
            else:
                return False
            return True
        pixels = np.empty(self._segment, self.form.dtype)
        if count:
            self._decode(chunk, count, data, pixels, None)
        else:
            pixels[...] = self._fill_of(chunk)
        at = dict(zip(self.dims, chunk, strict=True))
        t, z = (slice(at.get(d, 0), at.get(d, 0) + 1) for d in "tz")
        # (rows, columns, samples) -> (t, c, z, y, x)
        planes = self._convert(pixels.transpose(2, 0, 1)[None, :, None], self.layout.frames_of(t, z))
        out.reshape(1, -1, 1, *self._segment[:2])[...] = planes
        return True

    def _fill_of(self, chunk: tuple[int, ...]) -> Pixels:
        """Fill values of the samples of a segment."""
        if self._fills is None:
            return np.asarray(self._fill)
        together = self._segment[-1]
        first = chunk[self.dims.index("c")] * together
        return self._fills[first : first + together]

    def _decode(
        self, chunk: tuple[int, ...], count: int, data: Bytes | None, out: Pixels, wanted: tuple[slice, ...] | None
    ) -> None:
        start, form = self._table.offsets.item(chunk), self.form
        if self._last_rows != form.segment[1] and chunk[-2] == self.segments[-2] - 1:
            out = out[..., : self._last_rows, :, :]
        if wanted is None:
            top, bottom, left, right = 0, out.shape[-3], 0, out.shape[-2]
        else:
            y, x = wanted[-2:]
            top, bottom, left, right = y.start, y.stop, x.start, x.stop
        shared = self._only or self._shared(chunk)
        try:
            if form.stored is not None and data is not None:
                flat = out.reshape(-1).view(np.uint8)
                flat[...] = data[: flat.size]
                if not form.stored.isnative:
                    out.byteswap(inplace=True)
                return None
            if form.stored is not None:
                assert isinstance(shared.file, FileId)
                if out.ndim == 3:
                    start, out = start + top * out[0].nbytes, out[top:bottom]
                    if out[0].nbytes >= _LONG_ROW and (right - left) * 4 < form.segment[2]:
                        return self._read_columns(shared.file, start, out, left, right)
                shared.file.read_into(start, out.reshape(-1).view(np.uint8))
                if not form.stored.isnative:
                    out.byteswap(inplace=True)
                return None
            if data is None:
                assert isinstance(shared.file, FileId)
                data = shared.file.read(start, count)
            if not self._decoder.directly(data, out, bottom, right):
                number, inside = self._place(chunk)
                self._decoder.by_tifffile(data, number, shared.jpeg_tables, inside, out)
        except (SegmentError, DamagedError) as error:
            raise DamagedError(
                f"{shared.file.path}: level {self._level}, {segment_name(form, chunk[-2], chunk[-1])} (chunk {chunk}, "
                f"bytes {start} to {start + count}): {error}; the file is damaged or uses a compression that is not "
                f"supported",
                path=shared.file.path,
                hint="Fetch the file again, or convert it",
            ) from error

    def _read_columns(self, file: FileId, start: int, out: Pixels, left: int, right: int) -> None:
        """Read the columns wanted of plain rows; `start` is the first byte of the first row."""
        assert self.form.stored is not None
        for k, row in enumerate(out):
            part = row[left:right]
            file.read_into(start + k * row.nbytes + left * self.form.pixel_bytes, part.reshape(-1).view(np.uint8))
            if not self.form.stored.isnative:
                part.byteswap(inplace=True)

    def _shared(self, chunk: tuple[int, ...]) -> FrameFile:
        which = self._table.which
        return self._table.files[0 if which is None else which.item(chunk)]

    def _place(self, chunk: tuple[int, ...]) -> tuple[int, tuple[int, int, int]]:
        """Number of a segment in its frame, as tifffile counts, and how many of its planes, rows, columns it fills."""
        apart, planes, rows, columns = self.form.grid
        at = dict(zip(self.dims, chunk, strict=True))
        sample, plane = at.get(self.layout.samples[0], 0) % apart, at.get(self.layout.depths[0], 0) % planes
        place = plane, chunk[-2], chunk[-1]
        depth, height, width = (
            min(step, length - i * step)
            for step, length, i in zip(self.form.segment, self.form.shape[1:4], place, strict=True)
        )
        return ((sample * planes + plane) * rows + chunk[-2]) * columns + chunk[-1], (depth, height, width)


@dataclass(frozen=True, slots=True)
class _OpenTable:
    """The open file, and the table of its tiles."""

    file: OpenFile
    table: npt.NDArray[np.int64]
    address: int

    @property
    def source(self) -> tuple[int, int]:
        """As `Shard.source`."""
        return self.file.fd, self.address


def _numbers(dtype: np.dtype[Any], landed: Landed) -> Pixels:
    return np.frombuffer(landed.data, dtype)


def _arranged(flat: Pixels, layout: Layout, dims: tuple[str, ...]) -> Pixels:
    """(frame, apart, depth, row, column) to the grid of chunks: inner positions follow the outer one of their axis."""
    _, apart, planes, rows, columns = flat.shape
    found = flat[layout.frames]  # t, c, z, apart, depth, row, column
    inner = {layout.samples[0]: (3, apart), layout.depths[0]: (4, planes)}
    order: list[int] = []
    shape: list[int] = []
    for axis, name in enumerate("tcz"):
        order.append(axis)
        shape.append(found.shape[axis])
        if name in inner:
            order.append(inner[name][0])
            shape[-1] *= inner[name][1]
    arranged = found.transpose(*order, 5, 6).reshape(*shape, rows, columns)
    return np.ascontiguousarray(arranged[tuple(slice(None) if d in dims else 0 for d in "tczyx")])
