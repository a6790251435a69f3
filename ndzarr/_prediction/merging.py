"""
Merging of boxes that a model found in windows that overlap or meet: each object once.

1. Parts are joined (`join_parts`).  A window's border cuts an object in two, and the windows on its sides see a part
   each, or one a part and the other all of it.  What two windows see of one object agrees in the area that both see, so
   that parts are compared there.  Where windows only meet, that area is the seam between them.
2. Objects that several windows saw as a whole, or a model found twice, are merged: by non-maximum suppression
   (`suppress`), or by weighted boxes fusion (`fuse`; Solovyev et al. 2021, arXiv:1910.13302).

Boxes are left, top, right, bottom.  Only boxes of one class are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from ndzarr.targets.splits import components

Array: TypeAlias = np.ndarray[Any, Any]


def iou(a: Array, b: Array) -> Array:
    """Return intersection over union of pairs of boxes (n, 4); 0 for boxes without area."""
    common = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0).prod(axis=-1)
    either = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - common
    return np.asarray(np.divide(common, either, out=np.zeros(np.shape(common)), where=either > 0))


def touching_pairs(boxes: Array, classes: Array, margin: float = 0.0) -> tuple[Array, Array]:
    """Return the pairs i < j of boxes of one class that come as near as a margin."""
    import shapely

    if not len(boxes):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    grown = boxes + np.array([-1, -1, 1, 1]) * (margin / 2)
    shapes = shapely.box(*grown.T)
    first, second = shapely.STRtree(shapes).query(shapes)
    wanted = (first < second) & (classes[first] == classes[second])
    return first[wanted], second[wanted]


def cut_sides(boxes: Array, windows: Array, size: tuple[float, float], border: float) -> Array:
    """
    Return which sides of boxes lie at a border of their window, beyond which the image goes on; bool (n, 4).

    Parameters
    ----------
    windows
        The window of each box; shape (n, 4).
    size
        (width, height) of the image.
    border
        Pixels by which a side may lie beside the border.
    """
    near = np.array([1, 1, -1, -1]) * (boxes - windows) <= border
    inner = np.stack([windows[:, 0] > 0, windows[:, 1] > 0, windows[:, 2] < size[0], windows[:, 3] < size[1]], axis=1)
    return np.asarray(near & inner)


def join_parts(
    boxes: Array, classes: Array, owner: Array, windows: Array, cut: Array, border: float, threshold: float
) -> Array:
    """
    Return the object that each box is of, numbered from 0: boxes are joined where a border cut one of them.

    Parameters
    ----------
    owner
        Number of the window of each box.
    windows
        The window of each box; shape (n, 4).
    cut
        As `cut_sides` returns it.
    threshold
        Intersection over union in the area that both windows see from which on two parts are of one object.
    """
    # A part goes on beyond the border that cut it.  Its other sides are known to some pixels only, which matters where
    # both windows see but a sliver.
    far = np.where(cut, windows, boxes) + np.array([-1, -1, 1, 1]) * border
    i, j = touching_pairs(far, classes)
    any_cut: Array = np.asarray(cut.any(axis=1))
    kept = (owner[i] != owner[j]) & (any_cut[i] | any_cut[j])
    i, j = i[kept], j[kept]
    low = np.maximum(windows[i, :2], windows[j, :2])
    high = np.minimum(windows[i, 2:], windows[j, 2:])
    seam = high - low < 2 * border  # windows that meet, or nearly so: what lies on both sides
    middle = (low + high) / 2
    low, high = np.where(seam, middle - border, low), np.where(seam, middle + border, high)
    common = np.concatenate([low, high], axis=1)
    same = iou(_within(far[i], common), _within(far[j], common)) >= threshold
    return components(len(boxes), i[same], j[same])


def _within(boxes: Array, limits: Array) -> Array:
    low = np.clip(boxes[:, :2], limits[:, :2], limits[:, 2:])
    return np.concatenate([low, np.clip(boxes[:, 2:], limits[:, :2], limits[:, 2:])], axis=1)


def joined_boxes(boxes: Array, scores: Array, cut: Array, group: Array) -> tuple[Array, Array, list[Array]]:
    """
    Return (box, score, members) of each object.

    A side is that of the member with the highest score whose side no border cut; if all were cut, the outermost.  The
    score is the highest.
    """
    order = np.lexsort((-scores, group))
    starts = np.flatnonzero(np.r_[True, np.diff(group[order]) > 0]) if len(group) else np.empty(0, np.intp)
    members = np.split(order, starts[1:])[: len(starts)]
    out = boxes[[m[0] for m in members]] if members else np.empty((0, 4))
    for k, own in enumerate(members):
        if len(own) == 1:
            continue
        for side in range(4):
            seen = own[~cut[own, side]]
            if len(seen):
                out[k, side] = boxes[seen[0], side]
            else:
                out[k, side] = (np.min if side < 2 else np.max)(boxes[own, side])
    return out, scores[[m[0] for m in members]] if members else np.empty(0), members


def suppress(boxes: Array, scores: Array, classes: Array, threshold: float) -> Array:
    """
    Return the boxes that non-maximum suppression keeps, by descending score.

    A box is left out if a kept one of its class with a higher score has a larger intersection over union with it than
    the threshold.
    """
    order = np.argsort(-scores, kind="stable")
    i, j = touching_pairs(boxes[order], classes[order])
    close = iou(boxes[order[i]], boxes[order[j]]) > threshold
    i, j = i[close], j[close]
    by_first = np.argsort(i, kind="stable")
    i, j = i[by_first], j[by_first]
    starts = np.searchsorted(i, np.arange(len(boxes) + 1))
    kept = np.ones(len(boxes), bool)
    for k in np.unique(i).tolist():
        if kept[k]:
            kept[j[starts[k] : starts[k + 1]]] = False
    return np.asarray(order[kept])


def fuse(boxes: Array, scores: Array, classes: Array, threshold: float) -> Iterator[tuple[Array, float, list[int]]]:
    """
    Yield (box, score, members) of each cluster of weighted boxes fusion, the members in the order of their scores.

    In the order of their scores, boxes join the cluster whose fused box has the largest intersection over union with
    them, if that is more than the threshold.  A fused box is the mean of its members weighted by their scores, and its
    score their mean.
    """
    for value in np.unique(classes):
        own = np.flatnonzero(classes == value)
        own = own[np.argsort(-scores[own], kind="stable")]
        clusters = _Clusters(float((boxes[own, 2:] - boxes[own, :2]).max(initial=1e-9)))
        for k in own.tolist():
            clusters.add(k, boxes[k], float(scores[k]), threshold)
        yield from zip(clusters.boxes, clusters.scores(scores), clusters.members, strict=True)


class _Clusters:
    """Fused boxes of one class, found again by cells as large as the largest box."""

    def __init__(self, cell: float) -> None:
        self._cell = cell
        self._cells: dict[tuple[int, int], set[int]] = {}
        self._sums: list[tuple[Array, float]] = []
        self.boxes: list[Array] = []
        self.members: list[list[int]] = []

    def _at(self, box: Array) -> tuple[int, int]:
        x, y = np.floor((box[:2] + box[2:]) / (2 * self._cell)).tolist()
        return int(x), int(y)

    def add(self, k: int, box: Array, score: float, threshold: float) -> None:
        """Add a box to the cluster that it overlaps most, or to a new one."""
        x, y = self._at(box)  # boxes that overlap have centres nearer than the largest is long
        near = sorted(set().union(*(self._cells.get((x + i, y + j), ()) for i in (-1, 0, 1) for j in (-1, 0, 1))))
        found = iou(np.array([self.boxes[c] for c in near]).reshape(-1, 4), box)
        best = int(np.argmax(found)) if near else -1
        if best < 0 or found[best] <= threshold:
            self._cells.setdefault((x, y), set()).add(len(self.boxes))
            self.boxes.append(box)
            self.members.append([k])
            self._sums.append((box * score, score))
            return
        c = near[best]
        total, weight = self._sums[c]
        self._sums[c] = total + box * score, weight + score
        self._cells[self._at(self.boxes[c])].remove(c)
        self.members[c].append(k)
        if weight + score > 0:
            self.boxes[c] = (total + box * score) / (weight + score)
        self._cells.setdefault(self._at(self.boxes[c]), set()).add(c)

    def scores(self, scores: Array) -> list[float]:
        """Return the score of each cluster: the mean of its members'."""
        return [float(scores[own].mean()) for own in self.members]
