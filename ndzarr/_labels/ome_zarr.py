"""The labels of OME-Zarr images: each value of a label image is an object, and the label image an asset."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ndzarr._labels.builder import Builder, list_images, wrong
from ndzarr._labels.folders import add_region
from ndzarr._library.keys import is_opened_in_place
from ndzarr._pyramid.label_images import LabelImage, open_labels
from ndzarr._pyramid.zarr_store import list_series, open_pyramid


def read_ome_zarr(builder: Builder, labels: Path, images: Any, names: Any) -> None:
    """
    Read OME-Zarr images, or the fields of a plate, with the label images in their group `labels`.

    A label image becomes an asset of its image, whose channel is called like it.  Each value above 0 of it becomes an
    annotation of the category that is called like the label image, its `track_id` the value; or that `names` gives for
    the value, if it is one of classes.
    """
    given = images if images is not None else labels
    stores = [path for path in list_images(given, labels) if is_opened_in_place(path)]
    for store in stores:
        fields = list_series(store)
        for path, about in [(store, {})] if fields is None else [(f"{store}/{f.path}", f.about) for f in fields]:
            image = builder.image(path, **about)
            for label in open_labels(path, open_pyramid(path)):
                _add_asset(image, label)
                _add_objects(builder, image, label, names)


def _add_asset(image: dict[str, Any], label: LabelImage) -> None:
    height, width = label.pyramid.shape[-2:]
    channels = "|".join(re.sub(r"\W", "_", name) for name in label.channels)
    about = {"file_name": label.path, "channels": channels, "kind": "labels", "width": width, "height": height}
    image.setdefault("assets", []).append({**about, "warp_aux_to_img": {"matrix": label.to_image.tolist()}})


def _add_objects(builder: Builder, image: dict[str, Any], label: LabelImage, names: Any) -> None:
    pyramid = label.pyramid
    if any(n > 1 for d, n in pyramid.sizes.items() if d not in "yx"):
        builder.leave_out("objects of label images of volumes, videos or several channels")
        return
    if pyramid.dtype.kind not in "bui":
        raise wrong(label.path, None, f"labels of type {pyramid.dtype}", "Write label images of integers")
    # Of each pixel of the image, the label at its centre.
    rows, columns = (
        np.minimum((np.arange(image[key]) + 0.5) / factor, n - 1).astype(int)
        for key, factor, n in zip(
            ("height", "width"), (label.to_image[1, 1], label.to_image[0, 0]), pyramid.shape[-2:], strict=True
        )
    )
    values = pyramid.read().reshape(pyramid.shape[-2:])[np.ix_(rows, columns)]
    for value in np.unique(values).tolist():
        if value > 0:
            add_region(builder, image, values == value, label.name, names, int(value), instances=names is None)
