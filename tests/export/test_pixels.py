"""Exported files hold exactly the pyramid's pixels, at every level, as others read them."""

import numpy as np
import pytest
import rasterio
import tifffile
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import ndzarr
from helpers.arrays import photo
from helpers.hypothesis_settings import examples

LOSSLESS = ["deflate", "zstd", "lzw", "none", "lerc"]
GDAL = tuple(map(int, rasterio.__gdal_version__.split(".")[:2]))
TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def gdal_levels(path):
    """(bands, y, x) of the image and of each overview, as GDAL reads them."""
    with rasterio.open(path) as file:
        out = [file.read()]
        count = len(file.overviews(1))
    for k in range(count):
        with rasterio.open(path, overview_level=k) as file:
            out.append(file.read())
    return out


def assert_same_everywhere(path, pyr):
    """The pixels of the image, of overviews that are half of those before, and the same of all others."""
    levels = gdal_levels(path)
    assert [level.shape for level in levels] == [level.shape for level in pyr.levels]
    sizes = [level.shape[-2:] for level in levels]
    for k, found in enumerate(levels):
        if any(n not in (1, 2 * m) for n, m in zip(sum(sizes[:k], ()), sum(sizes[1 : k + 1], ()), strict=True)):
            break
        np.testing.assert_array_equal(found, pyr.read(k))
    with tifffile.TiffFile(path) as tif:
        for k, level in enumerate(tif.series[0].levels):
            found = level.asarray()
            np.testing.assert_array_equal(np.moveaxis(found, -1, 0) if found.ndim == 3 else found[None], levels[k])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("compression", LOSSLESS)
@pytest.mark.parametrize("dtype", TYPES)
def test_gdal_and_tifffile_read_every_level_and_band_exactly(pyramid, tmp_path, dtype, compression):
    if compression == "lerc" and dtype in ("u8", "i8", "f2"):
        pytest.skip("lerc has no such type")
    rng = np.random.default_rng(0)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        pixels = rng.normal(0, 100, (2, 280, 300)).astype(dtype)
    else:
        info = np.iinfo(dtype)
        pixels = rng.integers(info.min, info.max, (2, 280, 300), dtype, endpoint=True)
    pyr = pyramid(pixels)
    path = ndzarr.export_cog(pyr, tmp_path / "a.tif", compression=compression, blocksize=128)
    if dtype == "i1" and GDAL < (3, 7):
        pytest.skip("GDAL reads signed bytes from 3.7 on")
    assert_same_everywhere(path, pyr)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@examples(12, HealthCheck.function_scoped_fixture)
@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    bands=st.integers(1, 6),
    blocksize=st.sampled_from([16, 128, 256, 512]),
    compression=st.sampled_from(LOSSLESS),
    bigtiff=st.sampled_from([True, False, "auto"]),
)
def test_any_size_number_of_bands_and_block_size_comes_back(
    pyramid, tmp_path, height, width, bands, blocksize, compression, bigtiff
):
    names = None if bands != 4 else ["r", "g", "b", "nir"]  # beside alpha, overviews are not the levels
    pyr = pyramid(bands, height=height, width=width, channels=names)
    path = ndzarr.export_cog(
        pyr, tmp_path / "a.tif", compression=compression, blocksize=blocksize, bigtiff=bigtiff, overwrite=True
    )
    assert_same_everywhere(path, pyr)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_complex_pixels_come_back(pyramid, tmp_path, dtype):
    pixels = (
        np.random.default_rng(0).normal(size=(2, 300, 280, 2)).astype(f"f{int(dtype[1:]) // 2}").view(dtype)[..., 0]
    )
    pyr = pyramid(pixels)
    path = ndzarr.export_cog(pyr, tmp_path / "a.tif", compression="zstd")
    for k, found in enumerate(gdal_levels(path)):
        np.testing.assert_array_equal(found, pyr.read(k))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_hundreds_of_bands_keep_their_names(pyramid, tmp_path):
    names = [f"{400 + i} nm <{i} & more>" for i in range(250)]
    pyr = pyramid(250, channels=names, height=140, width=300)
    path = ndzarr.export_cog(pyr, tmp_path / "a.tif", blocksize=128)
    with rasterio.open(path) as file:
        assert list(file.descriptions) == names
        np.testing.assert_array_equal(file.read(), pyr.read())
    assert list(ndzarr.transcode(path, tmp_path / "b.zarr").channels) == names


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bool_becomes_0_and_1_and_labels_are_not_mixed(pyramid, tmp_path):
    pyr = pyramid(photo(300, 400)[None, ..., 0] > 128)
    path = ndzarr.export_cog(pyr, tmp_path / "a.tif")
    for k, found in enumerate(gdal_levels(path)):
        np.testing.assert_array_equal(found, pyr.read(k).astype("u1"))
    with tifffile.TiffFile(path) as tif:
        assert tif.pages[0].predictor == 1


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_nan_comes_back_with_every_codec(pyramid, tmp_path):
    pixels = photo(300, 400)[None, ..., 0].astype("f4")
    pixels[:, 40:200, 50:300] = np.nan
    pyr = pyramid(pixels)
    for compression in LOSSLESS:
        path = ndzarr.export_cog(pyr, tmp_path / "a.tif", compression=compression, overwrite=True)
        for k, found in enumerate(gdal_levels(path)):
            np.testing.assert_array_equal(found, pyr.read(k))
        assert np.array_equal(ndzarr.open(path).read(), pyr.read(), equal_nan=True)
        if compression != "lerc":  # there NaN is a mask, which tifffile leaves out
            assert_same_everywhere(path, pyr)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.skipif(GDAL < (3, 9), reason="GDAL 3.8 fails to read such tiles, also its own")
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_lerc_keeps_what_is_nan_in_some_channels_only(pyramid, tmp_path, dtype):
    pixels = photo(300, 400).transpose(2, 0, 1).astype(dtype)
    pixels[:, 40:60] = pixels[1, 100:200, 50:300] = pixels[2, 256:] = np.nan
    pyr = pyramid(pixels)
    path = ndzarr.export_cog(pyr, tmp_path / "a.tif", compression="lerc", blocksize=128)
    for k, found in enumerate(gdal_levels(path)):
        np.testing.assert_array_equal(found, pyr.read(k))
    np.testing.assert_array_equal(ndzarr.open(path).read(), pixels)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("compression", "quality", "error"), [("jpeg", None, 8), ("webp", 90, 8), ("webp", 100, 0)])
def test_lossy_codecs_stay_near_and_webp_is_exact_at_quality_100(pyramid, tmp_path, compression, quality, error):
    pyr = pyramid(3, channels=["r", "g", "b"], width=412)
    path = ndzarr.export_cog(pyr, tmp_path / "a.tif", compression=compression, quality=quality)
    for k, found in enumerate(gdal_levels(path)):
        assert np.abs(found.astype(float) - pyr.read(k)).mean() <= error
    with rasterio.open(path) as file:
        assert [c.name for c in file.colorinterp] == ["red", "green", "blue"]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_lerc_stays_within_the_error_that_is_allowed(pyramid, tmp_path):
    pyr = pyramid(np.random.default_rng(0).normal(0, 100, (1, 300, 300)).astype("f4"))
    path = ndzarr.export_cog(pyr, tmp_path / "a.tif", compression="lerc", max_error=0.5)
    for k, found in enumerate(gdal_levels(path)):
        assert 0 < np.abs(found - pyr.read(k)).max() <= 0.5


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_colours_and_alpha_are_marked_as_such(pyramid, tmp_path):
    rgba = pyramid(4, channels=["r", "g", "b", "a"])
    with rasterio.open(ndzarr.export_cog(rgba, tmp_path / "rgba.tif")) as file:
        assert [c.name for c in file.colorinterp] == ["red", "green", "blue", "alpha"]
    gray = pyramid(2, "gray.zarr", channels=["gray", "a"])
    with rasterio.open(ndzarr.export_cog(gray, tmp_path / "ga.tif")) as file:
        assert [c.name for c in file.colorinterp] == ["gray", "alpha"]
    with rasterio.open(ndzarr.export_cog(rgba, tmp_path / "gb.tif", channels=["g", "b"])) as file:
        assert file.descriptions == ("g", "b")
        np.testing.assert_array_equal(file.read(), rgba.read(c=["g", "b"]))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("compression", ["deflate", "jpeg"])
def test_masks_come_from_missing_pixels_from_alpha_or_from_a_pyramid(pyramid, tmp_path, bigtiff, compression):
    valid = np.zeros((600, 700), bool)
    valid[100:400, 33:600] = True
    image = np.where(valid, photo(600, 700).transpose(2, 0, 1) | 1, 0)
    options = {"bigtiff": bigtiff, "compression": compression, "blocksize": 128}
    missing = pyramid(image, nodata=0, channels=["r", "g", "b"])
    alpha = pyramid(np.concatenate([image, valid[None] * np.uint8(255)]), "alpha.zarr", channels=["r", "g", "b", "a"])
    mask = pyramid(valid[None], "mask.zarr", kind="labels")
    plain = pyramid(image, "plain.zarr", channels=["r", "g", "b"])
    for name, pyr, wanted in (("n", missing, True), ("a", alpha, "alpha"), ("p", plain, mask)):
        path = ndzarr.export_cog(pyr, tmp_path / f"{name}.tif", mask=wanted, **options)
        with rasterio.open(path) as file:
            assert file.count == 3
            assert file.mask_flag_enums[0] == [rasterio.enums.MaskFlags.per_dataset]
            np.testing.assert_array_equal(file.dataset_mask() > 0, valid)
        with rasterio.open(path, overview_level=0) as file:
            assert abs((file.dataset_mask() > 0).mean() - valid.mean()) < 0.01


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_one_frame_and_plane_of_a_stack_is_chosen(tmp_path):
    stack = np.random.default_rng(0).integers(0, 255, (2, 3, 1, 40, 50), np.uint8)
    pyr = ndzarr.transcode(stack, tmp_path / "a.zarr", axes="tzcyx")
    path = ndzarr.export_cog(pyr, tmp_path / "a.tif", t=1, z=2)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(), stack[1, 2])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("dtype", "nodata"), [("u1", 0), ("i2", -9999), ("f4", float("nan")), ("f4", -9999.5)])
def test_nodata_is_written_as_gdal_reads_it(pyramid, tmp_path, dtype, nodata):
    pyr = pyramid(np.ones((1, 300, 300), dtype))
    path = ndzarr.export_cog(pyr, tmp_path / "a.tif", nodata=nodata)
    with rasterio.open(path) as file:
        assert file.nodata == nodata or (np.isnan(nodata) and np.isnan(file.nodata))
    assert ndzarr.export_cog(pyramid(np.ones((1, 30, 30), dtype), nodata=nodata), tmp_path / "b.tif").exists()
    with rasterio.open(tmp_path / "b.tif") as file:
        assert file.nodata == nodata or (np.isnan(nodata) and np.isnan(file.nodata))


def test_a_palette_becomes_rgb(tmp_path):
    indices = np.arange(256, dtype="u1").reshape(16, 16)
    table = np.random.default_rng(0).integers(0, 256, (3, 256)).astype("u2") * 257
    tifffile.imwrite(tmp_path / "p.tif", indices, photometric="palette", colormap=table)
    pyr = ndzarr.transcode(tmp_path / "p.tif", tmp_path / "p.zarr")
    path = ndzarr.export_cog(pyr, tmp_path / "out.tif")
    np.testing.assert_array_equal(tifffile.imread(path), (table >> 8).T[indices])
