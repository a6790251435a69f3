"""Stores in buckets appear whole or not at all, with the bytes of local ones, and little else is sent."""

import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner

import ndzarr
from helpers.arrays import random_array, same
from helpers.errors import raises
from helpers.pyramids import ArraySource
from helpers.subprocesses import environment
from helpers.video_clips import encode
from ndzarr._pyramid.transcode import write_pyramid
from ndzarr._store.buckets import Claim
from ndzarr._store.destinations import destination
from ndzarr._store.presets import Encoding
from ndzarr.cli import main
from ndzarr.errors import DamagedError, ExistsError, MissingError, OptionError, SourceError, StoreError, WriteError

pytest.importorskip("moto")


@pytest.fixture(scope="module")
def bucket(s3):
    return s3.bucket("writing")


@pytest.fixture
def options(s3):
    return {"storage_options": s3.storage_options}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A store of some shards."""
    folder = tmp_path_factory.mktemp("local")
    np.save(folder / "a.npy", random_array((3, 2500, 700), "u1", 1))
    ndzarr.transcode(folder / "a.npy", folder / "a.zarr")
    return folder / "a.zarr"


def tree(store):
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def objects(url, options):
    """Every object below a URL."""
    place = destination(url, **options)
    return {name: bytes(place.store.get(place.key(name))[0]) for name in place.present()}


def test_a_bucket_gets_the_bytes_of_a_local_store(bucket, options, local, tmp_path):
    file = local.parent / "a.npy"
    made = ndzarr.transcode(file, f"{bucket}/same.zarr", **options)
    assert same(made.read(), np.load(file))
    assert objects(f"{bucket}/same.zarr", options) == tree(local)
    with raises(ExistsError, path=f"{bucket}/same.zarr", hint="overwrite=True"):
        ndzarr.transcode(file, f"{bucket}/same.zarr", **options)


def test_a_store_in_one_file_is_one_object_of_a_bucket(bucket, options, tmp_path):
    array = random_array((3, 300, 200), "u1", 1)
    url = f"{bucket}/one/a.ozx"
    made = ndzarr.transcode(array, url, **options)
    assert same(made.read(), array)
    assert list(objects(f"{bucket}/one", options)) == ["a.ozx"]
    with raises(ExistsError, path=url, hint="overwrite=True"):
        ndzarr.transcode(array, url, **options)
    own = ndzarr.transcode(array, tmp_path / "b.ozx").path
    assert ndzarr.push(own, f"{bucket}/one/", **options) == f"{bucket}/one/b.ozx"
    with raises(ExistsError, path=f"{bucket}/one/b.ozx"):
        ndzarr.push(own, f"{bucket}/one/", **options)
    pushed = objects(f"{bucket}/one", options)
    assert pushed["b.ozx"] == (tmp_path / "b.ozx").read_bytes()
    assert same(ndzarr.open(f"{bucket}/one/b.ozx", **options).read(), array)


def test_a_source_that_fails_leaves_nothing(bucket, options):
    reads = []

    def before(*_):
        reads.append(1)
        if len(reads) > 5:
            raise SourceError("torn")

    source = ArraySource(random_array((1, 5000, 300), "u1"), band=512, before_read=before)
    with pytest.raises(SourceError, match="torn"):
        write_pyramid(source, destination(f"{bucket}/torn.zarr", **options), Encoding(shard=512), band_bytes=1)
    assert not objects(f"{bucket}/torn.zarr", options)


@contextmanager
def counted(server):
    """A proxy before a server; yields its URL and the list of the bytes that it passed on."""
    host, port = server.removeprefix("http://").split(":")
    sent, ends, threads = [], [], []

    def pump(source, target, count):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if count:
                    sent.append(len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def run(function, *args):
        threads.append(threading.Thread(target=function, args=args, daemon=True))
        threads[-1].start()

    def accept():
        with suppress(OSError):
            while True:
                client, upstream = listening.accept()[0], socket.create_connection((host, int(port)))
                ends.extend((client, upstream))
                run(pump, client, upstream, True)
                run(pump, upstream, client, False)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        run(accept)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", sent
        for end in (listening, *ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)
        for end in ends:
            end.close()


def test_pushing_sends_hardly_more_than_the_store(s3, bucket, options, local):
    content = tree(local)
    size = sum(map(len, content.values()))
    with counted(s3.url) as (url, sent):
        through = {**s3.storage_options, "aws_endpoint_url": url}
        assert ndzarr.push(local, f"{bucket}/sub/", storage_options=through) == f"{bucket}/sub/a.zarr"
    assert sum(sent) <= 1.05 * size
    assert objects(f"{bucket}/sub/a.zarr", options) == content


def test_extracting_sends_hardly_more_than_the_store(s3, bucket, options, local, tmp_path):
    sampler = ndzarr.Sampler({"a": ndzarr.open(local)})
    table = sampler.targets.grid((128, 128))
    sampler.extract(table, tmp_path / "crops.zarr", shard=40)
    content = tree(tmp_path / "crops.zarr")
    with counted(s3.url) as (url, sent):
        through = {**s3.storage_options, "aws_endpoint_url": url}
        sampler.extract(table, f"{bucket}/crops.zarr", shard=40, storage_options=through)
    found = objects(f"{bucket}/crops.zarr", options)
    assert found == content
    assert sum(sent) <= 1.05 * sum(map(len, content.values()))


CALLS = {
    "push": "ndzarr.push(f'{folder}/a.zarr', f'{url}/a.zarr', storage_options=options)",
    "transcode": "ndzarr.transcode(f'{folder}/a.npy', f'{url}/a.zarr', storage_options=options)",
    "prepare": "ndzarr.Sampler([f'{folder}/a.npy'], url, storage_options=options).prepare()",
}
KILLED = """
import os, signal, sys, threading
import ndzarr
from ndzarr._remote.stores import RemoteStore

real, shards, lock = RemoteStore.put, [], threading.Lock()
def put(store, path, *args, **how):
    with lock:
        found = real(store, path, *args, **how)
        shards.extend([path] * ("/c/" in path))
        if len(shards) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return found
RemoteStore.put = put
"""


def kill(call, names):
    """Make a call in a process that is killed once it has written two shards."""
    values = [f"{name} = {value!r}" for name, value in names.items()]
    done = subprocess.run([sys.executable, "-c", "\n".join([KILLED, *values, call])], env=environment(), timeout=300)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("call", CALLS)
def test_a_killed_call_shows_nothing_and_is_gone_on_with(s3, bucket, options, local, call):
    names = {"folder": str(local.parent), "url": f"{bucket}/killed-{call}", "options": s3.storage_options}
    kill(CALLS[call], names)
    [name] = {name.partition("/")[0] for name in destination(names["url"], **options).present()}
    url = f"{names['url']}/{name}"
    with pytest.raises(MissingError):
        ndzarr.open(url, **options)
    kept = {n: len(data) for n, data in objects(url, options).items() if "/c/" in n}
    assert len(kept) == 2
    with counted(s3.url) as (proxy, sent):  # at once: the process of the claim is dead
        exec(CALLS[call], {**names, "ndzarr": ndzarr, "options": {**s3.storage_options, "aws_endpoint_url": proxy}})
    found = objects(url, options)
    assert sum(sent) <= 1.05 * (sum(map(len, found.values())) - sum(kept.values()))
    if call == "prepare":  # a sampler's store records its key, too
        assert same(ndzarr.open(url, **options).read(), np.load(local.parent / "a.npy"))
    else:
        assert found == tree(local)


def test_a_killed_call_is_not_gone_on_with_once_its_file_was_changed(s3, bucket, options, tmp_path):
    names = {"folder": str(tmp_path), "url": f"{bucket}/changed", "options": s3.storage_options}
    np.save(tmp_path / "a.npy", random_array((3, 2500, 100), "u1", 1))
    kill(CALLS["transcode"], names)
    np.save(tmp_path / "a.npy", array := random_array((3, 2500, 100), "u1", 2))  # of the same size
    assert same(ndzarr.transcode(tmp_path / "a.npy", f"{names['url']}/a.zarr", **options).read(), array)


def test_what_another_content_left_is_removed(bucket, options, local, tmp_path):
    url = f"{bucket}/other.zarr"
    place = destination(url, **options)
    with ExitStack() as stack:
        stack.callback(Claim(place, "something else").__enter__().__exit__, KeyboardInterrupt, None, None)
        place.store.put(place.key("0/image/c/9/9/9"), b"left")
    ndzarr.push(local, url, **options)
    assert objects(url, options) == tree(local)


def test_two_writers_of_one_store_do_not_mix(bucket, options, local):
    url = f"{bucket}/two.zarr"
    place = destination(url, **options)
    with Claim(place, "first", sign_seconds=0.2) as first:
        with raises(ExistsError, path=url, hint="Wait for it"), Claim(place, "second"):
            pass
        first.clear()
    assert not place.present()


def test_a_writer_without_a_sign_of_life_is_taken_over_and_told(bucket, options):
    place = destination(f"{bucket}/silent.zarr", **options)
    with Claim(place, "first", sign_seconds=3.0) as first, Claim(place, "second", patience=0.5) as second:
        deadline = time.monotonic() + 20
        while not first.lost and time.monotonic() < deadline:
            time.sleep(0.05)
        second.clear()
        with raises(WriteError, path=place.url, match="took over"):
            first.check()
    assert not place.present()


def test_readers_of_an_overwritten_store_are_told_to_open_it_again(bucket, options, local, tmp_path):
    url = f"{bucket}/over.zarr"
    ndzarr.push(local, url, **options)
    opened = ndzarr.open(url, **options)
    other = random_array((3, 2500, 700), "u1", 2)
    ndzarr.transcode(other, tmp_path / "b.zarr")
    ndzarr.push(tmp_path / "b.zarr", url, overwrite=True, **options)
    with pytest.raises((StoreError, DamagedError), match=r"[Oo]pen"):
        opened.read()
    assert same(ndzarr.open(url, **options).read(), other)


def test_objects_that_are_no_store_are_never_removed(bucket, options, local):
    url = f"{bucket}/mine.zarr"
    place = destination(url, **options)
    place.store.put(place.key("notes.txt"), b"mine")
    for overwrite in (False, True):
        with raises(ExistsError, path=url, hint="another destination"):
            ndzarr.push(local, url, overwrite=overwrite, **options)
    assert objects(url, options) == {"notes.txt": b"mine"}


def test_cogs_are_written_to_buckets(bucket, options, local, tmp_path):
    ndzarr.export_cog(local, tmp_path / "a.tif")
    assert ndzarr.export_cog(local, f"{bucket}/a.tif", **options) == f"{bucket}/a.tif"
    place = destination(f"{bucket}/a.tif", **options)
    assert bytes(place.store.get(place.path)[0]) == (tmp_path / "a.tif").read_bytes()
    with raises(ExistsError, path=f"{bucket}/a.tif"):
        ndzarr.export_cog(local, f"{bucket}/a.tif", **options)


def test_commands_write_to_buckets(s3, bucket, options, local, tmp_path, monkeypatch):
    for name, value in s3.storage_options.items():
        monkeypatch.setenv(name.upper(), value)
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", random_array((30, 40), "u1"))
    images = [str(tmp_path / f"{name}.npy") for name in "ab"]
    for command in (
        ["transcode", *images, "-o", f"{bucket}/many/"],
        ["transcode", *images, "-o", f"{bucket}/many/", "--skip-existing"],
        ["push", str(local), f"{bucket}/cli/"],
        ["cog", str(local), "-o", f"{bucket}/cli.tif"],
    ):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
    assert same(ndzarr.open(f"{bucket}/many/b.zarr", **options).read()[0], np.load(images[1]))
    assert objects(f"{bucket}/cli/a.zarr", options) == tree(local)


def test_videos_and_predictions_are_written_to_buckets(bucket, options, tmp_path, monkeypatch):
    monkeypatch.setenv("NDZARR_CACHE", str(tmp_path / "cache"))
    encode(tmp_path / "clip.mp4", n=6)
    image = ndzarr.transcode(random_array((60, 90), "u1", 3), tmp_path / "image.zarr")
    sampler = ndzarr.Sampler({"a": image})

    def halved(images):
        return images[:, 0] * np.float32(0.5)

    def broken(images):
        calls.append(1)
        if len(calls) > 2:
            raise SourceError("torn")
        return halved(images)

    calls = []
    predict = partial(sampler.predict, window=(32, 32), batch_size=1)
    with pytest.raises(SourceError, match="torn"):
        predict(broken, f"{bucket}/predicted.zarr", **options)
    assert not objects(f"{bucket}/predicted.zarr", options)
    made = predict(halved, f"{bucket}/predicted.zarr", **options)
    assert made.path == f"{bucket}/predicted.zarr"
    predict(halved, tmp_path / "predicted.zarr")
    ndzarr.transcode(tmp_path / "clip.mp4", f"{bucket}/clip.zarr", **options)
    ndzarr.transcode(tmp_path / "clip.mp4", tmp_path / "clip.zarr")
    for name in ("predicted.zarr", "clip.zarr"):
        assert objects(f"{bucket}/{name}", options) == tree(tmp_path / name)
    assert not [*(tmp_path / "cache").rglob("*.stitch")]
    with raises(ExistsError, path=f"{bucket}/predicted.zarr"):
        ndzarr.Stitcher(image, f"{bucket}/predicted.zarr", **options)


def test_what_cannot_be_written_is_said(bucket, options, local, tmp_path):
    with raises(MissingError, path="s3://nowhere-at-all/a.zarr", match="no such bucket"):
        ndzarr.push(local, "s3://nowhere-at-all/a.zarr", **options)
    with raises(OptionError, path=bucket, match="as a whole"):
        ndzarr.push(local, bucket, **options)
    with raises(OptionError, key="url"):
        ndzarr.push(local, "elsewhere.zarr")
    with raises(OptionError, key="storage_options"):
        ndzarr.transcode(np.zeros((9, 9), "u1"), tmp_path / "a.zarr", **options)
    with raises(StoreError, path=tmp_path):
        ndzarr.push(tmp_path, f"{bucket}/a.zarr", **options)
    (tmp_path / "cut.zarr").mkdir()
    made = ndzarr.transcode(random_array((40, 40), "u1"), tmp_path / "cut.zarr", overwrite=True)
    next((tmp_path / "cut.zarr/0/image/c").rglob("0/0/0")).write_bytes(b"")
    assert made.shape
    with raises(DamagedError, path=tmp_path / "cut.zarr", hint="verify"):
        ndzarr.push(tmp_path / "cut.zarr", f"{bucket}/cut.zarr", **options)
    assert not objects(f"{bucket}/cut.zarr", options)
