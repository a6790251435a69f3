"""Each channel may have a value of its own that marks missing data: everything treats it as if it were alone."""

from __future__ import annotations

import json

import kwcoco
import numpy as np
import pytest
import rasterio
import xarray
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.arrays import random_array
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from helpers.pyramids import make
from ndzarr._formats.options import InPlaceOptions
from ndzarr._library.in_place import open_file
from ndzarr._store.downsample import reducer
from ndzarr._store.validity import Validity
from ndzarr.cli import main
from ndzarr.errors import OptionError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
VALUES = {
    "u1": (3, None, 0),
    "i2": (-5, 3, None),
    "f4": (-9999.0, None, float("nan")),
    "u8": (2**63, 2**63 + 2048, None),
}


def some_pixels(dtype, values, shape=(300, 400), seed=0):
    """Few different pixels, the nodata of every channel among those of all channels."""
    rng = np.random.default_rng(seed)
    known = [v for v in values if v is not None and (dtype[0] == "f" or v == v)]
    patches = np.array([*range(1, 8), *known], dtype)[
        rng.integers(0, 7 + len(known), (3, *(n // 8 + 1 for n in shape)))
    ]
    pixels = np.kron(patches, np.ones((8, 8), dtype))[:, : shape[0], : shape[1]]
    if dtype == "u8":
        pixels[pixels < 8] += np.uint64(2**63)  # floats would round them
    noise = rng.random(pixels.shape) < 0.2
    pixels[noise] = np.array([pixels.max(), *known], dtype)[rng.integers(0, 1 + len(known), noise.sum())]
    return pixels


def write_pam(path, values):
    bands = "".join(
        f'<PAMRasterBand band="{k}"><NoDataValue>{v}</NoDataValue></PAMRasterBand>'
        for k, v in enumerate(values, 1)
        if v is not None
    )
    path.with_name(f"{path.name}.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")


def write_tiff(path, pixels, **options):
    how = {
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
        "driver": "GTiff",
        "dtype": pixels.dtype,
        "photometric": "minisblack",
    }
    count, height, width = pixels.shape
    with rasterio.open(path, "w", count=count, height=height, width=width, **how, **options) as dataset:
        dataset.write(pixels)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
class TestSidecars:
    @pytest.fixture
    def path(self, dtype, interleave, tmp_path):
        pixels = some_pixels(dtype, VALUES[dtype])
        if dtype == "f4":
            pixels[:2][np.isnan(pixels[:2])] = 1  # of NaN in channels without it, GDAL and we think differently
        write_tiff(tmp_path / "a.tif", pixels, interleave=interleave)
        write_pam(tmp_path / "a.tif", VALUES[dtype])
        return tmp_path / "a.tif"

    def test_valid_is_rasterio_s_in_place_in_stores_samples_and_batches(self, path, dtype, tmp_path):
        with rasterio.open(path) as dataset:
            mask, stated = dataset.read_masks() != 0, dataset.nodatavals
        assert not mask[0].all()
        for pyramid in (ndzarr.open(path), ndzarr.transcode(path, tmp_path / "s.zarr")):
            assert repr(pyramid.nodata) == repr(stated)
            assert np.array_equal(pyramid.window().valid, mask)
            chosen = pyramid.window(c=["c2", "c0"], y=slice(-5, 100), x=slice(20, 90)).valid
            inside = np.zeros((2, 105, 70), bool)
            inside[:, 5:] = mask[[2, 0], :100, 20:90]
            assert np.array_equal(chosen, inside)
        where = {"key": "a", "y": slice(50, 150), "x": slice(60, 160)}
        for transcode in ("never", "always"):
            sampler = ndzarr.Sampler({"a": path}, tmp_path / "w", transcode=transcode)
            for order in ([0, 1, 2], [1, 2], [2, 0]):
                target = {**where, "channels": "|".join(f"c{i}" for i in order)}
                want = mask[order, 50:150, 60:160]
                batch = sampler.load_batch([target, target])
                for sample in (sampler.load_sample(target), sampler.load_sample(target, lazy=True).compute()):
                    assert np.array_equal(np.broadcast_to(sample.valid, want.shape), want)
                assert np.array_equal(np.broadcast_to(batch.valid, (2, *want.shape)), np.stack([want] * 2))
                filled = sampler.load_sample(target, nodata="fill", fill=1).image.values
                assert (filled[~want] == 1).all()

    def test_tiles_that_are_not_in_the_file_are_nodata_as_in_gdal(self, path, dtype, interleave, tmp_path):
        pixels = np.zeros((3, 200, 200), dtype)
        pixels[:, :64, :64] = 1
        sparse = tmp_path / "sparse.tif"
        write_tiff(sparse, pixels, interleave=interleave, SPARSE_OK="TRUE")
        write_pam(sparse, VALUES[dtype])
        with rasterio.open(sparse) as dataset:
            want, mask = dataset.read(), dataset.read_masks() != 0
        for pyramid in (ndzarr.open(sparse), ndzarr.transcode(sparse, tmp_path / "s.zarr")):
            assert np.array_equal(pyramid.read(), want, equal_nan=dtype == "f4")
            assert np.array_equal(np.broadcast_to(pyramid.window().valid, mask.shape), mask)


def test_a_band_without_a_value_beside_the_file_has_that_of_the_file(tmp_path):
    path = tmp_path / "a.tif"
    write_tiff(path, some_pixels("u1", (3, 5, 5)), nodata=5)
    write_pam(path, (3, None, None))
    with rasterio.open(path) as dataset:
        assert ndzarr.open(path).nodata == dataset.nodatavals == (3, 5, 5)
        assert np.array_equal(ndzarr.open(path).window().valid, dataset.read_masks() != 0)


@pytest.mark.parametrize("kind", ["intensity", "labels"])
@pytest.mark.parametrize("dtype", [*VALUES])
@given(shape=st.tuples(st.integers(1, 9), st.integers(1, 9)), seed=st.integers(0, 2**16), level=st.integers(1, 2))
@examples(10)
def test_a_channel_is_halved_as_if_it_were_alone(kind, dtype, shape, seed, level):
    values = VALUES[dtype]
    image = some_pixels(dtype, values, shape, seed)
    found = reducer(image.dtype, kind, Validity(nodata=values))(image, level)
    for k, value in enumerate(values):
        alone = reducer(image.dtype, kind, Validity(nodata=value))(image[k : k + 1], level)
        assert np.array_equal(found[k : k + 1], alone, equal_nan=dtype == "f4")


@pytest.fixture(scope="module", params=[*VALUES])
def channels(request, tmp_path_factory):
    """A pyramid of three channels, and one of each."""
    values, folder = VALUES[request.param], tmp_path_factory.mktemp("channels")
    pixels = some_pixels(request.param, values)
    together = make(folder, pixels, channels=("a", "b", "d"), nodata=values)
    for name in "abd":
        (folder / name).mkdir()
    return together, [
        make(folder / n, pixels[k : k + 1], channels=(n,), nodata=values[k]) for k, n in enumerate(("a", "b", "d"))
    ]


@pytest.mark.parametrize("interpolation", ["area", "linear", "cubic", "nearest"])
def test_a_channel_of_a_window_is_what_it_would_be_alone(channels, interpolation):
    together, alone = channels
    for scale in (1, 0.5, 0.4, 1.7):
        how = {"scale": scale, "interpolation": interpolation, "y": slice(-10, 200), "x": slice(30, 260)}
        for order in ([0, 1, 2], [2, 0]):
            window = together.window(c=order, **how)
            valid = np.broadcast_to(window.valid, window.shape)
            for k, own in zip(order, (alone[k].window(**how) for k in order), strict=True):
                at = order.index(k)
                assert np.array_equal(window[at], own[0], equal_nan=together.dtype == "f4")
                assert np.array_equal(valid[at], np.broadcast_to(own.valid, own.shape)[0])


def test_alpha_has_no_nodata(tmp_path):
    rgba = random_array((4, 100, 120), np.dtype("u1"), 0) // 64
    for values in (0, (0, 0, 0, None), (0, 0, 0, 0)):
        pyr = make(tmp_path, rgba, channels=("r", "g", "b", "a"), nodata=values, overwrite=True)
        want = (rgba != 0) & (rgba[3] > 0)
        want[3] = rgba[3] > 0
        assert np.array_equal(pyr.window().valid, want)


def test_a_store_says_what_xarray_and_others_can_read(tmp_path):
    pixels = some_pixels("f4", VALUES["f4"])
    pyr = ndzarr.transcode(pixels, tmp_path / "a.zarr", channels=["r", "nir", "dem"], nodata=(-9999, None, np.nan))
    attrs = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())["attributes"]
    assert attrs["ndzarr"]["nodata"] == [-9999, None, "NaN"]
    assert attrs["bands"] == [{"name": "r", "nodata": -9999}, {"name": "nir"}, {"name": "dem", "nodata": "nan"}]
    assert np.array_equal(xarray.open_datatree(tmp_path / "a.zarr", engine="zarr")["0"].image, pixels, equal_nan=True)
    assert "nodata   r: -9999, nir: none, dem: nan" in repr(pyr)
    told = CliRunner().invoke(main, ["info", "--json", str(tmp_path / "a.zarr")])
    assert json.loads(told.output)[0]["nodata"] == [-9999, None, "NaN"]
    assert "r: -9999" in CliRunner().invoke(main, ["info", str(tmp_path / "a.zarr")]).output


def test_a_lazy_array_has_the_nodata_of_its_channels_also_of_some(tmp_path):
    pyr = ndzarr.transcode(some_pixels("u1", VALUES["u1"]), tmp_path / "a.zarr", nodata=VALUES["u1"])
    for order in ([0, 1, 2], [2, 1], [0]):
        again = ndzarr.transcode(pyr.to_xarray().isel(c=order), tmp_path / "b.zarr", overwrite=True)
        assert np.array_equal(
            np.broadcast_to(again.window().coords.get("valid", True), again.shape),
            np.broadcast_to(pyr.window(c=order).coords.get("valid", True), again.shape),
        )


def test_values_that_are_alike_are_one(tmp_path):
    pyr = ndzarr.transcode(some_pixels("u1", (3, 3, 3)), tmp_path / "a.zarr", nodata=[3, 3, 3])
    assert pyr.nodata == 3


@pytest.mark.parametrize("nodata", [[3, 4], [1, 2, 3, 4], "3a", [1, "b", 2]])
def test_values_that_are_not_one_per_channel_are_refused(nodata, tmp_path):
    with raises(OptionError, key="nodata"):
        ndzarr.transcode(some_pixels("u1", (3, 3, 3)), tmp_path / "a.zarr", nodata=nodata)


class TestCogs:
    @pytest.fixture
    def pyr(self, tmp_path):
        pixels = some_pixels("u1", (3, 5, 5))
        pixels[0, :90], pixels[1:, :90] = 3, 5
        return make(tmp_path, pixels, channels=("a", "b", "d"), nodata=(3, 5, 5))

    def test_different_values_become_a_mask_of_pixels_that_no_channel_has(self, pyr, tmp_path):
        path = ndzarr.export_cog(pyr, tmp_path / "a.tif")
        for k in range(len(pyr.levels)):
            with rasterio.open(path, **({} if k == 0 else {"overview_level": k - 1})) as dataset:
                shown = np.stack([p != v for p, v in zip(pyr.read(k), (3, 5, 5), strict=True)]).any(axis=0)
                assert dataset.nodatavals == (None,) * 3
                assert np.array_equal(dataset.read(), pyr.read(k))
                assert np.array_equal(dataset.read_masks() != 0, np.stack([shown] * 3))
        assert not np.array_equal(ndzarr.open(path).window().valid, np.ones((300, 400)))

    def test_channels_that_have_the_same_keep_it(self, pyr, tmp_path):
        with rasterio.open(ndzarr.export_cog(pyr, tmp_path / "a.tif", channels=["d", "b"])) as dataset:
            assert dataset.nodatavals == (5, 5)
            assert np.array_equal(dataset.read_masks() != 0, pyr.read()[[2, 1]] != 5)

    def test_a_channel_without_a_value_is_real_everywhere_and_needs_no_mask(self, tmp_path):
        pyr = make(tmp_path, some_pixels("u1", (3, 5, 5)), channels=("a", "b", "d"), nodata=(3, None, 5))
        with rasterio.open(ndzarr.export_cog(pyr, tmp_path / "a.tif")) as dataset:
            assert (dataset.read_masks() == 255).all()


@pytest.mark.parametrize("transcode", ["never", "always"])
def test_assets_of_a_dataset_have_their_own_values(transcode, tmp_path):
    first, second = some_pixels("u1", (3, None, 0)), some_pixels("u1", (7, None, None), seed=1)[:1]
    write_tiff(tmp_path / "a.tif", first)
    write_tiff(tmp_path / "b.tif", second)
    size = {"width": 400, "height": 300}
    dset = kwcoco.CocoDataset()
    dset.fpath = str(tmp_path / "data.kwcoco.json")
    assets = [
        {"file_name": "a.tif", "channels": "x|y|z", "nodata": [3, None, 0], **size},
        {"file_name": "b.tif", "channels": "w", "nodata": 7, **size},
    ]
    dset.add_image(name="one", assets=assets, **size)
    sampler = ndzarr.CocoSampler(dset, tmp_path / "w", transcode=transcode)
    want = np.stack([second[0] != 7, first[2] != 0, np.ones((300, 400), bool), first[0] != 3])
    sample = sampler.load_sample(gid=1, channels="w|z|y|x")
    assert np.array_equal(sample.valid, want)
    assert np.array_equal(sampler.load_batch([{"gid": 1, "channels": "w|z|y|x"}]).valid[0], want)
    half = sampler.load_sample(gid=1, channels="w|z|y|x", scale=0.5)
    for k, value in enumerate((7, 0, None, 3)):
        shown = half.image[k] != value if value is not None else np.ones(half.image[k].shape, bool)
        assert np.array_equal(half.valid[k], shown)


@pytest.mark.parametrize("transcode", ["never", "always"])
def test_lazy_and_extracted_batches_of_images_that_are_warped_know_each_channel_s_value(transcode, tmp_path):
    pixels = np.zeros((2, 200, 200), np.uint8)
    pixels[0], pixels[1] = 100, 50
    pixels[0, :80], pixels[1, 120:] = 7, 9
    write_tiff(tmp_path / "a.tif", pixels)
    turned = {"type": "affine", "matrix": [[0.96, -0.28, 60], [0.28, 0.96, 0], [0, 0, 1]]}
    dset = kwcoco.CocoDataset()
    dset.fpath = str(tmp_path / "data.kwcoco.json")
    asset = {"file_name": "a.tif", "channels": "x|y", "nodata": [7, 9], "width": 200, "height": 200}
    dset.add_image(name="one", assets=[{**asset, "warp_aux_to_img": turned}], width=260, height=260)
    sampler = ndzarr.CocoSampler(dset, tmp_path / "w", transcode=transcode)
    target = {"gid": 1, "space_slice": (slice(20, 220), slice(20, 220))}
    sample = sampler.load_sample(target)
    image, valid = sample.image.values, sample.valid.values
    assert set(image[0][valid[0]]) == {100}
    assert set(image[1][valid[1]]) == {50}
    assert 0.2 < valid[0].mean() < 0.8
    assert not np.array_equal(valid[0], valid[1])
    lazy = sampler.lazy_batch([target, target], batch_size=1).compute()
    extracted = xarray.open_zarr(sampler.extract([target, target], tmp_path / "crops.zarr"))
    for batch in (sampler.load_batch([target, target]), lazy, extracted):
        assert np.array_equal(batch.image, np.stack([image] * 2))
        assert np.array_equal(batch.valid, np.stack([valid] * 2))


def test_a_stack_has_the_values_of_its_images(tmp_path):
    pixels = some_pixels("f4", VALUES["f4"])
    for name in "ab":
        write_tiff(tmp_path / f"{name}.tif", pixels)
        write_pam(tmp_path / f"{name}.tif", VALUES["f4"])
    stack = ndzarr.transcode([tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "s.zarr")
    alone = ndzarr.open(tmp_path / "a.tif")
    assert repr(stack.nodata) == repr(alone.nodata)
    assert np.array_equal(stack.window().valid, np.stack([alone.window().valid] * 2))


@pytest.mark.parametrize("where", ["file", "sidecar"])
def test_values_that_count_only_together_are_noted(where, tmp_path):
    path = tmp_path / "a.tif"
    write_tiff(path, some_pixels("u1", (3, 3, 3)))
    if where == "file":
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(NODATA_VALUES="3 3 3")
    else:
        text = '<PAMDataset><Metadata><MDI key="NODATA_VALUES">3 3 3</MDI></Metadata></PAMDataset>'
        path.with_name("a.tif.aux.xml").write_text(text)
    for pyramid in (ndzarr.open(path), ndzarr.transcode(path, tmp_path / "s.zarr")):
        assert pyramid.nodata is None
        assert any("NODATA_VALUES" in note for note in pyramid.notes)


@pytest.mark.parametrize(("depth", "reduce"), [(None, "yx"), (8, "yx"), (8, "zyx")])
def test_channels_in_chunks_of_their_own_know_which_they_are(depth, reduce, tmp_path):
    rng = np.random.default_rng(0)
    dims = ("c", "y", "x") if depth is None else ("c", "z", "y", "x")
    pixels = rng.integers(0, 7, (6, *([] if depth is None else [depth]), 280, 300)).astype("u1")
    values = (0, 1, None, 3, 4, 5)
    chunks = {"c": 1, "y": 64, "x": 64}
    how = {"chunks": chunks, "reduce": reduce, "interleaved": False, "overwrite": True}
    together = make(tmp_path, pixels, dims, nodata=values, **how)
    found = [together.read(k) for k in range(len(together.levels))]
    assert len(found) > 1
    for c, value in enumerate(values):
        alone = make(tmp_path, pixels[c : c + 1], dims, nodata=value, **how)
        for k, level in enumerate(found):
            assert np.array_equal(level[c : c + 1], alone.read(k))


def test_overviews_of_a_large_file_in_place_know_what_its_alpha_means(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 1100, 600)).astype("u1")
    pixels[3, ::3] = 0
    pixels[:3] = np.minimum(pixels[:3], pixels[3])
    path = tmp_path / "a.tif"
    write_tiff(path, pixels, ALPHA="PREMULTIPLIED")
    names = ("r", "g", "b", "a")
    store = ndzarr.transcode(path, tmp_path / "s.zarr", channels=names)
    opened = open_file(str(path), 0, InPlaceOptions(channels=names, cache=tmp_path / "w", in_memory=0))
    assert opened.validity.associated
    assert len(opened.levels) > 2
    for k in range(len(store.levels)):
        assert np.array_equal(opened.read(k), store.read(k))
