"""The command `ndzarr cog`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

import click

from ndzarr._export.cog_pixels import CODES, PREDICTORS
from ndzarr._files import explained, scratch
from ndzarr._store.destinations import destination
from ndzarr._store.presets import KINDS
from ndzarr.cli.batch import Job, print_reports, run_jobs
from ndzarr.cli.options import names, tell_notes
from ndzarr.cli.sources import place, within


@click.command(
    epilog="""\b
Examples:
  Write one pyramid, to be put on the web:
    ndzarr cog scene.zarr -o scene.tif --compression zstd
  Write all pyramids of a directory, several at a time:
    ndzarr cog pyramids/*.zarr -o cogs/
  Write an image file through a temporary pyramid, smaller and lossy:
    ndzarr cog --from-image scan.png -o scan.tif --compression jpeg --quality 85
  Check whether a file is cloud optimized, and if not, why:
    ndzarr cog --validate scene.tif
"""
)
@click.argument("stores", metavar="[STORE]...", nargs=-1)
@click.option("-o", "--output", "dest", metavar="DEST", help="File to make; for several, a directory.")
@click.option("--from-image", "images", metavar="SRC", multiple=True, help="Transcode SRC first; may be repeated.")
@click.option(
    "--kind", type=click.Choice(KINDS), default="intensity", show_default=True, help="Meaning of the pixels of SRC."
)
@click.option("--validate", is_flag=True, help="Check files instead of writing them.")
@click.option(
    "--compression", type=click.Choice(list(CODES)), default="deflate", show_default=True, help="Compression of tiles."
)
@click.option(
    "--predictor",
    type=click.Choice(["auto", *PREDICTORS]),
    default="auto",
    show_default=True,
    help="Filter before the compression.",
)
@click.option("--level", type=int, metavar="N", help="Level of deflate (1 to 12) or zstd (1 to 22).")
@click.option("--quality", type=int, metavar="N", help="Quality of jpeg or webp, 1 to 100 [default: 75].")
@click.option("--max-error", type=float, default=0.0, metavar="E", help="Largest error with lerc [default: 0].")
@click.option("--blocksize", type=int, default=512, show_default=True, help="Height and width of tiles.")
@click.option("--overviews/--no-overviews", default=True, help="Write the coarser levels, too (default).")
@click.option(
    "--bigtiff",
    type=click.Choice(["auto", "yes", "no"]),
    default="auto",
    show_default=True,
    help="Write BigTIFF, for files beyond 4 GiB.",
)
@click.option("--nodata", type=float, help="Value of pixels without data.")
@click.option(
    "--mask",
    type=click.Choice(["auto", "none", "data", "alpha"]),
    default="auto",
    help="Write an internal mask: the store's own (auto), also of nodata and NaN (data), channel a (alpha), or none.",
)
@click.option("--channels", type=names, metavar="NAME,...", help="Channels to export, such as r,g,b.")
@click.option("--t", type=int, metavar="N", help="Frame to export, where there are several.")
@click.option("--z", type=int, metavar="N", help="Plane to export, where there are several.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist, once the new ones are complete.")
@click.option("--skip-existing", is_flag=True, help="Keep files that exist: resume after an interrupt.")
@click.option(
    "-j", "--workers", type=click.IntRange(min=1), metavar="N", help="Number of threads; default: one per CPU."
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("--json", "as_json", is_flag=True, help="With --validate: print JSON.")
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
    as_json: bool,
    bigtiff: str,
    mask: str,
    **options: Any,
) -> None:
    """
    Write pyramids as cloud optimized GeoTIFFs, or check such files.

    STORE are pyramids that ndzarr transcoded, or anything else that it opens. One becomes the file DEST, unless DEST is
    a directory or ends in a slash; several become DEST/NAME.tif. A batch writes all files that it can, lists the others
    at the end, and then exits with 1.

    With --validate, checks files as GDAL's validate_cloud_optimized_geotiff does with its full check, and exits with 1
    if one is not a valid cloud optimized GeoTIFF.
    """
    if not stores and not images:
        raise click.UsageError("name at least one STORE, or an image with --from-image")
    if validate:
        from ndzarr._export.validate import validate_cog

        if images or dest is not None:
            raise click.UsageError("--validate checks files that exist; leave out --from-image and -o")
        print_reports(stores, validate_cog, quiet, as_json)
        return
    if dest is None:
        raise click.UsageError("say what to write with -o")
    options["mask"] = {"none": False, "data": True}.get(mask, mask)
    destination(dest)
    big = "auto" if bigtiff == "auto" else bigtiff == "yes"
    write = partial(_write, kind=kind, options=options, bigtiff=big, overwrite=overwrite, quiet=quiet)
    jobs = _jobs(stores, images, dest)
    run_jobs(jobs, write, skip_existing=skip_existing, workers=workers, quiet=quiet, doing="exporting", noun="files")


def _jobs(stores: Sequence[str], images: Sequence[str], dest: str) -> list[Job]:
    found = [(source, False) for source in stores] + [(source, True) for source in images]
    if len(found) == 1 and not dest.endswith(os.sep) and not os.path.isdir(dest):
        [(source, image)] = found
        return [Job(source, place(dest), False, image)]
    like_a_file = dest.lower().endswith((".tif", ".tiff")) and not os.path.isdir(dest)
    if os.path.isfile(dest) or like_a_file:
        raise click.UsageError(f"{dest} is not a directory for several files; choose one with -o, such as cogs/")
    taken: dict[Path | str, str] = {}
    out: list[Job] = []
    for source, image in dict.fromkeys(found):
        file = within(place(dest), PurePath(Path(os.path.abspath(source)).stem + ".tif"))
        other = taken.setdefault(file, source)
        if other != source:
            raise click.UsageError(f"{other} and {source} would both become {file}; write them one by one")
        out.append(Job(source, file, True, image))
    return out


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
    check: Callable[[], None] | None = None,
) -> None:
    from ndzarr._export.cog import prepare, refuse, write_file
    from ndzarr._pyramid.bands import transcode

    source, dest = str(job.source), destination(job.dest)
    refuse(dest, overwrite)
    finish = partial(
        write_file, dest=dest, bigtiff=bigtiff, overwrite=overwrite, progress=progress, workers=workers, check=check
    )
    job.make_folder()
    if not job.image:
        finish(prepare(source, **options))
        return
    with ExitStack() as stack:
        if isinstance(dest, Path):
            stack.enter_context(explained(dest))
            work = stack.enter_context(scratch(dest))
        else:
            work = Path(stack.enter_context(TemporaryDirectory(prefix="ndzarr-")))
        made = transcode(source, Path(work, "pyramid.zarr"), kind=kind, workers=workers, progress=progress)
        finish(prepare(made, **options))
    if not quiet:
        tell_notes(source, made.attrs["ndzarr"]["source"])
