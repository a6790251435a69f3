"""What may the caller say about a source, and does it make sense?

`Options` is what `open_source` was given, checked once, and handed to the adapter of the format.  Contradictions
with the file (five names for three channels) are found by the adapter, which asks the methods here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from ndzarr._indexing.selection import AXES
from ndzarr.errors import OptionError, SourceError, did_you_mean

# --- Which part of a video is wanted, and how large?


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


WHOLE_PIXELS = 2**30
"""Most pixels an image may have, unless said otherwise, if its format has to be decoded whole."""
PIECE_PIXELS = 2**36
"""The same for formats that are read in pieces."""

_COLOURS = {"gray": ("gray",), "rgb": ("r", "g", "b"), "rgba": ("r", "g", "b", "a")}
"""Channels that have names in one word."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `open_source`."""

    axes: str | None = None
    """One letter of 't c z y x' per axis of the data, in the order in which the data has them."""
    channels: tuple[str, ...] | None = None
    """Names of the channels, in order."""
    nodata: float | None = None
    """The value that marks pixels that hold no data."""
    orient: bool | tuple[int, int] = True
    """True: upright; False: as stored; (width, height): whichever of the two has this size."""
    max_pixels: int | None = None
    """Most pixels (height times width) that are believed."""
    clip: Clip = field(default_factory=Clip)
    """Which part of a video is wanted, and how large."""

    def check_pixels(self, name: str, height: int, width: int, *, whole: bool) -> None:
        """
        Refuse images without pixels, and those with more than are plausible.

        Parameters
        ----------
        whole
            True if the format has to be decoded as a whole.
        """
        if height < 1 or width < 1:
            raise SourceError(f"{name}: the image is {width} x {height} pixels, so there is nothing to read")
        limit = self.max_pixels or (WHOLE_PIXELS if whole else PIECE_PIXELS)
        if height * width > limit:
            raise SourceError(
                f"{name}: the header says {width} x {height} pixels, more than the limit of {limit}; if that is true, "
                f"pass max_pixels={height * width} or more"
            )

    def refuse_clip(self, name: str) -> None:
        """Raise `OptionError` if options were given that only videos have."""
        if self.clip != Clip():
            raise OptionError(
                f"{name}: start, stop, step and size are options of videos; leave them out for this source"
            )

    def name_channels(self, name: str, found: Sequence[str]) -> tuple[str, ...]:
        """The names asked for if there are any, else those found; either way unique."""
        if self.channels is None:
            return unique(found)
        if len(self.channels) != len(found):
            raise OptionError(
                f"{name}: channels={list(self.channels)} names {len(self.channels)} channels, but there are "
                f"{len(found)}: {', '.join(found)}"
            )
        return self.channels


def make_options(
    axes: str | None,
    channels: Sequence[str] | None,
    nodata: float | None,
    orient: bool | tuple[int, int],
    max_pixels: int | None,
    clip: Clip | None = None,
) -> Options:
    """
    Check each option on its own.

    Raises
    ------
    OptionError
        An option is not understood.
    """
    if max_pixels is not None and max_pixels < 1:
        raise OptionError(f"max_pixels is {max_pixels}; it has to be at least 1, or None for the default")
    return Options(
        axes=None if axes is None else _axes(axes),
        channels=None if channels is None else _channels(channels),
        nodata=None if nodata is None else float(nodata),
        orient=_orient(orient),
        max_pixels=max_pixels,
        clip=clip or Clip(),
    )


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names if no two are alike, else numbers with a c before them."""
    return tuple(names) if len(set(names)) == len(names) else numbered(len(names))


def numbered(count: int) -> tuple[str, ...]:
    """As many names: c0, c1 and so on."""
    return tuple(f"c{i}" for i in range(count))


def _axes(axes: str) -> str:
    if not isinstance(axes, str):
        raise OptionError(f"axes is {axes!r}; it has to be a string of axis letters such as 'tyxc'")
    for letter in axes:
        if letter not in AXES:
            raise OptionError(f"axes={axes!r} holds {letter!r}{did_you_mean(letter.lower(), AXES)}")
    if len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes):
        raise OptionError(f"axes={axes!r} has to name y and x, and every axis once")
    return axes


def _channels(channels: Sequence[str]) -> tuple[str, ...]:
    if isinstance(channels, str):
        if channels in _COLOURS:
            return _COLOURS[channels]
        apart = [name for name in re.split(r"[|,;\s]+", channels) if name]
        raise OptionError(f"channels is the string {channels!r}; pass a list of names such as {apart!r}")
    names: tuple[Any, ...] = tuple(channels)
    if not all(isinstance(name, str) and name for name in names):
        raise OptionError(f"channels={list(names)!r} has to hold names that are strings and not empty")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError(f"channels={list(names)!r} names {', '.join(map(repr, twice))} more than once")
    return names


def _orient(orient: bool | tuple[int, int]) -> bool | tuple[int, int]:
    if isinstance(orient, bool):
        return orient
    try:
        width, height = (int(n) for n in orient)
    except (TypeError, ValueError) as error:
        raise OptionError(f"orient is {orient!r}; it has to be True, False or a (width, height) in pixels") from error
    return width, height


# --- How is a file to be read where it lies?


@dataclass(frozen=True, slots=True)
class InPlaceOptions:
    """What is known about a file beforehand; the first five are as for `ndzarr.transcode`."""

    orient: bool | tuple[int, int] = True
    axes: str | None = None
    channels: tuple[str, ...] | None = None
    nodata: float | None = None
    max_pixels: int | None = None
    kind: str = "intensity"
    """'intensity', or 'labels', whose levels are modes: overviews in the file, of unknown making, are left out."""
    cache: Path | None = None
    """The directory of levels that are made of large files; the user's cache directory if None."""
