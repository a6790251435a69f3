"""Balanced tables: rare kinds of windows are seen as often as common ones.

1. Attributes divide the table into groups, level by level: the groups of the first attribute have equal shares (or the
   shares given), within each of them those of the second, and so on.  Windows of one group are alike.
2. A window with several values of an attribute counts for each of them.  So the allocation proceeds in rounds: each
   fills up the groups that are behind, with what was given before counted in all groups that a window belongs to.
3. Amounts are probabilities, or whole numbers of windows.

Choosing a group on every level and then a window of it is class-aware sampling (Shen, Lin and Huang, "Relay
backpropagation for effective learning of deep convolutional neural networks", 2016); the rounds are new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._validation import as_list, check_target_count
from ndzarr.errors import TargetError, did_you_mean
from ndzarr.targets.attributes import Membership, membership
from ndzarr.targets.table import Rows, TargetsLike, aligned, as_table
from ndzarr.targets.windows import Array, column, ramps

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

    from ndzarr._sampling.protocols import SampleSource


Shares: TypeAlias = "Mapping[str, Mapping[Any, float]]"
"""Attribute to value to its share among its siblings; values that are left out have 1."""

HALVINGS = 60  # steps of the search for a level: as many as float64 has bits
ROUNDS = 32  # rounds in which probabilities are given out where windows belong to several groups


def balanced(
    source: SampleSource,
    targets: TargetsLike | Rows,
    by: str | Sequence[str],
    n: int | None,
    replace: bool,
    shares: Shares | None,
    seed: int | np.random.Generator | None,
) -> pandas.DataFrame:
    """Balance a table over attributes; see `Targets.balanced`."""
    table = as_table(targets)
    n = None if n is None else check_target_count("n", n, least=0)
    levels = build_levels(source, table, by, shares)
    if not len(levels[-1].row) and (n is None or n > 0):
        raise TargetError(f"by={by!r}: no window is left to balance", key="by")
    if n is None:
        return table.assign(probability=_probabilities(levels, len(table)))
    available = int((np.bincount(levels[-1].row, minlength=1) > 0).sum())
    if not replace and n > available:
        raise TargetError(f"n={n}: there are {available} windows", key="n", hint="Ask for fewer, or pass replace=True")
    row, leaf = _draw(levels, len(table), n, replace, np.random.default_rng(seed))
    names = np.array(["/".join(map(str, values)) for values in _groups(levels)], object)
    return table.iloc[row].assign(group=names[leaf]).reset_index(drop=True)


def distribution(
    source: SampleSource, targets: TargetsLike | Rows, by: str | Sequence[str], shares: Shares | None
) -> Distribution:
    """Count windows per group of values; see `Targets.distribution`."""
    table = as_table(targets)
    levels = build_levels(source, table, by, shares)
    weight = column(table, "probability", 0.0) if "probability" in table else np.ones(len(table))
    wanted = np.ones(1)
    for level in levels:
        sums = np.bincount(level.parent, level.share, minlength=len(wanted))
        wanted = wanted[level.parent] * level.share / sums[level.parent]
    leaves = levels[-1]
    amount = leaves.amounts(weight)
    return Distribution(
        by=tuple(level.name for level in levels),
        groups=tuple(_groups(levels)),
        windows=np.bincount(leaves.group, minlength=len(leaves)),
        share=amount / (amount.sum() or 1.0),
        wanted=wanted,
        total=len(table),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The groups that one attribute divides the table into."""

    name: str
    values: tuple[Any, ...]
    parent: Array  # group on the level above, ascending; shape (group,)
    value: Array  # position among `values`; shape (group,)
    share: Array  # share that is wanted, relative to siblings; shape (group,)
    row: Array  # rows of the table, one entry for each group that a row belongs to; shape (entry,)
    group: Array  # the group of each entry; shape (entry,)

    def __len__(self) -> int:
        return len(self.parent)

    def amounts(self, of_row: Array) -> Array:
        """Return what the rows of each group have together; shape (group,)."""
        return np.bincount(self.group, of_row[self.row], minlength=len(self))


def build_levels(
    source: SampleSource, table: pandas.DataFrame, by: str | Sequence[str], shares: Shares | None
) -> list[Level]:
    """Return the groups of a table, level by level."""
    names, shares, n = as_list(by), shares or {}, len(table)
    if not names or not all(isinstance(name, str) for name in names):
        raise TargetError(f"by={by!r}: expected at least one attribute, by name", key="by")
    members = [membership(source, table, name) for name in names]
    for name in shares:
        if name not in names:
            raise TargetError(f"shares: {name!r} is not balanced{did_you_mean(name, names)}", key="shares")
    row, group, levels = np.arange(n), np.zeros(n, np.int64), []
    for found in members:
        share = _shares(found, shares.get(found.name, {}))
        keep = share[found.code] > 0
        of_row, code = found.row[keep], found.code[keep]
        number = np.bincount(of_row, minlength=n)
        first = np.cumsum(number) - number
        each = number[row]
        # Each (row, group) entry becomes one entry per value that the row has.
        code = code[np.repeat(first[row], each) + ramps(each)]
        row, above = np.repeat(row, each), np.repeat(group, each)
        key, group = np.unique(above * max(1, len(found.values)) + code, return_inverse=True)
        parent, value = np.divmod(key, max(1, len(found.values)))
        levels.append(Level(found.name, found.values, parent, value, share[value], row, group))
    # A row whose values of a deeper attribute have no share does not belong to any group above either.
    return [_reached(level, levels[-1].row, n) for level in levels]


def _reached(level: Level, row: Array, n: int) -> Level:
    """Return a level without the rows that are in no leaf; groups that only had such rows stay, and get nothing."""
    reached = np.zeros(n, bool)
    reached[row] = True
    keep = reached[level.row]
    filled = np.bincount(level.group[keep], minlength=len(level)) > 0
    return replace(level, share=level.share * filled, row=level.row[keep], group=level.group[keep])


def _shares(found: Membership, wanted: Mapping[Any, float]) -> Array:
    unknown = [v for v in wanted if v not in found.values]
    if unknown:
        known = did_you_mean(unknown[0], found.values)
        raise TargetError(f"shares: no window has {found.name}={unknown[0]!r}{known}", key="shares")
    share = np.array([wanted.get(v, 1.0) for v in found.values], float)
    if not (np.isfinite(share).all() and (share >= 0).all()):
        raise TargetError(f"shares={dict(wanted)!r}: expected numbers of at least 0", key="shares")
    return share


def allocate(level: Level, amount: Array, have: Array, room: Array) -> Array:
    """
    Divide the amount of each group above among its groups; shape (group,).

    No group gets more than its room, and what groups `have` plus what they get is as near to the shares as can be.
    """
    share = np.where(level.share > 0, level.share, 1)
    room = np.where(level.share > 0, np.minimum(room, amount[level.parent]), 0)
    above = len(amount)
    low, high = np.zeros(above), np.zeros(above)
    np.maximum.at(high, level.parent, (have + room) / share)
    # Bisection for the level up to which the groups below each group above are filled.
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        given = np.clip(middle[level.parent] * share - have, 0, room)
        enough = np.bincount(level.parent, given, minlength=above) >= amount
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.asarray(np.clip(high[level.parent] * share - have, 0, room))


def _round(level: Level, given: Array, amount: Array, room: Array, rng: np.random.Generator) -> Array:
    """Round down what each group gets; what is left goes to the largest remainders, by chance where these are equal."""
    room = np.where(level.share > 0, room, 0)
    down = np.minimum(np.floor(given + 1e-6), room)
    rest = amount - np.bincount(level.parent, down, minlength=len(amount))
    open_ = np.flatnonzero(down < room)
    remainder = np.round(given[open_] - down[open_], 6)
    order = open_[np.lexsort((rng.random(len(open_)), -remainder, level.parent[open_]))]
    parent = level.parent[order]
    rank = np.arange(len(order)) - np.searchsorted(parent, parent)
    down[order[rank < rest[parent]]] += 1
    return down.astype(np.int64)


def _probabilities(levels: Sequence[Level], n: int) -> Array:
    """Return the probability of each of n rows; they sum to 1."""
    leaves = levels[-1]
    size = np.maximum(1, np.bincount(leaves.group, minlength=len(leaves)))
    steps = 1 if all(_alone(level) for level in levels) else ROUNDS
    weight: Array = np.zeros(len(leaves))
    of_row: Array = np.zeros(n)
    for _ in range(steps):
        amount = np.array([1 / steps])
        for level in levels:
            amount = allocate(level, amount, level.amounts(of_row), np.full(len(level), np.inf))
        weight += amount
        of_row = np.bincount(leaves.row, (weight / size)[leaves.group], minlength=n)
    return np.asarray(of_row / of_row.sum())


def _alone(level: Level) -> bool:
    """Return True if no row is in two groups."""
    return len(level.row) < 2 or bool((np.bincount(level.row) < 2).all())


def _draw(levels: Sequence[Level], rows: int, n: int, replace: bool, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw n of so many rows; return them in random order, and the leaf that each was drawn for."""
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
            amount = _round(level, allocate(level, amount, level.amounts(count), room), amount, room, rng)
        new, group = turns.take(amount) if replace else turns.take_once(amount, count > 0)
        drawn, leaf = np.r_[drawn, new], np.r_[leaf, group]
        count += np.bincount(new, minlength=rows)
    shuffled = rng.permutation(n)
    return drawn[shuffled], leaf[shuffled]


class _Turns:
    """The rows of each leaf in a random order, given out in turn."""

    def __init__(self, row: Array, leaf: Array, leaves: int) -> None:
        self.row, self.leaf = row, leaf
        self.size = np.bincount(leaf, minlength=leaves)
        self.first = np.cumsum(self.size) - self.size
        self.given = np.zeros(leaves, np.int64)

    def take(self, number: Array) -> tuple[Array, Array]:
        """Return so many rows of each leaf, and begin again where they are used up."""
        leaf = np.repeat(np.arange(len(number)), number)
        turn = (self.given[leaf] + ramps(number)) % self.size[leaf]
        self.given += number
        return self.row[self.first[leaf] + turn], leaf

    def take_once(self, number: Array, taken: Array) -> tuple[Array, Array]:
        """Return up to so many rows of each leaf that were not taken before, none of them twice."""
        free = np.flatnonzero(~taken[self.row])
        leaf = self.leaf[free]
        rank = np.arange(len(free)) - np.searchsorted(leaf, leaf)
        chosen = free[rank < number[leaf]]
        row, first = np.unique(self.row[chosen], return_index=True)
        return row, self.leaf[chosen[first]]


def _groups(levels: Sequence[Level]) -> list[tuple[Any, ...]]:
    """Return the values of each leaf, one per attribute."""
    found: list[tuple[Any, ...]] = [()]
    for level in levels:
        found = [(*found[p], level.values[v]) for p, v in zip(level.parent, level.value, strict=True)]
    return found


SHOWN = 20  # groups that a repr shows
BAR = 24  # characters of the longest bar of a repr


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """Windows per group of values, to print and to plot."""

    by: tuple[str, ...]
    """Attributes; the first divides first."""
    groups: tuple[tuple[Any, ...], ...]
    """A value of each attribute; None for windows that have none."""
    windows: Array
    """Windows in each group; a window with several values is in several; shape (group,)."""
    share: Array
    """Fractions of the windows, or of their probabilities where the table has some; sum 1; shape (group,)."""
    wanted: Array
    """The share that a balanced table would have; shape (group,)."""
    total: int
    """Windows in the table."""

    def to_frame(self) -> pandas.DataFrame:
        """Return a table with a column per attribute, and `windows`, `share` and `wanted`."""
        import pandas

        columns: dict[str, Any] = {name: [g[k] for g in self.groups] for k, name in enumerate(self.by)}
        return pandas.DataFrame(columns | {"windows": self.windows, "share": self.share, "wanted": self.wanted})

    def plot(self, ax: Axes | None = None) -> Axes:
        """
        Draw the shares as bars, with marks at the shares that are wanted.

        Parameters
        ----------
        ax
            Axes of matplotlib; new ones if left out.

        Returns
        -------
        The axes.
        """
        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.subplots(figsize=(6, 1 + 0.25 * max(2, len(self.groups))), layout="constrained")[1]
        names = [" / ".join(map(str, g)) for g in self.groups]
        place = np.arange(len(names))
        ax.barh(place, self.share, label="share")
        ax.plot(self.wanted, place, "k|", markersize=12, label="wanted")
        ax.set_yticks(place, names)
        ax.invert_yaxis()
        ax.set_xlabel(f"share of {self.total} windows")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        head = f"<Distribution of {self.total} windows by {', '.join(self.by)}: {len(self.groups)} groups"
        if not self.groups:
            return f"{head}>"
        worst = float(np.abs(self.share - self.wanted).max())
        shown = min(len(self.groups), SHOWN)
        longest = float(self.share.max()) or 1.0
        cells = [(*self.by, "windows", "share", "wanted", "")]
        for k in range(shown):
            bar = "#" * round(BAR * self.share[k] / longest)
            numbers = str(self.windows[k]), f"{self.share[k]:.1%}", f"{self.wanted[k]:.1%}"
            cells.append((*map(str, self.groups[k]), *numbers, bar))
        keys = len(self.by)
        lines = aligned(cells, (*range(keys), keys + 3))
        more = [f"... {len(self.groups) - shown} more"] if len(self.groups) > shown else []
        return "\n  ".join([f"{head}, at most {worst:.1%} off>", *lines, *more])
