"""Running the jobs of a command: a single one, or a batch of which the bad ones are listed at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import click

from ndzarr._concurrency import Failure, Task, run_tasks
from ndzarr._files import explained, most_writers
from ndzarr._progress import progress_bar
from ndzarr.errors import NdzarrError


@dataclass(frozen=True, slots=True)
class Job:
    """A store or file to write."""

    source: str | list[str]
    """What it is made from, as it was named; several files become one store."""
    dest: Path
    within: bool
    """True if `dest` is in the directory that was named, which is made if it does not exist."""
    image: bool = False
    """True if the source is an image file that is transcoded first."""

    def make_folder(self) -> None:
        """Make the directory of the destination if `within`."""
        if self.within:
            dest = Path(os.path.abspath(self.dest))
            with explained(dest):
                dest.parent.mkdir(parents=True, exist_ok=True)


Write: TypeAlias = Callable[..., None]
"""`write(job, workers=, progress=, check=)` writes a job; `check` is called between steps, and gives up by raising."""


def run_jobs(
    jobs: Sequence[Job], write: Write, *, skip_existing: bool, workers: int | None, quiet: bool, doing: str, noun: str
) -> None:
    """
    Write all jobs, print a summary and the failures of a batch; exit with 1 if there were any.

    `workers` is the number of threads in all; `doing` names the progress bar; `noun` is a plural, such as 'stores'.
    """
    todo = [job for job in jobs if not (skip_existing and os.path.lexists(job.dest))]
    progress = not quiet and sys.stderr.isatty()
    failures: list[Failure] = []
    if len(jobs) == 1:
        for job in todo:
            write(job, workers=workers, progress=progress)
        summary = f"wrote {jobs[0].dest}" if todo else f"left {jobs[0].dest} as it was"
    else:
        with progress_bar(len(todo), doing, "source", progress) as advance:
            failures = run_tasks([_task(job, write) for job in todo], workers, advance, most_writers())
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
    """What a check of a file found; printed by `str`."""

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""


def print_reports(paths: Sequence[str], check: Callable[[str], Report], quiet: bool) -> None:
    """Check files and print what was found, if `quiet` only what is wrong; exit with 1 if anything is."""
    ok = True
    for path in paths:
        try:
            report = check(path)
        except NdzarrError as error:
            click.echo(f"Error: {error}", err=True)
            ok = False
            continue
        ok &= report.ok
        if not (quiet and report.ok):
            click.echo(report)
    if not ok:
        sys.exit(1)
