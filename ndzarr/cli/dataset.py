"""The command `ndzarr dataset`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ndzarr._files import local_path, publishing_file
from ndzarr._indexing.plan import counted
from ndzarr._labels.dataset import FORMATS
from ndzarr._labels.dataset import dataset as make_dataset


@click.command(
    epilog="""\b
Examples:
  Turn a YOLO dataset into one that `ndzarr extract` and ndzarr.CocoSampler take:
    ndzarr dataset yolo/data.yaml -o data.kwcoco.json
  Put polygons onto georeferenced scenes:
    ndzarr dataset fields.geojson --images 'scenes/*.tif' --category crop -o fields.kwcoco.json
  Make videos of scenes that overlap:
    ndzarr dataset items.json --series -o series.kwcoco.json
"""
)
@click.argument("labels", metavar="LABELS")
@click.option("--images", multiple=True, metavar="PATH|PATTERN", help="The images; may be repeated.")
@click.option("--format", type=click.Choice(FORMATS), default="auto", show_default=True, help="Format of the labels.")
@click.option("--category", metavar="NAME", help="Property of features that names their category.")
@click.option("--series", is_flag=True, help="Make a video of images that overlap.")
@click.option(
    "--filename-regex", metavar="REGEX", help="Named groups become keys of images: (?P<sensor>..)_(?P<date>[0-9]{8})"
)
@click.option("-o", "--output", "dest", required=True, metavar="FILE", help="JSON file to write.")
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
def command(
    labels: str,
    images: Sequence[str],
    format: str,
    category: str | None,
    series: bool,
    filename_regex: str | None,
    dest: str,
    overwrite: bool,
) -> None:
    """
    Turn labels into a kwcoco dataset.

    LABELS is a file or directory: COCO, YOLO, Pascal VOC, DOTA, MOT, GeoJSON, GeoPackage, GeoParquet, QuPath, masks, a
    directory per class, or STAC items.
    """
    made = make_dataset(
        labels, list(images) or None, format, category=category, series=series, filename_regex=filename_regex
    )
    target = local_path(dest)
    with publishing_file(target, overwrite) as work:
        work.write_text(made.dumps(), "utf-8")
    counts = counted(len(made.imgs), "image"), counted(len(made.anns), "annotation")
    click.echo(f"wrote {dest}: {counts[0]}, {counts[1]}, {len(made.cats)} categories")
    about = made.dataset.get("info") or [{}]
    for reason, number in (about[-1].get("left_out") or {}).items():
        click.echo(f"left out: {number} {reason}", err=True)
