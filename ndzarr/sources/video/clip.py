"""Which part of a video is wanted, and how large?"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from typing import Any

from ndzarr.errors import OptionError


@dataclass(frozen=True, slots=True)
class Clip:
    """The options of `ndzarr.transcode` that only videos have."""

    start: float | None = None
    """Seconds, on the clock of the video: the first frame wanted is the first that is shown then or later."""
    stop: float | None = None
    """Seconds: frames that are shown then or later are not wanted."""
    step: int = 1
    """Every so many frames one is wanted."""
    size: tuple[int, int] | float | None = None
    """(height, width) in pixels, upright, or how many times as large as the video; None for its own size."""

    @property
    def ranged(self) -> bool:
        """True where the frames wanted depend on their times."""
        return self.start is not None or self.stop is not None

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) wanted of frames of this one, both upright."""
        if self.size is None:
            return height, width
        if isinstance(self.size, tuple):
            return self.size
        return max(1, round(height * self.size)), max(1, round(width * self.size))


def make_clip(start: float | None, stop: float | None, step: int, size: Any) -> Clip:
    """
    Check the options.

    Raises
    ------
    OptionError
        One is not understood.

    Examples
    --------
    >>> make_clip(None, 10, 5, (360, 640))
    Clip(start=None, stop=10.0, step=5, size=(360, 640))
    """
    clip = Clip(_seconds("start", start), _seconds("stop", stop), _step(step), _size(size))
    if clip.start is not None and clip.stop is not None and clip.start >= clip.stop:
        raise OptionError(f"start={start!r} and stop={stop!r} leave nothing between them; start has to be less")
    return clip


def _seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, Real) or not isfinite(value):
        raise OptionError(f"{name}={value!r}: expected seconds, such as 12.5")
    return float(value)


def _step(step: Any) -> int:
    if not isinstance(step, Integral) or int(step) < 1:
        raise OptionError(f"step={step!r}: expected a whole number of frames, at least 1")
    return int(step)


def _size(size: Any) -> tuple[int, int] | float | None:
    if size is None:
        return None
    if isinstance(size, Real) and isfinite(size) and float(size) > 0:
        return float(size)
    try:
        height, width = size
    except (TypeError, ValueError):
        height = width = None
    if not all(isinstance(n, Integral) and int(n) > 0 for n in (height, width)):
        raise OptionError(f"size={size!r}: expected (height, width) in pixels, or a factor such as 0.5")
    return int(height), int(width)
