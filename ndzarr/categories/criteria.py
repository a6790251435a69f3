"""When do probabilities support a finer class?

- 'prob': when those of the class and of its likeliest child are above the threshold.
- 'gini', 'entropy': when telling the children apart is simple.  The class, among its siblings, is replaced by its
  children, and the impurity of that (1 - sum p^2, or - sum p log p) is compared with the worst case, in which its
  probability is spread evenly over them: simplicity = 1 - impurity / worst.  An only child is always taken.

These are the rules of ndsampler's `CategoryTree.decision`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ndzarr.categories.arrays import Ops


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
