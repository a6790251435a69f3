"""How fine a class do probabilities support?

Beginning with the likeliest root, a decision moves on to the likeliest child as long as a criterion says so.  For each
group of siblings it is worked out for all samples where one that arrived there would go; then all samples walk down
the levels at the same time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ndzarr.categories.arrays import Ops, prepared
from ndzarr.categories.criteria import CRITERIA, Criterion, Siblings
from ndzarr.categories.layers import ROOT, Layers
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
    shape = tuple(values.shape[:axis]) + tuple(values.shape[axis + 1 :])
    rows = ops.first(values, axis, layers.order)
    rule = CRITERIA[criterion](ops, threshold)
    chosen = _chosen(ops, ops.constant(rows), layers, rule, _rows(layers, ignored), _rows(layers, refined))
    confidence = rows[chosen, ops.indices(np.arange(rows.shape[1]), rows)]
    return ops.indices(layers.order, rows)[chosen].reshape(shape), confidence.reshape(shape)


def _rows(layers: Layers, classes: Collection[int]) -> frozenset[int]:
    unknown = [index for index in classes if not 0 <= index < len(layers)]
    if unknown:
        raise CategoryError(f"class index {unknown[0]!r} does not exist; there are {len(layers)} classes")
    return frozenset(int(layers.rows[index]) for index in classes)


def _chosen(
    ops: Ops, rows: Any, layers: Layers, rule: Criterion, ignored: Collection[int], refined: Collection[int]
) -> Any:
    """Row of the class of each sample; rows (classes, samples)."""
    home: dict[int, Siblings] = {}  # row to its group
    step_of, steps = np.full(len(layers), -1), []
    for owner, start, size in zip(layers.owners, layers.starts, layers.sizes, strict=True):
        members = [row for row in range(start, start + size) if row not in ignored]
        above = ROOT if owner == ROOT else int(layers.rows[owner])
        if not members or (above != ROOT and above not in home):
            continue  # no sample can arrive there
        group = _group(ops, rows, members, rule)
        home |= dict.fromkeys(members, group)
        if above != ROOT:
            step_of[above] = len(steps)
        on = None if above == ROOT or above in refined else rule.refines(rows[above], home[above], group)
        steps.append(group.best if on is None else ops.where(on, group.best, above))
    if not steps or step_of[0] == 0:
        raise CategoryError("all roots of the tree are to be ignored; leave at least one")
    return _walked(ops, steps, step_of, len(layers.levels) - 1)


def _group(ops: Ops, rows: Any, members: Sequence[int], rule: Criterion) -> Siblings:
    whole = members[-1] - members[0] == len(members) - 1
    own = rows[members[0] : members[-1] + 1] if whole else rows[ops.indices(members, rows)]
    largest, position = ops.largest(own)
    return Siblings(len(members), largest, ops.indices(members, rows)[position], rule.measure(own).sum(0))


def _walked(ops: Ops, steps: Sequence[Any], step_of: np.ndarray[Any, Any], times: int) -> Any:
    """Where samples end that begin at the first step; `step_of` row to the step from it, -1 for leaves."""
    chosen = steps[0]
    if len(steps) == 1:
        return chosen
    table = ops.concat([step[None] for step in steps])
    lookup, sample = ops.indices(step_of, chosen), ops.indices(np.arange(len(chosen)), chosen)
    for _ in range(times):
        step = lookup[chosen]
        chosen = ops.where(step < 0, chosen, table[step, sample])  # the step of leaves is read and not used
    return chosen
