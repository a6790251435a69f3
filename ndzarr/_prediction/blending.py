"""
Blending: the image that arrays make together.

A pixel is the mean of the arrays that cover it, weighted by their windows.  The mean is a running one
(West 1979, doi:10.1145/359146.359153): where one array covers a pixel, or all agree, it is exactly their value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np

from ndzarr._formats.base import Facts, Pixels, Region, Source
from ndzarr._prediction.parts import Part
from ndzarr._store import core
from ndzarr.errors import OptionError

Weights: TypeAlias = Literal["gaussian", "uniform"] | Callable[[tuple[int, ...]], Any]
SIGMAS = 8
"""Standard deviations of a Gaussian window across it, as in nnU-Net and MONAI."""


class Stitched(Source):
    """The image that parts make together."""

    def __init__(self, facts: Facts, parts: Sequence[Part], weights: Weights, labels: bool) -> None:
        super().__init__(facts)
        self._parts, self._weights, self._labels = parts, weights, labels
        self._start = np.array([part.start for part in parts])
        self._stop = self._start + np.array([part.length for part in parts])
        self._c = self.dims.index("c")
        # float64 where float32 does not hold all values
        self._mean = self.dtype if labels else np.result_type(np.float32, *{np.dtype(part.dtype) for part in parts})
        self._last = lru_cache(maxsize=1)(self._blend)  # rows and their mask are asked for one after the other

    def read_mask(self, window: Mapping[str, slice]) -> Pixels:
        """Return True where a part covers a pixel; see `Source.read_mask`."""
        _, covered = self._last(tuple((s.start, s.stop) for s in self._region(window)))
        return covered

    def _pixels(self, region: Region) -> Pixels:
        pixels, _ = self._last(tuple((s.start, s.stop) for s in region))
        return pixels

    def _release(self) -> None:
        self._last.cache_clear()

    def _blend(self, bounds: tuple[tuple[int, int], ...]) -> tuple[Pixels, Pixels]:
        """Return the pixels of a region, (start, stop) along each axis, and where any part covers them, without c."""
        low, high = np.array(bounds).T
        shape, c = tuple(high - low), self._c
        out, covered = np.empty(shape, self.dtype), np.empty(shape[:c] + shape[c + 1 :], bool)
        maps: dict[str, Pixels] = {}  # of this band: mapped pages count as memory of the process
        touched = np.flatnonzero(((self._start < high) & (self._stop > low)).all(axis=1))
        start, stop = self._start[touched], self._stop[touched]
        for at in np.ndindex(shape[:-2]):
            lead = low[:-2] + at
            within = ((start[:, :-2] <= lead) & (lead < stop[:, :-2])).all(axis=1)
            layers = [self._layer(k, lead, low[-2:], high[-2:], maps) for k in touched[within].tolist()]
            blend(out[at], covered[at[:c] + at[c + 1 :]], layers, self._mean, self._labels)
        if self.nodata is not None and not covered.all():
            value = np.asarray(self.nodata).astype(self.dtype)
            np.copyto(out, value, where=np.broadcast_to(np.expand_dims(~covered, c), out.shape))
        return out, covered

    def _layer(self, k: int, lead: Pixels, low: Pixels, high: Pixels, maps: dict[str, Pixels]) -> Layer:
        """Return the pixels of a part at a place along the axes before y, between two corners."""
        part, start = self._parts[k], self._start[k]
        first, last = np.maximum(start[-2:], low), np.minimum(self._stop[k, -2:], high)
        place = (*(lead - start[:-2]).tolist(), *map(slice, first - start[-2:], last - start[-2:]))
        weights = window_weights(self._weights, self.dims, part.length)[place[: self._c] + place[self._c + 1 :]]
        return tuple((first - low).tolist()), part.pixels(maps)[place], weights


Layer: TypeAlias = tuple[tuple[int, int], Pixels, Pixels]
"""(row, column) of an array in the output, its pixels (y, x), and their weights, float32, above 0."""


def blend(out: Pixels, covered: Pixels, layers: Sequence[Layer], mean: np.dtype[Any], labels: bool) -> None:
    """
    Write what layers make together, and where there are any.

    Parameters
    ----------
    out
        Axes (y, x).  Means of integers are rounded, half to even; pixels without a layer become 0.
    covered
        Axes (y, x), bool: where there are any layers.
    mean
        Type of means, float32 or float64.
    labels
        Take the pixel with the largest weight, the first of them, instead of the mean.
    """
    if core.enabled and core.is_built() and (mean.char in "fd" or labels):
        _blend_by_core(out, covered, layers, mean, labels)
        return
    total, found = np.zeros(out.shape, np.float32), np.zeros(out.shape, mean)
    for (row, column), pixels, weights in layers:
        here = np.s_[row : row + pixels.shape[0], column : column + pixels.shape[1]]
        (_choose if labels else _average)(found[here], total[here], pixels, weights)
    np.greater(total, 0, out=covered)
    _finish(found, out)


def _blend_by_core(out: Pixels, covered: Pixels, layers: Sequence[Layer], mean: np.dtype[Any], labels: bool) -> None:
    starts, weights = [start for start, _, _ in layers], [weights for _, _, weights in layers]
    if labels:
        code = np.dtype(f"V{out.itemsize}")
        core.blend(
            out.view(code), covered, starts, [p.astype(out.dtype, copy=False).view(code) for _, p, _ in layers], weights
        )
        return
    known = core.MEANS[mean]
    pixels = [p if p.dtype in known else p.astype(mean) for _, p, _ in layers]
    found = out if out.dtype in known else np.empty(out.shape, mean)
    core.blend(found, covered, starts, pixels, weights)
    if found is not out:
        _finish(found, out)


def _average(mean: Pixels, total: Pixels, pixels: Pixels, weights: Pixels) -> None:
    """Take pixels into a running mean, in place; an infinite one stays, unless NaN, or the opposite, comes."""
    total += weights
    step = np.subtract(pixels, mean, dtype=mean.dtype)
    step[np.isinf(mean) & ~np.isnan(mean + pixels)] = 0
    step *= weights / total
    mean += step


def _choose(best: Pixels, total: Pixels, pixels: Pixels, weights: Pixels) -> None:
    """Take pixels where their weight is the greatest so far, in place."""
    better = weights > total
    np.copyto(best, pixels, where=better)
    np.copyto(total, weights, where=better)


def _finish(mean: Pixels, out: Pixels) -> None:
    """Write means as the type of the result."""
    if out.dtype.kind in "iu" and mean.dtype.kind == "f":  # labels have their type already
        np.rint(mean, out=mean)
    out[...] = mean >= 0.5 if out.dtype.kind == "b" else mean


@lru_cache(maxsize=64)
def window_weights(weights: Weights, dims: tuple[str, ...], length: tuple[int, ...]) -> Pixels:
    """Return the weights of an array of this shape, float32, of `dims` without c; above 0."""
    lengths = {d: n for d, n in zip(dims, length, strict=True) if d != "c"}
    spatial = tuple(n for d, n in lengths.items() if d in "zyx")
    if callable(weights):
        given = np.asarray(weights(spatial), np.float32)
        if given.shape != spatial or not (np.isfinite(given) & (given > 0)).all():
            what = f"weights gave an array of shape {given.shape} for a window of {spatial}"
            raise OptionError(what, key="weights", hint="Return as many finite numbers above 0")
    elif weights == "uniform":
        given = np.ones(spatial, np.float32)
    else:
        given = np.ones((), np.float32)
        for n in spatial:
            given = given[..., None] * _gaussian(n)
    alike = [n if d in "zyx" else 1 for d, n in lengths.items()]  # along t all count the same
    return np.broadcast_to(given.reshape(alike), tuple(lengths.values()))


def _gaussian(n: int) -> Pixels:
    """Return n samples at pixel centres of a Gaussian with `SIGMAS` standard deviations across; float32."""
    at = (np.arange(n) + 0.5) / n - 0.5
    return np.exp(-0.5 * (at * SIGMAS) ** 2).astype(np.float32)
