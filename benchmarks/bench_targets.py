"""Choosing a million windows, balancing, splitting and measuring them.

`python -m benchmarks.bench_targets` prints a table, with ndsampler's own functions beside it where it is installed (on
a part of the data, since they take long); asv runs the classes. `--only statistics` is what statistics cost.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ndzarr
from benchmarks.data import Cached, Data, coco
from benchmarks.harness import chosen, options, timed, workspace

EDGE, WINDOW = 4096, 128
"""Pixels of an image, and of a window: 1024 windows an image."""
MILLION = 1_000_000 // (EDGE // WINDOW) ** 2 + 1
"""Images for a million windows."""


def chooser(images: int, annotations: int, frames: int = 0) -> Any:
    """`.targets` of boxes in clusters, with its table of annotations and its tree made."""
    rng = np.random.default_rng(0)
    gids = np.sort(rng.integers(1, images + 1, annotations))
    middles = rng.uniform(0, EDGE, (images + 1, 12, 2))[gids, rng.integers(0, 12, annotations)]
    sizes = rng.uniform(4, 60, (annotations, 2))
    corners = np.clip(middles + rng.normal(0, 300, (annotations, 2)), 0, EDGE - sizes)
    boxes = np.concatenate([corners, sizes], axis=1).round(1).tolist()
    names = [f"{k}.png" for k in range(images)]
    sampler = ndzarr.CocoSampler(coco(names, EDGE, gids.tolist(), boxes, frames), "unused")
    len(sampler.targets.annotations)
    return sampler.targets


def dated(videos: int = 50, frames: int = 40) -> ndzarr.CocoSampler:
    """A sampler of dated videos of two sensors, without pixels."""
    content = coco([f"{k}.png" for k in range(videos * frames)], 2048, frames=frames)
    for k, image in enumerate(content["images"]):
        day = np.datetime64("2020-01-01") + np.timedelta64(16 * (k % frames), "D")
        image |= {"date_captured": str(day), "sensor_coarse": "S2" if k % 2 else "L8"}
    return ndzarr.CocoSampler(content, "unused")


def table(rows: int = 1_000_000, images: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Windows with labels of very different frequency."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"gid": rng.integers(1, images + 1, rows), "cx": rng.uniform(64, 1984, rows), "cy": rng.uniform(64, 1984, rows),
         "width": 128, "height": 128, "kind": rng.choice(list("abcdef"), rows, p=[0.9, 0.05, 0.02, 0.01, 0.01, 0.01])}
    )  # fmt: skip


class Once:
    """Long calls: three of each."""

    timeout = 600
    number, repeat, warmup_time = 1, 3, 0


class Grid(Once):
    """A million windows with what they hold."""

    params = (10_000, 100_000, 1_000_000)
    param_names = ("annotations",)

    def setup(self, annotations: int) -> None:
        self.targets = chooser(MILLION, annotations)
        self.targets.grid((WINDOW, WINDOW))

    def time_grid(self, _: int) -> None:
        self.targets.grid((WINDOW, WINDOW))

    peakmem_grid = time_grid

    def time_grid_and_tree(self, _: int) -> None:
        """The same overlaps for any windows, through the tree."""
        self.targets.overlaps(self.targets.grid((WINDOW, WINDOW)))


class Choice(Once):
    """Windows around, over and beside annotations."""

    def setup(self) -> None:
        self.targets = chooser(1000, 100_000)
        self.targets.positives((WINDOW, WINDOW))

    def time_positives(self) -> None:
        self.targets.positives((WINDOW, WINDOW), jitter=0.5)

    def time_cover(self) -> None:
        self.targets.positives((512, 512), cover=True)

    def time_negatives(self) -> None:
        self.targets.negatives(100_000, (WINDOW, WINDOW))

    def time_negatives_like_annotations(self) -> None:
        self.targets.negatives(100_000)


class Tables(Once):
    """What is done with a table of a million windows."""

    def setup(self) -> None:
        self.table, self.targets = table(), dated().targets

    def time_probabilities(self) -> None:
        self.targets.balanced(self.table, by=["kind", "image.sensor_coarse"])

    def time_draw(self) -> None:
        self.targets.balanced(self.table, by="kind", n=len(self.table) // 10)

    def time_split_by_video(self) -> None:
        self.targets.split(self.table, stratify="kind")

    def time_split_in_space(self) -> None:
        self.targets.split(self.table, by="space", block=512, stratify="kind")

    def time_kernel(self) -> None:
        self.targets.times(self.table, kernel="-1y,-2w,0,2w,1y", progress=False)


def stores(folder: Path) -> list[Path]:
    """Two photographs, transcoded."""
    return [Data.within(folder, EDGE, seed).pyramid() for seed in (1, 2)]


def photographs(folder: Path) -> ndzarr.CocoSampler:
    """A sampler of them."""
    return ndzarr.CocoSampler(coco(stores(folder), EDGE), folder)


def read_all(folder: Path, level: int) -> None:
    """Every pixel of a level, by tiles."""
    for pyramid in map(ndzarr.open, stores(folder)):
        height, width = pyramid.levels[level].shape[-2:]
        for y in range(0, height, 1024):
            for x in range(0, width, 1024):
                pyramid.read(level, y=slice(y, y + 1024), x=slice(x, x + 1024))


class Statistics(Once, Cached):
    """Whole photographs, at several levels, beside reading alone."""

    params = (0, 1, 2, 3)
    param_names = ("level",)

    def setup(self, folder: Path, level: int) -> None:
        self.folder, self.level = folder / "statistics", level
        self.sampler = photographs(self.folder)

    def time_statistics(self, *_: Any) -> None:
        self.sampler.targets.statistics(level=self.level, progress=False)

    def time_reading(self, *_: Any) -> None:
        read_all(self.folder, self.level)


def measured(what: str, work: Callable[[], Any], repeat: int = 3) -> None:
    """Print the median time of some work, and how many rows it returned."""
    rows: list[int] = []
    seconds = timed(lambda: rows.append(len(work())), repeat)
    print(f"{what:64s} {seconds:8.2f} s  {rows[-1]:>9,} rows")


def grid(boxes: int) -> None:
    """A million windows."""
    targets = chooser(MILLION, boxes)
    before = peak()
    measured(f"grid, {boxes:,} annotations", lambda: targets.grid((WINDOW, WINDOW)))
    print(f"{'    peak memory above the dataset':64s} {peak() - before:8.0f} MB")
    windows = targets.grid((WINDOW, WINDOW))
    measured("    the same overlaps through the tree", lambda: targets.overlaps(windows), 1)
    print(f"{'    peak memory above the dataset':64s} {peak() - before:8.0f} MB")


def peak() -> float:
    """Largest resident size of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def videos() -> None:
    """A million windows of 4 frames."""
    targets = chooser(MILLION, 100_000, frames=50)
    how = {"space": "video", "time_dims": 4, "time_overlap": 3}
    measured("grid of videos, 100,000 annotations", lambda: targets.grid((WINDOW, WINDOW), **how))


def choices() -> None:
    """Windows around, over and beside annotations."""
    for images, boxes in ((1000, 100_000), (10_000, 1_000_000), (1, 10_000)):
        targets = chooser(images, boxes)
        print(f"{images:,} images, {boxes:,} annotations")
        measured("    positives", partial(targets.positives, (WINDOW, WINDOW), jitter=0.5), 1)
        measured("    positives, cover=True, 512 x 512", partial(targets.positives, (512, 512), cover=True), 1)
        measured("    negatives", partial(targets.negatives, boxes, (WINDOW, WINDOW)), 1)
        measured("    negatives like annotations", partial(targets.negatives, boxes), 1)


def ndsampler() -> None:
    """What ndsampler takes for a fiftieth of the grid, and how many windows its selection needs."""
    from ndsampler import coco_regions as peer

    targets = chooser(MILLION // 50, 2_000)
    dset, size = targets.sampler.dset, (WINDOW, WINDOW)
    measured("a fiftieth of the grid, 2,000 annotations", lambda: targets.grid(size))
    measured("    ndsampler's new_image_sample_grid",
             lambda: peer.new_image_sample_grid(dset, size, verbose=0)["targets"], 1)  # fmt: skip
    measured("cover=True, 512 x 512", lambda: targets.positives((512, 512), cover=True))
    tabular = peer.tabular_coco_targets(dset)
    measured("    ndsampler's select_positive_regions (leaves annotations out)",
             lambda: peer.select_positive_regions(tabular, (512, 512), rng=0, verbose=0), 1)  # fmt: skip


def statistics() -> None:
    """Statistics beside reading alone and how far off they are; work on a table of a million windows."""
    with workspace(None) as folder:
        sampler = photographs(folder)
        whole = sampler.targets.statistics(progress=False)
        for level in Statistics.params:
            found = sampler.targets.statistics(level=level, progress=False)
            spent = timed(lambda k=level: sampler.targets.statistics(level=k, progress=False), 3)  # type: ignore[misc]
            alone = timed(lambda k=level: read_all(folder, k), 3)  # type: ignore[misc]
            std, native = (np.abs(s / whole.std - 1).max() for s in (found.std, found.std_native))
            off = np.abs(found.mean - whole.mean).max()
            print(f"statistics, level {level} {spent:8.3f} s  reading alone {alone:.3f} s; mean off by {off:.3f}, "
                  f"std by {std:.1%}, std_native by {native:.1%}")  # fmt: skip
        spent = timed(lambda: sampler.targets.statistics(sample=50, progress=False), 3)
        found = sampler.targets.statistics(sample=50, progress=False)
        off = np.abs(found.mean - whole.mean).max()
        print(f"statistics, 50 tiles {spent:8.3f} s  mean off by {off:.2f}, stated {found.mean_error.max():.2f}")
        rows = table(images=2)
        print(f"valid_fraction of 1M {timed(lambda: sampler.targets.valid_fraction(rows), 3):8.3f} s")
    tables = Tables()
    tables.setup()
    for name in (name for name in dir(tables) if name.startswith("time_")):
        print(f"{name[5:]} of 1M {timed(getattr(tables, name), 3):8.3f} s")


PARTS: dict[str, Callable[[], None]] = {
    **{f"grid-{n}": partial(grid, n) for n in Grid.params},
    "videos": videos,
    "choices": choices,
    "ndsampler": ndsampler,
    "statistics": statistics,
}


def main() -> None:
    """Each part in a process of its own, for the sake of peak memory."""
    parts = chosen(options("bench_targets", __doc__, only=(",".join(PARTS), "some of the parts")).only, PARTS)
    if len(parts) == 1:
        warnings.simplefilter("ignore")
        PARTS[parts[0]]()
        return
    for name in parts:
        subprocess.run([sys.executable, "-m", "benchmarks.bench_targets", "--only", name])


if __name__ == "__main__":
    main()
