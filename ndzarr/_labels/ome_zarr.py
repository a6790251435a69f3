"""The labels of OME-Zarr images: each value of a label image is an object."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ndzarr._files import is_store
from ndzarr._labels.builder import Builder, list_images, wrong
from ndzarr._labels.folders import add_region
from ndzarr._pyramid.zarr_store import list_series, open_pyramid


def read_ome_zarr(builder: Builder, labels: Path, images: Any, names: Any) -> None:
    """
    Read OME-Zarr images, or the fields of a plate, with the label images in their group `labels`.

    Each value above 0 of a label image becomes an annotation of the category that is called like the label image, its
    `track_id` the value; or that `names` gives for the value, if it is one of classes.
    """
    given = images if images is not None else labels
    stores = [path for path in list_images(given, labels) if is_store(path)]
    for store in stores:
        fields = list_series(store)
        for path, about in [(store, {})] if fields is None else [(f"{store}/{f.path}", f.about) for f in fields]:
            image = builder.image(path, **about)
            for label in list_series(os.path.join(path, "labels")) or ():
                _read_label(builder, image, os.path.join(path, "labels", label.path), label.name, names)


def _read_label(builder: Builder, image: dict[str, Any], path: str, name: str, names: Any) -> None:
    pyramid = open_pyramid(path)
    if any(n > 1 for d, n in pyramid.sizes.items() if d not in "yx"):
        builder.leave_out("label images of volumes, videos or several channels")
        return
    size = image["height"], image["width"]
    if pyramid.shape[-2:] != size:
        height, width = pyramid.shape[-2:]
        raise wrong(path, None, f"labels of {height} x {width} pixels, but their image has {size[0]} x {size[1]}")
    if pyramid.dtype.kind not in "bui":
        raise wrong(path, None, f"labels of type {pyramid.dtype}", "Write label images of integers")
    values = pyramid.read().reshape(size)
    for value in np.unique(values).tolist():
        if value > 0:
            add_region(builder, image, values == value, name, names, int(value), instances=names is None)
