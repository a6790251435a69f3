"""Which annotations touch a window?

The annotations of a dataset as columns, sorted by image, so that a look-up is a few vector operations on one image's
rows. Boxes are x, y, width, height in image space; what is asked in another space is warped first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndzarr.geometry.affine import warp_boxes

NO_ID = -1
"""Stands for a category or track that an annotation does not have."""


@dataclass(frozen=True, slots=True)
class AnnotationTable:
    """All annotations, sorted by image."""

    gids: np.ndarray[Any, Any]
    """Image of each row, ascending; shape (n,)."""
    annot_id: np.ndarray[Any, Any]
    """Shape (n,)."""
    category_id: np.ndarray[Any, Any]
    """Shape (n,); `NO_ID` where there is none."""
    track_id: np.ndarray[Any, Any]
    """Shape (n,); integers, or strings where a dataset names its tracks."""
    bbox: np.ndarray[Any, Any]
    """Shape (n, 4): x, y, width, height in image space; NaN where an annotation has no box."""
    rows: dict[Any, slice]
    """The rows of each image that has any."""

    def __len__(self) -> int:
        return len(self.annot_id)

    def touching(
        self, gid: Any, window: tuple[float, float, float, float], to_space: np.ndarray[Any, Any] | None = None
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """
        Annotations of an image that share area with a window.

        Parameters
        ----------
        window
            y start, y stop, x start, x stop.
        to_space
            Transform from image space to the space of the window; None if they are the same.

        Returns
        -------
        rows, boxes
            Row numbers, shape (k,), and boxes in the space of the window, shape (k, 4).
        """
        rows = self.rows.get(gid)
        if rows is None:
            return np.empty(0, np.intp), np.empty((0, 4))
        boxes = self.bbox[rows] if to_space is None else warp_boxes(to_space, self.bbox[rows])
        x, y = boxes[:, 0], boxes[:, 1]
        y0, y1, x0, x1 = window
        # Points and lines (boxes without area) touch the window that holds them.
        hit = (x < x1) & (y < y1) & (x + np.maximum(boxes[:, 2], 1e-9) > x0) & (y + np.maximum(boxes[:, 3], 1e-9) > y0)
        found = np.flatnonzero(hit)
        return found + rows.start, boxes[found]


def tabulate(annotations: Sequence[dict[str, Any]]) -> AnnotationTable:
    """The table of kwcoco's annotation dictionaries."""
    gids = np.array([a["image_id"] for a in annotations])
    order = np.argsort(gids, kind="stable") if len(gids) else np.empty(0, np.intp)
    sorted_gids = gids[order]
    starts = np.flatnonzero(np.r_[True, sorted_gids[1:] != sorted_gids[:-1]]) if len(gids) else np.empty(0, np.intp)
    stops = [*starts[1:].tolist(), len(gids)] if len(gids) else []
    missing = [float("nan")] * 4
    return AnnotationTable(
        gids=sorted_gids,
        annot_id=np.array([a["id"] for a in annotations])[order] if len(gids) else np.empty(0, np.int64),
        category_id=_ids([a.get("category_id") for a in annotations])[order],
        track_id=_ids([a.get("track_id") for a in annotations])[order],
        bbox=np.array([a.get("bbox") or missing for a in annotations], float).reshape(-1, 4)[order],
        rows={sorted_gids[a].item(): slice(a, b) for a, b in zip(starts.tolist(), stops, strict=True)},
    )


def _ids(values: list[Any]) -> np.ndarray[Any, Any]:
    """Integers with `NO_ID` for none; strings with '' for none as soon as one of them is a string."""
    if any(isinstance(v, str) for v in values):
        return np.array(["" if v is None else str(v) for v in values])
    return np.array([NO_ID if v is None else v for v in values], np.int64)
