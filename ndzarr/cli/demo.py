"""How is the demo run from a shell?"""

from __future__ import annotations

from pathlib import Path

import click


@click.command(epilog="\b\nExample:\n  ndzarr demo -o /tmp/ndzarr-demo")
@click.option(
    "-o", "--output", "directory", type=click.Path(file_okay=False, path_type=Path), help="Where to put its files."
)
@click.option("-q", "--quiet", is_flag=True, help="Print only where the results are.")
def command(directory: Path | None, quiet: bool) -> None:
    """Make a small dataset, transcode it, load samples, draw them, and time random windows."""
    from ndzarr.demo import run

    run(directory, quiet)
