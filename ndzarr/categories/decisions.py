"""How fine a class do probabilities support?

Beginning with the likeliest root, a decision moves on to the likeliest child as long as a criterion says so.  Classes
are visited from the roots down, each with all samples that have arrived there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ndzarr.categories.arrays import Ops, prepared
from ndzarr.categories.criteria import CRITERIA, Criterion, Siblings
from ndzarr.categories.layers import Layers
from ndzarr.errors import CategoryError, OptionError, did_you_mean


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
