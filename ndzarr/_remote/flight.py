"""
Ranges of many objects, fetched together and returned as they land.

1. Ranges are sorted by object and offset. Those with small gaps between them are merged into one request, up to a cap;
   so are those with gaps twice as large, where they are few beside what is wanted. Long ones are split.
2. All requests are under way together, as far as the budget of the process allows. No more are begun than a few times
   the budget ahead of what the caller has taken, so that memory stays flat.
3. Ranges that the cache on disk holds are returned without a request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np

from ndzarr._files import Bytes
from ndzarr._remote.cache import DiskCache, disk_cache
from ndzarr._remote.engine import Job, engine
from ndzarr._remote.relay import Failed
from ndzarr._remote.stores import ABSENT, Landed, ObjectInfo, Range, changed, explained
from ndzarr.errors import DamagedError, MissingError

LEAST_CAP = 256 << 10
"""Bytes of a request that reads of few bytes are merged up to, if they could use more connections."""

_NOTHING = np.empty(0, np.uint8)


class Request(NamedTuple):
    """One request, and the ranges that it answers."""

    number: int | None
    """Number of the range that this request is a piece of; None if it answers whole ranges."""
    start: int | None
    stop: int | None
    ranges: tuple[int, ...]


def get_ranges(ranges: Sequence[Range]) -> Iterator[Landed]:
    """
    Yield the bytes of ranges in the order in which they land; see `get_ranges_or_wait`.

    Raises
    ------
    MissingError
        An object does not exist.
    StoreError
        It is another object than when it was opened, access was denied, or the network failed.
    """
    return (landed for landed in get_ranges_or_wait(ranges) if landed is not None)


def get_ranges_or_wait(ranges: Sequence[Range]) -> Iterator[Landed | None]:
    """Yield ranges as `get_ranges`, and None where it would wait: the time to do what was put off."""
    if not ranges:
        return
    flight = _Flight(ranges)
    try:
        yield from flight.landed()
    finally:
        flight.cancel()


def planned(ranges: Sequence[Range]) -> list[Request]:
    """Return the requests that fetch ranges, in the order in which they begin."""
    whole = [i for i, r in enumerate(ranges) if r.start is None or r.start < 0 or r.stop is None]
    exact = [i for i, r in enumerate(ranges) if r.start is not None and r.start >= 0 and r.stop is not None]
    out = [Request(None, ranges[i].start, ranges[i].stop, (i,)) for i in whole]
    if not exact:
        return out
    settings = ranges[exact[0]].store.settings
    total = sum(_length(ranges[i]) for i in exact)
    cap = max(min(LEAST_CAP, settings.cap), min(settings.cap, total // settings.inflight))
    exact.sort(key=lambda i: (id(ranges[i].store), ranges[i].path, ranges[i].start))
    gap = _gap([ranges[i] for i in exact], settings.gap, total // _SPARE)
    held: list[int] = []
    start = stop = 0
    for i in exact:
        r = ranges[i]
        first, last = int(r.start or 0), int(r.stop or 0)
        if held:
            same = ranges[held[0]].path == r.path and ranges[held[0]].store is r.store
            if same and first - stop <= gap and max(stop, last) - start <= cap:
                held.append(i)
                stop = max(stop, last)
                continue
            out.append(Request(None, start, stop, tuple(held)))
            held = []
        if last - first > 2 * cap:
            pieces = -(-(last - first) // cap)
            edges = [first + (last - first) * k // pieces for k in range(pieces + 1)]
            out += [Request(i, a, b, (i,)) for a, b in pairwise(edges)]
            continue
        held, start, stop = [i], first, last
    if held:
        out.append(Request(None, start, stop, tuple(held)))
    return out


_SPARE = 10
"""Gaps of up to twice the usual length are fetched while they are less than this part of what is wanted."""


def _gap(ranges: Sequence[Range], usual: int, spare: int) -> int:
    """Return the length up to which gaps between sorted ranges are fetched, `spare` bytes in all or the usual ones."""
    gaps = (int(b.start or 0) - int(a.stop or 0) for a, b in pairwise(ranges) if a.path == b.path)
    gap = usual
    for length in sorted(length for length in gaps if 0 < length <= 2 * usual):
        spare -= length
        if spare < 0:
            break
        gap = max(gap, length)
    return gap


def _length(r: Range) -> int:
    return int(r.stop or 0) - int(r.start or 0)


class _Flight:
    """Requests of one call."""

    def __init__(self, ranges: Sequence[Range]) -> None:
        self._ranges = list(ranges)
        self._landed: SimpleQueue[Job] = SimpleQueue()
        self._flying: dict[Job, Request] = {}
        self._pieces: dict[int, tuple[Bytes, int]] = {}
        """Number of a range that was split to its bytes, and how many of them are still to come."""

    def landed(self) -> Iterator[Landed | None]:
        cached: deque[tuple[int, DiskCache]] = deque()
        missing: list[int] = []
        for i, r in enumerate(self._ranges):
            if r.session is not None:
                tag = _SEEN.get((r.session, r.path))
                if tag == "":
                    yield Landed(i, _NOTHING, ABSENT)
                    continue
                self._ranges[i] = r = r._replace(tag=tag)
            cache = _cache_of(r)
            if cache is not None and cache.holds(r):
                cached.append((i, cache))
            else:
                missing.append(i)
        queue = deque(planned([self._ranges[i] for i in missing]))
        # From here on, requests name ranges by their position in all of those asked for.
        queue = deque(
            q._replace(
                ranges=tuple(missing[i] for i in q.ranges), number=None if q.number is None else missing[q.number]
            )
            for q in queue
        )
        self._refill(queue)
        while cached:
            i, cache = cached.popleft()
            held = cache.get(self._ranges[i])
            if held is None:  # dropped or damaged meanwhile
                r = self._ranges[i]
                queue.append(Request(None, r.start, r.stop, (i,)))
                self._refill(queue)
            else:
                yield Landed(i, *held)
        while self._flying:
            if self._landed.empty():
                yield None
            job = self._landed.get()
            request = self._flying.pop(job)
            self._refill(queue)
            first = self._ranges[request.ranges[0]]
            if isinstance(job.error, Failed) and job.error.kind == "missing" and first.optional:
                if first.session is not None and disk_cache(first.store.settings) is not None:
                    _note(first, "")
                yield from (Landed(i, _NOTHING, ABSENT) for i in request.ranges)
            elif isinstance(job.error, Failed) and job.error.kind == "unchanged":
                [i] = request.ranges
                self._ranges[i] = r = first._replace(tag=job.args[1])
                _note(r, job.args[1])
                cache = _cache_of(r)
                held = None if cache is None else cache.get(r)
                if held is None:  # dropped or damaged meanwhile
                    queue.append(request)
                    self._refill(queue)
                else:
                    yield Landed(i, *held)
            elif job.error is not None:
                error = explained(first.store, job)
                known = isinstance(error, MissingError) and first.end is not None  # that it was written
                raise DamagedError.like(error) if known else error
            else:
                yield from self._parts(request, job)

    def _refill(self, queue: deque[Request]) -> None:
        jobs = []
        while queue:
            r = self._ranges[queue[0].ranges[0]]
            if len(self._flying) >= 2 * r.store.settings.inflight:
                break
            request = queue.popleft()
            expected = None
            if request.start is not None and request.start >= 0 and request.stop is not None:
                expected = request.stop - request.start
            tag = _latest(r) if r.session is not None and r.tag is None else None
            if tag is None:
                job = r.store.job("get", (r.path, request.start, request.stop), self._landed.put, expected)
            else:
                job = r.store.job("get_unless", (r.path, tag), self._landed.put)
            self._flying[job] = request
            jobs.append(job)
        if jobs:
            engine().submit(jobs)

    def _parts(self, request: Request, job: Job) -> Iterator[Landed]:
        size, tag, begin = job.facts
        data = np.frombuffer(job.body, np.uint8)
        first = self._ranges[request.ranges[0]]
        info = ObjectInfo(first.path, size, tag)
        for i in request.ranges:
            if (known := self._ranges[i].tag) is not None and tag is not None and tag != known:
                _forget(self._ranges[i])
                raise changed(first.store.url(first.path))
        if request.number is not None:
            yield from self._piece(request, data, info)
            return
        for i in request.ranges:
            r = self._ranges[i]
            whole = r.start is None or r.start < 0 or r.stop is None
            found = data if whole else data[int(r.start or 0) - begin : int(r.stop or 0) - begin]
            yield self._whole(i, found, info)

    def _piece(self, request: Request, data: Bytes, info: ObjectInfo) -> Iterator[Landed]:
        i = request.ranges[0]
        r = self._ranges[i]
        length, first = _length(r), int(r.start or 0)
        whole, left = self._pieces.get(i) or (np.empty(length, np.uint8), length)
        offset = int(request.start or 0) - first
        whole[offset : offset + data.size] = data
        left -= data.size
        self._pieces[i] = whole, left
        if not left:
            del self._pieces[i]
            yield self._whole(i, whole, info)

    def _whole(self, number: int, data: Bytes, info: ObjectInfo) -> Landed:
        """Check and keep a range."""
        r = self._ranges[number]
        if r.end is not None and data[-len(r.end) :].tobytes() != r.end:
            _forget(r)
            raise DamagedError.like(changed(r.store.url(r.path)))
        if r.session is not None and info.tag is not None:
            if (cache := disk_cache(r.store.settings)) is not None:
                cache.put_latest(r, data, info)
                _note(r, info.tag)
        elif (cache := _cache_of(r)) is not None:
            cache.put(r, data, info)
        return Landed(number, data, info)

    def cancel(self) -> None:
        if self._flying:
            engine().cancel(self._flying)


_SEEN: dict[tuple[Hashable, str], str] = {}
"""Session and path of objects to the tag that they had when they were asked for; '' for those that do not exist."""
_MOST_SEEN = 1 << 20


def _note(r: Range, tag: str) -> None:
    if len(_SEEN) >= _MOST_SEEN:
        _SEEN.clear()
    _SEEN[r.session, r.path] = tag


def _latest(r: Range) -> str | None:
    """Return the tag of an object that is kept, if its server can be asked whether it is still that."""
    cache = disk_cache(r.store.settings)
    tag = None if cache is None or r.store.spec[0] != "obstore" else cache.latest(r)
    return tag if tag is not None and tag.endswith('"') else None  # else it is a time


def _forget(r: Range) -> None:
    """Drop what is kept of an object by the version of its store: it is another object now."""
    if (cache := _cache_of(r)) is not None:
        cache.drop(r._replace(tag=None))


def _cache_of(r: Range) -> DiskCache | None:
    """Return the cache that may hold a range: only where it is known which version of the object is meant."""
    return None if r.tag is None and r.version is None else disk_cache(r.store.settings)
