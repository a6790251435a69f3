"""Where does a GeoTIFF lie?

The transform comes from ModelTransformation, or from ModelPixelScale and the first tie point; tie points alone are
ground control points.  GeoTIFF keys are kept as they are.  Where pixels are turned upright, so is the transform.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ndzarr.geo.geokeys import DIRECTORY, DOUBLES, TEXTS, GeoKeys
from ndzarr.sources.orientation import Orientation

_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION = 33550, 33922, 34264


def georeference(page: Any, orientation: Orientation) -> dict[str, Any]:
    """
    What the tags of a page say; empty where they say nothing.

    `transform` is (a, b, c, d, e, f): x = a * column + b * row + c, y = d * column + e * row + f, for corners of
    upright pixels; `pixel_is_point` is True where the file gave it for centres.  `gcps` are (column, row, level, x, y,
    z).
    `geotiff` holds the keys as stored, `epsg` the code of the horizontal system if they name one.
    """
    keys = _keys(page)
    matrix = _transform(page)
    gcps = _control_points(page) if matrix is None else ()
    if matrix is None and not gcps and keys is None:
        return {}
    out: dict[str, Any] = {"epsg": None if keys is None else keys.epsg}
    if matrix is not None:
        if keys is not None and keys.point:  # coordinates are of centres; move to corners
            matrix = matrix @ np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
        stored = matrix @ _turned(orientation, int(page.imagelength), int(page.imagewidth))
        out["transform"] = stored[:2].ravel().tolist()
    elif gcps and orientation.tag == 1:
        out["gcps"] = [list(gcp) for gcp in gcps]
    if keys is not None:
        out["geotiff"] = keys.as_json()
        if keys.point:
            out["pixel_is_point"] = True
    return out


def _transform(page: Any) -> np.ndarray[Any, Any] | None:
    """3x3, from stored pixels."""
    matrix, scale, ties = (_floats(page, code) for code in (_TRANSFORMATION, _PIXEL_SCALE, _TIEPOINTS))
    if len(matrix) == 16:
        found = [[matrix[0], matrix[1], matrix[3]], [matrix[4], matrix[5], matrix[7]], [0, 0, 1]]
    elif len(scale) >= 2 and len(ties) >= 6:
        a, e = scale[0], -scale[1]
        found = [[a, 0, ties[3] - ties[0] * a], [0, e, ties[4] - ties[1] * e], [0, 0, 1]]
    else:
        return None
    array = np.array(found, float)
    return array if np.isfinite(array).all() and np.linalg.det(array) != 0 else None


def _control_points(page: Any) -> tuple[tuple[float, ...], ...]:
    ties = _floats(page, _TIEPOINTS)
    if len(ties) < 12 or len(ties) % 6 or not np.isfinite(ties).all():
        return ()
    return tuple(ties[i : i + 6] for i in range(0, len(ties), 6))


def _turned(orientation: Orientation, height: int, width: int) -> np.ndarray[Any, Any]:
    """3x3, from upright pixels to stored ones, of an image stored with this height and width."""
    # Where the first pixel, the one right of it and the one below it are stored tells the whole transform.
    tall, wide = orientation.size(height, width)
    corner = np.array([_stored(orientation, y, x, tall, wide) for y, x in ((0, 0), (0, 1), (1, 0))], float)
    first, right, below = corner + 0.5  # centres
    across, down = right - first, below - first
    start = first - 0.5 * (across + down)
    return np.array([[across[1], down[1], start[1]], [across[0], down[0], start[0]], [0, 0, 1]])


def _stored(orientation: Orientation, y: int, x: int, height: int, width: int) -> tuple[int, int]:
    """Stored (row, column) of an upright pixel; also of one beyond the border."""
    rows, columns = orientation.stored(slice(y, y + 1), slice(x, x + 1), height, width)
    return rows.start, columns.start


def _keys(page: Any) -> GeoKeys | None:
    directory, texts = page.tags.get(DIRECTORY), page.tags.get(TEXTS)
    values = () if directory is None else tuple(int(v) for v in np.atleast_1d(directory.value))
    if len(values) < 4 or values[0] != 1:
        return None
    text, numbers = "" if texts is None else texts.value, _floats(page, DOUBLES)
    if not np.isfinite(numbers).all():
        return None
    return GeoKeys(values, numbers, text if isinstance(text, str) else text.decode("latin1"))


def _floats(page: Any, code: int) -> tuple[float, ...]:
    tag = page.tags.get(code)
    return () if tag is None else tuple(float(v) for v in np.atleast_1d(tag.value))
