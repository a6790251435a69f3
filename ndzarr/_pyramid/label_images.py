"""
The label images of an OME-Zarr image: pyramids in its group `labels`, which may be coarser or finer than the image.

https://ngff.openmicroscopy.org/0.5/#labels-md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isclose
from typing import Any

import numpy as np

from ndzarr._pyramid.datasets import factor
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.zarr_store import list_series, open_pyramid
from ndzarr._remote.settings import Remote
from ndzarr.errors import MissingError, StoreError


@dataclass(frozen=True, slots=True, eq=False)
class LabelImage:
    """A label image, opened."""

    name: str
    path: str
    pyramid: Pyramid
    to_image: np.ndarray[Any, Any]
    """3x3, from its pixels to those of the image."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of its channels: its own name, numbered if there are several."""
        number = self.pyramid.sizes.get("c", 1)
        return (self.name,) if number == 1 else tuple(f"{self.name}_{k}" for k in range(number))


def open_labels(
    path: str,
    image: Pyramid,
    storage_options: Mapping[str, Any] | None = None,
    remote: Remote | None = None,
) -> list[LabelImage]:
    """
    Open the label images of an image, which is at a path or URL.

    Raises
    ------
    StoreError
        A label image is not as large as its image, at any resolution.
    """
    group = f"{path.rstrip('/')}/labels"
    try:
        found = list_series(group, storage_options, remote) or []
    except MissingError:
        return []
    out = []
    for label in found:
        inner = f"{group}/{label.path}"
        pyramid = open_pyramid(inner, storage_options=storage_options, remote=remote)
        sy, sx = (factor(image.sizes[d], pyramid.sizes[d]) for d in "yx")
        if not isclose(sy, sx, rel_tol=0.01):
            height, width = pyramid.shape[-2:]
            what = f"labels of {height} x {width} pixels, but their image has {image.sizes['y']} x {image.sizes['x']}"
            raise StoreError(f"{pyramid.path}: {what}", path=pyramid.path, hint="Write labels that cover their image")
        name = f"{label.name}_labels" if label.name in image.channels else label.name
        out.append(LabelImage(name, inner, pyramid, np.diag([sx, sy, 1.0])))
    return out
