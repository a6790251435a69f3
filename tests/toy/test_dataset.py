"""Demo datasets on disk."""

from __future__ import annotations

import errno
import json
import os

import kwcoco
import numpy as np
import pytest
import rasterio
from PIL import Image

import ndzarr
from helpers.errors import raises
from ndzarr.errors import ExistsError, OptionError, WriteError
from ndzarr.toydata import write_demo
from ndzarr.toydata.dataset import KINDS

SMALL = {"images": (192, 256), "multispectral": (160, 192), "video": (128, 160), "huge": (320, 400)}


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """A folder with a small dataset of each kind: kind to path."""
    folder = tmp_path_factory.mktemp("demo")
    return {kind: write_demo(folder, kind, size=size, n=4) for kind, size in SMALL.items()}


def sampler_of(path):
    return ndzarr.CocoSampler(path, workdir=path.parent / "pyramids")


@pytest.mark.parametrize("kind", KINDS)
def test_kwcoco_finds_nothing_wrong(demos, kind):
    result = kwcoco.CocoDataset(str(demos[kind])).validate(missing=True, corrupted=False, verbose=0)
    assert result == {"errors": [], "warnings": []}


@pytest.mark.parametrize("kind", KINDS)
def test_every_image_loads_with_its_annotations(demos, kind):
    sampler = sampler_of(demos[kind])
    for gid in sampler.dset.index.imgs:
        sample = sampler.load_sample(gid=gid)
        image = sampler.dset.index.imgs[gid]
        assert sample.image.shape[1:] == (image["height"], image["width"])
        assert sample.image.values.std() > 5
        assert sample.sizes["annot"] == len(sampler.dset.index.gid_to_aids[gid]) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_call_makes_the_same_files_and_does_not_write_twice(demos, kind, tmp_path):
    path = write_demo(tmp_path, kind, size=SMALL[kind], n=4)
    files = sorted(f.relative_to(tmp_path) for f in (tmp_path / kind).rglob("*"))
    assert path.read_bytes() == demos[kind].read_bytes()
    for file in files:
        assert (tmp_path / file).read_bytes() == (demos[kind].parent / file).read_bytes(), file
    before = {f: (tmp_path / f).stat().st_mtime_ns for f in files}
    write_demo(tmp_path, kind, size=SMALL[kind], n=4)
    assert {f: (tmp_path / f).stat().st_mtime_ns for f in files} == before
    write_demo(tmp_path, kind, size=SMALL[kind], n=4, seed=1)
    assert path.read_bytes() != demos[kind].read_bytes()


def test_images_are_of_several_formats_and_one_lies_on_its_side(demos):
    folder = demos["images"].parent / "images"
    assert sorted(f.name for f in folder.iterdir()) == ["fields.tif", "harbour.jpg", "phone.jpg", "yard.png"]
    with Image.open(folder / "phone.jpg") as phone:
        assert (phone.width, phone.height, phone.getexif()[274]) == (102, 76, 6), "stored turned"
    sampler = sampler_of(demos["images"])
    assert sampler.load_sample(gid=4).image.shape == (3, 102, 76)
    assert sampler.load_sample(gid=2).image.dtype == np.uint16


def test_assets_of_three_resolutions_are_aligned(demos):
    sample = sampler_of(demos["multispectral"]).load_sample(gid=1, nodata="float")
    assert sample.c.values.tolist() == ["r", "g", "b", "nir", "swir", "thermal"]
    r, nir, swir, thermal = (sample.image.sel(c=c).values for c in ("r", "nir", "swir", "thermal"))
    seen = ~np.isnan(sample.image.values).any(0)
    assert 0.7 < seen.mean() < 0.95, "a border holds no data"
    assert np.corrcoef(0.6 * r[seen] + 0.35 * nir[seen], swir[seen])[0, 1] > 0.9
    assert np.corrcoef(0.12 * r[seen] - 0.08 * nir[seen], thermal[seen])[0, 1] > 0.8


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_files_say_what_is_no_data(demos):
    folder = demos["multispectral"].parent / "multispectral"
    with rasterio.open(folder / "scene-1-swir.tif") as file:
        assert file.nodata == 0
        pixels = file.read(1)
    assert 0 < (pixels == 0).mean() < 0.3


def test_frames_come_from_two_sensors_with_dates(demos):
    sampler = sampler_of(demos["video"])
    sample = sampler.load_sample(vidid=1, channels="r|swir", nodata="ma")
    swir = sample.valid.sel(c="swir").any(("y", "x")).values
    assert swir.tolist() == [True, True, False, True], "every third frame is by a sensor that lacks it"
    assert sampler.load_sample(vidid=1, channels="wide:r").valid.any(("y", "x")).values.tolist() == [
        False,
        False,
        True,
        False,
    ]
    assert sample.t.values[0] == np.datetime64("2024-05-01T10:30")
    lengths = [len(set(sampler.dset.annots(gid=g).get("track_id", None))) for g in sampler.dset.index.imgs]
    assert min(lengths) > 0


def test_a_resolution_can_be_asked_for(demos):
    sampler = sampler_of(demos["huge"])
    assert sampler.load_sample(gid=1, resolution="0.8 m").image.shape == (3, 80, 100)


def test_a_dataset_of_others_is_not_overwritten(tmp_path):
    for content in ("not json", "{}", json.dumps({"info": [{"type": "process"}]}), "[]", "[" * 100_000):
        (tmp_path / "images.kwcoco.json").write_text(content)
        with raises(ExistsError, path=tmp_path / "images.kwcoco.json", hint="Choose another folder"):
            write_demo(tmp_path, size=(64, 64))
        assert (tmp_path / "images.kwcoco.json").read_text() == content


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "vidoe"}, "did you mean 'video'"),
        ({"n": 0}, None),
        ({"size": (8, 8)}, "32 pixels"),
        ({"size": 64}, ".height, width."),
        ({"things": "many"}, None),
    ],
)
def test_options_without_meaning_are_refused(tmp_path, options, said):
    with raises(OptionError, key=next(iter(options)), match=said):
        write_demo(tmp_path, **options)
    assert not list(tmp_path.glob("*.json"))


def test_what_cannot_be_written_says_what_to_do(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nothing"):
        with raises(WriteError, path=folder, hint="Choose another directory"):
            write_demo(folder)
    (tmp_path / "video").touch()
    with raises(WriteError, path=tmp_path, hint="Choose another directory"):
        write_demo(tmp_path, "video")
    (tmp_path / "images" / "harbour.jpg").mkdir(parents=True)
    with raises(WriteError, path=tmp_path / "images.kwcoco.json", match="harbour.jpg is a directory"):
        write_demo(tmp_path, n=1, size=(64, 64))
    (tmp_path / "huge.kwcoco.json").mkdir()
    with raises(ExistsError, path=tmp_path / "huge.kwcoco.json", hint="Choose another folder"):
        write_demo(tmp_path, "huge")


def test_images_are_replaced_only_while_there_is_no_dataset_of_them(tmp_path, monkeypatch):
    path = write_demo(tmp_path, n=1, size=(64, 64))
    before, replace = path.read_bytes(), os.replace

    def stop(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def stop_at_pictures(source, dest):
        if str(dest).endswith(".jpg"):
            stop()
        replace(source, dest)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", stop)
        with raises(WriteError, path=path, match="full"):
            write_demo(tmp_path, n=1, size=(64, 64), seed=1)
    assert path.read_bytes() == before
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", stop_at_pictures)
        with raises(WriteError, path=path, match="full"):
            write_demo(tmp_path, n=1, size=(64, 64), seed=1)
    assert not path.exists()
    assert write_demo(tmp_path, n=1, size=(64, 64), seed=1) == path
    with raises(OptionError, key="size", hint="smaller"):
        write_demo(tmp_path, size=(10**7, 10**7))
