"""How are pyramids checked from a shell?"""

from __future__ import annotations

import sys

import click

from ndzarr.errors import NdzarrError


@click.command(
    epilog="""\b
Examples:
  ndzarr verify huge.zarr
  ndzarr verify pyramids/*.zarr --quiet || echo damaged
  ndzarr verify scene.tif
"""
)
@click.argument("stores", metavar="STORE...", nargs=-1, required=True)
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Threads; default: one per processor.")
@click.option("-q", "--quiet", is_flag=True, help="Print only what is wrong.")
def command(stores: tuple[str, ...], workers: int | None, quiet: bool) -> None:
    """
    Check every byte of pyramids.

    Decodes each chunk of each level, which checks its checksum, and compares the metadata with each other and with the
    files.  Of a TIFF with tiles, each tile is decoded.  The exit code is 1 if anything is wrong; a damaged pyramid has
    to be transcoded again.
    """
    from ndzarr._library.verify import verify

    sound = True
    for store in stores:
        try:
            report = verify(store, progress=not quiet and sys.stderr.isatty(), threads=workers)
        except NdzarrError as error:
            click.echo(f"Error: {error}", err=True)
            sound = False
            continue
        sound &= report.ok
        if not (quiet and report.ok):
            click.echo(report)
    if not sound:
        sys.exit(1)
