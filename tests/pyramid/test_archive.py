"""Stores in one file: `.ozx` and other zips of Zarr stores are read by ranges of the file, local and remote."""

import io
import json
import multiprocessing
import pickle
import struct
import zipfile

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import ndzarr
from helpers.arrays import random_array, same
from helpers.errors import raises
from ndzarr.cli import main
from ndzarr.errors import DamagedError, ExistsError, MissingError, SourceError, StoreError

ARRAY = random_array((3, 700, 500), "u1", 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    ndzarr.transcode(ARRAY, folder / "a.ozx", nodata=0)
    ndzarr.transcode(ARRAY, folder / "a.zarr", nodata=0)
    return folder


class Stream(io.RawIOBase):
    """A file that cannot seek: `zipfile` then writes the sizes of members behind them."""

    def __init__(self, file):
        self._file = file

    def writable(self):
        return True

    def write(self, data):
        return self._file.write(data)


def repacked(source, dest, *, method=zipfile.ZIP_STORED, top="", streamed=False, skip=None):
    """Write the members of a zip anew, as other software may."""
    with (
        zipfile.ZipFile(source) as old,
        open(dest, "wb") as file,
        zipfile.ZipFile(Stream(file) if streamed else file, "w", method) as new,
    ):
        for name in reversed(old.namelist()):
            if name != skip:
                new.writestr(top + name, old.read(name))
    return dest


def zipped(path, zarr_format, **options):
    """An array that zarr-python writes into a zip."""
    pixels = np.arange(300 * 400, dtype="u2").reshape(300, 400) % 9999
    store = zarr.storage.ZipStore(path, mode="w")
    array = zarr.create_array(store, shape=pixels.shape, dtype="u2", zarr_format=zarr_format, **options)
    array[:200] = pixels[:200]
    store.close()
    pixels[200:] = 0
    return pixels


def over_http(http, path):
    (http.folder / path.name).write_bytes(path.read_bytes())
    return f"{http.url}/{path.name}"


def test_an_ozx_is_the_zip_that_rfc_9_recommends_with_the_files_of_a_directory(made):
    with zipfile.ZipFile(made / "a.ozx") as file:
        names = file.namelist()
        assert file.testzip() is None
        assert json.loads(file.comment) == {
            "ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}
        }
        for info in file.infolist():
            assert (info.compress_type, info.extract_version) == (zipfile.ZIP_STORED, 45)
            path = made / "a.zarr" / info.filename
            if path.name != "zarr.json":
                assert file.read(info) == path.read_bytes()
        offsets = [info.header_offset for info in file.infolist()]
    documents = [name for name in names if name.endswith("zarr.json")]
    assert names[: len(documents)] == documents
    assert documents == sorted(documents, key=lambda name: name.count("/"))
    assert names[0] == "zarr.json"
    assert offsets == sorted(offsets)
    assert sorted(names) == sorted(
        p.relative_to(made / "a.zarr").as_posix() for p in (made / "a.zarr").rglob("*") if p.is_file()
    )


def test_zarr_python_reads_every_level_of_an_ozx(made):
    group = zarr.open_group(zarr.storage.ZipStore(made / "a.ozx", read_only=True), mode="r")
    pyramid = ndzarr.open(made / "a.zarr")
    for k in range(len(pyramid.levels)):
        assert same(group[f"{k}/image"][:], pyramid.read(k))


def test_an_ozx_reads_as_its_directory_does_through_the_hot_path(made):
    one, folder = ndzarr.open(made / "a.ozx"), ndzarr.open(made / "a.zarr")
    assert [level.array.decoder for level in one.levels] == [level.array.decoder for level in folder.levels]
    assert {level.array.engine for level in one.levels} == {"local files"}
    for k in range(len(folder.levels)):
        assert same(one.read(k), folder.read(k))
    window = {"y": slice(100, 333), "x": slice(7, 400)}
    for opened in (one, pickle.loads(pickle.dumps(one))):
        assert same(opened.read(**window), ARRAY[:, 100:333, 7:400])
        assert same(opened.window(**window, scale=0.5).values, folder.window(**window, scale=0.5).values)
    assert same(ndzarr.transcode(made / "a.ozx", made / "copy.ozx", indexes=True).read(), ARRAY)
    assert ndzarr.verify(made / "copy.ozx").ok
    sampler = ndzarr.Sampler({"a": made / "a.ozx"})
    sample = sampler.load_sample({"key": "a", "cx": 100, "cy": 100, "width": 64, "height": 64})
    assert same(sample["image"].values, ARRAY[:, 68:132, 68:132])


def test_images_of_one_zip_are_opened_by_their_paths(made, http):
    path = http.folder / "two.ozx"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("zarr.json", json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}))
        for name in "01":
            for inner in (made / "a.zarr").rglob("*"):
                if inner.is_file():
                    file.write(inner, f"{name}/{inner.relative_to(made / 'a.zarr').as_posix()}")
    for place in (str(path), f"{http.url}/{path.name}"):
        with raises(StoreError, hint="variable='0'"):
            ndzarr.open(place)
        inside = ndzarr.open(f"{place}/1")
        for image in (inside, pickle.loads(pickle.dumps(inside))):
            assert (image.path, image.levels[0].array.codec) == (f"{place}/1", inside.levels[0].array.codec)
            assert same(image.read(), ARRAY)


@pytest.mark.slow
def test_a_forked_child_reads_the_file_that_its_parent_has_open(made):
    one = ndzarr.open(made / "a.ozx")
    one.read(2)
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        found = pool.starmap(one.read, [(), ()])
    assert all(same(pixels, ARRAY) for pixels in (*found, one.read()))


def test_an_ozx_goes_through_every_command(made, tmp_path):
    run, source = CliRunner(), str(made / "a.ozx")
    facts = json.loads(run.invoke(main, ["info", "--json", source]).stdout)[0]
    assert (facts["engine"], facts["disk_bytes"]) == ("local files", (made / "a.ozx").stat().st_size)
    assert run.invoke(main, ["verify", source]).exit_code == 0
    done = run.invoke(main, ["crop", source, "--y", "0:64", "--x", "0:64", "-o", str(tmp_path / "c.tif")])
    assert done.exit_code == 0, done.output
    done = run.invoke(main, ["cog", source, "-o", str(tmp_path / "a.tif")])
    assert done.exit_code == 0, done.output
    for _ in range(2):
        done = run.invoke(main, ["transcode", str(tmp_path / "a.tif"), "-o", str(tmp_path / "b.ozx"), "--overwrite"])
        assert done.exit_code == 0, done.output
    assert same(ndzarr.open(tmp_path / "b.ozx").read(), ARRAY)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "b.ozx", "c.tif"]


def test_an_ozx_is_there_as_a_whole_or_not_at_all(made, tmp_path):
    with raises(ExistsError, path=made / "a.ozx", hint="overwrite=True"):
        ndzarr.transcode(ARRAY, made / "a.ozx")
    before = ndzarr.open(made / "a.ozx")
    again = ndzarr.transcode(ARRAY[:, :256], tmp_path / "a.ozx")
    held = again.read()
    ndzarr.transcode(ARRAY, tmp_path / "a.ozx", overwrite=True)
    assert same(ndzarr.open(tmp_path / "a.ozx").read(), ARRAY)
    assert same(again.read(), held)  # its file is open
    assert same(before.read(), ARRAY)
    with raises(MissingError, path=tmp_path / "none" / "a.ozx"):
        ndzarr.transcode(ARRAY, tmp_path / "none" / "a.ozx")
    (tmp_path / "bad.tif").write_bytes(b"II*\0")
    with pytest.raises(SourceError):
        ndzarr.transcode(tmp_path / "bad.tif", tmp_path / "b.ozx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ozx", "bad.tif"]


@pytest.mark.parametrize("streamed", [False, True], ids=["seekable", "streamed"])
def test_a_zip_of_other_software_is_read_wherever_its_bytes_begin(made, tmp_path, http, streamed):
    path = repacked(made / "a.ozx", tmp_path / "other.zip", top="scene.zarr/", streamed=streamed)
    assert same(ndzarr.open(path).read(), ARRAY)
    assert ndzarr.verify(path).ok
    assert same(ndzarr.open(over_http(http, path)).read(), ARRAY)


@pytest.mark.parametrize(
    ("zarr_format", "options"),
    [
        (3, {"chunks": (64, 64)}),
        (3, {"chunks": (64, 64), "shards": (128, 128)}),
        (3, {"chunks": (64, 64), "compressors": [{"name": "gzip", "configuration": {"level": 1}}]}),
        (2, {"chunks": (64, 64)}),
    ],
    ids=["chunks", "shards", "zarr-python's codec", "v2"],
)
def test_arrays_that_zarr_python_zips_are_read(tmp_path, http, zarr_format, options):
    path = tmp_path / "a.zip"
    pixels = zipped(path, zarr_format, **options)
    for place in (path, over_http(http, path)):
        assert same(ndzarr.open(place).read(), pixels)
    report = ndzarr.verify(path)
    assert report.ok
    assert report.chunks


def test_an_ozx_over_the_network_costs_a_request_for_its_directory_and_metadata_each_and_then_those_of_a_store(
    made, http
):
    url = over_http(http, made / "a.ozx")
    http.server.reset()
    pyramid = ndzarr.open(url)
    assert http.server.counters().requests == 2
    assert same(pyramid.read(y=slice(0, 99), x=slice(0, 99)), ARRAY[:, :99, :99])
    assert http.server.counters().requests == 4  # the index of the shard, the chunk
    assert same(pickle.loads(pickle.dumps(pyramid)).read(1), ndzarr.open(made / "a.zarr").read(1))


def test_chunks_that_the_zip_compresses_are_refused_with_the_way_out(made, tmp_path, http):
    path = repacked(made / "a.ozx", tmp_path / "deflated.zip", method=zipfile.ZIP_DEFLATED)
    with raises(StoreError, path=path, hint="zip -0"):
        ndzarr.open(path)
    with raises(StoreError, path=(url := over_http(http, path)), hint="zip -0"):
        ndzarr.open(url)


def test_what_is_no_store_in_a_zip_says_what_is_in_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("one/a.zarr/zarr.json", "{}")
        file.writestr("two/b.txt", "")
    with raises(StoreError, path=tmp_path / "a.zip", hint="directories", match=r"one/a\.zarr"):
        ndzarr.open(tmp_path / "a.zip")
    with raises(SourceError, path=tmp_path / "a.zip", hint="directories"):
        ndzarr.transcode(tmp_path / "a.zip", tmp_path / "b.zarr")


def test_a_damaged_zip_is_named_and_never_read_wrongly(made, tmp_path, http):
    raw = (made / "a.ozx").read_bytes()
    with zipfile.ZipFile(made / "a.ozx") as file:
        info = next(i for i in file.infolist() if i.filename == "0/image/c/0/0/0")
        directory = file.start_dir
    path = tmp_path / "a.ozx"
    for damaged in (raw[:1000], raw[: len(raw) // 2], raw[: directory + 50], b""):
        path.write_bytes(damaged)
        with raises(DamagedError, path=path):
            ndzarr.open(path)
        assert not ndzarr.verify(path).ok
        if damaged:
            with pytest.raises(DamagedError):
                ndzarr.open(over_http(http, path))
    for place, value in (
        (info.header_offset + 5000, b"\xff" * 900),  # chunks
        (info.header_offset + 30 + 15 + 20 + info.file_size - 9, b"\x01" * 9),  # the index of the shard
    ):
        path.write_bytes(raw[:place] + value + raw[place + len(value) :])
        opened = ndzarr.open(path)
        with raises(DamagedError, path=f"{path}/0/image/c/0/0/0"):
            opened.read()
        assert not ndzarr.verify(path).ok
    at = raw.index(b"zarr.json", directory) - 46
    path.write_bytes(raw[: at + 42] + struct.pack("<I", 1 << 31) + raw[at + 46 :])
    with raises(DamagedError, path=path):
        ndzarr.open(path)


def test_a_shard_that_is_missing_in_a_zip_is_damage(made, tmp_path, http):
    path = repacked(made / "a.ozx", tmp_path / "a.ozx", skip="0/image/c/0/0/0")
    with raises(DamagedError, path=f"{path}/0/image/c/0/0/0"):
        ndzarr.open(path).read()
    assert not ndzarr.verify(path).ok
    with pytest.raises(DamagedError):
        ndzarr.open(over_http(http, path)).read()


def test_a_file_that_was_replaced_since_it_was_opened_is_never_read_by_old_places(tmp_path):
    path = tmp_path / "a.zip"
    zipped(path, 3, chunks=(64, 64))
    opened = ndzarr.open(path)
    zipped(path, 3, chunks=(100, 100))
    with pytest.raises(StoreError):
        opened.read()
