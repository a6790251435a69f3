"""Which frames does each window of one video get?

`Picker` brings together what is wanted (`moments`), what is allowed, what each window shows of each frame, and which
frame is the main one; `nearest` decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.targets.kernel import seconds
from ndzarr.targets.moments import Way, around_each, sliding
from ndzarr.targets.nearest import nearest
from ndzarr.targets.options import several
from ndzarr.targets.valid import Observable, observe

if TYPE_CHECKING:
    import pandas

    from ndzarr.sampler.coco import CocoSampler

Array: TypeAlias = "np.ndarray[Any, Any]"

MAINS = ("each", "first", "middle", "last", "random")
"""What `main` may say instead of images."""


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Rows of a table in the spaces of their videos."""

    table: pandas.DataFrame
    """Without the columns that say where rows lie."""
    vidids: tuple[Any, ...]
    video: Array
    """Position among `vidids`; shape (row,)."""
    box: Array | None
    """x0, y0, x1, y1; shape (row, 4); None for the whole video."""
    size: Array
    """(height, width) of each video."""
    main: Array | None
    """Image of each row, as a position in `codes`, -1 where it has none; None where no row has one."""
    codes: Mapping[Any, int]
    """Image id to its position."""


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """Images that are treated otherwise than the rest."""

    include: Set[Any] | None
    """No others are taken; None for no such limit."""
    exclude: Set[Any]
    """Never taken."""
    always: Set[Any]
    """In every row of their video."""


@dataclass(frozen=True, slots=True, eq=False)
class Picked:
    """Frames chosen for rows of one video."""

    row: Array
    """Row of the table; shape (pick,)."""
    frames: Array
    """Positions, -1 for padding in time; shape (pick, slot)."""
    main: Array
    """Position of the main frame, -1 for none; shape (pick,)."""
    quality: Array | None
    """The least of the frames'; shape (pick,)."""
    gids: Array
    """Of all frames of the video."""


@dataclass(frozen=True, slots=True, eq=False)
class Picker:
    """Chooses frames, video by video."""

    sampler: CocoSampler
    plan: Way
    """Which moments are wanted."""
    lists: Lists
    what: Observable | None
    """What makes a pixel good; None where quality does not matter."""
    min_quality: float
    """Least fraction of good pixels."""
    main: Any
    """As `times` takes it."""
    seed: int

    def pick(self, vidid: Any, windows: Windows, rows: Array) -> Picked:
        """
        Frames for rows of one video.

        Parameters
        ----------
        rows
            Positions in `windows`.
        """
        gids = self.sampler._dataset.video_frames(vidid)
        named = np.empty(len(gids), object)
        named[:] = gids
        allowed = np.array([(self.lists.include is None or g in self.lists.include) for g in gids], bool)
        allowed &= np.array([g not in self.lists.exclude for g in gids], bool)
        nothing = Picked(rows[:0], np.empty((0, self.plan.n), np.int64), rows[:0], None, named)
        if not allowed.any() or not len(rows):
            return nothing
        always = [k for k, g in enumerate(gids) if g in self.lists.always]
        if len(always) > self.plan.n:
            raise TargetError(f"vidid={vidid!r}: {len(always)} frames are to be in every row, which has {self.plan.n}")
        quality = self._quality(gids, windows, rows)
        entry, main = self._mains(vidid, gids, windows, rows, allowed, quality)
        if not len(entry):
            return nothing
        if self.plan.follow and main is None:
            base = sliding(self.plan, allowed)
            entry, choice = np.repeat(np.arange(len(rows)), len(base)), np.tile(np.arange(len(base)), len(rows))
            main, different = np.full(len(entry), -1), np.full(len(base), -1)
        else:
            assert main is not None
            different, choice = np.unique(main, return_inverse=True)
            base = around_each(self.plan, allowed, self._moments(vidid, len(gids)), different)
        frames = self._frames(vidid, len(gids), base, choice, allowed, different, always, quality, entry)
        least = None if quality is None else _least(quality[entry], frames)
        return Picked(rows[entry], frames, main, least, named)

    def _moments(self, vidid: Any, length: int) -> Array:
        """Of each frame: positions where frames are counted, or nothing else is known and nothing else was asked."""
        found = None if self.plan.in_frames else seconds(self.sampler, vidid)
        if found is None and not self.plan.in_frames and (self.plan.kernel or self.plan.span) is not None:
            raise TargetError(f"vidid={vidid!r}: not all frames have dates; count frames instead, as in '-1f,0,1f'")
        return np.arange(length, dtype=float) if found is None else found

    def _quality(self, gids: Sequence[Any], windows: Windows, rows: Array) -> Array | None:
        """Of each frame for each row; shape (row, frame)."""
        if self.what is None:
            return None
        size = windows.size[windows.video[rows[0]]]
        height, width = size.tolist()
        box = np.array([[0, 0, width, height]]) if windows.box is None else windows.box[rows]
        x, y = (np.stack([np.floor(box[:, k]), np.ceil(box[:, k + 2])], 1).astype(np.int64) for k in (0, 1))
        out = np.empty((len(rows), len(gids)), np.float32)
        for k, gid in enumerate(gids):
            out[:, k] = observe(self.sampler, gid, True, self.what).fraction(y, x)
        return out

    def _mains(
        self, vidid: Any, gids: Sequence[Any], windows: Windows, rows: Array, allowed: Array, quality: Array | None
    ) -> tuple[Array, Array | None]:
        """(position among `rows`, main frame) of all pairs; None where no main frame is meant."""
        every = np.arange(len(rows))
        wanted = self.main
        if wanted is None and windows.main is not None:
            codes = np.array([windows.codes.get(g, -2) for g in gids], np.int64)
            order = np.argsort(codes, kind="stable")
            place = np.minimum(np.searchsorted(codes[order], windows.main[rows]), len(codes) - 1)
            own = order[place]
            keep = (codes[own] == windows.main[rows]) & allowed[own]
            return every[keep], own[keep]
        if wanted is None and (self.plan.follow or self.plan.method == "spread"):
            return every, None if self.plan.follow else np.full(len(rows), -1)
        there = np.flatnonzero(allowed)
        wanted = "each" if wanted is None else wanted
        if isinstance(wanted, str) and wanted in MAINS[1:]:
            if wanted == "random":
                rng = np.random.default_rng([self.seed, len(gids), int(rows[0])])
                return every, there[rng.integers(len(there), size=len(rows))]
            return every, np.full(len(rows), there[{"first": 0, "middle": len(there) // 2, "last": -1}[wanted]])
        named = not isinstance(wanted, str)
        if named:
            ids = set(several(wanted))
            there = np.array([k for k in there.tolist() if gids[k] in ids], np.int64)
        elif wanted != "each":
            raise TargetError(f"main={wanted!r}: expected one of {', '.join(MAINS)}, or image ids")
        entry, main = np.repeat(every, len(there)), np.tile(there, len(rows))
        if quality is not None and not named:
            keep = quality[entry, main] >= self.min_quality
            entry, main = entry[keep], main[keep]
        return entry, main

    def _frames(
        self,
        vidid: Any,
        length: int,
        base: Array,
        choice: Array,
        allowed: Array,
        main: Array,
        always: list[int],
        quality: Array | None,
        entry: Array,
    ) -> Array:
        """Positions for each entry, from what is wanted for each different choice."""
        if self.plan.follow:
            if quality is None and not always:
                return base[choice]
            if (base < 0).any():
                return base[choice]  # too few frames to choose from
            moments = np.arange(length, dtype=float)
        else:
            moments = self._moments(vidid, length)
        if quality is None:
            return nearest(moments, base.astype(float), allowed, main, always)[choice]
        return nearest(
            moments, base[choice].astype(float), allowed, main[choice], always, quality[entry], self.min_quality
        )


def _least(quality: Array, frames: Array) -> Array:
    found = np.take_along_axis(quality, np.maximum(frames, 0), axis=1)
    return np.asarray(np.where(frames >= 0, found, 1.0).min(axis=1))
