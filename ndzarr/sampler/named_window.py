"""Which window of a pyramid does a target mean, where there is no kwcoco dataset?

What needs one, and what only a `CocoSampler` does, is refused rather than left out.
"""

from __future__ import annotations

from typing import Any

from ndzarr.errors import TargetError
from ndzarr.geo.bounds import metres_per_pixel, pixels, placed
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.sampler.target import Target
from ndzarr.sampler.values import NO_PADDING, interval, metres, sized


def window_of(target: Target, pyramid: Pyramid) -> tuple[dict[str, Any], tuple[float, float]]:
    """
    The window by axis, and its scale along (x, y).

    Raises
    ------
    TargetError
        Time is given twice.
    NdzarrError
        The target is in coordinates of the earth, and the pyramid is not.
    """
    window: dict[str, Any] = dict(target.lead)
    if target.time is not None:
        if "t" in window:
            raise TargetError(f"a target has both t={window['t']!r} and a time slice, {target.time!r}; give only one")
        window["t"] = target.time
    size = sized(target.window_dims, target.size)
    asked: Any = target.y, target.x
    if target.bounds is not None:
        asked = pixels(placed(pyramid.georeference, pyramid.path), *target.bounds)
    for axis, given, centre, n, pad in zip("yx", asked, target.centre, size, target.pad[1:], strict=True):
        start, stop = interval(given, centre, n, pyramid.sizes[axis])
        window[axis] = slice(start - pad[0], stop + pad[1])
    if target.channels is not None:
        names = target.channels
        window["c"] = names.split("|") if isinstance(names, str) else names
    return window, _scale(target, pyramid, window["y"], window["x"])


def _scale(target: Target, pyramid: Pyramid, y: slice, x: slice) -> tuple[float, float]:
    """Output pixels per native pixel along (x, y)."""
    if target.output_dims is not None:
        return target.output_dims[1] / max(1, x.stop - x.start), target.output_dims[0] / max(1, y.stop - y.start)
    if target.resolution is None:
        return target.scale
    place, wanted = placed(pyramid.georeference, pyramid.path), metres(target.resolution)
    across, down = metres_per_pixel(place, (y.start + y.stop) / 2, (x.start + x.stop) / 2)
    return target.scale[0] * across / wanted, target.scale[1] * down / wanted


def refuse(target: Target) -> None:
    """Raise `TargetError` for what would not be done."""
    if target.gids or target.vidid is not None or target.aid is not None:
        raise TargetError("gid, gids, vidid and aid need a kwcoco dataset: use ndzarr.CocoSampler, or give key")
    asked = {
        "window_dims='extent'": target.window_dims == "extent" or None,
        "nodata": target.nodata,
        "dtype": target.dtype,
        "padkw": None if target.padding.mode == NO_PADDING.mode else target.padding.mode,
        "use_native_scale": target.native,
        "lazy": target.lazy or None,
    }
    for name, value in asked.items():
        if value is not None:
            raise TargetError(f"{name} needs a kwcoco dataset: use ndzarr.CocoSampler, or leave it out")
