"""Does a video that stays in its container behave as a pyramid, in threads, forks and other processes?"""

import gc
import os
import pickle
import pty
import signal
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import ndzarr
from helpers import video_clips
from helpers.errors import raises
from helpers.subprocesses import environment
from ndzarr._formats.video import decode as frames
from ndzarr._formats.video.frames import FrameReader
from ndzarr._formats.video.index import video_index
from ndzarr.errors import SourceError

LONG = {"g": "12", "bf": "2", "sc_threshold": "0"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return video_clips.encode(tmp_path_factory.mktemp("clip") / "a.mp4", n=100, options=LONG)


@pytest.fixture(scope="module")
def truth(clip):
    return np.stack([video_clips.converted(frame) for frame in video_clips.decoded(clip)])


class Counting:
    """Counts the packets that decoders are given."""

    def __init__(self, monkeypatch):
        self.packets = 0
        decode = frames.Decoder._decode

        def counting(decoder, packet):
            self.packets += packet is not None
            return decode(decoder, packet)

        monkeypatch.setattr(frames.Decoder, "_decode", counting)


def test_windows_at_any_scale_are_those_of_the_store_at_native_scale(clip, truth, tmp_path):
    opened = ndzarr.open(clip)
    window = opened.window(t=slice(10, 12), y=slice(-4, 60), x=slice(100, 180))
    assert window.shape == (2, 3, 64, 80)
    assert_array_equal(window.values[:, :, 4:, :60], truth[10:12, :, :60, 100:])
    half = opened.window(t=slice(10, 11), scale=0.5)
    assert half.shape == (1, 3, 32, 80)
    assert_array_equal(opened.to_xarray().sel(t=slice(0.4, 0.44)).values, truth[10:12])


def test_only_what_a_window_needs_is_decoded(clip, truth, monkeypatch):
    opened = ndzarr.open(clip)
    count = Counting(monkeypatch)
    assert_array_equal(opened.read(t=slice(50, 52)), truth[50:52])
    assert count.packets <= 12 + 2 + 16, "one group of pictures, and what threads have begun"


def test_windows_of_one_plan_share_frames_and_neighbours_go_on(clip, truth, monkeypatch):
    opened = ndzarr.open(clip)
    count = Counting(monkeypatch)
    windows = [{"t": slice(t, t + 8), "y": slice(0, 8), "x": slice(x, x + 8)} for t in (24, 28, 24) for x in (0, 40)]
    for window, pixels in zip(windows, opened.read_many(windows), strict=True):
        assert_array_equal(pixels, truth[window["t"], :, window["y"], window["x"]])
    once = count.packets
    assert once <= 12 + 16
    opened.read(t=slice(30, 44))
    assert count.packets - once <= 24, "frames that were just decoded are not decoded again"


def test_threads_may_share_one(clip, truth):
    opened = ndzarr.open(clip)

    def read(k):
        t = (37 * k) % 95
        return np.array_equal(opened.read(t=slice(t, t + 5), y=slice(k, k + 9)), truth[t : t + 5, :, k : k + 9])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(40)))


def test_it_pickles_to_its_path(clip, truth):
    again = pickle.loads(pickle.dumps(ndzarr.open(clip)))
    assert_array_equal(again.read(t=slice(60, 63)), truth[60:63])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_it_is_safe_after_a_fork_also_of_a_child_that_exits_in_order(clip, truth):
    opened = ndzarr.open(clip)
    opened.read(t=slice(30, 33))
    child = os.fork()
    if child == 0:
        same = np.array_equal(opened.read(t=slice(31, 40)), truth[31:40])
        del opened
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert_array_equal(opened.read(t=slice(31, 40)), truth[31:40])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_does_not_wait_for_decoders_that_its_parent_had_done_with(clip):
    gc.collect()
    gc.disable()  # so that they are still there at the fork
    try:
        for _ in range(3):
            ndzarr.open(clip).read(t=slice(30, 33))
            for _ in video_clips.decoded(clip):
                pass
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # ends a child that waits
            gc.collect()
            os._exit(0)
    finally:
        gc.enable()
    assert os.waitpid(child, 0)[1] == 0


def test_a_file_that_was_changed_is_an_error(tmp_path):
    path = video_clips.encode(tmp_path / "a.mp4", n=30)
    opened = ndzarr.open(path)
    opened.read(t=slice(0, 2))
    video_clips.encode(path, n=20)
    with raises(SourceError, hint="Open it again"):
        opened.read(t=slice(3, 4))
    assert ndzarr.open(path).shape[0] == 20


def test_indexes_that_took_long_are_kept_and_a_damaged_one_is_made_again(clip, truth, tmp_path, monkeypatch):
    monkeypatch.setenv("NDZARR_CACHE", str(tmp_path))
    video_index(str(clip), slow=float("inf"))
    assert not list(tmp_path.iterdir())
    video_index(str(clip), slow=0)
    [file] = (tmp_path / "video-indexes").iterdir()
    count = Counting(monkeypatch)
    second = ndzarr.open(clip)
    assert count.packets <= 32, "only the first frame was decoded"
    assert_array_equal(second.read(t=slice(70, 72)), truth[70:72])
    file.write_bytes(file.read_bytes()[:100])
    assert ndzarr.open(clip).times == second.times == tuple(k / 25 for k in range(100))


def test_memory_for_decoded_frames_has_a_budget(clip, truth, monkeypatch):
    reader = FrameReader(str(clip), video_index(str(clip)), kept_bytes=100_000)
    reader.visit(range(100), lambda number, frame: assert_array_equal(video_clips.converted(frame), truth[number]))
    count = Counting(monkeypatch)
    last = range(98, 100)
    reader.visit(last, lambda number, frame: assert_array_equal(video_clips.converted(frame), truth[number]))
    assert count.packets == 0, "the last frames are kept"
    reader.visit(range(3, 9), lambda number, frame: assert_array_equal(video_clips.converted(frame), truth[number]))
    assert count.packets > 0, "the first frames made room for them"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("then", ["pass", "del opened; gc.enable(); gc.collect()", "opened.read(t=slice(31, 40))"])
def test_a_forked_child_ends_in_order_whatever_it_does_with_decoders_of_its_parent(clip, then):
    script = f"""
import gc, os, signal, sys, ndzarr
gc.disable()
opened = ndzarr.open({str(clip)!r})
opened.read(t=slice(30, 33))
ndzarr.open({str(clip)!r}).read(t=slice(30, 33))
child = os.fork()
if child == 0:
    signal.alarm(30)  # ends a child that waits
    {then}
    sys.exit()
sys.exit(os.waitpid(child, 0)[1])
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=120).returncode == 0


LOGGED = """
import av, ndzarr
av.logging.set_level({level})
for _ in range(12):
    opened = ndzarr.open({clip!r})
    opened.read(t=slice(3, 4))
    del opened  # while threads still decode
    ndzarr.transcode({clip!r}, {dest!r}, stop=0.4, overwrite=True)
"""


@pytest.mark.parametrize("level", ["av.logging.ERROR", "av.logging.DEBUG"])
def test_decoders_are_dropped_without_a_deadlock_after_pyav_logs_to_python(clip, level, tmp_path):
    script = LOGGED.format(level=level, clip=clip, dest=str(tmp_path / "a.zarr"))
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=100, env=environment())


@pytest.mark.slow
def test_indexing_a_long_clip_shows_progress_and_can_be_interrupted(tmp_path):
    path = tmp_path / "long.h264"  # a bare stream has no timestamps: all of it is decoded
    path.write_bytes(Path(video_clips.encode(tmp_path / "a.h264", n=40, options=LONG, form="h264")).read_bytes() * 1000)
    terminal, stderr = pty.openpty()
    termios.tcsetwinsize(stderr, (24, 80))
    script = (
        f"import signal, ndzarr; signal.signal(signal.SIGINT, signal.default_int_handler); ndzarr.open({str(path)!r})"
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=stderr, env=environment()) as process:
        os.close(stderr)
        seen = b""
        with suppress(OSError):  # a terminal whose process has ended
            while b"indexing long.h264" not in seen:
                seen += os.read(terminal, 1024)
        assert b"indexing long.h264" in seen, seen
        process.send_signal(signal.SIGINT)
        with suppress(OSError):
            while more := os.read(terminal, 1024):
                seen += more
        assert process.wait(timeout=30) != 0
    os.close(terminal)
    assert b"KeyboardInterrupt" in seen
