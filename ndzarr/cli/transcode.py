"""The command `ndzarr transcode`."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from ndzarr._executors import Job as Steps
from ndzarr._formats.options import PALETTES, choose_palette
from ndzarr._store.destinations import destination, refuse_existing_at, shown_name
from ndzarr._store.presets import ACCESS, KINDS, OME_VERSIONS, PRESETS, Encoding, chunks_option
from ndzarr.cli.batch import Job, run_jobs, run_jobs_on
from ndzarr.cli.options import lengths, names, plain_warnings, series, size, tell_notes, tell_readers
from ndzarr.cli.sources import jobs, stacked


@click.command(
    epilog="""\b
Examples:
  Transcode one image:
    ndzarr transcode huge.tif -o huge.zarr
  Transcode all images below a directory to pyramids/SUBDIRECTORY/NAME.zarr:
    ndzarr transcode photos --recursive -o pyramids/
  Stack images as the frames of one pyramid, to be read in short windows through many:
    ndzarr transcode 'frames/*.png' -o clip.zarr --stack t --access tubes
  Take every tenth frame of the first minute of a video, at half its size:
    ndzarr transcode clip.mp4 -o clip.zarr --stop 60 --step 10 --size 0.5
  Transcode a class map, whose levels must not mix values:
    ndzarr transcode landcover.tif -o landcover.zarr --kind labels --nodata 255
"""
)
@click.argument("src", nargs=-1, required=True)
@click.option(
    "-o", "--output", "dest", required=True, metavar="DEST", help="Store to make; for several images, a directory."
)
@click.option("--preset", type=click.Choice(PRESETS), default="fast", show_default=True, help="Encoding of the pixels.")
@click.option("--kind", type=click.Choice(KINDS), default="intensity", show_default=True, help="Meaning of the pixels.")
@click.option("--axes", metavar="LETTERS", help="Axes of the source, such as tyxc.")
@click.option(
    "--channels", type=names, metavar="NAME,...", help="Channel names, such as r,g,b,nir; for a video, gray or rgb."
)
@click.option("--nodata", type=float, help="Value of pixels without data.")
@click.option(
    "--orient/--no-orient", default=True, help="Turn photographs upright by their EXIF orientation (default)."
)
@click.option("--chunks", type=lengths, metavar="AXIS=N,...", help="Lengths of chunks, such as y=256,x=256.")
@click.option(
    "--access",
    type=click.Choice(tuple(ACCESS)),
    default="frames",
    show_default=True,
    help="How you will read frames and planes.",
)
@click.option(
    "--reduce", type=click.Choice(("yx", "zyx")), default="yx", show_default=True, help="Axes that levels halve."
)
@click.option("--indexes", is_flag=True, help="Write one more file, with the indexes of all shards, for buckets.")
@click.option(
    "--ome-version", type=click.Choice(OME_VERSIONS), default="0.5", show_default=True, help="OME-Zarr of the metadata."
)
@click.option("--start", type=float, metavar="SECONDS", help="Take the frames of a video from this time on.")
@click.option("--stop", type=float, metavar="SECONDS", help="Take the frames of a video before this time.")
@click.option("--step", type=click.IntRange(min=1), metavar="N", default=1, help="Take every N-th frame of a video.")
@click.option("--size", type=size, metavar="y=N,x=N | FACTOR", help="Resize the frames of a video: y=360,x=640 or 0.5.")
@click.option("--stack", type=click.Choice(("t", "z")), help="Make one store with all images as frames, or as planes.")
@click.option("--recursive", is_flag=True, help="Search the subdirectories of directories.")
@click.option("--overwrite", is_flag=True, help="Replace stores that exist, once the new ones are complete.")
@click.option("--skip-existing", is_flag=True, help="Keep stores that exist: resume after an interrupt.")
@click.option(
    "-j", "--workers", type=click.IntRange(min=1), metavar="N", help="Number of threads; default: one per CPU."
)
@click.option("--max-pixels", type=click.IntRange(min=1), metavar="N", help="Refuse larger images.")
@click.option("--palette", type=click.Choice(PALETTES), help="Expand a palette to colours, or keep class numbers.")
@click.option(
    "--series", type=series, metavar="NAME | N", help="Image of a TIFF or plate that holds several; see info."
)
@click.option("--variable", metavar="NAME", help="Image of a Zarr group that holds several; see info.")
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Transcode by the workers of a dask cluster; or 'processes'.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    src: tuple[str, ...],
    dest: str,
    recursive: bool,
    overwrite: bool,
    skip_existing: bool,
    workers: int | None,
    scheduler: str | None,
    quiet: bool,
    preset: str,
    kind: str,
    chunks: dict[str, int] | None,
    access: str,
    reduce: str,
    indexes: bool,
    ome_version: str,
    stack: str | None,
    **reading: Any,
) -> None:
    """
    Write images as pyramids.

    SRC are image files, directories of them, or patterns such as 'scans/*.tif'. One file becomes the store DEST, unless
    DEST is a directory or ends in a slash; several become DEST/NAME.zarr, or with --stack one store. A batch writes all
    images that it can, lists the others at the end, and then exits with 1.
    """
    asked: dict[str, Any] = {"access": access, "reduce": reduce, "indexes": indexes, "ome_version": ome_version}
    encoding = Encoding(preset, kind, chunks_option(chunks), **asked)
    destination(dest)
    if stack is None:
        wanted = jobs(src, dest, recursive)
    else:
        wanted = [stacked(src, dest, recursive)]
        reading["stack"] = stack
    how: dict[str, Any] = {"skip_existing": skip_existing, "workers": workers, "quiet": quiet}
    how |= {"doing": "transcoding", "noun": "stores"}
    with plain_warnings():
        if scheduler is None:
            write = partial(_write, encoding=encoding, reading=reading, overwrite=overwrite, quiet=quiet)
            run_jobs(wanted, write, **how)
        else:
            steps = partial(_steps, encoding=encoding, reading=reading, overwrite=overwrite)
            run_jobs_on(scheduler, wanted, steps, **how)


def _steps(job: Job, *, encoding: Encoding, reading: dict[str, Any], overwrite: bool) -> Steps:
    """Transcode one image by workers."""
    from ndzarr._pyramid.bands import as_image, for_workers, transcoding

    dest = destination(job.dest)
    refuse_existing_at(dest, overwrite)
    image = as_image(job.source, {**reading, "palette": choose_palette(reading["palette"], encoding.kind)}, encoding)
    job.make_folder()
    yield from transcoding(for_workers(image), dest, overwrite)


def _write(
    job: Job, *, encoding: Encoding, reading: dict[str, Any], overwrite: bool, quiet: bool, **running: Any
) -> None:
    """Transcode one image; `running` are the workers, progress and check of the batch."""
    from ndzarr._pyramid.bands import as_image

    dest = destination(job.dest)
    refuse_existing_at(dest, overwrite)
    image = as_image(job.source, {**reading, "palette": choose_palette(reading["palette"], encoding.kind)}, encoding)
    with image.open() as source:
        job.make_folder()
        image.write_whole(source, dest, overwrite=overwrite, **running)
        if not quiet:
            tell_notes(source.name, source.metadata, source.trouble)
            tell_readers(shown_name(dest))
