"""What does `Pyramid.window` return, and which coordinates has a level?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray

from ndzarr._indexing.selection import AxisSelection
from ndzarr._pyramid.crops import Crop, Sampling, read_crops
from ndzarr._pyramid.crops import make_crop as crop
from ndzarr._pyramid.levels import Multiscale
from ndzarr._pyramid.xarray import Axis, earth_axes
from ndzarr._pyramid.xarray import attach_spatial_ref as attach
from ndzarr._pyramid.xarray import build_dataset as dataset
from ndzarr._pyramid.xarray import centre_axis as centres
from ndzarr._pyramid.xarray import index_axis as axis
from ndzarr._pyramid.xarray import name_axis as names


def labelled_window(
    pyramid: Multiscale,
    window: Mapping[str, Any],
    scale: float | tuple[float, float],
    sampling: Sampling,
    fill: float,
) -> xarray.DataArray:
    """A window, read and labelled; see `Pyramid.window`."""
    wanted = crop(pyramid, window, scale, sampling, fill)
    [(image, valid)] = read_crops([wanted])
    return label_window(wanted, image, valid, ("valid",))["image"]


def label_window(
    crop: Crop,
    image: np.ndarray[Any, Any],
    valid: np.ndarray[Any, Any] | None,
    coordinates: tuple[str, ...] = (),
) -> xarray.Dataset:
    """
    Name the axes of what was read.

    Parameters
    ----------
    image, valid
        As `read_crops` returns them.
    coordinates
        ('valid',) makes the mask a coordinate rather than a variable.
    """
    cut, dims = crop.region, crop.pyramid.dims
    axes = {d: leading_axis(crop, k) for k, d in enumerate(dims[:-2])}
    place = crop.pyramid.georeference
    transform = None
    if place is None or place.transform is None:
        axes[dims[-2]] = centres(dims[-2], cut.y.origin, cut.y.step, cut.y.n)
        axes[dims[-1]] = centres(dims[-1], cut.x.origin, cut.x.step, cut.x.n)
    else:
        transform = place.window_transform(cut.y.origin, cut.x.origin, cut.y.step, cut.x.step)
        axes |= earth_axes(transform, *cut.shape)
    variables = {"image": (dims, image)}
    if valid is not None:
        variables["valid"] = compact_mask(dims, valid)
    made = dataset(variables, axes, coordinates if valid is not None else ())
    return made if place is None or transform is None else attach(made, place, transform)


def compact_mask(dims: tuple[str, ...], valid: np.ndarray[Any, Any]) -> tuple[tuple[str, ...], np.ndarray[Any, Any]]:
    """The mask with its axes, without c where all channels agree."""
    dims = dims[len(dims) - valid.ndim :]
    if "c" not in dims:
        return dims, valid
    axis = dims.index("c")
    first: np.ndarray[Any, Any] = np.asarray(valid.take(0, axis=axis) if valid.shape[axis] else valid.any(axis=axis))
    if (valid == np.expand_dims(first, axis)).all():
        return tuple(d for d in dims if d != "c"), first
    return dims, valid


def leading_axis(crop: Crop, k: int) -> Axis:
    """The coordinate along the k-th axis, one before y: where it lies outside, indices go on, and seconds are NaN."""
    pyramid, dim = crop.pyramid, crop.pyramid.dims[k]
    beyond = None if crop.outer is None else crop.outer[k]
    if beyond is None:
        return _picked(pyramid, dim, crop.leading[k])
    asked, place = beyond
    if dim != "t" or pyramid.times is None:
        return axis(dim, np.arange(asked.start, asked.stop, asked.step))
    values = np.full(len(asked), np.nan)
    values[place] = np.asarray(pyramid.times)[crop.leading[k]]
    return axis(dim, values)


def _picked(pyramid: Multiscale, dim: str, want: AxisSelection) -> Axis:
    """The coordinate of a selection along an axis before y."""
    if dim == "c":
        return names("c", _channels(pyramid, want))
    values = _positions(pyramid, dim, pyramid.sizes[dim])
    return axis(dim, values[want if isinstance(want, slice) else list(want)])


def channel_names(crop: Crop) -> tuple[str, ...] | None:
    """Names along c of what is read; None where there is no such axis."""
    dims = crop.pyramid.dims
    return _channels(crop.pyramid, crop.leading[dims.index("c")]) if "c" in dims else None


def _channels(pyramid: Multiscale, want: AxisSelection) -> tuple[str, ...]:
    if want == slice(0, len(pyramid.channels), 1):
        return pyramid.channels
    picks = range(want.start, want.stop, want.step) if isinstance(want, slice) else want
    return tuple(pyramid.channels[i] for i in picks)


def _positions(pyramid: Multiscale, dim: str, n: int, factor: float = 1) -> np.ndarray[Any, Any]:
    """Seconds along t where they are known, else indices; between those of the planes that one was made from."""
    if dim == "t" and pyramid.times is not None:
        return np.asarray(pyramid.times)
    return np.arange(n) if factor == 1 else (np.arange(n) + 0.5) * factor - 0.5


def level_coordinates(pyramid: Multiscale, level: int) -> dict[str, np.ndarray[Any, Any]]:
    """Coordinates of a whole level: pixel centres in native pixels, channel names, seconds or indices along t."""
    found = pyramid.levels[level]
    out: dict[str, np.ndarray[Any, Any]] = {}
    for d, n, f in zip(pyramid.dims, found.shape, found.factors, strict=True):
        if d == "c":
            out[d] = np.array(pyramid.channels)
        else:
            out[d] = (np.arange(n) + 0.5) * f if d in pyramid.dims[-2:] else _positions(pyramid, d, n, f)
    return out
