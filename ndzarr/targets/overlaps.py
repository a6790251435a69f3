"""Which annotations do windows touch, and how much of each other do they cover?

All spaces are laid side by side on one plane, long videos cut into blocks of frames, and one tree (shapely's STRtree)
over all boxes answers for all windows at once.  The tree only proposes pairs; sharing area is decided on the original
coordinates, exactly as `load_sample` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.targets.windows import Array, Boxes, Spaces, Windows, holds_frame

if TYPE_CHECKING:
    import pandas
    import shapely

    from ndzarr._sampling.annotations import AnnotationTable


AT_ONCE = 1 << 17
"""Windows asked about together: bounds the memory of their geometries."""

CRITERIA = ("window", "annotation", "iou")
"""Shared area as a fraction of the window's, of the annotation's, or of their union."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Windows and boxes that share area, sorted by window, then by box."""

    window: Array
    """Position among the windows; shape (pair,)."""
    box: Array
    """Position among the boxes; shape (pair,)."""


class Index:
    """
    The boxes of some spaces, ready to be asked.

    Parameters
    ----------
    spaces
        Where the boxes lie.
    boxes
        What is searched.
    """

    def __init__(self, spaces: Spaces, boxes: Boxes) -> None:
        self.spaces = spaces
        self.boxes = boxes
        self._trees: dict[int, shapely.STRtree] = {}
        self._low = float(min(boxes.x0.min(initial=0), boxes.y0.min(initial=0)))
        high = float(max(boxes.x1.max(initial=0), boxes.y1.max(initial=0)))
        self._pitch = float(np.ceil(high - self._low)) + 2

    @cached_property
    def sizes(self) -> tuple[Array, Array]:
        """The different (height, width) of boxes in whole pixels, shape (size, 2), and that of each, shape (box,)."""
        b = self.boxes
        sizes = np.ceil(np.stack([b.y1 - b.y0, b.x1 - b.x0], axis=1) - 1e-6).astype(np.int64)
        different, which = np.unique(np.maximum(sizes, 1), axis=0, return_inverse=True)
        return different, which.reshape(-1)

    def touching(self, windows: Windows) -> Pairs:
        """The pairs that share area."""
        if not len(self.boxes) or not len(windows):
            return Pairs(np.empty(0, np.intp), np.empty(0, np.intp))
        block = self._block(windows)
        parts = [
            self._touching(windows, np.arange(start, min(start + AT_ONCE, len(windows))), block)
            for start in range(0, len(windows), AT_ONCE)
        ]
        return Pairs(np.concatenate([p.window for p in parts]), np.concatenate([p.box for p in parts]))

    def _block(self, windows: Windows) -> int:
        """Frames that share a plane: a power of two near the windows' duration, so that few foreign ones come up."""
        if not self.spaces.video:
            return 1
        typical = float(np.median(windows.t1 - windows.t0))
        return 1 << max(0, min(int(np.log2(max(typical, 1))), int(self.spaces.lengths.max()).bit_length()))

    def _touching(self, windows: Windows, chosen: Array, block: int) -> Pairs:
        last = self.spaces.lengths[windows.space[chosen]] - 1
        first = np.clip(windows.t0[chosen], 0, last) // block
        planes = np.clip(windows.t1[chosen] - 1, 0, last) // block - first + 1
        part = np.repeat(np.arange(len(chosen)), planes)
        window = chosen[part]
        plane = first[part] + np.arange(len(part)) - np.repeat(np.cumsum(planes) - planes, planes)
        shapes = self._shapes(
            windows.space[window], plane, block,
            windows.x0[window], windows.y0[window], windows.x1[window], windows.y1[window],
        )  # fmt: skip
        asked, box = self._tree(block).query(shapes)
        window = window[asked]
        b, w = self.boxes, windows
        hit = (b.x0[box] < w.x1[window]) & (b.x1[box] > w.x0[window])
        hit &= (b.y0[box] < w.y1[window]) & (b.y1[box] > w.y0[window])
        hit &= (b.space[box] == w.space[window]) & holds_frame(windows, b, window, box)
        window, box = window[hit], box[hit]
        order = np.lexsort((box, window))
        return Pairs(window[order], box[order])

    def _tree(self, block: int) -> shapely.STRtree:
        if block not in self._trees:
            import shapely

            b = self.boxes
            shapes = self._shapes(b.space, b.frame // block, block, b.x0, b.y0, b.x1, b.y1)
            self._trees[block] = shapely.STRtree(shapes)
        return self._trees[block]

    def _shapes(self, space: Array, plane: Array, block: int, x0: Array, y0: Array, x1: Array, y1: Array) -> Array:
        """
        Boxes on the plane on which every space and block of frames has a square of its own.

        What lies beyond the square of its space is cut off: no box of that space is there.
        """
        import shapely

        offset_x, offset_y = space * self._pitch - self._low, plane * self._pitch - self._low
        high = self._low + self._pitch - 1
        x0, y0, x1, y1 = (np.clip(edge, self._low, high) for edge in (x0, y0, x1, y1))
        out: Array = shapely.box(x0 + offset_x, y0 + offset_y, x1 + offset_x, y1 + offset_y)
        return out


def shared_area(windows: Windows, boxes: Boxes, pairs: Pairs) -> Array:
    """Square pixels that a window and a box share; shape (pair,)."""
    w, b = windows.take(pairs.window), boxes.take(pairs.box)
    x = np.minimum(w.x1, b.x1) - np.maximum(w.x0, b.x0)
    y = np.minimum(w.y1, b.y1) - np.maximum(w.y0, b.y0)
    out: Array = x * y
    return out


def fraction(windows: Windows, boxes: Boxes, pairs: Pairs, criterion: str) -> Array:
    """
    Shared area by one of `CRITERIA`; shape (pair,).

    Raises
    ------
    TargetError
        There is no such criterion.
    """
    if criterion not in CRITERIA:
        raise TargetError(f"criterion={criterion!r}: no such criterion{did_you_mean(criterion, CRITERIA)}")
    shared = shared_area(windows, boxes, pairs)
    window, box = windows.area[pairs.window], boxes.area[pairs.box]
    whole = {"window": window, "annotation": box, "iou": window + box - shared}[criterion]
    out: Array = np.minimum(shared / whole, 1.0)
    return out


def overlaps(index: Index, windows: Windows, row: Array, annotations: AnnotationTable) -> pandas.DataFrame:
    """What `Targets.overlaps` returns, of windows of which `row` says whose they are."""
    import pandas

    pairs = index.touching(windows)
    boxes = index.boxes
    rows = boxes.row[pairs.box]
    columns: dict[str, Any] = {
        "row": row[pairs.window],
        "frame": boxes.frame[pairs.box],
        "annot_id": annotations.annot_id[rows],
        "category_id": annotations.category_id[rows],
        "area": shared_area(windows, boxes, pairs),
        "of_window": fraction(windows, boxes, pairs, "window"),
        "of_annotation": fraction(windows, boxes, pairs, "annotation"),
        "iou": fraction(windows, boxes, pairs, "iou"),
    }
    return pandas.DataFrame(columns)
