"""Do the numbers in a video become the colours that they mean?"""

import av
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import ndzarr
from helpers import video_clips
from helpers.errors import raises

WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
"""Kr and Kb of ITU-R BT.601, BT.709 and BT.2020."""
SPACES = {"bt601": 6, "bt709": 1, "bt2020": 9}
"""AVColorSpace."""
RANGES = {"limited": 1, "full": 2}
"""AVColorRange."""


def by_formula(planes, matrix, full, bits):
    """R, G, B of Y, Cb, Cr as the recommendations define them, as floats of 0 to 2**bits - 1."""
    kr, kb = WEIGHTS[matrix]
    top, unit = 2**bits - 1, 2 ** (bits - 8)
    y, cb, cr = (np.asarray(p, float) for p in planes)
    if full:
        y, cb, cr = y / top, (cb - 128 * unit) / top, (cr - 128 * unit) / top
    else:
        y, cb, cr = (y - 16 * unit) / (219 * unit), (cb - 128 * unit) / (224 * unit), (cr - 128 * unit) / (224 * unit)
    r, b = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    return np.clip(np.stack([r, (y - kr * r - kb * b) / (1 - kr - kb), b]), 0, 1) * top


def patches(pix_fmt, depth, seed=0):
    """A frame of 4 x 8 uniform patches of 16 x 16 pixels, and the planes of the patches."""
    rng = np.random.default_rng(seed)
    unit = 2 ** (depth - 8)
    values = rng.integers(16 * unit, 236 * unit, (3, 4, 8))
    frame = av.VideoFrame(128, 64, pix_fmt)
    for plane, patch in zip(frame.planes, values, strict=False):
        dtype = np.dtype("u1" if depth == 8 else "<u2")
        scale = (plane.height // 4, plane.width // 8)
        rows = np.zeros((plane.height, plane.line_size // dtype.itemsize), dtype)
        rows[:, : plane.width] = patch.repeat(scale[0], 0).repeat(scale[1], 1)
        plane.update(rows.tobytes())
    return frame, values


def centres(pixels):
    """The pixels in the middle of each patch, (c, 4, 8): chroma is interpolated at their borders."""
    return pixels[:, 8::16, 8::16]


@pytest.mark.parametrize(
    ("pix_fmt", "depth"), [("yuv420p", 8), ("yuv444p", 8), ("yuv420p10le", 10), ("yuv444p12le", 12)]
)
@pytest.mark.parametrize("extent", RANGES)
@pytest.mark.parametrize("matrix", SPACES)
def test_matrix_and_range_are_those_of_the_recommendations(matrix, extent, pix_fmt, depth, tmp_path):
    frame, values = patches(pix_fmt, depth)
    frame.colorspace, frame.color_range = SPACES[matrix], RANGES[extent]
    colour = {"colorspace": SPACES[matrix], "color_range": RANGES[extent]}
    path = video_clips.encode(
        tmp_path / "a.mkv", "ffv1", size=(64, 128), pix_fmt=pix_fmt, frames=[frame], colour=colour
    )
    stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert stored.dtype == (np.uint8 if depth == 8 else np.uint16)
    assert stored.attrs["ndzarr"]["source"]["bits"] == depth
    found = centres(stored.read()[0]).astype(float)
    expected = by_formula(values, matrix, extent == "full", depth)
    assert np.abs(found - expected).max() <= 1.5 * 2 ** (depth - 8), stored.attrs["ndzarr"]["source"]["colour"]
    assert_array_equal(stored.read()[0], video_clips.converted(video_clips.decoded(path)[0]))


def test_what_is_not_stated_is_bt601_of_limited_range_and_the_store_says_that_it_is_assumed(tmp_path):
    frame, values = patches("yuv444p", 8)
    path = video_clips.encode(tmp_path / "a.mkv", "ffv1", size=(64, 128), pix_fmt="yuv444p", frames=[frame])
    stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert np.abs(centres(stored.read()[0]) - by_formula(values, "bt601", False, 8)).max() <= 1.5
    assert stored.attrs["ndzarr"]["source"]["colour"].count("assumed") == 2


@pytest.mark.parametrize(("pix_fmt", "depth"), [("gray", 8), ("gray10le", 10), ("gray12le", 12), ("gray16le", 16)])
def test_gray_of_full_range_is_stored_to_the_bit(pix_fmt, depth, tmp_path):
    truth = np.random.default_rng(0).integers(0, 2**depth, (3, 33, 50)).astype("u1" if depth == 8 else "u2")
    frames = [av.VideoFrame.from_ndarray(t, format=pix_fmt) for t in truth]
    path = video_clips.encode(tmp_path / "a.mkv", "ffv1", size=(33, 50), pix_fmt=pix_fmt, frames=frames)
    stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert (stored.channels, stored.dtype) == (("gray",), truth.dtype)
    assert_array_equal(stored.read()[:, 0], truth)
    assert_array_equal(ndzarr.open(path).read(y=slice(3, 9))[:, 0], truth[:, 3:9])
    window = stored.attrs["ome"]["omero"]["channels"][0]["window"]
    assert window["end"] == 2**depth - 1, "viewers show the values that there can be"


@pytest.mark.parametrize("extent", RANGES)
def test_gray_of_a_colour_video_is_its_luma_in_full_range(extent, tmp_path):
    frame, values = patches("yuv420p", 8)
    frame.color_range = RANGES[extent]
    colour = {"color_range": RANGES[extent]}
    path = video_clips.encode(tmp_path / "a.mkv", "ffv1", size=(64, 128), frames=[frame], colour=colour)
    stored = ndzarr.transcode(path, tmp_path / "a.zarr", channels="gray")
    assert stored.channels == ("gray",)
    luma = values[0] if extent == "full" else (values[0] - 16.0) * 255 / 219
    assert np.abs(centres(stored.read()[0])[0] - np.clip(luma, 0, 255)).max() <= 1


def test_rgb_videos_are_stored_to_the_bit_also_with_alpha(tmp_path):
    truth = np.random.default_rng(0).integers(0, 256, (3, 33, 51, 4)).astype("u1")
    frames = [av.VideoFrame.from_ndarray(t, format="rgba").reformat(format="argb") for t in truth]
    path = video_clips.encode(tmp_path / "a.mov", "qtrle", size=(33, 51), pix_fmt="argb", frames=frames)
    stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert stored.channels == ("r", "g", "b", "a")
    assert_array_equal(stored.read(), np.moveaxis(truth, -1, 1))
    without = ndzarr.transcode(path, tmp_path / "b.zarr", channels="rgb")
    assert_array_equal(without.read(), np.moveaxis(truth[..., :3], -1, 1))


def test_a_part_of_a_frame_has_the_pixels_of_the_whole(tmp_path):
    rng = np.random.default_rng(1)
    for k, (pix_fmt, size) in enumerate([("yuv420p", (66, 98)), ("yuv422p10le", (64, 90)), ("yuv411p", (48, 100))]):
        frame = av.VideoFrame(size[1], size[0], pix_fmt)
        for plane in frame.planes:
            noise = (
                rng.integers(0, 4, plane.buffer_size) if "10" in pix_fmt else rng.integers(0, 256, plane.buffer_size)
            )
            plane.update(noise.astype("u1").tobytes())
        path = video_clips.encode(tmp_path / f"{k}.mkv", "ffv1", size=size, pix_fmt=pix_fmt, frames=[frame])
        opened = ndzarr.open(path)
        whole = opened.read()
        for _ in range(100):
            y, x = sorted(rng.integers(0, size[0] + 1, 2)), sorted(rng.integers(0, size[1] + 1, 2))
            part = opened.read(y=slice(*map(int, y)), x=slice(*map(int, x)))
            assert_array_equal(part, whole[:, :, y[0] : y[1], x[0] : x[1]])


@pytest.mark.parametrize("channels", [["r"], ["a"], ["r", "g", "b", "a"], ["nir", "red"]])
def test_channels_that_a_video_does_not_have_are_an_error(channels, tmp_path):
    path = video_clips.encode(tmp_path / "a.mkv", "ffv1", n=2)
    with raises(ndzarr.NdzarrError, key="channels"):
        ndzarr.transcode(path, tmp_path / "a.zarr", channels=channels)


def test_channels_may_be_given_other_names(tmp_path):
    path = video_clips.encode(tmp_path / "a.mkv", "ffv1", n=2)
    assert ndzarr.transcode(path, tmp_path / "a.zarr", channels=["red", "green", "blue"]).channels == (
        "red",
        "green",
        "blue",
    )
