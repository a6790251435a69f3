"""What does it cost to choose a million windows?

`python -m benchmarks.bench_targets` prints a table, with ndsampler's own functions beside it where it is installed (on
a part of the data, since they take long); asv runs the classes.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import ndzarr
from ndzarr.targets.accessor import Targets

EDGE, WINDOW = 4096, 128
"""Pixels of an image, and of a window: 1024 windows an image."""

MILLION = 1_000_000 // (EDGE // WINDOW) ** 2 + 1
"""Images for a million windows."""


def dictionaries(images: int, annotations: int, frames: int = 0, seed: int = 0) -> dict[str, Any]:
    """A kwcoco dataset of boxes in clusters; in videos of so many frames, if any."""
    rng = np.random.default_rng(seed)
    gids = np.sort(rng.integers(1, images + 1, annotations))
    middles = rng.uniform(0, EDGE, (images + 1, 12, 2))[gids, rng.integers(0, 12, annotations)]
    sizes = rng.uniform(4, 60, (annotations, 2))
    corners = np.clip(middles + rng.normal(0, 300, (annotations, 2)), 0, EDGE - sizes)
    boxes = np.concatenate([corners, sizes], axis=1).round(1).tolist()
    content = {
        "images": [{"id": g, "file_name": f"{g}.png", "width": EDGE, "height": EDGE} for g in range(1, images + 1)],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, 10)],
        "annotations": [
            {"id": k + 1, "image_id": gid, "category_id": 1 + k % 9, "bbox": box}
            for k, (gid, box) in enumerate(zip(gids.tolist(), boxes, strict=True))
        ],
    }
    if frames:
        for k, image in enumerate(content["images"]):
            image |= {"video_id": 1 + k // frames, "frame_index": k % frames}
        videos = range(1, 2 + (images - 1) // frames)
        content["videos"] = [{"id": v, "name": f"v{v}", "width": EDGE, "height": EDGE} for v in videos]
    return content


def chooser(images: int, annotations: int, frames: int = 0) -> Targets:
    """What chooses windows, with its table of annotations made."""
    targets = ndzarr.CocoSampler(dictionaries(images, annotations, frames), "unused").targets
    len(targets.source.annotations)
    return targets


class Grid:
    """A million windows with what they hold."""

    params = (10_000, 100_000, 1_000_000)
    param_names = ("annotations",)
    timeout = 600
    number, repeat, warmup_time = 1, 3, 0

    def setup(self, annotations: int) -> None:
        self.targets = chooser(MILLION, annotations)
        self.targets.negatives(1, (WINDOW, WINDOW))  # makes the index

    def time_grid(self, annotations: int) -> None:
        self.targets.grid((WINDOW, WINDOW))

    def time_grid_and_tree(self, annotations: int) -> None:
        """The same overlaps for any windows, through the tree."""
        self.targets.overlaps(self.targets.grid((WINDOW, WINDOW)))

    def peakmem_grid(self, annotations: int) -> None:
        self.targets.grid((WINDOW, WINDOW))

    def track_windows(self, annotations: int) -> int:
        return len(self.targets.grid((WINDOW, WINDOW)))


class Choice:
    """Windows around, over and beside annotations."""

    timeout = 600
    number, repeat, warmup_time = 1, 3, 0

    def setup(self) -> None:
        self.targets = chooser(1000, 100_000)
        self.targets.negatives(1, (WINDOW, WINDOW))  # makes the index

    def time_positives(self) -> None:
        self.targets.positives((WINDOW, WINDOW), jitter=0.5)

    def time_cover(self) -> None:
        self.targets.positives((512, 512), cover=True)

    def track_cover_windows(self) -> int:
        return len(self.targets.positives((512, 512), cover=True))

    def time_negatives(self) -> None:
        self.targets.negatives(100_000, (WINDOW, WINDOW))

    def time_negatives_like_annotations(self) -> None:
        self.targets.negatives(100_000)


class Tables:
    """What is done with a table of 200,000 windows: balance, splits, moments."""

    timeout = 600
    number, repeat, warmup_time = 1, 3, 0

    def setup(self) -> None:
        self.targets = chooser(MILLION // 5, 50_000, frames=50)
        self.table = self.targets.grid((WINDOW, WINDOW))
        self.main = self.targets.positives((WINDOW, WINDOW))[:20_000]

    def time_balanced(self) -> None:
        self.targets.balanced(self.table, by=["video", "category"], n=100_000, seed=0)

    def time_split(self) -> None:
        self.targets.split(self.table, {"train": 0.8, "test": 0.2}, by="video")

    def time_split_in_space(self) -> None:
        self.targets.split(self.table, {"train": 0.8, "test": 0.2}, by="space")

    def time_times(self) -> None:
        self.targets.times(self.main, kernel="-2f,0f,2f")


def measured(what: str, work: Callable[[], Any], repeat: int = 3) -> None:
    """Print the median time of some work, and what it returned."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    print(f"{what:64s} {sorted(times)[repeat // 2]:8.2f} s  {len(result):>9,} rows")


def grid(boxes: int) -> None:
    """A million windows."""
    targets = chooser(MILLION, boxes)
    before = peak()
    measured(f"grid, {boxes:,} annotations", lambda: targets.grid((WINDOW, WINDOW)))
    print(f"{'    peak memory above the dataset':64s} {peak() - before:8.0f} MB")
    table = targets.grid((WINDOW, WINDOW))
    measured("    the same overlaps through the tree", lambda: targets.overlaps(table), 1)
    print(f"{'    peak memory above the dataset':64s} {peak() - before:8.0f} MB")


def videos() -> None:
    """A million windows of 4 frames."""
    targets = chooser(MILLION, 100_000, frames=50)
    options = {"space": "video", "time_dims": 4, "time_overlap": 3}
    measured("grid of videos, 100,000 annotations", lambda: targets.grid((WINDOW, WINDOW), **options))


def choices() -> None:
    """Windows around, over and beside annotations."""
    for images, boxes in ((1000, 100_000), (10_000, 1_000_000), (1, 10_000)):
        targets = chooser(images, boxes)
        print(f"{images:,} images, {boxes:,} annotations")
        measured("    positives", lambda t=targets: t.positives((WINDOW, WINDOW), jitter=0.5), 1)
        measured("    positives, cover=True, 512 x 512", lambda t=targets: t.positives((512, 512), cover=True), 1)
        measured("    negatives", lambda t=targets, n=boxes: t.negatives(n, (WINDOW, WINDOW)), 1)
        measured("    negatives like annotations", lambda t=targets, n=boxes: t.negatives(n), 1)


def ndsampler() -> None:
    """What it takes for a fiftieth of the grid, and how many windows its selection needs."""
    from ndsampler import coco_regions

    targets = chooser(MILLION // 50, 2_000)
    dset = targets.source.dset
    measured("a fiftieth of the grid, 2,000 annotations", lambda: targets.grid((WINDOW, WINDOW)))
    measured(
        "    ndsampler's new_image_sample_grid",
        lambda: coco_regions.new_image_sample_grid(dset, (WINDOW, WINDOW), verbose=0)["targets"],
        1,
    )
    measured("cover=True, 512 x 512", lambda: targets.positives((512, 512), cover=True))
    table = coco_regions.tabular_coco_targets(dset)
    measured(
        "    ndsampler's select_positive_regions (leaves annotations out)",
        lambda: coco_regions.select_positive_regions(table, (512, 512), rng=0, verbose=0),
        1,
    )


def peak() -> float:
    """Largest resident size of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


PARTS: dict[str, Callable[[], None]] = {
    **{f"grid-{n}": partial(grid, n) for n in Grid.params},
    "videos": videos,
    "choices": choices,
    "ndsampler": ndsampler,
}


def main(parts: list[str]) -> None:
    """Each part in a process of its own, for the sake of peak memory."""
    if len(parts) == 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            PARTS[parts[0]]()
        return
    for name in parts or PARTS:
        with contextlib.suppress(subprocess.CalledProcessError):
            subprocess.run([sys.executable, "-m", "benchmarks.bench_targets", name], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
