"""Zarr stores on web servers and in buckets: the same pixels as on the disk, in few requests."""

from __future__ import annotations

import pickle
import shutil
import warnings

import numpy as np
import pytest
import zarr

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from helpers.http_server import Fault
from ndzarr.errors import DamagedError, MissingError, OptionError, StoreError

GATHER = 0.02
"""Seconds that requests are gathered for, so that round trips can be counted."""


@pytest.fixture(scope="module")
def image():
    return photo(700, 900)


@pytest.fixture(scope="module")
def made(image, tmp_path_factory):
    """A store of four shards at native resolution, and the pixels with axes (c, y, x)."""
    path = tmp_path_factory.mktemp("made") / "a.zarr"
    ndzarr.transcode(image, path, chunks={"y": 64, "x": 64})
    return path


@pytest.fixture
def far(http, made):
    """That store on a server."""
    shutil.copytree(made, http.folder / "a.zarr")
    return http


def window(y, x, n=100):
    return {"y": slice(y, y + n), "x": slice(x, x + n)}


def pixels(image, y, x, n=100):
    return np.moveaxis(image[y : y + n, x : x + n], -1, 0)


def test_opening_takes_one_request_a_cold_crop_two_round_trips_more_and_a_warm_one_takes_one(far, image):
    far.server.settings(gather=GATHER)
    pyr = ndzarr.open(f"{far.url}/a.zarr")
    assert far.server.counters().requests == 1
    assert np.array_equal(pyr.read(**window(300, 500)), pixels(image, 300, 500))
    assert far.server.counters().waves == 3
    far.server.reset()
    assert np.array_equal(pyr.read(**window(350, 550)), pixels(image, 350, 550))
    assert far.server.counters().waves == 1


def test_windows_and_samples_of_many_images_and_levels_are_one_flight(far, image, tmp_path):
    for name in "bcd":
        shutil.copytree(far.folder / "a.zarr", far.folder / f"{name}.zarr")
    coco = {
        "images": [
            {"id": k, "file_name": f"{far.url}/{name}.zarr", "width": 900, "height": 700}
            for k, name in enumerate("abcd", 1)
        ]
    }
    sampler = ndzarr.CocoSampler(coco, tmp_path / "w", allow="urls")
    targets = [
        {"gid": gid, "x": slice(x, x + 64), "y": slice(50, 114), "scale": scale}
        for gid in (1, 2, 3, 4)
        for x, scale in ((10, 1), (400, 0.5))
    ]
    local = ndzarr.CocoSampler(
        {
            "images": [
                {**im, "file_name": str(far.folder / im["file_name"].rpartition("/")[2])} for im in coco["images"]
            ]
        },
        tmp_path / "l",
    )
    plan = sampler.plan(targets)
    far.server.settings(gather=GATHER)
    batch = sampler.load_batch(targets, sizes="pad")
    assert far.server.counters().waves <= 2  # indexes, then chunks
    assert batch.image.equals(local.load_batch(targets, sizes="pad").image)
    explained = plan.explain()
    far.server.reset()
    sampler.load_batch(targets, sizes="pad")
    assert (far.server.counters().requests, far.server.counters().sent) == (explained.requests, explained.fetched_bytes)
    assert f"{explained.requests} requests in 1 flight" in str(explained)


def test_little_is_read_that_was_not_asked_for(far, image):
    pyr = ndzarr.open(f"{far.url}/a.zarr")
    windows = [window(y, x, 64) for y, x in np.random.default_rng(0).integers(0, 600, (60, 2)).tolist()]
    needed = pyr.plan(windows).explain().encoded_bytes
    far.server.settings()
    for got, w in zip(pyr.read_many(windows), windows, strict=True):
        assert np.array_equal(got, pixels(image, w["y"].start, w["x"].start, 64))
    assert far.server.counters().sent <= 1.15 * needed


def test_a_pyramid_works_in_another_process_as_its_pickle_does(far, image):
    pyr = pickle.loads(pickle.dumps(ndzarr.open(f"{far.url}/a.zarr", 1 << 20)))
    assert np.array_equal(pyr.read(**window(0, 0)), pixels(image, 0, 0))
    assert np.array_equal(pyr.to_xarray().isel(y=slice(0, 9), x=slice(0, 9)).values, pixels(image, 0, 0, 9))


def test_chunks_kept_in_memory_are_not_asked_for_again(far, image):
    pyr = ndzarr.open(f"{far.url}/a.zarr", 1 << 24)
    for _ in range(2):
        assert np.array_equal(pyr.read(**window(60, 60)), pixels(image, 60, 60))
        pyr.read(**window(60, 60))
        far.server.reset()
    assert far.server.counters().requests == 0


def test_a_shard_that_is_missing_or_cut_is_damage(far):
    shard = next((far.folder / "a.zarr").rglob("0/image/c/0/0/0"))
    pyr = ndzarr.open(f"{far.url}/a.zarr")
    shard.write_bytes(shard.read_bytes()[:100])
    with raises(DamagedError, path=f"{far.url}/a.zarr/0/image/c/0/0/0"):
        pyr.read(**window(0, 0))
    shard.unlink()
    with raises(DamagedError, path=f"{far.url}/a.zarr/0/image/c/0/0/0"):
        ndzarr.open(f"{far.url}/a.zarr").read(**window(0, 0))


def test_a_store_that_was_replaced_is_to_be_opened_again(far, image):
    pyr = ndzarr.open(f"{far.url}/a.zarr")
    pyr.read(**window(0, 0))
    ndzarr.transcode(255 - image, far.folder / "a.zarr", overwrite=True, chunks={"y": 64, "x": 64})
    with raises(StoreError, hint="Open it again"):
        pyr.read(**window(0, 0))
    assert np.array_equal(ndzarr.open(f"{far.url}/a.zarr").read(**window(0, 0)), 255 - pixels(image, 0, 0))


def test_what_is_not_there_is_said(http):
    with raises(MissingError, path=f"{http.url}/nothing.zarr", hint="Check the address"):
        ndzarr.open(f"{http.url}/nothing.zarr")
    with raises(StoreError, hint="Check the address"):
        ndzarr.open("nonsense://a.zarr")


def test_a_server_without_ranges_is_refused_when_the_store_is_opened(far):
    far.server.settings(ranges=False)
    with raises(StoreError, hint="Use a server that answers range requests"):
        ndzarr.open(f"{far.url}/a.zarr", remote=ndzarr.Remote(retries=0))


@pytest.mark.parametrize("etags", [True, False])
def test_a_cache_on_the_disk_answers_the_second_run(far, image, tmp_path, etags):
    far.server.settings(etags=etags)
    remote = ndzarr.Remote(cache_dir=tmp_path / "cache")
    for _ in range(2):
        pyr = ndzarr.open(f"{far.url}/a.zarr", remote=remote)
        far.server.settings(etags=etags)
        assert np.array_equal(pyr.read(**window(100, 100)), pixels(image, 100, 100))
    assert far.server.counters().requests == 0
    for file in (tmp_path / "cache").rglob("*:*"):
        file.write_bytes(file.read_bytes()[:-9] + b"damaged!!")
    assert np.array_equal(pyr.read(**window(100, 100)), pixels(image, 100, 100))
    assert far.server.counters().requests > 0


def test_the_cache_on_the_disk_stays_within_its_budget(far, image, tmp_path):
    pyr = ndzarr.open(f"{far.url}/a.zarr", remote=ndzarr.Remote(cache_dir=tmp_path, cache_bytes=200_000))
    for y in range(0, 600, 100):
        assert np.array_equal(pyr.read(**window(y, 300)), pixels(image, y, 300))
    assert sum(file.stat().st_size for file in tmp_path.rglob("*:*")) <= 210_000


@pytest.mark.parametrize("etags", [True, False])
def test_chunks_that_are_objects_are_kept_and_asked_for_once_per_pyramid(http, tmp_path, etags):
    data = np.random.default_rng(0).integers(1, 255, (64, 64), "u1")
    data[:16, :16] = 0  # which zarr does not store
    array = zarr.create_array(
        http.folder / "a.zarr", shape=data.shape, dtype="u1", chunks=(16, 16), config={"write_empty_chunks": False}
    )
    array[:] = data
    url, remote, n = f"{http.url}/a.zarr", ndzarr.Remote(cache_dir=tmp_path), 16
    for run in range(2):
        http.server.settings(etags=etags)
        pyr = ndzarr.open(url, remote=remote)
        http.server.reset()
        assert np.array_equal(pyr.read(), data)
        counted = http.server.counters()
        assert counted.requests == n
        statuses = {status for _, _, _, status in counted.log}
        assert statuses == ({304, 404} if run and etags else {200, 404})
        http.server.reset()
        assert np.array_equal(pyr.read(), data)
        assert http.server.counters().requests == 0
    array[20, 20] = data[20, 20] = data[20, 20] ^ 1
    for file in list(tmp_path.rglob("None:None"))[:4]:
        file.unlink()
    assert np.array_equal(ndzarr.open(url, remote=remote).read(), data)


def v3(path, data, **options):
    array = zarr.create_array(path, shape=data.shape, dtype=data.dtype, **options)
    array[...] = data


FOREIGN = {
    "sharded": ({"chunks": (1, 50, 50), "shards": (3, 200, 200)}, True),
    "chunks of their own": ({"chunks": (3, 100, 100)}, True),
    "gzip, big-endian, keys of v2": (
        {
            "chunks": (3, 100, 100),
            "compressors": zarr.codecs.GzipCodec(),
            "serializer": zarr.codecs.BytesCodec(endian="big"),
            "chunk_key_encoding": {"name": "v2", "separator": "."},
        },
        True,
    ),
    "lzma": ({"chunks": (3, 100, 100), "compressors": {"name": "numcodecs.lzma", "configuration": {}}}, False),
    "index at the start, without checksum": (
        {
            "chunks": (3, 100, 100),
            "serializer": zarr.codecs.ShardingCodec(
                chunk_shape=(1, 50, 50), index_codecs=[zarr.codecs.BytesCodec()], index_location="start"
            ),
            "compressors": None,
        },
        True,
    ),
    "Zarr v2, blosc": ({"chunks": (3, 100, 100), "zarr_format": 2}, True),
    "Zarr v2, slashes": (
        {"chunks": (1, 64, 64), "zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
        True,
    ),
    "Zarr v2, F order": ({"chunks": (3, 100, 100), "zarr_format": 2, "order": "F"}, True),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("dtype", ["u1", "<f4"])
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
def test_arrays_of_others_are_read_with_their_missing_chunks(http, image, name, dtype):
    options, hot = FOREIGN[name]
    data = np.moveaxis(image[:300, :350], -1, 0).astype(dtype)
    data[:, 100:200, 100:200] = 0  # which zarr-python does not write
    v3(http.folder / "a.zarr", data, **options)
    pyr = ndzarr.open(f"{http.url}/a.zarr", axes="zyx")
    engine = pyr.levels[0].array.engine
    assert engine.startswith("requests" if hot else "zarr-python"), engine
    windows = [{"y": slice(90, 210), "x": slice(90, 350)}, {"y": slice(0, 10), "z": [2, 0]}]
    first, second = pyr.read_many(windows)
    assert np.array_equal(first, data[:, 90:210, 90:350])
    assert np.array_equal(second, data[[2, 0], :10])


@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_of_others_opens_in_few_round_trips(http, image, version, consolidated):
    group = zarr.open_group(http.folder / "a.zarr", mode="w", zarr_format=version)
    data = np.moveaxis(image, -1, 0)
    for k in range(3):
        level = data[:, :: 2**k, :: 2**k]
        group.create_array(str(k), shape=level.shape, dtype="u1", chunks=(3, 128, 128))[...] = level
    axes = [{"name": n, "type": "space" if n in "xy" else "channel"} for n in "cyx"]
    scales = [[1, 2**k, 2**k] for k in range(3)]
    datasets = [
        {"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for k, scale in enumerate(scales)
    ]
    multiscales = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    group.attrs.update(
        {"multiscales": multiscales} if version == 2 else {"ome": {"version": "0.5", "multiscales": multiscales}}
    )
    if consolidated:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that other libraries may not know consolidated metadata of Zarr v3
            zarr.consolidate_metadata(http.folder / "a.zarr", zarr_format=version)
    http.server.settings(gather=GATHER)
    pyr = ndzarr.open(f"{http.url}/a.zarr")
    assert http.server.counters().waves <= {3: 1, 2: 2}[version] + (not consolidated)
    assert [level.shape for level in pyr.levels] == [data[:, :: 2**k, :: 2**k].shape for k in range(3)]
    assert np.array_equal(pyr.read(level=1, y=slice(5, 300)), data[:, 10:600:2, ::2])


def objects(folder, url):
    """Return store objects of others, and the path of the store in them."""
    import fsspec
    import obstore.store
    from zarr.storage import FsspecStore, LocalStore, ObjectStore

    root, _, path = url.rpartition("/")
    yield obstore.store.HTTPStore.from_url(root, client_options={"allow_http": True}), path
    yield obstore.store.LocalStore(folder), "a.zarr"
    yield fsspec.filesystem("file"), f"{folder}/a.zarr"
    yield fsspec.get_mapper(str(folder)), "a.zarr"
    yield LocalStore(folder / "a.zarr"), ""
    yield ObjectStore(obstore.store.LocalStore(folder)), "a.zarr"
    yield FsspecStore.from_url(f"{folder}/a.zarr"), ""


def test_store_objects_of_others_are_accepted(far, image):
    for store, path in objects(far.folder, f"{far.url}/a.zarr"):
        pyr = ndzarr.open(path, store=store)
        assert np.array_equal(pyr.read(**window(200, 200)), pixels(image, 200, 200)), store
        assert pyr.path.endswith("a.zarr") or not path
    with raises(OptionError, key="store"):
        ndzarr.open("a.zarr", store=object())


@pytest.mark.parametrize("kind", ["503", "reset", "short", "shifted", "unstated", "whole"])
def test_pixels_are_right_though_requests_fail(far, image, kind):
    far.server.settings(faults=[Fault(kind, share=0.3)], seed=1)
    pyr = ndzarr.open(f"{far.url}/a.zarr", remote=ndzarr.Remote(retries=20))
    windows = [window(y, x, 64) for y, x in np.random.default_rng(0).integers(0, 600, (20, 2)).tolist()]
    for got, w in zip(pyr.read_many(windows), windows, strict=True):
        assert np.array_equal(got, pixels(image, w["y"].start, w["x"].start, 64))
    assert far.server.counters().faults


def test_stores_of_a_batch_are_opened_together(far, image, tmp_path):
    names = "abcdefgh"
    for name in names[1:]:
        shutil.copytree(far.folder / "a.zarr", far.folder / f"{name}.zarr")
    targets = [{"key": name, "y": slice(0, 32), "x": slice(k, k + 32)} for k, name in enumerate(names)]
    sources = {name: f"{far.url}/{name}.zarr" for name in names}
    remote = ndzarr.Remote(cache_dir=tmp_path / "cache")
    far.server.settings(gather=0.1)
    batch = ndzarr.Sampler(sources, tmp_path, remote=remote).load_batch(targets)
    assert far.server.counters().waves <= 3  # metadata, indexes, chunks
    for k in range(len(names)):
        assert np.array_equal(batch.image[k], pixels(image, 0, k, 32))
    assert list((tmp_path / "cache").rglob("*:*"))
