"""What is drawn over an image: annotations, and the windows of a table of targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ndzarr._indexing.affine import IDENTITY, warp_boxes
from ndzarr._sampling.annotations import OWN_COLUMNS, Lookup
from ndzarr._sampling.detections import image_size_of
from ndzarr._sampling.sample import context_of
from ndzarr._sampling.segmentations import labelled_points, shape_of, understood
from ndzarr._sampling.target import parse
from ndzarr._viewer.items import Interval, Item, Position, Source, item_of
from ndzarr._viewer.render import CLASSES, class_colors
from ndzarr.targets.table import TargetsLike, as_table
from ndzarr.targets.windows import window_columns

MOST = 5000
"""Most shapes that are sent at a time; the largest ones come first."""
LONGEST = 200
"""Most characters of a value of an annotation that are sent."""


def categories_of(item: Item) -> list[dict[str, Any]]:
    """Return id, name and colour of each category."""
    if item.source.dset is None:
        return []
    found = item.source.dset.dataset.get("categories", ())
    return [{"id": c["id"], "name": str(c.get("name", c["id"])), "color": _color(k)} for k, c in enumerate(found, 1)]


def _color(k: int) -> str:
    return bytes(class_colors()[1 + k % (CLASSES - 1)]).hex()


def annotations_of(item: Item, at: Position, y: Interval, x: Interval) -> dict[str, Any]:
    """
    Return the annotations of a frame that touch a window: their number, and the largest `MOST` of them.

    Boxes (x, y, width, height), outlines and keypoints are in native pixels of the image, or of the space of the video.
    """
    if item.source.dset is None:
        return {"total": 0, "shapes": []}
    target = item.window(at, y, x)
    context = context_of(item.source, target, parse(target), item.scene(at, y, x), Lookup(True))
    found = context.found
    assert found is not None
    to_image = np.array([[1, 0, x[0]], [0, 1, y[0]], [0, 0, 1.0]])  # samples begin at the window
    boxes = warp_boxes(to_image, found.columns["bbox"])
    order = np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")
    size, to_native = image_size_of(context, 0), to_image @ found.to_sample[0]
    shapes = []
    for i in order[:MOST].tolist():
        record = found.known[found.columns["annot_id"][i].item()]
        shape = shape_of(record, size)
        parts = () if shape is None else shape.to_polygons().warped(to_native).parts
        given = record.get("keypoints")
        with understood(record, "keypoints"):
            points = np.empty((0, 2)) if given is None or not len(given) else labelled_points(given)
        further = {name: _plain(found.columns[name][i]) for name in found.columns if name not in OWN_COLUMNS}
        shapes.append({
            "id": record["id"],
            "category": record.get("category_id"),
            "track": record.get("track_id"),
            "box": np.round(boxes[i], 2).tolist(),
            "rings": [np.round(ring, 2).tolist() for part in parts for ring in part],
            "points": np.round(points @ to_native[:2, :2].T + to_native[:2, 2], 2).tolist(),
            "further": {name: value for name, value in further.items() if value not in (None, "", 0)},
        })  # fmt: skip
    return {"total": len(order), "shapes": shapes}


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return value[:LONGEST] if isinstance(value, str) else None if value != value else value  # JSON has no NaN


class TargetWindows:
    """The windows of a table of targets; frames are found by a few vector operations."""

    def __init__(self, targets: TargetsLike, source: Source) -> None:
        table = as_table(targets)
        self.source = source
        self.columns = window_columns(table, source)
        self.kinds = table["kind"].astype(str).to_numpy() if "kind" in table else np.full(len(table), "target")
        """'positive', 'negative', 'ignored', or 'target' where the table does not say."""

    def places(self) -> Iterator[tuple[Item, Position]]:
        """Yield each image that has windows, and of each video the first frame that a row asks for."""
        seen = set()
        for gid in self.columns.gids:
            item = item_of(self.source, gid)
            name = next(iter(item.target.items()))
            if name not in seen:
                seen.add(name)
                yield item, Position(item.gids.index(gid))

    def of(self, item: Item, at: Position, y: Interval, x: Interval) -> dict[str, Any]:
        """Return the windows of a frame that touch a window: number by kind, and the first `MOST` of them."""
        frame, found = item.frame(at.t), self.columns
        if item.source is not self.source or frame.gid not in found.gids:
            return {"total": 0, "kinds": {}, "shapes": []}
        rows = found.row[found.frame == found.gids.index(frame.gid)]
        lo, hi = (np.stack([found.x[rows, k], found.y[rows, k]], axis=1) for k in (0, 1))
        boxes = np.concatenate([lo, hi - lo], axis=1).astype(float)
        if "vidid" in item.target and not np.array_equal(frame.to_video, IDENTITY):
            image = ~found.video[rows]  # these are windows of the image, which is shown in the space of its video
            boxes[image] = warp_boxes(frame.to_video, boxes[image])
        near = (boxes[:, 0] < x[1]) & (boxes[:, 1] < y[1])
        near &= (boxes[:, 0] + boxes[:, 2] > x[0]) & (boxes[:, 1] + boxes[:, 3] > y[0])
        rows, boxes = rows[near], boxes[near]
        kinds = self.kinds[rows]
        names, numbers = np.unique(kinds.astype(str), return_counts=True)
        shapes = [
            {"id": row, "kind": str(kind), "box": np.round(box, 2).tolist()}
            for row, kind, box in zip(rows[:MOST].tolist(), kinds, boxes, strict=False)
        ]
        by_kind: Mapping[str, int] = dict(zip(names.tolist(), numbers.tolist(), strict=True))
        return {"total": len(rows), "kinds": by_kind, "shapes": shapes}
