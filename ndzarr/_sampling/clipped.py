"""The annotations of a sample, clipped to it: what an exported crop shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndzarr._indexing.affine import warp_boxes
from ndzarr._sampling.annotations import Found
from ndzarr._sampling.detections import image_size_of
from ndzarr._sampling.sample import Context
from ndzarr._sampling.segmentations import Polygons, Runs, shape_of

Array = np.ndarray[Any, Any]
_OWN = ("id", "image_id", "bbox", "segmentation", "keypoints", "num_keypoints", "area", "bbox_mode", "caption")
"""Keys of annotations that hold for the whole image alone."""
_SLACK = 1e-6
"""Pixels by which an object may reach beyond a window, from rounding, and not count as cut."""


@dataclass(frozen=True, eq=False)
class ClippedAnnotation:
    """What a window shows of an annotation, in sample pixels."""

    record: Mapping[str, Any]
    """kwcoco's dictionary."""
    frame: int
    """Position along t."""
    box: Array
    """x, y, width, height; the box around the part of its shape that is seen, where it has one and is cut."""
    shape: Polygons | Runs | None
    """The part of its shape that is seen; None if it has none."""
    keypoints: Any
    """In COCO's form, those outside with visibility 0; None without."""

    @property
    def further(self) -> dict[str, Any]:
        """The other keys of the annotation, such as category_id, track_id, score and iscrowd."""
        return {key: value for key, value in self.record.items() if key not in _OWN and value is not None}


def clipped_annotations(context: Context) -> list[ClippedAnnotation]:
    """Return what a sample shows of its annotations; those of which it shows nothing are left out."""
    return [] if context.found is None else list(_clipped(context, context.found))


def _clipped(context: Context, found: Found) -> Iterator[ClippedAnnotation]:
    size = context.scene.n
    matrices, frames = found.to_sample, found.columns["frame"].tolist()
    for record, t, box in zip(found.records, frames, found.columns["bbox"], strict=True):
        shape = shape_of(record, image_size_of(context, t))
        seen, cut = _clipped_box(box, size)
        kept: Polygons | Runs | None = None
        if shape is not None:
            kept = _clipped_shape(shape, matrices[t], size)
            around = None if kept is None else kept.box
            if kept is None or around is None:
                continue
            seen = around if cut else seen
        if min(seen[2:]) > 0:
            yield ClippedAnnotation(record, t, seen, kept, _moved_keypoints(record.get("keypoints"), matrices[t], size))


def _clipped_box(box: Array, size: tuple[int, int]) -> tuple[Array, bool]:
    """Return the part of a box in a window of (height, width), and True if that is not all of it."""
    high = np.array(size[::-1], float)
    low, far = np.clip(box[:2], 0, high), np.clip(box[:2] + box[2:], 0, high)
    seen = np.concatenate([low, far - low])
    cut = bool(np.abs(seen - box).max() > _SLACK)
    return (seen if cut else box), cut


def _clipped_shape(shape: Polygons | Runs, matrix: Array, size: tuple[int, int]) -> Polygons | Runs | None:
    if isinstance(shape, Runs):
        mask = shape.mask(matrix, size)
        return Runs.of(mask) if mask.any() else None
    moved = shape.warped(matrix)
    around = moved.box
    if around is None:
        return None
    if not _clipped_box(around, size)[1]:
        return moved
    import shapely

    return Polygons.of_geometry(shapely.intersection(moved.geometry, shapely.box(0, 0, size[1], size[0])))


def _moved_keypoints(given: Any, matrix: Array, size: tuple[int, int]) -> Any:
    if given is None or not len(given):
        return None
    if isinstance(given[0], Mapping):
        moved = _moved([point["xy"] for point in given], matrix)
        return [{**point, "xy": xy} for point, xy in zip(given, moved.tolist(), strict=True)]
    triples = np.asarray(given, float).reshape(-1, 3)
    xy, seen = _moved(triples[:, :2], matrix), triples[:, 2]
    inside = (seen > 0) & (xy >= 0).all(axis=1) & (xy <= (size[1], size[0])).all(axis=1)
    return np.where(inside[:, None], np.column_stack([xy, seen]), 0.0).ravel().tolist()


def _moved(points: Sequence[Any] | Array, matrix: Array) -> Array:
    boxes = np.column_stack([np.asarray(points, float), np.zeros((len(points), 2))])
    return np.asarray(warp_boxes(matrix, boxes)[:, :2])
