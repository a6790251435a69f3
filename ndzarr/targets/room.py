"""Where exactly is room for a window that must not overlap annotations too much?

For every row on which a window may begin, each box forbids an interval of columns, which follows from the shared area
that the criterion allows: a shared height of h leaves a shared width of at most area / h.  What the union of these
intervals leaves is free.  Rows on which nothing is allowed to be shared are taken together between the edges of boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ndzarr.targets.spaces import Array, Boxes

AT_ONCE = 1 << 21
"""Rows times boxes that are looked at together: bounds memory."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How much a window and an annotation may share."""

    most: float
    """Largest fraction."""
    criterion: str
    """Of what; one of `overlap.CRITERIA`."""

    def area(self, window: int, boxes: Boxes) -> Array:
        """Square pixels that a window of that area may share with each box; shape (box,)."""
        if self.criterion == "window":
            return np.full(len(boxes), self.most * window)
        if self.criterion == "annotation":
            return self.most * boxes.area
        return self.most * (window + boxes.area) / (1 + self.most)


def free(size: tuple[int, int], space: tuple[int, int], boxes: Boxes, limit: Limit) -> Array:
    """
    Where windows of `size` may begin in a space.

    Parameters
    ----------
    size, space
        (height, width).
    boxes
        Those of the frames that the window has.

    Returns
    -------
    Rectangles of beginnings that do not meet: y0, y1, x0, x1, half-open; shape (4, rectangle).

    Examples
    --------
    >>> one = (np.zeros(1, int),) * 3
    >>> box = Boxes(*one, x0=np.array([4.0]), y0=np.array([0.0]), x1=np.array([6.0]), y1=np.array([3.5]))
    >>> free((2, 2), (6, 8), box, Limit(0.0, "window")).T
    array([[0, 4, 0, 3],
           [0, 4, 6, 7],
           [4, 5, 0, 7]])
    """
    rows, columns = space[0] - size[0] + 1, space[1] - size[1] + 1
    if rows < 1 or columns < 1:
        return np.empty((4, 0), np.int64)
    y0, y1 = _slabs(size[0], rows, boxes, each=limit.most > 0)
    step = max(1, AT_ONCE // max(len(boxes), 1))
    parts = []
    for start in range(0, len(y0), step):
        slab = slice(start, start + step)
        near = (boxes.y0 < y1[slab][-1] + size[0]) & (boxes.y1 > y0[start])
        some = boxes.take(near)
        which, x0, x1 = _gaps(*_forbidden(y0[slab], size, some, limit.area(size[0] * size[1], some)), columns)
        parts.append(np.stack([y0[slab][which], y1[slab][which], x0, x1]))
    return np.concatenate(parts, axis=1)


def _slabs(height: int, rows: int, boxes: Boxes, each: bool) -> tuple[Array, Array]:
    """Half-open intervals of rows, on each of which the same boxes are in reach; single rows there if `each`."""
    first = np.clip(np.floor(boxes.y0).astype(np.int64) - height + 1, 0, rows)
    stop = np.clip(np.ceil(boxes.y1).astype(np.int64), 0, rows)
    if each:
        depth = np.cumsum(np.bincount(first, minlength=rows + 1) - np.bincount(stop, minlength=rows + 1))[:rows]
        edges = np.unique(np.concatenate([np.flatnonzero(depth), np.flatnonzero(depth) + 1, [0, rows]]))
    else:
        edges = np.unique(np.concatenate([first, stop, [0, rows]]))
    return edges[:-1], edges[1:]


def _forbidden(y: Array, size: tuple[int, int], boxes: Boxes, area: Array) -> tuple[Array, Array]:
    """First and last forbidden column on each row, for each box; the first is beyond the last where none is."""
    shared = np.minimum(y[:, None] + size[0], boxes.y1) - np.maximum(y[:, None], boxes.y0)
    width = np.divide(area, shared, out=np.zeros(shared.shape), where=shared > 0)
    first = np.floor(boxes.x0 + width).astype(np.int64) - size[1] + 1
    last = np.ceil(boxes.x1 - width).astype(np.int64) - 1
    none = (shared <= 0) | (width >= size[1]) | (width >= boxes.x1 - boxes.x0)
    return first, np.where(none, first - 1, last)


def _gaps(first: Array, last: Array, columns: int) -> tuple[Array, Array, Array]:
    """
    What intervals leave of the columns.

    Returns
    -------
    Row, start and stop of each gap.
    """
    first, last = np.clip(first, 0, columns), np.clip(last, -1, columns - 1)
    none = first > last
    first, last = np.where(none, 0, first), np.where(none, -1, last)  # before column 0: leaves all
    order = np.argsort(first, axis=1, kind="stable")
    first, last = np.take_along_axis(first, order, 1), np.take_along_axis(last, order, 1)
    edge = np.ones((len(first), 1), np.int64)
    start = np.concatenate([-edge, np.maximum.accumulate(last, axis=1)], axis=1) + 1
    stop = np.concatenate([first, columns * edge], axis=1)
    row, k = np.nonzero(start < stop)
    return row, start[row, k], stop[row, k]
