"""
Arrays in buckets and on web servers, and fetching their chunks.

All chunks of a plan, of all of its arrays, are one flight:

1. `Tables` is asked for what tells where chunks are.  Shard indexes that it does not hold are fetched together, each by
   one of the threads that want it.
2. The ranges of all chunks are fetched together (`_remote.flight`), and chunks are yielded as they land.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from functools import partial
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np

from ndzarr._files import Bytes
from ndzarr._remote.flight import get_ranges, get_ranges_or_wait
from ndzarr._remote.stores import ABSENT, ON_CHANGE, Landed, ObjectInfo, Range, RemoteStore
from ndzarr._store import arrays, core
from ndzarr._store.archive import ArchiveObject
from ndzarr._store.arrays import ArrayLayout, Fetched
from ndzarr._store.sharding import MISSING, Record, parse_index, parse_record
from ndzarr.errors import DamagedError

_MOST_ROUNDS = 8
"""Tables may name tables; no format has so many levels of them."""


class ShardIndex(NamedTuple):
    """The index of a shard; `table` is None where there is no such shard."""

    path: str
    """The path of the shard in its store."""
    table: memoryview | None
    """Offset and length of each chunk, one after another."""
    tag: str | None
    """Tag of the shard when its index was read."""
    ends: bytes | None = None
    """The last 4 bytes of each chunk, where they are recorded: they tell another version, as a tag does."""


class Indexes(NamedTuple):
    """Where the records of an array's shards are (`_store.metadata.INDEXES`)."""

    path: str
    """Path of the object that holds those of all arrays."""
    start: int
    """Byte at which those of the array begin."""


class RemoteArray:
    """A Zarr array whose chunks are fetched and decoded without zarr-python."""

    __slots__ = (
        "_archive", "_indexes", "_layout", "_per_shard", "_store", "_token", "_version", "chunks", "codec", "dtype",
        "engine", "fetched_format", "fill", "name", "path", "repair", "shape", "sharded",
    )  # fmt: skip

    chunked: Literal[True] = True
    remote: Literal[True] = True
    chunk_format = None

    def __init__(
        self,
        store: RemoteStore,
        path: str,
        layout: ArrayLayout,
        token: Hashable,
        version: str | None = None,
        archive: ArchiveObject | None = None,
        indexes: Indexes | None = None,
    ) -> None:
        """
        Describe the array at a path of a store; nothing is requested.

        `token` changes when the array is replaced, so that nothing kept in memory outlives it. So does `version`, for
        the cache on the disk; None if nothing in the metadata tells that shards were replaced. If the array is in a
        zip, that is `archive`, and its path begins the array's. `indexes` tells where the records of its shards are,
        if they are in one object.
        """
        self.name = store.url(path)
        self.path = path
        self.engine = f"requests to {store.name}"
        self.shape, self.codec, self.fill = layout.shape, layout.codec, layout.fill
        self.chunks, self.dtype = layout.codec.shape, layout.codec.dtype
        self.fetched_format = layout.codec.chunk_format(layout.fill)
        self.sharded = layout.per_shard is not None
        self._store, self._layout, self._version = store, layout, version
        self._archive, self._indexes = archive, indexes
        self._per_shard = layout.per_shard or (1,) * len(layout.shape)
        self._token = (self.name, store.identity, token)
        self.repair: Callable[[DamagedError], object] | None = None
        """Makes the store again, if it is a cache; raises the error if it cannot."""

    def local(self, name: str) -> arrays.ChunkArray:
        """Return the array as it would be in a directory."""
        return arrays.local_array(name, self._layout)

    @property
    def decoder(self) -> str:
        """What decodes its chunks."""
        known = core.enabled and self.fetched_format is not None and self.fetched_format.known
        return "compiled core" if known else "Python"

    @property
    def shards(self) -> tuple[int, ...]:
        """Shape of the part of the array that is in one object."""
        return tuple(c * n for c, n in zip(self.chunks, self._per_shard, strict=True))

    @property
    def version(self) -> Hashable:
        """Changes when the store is replaced."""
        return self._token

    def holds(self, path: str | None) -> bool:
        """Return True for the URL of one of the array's objects."""
        return path is not None and path.startswith(f"{self.name}/")

    def adopt(self, other: RemoteArray) -> bool:
        """Read the objects of the same array from now on, made again; return False if their layout is another."""
        same = (self.name, self.shape, self.codec, self._per_shard) == (
            (other.name, other.shape, other.codec, other._per_shard)
        )
        if same:
            self._layout, self._version, self._token = other._layout, other._version, other._token
            self._indexes = other._indexes
            forget(self.name)
        return same

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of shards along each axis."""
        return tuple(-(-n // s) for n, s in zip(self.shape, self.shards, strict=True))

    @property
    def records_stop(self) -> int:
        """End of the records of its shards in the object that holds those of all arrays; 0 if there is none."""
        last = tuple(n - 1 for n in self.grid)
        return 0 if self._indexes is None else self._record(self._indexes, last).stop

    def hold(self, records: Bytes) -> None:
        """Take the records of all shards from those of all arrays, so that none has to be fetched."""
        if self._indexes is not None:
            for position in arrays.positions(self.grid):
                landed = Landed(0, records[self._record(self._indexes, position)], _UNKNOWN)
                index = self._parse(position, 0, 0, landed)
                tables().put((self._token, position), index, landed.data.nbytes + _ENTRY_BYTES)

    def _record(self, indexes: Indexes, position: tuple[int, ...]) -> slice:
        """Return where the record of a shard is."""
        number = 0
        for i, n in zip(position, self.grid, strict=True):
            number = number * n + i
        length = Record.length(prod(self._per_shard))
        return slice(indexes.start + number * length, indexes.start + (number + 1) * length)

    def check_shards(self, objects: Container[str]) -> None:
        """Raise `DamagedError` for the first shard of a complete array that is not among the objects of its store."""
        if self._layout.complete:
            for position in arrays.positions(self.grid):
                if self._object(position) not in objects:
                    raise self._missing(position)

    def key(self, chunk: tuple[int, ...]) -> tuple[Any, ...]:
        """Return what identifies a chunk in caches."""
        return self._token, chunk

    def where(self, chunk: tuple[int, ...], tables: arrays.Tables) -> tuple[Range, ...] | None:
        """Return where the bytes of a chunk are; None if the index of its shard must be fetched first."""
        k, position = 0, []
        for i, n in zip(chunk, self._per_shard, strict=True):
            k = k * n + i % n
            position.append(i // n)
        place = tuple(position)
        begin, size = 0, 0
        if self._archive is not None:
            member = self._object(place)[len(self._archive.path) + 1 :]
            found = self._archive.place(member, tables.look) if member in self._archive.members else (0, -1)
            if found is None:
                return None
            begin, size = found
        if not self.sharded:
            return () if size < 0 else (self._whole(place, begin, begin + size),)
        if size < 0:
            if self._layout.complete:
                raise self._missing(place)
            return ()
        key = self._token, place
        index: ShardIndex | None = tables.known(key)
        if index is None:
            source, parse = partial(self._source, place, begin, size), partial(self._parse, place, begin, size)
            index = tables.look(key, source, parse)
            if index is None:
                return None
        if index.table is None:
            return ()
        offset, count = index.table[2 * k], index.table[2 * k + 1]
        if offset == MISSING:
            return ()
        if self._archive is not None:
            return (self._archive.range(offset, offset + count),)
        end = None if index.ends is None else index.ends[4 * k : 4 * k + 4]
        stop = offset + count
        return (Range(self._store, index.path, offset, stop, index.tag, version=self._version, end=end),)

    def _whole(self, position: tuple[int, ...], start: int, stop: int) -> Range:
        """Return the bytes of a chunk that is an object of its own, or from `start` to `stop` of a zip."""
        if self._archive is not None:
            return self._archive.range(start, stop)
        session = self._token if self._version is None else None
        return Range(self._store, self._object(position), optional=True, session=session)

    def _missing(self, position: tuple[int, ...]) -> DamagedError:
        url = self._store.url(self._object(position))
        return DamagedError(f"{url}: this shard is missing", path=url, hint="Transcode the source again")

    def _object(self, position: tuple[int, ...]) -> str:
        return f"{self.path}/{self._layout.keys.key(position)}".lstrip("/")

    def _source(self, position: tuple[int, ...], begin: int, size: int) -> Range:
        """Return where the index of a shard is; `size` is only known of a member of a zip."""
        if self._indexes is not None:
            place = self._record(self._indexes, position)
            return Range(self._store, self._indexes.path, place.start, place.stop, version=self._version)
        start, stop = self._layout.index.range
        if self._archive is not None:
            first = max(0, size + start) if start < 0 else start
            return self._archive.range(begin + first, begin + min(size, size if stop is None else stop))
        return Range(self._store, self._object(position), start, stop, optional=True, version=self._version)

    def _parse(self, position: tuple[int, ...], begin: int, size: int, landed: Landed) -> ShardIndex:
        if landed.info is ABSENT:
            if self._layout.complete:
                raise self._missing(position)
            return ShardIndex("", None, None)
        path = self._object(position)
        url, seal = self._store.url(path), self._layout.seal
        if self._indexes is not None and seal is not None:
            table, ends = parse_record(url, landed.data.tobytes(), seal.at(position))
            return ShardIndex(path, table, None, ends)
        size = landed.info.size if self._archive is None else size
        sealed = None if seal is None else seal.at(position)[0]
        index = self._layout.index
        table = parse_index(url, landed.data.tobytes(), size if size >= 0 else 1 << 62, index, sealed, begin)
        return ShardIndex(path, table, landed.info.tag)

    def ranges(self, chunks: Sequence[tuple[int, ...]]) -> Sequence[tuple[Range, ...]]:
        """Return where the bytes of chunks are, fetching the indexes of their shards."""
        return locate([(self, chunk) for chunk in chunks])

    def encoded_size(self, chunk: tuple[int, ...]) -> int | None:
        """Return the bytes of a chunk, 0 if it is missing; None if only fetching it would tell."""
        if not self.sharded:
            return None
        [ranges] = locate([(self, chunk)])
        return sum(int(r.stop or 0) - int(r.start or 0) for r in ranges)

    def missing(self, chunk: tuple[int, ...]) -> Any:
        """Return the fill value."""
        return self.fill

    def decode_fetched(
        self,
        chunk: tuple[int, ...],
        encoded: Sequence[Bytes],
        out: np.ndarray[Any, Any],
        wanted: tuple[slice, ...] | None = None,
    ) -> None:
        """Decode a chunk into a buffer of the codec's stored shape; all of it, as its checksum covers all of it."""
        self.codec.decode(encoded[0], out, lambda: (self._url(chunk), f"chunk {chunk}"))

    def decode(
        self, chunk: tuple[int, ...], out: np.ndarray[Any, Any], wanted: tuple[slice, ...] | None = None
    ) -> bool:
        """Fetch and decode a chunk; return False where it is missing, and write nothing."""
        for _, encoded in fetch([(self, chunk)]):
            if encoded is not None:
                self.decode_fetched(chunk, encoded, out, wanted)
                return True
        return False

    def _url(self, chunk: tuple[int, ...]) -> str:
        return self._store.url(self._object(tuple(i // n for i, n in zip(chunk, self._per_shard, strict=True))))


class _TableCache:
    """What tables say, of all arrays of this process; the least recently used dropped first."""

    def __init__(self, max_bytes: int = 64 << 20) -> None:
        self._held: dict[Hashable, tuple[Any, int]] = {}
        self._bytes = 0
        self.max_bytes = max_bytes
        self.lock = threading.Lock()
        self.fetching: dict[Hashable, threading.Event] = {}
        """Tables that a thread is fetching; the event is set once it has them, or has failed."""

    def get(self, key: Hashable) -> Any:
        found = self._held.get(key)
        return None if found is None else found[0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        with self.lock:
            self._bytes += size - self._held.pop(key, (None, 0))[1]
            self._held[key] = value, size
            while self._bytes > self.max_bytes and len(self._held) > 1:
                self._bytes -= self._held.pop(next(iter(self._held)))[1]

    def forget(self, name: str) -> None:
        """Forget the tables of an array, or of the array that an object belongs to, by its URL."""
        with self.lock:
            for key in [key for key in self._held if _is_of(key, name)]:
                self._bytes -= self._held.pop(key)[1]

    def clear(self) -> None:
        """Forget everything."""
        with self.lock:
            self._held.clear()
            self._bytes = 0


_TABLES: dict[int, _TableCache] = {}
"""Process to its tables: another thread may have held the lock of a parent's when it forked."""


def tables() -> _TableCache:
    """Return the tables of this process; a forked child begins with those of its parent."""
    pid = os.getpid()
    found = _TABLES.get(pid)
    if found is None:
        found = _TableCache()
        if (parent := _TABLES.get(os.getppid())) is not None:
            found._held, found._bytes = dict(parent._held), parent._bytes
        found = _TABLES.setdefault(pid, found)
    return found


def _is_of(key: Hashable, name: str) -> bool:
    found: Any = key
    while isinstance(found, tuple) and found:
        found = found[0]
    return isinstance(found, str) and (name == found or name.startswith(f"{found}/"))


def forget(url: str) -> None:
    """Forget what tables say of an array, or of the array that an object belongs to: they are others by now."""
    tables().forget(url)


ON_CHANGE.append(forget)

_UNKNOWN = ObjectInfo("", -1, None)
_ENTRY_BYTES = 512
"""Memory that a table takes besides its bytes."""


class _Lookup:
    """The tables that one call needs."""

    def __init__(self) -> None:
        self._cache = tables()
        self._own: dict[Hashable, Any] = {}
        """Held here, too: the cache may be too small for all tables of a call."""
        self._wanted: dict[Hashable, tuple[Range, Callable[[Landed], Any]]] = {}

    def known(self, key: Hashable) -> Any:
        found = self._own.get(key)
        if found is None and (found := self._cache.get(key)) is not None:
            self._own[key] = found
        return found

    def look(self, key: Hashable, source: Callable[[], Range], parse: Callable[[Landed], Any]) -> Any:
        found = self.known(key)
        if found is None and key not in self._wanted:
            self._wanted[key] = source(), parse
        return found

    def fetch(self) -> None:
        """Fetch the tables that were looked up in vain, but for those that other threads are fetching."""
        wanted, self._wanted = self._wanted, {}
        mine, others = [], []
        with self._cache.lock:
            for key in wanted:
                if (event := self._cache.fetching.get(key)) is not None:
                    others.append(event)
                else:
                    self._cache.fetching[key] = threading.Event()
                    mine.append(key)
        try:
            for landed in get_ranges([wanted[key][0] for key in mine]):
                key = mine[landed.number]
                self._own[key] = found = wanted[key][1](landed)
                self._cache.put(key, found, landed.data.nbytes + _ENTRY_BYTES)
        finally:
            with self._cache.lock:
                for key in mine:
                    self._cache.fetching.pop(key).set()
        for event in others:
            event.wait()


def locate(chunks: Sequence[tuple[Fetched, tuple[int, ...]]]) -> list[tuple[Range, ...]]:
    """Return where the bytes of each chunk are, () for missing ones; fetches the tables that tell, if need be."""
    lookup = _Lookup()
    out: list[tuple[Range, ...] | None] = [array.where(chunk, lookup) for array, chunk in chunks]
    left = [i for i, found in enumerate(out) if found is None]
    rounds = 0
    while left:
        lookup.fetch()
        for i in left:
            array, chunk = chunks[i]
            out[i] = array.where(chunk, lookup)
        now = [i for i in left if out[i] is None]
        # A thread that was waited for may have failed, and what it wanted is then fetched here.
        rounds += len(now) == len(left)
        if rounds > _MOST_ROUNDS:
            array, chunk = chunks[now[0]]
            raise DamagedError(f"{array.name}: its tables do not tell where chunk {chunk} is", path=array.name)
        left = now
    return [found for found in out if found is not None]


def fetch(chunks: Sequence[tuple[Fetched, tuple[int, ...]]]) -> Iterator[tuple[int, list[Bytes] | None]]:
    """
    Yield the encoded bytes of chunks in the order in which they land, each with its position among `chunks`.

    A chunk has as many pieces as ranges, usually one. Those that are missing come first, with None.
    """
    return (found for found in fetch_or_wait(chunks) if found is not None)


def fetch_or_wait(
    chunks: Sequence[tuple[Fetched, tuple[int, ...]]],
) -> Iterator[tuple[int, list[Bytes] | None] | None]:
    """Yield chunks as `fetch`, and None where it would wait: the time to decode those that have landed."""
    ranges: list[Range] = []
    owners: list[tuple[int, int]] = []
    pieces: dict[int, list[Bytes | None]] = {}
    missing = []
    for number, found in enumerate(locate(chunks)):
        if not found:
            missing.append(number)
        elif len(found) > 1:
            pieces[number] = [None] * len(found)
        ranges += found
        owners += [(number, k) for k in range(len(found))] if len(found) > 1 else [(number, 0)] * len(found)
    for number in missing:
        yield number, None
    for landed in get_ranges_or_wait(ranges):
        if landed is None:
            yield None
            continue
        number, k = owners[landed.number]
        if landed.info is ABSENT:
            yield number, None
        elif number not in pieces:
            yield number, [landed.data]
        else:
            held = pieces[number]
            held[k] = landed.data
            whole = [piece for piece in held if piece is not None]
            if len(whole) == len(held):
                del pieces[number]
                yield number, whole
