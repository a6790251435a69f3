"""How is one window drawn so that all windows of its size are equally likely?

Windows are numbered through: by kind of space (those of equal extent), by space, first frame, row and column.  One
random number below their count is one window, whatever the number of spaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ndzarr.targets.spaces import Array, Spaces
from ndzarr.targets.windows import Windows

if TYPE_CHECKING:
    from numpy.random import Generator

AT_ONCE = 1 << 22
"""Sizes times kinds of spaces that are looked at together: bounds memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """All windows of some sizes."""

    spaces: Spaces
    """Where they lie."""
    sizes: Array
    """(height, width) of each size; shape (size, 2)."""
    duration: int | None
    """Frames; None for all."""

    def starts(self, lengths: Array) -> Array:
        """Number of frames with which a window may begin, in spaces of so many."""
        return np.ones_like(lengths) if self.duration is None else np.maximum(lengths - self.duration + 1, 0)

    def draw(self, size: Array, rng: Generator) -> tuple[Windows, Array]:
        """
        A window of each of the sizes, which are given by position.

        Returns
        -------
        Windows, and False where none fits into any space.
        """
        kinds, of_kind = self.spaces.extents
        members, count = np.argsort(of_kind, kind="stable"), np.bincount(of_kind, minlength=kinds.shape[1])
        first = np.cumsum(count) - count
        begins, fits = np.zeros((4, len(size)), np.int64), np.zeros(len(size), bool)
        step = max(1, AT_ONCE // kinds.shape[1])
        for start in range(0, len(self.sizes), step):
            height, width = self.sizes[start : start + step].T
            rows = np.maximum(kinds[1] - height[:, None] + 1, 0)
            columns = np.maximum(kinds[2] - width[:, None] + 1, 0)
            each = self.starts(kinds[0]) * rows * columns  # windows in one space: (size, kind)
            ends = np.cumsum(each * count).reshape(each.shape)
            before = ends - each * count
            mine = np.flatnonzero((size >= start) & (size < start + step))
            mine = mine[ends[size[mine] - start, -1] > before[size[mine] - start, 0]]
            of_size = size[mine] - start
            number = rng.integers(before[of_size, 0], ends[of_size, -1])
            kind = np.searchsorted(ends.reshape(-1), number, side="right") % kinds.shape[1]
            member, number = np.divmod(number - before[of_size, kind], each[of_size, kind])
            number, x = np.divmod(number, columns[of_size, kind])
            t, y = np.divmod(number, rows[of_size, kind])
            begins[:, mine] = members[first[kind] + member], t, y, x
            fits[mine] = True
        return self.windows(size, begins), fits

    def windows(self, size: Array, begins: Array) -> Windows:
        """Windows of those sizes at (space, t, y, x), shape (4, window)."""
        space, t, y, x = begins
        duration = self.spaces.lengths[space] if self.duration is None else np.full(len(space), self.duration)
        height, width = self.sizes[size].T
        return Windows(space, t, t + duration, np.ones_like(t), y, y + height, x, x + width)

    def count(self, size: int) -> Array:
        """Windows of a size in each space; shape (space,)."""
        height, width = self.sizes[size]
        rows, columns = self.spaces.height - height + 1, self.spaces.width - width + 1
        out: Array = self.starts(self.spaces.lengths) * np.maximum(rows, 0) * np.maximum(columns, 0)
        return out
