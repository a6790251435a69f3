"""The windows that commands take, a table in a file, a grid or the annotations; options of commands on datasets."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ndzarr.errors import MissingError, SourceError

if TYPE_CHECKING:
    import pandas

    from ndzarr.coco_sampler import CocoSampler

READERS = {".parquet": "read_parquet", ".csv": "read_csv", ".json": "read_json", ".feather": "read_feather"}
"""Suffixes of tables to the functions of pandas that read them."""


TARGETS = click.option(
    "--targets",
    required=True,
    metavar="TABLE|grid:SIZE|positives[:SIZE]",
    help="Windows: a .parquet, .csv, .json or .feather file, a grid over all images, or the annotations.",
)
SPACE = click.option(
    "--space",
    type=click.Choice(("image", "video")),
    default="image",
    show_default=True,
    help="Take grid and positives from images, or from videos.",
)
WORKDIR = click.option("--workdir", metavar="DIR", help="Directory of pyramids; default: the user's cache directory.")
ALLOW = click.option(
    "--allow",
    type=click.Choice(("bundle", "files", "urls")),
    default="files",
    show_default=True,
    help="How far names of files in DATASET may lead; bundle: not out of its directory.",
)
VISIBLE = click.option(
    "--visible",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="FRACTION",
    help="Leave out annotations with a smaller fraction in the window.",
)
SCHEDULER = click.option(
    "--scheduler",
    default="processes",
    show_default=True,
    metavar="threads|processes|ADDRESS",
    help="Where to run; ADDRESS is that of a dask scheduler.",
)
JOBS = click.option(
    "-j",
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of threads or processes; default: one per CPU.",
)


def read_windows(path: str) -> pandas.DataFrame | None:
    """Return the table in a file; None for what does not name a table."""
    import pandas

    if Path(path).suffix.lower() not in READERS:
        return None
    if not os.path.exists(path):
        raise MissingError(f"{path}: no such table", path=path)
    reader = getattr(pandas, READERS[Path(path).suffix.lower()])
    try:
        table: pandas.DataFrame = reader(path)
        return table
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{path}: pandas needs a package to read it: {reason}", path=path) from error
    except (ValueError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(f"{path} is not a table that pandas reads ({reason})", path=path) from error


def choose_windows(sampler: CocoSampler, text: str, space: str) -> pandas.DataFrame:
    """Return the table for `grid:256` or `positives`."""
    name, _, size = text.partition(":")
    found = re.fullmatch(r"(\d+)(?:x(\d+))?(?:\+(\d+))?", size)
    if name not in ("grid", "positives") or (size and not found) or (name == "grid" and not size):
        known = ", ".join(READERS)
        raise click.BadParameter(
            f"{text!r}: expected a table ({known}), grid:256, grid:256x512, grid:256+32, positives or positives:224",
            param_hint="--targets",
        )
    options: dict[str, Any] = {"space": space}
    if found:
        height, width, overlap = (None if g is None else int(g) for g in found.groups())
        assert height is not None
        options["window_dims"] = (height, width or height)
        if overlap:
            options["overlap"] = overlap
    make = sampler.targets.grid if name == "grid" else sampler.targets.positives
    return make(**options)
