"""Where are the tiles of a level in the file?

The offsets and sizes (tags 324, 325) of the tiles of all frames are put together into two arrays with the shape of the
level's grid of chunks, and checked: a file that ends before its last tile is refused here, by the name of the tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ndzarr.errors import DamagedError, StoreError
from ndzarr.sources.base import Pixels, reason
from ndzarr.sources.tiff.frame import FrameFormat
from ndzarr.sources.tiff.layout import Layout
from ndzarr.sources.tiff.quiet import listening, refuse_missing

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
