"""asv: samples with their annotations, batches, extractions, and windows of videos."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

import ndzarr
from benchmarks.data import EDGE, Cached, coco, large_video, multispectral_video, random_boxes, ten_each, units
from benchmarks.sampling import OVERVIEW, python_calls, small_windows
from ndzarr.categories import CategoryTree

CROPS = 16
"""Windows that one call reads."""


class Samples(Cached):
    """Windows of a photograph of a kwcoco dataset, some partly outside."""

    params = ((256, 1024), (1.0, 0.3), (0, 500))
    param_names = ("edge", "scale", "annotations")

    def setup(self, folder: Path, edge: int, scale: float, annotations: int) -> None:
        rng = random.Random(0)
        source = self.file(folder, "photograph-fast.zarr")
        content = coco([source], EDGE, [1] * annotations, random_boxes(annotations, EDGE, 40, 40))
        self.sampler = ndzarr.CocoSampler(content, workdir=folder)
        corners = [[rng.randrange(-edge // 4, EDGE - edge) for _ in "yx"] for _ in range(CROPS)]
        self.targets = [
            {"gid": 1, "space_slice": (slice(y, y + edge), slice(x, x + edge)), "scale": scale} for y, x in corners
        ]
        self.time_load_sample()

    def time_load_sample(self, *_: Any) -> None:
        for target in self.targets:
            self.sampler.load_sample(target)

    peakmem_load_sample = time_load_sample


class OneSample(Cached):
    """What one warm `load_sample` of 256 x 256 with ten annotations goes through."""

    params = (1.0, 0.3)
    param_names = ("scale",)

    def setup(self, folder: Path, scale: float) -> None:
        content, cells = ten_each(self.file(folder, "photograph-fast.zarr"), EDGE)
        self.sampler = ndzarr.CocoSampler(content, workdir=folder)
        y, x = cells[9]
        self.target = {"gid": 1, "space_slice": (slice(y, y + 256), slice(x, x + 256))}
        if scale != 1:
            self.target["scale"] = scale
        for _ in range(3):
            assert self.sampler.load_sample(self.target).sizes["annot"] == 10

    def track_python_calls(self, *_: Any) -> int:
        return python_calls(self.sampler.load_sample, self.target)[0]

    def track_python_calls_everywhere(self, *_: Any) -> int:
        """Those of xarray and the standard library included."""
        return python_calls(self.sampler.load_sample, self.target)[2]

    def track_files(self, *_: Any) -> int:
        return python_calls(self.sampler.load_sample, self.target)[1]

    def track_chunks_decoded(self, *_: Any) -> int:
        return self.sampler.plan(self.target).explain().chunks


class Masks(Cached):
    """The pixels of ten polygons of 40 corners in a window of 256 x 256."""

    params = (1.0, 0.3)
    param_names = ("scale",)

    def setup(self, folder: Path, scale: float) -> None:
        content, cells = ten_each(self.file(folder, "photograph-fast.zarr"), EDGE)
        turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        for annotation in content["annotations"]:
            x, y, w, h = annotation["bbox"]
            ring = np.stack([x + w * (1 + np.cos(turn)) / 2, y + h * (1 + np.sin(turn)) / 2], axis=1)
            annotation["segmentation"] = [ring.ravel().tolist()]
        y, x = cells[9]
        sampler = ndzarr.CocoSampler(content, workdir=folder)
        self.sample = sampler.load_sample(gid=1, y=slice(y, y + 256), x=slice(x, x + 256), scale=scale)

    def time_masks(self, *_: Any) -> None:
        assert len(self.sample.ndzarr.masks) == 10

    def time_detections(self, *_: Any) -> None:
        assert len(self.sample.ndzarr.detections[0]) == 10


class Batches(Cached):
    """64 random windows of 224 x 224 of a photograph, as a table."""

    params = ((1.0, 0.5),)
    param_names = ("scale",)

    def setup(self, folder: Path, scale: float) -> None:
        content = coco([self.file(folder, "photograph-fast.zarr")], EDGE)
        self.sampler = ndzarr.CocoSampler(content, workdir=folder)
        y, x = np.random.default_rng(0).integers(112, EDGE - 112, (2, 64))
        self.table = pd.DataFrame({"gid": 1, "cx": x, "cy": y, "width": 224, "height": 224, "scale": scale})
        self.many = pd.concat([self.table] * 1000, ignore_index=True)
        self.out = folder / "extracted.zarr"
        self.sampler.load_batch(self.table)

    def teardown(self, *_: Any) -> None:
        shutil.rmtree(self.out, ignore_errors=True)

    def time_load_batch(self, *_: Any) -> None:
        self.sampler.load_batch(self.table)

    peakmem_load_batch = time_load_batch

    def time_lazy_batch_of_64000(self, *_: Any) -> None:
        self.sampler.lazy_batch(self.many)

    def time_extract(self, *_: Any) -> None:
        self.sampler.extract(self.table, self.out, workers=1, overwrite=True)

    def track_chunks_decoded(self, *_: Any) -> int:
        return self.sampler.plan(self.table.to_dict("records")).explain().chunks

    def track_tasks(self, *_: Any) -> int:
        return len(self.sampler.lazy_batch(self.many).__dask_graph__())


class Videos(Cached):
    """Five bands of three resolutions over 5 frames; an overview of 4 large frames at 1/16."""

    params = ("small windows", "overview")
    param_names = ("what",)

    def setup(self, folder: Path, what: str) -> None:
        small = what == "small windows"
        content = multispectral_video(folder / "demo") if small else large_video(folder / "frames", EDGE)
        self.targets = small_windows() if small else [OVERVIEW]
        self.sampler = ndzarr.CocoSampler(content, folder / "workdir")
        self.sampler.prepare()
        self.time_load_sample()

    def time_load_sample(self, *_: Any) -> None:
        for target in self.targets:
            self.sampler.load_sample(target)


class Clip(Cached):
    """Five tubes of 16 x 128 x 128 of 100 frames of H.264: transcoded, and in place."""

    params = ("zarr", "mp4")
    param_names = ("file",)

    def setup(self, folder: Path, file: str) -> None:
        self.pyramid = ndzarr.open(self.file(folder, f"clip-100.{file}"))
        corners = np.random.default_rng(0).integers((84, 592, 1152), size=(5, 3)).tolist()
        self.windows = [
            {axis: slice(a, a + n) for axis, a, n in zip("tyx", at, (16, 128, 128), strict=True)} for at in corners
        ]

    def time_tubes(self, *_: Any) -> None:
        for window in self.windows:
            self.pyramid.read(**window)


class TranscodeClip(Cached):
    """100 frames of H.264, 1280 x 720."""

    def setup(self, folder: Path) -> None:
        self.clip, self.dest = self.file(folder, "clip-100.mp4"), folder / "written-clip.zarr"

    def teardown(self, *_: Any) -> None:
        shutil.rmtree(self.dest, ignore_errors=True)

    def time_transcode(self, *_: Any) -> None:
        ndzarr.transcode(self.clip, self.dest, overwrite=True)


class Annotations(Cached):
    """A dataset of a million annotations becomes a table; kwcoco's own loading beside it."""

    number, repeat, warmup_time = 1, 3, 0

    def setup(self, folder: Path) -> None:
        import kwcoco

        self.path = str(self.file(folder, "annotations-1000000-10000.json"))
        self.dset = kwcoco.CocoDataset(self.path)

    def time_table(self, *_: Any) -> None:
        len(ndzarr.CocoSampler(self.dset, "unused").annotations)

    def time_kwcoco_load(self, *_: Any) -> None:
        import kwcoco

        kwcoco.CocoDataset(self.path)


class Scores:
    """Probabilities and decisions on a tree of 80 classes, for 10,000 samples."""

    def setup(self) -> None:
        graph = nx.DiGraph()
        graph.add_nodes_from(f"a{k}" for k in range(10))
        graph.add_edges_from((f"a{k % 10}", f"b{k}") for k in range(20))
        graph.add_edges_from((f"b{k % 20}", f"c{k}") for k in range(50))
        self.tree = CategoryTree(graph)
        self.scores = np.random.default_rng(0).normal(0, 3, (10_000, 80)).astype(np.float32)
        self.probs = self.tree.hierarchical_softmax(self.scores)

    def time_top_down(self) -> None:
        self.tree.source_log_softmax(self.scores)

    def time_bottom_up(self) -> None:
        self.tree.sink_log_softmax(self.scores)

    def time_decision(self) -> None:
        self.tree.decision(self.probs)


units(OneSample, python_calls="calls", python_calls_everywhere="calls", files="files", chunks_decoded="chunks")
units(Batches, chunks_decoded="chunks", tasks="tasks")
