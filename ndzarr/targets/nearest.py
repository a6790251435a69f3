"""Which frames come nearest to the moments wanted, none twice where possible?

1. Each moment wanted is a slot.  The main frame and those that must always be there take the slots nearest to them.
2. The other slots, those nearest to the main one first, take the nearest frame that is left.  A frame that is not good
   enough is taken only where no good one is left, the better ones first; one that is taken already only where none is.

All rows of a video are handled at once, one slot after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"

AT_ONCE = 1 << 21
"""Pairs of rows and frames that are compared at once."""


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
    Frames for each row.

    Parameters
    ----------
    moments
        Of each frame; shape (frame,).
    wanted
        For each row; shape (row, slot).
    allowed
        False for frames that are never taken; shape (frame,).
    main
        Position of the frame that each row must have, -1 where there is none; shape (row,).
    always
        Positions of frames that all rows must have.
    quality, min_quality
        Of each frame for each row, shape (row, frame), and the least one that is good enough.

    Returns
    -------
    Positions of frames, ascending; shape (row, slot).
    """
    step = max(1, AT_ONCE // max(1, len(moments)))
    parts = []
    for start in range(0, len(wanted), step):
        rows = slice(start, start + step)
        grade = None if quality is None else quality[rows]
        parts.append(_nearest(moments, wanted[rows], allowed, main[rows], always, grade, min_quality))
    return np.concatenate(parts) if parts else np.empty(wanted.shape, np.int64)


def _nearest(
    moments: Array,
    wanted: Array,
    allowed: Array,
    main: Array,
    always: Sequence[int],
    quality: Array | None,
    min_quality: float,
) -> Array:
    rows, slots = wanted.shape
    every = np.arange(rows)
    chosen = np.full((rows, slots), -1, np.int64)
    # Any good frame is better than any bad one, and that better than any that is taken.
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
