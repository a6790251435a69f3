"""Annotations that windows touch, and how much of each other they cover.

All spaces are laid side by side on one plane, long videos cut into blocks of frames, and one tree (shapely's STRtree)
over all boxes answers for all windows at once.  The tree only proposes pairs; whether two share area is decided on the
original coordinates, exactly as `load_sample` does.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._sampling.annotations import CROWD
from ndzarr._validation import check_choice
from ndzarr.errors import TargetError
from ndzarr.targets.attributes import Categories
from ndzarr.targets.table import Rows, TargetsLike, as_table, without_aliases
from ndzarr.targets.windows import (
    Array,
    Boxes,
    Spaces,
    WindowColumns,
    Windows,
    boxes_of,
    holds_frame,
    present_in,
    ramps,
    spaces_of,
    window_columns,
    windows_in,
)

if TYPE_CHECKING:
    import pandas
    import shapely

    from ndzarr._sampling.annotations import AnnotationTable
    from ndzarr._sampling.protocols import SampleSource


CRITERIA = ("window", "annotation", "iou")
"""Shared area as a fraction of the window's, of the annotation's, or of their union."""

KINDS = ("negative", "positive", "ignored")  # values of the column `kind`, in the order of their codes


class TargetContext:
    """What all ways to choose windows look up, made when first needed and then kept; it pickles without its trees."""

    def __init__(self, source: SampleSource) -> None:
        self.source = source
        self._spaces: dict[str, Spaces] = {}
        self._indexes: dict[str, BoxIndex] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return TargetContext, (self.source,)

    @cached_property
    def categories(self) -> Categories:
        """The categories, by name and id."""
        return Categories(self.source.dset.index.cats)

    def spaces(self, kind: str, ids: Iterable[Hashable] | None = None) -> Spaces:
        """Return images ('image') or videos ('video') with their sizes; all, or those of the given ids."""
        if kind not in self._spaces:
            self._spaces[kind] = spaces_of(self.source, kind)
        return self._spaces[kind].take(ids)

    def crowds(self, spaces: Spaces, crowd: str) -> Array:
        """Return True for the boxes of crowds, where these do not count as all others do (`crowd`); shape (box,)."""
        check_choice("crowd", crowd, CROWD)
        boxes, known = self.index(spaces).boxes, self.source.annotations.crowd
        if crowd == "keep" or known is None:
            return np.zeros(len(boxes), bool)
        return np.asarray(known[boxes.row])

    def index(self, spaces: Spaces) -> BoxIndex:
        """Return the spatial index of the annotations in some spaces; that of all images, or videos, is kept."""
        if spaces is not self._spaces.get(spaces.kind):
            return BoxIndex(spaces, boxes_of(self.source, spaces))
        if spaces.kind not in self._indexes:
            self._indexes[spaces.kind] = BoxIndex(spaces, boxes_of(self.source, spaces))
        return self._indexes[spaces.kind]


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Windows and boxes that share area, sorted by window, then by box."""

    window: Array  # position among the windows; shape (pair,)
    box: Array  # position among the boxes; shape (pair,)


class BoxIndex:
    """A spatial index of the boxes of some spaces; geometries of `at_once` windows are in memory together."""

    def __init__(self, spaces: Spaces, boxes: Boxes, at_once: int = 1 << 17) -> None:
        self.spaces = spaces
        self.boxes = boxes
        self.at_once = at_once
        self._trees: dict[int, shapely.STRtree] = {}
        self._low = float(min(boxes.x0.min(initial=0), boxes.y0.min(initial=0)))
        high = float(max(boxes.x1.max(initial=0), boxes.y1.max(initial=0)))
        self._side = float(np.ceil(high - self._low)) + 2  # of the square that each space has on the plane

    def touching(self, windows: Windows) -> Pairs:
        """Return the pairs that share area."""
        if not len(self.boxes) or not len(windows):
            return Pairs(np.empty(0, np.intp), np.empty(0, np.intp))
        block = self._block(windows)
        parts = [
            self._touching(windows, np.arange(start, min(start + self.at_once, len(windows))), block)
            for start in range(0, len(windows), self.at_once)
        ]
        return Pairs(np.concatenate([p.window for p in parts]), np.concatenate([p.box for p in parts]))

    def annotation_ids(self, pairs: Pairs, annotations: AnnotationTable) -> Array:
        """Return the annotation of each pair; shape (pair,)."""
        return np.asarray(annotations.annot_id[self.boxes.row[pairs.box]])

    def _block(self, windows: Windows) -> int:
        """Frames that share a square: a power of two near the windows' duration, so that few foreign boxes come up."""
        if not self.spaces.video:
            return 1
        typical = float(np.median(windows.t1 - windows.t0))
        return 1 << max(0, min(int(np.log2(max(typical, 1))), int(self.spaces.lengths.max()).bit_length()))

    def _touching(self, windows: Windows, chosen: Array, block: int) -> Pairs:
        last = self.spaces.lengths[windows.space[chosen]] - 1
        first = np.clip(windows.t0[chosen], 0, last) // block
        number = np.clip(windows.t1[chosen] - 1, 0, last) // block - first + 1
        # One query per window and block of frames that it reaches.
        window = np.repeat(chosen, number)
        shapes = self._shapes(
            windows.space[window], np.repeat(first, number) + ramps(number),
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
            self._trees[block] = shapely.STRtree(self._shapes(b.space, b.frame // block, b.x0, b.y0, b.x1, b.y1))
        return self._trees[block]

    def _shapes(self, space: Array, block: Array, x0: Array, y0: Array, x1: Array, y1: Array) -> Array:
        """Return boxes on the plane, cut at the square of their space (along x) and block of frames (along y)."""
        import shapely

        offset_x, offset_y = space * self._side - self._low, block * self._side - self._low
        high = self._low + self._side - 1
        x0, y0, x1, y1 = (np.clip(edge, self._low, high) for edge in (x0, y0, x1, y1))
        return np.asarray(shapely.box(x0 + offset_x, y0 + offset_y, x1 + offset_x, y1 + offset_y))


def shared_area(windows: Windows, boxes: Boxes, pairs: Pairs) -> Array:
    """Return the square pixels that a window and a box share; shape (pair,)."""
    w, b = windows.take(pairs.window), boxes.take(pairs.box)
    x = np.minimum(w.x1, b.x1) - np.maximum(w.x0, b.x0)
    y = np.minimum(w.y1, b.y1) - np.maximum(w.y0, b.y0)
    return np.asarray(x * y)


def fraction(windows: Windows, boxes: Boxes, pairs: Pairs, criterion: str) -> Array:
    """Return the shared area by one of `CRITERIA`; shape (pair,)."""
    shared = shared_area(windows, boxes, pairs)
    window, box = windows.area[pairs.window], boxes.area[pairs.box]
    whole = {"window": window, "annotation": box, "iou": window + box - shared}[criterion]
    return np.asarray(np.minimum(shared / whole, 1.0))


def overlaps(context: TargetContext, targets: TargetsLike | Rows) -> pandas.DataFrame:
    """Return the annotations that windows touch; see `Targets.overlaps`."""
    import pandas

    table = without_aliases(as_table(targets))
    missing = [name for name in ("cx", "cy", "width", "height") if not present_in(table, name).all()]
    if missing and "gids" not in table:
        message = f"the table lacks {', '.join(missing)}, in whole or in some rows"
        raise TargetError(message, key=missing[0], hint="Give each row its window")
    found = window_columns(table, context.source)
    spaces = context.spaces("video" if found.video.any() else "image")
    windows, row = windows_in(found, spaces)
    index, annotations = context.index(spaces), context.source.annotations
    pairs, boxes = index.touching(windows), index.boxes
    columns = {
        "row": row[pairs.window],
        "frame": boxes.frame[pairs.box],
        "annot_id": index.annotation_ids(pairs, annotations),
        "category_id": annotations.category_id[boxes.row[pairs.box]],
        "area": shared_area(windows, boxes, pairs),
    }
    names = zip(("of_window", "of_annotation", "iou"), CRITERIA, strict=True)
    return pandas.DataFrame(columns | {name: fraction(windows, boxes, pairs, c) for name, c in names})


def annotations_touched(context: TargetContext, found: WindowColumns, spaces: Spaces) -> tuple[Array, Array]:
    """Return the annotation ids of each row of `WindowColumns`, as tuples, and their number."""
    windows, row = windows_in(found, spaces)
    index = context.index(spaces)
    pairs = index.touching(windows)
    return as_tuples(row[pairs.window], index.annotation_ids(pairs, context.source.annotations), len(found))


def as_tuples(window: Array, ids: Array, n: int) -> tuple[Array, Array]:
    """
    Return the ids of each of n windows as a column of tuples, in the order of the pairs, and their lengths.

    Only windows that have any cost a Python object: the others share the empty tuple.

    Examples
    --------
    >>> as_tuples(np.array([2, 0, 2]), np.array([7, 8, 9]), 3)[0].tolist()
    [(8,), (), (7, 9)]
    """
    counts = np.bincount(window, minlength=n)
    order = np.argsort(window, kind="stable")
    flat = ids[order].tolist()
    some = np.flatnonzero(counts)
    stops = np.cumsum(counts[some]).tolist()
    column = np.empty(n, object)
    column.fill(())
    bounds = zip([0, *stops], stops, strict=False)
    column[some] = np.fromiter((tuple(flat[a:b]) for a, b in bounds), object, len(some))
    return column, counts


def kind_column(codes: Array) -> pandas.Series:
    """Return the column `kind` from positions in `KINDS`; each word is stored once."""
    import pandas

    return pandas.Series(np.array(KINDS, object)[codes], dtype=object)


def windows_table(
    context: TargetContext,
    spaces: Spaces,
    windows: Windows,
    kind: str,
    further: dict[str, Array] | None = None,
    crowd: str = "keep",
) -> pandas.DataFrame:
    """Return windows of one kind as targets, with the annotations that they touch and further columns."""
    import pandas

    index = context.index(spaces)
    pairs = index.touching(windows)
    if crowd == "drop":
        single = ~context.crowds(spaces, crowd)[pairs.box]
        pairs = Pairs(pairs.window[single], pairs.box[single])
    ids, counts = as_tuples(pairs.window, index.annotation_ids(pairs, context.source.annotations), len(windows))
    columns = windows.target_columns(spaces) | (further or {}) | {"annot_ids": ids, "n_annots": counts}
    return pandas.DataFrame(columns | {"kind": kind_column(np.full(len(windows), KINDS.index(kind)))})
