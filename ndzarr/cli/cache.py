"""The command `ndzarr cache`."""

from __future__ import annotations

import json
from typing import Any

import click

from ndzarr._files import cache_root
from ndzarr._indexing.plan import counted, human_bytes
from ndzarr._library.inventory import Entry
from ndzarr._library.library import Library
from ndzarr._remote.cache import FOLDER, DiskCache

_WORKDIR = click.option(
    "--workdir",
    type=click.Path(file_okay=False),
    metavar="DIR|URL",
    help="Directory of the pyramids, or its URL; default: $NDZARR_CACHE, else ~/.cache/ndzarr.",
)

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_STATES = """\b
States:
  current     in use for its file
  stale       the file has changed since
  orphaned    the file is gone, or its disk is not mounted
  damaged     the metadata cannot be read; the pyramid will be made again
  partial     left behind by a process that was killed
  making      a process is writing it now
  unreadable  another user's; it stays"""


@click.group(
    epilog="""\b
Examples:
  List all pyramids:
    ndzarr cache list
  Print what would be removed:
    ndzarr cache prune --dry-run
  Remove it, from a directory or a bucket of your own:
    ndzarr cache prune --workdir /data/pyramids
    ndzarr cache prune --workdir s3://bucket/pyramids
  Remove what a loader kept of remote stores there (Remote(cache_dir=...)):
    ndzarr cache prune --workdir /data/chunks --remote 0
"""
)
def command() -> None:
    """
    List or prune the pyramids that samplers made, and what is kept of remote files.

    A sampler transcodes each image file once, and keeps the pyramid in its working directory.
    """


@command.command("list", epilog=_STATES + "\n\n\b\nExample:\n  ndzarr cache list --workdir /data/pyramids")
@_WORKDIR
@_JSON
def list_entries(workdir: str | None, as_json: bool) -> None:
    """List all pyramids: state, size, name and the file each was made from."""
    library = Library(workdir)
    if as_json:
        click.echo(json.dumps([_fields(entry) for entry in library.entries()], indent=2))
        return
    total = count = 0
    for entry in library.entries():
        click.echo(_line(entry))
        total, count = total + entry.nbytes, count + 1
    click.echo(f"{counted(count, 'pyramid')}, {human_bytes(total)} in {library.workdir}")
    if kept := list(DiskCache(str(library.folder), 0).objects()):
        size = human_bytes(sum(held.nbytes for held in kept))
        click.echo(f"parts of {counted(len(kept), 'remote object')}, {size} in {library.folder / FOLDER}")


@command.command(epilog="\b\nExample:\n  ndzarr cache prune --dry-run")
@_WORKDIR
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be removed; remove nothing.")
@click.option("--remote", type=click.IntRange(0), help="Keep at most so many bytes of remote objects.")
@_JSON
def prune(workdir: str | None, dry_run: bool, remote: int | None, as_json: bool) -> None:
    """Remove pyramids that are never used again: stale, orphaned, damaged and partial ones (see `list`)."""
    library = Library(workdir)
    removed = library.prune(dry_run)
    if as_json:
        dropped = [] if remote is None else DiskCache(str(library.folder), 0).prune(remote, dry_run)
        nbytes = sum(held.nbytes for held in dropped)
        click.echo(json.dumps({"pyramids": list(map(_fields, removed)), "remote_bytes": nbytes}, indent=2))
        return
    for entry in removed:
        click.echo(_line(entry))
    verb = "would free" if dry_run else "freed"
    click.echo(f"{verb} {human_bytes(sum(entry.nbytes for entry in removed))} in {library.workdir}")
    if remote is not None:
        found = DiskCache(str(library.folder), 0).prune(remote, dry_run)
        click.echo(f"{verb} {human_bytes(sum(held.nbytes for held in found))} in {library.folder / FOLDER}")


@command.command(epilog="\b\nExample:\n  du -sh $(ndzarr cache path)")
def path() -> None:
    """Print the default directory of pyramids."""
    click.echo(cache_root())


def _fields(entry: Entry) -> dict[str, Any]:
    return {"state": entry.state, "bytes": entry.nbytes, "store": str(entry.store), "source": entry.source}


def _line(entry: Entry) -> str:
    return f"{entry.state:<10} {human_bytes(entry.nbytes):>10}  {entry.store.name}  {entry.source or ''}".rstrip()
