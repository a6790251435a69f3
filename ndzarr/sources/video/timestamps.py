"""At which second is each frame shown?

Containers count ticks of a clock of their own.  Those of the frames, in the order in which they are shown, become
seconds as they are: they need not begin at 0, nor be evenly spaced.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

MISSING = int(np.iinfo(np.int64).min)
"""Stands for a timestamp that the container does not state."""

Ticks = np.ndarray[Any, Any]
"""int64, shape (t,)."""


def ticks_of(packet: Any) -> int:
    """When a packet's frame is to be shown, in ticks; `MISSING` if the container does not say."""
    return MISSING if packet.pts is None else int(packet.pts)


def seconds(ticks: Ticks, base: Fraction, rate: Fraction | None) -> tuple[np.ndarray[Any, Any], str | None]:
    """
    Ticks of frames in the order in which they are shown as seconds.

    Parameters
    ----------
    base
        Seconds per tick.
    rate
        Frames per second, for those without a timestamp.

    Returns
    -------
    (seconds, shape (t,); what had to be made up, if anything)
    """
    known = ticks != MISSING
    if not known.all():
        return _filled(ticks, known, base, rate or Fraction(25)), f"{int((~known).sum())} frames have no timestamp"
    note = None
    if len(ticks) > 1 and not (np.diff(ticks) > 0).all():
        # AVI counts packets as they are stored; all frames together have the right times, in another order.
        note = "timestamps are not in the order of the frames, and were sorted"
        ticks = np.sort(ticks)
    return ticks.astype(np.float64) * base.numerator / base.denominator, note


def _filled(ticks: Ticks, known: np.ndarray[Any, Any], base: Fraction, rate: Fraction) -> np.ndarray[Any, Any]:
    """Seconds, where a frame without a timestamp follows the last one that has one at the usual distance."""
    where = np.arange(len(ticks))
    last = np.maximum.accumulate(np.where(known, where, -1))
    start = np.where(last >= 0, ticks[np.maximum(last, 0)] * float(base), 0.0)
    return np.asarray(start + (where - np.maximum(last, 0)) / float(rate))
