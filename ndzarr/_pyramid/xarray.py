"""Direct construction of xarray objects, in tens of microseconds.

xarray's public constructors check and align their arguments, which takes several hundred microseconds for a sample of
an image and a few columns.  Here names, shapes and indexes fit by construction, so the object is put together directly.
xarray itself uses `Dataset._construct_direct` in nearly every operation, and the four slots of a `Variable` are as old.
Tests compare the result with that of the public constructors on the oldest and the newest supported xarray.
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

from ndzarr._geo.georeference import (
    GRID_MAPPING,
    Georeference,
    Transform,
    earth_centres,
    grid_mapping_attributes,
)
from ndzarr._store.validity import as_pixel


class Axis(NamedTuple):
    """A dimension coordinate."""

    labels: PandasIndex
    variable: xarray.IndexVariable


def index_axis(name: str, values: np.ndarray[Any, Any]) -> Axis:
    """Return a dimension coordinate of numbers or dates."""
    labels = pd.Index(values)
    return Axis(PandasIndex(labels, name), xarray.IndexVariable((name,), labels, fastpath=True))


def common_axis(name: str, values: np.ndarray[Any, Any]) -> Axis:
    """Return a cached dimension coordinate, for values that many objects share, such as dates of frames."""
    return _axis_of(name, values.tobytes(), values.dtype.str)


@lru_cache(maxsize=256)
def _axis_of(name: str, values: bytes, dtype: str) -> Axis:
    return index_axis(name, np.frombuffer(values, dtype))


def centre_axis(name: str, origin: float, step: float, n: int) -> Axis:
    """Return a coordinate of pixel centres, the first of which begins at `origin`; `step` native pixels per pixel."""
    first = int(origin / step)
    if step == int(step) and origin == first * step and 0 <= first <= LONGEST_GRID - n:
        # Slicing an index costs a fifth of making one, and its wrappers by hand a third of what xarray takes for them.
        index = object.__new__(PandasIndex)
        values = object.__new__(PandasIndexingAdapter)
        variable = object.__new__(xarray.IndexVariable)
        index.index = values.array = _grid(name, step, 1 << (first + n).bit_length())[first : first + n]
        index.dim, index.coord_dtype, values._dtype = name, _FLOAT, _FLOAT
        variable._dims, variable._data, variable._attrs, variable._encoding = (name,), values, None, None
        return Axis(index, variable)
    return index_axis(name, (np.arange(n) + 0.5) * step + origin)


_FLOAT = np.dtype("f8")

LONGEST_GRID = 1 << 18
"""Pixels up to which coordinates on whole pixels are sliced from a cached grid."""


@lru_cache(maxsize=16)
def _grid(name: str, step: float, n: int) -> pd.Index[Any]:
    return index_axis(name, (np.arange(n) + 0.5) * step).labels.index


@lru_cache(maxsize=256)
def name_axis(name: str, labels: tuple[str, ...]) -> Axis:
    """Return a cached coordinate of names, such as channels."""
    values = np.array(labels)
    return Axis(PandasIndex(values, name, coord_dtype=values.dtype), xarray.IndexVariable((name,), values))


def build_dataset(
    variables: Mapping[str, tuple[tuple[str, ...], np.ndarray[Any, Any]]],
    axes: Mapping[str, Axis],
    coordinates: tuple[str, ...] = (),
    encoding: dict[str, Any] | None = None,
) -> xarray.Dataset:
    """
    Return a Dataset of parts that fit.

    `variables` maps names to (dims, values), where equal dims have equal lengths; those in `coordinates` become
    coordinates.
    """
    # Comprehensions and helpers are calls, which a sample has time for few of.
    parts: dict[Any, Any] = {}
    sizes: dict[Any, int] = {}
    indexes: dict[Any, Any] = {}
    for d, (labels, variable) in axes.items():
        parts[d], indexes[d], sizes[d] = variable, labels, len(labels.index)
    for name, (dims, values) in variables.items():
        parts[name] = made = object.__new__(xarray.Variable)
        made._dims, made._data, made._attrs, made._encoding = dims, values, None, None
        sizes.update(zip(dims, values.shape))  # noqa: B905 - they fit; `strict` takes as long as all else here
    return xarray.Dataset._construct_direct(
        parts, {*axes, *coordinates}, dims=sizes, indexes=indexes, encoding=encoding or {}
    )


def attach_nodata(image: Any, nodata: float) -> None:
    """Say in CF's words, which rioxarray and odc-geo read, which pixels of a variable hold no data."""
    value = as_pixel(nodata, image.dtype)
    if value is not None and image.dtype.kind not in "bc":
        image._attrs = {**(image._attrs or {}), "_FillValue": value}


# Georeferenced coordinates, as rioxarray and odc-geo read them.

_ZERO = np.array(0)


def spatial_ref_coordinate(georeference: Georeference, transform: Transform) -> xarray.Variable:
    """Return the CF grid mapping of pixels that have this transform."""
    return xarray.Variable((), _ZERO, grid_mapping_attributes(georeference, transform), fastpath=True)


def earth_axes(transform: Transform, height: int, width: int) -> dict[str, Axis]:
    """Return the coordinates y and x of pixel centres; see `earth_centres`."""
    y, x = earth_centres(transform, height, width)
    return {"y": index_axis("y", y), "x": index_axis("x", x)}


def attach_spatial_ref(sample: xarray.Dataset, georeference: Georeference, transform: Transform) -> xarray.Dataset:
    """
    Add the grid mapping to a Dataset of `build_dataset`, in place.

    It is written into the parts of the Dataset, because assigning it takes ten times as long.
    """
    sample._variables[GRID_MAPPING] = spatial_ref_coordinate(georeference, transform)
    sample._coord_names.add(GRID_MAPPING)
    for name in ("image", "valid"):
        if name in sample._variables:
            sample._variables[name].encoding = {"grid_mapping": GRID_MAPPING}
    return sample
