"""Is a TIFF cloud optimized, and if not, why?

The rules are those of GDAL's `validate_cloud_optimized_geotiff` with its full check, read from the tags with tifffile:

1. Images of more than 512 pixels are tiled, and have overviews.
2. All directories precede all tiles: the native image first, then its overviews, ever smaller.
3. Tiles follow smallest image first, so that a viewer finds its overview near the header.
4. What GDAL's structural metadata promise holds (`header`): tiles row by row, their size before and their last bytes
   after them, each tile of a mask right behind that of its image.

Besides, no tile may lie beyond the end of the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np
import tifffile

from ndzarr.errors import MissingError, SourceError
from ndzarr.export.directory import Directory, directories, structure
from ndzarr.sources.tiff.chain import refuse_broken_chain
from ndzarr.sources.tiff.quiet import listening, refuse_missing

_SMALL = 512
"""Pixels up to which an image needs neither tiles nor overviews."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a file breaks."""

    what: str
    """What was found."""
    why: str
    """Why that matters."""

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


@dataclass(frozen=True, slots=True)
class CogReport:
    """What `validate_cog` found."""

    path: str
    """Absolute path of the file."""
    summary: str
    """What is in the file."""
    errors: tuple[Finding, ...]
    """Rules that a cloud optimized GeoTIFF must not break."""
    warnings: tuple[Finding, ...]
    """Rules that it had better not break."""

    @property
    def ok(self) -> bool:
        """True if it is a cloud optimized GeoTIFF."""
        return not self.errors

    def __str__(self) -> str:
        verdict = "a valid cloud optimized GeoTIFF" if self.ok else "no valid cloud optimized GeoTIFF"
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
        It is no TIFF, or too damaged to tell.
    """
    name = os.path.abspath(path)
    if os.path.isdir(name):
        raise SourceError(f"{name}: a directory, not a TIFF; write one with ndzarr.export_cog")
    if not os.path.isfile(name):
        raise MissingError(f"{name}: no such file")
    with listening() as messages:
        try:
            tif = tifffile.TiffFile(name)
        except Exception as error:  # damaged files raise whatever they provoke in the parser
            raise SourceError(f"{name}: no TIFF, or damaged ({error})") from error
        with tif:
            refuse_broken_chain(name, tif)
            try:
                images, masks = directories(tif)
            except Exception as error:
                raise SourceError(f"{name}: its directories cannot be read ({error}); it is damaged") from error
            refuse_missing(name, messages)
            if not images:
                raise SourceError(f"{name}: holds no image; it is damaged")
            promises, expected = structure(tif)
            with open(name, "rb") as file:
                errors = list(_errors(name, images, masks, promises, expected, file))
            return CogReport(
                name, _summary(tif.pages[0], images, masks), tuple(errors), tuple(_warnings(images, promises))
            )


def _errors(
    path: str,
    images: Sequence[Directory],
    masks: dict[tuple[int, int], Directory],
    promises: str,
    expected: int,
    file: BinaryIO,
) -> Iterator[Finding]:
    if os.path.exists(f"{path}.ovr"):
        yield Finding(f"overviews lie in {path}.ovr", "they have to be in the file itself")
    yield from _shape_errors(images)
    if "KNOWN_INCOMPATIBLE_EDITION=YES" in promises:
        yield Finding(
            "KNOWN_INCOMPATIBLE_EDITION=YES", "the file was edited after it had been optimized; write it again"
        )
    if images[0].at not in (expected, 8, 16):
        yield Finding(
            f"the first directory is at byte {images[0].at}, not at {expected}",
            "readers fetch the beginning of the file and expect it there",
        )
    yield from _order_errors(images)
    end = os.path.getsize(path)
    for image in (*images, *masks.values()):
        yield from _tile_errors(image, promises, file, end)
    if "MASK_INTERLEAVED_WITH_IMAGERY=YES" in promises:
        for image in images:
            if image.shape in masks:
                yield from _mask_errors(image, masks[image.shape], promises)


def _shape_errors(images: Sequence[Directory]) -> Iterator[Finding]:
    for image in images:
        if image.tile is None and max(image.shape) > _SMALL:
            yield Finding(f"{image.name} has strips, not tiles", "a window needs whole rows of the image")
    for larger, image in pairwise(images):
        if image.shape[0] > larger.shape[0] or image.shape[1] > larger.shape[1]:
            yield Finding(f"{image.name} is larger than {larger.name}", "overviews have to become ever smaller")


def _order_errors(images: Sequence[Directory]) -> Iterator[Finding]:
    for before, image in pairwise(images):
        if image.at < before.at:
            yield Finding(
                f"the directory of {image.name} at byte {image.at} precedes that of {before.name} at {before.at}",
                "directories have to stand in order of size, native first",
            )
        if 0 < before.first < image.first:
            yield Finding(
                f"tiles of {before.name} begin at byte {before.first}, before those of {image.name} at {image.first}",
                "tiles have to come smallest image first",
            )
    last = images[-1]
    if 0 < last.first < last.at:
        yield Finding(
            f"tiles of {last.name} begin at byte {last.first}, before its directory at {last.at}",
            "all directories have to precede all tiles, to be fetched at once",
        )


def _tile_errors(image: Directory, promises: str, file: BinaryIO, end: int) -> Iterator[Finding]:
    there = image.in_order
    offsets, sizes = image.offsets[there], image.sizes[there]
    outside = sizes > end - offsets
    if outside.any():
        yield Finding(f"{image.named(there[outside])} beyond the end of the file, {end} bytes", "the file is truncated")
    if "BLOCK_ORDER=ROW_MAJOR" in promises and len(wrong := there[1:][np.diff(offsets) < 0]):
        yield Finding(f"{image.named(wrong)} before the tile that precedes it in rows", "BLOCK_ORDER promises rows")
    inside = [(int(i), int(image.offsets[i]), int(image.sizes[i])) for i in there[~outside]]
    if "BLOCK_LEADER=SIZE_AS_UINT4" in promises:
        bad = [i for i, start, size in inside if int.from_bytes(_at(file, start - 4, 4), "little") != size]
        if bad:
            yield Finding(f"{image.named(bad)} not behind four bytes that hold its size", "BLOCK_LEADER promises them")
    if "BLOCK_TRAILER=LAST_4_BYTES_REPEATED" in promises:
        bad = [i for i, start, size in inside if not _repeated(file, start + size, size)]
        if bad:
            yield Finding(
                f"{image.named(bad)} without its last four bytes repeated behind it", "BLOCK_TRAILER promises them"
            )


def _at(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(max(0, position))
    return file.read(size)


def _repeated(file: BinaryIO, end: int, size: int) -> bool:
    if size < 4:
        return True
    last = _at(file, end - 4, 8)
    return last[:4] == last[4:]


def _mask_errors(image: Directory, mask: Directory, promises: str) -> Iterator[Finding]:
    offsets, sizes = image.offsets[image.last_plane], image.sizes[image.last_plane]
    if image.tile != mask.tile or len(offsets) != len(mask.offsets):
        yield Finding(
            f"{mask.name} has tiles of {mask.tile}, {image.name} of {image.tile}",
            "MASK_INTERLEAVED_WITH_IMAGERY promises pairs of tiles",
        )
        return
    gap = 4 * ("BLOCK_LEADER=SIZE" in promises) + 4 * ("BLOCK_TRAILER=LAST" in promises)
    both = (offsets > 0) & (mask.offsets > 0)
    wrong = np.flatnonzero(both & (mask.offsets != offsets + sizes + gap))
    if len(wrong):
        yield Finding(
            f"{mask.named(wrong)} not right behind that of its image",
            "MASK_INTERLEAVED_WITH_IMAGERY promises to save a request",
        )


def _warnings(images: Sequence[Directory], promises: str) -> Iterator[Finding]:
    if len(images) == 1 and max(images[0].shape) > _SMALL:
        yield Finding(
            f"the image has more than {_SMALL} pixels and no overviews", "a view of all of it has to read all of it"
        )
    if not promises:
        yield Finding("it has no GDAL structural metadata", "readers cannot know that tiles lie in order")


def _summary(page: Any, images: Sequence[Directory], masks: dict[tuple[int, int], Directory]) -> str:
    image = images[0]
    tiles = f"tiles of {image.tile[1]} x {image.tile[0]}" if image.tile else "strips"
    mask = ", masked" if image.shape in masks else ""
    compression = getattr(page.compression, "name", str(page.compression)).lower()
    return (
        f"{image.shape[1]} x {image.shape[0]}, {page.samplesperpixel} of {page.dtype}, {tiles}, {compression}, "
        f"{len(images) - 1} overviews{mask}"
    )
