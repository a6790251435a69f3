"""Which windows are for training, which for validation, which for testing?

1. Windows that must stay together make a group: those of one image, one video, one value of an attribute, or one block
   of space.  Groups of which windows share pixels are one group: no window of a part shows what another part has seen.
2. `stratify.assign` shares out the groups so that each part has its fraction of the windows and of each label.
3. In space, the image or video is cut into square blocks.  A window belongs to a part if every block that it, with the
   margin around it, touches is of that part; windows on the border between two parts belong to none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._validation import check_target_count as whole
from ndzarr.errors import TargetError
from ndzarr.targets.attributes import Membership, membership
from ndzarr.targets.table import Rows
from ndzarr.targets.table import TargetsLike as Targets
from ndzarr.targets.windows import Footprints, as_table, footprints, ramps, space_size

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.protocols import SampleSource


# --- Which windows share pixels?


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

    def sizes(self, source: SampleSource) -> Array:
        """(height, width) of each space; shape (space, 2)."""
        return np.array([space_size(source, *name) for name in self.spaces], np.int64).reshape(-1, 2)


def in_common(source: SampleSource, found: Footprints) -> Common:
    """The boxes of all rows."""
    names: dict[tuple[str, Any], int] = {}
    of_gid = np.empty(len(found.gids), np.int64)
    for k, gid in enumerate(found.gids):
        vidid = source.dataset.video_of(gid)
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
        warps = np.stack([source.frame(found.gids[k]).to_video for k in used.tolist()])[code]
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


# --- Which group goes to which part, so that each part has its fraction of the rows and of every label?


PASSES = 10
"""Sweeps over all kinds at most, to improve."""
CLOSE = 1e-4
"""Shares that are as near to the fractions are not improved."""
FEW = 400
"""Kinds in a part up to which pairs are exchanged."""


def assign(counts: Array, fractions: Array, rng: np.random.Generator) -> Array:
    """
    Share out groups.

    Parameters
    ----------
    counts
        Rows of each group (first column) and of each label in it; shape (group, 1 + label).
    fractions
        Of each part; above 0, with sum 1.

    Returns
    -------
    The part of each group; shape (group,).  No part is without rows if there are enough groups that have some; groups
    that have none go to the largest part.
    """
    chosen = np.full(len(counts), int(np.argmax(fractions)))
    filled = np.flatnonzero(counts.any(axis=1))
    kind = _alike(counts[filled])
    first, number = np.unique(kind, return_index=True, return_counts=True)[1:]
    kinds = counts[filled[first]]
    total = kinds.T @ number
    values = kinds / np.where(total > 0, total, 1)
    values[:, 0] *= np.sqrt(max(1, values.shape[1] - 1))  # sizes count as much as all labels together
    given = np.zeros((len(kinds), len(fractions)), np.int64)
    shared = _Shared(values, fractions, given, off=-fractions[:, None] * (values.T @ number))
    shared.deal(number, rng)
    shared.fill_empty()
    shared.improve(rng)
    order = np.lexsort((rng.random(len(filled)), kind))
    chosen[filled[order]] = np.repeat(np.tile(np.arange(len(fractions)), len(kinds)), shared.given.reshape(-1))
    return chosen


def _alike(counts: Array) -> Array:
    """Numbers of equal rows, from 0; shape (row,)."""
    kind = np.zeros(len(counts), np.int64)
    for column in counts.T:  # np.unique(axis=0) takes ten times as long
        values, code = np.unique(column, return_inverse=True)
        kind = np.unique(kind * len(values) + code, return_inverse=True)[1]
    return kind


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    """Groups as they have been shared out so far."""

    values: Array
    """What a group of each kind has of all rows, and of each label; shape (kind, column)."""
    fractions: Array
    """Of each part; shape (part,)."""
    given: Array
    """Groups of each kind in each part; shape (kind, part)."""
    off: Array
    """What each part has too much of each column; shape (part, column)."""

    def change(self, value: Array) -> Array:
        """What adding a group to each part does to the sum; shape (part,)."""
        return np.asarray((2 * (self.off @ value) + value @ value) / self.fractions)

    def give(self, kind: int, part: int, number: int = 1) -> None:
        """Groups to a part; fewer than none takes them from it."""
        self.given[kind, part] += number
        self.off[part] += number * self.values[kind]

    def deal(self, number: Array, rng: np.random.Generator) -> None:
        """So many groups of each kind."""
        for kind in np.lexsort((rng.random(len(number)), -np.round(self.values.max(axis=1), 12))).tolist():
            rest = int(number[kind])
            if rest > len(self.fractions):
                whole = np.floor(self.divided(self.values[kind], rest)).astype(np.int64)
                for part in np.flatnonzero(whole).tolist():
                    self.give(kind, part, int(whole[part]))
                rest -= int(whole.sum())
            for _ in range(rest):
                self.give(kind, int(np.argmin(self.change(self.values[kind]))))

    def divided(self, value: Array, number: int) -> Array:
        """
        How many groups of a kind each part would get if they could be divided; shape (part,).

        Parts are filled up to one level, as with water: a part that is above it gets none.
        """
        height = self.off @ value / self.fractions
        low = np.argsort(height)
        capacity = np.cumsum(self.fractions[low])
        level = (number * (value @ value) + np.cumsum(self.fractions[low] * height[low])) / capacity
        above = np.append(height[low][1:], np.inf)
        return np.asarray(np.maximum(level[np.argmax(level <= above)] - height, 0) * self.fractions / (value @ value))

    def fill_empty(self) -> None:
        """Give each part without groups the smallest of one that has several."""
        for empty in np.flatnonzero(self.given.sum(axis=0) == 0).tolist():
            kind, part = np.nonzero(self.given * (self.given.sum(axis=0) > 1))
            if len(kind):
                k = int(np.argmin(self.values[kind].sum(axis=1)))
                self.give(int(kind[k]), int(part[k]), -1)
                self.give(int(kind[k]), empty)

    def improve(self, rng: np.random.Generator) -> None:
        """Move and exchange groups while that helps."""
        for _ in range(PASSES):
            if np.abs(self.off).max(initial=0) < CLOSE:
                return
            kind, part = np.nonzero(self.given)
            moved = False
            for k in rng.permutation(len(kind)).tolist():
                moved |= self._move(int(kind[k]), int(part[k]))
            if np.count_nonzero(self.given) <= FEW:
                moved |= self._exchange()
            if not moved:
                return

    def _move(self, kind: int, here: int) -> bool:
        """Groups of a kind to the part where they help most, if they do; the last group of a part stays."""
        most = int(min(self.given[kind, here], self.given[:, here].sum() - 1))
        if most < 1:
            return False
        value = self.values[kind]
        self.off[here] -= value
        change = self.change(value)
        self.off[here] += value
        there = int(np.argmin(change))
        if change[there] >= change[here] - 1e-12:
            return False
        ends = [here, there]
        slope = self.off[ends] @ value / self.fractions[ends]
        best = (slope[0] - slope[1]) / (value @ value) / (1 / self.fractions[ends]).sum()
        number = int(np.clip(round(float(best)), 1, most))
        self.give(kind, here, -number)
        self.give(kind, there, number)
        return True

    def _exchange(self) -> bool:
        """Exchange a group of each kind and part with the one of another part that helps most."""
        moved = False
        for kind, here in zip(*(axis.tolist() for axis in np.nonzero(self.given)), strict=True):
            if not self.given[kind, here]:
                continue
            kinds, parts = np.nonzero(self.given)
            step = self.values[kinds] - self.values[kind]  # what `here` gains, and the other part loses
            squares = (step * step).sum(axis=1)
            gain = (2 * (step @ self.off[here]) + squares) / self.fractions[here]
            loss = (-2 * (step * self.off[parts]).sum(axis=1) + squares) / self.fractions[parts]
            change = np.where(parts == here, 0.0, gain + loss)
            best = int(np.argmin(change))
            if change[best] < -1e-12:
                other, there = int(kinds[best]), int(parts[best])
                for one, source, goal in ((kind, here, there), (other, there, here)):
                    self.give(one, source, -1)
                    self.give(one, goal)
                moved = True
        return moved


FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""Parts, unless others are asked for."""
AIMS = 6
"""Attempts to share out blocks so that the windows that are left have the fractions asked for."""


def split(
    source: SampleSource,
    table: Targets | Rows,
    fractions: Mapping[str, float] | None = None,
    by: str = "video",
    stratify: str | None = None,
    block: int | None = None,
    margin: int = 0,
    seed: int = 0,
) -> pandas.DataFrame:
    """
    Part a table, so that no two parts share a pixel.

    Parameters
    ----------
    table
        Targets.
    fractions
        Part to its fraction of the windows; by default 'train' 0.8, 'validation' 0.1 and 'test' 0.1.
    by
        What stays together: 'video' (images in no video stay together each by itself), 'image' (frames of a video may
        go to different parts), 'space' (blocks of one image or video), or an attribute as `balanced` takes it, such as
        a column, or 'video.region'.  Groups of which windows overlap become one.
    stratify
        An attribute of which every value is shared out by the same fractions, such as 'category'.
    block
        Edge of a block in pixels, with by='space'; from the windows' size and the space there is if left out.
    margin
        Pixels between windows of different parts, with by='space'.
    seed
        The same one gives the same table.

    Returns
    -------
    The table with a column `split`.  With by='space', it is missing for windows on a border between two parts.

    Raises
    ------
    TargetError
        There are fewer groups than parts, or an argument is not understood.
    """
    table = as_table(table)
    if not isinstance(by, str):
        raise TargetError(f"by={by!r}: expected 'video', 'image', 'space' or the name of an attribute")
    parts = _fractions(FRACTIONS if fractions is None else fractions)
    if by != "space" and (block is not None or margin):
        raise TargetError(f"block and margin are for by='space', not by={by!r}")
    margin, block = whole("margin", margin, least=0), None if block is None else whole("block", block)
    labels = None if stratify is None else membership(source, table, stratify)
    names = np.array([*parts, None], object)
    if not len(table):
        return table.assign(split=names[:0])
    found = footprints(source, table)
    rng = np.random.default_rng(seed)
    share = np.array(list(parts.values()))
    if by == "space":
        part = _in_space(source, in_common(source, found), labels, len(table), share, block, margin, rng)
    else:
        group = _groups(source, table, found, by)
        part = _assigned(group, labels, share, rng, f"by={by!r}")[group]
    return table.assign(split=names[part])


def _fractions(fractions: Any) -> dict[str, float]:
    given = {str(name): float(f) for name, f in fractions.items()} if isinstance(fractions, Mapping) else {}
    if not given or min(given.values()) < 0 or not np.isclose(sum(given.values()), 1.0, atol=1e-3):
        raise TargetError(
            f"fractions={fractions!r}: expected {{'train': 0.8, ...}}, numbers of at least 0 that sum to 1"
        )
    total = sum(given.values())
    return {name: f / total for name, f in given.items() if f > 0}


def _assigned(
    group: Array, labels: Membership | None, share: Array, rng: np.random.Generator, what: str, n: int | None = None
) -> Array:
    """
    The part of each group.

    Parameters
    ----------
    group
        Of each row.
    n
        Number of groups, where some have no rows.
    """
    n = int(group.max()) + 1 if n is None else n
    columns = 1 + (len(labels.values) if labels is not None else 0)
    counts = np.zeros((n, columns))
    counts[:, 0] = np.bincount(group, minlength=n)
    filled = int((counts[:, 0] > 0).sum())
    if filled < len(share):
        raise TargetError(
            f"{what}: windows that must stay together make {filled} group{'s' * (filled != 1)}, too few for "
            f"{len(share)} parts; part by something finer, such as by='space' with a smaller block"
        )
    if labels is not None:
        cells = group[labels.row] * (columns - 1) + labels.code
        counts[:, 1:] = np.bincount(cells, minlength=n * (columns - 1)).reshape(n, -1)
    return assign(counts, share, rng)


def _groups(source: SampleSource, table: pandas.DataFrame, found: Footprints, by: str) -> Array:
    """The group of each row."""
    n = len(found)
    if by in ("image", "video") and by not in table:
        code = np.arange(len(found.gids))
        if by == "video":
            videos: dict[Any, int] = {}
            keys = [(source.dataset.video_of(g), g) for g in found.gids]
            code = np.array([videos.setdefault((v, None) if v is not None else (v, g), len(videos)) for v, g in keys])
        real = found.frame >= 0
        row, member = found.row[real], code[found.frame[real]]
    else:
        values = membership(source, table, by)
        row, member = values.row, values.code
    # Rows and what they belong to are connected, and with them all rows of one group.
    group = components(n + int(member.max(initial=-1)) + 1, row, n + member)[:n]
    group = np.unique(group, return_inverse=True)[1]
    if by == "image":
        return group
    pairs = touching_groups(in_common(source, found), group)
    return components(int(group.max()) + 1, pairs[:, 0], pairs[:, 1])[group]


def _in_space(
    source: SampleSource,
    found: Common,
    labels: Membership | None,
    rows: int,
    share: Array,
    block: int | None,
    margin: int,
    rng: np.random.Generator,
) -> Array:
    """The part of each row; the number of parts for those that are in none."""
    size = found.sizes(source)
    edge = block if block is not None else _block(found, size, share)
    grid = -(-size // edge)
    base = np.cumsum(grid.prod(axis=1)) - grid.prod(axis=1)
    last = grid[found.space] - 1

    def blocks(position: Array, axis: int) -> Array:
        return np.clip(np.floor(position / edge), 0, last[:, axis]).astype(np.int64)

    x0, y0, x1, y1 = found.box.T
    across = grid[found.space, 1]
    centre = base[found.space] + blocks((y0 + y1) / 2, 0) * across + blocks((x0 + x1) / 2, 1)
    home = np.zeros(rows, np.int64)
    home[found.row[::-1]] = centre[::-1]

    top, bottom = blocks(y0 - margin, 0), blocks(np.ceil(y1 + margin) - 1, 0)
    left, right = blocks(x0 - margin, 1), blocks(np.ceil(x1 + margin) - 1, 1)
    wide = right - left + 1
    number = (bottom - top + 1) * wide
    box = np.repeat(np.arange(len(number)), number)
    down, along = np.divmod(ramps(number), wide[box])
    touched = base[found.space[box]] + (top[box] + down) * across[box] + left[box] + along
    total = int(grid.prod(axis=1).sum())

    def shared_out(aim: Array) -> Array:
        of_block = _assigned(home, labels, aim, rng, f"by='space' with block={edge}", total)[touched]
        low, high = np.full(rows, len(share)), np.full(rows, -1)
        np.minimum.at(low, found.row[box], of_block)
        np.maximum.at(high, found.row[box], of_block)
        return np.where(low == high, low, len(share))

    return _nearest(shared_out, share)


def _nearest(shared_out: Callable[[Array], Array], share: Array) -> Array:
    """
    The parts that come nearest to the fractions.

    Small parts lose more windows at their borders, so that they must aim higher.
    """
    best, least, aim = np.empty(0, np.int64), np.inf, share
    for _ in range(AIMS):
        part = shared_out(aim)
        kept = np.bincount(part, minlength=len(share) + 1)[:-1]
        got = kept / max(1, kept.sum())
        if (off := float(np.abs(got - share).max())) < least:
            best, least = part, off
        aim = aim * share / np.maximum(got, share / 4)
        aim = aim / aim.sum()
    return best


def _block(found: Common, size: Array, share: Array) -> int:
    """Edge of blocks: some for every part where there is room, but well above the windows' size."""
    window = float(np.quantile(found.box[:, 2:] - found.box[:, :2], 0.95))
    area = float(size[np.unique(found.space)].prod(axis=1).sum())
    wanted = float(np.sqrt(area * share.min() / 10))
    return max(1, int(np.clip(wanted, 2 * window, 16 * window)))
