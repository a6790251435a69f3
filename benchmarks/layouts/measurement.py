"""How long does a window take under each of several layouts, on a machine that does other things too?

All layouts are called in turn, each time in a new order and on the same windows, and the median is taken of each.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.layouts.chunks import Encoded, Layout, encode
from benchmarks.layouts.codecs import Array


@dataclass(frozen=True)
class Settings:
    """How much to measure."""

    quick: bool

    @property
    def side(self) -> int:
        """Pixels of a test image; a multiple of all chunk edges measured."""
        return 768 if self.quick else 1536

    @property
    def seconds(self) -> float:
        """Time for one race of some forty layouts."""
        return 1.0 if self.quick else 8.0


@dataclass(frozen=True)
class Result:
    """What was measured of one layout on one kind of data."""

    layout: Layout
    ratio: float
    encode_rate: float
    """MB/s of pixels, one thread."""
    decode_rate: float
    """MB/s of pixels, one thread, whole chunks with their checksums."""
    crop_ms: float
    """Median milliseconds for a random 256 x 256 window of all channels."""
    psnr: float = math.inf
    """Decibels, for lossy codecs."""


Clock = Callable[[], float]
Runner = Callable[[int], object]
"""One measured action; its argument says on which window."""


def race(
    runners: Sequence[Runner], seconds: float, clock: Clock = time.thread_time, quantile: float = 0.5
) -> list[float]:
    """Return each runner's median (or other ``quantile``) of seconds per call by ``clock``; all are called in turn with
    the same numbers, for about ``seconds`` in all.
    """
    times: list[list[float]] = [[] for _ in runners]
    for runner in runners:
        runner(0)
    deadline = time.perf_counter() + seconds
    rng = np.random.default_rng(0)
    for turn in range(401):
        # in a new order each time: none always follows the one that empties the cache
        for place in rng.permutation(len(runners)):
            began = clock()
            runners[place](turn)
            times[place].append(clock() - began)
        if turn >= 10 and time.perf_counter() > deadline:
            break
    return [float(np.quantile(some, quantile)) for some in times]


def positions(side: int, size: int, count: int = 211, multiple: int = 1) -> list[tuple[int, int]]:
    """Return random window corners, on multiples of ``multiple``."""
    rng = np.random.default_rng(size)
    corners = rng.integers(0, (side - size) // multiple + 1, (count, 2)) * multiple
    return [(int(y), int(x)) for y, x in corners]


def crop_at(image: Encoded, windows: Sequence[tuple[int, int]], size: int, channels: int | None = None) -> Runner:
    """Return a runner that reads the turn'th window; it keeps its scratch arrays, as a reader does."""
    scratch = image.scratch()

    def run(turn: int) -> Array:
        y, x = windows[turn % len(windows)]
        return image.crop(y, x, size, scratch, channels)

    return run


def decode_at(image: Encoded) -> Runner:
    """Return a runner that decodes four chunks."""
    scratch = image.scratch()

    def run(turn: int) -> None:
        for number in range(4):
            image.decode_chunk(turn * 4 + number, scratch)

    return run


def measure(image: Array, layouts: Sequence[Layout], seconds: float) -> list[Result]:
    """Encode ``image`` (c, y, x) under all ``layouts``, check each against the pixels, and race them."""
    encoded = [encode(image, layout) for layout in layouts]
    windows = positions(image.shape[1], 256)
    decibels = [_fidelity(image, one) for one in encoded]
    crops = race([crop_at(one, windows, 256) for one in encoded], seconds * 0.7)
    decodes = race([decode_at(one) for one in encoded], seconds * 0.3)
    return [
        Result(
            one.layout,
            ratio=one.nbytes / one.stored,
            encode_rate=one.nbytes / max(one.seconds, 1e-9) / 1e6,
            decode_rate=4 * math.prod(one.chunk_shape) * one.dtype.itemsize / decoded / 1e6,
            crop_ms=crop * 1e3,
            psnr=decibel,
        )
        for one, crop, decoded, decibel in zip(encoded, crops, decodes, decibels, strict=True)
    ]


def _fidelity(image: Array, encoded: Encoded) -> float:
    """Return the signal-to-noise ratio of a window in decibels; a lossless codec that loses anything is an error."""
    size = min(300, image.shape[1] - 77)
    expected = image[:, 50 : 50 + size, 77 : 77 + size]
    found = encoded.crop(50, 77, size, encoded.scratch())
    if np.array_equal(found, expected):
        return math.inf
    if encoded.layout.codec.lossless:
        raise ValueError(f"{encoded.layout} did not return the pixels it was given")
    error = np.mean(np.square(found.astype(float) - expected))
    return float(10 * np.log10(255**2 / error))
