"""What is the store of a source called, what must it say of its source, and who makes it?

A *key* is a digest of all that the pixels of a store depend on.  It is in the store's name, `STEM-KEY.zarr`, and in its
metadata, so that a store is known by both.  It is made by whoever gets its lock; all others wait for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ndzarr._files import discard, explained
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.zarr_store import open_pyramid
from ndzarr._store.metadata import SCHEMA
from ndzarr.errors import MissingError, StoreError, WriteError


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """Where a store is, or will be."""

    store: Path
    origin: dict[str, Any]
    """What the store must say of its source: path, size, mtime_ns and key."""

    def find(self) -> Pyramid | None:
        """The pyramid, if it is there, undamaged and of this source."""
        try:
            pyramid = open_pyramid(self.store)
            source = pyramid.attrs["ndzarr"]["source"]
            return pyramid if all(source[name] == value for name, value in self.origin.items()) else None
        except (MissingError, *MALFORMED):
            return None

    def make(self, write: Callable[[], None], waiting: Callable[[], None] | None = None) -> Pyramid:
        """
        The pyramid, made by `write` unless another process does so meanwhile; one that is damaged is replaced.

        Parameters
        ----------
        write
            Writes the store, whose directory exists.
        waiting
            Called now and then while another makes it; what it raises ends the waiting.
        """
        from ndzarr._files import holding, lock_of

        with holding(lock_of(self.store), waiting):
            found = self.find()
            if found is None:
                if os.path.lexists(self.store):
                    discard(self.store)
                write()
                found = open_pyramid(self.store)
        return found


def cache_entry(root: Path, source: str, size: int, mtime_ns: int, *told: Any) -> CacheEntry:
    """
    The slot of a source.

    Parameters
    ----------
    root
        The directory of stores.
    source
        Absolute path of the file, links resolved.
    told
        All else that the pixels of the store depend on, as JSON values.
    """
    origin = {"path": source, "size": size, "mtime_ns": mtime_ns}
    key = hashlib.sha256(json.dumps([SCHEMA, origin, *told], sort_keys=True).encode()).hexdigest()[:16]
    stem = re.sub(r"[^\w.-]", "_", Path(source).stem, flags=re.ASCII)[:64]
    return CacheEntry(root / f"{stem}-{key}.zarr", {**origin, "key": key})


def make_root(root: Path) -> None:
    """
    Make the directory of stores.

    Raises
    ------
    WriteError
        It cannot be made.
    """
    try:
        with explained(root):
            root.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise WriteError(f"{root}: it, or a part of its path, is a file; choose another workdir") from error


# --- What is asked of a file, and has the file changed since?


class SourceRequest(NamedTuple):
    """A source, and how it is to be read; see `ndzarr.transcode`."""

    path: str
    orient: bool | tuple[int, int] = True
    axes: str | None = None
    channels: tuple[str, ...] | None = None
    nodata: float | None = None


def as_source_request(
    source: str | os.PathLike[str],
    orient: bool | tuple[int, int] = True,
    axes: str | None = None,
    channels: Sequence[str] | None = None,
    nodata: float | None = None,
) -> SourceRequest:
    """A `Request` in its one form, so that equal ones are equal."""
    path = os.fsdecode(source)
    if path[:1] == "~":
        path = os.path.expanduser(path)
    if nodata is not None and nodata != nodata:
        nodata = _NAN
    return SourceRequest(path, orient, axes, None if channels is None else tuple(channels), nodata)


_NAN = float("nan")
"""The one that stands for all of them: tuples that hold the same object are equal."""


def in_place(path: str) -> bool:
    """True for stores and URLs, which are not transcoded."""
    return "://" in path or os.path.isdir(path)


# --- What lies in a library's directory, and what of it may go?


MALFORMED = (StoreError, KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What is raised on metadata that are there but damaged."""
