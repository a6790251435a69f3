"""How do pixels on one grid become pixels on another, along y and x, when the grids differ by scale and shift only?

Each output pixel is a weighted sum of a few input pixels per axis (its *taps*):

- 'area', reducing: the mean over the interval that the output pixel covers, pixels at its ends counting in part.
  This is the anti-aliasing of a box filter, and at equal scale with a fractional shift it is linear interpolation.
- 'area', enlarging: linear interpolation between pixel centres, the border repeated.
- 'nearest': the pixel that holds the centre of the output pixel.
- 'linear', 'cubic' (Keys 1981, a = -1/2), 'lanczos' (3 lobes): the named kernel around the centre of the output
  pixel, stretched by the reduction factor where anti-aliasing is wanted, as Pillow does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any, TypeAlias

import numpy as np

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


def resample(
    image: np.ndarray[Any, Any],
    y: Grid,
    x: Grid,
    interpolation: str = "area",
    valid: np.ndarray[Any, Any] | None = None,
    antialias: bool = True,
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

    Returns
    -------
    Axes (..., y.n, x.n), of the same dtype; integers are rounded, not truncated.
    """
    down = taps(y, image.shape[-2], interpolation, antialias)
    across = taps(x, image.shape[-1], interpolation, antialias)
    if interpolation == "nearest":
        return image[..., down[0][0], :][..., across[0][0]]
    real = _working_type(image.dtype)
    valid = _and_not_nan(image, valid)
    if valid is None:
        height, width = image.shape[-2:]
        if image.dtype.kind in "iu" and y.n * height + x.n * width <= DENSE:  # infinity times 0 is no 0
            rows = _matrix(y, height, interpolation, antialias, real)
            columns = _matrix(x, width, interpolation, antialias, real)
            return rounded(rows @ image.astype(real) @ columns.T, image.dtype)
        finite = image.dtype.kind not in "fc" or bool(np.isfinite(image).all())
        if finite and image.dtype.kind != "c" and min(len(down[0]), len(across[0])) >= BANDED:
            bands = _bands(y, height, interpolation, antialias, real), _bands(x, width, interpolation, antialias, real)
            return rounded(_through_bands(image.astype(real), *bands), image.dtype)
        return rounded(_weighted(image.astype(real), down, across, finite), image.dtype)
    part = np.broadcast_to(valid, image.shape)
    share = _weighted(part.astype(real), down, across)
    some = share > (1e-3 if interpolation in ("cubic", "lanczos") else 0)  # negative lobes leave shares near 0
    counted = np.where(part, image, 0).astype(real)
    kept = _weighted(counted, down, across, image.dtype.kind not in "fc" or bool(np.isfinite(counted).all()))
    means = rounded(kept / np.where(some, share, 1), image.dtype)
    return np.where(some, means, resample(image, y, x, "nearest"))


DENSE = 1 << 14
"""Numbers in the two matrices up to which products with them cost less than gathering taps, one by one."""


BANDED = 3
"""Taps from which on products with parts of the matrices cost less than gathering (half as much, measured)."""

BLOCK = 8
"""Output pixels per part: few, so that the parts hold few zeros, and that BLAS does not wake threads for them."""

Band: TypeAlias = tuple[slice, slice, np.ndarray[Any, Any]]
"""(output pixels, the input pixels that they are made from, weights of shape (output, input))."""


@lru_cache(maxsize=64)
def _bands(grid: Grid, length: int, interpolation: str, antialias: bool, dtype: np.dtype[Any]) -> tuple[Band, ...]:
    """The parts of `_matrix` that are not zero."""
    index, weights = taps(grid, length, interpolation, antialias)
    found = []
    for first in range(0, grid.n, BLOCK):
        some = slice(first, min(first + BLOCK, grid.n))
        rows, low, high = index[:, some], int(index[:, some].min()), int(index[:, some].max()) + 1
        matrix = np.zeros((some.stop - first, high - low), dtype)
        np.add.at(matrix, (np.arange(some.stop - first), rows - low), weights[:, some])
        found.append((some, slice(low, high), matrix))
    return tuple(found)


def _through_bands(image: np.ndarray[Any, Any], rows: Sequence[Band], columns: Sequence[Band]) -> np.ndarray[Any, Any]:
    """Products along y, then along x; each image by itself, so that it does not matter how many are stacked."""
    lead, (height, width) = image.shape[:-2], (rows[-1][0].stop, columns[-1][0].stop)
    down = np.empty((*lead, height, image.shape[-1]), image.dtype)
    for some, made_from, matrix in rows:
        np.matmul(matrix, image[..., made_from, :], out=down[..., some, :])
    out = np.empty((*lead, height, width), image.dtype)
    for some, made_from, matrix in columns:
        out[..., some] = down[..., made_from] @ matrix.T
    return out


@lru_cache(maxsize=256)
def _matrix(grid: Grid, length: int, interpolation: str, antialias: bool, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Taps as a matrix of shape (grid.n, length)."""
    matrix = np.zeros((grid.n, length), dtype)
    np.add.at(matrix, (np.arange(grid.n), (found := taps(grid, length, interpolation, antialias))[0]), found[1])
    return matrix


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
