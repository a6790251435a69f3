"""Where do the windows of a sliding grid lie, and which of them does a box touch?

Along one axis of length L, windows of n pixels begin at 0, s, 2s, ... (s is n less the overlap) until they reach the
end.  Starts are a formula of their number, so a million windows, and the range of windows that each box touches, are a
few operations on columns: no tree, and no loop over spaces, windows or boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.targets.options import whole
from ndzarr.targets.spaces import Array, Boxes
from ndzarr.targets.windows import Windows

BORDERS = ("shift", "pad", "drop")
"""What becomes of the last window, where windows do not end with the space: moved inward, left as it is (what lies
outside is padded), or left out."""


def at_borders(keep_borders: bool | str) -> str:
    """
    One of `BORDERS`.

    Raises
    ------
    TargetError
        It is neither True, False nor one of them.
    """
    borders = ("drop", "shift")[bool(keep_borders)] if isinstance(keep_borders, (bool, np.bool_)) else keep_borders
    if borders not in BORDERS:
        raise TargetError(f"keep_borders={keep_borders!r}: expected True, False or one of {', '.join(BORDERS)}")
    return borders


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Windows along one axis of each space; all have shape (space,)."""

    length: Array
    """Pixels or frames of the space."""
    size: Array
    """Pixels or frames of a window."""
    stride: Array
    """From one window to the next."""
    count: Array
    """Number of windows."""
    borders: str
    """One of `BORDERS`."""

    def start(self, space: Array, number: Array) -> Array:
        """Where windows begin."""
        start = number * self.stride[space]
        if self.borders != "shift":
            return start
        out: Array = np.minimum(start, np.maximum(self.length - self.size, 0)[space])
        return out

    def touched(self, space: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """The first window that ends after `low`, and the number of windows that begin before `high`."""
        stride, size, count = self.stride[space], self.size[space], self.count[space]
        first = np.clip((np.floor(low).astype(np.int64) - size) // stride + 1, 0, count)
        stop = np.clip(-(-np.ceil(high).astype(np.int64) // stride), 0, count)
        if self.borders == "shift":  # the last window may begin, and end, earlier than its number says
            last = self.start(space, count - 1)
            first = np.where((first == count - 1) & (last + size <= low), count, first)
            stop = np.where((stop == count - 1) & (last < high), count, stop)
        return first, stop


def axis(name: str, lengths: Array, size: Any, overlap: Any, borders: str) -> Axis:
    """
    Windows along an axis.

    Parameters
    ----------
    size
        Pixels or frames, or 'full' for the whole length.
    overlap
        Of neighbours: an integer is pixels or frames, a float below 1 the fraction of the window.

    Raises
    ------
    TargetError
        A size below 1, or an overlap that leaves no step.

    Examples
    --------
    >>> along = axis("x", np.array([100]), 40, 0.25, "shift")
    >>> along.start(np.zeros(along.count[0], int), np.arange(along.count[0]))
    array([ 0, 30, 60])
    """
    if isinstance(size, str) or size is None:
        if size not in ("full", None):
            raise TargetError(f"{name}={size!r}: expected a number or 'full'")
        return Axis(lengths, lengths, lengths, np.ones_like(lengths), borders)
    size = whole(name, size)
    stride = size - _pixels(name, size, overlap)
    beyond = lengths - size
    count = np.maximum(beyond // stride + 1, 0) if borders == "drop" else np.maximum(-(-beyond // stride), 0) + 1
    return Axis(lengths, np.full_like(lengths, size), np.full_like(lengths, stride), count, borders)


def _pixels(name: str, size: int, overlap: Any) -> int:
    """Overlap in pixels."""
    pixels = overlap
    if isinstance(overlap, Real) and not isinstance(overlap, Integral) and 0 <= float(overlap) < 1:
        pixels = min(round(size * float(overlap)), size - 1)
    if not isinstance(pixels, Integral) or not 0 <= int(pixels) < size:
        raise TargetError(
            f"overlap={overlap!r} of {name}={size}: expected a fraction from 0 to below 1, or whole pixels below {size}"
        )
    return int(pixels)


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """All windows of a grid, numbered through: by space, then by t, y and x."""

    axes: Sequence[Axis]
    """Along t, y, x."""

    @property
    def counts(self) -> Array:
        """Windows of each space; shape (space,)."""
        t, y, x = (a.count for a in self.axes)
        return t * y * x

    def windows(self) -> Windows:
        """All of them."""
        counts = self.counts
        space = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(space)) - np.repeat(np.cumsum(counts) - counts, counts)
        edges: list[Array] = []
        for along in reversed(self.axes):
            count = along.count[space]
            start = along.start(space, number % count)
            number = number // count
            edges = [start, start + along.size[space], *edges]
        t0, t1, *rest = edges
        return Windows(space, t0, t1, np.ones_like(t0), *rest)

    def touching(self, boxes: Boxes) -> tuple[Array, Array]:
        """Pairs of the number of a window and the position of a box that share area, sorted by window, then box."""
        t, y, x = self.axes
        ranges = [
            t.touched(boxes.space, boxes.frame, boxes.frame + 1),
            y.touched(boxes.space, boxes.y0, boxes.y1),
            x.touched(boxes.space, boxes.x0, boxes.x1),
        ]
        many = [np.maximum(stop - first, 0) for first, stop in ranges]
        each = many[0] * many[1] * many[2]
        box = np.repeat(np.arange(len(boxes)), each)
        number = np.arange(len(box)) - np.repeat(np.cumsum(each) - each, each)
        space = boxes.space[box]
        window = (np.cumsum(self.counts) - self.counts)[space]
        unit = np.ones(len(box), np.int64)
        for along, (first, _), n in reversed(list(zip(self.axes, ranges, many, strict=True))):
            window = window + (first[box] + number % n[box]) * unit
            number = number // n[box]
            unit = unit * along.count[space]
        order = np.argsort(window, kind="stable")
        return window[order], box[order]
