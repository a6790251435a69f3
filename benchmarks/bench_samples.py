"""What does a labelled sample cost, with its annotations, in time, memory and chunks?"""

from __future__ import annotations

import random

import ndzarr
from benchmarks.stores import CROPS, EDGE, Paths, Prepared

ANNOTATIONS = 500
"""Boxes of 40 x 40 spread over the image: about ten touch a window of 256 x 256."""


class Samples(Prepared):
    """Windows of one photograph of a kwcoco dataset, `CROPS` of them per call."""

    params = ((256, 1024), (1.0, 0.3), (0, ANNOTATIONS))
    param_names = ("edge", "scale", "annotations")

    def setup(self, paths: Paths, edge: int, scale: float, annotations: int) -> None:
        rng = random.Random(0)
        boxes = [[rng.randrange(EDGE - 40), rng.randrange(EDGE - 40), 40, 40] for _ in range(annotations)]
        image = {"id": 1, "file_name": str(paths.source("photograph")), "width": EDGE, "height": EDGE}
        self.sampler = ndzarr.CocoSampler(
            {
                "images": [image],
                "annotations": [
                    {"id": k + 1, "image_id": 1, "category_id": 1, "bbox": box} for k, box in enumerate(boxes)
                ],
                "categories": [{"id": 1, "name": "thing"}],
            },
            workdir=paths.workdir,
        )
        # some windows lie partly outside
        corners = [
            (rng.randrange(-edge // 4, EDGE - edge), rng.randrange(-edge // 4, EDGE - edge)) for _ in range(CROPS)
        ]
        self.targets = [
            {"gid": 1, "space_slice": (slice(y, y + edge), slice(x, x + edge)), "scale": scale} for y, x in corners
        ]
        for target in self.targets:
            self.sampler.load_sample(target)

    def time_load_sample(self, paths: Paths, edge: int, scale: float, annotations: int) -> None:
        for target in self.targets:
            self.sampler.load_sample(target)

    def peakmem_load_sample(self, paths: Paths, edge: int, scale: float, annotations: int) -> None:
        for target in self.targets:
            self.sampler.load_sample(target)

    def track_chunks_decoded(self, paths: Paths, edge: int, scale: float, annotations: int) -> int:
        return sum(self.sampler.plan(target).explain().chunks for target in self.targets)

    def track_annotations_found(self, paths: Paths, edge: int, scale: float, annotations: int) -> int:
        return sum(self.sampler.load_sample(target).sizes["annot"] for target in self.targets)


Samples.track_chunks_decoded.unit = "chunks"  # type: ignore[attr-defined]
Samples.track_annotations_found.unit = "annotations"  # type: ignore[attr-defined]
