"""What does an xarray DataArray say about its pixels beyond their values?

Its dimension names tell the axes, the coordinate along c the names of channels, the one along t the times, and its
attributes the value that marks missing data.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ndzarr.errors import SourceError
from ndzarr.sources.array import ArraySource, open_array
from ndzarr.sources.axes import Arrangement, from_names
from ndzarr.sources.base import Pixels, Region
from ndzarr.sources.grid_mapping import place
from ndzarr.sources.options import Options

_SECONDS = ("s", "sec", "second", "seconds")
_NODATA = ("_FillValue", "missing_value", "nodata")


def open_labelled(array: Any, options: Options) -> ArraySource:
    """Read an `xarray.DataArray`; what it loads lazily stays lazy."""
    if type(array).__name__ != "DataArray" and not {"dims", "coords", "name"} <= set(dir(array)):
        raise SourceError(f"a xarray {type(array).__name__} is not a source of pixels; pass one of its variables")
    name = f"<xarray DataArray {array.name}>" if array.name is not None else "<xarray DataArray>"
    arrangement = from_names(name, array.dims, array.shape, options)
    times, about = _times(array, arrangement)

    def fetch(index: Region) -> Any:
        return array[index].to_numpy()

    in_memory = isinstance(getattr(array.variable, "_data", None), np.ndarray)  # `.data` would load the file
    return open_array(
        name,
        array.data if in_memory else array,
        arrangement,
        options,
        fetch=None if in_memory else fetch,
        blocks=None if in_memory else _blocks(array),
        nodata=nodata_of(array.attrs),
        channels=_channels(array, arrangement),
        times=times,
        metadata={"format": "xarray", **about, **_place(array, arrangement)},
    )


def nodata_of(attributes: Any) -> float | None:
    """The value that attributes say marks missing data, if it is a real number."""
    for key in _NODATA:
        try:
            return float(attributes[key])
        except (KeyError, TypeError, ValueError):
            continue
    return None


def _place(array: Any, arrangement: Arrangement) -> dict[str, Any]:
    y, x = (array.dims[arrangement.axes.index(axis)] for axis in ("y", "x"))
    return place(array, y, x)


def _blocks(array: Any) -> tuple[int, ...]:
    if array.chunks is not None:
        return tuple(chunks[0] for chunks in array.chunks)
    # Of what is read from a file, xarray may know the blocks; if not, a row may cost all there is.
    return tuple(array.encoding.get("preferred_chunks", {}).get(d, n) for d, n in array.sizes.items())


def _coordinate(array: Any, arrangement: Arrangement, axis: str) -> Any:
    if axis not in arrangement.axes:
        return None
    dim = array.dims[arrangement.axes.index(axis)]
    return array.coords.get(dim)


def _channels(array: Any, arrangement: Arrangement) -> tuple[str, ...] | None:
    found = _coordinate(array, arrangement, "c")
    if found is None or found.dtype.kind not in "UOT":
        return None
    names = tuple(str(n) for n in found.to_numpy())
    return names if len(set(names)) == len(names) and all(names) else None


def _times(array: Any, arrangement: Arrangement) -> tuple[Pixels | None, dict[str, Any]]:
    """Seconds along t, and what they count from if they are dates."""
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
