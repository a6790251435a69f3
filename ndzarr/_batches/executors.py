"""Executors of the tasks of an extraction: threads, processes, or a dask.distributed cluster.

A task is a directory and a number.  Nothing else is sent, and only the number of samples comes back.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from functools import partial
from multiprocessing import parent_process
from threading import Thread
from typing import Any, TypeAlias

from ndzarr._concurrency import available_cpus, thread_pool
from ndzarr._validation import check_count
from ndzarr.errors import NdzarrError, OptionError, did_you_mean

Scheduler: TypeAlias = Any
"""'threads', 'processes', the address of a dask scheduler, or a `distributed.Client`."""

Task: TypeAlias = Callable[[str, int], int]
Run: TypeAlias = Callable[[Task, str, Sequence[int]], Iterator[int]]
"""Runs a task for a directory and each number; yields what each returns, as they finish."""

LOCAL = ("threads", "processes")
RETRIES = 3
"""Number of times that dask repeats a task whose worker was lost."""


class WorkerError(NdzarrError, RuntimeError):
    """A worker process died."""


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
def working(scheduler: Scheduler, workers: int | None) -> Iterator[tuple[int, Run]]:
    """Yield the number of workers, and a function that runs tasks on them."""
    if isinstance(scheduler, str) and scheduler in LOCAL:
        n = workers or available_cpus()
        yield n, partial(_run_here, scheduler, n)
    else:
        with _connected(scheduler) if isinstance(scheduler, str) else nullcontext(scheduler) as client:
            yield max(1, sum(client.nthreads().values())), partial(_run_on_cluster, client)


def _connected(address: str) -> Any:
    """A client of a scheduler, which closes with its block."""
    try:
        import distributed
    except ImportError:
        message = f"scheduler={address!r} needs dask.distributed"
        raise OptionError(message, key="scheduler", hint="Run pip install distributed") from None
    try:
        return distributed.Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise OptionError(
            f"scheduler={address!r}: no dask scheduler answers there ({error})",
            key="scheduler",
            hint="Give the address that `dask scheduler` shows, or 'processes' for this machine",
        ) from error


def _run_here(kind: str, n: int, task: Task, folder: str, numbers: Sequence[int]) -> Iterator[int]:
    """Run tasks in n threads or processes of this machine."""
    with _explained():
        if n == 1 and kind == "threads":
            yield from (task(folder, k) for k in numbers)
            return
        pool: Executor = (
            ProcessPoolExecutor(n, initializer=_begin) if kind == "processes" else thread_pool(n, "ndzarr-extract")
        )
        try:
            jobs: list[Future[int]] = [pool.submit(task, folder, k) for k in numbers]
            for job in as_completed(jobs):
                yield job.result()
        finally:
            pool.shutdown(cancel_futures=True)


_KEPT = "what is finished is kept"
_AGAIN = "Run the same call again, perhaps with fewer workers or a smaller shard=: it goes on from there"


@contextmanager
def _explained() -> Iterator[None]:
    """Raise what a lack of memory does to workers as errors that say what to do."""
    try:
        yield
    except BrokenProcessPool as error:
        raise WorkerError(f"a worker process was killed (out of memory?); {_KEPT}", hint=_AGAIN) from error
    except MemoryError as error:
        raise WorkerError(f"a worker found no more memory ({error}); {_KEPT}", hint=_AGAIN) from error
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        raise WorkerError(f"no more threads can be started; {_KEPT}", hint=_AGAIN) from error


def _begin() -> None:
    """Initialise a worker process."""
    gc.freeze()  # inherited objects are never garbage
    Thread(target=_end_with_parent, name="ndzarr-extract-parent", daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that began it was killed, which would leave it waiting for tasks forever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_on_cluster(client: Any, task: Task, folder: str, numbers: Sequence[int]) -> Iterator[int]:
    """Run tasks on workers of dask.distributed; those of a worker that is lost are done again."""
    import distributed

    jobs = [client.submit(task, folder, k, pure=False, retries=RETRIES) for k in numbers]
    try:
        for job in distributed.as_completed(jobs, loop=client.loop):
            yield job.result()
    except (distributed.KilledWorker, MemoryError) as error:
        raise WorkerError(
            f"workers of the cluster died again and again at the same shard (out of memory?); {_KEPT}",
            hint="Run the same call again, perhaps with a smaller shard= or workers with more memory",
        ) from error
    finally:
        client.cancel(jobs)
