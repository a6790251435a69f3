"""How do the pixels of one level become those of the next, half as large along y and x?

Each output pixel is made from the 2x2 pixels it covers; at an odd border from the one or two that exist.

Intensities: the mean of the valid ones, rounded.  Halves are rounded up on odd levels and down on even ones: always
rounding up would make the 8th level of a photograph one grey level too bright.  NaN and nodata are left out of the
mean; where all are missing the result is too.  Labels: the most frequent one, the first in reading order where they
tie.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

Reducer: TypeAlias = Callable[[np.ndarray[Any, Any], int], np.ndarray[Any, Any]]
"""Axes (..., y, x) and the level being made, to (..., ceil(y/2), ceil(x/2)) of the same dtype."""

_OPENCV = frozenset(["u1", "u2", "i2", "f4", "f8"])
"""Types for which OpenCV's area resize is the exact mean of 2x2."""


def reducer(dtype: np.dtype[Any], kind: str, nodata: float | None = None) -> Reducer:
    """
    The way to halve images of a dtype.

    Parameters
    ----------
    kind
        'intensity' or 'labels'.
    nodata
        Value that marks invalid pixels, if any.
    """
    if kind == "labels" or dtype.kind == "b":
        return _mode
    marker = as_pixel(nodata, dtype)
    if marker is not None and marker == marker:
        return lambda image, level: _masked_mean(image, holds_data(image, marker), marker, level)
    return {"f": _float_mean, "c": _complex_mean}.get(dtype.kind, _integer_mean)


def as_pixel(nodata: float | None, dtype: np.dtype[Any]) -> Any:
    """The nodata value as pixels of a dtype have it; None where there is none that they could have (-9999 in uint8)."""
    if nodata is None:
        return None
    if dtype.kind not in "iub" or nodata == 0:
        return dtype.type(nodata)
    if not (np.isfinite(nodata) and float(nodata).is_integer()):
        return None
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return dtype.type(int(nodata)) if low <= int(nodata) <= high else None


def holds_data(image: np.ndarray[Any, Any], marker: Any) -> np.ndarray[Any, Any]:
    """
    True where pixels are real: neither NaN nor the nodata value.

    Parameters
    ----------
    marker
        As `as_pixel` returns it.
    """
    if image.dtype.kind not in "fc":
        return np.ones(image.shape, bool) if marker is None else np.asarray(image != marker)
    real = ~np.isnan(image)
    return np.asarray(real if marker is None else real & (image != marker))


def _even(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Repeat the last row and column where their number is odd; the mean of a pixel with itself is the pixel."""
    odd_y, odd_x = image.shape[-2] % 2, image.shape[-1] % 2
    if not (odd_y or odd_x):
        return image
    return np.pad(image, [(0, 0)] * (image.ndim - 2) + [(0, odd_y), (0, odd_x)], mode="edge")


def _quarters(image: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
    """The four pixels of each 2x2 block, in reading order."""
    image = _even(image)
    return image[..., ::2, ::2], image[..., ::2, 1::2], image[..., 1::2, ::2], image[..., 1::2, 1::2]


def _opencv_mean(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import cv2  # takes longer to import than everything that only reads needs

    image = _even(image)
    height, width = image.shape[-2] // 2, image.shape[-1] // 2
    out = np.empty((*image.shape[:-2], height, width), image.dtype)
    for k in np.ndindex(image.shape[:-2]):
        cv2.resize(np.ascontiguousarray(image[k]), (width, height), dst=out[k], interpolation=cv2.INTER_AREA)
    return out


def _integer_mean(image: np.ndarray[Any, Any], level: int) -> np.ndarray[Any, Any]:
    """(a + b + c + d + 2) >> 2 on odd levels, + 1 on even ones; no intermediate overflows."""
    up = level % 2 == 1
    if image.dtype.str[1:] in _OPENCV and image.dtype.itemsize * image.size:
        # Rounding down is rounding up of the complement: ~mean_up(~x).
        return _opencv_mean(image) if up else ~_opencv_mean(~image)
    parts = _quarters(image)
    whole = sum((p >> 2 for p in parts[1:]), parts[0] >> 2)
    rest = sum(((p & 3).astype(np.uint8) for p in parts), np.uint8(2 if up else 1))
    return np.asarray(whole + (rest >> 2).astype(image.dtype)).astype(image.dtype)


def _float_mean(image: np.ndarray[Any, Any], level: int) -> np.ndarray[Any, Any]:
    if np.isnan(image.min()):  # min propagates NaN, and costs less than a mask
        return _masked_mean(image, ~np.isnan(image), image.dtype.type(np.nan), level)
    if image.dtype.str[1:] in _OPENCV:
        mean = _opencv_mean(image)
        if np.isfinite(mean).all():
            return mean
    # A sum of four may overflow where their mean does not: -3.4e38 is a common mark of missing data.
    a, b, c, d = (p.astype(np.promote_types(image.dtype, "f4")) * 0.25 for p in _quarters(image))
    with np.errstate(invalid="ignore"):  # the mean of both infinities is NaN
        return (a + b + c + d).astype(image.dtype)


def _complex_mean(image: np.ndarray[Any, Any], level: int) -> np.ndarray[Any, Any]:
    real = _float_mean(image.real, level)
    out = np.empty(real.shape, image.dtype)
    out.real, out.imag = real, _float_mean(image.imag, level)
    return out


def _masked_mean(
    image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any], missing: Any, level: int
) -> np.ndarray[Any, Any]:
    masks = _quarters(valid)
    parts = [np.where(ok, part, image.dtype.type(0)) for part, ok in zip(_quarters(image), masks, strict=True)]
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


def _mode(image: np.ndarray[Any, Any], level: int) -> np.ndarray[Any, Any]:
    a, b, c, d = _quarters(image)
    rest = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    return np.where((a == b) | (a == c) | (a == d), a, rest)
