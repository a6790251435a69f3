"""The annotations of a sample, clipped to it: what an exported crop shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndzarr._indexing.affine import warp_boxes
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
    """In COCO's form, or kwcoco's; those outside have the visibility 0 and no place.  None without."""

    @property
    def further(self) -> dict[str, Any]:
        """The other keys of the annotation, such as category_id, track_id, score and iscrowd."""
        return {key: value for key, value in self.record.items() if key not in _OWN and value is not None}


def clipped_annotations(context: Context) -> list[ClippedAnnotation]:
    """Return what a sample shows of its annotations; those of which it shows nothing are left out."""
    found = context.found
    if found is None:
        return []
    matrices, frames = found.to_sample, found.columns["frame"].tolist()
    clipped = clipped_rows(
        found.records, frames, found.columns["bbox"], context.scene.n, lambda k: matrices[frames[k]],
        lambda k: image_size_of(context, frames[k]),
    )  # fmt: skip
    return [label for label in clipped if label is not None]


def clipped_rows(
    records: Iterable[Mapping[str, Any]],
    frames: Sequence[int],
    boxes: Array,
    size: tuple[int, int],
    to_sample: Callable[[int], Array],
    image_size: Callable[[int], tuple[int, int] | None],
) -> Iterator[ClippedAnnotation | None]:
    """
    Yield what samples show of annotations; None for each of which nothing is seen.

    Parameters
    ----------
    records, frames
        kwcoco's dictionary of each annotation, and its position along t.
    boxes
        x, y, width, height in sample pixels; shape (n, 4).
    size
        (height, width) of the samples.
    to_sample
        Returns the 3x3 from image space to pixels of the sample that shows the n-th annotation.
    image_size
        Returns the (width, height) of its image; None if that is not known.
    """
    seen, cut = _clipped_boxes(boxes, size)
    for k, (record, t) in enumerate(zip(records, frames, strict=True)):
        shape, box, kept = shape_of(record, image_size(k)), seen[k], None
        if shape is not None:
            kept = _clipped_shape(shape, to_sample(k), size)
            around = None if kept is None else kept.box
            if around is None:
                yield None
                continue
            box = around if cut[k] else box
        if min(box[2:].tolist()) > 0:
            points = record.get("keypoints")
            points = _moved_keypoints(points, to_sample(k), size) if points is not None and len(points) else None
            yield ClippedAnnotation(record, t, box, kept, points)
        else:
            yield None


def _clipped_boxes(boxes: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Return the parts of boxes (n, 4) in a window of (height, width), and where (n,) that is not all of it."""
    high = np.array(size[::-1], float)
    low, far = np.clip(boxes[:, :2], 0, high), np.clip(boxes[:, :2] + boxes[:, 2:], 0, high)
    seen = np.concatenate([low, far - low], axis=1)
    cut = np.abs(seen - boxes).max(axis=1) > _SLACK
    return np.where(cut[:, None], seen, boxes), cut


def _clipped_shape(shape: Polygons | Runs, matrix: Array, size: tuple[int, int]) -> Polygons | Runs | None:
    if isinstance(shape, Runs):
        mask = shape.mask(matrix, size)
        return Runs.of(mask) if mask.any() else None
    moved = shape.warped(matrix)
    around = moved.box
    if around is None:
        return None
    if not _clipped_boxes(around[None], size)[1][0]:
        return moved
    import shapely

    return Polygons.of_geometry(shapely.intersection(moved.geometry, shapely.box(0, 0, size[1], size[0])))


def _moved_keypoints(given: Any, matrix: Array, size: tuple[int, int]) -> Any:
    named = isinstance(given[0], Mapping)
    triples = np.array([(*p["xy"], p.get("visible", 2)) for p in given] if named else given, float).reshape(-1, 3)
    xy, seen = _moved(triples[:, :2], matrix), triples[:, 2]
    inside = (seen > 0) & (xy >= 0).all(axis=1) & (xy <= (size[1], size[0])).all(axis=1)
    moved = np.where(inside[:, None], np.column_stack([xy, seen]), 0.0)
    if not named:
        return moved.ravel().tolist()
    hidden = {"xy": [0.0, 0.0], "visible": 0}
    points = zip(given, moved[:, :2].tolist(), inside.tolist(), strict=True)
    return [{**point, **({"xy": xy} if there else hidden)} for point, xy, there in points]


def _moved(points: Sequence[Any] | Array, matrix: Array) -> Array:
    boxes = np.column_stack([np.asarray(points, float), np.zeros((len(points), 2))])
    return np.asarray(warp_boxes(matrix, boxes)[:, :2])
