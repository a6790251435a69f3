"""How is an amount shared out over the groups of a table, level by level?

The values of the first attribute divide the rows into groups, those of the second divide each of these, and so on.  A
row with several values of an attribute belongs to several groups.

An amount given to a group goes to its parts by filling up: as water in vessels, whatever is there already counted
in, until the levels are in the proportion wanted.  A part that is exhausted leaves the rest to its siblings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.targets.attributes import Membership

Array: TypeAlias = "np.ndarray[Any, Any]"

Shares: TypeAlias = "Mapping[str, Mapping[Any, float]]"
"""Attribute to value to its share among its siblings; those left out have 1."""

ROUNDS = 60
"""Halvings in the search for a level: as many as float64 has bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The groups on one level."""

    name: str
    """The attribute that divides."""
    values: tuple[Any, ...]
    """Its different values."""
    parent: Array
    """Group on the level above, ascending; shape (group,)."""
    value: Array
    """Position among `values`; shape (group,)."""
    share: Array
    """Wanted, relative to siblings; shape (group,)."""
    row: Array
    """Rows, one entry for each group that it belongs to; shape (entry,)."""
    group: Array
    """The group of each entry; shape (entry,)."""

    def __len__(self) -> int:
        return len(self.parent)

    def wanted(self, above: Array) -> Array:
        """Fraction of the whole that each group should have, given that of those above."""
        sums = np.bincount(self.parent, self.share, minlength=len(above))
        return np.asarray(above[self.parent] * self.share / sums[self.parent])

    def amounts(self, of_row: Array) -> Array:
        """What the rows of each group have together."""
        return np.bincount(self.group, of_row[self.row], minlength=len(self))


def build(members: Sequence[Membership], n: int, shares: Shares) -> list[Level]:
    """
    Divide n rows.

    Raises
    ------
    TargetError
        `shares` names an unknown attribute or value, or a share below 0.
    """
    for name in shares:
        if name not in [m.name for m in members]:
            raise TargetError(f"shares: {name!r} is not balanced{did_you_mean(name, [m.name for m in members])}")
    row, group, levels = np.arange(n), np.zeros(n, np.int64), []
    for found in members:
        share = _shares(found, shares.get(found.name, {}))
        keep = share[found.code] > 0
        of_row, code = found.row[keep], found.code[keep]
        number = np.bincount(of_row, minlength=n)
        first = np.cumsum(number) - number
        each = number[row]
        within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        code = code[np.repeat(first[row], each) + within]
        row, above = np.repeat(row, each), np.repeat(group, each)
        key, group = np.unique(above * max(1, len(found.values)) + code, return_inverse=True)
        parent, value = np.divmod(key, max(1, len(found.values)))
        levels.append(Level(found.name, found.values, parent, value, share[value], row, group))
    # Rows of which a deeper attribute was given no share belong to no group above either.
    return [_reached(level, levels[-1].row, n) for level in levels]


def _reached(level: Level, row: Array, n: int) -> Level:
    """
    Without the entries of rows that are in no leaf.

    Groups that only had such rows stay, empty, and get nothing.
    """
    reached = np.zeros(n, bool)
    reached[row] = True
    keep = reached[level.row]
    filled = np.bincount(level.group[keep], minlength=len(level)) > 0
    return Level(
        level.name, level.values, level.parent, level.value, level.share * filled, level.row[keep], level.group[keep]
    )


def _shares(found: Membership, wanted: Mapping[Any, float]) -> Array:
    unknown = [v for v in wanted if v not in found.values]
    if unknown:
        raise TargetError(f"shares: no window has {found.name}={unknown[0]!r}{did_you_mean(unknown[0], found.values)}")
    share = np.array([wanted.get(v, 1.0) for v in found.values], float)
    if not (np.isfinite(share).all() and (share >= 0).all()):
        raise TargetError(f"shares={dict(wanted)!r}: expected numbers of at least 0")
    return share


def fill(level: Level, amount: Array, have: Array, room: Array) -> Array:
    """
    Share out what each group above was given.

    Parameters
    ----------
    amount
        Of each group above.
    have
        What each group has already.
    room
        What each can take at most.

    Returns
    -------
    What each group gets: `have` plus it is in proportion to the shares as far as can be; shape (group,).
    """
    share = np.where(level.share > 0, level.share, 1)
    room = np.where(level.share > 0, np.minimum(room, amount[level.parent]), 0)
    above = len(amount)
    low, high = np.zeros(above), np.zeros(above)
    np.maximum.at(high, level.parent, (have + room) / share)
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        given = np.clip(middle[level.parent] * share - have, 0, room)
        enough = np.bincount(level.parent, given, minlength=above) >= amount
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.asarray(np.clip(high[level.parent] * share - have, 0, room))


def whole(level: Level, given: Array, amount: Array, room: Array, rng: np.random.Generator) -> Array:
    """
    What each group gets, as whole numbers that sum to those of the groups above.

    Rounded down; what is left goes to the largest remainders, by chance where they are alike.
    """
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
