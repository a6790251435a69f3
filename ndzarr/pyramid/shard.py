"""Where in a shard file does each chunk lie, and how is such a file written?

The Zarr v3 `sharding_indexed` layout with the index at the end
(https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/): encoded chunks back to back, then for every
chunk of the shard, in C order, two little-endian uint64 (offset, length; all ones where the chunk is missing), then the
crc32c of that index.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np

from ndzarr.errors import DamagedError

MISSING = 2**64 - 1
"""Offset and length of a chunk that is not stored."""

INDEX_CODECS: list[dict[str, Any]] = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "crc32c"},
]


class Shard:
    """A memory-mapped shard file, its index checked; reading needs no file position and no lock."""

    __slots__ = ("_bytes", "_index", "path")

    def __init__(self, path: str, chunks: int) -> None:
        """
        Map the file.

        Parameters
        ----------
        chunks
            Number of chunks in a shard.

        Raises
        ------
        FileNotFoundError
            The shard is missing: all its chunks are.
        DamagedError
            The index is cut off or does not match its checksum, or points outside the file.
        """
        self.path = path
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            if size < chunks * 16 + 4:
                raise DamagedError(f"{path}: {size} bytes are too few for a shard of {chunks} chunks; it is truncated")
            self._bytes = np.frombuffer(_map(file.fileno()), np.uint8)
        tail = self._bytes[size - chunks * 16 - 4 :]
        index = tail[:-4]
        if google_crc32c.value(index) != int.from_bytes(tail[-4:].tobytes(), "little"):
            raise DamagedError(f"{path}: the checksum of the shard index does not match; transcode the source again")
        table = np.frombuffer(index.tobytes(), "<u8").reshape(-1, 2)
        stored = table[table[:, 0] != MISSING]
        if np.any(stored[:, 0] + stored[:, 1] > size):
            raise DamagedError(f"{path}: the shard index points behind the end of the file; transcode the source again")
        self._index = memoryview(table.reshape(-1))  # type: ignore[arg-type]  # plain ints on lookup, no numpy scalars

    def encoded(self, k: int) -> np.ndarray[Any, Any] | None:
        """The bytes of chunk k (C order within the shard), without copying them; None if it is missing."""
        offset = self._index[2 * k]
        return None if offset == MISSING else self._bytes[offset : offset + self._index[2 * k + 1]]

    def size(self, k: int) -> int:
        """Length in bytes of chunk k; 0 if it is missing."""
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
    A shard file in the making: chunks are appended in any order, the index follows when the last one has come.

    A shard of which no chunk is stored is written too, as an index: so a file that is missing later is damage, not
    zeros.
    """

    __slots__ = ("_file", "_index", "_left", "_offset", "_shape")

    def __init__(self, path: Path, shape: Sequence[int], expected: int) -> None:
        """
        Parameters
        ----------
        shape
            Number of chunks along each axis of the shard.
        expected
            Number of chunks that will come: fewer than prod(shape) at the far border of an array.
        """
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
        """Append a chunk by its position within the shard, None if it is all fill value; True once it is complete."""
        if encoded is not None:
            self._file.write(encoded)
            self._index[np.ravel_multi_index(tuple(chunk), self._shape)] = self._offset, len(encoded)
            self._offset += len(encoded)
        self._left -= 1
        return self._left == 0

    def expect_fewer(self, number: int) -> bool:
        """Take back so many of the chunks that were to come; True if that completes it."""
        self._left -= number
        return self._left == 0

    def finish(self) -> None:
        """Append the index and close the file."""
        index = self._index.tobytes()
        with self._file as file:
            file.write(index + google_crc32c.value(index).to_bytes(4, "little"))
