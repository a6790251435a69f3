"""Windows at a scale: the level to read, its pixels, and their place in the output.

1. The output has round(h*s) x round(w*s) pixels, each covering p = h / round(h*s) native ones.
2. If the borders of output pixels are borders of a level's pixels, the coarsest such level is read: means of its pixels
   are exact.  Otherwise the coarsest one with at least `OVERSAMPLING` pixels per output pixel is read.
3. If its pixels are those of the output (same size, same borders), they are copied; otherwise they are resampled, once.
4. Output pixels that lie wholly outside the image are padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, inf
from numbers import Real
from typing import Any, NamedTuple

from ndzarr._indexing.resample import Grid
from ndzarr.errors import WindowError

LONGEST_SIDE = 256
"""The coarsest level of a pyramid is the first whose longest side has at most so many pixels."""


def level_count(height: int, width: int, longest: int = LONGEST_SIDE) -> int:
    """
    Return the number of levels of a pyramid, including the native one.

    Examples
    --------
    >>> level_count(8192, 8192), level_count(257, 10), level_count(256, 256)
    (6, 2, 1)
    """
    side, levels = max(height, width), 1
    while side > longest:
        side, levels = -(-side // 2), levels + 1
    return levels


def level_shape(
    level: int, dims: Sequence[str], shape: Sequence[int], reduced: Sequence[str] = ("y", "x")
) -> tuple[int, ...]:
    """
    Return the shape of a level.

    Examples
    --------
    >>> level_shape(2, "cyx", (3, 101, 64))
    (3, 26, 16)
    """
    return tuple(-(-n // 2**level) if d in reduced else n for d, n in zip(dims, shape, strict=True))


def finest_needed(scale: float, factors: Sequence[float]) -> int:
    """
    Return the coarsest level that has at least the resolution asked for, in output pixels per native pixel.

    `factors` are native pixels per pixel of each level, ascending from 1.

    Examples
    --------
    >>> [finest_needed(s, [1, 2, 4, 8]) for s in (2.0, 1.0, 0.6, 0.5, 0.3, 0.01)]
    [0, 0, 0, 1, 1, 3]
    """
    wanted = 1 / scale * (1 + 1e-9)
    return max((k for k, f in enumerate(factors) if f <= wanted), default=0)


OVERSAMPLING = 2.0
"""Least pixels of a level along each axis of an output pixel, where their borders differ.

With one, parts of two pixels are mixed, which blurs photographs by 1 to 4 grey levels on average (measured); with two
it is less than 1.
"""

_EPS = 1e-6
"""Part of an output pixel; an image that covers less of it does not cover it."""


class Span(NamedTuple):
    """One axis of a `Region`."""

    read: slice
    """Pixels of the level to read; within the level, may be empty."""
    target: slice
    """Output pixels that are made of them; all others are padding."""
    grid: Grid
    """The output pixels of `target`, in pixels of `read`."""
    n: int
    """Number of output pixels."""
    origin: float
    """Begin of the first output pixel, in native pixels."""
    step: float
    """Native pixels per output pixel."""

    @property
    def exact(self) -> bool:
        """True if output pixels are pixels of the level."""
        return self.grid.exact and bool(self.read.stop - self.read.start == self.grid.n)

    @property
    def padded(self) -> bool:
        """True if some output pixels are padding."""
        return bool(self.target.stop - self.target.start < self.n)


class Region(NamedTuple):
    """A window at a scale, as pixels of one level."""

    level: int
    y: Span
    x: Span
    exact: bool
    """True if output pixels are pixels of the level."""
    padded: bool
    """True if some output pixels are padding."""

    @classmethod
    def of(cls, level: int, y: Span, x: Span) -> Region:
        """Return the region of two spans."""
        return cls(level, y, x, y.exact and x.exact, y.padded or x.padded)

    @property
    def shape(self) -> tuple[int, int]:
        """Output pixels along y and x."""
        return self.y.n, self.x.n


def region_at(
    origin: tuple[float, float],
    extent: tuple[float, float],
    n: tuple[int, int],
    shapes: Sequence[tuple[int, int]],
    factors: Sequence[tuple[float, float]],
    support: float = 0.5,
    oversampling: float = OVERSAMPLING,
) -> Region:
    """
    Choose the level and its pixels for a window whose borders need not fall on pixels; pairs are along (y, x).

    Parameters
    ----------
    origin
        Begin of the first output pixel, in native pixels; may lie outside the image.
    extent
        Native pixels that the window covers.
    n
        Output pixels.
    shapes, factors
        Per level, pixels and native pixels per pixel.
    support
        Radius of the interpolation, in pixels; see `resample.SUPPORT`.
    oversampling
        Least pixels of the level per output pixel where their borders differ; 1 for interpolations that do not mix.

    Examples
    --------
    >>> found = region_at((0, 32), (64, 64), (32, 32), [(64, 64), (32, 32)], [(1, 1), (2, 2)])
    >>> found.level, found.exact, found.x.read, found.x.target, found.x.n
    (1, True, slice(16, 32, 1), slice(0, 16, 1), 32)
    """
    level = _level(origin, (extent[0] / n[0], extent[1] / n[1]), factors, oversampling)
    (fy, fx), (hy, hx) = factors[level], shapes[level]
    return Region.of(
        level,
        span_at(origin[0], extent[0], n[0], fy, hy, shapes[0][0], support),
        span_at(origin[1], extent[1], n[1], fx, hx, shapes[0][1], support),
    )


def _level(
    origin: tuple[float, float], step: tuple[float, float], factors: Sequence[tuple[float, float]], oversampling: float
) -> int:
    if len(factors) == 1 or factors[1][0] > step[0] * (1 + 1e-9) or factors[1][1] > step[1] * (1 + 1e-9):
        return 0  # the usual case, decided without looking at the other levels
    sizes = [max(f / p for f, p in zip(pair, step, strict=True)) for pair in factors]
    enough = finest_needed(1.0, [oversampling * size for size in sizes])
    for k in range(finest_needed(1.0, sizes), enough, -1):
        if all(_is_whole(o / f) and _is_whole(p / f) for o, p, f in zip(origin, step, factors[k], strict=True)):
            return k
    return enough


def _is_whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-9


def output_length(name: str, interval: tuple[int, int], scale: Any) -> int:
    """Return the number of output pixels of a half-open interval at a scale: exactly round(n * scale)."""
    if not isinstance(scale, Real) or not 0 < float(scale) < inf:
        raise WindowError(f"scale={scale!r}: expected a number above 0", key="scale")
    start, stop = interval
    if start >= stop:
        message = f"{name}={start}:{stop} is empty; windows are half-open, start < stop"
        raise WindowError(message, key=name, window=interval)
    out = round((stop - start) * float(scale))
    if out == 0:
        message = f"{name}={start}:{stop} at scale {scale:g} leaves no pixel"
        raise WindowError(message, key=name, window=interval, hint="Use a larger scale or window")
    return out


def span_at(start: float, extent: float, n: int, factor: float, length: int, native: int, support: float) -> Span:
    """Return one axis; `start` and `extent` in native pixels, `length` of the level, `native` length of the image."""
    step = extent / n
    first = min(n, max(0, floor(-start / step + _EPS)))
    last = max(first, min(n, ceil((native - start) / step - _EPS)))
    begin, end = (start + first * step) / factor, (start + last * step) / factor
    unit = step / factor
    low = round(begin)
    if first == last:
        return Span(slice(0, 0, 1), slice(first, last, 1), Grid(0.0, 1.0, 0), n, start, step)
    if abs(unit - 1) < 1e-9 and _is_whole(begin) and low + last - first <= length:
        read = slice(low, low + last - first, 1)
        return Span(read, slice(first, last, 1), Grid(0.0, 1.0, last - first), n, start, step)
    # Pixels that the kernel needs beyond the border of an output pixel.
    margin = ceil(support * max(1.0, unit) - unit / 2)
    # The level may be short: other writers round lengths down.
    low = min(length - 1, max(0, floor(begin + 1e-9) - margin))
    high = max(low + 1, min(length, ceil(end - 1e-9) + margin))
    ratio = None
    if start % 1 == extent % 1 == factor % 1 == 0:
        covered, whole = int(extent), n * int(factor)
        ratio = int(start) * n + first * covered - low * whole, covered, whole
    grid = Grid(begin - low, unit, last - first, ratio)
    return Span(slice(low, high, 1), slice(first, last, 1), grid, n, start, step)
