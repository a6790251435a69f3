"""Damaged files are named, and never come back as pixels."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.arrays import random_array, same
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from helpers.pyramids import make
from ndzarr._store.sharding import SHARDS
from ndzarr.errors import DamagedError, StoreError


@pytest.fixture(scope="module", params=["compact", "fast"])
def store(request, tmp_path_factory):
    """(array, pyramid): 2 x 2 shards of 2 x 2 chunks, one shard without any pixel but zeros."""
    array = random_array((1, 120, 128), "u2")
    array[:, 64:, 64:] = 0
    array[:, :32, 96:] = 0
    return array, make(
        tmp_path_factory.mktemp("damage"), array, preset=request.param, chunks={"y": 32, "x": 32}, shard=64
    )


def shards(pyramid):
    return sorted(p for p in Path(pyramid.path, "0", "image", "c").rglob("*") if p.is_file())


class Damaged:
    """A file with other bytes, for a while; nothing mapped of it before or after."""

    def __init__(self, file, content):
        self.file, self.content, self.kept = file, content, file.read_bytes()

    def __enter__(self):
        self.replace(self.content)

    def __exit__(self, *_):
        self.replace(self.kept)

    def replace(self, content):
        SHARDS.clear()
        self.file.unlink(missing_ok=True)
        if content is not None:
            self.file.write_bytes(content)


def test_every_shard_of_a_store_is_a_file_so_that_a_lost_one_is_noticed(store):
    assert [p.relative_to(Path(store[1].path, "0/image/c")).as_posix() for p in shards(store[1])] == [
        "0/0/0",
        "0/0/1",
        "0/1/0",
        "0/1/1",
    ]


@given(st.data(), st.integers(0, 3), st.integers(1, 255))
@examples(60)
def test_any_flipped_byte_is_damage_that_names_the_file(store, data, number, flip):
    array, pyramid = store
    file = shards(pyramid)[number]
    content = bytearray(file.read_bytes())
    # half of the examples in the index, which is a small part of the file
    index = 4 * 16 + 4
    low = data.draw(st.sampled_from((0, len(content) - index)))
    content[data.draw(st.integers(low, len(content) - 1))] ^= flip
    with Damaged(file, bytes(content)):
        with raises(DamagedError, path=file):
            pyramid.read()
        with raises(DamagedError, path=file):
            ndzarr.open(pyramid.path).window(scale=0.7)
    assert same(pyramid.read(), array)


@given(st.data(), st.integers(0, 3))
@examples(60)
def test_a_truncated_shard_is_damage_that_names_the_file(store, data, number):
    array, pyramid = store
    file = shards(pyramid)[number]
    content = file.read_bytes()
    with (
        Damaged(file, content[: data.draw(st.integers(0, len(content) - 1))]),
        raises(DamagedError, path=file),
    ):
        pyramid.read()
    assert same(pyramid.read(), array)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(
    "change",
    [
        lambda b: b + b"\0",
        lambda b: b[1:],
        lambda b: bytes(len(b)),
        lambda b: b"\xff" * len(b),
        lambda b: b[:-1],
        lambda b: b"",
        lambda b: None,
    ],
    ids=["a byte more", "first byte lost", "zeros", "ones", "last byte lost", "empty", "deleted"],
)
def test_a_shard_of_other_bytes_is_damage_that_names_the_file(store, number, change):
    array, pyramid = store
    file = shards(pyramid)[number]
    content = file.read_bytes()
    with Damaged(file, change(content)), raises(DamagedError, path=file):
        pyramid.read()
    assert same(pyramid.read(), array)


@pytest.mark.parametrize("number", range(4))
def test_a_sound_shard_that_is_not_the_one_written_there_is_damage(store, number):
    _, pyramid = store
    file, other = shards(pyramid)[number], shards(pyramid)[(number + 1) % 4]
    content, index = file.read_bytes(), 4 * 16 + 4
    for found in (content[:-index] + b"whatever" + content[-index:], other.read_bytes()):
        with Damaged(file, found), raises(DamagedError, path=file):
            pyramid.read()


@pytest.mark.parametrize("entry", [(10**6, 10), (0, 10**6), (2**64 - 2, 5), (5, 2**64 - 2), (2**63, 2**63)])
def test_an_index_that_points_outside_its_file_is_damage(store, entry):
    import google_crc32c

    _, pyramid = store
    file = shards(pyramid)[0]
    content = file.read_bytes()
    index = np.frombuffer(content[-(4 * 16 + 4) : -4], "<u8").copy()
    index[:2] = entry
    crc = google_crc32c.value(index.tobytes()).to_bytes(4, "little")  # the index itself is whole
    with Damaged(file, content[: -(4 * 16 + 4)] + index.tobytes() + crc), raises(DamagedError, path=file):
        pyramid.read()


def test_damage_elsewhere_does_not_keep_windows_from_being_read(store):
    array, pyramid = store
    file = shards(pyramid)[0]
    content = bytearray(file.read_bytes())
    content[0] ^= 1  # of the first chunk
    with Damaged(file, bytes(content)):
        assert same(pyramid.read(y=slice(32, 120)), array[:, 32:])
        assert same(pyramid.read(x=slice(32, 128)), array[:, :, 32:])
        with raises(DamagedError, hint="Transcode the source again"):
            pyramid.read(y=slice(31, 33), x=slice(31, 33))


def test_damage_in_a_thread_is_raised_where_the_window_was_asked_for(tmp_path):
    array = random_array((1, 3000, 3000), "u2")
    pyramid = make(tmp_path, array)
    file = max(shards(pyramid))
    content = bytearray(file.read_bytes())
    content[100] ^= 255
    with Damaged(file, bytes(content)), raises(DamagedError, path=file):
        pyramid.read()
    assert same(pyramid.read(), array), "the threads are still of use"


def test_a_lost_level_is_damage_too(tmp_path):
    pyramid = make(tmp_path, random_array((1, 300, 300), "u1"))
    shutil.rmtree(Path(pyramid.path, "1"))
    again = ndzarr.open(pyramid.path)
    with raises(StoreError, match="1/image"):
        again.read(level=1)
    with raises(StoreError, match="1/image"):
        again.window(scale=0.5)


def test_a_shard_that_is_no_file_is_an_error_not_zeros(tmp_path):
    pyramid = make(tmp_path, random_array((1, 30, 30), "u1"))
    file = shards(pyramid)[0]
    file.unlink()
    file.mkdir()
    with raises(DamagedError, path=file):
        pyramid.read()


def test_lazy_arrays_raise_damage_as_well(tmp_path):
    array = random_array((1, 30, 30), "u1")
    pyramid = make(tmp_path, array)
    lazy = pyramid.to_xarray()
    assert np.array_equal(lazy.values, array)
    file = shards(pyramid)[0]
    with Damaged(file, file.read_bytes()[::-1]), raises(DamagedError, path=file):
        lazy.compute(scheduler="synchronous")


@pytest.mark.parametrize("sharded", [True, False])
def test_a_store_that_was_moved_since_it_was_opened_is_not_read_as_fill_values(tmp_path, sharded):
    import zarr

    if sharded:
        ndzarr.transcode(np.ones((300, 300), np.uint8), tmp_path / "a.zarr")
    else:
        zarr.create_array(tmp_path / "a.zarr", shape=(300, 300), chunks=(100, 100), dtype="u1")[:] = 1
    pyramid = ndzarr.open(tmp_path / "a.zarr")
    (tmp_path / "a.zarr").rename(tmp_path / "b.zarr")
    with raises(DamagedError, hint="Open it where it is now"):
        pyramid.read(y=slice(0, 9))
    assert (ndzarr.open(tmp_path / "b.zarr").read() == 1).all()
