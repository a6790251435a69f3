"""The command `ndzarr view`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ndzarr._files import is_store
from ndzarr._formats.registry import IMAGE_SUFFIXES, file_kind
from ndzarr._remote.urls import is_url
from ndzarr.cli.options import plain_warnings
from ndzarr.cli.windows import ALLOW, READERS, SPACE, WORKDIR, choose_windows, read_windows
from ndzarr.errors import OptionError

if TYPE_CHECKING:
    from ndzarr._sampling.named_sources import Named
    from ndzarr._viewer.server import Viewer
    from ndzarr.coco_sampler import CocoSampler
    from ndzarr.sampler import Sampler

CACHE = 256 << 20
"""Bytes of decoded chunks that each pyramid keeps: of a video, whole frames."""


@click.command(
    epilog="""\b
Examples:
  Show a pyramid, an image, a video or a COG in a bucket:
    ndzarr view scene.zarr
    ndzarr view clip.mp4
    ndzarr view s3://bucket/scene.tif
  Show a prediction beside the image:
    ndzarr view scene.tif --beside heat.zarr
  Show a dataset with its annotations, and the windows of a table over its images:
    ndzarr view data.kwcoco.json --targets windows.parquet
    ndzarr view windows.parquet
  Show what is on another machine; then open the address that is printed:
    ssh -L 8800:localhost:8800 host ndzarr view scene.zarr --port 8800 --no-browser
"""
)
@click.argument("paths", metavar="STORE|IMAGE...|DATASET|TABLE", nargs=-1, required=True)
@click.option("--beside", metavar="STORE|IMAGE", help="Show it beside the first image, such as a prediction.")
@click.option(
    "--targets", metavar="TABLE|grid:SIZE|positives[:SIZE]",
    help="Windows to draw over the images of DATASET; see ndzarr extract.",
)  # fmt: skip
@SPACE
@WORKDIR
@ALLOW
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port; 0: any.")
@click.option("--browser/--no-browser", default=True, help="Open the page (default), or only print its address.")
@click.option("-q", "--quiet", is_flag=True, help="Print the address only.")
def command(
    paths: tuple[str, ...],
    beside: str | None,
    targets: str | None,
    space: str,
    workdir: str | None,
    allow: Any,
    port: int,
    browser: bool,
    quiet: bool,
) -> None:
    """
    Show images, annotations and targets on a page in the browser.

    The page is served on this machine's loopback address until Ctrl-C, and only to those who know its address. Files
    that are not efficiently tiled are transcoded first. TABLE is a Parquet file of windows that sampler.targets chose:
    it says which dataset they are of.
    """
    options: dict[str, Any] = {"port": port, "browser": browser}
    with plain_warnings():
        if beside is not None:
            options["beside"] = _source(beside)
        viewer = _sampler(paths, targets, space, workdir, allow, options, quiet).view(**options)
    show(viewer, quiet)


def show(viewer: Viewer, quiet: bool) -> None:
    """Print the address of the page, and serve it until Ctrl-C."""
    with viewer:
        click.echo(viewer.url)
        if not quiet:
            click.echo("Press Ctrl-C to stop.", err=True)
        try:
            viewer.wait()
        except KeyboardInterrupt:
            if not quiet:
                click.echo("Stopped.", err=True)


def _sampler(
    paths: tuple[str, ...],
    targets: str | None,
    space: str,
    workdir: str | None,
    allow: Any,
    options: dict[str, Any],
    quiet: bool,
) -> CocoSampler | Sampler:
    """Return a sampler of what is shown, and put its targets into the options."""
    if all(map(_is_image, paths)):
        from ndzarr.sampler import Sampler

        if targets is not None:
            raise OptionError(f"--targets {targets}: windows are those of a dataset", key="--targets")
        sampler = Sampler({path: _source(path) for path in paths}, workdir)
        sampler.prepare(progress=not quiet and sys.stderr.isatty())
        return sampler
    from ndzarr.coco_sampler import CocoSampler

    if len(paths) > 1:
        other = next(path for path in paths if not _is_image(path))
        hint = "Show one dataset or table"
        raise OptionError(f"{other} is not an image, so it cannot be shown with others", path=other, hint=hint)
    [path] = paths
    if targets is None and Path(path).suffix.lower() in READERS and not path.endswith(".json"):
        path, targets = _dataset_of(path), path
    table = None if targets is None else read_windows(targets)
    dataset = CocoSampler(path, workdir, allow=allow)
    if targets is not None:
        options["targets"] = choose_windows(dataset, targets, space) if table is None else table
    return dataset


def _dataset_of(path: str) -> str:
    """Return the file of the dataset that a table of windows names."""
    table = read_windows(path)
    dataset = None if table is None else table.attrs.get("dataset")
    if not isinstance(dataset, str):
        hint = f"Name the dataset: ndzarr view DATASET --targets {path}"
        raise OptionError(f"{path}: a table that does not say which dataset its windows are of", path=path, hint=hint)
    return dataset


def _is_image(path: str) -> bool:
    suffix = os.path.splitext(path)[1].lower()
    return is_url(path) or is_store(path) or suffix in IMAGE_SUFFIXES or file_kind(path) is not None


def _source(path: str) -> Named:
    """Return what a sampler opens for a path: stores, URLs and videos as they are."""
    from ndzarr._library.open import open

    in_place = is_url(path) or is_store(path) or file_kind(path) == "video"
    return open(path, CACHE) if in_place else path
