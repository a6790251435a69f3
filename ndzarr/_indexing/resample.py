"""Resampling along y and x, between grids that differ by scale and shift only.

Each output pixel is a weighted sum of input pixels, its *taps*, along y, then along x.  Few taps are gathered one by
one (`_weighted_sums`).  Many taps form a banded matrix, which is multiplied block by block (`bands`); small images are
multiplied with the whole matrix (`matrix`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

SUPPORT = {"area": 0.5, "nearest": 0.5, "linear": 1.0, "cubic": 2.0, "lanczos": 4.0}
"""Interpolation to the radius of its kernel, in pixels."""

ROUNDING = 1e-9
"""Pixels: computed positions within images of up to a million pixels along an axis are wrong by less."""


class Grid(NamedTuple):
    """Output pixels along one axis, in input pixels: pixel j covers [start + j*step, start + (j+1)*step)."""

    start: float
    step: float
    n: int
    ratio: tuple[int, int, int] | None = None
    """Numerators of `start` and `step`, and their common denominator, where both are known without rounding."""

    @property
    def exact(self) -> bool:
        """True if every output pixel is an input pixel."""
        return self.step == 1 and float(self.start).is_integer()

    def pixels_at_centres(self) -> Array:
        """Return the input pixel that holds the centre of each output pixel, shape (n,); may lie beyond the input."""
        if self.ratio is not None:
            start, step, whole = self.ratio
            if 2 * (abs(start) + self.n * step) < 2**62:  # int64 holds all numerators
                return (2 * start + (2 * np.arange(self.n) + 1) * step) // (2 * whole)
        return pixels_at(self.start + (np.arange(self.n) + 0.5) * self.step)


@lru_cache(maxsize=128)
def taps(grid: Grid, length: int, interpolation: str, antialias: bool = True) -> tuple[Array, Array]:
    """
    Return the input pixels of each output pixel, and their weights: two arrays of shape (taps, n).

    The weights of an output pixel add up to 1; taps beyond the input have weight 0 ('area' reducing) or fall on the
    border. With `antialias`, reducing stretches the kernel so that every input pixel counts. Callers must not write to
    the arrays: they are cached, as the frames and assets of a sample have few different grids.
    """
    if interpolation == "nearest":
        return np.clip(grid.pixels_at_centres(), 0, length - 1)[None], np.ones((1, grid.n))
    begin = grid.start + np.arange(grid.n) * grid.step
    centre = begin + grid.step / 2
    if interpolation != "area" or grid.step < 1 or not antialias:
        kernel = "linear" if interpolation == "area" else interpolation
        return _kernel_taps(centre, grid.step if antialias else 1.0, length, kernel)
    # Area: the weight of an input pixel is the length that it shares with the output pixel.
    first = np.floor(begin + ROUNDING)
    index = first + np.arange(ceil(grid.step) + 1)[:, None]
    weights = np.minimum(begin + grid.step, index + 1) - np.maximum(begin, index)
    weights[(weights < ROUNDING) | (index < 0) | (index >= length)] = 0
    weights[0, ~weights.any(axis=0)] = 1  # wholly beyond the input: repeat the border
    return _normalised(index, weights, length)


def pixels_at(positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """
    Return the index of the pixel that holds each position; pixel i covers [i, i + 1).

    A position within rounding error of a border between pixels lies on it, and belongs to the pixel that begins there.

    Examples
    --------
    >>> (0.1 + 0.7) * 10
    7.999999999999999
    >>> pixels_at(np.array([7.9, (0.1 + 0.7) * 10, -0.1]))
    array([ 7,  8, -1])
    """
    return np.asarray(np.floor(positions + ROUNDING).astype(np.intp))


def _kernel_taps(centre: Array, step: float, length: int, interpolation: str) -> tuple[Array, Array]:
    """Return the taps of a kernel around each centre; beyond the input the border is repeated."""
    stretch = max(1.0, step)
    reach = SUPPORT[interpolation] * stretch
    first = np.ceil(centre - 0.5 - reach + ROUNDING)
    index = first + np.arange(ceil(2 * reach))[:, None]
    weights = _KERNELS[interpolation]((index + 0.5 - centre) / stretch)
    weights[np.abs(weights) < 1e-12] = 0
    return _normalised(index, weights, length)


def _linear(d: Array) -> Array:
    return np.asarray(np.maximum(1 - np.abs(d), 0))


def _cubic(d: Array) -> Array:
    """Keys (1981) with a = -0.75, as in OpenCV, which warps rotated assets."""
    d = np.abs(d)
    near = (1.25 * d - 2.25) * d * d + 1
    far = ((-0.75 * d + 3.75) * d - 6) * d + 3
    return np.where(d < 1, near, np.where(d < 2, far, 0))


def _lanczos(d: Array) -> Array:
    """Duchon (1979) with four lobes on each side, as in OpenCV."""
    return np.where(np.abs(d) < 4, np.sinc(d) * np.sinc(d / 4), 0)


_KERNELS = {"linear": _linear, "cubic": _cubic, "lanczos": _lanczos}


def _normalised(index: Array, weights: Array, length: int) -> tuple[Array, Array]:
    """Drop taps without weight, make weights add up to 1, and clip indices to the input."""
    keep = weights.any(axis=1)
    weights, index = weights[keep], index[keep]
    return np.clip(index, 0, length - 1).astype(np.intp), weights / weights.sum(axis=0)


BLOCKS = range(5, 17)
"""Output pixels per block: few, so that blocks hold few zeros and BLAS wakes no threads for them."""


@dataclass(frozen=True, slots=True)
class Bands:
    """The banded matrix of one axis, as blocks of equal size along its diagonal."""

    first: int
    """First input pixel of the first block; negative if the block begins before the input."""
    stride: int
    """Input pixels from one block to the next."""
    weights: Array
    """Axes (block, output pixel, input pixel)."""
    transposed: Array
    """Axes (block, input pixel, output pixel)."""
    n: int
    """Output pixels; the blocks together may have more."""

    @property
    def reach(self) -> int:
        """Input pixels from the begin of the first block to the end of the last one."""
        return (len(self.weights) - 1) * self.stride + int(self.weights.shape[-1])


@lru_cache(maxsize=64)
def bands(grid: Grid, length: int, interpolation: str, antialias: bool, dtype: np.dtype[Any]) -> Bands:
    """Return the matrix of `taps`, in blocks of the size that needs the fewest products."""
    index, weights = taps(grid, length, interpolation, antialias)
    low, high = index.min(axis=0), index.max(axis=0) + 1
    _, block, first, stride, width = min(_block_cost(low, high, block) for block in BLOCKS)
    pixels = np.arange(grid.n)
    number = pixels // block
    out = np.zeros((int(number[-1]) + 1, block, width), dtype)
    np.add.at(out, (number, pixels % block, index - (first + number * stride)), weights)
    return Bands(first, stride, out, np.ascontiguousarray(out.swapaxes(1, 2)), grid.n)


def _block_cost(low: Array, high: Array, block: int) -> tuple[int, int, int, int, int]:
    """Return (products, block, first, stride, width) for blocks of `block` output pixels."""
    starts = np.arange(0, len(low), block)
    low, high = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
    part = np.arange(len(low))
    stride = max(1, round((low[-1] - low[0]) / max(1, len(low) - 1)))
    first = int((low - part * stride).min())
    width = int((high - part * stride).max()) - first
    return len(low) * (block + FIXED) * width, block, first, stride, width


FIXED = 2
"""Cost of loading a pixel, as a number of products."""


@lru_cache(maxsize=256)
def matrix(grid: Grid, length: int, interpolation: str, antialias: bool, dtype: np.dtype[Any]) -> Array:
    """Return `taps` as a dense matrix of shape (grid.n, length)."""
    out = np.zeros((grid.n, length), dtype)
    index, weights = taps(grid, length, interpolation, antialias)
    np.add.at(out, (np.arange(grid.n), index), weights)
    return out


def through_bands(image: Array, rows: Bands, columns: Bands) -> Iterator[tuple[slice, Array]]:
    """
    Multiply finite planes (plane, y, x) along y, then along x; yield (slice of planes, their values).

    The next step overwrites the values. Each plane is multiplied by itself, so that results do not depend on how many
    are stacked.
    """
    height, width = _padded_length(image.shape[-2], rows), _padded_length(image.shape[-1], columns)
    shapes = (height, width), (rows.weights[..., 0].size, width), (rows.n, columns.weights[..., 0].size)
    together = max(1, min(len(image), SCRATCH_BYTES // (height * width * rows.weights.itemsize)))
    padded, down, out = _scratch(tuple([(together, *shape) for shape in shapes]), rows.weights.dtype)
    inside = _inside(image.shape[-2], rows), _inside(image.shape[-1], columns)
    if (height, width) != image.shape[-2:]:
        padded.fill(0)
    # The inputs of the blocks overlap; their outputs do not.
    above = _block_inputs(padded, rows, width, axis=1)
    left = _block_inputs(down, columns, rows.n, axis=2)
    below = down.reshape(together, *rows.weights.shape[:2], width)
    right = out.reshape(together, rows.n, *columns.weights.shape[:2]).swapaxes(1, 2)
    for k in range(0, len(image), together):
        n = min(together, len(image) - k)
        padded[:n][:, *inside] = image[k : k + n]
        np.matmul(rows.weights, above[:n], out=below[:n])
        np.matmul(left[:n], columns.transposed, out=right[:n])
        yield slice(k, k + n), out[:n, :, : columns.n]


def _block_inputs(planes: Array, of: Bands, others: int, axis: int) -> Array:
    """Return overlapping views of the blocks' inputs: (plane, block, input, x), or (plane, block, y, input) along x."""
    plane, y, x = planes.strides
    along = y if axis == 1 else x
    blocks, _, width = of.weights.shape
    inner = (width, others) if axis == 1 else (others, width)
    strides = plane, of.stride * along, y, x
    return np.ndarray((len(planes), blocks, *inner), planes.dtype, planes.data, max(0, of.first) * along, strides)


SCRATCH_BYTES = 4 << 20
"""Bytes of planes that are multiplied together: as many as a processor's caches hold."""

KEPT = 8 << 20
"""Bytes of scratch that a thread keeps for the next call: new memory takes as long as the products (measured)."""

_local = threading.local()


def _scratch(shapes: tuple[tuple[int, ...], ...], dtype: np.dtype[Any]) -> list[Array]:
    """Return uninitialised arrays, which the next call in the same thread overwrites."""
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


def _padded_length(n: int, of: Bands) -> int:
    """Return the length of an axis that holds both the input and all blocks."""
    return max(0, -of.first) + max(n, of.first + of.reach)


def _inside(n: int, of: Bands) -> slice:
    """Return the place of the input on the padded axis."""
    start = max(0, -of.first)
    return slice(start, start + n)


def resample(
    image: Array,
    y: Grid,
    x: Grid,
    interpolation: str = "area",
    valid: Array | None = None,
    antialias: bool = True,
    out: Array | None = None,
    avoid: tuple[Any, Any] | None = None,
) -> Array:
    """
    Resample axes (..., y, x) to (..., y.n, x.n) of the same dtype; integers are rounded, not truncated.

    Parameters
    ----------
    valid
        True where pixels count, or their weights (integers up to the largest of their type, or numbers up to 1),
        broadcastable to the image; NaN never counts.  The mean is over valid pixels only.  Where there are none the
        result is the nearest pixel, so that the value that marks missing data is kept.
    antialias
        When reducing, stretch the kernel so that every input pixel counts.
    avoid
        A value that no mean may have, as it marks missing data, and that which such means become; or arrays of them
        that broadcast to the image.
    """
    base = _base(image) if interpolation != "nearest" else 0
    if base:
        near = (image - image.dtype.type(base)).astype(np.int64)
        off = np.array([base], image.dtype)  # arrays wrap around silently, as the image does
        shifted = None if avoid is None else ((avoid[0] - off).astype(np.int64), (avoid[1] - off).astype(np.int64))
        away = _resampled(near, y, x, interpolation, valid, antialias, None, shifted)
        low, high = _limits(image.dtype)
        away = np.clip(away, max(low - base, _LEAST), min(high - base, _MOST))  # cubic and lanczos overshoot
        done: Array = away.astype(image.dtype) + image.dtype.type(base)
    else:
        done = _resampled(image, y, x, interpolation, valid, antialias, out, avoid)
    if out is None or done is out:
        return done
    out[...] = done
    return out


def _base(image: Array) -> int:
    """Return what to subtract from 64-bit integers that float64 would round; 0 if it would not, or nothing helps."""
    if image.dtype.kind not in "iu" or image.dtype.itemsize < 8 or not image.size:
        return 0
    least, most = int(image.min()), int(image.max())
    if max(-least, most) <= _WHOLE or most - least >= _WHOLE:
        return 0
    return least - least % 2  # even: halves are rounded to even numbers


_WHOLE = 1 << 53
"""float64 holds all integers up to this."""
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


def _resampled(
    image: Array,
    y: Grid,
    x: Grid,
    interpolation: str,
    valid: Array | None,
    antialias: bool,
    out: Array | None,
    avoid: tuple[Any, Any] | None,
) -> Array:
    """Do the work of `resample`; the result is `out` itself where that saves a copy."""
    down = taps(y, image.shape[-2], interpolation, antialias)
    across = taps(x, image.shape[-1], interpolation, antialias)
    if interpolation == "nearest":
        return image[..., down[0][0], :][..., across[0][0]]
    real = _working_type(image.dtype)
    valid = _without_nan(image, valid)
    if valid is None:
        height, width = image.shape[-2:]
        # Dense matrices take integers only: infinity times 0 would not be 0.
        if image.dtype.kind in "iu" and y.n * height + x.n * width <= DENSE:
            rows = matrix(y, height, interpolation, antialias, real)
            columns = matrix(x, width, interpolation, antialias, real)
            return rounded(rows @ image.astype(real) @ columns.T, image.dtype)
        finite = image.dtype.kind not in "fc" or bool(np.isfinite(image).all())
        if finite and image.dtype.kind != "c" and min(len(down[0]), len(across[0])) >= BANDED:
            axes = [bands(grid, n, interpolation, antialias, real) for grid, n in ((y, height), (x, width))]
            return _banded(image, axes, interpolation, out)
        return rounded(_weighted_sums(image.astype(real), down, across, finite), image.dtype)
    load = valid.astype(real)
    if valid.dtype.kind in "iu":
        load /= np.iinfo(valid.dtype).max
    share = _weighted_sums(load, down, across)
    some = share > (1e-3 if interpolation in ("cubic", "lanczos") else 0)  # negative lobes leave shares near 0
    counted = np.where(valid > 0, image, 0).astype(real)
    if valid.dtype.kind != "b":
        counted *= load
    kept = _weighted_sums(counted, down, across, image.dtype.kind not in "fc" or bool(np.isfinite(counted).all()))
    means = rounded(kept / np.where(some, share, 1), image.dtype)
    if avoid is not None:
        means = np.where(means == avoid[0], avoid[1], means)
    return np.where(some, means, resample(image, y, x, "nearest"))


def _banded(image: Array, axes: Sequence[Bands], interpolation: str, out: Array | None) -> Array:
    """Multiply with the banded matrices of y and x, in few calls: each may have to wait for Python's lock."""
    shape = (*image.shape[:-2], *[axis.n for axis in axes])
    if out is None or not out.flags.c_contiguous or out.dtype != image.dtype:
        out = np.empty(shape, image.dtype)
    flat = out.reshape(-1, *shape[-2:])
    for planes, values in through_bands(image.reshape(-1, *image.shape[-2:]), *axes):
        if image.dtype.kind in "iu" and image.dtype.itemsize < 8 and interpolation in ("area", "linear"):
            np.rint(values, out=flat[planes], casting="unsafe")  # means do not overshoot
        else:
            flat[planes] = rounded(values, image.dtype)
    return out


DENSE = 1 << 14
"""Elements of the two dense matrices up to which multiplying costs less than gathering taps one by one."""

BANDED = 3
"""Taps per output pixel from which banded matrices cost less than gathering (half as much, measured)."""


def _without_nan(image: Array, valid: Array | None) -> Array | None:
    """Return which pixels count: NaN would spread to every pixel near it."""
    if image.dtype.kind not in "fc" or not image.size or not np.isnan(image.min()):  # min propagates NaN
        return valid
    return np.asarray(~np.isnan(image) if valid is None else valid * ~np.isnan(image))


def _weighted_sums(image: Array, down: Any, across: Any, finite: bool = True) -> Array:
    """Sum taps along y, then along x; rows are gathered whole, columns as rows of the transpose."""
    image = _along_rows(image, down[0], down[1], finite)
    transposed = np.ascontiguousarray(np.swapaxes(image, -1, -2))
    return np.swapaxes(_along_rows(transposed, across[0], across[1], finite), -1, -2)


def _along_rows(image: Array, indices: Array, weights: Array, finite: bool) -> Array:
    weights = weights.astype(image.real.dtype)[..., None]
    out: Array = image.take(indices[0], axis=-2)
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


def rounded(values: Array, dtype: np.dtype[Any]) -> Array:
    """
    Convert means to pixels: integers are rounded, not truncated; bool is the value of at least half of the pixel.

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
    # float64 cannot hold the largest 64-bit integers: values rounded up to 2**63 or 2**64 would wrap.
    above = values >= float(high)
    out = np.where(above, 0, np.maximum(values, float(low))).astype(dtype)
    out[above] = high
    return out


@lru_cache(maxsize=16)
def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the smallest and largest integer; asking numpy costs as much as rounding a small crop."""
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)
