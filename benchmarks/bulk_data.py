"""Which images do the benchmarks of batches and extractions read?"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ndzarr
from benchmarks.photographs import photograph

EDGE = 224
"""Pixels of a crop."""


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Images:
    """Photographs as PNG files."""

    def __init__(self, folder: Path, number: int, side: int) -> None:
        self.folder, self.number, self.side = folder / f"{number}x{side}", number, side

    def make(self) -> None:
        """Write what is missing, and transcode it."""
        import cv2

        self.folder.mkdir(parents=True, exist_ok=True)
        for k in range(self.number):
            path, part = self.folder / f"{k}.png", self.folder / f"part-{k}.png"
            if not path.exists():
                pixels = np.moveaxis(photograph(self.side, self.side, seed=k)[::-1], 0, -1)  # OpenCV wants b, g, r
                cv2.imwrite(str(part), np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 1])
                part.rename(path)
        self.sampler.prepare()

    @cached_property
    def coco(self) -> dict[str, Any]:
        """A kwcoco dictionary with 50 boxes per image."""
        rng = np.random.default_rng(0)
        boxes = np.concatenate(
            [rng.uniform(0, self.side - 90, (50 * self.number, 2)), rng.uniform(5, 90, (50 * self.number, 2))], 1
        )
        return {
            "images": [
                {"id": k + 1, "file_name": str(self.folder / f"{k}.png"), "width": self.side, "height": self.side,
                 "channels": "r|g|b"}
                for k in range(self.number)
            ],
            "annotations": [
                {"id": i + 1, "image_id": 1 + i % self.number, "category_id": 1, "bbox": box}
                for i, box in enumerate(boxes.tolist())
            ],
            "categories": [{"id": 1, "name": "thing"}],
        }  # fmt: skip

    @cached_property
    def sampler(self) -> ndzarr.CocoSampler:
        return ndzarr.CocoSampler(self.coco, self.folder / "pyramids", transcode="always")

    @property
    def stores(self) -> list[str]:
        """The pyramids, by image."""
        return [self.sampler.open(k + 1).path for k in range(self.number)]

    def peer(self, backend: str | None) -> Any:
        """The sampler of ndsampler, its cache filled."""
        import kwcoco
        import ndsampler

        workdir = self.folder / "ndsampler"
        sampler = ndsampler.CocoSampler(kwcoco.CocoDataset(self.coco), workdir=workdir, backend=backend)
        if backend is not None:
            sampler.frames.prepare()
        return sampler

    def windows(self, n: int, edge: int = EDGE, seed: int = 1, images: int | None = None) -> pd.DataFrame:
        """Random windows within the images."""
        rng = np.random.default_rng(seed)
        low, high = edge // 2, self.side - edge // 2
        return pd.DataFrame(
            {"gid": rng.integers(1, (images or self.number) + 1, n), "cx": rng.integers(low, high, n),
             "cy": rng.integers(low, high, n), "width": edge, "height": edge}
        )  # fmt: skip
