"""Where on earth do the pixels of an image, of a level or of a window lie?

An affine transform (a, b, c, d, e, f) maps pixels to coordinates of a reference system: x = a * column + b * row + c,
y = d * column + e * row + f, for corners of pixels, as pixel i covers [i, i + 1).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np

from ndzarr._geo.crs import Crs
from ndzarr._geo.crs import from_json as geokeys_from_json

Transform: TypeAlias = "tuple[float, float, float, float, float, float]"
_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION = 33550, 33922, 34264
"""Tags."""


@dataclass(frozen=True)
class Georeference:
    """Where an image lies."""

    crs: Crs
    """In which coordinates; may be undefined."""
    transform: Transform | None = None
    """From native pixels to coordinates; None if only control points are known."""
    point: bool = False
    """True where the source gave coordinates of pixel centres; `transform` is of corners all the same."""
    gcps: tuple[tuple[float, ...], ...] = ()
    """Ground control points (column, row, level, x, y, z), where the source has no transform but these."""
    grid_mapping: Mapping[str, Any] | None = None
    """Attributes of a CF grid mapping, where the store holds them."""

    @cached_property
    def matrix(self) -> np.ndarray[Any, Any]:
        """The transform as a 3x3 matrix."""
        assert self.transform is not None
        return np.array([self.transform[:3], self.transform[3:], (0, 0, 1)], float)

    @property
    def upright(self) -> bool:
        """True if rows run along x and columns along y."""
        return self.transform is not None and self.transform[1] == 0 == self.transform[3]

    def at(self, y: float, x: float, pitch_y: float, pitch_x: float) -> Transform:
        """
        The transform of a window.

        Parameters
        ----------
        y, x
            Where it begins, in native pixels.
        pitch_y, pitch_x
            Native pixels per pixel of it.
        """
        assert self.transform is not None
        a, b, c, d, e, f = self.transform
        return a * pitch_x, b * pitch_y, c + a * x + b * y, d * pitch_x, e * pitch_y, f + d * x + e * y

    def moved(self, matrix: np.ndarray[Any, Any]) -> Georeference:
        """The same place for pixels that are moved by a 3x3 matrix."""
        if self.transform is None or np.array_equal(matrix, np.eye(3)):
            return self
        found = self.matrix @ np.linalg.inv(matrix)
        return Georeference(self.crs, _six(found), self.point, (), self.grid_mapping)

    def bounds(self, height: int, width: int) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) of an image of this size: the least and greatest x and y."""
        corners = self.matrix @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1.0]])
        (left, bottom), (right, top) = corners[:2].min(axis=1).tolist(), corners[:2].max(axis=1).tolist()
        return left, bottom, right, top

    def tags(self) -> list[tuple[Any, ...]]:
        """GeoTIFF tags as tifffile writes them."""
        keys = self.crs.geotiff()
        out = [] if keys is None else keys.tags()
        if self.transform is None:
            flat = tuple(v for gcp in self.gcps for v in gcp)
            return [*out, (_TIEPOINTS, 12, len(flat), flat, True)] if flat else out
        a, b, c, d, e, f = self.transform
        if keys is not None and keys.point:  # the file gives coordinates of centres
            c, f = c + (a + b) / 2, f + (d + e) / 2
        if self.upright and a > 0 and e < 0:
            out += [(_PIXEL_SCALE, 12, 3, (a, -e, 0.0), True), (_TIEPOINTS, 12, 6, (0.0, 0.0, 0.0, c, f, 0.0), True)]
        else:
            out.append((_TRANSFORMATION, 12, 16, (a, b, 0, c, d, e, 0, f, 0, 0, 0, 0, 0, 0, 0, 1), True))
        return out


def _six(matrix: np.ndarray[Any, Any]) -> Transform:
    a, b, c, d, e, f = matrix[:2].ravel().tolist()
    return a, b, c, d, e, f


def from_attributes(attrs: Mapping[str, Any]) -> Georeference | None:
    """
    What the attributes of a store, or of a file that is read in place, say.

    ndzarr's own record counts first, then the conventions `spatial` and `proj`.
    """
    own = attrs.get("ndzarr", {})
    source = own.get("source", {})
    if "transform" in source or "gcps" in source:
        transform = source.get("transform")
        return Georeference(
            _crs(attrs, source),
            None if transform is None else tuple(transform),
            bool(source.get("pixel_is_point")),
            tuple(map(tuple, source.get("gcps", ()))),
            own.get("grid_mapping"),
        )
    layout = (attrs.get("multiscales") or [{}]) if isinstance(attrs.get("multiscales"), list) else []
    if isinstance(attrs.get("multiscales"), Mapping):
        layout = attrs["multiscales"].get("layout") or [{}]
    found = (layout[0] if layout else {}).get("spatial:transform") or attrs.get("spatial:transform")
    if not isinstance(found, list) or len(found) != 6 or attrs.get("spatial:transform_type", "affine") != "affine":
        return None
    if attrs.get("spatial:registration") == "node":
        a, b, c, d, e, f = found
        found = [a, b, c - (a + b) / 2, d, e, f - (d + e) / 2]
    return Georeference(_crs(attrs, {}), tuple(float(v) for v in found))  # type: ignore[arg-type]


def _crs(attrs: Mapping[str, Any], source: Mapping[str, Any]) -> Crs:
    keys = source.get("geotiff")
    code, wkt = attrs.get("proj:code"), attrs.get("proj:wkt2")
    if code is None and source.get("epsg") is not None:
        code = f"EPSG:{source['epsg']}"
    return Crs(code, wkt or source.get("wkt"), None if keys is None else geokeys_from_json(keys))


# --- How does a store say where it lies, so that others understand it?


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


# --- What does a CF grid mapping say about a window, so that rioxarray and odc-geo know where it lies?


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
