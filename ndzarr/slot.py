"""What is the store of a source called, what must it say of its source, and who makes it?

A *key* is a digest of all that the pixels of a store depend on.  It is in the store's name, `STEM-KEY.zarr`, and in its
metadata, so that a store is known by both.  It is made by whoever gets its lock; all others wait for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndzarr.errors import MissingError, WriteError
from ndzarr.pyramid.metadata import SCHEMA
from ndzarr.pyramid.open import open_pyramid
from ndzarr.pyramid.publish import discard, explained
from ndzarr.pyramid.pyramid import Pyramid


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a store is, or will be."""

    store: Path
    origin: dict[str, Any]
    """What the store must say of its source: path, size, mtime_ns and key."""

    def find(self) -> Pyramid | None:
        """The pyramid, if it is there, undamaged and of this source."""
        from ndzarr.inventory import MALFORMED

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
        from ndzarr.locks import holding, lock_of

        with holding(lock_of(self.store), waiting):
            found = self.find()
            if found is None:
                if os.path.lexists(self.store):
                    discard(self.store)
                write()
                found = open_pyramid(self.store)
        return found


def slot(root: Path, source: str, size: int, mtime_ns: int, *told: Any) -> Slot:
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
    return Slot(root / f"{stem}-{key}.zarr", {**origin, "key": key})


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


def default_root() -> Path:
    """`$NDZARR_CACHE`, else `ndzarr` in the user's cache directory (`$XDG_CACHE_HOME`, else ~/.cache)."""
    if own := os.environ.get("NDZARR_CACHE"):
        return Path(own).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return Path(cache if os.path.isabs(cache) else Path.home() / ".cache") / "ndzarr"
