"""A pyramid as a dataset of rasterio: `read(window=)`, `width`, `height`, `crs`, `transform` and so on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._geo.georeference import Transform
from ndzarr.adapters.planes import Reader
from ndzarr.errors import OptionError, WindowError

if TYPE_CHECKING:
    import xarray

Array = np.ndarray[Any, Any]

RESAMPLING = {0: "nearest", 1: "linear", 2: "cubic", 4: "lanczos", 5: "area"}
"""Number of `rasterio.enums.Resampling` to the interpolation of the same name; others have no counterpart."""


_IDENTITY: Transform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class Raster(Reader):
    """
    A pyramid that reads as a `rasterio.DatasetReader`, for functions that take any object of that shape.

    rasterio's own `merge`, `mask` and `sample` do.  Bands are counted from 1.  rasterio is needed for `crs`,
    `transform`, `bounds` and windows in coordinates.

    Parameters
    ----------
    source
        A pyramid, or the path of one or of a file that `ndzarr.open` opens.
    **place
        The frame or plane of a pyramid that has several, such as `t=0` or `z=3`.

    Raises
    ------
    OptionError
        The pyramid has several frames or planes.

    Notes
    -----
    Windows between pixels are moved to whole pixels.  Where a window is read at another size, levels are used for
    average, bilinear, cubic and lanczos; the kernels of the last three are OpenCV's.

    Examples
    --------
    >>> import ndzarr, ndzarr.adapters, numpy as np, tempfile
    >>> pyr = ndzarr.transcode(np.arange(24, dtype="u2").reshape(4, 6), tempfile.mkdtemp() + "/a.zarr")
    >>> raster = ndzarr.adapters.Raster(pyr)
    >>> raster.count, raster.width, raster.height, raster.dtypes
    (1, 6, 4, ('uint16',))
    >>> raster.read(1, window=((1, 3), (0, 2)))
    array([[ 6,  7],
           [12, 13]], dtype=uint16)
    """

    driver = "ndzarr"
    mode = "r"
    closed = False

    def __init__(self, source: Any, **place: int) -> None:
        super().__init__(source, place)
        self.name = self.pyramid.path
        sizes = self.pyramid.sizes
        self.height, self.width, self.count = sizes["y"], sizes["x"], sizes.get("c", 1)
        self.indexes = tuple(range(1, self.count + 1))
        self.dtypes = (self.pyramid.dtype.name,) * self.count
        self.descriptions = self.pyramid.channels if "c" in sizes else (None,)
        nodata = self.pyramid.nodata
        self.nodatavals = nodata if isinstance(nodata, tuple) else (nodata,) * self.count

    def __repr__(self) -> str:
        return f"<ndzarr.adapters.Raster: {self.name}, {self.count} bands of {self.height} x {self.width}>"

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def nodata(self) -> float | None:
        """The value of missing pixels in the first band."""
        return self.nodatavals[0]

    @property
    def block_shapes(self) -> list[tuple[int, int]]:
        """(height, width) of chunks, for each band."""
        return [(self.pyramid.levels[0].chunks[-2], self.pyramid.levels[0].chunks[-1])] * self.count

    @property
    def crs(self) -> Any:
        """The `rasterio.crs.CRS`; None if the image has none."""
        place = self.pyramid.georeference
        if place is None or not place.crs.defined:
            return None
        from rasterio.crs import CRS

        text = place.crs.text()
        if text is None and place.crs.epsg is None:
            place.crs.require_pyproj("crs")
        return CRS.from_wkt(text) if text is not None else CRS.from_epsg(place.crs.epsg)

    @property
    def transform(self) -> Any:
        """The `affine.Affine` from pixels to coordinates; the identity if the image has none."""
        from rasterio.transform import Affine

        return Affine.identity() if self._six is None else Affine(*self._six)

    @property
    def bounds(self) -> Any:
        """The `rasterio.coords.BoundingBox`."""
        from rasterio.coords import BoundingBox

        a, b, c, d, e, f = self._six or _IDENTITY  # y of the identity counts downwards
        if b == 0 == d:
            return BoundingBox(c, f + e * self.height, c + a * self.width, f)
        assert self.pyramid.georeference is not None
        return BoundingBox(*self.pyramid.georeference.bounds(self.height, self.width))

    @property
    def res(self) -> tuple[float, float]:
        """(width, height) of a pixel."""
        a, b, _, d, e, _ = self._six or _IDENTITY
        return float(np.hypot(a, d)), float(np.hypot(b, e))

    @property
    def _six(self) -> Transform | None:
        place = self.pyramid.georeference
        return None if place is None else place.transform

    @property
    def meta(self) -> dict[str, Any]:
        """The keys that make a GeoTIFF of the same kind."""
        return {
            "driver": "GTiff", "dtype": self.dtypes[0], "nodata": self.nodata, "width": self.width,
            "height": self.height, "count": self.count, "crs": self.crs, "transform": self.transform,
        }  # fmt: skip

    @property
    def profile(self) -> Any:
        """The `rasterio.profiles.Profile` of that."""
        from rasterio.profiles import Profile

        return Profile(**self.meta)

    def tags(self, bidx: int = 0, ns: str | None = None) -> dict[str, str]:
        """Return no tags."""
        return {}

    def colormap(self, bidx: int) -> dict[int, tuple[int, ...]]:
        """Raise `ValueError`, as rasterio does for bands without colours."""
        raise ValueError("NULL color table")

    def overviews(self, bidx: int) -> list[int]:
        """Return the factors of the levels."""
        return [round(max(factors)) for factors in self.pyramid.planar_factors[1:]]

    def read(
        self,
        indexes: int | Sequence[int] | None = None,
        out: Array | None = None,
        window: Any = None,
        masked: bool = False,
        out_shape: tuple[int, ...] | None = None,
        boundless: bool = False,
        resampling: Any = 0,
        out_dtype: Any = None,
        fill_value: float | None = None,
    ) -> Array:
        """
        Read bands of a window; parameters are those of `rasterio.DatasetReader.read`.

        Returns
        -------
        (band, y, x), or (y, x) if `indexes` is one number; masked where pixels are missing, if `masked`.

        Raises
        ------
        WindowError
            A band does not exist, or the window lies outside and `boundless` is False.
        OptionError
            The resampling has no counterpart.
        """
        shape = out_shape if out is None else out.shape
        found = self._window(indexes, window, shape, boundless, resampling, fill_value)
        pixels = found.values.reshape(-1, *found.shape[-2:])
        pixels = pixels if out_dtype is None else pixels.astype(out_dtype)
        single = isinstance(indexes, int | np.integer)
        if out is not None:
            out[...] = pixels.reshape(out.shape)
            pixels = out.reshape(pixels.shape)
        if masked:
            mask = ~self._valid(found, len(pixels))
            pixels = np.ma.array(pixels, mask=mask, fill_value=self._fill(pixels.dtype))
        return pixels[0] if single else pixels

    def dataset_mask(
        self, out: Array | None = None, out_shape: tuple[int, ...] | None = None, window: Any = None,
        boundless: bool = False, resampling: Any = 0,
    ) -> Array:  # fmt: skip
        """Return 255 where any band of a pixel is real, else 0; shape (y, x)."""
        masks = self.read_masks(None, None, window, out_shape, boundless, resampling)
        found = np.where(masks.any(axis=0), np.uint8(255), np.uint8(0))
        if out is None:
            return found
        out[...] = found
        return out

    def read_masks(
        self, indexes: int | Sequence[int] | None = None, out: Array | None = None, window: Any = None,
        out_shape: tuple[int, ...] | None = None, boundless: bool = False, resampling: Any = 0,
    ) -> Array:  # fmt: skip
        """Return 255 where bands are real, else 0; shape (band, y, x), or (y, x) if `indexes` is one number."""
        found = self._window(indexes, window, out_shape if out is None else out.shape, boundless, resampling, None)
        masks = np.where(self._valid(found, found.sizes.get("c", 1)), np.uint8(255), np.uint8(0))
        masks = masks[0] if isinstance(indexes, int | np.integer) else masks
        if out is None:
            return masks
        out[...] = masks
        return out

    def _window(
        self,
        indexes: int | Sequence[int] | None,
        window: Any,
        shape: tuple[int, ...] | None,
        boundless: bool,
        resampling: Any,
        fill: float | None,
    ) -> xarray.DataArray:
        bands = self.indexes if indexes is None else np.atleast_1d(indexes).tolist()
        if wrong := [band for band in bands if band not in self.indexes]:
            message = f"indexes={indexes!r}: there is no band {wrong[0]!r}"
            raise WindowError(message, path=self.name, key="indexes", hint=f"Bands are 1 to {self.count}")
        (y0, y1), (x0, x1) = (_interval(window, axis, length) for axis, length in zip("yx", self.shape, strict=True))
        if not boundless:
            y0, y1, x0, x1 = max(y0, 0), min(y1, self.height), max(x0, 0), min(x1, self.width)
            if y0 >= y1 or x0 >= x1:
                message = f"window={window!r} lies outside {self.height} x {self.width} pixels"
                raise WindowError(message, path=self.name, key="window", hint="Use boundless=True")
        height, width = (y1 - y0, x1 - x0) if shape is None else shape[-2:]
        if int(resampling) not in RESAMPLING:
            message = f"resampling={resampling!r}: expected nearest, bilinear, cubic, lanczos or average"
            raise OptionError(message, key="resampling")
        along: dict[str, Any] = {**self._place}
        if "c" in self.pyramid.dims:
            along["c"] = [band - 1 for band in bands]
        return self.pyramid.window(
            y=slice(y0, y1),
            x=slice(x0, x1),
            scale=(width / (x1 - x0), height / (y1 - y0)),
            interpolation=RESAMPLING[int(resampling)],
            fill=fill if fill is not None else (self.nodata or 0),
            **along,
        )

    def _valid(self, found: xarray.DataArray, bands: int) -> Array:
        """Return True where pixels are real; shape (band, y, x)."""
        size = found.shape[-2:]
        if "valid" not in found.coords:
            return np.ones((bands, *size), bool)
        valid = found.coords["valid"].values
        return np.broadcast_to(valid.reshape(-1, *size), (bands, *size))

    def _fill(self, dtype: np.dtype[Any]) -> Any:
        return None if self.nodata is None else np.array(self.nodata).astype(dtype)

    # Windows in coordinates, by rasterio's own functions.

    def window(self, left: float, bottom: float, right: float, top: float) -> Any:
        """Return the `rasterio.windows.Window` of a box in coordinates."""
        from rasterio.windows import from_bounds

        return from_bounds(left, bottom, right, top, transform=self.transform)

    def window_transform(self, window: Any) -> Any:
        """Return the transform of a window."""
        from rasterio.windows import transform

        return transform(window, self.transform)

    def window_bounds(self, window: Any) -> Any:
        """Return (left, bottom, right, top) of a window."""
        from rasterio.windows import bounds

        return bounds(window, self.transform)

    def index(self, x: Any, y: Any, **options: Any) -> Any:
        """Return (row, column) of coordinates, as `rasterio.transform.rowcol`."""
        from rasterio.transform import rowcol

        return rowcol(self.transform, x, y, **options)

    def xy(self, row: Any, col: Any, **options: Any) -> Any:
        """Return the coordinates of pixels, as `rasterio.transform.xy`."""
        from rasterio.transform import xy

        return xy(self.transform, row, col, **options)


def _interval(window: Any, axis: str, length: int) -> tuple[int, int]:
    """Return the half-open interval of a window along an axis: a `Window`, or ((row, row), (column, column))."""
    if window is None:
        return 0, length
    if hasattr(window, "col_off"):
        start, n = (window.row_off, window.height) if axis == "y" else (window.col_off, window.width)
        return round(start), max(round(start + n), round(start) + 1)
    try:
        start, stop = window["yx".index(axis)]
    except (TypeError, ValueError) as error:
        message = f"window={window!r}: expected a rasterio Window, or ((row, row), (column, column))"
        raise WindowError(message, key="window") from error
    return (0 if start is None else int(start)), (length if stop is None else int(stop))
