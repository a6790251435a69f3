"""A pyramid of a file is made once, is that of the file as it is now, and is whole."""

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

import ndzarr
from helpers.errors import raises
from helpers.library_processes import ask, make, save, slow_down, wait_for
from helpers.subprocesses import environment, run_on_small_disk
from ndzarr import _concurrency as batch
from ndzarr import _files
from ndzarr._concurrency import BatchError
from ndzarr._files import cache_root, holding, lock_of, publishing, settle
from ndzarr._library.keys import SourceRequest as Request
from ndzarr._library.library import Library
from ndzarr._store.presets import Encoding
from ndzarr._store.sharding import SHARDS
from ndzarr.errors import (
    DamagedError,
    DamagedStoreWarning,
    MissingError,
    NdzarrError,
    OptionError,
    SourceError,
    WriteError,
)

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path / "library")


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def slow(monkeypatch, log):
    """Makes sources slow, for this test."""
    import ndzarr._formats.registry

    monkeypatch.setattr(ndzarr._formats.registry, "open_source", ndzarr._formats.registry.open_source)
    return lambda seconds: slow_down(log, seconds)


def same(pyramid, pixels):
    return np.array_equal(pyramid.read(), pixels)


def names(library):
    """What lies in the library, hidden or not."""
    return sorted(os.listdir(library.root)) if library.root.exists() else []


def states(library):
    return sorted(entry.state for entry in library.entries())


# One pyramid per file as it is


def test_a_pyramid_has_the_pixels_of_its_file_and_a_name_that_tells_which(library, tmp_path):
    pixels = save(tmp_path / "fields of wheat.npy")
    assert same(library.pyramid(tmp_path / "fields of wheat.npy"), pixels)
    [name] = names(library)
    assert name.startswith("fields_of_wheat-")
    assert name.endswith(".zarr")


def test_files_of_the_same_relative_name_in_two_datasets_do_not_share(library, tmp_path, monkeypatch):
    pixels = {d: save(tmp_path / d / "images/img0.npy", seed) for seed, d in enumerate(("first", "second"))}
    for folder, expected in pixels.items():
        monkeypatch.chdir(tmp_path / folder)
        assert same(library.pyramid("images/img0.npy"), expected)
    assert len(names(library)) == 2


@pytest.mark.parametrize("fresh", [False, True], ids=["open library", "new library"])
def test_a_file_rewritten_in_place_is_transcoded_anew(library, tmp_path, fresh):
    path = tmp_path / "a.npy"
    save(path, 0)
    old = library.pyramid(path)
    new = save(path, 1)
    again = (Library(library.root) if fresh else library).pyramid(path)
    assert again.path != old.path
    assert same(again, new)


def test_a_file_rewritten_again_and_again_never_comes_back_old(library, tmp_path):
    """Without waiting for the file system's clock, two versions may have the same size and time."""
    path = tmp_path / "a.npy"
    for seed in range(25):
        pixels = save(path, seed, (8, 8))
        assert same(library.pyramid(path), pixels)


@pytest.mark.parametrize(("age", "waited"), [(0.0, [0.02]), (0.015, [0.005]), (0.021, []), (3600, []), (-3600, [])])
def test_a_file_that_was_just_written_is_left_until_another_write_would_show(monkeypatch, age, waited):
    naps = []
    monkeypatch.setattr("ndzarr._files.time", SimpleNamespace(time=lambda: 1000.0, sleep=naps.append))
    settle(round((1000 - age) * 1e9))
    assert naps == pytest.approx(waited, abs=1e-6)


def test_a_file_replaced_by_an_older_one_of_the_same_size_is_transcoded_anew(library, tmp_path):
    path, old = tmp_path / "a.npy", tmp_path / "old.npy"
    pixels = save(old, 1)
    os.utime(old, (1, 1))
    save(path, 0)
    library.pyramid(path)
    os.replace(old, path)
    assert same(library.pyramid(path), pixels)


def test_a_link_that_comes_to_point_elsewhere_is_followed_even_to_a_file_of_the_same_size_and_age(library, tmp_path):
    link = tmp_path / "latest.npy"
    for seed, name in enumerate(("monday.npy", "tuesday.npy")):
        pixels = save(tmp_path / name, seed)
        os.utime(tmp_path / name, (1, 1))
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        assert same(library.pyramid(link), pixels)


def test_links_to_one_file_share_its_pyramid(library, tmp_path):
    save(tmp_path / "a.npy")
    (tmp_path / "b.npy").symlink_to("a.npy")
    (tmp_path / "folder").symlink_to(tmp_path)
    paths = [library.pyramid(tmp_path / p).path for p in ("a.npy", "b.npy", "folder/a.npy", "./a.npy")]
    assert len(set(paths)) == len(names(library)) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"orient": False},
        {"orient": (40, 300)},
        {"axes": "xy"},
        {"channels": ["nir"]},
        {"nodata": 0},
        {"nodata": np.nan},
    ],
    ids=str,
)
def test_each_way_of_reading_a_file_has_its_own_pyramid(library, tmp_path, options):
    save(tmp_path / "a.npy")
    plain, other = library.pyramid(tmp_path / "a.npy"), library.pyramid(tmp_path / "a.npy", **options)
    assert plain.path != other.path
    assert library.pyramid(tmp_path / "a.npy", **options) is other


def test_two_dots_behind_a_link_mean_what_the_system_means(library, tmp_path):
    save(tmp_path / "here/a.npy", 0)
    pixels = save(tmp_path / "there/a.npy", 1)
    (tmp_path / "there/inner").mkdir()
    (tmp_path / "here/link").symlink_to(tmp_path / "there/inner")
    assert same(library.pyramid(f"{tmp_path}/here/link/../a.npy"), pixels)


def test_a_bad_file_behind_a_link_is_named_by_both_its_names(library, tmp_path):
    (tmp_path / "blob").write_text("hello")
    (tmp_path / "link.png").symlink_to("blob")
    with raises(SourceError, path=tmp_path / "blob", match=f"^{tmp_path}/link.png, which is "):
        library.pyramid(tmp_path / "link.png")


def test_each_encoding_has_its_own_pyramid(tmp_path):
    save(tmp_path / "a.npy")
    encodings = [
        Encoding(),
        Encoding("compact"),
        Encoding(kind="labels"),
        Encoding(chunks=(("y", 64),)),
        Encoding(shard=256),
    ]
    paths = {Library(tmp_path / "library", e).pyramid(tmp_path / "a.npy").path for e in encodings}
    assert len(paths) == len(encodings)


@pytest.mark.parametrize(
    "name",
    ["Ωμέγα 漢字.npy", "a" * 200 + ".npy", ".hidden.npy", "-o.npy", "a.b.c.npy", "no suffix", os.fsdecode(b"\xff.npy")],
)
def test_files_may_be_called_anything(library, tmp_path, name):
    pixels = save(tmp_path / "plain.npy", shape=(8, 8))
    os.rename(tmp_path / "plain.npy", tmp_path / name)
    for _ in range(2):
        assert same(Library(library.root).pyramid(tmp_path / name), pixels)
    [entry] = library.entries()
    assert (entry.state, entry.source) == ("current", str(tmp_path / name))


def test_a_home_directory_may_be_written_as_a_tilde(library, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    pixels = save(tmp_path / "a.npy")
    assert same(library.pyramid("~/a.npy"), pixels)


# Stores and pyramids that are open


def test_a_pyramid_that_is_open_is_handed_out_again_and_the_least_recently_used_is_dropped(tmp_path):
    library = Library(tmp_path / "library", max_open=2)
    paths = [tmp_path / f"{k}.npy" for k in range(3)]
    for path in paths:
        save(path)
    first, second = library.pyramid(paths[0]), library.pyramid(paths[1])
    assert library.pyramid(paths[0]) is first
    library.pyramid(paths[2])
    assert library.pyramid(paths[0]) is first
    assert library.pyramid(paths[1]) is not second
    assert len(library._open) == 2


def test_a_zarr_store_is_opened_where_it_is_and_again_when_it_was_replaced(library, tmp_path):
    store = tmp_path / "own.zarr"
    for seed in range(2):
        pixels = save(tmp_path / "a.npy", seed)
        ndzarr.transcode(tmp_path / "a.npy", store, overwrite=True)
        pyramid = library.pyramid(store, orient=(40, 300))
        assert pyramid.path == str(store)
        assert same(pyramid, pixels)
    library.prepare([store])
    assert names(library) == []
    assert same(library.pyramid(store, axes="cyx", channels=["gray"]), pixels)
    for option, value in {"channels": ["red"], "nodata": 3, "axes": "tyx"}.items():
        with raises(
            OptionError,
            path=tmp_path / "own.zarr",
            match=f"{option}=",
        ):
            library.pyramid(store, **{option: value})


def test_a_library_pickles_to_its_parameters(library, tmp_path):
    save(tmp_path / "a.npy")
    library.pyramid(tmp_path / "a.npy")
    pickled = pickle.dumps(Library(library.root, Encoding("compact"), 10**6, 7))
    assert len(pickled) < 500
    other = pickle.loads(pickled)
    assert (other.root, other.encoding, other.max_pixels, other.max_open) == (
        library.root,
        Encoding("compact"),
        10**6,
        7,
    )
    assert len(pickle.dumps(library)) < 500
    assert repr(library) == f"<ndzarr Library '{library.root}', preset 'fast'>"


@pytest.mark.slow
def test_a_library_works_in_a_spawned_process(library, tmp_path):
    pixels = save(tmp_path / "a.npy")
    results = SPAWN.Queue()
    process = SPAWN.Process(target=ask, args=(library, tmp_path / "a.npy", results))
    process.start()
    assert results.get(timeout=60) == (pixels.sum(dtype="u8"), 1)
    process.join()


FORK = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from helpers.library_processes import save
from ndzarr._library.library import Library
folder = Path(sys.argv[1])
library = Library(folder / "library")
sums = [save(folder / f"{k}.npy", k).sum(dtype="u8") for k in range(2)]
library.pyramid(folder / "0.npy")
child = os.fork()
assert [library.pyramid(folder / f"{k}.npy").read().sum(dtype="u8") for k in range(2)] == sums
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.slow
def test_a_library_works_after_a_fork_in_parent_and_child(tmp_path):
    subprocess.run([sys.executable, "-c", FORK, str(tmp_path)], env=environment(), timeout=60, check=True)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"NDZARR_CACHE": "/data/cache", "XDG_CACHE_HOME": "/x"}, "/data/cache"),
        ({"NDZARR_CACHE": "~/cache"}, "/home/ada/cache"),
        ({"NDZARR_CACHE": "", "XDG_CACHE_HOME": "/x"}, "/x/ndzarr"),
        ({}, "/home/ada/.cache/ndzarr"),
    ],
    ids=str,
)
def test_the_default_place_is_the_users_cache(monkeypatch, environment, expected):
    for name in ("NDZARR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/ada", **environment}.items():
        monkeypatch.setenv(name, value)
    assert cache_root() == Library().root == Path(expected)


# Made once, by one


@pytest.mark.slow
def test_two_processes_that_ask_for_the_same_pyramid_make_it_once(library, tmp_path, log):
    pixels = save(tmp_path / "a.npy")
    results = SPAWN.Queue()
    arguments = (library.root, tmp_path / "a.npy", log, 0.6, results)
    processes = [SPAWN.Process(target=make, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [pixels.sum(dtype="u8")] * 3
    for process in processes:
        process.join()
    lines = log.read_text().splitlines()
    assert len({line.split()[0] for line in lines}) == 1
    assert len(set(lines)) == len(lines), "each row was read once"
    assert len(names(library)) == 1


def test_threads_that_ask_for_the_same_pyramid_make_it_once(library, tmp_path, log, slow):
    pixels = save(tmp_path / "a.npy")
    slow(0.3)
    found = []
    threads = [threading.Thread(target=lambda: found.append(library.pyramid(tmp_path / "a.npy"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [same(pyramid, pixels) for pyramid in found] == [True] * 4
    lines = log.read_text().splitlines()
    assert len(set(lines)) == len(lines)
    assert len(names(library)) == 1


def start(library, source, log, seconds):
    results = SPAWN.Queue()
    process = SPAWN.Process(target=make, args=(library.root, source, log, seconds, results))
    process.start()
    return process, results


@pytest.mark.slow
def test_a_killed_process_leaves_nothing_to_be_seen_and_the_next_one_is_not_in_its_way(library, tmp_path, log):
    pixels = save(tmp_path / "a.npy")
    process, _ = start(library, tmp_path / "a.npy", log, 30)
    wait_for(log)
    assert states(library) == ["making"]
    assert library.prune() == []
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert all(name.startswith(".") for name in names(library))
    assert states(library) == ["partial"]
    assert same(library.pyramid(tmp_path / "a.npy"), pixels)
    assert [name for name in names(library) if name.startswith(".")] == []


@pytest.mark.slow
def test_who_waits_for_a_process_that_is_killed_makes_the_pyramid(library, tmp_path, log):
    pixels = save(tmp_path / "a.npy")
    first, _ = start(library, tmp_path / "a.npy", log, 30)
    wait_for(log)
    second, results = start(library, tmp_path / "a.npy", tmp_path / "other log", 0)
    time.sleep(1.5)  # long enough to be waiting
    os.kill(first.pid, signal.SIGKILL)
    assert results.get(timeout=60) == pixels.sum(dtype="u8")
    second.join()
    first.join()
    assert sum(not name.startswith(".") for name in names(library)) == 1


def test_no_locks_are_left_behind_after_success_or_failure(library, tmp_path):
    save(tmp_path / "a.npy")
    (tmp_path / "b.npy").write_text("no image")
    library.pyramid(tmp_path / "a.npy")
    with pytest.raises(SourceError):
        library.pyramid(tmp_path / "b.npy")
    assert [name for name in names(library) if name.startswith(".")] == []


def test_many_that_fight_for_a_lock_hold_it_one_at_a_time_though_its_file_is_removed_each_time(tmp_path):
    path, inside, most = tmp_path / ".a.zarr.lock", [], []

    def fight():
        for _ in range(20):
            with holding(path):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=fight) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert not path.exists()


# Bad sources, bad stores, bad disks


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (None, MissingError, "no such file"),
        (b"", SourceError, "empty"),
        (b"hello", SourceError, "text"),
        (b"\x89PNG\r\n\x1a\n garbage", SourceError, None),
    ],
    ids=["missing", "empty", "text", "damaged"],
)
def test_a_file_that_cannot_be_used_is_named_each_time_and_leaves_nothing(library, tmp_path, content, error, words):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    for _ in range(2):
        with raises(error, path=path, match=words):
            library.pyramid(path)
    assert names(library) == []
    save(tmp_path / "good.npy")
    os.replace(tmp_path / "good.npy", path)
    assert library.pyramid(path).shape == (1, 300, 40)


@pytest.mark.parametrize(
    "content", [None, b"", b"\0\0\0", b"{", b"{}", b"null", b"[]", b'{"node_type": "group", "attributes": {}}'], ids=str
)
def test_a_store_whose_metadata_are_damaged_is_made_again_and_not_served(library, tmp_path, content):
    pixels = save(tmp_path / "a.npy")
    file = Path(library.pyramid(tmp_path / "a.npy").path) / "zarr.json"
    file.unlink() if content is None else file.write_bytes(content)
    assert states(library) == ["damaged"]
    with pytest.warns(DamagedStoreWarning, match=file.parent.name):
        assert same(Library(library.root).pyramid(tmp_path / "a.npy"), pixels)
    assert states(library) == ["current"]
    assert len(names(library)) == 1


def zeroed(shard):
    size = shard.stat().st_size
    os.truncate(shard, 0)
    os.truncate(shard, size)


LOSSES = {
    "zeroed": zeroed,
    "cut": lambda shard: os.truncate(shard, 100),
    "emptied": lambda shard: os.truncate(shard, 0),
    "missing": Path.unlink,
}


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_store_that_lost_a_shard_is_listed_as_damaged_and_pruned(library, tmp_path, loss, level):
    save(tmp_path / "a.npy")
    store = Path(library.pyramid(tmp_path / "a.npy").path)
    assert states(library) == ["current"]
    LOSSES[loss](store / str(level) / "image/c/0/0/0")
    assert states(library) == ["damaged"]
    assert [entry.store for entry in library.prune()] == [store]
    assert states(library) == []


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_store_that_lost_a_shard_is_prepared_again(library, tmp_path, loss, level):
    pixels = save(tmp_path / "a.npy")
    store = Path(library.pyramid(tmp_path / "a.npy").path)
    LOSSES[loss](store / str(level) / "image/c/0/0/0")
    with pytest.warns(DamagedStoreWarning, match=store.name):
        Library(library.root).prepare([tmp_path / "a.npy"])
    assert states(library) == ["current"]
    assert same(Library(library.root).pyramid(tmp_path / "a.npy"), pixels)


def flipped(shard):
    content = bytearray(shard.read_bytes())
    content[50] ^= 1
    shard.write_bytes(content)


@pytest.mark.parametrize("loss", [*LOSSES, "flipped"])
def test_a_read_that_meets_damage_in_a_cached_store_makes_it_again_once(library, tmp_path, loss):
    damage = {**LOSSES, "flipped": flipped}[loss]
    pixels = save(tmp_path / "a.npy")
    shard = Path(library.pyramid(tmp_path / "a.npy").path, "0/image/c/0/0/0")
    damage(shard)
    SHARDS.clear()
    fresh = Library(library.root)
    pyramid = fresh.pyramid(tmp_path / "a.npy")
    with pytest.warns(DamagedStoreWarning, match=shard.parents[5].name) as caught:
        assert same(pyramid, pixels)
    assert len(caught) == 1
    assert same(fresh.pyramid(tmp_path / "a.npy"), pixels)
    assert ndzarr.verify(pyramid.path).ok
    damage(shard)
    SHARDS.clear()
    with raises(DamagedError, path=shard):  # the disk is at fault
        pyramid.read()


def test_threads_that_meet_the_same_damage_make_the_store_once(library, tmp_path, log):
    pixels = save(tmp_path / "a.npy")
    shard = Path(library.pyramid(tmp_path / "a.npy").path, "0/image/c/0/0/0")
    flipped(shard)
    SHARDS.clear()
    pyramid = Library(library.root).pyramid(tmp_path / "a.npy")
    with pytest.warns(DamagedStoreWarning) as caught, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: same(pyramid, pixels), range(32)))
    assert len(caught) == 1


def test_a_cached_store_that_vanished_since_it_was_opened_is_made_again(library, tmp_path):
    pixels = save(tmp_path / "a.npy")
    pyramid = library.pyramid(tmp_path / "a.npy")
    shutil.rmtree(pyramid.path)
    SHARDS.clear()
    assert same(pyramid, pixels)
    assert ndzarr.verify(pyramid.path).ok


def test_a_damaged_store_is_never_absent_while_it_is_made_again(library, tmp_path, slow):
    pixels = save(tmp_path / "a.npy")
    store = Path(library.pyramid(tmp_path / "a.npy").path)
    flipped(store / "0/image/c/0/0/0")
    SHARDS.clear()
    pyramid = Library(library.root).pyramid(tmp_path / "a.npy")
    slow(0.2)

    def is_never_absent():
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(same, pyramid, pixels)
            while not read.done():
                assert store.exists()
            return read.result()

    with pytest.warns(DamagedStoreWarning):
        assert is_never_absent()


def test_a_damaged_store_whose_source_is_gone_is_an_error(library, tmp_path):
    save(tmp_path / "a.npy")
    pyramid = library.pyramid(tmp_path / "a.npy")
    shard = Path(pyramid.path, "0/image/c/0/0/0")
    flipped(shard)
    SHARDS.clear()
    (tmp_path / "a.npy").unlink()
    with raises(DamagedError, path=shard):
        pyramid.read()
    assert shard.exists()


def test_a_store_of_another_file_under_the_name_of_this_one_is_not_served(library, tmp_path):
    save(tmp_path / "a.npy", 0)
    pixels = save(tmp_path / "b.npy", 1)
    a, b = (library.pyramid(tmp_path / f"{n}.npy").path for n in "ab")
    shutil.rmtree(b)
    shutil.copytree(a, b)
    with pytest.warns(DamagedStoreWarning, match=Path(b).name):
        assert same(Library(library.root).pyramid(tmp_path / "b.npy"), pixels)


def test_a_file_that_is_changed_while_it_is_read_is_refused(library, tmp_path, log, slow):
    path = tmp_path / "a.npy"
    save(path)
    slow(0.2)
    writer = threading.Thread(target=lambda: (wait_for(log), save(path, 1)))
    writer.start()
    with raises(SourceError, path=tmp_path / "a.npy", hint="Transcode it once it is complete"):
        library.pyramid(path)
    writer.join()
    assert names(library) == []


def test_a_library_whose_place_is_a_file_says_so(tmp_path):
    save(tmp_path / "a.npy")
    (tmp_path / "file").touch()
    for place in ("file", "file/library"):
        with raises(WriteError, hint="Choose another workdir"):
            Library(tmp_path / place).pyramid(tmp_path / "a.npy")


FULL = """
import os, sys
from pathlib import Path
import pytest
from helpers.library_processes import save
from ndzarr.errors import WriteError
from ndzarr._library.library import Library
folder, library = Path(sys.argv[1]), Library(Path(sys.argv[2]) / "library")
with pytest.raises(WriteError, match="the disk is full; nothing was kept"):
    library.pyramid(folder / "0.npy")
assert os.listdir(library.root) == []
with pytest.raises(WriteError, match="the disk is full"):
    library.prepare(folder.glob("*.npy"), workers=2)
assert os.listdir(library.root) == []
small = save(folder / "small.npy", 0, (90, 90))
assert (library.pyramid(folder / "small.npy").read() == small).all()
"""


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_and_stops_a_batch(tmp_path):
    for k in range(3):
        save(tmp_path / f"{k}.npy", k, (1000, 1000))
    done = run_on_small_disk(tmp_path / "disk", sys.executable, "-c", FULL, str(tmp_path), str(tmp_path / "disk"))
    assert done.returncode == 0, done.stderr


READ_ONLY = """
import subprocess, sys
from pathlib import Path
import pytest
from helpers.library_processes import save
from ndzarr.errors import WriteError
from ndzarr._library.library import Library
folder, disk = map(Path, sys.argv[1:])
pixels, _ = save(folder / "a.npy", 0), save(folder / "b.npy", 1)
Library(disk).pyramid(folder / "a.npy")
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
library = Library(disk)
assert (library.pyramid(folder / "a.npy").read() == pixels).all()
assert [entry.state for entry in library.entries()] == ["current"]
with pytest.raises(WriteError, match="may not be written"):
    library.pyramid(folder / "b.npy")
assert library.prune() == []
"""


@pytest.mark.slow
def test_a_library_that_cannot_be_written_serves_what_it_has_and_says_why_not_the_rest(tmp_path):
    done = run_on_small_disk(tmp_path / "disk", sys.executable, "-c", READ_ONLY, str(tmp_path), str(tmp_path / "disk"))
    assert done.returncode == 0, done.stderr


# Many at once


def test_preparing_does_the_good_ones_and_lists_the_bad_ones_in_order(library, tmp_path):
    good = {tmp_path / f"{k}.npy": save(tmp_path / f"{k}.npy", k) for k in range(5)}
    (tmp_path / "text.png").write_text("hello")
    sources = [*good, tmp_path / "text.png", tmp_path / "gone.png", *good, tmp_path / "gone.png"]
    with pytest.raises(BatchError) as caught:
        library.prepare(sources, workers=3)
    assert [f.source for f in caught.value.failures] == [str(tmp_path / "text.png"), str(tmp_path / "gone.png")]
    assert [type(f.error) for f in caught.value.failures] == [SourceError, MissingError]
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 sources could not be used; all others are done:"
    assert all(line.strip().startswith(str(tmp_path)) for line in lines[1:])
    assert isinstance(caught.value, NdzarrError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert len(names(library)) == 5
    for path, pixels in good.items():
        assert same(library.pyramid(path), pixels)


def test_preparing_again_makes_only_what_is_missing_or_changed(library, tmp_path, log, slow):
    paths = [tmp_path / f"{k}.npy" for k in range(4)]
    for path in paths[:3]:
        save(path)
    library.prepare(paths[:3])
    slow(0)
    library.prepare(paths[:3])
    assert not log.exists()
    save(paths[0], 1)
    save(paths[3])
    library.prepare(paths)
    assert {line.split()[1] for line in log.read_text().splitlines()} == {str(paths[0]), str(paths[3])}


def test_preparing_waits_for_the_disk_about_once_a_second_and_not_for_each_store(library, tmp_path, monkeypatch):
    waits = []
    flush = _files.flush
    monkeypatch.setattr(_files, "flush", lambda paths: (waits.append(1), flush(paths)))
    pixels = {tmp_path / f"{k}.npy": save(tmp_path / f"{k}.npy", k, (30, 30)) for k in range(50)}
    begun = time.monotonic()
    library.prepare(pixels, workers=2)
    assert len(waits) <= 50 // 32 + 1 + (time.monotonic() - begun)
    assert len(names(library)) == 50
    for path, expected in pixels.items():
        assert same(library.pyramid(path), expected)


@pytest.mark.slow
def test_two_processes_that_prepare_the_same_sources_in_opposite_orders_do_not_wait_for_each_other_forever(
    library, tmp_path
):
    """Each holds stores of its batch that the other wants."""
    paths = [tmp_path / f"{k}.npy" for k in range(40)]
    for k, path in enumerate(paths):
        save(path, k, (30, 30))
    processes = [SPAWN.Process(target=library.prepare, args=(order, 2)) for order in (paths, paths[::-1])]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(names(library)) == 40


def test_preparing_takes_requests_and_makes_what_is_asked_for_afterwards(library, tmp_path, log, slow):
    save(tmp_path / "a.npy")
    library.prepare([Request(str(tmp_path / "a.npy"), channels=("nir",)), (tmp_path / "a.npy", False)])
    slow(0)
    assert library.pyramid(tmp_path / "a.npy", channels=["nir"]).channels == ("nir",)
    library.pyramid(tmp_path / "a.npy", orient=False)
    assert not log.exists()


def test_preparing_shows_a_bar_only_when_told_to(library, tmp_path, capsys, slow):
    for k in range(3):
        save(tmp_path / f"{k}.npy")
    slow(0.6)
    library.prepare([tmp_path / "0.npy"])
    assert capsys.readouterr() == ("", "")
    library.prepare([tmp_path / "1.npy", tmp_path / "2.npy"], workers=1, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err


def test_a_defect_in_one_task_costs_no_other_and_says_where_it_was():
    done = []

    def work(k, turn):
        if k == 2:
            raise ZeroDivisionError("a defect")
        done.append(k)

    tasks = [batch.Task(f"file {k}", lambda turn, k=k: work(k, turn)) for k in range(6)]
    with pytest.raises(ZeroDivisionError) as caught:
        batch.run_tasks(tasks, 2)
    assert caught.value.__notes__ == ["while working on file 2"]
    assert sorted(done) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize(("tasks", "workers", "expected"), [(1, 8, 8), (3, 8, 2), (9, 8, 1), (9, 1, 1), (0, 2, None)])
def test_threads_that_sources_do_not_take_up_encode(tasks, workers, expected):
    seen = []
    batch.run_tasks([batch.Task("", lambda turn: seen.append(turn.threads))] * tasks, workers)
    assert set(seen) == ({expected} if tasks else set())


def test_an_interrupt_ends_what_is_under_way_and_leaves_nothing(library, tmp_path, log, slow):
    for k in range(6):
        frames = np.full((20, 30, 40), k, "u1")
        tifffile.imwrite(tmp_path / f"{k}.tif", frames, photometric="minisblack", metadata={"axes": "TYX"})
    slow(0.3)
    thread = threading.Thread(target=lambda: (wait_for(log, 2), os.kill(os.getpid(), signal.SIGINT)))
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        library.prepare(sorted(tmp_path.glob("*.tif")), workers=2)
    thread.join()
    read = Counter(line.split()[1] for line in log.read_text().splitlines())
    assert max(read.values()) < 20, "a source was read to its end"
    assert names(library) == []


def test_an_interrupt_also_ends_waiting_for_somebody_elses_lock(library, tmp_path):
    save(tmp_path / "a.npy")
    slot = library._entry(Request(str(tmp_path / "a.npy")))
    library.root.mkdir()
    with holding(lock_of(slot.store)):
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            library.prepare([tmp_path / "a.npy"])
    assert names(library) == []


# What lies there, and what may go


def test_entries_say_what_will_be_used_again_and_prune_removes_the_rest(library, tmp_path):
    for name in ("current", "stale", "orphaned", "damaged"):
        save(tmp_path / f"{name}.npy")
        library.pyramid(tmp_path / f"{name}.npy")
    save(tmp_path / "stale.npy", 1)
    (tmp_path / "orphaned.npy").unlink()
    [damaged] = library.root.glob("damaged-*")
    (damaged / "zarr.json").unlink()
    partial = library.root / f".{damaged.name}.0123456789ab.partial"
    (partial / "0/image/c").mkdir(parents=True)
    (partial / "0/image/c/0").write_bytes(bytes(1000))
    (library.root / f".{damaged.name}.lock").touch()
    found = {(entry.state, entry.source): entry for entry in library.entries()}
    assert set(found) == {
        ("current", str(tmp_path / "current.npy")),
        ("stale", str(tmp_path / "stale.npy")),
        ("orphaned", str(tmp_path / "orphaned.npy")),
        ("damaged", None),
        ("partial", None),
    }
    assert found["partial", None].nbytes == 1000
    assert 300 * 40 * 2 < found["current", str(tmp_path / "current.npy")].nbytes < 300 * 40 * 2 * 4
    before = names(library)
    assert library.prune(dry_run=True) == [entry for entry in found.values() if entry.useless]
    assert names(library) == before
    removed = library.prune()
    assert sorted(entry.state for entry in removed) == ["damaged", "orphaned", "partial", "stale"]
    assert [name.rpartition("-")[0] for name in names(library)] == ["current"]
    assert library.prune() == []


def test_pruning_touches_nothing_that_the_library_did_not_make(library, tmp_path):
    save(tmp_path / "a.npy")
    library.pyramid(tmp_path / "a.npy")
    ndzarr.transcode(tmp_path / "a.npy", library.root / "mine.zarr")
    shutil.copytree(library.root / "mine.zarr", library.root / "mine-0123456789abcdef.zarr")
    (library.root / "notes.txt").touch()
    (library.root / "folder").mkdir()
    (library.root / "folder-0123456789abcdef.zarr").touch()
    (library.root / ".mine.zarr.extract_0123456789ab.partial").mkdir()
    (tmp_path / "a.npy").unlink()
    before = names(library)
    [removed] = library.prune()
    assert removed.state == "orphaned"
    assert names(library) == [name for name in before if name != removed.store.name]


def test_an_unfinished_store_goes_once_nobody_holds_its_lock(library):
    library.root.mkdir()
    with publishing(library.root / "mine.zarr") as work:
        assert states(library) == ["making"]
        assert library.prune() == []
        (work / "zarr.json").touch()
    (library.root / ".mine.zarr.1.partial").mkdir()
    (library.root / ".mine.zarr.1.lock").touch()
    assert [entry.store.name for entry in library.prune()] == [".mine.zarr.1.partial"]
    assert names(library) == ["mine.zarr"]


def test_a_store_that_somebody_holds_is_not_pruned(library, tmp_path):
    save(tmp_path / "a.npy")
    store = Path(library.pyramid(tmp_path / "a.npy").path)
    (tmp_path / "a.npy").unlink()
    with holding(lock_of(store)):
        assert library.prune() == []
    assert [entry.store for entry in library.prune()] == [store]


def test_a_library_that_does_not_exist_holds_nothing(library):
    assert list(library.entries()) == library.prune() == []
    assert not library.root.exists()


def test_what_is_recorded_of_a_source_is_what_it_was(library, tmp_path):
    save(tmp_path / "a.npy")
    store = Path(library.pyramid(tmp_path / "a.npy").path)
    source = json.loads((store / "zarr.json").read_text())["attributes"]["ndzarr"]["source"]
    stat = (tmp_path / "a.npy").stat()
    assert (source["path"], source["size"], source["mtime_ns"]) == (
        str(tmp_path / "a.npy"),
        stat.st_size,
        stat.st_mtime_ns,
    )
    assert store.name == f"a-{source['key']}.zarr"


def test_an_open_pyramid_costs_one_look_at_the_file(library, tmp_path, monkeypatch):
    save(tmp_path / "a.npy")
    path = os.fspath(tmp_path / "a.npy")
    pyramid = library.pyramid(path)
    looks = []
    real = os.stat
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda *args, **options: looks.append(args[0]) or real(*args, **options))
        patch.setattr("builtins.open", None)
        patch.setattr(os, "open", None)
        assert library.pyramid(path) is pyramid
    assert list(map(os.fspath, looks)) == [path]


def test_a_file_replaced_by_another_of_the_same_size_and_time_is_transcoded_anew(library, tmp_path):
    path, other = tmp_path / "a.npy", tmp_path / "b.npy"
    for seed, name in ((0, path), (1, other)):
        pixels = save(name, seed)
        os.utime(name, (1, 1))
    library.pyramid(path)
    os.replace(other, path)
    assert same(Library(library.root).pyramid(path), pixels)
    assert states(library) == ["current", "stale"]


def test_a_file_may_be_known_by_its_content(library, tmp_path):
    library = Library(library.root, identity="content")
    path, copy = tmp_path / "a.npy", tmp_path / "b.npy"
    pixels = save(path, 0)
    first = library.pyramid(path)
    shutil.copy(path, copy)
    os.replace(copy, path)
    os.utime(path, (1, 1))
    assert pickle.loads(pickle.dumps(library)).pyramid(path).path == first.path
    assert states(library) == ["current"]
    stat = path.stat()
    new = save(path, 1)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not np.array_equal(new, pixels)
    assert same(Library(library.root, identity="content").pyramid(path), new)
    assert states(library) == ["current", "stale"]
    with raises(OptionError, key="identity"):
        Library(library.root, identity="name")


# Directories that users share

TWO_USERS = """
import os, sys
from pathlib import Path
folder, step, uid, umask = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4], 8)
import concurrent.futures.thread, tempfile
import ndzarr._pyramid.transcode
from ndzarr._library.library import Library
from ndzarr.errors import StoreError
warm = Library(tempfile.mkdtemp())  # imports everything while that may be read
warm.pyramid(folder / "a.npy").read()
list(warm.entries())
library = Library(folder / "library")
os.umask(umask)
os.setgroups([])
os.setgid(uid if step != "group" else 7000)
os.setuid(uid)
if step == "die":
    real = ndzarr._pyramid.transcode.write_pyramid
    ndzarr._pyramid.transcode.write_pyramid = lambda *args, **options: os.kill(os.getpid(), 9)
if step == "unreadable":
    try:
        library.pyramid(folder / "a.npy")
    except StoreError as error:
        assert "workdir" in error.hint, error.hint
    else:
        raise AssertionError
    library.pyramid(folder / "b.npy")
    assert sorted(entry.state for entry in library.entries()) == ["current", "unreadable"]
    assert library.prune() == []
else:
    library.pyramid(folder / "a.npy")
"""


@pytest.fixture
def as_user(tmp_path):
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("needs root, to become other users")
    modes = {folder: folder.stat().st_mode for folder in (tmp_path, *tmp_path.parents)}
    for folder, mode in modes.items():  # temporary directories are for their owner alone
        if mode & 0o055 != 0o055:
            folder.chmod(mode | 0o055)
    for name in "ab":
        save(tmp_path / f"{name}.npy")
        (tmp_path / f"{name}.npy").chmod(0o644)
    (tmp_path / "library").mkdir()
    (tmp_path / "library").chmod(0o777)

    def run(step, uid, umask):
        command = [sys.executable, "-c", TWO_USERS, tmp_path, step, str(uid), umask]
        return subprocess.run(command, env=environment(), timeout=100, check=False).returncode

    yield run
    for folder, mode in modes.items():
        folder.chmod(mode)


@pytest.mark.slow
def test_the_lock_of_another_users_dead_process_blocks_nobody(library, as_user):
    assert as_user("die", 7001, "077") == -signal.SIGKILL
    assert names(library) != []
    assert as_user("make", 7002, "022") == 0
    assert [name for name in names(library) if name.startswith(".")] == []


@pytest.mark.slow
def test_a_store_that_this_user_may_not_read_is_named_and_spoils_neither_listing_nor_pruning(library, as_user):
    assert as_user("make", 7001, "077") == 0
    assert as_user("unreadable", 7002, "022") == 0


@pytest.mark.slow
def test_a_directory_of_a_group_works_by_umask(library, as_user, tmp_path):
    os.chown(library.root, 0, 7000)
    library.root.chmod(0o2770)
    assert as_user("group", 7001, "002") == 0
    [store] = library.root.iterdir()
    assert store.stat().st_gid == 7000
    assert all(path.stat().st_mode & 0o020 for path in [store, *store.rglob("*")])
    (store / "zarr.json").write_text("{")  # damaged: another user of the group makes it again
    assert as_user("group", 7002, "002") == 0
    assert len(names(library)) == 1
    assert states(library) == ["current"]
