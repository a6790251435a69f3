"""How much disk will a pyramid take?

Told before anything is written, since lossless frames of a lossy video, or levels of a JPEG, are many times the size of
their file.

1. Windows are taken from places spread over the source, in the order in which it is read.
2. Their chunks are encoded as the store's would be; so are those of their halves, since coarser levels hold more detail
   per pixel.
3. The mean size of a chunk times their number gives each level; how much the windows differ gives the error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod, sqrt
from typing import Any

import numpy as np

from ndzarr.errors import OptionError
from ndzarr.pyramid.layout import PRESETS, Encoding
from ndzarr.pyramid.metadata import LevelShape
from ndzarr.pyramid.reduce import Reducer, reducer
from ndzarr.sources.source import Source
from ndzarr.transcoding import level_shapes

WINDOWS = 24
"""Places that are looked at."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one preset would take."""

    preset: str
    """Its name."""
    nbytes: int
    """Bytes of all levels, most likely."""
    error: int
    """Standard error of that, in bytes."""
    raw: int
    """Bytes of the native pixels."""

    @property
    def ratio(self) -> float:
        """Native pixels per byte on disk."""
        return self.raw / max(1, self.nbytes)


def estimate(
    source: Source,
    encoding: Encoding | None = None,
    windows: int = WINDOWS,
    advance: Callable[[], object] = lambda: None,
) -> list[Estimate]:
    """
    The size of the store of a source under each preset that can hold its pixels.

    Parameters
    ----------
    source
        Open; some of it is read, from its beginning to its end.
    encoding
        The other options; its preset does not matter.
    windows
        Number of places that are looked at, at most.
    advance
        Called after each of them.
    """
    given = encoding or Encoding()
    layouts: dict[str, list[LevelShape]] = {}
    for preset in PRESETS:
        try:
            options = Encoding(preset, given.kind, given.chunks, given.shard, given.access, given.reduce)
            layouts[preset] = level_shapes(source, options)
        except OptionError:  # jpeg holds photographs only
            continue
    reduce = reducer(source.dtype, given.kind, source.nodata, "z" in given.reduce and "z" in source.dims)
    found: dict[str, list[tuple[float, float]]] = {preset: [] for preset in layouts}
    for window in _spread(source, next(iter(layouts.values()))[0], windows):
        pixels = source.read(window)
        for preset, levels in layouts.items():
            found[preset].append(_cost(pixels, levels, reduce))
        advance()
    return [_total(preset, layouts[preset], found[preset], source) for preset in layouts]


def _spread(source: Source, level: LevelShape, number: int) -> Iterator[Mapping[str, slice]]:
    """Windows of 2 x 2 chunks, at places that are spread evenly and do not line up."""
    lengths = dict(zip(source.dims, source.shape, strict=True))
    size = dict(zip(source.dims, level.layout.chunks, strict=True))
    size |= {"y": 2 * size["y"], "x": 2 * size["x"]}
    grid = {d: ceil(lengths[d] / size[d]) for d in source.dims}
    order = [d for d in source.dims if d != "x"] + ["x"]
    total = prod(grid.values())
    golden = 0.6180339887498949  # steps that fill an interval evenly
    places = sorted({int((k + (k * golden) % 1) * total / number) for k in range(min(number, total))})
    for place in places:
        window = {}
        for d in reversed(order):
            place, k = divmod(place, grid[d])
            window[d] = slice(k * size[d], min((k + 1) * size[d], lengths[d]))
        yield window


def _cost(pixels: np.ndarray[Any, Any], levels: Sequence[LevelShape], reduce: Reducer) -> tuple[float, float]:
    """Bytes per pixel of a window, and of its halves."""
    halves = reduce(pixels, 1)
    return _bytes_per_pixel(pixels, levels[0]), _bytes_per_pixel(halves, levels[-1 if len(levels) < 2 else 1])


def _bytes_per_pixel(pixels: np.ndarray[Any, Any], level: LevelShape) -> float:
    codec = level.layout.codec
    steps = [range(0, n, c) for n, c in zip(pixels.shape, codec.shape, strict=True)]
    total = 0
    for start in product(*steps):
        chunk = pixels[tuple(slice(a, a + c) for a, c in zip(start, codec.shape, strict=True))]
        if chunk.any():
            beyond = [(0, c - n) for c, n in zip(codec.shape, chunk.shape, strict=True)]
            total += len(codec.encode(np.pad(chunk, beyond, mode="edge")))
        total += 16  # in the shard's index
    return total / pixels.size


def _total(preset: str, levels: Sequence[LevelShape], costs: Sequence[tuple[float, float]], source: Source) -> Estimate:
    native, coarser = prod(levels[0].shape), sum(prod(level.shape) for level in levels[1:])
    sizes = np.array([a * native + b * coarser for a, b in costs])
    error = float(sizes.std(ddof=1)) / sqrt(len(sizes)) if len(sizes) > 1 else 0.0
    return Estimate(preset, int(sizes.mean()), int(error), native * source.dtype.itemsize)
