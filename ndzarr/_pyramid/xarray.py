"""How is an xarray object made from parts that are known to fit, in tens of microseconds?

xarray's public constructors check and align what they are given, which takes several hundred microseconds for a
sample of an image and a few columns.  Here names, shapes and indexes are right by construction, so the object is put
together directly.  `Dataset._construct_direct` is what xarray itself uses for that in nearly every operation, and the
four slots of a `Variable` are as old; tests hold the result against the public constructors on the oldest and the
newest xarray.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray
from xarray.core.indexing import PandasIndexingAdapter
from xarray.indexes import PandasIndex

from ndzarr._geo.georeference import GRID_MAPPING, Georeference, Transform, grid_mapping_attributes


class Axis(NamedTuple):
    """A dimension coordinate."""

    labels: PandasIndex
    """Its index."""
    variable: xarray.IndexVariable
    """What shows it."""


def index_axis(name: str, values: np.ndarray[Any, Any]) -> Axis:
    """A dimension coordinate of numbers or dates."""
    labels = pd.Index(values)
    return Axis(PandasIndex(labels, name), xarray.IndexVariable((name,), labels, fastpath=True))


def common_axis(name: str, values: np.ndarray[Any, Any]) -> Axis:
    """A dimension coordinate that many objects share, such as the dates of a video's frames."""
    return _axis_of(name, values.tobytes(), values.dtype.str)


@lru_cache(maxsize=256)
def _axis_of(name: str, values: bytes, dtype: str) -> Axis:
    return index_axis(name, np.frombuffer(values, dtype))


def _variable(kind: Any, dims: tuple[str, ...], data: Any) -> Any:
    """A variable of parts that fit, without its constructor's checks and conversions."""
    made = object.__new__(kind)
    made._dims, made._data, made._attrs, made._encoding = dims, data, None, None
    return made


def centre_axis(name: str, origin: float, step: float, n: int) -> Axis:
    """
    A coordinate of pixel centres.

    Parameters
    ----------
    origin
        Where the first pixel begins, in native pixels.
    step
        Native pixels per pixel.
    """
    first = int(origin / step)
    if step == int(step) and origin == first * step and 0 <= first <= LONGEST_GRID - n:
        # Slicing an index that exists costs a fifth of making one.
        index = _grid(name, step, 1 << (first + n).bit_length()).isel({name: slice(first, first + n)})
        assert index is not None  # only a scalar would drop it
        values = object.__new__(PandasIndexingAdapter)
        values.array, values._dtype = index.index, _FLOAT
        return Axis(index, _variable(xarray.IndexVariable, (name,), values))
    return index_axis(name, (np.arange(n) + 0.5) * step + origin)


_FLOAT = np.dtype("f8")

LONGEST_GRID = 1 << 18
"""Pixels up to which coordinates on whole pixels are sliced from a common grid."""


@lru_cache(maxsize=16)
def _grid(name: str, step: float, n: int) -> PandasIndex:
    return index_axis(name, (np.arange(n) + 0.5) * step).labels


@lru_cache(maxsize=256)
def name_axis(name: str, labels: tuple[str, ...]) -> Axis:
    """A coordinate of names, such as channels; shared by all objects that have it."""
    values = np.array(labels)
    return Axis(PandasIndex(values, name, coord_dtype=values.dtype), xarray.IndexVariable((name,), values))


def build_dataset(
    variables: Mapping[str, tuple[tuple[str, ...], np.ndarray[Any, Any]]],
    axes: Mapping[str, Axis],
    coordinates: tuple[str, ...] = (),
    encoding: dict[str, Any] | None = None,
) -> xarray.Dataset:
    """
    A Dataset.

    Parameters
    ----------
    variables
        Name to (dims, values); lengths agree wherever dims do.
    axes
        Dimension coordinates by name.
    coordinates
        Those of `variables` that are coordinates.
    """
    parts: dict[Any, Any] = {d: a.variable for d, a in axes.items()}
    sizes: dict[Any, int] = {d: len(a.labels.index) for d, a in axes.items()}
    for name, (dims, values) in variables.items():
        parts[name] = _variable(xarray.Variable, dims, values)
        sizes.update(zip(dims, values.shape, strict=True))
    indexes: dict[Any, Any] = {d: a.labels for d, a in axes.items()}
    return xarray.Dataset._construct_direct(
        parts, {*axes, *coordinates}, dims=sizes, indexes=indexes, encoding=encoding or {}
    )


# --- How do rioxarray and odc-geo learn where a window lies?


_ZERO = np.array(0)


def spatial_ref_coordinate(place: Georeference, transform: Transform) -> xarray.Variable:
    """The grid mapping of pixels that a transform maps to earth."""
    return xarray.Variable((), _ZERO, grid_mapping_attributes(place, transform), fastpath=True)


def earth_centre_axis(
    transform: Transform, height: int, width: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(y, x) of pixel centres."""
    a, b, c, d, e, f = transform
    down, across = np.arange(height) + 0.5, np.arange(width) + 0.5
    return (e * down + f, a * across + c) if b == 0 == d else (down, across)


def earth_axes(transform: Transform, height: int, width: int) -> dict[str, Axis]:
    """Coordinates y and x."""
    y, x = earth_centre_axis(transform, height, width)
    return {"y": index_axis("y", y), "x": index_axis("x", x)}


def attach_spatial_ref(sample: xarray.Dataset, place: Georeference, transform: Transform) -> xarray.Dataset:
    """
    Add the grid mapping to a Dataset that was just made.

    It goes straight into the parts of the Dataset (see `construct`), as assigning it takes ten times as long.
    """
    sample._variables[GRID_MAPPING] = spatial_ref_coordinate(place, transform)
    sample._coord_names.add(GRID_MAPPING)
    for name in ("image", "valid"):
        if name in sample._variables:
            sample._variables[name].encoding = {"grid_mapping": GRID_MAPPING}
    return sample
