"""
Damage of every kind, and processes that see stores come and go.

What is read of a damaged store is right or an error, and `verify` names the file.  Truncation never kills a process.
`NDZARR_FLIPS` sets how many bytes of a small store are flipped ('all' for every one), `NDZARR_OVERWRITES` how many
overwrites a process sees, `NDZARR_CUTS` how many files lose their end while they are read, `NDZARR_SEED` which.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import ndzarr
from helpers.arrays import random_array
from helpers.subprocesses import environment
from helpers.video_clips import encode
from ndzarr._store.sharding import SHARDS
from ndzarr.errors import DamagedStoreWarning, NdzarrError

FLIPS = os.environ.get("NDZARR_FLIPS", "300")
OVERWRITES = int(os.environ.get("NDZARR_OVERWRITES", "60"))
CUTS = int(os.environ.get("NDZARR_CUTS", "8"))
SEED = int(os.environ.get("NDZARR_SEED", "0"))

pytestmark = pytest.mark.slow
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")


def small_store(path, seed=0):
    """A store of two levels, 2 channels and several chunks, of about 25 kB."""
    array = random_array((2, 150, 300), "u1", seed)
    return ndzarr.transcode(array, path, axes="cyx", nodata=7, chunks={"y": 64, "x": 64})


def facts(pyramid):
    """Everything that a user sees of a store."""
    return (
        pyramid.dims, pyramid.channels, pyramid.nodata, pyramid.times, str(pyramid.dtype), dict(pyramid.attrs),
        [(level.factors, pyramid.read(level=k).tolist()) for k, level in enumerate(pyramid.levels)],
    )  # fmt: skip


def seen(path):
    """Return what a user sees, or the class of the error; warnings count as errors."""
    SHARDS.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", DamagedStoreWarning)
        try:
            return facts(ndzarr.open(path))
        except (NdzarrError, DamagedStoreWarning) as error:
            return type(error)


def means_the_same(file, content, before):
    """Return True if a changed byte leaves the meaning of a JSON file as it was, such as a tab for a space."""
    try:
        return file.name == "zarr.json" and json.loads(content) == json.loads(before)
    except ValueError:
        return False


def test_each_flipped_byte_is_named_and_what_is_read_is_right_or_an_error(tmp_path):
    small_store(tmp_path / "a.zarr")
    right = seen(tmp_path / "a.zarr")
    files = sorted(path for path in (tmp_path / "a.zarr").rglob("*") if path.is_file())
    places = [(file, at) for file in files for at in range(file.stat().st_size)]
    moments = random.Random(SEED)
    if FLIPS != "all":
        places = moments.sample(places, int(FLIPS))
    for file, at in places:
        before = file.read_bytes()
        content = bytearray(before)
        content[at] ^= 1 << moments.randrange(8)
        file.write_bytes(content)
        if not means_the_same(file, content, before):
            what = f"byte {at} of {file}: {before[max(0, at - 20) : at + 20]!r}"
            assert not ndzarr.verify(tmp_path / "a.zarr").ok, what
            found = seen(tmp_path / "a.zarr")
            assert found == right or isinstance(found, type), what
        file.write_bytes(before)
    assert seen(tmp_path / "a.zarr") == right
    assert ndzarr.verify(tmp_path / "a.zarr").ok


def test_each_file_that_another_store_or_place_lent_is_named_and_not_read(tmp_path):
    small_store(tmp_path / "a.zarr")
    small_store(tmp_path / "b.zarr", 1)
    right = seen(tmp_path / "a.zarr")
    files = sorted(path for path in (tmp_path / "a.zarr").rglob("*") if path.is_file())
    for file in files:
        before = file.read_bytes()
        others = [tmp_path / "b.zarr" / file.relative_to(tmp_path / "a.zarr")]
        if file.parent != tmp_path / "a.zarr":  # the metadata of an array at the root make a sound store of that array
            others += files
        for other in others:
            content = other.read_bytes()
            if content == before or means_the_same(file, content, before):
                continue
            file.write_bytes(content)
            assert not ndzarr.verify(tmp_path / "a.zarr").ok, (file, other)
            found = seen(tmp_path / "a.zarr")
            assert found == right or isinstance(found, type), (file, other)
            file.write_bytes(before)


@pytest.mark.parametrize("kind", ["store", "npy"])
def test_a_file_that_loses_its_end_while_it_is_read_is_an_error_and_no_crash(tmp_path, kind):
    done = subprocess.run(
        [sys.executable, "-c", TRUNCATED, str(tmp_path), kind, str(CUTS), str(SEED)],
        env=environment(), timeout=60 + 5 * CUTS, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0, "no read met the end of its file"


TRUNCATED = """
import os, random, sys, threading, time
from pathlib import Path
import numpy as np
import ndzarr
from ndzarr.errors import NdzarrError
folder, kind, cuts, moments = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), random.Random(sys.argv[4])
pixels = np.random.default_rng(0).integers(0, 255, (2000, 2000), "u1")
met = 0
for number in range(cuts):
    if kind == "store":
        pyramid = ndzarr.transcode(pixels, folder / "a.zarr", overwrite=True)
        cut = max((folder / "a.zarr/0").rglob("c/*/*/*"), key=lambda path: path.stat().st_size)
        read = pyramid.read
    else:
        cut = folder / "a.npy"
        np.save(cut, pixels)
        read = lambda: ndzarr.transcode(cut, folder / "b.zarr", overwrite=True, workers=1)
    timer = threading.Timer(moments.uniform(0, 0.1), os.truncate, (cut, moments.randrange(1000)))
    timer.start()
    try:
        while timer.is_alive():
            read()
        read()
    except NdzarrError:
        met += 1
    timer.join()
print(met)
"""


def resources(folder):
    """Return (open descriptors, maps, files of a folder that are open and removed) of this process."""
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _exists(fd)]
    maps = Path("/proc/self/maps").read_text().count("\n")
    return len(links), maps, sum(link.startswith(str(folder)) and link.endswith("(deleted)") for link in links)


def _exists(fd):
    return os.path.lexists(f"/proc/self/fd/{fd}")


@needs_proc
def test_a_process_that_sees_stores_replaced_and_removed_stays_flat(tmp_path):
    array = random_array((2, 150, 300), "u1")
    held = []
    for number in range(OVERWRITES):
        for path in (tmp_path / "a.zarr", tmp_path / f"{number}.zarr"):  # one that is replaced, one that is removed
            ndzarr.transcode(array, path, axes="cyx", chunks={"y": 64, "x": 64}, overwrite=True).read()
            ndzarr.open(path).read(level=1)
        shutil.rmtree(tmp_path / f"{number}.zarr")
        held.append(resources(tmp_path))
    first, last = held[len(held) // 2], held[-1]
    assert max(removed for _, _, removed in held) <= 70
    assert last[0] <= first[0] + 70, (first, last)
    assert last[1] <= first[1] + 20, (first, last)


FEW = """
import resource, sys
from pathlib import Path
import numpy as np, tifffile
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
import ndzarr
folder, n = Path(sys.argv[1]), int(sys.argv[2])
clip = Path(sys.argv[3]).read_bytes()
pixels = np.random.default_rng(0).integers(0, 255, (70, 70, 3), "u1")
for k in range(n):
    np.save(folder / f"{k}.npy", pixels)
    tifffile.imwrite(folder / f"{k}.tif", pixels, tile=(64, 64), photometric="rgb")
    (folder / f"{k}.mkv").write_bytes(clip)
videos = [ndzarr.open(folder / f"{k}.mkv") for k in range(n)]
first = videos[0].read()
assert all((video.read() == first).all() for video in videos)
names = {f"{k}.{end}": str(folder / f"{k}.{end}") for k in range(n) for end in ("npy", "tif")}
sampler = ndzarr.Sampler(names, folder / "work")
sampler.prepare(workers=8)
for turn in range(2):
    for key in names:
        sample = sampler.load_sample({"key": key, "y": slice(0, 64), "x": slice(0, 64)})
        assert (sample.image.values == np.moveaxis(pixels[:64, :64], -1, 0)).all()
"""


@needs_proc
def test_64_descriptors_are_enough_for_any_number_of_files(tmp_path):
    encode(tmp_path / "clip.mkv", "ffv1", 2, size=(64, 96))
    done = subprocess.run(
        [sys.executable, "-c", FEW, str(tmp_path), str(max(50, OVERWRITES)), str(tmp_path / "clip.mkv")],
        env=environment(), timeout=600, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
