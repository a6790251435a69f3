"""
The finest class that probabilities support.

Beginning with the likeliest root, a decision moves on to the likeliest child as long as a criterion says so. Classes
are visited from the roots down, each with all samples that have arrived there.

- 'gini' and 'entropy' ask how simple it is to tell the children apart: by how much of its largest possible value the
  impurity, 1 - sum p^2 or - sum p log p, lies below it.
- 'prob' asks whether the class and its best child are probable.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndzarr._validation import check_choice
from ndzarr.categories.scores import Layers, integers, prepare
from ndzarr.errors import CategoryError

CRITERIA = ("gini", "entropy", "prob")


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
    Return (class, probability) of each sample, each of the shape of `probs` without `axis`.

    See `CategoryTree.decision`. `ignored` and `refined` are classes that are never chosen: neither they nor those below
    them, or only while they have children.
    """
    check_choice("criterion", criterion, CRITERIA)
    xp, values, axis = prepare(probs, axis, len(layers), "class_probs")
    for key, indices in (("ignore_class_idxs", ignored), ("always_refine_idxs", refined)):
        for index in indices:
            if not 0 <= index < len(layers):
                raise CategoryError(f"{key}: no class has index {index!r}, of {len(layers)} classes", key=key)
    groups = [[index for index in group if index not in ignored] for group in layers.groups]
    if not groups[0]:
        raise CategoryError(
            "ignore_class_idxs: all roots of the tree are ignored", key="ignore_class_idxs", hint="Leave at least one"
        )
    shape = (*values.shape[:axis], *values.shape[axis + 1 :])
    flat = xp.moveaxis(values, axis, -1).reshape(int(np.prod(shape)), len(layers))  # (samples, classes)
    constant = flat.detach() if hasattr(flat, "detach") else flat  # no gradient flows through the choice
    rule = _Rule(xp, criterion, threshold)
    chosen = _choose(rule, constant, groups, layers.owners, refined)
    confidence = flat[integers(xp, np.arange(len(flat)), flat), chosen]
    return chosen.reshape(shape), confidence.reshape(shape)


def _choose(
    rule: _Rule, probs: Any, groups: Sequence[Sequence[int]], owners: Sequence[int], refined: Collection[int]
) -> Any:
    """Return the class of each sample; probs (samples, classes)."""
    xp = rule.xp
    top = _siblings(rule, probs[:, groups[0]], groups[0])
    chosen, total = top.best, top.total
    for owner, members in zip(owners[1:], groups[1:], strict=True):
        here = xp.nonzero(chosen == owner)[0]  # the samples that have arrived at the owner of this group
        if not members or not len(here):
            continue
        children = _siblings(rule, probs[here[:, None], integers(xp, members, probs)], members)
        best, below = children.best, children.total
        if owner not in refined:
            go = xp.nonzero(rule.refines(probs[here, owner], total[here], children))[0]
            here, best, below = here[go], best[go], below[go]
        chosen[here], total[here] = best, below
    return chosen


@dataclass(frozen=True, slots=True)
class _Siblings:
    """A group of siblings, for all samples that have arrived there."""

    size: int
    largest: Any
    """Largest probability among them; (samples,)."""
    best: Any
    """Class that has it, the first of equals; (samples,)."""
    total: Any
    """Sum over them of the rule's `measure`; (samples,)."""


def _siblings(rule: _Rule, probs: Any, members: Sequence[int]) -> _Siblings:
    xp = rule.xp
    best = xp.argmax(probs, axis=1)
    largest = probs[integers(xp, np.arange(len(probs)), probs), best]
    return _Siblings(len(members), largest, integers(xp, members, probs)[best], rule.measure(probs).sum(1))


@dataclass(frozen=True, slots=True)
class _Rule:
    """When a sample goes on from a class to its best child."""

    xp: Any
    criterion: str
    threshold: float

    def measure(self, probs: Any) -> Any:
        """Return what is added up over siblings."""
        if self.criterion == "gini":
            return probs * probs
        if self.criterion == "entropy":
            return self._surprise(probs)
        return probs[:, :1]  # 'prob' adds up nothing

    def refines(self, one: Any, total: Any, children: _Siblings) -> Any:
        """
        Return True for samples that go on to the best of the children.

        `one` is the probability of the class, `total` the sum of the measure over it and its siblings.
        """
        if self.criterion == "prob":
            return (children.largest > self.threshold) & (one > self.threshold)
        if self.criterion == "gini":
            own = one * one
            even = own / children.size  # the measure of children that are equally likely
            gain, worst = children.total - even, 1 - (total - own) - even
        else:
            even = children.size * self._surprise(one / children.size)
            gain, worst = even - children.total, total - self._surprise(one) + even
        possible = worst > 0  # else there is nothing to tell apart
        ones = self.xp.ones_like(worst)
        simplicity = self.xp.where(possible, gain / self.xp.where(possible, worst, ones), self.xp.zeros_like(worst))
        return (simplicity > self.threshold) | (children.size == 1)

    def _surprise(self, probs: Any) -> Any:
        """Return -p log p, 0 where p is 0."""
        xp = self.xp
        return -probs * xp.log(xp.where(probs > 0, probs, xp.ones_like(probs)))
