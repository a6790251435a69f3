"""
Parts: arrays that were added to a canvas, kept in files until they are put together.

A file is a sequence of records::

    magic    4 bytes
    dtype    4 bytes, numpy's code such as '|u1'
    crc32c   u4, of the pixels
    size     u8, bytes of the pixels
    start    i8 per axis of the canvas, in its pixels; may be negative
    length   i8 per axis
    check    u4, crc32 of all of the above
    pixels   in C order, then zeros up to a multiple of 8 bytes, so that all numbers lie at multiples of their size

A record that is incomplete, or whose pixels do not have the crc32c that it states, counts as not there.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from ndzarr._prediction.workspace import RECORDS, RecordFile

_MAGIC = b"NDZ3"


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """An array on a canvas; parts sort by place and content, so that their order does not depend on who added them."""

    start: tuple[int, ...]
    length: tuple[int, ...]
    crc: int
    dtype: str
    path: str
    offset: int
    """Where its pixels begin in the file."""

    @property
    def place(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What it covers: (start, length)."""
        return self.start, self.length

    @property
    def content(self) -> tuple[Any, ...]:
        """What two parts have in common if one was added twice."""
        return self.start, self.length, self.crc, self.dtype

    def pixels(self, open_files: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Return the pixels, mapped from the file; `open_files` keeps the maps."""
        found = open_files.get(self.path)
        if found is None:
            whole = np.memmap(self.path, np.uint8, "r")
            found = open_files[self.path] = whole.view(np.ndarray)  # slices of it are faster
        dtype = np.dtype(self.dtype)
        end = self.offset + prod(self.length) * dtype.itemsize
        return found[self.offset : end].view(dtype).reshape(self.length)


class PartsWriter:
    """Appends parts to a file of this process."""

    def __init__(self, folder: Path) -> None:
        self._file = RecordFile(folder)
        self.pid = self._file.pid

    def append(self, start: Sequence[int], pixels: np.ndarray[Any, Any]) -> Part:
        """Write one array; `start` has one number per axis."""
        pixels = np.ascontiguousarray(pixels)
        data = pixels.reshape(-1).view(np.uint8)
        crc: int = google_crc32c.value(data)  # without a copy
        part = Part(tuple(start), pixels.shape, crc, pixels.dtype.str, str(self._file.path), 0)
        head = _head(part, data.nbytes)
        at = self._file.append(head, data.data, bytes(_padding(data.nbytes)))
        return replace(part, offset=at + len(head))


def _padding(size: int) -> int:
    return -size % 8


def _layout(axes: int) -> struct.Struct:
    return struct.Struct(f"<4s4sIQ{2 * axes}q")


def _head(part: Part, size: int) -> bytes:
    head = _layout(len(part.start)).pack(_MAGIC, part.dtype.encode(), part.crc, size, *part.start, *part.length)
    return head + struct.pack("<I", zlib.crc32(head))


def read_parts(folder: Path, axes: int, known: Collection[Part] = ()) -> list[Part]:
    """
    Return all complete parts of a canvas with so many axes, each once, sorted.

    `known` are all parts of some of the files, which are not read again.
    """
    found = {part.content: part for part in known}
    unread = {str(path) for path in folder.glob(f"*{RECORDS}")} - {part.path for part in known}
    for path in sorted(unread):
        for part in _parts_of(path, axes):
            found.setdefault(part.content, part)
    return sorted(found.values())


def _parts_of(path: str, axes: int) -> Iterator[Part]:
    layout = _layout(axes)
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        at = 0
        while at + layout.size + 4 <= end:
            file.seek(at)
            head, check = file.read(layout.size), file.read(4)
            if struct.pack("<I", zlib.crc32(head)) != check:
                return
            magic, dtype, crc, size, *numbers = layout.unpack(head)
            offset = at + layout.size + 4
            if magic != _MAGIC or offset + size > end:
                return
            if _crc_of(file, size) == crc:
                code = dtype.rstrip(b"\0").decode()
                yield Part(tuple(numbers[:axes]), tuple(numbers[axes:]), crc, code, path, offset)
            at = offset + size + _padding(size)


def _crc_of(file: BinaryIO, size: int) -> int:
    crc = 0
    while size > 0:
        piece = file.read(min(size, 1 << 20))
        if not piece:
            break
        crc = google_crc32c.extend(crc, piece)
        size -= len(piece)
    return crc


MOST_CELLS = 1 << 24
"""Cells between the borders of parts up to which it is found out whether parts cover everything."""


def cover(parts: Sequence[Part], shape: Sequence[int]) -> bool:
    """Return True if parts cover an array of this shape; False also where that would take too long to find out."""
    start = np.array([p.start for p in parts])
    bounds = np.stack([start, start + np.array([p.length for p in parts])])  # (2, part, axis)
    bounds = np.clip(bounds, 0, np.array(shape))
    edges = [np.unique(np.append(bounds[..., k].ravel(), (0, n))) for k, n in enumerate(shape)]
    if prod(len(e) - 1 for e in edges) > MOST_CELLS:
        return False
    cells = np.zeros([len(e) - 1 for e in edges], bool)  # between neighbouring borders along each axis
    low, high = (np.stack([np.searchsorted(e, side[:, k]) for k, e in enumerate(edges)], axis=1) for side in bounds)
    for first, last in zip(low.tolist(), high.tolist(), strict=True):
        cells[tuple(map(slice, first, last))] = True
    return bool(cells.all())
