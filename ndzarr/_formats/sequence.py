"""A sequence of images as one source: frames of a video, or planes of a volume.

1. The first image decides axes, size, type, channels and nodata.  The others are only looked at for the
   size and date of their files before they are read, so a sequence of many thousands opens at once.
2. A window is read image by image.  Its images stay open until a window of others is asked for, since a band of rows is
   followed by the next band of the same images.
3. Metadata are what all images agree on.  A file that changes between opening and the end is an error.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np

from ndzarr._formats.base import Facts, Pixels, Region, Source, in_order
from ndzarr._formats.options import Options
from ndzarr._geo.pixel_size import NOT_KNOWN
from ndzarr._remote.urls import is_url, shown
from ndzarr._store.validity import same_nodata
from ndzarr.errors import MissingError, OptionError, SourceError

Opener: TypeAlias = Callable[[Any, Options], Source]
"""Opens one image: a path or an array."""


def is_sequence(source: object) -> bool:
    """Return True for a list of images, and for a pattern that is not itself the name of a file."""
    if isinstance(source, list | tuple):
        return True
    if not isinstance(source, str | os.PathLike):
        return False
    name = os.fsdecode(source)
    return glob.has_magic(name) and not os.path.lexists(os.path.expanduser(name))


def check_stack(stack: str) -> None:
    """Raise `OptionError` unless images can be stacked along this axis."""
    if stack not in ("t", "z"):
        raise OptionError(f"stack={stack!r}: expected 't' (frames) or 'z' (planes of a volume)", key="stack")


def open_sequence(source: Any, stack: str, options: Options, open_one: Opener) -> Source:
    """Open images as one source: paths or arrays in order, or a pattern, whose matches are sorted by `natural`."""
    frames = frames_of(source)
    if not frames:
        raise SourceError("an empty list of frames has no pixels", hint="Name at least one file")
    return SequenceSource(frames, stack, options, open_one)


def frames_of(source: Any) -> list[Any]:
    """Return the images of a list, or the files that match a pattern."""
    return list(source) if isinstance(source, list | tuple) else _matches(os.fsdecode(source))


def natural(name: str) -> tuple[str | int, ...]:
    """
    Return a key that sorts frame10 after frame9.

    Examples
    --------
    >>> sorted(["f10.png", "f9.png", "f1.png"], key=natural)
    ['f1.png', 'f9.png', 'f10.png']
    """
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name))


def _matches(pattern: str) -> list[str]:
    found = sorted(glob.glob(os.path.expanduser(pattern), recursive=True), key=natural)
    if not found:
        raise MissingError(f"{pattern}: no file matches this pattern", path=pattern, hint="Check its directory")
    return found


class SequenceSource(Source):
    """Images of one size and type, stacked along a new axis."""

    def __init__(self, frames: Sequence[Any], stack: str, options: Options, open_one: Opener) -> None:
        self._frames = list(frames)
        self._options = options
        self._open_one = open_one
        self._states = _file_states(self._frames)
        self._like = first = open_one(self._frames[0], options)
        self._opened: dict[int, Source] = {0: first}
        if stack in first.dims:
            first.close()
            raise SourceError(
                f"{first.name}: it has an axis {stack} of its own ({first.shape[first.dims.index(stack)]} long), and "
                f"cannot be one of a sequence along {stack}",
                path=first.name,
                hint="Transcode it alone",
            )
        dims = in_order("".join((*first.dims, stack)))
        self._axis = dims.index(stack)
        super().__init__(
            Facts(
                name=_name(self._frames, first),
                dims=dims,
                shape=(*first.shape[: self._axis], len(self._frames), *first.shape[self._axis :]),
                dtype=first.dtype,
                channels=first.channels,
                band=first.band,
                interleaved=first.interleaved,
                nodata=first.nodata,
                masked=first.masked,
                pixel_size=first.pixel_size,
                classes=first.facts.classes,
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
        """Raise `SourceError` if the file of an image has changed since the sequence was opened."""
        for before, now in zip(self._states, _file_states(self._frames), strict=True):
            if before != now:
                found, hint = f"{now[0]}: the file was changed while it was read", "Transcode it once it is complete"
                raise SourceError(found, path=now[0], hint=hint)

    def _pixels(self, region: Region) -> Pixels:
        out = np.empty([s.stop - s.start for s in region], self.dtype)
        for k, (source, rest) in enumerate(self._frames_of(region)):
            out[(slice(None),) * self._axis + (k,)] = source.read(rest)
        return out

    def read_mask(self, window: Mapping[str, slice]) -> Pixels:
        """Read the mask of a window, axes `dims` without c; images without a mask are real everywhere."""
        region = self._region(window)
        axis = self._axis - ("c" in self.dims[: self._axis])
        out = np.ones([s.stop - s.start for d, s in zip(self.dims, region, strict=True) if d != "c"], bool)
        for k, (source, rest) in enumerate(self._frames_of(region)):
            if source.masked:
                out[(slice(None),) * axis + (k,)] = source.read_mask(rest)
        return out

    def _frames_of(self, region: Region) -> Iterator[tuple[Source, dict[str, slice]]]:
        """Yield each image of a region, and the window of it."""
        wanted = region[self._axis]
        rest = dict(zip(self._like.dims, (*region[: self._axis], *region[self._axis + 1 :]), strict=True))
        for number in [k for k in self._opened if not wanted.start <= k < wanted.stop]:
            self._opened.pop(number).close()
        for number in range(wanted.start, wanted.stop):
            if number not in self._opened:
                self._opened[number] = self._open_checked(number)
            yield self._opened[number], rest

    def _open_checked(self, number: int) -> Source:
        """Open an image, which has to be like the first."""
        found, like = self._open_one(self._frames[number], self._options), self._like
        for what in ("dims", "shape", "dtype", "channels", "nodata"):
            expected, actual = getattr(like, what), getattr(found, what)
            if not (same_nodata(expected, actual) if what == "nodata" else expected == actual):
                found.close()
                raise SourceError(
                    f"{found.name}: frame {number} has {what} {_text(actual)}, but the first, {like.name}, has "
                    f"{_text(expected)}; the frames of a sequence have to be alike",
                    path=found.name,
                )
        if found.masked and not like.masked:
            found.close()
            what = f"frame {number} has a mask, but the first, {like.name}, has none"
            hint = "Give the first frame a mask, too, such as one that hides nothing"
            raise SourceError(f"{found.name}: {what}", path=found.name, hint=hint)
        if found.pixel_size != like.pixel_size:  # nothing is true of all frames
            self.facts = replace(self.facts, pixel_size=NOT_KNOWN)
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


def _file_states(frames: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return (path, size, time of modification) of each file, (URL,) of a remote one, (position,) of each array."""
    out: list[tuple[Any, ...]] = []
    for number, frame in enumerate(frames):
        if not isinstance(frame, str | os.PathLike):
            out.append((number,))
            continue
        if is_url(frame):  # what is read of it is of one version, as each request is checked
            out.append((shown(os.fsdecode(frame)),))
            continue
        path = os.path.abspath(os.path.expanduser(os.fsdecode(frame)))
        try:
            state = os.stat(path)
        except FileNotFoundError as error:
            found = f"{path}: there is no such file, which is one of {len(frames)} frames"
            raise MissingError(found, path=path) from error
        except OSError as error:
            found = f"{path}: it cannot be looked at ({error.strerror})"
            raise SourceError(found, path=path, hint="Check its permissions") from error
        out.append((path, state.st_size, state.st_mtime_ns))
    return out


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _name(frames: Sequence[Any], first: Source) -> str:
    last = frames[-1]
    where = os.path.basename(shown(os.fsdecode(last))) if isinstance(last, str | os.PathLike) else "an array"
    return f"<{len(frames)} images, {first.name} to {where}>"
