"""A pyramid read as a dataset of rasterio gives what rasterio gives of its file, to rasterio's own functions, too."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import rasterio.mask
import rasterio.merge
from rasterio.enums import Resampling
from rasterio.windows import Window

import ndzarr
from helpers.errors import raises
from helpers.georeferences import NORTH_UP
from ndzarr.adapters import Raster
from ndzarr.errors import OptionError, WindowError

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # of rasterio's functions
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two neighbouring images of 3 bands with nodata, and one of floats without a georeference."""
    folder = tmp_path_factory.mktemp("rasters")
    pixels = RNG.integers(1, 999, (3, 90, 130), dtype=np.uint16)
    pixels[:, 20:40, 30:60] = 0
    for k in range(2):
        place = rasterio.Affine(10, 0, 500000 + 900 * k, 0, -10, 4600000 - 300 * k)
        tiles = {"driver": "GTiff", "dtype": "uint16", "tiled": True, "blockxsize": 64, "blockysize": 64, "nodata": 0}
        place = {"crs": "EPSG:32633", "transform": place}
        with rasterio.open(folder / f"{k}.tif", "w", count=3, height=90, width=130, **tiles, **place) as out:
            out.write(pixels + np.uint16(k) * (pixels > 0))
    np.save(folder / "c.npy", RNG.random((50, 60)).astype(np.float32))
    return folder


@pytest.fixture
def pair(files):
    with rasterio.open(files / "0.tif") as source:
        yield Raster(files / "0.tif"), source


def test_what_is_known_is_what_rasterio_says(pair):
    raster, source = pair
    for name in ("width", "height", "count", "shape", "dtypes", "indexes", "nodata", "nodatavals", "crs", "transform",
                 "bounds", "res", "block_shapes", "mode", "closed"):  # fmt: skip
        assert getattr(raster, name) == getattr(source, name), name
    assert {**raster.profile} == {key: source.profile[key] for key in raster.profile}
    assert raster.xy(3, 4) == source.xy(3, 4)
    assert raster.index(500123, 4599901) == source.index(500123, 4599901)
    window = raster.window(*source.bounds)
    assert window == source.window(*source.bounds)
    assert raster.window_transform(Window(3, 4, 5, 6)) == source.window_transform(Window(3, 4, 5, 6))
    assert raster.window_bounds(Window(3, 4, 5, 6)) == source.window_bounds(Window(3, 4, 5, 6))
    with raster as same:
        assert same is raster


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"indexes": 2},
        {"indexes": [3, 1]},
        {"window": Window(10, 15, 40, 30)},
        {"window": ((15, 45), (100, 400))},  # cut at the border, as rasterio does
        {"window": Window(-20, -10, 60, 50), "boundless": True},
        {"window": Window(100, 60, 60, 50), "boundless": True, "fill_value": 7},  # no nodata there
        {"window": Window(10, 15, 40, 30), "out_shape": (3, 15, 20), "resampling": Resampling.average},
        {"window": Window(80, 50, 40, 30), "out_shape": (3, 60, 80), "resampling": Resampling.nearest},
        {"out_dtype": "float32", "window": Window(0, 0, 9, 9)},
        {"out": np.zeros((3, 30, 40), "u2"), "window": Window(10, 15, 40, 30)},
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_reads_are_those_of_rasterio(pair, options, masked):
    raster, source = pair
    if masked and "fill_value" in options:
        pytest.skip("rasterio masks the pixels of that value, wherever they lie")
    found, expected = raster.read(masked=masked, **options), source.read(masked=masked, **options)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(np.ma.getmaskarray(found), np.ma.getmaskarray(expected))
    real = ~np.ma.getmaskarray(found)
    np.testing.assert_allclose(np.ma.getdata(found)[real], np.ma.getdata(expected)[real], atol=1)  # means are rounded


def test_masks_are_those_of_rasterio(pair):
    raster, source = pair
    np.testing.assert_array_equal(raster.dataset_mask(), source.dataset_mask())
    window = Window(20, 10, 30, 30)
    np.testing.assert_array_equal(raster.read_masks(window=window), source.read_masks(window=window))
    np.testing.assert_array_equal(raster.read_masks(1, window=window), source.read_masks(1, window=window))


def test_functions_of_rasterio_take_it(files):
    paths = [files / "0.tif", files / "1.tif"]
    rasters = [Raster(path) for path in paths]
    merged, place = rasterio.merge.merge(rasters)
    expected, wanted = rasterio.merge.merge(paths)
    np.testing.assert_array_equal(merged, expected)
    assert place == wanted
    shape = {"type": "Polygon", "coordinates": [[(500100, 4599900), (500900, 4599800), (500400, 4599300),
                                                 (500100, 4599900)]]}  # fmt: skip
    with rasterio.open(paths[0]) as source:
        for options in ({}, {"crop": True}, {"filled": False}, {"crop": True, "all_touched": True, "pad": True}):
            found, place = rasterio.mask.mask(rasters[0], [shape], **options)
            expected, wanted = rasterio.mask.mask(source, [shape], **options)
            np.testing.assert_array_equal(found, expected)
            assert place == wanted
        points = [(500105, 4599995), (500455, 4599705), (9, 9)]
        samples = [list(rasterio.sample.sample_gen(one, points)) for one in (rasters[0], source)]
        np.testing.assert_array_equal(*samples)


def test_images_without_a_place_and_of_several_frames(files, tmp_path):
    raster = Raster(ndzarr.transcode(files / "c.npy", tmp_path / "c.zarr"))
    assert raster.crs is None
    assert raster.transform == rasterio.Affine.identity()
    assert (raster.count, raster.bounds, raster.nodata) == (1, (0, 50, 60, 0), None)
    np.testing.assert_array_equal(raster.read(1), np.load(files / "c.npy"))
    assert raster.overviews(1) == []
    frames = RNG.integers(0, 255, (4, 30, 40), dtype=np.uint8)
    film = ndzarr.transcode(list(frames), tmp_path / "film.zarr")
    np.testing.assert_array_equal(Raster(film, t=2).read()[0], frames[2])
    for place, key in (({}, "t"), ({"t": 0, "z": 1}, "z")):
        with raises(OptionError, path=film.path, key=key):
            Raster(film, **place)


def test_what_cannot_be_read_is_named(pair):
    raster, _ = pair
    for options, key in (({"indexes": 4}, "indexes"), ({"window": Window(500, 0, 9, 9)}, "window"),
                         ({"window": 3}, "window")):  # fmt: skip
        with raises(WindowError, key=key):
            raster.read(**options)
    with raises(OptionError, key="resampling"):
        raster.read(resampling=Resampling.mode, out_shape=(3, 9, 9))
    with pytest.raises(ValueError, match="NULL color table"):
        raster.colormap(1)
    assert NORTH_UP.a == raster.res[0]
