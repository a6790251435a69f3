"""The command `ndzarr export`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ndzarr._files import local_path, refuse_existing
from ndzarr._indexing.plan import counted
from ndzarr.cli.windows import ALLOW, JOBS, SCHEDULER, SPACE, TARGETS, VISIBLE, WORKDIR, choose_windows, read_windows
from ndzarr.errors import OptionError

_FORMATS = ("yolo", "coco", "voc", "imagefolder", "webdataset", "mask")
_IMAGES = ("png", "jpeg", "tiff", "mp4", "gif")


@click.command(
    epilog="""\b
Examples:
  Cut a YOLO dataset into tiles of 640x640 that overlap by 64 pixels:
    ndzarr export big/data.yaml --targets grid:640+64 -o tiles --visible 0.3
  Write the objects of a kwcoco dataset as a folder of JPEGs per class:
    ndzarr export data.kwcoco.json --targets positives:224 -o objects --format imagefolder --image jpeg
  Split a grid by images into training, validation and test:
    ndzarr export data.kwcoco.json --targets grid:512 --split 0.8,0.1,0.1 -o coco --format coco
"""
)
@click.argument("dataset", metavar="DATASET")
@TARGETS
@SPACE
@click.option("-o", "--output", "dest", required=True, metavar="DIR", help="Directory to make.")
@click.option("--format", type=click.Choice(_FORMATS), default="yolo", show_default=True, help="Layout of the labels.")
@click.option("--image", type=click.Choice(_IMAGES), default="png", show_default=True,
              help="Files of the crops; mp4 and gif hold all frames of a window.")  # fmt: skip
@click.option("--labels", metavar="NAME",
              help="boxes, segments, obb, pose, classes or instances, as far as the format has them.")  # fmt: skip
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Quality of JPEG.")
@click.option("--fps", type=float, default=10.0, show_default=True, help="Frames per second of clips.")
@click.option("--split", metavar="F,F[,F]", help="Fractions for training, validation and test, by video or image.")
@click.option("--channels", metavar="CODE", help="Channels to read, such as r|g|b.")
@click.option("--scale", type=float, help="Output pixels per native pixel, such as 0.5.")
@click.option("--dtype", metavar="TYPE", help="Type of the pixels, such as uint8.")
@VISIBLE
@click.option("--crowd", type=click.Choice(("keep", "drop", "ignore")), default="keep", show_default=True,
              help="What becomes of annotations of crowds.")  # fmt: skip
@click.option("--images", multiple=True, metavar="PATH|PATTERN", help="Images of labels that do not name them.")
@WORKDIR
@ALLOW
@SCHEDULER
@JOBS
@click.option("--shard", type=click.IntRange(min=1), metavar="N", help="Windows per part, or per tar file.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    dataset: str,
    targets: str,
    space: str,
    dest: str,
    split: str | None,
    channels: str | None,
    scale: float | None,
    dtype: str | None,
    visible: float,
    images: tuple[str, ...],
    workdir: str | None,
    allow: Any,
    quiet: bool,
    **options: Any,
) -> None:
    """
    Write windows of a DATASET as image files with their labels, for other trainers.

    DATASET is a kwcoco file or labels of any form that `ndzarr dataset` reads.  After an interrupt, or a kill, the same
    command resumes.
    """
    from ndzarr.coco_sampler import CocoSampler

    refuse_existing(local_path(dest), False)
    fractions = None if split is None else _fractions(split)
    table = read_windows(targets)
    sampler = CocoSampler(dataset, workdir, allow=allow, images=list(images) or None)
    if table is None:
        table = choose_windows(sampler, targets, space)
    if fractions is not None:
        table = sampler.targets.split(table, fractions)
    given = (("channels", channels), ("scale", scale), ("dtype", dtype))
    keys: dict[str, Any] = {name: value for name, value in given if value is not None}
    try:
        path = sampler.export(table, dest, visible_thresh=visible, progress=not quiet, **options, **keys)
    except KeyboardInterrupt:
        click.echo("Interrupted; finished parts are kept: the same command resumes.", err=True)
        sys.exit(130)
    if not quiet:
        click.echo(f"wrote {dest} ({counted(len(table), 'window')}, {counted(_files(path), 'file')})")


def _files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def _fractions(text: str) -> dict[str, float]:
    """
    Parse `0.8,0.2` or `0.8,0.1,0.1`.

    >>> _fractions("0.8,0.2")
    {'train': 0.8, 'validation': 0.2}
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not 1 < len(found) < 4:
        raise OptionError(f"--split {text}: expected two or three fractions, such as 0.8,0.1,0.1", key="split")
    return dict(zip(("train", "validation", "test"), found, strict=False))
