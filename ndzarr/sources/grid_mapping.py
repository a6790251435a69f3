"""Where does an xarray DataArray lie, if it says so as rioxarray and odc-geo do?

It has a grid mapping, a scalar coordinate whose attributes define the reference system.  The coordinates y and x are
centres of pixels in it; where there are none, or they are not evenly spaced, `GeoTransform` counts.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

_NAME = "spatial_ref"
_EVEN = 1e-3
"""Of a pixel, by which evenly spaced coordinates may be off."""


def place(array: Any, y: str, x: str) -> dict[str, Any]:
    """
    `transform`, and `wkt` or `epsg`, as metadata of a source; empty without a grid mapping or a transform.

    Parameters
    ----------
    y, x
        Names of the dimensions.
    """
    name = array.encoding.get("grid_mapping", array.attrs.get("grid_mapping", _NAME))
    mapping = array.coords.get(name)
    if mapping is None:
        return {}
    attrs = mapping.attrs
    transform = _transform(array, y, x, attrs.get("GeoTransform"))
    if transform is None:
        return {}
    text = str(attrs.get("crs_wkt") or attrs.get("spatial_ref") or "")
    code = re.fullmatch(r"EPSG:(\d+)", text, re.IGNORECASE)
    crs: dict[str, Any] = {"epsg": int(code.group(1))} if code else {"wkt": text} if text else {}
    return {"transform": transform, **crs}


def _transform(array: Any, y: str, x: str, stated: Any) -> list[float] | None:
    given: list[float] | None = None
    try:
        c, a, b, f, d, e = (float(v) for v in str(stated).split())
        given = [a, b, c, d, e, f]
    except ValueError:
        pass  # then only coordinates can tell
    if given is not None and (given[1] != 0 or given[3] != 0):
        return given
    across, down = (_spacing(array.coords.get(dim)) for dim in (x, y))
    if across is None or down is None:
        return given
    return [across[0], 0.0, across[1], 0.0, down[0], down[1]]


def _spacing(coordinate: Any) -> tuple[float, float] | None:
    """(step, border of the first pixel) of evenly spaced centres."""
    if coordinate is None or coordinate.ndim != 1 or coordinate.size < 2 or coordinate.dtype.kind not in "fiu":
        return None
    values = coordinate.to_numpy().astype(float)
    step = (values[-1] - values[0]) / (len(values) - 1)
    if not np.isfinite(step) or step == 0 or np.abs(np.diff(values) - step).max() > _EVEN * abs(step):
        return None
    return float(step), float(values[0] - step / 2)
