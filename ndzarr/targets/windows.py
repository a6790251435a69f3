"""Which pixels of which frames does each row of a table ask for?

What `load_sample` finds out for one target, for whole columns at once: the space that a row samples, its window there
and its frames.

1. Rows that give their window by `cx cy width height` (or not at all) and their frames by `gid`, `gids`, or `vidid`
   with `time_start time_stop time_step` are read from their columns.
2. The few that say it otherwise (`aid`, slices, `window_dims`, `pad`) are resolved one by one, as `load_sample` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._sampling.annotations import AnnotationTable
from ndzarr._sampling.annotations import place_annotations as place
from ndzarr._sampling.protocols import Lookups
from ndzarr._sampling.resolve import resolve
from ndzarr._sampling.target import ALIASES, parse
from ndzarr._validation import as_list as several
from ndzarr.errors import TargetError, did_you_mean
from ndzarr.targets.table import Rows
from ndzarr.targets.table import TargetsLike as Targets

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.protocols import SampleSource
    from ndzarr.targets.accessor import Indexed


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


def footprints(source: SampleSource, targets: Targets | Rows) -> Footprints:
    """
    Where targets lie, in their order.

    Raises
    ------
    TargetError
        One of them names something that the dataset does not have.
    """
    table = canonical(as_table(targets))
    found = _Columns(source, len(table))
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

    def __init__(self, source: SampleSource, n: int) -> None:
        self.source = source
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
        frames = [self.source.dataset.video_frames(i) for i in ids]
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
            vidid = self.source.dataset.video_of(known[code])
            names[code] = ("video", vidid) if vidid is not None else ("video", ("gid", known[code]))
        codes, back = np.unique(first, return_inverse=True)
        self.space[rows] = self._space_codes([names[c] for c in codes.tolist()])[back]
        self.entries.append((np.repeat(rows, number), frame))

    def one_by_one(self, table: pandas.DataFrame, rows: Array) -> None:
        source = self.source
        for k, target in zip(rows.tolist(), Rows(table).take(rows), strict=True):
            scene = resolve(parse(target), source)
            gids = [f.gid for f in scene.frames if f.gid is not None]
            vidid = source.dataset.video_of(gids[0])
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
            self.source.frame(gid)  # an unknown image is an error here as everywhere
            self.gids[gid] = len(self.gids)
        return np.fromiter(map(self.gids.__getitem__, gids), np.int64, len(gids))

    def _space_codes(self, names: Sequence[tuple[str, Any]]) -> Array:
        for name in names:
            if name not in self.spaces:
                self.spaces[name] = len(self.spaces)
                self.size.append(space_size(self.source, *name))
        return np.array([self.spaces[name] for name in names], np.int64)


def space_size(source: SampleSource, kind: str, ident: Any) -> tuple[int, int]:
    """(height, width) of an image or a video, as `load_sample` finds it."""
    if kind == "image":
        size = source.frame(ident).size
        return (size[1], size[0]) if size else _resolved(source, {"gid": ident})
    if isinstance(ident, tuple):
        return _resolved(source, {"gids": [ident[1]]})
    frames = source.dataset.video_frames(ident)
    return source.dataset.video_size(frames[0]) or _resolved(source, {"vidid": ident})


def _resolved(source: SampleSource, target: dict[str, Any]) -> tuple[int, int]:
    return resolve(parse(target), source).space


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


# --- In which spaces do windows lie, and where are the annotations in them?


COLUMNS = {"image": "gid", "video": "vidid", "source": "key"}
"""Kind of space to the key of targets that names one."""


@dataclass(frozen=True, eq=False)
class Spaces:
    """Images, videos or named sources."""

    kind: str
    """One of `COLUMNS`."""
    ids: Array
    """What targets call them; shape (space,)."""
    height: Array
    """Pixels along y; shape (space,)."""
    width: Array
    """Pixels along x; shape (space,)."""
    frames: tuple[tuple[Any, ...], ...]
    """Image ids of each, in the order of t."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def column(self) -> str:
        """The key of targets that names a space."""
        return COLUMNS[self.kind]

    @property
    def video(self) -> bool:
        """True where targets have an axis t."""
        return self.kind == "video"

    @cached_property
    def lengths(self) -> Array:
        """Frames of each; shape (space,)."""
        return np.array([len(f) for f in self.frames], np.int64)

    @cached_property
    def extents(self) -> tuple[Array, Array]:
        """The different (frames, height, width), shape (3, extent), and that of each space, shape (space,)."""
        different, which = np.unique(np.stack([self.lengths, self.height, self.width]), axis=1, return_inverse=True)
        return different, which.reshape(-1)

    def positions(self, ids: Iterable[Any]) -> Array:
        """
        Where ids are in `ids`.

        Raises
        ------
        TargetError
            One of them is not there.
        """
        where = {i: k for k, i in enumerate(self.ids.tolist())}
        try:
            return np.array([where[i] for i in several(ids)], np.intp)
        except KeyError as error:
            known = did_you_mean(error.args[0], list(where)[:20])
            raise TargetError(f"{self.column}={error.args[0]!r}: no such {self.kind}{known}") from None

    def some(self, ids: Iterable[Any] | None) -> Spaces:
        """Those of them; all for None."""
        if ids is None:
            return self
        keep = self.positions(ids)
        return Spaces(
            self.kind, self.ids[keep], self.height[keep], self.width[keep], tuple(self.frames[k] for k in keep)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Boxes of annotations in their spaces, sorted by space, in the order of the dataset's table within an image."""

    space: Array
    """Position among the spaces; shape (n,)."""
    frame: Array
    """Position along t; shape (n,)."""
    row: Array
    """Row of the `AnnotationTable`; shape (n,)."""
    x0: Array
    """Left edges in pixels, continuous; shape (n,)."""
    y0: Array
    """Upper edges."""
    x1: Array
    """Right edges, those of points and lines a little beyond the left ones."""
    y1: Array
    """Lower edges."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def area(self) -> Array:
        """Square pixels; shape (n,)."""
        out: Array = (self.x1 - self.x0) * (self.y1 - self.y0)
        return out

    def take(self, index: Array | slice) -> Boxes:
        """Some of them, by position or mask."""
        columns = (self.space, self.frame, self.row, self.x0, self.y0, self.x1, self.y1)
        return Boxes(*(c[index] for c in columns))


def refuse_time(spaces: Spaces, time_dims: Any) -> None:
    """
    Images have no frames to choose from.

    Raises
    ------
    TargetError
        A number of them was asked for.
    """
    if time_dims is not None and not spaces.video:
        raise TargetError(f"time_dims={time_dims!r}: images have no time; use space='video'")


def column_of_ids(ids: Sequence[Any]) -> Array:
    """Integers as such, all else as objects, so that Python's own values come out again."""
    if all(type(i) is int for i in ids):
        return np.array(ids, np.int64)
    out = np.empty(len(ids), object)
    out[:] = ids
    return out


def spaces_of(source: SampleSource, kind: str) -> Spaces:
    """
    The images or videos of a sampler; videos without frames are left out.

    Raises
    ------
    TargetError
        There are none, or the size of one cannot be known.
    """
    if kind == "image":
        frames = [(gid,) for gid in source.dset.index.imgs]
        ids = [gid for (gid,) in frames]
        sizes = [_image_size(source, gid) for gid in ids]
    elif kind == "video":
        known = {v: tuple(g) for v, g in source.dset.index.vidid_to_gids.items() if len(g)}
        ids, frames = list(known), list(known.values())
        sizes = [_video_size(source, v, known[v][0]) for v in ids]
    else:
        raise TargetError(f"space={kind!r}: expected 'image' or 'video'")
    if not ids:
        raise TargetError(f"space={kind!r}: the dataset has no {kind}s{' with frames' if kind == 'video' else ''}")
    height, width = np.array(sizes, np.int64).T
    return Spaces(kind, column_of_ids(ids), height, width, tuple(frames))


def _image_size(source: SampleSource, gid: Any) -> tuple[int, int]:
    size = source.frame(gid).size
    return _resolved_size(source, {"gid": gid}) if size is None else (size[1], size[0])


def _video_size(source: SampleSource, vidid: Any, gid: Any) -> tuple[int, int]:
    return source.dataset.video_size(gid) or _resolved_size(source, {"vidid": vidid})


def _resolved_size(source: SampleSource, target: dict[str, Any]) -> tuple[int, int]:
    """As `load_sample` finds it where the dataset does not say: from the file."""
    return resolve(parse(target), source).space


def boxes_of(spaces: Spaces, table: AnnotationTable, dataset: Lookups) -> Boxes:
    """Boxes of all annotations that have one, in the given spaces; moved there as `load_sample` moves them."""
    where = [(k, t, gid) for k, gids in enumerate(spaces.frames) for t, gid in enumerate(gids) if gid in table.rows]
    warps = [dataset.frame(gid).to_video if spaces.video else None for _, _, gid in where]
    rows = [table.rows[gid] for _, _, gid in where]
    placed = place([(r, table.columns[:, r], warp) for r, warp in zip(rows, warps, strict=True)])
    row = np.concatenate([np.arange(r.start, r.stop) for r in rows]) if rows else np.empty(0, np.intp)
    space, frame = (np.array([p[i] for p in where], np.int64)[placed.frame] for i in (0, 1))
    x0, y0 = placed.near
    x1, y1 = placed.far
    boxes = Boxes(space, frame, row, x0, y0, x1, y1)
    return boxes.take(np.isfinite(boxes.area))


# --- What is a window, before it becomes a row of a table?


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Windows as columns; all have shape (window,)."""

    space: Array
    """Position among the spaces."""
    t0: Array
    """First frame."""
    t1: Array
    """Frame after the last."""
    step: Array
    """From frame to frame."""
    y0: Array
    """First row of pixels."""
    y1: Array
    """Row after the last."""
    x0: Array
    """First column of pixels."""
    x1: Array
    """Column after the last."""

    def __len__(self) -> int:
        return len(self.space)

    @property
    def area(self) -> Array:
        """Square pixels, what lies outside the space included."""
        out: Array = (self.y1 - self.y0) * (self.x1 - self.x0)
        return out

    def take(self, index: Array) -> Windows:
        """Some of them, by position or mask."""
        columns = (self.space, self.t0, self.t1, self.step, self.y0, self.y1, self.x0, self.x1)
        return Windows(*(c[index] for c in columns))


def holds_frame(windows: Windows, boxes: Boxes, window: Array, box: Array) -> Array:
    """For pairs of windows and boxes of one space, whether the window has the box's frame; shape (pair,)."""
    t, start = boxes.frame[box], windows.t0[window]
    inside: Array = (t >= start) & (t < windows.t1[window]) & ((t - start) % windows.step[window] == 0)
    return inside


# --- How do windows become rows of a table, and rows windows?


KINDS = ("negative", "positive", "ignored")
"""What the column `kind` says, in the order of its codes."""


def as_columns(windows: Windows, spaces: Spaces) -> dict[str, Array]:
    """The keys of targets: what `load_sample` needs to read exactly these windows."""
    height, width = windows.y1 - windows.y0, windows.x1 - windows.x0
    columns = {
        spaces.column: spaces.ids[windows.space],
        "cx": windows.x0 + width / 2,
        "cy": windows.y0 + height / 2,
        "width": width,
        "height": height,
    }
    if spaces.video:
        columns |= {"time_start": windows.t0, "time_stop": windows.t1, "time_step": windows.step}
    return columns


def held(window: Array, ids: Array, n: int) -> tuple[Array, Array]:
    """
    Ids that each window holds, as a column of tuples.

    Only windows that hold any cost a Python object: the others share the empty tuple.

    Parameters
    ----------
    window, ids
        Pairs, in any order; shape (pair,).
    n
        Number of windows.

    Returns
    -------
    Tuples in the order of the pairs, and their lengths; shape (n,).

    Examples
    --------
    >>> held(np.array([2, 0, 2]), np.array([7, 8, 9]), 3)[0].tolist()
    [(8,), (), (7, 9)]
    """
    counts = np.bincount(window, minlength=n)
    order = np.argsort(window, kind="stable")
    flat = ids[order].tolist()
    some = np.flatnonzero(counts)
    stops = np.cumsum(counts[some]).tolist()
    column = np.empty(n, object)
    column.fill(())
    bounds = zip([0, *stops], stops, strict=False)
    column[some] = np.fromiter((tuple(flat[a:b]) for a, b in bounds), object, len(some))
    return column, counts


def names(labels: tuple[str, ...], codes: Array) -> pandas.Series:
    """A column of text of which each word is stored once."""
    import pandas

    return pandas.Series(np.array(labels, object)[codes], dtype=object)


def windows_table(
    targets: Indexed, spaces: Spaces, windows: Windows, kind: str, further: dict[str, Array] | None = None
) -> pandas.DataFrame:
    """Windows of one kind as targets, with what they hold."""
    import pandas

    index = targets.index(spaces)
    pairs = index.touching(windows)
    ids, counts = held(pairs.window, targets.annotations.annot_id[index.boxes.row[pairs.box]], len(windows))
    columns = as_columns(windows, spaces) | (further or {}) | {"annot_ids": ids, "n_annots": counts}
    return pandas.DataFrame(columns | {"kind": names((kind,), np.zeros(len(windows), np.intp))})


def windows_in(targets: Indexed, table: pandas.DataFrame, spaces: Spaces) -> tuple[Windows, Array]:
    """
    The windows of a table of targets, and the row of each: several windows of one row lie in different frames.

    Raises
    ------
    TargetError
        A column is missing, or a row has no value in it.
    """
    if "gids" in table.columns and not _sliced(table):
        return _frame_by_frame(footprints(targets.source, table), spaces)
    needed = (spaces.column, "cx", "cy", "width", "height")
    missing = [name for name in needed if name not in table.columns or table[name].isna().any()]
    if missing:
        raise TargetError(
            f"the table lacks {', '.join(missing)} (in whole or in some rows); each row needs {', '.join(needed)}"
        )
    space = spaces.positions(table[spaces.column].tolist())
    height, width = (np.maximum(np.ceil(_floats(table, c) - 1e-6), 1).astype(np.int64) for c in ("height", "width"))
    y0 = np.floor(_floats(table, "cy") - height / 2 + 1e-9).astype(np.int64)
    x0 = np.floor(_floats(table, "cx") - width / 2 + 1e-9).astype(np.int64)
    t0, t1, step = (
        _times(table, name, default)
        for name, default in (
            ("time_start", np.zeros(len(space), np.int64)),
            ("time_stop", spaces.lengths[space]),
            ("time_step", np.ones(len(space), np.int64)),
        )
    )
    return Windows(space, t0, t1, step, y0, y0 + height, x0, x0 + width), np.arange(len(space))


def _sliced(table: pandas.DataFrame) -> bool:
    """True where every row also says its frames as a slice of its video's, which then are the same."""
    names = ("vidid", "time_start", "time_stop", "time_step")
    return all(name in table.columns and bool(table[name].notna().all()) for name in names)


def _frame_by_frame(found: Footprints, spaces: Spaces) -> tuple[Windows, Array]:
    """A window for every frame of every row, since listed frames may be any; each frame of a row counts once."""
    real = found.frame >= 0
    row, frame = np.unique(np.stack([found.row[real], found.frame[real]]), axis=1)
    where = {gid: (k, t) for k, gids in enumerate(spaces.frames) for t, gid in enumerate(gids)}
    strange = [gid for gid in found.gids if gid not in where]
    if strange or not found.video.all():
        name = f"gids with {strange[0]!r}" if strange else "gid"
        raise TargetError(f"a table of videos has a row with {name}, which is in none of their spaces")
    place = np.array([where[gid] for gid in found.gids], np.int64).reshape(-1, 2)
    space, t = place[frame].T
    order = np.lexsort((t, row))
    row, space, t = row[order], space[order], t[order]
    (y0, y1), (x0, x1) = found.y[row].T, found.x[row].T
    return Windows(space, t, t + 1, np.ones_like(t), y0, y1, x0, x1), row


def _floats(table: Any, name: str) -> Array:
    out: Array = table[name].to_numpy(float)
    return out


def _times(table: Any, name: str, default: Array) -> Array:
    if name not in table.columns:
        return default
    given = table[name].to_numpy(float, na_value=np.nan)
    return np.where(np.isnan(given), default, given).astype(np.int64)
