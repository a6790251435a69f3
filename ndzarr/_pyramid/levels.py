"""The levels of a pyramid, and raw reads of them.

`Multiscale` (OME-Zarr's term) is the data behind the public `Pyramid`: arrays, names and attributes.  Everything below
that facade takes a `Multiscale`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np

from ndzarr._geo.georeference import Georeference, from_attributes
from ndzarr._geo.pixel_size import PixelSize
from ndzarr._indexing.plan import ReadPlan, plan_reads
from ndzarr._indexing.selection import Selection, select
from ndzarr._store.arrays import Stored
from ndzarr._store.metadata import interpreting, pixel_size_of
from ndzarr._store.read import execute
from ndzarr._store.sharding import ChunkCache
from ndzarr._store.validity import Nodata, Validity, as_nodata
from ndzarr.errors import WindowError, did_you_mean

AxisWindow: TypeAlias = "slice | Sequence[int] | Sequence[str] | None"
"""What `read` takes for an axis: a half-open slice, indices, channel names along c, or None for all of it."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a pyramid."""

    array: Stored
    factors: tuple[float, ...]
    """Native pixels per pixel of this level, along each axis of the pyramid."""
    mask: Stored | None = None
    """Nonzero where pixels are real, with the axes of the pyramid but c; None if the image has no mask."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis, in pixels of this level."""
        return self.array.shape

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a chunk, which is decoded as a whole."""
        return self.array.chunks

    def __repr__(self) -> str:
        shape, chunks = (" x ".join(map(str, lengths)) for lengths in (self.shape, self.chunks))
        return f"<Level 1/{max(self.factors):g}: {shape}, chunks {chunks}>"


@dataclass(eq=False, repr=False)
class Multiscale:
    """The levels of one image, video or volume, and what is known about them; see `Pyramid` for the attributes."""

    path: str
    dims: tuple[str, ...]
    levels: tuple[Level, ...]
    channels: tuple[str, ...]
    attrs: Mapping[str, Any]
    cache_bytes: int
    """Budget of `cache`, in bytes; 0 for none."""
    reopen: Callable[[str, int], Multiscale]
    """Opens `path` again with `cache_bytes`, in another process; must be picklable."""

    def __post_init__(self) -> None:
        self.cache = ChunkCache(self.cache_bytes) if self.cache_bytes else None
        """Decoded chunks kept between reads; None if nothing is kept."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis at native resolution."""
        return self.levels[0].shape

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Axis name to length at native resolution."""
        return dict(zip(self.dims, self.shape, strict=True))

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self.levels[0].array.dtype

    @cached_property
    def planar_levels(self) -> tuple[Level, ...]:
        """The levels that windows are read from: those that differ from the native one along y and x only."""
        native = self.levels[0].shape[:-2]
        return tuple(takewhile(lambda level: level.shape[:-2] == native, self.levels))

    @cached_property
    def planar_shapes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each planar level."""
        return tuple((v.shape[-2], v.shape[-1]) for v in self.planar_levels if len(v.shape) > 1)

    @cached_property
    def planar_factors(self) -> tuple[tuple[float, float], ...]:
        """Native pixels per pixel along (y, x) of each planar level."""
        return tuple((v.factors[-2], v.factors[-1]) for v in self.planar_levels if len(v.shape) > 1)

    @cached_property
    def kind(self) -> str:
        """
        'intensity' or 'labels': decides how levels were made and how windows are resampled.

        OME-Zarr images are labels if they say so, and those of integers in a group that is called `labels`.
        """
        own = self.attrs.get("ndzarr", {}).get("encoding", {}).get("kind")
        ome = self.attrs.get("ome", self.attrs)
        grouped = "multiscales" in ome and self.path.split("/")[-2:-1] == ["labels"] and self.dtype.kind in "iu"
        return str(own or ("labels" if "image-label" in ome or grouped else "intensity"))

    @cached_property
    def nodata(self) -> Nodata:
        """
        The value that marks pixels without data, if there is one.

        Where channels have different ones, it is a tuple with that of each, None for channels that have none.
        """
        value = self.attrs.get("ndzarr", {}).get("nodata")
        return as_nodata(value) if isinstance(value, list) else None if value is None else float(value)

    @cached_property
    def validity(self) -> Validity:
        """What says which pixels are real."""
        source = self.attrs.get("ndzarr", {}).get("source", {})
        return Validity.of(self.dims, self.channels, self.nodata, source, self.levels[0].mask is not None)

    @cached_property
    def georeference(self) -> Georeference | None:
        """The reference system and transform of native pixels, if the source has them."""
        with interpreting(self.path):
            return from_attributes(self.attrs)

    @cached_property
    def pixel_size(self) -> PixelSize | None:
        """Physical size of a native pixel, if the source states it."""
        return self._stated_size[0]

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was left out or decided when the source was read."""
        source = self.attrs.get("ndzarr", {}).get("source") or {}
        return (*source.get("notes", ()), *self._stated_size[1])

    @cached_property
    def _stated_size(self) -> tuple[PixelSize | None, list[str]]:
        with interpreting(self.path):
            return pixel_size_of(self.attrs, self.georeference)

    @cached_property
    def times(self) -> tuple[float, ...] | None:
        """Seconds of each frame along t, if the source has them."""
        values = self.attrs.get("ndzarr", {}).get("times")
        return None if values is None else tuple(values)

    def level(self, level: int) -> Level:
        """Return one of `levels`, counted from 0."""
        number: Any = level
        if not isinstance(number, Integral) or not 0 <= level < len(self.levels):
            message = f"level {level!r} does not exist; {self.path} has levels 0 to {len(self.levels) - 1}"
            raise WindowError(message, path=self.path, key="level")
        return self.levels[level]

    def channel_indices(self, channels: Sequence[int] | Sequence[str]) -> list[int]:
        """Return the positions of channels given by name or by position."""
        given: Any = channels
        if not isinstance(given, Iterable):
            message = f"c={channels!r}: a single channel would drop the axis"
            raise WindowError(message, key="c", hint=f"Give c=[{channels!r}]")
        out: list[int] = []
        for name in [channels] if isinstance(channels, str) else channels:
            if isinstance(name, str) and name not in self.channels:
                known = did_you_mean(name, self.channels)
                raise WindowError(f"channel {name!r} is not in {self.path}{known}", path=self.path, key="c")
            out.append(self.channels.index(name) if isinstance(name, str) else name)
        return out

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reopen, (self.path, self.cache_bytes)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        keys = [a.key(()) if (a := level.array).chunked else a.name for level in self.levels]
        return (type(self).__name__, self.path, keys)


def read_window(pyramid: Multiscale, level: int, window: Mapping[str, AxisWindow]) -> np.ndarray[Any, Any]:
    """Read one raw window; see `Pyramid.read`."""
    return execute(plan_reads([_request(pyramid, level, window)]), cache=pyramid.cache)[0]


def plan_windows(pyramid: Multiscale, windows: Iterable[Mapping[str, AxisWindow]], level: int) -> ReadPlan:
    """Plan raw windows together; see `Pyramid.plan`."""
    return plan_reads([_request(pyramid, level, window) for window in windows])


def _request(pyramid: Multiscale, level: int, window: Mapping[str, AxisWindow]) -> tuple[Stored, Selection]:
    given: Any = window
    if not isinstance(given, Mapping):
        raise WindowError(f"{given!r}: expected a list of windows such as {{'y': slice(0, 256)}}", window=given)
    channels = window.get("c")
    if channels is not None and not isinstance(channels, slice):
        window = {**window, "c": pyramid.channel_indices(channels)}
    array = pyramid.level(level).array
    return array, select(pyramid.dims, array.shape, window)  # type: ignore[arg-type]
