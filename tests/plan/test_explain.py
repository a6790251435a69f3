"""What `explain` says of real stores, against the files themselves."""

import json
from itertools import product
from math import prod
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr

import ndzarr
from helpers.arrays import random_array
from helpers.pyramids import make
from ndzarr._indexing.plan import plan_reads

MISSING = 2**64 - 1


def stored_chunks(path):
    """The oracle: chunk position to its size, read from the shard files by the letter of the specification."""
    meta = json.loads(Path(path, "zarr.json").read_text())
    outer = meta["chunk_grid"]["configuration"]["chunk_shape"]
    inner = meta["codecs"][0]["configuration"]["chunk_shape"]
    per = [o // i for o, i in zip(outer, inner, strict=True)]
    sizes = {}
    for shard in product(*(range(-(-n // o)) for n, o in zip(meta["shape"], outer, strict=True))):
        file = Path(path, "c", *map(str, shard))
        if not file.exists():
            continue
        raw = file.read_bytes()
        table = np.frombuffer(raw[-4 - 16 * prod(per) : -4], "<u8").reshape(*per, 2)
        for k in np.ndindex(*per):
            if table[(*k, 0)] != MISSING:
                sizes[tuple(s * p + i for s, p, i in zip(shard, per, k, strict=True))] = int(table[(*k, 1)])
    return inner, sizes


def brute_force(requests):
    """(chunks, missing, shared, encoded, decoded, wanted) of (path, window as slices) pairs, pixel by pixel."""
    users, encoded, decoded, wanted = {}, 0, 0, 0
    known = {path: stored_chunks(path) for path, _, _ in requests}
    for w, (path, window, itemsize) in enumerate(requests):
        inner, _ = known[path]
        per_axis = [
            sorted({i // c for i in range(s.start, s.stop, s.step or 1)}) for s, c in zip(window, inner, strict=True)
        ]
        for chunk in product(*per_axis):
            users.setdefault((path, chunk, itemsize), set()).add(w)
        wanted += itemsize * prod(len(range(s.start, s.stop, s.step or 1)) for s in window)
    for path, chunk, itemsize in users:
        inner, sizes = known[path]
        encoded += sizes.get(chunk, 0)
        decoded += itemsize * prod(inner) * (chunk in sizes)
    missing = sum(chunk not in known[path][1] for path, chunk, _ in users)
    return len(users), missing, sum(len(u) > 1 for u in users.values()), encoded, decoded, wanted


def counts(cost):
    return cost.chunks, cost.missing, cost.shared, cost.encoded_bytes, cost.decoded_bytes, cost.wanted_bytes


def windows_of(rng, shape, n):
    for _ in range(n):
        starts = [int(rng.integers(0, m)) for m in shape]
        yield tuple(
            slice(s, int(rng.integers(s, m)) + 1, int(rng.integers(1, 3))) for s, m in zip(starts, shape, strict=True)
        )


@pytest.mark.parametrize("chunks", [{}, {"y": 32, "x": 48}, {"c": 1, "y": 20, "x": 20}])
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_counts_of_a_batch_over_levels_and_pyramids_equal_those_of_the_files(tmp_path, chunks, dtype):
    rng = np.random.default_rng(5)
    pyramids = []
    for name, size in (("one", (3, 300, 270)), ("two", (2, 129, 257))):
        (tmp_path / name).mkdir()
        array = random_array(size, dtype, seed=1, zeros=0.0)
        array[:, : size[1] // 2, : size[2] // 2] = 0 if dtype == "u1" else np.nan  # what missing chunks stand for
        pyramids.append(make(tmp_path / name, array, chunks=chunks, shard=96))
    requests, expected = [], []
    for pyramid in pyramids:
        for k, level in enumerate(pyramid.levels):
            for window in windows_of(rng, level.shape, 4):
                requests.append((level.array, tuple(slice(s.start, s.stop, s.step or 1) for s in window)))
                expected.append((f"{pyramid.path}/{k}/image", window, np.dtype(dtype).itemsize))
    assert counts(plan_reads(requests).explain()) == brute_force(expected)
    assert brute_force(expected)[1], "some chunks should be missing, or this test shows less than it says"


def test_explain_through_the_pyramid_is_about_the_windows_asked_for(tmp_path):
    pyramid = make(tmp_path, random_array((3, 300, 300), "u1"))
    windows = [{"y": slice(0, 10), "x": slice(0, 10)}, {"y": slice(5, 140), "x": slice(5, 10), "c": ["c2"]}]
    cost = pyramid.plan(windows).explain()
    files = [(f"{pyramid.path}/0/image", (slice(0, 3), slice(0, 10), slice(0, 10)), 1)]
    files.append((files[0][0], (slice(2, 3), slice(5, 140), slice(5, 10)), 1))
    assert counts(cost) == brute_force(files)
    assert cost.shared == 1
    assert cost.engines == (("local files", 2),)


def test_chunks_that_are_files_of_their_own_count_their_size(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(100, 100), chunks=(40, 40), dtype="u2", compressors=None)
    array[:80, :] = 7
    pyramid = ndzarr.open(tmp_path / "a.zarr")
    cost = pyramid.plan([{}]).explain()
    assert counts(cost) == (9, 3, 0, 6 * 3200, 6 * 3200, 20000)


def test_the_engine_says_which_arrays_take_the_slow_path_and_why(tmp_path):
    about = {"zarr_format": 2, "compressors": numcodecs.LZ4()}
    array = zarr.create_array(tmp_path / "v2.zarr", shape=(100, 100), chunks=(40, 40), dtype="u2", **about)
    array[...] = 1
    cost = ndzarr.open(tmp_path / "v2.zarr").plan([{"y": slice(0, 41)}]).explain()
    assert cost.engines == (("zarr-python (Zarr v2, codec 'lz4')", 6),)
    assert cost.encoded_bytes is None
