"""Georeferences: the affine transform from pixels to coordinates, and the reference system of those.

A transform (a, b, c, d, e, f) maps corners of pixels, where pixel i covers [i, i + 1): x = a * column + b * row + c,
y = d * column + e * row + f.  It is written as GeoTIFF tags, as the Zarr conventions `spatial` and `proj`, and as a CF
grid mapping.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np

from ndzarr._geo.crs import EPSG_IN_TEXT, Crs, GeoKeys
from ndzarr._validation import as_number

Transform: TypeAlias = "tuple[float, float, float, float, float, float]"
_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION = 33550, 33922, 34264
"""GeoTIFF tags."""


@dataclass(frozen=True)
class Georeference:
    """Coordinates of the pixels of an image."""

    crs: Crs
    """Reference system of the coordinates; may be undefined."""
    transform: Transform | None = None
    """From corners of native pixels to coordinates; None if only control points are known."""
    point: bool = False
    """True if the source gave coordinates of pixel centres.  `transform` maps corners in any case."""
    gcps: tuple[tuple[float, ...], ...] = ()
    """Ground control points (column, row, level, x, y, z), if the source has no transform."""
    grid_mapping: Mapping[str, Any] | None = None
    """Attributes of a CF grid mapping, if the store holds them."""

    def __repr__(self) -> str:
        numbers = None if self.transform is None else ", ".join(f"{v:.12g}" for v in self.transform)
        place = f"{len(self.gcps)} control points" if numbers is None else f"transform ({numbers})"
        return f"<Georeference {self.crs.name}, {place}>"

    @cached_property
    def matrix(self) -> np.ndarray[Any, Any]:
        """The transform as a 3x3 matrix."""
        assert self.transform is not None
        return np.array([self.transform[:3], self.transform[3:], (0, 0, 1)], float)

    @property
    def upright(self) -> bool:
        """True if rows run along x and columns along y."""
        return self.transform is not None and self.transform[1] == 0 == self.transform[3]

    def window_transform(self, y: float, x: float, step_y: float, step_x: float) -> Transform:
        """Return the transform of a window from its first corner and its pixels' steps, both in native pixels."""
        assert self.transform is not None
        a, b, c, d, e, f = self.transform
        return a * step_x, b * step_y, c + a * x + b * y, d * step_x, e * step_y, f + d * x + e * y

    def transformed(self, matrix: np.ndarray[Any, Any]) -> Georeference:
        """Return the georeference of the image after a 3x3 matrix has mapped its pixels."""
        if self.transform is None or np.array_equal(matrix, np.eye(3)):
            return self
        a, b, c, d, e, f = (self.matrix @ np.linalg.inv(matrix))[:2].ravel().tolist()
        return Georeference(self.crs, (a, b, c, d, e, f), self.point, (), self.grid_mapping)

    def bounds(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Return (left, bottom, right, top) of an image of this size: the least and greatest x and y."""
        corners = self.matrix @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1.0]])
        (left, bottom), (right, top) = corners[:2].min(axis=1).tolist(), corners[:2].max(axis=1).tolist()
        return left, bottom, right, top

    def metadata(self) -> dict[str, Any]:
        """Return it as metadata of a source, from which `from_attributes` makes it again."""
        out: dict[str, Any] = {"pixel_is_point": self.point}
        if self.transform is not None:
            out["transform"] = self.transform
        elif self.gcps:
            out["gcps"] = [list(gcp) for gcp in self.gcps]
        known = {"epsg": self.crs.epsg, "wkt": self.crs.wkt, "geotiff": self.crs.keys and self.crs.keys.as_json()}
        return out | {key: value for key, value in known.items() if value is not None}

    def tags(self) -> list[tuple[Any, ...]]:
        """Return GeoTIFF tags, in the form that tifffile writes."""
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


def from_attributes(attrs: Mapping[str, Any]) -> Georeference | None:
    """
    Return the georeference that the attributes of a store, or of a file opened in place, state.

    ndzarr's own record comes first, then the conventions `spatial` and `proj`.
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
    multiscales = attrs.get("multiscales")
    levels = multiscales.get("layout") if isinstance(multiscales, Mapping) else multiscales
    native = levels[0] if levels and isinstance(levels, list) else {}
    found = native.get("spatial:transform") or attrs.get("spatial:transform")
    if not isinstance(found, list) or len(found) != 6 or attrs.get("spatial:transform_type", "affine") != "affine":
        return None
    if attrs.get("spatial:registration") == "node":
        a, b, c, d, e, f = found
        found = [a, b, c - (a + b) / 2, d, e, f - (d + e) / 2]
    return Georeference(_crs(attrs, {}), tuple(float(v) for v in found))  # type: ignore[arg-type]


SYSTEM = ("_CRS", "crs", "proj:code", "proj:epsg", "proj:projjson", "proj:wkt2")
"""Attributes that state a reference system."""


def stated_place(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what the attributes of an array say of its place, as metadata of a source: `transform`, `epsg`, `wkt`.

    They are GDAL's `_CRS` (https://gdal.org/en/stable/drivers/raster/zarr.html), those of the conventions `spatial` and
    `proj`, `proj:epsg` and `proj:transform` of STAC, and `crs` of older xarray if it is a code.
    """
    out: dict[str, Any] = {}
    gdal = attrs.get("_CRS")
    said: Mapping[str, Any] = gdal if isinstance(gdal, Mapping) else {}
    text = said.get("wkt") or attrs.get("proj:wkt2")
    url = re.fullmatch(r"https?://www\.opengis\.net/def/crs/EPSG/[^/]+/(\d+)", str(said.get("url")))
    named = str(attrs.get("proj:code") or attrs.get("crs")).removeprefix("+init=")
    code = url or re.fullmatch(r"EPSG:(\d+)", named, re.IGNORECASE)
    if code or isinstance(attrs.get("proj:epsg"), int):
        out["epsg"] = int(code.group(1)) if code else attrs["proj:epsg"]
    elif (identity := _projjson_id(said.get("projjson") or attrs.get("proj:projjson"))) is not None:
        out["epsg"] = identity
    if isinstance(text, str):
        out["wkt"] = text
        if "epsg" not in out and (code := EPSG_IN_TEXT.search(text)):
            out["epsg"] = int(code.group(1))
    found = attrs.get("spatial:transform", attrs.get("proj:transform"))
    numbers = [as_number(v) for v in found] if isinstance(found, list) else []
    if len(numbers) in (6, 9) and attrs.get("spatial:transform_type", "affine") == "affine" and None not in numbers:
        a, b, c, d, e, f = (float(v or 0) for v in numbers[:6])
        centred = attrs.get("spatial:registration") == "node"
        out["transform"] = [a, b, c - (a + b) / 2 * centred, d, e, f - (d + e) / 2 * centred]
    return out


def _projjson_id(found: Any) -> int | None:
    identity = found.get("id") if isinstance(found, Mapping) else None
    code = identity.get("code") if isinstance(identity, Mapping) and identity.get("authority") == "EPSG" else None
    return int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdigit()) else None


def _crs(attrs: Mapping[str, Any], source: Mapping[str, Any]) -> Crs:
    keys = source.get("geotiff")
    code, wkt = attrs.get("proj:code"), attrs.get("proj:wkt2")
    if code is None and source.get("epsg") is not None:
        code = f"EPSG:{source['epsg']}"
    return Crs(code, wkt or source.get("wkt"), None if keys is None else GeoKeys.from_json(keys))


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


def add_conventions(
    attrs: dict[str, Any],
    georeference: Georeference,
    sizes: Sequence[tuple[int, int]],
    factors: Sequence[tuple[float, float]],
    text: bool,
) -> None:
    """
    Add the conventions `spatial` and `proj` to the attributes of a pyramid's root.

    `sizes` and `factors` are (height, width), and native pixels per pixel along (y, x), of each level. `text` also
    defines the reference system by well-known text, which imports pyproj if it is installed.
    """
    if georeference.transform is not None:
        found = _spatial(georeference, sizes[0], georeference.transform)
        attrs["zarr_conventions"].append(SPATIAL)
        attrs.update(found)
        for item, size, (fy, fx) in zip(attrs["multiscales"]["layout"], sizes, factors, strict=True):
            item["spatial:shape"] = list(size)
            item["spatial:transform"] = list(georeference.window_transform(0, 0, fy, fx))
    if found := _proj(georeference.crs, text):
        attrs["zarr_conventions"].append(PROJ)
        attrs.update(found)


def level_conventions(georeference: Georeference, size: tuple[int, int], transform: Transform) -> dict[str, Any]:
    """Return the same of the group of one level, by its (height, width) and transform; GDAL looks for them there."""
    found = _proj(georeference.crs, georeference.crs.whole is None)
    conventions = [SPATIAL, PROJ] if found else [SPATIAL]
    return {"zarr_conventions": conventions, **_spatial(georeference, size, transform), **found}


def _spatial(georeference: Georeference, size: tuple[int, int], transform: Transform) -> dict[str, Any]:
    return {
        "spatial:dimensions": ["y", "x"],
        "spatial:transform_type": "affine",
        "spatial:transform": list(transform),
        "spatial:shape": list(size),
        "spatial:bbox": list(Georeference(georeference.crs, transform).bounds(*size)),
        "spatial:registration": "pixel",
    }


def _proj(crs: Crs, text: bool) -> dict[str, Any]:
    words = crs.text() if text else None
    code = {} if crs.whole is None else {"proj:code": crs.whole}
    return code if words is None else {**code, "proj:wkt2": words}


GRID_MAPPING = "spatial_ref"
"""Name of the coordinate that holds the grid mapping; rioxarray and odc-geo look for it."""


def grid_mapping_attributes(georeference: Georeference, transform: Transform) -> dict[str, Any]:
    """Return the attributes of the CF grid mapping of pixels that have this transform."""
    a, b, c, d, e, f = transform
    known = georeference.grid_mapping or cf_grid_mapping(georeference.crs) or {}
    return {**known, "GeoTransform": f"{c!r} {a!r} {b!r} {f!r} {d!r} {e!r}"}


@lru_cache(maxsize=256)
def cf_grid_mapping(crs: Crs) -> Mapping[str, Any] | None:
    """
    Return the CF attributes of a reference system; None where it is not known.

    `spatial_ref` is the code, if it means what the text says: a reader whose database of systems is of another release
    than pyproj's may find another code for the text (EPSG:25835 for 3067).  Without pyproj they are the code or the
    text, which rioxarray and odc-geo understand, too.
    """
    try:
        found = crs.pyproj()
    except ImportError:
        known = crs.wkt or crs.code
        return None if known is None else {"crs_wkt": known, "spatial_ref": known}
    if found is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about what CF has no attribute for; `crs_wkt` has it all
        attributes = found.to_cf()
    cf = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in attributes.items()}
    coded = None if crs.whole is None else Crs(crs.whole).pyproj()
    same = coded is not None and found.equals(coded, ignore_axis_order=True)
    return {**cf, "spatial_ref": crs.whole if same else cf["crs_wkt"]}


def earth_centres(transform: Transform, height: int, width: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return (y, x) of pixel centres: in the reference system, or in pixels if the transform rotates or shears."""
    a, b, c, d, e, f = transform
    down, across = np.arange(height) + 0.5, np.arange(width) + 0.5
    return (e * down + f, a * across + c) if b == 0 == d else (down, across)
