"""What comes back has the same form whatever the path: images, videos, several assets, padded, scaled, lazy."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import xarray
from PIL import Image

import ndzarr
from helpers.errors import raises
from ndzarr._pyramid.xarray import build_dataset as dataset
from ndzarr._pyramid.xarray import centre_axis as centres
from ndzarr._pyramid.xarray import index_axis as axis
from ndzarr._pyramid.xarray import name_axis as names

VARIANTS = {
    "plain": {},
    "one asset": {"channels": "g"},
    "several assets": {"channels": "nir|r"},
    "padded": {"space_slice": (slice(-5, 50), slice(100, 140))},
    "scaled": {"scale": 0.5},
    "enlarged and padded": {"space_slice": (slice(-5, 15), slice(-4, 10)), "scale": 1.7},
    "reflected": {"space_slice": (slice(-5, 50), slice(100, 140)), "padkw": {"mode": "reflect"}},
    "as float": {"dtype": "float32"},
    "with NaN": {"nodata": "float"},
    "masked": {"nodata": "ma"},
    "of an exact size": {"output_dims": (17, 33)},
}


@pytest.mark.parametrize("lazy", [{}, {"lazy": True}, {"finalize": False}])
@pytest.mark.parametrize("form", [{"gid": 13}, {"gids": [13]}, {"vidid": 1}, {"vidid": 1, "time_slice": slice(2, 6)}])
@pytest.mark.parametrize("variant", VARIANTS)
def test_dims_coordinates_dtype_and_channel_order_are_as_promised(film, variant, form, lazy):
    keys = VARIANTS[variant]
    sample = film.sampler().load_sample({**form, **keys, **lazy})
    video = "gid" not in form
    dims = ("t", "c", "y", "x") if video else ("c", "y", "x")
    assert sample.image.dims == dims
    assert sample.c.values.tolist() == keys.get("channels", "r|g|nir").split("|")
    assert sample.image.dtype == (np.float32 if variant in ("as float", "with NaN") else np.uint16)
    y, x = keys.get("space_slice", (slice(0, 96), slice(0, 120)))
    scale = keys.get("scale", 1)
    n = keys.get("output_dims", (round((y.stop - y.start) * scale), round((x.stop - x.start) * scale)))
    for name, window, size in (("y", y, n[0]), ("x", x, n[1])):
        pitch = (window.stop - window.start) / size
        np.testing.assert_allclose(sample[name].values, window.start + (np.arange(size) + 0.5) * pitch)
    assert set(sample.coords) == {"c", "y", "x", "t", "gid", "frame_index"} - (
        set() if video else {"t", "gid", "frame_index"}
    )
    if "valid" in sample:
        assert sample.valid.dtype == bool
        assert sample.valid.dims in (dims, tuple(d for d in dims if d != "c"))
        assert variant == "masked" or not sample.valid.values.all()
    assert sample.bbox.dims == ("annot", "xywh")
    assert {sample[k].dims for k in ("annot_id", "category_id", "track_id", "frame")} == {("annot",)}
    if not lazy:
        assert isinstance(sample.image.data, np.ndarray)
        assert sample.image.data.flags.c_contiguous


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("form", [{"gid": 12}, {"vidid": 1, "time_slice": slice(1, 6)}])
def test_lazy_samples_are_the_eager_ones_read_later(film, variant, form):
    sampler = film.sampler()
    eager = sampler.load_sample({**form, **VARIANTS[variant]})
    lazy = sampler.load_sample({**form, **VARIANTS[variant]}, lazy=True)
    assert lazy.image.chunks is not None
    assert lazy.compute().identical(eager)
    assert lazy.ndzarr.transform.tolist() == eager.ndzarr.transform.tolist()


def test_lazy_samples_of_rotated_assets_are_the_eager_ones_read_later(multisensor):
    _, sampler = multisensor
    target = {"gid": 1, "channels": "X.2|r", "space_slice": (slice(0, 300), slice(0, 200))}
    assert sampler.load_sample(target, lazy=True).compute().identical(sampler.load_sample(target))


@pytest.mark.parametrize("hidden", ["by alpha", "by a mask"])
@pytest.mark.parametrize("keys", [{}, {"scale": 0.5}, {"nodata": "float"}, {"y": slice(-4, 9)}, {"y": slice(20, 30)}])
def test_lazy_samples_of_hidden_pixels_are_the_eager_ones_read_later(hidden, keys, tmp_path):
    rng, images = np.random.default_rng(0), []
    for k in range(2):
        pixels = rng.integers(1, 255, (32, 40, 4)).astype("u1")
        shown = np.arange(32)[:, None] > 5 * k + np.zeros(40)  # rows 20 to 30 are all real
        pixels[..., 3] = np.where(shown, 255, 0)
        if hidden == "by a mask":
            Image.fromarray(np.where(shown, 255, 0).astype("u1")).save(tmp_path / f"{k}.png.msk", "TIFF")
            pixels = pixels[..., :3]
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
        images.append({"id": k, "file_name": str(tmp_path / f"{k}.png"), "width": 40, "height": 32,
                       "video_id": 1, "frame_index": k})  # fmt: skip
    videos = [{"id": 1, "name": "film", "width": 40, "height": 32}]
    sampler = ndzarr.CocoSampler({"images": images, "videos": videos}, workdir=tmp_path / "work")
    for target in ({"gid": 1}, {"vidid": 1}, {"vidid": 1, "channels": "r|b"}):
        lazy, eager = sampler.load_sample({**target, **keys}, lazy=True), sampler.load_sample({**target, **keys})
        assert lazy.valid.dims == eager.valid.dims
        assert lazy.compute().identical(eager)
    for image in images:
        image["warp_img_to_vid"] = {"theta": 0.2}
    turned = ndzarr.CocoSampler({"images": images, "videos": videos}, workdir=tmp_path / "work")
    lazy, eager = turned.load_sample(vidid=1, lazy=True, **keys).compute(), turned.load_sample(vidid=1, **keys)
    assert lazy.image.identical(eager.image)
    assert (lazy.valid == eager.valid).all()


def test_missing_channels_keep_the_dtype_with_a_fill_and_valid_per_channel(film):  # ndsampler's defect 12
    sample = film.sampler().load_sample(vidid=1, padkw={"constant_values": 9})
    assert sample.image.dtype == np.uint16
    assert sample.valid.dims == ("t", "c", "y", "x")
    assert (sample.image.isel(t=2).sel(c="nir") == 9).all()
    assert not sample.valid.isel(t=2).sel(c="nir").any()
    assert sample.valid.isel(t=[0, 1]).all()


def test_t_holds_dates_where_all_frames_have_one_else_frame_indices(film):
    assert film.sampler().load_sample(vidid=1).t.dtype == np.dtype("datetime64[ns]")
    sample = film.sampler(date_captured=None).load_sample(gids=[12, 10])
    assert sample.t.values.tolist() == [2, 0]
    zoned = film.sampler(date_captured="2024-01-01T02:00:00+02:00").load_sample(gids=[10])
    assert zoned.t.values[0] == np.datetime64("2024-01-01T00:00:00")
    assert film.sampler(date_captured="last week").load_sample(gids=[11]).t.values.tolist() == [1]


@pytest.mark.parametrize(
    ("key", "value", "date"),
    [
        *[("date_captured", day, day) for day in ("0001-01-01", "1677-09-21", "2262-04-12", "9999-12-31")],
        ("date_captured", "1000-01-01T00:30:00.000001+01:00", "0999-12-31T23:30:00.000001"),
        ("date_captured", "2020:06:30 12:00:01", "2020-06-30T12:00:01"),
        ("date_captured", "2020:06:30 12:00:01.25+02:00", "2020-06-30T10:00:01.25"),
        ("date_captured", "1500:06:30", "1500-06-30"),
        ("timestamp", 1e10, "2286-11-20T17:46:40"),
        ("timestamp", -12e9, "1589-09-26T02:40:00"),
    ],
)  # fmt: skip
def test_dates_of_any_century_are_right(film, tmp_path, key, value, date):
    usual = "2024-05-01" if key == "date_captured" else 0
    content = copy.deepcopy(film.content)
    for image, when in zip(content["images"], (value, usual), strict=False):
        del image["date_captured"]
        image[key] = when
    sampler = ndzarr.CocoSampler(content, film.workdir)
    expected = [np.datetime64(d, "us").item() for d in (date, usual or "1970-01-01")]
    gids = [image["id"] for image in sampler.dset.dataset["images"][:2]]
    assert sampler.load_sample(gids=gids).t.values.astype("M8[us]").tolist() == expected
    batch = sampler.load_batch([{"gids": gids[:1]}, {"gids": gids[1:]}, {"gids": gids}])
    assert batch.time.values.astype("M8[us]")[[0, 1, 2, 2], [0, 0, 0, 1]].tolist() == 2 * expected
    assert np.isnat(batch.time.values[:2, 1]).all()
    store = sampler.extract([{"gids": gids[:1]}, {"gids": gids[1:]}], tmp_path / "crops.zarr", shard=1)
    fine = xarray.coders.CFDatetimeCoder(time_unit="us")
    with xarray.open_zarr(store, decode_times=fine) as stored:
        assert stored.time.values[:, 0].astype("M8[us]").tolist() == expected


def test_samples_behave_as_xarray_objects(film):
    sample = film.sampler().load_sample(vidid=1, channels="r|nir")
    assert sample.sel(c="nir", t="2024-05-02").image.shape == (1, 96, 120)
    assert sample.mean("t").image.dims == ("c", "y", "x")
    both = xarray.concat([sample, sample], "sample", data_vars="all", coords="minimal", join="exact", compat="override")
    assert both.sizes["sample"] == 2
    assert "image" in repr(sample)
    assert pickle.loads(pickle.dumps(sample)).identical(sample)


def test_direct_construction_equals_xarrays_public_constructor():
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 9, (2, 3, 4, 5)), rng.random((2, 4, 5)) > 0.5
    times = np.array(["2024-01-01", "2024-01-02"], "datetime64[ns]")
    made = dataset(
        {"image": (("t", "c", "y", "x"), image), "valid": (("t", "y", "x"), mask), "gid": (("t",), np.array([3, 4]))},
        {
            "t": axis("t", times),
            "c": names("c", ("r", "g", "b")),
            "y": centres("y", 8, 2.0, 4),
            "x": centres("x", -3, 1.5, 5),
        },
        ("gid",),
    )
    public = xarray.Dataset(
        {"image": (("t", "c", "y", "x"), image), "valid": (("t", "y", "x"), mask)},
        coords={
            "t": times, "c": ["r", "g", "b"], "y": 8 + (np.arange(4) + 0.5) * 2, "x": -3 + (np.arange(5) + 0.5) * 1.5,
            "gid": ("t", [3, 4]),
        },
    )  # fmt: skip
    assert made.identical(public)
    assert list(made.indexes) == list(public.indexes) or set(made.indexes) == set(public.indexes)
    for name in public.indexes:
        pd.testing.assert_index_equal(made.indexes[name], public.indexes[name])
    assert made.sel(c="g", y=9.0, method=None).identical(public.sel(c="g", y=9.0))
    assert made.isel(x=slice(1, 3)).identical(public.isel(x=slice(1, 3)))


@pytest.mark.parametrize("form", [{"gid": 11}, {"vidid": 1}])
def test_a_sample_equals_the_same_made_by_xarrays_public_constructor(film, form):
    sample = film.sampler().load_sample(form, space_slice=(slice(-4, 20), slice(3, 40)))
    public = xarray.Dataset(
        {k: (v.dims, v.values) for k, v in sample.data_vars.items()},
        coords={k: (v.dims, v.values) for k, v in sample.coords.items()},
    )
    assert sample.identical(public)


def test_the_accessor_of_other_datasets_says_that_there_is_nothing_to_know():
    with raises(ndzarr.NdzarrError, hint="Ask the sample as it was loaded"):
        _ = xarray.Dataset().ndzarr.transform
