"""Which windows hold annotations?

Either one window around each annotation, or few windows that together cover all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.errors import OptionError, TargetError
from ndzarr.sampler import values
from ndzarr.targets.cover import Allowed, Stabs, cut, stab
from ndzarr.targets.spaces import Array, Boxes, Spaces
from ndzarr.targets.windows import Windows, as_columns, held, names

if TYPE_CHECKING:
    import pandas

    from ndzarr.targets.choose import Targets

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
    """'shift', 'pad' or 'drop'."""

    def __post_init__(self) -> None:
        if not self.context > 0:
            raise OptionError(f"context={self.context!r}: expected a factor above 0")
        if not 0 <= self.jitter <= 1:
            raise OptionError(f"jitter={self.jitter!r}: expected a number from 0 (centred) to 1 (anywhere)")
        if self.time_dims is not None and self.time_dims < 1:
            raise OptionError(f"time_dims={self.time_dims!r}: expected at least 1 frame")
        values.window_dims(self.window_dims)

    def sizes(self, boxes: Boxes) -> tuple[Array, Array]:
        """Pixels of the window of each box along y and x."""
        if isinstance(values.window_dims(self.window_dims), tuple):
            height, width = (int(n) for n in self.window_dims)
            return np.full(len(boxes), height), np.full(len(boxes), width)
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
    """
    Where windows of n pixels begin: centred on the box, or moved by chance while the smaller of the two stays in the larger.
    """
    room = np.abs(n - (high - low)) / 2
    moved = (low + high) / 2 - n / 2 + jitter * room * rng.uniform(-1, 1, len(low))
    begin = np.floor(moved + 1e-9)
    first, last = np.ceil(high - n - SLACK), np.floor(low + SLACK)
    fits = (first <= last) & (jitter > 0)
    out: Array = np.where(fits, np.clip(begin, first, last), begin).astype(np.int64)
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


def covering(
    boxes: Boxes, spaces: Spaces, how: Around, per_image: int | None, rng: np.random.Generator
) -> Windows:
    """
    Few windows that together cover all boxes, as far as these lie in their spaces.

    Raises
    ------
    TargetError
        No size is given.
    """
    if not isinstance(values.window_dims(how.window_dims), tuple):
        raise TargetError(f"cover=True with window_dims={how.window_dims!r}: give (height, width)")
    size = tuple(int(n) for n in how.window_dims)
    space, block = boxes.space, _blocks(boxes, spaces, how.time_dims)
    which = np.arange(len(boxes))
    parts: list[tuple[Array, Array]] = []
    for along, (low, high, length) in enumerate(
        ((boxes.y0, boxes.y1, spaces.height), (boxes.x0, boxes.x1, spaces.width))
    ):
        first = np.floor(low + SLACK).astype(np.int64)
        last = np.maximum(np.ceil(high - SLACK).astype(np.int64), first + 1)
        first, last = np.maximum(first, 0)[which], np.minimum(last, length[space])[which]
        seen = first < last
        pick, first, last = cut(first[seen], last[seen], np.full(int(seen.sum()), size[along]))
        pick = np.flatnonzero(seen)[pick]
        parts = [(a[pick], b[pick]) for a, b in parts] + [(first, last)]
        which = which[pick]
    space, block = space[which], block[which]
    limits = spaces.height[space], spaces.width[space]
    low, high = (np.empty((2, len(which)), np.int64) for _ in range(2))
    for along, (first, last) in enumerate(parts):
        beyond = limits[along] - size[along]
        low[along], high[along] = last - size[along], first
        if how.borders != "pad":
            low[along] = np.maximum(low[along], np.minimum(beyond, 0))
            high[along] = np.minimum(high[along], np.maximum(beyond, 0))
    keys, group = np.unique(np.stack([space, block]), axis=1, return_inverse=True)
    found = stab(Allowed(group.reshape(-1), low, high))
    windows = _placed(found, keys, spaces, how, size, rng)
    order = np.lexsort((windows.x0, windows.y0, windows.t0, windows.space))
    if per_image is not None:
        best = np.lexsort((np.arange(len(order)), -found.gain[order], windows.space[order]))
        keep = np.sort(best[_rank(windows.space[order][best]) < per_image])
        order = order[keep]
    return within(windows.take(order), spaces, how.borders)[0]


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
    found: Stabs, keys: Array, spaces: Spaces, how: Around, size: tuple[int, ...], rng: np.random.Generator
) -> Windows:
    """Windows in the middle of where they may begin, or moved from there by chance."""
    y0, x0 = (
        np.floor((a + b) / 2 + how.jitter * (b - a) / 2 * rng.uniform(-1, 1, len(a)) + 0.5 - 1e-9).astype(np.int64)
        for a, b in zip(found.low, found.high, strict=True)
    )
    y0, x0 = (np.clip(s, a, b) for s, a, b in zip((y0, x0), found.low, found.high, strict=True))
    space, t0 = keys[:, found.group]
    duration = spaces.lengths[space] if how.time_dims is None else np.full(len(space), how.time_dims)
    return Windows(space, t0, t0 + duration, np.ones_like(t0), y0, y0 + size[0], x0, x0 + size[1])


def table(
    targets: Targets, spaces: Spaces, windows: Windows, main: Boxes | None = None
) -> pandas.DataFrame:
    """
    Windows as positive targets.

    Parameters
    ----------
    main
        The box that each window is around, if it is around one.
    """
    import pandas

    from ndzarr.targets.overlap import Index

    annotations = targets.annotations
    columns = as_columns(windows, spaces)
    if main is not None:
        columns |= {"aid": annotations.annot_id[main.row], "category_id": annotations.category_id[main.row]}
        if not spaces.video:
            columns |= {"img_width": spaces.width[windows.space], "img_height": spaces.height[windows.space]}
    boxes = targets.boxes(spaces)
    index = targets.index(spaces.kind) if boxes is targets.index(spaces.kind).boxes else Index(spaces, boxes)
    pairs = index.touching(windows)
    ids, counts = held(pairs.window, annotations.annot_id[boxes.row[pairs.box]], len(windows))
    kind = names(("positive",), np.zeros(len(windows), np.intp))
    return pandas.DataFrame(columns | {"annot_ids": ids, "n_annots": counts, "kind": kind})
