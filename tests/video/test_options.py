"""Which frames are wanted, and how large?"""

import subprocess
import sys

import av
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_array_equal

import ndzarr
from helpers import video_clips
from helpers.errors import raises
from helpers.subprocesses import environment
from ndzarr.cli import main
from ndzarr.errors import OptionError, SourceError

LONG = {"g": "12", "bf": "2", "sc_threshold": "0"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return video_clips.encode(tmp_path_factory.mktemp("clip") / "a.mp4", n=50, options=LONG)


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        ({"start": 1.0}, range(25, 50)),
        ({"stop": 0.4}, range(10)),
        ({"start": 0.39, "stop": 1.0}, range(10, 25)),
        ({"step": 7}, range(0, 50, 7)),
        ({"start": 0.52, "stop": 1.6, "step": 3}, range(13, 40, 3)),
        ({"step": 100}, range(1)),
    ],
    ids=str,
)
def test_ranges_of_time_and_steps(clip, options, frames, tmp_path):
    stored = ndzarr.transcode(clip, tmp_path / "a.zarr", **options)
    assert video_clips.numbers(stored.read()) == list(frames)
    assert stored.times == pytest.approx([k / 25 for k in frames])
    source = stored.attrs["ndzarr"]["source"]
    assert {k: v for k, v in source.items() if k in options} == options


@pytest.mark.parametrize("access", ["frames", "mixed", "tubes"])
@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 33])
def test_any_number_of_frames_fills_chunks_and_shards(access, n, tmp_path):
    path = video_clips.encode(tmp_path / "a.mkv", "ffv1", n=n)
    stored = ndzarr.transcode(path, tmp_path / "a.zarr", access=access)
    assert_array_equal(stored.read(), [video_clips.converted(frame) for frame in video_clips.decoded(path)])
    assert [level.shape[0] for level in stored.levels] == [n] * len(stored.levels)
    ndzarr.verify(tmp_path / "a.zarr")


def test_a_long_video_is_one_shard_after_another_and_zarr_reads_it(tmp_path):
    import zarr

    path = video_clips.encode(tmp_path / "a.mp4", n=300, options=LONG)
    stored = ndzarr.transcode(path, tmp_path / "a.zarr", chunks={"t": 7, "y": 48, "x": 40})
    assert video_clips.numbers(stored.read()) == list(range(300))
    assert_array_equal(zarr.open_group(tmp_path / "a.zarr", mode="r")["0/image"][290:], stored.read(t=slice(290, 300)))
    ndzarr.verify(tmp_path / "a.zarr")


LONG_VIDEO = """
import resource, sys
import ndzarr
import cv2, imagecodecs  # what writing imports is not what it needs for pixels

video = sys.argv[1]
ndzarr.transcode(video, video + ".part.zarr", stop=0.1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ndzarr.transcode(video, video + ".zarr", workers=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_the_video(tmp_path):
    grey = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 99, "u1"), format="rgb24").reformat(format="yuv420p")
    peaks = []
    for n in (100, 500):
        options = {"preset": "ultrafast"}
        path = video_clips.encode(tmp_path / f"{n}.mp4", frames=[grey] * n, size=(240, 320), options=options)
        done = subprocess.run(
            [sys.executable, "-c", LONG_VIDEO, path],
            text=True,
            capture_output=True,
            timeout=200,
            env=environment(),
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout) / 1024)
    short, long = peaks
    assert long < short + 50, "MiB above what was there before; the frames that the long one has more take 88 MiB"


@pytest.mark.parametrize(
    ("size", "shape"), [((32, 80), (32, 80)), (0.5, (32, 80)), ((33, 91), (33, 91)), (2, (128, 320))]
)
def test_sizes(clip, size, shape, tmp_path):
    stored = ndzarr.transcode(clip, tmp_path / "a.zarr", size=size, step=10)
    assert stored.shape == (5, 3, *shape)
    native = ndzarr.transcode(clip, tmp_path / "b.zarr", step=10)
    expected = native.window(scale=(shape[1] / 160, shape[0] / 64)).values.astype(float)
    assert np.abs(stored.read() - expected).mean() < 6


def test_size_is_that_of_the_upright_frame(tmp_path):
    path = video_clips.encode(tmp_path / "a.mp4", n=3)
    video_clips.patch_matrix(path, (0, 1, -1, 0))
    assert ndzarr.transcode(path, tmp_path / "a.zarr", size=(80, 32)).shape == (3, 3, 80, 32)


@pytest.mark.parametrize(
    "options",
    [
        {"start": 3, "stop": 2}, {"start": "a"}, {"stop": float("nan")}, {"step": 0}, {"step": 1.5},
        {"size": 0}, {"size": (3,)}, {"size": (0, 4)}, {"size": "big"},
    ],
    ids=str,
)  # fmt: skip
def test_options_that_make_no_sense_are_errors(clip, options, tmp_path):
    with raises(OptionError, key=next(iter(options))):
        ndzarr.transcode(clip, tmp_path / "a.zarr", **options)


def test_a_range_without_frames_says_how_long_the_video_is(clip, tmp_path):
    with raises(SourceError, path=clip, match="0 to 1.96"):
        ndzarr.transcode(clip, tmp_path / "a.zarr", start=10)
    assert not (tmp_path / "a.zarr").exists()


def test_images_and_arrays_have_no_such_options(tmp_path):
    with raises(OptionError, hint="Leave them out for this source"):
        ndzarr.transcode(np.zeros((9, 9), "u1"), tmp_path / "a.zarr", step=2)


def test_what_holds_for_images_holds_for_videos(clip, tmp_path):
    stored = ndzarr.transcode(clip, tmp_path / "a.zarr", channels="gray", nodata=7, kind="labels", step=25)
    assert (stored.nodata, stored.kind, stored.channels) == (7, "labels", ("gray",))
    assert ndzarr.transcode(clip, tmp_path / "b.zarr", preset="jpeg", progress=True).shape == (50, 3, 64, 160)
    with raises(OptionError, key="axes", hint="Leave it out"):
        ndzarr.transcode(clip, tmp_path / "c.zarr", axes="tyx")
    sampler = ndzarr.Sampler({"clip": clip}, tmp_path)
    sample = sampler.load_sample({"key": "clip", "t": slice(3, 9), "y": slice(0, 64), "x": slice(0, 160)})
    assert video_clips.numbers(sample.image.values) == list(range(3, 9))


def test_the_command_line_has_them_too(clip, tmp_path):
    options = ["--start", "0.4", "--stop", "1.6", "--step", "4", "--size", "y=32,x=80", "--channels", "gray"]
    result = CliRunner().invoke(main, ["transcode", clip, "-o", str(tmp_path / "a.zarr"), *options])
    assert result.exit_code == 0, result.output
    assert ndzarr.open(tmp_path / "a.zarr").shape == (8, 1, 32, 80)
    told = CliRunner().invoke(main, ["info", clip, str(tmp_path / "a.zarr")])
    assert told.exit_code == 0, told.output
    assert "t: 50" in told.output
    assert "video decoder" in told.output
