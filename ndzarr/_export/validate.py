"""
Validation of cloud optimized GeoTIFFs.

The rules are those of GDAL's `validate_cloud_optimized_geotiff` with its full check, read from the tags with tifffile:

1. Images of more than 512 pixels are tiled, and have overviews.
2. All directories precede all tiles: the native image first, then its overviews, ever smaller.
3. Tiles follow smallest image first, so that a viewer finds its overview near the header.
4. The promises of GDAL's structural metadata hold: tiles row by row, their size before and their last bytes after them,
   each tile of a mask right behind that of its image.

Besides, no tile may be beyond the end of the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np
import tifffile

from ndzarr._files import open_binary
from ndzarr._formats.tiff.metadata import broken_link, listening, refuse_missing
from ndzarr.errors import MissingError, SourceError

REDUCED, MASK = 1, 4
"""Bits of the subfile type (tag 254)."""
_HEAD = re.compile(rb"GDAL_STRUCTURAL_METADATA_SIZE=(\d{6}) bytes\n")
_METADATA = 42112
_BY_TILE = re.compile(r'<Item name="INTERLEAVE" domain="IMAGE_STRUCTURE">TILE</Item>')
_WORST = 5
"""Number of tiles that a finding names."""
_SMALL = 512
"""Pixels up to which an image needs neither tiles nor overviews."""


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    """One image of a file."""

    name: str
    at: int
    """Position of the directory in the file."""
    shape: tuple[int, int]
    """(height, width)."""
    tile: tuple[int, int] | None
    """(height, width); None for strips."""
    offsets: np.ndarray[Any, Any]
    """First byte of each tile; all tiles of one sample after the other, where samples are stored apart."""
    sizes: np.ndarray[Any, Any]
    """Bytes of each tile."""
    planes: int
    """Number of samples that are stored apart; 1 where the samples of a pixel are side by side."""
    by_tile: bool
    """True where the tiles of all samples at one place follow each other, False where all tiles of a sample do."""

    @property
    def first(self) -> int:
        """First byte of the first stored tile; 0 if none is stored."""
        stored = self.offsets[self.offsets > 0]
        return int(stored[0]) if len(stored) else 0

    @property
    def in_order(self) -> np.ndarray[Any, Any]:
        """Numbers of the stored tiles, in the order that the file promises."""
        numbers = np.arange(len(self.offsets))
        if self.by_tile:
            numbers = numbers.reshape(self.planes, -1).T.ravel()
        return numbers[self.offsets[numbers] > 0]

    def named(self, tiles: Sequence[int] | np.ndarray[Any, Any]) -> str:
        """Return the names of tiles as the beginning of a sentence."""
        across = -(-self.shape[1] // self.tile[1]) if self.tile else 1
        each = len(self.offsets) // self.planes
        names = [
            f"({i % each // across}, {i % each % across})" + (f" of band {i // each + 1}" if self.planes > 1 else "")
            for i in list(tiles)[:_WORST]
        ]
        rest = f" and {len(tiles) - _WORST} more" if len(tiles) > _WORST else ""
        return f"in {self.name}, tile {', '.join(names)}{rest} (row, column) is"


def directories(tif: tifffile.TiffFile) -> tuple[list[Directory], dict[tuple[int, int], Directory]]:
    """Return (native image and overviews, masks by shape) of an open file; raise anything if it is damaged."""
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


def _pages(tif: tifffile.TiffFile) -> Iterator[Any]:
    """Yield all directories; those below the first follow it."""
    for number, page in enumerate(tif.pages):
        yield page.aspage()
        if number == 0 and page.pages is not None:
            yield from (below.aspage() for below in page.pages)


def _directory(page: Any, name: str, by_tile: bool) -> Directory:
    shape = int(page.imagelength), int(page.imagewidth)
    segment = (int(page.tilelength), int(page.tilewidth)) if page.is_tiled else (int(page.rowsperstrip), shape[1])
    if min(*shape, *segment) < 1:
        raise ValueError(f"{name} has {shape[1]} x {shape[0]} pixels in segments of {segment[1]} x {segment[0]}")
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


def structure(tif: tifffile.TiffFile) -> tuple[str, int]:
    """Return (the promises of GDAL's structural metadata, the byte at which the first directory has to begin)."""
    begin = 16 if tif.is_bigtiff else 8
    tif.filehandle.seek(begin)
    head = tif.filehandle.read(43)
    found = _HEAD.match(head)
    if found is None:
        return "", begin
    size = int(found.group(1))
    end = begin + len(head) + size
    return tif.filehandle.read(size).decode("latin1"), end + end % 2


@dataclass(frozen=True, slots=True)
class CogReport:
    """What `validate_cog` found."""

    path: str
    summary: str
    errors: tuple[str, ...]
    """Broken rules that a cloud optimized GeoTIFF must keep, and why they matter."""
    warnings: tuple[str, ...]
    """Broken rules that it should keep."""

    @property
    def ok(self) -> bool:
        """True if it is a cloud optimized GeoTIFF."""
        return not self.errors

    def __str__(self) -> str:
        verdict = f"{'a' if self.ok else 'not a'} valid cloud optimized GeoTIFF"
        lines = [f"{self.path}: {verdict} ({self.summary})"]
        lines += [f"  error: {finding}" for finding in self.errors]
        return "\n".join([*lines, *(f"  warning: {finding}" for finding in self.warnings)])


def validate_cog(path: str | os.PathLike[str]) -> CogReport:
    """
    Check whether a file is a cloud optimized GeoTIFF.

    Raises
    ------
    MissingError
        There is no such file.
    SourceError
        It is not a TIFF, or too damaged to tell.
    """
    name = os.path.abspath(path)
    if os.path.isdir(name):
        raise SourceError(f"{name}: a directory, not a TIFF", path=name, hint="Write one with ndzarr.export_cog")
    if not os.path.isfile(name):
        raise MissingError(f"{name}: no such file", path=name)
    with listening() as messages:
        try:
            tif = tifffile.TiffFile(name)
        except Exception as error:  # damaged files raise whatever they provoke in the parser
            raise SourceError(f"{name}: not a TIFF, or damaged ({error})", path=name) from error
        with tif:
            if (broken := broken_link(name, tif)) is not None:
                raise SourceError(f"{name}: {broken.found}; it is damaged", path=name)
            try:
                images, masks = directories(tif)
            except Exception as error:
                message = f"{name}: its directories cannot be read ({error}); it is damaged"
                raise SourceError(message, path=name) from error
            refuse_missing(name, messages)
            if not images:
                raise SourceError(f"{name}: damaged: it holds no image", path=name)
            promises, expected = structure(tif)
            with open_binary(name) as file:
                errors = tuple(_errors(file, images, masks, promises, expected))
            return CogReport(name, _summary(tif.pages[0], images, masks), errors, tuple(_warnings(images, promises)))


def _errors(
    file: BinaryIO, images: Sequence[Directory], masks: dict[tuple[int, int], Directory], promises: str, expected: int
) -> Iterator[str]:
    if os.path.exists(f"{file.name}.ovr"):
        yield f"overviews are in {file.name}.ovr: they have to be in the file itself"
    yield from _shape_errors(images)
    if "KNOWN_INCOMPATIBLE_EDITION=YES" in promises:
        yield "KNOWN_INCOMPATIBLE_EDITION=YES: the file was edited after it had been optimized; write it again"
    if (at := images[0].at) not in (expected, 8, 16):
        where = f"the first directory is at byte {at}, not at {expected}"
        yield f"{where}: readers fetch the beginning of the file and expect it there"
    yield from _order_errors(images)
    end = os.path.getsize(file.name)
    for image in (*images, *masks.values()):
        yield from _tile_errors(image, promises, file, end)
    if "MASK_INTERLEAVED_WITH_IMAGERY=YES" in promises:
        for image in images:
            if image.shape in masks:
                yield from _mask_errors(image, masks[image.shape], promises)


def _shape_errors(images: Sequence[Directory]) -> Iterator[str]:
    for image in images:
        if image.tile is None and max(image.shape) > _SMALL:
            yield f"{image.name} has strips, not tiles: a window needs whole rows of the image"
    for larger, image in pairwise(images):
        if image.shape[0] > larger.shape[0] or image.shape[1] > larger.shape[1]:
            yield f"{image.name} is larger than {larger.name}: overviews have to become ever smaller"


def _order_errors(images: Sequence[Directory]) -> Iterator[str]:
    for before, image in pairwise(images):
        if image.at < before.at:
            what = f"the directory of {image.name} at byte {image.at} precedes that of {before.name} at {before.at}"
            yield f"{what}: directories have to stand in order of size, native first"
        if 0 < before.first < image.first:
            what = f"tiles of {before.name} begin at byte {before.first}, before those of {image.name} at {image.first}"
            yield f"{what}: tiles have to come smallest image first"
    last = images[-1]
    if 0 < last.first < last.at:
        what = f"tiles of {last.name} begin at byte {last.first}, before its directory at {last.at}"
        yield f"{what}: all directories have to precede all tiles, to be fetched at once"


def _tile_errors(image: Directory, promises: str, file: BinaryIO, end: int) -> Iterator[str]:
    stored = image.in_order
    offsets, sizes = image.offsets[stored], image.sizes[stored]
    outside = sizes > end - offsets
    if outside.any():
        yield f"{image.named(stored[outside])} beyond the end of the file, {end} bytes: the file is truncated"
    if "BLOCK_ORDER=ROW_MAJOR" in promises and len(wrong := stored[1:][np.diff(offsets) < 0]):
        yield f"{image.named(wrong)} before the tile that precedes it in rows: BLOCK_ORDER promises rows"
    inside = [(int(i), int(image.offsets[i]), int(image.sizes[i])) for i in stored[~outside]]
    if "BLOCK_LEADER=SIZE_AS_UINT4" in promises:
        bad = [i for i, start, size in inside if int.from_bytes(_at(file, start - 4, 4), "little") != size]
        if bad:
            yield f"{image.named(bad)} not behind four bytes that hold its size: BLOCK_LEADER promises them"
    if "BLOCK_TRAILER=LAST_4_BYTES_REPEATED" in promises:
        bad = [i for i, start, size in inside if not _repeated(file, start + size, size)]
        if bad:
            yield f"{image.named(bad)} without its last four bytes repeated behind it: BLOCK_TRAILER promises them"


def _at(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(max(0, position))
    return file.read(size)


def _repeated(file: BinaryIO, end: int, size: int) -> bool:
    if size < 4:
        return True
    last = _at(file, end - 4, 8)
    return last[:4] == last[4:]


def _mask_errors(image: Directory, mask: Directory, promises: str) -> Iterator[str]:
    last = slice(-(len(image.offsets) // image.planes), None)  # the last plane, whose tiles those of a mask follow
    offsets, sizes = image.offsets[last], image.sizes[last]
    if image.tile != mask.tile or len(offsets) != len(mask.offsets):
        what = f"{mask.name} has tiles of {mask.tile}, {image.name} of {image.tile}"
        yield f"{what}: MASK_INTERLEAVED_WITH_IMAGERY promises pairs of tiles"
        return
    gap = 4 * ("BLOCK_LEADER=SIZE" in promises) + 4 * ("BLOCK_TRAILER=LAST" in promises)
    both = (offsets > 0) & (mask.offsets > 0)
    wrong = np.flatnonzero(both & (mask.offsets != offsets + sizes + gap))
    if len(wrong):
        what = f"{mask.named(wrong)} not right behind that of its image"
        yield f"{what}: MASK_INTERLEAVED_WITH_IMAGERY promises to save a request"


def _warnings(images: Sequence[Directory], promises: str) -> Iterator[str]:
    if len(images) == 1 and max(images[0].shape) > _SMALL:
        yield f"the image has more than {_SMALL} pixels and no overviews: a view of all of it has to read all of it"
    if not promises:
        yield "it has no GDAL structural metadata: readers cannot know that tiles lie in order"


def _summary(page: Any, images: Sequence[Directory], masks: dict[tuple[int, int], Directory]) -> str:
    image = images[0]
    tiles = f"tiles of {image.tile[1]} x {image.tile[0]}" if image.tile else "strips"
    mask = ", masked" if image.shape in masks else ""
    compression = getattr(page.compression, "name", str(page.compression)).lower()
    return (
        f"{image.shape[1]} x {image.shape[0]}, {page.samplesperpixel} of {page.dtype}, {tiles}, {compression}, "
        f"{len(images) - 1} overviews{mask}"
    )
