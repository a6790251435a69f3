"""What are the probabilities of classes that hold each other?

`scores` are what the last layer of a network returns, one per class, on numpy arrays and torch tensors alike.

- *Conditional*: a softmax over each group of siblings gives P(class | parent).
- *Top-down* (Redmon and Farhadi, YOLO9000, 2017): along the path from the root these are multiplied, so that every
  class has P(class) = P(class | parent) P(parent), and children sum to their parent.
- *Bottom-up*: one softmax over the leaves, whose sums are the probabilities of the classes above; scores of classes
  that are not leaves do not matter.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np

from ndzarr.errors import CategoryError, OptionError, did_you_mean

# --- Where do the classes of a tree lie as rows of an array?


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


# --- How can one function take numpy arrays and torch tensors?


class Ops(Protocol):
    """Operations on rows, one per class, unless they say otherwise."""

    def first(self, values: Any, axis: int, order: Any) -> Any:
        """Values as (classes, everything else), classes in an order."""

    def back(self, rows: Any, axis: int, order: Any, like: Any) -> Any:
        """The inverse of `first`: values of the shape of `like`."""

    def indices(self, values: Any, like: Any) -> Any:
        """Whole numbers where `like` is."""

    def split(self, rows: Any, sizes: Sequence[int]) -> Sequence[Any]:
        """Runs of rows."""

    def concat(self, parts: Sequence[Any]) -> Any:
        """Rows behind each other."""

    def log_softmax(self, rows: Any) -> Any:
        """Log of the softmax over all rows."""

    def logsumexp(self, rows: Any) -> Any:
        """Log of the sum of exponentials over all rows."""

    def surprise(self, rows: Any) -> Any:
        """-p log p, 0 where p is 0."""

    def last(self, values: Any, axis: int) -> Any:
        """Values as (everything else, classes)."""

    def largest(self, table: Any) -> tuple[Any, Any]:
        """Largest of each row of a table and the first column that holds it."""

    def flatnonzero(self, flags: Any) -> Any:
        """Indices of what is True."""

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        """A where the condition holds, b elsewhere."""

    def constant(self, values: Any) -> Any:
        """The same values, through which no gradient flows."""


class NumpyOps:
    """Operations on numpy arrays."""

    def first(self, values: Any, axis: int, order: Any) -> Any:  # noqa: D102
        return np.moveaxis(values, axis, 0).reshape(len(order), -1)[order]

    def back(self, rows: Any, axis: int, order: Any, like: Any) -> Any:  # noqa: D102
        out = np.empty(like.shape, rows.dtype)
        turned = np.moveaxis(out, axis, 0)
        turned[order] = rows.reshape(turned.shape)
        return out

    def indices(self, values: Any, like: Any) -> Any:  # noqa: D102
        return np.asarray(values, np.intp)

    def split(self, rows: Any, sizes: Sequence[int]) -> Sequence[Any]:  # noqa: D102
        return np.split(rows, np.cumsum(sizes)[:-1])

    def concat(self, parts: Sequence[Any]) -> Any:  # noqa: D102
        return np.concatenate(parts)

    def log_softmax(self, rows: Any) -> Any:  # noqa: D102
        shifted = rows - rows.max(axis=0)
        shifted -= np.log(np.exp(shifted).sum(axis=0))
        return shifted

    def logsumexp(self, rows: Any) -> Any:  # noqa: D102
        top = rows.max(axis=0)
        top = np.where(np.isfinite(top), top, 0)  # of rows that are all -inf
        with np.errstate(divide="ignore"):
            return np.log(np.exp(rows - top).sum(axis=0)) + top

    def surprise(self, rows: Any) -> Any:  # noqa: D102
        return -rows * np.log(np.where(rows > 0, rows, 1))

    def last(self, values: Any, axis: int) -> Any:  # noqa: D102
        turned = np.moveaxis(values, axis, -1)
        return turned.reshape(int(np.prod(turned.shape[:-1])), turned.shape[-1])

    def largest(self, table: Any) -> tuple[Any, Any]:  # noqa: D102
        where = table.argmax(axis=1)
        return table[np.arange(len(table)), where], where

    def flatnonzero(self, flags: Any) -> Any:  # noqa: D102
        return np.flatnonzero(flags)

    def where(self, condition: Any, a: Any, b: Any) -> Any:  # noqa: D102
        return np.where(condition, a, b)

    def constant(self, values: Any) -> Any:  # noqa: D102
        return values


class TorchOps:
    """Operations on torch tensors, on the device where they are."""

    def __init__(self) -> None:
        import torch

        self.torch: Any = torch

    def first(self, values: Any, axis: int, order: Any) -> Any:  # noqa: D102
        return values.movedim(axis, 0).reshape(len(order), -1)[self.indices(order, values)]

    def back(self, rows: Any, axis: int, order: Any, like: Any) -> Any:  # noqa: D102
        turned = like.movedim(axis, 0).shape
        return rows[self.indices(np.argsort(order), rows)].reshape(turned).movedim(0, axis).contiguous()

    def indices(self, values: Any, like: Any) -> Any:  # noqa: D102
        return self.torch.as_tensor(values, dtype=self.torch.long, device=like.device)

    def split(self, rows: Any, sizes: Sequence[int]) -> Sequence[Any]:  # noqa: D102
        parts: Sequence[Any] = self.torch.split(rows, list(sizes))
        return parts

    def concat(self, parts: Sequence[Any]) -> Any:  # noqa: D102
        return self.torch.cat(list(parts))

    def log_softmax(self, rows: Any) -> Any:  # noqa: D102
        return self.torch.log_softmax(rows, 0)

    def logsumexp(self, rows: Any) -> Any:  # noqa: D102
        return self.torch.logsumexp(rows, 0)

    def surprise(self, rows: Any) -> Any:  # noqa: D102
        return self.torch.special.entr(rows)

    def last(self, values: Any, axis: int) -> Any:  # noqa: D102
        turned = values.movedim(axis, -1)
        return turned.reshape(turned.shape[:-1].numel(), turned.shape[-1])

    def largest(self, table: Any) -> tuple[Any, Any]:  # noqa: D102
        largest: tuple[Any, Any] = tuple(self.torch.max(table, 1))
        return largest

    def flatnonzero(self, flags: Any) -> Any:  # noqa: D102
        return flags.nonzero().squeeze(1)

    def where(self, condition: Any, a: Any, b: Any) -> Any:  # noqa: D102
        return self.torch.where(condition, a, b)

    def constant(self, values: Any) -> Any:  # noqa: D102
        return values.detach()


def prepared(values: Any, axis: int, classes: int, what: str) -> tuple[Ops, Any, int]:
    """
    The operations for an array, the array as floating point numbers, and the axis counted from the front.

    Raises
    ------
    CategoryError
        The axis does not hold one value per class.
    """
    tensor = is_tensor(values)
    if not tensor:
        values = np.asarray(values)
        if values.dtype.kind not in "fiub":
            raise CategoryError(f"{what}: expected numbers, found dtype {values.dtype}")
        values = values if values.dtype.kind == "f" else values.astype(float)
    elif not values.is_floating_point():
        values = values.double()
    shape = tuple(values.shape)
    if not -len(shape) <= axis < len(shape):
        raise CategoryError(f"{what} of shape {shape} have no axis {axis}; dim says which axis the classes are along")
    if shape[axis] != classes or not classes:
        raise CategoryError(
            f"{what} of shape {shape} hold {shape[axis]} values along axis {axis}, and there are {classes} classes; "
            "dim says which axis the classes are along"
        )
    return (TorchOps() if tensor else NumpyOps()), values, axis % len(shape)


def is_tensor(values: Any) -> bool:
    """True for a torch tensor; who has one has imported torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def conditional(scores: Any, layers: Layers, axis: int) -> Any:
    """Log P(class | parent); shape and library of `scores`, classes along `axis`."""
    return _applied(_conditional, scores, layers, axis)


def top_down(scores: Any, layers: Layers, axis: int) -> Any:
    """Log P(class), from the conditional probabilities along the path from its root."""
    return _applied(_top_down, scores, layers, axis)


def bottom_up(scores: Any, layers: Layers, axis: int) -> Any:
    """Log P(class), from a softmax over all leaves."""
    return _applied(_bottom_up, scores, layers, axis)


METHODS = {"top_down": top_down, "bottom_up": bottom_up}
"""Ways to absolute probabilities."""


def log_softmax(scores: Any, layers: Layers, axis: int, method: str) -> Any:
    """
    Log P(class) by one of `METHODS`.

    Raises
    ------
    OptionError
        There is no such method.
    """
    if method not in METHODS:
        raise OptionError(f"method={method!r}{did_you_mean(method, METHODS)}")
    return METHODS[method](scores, layers, axis)


def exp(log_probs: Any) -> Any:
    """Probabilities."""
    return log_probs.exp() if is_tensor(log_probs) else np.exp(log_probs)


def _applied(function: Callable[[Ops, Any, Layers], Any], scores: Any, layers: Layers, axis: int) -> Any:
    ops, values, axis = prepared(scores, axis, len(layers), "scores")
    rows = ops.first(values, axis, layers.order)
    return ops.back(function(ops, rows, layers), axis, layers.order, values)


def _conditional(ops: Ops, rows: Any, layers: Layers) -> Any:
    return ops.concat([ops.log_softmax(siblings) for siblings in ops.split(rows, layers.sizes)])


def _top_down(ops: Ops, rows: Any, layers: Layers) -> Any:
    given_parent = ops.split(_conditional(ops, rows, layers), [level.stop - level.start for level in layers.levels])
    out = [given_parent[0]]
    for level, log_probs in enumerate(given_parent[1:], start=1):
        out.append(log_probs + out[-1][ops.indices(layers.above(level), rows)])
    return ops.concat(out)


def _bottom_up(ops: Ops, rows: Any, layers: Layers) -> Any:
    leaves = layers.rows[layers.leaves]
    log_probs = ops.log_softmax(rows[ops.indices(leaves, rows)])
    out: list[Any] = [None] * len(layers)
    for row, one in zip(leaves.tolist(), ops.split(log_probs, [1] * len(leaves)), strict=True):
        out[row] = one
    for owner, start, size in zip(layers.owners[::-1], layers.starts[::-1], layers.sizes[::-1], strict=True):
        if owner != ROOT:  # what lies deeper has been summed before
            out[layers.rows[owner]] = ops.logsumexp(ops.concat(out[start : start + size]))[None]
    return ops.concat(out)


# --- How wrong are predictions, where a label may be as coarse as what is known?


REDUCTIONS = ("mean", "sum", "none")
"""What becomes of the losses of single samples."""

IGNORE = -100
"""Target of samples that do not count, as in torch."""


def nll(log_probs: Any, targets: Any, classes: int, axis: int, reduction: str, ignore: int, weight: Any = None) -> Any:
    """
    Minus the log probabilities of the targets.

    Parameters
    ----------
    log_probs
        Classes along `axis`.
    targets
        Class indices, of the shape of `log_probs` without `axis`.
    reduction
        One of `REDUCTIONS`; 'mean' is over the samples that count, weighted if there are weights.
    ignore
        Target of samples that do not count.
    weight
        Of each class; shape (classes,).

    Raises
    ------
    CategoryError
        A target is no class, or shapes do not fit.
    """
    if reduction not in REDUCTIONS:
        raise OptionError(f"reduction={reduction!r}{did_you_mean(reduction, REDUCTIONS)}")
    ops, values, axis = prepared(log_probs, axis, classes, "log probabilities")
    wanted = ops.indices(targets, values)
    if tuple(wanted.shape) != (expected := tuple(values.shape[:axis]) + tuple(values.shape[axis + 1 :])):
        raise CategoryError(f"targets have shape {tuple(wanted.shape)}; expected {expected}, one class per sample")
    counts = wanted != ignore
    inside = ops.where(counts, wanted, 0)
    wrong = (inside < 0) | (inside >= classes)
    if bool(wrong.any()):
        raise CategoryError(f"target {int(wanted[wrong][0])} is no class index; there are {classes} classes")
    picked = _picked(values, inside, axis, isinstance(ops, TorchOps))
    losses = ops.where(counts, -picked, 0.0)  # also where what is ignored is -inf
    weights = counts if weight is None else ops.where(counts, _like(weight, values)[inside], 0.0)
    if weight is not None:
        losses = losses * weights
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    total = weights.sum()
    return losses.sum() / total if total else losses.sum() * np.nan  # as in torch: a mean of nothing


def _picked(values: Any, inside: Any, axis: int, tensor: bool) -> Any:
    if tensor:
        return values.gather(axis, inside.unsqueeze(axis)).squeeze(axis)
    return np.take_along_axis(values, np.expand_dims(inside, axis), axis).squeeze(axis)


def _like(weight: Any, values: Any) -> Any:
    if isinstance(values, np.ndarray):
        return np.asarray(weight, values.dtype)
    import torch

    return torch.as_tensor(weight, dtype=values.dtype, device=values.device)
