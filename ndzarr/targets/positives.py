"""Windows that hold annotations: one around each, or few that together cover all of them (a set cover)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._geo.pixel_size import Quantity
from ndzarr._sampling.target import SIZE_SLACK, START_SLACK, parse_window_dims
from ndzarr._validation import check_factor, check_fraction, check_target_count
from ndzarr.errors import OptionError
from ndzarr.targets.overlaps import TargetContext, windows_table
from ndzarr.targets.physical import WindowSizes
from ndzarr.targets.windows import Array, Boxes, Spaces, Windows, ramps

if TYPE_CHECKING:
    import pandas

    from ndzarr.targets.attributes import Names


PositiveDims: TypeAlias = "str | tuple[int | str, int | str] | None"
"""(height, width) as pixels or lengths, one length for both, 'square', or None for the size of the box."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where windows lie relative to annotations; see `Targets.positives`."""

    window_dims: PositiveDims = None
    context: float = 1.0
    jitter: float = 0.0
    time_dims: int | None = None
    borders: str = "pad"  # one of `grid.BORDERS`
    cover: bool = False

    def __post_init__(self) -> None:
        check_factor("context", self.context)
        check_fraction("jitter", self.jitter)
        if self.time_dims is not None:
            check_target_count("time_dims", self.time_dims)
        dims = self.dims
        for n in dims if isinstance(dims, tuple) else ():
            if not isinstance(n, Quantity):
                check_target_count("window_dims", n)
        if self.cover and not isinstance(dims, tuple):
            message = f"window_dims={self.window_dims!r}: cover=True needs one size"
            raise OptionError(message, key="window_dims", hint="Give (height, width)")
        if isinstance(dims, tuple) and self.context != 1:
            message = f"window_dims={self.window_dims!r} and context={self.context!r} both give the size"
            raise OptionError(message, key="context", hint="Give only one")

    @property
    def dims(self) -> Any:
        """`window_dims`, checked."""
        return parse_window_dims(self.window_dims)

    def fixed(self, sizes: WindowSizes) -> tuple[Array, Array] | None:
        """Return the height and the width in pixels of each space, where they do not depend on boxes."""
        dims, zeros = self.dims, np.zeros(len(sizes.spaces), np.int64)
        if not isinstance(dims, tuple):
            return None
        height, width = (zeros + sizes.pixels(axis, "window_dims", n) for axis, n in zip("yx", dims, strict=True))
        return height, width

    def sizes(self, boxes: Boxes, fixed: tuple[Array, Array] | None) -> tuple[Array, Array]:
        """Return the height and the width of the window of each box, in pixels."""
        if fixed is not None:
            return fixed[0][boxes.space], fixed[1][boxes.space]
        sizes = np.stack([boxes.y1 - boxes.y0, boxes.x1 - boxes.x0]) * self.context
        height, width = np.maximum(np.ceil(sizes - SIZE_SLACK), 1).astype(np.int64)
        return (np.maximum(height, width),) * 2 if self.window_dims == "square" else (height, width)

    def durations(self, space: Array, spaces: Spaces) -> Array:
        """Return the frames of windows in spaces that are given by position."""
        return spaces.lengths[space] if self.time_dims is None else np.full(len(space), self.time_dims)


def positives(
    context: TargetContext,
    sizes: WindowSizes,
    placement: Placement,
    classes_of_interest: Names | None,
    negative_classes: Names,
    crowd: str,
    per_class: int | None,
    per_image: int | None,
    seed: int | np.random.Generator | None,
) -> pandas.DataFrame:
    """Return windows that hold annotations; see `Targets.positives`."""
    spaces, fixed = sizes.spaces, placement.fixed(sizes)
    spaces.refuse_time(placement.time_dims)
    for name, most in (("per_class", per_class), ("per_image", per_image)):
        if most is not None:
            check_target_count(name, most, least=0)
    rng = np.random.default_rng(seed)
    annotations = context.source.annotations
    boxes = context.index(spaces).boxes.take(~context.crowds(spaces, crowd))
    category = annotations.category_id[boxes.row]
    boxes = boxes.take(context.categories.positive(category, classes_of_interest, negative_classes))
    boxes = boxes.take(_at_most(annotations.category_id[boxes.row], per_class, rng))
    if placement.cover:
        assert fixed is not None
        windows = covering(boxes, spaces, placement, fixed, per_image, rng)
        further = sizes.output_dims(windows, placement.dims)
        return windows_table(context, spaces, windows, "positive", further, crowd)
    boxes = boxes.take(_at_most(boxes.space, per_image, rng))
    boxes = boxes.take(np.argsort(annotations.position[boxes.row], kind="stable"))
    windows, kept = around(boxes, spaces, placement, fixed, rng)
    rows = boxes.row[kept]
    further = sizes.output_dims(windows, placement.dims)
    further |= {"aid": annotations.annot_id[rows], "category_id": annotations.category_id[rows]}
    if not spaces.video:
        further |= {"img_width": spaces.width[windows.space], "img_height": spaces.height[windows.space]}
    return windows_table(context, spaces, windows, "positive", further, crowd)


def _at_most(group: Array, most: int | None, rng: np.random.Generator) -> Array:
    """Return True for at most so many of each group, drawn at random; shape of `group`."""
    keep = np.ones(len(group), bool)
    if most is None:
        return keep
    luck = rng.permutation(len(group))
    order = np.lexsort((luck, group))
    keep[order] = _rank(group[order]) < most
    return keep


def _rank(group: Array) -> Array:
    """Return the number of each within its group, for sorted groups."""
    starts = np.flatnonzero(np.diff(group, prepend=group[:1] - 1))
    return ramps(np.diff([*starts, len(group)]))


def around(
    boxes: Boxes, spaces: Spaces, placement: Placement, fixed: tuple[Array, Array] | None, rng: np.random.Generator
) -> tuple[Windows, Array]:
    """Return a window around each box, and the position of the box of each: windows at borders may be left out."""
    height, width = placement.sizes(boxes, fixed)
    y0 = start_around(boxes.y0, boxes.y1, height, placement.jitter, rng)
    x0 = start_around(boxes.x0, boxes.x1, width, placement.jitter, rng)
    duration = placement.durations(boxes.space, spaces)
    t0 = np.zeros_like(duration) if placement.time_dims is None else boxes.frame - duration // 2
    windows = Windows(boxes.space, t0, t0 + duration, np.ones_like(t0), y0, y0 + height, x0, x0 + width)
    return within_spaces(windows, spaces, placement.borders)


def start_around(low: Array, high: Array, n: Array, jitter: float, rng: np.random.Generator) -> Array:
    """Return where windows of n pixels start: centred, or moved while the smaller of box and window stays inside."""
    room = np.abs(n - (high - low)) / 2
    moved = (low + high) / 2 - n / 2 + jitter * room * rng.uniform(-1, 1, len(low))
    start = np.maximum(np.floor(moved + START_SLACK), np.floor(low) - n + 1)  # the latter matters to points only
    first = np.ceil(np.minimum(low, high - n) - SIZE_SLACK)
    last = np.floor(np.maximum(low, high - n) + SIZE_SLACK)
    return np.asarray(np.where(first <= last, np.clip(start, first, last), start).astype(np.int64))


def within_spaces(windows: Windows, spaces: Spaces, borders: str) -> tuple[Windows, Array]:
    """Apply `borders` to windows; return them and their former positions."""
    if borders == "pad":
        return windows, np.arange(len(windows))
    w, inside, moved = windows, np.ones(len(windows), bool), []
    axes = ((w.t0, w.t1, spaces.lengths), (w.y0, w.y1, spaces.height), (w.x0, w.x1, spaces.width))
    for start, stop, length in axes:
        last = length[w.space] - (stop - start)
        inside &= (start >= 0) & (start <= last)
        at = np.clip(start, 0, np.maximum(last, 0))
        moved += [at, at + stop - start]
    if borders == "drop":
        keep = np.flatnonzero(inside)
        return windows.take(keep), keep
    t0, t1, *rest = moved
    return Windows(windows.space, t0, t1, windows.step, *rest), np.arange(len(windows))


@dataclass(frozen=True, slots=True, eq=False)
class Starts:
    """Rectangles of starts (y, x), integers with both ends included, from which a window holds something."""

    group: Array  # only rectangles of one group can share a window; shape (rectangle,)
    low: Array  # shape (2, rectangle): along y, x
    high: Array  # shape (2, rectangle): along y, x

    def __len__(self) -> int:
        return len(self.group)

    def take(self, index: Array) -> Starts:
        """Return some of them."""
        return Starts(self.group[index], self.low[:, index], self.high[:, index])


def covering(
    boxes: Boxes,
    spaces: Spaces,
    placement: Placement,
    size: tuple[Array, Array],
    per_image: int | None,
    rng: np.random.Generator,
) -> Windows:
    """
    Return few windows, of (height, width) of each space, that cover all boxes as far as these lie in their spaces.

    Boxes are cut into parts that fit into a window.  A window holds a part if it starts in a rectangle of positions, so
    that few windows are few points that meet all rectangles.  `per_image` keeps the windows of a space that add most.
    """
    which, parts = _parts(boxes, spaces, size)
    low, high = (np.empty((2, len(which)), np.int64) for _ in range(2))
    for along, ((first, last), length) in enumerate(zip(parts, (spaces.height, spaces.width), strict=True)):
        n = size[along][boxes.space[which]]
        beyond = length[boxes.space[which]] - n
        low[along], high[along] = last - n, first
        if placement.borders != "pad":
            low[along] = np.maximum(low[along], np.minimum(beyond, 0))
            high[along] = np.minimum(high[along], np.maximum(beyond, 0))
    space, block = boxes.space[which], _blocks(boxes, spaces, placement.time_dims)[which]
    keys, group = np.unique(np.stack([space, block]), axis=1, return_inverse=True)
    found, gain = set_cover(Starts(group.reshape(-1), low, high))
    # Windows start in the middle of their rectangle, or are moved from there by chance.
    y0, x0 = (
        np.floor((a + b) / 2 + placement.jitter * (b - a) / 2 * rng.uniform(-1, 1, len(a))).astype(np.int64)
        for a, b in zip(found.low, found.high, strict=True)
    )
    space, t0 = keys[:, found.group]
    t1 = t0 + placement.durations(space, spaces)
    height, width = (n[space] for n in size)
    windows = Windows(space, t0, t1, np.ones_like(t0), y0, y0 + height, x0, x0 + width)
    order = np.lexsort((windows.x0, windows.y0, windows.t0, windows.space))
    if per_image is not None:
        best = np.lexsort((np.arange(len(order)), -gain[order], windows.space[order]))
        order = order[np.sort(best[_rank(windows.space[order][best]) < per_image])]
    return within_spaces(windows.take(order), spaces, placement.borders)[0]


def _parts(
    boxes: Boxes, spaces: Spaces, size: tuple[Array, Array]
) -> tuple[Array, tuple[tuple[Array, Array], tuple[Array, Array]]]:
    """Cut boxes into parts that fit into a window; return each one's box, and half-open intervals along y and x."""
    y0, y1 = _pixels(boxes.y0, boxes.y1, spaces.height[boxes.space])
    x0, x1 = _pixels(boxes.x0, boxes.x1, spaces.width[boxes.space])
    which = np.flatnonzero((y0 < y1) & (x0 < x1))
    of_part, y0, y1 = _cut(y0[which], y1[which], size[0][boxes.space[which]])
    which = which[of_part]
    of_part, x0, x1 = _cut(x0[which], x1[which], size[1][boxes.space[which]])
    return which[of_part], ((y0[of_part], y1[of_part]), (x0, x1))


def _pixels(low: Array, high: Array, length: Array) -> tuple[Array, Array]:
    """Return the pixels of a space that intervals touch, at least one where they begin inside."""
    first = np.floor(low + SIZE_SLACK).astype(np.int64)
    last = np.maximum(np.ceil(high - SIZE_SLACK).astype(np.int64), first + 1)
    return np.maximum(first, 0), np.minimum(last, length)


def _cut(low: Array, high: Array, size: int | Array) -> tuple[Array, Array, Array]:
    """
    Cut intervals into parts of at most `size` pixels; return each one's interval (by position), low and high.

    Examples
    --------
    >>> _cut(np.array([0, 5]), np.array([25, 9]), 10)
    (array([0, 0, 0, 1]), array([ 0,  8, 16,  5]), array([ 8, 16, 25,  9]))
    """
    n = np.maximum(-(-(high - low) // size), 1)
    which = np.repeat(np.arange(len(low)), n)
    k = ramps(n)
    length, start = (high - low)[which], low[which]
    return which, start + length * k // n[which], start + length * (k + 1) // n[which]


def _blocks(boxes: Boxes, spaces: Spaces, duration: int | None) -> Array:
    """Return the first frame of the windows that shall hold each box: a block begins with the first box in none yet."""
    if not spaces.video or duration is None:
        return np.zeros(len(boxes), np.int64)
    frames, where = np.unique(np.stack([boxes.space, boxes.frame]), axis=1, return_inverse=True)
    starts, at = [], (-1, 0)
    for space, t in frames.T.tolist():
        if space != at[0] or t >= at[1] + duration:
            at = space, t
        starts.append(at[1])
    return np.array(starts, np.int64)[where.reshape(-1)]


def set_cover(starts: Starts) -> tuple[Starts, Array]:
    """
    Choose few windows so that each rectangle holds the start of one.

    Groups of rectangles that do not meet are solved one by one: those with a common point at once, the others by the
    best of four sweeps, one from each side.  For each window, returns the rectangle of starts from which it holds all
    that it holds, and the number of rectangles that no window with more of them holds.
    """
    if not len(starts):
        return starts, np.empty(0, np.int64)
    cluster = _clusters(starts)
    order = np.argsort(cluster, kind="stable")
    edges = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    starts = starts.take(order)
    low, high = np.maximum.reduceat(starts.low, edges, axis=1), np.minimum.reduceat(starts.high, edges, axis=1)
    one = (low <= high).all(axis=0)  # clusters with a point that is in all rectangles
    counts = np.diff([*edges, len(starts)])
    found = [(Starts(starts.group[edges[one]], low[:, one], high[:, one]), counts[one])]
    for start, n in zip(edges[~one].tolist(), counts[~one].tolist(), strict=True):
        found.append(_sweep_cluster(starts.take(np.arange(start, start + n))))
    cover = Starts(
        np.concatenate([c.group for c, _ in found]),
        np.concatenate([c.low for c, _ in found], axis=1),
        np.concatenate([c.high for c, _ in found], axis=1),
    )
    return cover, np.concatenate([gain for _, gain in found])


def _clusters(starts: Starts) -> Array:
    """Return numbers of clusters between which no rectangles meet, by sweeps along y and x in turn; shape (part,)."""
    cluster = np.unique(starts.group, return_inverse=True)[1].reshape(-1)
    axis = unchanged = 0
    while unchanged < 2:
        low, high = starts.low[axis] - starts.low[axis].min(), starts.high[axis] - starts.low[axis].min()
        apart = cluster * (int(high.max()) + 2)  # clusters lie one behind the other
        order = np.lexsort((low, cluster))
        reach = np.maximum.accumulate((apart + high)[order])
        finer = np.empty_like(cluster)
        finer[order] = np.cumsum(np.r_[0, (apart + low)[order][1:] > reach[:-1]])
        unchanged = unchanged + 1 if finer.max() == cluster.max() else 0
        cluster, axis = finer, 1 - axis
    return cluster


def _sweep_cluster(starts: Starts) -> tuple[Starts, Array]:
    """Return what `set_cover` does for one cluster, from the best of four sweeps."""
    tries = [_sweep(starts.low, starts.high, axis, sign) for axis in (0, 1) for sign in (1, -1)]
    held = min((_needed(_stabbed(points, starts)) for points in tries), key=len)
    first = np.full(len(starts), len(held))
    for k, mine in reversed(list(enumerate(held))):
        first[mine] = k
    cover = Starts(
        group=np.repeat(starts.group[:1], len(held)),
        low=np.stack([starts.low[:, mine].max(axis=1) for mine in held], axis=1),
        high=np.stack([starts.high[:, mine].min(axis=1) for mine in held], axis=1),
    )
    return cover, np.bincount(first, minlength=len(held))


def _stabbed(points: Array, starts: Starts) -> list[Array]:
    """Return the rectangles that each point (y, x) lies in."""
    import shapely

    (y0, x0), (y1, x1) = starts.low, starts.high
    tree = shapely.STRtree(shapely.box(x0, y0, x1, y1))
    point, stabbed = tree.query(shapely.points(points[:, 1], points[:, 0]))
    order = np.lexsort((stabbed, point))
    return np.split(stabbed[order], np.cumsum(np.bincount(point, minlength=len(points)))[:-1])


def _needed(stabbed: list[Array]) -> list[Array]:
    """Return the rectangles of each point, without points that can be spared, most first."""
    times = np.bincount(np.concatenate(stabbed))
    keep = []
    for mine in sorted(stabbed, key=len):
        if (times[mine] > 1).all():
            times[mine] -= 1
        else:
            keep.append(mine)
    return keep[::-1]


def _sweep(low: Array, high: Array, axis: int, sign: int) -> Array:
    """
    Find points (y, x) in all rectangles, greedily from one side: along `axis` upward (sign 1) or downward (-1).

    The rectangle that ends first needs a point; on the line of its end, the one in most rectangles is taken.
    """
    a0, a1 = (low[axis], high[axis]) if sign == 1 else (-high[axis], -low[axis])
    order = np.argsort(a1, kind="stable")
    a0, a1, b0, b1 = a0[order], a1[order], low[1 - axis][order], high[1 - axis][order]
    reach = int((a1 - a0).max())
    left = np.ones(len(order), bool)
    points, k = [], 0
    while k < len(order):
        if not left[k]:
            k += 1
            continue
        strip = slice(k, int(np.searchsorted(a1, a1[k] + reach, side="right")))
        here = left[strip] & (a0[strip] <= a1[k])  # rectangles that the line of the end crosses
        lows, highs = np.sort(b0[strip][here]), np.sort(b1[strip][here])
        at = highs[(highs >= b0[k]) & (highs <= b1[k])]
        depth = np.searchsorted(lows, at, side="right") - np.searchsorted(highs, at, side="left")
        best = at[int(np.argmax(depth))]
        points.append((sign * a1[k], best))
        left[strip] &= ~(here & (b0[strip] <= best) & (best <= b1[strip]))
    out = np.array(points)
    return out if axis == 0 else out[:, ::-1]
