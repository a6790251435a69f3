"""Training, validation and test windows: no two parts share a pixel.

1. Windows that must stay together make a group: those of one image, one video, one value of an attribute, or one block
   of space.  Groups whose windows share pixels become one group: no window of a part shows what another part has seen.
2. A stratified group split gives each part its fraction of the windows and of each label: the largest groups go first,
   each to the part where it helps most.
3. With by='space', the image or video is cut into square blocks.  A window belongs to a part if every block that it and
   the margin around it touch is of that part; windows on the border between two parts belong to none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._validation import check_target_count
from ndzarr.errors import TargetError
from ndzarr.targets.attributes import Membership, membership
from ndzarr.targets.table import Rows, TargetsLike, as_table
from ndzarr.targets.windows import Array, WindowColumns, ramps, space_size, window_columns

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.protocols import SampleSource


FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}  # parts, unless others are asked for
ATTEMPTS = 6  # attempts to split blocks so that the windows that are left have the fractions asked for
AT_ONCE = 20_000  # boxes that are looked up in the tree together
EDGE = 1e-3  # pixels by which boxes must overlap to share pixels: those that overlap by less only meet


def split(
    source: SampleSource,
    targets: TargetsLike | Rows,
    fractions: Mapping[str, float] | None,
    by: str,
    stratify: str | None,
    block: int | None,
    margin: int,
    seed: int | np.random.Generator | None,
) -> pandas.DataFrame:
    """Split a table into parts; see `Targets.split`."""
    table = as_table(targets)
    if not isinstance(by, str):
        raise TargetError(f"by={by!r}: expected 'video', 'image', 'space' or the name of an attribute", key="by")
    parts = _fractions(FRACTIONS if fractions is None else fractions)
    if by != "space" and (block is not None or margin):
        key = "margin" if block is None else "block"
        raise TargetError(f"by={by!r} has no {key}", key=key, hint="Leave it out, or pass by='space'")
    margin = check_target_count("margin", margin, least=0)
    block = None if block is None else check_target_count("block", block)
    labels = None if stratify is None else membership(source, table, stratify)
    names = np.array([*parts, None], object)
    if not len(table):
        return table.assign(split=names[:0])
    found = window_columns(table, source)
    rng = np.random.default_rng(seed)
    share = np.array(list(parts.values()))
    if by == "space":
        part = _in_space(source, in_shared_spaces(source, found), labels, len(table), share, block, margin, rng)
    else:
        group = _groups(source, table, found, by)
        part = _assigned(group, labels, share, rng, f"by={by!r}")[group]
    return table.assign(split=names[part])


def _fractions(fractions: Any) -> dict[str, float]:
    given = {str(name): float(f) for name, f in fractions.items()} if isinstance(fractions, Mapping) else {}
    if not given or min(given.values()) < 0 or not np.isclose(sum(given.values()), 1.0, atol=1e-3):
        message = f"fractions={fractions!r}: expected numbers that sum to 1, as in {{'train': 0.8, ...}}"
        raise TargetError(message, key="fractions")
    total = sum(given.values())
    return {name: f / total for name, f in given.items() if f > 0}


def _assigned(
    group: Array, labels: Membership | None, share: Array, rng: np.random.Generator, what: str, n: int | None = None
) -> Array:
    """Return the part of each of n groups; `group` is that of each row, and some groups may have no rows."""
    n = int(group.max()) + 1 if n is None else n
    columns = 1 + (len(labels.values) if labels is not None else 0)
    counts = np.zeros((n, columns))
    counts[:, 0] = np.bincount(group, minlength=n)
    filled = int((counts[:, 0] > 0).sum())
    if filled < len(share):
        raise TargetError(
            f"{what}: windows that must stay together make {filled} group{'s' * (filled != 1)}, too few for "
            f"{len(share)} parts",
            key="by",
            hint="Part by something finer, such as by='space' with a smaller block",
        )
    if labels is not None:
        cells = group[labels.row] * (columns - 1) + labels.code
        counts[:, 1:] = np.bincount(cells, minlength=n * (columns - 1)).reshape(n, -1)
    return assign(counts, share, rng)


def _groups(source: SampleSource, table: pandas.DataFrame, found: WindowColumns, by: str) -> Array:
    """Return the group of each row."""
    n = len(found)
    if by in ("image", "video") and by not in table:
        code = np.arange(len(found.gids))
        if by == "video":
            videos: dict[Any, int] = {}
            keys = [(source.dataset.video_of(g), g) for g in found.gids]
            code = np.array([videos.setdefault((v, None) if v is not None else (v, g), len(videos)) for v, g in keys])
        row, frame = found.real_entries()
        member = code[frame]
    else:
        values = membership(source, table, by)
        row, member = values.row, values.code
    # Rows are connected with what they belong to, and so with all rows of their group.
    group = components(n + int(member.max(initial=-1)) + 1, row, n + member)[:n]
    group = np.unique(group, return_inverse=True)[1]
    if by == "image":
        return group
    pairs = touching_groups(in_shared_spaces(source, found), group)
    return components(int(group.max()) + 1, pairs[:, 0], pairs[:, 1])[group]


def _in_space(
    source: SampleSource,
    found: SharedSpaces,
    labels: Membership | None,
    rows: int,
    share: Array,
    block: int | None,
    margin: int,
    rng: np.random.Generator,
) -> Array:
    """Return the part of each row; the number of parts for rows that are in none."""
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

    def split_blocks(aim: Array) -> Array:
        of_block = _assigned(home, labels, aim, rng, f"by='space' with block={edge}", total)[touched]
        low, high = np.full(rows, len(share)), np.full(rows, -1)
        np.minimum.at(low, found.row[box], of_block)
        np.maximum.at(high, found.row[box], of_block)
        return np.where(low == high, low, len(share))

    return _nearest(split_blocks, share)


def _nearest(split_blocks: Callable[[Array], Array], share: Array) -> Array:
    """Return the parts that come nearest to the fractions."""
    best, least, aim = (
        np.empty(0, np.int64),
        np.inf,
        share,
    )  # small parts lose more at their borders, so they aim higher
    for _ in range(ATTEMPTS):
        part = split_blocks(aim)
        kept = np.bincount(part, minlength=len(share) + 1)[:-1]
        got = kept / max(1, kept.sum())
        if (off := float(np.abs(got - share).max())) < least:
            best, least = part, off
        aim = aim * share / np.maximum(got, share / 4)
        aim = aim / aim.sum()
    return best


def _block(found: SharedSpaces, size: Array, share: Array) -> int:
    """Return the edge of blocks: small enough for several in each part, but well above the size of windows."""
    window = float(np.quantile(found.box[:, 2:] - found.box[:, :2], 0.95))
    area = float(size[np.unique(found.space)].prod(axis=1).sum())
    wanted = float(np.sqrt(area * share.min() / 10))
    return max(1, int(np.clip(wanted, 2 * window, 16 * window)))


@dataclass(frozen=True, slots=True, eq=False)
class SharedSpaces:
    """Boxes of the rows of a table, in spaces that windows of images and of videos share."""

    spaces: tuple[tuple[str, Any], ...]  # ('video', vidid), or ('image', gid) of an image in no video
    row: Array  # row of each box; a row has one box per space; shape (box,)
    space: Array  # position among `spaces`; shape (box,)
    box: Array  # x0, y0, x1, y1 in pixels of the space; shape (box, 4)

    def sizes(self, source: SampleSource) -> Array:
        """Return (height, width) of each space; shape (space, 2)."""
        return np.array([space_size(source, *name) for name in self.spaces], np.int64).reshape(-1, 2)


def in_shared_spaces(source: SampleSource, found: WindowColumns) -> SharedSpaces:
    """Return the boxes of all rows: frames of videos are moved to the space of their video."""
    names: dict[tuple[str, Any], int] = {}
    of_gid = np.empty(len(found.gids), np.int64)
    for k, gid in enumerate(found.gids):
        vidid = source.dataset.video_of(gid)
        of_gid[k] = names.setdefault(("image", gid) if vidid is None else ("video", vidid), len(names))
    row, frame = found.real_entries()
    space = of_gid[frame]
    # One box per row and space.
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
        box[inner] = _warped(warps, box[inner])
    return SharedSpaces(tuple(names), row, space, box)


def _warped(matrix: Array, box: Array) -> Array:
    """Return upright boxes around boxes (box, 4) that are each moved by a transform (box, 3, 3)."""
    corners = np.stack([box[:, [0, 1]], box[:, [2, 1]], box[:, [0, 3]], box[:, [2, 3]]], axis=1)
    moved = np.einsum("nij,nkj->nki", matrix[:, :2, :2], corners) + matrix[:, None, :2, 2]
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)


def touching_groups(found: SharedSpaces, group: Array) -> Array:
    """Return the pairs of different groups whose windows share pixels; `group` is that of each row; shape (pair, 2)."""
    import shapely

    of_box = group[found.row]
    low, high = np.full(len(found.spaces), np.iinfo(np.int64).max), np.full(len(found.spaces), -1)
    np.minimum.at(low, found.space, of_box)
    np.maximum.at(high, found.space, of_box)
    # Only spaces with windows of several groups matter.
    mixed = np.flatnonzero((low < high)[found.space])
    if not len(mixed):
        return np.empty((0, 2), np.int64)
    table = np.unique(np.column_stack([found.space[mixed], of_box[mixed], found.box[mixed]]), axis=0)
    # One tree holds all spaces, side by side; boxes are shrunk, since borders that only meet share no pixel.
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
    Return the connected component of each of n things, given pairs that are connected.

    Labels are hooked onto smaller ones and shortened until nothing changes (Shiloach and Vishkin, 1982).

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


def assign(counts: Array, fractions: Array, rng: np.random.Generator) -> Array:
    """
    Return the part of each group, from the rows of each and of each label in it, shape (group, 1 + label).

    No part is without rows if enough groups have some; groups without rows go to the largest part.
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
    assignment = _Assignment(values, fractions, given, off=-fractions[:, None] * (values.T @ number))
    assignment.deal(number, rng)
    assignment.fill_empty()
    order = np.lexsort((rng.random(len(filled)), kind))
    chosen[filled[order]] = np.repeat(np.tile(np.arange(len(fractions)), len(kinds)), assignment.given.reshape(-1))
    return chosen


def _alike(counts: Array) -> Array:
    """Return numbers, from 0, of the different rows; shape (row,)."""
    kind = np.zeros(len(counts), np.int64)
    for column in counts.T:  # np.unique(axis=0) takes ten times as long
        values, code = np.unique(column, return_inverse=True)
        kind = np.unique(kind * len(values) + code, return_inverse=True)[1]
    return kind


@dataclass(frozen=True, slots=True, eq=False)
class _Assignment:
    """The parts of groups so far; groups with equal counts are one kind."""

    values: Array  # the fraction of all rows, and of each label, that a group of each kind has; shape (kind, column)
    fractions: Array  # fraction that each part should have; shape (part,)
    given: Array  # groups of each kind in each part; shape (kind, part)
    off: Array  # excess of each part in each column; shape (part, column)

    def change(self, value: Array) -> Array:
        """Return how adding a group to each part changes the weighted sum of squared excesses; shape (part,)."""
        return np.asarray((2 * (self.off @ value) + value @ value) / self.fractions)

    def give(self, kind: int, part: int, number: int = 1) -> None:
        """Give groups to a part; a negative number takes them from it."""
        self.given[kind, part] += number
        self.off[part] += number * self.values[kind]

    def deal(self, number: Array, rng: np.random.Generator) -> None:
        """Give away so many groups of each kind, the largest kinds first, each group where it helps most."""
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
        """Return what each part would get of groups that could be divided, filled to one level as with water."""
        height = self.off @ value / self.fractions
        low = np.argsort(height)
        capacity = np.cumsum(self.fractions[low])
        level = (number * (value @ value) + np.cumsum(self.fractions[low] * height[low])) / capacity
        above = np.append(height[low][1:], np.inf)
        return np.asarray(np.maximum(level[np.argmax(level <= above)] - height, 0) * self.fractions / (value @ value))

    def fill_empty(self) -> None:
        """Give each part without groups the smallest group of a part that has several."""
        for empty in np.flatnonzero(self.given.sum(axis=0) == 0).tolist():
            kind, part = np.nonzero(self.given * (self.given.sum(axis=0) > 1))
            if len(kind):
                k = int(np.argmin(self.values[kind].sum(axis=1)))
                self.give(int(kind[k]), int(part[k]), -1)
                self.give(int(kind[k]), empty)
