"""What can be asked of a pyramid?

`Pyramid` holds the arrays of all levels and answers windows: raw (`read`, `read_many`: exactly numpy's slicing),
labelled and padded (`window`), lazy (`to_xarray`, `to_datatree`).  It pickles to the path it was opened from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._geo.georeference import Georeference, from_attributes
from ndzarr._indexing.plan import ReadPlan, plan_reads
from ndzarr._indexing.selection import Selection, select
from ndzarr._pyramid.levels import Level
from ndzarr._store.arrays import Stored
from ndzarr._store.read import execute
from ndzarr._store.sharding import ChunkCache
from ndzarr.errors import WindowError, did_you_mean

if TYPE_CHECKING:
    import xarray


Axis: TypeAlias = "slice | Sequence[int] | Sequence[str] | None"
"""What `read` takes for an axis: a half-open slice, indices, channel names along c, or None for all of it."""


class Pyramid:
    """
    An image, video or volume at several resolutions, open for reading.

    Made by `ndzarr.open` and `ndzarr.transcode`.  Any number of threads may read one; it is safe after a fork, and
    pickles to its path.
    """

    def __init__(
        self,
        path: str,
        dims: tuple[str, ...],
        levels: tuple[Level, ...],
        channels: tuple[str, ...],
        attrs: Mapping[str, Any],
        cache_bytes: int = 0,
        reopen: Callable[[str, int], Pyramid] | None = None,
    ) -> None:
        self._reopen = reopen
        self.path = path
        """Absolute path or URL of the store."""
        self.dims = dims
        """Axis names, in order."""
        self.levels = levels
        """From native to coarsest."""
        self.planar_levels = tuple(takewhile(lambda level: level.shape[:-2] == levels[0].shape[:-2], levels))
        """Those that differ from the native one along y and x only, which windows are read from: all that ndzarr
        writes."""
        self.planar_shapes = tuple((v.shape[-2], v.shape[-1]) for v in self.planar_levels if len(v.shape) > 1)
        """(height, width) of each of them."""
        self.planar_factors = tuple((v.factors[-2], v.factors[-1]) for v in self.planar_levels if len(v.shape) > 1)
        """Native pixels per pixel along (y, x) of each of them."""
        self.channels = channels
        """One name per channel; empty where there is no axis c."""
        self.attrs = attrs
        """The attributes of the store's root."""
        self.cache = ChunkCache(cache_bytes) if cache_bytes else None
        """Decoded chunks kept between reads, None if that is off."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis at native resolution."""
        return self.levels[0].shape

    @property
    def sizes(self) -> dict[str, int]:
        """Axis name to length at native resolution."""
        return dict(zip(self.dims, self.shape, strict=True))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self.levels[0].array.dtype

    @property
    def kind(self) -> str:
        """'intensity' or 'labels': how levels were made and how windows are resampled."""
        return str(self.attrs.get("ndzarr", {}).get("encoding", {}).get("kind", "intensity"))

    @property
    def nodata(self) -> float | None:
        """The value that marks pixels without data, if there is one."""
        value = self.attrs.get("ndzarr", {}).get("nodata")
        return None if value is None else float(value)

    @cached_property
    def georeference(self) -> Georeference | None:
        """Where on earth native pixels lie, if the source said so."""
        return from_attributes(self.attrs)

    @property
    def times(self) -> tuple[float, ...] | None:
        """Seconds of each frame along t, where the source stated them."""
        values = self.attrs.get("ndzarr", {}).get("times")
        return None if values is None else tuple(values)

    def read(self, level: int = 0, **window: Axis) -> np.ndarray[Any, Any]:
        """
        Read a window as it is stored: the raw hot path.

        Parameters
        ----------
        level
            0 is native.
        **window
            Per axis a half-open slice in pixels of that level (stops are clipped as numpy does), a sequence of indices,
            or along c a sequence of channel names.  Axes left out are read whole.

        Returns
        -------
        Array with axes `dims`; no axis is dropped.

        Raises
        ------
        WindowError
            An axis, channel or level is unknown, or an index is negative or out of range.
        DamagedError
            Stored bytes are not those that were written.

        Examples
        --------
        >>> import ndzarr, numpy as np, tempfile
        >>> pyr = ndzarr.transcode(np.arange(12, dtype="u1").reshape(3, 4), tempfile.mkdtemp() + "/a.zarr")
        >>> pyr.read(y=slice(1, 3), x=slice(0, 2))
        array([[[4, 5],
                [8, 9]]], dtype=uint8)
        """
        return execute(plan_reads([self._request(level, window)]), cache=self.cache)[0]

    def read_many(self, windows: Iterable[Mapping[str, Axis]], level: int = 0) -> list[np.ndarray[Any, Any]]:
        """
        Read windows planned together: each chunk that they touch is decoded once.

        Parameters
        ----------
        windows
            Each as `read` takes it, as a mapping axis -> slice or indices.

        Returns
        -------
        One array per window, in order.
        """
        return execute(self.plan(windows, level), cache=self.cache)

    def plan(self, windows: Iterable[Mapping[str, Axis]], level: int = 0) -> ReadPlan:
        """What `read_many` would read; `plan(...).explain()` says what that costs."""
        return plan_reads([self._request(level, window) for window in windows])

    def _request(self, level: int, window: Mapping[str, Axis]) -> tuple[Stored, Selection]:
        given: Any = window
        if not isinstance(given, Mapping):
            raise WindowError(f"{given!r}: expected a window such as {{'y': slice(0, 256)}}; many are a list of them")
        channels = window.get("c")
        if channels is not None and not isinstance(channels, slice):
            window = {**window, "c": self.channel_indices(channels)}
        array = self.level(level).array
        return array, select(self.dims, array.shape, window)  # type: ignore[arg-type]

    def level(self, level: int) -> Level:
        """
        One of `levels`, counted from 0.

        Raises
        ------
        WindowError
            There is no such level.
        """
        number: Any = level
        if not isinstance(number, Integral) or not 0 <= level < len(self.levels):
            raise WindowError(f"level {level!r} does not exist; {self.path} has levels 0 to {len(self.levels) - 1}")
        return self.levels[level]

    def channel_indices(self, channels: Sequence[int] | Sequence[str]) -> list[int]:
        """
        Positions of channels given by name (or already by position).

        Raises
        ------
        WindowError
            A name is unknown.
        """
        if not isinstance(channels, Iterable):
            raise WindowError(f"c={channels!r}: a single channel would drop the axis; ask for c=[{channels!r}]")
        out: list[int] = []
        for name in [channels] if isinstance(channels, str) else channels:
            if isinstance(name, str) and name not in self.channels:
                raise WindowError(f"channel {name!r} is not in {self.path}{did_you_mean(name, self.channels)}")
            out.append(self.channels.index(name) if isinstance(name, str) else name)
        return out

    def window(
        self,
        *,
        scale: float | tuple[float, float] = 1.0,
        interpolation: str = "auto",
        antialias: bool | None = None,
        fill: float = 0,
        resolution: float | None = None,
        bounds: tuple[float, float, float, float] | None = None,
        crs: Any = None,
        **window: Axis,
    ) -> xarray.DataArray:
        """
        A labelled window at any scale, padded where it lies outside.

        Parameters
        ----------
        scale
            Output pixels per native pixel; (along x, along y) where they differ.  The coarsest level that is fine
            enough is read, and what remains is resampled with anti-aliasing.
        interpolation
            'area' (means, linear where enlarging), 'nearest', 'linear', 'cubic', 'lanczos', or 'auto': nearest for
            labels, area for all else.
        antialias
            Where reducing, let every native pixel count; unless given, all but 'nearest' do.  Without it native
            pixels are read, since coarser levels are means.
        fill
            Value of pixels outside the image.
        resolution
            Metres per output pixel, instead of `scale`, where the image is georeferenced.
        bounds
            (left, bottom, right, top) in coordinates, instead of y and x: the fewest pixels that cover it.
        crs
            Reference system of `bounds`, such as 'EPSG:4326'; that of the image if left out.
        **window
            Per axis a half-open slice in native pixels, frames or planes, which may begin before 0 and end behind
            the last, with a step along t and z; a sequence of indices, or along c channel names.

        Returns
        -------
        DataArray with axes `dims`.  Its y and x coordinates are pixel centres in native pixels.  Where something was
        padded or holds no data, a coordinate `valid` (y, x) is False there; it has more axes where they differ.

        Raises
        ------
        WindowError
            As `read`; also an empty window, a scale that leaves no pixel, or bounds without a georeference.
        """
        from ndzarr._pyramid.crops import Sampling
        from ndzarr._pyramid.window import labelled_window

        if bounds is not None or crs is not None or resolution is not None:
            from ndzarr._geo.bounds import settle

            window, scale = settle(self, window, scale, resolution, bounds, crs)
        return labelled_window(self, window, scale, Sampling(interpolation, antialias), fill)

    def to_xarray(self, level: int = 0, chunks: str | Mapping[str, int] = "shards") -> xarray.DataArray:
        """
        A level as a lazy, labelled array (dask).

        Parameters
        ----------
        chunks
            'shards': dask chunks are whole shards; or axis -> length.
        """
        from ndzarr._pyramid.lazy import lazy_level

        return lazy_level(self, level, chunks)

    def to_datatree(self) -> xarray.DataTree:
        """All levels as lazy arrays: children '0', '1', ... with a variable `image` each."""
        from ndzarr._pyramid.lazy import lazy_tree

        return lazy_tree(self)

    def __repr__(self) -> str:
        from ndzarr._pyramid.repr import text_repr as text

        return text(self)

    def _repr_html_(self) -> str:
        from ndzarr._pyramid.repr import html_repr as html

        return html(self)

    def __reduce__(self) -> tuple[Any, ...]:
        from ndzarr._pyramid.zarr_store import open_pyramid

        return self._reopen or open_pyramid, (self.path, self.cache.max_bytes if self.cache else 0)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        keys = [a.key(()) if (a := level.array).chunked else a.name for level in self.levels]
        return (type(self).__name__, self.path, keys)
