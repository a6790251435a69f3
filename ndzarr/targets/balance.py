"""How often should each window be seen, so that rare kinds are seen as often as common ones?

1. The attributes divide the table into groups of groups (`hierarchy`): those of the first are to have equal shares (or
   the shares given), in each of them those of the second, and so on; windows of one group are alike.
2. A window with several values of an attribute counts for each of them.  So windows are given out in rounds: each fills
   up the groups that are behind, with what was given before counted in all groups that it belongs to.
3. Amounts are probabilities, or whole numbers of windows.

Choosing a group on every level and then a window of it is the idea of class-aware sampling (Shen, Lin and Huang, "Relay
backpropagation for effective learning of deep convolutional neural networks", 2016); the rounds are new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.targets.attributes import membership
from ndzarr.targets.footprint import as_table, ramps
from ndzarr.targets.hierarchy import Level, Shares, build, fill, whole
from ndzarr.targets.options import several
from ndzarr.targets.options import whole as whole_number
from ndzarr.targets.rows import Rows, Targets

if TYPE_CHECKING:
    import pandas

    from ndzarr.sampler.coco import CocoSampler

Array: TypeAlias = "np.ndarray[Any, Any]"

STEPS = 32
"""Rounds in which probabilities are given out where windows belong to several groups."""


def balanced(
    sampler: CocoSampler,
    table: Targets | Rows,
    by: str | Sequence[str] = "category",
    n: int | None = None,
    replace: bool = True,
    shares: Shares | None = None,
    seed: int = 0,
) -> pandas.DataFrame:
    """
    Balance a table over any attributes.

    Parameters
    ----------
    table
        Targets.
    by
        Attributes, the first divides first: columns of the table (of which cells may be lists), 'category', or a key of
        kwcoco's dictionaries: 'image.sensor_coarse', 'video.name', 'annot.weight', 'category.supercategory'; 'image'
        and 'video' alone are their ids.  Windows that have no value make a group of their own, None.
    n
        How many windows to draw; None keeps the table, with a column `probability`.
    replace
        Whether a window may be drawn more often than once.  If so, windows of a group come in turn, so that none is
        drawn a second time before all others of the group.
    shares
        Attribute to value to its share among its siblings: {'category': {'boat': 2, None: 0.5}}; others have 1, and
        0 leaves a value out.
    seed
        The same one gives the same table.

    Returns
    -------
    The table with a column `probability`, which sums to 1; or the windows drawn, shuffled, with a column `group`, the
    group that each was drawn for.

    Raises
    ------
    TargetError
        An attribute is unknown, or there are fewer windows than are to be drawn without replacement.

    Examples
    --------
    >>> import pandas
    >>> table = pandas.DataFrame({"gid": [1, 1, 1, 2], "kind": ["a", "a", "a", "b"]})
    >>> balanced(None, table, by="kind").probability.round(3).tolist()
    [0.167, 0.167, 0.167, 0.5]
    """
    table = as_table(table)
    n = None if n is None else whole_number("n", n, least=0)
    levels = tree(sampler, table, by, shares)
    if not len(levels[-1].row) and (n is None or n > 0):
        raise TargetError(f"by={by!r}: no window is left to balance")
    if n is None:
        return table.assign(probability=probabilities(levels, len(table)))
    available = int((np.bincount(levels[-1].row, minlength=1) > 0).sum())
    if not replace and n > available:
        raise TargetError(f"n={n}: there are {available} windows; ask for fewer, or replace=True")
    row, leaf = draw(levels, len(table), n, replace, np.random.default_rng(seed))
    names = np.array(group_names(levels), object)
    return table.iloc[row].assign(group=names[leaf]).reset_index(drop=True)


def tree(
    sampler: CocoSampler, table: pandas.DataFrame, by: str | Sequence[str], shares: Shares | None = None
) -> list[Level]:
    """
    The groups of a table, level by level.

    Raises
    ------
    TargetError
        An attribute is unknown.
    """
    names = several(by)
    if not names or not all(isinstance(name, str) for name in names):
        raise TargetError(f"by={by!r}: expected at least one attribute, by name")
    return build([membership(sampler, table, name) for name in names], len(table), shares or {})


def probabilities(levels: Sequence[Level], n: int) -> Array:
    """Of each of n rows; they sum to 1."""
    leaves = levels[-1]
    size = np.maximum(1, np.bincount(leaves.group, minlength=len(leaves)))
    steps = 1 if all(_alone(level) for level in levels) else STEPS
    weight: Array = np.zeros(len(leaves))
    of_row: Array = np.zeros(n)
    for _ in range(steps):
        amount = np.array([1 / steps])
        for level in levels:
            amount = fill(level, amount, level.amounts(of_row), np.full(len(level), np.inf))
        weight += amount
        of_row = np.bincount(leaves.row, (weight / size)[leaves.group], minlength=n)
    return np.asarray(of_row / of_row.sum())


def _alone(level: Level) -> bool:
    """True where no row is in two groups."""
    return len(level.row) < 2 or bool((np.bincount(level.row) < 2).all())


def draw(levels: Sequence[Level], rows: int, n: int, replace: bool, rng: np.random.Generator) -> tuple[Array, Array]:
    """
    Rows that are drawn, in random order, and the leaf that each was drawn for.

    Parameters
    ----------
    rows
        Of the table.
    n
        To draw.
    """
    leaves = levels[-1]
    alone = all(_alone(level) for level in levels)
    order = np.lexsort((rng.random(len(leaves.row)), leaves.group))
    turns = _Turns(leaves.row[order], leaves.group[order], len(leaves))
    drawn, leaf = np.zeros(0, np.int64), np.zeros(0, np.int64)
    count: Array = np.zeros(rows)
    while len(drawn) < n:
        rest = n - len(drawn)
        amount = np.array([rest if alone else -(-rest // 4)])
        for level in levels:
            room = np.full(len(level), np.inf) if replace else level.amounts(count == 0)
            amount = whole(level, fill(level, amount, level.amounts(count), room), amount, room, rng)
        new, group = turns.take(amount) if replace else turns.take_once(amount, count > 0)
        drawn, leaf = np.r_[drawn, new], np.r_[leaf, group]
        count += np.bincount(new, minlength=rows)
    shuffled = rng.permutation(n)
    return drawn[shuffled], leaf[shuffled]


class _Turns:
    """The rows of each leaf in a random order, handed out in turn."""

    def __init__(self, row: Array, leaf: Array, leaves: int) -> None:
        self.row, self.leaf = row, leaf
        self.size = np.bincount(leaf, minlength=leaves)
        self.first = np.cumsum(self.size) - self.size
        self.given = np.zeros(leaves, np.int64)

    def take(self, number: Array) -> tuple[Array, Array]:
        """So many rows of each leaf, from the beginning again where they are used up."""
        leaf = np.repeat(np.arange(len(number)), number)
        turn = (self.given[leaf] + ramps(number)) % self.size[leaf]
        self.given += number
        return self.row[self.first[leaf] + turn], leaf

    def take_once(self, number: Array, taken: Array) -> tuple[Array, Array]:
        """Up to so many rows of each leaf that were not taken before, none of them twice."""
        free = np.flatnonzero(~taken[self.row])
        leaf = self.leaf[free]
        rank = np.arange(len(free)) - np.searchsorted(leaf, leaf)
        chosen = free[rank < number[leaf]]
        row, first = np.unique(self.row[chosen], return_index=True)
        return row, self.leaf[chosen[first]]


def group_names(levels: Sequence[Level]) -> list[str]:
    """What each leaf is called: 'video 1/boat'."""
    names: list[str] = [""]
    for level in levels:
        own = [str(v) for v in level.values]
        pairs = zip(level.parent.tolist(), level.value.tolist(), strict=True)
        names = [f"{names[p]}/{own[v]}" if names[p] else own[v] for p, v in pairs]
    return names
