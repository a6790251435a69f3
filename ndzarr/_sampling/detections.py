"""The annotations of a sample as kwimage objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ndzarr._sampling.annotations import NO_ID, OWN_COLUMNS, box_of
from ndzarr._sampling.sample import Context, Cut
from ndzarr._sampling.segmentations import Polygons, masks_in, origin_of, shape_of, understood

# --- Segmentations and keypoints.


def segmentation(record: Mapping[str, Any], size: tuple[int, int] | None, to_sample: np.ndarray[Any, Any]) -> Any:
    """
    The `kwimage.MultiPolygon` of an annotation in sample pixels; None if it has no shape.

    `size` is the (width, height) of image space, and `to_sample` maps that.
    """
    shape = shape_of(record, size)
    if shape is None:
        return None
    from ndzarr._sampling.coco_polygons import coco_multi_polygon

    return coco_multi_polygon(shape.to_polygons().warped(to_sample), origin_of(to_sample))


def masks(context: Context, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """
    Return the pixels inside each annotation, or inside its box where it has no shape; bool (annot, y, x).

    They are those of pycocotools, for polygons at any scale; of masks, the pixels whose centres lie inside.
    """
    found = context.found
    if found is None:
        return np.zeros((0, *size), bool)
    frames, to_sample = found.columns["frame"].tolist(), found.to_sample
    sizes = [image_size_of(context, t) for t in range(len(to_sample))]
    shapes: list[Any] = []
    for record, t in zip(found.records, frames, strict=True):
        shape = shape_of(record, sizes[t])
        if shape is None and (box := box_of(record, sizes[t])) is not None:
            shape = Polygons.around(box)
        shapes.append(shape)
    return masks_in(shapes, [to_sample[t] for t in frames], size)


def image_size_of(context: Context, t: int) -> tuple[int, int] | None:
    """Return (width, height) of the image of a frame, where that is known without its file."""
    scene = context.scene
    stated = scene.frames[t].size
    return stated if stated is not None or scene.video else (scene.space[1], scene.space[0])


def keypoints(
    record: Mapping[str, Any],
    names: Any,
    of_category: Callable[[Any], Sequence[str] | None],
    to_sample: np.ndarray[Any, Any],
) -> Any:
    """
    The `kwimage.Points` of an annotation in sample pixels; None if it has none.

    Parameters
    ----------
    names
        The tree of keypoint categories; None if the dataset has none.
    of_category
        Names of the keypoints of a category, where those of annotations are flat x, y, visibility triples.
    to_sample
        From image space to sample pixels.
    """
    given = record.get("keypoints")
    if given is None or (hasattr(given, "__len__") and len(given) == 0):
        return None
    import kwimage

    with understood(record, "keypoints"):
        if isinstance(given[0], Mapping):
            return kwimage.Points.from_coco(given, classes=names).warp(to_sample)
        labels = of_category(record.get("category_id"))
        if names is None or labels is None:
            return kwimage.Points.from_coco(given).warp(to_sample)
        classes = np.array([names.index(name) for name in labels])
        return kwimage.Points.from_coco(given, classes, names).warp(to_sample)


def detections(context: Context, cut: Cut | None = None) -> list[Any]:
    """
    One `kwimage.Detections` per frame, in sample pixels, or in those of a part of the sample.

    The boxes are those of the column `bbox`.  Segmentations and keypoints are kwimage's lists, with None where an
    annotation has none; `data['aids']` and `data['cids']` hold ids.
    """
    if cut is None or cut.is_whole(context):
        return [_frame_detections(context, t) for t in range(len(context.scene.frames))]
    parts = [_frame_detections(context, t).warp(cut.from_loaded) for t in cut.frames]
    for t, part in enumerate(parts):
        part.meta["rel_frame_index"] = t
    return parts


def _frame_detections(context: Context, t: int) -> Any:
    import kwimage

    found = context.found
    rows = [] if found is None else np.flatnonzero(found.columns["frame"] == t).tolist()
    records = [found.records[i] for i in rows] if found is not None else []
    boxes = found.columns["bbox"][rows] if found is not None and rows else np.empty((0, 4))
    ids = found.columns["annot_id"][rows] if found is not None and rows else np.empty(0, int)
    categories = [NO_ID if r.get("category_id") is None else r["category_id"] for r in records]
    classes = category_tree(context.classes)
    data: dict[str, Any] = {
        "aids": ids,
        "cids": np.array(categories, int),
        "boxes": kwimage.Boxes(np.asarray(boxes, float), "xywh"),
    }
    further = [] if found is None else [name for name in found.columns if name not in OWN_COLUMNS]
    if found is not None:
        data |= {name: found.columns[name][rows] for name in further}
    if classes is not None and all(c in classes.id_to_idx for c in categories):
        data["class_idxs"] = np.array([classes.id_to_idx[c] for c in categories], int)
    if found is not None and "keypoints" in context.geometry:
        data["keypoints"] = _keypoints(context, records, found.to_sample[t])
    dets = kwimage.Detections(
        **data, classes=classes, rel_frame_index=t, gid=context.scene.frames[t].gid,
        datakeys=["aids", "cids", *further], metakeys=["gid", "rel_frame_index"],
    )  # fmt: skip
    if found is not None and "segmentation" in context.geometry:  # its constructor would wrap each polygon once more
        dets.data["segmentations"] = _segmentations(context, t, records, found.to_sample[t])
    return dets


def _segmentations(context: Context, t: int, records: list[dict[str, Any]], to_sample: np.ndarray[Any, Any]) -> Any:
    import kwimage

    size = image_size_of(context, t)
    return kwimage.SegmentationList([segmentation(record, size, to_sample) for record in records])


def _keypoints(context: Context, records: list[dict[str, Any]], to_sample: np.ndarray[Any, Any]) -> Any:
    import kwimage

    names = category_tree(context.keypoint_classes)
    labels = {category["id"]: category.get("keypoints") for category in context.classes}
    points = kwimage.PointsList([keypoints(record, names, labels.get, to_sample) for record in records])
    points.meta["classes"] = names
    return points


def category_tree(categories: Any) -> Any:
    """
    The `CategoryTree` of category dictionaries; None where there are none.

    Supercategories that are not categories become classes, as in kwcoco.
    """
    from ndzarr.categories.tree import CategoryTree

    return CategoryTree.from_coco(categories, missing_parents="add") if categories else None
