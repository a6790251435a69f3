"""Windows and resolutions may be given on earth, for pyramids and for both samplers."""

import kwcoco
import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from rasterio.windows import Window

import ndzarr
from helpers.errors import raises
from helpers.georeferences import KINDS
from helpers.hypothesis_settings import examples
from ndzarr._geo.bounds import covering_pixels
from ndzarr._geo.crs import Crs
from ndzarr._geo.georeference import Georeference

# rasterio itself multiplies as affine 2 did.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.mark.parametrize("kind", ["utm", "degrees", "south up", "point"])
@examples(30, HealthCheck.function_scoped_fixture)
@given(y=st.integers(-50, 320), x=st.integers(-50, 420), height=st.integers(1, 200), width=st.integers(1, 200))
def test_the_bounds_of_whole_pixels_are_those_pixels(kind, y, x, height, width):
    transform = KINDS[kind]["transform"]
    bounds = rasterio.windows.bounds(Window(x, y, width, height), transform)
    left, right, bottom, top = min(bounds[::2]), max(bounds[::2]), min(bounds[1::2]), max(bounds[1::2])
    found = covering_pixels(Georeference(Crs(), tuple(transform)[:6]), (left, bottom, right, top))
    assert found == ((y, y + height), (x, x + width))


def test_a_window_is_what_rasterio_reads_within_the_same_bounds(geotiff, tmp_path):
    path = geotiff("utm")
    pyr = ndzarr.transcode(path, tmp_path / "a.zarr")
    bounds = (500200, 4598000, 501000, 4599500)
    window = pyr.window(bounds=bounds)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(window, file.read(window=file.window(*bounds)))
    assert pyr.window(bounds=(500204, 4598006, 500996, 4599494)).identical(window)
    beyond = pyr.window(bounds=(499900, 4599900, 500100, 4600100))
    assert beyond.coords["valid"].values.mean() == 0.25


def test_bounds_in_degrees_cover_the_same_ground(geotiff, tmp_path):
    pyproj = pytest.importorskip("pyproj")
    pyr = ndzarr.transcode(geotiff("utm"), tmp_path / "a.zarr")
    own = (500200, 4598000, 501000, 4599500)
    degrees = pyproj.Transformer.from_crs(32633, 4326, always_xy=True).transform_bounds(*own)
    for crs in ("EPSG:4326", 4326, pyproj.CRS(4326)):
        window = pyr.window(bounds=degrees, crs=crs)
        assert abs(window.sizes["x"] - 80) <= 3
        assert abs(window.sizes["y"] - 150) <= 3
        assert window.x[0] <= 500205
        assert window.y[0] >= 4599495
    assert pyr.window(bounds=own, crs="epsg:32633").identical(pyr.window(bounds=own))


@pytest.mark.parametrize("kind", ["rotated", "degrees", "feet", "own laea"])
def test_bounds_cover_every_pixel_whose_centre_lies_in_them(pyramid, kind):
    pyr = pyramid(kind)
    place = pyr.georeference
    x, y = (place.matrix @ (200.3, 150.2, 1))[:2]
    size = 20 * np.abs(place.matrix[:2, :2]).max()
    box = (x - size, y - size, x + size, y + size)
    rows, columns = covering_pixels(place, box)
    column, row = np.meshgrid(np.arange(400) + 0.5, np.arange(300) + 0.5)
    px, py, _ = np.tensordot(place.matrix, np.stack([column, row, np.ones_like(row)]), 1)
    inside = (px > box[0]) & (px < box[2]) & (py > box[1]) & (py < box[3])
    assert inside.any()
    assert inside[slice(*rows), slice(*columns)].sum() == inside.sum()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"bounds": (1, 2, 3)}, None),
        ({"bounds": (5, 2, 3, 4)}, None),
        ({"bounds": (1, 2, 3, float("nan"))}, None),
        ({"bounds": (1, 2, 3, 4), "y": slice(0, 3)}, "only one of them"),
        ({"crs": "EPSG:4326"}, "bounds="),
        ({"resolution": 0}, None),
        ({"resolution": 10, "scale": 0.5}, "only one of them"),
    ],
)
def test_what_is_no_box_is_refused(pyramid, arguments, hint):
    with raises(ndzarr.NdzarrError, key=next(iter(arguments)), hint=hint):
        pyramid("utm").window(**arguments)


def test_a_reference_system_that_does_not_exist_is_named(pyramid):
    pytest.importorskip("pyproj")
    with raises(ndzarr.NdzarrError, key="crs", match="EPSG:1"):
        pyramid("utm").window(bounds=(1, 2, 3, 4), crs="EPSG:1")


def test_an_image_without_georeference_says_so(tmp_path):
    pyr = ndzarr.transcode(np.zeros((30, 40), "u1"), tmp_path / "a.zarr")
    for arguments, hint in (({"bounds": (1, 2, 3, 4)}, "Give y= and x= in pixels"), ({"resolution": 3}, "Use scale")):
        with raises(ndzarr.NdzarrError, path=tmp_path / "a.zarr", hint=hint):
            pyr.window(**arguments)


@pytest.mark.parametrize(
    ("kind", "metres", "shape"),
    [("utm", 20, (150, 200)), ("rotated", 20, (150, 200)), ("feet", 6.096, (150, 200)), ("degrees", 200, (333, 143))],
)
def test_resolution_is_in_metres_on_the_ground(pyramid, kind, metres, shape):
    window = pyramid(kind).window(resolution=metres)
    np.testing.assert_allclose((window.sizes["y"], window.sizes["x"]), shape, atol=1)


def test_samplers_take_bounds_and_resolution(geotiff, tmp_path):
    path = geotiff("utm")
    dset = kwcoco.CocoDataset()
    vidid = dset.add_video(name="v", width=400, height=300)
    gid = dset.add_image(file_name=str(path), width=400, height=300, video_id=vidid, frame_index=0)
    coco = ndzarr.CocoSampler(dset, workdir=tmp_path / "work")
    named = ndzarr.Sampler({"a": path}, workdir=tmp_path / "work")
    where = {"bounds": (500200, 4598000, 501000, 4599500), "resolution": "20GSD"}
    window = ndzarr.transcode(path, tmp_path / "a.zarr").window(bounds=where["bounds"], resolution=20)
    for sampler, target in ((coco, {"gid": gid}), (coco, {"vidid": vidid}), (named, {"key": "a"})):
        sample = sampler.load_sample({**target, **where})
        np.testing.assert_array_equal(
            sample.image.squeeze("t", drop=True) if "t" in sample.dims else sample.image, window
        )
        assert (sample.sizes["y"], sample.sizes["x"]) == (75, 40)
        batch = sampler.load_batch([{**target, **where}] * 2)
        np.testing.assert_array_equal(batch.image[1], sample.image)
    again = coco.load_sample(gid=gid, **where)
    assert coco.load_sample(again.ndzarr.target).identical(again)
    assert again.ndzarr.target["space_slice"] == (slice(50, 200), slice(20, 100))


def test_targets_with_a_box_and_a_window_are_refused(geotiff, tmp_path):
    dset = kwcoco.CocoDataset()
    gid = dset.add_image(file_name=str(geotiff("utm")), width=400, height=300)
    sampler = ndzarr.CocoSampler(dset, workdir=tmp_path / "work")
    for more, key, hint in (
        ({"bounds": (1, 2, 3, 4), "cx": 1, "cy": 1}, "cx", "only one of them"),
        ({"bounds": "near"}, "bounds", None),
        ({"crs": "EPSG:4326"}, "crs", "bounds="),
    ):
        with raises(ndzarr.NdzarrError, key=key, hint=hint):
            sampler.load_sample(gid=gid, **more)
    plain = kwcoco.CocoDataset.demo("shapes1", verbose=0)
    with raises(ndzarr.NdzarrError, key="bounds", hint="Give a window in pixels"):
        ndzarr.CocoSampler(plain, workdir=tmp_path / "work").load_sample(gid=1, bounds=(1, 2, 3, 4))
