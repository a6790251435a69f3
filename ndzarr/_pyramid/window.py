"""Labels: windows as xarray objects, and the coordinates of levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray

from ndzarr._indexing.selection import AxisSelection
from ndzarr._pyramid.crops import Crop, Sampling, make_crop, read_crops
from ndzarr._pyramid.levels import Multiscale
from ndzarr._pyramid.xarray import (
    Axis,
    attach_nodata,
    attach_spatial_ref,
    build_dataset,
    centre_axis,
    earth_axes,
    index_axis,
    name_axis,
)
from ndzarr._store.validity import nodata_of


def labelled_window(
    pyramid: Multiscale, window: Mapping[str, Any], scale: float | tuple[float, float], sampling: Sampling, fill: float
) -> xarray.DataArray:
    """Read and label a window; see `Pyramid.window`."""
    crop = make_crop(pyramid, window, scale, sampling, fill)
    [(image, valid)] = read_crops([crop])
    return label_window(crop, image, valid, ("valid",))["image"]


def label_window(
    crop: Crop, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None, coordinates: tuple[str, ...] = ()
) -> xarray.Dataset:
    """Label what `read_crops` returned for a crop; `coordinates` ('valid',) makes the mask a coordinate."""
    region, dims = crop.region, crop.pyramid.dims
    axes = {d: leading_axis(crop, k) for k, d in enumerate(dims[:-2])}
    georeference = crop.pyramid.georeference
    transform = None
    if georeference is None or georeference.transform is None:
        axes[dims[-2]] = centre_axis(dims[-2], region.y.origin, region.y.step, region.y.n)
        axes[dims[-1]] = centre_axis(dims[-1], region.x.origin, region.x.step, region.x.n)
    else:
        transform = georeference.window_transform(region.y.origin, region.x.origin, region.y.step, region.x.step)
        axes |= earth_axes(transform, *region.shape)
    variables = {"image": (dims, image)}
    if valid is not None:
        variables["valid"] = compact_mask(dims, valid)
    out = build_dataset(variables, axes, coordinates if valid is not None else ())
    if (nodata := crop_nodata(crop)) is not None:
        attach_nodata(out._variables["image"], nodata)
    return out if georeference is None or transform is None else attach_spatial_ref(out, georeference, transform)


def crop_nodata(crop: Crop) -> float | None:
    """Return the value of missing data in all channels of a crop; None if they have none, or different ones."""
    found = crop.pyramid.nodata
    if isinstance(found, tuple):
        want = crop.leading[crop.pyramid.dims.index("c")]
        found = nodata_of(found, range(len(found))[want] if isinstance(want, slice) else want)
    return None if isinstance(found, tuple) else found


def compact_mask(dims: tuple[str, ...], valid: np.ndarray[Any, Any]) -> tuple[tuple[str, ...], np.ndarray[Any, Any]]:
    """Return (dims, mask), without c if all channels agree."""
    dims = dims[len(dims) - valid.ndim :]
    if "c" not in dims:
        return dims, valid
    axis = dims.index("c")
    first: np.ndarray[Any, Any] = np.asarray(valid.take(0, axis=axis) if valid.shape[axis] else valid.any(axis=axis))
    if (valid == np.expand_dims(first, axis)).all():
        return tuple(d for d in dims if d != "c"), first
    return dims, valid


def leading_axis(crop: Crop, k: int) -> Axis:
    """Return the coordinate of the k-th axis, one before y.  Outside the axis, indices go on and seconds are NaN."""
    pyramid, dim = crop.pyramid, crop.pyramid.dims[k]
    beyond = None if crop.outer is None else crop.outer[k]
    if beyond is None:
        want = crop.leading[k]
        if dim == "c":
            return name_axis("c", _channels(pyramid, want))
        values = _positions(pyramid, dim, pyramid.sizes[dim])
        return index_axis(dim, values[want if isinstance(want, slice) else list(want)])
    asked, inside = beyond
    if dim != "t" or pyramid.times is None:
        return index_axis(dim, np.arange(asked.start, asked.stop, asked.step))
    values = np.full(len(asked), np.nan)
    values[inside] = np.asarray(pyramid.times)[crop.leading[k]]
    return index_axis(dim, values)


def channel_names(crop: Crop) -> tuple[str, ...] | None:
    """Return the channel names of a crop; None if it has no axis c."""
    dims = crop.pyramid.dims
    return _channels(crop.pyramid, crop.leading[dims.index("c")]) if "c" in dims else None


def _channels(pyramid: Multiscale, want: AxisSelection) -> tuple[str, ...]:
    if want == slice(0, len(pyramid.channels), 1):
        return pyramid.channels
    indices = range(want.start, want.stop, want.step) if isinstance(want, slice) else want
    return tuple(pyramid.channels[i] for i in indices)


def _positions(pyramid: Multiscale, dim: str, n: int, factor: float = 1) -> np.ndarray[Any, Any]:
    """Return seconds along t if they are known, else native indices: the mean of those that a plane was made from."""
    if dim == "t" and pyramid.times is not None:
        return np.asarray(pyramid.times)
    return np.arange(n) if factor == 1 else (np.arange(n) + 0.5) * factor - 0.5


def level_coordinates(pyramid: Multiscale, level: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return the coordinates of a level: pixel centres in native pixels, channel names, seconds or indices along t."""
    shape, factors = pyramid.levels[level].shape, pyramid.levels[level].factors
    out: dict[str, np.ndarray[Any, Any]] = {}
    for d, n, f in zip(pyramid.dims, shape, factors, strict=True):
        if d == "c":
            out[d] = np.array(pyramid.channels)
        else:
            out[d] = (np.arange(n) + 0.5) * f if d in pyramid.dims[-2:] else _positions(pyramid, d, n, f)
    return out
