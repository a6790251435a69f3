"""What is a coordinate reference system that GeoTIFF keys define piece by piece, in well-known text?

The pieces are put together as GDAL puts them (https://gdal.org/drivers/raster/gtiff.html, gt_wkt_srs.cpp): the
geographic system from its code, or from datum, ellipsoid and prime meridian; the method of projection from its number
with the parameters of GeoTIFF 1.1, annex C.  pyproj knows codes and turns the text into a system.
"""

from __future__ import annotations

import re
from typing import Any

from ndzarr.geo.geokeys import (
    CITATION,
    GEOGRAPHIC,
    GEOGRAPHIC_CITATION,
    LINEAR_SIZE,
    LINEAR_UNIT,
    MODEL,
    PROJECTED,
    PROJECTED_CITATION,
    UNITS,
    GeoKeys,
)

_DATUM, _PRIME, _ANGULAR_UNIT, _ELLIPSOID, _MAJOR, _MINOR, _FLATTENING = 2050, 2051, 2054, 2056, 2057, 2058, 2059
_PRIME_LONGITUDE, _TO_WGS84 = 2061, 2062
_OPERATION, _METHOD = 3074, 3075
_DEGREE = 9102
_GEOCENTRIC = 3
"""Value of MODEL for coordinates from the centre of the earth, which no image has."""

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
"""Number of a method to its name, and (parameter, keys that may hold it)."""
_EASTING, _NORTHING = ("false_easting", 3082, 3086, 3090), ("false_northing", 3083, 3087, 3091)


def to_pyproj(keys: GeoKeys) -> Any:
    """
    The `pyproj.CRS` of GeoTIFF keys; None where they define none that is understood.

    Raises
    ------
    ImportError
        pyproj is not installed.
    """
    import pyproj

    try:
        horizontal = _horizontal(pyproj, keys)
        if horizontal is None or keys.vertical is None:
            return horizontal
        vertical = pyproj.CRS.from_epsg(keys.vertical)
        if not vertical.is_vertical:  # degrees and heights together, such as EPSG:4979
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
    """The horizontal system without what relates it to WGS 84."""
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
        raise ValueError("angles in other units than degrees")
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
    """A projected system in the well-known text of GDAL; None if the method is unknown."""
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
