"""Sampling without kwcoco."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from PIL import Image

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr.errors import NdzarrError, SourceError, TargetError, WindowError


@pytest.fixture
def files(tmp_path):
    for k in (1, 2):
        Image.fromarray(photo(90, 120, k)).save(tmp_path / f"{k}.png")
    return {"one": tmp_path / "1.png", "two": str(tmp_path / "2.png")}


def test_files_are_transcoded_on_first_touch_and_padded_outside(files, tmp_path):
    sampler = ndzarr.Sampler(files, workdir=tmp_path / "work")
    sample = sampler.load_sample({"key": "two", "y": slice(-4, 60), "x": slice(80, 144)})
    assert sample.image.shape == (3, 64, 64)
    np.testing.assert_array_equal(sample.image.values[:, 4:, :40], photo(90, 120, 2)[:60, 80:].transpose(2, 0, 1))
    assert sample.valid.values.sum() == 60 * 40
    assert (sample.ndzarr.transform @ [0, 0, 1]).tolist() == [80, -4, 1]


def test_stores_and_pyramids_are_used_where_they_are(files, tmp_path):
    store = ndzarr.transcode(files["one"], tmp_path / "one.zarr")
    sampler = ndzarr.Sampler([store, tmp_path / "one.zarr"], workdir=tmp_path / "work")
    a, b = (sampler.load_sample(key=k, cx=50, cy=50, width=20, height=10, scale=2) for k in (0, 1))
    assert a.identical(b)
    assert a.image.shape == (3, 20, 40)
    assert not (tmp_path / "work").exists() or not list((tmp_path / "work").iterdir())


def test_a_single_source_needs_no_key_and_several_do(files, tmp_path):
    assert ndzarr.Sampler([files["one"]], workdir=tmp_path / "w").load_sample(channels="g").image.shape == (1, 90, 120)
    sampler = ndzarr.Sampler(files, workdir=tmp_path / "w")
    with raises(TargetError, key="key", match="'one', 'two'"):
        sampler.load_sample(y=slice(0, 3), x=slice(0, 3))
    with raises(TargetError, key="key", match="did you mean 'two'"):
        sampler.load_sample(key="tow")
    with raises(TargetError, key="vidid", hint="CocoSampler"):
        sampler.load_sample(gid=1)


def test_frames_and_planes_are_windows_too(tmp_path):
    stack = np.random.default_rng(0).integers(0, 99, (6, 2, 5, 40, 30)).astype("u2")
    pyramid = ndzarr.transcode(stack, tmp_path / "s.zarr", axes="tczyx")
    sampler = ndzarr.Sampler({"stack": pyramid}, workdir=tmp_path / "w")
    window = {"key": "stack", "t": slice(3, 5), "z": slice(0, 4), "y": slice(0, 8), "x": slice(4, 9)}
    sample = sampler.load_sample(window)
    assert sample.image.dims == ("t", "c", "z", "y", "x")
    np.testing.assert_array_equal(sample.image.values, stack[3:5, :, 0:4, 0:8, 4:9])
    assert sample.ndzarr.draw().size[0] > 0


def test_plan_and_prepare(files, tmp_path):
    sampler = ndzarr.Sampler(files, workdir=tmp_path / "work")
    sampler.prepare()
    assert len(list((tmp_path / "work").glob("*.zarr"))) == 2
    assert sampler.plan([{"key": "one"}, {"key": "two"}]).explain().windows == 2
    assert "2 sources" in repr(sampler)


@pytest.fixture
def stack(tmp_path):
    """Pixels (t, z, y, x), and a sampler of them."""
    pixels = np.random.default_rng(0).integers(1, 255, (7, 5, 40, 50), dtype=np.uint8)
    pyramid = ndzarr.transcode(pixels, tmp_path / "s.zarr", axes="tzyx", access="tubes")
    return pixels, ndzarr.Sampler({"stack": pyramid}, workdir=tmp_path / "w")


@pytest.mark.parametrize(
    "time",
    [
        {"t": slice(1, 6, 2)},
        {"t": [1, 3, 5]},
        {"time_slice": slice(1, 6, 2)},
        {"time_start": 1, "time_stop": 6, "time_step": 2},
        {"slices": (slice(1, 6, 2), slice(0, 40), slice(0, 50))},
    ],
)
def test_time_may_be_given_in_every_way_that_targets_know(stack, time):
    pixels, sampler = stack
    sample = sampler.load_sample(key="stack", **time)
    np.testing.assert_array_equal(sample.image.values[:, 0], pixels[1:6:2])
    assert sample.t.values.tolist() == [1, 3, 5]


def test_windows_have_the_size_that_was_asked_for_and_context(stack):
    pixels, sampler = stack
    centre = {"key": "stack", "t": [6], "z": [4, 0], "cx": 20, "cy": 20}
    sample = sampler.load_sample(centre, window_dims=(8, 6), pad=(1, 2))
    np.testing.assert_array_equal(sample.image.values[0, 0], pixels[6, [4, 0], 15:25, 15:25])
    small = sampler.load_sample(centre, width=16, height=8, output_dims=(3, 5))
    assert small.image.shape[-2:] == (3, 5)
    batch = sampler.load_batch([centre | {"width": n, "height": n} for n in (8, 16)], output_dims=(7, 7))
    assert batch.image.shape == (2, 1, 1, 2, 7, 7)


def test_context_in_time_is_padded_like_that_in_space(stack, tmp_path):
    pixels, sampler = stack
    sample = sampler.load_sample(key="stack", t=slice(1, 6, 2), z=slice(0, 1), pad=(2, 3, 0))
    assert sample.t.values.tolist() == [-3, -1, 1, 3, 5, 7, 9]
    np.testing.assert_array_equal(sample.image.values[2:5, 0, 0, 3:-3], pixels[1:6:2, 0])
    assert sample.valid.sum().item() == 3 * 40 * 50
    whole = sampler.load_sample(key="stack", pad=((0, 1), (0, 0), (0, 0)))
    assert whole.t.values.tolist() == list(range(8))

    for odd in (slice(0, 4, 0), slice(4, 2), slice(0.5, 2), [1, 2]):
        with raises(TargetError, key="pad" if isinstance(odd, list) else "t"):
            sampler.load_sample(key="stack", t=odd, pad=(1, 0, 0))
    flat = ndzarr.transcode(pixels[0, 0], tmp_path / "flat.zarr")
    with raises(TargetError, key="pad", hint="Give pad=(y, x)"):
        ndzarr.Sampler({"flat": flat}).load_sample(pad=(1, 0, 0))


# Every key that needs no annotation means the same as with a CocoSampler.


@pytest.fixture
def photos(tmp_path):
    """Pixels (c, y, x), and samplers of them by name and as a dataset."""
    pixels = photo(90, 120, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = {"id": 1, "file_name": str(tmp_path / "a.png"), "width": 120, "height": 90}
    named = ndzarr.Sampler({"a": tmp_path / "a.png"}, workdir=tmp_path / "w")
    return pixels.transpose(2, 0, 1), named, ndzarr.CocoSampler({"images": [image]}, tmp_path / "w")


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"cx": 60, "cy": 40, "width": 30, "height": 20},
        {"cx": 60, "cy": 40, "width": 30.2, "height": 20, "window_dims": "square"},
        {"cx": 60, "cy": 40, "width": 30, "height": 20, "window_dims": "extent"},
        {"cx": 60, "cy": 40, "window_dims": (16, 24)},
        {"space_slice": (slice(-10, 50), slice(90, 150))},
        {"slices": (slice(0, 50), slice(9, 15))},
        {"y": slice(-8, 24), "x": slice(None), "nodata": "float"},
        {"y": slice(-8, 24), "nodata": "ma"},
        {"y": slice(-8, 24), "nodata": "fill", "fill": 7},
        {"y": slice(-8, 24), "nodata": "auto", "dtype": "f8"},
        {"y": slice(-8, 24), "x": slice(-9, 60), "padkw": {"mode": "reflect"}},
        {"y": slice(-8, 24), "x": slice(-9, 60), "padkw": {"mode": "constant", "constant_values": 9}},
        {"y": slice(-8, 24), "fill": 5},
        {"y": slice(4, 24), "pad": 6},
        {"y": slice(4, 24), "pad": ((1, 2), (3, 4))},
        {"dtype": "f4"},
        {"dtype": "i2", "scale": 0.5},
        {"scale": (0.5, 0.25)},
        {"scale": 2, "interpolation": "linear"},
        {"scale": 0.3, "interpolation": "nearest", "antialias": False},
        {"output_dims": (33, 17)},
        {"channels": "b|r"},
        {"channels": ["g"]},
        {"cx": 60, "cy": 40, "width": 30, "height": 20, "lazy": True, "y": None, "nodata": "float"},
    ],
    ids=str,
)
def test_keys_mean_the_same_as_with_a_dataset(photos, keys):
    _, named, dataset = photos
    sample, expected = named.load_sample(keys, key="a"), dataset.load_sample(keys, gid=1, with_annots=False)
    assert sample.identical(expected)
    assert (sample.chunks == {}) != keys.get("lazy", False)
    assert (sample.ndzarr.transform == expected.ndzarr.transform).all()
    again = named.load_sample({k: v for k, v in sample.ndzarr.target.items() if k != "lazy"})
    assert again.identical(sample.compute())


def test_native_scale_is_a_tree_of_one_child(photos):
    pixels, named, dataset = photos
    window = {"y": slice(10, 30), "x": slice(20, 50)}
    tree = named.load_native(window)
    assert tree.identical(named.load_sample(window, use_native_scale=True, realign_native="largest"))
    assert tree.identical(dataset.load_native(window, gid=1, with_annots=False))
    np.testing.assert_array_equal(tree["0/r|g|b"].image, pixels[:, 10:30, 20:50])
    assert named.plan({"use_native_scale": True}).shapes == (pixels.shape,)


def test_bounds_and_resolution_need_a_georeference(tmp_path):
    plain = ndzarr.Sampler([ndzarr.transcode(photo(90, 120, 3), tmp_path / "b.zarr")])
    with raises(TargetError, key="resolution", hint="Use scale"):
        plain.load_sample(resolution=4)
    with raises(TargetError, key="bounds", hint="Give a window in pixels"):
        plain.load_sample(bounds=(0, 0, 5, 5))


@pytest.mark.parametrize("dims", ["zyx", "tcyx", "ctyx", "czyx", "yx"])
def test_arrays_of_any_axes_have_them_in_order(tmp_path, dims):
    sizes = {"t": 5, "c": 3, "z": 4, "y": 40, "x": 50}
    pixels = np.random.default_rng(0).integers(1, 255, [sizes[d] for d in dims], dtype=np.uint8)
    array = zarr.create_array(tmp_path / "a.zarr", data=pixels, chunks=pixels.shape, dimension_names=tuple(dims))
    sampler = ndzarr.Sampler([array.store.root])
    ordered = [d for d in "tczyx" if d in dims]
    pixels, dims = pixels.transpose([dims.index(d) for d in ordered]), ordered
    window = {"t": [3, 0], "z": slice(1, 4, 2), "y": slice(5, 20), "x": slice(-4, 30)}
    window = {d: s for d, s in window.items() if d in dims}
    sample = sampler.load_sample(window, nodata="float", dtype="f4")
    assert sample.image.dims == tuple(dims)
    index = np.ix_(*[np.arange(sizes[d])[s] for d, s in ((d, window.get(d, slice(None))) for d in dims[:-2])])
    inside = sample.image.isel(x=slice(4, None)).values
    np.testing.assert_array_equal(inside, pixels[index][..., 5:20, :30] if dims[:-2] else pixels[5:20, :30])
    assert np.isnan(sample.image.isel(x=slice(0, 4))).all()
    assert sample.valid.dims == tuple(d for d in dims if d != "c")
    if "c" in dims:
        assert sampler.load_sample(window, channels=str(sample.c.values[1])).sizes["c"] == 1
    absent = "z" if "z" not in dims else "t"
    with raises(WindowError, path=tmp_path / "a.zarr", key=absent, window={absent: slice(0, 1)}):
        sampler.load_sample({absent: slice(0, 1)})


def test_positions_that_cannot_be_meant_are_errors(stack, tmp_path):
    sampler = stack[1]
    with raises(TargetError, key="time_slice", hint="Give only one of them"):
        sampler.load_sample(key="stack", t=slice(0, 2), time_slice=slice(0, 3))
    for odd in (3, slice(6, 0, -2), [-1, 9], slice(0.5, 2), "1:3"):
        with raises(NdzarrError, key="t"):
            sampler.load_sample(key="stack", t=odd)


@pytest.mark.parametrize("source", [np.zeros((4, 4), "u1"), ["a.png", "b.png"], 5])
def test_what_is_no_source_is_refused_at_once(source):
    with raises(SourceError, key="a", hint="Make a pyramid of arrays"):
        ndzarr.Sampler({"a": source})
