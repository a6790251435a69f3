"""The command `ndzarr extract`."""

from __future__ import annotations

import sys
from typing import Any

import click

from ndzarr._store.presets import PRESETS
from ndzarr.cli.windows import ALLOW, JOBS, SCHEDULER, SPACE, TARGETS, VISIBLE, WORKDIR, choose_windows, read_windows


@click.command(
    epilog="""\b
Examples:
  Extract the windows of a table with a column per key (gid, cx, cy, width, height, ...):
    ndzarr extract data.kwcoco.json --targets windows.parquet -o crops.zarr
  Extract a grid of 256x256 windows over all images (256x512 is height x width, 256+32 overlaps by 32 pixels):
    ndzarr extract data.kwcoco.json --targets grid:256 -o tiles.zarr --order locality
  Extract a window around every annotation, 448x448 at half the resolution, in 8 processes:
    ndzarr extract data.kwcoco.json --targets positives:448 --scale 0.5 -o objects.zarr \\
        --scheduler processes --workers 8
  Extract on the workers of a dask cluster, which share a file system:
    ndzarr extract data.kwcoco.json --targets windows.parquet -o crops.zarr --scheduler tcp://head:8786
"""
)
@click.argument("dataset", metavar="DATASET")
@TARGETS
@SPACE
@click.option("-o", "--output", "dest", required=True, metavar="STORE", help="Zarr store to make.")
@click.option("--channels", metavar="CODE", help="Channels to read, such as r|g|b.")
@click.option("--scale", type=float, help="Output pixels per native pixel, such as 0.5.")
@click.option("--dtype", metavar="TYPE", help="Type of the pixels, such as float32.")
@click.option("--order", type=click.Choice(("input", "locality")), default="input", show_default=True,
              help="Order of the samples in the store; locality reads less.")  # fmt: skip
@click.option("--sizes", type=click.Choice(("pad", "refuse")), default="pad", show_default=True,
              help="Pad windows that are smaller than the largest, or refuse them.")  # fmt: skip
@click.option("--annots/--no-annots", default=True, help="Write the annotations of each window (default).")
@VISIBLE
@click.option("--preset", type=click.Choice(PRESETS), default="fast", show_default=True, help="Encoding of the pixels.")
@WORKDIR
@ALLOW
@SCHEDULER
@JOBS
@click.option("--shard", type=click.IntRange(min=1), metavar="N", help="Samples per shard; default: about 32 MB.")
@click.option("--overwrite", is_flag=True, help="Replace STORE if it exists, once the new one is complete.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    dataset: str,
    targets: str,
    space: str,
    dest: str,
    channels: str | None,
    scale: float | None,
    dtype: str | None,
    annots: bool,
    visible: float,
    workdir: str | None,
    allow: Any,
    scheduler: str,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """
    Write many windows of a kwcoco DATASET to one Zarr store, which xarray opens.

    After an interrupt, or a kill, the same command resumes.
    """
    from ndzarr._indexing.plan import counted, human_bytes
    from ndzarr._store.destinations import destination, refuse_existing_at, size_of
    from ndzarr.coco_sampler import CocoSampler

    place = destination(dest)
    refuse_existing_at(place, overwrite)
    table = read_windows(targets)
    sampler = CocoSampler(dataset, workdir, allow=allow)
    if table is None:
        table = choose_windows(sampler, targets, space)
    keys: dict[str, Any] = {
        name: v for name, v in (("channels", channels), ("scale", scale), ("dtype", dtype)) if v is not None
    }
    try:
        sampler.extract(
            table,
            dest,
            with_annots=annots,
            visible_thresh=visible,
            scheduler=scheduler,
            overwrite=overwrite,
            progress=not quiet,
            **keys,
            **options,
        )
    except KeyboardInterrupt:
        click.echo("Interrupted; finished shards are kept: the same command resumes.", err=True)
        sys.exit(130)
    if not quiet:
        click.echo(f"wrote {dest} ({counted(len(table), 'sample')}), {human_bytes(size_of(place))}")
