"""The command `ndzarr push`."""

from __future__ import annotations

import sys

import click


@click.command(
    epilog="""\b
Examples:
  Copy a pyramid to a bucket:
    ndzarr push huge.zarr s3://bucket/huge.zarr
  Keep its name:
    ndzarr push huge.zarr s3://bucket/pyramids/
"""
)
@click.argument("store")
@click.argument("url")
@click.option("--overwrite", is_flag=True, help="Replace a store that is there; it is absent meanwhile.")
@click.option("--indexes", is_flag=True, help="Write one more object, with the indexes of all shards of a pyramid.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(store: str, url: str, overwrite: bool, indexes: bool, quiet: bool) -> None:
    """
    Copy a store to a bucket.

    STORE is a Zarr v3 store: a pyramid, or what `ndzarr extract` wrote. It appears at URL whole or not at all. Run the
    command again after an interrupt: it goes on where it was. Credentials are those of the environment (AWS_*,
    GOOGLE_*, AZURE_*).
    """
    from ndzarr._library.push import push

    done = push(store, url, overwrite=overwrite, indexes=indexes, progress=not quiet and sys.stderr.isatty())
    if not quiet:
        click.echo(f"wrote {done}")
