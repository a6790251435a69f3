"""What exporting costs beyond encoding the crops: `python -m benchmarks.exporting`."""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import ndzarr
from benchmarks.photographs import photograph
from ndzarr._batches.crop_files import CropEncoder
from ndzarr._concurrency import available_cpus

CASES = (("jpeg", 512), ("jpeg", 256), ("png", 256))
"""(kind of files, edge of windows in pixels)."""


def dataset(folder: Path, edge: int) -> dict:
    """A photograph with ten boxes per million pixels."""
    ndzarr.transcode(photograph(edge, edge, 3), folder / "image.zarr")
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, edge - 40, (edge * edge // 100_000, 2))
    annotations = [
        {"id": k, "image_id": 1, "category_id": 1, "bbox": [x, y, 40, 30]}
        for k, (x, y) in enumerate(corners.tolist(), 1)
    ]
    image = {"id": 1, "file_name": str(folder / "image.zarr"), "width": edge, "height": edge, "channels": "r|g|b"}
    return {"images": [image], "annotations": annotations, "categories": [{"id": 1, "name": "box"}]}


def seconds(function: Callable[..., object], *args: Any, **keys: Any) -> float:
    start = time.perf_counter()
    function(*args, **keys)
    return time.perf_counter() - start


def encode_all(crops: np.ndarray, kind: str) -> None:
    encoder = CropEncoder(kind, 95, 10)
    with ThreadPoolExecutor(available_cpus()) as pool:
        for _ in pool.map(lambda crop: encoder.encode(crop, ("r", "g", "b")), crops):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print("| files | windows | export, crops/s | encoding alone, crops/s | share |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sampler = ndzarr.CocoSampler(dataset(folder, args.size), folder / "work")
        for kind, edge in CASES:
            table = sampler.targets.grid((edge, edge)).head(1024)
            crops = sampler.load_batch(table, with_annots=False).image.values
            found = []
            for k in range(args.rounds):  # in turn, so that the machine's load is the same for both
                dest = folder / f"{kind}{edge}-{k}"
                found.append((seconds(encode_all, crops, kind), seconds(sampler.export, table, dest, image=kind)))
                shutil.rmtree(dest)
            alone, whole = (statistics.median(times) for times in zip(*found, strict=True))
            share = statistics.median(a / b for a, b in found)
            n = len(table)
            print(f"| {kind} | {edge} x {edge} | {n / whole:.0f} | {n / alone:.0f} | {share:.2f} |", flush=True)


if __name__ == "__main__":
    main()
