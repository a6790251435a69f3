"""How do rioxarray and odc-geo learn where a window lies?

Both take a scalar coordinate `spatial_ref`, a CF grid mapping (`geo.grid_mapping`), together with coordinates y and x
of pixel centres in its reference system.  So the y and x of georeferenced windows are those, not native pixels.  Where
rows do not run along x there are no such coordinates: y and x are then pixels of the window, and `GeoTransform` tells
the rest, as both libraries have it for rotated images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray

from ndzarr.geo.georeference import Georeference, Transform
from ndzarr.geo.grid_mapping import NAME, attributes
from ndzarr.labels.construct import Axis, axis

_ZERO = np.array(0)


def coordinate(place: Georeference, transform: Transform) -> xarray.Variable:
    """The grid mapping of pixels that a transform maps to earth."""
    return xarray.Variable((), _ZERO, attributes(place, transform), fastpath=True)


def centres(transform: Transform, height: int, width: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(y, x) of pixel centres."""
    a, b, c, d, e, f = transform
    down, across = np.arange(height) + 0.5, np.arange(width) + 0.5
    return (e * down + f, a * across + c) if b == 0 == d else (down, across)


def earth_axes(transform: Transform, height: int, width: int) -> dict[str, Axis]:
    """Coordinates y and x."""
    y, x = centres(transform, height, width)
    return {"y": axis("y", y), "x": axis("x", x)}


def attach(sample: xarray.Dataset, place: Georeference, transform: Transform) -> xarray.Dataset:
    """
    Add the grid mapping to a Dataset that was just made.

    It goes straight into the parts of the Dataset (see `construct`), as assigning it takes ten times as long.
    """
    sample._variables[NAME] = coordinate(place, transform)
    sample._coord_names.add(NAME)
    for name in ("image", "valid"):
        if name in sample._variables:
            sample._variables[name].encoding = {"grid_mapping": NAME}
    return sample
