"""Arrays (y, x, c) that tifffile wrote row by row, one page each, are read as the images that they are."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from helpers.arrays import photo
from helpers.transcoded import transcoded
from ndzarr._formats.registry import open_source
from ndzarr.errors import SourceError


def written(path, samples: int, dtype="u2", **options) -> np.ndarray:
    image = np.dstack([photo(40, 30, seed)[..., 0] for seed in range(samples)]).astype(dtype)
    tifffile.imwrite(path, image, photometric="minisblack", planarconfig=None, **options)
    return image


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_picture_of_two_channels_is_one_image_not_a_stack_of_rows(tmp_path, byteorder):
    image = written(tmp_path / "a.tif", 2, byteorder=byteorder)
    pyramid = transcoded(tmp_path / "a.tif")
    assert pyramid.dims == ("c", "y", "x")
    np.testing.assert_array_equal(pyramid.read(), image.transpose(2, 0, 1))
    with open_source(tmp_path / "a.tif") as source:
        window = {"c": slice(1, 2), "y": slice(7, 30), "x": slice(3, 9)}
        np.testing.assert_array_equal(source.read(window), image[7:30, 3:9, 1:2].transpose(2, 0, 1))


def test_a_picture_of_many_channels_needs_its_size_or_its_axes(tmp_path):
    image = written(tmp_path / "a.tif", 7)
    pyramid = transcoded(tmp_path / "a.tif")
    assert pyramid.dims == ("t", "c", "y", "x"), "as it stands, these are 40 pages of 30 x 7 pixels"
    for options in ({"orient": (30, 40)}, {"axes": "yxc"}):
        pyramid = transcoded(tmp_path / "a.tif", **options)
        np.testing.assert_array_equal(pyramid.read(), image.transpose(2, 0, 1))


def test_a_real_stack_stays_a_stack(tmp_path):
    stack = np.stack([photo(40, 30, seed)[..., 0] for seed in range(9)])
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    pyramid = transcoded(tmp_path / "a.tif")
    assert pyramid.shape == (9, 1, 40, 30)
    pyramid = transcoded(tmp_path / "a.tif", orient=(30, 40))
    assert pyramid.shape == (9, 1, 40, 30)
    with pytest.raises(SourceError, match="expected 31 x 40"):
        transcoded(tmp_path / "a.tif", orient=(31, 40))
