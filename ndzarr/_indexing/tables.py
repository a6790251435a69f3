"""
Read plans as tables of integers, for plans of many windows.

`ReadPlan.reads` names chunks and parts by tuples and slices, which costs microseconds for each.  `part_table` computes
the same, in the same order, with numpy: some nanoseconds for each.

1. Each axis of each window is cut at chunk borders (`_segments`).
2. The product of a window's segments are its parts (`_product`).
3. Parts are sorted by their chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ndzarr._indexing.selection import AxisSelection, Selection, segments

Table = npt.NDArray[np.int64]


class PartTable(NamedTuple):
    """Chunks of one array that some windows touch, and their parts."""

    positions: Table
    """(chunk, axis): place in the grid of chunks, in C order, each once."""
    first: Table
    """(chunk + 1,): number of the first part of each chunk, then the number of parts."""
    parts: Table
    """(part, 1 + 3 * axis): index of the window, start in the chunk, start in the window, size."""


class _Segments(NamedTuple):
    """One axis of all windows, cut at chunk borders."""

    counts: Table
    """(window,): number of segments."""
    rows: Table
    """(4, segment): index of the chunk along the axis, start in it, start in the window, size."""


def part_table(windows: Sequence[Selection], chunks: Sequence[int], axes: int) -> PartTable:
    """Cut windows at the borders of chunks of a shape; parts get `axes` axes, of which the array's are the last."""
    window, rows = _product([_segments([w[d] for w in windows], n) for d, n in enumerate(chunks)])
    chunk, (source, target, size) = rows[0], rows[1:]
    stepped = (size == 0).any(axis=0)  # a step over a whole chunk
    if stepped.any():
        window, rows = window[~stepped], rows[:, :, ~stepped]
        chunk, (source, target, size) = rows[0], rows[1:]
    grid = [int(n) + 1 for n in chunk.max(axis=1, initial=0)]
    number = np.zeros(len(window), np.int64)
    for along, n in zip(chunk, grid, strict=True):
        number *= n
        number += along
    order = np.argsort(number, kind="stable")
    number = number[order]
    first = np.flatnonzero(np.diff(number, prepend=-1))
    d, more = len(chunks), axes - len(chunks)
    parts = np.zeros((len(window), 1 + 3 * axes), np.int64)
    parts[:, 0] = window[order]
    for k, values in enumerate((source, target, size)):
        start = 1 + k * axes
        parts[:, start : start + more] = k == 2  # axes that the array does not have: start at 0, of size 1
        parts[:, start + more : start + more + d] = values.T[order]
    return PartTable(chunk.T[order[first]], np.append(first, len(window)), parts)


def _product(axes: Sequence[_Segments]) -> tuple[Table, Table]:
    """Combine the segments of all axes of each window; return (part,) windows and (4, axis, part) rows."""
    counts = np.prod([axis.counts for axis in axes], axis=0)
    window = np.repeat(np.arange(len(counts)), counts)
    left = np.arange(len(window)) - np.repeat(np.cumsum(counts) - counts, counts)  # which part of its window
    out = np.empty((4, len(axes), len(window)), np.int64)
    for d in reversed(range(len(axes))):
        own = axes[d].counts
        left, segment = np.divmod(left, own[window])
        segment += (np.cumsum(own) - own)[window]
        out[:, d] = axes[d].rows[:, segment]
    return window, out


def _segments(wanted: Sequence[AxisSelection], n: int) -> _Segments:
    """Cut one axis of all windows at the borders of chunks of length n; sizes may be 0 where steps are long."""
    if all(want is wanted[0] for want in wanted) or not all(isinstance(want, slice) for want in wanted):
        return _segments_of_each(wanted, n)
    start, stop, step = np.array([(w.start, w.stop, w.step) for w in wanted], np.int64).T  # type: ignore[union-attr]
    first = start // n
    counts = np.where(stop > start, (stop - 1) // n - first + 1, 0)
    window = np.repeat(np.arange(len(wanted)), counts)
    chunk = np.arange(len(window)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    start, step = start[window], step[window]
    low = np.maximum(start, chunk * n)
    low += (start - low) % step
    high = np.minimum(stop[window], (chunk + 1) * n)
    size = np.maximum(0, -((low - high) // step))
    return _Segments(counts, np.stack([chunk, low - chunk * n, (low - start) // step, size]))


def _segments_of_each(wanted: Sequence[AxisSelection], n: int) -> _Segments:
    """Do the same one by one, those that are alike once: for indices, and for slices that all windows share."""
    known: dict[AxisSelection | int, Table] = {}
    found = []
    for want in wanted:
        key = id(want) if isinstance(want, slice) else want  # slices are not hashable before Python 3.12
        if key not in known:
            rows = [
                (k, source.start, target.start, target.stop - target.start) for k, source, target in segments(want, n)
            ]
            known[key] = np.array(rows, np.int64).reshape(-1, 4).T
        found.append(known[key])
    return _Segments(np.array([rows.shape[1] for rows in found]), np.concatenate(found, axis=1))
