"""What do batches, lazy batches and extractions cost, in time and in chunks?"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import ndzarr
from benchmarks.stores import EDGE, Paths, Prepared

BATCH, CROP = 64, 224


class Batches(Prepared):
    """Random windows of a photograph of a kwcoco dataset, as a table."""

    params = ((1.0, 0.5),)
    param_names = ("scale",)

    def setup(self, paths: Paths, scale: float) -> None:
        image = {
            "id": 1, "file_name": str(paths.source("photograph")), "width": EDGE, "height": EDGE, "channels": "r|g|b",
        }  # fmt: skip
        self.sampler = ndzarr.CocoSampler({"images": [image]}, workdir=paths.workdir, transcode="always")
        self.sampler.prepare()
        rng = np.random.default_rng(0)
        places = rng.integers(CROP // 2, EDGE - CROP // 2, (BATCH, 2))
        self.table = pd.DataFrame(
            {"gid": 1, "cx": places[:, 0], "cy": places[:, 1], "width": CROP, "height": CROP, "scale": scale}
        )
        self.many = pd.concat([self.table] * 1000, ignore_index=True)
        self.folder = Path(tempfile.mkdtemp())
        self.sampler.load_batch(self.table)

    def teardown(self, paths: Paths, scale: float) -> None:
        shutil.rmtree(self.folder)

    def time_load_batch(self, paths: Paths, scale: float) -> None:
        self.sampler.load_batch(self.table)

    def peakmem_load_batch(self, paths: Paths, scale: float) -> None:
        self.sampler.load_batch(self.table)

    def time_lazy_batch_of_64000(self, paths: Paths, scale: float) -> None:
        self.sampler.lazy_batch(self.many)

    def time_extract(self, paths: Paths, scale: float) -> None:
        self.sampler.extract(self.table, self.folder / "out.zarr", workers=1, overwrite=True)

    def track_chunks_decoded(self, paths: Paths, scale: float) -> int:
        return self.sampler.plan(self.table.to_dict("records")).explain().chunks

    def track_tasks(self, paths: Paths, scale: float) -> int:
        return len(self.sampler.lazy_batch(self.many).__dask_graph__())


Batches.track_chunks_decoded.unit = "chunks"  # type: ignore[attr-defined]
Batches.track_tasks.unit = "tasks"  # type: ignore[attr-defined]
