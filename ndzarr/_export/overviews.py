"""
Overviews as GDAL makes and places them, where the levels of a pyramid are others.

GDAL stretches an overview of ceil(n / 2) pixels over all n: where n is odd, a pixel of it covers a little less than
two, while one of a level covers two, and the last one is cut off.  GDAL averages the pixels that alpha or a mask shows,
each of them alike, and alpha itself over the same pixels, while levels are weighted by alpha.  Each overview is made
from the one before (gcore/overview.cpp, `AVERAGE`) into a file that is removed when the export is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ndzarr._concurrency import available_cpus, ordered_map
from ndzarr._export.cog_pixels import CogContent
from ndzarr._files import explained_parent, scratch
from ndzarr._store.validity import Validity

Array = np.ndarray[Any, Any]
BLOCK_BYTES = 8 << 20
"""Bytes of the pixels that a block of an overview is made from."""


@contextmanager
def with_overviews(content: CogContent, dest: Path, workers: int | None) -> Iterator[CogContent]:
    """Yield what is exported to `dest`, with overviews that are made for it if the levels of the pyramid do not do."""
    first = content.first_made
    if first is None:
        yield content
        return
    with explained_parent(dest), scratch(dest) as work:
        for k in range(first, len(content.sizes)):
            content = replace(content, made=(*content.made, _overview(content, k, work, workers)))
        yield content


def _overview(content: CogContent, number: int, work: Path, workers: int | None) -> tuple[Array, Array | None]:
    """Make an overview: pixels (y, sample, x) and where they are real (y, x), mapped from files."""
    height, width = content.size(number)
    modes = content.classes and number < len(content.levels)  # which are better than the class of one pixel
    read, power = (content.level_planes, 2**number) if modes else (content.planes, 1)
    tall, wide = content.size(0 if modes else number - 1)
    across = _cover(0, width, wide / (power * width))
    rows = max(1, BLOCK_BYTES // (2 * wide * content.samples * content.dtype.itemsize))

    def make(top: int) -> tuple[Array, Array | None]:
        down = _cover(top, min(rows, height - top), tall / (power * height))
        y, x = slice(down.start, down.stop), slice(0, across.stop)
        planes, valid = read(number if modes else number - 1, y, x)
        mask = None if valid is None else _sums(valid.astype(np.float32), down, across) > _NEGLIGIBLE
        return _reduced(content, planes, valid, down, across).transpose(1, 0, 2), mask

    # Written, and mapped only to be read: a full disk is then an error.
    files = [work / f"{number}.pixels", work / f"{number}.mask"]
    with files[0].open("wb") as pixels, files[1].open("wb") as masks:
        for made, mask in ordered_map(make, range(0, height, rows), workers or available_cpus(), name="overview"):
            pixels.write(made.tobytes())
            if mask is not None:
                masks.write(mask.tobytes())
    found = np.memmap(files[0], content.dtype, "r", shape=(height, content.samples, width))
    return found, None if content.masking is None else np.memmap(files[1], bool, "r", shape=(height, width))


class Cover(NamedTuple):
    """The pixels that those of an overview cover along one axis."""

    start: int
    stop: int
    taps: Array
    """Positions behind `start` that each covers, at least in part; axes (tap, pixel)."""
    weights: Array
    """The part of each that is covered, in sum 1."""


_NEGLIGIBLE = 1e-6


def _cover(first: int, n: int, ratio: float) -> Cover:
    """Return what n pixels cover, from number `first` on, each as long as `ratio` pixels."""
    edges = (first + np.arange(n + 1)) * ratio
    low = np.floor(edges[:-1] + _NEGLIGIBLE).astype(int)
    high = np.ceil(edges[1:] - _NEGLIGIBLE).astype(int)
    taps = low + np.arange((high - low).max())[:, None]
    weights = np.clip(np.minimum(taps + 1, edges[1:]) - np.maximum(taps, edges[:-1]), 0, None)
    taps = np.minimum(taps, high - 1)
    return Cover(int(low[0]), int(high[-1]), taps - low[0], weights / weights.sum(0))


def _sums(pixels: Array, down: Cover, across: Cover) -> Array:
    """Return weighted sums of floats, axes (..., y, x)."""
    for axis, (_, _, taps, weights) in ((-2, down), (-1, across)):
        factors = weights.astype(pixels.dtype)
        factors = factors[..., None] if axis == -2 else factors
        parts = [pixels.take(tap, axis=axis) * factor for tap, factor in zip(taps, factors, strict=True)]
        if not factors.all():  # infinity times 0 is NaN
            parts = [np.where(factor > 0, part, 0) for part, factor in zip(parts, factors, strict=True)]
        pixels = sum(parts[1:], parts[0])
    return pixels


def _reduced(content: CogContent, planes: Array, valid: Array | None, down: Cover, across: Cover) -> Array:
    """Return the mean of the real pixels that each pixel covers; of classes, the one in the middle."""
    if content.classes:
        return planes.take(_middle(down), axis=-2).take(_middle(across), axis=-1)
    alpha = content.alpha_sample
    rule = Validity(nodata=content.nodata, alpha=alpha, masked=valid is not None, binary=True)
    channels = range(len(planes))
    real = rule.real(planes, None if alpha is None else planes[alpha : alpha + 1], valid, channels)
    if planes.dtype.kind == "f" and np.isnan(planes.min()):
        real = ~np.isnan(planes) if real is None else real & ~np.isnan(planes)
    floats = planes.astype(np.float64 if planes.dtype.itemsize > 2 else np.float32)
    if real is None:
        return _rounded(_sums(floats, down, across), planes.dtype)
    shares = _sums(real.astype(floats.dtype), down, across)
    means = _sums(np.where(real, floats, 0), down, across) / np.maximum(shares, _NEGLIGIBLE)
    out, some, marker = _rounded(means, planes.dtype), shares > _NEGLIGIBLE, rule.marker(planes.dtype, channels)
    if marker is not None:
        return np.where(some, marker.avoided(out), marker.value)
    return np.where(some, out, planes.dtype.type(np.nan if planes.dtype.kind == "f" else 0))


def _middle(cover: Cover) -> Array:
    """Return the position of the pixel in the middle of each."""
    edge = (cover.weights.cumsum(0) >= 0.5 - _NEGLIGIBLE).argmax(0)
    return np.asarray(np.take_along_axis(cover.taps, edge[None], 0)[0])


def _rounded(means: Array, dtype: np.dtype[Any]) -> Array:
    if dtype.kind not in "iu":
        return means.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.floor(means + 0.5), limits.min, np.nextafter(float(limits.max) + 1, 0)).astype(dtype)
