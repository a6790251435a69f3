"""Which windows hold annotations?

Either one window around each annotation, or few windows that together cover all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._sampling.target import parse_window_dims
from ndzarr._validation import check_factor as factor
from ndzarr._validation import check_fraction as portion
from ndzarr._validation import check_target_count as whole
from ndzarr.errors import OptionError
from ndzarr.targets.windows import Array, Boxes, Spaces, Windows, refuse_time
from ndzarr.targets.windows import windows_table as as_table

if TYPE_CHECKING:
    import pandas

    from ndzarr.targets.accessor import Indexed


# --- Which few windows of one size together cover every annotation?


@dataclass(frozen=True, slots=True, eq=False)
class Allowed:
    """Where a window may begin to hold a part of an annotation; integers, both ends included, shape (part,)."""

    group: Array
    """Only parts of one group can share a window."""
    low: Array
    """Shape (2, part): along y, x."""
    high: Array
    """Shape (2, part): along y, x."""

    def __len__(self) -> int:
        return len(self.group)

    def take(self, index: Array) -> Allowed:
        """Some of them."""
        return Allowed(self.group[index], self.low[:, index], self.high[:, index])


@dataclass(frozen=True, slots=True, eq=False)
class Stabs:
    """Windows that were chosen."""

    group: Array
    """Shape (window,)."""
    low: Array
    """Where a window may begin to hold all that it holds: shape (2, window), along y, x."""
    high: Array
    """The last such beginning."""
    gain: Array
    """Parts that no window with more of them holds; shape (window,)."""


def cut(low: Array, high: Array, size: int) -> tuple[Array, Array, Array]:
    """
    Intervals in parts of at most `size` pixels.

    Returns
    -------
    Position of the interval, low and high of each part.

    Examples
    --------
    >>> cut(np.array([0, 5]), np.array([25, 9]), 10)
    (array([0, 0, 0, 1]), array([ 0,  8, 16,  5]), array([ 8, 16, 25,  9]))
    """
    n = np.maximum(-(-(high - low) // size), 1)
    which = np.repeat(np.arange(len(low)), n)
    k = np.arange(len(which)) - np.repeat(np.cumsum(n) - n, n)
    length, start = (high - low)[which], low[which]
    return which, start + length * k // n[which], start + length * (k + 1) // n[which]


def stab(allowed: Allowed) -> Stabs:
    """Few windows that hold all parts."""
    part = _parted(allowed)
    order = np.argsort(part, kind="stable")
    edges = np.flatnonzero(np.diff(part[order], prepend=-1))
    sorted_ = allowed.take(order)
    if not len(allowed):
        return Stabs(allowed.group, allowed.low, allowed.high, np.empty(0, np.int64))
    low, high = np.maximum.reduceat(sorted_.low, edges, axis=1), np.minimum.reduceat(sorted_.high, edges, axis=1)
    one = (low <= high).all(axis=0)
    counts = np.diff([*edges, len(allowed)])
    found = [Stabs(sorted_.group[edges[one]], low[:, one], high[:, one], counts[one])]
    for start, n in zip(edges[~one].tolist(), counts[~one].tolist(), strict=True):
        found.append(_several(sorted_.take(np.arange(start, start + n))))
    return Stabs(
        np.concatenate([f.group for f in found]),
        np.concatenate([f.low for f in found], axis=1),
        np.concatenate([f.high for f in found], axis=1),
        np.concatenate([f.gain for f in found]),
    )


def _parted(allowed: Allowed) -> Array:
    """Numbers of parts between which no rectangles meet; shape (part,)."""
    part = np.unique(allowed.group, return_inverse=True)[1].reshape(-1)
    axis = unchanged = 0
    while len(part) and unchanged < 2:
        low, high = allowed.low[axis] - allowed.low[axis].min(), allowed.high[axis] - allowed.low[axis].min()
        apart = part * (int(high.max()) + 2)
        order = np.lexsort((low, part))
        reach = np.maximum.accumulate((apart + high)[order])
        finer = np.empty_like(part)
        finer[order] = np.cumsum(np.r_[0, (apart + low)[order][1:] > reach[:-1]])
        unchanged = unchanged + 1 if finer.max() == part.max() else 0
        part, axis = finer, 1 - axis
    return part


def _several(allowed: Allowed) -> Stabs:
    """The best of the sweeps."""
    tries = [_sweep(allowed.low, allowed.high, axis, sign) for axis in (0, 1) for sign in (1, -1)]
    held = min((_needed(_stabbed(points, allowed)) for points in tries), key=len)
    first = np.full(len(allowed), len(held))
    for k, mine in reversed(list(enumerate(held))):
        first[mine] = k
    return Stabs(
        group=np.repeat(allowed.group[:1], len(held)),
        low=np.stack([allowed.low[:, mine].max(axis=1) for mine in held], axis=1),
        high=np.stack([allowed.high[:, mine].min(axis=1) for mine in held], axis=1),
        gain=np.bincount(first, minlength=len(held)),
    )


def _stabbed(points: Array, allowed: Allowed) -> list[Array]:
    """The rectangles that each point stabs."""
    import shapely

    (y0, x0), (y1, x1) = allowed.low, allowed.high
    tree = shapely.STRtree(shapely.box(x0, y0, x1, y1))
    point, stabbed = tree.query(shapely.points(points[:, 1], points[:, 0]))
    order = np.lexsort((stabbed, point))
    return np.split(stabbed[order], np.cumsum(np.bincount(point, minlength=len(points)))[:-1])


def _needed(stabbed: list[Array]) -> list[Array]:
    """What points stab, without points that can be spared, most first."""
    times = np.bincount(np.concatenate(stabbed))
    keep = []
    for mine in sorted(stabbed, key=len):
        if (times[mine] > 1).all():
            times[mine] -= 1
        else:
            keep.append(mine)
    return keep[::-1]


def _sweep(low: Array, high: Array, axis: int, sign: int) -> Array:
    """Points, shape (point, 2), found from one side: along `axis` upward (sign 1) or downward (-1)."""
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
        here = left[strip] & (a0[strip] <= a1[k])
        lows, highs = np.sort(b0[strip][here]), np.sort(b1[strip][here])
        at = highs[(highs >= b0[k]) & (highs <= b1[k])]
        depth = np.searchsorted(lows, at, side="right") - np.searchsorted(highs, at, side="left")
        best = at[int(np.argmax(depth))]
        points.append((sign * a1[k], best))
        left[strip] &= ~(here & (b0[strip] <= best) & (best <= b1[strip]))
    out = np.array(points)
    return out if axis == 0 else out[:, ::-1]


SLACK = 1e-6
"""Pixels by which an edge may miss a whole number: sums of decimals do."""


@dataclass(frozen=True, slots=True)
class Around:
    """How windows lie around annotations."""

    window_dims: Any = None
    """(height, width), 'square' or None; see `Targets.positives`."""
    context: float = 1.0
    """Size of the window by that of the box, where `window_dims` does not give it."""
    jitter: float = 0.0
    """Part of the room that the centre may move in, from 0 to 1."""
    time_dims: int | None = None
    """Frames; None for all."""
    borders: str = "pad"
    """One of `lattice.BORDERS`."""
    cover: bool = False
    """Few windows that cover all, instead of one around each."""

    def __post_init__(self) -> None:
        factor("context", self.context)
        portion("jitter", self.jitter)
        if self.time_dims is not None:
            whole("time_dims", self.time_dims)
        dims = parse_window_dims(self.window_dims)
        for n in dims if isinstance(dims, tuple) else ():
            whole("window_dims", n)
        if self.cover and not isinstance(dims, tuple):
            raise OptionError(f"cover=True with window_dims={self.window_dims!r}: give (height, width)")
        if isinstance(dims, tuple) and self.context != 1:
            raise OptionError(f"window_dims={dims!r} and context={self.context!r} both give the size; give only one")

    def sizes(self, boxes: Boxes) -> tuple[Array, Array]:
        """Pixels of the window of each box along y and x."""
        if isinstance(parse_window_dims(self.window_dims), tuple):
            return np.full(len(boxes), int(self.window_dims[0])), np.full(len(boxes), int(self.window_dims[1]))
        height, width = (
            np.maximum(np.ceil(n * self.context - SLACK), 1).astype(np.int64)
            for n in (boxes.y1 - boxes.y0, boxes.x1 - boxes.x0)
        )
        if self.window_dims == "square":
            height = width = np.maximum(height, width)
        return height, width


def capped(group: Array, most: int | None, rng: np.random.Generator) -> Array:
    """True for at most so many of each group, drawn at random; shape of `group`."""
    keep = np.ones(len(group), bool)
    if most is None:
        return keep
    luck = rng.permutation(len(group))
    order = np.lexsort((luck, group))
    keep[order] = _rank(group[order]) < most
    return keep


def _rank(group: Array) -> Array:
    """The number of each within its group, for sorted groups."""
    starts = np.flatnonzero(np.diff(group, prepend=group[:1] - 1))
    return np.arange(len(group)) - np.repeat(starts, np.diff([*starts, len(group)]))


def around(boxes: Boxes, spaces: Spaces, how: Around, rng: np.random.Generator) -> tuple[Windows, Array]:
    """
    A window around each box.

    Returns
    -------
    The windows, and the position of the box of each.
    """
    height, width = how.sizes(boxes)
    y0 = _begin(boxes.y0, boxes.y1, height, how.jitter, rng)
    x0 = _begin(boxes.x0, boxes.x1, width, how.jitter, rng)
    frames = spaces.lengths[boxes.space]
    duration = frames if how.time_dims is None else np.full(len(boxes), how.time_dims)
    t0 = np.zeros_like(frames) if how.time_dims is None else boxes.frame - duration // 2
    windows = Windows(boxes.space, t0, t0 + duration, np.ones_like(t0), y0, y0 + height, x0, x0 + width)
    return within(windows, spaces, how.borders)


def _begin(low: Array, high: Array, n: Array, jitter: float, rng: np.random.Generator) -> Array:
    """Where windows of n pixels begin: centred, or moved while the smaller of box and window stays in the larger."""
    room = np.abs(n - (high - low)) / 2
    moved = (low + high) / 2 - n / 2 + jitter * room * rng.uniform(-1, 1, len(low))
    begin = np.maximum(np.floor(moved + 1e-9), np.floor(low) - n + 1)  # which matters to points only
    first = np.ceil(np.minimum(low, high - n) - SLACK)
    last = np.floor(np.maximum(low, high - n) + SLACK)
    out: Array = np.where(first <= last, np.clip(begin, first, last), begin).astype(np.int64)
    return out


def within(windows: Windows, spaces: Spaces, borders: str) -> tuple[Windows, Array]:
    """Windows after `borders` has had its say, and which of them these are."""
    lengths = (spaces.lengths, spaces.height, spaces.width)
    edges = [(windows.t0, windows.t1), (windows.y0, windows.y1), (windows.x0, windows.x1)]
    if borders == "pad":
        return windows, np.arange(len(windows))
    if borders == "drop":
        inside = np.ones(len(windows), bool)
        for (start, stop), length in zip(edges, lengths, strict=True):
            inside &= (start >= 0) & (stop <= length[windows.space])
        keep = np.flatnonzero(inside)
        return windows.take(keep), keep
    moved: list[Array] = []
    for (start, stop), length in zip(edges, lengths, strict=True):
        at = np.clip(start, 0, np.maximum(length[windows.space] - (stop - start), 0))
        moved += [at, at + stop - start]
    t0, t1, *rest = moved
    return Windows(windows.space, t0, t1, windows.step, *rest), np.arange(len(windows))


def covering(boxes: Boxes, spaces: Spaces, how: Around, per_image: int | None, rng: np.random.Generator) -> Windows:
    """
    Few windows that together cover all boxes, as far as these lie in their spaces.

    Parameters
    ----------
    per_image
        Of each space only so many, those that add most.
    """
    size = int(how.window_dims[0]), int(how.window_dims[1])
    which, parts = _parts(boxes, spaces, size)
    low, high = (np.empty((2, len(which)), np.int64) for _ in range(2))
    for along, ((first, last), length) in enumerate(zip(parts, (spaces.height, spaces.width), strict=True)):
        beyond = length[boxes.space[which]] - size[along]
        low[along], high[along] = last - size[along], first
        if how.borders != "pad":
            low[along] = np.maximum(low[along], np.minimum(beyond, 0))
            high[along] = np.minimum(high[along], np.maximum(beyond, 0))
    space, block = boxes.space[which], _blocks(boxes, spaces, how.time_dims)[which]
    keys, group = np.unique(np.stack([space, block]), axis=1, return_inverse=True)
    found = stab(Allowed(group.reshape(-1), low, high))
    windows = _placed(found, keys, spaces, how, size, rng)
    order = np.lexsort((windows.x0, windows.y0, windows.t0, windows.space))
    if per_image is not None:
        best = np.lexsort((np.arange(len(order)), -found.gain[order], windows.space[order]))
        keep = np.sort(best[_rank(windows.space[order][best]) < per_image])
        order = order[keep]
    return within(windows.take(order), spaces, how.borders)[0]


def _parts(
    boxes: Boxes, spaces: Spaces, size: tuple[int, int]
) -> tuple[Array, tuple[tuple[Array, Array], tuple[Array, Array]]]:
    """
    Boxes as whole pixels of their spaces, in parts that fit into a window.

    Returns
    -------
    Position of the box, and half-open intervals along y and x, of each part.
    """
    y0, y1 = _pixels(boxes.y0, boxes.y1, spaces.height[boxes.space])
    x0, x1 = _pixels(boxes.x0, boxes.x1, spaces.width[boxes.space])
    which = np.flatnonzero((y0 < y1) & (x0 < x1))
    pick, y0, y1 = cut(y0[which], y1[which], size[0])
    which = which[pick]
    pick, x0, x1 = cut(x0[which], x1[which], size[1])
    return which[pick], ((y0[pick], y1[pick]), (x0, x1))


def _pixels(low: Array, high: Array, length: Array) -> tuple[Array, Array]:
    """The pixels of a space that intervals touch, at least one where they begin inside."""
    first = np.floor(low + SLACK).astype(np.int64)
    last = np.maximum(np.ceil(high - SLACK).astype(np.int64), first + 1)
    return np.maximum(first, 0), np.minimum(last, length)


def _blocks(boxes: Boxes, spaces: Spaces, duration: int | None) -> Array:
    """The first frame of the windows that shall hold each box: each block begins with the first box not in one yet."""
    if not spaces.video or duration is None:
        return np.zeros(len(boxes), np.int64)
    key = np.stack([boxes.space, boxes.frame])
    frames, where = np.unique(key, axis=1, return_inverse=True)
    starts, at = [], (-1, 0)
    for space, t in frames.T.tolist():
        if space != at[0] or t >= at[1] + duration:
            at = space, t
        starts.append(at[1])
    return np.array(starts, np.int64)[where.reshape(-1)]


def _placed(
    found: Stabs, keys: Array, spaces: Spaces, how: Around, size: tuple[int, int], rng: np.random.Generator
) -> Windows:
    """Windows in the middle of where they may begin, or moved from there by chance."""
    y0, x0 = (
        np.floor((a + b) / 2 + how.jitter * (b - a) / 2 * rng.uniform(-1, 1, len(a))).astype(np.int64)
        for a, b in zip(found.low, found.high, strict=True)
    )
    space, t0 = keys[:, found.group]
    duration = spaces.lengths[space] if how.time_dims is None else np.full(len(space), how.time_dims)
    return Windows(space, t0, t0 + duration, np.ones_like(t0), y0, y0 + size[0], x0, x0 + size[1])


def positives(
    targets: Indexed,
    spaces: Spaces,
    how: Around,
    classes: tuple[Iterable[Any] | None, Iterable[Any]],
    caps: tuple[int | None, int | None],
    seed: Any,
) -> pandas.DataFrame:
    """
    What `Targets.positives` returns.

    Parameters
    ----------
    classes
        Those of interest, and the negative ones.
    caps
        Most annotations of a category, and most windows of an image.
    """
    refuse_time(spaces, how.time_dims)
    for name, most in zip(("per_class", "per_image"), caps, strict=True):
        if most is not None:
            whole(name, most, least=0)
    rng = np.random.default_rng(seed)
    annotations = targets.annotations
    boxes = targets.index(spaces).boxes
    boxes = boxes.take(targets.classes.counting(annotations.category_id[boxes.row], *classes))
    boxes = boxes.take(capped(annotations.category_id[boxes.row], caps[0], rng))
    if how.cover:
        return as_table(targets, spaces, covering(boxes, spaces, how, caps[1], rng), "positive")
    boxes = boxes.take(capped(boxes.space, caps[1], rng))
    boxes = boxes.take(np.argsort(annotations.position[boxes.row], kind="stable"))
    windows, kept = around(boxes, spaces, how, rng)
    rows = boxes.row[kept]
    further = {"aid": annotations.annot_id[rows], "category_id": annotations.category_id[rows]}
    if not spaces.video:
        further |= {"img_width": spaces.width[windows.space], "img_height": spaces.height[windows.space]}
    return as_table(targets, spaces, windows, "positive", further)
