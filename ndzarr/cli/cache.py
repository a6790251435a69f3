"""How are the pyramids that samplers made looked at and tidied up?"""

from __future__ import annotations

import click

from ndzarr._files import cache_root
from ndzarr._indexing.plan import counted, human_bytes
from ndzarr._library.inventory import Entry
from ndzarr._library.library import Library

_WORKDIR = click.option(
    "--workdir",
    type=click.Path(file_okay=False),
    help="Directory of the pyramids; default: $NDZARR_CACHE, else ~/.cache/ndzarr.",
)


_STATES = """\b
States:
  current   is used when the file is
  stale     the file was changed since
  orphaned  the file is gone, or its disk is not mounted
  damaged   the pyramid's metadata cannot be read; it will be made again
  partial   whoever made it was killed
  making    is being made"""


@click.group(
    epilog="""\b
Examples:
  ndzarr cache list
  ndzarr cache prune --dry-run
  ndzarr cache prune --workdir /data/pyramids
"""
)
def command() -> None:
    """
    List or tidy up the pyramids that samplers have made.

    A sampler transcodes each image file that it is given once, and keeps the pyramid in its working directory.
    """


@command.command("list", epilog=_STATES + "\n\n\b\nExample:\n  ndzarr cache list --workdir /data/pyramids")
@_WORKDIR
def list_entries(workdir: str | None) -> None:
    """List all pyramids: their state, their size and the file that they were made from."""
    library = Library(workdir)
    total = count = 0
    for entry in library.entries():
        click.echo(_line(entry))
        total, count = total + entry.nbytes, count + 1
    click.echo(f"{counted(count, 'pyramid')}, {human_bytes(total)} in {library.root}")


@command.command(epilog="\b\nExample:\n  ndzarr cache prune --dry-run")
@_WORKDIR
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
def prune(workdir: str | None, dry_run: bool) -> None:
    """Remove pyramids that will not be used again: stale, orphaned, damaged and partial ones (see `list`)."""
    library = Library(workdir)
    removed = library.prune(dry_run)
    for entry in removed:
        click.echo(_line(entry))
    verb = "would free" if dry_run else "freed"
    click.echo(f"{verb} {human_bytes(sum(entry.nbytes for entry in removed))} in {library.root}")


@command.command(epilog="\b\nExample:\n  du -sh $(ndzarr cache path)")
def path() -> None:
    """Print the directory where pyramids are kept unless a sampler is told otherwise."""
    click.echo(cache_root())


def _line(entry: Entry) -> str:
    return f"{entry.state:<9} {human_bytes(entry.nbytes):>10}  {entry.store.name}  {entry.source or ''}".rstrip()
