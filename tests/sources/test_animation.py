from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageSequence

from helpers.errors import raises
from ndzarr._formats.registry import open_source
from ndzarr.errors import SourceError

FORMS = {"GIF": {}, "PNG": {}, "WebP": {"lossless": True}}
DURATIONS = [100, 250, 50, 1000, 70]


def frames(photo: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(np.ascontiguousarray(np.roll(photo, 11 * i, axis=1))) for i in range(len(DURATIONS))]


def write(path, images, form, **more):
    images[0].save(path, form, save_all=True, append_images=images[1:], duration=DURATIONS, **FORMS[form], **more)


def as_pillow_reads(path, mode: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.stack([np.asarray(f.convert(mode)).transpose(2, 0, 1) for f in ImageSequence.Iterator(image)])


@pytest.mark.parametrize("form", FORMS)
def test_frames_are_along_t_with_their_times_in_seconds(form, photo, tmp_path, read_all):
    path = tmp_path / "image"
    write(path, frames(photo), form)
    with open_source(path) as source:
        assert source.dims == ("t", "c", "y", "x")
        assert source.shape == (5, 3, *photo.shape[:2])
        assert np.allclose(source.times, [0, 0.1, 0.35, 0.4, 1.4])
    assert np.array_equal(read_all(path), as_pillow_reads(path, "RGB"))


@pytest.mark.parametrize("form", FORMS)
def test_frames_can_be_read_in_any_order(form, photo, tmp_path):
    path = tmp_path / "image"
    write(path, frames(photo), form)
    want = as_pillow_reads(path, "RGB")
    with open_source(path) as source:
        for t in (3, 0, 4, 4, 1):
            got = source.read({"t": slice(t, t + 1), "c": slice(1, 3), "y": slice(5, 60), "x": slice(100, None)})
            assert np.array_equal(got, want[t : t + 1, 1:3, 5:60, 100:])
        assert np.array_equal(source.read({"t": slice(1, 4)}), want[1:4])


@pytest.mark.parametrize("form", FORMS)
def test_one_transparent_frame_gives_all_frames_alpha(form, photo, tmp_path, read_all):
    images = [f.convert("RGBA") for f in frames(photo)]
    hole = Image.new("L", images[2].size, 255)
    hole.paste(0, (10, 10, 90, 90))
    images[2].putalpha(hole)
    path = tmp_path / "image"
    write(path, images, form, **({"disposal": 2} if form == "GIF" else {}))
    want = as_pillow_reads(path, "RGBA")
    assert want[2, 3].min() == 0
    assert np.array_equal(read_all(path), want)


@pytest.mark.parametrize("form", FORMS)
def test_a_single_frame_has_no_t(form, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "image", form)
    with open_source(tmp_path / "image") as source:
        assert source.dims == ("c", "y", "x")
        assert source.times is None


def test_frames_without_durations_have_no_times(photo, tmp_path):
    path = tmp_path / "a.gif"
    images = frames(photo)
    images[0].save(path, save_all=True, append_images=images[1:])
    with open_source(path) as source:
        assert source.shape[0] == 5
        assert source.times is None


def test_the_still_of_an_animated_png_is_not_a_frame(photo, tmp_path, read_all):
    path = tmp_path / "a.png"
    images = frames(photo)
    still = Image.new("RGB", images[0].size)
    still.save(path, save_all=True, append_images=images[:3], default_image=True, duration=DURATIONS[:3])
    assert np.array_equal(read_all(path), np.stack([np.asarray(f).transpose(2, 0, 1) for f in images[:3]]))


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_animation_is_an_error(form, photo, tmp_path):
    path = tmp_path / "image"
    write(path, frames(photo), form)
    path.write_bytes(path.read_bytes()[:-200])
    with raises(SourceError, hint="truncated"), open_source(path) as source:
        source.read({})


def test_a_gif_that_may_lack_frames_says_so(photo, tmp_path):
    path = tmp_path / "a.gif"
    write(path, frames(photo), "GIF")
    path.write_bytes(path.read_bytes()[:-1])
    with open_source(path) as source:
        assert "trailer" in source.metadata["notes"][0]
