"""Which group goes to which part, so that each part has its fraction of the rows and of every label?

1. Groups are taken in order of size, those that hold most of some label first, and each goes to the part where it
   lowers (or least raises) the sum over parts and labels of (share of the label in the part - fraction)^2 / fraction.
2. Single groups are then moved, and pairs exchanged while there are few, as long as that lowers the sum.

The first step is what scikit-learn's `StratifiedGroupKFold` does for folds of equal size.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"

PASSES = 10
"""Sweeps over all groups at most, to improve."""
FEW = 400
"""Groups up to which pairs are exchanged."""


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
    The part of each group; shape (group,).  No part is empty if there are enough groups.
    """
    total = counts.sum(axis=0)
    parts = counts / np.where(total > 0, total, 1)
    weight = np.ones(parts.shape[1])
    weight[0] = max(1, parts.shape[1] - 1)  # sizes count as much as all labels together
    parts = parts * np.sqrt(weight)
    off = -fractions[:, None] * np.sqrt(weight)
    chosen = np.full(len(parts), -1, np.int64)
    order = np.lexsort((rng.random(len(parts)), -np.round(parts.max(axis=1), 12)))
    for k in order.tolist():
        chosen[k] = np.argmin(_change(off, parts[k], fractions))
        off[chosen[k]] += parts[k]
    _fill_empty(chosen, parts, off, fractions)
    _improve(chosen, parts, off, fractions, rng)
    return chosen


def _change(off: Array, part: Array, fractions: Array) -> Array:
    """What adding a group to each part does to the sum."""
    return np.asarray((2 * (off @ part) + part @ part) / fractions)


def _fill_empty(chosen: Array, parts: Array, off: Array, fractions: Array) -> None:
    """Give each part without groups the smallest of one that has several."""
    for empty in np.flatnonzero(np.bincount(chosen, minlength=len(fractions)) == 0).tolist():
        several = np.bincount(chosen, minlength=len(fractions))[chosen] > 1
        if several.any():
            k = int(np.flatnonzero(several)[np.argmin(parts[several].sum(axis=1))])
            _move(k, empty, chosen, parts, off)


def _move(k: int, to: int, chosen: Array, parts: Array, off: Array) -> None:
    off[chosen[k]] -= parts[k]
    off[to] += parts[k]
    chosen[k] = to


def _improve(chosen: Array, parts: Array, off: Array, fractions: Array, rng: np.random.Generator) -> None:
    number = np.bincount(chosen, minlength=len(fractions))
    for _ in range(PASSES):
        moved = False
        for k in rng.permutation(len(parts)).tolist():
            here = int(chosen[k])
            if number[here] < 2:
                continue
            off[here] -= parts[k]
            change = _change(off, parts[k], fractions)
            off[here] += parts[k]
            best = int(np.argmin(change))
            if change[best] < change[here] - 1e-12:
                _move(k, best, chosen, parts, off)
                number[here] -= 1
                number[best] += 1
                moved = True
        if len(parts) <= FEW:
            moved |= _exchange(chosen, parts, off, fractions)
        if not moved:
            return


def _exchange(chosen: Array, parts: Array, off: Array, fractions: Array) -> bool:
    """Exchange each group with the one of another part that helps most."""
    moved = False
    for k in range(len(parts)):
        here = int(chosen[k])
        step = parts - parts[k]  # what `here` gains, and the other part loses
        gain = (2 * (step @ off[here]) + (step * step).sum(axis=1)) / fractions[here]
        loss = (-2 * (step * off[chosen]).sum(axis=1) + (step * step).sum(axis=1)) / fractions[chosen]
        change = np.where(chosen == here, 0.0, gain + loss)
        best = int(np.argmin(change))
        if change[best] < -1e-12:
            there = int(chosen[best])
            _move(k, there, chosen, parts, off)
            _move(best, here, chosen, parts, off)
            moved = True
    return moved
