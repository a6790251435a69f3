"""Sliding windows over sources without a dataset."""

from __future__ import annotations

import numpy as np

import ndzarr
from helpers.errors import raises
from ndzarr.errors import TargetError


def test_windows_slide_over_named_pyramids_and_load(tmp_path):
    pixels = np.arange(50 * 70, dtype=np.uint16).reshape(50, 70)
    sampler = ndzarr.Sampler(
        {name: ndzarr.transcode(pixels[:h], tmp_path / f"{name}.zarr") for name, h in (("a", 50), ("b", 20))}
    )
    table = sampler.targets.grid((32, 32), 0.5, keep_borders="pad")
    assert table.groupby("key").size().to_dict() == {"a": 12, "b": 4}
    for _, row in table.iterrows():
        sample = sampler.load_sample(row)
        y, x = int(row.cy - 16), int(row.cx - 16)
        expected = pixels[: 50 if row.key == "a" else 20][y : y + 32, x : x + 32]
        np.testing.assert_array_equal(sample.image.values[0, : expected.shape[0], : expected.shape[1]], expected)
        assert sample.image.shape == (1, 32, 32)
    assert sampler.targets.grid("full", ids=["b"])[["width", "height"]].to_numpy().tolist() == [[70, 20]]
    with raises(TargetError, key="key", match="'c'"):
        sampler.targets.grid("full", ids=["c"])
