"""How fast are batches and extractions, beside what people use today?

    python -m benchmarks.bulk --dir /tmp/bulk --out docs/bulk.md

20 photographs of 4096 x 4096 x 3 and 10,000 random crops of 224 x 224, unless other sizes are asked for; the images are
made once per directory.  What is compared takes turns in one run, and ratios are taken within a turn:

1. `load_batch` of 256 beside `load_sample` one by one.
2. A whole job with two workers: `extract`, beside dask with one task per crop, beside ndsampler's uncompressed cache in
   a torch DataLoader (which writes nothing), and beside the floor: decoding each chunk that is touched once and
   encoding each crop once, with nothing else, perfectly shared by two.
4. Large objects, 1024 x 1024 made 224 x 224.
5. Peak memory of extracting ten times as many crops.

The numbers are those of the list of targets; 3, torch loaders, is `benchmarks.loaders`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.bulk_data import EDGE, Images, timed
from benchmarks.race import race
from benchmarks.report import Line, Report, Section, Table, insert, number
from benchmarks.whole_jobs import WORKERS, whole_jobs

BATCH = 256
MARKS = (
    "<!-- numbers: begin; written by python -m benchmarks.bulk --out -->",
    "<!-- numbers: end -->",
)


def batches(images: Images, jobs: int) -> Section:
    """Number 1."""
    table = images.windows(jobs * BATCH)
    near = table.sort_values(["gid", "cy"], kind="stable")
    near = pd.concat([near.iloc[k::jobs] for k in range(jobs)]) if len(near) < 8 * BATCH else near
    sampler = images.sampler

    def rows(of: pd.DataFrame) -> list[list[dict[str, Any]]]:
        return [of[k : k + BATCH].to_dict("records") for k in range(0, len(of), BATCH)]

    random_rows, near_rows = rows(table), rows(near)
    found = race(
        {
            "load_sample": lambda k: [sampler.load_sample(t) for t in random_rows[k]],
            "load_batch": lambda k: sampler.load_batch(random_rows[k]),
            "load_batch, a table": lambda k: sampler.load_batch(table[k * BATCH : (k + 1) * BATCH]),
            "load_sample, neighbours": lambda k: [sampler.load_sample(t) for t in near_rows[k]],
            "load_batch, neighbours": lambda k: sampler.load_batch(near_rows[k]),
        },
        jobs,
    )
    cells = [
        (name, number(BATCH / found.median(name)), number(found.ratio("load_sample", name))) for name in found.names
    ]
    ratio = found.ratio("load_sample", "load_batch, a table")
    local = found.ratio("load_sample, neighbours", "load_batch, neighbours")
    return Section(
        f"1. Batches of {BATCH}",
        Table(("", "crops per second", "times load_sample"), cells),
        [
            Line("1", "load_batch, times load_sample, random crops", ratio, 1.5, at_least=True),
            Line("1", "the same, crops that lie near each other", local, 1.5, at_least=True, aim=True),
        ],
        [f"{jobs} batches of crops at random places, and {jobs} of crops that are neighbours in a locality order."],
    )


def objects(images: Images, n: int) -> Section:
    """Number 4."""
    import cv2

    jobs, per_job = max(2, n // 20), 20
    rows = images.windows(jobs * per_job, edge=1024)
    targets = rows.to_dict("records")
    sized = [{**t, "output_dims": (EDGE, EDGE)} for t in targets]
    cached, bare = images.peer("npy"), images.peer(None)

    def peer(sampler: Any, some: list[dict[str, Any]]) -> list[Any]:
        return [cv2.resize(np.asarray(sampler.load_sample(t)["im"]), (EDGE, EDGE), interpolation=cv2.INTER_AREA)
                for t in some]  # fmt: skip

    def mine(k: int) -> list[dict[str, Any]]:
        return sized[k * per_job : (k + 1) * per_job]

    found = race(
        {
            "load_batch": lambda k: images.sampler.load_batch(mine(k)),
            "load_sample": lambda k: [images.sampler.load_sample(t) for t in mine(k)],
            "ndsampler npy": lambda k: peer(cached, targets[k * per_job : (k + 1) * per_job]),
        },
        jobs,
        rounds=2,
    )
    uncached = median(timed(lambda k=k: peer(bare, targets[k : k + 1])) for k in range(8))
    seconds = {name: found.median(name) / per_job for name in found.names} | {"ndsampler, no cache": uncached}
    cells = [(name, f"{s * 1e3:.2f}", number(s / seconds["load_batch"])) for name, s in seconds.items()]
    return Section(
        f"4. {jobs * per_job} objects of 1024 x 1024 made {EDGE} x {EDGE}",
        Table(("", "ms per object", "times load_batch"), cells),
        [
            Line("4", "ndsampler without cache, times ours", uncached / seconds["load_batch"], 20, True),
            Line("4", "ndsampler npy, times ours", found.ratio("ndsampler npy", "load_batch"), 2, True),
        ],
        ["ndsampler returns 1024 x 1024, which cv2.resize (INTER_AREA) reduces; without cache, 8 objects were read."],
    )


def memory(images: Images, n: int, edge: int) -> Section:
    """Number 5."""
    found = {}
    for count in (n, 10 * n):
        command = [sys.executable, "-m", "benchmarks.bulk", "--child", str(count), "--edge", str(edge), "--dir",
                   str(images.folder.parent), "--images", str(images.number), "--side", str(images.side)]  # fmt: skip
        found[count] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    cells = [(str(c), *[f"{f[k] / 2**20:.0f}" for k in ("anonymous", "resident")]) for c, f in found.items()]
    ratio = found[10 * n]["resident"] / found[n]["resident"]
    return Section(
        "5. Memory",
        Table((f"crops of {edge} x {edge}", "peak, MiB, without mapped files", "peak resident, MiB"), cells),
        [Line("5", f"peak of {10 * n} crops, times that of {n}", ratio, 1.2)],
        [f"extract with {WORKERS} threads in a process of its own, from the first two images."],
    )


def child(images: Images, n: int, edge: int) -> None:
    """Extract, and say how much memory that took."""
    table = images.windows(n, edge=edge, images=min(2, images.number))
    peak = whole = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal peak, whole
        while not over.wait(0.02):
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            peak = max(peak, int(status["RssAnon"].split()[0]) << 10)
            whole = int(status["VmHWM"].split()[0]) << 10  # ru_maxrss is that of the parent, if that is more

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory(dir=images.folder) as folder:
        images.sampler.extract(table, Path(folder) / "out.zarr", order="locality", workers=WORKERS)
    over.set()
    watcher.join()
    print(json.dumps({"anonymous": peak, "resident": whole}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()) / "ndzarr-bulk", help="of the images")
    parser.add_argument("--out", type=Path, help="Markdown page to write the tables into")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--crops", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3, help="of whole jobs")
    parser.add_argument("--edge", type=int, default=64, help="of the crops of number 5")
    parser.add_argument("--only", default="1245", help="which numbers")
    parser.add_argument("--objects", type=int, default=1000, help="of number 4")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    images = Images(args.dir, args.images, args.side)
    if args.child:
        return child(images, args.child, args.edge)
    images.make()
    report = Report(f"{args.images} images of {args.side} x {args.side} x 3, {args.crops} crops of {EDGE} x {EDGE}")
    with tempfile.TemporaryDirectory(dir=args.dir) as scratch:
        report.sections += sections(images, args, Path(scratch))
    print(report.markdown())
    if args.out:
        insert(args.out, report.markdown(), *MARKS)
    return None


def sections(images: Images, args: argparse.Namespace, scratch: Path) -> Iterator[Section]:
    """What was asked for, one after the other."""
    todo: dict[str, Callable[[], Section]] = {
        "1": lambda: batches(images, max(2, min(12, args.crops // BATCH))),
        "2": lambda: whole_jobs(images, args.crops, args.rounds, scratch),
        "4": lambda: objects(images, args.objects),
        "5": lambda: memory(images, args.crops, args.edge),
    }
    for name, work in todo.items():
        if name in args.only:
            start = time.perf_counter()
            yield work()
            print(f"number {name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
