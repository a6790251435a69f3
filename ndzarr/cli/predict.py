"""The command `ndzarr predict`."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import click

from ndzarr._files import is_store
from ndzarr._formats.registry import IMAGE_SUFFIXES
from ndzarr._indexing.plan import counted
from ndzarr.cli.options import names
from ndzarr.cli.windows import WORKDIR
from ndzarr.errors import OptionError


@click.command(
    epilog="""\b
Examples:
  Run a segmentation model over a whole scene; the result is a pyramid with the scene's georeference:
    ndzarr predict unet.onnx scene.tif -o water.zarr --divide 255 --channels water
  Write that as a GeoTIFF:
    ndzarr cog water.zarr -o water.tif
  Find objects in all images of a dataset with a scripted detector:
    ndzarr predict detector.pt data.kwcoco.json -o boats.kwcoco.json --divide 255 --classes -,boat,buoy
"""
)
@click.argument("model", metavar="MODEL")
@click.argument("dataset", metavar="DATASET")
@click.option("-o", "--output", "dest", required=True, metavar="DEST",
              help="Store to make; for a detector a .json, .kwcoco.json or .geojson file.")  # fmt: skip
@click.option("--gid", type=int, multiple=True, metavar="ID",
              help="Image of a dataset, once or more often; all by default.")  # fmt: skip
@click.option("--vidid", type=int, metavar="ID", help="Video of a dataset.")
@click.option("--window", default="512", show_default=True, metavar="SIZE|HxW", help="Size of windows in pixels.")
@click.option("--overlap", type=float, default=0.25, show_default=True,
              help="Overlap of windows: a fraction below 1, or pixels.")  # fmt: skip
@click.option("--resolution", metavar="LENGTH", help="Size of a pixel that the model gets, such as '0.5 um'.")
@click.option("--input-channels", metavar="CODE", help="Channels that the model gets, such as r|g|b.")
@click.option("--divide", type=float, default=1.0, show_default=True, help="Number to divide pixels by, such as 255.")
@click.option("--mean", metavar="N,N", help="Then subtract these, for each channel.")
@click.option("--std", metavar="N,N", help="Then divide by these, for each channel.")
@click.option("--channels", metavar="NAME,NAME", help="Names of the channels that the model gives.")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Windows at a time.")
@click.option("--weights", type=click.Choice(("gaussian", "uniform")), default="gaussian", show_default=True,
              help="What pixels of overlapping windows count.")  # fmt: skip
@click.option("--kind", type=click.Choice(("intensity", "labels")), default="intensity", show_default=True,
              help="Average windows, or choose the class of one.")  # fmt: skip
@click.option("--classes", metavar="NAME,NAME", help="Names of the labels of a detector, from 0 on.")
@click.option("--merge", type=click.Choice(("nms", "wbf")), default="nms", show_default=True,
              help="Merge detections by suppression, or by weighted fusion.")  # fmt: skip
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True,
              help="Intersection over union from which on two detections are one.")  # fmt: skip
@WORKDIR
@click.option("--restart", is_flag=True, help="Begin anew: do not go on with what a killed run has left.")
@click.option("--overwrite", is_flag=True, help="Replace DEST if it exists, once the new one is complete.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    model: str,
    dataset: str,
    dest: str,
    gid: tuple[int, ...],
    vidid: int | None,
    window: str,
    overlap: float,
    divide: float,
    mean: str | None,
    std: str | None,
    channels: str | None,
    classes: str | None,
    workdir: str | None,
    restart: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """
    Run a MODEL over an image, or a detector over a dataset, and write one result, stitched.

    MODEL is an ONNX file or TorchScript; it runs where onnxruntime or torch is installed.  DATASET is an image file, a
    store, a kwcoco file, or labels of any form that `ndzarr dataset` reads.  Models are programs: run those of people
    whom you trust.
    """
    from ndzarr._prediction.runtimes import Normalised, open_model

    normalised = Normalised(divide, _numbers("--mean", mean), _numbers("--std", std))
    options |= {
        "window": _window(window),
        "overlap": int(overlap) if overlap >= 1 else overlap,
        "channels": None if channels is None else names(channels),
        "classes": None if classes is None else names(classes),
        "resume": not restart,
        "progress": not quiet,
    }
    run = open_model(model, normalised)
    if dataset.lower().endswith(IMAGE_SUFFIXES) or is_store(dataset):
        from ndzarr.sampler import Sampler

        if gid or vidid is not None:
            raise OptionError(f"--gid: {dataset} is an image", path=dataset, key="gid", hint="Leave it out")
        found = Sampler([dataset], workdir).predict(run, dest, **options)
    else:
        from ndzarr.coco_sampler import CocoSampler

        found = CocoSampler(dataset, workdir).predict(run, dest, gid=gid or None, vidid=vidid, **options)
    if not quiet:
        click.echo(f"wrote {dest}: {_told(found)}")


def _told(found: Any) -> str:
    """Return what was written, in words."""
    if not isinstance(found, os.PathLike):
        return " x ".join(f"{d}={n}" for d, n in found.sizes.items())
    with open(found, encoding="utf-8") as file:
        content = json.load(file)
    return counted(len(content.get("annotations", content.get("features"))), "detection")


def _window(text: str) -> tuple[int, int]:
    """
    Parse `512` or `512x640`, height x width.

    >>> _window("512"), _window("512x640")
    ((512, 512), (512, 640))
    """
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if found is None:
        raise click.BadParameter(f"{text!r}: expected a size such as 512 or 512x640", param_hint="--window")
    height = int(found.group(1))
    return height, int(found.group(2) or height)


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    """
    Parse `0.485,0.456`.

    >>> _numbers("--mean", "0.5,0.25")
    (0.5, 0.25)
    """
    try:
        return () if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: expected numbers with commas between them", param_hint=option) from error
