"""rioxarray and odc-geo understand windows, levels and samples: shifted and scaled as their pixels are."""

import kwcoco
import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

import ndzarr
from helpers.georeferences import chain, equal_transforms

pytest.importorskip("rioxarray")
pytest.importorskip("odc.geo.xr")
# rasterio, rioxarray and odc-geo themselves multiply as affine 2 did.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
SIZE = {"width": 400, "height": 300}
KINDS = ["utm", "degrees", "feet", "rotated", "south up", "point", "own laea"]


def assert_understood(array, path, transform):
    """Both libraries see the transform, and the reference system of the file."""
    with rasterio.open(path) as file:
        assert array.rio.crs == file.crs
    assert equal_transforms(array.rio.transform(), transform)
    assert equal_transforms(array.odc.transform, transform)
    assert array.odc.crs.proj == pytest.importorskip("pyproj").CRS(file.crs.to_wkt())
    assert (array.rio.height, array.rio.width) == (array.sizes["y"], array.sizes["x"])
    if transform[1] == 0:
        assert equal_transforms(array.rio.transform(recalc=True), transform)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("y", "x", "scale"),
    [
        ((0, 300), (0, 400), 1),
        ((20, 60), (100, 180), 1),
        ((-16, 48), (-8, 56), 1),
        ((16, 80), (0, 64), 1 / 4),
        ((3, 33), (5, 65), (0.7, 0.3)),
    ],
)
def test_windows_are_shifted_and_scaled(geotiff, tmp_path, kind, y, x, scale):
    path = geotiff(kind)
    window = ndzarr.transcode(path, tmp_path / "a.zarr").window(y=slice(*y), x=slice(*x), scale=scale)
    pitch = (x[1] - x[0]) / window.sizes["x"], (y[1] - y[0]) / window.sizes["y"]
    with rasterio.open(path) as file:
        expected = chain(file.transform, Affine.translation(x[0], y[0]), Affine.scale(*pitch))
    assert_understood(window, path, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_levels_are_scaled(geotiff, tmp_path, kind):
    path = geotiff(kind, height=301, width=517)
    pyr = ndzarr.transcode(path, tmp_path / "a.zarr")
    tree = pyr.to_datatree()
    for k in range(len(pyr.levels)):
        with rasterio.open(path) as file:
            expected = chain(file.transform, Affine.scale(2**k))
        assert_understood(pyr.to_xarray(level=k), path, expected)
        assert_understood(tree[str(k)].to_dataset(), path, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_windows_read_what_rioxarray_reads(geotiff, tmp_path, kind):
    import rioxarray

    path = geotiff(kind)
    window = ndzarr.transcode(path, tmp_path / "a.zarr").window(y=slice(20, 60), x=slice(100, 180))
    with rioxarray.open_rasterio(path) as whole:
        part = whole.isel(y=slice(20, 60), x=slice(100, 180))
        np.testing.assert_array_equal(window, part)
        if kind != "rotated":  # which rioxarray does not shift
            assert equal_transforms(window.rio.transform(), part.rio.transform(recalc=True))


@pytest.mark.parametrize("kind", ["utm", "rotated", "own laea"])
def test_samples_and_those_of_batches_are_placed(geotiff, tmp_path, kind):
    path = geotiff(kind)
    dset = kwcoco.CocoDataset()
    gid = dset.add_image(file_name=str(path), width=400, height=300)
    with rasterio.open(path) as file:
        expected = chain(file.transform, Affine.translation(100, 20), Affine.scale(2))
    window = {"y": slice(20, 60), "x": slice(100, 180), "scale": 0.5}
    coco = ndzarr.CocoSampler(dset, workdir=tmp_path / "work")
    named = ndzarr.Sampler({"a": path}, workdir=tmp_path / "work")
    for sampler, target in ((coco, {"gid": gid, **window}), (named, {"key": "a", **window})):
        sample = sampler.load_sample(target)
        assert_understood(sample.image, path, expected)
        assert_understood(sample, path, expected)
        assert sampler.load_batch([target]).ndzarr.sample(0).identical(sample)
    assert coco.load_sample(gid=gid, lazy=True, **window).compute().identical(coco.load_sample(gid=gid, **window))
    native = coco.load_sample(gid=gid, use_native_scale=True, y=slice(20, 60), x=slice(100, 180))
    [child] = native["0"].children.values()
    with rasterio.open(path) as file:
        assert_understood(child.to_dataset(), path, chain(file.transform, Affine.translation(100, 20)))


def test_assets_that_are_warped_place_image_and_video_space(geotiff, tmp_path):
    path = geotiff("utm")
    dset = kwcoco.CocoDataset()
    vidid = dset.add_video(name="v", width=800, height=600)
    for name, warp in (("upright", {"scale": 2, "offset": (30, 40)}), ("turned", {"scale": 2, "theta": 0.3})):
        dset.add_image(
            name=name, file_name=None, width=800, height=600, video_id=vidid, frame_index=len(dset.imgs),
            warp_img_to_vid={"offset": (7, 9)},
            auxiliary=[{"file_name": str(path), "channels": "r|g|b", "warp_aux_to_img": warp, **SIZE}],
        )  # fmt: skip
    sampler = ndzarr.CocoSampler(dset, workdir=tmp_path / "work")
    with rasterio.open(path) as file:
        native = file.transform
    for gid, linear in ((1, Affine.scale(2)), (2, chain(Affine.rotation(np.degrees(0.3)), Affine.scale(2)))):
        to_image = chain(Affine.translation(30, 40) if gid == 1 else Affine.identity(), linear)
        sample = sampler.load_sample(gid=gid, y=slice(100, 140), x=slice(50, 110))
        assert_understood(sample, path, chain(native, ~to_image, Affine.translation(50, 100)))
        to_video = chain(Affine.translation(7, 9), to_image)
        sample = sampler.load_sample(gids=[gid], y=slice(100, 140), x=slice(50, 110), scale=0.5)
        assert_understood(sample, path, chain(native, ~to_video, Affine.translation(50, 100), Affine.scale(2)))


def test_the_grid_mapping_survives_a_file(pyramid, tmp_path):
    import xarray

    window = pyramid("utm").window(y=slice(0, 40), x=slice(0, 50)).to_dataset()
    window.to_zarr(tmp_path / "w.zarr", zarr_format=2)
    with xarray.open_zarr(tmp_path / "w.zarr", decode_coords="all", consolidated=True) as again:
        assert again.image.rio.crs == window.rio.crs
        assert again.image.rio.transform() == window.rio.transform()


@pytest.mark.parametrize("kind", KINDS)
def test_georeferenced_data_arrays_keep_their_place(geotiff, tmp_path, kind):
    import rioxarray

    path = geotiff(kind)
    with rioxarray.open_rasterio(path) as array:
        pyr = ndzarr.transcode(array, tmp_path / "a.zarr", axes="cyx")
    with rasterio.open(path) as file:
        assert equal_transforms(pyr.georeference.transform, file.transform)
        assert_understood(pyr.window(), path, file.transform)
    again = ndzarr.transcode(pyr.window(y=slice(10, 90), x=slice(30, 80)), tmp_path / "b.zarr")
    assert_understood(again.window(), path, pyr.georeference.window_transform(10, 30, 1, 1))
    with rasterio.open(ndzarr.export_cog(again, tmp_path / "b.tif")) as file, rasterio.open(path) as source:
        assert equal_transforms(file.transform, pyr.georeference.window_transform(10, 30, 1, 1))
        assert file.crs == source.crs or kind == "own laea"
