"""Which annotations touch a window?

The annotations of a dataset as columns, sorted by image, so that a look-up is a few vector operations on one image's
rows. Boxes are x, y, width, height in image space; what is asked in another space is warped first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.geometry.affine import scale_offset, warp_boxes
from ndzarr.sampler.scene import Frame, Scene

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
    columns: np.ndarray[Any, Any]
    """Shape (4, n): x, y, width, height in image space, each contiguous, so that a look-up streams through them; NaN
    where an annotation has no box."""
    rows: dict[Any, slice]
    """The rows of each image that has any."""

    def __len__(self) -> int:
        return len(self.annot_id)

    @property
    def bbox(self) -> np.ndarray[Any, Any]:
        """Shape (n, 4): x, y, width, height in image space; NaN where an annotation has no box."""
        return self.columns.T

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
        x, y, w, h = self.columns[:, rows]
        if to_space is not None:
            x, y, w, h = _warped(to_space, x, y, w, h)
        y0, y1, x0, x1 = window
        # Points and lines (boxes without area) touch the window that holds them.
        hit = x < x1
        hit &= y < y1
        hit &= x + np.maximum(w, 1e-9) > x0
        hit &= y + np.maximum(h, 1e-9) > y0
        found = np.flatnonzero(hit)
        boxes = np.empty((len(found), 4))
        for k, column in enumerate((x, y, w, h)):
            boxes[:, k] = column[found]
        return found + rows.start, boxes


def _warped(matrix: np.ndarray[Any, Any], x: Any, y: Any, w: Any, h: Any) -> Sequence[np.ndarray[Any, Any]]:
    """Columns of the upright boxes that hold the images of boxes; `warp_boxes`, shorter where nothing is rotated."""
    (a, b, c), (d, e, f) = matrix[:2].tolist()
    if b == 0 == d and a > 0 and e > 0:
        return a * x + c, e * y + f, a * w, e * h
    left, top = a * x + b * y + c, d * x + e * y + f
    for coefficient, edge, length in ((a, left, w), (b, left, h), (d, top, w), (e, top, h)):
        if coefficient < 0:
            edge += coefficient * length
    return left, top, abs(a) * w + abs(b) * h, abs(d) * w + abs(e) * h


def tabulate(annotations: Sequence[dict[str, Any]]) -> AnnotationTable:
    """The table of kwcoco's annotation dictionaries."""
    gids = np.array([a["image_id"] for a in annotations])
    boxes = _boxes(annotations)
    order = np.argsort(gids, kind="stable") if len(gids) else np.empty(0, np.intp)
    sorted_gids = gids[order]
    starts = np.flatnonzero(np.r_[True, sorted_gids[1:] != sorted_gids[:-1]]) if len(gids) else np.empty(0, np.intp)
    stops = [*starts[1:].tolist(), len(gids)] if len(gids) else []
    return AnnotationTable(
        gids=sorted_gids,
        annot_id=np.array([a["id"] for a in annotations])[order] if len(gids) else np.empty(0, np.int64),
        category_id=_ids([a.get("category_id") for a in annotations])[order],
        track_id=_ids([a.get("track_id") for a in annotations])[order],
        columns=np.ascontiguousarray(boxes[order].T),
        rows={sorted_gids[a].item(): slice(a, b) for a, b in zip(starts.tolist(), stops, strict=True)},
    )


def _boxes(annotations: Sequence[dict[str, Any]]) -> np.ndarray[Any, Any]:
    missing = (float("nan"),) * 4
    boxes = [a.get("bbox") or missing for a in annotations]
    try:
        flat = np.fromiter(chain.from_iterable(boxes), float, 4 * len(boxes))
        if any(len(box) != 4 for box in boxes):
            raise ValueError
    except (TypeError, ValueError):
        wrong = next(a for a in annotations if not _is_box(a.get("bbox") or missing))
        raise TargetError(
            f"annotation {wrong.get('id')!r}: bbox={wrong['bbox']!r} is not x, y, width, height"
        ) from None
    return flat.reshape(-1, 4)


def _is_box(box: Any) -> bool:
    try:
        return len(box) == 4 and all(float(v) is not None for v in box)
    except (TypeError, ValueError):
        return False


def _ids(values: list[Any]) -> np.ndarray[Any, Any]:
    """Integers with `NO_ID` for none; strings with '' for none as soon as one of them is a string."""
    kinds = set(map(type, values))
    if str in kinds:
        return np.array(["" if v is None else str(v) for v in values])
    if kinds <= {int}:
        return np.array(values, np.int64)
    return np.array([NO_ID if v is None else v for v in values], np.int64)


GEOMETRY = ("boxes", "segmentation", "keypoints")
"""What `with_annots` may name."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Which annotations are wanted with a sample."""

    with_annots: bool | str | Sequence[str] = True
    """False for none; text or a sequence restricts the geometry to some of `GEOMETRY`."""
    annot_ids: Sequence[Any] | None = None
    """Exactly these; None for those that touch the window."""
    visible_thresh: float = 0.0
    """Least fraction of the area of a box that lies in the window."""
    clip: bool = False
    """Clip boxes to the window."""

    def __post_init__(self) -> None:
        unknown = set(self.geometry) - set(GEOMETRY)
        if unknown:
            raise TargetError(
                f"with_annots={self.with_annots!r}: expected True, False or some of {', '.join(GEOMETRY)}"
            )

    @property
    def wanted(self) -> bool:
        """False where no annotations are looked up."""
        return self.with_annots is not False

    @property
    def geometry(self) -> tuple[str, ...]:
        """Which of `GEOMETRY` are wanted."""
        if isinstance(self.with_annots, bool):
            return GEOMETRY
        return tuple(self.with_annots.split("+") if isinstance(self.with_annots, str) else self.with_annots)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Annotations of a sample."""

    columns: dict[str, np.ndarray[Any, Any]]
    """annot_id, category_id, track_id, frame (position along t), each (annot,); bbox (annot, 4): x, y, width, height in
    sample pixels."""
    records: tuple[dict[str, Any], ...]
    """kwcoco's dictionaries, in the same order."""
    to_sample: tuple[np.ndarray[Any, Any], ...]
    """3x3 from image space to sample pixels, per frame."""


def find(table: AnnotationTable, records: Mapping[Any, dict[str, Any]], scene: Scene, lookup: Lookup) -> Found:
    """
    The annotations of a scene, moved to sample pixels.

    Parameters
    ----------
    records
        Annotation id to kwcoco's dictionary.
    """
    strangers = [aid for aid in lookup.annot_ids or () if aid not in records]
    if strangers:
        raise TargetError(f"annot_ids: the dataset has no annotation {strangers[0]!r}")
    hits = [_in_frame(table, scene, frame, lookup) for frame in scene.frames]
    rows = hits[0][0] if len(hits) == 1 else np.concatenate([r for r, _ in hits])
    boxes = hits[0][1] if len(hits) == 1 else np.concatenate([b for _, b in hits])
    py, px = scene.pitch
    boxes = (boxes - (scene.x[0], scene.y[0], 0, 0)) / (px, py, px, py)
    if lookup.clip:
        boxes = _clipped(boxes, scene.n)
    ids = table.annot_id[rows]
    columns = {
        "annot_id": ids,
        "category_id": table.category_id[rows],
        "track_id": table.track_id[rows],
        "frame": np.repeat(np.arange(len(hits)), [len(r) for r, _ in hits]),
        "bbox": boxes,
    }
    inverse = scale_offset((1 / px, 1 / py), (-scene.x[0] / px, -scene.y[0] / py))
    to_sample = tuple(inverse @ f.to_video if scene.video else inverse for f in scene.frames)
    return Found(columns, tuple([records[i] for i in ids.tolist()]), to_sample)


def _in_frame(
    table: AnnotationTable, scene: Scene, frame: Frame, lookup: Lookup
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rows and boxes, in the sampled space, of the annotations of a frame that are wanted."""
    window = (*scene.y, *scene.x)
    if lookup.annot_ids is None:
        rows, boxes = table.touching(frame.gid, window, scene.to_space(frame))
    else:
        rows = np.array([row for aid in lookup.annot_ids if (row := _row(table, frame.gid, aid)) is not None], np.intp)
        boxes = table.bbox[rows] if not scene.video else warp_boxes(frame.to_video, table.bbox[rows])
    if lookup.visible_thresh > 0:
        seen = _visible(boxes, window) >= lookup.visible_thresh
        rows, boxes = rows[seen], boxes[seen]
    return rows, boxes


def _row(table: AnnotationTable, gid: Any, aid: Any) -> int | None:
    """The row of an annotation, if it is one of that image."""
    whole = table.rows.get(gid, slice(0, 0))
    found = np.flatnonzero(table.annot_id[whole] == aid)
    return whole.start + int(found[0]) if len(found) else None


def _visible(boxes: np.ndarray[Any, Any], window: tuple[float, float, float, float]) -> np.ndarray[Any, Any]:
    """Fraction of the area of each box that lies in the window; boxes without area count as visible."""
    y0, y1, x0, x1 = window
    x, y, w, h = boxes.T
    common = np.maximum(np.minimum(x + w, x1) - np.maximum(x, x0), 0) * np.maximum(
        np.minimum(y + h, y1) - np.maximum(y, y0), 0
    )
    return np.where(w * h > 0, common / np.where(w * h > 0, w * h, 1), 1.0)


def _clipped(boxes: np.ndarray[Any, Any], n: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Boxes in sample pixels, cut at the borders of the sample."""
    low = np.clip(boxes[:, :2], 0, (n[1], n[0]))
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, (n[1], n[0]))
    return np.concatenate([low, high - low], axis=1)
