"""Lazy levels: dask arrays with one task per shard.

Each task reads its block through the hot path.  The graph holds the pyramid's path, not its pixels, and its names are
derived from the store's identity.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any

import dask.array
import numpy as np
import xarray
from dask.base import tokenize

from ndzarr._geo.georeference import GRID_MAPPING, earth_centres
from ndzarr._indexing.plan import check_memory, plan_reads
from ndzarr._indexing.selection import select
from ndzarr._pyramid.levels import Multiscale, read_window
from ndzarr._pyramid.window import level_coordinates
from ndzarr._pyramid.xarray import attach_nodata, spatial_ref_coordinate
from ndzarr._store.arrays import Stored
from ndzarr._store.read import execute
from ndzarr.errors import OptionError, WindowError


class _Level:
    """A level that dask can slice."""

    def __init__(self, pyramid: Multiscale, level: int) -> None:
        self.pyramid, self.level = pyramid, level
        self.shape, self.dtype, self.ndim = pyramid.levels[level].shape, pyramid.dtype, len(pyramid.dims)

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        return read_window(self.pyramid, self.level, dict(zip(self.pyramid.dims, index, strict=True)))


class _Mask:
    """The mask of a level that dask can slice."""

    def __init__(self, pyramid: Multiscale, level: int, shape: tuple[int, ...]) -> None:
        self.pyramid, self.level = pyramid, level
        self.shape, self.dtype, self.ndim = shape, np.dtype(bool), len(shape)

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        mask = self.pyramid.levels[self.level].mask
        assert mask is not None
        dims = tuple(d for d in self.pyramid.dims if d != "c")
        [found] = execute(plan_reads([(mask, select(dims, self.shape, dict(zip(dims, index, strict=True))))]))
        return np.asarray(found != 0)


_BLOCK_BYTES = 500
"""Memory that dask takes for a block of an array."""


def lazy_level(pyramid: Multiscale, level: int, chunks: str | Mapping[str, int]) -> xarray.DataArray:
    """Return a level as a labelled dask array; see `Pyramid.to_xarray`."""
    array = pyramid.level(level).array
    blocks = _blocks(pyramid, array, chunks)
    number = prod(-(-n // max(1, b)) for n, b in zip(array.shape, blocks, strict=True))
    what, hint = f"the coordinates and {number:,} blocks of an array of {array.shape}", "Ask for larger chunks"
    check_memory(32 * sum(array.shape) + _BLOCK_BYTES * number, WindowError, what=what, path=pyramid.path, hint=hint)
    data = dask.array.from_array(
        _Level(pyramid, level),
        chunks=blocks,
        name=f"ndzarr-{tokenize(pyramid, level, blocks)}",
        asarray=False,
        fancy=False,
        meta=np.empty((0,) * len(pyramid.dims), pyramid.dtype),
    )
    coords: dict[str, Any] = level_coordinates(pyramid, level)
    georeference = pyramid.georeference
    if georeference is not None and georeference.transform is not None:
        transform = georeference.window_transform(0, 0, *pyramid.levels[level].factors[-2:])
        coords["y"], coords["x"] = earth_centres(transform, *array.shape[-2:])
        coords[GRID_MAPPING] = spatial_ref_coordinate(georeference, transform)
    mask = pyramid.levels[level].mask
    if mask is not None:
        kept = [k for k, d in enumerate(pyramid.dims) if d != "c"]
        shown = dask.array.from_array(
            _Mask(pyramid, level, mask.shape),
            chunks=tuple(blocks[k] for k in kept),
            name=f"ndzarr-mask-{tokenize(pyramid, level, blocks)}",
            asarray=False,
            fancy=False,
            meta=np.empty((0,) * len(kept), bool),
        )
        coords["valid"] = tuple(pyramid.dims[k] for k in kept), shown
    nodata, attrs = pyramid.nodata, dict[str, Any]()
    if isinstance(nodata, tuple):  # along c, so that a selection of channels keeps its own
        coords["nodata"] = "c", np.array(nodata, float)
    if pyramid.pixel_size is not None:  # of a native pixel, in which coordinates count; as text, which all formats take
        attrs["pixel_size"] = json.dumps(pyramid.pixel_size.as_json())
    out = xarray.DataArray(data, coords, pyramid.dims, name="image", attrs=attrs)
    if GRID_MAPPING in coords:
        out.encoding["grid_mapping"] = GRID_MAPPING
    if nodata is not None and not isinstance(nodata, tuple):
        attach_nodata(out.variable, nodata)
    return out


def lazy_tree(pyramid: Multiscale) -> xarray.DataTree:
    """Return all levels; see `Pyramid.to_datatree`."""
    children = {str(k): lazy_level(pyramid, k, "shards").to_dataset() for k in range(len(pyramid.levels))}
    return xarray.DataTree.from_dict({"/": xarray.Dataset(attrs=dict(pyramid.attrs)), **children})


def _blocks(pyramid: Multiscale, array: Stored, chunks: str | Mapping[str, int]) -> tuple[int, ...]:
    shard = array.shards if array.chunked else array.chunks
    if chunks == "shards":
        return tuple(min(n, max(1, length)) for n, length in zip(shard, array.shape, strict=True))
    if isinstance(chunks, Mapping):
        if any(d not in pyramid.dims or n < 1 for d, n in chunks.items()):
            expected = f"expected lengths of at least 1 for axes among {' '.join(pyramid.dims)}"
            raise OptionError(f"chunks={dict(chunks)!r}: {expected}", key="chunks")
        return tuple(chunks.get(d, n) for d, n in zip(pyramid.dims, shard, strict=True))
    raise OptionError(f"chunks={chunks!r}: expected 'shards' or a mapping axis -> length", key="chunks")
