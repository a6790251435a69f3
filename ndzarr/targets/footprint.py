"""Which pixels of which frames does each row of a table ask for?

What `load_sample` finds out for one target, for whole columns at once: the space that a row samples, its window there
and its frames.

1. Rows that give their window by `cx cy width height` (or not at all) and their frames by `gid`, `gids`, or `vidid`
   with `time_start time_stop time_step` are read from their columns.
2. The few that say it otherwise (`aid`, slices, `window_dims`, `pad`) are resolved one by one, as `load_sample` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.sampler.resolve import resolve
from ndzarr.sampler.target import ALIASES, parse
from ndzarr.targets.rows import Rows, Targets

if TYPE_CHECKING:
    import pandas

    from ndzarr.sampler.coco import CocoSampler

Array: TypeAlias = "np.ndarray[Any, Any]"

UNUSUAL = ("aid", "slices", "space_slice", "time_slice", "window_dims", "y", "x", "pad", "key", "t", "z")
"""Keys that move the window, and are looked at row by row."""


@dataclass(frozen=True, slots=True, eq=False)
class Footprints:
    """Where the rows of a table lie."""

    spaces: tuple[tuple[str, Any], ...]
    """('image', gid) or ('video', vidid) of each space that is sampled."""
    size: Array
    """(height, width) of each space; shape (space, 2)."""
    space: Array
    """Position among `spaces`; shape (row,)."""
    y: Array
    """Half-open intervals in pixels of the space; shape (row, 2)."""
    x: Array
    """As `y`."""
    gids: tuple[Any, ...]
    """Images that any row asks for."""
    row: Array
    """Ascending; one entry for every frame of every row; shape (entry,)."""
    frame: Array
    """Position among `gids`; -1 for frames that pad a window in time; shape (entry,)."""

    def __len__(self) -> int:
        return len(self.space)

    @property
    def video(self) -> Array:
        """True where a row samples video space; shape (row,)."""
        kinds = np.array([kind == "video" for kind, _ in self.spaces], bool)
        return kinds[self.space] if len(self) else np.empty(0, bool)

    @property
    def area(self) -> Array:
        """Pixels of each window; shape (row,)."""
        return np.asarray((self.y[:, 1] - self.y[:, 0]) * (self.x[:, 1] - self.x[:, 0]))


def as_table(targets: Targets | Rows) -> pandas.DataFrame:
    """
    Targets in any form as a table.

    Raises
    ------
    TargetError
        It is none of these.
    """
    import pandas

    rows = Rows(targets)
    return pandas.DataFrame(list(rows)) if rows.frame is None else rows.frame


def canonical(table: pandas.DataFrame) -> pandas.DataFrame:
    """A table with keys under their own names only."""
    for alias, name in ALIASES.items():
        if alias in table and name in table:
            table = table.assign(**{name: table[name].where(table[name].notna(), table[alias])}).drop(columns=alias)
    return table.rename(columns=ALIASES)


def footprints(sampler: CocoSampler, targets: Targets | Rows) -> Footprints:
    """
    Where targets lie, in their order.

    Raises
    ------
    TargetError
        One of them names something that the dataset does not have.
    """
    table = canonical(as_table(targets))
    found = _Columns(sampler, len(table))
    slow = np.zeros(len(table), bool)
    for name in UNUSUAL:
        if name in table:
            slow |= table[name].notna().to_numpy(bool)
    named = [table[c].notna().to_numpy(bool) if c in table else np.zeros(len(table), bool) for c in _IDS]
    slow |= ~np.logical_or.reduce(named)  # says what is missing
    found.from_columns(table, np.flatnonzero(~slow))
    found.one_by_one(table, np.flatnonzero(slow))
    return found.build()


_IDS = ("gid", "vidid", "gids")


class _Columns:
    """Footprints in the making."""

    def __init__(self, sampler: CocoSampler, n: int) -> None:
        self.sampler = sampler
        self.spaces: dict[tuple[str, Any], int] = {}
        self.size: list[tuple[int, int]] = []
        self.gids: dict[Any, int] = {}
        self.space = np.zeros(n, np.int64)
        self.y, self.x = np.zeros((n, 2), np.int64), np.zeros((n, 2), np.int64)
        self.entries: list[tuple[Array, Array]] = []

    def build(self) -> Footprints:
        row = np.concatenate([r for r, _ in self.entries] or [np.empty(0, np.int64)])
        frame = np.concatenate([f for _, f in self.entries] or [np.empty(0, np.int64)])
        order = np.argsort(row, kind="stable")
        size = np.array(self.size, np.int64).reshape(-1, 2)
        return Footprints(
            tuple(self.spaces), size, self.space, self.y, self.x, tuple(self.gids), row[order], frame[order]
        )

    def from_columns(self, table: pandas.DataFrame, rows: Array) -> None:
        if not len(rows):
            return
        table = table.iloc[rows]
        lists = _present(table, "gids")
        videos = _present(table, "vidid") & ~lists
        images = ~(lists | videos)
        if images.any():
            codes, ids = _coded(table.loc[images, "gid"])
            self.space[rows[images]] = self._space_codes([("image", i) for i in ids])[codes]
            self.entries.append((rows[images], self._gid_codes(ids)[codes]))
        if videos.any():
            self._videos(table[videos], rows[videos])
        if lists.any():
            self._lists(table.loc[lists, "gids"].tolist(), rows[lists])
        size = np.array(self.size, np.int64)[self.space[rows]]
        self.y[rows] = intervals(column(table, "cy"), column(table, "height"), size[:, 0])
        self.x[rows] = intervals(column(table, "cx"), column(table, "width"), size[:, 1])

    def _videos(self, table: pandas.DataFrame, rows: Array) -> None:
        codes, ids = _coded(table["vidid"])
        self.space[rows] = self._space_codes([("video", i) for i in ids])[codes]
        frames = [self.sampler._dataset.video_frames(i) for i in ids]
        lengths = np.array([len(f) for f in frames])
        base = np.cumsum(lengths) - lengths
        of_frame = self._gid_codes(list(chain.from_iterable(frames)))
        start, step = (column(table, f"time_{part}", default) for part, default in (("start", 0), ("step", 1)))
        stop = column(table, "time_stop")
        stop = np.where(np.isnan(stop), lengths[codes], stop)
        if ((step < 1) | (stop <= start)).any():
            raise TargetError("time_start, time_stop, time_step: expected start < stop and a step of at least 1")
        number = np.ceil((stop - start) / step).astype(np.int64)
        position = np.repeat(start, number) + np.repeat(step, number) * ramps(number)
        video = np.repeat(codes, number)
        inside = (position >= 0) & (position < lengths[video])
        flat = np.where(inside, base[video] + position, 0).astype(np.int64)
        self.entries.append((np.repeat(rows, number), np.where(inside, of_frame[flat], -1)))

    def _lists(self, lists: list[Any], rows: Array) -> None:
        lists = [g if isinstance(g, (list, tuple, np.ndarray)) else [g] for g in lists]
        number = np.fromiter(map(len, lists), np.int64, len(lists))
        if not number.all():
            raise TargetError("gids=[]: a target needs at least one image")
        flat = _plain(chain.from_iterable(lists))
        frame = self._gid_codes(flat)
        first = frame[np.cumsum(number) - number]
        names: dict[int, tuple[str, Any]] = {}
        known = list(self.gids)
        for code in np.unique(first).tolist():
            vidid = self.sampler._dataset.video_of(known[code])
            names[code] = ("video", vidid) if vidid is not None else ("video", ("gid", known[code]))
        codes, back = np.unique(first, return_inverse=True)
        self.space[rows] = self._space_codes([names[c] for c in codes.tolist()])[back]
        self.entries.append((np.repeat(rows, number), frame))

    def one_by_one(self, table: pandas.DataFrame, rows: Array) -> None:
        sampler = self.sampler
        for k, target in zip(rows.tolist(), Rows(table).take(rows), strict=True):
            scene = resolve(parse(target), sampler._dataset, sampler._pixel_size)
            gids = [f.gid for f in scene.frames if f.gid is not None]
            vidid = sampler._dataset.video_of(gids[0])
            name = ("image", gids[0])
            if scene.video:
                name = "video", vidid if vidid is not None else ("gid", gids[0])
            self.space[k] = self._space_codes([name])[0]
            self.y[k], self.x[k] = scene.y, scene.x
            frame = np.full(len(scene.frames), -1, np.int64)
            frame[[f.gid is not None for f in scene.frames]] = self._gid_codes(gids)
            self.entries.append((np.full(len(frame), k, np.int64), frame))

    def _gid_codes(self, gids: Sequence[Any]) -> Array:
        unknown = [g for g in dict.fromkeys(gids) if g not in self.gids]
        for gid in unknown:
            self.sampler.frame(gid)  # an unknown image is an error here as everywhere
            self.gids[gid] = len(self.gids)
        return np.fromiter(map(self.gids.__getitem__, gids), np.int64, len(gids))

    def _space_codes(self, names: Sequence[tuple[str, Any]]) -> Array:
        for name in names:
            if name not in self.spaces:
                self.spaces[name] = len(self.spaces)
                self.size.append(space_size(self.sampler, *name))
        return np.array([self.spaces[name] for name in names], np.int64)


def space_size(sampler: CocoSampler, kind: str, ident: Any) -> tuple[int, int]:
    """(height, width) of an image or a video, as `load_sample` finds it."""
    if kind == "image":
        size = sampler.frame(ident).size
        return (size[1], size[0]) if size else _resolved(sampler, {"gid": ident})
    if isinstance(ident, tuple):
        return _resolved(sampler, {"gids": [ident[1]]})
    frames = sampler._dataset.video_frames(ident)
    return sampler._dataset.video_size(frames[0]) or _resolved(sampler, {"vidid": ident})


def _resolved(sampler: CocoSampler, target: dict[str, Any]) -> tuple[int, int]:
    return resolve(parse(target), sampler._dataset, sampler._pixel_size).space


def intervals(centre: Array, size: Array, length: Array) -> Array:
    """
    Half-open intervals along one axis, as `values.interval` finds one.

    Parameters
    ----------
    centre, size
        Of each row; NaN where it gives none.
    length
        Of its space.

    Returns
    -------
    Shape (row, 2).
    """
    bare = np.isnan(centre) & np.isnan(size)
    centre, size = np.where(np.isnan(centre), length / 2, centre), np.where(np.isnan(size), length, size)
    n = np.maximum(1, np.ceil(size - 1e-6))
    start = np.where(bare, 0, np.floor(centre - n / 2 + 1e-9))
    return np.stack([start, start + np.where(bare, length, n)], axis=1).astype(np.int64, copy=False)


def ramps(number: Array) -> Array:
    """
    0, 1, ... up to each number, one after the other.

    Examples
    --------
    >>> ramps(np.array([2, 0, 3]))
    array([0, 1, 0, 1, 2])
    """
    ends = np.cumsum(number)
    return np.asarray(np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - number, number))


def column(table: pandas.DataFrame, name: str, default: float = np.nan) -> Array:
    """A column of numbers, with a default where it is missing."""
    if name not in table:
        return np.full(len(table), default)
    values = table[name].to_numpy(dtype=float, na_value=np.nan)
    return np.asarray(np.where(np.isnan(values), default, values))


def _present(table: pandas.DataFrame, name: str) -> Array:
    return table[name].notna().to_numpy(bool) if name in table else np.zeros(len(table), bool)


def _coded(ids: pandas.Series) -> tuple[Array, list[Any]]:
    """Codes, and the ids that they stand for."""
    import pandas

    codes, uniques = pandas.factorize(ids)
    return codes, _plain(uniques)


def _plain(ids: Any) -> list[Any]:
    """Python's own values: a column of ids with gaps holds floats."""
    values = [i.item() if isinstance(i, np.generic) else i for i in ids]
    return [int(i) if isinstance(i, float) and i.is_integer() else i for i in values]
