"""How do tests make pyramids of any array, and read them without ndzarr?

`ArraySource` is the smallest thing that `write_pyramid` takes: an array in memory, with a say in how it is handed out.
`make` writes one and opens it.  `through_zarr` and `through_tensorstore` are the oracles, written by others.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from hypothesis import HealthCheck, settings

import ndzarr
from ndzarr._pyramid.transcode import write_pyramid
from ndzarr._store.presets import Encoding

Array = np.ndarray[Any, Any]

DTYPES = tuple(
    np.dtype(d) for d in ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8", "c16"]
)
"""Every type that the hot path reads."""


@dataclass
class ArraySource:
    """An array as a `ndzarr._formats.base.Source`, with a memory of what was read."""

    array: Array
    dims: tuple[str, ...] = ("c", "y", "x")
    channels: tuple[str, ...] = ()
    band: int = 1
    interleaved: bool = True
    nodata: float | None = None
    times: Array | None = None
    name: str = "an array"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    before_read: Callable[[int], None] = lambda number: None
    """Called with the number of reads so far: to count, to fail, to wait."""

    def __post_init__(self) -> None:
        self.windows: list[tuple[slice, ...]] = []
        if not self.channels:
            self.channels = tuple(f"c{i}" for i in range(self.array.shape[self.dims.index("c")]))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def read(self, window: Mapping[str, slice]) -> Array:
        self.before_read(len(self.windows))
        cut = tuple(window.get(d, slice(0, n)) for d, n in zip(self.dims, self.shape, strict=True))
        self.windows.append(cut)
        return self.array[cut]

    def close(self) -> None:
        """Nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make(
    folder: Path,
    array: Array,
    dims: Sequence[str] = ("c", "y", "x"),
    *,
    encoding: Encoding | None = None,
    cache_bytes: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
    **source: Any,
) -> ndzarr.Pyramid:
    """Write an array as `folder/a.zarr` and open it."""
    path = folder / "a.zarr"
    write_pyramid(
        ArraySource(array, tuple(dims), **source), path, encoding or Encoding(), overwrite=overwrite, workers=workers
    )
    return ndzarr.open(path, cache_bytes)


def random_array(shape: Sequence[int], dtype: Any, seed: int = 0, zeros: float = 0.0) -> Array:
    """Any bits of a dtype (floats finite and moderate); a fraction of large blocks is zero, as missing chunks are."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        out = rng.integers(0, 2, shape).astype(bool)
    elif dtype.kind in "iu":
        info = np.iinfo(dtype)
        out = rng.integers(info.min, info.max, shape, dtype.newbyteorder("="), endpoint=True)
    elif dtype.kind == "c":
        out = rng.normal(0, 100, shape) + 1j * rng.normal(0, 100, shape)
    else:
        out = rng.normal(0, 100, shape)
    if zeros:
        blocks = rng.random([-(-n // 16) for n in shape]) < zeros
        for axis, n in enumerate(shape):
            blocks = np.repeat(blocks, 16, axis=axis).take(range(n), axis=axis)
        out[blocks] = 0
    return out.astype(dtype)


def through_zarr(path: str | Path, component: str = "") -> Array:
    """The whole array as zarr-python reads it."""
    import zarr

    with warnings.catch_warnings():
        # It says of numcodecs.delta, complex and the like that their specifications may change.
        warnings.simplefilter("ignore")
        return np.asarray(zarr.open_array(Path(path, component), mode="r")[...])


def through_tensorstore(path: str | Path, component: str = "", driver: str = "zarr3") -> Array:
    """The whole array as tensorstore reads it."""
    import tensorstore as ts

    kvstore = {"driver": "file", "path": str(Path(path, component))}
    return np.asarray(ts.open({"driver": driver, "kvstore": kvstore}, open=True).result().read().result())


def run_async(awaitable: Any) -> Any:
    """The result of a coroutine, for libraries that have nothing else."""
    return asyncio.run(awaitable)


def same(a: Array, b: Array) -> bool:
    """True where shape, type and every bit of meaning agree; NaN equals NaN."""
    return a.shape == b.shape and a.dtype == b.dtype and bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))


def examples(n: int) -> settings:
    """So many hypothesis examples, times the environment's NDZARR_EXAMPLES for a longer search; no deadline."""
    return settings(
        max_examples=n * int(os.environ.get("NDZARR_EXAMPLES", "1")),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
