"""Many processes write one store: it has the bytes that one process writes, whoever is killed meanwhile."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import ndzarr
from helpers.arrays import random_array
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from helpers.subprocesses import environment
from ndzarr._executors import run_jobs, working
from ndzarr._pyramid.bands import Image, transcoding
from ndzarr._pyramid.transcode import identity, write_pyramid
from ndzarr._store.destinations import SharedFolder, destination, sharing
from ndzarr._store.presets import Encoding
from ndzarr.cli import main
from ndzarr.errors import MissingError, OptionError, SourceError

TALL = 16_500
"""Rows of an image that is just high enough to be written in bands: each has two rows of shards of 2048 pixels."""


def tree(store):
    """Every file of a store."""
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in Path(store).rglob("*") if p.is_file()}


@st.composite
def images(draw):
    axes = draw(st.sampled_from(("yx", "cyx", "tyx", "tcyx")))
    lengths = {"t": draw(st.integers(1, 3)), "c": draw(st.sampled_from((1, 3, 4, 6)))}
    shape = [*(lengths[d] for d in axes[:-2]), draw(st.integers(300, 700)), draw(st.integers(1, 20))]
    dtype = draw(st.sampled_from(("u1", "i2", "f4", "c8")))
    array = random_array(shape, dtype, draw(st.integers(0, 9)), zeros=0.2)
    if dtype == "f4":
        array[random_array(shape, "u1", 1) > draw(st.sampled_from((100, 255)))] = np.nan
    return axes, array


@given(
    images(), st.sampled_from((3, 4, 8, 16)), st.sampled_from(("fast", "compact", "jpeg")), st.sampled_from((None, 0))
)
@examples(6)
def test_bands_give_the_bytes_of_one_process(image, chunk, preset, nodata):
    axes, array = image
    if preset == "jpeg":
        axes, array = "cyx", random_array((3, *array.shape[-2:]), "u1")
    encoding = Encoding(preset, chunks=(("y", chunk), ("x", 5)), shard=16, indexes=True)
    with tempfile.TemporaryDirectory() as folder:
        file, whole, bands = (Path(folder, name) for name in ("a.npy", "whole.zarr", "bands.zarr"))
        np.save(file, array)
        reading = {"axes": axes, "nodata": nodata}
        names = [chr(97 + k) for k in range(array.shape[axes.index("c")])] if "c" in axes else None
        names = ["r", "g", "b", "a"] if names is not None and len(names) == 4 else names
        job = Image(str(file), {**reading, "channels": names}, encoding, identity(str(file)))
        with working("threads", 1) as pool:
            tasks = []
            assert not run_jobs(pool, [transcoding(job, bands, False)], begun=tasks.append)
        assert tasks[0] == 1
        assert tasks[1] > 4
        with job.open() as source:
            write_pyramid(source, whole, encoding)
        assert tree(whole) == tree(bands)
        assert sorted(os.listdir(folder)) == ["a.npy", "bands.zarr", "whole.zarr"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A TIFF that is written in bands, a small one, and one that is cut."""
    folder = tmp_path_factory.mktemp("files")
    tall = random_array((TALL, 200, 3), "u1", 3)
    tifffile.imwrite(folder / "tall.tif", tall, tile=(512, 512), photometric="rgb")
    tifffile.imwrite(folder / "small.tif", random_array((90, 120), "u2"))
    (folder / "cut.tif").write_bytes((folder / "small.tif").read_bytes()[:200])
    ndzarr.transcode(folder / "tall.tif", folder / "tall.zarr")
    return folder


@pytest.fixture(scope="module")
def cluster():
    """A client of two worker processes."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.slow
def test_a_cluster_writes_the_bytes_of_one_process(files, cluster, tmp_path):
    address = cluster.scheduler.address
    sources = [str(files / name) for name in ("tall.tif", "small.tif", "cut.tif")]
    done = CliRunner().invoke(main, ["transcode", *sources, "-o", f"{tmp_path}/out/", "--scheduler", address])
    assert done.exit_code == 1
    assert "wrote 2 of 3 stores" in done.output
    assert done.output.count("Error: ") == done.output.count("cut.tif") == 1
    assert tree(tmp_path / "out/tall.zarr") == tree(files / "tall.zarr")
    assert sorted(os.listdir(tmp_path / "out")) == ["small.zarr", "tall.zarr"]


@pytest.mark.slow
def test_samplers_prepare_on_a_cluster_what_they_would_prepare_here(files, cluster, tmp_path):
    names = ["tall.tif", "small.tif", "cut.tif"]
    samplers = [ndzarr.Sampler([files / n for n in names], tmp_path / w, transcode="always") for w in ("here", "there")]
    for sampler, scheduler in zip(samplers, ("threads", cluster), strict=True):
        with raises(SourceError, match="cut.tif"):
            sampler.prepare(scheduler=scheduler)
    assert len(os.listdir(tmp_path / "here")) == 2
    assert tree(tmp_path / "here") == tree(tmp_path / "there")
    with raises(SourceError, match="cut.tif"):  # nothing else is made again
        samplers[1].prepare(scheduler=cluster.scheduler.address)


@pytest.mark.slow
def test_a_cluster_writes_a_bucket(files, cluster, s3, tmp_path):
    url, options = s3.bucket("clusters"), {"storage_options": s3.storage_options}
    ndzarr.transcode(files / "tall.tif", f"{url}/a.zarr", scheduler=cluster, **options)
    sampler = ndzarr.Sampler({"a": ndzarr.open(files / "tall.zarr")})
    table = sampler.targets.grid((100, 100))
    sampler.extract(table, f"{url}/crops.zarr", shard=100, scheduler=cluster, **options)
    sampler.extract(table, tmp_path / "crops.zarr", shard=100)
    names = ["tall.tif", "small.tif"]
    for workdir, scheduler in ((tmp_path / "work", "threads"), (f"{url}/work", cluster)):
        ndzarr.Sampler([files / n for n in names], workdir, transcode="always", **options).prepare(scheduler=scheduler)
    made = {name: tmp_path / name for name in ("crops.zarr", "work")}
    for name, same in {"a.zarr": files / "tall.zarr", **made}.items():
        place = destination(f"{url}/{name}", **options)
        assert {n: bytes(place.store.get(place.key(n))[0]) for n in place.present()} == tree(same)


CLIENT = """
import os, signal, sys, ndzarr
import ndzarr._pyramid.bands as bands
real, done = bands.run_jobs, []
def run_jobs(pool, jobs, advance, begun):
    def third(result):
        done.append(result)
        if len(done) == 3:  # the first opens the image, the others are bands
            os.kill(os.getpid(), signal.SIGKILL)
    return real(pool, jobs, third, begun)
bands.run_jobs = run_jobs
ndzarr.transcode(sys.argv[1], sys.argv[2], scheduler=sys.argv[3])
"""


@pytest.mark.slow
def test_a_killed_caller_goes_on_where_it_was(files, cluster, tmp_path):
    tall, dest = files / "tall.tif", tmp_path / "a.zarr"
    command = [sys.executable, "-c", CLIENT, str(tall), str(dest), cluster.scheduler.address]
    done = subprocess.run(command, env=environment(), timeout=100)
    assert done.returncode == -signal.SIGKILL
    parts = list(tmp_path.glob(".a.zarr.bands_*.partial/parts/0.*"))
    assert len(parts) >= 2
    kept = next(path for path in parts[0].rglob("0/image/c/*/*/*") if path.is_file())
    os.link(kept, tmp_path / "kept")
    with pytest.raises(FileNotFoundError):
        ndzarr.open(dest)
    ndzarr.transcode(tall, dest, scheduler=cluster)
    assert (tmp_path / "kept").samefile(dest / kept.relative_to(parts[0] / "store"))
    assert tree(dest) == tree(files / "tall.zarr")
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "kept"]


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/cwd"), reason="needs a path that is another one in each process")
def test_workers_that_do_not_see_a_file_are_named(files, cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(files)
    hidden = "/proc/self/cwd/small.tif"
    with raises(MissingError, path=hidden, hint="a file system in common", match="worker"):
        ndzarr.transcode(hidden, tmp_path / "a.zarr", scheduler=cluster)
    assert not os.listdir(tmp_path)


def test_arrays_and_other_schedulers_are_refused(tmp_path):
    with raises(OptionError, key="scheduler", hint="the path of a file"):
        ndzarr.transcode(np.zeros((9, 9), "u1"), tmp_path / "a.zarr", scheduler="processes")
    with raises(OptionError, key="scheduler", match="thread"):
        ndzarr.transcode("a.tif", tmp_path / "a.zarr", scheduler="thread")


def test_a_worker_of_a_killed_caller_gives_a_whole_part_or_none(tmp_path):
    dest = tmp_path / "a.zarr"
    with suppress(KeyboardInterrupt), sharing(dest, "bands", "token", False) as first:
        with first.part("done"):
            pass
        raise KeyboardInterrupt  # the caller is killed, its worker goes on
    late = SharedFolder(first.folder).part("late")
    work = late.__enter__()
    (work.root / "image").write_bytes(b"rows")
    with sharing(dest, "bands", "token", False) as second:
        assert second.done() == {"done"}
        with pytest.raises(OSError, match="late"):
            late.__exit__(None, None, None)
        assert second.done() == {"done"}
        with second.part("late") as again:
            (again.root / "image").write_bytes(b"rows")
        assert second.read("late", "image", tmp_path).read_bytes() == b"rows"


@pytest.mark.slow
def test_the_band_of_a_killed_worker_is_written_again(files, cluster, tmp_path):
    killed = []

    def kill():
        pids = list(cluster.run(os.getpid).values())
        while not list(tmp_path.glob(".a.zarr.bands_*.partial/parts/.0.*.partial")):
            time.sleep(0.001)
        os.kill(pids[0], signal.SIGKILL)
        killed.append(pids[0])

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    ndzarr.transcode(files / "tall.tif", tmp_path / "a.zarr", scheduler=cluster)
    thread.join(10)
    assert killed
    assert tree(tmp_path / "a.zarr") == tree(files / "tall.zarr")
    assert os.listdir(tmp_path) == ["a.zarr"]
