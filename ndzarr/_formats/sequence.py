"""How do images that are frames of a video, or planes of a volume, become one source?

1. The first one says what all of them have to be: axes, size, type, channels and nodata.  Of the others only size and
   date of their files are looked at before they are read, so that a sequence of many thousands opens at once.
2. A window is read frame by frame; its frames are kept open until one of others is asked for, since a band of rows is
   followed by the next one of the same frames.
3. Metadata are what all frames agree on.  A file that changes between opening and the end is an error.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np

from ndzarr._formats.base import BaseSource, Facts, Pixels, Region, Source, in_order
from ndzarr._formats.options import Options
from ndzarr.errors import MissingError, OptionError, SourceError

Opener: TypeAlias = Callable[[Any, Options], Source]
"""Opens one frame."""


def is_sequence(source: Any) -> bool:
    """True for a list of frames, and for a pattern that is not itself the name of a file."""
    if isinstance(source, list | tuple):
        return True
    if not isinstance(source, str | os.PathLike):
        return False
    name = os.fsdecode(source)
    return glob.has_magic(name) and not os.path.lexists(os.path.expanduser(name))


def check_stack(stack: str) -> None:
    """Raise `OptionError` unless images may become this axis."""
    if stack not in ("t", "z"):
        raise OptionError(f"stack={stack!r}: a sequence of images becomes frames, 't', or planes, 'z'")


def open_sequence(source: Any, stack: str, options: Options, open_one: Opener) -> Source:
    """
    Read several images as one.

    Parameters
    ----------
    source
        Paths or arrays, in order; or a pattern such as 'frames/*.png', whose matches are sorted with numbers in their
        names taken as numbers.
    stack
        't' or 'z': the axis that they make.
    open_one
        Opens one of them.

    Raises
    ------
    MissingError
        A file is not there, or the pattern matches nothing.
    SourceError
        Frames do not fit together; found out when they are read.
    """
    frames = list(source) if isinstance(source, list | tuple) else _matches(os.fsdecode(source))
    if not frames:
        raise SourceError("an empty list of frames has no pixels; name at least one file")
    return SequenceSource(frames, stack, options, open_one)


def natural(name: str) -> tuple[Any, ...]:
    """
    What names are sorted by, so that frame10 comes after frame9.

    Examples
    --------
    >>> sorted(["f10.png", "f9.png", "f1.png"], key=natural)
    ['f1.png', 'f9.png', 'f10.png']
    """
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name))


def _matches(pattern: str) -> list[str]:
    found = sorted(glob.glob(os.path.expanduser(pattern), recursive=True), key=natural)
    if not found:
        raise MissingError(f"{pattern}: no file matches this pattern; check its directory")
    return found


class SequenceSource(BaseSource):
    """Images of one size and type, stacked along a new axis."""

    def __init__(self, frames: Sequence[Any], stack: str, options: Options, open_one: Opener) -> None:
        self._frames = list(frames)
        self._options = options
        self._open_one = open_one
        self._states = _states(self._frames)
        self._like = first = open_one(self._frames[0], options)
        self._opened: dict[int, Source] = {0: first}
        if stack in first.dims:
            first.close()
            raise SourceError(
                f"{first.name}: it has an axis {stack} of its own ({first.shape[first.dims.index(stack)]} long), and "
                f"cannot be one of a sequence along {stack}; transcode it alone"
            )
        dims = in_order("".join((*first.dims, stack)))
        self._axis = dims.index(stack)
        shape = list(first.shape)
        shape.insert(self._axis, len(self._frames))
        super().__init__(
            Facts(
                name=_name(self._frames, first),
                dims=dims,
                shape=tuple(shape),
                dtype=first.dtype,
                channels=first.channels,
                band=first.band,
                interleaved=first.interleaved,
                nodata=first.nodata,
                metadata={
                    **first.metadata,
                    "format": "sequence",
                    "frame_format": first.metadata.get("format"),
                    "frames": len(self._frames),
                    "frames_sha256": sha256("\n".join(map(str, self._states)).encode()).hexdigest(),
                },
            )
        )

    def refuse_changed(self) -> None:
        """Raise `SourceError` if the file of a frame is another than when the sequence was opened."""
        for before, now in zip(self._states, _states(self._frames), strict=True):
            if before != now:
                raise SourceError(f"{now[0]}: was changed while it was read; transcode it once it is complete")

    def _pixels(self, region: Region) -> Pixels:
        wanted = region[self._axis]
        rest = (*region[: self._axis], *region[self._axis + 1 :])
        for number in [k for k in self._opened if not wanted.start <= k < wanted.stop]:
            self._opened.pop(number).close()
        like = self._like
        out = np.empty([s.stop - s.start for s in region], self.dtype)
        for k, number in enumerate(range(wanted.start, wanted.stop)):
            pixels = self._frame(number).read(dict(zip(like.dims, rest, strict=True)))
            out[(slice(None),) * self._axis + (k,)] = pixels
        return out

    def _frame(self, number: int) -> Source:
        if number not in self._opened:
            self._opened[number] = self._checked(number)
        return self._opened[number]

    def _checked(self, number: int) -> Source:
        """A frame, which has to be like the first."""
        found, like = self._open_one(self._frames[number], self._options), self._like
        for what in ("dims", "shape", "dtype", "channels", "nodata"):
            ours, its = getattr(like, what), getattr(found, what)
            if ours != its and not (ours != ours and its != its):  # NaN is like NaN
                found.close()
                raise SourceError(
                    f"{found.name}: frame {number} has {what} {_say(its)}, but the first, {like.name}, has "
                    f"{_say(ours)}; the frames of a sequence have to be alike"
                )
        if found.metadata != like.metadata:
            own = {k for k, v in like.metadata.items() if found.metadata.get(k) != v}
            own = {"frame_format" if k == "format" else k for k in own}
            kept = {k: v for k, v in self.facts.metadata.items() if k not in own}
            self.facts = replace(self.facts, metadata=kept)
        return found

    def _release(self) -> None:
        for source in self._opened.values():
            source.close()
        self._opened.clear()


def _states(frames: Sequence[Any]) -> list[tuple[Any, ...]]:
    """(path, size, time of modification) of each file, its place where it is an array."""
    out: list[tuple[Any, ...]] = []
    for number, frame in enumerate(frames):
        if not isinstance(frame, str | os.PathLike):
            out.append((number,))
            continue
        path = os.path.abspath(os.path.expanduser(os.fsdecode(frame)))
        try:
            found = os.stat(path)
        except FileNotFoundError as error:
            raise MissingError(f"{path}: there is no such file, which is one of {len(frames)} frames") from error
        except OSError as error:
            raise SourceError(f"{path}: it cannot be looked at ({error.strerror}); check its permissions") from error
        out.append((path, found.st_size, found.st_mtime_ns))
    return out


def _say(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _name(frames: Sequence[Any], first: Source) -> str:
    last = frames[-1]
    where = os.path.basename(os.fsdecode(last)) if isinstance(last, str | os.PathLike) else "an array"
    return f"<{len(frames)} images, {first.name} to {where}>"
