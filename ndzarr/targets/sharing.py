"""Which windows share pixels?

Windows of a video and of its frames are brought into one space, the video's; windows of other images stay in theirs.
Two windows share a pixel there if their boxes overlap, whatever their frames are: what was seen in one frame is known
in the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr.targets.footprint import Footprints, space_size

if TYPE_CHECKING:
    from ndzarr.sampler.coco import CocoSampler

Array: TypeAlias = "np.ndarray[Any, Any]"

AT_ONCE = 20_000
"""Boxes that are looked up together."""
EDGE = 1e-3
"""Boxes that overlap by less only meet; in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Common:
    """Boxes of the rows of a table, in spaces that overlapping windows share."""

    spaces: tuple[tuple[str, Any], ...]
    """('video', vidid), or ('image', gid) of an image in no video."""
    row: Array
    """Row of each box; a row has one box per space; shape (box,)."""
    space: Array
    """Position among `spaces`; shape (box,)."""
    box: Array
    """x0, y0, x1, y1 in pixels of the space; shape (box, 4)."""

    def sizes(self, sampler: CocoSampler) -> Array:
        """(height, width) of each space; shape (space, 2)."""
        return np.array([space_size(sampler, *name) for name in self.spaces], np.int64).reshape(-1, 2)


def in_common(sampler: CocoSampler, found: Footprints) -> Common:
    """The boxes of all rows."""
    names: dict[tuple[str, Any], int] = {}
    of_gid = np.empty(len(found.gids), np.int64)
    for k, gid in enumerate(found.gids):
        vidid = sampler._dataset.video_of(gid)
        of_gid[k] = names.setdefault(("image", gid) if vidid is None else ("video", vidid), len(names))
    real = found.frame >= 0
    row, frame = found.row[real], found.frame[real]
    space = of_gid[frame]
    first = np.ones(len(row), bool)
    order = np.lexsort((space, row))
    first[order[1:]] = (np.diff(row[order]) > 0) | (np.diff(space[order]) > 0)
    row, frame, space = row[first], frame[first], space[first]
    (y0, y1), (x0, x1) = found.y[row].T.astype(float), found.x[row].T.astype(float)
    box = np.stack([x0, y0, x1, y1], axis=1)
    kinds = np.array([kind == "video" for kind, _ in names], bool)
    inner = np.flatnonzero(~found.video[row] & kinds[space]) if len(row) else np.empty(0, np.intp)
    if len(inner):
        used, code = np.unique(frame[inner], return_inverse=True)
        warps = np.stack([sampler.frame(found.gids[k]).to_video for k in used.tolist()])[code]
        box[inner] = warped(warps, box[inner])
    return Common(tuple(names), row, space, box)


def warped(matrix: Array, box: Array) -> Array:
    """
    Upright boxes around boxes that are moved by a transform each.

    Parameters
    ----------
    matrix
        Shape (box, 3, 3).
    box
        x0, y0, x1, y1; shape (box, 4).
    """
    corners = np.stack([box[:, [0, 1]], box[:, [2, 1]], box[:, [0, 3]], box[:, [2, 3]]], axis=1)
    moved = np.einsum("nij,nkj->nki", matrix[:, :2, :2], corners) + matrix[:, None, :2, 2]
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)


def touching_groups(found: Common, group: Array) -> Array:
    """
    Pairs of groups of which windows share pixels.

    Parameters
    ----------
    group
        Of each row.

    Returns
    -------
    Shape (pair, 2); each pair once, without those of a group with itself.
    """
    import shapely

    of_box = group[found.row]
    low, high = np.full(len(found.spaces), np.iinfo(np.int64).max), np.full(len(found.spaces), -1)
    np.minimum.at(low, found.space, of_box)
    np.maximum.at(high, found.space, of_box)
    mixed = np.flatnonzero((low < high)[found.space])
    if not len(mixed):
        return np.empty((0, 2), np.int64)
    table = np.unique(np.column_stack([found.space[mixed], of_box[mixed], found.box[mixed]]), axis=0)
    # Spaces side by side, so that one tree holds all of them; borders that only meet share no pixel.
    x0, y0, x1, y1 = table[:, 2:].T
    shift = (table[:, 0] - table[0, 0]) * (x1.max() - x0.min() + 2)
    boxes = shapely.box(x0 + shift, y0, x1 + shift, y1)
    inner = shapely.box(x0 + shift + EDGE, y0 + EDGE, x1 + shift - EDGE, y1 - EDGE)
    search, owner = shapely.STRtree(boxes), table[:, 1].astype(np.int64)
    pairs = np.empty((0, 2), np.int64)
    for start in range(0, len(table), AT_ONCE):
        a, b = search.query(inner[start : start + AT_ONCE])
        both = np.stack([owner[a + start], owner[b]], axis=1)
        both = np.sort(both[both[:, 0] != both[:, 1]], axis=1)
        pairs = np.unique(np.concatenate([pairs, both]), axis=0)
    return pairs


def components(n: int, a: Array, b: Array) -> Array:
    """
    Number of the connected component of each of n things, given pairs that are connected.

    Labels are hooked onto smaller ones and shortened, over and over (Shiloach and Vishkin, 1982).

    Examples
    --------
    >>> components(5, np.array([0, 3]), np.array([2, 4]))
    array([0, 1, 0, 2, 2])
    """
    label = np.arange(n)
    while True:
        low, high = np.minimum(label[a], label[b]), np.maximum(label[a], label[b])
        apart = low < high
        if not apart.any():
            return np.unique(label, return_inverse=True)[1]
        np.minimum.at(label, high[apart], low[apart])
        while not np.array_equal(shorter := label[label], label):
            label = shorter
