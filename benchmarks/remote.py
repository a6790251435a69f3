"""Buckets and web servers: requests, round trips and seconds, beside tensorstore and zarr-python over obstore.

    python -m benchmarks.remote --dir /tmp/remote --out remote.md

A server on the loopback address answers after 50 ms and sends 25 MB/s a connection. It is nginx, which costs little,
where nginx and its module echo are installed (Debian: nginx-light, libnginx-mod-http-echo), and counts are taken from
`tests/helpers/http_server.py`; else that serves. It shares the CPUs with its clients, which real servers do not: where
the CPUs are busy, all clients are slower than they would be. The ideal is one latency and the bytes of the chunks at
the bandwidth of 64 connections. No client is faster than its CPU time divided by the CPUs.
"""

from __future__ import annotations

import importlib.metadata
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import ndzarr
from benchmarks.data import made
from benchmarks.harness import ROOT, Report, Section, Table, options
from benchmarks.photographs import photograph

sys.path.insert(0, str(ROOT / "tests"))
from helpers.http_server import Fault, HttpServer
from helpers.servers import NGINX_ECHO, nginx

LATENCY, BANDWIDTH, INFLIGHT = 0.05, 25e6, 64
SIDE, EDGE = 8192, 256
"""Pixels of an image and of a crop."""
FAULTS = ("503", "reset", "short", "stall", "whole")

Window = dict[str, slice]


def windows(n: int, side: int, seed: int = 0) -> list[Window]:
    """Return random crops."""
    places = np.random.default_rng(seed).integers(0, side - EDGE, (n, 2)).tolist()
    return [{"y": slice(y, y + EDGE), "x": slice(x, x + EDGE)} for y, x in places]


def images(folder: Path, n: int, side: int) -> list[Path]:
    """Return stores of photographs."""

    def make(k: int) -> Callable[[Path], Any]:
        return lambda path: ndzarr.transcode(photograph(side, side, seed=k), path)

    return [made(folder / f"{side}-{k}.zarr", make(k)) for k in range(n)]


@contextmanager
def counted(server: HttpServer, **settings: Any) -> Iterator[dict[str, Any]]:
    """Count requests and bytes, and take the time."""
    server.settings(**{"latency": LATENCY, "bandwidth": BANDWIDTH, **settings})
    found: dict[str, Any] = {}
    begin = time.perf_counter()
    yield found
    found["seconds"] = time.perf_counter() - begin
    counters = server.counters()
    found |= {name: getattr(counters, name) for name in ("requests", "waves", "sent", "faults")}


def opening(server: HttpServer, path: Path) -> Section:
    """Number 1."""
    rows = []
    url = f"{server.url}/{path.name}"
    [window] = windows(1, SIDE)
    for name, work in (
        ("open", lambda: ndzarr.open(url)),
        ("open and read a crop", lambda: ndzarr.open(url).read(**window)),
    ):
        with counted(server, gather=0.01) as found:
            work()
        rows.append([name, str(found["requests"]), str(found["waves"]), f"{found['sent'] / 1e3:.0f} kB"])
    pyramid = ndzarr.open(url)
    pyramid.read(**window)
    with counted(server, gather=0.01) as found:
        pyramid.read(**window)
    rows.append(
        ["another crop of that shard", str(found["requests"]), str(found["waves"]), f"{found['sent'] / 1e3:.0f} kB"]
    )
    return Section("Round trips", Table(["", "requests", "round trips", "bytes"], rows))


def crops(server: HttpServer, base: str, paths: Sequence[Path], n: int, side: int, rounds: int, zarr: str) -> Table:
    """Number 2: crops spread evenly over images, read at once, by several libraries, from the server at `base`."""
    jobs = [(k % len(paths), w) for k, w in enumerate(windows(n, side))]
    local = [ndzarr.open(path) for path in paths]
    needed = sum(
        pyramid.plan([w for k, w in jobs if k == number]).explain().encoded_bytes or 0
        for number, pyramid in enumerate(local)
    )
    ideal = LATENCY + needed / (INFLIGHT * BANDWIDTH)
    expected = [local[k].read(**w) for k, w in jobs[:50]]
    contestants: dict[str, Callable[[list[str]], Callable[[], Any]]] = {
        "ndzarr, just opened": lambda urls: _ndzarr(urls, jobs, warm=False),
        "ndzarr": lambda urls: _ndzarr(urls, jobs, warm=True),
        "tensorstore, futures": lambda urls: _tensorstore(urls, jobs, batch=False),
        "tensorstore, Batch": lambda urls: _tensorstore(urls, jobs, batch=True),
    }
    counts: dict[str, dict[str, Any]] = {}
    for name, prepare in contestants.items():
        work = prepare([f"{server.url}/{path.name}" for path in paths])
        with counted(server) as counts[name]:
            work()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, prepare in contestants.items():
            work = prepare([f"{base}/{path.name}" for path in paths])
            begin = time.perf_counter(), time.process_time()
            got = work()
            taken[name].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
            for a, b in zip(got, expected, strict=False):
                assert np.array_equal(a, b), name
    found = _zarr(zarr, [f"{base}/{path.name}" for path in paths], jobs, rounds)
    assert found["sums"] == [zlib.crc32(crop.tobytes()) for crop in expected]
    name = f"{found['name']}, over obstore"
    taken[name] = found["runs"]
    with counted(server) as counts[name]:
        _zarr(zarr, [f"{server.url}/{path.name}" for path in paths], jobs, 1)
    rows = []
    for name, runs in taken.items():
        seconds, cpu = (median(run[k] for run in runs) for k in (0, 1))
        over, share = f"{counts[name]['sent'] / needed:.2f}", f"{seconds / ideal:.1f}"
        rows.append([name, f"{seconds:.2f} s", share, f"{cpu:.2f} s", str(counts[name]["requests"]), over])
    rows.append(["the ideal", f"{ideal:.2f} s", "1.0", "", "", "1.00"])
    rows.append(["ndzarr, from the local disk", f"{_local(local, jobs):.2f} s", "", "", "", ""])
    title = ["", "time", "of the ideal", "CPU time", "requests", "bytes moved / needed"]
    return Table(title, rows)


@contextmanager
def quick_server(folder: Path, served: Path, slow: HttpServer) -> Iterator[str]:
    """Yield the URL of nginx with the latency and bandwidth, that of the other server where nginx cannot have them."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None or not NGINX_ECHO.exists():
        slow.settings(latency=LATENCY, bandwidth=BANDWIDTH)
        yield slow.url
        return
    folder.mkdir(exist_ok=True)
    with nginx(program, folder, served, LATENCY, BANDWIDTH) as url:
        yield url


def _local(pyramids: Sequence[ndzarr.Pyramid], jobs: Sequence[tuple[int, Window]]) -> float:
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        _read(pyramids, jobs)
        times.append(time.perf_counter() - begin)
    return median(times)


def _read(pyramids: Sequence[ndzarr.Pyramid], jobs: Sequence[tuple[int, Window]]) -> list[np.ndarray[Any, Any]]:
    """Read crops of several images with one plan."""
    from ndzarr._indexing.plan import plan_reads
    from ndzarr._indexing.selection import select
    from ndzarr._store.read import execute

    arrays = [pyramid.levels[0].array for pyramid in pyramids]
    return execute(plan_reads([(arrays[k], select(pyramids[k].dims, arrays[k].shape, w)) for k, w in jobs]))


def _ndzarr(urls: Sequence[str], jobs: Sequence[tuple[int, Window]], warm: bool) -> Callable[[], Any]:
    from ndzarr._store.remote import tables

    tables().clear()
    pyramids = [ndzarr.open(url) for url in urls]
    if warm:
        for pyramid in pyramids:
            pyramid.plan([{}]).explain()  # reads the indexes of its shards
    return lambda: _read(pyramids, jobs)


def _tensorstore(urls: Sequence[str], jobs: Sequence[tuple[int, Window]], batch: bool) -> Callable[[], Any]:
    import tensorstore as ts

    context = ts.Context({"http_request_concurrency": {"limit": INFLIGHT}})
    arrays = []
    for url in urls:
        base, _, path = url.rpartition("/")
        kvstore = {"driver": "http", "base_url": base, "path": f"/{path}/0/image/"}
        arrays.append(ts.open({"driver": "zarr3", "kvstore": kvstore}, context=context, read=True).result())

    def work() -> list[Any]:
        if not batch:
            futures = [arrays[k][:, w["y"], w["x"]].read() for k, w in jobs]
        else:
            with ts.Batch() as together:
                futures = [arrays[k][:, w["y"], w["x"]].read(batch=together) for k, w in jobs]
        return [future.result() for future in futures]

    return work


def _zarr(python: str, urls: Sequence[str], jobs: Sequence[tuple[int, Window]], rounds: int) -> dict[str, Any]:
    """Run `remote_zarr` by another Python; return what it writes."""
    crops = [(k, w["y"].start, w["x"].start, EDGE) for k, w in jobs]
    task = {"urls": [f"{url}/0/image" for url in urls], "jobs": crops, "inflight": INFLIGHT, "rounds": rounds}
    command = [python, str(ROOT / "benchmarks" / "remote_zarr.py")]
    done = subprocess.run(command, input=json.dumps(task) + "\n", text=True, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def training(server: HttpServer, base: str, paths: Sequence[Path], side: int, folder: Path, rounds: int) -> Table:
    """Number 4: a torch loader with two workers, whose reader takes so many milliseconds a batch."""
    import torch

    targets = [{"key": k % len(paths), **w} for k, w in enumerate(windows(1600, side))]
    cache = folder / "chunks"
    torch.set_num_threads(1)
    kinds = {
        "local": (None, 0),
        "remote": (None, 0),
        "remote, prefetch_bytes=256 MiB": (None, 256 << 20),
        "remote, first epoch of a cache": (ndzarr.Remote(cache_dir=cache), 0),
        "remote, second epoch, a new run": (ndzarr.Remote(cache_dir=cache), 0),
    }

    def epoch(name: str, url: str, step: float) -> float:
        sources = [str(path) if name == "local" else f"{url}/{path.name}" for path in paths]
        settings, ahead = kinds[name]
        crops = ndzarr.torch.CropDataset(ndzarr.Sampler(sources, folder / "work", remote=settings), targets)
        return _epoch(ndzarr.torch.loader(crops, 32, workers=2, prefetch_bytes=ahead), step)

    asked = {}
    shutil.rmtree(cache, ignore_errors=True)
    for name in kinds:
        with counted(server) as found:
            epoch(name, server.url, 0)
        asked[name] = found["requests"]
    rows = []
    for step in (0.0, 0.1):
        speeds: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(rounds):
            shutil.rmtree(cache, ignore_errors=True)
            for name in kinds:
                speeds[name].append(epoch(name, base, step))
        local = median(speeds["local"])
        for name, found in speeds.items():
            speed = median(found)
            rows.append(
                [f"{1000 * step:.0f} ms", name, f"{speed:.0f}", f"{100 * speed / local:.0f}%", str(asked[name])]
            )
    return Table(["step", "", "crops/s", "of local", "requests"], rows)


def _epoch(loader: Any, step: float) -> float:
    """Return crops per second from the second batch on; a training step on an accelerator takes so long."""
    number, begin = 0, 0.0
    for batch in loader:
        if begin:
            number += len(batch["image"])
        else:
            begin = time.perf_counter()
        time.sleep(step)
    return number / (time.perf_counter() - begin)


def failing(server: HttpServer, path: Path, rounds: int) -> Table:
    """Number 5: a tenth of the requests fails."""
    local = ndzarr.open(path)
    jobs = windows(500, SIDE)
    expected = local.read_many(jobs)
    rows = []
    base = 0.0
    for kind in ("none", *FAULTS, "all of these"):
        kinds = {"none": (), "all of these": FAULTS}.get(kind, (kind,))
        faults = [Fault(k, share=0.1 / len(kinds)) for k in kinds]
        runs = []
        pyramid = ndzarr.open(f"{server.url}/{path.name}")
        pyramid.read_many(jobs)
        for k in range(rounds):
            with counted(server, faults=faults, seed=k) as found:
                got = pyramid.read_many(jobs)
            assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True)), kind
            runs.append(found)
        seconds = median(run["seconds"] for run in runs)
        base = base or seconds
        rows.append([kind, f"{seconds:.2f} s", f"{seconds / base:.2f}", str(sum(run["faults"] for run in runs))])
    return Table(["10% of the requests", "500 crops", "times as long", "failed"], rows)


def memory(server: HttpServer, path: Path) -> Table:
    """Number 5: the most memory after ever more crops, read 100 at a time."""
    pyramid = ndzarr.open(f"{server.url}/{path.name}")
    server.settings()
    rows = []
    for n in range(100):
        pyramid.read_many(windows(100, SIDE, n))
        if n + 1 in (10, 50, 100):
            rows.append([f"{100 * (n + 1):,}", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"])
    return Table(["crops", "most memory"], rows)


def main() -> None:
    """Run all, print the tables, and put them into a page."""
    args = options(
        "remote",
        __doc__,
        dir=(None, "directory of images; a temporary one by default"),
        out=(None, "page to put the tables into"),
        only=("1,2,4,5", "numbers of the measurements"),
        zarr=(sys.executable, "Python that has the zarr and obstore to compare with"),
        rounds=(3, "turns of each contestant"),
    )
    folder = Path(args.dir or tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    [large] = images(folder, 1, SIDE)
    small = images(folder, 20, 1024)
    used = [f"{name} {importlib.metadata.version(name)}" for name in ("obstore", "tensorstore", "torch")]
    report = Report(f"{args.rounds} rounds, {', '.join(used)}")
    with HttpServer(folder) as server:
        for number in args.only.split(","):
            if number == "1":
                report.add(opening(server, large))
            elif number == "2":
                with quick_server(folder / "nginx", folder, server) as base:
                    table = crops(server, base, [large], 1000, SIDE, args.rounds, args.zarr)
                    report.add(Section("1,000 crops of one image", table))
                    table = crops(server, base, small, 1000, 1024, args.rounds, args.zarr)
                    report.add(Section("1,000 crops of 20 images", table))
            elif number == "4":
                with quick_server(folder / "nginx", folder, server) as base:
                    report.add(Section("Training", training(server, base, small, 1024, folder, args.rounds)))
            elif number == "5":
                report.add(Section("Requests that fail", failing(server, large, args.rounds)))
                report.add(Section("Memory", memory(server, large)))
    report.write("remote", args.out)


if __name__ == "__main__":
    main()
