"""The compiled core gives the bytes and the errors that the Python way gives."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.arrays import DTYPES, photo, random_array, same
from helpers.hypothesis_settings import examples
from helpers.pyramids import make
from helpers.subprocesses import environment
from ndzarr._concurrency import available_cpus
from ndzarr._indexing.plan import plan_reads
from ndzarr._indexing.selection import select
from ndzarr._prediction.blending import blend
from ndzarr._store import core
from ndzarr._store.arrays import open_array
from ndzarr._store.codecs import ChunkCodec
from ndzarr._store.core import MEMORY, PREDICTORS, ChunkFormat, FlatPlan
from ndzarr._store.read import execute
from ndzarr._store.sharding import INDEX_CODECS, SHARDS, ShardWriter
from ndzarr.errors import DamagedError

built = pytest.mark.skipif(not core.is_built(), reason="the compiled core was not built here")


@pytest.fixture
def in_python(monkeypatch):
    """Call it to switch the core off."""
    return lambda: monkeypatch.setattr(core, "enabled", False)


@st.composite
def codecs(draw, axes=3):
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=axes, max_size=axes)))
    return ChunkCodec(
        shape,
        dtype,
        draw(st.sampled_from((None, "blosc", "zstd"))),
        cname=draw(st.sampled_from(("lz4", "lz4hc", "zstd", "blosclz", "zlib"))),
        shuffle=draw(st.sampled_from(("noshuffle", "shuffle", "bitshuffle"))),
        delta=dtype.kind in "iu" and draw(st.booleans()),
        order=draw(st.none() | st.permutations(range(axes)).map(tuple)),
        crc=draw(st.booleans()),
    )


@st.composite
def windows(draw, shape):
    def axis(n):
        if draw(st.integers(0, 3)) == 0:
            return draw(st.lists(st.integers(0, n - 1), max_size=3))
        start = draw(st.integers(0, n))
        return slice(start, draw(st.integers(start, n)), draw(st.sampled_from((1, 1, 2, 5))))

    return {name: axis(n) for name, n in zip("cyx", shape, strict=True)}


def pick(array, window):
    """The pixels of a window, by numpy."""
    indices = [
        np.arange(n)[np.array(w, int) if isinstance(w, list) else w]
        for n, w in zip(array.shape, window.values(), strict=True)
    ]
    return array[np.ix_(*indices)]


def write(folder, array, codec, per_shard, fill, left_out=frozenset()):
    """Write a sharded array; open it as the hot path does."""
    grid = [-(-n // c) for n, c in zip(array.shape, codec.shape, strict=True)]
    whole = np.full([g * c for g, c in zip(grid, codec.shape, strict=True)], fill, array.dtype)
    whole[tuple(slice(n) for n in array.shape)] = array
    writers = {}
    for chunk in np.ndindex(*grid):
        position = tuple(i // n for i, n in zip(chunk, per_shard, strict=True))
        if position not in writers:
            writers[position] = ShardWriter(folder.joinpath("c", *map(str, position)), per_shard, 0)
        if chunk not in left_out:
            box = tuple(slice(i * n, (i + 1) * n) for i, n in zip(chunk, codec.shape, strict=True))
            within = [i % n for i, n in zip(chunk, per_shard, strict=True)]
            writers[position].add(within, codec.encode(whole[box]))
    for writer in writers.values():
        writer.finish()
    inner = {"chunk_shape": list(codec.shape), "codecs": codec.metadata(), "index_codecs": INDEX_CODECS}
    names = {"b": "bool", "c": "complex", "u": "uint", "i": "int", "f": "float"}
    bits = "" if array.dtype.kind == "b" else str(8 * array.dtype.itemsize)
    found = open_array(
        str(folder),
        {
            "node_type": "array",
            "shape": list(array.shape),
            "data_type": names[array.dtype.kind] + bits,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [c * n for c, n in zip(codec.shape, per_shard, strict=True)]},
            },
            "codecs": [{"name": "sharding_indexed", "configuration": inner}],
            "fill_value": [7, 0] if array.dtype.kind == "c" else True if array.dtype.kind == "b" else 7,
        },
    )
    assert not isinstance(found, str), found
    return found


@built
@given(st.data(), codecs())
@examples(60)
def test_every_codec_dtype_order_and_window_gives_the_pixels_of_the_array(tmp_path_factory, data, codec):
    shape = tuple(data.draw(st.integers(1, 20)) for _ in range(3))
    array = random_array(shape, codec.dtype, seed=data.draw(st.integers(0, 3)))
    per_shard = tuple(data.draw(st.integers(1, 3)) for _ in range(3))
    fill = codec.dtype.type(7)
    grid = list(np.ndindex(*(-(-n // c) for n, c in zip(shape, codec.shape, strict=True))))
    gone = data.draw(st.sets(st.sampled_from(grid), max_size=2))
    for chunk in gone:
        array[tuple(slice(i * n, (i + 1) * n) for i, n in zip(chunk, codec.shape, strict=True))] = fill
    folder = tmp_path_factory.mktemp("array")
    stored = write(folder, array, codec, per_shard, fill, gone)
    assert stored.chunk_format.known
    # one window, some, and as many as numpy plans
    wanted = data.draw(st.lists(windows(shape), min_size=1, max_size=3)) * data.draw(st.sampled_from((1, 1, 9)))
    plan = plan_reads([(stored, select("cyx", shape, window)) for window in wanted])
    threads = data.draw(st.sampled_from((None, 1, 3)))
    flags = [np.zeros(n, array.dtype) for n in plan.shapes]
    swapped = [out.T.copy().T if data.draw(st.booleans()) else out for out in flags]  # any strides
    for window, found in zip(wanted, execute(plan, swapped, threads=threads), strict=True):
        assert same(found, pick(array, window))
    SHARDS.clear()


@built
@given(st.data(), codecs().filter(lambda codec: codec.compressor is not None or codec.crc))
@examples(50)
def test_damage_is_found_and_told_as_the_python_way_does(tmp_path_factory, data, codec):
    array = random_array((3, 20, 20), codec.dtype)
    folder = tmp_path_factory.mktemp("array")
    stored = write(folder, array, codec, (1, 2, 2), codec.dtype.type(7))
    file = Path(stored.shard_file((0, 0, 0)))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(content[data.draw(st.sampled_from((0, 0, 0, 1, 40))) :]))
    told = []
    for way in (True, False):
        SHARDS.clear()
        plan = plan_reads([(stored, select("cyx", (3, 20, 20), {}))])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(core, "enabled", way)
            try:
                told.append(execute(plan)[0].tobytes())
            except DamagedError as error:
                told.append((str(error), error.path, error.hint))
    assert told[0] == told[1]


@built
@given(st.data())
@examples(75)
def test_tables_that_do_not_fit_are_refused_before_anything_is_touched(data):
    """The core is given numbers only; none of them may lead it out of a chunk or a window."""
    number = st.integers(-2, 6) | st.sampled_from((-(2**63), 2**63 - 1, 2**62, 2**33))
    pixels = np.arange(24, dtype=np.uint8)
    format = ChunkFormat("raw", (2, 3, 4), np.dtype(np.uint8))
    out = np.full((2, 3, 4), 99, np.uint8)
    chunks = np.array([[MEMORY, pixels.ctypes.data, 24, 0, 0, 1]])
    parts = np.array([[0, 0, 0, 0, 0, 0, 0, 2, 3, 4]])
    steps = np.ones((1, 3), np.int64)
    for table in (chunks[:, 3:], parts, steps):
        for _ in range(data.draw(st.integers(0, 2))):
            table[0, data.draw(st.integers(0, table.shape[1] - 1))] = data.draw(number)
    try:
        assert FlatPlan(3, (format,), [out], steps, chunks, parts).decode() == []
    except ValueError:
        assert (out == 99).all()
        return
    want = np.full((2, 3, 4), 99, np.uint8)
    for _, *box in parts[chunks[0, 4] : chunks[0, 5]].tolist():
        start, target, size = box[:3], box[3:6], box[6:]
        picked = zip(start, size, steps[0].tolist(), strict=True)
        source = tuple(slice(a, a + (n - 1) * step + 1 if n else a, step) for a, n, step in picked)
        want[tuple(slice(a, a + n) for a, n in zip(target, size, strict=True))] = pixels.reshape(2, 3, 4)[source]
    assert same(out, want)


@built
@given(st.data())
@examples(75)
def test_rows_that_do_not_fit_a_chunk_are_refused_too(data):
    number = st.integers(-2, 26) | st.sampled_from((-(2**63), 2**63 - 1, 2**33))
    dtype = np.dtype(data.draw(st.sampled_from(("u1", "u2", "f4", "f8"))))
    pixels = np.arange(24, dtype=dtype)
    format = ChunkFormat(
        data.draw(st.sampled_from(("raw", "raw", "zstd", "lzw", "jpeg"))),
        (2, 3, 4),
        dtype,
        row=data.draw(st.tuples(number, number) | st.sampled_from(((4, 1), (12, 4), (24, 3), None))),
        predictor=data.draw(st.sampled_from(PREDICTORS)),
        swapped=data.draw(st.booleans()),
        early=data.draw(st.booleans()),
        ycbcr=data.draw(st.booleans()),
        tables=data.draw(st.binary(max_size=9)),
    )
    out = np.zeros((1, 2, 3), dtype)
    start = data.draw(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 1)))
    parts = np.array([[0, *start, 0, 0, 0, 1, 2, 3]])
    chunks = np.array([[MEMORY, pixels.ctypes.data, pixels.nbytes, 0, 0, 1]])
    try:
        left = FlatPlan(3, (format,), [out], np.ones((1, 3), np.int64), chunks, parts).decode()
    except ValueError:
        return
    if format.kind == "raw":
        assert left == []
        if format.predictor == "none" and not (format.swapped and dtype.itemsize > 1):
            z, y, x = start
            assert same(out, pixels.reshape(2, 3, 4)[z : z + 1, y : y + 2, x : x + 3])


@built
@pytest.mark.parametrize("channels", [1, 3])
def test_jpegs_in_a_store_give_the_pixels_and_the_errors_of_the_python_way(channels, tmp_path):
    make(tmp_path, photo(200, 300).transpose(2, 0, 1)[:channels], preset="jpeg")
    path = tmp_path / "a.zarr"
    assert "compiled core" in str(ndzarr.open(path).plan([{}]).explain())
    for window in ({}, {"y": slice(50, 190), "x": slice(3, 200)}):
        told = []
        for way in (True, False):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(core, "enabled", way)
                told.append(ndzarr.open(path).read(**window))
        assert same(*told)


@built
def test_chunks_in_memory_are_decoded_as_those_in_files():
    rng = np.random.default_rng(0)
    codec = ChunkCodec((40, 50), np.dtype("u2"), "zstd", delta=True, order=(1, 0))
    pixels = rng.integers(0, 9, (40, 50)).astype("u2")
    encoded = np.frombuffer(codec.encode(pixels), np.uint8)
    broken = encoded.copy()
    broken[7] ^= 1
    out = np.zeros((2, 10, 10), "u2")
    chunks = [[MEMORY, e.ctypes.data, e.size, 0, k, k + 1] for k, e in enumerate((broken, encoded))]
    parts = [[k, 20, 30, 0, 0, 10, 10] for k in range(2)]
    plan = FlatPlan(2, (codec.chunk_format(0),), list(out), np.ones((2, 2), int), np.array(chunks), np.array(parts))
    assert plan.decode() == [0]
    assert same(out[1], pixels[20:30, 30:40])


@built
@given(codec=codecs(), width=st.integers(1, 30), wanted=st.lists(st.booleans(), min_size=30, max_size=30))
@examples(60)
def test_chunks_side_by_side_are_encoded_to_the_bytes_of_the_python_way(codec, width, wanted):
    strip = random_array((*codec.shape[:-1], width), codec.dtype)
    chunks = codec.split(strip)
    found = codec.encode_all(chunks, wanted[: len(chunks)])
    assert len(found) == -(-width // codec.shape[-1])
    for chunk, want, encoded in zip(chunks, wanted, found, strict=False):
        assert encoded == (codec.encode(chunk) if want else None)
    joined = np.concatenate(list(chunks), -1)[..., :width]
    assert same(joined, strip)


@built
def test_chunks_that_cannot_be_encoded_are_refused():
    chunks = np.zeros((2, 8), "u2")
    assert core.encode(chunks, [True, True], "lz4", 5, "shuffle", True) is not None
    for wanted, cname in (([True] * 3, "lz4"), ([], "lz4"), ([True] * 2, "lz5")):
        with pytest.raises(ValueError):  # noqa: PT011
            core.encode(chunks, wanted, cname, 5, "shuffle", True)


@st.composite
def overlapping(draw):
    """An output's shape and type, arrays that lie in it with their weights, and whether their pixels are classes."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 40))
    labels = draw(st.booleans())
    numbers = st.sampled_from([dtype for dtype in DTYPES if dtype.kind != "c"])
    dtypes = draw(st.lists(numbers, min_size=1, max_size=1 if labels else 3))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    layers = []
    for dtype in dtypes * draw(st.integers(0, 4)):
        row, column = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        shape = draw(st.integers(1, height - row)), draw(st.integers(1, width - column))
        pixels = random_array(shape, dtype, int(rng.integers(99)))
        if dtype.kind == "f":
            rare = np.array([np.nan, np.inf, -np.inf], dtype)[rng.integers(0, 3, shape)]
            pixels = np.where(rng.random(shape) < 0.1, rare, pixels)
        layers.append(((row, column), pixels, rng.random(shape, np.float32) + np.float32(1e-6)))
    return (height, width), np.result_type(*dtypes), layers, labels


@built
@given(overlapping())
@examples(60)
def test_arrays_that_overlap_become_the_bits_of_the_python_way(given):
    shape, dtype, layers, labels = given
    mean = dtype if labels else np.result_type(np.float32, dtype)
    found = []
    for enabled in (True, False):
        with pytest.MonkeyPatch.context() as patch, np.errstate(invalid="ignore"):
            patch.setattr(core, "enabled", enabled)
            out, covered = np.empty(shape, dtype), np.empty(shape, bool)
            blend(out, covered, layers, mean, labels)
            found.append((out, covered))
    for have, want in zip(*found, strict=True):
        assert same(have, want)


@built
def test_arrays_that_do_not_fit_are_refused():
    zeros = np.zeros((4, 6), "f4")
    fits = {
        "out": zeros,
        "covered": zeros > 0,
        "starts": [(1, 2)],
        "pixels": [zeros[:3, :4]],
        "weights": [zeros[:3, :4]],
    }
    core.blend(**fits)
    for changed in (
        *({"starts": [start]} for start in ((2, 2), (1, 3), (-1, 2), (1, -1), (2**62, 0))),
        *({"pixels": [own]} for own in (zeros[:2, :4], np.zeros((3, 4)), zeros[:3, ::2], zeros[0, :4])),
        *({"weights": [own]} for own in (zeros[:2, :4], np.zeros((3, 4)), zeros[:3, ::2])),
        {"covered": zeros[:3] > 0},
        {"out": np.zeros((4, 6))},
        {"out": np.zeros((4, 6), "V4")},
        {"pixels": [np.frombuffer(bytes(65), "f4", 12, 1).reshape(3, 4)]},
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            core.blend(**{**fits, **changed})
    read_only = zeros.copy()
    read_only.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        core.blend(**{**fits, "out": read_only})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """(array, path) of a pyramid with 400 chunks, large enough for threads."""
    array = random_array((1, 2560, 2560), "u1")
    path = tmp_path_factory.mktemp("store") / "a.zarr"
    ndzarr.transcode(array[0], path)
    return array, str(path)


def test_the_python_way_gives_the_same(store, in_python):
    array, path = store
    in_python()
    assert same(ndzarr.open(path).read(), array)
    assert "Python" in str(ndzarr.open(path).plan([{}]).explain())


@built
def test_plans_say_which_way_is_taken(store):
    plan = ndzarr.open(store[1]).plan([{}])
    assert "compiled core" in str(plan.explain())
    assert "compiled core" in repr(plan)
    assert "blosc" in core.status()


@built
def test_a_plan_of_more_shards_than_files_may_be_open_is_read_all_the_same(tmp_path):
    make(tmp_path, np.arange(160 * 160, dtype="u2").reshape(1, 160, 160), chunks={"y": 8, "x": 8}, shard=16)
    script = """
import resource, sys
import numpy as np
import ndzarr
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
image = np.arange(160 * 160, dtype="u2").reshape(160, 160)
[path] = sys.argv[1:]
pyramid = ndzarr.open(path)
assert np.array_equal(pyramid.read()[0], image)
windows = [{"y": slice(y, y + 20), "x": slice(x, x + 20)} for y in range(0, 140, 9) for x in range(0, 140, 9)]
for window, found in zip(windows, pyramid.read_many(windows)):
    assert np.array_equal(found[0], image[window["y"], window["x"]])
"""
    command = [sys.executable, "-c", script, str(tmp_path / "a.zarr")]
    subprocess.run(command, env=environment(), timeout=60, check=True)


def test_windows_of_large_plans_share_memory_and_keep_their_pixels(store):
    array, path = store
    pyramid = ndzarr.open(path)
    kept, wrong = [], []

    def read(seed):
        for y, x in np.random.default_rng(seed).integers(0, 1800, (4, 2)).tolist():
            windows = [{"y": slice(y + k, y + k + 700), "x": slice(x, x + 701)} for k in range(12)]
            for k, found in enumerate(pyramid.read_many(windows)):
                want = array[:, windows[k]["y"], windows[k]["x"]]
                if k == seed % 12:
                    kept.append((found, want))
                wrong.extend([k] * (not same(found, want)))

    read(0)
    threads = [threading.Thread(target=read, args=(k,)) for k in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all(same(*pair) for pair in kept)


@built
def test_32_threads_may_read_at_once(store):
    array, path = store
    pyramid = ndzarr.open(path)
    wrong = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for y, x in rng.integers(0, 2000, (6, 2)).tolist():
            window = {"y": slice(y, y + 500), "x": slice(x, x + 500)}
            core.expect()
            if not same(pyramid.read(**window), array[:, window["y"], window["x"]]):
                wrong.append(window)

    threads = [threading.Thread(target=read, args=(k,)) for k in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@built
@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_is_noticed_between_chunks(threads):
    pixels = np.zeros(1 << 16, np.uint8)
    format = ChunkFormat("raw", pixels.shape, pixels.dtype)
    chunks = np.tile([MEMORY, pixels.ctypes.data, pixels.size, 0, 0, 1], (1 << 22, 1))  # 256 GiB take a while
    parts = np.array([[0, 5, 0, pixels.size - 5]])
    plan = FlatPlan(1, (format,), [np.zeros_like(pixels)], np.ones((1, 1), int), chunks, parts)

    def stop(*_):
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(InterruptedError):
            plan.decode(threads)
    finally:
        signal.signal(signal.SIGALRM, before)


@built
def test_what_is_done_meanwhile_may_decode_and_may_fail(store):
    array, path = store
    pyramid = ndzarr.open(path)
    found = []
    plan = pyramid.plan([{}])
    [whole] = execute(plan, meanwhile=lambda: found.append(pyramid.read(y=slice(0, 700))))
    assert same(whole, array)
    assert same(found[0], array[:, :700])
    with pytest.raises(ZeroDivisionError):
        execute(plan, meanwhile=lambda: 1 / 0)
    assert same(execute(plan)[0], array)


@built
def test_a_forked_child_makes_threads_of_its_own(store):
    script = """
import os, sys
import numpy as np
import ndzarr
from ndzarr._store import core
pyramid = ndzarr.open(sys.argv[1])
before = pyramid.read()
child = os.fork()
if not child:
    core.expect()
    os._exit(0 if np.array_equal(pyramid.read(), before) else 1)
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(pyramid.read(), before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, store[1]],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@built
@pytest.mark.parametrize(("threads", "window", "more"), [("2", 9, 0), ("2", 2560, 1), ("1", 2560, 0)])
def test_threads_start_with_a_large_plan_unless_the_environment_forbids_it(store, threads, window, more):
    script = (
        "import os, sys, ndzarr; pyramid = ndzarr.open(sys.argv[1]); n = int(sys.argv[2]); "
        "count = lambda: len(os.listdir('/proc/self/task')); before = count(); "
        "pyramid.read(y=slice(0, n), x=slice(0, n)); print(count() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, store[1], str(window)],
        env=environment(NDZARR_THREADS=threads),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(done.stdout) == min(more, available_cpus() - 1)
