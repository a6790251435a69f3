"""Which annotations touch a window?

The annotations of a dataset as columns, sorted by image, so that a look-up is a few vector operations on one image's
rows. Boxes are x, y, width, height in image space; what is asked in another space is warped first.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.geometry.affine import scale_offset, warp_boxes
from ndzarr.sampler.columns import boxes_of, ids_of
from ndzarr.sampler.forms import flag, real, several
from ndzarr.sampler.placed import Kept, Placed, place
from ndzarr.sampler.scene import Scene

NO_ROWS = slice(0, 0)
"""Those of an image without annotations."""


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
    position: np.ndarray[Any, Any]
    """Where the dataset lists the annotation of each row; shape (n,)."""
    kept: Kept = field(default_factory=Kept, repr=False, compare=False)
    """Boxes in the spaces that were sampled lately."""

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
        rows, _, boxes = self.placed(((gid, to_space),)).touching(window)
        return rows, boxes

    def placed(self, images: Sequence[tuple[Any, np.ndarray[Any, Any] | None]]) -> Placed:
        """
        The boxes of images in the space that they are sampled in; kept for the next look-up.

        Parameters
        ----------
        images
            Image id, and the transform from image space to that space, None if they are the same.
        """
        key = tuple([(gid, None if to is None else to.tobytes()) for gid, to in images])
        found = self.kept.get(key)
        if found is None:
            parts = [(self.rows.get(gid, NO_ROWS), to) for gid, to in images]
            found = place([(rows, self.columns[:, rows], to) for rows, to in parts])
            self.kept.put(key, found)
        return found


def tabulate(annotations: Sequence[dict[str, Any]]) -> AnnotationTable:
    """The table of kwcoco's annotation dictionaries."""
    gids = np.array([a["image_id"] for a in annotations])
    boxes = boxes_of(annotations)
    order = np.argsort(gids, kind="stable") if len(gids) else np.empty(0, np.intp)
    sorted_gids = gids[order]
    starts = np.flatnonzero(np.r_[True, sorted_gids[1:] != sorted_gids[:-1]]) if len(gids) else np.empty(0, np.intp)
    stops = [*starts[1:].tolist(), len(gids)] if len(gids) else []
    return AnnotationTable(
        gids=sorted_gids,
        annot_id=np.array([a["id"] for a in annotations])[order] if len(gids) else np.empty(0, np.int64),
        category_id=ids_of([a.get("category_id") for a in annotations])[order],
        track_id=ids_of([a.get("track_id") for a in annotations])[order],
        columns=np.ascontiguousarray(boxes[order].T),
        rows={sorted_gids[a].item(): slice(a, b) for a, b in zip(starts.tolist(), stops, strict=True)},
        position=order,
    )


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
        if self.with_annots is True and self.annot_ids is None and self.visible_thresh == 0.0 and self.clip is False:
            return  # nearly always
        if self.annot_ids is not None and several(self.annot_ids) is None:
            raise TargetError(f"annot_ids={self.annot_ids!r}: expected a sequence of annotation ids")
        least = real(self.visible_thresh)
        if least is None or not 0 <= least <= 1:
            raise TargetError(f"visible_thresh={self.visible_thresh!r}: expected a fraction from 0 to 1")
        if not isinstance(self.with_annots, str | bool) and several(self.with_annots) is None:
            flag("with_annots", self.with_annots)
        flag("clip", self.clip)
        unknown = set(self.geometry) - set(GEOMETRY)
        if unknown:
            raise TargetError(
                f"with_annots={self.with_annots!r}: expected True, False or some of {', '.join(GEOMETRY)}"
            )

    @property
    def wanted(self) -> bool:
        """False where no annotations are looked up."""
        return self.with_annots is True or several(self.with_annots) is not None or bool(self.with_annots)

    @property
    def geometry(self) -> tuple[str, ...]:
        """Which of `GEOMETRY` are wanted."""
        if self.with_annots is True:
            return GEOMETRY
        if isinstance(self.with_annots, str):
            return tuple(self.with_annots.split("+"))
        named = several(self.with_annots)
        return GEOMETRY if named is None else named


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Annotations of a sample."""

    columns: dict[str, np.ndarray[Any, Any]]
    """annot_id, category_id, track_id, frame (position along t), each (annot,); bbox (annot, 4): x, y, width, height in
    sample pixels."""
    known: Mapping[Any, dict[str, Any]]
    """Annotation id to kwcoco's dictionary: these, and perhaps more."""
    scene: Scene
    """What was sampled."""

    @property
    def records(self) -> tuple[dict[str, Any], ...]:
        """Dictionaries of kwcoco, in the order of the columns."""
        return tuple([self.known[i] for i in self.columns["annot_id"].tolist()])

    @property
    def to_sample(self) -> tuple[np.ndarray[Any, Any], ...]:
        """3x3 from image space to sample pixels, per frame."""
        scene = self.scene
        py, px = scene.pitch
        inverse = scale_offset((1 / px, 1 / py), (-scene.x[0] / px, -scene.y[0] / py))
        return tuple(inverse @ f.to_video if scene.video else inverse for f in scene.frames)

    def __reduce__(self) -> tuple[Any, ...]:
        """It pickles with the dictionaries of these annotations, not with those of the whole dataset."""
        ids = self.columns["annot_id"].tolist()
        return Found, (self.columns, dict(zip(ids, self.records, strict=True)), self.scene)


def find(table: AnnotationTable, records: Mapping[Any, dict[str, Any]], scene: Scene, lookup: Lookup) -> Found:
    """
    The annotations of a scene, moved to sample pixels.

    Parameters
    ----------
    records
        Annotation id to kwcoco's dictionary.
    """
    window = (*scene.y, *scene.x)
    if lookup.annot_ids is None:
        images = [(f.gid, f.to_video) for f in scene.frames] if scene.video else [(scene.frames[0].gid, None)]
        rows, frame, boxes = table.placed(images).touching(window)
    else:
        rows, frame, boxes = _asked(table, records, scene, lookup.annot_ids)
    if lookup.visible_thresh > 0:
        seen = _visible(boxes, window) >= lookup.visible_thresh
        rows, frame, boxes = rows[seen], frame[seen], boxes[seen]
    _in_sample(boxes, scene)  # they were gathered for this sample
    columns = {
        "annot_id": table.annot_id.take(rows),
        "category_id": table.category_id.take(rows),
        "track_id": table.track_id.take(rows),
        "frame": frame,
        "bbox": _clipped(boxes, scene.n) if lookup.clip else boxes,
    }
    return Found(columns, records, scene)


def _asked(
    table: AnnotationTable, records: Mapping[Any, dict[str, Any]], scene: Scene, ids: Sequence[Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rows, frames and boxes, in the sampled space, of exactly these annotations."""
    strangers = [aid for aid in ids if not isinstance(aid, Hashable) or aid not in records]
    if strangers:
        raise TargetError(f"annot_ids: the dataset has no annotation {strangers[0]!r}")
    hits = [
        np.array([row for aid in ids if (row := _row(table, frame.gid, aid)) is not None], np.intp)
        for frame in scene.frames
    ]
    boxes = [
        warp_boxes(frame.to_video, table.bbox[rows]) if scene.video else table.bbox[rows]
        for frame, rows in zip(scene.frames, hits, strict=True)
    ]
    return np.concatenate(hits), np.repeat(np.arange(len(hits)), [len(rows) for rows in hits]), np.concatenate(boxes)


def _in_sample(boxes: np.ndarray[Any, Any], scene: Scene) -> None:
    """Move boxes from the sampled space to sample pixels, where they are."""
    py, px = scene.pitch
    columns = boxes.T  # numpy is slow along axes of four
    columns[0] -= float(scene.x[0])  # which may be more than 64 bits hold
    columns[1] -= float(scene.y[0])
    if px != 1:
        columns[0::2] /= px
    if py != 1:
        columns[1::2] /= py


def _row(table: AnnotationTable, gid: Any, aid: Any) -> int | None:
    """The row of an annotation, if it is one of that image."""
    whole = table.rows.get(gid, NO_ROWS)
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
