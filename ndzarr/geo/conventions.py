"""How does a store say where it lies, so that others understand it?

By the conventions `spatial` (https://github.com/zarr-conventions/spatial) and `proj`
(https://github.com/zarr-conventions/proj), at the root and, for each level, in the layout of `multiscales`.
`spatial:transform` is in affine order and of corners of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ndzarr.geo.georeference import Georeference

SPATIAL = {
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/spatial/refs/tags/v0.1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/spatial/blob/v0.1/README.md",
    "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
    "name": "spatial",
    "description": "Spatial coordinate information",
}
PROJ = {
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/proj/refs/tags/v0.1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/proj/blob/v0.1/README.md",
    "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f",
    "name": "proj",
    "description": "Coordinate reference system information for geospatial data",
}


def declare(
    attrs: dict[str, Any],
    place: Georeference,
    sizes: Sequence[tuple[int, int]],
    factors: Sequence[tuple[float, float]],
    text: bool,
) -> None:
    """
    Add the conventions to the attributes of a pyramid's root.

    Parameters
    ----------
    sizes, factors
        (height, width), and native pixels per pixel along (y, x), of each level.
    text
        Define the reference system by well-known text, too, for which pyproj is imported if it is installed.
    """
    if place.transform is not None:
        attrs["zarr_conventions"].append(SPATIAL)
        attrs["spatial:dimensions"] = ["y", "x"]
        attrs["spatial:transform_type"] = "affine"
        attrs["spatial:transform"] = list(place.transform)
        attrs["spatial:shape"] = list(sizes[0])
        attrs["spatial:bbox"] = list(place.bounds(*sizes[0]))
        attrs["spatial:registration"] = "pixel"
        for item, size, (fy, fx) in zip(attrs["multiscales"]["layout"], sizes, factors, strict=True):
            item["spatial:shape"] = list(size)
            item["spatial:transform"] = list(place.at(0, 0, fy, fx))
    words = place.crs.text() if text else None
    if place.crs.whole is not None:
        attrs["proj:code"] = place.crs.whole
    if words is not None:
        attrs["proj:wkt2"] = words
    if place.crs.whole is not None or words is not None:
        attrs["zarr_conventions"].append(PROJ)
