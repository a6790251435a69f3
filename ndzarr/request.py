"""What is asked of a file, and has the file changed since?

A `Request` is a file and how it is to be read.  `signature` is what is compared each time a sampler touches the file,
and costs one look at it; `settle` makes sure that the next change will show.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

_TICK = 0.02
"""Seconds; file systems note times of modification a little more often than this."""


class Request(NamedTuple):
    """A source, and how it is to be read; see `ndzarr.transcode`."""

    path: str
    orient: bool | tuple[int, int] = True
    axes: str | None = None
    channels: tuple[str, ...] | None = None
    nodata: float | None = None


def as_request(
    source: str | os.PathLike[str],
    orient: bool | tuple[int, int] = True,
    axes: str | None = None,
    channels: Sequence[str] | None = None,
    nodata: float | None = None,
) -> Request:
    """A `Request` in its one form, so that equal ones are equal."""
    path = os.fsdecode(source)
    if path[:1] == "~":
        path = os.path.expanduser(path)
    if nodata is not None and nodata != nodata:
        nodata = _NAN
    return Request(path, orient, axes, None if channels is None else tuple(channels), nodata)


_NAN = float("nan")
"""The one that stands for all of them: tuples that hold the same object are equal."""


def in_place(path: str) -> bool:
    """True for stores and URLs, which are not transcoded."""
    return "://" in path or os.path.isdir(path)


def signature(path: str) -> tuple[int, ...]:
    """What changes when a file, or the metadata of a store, is replaced or written to."""
    if "://" in path:
        return ()
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        with suppress(FileNotFoundError):
            found = os.stat(os.path.join(path, "zarr.json"))
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def settle(mtime_ns: int) -> None:
    """Wait until another change of the file would show in its time of modification."""
    age = time.time() - mtime_ns / 1e9
    if 0 <= age < _TICK:
        time.sleep(_TICK - age)
