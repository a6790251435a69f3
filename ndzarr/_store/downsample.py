"""
Halving a level along y and x, and along z for volumes.

Each output pixel is made from the 2x2 (or 2x2x2) pixels that it covers; at an odd border from those that exist.

Intensities become the mean of the valid pixels, rounded: halves up on odd levels and down on even ones, since always
rounding up would make the 8th level of a photograph one grey level too bright. Pixels that are not real (NaN, nodata,
alpha 0, masked) are left out of the mean, and others count by their alpha (`validity`); where all are missing, the
result is nodata, else 0. Labels become the most frequent real one, the first in reading order where they tie.

A mask becomes True where any of its pixels is, as GDAL makes overviews of masks.

A pixel depends on the pixels that it covers, to the bit, and on no others: an image may be halved in parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Protocol

import numpy as np

from ndzarr._store.validity import ALL_REAL, Marker, Validity


class Reducer(Protocol):
    """Halves an image."""

    def __call__(
        self, image: np.ndarray[Any, Any], level: int, mask: np.ndarray[Any, Any] | None = None, /
    ) -> np.ndarray[Any, Any]:
        """
        Take axes (..., y, x) and the level being made; return (..., ceil(y/2), ceil(x/2)) of the same dtype.

        `mask` has the same axes but c.  Volumes have axes (..., z, y, x), and z is halved, too.
        """


_OPENCV = frozenset(["u1", "u2", "i2", "f4", "f8"])
"""Types for which OpenCV's area resize is the exact mean of 2x2."""


def reducer(dtype: np.dtype[Any], kind: str, validity: Validity = ALL_REAL, volume: bool = False) -> Reducer:
    """Return the function that halves images of a dtype and kind ('intensity' or 'labels'), and z too for volumes."""
    n = 3 if volume else 2
    classes = kind == "labels" or dtype.kind == "b"
    mean = {"f": _float_mean, "c": _complex_mean}.get(dtype.kind, _integer_mean)

    def plain(image: np.ndarray[Any, Any], level: int, mask: np.ndarray[Any, Any] | None = None) -> Any:
        return _mode(image, n) if classes else mean(image, level, n)

    def weighted(image: np.ndarray[Any, Any], level: int, mask: np.ndarray[Any, Any] | None = None) -> Any:
        alpha = None if validity.alpha is None else image.take([validity.alpha], axis=validity.axis)
        judge, channels = validity.real if classes else validity.weights, validity.channels_of(image)
        weights = judge(image, alpha, mask, channels)
        if weights is None:
            return plain(image, level)
        weights = np.broadcast_to(weights, image.shape)
        if classes:
            return _mode(image, n, weights)
        known = ~np.isnan(image) if image.dtype.kind in "fc" and np.isnan(image.min()) else None
        counted = weights if known is None else weights * known
        out = _masked_mean(image, counted, validity.marker(dtype, channels), level, n)
        if known is None:
            return out
        # NaN that nothing hides stays NaN.
        lost = halve_mask(weights > 0, volume) & ~halve_mask((weights > 0) & known, volume)
        return np.asarray(np.where(lost, out.dtype.type(np.nan), out))

    return weighted if validity.veiled or (not classes and validity.tells_values(dtype)) else plain


def halve_mask(mask: np.ndarray[Any, Any], volume: bool = False) -> np.ndarray[Any, Any]:
    """Return the mask of the halved image: True where any pixel is real."""
    return np.asarray(np.logical_or.reduce(_parts(mask, 3 if volume else 2)))


def _even(image: np.ndarray[Any, Any], n: int = 2) -> np.ndarray[Any, Any]:
    """Repeat the last row and column (and plane) where their number is odd: the mean of a pixel with itself."""
    for axis in range(-n, 0):
        if image.shape[axis] % 2:
            image = np.concatenate([image, image.take([-1], axis)], axis)  # keeps the order in memory, np.pad does not
    return image


def _parts(image: np.ndarray[Any, Any], n: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Return the 2**n pixels of each block along the last n axes, in reading order."""
    image = _even(image, n)
    corners: Any = product((slice(None, None, 2), slice(1, None, 2)), repeat=n)
    return tuple(image[(..., *corner)] for corner in corners)


def _opencv_mean(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import cv2  # takes longer to import than everything that only reads needs

    image = _even(image)
    together = _interleaved(image)
    pictures = np.moveaxis(image, -3, -1) if together else image
    y = -3 if together else -2
    shape = [n // 2 if k in (y, y + 1) else n for k, n in enumerate(pictures.shape, -pictures.ndim)]
    out = np.empty(shape, image.dtype)
    for k in np.ndindex(pictures.shape[:y]):
        picture = np.ascontiguousarray(pictures[k])
        cv2.resize(picture, (shape[y + 1], shape[y]), dst=out[k], interpolation=cv2.INTER_AREA)
    return np.moveaxis(out, -1, -3) if together else out


def _interleaved(image: np.ndarray[Any, Any]) -> bool:
    """
    Return True if the channels of a picture are side by side in memory, and OpenCV halves them exactly as they are.

    To part them takes several times as long as to halve them. Floats are parted: their last bit depends on it.
    """
    if image.ndim < 3 or image.shape[-3] not in (3, 4) or image.dtype.kind == "f":
        return False
    return image.strides[-3] == image.itemsize and image.strides[-1] == image.itemsize * image.shape[-3]


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


_NAN = Marker(np.float16(np.nan), np.float16(np.nan))


def _float_mean(image: np.ndarray[Any, Any], level: int, n: int) -> np.ndarray[Any, Any]:
    if np.isnan(image.min()):  # min propagates NaN, and costs less than a mask
        return _masked_mean(image, ~np.isnan(image), _NAN, level, n)
    return _whole_mean(image, n)


def _whole_mean(image: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
    """Return the mean of all pixels of each block of floats or complex numbers; NaN if one is."""
    if image.dtype.kind == "c":
        return _joined(image.dtype, _whole_mean(image.real, n), _whole_mean(image.imag, n))
    mean = _opencv_mean(image) if n == 2 and image.dtype.str[1:] in _OPENCV else None
    if mean is not None and np.isfinite(mean).all():
        return mean
    # A sum may overflow where the mean does not: -3.4e38 is a common mark of missing data.
    parts = [p.astype(np.promote_types(image.dtype, "f4")) * 0.5**n for p in _parts(image, n)]
    with np.errstate(invalid="ignore"):  # the mean of both infinities is NaN
        scaled = np.asarray(sum(parts[1:], parts[0])).astype(image.dtype)
    # The last bit may differ; which one a block gets must not depend on the blocks that are made with it.
    return scaled if mean is None else np.where(np.isfinite(mean), mean, scaled)


def _complex_mean(image: np.ndarray[Any, Any], level: int, n: int) -> np.ndarray[Any, Any]:
    return _joined(image.dtype, _float_mean(image.real, level, n), _float_mean(image.imag, level, n))


def _joined(dtype: np.dtype[Any], real: np.ndarray[Any, Any], imag: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    out = np.empty(real.shape, dtype)
    out.real, out.imag = real, imag
    return out


def _masked_mean(
    image: np.ndarray[Any, Any], weights: np.ndarray[Any, Any], marker: Marker | None, level: int, n: int
) -> np.ndarray[Any, Any]:
    """Return means by weights, bool or numbers of at least 0; nodata, or 0, where all weights are 0."""
    loads = _parts(weights, n)
    parts = [np.where(load > 0, part, image.dtype.type(0)) for part, load in zip(_parts(image, n), loads, strict=True)]
    if weights.dtype.kind != "b":
        mean = _weighted_mean(image.dtype, parts, loads, marker, level)
        if image.dtype.kind in "iu" and image.dtype.itemsize <= 2:  # exact
            return mean
        # As where all weights are alike, which `Validity.weights` may notice: no block depends on others.
        most = np.maximum.reduce(loads)
        uneven = np.logical_or.reduce([(load > 0) & (load != most) for load in loads])
        return np.asarray(np.where(uneven, mean, _masked_mean(image, weights > 0, marker, level, n)))
    number = sum(load.astype(np.uint8) for load in loads)
    divisor = np.maximum(number, 1)
    if image.dtype.kind in "iu" and image.dtype.itemsize == 8:  # too large for float64
        whole = sum(p // divisor.astype(image.dtype) for p in parts)
        rest = sum((p % divisor.astype(image.dtype)).astype(np.uint8) for p in parts)
        mean = whole + ((2 * rest + divisor - (level + 1) % 2) // (2 * divisor)).astype(image.dtype)
    else:
        with np.errstate(invalid="ignore"):  # the mean of both infinities is NaN
            mean = sum(p.astype(np.promote_types(image.dtype, "f8")) for p in parts) / divisor
        mean = _halves(mean, image.dtype, level)
        if image.dtype.kind in "fc" and np.any(whole := number == len(parts)):
            mean = np.where(whole, _whole_mean(image, n), mean)
    return _with_missing(mean.astype(image.dtype), number > 0, marker)


def _weighted_mean(
    dtype: np.dtype[Any],
    parts: Sequence[np.ndarray[Any, Any]],
    loads: Sequence[np.ndarray[Any, Any]],
    marker: Marker | None,
    level: int,
) -> np.ndarray[Any, Any]:
    """Return means of the pixels of each block; sums of products of 8 bits are exact in float32."""
    small = dtype.kind in "iu" and dtype.itemsize == 1 and loads[0].dtype.itemsize == 1
    real = np.dtype("f4") if small else np.promote_types(dtype, "f8")
    total = sum(load.astype(real) for load in loads)
    some = total > 0 if dtype.kind != "c" else total.real > 0
    with np.errstate(invalid="ignore"):  # the mean of both infinities is NaN
        mean = sum(p.astype(real) * load.astype(real) for p, load in zip(parts, loads, strict=True))
        mean = _halves(mean / np.where(some, total, 1), dtype, level)
    if dtype.kind in "iu" and dtype.itemsize == 8:  # a mean is at most the largest pixel, which may round up
        mean = np.clip(mean, np.iinfo(dtype).min, np.nextafter(float(np.iinfo(dtype).max), 0))
    return _with_missing(mean.astype(dtype), some, marker)


def _with_missing(mean: np.ndarray[Any, Any], some: Any, marker: Marker | None) -> np.ndarray[Any, Any]:
    """Return means where there are some, elsewhere nodata, or 0 if there is no such value; no mean is nodata."""
    if marker is None:
        return np.asarray(np.where(some, mean, mean.dtype.type(0)))
    return np.asarray(np.where(some, marker.avoided(mean), marker.value))


def _halves(mean: np.ndarray[Any, Any], dtype: np.dtype[Any], level: int) -> np.ndarray[Any, Any]:
    """Round means of integers: halves up on odd levels, down on even ones."""
    if dtype.kind not in "iu":
        return mean
    half = mean.dtype.type(0.5)
    return np.asarray(np.floor(mean + half) if level % 2 else np.ceil(mean - half))


def _mode(image: np.ndarray[Any, Any], n: int, real: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
    """Return the most frequent of the real pixels of each block; the most frequent of all where none is real."""
    parts = _parts(image, n)
    if n == 2 and real is None:
        a, b, c, d = parts
        rest = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
        return np.where((a == b) | (a == c) | (a == d), a, rest)
    # Real pixels have more votes than all others together.
    own: Any = [np.uint8(0)] * len(parts) if real is None else _parts(real, n)
    loads = [np.uint8(1) + np.uint8(len(parts)) * ok for ok in own]
    best, most = parts[0], np.zeros(parts[0].shape, np.uint8)
    for part in parts:
        votes = sum((part == other) * load for other, load in zip(parts, loads, strict=True))
        best, most = np.where(votes > most, part, best), np.maximum(votes, most)
    return best
