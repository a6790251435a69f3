"""How fine a class do probabilities support?

Beginning with the likeliest root, a decision moves on to the likeliest child as long as a criterion says so.  Classes
are visited from the roots down, each with all samples that have arrived there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ndzarr.categories.scores import Layers, Ops, prepared
from ndzarr.errors import CategoryError, OptionError, did_you_mean

# --- When do probabilities support a finer class?


@dataclass(frozen=True, slots=True)
class Siblings:
    """A group of siblings, for all samples that have arrived there."""

    size: int
    """How many they are."""
    largest: Any
    """Largest probability among them; shape (samples,)."""
    best: Any
    """Class that has it, the first of equals; shape (samples,)."""
    total: Any
    """Sum over them of the criterion's `measure`; shape (samples,)."""


class Criterion(Protocol):
    """A rule of going on to a child."""

    def measure(self, probs: Any) -> Any:
        """What is added up over siblings."""

    def refines(self, one: Any, among: Any, children: Siblings) -> Any:
        """
        True for samples that go on to the best of the children.

        Parameters
        ----------
        one
            Probability of the class.
        among
            Sum of the measure over the class and its siblings.
        """


@dataclass(frozen=True, slots=True)
class Prob:
    """Class and child are probable."""

    ops: Ops
    threshold: float

    def measure(self, probs: Any) -> Any:  # noqa: D102
        return probs[:, :1]  # adds up nothing

    def refines(self, one: Any, among: Any, children: Siblings) -> Any:  # noqa: D102
        return (children.largest > self.threshold) & (one > self.threshold)


@dataclass(frozen=True, slots=True)
class Gini:
    """Children are simple to tell apart, by 1 - sum p^2."""

    ops: Ops
    threshold: float

    def measure(self, probs: Any) -> Any:  # noqa: D102
        return probs * probs

    def refines(self, one: Any, among: Any, children: Siblings) -> Any:  # noqa: D102
        own = one * one
        even = own / children.size
        worst = 1 - (among - own) - even
        return _simple(self.ops, children.total - even, worst, children.size, self.threshold)


@dataclass(frozen=True, slots=True)
class Entropy:
    """Children are simple to tell apart, by - sum p log p."""

    ops: Ops
    threshold: float

    def measure(self, probs: Any) -> Any:  # noqa: D102
        return self.ops.surprise(probs)

    def refines(self, one: Any, among: Any, children: Siblings) -> Any:  # noqa: D102
        even = children.size * self.ops.surprise(one / children.size)
        worst = among - self.ops.surprise(one) + even
        return _simple(self.ops, even - children.total, worst, children.size, self.threshold)


CRITERIA: dict[str, type[Prob] | type[Gini] | type[Entropy]] = {"gini": Gini, "entropy": Entropy, "prob": Prob}
"""By name."""


def _simple(ops: Ops, gain: Any, worst: Any, children: int, threshold: float) -> Any:
    """Whether `gain`, worst - impurity, is enough of the worst; where that is 0 there is nothing to tell apart."""
    possible = worst > 0
    simplicity = ops.where(possible, gain / ops.where(possible, worst, 1.0), 0.0)
    return (simplicity > threshold) | (children == 1)


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
    criterion
        One of `CRITERIA`.
    ignored
        Classes that are never chosen, nor what lies below them.
    refined
        Classes that are never chosen while they have children, whatever the criterion says.

    Returns
    -------
    classes, probabilities
        Each of the shape of `probs` without `axis`.

    Raises
    ------
    CategoryError
        All roots are ignored, or a class does not exist.
    """
    if criterion not in CRITERIA:
        raise OptionError(f"criterion={criterion!r}{did_you_mean(criterion, CRITERIA)}")
    ops, values, axis = prepared(probs, axis, len(layers), "probabilities")
    _refuse_unknown(layers, {*ignored, *refined})
    shape = tuple(values.shape[:axis]) + tuple(values.shape[axis + 1 :])
    flat = ops.last(values, axis)
    chosen = _chosen(ops, ops.constant(flat), layers, CRITERIA[criterion](ops, threshold), ignored, refined)
    confidence = flat[ops.indices(np.arange(len(flat)), flat), chosen]
    return chosen.reshape(shape), confidence.reshape(shape)


def _refuse_unknown(layers: Layers, classes: Collection[int]) -> None:
    unknown = [index for index in classes if not 0 <= index < len(layers)]
    if unknown:
        raise CategoryError(f"class index {unknown[0]!r} does not exist; there are {len(layers)} classes")


def _chosen(
    ops: Ops, probs: Any, layers: Layers, rule: Criterion, ignored: Collection[int], refined: Collection[int]
) -> Any:
    """Class of each sample; probs (samples, classes)."""
    families = [[index for index in group if index not in ignored] for group in layers.groups]
    if not families[0]:
        raise CategoryError("all roots of the tree are to be ignored; leave at least one")
    top = _siblings(ops, probs[:, families[0]], families[0], rule)
    chosen, among = top.best, top.total
    for owner, members in zip(layers.owners[1:], families[1:], strict=True):
        here = ops.flatnonzero(chosen == owner)
        if not members or not len(here):
            continue
        children = _siblings(ops, probs[here[:, None], ops.indices(members, probs)], members, rule)
        if owner not in refined:
            go = ops.flatnonzero(rule.refines(probs[here, owner], among[here], children))
            here, best, total = here[go], children.best[go], children.total[go]
        else:
            best, total = children.best, children.total
        chosen[here], among[here] = best, total
    return chosen


def _siblings(ops: Ops, probs: Any, members: Sequence[int], rule: Criterion) -> Siblings:
    largest, position = ops.largest(probs)
    return Siblings(len(members), largest, ops.indices(members, probs)[position], rule.measure(probs).sum(1))
