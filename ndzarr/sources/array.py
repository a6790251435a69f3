"""How is an array read as a source: in memory, in a .npy file, or lazy in dask?

All of them are indexed alike; dask's block is then computed.  Arrays in memory and memory-mapped files give views.
What xarray and Zarr arrays know beyond that is told in `labelled` and `zarr_array`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ndzarr.errors import SourceError
from ndzarr.sources.axes import Arrangement, from_shape
from ndzarr.sources.base import BaseSource, Facts, Pixels, Region, reason
from ndzarr.sources.colour import plain_names
from ndzarr.sources.options import Options

_SUPPORTED = frozenset(np.dtype(c) for c in "?bBhHiIlLqQefdFD")

Fetch = Callable[[Region], Any]
"""Index an array, in its own axis order."""


class ArraySource(BaseSource):
    """Anything that is indexed with slices."""

    def __init__(self, facts: Facts, arrangement: Arrangement, fetch: Fetch) -> None:
        super().__init__(facts)
        self._arrangement = arrangement
        self._fetch: Fetch | None = fetch

    def _pixels(self, region: Region) -> Pixels:
        fetch = self._fetch
        if fetch is None:
            raise SourceError(f"{self.name}: the source is closed; open it again to read")
        try:
            block = np.asarray(fetch(self._arrangement.index(region)))
        except Exception as error:  # a damaged chunk, a failed dask task: anything the array's owner may raise
            what = self._say(region)
            raise SourceError(
                f"{self.name}: reading {what} failed ({reason(error)}); check where it comes from"
            ) from error
        return self._arrangement.arrange(block.astype(self.dtype, copy=False))

    def _release(self) -> None:
        self._fetch = None

    def _say(self, region: Region) -> str:
        return ", ".join(f"{d} {s.start}:{s.stop}" for d, s in zip(self.dims, region, strict=True))


def native(name: str, dtype: Any) -> np.dtype[Any]:
    """
    A dtype in native byte order.

    Raises
    ------
    SourceError
        It is not one of booleans, integers, floats up to 64 bits or complex numbers up to 128.
    """
    try:
        found: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        found = np.dtype(object)
    if found not in _SUPPORTED:
        raise SourceError(
            f"{name}: the dtype is {dtype}; pixels have to be bool, int, uint, float16 to float64, complex64 or "
            f"complex128, so convert with .astype first"
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
    nodata: float | None = None,
    channels: tuple[str, ...] | None = None,
    times: Pixels | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> ArraySource:
    """
    Describe an array.

    Parameters
    ----------
    array
        Has `shape` and `dtype`.
    fetch
        How to index it; `array[index]` if left out.
    blocks
        Length of what is decoded together along each axis of the array; None for pixels that lie in memory.
    """
    shape = arrangement.shape(array.shape)
    if 0 in shape:
        raise SourceError(f"{name}: the shape is {tuple(array.shape)}, so there is nothing to read")
    lengths = dict(zip(arrangement.dims, shape, strict=True))
    facts = Facts(
        name=name,
        dims=arrangement.dims,
        shape=shape,
        dtype=native(name, array.dtype),
        channels=channels or plain_names(lengths["c"]),
        band=1 if blocks is None else min(arrangement.along("y", blocks), lengths["y"]),
        interleaved=_interleaved(arrangement, array, blocks),
        nodata=nodata,
        times=times,
        metadata=metadata or {"format": "array"},
    )
    return ArraySource(facts.settle(options), arrangement, fetch or array.__getitem__)


def open_numpy(array: Pixels, options: Options, name: str = "<numpy array>", form: str = "array") -> ArraySource:
    """Read an array in memory, or mapped into it."""
    if isinstance(array, np.ma.MaskedArray):
        raise SourceError(f"{name}: it is a masked array; pass array.filled(value) and nodata=value")
    return open_array(name, array, from_shape(name, array.shape, options), options, metadata={"format": form})


def open_npy(path: str, options: Options) -> ArraySource:
    """Map a .npy file into memory."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python, and lets errors of its tokenizer through
        raise SourceError(
            f"{path}: it begins like a NPY file but cannot be mapped ({reason(error)}); write it again"
        ) from error
    lengths = dict(zip(*_dims_and_shape(path, array, options), strict=True))
    options.check_pixels(path, lengths["y"], lengths["x"], whole=False)
    return open_numpy(array, options, path, "NPY")


def open_dask(array: Any, options: Options) -> ArraySource:
    """Read a dask array, computing what each window touches."""
    name = f"<dask array {array.name}>"
    if any(n != n for n in array.shape):  # NaN: dask's way to say unknown
        raise SourceError(f"{name}: the shape is {array.shape}; call .compute_chunk_sizes() first")
    return open_array(
        name,
        array,
        from_shape(name, array.shape, options),
        options,
        fetch=lambda index: array[index].compute(),
        blocks=tuple(chunks[0] for chunks in array.chunks),
        metadata={"format": "dask"},
    )


def _dims_and_shape(name: str, array: Pixels, options: Options) -> tuple[tuple[str, ...], tuple[int, ...]]:
    arrangement = from_shape(name, array.shape, options)
    return arrangement.dims, arrangement.shape(array.shape)


def _interleaved(arrangement: Arrangement, array: Any, blocks: tuple[int, ...] | None) -> bool:
    if blocks is not None:
        return arrangement.along("c", blocks) > 1
    if "c" not in arrangement.axes:
        return False
    strides = [abs(s) for s in array.strides]
    return arrangement.along("c", strides) < max(arrangement.along("x", strides), arrangement.along("y", strides))
