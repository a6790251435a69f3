"""Running the jobs of a command: a single one, or a batch of which the bad ones are listed at the end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import click

from ndzarr import _executors as executors
from ndzarr._concurrency import Failure, Task, run_tasks
from ndzarr._executors import Job as Steps
from ndzarr._executors import Scheduler, checked, working
from ndzarr._files import explained, most_writers
from ndzarr._progress import progress_bar
from ndzarr._remote.urls import is_url
from ndzarr._store.buckets import ROOT
from ndzarr._store.destinations import destination
from ndzarr.errors import NdzarrError


@dataclass(frozen=True, slots=True)
class Job:
    """A store or file to write."""

    source: str | list[str]
    """What it is made from, as it was named; several files become one store."""
    dest: Path | str
    """A path, or a URL."""
    within: bool
    """True if `dest` is in the directory that was named, which is made if it does not exist."""
    image: bool = False
    """True if the source is an image file that is transcoded first."""

    def make_folder(self) -> None:
        """Make the directory of the destination if `within`."""
        if self.within and not is_url(self.dest):
            dest = Path(os.path.abspath(self.dest))
            with explained(dest):
                dest.parent.mkdir(parents=True, exist_ok=True)

    @property
    def exists(self) -> bool:
        """True if there is something at `dest`."""
        place = destination(self.dest)
        return os.path.lexists(place) if isinstance(place, Path) else place.store.exists(place.key(ROOT))


Write: TypeAlias = Callable[..., None]
"""`write(job, workers=, progress=, check=)` writes a job; `check` is called between steps, and gives up by raising."""


def run_jobs(
    jobs: Sequence[Job], write: Write, *, skip_existing: bool, workers: int | None, quiet: bool, doing: str, noun: str
) -> None:
    """
    Write all jobs, print a summary and the failures of a batch; exit with 1 if there were any.

    `workers` is the number of threads in all; `doing` names the progress bar; `noun` is a plural, such as 'stores'.
    """

    def run(todo: Sequence[Job], progress: bool) -> list[Failure]:
        if len(jobs) == 1:
            for job in todo:
                write(job, workers=workers, progress=progress)
            return []
        with progress_bar(len(todo), doing, "source", progress) as advance:
            return run_tasks([_task(job, write) for job in todo], workers, advance, most_writers())

    _conclude(jobs, run, skip_existing, quiet, noun)


def run_jobs_on(
    scheduler: Scheduler,
    jobs: Sequence[Job],
    steps: Callable[[Job], Steps],
    *,
    skip_existing: bool,
    workers: int | None,
    quiet: bool,
    doing: str,
    noun: str,
) -> None:
    """Do what `run_jobs` does by the workers of a scheduler; `steps` returns the tasks of a job."""

    def run(todo: Sequence[Job], progress: bool) -> list[Failure]:
        with (
            working(scheduler, workers) as pool,
            progress_bar(0, doing, "task", progress) as advance,
        ):
            made = [steps(job) for job in todo]
            failed = executors.run_jobs(pool, made, lambda _: advance(), lambda tasks: advance(0, more=tasks))
        if len(jobs) == 1:
            for error in failed.values():
                raise error
        return [Failure(str(todo[i].source), failed[i]) for i in sorted(failed)]

    checked(scheduler, workers)
    _conclude(jobs, run, skip_existing, quiet, noun)


def _conclude(
    jobs: Sequence[Job],
    run: Callable[[Sequence[Job], bool], list[Failure]],
    skip_existing: bool,
    quiet: bool,
    noun: str,
) -> None:
    """Run the jobs that are still to be done, print what became of them, and exit with 1 if some failed."""
    todo = [job for job in jobs if not (skip_existing and job.exists)]
    failures = run(todo, not quiet and sys.stderr.isatty())
    if len(jobs) == 1:
        summary = f"wrote {jobs[0].dest}" if todo else f"left {jobs[0].dest} as it was"
    else:
        skipped = f", left {len(jobs) - len(todo)} as they were" if len(todo) < len(jobs) else ""
        summary = f"wrote {len(todo) - len(failures)} of {len(jobs)} {noun}{skipped}"
    if not quiet:
        click.echo(summary)
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    if failures:
        sys.exit(1)


def _task(job: Job, write: Write) -> Task:
    return Task(str(job.source), lambda context: write(job, workers=context.threads, check=context.check))


class Report(Protocol):
    """What a check of a file found: a dataclass, printed by `str`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""


def print_reports(paths: Sequence[str], check: Callable[[str], Report], quiet: bool, as_json: bool = False) -> None:
    """Check files and print what was found, if `quiet` only what is wrong; exit with 1 if anything is."""
    ok = True
    found: list[dict[str, Any]] = []
    for path in paths:
        try:
            report = check(path)
        except NdzarrError as error:
            if as_json:
                found.append({"path": path, "ok": False, "error": str(error)})
            else:
                click.echo(f"Error: {error}", err=True)
            ok = False
            continue
        ok &= report.ok
        if as_json:
            found.append({"ok": report.ok, **asdict(report)})
        elif not (quiet and report.ok):
            click.echo(report)
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
    if not ok:
        sys.exit(1)
