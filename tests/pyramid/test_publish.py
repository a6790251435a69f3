"""A store is there whole or not at all, whatever happens while it is written."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import ndzarr
from helpers.arrays import random_array, same
from helpers.errors import raises
from helpers.pyramids import ArraySource, make
from helpers.subprocesses import environment
from ndzarr import _files as publish
from ndzarr._pyramid.transcode import write_pyramid
from ndzarr._store import writer
from ndzarr._store.presets import Encoding
from ndzarr.errors import ExistsError, MissingError, NdzarrError, SourceError, WriteError


def fail_at(number, error):
    """A `before_read` that raises at that read."""

    def check(done):
        if done == number:
            raise error

    return check


@pytest.mark.parametrize("number", [0, 1, 7])
@pytest.mark.parametrize("error", [SourceError("torn"), RuntimeError("bug"), KeyboardInterrupt(), MemoryError()])
def test_a_source_that_fails_leaves_nothing(tmp_path, number, error):
    source = ArraySource(random_array((1, 300, 300), "u1"), band=16, before_read=fail_at(number, error))
    with pytest.raises(type(error)):
        write_pyramid(source, tmp_path / "a.zarr", Encoding(chunks=(("y", 32), ("x", 32))), band_bytes=1)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(self, chunks, wanted):
        raise RuntimeError("no codec today")

    monkeypatch.setattr("ndzarr._store.codecs.ChunkCodec.encode_all", fail)
    with pytest.raises(RuntimeError, match="no codec today"):
        make(tmp_path, random_array((1, 300, 300), "u1"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "words"), [(28, "disk is full"), (13, "may not be written"), (24, "too many open files")]
)
def test_a_disk_that_fails_is_said_to_and_leaves_nothing(tmp_path, monkeypatch, number, words):
    def fail(self, *args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("ndzarr._store.sharding.ShardWriter.add", fail)
    with raises(WriteError, path=tmp_path / "a.zarr", match=words):
        make(tmp_path, random_array((1, 300, 300), "u1"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [SourceError("torn"), KeyboardInterrupt()])
def test_a_failed_overwrite_keeps_the_old_store(tmp_path, error):
    old = random_array((1, 300, 300), "u1", 1)
    make(tmp_path, old)
    source = ArraySource(random_array((1, 300, 300), "u1", 2), band=16, before_read=fail_at(5, error))
    with pytest.raises(type(error)):
        write_pyramid(source, tmp_path / "a.zarr", Encoding(), overwrite=True, band_bytes=1)
    assert same(ndzarr.open(tmp_path / "a.zarr").read(), old)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_a_rename_that_fails_brings_the_old_store_back(tmp_path, monkeypatch, error):
    old = random_array((1, 30, 30), "u1", 1)
    make(tmp_path, old)
    rename = os.rename

    def fails(a, b):
        if Path(b).name == "a.zarr" and "ready" in Path(a).name:
            raise error
        rename(a, b)

    monkeypatch.setattr(publish, "exchange", lambda first, second: False)
    monkeypatch.setattr(publish.os, "rename", fails)
    with pytest.raises(type(error)):
        make(tmp_path, random_array((1, 30, 30), "u1", 2), overwrite=True)
    assert same(ndzarr.open(tmp_path / "a.zarr").read(), old)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


KILLED_IN_A_RENAME = """
import os, signal, sys
from pathlib import Path
import numpy as np
from helpers.pyramids import make
from ndzarr import _files
folder, number, swaps = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
calls = []

def dying(call):
    def wrapped(*args):
        calls.append(args)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args)
    return wrapped

os.rename, exchange = dying(os.rename), dying(_files.exchange)
_files.exchange = exchange if swaps else lambda *args: False
make(folder, np.full((1, 30, 30), 2, "u1"), overwrite=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("touch", ["open", "overwrite", "refuse"])
@pytest.mark.parametrize(("swaps", "number"), [(True, 1), (False, 1), (False, 2), (False, 3)])
def test_a_kill_at_any_rename_of_an_overwrite_leaves_a_store_at_the_destination(tmp_path, swaps, number, touch):
    make(tmp_path, np.full((1, 30, 30), 1, "u1"))
    command = [sys.executable, "-c", KILLED_IN_A_RENAME, str(tmp_path), str(number), str(swaps)]
    assert subprocess.run(command, env=environment(), check=False).returncode == -signal.SIGKILL
    if touch == "refuse":
        with pytest.raises(ExistsError):
            make(tmp_path, np.full((1, 30, 30), 3, "u1"))
    if touch != "overwrite":
        assert np.unique(ndzarr.open(tmp_path / "a.zarr").read()).tolist() == [2 if number == 3 else 1]
    make(tmp_path, np.full((1, 30, 30), 3, "u1"), overwrite=True)
    assert (ndzarr.open(tmp_path / "a.zarr").read() == 3).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_store_overwritten_in_place_gives_the_new_pixels(tmp_path):
    for seed in range(4):
        array = random_array((2, 300, 300), "u1", seed)
        pyramid = make(tmp_path, array, overwrite=True)
        assert same(pyramid.read(), array)
        assert same(ndzarr.open(tmp_path / "a.zarr").read(), array)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_store_open_while_it_is_overwritten_gives_old_pixels_new_ones_or_an_error_but_no_mixture(tmp_path):
    old, new = (np.full((1, 300, 300), value, "u1") for value in (1, 2))
    pyramid = make(tmp_path, old)
    assert (pyramid.read(y=slice(0, 10)) == 1).all()
    make(tmp_path, new, overwrite=True)
    assert (pyramid.read() == 1).all(), "the shard was mapped, so it is still there"
    assert (ndzarr.open(pyramid.path).read() == 2).all()


def test_a_destination_that_exists_is_refused_before_anything_is_read(tmp_path):
    make(tmp_path, random_array((1, 30, 30), "u1"))
    for other in ("file", "folder", "link"):
        path = tmp_path / other
        {"file": path.touch, "folder": path.mkdir, "link": lambda p=path: p.symlink_to("nowhere")}[other]()
        source = ArraySource(random_array((1, 30, 30), "u1"))
        with pytest.raises(ExistsError, match=other):
            write_pyramid(source, path, Encoding())
        assert not source.windows
        assert os.path.lexists(path)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with raises(MissingError, match="nowhere", hint="Make it first"):
        make(tmp_path / "nowhere", random_array((1, 30, 30), "u1"))


def test_of_two_writers_of_one_destination_one_wins_and_the_other_says_so(tmp_path):
    arrays = [random_array((1, 300, 300), "u1", seed) for seed in range(2)]
    meet = threading.Barrier(2)
    errors = []

    def write(array):
        source = ArraySource(array, before_read=lambda done: meet.wait(10) if done == 0 else None)
        try:
            write_pyramid(source, tmp_path / "a.zarr", Encoding())
        except NdzarrError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(a,)) for a in arrays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(e) for e in errors] == [ExistsError]
    pixels = ndzarr.open(tmp_path / "a.zarr").read()
    assert any(same(pixels, array) for array in arrays)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_destination_that_appears_at_the_last_moment_is_not_replaced(tmp_path, monkeypatch):
    rename = os.rename

    def too_late(a, b):
        Path(b).mkdir()
        Path(b, "theirs").touch()
        rename(a, b)

    monkeypatch.setattr(publish.os, "rename", too_late)
    with raises(ExistsError, hint="Use that one, or overwrite it"):
        make(tmp_path, random_array((1, 30, 30), "u1"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    assert [p.name for p in (tmp_path / "a.zarr").iterdir()] == ["theirs"]


KILLED = """
import sys, time
import numpy as np
sys.path[:0] = sys.argv[2:]
from helpers.pyramids import ArraySource
from ndzarr._pyramid.transcode import write_pyramid
from ndzarr._store.presets import Encoding
from pathlib import Path

def wait(done):
    if done == 12:
        print("half way", flush=True)
        time.sleep(60)

source = ArraySource(np.ones((1, 600, 600), "u1"), band=32, before_read=wait)
encoding = Encoding(chunks=(("y", 32), ("x", 32)))
write_pyramid(source, Path(sys.argv[1]), encoding, overwrite=True, band_bytes=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True])
def test_what_a_killed_writer_leaves_is_hidden_and_the_next_one_removes_it(tmp_path, old):
    array = random_array((1, 30, 30), "u1")
    if old:
        make(tmp_path, array)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.zarr")]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half way\n"
        process.send_signal(signal.SIGKILL)
    left = {p.name for p in tmp_path.iterdir()} - ({"a.zarr"} if old else set())
    assert left
    assert all(name.startswith(".a.zarr.") for name in left)
    if old:
        assert same(ndzarr.open(tmp_path / "a.zarr").read(), array)
    assert same(make(tmp_path, array, overwrite=old).read(), array)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"], "what was left is removed"


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True])
def test_an_interrupted_writer_leaves_nothing(tmp_path, old):
    array = random_array((1, 30, 30), "u1")
    if old:
        make(tmp_path, array)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.zarr")]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half way\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    assert {p.name for p in tmp_path.iterdir()} == ({"a.zarr"} if old else set())


class Short(ArraySource):
    """Gives other rows than it promises."""

    def __init__(self, change, array):
        super().__init__(array)
        self.change = change

    def read(self, window):
        return self.change(super().read(window))


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[:, :-1],
        lambda rows: rows[:, :, :-1],
        lambda rows: rows[:, :0],
        lambda rows: rows.astype("u2"),
        lambda rows: np.repeat(rows, 2, axis=1),
        lambda rows: rows[:1],
    ],
    ids=["a row short", "a column short", "no rows", "another type", "too many rows", "a channel short"],
)
def test_a_source_that_gives_other_rows_than_it_promised_is_refused(tmp_path, change):
    with pytest.raises(SourceError, match="the source"):
        write_pyramid(Short(change, random_array((3, 300, 300), "u1")), tmp_path / "a.zarr", Encoding())
    assert list(tmp_path.iterdir()) == []


def test_the_permissions_of_a_store_are_those_of_any_new_folder(tmp_path):
    (tmp_path / "plain").mkdir()
    pyramid = make(tmp_path, random_array((1, 30, 30), "u1"))
    assert Path(pyramid.path).stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert writer.CHUNKS_PER_TASK > 0


def test_what_is_published_is_flushed_before_it_is_renamed_and_the_rename_after(tmp_path, monkeypatch):
    """Of each file and directory: its inode, when it was flushed, and when the store appeared."""
    flushed, fsync, rename = [], os.fsync, os.rename

    def note(descriptor):
        flushed.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def note_rename(a, b):
        assert {path.stat().st_ino for path in [a, *a.rglob("*")]} <= set(flushed)
        flushed.clear()
        rename(a, b)

    monkeypatch.setattr(publish, "_flush_file_system", lambda path: False)
    monkeypatch.setattr(publish.os, "fsync", note)
    monkeypatch.setattr(publish.os, "rename", note_rename)
    make(tmp_path, random_array((1, 300, 300), "u1"))
    assert flushed == [tmp_path.stat().st_ino]


def test_a_live_writer_is_told_from_a_dead_one(tmp_path):
    """The second writer of a destination leaves the work of the first alone."""
    began, go = threading.Event(), threading.Event()

    def wait(done):
        began.set()
        assert go.wait(10)

    first = ArraySource(np.full((1, 30, 30), 1, "u1"), before_read=wait)
    thread = threading.Thread(target=write_pyramid, args=(first, tmp_path / "a.zarr", Encoding()))
    thread.start()
    assert began.wait(10)
    with publish.publishing(tmp_path / "a.zarr") as other:
        (other / "zarr.json").touch()
        go.set()
        thread.join()
        (tmp_path / "a.zarr").rename(tmp_path / "b.zarr")
    assert (ndzarr.open(tmp_path / "b.zarr").read() == 1).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]
