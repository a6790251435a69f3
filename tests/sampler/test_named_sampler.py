"""Sampling without kwcoco."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import ndzarr
from ndzarr.errors import TargetError
from pictures import photo


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
