"""Which moments does a way of choosing frames ask for?

Each method turns the frames of one video into moments wanted, a row of slots for every choice of frames; `nearest`
finds the frames.  Moments are seconds, or positions of frames where frames are counted or the video has no dates.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.targets.kernel import Offsets, offsets

Array: TypeAlias = "np.ndarray[Any, Any]"

METHODS = ("contiguous", "strided", "kernel", "spread", "around")
"""Ways of choosing frames."""


@dataclass(frozen=True, slots=True)
class Way:
    """How frames are chosen."""

    method: str
    """One of `METHODS`."""
    n: int
    """Frames of each row."""
    step: int = 1
    """Frames from one to the next, where they follow each other."""
    overlap: int = 0
    """Frames that neighbouring rows share, where they follow each other."""
    kernel: Offsets | None = None
    """Offsets from the main frame."""
    span: Offsets | None = None
    """How much time is covered; None for the whole video."""

    @property
    def follow(self) -> bool:
        """True where frames follow each other at a fixed step."""
        return self.method in ("contiguous", "strided")

    @property
    def reach(self) -> int:
        """Frames from the first to the last, both counted, where they follow each other."""
        return (self.n - 1) * self.step + 1

    @property
    def in_frames(self) -> bool:
        """True where moments are positions."""
        timed = self.kernel if self.kernel is not None else self.span
        return self.follow or (timed is not None and timed.in_frames)


def way(method: str | None, n: int | None, step: int | None, overlap: int, kernel: Any, span: Any) -> Way:
    """
    Check what was asked for.

    Raises
    ------
    TargetError
        An argument is unknown, missing, or of another method.
    """
    if method is None:
        method = "kernel" if kernel is not None else "spread" if span is not None else "contiguous"
        method = "strided" if method == "contiguous" and (step or 1) > 1 else method
    if method not in METHODS:
        raise TargetError(f"method={method!r} is not known{did_you_mean(method, METHODS)}")
    own = {"kernel": kernel is not None, "span": span is not None, "step": step is not None, "overlap": overlap != 0}
    fits = {"contiguous": ("overlap",), "strided": ("step", "overlap"), "kernel": ("kernel",), "spread": ("span",)}
    strange = [name for name, given in own.items() if given and name not in fits.get(method, ())]
    if method == "contiguous" and step == 1:
        strange = [name for name in strange if name != "step"]
    if strange:
        raise TargetError(f"{strange[0]} means nothing to method={method!r}")
    found = offsets(kernel) if kernel is not None else None
    if method == "kernel":
        if found is None:
            raise TargetError("method='kernel' needs kernel, such as '-1y,-2w,0,2w,1y'")
        if n not in (None, len(found.values)):
            raise TargetError(f"n={n}: the kernel has {len(found.values)} offsets; leave n out")
        n = len(found.values)
    step = (2 if method == "strided" else 1) if step is None else step
    numbers = all(isinstance(value, Integral) for value in (n, step, overlap))
    if not numbers or n is None or n < 1 or step < 1 or not 0 <= overlap < n:
        raise TargetError(
            f"n={n!r}, step={step!r}, overlap={overlap!r}: expected n and step of at least 1, and less overlap than n"
        )
    length = offsets(span) if span is not None else None
    if length is not None and (len(length.values) != 1 or length.values[0] < 0):
        raise TargetError(f"span={span!r}: expected one length of time, such as '1y' or '30f'")
    return Way(method, int(n), int(step), int(overlap), found, length)


def sliding(wanted: Way, allowed: Array) -> Array:
    """
    Rows of frames that follow each other, one row after the other; the last one ends with the video.

    Parameters
    ----------
    allowed
        False for frames that are passed over; shape (frame,).

    Returns
    -------
    Positions; shape (row, slot); -1 beyond the end of a video that is too short.
    """
    there = np.flatnonzero(allowed)
    last = len(there) - wanted.reach
    stride = (wanted.n - wanted.overlap) * wanted.step
    starts = np.unique(np.r_[np.arange(0, last + 1, stride), last]) if last > 0 else np.zeros(1, np.int64)
    return _at(starts, wanted, there)


def _at(starts: Array, wanted: Way, there: Array) -> Array:
    index = starts[:, None] + wanted.step * np.arange(wanted.n)
    return np.asarray(np.where(index < len(there), there[np.minimum(index, len(there) - 1)], -1))


def around_each(wanted: Way, allowed: Array, moments: Array, main: Array) -> Array:
    """
    Moments around main frames.

    Parameters
    ----------
    moments
        Of each frame; shape (frame,).
    main
        Positions of main frames, -1 for the whole video; shape (row,).

    Returns
    -------
    Moments wanted; shape (row, slot).  Where frames follow each other, positions, -1 beyond the end.
    """
    if wanted.follow:
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
