"""Which images does a TIFF hold, where are their tiles, and what does it promise about them?

1. `directories` lists the native image and its overviews, and the masks of all of them, as GDAL tells them apart: by
   their subfile type, in the chain of directories or below the first of them (sub-directories).
2. `structure` finds GDAL's structural metadata behind the TIFF header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

REDUCED, MASK = 1, 4
"""Bits of the subfile type (tag 254)."""
_HEAD = re.compile(rb"GDAL_STRUCTURAL_METADATA_SIZE=(\d{6}) bytes\n")
_METADATA = 42112
_BY_TILE = re.compile(r'<Item name="INTERLEAVE" domain="IMAGE_STRUCTURE">TILE</Item>')
_WORST = 5
"""Tiles that are named of those with the same fault."""


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    """One image of a file."""

    name: str
    at: int
    """Position of the directory."""
    shape: tuple[int, int]
    """(height, width)."""
    tile: tuple[int, int] | None
    """(height, width); None for strips."""
    offsets: np.ndarray[Any, Any]
    """Of its tiles; those of one sample after the other, where samples are stored apart."""
    sizes: np.ndarray[Any, Any]
    """Of its tiles in bytes, as `offsets`."""
    planes: int
    """Samples that are stored apart; 1 where those of a pixel lie side by side."""
    by_tile: bool
    """True where the tiles of all samples at one place follow each other, false where all of a sample do."""

    @property
    def first(self) -> int:
        """Where its first tile that is there begins; 0 if there is none."""
        there = self.offsets[self.offsets > 0]
        return int(there[0]) if len(there) else 0

    @property
    def in_order(self) -> np.ndarray[Any, Any]:
        """Numbers of tiles that are there, in the order in which the file promises them."""
        numbers = np.arange(len(self.offsets))
        if self.by_tile:
            numbers = numbers.reshape(self.planes, -1).T.ravel()
        return numbers[self.offsets[numbers] > 0]

    @property
    def last_plane(self) -> slice:
        """The tiles behind which those of a mask lie."""
        return slice(len(self.offsets) - len(self.offsets) // self.planes, None)

    def named(self, tiles: Sequence[int] | np.ndarray[Any, Any]) -> str:
        """Which tiles are meant, as the beginning of a sentence."""
        across = -(-self.shape[1] // self.tile[1]) if self.tile else 1
        each = len(self.offsets) // self.planes
        names = [
            f"({i % each // across}, {i % each % across})" + (f" of band {i // each + 1}" if self.planes > 1 else "")
            for i in list(tiles)[:_WORST]
        ]
        rest = f" and {len(tiles) - _WORST} more" if len(tiles) > _WORST else ""
        return f"in {self.name}, tile {', '.join(names)}{rest} (row, column) lies"


def directories(tif: Any) -> tuple[list[Directory], dict[tuple[int, int], Directory]]:
    """
    (native image and overviews, masks by shape) of an open `tifffile.TiffFile`.

    Raises
    ------
    Exception
        A directory is damaged: whatever that provokes in the parser, or a ValueError.
    """
    images: list[Directory] = []
    masks: dict[tuple[int, int], Directory] = {}
    by_tile = False
    for page in _pages(tif):
        kind = int(page.subfiletype or 0)
        if not images and (tag := page.tags.get(_METADATA)) is not None:
            by_tile = _BY_TILE.search(str(tag.value)) is not None
        if kind & MASK:
            shape = int(page.imagelength), int(page.imagewidth)
            masks[shape] = _directory(page, f"the mask of {shape[1]} x {shape[0]}", False)
        elif not images or kind & REDUCED:
            images.append(_directory(page, f"overview {len(images)}" if images else "the image", by_tile))
    return images, masks


def _pages(tif: Any) -> Iterator[Any]:
    """All directories; those below the first follow it."""
    for number, page in enumerate(tif.pages):
        yield page.aspage()
        if number == 0 and page.pages is not None:
            yield from (below.aspage() for below in page.pages)


def _directory(page: Any, name: str, by_tile: bool) -> Directory:
    shape = int(page.imagelength), int(page.imagewidth)
    segment = (int(page.tilelength), int(page.tilewidth)) if page.is_tiled else (int(page.rowsperstrip), shape[1])
    if min(*shape, *segment) < 1:
        raise ValueError(f"{name} has {shape[1]} x {shape[0]} pixels in pieces of {segment[1]} x {segment[0]}")
    planes = int(page.samplesperpixel) if page.planarconfig == 2 else 1
    number = planes * -(-shape[0] // segment[0]) * -(-shape[1] // segment[1])
    offsets, sizes = (np.array(values, np.int64)[:number] for values in (page.dataoffsets, page.databytecounts))
    if not len(offsets) == len(sizes) == number:
        raise ValueError(f"{name} lists {len(offsets)} offsets and {len(sizes)} sizes of {number} tiles or strips")
    return Directory(
        name=name if name.startswith("the mask") else f"{name} ({shape[1]} x {shape[0]})",
        at=page.offset,
        shape=shape,
        tile=segment if page.is_tiled else None,
        offsets=offsets,
        sizes=sizes,
        planes=planes,
        by_tile=by_tile and planes > 1,
    )


def structure(tif: Any) -> tuple[str, int]:
    """(what GDAL's structural metadata promise, where the first directory is to be)."""
    begin = 16 if tif.is_bigtiff else 8
    tif.filehandle.seek(begin)
    head = tif.filehandle.read(43)
    found = _HEAD.match(head)
    if found is None:
        return "", begin
    size = int(found.group(1))
    end = begin + len(head) + size
    return tif.filehandle.read(size).decode("latin1"), end + end % 2
