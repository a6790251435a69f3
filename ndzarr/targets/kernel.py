"""When should frames have been taken, relative to a main frame?

A kernel is text such as '-1y,-2w,0,2w,1y', or a sequence of numbers (seconds), texts and time deltas.  Units are y
(365.25 days), mo (a twelfth of that), w, d, h, min, s, ms, and f for frames, which needs no dates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.errors import TargetError

if TYPE_CHECKING:
    from ndzarr.sampler.coco import CocoSampler

DAY = 86400.0
UNITS = {
    "y": 365.25 * DAY, "yr": 365.25 * DAY, "year": 365.25 * DAY, "years": 365.25 * DAY,
    "mo": 365.25 / 12 * DAY, "month": 365.25 / 12 * DAY, "months": 365.25 / 12 * DAY,
    "w": 7 * DAY, "week": 7 * DAY, "weeks": 7 * DAY, "d": DAY, "day": DAY, "days": DAY,
    "h": 3600.0, "hour": 3600.0, "hours": 3600.0, "min": 60.0, "minutes": 60.0,
    "s": 1.0, "sec": 1.0, "seconds": 1.0, "": 1.0, "ms": 1e-3,
}  # fmt: skip
"""Seconds in each unit."""
FRAMES = ("f", "frame", "frames")
"""Units that count frames."""


@dataclass(frozen=True, slots=True)
class Offsets:
    """Distances from a main frame."""

    values: tuple[float, ...]
    """Seconds, or frames."""
    in_frames: bool
    """True where they count frames."""


def offsets(kernel: Any) -> Offsets:
    """
    What a kernel means.

    Raises
    ------
    TargetError
        It is none.

    Examples
    --------
    >>> offsets("-1w, 0, 12h").values
    (-604800.0, 0.0, 43200.0)
    >>> offsets([-2, 0, 2.5])
    Offsets(values=(-2.0, 0.0, 2.5), in_frames=False)
    >>> offsets("-1f,0,1f").in_frames
    True
    """
    parts = kernel.split(",") if isinstance(kernel, str) else kernel
    if isinstance(parts, (int, float, timedelta, np.timedelta64)):
        parts = [parts]
    if not isinstance(parts, Iterable):
        raise TargetError(f"kernel={kernel!r}: expected text such as '-1y,-2w,0,2w,1y', or a sequence of offsets")
    found = [_offset(part, kernel) for part in parts]
    if not found:
        raise TargetError(f"kernel={kernel!r}: expected at least one offset")
    kinds = {in_frames for value, in_frames in found if value}
    if len(kinds) > 1:
        raise TargetError(f"kernel={kernel!r} mixes frames and times; use one of them")
    return Offsets(tuple(value for value, _ in found), True in kinds)


def _offset(part: Any, kernel: Any) -> tuple[float, bool]:
    if isinstance(part, np.timedelta64):
        return float(part / np.timedelta64(1, "ns")) * 1e-9, False
    if isinstance(part, timedelta):
        return part.total_seconds(), False
    text = str(part).strip().lower()
    match = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z]*)", text)
    unit = match.group(2) if match else ""
    if match is None or (unit not in UNITS and unit not in FRAMES):
        hint = "; 'm' could be minutes or months: write min or mo" if match and unit == "m" else ""
        raise TargetError(f"kernel={kernel!r}: {part!r} is no offset such as '-2w', '0' or '3f'{hint}")
    if unit in FRAMES:
        return float(match.group(1)), True
    return float(match.group(1)) * UNITS[unit], False


def seconds(sampler: CocoSampler, vidid: Any) -> np.ndarray[Any, Any] | None:
    """
    When each frame of a video was taken, in seconds after the first one.

    From the dates of the frames; from the file whose frames they are; else, where the video states `fps` (or
    `framerate`), from the frames' indices; else None.
    """
    frames = [sampler.frame(gid) for gid in sampler._dataset.video_frames(vidid)]
    if all(f.time is not None for f in frames):
        dates = np.array([f.time for f in frames], "datetime64[ns]")
        return np.asarray((dates - dates[0]) / np.timedelta64(1, "s"))
    files = {a.path: a for f in frames for a in f.assets[:1] if a.clock is not None}
    if len(files) < len(frames):  # a file for each frame says nothing of when they were shown
        for asset in files.values():
            sampler.pyramid(asset)
    shown = [f.seconds for f in frames]
    if None not in shown:
        return np.array(shown, float) - float(shown[0] or 0.0)
    video = sampler.dset.index.videos[vidid]
    rate = video.get("fps") or video.get("framerate")
    return np.array([f.index for f in frames], float) / float(rate) if rate else None
