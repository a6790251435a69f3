"""A kwcoco video as one pyramid."""

from __future__ import annotations

import numpy as np
import pytest
from kwcoco import CocoDataset

import ndzarr
from helpers.errors import raises
from ndzarr.errors import ExistsError, TargetError


@pytest.mark.parametrize("demo", ["vidshapes1-frames5", "vidshapes1-frames3-multispectral"])
def test_a_video_becomes_the_pyramid_of_its_sample(tmp_path, demo):
    sampler = ndzarr.CocoSampler(CocoDataset.demo(demo, verbose=0), workdir=tmp_path)
    whole = sampler.load_sample(vidid=1)
    pyramid = sampler.transcode_video(1, tmp_path / "video.zarr", access="tubes")
    assert pyramid.dims == ("t", "c", "y", "x")
    assert pyramid.channels == tuple(whole.c.values)
    np.testing.assert_array_equal(pyramid.read(), whole.image.values)
    assert pyramid.attrs["ndzarr"]["source"]["gids"] == whole.gid.values.tolist()
    assert ndzarr.verify(pyramid.path).ok


def test_it_may_hold_some_channels_and_keeps_dates(tmp_path):
    dset = CocoDataset.demo("vidshapes1-frames3-multispectral", verbose=0)
    for k, image in enumerate(dset.dataset["images"]):
        image["date_captured"] = f"2024-01-0{k + 1}T00:00:00"
    sampler = ndzarr.CocoSampler(dset, workdir=tmp_path)
    pyramid = sampler.transcode_video(1, tmp_path / "video.zarr", channels="B11|B8")
    assert pyramid.channels == ("B11", "B8")
    np.testing.assert_array_equal(pyramid.read(), sampler.load_sample(vidid=1, channels="B11|B8").image.values)
    assert pyramid.times == (0, 86400, 2 * 86400)
    assert pyramid.attrs["ndzarr"]["source"]["time_origin"].startswith("2024-01-01")


def test_what_cannot_be_written_says_why(tmp_path):
    sampler = ndzarr.CocoSampler(CocoDataset.demo("vidshapes1-frames3", verbose=0), workdir=tmp_path)
    with raises(TargetError, key="vidid"):
        sampler.transcode_video(9, tmp_path / "video.zarr")
    (tmp_path / "video.zarr").mkdir()
    (tmp_path / "video.zarr" / "precious").touch()
    with pytest.raises(ExistsError):
        sampler.transcode_video(1, tmp_path / "video.zarr")
