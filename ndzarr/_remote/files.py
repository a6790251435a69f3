"""
Files in buckets and on web servers that are read in place: their first bytes, what lies beside them, and reading on.

1. Opening one asks for its first bytes, and for the files that may lie beside it, in one flight.
2. A `RemoteReader` is the file to parsers that read and seek.  What they miss is fetched in blocks, each longer than
   the one before.
3. A library keeps what opening has read (`KEPT`), and opens the file the next time without a request.  Every later
   range is asked for with the tag that was kept, so a file that has changed since is an error once, and is then
   forgotten (`forget`).
"""

from __future__ import annotations

import io
import os
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from ndzarr._files import Bytes
from ndzarr._remote.cache import DiskCache, cache_at
from ndzarr._remote.engine import Job, engine
from ndzarr._remote.flight import get_ranges
from ndzarr._remote.relay import Failed
from ndzarr._remote.settings import Remote
from ndzarr._remote.stores import ON_CHANGE, ObjectInfo, Range, RemoteStore, changed, explained, open_object, open_url
from ndzarr.errors import NdzarrError, StoreError

FIRST = 16 << 10
"""Bytes at the beginning of a file that are asked for first; the header of most COGs is shorter."""
LONGEST = 4 << 20
"""Most bytes of a block that is read ahead."""
KEPT = "first bytes"
"""The version, to a cache on disk, of what opening files has read."""
_KEPT_BYTES = 4 << 30
"""Most bytes of it in a library."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as it was when it was opened; it can be pickled, and any thread or process may read ranges of it."""

    store: RemoteStore
    key: str
    size: int
    tag: str | None
    """Changes with the file; None if its server does not tell."""

    @property
    def path(self) -> str:
        """Its URL, without secrets."""
        return self.store.url(self.key)

    @property
    def mtime_ns(self) -> int:
        """Return 0: a tag tells versions apart."""
        return 0

    @property
    def inode(self) -> int:
        """Return 0, for the same reason."""
        return 0

    def range(self, start: int, stop: int) -> Range:
        """Return bytes of the file, for a flight."""
        return Range(self.store, self.key, start, stop, self.tag)

    def check(self) -> None:
        """Do nothing: each answer is checked."""

    def close(self) -> None:
        """Do nothing: connections belong to the process."""


@dataclass(frozen=True)
class OpenedFile:
    """A file, and what opening it has read."""

    file: RemoteFile
    first: Bytes
    beside: Mapping[str, OpenedFile]
    """Files beside it that exist, by what their names add to its own."""
    kept: DiskCache | None = None

    def reader(self) -> RemoteReader:
        """Return the file as parsers read it."""
        return RemoteReader(self.file, _Blocks(self.first, self.file.size), self.kept)

    def text(self, names: Sequence[str], most: int) -> tuple[str, str] | None:
        """Return URL and text of the first of some files that exists; one longer than `most` bytes does not."""
        paths = [name.removeprefix(f"{self.file.store.name}/") for name in names]
        ranges = [Range(self.file.store, path, 0, most, version=KEPT) for path in paths]
        for name, answer in zip(names, _ask(ranges, self.kept), strict=True):
            if isinstance(answer, tuple) and answer[1].size <= most:
                return name, answer[0].tobytes().decode("utf-8", "replace")
        return None


def library_cache(folder: str | os.PathLike[str] | None) -> DiskCache | None:
    """Return the cache in which a library keeps what opening has read."""
    return None if folder is None else cache_at(os.fspath(folder), _KEPT_BYTES)


def open_file(
    url: str,
    storage_options: Mapping[str, Any] | None = None,
    remote: Remote | None = None,
    beside: Sequence[str] = (),
    kept: DiskCache | None = None,
    store: Any = None,
) -> OpenedFile:
    """
    Open a file with one flight of requests.

    Parameters
    ----------
    beside
        Ends of the names of files beside it that are looked for.
    kept
        Where what is read is kept, and looked for first.
    store
        A store object, in which `url` is a path.

    Raises
    ------
    MissingError
        There is no such file.
    StoreError
        It cannot be read.
    """
    place = open_url(url, storage_options, remote) if store is None else open_object(store, url, remote)
    return _open_places([place], beside, kept)[0]


def look_up(
    urls: Sequence[str],
    beside: Sequence[str],
    kept: DiskCache,
    storage_options: Mapping[str, Any] | None = None,
    remote: Remote | None = None,
) -> None:
    """Fetch and keep what opening files reads first, in one flight; those that are missing complain when opened."""
    places = [open_url(url, storage_options, remote) for url in urls]
    ends = ("", *beside)
    _ask([Range(store, f"{path}{end}", 0, FIRST, version=KEPT) for store, path in places for end in ends], kept)


def download(opened: OpenedFile, folder: Path) -> Path:
    """Write a file, and those beside it, to a directory; return its path there."""
    path = Path(folder, os.path.basename(opened.file.key) or "file")
    for found, dest in ((opened, path), *((o, Path(f"{path}{end}")) for end, o in opened.beside.items())):
        starts = range(0, found.file.size, _PART)
        ranges = [found.file.range(a, min(a + _PART, found.file.size)) for a in starts]
        with open(dest, "wb") as file:
            file.truncate(found.file.size)
            for landed in get_ranges(ranges):
                file.seek(starts[landed.number])
                file.write(landed.data.data)
    return path


_PART = 1 << 20
"""Bytes of a part of a file that is copied as a whole."""


def open_again(file: RemoteFile, beside: Sequence[str] = (), kept: DiskCache | None = None) -> OpenedFile:
    """Open a file in another process."""
    return _open_places([(file.store, file.key)], beside, kept)[0]


def _open_places(
    places: Sequence[tuple[RemoteStore, str]], beside: Sequence[str], kept: DiskCache | None
) -> list[OpenedFile]:
    ends = ("", *beside)
    ranges = [Range(store, f"{path}{end}", 0, FIRST, version=KEPT) for store, path in places for end in ends]
    answers = _ask(ranges, kept)
    out = []
    for k, (store, path) in enumerate(places):
        own, *others = answers[k * len(ends) : (k + 1) * len(ends)]
        if isinstance(own, NdzarrError):
            raise own
        if own is None:
            raise changed(store.url(path))
        found = {
            end: _opened(store, f"{path}{end}", answer, {}, kept)
            # A server may forbid what does not exist.
            for end, answer in zip(beside, others, strict=True)
            if isinstance(answer, tuple)
        }
        out.append(_opened(store, path, own, found, kept))
    return out


def _opened(
    store: RemoteStore,
    path: str,
    answer: tuple[Bytes, ObjectInfo],
    beside: Mapping[str, OpenedFile],
    kept: DiskCache | None,
) -> OpenedFile:
    first, info = answer
    if info.size < 0:
        url = store.url(path)
        raise StoreError(
            f"{url}: its server does not tell its size", path=url, hint="Copy the file, or use another server"
        )
    return OpenedFile(RemoteFile(store, path, info.size, info.tag), first, beside, kept)


def _ask(ranges: Sequence[Range], kept: DiskCache | None) -> list[tuple[Bytes, ObjectInfo] | NdzarrError | None]:
    """Return (bytes, object) of each range, or the error; None where what was kept says that there is no such file."""
    out: list[tuple[Bytes, ObjectInfo] | NdzarrError | None] = [None] * len(ranges)
    landed: SimpleQueue[Job] = SimpleQueue()
    jobs: dict[Job, int] = {}
    for i, r in enumerate(ranges):
        held = None if kept is None else kept.get(r)
        if held is None:
            jobs[r.store.job("get", (r.path, r.start, r.stop), landed.put)] = i
        elif held[1].size > 0 and kept is not None:
            out[i] = held
            _NOTED[r.store.url(r.path)] = kept, r
    if not jobs:
        return out
    engine().submit(jobs)
    try:
        for _ in range(len(jobs)):
            job = landed.get()
            i = jobs[job]
            r = ranges[i]
            if job.error is None:
                size, tag, _begin = job.facts
                data, info = np.frombuffer(job.body, np.uint8), ObjectInfo(r.path, size, tag)
                out[i] = data, info
                if kept is not None and tag is not None:
                    kept.put(r, data, info)
                    _NOTED[r.store.url(r.path)] = kept, r
            elif isinstance(job.error, Failed):
                out[i] = explained(r.store, job)
                if kept is not None and job.error.kind in ("missing", "denied"):
                    kept.put(r, np.empty(0, np.uint8), ObjectInfo(r.path, 0, None))
            else:
                raise job.error
    except BaseException:
        engine().cancel(jobs)
        raise
    return out


_NOTED: dict[str, tuple[DiskCache, Range]] = {}
"""URL of each file of which something is kept, as far as this process knows, and where that is."""
_CHANGES = [0]


def changes() -> int:
    """Return how often a file was found to be another than the one that was opened."""
    return _CHANGES[0]


def forget(url: str) -> None:
    """Drop what was kept of a file, since it is another one now."""
    _CHANGES[0] += 1
    noted = _NOTED.pop(url, None)
    if noted is not None:
        noted[0].drop(noted[1])


ON_CHANGE.append(forget)


class _Blocks:
    """What has been fetched of a file; the blocks that were fetched first are dropped, but for those that are held."""

    def __init__(self, first: Bytes, most: int) -> None:
        self._starts, self._data, self._ages = [0], [first], deque[int]()
        self._most, self._bytes = most, 0
        self.hollow = False
        """True to read zeros in place of what has not been fetched."""
        self._lock = threading.Lock()

    def add(self, start: int, data: Bytes, hold: bool = False) -> None:
        """Add a block; one to `hold` is never dropped."""
        with self._lock:
            k = bisect_right(self._starts, start)
            self._starts.insert(k, start)
            self._data.insert(k, data)
            if hold:
                return
            self._ages.append(start)
            self._bytes += len(data)
            while self._bytes > self._most and len(self._ages) > 1:
                k = self._starts.index(self._ages.popleft(), 1)
                self._bytes -= len(self._data[k])
                del self._starts[k], self._data[k]

    def within(self, start: int, stop: int) -> tuple[list[tuple[int, Bytes]], list[tuple[int, int]]]:
        """Return the blocks, with their starts, that hold bytes of a range, and the parts that none of them holds."""
        found, gaps = [], [(start, stop)] if start < stop else []
        with self._lock:
            for k in range(bisect_right(self._starts, stop) - 1, -1, -1):
                a, block = self._starts[k], self._data[k]
                b = a + len(block)
                if b > start and a < stop:
                    found.append((a, block))
                    cut = [part for first, last in gaps for part in ((first, min(last, a)), (max(first, b), last))]
                    gaps = [part for part in cut if part[0] < part[1]]
                if a + LONGEST <= start or not gaps:
                    break
        return found, gaps


class RemotePath(str):
    """The URL of a file that FFmpeg reads, and the file: what has been fetched serves all who open it."""

    opened: OpenedFile
    blocks: _Blocks
    mapped: bool | None
    """True if everything but frames is fetched, None if nobody has tried."""

    def __new__(cls, opened: OpenedFile) -> RemotePath:
        """Name a file."""
        path = super().__new__(cls, opened.file.path)
        path.opened, path.blocks, path.mapped = opened, _Blocks(opened.first, _VIDEO_BYTES), None
        return path

    def reader(self) -> RemoteReader:
        """Return the file as FFmpeg reads it."""
        reader = RemoteReader(self.opened.file, self.blocks, None)
        reader.least, reader.in_parts = _VIDEO_AHEAD, True
        return reader

    @property
    def signature(self) -> tuple[int, str | None]:
        """What changes with the file."""
        return self.opened.file.size, self.opened.file.tag


_VIDEO_BYTES = 64 << 20
"""Most bytes of a video that are held."""
_VIDEO_AHEAD = 256 << 10
"""Bytes of the first block of a video behind a place that was sought."""


class RemoteReader(io.RawIOBase):
    """A file that is read and sought in, by one thread at a time."""

    def __init__(self, file: RemoteFile, blocks: _Blocks, kept: DiskCache | None = None) -> None:
        self.file, self.name, self._kept, self._blocks = file, file.path, kept, blocks
        self._patches: dict[int, bytes] = {}
        self._position = 0
        self._ahead = self.least = FIRST
        self.in_parts = False
        """True to return what is there of the bytes that are asked for, before the others are fetched."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.file.size}[whence]
        if start + offset < 0:
            raise ValueError(f"position {start + offset} is before the file")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        out = memoryview(buffer).cast("B")
        start = self._position
        stop = min(start + len(out), self.file.size)
        if start >= stop:
            return 0
        blocks, gaps = self._blocks.within(start, stop)
        if gaps and self.in_parts and not self._blocks.hollow and (first := min(gaps)[0]) > start:
            stop = first
            blocks, gaps = self._blocks.within(start, stop)
        while gaps and not self._blocks.hollow:  # again if another reader's blocks have driven out these
            self.need([(start, stop)])
            blocks, gaps = self._blocks.within(start, stop)
        for first, last in gaps:
            out[first - start : last - start] = bytes(last - first)
        for a, block in blocks:
            first, last = max(a, start), min(a + len(block), stop)
            out[first - start : last - start] = block[first - a : last - a].data
        for at, patch in self._patches.items():
            first, last = max(at, start), min(at + len(patch), stop)
            if first < last:
                out[first - start : last - start] = patch[first - at : last - at]
        self._position = stop
        return stop - start

    def patch(self, at: int, data: bytes) -> None:
        """Read other bytes at a position."""
        self._patches[at] = data

    def holds(self, start: int, stop: int) -> bool:
        """Return True if bytes were fetched."""
        return not self._gaps(start, stop)

    def hold(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Fetch what is missing of some (start, stop) in one flight, and never drop it."""
        self.need(ranges, ahead=False, hold=True)

    def need(self, ranges: Sequence[tuple[int, int]], ahead: bool = True, hold: bool = False) -> None:
        """Fetch what is missing of some (start, stop) in one flight, and, if `ahead`, what follows it."""
        gaps = [gap for start, stop in ranges for gap in self._gaps(start, min(stop, self.file.size))]
        if not gaps:
            return
        goes_on = len(gaps) == 1 and self.holds(max(0, gaps[0][0] - 1), gaps[0][0])
        self._ahead = min(2 * self._ahead, LONGEST) if goes_on else self.least
        asked: list[Range] = []
        for start, stop in sorted(gaps):
            stop = min(max(stop, start + self._ahead) if ahead else stop, self.file.size)
            if asked and start <= (last := int(asked[-1].stop or 0)) + self.file.store.settings.gap:
                asked[-1] = asked[-1]._replace(stop=max(stop, last))
            else:
                asked.append(Range(self.file.store, self.file.key, start, stop, version=KEPT))
        cut = [part for r in asked for part in _cut(r)]
        for r, answer in zip(cut, _ask(cut, self._kept), strict=True):
            if isinstance(answer, NdzarrError):
                raise answer
            if answer is None or (answer[1].tag or self.file.tag) != self.file.tag:
                raise changed(self.name)
            if answer[0].size != int(r.stop or 0) - int(r.start or 0):
                raise StoreError(f"{self.name}: the server sent too little", path=self.name, hint="Try again")
            self._blocks.add(int(r.start or 0), answer[0], hold)

    def _gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        return self._blocks.within(start, stop)[1]


def _cut(r: Range) -> list[Range]:
    """Return a range in parts that connections fetch side by side; no block is longer than `LONGEST`."""
    start, stop = int(r.start or 0), int(r.stop or 0)
    step = min(max(1 << 20, -(-(stop - start) // r.store.settings.inflight)), LONGEST)
    return [r._replace(start=a, stop=min(a + step, stop)) for a in range(start, stop, step)]
