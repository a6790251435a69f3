"""How can one function take numpy arrays and torch tensors?

What the two libraries do in the same words is written plainly; the rest is here.  Arrays are turned so that classes
come first or last, and torch is touched only where a tensor was given.  No operation writes into its argument, so that
gradients flow through all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ndzarr.errors import CategoryError


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
