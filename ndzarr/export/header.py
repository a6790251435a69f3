"""What stands at the beginning of a cloud optimized GeoTIFF?

1. The TIFF header, then GDAL's structural metadata, which promise how tiles lie
   (https://gdal.org/drivers/raster/cog.html#header-ghost-area).
2. One directory per image, native first, each followed by that of its mask; tags and their values.
3. Tiles, smallest image first.

Directories come before any tile is known, so they are made, in memory, with places for offsets and sizes that are
filled in at the end.  tifffile writes the tags.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile

from ndzarr.export.tiles import CODES, TileFormat

_COMPRESSION, _OFFSETS, _COUNTS = 259, 324, 325
_REDUCED, _MASK = 1, 4
"""Bits of the subfile type."""
_NODATA, _METADATA = 42113, 42112
_ASCII = 2


@dataclass(frozen=True, slots=True)
class Image:
    """One directory to write."""

    shape: tuple[int, int]
    """(height, width)."""
    form: TileFormat | None
    """How its tiles are stored; None for a mask."""
    reduced: bool
    """True for an overview."""
    photometric: str = "minisblack"
    """'rgb' or 'minisblack'."""
    extras: tuple[int, ...] = ()
    """Meaning of the samples beyond colour (tag 338): 0 unknown, 1 associated, 2 unassociated alpha."""
    tags: tuple[tuple[Any, ...], ...] = ()
    """Further tags as tifffile takes them."""


@dataclass(frozen=True, slots=True)
class Table:
    """Where offsets and sizes of the tiles of an image stand in the file."""

    offsets_at: int
    """Position of the first offset."""
    sizes_at: int
    """Position of the first size."""
    offsets: np.ndarray[Any, Any]
    """To fill in, of the type that the file has."""
    sizes: np.ndarray[Any, Any]
    """To fill in."""


@dataclass(frozen=True, slots=True)
class Header:
    """All that precedes the tiles."""

    data: bytes
    tables: tuple[Table, ...]
    """One per image, in order."""


def structure(masked: bool) -> bytes:
    """GDAL's structural metadata."""
    text = (
        "LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
        # Whoever edits the file later writes YES and a line break over the last four characters.
        "BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
    )
    if masked:
        text += "MASK_INTERLEAVED_WITH_IMAGERY=YES\n"
    return f"GDAL_STRUCTURAL_METADATA_SIZE={len(text):06d} bytes\n{text}".encode()


def header(images: Sequence[Image], blocksize: int, bigtiff: bool) -> Header:
    """
    The header of a file with these images.

    Parameters
    ----------
    blocksize
        Height and width of tiles.
    """
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=bigtiff, byteorder="<") as writer:
        buffer.seek(0, io.SEEK_END)
        buffer.write(structure(any(image.form is None for image in images)))
        for image in images:
            _write(writer, image, blocksize)
    buffer.seek(0)
    with tifffile.TiffFile(buffer) as tif:
        pages: list[Any] = list(tif.pages)
        tables = tuple(_table(page) for page in pages)
        places = [page.tags[_COMPRESSION].valueoffset for page in pages]
        end = max(t.offset + t.valuebytecount for page in pages for t in _spans(page))
    data = bytearray(buffer.getvalue()[:end].ljust(end + 16 - end % 16, b"\0"))
    for image, place in zip(images, places, strict=True):
        if image.form is not None:
            data[place : place + 2] = CODES[image.form.compression].to_bytes(2, "little")
    return Header(bytes(data), tables)


@dataclass(frozen=True, slots=True)
class _Span:
    offset: int
    valuebytecount: int


def _spans(page: Any) -> list[_Span]:
    """What a directory takes in the file."""
    big = page.parent.is_bigtiff
    entries = (8 + 20 * len(page.tags) + 8) if big else (2 + 12 * len(page.tags) + 4)
    return [_Span(page.offset, entries), *(_Span(t.valueoffset, t.valuebytecount) for t in page.tags)]


def _write(writer: Any, image: Image, blocksize: int) -> None:
    height, width = image.shape
    across = -(-width // blocksize) * -(-height // blocksize)
    common: dict[str, Any] = {
        "tile": (blocksize, blocksize),
        "metadata": None,
        "software": False,
        "extratags": image.tags,
        "subfiletype": _REDUCED * image.reduced | _MASK * (image.form is None),
    }
    if image.form is None:
        writer.write(iter([b""] * across), shape=image.shape, dtype=bool, compression=8, **common)
        return
    form = image.form
    shape = image.shape if form.samples == 1 else (*image.shape, form.samples)
    # tifffile writes no empty tiles of 'none': its tag is set afterwards, as that of deflate is of the same size.
    code = 8 if form.compression == "none" else CODES[form.compression]
    writer.write(
        iter([b""] * across),
        shape=shape,
        dtype=form.dtype,
        compression=code,
        predictor=None if form.predictor == 1 else form.predictor,
        photometric=image.photometric,
        planarconfig="contig" if form.samples > 1 else None,
        extrasamples=image.extras or None,
        **common,
    )


def _table(page: Any) -> Table:
    offsets, sizes = page.tags[_OFFSETS], page.tags[_COUNTS]
    return Table(
        offsets.valueoffset,
        sizes.valueoffset,
        np.zeros(offsets.count, _TYPES[int(offsets.dtype)]),
        np.zeros(sizes.count, _TYPES[int(sizes.dtype)]),
    )


_TYPES = {3: "<u2", 4: "<u4", 16: "<u8"}
"""Types of TIFF as numpy's."""


def nodata_tag(value: float, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """GDAL's tag for the value of missing data."""
    text = str(int(value)) if dtype.kind in "iub" else "nan" if np.isnan(value) else repr(float(value))
    return (_NODATA, _ASCII, 0, text, True)


def names_tag(names: Sequence[str]) -> tuple[Any, ...]:
    """GDAL's tag with a description of every band."""
    from xml.sax.saxutils import escape

    # Escaped twice, since GDAL does so, and undoes it twice.
    items = "".join(
        f'  <Item name="DESCRIPTION" sample="{i}" role="description">{escape(escape(name))}</Item>\n'
        for i, name in enumerate(names)
    )
    return (_METADATA, _ASCII, 0, f"<GDALMetadata>\n{items}</GDALMetadata>\n".encode(), True)
