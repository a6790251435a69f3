"""Which boxes share area with a window, in the space of the window?

The boxes of the images that are sampled together (one image, or the frames of a video) are moved to the sampled space
once, and kept: a look-up is then four comparisons and one gathering, whatever the space.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

KEPT_BYTES = 64 << 20
"""What a table keeps, beside itself: about 900,000 boxes."""

_ENTRY_BYTES = 1024
"""What the objects take besides their numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """The boxes of some images in one space."""

    frame: np.ndarray[Any, Any]
    """Position of the image of each among those that are sampled; shape (n,)."""
    offset: np.ndarray[Any, Any]
    """What makes positions here rows of the table, per image."""
    near: np.ndarray[Any, Any]
    """x and y of the near corner; shape (2, n), NaN where there is no box."""
    far: np.ndarray[Any, Any]
    """x and y of the far corner; shape (2, n).  Boxes without area, points and lines, reach a little further than they
    do, so that they touch the window that holds them."""
    boxes: np.ndarray[Any, Any]
    """x, y, width, height in the space; shape (n, 4).  Corners are compared column by column, boxes gathered whole:
    rows of four are gathered several times as quickly as four columns."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        arrays = self.frame, self.offset, self.near, self.far, self.boxes
        return _ENTRY_BYTES + sum([array.nbytes for array in arrays])

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
        hit = self.near[0] < x1
        hit &= self.near[1] < y1
        hit &= self.far[0] > x0
        hit &= self.far[1] > y0
        found = hit.nonzero()[0]
        # take() gathers many times faster than an index does.
        boxes = self.boxes.take(found, axis=0)
        if len(self.offset) == 1:
            return found + self.offset[0], np.zeros(len(found), np.intp), boxes
        frame = self.frame.take(found)
        return found + self.offset.take(frame), frame, boxes


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
    near, far, boxes = np.empty((2, ends[-1])), np.empty((2, ends[-1])), np.empty((ends[-1], 4))
    frame = np.zeros(ends[-1], np.intp)
    for k, (_, columns, to_space) in enumerate(parts):
        mine = slice(ends[k], ends[k + 1])
        if k:
            frame[mine] = k
        corner, size = near[:, mine], columns[2:]
        if to_space is None:
            corner[...] = columns[:2]
        else:
            size = _warped(to_space[:2], columns, corner)
        np.maximum(size, 1e-9, out=far[:, mine])
        for j, column in enumerate((*corner, *size)):
            boxes[mine, j] = column
    far += near
    offset = np.array([own.start - end for (own, _, _), end in zip(parts, ends[:-1], strict=True)], np.intp)
    return Placed(frame, offset, near, far, boxes)


def _warped(
    matrix: np.ndarray[Any, Any], boxes: np.ndarray[Any, Any], corner: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Sizes of the upright boxes that hold the images of boxes; their corners go into `corner`.  As `warp_boxes`."""
    linear, shift = matrix[:, :2], matrix[:, 2:]
    if not linear[0, 1] and not linear[1, 0] and linear.min() >= 0:  # nearly always: scaled and shifted
        scale = linear.diagonal()[:, None]
        np.multiply(boxes[:2], scale, out=corner)
        corner += shift
        return np.asarray(boxes[2:] * scale)
    np.matmul(linear, boxes[:2], out=corner)
    if linear.min() < 0:  # another corner becomes the first
        corner += np.minimum(linear, 0) @ boxes[2:]
    corner += shift
    return np.asarray(abs(linear) @ boxes[2:])


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
