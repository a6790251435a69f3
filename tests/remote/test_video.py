"""Videos in buckets and on web servers are read in place, as local ones are, without fetching all of them."""

import pickle

import av
import numpy as np
import pytest

import ndzarr
from helpers.errors import raises
from helpers.http_server import Fault
from helpers.video_clips import can_encode, encode, picture
from ndzarr.errors import StoreError

parts_only = pytest.mark.skipif(
    not hasattr(av.stream.Stream, "index_entries"), reason="without PyAV's index of packets, the whole clip is fetched"
)
SIZE, FRAMES = (64, 320), 150


def noise():
    """Frames that compress badly, so that a clip has many blocks."""
    rng = np.random.default_rng(0)
    for k in range(FRAMES):
        image = picture(k, SIZE).copy()
        image[32:] = rng.integers(0, 256, (32, 320, 3))
        yield av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")


CLIPS = {
    "end.mp4": {"options": {"g": "16", "crf": "6", "preset": "ultrafast"}},
    "start.mp4": {
        "options": {"g": "16", "crf": "6", "bf": "2", "preset": "superfast"},
        "muxer": {"movflags": "faststart"},
    },
    **{
        f"{name}.mp4": {"options": {"g": "16", "crf": "6", "preset": "ultrafast"}, "muxer": {"movflags": flags}}
        for name, flags in {
            "fragments": "frag_keyframe+empty_moov",
            "segments": "frag_keyframe+empty_moov+dash+global_sidx+skip_trailer",
            "dash": "frag_keyframe+empty_moov+dash",
        }.items()
    },
    "hevc.mp4": {"codec": "libx265", "options": {"crf": "30", "x265-params": "keyint=16:log-level=none"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"g": "16"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "16", "deadline": "realtime"}},
}


LONG = ["end.mp4", "start.mp4", "fragments.mp4", "segments.mp4", "dash.mp4"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder, frames = tmp_path_factory.mktemp("clips"), list(noise())
    for name, how in CLIPS.items():
        if can_encode(how.get("codec", "libx264")):
            encode(folder / name, size=SIZE, frames=frames if name in LONG else frames[:48], **how)
    if (folder / "fragments.mp4").exists():
        data = bytearray((folder / "fragments.mp4").read_bytes())
        start = data.rindex(b"tfra") + 20
        data[start:-16] = np.random.default_rng(0).bytes(len(data) - 16 - start)
        (folder / "misled.mp4").write_bytes(data)
    return folder


@pytest.fixture
def served(clips, http, tmp_path, monkeypatch):
    """Returns the path and URL of a clip of which nothing is kept."""

    def serve(name):
        if not (clips / name).exists():
            pytest.skip("this FFmpeg has no such encoder")
        (http.folder / name).write_bytes((clips / name).read_bytes())
        monkeypatch.setenv("NDZARR_CACHE", str(tmp_path / "cache"))
        return http.folder / name, f"{http.url}/{name}"

    return serve


@pytest.mark.parametrize("name", [*CLIPS, "misled.mp4"])  # the last one's table of fragments is wrong
def test_a_remote_video_is_the_same_pyramid_as_the_local_one(served, name):
    path, url = served(name)
    local, remote = ndzarr.open(path), ndzarr.open(url)
    assert (remote.shape, remote.channels, remote.notes) == (local.shape, local.channels, local.notes)
    np.testing.assert_array_equal(remote.to_xarray()["t"], local.to_xarray()["t"])
    for window in ({"t": slice(20, 23)}, {"t": slice(40, 48), "y": slice(5, 40)}, {"t": slice(0, 2)}):
        np.testing.assert_array_equal(remote.read(**window), local.read(**window))
    again = pickle.loads(pickle.dumps(remote))
    np.testing.assert_array_equal(again.read(t=slice(30, 31)), local.read(t=slice(30, 31)))


@parts_only
@pytest.mark.parametrize("name", LONG)
def test_only_what_a_window_is_decoded_from_is_fetched(served, http, name):
    path, url = served(name)
    size = path.stat().st_size
    assert size > 1_500_000
    http.server.settings(gather=0.2)
    pyramid = ndzarr.open(url)
    counters = http.server.counters()
    assert counters.waves <= 7
    assert counters.sent < 0.75 * size
    assert pyramid.levels[0].chunks == ndzarr.open(path).levels[0].chunks  # as many keys
    http.server.reset()
    pyramid.read(t=slice(70, 73))
    assert http.server.counters().waves <= 1
    http.server.reset()
    pyramid.read_many([{"t": slice(a, a + 2)} for a in (10, 90, 120)])
    assert http.server.counters().waves <= 1


@parts_only
@pytest.mark.parametrize("kind", ["503", "reset", "short", "whole"])
def test_faults_change_no_frame_and_hang_nobody(served, http, kind):
    path, url = served("end.mp4")
    expected = ndzarr.open(path).read(t=slice(60, 64))
    pyramid = ndzarr.open(url, remote=ndzarr.Remote(retries=1, timeout=2))
    http.server.settings(faults=[Fault(kind)])
    with raises(StoreError, path=url):
        pyramid.read(t=slice(60, 64))
    http.server.settings(faults=[Fault(kind, times=1)])
    np.testing.assert_array_equal(pyramid.read(t=slice(60, 64)), expected)


@parts_only
def test_a_video_that_was_replaced_is_an_error(served):
    path, url = served("end.mp4")
    pyramid = ndzarr.open(url)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with raises(StoreError, path=url, hint="Open it again"):
        pyramid.read(t=slice(70, 73))
