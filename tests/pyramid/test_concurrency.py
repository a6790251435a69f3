"""Threads, forks, spawned processes, pickles and what an import costs."""

import json
import multiprocessing
import operator
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import ndzarr
from helpers.arrays import random_array, same
from helpers.pyramids import make
from helpers.subprocesses import environment
from ndzarr._files import open_files_limit
from ndzarr._store.sharding import SHARDS, ChunkCache, ChunkKeys, Folder, IndexLayout, Shard, ShardCache

SMALL = {"chunks": {"y": 32, "x": 32}, "shard": 64}


def run(script, *args, options=(), **variables):
    """Run a script in a new interpreter, with environment variables, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *options, "-c", script, *map(str, args)],
        env=environment(**variables),
        timeout=120,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def tiny_shard_cache():
    SHARDS.clear()
    before, SHARDS.max_files = SHARDS.max_files, 2
    yield SHARDS
    SHARDS.max_files = before
    SHARDS.clear()


def read_at_random(pyramid, array, threads=8, reads=60):
    """Threads that read windows at random; the windows that were wrong."""

    def reader(seed):
        rng = np.random.default_rng(seed)
        wrong = []
        for _ in range(reads):
            (y, x), (h, w) = rng.integers(0, 250, 2), rng.integers(1, 90, 2)
            window = {"y": slice(y, y + h), "x": slice(x, x + w)}
            many = pyramid.read_many([window, {"y": slice(x, x + 5), "x": slice(y, y + 5)}])
            if not same(many[0], array[:, window["y"], window["x"]]):
                wrong.append(window)
            if not same(many[1], array[:, x : x + 5, y : y + 5]):
                wrong.append((x, y))
        return wrong

    with ThreadPoolExecutor(threads) as pool:
        return [w for wrong in pool.map(reader, range(threads)) for w in wrong]


@pytest.mark.parametrize("cache_bytes", [0, 10_000, 10**7])
def test_many_threads_may_read_one_pyramid(tmp_path, cache_bytes):
    array = random_array((2, 300, 300), "u2", zeros=0.2)
    pyramid = make(tmp_path, array, **SMALL, cache_bytes=cache_bytes)
    assert read_at_random(pyramid, array) == []


@pytest.mark.parametrize("cache_bytes", [0, 10_000])
def test_a_tiny_cache_of_shards_is_slower_but_right(tmp_path, tiny_shard_cache, cache_bytes):
    array = random_array((2, 300, 300), "u2")
    pyramid = make(tmp_path, array, **SMALL, cache_bytes=cache_bytes)
    assert read_at_random(pyramid, array) == []
    assert len(tiny_shard_cache) <= 2 + 8, "each thread may add one beyond the limit before it sees the others"
    assert same(pyramid.read(), array)


def test_threads_decode_large_plans_into_the_right_places(tmp_path):
    array = random_array((3, 2500, 2500), "u2")
    pyramid = make(tmp_path, array, chunks=LARGE_CHUNKS)
    windows = [{"y": slice(i, i + 700), "x": slice(2 * i, 2 * i + 900)} for i in range(0, 900, 130)]
    for window, pixels in zip(windows, pyramid.read_many(windows), strict=True):
        assert same(pixels, array[:, window["y"], window["x"]])
    with ThreadPoolExecutor(4) as pool:
        for pixels in pool.map(lambda _: pyramid.read(), range(8)):
            assert same(pixels, array)


def shard_file(folder, name, chunks=2):
    from ndzarr._store.sharding import ShardWriter

    file = ShardWriter(folder / "c" / name, (chunks,), chunks)
    for k in range(chunks):
        file.add((k,), bytes([k]) * 10)
    file.finish()
    return str(folder / "c" / name)


def test_the_cache_of_shards_keeps_to_both_budgets_and_drops_the_oldest(tmp_path):
    folder = Folder(str(tmp_path), 0, ChunkKeys(), IndexLayout(2))
    paths = [shard_file(tmp_path, str(k)) for k in range(6)]
    held = ShardCache(max_files=3)
    for k in range(len(paths)):
        shard = held[folder, (k,)]
        assert isinstance(shard, Shard)
        assert len(held) == min(3, k + 1)
        assert held[folder, (k,)] is shard, "held, so it is not mapped again"
    small = ShardCache(max_bytes=1)
    for k in range(len(paths)):
        assert small[folder, (k,)].encoded(1).tobytes() == b"\1" * 10
        assert len(small) == 1


def test_a_shard_that_was_dropped_stays_readable_for_whoever_holds_it(tmp_path):
    held = ShardCache(max_files=1)
    folder = Folder(str(tmp_path), 0, ChunkKeys(), IndexLayout(2))
    paths = [shard_file(tmp_path, name) for name in ("0", "1")]
    first = held[folder, (0,)]
    encoded = first.encoded(1)
    assert held[folder, (1,)] is not None
    os.unlink(paths[0])
    del first
    assert encoded.tobytes() == b"\1" * 10


def test_the_number_of_open_files_follows_the_limit_of_the_system(monkeypatch):
    resource = pytest.importorskip("resource")
    for soft, most in ((32, 4), (64, 12), (256, 108), (1024, 492), (resource.RLIM_INFINITY, 8192)):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, soft=soft: (soft, soft))
        assert open_files_limit(2, 8192) == most


@pytest.mark.slow
def test_many_shards_do_not_use_up_the_file_descriptors(tmp_path):
    script = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
import numpy as np, ndzarr
pyramid = ndzarr.open(sys.argv[1])
for _ in range(2):
    for y in range(0, 300, 16):
        assert (pyramid.read(y=slice(y, y + 16)) == 7).all()
print("fine")
"""
    pyramid = make(tmp_path, np.full((1, 300, 300), 7, "u1"), chunks={"y": 16, "x": 16}, shard=16)
    assert run(script, pyramid.path) == "fine\n"


def test_the_cache_of_chunks_drops_the_least_recently_used():
    held = ChunkCache(100)
    for key in "abc":
        held.put(key, np.zeros(40, "u1"))
    assert held.get("a") is None
    assert held.get("b") is not None
    held.put("d", np.zeros(40, "u1"))
    assert held.get("c") is None
    assert held.get("b") is not None
    held.put("large", np.zeros(101, "u1"))
    assert held.get("large") is None
    assert held.nbytes == 80
    assert len(pickle.loads(pickle.dumps(held))._chunks) == 0


def test_threads_that_race_do_not_wear_the_cache_of_chunks_out():
    held = ChunkCache(1000)

    def use(seed):
        rng = np.random.default_rng(seed)
        for key in rng.integers(0, 15, 3000).tolist():
            found = held.get(key)
            assert found is None or (found == key).all()
            if found is None:
                held.put(key, np.full(100, key, "u1"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    for key in range(100, 110):
        held.put(key, np.full(100, key, "u1"))
    assert sum(chunk.nbytes for chunk in held._chunks.values()) >= 800, "the budget is still of use"
    assert sum(chunk.nbytes for chunk in held._chunks.values()) <= 1000


@pytest.mark.parametrize("cache_bytes", [0, 12345])
def test_a_pyramid_pickles_to_its_path(tmp_path, cache_bytes):
    array = random_array((3, 400, 400), "u1")
    pyramid = make(tmp_path, array, cache_bytes=cache_bytes)
    repr(pyramid), pyramid._repr_html_(), pyramid.window(y=slice(0, 9)), pyramid.read()
    content = pickle.dumps(pyramid)
    assert len(content) < 500
    again = pickle.loads(content)
    assert same(again.read(), array)
    assert (again.dims, again.channels, again.path) == (pyramid.dims, pyramid.channels, pyramid.path)
    assert (again.cache.max_bytes if again.cache else 0) == cache_bytes


def test_a_pyramid_pickled_by_a_relative_path_is_found_from_elsewhere(tmp_path, monkeypatch):
    make(tmp_path, random_array((1, 20, 20), "u1"))
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(ndzarr.open("a.zarr"))
    monkeypatch.chdir("/")
    assert pickle.loads(content).shape == (1, 20, 20)


LARGE_CHUNKS = {"x": 512, "y": 512}
"""Threads decode only chunks that take long."""

FORKING = """
import multiprocessing, os, sys, threading, warnings
import numpy as np, ndzarr
warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tested
pyramid = ndzarr.open(sys.argv[1])
threads = lambda: len(os.listdir("/proc/self/task"))  # also those of the compiled core
before = threads()
whole = pyramid.read()
assert threads() > before, "the pool should be at work, or this shows nothing"
wanted = whole.sum()
stop = threading.Event()
def busy():
    while not stop.is_set():
        pyramid.read()
threading.Thread(target=busy, daemon=True).start()

for _ in range(5):
    child = os.fork()
    if not child:
        ok = pyramid.read().sum() == wanted and pyramid.read().sum() == wanted
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0, "a forked child read something else"
context = multiprocessing.get_context("fork")
with context.Pool(2) as pool:
    assert all(pixels.sum() == wanted for pixels in pool.map(ndzarr.Pyramid.read, [pyramid] * 3))
stop.set()
assert pyramid.read().sum() == wanted, "the parent's threads are still there"
print("fine")
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
@pytest.mark.parametrize("core", ["0", "1"])
def test_a_fork_after_threads_were_used_reads_on_its_own(tmp_path, core):
    array = random_array((3, 1600, 1600), "u1")
    assert run(FORKING, make(tmp_path, array, chunks=LARGE_CHUNKS).path, NDZARR_CORE=core) == "fine\n"


@pytest.mark.slow
def test_a_spawned_process_reads_what_it_was_sent(tmp_path):
    array = random_array((1, 300, 300), "u1")
    pyramid = make(tmp_path, array)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert same(pool.apply(operator.methodcaller("read"), (pyramid,)), array)
        assert same(pool.apply(operator.methodcaller("read", y=slice(5, 9)), (pyramid,)), array[:, 5:9])


HEAVY = [
    "torch",
    "dask",
    "kwcoco",
    "kwimage",
    "av",
    "xarray",
    "zarr",
    "cv2",
    "pandas",
    "PIL",
    "tifffile",
    "tqdm",
    "click",
    "scipy",
]


@pytest.mark.slow
def test_importing_ndzarr_starts_no_thread_and_loads_nothing_heavy():
    script = """
import json, sys, threading
before = set(sys.modules)
import ndzarr
print(json.dumps([threading.active_count(), sorted({m.partition(".")[0] for m in set(sys.modules) - before})]))
"""
    threads, modules = json.loads(run(script))
    assert threads == 1
    assert sorted(set(HEAVY) & set(modules)) == []


@pytest.mark.slow
def test_opening_and_reading_load_nothing_heavy_and_small_windows_start_no_thread(tmp_path):
    script = """
import json, sys, threading
import ndzarr
pyramid = ndzarr.open(sys.argv[1])
pyramid.read(y=slice(0, 100), x=slice(0, 100))
pyramid.plan([{}]).explain()
repr(pyramid)
print(json.dumps([threading.active_count(), sorted({m.partition(".")[0] for m in sys.modules})]))
"""
    pyramid = make(tmp_path, random_array((3, 400, 400), "u1"))
    threads, modules = json.loads(run(script, pyramid.path))
    assert threads == 1
    assert sorted(set(HEAVY) & set(modules)) == []
