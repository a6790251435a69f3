"""Levels of a store, windows and samples are placed, and their nodata is known, in readers that are not ours."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tensorstore
import xarray
import zarr
from rasterio.enums import Resampling
from rasterio.transform import Affine

import ndzarr
from helpers.georeferences import chain, equal_transforms

pytest.importorskip("rioxarray")
pytest.importorskip("odc.geo.xr")
# rasterio, rioxarray and odc-geo themselves multiply as affine 2 did.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture
def dem(geotiff):
    """Writes heights with a block of -9999 that covers whole chunks."""
    pixels = np.add.outer(np.arange(300), np.arange(290)).astype("f4")[None]
    pixels[:, :140, :150] = -9999
    return lambda kind="utm", **changes: geotiff(kind, pixels=pixels, nodata=-9999, **changes)


def open_level(pyramid, k):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr-python says of consolidated metadata and strings that they may change
        return xarray.open_zarr(Path(pyramid.path, str(k)), consolidated=False, chunks=None)


@pytest.mark.parametrize("kind", ["utm", "degrees", "rotated", "south up", "own laea"])
def test_xarray_places_each_level(dem, tmp_path, kind):
    path = dem(kind)
    pyramid = ndzarr.transcode(path, tmp_path / "a.zarr")
    with rasterio.open(path) as file:
        for k in range(len(pyramid.levels)):
            image = open_level(pyramid, k)["image"]
            expected = chain(file.transform, Affine.scale(2**k))
            assert image.rio.crs == file.crs
            assert equal_transforms(image.rio.transform(), expected)
            assert equal_transforms(image.odc.transform, expected)
            assert image.odc.crs.proj == pytest.importorskip("pyproj").CRS(file.crs.to_wkt())
            assert image.dtype == "f4"
            assert image.rio.nodata == image.odc.nodata == -9999
            own = pyramid.to_xarray(level=k)
            for d in "yx":
                assert np.array_equal(image[d], own[d])


@pytest.mark.parametrize("version", ["WKT2_2019", "WKT1_GDAL"])
def test_readers_find_the_code_of_a_system_that_a_source_gives_as_text(tmp_path, version):
    text = pytest.importorskip("pyproj").CRS.from_epsg(3067).to_wkt(version)
    axes = {"y": 7e6 - 10 * np.arange(30), "x": 3e5 + 10 * np.arange(40)}
    source = xarray.DataArray(np.zeros((30, 40), "u1"), axes).assign_coords(spatial_ref=0)
    source.spatial_ref.attrs["crs_wkt"] = text
    pyramid = ndzarr.transcode(source, tmp_path / "a.zarr")
    sample = ndzarr.Sampler({"a": pyramid.path}).load_sample({"key": "a"})
    for image in (open_level(pyramid, 0)["image"], pyramid.window(scale=0.5), pyramid.to_xarray(), sample["image"]):
        assert image.rio.crs.to_epsg() == image.odc.crs.epsg == 3067
    with rasterio.open(ndzarr.export_cog(pyramid, tmp_path / "a.tif")) as file:
        assert file.crs.to_epsg() == 3067


@pytest.mark.parametrize("kind", ["utm", "point", "rotated"])
def test_each_array_declares_the_conventions_with_its_own_transform_and_shape(dem, tmp_path, kind):
    path = dem(kind)
    pyramid = ndzarr.transcode(path, tmp_path / "a.zarr")
    with rasterio.open(path) as file:
        for k, level in enumerate(pyramid.levels):
            attrs = zarr.open_array(Path(pyramid.path, f"{k}/image"), mode="r").attrs
            assert {c["name"] for c in attrs["zarr_conventions"]} >= {"spatial"}
            assert attrs["spatial:shape"] == list(level.shape[-2:])
            assert equal_transforms(attrs["spatial:transform"], chain(file.transform, Affine.scale(2**k)))
            assert attrs["proj:code"] == "EPSG:32633"


NODATA = [("u1", 0), ("u1", 255), ("i2", -32768), ("u2", 7), ("f4", -9999), ("f4", np.nan), ("f8", -np.inf), ("?", 1)]


@pytest.mark.parametrize(("dtype", "nodata"), [*NODATA, ("c8", -1), ("i8", -(2**62)), ("f2", -0.5)])
def test_chunks_that_are_not_stored_are_nodata_in_every_reader(tmp_path, dtype, nodata):
    pixels = np.ones((1, 300, 300), dtype)
    pixels[:, 200:] = 0
    pixels[:, :200, :200] = np.dtype(dtype).type(nodata)
    pyramid = ndzarr.transcode(pixels, tmp_path / "a.zarr", axes="cyx", nodata=nodata)
    for k in range(len(pyramid.levels)):
        array = zarr.open_array(Path(pyramid.path, f"{k}/image"), mode="r")
        fill = np.asarray(array.fill_value, dtype)
        assert fill.tobytes() == np.dtype(dtype).type(nodata).tobytes()
        kvstore = {"driver": "file", "path": f"{pyramid.path}/{k}/image"}
        found = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result()
        assert found.fill_value.tobytes() == fill.tobytes()
        own = pyramid.read(level=k)
        assert own.tobytes() == array[...].tobytes() == found.read().result().tobytes()
    assert pyramid.read().tobytes() == pixels.tobytes()
    assert ndzarr.verify(pyramid.path).empty >= 1


@pytest.mark.parametrize("nodata", [None, [-1, None]])
@pytest.mark.parametrize(("dtype", "fill"), [("i2", 0), ("f4", np.nan), ("c8", complex(np.nan, 0))])
def test_without_one_nodata_no_reader_takes_a_0_among_floats_for_it(tmp_path, dtype, fill, nodata):
    pixels = np.zeros((2, 300, 300), dtype)
    pixels[0, 200:] = pixels[1, :, 200:] = fill
    pyramid = ndzarr.transcode(pixels, tmp_path / "a.zarr", axes="cyx", nodata=nodata)
    array = zarr.open_array(Path(pyramid.path, "0/image"), mode="r")
    assert np.asarray(array.fill_value).tobytes() == np.asarray(fill, dtype).tobytes()
    assert "nodata" not in array.attrs
    kvstore = {"driver": "file", "path": f"{pyramid.path}/0/image"}
    found = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result()
    assert pyramid.read().tobytes() == pixels.tobytes() == array[...].tobytes() == found.read().result().tobytes()
    assert ndzarr.verify(pyramid.path).empty >= 1


def test_a_reprojected_window_mixes_no_nodata_with_data(dem, tmp_path):
    pyramid = ndzarr.transcode(dem(), tmp_path / "a.zarr")
    sampler = ndzarr.Sampler({"dem": pyramid.path})
    sample = sampler.load_sample({"key": "dem", "y": slice(50, 250), "x": slice(50, 250)})
    for image in (pyramid.window(), pyramid.window(scale=0.5), open_level(pyramid, 1)["image"], sample["image"]):
        image = image.drop_vars("valid", errors="ignore")  # older rioxarray takes no coordinate of two axes
        there = image.rio.reproject("EPSG:3857", resampling=Resampling.bilinear)
        real = there.values[there.values != -9999]
        assert len(real)
        assert real.min() >= 0
        assert image.odc.nodata == -9999


def test_windows_and_samples_keep_their_nodata_in_a_file(dem, tmp_path):
    window = ndzarr.transcode(dem(), tmp_path / "a.zarr").window(y=slice(0, 200)).to_dataset()
    window.to_zarr(tmp_path / "w.zarr", zarr_format=2)
    with xarray.open_zarr(tmp_path / "w.zarr", decode_coords="all", consolidated=True) as again:
        assert again.image.rio.encoded_nodata == -9999
        assert int(np.isnan(again.image).sum()) == 140 * 150


def test_a_selection_of_channels_says_the_nodata_that_they_have_in_common(tmp_path):
    pyramid = ndzarr.transcode(np.ones((3, 5, 5), "i2"), tmp_path / "a.zarr", nodata=[-1, -1, None])
    assert pyramid.window(c=slice(0, 2)).attrs == {"_FillValue": -1}
    assert pyramid.window(c=["b"]).attrs == pyramid.window().attrs == {}


def test_samples_whose_nodata_was_replaced_do_not_say_it(dem, tmp_path):
    sampler = ndzarr.Sampler({"dem": ndzarr.transcode(dem(), tmp_path / "a.zarr").path})
    for how in ("float", "fill", "auto"):
        assert sampler.load_sample({"key": "dem", "nodata": how})["image"].attrs == {}
    assert sampler.load_sample({"key": "dem", "nodata": "ma"})["image"].attrs == {"_FillValue": -9999}
