"""How are weighted sums along two axes a few products of small matrices?

Taps are the rows of a matrix that is zero away from its diagonal.  It is cut into parts that all have one shape and
follow each other at one distance, so that a single call multiplies all of them: BLAS adds up faster than anything that
goes over the pixels once per tap, and other threads run meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ndzarr.geometry.taps import Grid, taps

Array = np.ndarray[Any, Any]

BLOCKS = range(5, 17)
"""Output pixels per part: few, so that the parts hold few zeros, and that BLAS does not wake threads for them."""


@dataclass(frozen=True, slots=True)
class Bands:
    """The parts of the matrix of one axis that are not zero."""

    first: int
    """Input pixel at which the first part begins: negative where that is before the input."""
    stride: int
    """Input pixels from one part to the next."""
    weights: Array
    """Shape (part, output, input)."""
    turned: Array
    """The same of shape (part, input, output)."""
    n: int
    """Output pixels; the parts together may have more."""

    @property
    def reach(self) -> int:
        """Input pixels from the begin of the first part to the end of the last one."""
        return (len(self.weights) - 1) * self.stride + int(self.weights.shape[-1])


@lru_cache(maxsize=64)
def bands(grid: Grid, length: int, interpolation: str, antialias: bool, dtype: np.dtype[Any]) -> Bands:
    """The matrix of `taps`, in as many parts as make the fewest products."""
    index, weights = taps(grid, length, interpolation, antialias)
    low, high = index.min(axis=0), index.max(axis=0) + 1
    _, block, first, stride, width = min(_cut(low, high, block) for block in BLOCKS)
    pixels = np.arange(grid.n)
    part = pixels // block
    out = np.zeros((int(part[-1]) + 1, block, width), dtype)
    np.add.at(out, (part, pixels % block, index - (first + part * stride)), weights)
    return Bands(first, stride, out, np.ascontiguousarray(out.swapaxes(1, 2)), grid.n)


def _cut(low: Array, high: Array, block: int) -> tuple[int, int, int, int, int]:
    """(products, block, first, stride, width) of parts of so many output pixels."""
    starts = np.arange(0, len(low), block)
    low, high = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
    part = np.arange(len(low))
    stride = max(1, round((low[-1] - low[0]) / max(1, len(low) - 1)))
    first = int((low - part * stride).min())
    width = int((high - part * stride).max()) - first
    return len(low) * (block + FIXED) * width, block, first, stride, width


FIXED = 2
"""What loading a pixel costs, as a number of products with it."""


@lru_cache(maxsize=256)
def matrix(grid: Grid, length: int, interpolation: str, antialias: bool, dtype: np.dtype[Any]) -> Array:
    """Taps as a whole matrix of shape (grid.n, length)."""
    out = np.zeros((grid.n, length), dtype)
    index, weights = taps(grid, length, interpolation, antialias)
    np.add.at(out, (np.arange(grid.n), index), weights)
    return out


def through_bands(image: Array, rows: Bands, columns: Bands) -> Iterator[tuple[slice, Array]]:
    """
    Products along y, then along x; each plane by itself, so that it does not matter how many are stacked.

    Parameters
    ----------
    image
        Finite numbers, axes (plane, y, x).

    Yields
    ------
    (planes, their values), of the dtype of the weights, axes (plane, y, x); overwritten by the next ones.
    """
    height, width = _room(image.shape[-2], rows), _room(image.shape[-1], columns)
    shapes = (height, width), (rows.weights[..., 0].size, width), (rows.n, columns.weights[..., 0].size)
    together = max(1, min(len(image), ROOM // (height * width * rows.weights.itemsize)))
    room, down, out = _scratch(tuple([(together, *shape) for shape in shapes]), rows.weights.dtype)
    inside = _inside(image.shape[-2], rows), _inside(image.shape[-1], columns)
    if (height, width) != image.shape[-2:]:
        room.fill(0)
    # Each part's input, and its output, are views that numpy checks against what they view.
    above = _view(room, rows, width, axis=1)
    left = _view(down, columns, rows.n, axis=2)
    below = down.reshape(together, *rows.weights.shape[:2], width)
    right = out.reshape(together, rows.n, *columns.weights.shape[:2]).swapaxes(1, 2)
    for k in range(0, len(image), together):
        n = min(together, len(image) - k)
        room[:n][:, *inside] = image[k : k + n]
        np.matmul(rows.weights, above[:n], out=below[:n])
        np.matmul(left[:n], columns.turned, out=right[:n])
        yield slice(k, k + n), out[:n, :, : columns.n]


def _view(planes: Array, of: Bands, others: int, axis: int) -> Array:
    """What the parts along an axis are made from: (plane, part, input, x) along y, (plane, part, y, input) along x."""
    plane, y, x = planes.strides
    along = y if axis == 1 else x
    parts, _, width = of.weights.shape
    inner = (width, others) if axis == 1 else (others, width)
    strides = plane, of.stride * along, y, x
    return np.ndarray((len(planes), parts, *inner), planes.dtype, planes.data, max(0, of.first) * along, strides)


ROOM = 4 << 20
"""Bytes of planes that go together, as many as a processor's own caches hold."""

KEPT = 8 << 20
"""Bytes that a thread keeps for the next call: new memory takes as long as the products (measured)."""

_local = threading.local()


def _scratch(shapes: tuple[tuple[int, ...], ...], dtype: np.dtype[Any]) -> list[Array]:
    """Arrays with anything in them, which the next call in the same thread overwrites."""
    known, arrays = getattr(_local, "held", (None, []))
    if known == (shapes, dtype):
        return list(arrays)
    ends = np.cumsum([prod(shape) * dtype.itemsize for shape in shapes]).tolist()
    memory = getattr(_local, "memory", None)
    if memory is None or len(memory) < ends[-1]:
        memory = np.empty(ends[-1], np.uint8)
    starts = [0, *ends[:-1]]
    arrays = [memory[a:b].view(dtype).reshape(s) for a, b, s in zip(starts, ends, shapes, strict=True)]
    if ends[-1] <= KEPT:
        _local.memory, _local.held = memory, ((shapes, dtype), arrays)
    return arrays


def _room(n: int, of: Bands) -> int:
    """Pixels along an axis from where the first part begins, or the input, to where the last one ends, or the input."""
    return max(0, -of.first) + max(n, of.first + of.reach)


def _inside(n: int, of: Bands) -> slice:
    """Where the input lies in the room."""
    start = max(0, -of.first)
    return slice(start, start + n)
