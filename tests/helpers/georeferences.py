"""Georeferences of many kinds, as rasterio writes them."""

import numpy as np
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine


def chain(*parts):
    """The product of transforms; affine 2 writes it with *, affine 3 with @."""
    found = np.eye(3)
    for part in parts:
        found = found @ np.array(part).reshape(3, 3)
    return Affine(*found[:2].ravel().tolist())


NORTH_UP = Affine(10, 0, 500000, 0, -10, 4600000)
DEGREES = Affine(0.001, 0, 10, 0, -0.002, 50)
GCPS = [GroundControlPoint(0, 0, 10, 50), GroundControlPoint(0, 400, 11, 50.1), GroundControlPoint(300, 0, 10.1, 49)]

KINDS = {
    "utm": {"crs": "EPSG:32633", "transform": NORTH_UP},
    "degrees": {"crs": "EPSG:4326", "transform": DEGREES},
    "feet": {"crs": "EPSG:2264", "transform": NORTH_UP},
    "web mercator": {"crs": "EPSG:3857", "transform": NORTH_UP},
    "rotated": {
        "crs": "EPSG:32633",
        "transform": chain(Affine.translation(5e5, 46e5), Affine.rotation(30), Affine.scale(10, -10)),
    },
    "south up": {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, 10, 4600000)},
    "point": {"crs": "EPSG:32633", "transform": NORTH_UP, "tags": {"AREA_OR_POINT": "Point"}},
    "rotated point": {
        "crs": "EPSG:32633",
        "transform": chain(Affine.translation(5e5, 46e5), Affine.rotation(20), Affine.scale(10, -10)),
        "tags": {"AREA_OR_POINT": "Point"},
    },
    "own laea": {"crs": "+proj=laea +lat_0=10 +lon_0=20 +x_0=1000 +y_0=0 +ellps=GRS80 +units=m", "transform": NORTH_UP},
    "own albers in feet": {
        "crs": "+proj=aea +lat_1=29.5 +lat_2=45.5 +lat_0=23 +lon_0=-96 +x_0=0 +y_0=0 +datum=NAD83 +units=us-ft",
        "transform": NORTH_UP,
    },
    "own polar": {"crs": "+proj=stere +lat_0=90 +lat_ts=70 +lon_0=-45 +k=1 +datum=WGS84", "transform": NORTH_UP},
    "own ellipsoid": {"crs": "+proj=longlat +a=6378000 +rf=300", "transform": DEGREES},
    "own mercator": {"crs": "+proj=merc +lon_0=100 +k=0.9 +x_0=3000 +y_0=0 +datum=WGS84", "transform": NORTH_UP},
    "own transverse": {
        "crs": "+proj=tmerc +lat_0=1 +lon_0=9 +k=0.9996 +x_0=5e5 +y_0=7 +ellps=bessel",
        "transform": NORTH_UP,
    },
    "own conic": {
        "crs": "+proj=lcc +lat_1=33 +lat_2=45 +lat_0=40 +lon_0=-97 +x_0=2 +y_0=1 +datum=NAD83",
        "transform": NORTH_UP,
    },
    "mollweide": {"crs": "+proj=moll +lon_0=10 +datum=WGS84", "transform": NORTH_UP},
    "no crs": {"crs": None, "transform": NORTH_UP},
}
"""Name to how rasterio writes it."""


def equal_transforms(found, expected):
    """True up to a millionth of a pixel."""
    pixel = np.abs([expected[0], expected[1], expected[3], expected[4]]).max()
    return np.allclose(tuple(found)[:6], tuple(expected)[:6], rtol=0, atol=1e-6 * pixel)
