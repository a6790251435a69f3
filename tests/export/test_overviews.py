"""Masks of stores, and overviews beside alpha and masks, are in exported files what GDAL makes them."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling

import ndzarr
from ndzarr._export.validate import validate_cog

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SIDE = 1024
RNG = np.random.default_rng(1)
PIXELS = RNG.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)
SOFT = RNG.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
HARD = (RNG.random((SIDE, SIDE)) < 0.3) * np.uint8(255)


def gdal(path, image, mask=None, **options):
    """A TIFF of GDAL with its own overviews."""
    how = {"count": len(image), "height": SIDE, "width": SIDE, "dtype": image.dtype, "tiled": True, **options}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(path, "w", driver="GTiff", **how) as file:
            file.write(image)
            if mask is not None:
                file.write_mask(mask)
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4], Resampling.average)
    return path


RGBA = {"photometric": "RGB", "alpha": "yes"}
CASES = {
    "soft": (np.concatenate([PIXELS, SOFT[None]]), None, RGBA, {}),
    "hard": (np.concatenate([PIXELS, HARD[None]]), None, RGBA, {}),
    "associated": (
        np.concatenate([np.minimum(PIXELS, SOFT), SOFT[None]]),
        None,
        {"photometric": "RGB", "alpha": "premultiplied"},
        {},
    ),
    "gray 16": (RNG.integers(0, 1 << 16, (2, SIDE, SIDE), dtype=np.uint16), None, {"alpha": "yes"}, {}),
    "masked": (PIXELS, HARD, {"photometric": "RGB"}, {}),
    "nodata": (np.where(RNG.random(PIXELS.shape) < 0.4, 7, PIXELS).astype(np.uint8), None, {"nodata": 7}, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_overviews_and_masks_are_those_of_gdal(tmp_path, name):
    image, mask, options, how = CASES[name]
    theirs = gdal(tmp_path / "a.tif", image, mask, **options)
    pyr = ndzarr.transcode(theirs, tmp_path / "a.zarr")
    ours = ndzarr.export_cog(pyr, tmp_path / "ours.tif", blocksize=256, **how)
    report = validate_cog(ours)
    assert report.ok, report
    assert not report.warnings
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    with rasterio.open(theirs) as a, rasterio.open(ours) as b:
        assert a.mask_flag_enums == b.mask_flag_enums
        assert a.colorinterp == b.colorinterp or name == "nodata"
        assert np.array_equal(a.read(), b.read())
        assert np.array_equal(a.dataset_mask(), b.dataset_mask())
        assert a.overviews(1) == b.overviews(1) == [2, 4]
    for k in range(2):
        with rasterio.open(theirs, overview_level=k) as a, rasterio.open(ours, overview_level=k) as b:
            assert np.abs(a.read().astype(int) - b.read()).max() <= 1
            assert np.array_equal(a.dataset_mask() > 0, b.dataset_mask() > 0)


@pytest.mark.parametrize("wanted", ["alpha", "pyramid"])
def test_overviews_know_a_mask_that_the_levels_do_not(tmp_path, wanted):
    theirs = gdal(tmp_path / "a.tif", PIXELS, HARD, photometric="RGB")
    if wanted == "alpha":
        pyr, mask = ndzarr.transcode(np.concatenate([PIXELS, HARD[None]]), tmp_path / "a.zarr"), "alpha"
    else:
        pyr = ndzarr.transcode(PIXELS, tmp_path / "a.zarr")
        mask = ndzarr.transcode(HARD[None], tmp_path / "mask.zarr", kind="labels")
    ours = ndzarr.export_cog(pyr, tmp_path / "ours.tif", blocksize=256, mask=mask)
    assert validate_cog(ours).ok
    for k in range(2):
        with rasterio.open(theirs, overview_level=k) as a, rasterio.open(ours, overview_level=k) as b:
            assert np.abs(a.read().astype(int) - b.read()).max() <= 1
            assert np.array_equal(a.dataset_mask(), b.dataset_mask())


def test_a_mask_of_one_frame_is_that_of_the_frame(tmp_path):
    masks = RNG.random((3, 300, 300)) < 0.5
    from helpers.pyramids import make

    pyr = make(tmp_path, RNG.integers(0, 255, (3, 1, 300, 300), dtype=np.uint8), tuple("tcyx"), mask=masks)
    with rasterio.open(ndzarr.export_cog(pyr, tmp_path / "a.tif", t=1)) as file:
        assert np.array_equal(file.dataset_mask() > 0, masks[1])
    with rasterio.open(ndzarr.export_cog(pyr, tmp_path / "b.tif", t=1, mask=False)) as file:
        assert file.dataset_mask().all()


@pytest.mark.parametrize(("height", "width"), [(901, 1100), (1024, 513), (1023, 1025)])
@pytest.mark.parametrize("name", ["colours", "nodata", "masked", "alpha", "floats"])
def test_overviews_of_odd_sizes_are_placed_as_gdal_places_them(tmp_path, name, height, width):
    x, y = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 9, height))
    smooth = np.stack([np.sin(x * 7) * np.cos(y * 5), np.sin(y * 9), np.cos(x + y * 3)]) * 100 + 128
    image = smooth if name == "floats" else smooth.astype("u1")
    image = image.astype("f4") if name == "floats" else image
    shown = np.hypot(x - 4, y - 4) < 4
    options, mask = {}, None
    if name in ("nodata", "floats"):
        options, image = {"nodata": 7}, np.where(shown, image, 7).astype(image.dtype)
    elif name == "alpha":
        options, image = RGBA, np.concatenate([image, shown[None] * np.uint8(255)])
    elif name == "masked":
        options, mask = {"photometric": "RGB"}, shown * np.uint8(255)
    theirs = gdal(tmp_path / "a.tif", image, mask, height=height, width=width, **options)
    pyr = ndzarr.transcode(theirs, tmp_path / "a.zarr")
    ours = ndzarr.export_cog(pyr, tmp_path / "ours.tif", blocksize=128)
    assert validate_cog(ours).ok
    for k in range(2):
        with (
            rasterio.open(theirs, overview_level=k) as a,
            rasterio.open(ours, overview_level=k) as b,
        ):
            assert a.shape == b.shape
            assert np.array_equal(a.dataset_mask() > 0, b.dataset_mask() > 0)
            assert np.abs(a.read().astype(float) - b.read()).max() <= 1


def test_classes_of_odd_sizes_are_placed_as_gdal_places_them(tmp_path):
    side = 1003
    classes = np.add.outer(np.arange(side) // 100, np.arange(side) // 100).astype("u1")
    ours = ndzarr.export_cog(ndzarr.transcode(classes, tmp_path / "a.zarr", kind="labels"), tmp_path / "a.tif")
    for k in range(2):
        with rasterio.open(ours, overview_level=k) as file:
            n = file.height
            centres = ((np.arange(n) + 0.5) * side / n).astype(int)
            right = classes[np.ix_(centres, centres)] == file.read(1)
            assert right.mean() > 1 - 0.03 * 2**k  # beside the borders of classes
            assert set(np.unique(file.read(1))) <= set(np.unique(classes))


def test_a_plane_of_a_volume_whose_planes_are_halved_gets_overviews(tmp_path):
    volume = np.random.default_rng(0).integers(0, 256, (1, 4, 600, 520)).astype("u1")
    pyr = ndzarr.transcode(volume, tmp_path / "a.zarr", axes="czyx", reduce="zyx")
    for kind in ("intensity", "labels"):
        pyr = ndzarr.transcode(volume, tmp_path / "a.zarr", axes="czyx", reduce="zyx", kind=kind, overwrite=True)
        path = ndzarr.export_cog(pyr, tmp_path / f"{kind}.tif", z=1, blocksize=128)
        assert validate_cog(path).ok
        with rasterio.open(path) as file:
            assert file.overviews(1) == [2, 4]
            assert np.array_equal(file.read(1), volume[0, 1])
    means = volume[0, 1].reshape(300, 2, 260, 2).mean((1, 3))
    with rasterio.open(tmp_path / "intensity.tif", overview_level=0) as file:
        assert np.abs(file.read(1) - means).max() <= 0.5
