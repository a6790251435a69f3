"""
The requests under way: one event loop per process, with one budget for all of them.

1. Jobs wait in a queue until fewer requests are under way than their settings allow.
2. A job that fails for a reason that may pass is tried again, later each time.
3. A job that takes far longer than others to the same store do is sent again, and whichever answer comes first counts:
   a connection that stalls keeps nobody waiting.  The last jobs, which all that was asked for waits for, are sent again
   sooner.

The loop runs in a thread of its own, which starts with the first request.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import random
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from queue import SimpleQueue
from typing import Any

from ndzarr._remote.backends import Backend
from ndzarr._remote.relay import Failed
from ndzarr._remote.settings import Remote

_TICK = 0.025
"""Seconds between looks at how long requests have been under way."""
_FIRST_PATIENCE = 2.0
"""Seconds after which a request is sent again, before it is known how long others take."""
_LEAST_PATIENCE = 0.25
"""Seconds before which no request is late, by default."""
_SAMPLES = 8
"""Requests after which the time that others take is known."""
_GROWTH = 1.4
"""Factor by which the patience grows each time: the whole network may have become slow."""
_LAST = 4
"""The part of the budget that requests are the last of, of which few are sent again in vain."""
_MOST_TASKS = 3
"""How often a job is under way at most; the oldest is given up for another one."""
_BACKOFF = 0.1
"""Seconds before the first repetition; twice as long before each further one."""
_LONGEST_BACKOFF = 15.0


@dataclass(eq=False)
class Job:
    """One request, and what became of it."""

    backend: Callable[[], Backend]
    operation: str
    args: tuple[Any, ...]
    settings: Remote
    host: Hashable
    """What the time of a request is compared within."""
    done: Callable[[Job], object]
    """Called in the thread of the loop; must not wait."""
    data: Any = None
    expected: int | None = None
    """Bytes of the answer, if that is known."""
    facts: Any = None
    body: Any = None
    error: BaseException | None = None
    attempts: int = 0
    cancelled: bool = False
    _begun: float = 0.0
    _sent: float = 0.0
    """When it was sent last."""
    _hedges: int = 0
    """How often it was sent again since this attempt began."""
    _tasks: dict[asyncio.Task[Any], float] = field(default_factory=dict)
    """Those under way to when they began, the oldest first."""

    async def work(self) -> tuple[Any, Any]:
        """Make the request."""
        facts, body = await self.backend().perform(self.operation, self.args, self.data)
        if self.expected is not None and len(body) != self.expected:
            raise Failed("short", f"{len(body)} bytes instead of {self.expected}")
        return facts, body


@dataclass
class _Times:
    """How long requests to a host take, as TCP estimates it (RFC 6298)."""

    count: int = 0
    mean: float = 0.0
    spread: float = 0.0

    def add(self, seconds: float) -> None:
        if not self.count:
            self.mean, self.spread = seconds, seconds / 2
        self.spread += (abs(seconds - self.mean) - self.spread) / 4
        self.mean += (seconds - self.mean) / 8
        self.count += 1

    @property
    def patience(self) -> float:
        """Seconds after which a request is late."""
        return _FIRST_PATIENCE if self.count < _SAMPLES else 2 * (self.mean + 4 * self.spread)


class Engine:
    """The requests of this process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._waiting: deque[Job] = deque()
        self._flying: set[Job] = set()
        self._times: dict[Hashable, _Times] = {}
        self._watching = False
        self.sent = 0
        """Requests sent, repetitions included."""
        self.least_patience = _LEAST_PATIENCE
        """Seconds before which no request is late; infinite where none is to be sent again because it is."""
        self._thread = threading.Thread(target=self._loop.run_forever, name="ndzarr-remote", daemon=True)
        self._thread.start()
        atexit.register(self._stop, os.getpid())

    def _stop(self, pid: int) -> None:
        if os.getpid() == pid and self._loop.is_running():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(1)

    def submit(self, jobs: Iterable[Job]) -> None:
        """Begin jobs as soon as the budget allows."""
        self._loop.call_soon_threadsafe(self._add, list(jobs))

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Give up jobs that are not done."""
        self._loop.call_soon_threadsafe(self._cancel, list(jobs))

    def call(self, job: Job) -> Job:
        """Begin a job and wait until it is done."""
        landed: SimpleQueue[Job] = SimpleQueue()
        job.done = landed.put
        self.submit([job])
        try:
            return landed.get()
        except BaseException:
            self.cancel([job])
            raise

    def _add(self, jobs: list[Job]) -> None:
        self._waiting += jobs
        self._launch()

    def _cancel(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.cancelled = True
            if job in self._flying:
                self._land(job)
        self._launch()

    def _launch(self) -> None:
        while self._waiting and len(self._flying) < self._waiting[0].settings.inflight:
            job = self._waiting.popleft()
            if not job.cancelled:
                self._flying.add(job)
                self._attempt(job)
        if self._flying and not self._watching:
            self._watching = True
            self._loop.call_later(_TICK, self._watch)

    def _attempt(self, job: Job) -> None:
        if job not in self._flying:  # given up while it waited
            return
        job.attempts += 1
        job._begun, job._hedges = self._loop.time(), 0
        self._send(job)

    def _send(self, job: Job) -> None:
        self.sent += 1
        task = self._loop.create_task(job.work())
        job._tasks[task] = job._sent = self._loop.time()
        task.add_done_callback(partial(self._ended, job))

    def _ended(self, job: Job, task: asyncio.Task[Any]) -> None:
        begun = job._tasks.pop(task, 0.0)
        if task.cancelled():
            return
        error = task.exception()
        if job not in self._flying:
            return
        if error is None:
            job.facts, job.body = task.result()
            self._times.setdefault(job.host, _Times()).add(self._loop.time() - begun)
            self._land(job)
            self._launch()
        elif not job._tasks:  # else the second one may still succeed
            self._failed(job, error)

    def _failed(self, job: Job, error: BaseException) -> None:
        if isinstance(error, Failed) and error.transient and job.attempts <= job.settings.retries:
            wait = min(_BACKOFF * 2 ** (job.attempts - 1), _LONGEST_BACKOFF) * random.uniform(0.5, 1.0)
            if job.attempts == 1 and error.kind != "busy":  # a connection that broke; another one may be sound
                wait = 0.0
            self._loop.call_later(wait, self._attempt, job)
            return
        job.error = error
        self._land(job)
        self._launch()

    def _land(self, job: Job) -> None:
        self._flying.discard(job)
        self._drop(job, 0)
        if not job.cancelled:
            job.done(job)

    def _watch(self) -> None:
        """Repeat requests that are late, and end those whose time is up."""
        now = self._loop.time()
        extra = sum(max(0, len(job._tasks) - 1) for job in self._flying)
        for job in list(self._flying):
            age = now - job._begun
            if not job._tasks:  # it waits to be tried again
                continue
            if age > job.settings.timeout:
                self._drop(job, 0)
                self._failed(job, Failed("timeout", f"no answer within {job.settings.timeout:g} s"))
            elif now > job._sent + self._patience(job) and (extra <= job.settings.inflight // 2 or len(job._tasks) > 1):
                self._drop(job, _MOST_TASKS - 1)
                extra += 1
                job._hedges += 1
                self._send(job)
        if self._flying:
            self._loop.call_later(_TICK, self._watch)
        else:
            self._watching = False

    def _drop(self, job: Job, most: int) -> None:
        """Cancel what is under way for a job, but for so many tasks that began last."""
        for task in list(job._tasks)[: max(0, len(job._tasks) - most)]:
            del job._tasks[task]
            task.cancel()

    def _patience(self, job: Job) -> float:
        """Return the seconds after which a request is late; what writes is never sent twice at a time."""
        if job.operation not in ("get", "head"):
            return inf
        usual = max(self.least_patience, self._times.setdefault(job.host, _Times()).patience) * _GROWTH**job._hedges
        last = not self._waiting and len(self._flying) <= job.settings.inflight // _LAST
        return usual / 2 if last else usual


def engine() -> Engine:
    """Return the engine of this process."""
    return engine_of(os.getpid())


def engine_of(pid: int) -> Engine:
    """Return the engine of a process; that of a parent is never closed: its loop shares descriptors with this one."""
    found = _ENGINES.get(pid)
    if found is None:
        with _LOCKS.setdefault(pid, threading.Lock()):  # threads may begin at once
            found = _ENGINES[pid] = _ENGINES.get(pid) or Engine()
    return found


_ENGINES: dict[int, Engine] = {}
_LOCKS: dict[int, threading.Lock] = {}
"""Process to its engine, and to the lock of making it."""
