"""How are images transcoded from a shell?"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from ndzarr._concurrency import Failure, Task, TaskContext, run_tasks
from ndzarr._files import explained, local_path, refuse_existing
from ndzarr._store.presets import ACCESS, KINDS, PRESETS, Encoding, chunks_option
from ndzarr.cli.options import lengths, names, plain_warnings, size, tell_notes
from ndzarr.cli.sources import Job, jobs, stacked


@click.command(
    epilog="""\b
Examples:
  One image:
    ndzarr transcode huge.tif -o huge.zarr
  All images in a directory and its subdirectories, as pyramids/SUBDIRECTORY/NAME.zarr:
    ndzarr transcode photos --recursive -o pyramids/
  Images that are the frames of one pyramid, read in short windows through many:
    ndzarr transcode 'frames/*.png' -o clip.zarr --stack t --access tubes
  Every tenth frame of the first minute of a video, at half its size:
    ndzarr transcode clip.mp4 -o clip.zarr --stop 60 --step 10 --size 0.5
  A class map, whose levels must not mix values:
    ndzarr transcode landcover.tif -o landcover.zarr --kind labels --nodata 255
"""
)
@click.argument("src", nargs=-1, required=True)
@click.option(
    "-o", "--output", "dest", required=True, metavar="DEST", help="Store to make; for several images, a directory."
)
@click.option("--preset", type=click.Choice(PRESETS), default="fast", show_default=True, help="How pixels are encoded.")
@click.option("--kind", type=click.Choice(KINDS), default="intensity", show_default=True, help="What pixels mean.")
@click.option("--axes", metavar="LETTERS", help="Meaning of the source's axes, such as tyxc.")
@click.option(
    "--channels",
    type=names,
    metavar="NAME,...",
    help="Names of the channels, such as r,g,b,nir; of a video, gray or rgb.",
)
@click.option("--nodata", type=float, help="Value of pixels that hold no data.")
@click.option(
    "--orient/--no-orient", default=True, help="Turn photographs upright by their EXIF orientation (default)."
)
@click.option("--chunks", type=lengths, metavar="AXIS=N,...", help="Lengths of chunks, such as y=256,x=256.")
@click.option(
    "--access",
    type=click.Choice(tuple(ACCESS)),
    default="frames",
    show_default=True,
    help="How frames and planes will be read.",
)
@click.option(
    "--reduce", type=click.Choice(("yx", "zyx")), default="yx", show_default=True, help="Axes that are halved."
)
@click.option("--start", type=float, metavar="SECONDS", help="Of a video, frames shown then or later.")
@click.option("--stop", type=float, metavar="SECONDS", help="Of a video, frames shown before then.")
@click.option("--step", type=click.IntRange(min=1), metavar="N", default=1, help="Of a video, every N-th frame.")
@click.option(
    "--size", type=size, metavar="y=N,x=N | FACTOR", help="Of the frames of a video, such as y=360,x=640 or 0.5."
)
@click.option("--stack", type=click.Choice(("t", "z")), help="All images become frames, or planes, of one store.")
@click.option("--recursive", is_flag=True, help="Look into the subdirectories of directories.")
@click.option("--overwrite", is_flag=True, help="Replace stores that exist, once the new ones are complete.")
@click.option("--skip-existing", is_flag=True, help="Leave stores that exist as they are: go on after an interrupt.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Threads; default: one per processor.")
@click.option("--max-pixels", type=click.IntRange(min=1), metavar="N", help="Refuse larger images.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    src: tuple[str, ...],
    dest: str,
    recursive: bool,
    overwrite: bool,
    skip_existing: bool,
    workers: int | None,
    quiet: bool,
    preset: str,
    kind: str,
    chunks: dict[str, int] | None,
    access: str,
    reduce: str,
    stack: str | None,
    **reading: Any,
) -> None:
    """
    Write images as pyramids.

    SRC are image files, directories of them, or patterns such as 'scans/*.tif'.  One file becomes the store DEST,
    unless DEST is a directory or ends in a slash; several become DEST/NAME.zarr, or with --stack one store.  In a
    batch the good ones are done, the bad ones are listed at the end, and the exit code is 1.
    """
    encoding = Encoding(preset, kind, chunks_option(chunks), access=access, reduce=reduce)
    local_path(dest)
    wanted = jobs(src, dest, recursive) if stack is None else [stacked(src, dest, recursive)]
    if stack is not None:
        reading["stack"] = stack
    todo = [job for job in wanted if not (skip_existing and os.path.lexists(job.dest))]
    write = partial(_write, encoding=encoding, reading=reading, overwrite=overwrite, quiet=quiet)
    progress = not quiet and sys.stderr.isatty()
    failures: list[Failure] = []
    with plain_warnings():
        if len(wanted) == 1:
            for job in todo:
                write(job, workers=workers, progress=progress)
        else:
            failures = run_tasks(
                [Task(str(job.source), partial(_in_turn, write, job)) for job in todo], workers, progress
            )
    if not quiet:
        click.echo(_summary(wanted, len(todo), len(failures)))
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    if failures:
        sys.exit(1)


def _in_turn(write: Callable[..., None], job: Job, turn: TaskContext) -> None:
    write(job, workers=turn.threads, check=turn.check)


def _write(
    job: Job,
    *,
    encoding: Encoding,
    reading: dict[str, Any],
    overwrite: bool,
    quiet: bool,
    workers: int | None,
    progress: bool = False,
    check: Callable[[], None] | None = None,
) -> None:
    """Transcode one image; the directory of its store is made if it is one of ours, and only once the image is open."""
    from ndzarr._formats.registry import open_source
    from ndzarr._pyramid.transcode import as_stream, identity, write_pyramid

    dest = Path(os.path.abspath(job.dest))
    refuse_existing(dest, overwrite)
    origin = {} if isinstance(job.source, list) else identity(os.path.abspath(job.source))
    with open_source(job.source, **reading) as source:
        if job.within:
            with explained(dest):
                dest.parent.mkdir(parents=True, exist_ok=True)
        write_pyramid(
            source,
            dest,
            encoding,
            overwrite=overwrite,
            progress=progress,
            workers=workers,
            origin=origin,
            check=check,
        )
        if not quiet:
            stream = as_stream(source)
            tell_notes(source.name, source.metadata, () if stream is None else stream.trouble)


def _summary(wanted: Sequence[Job], tried: int, failed: int) -> str:
    if len(wanted) == 1:
        return f"wrote {wanted[0].dest}" if tried else f"left {wanted[0].dest} as it was"
    skipped = f", left {len(wanted) - tried} as they were" if tried < len(wanted) else ""
    return f"wrote {tried - failed} of {len(wanted)} stores{skipped}"
