"""Overviews are levels where they halve the image; what a file lacks is made as transcoding would make it."""

from __future__ import annotations

import os
import struct
from multiprocessing import get_context

import numpy as np
import pytest
import tifffile

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr._formats.options import InPlaceOptions as Reading
from ndzarr._library.in_place import open_tiff
from ndzarr._library.library import Library
from ndzarr._store.sharding import SHARDS
from ndzarr.errors import DamagedStoreWarning, WriteError

NATIVE = photo(700, 900)


def write(path, levels, how="pages", **options):
    """A TIFF with overviews as pages of reduced resolution, or as sub-directories."""
    options = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib", **options}
    with tifffile.TiffWriter(path) as tif:
        tif.write(levels[0], subifds=len(levels) - 1 if how == "subifds" else None, **options)
        for level in levels[1:]:
            tif.write(level, subfiletype=1, **options)
    return path


def half(image, up=True):
    """A copy of half the size, by taking pixels: no mean, so that it tells where pixels came from."""
    rows, columns = (-(-n // 2) if up else n // 2 for n in image.shape[:2])
    return np.ascontiguousarray(image[::2, ::2][:rows, :columns])


def planar(image):
    return np.moveaxis(image, -1, 0)


@pytest.mark.parametrize("how", ["pages", "subifds"])
@pytest.mark.parametrize("up", [True, False])
def test_overviews_of_half_the_size_rounded_up_or_down_are_levels(how, up, tmp_path):
    native = photo(701, 903)
    levels = [native, half(native, up), half(half(native, up), up)]
    pyramid = ndzarr.open(write(tmp_path / "a.tif", levels, how))
    assert [level.factors[1:] for level in pyramid.levels] == [(1, 1), (2, 2), (4, 4)]
    for k, level in enumerate(levels):
        assert np.array_equal(pyramid.read(k), planar(level))
    window = pyramid.window(y=slice(100, 300), x=slice(64, 464), scale=1 / 4)
    assert np.array_equal(window, planar(levels[2])[:, 25:75, 16:116])
    assert pyramid.window(scale=1 / 4).shape == (3, 175, 226)
    assert pyramid.window(y=slice(400, 900), x=slice(600, 1000), scale=0.5).valid.values.sum() == 151 * 152


def test_levels_may_be_missing_between_others_and_come_in_any_order(tmp_path):
    quarter, eighth = half(half(NATIVE)), half(half(half(NATIVE)))
    pyramid = ndzarr.open(write(tmp_path / "a.tif", [NATIVE, eighth, quarter]))
    assert [level.factors[-1] for level in pyramid.levels] == [1, 4, 8]
    assert np.array_equal(pyramid.read(1), planar(quarter))
    window = pyramid.window(y=slice(0, 640), x=slice(8, 808), scale=1 / 8)
    assert np.array_equal(window, planar(eighth)[:, :80, 1:101])


def test_overviews_of_huge_tiles_are_left_out(tmp_path):
    path = write(tmp_path / "a.tif", [NATIVE, half(NATIVE)])
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[1].tags[322].offset
    content = bytearray(path.read_bytes())
    content[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 1 << 30)
    path.write_bytes(content)
    pyramid = ndzarr.open(path)
    assert "its tiles are as large as 1073741824 x" in " ".join(pyramid.attrs["ndzarr"]["source"]["notes"])
    assert pyramid.read(1).shape[-2:] == half(NATIVE).shape[:2]


@pytest.mark.parametrize(
    ("overview", "why"),
    [
        (NATIVE[::3, ::3], "does not halve"),
        (NATIVE[::2, ::4], "does not halve"),
        (half(NATIVE).astype("u2"), None),
        (half(NATIVE)[..., :1].repeat(4, -1), None),
    ],
    ids=["a third", "uneven", "other type", "other samples"],
)
def test_overviews_that_do_not_halve_the_image_are_left_out_and_made(overview, why, tmp_path):
    pyramid = ndzarr.open(write(tmp_path / "a.tif", [NATIVE, np.ascontiguousarray(overview)]))
    plain = ndzarr.transcode(planar(NATIVE), tmp_path / "plain.zarr", axes="cyx")
    for k in range(3):
        assert np.array_equal(pyramid.read(k), plain.read(k))
    if why:
        notes = pyramid.attrs["ndzarr"]["source"]["notes"]
        assert any(why in note for note in notes), notes


def test_overviews_in_strips_are_left_out(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(NATIVE, tile=(64, 64), photometric="rgb")
        tif.write(half(NATIVE), subfiletype=1, rowsperstrip=16, photometric="rgb")
    pyramid = ndzarr.open(tmp_path / "a.tif")
    assert pyramid.levels[1].array.engine == "made in memory from a.tif"
    assert "it has strips" in " ".join(pyramid.attrs["ndzarr"]["source"]["notes"])


def large(path):
    """A file opened as if it were so large that levels are made in a store."""
    return open_tiff(str(path), 0, Reading(in_memory=0))


either = pytest.mark.parametrize("open_it", [ndzarr.open, large], ids=["memory", "store"])


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "?"])
@either
def test_made_levels_are_those_of_transcoding(dtype, open_it, cache, tmp_path):
    pixels = NATIVE > 128 if dtype == "?" else NATIVE.astype(dtype)
    pixels, photometric = (pixels[..., 0], "minisblack") if dtype == "?" else (pixels, "rgb")
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64), photometric=photometric)
    pyramid = open_it(tmp_path / "a.tif")
    assert not cache.exists(), "opening makes nothing"
    plain = ndzarr.transcode(tmp_path / "a.tif", tmp_path / "a.zarr")
    assert [v.shape for v in pyramid.levels] == [v.shape for v in plain.levels]
    for k in range(len(plain.levels)):
        assert np.array_equal(pyramid.read(k), plain.read(k))
    assert np.array_equal(pyramid.window(scale=0.3), plain.window(scale=0.3))
    assert sorted(os.listdir(tmp_path)) == sorted(["a.tif", "a.zarr"] + (["cache"] if open_it is large else []))


@either
def test_made_levels_leave_out_missing_data(open_it, tmp_path):
    pixels = NATIVE[..., 0].astype("f4")
    pixels[100:300, 57:400] = -9999
    tags = [(42113, 2, 0, "-9999", True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64), extratags=tags)
    pyramid, plain = open_it(tmp_path / "a.tif"), ndzarr.transcode(tmp_path / "a.tif", tmp_path / "a.zarr")
    assert pyramid.nodata == -9999
    assert np.array_equal(pyramid.read(2), plain.read(2))
    assert pyramid.window(scale=0.25).identical(plain.window(scale=0.25))


@either
def test_levels_above_the_last_overview_are_rounded_by_their_number(open_it, tmp_path):
    """Halves are rounded up on odd levels and down on even ones, counted from the native one."""
    checks = np.indices((600, 600)).sum(0).astype("u1")[..., None].repeat(3, -1) % 2
    overview = half(np.ascontiguousarray(checks)) * 0 + np.indices((300, 300)).sum(0).astype("u1")[..., None] % 2
    pyramid = open_it(write(tmp_path / "a.tif", [checks, overview]))
    assert pyramid.read(2).max() == 0


def test_labels_take_no_overviews_from_the_file_and_mix_none(tmp_path):
    path = write(tmp_path / "a.tif", [NATIVE, half(NATIVE)])
    pyramid = open_tiff(str(path), 0, Reading(kind="labels"))
    plain = ndzarr.transcode(path, tmp_path / "a.zarr", kind="labels")
    assert pyramid.kind == "labels"
    assert all(np.array_equal(pyramid.read(k), plain.read(k)) for k in range(3))


def test_large_levels_are_stored_once_for_all_processes_and_gone_when_the_file_changes(cache, tmp_path):
    path = write(tmp_path / "a.tif", [NATIVE])
    pyramid = large(path)
    explained = pyramid.plan([{}], 1).explain()
    assert explained.engines[0][0] == "levels of a.tif in the cache, still to be made"
    assert explained.encoded_bytes is None
    assert not cache.exists()
    first = pyramid.read(1)
    [store] = [p for p in cache.iterdir() if p.suffix == ".zarr"]
    made = store.stat().st_ino, store.stat().st_mtime_ns
    assert pyramid.plan([{}], 1).explain().engines[0][0] == "levels of a.tif in the cache"
    assert np.array_equal(large(path).read(1), first)
    assert (store.stat().st_ino, store.stat().st_mtime_ns) == made
    write(path, [255 - NATIVE])
    assert not np.array_equal(large(path).read(1), first)
    states = sorted(entry.state for entry in Library(cache).entries())
    assert states == ["current", "stale"]


def test_a_damaged_store_of_levels_is_made_again(cache, tmp_path):
    path = write(tmp_path / "a.tif", [NATIVE])
    first = large(path).read(1)
    [store] = [p for p in cache.iterdir() if p.suffix == ".zarr"]
    for file, content in (("zarr.json", b"{"), ("0/image/c/0/0/0", b"")):
        (store / file).write_bytes(content)
        SHARDS.clear()
        with pytest.warns(DamagedStoreWarning, match=store.name):
            assert np.array_equal(large(path).read(1), first)


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NDZARR_CACHE", str(tmp_path / "file" / "cache"))
    pyramid = large(write(tmp_path / "a.tif", [NATIVE]))
    pyramid.read()
    with raises(WriteError, path=tmp_path / "file" / "cache"):
        pyramid.read(1)


def _half(path):
    return large(path).read(1)


@pytest.mark.slow
def test_processes_that_ask_at_once_make_levels_once(cache, tmp_path):
    path = str(write(tmp_path / "a.tif", [NATIVE]))
    with get_context("spawn").Pool(2) as pool:
        first, second = pool.map(_half, [path, path])
    assert np.array_equal(first, second)
    assert len([p for p in cache.iterdir() if p.suffix == ".zarr"]) == 1


@either
def test_stacks_have_levels_too(open_it, tmp_path):
    frames = np.stack([photo(300, 310, seed)[..., 0] for seed in range(3)])
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        tif.write(frames, tile=(64, 64), subifds=1, metadata={"axes": "TYX"}, photometric="minisblack")
        tif.write(np.ascontiguousarray(frames[:, ::2, ::2]), tile=(64, 64), subfiletype=1, photometric="minisblack")
    pyramid = open_it(tmp_path / "a.ome.tif")
    assert pyramid.dims == ("t", "c", "y", "x")
    assert np.array_equal(pyramid.read(1, t=slice(2, 3))[0, 0], frames[2, ::2, ::2])
    assert [level.shape for level in pyramid.levels] == [(3, 1, 300, 310), (3, 1, 150, 155)]
