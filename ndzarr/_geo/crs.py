"""Coordinate reference systems, and the GeoTIFF keys that define them.

A system is known by its code, by well-known text or by GeoTIFF keys, and is passed on in that form.  Only what needs
its meaning imports pyproj, which is the extra `geo`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

from ndzarr.errors import OptionError

DIRECTORY, DOUBLES, TEXTS = 34735, 34736, 34737
"""TIFF tags of the GeoTIFF keys."""
MODEL, RASTER, CITATION = 1024, 1025, 1026
GEOGRAPHIC, GEOGRAPHIC_CITATION, PROJECTED, PROJECTED_CITATION = 2048, 2049, 3072, 3073
LINEAR_UNIT, LINEAR_SIZE, VERTICAL = 3076, 3077, 4096
"""GeoTIFF keys."""
USER_DEFINED = 32767
IS_POINT = 2
"""Value of RASTER for coordinates of pixel centres."""
UNITS = {9001: ("metre", 1.0), 9002: ("foot", 0.3048), 9003: ("US survey foot", 12 / 39.37), 9036: ("kilometre", 1e3)}
"""EPSG code of a linear unit to (name, metres)."""

EPSG_IN_TEXT = re.compile(r'(?:ID|AUTHORITY)\["EPSG",\s*"?(\d+)"?\]\s*\]\s*$')
"""The code of a whole system, at the end of its well-known text."""

Value: TypeAlias = "int | float | str | tuple[float, ...]"


@dataclass(frozen=True)
class GeoKeys:
    """The GeoTIFF keys of a file, in the form of their three tags."""

    directory: tuple[int, ...]
    doubles: tuple[float, ...] = ()
    texts: str = ""

    @cached_property
    def values(self) -> dict[int, Value]:
        """Key to its value; keys whose value is missing from the tags are left out."""
        out: dict[int, Value] = {}
        numbers = self.directory[4:]
        for key, place, count, value in zip(*(numbers[k::4] for k in range(4)), strict=False):
            if place == 0:
                out[key] = value
            elif place == DOUBLES and value + count <= len(self.doubles) and count:
                found = self.doubles[value : value + count]
                out[key] = found[0] if count == 1 else found
            elif place == TEXTS:
                out[key] = self.texts[value : value + count].rstrip("|\0")
        return out

    def integer(self, key: int) -> int | None:
        """Return a code; None if it is missing, undefined or user-defined."""
        value = self.values.get(key)
        return value if isinstance(value, int) and value not in (0, USER_DEFINED) else None

    def number(self, *keys: int) -> float | None:
        """Return the number under the first of these keys that holds one."""
        return next((float(v) for key in keys if isinstance(v := self.values.get(key), int | float)), None)

    def text(self, key: int) -> str:
        """Return a citation; '' if it is missing."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    @property
    def epsg(self) -> int | None:
        """The EPSG code of the horizontal system, if it has one."""
        model = self.values.get(MODEL)
        if model == 1 or (model != 2 and PROJECTED in self.values):
            return self.integer(PROJECTED)
        return self.integer(GEOGRAPHIC) if model in (2, None) else None

    @property
    def vertical(self) -> int | None:
        """The EPSG code of the heights; ignored before GeoTIFF 1.1, as GDAL does."""
        return None if self.directory[2:3] == (0,) else self.integer(VERTICAL)

    @property
    def metres(self) -> float | None:
        """Metres per unit along x and y; None for degrees, and where the keys do not say."""
        if self.values.get(MODEL) == 2:
            return None
        code = self.integer(LINEAR_UNIT)
        return UNITS[code][1] if code in UNITS else self.number(LINEAR_SIZE)

    @property
    def point(self) -> bool:
        """True if coordinates are those of pixel centres."""
        return self.values.get(RASTER) == IS_POINT

    def as_json(self) -> dict[str, Any]:
        """Return the form in which a store records the keys."""
        return {"directory": list(self.directory), "doubles": list(self.doubles), "ascii": self.texts}

    def tags(self) -> list[tuple[Any, ...]]:
        """Return the tags in the form that tifffile writes."""
        out: list[tuple[Any, ...]] = [(DIRECTORY, 3, len(self.directory), self.directory, True)]
        if self.doubles:
            out.append((DOUBLES, 12, len(self.doubles), self.doubles, True))
        if self.texts:
            out.append((TEXTS, 2, 0, self.texts, True))
        return out

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> GeoKeys:
        """Return what `as_json` recorded."""
        return cls(tuple(found["directory"]), tuple(found.get("doubles", ())), found.get("ascii", ""))

    @classmethod
    def from_epsg(cls, code: int, geographic: bool) -> GeoKeys:
        """Return the keys of a system that has an EPSG code."""
        entries = [(MODEL, 2 if geographic else 1), (RASTER, 1), (GEOGRAPHIC if geographic else PROJECTED, code)]
        return cls((1, 1, 0, len(entries), *(n for key, value in entries for n in (key, 0, 1, value))))

    @classmethod
    def from_esri(cls, wkt: str, metres: float | None) -> GeoKeys:
        """
        Return the keys of a user-defined system, with its definition in Esri's well-known text.

        This is how GDAL writes systems that the keys cannot express.
        """
        text = f"ESRI PE String = {wkt}|"
        unit = next((code for code, (_, size) in UNITS.items() if size == metres), None)
        entries = [(MODEL, 0, 1, USER_DEFINED), (RASTER, 0, 1, 1), (PROJECTED_CITATION, TEXTS, len(text), 0)]
        entries += [(LINEAR_UNIT, 0, 1, unit)] if unit is not None else []
        return cls((1, 1, 0, len(entries), *(n for entry in entries for n in entry)), (), text)


@dataclass(frozen=True)
class Crs:
    """A coordinate reference system."""

    code: str | None = None
    """Authority and code, such as 'EPSG:32633'; of the horizontal part if the keys also define heights."""
    wkt: str | None = None
    """Well-known text."""
    keys: GeoKeys | None = None
    """GeoTIFF keys, as read from a file."""

    def __repr__(self) -> str:
        return f"<Crs {self.name}>"

    @property
    def defined(self) -> bool:
        """True if a code, text or keys are known."""
        return self.code is not None or self.wkt is not None or self.keys is not None

    @property
    def whole(self) -> str | None:
        """The code, unless the keys define heights beside it."""
        return None if self.keys is not None and self.keys.vertical is not None else self.code

    @property
    def epsg(self) -> int | None:
        """The EPSG code, if `code` is one."""
        name, _, number = (self.code or "").partition(":")
        return int(number) if name == "EPSG" and number.isdigit() else None

    def pyproj(self) -> Any:
        """Return the `pyproj.CRS`; None if pyproj does not understand what is known."""
        return _pyproj_crs(self)

    def require_pyproj(self, purpose: str) -> Any:
        """Return the `pyproj.CRS` for a purpose that needs one."""
        try:
            found = self.pyproj()
        except ImportError as error:
            raise OptionError(
                f"{purpose} needs pyproj to understand {self.name}", hint="Run pip install 'ndzarr[geo]'"
            ) from error
        if found is None:
            what = f"{purpose}: the coordinate reference system of the image, its crs, is not understood ({self.name})"
            raise OptionError(what, key="crs")
        return found

    @property
    def name(self) -> str:
        """A short name for messages."""
        named = re.match(r'\w+\["([^"]+)"', self.wkt or "")
        return self.code or (self.keys.text(CITATION) if self.keys else "") or (named[1] if named else "none")

    def text(self) -> str | None:
        """Return well-known text, version 2; None if pyproj is missing or does not understand the system."""
        if self.wkt is not None:
            return self.wkt
        try:
            found = self.pyproj()
        except ImportError:
            return None
        return None if found is None else str(found.to_wkt())

    @property
    def tells_unit(self) -> bool:
        """True if the keys alone say what `metres` returns, without pyproj."""
        return self.keys is not None and (self.keys.values.get(MODEL) == 2 or self.keys.metres is not None)

    def metres(self) -> float | None:
        """Return metres per unit of a projected system; None for a geographic one, whose unit is a degree."""
        if self.keys is not None and self.tells_unit:
            return self.keys.metres
        found = self.require_pyproj("the size of a pixel in metres")
        return None if found.is_geographic else float(found.axis_info[0].unit_conversion_factor)

    def geotiff(self) -> GeoKeys | None:
        """Return GeoTIFF keys: those that were read, else those of the definition; None if the system is undefined."""
        if self.keys is not None or not self.defined:
            return self.keys
        found = self.require_pyproj("writing GeoTIFF keys")
        code = self.epsg or found.to_epsg()
        if code is not None:
            return GeoKeys.from_epsg(code, found.is_geographic)
        metres = None if found.is_geographic else float(found.axis_info[0].unit_conversion_factor)
        return GeoKeys.from_esri(found.to_wkt("WKT1_ESRI"), metres)


@lru_cache(maxsize=256)
def _pyproj_crs(crs: Crs) -> Any:
    import pyproj

    try:
        if crs.wkt is not None or crs.whole is not None:
            return pyproj.CRS.from_user_input(crs.wkt or crs.whole)
    except pyproj.exceptions.CRSError:
        pass  # the keys may define it in another way
    found = None if crs.keys is None else _crs_of_keys(crs.keys)
    # If pyproj does not know the heights, only the heights are lost.
    return pyproj.CRS.from_user_input(crs.code) if found is None and crs.code != crs.whole else found


_DATUM, _PRIME, _ANGULAR_UNIT, _ELLIPSOID, _MAJOR, _MINOR, _FLATTENING = 2050, 2051, 2054, 2056, 2057, 2058, 2059
_PRIME_LONGITUDE, _TO_WGS84 = 2061, 2062
_OPERATION, _METHOD = 3074, 3075
_DEGREE = 9102
_GEOCENTRIC = 3
"""Value of MODEL for geocentric coordinates, which no image has."""

_LAT, _LON = ("latitude_of_origin", 3081, 3085, 3089), ("central_meridian", 3080, 3084, 3088)
_LAT_CENTRE, _LON_CENTRE = ("latitude_of_center", 3089, 3081), ("longitude_of_center", 3088, 3080)
_FIRST, _SECOND = ("standard_parallel_1", 3078), ("standard_parallel_2", 3079)
_SCALE = ("scale_factor", 3092, 3093)
_POLE = ("central_meridian", 3095, 3080)
_METHODS: dict[int, tuple[str, tuple[tuple[Any, ...], ...]]] = {
    1: ("Transverse_Mercator", (_LAT, _LON, _SCALE)),
    3: (
        "Hotine_Oblique_Mercator",
        (_LAT_CENTRE, _LON_CENTRE, ("azimuth", 3094), ("rectified_grid_angle", 3096), _SCALE),
    ),
    7: ("Mercator_1SP", (_LAT, _LON, _SCALE)),
    8: (
        "Lambert_Conformal_Conic_2SP",
        (_FIRST, _SECOND, ("latitude_of_origin", 3085, 3081), ("central_meridian", 3084, 3080)),
    ),
    9: ("Lambert_Conformal_Conic_1SP", (_LAT, _LON, _SCALE)),
    10: ("Lambert_Azimuthal_Equal_Area", (_LAT_CENTRE, _LON_CENTRE)),
    11: ("Albers_Conic_Equal_Area", (_FIRST, _SECOND, _LAT_CENTRE, _LON_CENTRE)),
    12: ("Azimuthal_Equidistant", (_LAT_CENTRE, _LON_CENTRE)),
    13: ("Equidistant_Conic", (_FIRST, _SECOND, _LAT_CENTRE, _LON_CENTRE)),
    14: ("Stereographic", (_LAT, _LON, _SCALE)),
    15: ("Polar_Stereographic", (_LAT, _POLE, _SCALE)),
    16: ("Oblique_Stereographic", (_LAT, _LON, _SCALE)),
    17: ("Equirectangular", (("latitude_of_origin", 3089, 3081), ("central_meridian", 3088, 3080), _FIRST)),
    18: ("Cassini_Soldner", (_LAT, _LON)),
    19: ("Gnomonic", (_LAT, _LON)),
    20: ("Miller_Cylindrical", (_LAT_CENTRE, _LON_CENTRE)),
    21: ("Orthographic", (_LAT, _LON)),
    22: ("Polyconic", (_LAT, _LON)),
    23: ("Robinson", (_LON_CENTRE,)),
    24: ("Sinusoidal", (_LON_CENTRE,)),
    25: ("VanDerGrinten", (_LON,)),
    26: ("New_Zealand_Map_Grid", (_LAT, _LON)),
    27: ("Transverse_Mercator_South_Orientated", (_LAT, _LON, _SCALE)),
    28: ("Cylindrical_Equal_Area", (_FIRST, _LON)),
    9815: (
        "Hotine_Oblique_Mercator_Azimuth_Center",
        (_LAT_CENTRE, _LON_CENTRE, ("azimuth", 3094), ("rectified_grid_angle", 3096), _SCALE),
    ),
}
"""GeoTIFF code of a projection method to its name in well-known text, and (parameter, keys that may hold it)."""
_EASTING, _NORTHING = ("false_easting", 3082, 3086, 3090), ("false_northing", 3083, 3087, 3091)


def _crs_of_keys(keys: GeoKeys) -> Any:
    """Return the `pyproj.CRS` of GeoTIFF keys; None if they define none that pyproj understands."""
    import pyproj

    try:
        horizontal = _horizontal(pyproj, keys)
        if horizontal is None or keys.vertical is None:
            return horizontal
        vertical = pyproj.CRS.from_epsg(keys.vertical)
        if not vertical.is_vertical:  # degrees and heights in one system, such as EPSG:4979
            return vertical
        name = keys.text(CITATION) or f"{horizontal.name} + {vertical.name}"
        return pyproj.crs.CompoundCRS(name, [horizontal, vertical])
    except (pyproj.exceptions.CRSError, KeyError, TypeError, ValueError):
        return None


def _horizontal(pyproj: Any, keys: GeoKeys) -> Any:
    found = _unshifted(pyproj, keys)
    shift = keys.values.get(_TO_WGS84)
    if found is None or keys.epsg is not None or keys.integer(GEOGRAPHIC) is not None or not isinstance(shift, tuple):
        return found
    datum = found.geodetic_crs or found
    return pyproj.crs.BoundCRS(found, "EPSG:4326", pyproj.crs.coordinate_operation.ToWGS84Transformation(datum, *shift))


def _unshifted(pyproj: Any, keys: GeoKeys) -> Any:
    """Return the horizontal system, without its shift to WGS 84."""
    esri = re.search(r"ESRI PE String = (.+?)(\||$)", keys.texts, re.DOTALL)
    if keys.epsg is not None:
        return pyproj.CRS.from_epsg(keys.epsg)
    if esri:
        return pyproj.CRS.from_wkt(esri.group(1))
    if keys.values.get(MODEL) == _GEOCENTRIC:
        return None
    if keys.values.get(MODEL) == 2 or (GEOGRAPHIC in keys.values and PROJECTED not in keys.values):
        return _geographic(pyproj, keys)
    operation = keys.integer(_OPERATION)
    if operation is not None:
        conversion = pyproj.crs.CoordinateOperation.from_epsg(operation)
        return pyproj.crs.ProjectedCRS(conversion, _name(keys), geodetic_crs=_geographic(pyproj, keys))
    text = _projected(keys, _geographic(pyproj, keys))
    return None if text is None else pyproj.CRS.from_wkt(text)


def _geographic(pyproj: Any, keys: GeoKeys) -> Any:
    code = keys.integer(GEOGRAPHIC)
    if code is not None:
        return pyproj.CRS.from_epsg(code)
    names = dict(re.findall(r"(GCS Name|Datum|Ellipsoid|Primem) = ([^|]*)", keys.text(GEOGRAPHIC_CITATION)))
    if (datum_code := keys.integer(_DATUM)) is not None:
        datum = pyproj.crs.Datum.from_epsg(datum_code)
    else:
        prime = keys.integer(_PRIME)
        longitude = keys.number(_PRIME_LONGITUDE) or 0.0
        datum = pyproj.crs.datum.CustomDatum(
            names.get("Datum", "unknown"),
            ellipsoid=_ellipsoid(pyproj, keys, names.get("Ellipsoid", "unknown")),
            prime_meridian=pyproj.crs.PrimeMeridian.from_epsg(prime)
            if prime is not None
            else pyproj.crs.datum.CustomPrimeMeridian(longitude, names.get("Primem", "Greenwich")),
        )
    if keys.integer(_ANGULAR_UNIT) not in (None, _DEGREE):
        raise ValueError("angles are not in degrees")
    axes = pyproj.crs.coordinate_system.Ellipsoidal2DCS(pyproj.crs.enums.Ellipsoidal2DCSAxis.LATITUDE_LONGITUDE)
    name = names.get("GCS Name", keys.text(GEOGRAPHIC_CITATION) or "unknown")
    return pyproj.crs.GeographicCRS(name, datum, axes)


def _ellipsoid(pyproj: Any, keys: GeoKeys, name: str) -> Any:
    code = keys.integer(_ELLIPSOID)
    if code is not None:
        return pyproj.crs.Ellipsoid.from_epsg(code)
    major, minor, flattening = (keys.number(key) for key in (_MAJOR, _MINOR, _FLATTENING))
    if major is None:
        raise ValueError("no ellipsoid")
    if minor is not None:
        return pyproj.crs.datum.CustomEllipsoid(name, semi_major_axis=major, semi_minor_axis=minor)
    return pyproj.crs.datum.CustomEllipsoid(name, semi_major_axis=major, inverse_flattening=flattening or 0.0)


def _projected(keys: GeoKeys, base: Any) -> str | None:
    """Return a projected system in GDAL's well-known text; None if the method is unknown."""
    number = keys.integer(_METHOD)
    if number not in _METHODS:
        return None
    name, parameters = _METHODS[number]
    if number == 7 and keys.number(3078) is not None:
        name, parameters = "Mercator_2SP", (_FIRST, _LON)
    code = keys.integer(LINEAR_UNIT)
    unit, size = UNITS.get(code or 0, ("unknown", keys.number(LINEAR_SIZE) or 0.0))
    if not size:
        return None
    defaults = {"scale_factor": 1.0}
    given = [(p[0], keys.number(*p[1:])) for p in (*parameters, _EASTING, _NORTHING)]
    values = "".join(f',PARAMETER["{p}",{defaults.get(p, 0.0) if v is None else v!r}]' for p, v in given)
    geographic = base.to_wkt("WKT1_GDAL")
    return f'PROJCS["{_name(keys)}",{geographic},PROJECTION["{name}"]{values},UNIT["{unit}",{size!r}]]'


def _name(keys: GeoKeys) -> str:
    text = keys.text(PROJECTED_CITATION) or keys.text(CITATION)
    return text.split(" = ")[-1].split("|")[0].replace('"', "'") or "unknown"
