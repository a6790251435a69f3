"""How do pixels on one grid become pixels on another, along y and x, when the grids differ by scale and shift only?

Each output pixel is a weighted sum of its taps (`geometry.taps`) along y, then along x.  Few taps are gathered one by
one; many are the parts of a matrix that are not zero, and their sums are products with it (`geometry.bands`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ndzarr.geometry.bands import Bands, bands, matrix, through_bands
from ndzarr.geometry.taps import Grid, taps


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
