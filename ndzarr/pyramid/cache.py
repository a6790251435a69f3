"""Which shard files stay mapped between reads, and which decoded chunks stay in memory?

Both caches are plain dictionaries under a byte budget.  Every operation on them is one atomic dictionary operation
(or tolerates that another thread did the same), so readers need no lock, and a fork leaves nothing locked behind.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np

from ndzarr.errors import DamagedError
from ndzarr.pyramid.shard import Shard

_ENTRY_BYTES = 512
"""What a mapped shard takes besides its index: the objects, not the pages, which belong to the system's cache."""


class Folder(NamedTuple):
    """Where the shards of an array are."""

    path: str
    """The array's directory."""
    version: Hashable
    """Changes when the store is replaced, so that nothing mapped outlives it."""
    separator: str
    """Between the indices in a shard's name."""
    chunks: int
    """Chunks of a shard."""

    def file(self, position: tuple[int, ...]) -> str:
        """Path of a shard."""
        return f"{self.path}/c{self.separator}{self.separator.join(map(str, position))}"

    def refuse_gone(self) -> None:
        """
        Of a store that is there, what is missing is fill value.

        Raises
        ------
        DamagedError
            The array's directory is not there any more.
        """
        if not os.path.isdir(self.path):
            raise DamagedError(
                f"{self.path}: is missing; the store was moved or removed since it was opened, so open it where it is "
                f"now, or it is damaged"
            )


class ShardCache(dict[tuple[Folder, tuple[int, ...]], "Shard | None"]):
    """
    Mapped shards by (folder, position), the oldest dropped first; None where there is no such file.

    `cache[folder, position]` maps a shard that is not held: what is held costs one look into a dictionary.
    """

    def __init__(self, max_bytes: int = 64 << 20, max_files: int | None = None) -> None:
        super().__init__()
        self._bytes = 0
        self.max_bytes = max_bytes
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
    """How many shards may stay mapped: before Python 3.13 each map holds a file descriptor."""
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
        """A decoded chunk, read-only; None if it is not held."""
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
"""The shards that this process has mapped; shared by all pyramids."""
