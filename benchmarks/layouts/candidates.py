"""Which kinds of data are measured, and which codecs are tried on each?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.layouts.chunks import Grouping, Layout
from benchmarks.layouts.codecs import Array, Blosc, Codec, Delta, Pcodec, Picture, Shuffle, Zstd, installed
from benchmarks.photographs import elevation, labels, multispectral, photograph


@dataclass(frozen=True)
class Kind:
    """A kind of data with what is usual for it."""

    name: str
    make: Callable[[int], Array]
    """Side in pixels to (c, y, x)."""
    grouping: Grouping
    fast_size: float = 1.45
    """A ``fast`` store may be this many times the size of GDAL's COG (zstd, predictor) of the same image."""
    compact_slower: float = 2.2
    """A window of a ``compact`` store should take at most this many times as long as one of a ``fast`` store."""
    nearest: bool = False
    """Pyramid levels by nearest neighbour, not by the mean; no predictor in a COG."""


KINDS = (
    Kind("photograph, uint8 RGB", lambda side: photograph(side, side), "planar"),
    Kind("multispectral, uint16, 4 channels", lambda side: multispectral(side, side, 4), "single"),
    Kind("elevation, float32", lambda side: elevation(side, side), "single"),
    # class maps are small and quick whatever is chosen: here speed may cost space, and space may cost speed
    Kind("labels, uint8", lambda side: labels(side, side), "single", math.inf, compact_slower=5.0, nearest=True),
)
LEVELS = {"lz4": (1, 5, 9), "lz4hc": (2, 3, 4, 6, 9), "zstd": (1, 3, 5)}


def codecs(dtype: np.dtype[Any], chunk_bytes: int, quick: bool) -> list[Codec]:
    """Return the codecs to try on chunks of ``dtype``."""
    shuffles: list[Shuffle] = (
        ["noshuffle", "bitshuffle"] if dtype.itemsize == 1 else ["noshuffle", "shuffle", "bitshuffle"]
    )
    levels = {name: some[1:2] for name, some in LEVELS.items()} if quick else LEVELS
    found: list[Codec] = [Blosc(name, n, s) for name, some in levels.items() for n in some for s in shuffles]
    found += [Zstd(level) for level in ((1,) if quick else (-1, 1, 3))]
    if dtype.kind in "iu":
        found += [Delta(Zstd(level)) for level in ((1,) if quick else (-1, 1, 2, 3))]
        found += [Delta(Blosc(c, n, s)) for c, n in (("lz4", 5), ("lz4hc", 4), ("zstd", 1)) for s in shuffles[1:]]
        found += [Delta(Blosc("zstd", 1, shuffles[-2], chunk_bytes))]
        found += [Delta(Zstd(1, 7))] if installed("zstandard") else []
    if dtype.itemsize > 1 and installed("pcodec"):
        found += [Pcodec(level) for level in ((4,) if quick else (1, 4, 8))]
    return found


def pictures(image: Array, quick: bool) -> list[Layout]:
    """Return image formats at edge 128 that take this dtype and number of channels."""
    colour = image.shape[0] == 3 and image.dtype == np.uint8
    grouping: Grouping = "interleaved" if colour else "single"
    some: list[Picture] = []
    if image.dtype.kind == "u":
        some += [Picture("png", (("level", 6),)), Picture("jpegls")]
        some += [Picture("jpegxl", (("lossless", True), ("effort", effort))) for effort in ((1,) if quick else (1, 3))]
    if colour:
        some += [Picture("jpeg8", (("level", level),), lossless=False) for level in ((90,) if quick else (85, 90, 95))]
        some += [Picture("jpeg8", (("level", 90), ("subsampling", "444")), lossless=False)]
        some += [Picture("webp", (("lossless", True),)), Picture("qoi")]
    return [Layout(codec, grouping, 128) for codec in some]
