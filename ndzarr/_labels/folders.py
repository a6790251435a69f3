"""Labels that are files: a directory of images, a directory per class, masks beside images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ndzarr._formats.registry import IMAGE_SUFFIXES, open_source
from ndzarr._labels.builder import Builder, ImageFinder, list_images, stem, wrong
from ndzarr.errors import SourceError

_ENDS = ("_mask", "-mask", "_label", "_labels", "_masks", "_seg", "_gt", "mask")
"""What names of masks may end in, after the name of their image."""


def read_images(builder: Builder, labels: Path, images: Any) -> None:
    """Read a directory of images, which have no labels."""
    for path in list_images(images if images is not None else labels, labels if labels.is_dir() else labels.parent):
        builder.image(path)


def class_folders(labels: Path) -> list[Path]:
    """Return the directories that name classes: those that hold images, one level below."""
    return sorted(
        folder
        for folder in labels.iterdir()
        if folder.is_dir()
        and not folder.name.startswith(".")
        and any(file.name.lower().endswith(IMAGE_SUFFIXES) for file in folder.iterdir())
    )


def read_classes(builder: Builder, labels: Path, images: Any) -> None:
    """
    Read a directory per class, for classification: each image has one annotation, which is as large as the image.

    A level of directories `train`, `val` and `test` above the classes becomes the key `split` of images.
    """
    splits = [labels / name for name in ("train", "val", "valid", "test") if (labels / name).is_dir()]
    for root in splits or [labels]:
        more = {"split": root.name} if splits else {}
        for folder in class_folders(root):
            for path in list_images(folder, root):
                image = builder.image(path, **more)
                builder.add(image, folder.name, (0, 0, image["width"], image["height"]))


def read_masks(builder: Builder, labels: Path, images: Any, instances: bool, names: Any) -> None:
    """
    Read masks beside images: files with the name of an image, perhaps with `_mask` or the like behind it.

    Each value above 0 of a mask is a class, which `names` may name, or with `instances` an object; it becomes an
    annotation whose segmentation is a run-length encoding.
    """
    if images is None:
        raise SourceError(f"{labels}: masks need their images", path=str(labels), key="images", hint="Pass images=")
    finder = ImageFinder(list_images(images, labels if labels.is_dir() else labels.parent))
    for path in list_images(labels, labels.parent):
        found = _image_of(path, finder)
        if found is None:
            builder.leave_out("masks without an image")
            continue
        image = builder.image(found)
        for value, mask in _regions(path, (image["height"], image["width"])):
            add_region(builder, image, mask, "object", names, value, instances)


def add_region(
    builder: Builder, image: Any, mask: np.ndarray[Any, Any], name: str, names: Any, value: int, instances: bool
) -> None:
    """Add where a mask has a value: an object of the category `name`, or a class that `names` may name."""
    more = {"track_id": value} if instances else {}
    rows, columns = (np.flatnonzero(mask.any(axis=k)) for k in (1, 0))
    box = (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
    category = name if instances else _name(names, value)
    builder.add(image, category, box, segmentation=run_lengths(mask), area=int(mask.sum()), **more)


def _image_of(path: str, finder: ImageFinder) -> str | None:
    name = stem(os.path.basename(path))
    candidates = [name, *(name[: -len(end)] for end in _ENDS if name.lower().endswith(end))]
    return next((f for n in candidates if (f := finder.find(n, path)) is not None and f != path), None)


def _name(names: Any, value: int) -> str:
    if names is None:
        return str(value)
    found = names.get(value) if isinstance(names, dict) else names[value] if value < len(names) else None
    return str(value) if found is None else str(found)


def _regions(path: str, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """Yield (value, where it is) of each value above 0 of a mask."""
    with open_source(path, palette="indices") as source:
        if source.shape[-2:] != size:
            what = f"a mask of {source.shape[-2]} x {source.shape[-1]} pixels, but its image has {size[0]} x {size[1]}"
            raise wrong(path, None, what)
        if len(source.channels) != 1 or len(source.shape) != 3 or source.dtype.kind not in "bui":
            what = f"a mask of {len(source.channels)} channels of {source.dtype}"
            raise wrong(path, None, what, "Give masks of one channel of integers, or with a palette")
        values = source.read({})[0]
    for value in np.unique(values).tolist():
        if value > 0:
            yield int(value), values == value


def run_lengths(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return COCO's uncompressed run-length encoding of a mask (y, x): lengths of zeros and ones, column by column."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    bounds = np.concatenate(([0], changes, [flat.size]))
    counts = np.diff(bounds).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}
