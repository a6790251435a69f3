"""How wrong are predictions, where a label may be as coarse as what is known?

The loss of a sample is minus the log probability of the class that it is labelled with, which may lie anywhere in the
tree: scores of classes below it do not matter then (Redmon and Farhadi, YOLO9000, 2017).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ndzarr.categories.arrays import TorchOps, prepared
from ndzarr.errors import CategoryError, OptionError, did_you_mean

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
