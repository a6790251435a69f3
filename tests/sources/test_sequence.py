"""A list of images, or a pattern, is one source."""

from __future__ import annotations

import os
from contextlib import suppress

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

import ndzarr
from helpers.errors import raises
from ndzarr._formats.registry import open_source
from ndzarr._pyramid.transcode import write_pyramid
from ndzarr._store.presets import Encoding
from ndzarr.errors import MissingError, OptionError, SourceError


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
    with raises(SourceError, match=rf"frame 1 has {what} .*frame1\.png"):
        ndzarr.transcode([folder / "frame1.png", odd], tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


def test_a_missing_frame_is_found_before_anything_is_read(frames, tmp_path):
    folder, _ = frames
    with raises(
        MissingError,
        path=tmp_path / "frame99.png",
        match="one of 2 frames",
    ):
        ndzarr.transcode([folder / "frame1.png", folder / "frame99.png"], tmp_path / "out.zarr")


def test_nothing_to_stack_is_an_error(tmp_path):
    with raises(MissingError, hint="Check its directory"):
        open_source(str(tmp_path / "*.png"))
    with raises(SourceError, hint="Name at least one file"):
        open_source([])


def test_other_axes_are_refused_of_single_files_too(frames):
    folder, _ = frames
    for source in (str(folder / "*.png"), folder / "frame1.png"):
        with raises(OptionError, key="stack"):
            open_source(source, stack="c")


def test_a_pattern_may_be_a_path_and_begin_at_home(frames, read_all, monkeypatch):
    folder, pixels = frames
    np.testing.assert_array_equal(read_all(folder / "frame*.png"), pixels)
    monkeypatch.setenv("HOME", str(folder))
    np.testing.assert_array_equal(read_all("~/frame*.png"), pixels)
    np.testing.assert_array_equal(read_all(["~/frame3.png", "~/frame1.png"]), pixels[[2, 0]])


@pytest.mark.parametrize("access", ["frames", "tubes"])
def test_a_broken_frame_is_named_and_nothing_is_left(frames, tmp_path, access):
    folder, _ = frames
    broken = folder / "frame7.png"
    broken.write_bytes(broken.read_bytes()[:400])
    with raises(SourceError, path=tmp_path / "frame7.png"):
        ndzarr.transcode(str(folder / "frame*.png"), tmp_path / "out.zarr", access=access)
    assert not [p for p in tmp_path.iterdir() if "zarr" in p.name]


def test_a_frame_that_changes_meanwhile_is_named(frames, tmp_path):
    folder, _ = frames
    with open_source(str(folder / "frame*.png")) as source:
        source.read({"t": slice(0, 12)})
        changed = folder / "frame5.png"
        changed.write_bytes(changed.read_bytes() + b" ")
        with raises(SourceError, path=tmp_path / "frame5.png", hint="Transcode it once it is complete"):
            write_pyramid(source, tmp_path / "out.zarr", Encoding())
    assert not (tmp_path / "out.zarr").exists()


def test_the_store_tells_which_frames_it_was_made_of(frames, tmp_path):
    folder, _ = frames

    def record(name):
        about = ndzarr.transcode(sorted(folder.glob("frame*.png")), tmp_path / name).attrs["ndzarr"]["source"]
        return about["frames"], about["frames_sha256"]

    before = record("a.zarr")
    assert before[0] == 12
    assert record("b.zarr") == before
    (folder / "frame2.png").write_bytes((folder / "frame2.png").read_bytes() + b" ")
    assert record("c.zarr") != before


def test_what_only_some_frames_say_is_not_said_of_all(tmp_path):
    for k in range(3):
        scale = [(33550, "d", 3, (0.5, 0.5, 0.0)), (33922, "d", 6, (0, 0, 0, 100.0 + 9 * (k == 2), 200, 0))]
        tifffile.imwrite(tmp_path / f"{k}.tif", np.zeros((20, 30), "u2"), extratags=[(*tag, True) for tag in scale])
    alike = ndzarr.transcode([tmp_path / f"{k}.tif" for k in (0, 1)], tmp_path / "alike.zarr")
    assert alike.georeference.transform == (0.5, 0, 100, 0, -0.5, 200)
    moved = ndzarr.transcode([tmp_path / f"{k}.tif" for k in (0, 2)], tmp_path / "moved.zarr")
    assert moved.georeference is None or moved.georeference.transform is None
    assert moved.attrs["ndzarr"]["source"]["compression"] == "none"


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="reads Linux' own list of open files")
def test_only_the_frames_of_a_window_are_held(frames):
    folder, pixels = frames
    with open_source(str(folder / "frame*.png")) as source:
        for start in (0, 8, 3):
            found = source.read({"t": slice(start, start + 3)})
            np.testing.assert_array_equal(found, pixels[start : start + 3])
            assert len(_open_below(folder)) <= 3


def _open_below(folder):
    """Files in a folder that this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the list itself
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [path for path in found if path.startswith(f"{folder}/")]


def test_photographs_are_turned_upright_and_palettes_become_colours(tmp_path, rng, read_all):
    pixels = rng.integers(0, 255, (2, 16, 24, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x112] = 6
    for k, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / f"turned{k}.jpg", exif=exif)
        Image.fromarray(one).quantize(16 + k).save(tmp_path / f"palette{k}.png")
    upright = [np.moveaxis(np.asarray(ImageOps.exif_transpose(Image.open(p))), -1, 0) for p in tmp_path.glob("*.jpg")]
    assert sorted(a.tobytes() for a in read_all(str(tmp_path / "turned*.jpg"))) == sorted(a.tobytes() for a in upright)
    colours = [np.moveaxis(np.asarray(Image.open(tmp_path / f"palette{k}.png").convert("RGB")), -1, 0) for k in (0, 1)]
    np.testing.assert_array_equal(read_all(str(tmp_path / "palette*.png")), colours)
    with pytest.raises(SourceError, match="alike"):
        read_all([tmp_path / "turned0.jpg", tmp_path / "palette0.png"])


def test_a_frame_with_an_axis_t_of_its_own_is_refused():
    with raises(SourceError, hint="Transcode it alone"):
        open_source([np.zeros((4, 1, 8, 8), "u1")], axes="tcyx")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path, rng, read_all):
    pixels = rng.integers(0, 255, (8, 9), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a[1].png")
    np.testing.assert_array_equal(read_all(str(tmp_path / "a[1].png"))[0], pixels)
