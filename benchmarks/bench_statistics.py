"""What do statistics cost beside reading, and balancing, parting and choosing frames for a million windows?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile

import ndzarr
from benchmarks.photographs import photograph

EDGE, IMAGES = 4096, 2
ROWS = 1_000_000


def photographs(folder: Path) -> ndzarr.CocoSampler:
    """A sampler of transcoded photographs, made if they are not there."""
    images = []
    for gid in range(1, IMAGES + 1):
        if not (folder / f"{gid}.tif").exists():
            tifffile.imwrite(
                folder / f"{gid}.tif", photograph(EDGE, EDGE, seed=gid), photometric="rgb", tile=(256, 256)
            )
        images.append({"id": gid, "file_name": str(folder / f"{gid}.tif"), "width": EDGE, "height": EDGE,
                       "channels": "r|g|b"})  # fmt: skip
    sampler = ndzarr.CocoSampler({"images": images}, folder / "pyramids")
    sampler.prepare()
    return sampler


def videos(folder: Path, number: int = 50, frames: int = 40) -> ndzarr.CocoSampler:
    """A sampler of dated videos without pixels."""
    start = np.datetime64("2020-01-01")
    images = [
        {"id": frames * v + k + 1, "file_name": f"{v}-{k}.png", "width": 2048, "height": 2048, "video_id": v + 1,
         "frame_index": k, "date_captured": str(start + np.timedelta64(16 * k, "D")),
         "sensor_coarse": "S2" if k % 2 else "L8"}
        for v in range(number) for k in range(frames)
    ]  # fmt: skip
    listed = [{"id": v + 1, "name": f"v{v}", "width": 2048, "height": 2048} for v in range(number)]
    return ndzarr.CocoSampler({"videos": listed, "images": images}, folder / "pyramids")


def windows(rows: int = ROWS, images: int = 2000, seed: int = 0) -> pd.DataFrame:
    """A table of windows with labels of very different frequency."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"gid": rng.integers(1, images + 1, rows), "cx": rng.uniform(64, 1984, rows), "cy": rng.uniform(64, 1984, rows),
         "width": 128, "height": 128, "kind": rng.choice(list("abcdef"), rows, p=[0.9, 0.05, 0.02, 0.01, 0.01, 0.01])}
    )  # fmt: skip


class Statistics:
    """Whole photographs, at several levels, beside reading alone."""

    timeout = 300
    number, repeat, warmup_time = 1, 3, 0
    params = (0, 1, 2, 3)
    param_names = ("level",)

    def setup_cache(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="ndzarr-statistics-"))
        photographs(folder)
        return folder

    def setup(self, folder: Path, level: int) -> None:
        self.sampler = photographs(folder)

    def time_statistics(self, folder: Path, level: int) -> None:
        self.sampler.targets.statistics(level=level, progress=False)

    def time_reading(self, folder: Path, level: int) -> None:
        read_all(self.sampler, level)


class Tables:
    """A million windows."""

    timeout = 300
    number, repeat, warmup_time = 1, 3, 0

    def setup(self) -> None:
        self.table = windows()
        self.sampler = videos(Path(tempfile.mkdtemp(prefix="ndzarr-tables-")))

    def time_probabilities(self) -> None:
        self.sampler.targets.balanced(self.table, by=["kind", "image.sensor_coarse"])

    def time_draw(self) -> None:
        self.sampler.targets.balanced(self.table, by="kind", n=len(self.table) // 10)

    def time_split_by_video(self) -> None:
        self.sampler.targets.split(self.table, stratify="kind")

    def time_split_in_space(self) -> None:
        self.sampler.targets.split(self.table, by="space", block=512, stratify="kind")

    def time_kernel(self) -> None:
        self.sampler.targets.times(self.table, kernel="-1y,-2w,0,2w,1y", progress=False)


def read_all(sampler: ndzarr.CocoSampler, level: int) -> None:
    """Every pixel of a level, by tiles."""
    for gid in sampler.dset.index.imgs:
        pyramid = sampler.open(gid)
        height, width = pyramid.levels[level].shape[-2:]
        for y in range(0, height, 1024):
            for x in range(0, width, 1024):
                pyramid.read(level, y=slice(y, y + 1024), x=slice(x, x + 1024))


def seconds(work: Callable[[], Any], repeat: int = 3) -> float:
    """Median time of a call."""
    spent = []
    for _ in range(repeat):
        begun = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begun)
    return float(np.median(spent))


def main() -> None:
    """Print a table."""
    lines = []
    with tempfile.TemporaryDirectory(prefix="ndzarr-statistics-") as name:
        sampler = photographs(Path(name))
        whole = sampler.targets.statistics(progress=False)
        for level in (0, 1, 2, 3):
            found = sampler.targets.statistics(level=level, progress=False)
            spent = seconds(lambda level=level: sampler.targets.statistics(level=level, progress=False))
            alone = seconds(lambda level=level: read_all(sampler, level))
            off = np.abs(found.mean - whole.mean).max(), np.abs(found.std_native / whole.std - 1).max()
            lines.append((f"statistics, level {level}", f"{spent:.3f}", f"reading alone {alone:.3f} s; mean off by "
                          f"{off[0]:.3f}, std by {np.abs(found.std / whole.std - 1).max():.1%}, std_native by "
                          f"{off[1]:.1%}"))  # fmt: skip
        spent = seconds(lambda: sampler.targets.statistics(sample=50, progress=False))
        found = sampler.targets.statistics(sample=50, progress=False)
        off = np.abs(found.mean - whole.mean).max(), found.mean_error.max()
        lines.append(("statistics, 50 tiles", f"{spent:.3f}", f"mean off by {off[0]:.2f}, stated {off[1]:.2f}"))
        rows = windows(ROWS, IMAGES)
        lines.append(("valid_fraction of 1M", f"{seconds(lambda: sampler.targets.valid_fraction(rows)):.3f}", ""))
        tables = Tables()
        tables.setup()
        titles = ("probabilities", "draw", "split_by_video", "split_in_space", "kernel")
        lines += [(f"{title} of 1M", f"{seconds(getattr(tables, f'time_{title}')):.3f}", "") for title in titles]
    for what, spent_text, note in lines:
        print(f"{what:24} {spent_text:>8} s  {note}".rstrip())


if __name__ == "__main__":
    main()
