"""Options of `open_source` and of files read in place, each checked on its own.

The adapter of the format checks them against the file (five names for three channels), through the methods here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from numbers import Integral, Real
from typing import Any

from ndzarr._indexing.selection import AXES
from ndzarr._store.destinations import Dest
from ndzarr._store.validity import Nodata
from ndzarr._validation import as_integer, check_choice
from ndzarr.errors import OptionError, SourceError, did_you_mean

WHOLE_PIXELS = 2**30
"""Default of `max_pixels` for formats that have to be decoded whole."""
PIECE_PIXELS = 2**36
"""Default of `max_pixels` for formats that are read in pieces."""

_COLOURS = {"gray": ("gray",), "rgb": ("r", "g", "b"), "rgba": ("r", "g", "b", "a")}
"""Channels that may be named in one word."""


@dataclass(frozen=True, slots=True)
class Clip:
    """The options of `ndzarr.transcode` that only videos have."""

    start: float | None = None
    """Seconds on the clock of the video; the first wanted frame is the first one shown then or later."""
    stop: float | None = None
    """Seconds; frames shown then or later are not wanted."""
    step: int = 1
    """Distance between wanted frames."""
    size: tuple[int, int] | float | None = None
    """(height, width) in pixels, upright, or a factor; None for the size of the video."""

    @property
    def ranged(self) -> bool:
        """True if the wanted frames depend on their times."""
        return self.start is not None or self.stop is not None

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """Return the wanted (height, width) of frames of this size, both upright."""
        if self.size is None:
            return height, width
        if isinstance(self.size, tuple):
            return self.size
        return max(1, round(height * self.size)), max(1, round(width * self.size))


def make_clip(start: object, stop: object, step: object, size: object) -> Clip:
    """
    Check the options of a video.

    Examples
    --------
    >>> make_clip(None, 10, 5, (360, 640))
    Clip(start=None, stop=10.0, step=5, size=(360, 640))
    """
    if not isinstance(step, Integral) or int(step) < 1:
        raise OptionError(f"step={step!r}: expected a whole number of frames, at least 1", key="step")
    clip = Clip(_seconds("start", start), _seconds("stop", stop), int(step), _size(size))
    if clip.start is not None and clip.stop is not None and clip.start >= clip.stop:
        what = f"start={start!r} and stop={stop!r} leave nothing between them"
        raise OptionError(what, key="start", hint="Make start less than stop")
    return clip


def _seconds(name: str, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, Real) or not isfinite(value):
        raise OptionError(f"{name}={value!r}: expected seconds, such as 12.5", key=name)
    return float(value)


def _size(size: object) -> tuple[int, int] | float | None:
    if size is None:
        return None
    if isinstance(size, Real) and isfinite(size) and float(size) > 0:
        return float(size)
    pair = tuple(size) if isinstance(size, Iterable) else ()
    if len(pair) != 2 or not all(isinstance(n, Integral) and int(n) > 0 for n in pair):
        raise OptionError(f"size={size!r}: expected (height, width) in pixels, or a factor such as 0.5", key="size")
    return int(pair[0]), int(pair[1])


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `open_source`."""

    axes: str | None = None
    """One letter of 't c z y x' per axis of the data, in the order of the data."""
    channels: tuple[str, ...] | None = None
    nodata: Nodata = None
    """One value, or one per channel, not yet merged if they are alike: there may be more or fewer channels."""
    orient: bool | tuple[int, int] = True
    """True: upright; False: as stored; (width, height): whichever of the two has this size."""
    max_pixels: int | None = None
    """Maximum of height times width; None for the default of the format."""
    clip: Clip = field(default_factory=Clip)
    palette: str = "colours"
    """One of `PALETTES`."""
    series: str | int | None = None
    """Name or number of an image of the file; None for the main one."""
    variable: str | None = None
    """Name of the image of a dataset; None for the only one."""

    def check_pixels(self, name: str, height: int, width: int, *, whole: bool) -> None:
        """Refuse an image that is empty or implausibly large; `whole`: the format has to be decoded as a whole."""
        if height < 1 or width < 1:
            raise SourceError(f"{name}: the image is {width} x {height} pixels, so there is nothing to read")
        limit = self.max_pixels or (WHOLE_PIXELS if whole else PIECE_PIXELS)
        if height * width > limit:
            raise SourceError(
                f"{name}: the header says {width} x {height} pixels, more than the limit of {limit}",
                hint=f"If that is true, pass max_pixels={height * width} or more",
            )

    def refuse_clip(self, name: str) -> None:
        """Raise `OptionError` if an option was given that only videos have."""
        if self.clip != Clip():
            what = "start, stop, step and size are options of videos"
            raise OptionError(f"{name}: {what}", hint="Leave them out for this source")

    def refuse_series(self, name: str) -> None:
        """Raise `OptionError` if an image of the file was chosen, which has only one."""
        if self.series not in (None, 0):
            what = f"series={self.series!r} chooses an image of a file that holds several"
            raise OptionError(f"{name}: {what}", key="series", hint="Leave it out for this source")

    def refuse_variable(self, name: str) -> None:
        """Raise `OptionError` if an array of a dataset was chosen, which this source is not."""
        if self.variable is not None:
            what = f"variable={self.variable!r} chooses an array of a dataset"
            raise OptionError(f"{name}: {what}", key="variable", hint="Leave it out for this source")

    def name_channels(self, name: str, found: Sequence[str]) -> tuple[str, ...]:
        """Return the names asked for, or else those found, made unique."""
        if self.channels is None:
            return tuple(found) if len(set(found)) == len(found) else numbered(len(found))
        if len(self.channels) != len(found):
            what = f"names {len(self.channels)} channels, but there are {len(found)}: {', '.join(found)}"
            raise OptionError(f"{name}: channels={list(self.channels)} {what}", key="channels")
        return self.channels


def make_options(
    axes: str | None,
    channels: Sequence[str] | None,
    nodata: float | Sequence[float | None] | None,
    orient: bool | tuple[int, int],
    max_pixels: int | None,
    clip: Clip | None = None,
    palette: str = "colours",
    series: str | int | None = None,
    variable: str | None = None,
) -> Options:
    """Check each option on its own."""
    if max_pixels is not None and max_pixels < 1:
        raise OptionError(f"max_pixels={max_pixels}: expected at least 1, or None for the default", key="max_pixels")
    return Options(
        axes=None if axes is None else _axes(axes),
        channels=None if channels is None else _channels(channels),
        nodata=_nodata(nodata),
        orient=_orient(orient),
        max_pixels=max_pixels,
        clip=clip or Clip(),
        palette=check_choice("palette", palette, PALETTES),
        series=_series(series),
        variable=_variable(variable),
    )


def _variable(variable: object) -> str | None:
    if variable is not None and (not isinstance(variable, str) or not variable):
        raise OptionError(f"variable={variable!r}: expected the name of an array", key="variable")
    return variable


def _nodata(nodata: Any) -> Nodata:
    try:
        if isinstance(nodata, Iterable) and not isinstance(nodata, str):
            return tuple(None if value is None else float(value) for value in nodata)
        return None if nodata is None else float(nodata)
    except (TypeError, ValueError) as error:
        expected = "expected a number, or one (or None) per channel"
        raise OptionError(f"nodata={nodata!r}: {expected} ({error})", key="nodata") from error


def numbered(count: int) -> tuple[str, ...]:
    """Return the names c0, c1, ..."""
    return tuple(f"c{i}" for i in range(count))


PALETTES = ("colours", "indices")
"""What pixels of files with a palette become: the colours r, g, b, or the indices as they are stored."""


def choose_palette(palette: str | None, kind: str) -> str:
    """Return what pixels with a palette become; if left open, indices of labels and colours of pictures."""
    return palette or ("indices" if kind == "labels" else "colours")


def _series(series: object) -> str | int | None:
    if series is None or (isinstance(series, str) and series):
        return series
    number = None if isinstance(series, bool) else as_integer(series)
    if number is not None and number >= 0:
        return number
    raise OptionError(
        f"series={series!r}: expected the name of an image of the file, or its number from 0", key="series"
    )


def find_series(path: str, names: Sequence[str], wanted: str | int) -> int:
    """Return the number of an image of a file by its name, of which case does not matter, or by its number."""
    if isinstance(wanted, int):
        matches = [wanted] if wanted < len(names) else []
    else:
        matches = [k for k, name in enumerate(names) if name == wanted]
        matches = matches or [k for k, name in enumerate(names) if name.lower() == wanted.lower()]
    if len(matches) == 1:
        return matches[0]
    what = f"{len(matches)} images have that name" if matches else "the file has no such image"
    listed = ", ".join(f"{k} {name!r}" for k, name in enumerate(names[:20]))
    hint = f"Choose one by its number: {listed}"
    raise OptionError(f"{path}: series={wanted!r}, but {what}", path=path, key="series", hint=hint)


def _axes(axes: str) -> str:
    if not isinstance(axes, str):
        raise OptionError(f"axes={axes!r}: expected a string of axis letters such as 'tyxc'", key="axes")
    for letter in axes:
        if letter not in AXES:
            raise OptionError(f"axes={axes!r} holds {letter!r}{did_you_mean(letter.lower(), AXES)}", key="axes")
    if len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes):
        raise OptionError(f"axes={axes!r} has to name y and x, and every axis once", key="axes")
    return axes


def _channels(channels: Sequence[str]) -> tuple[str, ...]:
    if isinstance(channels, str):
        if channels in _COLOURS:
            return _COLOURS[channels]
        apart = [name for name in re.split(r"[|,;\s]+", channels) if name]
        raise OptionError(
            f"channels={channels!r} is a string", key="channels", hint=f"Pass a list of names such as {apart!r}"
        )
    names = tuple(channels)
    if not all(name and isinstance(name, str) for name in names):
        raise OptionError(f"channels={list(names)!r}: expected names that are strings and not empty", key="channels")
    twice = ", ".join(sorted({repr(name) for name in names if names.count(name) > 1}))
    if twice:
        raise OptionError(f"channels={list(names)!r} names {twice} more than once", key="channels")
    return names


def _orient(orient: bool | tuple[int, int]) -> bool | tuple[int, int]:
    if isinstance(orient, bool):
        return orient
    try:
        width, height = (int(n) for n in orient)
    except (TypeError, ValueError) as error:
        expected = "expected True, False or (width, height) in pixels"
        raise OptionError(f"orient={orient!r}: {expected}", key="orient") from error
    return width, height


@dataclass(frozen=True, slots=True)
class InPlaceOptions:
    """Options of a file that is read in place, as for `ndzarr.transcode`."""

    orient: bool | tuple[int, int] = True
    axes: str | None = None
    channels: tuple[str, ...] | None = None
    nodata: float | tuple[float | None, ...] | None = None
    max_pixels: int | None = None
    kind: str = "intensity"
    """'intensity', or 'labels', whose levels are modes; the overviews of the file are then left out."""
    palette: str | None = None
    """One of `PALETTES`; None for what suits `kind`."""
    series: str | int | None = None
    cache: Dest | None = None
    """Directory, or place in a bucket, for the levels that a large file lacks; the user's cache directory if None."""
    in_memory: int = 16 << 20
    """Most decoded bytes of the coarsest level of a file whose other levels are made in memory: that takes a tenth of a
    second, and a third of its size."""
