"""How do pixels on one grid become pixels on another, along y and x, when the grids differ by scale and shift only?

Each output pixel is a weighted sum of its taps (`geometry.taps`) along y, then along x.  Few taps are gathered one by
one; many are the parts of a matrix that are not zero, and their sums are products with it (`geometry.bands`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod
from typing import Any

import numpy as np

# --- Which input pixels make an output pixel, with which weights, when two grids differ by scale and shift only?


SUPPORT = {"area": 0.5, "nearest": 0.5, "linear": 1.0, "cubic": 2.0, "lanczos": 3.0}
"""Interpolation to the distance, in pixels, at which its kernel ends."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Output pixels along one axis, in coordinates of the input: pixel j covers [start + j*step, start +
    (j+1)*step).
    """

    start: float
    """Where the first output pixel begins."""
    step: float
    """Input pixels per output pixel."""
    n: int
    """Number of output pixels."""

    @property
    def exact(self) -> bool:
        """True where output pixels are input pixels."""
        return self.step == 1 and float(self.start).is_integer()


@lru_cache(maxsize=128)
def taps(
    grid: Grid, length: int, interpolation: str, antialias: bool = True
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """
    Which input pixels make each output pixel, and with which weights.

    Parameters
    ----------
    length
        Number of input pixels; taps beyond them have weight 0 ('area' reducing) or fall on the border.
    interpolation
        One of `SUPPORT`.
    antialias
        Where reducing, stretch the kernel so that every input pixel counts.

    Returns
    -------
    indices, weights
        Both of shape (taps, n); weights of an output pixel add up to 1.  They are remembered: the frames and assets
        of a sample have few different grids, so callers must not write to them.
    """
    begin = grid.start + np.arange(grid.n) * grid.step
    centre = begin + grid.step / 2
    if interpolation == "nearest":
        return np.clip(np.floor(centre), 0, length - 1).astype(np.intp)[None], np.ones((1, grid.n))
    if interpolation != "area" or grid.step < 1 or not antialias:
        kernel = "linear" if interpolation == "area" else interpolation
        return _kernel_taps(centre, grid.step if antialias else 1.0, length, kernel)
    first = np.floor(begin + 1e-9)
    index = first + np.arange(ceil(grid.step) + 1)[:, None]
    weights = np.minimum(begin + grid.step, index + 1) - np.maximum(begin, index)
    weights[(weights < 1e-9) | (index < 0) | (index >= length)] = 0
    weights[0, ~weights.any(axis=0)] = 1  # wholly beyond the input: the border repeated
    keep = weights.any(axis=1)
    weights, index = weights[keep], index[keep]
    return _settled(index, weights / weights.sum(axis=0), length)


def _kernel_taps(
    centre: np.ndarray[Any, Any], step: float, length: int, interpolation: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Taps of a kernel around centres; beyond the input the border is repeated."""
    stretch = max(1.0, step)
    reach = SUPPORT[interpolation] * stretch
    first = np.ceil(centre - 0.5 - reach + 1e-9)
    index = first + np.arange(ceil(2 * reach))[:, None]
    weights = _KERNELS[interpolation]((index + 0.5 - centre) / stretch)
    weights[np.abs(weights) < 1e-12] = 0
    keep = weights.any(axis=1)
    weights, index = weights[keep], index[keep]
    return _settled(index, weights / weights.sum(axis=0), length)


def _linear(d: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(np.maximum(1 - np.abs(d), 0))


def _cubic(d: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    d = np.abs(d)
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0))


def _lanczos(d: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.where(np.abs(d) < 3, np.sinc(d) * np.sinc(d / 3), 0)


_KERNELS = {"linear": _linear, "cubic": _cubic, "lanczos": _lanczos}


def _settled(
    index: np.ndarray[Any, Any], weights: np.ndarray[Any, Any], length: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Taps within the input."""
    return np.clip(index, 0, length - 1).astype(np.intp), weights


# --- How are weighted sums along two axes a few products of small matrices?


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


def resample(
    image: np.ndarray[Any, Any],
    y: Grid,
    x: Grid,
    interpolation: str = "area",
    valid: np.ndarray[Any, Any] | None = None,
    antialias: bool = True,
    out: np.ndarray[Any, Any] | None = None,
) -> np.ndarray[Any, Any]:
    """
    Resample along the last two axes.

    Parameters
    ----------
    image
        Axes (..., y, x).
    valid
        True where pixels count, broadcastable to the image; NaN never does.  The mean is over valid pixels only;
        where there is none the result is the nearest pixel, so that what marks missing data stays exactly that.
    out
        Where the result goes; made if left out.

    Returns
    -------
    Axes (..., y.n, x.n), of the same dtype; integers are rounded, not truncated.
    """
    done = _resampled(image, y, x, interpolation, valid, antialias, out)
    if out is None or done is out:
        return done
    out[...] = done
    return out


def _resampled(
    image: np.ndarray[Any, Any],
    y: Grid,
    x: Grid,
    interpolation: str,
    valid: np.ndarray[Any, Any] | None,
    antialias: bool,
    out: np.ndarray[Any, Any] | None,
) -> np.ndarray[Any, Any]:
    """What `resample` returns: `out`, where that saves a copy."""
    down = taps(y, image.shape[-2], interpolation, antialias)
    across = taps(x, image.shape[-1], interpolation, antialias)
    if interpolation == "nearest":
        return image[..., down[0][0], :][..., across[0][0]]
    real = _working_type(image.dtype)
    valid = _and_not_nan(image, valid)
    if valid is None:
        height, width = image.shape[-2:]
        if image.dtype.kind in "iu" and y.n * height + x.n * width <= DENSE:  # infinity times 0 is no 0
            rows = matrix(y, height, interpolation, antialias, real)
            columns = matrix(x, width, interpolation, antialias, real)
            return rounded(rows @ image.astype(real) @ columns.T, image.dtype)
        finite = image.dtype.kind not in "fc" or bool(np.isfinite(image).all())
        if finite and image.dtype.kind != "c" and min(len(down[0]), len(across[0])) >= BANDED:
            parts = [bands(grid, n, interpolation, antialias, real) for grid, n in ((y, height), (x, width))]
            return _banded(image, parts, interpolation, out)
        return rounded(_weighted(image.astype(real), down, across, finite), image.dtype)
    part = np.broadcast_to(valid, image.shape)
    share = _weighted(part.astype(real), down, across)
    some = share > (1e-3 if interpolation in ("cubic", "lanczos") else 0)  # negative lobes leave shares near 0
    counted = np.where(part, image, 0).astype(real)
    kept = _weighted(counted, down, across, image.dtype.kind not in "fc" or bool(np.isfinite(counted).all()))
    means = rounded(kept / np.where(some, share, 1), image.dtype)
    return np.where(some, means, resample(image, y, x, "nearest"))


def _banded(
    image: np.ndarray[Any, Any], parts: Sequence[Bands], interpolation: str, out: np.ndarray[Any, Any] | None
) -> np.ndarray[Any, Any]:
    """Products with the matrices of y and x, in few calls: each of them may have to wait for Python's lock."""
    shape = (*image.shape[:-2], *[part.n for part in parts])
    if out is None or not out.flags.c_contiguous or out.dtype != image.dtype:
        out = np.empty(shape, image.dtype)
    flat = out.reshape(-1, *shape[-2:])
    for planes, values in through_bands(image.reshape(-1, *image.shape[-2:]), *parts):
        if image.dtype.kind in "iu" and image.dtype.itemsize < 8 and interpolation in ("area", "linear"):
            np.rint(values, out=flat[planes], casting="unsafe")  # means do not overshoot
        else:
            flat[planes] = rounded(values, image.dtype)
    return out


DENSE = 1 << 14
"""Numbers in the two matrices up to which products with them cost less than gathering taps, one by one."""

BANDED = 3
"""Taps from which on products with parts of the matrices cost less than gathering (half as much, measured)."""


def _and_not_nan(image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any] | None:
    """Pixels that count: NaN never does, or it would spread to every pixel near it."""
    if image.dtype.kind not in "fc" or not image.size or not np.isnan(image.min()):  # min propagates NaN
        return valid
    return np.asarray(~np.isnan(image) if valid is None else valid & ~np.isnan(image))


def _weighted(image: np.ndarray[Any, Any], down: Any, across: Any, finite: bool = True) -> np.ndarray[Any, Any]:
    """Sum of taps along y, then along x; rows are gathered whole, columns as rows of the transpose."""
    image = _along_rows(image, down[0], down[1], finite)
    turned = np.ascontiguousarray(np.swapaxes(image, -1, -2))
    return np.swapaxes(_along_rows(turned, across[0], across[1], finite), -1, -2)


def _along_rows(
    image: np.ndarray[Any, Any], indices: np.ndarray[Any, Any], weights: np.ndarray[Any, Any], finite: bool
) -> np.ndarray[Any, Any]:
    weights = weights.astype(image.real.dtype)[..., None]
    out: np.ndarray[Any, Any] = image.take(indices[0], axis=-2)
    with np.errstate(invalid="ignore" if not finite else None):  # the mean of both infinities is NaN
        if not finite:  # 0 times infinity is not 0
            out[..., weights[0, :, 0] == 0, :] = 0
        out *= weights[0]
        for index, weight in zip(indices[1:], weights[1:], strict=True):
            row = image.take(index, axis=-2)
            if not finite:
                row[..., weight[:, 0] == 0, :] = 0
            row *= weight
            out += row
    return out


def _working_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "c":
        return dtype
    return np.dtype("f4") if dtype.itemsize <= 2 or dtype == np.dtype("f4") else np.dtype("f8")


def rounded(values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """
    Means as pixels: integers are rounded, not truncated; bool is what more than half of the pixel is.

    Examples
    --------
    >>> rounded(np.array([0.4, 1.5, 2.5, 254.9]), np.dtype("u1"))
    array([  0,   2,   2, 255], dtype=uint8)
    """
    if dtype.kind == "b":
        return np.asarray(values >= 0.5)
    if dtype.kind not in "iu":
        return values.astype(dtype, copy=False)
    values = np.rint(values)
    low, high = _limits(dtype)
    if dtype.itemsize < 8:
        np.clip(values, low, high, out=values)  # cubic and lanczos overshoot at edges
        return values.astype(dtype)
    # float64 has no number for the largest 64-bit integers: what is rounded up to 2**63 or 2**64 would wrap.
    above = values >= float(high)
    out = np.where(above, 0, np.maximum(values, float(low))).astype(dtype)
    out[above] = high
    return out


@lru_cache(maxsize=16)
def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Smallest and largest integer; asking numpy costs as much as rounding a small crop."""
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)
