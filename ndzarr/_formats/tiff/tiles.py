"""How is a level of a TIFF an array whose chunks are tiles?

A chunk is a tile with all samples that are stored together in it.  It is decoded into a buffer with the tile's own
order of axes (y, x, c), from which a plan copies what it wants; where colours have to be converted, into (c, y, x).
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias

import imagecodecs
import numpy as np

from ndzarr._files import FileId, buffer
from ndzarr._formats.base import Pixels, reason
from ndzarr._formats.tiff.colour import Conversion
from ndzarr._formats.tiff.metadata import listening, refuse_missing
from ndzarr._formats.tiff.series import Layout
from ndzarr._formats.tiff.strips import FrameFormat
from ndzarr.errors import DamagedError, StoreError

# --- How do the bytes of a tile become pixels?


def _lzw(data: Pixels, out: Pixels) -> Pixels:
    """
    Decompress LZW by libtiff, which takes 0.6 of the time of imagecodecs' own decoder.

    libtiff reads files; so the bytes get the header of one, of a single row of pixels of 8 bits.
    """
    tags = ((256, out.size), (257, 1), (258, 8), (259, 5), (262, 1), (273, _LZW_START), (277, 1), (278, 1))
    head = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in (*tags, (279, data.size)))
    file = buffer("lzw", _LZW_START + data.size)
    file[:_LZW_START] = np.frombuffer(struct.pack("<2sHIH", b"II", 42, 8, len(tags) + 1) + head + bytes(4), np.uint8)
    file[_LZW_START:] = data
    imagecodecs.tiff_decode(file, out=out.reshape(1, -1))  # type: ignore[arg-type]
    return out


def _zstd_beginning(data: Pixels, out: Pixels) -> Pixels:
    """Decompress as much of a Zstandard frame as fits the output."""
    decompressor = getattr(_LOCAL, "decompressor", None)
    if decompressor is None:
        import zstandard

        decompressor = _LOCAL.decompressor = zstandard.ZstdDecompressor()
    found: int = decompressor.stream_reader(data.data).readinto(out.data)
    return out[:found]


_LOCAL = threading.local()
"""A decompressor per thread, as they must not be shared."""
_LZW_START = 8 + 2 + 9 * 12 + 4
"""Bytes of such a header."""
_DECOMPRESS: Mapping[int, Callable[..., Any]] = {
    8: imagecodecs.deflate_decode,
    32946: imagecodecs.deflate_decode,
    5: _lzw,
    32773: imagecodecs.packbits_decode,
    34926: imagecodecs.zstd_decode,
    50000: imagecodecs.zstd_decode,
}
"""Compressions (tag 259) that give bytes, and take `out`."""
_BEGINNING: Mapping[int, Callable[..., Any]] = {5: _lzw, 34926: _zstd_beginning, 50000: _zstd_beginning}
"""Those of which the beginning can be decompressed alone; deflate's checksum needs all of it."""
_NONE, _HORIZONTAL, _FLOATING_POINT = 1, 2, 3
"""Predictors (tag 317)."""
_BITS = (8, 16, 32, 64)


Part: TypeAlias = tuple[slice, slice]
"""Rows and columns of a tile."""


class TileError(Exception):
    """A tile cannot be decoded; whoever asked for it knows its name."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """Decodes the tiles of one level."""

    form: FrameFormat
    """What all frames have in common."""
    name: str
    """Of the compression."""
    decompress: Callable[..., Any] | None
    """Of a compression that gives bytes which are pixels, up to the predictor; None if tifffile decodes."""
    beginning: Callable[..., Any] | None
    """The same for the first rows of a tile alone, where that takes less time."""
    predictor: int
    """Tag 317, if `decompress` is there."""

    @property
    def plain(self) -> bool:
        """True if pixels are stored as they are."""
        return self.form.is_plain

    def directly(self, data: Pixels, out: Pixels, part: Part | None = None) -> bool:
        """
        Decompress a tile into the output.

        Parameters
        ----------
        data
            Its bytes.
        out
            Axes y, x, samples; C-contiguous.
        part
            Rows and columns that are wanted, columns from the first on.  Others may be left as they are; None for all.

        Returns
        -------
        False if the compression is not one of those that are done here, or something about the tile is odd, which
        tifffile may know how to handle.
        """
        if self.decompress is None:
            return False
        flat = out.reshape(-1).view(np.uint8)
        target = buffer("tile", flat.size) if self.predictor == _FLOATING_POINT else flat
        decompress = self.decompress
        if part is not None and self.beginning is not None and part[0].stop < len(out):
            target = target[: part[0].stop * out[0].nbytes]
            decompress = self.beginning
        try:
            if decompress(data, out=target).size != target.size:
                return False
        except Exception:  # each codec has errors of its own
            return False
        if self.predictor == _HORIZONTAL:
            whole = out.view(f"u{out.itemsize}")
            wanted = whole if part is None else whole[part]
            imagecodecs.delta_decode(wanted, axis=-2, out=wanted)
        elif self.predictor == _FLOATING_POINT:
            rows = out[: target.size // out[0].nbytes]
            imagecodecs.floatpred_decode(target.view(out.dtype).reshape(rows.shape), axis=-2, out=rows)
        return True

    def by_tifffile(
        self, data: Pixels, number: int, tables: bytes | None, inside: tuple[int, int], out: Pixels
    ) -> None:
        """
        Let tifffile decode a tile.

        Parameters
        ----------
        data
            Its bytes.
        number
            Of the tile in its frame.
        tables
            What goes before each JPEG.
        inside
            Rows and columns of the tile that lie in the image; what is beyond may be left as it is.
        out
            Axes y, x, samples.

        Raises
        ------
        TileError
            The bytes are not a tile of this size and type.
        """
        extra = {"jpegtables": tables, "jpegheader": self.form.jpegheader} if self.form.jpeg else {}
        try:
            pixels = self.form.decode(data.tobytes(), number, **extra)[0]
        except Exception as error:  # each codec has errors of its own
            raise TileError(f"does not decode ({reason(error)})") from error
        if pixels is None:
            raise TileError("decodes to nothing")
        # Fax decoders return bits as bytes.
        castable = out.dtype == bool or np.can_cast(pixels.dtype, out.dtype)
        rows, columns = (min(n, have) for n, have in zip(out.shape, pixels.shape[1:3], strict=False))
        if rows < inside[0] or columns < inside[1] or pixels.shape[3:] != out.shape[2:] or not castable:
            raise TileError(f"decodes to {pixels.dtype} pixels of shape {pixels.shape[1:]} instead of {out.shape}")
        out[:rows, :columns] = pixels[0, :rows, :columns]


def decoder(page: Any, form: FrameFormat) -> Decoder:
    """
    How tiles of frames like this page are decoded.

    Parameters
    ----------
    page
        tifffile's.
    """
    name = getattr(page.compression, "name", str(page.compression)).lower()
    decompress = _DECOMPRESS.get(int(page.compression))
    predictor = int(page.predictor)
    kinds = {_NONE: "iufc", _HORIZONTAL: "iu", _FLOATING_POINT: "f"}.get(predictor, "")
    usual = (
        page.fillorder == 1
        and page.bitspersample in _BITS
        and page.bitspersample == 8 * form.dtype.itemsize
        and form.dtype.kind in kinds
        and (form.dtype.itemsize == 1 or _is_native(page))
        and not page.is_subsampled
        and _is_one_format(page)
    )
    beginning = _BEGINNING.get(int(page.compression)) if usual else None
    return Decoder(form, name, decompress if usual else None, beginning, predictor)


def _is_native(page: Any) -> bool:
    return np.dtype(f"{page.parent.byteorder}u2").isnative


def _is_one_format(page: Any) -> bool:
    """True unless samples are of several formats, which tifffile refuses."""
    tag = page.tags.get(339)
    return tag is None or tag.count == 1 or len(set(tag.value)) == 1


# --- Where are the tiles of a level in the file?


_TABLE_BYTES = 4
"""Least bytes that a tile takes in the tables of a file: its offset; its size may be of 2 bytes, or of none."""


@dataclass(frozen=True, slots=True, eq=False)
class TileTable:
    """Where tiles are; arrays have the shape of the grid of chunks, axes t, c, z, y, x."""

    offsets: Pixels
    """First byte."""
    counts: Pixels
    """Number of bytes; 0 where nothing is stored."""
    tables: tuple[bytes | None, ...]
    """What goes before each JPEG segment: the different ones."""
    which: Pixels | None
    """Which of them a tile needs; None if there is but one."""


def read_table(path: str, size: int, level: int, series: Any, form: FrameFormat, layout: Layout) -> TileTable:
    """
    Find the tiles of a level.

    Parameters
    ----------
    size
        Bytes of the file.
    level
        What errors call it.
    series
        tifffile's, of the level.

    Raises
    ------
    DamagedError
        There are fewer tiles than there should be, or they lie beyond the end of the file.
    StoreError
        Some are in another file.
    """
    number, frames = prod(form.grid), int(layout.frames.size)
    if frames * number * _TABLE_BYTES > size:
        raise DamagedError(
            f"{path}: level {level} has {frames * number} tiles by its header, more than a file of {size} bytes can "
            f"list; it is truncated or damaged, fetch or write it again"
        )
    offsets, counts = np.zeros((2, frames, number), np.int64)
    tables: dict[bytes | None, int] = {}
    which = np.zeros(frames, np.int32)
    for frame in range(frames):
        page = _page(path, level, series, frame)
        if page is None:
            continue
        for into, found, what in ((offsets, page.dataoffsets, "offsets"), (counts, page.databytecounts, "sizes")):
            if len(found) < number:
                raise _damaged(path, level, frame, f"has {len(found)} {what} for {number} tiles")
            try:
                into[frame] = found[:number]
            except OverflowError as error:
                raise _damaged(path, level, frame, f"has impossible {what} of tiles") from error
        which[frame] = tables.setdefault(page.jpegtables if form.jpeg else None, len(tables))
    counts[offsets == 0] = 0
    _check(path, size, level, form, offsets, counts)
    return TileTable(
        offsets=_arranged(offsets, form, layout),
        counts=_arranged(counts, form, layout),
        tables=tuple(tables) or (None,),
        which=_arranged(np.repeat(which[:, None], number, axis=1), form, layout) if len(tables) > 1 else None,
    )


def _page(path: str, level: int, series: Any, frame: int) -> Any:
    """A page of tifffile; None if it is missing, which OME-TIFF allows."""
    with listening() as messages:
        try:
            page = series[frame]
        except Exception as error:  # whatever tifffile makes of a damaged directory
            raise _damaged(path, level, frame, f"cannot be found ({reason(error)})") from error
    refuse_missing(path, messages)
    if page is not None and page.parent is not series.keyframe.parent:
        raise StoreError(
            f"{path}: its frames are in several files, of which one is {page.parent.filehandle.name}; "
            f"ndzarr.transcode makes one store of them"
        )
    return page


def _check(path: str, size: int, level: int, form: FrameFormat, offsets: Pixels, counts: Pixels) -> None:
    """Raise an error if a tile is not in the file, or, being plain, too small."""
    stored = counts > 0
    least = int(form.needed().flat[0]) if form.is_plain else 1
    bad = (counts < 0) | (offsets < 0) | stored & ((offsets + counts > size) | (counts < least))
    if bad.any():
        frame, number = (int(i) for i in np.argwhere(bad)[0])
        *_, row, column = np.unravel_index(number, form.grid)
        start, count = int(offsets[frame, number]), int(counts[frame, number])
        end = start + count
        found = f"ends at byte {end} of {size}" if end > size else f"has {count} bytes, too few for its pixels"
        where = f"frame {frame}, " if len(offsets) > 1 else ""
        raise DamagedError(
            f"{path}: level {level}, {where}the tile at row {row * form.segment[1]}, column {column * form.segment[2]} "
            f"{found}; the file is truncated or damaged, fetch or write it again"
        )


def _arranged(flat: Pixels, form: FrameFormat, layout: Layout) -> Pixels:
    """(frame, tile) to axes t, c, z, y, x; samples stored apart come after the outer position along c."""
    apart, _, rows, columns = form.grid
    found = flat.reshape(-1, apart, rows, columns)[layout.frames]  # t, c, z, apart, y, x
    t, c, z = layout.frames.shape
    return np.ascontiguousarray(found.transpose(0, 1, 3, 2, 4, 5).reshape(t, c * apart, z, rows, columns))


def _damaged(path: str, level: int, frame: int, found: str) -> DamagedError:
    return DamagedError(
        f"{path}: level {level}, frame {frame} {found}; the TIFF is truncated or damaged, fetch or write it again"
    )


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
