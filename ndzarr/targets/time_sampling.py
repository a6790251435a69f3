"""Frames of a video that go with a window.

1. Every row of a table becomes a window in the space of its video; a row of one image has that image as its main frame.
2. The method says which moments are wanted around each main frame, or all along the video.
3. The frames nearest to the moments are taken, without those excluded and, as long as others are left, without those of
   which the window shows too little.  What is observable is read from coarse levels (`valid`).

Rows of the same video are handled together.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._progress import progress_bar
from ndzarr._validation import as_list, check_choice, check_fraction
from ndzarr.errors import TargetError, did_you_mean
from ndzarr.targets.overlaps import TargetContext, annotations_touched
from ndzarr.targets.splits import in_shared_spaces
from ndzarr.targets.table import Rows, TargetsLike, as_table
from ndzarr.targets.valid import Channels, Judge, Observable, observe
from ndzarr.targets.windows import RESOLVED_SINGLY, Array, window_columns

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.protocols import SampleSource


METHODS = ("all", "contiguous", "strided", "kernel", "spread", "around")  # methods of choosing frames
MAINS = ("each", "first", "middle", "last", "random")  # names of main frames, instead of image ids
Main: TypeAlias = "str | Hashable | Iterable[Hashable] | None"  # one of `MAINS`, or image ids
AT_ONCE = 1 << 21  # pairs of rows and frames that are compared together

DAY = 86400.0  # seconds
UNITS = {
    "y": 365.25 * DAY, "yr": 365.25 * DAY, "year": 365.25 * DAY, "years": 365.25 * DAY,
    "mo": 365.25 / 12 * DAY, "month": 365.25 / 12 * DAY, "months": 365.25 / 12 * DAY,
    "w": 7 * DAY, "week": 7 * DAY, "weeks": 7 * DAY, "d": DAY, "day": DAY, "days": DAY,
    "h": 3600.0, "hour": 3600.0, "hours": 3600.0, "min": 60.0, "minutes": 60.0,
    "s": 1.0, "sec": 1.0, "seconds": 1.0, "": 1.0, "ms": 1e-3,
}  # fmt: skip
"""Seconds in each unit."""

FRAMES = ("f", "frame", "frames")  # units that count frames


@dataclass(frozen=True, slots=True)
class Offsets:
    """Distances from a main frame."""

    values: tuple[float, ...]  # seconds, or frames
    in_frames: bool


Kernel: TypeAlias = "str | float | timedelta | np.timedelta64 | Iterable[str | float | timedelta | np.timedelta64]"
"""Offsets from a main frame, such as '-1y,-2w,0,2w,1y', '-2f,0,2f' or [timedelta(days=-32), 0]; numbers are seconds."""


def parse_kernel(kernel: Kernel, name: str = "kernel") -> Offsets:
    """
    Return the offsets of a kernel, or of another option of that form.

    Examples
    --------
    >>> parse_kernel("-1w, 0, 12h").values
    (-604800.0, 0.0, 43200.0)
    >>> parse_kernel([-2, 0, 2.5])
    Offsets(values=(-2.0, 0.0, 2.5), in_frames=False)
    >>> parse_kernel("-1f,0,1f").in_frames
    True
    """
    parts = kernel.split(",") if isinstance(kernel, str) else kernel
    if isinstance(parts, (int, float, timedelta, np.timedelta64)):
        parts = [parts]
    if not isinstance(parts, Iterable):
        raise TargetError(
            f"{name}={kernel!r}: expected text such as '-1y,-2w,0,2w,1y', or a sequence of offsets", key=name
        )
    found = [_offset(part, name, kernel) for part in parts]
    if not found:
        raise TargetError(f"{name}={kernel!r}: expected at least one offset", key=name)
    kinds = {in_frames for value, in_frames in found if value}
    if len(kinds) > 1:
        raise TargetError(f"{name}={kernel!r} mixes frames and times", key=name, hint="Use one of them")
    return Offsets(tuple(value for value, _ in found), True in kinds)


def _offset(part: Any, name: str, kernel: Any) -> tuple[float, bool]:
    if isinstance(part, np.timedelta64):
        return float(part / np.timedelta64(1, "ns")) * 1e-9, False
    if isinstance(part, timedelta):
        return part.total_seconds(), False
    text = str(part).strip().lower()
    match = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z]*)", text)
    unit = match.group(2) if match else ""
    if match is None or (unit not in UNITS and unit not in FRAMES):
        hint = "Write min for minutes or mo for months" if match and unit == "m" else None
        message = f"{name}={kernel!r}: {part!r} is not an offset such as '-2w', '0' or '3f'"
        raise TargetError(message, key=name, hint=hint)
    if unit in FRAMES:
        return float(match.group(1)), True
    return float(match.group(1)) * UNITS[unit], False


Moment: TypeAlias = "np.datetime64 | None"


def parse_date(name: str, value: Any) -> Moment:
    """
    Return a moment in UTC from a date in any form that pandas takes: '2021-05' is the first moment of that month.

    Examples
    --------
    >>> parse_date("start", "2021-05"), parse_date("stop", "2021-05-03T12:00+02:00")
    (np.datetime64('2021-05-01T00:00:00.000000'), np.datetime64('2021-05-03T10:00:00.000000'))
    """
    import pandas

    if value is None:
        return None
    try:
        moment = pandas.Timestamp(value)
        if isinstance(value, bool | int | float) or moment is pandas.NaT:
            raise ValueError("not a date")
    except (ValueError, TypeError) as error:
        raise TargetError(f"{name}={value!r}: expected a date, such as '2021-05' or '2021-05-03'", key=name) from error
    plain = moment if moment.tzinfo is None else moment.tz_convert(None)
    return np.datetime64(plain.to_datetime64(), "us")


def frame_times(source: SampleSource, vidid: Any) -> Array | None:
    """
    Return when each frame of a video was taken, in seconds after the first one; None if that is not known.

    Sources, in this order: dates of the frames, the video file that they are in, indices and `fps` (or `framerate`).
    """
    frames = [source.frame(gid) for gid in source.dataset.video_frames(vidid)]
    if all(f.time is not None for f in frames):
        dates = np.array([f.time for f in frames], "datetime64[us]")
        return np.asarray((dates - dates[0]) / np.timedelta64(1, "s"))
    files = {a.path: a for f in frames for a in f.assets[:1] if a.clock is not None}
    if len(files) < len(frames):  # files of one frame each have no clock
        for asset in files.values():
            source.open_asset(asset)
    shown = [f.seconds for f in frames]
    if None not in shown:
        return np.array(shown, float) - float(shown[0] or 0.0)
    video = source.dset.index.videos[vidid]
    rate = video.get("fps") or video.get("framerate")
    return np.array([f.index for f in frames], float) / float(rate) if rate else None


@dataclass(frozen=True, slots=True)
class TimeSampling:
    """How frames are chosen; see `Targets.times`."""

    method: str  # one of `METHODS`
    n: int  # frames of each row; 0 for all that are allowed
    step: int = 1  # frames from one to the next, for 'contiguous' and 'strided'
    overlap: int = 0  # frames that neighbouring rows share, for 'contiguous' and 'strided'
    kernel: Offsets | None = None  # offsets from the main frame
    span: Offsets | None = None  # length of time that is covered; None for the whole video

    @property
    def evenly(self) -> bool:
        """True if frames follow each other at a fixed step."""
        return self.method in ("contiguous", "strided")

    @property
    def reach(self) -> int:
        """Frames from the first to the last, both counted, at a fixed step."""
        return (self.n - 1) * self.step + 1

    @property
    def in_frames(self) -> bool:
        """True if moments are positions of frames."""
        timed = self.kernel if self.kernel is not None else self.span
        return self.evenly or (timed is not None and timed.in_frames)

    @classmethod
    def parse(
        cls, method: str | None, n: int | None, step: int | None, overlap: int, kernel: Kernel | None, span: Any
    ) -> TimeSampling:
        """Check what was asked for."""
        if method is None:
            method = "kernel" if kernel is not None else "spread" if span is not None else "contiguous"
            method = "all" if method == "contiguous" and n is step is None and not overlap else method
            method = "strided" if method == "contiguous" and (step or 1) > 1 else method
        check_choice("method", method, METHODS, TargetError)
        own = {
            "kernel": kernel is not None,
            "span": span is not None,
            "step": step is not None,
            "overlap": overlap != 0,
        }
        fits = {"contiguous": ("overlap",), "strided": ("step", "overlap"), "kernel": ("kernel",), "spread": ("span",)}
        strange = [name for name, given in own.items() if given and name not in fits.get(method, ())]
        if method == "contiguous" and step == 1:
            strange = [name for name in strange if name != "step"]
        if strange:
            raise TargetError(f"{strange[0]} means nothing to method={method!r}", key=strange[0])
        found = parse_kernel(kernel) if kernel is not None else None
        if method == "kernel":
            if found is None:
                raise TargetError("method='kernel' needs kernel, such as '-1y,-2w,0,2w,1y'", key="kernel")
            if n not in (None, len(found.values)):
                message = f"n={n}: the kernel has {len(found.values)} offsets"
                raise TargetError(message, key="n", hint="Leave n out")
            n = len(found.values)
        if method == "all":
            if n is not None:
                raise TargetError(f"n={n!r} means nothing to method='all'", key="n", hint="Leave n out")
            return cls(method, 0)
        step = (2 if method == "strided" else 1) if step is None else step
        numbers = all(isinstance(value, Integral) for value in (n, step, overlap))
        if not numbers or n is None or n < 1 or step < 1 or not 0 <= overlap < n:
            raise TargetError(
                f"n={n!r}, step={step!r}, overlap={overlap!r}: expected n, step >= 1, less overlap than n", key="n"
            )
        length = parse_kernel(span, "span") if span is not None else None
        if length is not None and (len(length.values) != 1 or length.values[0] < 0):
            raise TargetError(f"span={span!r}: expected one length of time, such as '1y' or '30f'", key="span")
        return cls(method, int(n), int(step), int(overlap), found, length)


def sliding(wanted: TimeSampling, allowed: Array) -> Array:
    """Return frames at a fixed step that slide along the video, -1 beyond its end; shape (row, slot)."""
    there = np.flatnonzero(allowed)
    last = len(there) - wanted.reach
    stride = (wanted.n - wanted.overlap) * wanted.step
    starts = np.unique(np.r_[np.arange(0, last + 1, stride), last]) if last > 0 else np.zeros(1, np.int64)
    return _at(starts, wanted, there)


def _at(starts: Array, wanted: TimeSampling, there: Array) -> Array:
    index = starts[:, None] + wanted.step * np.arange(wanted.n)
    return np.asarray(np.where(index < len(there), there[np.minimum(index, len(there) - 1)], -1))


def around_each(wanted: TimeSampling, allowed: Array, moments: Array, main: Array) -> Array:
    """
    Return the moments wanted around main frames, -1 being the whole video; shape (row, slot).

    Frames at a fixed step have their positions instead, -1 beyond the end.
    """
    if wanted.evenly:
        there = np.flatnonzero(allowed)
        starts = np.searchsorted(there, main) - (wanted.n // 2) * wanted.step
        return _at(np.clip(starts, 0, max(0, len(there) - wanted.reach)), wanted, there)
    if wanted.method == "kernel":
        assert wanted.kernel is not None
        return np.asarray(moments[main][:, None] + np.array(wanted.kernel.values))
    if wanted.method == "around":
        return np.repeat(moments[main][:, None], wanted.n, axis=1)
    low, high = float(moments[allowed].min()), float(moments[allowed].max())
    first, length = np.full(len(main), low), np.full(len(main), high - low)
    if wanted.span is not None:
        length = np.minimum(wanted.span.values[0], length)
        first = np.where(main >= 0, moments[main], (low + high) / 2) - length / 2
        first = np.clip(first, low, high - length)
    part = np.linspace(0, 1, wanted.n) if wanted.n > 1 else np.full(1, 0.5)
    return np.asarray(first[:, None] + length[:, None] * part)


def nearest(
    moments: Array,
    wanted: Array,
    allowed: Array,
    main: Array,
    always: Sequence[int] = (),
    quality: Array | None = None,
    min_quality: float = 0.0,
) -> Array:
    """
    Return the frames nearest to the moments wanted, ascending, none twice as long as others are left; (row, slot).

    Each row has its `main` frame, -1 for none, and all rows have the frames `always`; `quality` has shape (row, frame).
    """
    step = max(1, AT_ONCE // max(1, len(moments)))
    if len(wanted) > step:
        parts = [slice(start, start + step) for start in range(0, len(wanted), step)]
        grades = [None if quality is None else quality[p] for p in parts]
        pairs = zip(parts, grades, strict=True)
        return np.concatenate(
            [nearest(moments, wanted[p], allowed, main[p], always, grade, min_quality) for p, grade in pairs]
        )
    rows, slots = wanted.shape
    every = np.arange(rows)
    chosen = np.full((rows, slots), -1, np.int64)
    # A good frame is better than any bad one, and a bad one better than any that is taken: penalties of 4 and 16 spans.
    span = float(np.ptp(np.r_[moments, wanted.ravel()])) + 1.0
    penalty = np.where(allowed, 0.0, np.inf)[None, :].repeat(rows, axis=0)
    if quality is not None:
        penalty += np.where(quality >= min_quality, 0.0, 4 * span * (2 - quality))
    forced = [main, *(np.full(rows, a) for a in always)]
    for frame in forced:
        new = (frame >= 0) & ~(chosen == frame[:, None]).any(axis=1)
        distance = np.abs(wanted - moments[frame][:, None]) + np.where(chosen >= 0, np.inf, 0)
        slot = distance.argmin(axis=1)
        chosen[every[new], slot[new]] = frame[new]
        penalty[every[new], frame[new]] += 16 * span
    centre = np.where(main >= 0, moments[main], wanted.mean(axis=1))
    # Slots are filled from the centre outwards.
    order = np.argsort(np.abs(wanted - centre[:, None]), axis=1, kind="stable")
    for k in range(slots):
        slot = order[:, k]
        free = every[chosen[every, slot] < 0]
        if len(free):
            cost = np.abs(moments[None, :] - wanted[free, slot[free]][:, None]) + penalty[free]
            frame = cost.argmin(axis=1)
            chosen[free, slot[free]] = frame
            penalty[free, frame] += 16 * span
    return np.sort(chosen, axis=1)


def times(
    context: TargetContext,
    targets: TargetsLike | Rows | None,
    sampling: TimeSampling,
    main: Main,
    lists: FrameLists,
    quality: Quality | None,
    seed: int,
    progress: bool,
) -> pandas.DataFrame:
    """Choose frames for windows of videos; see `Targets.times`."""
    source = context.source
    if main is not None and sampling.method == "all":
        raise TargetError(f"main={main!r} means nothing to method='all'", key="main")
    if main is not None and not isinstance(main, str):
        lists.known("main", main)
    windows = _windows(source, targets)
    picker = FramePicker(source, sampling, lists, quality, main, seed)
    order = np.argsort(windows.video, kind="stable")
    edges = np.searchsorted(windows.video[order], np.arange(len(windows.vidids) + 1))
    parts = []
    with progress_bar(len(windows.vidids), "frames", "video", progress) as advance:
        for k, vidid in enumerate(windows.vidids):
            parts.append(picker.pick(vidid, windows, order[edges[k] : edges[k + 1]]))
            advance()
    table = _table(windows, sampling, quality is not None, [p for p in parts if len(p.row)])
    if {"annot_ids", "n_annots"} <= set(table.columns):  # they become those of the frames that were chosen
        ids, counts = annotations_touched(context, window_columns(table, source), context.spaces("video"))
        table = table.assign(annot_ids=ids, n_annots=counts)
    return table


@dataclass(frozen=True, slots=True)
class Quality:
    """What a frame must show of a window."""

    least: float  # least fraction of good pixels, from 0 to 1
    what: Observable  # what makes a pixel good

    @classmethod
    def parse(
        cls, min_quality: float | None, channels: Channels, good: Judge | None, max_pixels: int | None
    ) -> Quality | None:
        """Check what was asked for; None if quality does not matter."""
        if min_quality is None and good is None and channels is None:
            return None
        if good is not None and not callable(good):
            raise TargetError(
                f"good={good!r}: expected a function from values of a band to True where they are good", key="good"
            )
        least = 0.0 if min_quality is None else check_fraction("min_quality", min_quality)
        return cls(least, Observable(channels, good, max_pixels))


@dataclass(frozen=True, slots=True, eq=False)
class VideoWindows:
    """Rows of a table in the spaces of their videos."""

    table: pandas.DataFrame  # the columns that do not say where rows lie
    vidids: tuple[Any, ...]
    video: Array  # position among `vidids`; shape (row,)
    box: Array | None  # x0, y0, x1, y1; shape (row, 4); None for the whole video
    size: Array  # (height, width) of each video
    main: Array | None  # code of the image of each row, -1 for none; shape (row,); None if no row has one
    codes: Mapping[Any, int]  # image id to its code


@dataclass(frozen=True, slots=True, eq=False)
class FrameLists:
    """Images that are treated differently from the rest."""

    images: Set[Any]  # all images of the dataset
    include: Set[Any] | None  # no others are taken; None for no such limit
    exclude: Set[Any]  # never taken
    always: Set[Any]  # in every row of their video
    between: tuple[Moment, Moment] = (None, None)  # the first moment, and that after the last; None for no such limit

    @classmethod
    def parse(
        cls, source: SampleSource, include: Any, exclude: Any, always: Any, start: Any = None, stop: Any = None
    ) -> FrameLists:
        """Check lists of image ids, and dates."""
        bare = cls(source.dset.index.imgs.keys(), None, frozenset(), frozenset())
        taken = None if include is None else bare.known("include", include)
        between = parse_date("start", start), parse_date("stop", stop)
        if None not in between and between[0] >= between[1]:  # type: ignore[operator]
            raise TargetError(f"start={start!r}, stop={stop!r}: expected start before stop", key="stop")
        return cls(bare.images, taken, bare.known("exclude", exclude), bare.known("always", always), between)

    def allowed(self, source: SampleSource, gids: Sequence[Any]) -> Array:
        """Return True for images that may be taken; shape (image,)."""
        found = [(self.include is None or g in self.include) and g not in self.exclude for g in gids]
        start, stop = self.between
        if start is None and stop is None:
            return np.array(found, bool)
        times = [source.frame(gid).time for gid in gids]
        if None in times:
            message = f"start and stop: image {gids[times.index(None)]!r} has no date"
            raise TargetError(message, key="start" if start is not None else "stop", hint="Give it date_captured")
        dates = np.array(times, "datetime64[us]")
        inside = np.ones(len(gids), bool) if start is None else dates >= start
        return np.asarray(found & inside & (True if stop is None else dates < stop))

    def known(self, name: str, gids: Any) -> frozenset[Any]:
        """Return image ids, or raise `TargetError` if there is no such image."""
        for gid in as_list(gids):
            if gid not in self.images:
                raise TargetError(f"{name}={gid!r}: no such image{did_you_mean(gid, list(self.images)[:20])}", key=name)
        return frozenset(as_list(gids))


@dataclass(frozen=True, slots=True, eq=False)
class PickedFrames:
    """Frames chosen for rows of one video."""

    row: Array  # row of the table; shape (pick,)
    frames: Array  # positions, -1 for padding in time; shape (pick, slot)
    main: Array  # position of the main frame, -1 for none; shape (pick,)
    quality: Array | None  # the least of the frames'; shape (pick,)
    gids: Array  # image ids of all frames of the video


@dataclass(frozen=True, slots=True, eq=False)
class FramePicker:
    """Chooses frames, video by video."""

    source: SampleSource
    sampling: TimeSampling
    lists: FrameLists
    quality: Quality | None
    main: Main
    seed: int

    def pick(self, vidid: Any, windows: VideoWindows, rows: Array) -> PickedFrames:
        """Return frames for rows of one video, which are given by their position in `windows`."""
        gids = self.source.dataset.video_frames(vidid)
        named = np.empty(len(gids), object)
        named[:] = gids
        allowed = self.lists.allowed(self.source, gids)
        nothing = PickedFrames(rows[:0], np.empty((0, self.sampling.n), np.int64), rows[:0], None, named)
        if not allowed.any() or not len(rows):
            return nothing
        always = [k for k, g in enumerate(gids) if g in self.lists.always]
        if self.sampling.method == "all":
            return self._all(named, windows, rows, allowed, always)
        if len(always) > self.sampling.n:
            message = f"always: {len(always)} frames of vidid={vidid!r} are to be in every row of {self.sampling.n}"
            raise TargetError(message, key="always")
        quality = self._quality(gids, windows, rows)
        entry, main = self._mains(vidid, gids, windows, rows, allowed, quality)
        if not len(entry):
            return nothing
        moments = self._moments(vidid, len(gids))
        if self.sampling.evenly and main is None:
            base = sliding(self.sampling, allowed)
            entry, choice = np.repeat(np.arange(len(rows)), len(base)), np.tile(np.arange(len(base)), len(rows))
            main, different = np.full(len(entry), -1), np.full(len(base), -1)
        else:
            assert main is not None
            different, choice = np.unique(main, return_inverse=True)
            base = around_each(self.sampling, allowed, moments, different)
        if self.sampling.evenly and ((quality is None and not always) or (base < 0).any()):
            frames = base[choice]  # nothing else is asked for, or there are too few frames to choose from
        elif quality is None:
            frames = nearest(moments, base.astype(float), allowed, different, always)[choice]
        else:
            wanted, own = base[choice].astype(float), different[choice]
            frames = nearest(moments, wanted, allowed, own, always, quality[entry], self._least)
        least = None if quality is None else _least(quality[entry], frames)
        return PickedFrames(rows[entry], frames, main, least, named)

    def _all(
        self, gids: Array, windows: VideoWindows, rows: Array, allowed: Array, always: Sequence[int]
    ) -> PickedFrames:
        """Return all frames that are allowed, and show enough of each window; rows without any are left out."""
        kept = np.broadcast_to(allowed, (len(rows), len(gids))).copy()
        quality = self._quality(gids.tolist(), windows, rows)
        if quality is not None:
            kept &= quality >= self._least
        kept[:, always] = True
        some = np.flatnonzero(kept.any(axis=1))
        frames = np.where(kept, np.arange(len(gids)), -1)[some]
        least = None if quality is None else _least(quality[some], frames)
        return PickedFrames(rows[some], frames, np.full(len(some), -1), least, gids)

    @property
    def _least(self) -> float:
        return 0.0 if self.quality is None else self.quality.least

    def _moments(self, vidid: Any, length: int) -> Array:
        """Return the moment of each frame: its time, or its position if frames are counted or have no time."""
        found = None if self.sampling.in_frames else frame_times(self.source, vidid)
        if found is None and not self.sampling.in_frames and (self.sampling.kernel or self.sampling.span) is not None:
            message = f"vidid={vidid!r}: not all frames have dates"
            raise TargetError(message, key="vidid", hint="Count frames instead, as in '-1f,0,1f'")
        return np.arange(length, dtype=float) if found is None else found

    def _quality(self, gids: Sequence[Any], windows: VideoWindows, rows: Array) -> Array | None:
        """Return the quality of each frame for each row; shape (row, frame)."""
        if self.quality is None:
            return None
        size = windows.size[windows.video[rows[0]]]
        height, width = size.tolist()
        box = np.array([[0, 0, width, height]]) if windows.box is None else windows.box[rows]
        x, y = (np.stack([np.floor(box[:, k]), np.ceil(box[:, k + 2])], 1).astype(np.int64) for k in (0, 1))
        out = np.empty((len(rows), len(gids)), np.float32)
        for k, gid in enumerate(gids):
            out[:, k] = observe(self.source, gid, True, self.quality.what).fraction(y, x)
        return out

    def _mains(
        self, vidid: Any, gids: Sequence[Any], windows: VideoWindows, rows: Array, allowed: Array, quality: Array | None
    ) -> tuple[Array, Array | None]:
        """Return pairs of a position among `rows` and a main frame; None for the frames if none is meant."""
        every = np.arange(len(rows))
        wanted = self.main
        if wanted is None and windows.main is not None:
            codes = np.array([windows.codes.get(g, -2) for g in gids], np.int64)
            order = np.argsort(codes, kind="stable")
            place = np.minimum(np.searchsorted(codes[order], windows.main[rows]), len(codes) - 1)
            own = order[place]
            keep = (codes[own] == windows.main[rows]) & allowed[own]
            return every[keep], own[keep]
        if wanted is None and (self.sampling.evenly or self.sampling.method == "spread"):
            return every, None if self.sampling.evenly else np.full(len(rows), -1)
        there = np.flatnonzero(allowed)
        wanted = "each" if wanted is None else wanted
        if isinstance(wanted, str) and wanted in MAINS[1:]:
            if wanted == "random":
                rng = np.random.default_rng([self.seed, len(gids), int(rows[0])])
                return every, there[rng.integers(len(there), size=len(rows))]
            return every, np.full(len(rows), there[{"first": 0, "middle": len(there) // 2, "last": -1}[wanted]])
        named = not isinstance(wanted, str)
        if named:
            ids = set(as_list(wanted))
            there = np.array([k for k in there.tolist() if gids[k] in ids], np.int64)
        elif wanted != "each":
            raise TargetError(f"main={wanted!r}: expected one of {', '.join(MAINS)}, or image ids", key="main")
        entry, main = np.repeat(every, len(there)), np.tile(there, len(rows))
        if quality is not None and not named:
            keep = quality[entry, main] >= self._least
            entry, main = entry[keep], main[keep]
        return entry, main


def _least(quality: Array, frames: Array) -> Array:
    found = np.take_along_axis(quality, np.maximum(frames, 0), axis=1)
    return np.asarray(np.where(frames >= 0, found, 1.0).min(axis=1))


def _windows(source: SampleSource, targets: TargetsLike | Rows | None) -> VideoWindows:
    import pandas

    if targets is None:
        frames = source.dset.index.vidid_to_gids
        vidids = tuple(v for v in source.dset.index.videos if len(frames[v]))
        bare = as_table(pandas.DataFrame({"vidid": list(vidids)}))
        found = window_columns(bare, source)
        return VideoWindows(bare[[]], vidids, np.arange(len(vidids)), None, found.size, None, {})
    given = as_table(targets)
    found = window_columns(given, source)
    common = in_shared_spaces(source, found)
    for kind, ident in common.spaces:
        if kind != "video":
            message = f"gid={ident!r} is in no video"
            raise TargetError(message, key="gid", hint="Give windows of videos, or of images that are in one")
    if len(common.row) != len(found):
        raise TargetError("targets: a row has frames of several videos, a window is of one", key="targets")
    own = np.full(len(found), -1, np.int64)
    own[found.row] = found.frame
    images = ~found.video
    main = np.where(images, own, -1) if images.any() else None
    places = {"gid", "gids", "vidid", "image_id", "image_ids", "video_id", "annot_id", "cx", "cy", "width", "height"}
    kept = given.drop(columns=[c for c in given if c in {*places, *RESOLVED_SINGLY} or str(c).startswith("time_")])
    if "aid" in given and "annot_ids" not in given:
        kept = kept.assign(annot_ids=[[a] if a == a and a is not None else None for a in given["aid"].tolist()])
    size, codes = common.sizes(source), {gid: k for k, gid in enumerate(found.gids)}
    vidids = tuple(ident for _, ident in common.spaces)
    return VideoWindows(kept, vidids, common.space, common.box, size, main, codes)


def _table(
    windows: VideoWindows, sampling: TimeSampling, judged: bool, parts: Sequence[PickedFrames]
) -> pandas.DataFrame:
    row = np.concatenate([p.row for p in parts]) if parts else np.empty(0, np.int64)
    order = np.argsort(row, kind="stable")
    row = row[order]
    columns: dict[str, Any] = {"vidid": np.array(windows.vidids, object)[windows.video[row]]}
    columns["gids"] = _pick_lists(parts, order)
    if sampling.evenly:
        frames = np.concatenate([p.frames for p in parts]) if parts else np.empty((0, sampling.n), np.int64)
        columns |= _time_columns(frames[order], sampling)
    if windows.box is not None:
        x0, y0, x1, y1 = windows.box[row].T
        columns |= {"cx": (x0 + x1) / 2, "cy": (y0 + y1) / 2, "width": x1 - x0, "height": y1 - y0}
    if any((p.main >= 0).any() for p in parts):
        columns["note_main"] = np.concatenate([_named(p.main, p.gids) for p in parts])[order]
    if judged:
        columns["quality"] = np.concatenate([p.quality for p in parts])[order] if parts else np.empty(0)
    kept = windows.table.iloc[row].reset_index(drop=True)
    return kept.drop(columns=[c for c in columns if c in kept]).assign(**columns).infer_objects()


def _named(positions: Array, gids: Array) -> Array:
    """Return image ids; None for -1."""
    out = gids[np.maximum(positions, 0)]
    out[positions < 0] = None
    return out


def _pick_lists(parts: Sequence[PickedFrames], order: Array) -> Array:
    lists: list[list[Any]] = []
    for p in parts:
        if (p.frames >= 0).all():
            lists += p.gids[p.frames].tolist()
        else:
            lists += [p.gids[f[f >= 0]].tolist() for f in p.frames]
    out = np.empty(len(lists), object)
    out[:] = lists
    return out[order]


def _time_columns(frames: Array, sampling: TimeSampling) -> dict[str, Any]:
    """Return start, stop and step of rows that are evenly spaced; missing for others."""
    import pandas

    padded = (frames < 0).any(axis=1)
    step = np.diff(frames, axis=1)[:, 0] if sampling.n > 1 else np.ones(len(frames), np.int64)
    step = np.where(padded | (sampling.n == 1), sampling.step, step)
    even = (np.diff(frames, axis=1) == step[:, None]).all(axis=1) & (step > 0)
    with_gap = padded & ((np.diff(frames, axis=1) == step[:, None]) | (frames[:, 1:] < 0)).all(axis=1)
    missing = ~(even | with_gap)
    stop = frames[:, 0] + (sampling.n - 1) * step + 1
    return {
        f"time_{name}": pandas.arrays.IntegerArray(np.asarray(values, np.int64), missing)
        for name, values in (("start", frames[:, 0]), ("stop", stop), ("step", step))
    }
