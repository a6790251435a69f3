"""The annotations of a sample as kwimage objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ndzarr._sampling.annotations import NO_ID
from ndzarr._sampling.sample import Context, Cut
from ndzarr.errors import TargetError

# --- Segmentations and keypoints.


@contextmanager
def understood(record: Mapping[str, Any], key: str) -> Iterator[None]:
    """Name the annotation in errors about a value that has none of COCO's forms."""
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise TargetError(
            f"annotation {record.get('id')!r}: its {key} has none of COCO's forms "
            f"({type(error).__name__}{': ' * bool(reason)}{reason[:200]})",
            key=key,
        ) from error


def segmentation(record: Mapping[str, Any], size: tuple[int, int] | None, to_sample: np.ndarray[Any, Any]) -> Any:
    """
    The `kwimage.MultiPolygon` of an annotation in sample pixels; None if it has none.

    `size` is the (width, height) of image space, for masks that do not state theirs; `to_sample` maps image space.
    """
    outline = record.get("segmentation")
    if outline is None or len(_sized(outline)) == 0:
        return None
    import kwimage

    with understood(record, "segmentation"):
        if isinstance(outline, Mapping) and "counts" in outline:
            return _mask(outline, size).to_multi_polygon().warp(to_sample)
        polygon = kwimage.MultiPolygon.coerce(outline)
        return None if polygon is None else polygon.to_multi_polygon().warp(to_sample)


def _sized(value: Any) -> Any:
    return value if hasattr(value, "__len__") else (value,)


def _mask(runs: Mapping[str, Any], size: tuple[int, int] | None) -> Any:
    """A mask of run lengths: numbers, or the text that pycocotools makes of them; (height, width) as it states them."""
    import kwimage

    stated = runs.get("size", runs.get("shape", runs.get("dims")))
    if stated is None and size is None:
        raise ValueError("a mask needs its size, (height, width)")
    height, width = map(int, size[::-1] if stated is None else stated)  # type: ignore[index]
    data = {**runs, "size": [height, width], "shape": (height, width)}
    if isinstance(runs["counts"], str | bytes):
        data["counts"] = _counts(runs["counts"])
    if (total := int(np.sum(data["counts"]))) != height * width:
        raise ValueError(f"its runs are {total} pixels, {height} x {width} are {height * width}")
    return kwimage.Mask(data, "array_rle")


def _counts(text: str | bytes) -> list[int]:
    """
    Decode the run lengths in pycocotools' text, without pycocotools.

    Five bits a letter, the low ones first; a sixth says that more follow, the last one's highest is the sign.  From the
    fourth run on it is the difference to the last but one.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text.encode() if isinstance(text, str) else text:
        bits = letter - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{chr(letter)!r} is not a letter of a compressed mask")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (1 << shift) if bits & 16 else 0
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


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
    if given is None or len(_sized(given)) == 0:
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

    Supercategories that are not categories become classes, as in kwcoco.
    """
    from ndzarr.categories.tree import CategoryTree

    return CategoryTree.from_coco(categories, missing_parents="add") if categories else None
