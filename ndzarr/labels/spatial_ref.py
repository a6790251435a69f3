"""How do rioxarray and odc-geo learn where a window lies?

Through a scalar coordinate `spatial_ref`, a CF grid mapping (`geo.grid_mapping`) with the transform of the window's own
pixels.  The coordinates y and x stay pixel centres in native pixels; `in_crs` puts coordinates on earth in their place,
for whatever reads those.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import xarray

from ndzarr.errors import WindowError
from ndzarr.geo.georeference import Georeference, Transform
from ndzarr.geo.grid_mapping import NAME, attributes

Labelled = TypeVar("Labelled", xarray.DataArray, xarray.Dataset)
_POINTS_AT = {"grid_mapping": NAME}


def coordinate(place: Georeference, transform: Transform) -> xarray.Variable:
    """The coordinate for pixels that a transform maps to earth."""
    return xarray.Variable((), np.array(0), attributes(place, transform))


def attach(sample: xarray.Dataset, place: Georeference, transform: Transform) -> xarray.Dataset:
    """
    Add the coordinate to a Dataset that was just made.

    It goes straight into the parts of the Dataset (see `construct`), as assigning it takes ten times as long.
    """
    sample._variables[NAME] = coordinate(place, transform)
    sample._coord_names.add(NAME)
    sample._variables["image"].encoding = dict(_POINTS_AT)
    return sample


def in_crs(sample: Labelled) -> Labelled:
    """
    A window or a sample with y and x in the coordinates of its reference system.

    Parameters
    ----------
    sample
        What `Pyramid.window`, `to_xarray` or `load_sample` returned.

    Returns
    -------
    The same with y and x at pixel centres in coordinates; where rows do not run along x, with pixel numbers, as odc-geo
    expects of rotated images.

    Raises
    ------
    WindowError
        It has no georeference.
    """
    if NAME not in sample.coords or "GeoTransform" not in sample.coords[NAME].attrs:
        raise WindowError("the window has no georeference, so that there are no other coordinates than pixels")
    attrs = sample.coords[NAME].attrs
    c, a, b, f, d, e = map(float, attrs["GeoTransform"].split())
    across, down = np.arange(sample.sizes["x"]) + 0.5, np.arange(sample.sizes["y"]) + 0.5
    if b == 0 == d:
        across, down = a * across + c, e * down + f
    named: dict[str, Any] = {"x": ("x", across, _about("x", attrs)), "y": ("y", down, _about("y", attrs))}
    return sample.assign_coords(named)


def _about(axis: str, attrs: dict[str, Any]) -> dict[str, str]:
    """What CF wants to know of a coordinate."""
    if attrs.get("grid_mapping_name") == "latitude_longitude":
        return {"standard_name": {"x": "longitude", "y": "latitude"}[axis], "axis": axis.upper()}
    return {"standard_name": f"projection_{axis}_coordinate", "axis": axis.upper()}
