"""
Shard files: their index, writing them, and caches of mapped shards and of decoded chunks.

The Zarr v3 `sharding_indexed` layout with the index at the end
(https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/): encoded chunks back to back, then for every
chunk of the shard, in C order, two little-endian uint64 (offset, length; all ones where the chunk is missing), then the
crc32c of that index.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Hashable, Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import google_crc32c
import numpy as np

from ndzarr._files import flush_soon
from ndzarr.errors import DamagedError

_AGAIN = "Transcode the source again"

MISSING = 2**64 - 1
"""Offset and length of a chunk that is not stored."""

INDEX_CODECS: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


class Shard:
    """A memory-mapped shard file, its index checked; reading needs no file position and no lock."""

    __slots__ = ("_bytes", "_index", "path")

    def __init__(self, path: str, chunks: int) -> None:
        """Map the file of a shard of so many chunks."""
        self.path = path
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            if size < chunks * 16 + 4:
                message = f"{path}: {size} bytes are too few for a shard of {chunks} chunks; it is truncated"
                raise DamagedError(message, path=path, hint=_AGAIN)
            self._bytes = np.frombuffer(_map(file.fileno()), np.uint8)
        tail = self._bytes[size - chunks * 16 - 4 :]
        index = tail[:-4]
        if google_crc32c.value(index) != int.from_bytes(tail[-4:].tobytes(), "little"):
            raise DamagedError(f"{path}: the checksum of the shard index does not match", path=path, hint=_AGAIN)
        table = np.frombuffer(index.tobytes(), "<u8").reshape(-1, 2)
        stored = table[table[:, 0] != MISSING]
        if np.any(stored[:, 0] + stored[:, 1] > size):
            raise DamagedError(f"{path}: the shard index points behind the end of the file", path=path, hint=_AGAIN)
        # A memoryview gives plain ints on lookup, an array would give numpy scalars.
        self._index = memoryview(table.reshape(-1))  # type: ignore[arg-type]

    def encoded(self, k: int) -> np.ndarray[Any, Any] | None:
        """Return the bytes of chunk k (C order within the shard) without a copy; None if it is missing."""
        offset = self._index[2 * k]
        return None if offset == MISSING else self._bytes[offset : offset + self._index[2 * k + 1]]

    def size(self, k: int) -> int:
        """Return the length in bytes of chunk k; 0 if it is missing."""
        n = self._index[2 * k + 1]
        return 0 if n == MISSING else n

    @property
    def index_bytes(self) -> int:
        """Memory that the parsed index takes."""
        return self._index.nbytes


def _map(fileno: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):  # the map need not hold a file descriptor
        return mmap.mmap(fileno, 0, access=mmap.ACCESS_READ, trackfd=False)
    return mmap.mmap(fileno, 0, access=mmap.ACCESS_READ)


class ShardWriter:
    """
    Writes one shard file: chunks are appended in any order, the index follows the last one.

    A shard without stored chunks is written too, as an index alone: a file that is missing later is damage, not zeros.
    """

    __slots__ = ("_file", "_index", "_left", "_offset", "_shape")

    def __init__(self, path: Path, shape: Sequence[int], expected: int) -> None:
        """Open the file of a shard of `shape` chunks; `expected` will come, fewer at the border of an array."""
        self._shape = tuple(shape)
        self._index = np.full((prod(shape), 2), MISSING, "<u8")
        self._left = expected
        self._offset = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = open(path, "wb")  # noqa: SIM115 - closed by finish or close

    def close(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def add(self, chunk: Sequence[int], encoded: bytes | None) -> bool:
        """Append a chunk at a position within the shard, None if it is all fill value; return True for the last."""
        if encoded is not None:
            self._file.write(encoded)
            self._index[np.ravel_multi_index(tuple(chunk), self._shape)] = self._offset, len(encoded)
            self._offset += len(encoded)
        self._left -= 1
        return self._left == 0

    def expect_fewer(self, number: int) -> bool:
        """Expect so many chunks fewer; return True if that completes the shard."""
        self._left -= number
        return self._left == 0

    def finish(self) -> None:
        """Append the index and close the file."""
        index = self._index.tobytes()
        with self._file as file:
            file.write(index + google_crc32c.value(index).to_bytes(4, "little"))
            file.flush()
            flush_soon(file.fileno())


_ENTRY_BYTES = 512
"""Memory that a mapped shard takes besides its index: the objects, not the pages, which are in the system's cache."""


class Folder(NamedTuple):
    """The directory of an array's shards."""

    path: str
    version: Hashable
    """Changes when the store is replaced, so that nothing mapped outlives it."""
    separator: str
    """Between the indices in a shard's name."""
    chunks: int

    def file(self, position: tuple[int, ...]) -> str:
        """Return the path of a shard."""
        return f"{self.path}/c{self.separator}{self.separator.join(map(str, position))}"

    def refuse_gone(self) -> None:
        """Raise `DamagedError` if the array's directory is gone; where it exists, missing chunks are fill value."""
        if not os.path.isdir(self.path):
            message = f"{self.path}: is missing: the store is damaged, or was moved or removed since it was opened"
            raise DamagedError(message, path=self.path, hint="Open it where it is now")


class ShardCache(dict[tuple[Folder, tuple[int, ...]], "Shard | None"]):
    """
    Mapped shards by (folder, position), the oldest dropped first; None where there is no such file.

    `cache[folder, position]` maps a shard that is not held. A shard that is held costs one look into a dictionary.
    """

    def __init__(self, max_bytes: int = 64 << 20, max_files: int | None = None) -> None:
        super().__init__()
        self._bytes = 0
        self.max_bytes = max_bytes
        # Both may be set at any time, and hold from the next shard on.
        self.max_files = _open_files() if max_files is None else max_files

    def __missing__(self, key: tuple[Folder, tuple[int, ...]]) -> Shard | None:
        folder, position = key
        try:
            shard = Shard(folder.file(position), folder.chunks)
        except FileNotFoundError:
            folder.refuse_gone()
            shard = None
        while len(self) >= self.max_files or self._bytes > self.max_bytes:
            self._drop_oldest()
        self[key] = shard
        self._bytes += _cost(shard)
        return shard

    def clear(self) -> None:
        """Unmap everything that nobody is reading."""
        super().clear()
        self._bytes = 0

    def _drop_oldest(self) -> None:
        try:
            self._bytes -= _cost(self.pop(next(iter(self))))
        except (StopIteration, KeyError, RuntimeError):  # another thread was faster
            self._bytes = max(self._bytes, 0) if self else 0


def _cost(shard: Shard | None) -> int:
    return _ENTRY_BYTES + (shard.index_bytes if shard else 0)


def _open_files() -> int:
    """Return how many shards may stay mapped: before Python 3.13 each map holds a file descriptor."""
    if sys.version_info >= (3, 13):
        return 16384
    try:
        import resource
    except ImportError:  # Windows has no such limit to ask for
        return 256
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 8192 if soft == resource.RLIM_INFINITY else max(16, min(8192, soft // 2))


class ChunkCache:
    """Decoded chunks, the least recently used dropped first; off unless given a budget."""

    def __init__(self, max_bytes: int) -> None:
        self._chunks: dict[Hashable, np.ndarray[Any, Any]] = {}
        self._bytes = 0
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0

    def get(self, key: Hashable) -> np.ndarray[Any, Any] | None:
        """Return a decoded chunk, read-only; None if it is not held."""
        chunk = self._chunks.pop(key, None)
        if chunk is None:
            self.misses += 1
            return None
        self._chunks[key] = chunk
        self.hits += 1
        return chunk

    def put(self, key: Hashable, chunk: np.ndarray[Any, Any]) -> None:
        """Hold a decoded chunk that nobody will write to."""
        if chunk.nbytes > self.max_bytes:
            return
        chunk.flags.writeable = False
        while self._bytes + chunk.nbytes > self.max_bytes and self._chunks:
            try:
                self._bytes -= self._chunks.pop(next(iter(self._chunks))).nbytes
            except (StopIteration, KeyError, RuntimeError):  # another thread was faster
                break
        if not self._chunks:
            self._bytes = 0  # threads that race may count a chunk twice; this is where that ends
        if self._chunks.setdefault(key, chunk) is chunk:
            self._bytes += chunk.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes of pixels held."""
        return self._bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return (ChunkCache, (self.max_bytes,))


SHARDS = ShardCache()
"""The shards that this process has mapped, for all pyramids."""
