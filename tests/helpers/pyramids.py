"""Pyramids of any array, and readers of their stores that others wrote.

`ArraySource` is the smallest source that `write_pyramid` takes: an array in memory that records its reads.
`make` writes a pyramid and opens it.  `read_with_zarr` and `read_with_tensorstore` are the oracles.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

import ndzarr
from helpers.arrays import Array
from ndzarr._formats.base import Facts
from ndzarr._geo.pixel_size import NOT_KNOWN, PixelSize
from ndzarr._pyramid.transcode import write_pyramid
from ndzarr._store.presets import Encoding, chunks_option
from ndzarr._store.validity import Validity


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
    pixel_size: PixelSize = NOT_KNOWN
    metadata: Mapping[str, Any] = field(default_factory=dict)
    mask: Array | None = None
    """True where pixels are real, axes `dims` without c."""
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

    @property
    def facts(self) -> Facts:
        own = {
            name: getattr(self, name)
            for name in ("name", "dims", "shape", "dtype", "channels", "band", "nodata", "pixel_size")
        }
        return Facts(**own, interleaved=self.interleaved, metadata=self.metadata, masked=self.masked)

    @property
    def masked(self) -> bool:
        return self.mask is not None

    @property
    def validity(self) -> Validity:
        return self.facts.validity

    def read_mask(self, window: Mapping[str, slice]) -> Array:
        assert self.mask is not None
        kept = zip((d for d in self.dims if d != "c"), self.mask.shape, strict=True)
        return self.mask[tuple(window.get(d, slice(0, n)) for d, n in kept)]

    def read(self, window: Mapping[str, slice]) -> Array:
        self.before_read(len(self.windows))
        cut = tuple(window.get(d, slice(0, n)) for d, n in zip(self.dims, self.shape, strict=True))
        self.windows.append(cut)
        return self.array[cut]

    @property
    def trouble(self) -> tuple[str, ...]:
        return ()

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
    cache_bytes: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
    **options: Any,
) -> ndzarr.Pyramid:
    """Write an array as `folder/a.zarr` and open it.

    `ndzarr.transcode` takes the options that it has.  What no option says (`shard` of an encoding, and fields of
    `ArraySource`) goes past it.
    """
    path = folder / "a.zarr"
    how: dict[str, Any] = {"overwrite": overwrite, "workers": workers}
    names = tuple(f"c{i}" for i in range(array.shape[dims.index("c")]))
    if options.keys() <= {"nodata", "channels", "preset", "kind", "chunks", "access", "reduce"}:
        ndzarr.transcode(array, path, axes="".join(dims), **({"channels": names} | options), **how)
    else:
        fields = {key: options.pop(key) for key in ("preset", "kind", "shard", "access", "reduce") if key in options}
        encoding = Encoding(**fields, chunks=chunks_option(options.pop("chunks", None)))
        write_pyramid(ArraySource(array, tuple(dims), **options), path, encoding, **how)
    return ndzarr.open(path, cache_bytes)


def read_with_zarr(path: str | Path, component: str = "") -> Array:
    """The whole array as zarr-python reads it."""
    import zarr

    with warnings.catch_warnings():
        # It says of numcodecs.delta, complex and the like that their specifications may change.
        warnings.simplefilter("ignore")
        return np.asarray(zarr.open_array(Path(path, component), mode="r")[...])


def read_with_tensorstore(path: str | Path, component: str = "", driver: str = "zarr3") -> Array:
    """The whole array as tensorstore reads it."""
    import tensorstore as ts

    kvstore = {"driver": "file", "path": str(Path(path, component))}
    return np.asarray(ts.open({"driver": driver, "kvstore": kvstore}, open=True).result().read().result())
