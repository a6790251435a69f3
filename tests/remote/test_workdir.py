"""A sampler's pyramids may be in a bucket: made there once for all, and read from there."""

import json
import pickle
import threading
import warnings

import kwcoco
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import ndzarr
from helpers.arrays import random_array, same
from helpers.errors import raises
from ndzarr._concurrency import BatchError
from ndzarr._library.library import Library
from ndzarr._store.buckets import Claim
from ndzarr._store.destinations import destination
from ndzarr.cli import main
from ndzarr.errors import DamagedStoreWarning, OptionError, StoreError, WriteError

pytest.importorskip("moto")


@pytest.fixture(scope="module")
def bucket(s3):
    return s3.bucket("workdir")


@pytest.fixture
def options(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("NDZARR_CACHE", str(tmp_path / "cache"))
    return {"storage_options": s3.storage_options}


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / f"{k}.png" for k in range(3)]
    for k, path in enumerate(paths):
        Image.fromarray(random_array((90, 70, 3), "u1", k)).save(path)
    return paths


def objects(url, options):
    return destination(url, **options).present()


def store_of(workdir, options, stem):
    [name] = {name.partition("/")[0] for name in objects(workdir, options) if name.startswith(f"{stem}-")}
    return destination(f"{workdir}/{name}", **options)


def test_samplers_share_pyramids_in_a_bucket(bucket, options, images, tmp_path):
    workdir = f"{bucket}/shared"
    dset = kwcoco.CocoDataset()
    for path in images:
        dset.add_image(file_name=str(path), width=70, height=90)
    sampler = ndzarr.CocoSampler(dset, workdir, **options)
    assert sampler.workdir == workdir
    assert workdir in repr(sampler)
    sampler.prepare()
    made = objects(workdir, options)
    stores = {name.partition("/")[0] for name in made}
    assert len(stores) == 3
    assert not [name for name in made if ".ndzarr" in name]

    other = pickle.loads(pickle.dumps(ndzarr.CocoSampler(dset, workdir, **options)))
    other.prepare()
    targets = [{"gid": gid, "y": slice(20, 90), "x": slice(5, 60)} for gid in (1, 2, 3)]
    found = other.load_batch(targets)
    for image, path in zip(found.image, images, strict=True):
        assert same(image.values, np.asarray(Image.open(path))[20:90, 5:60].transpose(2, 0, 1))
    sample = sampler.load_sample({"gid": 1, "cx": 30, "cy": 40, "width": 20, "height": 20})
    assert same(sample.image.values, np.asarray(Image.open(images[0]))[30:50, 20:40].transpose(2, 0, 1))
    assert objects(workdir, options) == made
    assert not [*(tmp_path / "cache").rglob("*.zarr")]


def test_writers_of_one_pyramid_wait_for_one_another(bucket, options, images):
    workdir = f"{bucket}/together"
    pyramids, libraries = [], [Library(workdir, **options) for _ in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [
            threading.Thread(target=lambda own=own: pyramids.append(own.pyramid(images[0]))) for own in libraries
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(pyramids) == 3
    for pyramid in pyramids:
        assert same(pyramid.read(), np.asarray(Image.open(images[0])).transpose(2, 0, 1))


def test_what_a_dead_writer_left_is_invisible_and_made_again(bucket, options, images, s3, monkeypatch):
    for name, value in s3.storage_options.items():
        monkeypatch.setenv(name.upper(), value)
    workdir = f"{bucket}/dead"
    library = Library(workdir, **options)
    library.pyramid(images[0])
    place = store_of(workdir, options, "0")
    place.remove(list(place.present()))
    claim = Claim(place, "dead")
    claim.__enter__().__exit__(KeyboardInterrupt, None, None)
    place.store.put(place.key("0/image/c/0/0/0"), b"left")
    listed = CliRunner().invoke(main, ["cache", "list", "--workdir", workdir])
    assert listed.output.split()[0] == "partial", listed.output
    again = Library(workdir, **options)
    again.prepare(images[:1])
    assert same(again.pyramid(images[0]).read(), np.asarray(Image.open(images[0])).transpose(2, 0, 1))
    assert not [name for name in place.present() if ".ndzarr" in name]


def test_damage_in_a_bucket_is_mended_and_useless_stores_are_pruned(bucket, options, images, s3, monkeypatch):
    for name, value in s3.storage_options.items():
        monkeypatch.setenv(name.upper(), value)
    workdir = f"{bucket}/damage"
    library = Library(workdir, **options)
    library.prepare(images)
    opened = library.pyramid(images[0])
    place = store_of(workdir, options, "0")
    lost = "0/image/c/0/0/0"

    place.remove([lost])
    [entry] = [entry for entry in library.entries() if entry.state != "current"]
    assert (entry.state, entry.store, entry.source) == ("damaged", place, str(images[0]))
    with pytest.warns(DamagedStoreWarning, match="made again"):
        assert same(opened.read(), np.asarray(Image.open(images[0])).transpose(2, 0, 1))
    place.remove([lost])
    with pytest.warns(DamagedStoreWarning, match="made again"):
        Library(workdir, **options).prepare(images)
    assert lost in place.present()

    place.remove(["zarr.json"])
    images[1].unlink()
    destination(f"{workdir}/notes", **options).put_empty("mine.txt")
    for command in (["list"], ["prune", "--dry-run"], ["prune"]):
        done = CliRunner().invoke(main, ["cache", *command, "--workdir", workdir])
        assert done.exit_code == 0, done.output
        assert {"damaged", "orphaned"} <= set(done.output.split())
        assert f"in {workdir}" in done.output
    left = {name.partition("/")[0] for name in objects(workdir, options)}
    assert {name[0] for name in left} == {"2", "n"}


def test_a_place_that_cannot_be_written_is_said(bucket, options, images, http):
    with raises(OptionError, path=http.url, hint="s3://"):
        ndzarr.Sampler({path.stem: path for path in images}, http.url)
    with pytest.raises(BatchError, match="no such bucket"):
        ndzarr.Sampler({path.stem: path for path in images}, "s3://nowhere-at-all/pyramids", **options).prepare()
    forbidden = {**options["storage_options"], "aws_endpoint_url": "http://127.0.0.1:1"}
    sampler = ndzarr.Sampler(
        {path.stem: path for path in images}, f"{bucket}/x", storage_options=forbidden, remote=ndzarr.Remote(retries=0)
    )
    with pytest.raises((StoreError, WriteError), match="connection"):
        sampler.open(images[0].stem)
    assert json.dumps(options["storage_options"]["aws_secret_access_key"]) not in repr(sampler)
