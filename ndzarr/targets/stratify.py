"""Which group goes to which part, so that each part has its fraction of the rows and of every label?

Groups that have as many rows of each label as each other are alike, and are shared out by number: a million images with
one row each are a few kinds.

1. Kinds are taken in order of size, those that hold most of some label first.  Their groups go where they lower (or
   least raise) the sum over parts and labels of (share of the label in the part - fraction)^2 / fraction: many at once
   as if they could be divided, the rest one by one.
2. Groups are then moved, and pairs exchanged while there are few, as long as that lowers the sum.

The first step is what scikit-learn's `StratifiedGroupKFold` does for folds of equal size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"

PASSES = 10
"""Sweeps over all kinds at most, to improve."""
CLOSE = 1e-4
"""Shares that are as near to the fractions are not improved."""
FEW = 400
"""Kinds in a part up to which pairs are exchanged."""


def assign(counts: Array, fractions: Array, rng: np.random.Generator) -> Array:
    """
    Share out groups.

    Parameters
    ----------
    counts
        Rows of each group (first column) and of each label in it; shape (group, 1 + label).
    fractions
        Of each part; above 0, with sum 1.

    Returns
    -------
    The part of each group; shape (group,).  No part is without rows if there are enough groups that have some; groups
    that have none go to the largest part.
    """
    chosen = np.full(len(counts), int(np.argmax(fractions)))
    filled = np.flatnonzero(counts.any(axis=1))
    kind = _alike(counts[filled])
    first, number = np.unique(kind, return_index=True, return_counts=True)[1:]
    kinds = counts[filled[first]]
    total = kinds.T @ number
    values = kinds / np.where(total > 0, total, 1)
    values[:, 0] *= np.sqrt(max(1, values.shape[1] - 1))  # sizes count as much as all labels together
    given = np.zeros((len(kinds), len(fractions)), np.int64)
    shared = _Shared(values, fractions, given, off=-fractions[:, None] * (values.T @ number))
    shared.deal(number, rng)
    shared.fill_empty()
    shared.improve(rng)
    order = np.lexsort((rng.random(len(filled)), kind))
    chosen[filled[order]] = np.repeat(np.tile(np.arange(len(fractions)), len(kinds)), shared.given.reshape(-1))
    return chosen


def _alike(counts: Array) -> Array:
    """Numbers of equal rows, from 0; shape (row,)."""
    kind = np.zeros(len(counts), np.int64)
    for column in counts.T:  # np.unique(axis=0) takes ten times as long
        values, code = np.unique(column, return_inverse=True)
        kind = np.unique(kind * len(values) + code, return_inverse=True)[1]
    return kind


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    """Groups as they have been shared out so far."""

    values: Array
    """What a group of each kind has of all rows, and of each label; shape (kind, column)."""
    fractions: Array
    """Of each part; shape (part,)."""
    given: Array
    """Groups of each kind in each part; shape (kind, part)."""
    off: Array
    """What each part has too much of each column; shape (part, column)."""

    def change(self, value: Array) -> Array:
        """What adding a group to each part does to the sum; shape (part,)."""
        return np.asarray((2 * (self.off @ value) + value @ value) / self.fractions)

    def give(self, kind: int, part: int, number: int = 1) -> None:
        """Groups to a part; fewer than none takes them from it."""
        self.given[kind, part] += number
        self.off[part] += number * self.values[kind]

    def deal(self, number: Array, rng: np.random.Generator) -> None:
        """So many groups of each kind."""
        for kind in np.lexsort((rng.random(len(number)), -np.round(self.values.max(axis=1), 12))).tolist():
            rest = int(number[kind])
            if rest > len(self.fractions):
                whole = np.floor(self.divided(self.values[kind], rest)).astype(np.int64)
                for part in np.flatnonzero(whole).tolist():
                    self.give(kind, part, int(whole[part]))
                rest -= int(whole.sum())
            for _ in range(rest):
                self.give(kind, int(np.argmin(self.change(self.values[kind]))))

    def divided(self, value: Array, number: int) -> Array:
        """
        How many groups of a kind each part would get if they could be divided; shape (part,).

        Parts are filled up to one level, as with water: a part that is above it gets none.
        """
        height = self.off @ value / self.fractions
        low = np.argsort(height)
        capacity = np.cumsum(self.fractions[low])
        level = (number * (value @ value) + np.cumsum(self.fractions[low] * height[low])) / capacity
        above = np.append(height[low][1:], np.inf)
        return np.asarray(np.maximum(level[np.argmax(level <= above)] - height, 0) * self.fractions / (value @ value))

    def fill_empty(self) -> None:
        """Give each part without groups the smallest of one that has several."""
        for empty in np.flatnonzero(self.given.sum(axis=0) == 0).tolist():
            kind, part = np.nonzero(self.given * (self.given.sum(axis=0) > 1))
            if len(kind):
                k = int(np.argmin(self.values[kind].sum(axis=1)))
                self.give(int(kind[k]), int(part[k]), -1)
                self.give(int(kind[k]), empty)

    def improve(self, rng: np.random.Generator) -> None:
        """Move and exchange groups while that helps."""
        for _ in range(PASSES):
            if np.abs(self.off).max(initial=0) < CLOSE:
                return
            kind, part = np.nonzero(self.given)
            moved = False
            for k in rng.permutation(len(kind)).tolist():
                moved |= self._move(int(kind[k]), int(part[k]))
            if np.count_nonzero(self.given) <= FEW:
                moved |= self._exchange()
            if not moved:
                return

    def _move(self, kind: int, here: int) -> bool:
        """Groups of a kind to the part where they help most, if they do; the last group of a part stays."""
        most = int(min(self.given[kind, here], self.given[:, here].sum() - 1))
        if most < 1:
            return False
        value = self.values[kind]
        self.off[here] -= value
        change = self.change(value)
        self.off[here] += value
        there = int(np.argmin(change))
        if change[there] >= change[here] - 1e-12:
            return False
        ends = [here, there]
        slope = self.off[ends] @ value / self.fractions[ends]
        best = (slope[0] - slope[1]) / (value @ value) / (1 / self.fractions[ends]).sum()
        number = int(np.clip(round(float(best)), 1, most))
        self.give(kind, here, -number)
        self.give(kind, there, number)
        return True

    def _exchange(self) -> bool:
        """Exchange a group of each kind and part with the one of another part that helps most."""
        moved = False
        for kind, here in zip(*(axis.tolist() for axis in np.nonzero(self.given)), strict=True):
            if not self.given[kind, here]:
                continue
            kinds, parts = np.nonzero(self.given)
            step = self.values[kinds] - self.values[kind]  # what `here` gains, and the other part loses
            squares = (step * step).sum(axis=1)
            gain = (2 * (step @ self.off[here]) + squares) / self.fractions[here]
            loss = (-2 * (step * self.off[parts]).sum(axis=1) + squares) / self.fractions[parts]
            change = np.where(parts == here, 0.0, gain + loss)
            best = int(np.argmin(change))
            if change[best] < -1e-12:
                other, there = int(kinds[best]), int(parts[best])
                for one, source, goal in ((kind, here, there), (other, there, here)):
                    self.give(one, source, -1)
                    self.give(one, goal)
                moved = True
        return moved
