"""What are the mean, the variance and the error of the mean of pixels that pass by once?

Count, mean and sum of squared deviations of each part are merged by Chan, Golub and LeVeque ("Updating formulae and a
pairwise algorithm for computing sample variances", 1979), without the cancellation of sums of squares.

Pixels of a window are alike, so the error of the mean is that of a sample of windows (the ratio estimator of cluster
sampling; Cochran, "Sampling techniques", 1977, section 9A): what counts is how much the windows' means differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from ndzarr.targets.tally import Tally

Array: TypeAlias = "np.ndarray[Any, Any]"


@dataclass(slots=True)
class Running:
    """What is known of one channel so far."""

    count: int = 0
    """Pixels."""
    missing: int = 0
    """Pixels left out: outside the image, nodata, NaN, infinite."""
    windows: int = 0
    """Windows that have any pixel."""
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared deviations from the mean."""
    least: float = np.inf
    greatest: float = -np.inf
    clusters: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Sums over windows of n^2, n^2 (m - origin) and n^2 (m - origin)^2, of n pixels with mean m."""
    origin: float | None = None
    """Near the means, so that the sums keep their digits."""
    tally: Tally = field(default_factory=Tally)

    def merge(self, other: Running) -> None:
        """Add what another one knows."""
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
        self._merge_clusters(other)
        self.tally.merge(other.tally)

    def _merge_clusters(self, other: Running) -> None:
        if self.origin is None:
            self.origin = other.origin
        a, b, c = other.clusters
        d = (other.origin or 0.0) - (self.origin or 0.0)
        moved = a, b + d * a, c + 2 * d * b + d * d * a
        self.clusters = (self.clusters[0] + moved[0], self.clusters[1] + moved[1], self.clusters[2] + moved[2])

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and variance; without rounding on the way where the tally is exact."""
        if not self.count:
            return np.nan, np.nan
        if not self.tally.exact:
            return self.mean, self.squares / self.count
        values, counts = self.tally.middle(), self.tally.counts
        mean = float(self.mean + ((values - self.mean) * counts).sum() / self.count)
        return mean, float(((values - mean) ** 2 * counts).sum() / self.count)

    @property
    def error(self) -> float:
        """Standard error of the mean, the windows being a sample; NaN for fewer than two."""
        if self.windows < 2:
            return np.nan
        a, b, c = self.clusters
        d = self.moments[0] - (self.origin or 0.0)
        spread = max(0.0, c - 2 * d * b + d * d * a)
        return float(np.sqrt(self.windows / (self.windows - 1) * spread) / self.count)


def pixels_that_count(pixels: Array, real: Array | None) -> Array:
    """
    Finite pixels of one channel of a window.

    Parameters
    ----------
    pixels
        Any shape.
    real
        False for pixels that do not count; None where all do.

    Returns
    -------
    One axis.
    """
    values = pixels.ravel() if real is None else pixels[real]
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        values = values if finite.all() else values[finite]
    return values


def of_windows(windows: Sequence[Array], missing: int = 0) -> Running:
    """
    One channel of some windows.

    Parameters
    ----------
    windows
        The pixels that count, of one dtype, one axis each.
    missing
        Pixels that do not.
    """
    windows = [w for w in windows if w.size]
    if not windows:
        return Running(missing=missing)
    values = windows[0] if len(windows) == 1 else np.concatenate(windows)
    tally = Tally.of(values)
    number = np.array([w.size for w in windows], float)
    means = np.array([w.mean(dtype=np.float64) for w in windows])
    mean = float((means * number).sum() / values.size)
    if tally.exact:  # fewer numbers to add up
        squares = float(((tally.middle() - mean) ** 2 * tally.counts).sum())
    else:
        squares = float(((values.astype(np.float64) - mean) ** 2).sum())
    apart = means - means[0]
    clusters = tuple(float((number**2 * apart**k).sum()) for k in range(3))
    least, greatest = float(values.min()), float(values.max())
    return Running(values.size, missing, len(windows), mean, squares, least, greatest, clusters, float(means[0]), tally)
