"""The public facade of a pyramid.

`Pyramid` reads windows: raw (`read`, `read_many`: exactly numpy's slicing), labelled and padded (`window`), lazy
(`to_xarray`, `to_datatree`).  Its methods call the functions of this package; its data are those of `Multiscale`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._indexing.plan import ReadPlan
from ndzarr._pyramid.levels import AxisWindow, Multiscale, plan_windows, read_window
from ndzarr._store.read import execute

if TYPE_CHECKING:
    import xarray


class Pyramid(Multiscale):
    """
    An image, video or volume at several resolutions, open for reading.

    Made by `ndzarr.open` and `ndzarr.transcode`.  Any number of threads may read one; it is safe after a fork, and
    pickles to its path.
    """

    def read(self, level: int = 0, **window: AxisWindow) -> np.ndarray[Any, Any]:
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
        return read_window(self, level, window)

    def read_many(self, windows: Iterable[Mapping[str, AxisWindow]], level: int = 0) -> list[np.ndarray[Any, Any]]:
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
        return execute(plan_windows(self, windows, level), cache=self.cache)

    def plan(self, windows: Iterable[Mapping[str, AxisWindow]], level: int = 0) -> ReadPlan:
        """What `read_many` would read; `plan(...).explain()` says what that costs."""
        return plan_windows(self, windows, level)

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
        **window: AxisWindow,
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
            from ndzarr._geo.bounds import pixel_window

            window, scale = pixel_window(
                self.georeference, self.path, self.sizes, window, scale, resolution, bounds, crs
            )
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
        from ndzarr._pyramid.repr import text_repr

        return text_repr(self)

    def _repr_html_(self) -> str:
        from ndzarr._pyramid.repr import html_repr

        return html_repr(self)
