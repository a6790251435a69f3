"""How is the demo run from a shell?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ndzarr.errors import OptionError

EPILOG = """\b
Examples:
  ndzarr demo                                      # the whole tour, in ./ndzarr-demo
  ndzarr demo -o /tmp/tour --quiet                 # prints only where the results are
  ndzarr demo --data video -o toys                 # only writes toys/video.kwcoco.json and its frames
  ndzarr demo --data huge --size 12000x16000 -o big   # takes 12 bytes of memory a pixel
  ndzarr demo --data multispectral -n 10 --seed 3 -o toys
"""

KINDS = ("images", "multispectral", "video", "huge")
"""What `ndzarr.toy.write_demo` writes."""


@click.command(epilog=EPILOG)
@click.option(
    "-o", "--output", "directory", type=click.Path(file_okay=False, path_type=Path),
    help="Where to put everything; ./ndzarr-demo if left out.",
)  # fmt: skip
@click.option("--data", "kind", type=click.Choice(KINDS), help="Only write a dataset of this kind.")
@click.option("-n", "n", type=click.IntRange(1), help="With --data: number of images, or of frames.")
@click.option("--size", metavar="HxW", help="With --data: height and width of the largest image, in pixels.")
@click.option("--seed", type=click.IntRange(0), default=0, help="With --data: other data for every number.")
@click.option("-q", "--quiet", is_flag=True, help="Print only where the results are.")
def command(directory: Path | None, kind: str | None, n: int | None, size: str | None, seed: int, quiet: bool) -> None:
    """
    Make a small dataset, transcode it, load samples, draw them, and time random windows.

    Takes about ten seconds, downloads nothing, and leaves a picture (samples.png) and two kwcoco datasets to play
    with. The data show a made-up country from the air, with vehicles, boats and buildings that are annotated with
    boxes, outlines, keypoints and tracks.
    """
    if kind is not None:
        from ndzarr.toy import write_demo

        click.echo(write_demo(directory or "ndzarr-demo", kind, n=n, size=_size(size), seed=seed))
        return
    options: dict[str, Any] = {"-n": n, "--size": size, "--seed": seed}
    if given := [name for name, value in options.items() if value]:
        raise click.UsageError(f"{given[0]} needs --data, which says what is to be written")
    from ndzarr.demo import run

    run(directory, quiet)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise OptionError(f"--size {text}: expected height and width, such as 600x800")
    return int(height), int(width)
