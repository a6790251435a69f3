"""Windows given by coordinates or by lengths: the pixels that they cover, and the size of a pixel on the ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, cos, floor, hypot, inf, isfinite, radians, sin, sqrt
from typing import Any

import numpy as np

from ndzarr._geo.georeference import Georeference
from ndzarr._geo.pixel_size import ANGLE, USE_SCALE, PixelSize, Quantity, is_physical, parse_quantity
from ndzarr.errors import OptionError, WindowError

_TOLERANCE = 1e-6
"""Part of a pixel by which a box may miss the border of a pixel and still end there."""
_EDGE_POINTS = 21
"""Points along each edge of a box that are projected, since straight edges become curves."""
_MAJOR, _ECCENTRICITY = 6378137.0, 0.00669437999014
"""Semi-major axis in metres, and squared eccentricity, of WGS 84."""


def pixel_window(
    georeference: Georeference | None,
    pixel_size: PixelSize | None,
    name: str,
    sizes: Mapping[str, int],
    window: Mapping[str, Any],
    scale: float | tuple[float, float],
    resolution: Any,
    bounds: Sequence[float] | None,
    crs: Any,
) -> tuple[dict[str, Any], float | tuple[float, float]]:
    """Return (window in native pixels, scale) of a window given by coordinates or lengths; see `Pyramid.window`."""
    out = dict(window)
    if crs is not None and bounds is None:
        message = f"crs={crs!r} names the coordinates of bounds=, which are not given"
        raise WindowError(message, key="crs", hint="Give bounds=(left, bottom, right, top)")
    if bounds is not None:
        place = require_transform(georeference, name)
        if taken := [d for d in ("y", "x") if window.get(d) is not None]:
            raise WindowError(
                f"a window has both bounds= and {taken[0]}=", path=name, key="bounds", hint="Give only one of them"
            )
        y, x = covering_pixels(place, bounds, crs)
        out |= {"y": slice(*y), "x": slice(*x)}
    for axis in ("y", "x"):
        if has_lengths(out.get(axis)):
            size = pixel_size_at(georeference, pixel_size, name, sizes["y"] / 2, sizes["x"] / 2)
            out[axis] = _lengths_in_pixels(axis, out[axis], size, name)
    if resolution is None:
        return out, scale
    wanted = parse_quantity("resolution", resolution, WindowError)
    if scale != 1:
        message = f"a window has both scale={scale!r} and resolution={resolution!r}"
        raise WindowError(message, key="resolution", hint="Give only one of them")
    down, across = (_middle(out.get(d), sizes[d]) for d in ("y", "x"))
    return out, pixel_size_at(georeference, pixel_size, name, down, across, wanted).scale_to(wanted, name, WindowError)


def has_lengths(interval: Any) -> bool:
    """Return True for a slice whose start or stop is a length, such as slice('0 um', '50 um')."""
    return isinstance(interval, slice) and (is_physical(interval.start) or is_physical(interval.stop))


def _lengths_in_pixels(axis: str, interval: slice, size: PixelSize, name: str) -> slice:
    """Return a slice in pixels, lengths rounded to the nearest border of pixels."""

    def pixels(end: Any) -> Any:
        if not is_physical(end):
            return end
        return round(size.pixels(axis, parse_quantity(axis, end, WindowError, True), name, WindowError))

    return slice(pixels(interval.start), pixels(interval.stop), interval.step)


def _middle(interval: Any, n: int) -> float:
    if not isinstance(interval, slice):
        return n / 2
    start = 0 if interval.start is None else interval.start
    return float(start + (n if interval.stop is None else interval.stop)) / 2


def require_transform(georeference: Georeference | None, name: str) -> Georeference:
    """Return a georeference that has a transform."""
    if georeference is None or georeference.transform is None:
        found = "only ground control points" if georeference is not None and georeference.gcps else "no georeference"
        raise WindowError(
            f"{name}: has {found}, so coordinates do not select pixels", path=name, hint="Give y= and x= in pixels"
        )
    return georeference


def covering_pixels(
    georeference: Georeference, bounds: Sequence[float], crs: Any = None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """
    Return the fewest whole pixels that cover a box: half-open intervals along (y, x), which may lie outside the image.

    `bounds` is (left, bottom, right, top) in `crs`, anything that pyproj takes; None is the system of the image.
    """
    left, bottom, right, top = _check_box(bounds)
    if crs is not None:
        left, bottom, right, top = _project_box(georeference, (left, bottom, right, top), crs)
    corners = np.array([[left, right, left, right], [bottom, bottom, top, top], [1, 1, 1, 1.0]])
    x, y, _ = np.linalg.inv(georeference.matrix) @ corners
    return _covering(y), _covering(x)


def _covering(values: np.ndarray[Any, Any]) -> tuple[int, int]:
    start = floor(values.min() + _TOLERANCE)
    return start, max(start + 1, ceil(values.max() - _TOLERANCE))


def _check_box(bounds: Sequence[float]) -> tuple[float, float, float, float]:
    try:
        left, bottom, right, top = (float(v) for v in bounds)
    except (TypeError, ValueError) as error:
        raise WindowError(
            f"bounds={bounds!r}: expected four numbers, (left, bottom, right, top)", key="bounds", window=bounds
        ) from error
    if not (left < right and bottom < top and all(map(isfinite, (left, bottom, right, top)))):
        message = f"bounds={bounds!r}: expected (left, bottom, right, top) with left < right and bottom < top"
        raise WindowError(message, key="bounds", window=bounds)
    return left, bottom, right, top


def _project_box(
    georeference: Georeference, box: tuple[float, float, float, float], crs: Any
) -> tuple[float, float, float, float]:
    """Return the box in the image's coordinates that holds a box given in those of `crs`."""
    own_crs = georeference.crs
    if isinstance(crs, int):
        crs = f"EPSG:{crs}"
    if isinstance(crs, str) and own_crs.code is not None and crs.upper() == own_crs.code.upper():
        return box
    own = own_crs.require_pyproj("bounds= in another crs=")
    import pyproj

    try:
        other = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        message = f"crs={crs!r}: pyproj knows no such coordinate reference system"
        raise OptionError(message, key="crs", hint="Give a code such as 'EPSG:4326'") from error
    if other.equals(own, ignore_axis_order=True):
        return box
    transformer = pyproj.Transformer.from_crs(other, own, always_xy=True)
    found: tuple[float, float, float, float] = transformer.transform_bounds(*box, densify_pts=_EDGE_POINTS)
    if not all(map(isfinite, found)) or found[0] >= found[2] or found[1] >= found[3]:
        message = f"bounds={box!r} in {crs} have no place in the coordinates of the image ({own_crs.name})"
        raise WindowError(message, key="bounds", window=box)
    return found


def pixel_size_at(
    georeference: Georeference | None,
    pixel_size: PixelSize | None,
    name: str,
    y: float,
    x: float,
    wanted: Quantity | None = None,
) -> PixelSize:
    """
    Return the size of a native pixel at a place in pixels; `pixel_size` is what the image says of all its pixels.

    On earth it is in metres on the ground, unless an angle is wanted.
    """
    angle = wanted is not None and wanted.kind == ANGLE
    if georeference is not None and georeference.transform is not None and not angle:
        stated = pixel_size is not None and pixel_size.x is not None and not georeference.crs.defined
        if not stated:
            across, down = metres_per_pixel(georeference, y, x)
            return replace(pixel_size or PixelSize(), y=Quantity(down, "meter"), x=Quantity(across, "meter"))
    if pixel_size is None or not pixel_size.known:
        message = f"{name}: a resolution or a length needs the size of a pixel, which it does not state"
        raise WindowError(message, path=name, key="resolution", hint=USE_SCALE)
    return pixel_size


def georeferenced_size(georeference: Georeference | None, ask_pyproj: bool) -> PixelSize | None:
    """
    Return the size of a pixel in the reference system: metres, or degrees.

    None without a system, or if its unit is not known; `ask_pyproj` may import pyproj to know it.
    """
    if georeference is None or georeference.transform is None:
        return None
    crs = georeference.crs
    if not crs.defined or not (ask_pyproj or crs.tells_unit):
        return None
    try:
        metres = crs.metres()
    except OptionError:  # pyproj is missing, or does not understand the system
        return None
    (a, b, _), (d, e, _) = georeference.matrix[:2].tolist()
    unit, factor = ("degree", 1.0) if metres is None else ("meter", metres)
    across, down = hypot(a, d) * factor, hypot(b, e) * factor
    if not (0 < across < inf and 0 < down < inf):
        return None
    return PixelSize(y=Quantity(down, unit), x=Quantity(across, unit), source="georeference")


def metres_per_pixel(georeference: Georeference, y: float, x: float) -> tuple[float, float]:
    """
    Return the size of a native pixel on the ground along (x, y), in metres, at a place in pixels.

    The place counts: degrees along a parallel become shorter towards the poles.
    """
    georeference = require_transform(georeference, "the image")
    (a, b, _), (d, e, f) = georeference.matrix[:2].tolist()
    if not georeference.crs.defined:
        message = "resolution: the image has coordinates, but no reference system that tells their unit"
        raise OptionError(message, key="resolution", hint="Give scale=")
    unit = georeference.crs.metres()
    if unit is not None:
        return hypot(a, d) * unit, hypot(b, e) * unit
    along, up = _metres_per_degree(d * x + e * y + f)
    return hypot(a * along, d * up), hypot(b * along, e * up)


def _metres_per_degree(latitude: float) -> tuple[float, float]:
    """Metres per degree along the parallel and along the meridian, on the ellipsoid of WGS 84."""
    phi = radians(max(-90.0, min(90.0, latitude)))
    bend = sqrt(1 - _ECCENTRICITY * sin(phi) ** 2)
    return radians(1) * _MAJOR * cos(phi) / bend, radians(1) * _MAJOR * (1 - _ECCENTRICITY) / bend**3
