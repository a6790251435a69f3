"""Where do the classes of a tree lie as rows of an array?

Sorted by depth and then by parent, the classes of a level and the children of a class are runs of rows, so that
everything computed on a tree is a few operations on slices, one per level or group of siblings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

Index: TypeAlias = np.ndarray[Any, np.dtype[np.intp]]

ROOT = -1
"""Stands for the parent of a root."""


@dataclass(frozen=True)
class Layers:
    """A forest of classes 0 ... n - 1."""

    parent: Index
    """Parent of each class, `ROOT` for roots; shape (n,)."""
    depth: Index
    """Of each class; 0 for roots; shape (n,)."""
    order: Index
    """Classes by depth, then in the order of their parents, siblings ascending: row to class; shape (n,)."""
    groups: tuple[tuple[int, ...], ...]
    """Siblings, ascending; the roots first, then in the order of the rows of their parents."""

    @classmethod
    def of(cls, parents: Sequence[int]) -> Layers:
        """The layers of a forest, given the parent of each class (`ROOT` for none)."""
        children: dict[int, list[int]] = {}
        for child, parent in enumerate(parents):
            children.setdefault(parent, []).append(child)
        groups, order, depth = [], [ROOT], np.full(len(parents), ROOT, np.intp)
        for node in order:  # grows while it is walked
            below = tuple(children.get(node, ()))
            if below:
                groups.append(below)
                order.extend(below)
                depth[list(below)] = 0 if node == ROOT else depth[node] + 1
        return cls(np.asarray(parents, np.intp), depth, np.asarray(order[1:], np.intp), tuple(groups))

    def __len__(self) -> int:
        return len(self.parent)

    @cached_property
    def rows(self) -> Index:
        """Class to row: the inverse of `order`."""
        return np.argsort(self.order)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of siblings in each group; they are consecutive rows."""
        return tuple(map(len, self.groups))

    @cached_property
    def owners(self) -> tuple[int, ...]:
        """The class whose children each group is; `ROOT` for the roots."""
        return tuple(int(self.parent[group[0]]) for group in self.groups)

    @cached_property
    def leaves(self) -> Index:
        """Classes without children, ascending."""
        inner = np.zeros(len(self), bool)
        inner[self.parent[self.parent != ROOT]] = True
        return np.flatnonzero(~inner)

    @cached_property
    def levels(self) -> tuple[slice, ...]:
        """The rows of each depth."""
        stops = np.cumsum(np.bincount(self.depth)) if len(self) else np.empty(0, int)
        return tuple(slice(a, b) for a, b in zip([0, *stops[:-1].tolist()], stops.tolist(), strict=True))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First row of each group."""
        return (0, *np.cumsum(self.sizes)[:-1].tolist())

    @cached_property
    def group(self) -> Index:
        """Number of the group of children that each class owns; `len(groups)` for leaves; shape (n,)."""
        out = np.full(len(self), len(self.groups), np.intp)
        for number, owner in enumerate(self.owners):
            if owner != ROOT:
                out[owner] = number
        return out

    def above(self, level: int) -> Index:
        """For each row of a level, where among the rows of the level before its parent is."""
        parents = self.parent[self.order[self.levels[level]]]
        above: Index = self.rows[parents] - self.levels[level - 1].start
        return above
