"""
Stores that others write, and what ndzarr has to find in each: pixels, axes, scale, reference system, nodata.

Each function with `@store` writes one store below a folder and returns what is true of it.  `check` opens and
transcodes it; a store that is refused has to give an advice, and `advised` is what follows it.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

import ndzarr
from ndzarr.errors import NdzarrError

TRANSFORM = (10.0, 0.0, 300000.0, 0.0, -10.0, 7000000.0)
CODE = 32633
RGB = (np.indices((61, 83)).sum(0) * np.array([1, 2, 3])[:, None, None] % 251).astype("u1")
DEEP = (RGB[0].astype("u2") * 200).astype("u2")
HEIGHTS = np.where(RGB[0] == 7, -9999, RGB[0].astype("i2") - 90).astype("i2")
Y, X = 7000000.0 - 10 * (np.arange(61) + 0.5), 300000.0 + 10 * (np.arange(83) + 0.5)


@dataclass(frozen=True)
class Truth:
    """What is true of a store."""

    source: Any
    """Path or object."""
    pixels: np.ndarray[Any, Any]
    """Of the native level, axes `dims`."""
    dims: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """`epsg`, `transform`, `nodata`, `channels`, `levels`, `times`, `size` (micrometres along y)."""
    advised: Mapping[str, Any] | None = None
    """Options, or another `path`, that the error advises; None if nothing is to be refused."""
    levels: int = 1


@dataclass(frozen=True)
class Row:
    """A kind of store."""

    name: str
    writer: str
    needs: tuple[str, ...]
    write: Callable[[Path], Truth]

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [name for name in self.needs if find_spec(name) is None]


ROWS: list[Row] = []


def store(name: str, writer: str, *needs: str) -> Callable[[Callable[[Path], Truth]], Callable[[Path], Truth]]:
    """Enter a function into the table."""

    def enter(write: Callable[[Path], Truth]) -> Callable[[Path], Truth]:
        ROWS.append(Row(name, writer, needs, write))
        return write

    return enter


def check(truth: Truth, folder: Path) -> str:
    """Return 'yes', 'yes, as advised', or what is wrong."""
    how: dict[str, Any] = {}
    source = truth.source
    if truth.advised is not None:
        try:
            ndzarr.open(source)
        except NdzarrError as error:
            said = f"{error} {error.hint}"
        else:
            return "wrong: it is not refused"
        how = dict(truth.advised)
        missing = [repr(v) for k, v in how.items() if k != "path" and f"{k}={v!r}" not in said]
        if "path" in how:
            source = Path(source) / how.pop("path")
            missing += [source.name] if source.name not in said else []
        if missing:
            return f"wrong: the error does not advise {', '.join(missing)}"
    pyramid = ndzarr.open(source, **how)
    wrong = _wrong(pyramid, truth, "".join(pyramid.dims), pyramid.read())
    shutil.rmtree(folder / "made.zarr", ignore_errors=True)
    made = ndzarr.transcode(source, folder / "made.zarr", **how)
    wrong += [f"transcoded {w}" for w in _wrong(made, truth, truth.dims, made.read().reshape(truth.pixels.shape))]
    if truth.levels != len(pyramid.levels):
        wrong.append(f"{len(pyramid.levels)} levels")
    if wrong:
        return "wrong: " + ", ".join(wrong)
    return "yes" if truth.advised is None else "yes, as advised"


def _wrong(pyramid: Any, truth: Truth, dims: str, pixels: np.ndarray[Any, Any]) -> list[str]:
    out = []
    if dims != truth.dims:
        out.append(f"axes {dims}")
    same = pixels.shape == truth.pixels.shape and pixels.dtype == truth.pixels.dtype
    if not same or not np.array_equal(pixels, truth.pixels, equal_nan=pixels.dtype.kind in "fc"):
        out.append(f"pixels ({pixels.shape} {pixels.dtype})")
    place, size = pyramid.georeference, pyramid.pixel_size
    found = {
        "epsg": None if place is None else place.crs.epsg,
        "transform": None if place is None else place.transform,
        "nodata": pyramid.nodata,
        "channels": pyramid.channels,
        "times": pyramid.times,
        "size": None if size is None or size.y is None else size.y.base * 1e6,
    }
    for key, wanted in truth.facts.items():
        if not _equal(found[key], wanted):
            out.append(f"{key} {found[key]}")
    return out


def _equal(found: Any, wanted: Any) -> bool:
    if (
        found is None
        or wanted is None
        or isinstance(wanted, str)
        or (wanted and isinstance(wanted, tuple) and isinstance(wanted[0], str))
    ):
        return bool(found == wanted)
    return bool(np.allclose(found, wanted, equal_nan=True))


# zarr-python


def _array(path: Any, pixels: np.ndarray[Any, Any], names: str | None = None, **more: Any) -> Any:
    import zarr

    how: dict[str, Any] = {"chunks": tuple(min(n, 32) for n in pixels.shape), "overwrite": True, **more}
    if names is not None:
        how["dimension_names"] = list(names)
    made = zarr.create_array(path, shape=pixels.shape, dtype=pixels.dtype, **how)
    made[...] = pixels
    return made


def _arrays() -> None:
    import numcodecs
    import zarr.codecs as zc

    def add(
        name: str,
        pixels: np.ndarray[Any, Any],
        truth: tuple[np.ndarray[Any, Any], str],
        names: str | None = None,
        advised: Any = None,
        **more: Any,
    ) -> None:
        def write(folder: Path) -> Truth:
            _array(folder / "a.zarr", pixels, names, **more)
            return Truth(folder / "a.zarr", *truth, advised=advised)

        ROWS.append(Row(name, f"zarr-python, format {more.get('zarr_format', 3)}", ("zarr",), write))

    flat, last = (DEEP, "yx"), np.moveaxis(RGB, 0, -1)
    five = RGB[None, :, None]
    add("array y x", DEEP, flat, "yx")
    add("array c y x", RGB, (RGB, "cyx"), "cyx")
    add("array y x c", last, (RGB, "cyx"), "yxc")
    add("array lat lon", DEEP, flat, None, dimension_names=["lat", "lon"])
    add("array of 2 axes without names", DEEP, flat)
    add("array of 3 axes without names, colours last", last, (RGB, "cyx"))
    add("array of 5 axes without names", five, (five, "tczyx"), advised={"axes": "tczyx"})
    add("shards, zstd", DEEP, flat, "yx", shards=(64, 96), compressors=zc.ZstdCodec(level=1))
    add("gzip", DEEP, flat, "yx", compressors=zc.GzipCodec())
    add("big-endian", DEEP, flat, "yx", serializer=zc.BytesCodec(endian="big"))
    add("transposed", DEEP, flat, "yx", filters=[zc.TransposeCodec(order=(1, 0))])
    two = {"zarr_format": 2}
    add("blosc", DEEP, flat, **two, compressors=numcodecs.Blosc("zstd"))
    add("zstd", DEEP, flat, **two, compressors=numcodecs.Zstd())
    add("zlib", DEEP, flat, **two, compressors=numcodecs.Zlib())
    add("bz2", DEEP, flat, **two, compressors=numcodecs.BZ2())
    add("order F", DEEP, flat, **two, order="F")
    add("big-endian", DEEP, (DEEP, "yx"), **two, chunk_key_encoding={"name": "v2", "separator": "/"})
    add("delta", DEEP, flat, **two, filters=[numcodecs.Delta("<u2")])


_arrays()


def _in_object(made: Any) -> Truth:
    """Write a group with one array into a store object, and open that."""
    import zarr

    group = zarr.open_group(made, mode="a")
    group.create_array("image", data=RGB, chunks=(3, 32, 32), dimension_names=["c", "y", "x"])
    return Truth(made, RGB, "cyx")


@store("MemoryStore", "zarr-python", "zarr")
def memory(folder: Path) -> Truth:
    import zarr

    return _in_object(zarr.storage.MemoryStore())


@store("ZipStore", "zarr-python", "zarr")
def zipped(folder: Path) -> Truth:
    import zarr

    made = zarr.storage.ZipStore(folder / "a.zip", mode="w")
    _in_object(made)
    made.close()
    return Truth(zarr.storage.ZipStore(folder / "a.zip", mode="r"), RGB, "cyx")


@store("Group", "zarr-python", "zarr")
def group_object(folder: Path) -> Truth:
    import zarr

    _in_object(zarr.storage.LocalStore(folder / "a.zarr"))
    return Truth(zarr.open_group(folder / "a.zarr", mode="r"), RGB, "cyx")


@store("FsspecStore", "zarr-python, fsspec", "zarr", "fsspec")
def fsspec_store(folder: Path) -> Truth:
    import zarr

    _in_object(zarr.storage.LocalStore(folder / "a.zarr"))
    import fsspec
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    fs = AsyncFileSystemWrapper(fsspec.filesystem("file"))
    return Truth(zarr.storage.FsspecStore(fs, path=str(folder / "a.zarr"), read_only=True), RGB, "cyx")


@store("ObjectStore", "zarr-python, obstore", "zarr", "obstore")
def obstore_store(folder: Path) -> Truth:
    import obstore.store
    import zarr

    return _in_object(zarr.storage.ObjectStore(obstore.store.MemoryStore()))


# xarray


def _scene(**more: Any) -> Any:
    import xarray as xr

    coords = {
        "y": ("y", Y, {"standard_name": "projection_y_coordinate", "units": "m"}),
        "x": ("x", X, {"standard_name": "projection_x_coordinate", "units": "m"}),
    }
    return xr.Dataset(
        {"dem": (("y", "x"), HEIGHTS, {"grid_mapping": "crs"})},
        {**coords, "crs": ((), 0, {"crs_wkt": f"EPSG:{CODE}"}), **more},
    )


PLACED = {"epsg": CODE, "transform": TRANSFORM}


def _written(dataset: Any, folder: Path, zarr_format: int = 3, **encoding: Any) -> Path:
    dataset.to_zarr(folder / "a.zarr", zarr_format=zarr_format, encoding=encoding, mode="w")
    return folder / "a.zarr"


def _scenes() -> None:
    for zarr_format in (2, 3):
        writer = f"xarray, format {zarr_format}"

        def plain(folder: Path, zarr_format: int = zarr_format) -> Truth:
            path = _written(_scene(), folder, zarr_format, dem={"_FillValue": -9999})
            return Truth(path, HEIGHTS, "yx", {**PLACED, "nodata": -9999})

        def packed(folder: Path, zarr_format: int = zarr_format) -> Truth:
            import xarray as xr

            scene = _scene()
            scene["dem"] = scene["dem"].where(scene["dem"] != -9999).astype("f4")
            packing = {"dtype": "int16", "scale_factor": 0.5, "add_offset": 10.0, "_FillValue": -32768}
            scene.to_zarr(folder / "twin.zarr", zarr_format=2, encoding={"dem": packing})  # which every xarray reads
            want = xr.open_zarr(folder / "twin.zarr", chunks=None)["dem"].values
            return Truth(_written(scene, folder, zarr_format, dem=packing), want, "yx", {**PLACED, "nodata": np.nan})

        def times(folder: Path, zarr_format: int = zarr_format) -> Truth:
            import xarray as xr

            dates = np.array(["2024-01-01", "2024-01-03"], "M8[ns]")
            air = np.stack([HEIGHTS, HEIGHTS + 1]).astype("f4")
            lat, lon = np.linspace(50, 20, 61), np.linspace(0, 41, 83)
            data = xr.Dataset({"air": (("time", "lat", "lon"), air)}, {"time": dates, "lat": lat, "lon": lon})
            facts = {"times": (0, 172800), "epsg": 4326, "transform": (0.5, 0, -0.25, 0, -0.5, 50.25)}
            return Truth(_written(data, folder, zarr_format), air, "tyx", facts)

        ROWS.append(Row("dataset, grid mapping, _FillValue", writer, ("xarray",), plain))
        ROWS.append(Row("dataset, scale_factor and add_offset", writer, ("xarray",), packed))
        ROWS.append(Row("dataset of time, lat, lon", writer, ("xarray",), times))


_scenes()


@store("dataset whose y ascends", "xarray", "xarray")
def south_up(folder: Path) -> Truth:
    path = _written(_scene().isel(y=slice(None, None, -1)), folder)
    return Truth(path, HEIGHTS[::-1], "yx", {"epsg": CODE, "transform": (10, 0, 300000, 0, 10, 7000000 - 610)})


@store("dataset with uneven coordinates", "xarray", "xarray")
def uneven(folder: Path) -> Truth:
    return Truth(_written(_scene().assign_coords(y=-np.cumsum(np.arange(61.0))), folder), HEIGHTS, "yx", {"epsg": None})


@store("dataset of two images", "xarray", "xarray")
def several(folder: Path) -> Truth:
    scene = _scene()
    path = _written(scene.assign(slope=scene["dem"] + 1), folder)
    return Truth(path, HEIGHTS, "yx", PLACED, advised={"variable": "dem"})


@store("tree of groups", "xarray", "xarray")
def tree(folder: Path) -> Truth:
    import xarray as xr

    made = xr.DataTree.from_dict({"/a": _scene(), "/b": _scene().isel(y=slice(30))})
    made.to_zarr(folder / "a.zarr")
    return Truth(folder / "a.zarr", HEIGHTS, "yx", PLACED, advised={"variable": "a/dem"})


@store("Dataset, lazy", "xarray, dask", "xarray", "dask")
def dataset_object(folder: Path) -> Truth:
    return Truth(_scene().chunk({"y": 16}), HEIGHTS, "yx", PLACED)


@store("DataArray", "xarray", "xarray")
def data_array(folder: Path) -> Truth:
    return Truth(_scene()["dem"].expand_dims(band=["a"]), HEIGHTS[None], "cyx", {**PLACED, "channels": ("a",)})


@store("dataset with spatial_ref", "rioxarray", "rioxarray")
def rioxarray_written(folder: Path) -> Truth:
    import rioxarray  # noqa: F401
    import xarray as xr

    made = xr.DataArray(HEIGHTS, {"y": Y, "x": X}, ("y", "x"), "dem").rio.write_crs(CODE).rio.write_transform()
    made = made.rio.write_nodata(-9999)
    return Truth(_written(made.to_dataset(), folder), HEIGHTS, "yx", {**PLACED, "nodata": -9999})


@store("cube of odc-geo", "odc-geo", "odc")
def odc_written(folder: Path) -> Truth:
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import wrap_xr
    from rasterio import Affine

    made = wrap_xr(RGB, GeoBox((61, 83), Affine(*TRANSFORM), f"EPSG:{CODE}"), axis=1)
    made = made.rename(dict.fromkeys([made.dims[0]], "band")).drop_vars("band", errors="ignore").rename("rgb")
    return Truth(_written(made.to_dataset(), folder), RGB, "cyx", PLACED)


# GDAL


def _gdal(folder: Path, pixels: np.ndarray[Any, Any], **options: Any) -> Path:
    import rasterio

    count = len(pixels)
    path = folder / "scene.zarr"
    with rasterio.open(
        path, "w", driver="Zarr", count=count, height=61, width=83, dtype=pixels.dtype, crs=f"EPSG:{CODE}",
        transform=rasterio.Affine(*TRANSFORM), **options,
    ) as file:  # fmt: skip
        file.write(pixels)
    return path


@store("raster of one band, nodata", "GDAL, format 2", "rasterio")
def gdal2(folder: Path) -> Truth:
    path = _gdal(folder, HEIGHTS[None], nodata=-9999, FORMAT="ZARR_V2", COMPRESS="ZLIB")
    return Truth(path, HEIGHTS, "yx", {**PLACED, "nodata": -9999})


@store("raster of one band, nodata", "GDAL, format 3", "rasterio")
def gdal3(folder: Path) -> Truth:
    path = _gdal(folder, HEIGHTS[None], nodata=-9999, FORMAT="ZARR_V3", COMPRESS="GZIP")
    return Truth(path, HEIGHTS, "yx", {**PLACED, "nodata": -9999})


@store("raster of three bands", "GDAL, format 2", "rasterio")
def gdal_bands(folder: Path) -> Truth:
    path = _gdal(folder, RGB, FORMAT="ZARR_V2", COMPRESS="ZSTD", INTERLEAVE="BAND", SINGLE_ARRAY="YES")
    return Truth(path, RGB, "cyx", PLACED)


@store("raster without compression", "GDAL 3.10, format 3", "rasterio")
def gdal_bare(folder: Path) -> Truth:
    return Truth(
        _gdal(folder, HEIGHTS[None], nodata=-9999, FORMAT="ZARR_V3"), HEIGHTS, "yx", {**PLACED, "nodata": -9999}
    )


@store("raster with overviews (multiscales of arrays)", "by hand, as GDAL 3.13")
def gdal_overviews(folder: Path) -> Truth:
    import zarr

    group = zarr.open_group(folder / "a.zarr", mode="w")
    for k, name in enumerate(("dem", "ovr_2x/dem", "ovr_4x/dem")):
        pixels = np.ascontiguousarray(HEIGHTS[:: 2**k, :: 2**k])
        made = group.create_array(name, data=pixels, chunks=(16, 16), dimension_names=["Y", "X"], fill_value=-9999)
        if k == 0:
            made.attrs["proj:code"] = f"EPSG:{CODE}"
            made.attrs["spatial:transform"] = [10.0, 0.0, 300000.0, 0.0, -10.0, 7000000.0]
    layout = [
        {"asset": "dem"},
        {"asset": "ovr_2x", "derived_from": "dem"},
        {"asset": "ovr_4x", "derived_from": "ovr_2x"},
    ]
    group.attrs["multiscales"] = {"layout": layout}
    return Truth(folder / "a.zarr", HEIGHTS, "yx", {**PLACED, "nodata": -9999}, levels=3)


@store("raster without nodata", "by hand, as GDAL 3.13", "pyproj")
def gdal_null(folder: Path) -> Truth:
    import pyproj
    import zarr

    group = zarr.open_group(folder / "a.zarr", mode="w")
    group.create_array("rgb", data=RGB, chunks=(1, 16, 16), dimension_names=["Band", "Y", "X"])
    for name, values in (("X", X), ("Y", Y)):
        group.create_array(name, data=values, dimension_names=[name])
    wkt = pyproj.CRS(CODE).to_wkt()
    (folder / "a.zarr" / "pam.aux.xml").write_text(f"<PAMDataset><Array><SRS>{wkt}</SRS></Array></PAMDataset>")
    zarr.consolidate_metadata(group.store)
    for file in (folder / "a.zarr").rglob("zarr.json"):
        file.write_text(re.sub(r'"fill_value": ?0(\.0)?', '"fill_value": null', file.read_text()))
    return Truth(folder / "a.zarr", RGB, "cyx", {**PLACED, "nodata": None})


@store("GeoZarr (multiscales of groups)", "by hand, as the zarr-conventions")
def geozarr(folder: Path) -> Truth:
    import zarr

    group = zarr.open_group(folder / "a.zarr", mode="w")
    layout = []
    for k in range(3):
        pixels = np.ascontiguousarray(RGB[:, :: 2**k, :: 2**k])
        group.create_array(f"r{k}/rgb", data=pixels, chunks=(3, 16, 16), dimension_names=["band", "y", "x"])
        layout.append({"asset": f"r{k}", **({"derived_from": f"r{k - 1}"} if k else {})})
    group.attrs.update(
        {"multiscales": {"layout": layout}, "proj:code": f"EPSG:{CODE}", "spatial:transform": list(TRANSFORM)}
    )
    return Truth(folder / "a.zarr", RGB, "cyx", {**PLACED, "nodata": None}, levels=3)


@store("Sentinel-2 product", "by hand, as EOPF", "xarray")
def eopf(folder: Path) -> Truth:
    import xarray as xr
    import zarr

    reflectance = {}
    for size, bands in ((10, ("b02", "b03", "b04", "b08")), (20, ("b05", "b11"))):
        step = size // 10
        coords = {"y": Y[::step], "x": X[::step]}
        pixels = (DEEP[::step, ::step] + 1000).astype("u2")
        attrs = {"proj:epsg": CODE, "valid_min": 1, "valid_max": 65535}
        reflectance[f"/measurements/reflectance/r{size}m"] = xr.Dataset(
            dict.fromkeys(bands, (("y", "x"), pixels, attrs)), coords
        )
    packed = {"scale_factor": 0.0001, "add_offset": -0.1, "_FillValue": 0, "dtype": "uint16"}
    made = xr.DataTree.from_dict({"/quality/mask": None, **reflectance})
    made.to_zarr(folder / "a.zarr", zarr_format=2)
    root = zarr.open_group(folder / "a.zarr", mode="a", use_consolidated=False)
    for path, data in reflectance.items():
        for band in data:
            root[f"{path.strip('/')}/{band}"].attrs.update({k: v for k, v in packed.items() if k != "dtype"})
    root.attrs.update({"proj:code": "EPSG:4326", "stac_discovery": {"properties": {"proj:epsg": 4326}}})
    zarr.consolidate_metadata(folder / "a.zarr")
    chosen = "measurements/reflectance/r10m/b02"
    want = xr.open_zarr(folder / "a.zarr" / "measurements/reflectance/r10m", chunks=None, consolidated=False)[
        "b02"
    ].values
    return Truth(folder / "a.zarr", want, "yx", {**PLACED, "nodata": np.nan}, advised={"variable": chosen})


# OME-Zarr

SIZE = 0.25


def _ome_group(path: Path, version: str, name: str = "") -> Any:
    """Write an image c y x of two levels by hand."""
    import zarr

    group = zarr.open_group(path, path=name, mode="a", zarr_format=2 if version == "0.4" else 3)
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space", "unit": "micrometer"} for n in "yx")]
    datasets = []
    for k in range(2):
        pixels = np.ascontiguousarray(RGB[:, :: 2**k, :: 2**k])
        group.create_array(str(k), data=pixels, chunks=(1, 32, 32))
        scale = [1.0, SIZE * 2**k, SIZE * 2**k]
        datasets.append({"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    multiscales = [{"version": version, "name": "a", "axes": axes, "datasets": datasets}]
    omero = {
        "channels": [
            {"label": n, "color": "FF0000", "window": {"min": 0, "max": 255, "start": 0, "end": 255}}
            for n in ("DAPI", "GFP", "RFP")
        ]
    }
    attrs: dict[str, Any] = {"multiscales": multiscales, "omero": omero}
    group.attrs.update(attrs if version == "0.4" else {"ome": {"version": version, **attrs}})
    return group


MICRO = {"channels": ("DAPI", "GFP", "RFP"), "size": SIZE}


def _ome_rows() -> None:
    for version in ("0.4", "0.5"):

        def image(folder: Path, version: str = version) -> Truth:
            _ome_group(folder / "a.zarr", version)
            return Truth(folder / "a.zarr", RGB, "cyx", MICRO, levels=2)

        def nested(folder: Path, version: str = version) -> Truth:
            import zarr

            root = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
            for name in ("cells", "nuclei"):
                _ome_group(folder / "a.zarr", version, name)
            root.attrs["note"] = "two images"
            return Truth(folder / "a.zarr", RGB, "cyx", MICRO, advised={"variable": "cells"}, levels=2)

        def level(folder: Path, version: str = version) -> Truth:
            _ome_group(folder / "a.zarr", version)
            return Truth(folder / "a.zarr" / "0", RGB, "cyx")

        ROWS.append(Row(f"image {version}", "by hand, as OME-Zarr", (), image))
        ROWS.append(Row(f"two images {version} in a group", "by hand, as OME-Zarr", (), nested))
        ROWS.append(Row(f"array of an image {version}", "by hand, as OME-Zarr", (), level))


_ome_rows()


def _attributes(path: Path, name: str, version: str, **stated: Any) -> None:
    """Write the attributes of a group of OME-Zarr."""
    import zarr

    group = zarr.open_group(path, path=name, mode="a", zarr_format=2 if version == "0.4" else 3)
    group.attrs.update(stated if version == "0.4" else {"ome": {"version": version, **stated}})


def _ome_collections() -> None:
    for version in ("0.4", "0.5"):

        def series(folder: Path, version: str = version) -> Truth:
            _attributes(folder / "a.zarr", "", version, **{"bioformats2raw.layout": 3})
            for k in range(2):
                _ome_group(folder / "a.zarr", version, str(k))
            _attributes(folder / "a.zarr", "OME", version, series=["0", "1"])
            return Truth(folder / "a.zarr", RGB, "cyx", MICRO, advised={"series": "0"}, levels=2)

        def plate(folder: Path, version: str = version) -> Truth:
            wells = [{"path": f"A/{n}", "rowIndex": 0, "columnIndex": n - 1} for n in (1, 2)]
            about = {"rows": [{"name": "A"}], "columns": [{"name": "1"}, {"name": "2"}], "wells": wells, "name": "p"}
            _attributes(folder / "a.zarr", "", version, plate=about)
            for well in wells:
                _attributes(folder / "a.zarr", str(well["path"]), version, well={"images": [{"path": "0"}]})
                _ome_group(folder / "a.zarr", version, f"{well['path']}/0")
            return Truth(folder / "a.zarr", RGB, "cyx", MICRO, advised={"series": "A/1/0"}, levels=2)

        ROWS.append(Row(f"series {version}", "by hand, as bioformats2raw", (), series))
        ROWS.append(Row(f"plate {version}", "by hand, as OME-Zarr", (), plate))


_ome_collections()


def _ome_zarr(folder: Path, version: str) -> Truth:
    import zarr
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_image

    form = FormatV04() if version == "0.4" else FormatV05()
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
    if "scale" in signature(write_image).parameters:
        units = {"y": "micrometer", "x": "micrometer"}
        how: dict[str, Any] = {"axes": ["c", "y", "x"], "scale": {"y": SIZE, "x": SIZE}, "axes_units": units}
    else:  # before 0.16
        axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space", "unit": "micrometer"} for n in "yx")]
        scales = [[{"type": "scale", "scale": [1, SIZE * 2**k, SIZE * 2**k]}] for k in range(5)]
        how = {"axes": axes, "coordinate_transformations": scales}
    write_image(RGB, group, fmt=form, **how)
    return Truth(folder / "a.zarr", RGB, "cyx", {"size": SIZE}, levels=5)


@store("image 0.4", "ome-zarr-py", "ome_zarr")
def ome_zarr_4(folder: Path) -> Truth:
    return _ome_zarr(folder, "0.4")


@store("image 0.5", "ome-zarr-py", "ome_zarr")
def ome_zarr_5(folder: Path) -> Truth:
    return _ome_zarr(folder, "0.5")


def _ngff(folder: Path, version: str) -> Truth:
    import ngff_zarr as nz

    image = nz.to_ngff_image(
        RGB, dims=("c", "y", "x"), scale={"y": SIZE, "x": SIZE}, axes_units={"y": "micrometer", "x": "micrometer"}
    )
    made = (
        nz.to_multiscales(image, scale_factors=[2], method=nz.Methods.DASK_IMAGE_NEAREST)
        if False
        else nz.to_multiscales(image, scale_factors=[])
    )
    nz.to_ngff_zarr(str(folder / "a.zarr"), made, version=version)
    return Truth(folder / "a.zarr", RGB, "cyx", {"size": SIZE})


@store("image 0.4", "ngff-zarr", "ngff_zarr")
def ngff4(folder: Path) -> Truth:
    return _ngff(folder, "0.4")


@store("image 0.5", "ngff-zarr", "ngff_zarr")
def ngff5(folder: Path) -> Truth:
    return _ngff(folder, "0.5")


# Others


def _tensorstore(folder: Path, driver: str, metadata: dict[str, Any]) -> Truth:
    import tensorstore as ts

    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(folder / "a.zarr")}, "metadata": metadata}
    ts.open(spec, create=True).result().write(DEEP).result()
    return Truth(folder / "a.zarr", DEEP, "yx")


@store("array", "tensorstore, format 2", "tensorstore")
def tensorstore2(folder: Path) -> Truth:
    return _tensorstore(
        folder,
        "zarr",
        {"shape": [61, 83], "chunks": [32, 32], "dtype": "<u2", "compressor": {"id": "zlib", "level": 1}},
    )


@store("array, index at the start of the shard", "tensorstore, format 3", "tensorstore")
def tensorstore3(folder: Path) -> Truth:
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "zstd", "configuration": {"level": 1}}]
    shard = {
        "chunk_shape": [16, 16],
        "codecs": codecs,
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "index_location": "start",
    }
    metadata = {
        "shape": [61, 83], "data_type": "uint16", "dimension_names": ["y", "x"],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [32, 32]}},
        "codecs": [{"name": "sharding_indexed", "configuration": shard}],
    }  # fmt: skip
    return _tensorstore(folder, "zarr3", metadata)


@store("array", "zarrs", "zarrs")
def zarrs_written(folder: Path) -> Truth:
    import zarr
    import zarrs  # noqa: F401

    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        _array(folder / "a.zarr", DEEP, "yx", shards=(64, 96))
    return Truth(folder / "a.zarr", DEEP, "yx")


@store("session", "icechunk, xarray", "icechunk")
def icechunk_written(folder: Path) -> Truth:
    import icechunk

    made = icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder / "repo")))
    session = made.writable_session("main")
    _scene().to_zarr(session.store, consolidated=False, encoding={"dem": {"_FillValue": -9999}})
    session.commit("a scene")
    opened = icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder / "repo")))
    return Truth(opened.readonly_session("main").store, HEIGHTS, "yx", {**PLACED, "nodata": -9999})


def _netcdf(folder: Path) -> Path:
    _scene().to_netcdf(
        folder / "a.nc", engine="h5netcdf", encoding={"dem": {"_FillValue": -9999, "chunksizes": (16, 16)}}
    )
    return folder / "a.nc"


@store("references to a NetCDF file", "kerchunk", "kerchunk", "h5netcdf")
def kerchunk_written(folder: Path) -> Truth:
    import fsspec
    from kerchunk.hdf import SingleHdf5ToZarr

    path = _netcdf(folder)
    references = SingleHdf5ToZarr(str(path), inline_threshold=0).translate()
    (folder / "a.json").write_text(json.dumps(references))
    fs = fsspec.filesystem("reference", fo=str(folder / "a.json"), remote_protocol="file")
    return Truth(fs.get_mapper(""), HEIGHTS, "yx", {**PLACED, "nodata": -9999})


@store(
    "virtual dataset of a NetCDF file, in icechunk", "VirtualiZarr", "virtualizarr", "icechunk", "h5netcdf", "obstore"
)
def virtualizarr_written(folder: Path) -> Truth:
    import icechunk
    from obspec_utils.registry import ObjectStoreRegistry
    from obstore.store import LocalStore
    from virtualizarr import open_virtual_dataset
    from virtualizarr.parsers import HDFParser

    url = f"file://{_netcdf(folder)}"
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    virtual = open_virtual_dataset(url, registry=registry, parser=HDFParser(), loadable_variables=["y", "x"])
    config = icechunk.RepositoryConfig.default()
    prefix = f"file://{folder}/"
    config.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer(prefix, icechunk.local_filesystem_store(str(folder)))
    )
    allowed = icechunk.containers_credentials({prefix: None})
    where = icechunk.local_filesystem_storage(str(folder / "repo"))
    made = icechunk.Repository.create(where, config=config, authorize_virtual_chunk_access=allowed)
    session = made.writable_session("main")
    virtual.vz.to_icechunk(session.store)
    session.commit("references")
    return Truth(made.readonly_session("main").store, HEIGHTS, "yx", {**PLACED, "nodata": -9999})


def table(folder: Path) -> tuple[str, int]:
    """Return the table of all stores, and how many cells are not right; stores whose writers are missing are said."""
    lines, bad = ["| store | written by | opened and transcoded |", "| --- | --- | --- |"], 0
    for number, row in enumerate(ROWS):
        if row.missing:
            print(f"{row.name}, {row.writer}: needs {' '.join(row.missing)}", file=sys.stderr)
            bad += 1
            continue
        here = folder / str(number)
        here.mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = check(row.write(here), here)
            except Exception as error:  # whatever a writer or ndzarr raises is wrong here
                found = f"wrong: {type(error).__name__}: {str(error)[:300]}"
        bad += not found.startswith("yes")
        lines.append(f"| {row.name} | {row.writer} | {found} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines), bad


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        text, wrong = table(Path(work))
    print(text)
    sys.exit(wrong > 0)
