"""What do a million annotations cost, to load and to look up?"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from ndzarr._indexing.affine import scale_offset
from ndzarr._sampling.annotations import AnnotationTable, tabulate

ANNOTATIONS, IMAGES, EDGE = 1_000_000, 10_000, 1000
CROWD = 10_000
"""Annotations of one image."""

WARPS = {
    "image": None,
    "video": scale_offset((0.5, 0.5), (20.0, -30.0)),
    "rotated": np.array([[0.9, 0.3, 3.0], [-0.3, 0.9, 2.0], [0.0, 0.0, 1.0]]),
}
"""From image space to the space of the window."""


def dictionaries(n: int, images: int, seed: int = 0) -> dict[str, Any]:
    """A kwcoco dataset of so many boxes, spread over images."""
    rng = np.random.default_rng(seed)
    gids = rng.integers(1, images + 1, n).tolist()
    corners, sizes = rng.uniform(0, EDGE - 60, (n, 2)), rng.uniform(2, 60, (n, 2))
    boxes = np.concatenate([corners, sizes], axis=1).round(1).tolist()
    return {
        "images": [{"id": g, "file_name": f"{g}.png", "width": EDGE, "height": EDGE} for g in range(1, images + 1)],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, 10)],
        "annotations": [
            {"id": k + 1, "image_id": gid, "category_id": 1 + k % 9, "bbox": box}
            for k, (gid, box) in enumerate(zip(gids, boxes, strict=True))
        ],
    }


def crowd() -> AnnotationTable:
    """Ten thousand annotations of one image."""
    return tabulate(dictionaries(CROWD, 1)["annotations"])


class Loading:
    """A dataset becomes a table; kwcoco's own loading beside it."""

    timeout = 300
    number, repeat, warmup_time = 1, 3, 0

    def setup_cache(self) -> Path:
        path = Path(mkdtemp(prefix="ndzarr-annotations-")) / "data.kwcoco.json"
        path.write_text(json.dumps(dictionaries(ANNOTATIONS, IMAGES)))
        return path

    def setup(self, path: Path) -> None:
        import kwcoco

        self.dset = kwcoco.CocoDataset(str(path))

    def time_tabulate(self, path: Path) -> None:
        tabulate(self.dset.dataset["annotations"])

    def time_kwcoco_load(self, path: Path) -> None:
        import kwcoco

        kwcoco.CocoDataset(str(path))

    def track_rows(self, path: Path) -> int:
        return len(tabulate(self.dset.dataset["annotations"]))


class LookUp:
    """Which of ten thousand annotations of an image touch a window?"""

    params = ((64, 256, EDGE), tuple(WARPS))
    param_names = ("edge", "space")

    def setup(self, edge: int, space: str) -> None:
        self.table, self.warp = crowd(), WARPS[space]
        start = min(100, EDGE - edge)
        self.window = (start, start + edge, start, start + edge)

    def time_touching(self, edge: int, space: str) -> None:
        self.table.touching(1, self.window, self.warp)

    def time_touching_first(self, edge: int, space: str) -> None:
        """Boxes are moved to the space, too."""
        self.table.kept.clear()
        self.table.touching(1, self.window, self.warp)

    def track_found(self, edge: int, space: str) -> int:
        return len(self.table.touching(1, self.window, self.warp)[0])
