"""What a pyramid looks like at a prompt and in a notebook."""

import base64
import io
import re

import numpy as np
import pytest
import zarr
from PIL import Image

import ndzarr
from helpers.arrays import DTYPES, random_array
from helpers.pyramids import make
from ndzarr._pyramid.repr import THUMBNAIL, displayable, thumbnail


def picture(pyramid):
    """The PNG in the HTML."""
    found = re.search(r"src='data:image/png;base64,([^']+)'", pyramid._repr_html_())
    assert found
    image = Image.open(io.BytesIO(base64.b64decode(found[1])))
    assert image.format == "PNG"
    return np.asarray(image)


def test_the_text_says_what_there_is(tmp_path):
    pyramid = make(tmp_path, random_array((3, 300, 301), "u2"), channels=("red", "green", "blue"), nodata=9.0)
    text = repr(pyramid)
    for words in (
        "ndzarr.Pyramid 'a.zarr'",
        "c: 3, y: 300, x: 301",
        "uint16",
        "red green blue",
        "nodata   9",
        pyramid.path,
        "level 0  3 x 300 x 301, in chunks of 3 x 128 x 128",
        "level 1  3 x 150 x 151",
    ):
        assert words in text
    assert "kind" not in text
    assert repr(pyramid.levels[1]) == "<Level 1/2: 3 x 150 x 151, chunks 3 x 128 x 128>"


def test_labels_and_many_channels_are_told_in_short(tmp_path):
    array = random_array((40, 20, 20), "u1")
    pyramid = make(tmp_path, array, channels=tuple(f"band{i}" for i in range(40)), kind="labels")
    assert "labels" in repr(pyramid)
    assert "band9 ... band39 (40)" in repr(pyramid)
    assert "band11" not in repr(pyramid)


def test_the_html_has_a_picture_of_the_image_and_all_that_the_text_says(tmp_path):
    array = random_array((3, 300, 410), "u1")
    pyramid = make(tmp_path, array, channels=("red", "green", "blue"))
    html = pyramid._repr_html_()
    for words in ("level 0", "3 x 300 x 410, in chunks of 3 x 128 x 128", "red green blue", "channels", pyramid.path):
        assert words in html
    shown = picture(pyramid)
    assert shown.shape[2] == 3
    assert max(shown.shape) <= THUMBNAIL
    level = pyramid.read(level=1)
    step = -(-205 // THUMBNAIL)
    assert np.array_equal(shown, np.moveaxis(level[:, ::step, ::step], 0, -1))


def test_names_are_escaped_in_html(tmp_path):
    pyramid = make(tmp_path, random_array((2, 20, 20), "u1"), channels=("<b>", "a&b"))
    html = pyramid._repr_html_()
    assert "&lt;b&gt;" in html
    assert "a&amp;b" in html
    assert "<b>a" not in html


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_every_type_has_a_picture(tmp_path, dtype, channels):
    array = random_array((channels, 30, 40), dtype)
    assert picture(make(tmp_path, array)).shape == (30, 40, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0, 3e38])
def test_values_that_cannot_be_shown_do_not_keep_the_others_from_being(tmp_path, value):
    array = np.linspace(0, 1, 900, dtype="f4").reshape(1, 30, 30)
    array[0, 0, :3] = value
    shown = picture(make(tmp_path, array))
    assert shown[5:].min() < 100
    assert shown[5:].max() > 150
    assert picture(make(tmp_path, np.full_like(array, value), overwrite=True)).shape == (30, 30, 3)


def test_labels_are_shown_from_the_least_to_the_greatest():
    assert displayable(np.array([[[0, 1, 2]]], "u1"), "labels")[0, :, 0].tolist() == [0, 128, 255]
    assert displayable(np.array([[[0, 1, 2]]], "u1"))[0, :, 0].tolist() == [0, 1, 2]
    assert displayable(np.full((1, 2, 2), 7, "u1"), "labels").tolist() == [[[0] * 3] * 2] * 2


def test_videos_and_volumes_show_their_first_frame_and_plane(tmp_path):
    array = random_array((4, 3, 2, 30, 40), "u1")
    pyramid = make(tmp_path, array, ("t", "c", "z", "y", "x"))
    assert np.array_equal(thumbnail(pyramid), np.moveaxis(array[0, :, 0], 0, -1))
    assert picture(pyramid).shape == (30, 40, 3)


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((20, 30), None),
        ((20, 30), ("lat", "lon")),
        ((2, 3, 4, 20, 30), ("t", "c", "z", "y", "x")),
    ],
)
def test_arrays_of_any_number_of_axes_are_shown(tmp_path, shape, names):
    zarr.create_array(
        tmp_path / "a", shape=shape, chunks=tuple(max(1, n) for n in shape), dtype="u1", dimension_names=names
    )
    pyramid = ndzarr.open(tmp_path / "a")
    assert "uint8" in repr(pyramid)
    assert "uint8" in pyramid._repr_html_()
