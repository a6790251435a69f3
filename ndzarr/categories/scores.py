"""
Probabilities and losses of classes that hold each other, on numpy arrays and torch tensors alike.

Scores are what the last layer of a network returns, one per class.

- *Conditional*: a softmax over each group of siblings gives P(class | parent).
- *Top-down* (Redmon and Farhadi, YOLO9000, 2017): these are multiplied along the path from the root, so that every
  class has P(class) = P(class | parent) P(parent), and children sum to their parent.
- *Bottom-up*: one softmax over the leaves; the classes above get sums of it, whatever their own scores.

The functions work on rows: axis 0 is the class, in an order in which siblings are neighbours, axis 1 everything else.
`xp` is the namespace of the array library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import array_api_compat.numpy
import numpy as np
from array_api_compat import array_namespace, device, is_torch_array

from ndzarr._validation import check_choice
from ndzarr.errors import CategoryError

Index: TypeAlias = np.ndarray[Any, np.dtype[np.intp]]

ROOT = -1
"""Stands for the parent of a root."""
IGNORE = -100
"""Target of samples that do not count, as in torch."""
METHODS = ("top_down", "bottom_up")
REDUCTIONS = ("mean", "sum", "none")


@dataclass(frozen=True)
class Layers:
    """A forest of classes 0 ... n - 1 as arrays."""

    parent: Index
    """Parent of each class, `ROOT` for roots; (n,)."""
    depth: Index
    """Depth of each class, 0 for roots; (n,)."""
    order: Index
    """Class of each row: by depth, then in the order of their parents, siblings ascending; (n,)."""
    groups: tuple[tuple[int, ...], ...]
    """Siblings, ascending; the roots first, then in the order of the rows of their parents."""

    @classmethod
    def of(cls, parents: Sequence[int]) -> Layers:
        """Build the layers of a forest from the parent of each class (`ROOT` for none)."""
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
        """Row of each class: the inverse of `order`."""
        return np.argsort(self.order)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of siblings in each group; they are consecutive rows."""
        return tuple(map(len, self.groups))

    @cached_property
    def owners(self) -> tuple[int, ...]:
        """Class whose children each group is; `ROOT` for the roots."""
        return tuple(int(self.parent[group[0]]) for group in self.groups)

    @cached_property
    def leaves(self) -> Index:
        """Classes without children, ascending."""
        inner = np.zeros(len(self), bool)
        inner[self.parent[self.parent != ROOT]] = True
        return np.flatnonzero(~inner)

    @cached_property
    def levels(self) -> tuple[slice, ...]:
        """Rows of each depth."""
        stops = np.cumsum(np.bincount(self.depth)) if len(self) else np.empty(0, int)
        return tuple(slice(a, b) for a, b in zip([0, *stops[:-1].tolist()], stops.tolist(), strict=True))

    def above(self, level: int) -> Index:
        """Return for each row of a level the position of its parent among the rows of the level before."""
        parents = self.parent[self.order[self.levels[level]]]
        above: Index = self.rows[parents] - self.levels[level - 1].start
        return above


def prepare(values: Any, axis: int, classes: int, name: str) -> tuple[Any, Any, int]:
    """Check an array; return its namespace, its values as floating point numbers, and its axis, not negative."""
    if is_torch_array(values):
        xp, floating = array_namespace(values), values.is_floating_point()
    else:
        xp, values = array_api_compat.numpy, np.asarray(values)
        if values.dtype.kind not in "fiub":
            raise CategoryError(f"{name}: expected numbers, found dtype {values.dtype}", key=name)
        floating = values.dtype.kind == "f"
    values = values if floating else xp.astype(values, xp.float64)
    shape = tuple(values.shape)
    hint = "Pass the axis of the classes as dim"
    if not -len(shape) <= axis < len(shape):
        raise CategoryError(f"dim={axis}: {name} of shape {shape} has no such axis", key="dim", hint=hint)
    if shape[axis] != classes or not classes:
        found = f"{name} of shape {shape} holds {shape[axis]} values along axis {axis}"
        raise CategoryError(f"{found}, and there are {classes} classes", key=name, hint=hint)
    return xp, values, axis % len(shape)


def integers(xp: Any, values: Any, like: Any) -> Any:
    """Convert whole numbers to an array of the library, on the device of another array."""
    return xp.asarray(values, dtype=xp.int64, device=device(like))


def log_conditional(scores: Any, layers: Layers, axis: int) -> Any:
    """Return log P(class | parent); shape and library of `scores`, classes along `axis`."""
    xp, values, axis = prepare(scores, axis, len(layers), "class_energy")
    return _from_rows(xp, _conditional(xp, _to_rows(xp, values, axis, layers), layers), values, axis, layers)


def log_probability(scores: Any, layers: Layers, axis: int, method: str) -> Any:
    """Return log P(class) by one of `METHODS`; shape and library of `scores`, classes along `axis`."""
    check_choice("method", method, METHODS)
    xp, values, axis = prepare(scores, axis, len(layers), "class_energy")
    function = _top_down if method == "top_down" else _bottom_up
    return _from_rows(xp, function(xp, _to_rows(xp, values, axis, layers), layers), values, axis, layers)


def negative_log_likelihood(
    log_probs: Any, targets: Any, classes: int, axis: int, reduction: str, ignore: int, weight: Any = None
) -> Any:
    """Return minus the log probabilities of the targets; see `CategoryTree.hierarchical_nll_loss`."""
    check_choice("reduction", reduction, REDUCTIONS)
    xp, values, axis = prepare(log_probs, axis, classes, "class_logprobs")
    wanted = integers(xp, targets, values)
    if tuple(wanted.shape) != (expected := (*values.shape[:axis], *values.shape[axis + 1 :])):
        message = f"targets have shape {tuple(wanted.shape)}; expected {expected}, one class per sample"
        raise CategoryError(message, key="targets")
    counts = wanted != ignore
    inside = xp.where(counts, wanted, xp.zeros_like(wanted))
    wrong = (inside < 0) | (inside >= classes)
    if bool(wrong.any()):
        message = f"targets: {int(wanted[wrong][0])} is not a class index; there are {classes} classes"
        raise CategoryError(message, key="targets")
    picked = xp.take_along_axis(values, xp.expand_dims(inside, axis=axis), axis=axis).squeeze(axis)
    nothing = xp.zeros_like(picked)
    losses = xp.where(counts, -picked, nothing)  # also where what is ignored is -inf
    weights = counts
    if weight is not None:
        of_class = xp.asarray(weight, dtype=values.dtype, device=device(values))
        weights = xp.where(counts, of_class[inside], nothing)
        losses = losses * weights
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    total = weights.sum()
    return losses.sum() / total if total else losses.sum() * np.nan  # as in torch: a mean of nothing


def _to_rows(xp: Any, values: Any, axis: int, layers: Layers) -> Any:
    rows = xp.moveaxis(values, axis, 0).reshape(len(layers), -1)
    return rows[integers(xp, layers.order, values)]


def _from_rows(xp: Any, rows: Any, like: Any, axis: int, layers: Layers) -> Any:
    shape = (len(layers), *like.shape[:axis], *like.shape[axis + 1 :])
    turned = xp.moveaxis(rows.reshape(shape), 0, axis)
    return xp.take(turned, integers(xp, layers.rows, rows), axis=axis)  # contiguous


def _split(rows: Any, sizes: Sequence[int]) -> Sequence[Any]:
    """Return consecutive parts of the rows; torch has another split than numpy, and slices have costly gradients."""
    return rows.split(list(sizes)) if is_torch_array(rows) else np.split(rows, np.cumsum(sizes)[:-1])


def _log_softmax(xp: Any, rows: Any) -> Any:
    if hasattr(xp, "log_softmax"):
        return xp.log_softmax(rows, 0)
    shifted = rows - rows.max(axis=0)
    shifted -= np.log(np.exp(shifted).sum(axis=0))
    return shifted


def _logsumexp(xp: Any, rows: Any) -> Any:
    if hasattr(xp, "logsumexp"):
        return xp.logsumexp(rows, 0)
    top = rows.max(axis=0)
    top = np.where(np.isfinite(top), top, 0)  # if all rows are -inf
    with np.errstate(divide="ignore"):
        return np.log(np.exp(rows - top).sum(axis=0)) + top


def _conditional(xp: Any, rows: Any, layers: Layers) -> Any:
    return xp.concat([_log_softmax(xp, siblings) for siblings in _split(rows, layers.sizes)])


def _top_down(xp: Any, rows: Any, layers: Layers) -> Any:
    given_parent = _split(_conditional(xp, rows, layers), [level.stop - level.start for level in layers.levels])
    out = [given_parent[0]]
    for level, log_probs in enumerate(given_parent[1:], start=1):
        out.append(log_probs + out[-1][integers(xp, layers.above(level), rows)])
    return xp.concat(out)


def _bottom_up(xp: Any, rows: Any, layers: Layers) -> Any:
    leaves = layers.rows[layers.leaves]
    log_probs = _log_softmax(xp, rows[integers(xp, leaves, rows)])
    out: list[Any] = [None] * len(layers)
    for row, one in zip(leaves.tolist(), _split(log_probs, [1] * len(leaves)), strict=True):
        out[row] = one
    stop = len(layers)
    for owner, size in zip(layers.owners[::-1], layers.sizes[::-1], strict=True):
        if owner != ROOT:  # the rows of its children, which lie deeper, are filled
            out[layers.rows[owner]] = _logsumexp(xp, xp.concat(out[stop - size : stop]))[None]
        stop -= size
    return xp.concat(out)
