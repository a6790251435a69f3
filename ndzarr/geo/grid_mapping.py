"""What does a CF grid mapping say about a window, so that rioxarray and odc-geo know where it lies?

The attributes of a scalar coordinate `spatial_ref`: the reference system (CF-1.11, appendix F, with `crs_wkt`) and, as
GDAL has it, `GeoTransform`: x of the first corner, x per column, x per row, y of it, y per column, y per row.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ndzarr.geo.crs import Crs
from ndzarr.geo.georeference import Georeference, Transform

NAME = "spatial_ref"
"""What the coordinate is called; rioxarray and odc-geo look for it."""


def attributes(place: Georeference, transform: Transform) -> dict[str, Any]:
    """The attributes for pixels that a transform maps to coordinates."""
    a, b, c, d, e, f = transform
    known = place.grid_mapping or _of_crs(place.crs)
    return {**known, "GeoTransform": f"{c!r} {a!r} {b!r} {f!r} {d!r} {e!r}"}


@lru_cache(maxsize=256)
def _of_crs(crs: Crs) -> Mapping[str, Any]:
    return of_crs(crs) or {}


def of_crs(crs: Crs) -> dict[str, Any] | None:
    """
    The attributes that tell a reference system; None where nothing can be told.

    Without pyproj they are the code or the text that is known, which rioxarray and odc-geo understand, too.
    """
    try:
        found = crs.pyproj()
    except ImportError:
        known = crs.wkt or crs.code
        return None if known is None else {"crs_wkt": known, "spatial_ref": known}
    if found is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of what CF has no attribute for; `crs_wkt` says all
        told = found.to_cf()
    cf = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in told.items()}
    return {**cf, "spatial_ref": cf["crs_wkt"]}
