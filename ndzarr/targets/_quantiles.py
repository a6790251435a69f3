"""Quantile sketch and streaming moments: statistics of many pixels in bounded memory, in one pass.

Every value has a code, an integer in the same order: integers are their own code, floating values have the bits of
their float64.  A `QuantileSketch` holds how often each code occurred.  When there are more than `capacity` different
codes, the last bit of all codes is dropped, and again until there are few enough.

So a sketch of 8- or 16-bit pixels is exact, and any other is exact up to a bin that is as narrow as the data allow:
evenly wide for integers, of constant relative width for floating values.  It depends on the values alone, and neither
on their order nor on what was merged when.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"

CAPACITY = 1 << 16  # different codes that a sketch holds at most

_REST = np.int64(0x7FFFFFFFFFFFFFFF)


class QuantileSketch:
    """Values and how often they occurred; codes are the values if `integer`, else the bits of floating values."""

    def __init__(self, integer: bool = True, capacity: int = CAPACITY) -> None:
        self.integer, self.capacity = integer, capacity
        self.shift = 0  # bits dropped from codes
        self.blur = 0.0  # how much more values may be off, because they were integers whose bits were dropped
        self.codes: Array = np.empty(0, np.int64)  # ascending, without the bits dropped
        self.counts: Array = np.empty(0, np.int64)  # values of each code

    @classmethod
    def of(cls, values: Array, capacity: int = CAPACITY) -> QuantileSketch:
        """Return the sketch of pixels, all of them finite."""
        integer = values.dtype.kind in "iub" and values.dtype != np.uint64
        out = cls(integer, capacity)
        different, counts = _counted(values.ravel())
        out._set(_codes(different, integer), counts)
        return out

    @property
    def exact(self) -> bool:
        """True if no bit was dropped."""
        return self.shift == 0 and not self.blur

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    def merge(self, other: QuantileSketch) -> None:
        """Add what another sketch holds."""
        if not len(other.codes):
            return
        if self.integer and not other.integer:
            self._to_floating()
        elif other.integer and not self.integer:
            copy = QuantileSketch(True, other.capacity)
            copy.shift, copy.codes, copy.counts = other.shift, other.codes, other.counts
            copy._to_floating()
            other = copy
        shift, self.blur = max(self.shift, other.shift), max(self.blur, other.blur)
        codes = np.concatenate([self.codes >> (shift - self.shift), other.codes >> (shift - other.shift)])
        self.shift = shift
        self._set(codes, np.concatenate([self.counts, other.counts]))

    def _to_floating(self) -> None:
        low, high = self.bounds()
        self.integer, self.shift = False, 0
        self.blur = max(self.blur, float(((high - low) / 2).max(initial=0)))
        self._set(_codes((low + high) / 2, False), self.counts)

    def _set(self, codes: Array, counts: Array) -> None:
        order = np.argsort(codes, kind="stable")
        self.codes, self.counts = _joined(codes[order], counts[order])
        while len(self.codes) > self.capacity:
            self.shift += 1
            self.codes, self.counts = _joined(self.codes >> 1, self.counts)

    def bounds(self) -> tuple[Array, Array]:
        """Return the least and the greatest value of each code."""
        low = self.codes << self.shift
        high = low + ((1 << self.shift) - 1)
        return _values(low, self.integer), _values(high, self.integer)

    def middle(self) -> Array:
        """Return a value for each code, at most half a bin off."""
        low, high = self.bounds()
        return np.asarray(low if not self.shift else low + (high - low) / 2)

    def quantiles(self, probabilities: Array, least: float, greatest: float) -> tuple[Array, Array]:
        """Return quantiles as `numpy.quantile` defines them, and how far each may be off; limits are of all values."""
        low, high = (np.clip(v, least, greatest) for v in self.bounds())
        place = np.asarray(probabilities) * (self.total - 1)
        ends = np.cumsum(self.counts)
        before, behind = (np.searchsorted(ends, f(place), side="right") for f in (np.floor, np.ceil))
        part = place - np.floor(place)
        middle, half = low + (high - low) / 2, (high - low) / 2
        values = middle[before] * (1 - part) + middle[behind] * part
        return values, np.maximum(half[before], half[behind]) + self.blur


def _counted(values: Array) -> tuple[Array, Array]:
    """Return the different values, ascending, and how often each occurs."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b":
        values, kind = values.view(np.uint8), "u"
    if kind in "iu" and size <= 2:
        import cv2

        unsigned = np.ascontiguousarray(values).view(f"u{size}")
        sign = 1 << (8 * size - 1) if kind == "i" else 0
        bins = 1 << (8 * size)
        found = np.zeros(bins, np.int64)
        for start in range(0, len(unsigned), 1 << 24):  # cv2 counts in float32, exact up to 2^24
            part = (unsigned[start : start + (1 << 24)] ^ unsigned.dtype.type(sign)).reshape(-1, 1)
            found += cv2.calcHist([part], [0], None, [bins], [0, bins]).ravel().astype(np.int64)
        seen = np.flatnonzero(found)
        return seen - sign, found[seen]
    return _joined(np.sort(values), None)


def _joined(ascending: Array, counts: Array | None) -> tuple[Array, Array]:
    """Return equal neighbours as one value, and their number."""
    if not len(ascending):
        return ascending, np.empty(0, np.int64)
    first = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
    if counts is None:
        return ascending[first], np.diff(np.r_[first, len(ascending)])
    return ascending[first], np.add.reduceat(counts, first)


def _codes(values: Array, integer: bool) -> Array:
    if integer:
        return values.astype(np.int64)
    bits = (values.astype(np.float64) + 0.0).view(np.int64)  # + 0.0: there is one zero
    return np.asarray(bits ^ ((bits >> 63) & _REST))


def _values(codes: Array, integer: bool) -> Array:
    """Return the values of whole codes, as float64."""
    if integer:
        return codes.astype(np.float64)
    return np.ascontiguousarray(codes ^ ((codes >> 63) & _REST)).view(np.float64)


@dataclass(slots=True)
class StreamingMoments:
    """Mean, variance, extremes, sketch and error of the mean of one channel, from pixels that pass by once."""

    count: int = 0  # pixels
    missing: int = 0  # pixels left out: outside the image, nodata, NaN, infinite
    windows: int = 0  # windows that have any pixel
    mean: float = 0.0
    squares: float = 0.0  # sum of squared deviations from the mean
    least: float = np.inf
    greatest: float = -np.inf
    clusters: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Sums over windows of n^2, n^2 (m - origin) and n^2 (m - origin)^2, of n pixels with mean m."""
    origin: float | None = None  # near the means, so that the sums keep their digits
    sketch: QuantileSketch = field(default_factory=QuantileSketch)

    def merge(self, other: StreamingMoments) -> None:
        """Add the pixels of another one (Chan, Golub and LeVeque, 1983)."""
        self.missing += other.missing
        if not other.count:
            return
        total = self.count + other.count
        difference = other.mean - self.mean
        self.squares += other.squares + difference**2 * self.count * (other.count / total)
        self.mean += difference * (other.count / total)
        self.count = total
        self.windows += other.windows
        self.least, self.greatest = min(self.least, other.least), max(self.greatest, other.greatest)
        self.sketch.merge(other.sketch)
        if self.origin is None:
            self.origin = other.origin
        a, b, c = other.clusters
        d = (other.origin or 0.0) - (self.origin or 0.0)
        moved = a, b + d * a, c + 2 * d * b + d * d * a
        self.clusters = (self.clusters[0] + moved[0], self.clusters[1] + moved[1], self.clusters[2] + moved[2])

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and variance; without rounding on the way if the sketch is exact."""
        if not self.count:
            return np.nan, np.nan
        if not self.sketch.exact:
            return self.mean, self.squares / self.count
        values, counts = self.sketch.middle(), self.sketch.counts
        mean = float(self.mean + ((values - self.mean) * counts).sum() / self.count)
        return mean, float(((values - mean) ** 2 * counts).sum() / self.count)

    @property
    def error(self) -> float:
        """Standard error of the mean, if the windows are a sample of others; NaN for fewer than two."""
        if self.windows < 2:
            return np.nan
        a, b, c = self.clusters
        d = self.moments[0] - (self.origin or 0.0)
        spread = max(0.0, c - 2 * d * b + d * d * a)
        return float(np.sqrt(self.windows / (self.windows - 1) * spread) / self.count)


def pixels_that_count(pixels: Array, real: Array | None) -> Array:
    """Return the finite pixels of a window for which `real` is True (None means all), along one axis."""
    values = pixels.ravel() if real is None else pixels[real]
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        values = values if finite.all() else values[finite]
    return values


def moments_of(windows: Sequence[Array], missing: int = 0) -> StreamingMoments:
    """Return the moments of one channel, from the pixels of each window that count (one dtype, one axis)."""
    windows = [w for w in windows if w.size]
    if not windows:
        return StreamingMoments(missing=missing)
    values = windows[0] if len(windows) == 1 else np.concatenate(windows)
    sketch = QuantileSketch.of(values)
    number = np.array([w.size for w in windows], float)
    means = np.array([w.mean(dtype=np.float64) for w in windows])
    mean = float((means * number).sum() / values.size)
    if sketch.exact:  # fewer numbers to add up
        squares = float(((sketch.middle() - mean) ** 2 * sketch.counts).sum())
    else:
        squares = float(((values.astype(np.float64) - mean) ** 2).sum())
    apart = means - means[0]
    clusters = tuple(float((number**2 * apart**k).sum()) for k in range(3))
    least, greatest = float(values.min()), float(values.max())
    return StreamingMoments(
        values.size, missing, len(windows), mean, squares, least, greatest, clusters, float(means[0]), sketch
    )
