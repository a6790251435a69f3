"""Images cut into encoded chunks, and the reader of windows that is measured.

`encode` cuts (c, y, x) into square chunks, pads the last ones, transposes and encodes each, and joins the results in
one buffer with offsets, which is what a shard is. `Encoded.crop` reads as ndzarr does: look each touched chunk up,
check its crc32c, decode it into a scratch array, copy the part that the window wants. One thread, a Python loop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import google_crc32c
import numpy as np

from benchmarks.harness import race
from benchmarks.layouts.codecs import Array, Bytes, Codec

Runner = Callable[[int], Any]
Scratch = tuple[Array, Array, Bytes]
ORDERS = {"planar": (0, 1, 2), "single": (0, 1, 2), "interleaved": (1, 2, 0), "rows": (1, 0, 2)}
"""The order in which (c, y, x) is stored: the argument of the core `transpose` codec."""


@dataclass(frozen=True)
class Layout:
    """How an image is cut and encoded."""

    codec: Codec
    grouping: str
    """planar: all channels in a chunk (c, y, x); single: one channel a chunk; interleaved (y, x, c); rows (y, c, x)."""
    edge: int = 128
    """Pixels of a chunk along y and x."""


@dataclass(frozen=True)
class Encoded:
    """An image (c, y, x) as the bytes of its chunks."""

    layout: Layout
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data: Bytes
    spans: list[tuple[int, int, int]]
    """First byte, end byte and crc32c of each chunk, channel groups outermost, then rows of chunks."""
    seconds: float
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
    def ratio(self) -> float:
        """Bytes of pixels over bytes stored."""
        return self.nbytes / self.stored

    def scratch(self) -> Scratch:
        """A buffer for a decoded chunk in stored order, the same seen as (c, y, x), and a spare one.

        It begins 16 bytes after a multiple of 64: at a multiple of 32, libjpeg-turbo writes past the cache, and who
        reads the pixels next waits for memory.
        """
        order, edge = ORDERS[self.layout.grouping], self.layout.edge
        shape = 1 if self.layout.grouping == "single" else self.shape[0], edge, edge
        nbytes = math.prod(shape) * self.dtype.itemsize
        buffer = np.empty(nbytes + 128, np.uint8)
        start = -buffer.ctypes.data % 64 + 16
        stored = buffer[start : start + nbytes].view(self.dtype).reshape([shape[axis] for axis in order])
        return stored, stored.transpose(np.argsort(order)), np.empty(nbytes, np.uint8)

    def decode(self, chunk: int, scratch: Scratch) -> None:
        """Check and decode one chunk."""
        start, stop, crc = self.spans[chunk % len(self.spans)]
        data = self.data[start:stop]
        if google_crc32c.value(data) != crc:
            raise ValueError(f"chunk {chunk} of {self.layout} is damaged")
        self.layout.codec.decode(data, scratch[0], scratch[2])

    def crop(
        self, y: int, x: int, size: int, scratch: tuple[Array, Array, Bytes], channels: int | None = None
    ) -> Array:
        """Return the square window at (y, x), of the first `channels` channels."""
        out = np.empty((channels or self.shape[0], size, size), self.dtype)
        chunk, edge = scratch[1], self.layout.edge
        depth = len(chunk)
        rows, columns = -(-self.shape[1] // edge), -(-self.shape[2] // edge)
        for c in range(0, len(out), depth):
            wanted = out[c : c + depth]
            for j in range(y // edge, (y + size - 1) // edge + 1):
                part_y, place_y = _overlap(y, size, j * edge, edge)
                for i in range(x // edge, (x + size - 1) // edge + 1):
                    part_x, place_x = _overlap(x, size, i * edge, edge)
                    self.decode((c // depth * rows + j) * columns + i, scratch)
                    wanted[:, place_y, place_x] = chunk[: len(wanted), part_y, part_x]
        return out


def _overlap(first: int, size: int, origin: int, edge: int) -> tuple[slice, slice]:
    """Where a window meets a chunk that begins at `origin`, in pixels of the chunk and of the window."""
    low, high = max(first, origin), min(first + size, origin + edge)
    return slice(low - origin, high - origin), slice(low - first, high - first)


def chunks(image: Array, layout: Layout) -> Iterator[Array]:
    """Yield the chunks of `image` (c, y, x) as they are stored; ragged borders are padded with zeros, as by Zarr."""
    edge, depth = layout.edge, 1 if layout.grouping == "single" else image.shape[0]
    for c in range(0, image.shape[0], depth):
        for y in range(0, image.shape[1], edge):
            for x in range(0, image.shape[2], edge):
                chunk = image[c : c + depth, y : y + edge, x : x + edge]
                lack = [(0, 0), (0, edge - chunk.shape[1]), (0, edge - chunk.shape[2])]
                yield np.ascontiguousarray(np.pad(chunk, lack).transpose(ORDERS[layout.grouping]))


def encode(image: Array, layout: Layout) -> Encoded:
    """Return `image` (c, y, x) encoded under `layout`."""
    pieces: list[bytes] = []
    spans: list[tuple[int, int, int]] = []
    position, seconds = 0, 0.0
    for chunk in chunks(image, layout):
        began = time.process_time()
        piece = layout.codec.encode(chunk)
        seconds += time.process_time() - began
        spans.append((position, position + len(piece), google_crc32c.value(piece)))
        position += len(piece)
        pieces.append(piece)
    return Encoded(layout, image.shape, image.dtype, np.frombuffer(b"".join(pieces), np.uint8), spans, seconds)


def positions(side: int, size: int, count: int, multiple: int = 1) -> list[tuple[int, int]]:
    """Random window corners, on multiples of `multiple`."""
    corners = np.random.default_rng(size).integers(0, (side - size) // multiple + 1, (count, 2)) * multiple
    return [(int(y), int(x)) for y, x in corners]


def times(runners: Sequence[Callable[[int], Any]], jobs: int) -> list[float]:
    """Median seconds of processor time: everything is in memory, so on a quiet machine it is the time that passes."""
    found = race({str(k): runner for k, runner in enumerate(runners)}, jobs, 1, clock=time.thread_time)
    return [found.median(name) for name in found.names]


def crops(
    image: Encoded, windows: Sequence[tuple[int, int]], size: int, channels: int | None = None
) -> Callable[..., Any]:
    """Return a runner that reads the i-th window; it keeps its scratch arrays, as a reader does."""

    def run(scratch: Any, i: int) -> Array:
        return image.crop(*windows[i], size, scratch, channels)

    return partial(run, image.scratch())


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
    psnr: float
    """Decibels; infinite for lossless codecs."""


def measure(image: Array, layouts: Sequence[Layout], jobs: int) -> list[Result]:
    """Encode `image` (c, y, x) under all `layouts`, check each against the pixels, and let them take turns."""
    encoded = [encode(image, layout) for layout in layouts]
    windows = positions(image.shape[1], 256, jobs)
    whole = times([partial(lambda one, s, i: one.decode(i, s), one, one.scratch()) for one in encoded], jobs)
    parts = times([crops(one, windows, 256) for one in encoded], jobs)
    return [
        Result(
            one.layout,
            one.ratio,
            one.nbytes / max(one.seconds, 1e-9) / 1e6,
            one.nbytes / len(one.spans) / decoded / 1e6,
            seconds * 1e3,
            _psnr(image, one),
        )
        for one, seconds, decoded in zip(encoded, parts, whole, strict=True)
    ]


def _psnr(image: Array, encoded: Encoded) -> float:
    """The signal-to-noise ratio of a window in decibels; a lossless codec that loses anything is an error."""
    expected, found = image[:, 50:350, 77:377], encoded.crop(50, 77, 300, encoded.scratch())
    if np.array_equal(found, expected):
        return math.inf
    if encoded.layout.codec.lossless:
        raise ValueError(f"{encoded.layout} did not return the pixels it was given")
    return float(10 * np.log10(255**2 / np.mean(np.square(found.astype(float) - expected))))
