"""Which windows hold annotations?

Either one window around each annotation, or few windows that together cover all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.errors import OptionError
from ndzarr.sampler import values
from ndzarr.targets.cover import Allowed, Stabs, cut, stab
from ndzarr.targets.options import factor, portion, whole
from ndzarr.targets.spaces import Array, Boxes, Spaces, refuse_time
from ndzarr.targets.tables import as_table
from ndzarr.targets.windows import Windows

if TYPE_CHECKING:
    import pandas

    from ndzarr.targets.indexed import Indexed

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
        dims = values.window_dims(self.window_dims)
        for n in dims if isinstance(dims, tuple) else ():
            whole("window_dims", n)
        if self.cover and not isinstance(dims, tuple):
            raise OptionError(f"cover=True with window_dims={self.window_dims!r}: give (height, width)")
        if isinstance(dims, tuple) and self.context != 1:
            raise OptionError(f"window_dims={dims!r} and context={self.context!r} both give the size; give only one")

    def sizes(self, boxes: Boxes) -> tuple[Array, Array]:
        """Pixels of the window of each box along y and x."""
        if isinstance(values.window_dims(self.window_dims), tuple):
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
