"""Sampling without kwcoco."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import ndzarr
from helpers.arrays import photo
from ndzarr.errors import NdzarrError, SourceError, TargetError


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
    with pytest.raises(TargetError, match="needs key, one of 'one', 'two'"):
        sampler.load_sample(y=slice(0, 3), x=slice(0, 3))
    with pytest.raises(TargetError, match="did you mean 'two'"):
        sampler.load_sample(key="tow")
    with pytest.raises(TargetError, match="CocoSampler"):
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
        with pytest.raises(TargetError, match="t="):
            sampler.load_sample(key="stack", t=odd, pad=(1, 0, 0))
    flat = ndzarr.transcode(pixels[0, 0], tmp_path / "flat.zarr")
    with pytest.raises(TargetError, match=r"along t.*has axes c y x"):
        ndzarr.Sampler({"flat": flat}).load_sample(pad=(1, 0, 0))


@pytest.mark.parametrize(
    "key",
    [{"dtype": "f4"}, {"nodata": "float"}, {"lazy": True}, {"padkw": {"mode": "edge"}}, {"window_dims": "extent"}],
)
def test_keys_that_would_do_nothing_are_refused(stack, key):
    with pytest.raises(TargetError, match=f"{next(iter(key))}.*needs a kwcoco dataset"):
        stack[1].load_sample(key="stack", **key)


def test_positions_that_cannot_be_meant_are_errors(stack, tmp_path):
    sampler = stack[1]
    with pytest.raises(TargetError, match="both t="):
        sampler.load_sample(key="stack", t=slice(0, 2), time_slice=slice(0, 3))
    for odd in (3, slice(6, 0, -2), [-1, 9], slice(0.5, 2), "1:3"):
        with pytest.raises(NdzarrError, match="t="):
            sampler.load_sample(key="stack", t=odd)


@pytest.mark.parametrize("source", [np.zeros((4, 4), "u1"), ["a.png", "b.png"], 5])
def test_what_is_no_source_is_refused_at_once(source):
    with pytest.raises(SourceError, match=r"expected a pyramid or a path; ndzarr\.transcode"):
        ndzarr.Sampler({"a": source})
