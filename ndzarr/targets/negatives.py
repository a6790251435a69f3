"""Windows that hold no annotation, or little of any.

1. Rejection sampling: each window of the wanted size that fits into a space is drawn with equal chance, and drawn again
   if it overlaps an annotation too much.  So images count by their free area.
2. Windows that are still missing after some rounds are drawn from all free positions.  These are found at stride 1: on
   each row of starts a box forbids an interval of columns, and the running sum of the intervals' ends (an integral
   image along x) is 0 where a window may start.  The search ends with a window, or with the proof that there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._concurrency import memory_limit
from ndzarr._geo.pixel_size import is_physical
from ndzarr._sampling.target import SIZE_SLACK, parse_window_dims
from ndzarr._validation import check_choice, check_fraction, check_target_count
from ndzarr.errors import TargetError, did_you_mean
from ndzarr.targets.overlaps import CRITERIA, BoxIndex, TargetContext, fraction, windows_table
from ndzarr.targets.physical import WindowSizes
from ndzarr.targets.windows import Array, Boxes, Spaces, Windows, ramps

if TYPE_CHECKING:
    import pandas
    from numpy.random import Generator

    from ndzarr.targets.attributes import Names


SIZES = ("like_annotations", "square")
"""`window_dims` by name: the sizes of annotations' boxes, or the squares around these."""

NegativeDims: TypeAlias = "str | tuple[int | str, int | str]"
"""(height, width) as pixels or lengths, one length for both, or one of `SIZES`."""
ROUNDS = (1, 1, 2, 4, 8, 16, 32, 64)  # proposals for each window that is still missing, per round of rejection sampling
IN_VAIN = 1000  # rejection sampling ends when a round of so many proposals finds nothing
REDRAWS = 20  # draws from the free positions: a window that is exactly at the limit may miss it by a rounding error
AT_ONCE = 1 << 20  # proposals that are held in memory together
MOST_PIXELS = 2**62  # windows of a space are counted in int64
ROW_BYTES = 8 * 3  # memory for each start on a row: the ends of forbidden intervals, and their running sum
CELLS_AT_ONCE = 1 << 22  # starts, and pairs of a size and an extent of spaces, that are held in memory together


@dataclass(frozen=True, slots=True)
class OverlapLimit:
    """How much a window and an annotation may share."""

    most: float  # largest fraction
    criterion: str  # one of `overlaps.CRITERIA`

    def __post_init__(self) -> None:
        check_choice("criterion", self.criterion, CRITERIA)
        check_fraction("max_overlap", self.most)

    @property
    def nested(self) -> bool:
        """True where every window inside a free window is free, so that larger windows need as much space."""
        return self.most == 0 or self.criterion == "annotation"

    def area(self, window: int, boxes: Boxes) -> Array:
        """Return the square pixels that a window of that area may share with each box; shape (box,)."""
        if self.criterion == "window":
            return np.full(len(boxes), self.most * window)
        if self.criterion == "annotation":
            return self.most * boxes.area
        return self.most * (window + boxes.area) / (1 + self.most)


def negatives(
    context: TargetContext,
    n: int,
    window_dims: NegativeDims,
    sizes_of: WindowSizes,
    limit: OverlapLimit,
    time_dims: int | None,
    avoid: Names | None,
    seed: int | Generator | None,
) -> pandas.DataFrame:
    """Return n windows that keep to the limit; see `Targets.negatives`."""
    spaces = sizes_of.spaces
    spaces.refuse_time(time_dims)
    n = check_target_count("n", n, least=0)
    duration = None if time_dims is None else check_target_count("time_dims", time_dims)
    _refuse_absurd(spaces)
    every = index = context.index(spaces)
    if avoid is not None:
        category = context.source.annotations.category_id[every.boxes.row]
        index = BoxIndex(spaces, every.boxes.take(context.categories.among(category, "avoid", avoid)))
    dims = _parse_dims(window_dims)
    sizes, choices = _sizes(dims, every.boxes, sizes_of)
    proposals = Proposals(spaces, sizes, duration)
    free = FreePositions(proposals, index.boxes, limit)
    windows = _draw(n, choices, index, free, np.random.default_rng(seed))
    if windows is None:
        raise _no_room(window_dims, proposals, limit)
    return windows_table(context, spaces, windows, "negative", sizes_of.output_dims(windows, dims))


def _refuse_absurd(spaces: Spaces) -> None:
    """Raise `TargetError` for a space whose windows cannot be counted in int64, or whose rows do not fit memory."""
    rows = spaces.height.astype(float) * spaces.lengths
    for k in np.flatnonzero((rows * spaces.width >= MOST_PIXELS) | (spaces.width * ROW_BYTES > memory_limit())):
        raise TargetError(
            f"{spaces.key}={spaces.ids[k]!r}: {spaces.kind} of {spaces.height[k]} x {spaces.width[k]} pixels, which is "
            "too large to look for negatives in",
            key=spaces.key,
            hint="Correct its width and height in the dataset, or choose other ids",
        )


def _parse_dims(window_dims: Any) -> Any:
    """Return (height, width), lengths as `Quantity`, or one of `SIZES`."""
    named = isinstance(window_dims, str) and not is_physical(window_dims)
    dims = window_dims if named else parse_window_dims(window_dims)
    if dims is None or (named and dims not in SIZES):
        known = did_you_mean(window_dims, SIZES)
        expected = f"expected (height, width), one length for both, or one of {', '.join(SIZES)}{known}"
        raise TargetError(f"window_dims={window_dims!r}: {expected}", key="window_dims")
    return dims


def _sizes(dims: Any, boxes: Boxes, sizes_of: WindowSizes) -> tuple[Array, Array]:
    """
    Return the different sizes, and positions to draw from, each as often as it shall count.

    Sizes have shape (size, 1, 2), or, where a length is another number of pixels in each space, (1, space, 2).
    """
    if isinstance(dims, tuple):
        height, width = (np.atleast_1d(sizes_of.pixels(a, "window_dims", n)) for a, n in zip("yx", dims, strict=True))
        return np.stack(np.broadcast_arrays(height, width), axis=-1)[None], np.zeros(1, np.int64)
    if not len(boxes):
        message = f"window_dims={dims!r}: no annotations to take a size from"
        raise TargetError(message, key="window_dims", hint="Give (height, width)")
    whole = np.ceil(np.stack([boxes.y1 - boxes.y0, boxes.x1 - boxes.x0], axis=1) - SIZE_SLACK).astype(np.int64)
    sizes, choices = np.unique(np.maximum(whole, 1), axis=0, return_inverse=True)
    squares = np.repeat(sizes.max(axis=1, keepdims=True), 2, axis=1)
    return (squares if dims == "square" else sizes)[:, None], choices.reshape(-1)


def _draw(n: int, choices: Array, index: BoxIndex, free: FreePositions, rng: Generator) -> Windows | None:
    """Draw windows; sizes without a free position are drawn again, and None says that no size is left."""
    size = choices[rng.integers(0, len(choices), n)]
    starts, missing = np.zeros((4, n), np.int64), np.arange(n)  # (space, t, y, x) of each window
    while len(missing):
        missing = _by_rejection(size, starts, missing, index, free, rng)
        missing = _by_search(size, starts, missing, index, free, rng)
        choices = choices[~np.isin(choices, size[missing])]
        if len(missing) and not len(choices):
            return None
        size[missing] = choices[rng.integers(0, max(len(choices), 1), len(missing))]
    return free.proposals.windows(size, starts)


def _by_rejection(
    size: Array, starts: Array, missing: Array, index: BoxIndex, free: FreePositions, rng: Generator
) -> Array:
    """Fill in the starts of windows that proposals find; return the positions that are still missing."""
    for times in ROUNDS:
        step = AT_ONCE // times
        hits = [missing[:0]]
        for begin in range(0, len(missing), step):
            asked = np.repeat(missing[begin : begin + step], times)
            windows, fits = free.proposals.draw(size[asked], rng)
            good = np.flatnonzero(fits & _allowed(windows, index, free.limit))
            hit, first = np.unique(asked[good], return_index=True)
            w = windows.take(good[first])
            starts[:, hit] = w.space, w.t0, w.y0, w.x0
            hits.append(hit)
        found = np.concatenate(hits)
        in_vain = not len(found) and len(missing) * times >= IN_VAIN
        missing = missing[~np.isin(missing, found)]
        if not len(missing) or in_vain:
            break
    return missing


def _by_search(
    size: Array, starts: Array, missing: Array, index: BoxIndex, free: FreePositions, rng: Generator
) -> Array:
    """Fill in the starts of missing windows from all free positions; return those whose size has none."""
    full, proposals = [missing[:0]], free.proposals
    wanted = np.unique(size[missing])
    for one in wanted[np.argsort(proposals.sizes[wanted, 0].prod(axis=1), kind="stable")].tolist():
        mine = missing[size[missing] == one]
        positions = free.of_size(one)
        for _ in range(REDRAWS if positions.total else 0):
            starts[:, mine] = positions.draw(len(mine), rng)
            mine = mine[~_allowed(proposals.windows(size[mine], starts[:, mine]), index, free.limit)]
            if not len(mine):
                break
        full.append(mine)
    return np.concatenate(full)


def _allowed(windows: Windows, index: BoxIndex, limit: OverlapLimit) -> Array:
    """Return whether windows keep to the limit; shape (window,)."""
    pairs = index.touching(windows)
    bad = fraction(windows, index.boxes, pairs, limit.criterion) > limit.most
    return np.asarray(np.bincount(pairs.window[bad], minlength=len(windows)) == 0)


def _no_room(window_dims: NegativeDims, proposals: Proposals, limit: OverlapLimit) -> TargetError:
    kind, spaces = proposals.spaces.kind, proposals.spaces
    counts = sum(proposals.count(k) for k in range(len(proposals.sizes)))
    if not np.any(counts):
        largest = int(np.argmax(spaces.height * spaces.width))
        frames = "" if proposals.duration is None else f" of {proposals.duration} frames"
        return TargetError(
            f"window_dims={window_dims!r}{frames} fits into none of {len(spaces)} {kind}s, of which the largest is "
            f"{spaces.height[largest]} x {spaces.width[largest]}",
            key="window_dims",
            hint="Ask for smaller windows",
        )
    return TargetError(
        f"there is no room for window_dims={window_dims!r} with max_overlap={limit.most:g} (criterion "
        f"{limit.criterion!r}): {np.count_nonzero(counts)} of {len(spaces)} {kind}s are large enough, but none of the "
        f"{np.sum(counts):,} windows in them is free of annotations",
        key="window_dims",
        hint="Ask for smaller windows or a larger max_overlap",
    )


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """All windows of some sizes that lie wholly in spaces."""

    spaces: Spaces
    sizes: Array  # (height, width) of each size; shape (size, 1, 2), or (1, space, 2) where it differs by space
    duration: int | None  # frames; None for all

    def time_starts(self, lengths: Array) -> Array:
        """Return with how many frames a window may begin, in spaces of so many frames."""
        return np.ones_like(lengths) if self.duration is None else np.maximum(lengths - self.duration + 1, 0)

    def size_in(self, size: int | Array, space: int | Array) -> Array:
        """Return (height, width) of a size in a space, or of many in many; shape (..., 2)."""
        return np.asarray(self.sizes[size, np.minimum(space, self.sizes.shape[1] - 1)])

    @property
    def extents(self) -> tuple[Array, Array]:
        """The different extents of spaces; if sizes differ by space, with the (height, width) of a window there."""
        if self.sizes.shape[1] == 1:
            return self.spaces.extents
        spaces = self.spaces
        stated = np.stack([spaces.lengths, spaces.height, spaces.width, *self.sizes[0].T])
        different, which = np.unique(stated, axis=1, return_inverse=True)
        return different, which.reshape(-1)

    def draw(self, size: Array, rng: Generator) -> tuple[Windows, Array]:
        """Draw a window of each of the sizes, given by position; also return False where none fits into any space."""
        kinds, of_kind = self.extents
        members, count = np.argsort(of_kind, kind="stable"), np.bincount(of_kind, minlength=kinds.shape[1])
        first = np.cumsum(count) - count
        starts, fits = np.zeros((4, len(size)), np.int64), np.zeros(len(size), bool)
        step = max(1, CELLS_AT_ONCE // kinds.shape[1])
        for begin in range(0, len(self.sizes), step):
            stated = self.sizes[begin : begin + step, 0].T[..., None]  # (height, width), shape (2, size, 1)
            height, width = stated if len(kinds) == 3 else kinds[3:, None]
            # Starts along y and x, and windows in one space: shape (size, kind of extent).
            rows, columns = np.maximum(kinds[1] - height + 1, 0), np.maximum(kinds[2] - width + 1, 0)
            each = self.time_starts(kinds[0]) * rows * columns
            # All windows are numbered through: by size, kind of extent, space, t, y, x.
            ends = np.cumsum(each * count).reshape(each.shape)
            before = ends - each * count
            mine = np.flatnonzero((size >= begin) & (size < begin + step))
            mine = mine[ends[size[mine] - begin, -1] > before[size[mine] - begin, 0]]
            of_size = size[mine] - begin
            number = rng.integers(before[of_size, 0], ends[of_size, -1])
            kind = np.searchsorted(ends.reshape(-1), number, side="right") % kinds.shape[1]
            member, number = np.divmod(number - before[of_size, kind], each[of_size, kind])
            number, x = np.divmod(number, columns[of_size, kind])
            t, y = np.divmod(number, rows[of_size, kind])
            starts[:, mine] = members[first[kind] + member], t, y, x
            fits[mine] = True
        return self.windows(size, starts), fits

    def windows(self, size: Array, starts: Array) -> Windows:
        """Return windows of those sizes at (space, t, y, x), shape (4, window)."""
        space, t, y, x = starts
        duration = self.spaces.lengths[space] if self.duration is None else np.full(len(space), self.duration)
        height, width = self.size_in(size, space).T
        return Windows(space, t, t + duration, np.ones_like(t), y, y + height, x, x + width)

    def count(self, size: int) -> Array:
        """Return the number of windows of a size in each space; shape (space,)."""
        height, width = self.sizes[size].T
        rows, columns = self.spaces.height - height + 1, self.spaces.width - width + 1
        return np.asarray(self.time_starts(self.spaces.lengths) * np.maximum(rows, 0) * np.maximum(columns, 0))


class FreePositions:
    """All starts of windows that keep to a limit, size by size; boxes are sorted by space."""

    def __init__(
        self, proposals: Proposals, boxes: Boxes, limit: OverlapLimit, cells_at_once: int = CELLS_AT_ONCE
    ) -> None:
        self.proposals, self.boxes, self.limit, self.cells_at_once = proposals, boxes, limit, cells_at_once
        self._full: list[tuple[Array, Array]] = []

    def of_size(self, size: int) -> PositionsOfSize:
        """Search all planes for a size, which is given by position."""
        shape = self.proposals.sizes[size]
        planes = np.ones(self.planes.shape[1], bool)
        for smaller, full in self._full:
            if (smaller <= shape).all():
                planes &= ~full
        found = PositionsOfSize(self, shape, np.flatnonzero(planes))
        if self.limit.nested:  # a plane that is full for a size is full for larger ones
            full = np.ones(len(planes), bool)
            full[[plane for plane, _ in found.parts]] = False
            self._full.append((shape, full))
        return found

    @cached_property
    def planes(self) -> Array:
        """(space, first frame) of each; shape (2, plane)."""
        starts = self.proposals.time_starts(self.proposals.spaces.lengths)
        return np.stack([np.repeat(np.arange(len(starts)), starts), ramps(starts)])

    @cached_property
    def boxes_of_planes(self) -> tuple[Boxes, Array]:
        """The boxes of each plane, a box in all windows that have its frame; and where those of each plane begin."""
        boxes, duration = self.boxes, self.proposals.duration
        starts = self.proposals.time_starts(self.proposals.spaces.lengths)
        base = np.cumsum(starts) - starts
        low, high = np.zeros(len(boxes), np.int64), starts[boxes.space]
        if duration is not None:
            low, high = np.maximum(boxes.frame - duration + 1, 0), np.minimum(boxes.frame + 1, high)
        number = np.maximum(high - low, 0)
        plane = np.repeat(base[boxes.space] + low, number) + ramps(number)
        order = np.argsort(plane, kind="stable")
        sorted_boxes = boxes.take(np.repeat(np.arange(len(boxes)), number)[order])
        return sorted_boxes, np.searchsorted(plane[order], np.arange(self.planes.shape[1] + 1))


class PositionsOfSize:
    """
    The starts of windows of one size that keep to a limit.

    They are counted once, and the few parts that draws fall into are computed again, so that memory stays bounded.
    """

    def __init__(self, free: FreePositions, size: Array, planes: Array) -> None:
        self._free, self._sizes = free, size  # (1 or space, 2)
        self.parts: list[tuple[int, Array]] = []
        counts = []
        for plane, edges in self._cut(planes):
            number = int((self._mask(plane, edges).sum(axis=1) * np.diff(edges)).sum())
            if number:
                self.parts.append((plane, edges))
                counts.append(number)
        self._ends = np.cumsum(np.array(counts, np.int64))

    @property
    def total(self) -> int:
        """Number of free positions."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def draw(self, n: int, rng: Generator) -> Array:
        """Draw n positions with equal chance, each anew from all: (space, t, y, x), shape (4, n)."""
        number = rng.integers(0, self.total, n)
        part = np.searchsorted(self._ends, number, side="right")
        out = np.empty((4, n), np.int64)
        for k in np.unique(part).tolist():
            plane, edges = self.parts[k]
            mine = np.flatnonzero(part == k)
            rest = number[mine] - (self._ends[k - 1] if k else 0)
            mask = self._mask(plane, edges)
            in_row = mask.sum(axis=1)
            in_strip = in_row * np.diff(edges)
            ends = np.cumsum(in_strip)
            strip = np.searchsorted(ends, rest, side="right")
            down, nth = np.divmod(rest - (ends - in_strip)[strip], in_row[strip])
            first = np.cumsum(in_row) - in_row
            x = np.flatnonzero(mask)[first[strip] + nth] % mask.shape[1]
            out[:, mine] = *self._free.planes[:, plane, None].repeat(len(mine), axis=1), edges[strip] + down, x
        return out

    def _size(self, plane: int) -> tuple[int, int]:
        """Return (height, width) of a window in the space of a plane."""
        height, width = self._sizes[min(int(self._free.planes[0, plane]), len(self._sizes) - 1)].tolist()
        return height, width

    def _cut(self, planes: Array) -> Iterator[tuple[int, Array]]:
        """Yield planes and edges of strips of rows with the same free columns: single rows if area may be shared."""
        spaces = self._free.proposals.spaces
        for plane in planes.tolist():
            space, size = self._free.planes[0, plane], self._size(plane)
            rows = int(spaces.height[space]) - size[0] + 1
            columns = int(spaces.width[space]) - size[1] + 1
            if rows < 1 or columns < 1:
                continue
            boxes = self._boxes(plane)
            if self._free.limit.most > 0 and len(boxes):
                edges = np.arange(rows + 1)
            else:
                edges = np.unique(np.r_[0, rows, np.clip(_reach(boxes, size[0]), 0, rows).reshape(-1)])
            step = max(1, self._free.cells_at_once // (columns + 1))
            for start in range(0, len(edges) - 1, step):
                yield plane, edges[start : start + step + 1]

    def _boxes(self, plane: int) -> Boxes:
        boxes, begin = self._free.boxes_of_planes
        return boxes.take(slice(int(begin[plane]), int(begin[plane + 1])))

    def _mask(self, plane: int, edges: Array) -> Array:
        """Return True where windows may start; shape (strip, column)."""
        boxes, size = self._boxes(plane), self._size(plane)
        columns = int(self._free.proposals.spaces.width[self._free.planes[0, plane]]) - size[1] + 1
        strips = len(edges) - 1
        first, last = np.searchsorted(edges, np.clip(_reach(boxes, size[0]), edges[0], edges[-1]))
        strip = np.repeat(first, last - first) + ramps(last - first)  # one entry per box and strip that reaches it
        boxes = boxes.take(np.repeat(np.arange(len(boxes)), last - first))
        low, high = _forbidden(edges[strip], size, boxes, self._free.limit.area(size[0] * size[1], boxes))
        low, high = np.clip(low, 0, columns), np.clip(high, 0, columns)
        some = low < high
        base = strip[some] * (columns + 1)
        ends = [np.bincount(base + edge[some], minlength=strips * (columns + 1)) for edge in (low, high)]
        depth = np.cumsum(ends[0] - ends[1]).reshape(strips, columns + 1)  # boxes that forbid each start
        return np.asarray(depth[:, :columns] == 0)


def _reach(boxes: Boxes, height: int) -> Array:
    """Return half-open intervals of the rows from which a window of that height reaches each box; shape (2, box)."""
    return np.stack([np.floor(boxes.y0) - height + 1, np.ceil(boxes.y1)]).astype(np.int64)


def _forbidden(y: Array, size: tuple[int, int], boxes: Boxes, area: Array) -> tuple[Array, Array]:
    """Return the half-open interval of columns that each box forbids on a row of starts; it may be empty."""
    shared = np.minimum(y + size[0], boxes.y1) - np.maximum(y, boxes.y0)
    width = np.divide(area, shared, out=np.zeros(shared.shape), where=shared > 0)  # that may be shared along x
    first = np.floor(boxes.x0 + width).astype(np.int64) - size[1] + 1
    last = np.ceil(boxes.x1 - width).astype(np.int64)
    none = (shared <= 0) | (width >= size[1]) | (width >= boxes.x1 - boxes.x0)
    return first, np.where(none, first, last)
