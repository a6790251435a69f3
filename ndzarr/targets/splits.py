"""Which windows are for training, which for validation, which for testing?

1. Windows that must stay together make a group: those of one image, one video, one value of an attribute, or one block
   of space.  Groups of which windows share pixels are one group: no window of a part shows what another part has seen.
2. `stratify.assign` shares out the groups so that each part has its fraction of the windows and of each label.
3. In space, the image or video is cut into square blocks.  A window belongs to a part if every block that it, with the
   margin around it, touches is of that part; windows on the border between two parts belong to none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.targets.attributes import Membership, membership
from ndzarr.targets.footprint import Footprints, as_table, footprints, ramps
from ndzarr.targets.options import whole
from ndzarr.targets.rows import Rows, Targets
from ndzarr.targets.sharing import Common, components, in_common, touching_groups
from ndzarr.targets.stratify import assign

if TYPE_CHECKING:
    import pandas

    from ndzarr.sampler.coco import CocoSampler

Array: TypeAlias = "np.ndarray[Any, Any]"

FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""Parts, unless others are asked for."""
AIMS = 6
"""Attempts to share out blocks so that the windows that are left have the fractions asked for."""


def split(
    sampler: CocoSampler,
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
    labels = None if stratify is None else membership(sampler, table, stratify)
    names = np.array([*parts, None], object)
    if not len(table):
        return table.assign(split=names[:0])
    found = footprints(sampler, table)
    rng = np.random.default_rng(seed)
    share = np.array(list(parts.values()))
    if by == "space":
        part = _in_space(sampler, in_common(sampler, found), labels, len(table), share, block, margin, rng)
    else:
        group = _groups(sampler, table, found, by)
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


def _groups(sampler: CocoSampler, table: pandas.DataFrame, found: Footprints, by: str) -> Array:
    """The group of each row."""
    n = len(found)
    if by in ("image", "video") and by not in table:
        code = np.arange(len(found.gids))
        if by == "video":
            videos: dict[Any, int] = {}
            keys = [(sampler._dataset.video_of(g), g) for g in found.gids]
            code = np.array([videos.setdefault((v, None) if v is not None else (v, g), len(videos)) for v, g in keys])
        real = found.frame >= 0
        row, member = found.row[real], code[found.frame[real]]
    else:
        values = membership(sampler, table, by)
        row, member = values.row, values.code
    # Rows and what they belong to are connected, and with them all rows of one group.
    group = components(n + int(member.max(initial=-1)) + 1, row, n + member)[:n]
    group = np.unique(group, return_inverse=True)[1]
    if by == "image":
        return group
    pairs = touching_groups(in_common(sampler, found), group)
    return components(int(group.max()) + 1, pairs[:, 0], pairs[:, 1])[group]


def _in_space(
    sampler: CocoSampler,
    found: Common,
    labels: Membership | None,
    rows: int,
    share: Array,
    block: int | None,
    margin: int,
    rng: np.random.Generator,
) -> Array:
    """The part of each row; the number of parts for those that are in none."""
    size = found.sizes(sampler)
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
