"""How is an image cut into encoded chunks, and how is a window read from them?

1. :func:`encode` cuts (c, y, x) into square chunks, pads the last ones, transposes and encodes each, and joins the
   results in one buffer with their offsets and checksums.
2. :meth:`Encoded.touches` says which chunks lie under a window, and which part of each goes where: integers only.
3. :meth:`Encoded.read` checks, decodes and copies those. This is what is measured.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import google_crc32c
import numpy as np

from benchmarks.layouts.codecs import Array, Bytes, Codec

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
        stored = placed([shape[axis] for axis in order], self.dtype)
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


def placed(shape: Sequence[int], dtype: np.dtype[Any], offset: int = 16) -> Array:
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
    for chunk in chunks(image, layout):
        began = time.process_time()
        piece = layout.codec.encode(np.ascontiguousarray(chunk))
        seconds += time.process_time() - began
        spans.append((position, position + len(piece), google_crc32c.value(piece)))
        position += len(piece)
        pieces.append(piece)
    data = np.frombuffer(b"".join(pieces), np.uint8)
    shape = (image.shape[0], image.shape[1], image.shape[2])
    return Encoded(layout, shape, image.dtype, data, spans, seconds)


def chunks(image: Array, layout: Layout) -> Iterator[Array]:
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
