"""Which window of a pyramid does a target mean, where there is no kwcoco dataset?

What needs one, and what only a `CocoSampler` does, is refused rather than left out.
"""

from __future__ import annotations

from operator import index
from typing import Any

from ndzarr._geo.bounds import covering_pixels, metres_per_pixel, require_transform
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._sampling.target import NO_PADDING, Target
from ndzarr._sampling.target import parse_resolution as metres
from ndzarr._sampling.target import window_interval as interval
from ndzarr._sampling.target import window_size as sized
from ndzarr.errors import TargetError


def window_of(target: Target, pyramid: Pyramid) -> tuple[dict[str, Any], tuple[float, float]]:
    """
    The window by axis, and its scale along (x, y).

    Raises
    ------
    TargetError
        Time is given twice, or padded where there is none.
    NdzarrError
        The target is in coordinates of the earth, and the pyramid is not.
    """
    window: dict[str, Any] = dict(target.lead)
    if target.time is not None:
        if "t" in window:
            raise TargetError(f"a target has both t={window['t']!r} and a time slice, {target.time!r}; give only one")
        window["t"] = target.time
    if any(target.pad[0]):
        window["t"] = _padded_in_time(window.get("t"), target.pad[0], pyramid)
    size = sized(target.window_dims, target.size)
    asked: Any = target.y, target.x
    if target.bounds is not None:
        asked = covering_pixels(require_transform(pyramid.georeference, pyramid.path), *target.bounds)
    for axis, given, centre, n, pad in zip("yx", asked, target.centre, size, target.pad[1:], strict=True):
        start, stop = interval(given, centre, n, pyramid.sizes[axis])
        window[axis] = slice(start - pad[0], stop + pad[1])
    if target.channels is not None:
        names = target.channels
        window["c"] = names.split("|") if isinstance(names, str) else names
    return window, _scale(target, pyramid, window["y"], window["x"])


def _padded_in_time(want: Any, pad: tuple[int, int], pyramid: Pyramid) -> slice:
    """The frames wanted, with more of the same step around them."""
    if "t" not in pyramid.dims:
        raise TargetError(f"pad={pad} along t: {pyramid.path} has axes {' '.join(pyramid.dims)}; give pad=(y, x)")
    want = slice(None) if want is None else want
    if not isinstance(want, slice):
        raise TargetError(f"pad={pad} along t: frames that are listed, t={want!r}, have no neighbours; give a slice")
    try:
        frames = range(index(want.start or 0), index(pyramid.sizes["t"] if want.stop is None else want.stop))
        frames = frames[:: 1 if want.step is None else index(want.step)]
    except (TypeError, ValueError) as error:
        raise TargetError(f"t={want!r}: expected integers, and a step of at least 1") from error
    if frames.step < 1 or not frames:
        raise TargetError(f"t={want!r}: expected start < stop, and a step of at least 1")
    return slice(frames[0] - frames.step * pad[0], frames[-1] + frames.step * pad[1] + 1, frames.step)


def _scale(target: Target, pyramid: Pyramid, y: slice, x: slice) -> tuple[float, float]:
    """Output pixels per native pixel along (x, y)."""
    if target.output_dims is not None:
        return target.output_dims[1] / max(1, x.stop - x.start), target.output_dims[0] / max(1, y.stop - y.start)
    if target.resolution is None:
        return target.scale
    place, wanted = require_transform(pyramid.georeference, pyramid.path), metres(target.resolution)
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
