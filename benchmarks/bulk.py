"""Batches and extractions beside what people use today.

    python -m benchmarks.bulk --dir /tmp/bulk --out docs/bulk.md

20 photographs of 4096 x 4096 x 3 as PNG files and 10,000 random crops of 224 x 224, unless other sizes are asked for.
What is compared takes turns in one run:

1. `load_batch` of 256 beside `load_sample` one by one.
2. A whole job with two workers: `extract`, beside dask with one task per crop, beside ndsampler's uncompressed cache in
   a torch DataLoader (which writes nothing), and beside the floor: decoding each chunk that is touched once and
   encoding each crop once, with nothing else, perfectly shared by two.
4. Large objects, 1024 x 1024 made 224 x 224.
5. Peak memory of extracting ten times as many crops.

The numbers are those of the list of targets; 3, torch loaders, is `benchmarks.loaders`.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from collections.abc import Callable
from functools import cached_property
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

import ndzarr
from benchmarks.data import Data, coco, random_boxes
from benchmarks.harness import Line, Report, Section, Table, chosen, fresh, number, options, race, spend, timed
from benchmarks.layouts.codecs import FAST
from benchmarks.readers import BareLoop, ndsampler_peer

EDGE, BATCH, WORKERS = 224, 256, 2


class Images:
    """Photographs as PNG files, their dataset with 50 boxes per image, and samplers of it."""

    def __init__(self, folder: Path, number: int, side: int) -> None:
        self.folder, self.side = folder / f"{number}x{side}", side
        self.data = [Data.within(self.folder, side, seed) for seed in range(number)]

    @cached_property
    def coco(self) -> dict[str, Any]:
        """The dataset of PNG files."""
        return self._coco([d.png for d in self.data])

    def _coco(self, files: list[Path]) -> dict[str, Any]:
        n = 50 * len(files)
        gids = [1 + i % len(files) for i in range(n)]
        return coco(files, self.side, gids, random_boxes(n, self.side, 5, 90))

    @cached_property
    def sampler(self) -> ndzarr.CocoSampler:
        """Ours, of the same images transcoded."""
        return ndzarr.CocoSampler(self._coco([d.pyramid() for d in self.data]), self.folder)

    def peer(self, backend: str | None) -> Any:
        """The sampler of ndsampler."""
        return ndsampler_peer(self.coco, self.folder / "ndsampler", backend)

    def windows(self, n: int, edge: int = EDGE, images: int | None = None) -> pd.DataFrame:
        """Random windows within the images."""
        rng = np.random.default_rng(1)
        low, high = edge // 2, self.side - edge // 2
        return pd.DataFrame(
            {"gid": rng.integers(1, (images or len(self.data)) + 1, n), "cx": rng.integers(low, high, n),
             "cy": rng.integers(low, high, n), "width": edge, "height": edge}
        )  # fmt: skip


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
    cells = [(n, number(BATCH / found.median(n)), number(found.ratio("load_sample", n))) for n in found.names]
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


PEER, NAIVE = "ndsampler npy, DataLoader (reads only)", "dask, one task per crop"


def peer_loader(images: Images, rows: list[dict[str, Any]]) -> Any:
    """What a torch user of ndsampler writes."""
    import torch
    from torch.utils.data import DataLoader

    sampler = images.peer("npy")

    class Crops(torch.utils.data.Dataset):  # type: ignore[misc,type-arg]
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, k: int) -> Any:
            return torch.from_numpy(np.array(sampler.load_sample(rows[k])["im"]))

    return DataLoader(Crops(), batch_size=64, num_workers=WORKERS)


def whole_jobs(images: Images, n: int, rounds: int) -> Section:
    """Number 2."""
    table = images.windows(n)
    naive = table[: max(100, n // 25)]
    loader = peer_loader(images, table.to_dict("records"))
    with tempfile.TemporaryDirectory(dir=images.folder) as folder:
        out = Path(folder) / "out.zarr"
        contestants: dict[str, tuple[int, Callable[[], Any]]] = {
            f"extract, {order}, {WORKERS} {kind}": (n, lambda order=order, kind=kind: images.sampler.extract(
                table, out, order=order, scheduler=kind, workers=WORKERS))
            for order, kind in (("locality", "threads"), ("locality", "processes"), ("input", "processes"))
        }  # fmt: skip
        contestants[PEER] = n, lambda: [None for _ in loader]
        contestants[NAIVE] = len(naive), lambda: one_task_per_crop(images, naive, out)
        rates: dict[str, list[float]] = {name: [] for name in contestants}
        floors = []
        for turn in range(rounds):
            for name in list(contestants)[:: 1 if turn % 2 == 0 else -1]:
                size, work = contestants[name]
                shutil.rmtree(out, ignore_errors=True)  # not a part of the job
                rates[name].append(size / timed(work))
                if "extract" in name:
                    floors.append(n / floor(images, table))
    best = max((name for name in rates if "locality" in name), key=lambda name: median(rates[name]))
    speed, limit = {name: median(values) for name, values in rates.items()}, median(floors)
    cells = [(name, number(rate), number(rate / limit)) for name, rate in speed.items()]
    cells.append(("floor: decode and encode alone, two processes", number(limit), "1"))
    return Section(
        f"2. A whole job of {n} crops",
        Table(("", "crops per second", "of the floor"), cells),
        [
            Line("2", "extract, times dask with a task per crop", speed[best] / speed[NAIVE], 10, True),
            Line("2", "extract, times ndsampler npy", speed[best] / speed[PEER], 1, True),
            Line("2", "extract, part of the floor", speed[best] / limit, 0.7, True),
        ],
        [
            f"Two workers each; median of {rounds} turns. The fastest extraction counts ({best}). dask did {len(naive)}"
            " of the crops: da.from_zarr per image, a slice and a delayed function per crop, stacked and written by "
            "to_zarr. ndsampler's loader reads crops into batches and writes nothing."
        ],
    )


def one_task_per_crop(images: Images, table: pd.DataFrame, out: Path) -> None:
    """The way that comes to mind first."""
    import dask
    import dask.array as da

    arrays = [da.from_zarr(str(d.pyramid()), component="0/image") for d in images.data]
    half = EDGE // 2
    crops = []
    for row in table.itertuples():
        part = arrays[row.gid - 1][:, row.cy - half : row.cy + half, row.cx - half : row.cx + half]
        crops.append(da.from_delayed(dask.delayed(np.asarray)(part), part.shape, part.dtype))
    with dask.config.set(scheduler="threads", num_workers=WORKERS):
        da.stack(crops).to_zarr(str(out))


def floor(images: Images, table: pd.DataFrame, share: int = 1000) -> float:
    """
    Seconds to decode each chunk once and encode each crop once, by two processes that share that perfectly.

    Both measure a share of it at the same time.
    """
    wanted = images.sampler.plan(table.to_dict("records")).explain().chunks
    pixels = images.sampler.load_batch(table[:share], with_annots=False).image.values
    loop = BareLoop(images.data[0].pyramid())
    grid = list(product(range(images.side // loop.chunk), repeat=2))

    def alone(queue: Any) -> None:
        decoding = timed(lambda: [loop.decode(i, j) for i, j in grid]) / len(grid)
        queue.put((decoding, timed(lambda: [FAST.encode(crop) for crop in pixels]) / len(pixels)))

    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    processes = [context.Process(target=alone, args=(queue,)) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    found = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    decoding, encoding = np.mean(found, axis=0)
    return float(decoding * wanted + encoding * len(table)) / WORKERS


def objects(images: Images, n: int) -> Section:
    """Number 4."""
    import cv2

    jobs, per_job = max(2, n // 20), 20
    targets = images.windows(jobs * per_job, edge=1024).to_dict("records")
    sized = [{**t, "output_dims": (EDGE, EDGE)} for t in targets]
    cached, bare, sampler = images.peer("npy"), images.peer(None), images.sampler

    def peer(theirs: Any, some: list[dict[str, Any]]) -> list[Any]:
        full = [np.asarray(theirs.load_sample(t)["im"]) for t in some]
        return [cv2.resize(image, (EDGE, EDGE), interpolation=cv2.INTER_AREA) for image in full]

    found = race(
        {
            "load_batch": lambda k: sampler.load_batch(sized[k * per_job : (k + 1) * per_job]),
            "load_sample": lambda k: [sampler.load_sample(t) for t in sized[k * per_job : (k + 1) * per_job]],
            "ndsampler npy": lambda k: peer(cached, targets[k * per_job : (k + 1) * per_job]),
        },
        jobs,
        rounds=2,
    )
    seconds = {name: found.median(name) / per_job for name in found.names}
    seconds["ndsampler, no cache"] = median(timed(lambda k=k: peer(bare, targets[k : k + 1])) for k in range(8))  # type: ignore[misc]
    ours = seconds["load_batch"]
    return Section(
        f"4. {jobs * per_job} objects of 1024 x 1024 made {EDGE} x {EDGE}",
        Table(("", "ms per object", "times load_batch"), [
            (name, f"{s * 1e3:.2f}", number(s / ours)) for name, s in seconds.items()
        ]),
        [
            Line("4", "ndsampler without cache, times ours", seconds["ndsampler, no cache"] / ours, 20, True),
            Line("4", "ndsampler npy, times ours", found.ratio("ndsampler npy", "load_batch"), 2, True),
        ],
        ["ndsampler returns 1024 x 1024, which cv2.resize (INTER_AREA) reduces; without cache, 8 objects were read."],
    )  # fmt: skip


def memory(images: Images, n: int, edge: int) -> Section:
    """Number 5."""
    images.sampler  # noqa: B018 - transcoded before memory is measured
    found = {}
    for count in (n, 10 * n):
        call = f"extracted({str(images.folder.parent)!r}, {len(images.data)}, {images.side}, {count}, {edge})"
        found[count] = fresh(f"import json; from benchmarks.bulk import extracted; print(json.dumps({call}))")
    ratio = found[10 * n]["resident"] / found[n]["resident"]
    return Section(
        "5. Memory",
        Table((f"crops of {edge} x {edge}", "peak, MiB, without mapped files", "peak resident, MiB"), [
            (str(c), f"{f['anonymous']:.0f}", f"{f['resident']:.0f}") for c, f in found.items()
        ]),
        [Line("5", f"peak of {10 * n} crops, times that of {n}", ratio, 1.2)],
        [f"extract with {WORKERS} threads in a process of its own, from the first two images."],
    )  # fmt: skip


def extracted(folder: str, number: int, side: int, n: int, edge: int) -> dict[str, float]:
    """Extract in this process, and say how much memory that took."""
    images = Images(Path(folder), number, side)
    table = images.windows(n, edge, min(2, number))
    with tempfile.TemporaryDirectory(dir=folder) as out:
        return spend(lambda: images.sampler.extract(table, Path(out) / "out.zarr", order="locality", workers=WORKERS))


def main() -> None:
    """Run what is asked for."""
    args = options(
        "bulk", __doc__,
        dir=(Path(tempfile.gettempdir()) / "ndzarr-bulk", "of the images"),
        out=(None, "Markdown page to put the tables into"),
        images=(20, "photographs"),
        side=(4096, "their pixels"),
        crops=(10_000, "of numbers 1, 2 and 5"),
        rounds=(3, "of whole jobs"),
        edge=(64, "of the crops of number 5"),
        objects=(1000, "of number 4"),
        only=("1,2,4,5", "which numbers"),
    )  # fmt: skip
    images = Images(args.dir, args.images, args.side)
    report = Report(f"{args.images} images of {args.side} x {args.side} x 3, {args.crops} crops of {EDGE} x {EDGE}")
    todo: dict[str, Callable[[], Section]] = {
        "1": lambda: batches(images, max(2, min(12, args.crops // BATCH))),
        "2": lambda: whole_jobs(images, args.crops, args.rounds),
        "4": lambda: objects(images, args.objects),
        "5": lambda: memory(images, args.crops, args.edge),
    }
    for name in chosen(args.only, todo):
        report.add(todo[name]())
    report.write("bulk", args.out)


if __name__ == "__main__":
    main()
