"""
Sources of any kind: files and arrays (`_formats.registry`), and what is opened as a pyramid: Zarr groups and objects.

`open_object` is `ndzarr.open` for objects.  A pyramid is the source of another one by its native level.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ndzarr._files import is_store
from ndzarr._formats import registry
from ndzarr._formats.base import Facts, Pixels, Region, Source
from ndzarr._formats.colour import plain_names
from ndzarr._formats.options import Options, make_clip, make_options
from ndzarr._geo.pixel_size import NOT_KNOWN
from ndzarr._indexing.plan import plan_reads
from ndzarr._pyramid.levels import Level, Multiscale
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.views import SourceArray, described_pyramid, stored_array
from ndzarr._pyramid.zarr_store import PLAIN, open_pyramid
from ndzarr._remote.settings import Remote
from ndzarr._remote.urls import is_url, names_file
from ndzarr._store.archive import archive_of
from ndzarr._store.arrays import ZarrArray
from ndzarr._store.metadata import ome_record
from ndzarr._store.read import execute
from ndzarr.errors import MissingError, NdzarrError, OptionError, SourceError

_OF_FILES = ("name", "path", "size", "mtime_ns", "inode", "key", "digest")
"""What a store records of its source that is not true of a store which is a source itself."""


def is_object(source: object) -> bool:
    """Return True for what `open_object` opens, if it opens anything: no path, and no list of them."""
    return not isinstance(source, str | bytes | os.PathLike | list | tuple | np.ndarray)


def packages_of(source: object) -> set[str]:
    """Return the packages that the class of an object and its bases come from."""
    return {kind.__module__.partition(".")[0] for kind in type(source).__mro__}


def open_object(source: Any, cache_bytes: int = 0, options: Options = PLAIN, remote: Remote | None = None) -> Pyramid:
    """
    Open an object of zarr-python or xarray as a pyramid; one that is a pyramid is returned.

    Raises `OptionError` for any other object.
    """
    if isinstance(source, Pyramid):
        return source
    packages = packages_of(source)
    if "xarray" in packages:
        return _open_labelled(source, cache_bytes, options)
    if "zarr" in packages and hasattr(source, "store_path"):
        return _in_store(source.store_path.store, source.store_path.path, cache_bytes, options, remote)
    if not packages & {"zarr", "obstore", "fsspec"}:
        what = f"a {type(source).__module__}.{type(source).__qualname__} is not opened as a pyramid"
        hint = "Pass a path, or a Zarr or xarray object; arrays of numpy and dask are sources of ndzarr.transcode"
        raise OptionError(what, hint=hint)
    return _in_store(source, "", cache_bytes, options, remote)


def _in_store(store: Any, path: str, cache_bytes: int, options: Options, remote: Remote | None) -> Pyramid:
    root = getattr(store, "root", None)
    if type(store).__name__ == "LocalStore" and isinstance(root, os.PathLike):
        return open_pyramid(os.path.join(root, path) if path else root, cache_bytes, options=options)
    return open_pyramid(path, cache_bytes, store=store, remote=remote, options=options)


def _open_labelled(data: Any, cache_bytes: int, options: Options) -> Pyramid:
    """Open an array of xarray as a pyramid of one level; what xarray loads lazily stays lazy."""
    from ndzarr._formats.labelled import open_xarray

    source = open_xarray(data, options)
    dims = source.dims if source.has_channels else tuple(d for d in source.dims if d != "c")
    array = SourceArray(source, dims)
    reopen = partial(_reopen, data, options)
    return described_pyramid(
        source.name, source, [Level(array, (1.0,) * len(dims))], reopen=reopen, cache_bytes=cache_bytes
    )


def _reopen(data: Any, options: Options, _: str, cache_bytes: int) -> Pyramid:
    return _open_labelled(data, cache_bytes, options)


def open_source(
    source: Any,
    *,
    axes: str | None = None,
    variable: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    remote: Remote | None = None,
    **reading: Any,
) -> Source:
    """
    Open anything that `ndzarr.transcode` takes; see `_formats.registry.open_source` for the options.

    Zarr stores, groups and arrays, and opened pyramids, are read by their native level.
    """
    far: dict[str, Any] = {"storage_options": storage_options, "remote": remote}
    if not _is_stored(source) or (hasattr(source, "store_path") and _needs_zarr_python(source, remote)):
        return registry.open_source(source, axes=axes, variable=variable, **far, **reading)
    options = _options(axes=axes, variable=variable, **reading)
    try:
        if is_object(source):
            pyramid = open_object(source, options=options, remote=remote)
        else:
            pyramid = open_pyramid(os.path.expanduser(os.fsdecode(source)), options=options, **far)
    except NdzarrError as error:
        if isinstance(error, SourceError | MissingError | OptionError):
            raise
        raise SourceError.like(error) from error
    return PyramidSource(pyramid, options)


def _options(
    *,
    orient: bool | tuple[int, int] = True,
    stack: str = "t",
    start: float | None = None,
    stop: float | None = None,
    step: int = 1,
    size: Any = None,
    channels: Any = None,
    nodata: Any = None,
    max_pixels: int | None = None,
    palette: str = "colours",
    series: Any = None,
    axes: str | None = None,
    variable: str | None = None,
) -> Options:
    clip = make_clip(start, stop, step, size)
    options = make_options(axes, channels, nodata, orient, max_pixels, clip, palette, series, variable)
    options.refuse_clip("a Zarr store")
    return options


def _is_stored(source: Any) -> bool:
    """Return True for what is read as a pyramid; single arrays of numpy, dask and xarray are not."""
    if isinstance(source, str | os.PathLike):
        name = os.fsdecode(source)
        local = os.path.expanduser(name)
        return not names_file(name) if is_url(name) else is_store(local) or archive_of(local) is not None
    if isinstance(source, Multiscale):
        return True
    return bool(packages_of(source) & {"zarr", "fsspec", "obstore"})


def _needs_zarr_python(source: Any, remote: Remote | None) -> bool:
    """Return True for an array that the hot path does not read: what its owner opened is trusted, with any codec."""
    if not hasattr(source, "chunks"):
        return False
    try:
        [level] = open_object(source, remote=remote).levels
    except NdzarrError:
        return True
    return isinstance(stored_array(level.array), ZarrArray)


class PyramidSource(Source):
    """The native level of a pyramid, with an axis c if that has none."""

    def __init__(self, pyramid: Pyramid, options: Options = PLAIN) -> None:
        super().__init__(_facts(pyramid, options))
        self._pyramid = pyramid

    def _pixels(self, region: Region) -> Pixels:
        own = self._pyramid.dims
        window: dict[str, Any] = {d: s for d, s in zip(self.dims, region, strict=True) if d in own}
        block = self._pyramid.read(**window).transpose([own.index(d) for d in self.dims if d in own])
        return block if "c" in own else np.expand_dims(block, self.dims.index("c"))

    def read_mask(self, window: Mapping[str, slice]) -> Pixels:
        """Return the mask of a window, axes `dims` without c."""
        mask = self._pyramid.levels[0].mask
        if mask is None:
            return super().read_mask(window)
        own = [d for d in self._pyramid.dims if d != "c"]
        region = dict(zip(self.dims, self._region(window), strict=True))
        [found] = execute(plan_reads([(mask, tuple(slice(region[d].start, region[d].stop, 1) for d in own))]))
        return np.asarray(found != 0).transpose([own.index(d) for d in self.dims if d in own])

    def _release(self) -> None:
        """Do nothing: a pyramid holds nothing open."""


def _facts(pyramid: Pyramid, options: Options) -> Facts:
    sizes = {**pyramid.sizes} if "c" in pyramid.dims else {**pyramid.sizes, "c": 1}
    dims = tuple(d for d in "tczyx" if d in sizes)
    unknown = [d for d in pyramid.dims if d not in dims]
    if unknown or not {"y", "x"} <= set(dims):
        what = f"{pyramid.path}: its axes are {' '.join(pyramid.dims)}, and y and x are needed"
        raise SourceError(what, path=pyramid.path, key="axes", hint="Open one of its arrays, and say axes=")
    shape = tuple(sizes[d] for d in dims)
    chunks = dict(zip(pyramid.dims, pyramid.levels[0].chunks, strict=True))
    stated = pyramid.attrs.get("ndzarr", {}).get("source") or {}
    placed = pyramid.georeference is not None and not {"transform", "gcps"} & stated.keys()
    place = pyramid.georeference.metadata() if pyramid.georeference is not None and placed else {}
    known = {k: v for k, v in stated.items() if k not in _OF_FILES}
    facts = Facts(
        name=pyramid.path,
        dims=dims,
        shape=shape,
        dtype=pyramid.dtype,
        channels=pyramid.channels or plain_names(1),
        band=min(chunks["y"], sizes["y"]),
        interleaved=chunks.get("c", 1) > 1,
        nodata=pyramid.nodata,
        masked=pyramid.levels[0].mask is not None,
        times=None if pyramid.times is None else np.asarray(pyramid.times),
        pixel_size=NOT_KNOWN if pyramid.pixel_size is None else replace(pyramid.pixel_size),
        classes=pyramid.kind == "labels",
        metadata={"format": "pyramid", **ome_record(pyramid.attrs), **known, **place},
    )
    options.check_pixels(pyramid.path, *shape[-2:], whole=False)
    return facts.settle(options)
