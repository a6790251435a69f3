"""`ndzarr verify`: any damage is found and named; a sound store is not blamed."""

import json
import shutil
import time
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

import ndzarr
from helpers.errors import raises
from ndzarr._library.verify import Report, verify
from ndzarr._store.presets import Encoding
from ndzarr.errors import DamagedError, DamagedStoreWarning, MissingError, StoreError

CHUNKS = {"y": 64, "x": 64}


@pytest.fixture(params=["fast", "compact"])
def sound(request, store):
    """A store of two channels, in several chunks; a part is empty."""
    array = np.random.default_rng(0).integers(0, 2**16, (2, 300, 400)).astype("u2")
    array[:, :128, :128] = 0
    return store(array, preset=request.param, chunks=CHUNKS)


def shards(store, level=0):
    return sorted(p for p in (store / str(level) / "image" / "c").rglob("*") if p.is_file())


def edit(file, change):
    """Replace a JSON file by a changed one."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def unseal(root):
    """Make the metadata of a root those of a store that does not tell whether it was changed."""
    del root["attributes"]["ndzarr"]["digest"]


def test_a_sound_store_is_sound(sound):
    report = verify(sound)
    assert report.ok
    assert report.problems == ()
    assert report.levels == 2
    assert report.chunks + report.empty == 5 * 7 + 3 * 4
    assert report.empty == 4 + 1
    stored = sum(p.stat().st_size for level in (0, 1) for p in shards(sound, level))
    assert 0 < stored - report.nbytes < 2000
    assert str(report) == f"{sound}: sound (2 levels, {report.chunks} chunks, {report.nbytes / 1024:.1f} KiB)"


@pytest.mark.parametrize("kind", ["intensity", "labels"])
@pytest.mark.parametrize(
    ("axes", "shape"), [("tczyx", (2, 3, 2, 70, 300)), ("yx", (1, 1)), ("tyx", (3, 513, 257)), ("cyx", (7, 300, 300))]
)
def test_stores_of_any_shape_are_sound(store, kind, axes, shape):
    array = np.random.default_rng(0).integers(0, 3, shape).astype("u1")
    report = verify(store(array, axes=axes, kind=kind, chunks=CHUNKS), threads=1)
    assert report.ok, str(report)


@pytest.mark.parametrize("position", [0.0, 0.3, 0.7, 0.9999])
@pytest.mark.parametrize("level", [0, 1])
def test_a_flipped_byte_anywhere_is_found_and_its_file_named(sound, level, position):
    shard = shards(sound, level)[-1]
    content = bytearray(shard.read_bytes())
    content[int(position * len(content))] ^= 1
    shard.write_bytes(content)
    report = verify(sound)
    assert [p.file for p in report.problems] == [str(shard)]
    assert str(shard) in str(report)
    assert "1 problem (" in str(report)


def test_every_damaged_chunk_is_named(sound):
    shard = shards(sound)[0]
    content = np.frombuffer(shard.read_bytes(), "u1").copy()
    chunk = [p.chunk for p in _all_damaged(sound, shard, content).problems]
    assert len(chunk) == len(set(chunk)) > 10
    assert all(len(c) == 3 for c in chunk)


def _all_damaged(store, shard, content):
    index = content[: -(16 * 7 * 5 + 4)]
    index[::50] ^= 255
    shard.write_bytes(content.tobytes())
    return verify(store)


@pytest.mark.parametrize("cut", [1, 100, 10**9])
def test_a_cut_shard_is_found(sound, cut):
    shard = shards(sound)[0]
    shard.write_bytes(shard.read_bytes()[:-cut])
    assert [p.file for p in verify(sound).problems] == [str(shard)]


def test_a_missing_shard_is_found(sound):
    shard = shards(sound)[0]
    shard.unlink()
    [problem] = verify(sound).problems
    assert (problem.file, problem.what) == (str(shard), "the file is missing; transcode the source again")


def test_bytes_that_belong_to_no_chunk_and_files_that_belong_to_no_array_are_found(sound):
    edit(sound / "zarr.json", unseal)
    shard = shards(sound)[0]
    content = shard.read_bytes()
    size = 16 * 7 * 5 + 4
    shard.write_bytes(content[:-size] + b"more" + content[-size:])
    stray = shard.with_name("99")
    stray.touch()
    assert {p.file: p.what.partition(";")[0] for p in verify(sound).problems} == {
        str(sound / "zarr.json"): "the digest of the metadata is missing",
        str(shard): f"{len(content) + 4} bytes, of which the index accounts for {len(content)}",
        str(stray): "not a file of this array",
    }


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"null"], ids=str)
def test_a_damaged_root_is_a_problem(sound, content):
    (sound / "zarr.json").write_bytes(content)
    report = verify(sound)
    assert (report.levels, report.chunks) == (0, 0)
    assert [p.file for p in report.problems] == [str(sound / "zarr.json")]


@pytest.mark.parametrize("name", ["0", "0/image", "1/x"])
@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_the_metadata_of_every_node_are_compared_with_those_of_the_root(sound, name, damage):
    file = sound / name / "zarr.json"
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        edit(file, lambda node: node.update(attributes={"a": 1}))
    [problem] = verify(sound).problems
    assert problem.file == str(file)


@pytest.mark.parametrize("axis", ["c", "y"])
def test_coordinates_are_counted(sound, axis):
    data = sound / "1" / axis / "c/0"
    shutil.copy(sound / "0" / ("x" if axis == "y" else "y") / "c/0", data)
    assert [p.file for p in verify(sound).problems] == [str(data)] * 2  # another checksum, and another number
    data.write_bytes(b"garbage")
    assert "do not decode" in verify(sound).problems[0].what
    data.unlink()
    assert "missing" in verify(sound).problems[0].what


def test_a_level_that_is_not_half_of_the_one_before_is_found(sound):
    def smaller(root):
        image = root["consolidated_metadata"]["metadata"]["1/image"]
        image["shape"][-1] -= 1
        unseal(root)

    edit(sound / "zarr.json", smaller)
    assert "level 1 has 199 pixels along x; 200 are 1/2 of 400" in str(verify(sound))


@pytest.mark.parametrize(("key", "values"), [("channels", ["a"]), ("times", [0.0, 1.0])])
def test_channels_and_times_are_counted(store, key, values):
    path = store(np.ones((3, 20, 20), "u1"), axes="tyx")
    edit(path / "zarr.json", lambda root: root["attributes"]["ndzarr"].update({key: values}))
    counted = [p for p in verify(path).problems if f" {key}, but " in p.what]
    assert len(counted) == (key == "times"), "there is no axis c"


def swap_entries(store, other):
    """Swap the places of two chunks in the index of a shard, whose checksum is made again."""
    shard = shards(store)[0]
    content = shard.read_bytes()
    size = 16 * 7 * 5 + 4
    index = np.frombuffer(content[-size:-4], "<u8").reshape(-1, 2).copy()
    stored = np.flatnonzero(index[:, 0] != 2**64 - 1)[:2]
    index[stored] = index[stored[::-1]]
    raw = index.tobytes()
    shard.write_bytes(content[:-size] + raw + google_crc32c.value(raw).to_bytes(4, "little"))
    return shard


def swap_chunks(store, other):
    """Swap the bytes of two chunks of the same length."""
    shard = shards(store)[0]
    content = bytearray(shard.read_bytes())
    index = np.frombuffer(bytes(content[-16 * 7 * 5 - 4 : -4]), "<u8").reshape(-1, 2)
    (a, n), (b, m) = index[index[:, 1] == np.median(index[:, 1])][:2]
    assert n == m, "noise does not compress"
    content[a : a + n], content[b : b + n] = content[b : b + n], content[a : a + n]
    shard.write_bytes(content)
    return shard


def copy_level(store, other):
    """Take level 1 of another store of the same shape."""
    shutil.copy(shards(other, 1)[0], shards(store, 1)[0])
    return shards(store, 1)[0]


def changed(old, new, everywhere=False):
    """Return a function that replaces a part of the metadata, in the root or in all files."""

    def change(store, other):
        files = list(store.rglob("zarr.json")) if everywhere else [store / "zarr.json"]
        texts = {file: file.read_text() for file in files}
        assert old in texts[store / "zarr.json"]
        for file, text in texts.items():
            file.write_text(text.replace(old, new))
        return store / "zarr.json"

    return change


CHANGES = {
    "index entries": swap_entries,
    "chunks": swap_chunks,
    "a level of another store": copy_level,
    "nodata": changed('"nodata": 7', '"nodata": 5'),
    "the name of the attribute": changed('"ndzarr": {"schema"', '"ndzasr": {"schema"'),
    "the name of the digest": changed('"digest"', '"digesu"'),
    "a scale": changed('"scale": [1.0, 2.0, 2.0]', '"scale": [1.0, 2.0, 2.003]'),
    "channels": changed('"channels": ["c0", "c1"]', '"channels": ["c1", "c0"]'),
    "a fill value": changed('"fill_value": 0', '"fill_value": 3', everywhere=True),
    "a shape": changed('"shape": [2, 300, 400]', '"shape": [2, 299, 400]', everywhere=True),
    "the version": changed(
        '"zarr_format": 3, "node_type": "group", "attributes": {"ome"',
        '"zarr_formau": 3, "node_type": "group", "attributes": {"ome"',
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_sound_bytes_in_the_wrong_place_and_changed_metadata_are_found(folder, change):
    rng = np.random.default_rng(0)
    for name in ("a.zarr", "b.zarr"):
        noise = rng.integers(0, 256, (2, 300, 400)).astype("u1")
        noise[:, :128, :128] = 0
        ndzarr.transcode(noise, folder / name, axes="cyx", chunks=CHUNKS, nodata=7)
    assert verify(folder / "a.zarr").ok
    file = CHANGES[change](folder / "a.zarr", folder / "b.zarr")
    assert str(file) in [p.file for p in verify(folder / "a.zarr").problems]


def test_two_shard_files_that_changed_places_are_found_and_not_read(folder):
    noise = np.random.default_rng(0).integers(0, 256, (64, 4200)).astype("u1")
    pyramid = ndzarr.transcode(noise, folder / "a.zarr", axes="yx")
    first, second, *_ = shards(folder / "a.zarr")
    assert first.stat().st_size == second.stat().st_size, "noise does not compress: the indexes are the same"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert {str(first), str(second)} == {p.file for p in verify(folder / "a.zarr").problems}
    with raises(DamagedError, path=first):
        ndzarr.open(pyramid.path).read()


def test_metadata_that_disagree_are_not_read(folder, sound):
    image = sound / "0/image/zarr.json"
    edit(
        sound / "zarr.json",
        lambda root: root["consolidated_metadata"]["metadata"]["0/image"].update(shape=[2, 200, 400]),
    )
    with raises(DamagedError, path=image):
        ndzarr.open(sound)


@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
def test_metadata_that_were_changed_on_purpose_are_read_with_a_warning_and_added_attributes_without(folder, sound):
    import zarr

    group = zarr.open_group(sound, mode="r+")
    group.attrs["site"] = "north"
    zarr.consolidate_metadata(sound)
    assert ndzarr.open(sound).attrs["site"] == "north"
    edit(sound / "zarr.json", lambda root: root["attributes"]["ndzarr"].update(nodata=5))
    with pytest.warns(DamagedStoreWarning, match="a.zarr"):
        assert ndzarr.open(sound).nodata == 5


def test_a_store_without_checksums_is_read_and_verified_as_before(sound):
    def older(node):
        node.get("attributes", {}).pop("ndzarr_shards", None)
        node.get("attributes", {}).pop("ndzarr_crc32c", None)

    pixels = ndzarr.open(sound).read()
    for file in sound.rglob("*/zarr.json"):
        edit(file, older)
    edit(sound / "zarr.json", unseal)
    edit(sound / "zarr.json", lambda root: [older(node) for node in root["consolidated_metadata"]["metadata"].values()])
    assert verify(sound).ok
    assert np.array_equal(ndzarr.open(sound).read(), pixels)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_store_that_states_an_absurd_size_is_checked_in_the_time_that_its_files_take(sound, sealed):
    def absurd(root):
        root["consolidated_metadata"]["metadata"]["0/image"]["shape"] = [2, 10**6, 10**6]
        if not sealed:
            unseal(root)

    edit(sound / "zarr.json", absurd)
    start = time.process_time()
    report = verify(sound)
    assert not report.ok
    assert len(report.problems) < 200
    assert time.process_time() - start < 5


def test_stores_that_others_made_are_checked_too(folder):
    import zarr

    array = np.arange(600, dtype="u2").reshape(20, 30)
    for version in (2, 3):
        path = folder / f"{version}.zarr"
        zarr.create_array(path, data=array, chunks=(10, 10), zarr_format=version)
        report = verify(path)
        assert report.ok, str(report)
        assert report.chunks == 6
        file = path / ("1.2" if version == 2 else "c/1/2")
        file.write_bytes(b"garbage")
        report = verify(path)
        assert [p.chunk for p in report.problems] == [(1, 2)]


def test_what_is_no_store_is_an_error(folder):
    with pytest.raises(MissingError):
        verify(folder / "gone")
    with pytest.raises(StoreError):
        verify(folder)


def test_reports_and_problems_do_not_change(sound):
    report = ndzarr.verify(sound)
    assert isinstance(report, Report)
    with pytest.raises(AttributeError):
        report.chunks = 0
    assert Encoding()


def test_the_command_exits_with_1_if_anything_is_wrong(run, folder, sound):
    assert run("verify", "a.zarr").out.startswith(f"{folder}/a.zarr: sound (2 levels, ")
    assert run("verify", "a.zarr", "--quiet").out == ""
    shutil.copytree("a.zarr", "b.zarr")
    shard = shards(Path("b.zarr"))[0]
    shard.unlink()
    result = run("verify", "a.zarr", "gone.zarr", "b.zarr", "--quiet", "--workers", "1", code=1)
    assert result.out.startswith(f"{folder}/b.zarr: 1 problem (")
    assert str(shard) in result.out
    assert result.err == f"Error: {folder}/gone.zarr: no such file or directory\n"
