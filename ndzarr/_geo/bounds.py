"""Which pixels does a box in coordinates cover, and how many metres has a pixel?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, cos, floor, hypot, isfinite, radians, sin, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._geo.georeference import Georeference
from ndzarr.errors import OptionError, WindowError

if TYPE_CHECKING:
    from ndzarr._pyramid.pyramid import Pyramid


_TOLERANCE = 1e-6
"""Of a pixel, by which a box may miss the border of a pixel and still end there."""
_EDGE_POINTS = 21
"""Points along each edge of a box that are projected, since straight edges become curves."""
_MAJOR, _ECCENTRICITY = 6378137.0, 0.00669437999014
"""Semi-major axis in metres, and squared eccentricity, of WGS 84."""


def settle(
    pyramid: Pyramid,
    window: Mapping[str, Any],
    scale: float | tuple[float, float],
    resolution: float | None,
    bounds: Sequence[float] | None,
    crs: Any,
) -> tuple[dict[str, Any], float | tuple[float, float]]:
    """
    (window in pixels, scale) of a window in coordinates or metres; see `Pyramid.window`.

    Raises
    ------
    WindowError
        The box is no box, the pyramid has no georeference, or two arguments say the same.
    """
    place = placed(pyramid.georeference, pyramid.path)
    out = dict(window)
    if crs is not None and bounds is None:
        raise WindowError(f"crs={crs!r} says in which coordinates bounds= are; give bounds=(left, bottom, right, top)")
    if bounds is not None:
        if taken := [d for d in ("y", "x") if window.get(d) is not None]:
            raise WindowError(f"a window has both bounds= and {taken[0]}=; give only one of them")
        y, x = pixels(place, bounds, crs)
        out |= {"y": slice(*y), "x": slice(*x)}
    if resolution is None:
        return out, scale
    if scale != 1:
        raise WindowError(f"a window has both scale={scale!r} and resolution={resolution!r}; give only one of them")
    if not resolution > 0:
        raise WindowError(f"resolution={resolution!r}: expected metres per pixel, such as 10")
    middle = (_middle(out.get(d), pyramid.sizes[d]) for d in ("y", "x"))
    across, down = metres_per_pixel(place, *middle)
    return out, (across / resolution, down / resolution)


def _middle(interval: Any, n: int) -> float:
    if not isinstance(interval, slice):
        return n / 2
    start = 0 if interval.start is None else interval.start
    return float(start + (n if interval.stop is None else interval.stop)) / 2


def placed(place: Georeference | None, name: str) -> Georeference:
    """
    A georeference with a transform.

    Raises
    ------
    WindowError
        There is none.
    """
    if place is None or place.transform is None:
        points = "only ground control points" if place is not None and place.gcps else "no georeference"
        raise WindowError(f"{name}: has {points}, so that a place on earth means no pixels; give y= and x=")
    return place


def pixels(place: Georeference, bounds: Sequence[float], crs: Any = None) -> tuple[tuple[int, int], tuple[int, int]]:
    """
    The fewest whole pixels that cover a box: half-open intervals along (y, x), which may lie outside.

    Parameters
    ----------
    bounds
        (left, bottom, right, top).
    crs
        Of the bounds, as anything that pyproj takes; that of the image if left out.
    """
    left, bottom, right, top = _box(bounds)
    if crs is not None:
        left, bottom, right, top = _projected(place, (left, bottom, right, top), crs)
    corners = np.array([[left, right, left, right], [bottom, bottom, top, top], [1, 1, 1, 1.0]])
    x, y, _ = np.linalg.inv(place.matrix) @ corners
    return _covering(y), _covering(x)


def _covering(values: np.ndarray[Any, Any]) -> tuple[int, int]:
    start = floor(values.min() + _TOLERANCE)
    return start, max(start + 1, ceil(values.max() - _TOLERANCE))


def _box(bounds: Sequence[float]) -> tuple[float, float, float, float]:
    try:
        left, bottom, right, top = (float(v) for v in bounds)
    except (TypeError, ValueError) as error:
        raise WindowError(f"bounds={bounds!r}: expected four numbers, (left, bottom, right, top)") from error
    if not (left < right and bottom < top and all(map(isfinite, (left, bottom, right, top)))):
        raise WindowError(f"bounds={bounds!r}: expected (left, bottom, right, top) with left < right and bottom < top")
    return left, bottom, right, top


def _projected(
    place: Georeference, box: tuple[float, float, float, float], crs: Any
) -> tuple[float, float, float, float]:
    """A box in the coordinates of the image, around what another system calls a box."""
    if isinstance(crs, int):
        crs = f"EPSG:{crs}"
    if isinstance(crs, str) and place.crs.code is not None and crs.upper() == place.crs.code.upper():
        return box
    own = place.crs.understood("bounds= in another crs=")
    import pyproj

    try:
        other = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise OptionError(
            f"crs={crs!r} is no coordinate reference system that pyproj knows, such as 'EPSG:4326'"
        ) from error
    if other.equals(own, ignore_axis_order=True):
        return box
    transformer = pyproj.Transformer.from_crs(other, own, always_xy=True)
    found: tuple[float, float, float, float] = transformer.transform_bounds(*box, densify_pts=_EDGE_POINTS)
    if not all(map(isfinite, found)) or found[0] >= found[2] or found[1] >= found[3]:
        raise WindowError(f"bounds={box!r} in {crs} have no place in the coordinates of the image ({place.crs.name})")
    return found


def metres_per_pixel(place: Georeference, y: float, x: float) -> tuple[float, float]:
    """
    Size of a native pixel on the ground along (x, y).

    Parameters
    ----------
    y, x
        Where, in pixels: degrees along a parallel become shorter towards the poles.

    Raises
    ------
    OptionError
        The unit of coordinates is not known without pyproj, and that is not installed.
    """
    (a, b, _), (d, e, f) = placed(place, "the image").matrix[:2].tolist()
    unit = place.crs.metres() if place.crs.defined else _unknown()
    if unit is not None:
        return hypot(a, d) * unit, hypot(b, e) * unit
    along, up = _degree(d * x + e * y + f)
    return hypot(a * along, d * up), hypot(b * along, e * up)


def _unknown() -> float:
    raise OptionError(
        "resolution: the image has coordinates, but no reference system that says in which unit; give scale="
    )


def _degree(latitude: float) -> tuple[float, float]:
    """Metres of a degree along the parallel and the meridian at a latitude, on the ellipsoid of WGS 84."""
    phi = radians(max(-90.0, min(90.0, latitude)))
    bend = sqrt(1 - _ECCENTRICITY * sin(phi) ** 2)
    return radians(1) * _MAJOR * cos(phi) / bend, radians(1) * _MAJOR * (1 - _ECCENTRICITY) / bend**3
