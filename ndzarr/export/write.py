"""How are tiles encoded in threads and written in order?

1. Images come smallest first, their tiles in rows from the top.  A task is some neighbouring tiles of a row: it reads
   their pixels, encodes each, and returns bytes.
2. Few tasks are under way at a time, so that memory holds some tiles, whatever the size of the image.
3. Bytes are appended in order.  GDAL's structural metadata promise that four bytes before each tile hold its size, that
   its last four bytes are repeated after it, and that the tile of a mask follows that of its image.
4. Offsets and sizes go to the places that the header has left for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from ndzarr.errors import OptionError
from ndzarr.export.content import Content
from ndzarr.export.header import Header, Table
from ndzarr.export.tiles import TileFormat

TASK_BYTES = 4 << 20
"""Pixels of a task, at least one tile."""
LARGEST = 2**32 - 1
"""Last position that a TIFF can name; BigTIFF goes beyond."""
MASK_FORM = TileFormat("deflate", np.dtype(np.uint8), 1, level=6)
"""How tiles of masks are stored, 8 pixels a byte."""

Encoded: TypeAlias = "list[tuple[bytes, bytes | None]]"
"""(tile, tile of the mask) in order."""


@dataclass(frozen=True, slots=True)
class Task:
    """Neighbouring tiles of a row."""

    level: int
    row: int
    columns: range


@dataclass(frozen=True, slots=True)
class Writing:
    """What is written, and how."""

    content: Content
    form: TileFormat
    blocksize: int

    def tasks(self) -> Iterator[Task]:
        """All tiles in the order of the file."""
        pixels = self.blocksize**2 * self.form.samples * self.form.dtype.itemsize
        step = max(1, TASK_BYTES // pixels)
        for level in reversed(range(len(self.content.levels))):
            rows, columns = self.grid(level)
            for row, first in product(range(rows), range(0, columns, step)):
                yield Task(level, row, range(first, min(first + step, columns)))

    def grid(self, level: int) -> tuple[int, int]:
        """(rows, columns) of tiles of a level."""
        height, width = self.content.size(level)
        return -(-height // self.blocksize), -(-width // self.blocksize)

    def encode(self, task: Task) -> Encoded:
        """Read and encode the tiles of a task."""
        side = self.blocksize
        height, width = self.content.size(task.level)
        y = slice(task.row * side, min((task.row + 1) * side, height))
        x = slice(task.columns.start * side, min(task.columns.stop * side, width))
        pixels, valid = self.content.read(task.level, y, x)
        out: Encoded = []
        for k in range(len(task.columns)):
            across = slice(k * side, (k + 1) * side)
            tile = _whole(pixels[:, across], side)
            out.append((self.form.encode(tile), None if valid is None else _mask(valid[:, across], side)))
        return out


def _whole(part: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    """A whole tile, contiguous; the border is repeated where there are no pixels, which costs the fewest bytes."""
    missing = side - part.shape[0], side - part.shape[1]
    if any(missing):
        return np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    return np.ascontiguousarray(part)


def _mask(part: np.ndarray[Any, Any], side: int) -> bytes:
    whole = np.zeros((side, side), bool)
    whole[: part.shape[0], : part.shape[1]] = part
    return MASK_FORM.encode(np.packbits(whole, axis=1)[..., None])


def write(file: BinaryIO, header: Header, writing: Writing, workers: int, advance: Callable[[int], object]) -> None:
    """
    Write header and tiles.

    Parameters
    ----------
    advance
        Is told of tiles that are done.

    Raises
    ------
    OptionError
        The file gets too large for the format that was asked for.
    """
    masked = writing.content.masking is not None
    file.write(header.data)
    position = len(header.data)
    for task, encoded in _in_order(writing, workers):
        tables = header.tables[task.level * (1 + masked) :]
        columns = writing.grid(task.level)[1]
        for column, (tile, mask) in zip(task.columns, encoded, strict=True):
            index = task.row * columns + column
            position = _append(file, tables[0], index, tile, position)
            if mask is not None:
                position = _append(file, tables[1], index, mask, position)
        advance(len(encoded))
    for table in header.tables:
        for place, values in ((table.offsets_at, table.offsets), (table.sizes_at, table.sizes)):
            file.seek(place)
            file.write(values.tobytes())


def _append(file: BinaryIO, table: Table, index: int, tile: bytes, position: int) -> int:
    if table.offsets.itemsize == 4 and position + len(tile) + 8 > LARGEST:
        raise OptionError(f"{file.name}: gets larger than the 4 GiB of a TIFF; use bigtiff=True or 'auto'")
    file.write(len(tile).to_bytes(4, "little") + tile + tile[-4:].ljust(4, b"\0"))
    table.offsets[index] = position + 4
    table.sizes[index] = len(tile)
    return position + len(tile) + 8


def _in_order(writing: Writing, workers: int) -> Iterator[tuple[Task, Encoded]]:
    """Tasks in order with their bytes, a few of them under way at a time."""
    queue: deque[tuple[Task, Future[Encoded]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ndzarr-cog")
    try:
        for task in writing.tasks():
            queue.append((task, pool.submit(writing.encode, task)))
            if len(queue) > 2 * workers:
                first, job = queue.popleft()
                yield first, job.result()
        while queue:
            first, job = queue.popleft()
            yield first, job.result()
    finally:
        pool.shutdown(cancel_futures=True)
