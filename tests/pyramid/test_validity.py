"""Alpha, masks and nodata tell which pixels are real, and how much they count wherever pixels are averaged."""

import numpy as np
import pytest
import xarray
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import ndzarr
from helpers.arrays import random_array
from helpers.hypothesis_settings import examples
from helpers.pyramids import make
from ndzarr._store.downsample import halve_mask, reducer
from ndzarr._store.validity import Validity

TINY = np.nextafter(np.float32(0), np.float32(1))
RGBA = ("r", "g", "b", "a")
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def blocks(image, n=2):
    """The pixels of each n x n block, axes (..., y, x, pixel); beyond the image NaN."""
    height, width = image.shape[-2:]
    beyond = [(0, 0)] * (image.ndim - 2) + [(0, -height % n), (0, -width % n)]
    whole = np.pad(image.astype(float), beyond, constant_values=np.nan)
    parts = whole.reshape(*image.shape[:-2], whole.shape[-2] // n, n, whole.shape[-1] // n, n)
    return np.moveaxis(parts, -3, -2).reshape(*parts.shape[:-4], parts.shape[-4], parts.shape[-2], n * n)


def weighted(image, weights, n=2):
    """Means of blocks by weights, and where there are any."""
    values, loads = blocks(image, n), np.nan_to_num(np.broadcast_to(blocks(weights, n), blocks(image, n).shape))
    total = loads.sum(-1)
    return (np.nan_to_num(values) * loads).sum(-1) / np.where(total > 0, total, 1), total > 0


def mostly(values, chosen, rng):
    """Values with 0 and the maximum often among them."""
    pick = rng.random(values.shape)
    return np.where(pick < 0.4, 0, np.where(pick > 0.8, chosen, values)).astype(values.dtype)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("channels", [2, 4])
@given(shape=SHAPES, seed=st.integers(0, 2**16), level=st.integers(1, 2), masked=st.booleans())
@examples(10)
def test_colours_of_a_level_are_means_by_alpha_and_alpha_is_the_mean_of_all(
    dtype, channels, shape, seed, level, masked
):
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    image = random_array((channels, *shape), dtype, seed)
    top = 1 if dtype.kind == "f" else np.iinfo(dtype).max
    image[-1] = mostly(np.abs(image[-1]) if dtype.kind != "f" else rng.random(shape), top, rng)
    mask = rng.random(shape) < 0.5 if masked else None
    found = reducer(dtype, "intensity", Validity(alpha=channels - 1, masked=masked))(image, level, mask)
    shown = np.ones(shape) if mask is None else mask
    colours, some = weighted(image[:-1], image[-1] * shown)
    alpha, kept = weighted(image[-1], shown)
    for values, real, ours in ((colours, some, found[:-1]), (alpha, kept, found[-1])):
        slack = 0.5 + 1e-6 if dtype.kind in "iu" else 1e-5 * max(1, np.abs(values).max())
        assert np.abs(ours.astype(float) - values)[real].max(initial=0) <= slack + 1e-9 * np.abs(values).max()
        assert (ours[~real] == 0).all()
    if mask is not None:
        assert np.array_equal(halve_mask(mask), np.nan_to_num(blocks(mask)).any(-1))


def test_premultiplied_colours_are_averaged_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4, 200, 300), dtype=np.uint8)
    image[:3] = np.minimum(image[:3], image[3])
    how = {"channels": RGBA, "metadata": {"alpha": "associated"}}
    pyr = make(tmp_path, image, **how)
    assert np.abs(pyr.read(1) - np.nanmean(blocks(image), -1)).max() <= 0.5
    assert np.array_equal(pyr.window(scale=1).valid, image[3] > 0)


@pytest.mark.parametrize("scale", [1 / 2, 1 / 4, 0.4, 0.3])
def test_levels_and_windows_are_what_pillow_makes_of_premultiplied_colours(tmp_path, scale):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4, 300, 400), dtype=np.uint8)
    if scale in (0.4, 0.3):  # from a level that is finer: the same of smooth colours alone
        image[:3] = np.mgrid[:300, :400].sum(0) // 6
    image[3] = np.kron(mostly(rng.integers(0, 256, (30, 40)), 255, rng), np.ones((10, 10)))  # blocks, as cut-outs have
    image[:3, image[3] == 0] = 255
    window = make(tmp_path, image, channels=RGBA).window(y=slice(0, 300), x=slice(0, 400), scale=scale)
    height, width = window.shape[-2:]
    pillow = Image.fromarray(image.transpose(1, 2, 0)).resize((width, height), Image.Resampling.BOX)
    theirs = np.asarray(pillow).transpose(2, 0, 1).astype(int)
    assert np.abs(window[3] - theirs[3]).max() <= (2 if scale in (0.5, 0.25) else 40)  # edges are as sharp as kernels
    thick = theirs[3] > 64  # Pillow divides by alpha of 8 bits, which leaves few bits of colour where it is small
    assert np.abs(window.values.astype(int) - theirs)[:3, thick].max() <= 6
    assert np.array_equal(window.valid, window[3] > 0)


@pytest.mark.parametrize("interpolation", ["area", "linear", "cubic", "lanczos", "nearest"])
@pytest.mark.parametrize("kind", ["alpha", "mask"])
def test_hidden_colours_reach_no_pixel_at_any_scale(tmp_path, interpolation, kind):
    image = np.zeros((4, 300, 300), np.uint8)
    image[0], image[3] = 200, 255
    hidden = np.zeros((300, 300), bool)
    hidden[:, 151:] = True
    image[:3, hidden] = 255
    image[3, hidden] = 0
    if kind == "alpha":
        pyr = make(tmp_path, image, channels=RGBA)
    else:
        pyr = make(tmp_path, image[:3], channels=RGBA[:3], mask=~hidden)
    for scale in (1, 0.5, 0.25, 0.37, 1.7):
        window = pyr.window(scale=scale, y=slice(-20, 290), x=slice(10, 320), interpolation=interpolation)
        colours = window.values[:3, window.valid.values]
        assert window.valid.any()
        assert not window.valid.all()
        assert (colours == [[200], [0], [0]]).all(), (scale, np.unique(colours, axis=1))
        narrow = pyr.window(scale=scale, y=slice(-20, 290), x=slice(10, 320), interpolation=interpolation, c=["g", "r"])
        assert np.array_equal(narrow, window[[1, 0]])
        assert np.array_equal(narrow.valid, window.valid)


@pytest.mark.parametrize("dims", ["cyx", "tcyx", "czyx", "tczyx"])
@pytest.mark.parametrize("reduce", ["yx", "zyx"])
def test_masks_have_every_axis_but_c_and_are_true_where_any_pixel_is(tmp_path, dims, reduce):
    if reduce == "zyx" and "z" not in dims:
        pytest.skip("no planes")
    rng = np.random.default_rng(0)
    lengths = {"t": 3, "c": 5, "z": 6, "y": 150, "x": 270}
    image = rng.integers(1, 255, [lengths[d] for d in dims], dtype=np.uint8)
    mask = rng.random([lengths[d] for d in dims if d != "c"]) < 0.2
    layout = {"chunks": {"x": 32, "y": 64}, "shard": 64, "access": "mixed" if "t" in dims else "frames"}
    pyr = make(tmp_path, image, tuple(dims), mask=mask, reduce=reduce, **layout)
    assert ndzarr.verify(pyr.path).ok
    group, tree = zarr.open_group(pyr.path, mode="r"), pyr.to_datatree()
    others = xarray.open_datatree(pyr.path, engine="zarr")
    for k, level in enumerate(pyr.levels):
        assert np.array_equal(group[f"{k}/mask"][...], mask)
        assert np.array_equal(others[f"{k}/mask"], mask)
        assert others[f"{k}/mask"].dims == tuple(d for d in dims if d != "c")
        assert np.array_equal(tree[f"{k}/image"].valid, mask)
        if not k:
            found = pyr.window(scale=1).valid
            assert np.array_equal(found, mask)
            assert found.dims == tuple(d for d in dims if d != "c")
            some = {"c": [1, 3], **({"t": [2, 0]} if "t" in dims else {})}
            assert np.array_equal(pyr.window(**some).valid, mask[[2, 0]] if "t" in dims else mask)
        halve = (reduce == "zyx") and level.shape != pyr.levels[-1].shape
        mask = halve_mask(mask, reduce == "zyx") if halve or reduce == "yx" else halve_mask(mask)
    assert pyr.attrs["ndzarr"]["mask"] == "mask"


@given(shape=SHAPES, seed=st.integers(0, 2**16))
@examples(20)
def test_a_label_that_a_mask_hides_has_no_vote(shape, seed):
    rng = np.random.default_rng(seed)
    image, mask = rng.integers(0, 3, (1, *shape), dtype=np.uint8), rng.random(shape) < 0.5
    found = reducer(image.dtype, "labels", Validity(masked=True))(image, 1, mask)
    for y, x in np.ndindex(found.shape[-2:]):
        part = np.s_[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        votes = image[0][part][mask[part]] if mask[part].any() else image[0][part].ravel()
        assert np.sum(votes == found[0, y, x]) == np.bincount(votes).max()


@pytest.mark.parametrize(
    ("dtype", "nodata", "pair", "mean"),
    [("u1", 7, (6, 8), 8), ("i2", -5, (-6, -4), -4), ("u1", 255, (255, 254), 254), ("f4", 0, (-1, 1), TINY)],
)
def test_a_mean_that_happens_to_be_nodata_is_not_missing(tmp_path, dtype, nodata, pair, mean):
    image = np.tile(np.array(pair, dtype), (1, 300, 150))
    pyr = make(tmp_path, image, nodata=nodata)
    assert (pyr.read(1) == mean).all()
    assert pyr.window(scale=0.25).valid.all()
    assert pyr.window(y=slice(0, 198), x=slice(0, 198), scale=1 / 6).valid.all()


def test_nodata_says_nothing_about_alpha(tmp_path):
    image = np.random.default_rng(0).integers(1, 255, (4, 200, 300), dtype=np.uint8)
    image[3] = np.where(np.arange(300) < 101, 0, 255)
    for nodata in (0, 255):
        pyr = make(tmp_path, image, channels=RGBA, nodata=nodata, overwrite=True)
        assert np.array_equal(pyr.window(c=["a"]).valid, image[3] > 0)
        assert np.array_equal(pyr.read(1, c=["a"])[0, 0, 49:52], [0, 128, 255])
        assert np.array_equal(pyr.window(c=["a"], scale=0.5)[0, 0, 49:52], [0, 128, 255])


def test_nan_that_nothing_hides_stays_nan_and_hidden_nan_counts_for_nothing(tmp_path):
    image = np.ones((1, 300, 300), "f4")
    image[0, :50] = np.nan
    mask = np.ones((300, 300), bool)
    mask[:, :50] = False
    level = make(tmp_path, image, mask=mask).read(1)[0]
    assert np.isnan(level[:25, 25:]).all()
    assert (level[25:, 25:] == 1).all()
    assert (level[:, :25] == 0).all()


@pytest.mark.parametrize("channels", [("x", "y", "z", "a"), ("b1", "a"), ("r", "g", "b", "nir")])
def test_a_channel_is_alpha_only_beside_colours(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 2, (len(channels), 300, 200), dtype=np.uint8)
    pyr = make(tmp_path, image, channels=channels)
    assert pyr.validity.plain
    assert "valid" not in pyr.window(scale=0.5).coords
