"""Which windows do `load_positive` and `load_negative` load?

Positives are annotations, in the order of the dataset.  Negatives are drawn: an image, then a window in it, until
one touches no annotation.  Better choices of windows are made by `sampler.targets`; this is what ndsampler's users
know.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.sampler import values
from ndzarr.sampler.annotations import AnnotationTable
from ndzarr.sampler.dataset import Dataset

TRIES = 1000
"""Draws before a dataset is said to have no room for a negative."""


class Pool:
    """Positives and negatives of a dataset."""

    def __init__(self, dataset: Dataset, table: AnnotationTable) -> None:
        self._dataset = dataset
        self._table = table
        boxed = np.isfinite(table.columns).all(axis=0)
        order = {aid: k for k, aid in enumerate(dataset.coco.index.anns)}
        self._rows = sorted(np.flatnonzero(boxed).tolist(), key=lambda r: order[table.annot_id[r].item()])

    def positive(self, index: int | None, rng: Any = None) -> dict[str, Any]:
        """
        The target of an annotation.

        Raises
        ------
        TargetError
            There is no such annotation.
        """
        if not self._rows:
            raise TargetError("the dataset has no annotations with boxes, so there are no positives")
        if index is None:
            index = int(np.random.default_rng(rng).integers(len(self._rows)))
        if not 0 <= index < len(self._rows):
            raise TargetError(f"positive {index} does not exist; there are {len(self._rows)}")
        return {"aid": self._table.annot_id[self._rows[index]].item()}

    @cached_property
    def _sizes(self) -> dict[Any, tuple[int, int]]:
        """Image to (width, height), of those that state it."""
        known = ((gid, self._dataset.frame(gid).size) for gid in self._dataset.coco.index.imgs)
        return {gid: size for gid, size in known if size is not None}

    def negative(self, index: int | None, window_dims: Any, rng: Any = None, gid: Any = None) -> dict[str, Any]:
        """
        A target that touches no annotation and lies wholly in its image, which may be given.

        Raises
        ------
        TargetError
            No such window was found.
        """
        draw = np.random.default_rng(rng if rng is not None else index)
        sizes = self._sizes
        if gid is not None:
            self._dataset.frame(gid)  # an unknown image is an error here as everywhere
        gids = [g for g in sizes if gid is None or g == gid]
        if not gids:
            raise TargetError("the dataset has no images with width and height, so there are no negatives")
        for _ in range(TRIES):
            chosen = gids[int(draw.integers(len(gids)))]
            height, width = self._window(window_dims, draw)
            room_x, room_y = sizes[chosen][0] - width, sizes[chosen][1] - height
            if room_x < 0 or room_y < 0:
                continue
            x, y = int(draw.integers(room_x + 1)), int(draw.integers(room_y + 1))
            if not len(self._table.touching(chosen, (y, y + height, x, x + width))[0]):
                return {"gid": chosen, "y": slice(y, y + height), "x": slice(x, x + width)}
        raise TargetError(f"no window free of annotations was found in {TRIES} draws; ask for smaller window_dims")

    def _window(self, window_dims: Any, draw: np.random.Generator) -> tuple[int, int]:
        window_dims = values.window_dims(window_dims)
        if isinstance(window_dims, tuple):
            return int(window_dims[0]), int(window_dims[1])
        if not self._rows:
            raise TargetError(
                "a negative needs window_dims=(height, width) where there are no annotations to take a size from"
            )
        _, _, w, h = self._table.columns[:, self._rows[int(draw.integers(len(self._rows)))]]
        width, height = max(1, int(np.ceil(w))), max(1, int(np.ceil(h)))
        return (max(height, width),) * 2 if window_dims == "square" else (height, width)
