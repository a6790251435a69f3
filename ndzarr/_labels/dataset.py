"""`ndzarr.dataset`: labels in any common form as a kwcoco dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ndzarr._files import is_store
from ndzarr._formats.registry import IMAGE_SUFFIXES
from ndzarr._labels.annotators import read_cvat, read_label_studio
from ndzarr._labels.builder import Builder
from ndzarr._labels.folders import class_folders, read_classes, read_images, read_masks
from ndzarr._labels.geographic import QUPATH_KEYS, TABLES, read_geographic, read_qupath
from ndzarr._labels.ome_zarr import read_ome_zarr
from ndzarr._labels.series import make_videos
from ndzarr._labels.stac import read_stac
from ndzarr._labels.text_files import lines_of, mot_sequences, read_dota, read_mot, read_yolo
from ndzarr._labels.voc import read_voc
from ndzarr._sampling.coco_dataset import coerce
from ndzarr._validation import check_choice
from ndzarr.errors import MissingError, OptionError, SourceError

FORMATS = (
    *("auto", "coco", "yolo", "voc", "dota", "mot", "geojson", "qupath", "masks", "instances", "images", "classes"),
    *("stac", "ome-zarr", "cvat", "label-studio"),
)


def dataset(
    labels: Any,
    images: Any = None,
    format: str = "auto",
    *,
    category: str | None = None,
    names: Mapping[int, str] | Sequence[str] | None = None,
    series: bool = False,
    filename_regex: str | None = None,
) -> Any:
    """
    Make a kwcoco dataset of labels in any common form.

    Parameters
    ----------
    labels
        A file or directory of labels, or what `ndzarr.CocoSampler` takes.
    images
        The images: a directory, a pattern such as 'scenes/*.tif', a file, or a sequence of these.  By default those
        beside the labels, where the format says.  For STAC the names of the assets that are wanted.
    format
        'coco' (and kwcoco), 'yolo' (boxes, segments, oriented boxes, poses), 'voc', 'dota', 'mot', 'geojson' (also
        GeoPackage, GeoParquet, shapefiles: features on georeferenced images), 'qupath', 'masks' (each value of a mask a
        class), 'instances' (each value an object), 'images' (none), 'classes' (a directory per class), 'stac',
        'ome-zarr' (the label images of OME-Zarr images and plates, each value an object), 'cvat' (its XML of images or
        of a video), 'label-studio' (its JSON); or 'auto', which looks.
    category
        Property of features that names their category; by default the likeliest.
    names
        Value of masks to name of the class.
    series
        Make a video of images that overlap, by their georeferences and dates.
    filename_regex
        Regular expression for the file names of images, which a match anywhere satisfies.  Its named groups become keys
        of the images: `date` the date (any form that dateutil reads, such as 20240501), `sensor` the sensor, others
        keys of that name.  The name is that of torchgeo.

    Returns
    -------
    `kwcoco.CocoDataset` in memory, with absolute paths.  `dset.dataset["info"][-1]["left_out"]` counts what was left
    out, and says why.

    Raises
    ------
    SourceError
        Labels are not understood; the message names the file and the line.
    MissingError
        Labels or images do not exist.
    OptionError
        An option is not understood, or a package is missing.

    Examples
    --------
    >>> import ndzarr, numpy as np, PIL.Image, tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> PIL.Image.fromarray(np.zeros((100, 200, 3), "u1")).save(folder / "a.png")
    >>> _ = (folder / "a.txt").write_text("0 0.5 0.5 0.1 0.2")
    >>> _ = (folder / "classes.txt").write_text("boat")
    >>> dset = ndzarr.dataset(folder, format="yolo")
    >>> dset.anns[1]["bbox"], dset.cats[1]["name"]
    ([90.0, 40.0, 20.0, 20.0], 'boat')
    """
    check_choice("format", format, FORMATS, OptionError)
    if not isinstance(labels, (str, os.PathLike)):
        return coerce(labels)
    path = Path(labels)
    if format == "auto":
        format = guess(path, images) if path.exists() else "coco"
    if format == "coco":
        return coerce(labels)
    if not path.exists():
        raise MissingError(f"{path}: no such labels", path=str(path))
    builder = Builder(str(path.absolute()))
    _read(builder, path.absolute(), images, format, category, names)
    if not builder.images:
        raise SourceError(f"{path}: no images were found", path=str(path), key="images", hint="Pass images=")
    if filename_regex is not None:
        builder.name_keys(filename_regex)
    if series:
        make_videos(builder)
    import kwcoco

    made = kwcoco.CocoDataset(builder.dataset(), tag=path.name, bundle_dpath=str(path.absolute().parent))
    return made


def _read(builder: Builder, path: Path, images: Any, format: str, category: str | None, names: Any) -> None:
    match format:
        case "yolo":
            read_yolo(builder, path, images)
        case "voc":
            read_voc(builder, path, images)
        case "dota":
            read_dota(builder, path, images)
        case "mot":
            read_mot(builder, path, images)
        case "geojson":
            read_geographic(builder, path, images, category)
        case "qupath":
            read_qupath(builder, path, images, category)
        case "masks" | "instances":
            read_masks(builder, path, images, format == "instances", names)
        case "classes":
            read_classes(builder, path, images)
        case "stac":
            read_stac(builder, path, images)
        case "cvat":
            read_cvat(builder, path, images)
        case "label-studio":
            read_label_studio(builder, path, images)
        case "ome-zarr":
            read_ome_zarr(builder, path, images, names)
        case _:
            read_images(builder, path, images)


def guess(path: Path, images: Any) -> str:
    """Return the format of labels, by their names and first lines."""
    found = _guess_directory(path, images) if path.is_dir() else _guess_file(path)
    if found is None:
        hint = f"Pass format=, one of {', '.join(FORMATS[1:])}"
        raise SourceError(f"{path}: not recognised as labels", path=str(path), hint=hint)
    return found


def _guess_file(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in TABLES:
        return "geojson"
    if suffix in (".yaml", ".yml"):
        return "yolo"
    if suffix == ".xml":
        return "cvat" if b"<annotations" in path.read_bytes()[: 1 << 12] else "voc"
    if suffix in (".json", ".geojson"):
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            head = file.read(1 << 16)  # datasets may be large
        if any(f'"{key}"' in head for key in ("annotation_id", "original_width")):
            return "label-studio"
        if '"Feature' not in head:
            return "coco"
        if '"stac_version"' in head:
            return "stac"
        return "qupath" if any(f'"{key}"' in head for key in QUPATH_KEYS) else "geojson"
    if suffix == ".txt" and path.parent.name in ("gt", "det"):
        return "mot"
    if suffix in IMAGE_SUFFIXES:
        return "images"
    return "coco" if suffix in (".zip", ".kwcoco") else None


def _guess_directory(path: Path, images: Any) -> str | None:
    if is_store(path):
        return "ome-zarr"
    if (path / "data.kwcoco.json").is_file():
        return "coco"
    if any((path / name).is_file() for name in ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")):
        return "yolo"
    if mot_sequences(path):
        return "mot"
    files = [file for file in path.rglob("*") if file.is_file()]
    suffixes = {file.suffix.lower() for file in files}
    if ".xml" in suffixes:
        return "voc"
    if ".txt" in suffixes:
        first = next((f for f in files if f.suffix.lower() == ".txt" and f.stat().st_size), None)
        words = [] if first is None else next((w for _, w in lines_of(first) if ":" not in w[0]), [])
        return "dota" if len(words) >= 9 and not _is_number(words[8]) else "yolo"
    if any(s in suffixes for s in (".json", ".geojson")):
        found = {_guess_file(f) for f in files if f.suffix.lower() in (".json", ".geojson")}
        return found.pop() if len(found) == 1 else None
    if images is not None and suffixes & set(IMAGE_SUFFIXES):
        return "masks"
    return "classes" if class_folders(path) else "images" if suffixes & set(IMAGE_SUFFIXES) else None


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).replace("-", "", 1).isdigit()
