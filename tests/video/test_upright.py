"""Is a video shown the way up that its container states?"""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import ndzarr
from helpers import video_clips
from ndzarr.errors import SourceError

TURNS = {
    (1, 0, 0, 1): lambda a: a,
    (0, 1, -1, 0): lambda a: np.rot90(a, -1, (-2, -1)),
    (-1, 0, 0, -1): lambda a: np.rot90(a, 2, (-2, -1)),
    (0, -1, 1, 0): lambda a: np.rot90(a, 1, (-2, -1)),
    (-1, 0, 0, 1): lambda a: a[..., ::-1],
    (1, 0, 0, -1): lambda a: a[..., ::-1, :],
    (0, 1, 1, 0): lambda a: a.swapaxes(-1, -2),
}
"""(a, b, c, d) of the display matrix, where x' = a x + c y and y' = b x + d y, to what it does to (..., y, x)."""


@pytest.mark.parametrize("matrix", TURNS, ids=str)
def test_the_display_matrix_is_applied(matrix, tmp_path):
    path = video_clips.encode(tmp_path / "a.mp4", n=20, options={"g": "6"})
    video_clips.patch_matrix(path, matrix)
    truth = TURNS[matrix](np.stack([video_clips.converted(frame) for frame in video_clips.decoded(path)]))
    stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert_array_equal(stored.read(), truth)
    opened = ndzarr.open(path)
    assert opened.shape == truth.shape
    window = {"t": slice(7, 9), "y": slice(3, 30), "x": slice(8, 33)}
    assert_array_equal(opened.read(**window), truth[7:9, :, 3:30, 8:33])
    assert_array_equal(opened.read(), truth)


def test_orient_false_leaves_frames_as_they_are_stored(tmp_path):
    path = video_clips.encode(tmp_path / "a.mp4", n=3)
    video_clips.patch_matrix(path, (0, 1, -1, 0))
    stored = ndzarr.transcode(path, tmp_path / "a.zarr", orient=False)
    assert video_clips.numbers(stored.read()) == [0, 1, 2]
    assert stored.attrs["ndzarr"]["source"]["orientation"] == {"tag": 6, "applied": False}
    with pytest.raises(SourceError, match="expected 10 x 10 pixels"):
        ndzarr.transcode(path, tmp_path / "b.zarr", orient=(10, 10))


@pytest.mark.parametrize(("matrix", "said"), [((1, 0, 0, 1), "4:3"), ((0, 1, -1, 0), "3:4")])
def test_the_shape_of_pixels_is_recorded_upright(matrix, said, tmp_path):
    from fractions import Fraction

    path = video_clips.encode(tmp_path / "a.mp4", n=3, colour={"sample_aspect_ratio": Fraction(4, 3)})
    video_clips.patch_matrix(path, matrix)
    stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert stored.attrs["ndzarr"]["source"]["pixel_aspect"] == said


def test_what_lies_beside_a_frame_and_has_no_name_in_pyav_does_not_hide_its_matrix(tmp_path):
    path = video_clips.encode(tmp_path / "a.mov", "tiff", n=3, pix_fmt="rgb24")
    assert video_clips.numbers(ndzarr.transcode(path, tmp_path / "a.zarr").read()) == [0, 1, 2]
    video_clips.patch_matrix(path, (0, 1, -1, 0))
    assert ndzarr.open(path).shape == (3, 3, 160, 64)
