"""
Shard files: their index, writing them, and caches of open shards and of decoded chunks.

The Zarr v3 `sharding_indexed` layout (https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/): encoded
chunks back to back, then for every chunk of the shard, in C order, two little-endian uint64 (offset, length; all ones
where the chunk is missing), then the crc32c of that index. Others may put the index first, leave out its checksum, or
store big-endian numbers (`IndexLayout`).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import google_crc32c
import numpy as np

from ndzarr._files import DESCRIPTORS, OpenFile, close_when_short, flush_soon, open_files_limit, pread
from ndzarr._store.archive import ArchiveFile
from ndzarr.errors import DamagedError

_AGAIN = "Transcode the source again"
_OTHER = "Open the store again if it was replaced meanwhile, else transcode the source again"
_CRC_BYTES = 4
SEAL_BYTES = 8
"""Bytes of a `Seal` per shard."""

MISSING = 2**64 - 1
"""Offset and length of a chunk that is not stored."""

INDEX_CODECS: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


def _crc32c(data: bytes) -> bytes:
    number: int = google_crc32c.value(data)
    return number.to_bytes(_CRC_BYTES, "little")


class Seal(NamedTuple):
    """
    What the metadata of an array say of its shards, so that a shard is known for the one that was written there.

    Checksums of chunks tell damage, but not a sound shard of another place, level or store.
    """

    grid: tuple[int, ...]
    """Number of shards along each axis."""
    sums: bytes
    """8 bytes per shard, in C order: crc32c of its index (`_index_sum`) and of its chunks (`chunks_sum`)."""

    @classmethod
    def parse(cls, text: str, grid: tuple[int, ...]) -> Seal:
        """Return the seal of an array's attribute; raise `ValueError` if it is not one for so many shards."""
        sums = base64.b64decode(text, validate=True)
        if len(sums) != SEAL_BYTES * prod(grid):
            raise ValueError(f"{len(sums)} bytes of checksums for {prod(grid)} shards")
        return cls(grid, sums)

    @classmethod
    def of(cls, shards: Mapping[tuple[int, ...], bytes], grid: tuple[int, ...]) -> Seal:
        """Return the seal of shards that were written, by the record and the position of each."""
        return cls(grid, b"".join(seal_of(shards[position]) for position in np.ndindex(grid)))

    def __str__(self) -> str:
        return base64.b64encode(self.sums).decode()

    def at(self, position: tuple[int, ...]) -> tuple[bytes, bytes]:
        """Return the checksums of the index and of the chunks of a shard."""
        k = 0
        for i, n in zip(position, self.grid, strict=True):
            k = k * n + i
        start, end = SEAL_BYTES * k, SEAL_BYTES * (k + 1)
        return self.sums[start : start + _CRC_BYTES], self.sums[start + _CRC_BYTES : end]


def _index_sum(tail: bytes) -> bytes:
    """
    Return the checksum of an index and of the 4 bytes before it.

    Those are the checksum of the chunk that was written last: shards whose chunks have the same lengths differ in it.
    """
    return _crc32c(tail)


def chunks_sum(chunks: Iterable[bytes]) -> bytes:
    """Return the checksum of the stored chunks of a shard, of which the last 4 bytes each are given, in C order."""
    return _crc32c(b"".join(chunk[-_CRC_BYTES:] for chunk in chunks))


class IndexLayout(NamedTuple):
    """Where the index of a shard is, and how it is stored; by default as ndzarr writes it."""

    chunks: int
    """Number of chunks of the shard."""
    first: bool = False
    """True if it is at the beginning of the file, else it is at the end."""
    crc: bool = True
    """A crc32c of the index follows it."""
    dtype: str = "<u8"

    @classmethod
    def parse(cls, chunks: int, location: object, codecs: Sequence[Mapping[str, Any]]) -> IndexLayout | None:
        """Return the layout that `index_location` and `index_codecs` describe; None for any other."""
        names = [codec["name"] for codec in codecs]
        if location not in ("start", "end") or names not in (["bytes", "crc32c"], ["bytes"]):
            return None
        endian = (codecs[0].get("configuration") or {}).get("endian")
        if endian not in ("little", "big"):
            return None
        return cls(chunks, location == "start", len(names) > 1, "<u8" if endian == "little" else ">u8")

    @property
    def length(self) -> int:
        """Bytes of the index, with its checksum."""
        return self.chunks * 16 + _CRC_BYTES * self.crc

    @property
    def range(self) -> tuple[int, int | None]:
        """First byte, and end, of what `parse_index` takes: the index, and the 4 bytes before one at the end."""
        return (0, self.length) if self.first else (-_CRC_BYTES - self.length, None)


def parse_index(
    path: str, found: bytes, size: int, layout: IndexLayout, sealed: bytes | None, begin: int = 0
) -> memoryview:
    """
    Return offset and length of each chunk of a shard of `size` bytes, one after another.

    Offsets count from the beginning of the file, in which the shard begins at `begin`. `found` are the bytes in the
    `range` of the layout. Raises `DamagedError` if they are not the index of so many
    chunks, or not the one whose checksum is `sealed`.
    """
    whole = found[len(found) - layout.length :] if len(found) >= layout.length else b""
    if not whole:
        message = f"{path}: {size} bytes are too few for a shard of {layout.chunks} chunks; it is truncated"
        raise DamagedError(message, path=path, hint=_AGAIN)
    index = whole[: layout.chunks * 16]
    if layout.crc and _crc32c(index) != whole[-_CRC_BYTES:]:
        raise DamagedError(f"{path}: the checksum of the shard index does not match", path=path, hint=_AGAIN)
    if sealed is not None and sealed != _index_sum(found[:-_CRC_BYTES]):
        message = f"{path}: this shard is not the one that was written here: the metadata state another checksum"
        raise DamagedError(message, path=path, hint=_OTHER)
    # Native numbers: the compiled core reads the table, too.
    table = np.frombuffer(index, layout.dtype).astype(np.uint64, copy=False).reshape(-1, 2)
    stored = table[table[:, 0] != MISSING]
    # Each is compared by itself: the sum of two that are damaged may be small again.
    if np.any(stored > size) or np.any(stored[:, 0] + stored[:, 1] > size):
        raise DamagedError(f"{path}: the shard index points behind the end of the file", path=path, hint=_AGAIN)
    if begin:
        table = table.copy()
        table[table[:, 0] != MISSING, 0] += begin
    # A memoryview gives plain ints on lookup, an array would give numpy scalars.
    return memoryview(table.reshape(-1))  # type: ignore[arg-type]


_SIZE_BYTES = 8


class Record(NamedTuple):
    """
    What can be known of a shard that ndzarr wrote without its pixels.

    As bytes, it is its size (uint64, little-endian), its last bytes (4 and the index, zeros for 4 that are not there),
    and the last 4 bytes of each chunk in C order, zeros for missing ones.
    """

    size: int
    tail: bytes
    """What `parse_index` takes."""
    ends: bytes
    """The last 4 bytes of each chunk, its checksum."""

    @staticmethod
    def length(chunks: int) -> int:
        """Return the bytes of the record of a shard of so many chunks."""
        return _SIZE_BYTES + _CRC_BYTES + IndexLayout(chunks).length + _CRC_BYTES * chunks

    @classmethod
    def parse(cls, record: bytes) -> Record:
        """Return a record from its bytes."""
        chunks = (len(record) - cls.length(0)) // (cls.length(1) - cls.length(0))
        index, size = IndexLayout(chunks).length, int.from_bytes(record[:_SIZE_BYTES], "little")
        middle = _SIZE_BYTES + _CRC_BYTES + index
        return cls(size, record[_SIZE_BYTES + _CRC_BYTES * (size == index) : middle], record[middle:])

    def __bytes__(self) -> bytes:
        index = IndexLayout(len(self.ends) // _CRC_BYTES).length
        return self.size.to_bytes(_SIZE_BYTES, "little") + self.tail.rjust(_CRC_BYTES + index, b"\0") + self.ends

    @property
    def seal(self) -> tuple[bytes, bytes]:
        """What a `Seal` says of the shard."""
        index = IndexLayout(len(self.ends) // _CRC_BYTES).length
        offsets = np.frombuffer(self.tail[-index:-_CRC_BYTES], "<u8")[::2]
        stored = np.frombuffer(self.ends, "<u4")[offsets != MISSING]
        return _index_sum(self.tail[:-_CRC_BYTES]), _crc32c(stored.tobytes())


def seal_of(record: bytes) -> bytes:
    """Return what a `Seal` says of a shard."""
    return b"".join(Record.parse(record).seal)


def parse_record(path: str, record: bytes, sealed: tuple[bytes, bytes]) -> tuple[memoryview, bytes]:
    """
    Return what `parse_index` does, and the last 4 bytes of each chunk, from the record of a shard.

    Raises `DamagedError` if it is not the record of the shard that a `Seal` tells.
    """
    found = Record.parse(record)
    table = parse_index(path, found.tail, found.size, IndexLayout(len(found.ends) // _CRC_BYTES), sealed[0])
    if found.seal != sealed:
        message = f"{path}: what is recorded of this shard is not what was written: the metadata state another checksum"
        raise DamagedError(message, path=path, hint=_OTHER)
    return table, found.ends


class Shard:
    """
    An open shard file, its index checked; reading needs no file position and no lock.

    Chunks are read by position and not mapped: a file that loses its end while it is read gives fewer bytes, where a
    map of it would kill the process (SIGBUS).
    """

    __slots__ = ("_fd", "_file", "_index", "path", "size", "source", "table")

    def __init__(
        self,
        path: str,
        layout: IndexLayout,
        sealed: bytes | None = None,
        within: tuple[OpenFile, int, int] | None = None,
    ) -> None:
        """
        Open the file of a shard; `sealed` is the checksum of its index, if the array states it.

        If the shard is part of a file, `within` is that, and offset and length of the shard in it.
        """
        self.path = path
        if within is None:
            opened = OpenFile(path)
            within = opened, 0, os.fstat(opened.fd).st_size
        self._file, begin, self.size = within
        self._fd = self._file.fd
        if self.size < layout.length:
            message = f"{path}: {self.size} bytes are too few for a shard of {layout.chunks} chunks; it is truncated"
            raise DamagedError(message, path=path, hint=_AGAIN)
        start, stop = layout.range
        start, stop = max(0, start + self.size) if start < 0 else start, self.size if stop is None else stop
        self._index = parse_index(path, self._read(begin + start, stop - start), self.size, layout, sealed, begin)
        self.table: np.ndarray[Any, Any] = np.asarray(self._index).view(np.int64).reshape(-1, 2)
        """(chunk, 2): offset and length of each chunk in the file, -1 for those that are not stored."""
        self.source = (self._fd, self.table.ctypes.data)
        """The open file, and the address of `table`; both for as long as this object lives."""

    def _read(self, offset: int, count: int) -> bytes:
        """Return bytes of the file; raise `DamagedError` if it ends before them."""
        found = b""
        try:
            while len(found) < count and (more := pread(self._fd, count - len(found), offset + len(found))):
                found += more
        except OSError as error:  # a bad sector, or a directory
            message = f"{self.path}: cannot be read ({error.strerror})"
            raise DamagedError(message, path=self.path, hint="Check the disk") from error
        if len(found) != count:
            message = f"{self.path}: the file ends within bytes {offset} to {offset + count}; it was truncated"
            raise DamagedError(message, path=self.path, hint=_AGAIN)
        return found

    def encoded(self, k: int) -> np.ndarray[Any, Any] | None:
        """Return the bytes of chunk k (C order within the shard); None if it is missing."""
        offset, count = self._index[2 * k], self._index[2 * k + 1]
        if offset == MISSING:
            return None
        try:
            found = pread(self._fd, count, offset)  # one call, the usual case
        except OSError:
            found = b""
        return np.frombuffer(found if len(found) == count else self._read(offset, count), np.uint8)

    def place(self, k: int) -> tuple[int, int, int]:
        """Return the open file of chunk k, its offset and its length; a length of -1 if the chunk is missing."""
        offset, count = self._index[2 * k], self._index[2 * k + 1]
        return (self._fd, 0, -1) if offset == MISSING else (self._fd, offset, count)

    def length(self, k: int) -> int:
        """Return the length in bytes of chunk k; 0 if it is missing."""
        n = self._index[2 * k + 1]
        return 0 if n == MISSING else n

    def record(self) -> Record:
        """Return the record of a shard that ndzarr wrote."""
        ends = [
            self._read(offset + n - _CRC_BYTES, _CRC_BYTES) if n >= _CRC_BYTES else bytes(_CRC_BYTES)
            for offset, n in self.table.tolist()
        ]
        length = min(_CRC_BYTES + IndexLayout(len(ends)).length, self.size)
        return Record(self.size, self._read(self.size - length, length), b"".join(ends))

    @property
    def unlinked(self) -> bool:
        """True if the file has no name any more: its store was replaced or removed."""
        return os.fstat(self._fd).st_nlink == 0

    @property
    def index_bytes(self) -> int:
        """Memory that the parsed index takes."""
        return self._index.nbytes


_BUFFER = 256 << 10
"""Bytes that are gathered before they are written: each write gives up Python's lock, and waits for it again."""


class ShardWriter:
    """
    Writes one shard file: chunks are appended in any order, the index follows the last one.

    A shard without stored chunks is written too, as an index alone: a file that is missing later is damage, not zeros.
    """

    __slots__ = ("_ends", "_file", "_index", "_left", "_offset", "_shape", "path")

    def __init__(self, path: Path, shape: Sequence[int], expected: int) -> None:
        """Open the file of a shard of `shape` chunks; `expected` will come, fewer at the border of an array."""
        self._shape = tuple(shape)
        self._index = np.full((prod(shape), 2), MISSING, "<u8")
        self._ends: dict[int, bytes] = {}
        self._left = expected
        self._offset = 0
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = open(path, "wb", _BUFFER)  # noqa: SIM115 - closed by finish or close

    def close(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def add(self, first: Sequence[int], *encoded: bytes | None) -> bool:
        """
        Append chunks side by side along the last axis, from a position within the shard on; return True for the last.

        None stands for a chunk that is all fill value.
        """
        start = 0
        for i, n in zip(first, self._shape, strict=True):
            start = start * n + i
        for k, chunk in enumerate(encoded, start):
            if chunk is not None:
                self._index[k] = self._offset, len(chunk)
                self._ends[k] = chunk[-_CRC_BYTES:]
                self._offset += len(chunk)
        self._file.write(b"".join(chunk for chunk in encoded if chunk is not None))
        self._left -= len(encoded)
        return self._left == 0

    def expect_fewer(self, number: int) -> bool:
        """Expect so many chunks fewer; return True if that completes the shard."""
        self._left -= number
        return self._left == 0

    def finish(self) -> bytes:
        """Append the index and close the file; return the `Record` of the shard."""
        index = self._index.tobytes()
        index += _crc32c(index)
        last = b"".join(list(self._ends.values())[-1:])  # in the order of the file
        ends = b"".join(self._ends.get(k, bytes(_CRC_BYTES)) for k in range(len(self._index)))
        with self._file as file:
            file.write(index)
            file.flush()
            flush_soon(file.fileno())
        return bytes(Record(self._offset + len(index), last + index, ends))


_ENTRY_BYTES = 512
"""Memory that an open shard takes besides its index."""
SWEEP = 64
"""Shards opened until those of removed stores are looked for: 1 us for each one that is open."""


class ChunkKeys(NamedTuple):
    """The keys of shards, or of chunks that are files of their own, within their array."""

    separator: str = "/"
    """Between the indices."""
    prefixed: bool = True
    """True if keys begin with 'c', as usual in Zarr v3; False as in Zarr v2."""

    def key(self, position: Sequence[int]) -> str:
        """
        Return a key by the position in the grid.

        Examples
        --------
        >>> ChunkKeys().key((1, 0)), ChunkKeys(".", False).key((1, 0))
        ('c/1/0', '1.0')
        """
        names = [*(("c",) if self.prefixed else ()), *map(str, position)]
        return self.separator.join(names) or "0"


class Folder(NamedTuple):
    """The directory of an array's shards."""

    path: str
    version: Hashable
    """Changes when the store is replaced, so that nothing cached outlives it."""
    keys: ChunkKeys
    layout: IndexLayout
    seal: Seal | None = None
    archive: ArchiveFile | None = None
    """The zip that the directory is in; its path is then the beginning of `path`."""

    def file(self, position: tuple[int, ...]) -> str:
        """Return the path of a shard."""
        return f"{self.path}/{self.keys.key(position)}"

    def shard(self, position: tuple[int, ...]) -> Shard:
        """Open a shard."""
        path, sealed = self.file(position), None if self.seal is None else self.seal.at(position)[0]
        if self.archive is None:
            return Shard(path, self.layout, sealed)
        place = self.archive.place(self._inner(path))
        return Shard(path, self.layout, sealed, (DESCRIPTORS[self.archive.file], *place))

    def content(self, position: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Return the bytes of a chunk that is a file of its own."""
        path = self.file(position)
        if self.archive is None:
            return np.fromfile(path, np.uint8)
        return np.frombuffer(self.archive.read(self._inner(path)), np.uint8)

    def files(self) -> Iterator[str]:
        """Yield the paths of all files below the directory."""
        if self.archive is not None:
            inner = self._inner(self.path)
            start = f"{inner}/" if inner else ""
            yield from (f"{self.archive.file.path}/{m}" for m in self.archive.members if m.startswith(start))
            return
        for folder, _, names in os.walk(self.path):
            yield from (f"{folder}/{name}" for name in names)

    def _inner(self, path: str) -> str:
        assert self.archive is not None
        return path[len(self.archive.file.path) + 1 :]

    def refuse_gone(self) -> None:
        """Raise `DamagedError` if the array's directory is gone; where it exists, missing chunks are fill value."""
        if self.archive is None and not os.path.isdir(self.path):
            message = f"{self.path}: is missing: the store is damaged, or was moved or removed since it was opened"
            raise DamagedError(message, path=self.path, hint="Open it where it is now")


class ShardCache(dict[tuple[Folder, tuple[int, ...]], "Shard | None"]):
    """
    Open shards by (folder, position), the oldest dropped first; None where there is no such file.

    `cache[folder, position]` opens a shard that is not held. A shard that is held costs one look into a dictionary.
    Shards of stores that were replaced or removed are dropped with the next shard of the new store, or the next
    `SWEEP` others, so that the disk gets their space back.
    """

    def __init__(self, max_bytes: int = 64 << 20, max_files: int | None = None) -> None:
        super().__init__()
        self._bytes = 0
        self._versions: dict[str, Hashable] = {}
        self._unswept = 0
        self.max_bytes = max_bytes
        self.max_files = max_files
        """Most open files, a third of those that the system allows the process if None; it may be set at any time."""

    def __missing__(self, key: tuple[Folder, tuple[int, ...]]) -> Shard | None:
        folder, position = key
        try:
            shard = folder.shard(position)
        except FileNotFoundError:
            folder.refuse_gone()
            shard = None
        self._unswept += 1
        if self._versions.setdefault(folder.path, folder.version) != folder.version or self._unswept >= SWEEP:
            self._sweep()
            self._versions[folder.path] = folder.version
        most = open_files_limit(3, 8192) if self.max_files is None else self.max_files
        while self and (len(self) >= most or self._bytes > self.max_bytes):
            self._drop(self._oldest(key))
        self[key] = shard
        self._bytes += _cost(shard)
        return shard

    def clear(self) -> None:
        """Close everything that nobody is reading."""
        super().clear()
        self._bytes = 0

    def _sweep(self) -> None:
        """Drop the shards whose files have no name any more."""
        self._unswept = 0
        for key, shard in list(self.items()):
            if shard is not None and shard.unlinked:
                self._drop(key)
        self._versions = {folder.path: folder.version for folder, _ in list(self)}

    def _oldest(self, default: tuple[Folder, tuple[int, ...]]) -> tuple[Folder, tuple[int, ...]]:
        try:
            return next(iter(self), default)
        except RuntimeError:  # another thread opened or dropped a shard meanwhile
            return default

    def _drop(self, key: tuple[Folder, tuple[int, ...]]) -> None:
        try:
            self._bytes -= _cost(self.pop(key))
        except (KeyError, RuntimeError):  # another thread was faster
            self._bytes = max(self._bytes, 0) if self else 0


def _cost(shard: Shard | None) -> int:
    return _ENTRY_BYTES + (shard.index_bytes if shard else 0)


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
"""The shards that this process has open, for all pyramids."""
close_when_short(SHARDS.clear)
