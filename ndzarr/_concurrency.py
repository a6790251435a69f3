"""
CPUs, threads that decode, ordered maps and batches of tasks.

Everything runs in threads: decoders, encoders and the file system run outside Python's lock, so that processes were
not faster where it was measured (2 CPUs; many small JPEGs, a few large TIFFs), and threads need neither pickling nor a
guarded `__main__`.  Nothing starts at import, and what depends on the process is keyed by its id, so that a forked
child makes its own.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, inf
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Generic, ParamSpec, Self, TypeVar

from ndzarr.errors import NdzarrError, OptionError, SourceError, WriteError

Item = TypeVar("Item")
Result = TypeVar("Result")
P = ParamSpec("P")


THREADS = "NDZARR_THREADS"
"""Environment variable: the most threads of a process that work at a time."""

_sharing: dict[int, int] = {}
"""Process to the number of processes that share its CPUs."""


def available_cpus() -> int:
    """
    Return the number of CPUs that this process may use (affinity, and quota of its control groups rounded up).

    It is at least 1, and looked up once per process. `NDZARR_THREADS` and `share_cpus` bound it. Raise `OptionError` if
    the variable is not a number.
    """
    return _cpus_of(os.getpid())


def share_cpus(processes: int) -> None:
    """Tell that so many processes, of which this is one, do the same: each may use its share of the CPUs."""
    if _sharing.get(os.getpid()) != processes:
        _sharing.clear()  # those of a parent
        _sharing[os.getpid()] = processes
        _cpus_of.cache_clear()


@lru_cache(maxsize=1)
def _cpus_of(pid: int) -> int:
    cpus = _all_cpus() // _sharing.get(pid, 1)
    if own := os.environ.get(THREADS):
        if not own.isdecimal() or not int(own):
            raise OptionError(f"{THREADS}={own!r}: expected a number of threads, at least 1", key=THREADS)
        cpus = min(cpus, int(own))
    return max(1, cpus)


def _all_cpus() -> int:
    if sys.version_info >= (3, 13):
        cpus = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:  # macOS and Windows before Python 3.13
        cpus = os.cpu_count() or 1
    quota = cgroup_quota()
    return max(1, cpus if quota == inf else min(cpus, ceil(quota)))


def cgroup_quota(root: Path = Path("/")) -> float:
    """Return the CPUs that the control groups of this process grant it, infinity if they set no limit."""
    return cgroup_limit(root, "cpu", _quota)


def cgroup_limit(root: Path, controller: str, limit_of: Callable[[Path], float]) -> float:
    """
    Return the least limit of the control groups of this process, infinity if they set none.

    The limit of an ancestor holds for all groups below it. `proc` and `sys` are under `root`.
    """
    limit = inf
    with suppress(OSError):  # there are no control groups outside Linux
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            mount = root / "sys/fs/cgroup" / (controller if controllers else "")  # version 2 names no controllers
            group = mount / path.lstrip("/")
            for folder in (group, *group.parents):
                limit = min(limit, limit_of(folder))
                if folder == mount:
                    break
    return limit


def _quota(folder: Path) -> float:
    with suppress(OSError, ValueError):
        if (file := folder / "cpu.max").exists():  # version 2: "max 100000" or "150000 100000"
            limit, period = file.read_text().split()
        else:
            limit, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if limit != "max" and int(limit) > 0:  # version 1 says -1 for no limit
            return int(limit) / int(period)
    return inf


def memory_limit() -> int:
    """
    Return the bytes that this process may use at most: of the machine, of its control groups, of its address space.

    It is looked up once per process.
    """
    return _memory_of(os.getpid())


@lru_cache(maxsize=1)
def _memory_of(pid: int) -> int:
    limits = [sys.maxsize]
    with suppress(AttributeError, OSError, ValueError):  # not on Windows
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(ImportError):
        import resource

        space, _ = resource.getrlimit(resource.RLIMIT_AS)
        if space != resource.RLIM_INFINITY:
            limits.append(space)
    limit = cgroup_limit(Path("/"), "memory", _memory)
    return min([*limits, int(limit)] if limit < inf else limits)


def _memory(folder: Path) -> float:
    for name in ("memory.max", "memory.limit_in_bytes"):  # versions 2 and 1; version 1 says nearly 2**63 for no limit
        with suppress(OSError, ValueError):
            return float((folder / name).read_text().replace("max", "inf"))
    return inf


def decode_pool() -> ThreadPoolExecutor:
    """Return the threads of this process that decode and resample: one fewer than there are CPUs, at least one."""
    return _pool_of(os.getpid())


@lru_cache(maxsize=1)
def _pool_of(pid: int) -> ThreadPoolExecutor:
    # The pool of a parent process has no threads in a forked child: its jobs would wait forever.
    return thread_pool(max(1, available_cpus() - 1), "ndzarr")


_STACK = 8 << 20
"""Bytes of address space of a thread's stack."""


def thread_pool(workers: int, name: str) -> ThreadPoolExecutor:
    """
    Return a pool of threads.

    Raises `MemoryError` if the address space has no room for them: Python waits forever for a thread that finds no
    memory when it begins (github.com/python/cpython/issues/140746).
    """
    try:
        mmap.mmap(-1, (workers + 1) * _STACK).close()
    except OSError as error:
        raise MemoryError(f"no memory for {workers} threads: raise the limit (ulimit -v) or free some") from error
    return ThreadPoolExecutor(workers, thread_name_prefix=name)


class OrderedQueue(Generic[Result]):
    """
    Calls functions in threads and returns their results in the order in which they were submitted.

    At most `ahead` calls are under way or wait to be taken, so that memory holds few results. An error or an interrupt
    in the `with` block cancels the calls that have not begun.
    """

    def __init__(self, workers: int, ahead: int, name: str) -> None:
        self._ahead = ahead
        self._jobs: deque[Future[Result]] = deque()
        self._pool = thread_pool(workers, f"ndzarr-{name}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)

    def submit(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Iterator[Result]:
        """
        Begin a call; return the results to take before the next call.

        They are the finished ones at the head of the queue, and those to wait for because too many are ahead.
        """
        self._jobs.append(self._pool.submit(function, *args, **kwargs))
        return self._due()

    def _due(self) -> Iterator[Result]:
        while self._jobs and (len(self._jobs) > self._ahead or self._jobs[0].done()):
            yield self._jobs.popleft().result()

    def finish(self) -> Iterator[Result]:
        """Return all results that are left."""
        while self._jobs:
            yield self._jobs.popleft().result()


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int | None = None, name: str = "map"
) -> Iterator[Result]:
    """
    Call a function of each item in threads; yield the results in the order of the items.

    Items are taken one by one as calls finish. With one worker, the calling thread does it all. `ahead` results may
    wait beyond the next one, by default twice as many as there are threads.
    """
    if workers == 1:
        yield from map(function, items)
        return
    with OrderedQueue[Result](workers, 2 * workers if ahead is None else ahead, name) as queue:
        for item in items:
            yield from queue.submit(function, item)
        yield from queue.finish()


class Stopped(Exception):
    """The batch was given up while this task ran; nobody gets to see it."""


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What a running task is given."""

    stop: Event
    """Set once the batch is given up."""
    threads: int
    """Number of threads that the task may encode with."""

    def check(self) -> None:
        """Raise `Stopped` if the batch has been given up; a task calls this between its steps."""
        if self.stop.is_set():
            raise Stopped


@dataclass(frozen=True, slots=True)
class Task:
    """One source of a batch."""

    name: str
    """Name of the source in failures."""
    work: Callable[[TaskContext], object]


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that could not be used."""

    source: str
    """Its path as it was given."""
    error: NdzarrError

    def __str__(self) -> str:
        message = " ".join(str(self.error).split())
        return message if self.source in message else f"{self.source}: {message}"


class BatchError(SourceError):
    """Some sources of a batch could not be used; all others are done."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        super().__init__(failures)
        self.failures = tuple(failures)
        """What is wrong with each, in the order of the sources."""

    def __str__(self) -> str:
        n = len(self.failures)
        head = f"{n} source{'s' * (n > 1)} could not be used; all others are done:"
        return "\n  ".join([head, *map(str, self.failures)])


def run_tasks(
    tasks: Sequence[Task],
    workers: int | None = None,
    advance: Callable[[], object] = lambda: None,
    most: int | None = None,
) -> list[Failure]:
    """
    Do all tasks, as many at a time as there are threads; return those that raised an `NdzarrError`, in order.

    The threads that are left over (of `workers`, by default the number of CPUs) encode. `advance` is called after each
    task. An interrupt stops every task at its next `TaskContext.check`, so that each removes what it had begun. At most
    `most` tasks are done at a time.
    """
    workers = workers or available_cpus()
    together = max(1, min(workers, len(tasks), workers if most is None else most))
    context = TaskContext(Event(), max(1, workers // together))
    failed: dict[int, NdzarrError] = {}
    unexpected: Exception | None = None
    pool = thread_pool(together, "ndzarr-batch")
    try:
        jobs: dict[Future[object], int] = {pool.submit(t.work, context): i for i, t in enumerate(tasks)}
        for job in as_completed(jobs):
            error = job.exception()
            if isinstance(error, NdzarrError) and not isinstance(error, WriteError):
                failed[jobs[job]] = error
            elif isinstance(error, Exception) and not isinstance(error, WriteError):
                error.add_note(f"while working on {tasks[jobs[job]].name}")
                unexpected = unexpected or error
            elif error is not None:
                raise error
            advance()
    finally:
        context.stop.set()
        pool.shutdown(cancel_futures=True)
    if unexpected is not None:
        raise unexpected
    return [Failure(tasks[i].name, failed[i]) for i in sorted(failed)]
