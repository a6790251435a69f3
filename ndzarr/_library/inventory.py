"""What lies in a library's directory, and what of it may go?

Each store says of which file, of which size and time of modification, it was made; comparing that with the file tells
whether it will ever be read again.  Only what carries the mark of a library, the key in its name and in its metadata,
is looked at: other stores in the same directory are nobody's to remove.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ndzarr._files import LOCK, PARTIAL, discard, lock_of, trying
from ndzarr._library.keys import MALFORMED

ABANDONED = 24 * 3600.0
"""Seconds without a write after which an unfinished store of `transcode`, which takes no lock, counts as abandoned."""

STORE = re.compile(r".*-([0-9a-f]{16})\.zarr")
"""Names of a library's stores; the group is the key."""

_PARTIAL = re.compile(rf"\.(.+)\.[0-9a-z_]+{re.escape(PARTIAL)}")

State = Literal["current", "stale", "orphaned", "damaged", "partial", "making"]
"""
Whether a store will be read again.

'current': it will.  'stale': its source was changed since; 'orphaned': its source is gone; 'damaged': its metadata
cannot be read; 'partial': whoever made it was killed.  These may go.  'making': somebody is at it.
"""

USEFUL = ("current", "making")
"""States in which a store stays."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that lies in a library."""

    store: Path
    """The store, or the hidden directory of an unfinished one."""
    source: str | None
    """The file that it was made from; None if that cannot be told."""
    state: State
    nbytes: int
    """Size on disk."""

    @property
    def useless(self) -> bool:
        """True if it will not be read again."""
        return self.state not in USEFUL


def entries(root: Path) -> Iterator[Entry]:
    """Everything in a library, by name."""
    for path in _paths(root):
        free = True
        if _PARTIAL.fullmatch(path.name):
            with trying(_lock(path)) as free:
                pass
        judged = _judge(path, free)
        if judged is not None:
            state, source = judged
            yield Entry(path, source, state, size_on_disk(path))


def prune(root: Path, dry_run: bool = False) -> list[Entry]:
    """Remove what is useless, and the locks of dead processes; see `Library.prune`."""
    found = [entry for entry in entries(root) if entry.useless]
    if dry_run:
        return found
    removed = [entry for entry in found if _remove(entry.store)]
    _remove_locks(root)
    return removed


def sweep(root: Path) -> None:
    """Remove what killed processes left: unfinished stores and locks."""
    for path in _paths(root):
        if path.suffix == PARTIAL:
            _remove(path)
    _remove_locks(root)


def _paths(root: Path) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(root))
    except FileNotFoundError:
        return []


def _lock(path: Path) -> Path:
    """The lock of a store, finished or not."""
    found = _PARTIAL.fullmatch(path.name)
    return lock_of(path.parent / found[1] if found else path)


def _judge(path: Path, free: bool) -> tuple[State, str | None] | None:
    """(state, source) of something in the directory of a library; None if it is not the library's."""
    if found := _PARTIAL.fullmatch(path.name):
        return ("partial" if free and _abandoned(path, found[1]) else "making"), None
    key = STORE.fullmatch(path.name)
    if key is None or not path.is_dir():
        return None
    try:
        source: dict[str, Any] = json.loads((path / "zarr.json").read_bytes())["attributes"]["ndzarr"]["source"]
        if source.get("key") != key[1]:
            return None
        return _state(source), str(source["path"])
    except (FileNotFoundError, *MALFORMED):
        return "damaged", None


def _state(source: dict[str, Any]) -> State:
    try:
        now = os.stat(source["path"])
    except (FileNotFoundError, NotADirectoryError):
        return "orphaned"
    return "current" if (now.st_size, now.st_mtime_ns) == (source["size"], source["mtime_ns"]) else "stale"


def _abandoned(path: Path, name: str) -> bool:
    """True for an unfinished store that nobody holds the lock of, if its maker takes one, or writes to any more."""
    if STORE.fullmatch(name):
        return True
    written = [os.stat(folder).st_mtime for folder, _, _ in os.walk(path)]
    return time.time() - max(written, default=time.time()) > ABANDONED


def _remove(path: Path) -> bool:
    """Remove something if it is useless and nobody is at it."""
    with trying(_lock(path)) as free:
        judged = _judge(path, free)
        if not free or judged is None or judged[0] in USEFUL:
            return False
        discard(path)
    return True


def _remove_locks(root: Path) -> None:
    for path in _paths(root):
        if LOCK.fullmatch(path.name):
            with trying(path):
                pass  # releasing it removes it


def size_on_disk(path: str | os.PathLike[str]) -> int:
    """Bytes of all files below a directory; those that vanish meanwhile count for nothing."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
