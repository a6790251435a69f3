"""An extraction holds what `load_sample` returns, wherever and however often it was begun."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from hashlib import sha256
from pathlib import Path

import dask
import numpy as np
import pandas
import pytest
import xarray
import zarr

import ndzarr
from helpers.errors import raises
from ndzarr._batches.extract import Job
from ndzarr._batches.extract_store import ShardedArray
from ndzarr._batches.jobs import run_part
from ndzarr._executors import WorkerError
from ndzarr._store.destinations import SharedFolder
from ndzarr.errors import ExistsError, MissingError, OptionError, StoreError, TargetError, WriteError


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    n = 40
    return pandas.DataFrame(
        {"gid": rng.integers(1, 3, n), "cx": rng.integers(0, 90, n), "cy": rng.integers(30, 200, n), "width": 32,
         "height": 24, "label": [None, *["x"] * (n - 1)], "annot_ids": [[1, 2]] * n, "weight": rng.uniform(0, 1, n)}
    )  # fmt: skip


def check(store, sampler, targets, **options):
    """The store opens as one Dataset that holds what `load_batch` returns."""
    rows = list(targets.to_dict("records") if hasattr(targets, "to_dict") else targets)
    rows = [{k: v for k, v in row.items() if v is not None} for row in rows]
    with xarray.open_zarr(store) as found:
        found.load()
    batch = sampler.load_batch([rows[k] for k in found.sample.values], **options)
    if "annot_sample" in batch:
        batch["annot_sample"] = batch.annot_sample.copy(data=found.sample.values[batch.annot_sample.values])
    batch = batch.assign_coords(sample=found.sample).drop_vars(["native_y", "native_x"])
    if "valid" in found and "valid" not in batch:
        assert found.valid.all()
        found = found.drop_vars("valid")
    elif "valid" in found and "c" in found.valid.dims and "c" not in batch.valid.dims:
        found["valid"] = found.valid.isel(c=0, drop=True)
    notes = [name for name in found.variables if str(name).startswith("target_")]
    found.attrs = {}
    for name, expected in batch.variables.items():
        np.testing.assert_array_equal(found[name].values.astype(expected.dtype), expected.values, err_msg=str(name))
        assert found[name].dims == expected.dims
    assert set(found.variables) - set(notes) == set(batch.variables)
    assert set(found.coords) == set(batch.coords)
    return found


@pytest.mark.parametrize("order", ["input", "locality"])
@pytest.mark.parametrize("scheduler", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_a_store_holds_the_samples_their_annotations_and_their_targets(mixed, table, tmp_path, order, scheduler):
    if scheduler == "processes" and sys.version_info >= (3, 12):
        pytest.skip("forking a process with threads is deprecated")
    path = mixed.extract(table, tmp_path / "crops.zarr", order=order, scheduler=scheduler, workers=2, shard=7)
    found = check(path, mixed, table)
    assert (sorted(found.sample.values) == np.arange(40)).all()
    assert (order == "input") == (list(found.sample.values) == list(range(40)))
    np.testing.assert_array_equal(found.target_weight, table.weight[found.sample.values])
    assert json.loads(str(found.target_annot_ids[0].item())) == [1, 2]
    assert [str(v) for v in found.sortby("sample").target_label.values[:2]] == ["", "x"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("targets", "options"),
    [
        ([{"vidid": 1, "time_slice": slice(k, k + 2), "y": slice(0, 50), "x": slice(-3, 40)} for k in range(4)], {}),
        ([{"gid": 3, "y": slice(k, k + 30 + k), "x": slice(0, 40)} for k in range(9)], {}),
        ([{"gid": 4, "y": slice(20, 60), "x": slice(k, k + 40)} for k in range(9)], {"nodata": "float"}),
        ([{"gid": 5, "y": slice(20, 60), "x": slice(k, k + 40)} for k in range(9)], {"nodata": "ma", "scale": 0.5}),
        ([{"vidid": 1}, {"vidid": 1}, {"gids": (10, 12)}], {"channels": "nir|r"}),
        ([{"aid": 100 + k} for k in (0, 1, 10, 11)], {"channels": "r|g|b", "with_annots": False}),
    ],
)
def test_every_kind_of_sample_can_be_extracted(mixed, tmp_path, targets, options):
    path = mixed.extract(targets, tmp_path / "crops.zarr", shard=2, **options)
    check(path, mixed, targets, **options)


def test_damage_to_any_file_of_an_extraction_is_named(mixed, table, tmp_path):
    path = mixed.extract(table, tmp_path / "crops.zarr", shard=20, scheduler="threads")
    assert ndzarr.verify(path).ok
    files = sorted(file for file in path.rglob("*") if file.is_file())
    assert {"image/c/0/0/0/0", "image/zarr.json", "target_cx/c/0", "zarr.json"} <= {
        f.relative_to(path).as_posix() for f in files
    }
    for file in files:
        content = file.read_bytes()
        middle = len(content) // 2
        for damaged in (content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :], content[:-1], None):
            file.unlink()
            if damaged is not None:
                file.write_bytes(damaged)
            if damaged is None and file == path / "zarr.json":  # nothing says what it was
                with raises(StoreError, path=path):
                    ndzarr.verify(path)
                continue
            array = path / file.relative_to(path).parts[0]
            named = {Path(problem.file) for problem in ndzarr.verify(path).problems}
            assert named & {file, array}, (file, damaged)
        file.write_bytes(content)
    for first, second in (("image/c/0/0/0/0", "image/c/1/0/0/0"), ("target_cx/c/0", "target_cy/c/0")):
        swapped = (path / first).read_bytes(), (path / second).read_bytes()
        (path / first).write_bytes(swapped[1])
        (path / second).write_bytes(swapped[0])
        named = {problem.file for problem in ndzarr.verify(path).problems}
        assert {str(path / first), str(path / second)} <= named or {
            str(path / "target_cx"),
            str(path / "target_cy"),
        } <= named
        (path / first).write_bytes(swapped[0])
        (path / second).write_bytes(swapped[1])
    assert ndzarr.verify(path).ok


def test_large_samples_are_cut_into_chunks(mixed, tmp_path):
    targets = [{"gid": 1, "y": slice(k, k + 600), "x": slice(-5400, 600)} for k in range(3)]
    path = mixed.extract(targets, tmp_path / "crops.zarr", shard=2)
    check(path, mixed, targets)
    image = zarr.open_group(path, mode="r")["image"]
    assert image.chunks == (1, 3, 512, 512)
    assert image.shards == (2, 3, 1024, 6144)


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in")
def test_lossy_and_compact_stores_when_asked_for(mixed, table, tmp_path):
    check(mixed.extract(table, tmp_path / "a.zarr", preset="compact"), mixed, table)
    jpeg = xarray.open_zarr(mixed.extract(table, tmp_path / "b.zarr", preset="jpeg"))
    difference = jpeg.image.astype(float) - mixed.load_batch(table.drop(columns="label")).image.values
    assert 0 < abs(difference).mean() < 10


def test_named_pyramids_are_extracted_in_the_same_way(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (150, 170, 3), dtype=np.uint8)
    ndzarr.transcode(pixels, tmp_path / "a.zarr")
    sampler = ndzarr.Sampler({"a": tmp_path / "a.zarr"})
    table = pandas.DataFrame({"key": "a", "cx": range(20, 60), "cy": 70, "width": 20, "height": 30})
    check(sampler.extract(table, tmp_path / "crops.zarr", shard=16, order="locality"), sampler, table)


def test_each_chunk_is_decoded_once_per_shard(mixed, table, tmp_path, monkeypatch):
    from ndzarr._store.arrays import ChunkArray

    decoded = []
    real = ChunkArray.decode
    monkeypatch.setattr("ndzarr._store.core.enabled", False)  # which would not call what is counted here
    monkeypatch.setattr(
        ChunkArray, "decode", lambda self, chunk, *rest: decoded.append((self.name, chunk)) or real(self, chunk, *rest)
    )
    mixed.extract(table, tmp_path / "crops.zarr", workers=1)
    assert len(decoded) == len(set(decoded))


SCRIPT = """
import sys, time, pandas, ndzarr
from ndzarr._batches.extract import Job
real = Job.do
def slow(self, folder, number):
    if number == 5:
        print("fifth", flush=True)
    if number >= 5:
        time.sleep(60)
    return real(self, folder, number)
Job.do = slow
sampler = ndzarr.CocoSampler(sys.argv[1], sys.argv[2])
sampler.extract(pandas.read_pickle(sys.argv[3]), sys.argv[4], shard=4, workers=2, scheduler=sys.argv[5])
"""


def children(pid):
    """Processes that a process began."""
    return [int(k) for path in Path(f"/proc/{pid}/task").glob("*/children") for k in path.read_text().split()]


def running(pid):
    """True for a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_a_killed_extraction_goes_on_where_it_was(mixed, table, tmp_path, monkeypatch, scheduler):
    mixed.dset.dump(str(tmp_path / "data.json"))
    table.to_pickle(tmp_path / "table.pickle")
    dest = tmp_path / "crops.zarr"
    arguments = [tmp_path / "data.json", mixed.workdir, tmp_path / "table.pickle", dest, scheduler]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        assert process.stdout is not None
        said = process.stdout.readline()
        workers = children(process.pid)
        process.kill()
    assert said == "fifth\n"
    for _ in range(1000):
        if not any(map(running, workers)):
            break
        time.sleep(0.02)
    assert not any(map(running, workers)), "workers end with the process that began them"
    assert process.returncode == -signal.SIGKILL
    assert not dest.exists()
    [folder] = tmp_path.glob(".crops.zarr.*.partial")
    finished = {int(p.name) for p in folder.glob("parts/[0-9]*")}
    assert finished <= set(range(5))
    assert len(finished) >= 4, "one of two workers waited, and the other one was at work on at most one"

    done = []
    real = Job.do
    monkeypatch.setattr(Job, "do", lambda self, f, number: done.append(number) or real(self, f, number))
    sampler = ndzarr.CocoSampler(str(tmp_path / "data.json"), mixed.workdir)
    sampler.extract(table, dest, shard=4)
    assert set(done) == set(range(10)) - finished
    check(dest, sampler, table)
    assert not list(tmp_path.glob(".crops*"))


def test_a_failed_extraction_keeps_what_is_done_and_leaves_no_store(mixed, table, tmp_path, monkeypatch):
    real = Job.do

    def broken(self, folder, number):
        if number == 3:
            raise OSError("the disk went away")
        return real(self, folder, number)

    dest = tmp_path / "crops.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(Job, "do", broken)
        with pytest.raises(OSError, match="went away"):
            mixed.extract(table, dest, shard=4, workers=1)
    assert not dest.exists()
    [folder] = tmp_path.glob(".crops.zarr.*.partial")
    assert len(list(folder.glob("parts/[0-9]*"))) == 3
    mixed.extract(table, dest, shard=4)
    check(dest, mixed, table)


def test_a_job_is_not_read_from_a_directory_that_others_may_write(mixed, table, tmp_path, monkeypatch):
    real = Job.do

    def broken(self, folder, number):
        raise OSError("the disk went away") if number else real(self, folder, number)

    with monkeypatch.context() as patch:
        patch.setattr(Job, "do", lambda self, folder, n: real(self, folder, n) if n == 0 else broken(self, folder, n))
        with pytest.raises(OSError, match="went away"):
            mixed.extract(table, tmp_path / "crops.zarr", shard=4, workers=1)
    [folder] = tmp_path.glob(".crops.zarr.*.partial")
    assert folder.stat().st_mode & 0o777 == 0o700
    shared, digest = SharedFolder(os.fspath(folder)), sha256((folder / "job.pickle").read_bytes()).hexdigest()
    assert run_part(shared, digest, 1) == 4  # as a worker process does
    for k, mode in enumerate((0o777, 0o770, 0o720)):
        folder.chmod(mode)
        with raises(WriteError, path=folder, hint="another directory"):
            run_part(shared, f"{k}", 1)  # else the job that was loaded before is known
    folder.chmod(0o700)
    with raises(WriteError, path=folder, match="replaced"):
        run_part(shared, "another digest", 1)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_lack_of_memory_says_what_is_kept_and_how_to_go_on(mixed, table, tmp_path, monkeypatch, scheduler, workers):
    monkeypatch.setattr(Job, "do", greedy)
    with raises(WorkerError, match=r"no more memory", hint="Run the same call again"):
        mixed.extract(table, tmp_path / "crops.zarr", shard=4, workers=workers, scheduler=scheduler)


def greedy(self, folder, number):
    np.empty(1 << 60, np.uint8)


def test_another_call_does_not_take_up_what_does_not_fit_it(mixed, table, tmp_path, monkeypatch):
    dest = tmp_path / "crops.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(SharedFolder, "publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            mixed.extract(table, dest, shard=4)
    mixed.extract(table, dest, shard=4, channels="b")
    check(dest, mixed, table, channels="b")


def test_what_exists_is_replaced_only_if_asked_and_only_when_complete(mixed, table, tmp_path):
    dest = tmp_path / "crops.zarr"
    mixed.extract(table[:5], dest)
    with raises(ExistsError, path=dest, hint="overwrite=True"):
        mixed.extract(table, dest)
    mixed.extract(table, dest, overwrite=True)
    check(dest, mixed, table)


def test_bad_input_is_refused_before_anything_is_written(mixed, table, tmp_path):
    for error, said, options in (
        (OptionError, {"key": "order"}, {"order": "loc"}),
        (OptionError, {"key": "scheduler", "match": "did you mean 'threads'"}, {"scheduler": "thread"}),
        (OptionError, {"key": "workers"}, {"workers": 0}),
        (OptionError, {"key": "workers"}, {"workers": 2.5}),
        (
            OptionError,
            {"key": "workers", "hint": "Leave it out"},
            {"workers": 3, "scheduler": "tcp://127.0.0.1:8786"},
        ),
        (OptionError, {"key": "shard"}, {"shard": 0}),
        (OptionError, {"key": "shard"}, {"shard": "9"}),
        (OptionError, {"key": "preset"}, {"preset": "fats"}),
        (OptionError, {"key": "sizes"}, {"sizes": "crop"}),
        (TargetError, {"key": "windowdims"}, {"windowdims": 3}),
    ):
        with raises(error, **said):
            mixed.extract(table, tmp_path / "crops.zarr", **options)
    with raises(TargetError, key="targets"):
        mixed.extract(table[:0], tmp_path / "crops.zarr")
    with raises(MissingError, path=tmp_path / "nowhere" / "crops.zarr", hint="Make it first"):
        mixed.extract(table, tmp_path / "nowhere" / "crops.zarr")
    with raises(TargetError, key="channels", match=r"sample 1030 has .*grey"):
        mixed.extract([{"gid": 1}] * 1030 + [{"gid": 4}], tmp_path / "crops.zarr")
    with raises(TargetError, key="gid", match="target 1030: gid=99"):
        mixed.extract([{"gid": 1}] * 1030 + [{"gid": 99}], tmp_path / "crops.zarr")
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_are_numbers(mixed, table, tmp_path):
    check(mixed.extract(table, tmp_path / "crops.zarr", shard=np.int64(9), workers=np.int32(1)), mixed, table)


@pytest.mark.parametrize("scheduler", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_a_full_disk_says_what_is_kept_and_how_to_go_on(mixed, table, tmp_path, scheduler, monkeypatch):
    if scheduler == "processes" and sys.version_info >= (3, 12):
        pytest.skip("forking a process with threads is deprecated")
    dest = tmp_path / "crops.zarr"
    real = ShardedArray.write

    def write(self, root, number, pixels):
        if number == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, root, number, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(ShardedArray, "write", write)
        with raises(WriteError, path=dest, hint="Free some space", match=r"kept in \.crops"):
            mixed.extract(table, dest, shard=4, workers=1, scheduler=scheduler)
    check(mixed.extract(table, dest, shard=4), mixed, table)


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
def test_a_destination_that_may_not_be_written_is_one_line(mixed, table, tmp_path, error, monkeypatch):
    def refused(*_, **__):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    with raises(WriteError, path=tmp_path / "crops.zarr", hint="Check the permissions"):
        mixed.extract(table, tmp_path / "crops.zarr")


def test_what_another_process_extracts_now_is_refused(mixed, table, tmp_path, monkeypatch):
    dest, real = tmp_path / "crops.zarr", Job.do

    def again(self, folder, number):
        monkeypatch.setattr(Job, "do", real)
        with raises(ExistsError, path=dest, hint="Wait for it"):
            mixed.extract(table, dest, shard=9)
        return real(self, folder, number)

    monkeypatch.setattr(Job, "do", again)
    check(mixed.extract(table, dest, shard=9, workers=1), mixed, table)


def test_half_written_parts_of_killed_tasks_are_not_published(mixed, table, tmp_path, monkeypatch):
    dest = tmp_path / "crops.zarr"
    real = Job.do

    def do(self, shared, number):
        left = Path(shared.folder, "parts", ".0.0123.partial", "store", "image")  # as SIGKILL leaves them
        left.mkdir(parents=True, exist_ok=True)
        (left / "zarr.json").write_text("{")
        return real(self, shared, number)

    monkeypatch.setattr(Job, "do", do)
    mixed.extract(table, dest, shard=9)
    check(dest, mixed, table)
    assert not list(dest.rglob("*.partial"))


def test_progress_says_first_how_much_memory_it_takes(mixed, table, tmp_path, capfd):
    mixed.extract(table, tmp_path / "crops.zarr", shard=10, workers=2, progress=True)
    said = capfd.readouterr().err.splitlines()[0]
    assert said.startswith("extracting 40 samples of 3 x 24 x 32 uint8 into 4 shards; memory: 2 workers x ")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "float32"},
        {"nodata": "ma"},
        {"scale": 0.4},
        {"scale": 2.5},
        {"scale": 2.5, "interpolation": "cubic", "dtype": "float64"},
    ],
)
def test_a_task_takes_the_memory_that_is_announced(mixed, tmp_path, monkeypatch, options):
    rng = np.random.default_rng(0)
    places = {"cx": rng.integers(50, 350, 60), "cy": rng.integers(50, 250, 60)}
    table = pandas.DataFrame({"gid": 1, **places, "width": 180, "height": 160})
    mixed.extract(table[:3], tmp_path / "first.zarr", **options)  # so that what is imported and opened is
    shares, real = [], Job.do

    def watched(self, folder, number):
        before = tracemalloc.get_traced_memory()[0]
        done = real(self, folder, number)
        shares.append((tracemalloc.get_traced_memory()[1] - before) / self.layout.task_bytes)
        return done

    monkeypatch.setattr(Job, "do", watched)
    tracemalloc.start()
    try:
        mixed.extract(table, tmp_path / "crops.zarr", shard=60, workers=1, **options)
    finally:
        tracemalloc.stop()
    assert 0.3 < shares[0] < 1.2


@pytest.fixture(scope="module")  # its connections come and go while others count open files
def cluster():
    """A client of two worker processes."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.slow
def test_it_runs_on_a_cluster_and_survives_a_worker_that_is_killed(mixed, table, tmp_path, cluster, monkeypatch):
    dest = tmp_path / "crops.zarr"
    victim = next(iter(cluster.run(os.getpid).values()))
    import ndzarr._batches.jobs as jobs

    real = jobs.run_part
    flag = tmp_path / "killed"

    def deadly(folder, digest, number, real=real, flag=flag, victim=victim):
        if os.getpid() == victim and not flag.exists():
            flag.touch()
            os.kill(victim, signal.SIGKILL)
        return real(folder, digest, number)

    monkeypatch.setattr(jobs, "run_part", deadly)
    mixed.extract(table, dest, shard=2, scheduler=cluster)
    assert flag.exists()
    check(dest, mixed, table)


@pytest.mark.slow
def test_a_cluster_computes_a_lazy_batch(mixed, table, cluster):
    rows = table.assign(label="x")
    found = cluster.compute(mixed.lazy_batch(rows, 8)).result()
    xarray.testing.assert_identical(found, mixed.load_batch(rows))


@pytest.mark.slow
def test_the_address_of_a_scheduler_will_do(mixed, table, tmp_path, cluster):
    dest = mixed.extract(table, tmp_path / "crops.zarr", shard=8, scheduler=cluster.scheduler.address)
    check(dest, mixed, table)


@pytest.mark.slow
@pytest.mark.parametrize("address", ["localhost:abc", "http://127.0.0.1", "tcp://127.0.0.1:1"])
def test_an_address_where_nothing_answers_is_an_error_that_names_it(mixed, table, tmp_path, address):
    distributed = pytest.importorskip("distributed")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        raises(OptionError, key="scheduler", hint="`dask scheduler`", match=address),
    ):
        mixed.extract(table, tmp_path / "crops.zarr", scheduler=address)
    assert not list(tmp_path.iterdir())
    clients = [client for client in gc.get_objects() if type(client) is distributed.Client]
    # The garbage collector would close those that are connecting, and might do that while another one starts.
    assert {client.status for client in clients} <= {"newly-created", "closed", "running"}


@pytest.mark.slow
def test_a_shard_that_kills_every_worker_is_an_error_that_says_so(mixed, table, tmp_path, cluster, monkeypatch):
    import ndzarr._batches.jobs as jobs

    real, caller = jobs.run_part, os.getpid()

    def deadly(folder, digest, number, real=real, caller=caller):
        if number == 2 and os.getpid() != caller:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(folder, digest, number)

    monkeypatch.setattr(jobs, "run_part", deadly)
    monkeypatch.setattr(cluster.cluster.scheduler, "allowed_failures", 1)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "5s"}),  # else who connects to a dead one waits 30 s
        pytest.raises(WorkerError, match=r"died again and again.*what is finished is kept"),
    ):
        mixed.extract(table, tmp_path / "crops.zarr", shard=8, scheduler=cluster)
