"""How are cloud optimized GeoTIFFs written and checked from a shell?"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from ndzarr._concurrency import Failure, Task, TaskContext, run_tasks
from ndzarr._export.cog_pixels import CODES, PREDICTORS
from ndzarr._files import PARTIAL, explained, local_path, refuse_existing_file
from ndzarr._store.presets import KINDS
from ndzarr.cli.options import names, tell_notes
from ndzarr.errors import NdzarrError


@dataclass(frozen=True, slots=True)
class Job:
    """A file to be written."""

    source: str
    """A pyramid, or an image file."""
    image: bool
    """True for an image file, that is transcoded first."""
    dest: Path
    within: bool
    """True if it goes into a directory, which is to be made."""


@click.command(
    epilog="""\b
Examples:
  One pyramid, to be put on the web:
    ndzarr cog scene.zarr -o scene.tif --compression zstd
  All pyramids of a directory, several at a time:
    ndzarr cog pyramids/*.zarr -o cogs/
  An image file, through a pyramid that is not kept, smaller and lossy:
    ndzarr cog --from-image scan.png -o scan.tif --compression jpeg --quality 85
  Is this file cloud optimized, and if not, why?
    ndzarr cog --validate scene.tif
"""
)
@click.argument("stores", metavar="[STORE]...", nargs=-1)
@click.option("-o", "--output", "dest", metavar="DEST", help="File to make; for several, a directory.")
@click.option("--from-image", "images", metavar="SRC", multiple=True, help="Transcode SRC first; may be repeated.")
@click.option(
    "--kind", type=click.Choice(KINDS), default="intensity", show_default=True, help="What pixels of SRC mean."
)
@click.option("--validate", is_flag=True, help="Check files instead of writing them.")
@click.option(
    "--compression", type=click.Choice(list(CODES)), default="deflate", show_default=True, help="How tiles are stored."
)
@click.option(
    "--predictor", type=click.Choice(["auto", *PREDICTORS]), default="auto", show_default=True, help="What precedes it."
)
@click.option("--level", type=int, metavar="N", help="How hard deflate (1 to 12) and zstd (1 to 22) try.")
@click.option("--quality", type=int, metavar="N", help="Of jpeg and webp, 1 to 100 [default: 75].")
@click.option("--max-error", type=float, default=0.0, metavar="E", help="How far lerc may be off [default: 0].")
@click.option("--blocksize", type=int, default=512, show_default=True, help="Height and width of tiles.")
@click.option("--overviews/--no-overviews", default=True, help="Write the coarser levels, too (default).")
@click.option("--bigtiff", type=click.Choice(["auto", "yes", "no"]), default="auto", show_default=True)
@click.option("--nodata", type=float, help="Value of pixels that hold no data.")
@click.option("--mask", type=click.Choice(["none", "data", "alpha"]), default="none", help="Write an internal mask.")
@click.option("--channels", type=names, metavar="NAME,...", help="Channels to export, such as r,g,b.")
@click.option("--t", type=int, metavar="N", help="Which frame, where there are several.")
@click.option("--z", type=int, metavar="N", help="Which plane, where there are several.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist, once the new ones are complete.")
@click.option("--skip-existing", is_flag=True, help="Leave files that exist as they are: go on after an interrupt.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Threads; default: one per processor.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    stores: tuple[str, ...],
    dest: str | None,
    images: tuple[str, ...],
    kind: str,
    validate: bool,
    overwrite: bool,
    skip_existing: bool,
    workers: int | None,
    quiet: bool,
    bigtiff: str,
    mask: str,
    **options: Any,
) -> None:
    """
    Write pyramids as cloud optimized GeoTIFFs, or check such files.

    STORE are pyramids that ndzarr transcoded, or whatever else it opens.  One becomes the file DEST, unless DEST is a
    directory or ends in a slash; several become DEST/NAME.tif.  In a batch the good ones are done, the bad ones are
    listed at the end, and the exit code is 1.

    With --validate, files are checked as GDAL's validate_cloud_optimized_geotiff does with its full check; the exit
    code is 1 if one is no valid cloud optimized GeoTIFF.
    """
    if not stores and not images:
        raise click.UsageError("name at least one STORE, or an image with --from-image")
    if validate:
        if images or dest is not None:
            raise click.UsageError("--validate checks files that are there; leave out --from-image and -o")
        _validate(stores, quiet)
        return
    if dest is None:
        raise click.UsageError("say what to write with -o")
    options["mask"] = {"none": False, "data": True, "alpha": "alpha"}[mask]
    local_path(dest)
    wanted = _jobs(stores, images, dest)
    todo = [job for job in wanted if not (skip_existing and os.path.lexists(job.dest))]
    big = "auto" if bigtiff == "auto" else bigtiff == "yes"
    write = partial(_write, kind=kind, options=options, bigtiff=big, overwrite=overwrite, quiet=quiet)
    progress = not quiet and sys.stderr.isatty()
    failures: list[Failure] = []
    if len(wanted) == 1:
        for job in todo:
            write(job, workers=workers, progress=progress)
    else:
        tasks = [Task(job.source, partial(_in_turn, write, job)) for job in todo]
        failures = run_tasks(tasks, workers, progress, "exporting")
    if not quiet:
        click.echo(_summary(wanted, len(todo), len(failures)))
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    if failures:
        sys.exit(1)


def _validate(files: Sequence[str], quiet: bool) -> None:
    from ndzarr._export.validate import validate_cog

    sound = True
    for file in files:
        try:
            report = validate_cog(file)
        except NdzarrError as error:
            click.echo(f"Error: {error}", err=True)
            sound = False
            continue
        sound &= report.ok
        if not (quiet and report.ok):
            click.echo(report)
    if not sound:
        sys.exit(1)


def _jobs(stores: Sequence[str], images: Sequence[str], dest: str) -> list[Job]:
    """What is to be written where."""
    found = [(os.fspath(s), False) for s in stores] + [(os.fspath(s), True) for s in images]
    if len(found) == 1 and not dest.endswith(os.sep) and not os.path.isdir(dest):
        return [Job(*found[0], Path(dest), within=False)]
    like_a_file = dest.lower().endswith((".tif", ".tiff")) and not os.path.isdir(dest)
    if os.path.isfile(dest) or like_a_file:
        raise click.UsageError(f"{dest} is no directory for several files; choose one with -o, such as cogs/")
    taken: dict[Path, str] = {}
    out = []
    for source, image in found:
        file = Path(dest, Path(os.path.abspath(source)).stem + ".tif")
        other = taken.setdefault(file, source)
        if other != source:
            raise click.UsageError(f"{other} and {source} would both become {file}; write them one by one")
        out.append(Job(source, image, file, within=True))
    return list(dict.fromkeys(out))


def _in_turn(write: Callable[..., None], job: Job, turn: TaskContext) -> None:
    write(job, workers=turn.threads, check=turn.check)


def _write(
    job: Job,
    *,
    kind: str,
    options: dict[str, Any],
    bigtiff: bool | str,
    overwrite: bool,
    quiet: bool,
    workers: int | None,
    progress: bool = False,
    check: Callable[[], None] = lambda: None,
) -> None:
    from ndzarr._export.cog import prepare, write_file
    from ndzarr._pyramid.transcode import transcode

    dest = Path(os.path.abspath(job.dest))
    refuse_existing_file(dest, overwrite)
    finish = partial(
        write_file, dest=dest, bigtiff=bigtiff, overwrite=overwrite, progress=progress, workers=workers, check=check
    )
    if job.within:
        with explained(dest):
            dest.parent.mkdir(parents=True, exist_ok=True)
    if not job.image:
        finish(prepare(job.source, **options))
        return
    with explained(dest), TemporaryDirectory(prefix=f".{dest.name}.", suffix=PARTIAL, dir=dest.parent) as work:
        made = transcode(job.source, Path(work, "pyramid.zarr"), kind=kind, workers=workers, progress=progress)
        finish(prepare(made, **options))
    if not quiet:
        tell_notes(job.source, made.attrs["ndzarr"]["source"])


def _summary(wanted: Sequence[Job], tried: int, failed: int) -> str:
    if len(wanted) == 1:
        return f"wrote {wanted[0].dest}" if tried else f"left {wanted[0].dest} as it was"
    skipped = f", left {len(wanted) - tried} as they were" if tried < len(wanted) else ""
    return f"wrote {tried - failed} of {len(wanted)} files{skipped}"
