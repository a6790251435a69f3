"""Stores of strangers: nothing that they name is run, and nothing that they state takes memory before it is checked."""

import json
import pickle
import resource
import zlib
from pathlib import Path

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zarr
import zstandard
from zarr.codecs.numcodecs import LZMA, FixedScaleOffset

import ndzarr
from helpers.errors import raises
from ndzarr._store.metadata import DIGEST
from ndzarr.errors import DamagedError, SourceError, StoreError

USES = {
    "open": ndzarr.open,
    "read": lambda path: ndzarr.open(path).read(),
    "lazy": lambda path: ndzarr.open(path).to_xarray(),
    "sampler": lambda path: ndzarr.Sampler({"a": path}).load_sample(key="a"),
    "transcode": lambda path: ndzarr.transcode(path, Path(path).with_name("out.zarr")),
}


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "a.zarr"
    ndzarr.transcode(np.random.default_rng(0).integers(0, 99, (300, 400, 3), dtype=np.uint8), path)
    return path


def edit(path, change):
    root = json.loads((path / "zarr.json").read_text())
    del root["attributes"]["ndzarr"][DIGEST]  # a stranger knows how to make one, too
    change(root)
    (path / "zarr.json").write_text(json.dumps(root))


def image(root):
    return root["consolidated_metadata"]["metadata"]["0/image"]


def sharding(root):
    return image(root)["codecs"][0]["configuration"]


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("use", USES)
def test_a_pickle_in_a_chunk_is_not_loaded(tmp_path, use):
    path, run = tmp_path / "a.zarr", tmp_path / "it ran"
    path.mkdir()
    codecs = {"compressor": None, "filters": [{"id": "vlen-bytes"}, {"id": "pickle", "protocol": 5}]}
    array = {"zarr_format": 2, "shape": [9, 9], "chunks": [9, 9], "dtype": "|O", "fill_value": "", "order": "C"}
    (path / ".zarray").write_text(json.dumps(array | codecs))
    (path / "0.0").write_bytes(pickle.dumps(Touch(run)))
    with raises(SourceError if use == "transcode" else StoreError, path=path, key="pickle", hint="trust"):
        USES[use](path)
    assert not run.exists()


def test_objects_are_not_pixels(tmp_path):
    path = tmp_path / "a.zarr"
    path.mkdir()
    array = {"zarr_format": 2, "shape": [9], "chunks": [9], "dtype": "|O", "fill_value": "", "order": "C"}
    (path / ".zarray").write_text(json.dumps(array | {"compressor": None, "filters": [{"id": "vlen-utf8"}]}))
    with pytest.raises(StoreError, match="not one of pixels"):
        ndzarr.open(path)


@pytest.mark.parametrize("key", ["source", "encoding"])
@pytest.mark.parametrize("value", [None, 1, "a", []])
def test_what_ndzarr_says_of_a_source_is_an_object(store, key, value):
    edit(store, lambda root: root["attributes"]["ndzarr"].update({key: value}))
    with raises(StoreError, path=store, key=key):
        repr(ndzarr.open(store))


@pytest.mark.parametrize("where", ["array", "shard", "consolidated"])
def test_codecs_of_other_packages_are_refused_by_name(tmp_path, store, where):
    if where == "consolidated":
        edit(store, lambda root: sharding(root)["codecs"].insert(0, {"name": "my_package.codec"}))
        path = store
    else:
        path = tmp_path / "b.zarr"
        shards = (20, 20) if where == "shard" else None
        zarr.create_array(path, data=np.ones((20, 20)), chunks=(10, 10), shards=shards, compressors=None)
        root = json.loads((path / "zarr.json").read_text())
        codecs = root["codecs"] if shards is None else root["codecs"][0]["configuration"]["codecs"]
        codecs.append({"name": "my_package.codec"})
        (path / "zarr.json").write_text(json.dumps(root))
    with raises(StoreError, key="my_package.codec"):
        ndzarr.open(path)


BOMBS = {
    "zstd without its size": (zarr.codecs.ZstdCodec(), lambda n: _stream(n)),
    "zstd": (zarr.codecs.ZstdCodec(), lambda n: zstandard.compress(bytes(n))),
    "gzip": (zarr.codecs.GzipCodec(), lambda n: _gzip(n)),
    "blosc": (zarr.codecs.BloscCodec(cname="lz4"), lambda n: _blosc(n)),
}


def _stream(n):
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return packer.compress(bytes(n)) + packer.flush()


def _gzip(n):
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(bytes(n)) + packer.flush()


def _blosc(n):
    return numcodecs.Blosc("lz4").encode(bytes(n))


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("engine", ["own", "zarr-python", "shards of zarr-python", "Zarr v2", "Zarr v2 of zarr-python"])
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
def test_a_chunk_that_grows_without_end_is_refused_before_it_does(tmp_path, bomb, engine):
    codec, pack = BOMBS[bomb]
    path, n = tmp_path / "a.zarr", 200 << 20
    options = {"compressors": codec, "chunks": (64, 64)}
    if engine.startswith("Zarr v2"):
        options["zarr_format"] = 2
        options["compressors"] = _numcodec(codec)
    if engine.endswith("zarr-python"):
        form = {"offset": 0, "scale": 1, "dtype": "u1"}
        options["filters"] = [numcodecs.FixedScaleOffset(**form)] if "v2" in engine else FixedScaleOffset(**form)
    if engine.startswith("shards"):
        options["shards"] = (64, 64)
    zarr.create_array(path, data=np.ones((64, 64), np.uint8), **options)
    [file] = [f for f in path.rglob("*") if f.is_file() and f.name not in ("zarr.json", ".zarray", ".zattrs")]
    encoded = pack(n)
    assert len(encoded) < n / 100
    if "shards" in options:
        index = np.array([0, len(encoded)], "<u8").tobytes()
        encoded += index + google_crc32c.value(index).to_bytes(4, "little")
    file.write_bytes(encoded)
    pyramid = ndzarr.open(path)
    assert pyramid.levels[0].array.engine.startswith("zarr-python") == engine.endswith("zarr-python")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedError):
        pyramid.read()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 << 10  # KiB


def _numcodec(codec):
    return {"ZstdCodec": numcodecs.Zstd(), "GzipCodec": numcodecs.GZip()}.get(type(codec).__name__, numcodecs.Blosc())


CHANGES = {
    "chunk_shape": lambda root: sharding(root)["chunk_shape"].__setitem__(1, 0),
    "shape": lambda root: image(root).update(shape=[3, 10**30, 10**30]),
    "order": lambda root: sharding(root)["codecs"].insert(0, {"name": "transpose", "configuration": {"order": [0, 9]}}),
    "separator": lambda root: image(root)["chunk_key_encoding"]["configuration"].update(separator=10**12),
    "axes": lambda root: root["attributes"]["ome"]["multiscales"][0]["axes"].append({"name": "q"}),
    "times": lambda root: root["attributes"]["ndzarr"].update(times=["now"]),
    "channels": lambda root: root["attributes"]["ndzarr"].update(channels={"r": 1}),
    "nodata": lambda root: root["attributes"]["ndzarr"].update(nodata={}),
    "attributes": lambda root: root["attributes"].update(ndzarr=[1]),
    "path": lambda root: root["attributes"]["ome"]["multiscales"][0]["datasets"][0].update(path="../b.zarr/0/image"),
}


@pytest.mark.parametrize("key", CHANGES)
def test_metadata_of_another_form_are_refused_by_the_key(store, key):
    edit(store, CHANGES[key])
    with raises(StoreError, key=key):
        ndzarr.open(store)
    assert not ndzarr.verify(store).ok


def test_chunks_larger_than_memory_are_refused(store):
    def huge(root):
        sharding(root)["chunk_shape"] = [3, 10**9, 10**9]
        image(root)["chunk_grid"]["configuration"]["chunk_shape"] = [3, 10**9, 10**9]

    edit(store, huge)
    with raises(StoreError, key="chunk_shape"):
        ndzarr.open(store)


@pytest.mark.parametrize("size", [(10**6, 10**6), (10**9, 10**9), (10**12, 64), (64, 10**15)])
def test_verifying_a_stated_size_takes_no_more_than_the_files_do(store, size):
    edit(store, lambda root: image(root).update(shape=[3, *size]))
    report = ndzarr.verify(store)
    assert report.chunks < 30
    assert any("more files are missing" in str(problem) for problem in report.problems)
    assert len(report.problems) < 200


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
def test_verifying_a_stated_size_through_zarr_python_takes_no_more_either(tmp_path, version):
    path = tmp_path / "a.zarr"
    lzma = numcodecs.LZMA() if version == 2 else LZMA()
    zarr.create_array(path, data=np.ones((20, 20)), chunks=(10, 10), compressors=lzma, zarr_format=version)
    file = path / (".zarray" if version == 2 else "zarr.json")
    root = json.loads(file.read_text())
    for n, ok in ((10**5, True), (10**12, False)):
        file.write_text(json.dumps(root | {"shape": [n // 10**4 * 20, 20] if ok else [n, n]}))
        assert ndzarr.verify(path).ok == ok


def test_nodata_is_one_value_or_one_per_channel(store):
    edit(store, lambda root: root["attributes"]["ndzarr"].update(nodata=[0, 1]))
    with raises(StoreError, key="nodata"):
        ndzarr.open(store)


def test_the_root_directory_is_not_a_store():
    with raises(StoreError, path="/"):
        ndzarr.open("/")


def test_nested_metadata_are_refused(store):
    (store / "zarr.json").write_text("[" * 10**6)
    with raises(StoreError, path=store):
        ndzarr.open(store)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_names_that_no_file_has_are_refused(tmp_path, name):
    with pytest.raises(StoreError):
        ndzarr.open(name)
    with pytest.raises(SourceError):
        ndzarr.Sampler({"a": name}, tmp_path).load_sample(key="a")
