"""
Executors of tasks: threads and processes of this machine, or the workers of a dask.distributed cluster.

1. A *task* is a function without arguments that pickles to little: names, numbers and options, never pixels.  It writes
   what it makes where it belongs, and returns a small result.
2. A *job* is a generator in the calling process: it yields the tasks that may run together, and is sent their results.
   It holds locks and publishes, so that everything it began ends with it.
3. `run_jobs` runs many jobs at once.  A task whose worker was lost is done again.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from multiprocessing import parent_process
from threading import Thread
from typing import Any, Protocol, TypeAlias

from ndzarr._concurrency import available_cpus, thread_pool
from ndzarr._validation import check_count
from ndzarr.errors import NdzarrError, OptionError, WriteError, did_you_mean

Scheduler: TypeAlias = Any
"""'threads', 'processes', the address of a dask scheduler, or a `distributed.Client`."""

Task: TypeAlias = Callable[[], Any]
Job: TypeAlias = Generator[Sequence[Task], list[Any], None]

LOCAL = ("threads", "processes")
RETRIES = 3
"""Number of times that dask repeats a task whose worker was lost."""


class WorkerError(NdzarrError, RuntimeError):
    """A worker process died, or cannot run tasks."""


class LostError(WorkerError):
    """The scheduler is gone, and all workers with it."""


class Pool(Protocol):
    """Workers."""

    workers: int
    """Number of tasks that run at a time."""

    def submit(self, task: Task) -> Any:
        """Begin a task; return its future."""

    def completed(self) -> Iterator[Any]:
        """Yield futures as they finish, also of tasks that are submitted meanwhile; end when none is left."""

    def result(self, future: Any) -> Any:
        """Return what a task returned, or raise what it raised."""

    def cancel(self, futures: Sequence[Any]) -> None:
        """Begin none of these any more."""


def checked(scheduler: Scheduler, workers: int | None) -> None:
    """Raise `OptionError` for an unknown scheduler, or a wrong number of workers."""
    if workers is not None:
        check_count("workers", workers)
    if isinstance(scheduler, str) and scheduler in LOCAL:
        return
    address = isinstance(scheduler, str) and ("://" in scheduler or scheduler.count(":") == 1)
    if address or (hasattr(scheduler, "submit") and hasattr(scheduler, "nthreads")):
        if workers is not None:
            message = f"workers={workers}: a dask cluster has the workers that it has"
            raise OptionError(message, key="workers", hint="Leave it out")
        return
    known = did_you_mean(scheduler, LOCAL) if isinstance(scheduler, str) else ""
    raise OptionError(
        f"scheduler={scheduler!r}: expected 'threads', 'processes', the address of a dask scheduler or a "
        f"distributed.Client{known}",
        key="scheduler",
    )


@contextmanager
def working(scheduler: Scheduler, workers: int | None = None, less: str = "fewer workers") -> Iterator[Pool]:
    """Yield workers; `less` says in errors what takes less memory."""
    if isinstance(scheduler, str) and scheduler in LOCAL:
        with _explained(less), _local(scheduler, workers or available_cpus()) as pool:
            yield pool
    else:
        with _connected(scheduler) if isinstance(scheduler, str) else nullcontext(scheduler) as client:
            yield _Cluster(client, less)


def results(pool: Pool, tasks: Sequence[Task]) -> Iterator[Any]:
    """Run tasks; yield what each returns, as they finish."""
    futures = [pool.submit(task) for task in tasks]
    try:
        for future in pool.completed():
            yield pool.result(future)
    finally:
        pool.cancel(futures)


def run_jobs(
    pool: Pool,
    jobs: Sequence[Job],
    advance: Callable[[Any], object] = lambda result: None,
    begun: Callable[[int], object] = lambda tasks: None,
) -> dict[int, NdzarrError]:
    """
    Run all jobs; return what those raised that failed, by their number.

    `advance` is called with the result of each task, `begun` with the number of tasks that were submitted.  A
    `WriteError`, a `LostError`, and whatever is not an `NdzarrError`, ends all of them.
    """
    return _Running(pool, jobs, advance, begun).run()


class _Running:
    """The jobs of a call of `run_jobs`."""

    def __init__(
        self, pool: Pool, jobs: Sequence[Job], advance: Callable[[Any], object], begun: Callable[[int], object]
    ) -> None:
        self._pool, self._jobs, self._advance, self._begun = pool, jobs, advance, begun
        self._places: dict[Any, tuple[int, int]] = {}
        self._results: dict[int, list[Any]] = {}
        self._left: dict[int, int] = {}
        self._failed: dict[int, NdzarrError] = {}

    def run(self) -> dict[int, NdzarrError]:
        try:
            for i in range(len(self._jobs)):
                self._step(i, None)
            for future in self._pool.completed():
                self._take(future)
        finally:
            self._pool.cancel(list(self._places))
            for job in self._jobs:
                job.close()
        return self._failed

    def _step(self, i: int, results: list[Any] | None) -> None:
        """Let a job go on, and submit what it yields."""
        tasks: Sequence[Task] = ()
        while not tasks:
            try:
                tasks = self._jobs[i].send(results)  # type: ignore[arg-type]
            except StopIteration:
                return
            except (WriteError, LostError):
                raise
            except NdzarrError as error:
                self._failed[i] = error
                return
            results = []
        self._begun(len(tasks))
        self._results[i], self._left[i] = [None] * len(tasks), len(tasks)
        for k, task in enumerate(tasks):
            self._places[self._pool.submit(task)] = i, k

    def _take(self, future: Any) -> None:
        i, k = self._places.pop(future)
        if i in self._failed:
            return
        try:
            result = self._pool.result(future)
        except (WriteError, LostError):
            raise
        except NdzarrError as error:
            self._failed[i] = error
            self._jobs[i].close()
            self._pool.cancel([other for other, (job, _) in self._places.items() if job == i])
            return
        self._advance(result)
        self._results[i][k] = result
        self._left[i] -= 1
        if not self._left[i]:
            self._step(i, self._results.pop(i))


class _Local:
    """Threads or processes of this machine."""

    def __init__(self, executor: Executor, workers: int) -> None:
        self.workers = workers
        self._executor = executor
        self._futures: set[Future[Any]] = set()

    def submit(self, task: Task) -> Future[Any]:
        future = self._executor.submit(task)
        self._futures.add(future)
        return future

    def completed(self) -> Iterator[Future[Any]]:
        while self._futures:
            done, _ = wait(self._futures, return_when=FIRST_COMPLETED)
            self._futures -= done
            yield from (future for future in done if not future.cancelled())

    def result(self, future: Future[Any]) -> Any:
        return future.result()

    def cancel(self, futures: Sequence[Future[Any]]) -> None:
        for future in futures:
            future.cancel()


class _Inline:
    """The calling thread, which does one task after another."""

    workers = 1

    def __init__(self) -> None:
        self._tasks: list[Task] = []

    def submit(self, task: Task) -> Task:
        self._tasks.append(task)
        return task

    def completed(self) -> Iterator[Task]:
        while self._tasks:
            yield self._tasks.pop(0)

    def result(self, task: Task) -> Any:
        return task()

    def cancel(self, tasks: Sequence[Task]) -> None:
        self._tasks = [task for task in self._tasks if task not in tasks]


@contextmanager
def _local(kind: str, workers: int) -> Iterator[Pool]:
    executor: Executor
    if workers == 1 and kind == "threads":
        yield _Inline()
        return
    if kind == "processes":
        executor = ProcessPoolExecutor(workers, initializer=_begin)
    else:
        executor = thread_pool(workers, "ndzarr-task")
    try:
        yield _Local(executor, workers)
    finally:
        executor.shutdown(cancel_futures=True)


class _Cluster:
    """Workers of dask.distributed, which does the tasks of those that are lost again."""

    def __init__(self, client: Any, less: str) -> None:
        import distributed

        self.workers = max(1, sum(client.nthreads().values()))
        self._client, self._less = client, less
        self._futures: set[Any] = set()
        self._completed = distributed.as_completed(loop=client.loop)
        self._killed = distributed.KilledWorker, MemoryError

    def submit(self, task: Task) -> Any:
        future = self._client.submit(task, pure=False, retries=RETRIES)
        self._futures.add(future)
        self._completed.add(future)
        return future

    def completed(self) -> Iterator[Any]:
        for future in self._completed:
            if future in self._futures:
                self._futures.discard(future)
                yield future

    def result(self, future: Any) -> Any:
        try:
            return future.result()
        except self._killed as error:
            raise WorkerError(
                f"workers of the cluster died again and again at the same task (out of memory?); {_KEPT}",
                hint=f"Run the same call again, perhaps with {self._less} or workers with more memory",
            ) from error
        except CancelledError as error:
            message = f"the dask scheduler was lost, or the client was closed; {_KEPT}"
            raise LostError(message, hint="Run the same call again") from error
        except ImportError as error:
            message = f"a worker of the cluster cannot run the tasks of ndzarr ({error})"
            raise LostError(message, hint="Install the same version of ndzarr on all workers") from error

    def cancel(self, futures: Sequence[Any]) -> None:
        self._futures.difference_update(futures)
        if futures:
            self._client.cancel(list(futures))


def _connected(address: str) -> Any:
    """A client of a scheduler, which closes with its block."""
    try:
        import distributed
    except ImportError:
        message = f"scheduler={address!r} needs dask.distributed"
        raise OptionError(message, key="scheduler", hint="Run pip install distributed") from None
    client = distributed.Client.__new__(distributed.Client)
    try:
        distributed.Client.__init__(client, address, set_as_default=False)
        return client
    except (OSError, ValueError) as error:
        # Else the garbage collector closes it, and waits for ever if it comes while another client starts: both need
        # the same lock of distributed, in one thread.
        distributed.Client.__del__(client)
        raise OptionError(
            f"scheduler={address!r}: no dask scheduler answers there ({error})",
            key="scheduler",
            hint="Give the address that `dask scheduler` shows, or 'processes' for this machine",
        ) from error


_KEPT = "what is finished is kept"


@contextmanager
def _explained(less: str) -> Iterator[None]:
    """Raise what a lack of memory does to workers as errors that say what to do."""
    hint = f"Run the same call again, perhaps with {less}: it goes on from there"
    try:
        yield
    except BrokenProcessPool as error:
        raise WorkerError(f"a worker process was killed (out of memory?); {_KEPT}", hint=hint) from error
    except MemoryError as error:
        raise WorkerError(f"a worker found no more memory ({error}); {_KEPT}", hint=hint) from error
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        raise WorkerError(f"no more threads can be started; {_KEPT}", hint=hint) from error


def _begin() -> None:
    """Initialise a worker process."""
    gc.freeze()  # inherited objects are never garbage
    Thread(target=_end_with_parent, name="ndzarr-task-parent", daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that began it was killed, which would leave it waiting for tasks forever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
