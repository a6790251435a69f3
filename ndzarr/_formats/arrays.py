"""Arrays as sources: numpy, .npy files and dask, and what all arrays have in common.

All of them are indexed alike.  Arrays in memory give views; files are read as far as a window needs it; dask computes
what it touches.  Arrays of xarray and Zarr, which have names and attributes, are those of `labelled`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, TypeAlias

import numpy as np

from ndzarr._files import FileId
from ndzarr._formats.base import Facts, Pixels, Region, Source, in_order, reason
from ndzarr._formats.colour import plain_names
from ndzarr._formats.options import Options
from ndzarr._geo.pixel_size import NOT_KNOWN, PixelSize
from ndzarr._indexing.selection import AXES
from ndzarr._store.validity import Nodata
from ndzarr.errors import OptionError, SourceError, StoreError

_AXIS_NAMES = {
    "t": ("t", "time", "times", "timestep", "frame", "frames", "date", "datetime", "valid_time"),
    "c": ("c", "channel", "channels", "band", "bands", "ch", "s", "sample", "samples", "rgb", "rgba", "wavelength"),
    "z": ("z", "depth", "level", "levels", "slice", "slices", "plane", "planes", "altitude"),
    "y": (
        *("y", "row", "rows", "lat", "latitude", "northing", "height", "line", "lines"),
        *("nlat", "south_north", "azimuth_time"),  # of ocean models, WRF, and radar
    ),
    "x": (
        *("x", "col", "cols", "column", "columns", "lon", "long", "longitude", "easting", "width"),
        *("nlon", "west_east", "ground_range", "slant_range_time"),
    ),
}
_STANDARD_NAMES = {
    **dict.fromkeys(("time", "forecast_reference_time"), "t"),
    **dict.fromkeys(("height", "depth", "altitude", "air_pressure"), "z"),
    **dict.fromkeys(("latitude", "grid_latitude", "projection_y_coordinate", "projection_y_angular_coordinate"), "y"),
    **dict.fromkeys(("longitude", "grid_longitude", "projection_x_coordinate", "projection_x_angular_coordinate"), "x"),
}
_CF_UNITS = {
    **dict.fromkeys(("degrees_north", "degree_north", "degree_N", "degrees_N", "degreeN", "degreesN"), "y"),
    **dict.fromkeys(("degrees_east", "degree_east", "degree_E", "degrees_E", "degreeE", "degreesE"), "x"),
}
_AXIS_OF = {name: axis for axis, names in _AXIS_NAMES.items() for name in names}
MOST_COLOURS = 4
"""Length up to which the last of three unnamed axes is taken for channels."""
_DTYPES = frozenset(np.dtype(c) for c in "?bBhHiIlLqQefdFD")

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
        key="axes",
        hint=f"Say what they are, such as axes={'tcyx' if len(shape) == 4 else 'tczyx'!r}",
    )


def axis_letters(
    names: Sequence[object], attributes: Mapping[str, Mapping[str, Any]] | None = None
) -> list[str | None]:
    """
    Return the letter of each axis by its name, else by the attributes of its coordinate; None where neither tells.

    The attributes are those of CF (https://cfconventions.org, 4): `axis`, `standard_name` and `units`.
    """
    known = attributes or {}
    return [_AXIS_OF.get(str(n).lower()) or _letter_of(known.get(str(n), {})) for n in names]


def _letter_of(attributes: Mapping[str, Any]) -> str | None:
    stated = str(attributes.get("axis", "")).lower()
    if stated in ("t", "z", "y", "x"):
        return stated
    return _STANDARD_NAMES.get(str(attributes.get("standard_name"))) or _CF_UNITS.get(str(attributes.get("units")))


def arrange_named(
    name: str,
    names: Sequence[object],
    shape: Sequence[int],
    options: Options,
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Arrangement:
    """
    Return the arrangement of an array whose axes have names, such as ('time', 'band', 'lat', 'lon').

    `attributes` are those of the coordinates, by the name of their axis.
    """
    unnamed = all(str(n) == f"dim_{i}" for i, n in enumerate(names))  # as xarray calls them
    if options.axes is not None or unnamed:
        return arrange_unnamed(name, shape, options)
    letters = axis_letters(names, attributes)
    unknown = [str(n) for n, letter in zip(names, letters, strict=True) if letter is None]
    axes = "".join(letter for letter in letters if letter is not None)
    if unknown or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes):
        what = f"{', '.join(map(repr, unknown))} not understood" if unknown else "y and x, and each once, are needed"
        raise SourceError(
            f"{name}: the axes are named {', '.join(map(str, names))}: {what}",
            key="axes",
            hint=_advice(letters),
        )
    return Arrangement(axes)


def _advice(letters: Sequence[str | None]) -> str:
    """Return what to do about axes of which some letters are not known: those get the last ones that are free."""
    if len(letters) > len(AXES) or len(letters) < 2:
        return "Choose a position along some axes, such as dataset.isel(...), and pass what is left"
    known = [letter if letters.count(letter) == 1 else None for letter in letters]
    free = [letter for letter in "zctxy" if letter not in known]
    taken = free[-known.count(None) :] if None in known else []
    wanted = iter(sorted(taken, key="tczyx".index))
    return f"Say what they are, such as axes={''.join(k or next(wanted) for k in known)!r}"


class ArraySource(Source):
    """Anything that is indexed with slices."""

    def __init__(self, facts: Facts, arrangement: Arrangement, fetch: Fetch) -> None:
        super().__init__(facts)
        self._arrangement = arrangement
        self._fetch: Fetch | None = fetch

    @property
    def has_channels(self) -> bool:
        """True if the array itself has an axis c."""
        return "c" in self._arrangement.axes

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


def facts_of(
    name: str,
    array: Any,
    arrangement: Arrangement,
    options: Options,
    *,
    dtype: np.dtype[Any] | None = None,
    blocks: tuple[int, ...] | None = None,
    nodata: Nodata = None,
    channels: tuple[str, ...] | None = None,
    times: Pixels | None = None,
    pixel_size: PixelSize = NOT_KNOWN,
    classes: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> Facts:
    """
    Describe an array that has `shape` and `dtype`, unless its pixels become another `dtype` when they are read.

    `blocks` are the lengths, along each axis of the array, of what is decoded together; None if pixels are in memory.
    """
    if 0 in array.shape:
        raise SourceError(f"{name}: the shape is {tuple(array.shape)}, so there is nothing to read")
    lengths = {d: arrangement.along(d, array.shape) for d in arrangement.dims}
    facts = Facts(
        name=name,
        dims=arrangement.dims,
        shape=tuple(lengths.values()),
        dtype=_native_dtype(name, array.dtype if dtype is None else dtype),
        channels=channels or plain_names(lengths["c"]),
        band=1 if blocks is None else min(arrangement.along("y", blocks), lengths["y"]),
        interleaved=_interleaved(arrangement, array, blocks),
        nodata=nodata,
        times=times,
        pixel_size=pixel_size,
        classes=classes,
        metadata=metadata or {"format": "array"},
    )
    return facts.settle(options)


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
    facts = facts_of(name, array, arrangement, options, metadata={"format": form})
    return ArraySource(facts, arrangement, fetch or array.__getitem__)


def open_npy(path: str, options: Options) -> ArraySource:
    """Open a .npy file, of which windows are read."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python, and lets errors of its tokenizer through
        what = f"it begins like a NPY file but cannot be mapped ({reason(error)})"
        raise SourceError(f"{path}: {what}", path=path, hint="Write it again") from error
    check_pixels(path, array.shape, arrange_unnamed(path, array.shape, options), options)
    return open_numpy(array, options, path, "NPY", FileArray.fetch(array, path))


def check_pixels(name: str, shape: Sequence[int], arrangement: Arrangement, options: Options) -> None:
    """Refuse an array of implausibly many pixels."""
    options.check_pixels(name, arrangement.along("y", shape), arrangement.along("x", shape), whole=False)


def open_dask(array: Any, options: Options) -> ArraySource:
    """Open a dask array; a window computes what it touches."""
    if not hasattr(array, "chunks") or not hasattr(array, "shape"):
        raise SourceError(f"a dask {type(array).__name__} is not a source of pixels", hint="Pass a dask array")
    name = f"<dask array {array.name}>"
    if any(n != n for n in array.shape):  # dask gives unknown lengths as NaN
        raise SourceError(f"{name}: the shape is {array.shape}", hint="Call .compute_chunk_sizes() first")
    arrangement = arrange_unnamed(name, array.shape, options)
    blocks = tuple(chunks[0] for chunks in array.chunks)
    facts = facts_of(name, array, arrangement, options, blocks=blocks, metadata={"format": "dask"})
    return ArraySource(facts, arrangement, lambda index: array[index].compute())
