"""A list of images, or a pattern, is one source."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import ndzarr
from ndzarr.errors import MissingError, OptionError, SourceError
from ndzarr.sources import open_source


@pytest.fixture
def frames(tmp_path, rng):
    """Twelve small photographs frame1.png to frame12.png, and their pixels (t, c, y, x)."""
    pixels = rng.integers(0, 255, (12, 3, 21, 34), dtype=np.uint8)
    for number, one in enumerate(pixels, 1):
        Image.fromarray(np.moveaxis(one, 0, -1).copy()).save(tmp_path / f"frame{number}.png")
    return tmp_path, pixels


def test_a_pattern_sorts_numbers_in_names_as_numbers(frames, read_all):
    folder, pixels = frames
    np.testing.assert_array_equal(read_all(str(folder / "frame*.png")), pixels)


def test_a_list_keeps_its_order_and_may_repeat(frames, read_all):
    folder, pixels = frames
    order = [4, 1, 1, 11]
    np.testing.assert_array_equal(read_all([folder / f"frame{k + 1}.png" for k in order]), pixels[order])


def test_images_of_a_list_may_be_planes(frames, read_all):
    folder, pixels = frames
    with open_source(str(folder / "*.png"), stack="z") as source:
        assert source.dims == ("c", "z", "y", "x")
        np.testing.assert_array_equal(source.read({"z": slice(3, 5)}), pixels[3:5].swapaxes(0, 1))


def test_arrays_and_files_mix(frames, read_all):
    folder, pixels = frames
    np.testing.assert_array_equal(read_all([pixels[0], folder / "frame2.png"], axes=None), pixels[:2])


def test_more_frames_than_are_kept_open_are_read(tmp_path, rng):
    pixels = rng.integers(0, 255, (70, 8, 9), dtype=np.uint8)
    for number, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / f"{number}.png")
    pyramid = ndzarr.transcode(str(tmp_path / "*.png"), tmp_path / "all.zarr", access="tubes")
    np.testing.assert_array_equal(pyramid.read()[:, 0], pixels)
    assert pyramid.attrs["ndzarr"]["source"]["frame_format"] == "PNG"


@pytest.mark.parametrize(
    ("odd", "what"),
    [
        (np.zeros((3, 21, 35), "u1"), "shape"),
        (np.zeros((3, 21, 34), "u2"), "dtype"),
        (np.zeros((21, 34), "u1"), "shape"),
    ],
)
def test_a_frame_that_differs_is_named(frames, tmp_path, odd, what):
    folder, _ = frames
    with pytest.raises(SourceError, match=rf"frame 1 has {what} .*first, .*frame1\.png"):
        ndzarr.transcode([folder / "frame1.png", odd], tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


def test_a_missing_frame_is_found_before_anything_is_read(frames, tmp_path):
    folder, _ = frames
    with pytest.raises(MissingError, match=r"frame99\.png: there is no such file, which is one of 2 frames"):
        ndzarr.transcode([folder / "frame1.png", folder / "frame99.png"], tmp_path / "out.zarr")


def test_nothing_to_stack_is_an_error(tmp_path):
    with pytest.raises(MissingError, match="no file matches"):
        open_source(str(tmp_path / "*.png"))
    with pytest.raises(SourceError, match="empty list"):
        open_source([])


def test_other_axes_are_refused(frames):
    folder, _ = frames
    with pytest.raises(OptionError, match="stack='c'"):
        open_source(str(folder / "*.png"), stack="c")


def test_a_frame_with_an_axis_t_of_its_own_is_refused():
    with pytest.raises(SourceError, match="axis t of its own"):
        open_source([np.zeros((4, 1, 8, 8), "u1")], axes="tcyx")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path, rng, read_all):
    pixels = rng.integers(0, 255, (8, 9), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a[1].png")
    np.testing.assert_array_equal(read_all(str(tmp_path / "a[1].png"))[0], pixels)
