"""The public facade of a pyramid.

`Pyramid` reads windows: raw (`read`, `read_many`: exactly numpy's slicing), labelled and padded (`window`), lazy
(`to_xarray`, `to_datatree`).  Its methods call the functions of this package; its data are those of `Multiscale`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._geo.bounds import has_lengths, pixel_window
from ndzarr._indexing.plan import ReadPlan
from ndzarr._pyramid.levels import AxisWindow, Multiscale, plan_windows, read_window
from ndzarr._store.read import execute

if TYPE_CHECKING:
    import xarray


class Pyramid(Multiscale):
    """
    An image, video or volume at several resolutions, open for reading.

    `ndzarr.open` and `ndzarr.transcode` return pyramids.  Any number of threads may read the same one.  A pyramid works
    in forked processes, and pickles to its path and options.

    Attributes
    ----------
    path
        Absolute path or URL of the store or file.
    dims, shape, sizes
        Axis names in the order t c z y x, their lengths at native resolution, and the mapping from one to the other.
    dtype
        Type of the pixels.
    levels
        From native to coarsest; each has a `shape`, `chunks`, and `factors`: native pixels per pixel along each axis.
    channels
        One name per channel; empty where there is no axis c.
    kind
        'intensity' or 'labels'.
    nodata
        The value that marks pixels without data; where channels have different ones, a tuple with that of each, None
        for channels that have none; None if no channel has one.
    validity
        What says which pixels are real: its `nodata`, `alpha` (position along c, or None) and `masked`.
    times
        Seconds of each frame along t, or None.
    georeference
        Reference system and transform of native pixels, or None.
    pixel_size
        Physical size of a native pixel, or None: `z`, `y`, `x` and `t`, each with `value` and `unit` (a name of
        UDUNITS-2) or None, `magnification` of the objective, and `source`; see docs/pixel-size.md.
    notes
        What was left out or decided when the source was read.
    attrs
        Attributes of the store's root.
    """

    def read(self, level: int = 0, **window: AxisWindow) -> np.ndarray[Any, Any]:
        """
        Read a window as stored, by numpy's rules for slices: stops are clipped, nothing is padded.

        Parameters
        ----------
        level
            0 is native.
        **window
            Axis name to a half-open slice in pixels of that level, a sequence of indices, or along c a sequence of
            channel names.  Axes left out are read whole.

        Returns
        -------
        Array of `dtype` with axes `dims`; no axis is dropped.

        Raises
        ------
        WindowError
            An axis, channel or level is unknown, or an index is negative or out of range.
        DamagedError
            Stored bytes are not those that were written.
        StoreError
            The store, or the file opened in place, was removed or replaced, or the network failed.

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
        Read many windows in one plan: each chunk that they touch is decoded once.

        Parameters
        ----------
        windows
            Each a mapping from axis names to what `read` takes for them.
        level
            0 is native.

        Returns
        -------
        One array per window, in order, as `read` returns it.  Small windows of a large plan are parts of blocks of 4
        MiB, of which up to 64 are used again once their windows are gone: copy a few windows that you keep for long.

        Raises
        ------
        WindowError, DamagedError, StoreError
            As `read`.
        """
        return execute(plan_windows(self, windows, level), cache=self.cache)

    def plan(self, windows: Iterable[Mapping[str, AxisWindow]], level: int = 0) -> ReadPlan:
        """
        Return the plan of `read_many`.

        `plan(...).explain()` counts chunks and bytes without reading any.  Raises `WindowError` as `read` does.
        """
        return plan_windows(self, windows, level)

    def window(
        self,
        *,
        scale: float | tuple[float, float] = 1.0,
        interpolation: str = "auto",
        antialias: bool | None = None,
        fill: float = 0,
        resolution: float | str | None = None,
        bounds: tuple[float, float, float, float] | None = None,
        crs: Any = None,
        **window: AxisWindow,
    ) -> xarray.DataArray:
        """
        Read a labelled window at any scale, padded outside the image.

        Parameters
        ----------
        scale
            Output pixels per native pixel, above 0; (along x, along y) if they differ.  A window of h x w native
            pixels gives round(h * scale) x round(w * scale).  The coarsest level that is fine enough is read, and
            resampled if its pixels are not those of the output.
        interpolation
            'area' (means; linear when enlarging), 'nearest', 'linear', 'cubic', 'lanczos', or 'auto': nearest for
            labels, else area.
        antialias
            When reducing, let every native pixel count.  None means yes, unless the interpolation is 'nearest'.  If
            False, native pixels are read, since coarser levels are means.
        fill
            Value of pixels outside the image.
        resolution
            Size of an output pixel, instead of `scale`: '0.5um', '500 nm', '10 m', '10GSD', the magnification '20x', or
            a number in the image's own unit (that of `pixel_size.x`; metres where the image is georeferenced).
        bounds
            (left, bottom, right, top) in coordinates, instead of y and x.  The fewest native pixels that cover it are
            read.
        crs
            Reference system of `bounds`, such as 'EPSG:4326'; that of the image if None.
        **window
            Axis name to a half-open slice in native pixels, frames or planes, which may begin before 0 and end after
            the last one, with a step along t and z; or a sequence of indices, or along c of channel names.  Slices of y
            and x may give lengths from the first border, such as slice('0 um', '50 um'), instead of pixels.

        Returns
        -------
        DataArray of `dtype` with axes `dims`.  Its y and x coordinates are pixel centres in native pixels, or in the
        reference system if the image is georeferenced.  If anything was padded or holds no data, a coordinate `valid`
        with axes (y, x) is False there; it has more axes if they differ.

        Raises
        ------
        WindowError
            An axis or channel is unknown, the window is empty, the scale leaves no pixel, bounds are given for an
            image without a transform, or a resolution for one that does not say how large its pixels are.
        OptionError
            The interpolation is unknown, `dtype` cannot hold `fill`, or the reference system needs pyproj.
        DamagedError, StoreError
            As `read`.

        Notes
        -----
        Kernels are OpenCV's (and kwcoco's): Keys (1981) with a = -0.75 for 'cubic', Duchon (1979) with four lobes for
        'lanczos'.  Pillow and GDAL have a = -0.5 and three lobes.
        """
        from ndzarr._pyramid.crops import Sampling
        from ndzarr._pyramid.window import labelled_window

        physical = has_lengths(window.get("y")) or has_lengths(window.get("x"))
        if physical or bounds is not None or crs is not None or resolution is not None:
            window, scale = pixel_window(
                self.georeference, self.pixel_size, self.path, self.sizes, window, scale, resolution, bounds, crs
            )
        return labelled_window(self, window, scale, Sampling(interpolation, antialias), fill)

    def to_xarray(self, level: int = 0, chunks: str | Mapping[str, int] = "shards") -> xarray.DataArray:
        """
        Return a level as a lazy, labelled dask array.

        Parameters
        ----------
        level
            0 is native.
        chunks
            'shards' makes dask chunks of whole shards; or a mapping from axis names to lengths in pixels.

        Returns
        -------
        DataArray of `dtype` with axes `dims`.  Its y and x coordinates are pixel centres in native pixels, or in the
        reference system.  If there is a mask, a coordinate `valid`, lazy too, is False where it hides pixels.

        Raises
        ------
        WindowError
            There is no such level.
        OptionError
            `chunks` is not understood.
        """
        from ndzarr._pyramid.lazy import lazy_level

        return lazy_level(self, level, chunks)

    def to_datatree(self) -> xarray.DataTree:
        """Return all levels as lazy arrays: children '0', '1', ... with one variable `image` each."""
        from ndzarr._pyramid.lazy import lazy_tree

        return lazy_tree(self)

    def __repr__(self) -> str:
        from ndzarr._pyramid.repr import text_repr

        return text_repr(self)

    def _repr_html_(self) -> str:
        from ndzarr._pyramid.repr import html_repr

        return html_repr(self)
