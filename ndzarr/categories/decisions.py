"""How fine a class do probabilities support?

Beginning with the likeliest root, a decision moves on to the likeliest child as long as a criterion says so:

- 'prob': while the probabilities of class and child are above the threshold.
- 'gini', 'entropy': while telling the children apart is simple.  The class among its siblings is replaced by its
  children, and the impurity of that (1 - sum p^2, or -sum p log p) compared with the worst case, in which its
  probability is spread evenly over them: simplicity = 1 - impurity / worst, 0 to 1.  An only child is always taken.

The rule is that of ndsampler's `CategoryTree.decision`.  Simplicity is computed for all classes at once from sums over
groups of siblings, then every sample walks down the levels at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from ndzarr.categories.arrays import Ops, prepared
from ndzarr.categories.layers import ROOT, Layers
from ndzarr.errors import CategoryError, OptionError, did_you_mean

CRITERIA = ("gini", "entropy", "prob")
"""When a finer class is chosen."""


def decide(
    probs: Any,
    layers: Layers,
    axis: int,
    threshold: float,
    criterion: str,
    ignored: Collection[int] = (),
    refined: Collection[int] = (),
) -> tuple[Any, Any]:
    """
    The class of each sample.

    Parameters
    ----------
    probs
        Absolute probabilities, classes along `axis`.
    threshold
        The higher, the coarser the classes.
    ignored
        Classes that are never chosen, nor what lies below them.
    refined
        Classes that are never chosen if they have children, whatever the criterion says.

    Returns
    -------
    classes, probabilities
        Each of the shape of `probs` without `axis`.

    Raises
    ------
    CategoryError
        All roots are ignored.
    """
    if criterion not in CRITERIA:
        raise OptionError(f"criterion={criterion!r}{did_you_mean(criterion, CRITERIA)}")
    ops, values, axis = prepared(probs, axis, len(layers), "probabilities")
    shape = tuple(values.shape[:axis]) + tuple(values.shape[axis + 1 :])
    rows = ops.first(values, axis, layers.order)
    families = _families(layers, ignored)
    always = {int(layers.rows[index]) for index in refined}
    chosen = _descend(ops, ops.constant(rows), layers, families, _rule(criterion, threshold), always)
    confidence = rows[chosen, ops.indices(np.arange(rows.shape[1]), rows)]
    classes = ops.indices(layers.order, rows)[chosen]
    return classes.reshape(shape), confidence.reshape(shape)


def _families(layers: Layers, ignored: Collection[int]) -> list[list[int]]:
    """Rows of each group of siblings, without the ignored ones."""
    out = {int(layers.rows[index]) for index in ignored}
    groups = zip(layers.starts, layers.sizes, strict=True)
    families = [[row for row in range(start, start + size) if row not in out] for start, size in groups]
    if not families[0]:
        raise CategoryError("all roots of the tree are to be ignored; leave at least one")
    return families


@dataclass(frozen=True, slots=True)
class _Family:
    """Siblings of all samples."""

    largest: Any
    """Largest probability among them; shape (samples,)."""
    best: Any
    """Row that holds it; shape (samples,)."""
    total: Any
    """Sum over them of what the criterion adds up; shape (samples,)."""
    size: int
    """How many there are."""


Rule = tuple[Callable[[Ops, Any], Any], Callable[[Ops, Any, "_Family", "_Family"], Any]]
"""What is added up over siblings, and (operations, probability of a class, its siblings and itself, its children) to
True where to go on."""


def _rule(criterion: str, threshold: float) -> Rule:
    def likely(ops: Ops, one: Any, siblings: _Family, children: _Family) -> Any:
        return (children.largest > threshold) & (one > threshold)

    def gini(ops: Ops, one: Any, siblings: _Family, children: _Family) -> Any:
        even = one * one / children.size
        return simple(ops, children.total - even, 1 - (siblings.total - one * one) - even, children)

    def entropy(ops: Ops, one: Any, siblings: _Family, children: _Family) -> Any:
        even = children.size * ops.surprise(one / children.size)
        return simple(ops, even - children.total, siblings.total - ops.surprise(one) + even, children)

    def simple(ops: Ops, gain: Any, worst: Any, children: _Family) -> Any:
        # simplicity = (worst - impurity) / worst; in the difference the siblings cancel, so they are not in `gain`
        possible = worst > 0
        return (ops.where(possible, gain / ops.where(possible, worst, 1.0), 0.0) > threshold) | (children.size == 1)

    if criterion == "prob":
        return (lambda ops, rows: rows[:1] * 0), likely
    return (lambda ops, rows: rows * rows, gini) if criterion == "gini" else (lambda ops, rows: ops.surprise(rows), entropy)


def _descend(ops: Ops, rows: Any, layers: Layers, families: list[list[int]], rule: Rule, refined: Collection[int]) -> Any:
    """The row of the class of each sample; rows (classes, samples)."""
    measure, go_on = rule
    numbers = {row: number for number, family in enumerate(families) for row in family}
    found: list[_Family] = []
    steps: list[Any] = []
    step_of = np.full(len(layers), -1)
    for owner, members in zip(layers.owners, families, strict=True):
        found.append(family := _family(ops, rows, members, measure))
        above = int(layers.rows[owner]) if owner != ROOT else None
        if above is None:
            chosen = family.best
        elif members and above in numbers:
            step_of[above] = len(steps)
            go = go_on(ops, rows[above], found[numbers[above]], family) if above not in refined else None
            steps.append(family.best if go is None else ops.where(go, family.best, above))
    return _walk(ops, chosen, steps, step_of, len(layers.levels) - 1)
