"""COGs on a web server: crops that nobody has read before, beside rasterio.

`python -m benchmarks.remote_cogs` serves COGs on the loopback address, with a latency of 50 ms and 25 MB/s a connection
(`tests/helpers/http_server.py`).  The server counts requests, bytes and round trips.  It shares the CPUs with its
clients, which real servers do not.  Each run reads from URLs that are new to it: nothing is cached.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tifffile

import ndzarr
from benchmarks.data import made, windows, write_cog
from benchmarks.harness import ROOT, Report, Section, Table, options, workspace
from benchmarks.photographs import photograph

sys.path.insert(0, str(ROOT / "tests"))
from helpers.http_server import Counters, HttpServer

EDGE = 256
NETWORK = {"latency": 0.05, "bandwidth": 25e6}
VSICURL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif",
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_BAND_BLOCK_CACHE": "HASHSET",
    "GDAL_CACHEMAX": 200,
    "VSI_CACHE": True,
    "VSI_CACHE_SIZE": 5_000_000,
}
"""What the documentation of rasterio and GDAL recommends for COGs on web servers; the server speaks HTTP/1.1."""

Job = tuple[int, dict[str, slice]]
"""Scene and window."""


def scenes(folder: Path, number: int, size: int) -> list[Path]:
    """COGs of photographs, as GDAL writes them by default: deflate, tiles of 512 x 512, overviews."""
    image = None
    out = []
    for k in range(number):
        path = folder / f"scene-{size}-{k}.tif"
        if not path.exists():
            image = photograph(size, size) if image is None else image
            pixels = np.roll(image, 97 * k, axis=-1)

            def write(path: Path, pixels: np.ndarray[Any, Any] = pixels) -> None:
                with tempfile.TemporaryDirectory() as work:
                    tifffile.imwrite(Path(work, "a.tif"), pixels.transpose(1, 2, 0), photometric="rgb", tile=(256, 256))
                    write_cog(Path(work, "a.tif"), path)

            made(path, write)
        out.append(path)
    return out


def read_ours(urls: Sequence[str], jobs: Sequence[Job], work: Path) -> list[Any]:
    """A batch of a sampler that begins with nothing but URLs."""
    sampler = ndzarr.Sampler(dict(enumerate(urls)), workdir=work)
    return [*sampler.load_batch([{"key": k, **window} for k, window in jobs])["image"].to_numpy()]


def read_theirs(urls: Sequence[str], jobs: Sequence[Job], threads: int) -> list[Any]:
    """Open each scene once, in one of some threads, and read its crops one after another."""
    import rasterio
    from rasterio.windows import Window

    def read(scene: int) -> list[tuple[int, Any]]:
        mine = [(number, window) for number, (k, window) in enumerate(jobs) if k == scene]
        with rasterio.Env(**VSICURL), rasterio.open(f"/vsicurl/{urls[scene]}") as dataset:
            return [(n, dataset.read(window=Window(w["x"].start, w["y"].start, EDGE, EDGE))) for n, w in mine]

    with ThreadPoolExecutor(threads) as pool:
        parts = [part for some in pool.map(read, sorted({k for k, _ in jobs})) for part in some]
    return [pixels for _, pixels in sorted(parts, key=lambda part: part[0])]


def compare(server: HttpServer, paths: Sequence[Path], jobs: Sequence[Job], rounds: int, threads: int) -> Table:
    """Race ndzarr and rasterio for some crops; pixels must be the same."""
    runs: dict[str, list[tuple[float, Counters]]] = {}

    def take(name: str, read: Callable[[], list[Any]]) -> list[Any]:
        server.settings(**NETWORK)
        began = time.perf_counter()
        found = read()
        runs.setdefault(name, []).append((time.perf_counter() - began, server.counters()))
        return found

    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=server.folder) as fresh:  # names that no cache knows
            for path in paths:
                os.link(path, Path(fresh, path.name))
            urls = [f"{server.url}/{Path(fresh).name}/{path.name}" for path in paths]
            with tempfile.TemporaryDirectory() as work:
                found = take("ndzarr", lambda u=urls, w=work: read_ours(u, jobs, Path(w)))
                take("ndzarr, second run", lambda u=urls, w=work: read_ours(u, jobs, Path(w)))
            expected = take("rasterio", lambda u=urls: read_theirs(u, jobs, 1))
            for mine, theirs in zip(found, expected, strict=True):
                np.testing.assert_array_equal(mine, theirs)
        if len(paths) > 1:
            with tempfile.TemporaryDirectory(dir=server.folder) as fresh:
                for path in paths:
                    os.link(path, Path(fresh, path.name))
                urls = [f"{server.url}/{Path(fresh).name}/{path.name}" for path in paths]
                take(f"rasterio, {threads} threads", lambda u=urls: read_theirs(u, jobs, threads))
    base = median(seconds for seconds, _ in runs["rasterio"])
    rows = []
    for name, mine in runs.items():
        seconds, counters = median(s for s, _ in mine), mine[-1][1]
        counts = str(counters.requests), str(counters.waves), f"{counters.sent / 1e6:.1f}"
        rows.append((name, f"{seconds:.2f} s", f"{base / seconds:.1f}x", *counts))
    return Table(("", "time", "rasterio takes", "requests", "round trips", "MB"), rows)


def cogs(folder: Path, number: int = 20, crops: int = 200, size: int = 2048, rounds: int = 3) -> list[Section]:
    """Number 3."""
    paths = scenes(folder, number, size)
    jobs = [(k % number, window) for k, window in enumerate(windows(size, EDGE, crops))]
    with HttpServer(folder) as server:
        with tempfile.TemporaryDirectory() as work:  # imports, and threads that begin
            read_ours([f"{server.url}/{paths[0].name}"], jobs[:1], Path(work))
        one = compare(server, paths[:1], jobs[:1], rounds, 1)
        many = compare(server, paths, jobs, rounds, 16)
    about = f"COGs of {size} x {size}, deflate, tiles of 512 x 512; crops of {EDGE} x {EDGE}; opening counts."
    return [
        Section("The first crop of a COG", one, notes=[about]),
        Section(f"{crops} crops of {number} COGs", many, notes=["The second run finds the tables of the first."]),
    ]


def main() -> None:
    """Measure, and print tables."""
    args = options(
        "remote_cogs",
        __doc__,
        dir=(None, "directory for the files; a temporary one by default"),
        number=(20, "COGs"),
        crops=(200, "crops"),
        size=(2048, "pixels along each side of a COG"),
        rounds=(3, "runs of each reader"),
    )
    warnings.simplefilter("ignore")  # the images have no place on earth
    report = Report(f"{args.number} COGs, {args.crops} crops")
    with workspace(args.dir) as folder:
        for section in cogs(folder, args.number, args.crops, args.size, args.rounds):
            report.add(section)


if __name__ == "__main__":
    main()
