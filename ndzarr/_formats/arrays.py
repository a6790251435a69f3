"""Arrays as sources: numpy, .npy files, dask, xarray and Zarr.

All of them are indexed alike.  Arrays in memory give views; files are read as far as a window needs it; dask computes
what it touches.  Names of axes, coordinates and attributes are used where an array has them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._files import FileId, read_bytes
from ndzarr._formats.base import Facts, Pixels, Region, Source, in_order, reason
from ndzarr._formats.colour import plain_names
from ndzarr._formats.options import Options
from ndzarr._geo.pixel_size import NOT_KNOWN, PixelSize
from ndzarr._store.metadata import parse_json
from ndzarr._store.validity import Nodata, as_nodata
from ndzarr.errors import NdzarrError, OptionError, SourceError, StoreError

if TYPE_CHECKING:
    from xarray import DataArray

_AXIS_NAMES = {
    "t": ("t", "time", "times", "timestep", "frame", "frames", "date", "datetime"),
    "c": ("c", "channel", "channels", "band", "bands", "ch", "s", "sample", "samples", "rgb", "rgba", "wavelength"),
    "z": ("z", "depth", "level", "levels", "slice", "slices", "plane", "planes", "altitude"),
    "y": ("y", "row", "rows", "lat", "latitude", "northing", "height", "line", "lines"),
    "x": ("x", "col", "cols", "column", "columns", "lon", "long", "longitude", "easting", "width"),
}
_AXIS_OF = {name: axis for axis, names in _AXIS_NAMES.items() for name in names}
MOST_COLOURS = 4
"""Length up to which the last of three unnamed axes is taken for channels."""
_DTYPES = frozenset(np.dtype(c) for c in "?bBhHiIlLqQefdFD")
_SECONDS = ("s", "sec", "second", "seconds")
_NODATA = ("_FillValue", "missing_value", "nodata")
_GRID_MAPPING = "spatial_ref"
"""Name of the coordinate with the CRS, unless the array names another, as rioxarray and odc-geo write it."""
_EVEN = 1e-3
"""Tolerance of evenly spaced coordinates, in pixels."""
_LISTED = 8
"""Maximum number of arrays of a Zarr group that an error lists."""

Fetch: TypeAlias = Callable[[Region], Any]
"""Indexes an array, in its own order of axes."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Where the axes of a source are in an array."""

    axes: str
    """One letter per axis of the array, in its order."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Axis names of the source."""
        return in_order(self.axes)

    def index(self, region: Region) -> Region:
        """Return the index of the array for a region with axes `dims`."""
        window = dict(zip(self.dims, region, strict=True))
        return tuple(window[a] for a in self.axes)

    def arrange(self, block: Pixels) -> Pixels:
        """Return a view of a block of the array with axes `dims`."""
        block = block.transpose([self.axes.index(d) for d in self.dims if d in self.axes])
        return block if "c" in self.axes else block[(slice(None),) * self.dims.index("c") + (None,)]

    def along(self, axis: str, lengths: Sequence[int]) -> int:
        """Return the length along `axis` out of one per axis of the array (such as a chunk's); 1 without this axis."""
        return int(lengths[self.axes.index(axis)]) if axis in self.axes else 1


def arrange_unnamed(name: str, shape: Sequence[int], options: Options) -> Arrangement:
    """Return the arrangement of an array without names of axes."""
    if options.axes is not None:
        if len(options.axes) != len(shape):
            what = f"names {len(options.axes)} axes, but the array has {len(shape)}, of shape {tuple(shape)}"
            raise OptionError(f"{name}: axes={options.axes!r} {what}", key="axes")
        return Arrangement(options.axes)
    if len(shape) == 2:
        return Arrangement("yx")
    if len(shape) == 3:
        return Arrangement("yxc" if shape[-1] <= MOST_COLOURS else "cyx")
    if len(shape) < 2:
        what = f"an array of shape {tuple(shape)} has fewer than the two axes of an image"
        raise SourceError(f"{name}: {what}", hint="Add the missing ones, such as array[numpy.newaxis]")
    raise SourceError(
        f"{name}: an array of shape {tuple(shape)} has {len(shape)} axes without names",
        hint=f"Say what they are, such as axes={'tcyx' if len(shape) == 4 else 'tczyx'!r}",
    )


def arrange_named(name: str, names: Sequence[object], shape: Sequence[int], options: Options) -> Arrangement:
    """Return the arrangement of an array whose axes have names, such as ('time', 'band', 'lat', 'lon')."""
    unnamed = all(str(n) == f"dim_{i}" for i, n in enumerate(names))  # as xarray calls them
    if options.axes is not None or unnamed:
        return arrange_unnamed(name, shape, options)
    letters = [_AXIS_OF.get(str(n).lower()) for n in names]
    unknown = [str(n) for n, letter in zip(names, letters, strict=True) if letter is None]
    axes = "".join(letter for letter in letters if letter is not None)
    if unknown or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes):
        what = f"{', '.join(map(repr, unknown))} not understood" if unknown else "y and x, and each once, are needed"
        raise SourceError(
            f"{name}: the axes are named {', '.join(map(str, names))}: {what}",
            hint=f"Say what they are, such as axes={'tczyx'[-len(names) :]!r}",
        )
    return Arrangement(axes)


class ArraySource(Source):
    """Anything that is indexed with slices."""

    def __init__(self, facts: Facts, arrangement: Arrangement, fetch: Fetch) -> None:
        super().__init__(facts)
        self._arrangement = arrangement
        self._fetch: Fetch | None = fetch

    def _pixels(self, region: Region) -> Pixels:
        fetch = self._fetch
        if fetch is None:
            raise SourceError(f"{self.name}: the source is closed", hint="Open it again to read")
        index = self._arrangement.index(region)
        try:
            block = np.asarray(fetch(index))
        except SourceError:
            raise
        except Exception as error:  # a damaged chunk, a failed dask task: anything that the array's owner may raise
            what = ", ".join(f"{d} {s.start}:{s.stop}" for d, s in zip(self.dims, region, strict=True))
            raise SourceError(
                f"{self.name}: reading {what} failed ({reason(error)})",
                hint="Check where the array comes from",
            ) from error
        return self._arrangement.arrange(block.astype(self.dtype, copy=False))

    def _release(self) -> None:
        self._fetch = None


def _native_dtype(name: str, dtype: Any) -> np.dtype[Any]:
    """Return a dtype in native byte order; raise `SourceError` for those that pixels cannot have."""
    try:
        found: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        found = np.dtype(object)
    if found not in _DTYPES:
        raise SourceError(
            f"{name}: the dtype is {dtype}",
            hint="Convert it with .astype to bool, int, uint, float16 to float64, complex64 or complex128",
        )
    return found


def open_array(
    name: str,
    array: Any,
    arrangement: Arrangement,
    options: Options,
    *,
    fetch: Fetch | None = None,
    blocks: tuple[int, ...] | None = None,
    nodata: Nodata = None,
    channels: tuple[str, ...] | None = None,
    times: Pixels | None = None,
    pixel_size: PixelSize = NOT_KNOWN,
    metadata: Mapping[str, Any] | None = None,
) -> ArraySource:
    """
    Describe an array that has `shape` and `dtype`, and that `fetch` indexes (default: `array[index]`).

    `blocks` are the lengths, along each axis of the array, of what is decoded together; None if pixels are in memory.
    """
    if 0 in array.shape:
        raise SourceError(f"{name}: the shape is {tuple(array.shape)}, so there is nothing to read")
    lengths = {d: arrangement.along(d, array.shape) for d in arrangement.dims}
    facts = Facts(
        name=name,
        dims=arrangement.dims,
        shape=tuple(lengths.values()),
        dtype=_native_dtype(name, array.dtype),
        channels=channels or plain_names(lengths["c"]),
        band=1 if blocks is None else min(arrangement.along("y", blocks), lengths["y"]),
        interleaved=_interleaved(arrangement, array, blocks),
        nodata=nodata,
        times=times,
        pixel_size=pixel_size,
        metadata=metadata or {"format": "array"},
    )
    return ArraySource(facts.settle(options), arrangement, fetch or array.__getitem__)


def _interleaved(arrangement: Arrangement, array: Any, blocks: tuple[int, ...] | None) -> bool:
    if blocks is not None:
        return arrangement.along("c", blocks) > 1
    if "c" not in arrangement.axes:
        return False
    c, y, x = (abs(arrangement.along(axis, array.strides)) for axis in "cyx")
    return c < max(y, x)


@dataclass(frozen=True, slots=True)
class FileArray:
    """
    The pixels of a file as they are in memory, in C order.

    They are read by position and not mapped: a file that loses its end meanwhile is an error, where a map of it would
    kill the process (SIGBUS).
    """

    file: FileId
    offset: int
    """Bytes before the first pixel."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def fetch(cls, mapped: np.memmap[Any, Any], path: str) -> Fetch:
        """Return what indexes a file that was mapped only to learn its header."""
        file, offset, shape = FileId.of(os.path.abspath(path)), int(mapped.offset), mapped.shape
        if mapped.flags.c_contiguous:
            return cls(file, offset, shape, mapped.dtype).__getitem__
        turned = cls(file, offset, shape[::-1], mapped.dtype)  # in Fortran's order
        return lambda index: turned[index[::-1]].T

    def __getitem__(self, index: Region) -> Pixels:
        """Return a window; what is contiguous in the file is one read."""
        spans = [s.indices(n) for s, n in zip(index, self.shape, strict=True)]
        cut = max((k for k, n in enumerate(self.shape) if spans[k][:2] != (0, n)), default=0)
        out = np.empty([stop - start for start, stop, _ in spans], self.dtype)
        runs = out.reshape(prod(out.shape[:cut]), -1).view(np.uint8)
        first = (spans[cut][0], *(0,) * (len(spans) - cut - 1))
        for run, lead in zip(runs, product(*(range(start, stop) for start, stop, _ in spans[:cut])), strict=True):
            at = int(np.ravel_multi_index((*lead, *first), self.shape))
            try:
                self.file.read_into(self.offset + at * self.dtype.itemsize, run)
            except StoreError as error:
                path, hint = self.file.path, "Transcode it once it is complete"
                raise SourceError(f"{path}: was changed while it was read", path=path, hint=hint) from error
        return out[tuple(slice(None, None, step) for _, _, step in spans)]


def open_numpy(
    array: Pixels, options: Options, name: str = "<numpy array>", form: str = "array", fetch: Fetch | None = None
) -> ArraySource:
    """Open an array in memory, or in a file that `fetch` reads."""
    if isinstance(array, np.ma.MaskedArray):
        raise SourceError(f"{name}: it is a masked array", hint="Pass array.filled(value) and nodata=value")
    arrangement = arrange_unnamed(name, array.shape, options)
    return open_array(name, array, arrangement, options, fetch=fetch, metadata={"format": form})


def open_npy(path: str, options: Options) -> ArraySource:
    """Open a .npy file, of which windows are read."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python, and lets errors of its tokenizer through
        what = f"it begins like a NPY file but cannot be mapped ({reason(error)})"
        raise SourceError(f"{path}: {what}", path=path, hint="Write it again") from error
    _check_pixels(path, array.shape, arrange_unnamed(path, array.shape, options), options)
    return open_numpy(array, options, path, "NPY", FileArray.fetch(array, path))


def _check_pixels(name: str, shape: Sequence[int], arrangement: Arrangement, options: Options) -> None:
    options.check_pixels(name, arrangement.along("y", shape), arrangement.along("x", shape), whole=False)


def open_dask(array: Any, options: Options) -> ArraySource:
    """Open a dask array; a window computes what it touches."""
    if not hasattr(array, "chunks") or not hasattr(array, "shape"):
        raise SourceError(f"a dask {type(array).__name__} is not a source of pixels", hint="Pass a dask array")
    name = f"<dask array {array.name}>"
    if any(n != n for n in array.shape):  # dask gives unknown lengths as NaN
        raise SourceError(f"{name}: the shape is {array.shape}", hint="Call .compute_chunk_sizes() first")
    return open_array(
        name,
        array,
        arrange_unnamed(name, array.shape, options),
        options,
        fetch=lambda index: array[index].compute(),
        blocks=tuple(chunks[0] for chunks in array.chunks),
        metadata={"format": "dask"},
    )


def open_xarray(array: Any, options: Options) -> ArraySource:
    """Open an `xarray.DataArray`; what it loads lazily stays lazy."""
    if type(array).__name__ != "DataArray" and not {"dims", "coords", "name"} <= set(dir(array)):
        kind = type(array).__name__
        raise SourceError(f"an xarray {kind} is not a source of pixels", hint="Pass one of its variables")
    name = f"<xarray DataArray {array.name}>" if array.name is not None else "<xarray DataArray>"
    arrangement = arrange_named(name, array.dims, array.shape, options)
    times, origin = _times(array, arrangement)
    dims = dict(zip(arrangement.axes, array.dims, strict=True))
    in_memory = isinstance(getattr(array.variable, "_data", None), np.ndarray)  # `.data` would load the file
    return open_array(
        name,
        array.data if in_memory else array,
        arrangement,
        options,
        fetch=None if in_memory else lambda index: array[index].to_numpy(),
        blocks=None if in_memory else _blocks(array),
        nodata=_nodata(array.attrs) if "nodata" not in array.coords else _nodata_along_c(array, arrangement),
        channels=_channels(array, arrangement),
        times=times,
        pixel_size=_pixel_size(array, arrangement),
        metadata={"format": "xarray", **origin, **_georeference(array, dims["y"], dims["x"])},
    )


def _pixel_size(array: DataArray, arrangement: Arrangement) -> PixelSize:
    """Return what the attribute says that `Pyramid.to_xarray` sets, times the steps of the coordinates."""
    try:
        found = PixelSize.from_json(json.loads(array.attrs.get("pixel_size", "{}")))
    except (TypeError, ValueError, AttributeError):  # an attribute of somebody else
        return NOT_KNOWN
    steps = {axis: _spacing(_coordinate(array, arrangement, axis)) for axis in "zyx"}
    return found.stepped({axis: abs(step[0]) for axis, step in steps.items() if step is not None})


def _nodata(attributes: Mapping[Any, Any]) -> float | None:
    """Return the value that attributes say marks missing data, if it is a real number."""
    for key in _NODATA:
        try:
            return float(attributes[key])
        except (KeyError, TypeError, ValueError):
            continue
    return None


def _nodata_along_c(array: DataArray, arrangement: Arrangement) -> Nodata:
    """Return the nodata of channels that the coordinate says which `Pyramid.to_xarray` sets; None without one."""
    found = array.coords.get("nodata")
    if "c" not in arrangement.axes or found is None or found.dtype.kind != "f":
        return None
    along = (array.dims[arrangement.axes.index("c")],)
    return as_nodata([None if v != v else v for v in found.to_numpy().tolist()]) if found.dims == along else None


def _blocks(array: DataArray) -> tuple[int, ...]:
    if array.chunks is not None:
        return tuple(chunks[0] for chunks in array.chunks)
    # xarray may know the blocks of a file; if not, a row may cost as much as all of them.
    return tuple(array.encoding.get("preferred_chunks", {}).get(d, n) for d, n in array.sizes.items())


def _coordinate(array: DataArray, arrangement: Arrangement, axis: str) -> DataArray | None:
    if axis not in arrangement.axes:
        return None
    return array.coords.get(array.dims[arrangement.axes.index(axis)])


def _channels(array: DataArray, arrangement: Arrangement) -> tuple[str, ...] | None:
    found = _coordinate(array, arrangement, "c")
    if found is None or found.dtype.kind not in "UOT":
        return None
    names = tuple(str(n) for n in found.to_numpy())
    return names if len(set(names)) == len(names) and all(names) else None


def _times(array: DataArray, arrangement: Arrangement) -> tuple[Pixels | None, dict[str, Any]]:
    """Return seconds along t, and as metadata the date from which they count, if there is one."""
    found = _coordinate(array, arrangement, "t")
    if found is None:
        return None, {}
    values = found.to_numpy()
    if values.dtype.kind == "M" and not np.isnat(values).any():
        return (values - values[0]) / np.timedelta64(1, "s"), {"time_origin": str(values[0])}
    if values.dtype.kind == "m" and not np.isnat(values).any():
        return values / np.timedelta64(1, "s"), {}
    in_seconds = str(found.attrs.get("units", "")).lower() in _SECONDS
    if values.dtype.kind == "f" or (values.dtype.kind in "iu" and in_seconds):
        return values.astype(np.float64), {}
    return None, {}  # integers without a unit are frame numbers


def _georeference(array: DataArray, y: Any, x: Any) -> dict[str, Any]:
    """Return `transform`, and `wkt` or `epsg`, as metadata; empty without a grid mapping or a transform."""
    mapping = array.coords.get(array.encoding.get("grid_mapping", array.attrs.get("grid_mapping", _GRID_MAPPING)))
    if mapping is None or (transform := _transform(array, y, x, mapping.attrs.get("GeoTransform"))) is None:
        return {}
    text = str(mapping.attrs.get("crs_wkt") or mapping.attrs.get("spatial_ref") or "")
    code = re.fullmatch(r"EPSG:(\d+)", text, re.IGNORECASE)
    crs: dict[str, Any] = {"epsg": int(code.group(1))} if code else {"wkt": text} if text else {}
    return {"transform": transform, **crs}


def _transform(array: DataArray, y: Any, x: Any, stated: object) -> list[float] | None:
    """Return the affine transform.  Unless it is rotated, coordinates win over the stated one, which may be stale."""
    given: list[float] | None = None
    try:
        c, a, b, f, d, e = (float(v) for v in str(stated).split())
        given = [a, b, c, d, e, f]
    except ValueError:
        pass  # then only coordinates can tell
    if given is not None and (given[1] != 0 or given[3] != 0):
        return given
    across, down = (_spacing(array.coords.get(dim)) for dim in (x, y))
    if across is None or down is None:
        return given
    return [across[0], 0.0, across[1], 0.0, down[0], down[1]]


def _spacing(coordinate: DataArray | None) -> tuple[float, float] | None:
    """Return (step, border of the first pixel) of evenly spaced centres."""
    if coordinate is None or coordinate.ndim != 1 or coordinate.size < 2 or coordinate.dtype.kind not in "fiu":
        return None
    values = coordinate.to_numpy().astype(float)
    step = (values[-1] - values[0]) / (len(values) - 1)
    if not np.isfinite(step) or step == 0 or np.abs(np.diff(values) - step).max() > _EVEN * abs(step):
        return None
    return float(step), float(values[0] - step / 2)


def open_zarr(array: Any, options: Options, name: str | None = None) -> ArraySource:
    """Open a `zarr.Array` of format 2 or 3."""
    name = name or f"<Zarr array {array.store_path}>"
    if not hasattr(array, "chunks"):
        raise SourceError(f"{name}: it is a Zarr {type(array).__name__.lower()}", hint="Pass one of its arrays")
    attributes = dict(array.attrs)
    names = getattr(array.metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS")
    if names and len(names) == array.ndim and None not in names:
        arrangement = arrange_named(name, names, array.shape, options)
    else:
        arrangement = arrange_unnamed(name, array.shape, options)
    _check_pixels(name, array.shape, arrangement, options)
    return open_array(
        name,
        array,
        arrangement,
        options,
        blocks=tuple(array.chunks),
        nodata=_nodata(attributes),
        metadata={"format": f"Zarr v{array.metadata.zarr_format}"},
    )


def open_zarr_directory(path: str, options: Options) -> ArraySource:
    """Open the Zarr array in a directory."""
    kind = _node_type(Path(path))
    if kind is None:
        what = "it is a directory without a Zarr array in it (no zarr.json, no .zarray)"
        raise SourceError(f"{path}: {what}", path=path, hint="Pass an image file or the directory of a Zarr array")
    if kind == "group":
        found = _arrays(Path(path))
        which = f"one of its arrays, such as {', '.join(found)}" if found else "a Zarr array: this group has none"
        raise SourceError(f"{path}: it is a Zarr group", path=path, hint=f"Pass the path of {which}")
    from ndzarr._store.zarr_python import bounded, open_node

    try:
        array = bounded(open_node(path))
    except NdzarrError as error:
        raise SourceError.like(error) from error
    except Exception as error:  # whatever zarr makes of damaged metadata
        raise SourceError(
            f"{path}: zarr-python cannot open this array ({reason(error)})", path=path, hint="Write it again"
        ) from error
    return open_zarr(array, options, path)


def _node_type(folder: Path) -> str | None:
    """Return 'array', 'group' or None."""
    if (folder / ".zarray").is_file():
        return "array"
    try:
        node = parse_json(read_bytes(folder / "zarr.json"), str(folder)).get("node_type")
    except FileNotFoundError:
        return "group" if (folder / ".zgroup").is_file() else None
    except (StoreError, AttributeError) as error:
        raise SourceError(
            f"{folder}: its zarr.json is not a JSON object ({reason(error)})", path=str(folder), hint="Write it again"
        ) from error
    return "array" if node == "array" else "group"


def _arrays(group: Path) -> list[str]:
    """Return paths of the first few arrays, within the group."""
    found: list[str] = []
    for folder, inner, _ in os.walk(group):
        here = Path(folder)
        if _node_type(here) == "array":
            inner.clear()  # do not walk through chunks
            found.append(here.relative_to(group).as_posix())
        inner.sort()
        if len(found) == _LISTED:
            break
    return found
