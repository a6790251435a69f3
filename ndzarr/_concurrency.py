"""How are many sources transcoded together, so that a bad one costs nothing but itself?

Sources are shared out among threads.  Decoders, encoders and the file system run outside Python's lock, so processes
were not faster where it was measured (2 processors; many small JPEGs, a few large TIFFs), and threads need neither
pickling nor a guarded `__main__`.

1. Each task takes its turn; as many run at once as there are processors, and what is left of those encode.
2. A source that cannot be used becomes a `Failure`; the others go on.  A disk that cannot be written stops the batch.
3. An interrupt stops every task at its next read, so that what it had begun is removed before the interrupt goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any, TypeVar, cast

import numpy as np

from ndzarr.errors import NdzarrError, SourceError, WriteError

T = TypeVar("T")


class Stopped(Exception):
    """The batch was given up while this task ran; nobody gets to see it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a running task is given."""

    stop: Event
    """Set once the batch is given up."""
    threads: int
    """How many threads it may encode with."""

    def check(self) -> None:
        """Raise `Stopped` if the batch has been given up."""
        if self.stop.is_set():
            raise Stopped

    def guard(self, source: T) -> T:
        """The source, which raises `Stopped` at the next read once the batch is given up."""
        return cast(T, _Guarded(source, self))


@dataclass(frozen=True, slots=True)
class Task:
    """One source of a batch."""

    name: str
    """What failures call it."""
    work: Callable[[Turn], object]
    """Does it; what it returns is dropped."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that could not be used."""

    source: str
    """Its path as it was given."""
    error: NdzarrError
    """What is wrong with it."""

    def __str__(self) -> str:
        """One line: the file, what is wrong, what to do."""
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
    tasks: Sequence[Task], workers: int | None = None, progress: bool = False, doing: str = "transcoding"
) -> list[Failure]:
    """
    Do all tasks.

    Parameters
    ----------
    workers
        Number of threads in all; the number of processors if left out.
    progress
        Show a bar of tasks, once they take longer than a second.
    doing
        What the bar calls it.

    Returns
    -------
    The tasks that raised an `NdzarrError`, in order.

    Raises
    ------
    WriteError
        The destination cannot be written; tasks not begun yet are left undone.
    Exception
        Any other error of a task, with a note of its name, after all others are done.
    """
    workers = workers or available_cpus()
    together = max(1, min(workers, len(tasks)))
    turn = Turn(Event(), max(1, workers // together))
    failed: dict[int, NdzarrError] = {}
    surprise: Exception | None = None
    pool = ThreadPoolExecutor(together, thread_name_prefix="ndzarr-batch")
    with _bar(len(tasks), progress, doing) as advance:
        try:
            jobs: dict[Future[object], int] = {pool.submit(t.work, turn): i for i, t in enumerate(tasks)}
            for job in as_completed(jobs):
                error = job.exception()
                if isinstance(error, NdzarrError) and not isinstance(error, WriteError):
                    failed[jobs[job]] = error
                elif isinstance(error, Exception) and not isinstance(error, WriteError):
                    error.add_note(f"while working on {tasks[jobs[job]].name}")
                    surprise = surprise or error
                elif error is not None:
                    raise error
                advance()
        finally:
            turn.stop.set()
            pool.shutdown(cancel_futures=True)
    if surprise is not None:
        raise surprise
    return [Failure(tasks[i].name, failed[i]) for i in sorted(failed)]


def available_cpus() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Guarded:
    """A source whose reads end once its batch has been given up."""

    def __init__(self, source: Any, turn: Turn) -> None:
        self._source = source
        self._turn = turn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, window: Mapping[str, slice]) -> np.ndarray[Any, Any]:
        """Read a window; see `Source.read`."""
        self._turn.check()
        return cast("np.ndarray[Any, Any]", self._source.read(window))

    def blocks(self, length: int) -> Iterator[np.ndarray[Any, Any]]:
        """The frames of a video; see `streaming.Stream`."""
        for block in self._source.blocks(length):
            self._turn.check()
            yield block


@contextmanager
def _bar(total: int, progress: bool, doing: str) -> Iterator[Callable[[], object]]:
    """What is called after each task; makes no lock and no thread unless there is something to show."""
    if not progress:
        yield lambda: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, unit="source", desc=doing, delay=1) as bar:
        yield bar.update


# --- Which threads decode and resample?


PROCESSORS = os.cpu_count() or 1
"""Asked once: the answer costs as much as decoding a chunk."""

_pool: ThreadPoolExecutor | None = None


def pool() -> ThreadPoolExecutor:
    """The threads, one fewer than there are processors, but at least one."""
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max(1, PROCESSORS - 1), thread_name_prefix="ndzarr")
    return _pool


def _forget() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
