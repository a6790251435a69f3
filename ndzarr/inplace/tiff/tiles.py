"""How is a level of a TIFF an array whose chunks are tiles?

A chunk is a tile with all samples that are stored together in it.  It is decoded into a buffer with the tile's own
order of axes (y, x, c), from which a plan copies what it wants; where colours have to be converted, into (c, y, x).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from ndzarr.errors import DamagedError
from ndzarr.inplace.bytefile import FileId
from ndzarr.inplace.tiff.decode import Decoder, Part, TileError
from ndzarr.inplace.tiff.table import TileTable
from ndzarr.sources.base import Pixels
from ndzarr.sources.tiff.colour import Conversion

SHARD = 2048
"""Pixels along y and x of tiles that lazy arrays read together."""
_SLOW = 32 << 10
"""Decoded bytes of a tile from which on decompressing it takes longer than waking a thread."""
_THREADED_PLAIN = 4 << 20
"""The same for tiles that are only read."""


@dataclass(frozen=True, slots=True)
class TileCodec:
    """How a tile is laid out once it is decoded."""

    shape: tuple[int, ...]
    """Of a chunk, along the axes of the array."""
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
        """Of the buffer."""
        return self.shape if self.order is None else tuple(self.shape[i] for i in self.order)

    def scratch(self) -> Pixels:
        """A buffer that a tile can be decoded into."""
        return np.empty(self.stored_shape, self.dtype)

    def view(self, scratch: Pixels) -> Pixels:
        """The buffer with the axes of the array."""
        return scratch if self.order is None else scratch.transpose(np.argsort(self.order))


class TileLevel:
    """One level of a TIFF, decoded tile by tile."""

    __slots__ = (
        "_converts",
        "_file",
        "_fill",
        "_id",
        "_lead",
        "_level",
        "_table",
        "_tile",
        "chunks",
        "codec",
        "decoder",
        "dtype",
        "fill",
        "shape",
    )

    chunked: Literal[True] = True

    def __init__(
        self,
        file: FileId,
        level: int,
        dims: tuple[str, ...],
        shape: tuple[int, ...],
        decoder: Decoder,
        table: TileTable,
        colour: Conversion,
        fill: float,
    ) -> None:
        """
        Put a level together.

        Parameters
        ----------
        level
            What errors call it.
        dims, shape
            Axes of the array, after colours are converted.
        fill
            Stored value of pixels that are not in the file.
        """
        form = decoder.form
        samples, (_, height, width) = form.shape[4], form.segment
        lengths = {"y": height, "x": width, "c": samples}
        if colour.convert is not None and colour.whole:
            lengths["c"] = len(colour.channels)
        self._file, self._level, self.decoder = file, level, decoder
        self._lead = tuple(slice(None) if d in dims else 0 for d in "tczyx")
        self._table = _squeezed(table, self._lead)
        self._tile = height, width, samples
        self._converts = colour.convert
        self._fill = form.dtype.type(fill)
        # The fill value as text: NaN is not equal to itself.
        self._id = file, level, colour.convert is not None, repr(self._fill)
        self.shape, self.dtype = shape, colour.dtype
        self.chunks = tuple(lengths.get(d, 1) for d in dims)
        self.fill = self._fill if colour.convert is None else self.dtype.type(0)
        together = colour.convert is None and samples > 1
        order = (*(i for i, d in enumerate(dims) if d != "c"), dims.index("c")) if together else None
        self.codec = TileCodec(self.chunks, self.dtype, order, not decoder.plain and self.tile_bytes >= _SLOW)

    @property
    def name(self) -> str:
        """What explanations and errors call it."""
        return f"{self._file.path}, level {self._level}"

    @property
    def engine(self) -> str:
        """What decodes it."""
        return f"tiles of {os.path.basename(self._file.path)} ({self.decoder.name})"

    @property
    def converts(self) -> bool:
        """True where samples are not channels."""
        return self._converts is not None

    @property
    def shards(self) -> tuple[int, ...]:
        """Shape of what lazy arrays read together."""
        near = [max(1, SHARD // n) for n in self.chunks[-2:]]
        return (*self.chunks[:-2], *(c * n for c, n in zip(self.chunks[-2:], near, strict=True)))

    def key(self, chunk: tuple[int, ...]) -> tuple[Any, ...]:
        """What identifies a tile in caches; it changes when the file does."""
        return self._id, chunk

    def encoded_size(self, chunk: tuple[int, ...]) -> int:
        """Bytes of a tile, 0 if it is not in the file."""
        return int(self._table.counts[chunk])

    def decode(self, chunk: tuple[int, ...], out: Pixels, wanted: tuple[slice, ...] | None = None) -> bool:
        """
        Decode a tile, or at least the rows of it that are wanted.

        Returns
        -------
        False where it is not in the file: nothing was written, its pixels are the fill value.

        Raises
        ------
        DamagedError
            Its bytes are not those of a tile.
        StoreError
            The file was changed since it was opened.
        """
        count = self._table.counts.item(chunk)
        if self._converts is None:
            if not count:
                return False
            self._decode(chunk, count, out.reshape(self._tile), _part(wanted))
            return True
        tile = np.empty(self._tile, self.decoder.form.dtype)
        if count:
            self._decode(chunk, count, tile, None)
        else:
            tile[...] = self._fill
        out.reshape(1, -1, 1, *self._tile[:2])[...] = self._converts(tile.transpose(2, 0, 1)[None, :, None])
        return True

    def _decode(self, chunk: tuple[int, ...], count: int, tile: Pixels, part: Part | None) -> None:
        start, decoder = self._table.offsets.item(chunk), self.decoder
        try:
            if decoder.plain:
                if part is not None:
                    start, tile = start + part[0].start * tile[0].nbytes, tile[part[0]]
                self._file.read_into(start, tile.reshape(-1).view(np.uint8))
                if decoder.form.swapped:
                    tile.byteswap(inplace=True)
                return
            data = self._file.read(start, count)
            if decoder.directly(data, tile, part):
                return
            decoder.by_tifffile(data, self._number(chunk), self._tables(chunk), self._inside(chunk), tile)
        except (TileError, DamagedError) as error:
            height, width, _ = self._tile
            raise DamagedError(
                f"{self._file.path}: level {self._level}, the tile at row {chunk[-2] * height}, column "
                f"{chunk[-1] * width} (chunk {chunk}, bytes {start} to {start + count}): {error}; the file is damaged, "
                f"fetch or write it again"
            ) from error

    def _number(self, chunk: tuple[int, ...]) -> int:
        """Of a tile in its frame, as tifffile counts."""
        apart, _, rows, columns = self.decoder.form.grid
        sample = chunk[-3 if self._lead[2] == 0 else -4] % apart if apart > 1 else 0
        return (sample * rows + chunk[-2]) * columns + chunk[-1]

    def _tables(self, chunk: tuple[int, ...]) -> bytes | None:
        which = self._table.which
        return self._table.tables[0 if which is None else which.item(chunk)]

    def _inside(self, chunk: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns of a tile that lie in the image."""
        height, width, _ = self._tile
        return (
            min(height, self.shape[-2] - chunk[-2] * height),
            min(width, self.shape[-1] - chunk[-1] * width),
        )

    @property
    def tile_bytes(self) -> int:
        """Of a decoded tile, as stored."""
        return prod(self._tile) * self.decoder.form.dtype.itemsize

    @property
    def frames(self) -> int:
        """Number of directories that it lies in."""
        return prod(self.tiles[:-2]) // self.decoder.form.grid[0]

    @property
    def tiles(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(self._table.counts.shape)


def _squeezed(table: TileTable, lead: tuple[slice | int, ...]) -> TileTable:
    """Without the axes that the array does not have."""
    which = None if table.which is None else table.which[lead]
    return TileTable(table.offsets[lead], table.counts[lead], table.tables, which)


def _part(wanted: tuple[slice, ...] | None) -> Part | None:
    """Of a tile, the rows that hold what is wanted, and the columns from the first to the last of it; None for all."""
    if wanted is None:
        return None
    y, x = wanted[-2:]
    return slice(y.start, y.stop), slice(0, x.stop)
