"""The columnar resolver: which pixels of which frames each row of a table asks for.

`window_columns` answers for whole columns what `resolve` answers for one target: the space that a row samples, its
window there, and its frames.

1. Rows that give their window by `cx cy width height` (or not at all) and their frames by `gid`, `gids`, or `vidid`
   with `time_start time_stop time_step` are read from their columns.
2. The few rows that are written otherwise (slices, `window_dims`, `pad`, `bounds`, `aid` without a window) go through
   `resolve` one by one.

`Spaces`, `Windows` and `Boxes` hold what the functions that choose windows work on: the images or videos, windows in
them, and the boxes of annotations in them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._sampling.annotations import place_annotations
from ndzarr._sampling.resolve import resolve
from ndzarr._sampling.target import centred_intervals, parse
from ndzarr._validation import as_list
from ndzarr.errors import TargetError, did_you_mean
from ndzarr.targets.table import Rows, TargetsLike, as_table, without_aliases

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.protocols import SampleSource


Array: TypeAlias = "np.ndarray[Any, Any]"

RESOLVED_SINGLY = (
    "slices", "space_slice", "time_slice", "window_dims", "y", "x", "pad", "key", "t", "z", "bounds",
)  # fmt: skip
"""Keys that move the window or the frames in ways that the columns do not cover."""

_WINDOW = ("cx", "cy", "width", "height")
_TIME = ("time_start", "time_stop", "time_step")


@dataclass(frozen=True, slots=True, eq=False)
class WindowColumns:
    """The windows of the rows of a table."""

    spaces: tuple[tuple[str, Any], ...]
    """('image', gid) or ('video', vidid) of each space that is sampled; ('video', ('gid', gid)) is the video space of
    an image that is in no video."""
    size: Array  # (height, width) of each space; shape (space, 2)
    space: Array  # position among `spaces`; shape (row,)
    y: Array  # half-open intervals in pixels of the space; shape (row, 2)
    x: Array  # half-open intervals in pixels of the space; shape (row, 2)
    time: Array
    """First frame, frame after the last, and step, as positions in the video; step 0 for rows that list their frames;
    shape (row, 3)."""
    gids: tuple[Any, ...]  # images that any row asks for
    row: Array  # ascending; one entry for every frame of every row; shape (entry,)
    frame: Array  # position among `gids`; -1 for frames that pad a window in time; shape (entry,)

    def __len__(self) -> int:
        return len(self.space)

    @property
    def video(self) -> Array:
        """True where a row samples video space; shape (row,)."""
        kinds = np.array([kind == "video" for kind, _ in self.spaces], bool)
        return kinds[self.space] if len(self) else np.empty(0, bool)

    def real_entries(self) -> tuple[Array, Array]:
        """Row and frame of the entries that are not padding."""
        real = self.frame >= 0
        return self.row[real], self.frame[real]


def window_columns(targets: TargetsLike | Rows, source: SampleSource) -> WindowColumns:
    """Resolve targets, in their order."""
    table = without_aliases(as_table(targets))
    singly = _to_resolve_singly(table, source)
    resolver = _Resolver(source, len(table))
    resolver.add_columns(table, np.flatnonzero(~singly))
    resolver.add_singly(table, np.flatnonzero(singly))
    return resolver.columns()


def _to_resolve_singly(table: pandas.DataFrame, source: SampleSource) -> Array:
    """True for rows whose columns are unusual or contradict each other; shape (row,)."""
    has = {name: present_in(table, name) for name in ("gid", "vidid", "gids", "aid", *_WINDOW, *_TIME)}
    singly = np.zeros(len(table), bool)
    for name in RESOLVED_SINGLY:
        singly |= present_in(table, name)
    named = has["gid"].astype(int) + (has["vidid"] | has["gids"])
    singly |= (named != 1) | (has["cx"] != has["cy"]) | (has["width"] != has["height"])
    timed = np.logical_or.reduce([has[name] for name in _TIME])
    singly |= timed & ~has["vidid"]
    singly |= timed & has["gids"] & ~np.logical_and.reduce([has[name] for name in _TIME])
    # An annotation changes nothing where the row states its window, and frames that the annotation is in.
    singly |= has["aid"] & ~np.logical_and.reduce([has[name] for name in _WINDOW])
    rows = np.flatnonzero(has["aid"] & ~singly)
    if len(rows):
        records = source.dset.index.anns
        images = [records[a]["image_id"] if a in records else None for a in _plain(table["aid"].to_numpy()[rows])]
        for name in ("vidid", "gid", "gids"):  # listed frames count before their video
            mine = np.flatnonzero(has[name][rows])
            stated = _plain(table[name].to_numpy()[rows[mine]]) if len(mine) else []
            singly[rows[mine]] = [
                image is None or not _states(source, name, value, image)
                for value, image in zip(stated, [images[k] for k in mine.tolist()], strict=True)
            ]
    return singly


def _states(source: SampleSource, name: str, value: Any, image: Any) -> bool:
    """Return whether a target's images include one."""
    if name == "gids":
        return image in value if isinstance(value, (list, tuple)) else False
    return bool(value == (image if name == "gid" else source.dataset.video_of(image)))


class _Resolver:
    """`WindowColumns` in the making."""

    def __init__(self, source: SampleSource, n: int) -> None:
        self.source = source
        self.spaces: dict[tuple[str, Any], int] = {}
        self.size: list[tuple[int, int]] = []
        self.gids: dict[Any, int] = {}
        self.space = np.zeros(n, np.int64)
        self.y, self.x, self.time = np.zeros((n, 2), np.int64), np.zeros((n, 2), np.int64), np.zeros((n, 3), np.int64)
        self.entries: list[tuple[Array, Array]] = [(np.empty(0, np.int64), np.empty(0, np.int64))]

    def columns(self) -> WindowColumns:
        row, frame = (np.concatenate(part) for part in zip(*self.entries, strict=True))
        order = np.argsort(row, kind="stable")
        return WindowColumns(
            tuple(self.spaces), np.array(self.size, np.int64).reshape(-1, 2), self.space, self.y, self.x, self.time,
            tuple(self.gids), row[order], frame[order],
        )  # fmt: skip

    def add_columns(self, table: pandas.DataFrame, rows: Array) -> None:
        if not len(rows):
            return
        table = table if len(rows) == len(table) else table.iloc[rows]
        images = present_in(table, "gid")
        videos = present_in(table, "vidid") & (present_in(table, "time_step") | ~present_in(table, "gids"))
        lists = ~(images | videos)
        if images.any():
            codes, ids = _coded(table.loc[images, "gid"])
            self.space[rows[images]] = self._space_codes([("image", i) for i in ids])[codes]
            self.time[rows[images]] = 0, 1, 1
            self.entries.append((rows[images], self._gid_codes(ids)[codes]))
        if videos.any():
            self._add_videos(table[videos], rows[videos])
        if lists.any():
            self._add_lists(table.loc[lists, "gids"].tolist(), rows[lists])
        height, width = np.array(self.size, np.int64)[self.space[rows]].T
        self.y[rows] = _intervals(column(table, "cy"), column(table, "height"), height)
        self.x[rows] = _intervals(column(table, "cx"), column(table, "width"), width)

    def _add_videos(self, table: pandas.DataFrame, rows: Array) -> None:
        codes, ids = _coded(table["vidid"])
        self.space[rows] = self._space_codes([("video", i) for i in ids])[codes]
        frames = [self.source.dataset.video_frames(i) for i in ids]
        lengths = np.array([len(f) for f in frames])
        base = np.cumsum(lengths) - lengths
        of_frame = self._gid_codes(list(chain.from_iterable(frames)))
        start, step = column(table, "time_start", 0), column(table, "time_step", 1)
        stop = column(table, "time_stop")
        stop = np.where(np.isnan(stop), lengths[codes], stop)
        wrong = np.flatnonzero((step < 1) | (stop <= start))
        if len(wrong):
            k = wrong[0]
            given = f"time_start={start[k]:g}, time_stop={stop[k]:g}, time_step={step[k]:g}"
            message = f"row {rows[k]}: {given}; expected time_start < time_stop and a step of at least 1"
            raise TargetError(message, key="time_step" if step[k] < 1 else "time_stop")
        self.time[rows] = np.stack([start, stop, step], axis=1)
        number = np.ceil((stop - start) / step).astype(np.int64)
        # One entry per frame of a row: its position in the video, and the video.
        position = np.repeat(start, number) + np.repeat(step, number) * ramps(number)
        video = np.repeat(codes, number)
        inside = (position >= 0) & (position < lengths[video])
        flat = np.where(inside, base[video] + position, 0).astype(np.int64)
        self.entries.append((np.repeat(rows, number), np.where(inside, of_frame[flat], -1)))

    def _add_lists(self, lists: list[Any], rows: Array) -> None:
        lists = [g if isinstance(g, (list, tuple, np.ndarray)) else [g] for g in lists]
        number = np.fromiter(map(len, lists), np.int64, len(lists))
        if not number.all():
            message = f"row {rows[int(np.argmin(number))]}: gids=[]; a target needs at least one image"
            raise TargetError(message, key="gids")
        frame = self._gid_codes(_plain(chain.from_iterable(lists)))
        first = frame[np.cumsum(number) - number]
        known = list(self.gids)
        videos: dict[Any, int] = {}
        of_gid = np.array([videos.setdefault(self.source.dataset.video_of(g), len(videos)) for g in known])
        mixed = np.flatnonzero(of_gid[frame] != np.repeat(of_gid[first], number))
        if len(mixed):
            strange = lists[np.repeat(np.arange(len(lists)), number)[mixed[0]]]
            raise TargetError(f"gids={list(strange)!r} are frames of different videos", key="gids")
        first, back = np.unique(first, return_inverse=True)
        self.space[rows] = self._space_codes([("video", self._video_of(known[c])) for c in first.tolist()])[back]
        self.entries.append((np.repeat(rows, number), frame))

    def add_singly(self, table: pandas.DataFrame, rows: Array) -> None:
        for k, target in zip(rows.tolist(), Rows(table).take(rows), strict=True):
            scene = resolve(parse(target), self.source)
            gids = [f.gid for f in scene.frames if f.gid is not None]
            name = ("video", self._video_of(gids[0])) if scene.video else ("image", gids[0])
            self.space[k] = self._space_codes([name])[0]
            self.y[k], self.x[k] = scene.y, scene.x
            frame = np.full(len(scene.frames), -1, np.int64)
            frame[[f.gid is not None for f in scene.frames]] = self._gid_codes(gids)
            self.entries.append((np.full(len(frame), k, np.int64), frame))

    def _video_of(self, gid: Any) -> Any:
        vidid = self.source.dataset.video_of(gid)
        return ("gid", gid) if vidid is None else vidid

    def _gid_codes(self, gids: Sequence[Any]) -> Array:
        for gid in dict.fromkeys(gids):
            if gid not in self.gids:
                self.source.frame(gid)  # raises for an unknown image
                self.gids[gid] = len(self.gids)
        return np.fromiter(map(self.gids.__getitem__, gids), np.int64, len(gids))

    def _space_codes(self, names: Sequence[tuple[str, Any]]) -> Array:
        for name in names:
            if name not in self.spaces:
                self.spaces[name] = len(self.spaces)
                self.size.append(space_size(self.source, *name))
        return np.array([self.spaces[name] for name in names], np.int64)


def space_size(source: SampleSource, kind: str, ident: Any) -> tuple[int, int]:
    """Return (height, width) of an image or a video: what the dataset states, else what the file says."""
    stated = None
    if kind == "image":
        size, target = source.frame(ident).size, {"gid": ident}
        stated = (size[1], size[0]) if size else None
    elif isinstance(ident, tuple):
        target = {"gids": [ident[1]]}
    else:
        stated, target = source.dataset.video_size(source.dataset.video_frames(ident)[0]), {"vidid": ident}
    return stated or resolve(parse(target), source).space


def _intervals(centre: Array, size: Array, length: Array) -> Array:
    """Return `window_interval` of columns, NaN where a row does not say; shape (row, 2)."""
    whole = np.isnan(centre) & np.isnan(size)
    found = centred_intervals(np.where(np.isnan(centre), length / 2, centre), np.where(np.isnan(size), length, size))
    found[whole, 0], found[whole, 1] = 0, length[whole]
    return found


def ramps(number: Array) -> Array:
    """
    Count from 0 up to each number, one after the other.

    Examples
    --------
    >>> ramps(np.array([2, 0, 3]))
    array([0, 1, 0, 1, 2])
    """
    ends = np.cumsum(number)
    return np.asarray(np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - number, number))


def column(table: pandas.DataFrame, name: str, default: float = np.nan) -> Array:
    """Return a column of numbers as floats, with a default where it is missing."""
    if name not in table:
        return np.full(len(table), default)
    values = table[name].to_numpy(dtype=float, na_value=np.nan)
    return np.asarray(np.where(np.isnan(values), default, values))


def present_in(table: pandas.DataFrame, name: str) -> Array:
    """Return True where a table has a value in a column; shape (row,)."""
    return table[name].notna().to_numpy(bool) if name in table else np.zeros(len(table), bool)


def _coded(ids: pandas.Series) -> tuple[Array, list[Any]]:
    """Return the code of each value, and the values that the codes stand for."""
    import pandas

    codes, uniques = pandas.factorize(ids)
    return codes, _plain(uniques)


def _plain(ids: Iterable[Any]) -> list[Any]:
    """Return Python's own values; a column of ids with gaps holds floats."""
    values = [i.item() if isinstance(i, np.generic) else i for i in ids]
    return [int(i) if isinstance(i, float) and i.is_integer() else i for i in values]


COLUMNS = {"image": "gid", "video": "vidid", "source": "key"}  # kind of space to the key of targets that names one


@dataclass(frozen=True, eq=False)
class Spaces:
    """Images, videos or named sources."""

    kind: str  # one of `COLUMNS`
    ids: Array  # what targets call them; shape (space,)
    height: Array  # pixels along y; shape (space,)
    width: Array  # pixels along x; shape (space,)
    frames: tuple[tuple[Any, ...], ...]  # image ids of each, in the order of t

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def key(self) -> str:
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

    def take(self, ids: Iterable[Hashable] | None) -> Spaces:
        """Return the spaces of these ids; all for None."""
        if ids is None:
            return self
        where = {i: k for k, i in enumerate(self.ids.tolist())}
        try:
            keep = np.array([where[i] for i in as_list(ids)], np.intp)
        except KeyError as error:
            known = did_you_mean(error.args[0], list(where)[:20])
            raise TargetError(f"{self.key}={error.args[0]!r}: no such {self.kind}{known}", key=self.key) from None
        frames = tuple(self.frames[k] for k in keep)
        return Spaces(self.kind, self.ids[keep], self.height[keep], self.width[keep], frames)

    def refuse_time(self, time_dims: object) -> None:
        """Raise `TargetError` if a number of frames is asked for and the spaces have no axis t."""
        if time_dims is not None and not self.video:
            raise TargetError(
                f"time_dims={time_dims!r}: images have no time", key="time_dims", hint="Use space='video'"
            )


def spaces_of(source: SampleSource, kind: str) -> Spaces:
    """Return the images or videos of a dataset; videos without frames are left out."""
    index = source.dset.index
    if kind == "image":
        frames = {gid: (gid,) for gid in index.imgs}
    elif kind == "video":
        frames = {v: tuple(gids) for v, gids in index.vidid_to_gids.items() if len(gids)}
    else:
        raise TargetError(f"space={kind!r}: expected 'image' or 'video'", key="space")
    if not frames:
        message = f"space={kind!r}: the dataset has no {kind}s{' with frames' if kind == 'video' else ''}"
        raise TargetError(message, key="space")
    height, width = np.array([space_size(source, kind, i) for i in frames], np.int64).T
    return Spaces(kind, column_of_ids(list(frames)), height, width, tuple(frames.values()))


def column_of_ids(ids: Sequence[Any]) -> Array:
    """Return integers as int64 and all else as objects, so that Python's own values come out again."""
    if all(type(i) is int and -(1 << 63) <= i < 1 << 63 for i in ids):
        return np.array(ids, np.int64)
    out = np.empty(len(ids), object)
    out[:] = ids
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Windows in known spaces; intervals are half-open, all arrays have shape (window,)."""

    space: Array  # position among the spaces
    t0: Array
    t1: Array
    step: Array  # from frame to frame
    y0: Array
    y1: Array
    x0: Array
    x1: Array

    def __len__(self) -> int:
        return len(self.space)

    @property
    def area(self) -> Array:
        """Square pixels, what lies outside the space included."""
        return np.asarray((self.y1 - self.y0) * (self.x1 - self.x0))

    def take(self, index: Array) -> Windows:
        """Return some of them, by position or mask."""
        return Windows(*(getattr(self, f.name)[index] for f in fields(self)))

    def target_columns(self, spaces: Spaces) -> dict[str, Array]:
        """Return the keys of targets that read exactly these windows."""
        height, width = self.y1 - self.y0, self.x1 - self.x0
        columns = {spaces.key: spaces.ids[self.space], "cx": self.x0 + width / 2, "cy": self.y0 + height / 2}
        columns |= {"width": width, "height": height}
        if spaces.video:
            columns |= {"time_start": self.t0, "time_stop": self.t1, "time_step": self.step}
        return columns


def windows_in(found: WindowColumns, spaces: Spaces) -> tuple[Windows, Array]:
    """
    Return the windows of rows in known spaces, and the row of each.

    A row that lists its frames becomes one window per frame, since they need not be evenly spaced; a frame that it
    lists twice counts once.
    """
    known = {name: k for k, name in enumerate(spaces.ids.tolist())}
    of_space = np.array([known.get(i, -1) if kind == spaces.kind else -1 for kind, i in found.spaces], np.int64)
    space = of_space[found.space] if len(found) else found.space
    strange = np.flatnonzero(space < 0)
    if len(strange):
        kind, ident = found.spaces[found.space[strange[0]]]
        name = f"gids with {ident[1]!r}" if isinstance(ident, tuple) else f"{COLUMNS[kind]}={ident!r}"
        message = f"row {strange[0]} has {name}, which is not one of the {spaces.kind}s that the table is of"
        raise TargetError(message, key="gids" if isinstance(ident, tuple) else COLUMNS[kind])
    t0, t1, step = found.time.T
    row = np.arange(len(found))
    listed = step == 0
    if listed.any():
        entry_row, frame = found.real_entries()
        keep = listed[entry_row]
        position = {gid: t for gids in spaces.frames for t, gid in enumerate(gids)}
        t = np.array([position.get(gid, -1) for gid in found.gids], np.int64)
        n = max(position.values()) + 1
        listed_row, start = np.divmod(np.unique(entry_row[keep] * n + t[frame[keep]]), n)
        row = np.concatenate([row[~listed], listed_row])
        order = np.argsort(row, kind="stable")
        row = row[order]
        t0 = np.concatenate([t0[~listed], start])[order]
        t1 = np.concatenate([t1[~listed], start + 1])[order]
        step = np.concatenate([step[~listed], np.ones_like(start)])[order]
    (y0, y1), (x0, x1) = found.y[row].T, found.x[row].T
    return Windows(space[row], t0, t1, step, y0, y1, x0, x1), row


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """
    Boxes of annotations in their spaces, in continuous pixels; all arrays have shape (box,).

    They are sorted by space, and within an image in the order of the dataset's table.
    """

    space: Array  # position among the spaces
    frame: Array  # position along t
    row: Array  # row of the `AnnotationTable`
    x0: Array
    y0: Array
    x1: Array  # right edges; those of points and lines lie a little to the right of the left ones
    y1: Array

    def __len__(self) -> int:
        return len(self.row)

    @property
    def area(self) -> Array:
        """Square pixels."""
        return np.asarray((self.x1 - self.x0) * (self.y1 - self.y0))

    def take(self, index: Array | slice) -> Boxes:
        """Return some of them, by position or mask."""
        return Boxes(*(getattr(self, f.name)[index] for f in fields(self)))


def boxes_of(source: SampleSource, spaces: Spaces) -> Boxes:
    """Return the boxes of all annotations that have one, moved to the given spaces as `load_sample` moves them."""
    table = source.annotations
    where = [(k, t, gid) for k, gids in enumerate(spaces.frames) for t, gid in enumerate(gids) if gid in table.rows]
    rows = [table.rows[gid] for _, _, gid in where]
    warps = [source.frame(gid).to_video if spaces.video else None for _, _, gid in where]
    placed = place_annotations([(r, table.columns[:, r], warp) for r, warp in zip(rows, warps, strict=True)])
    row = np.concatenate([np.arange(r.start, r.stop) for r in rows]) if rows else np.empty(0, np.intp)
    space, frame = (np.array([p[i] for p in where], np.int64)[placed.frame] for i in (0, 1))
    x0, y0 = placed.near
    x1, y1 = placed.far
    boxes = Boxes(space, frame, row, x0, y0, x1, y1)
    return boxes.take(np.isfinite(boxes.area))


def holds_frame(windows: Windows, boxes: Boxes, window: Array, box: Array) -> Array:
    """Return, for pairs of a window and a box of one space, whether the window has the box's frame; shape (pair,)."""
    t, start = boxes.frame[box], windows.t0[window]
    return np.asarray((t >= start) & (t < windows.t1[window]) & ((t - start) % windows.step[window] == 0))
