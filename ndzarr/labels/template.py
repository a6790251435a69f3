"""How does a window get its coordinates in tens of microseconds?

Building an xarray object with coordinates takes several hundred microseconds; slicing one that exists takes fifty.  So each
level has a template: a DataArray of the level's shape without any pixels (one zero, broadcast), with all coordinates.
A window that copies pixels of a level is a slice of its template with the pixels put in.  Windows that are padded or resampled
have coordinates of their own, made anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray

from ndzarr.geometry.region import Span
from ndzarr.geometry.selection import AxisSelection
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.pyramid.region import Crop


def template(pyramid: Pyramid, level: int, channels: tuple[int, ...] | None) -> xarray.DataArray:
    """The template of a level, for all channels or some, kept with the pyramid."""
    held: dict[Any, xarray.DataArray] = pyramid.__dict__.setdefault("_templates", {})
    key = (level, channels)
    if key not in held:
        shape = list(pyramid.levels[level].shape)
        coords = coordinates(pyramid, level)
        if channels is not None:
            coords["c"] = coords["c"][list(channels)]
            shape[pyramid.dims.index("c")] = len(channels)
        blank = np.broadcast_to(pyramid.dtype.type(0), shape)
        held[key] = xarray.DataArray(blank, coords, pyramid.dims, name="image")
    return held[key]


def coordinates(pyramid: Pyramid, level: int) -> dict[str, np.ndarray[Any, Any]]:
    """Coordinates of a level: pixel centres in native pixels, channel names, seconds or indices along t."""
    shape, factors = pyramid.levels[level].shape, pyramid.levels[level].factors
    out: dict[str, np.ndarray[Any, Any]] = {}
    for d, n, f in zip(pyramid.dims, shape, factors, strict=True):
        if d == "c":
            out[d] = np.array(pyramid.channels)
        elif d in ("y", "x"):
            out[d] = (np.arange(n) + 0.5) * f
        else:
            out[d] = np.asarray(pyramid.times) if d == "t" and pyramid.times is not None else np.arange(n) * f
    return out


def label(crop: Crop, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None) -> xarray.DataArray:
    """
    Name the axes of what was read.

    Parameters
    ----------
    image, valid
        As `read_crops` returns them.
    """
    pyramid, cut = crop.pyramid, crop.region
    dims = pyramid.dims
    lead: dict[str, AxisSelection] = dict(zip(dims[:-2], crop.lead, strict=True))
    picked = lead.pop("c", None)
    indexers = {d: list(s) if isinstance(s, tuple) else s for d, s in lead.items()}  # tuples mean something else to xarray
    channels = picked if isinstance(picked, tuple) else None
    if isinstance(picked, slice) and picked != slice(0, len(pyramid.channels), 1):
        channels = tuple(range(picked.start, picked.stop, picked.step))
    base = template(pyramid, cut.level, channels)
    if cut.exact and not cut.padded:
        out = base.isel({**indexers, "y": cut.y.read, "x": cut.x.read})
        out.data = image
    else:
        sliced = base.isel({**indexers, "y": slice(0, 0), "x": slice(0, 0)})
        coords = {d: sliced.coords[d] for d in dims[:-2]}
        coords["y"] = _centres(cut.y)
        coords["x"] = _centres(cut.x)
        out = xarray.DataArray(image, coords, dims, name="image")
    if valid is not None:
        out.coords["valid"] = (tuple(d for d in dims if d != "c")[-valid.ndim :], valid)
    return out


def _centres(span: Span) -> np.ndarray[Any, Any]:
    """Centres of the output pixels in native pixels."""
    return span.origin + (np.arange(span.n) + 0.5) * span.pitch
