"""How many crops a second does a whole job extract, beside dask, beside ndsampler, and beside the floor?"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.bulk_data import EDGE, Images, timed
from benchmarks.report import Line, Section, Table, number

WORKERS = 2
PEER, NAIVE = "ndsampler npy, DataLoader (reads only)", "dask, one task per crop"


class PeerCrops:
    """What a torch user of ndsampler writes."""

    def __init__(self, images: Images, rows: list[dict[str, Any]]) -> None:
        self.sampler, self.rows = images.peer("npy"), rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k: int) -> Any:
        import torch

        return torch.from_numpy(np.array(self.sampler.load_sample(self.rows[k])["im"]))


def whole_jobs(images: Images, n: int, rounds: int, scratch: Path) -> Section:
    """Number 2."""
    from torch.utils.data import DataLoader

    table = images.windows(n)
    naive = table[: max(100, n // 25)]
    loader: Any = DataLoader(PeerCrops(images, table.to_dict("records")), batch_size=64, num_workers=WORKERS)  # type: ignore[arg-type]
    contestants: dict[str, tuple[int, Callable[[], Any]]] = {
        f"extract, {order}, {WORKERS} {kind}": (n, lambda order=order, kind=kind: images.sampler.extract(
            table, scratch / "out.zarr", order=order, scheduler=kind, workers=WORKERS))
        for order, kind in (("locality", "threads"), ("locality", "processes"), ("input", "processes"))
    }  # fmt: skip
    contestants[PEER] = n, lambda: [None for _ in loader]
    contestants[NAIVE] = len(naive), lambda: one_task_per_crop(images, naive, scratch)
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    floors = []
    for turn in range(rounds):
        order = list(contestants) if turn % 2 == 0 else list(contestants)[::-1]
        for name in order:
            size, work = contestants[name]
            shutil.rmtree(scratch / "out.zarr", ignore_errors=True)  # no part of the job
            rates[name].append(size / timed(work))
            if "extract" in name:
                floors.append(n / floor(images, table))
    best = max((name for name in rates if "locality" in name), key=lambda name: median(rates[name]))
    speed, limit = {name: median(values) for name, values in rates.items()}, median(floors)
    cells = [(name, number(rate), number(rate / limit)) for name, rate in speed.items()]
    cells.append(("floor: decode and encode alone, two threads", number(limit), "1"))
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


def one_task_per_crop(images: Images, table: pd.DataFrame, scratch: Path) -> None:
    """The way that comes to mind first."""
    import dask
    import dask.array as da

    arrays = [da.from_zarr(store, component="0/image") for store in images.stores]
    half = EDGE // 2
    crops = []
    for row in table.itertuples():
        part = arrays[row.gid - 1][:, row.cy - half : row.cy + half, row.cx - half : row.cx + half]
        crops.append(da.from_delayed(dask.delayed(np.asarray)(part), part.shape, part.dtype))
    with dask.config.set(scheduler="threads", num_workers=WORKERS):
        shutil.rmtree(scratch / "naive.zarr", ignore_errors=True)
        da.stack(crops).to_zarr(str(scratch / "naive.zarr"))


def floor(images: Images, table: pd.DataFrame, share: int = 1000) -> float:
    """
    Seconds that it takes to decode each chunk once and encode each crop once, by two who share that perfectly.

    Both measure a share of it at the same time, in processes of their own.
    """
    from ndzarr._batches.extract_store import Taken, layout
    from ndzarr._batches.form import Form

    plan: Any = images.sampler.plan(table.to_dict("records"))
    pixels = images.sampler.load_batch(table[:share], with_annots=False).image.values
    form = Form(("c", "y", "x"), pixels.shape[1:], pixels.dtype, None)
    codec = layout(len(table), form, None, "fast", None, Taken()).image.codec

    def alone(_: int) -> tuple[float, float]:
        chosen = plan.reads[:: max(1, len(plan.reads) // (4 * share))]
        scratch = plan.arrays[0].codec.scratch()
        decoding = timed(lambda: [plan.arrays[a].decode(chunk, scratch) for a, chunk, _ in chosen])
        encoding = timed(lambda: [codec.encode(crop[None]) for crop in pixels])
        return decoding / len(chosen), encoding / len(pixels)

    found = forked(alone, WORKERS)
    decoding, encoding = (sum(f[k] for f in found) / len(found) for k in (0, 1))
    return (decoding * len(plan.reads) + encoding * len(table)) / WORKERS


def forked(work: Callable[[int], Any], n: int) -> list[Any]:
    """What a function returns in each of n processes at a time."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    processes = [context.Process(target=lambda k=k: queue.put(work(k))) for k in range(n)]
    for process in processes:
        process.start()
    found = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    return found
