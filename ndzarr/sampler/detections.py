"""How do a sample's annotations become kwimage objects?"""

from __future__ import annotations

from typing import Any

import numpy as np

from ndzarr.sampler.columns import NO_ID
from ndzarr.sampler.cut import Cut
from ndzarr.sampler.sample import Context
from ndzarr.sampler.shapes import keypoints, segmentation


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
    if classes is not None and all(c in classes.id_to_idx for c in categories):
        data["class_idxs"] = np.array([classes.id_to_idx[c] for c in categories], int)
    if found is not None and "keypoints" in context.geometry:
        data["keypoints"] = _keypoints(context, records, found.to_sample[t])
    dets = kwimage.Detections(
        **data, classes=classes, rel_frame_index=t, gid=context.scene.frames[t].gid,
        datakeys=["aids", "cids"], metakeys=["gid", "rel_frame_index"],
    )  # fmt: skip
    if found is not None and "segmentation" in context.geometry:  # its constructor would wrap each polygon once more
        dets.data["segmentations"] = _segmentations(context, t, records, found.to_sample[t])
    return dets


def _segmentations(context: Context, t: int, records: list[dict[str, Any]], to_sample: np.ndarray[Any, Any]) -> Any:
    import kwimage

    size = context.scene.frames[t].size
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

    Supercategories that are no categories become classes, as in kwcoco.

    Raises
    ------
    CategoryError
        Categories do not form a tree.
    """
    from ndzarr.categories import CategoryTree

    return CategoryTree.from_coco(categories, missing_parents="add") if categories else None
