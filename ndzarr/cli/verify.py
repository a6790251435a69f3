"""The command `ndzarr verify`."""

from __future__ import annotations

import sys
from functools import partial

import click

from ndzarr.cli.batch import print_reports


@click.command(
    epilog="""\b
Examples:
  Check one pyramid:
    ndzarr verify huge.zarr
  Check many, and print only what is wrong:
    ndzarr verify pyramids/*.zarr --quiet || echo damaged
  Check the tiles of a TIFF that is read in place:
    ndzarr verify scene.tif
  Check a pyramid in a bucket, which is fetched for it:
    ndzarr verify s3://bucket/huge.zarr
"""
)
@click.argument("stores", metavar="STORE...", nargs=-1, required=True)
@click.option(
    "-j", "--workers", type=click.IntRange(min=1), metavar="N", help="Number of threads; default: one per CPU."
)
@click.option("-q", "--quiet", is_flag=True, help="Print only what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(stores: tuple[str, ...], workers: int | None, quiet: bool, as_json: bool) -> None:
    """
    Check every byte of pyramids.

    Decodes each chunk of each level, which checks its checksum, and compares the metadata with each other and with the
    files. For a tiled TIFF, decodes each tile. The exit code is 1 if anything is wrong; transcode the source of a
    damaged pyramid again.
    """
    from ndzarr._library.verify import verify

    check = partial(verify, progress=not quiet and sys.stderr.isatty(), threads=workers)
    print_reports(stores, check, quiet, as_json)
