"""
Jobs whose parts are done in parallel, anywhere, and which are resumed where they were broken off.

A job pickles.  It is written to where its parts come together (`_store.destinations`), so that tasks hold the number of
a part alone.  What is done stays done.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

from ndzarr._executors import Job as Steps
from ndzarr._executors import Scheduler, run_jobs, working
from ndzarr._files import replacing
from ndzarr._progress import progress_bar
from ndzarr._store.destinations import Shared, SharedBucket, SharedFolder
from ndzarr.errors import MissingError, WriteError
from ndzarr.targets.table import Rows

JOB = "job.pickle"


class PartsJob(Protocol):
    """A job of numbered parts; samples of a part are neighbours in its targets, and all parts have as many."""

    @property
    def samples(self) -> int:
        """Number of samples of all parts."""

    @property
    def per_part(self) -> int:
        """Samples of a part; the last one may have fewer."""

    def do(self, shared: Shared, number: int) -> int:
        """Do a part; return how many samples it has."""

    def announcement(self, todo: int, workers: int) -> str:
        """Return what is shown before `todo` parts are done."""


def run_parts(
    job: PartsJob, shared: Shared, name: str, less: str, scheduler: Scheduler, workers: int | None, progress: bool
) -> None:
    """Do the parts of a job that are not there yet; `name` heads the bar, `less` says what takes less memory."""
    digest = _write_job(shared, job)
    try:
        there, n, total = shared.done(), job.per_part, job.samples
        todo = [k for k in range(-(-total // n)) if str(k) not in there]
        if not todo:
            return
        with working(scheduler, workers, less) as pool:
            if progress:
                print(job.announcement(len(todo), min(pool.workers, len(todo))), file=sys.stderr, flush=True)
            before = total - sum(min(n, total - k * n) for k in todo)
            with progress_bar(total, name, "sample", progress, before) as advance:
                for error in run_jobs(pool, [_steps(shared, digest, todo)], advance).values():
                    raise error
    finally:
        _JOBS.pop(shared, None)


def _steps(shared: Shared, digest: str, todo: Sequence[int]) -> Steps:
    tasks: list[Callable[[], Any]] = [partial(run_part, shared, digest, k) for k in todo]
    yield tasks


def refuse_foreign(folder: Path) -> None:
    """
    Raise `WriteError` if somebody else may write to the directory of a job.

    Loading a pickle runs what it says, so that whoever may replace the job's might run anything.
    """
    if os.name != "posix":
        return
    found = os.lstat(folder)
    if found.st_uid not in (os.geteuid(), 0) or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
        message = f"{folder}: others may write to this directory, in which a job is prepared"
        raise WriteError(message, path=str(folder), hint="Remove it, or choose another directory")


def _write_job(shared: Shared, job: PartsJob) -> str:
    """Write a job to where its parts come together; return its digest."""
    content = pickle.dumps(job)
    if isinstance(shared, SharedFolder):
        with replacing(Path(shared.folder) / JOB) as work:
            work.write_bytes(content)
    elif isinstance(shared, SharedBucket):
        shared.put(JOB, content)
    _JOBS[shared] = job
    return hashlib.sha256(content).hexdigest()


_JOBS: dict[Shared, PartsJob] = {}
"""Jobs that this process itself began: its threads need no copy."""


@lru_cache(maxsize=1)
def _stored(shared: Shared, digest: str) -> PartsJob:
    """Return the job of a digest; raise `WriteError` if somebody replaced it."""
    if isinstance(shared, SharedFolder):
        refuse_foreign(Path(shared.folder))
        content = (Path(shared.folder) / JOB).read_bytes()
    else:
        assert isinstance(shared, SharedBucket)
        content = shared.get(JOB)
    if hashlib.sha256(content).hexdigest() != digest:
        message = f"{shown(shared)}: its job was replaced"
        raise WriteError(message, path=shown(shared), hint="Run the same call again")
    job: PartsJob = pickle.loads(content)
    return job


def run_part(shared: Shared, digest: str, number: int) -> int:
    """The task: do a part of the job; returns how many samples it has."""
    job = _JOBS.get(shared)
    if job is None:
        try:
            job = _stored(shared, digest)
        except FileNotFoundError:
            raise MissingError(
                f"{shown(shared)}: this worker does not see the destination of the job",
                path=shown(shared),
                hint="Give all workers a file system in common with the process that made the call",
            ) from None
    return job.do(shared, number)


def shown(shared: Shared) -> str:
    """Return where parts come together, for messages."""
    return shared.folder if isinstance(shared, SharedFolder) else str(getattr(shared, "url", shared))


def identities(files: Iterator[str]) -> list[tuple[str, int, int]]:
    """Path, size and time of modification of files (of a store, its metadata); without those that are not there."""
    out = []
    for path in dict.fromkeys(files):
        name = os.path.join(path, "zarr.json") if os.path.isdir(path) else path
        if os.path.exists(name):
            status = os.stat(name)
            out.append((path, status.st_size, status.st_mtime_ns))
    return out


def images_of(rows: Rows) -> list[Any] | None:
    """Images that a table names; None if only resolving its rows would tell."""
    if rows.frame is None or "gid" not in rows.frame or rows.frame["gid"].isna().any():
        return None
    return list(rows.frame["gid"].unique().tolist())
