"""
Halving a level along y and x, and along z for volumes.

Each output pixel is made from the 2x2 (or 2x2x2) pixels that it covers; at an odd border from those that exist.

Intensities become the mean of the valid pixels, rounded: halves up on odd levels and down on even ones, since always
rounding up would make the 8th level of a photograph one grey level too bright. NaN and nodata are left out of the mean;
where all are missing, so is the result. Labels become the most frequent one, the first in reading order where they tie.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, TypeAlias

import numpy as np

Reducer: TypeAlias = Callable[[np.ndarray[Any, Any], int], np.ndarray[Any, Any]]
"""Axes (..., y, x) and the level being made, to (..., ceil(y/2), ceil(x/2)) of the same dtype; for volumes axes (...,
z, y, x), and z is halved too."""

_OPENCV = frozenset(["u1", "u2", "i2", "f4", "f8"])
"""Types for which OpenCV's area resize is the exact mean of 2x2."""


def reducer(dtype: np.dtype[Any], kind: str, nodata: float | None = None, volume: bool = False) -> Reducer:
    """Return the function that halves images of a dtype and kind ('intensity' or 'labels'), and z too for volumes."""
    n = 3 if volume else 2
    if kind == "labels" or dtype.kind == "b":
        return lambda image, level: _mode(image, n)
    marker = as_pixel(nodata, dtype)
    if marker is not None and marker == marker:
        return lambda image, level: _masked_mean(image, holds_data(image, marker), marker, level, n)
    mean = {"f": _float_mean, "c": _complex_mean}.get(dtype.kind, _integer_mean)
    return lambda image, level: mean(image, level, n)


def as_pixel(nodata: float | None, dtype: np.dtype[Any]) -> Any:
    """Return the nodata value as a pixel of a dtype; None where no pixel can have it (-9999 in uint8)."""
    if nodata is None:
        return None
    if dtype.kind not in "iub" or nodata == 0:
        return dtype.type(nodata)
    if not (np.isfinite(nodata) and float(nodata).is_integer()):
        return None
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return dtype.type(int(nodata)) if low <= int(nodata) <= high else None


def holds_data(image: np.ndarray[Any, Any], marker: Any) -> np.ndarray[Any, Any]:
    """Return True where pixels are neither NaN nor the nodata value, as `as_pixel` returns it."""
    if image.dtype.kind not in "fc":
        return np.ones(image.shape, bool) if marker is None else np.asarray(image != marker)
    real = ~np.isnan(image)
    return np.asarray(real if marker is None else real & (image != marker))


def _even(image: np.ndarray[Any, Any], n: int = 2) -> np.ndarray[Any, Any]:
    """Repeat the last row and column (and plane) where their number is odd: the mean of a pixel with itself."""
    odd = [length % 2 for length in image.shape[-n:]]
    return np.pad(image, [(0, 0)] * (image.ndim - n) + [(0, o) for o in odd], mode="edge") if any(odd) else image


def _parts(image: np.ndarray[Any, Any], n: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Return the 2**n pixels of each block along the last n axes, in reading order."""
    image = _even(image, n)
    corners: Any = product((slice(None, None, 2), slice(1, None, 2)), repeat=n)
    return tuple(image[(..., *corner)] for corner in corners)


def _opencv_mean(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import cv2  # takes longer to import than everything that only reads needs

    image = _even(image)
    height, width = image.shape[-2] // 2, image.shape[-1] // 2
    out = np.empty((*image.shape[:-2], height, width), image.dtype)
    for k in np.ndindex(image.shape[:-2]):
        cv2.resize(np.ascontiguousarray(image[k]), (width, height), dst=out[k], interpolation=cv2.INTER_AREA)
    return out


def _integer_mean(image: np.ndarray[Any, Any], level: int, n: int) -> np.ndarray[Any, Any]:
    """Return (a + b + c + d + 2) >> 2 on odd levels, + 1 on even ones; no intermediate result overflows."""
    up = level % 2 == 1
    if n == 2 and image.dtype.str[1:] in _OPENCV and image.dtype.itemsize * image.size:
        # Rounding down is rounding up of the complement: ~mean_up(~x).
        return _opencv_mean(image) if up else ~_opencv_mean(~image)
    parts = _parts(image, n)
    whole = sum((p >> n for p in parts[1:]), parts[0] >> n)
    half = len(parts) // 2
    rest = sum(((p & (len(parts) - 1)).astype(np.uint8) for p in parts), np.uint8(half if up else half - 1))
    return np.asarray(whole + (rest >> n).astype(image.dtype)).astype(image.dtype)


def _float_mean(image: np.ndarray[Any, Any], level: int, n: int) -> np.ndarray[Any, Any]:
    if np.isnan(image.min()):  # min propagates NaN, and costs less than a mask
        return _masked_mean(image, ~np.isnan(image), image.dtype.type(np.nan), level, n)
    if n == 2 and image.dtype.str[1:] in _OPENCV:
        mean = _opencv_mean(image)
        if np.isfinite(mean).all():
            return mean
    # A sum may overflow where the mean does not: -3.4e38 is a common mark of missing data.
    parts = [p.astype(np.promote_types(image.dtype, "f4")) * 0.5**n for p in _parts(image, n)]
    with np.errstate(invalid="ignore"):  # the mean of both infinities is NaN
        return np.asarray(sum(parts[1:], parts[0])).astype(image.dtype)


def _complex_mean(image: np.ndarray[Any, Any], level: int, n: int) -> np.ndarray[Any, Any]:
    real = _float_mean(image.real, level, n)
    out = np.empty(real.shape, image.dtype)
    out.real, out.imag = real, _float_mean(image.imag, level, n)
    return out


def _masked_mean(
    image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any], missing: Any, level: int, n: int
) -> np.ndarray[Any, Any]:
    masks = _parts(valid, n)
    parts = [np.where(ok, part, image.dtype.type(0)) for part, ok in zip(_parts(image, n), masks, strict=True)]
    number = sum(ok.astype(np.uint8) for ok in masks)
    divisor = np.maximum(number, 1)
    if image.dtype.kind in "iu" and image.dtype.itemsize == 8:  # too large for float64
        whole = sum(p // divisor.astype(image.dtype) for p in parts)
        rest = sum((p % divisor.astype(image.dtype)).astype(np.uint8) for p in parts)
        mean = whole + ((2 * rest + divisor - (level + 1) % 2) // (2 * divisor)).astype(image.dtype)
    else:
        with np.errstate(invalid="ignore"):  # the mean of both infinities is NaN
            mean = sum(p.astype(np.promote_types(image.dtype, "f8")) for p in parts) / divisor
        if image.dtype.kind in "iu":
            mean = np.floor(mean + 0.5) if level % 2 else np.ceil(mean - 0.5)
    return np.asarray(np.where(number > 0, mean.astype(image.dtype), missing))


def _mode(image: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
    parts = _parts(image, n)
    if n == 2:
        a, b, c, d = parts
        rest = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
        return np.where((a == b) | (a == c) | (a == d), a, rest)
    best, most = parts[0], np.zeros(parts[0].shape, np.uint8)
    for part in parts:
        votes = sum((part == other).astype(np.uint8) for other in parts)
        best, most = np.where(votes > most, part, best), np.maximum(votes, most)
    return best
