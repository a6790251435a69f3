"""Where exactly is room for a window that must not overlap annotations too much?

For every row on which a window may begin, each box forbids an interval of columns, which follows from the shared area
that the criterion allows: a shared height of h leaves a shared width of at most area / h.  What the union of these
intervals leaves is free.

Rows between which no box comes into reach or leaves it make a slab; they are looked at as one where nothing may be
shared, and one by one where the allowed width changes from row to row.  Slabs of many planes (frames of images and
videos) are handled at once, as pairs of a slab and a box in its reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ndzarr.targets.footprint import ramps
from ndzarr.targets.spaces import Array, Boxes

AT_ONCE = 1 << 21
"""Rows, and pairs of a slab and a box, that are looked at together: bounds memory."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How much a window and an annotation may share."""

    most: float
    """Largest fraction."""
    criterion: str
    """Of what; one of `overlap.CRITERIA`."""

    @property
    def nested(self) -> bool:
        """True where all windows in a free one are free, so that where there is no room for them is none for it."""
        return self.most == 0 or self.criterion == "annotation"

    def area(self, window: int, boxes: Boxes) -> Array:
        """Square pixels that a window of that area may share with each box; shape (box,)."""
        if self.criterion == "window":
            return np.full(len(boxes), self.most * window)
        if self.criterion == "annotation":
            return self.most * boxes.area
        return self.most * (window + boxes.area) / (1 + self.most)


@dataclass(frozen=True, slots=True, eq=False)
class Slabs:
    """Rows on which the same boxes are in reach; those of a plane follow each other; all have shape (slab,)."""

    plane: Array
    y0: Array
    """First row on which a window may begin."""
    y1: Array
    """Row after the last."""


def free(size: tuple[int, int], planes: Array, boxes: Boxes, limit: Limit) -> tuple[Array, Array]:
    """
    Where windows of `size` may begin.

    Parameters
    ----------
    size
        (height, width).
    planes
        (height, width) of each; shape (plane, 2).
    boxes
        Sorted by `space`, which is a position in `planes`; in a plane are those of all frames that the window has.

    Returns
    -------
    Rectangles of beginnings that do not meet: y0, y1, x0, x1, half-open, shape (4, rectangle); and the plane of each,
    ascending.

    Examples
    --------
    >>> one = (np.zeros(1, int),) * 3
    >>> box = Boxes(*one, x0=np.array([4.0]), y0=np.array([0.0]), x1=np.array([6.0]), y1=np.array([3.5]))
    >>> rectangles, plane = free((2, 2), np.array([[6, 8]]), box, Limit(0.0, "window"))
    >>> rectangles.T
    array([[0, 4, 0, 3],
           [0, 4, 6, 7],
           [4, 5, 0, 7]])
    """
    rows, columns = np.maximum(planes - np.array(size) + 1, 0).T
    rows = np.where(columns > 0, rows, 0)
    parts = [(np.empty((4, 0), np.int64), np.empty(0, np.int64))]
    for start, stop in _runs(rows + 1):
        here = boxes.take(slice(*np.searchsorted(boxes.space, [start, stop]).tolist()))
        slabs, first, last = _slabs(size[0], rows[start:stop], start, here, each=limit.most > 0)
        area = limit.area(size[0] * size[1], here)
        counts = [np.bincount(edge, minlength=len(slabs.plane) + 1) for edge in (first, last)]
        in_reach = np.cumsum(counts[0] - counts[1])[:-1]
        for low, high in _runs(in_reach + 1):
            a, b = np.clip(first, low, high), np.clip(last, low, high)
            box = np.repeat(np.arange(len(here)), b - a)
            slab = np.repeat(a, b - a) + ramps(b - a)
            x0, x1 = _forbidden(slabs.y0[slab], size, here.take(box), area[box])
            which, x0, x1 = _gaps(slab - low, x0, x1, columns[slabs.plane[low:high]])
            which = which + low
            parts.append((np.stack([slabs.y0[which], slabs.y1[which], x0, x1]), slabs.plane[which]))
    return np.concatenate([p[0] for p in parts], axis=1), np.concatenate([p[1] for p in parts])


def _runs(weight: Array) -> Iterator[tuple[int, int]]:
    """Half-open runs of positions of which the weights sum to about `AT_ONCE`."""
    edges = np.flatnonzero(np.diff(np.cumsum(weight) // AT_ONCE, prepend=-1, append=np.iinfo(np.int64).max))
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def _slabs(height: int, rows: Array, start: int, boxes: Boxes, each: bool) -> tuple[Slabs, Array, Array]:
    """
    The slabs of planes, which are numbered from `start`; single rows where a box is in reach if `each`.

    Returns
    -------
    Slabs, and half-open intervals of those in which each box is in reach.
    """
    ends = np.cumsum(rows + 1)
    base = ends - rows - 1  # each plane has a place of its own on one line, with one more for the end of its last slab
    plane = boxes.space - start
    first = base[plane] + np.clip(np.floor(boxes.y0).astype(np.int64) - height + 1, 0, rows[plane])
    last = base[plane] + np.clip(np.ceil(boxes.y1).astype(np.int64), 0, rows[plane])
    edges = [first, last, base, base + rows]
    if each:
        length = int(ends[-1]) if len(ends) else 0
        depth = np.cumsum(np.bincount(first, minlength=length) - np.bincount(last, minlength=length))
        reached = np.flatnonzero(depth)
        edges += [reached, reached + 1]
    edge = np.unique(np.concatenate(edges))
    of_edge = np.searchsorted(ends, edge, side="right")
    inner = np.flatnonzero(of_edge[1:] == of_edge[:-1])
    low, high, owner = edge[inner], edge[inner + 1], of_edge[inner]
    slabs = Slabs(owner + start, low - base[owner], high - base[owner])
    return slabs, np.searchsorted(low, first), np.searchsorted(low, last)


def _forbidden(y: Array, size: tuple[int, int], boxes: Boxes, area: Array) -> tuple[Array, Array]:
    """First and last forbidden column on a row, for a box each; the first is beyond the last where none is."""
    shared = np.minimum(y + size[0], boxes.y1) - np.maximum(y, boxes.y0)
    width = np.divide(area, shared, out=np.zeros(shared.shape), where=shared > 0)
    first = np.floor(boxes.x0 + width).astype(np.int64) - size[1] + 1
    last = np.ceil(boxes.x1 - width).astype(np.int64) - 1
    none = (shared <= 0) | (width >= size[1]) | (width >= boxes.x1 - boxes.x0)
    return first, np.where(none, first - 1, last)


def _gaps(row: Array, first: Array, last: Array, columns: Array) -> tuple[Array, Array, Array]:
    """
    What intervals leave of the columns of rows.

    Parameters
    ----------
    row, first, last
        Of each interval, both ends included.
    columns
        Of each row.

    Returns
    -------
    Row, start and stop of each gap.
    """
    first, last = np.maximum(first, 0), np.minimum(last, columns[row] - 1)
    some = first <= last
    # One more interval behind the last column closes each row.
    row = np.concatenate([row[some], np.arange(len(columns))])
    first, last = np.concatenate([first[some], columns]), np.concatenate([last[some], columns])
    shift = row * (int(columns.max(initial=0)) + 2)  # rows behind each other, so that no interval reaches the next row
    order = np.argsort(shift + first, kind="stable")
    row, first, shift = row[order], first[order], shift[order]
    reach = np.maximum.accumulate(shift + last[order])
    start = np.maximum(np.concatenate([[-1], reach[:-1]]) - shift, -1) + 1
    gap = np.flatnonzero(start < first)
    return row[gap], start[gap], first[gap]
