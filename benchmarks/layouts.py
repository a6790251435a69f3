"""Which chunk edge, channel grouping and codec let a small window be read fastest, at what size on disk?

This is the study that ndzarr's presets are chosen by. ``python -m benchmarks.layouts --out docs/layouts.md`` prints its
tables and puts them below the prose of that page; ``--quick`` runs a subset in under a minute.

1. Make four kinds of data (:mod:`benchmarks.photographs`): a photograph, multispectral reflectances, an elevation
   model, a class map.
2. Encode every chunk of an image under each *layout* (codec, grouping of channels, chunk edge) into one buffer with
   offsets, which is what a shard is.
3. Read random windows as ndzarr does: look each touched chunk up, check its crc32c, decode it into a scratch array,
   copy the part that the window wants. One thread, a plain Python loop.
4. Race the layouts on the same windows in turn, so that a noisy machine disturbs all of them alike, and take medians
   of the thread's processor time: everything is in memory, so on a quiet machine that is the time that passes.
5. Name the candidates that nothing else beats in both latency and size, and apply the stated rules for the presets.

MB are 10^6 bytes of pixels, windows are square, and ``ratio`` is bytes of pixels over bytes stored.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import math
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, Protocol, cast

import cv2
import google_crc32c
import imagecodecs
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
from numpy.typing import NDArray

from benchmarks.photographs import elevation, labels, multispectral, photograph

numcodecs.blosc.use_threads = False

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
Support = Literal["core", "zarr-python", "with pcodec", "with imagecodecs"]
"""Who reads it: any Zarr v3 reader; zarr-python out of the box, or with one more package installed."""

PACKAGES: tuple[tuple[Support, ...], ...] = ((), ("with pcodec",))
"""What a reader may need beside zarr-python: nothing; pcodec."""
Shuffle = Literal["noshuffle", "shuffle", "bitshuffle"]

EDGES = (64, 96, 128, 192, 256, 512)
SIZES = (64, 128, 256, 512, 1024)
MARKER = "<!-- below: the output of python -m benchmarks.layouts -->"


# ---------------------------------------------------------------------------------------------------------- codecs


class Codec(Protocol):
    """One way to turn the bytes of a chunk into fewer bytes and back."""

    @property
    def name(self) -> str: ...

    @property
    def support(self) -> Support: ...

    @property
    def lossless(self) -> bool: ...

    def encode(self, chunk: Array) -> bytes:
        """Return the encoded bytes of a C-contiguous ``chunk``."""
        ...

    def decode(self, data: Bytes, out: Array, spare: Bytes) -> None:
        """Decode ``data`` into ``out``; ``spare`` is a buffer of the same size for codecs in two steps."""
        ...


@dataclass(frozen=True)
class Blosc:
    """The Zarr v3 core codec ``blosc``."""

    cname: str
    level: int
    shuffle: Shuffle
    blocksize: int = 0
    """Bytes asked for; 0 lets blosc choose."""
    support: Support = "core"
    lossless: bool = True

    @property
    def name(self) -> str:
        return f"blosc {self.cname} {self.level} {self.shuffle}" + f" {self.blocksize}" * bool(self.blocksize)

    def encode(self, chunk: Array) -> bytes:
        shuffle = ("noshuffle", "shuffle", "bitshuffle").index(self.shuffle)
        return bytes(numcodecs.blosc.compress(chunk, self.cname.encode(), self.level, shuffle, self.blocksize))

    def decode(self, data: Bytes, out: Array, spare: Bytes) -> None:
        numcodecs.blosc.decompress(data, out)


@dataclass(frozen=True)
class Zstd:
    """The Zarr v3 core codec ``zstd``."""

    level: int
    min_match: int = 0
    """Shortest repeat the encoder looks for, 0 for what the level implies. Differences of noise hold hardly a repeat
    worth its bits: without them Huffman codes alone are smaller, and decode faster. Writing needs zstandard."""
    support: Support = "core"
    lossless: bool = True

    @property
    def name(self) -> str:
        return f"zstd {self.level}" + f" min_match={self.min_match}" * bool(self.min_match)

    def encode(self, chunk: Array) -> bytes:
        if self.min_match:
            return bytes(_zstandard(self.level, self.min_match, chunk.nbytes).compress(chunk))
        return bytes(numcodecs.zstd.compress(chunk, self.level))

    def decode(self, data: Bytes, out: Array, spare: Bytes) -> None:
        numcodecs.zstd.decompress(data, out)


@lru_cache
def _zstandard(level: int, min_match: int, nbytes: int) -> Any:
    import zstandard

    how = zstandard.ZstdCompressionParameters.from_level(level, source_size=nbytes, min_match=min_match)
    return zstandard.ZstdCompressor(compression_params=how)


@dataclass(frozen=True)
class Delta:
    """``numcodecs.delta`` of the flattened chunk in its own integer dtype, wrapping around, before ``inner``."""

    inner: Blosc | Zstd
    support: Support = "zarr-python"
    lossless: bool = True

    @property
    def name(self) -> str:
        return f"delta + {self.inner.name}"

    def encode(self, chunk: Array) -> bytes:
        flat = chunk.reshape(-1)
        return self.inner.encode(np.diff(flat, prepend=flat.dtype.type(0)))

    def decode(self, data: Bytes, out: Array, spare: Bytes) -> None:
        differences = spare[: out.nbytes].view(out.dtype)
        self.inner.decode(data, differences, spare)
        imagecodecs.delta_decode(differences, axis=0, out=out.reshape(-1))


@dataclass(frozen=True)
class Pcodec:
    """``numcodecs.pcodec``, made for numeric columns."""

    level: int
    support: Support = "with pcodec"
    lossless: bool = True

    @property
    def name(self) -> str:
        return f"pcodec {self.level}"

    def encode(self, chunk: Array) -> bytes:
        from numcodecs.pcodec import PCodec

        return bytes(PCodec(level=self.level).encode(chunk))

    def decode(self, data: Bytes, out: Array, spare: Bytes) -> None:
        imagecodecs.pcodec_decode(cast("Any", data), out.shape, out.dtype, out=out)


@dataclass(frozen=True)
class Picture:
    """An image format of imagecodecs, on a 2-D or interleaved (y, x, c) chunk."""

    format: str
    options: tuple[tuple[str, Any], ...] = ()
    lossless: bool = True
    support: Support = "with imagecodecs"

    @property
    def name(self) -> str:
        return " ".join([self.format, *(f"{key}={value}" for key, value in self.options)])

    def encode(self, chunk: Array) -> bytes:
        return bytes(getattr(imagecodecs, f"{self.format}_encode")(_squeezed(chunk), **dict(self.options)))

    def decode(self, data: Bytes, out: Array, spare: Bytes) -> None:
        getattr(imagecodecs, f"{self.format}_decode")(data, out=_squeezed(out))


def _squeezed(chunk: Array) -> Array:
    """Return a (1, y, x) chunk as (y, x), which is what image formats take for a single channel."""
    return chunk[0] if chunk.shape[0] == 1 else chunk


# --------------------------------------------------------------------------------------------------------- layouts

Grouping = Literal["planar", "single", "interleaved", "rows"]
ORDERS: dict[Grouping, tuple[int, int, int]] = {
    "planar": (0, 1, 2),
    "single": (0, 1, 2),
    "interleaved": (1, 2, 0),
    "rows": (1, 0, 2),
}
"""The order in which (c, y, x) is stored: the argument of the core ``transpose`` codec."""


@dataclass(frozen=True)
class Layout:
    """How an image is cut and encoded."""

    codec: Codec
    grouping: Grouping
    """planar: all channels in a chunk (c, y, x); single: one channel a chunk; interleaved (y, x, c); rows (y, c, x)."""
    edge: int
    """Pixels of a chunk along y and x."""


@dataclass(frozen=True)
class Touch:
    """One chunk that a window touches."""

    chunk: int
    part: tuple[slice, slice]
    """Rows and columns of the chunk that the window wants."""
    channels: slice
    place: tuple[slice, slice]
    """Where in the window they go."""


Scratch = tuple[Array, Array, Bytes]


@dataclass(frozen=True)
class Encoded:
    """An image (c, y, x) as the bytes of its chunks, with the reader that is measured."""

    layout: Layout
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    data: Bytes
    spans: list[tuple[int, int, int]]
    """First byte, end byte and crc32c of each chunk, channel groups outermost, then rows of chunks."""
    seconds: float = field(compare=False)
    """Processor time of encoding."""

    @property
    def nbytes(self) -> int:
        """Bytes of pixels."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def stored(self) -> int:
        """Bytes on disk: chunks, their crc32c, and 16 bytes for each in a shard's index."""
        return len(self.data) + 20 * len(self.spans)

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        """Shape (c, y, x) of one chunk."""
        depth = 1 if self.layout.grouping == "single" else self.shape[0]
        return depth, self.layout.edge, self.layout.edge

    def scratch(self) -> Scratch:
        """Return a buffer for a decoded chunk in stored order, the same seen as (c, y, x), and a spare one."""
        order, shape = ORDERS[self.layout.grouping], self.chunk_shape
        stored = _placed([shape[axis] for axis in order], self.dtype)
        return stored, stored.transpose(np.argsort(order)), np.empty(stored.nbytes, np.uint8)

    def touches(self, y: int, x: int, size: int, channels: int | None = None) -> Iterator[Touch]:
        """Yield the chunks under the square window at (y, x), of the first ``channels`` channels."""
        depth, edge, _ = self.chunk_shape
        rows, columns = -(-self.shape[1] // edge), -(-self.shape[2] // edge)
        for c in range(0, channels or self.shape[0], depth):
            for j in range(y // edge, (y + size - 1) // edge + 1):
                part_y, place_y = _overlap(y, size, j, edge)
                for i in range(x // edge, (x + size - 1) // edge + 1):
                    part_x, place_x = _overlap(x, size, i, edge)
                    number = (c // depth * rows + j) * columns + i
                    yield Touch(number, (part_y, part_x), slice(c, c + depth), (place_y, place_x))

    def read(self, touches: Iterable[Touch], out: Array, scratch: Scratch) -> None:
        """Decode each touched chunk and copy its part into ``out``."""
        stored, chunk, spare = scratch
        decode = self.layout.codec.decode
        for touch in touches:
            start, stop, crc = self.spans[touch.chunk]
            data = self.data[start:stop]
            if google_crc32c.value(data) != crc:
                raise ValueError(f"chunk {touch.chunk} of {self.layout} is damaged")
            decode(data, stored, spare)
            wanted = out[touch.channels]
            wanted[:, touch.place[0], touch.place[1]] = chunk[: len(wanted), touch.part[0], touch.part[1]]

    def crop(self, y: int, x: int, size: int, scratch: Scratch, channels: int | None = None) -> Array:
        """Return the square window at (y, x) as (c, size, size)."""
        out = np.empty((channels or self.shape[0], size, size), self.dtype)
        self.read(self.touches(y, x, size, channels), out, scratch)
        return out

    def decode_chunk(self, number: int, scratch: Scratch) -> None:
        """Check and decode one chunk, copying nothing."""
        start, stop, crc = self.spans[number % len(self.spans)]
        if google_crc32c.value(self.data[start:stop]) == crc:
            self.layout.codec.decode(self.data[start:stop], scratch[0], scratch[2])


def _placed(shape: Sequence[int], dtype: np.dtype[Any], offset: int = 16) -> Array:
    """Return an empty array that begins ``offset`` bytes after a multiple of 64.

    Not at a multiple of 32: there libjpeg-turbo writes past the cache, and who reads the pixels next waits for memory.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    room = np.empty(nbytes + 128, np.uint8)
    start = -room.ctypes.data % 64 + offset
    return room[start : start + nbytes].view(dtype).reshape(shape)


def _overlap(first: int, size: int, chunk: int, edge: int) -> tuple[slice, slice]:
    """Return where [first, first + size) lies in the chunk'th interval of ``edge``, and where that is in the former."""
    origin = chunk * edge
    low, high = max(first, origin), min(first + size, origin + edge)
    return slice(low - origin, high - origin), slice(low - first, high - first)


def encode(image: Array, layout: Layout) -> Encoded:
    """Return ``image`` (c, y, x) encoded under ``layout``; ragged borders are padded with zeros, as Zarr pads them."""
    pieces: list[bytes] = []
    spans: list[tuple[int, int, int]] = []
    position, seconds = 0, 0.0
    for chunk in _chunks(image, layout):
        began = time.process_time()
        piece = layout.codec.encode(np.ascontiguousarray(chunk))
        seconds += time.process_time() - began
        spans.append((position, position + len(piece), google_crc32c.value(piece)))
        position += len(piece)
        pieces.append(piece)
    data = np.frombuffer(b"".join(pieces), np.uint8)
    shape = (image.shape[0], image.shape[1], image.shape[2])
    return Encoded(layout, shape, image.dtype, data, spans, seconds)


def _chunks(image: Array, layout: Layout) -> Iterator[Array]:
    """Yield the chunks of ``image`` (c, y, x) in the order in which they are stored."""
    edge = layout.edge
    depth = 1 if layout.grouping == "single" else image.shape[0]
    for c in range(0, image.shape[0], depth):
        for y in range(0, image.shape[1], edge):
            for x in range(0, image.shape[2], edge):
                chunk = image[c : c + depth, y : y + edge, x : x + edge]
                lack = [(0, 0), (0, edge - chunk.shape[1]), (0, edge - chunk.shape[2])]
                yield (np.pad(chunk, lack) if any(map(any, lack)) else chunk).transpose(ORDERS[layout.grouping])


def amplification(layout: Layout, windows: Sequence[tuple[int, int]], size: int) -> float:
    """Return pixels decoded over pixels asked for, averaged over ``windows``."""
    edge = layout.edge

    def span(first: int) -> int:
        return ((first + size - 1) // edge - first // edge + 1) * edge

    return float(np.mean([span(y) * span(x) for y, x in windows])) / size**2


# ----------------------------------------------------------------------------------------------------- measurement


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


# ------------------------------------------------------------------------------------------------ sizes to compare


def levels(image: Array, nearest: bool) -> Iterator[Array]:
    """Yield ``image`` (c, y, x) and its halvings until one fits into 256 pixels."""
    yield image
    while max(image.shape[1:]) > 256:
        shape = (-(-image.shape[2] // 2), -(-image.shape[1] // 2))
        method = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA
        image = np.stack([cv2.resize(plane, shape, interpolation=method) for plane in image])
        yield image


def estimated_cog(image: Array) -> int:
    """Return the bytes of the 512-pixel tiles of a COG with zstd level 9, with the predictor or without, as is less."""
    tiles = [np.ascontiguousarray(tile) for tile in _chunks(image, Layout(Zstd(9), "interleaved", 512))]
    plain = sum(len(numcodecs.zstd.compress(tile, 9)) for tile in tiles)
    if image.dtype.kind == "f":
        predicted = (imagecodecs.floatpred_encode(tile, axis=-2) for tile in tiles)
    else:
        predicted = (np.diff(tile, axis=1, prepend=np.zeros_like(tile[:, :1])) for tile in tiles)
    return min(plain, sum(len(numcodecs.zstd.compress(np.ascontiguousarray(tile), 9)) for tile in predicted))


def gdal_cog(image: Array, nearest: bool) -> int | None:
    """Return the size of the COG that GDAL writes with zstd level 9 and a predictor; None without rasterio."""
    try:
        import rasterio
        from rasterio.shutil import copy
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        plain, cog = Path(folder, "plain.tif"), Path(folder, "cog.tif")
        count, height, width = image.shape
        profile = {"count": count, "height": height, "width": width, "dtype": image.dtype, "driver": "GTiff"}
        with rasterio.open(plain, "w", **profile) as target:
            target.write(image)
        how = {"RESAMPLING": "NEAREST" if nearest else "AVERAGE", "COMPRESS": "ZSTD", "LEVEL": 9}
        copy(plain, cog, driver="COG", PREDICTOR="NO" if nearest else "YES", **how)
        return cog.stat().st_size


# ------------------------------------------------------------------------------------------------ kinds, candidates


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
        found += [Delta(Zstd(1, 7))] if _installed("zstandard") else []
    if dtype.itemsize > 1 and _installed("pcodec"):
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


def pareto(results: Sequence[Result]) -> list[Result]:
    """Return the lossless results that no other beats in both latency and ratio, fastest first."""
    front: list[Result] = []
    for one in sorted((r for r in results if r.layout.codec.lossless), key=lambda r: (r.crop_ms, -r.ratio)):
        if not front or one.ratio > front[-1].ratio:
            front.append(one)
    return front


def choose_fast(results: Sequence[Result], least_ratio: float) -> Result:
    """Return the core candidate for ``fast``: of those within 10 % of the lowest latency and within 2 % of the best
    ratio among these, the one that encodes fastest.
    """
    able = [r for r in results if r.layout.codec.support == "core" and r.ratio >= least_ratio]
    quickest = min(r.crop_ms for r in able)
    near = [r for r in able if r.crop_ms <= 1.1 * quickest]
    smallest = max(r.ratio for r in near)
    return max((r for r in near if r.ratio >= 0.98 * smallest), key=lambda r: r.encode_rate)


def choose_compact(results: Sequence[Result], fast: Result, kind: Kind, cog: float, more: Sequence[Support]) -> Result:
    """Return the candidate for ``compact`` of those that zarr-python reads, given the packages ``more``.

    Of those no larger than the COG, whose ratio is ``cog``: the smallest within 10 % of the lowest latency. Where there
    is none: the quickest within 2 % of the best ratio that costs at most ``kind.compact_slower`` times ``fast``.
    """
    readable = [r for r in results if r.layout.codec.support in ("core", "zarr-python", *more)]
    small = [r for r in readable if r.ratio >= cog]
    if small:
        quickest = min(r.crop_ms for r in small)
        return max((r for r in small if r.crop_ms <= 1.1 * quickest), key=lambda r: r.ratio)
    able = [r for r in readable if r.crop_ms <= kind.compact_slower * fast.crop_ms]
    smallest = max(r.ratio for r in able)
    return min((r for r in able if r.ratio >= 0.98 * smallest), key=lambda r: r.crop_ms)


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


# ----------------------------------------------------------------------------------------------------- the studies


@dataclass(frozen=True)
class Chosen:
    """What the rules choose for one kind of data."""

    fast: Result
    compact: Result
    packed: Result
    """``compact`` if pcodec may be used."""

    def presets(self) -> list[tuple[str, Result]]:
        """Return (name, result) of each, the third only where it differs."""
        some = [("fast", self.fast), ("compact", self.compact)]
        return some if self.packed is self.compact else [*some, ("compact, were pcodec allowed", self.packed)]


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


class Report:
    """Prints as it goes, and keeps what it printed."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str = "") -> None:
        """Print one line or paragraph."""
        print(text, flush=True)
        self.lines.append(text)

    def table(self, title: str, head: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> None:
        """Print a Markdown table under a heading."""
        self.say(f"\n### {title}\n")
        if note:
            self.say(f"{note}\n")
        self.say("| " + " | ".join(head) + " |")
        self.say("| --- |" + " ---: |" * (len(head) - 1))
        for row in rows:
            self.say("| " + " | ".join(map(str, row)) + " |")


def environment(report: Report) -> None:
    """Say where this was measured."""
    packages = (
        "numpy",
        "numcodecs",
        "imagecodecs",
        "google-crc32c",
        "pcodec",
        "zstandard",
        "opencv-python-headless",
        "rasterio",
    )
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages if _installed(name)]
    machine = f"{_processor()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    report.say(f"\nMeasured on {time.strftime('%Y-%m-%d')}: {machine}.")
    report.say(f"Python {platform.python_version()}, {', '.join(versions)}.")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def study_realism(report: Report) -> None:
    """Do the synthetic photographs compress like real ones?"""
    encoders = {
        "lz4 5 bitshuffle": Layout(Blosc("lz4", 5, "bitshuffle"), "planar", 128),
        "lz4hc 4 bitshuffle": Layout(Blosc("lz4hc", 4, "bitshuffle"), "planar", 128),
        "zstd 3 bitshuffle": Layout(Blosc("zstd", 3, "bitshuffle"), "planar", 128),
        "delta + zstd 1": Layout(Delta(Zstd(1)), "planar", 128),
        **({"delta + zstd 1 min_match=7": Layout(Delta(Zstd(1, 7)), "planar", 128)} if _installed("zstandard") else {}),
        "PNG": Layout(Picture("png", (("level", 6),)), "interleaved", 128),
        "JPEG 90": Layout(Picture("jpeg8", (("level", 90),), lossless=False), "interleaved", 128),
    }
    rows = []
    for name, image in _real_photographs():
        whole = image[:, : image.shape[1] // 128 * 128, : image.shape[2] // 128 * 128]
        rows.append([name, *(f"{_ratio(whole, layout):.2f}" for layout in encoders.values())])
    for seed in range(3):
        ratios = (_ratio(photograph(1536, 1536, seed=seed), layout) for layout in encoders.values())
        rows.append([f"**photograph(seed={seed})**", *(f"{ratio:.2f}" for ratio in ratios)])
    note = "Ratios of 128 x 128 x 3 chunks: the photographs that scikit-image and scikit-learn ship, and the made one."
    report.table("Is the synthetic photograph realistic?", ["picture", *encoders], rows, note)


def _ratio(image: Array, layout: Layout) -> float:
    encoded = encode(image, layout)
    return encoded.nbytes / encoded.stored


def _real_photographs() -> Iterator[tuple[str, Array]]:
    """Yield (name, (c, y, x)) of photographs that are installed."""
    try:
        import skimage.data
        from sklearn.datasets import load_sample_images
    except ImportError:
        return
    for name in ("astronaut", "coffee", "chelsea", "rocket", "retina"):
        yield name, getattr(skimage.data, name)()[..., :3].transpose(2, 0, 1)
    for name, image in zip(("china", "flower"), load_sample_images().images, strict=True):
        yield name, image.transpose(2, 0, 1)


def study_codecs(report: Report, kind: Kind, settings: Settings) -> list[Result]:
    """Which codec at chunk edge 128?"""
    image = kind.make(settings.side)
    depth = 1 if kind.grouping == "single" else image.shape[0]
    candidates = codecs(image.dtype, depth * 128 * 128 * image.itemsize, settings.quick)
    layouts = [Layout(codec, kind.grouping, 128) for codec in candidates]
    if kind.grouping == "planar" and not settings.quick:
        # the same with channels interleaved, for the codecs that could gain by it
        some = (Blosc("lz4", 5, "noshuffle"), Blosc("lz4hc", 4, "bitshuffle"), Blosc("zstd", 3, "bitshuffle"), Zstd(1))
        layouts += [Layout(codec, "interleaved", 128) for codec in some]
    results = measure(image, layouts + pictures(image, settings.quick), settings.seconds)
    front = {id(r) for r in pareto(results)}
    rows = [
        [
            f"{r.layout.codec.name} ({r.layout.grouping})" + (f", {r.psnr:.1f} dB" if r.psnr < math.inf else ""),
            r.layout.codec.support,
            f"{r.ratio:.2f}",
            f"{r.encode_rate:.0f}",
            f"{r.decode_rate:.0f}",
            f"{r.crop_ms:.3f}",
            "front" if id(r) in front else "",
        ]
        for r in sorted(results, key=lambda r: r.crop_ms)
    ]
    head = ["codec (grouping)", "read by", "ratio", "encode MB/s", "decode MB/s", "256 window, ms", "Pareto"]
    note = f"{image.shape} {image.dtype}, chunk edge 128, random 256 windows of all channels; decoding includes crc32c."
    report.table(f"Codecs: {kind.name}", head, rows, note)
    return results


def study_grouping(report: Report, settings: Settings) -> None:
    """All channels in a chunk, or one?"""
    rows = []
    count = 4 if settings.quick else 8
    for name, image in (
        ("RGB", photograph(settings.side, settings.side)),
        (f"{count} channels", multispectral(settings.side, settings.side, count)),
    ):
        groupings: list[Grouping] = ["planar", "single", "interleaved", "rows"]
        encoded = [encode(image, Layout(Blosc("lz4hc", 4, "bitshuffle"), one, 128)) for one in groupings]
        windows = positions(settings.side, 256)
        wanted = sorted({1, 3, image.shape[0]})
        runners = [crop_at(one, windows, 256, channels) for one in encoded for channels in wanted]
        times = iter(race(runners, settings.seconds / 2))
        for one in encoded:
            cells = [f"{next(times) * 1e3:.3f}" for _ in wanted] + [""] * (3 - len(wanted))
            rows.append([f"{name}, {one.layout.grouping}", f"{one.nbytes / one.stored:.2f}", *cells])
    head = ["data, grouping", "ratio", "1 channel, ms", "3 channels, ms", "all, if more, ms"]
    report.table("Channel grouping (blosc lz4hc 4 bitshuffle, edge 128, 256 windows)", head, rows)


def study_edges(report: Report, kind: Kind, chosen: Chosen, settings: Settings) -> None:
    """Which chunk edge, for windows of which size?"""
    image = kind.make(settings.side)
    sizes = tuple(size for size in SIZES if size < settings.side)
    edges = (64, 128, 256) if settings.quick else EDGES
    presets = [(name, one.layout) for name, one in chosen.presets()]
    if kind.grouping == "planar":
        presets.append(("jpeg", Layout(Picture("jpeg8", (("level", 90),), lossless=False), "interleaved", 128)))
    for label, layout in presets:
        encoded = [encode(image, replace(layout, edge=edge)) for edge in edges]
        medians, amplified = [], []
        for size in sizes:
            windows = positions(settings.side, size)
            medians.append(race([crop_at(one, windows, size) for one in encoded], settings.seconds / 5))
            amplified.append([amplification(one.layout, windows, size) for one in encoded])
        grid = positions(settings.side, 256, multiple=256)
        aligned = race([crop_at(one, grid, 256) for one in encoded], settings.seconds / 5)
        rows = []
        for place, one in enumerate(encoded):
            cells = [f"{m[place] * 1e3:.3f} ({a[place]:.1f})" for m, a in zip(medians, amplified, strict=True)]
            slow = [m[place] / min(m) for m, size in zip(medians, sizes, strict=True) if size in (128, 256, 512)]
            mean = math.exp(np.mean(np.log(slow)))
            ratio = f"{one.nbytes / one.stored:.2f}"
            rows.append([one.layout.edge, ratio, *cells, f"{aligned[place] * 1e3:.3f}", f"{mean:.2f}"])
        head = ["edge", "ratio", *(f"{size}, ms (amp.)" for size in sizes), "256 on a grid", "128-512 vs best"]
        note = (
            "Median ms for a random window of each size, in brackets the pixels decoded over the pixels asked for; "
            "then windows on a grid of 256 pixels; then the mean slowdown against the best edge."
        )
        report.table(f"Chunk edges: {kind.name}, {label} ({layout.codec.name}, {layout.grouping})", head, rows, note)


def study_blocksizes(report: Report, settings: Settings) -> None:
    """Does blosc's block size matter?"""
    image = photograph(settings.side, settings.side)
    sizes = (0, 1 << 16) if settings.quick else (0, 1 << 13, 1 << 14, 1 << 15, 1 << 16, 1 << 17, 1 << 18)
    rows = []
    for edge in (128,) if settings.quick else (128, 256):
        encoded = []
        for name, level in (("lz4", 5), ("lz4hc", 4), ("zstd", 3)):
            encoded += [encode(image, Layout(Blosc(name, level, "bitshuffle", size), "planar", edge)) for size in sizes]
        windows = positions(settings.side, 256)
        times = race([crop_at(one, windows, 256) for one in encoded], settings.seconds)
        for one, seconds in zip(encoded, times, strict=True):
            name = one.layout.codec.name
            cells = (_blocksize(one), f"{one.nbytes / one.stored:.2f}", f"{seconds * 1e3:.3f}")
            rows.append([f"edge {edge}, {name}", *cells])
    head = ["codec, block size asked for", "block size got", "ratio", "256 window, ms"]
    report.table("Blosc block sizes (photograph, planar)", head, rows)


def _blocksize(encoded: Encoded) -> int:
    """Return the block size in the header of the first blosc chunk."""
    return int(encoded.data[8:12].view("<u4")[0])


def study_partial(report: Report, settings: Settings) -> None:
    """Idea (a): would decoding only the touched rows of a chunk pay?"""
    public = hasattr(numcodecs.blosc, "decompress_partial")
    report.say(f"\nnumcodecs.blosc.decompress_partial exists: {public}.")
    getitem = _getitem()
    if getitem is None:
        report.say("The library that numcodecs links does not export blosc_getitem either: not measured.")
        return
    image = photograph(settings.side, settings.side)
    windows = positions(settings.side, 256)
    base = encode(image, Layout(Blosc("lz4hc", 4, "bitshuffle"), "planar", 128))
    names, runners, ratios, blocks = ["planar, edge 128, whole chunks"], [crop_at(base, windows, 256)], [base], [base]
    for edge in (128, 256) if settings.quick else (128, 256, 512):
        for codec in (Blosc("lz4hc", 4, "bitshuffle", 1 << 16), Blosc("zstd", 3, "bitshuffle", 1 << 14)):
            one = encode(image, Layout(codec, "rows", edge))
            if not np.array_equal(_partial_crop(getitem, one, one.scratch(), 50, 77, 256), image[:, 50:306, 77:333]):
                raise ValueError(f"blosc_getitem returned other pixels for {one.layout}")
            partly = _partial_at(getitem, one, windows)
            names += [f"rows, edge {edge}, {codec.cname}, {how}" for how in ("whole chunks", "touched rows only")]
            runners += [crop_at(one, windows, 256), partly]
            ratios += [one, one]
            blocks += [one, one]
    times = race(runners, settings.seconds / 2)
    rows = [
        [name, _blocksize(one), f"{one.nbytes / one.stored:.2f}", f"{seconds * 1e3:.3f}"]
        for name, one, seconds in zip(names, ratios, times, strict=True)
    ]
    note = "Chunks stored (y, c, x), so that rows of a window are one run of bytes; blosc_getitem called with ctypes."
    report.table("Idea (a): decoding only the touched rows", ["layout", "block size", "ratio", "256 ms"], rows, note)


def _getitem() -> Any:
    """Return blosc_getitem(src, start, items, dest) of the library inside numcodecs, which is no public interface."""
    try:
        function = ctypes.CDLL(numcodecs.blosc.__file__).blosc_getitem
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    return function


def _partial_crop(getitem: Any, image: Encoded, scratch: Scratch, y: int, x: int, size: int) -> Array:
    """Return a window, decoding of each chunk stored (y, c, x) the touched rows."""
    out = np.empty((image.shape[0], size, size), image.dtype)
    stored, chunk, _ = scratch
    base, target = image.data.ctypes.data, stored.ctypes.data
    items = image.shape[0] * image.layout.edge
    for touch in image.touches(y, x, size):
        start, stop, crc = image.spans[touch.chunk]
        if google_crc32c.value(image.data[start:stop]) != crc:
            raise ValueError(f"chunk {touch.chunk} of {image.layout} is damaged")
        rows, columns = touch.part
        height = rows.stop - rows.start
        getitem(base + start, rows.start * items, height * items, target)
        out[:, touch.place[0], touch.place[1]] = chunk[:, :height, columns]
    return out


def _partial_at(getitem: Any, image: Encoded, windows: Sequence[tuple[int, int]]) -> Runner:
    scratch = image.scratch()
    return lambda turn: _partial_crop(getitem, image, scratch, *windows[turn % len(windows)], 256)


def study_alignment(report: Report, settings: Settings) -> None:
    """Where should the scratch array lie into which chunks are decoded?"""
    image = photograph(settings.side, settings.side)
    codecs = (Blosc("lz4hc", 4, "bitshuffle"), Delta(Zstd(1)), Picture("jpeg8", (("level", 90),), lossless=False))
    offsets = (0, 8, 16, 32, 48)
    rows = []
    for codec in codecs:
        encoded = encode(image, Layout(codec, "interleaved" if isinstance(codec, Picture) else "planar", 128))
        runners = [_decode_and_copy(encoded, offset) for offset in offsets]
        rows.append([codec.name, *(f"{t * 1e6:.1f}" for t in race(runners, settings.seconds / 8))])
    note = "Microseconds to decode a 128 x 128 x 3 chunk and copy it, by the address of the scratch array modulo 64."
    report.table("Alignment of the scratch array", ["codec", *map(str, offsets)], rows, note)


def _decode_and_copy(encoded: Encoded, offset: int) -> Runner:
    stored, chunk, spare = encoded.scratch()
    placed = _placed(stored.shape, stored.dtype, offset)
    seen = placed.transpose(np.argsort(ORDERS[encoded.layout.grouping]))
    out = np.empty_like(chunk, order="C")

    def run(turn: int) -> None:
        encoded.decode_chunk(turn, (placed, seen, spare))
        out[:] = seen

    return run


class Pair:
    """A second thread that waits for half of the work."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            self._done.put(None)

    def run(self, mine: Callable[[], object], other: Callable[[], object]) -> None:
        """Do ``mine`` here and ``other`` there, and wait for both."""
        self._work.put(other)
        mine()
        self._done.get()

    def close(self) -> None:
        """End the thread."""
        self._work.put(None)
        self._thread.join()


def study_threads(report: Report, settings: Settings) -> None:
    """Idea (b): from how many decoded bytes do two threads for one window pay?"""
    image = photograph(settings.side, settings.side)
    pair, pool = Pair(), ThreadPoolExecutor(2)
    rows = []
    for codec in (Blosc("lz4hc", 4, "bitshuffle"), Delta(Zstd(1))):
        encoded = encode(image, Layout(codec, "planar", 128))
        chunks_across = (1, 2, 4, 6) if settings.quick else (1, 2, 3, 4, 6, 8, 12)
        rows += [_threads_row(encoded, across * 128, pair, pool, settings.seconds / 4) for across in chunks_across]
    pair.close()
    pool.shutdown()
    quantities = ["1 thread, ms", "pool of 2", "own pair"]
    head = ["codec, chunks", "decoded bytes", *quantities, *(f"{name}, quietest" for name in quantities)]
    note = (
        "Windows on the chunk grid; the chunks of each are halved between two threads: a ThreadPoolExecutor, or this "
        "thread and one that waits on a queue. Wall time; speed-ups of the median, then of the quickest 2 % of the "
        f"calls. Load average meanwhile: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
    )
    report.table("Idea (b): two threads for one window (photograph, planar, edge 128)", head, rows, note)


def _threads_row(encoded: Encoded, size: int, pair: Pair, pool: ThreadPoolExecutor, seconds: float) -> list[str]:
    windows = positions(encoded.shape[1], size, multiple=128)
    first, second = encoded.scratch(), encoded.scratch()
    out = np.empty((encoded.shape[0], size, size), encoded.dtype)

    def halves(turn: int) -> tuple[Callable[[], None], Callable[[], None]]:
        touches = list(encoded.touches(*windows[turn % len(windows)], size))
        middle = (len(touches) + 1) // 2
        return (
            partial(encoded.read, touches[:middle], out, first),
            partial(encoded.read, touches[middle:], out, second),
        )

    def alone(turn: int) -> None:
        for half in halves(turn):
            half()

    def pooled(turn: int) -> None:
        for future in [pool.submit(half) for half in halves(turn)]:
            future.result()

    def paired(turn: int) -> None:
        pair.run(*halves(turn))

    cells = []
    for quantile in (0.5, 0.02):
        one, two, own = race([alone, pooled, paired], seconds, time.perf_counter, quantile)
        cells += [f"{one * 1e3:.3f}", f"{one / two:.2f}", f"{one / own:.2f}"]
    nbytes = encoded.shape[0] * size**2 * encoded.dtype.itemsize
    return [f"{encoded.layout.codec.name}, {(size // 128) ** 2}", f"{nbytes}", *cells]


def study_sizes(report: Report, settings: Settings, chosen: dict[str, Chosen]) -> None:
    """How large are whole pyramids beside GDAL's COG of the same image?"""
    rows = []
    for kind in KINDS:
        image = kind.make(1024 if settings.quick else 4096)
        pyramid = list(levels(image, kind.nearest))
        estimate = sum(map(estimated_cog, pyramid))
        cog = gdal_cog(image, kind.nearest)
        for label, result in chosen[kind.name].presets():
            stored = sum(encode(level, result.layout).stored for level in pyramid)
            name = f"{kind.name}: {label} ({result.layout.codec.name})"
            real = f"{stored / cog:.2f}" if cog else "rasterio is missing"
            rows.append([name, f"{stored / 1e6:.2f}", f"{estimate / 1e6:.2f}", f"{stored / estimate:.2f}", real])
    head = ["store", "pyramid, MB", "COG estimated, MB", "times the estimate", "times GDAL's COG"]
    note = "COG: 512-pixel tiles, zstd level 9 with a predictor (none for labels), overviews included, in both."
    report.table("Sizes of pyramids", head, rows, note)


def study_shards(report: Report) -> None:
    """Which shard edge? Arithmetic only: chunk edge 128, RGB uint8."""
    rows = []
    for edge in (512, 1024, 2048, 4096):
        chunks = (edge // 128) ** 2
        files = [sum(math.ceil((side >> level) / edge) ** 2 for level in range(8)) for side in (8192, 65536)]
        shard, row = (3 * edge * length / 1e6 for length in (edge, 65536))
        rows.append([edge, chunks, 16 * chunks + 4, *files, f"{shard:.1f}", f"{row:.0f}"])
    head = ["shard edge", "chunks", "index, bytes", "files of 8192^2", "files of 65536^2", "a shard, MB", "a row, MB"]
    note = "Files count eight pyramid levels; a row is one row of shards of the larger image, uncompressed."
    report.table("Shards (RGB uint8, chunk edge 128)", head, rows, note)


# -------------------------------------------------------------------------------------------------- the conclusion


def recommend(report: Report, kind: Kind, results: Sequence[Result], settings: Settings) -> Chosen:
    """Print the Pareto front of one kind and what the rules choose."""
    ours = [r for r in results if r.layout.grouping == kind.grouping and not isinstance(r.layout.codec, Picture)]
    rows = [[r.layout.codec.name, r.layout.codec.support, f"{r.ratio:.2f}", f"{r.crop_ms:.3f}"] for r in pareto(ours)]
    report.table(f"Pareto front: {kind.name}", ["codec", "read by", "ratio", "256 window, ms"], rows)
    image = kind.make(settings.side)
    cog = image.nbytes / estimated_cog(image)
    fast = choose_fast(ours, cog / kind.fast_size)
    compact, packed = (choose_compact(ours, fast, kind, cog, more) for more in PACKAGES)
    chosen = Chosen(fast, compact, packed)
    report.say(f"\nThe tiles of a COG (estimated) have ratio {cog:.2f}. By rule:\n")
    for name, one in chosen.presets():
        report.say(
            f"- `{name}`: **{one.layout.codec.name}**, ratio {one.ratio:.2f} ({cog / one.ratio:.2f} times the COG), "
            f"{one.crop_ms:.3f} ms ({one.crop_ms / fast.crop_ms:.2f} times `fast`), encodes {one.encode_rate:.0f} MB/s"
        )
    return chosen


def run(settings: Settings) -> str:
    """Run all studies and return what they printed."""
    report, began = Report(), time.perf_counter()
    environment(report)
    study_realism(report)
    chosen = {}
    for kind in KINDS:
        chosen[kind.name] = recommend(report, kind, study_codecs(report, kind, settings), settings)
    study_sizes(report, settings, chosen)
    study_grouping(report, settings)
    for kind in KINDS[:1] if settings.quick else KINDS:
        study_edges(report, kind, chosen[kind.name], settings)
    study_blocksizes(report, settings)
    study_partial(report, settings)
    study_alignment(report, settings)
    study_threads(report, settings)
    study_shards(report)
    report.say(f"\nThe run took {time.perf_counter() - began:.0f} s.")
    return "\n".join(report.lines)


def write(path: Path, text: str) -> None:
    """Put ``text`` below the marker in the page at ``path``, keeping the prose above it."""
    prose = path.read_text().partition(MARKER)[0] if path.exists() else "# Layouts\n\n"
    path.write_text(f"{prose}{MARKER}\n\n## Measurements\n{text}\n")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layouts", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a subset, on smaller images, in under a minute")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a Markdown page to put the tables into")
    arguments = parser.parse_args()
    text = run(Settings(arguments.quick))
    if arguments.out:
        write(arguments.out, text)


if __name__ == "__main__":
    main()
