"""What are the probabilities of classes that hold each other?

`scores` are what the last layer of a network returns, one per class, on numpy arrays and torch tensors alike.

- *Conditional*: a softmax over each group of siblings gives P(class | parent).
- *Top-down* (Redmon and Farhadi, YOLO9000, 2017): along the path from the root these are multiplied, so that every
  class has P(class) = P(class | parent) P(parent), and children sum to their parent.
- *Bottom-up*: one softmax over the leaves, whose sums are the probabilities of the classes above; scores of classes
  that are not leaves do not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ndzarr.categories.arrays import Ops, is_tensor, prepared
from ndzarr.categories.layers import ROOT, Layers
from ndzarr.errors import OptionError, did_you_mean


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
