"""
The header and the tiles of a cloud optimized GeoTIFF.

1. The header comes first, with zeros for the offsets and sizes of tiles.
2. Images come smallest first, their tiles in rows from the top. A task is some neighbouring tiles of a row: it reads
   their pixels and encodes each. Few tasks are under way at a time, so that memory holds few tiles.
3. Tiles are appended in order. GDAL's structural metadata promise that the four bytes before each tile hold its size,
   that its last four bytes are repeated after it, and that the tile of a mask follows that of its image.
4. Offsets and sizes are written into the header.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import tifffile

from ndzarr._concurrency import ordered_map
from ndzarr._export.cog_pixels import CODES, CogContent, TileFormat
from ndzarr._files import flush_soon
from ndzarr.errors import OptionError

_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _COUNTS = 254, 258, 259, 262, 324, 325
_REDUCED, _MASK = 1, 4
"""Bits of the subfile type."""
_NODATA, _METADATA = 42113, 42112
_ASCII = 2
_TRANSPARENCY = 4
"""Photometric interpretation of masks."""
_TYPES = {3: "<u2", 4: "<u4", 16: "<u8"}
"""Types of TIFF as numpy's."""


@dataclass(frozen=True, slots=True)
class Image:
    """One directory to write: an image, or a mask, which has no `form`."""

    shape: tuple[int, int]
    """(height, width)."""
    form: TileFormat | None
    reduced: bool
    """True for an overview."""
    photometric: str = "minisblack"
    extras: tuple[int, ...] = ()
    """As `CogContent.extras`."""
    tags: tuple[tuple[Any, ...], ...] = ()
    """Further tags as tifffile takes them."""
    colour_map: np.ndarray[Any, Any] | None = None
    """As `CogContent.colour_map`."""


@dataclass(frozen=True, slots=True)
class Table:
    """The offsets and sizes of the tiles of an image, in the types of the file, and their positions in the header."""

    offsets_at: int
    sizes_at: int
    offsets: np.ndarray[Any, Any]
    sizes: np.ndarray[Any, Any]


def structure(masked: bool) -> bytes:
    """Return GDAL's structural metadata."""
    text = (
        "LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
        # Whoever edits the file later writes YES and a line break over the last four characters.
        "BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
    )
    if masked:
        text += "MASK_INTERLEAVED_WITH_IMAGERY=YES\n"
    return f"GDAL_STRUCTURAL_METADATA_SIZE={len(text):06d} bytes\n{text}".encode()


def header(images: Sequence[Image], blocksize: int, bigtiff: bool) -> tuple[bytes, list[Table]]:
    """Return everything that precedes the tiles, with a table per image; tiles are squares of `blocksize`."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=bigtiff, byteorder="<") as writer:
        buffer.seek(0, io.SEEK_END)
        buffer.write(structure(any(image.form is None for image in images)))
        for image in images:
            _write(writer, image, blocksize)
    buffer.seek(0)
    with tifffile.TiffFile(buffer) as tif:
        pages: list[Any] = list(tif.pages)
        tables = [_table(page) for page in pages]
        settled = [_settled(page, image) for page, image in zip(pages, images, strict=True)]
        end = max(map(_end, pages))
    data = bytearray(buffer.getvalue()[:end].ljust(end + 16 - end % 16, b"\0"))
    for place, value in chain.from_iterable(settled):
        data[place : place + 2] = value.to_bytes(2, "little")
    return bytes(data), tables


def _settled(page: tifffile.TiffPage, image: Image) -> list[tuple[int, int]]:
    """Return (position, value) of tags whose value tifffile does not write: of a mask it omits BitsPerSample."""
    if image.form is None:
        wanted = {_SUBFILE: _MASK | _REDUCED * image.reduced, _BITS: 1, _PHOTOMETRIC: _TRANSPARENCY}
    else:
        wanted = {_COMPRESSION: CODES[image.form.compression]}
    return [(page.tags[tag].valueoffset, value) for tag, value in wanted.items()]


def _end(page: tifffile.TiffPage) -> int:
    """Return the position behind the last byte of a directory and of the values of its tags."""
    entries = (8 + 20 * len(page.tags) + 8) if page.parent.is_bigtiff else (2 + 12 * len(page.tags) + 4)
    return max(page.offset + entries, *(t.valueoffset + t.valuebytecount for t in page.tags))


def _write(writer: tifffile.TiffWriter, image: Image, blocksize: int) -> None:
    height, width = image.shape
    common: dict[str, Any] = {
        "data": iter([b""] * (-(-width // blocksize) * -(-height // blocksize))),
        "tile": (blocksize, blocksize),
        "metadata": None,
        "software": False,
        "extratags": image.tags,
        "subfiletype": _REDUCED * (image.reduced or image.form is None),  # a mask is settled afterwards
    }
    form = image.form
    if form is None:
        writer.write(shape=image.shape, dtype=np.uint8, compression=8, photometric="minisblack", **common)
        return
    writer.write(
        shape=image.shape if form.samples == 1 else (*image.shape, form.samples),
        dtype=form.dtype,
        # tifffile writes no empty tiles of 'none': its tag is set afterwards, as that of deflate is of the same size.
        compression=8 if form.compression == "none" else CODES[form.compression],
        predictor=None if form.predictor == 1 else form.predictor,
        photometric=image.photometric,
        planarconfig="contig" if form.samples > 1 else None,
        extrasamples=image.extras or None,
        colormap=image.colour_map,
        jpegtables=form.jpeg_tables,
        **common,
    )


def _table(page: tifffile.TiffPage) -> Table:
    offsets, sizes = page.tags[_OFFSETS], page.tags[_COUNTS]
    empty = [np.zeros(tag.count, _TYPES[int(tag.dtype)]) for tag in (offsets, sizes)]
    return Table(offsets.valueoffset, sizes.valueoffset, *empty)


def nodata_tag(value: float, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Return GDAL's tag for the value of missing data."""
    text = str(int(value)) if dtype.kind in "iub" else "nan" if np.isnan(value) else repr(float(value))
    return (_NODATA, _ASCII, 0, text, True)


def names_tag(names: Sequence[str]) -> tuple[Any, ...]:
    """Return GDAL's tag with a description of every band."""
    from xml.sax.saxutils import escape

    # Escaped twice, since GDAL does so, and undoes it twice.
    items = "".join(
        f'  <Item name="DESCRIPTION" sample="{i}" role="description">{escape(escape(name))}</Item>\n'
        for i, name in enumerate(names)
    )
    return (_METADATA, _ASCII, 0, f"<GDALMetadata>\n{items}</GDALMetadata>\n".encode(), True)


TASK_BYTES = 4 << 20
"""Bytes of the pixels of a task, which has at least one tile."""
LARGEST = 2**32 - 1
"""Last position that a TIFF can name; BigTIFF goes beyond."""
MASK_FORM = TileFormat("deflate", np.dtype(np.uint8), 1, level=6)
"""Tiles of masks, 8 pixels a byte."""

Encoded: TypeAlias = list[tuple[bytes, bytes | None]]
"""(tile, tile of the mask) in order."""


@dataclass(frozen=True, slots=True)
class Task:
    """Neighbouring tiles of a row."""

    level: int
    row: int
    columns: range


@dataclass(frozen=True, slots=True)
class Writing:
    """Everything that is settled before a file is written."""

    content: CogContent
    form: TileFormat
    blocksize: int
    largest: int = LARGEST
    """Last position in the file that may be written, unless it is a BigTIFF."""

    def tasks(self) -> Iterator[Task]:
        """Yield all tiles in the order of the file."""
        pixels = self.blocksize**2 * self.form.samples * self.form.dtype.itemsize
        step = max(1, TASK_BYTES // pixels)
        for level in reversed(range(len(self.content.sizes))):
            rows, columns = self.grid(level)
            for row, first in product(range(rows), range(0, columns, step)):
                yield Task(level, row, range(first, min(first + step, columns)))

    def grid(self, level: int) -> tuple[int, int]:
        """Return (rows, columns) of tiles of a level."""
        height, width = self.content.size(level)
        return -(-height // self.blocksize), -(-width // self.blocksize)

    @property
    def tiles(self) -> int:
        """Number of tiles of all levels, without those of masks."""
        return sum(rows * columns for rows, columns in map(self.grid, range(len(self.content.sizes))))

    def encode(self, task: Task) -> tuple[Task, Encoded]:
        """Read and encode the tiles of a task."""
        side = self.blocksize
        height, width = self.content.size(task.level)
        y = slice(task.row * side, min((task.row + 1) * side, height))
        x = slice(task.columns.start * side, min(task.columns.stop * side, width))
        pixels, valid = self.content.read(task.level, y, x)
        out: Encoded = []
        for start in range(0, len(task.columns) * side, side):
            across = slice(start, start + side)
            tile = _whole(pixels[:, across], side)
            out.append((self.form.encode(tile), None if valid is None else _mask(valid[:, across], side)))
        return task, out


def _whole(part: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    """Return a whole tile, contiguous; beyond the image its border is repeated, which costs the fewest bytes."""
    missing = side - part.shape[0], side - part.shape[1]
    if any(missing):
        return np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    return np.ascontiguousarray(part)


def _mask(part: np.ndarray[Any, Any], side: int) -> bytes:
    whole = np.zeros((side, side), bool)
    whole[: part.shape[0], : part.shape[1]] = part
    return MASK_FORM.encode(np.packbits(whole, axis=1)[..., None])


_FLUSHED_BYTES = 32 << 20
"""Bytes after which the system is told to begin writing them to the disk."""


def write_tiff(
    file: BinaryIO,
    head: tuple[bytes, list[Table]],
    writing: Writing,
    workers: int,
    advance: Callable[[int], object],
) -> None:
    """Write header and tiles; `advance` is called with the number of tiles that were written."""
    masked = writing.content.masking is not None
    data, tables = head
    position = flushed = file.write(data)
    for task, encoded in ordered_map(writing.encode, writing.tasks(), workers, name="cog"):
        images = tables[task.level * (1 + masked) :]
        columns = writing.grid(task.level)[1]
        for column, (tile, mask) in zip(task.columns, encoded, strict=True):
            index = task.row * columns + column
            position = _append(file, images[0], index, tile, position, writing.largest)
            if mask is not None:
                position = _append(file, images[1], index, mask, position, writing.largest)
        if position - flushed > _FLUSHED_BYTES:
            flush_soon(file.fileno())
            flushed = position
        advance(len(encoded))
    for table in tables:
        for place, values in ((table.offsets_at, table.offsets), (table.sizes_at, table.sizes)):
            file.seek(place)
            file.write(values.tobytes())


def _append(file: BinaryIO, table: Table, index: int, tile: bytes, position: int, largest: int) -> int:
    if table.offsets.itemsize == 4 and position + len(tile) + 8 > largest:
        raise OptionError(
            f"{file.name}: gets larger than the 4 GiB of a TIFF", key="bigtiff", hint="Use bigtiff=True or 'auto'"
        )
    file.write(len(tile).to_bytes(4, "little") + tile + tile[-4:].ljust(4, b"\0"))
    table.offsets[index] = position + 4
    table.sizes[index] = len(tile)
    return position + len(tile) + 8
