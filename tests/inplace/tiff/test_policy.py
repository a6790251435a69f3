"""Samplers read efficiently tiled files where they lie, unless told otherwise."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr._concurrency import BatchError
from ndzarr._library.library import Library
from ndzarr._store.presets import Encoding
from ndzarr.errors import DamagedError, MissingError, OptionError, SourceError, StoreError

PIXELS = photo(500, 700)
LARGE = np.zeros((2400, 2400, 3), "u1")
"""16 MiB and more: its overviews are not made in memory."""


def write(path, pixels=PIXELS, **how):
    tifffile.imwrite(path, pixels, **{"tile": (128, 128), "photometric": "rgb", "compression": "zlib", **how})
    return path


def stores(folder):
    return [p.name for p in folder.iterdir() if p.suffix == ".zarr"] if folder.exists() else []


@pytest.fixture
def library(tmp_path):
    return lambda transcode="auto", **how: Library(tmp_path / "library", transcode=transcode, **how)


def test_a_tiled_file_is_read_where_it_lies(library, tmp_path):
    path = write(tmp_path / "a.tif")
    pyramid = library().pyramid(path)
    assert pyramid.path == str(path)
    assert library().pyramid(path, channels=["a", "b", "c"], nodata=3).channels == ("a", "b", "c")
    assert not stores(tmp_path / "library")
    held = library()
    assert held.pyramid(path) is held.pyramid(path)


def test_always_transcodes_and_never_does_not(library, tmp_path):
    path = write(tmp_path / "a.tif")
    store = library("always").pyramid(path)
    assert store.path.endswith(".zarr")
    assert np.array_equal(store.read(), library("never").pyramid(path).read())
    Image.fromarray(PIXELS).save(tmp_path / "b.png")
    with raises(
        StoreError,
        path=tmp_path / "b.png",
        key="transcode",
    ):
        library("never").pyramid(tmp_path / "b.png")
    write(tmp_path / "strips.tif", tile=None, rowsperstrip=8)
    with raises(StoreError, path=tmp_path / "strips.tif", match="strips of 8 rows"):
        library("never").pyramid(tmp_path / "strips.tif")
    with raises(MissingError, hint="Check its name"):
        library("never").pyramid(tmp_path / "nothing.tif")
    with raises(OptionError, key="transcode", match="did you mean 'never'"):
        library("nevr")


@pytest.mark.parametrize(
    "how",
    [
        {"tile": None, "rowsperstrip": 16},
        {"tile": (32, 32)},
        {"tile": (2048, 2048)},
        {"compression": "jpeg2000"},
        {"compression": "lzma"},
        {"photometric": "miniswhite", "pixels": PIXELS[..., 0]},
        {"extratags": [(274, 3, 1, 6, True)]},
    ],
    ids=lambda how: " ".join(how),
)
def test_files_that_are_not_efficiently_tiled_are_transcoded(how, library, tmp_path):
    path = write(tmp_path / "a.tif", **how)
    pyramid = library().pyramid(path)
    assert pyramid.path.endswith(".zarr")
    assert len(stores(tmp_path / "library")) == 1


def test_large_files_without_overviews_are_transcoded_those_with_them_not(library, tmp_path):
    assert library().pyramid(write(tmp_path / "a.tif", LARGE)).path.endswith(".zarr")
    with tifffile.TiffWriter(tmp_path / "b.tif") as tif:
        for k in (0, 1):
            image = np.ascontiguousarray(LARGE[:: k + 1, :: k + 1])
            tif.write(image, tile=(128, 128), photometric="rgb", subfiletype=k, compression="zlib")
    assert library().pyramid(tmp_path / "b.tif").path.endswith("b.tif")


@pytest.mark.parametrize("encoding", [Encoding(chunks=(("y", 64),)), Encoding(access="tubes"), Encoding(reduce="zyx")])
def test_who_chooses_chunks_or_levels_gets_a_store(encoding, library, tmp_path):
    assert library(encoding=encoding).pyramid(write(tmp_path / "a.tif")).path.endswith(".zarr")


def test_a_file_that_is_changed_is_opened_again(library, tmp_path):
    path, made = write(tmp_path / "a.tif"), library()
    for seed in range(10):
        pixels = photo(500, 700, seed)
        write(path, pixels)
        assert np.array_equal(made.pyramid(path).read(), np.moveaxis(pixels, -1, 0))
    write(tmp_path / "b.tif", 255 - PIXELS)
    os.replace(tmp_path / "b.tif", path)
    assert np.array_equal(made.pyramid(path).read(), np.moveaxis(255 - PIXELS, -1, 0))
    write(path, tile=None, rowsperstrip=8)
    assert made.pyramid(path).path.endswith(".zarr")


def test_a_file_whose_overview_is_damaged_is_transcoded_and_one_that_is_damaged_itself_an_error(library, tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for k in (0, 1):
            image = np.ascontiguousarray(PIXELS[:: k + 1, :: k + 1])
            tif.write(image, tile=(128, 128), photometric="rgb", subfiletype=k, compression="zlib")
    with tifffile.TiffFile(path) as tif:
        at = [page.tags[324].valueoffset for page in tif.pages]
    for place, message in zip(reversed(at), ("level 1", "level 0"), strict=True):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"\xf0\xff\xff\xff")
        with raises(DamagedError, path=path, match=message):
            ndzarr.open(path)
        if message == "level 1":
            assert np.array_equal(library().pyramid(path).read(), np.moveaxis(PIXELS, -1, 0))
    with raises(SourceError, path=path):
        library().pyramid(path)


def test_preparing_makes_what_is_missing_and_no_more(library, tmp_path):
    tiled, strips = write(tmp_path / "a.tif"), write(tmp_path / "b.tif", tile=None, rowsperstrip=8)
    library().prepare([tiled, strips])
    assert [name[:2] for name in stores(tmp_path / "library")] == ["b-"]
    write(tiled, LARGE)
    library("never").prepare([tiled])
    assert sorted(name[:2] for name in stores(tmp_path / "library")) == ["a-", "b-"]
    pyramid = library("never").pyramid(tiled)
    assert pyramid.levels[1].array.engine == "levels of a.tif in the cache"
    with pytest.raises(BatchError, match="strips of 8 rows"):
        library("never").prepare([tiled, strips])


def test_libraries_and_samplers_pickle_with_their_policy(library, tmp_path):
    assert pickle.loads(pickle.dumps(library("never"))).transcode == "never"
    path = write(tmp_path / "a.tif")
    sampler = ndzarr.Sampler([path], tmp_path / "work", transcode="never")
    copy = pickle.loads(pickle.dumps(sampler))
    assert copy.load_sample(y=slice(0, 9), x=slice(0, 9)).identical(sampler.load_sample(y=slice(0, 9), x=slice(0, 9)))


def test_samplers_say_that_they_read_in_place_and_give_the_same_samples(tmp_path):
    path = write(tmp_path / "scene.tif")
    image = {"id": 1, "file_name": str(path), "width": 700, "height": 500}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [100, 100, 40, 30]}
    dset = {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": "x"}]}
    places = {p: ndzarr.CocoSampler(dset, tmp_path / p, transcode=p) for p in ("auto", "always")}
    target = {"gid": 1, "cx": 130, "cy": 300, "width": 300, "height": 200}
    explained = places["auto"].plan(target).explain()
    assert explained.engines[0][0] == "tiles of scene.tif (adobe_deflate)"
    assert "local files" in str(places["always"].plan(target).explain())
    for more in ({}, {"scale": 0.5}, {"scale": 0.3}, {"channels": "b|r", "pad": 7}, {"aid": 1}):
        wanted = {**target, **more} if "aid" not in more else more
        ours, theirs = (s.load_sample(wanted) for s in (places["auto"], places["always"]))
        assert ours.identical(theirs)
    assert places["auto"].load_sample(target, lazy=True).compute().identical(places["always"].load_sample(target))
    places["auto"].prepare()
    assert not stores(tmp_path / "auto")


def test_named_samplers_take_the_option(tmp_path):
    path = write(tmp_path / "a.tif")
    windows = {"y": slice(10, 100), "x": slice(5, 300)}
    auto, always = (ndzarr.Sampler({"a": path}, tmp_path / p, transcode=p) for p in ("auto", "always"))
    assert auto.load_sample(key="a", **windows).identical(always.load_sample(key="a", **windows))
    assert auto.open("a").path == str(path)
    Image.fromarray(PIXELS).save(tmp_path / "b.png")
    with raises(StoreError, key="transcode"):
        ndzarr.Sampler([tmp_path / "b.png"], tmp_path / "w", transcode="never").open(0)


def test_damage_is_found_when_a_sample_touches_it(tmp_path):
    path = write(tmp_path / "a.tif")
    with tifffile.TiffFile(path) as tif:
        at, size = tif.pages[0].dataoffsets[7], tif.pages[0].databytecounts[7]
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * size)
    sampler = ndzarr.Sampler([path], tmp_path / "work")
    sampler.load_sample(y=slice(0, 100), x=slice(0, 100))
    with raises(DamagedError, match="level 0, the tile at row 128, column 128"):
        sampler.load_sample(y=slice(130, 200), x=slice(100, 200))
