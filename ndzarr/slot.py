"""What is the store of a source called, and what must it say of its source?

A *key* is a digest of all that the pixels of a store depend on.  It is in the store's name, `STEM-KEY.zarr`, and in its
metadata, so that a store is known by both.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndzarr.errors import WriteError
from ndzarr.pyramid.metadata import SCHEMA
from ndzarr.pyramid.publish import explained


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a store is, or will be."""

    store: Path
    origin: dict[str, Any]
    """What the store must say of its source: path, size, mtime_ns and key."""


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
