"""What is a window, before it becomes a row of a table?

Half-open integer intervals in a space: frames t0, t0 + step, ... below t1, rows y0 to y1, columns x0 to x1.
"""

from __future__ import annotations

from dataclasses import dataclass

from ndzarr.targets.spaces import Array, Boxes


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Windows as columns; all have shape (window,)."""

    space: Array
    """Position among the spaces."""
    t0: Array
    """First frame."""
    t1: Array
    """Frame after the last."""
    step: Array
    """From frame to frame."""
    y0: Array
    """First row of pixels."""
    y1: Array
    """Row after the last."""
    x0: Array
    """First column of pixels."""
    x1: Array
    """Column after the last."""

    def __len__(self) -> int:
        return len(self.space)

    @property
    def area(self) -> Array:
        """Square pixels, what lies outside the space included."""
        out: Array = (self.y1 - self.y0) * (self.x1 - self.x0)
        return out

    def take(self, index: Array) -> Windows:
        """Some of them, by position or mask."""
        columns = (self.space, self.t0, self.t1, self.step, self.y0, self.y1, self.x0, self.x1)
        return Windows(*(c[index] for c in columns))


def holds_frame(windows: Windows, boxes: Boxes, window: Array, box: Array) -> Array:
    """For pairs of windows and boxes of one space, whether the window has the box's frame; shape (pair,)."""
    t, start = boxes.frame[box], windows.t0[window]
    inside: Array = (t >= start) & (t < windows.t1[window]) & ((t - start) % windows.step[window] == 0)
    return inside
