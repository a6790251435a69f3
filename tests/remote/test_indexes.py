"""Stores with one object of all shard indexes: any first window takes one round trip."""

import pickle
import shutil

import numpy as np
import pytest
import xarray
import zarr

import ndzarr
from helpers.arrays import random_array, same
from helpers.errors import raises
from ndzarr._library.verify import verify
from ndzarr.errors import DamagedError, OptionError, StoreError

INDEXES = "0/image/indexes"


@pytest.fixture(scope="module")
def image():
    return random_array((3, 700, 900), "u1", 1)


@pytest.fixture(scope="module")
def made(image, tmp_path_factory):
    """A store of several shards on some levels, with an empty chunk, and the same without the file of indexes."""
    folder = tmp_path_factory.mktemp("indexes")
    image[:, :64, :64] = 0
    for name, indexes in (("with", True), ("without", False)):
        ndzarr.transcode(image, folder / f"{name}.zarr", chunks={"y": 64, "x": 64}, nodata=0, indexes=indexes)
    return folder


@pytest.fixture
def far(http, made):
    shutil.copytree(made / "with.zarr", http.folder / "a.zarr")
    return http


@pytest.mark.parametrize("whole", [True, False], ids=["at once", "in parts"])
def test_any_window_asks_for_chunks_alone_after_opening(far, image, made, whole):
    remote = ndzarr.Remote(cap=1 << 20 if whole else 1 << 12)
    pyr = ndzarr.open(f"{far.url}/a.zarr", remote=remote)
    assert far.server.counters().requests == (2 if whole else 1)
    local = ndzarr.open(made / "without.zarr")
    window = {"y": slice(20, 120), "x": slice(30, 130)}
    for level in range(3):
        far.server.reset()
        assert same(pyr.read(level, **window), local.read(level, **window))
        others = [path for _, path, *_ in far.server.counters().log if "/image/c/" not in path]
        assert len(others) == (0 if whole else 1)  # a part of the object of all indexes
        far.server.reset()
        pyr.read(level, **window)
        assert all("/image/c/" in path for _, path, *_ in far.server.counters().log)
    assert same(pickle.loads(pickle.dumps(pyr)).read(**window), local.read(**window))
    assert same(pyr.read(), image)


def test_other_readers_see_the_same_store(made, image):
    with_indexes, without = made / "with.zarr", made / "without.zarr"
    names = {p.relative_to(with_indexes).as_posix() for p in with_indexes.rglob("*") if p.is_file()}
    assert names - {p.relative_to(without).as_posix() for p in without.rglob("*") if p.is_file()} == {INDEXES}
    for consolidated in (True, False):
        group = zarr.open_group(with_indexes, mode="r", use_consolidated=consolidated)
        assert sorted(dict(group.members(max_depth=None))) == sorted(
            dict(zarr.open_group(without, mode="r", use_consolidated=consolidated).members(max_depth=None))
        )
        assert same(group["0/image"][:], image)
    assert set(xarray.open_zarr(with_indexes, group="0").variables) == {"image", "c", "y", "x"}
    assert same(ndzarr.open(with_indexes).read(), image)


def test_verify_compares_the_file_with_the_shards(made, tmp_path):
    store = tmp_path / "a.zarr"
    shutil.copytree(made / "with.zarr", store)
    assert verify(store).ok
    file = store / INDEXES
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    [problem] = verify(store).problems
    assert problem.file == str(file)
    file.unlink()
    [problem] = verify(store).problems
    assert (problem.file, problem.what) == (str(file), "the file is missing")


def test_damage_is_named_and_versions_are_never_mixed(far, image, made):
    url, folder = f"{far.url}/a.zarr", far.folder / "a.zarr"
    pyr = ndzarr.open(url)
    ndzarr.transcode(255 - image, folder, chunks={"y": 64, "x": 64}, nodata=0, indexes=True, overwrite=True)
    with pytest.raises((StoreError, DamagedError), match="Open it again"):
        pyr.read(y=slice(200, 300), x=slice(200, 300))  # chunks of other pixels, mostly at the same offsets
    again = ndzarr.open(url)
    assert same(again.read(), 255 - image)
    (folder / "0/image/c/0/0/0").unlink()
    with raises(DamagedError, path=f"{url}/0/image/c/0/0/0"):
        again.read()
    (folder / INDEXES).unlink()
    with raises(DamagedError, path=f"{url}/{INDEXES}"):
        ndzarr.open(url)
    content = bytearray((made / "with.zarr" / INDEXES).read_bytes())
    content[20] ^= 1
    (folder / INDEXES).write_bytes(content)
    with raises(DamagedError):
        ndzarr.open(url)


def test_push_adds_the_indexes_of_a_store_that_has_none(s3, made, image, tmp_path):
    pytest.importorskip("moto")
    url, options = s3.bucket("indexes"), {"storage_options": s3.storage_options}
    ndzarr.push(made / "without.zarr", f"{url}/a.zarr", indexes=True, **options)
    pyr = ndzarr.open(f"{url}/a.zarr", **options)
    assert same(pyr.read(), image)
    assert pyr.attrs["ndzarr"]["indexes"] == ndzarr.open(made / "with.zarr").attrs["ndzarr"]["indexes"]
    assert "indexes" not in ndzarr.open(made / "without.zarr").attrs["ndzarr"]
    ndzarr.transcode(image, f"{url}/b.zarr", chunks={"y": 64, "x": 64}, nodata=0, indexes=True, **options)
    held = [ndzarr.open(f"{url}/{name}.zarr", **options).levels[0].array for name in "ab"]
    assert len({array.records_stop for array in held}) == 1
    zarr.save_array(tmp_path / "plain.zarr", np.zeros((9, 9), "u1"))
    with raises(OptionError, key="indexes"):
        ndzarr.push(tmp_path / "plain.zarr", f"{url}/plain.zarr", indexes=True, **options)
