"""What stitching costs beyond writing: `python -m benchmarks.stitching`."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import ndzarr
from benchmarks.photographs import photograph

CASES = ((512, 0), (512, 64), (256, 64))
"""(window, overlap) in pixels."""


def stitch(like: ndzarr.Pyramid, image: np.ndarray, dest: Path, window: int, overlap: int) -> None:
    n = image.shape[-1]
    places = [*range(0, n - window, window - overlap), n - window]
    with ndzarr.Stitcher(like, dest, overwrite=True) as stitcher:
        for y in places:
            for x in places:
                part = slice(y, y + window), slice(x, x + window)
                stitcher.add({"y": part[0], "x": part[1]}, image[part])


def seconds(function, *args, **keys) -> float:
    start = time.perf_counter()
    function(*args, **keys)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    image = photograph(args.size, args.size, 1).squeeze()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        like = ndzarr.transcode(image, folder / "like.zarr")
        taken: dict[object, list[float]] = {case: [] for case in (*CASES, "alone")}
        for _ in range(args.rounds):  # all in turn, so that the machine's load is the same for all
            taken["alone"].append(seconds(ndzarr.transcode, image, folder / "alone.zarr", overwrite=True))
            for case in CASES:
                taken[case].append(seconds(stitch, like, image, folder / "out.zarr", *case))
    alone = statistics.median(taken["alone"])
    print("| windows | overlap | add and write | writing alone | ratio |")
    print("|---|---|---|---|---|")
    for window, overlap in CASES:
        spent = statistics.median(taken[window, overlap])
        ratio = statistics.median(a / b for a, b in zip(taken[window, overlap], taken["alone"], strict=True))
        speeds = (f"{args.size**2 / t / 1e6:.0f} MP/s" for t in (spent, alone))
        print(f"| {window} x {window} | {overlap} | {' | '.join(speeds)} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
