"""Which boxes share area with a window, in the space of the window?

The boxes of the images that are sampled together (one image, or the frames of a video) are moved to the sampled space
once, and kept as columns: a look-up is then four comparisons and one gathering, whatever the space.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

KEPT_BYTES = 64 << 20
"""Columns that a table keeps, beside itself: about 800,000 boxes in one space."""

_ENTRY_BYTES = 1024
"""What the objects take besides their numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """The boxes of some images in one space."""

    frame: np.ndarray[Any, Any]
    """Position of the image of each among those that are sampled; shape (n,)."""
    offset: np.ndarray[Any, Any]
    """What makes positions here rows of the table, per image."""
    columns: np.ndarray[Any, Any]
    """x, y, width, height in the space; shape (4, n), NaN where there is no box."""
    far: np.ndarray[Any, Any]
    """x and y of the far corner; shape (2, n).  Boxes without area, points and lines, reach a little further than they
    do, so that they touch the window that holds them."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return _ENTRY_BYTES + self.offset.nbytes + self.frame.nbytes + self.columns.nbytes + self.far.nbytes

    def touching(
        self, window: tuple[float, float, float, float]
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """
        What shares area with a window: y start, y stop, x start, x stop.

        Returns
        -------
        rows, frame, boxes
            Shapes (k,), (k,) and (k, 4).
        """
        y0, y1, x0, x1 = window
        hit = self.columns[0] < x1
        hit &= self.columns[1] < y1
        hit &= self.far[0] > x0
        hit &= self.far[1] > y0
        found = np.flatnonzero(hit)
        # take() gathers many times faster than an index does.
        frame = self.frame.take(found)
        return found + self.offset.take(frame), frame, self.columns.take(found, axis=1).T


def place(parts: Sequence[tuple[slice, np.ndarray[Any, Any], np.ndarray[Any, Any] | None]]) -> Placed:
    """
    Move boxes to the sampled space.

    Parameters
    ----------
    parts
        Per image its rows in the table, the columns x, y, width, height of them, shape (4, n), and the transform to the
        space; None if that is the image's own.
    """
    ends = [0, *accumulate(rows.stop - rows.start for rows, _, _ in parts)]
    columns, far = np.empty((4, ends[-1])), np.empty((2, ends[-1]))
    frame = np.zeros(ends[-1], np.intp)
    for k, (_, boxes, to_space) in enumerate(parts):
        mine = slice(ends[k], ends[k + 1])
        if k:
            frame[mine] = k
        if to_space is None:
            columns[:, mine] = boxes
        else:
            _warp(to_space[:2], boxes, columns[:, mine])
    np.maximum(columns[2:], 1e-9, out=far)
    far += columns[:2]
    offset = np.array([own.start - end for (own, _, _), end in zip(parts, ends[:-1], strict=True)], np.intp)
    return Placed(frame, offset, columns, far)


def _warp(matrix: np.ndarray[Any, Any], boxes: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
    """The upright boxes that hold the images of boxes: `warp_boxes`, column by column."""
    linear, shift = matrix[:, :2], matrix[:, 2:]
    corner = np.matmul(linear, boxes[:2], out=out[:2])
    if linear.min() < 0:  # another corner becomes the first
        corner += np.minimum(linear, 0) @ boxes[2:]
    corner += shift
    np.matmul(abs(linear), boxes[2:], out=out[2:])


class Kept:
    """What was placed lately, the oldest dropped first; it pickles empty."""

    def __init__(self, max_bytes: int = KEPT_BYTES) -> None:
        self._placed: dict[Hashable, Placed] = {}
        self._bytes = 0
        self.max_bytes = max_bytes

    def get(self, key: Hashable) -> Placed | None:
        """What was put there; None if it is not held."""
        return self._placed.get(key)

    def put(self, key: Hashable, placed: Placed) -> None:
        """Hold it, unless it is larger than the budget."""
        if placed.nbytes > self.max_bytes:
            return
        while self._placed and self._bytes + placed.nbytes > self.max_bytes:
            try:
                self._bytes -= self._placed.pop(next(iter(self._placed))).nbytes
            except (StopIteration, KeyError, RuntimeError):  # another thread was faster
                break
        if not self._placed:
            self._bytes = 0  # threads that race may count one twice; this is where that ends
        if self._placed.setdefault(key, placed) is placed:
            self._bytes += placed.nbytes

    def clear(self) -> None:
        """Forget everything."""
        self._placed.clear()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return self._bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, (self.max_bytes,)
