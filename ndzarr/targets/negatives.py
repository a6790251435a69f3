"""Which windows hold none, or little, of any annotation?

Every window of the wanted size that fits into a space is as likely as every other, and those that overlap too much are
drawn again: so images count by their free area.  After some rounds, whatever is still missing is drawn from the exact
list of free windows (`listing`), which ends with a window or with the proof that there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._sampling.target import parse_window_dims
from ndzarr._validation import check_fraction as portion
from ndzarr._validation import check_target_count as whole
from ndzarr.errors import OptionError, TargetError, did_you_mean
from ndzarr.targets.overlaps import CRITERIA, Index, fraction
from ndzarr.targets.windows import Array, Boxes, Spaces, Windows, ramps, refuse_time
from ndzarr.targets.windows import windows_table as as_table

if TYPE_CHECKING:
    import pandas
    from numpy.random import Generator

    from ndzarr.targets.accessor import Indexed


# --- How is one window drawn so that all windows of its size are equally likely?


PLACES_AT_ONCE = 1 << 22
"""Sizes times kinds of spaces that are looked at together: bounds memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """All windows of some sizes."""

    spaces: Spaces
    """Where they lie."""
    sizes: Array
    """(height, width) of each size; shape (size, 2)."""
    duration: int | None
    """Frames; None for all."""

    def starts(self, lengths: Array) -> Array:
        """Number of frames with which a window may begin, in spaces of so many."""
        return np.ones_like(lengths) if self.duration is None else np.maximum(lengths - self.duration + 1, 0)

    def draw(self, size: Array, rng: Generator) -> tuple[Windows, Array]:
        """
        A window of each of the sizes, which are given by position.

        Returns
        -------
        Windows, and False where none fits into any space.
        """
        kinds, of_kind = self.spaces.extents
        members, count = np.argsort(of_kind, kind="stable"), np.bincount(of_kind, minlength=kinds.shape[1])
        first = np.cumsum(count) - count
        begins, fits = np.zeros((4, len(size)), np.int64), np.zeros(len(size), bool)
        step = max(1, PLACES_AT_ONCE // kinds.shape[1])
        for start in range(0, len(self.sizes), step):
            height, width = self.sizes[start : start + step].T
            rows = np.maximum(kinds[1] - height[:, None] + 1, 0)
            columns = np.maximum(kinds[2] - width[:, None] + 1, 0)
            each = self.starts(kinds[0]) * rows * columns  # windows in one space: (size, kind)
            ends = np.cumsum(each * count).reshape(each.shape)
            before = ends - each * count
            mine = np.flatnonzero((size >= start) & (size < start + step))
            mine = mine[ends[size[mine] - start, -1] > before[size[mine] - start, 0]]
            of_size = size[mine] - start
            number = rng.integers(before[of_size, 0], ends[of_size, -1])
            kind = np.searchsorted(ends.reshape(-1), number, side="right") % kinds.shape[1]
            member, number = np.divmod(number - before[of_size, kind], each[of_size, kind])
            number, x = np.divmod(number, columns[of_size, kind])
            t, y = np.divmod(number, rows[of_size, kind])
            begins[:, mine] = members[first[kind] + member], t, y, x
            fits[mine] = True
        return self.windows(size, begins), fits

    def windows(self, size: Array, begins: Array) -> Windows:
        """Windows of those sizes at (space, t, y, x), shape (4, window)."""
        space, t, y, x = begins
        duration = self.spaces.lengths[space] if self.duration is None else np.full(len(space), self.duration)
        height, width = self.sizes[size].T
        return Windows(space, t, t + duration, np.ones_like(t), y, y + height, x, x + width)

    def count(self, size: int) -> Array:
        """Windows of a size in each space; shape (space,)."""
        height, width = self.sizes[size]
        rows, columns = self.spaces.height - height + 1, self.spaces.width - width + 1
        out: Array = self.starts(self.spaces.lengths) * np.maximum(rows, 0) * np.maximum(columns, 0)
        return out


# --- Where exactly is room for a window that must not overlap annotations too much?


SLABS_AT_ONCE = 1 << 21
"""Rows, and pairs of a slab and a box, that are looked at together: bounds memory."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How much a window and an annotation may share."""

    most: float
    """Largest fraction."""
    criterion: str
    """Of what; one of `overlap.CRITERIA`."""

    @property
    def nested(self) -> bool:
        """True where all windows in a free one are free, so that where there is no room for them is none for it."""
        return self.most == 0 or self.criterion == "annotation"

    def area(self, window: int, boxes: Boxes) -> Array:
        """Square pixels that a window of that area may share with each box; shape (box,)."""
        if self.criterion == "window":
            return np.full(len(boxes), self.most * window)
        if self.criterion == "annotation":
            return self.most * boxes.area
        return self.most * (window + boxes.area) / (1 + self.most)


@dataclass(frozen=True, slots=True, eq=False)
class Slabs:
    """Rows on which the same boxes are in reach; those of a plane follow each other; all have shape (slab,)."""

    plane: Array
    y0: Array
    """First row on which a window may begin."""
    y1: Array
    """Row after the last."""


def free_regions(size: tuple[int, int], planes: Array, boxes: Boxes, limit: Limit) -> tuple[Array, Array]:
    """
    Where windows of `size` may begin.

    Parameters
    ----------
    size
        (height, width).
    planes
        (height, width) of each; shape (plane, 2).
    boxes
        Sorted by `space`, which is a position in `planes`; in a plane are those of all frames that the window has.

    Returns
    -------
    Rectangles of beginnings that do not meet: y0, y1, x0, x1, half-open, shape (4, rectangle); and the plane of each,
    ascending.

    Examples
    --------
    >>> one = (np.zeros(1, int),) * 3
    >>> box = Boxes(*one, x0=np.array([4.0]), y0=np.array([0.0]), x1=np.array([6.0]), y1=np.array([3.5]))
    >>> rectangles, plane = free_regions((2, 2), np.array([[6, 8]]), box, Limit(0.0, "window"))
    >>> rectangles.T
    array([[0, 4, 0, 3],
           [0, 4, 6, 7],
           [4, 5, 0, 7]])
    """
    rows, columns = np.maximum(planes - np.array(size) + 1, 0).T
    rows = np.where(columns > 0, rows, 0)
    parts = [(np.empty((4, 0), np.int64), np.empty(0, np.int64))]
    for start, stop in _runs(rows + 1):
        here = boxes.take(slice(*np.searchsorted(boxes.space, [start, stop]).tolist()))
        slabs, first, last = _slabs(size[0], rows[start:stop], start, here, each=limit.most > 0)
        area = limit.area(size[0] * size[1], here)
        counts = [np.bincount(edge, minlength=len(slabs.plane) + 1) for edge in (first, last)]
        in_reach = np.cumsum(counts[0] - counts[1])[:-1]
        for low, high in _runs(in_reach + 1):
            a, b = np.clip(first, low, high), np.clip(last, low, high)
            box = np.repeat(np.arange(len(here)), b - a)
            slab = np.repeat(a, b - a) + ramps(b - a)
            x0, x1 = _forbidden(slabs.y0[slab], size, here.take(box), area[box])
            which, x0, x1 = _gaps(slab - low, x0, x1, columns[slabs.plane[low:high]])
            which = which + low
            parts.append((np.stack([slabs.y0[which], slabs.y1[which], x0, x1]), slabs.plane[which]))
    return np.concatenate([p[0] for p in parts], axis=1), np.concatenate([p[1] for p in parts])


def _runs(weight: Array) -> Iterator[tuple[int, int]]:
    """Half-open runs of positions of which the weights sum to about `AT_ONCE`."""
    edges = np.flatnonzero(np.diff(np.cumsum(weight) // SLABS_AT_ONCE, prepend=-1, append=np.iinfo(np.int64).max))
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def _slabs(height: int, rows: Array, start: int, boxes: Boxes, each: bool) -> tuple[Slabs, Array, Array]:
    """
    The slabs of planes, which are numbered from `start`; single rows where a box is in reach if `each`.

    Returns
    -------
    Slabs, and half-open intervals of those in which each box is in reach.
    """
    ends = np.cumsum(rows + 1)
    base = ends - rows - 1  # each plane has a place of its own on one line, with one more for the end of its last slab
    plane = boxes.space - start
    first = base[plane] + np.clip(np.floor(boxes.y0).astype(np.int64) - height + 1, 0, rows[plane])
    last = base[plane] + np.clip(np.ceil(boxes.y1).astype(np.int64), 0, rows[plane])
    edges = [first, last, base, base + rows]
    if each:
        length = int(ends[-1]) if len(ends) else 0
        depth = np.cumsum(np.bincount(first, minlength=length) - np.bincount(last, minlength=length))
        reached = np.flatnonzero(depth)
        edges += [reached, reached + 1]
    edge = np.unique(np.concatenate(edges))
    of_edge = np.searchsorted(ends, edge, side="right")
    inner = np.flatnonzero(of_edge[1:] == of_edge[:-1])
    low, high, owner = edge[inner], edge[inner + 1], of_edge[inner]
    slabs = Slabs(owner + start, low - base[owner], high - base[owner])
    return slabs, np.searchsorted(low, first), np.searchsorted(low, last)


def _forbidden(y: Array, size: tuple[int, int], boxes: Boxes, area: Array) -> tuple[Array, Array]:
    """First and last forbidden column on a row, for a box each; the first is beyond the last where none is."""
    shared = np.minimum(y + size[0], boxes.y1) - np.maximum(y, boxes.y0)
    width = np.divide(area, shared, out=np.zeros(shared.shape), where=shared > 0)
    first = np.floor(boxes.x0 + width).astype(np.int64) - size[1] + 1
    last = np.ceil(boxes.x1 - width).astype(np.int64) - 1
    none = (shared <= 0) | (width >= size[1]) | (width >= boxes.x1 - boxes.x0)
    return first, np.where(none, first - 1, last)


def _gaps(row: Array, first: Array, last: Array, columns: Array) -> tuple[Array, Array, Array]:
    """
    What intervals leave of the columns of rows.

    Parameters
    ----------
    row, first, last
        Of each interval, both ends included.
    columns
        Of each row.

    Returns
    -------
    Row, start and stop of each gap.
    """
    first, last = np.maximum(first, 0), np.minimum(last, columns[row] - 1)
    some = first <= last
    # One more interval behind the last column closes each row.
    row = np.concatenate([row[some], np.arange(len(columns))])
    first, last = np.concatenate([first[some], columns]), np.concatenate([last[some], columns])
    shift = row * (int(columns.max(initial=0)) + 2)  # rows behind each other, so that no interval reaches the next row
    order = np.argsort(shift + first, kind="stable")
    row, first, shift = row[order], first[order], shift[order]
    reach = np.maximum.accumulate(shift + last[order])
    start = np.maximum(np.concatenate([[-1], reach[:-1]]) - shift, -1) + 1
    gap = np.flatnonzero(start < first)
    return row[gap], start[gap], first[gap]


# --- Which windows of a size are free, all of them?


class Listing:
    """
    Lists of free windows.

    Parameters
    ----------
    places
        Sizes of windows, and where they may lie.
    boxes
        Sorted by space.
    limit
        What windows and boxes may share.
    """

    def __init__(self, places: Places, boxes: Boxes, limit: Limit) -> None:
        self._places, self._boxes = places, boxes
        self.limit = limit
        """What windows and boxes may share."""
        self._full: list[tuple[Array, Array]] = []

    @cached_property
    def planes(self) -> Array:
        """(space, first frame) of each; shape (2, plane)."""
        starts = self._places.starts(self._places.spaces.lengths)
        return np.stack([np.repeat(np.arange(len(starts)), starts), ramps(starts)])

    @cached_property
    def _of_planes(self) -> Boxes:
        """The boxes of each plane: one of a frame is in all windows that have this frame."""
        boxes, duration = self._boxes, self._places.duration
        starts = self._places.starts(self._places.spaces.lengths)
        base = np.cumsum(starts) - starts
        low, high = np.zeros(len(boxes), np.int64), starts[boxes.space]
        if duration is not None:
            low, high = np.maximum(boxes.frame - duration + 1, 0), np.minimum(boxes.frame + 1, high)
        number = np.maximum(high - low, 0)
        plane = np.repeat(base[boxes.space] + low, number) + ramps(number)
        order = np.argsort(plane, kind="stable")
        several = boxes.take(np.repeat(np.arange(len(boxes)), number)[order])
        return Boxes(plane[order], several.frame, several.row, several.x0, several.y0, several.x1, several.y1)

    def free(self, size: int) -> tuple[Array, Array]:
        """
        All free windows of a size, which is given by position.

        Returns
        -------
        Rectangles of beginnings y0, y1, x0, x1, shape (4, rectangle); (space, first frame) of each, shape (2,
        rectangle).
        """
        shape = self._places.sizes[size]
        open_ = np.ones(self.planes.shape[1], bool)
        for smaller, full in self._full:
            if (smaller <= shape).all():
                open_ &= ~full
        looked = np.flatnonzero(open_)
        spaces, boxes = self._places.spaces, self._of_planes
        inner = boxes.take(open_[boxes.space])
        number = np.cumsum(open_) - 1
        inner = Boxes(number[inner.space], inner.frame, inner.row, inner.x0, inner.y0, inner.x1, inner.y1)
        space = self.planes[0, looked]
        extents = np.stack([spaces.height[space], spaces.width[space]], axis=1)
        rectangles, plane = free_regions((int(shape[0]), int(shape[1])), extents, inner, self.limit)
        if self.limit.nested:
            full = np.ones(len(open_), bool)
            full[looked[plane]] = False
            self._full.append((shape, full))
        return rectangles, self.planes[:, looked[plane]]


SIZES = ("like_annotations", "square")
"""`window_dims` by name: sizes of annotations, or the squares around these."""

ROUNDS = (1, 1, 2, 4, 8, 16, 32, 64)
"""Draws for each window that is still missing; afterwards, what is free is listed."""

AGAIN = 20
"""Draws from a list: a window on the very limit may miss it by a rounding error."""

AT_ONCE = 1 << 20
"""Draws that are looked at together: bounds memory."""

ENOUGH = 1000
"""So many draws of one round in vain say that there is little room."""


def negatives(
    targets: Indexed,
    n: int,
    window_dims: Any,
    spaces: Spaces,
    limit: Limit,
    duration: int | None,
    avoid: Any,
    seed: Any,
) -> pandas.DataFrame:
    """What `Targets.negatives` returns."""
    refuse_time(spaces, duration)
    every = index = targets.index(spaces)
    if avoid is not None:
        category = targets.annotations.category_id[every.boxes.row]
        index = Index(spaces, every.boxes.take(targets.classes.among(category, avoid)))
    windows = draw(n, window_dims, every, index, limit, duration, np.random.default_rng(seed))
    return as_table(targets, spaces, windows, "negative")


def draw(
    n: int, window_dims: Any, every: Index, index: Index, limit: Limit, duration: int | None, rng: Generator
) -> Windows:
    """
    Windows that overlap no box of an index more than allowed.

    Parameters
    ----------
    window_dims
        (height, width), or one of `SIZES`.
    every
        The boxes from which sizes are taken.
    duration
        Frames of a window of a video; None for all.

    Raises
    ------
    OptionError, TargetError
        An option is not understood; there is no such window.
    """
    if limit.criterion not in CRITERIA:
        raise OptionError(f"criterion={limit.criterion!r}: unknown{did_you_mean(limit.criterion, CRITERIA)}")
    portion("max_overlap", limit.most)
    n = whole("n", n, least=0)
    duration = None if duration is None else whole("time_dims", duration)
    sizes, choices = _sizes(window_dims, every)
    places = Places(index.spaces, sizes, duration)
    size = choices[rng.integers(0, len(choices), n)]
    begins, missing, listing = np.zeros((4, n), np.int64), np.arange(n), Listing(places, index.boxes, limit)
    while len(missing):
        missing = _by_chance(places, size, begins, missing, index, limit, rng)
        missing = _listed(places, size, begins, missing, index, listing, rng)
        choices = choices[~np.isin(choices, size[missing])]
        if len(missing) and not len(choices):
            raise TargetError(_no_room(window_dims, places, limit))
        size[missing] = choices[rng.integers(0, max(len(choices), 1), len(missing))]
    return places.windows(size, begins)


def _sizes(window_dims: Any, every: Index) -> tuple[Array, Array]:
    """Different sizes, shape (size, 2), and those that are drawn from, by position, as often as they shall count."""
    if not isinstance(window_dims, str):
        dims = parse_window_dims(window_dims)
        if dims is None:
            raise TargetError(f"window_dims=None: expected (height, width) or one of {', '.join(SIZES)}")
        return np.array([[whole("window_dims", length) for length in dims]], np.int64), np.zeros(1, np.int64)
    if window_dims not in SIZES:
        raise TargetError(f"window_dims={window_dims!r}: expected (height, width){did_you_mean(window_dims, SIZES)}")
    if not len(every.boxes):
        raise TargetError(
            f"window_dims={window_dims!r}: there are no annotations to take a size from; give (height, width)"
        )
    sizes, choices = every.sizes
    return (np.repeat(sizes.max(axis=1, keepdims=True), 2, axis=1) if window_dims == "square" else sizes), choices


def _by_chance(
    places: Places, size: Array, begins: Array, missing: Array, index: Index, limit: Limit, rng: Generator
) -> Array:
    """Fill in what is found by drawing; returns what is still missing."""
    for times in ROUNDS:
        step = AT_ONCE // times
        hits = []
        for start in range(0, len(missing), step):
            asked = np.repeat(missing[start : start + step], times)
            windows, fits = places.draw(size[asked], rng)
            good = np.flatnonzero(fits & _allowed(windows, index, limit))
            hit, first = np.unique(asked[good], return_index=True)
            w = windows.take(good[first])
            begins[:, hit] = w.space, w.t0, w.y0, w.x0
            hits.append(hit)
        found = np.concatenate([*hits, np.empty(0, np.int64)])
        in_vain = not len(found) and len(missing) * times >= ENOUGH
        missing = missing[~np.isin(missing, found)]
        if not len(missing) or in_vain:
            break
    return missing


def _allowed(windows: Windows, index: Index, limit: Limit) -> Array:
    """Whether windows keep the promise; shape (window,)."""
    pairs = index.touching(windows)
    bad = fraction(windows, index.boxes, pairs, limit.criterion) > limit.most
    clean: Array = np.bincount(pairs.window[bad], minlength=len(windows)) == 0
    return clean


def _listed(
    places: Places, size: Array, begins: Array, missing: Array, index: Index, listing: Listing, rng: Generator
) -> Array:
    """Fill in what is missing from lists of all that is free; returns that for which there is no room."""
    full = [missing[:0]]
    wanted = np.unique(size[missing])
    for one in wanted[np.argsort(places.sizes[wanted].prod(axis=1), kind="stable")].tolist():
        mine = missing[size[missing] == one]
        rectangles, planes = listing.free(one)
        y0, y1, x0, x1 = rectangles
        ends = np.cumsum((y1 - y0) * (x1 - x0))
        for _ in range(AGAIN if len(ends) else 0):
            number = rng.integers(0, ends[-1], len(mine))
            which = np.searchsorted(ends, number, side="right")
            y, x = np.divmod(ends[which] - 1 - number, (x1 - x0)[which])
            begins[:, mine] = *planes[:, which], y0[which] + y, x0[which] + x
            mine = mine[~_allowed(places.windows(size[mine], begins[:, mine]), index, listing.limit)]
            if not len(mine):
                break
        full.append(mine)
    return np.concatenate(full)


def _no_room(window_dims: Any, places: Places, limit: Limit) -> str:
    kind, spaces = places.spaces.kind, places.spaces
    counts = sum(places.count(k) for k in range(len(places.sizes)))
    if not np.any(counts):
        largest = int(np.argmax(spaces.height * spaces.width))
        frames = "" if places.duration is None else f" of {places.duration} frames"
        return (
            f"window_dims={window_dims!r}{frames} fits into none of {len(spaces)} {kind}s, of which the largest is "
            f"{spaces.height[largest]} x {spaces.width[largest]}; ask for smaller windows"
        )
    return (
        f"there is no room for window_dims={window_dims!r} with max_overlap={limit.most:g} (criterion "
        f"{limit.criterion!r}): {np.count_nonzero(counts)} of {len(spaces)} {kind}s are large enough, but none of the "
        f"{np.sum(counts):,} windows in them is free of annotations; ask for smaller windows or a larger max_overlap"
    )
