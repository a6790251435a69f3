"""The inventory of a cache directory: its stores, their state, and which of them may go.

Each store records the file that it was made from, with its size and time of modification.  Comparing that with the file
tells whether the store will be read again.  Only stores that a library made, with the key in their name and in their
metadata, are looked at; others in the same directory are left alone.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ndzarr._files import LOCK, PARTIAL, discard, lock_of, trying
from ndzarr._library.keys import source_record
from ndzarr._store.metadata import parse_json
from ndzarr.errors import StoreError

ABANDONED = 24 * 3600.0
"""Seconds without a write after which an unfinished store of `transcode`, which takes no lock, counts as abandoned."""

STORE = re.compile(r".*-([0-9a-f]{16})\.zarr")
"""Names of a library's stores; the group is the key."""

_PARTIAL = re.compile(rf"\.(.+)\.[0-9a-z_]+{re.escape(PARTIAL)}")

State = Literal["current", "stale", "orphaned", "damaged", "partial", "making"]
"""
Whether a store will be read again.

'current': it will.  'making': a process is making it.  The others may go: 'stale', the source was changed since;
'orphaned', the source is gone; 'damaged', the metadata cannot be read; 'partial', the process that made it was killed.
"""

USEFUL = ("current", "making")
"""States in which a store stays."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A store in a cache directory."""

    store: Path
    """The store, or the hidden directory of an unfinished one."""
    source: str | None
    """The file that it was made from; None if unknown."""
    state: State
    nbytes: int
    """Size on disk."""

    @property
    def useless(self) -> bool:
        """True if the store will not be read again."""
        return self.state not in USEFUL


def entries(root: Path) -> Iterator[Entry]:
    """Yield all stores of a library, by name."""
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
    """Remove useless stores, and the locks of dead processes; see `Library.prune`."""
    useless = [entry for entry in entries(root) if entry.useless]
    if dry_run:
        return useless
    removed = [entry for entry in useless if _remove(entry.store)]
    _remove_locks(root)
    return removed


def remove_partial(root: Path) -> None:
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
    """Return the lock of a store, finished or not."""
    found = _PARTIAL.fullmatch(path.name)
    return lock_of(path.parent / found[1] if found else path)


def _judge(path: Path, free: bool) -> tuple[State, str | None] | None:
    """Return (state, source) of a path in a cache directory; None if it is not a store of the library."""
    if found := _PARTIAL.fullmatch(path.name):
        return ("partial" if free and _is_abandoned(path, found[1]) else "making"), None
    key = STORE.fullmatch(path.name)
    if key is None or not path.is_dir():
        return None
    try:
        root = parse_json((path / "zarr.json").read_bytes(), str(path))
    except (FileNotFoundError, StoreError):
        return "damaged", None
    record = source_record(root.get("attributes") if isinstance(root, dict) else None)
    if record is None:
        return "damaged", None
    if record.get("key") != key[1]:
        return None
    return _state(record), str(record.get("path"))


def _state(record: Mapping[str, Any]) -> State:
    source = record.get("path")
    if not isinstance(source, str):
        return "damaged"
    try:
        now = os.stat(source)
    except (FileNotFoundError, NotADirectoryError):
        return "orphaned"
    except ValueError:  # a NUL in it
        return "damaged"
    return "current" if (now.st_size, now.st_mtime_ns) == (record.get("size"), record.get("mtime_ns")) else "stale"


def _is_abandoned(path: Path, name: str) -> bool:
    """Return True if nobody writes to an unfinished store any more; its lock, if its maker takes one, is free."""
    if STORE.fullmatch(name):
        return True
    written = [os.stat(folder).st_mtime for folder, _, _ in os.walk(path)]
    return time.time() - max(written, default=time.time()) > ABANDONED


def _remove(path: Path) -> bool:
    """Remove a store if it is useless and its lock is free."""
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
                pass  # releasing the lock removes it


def size_on_disk(path: str | os.PathLike[str]) -> int:
    """Return the bytes of all files below a directory; files that vanish meanwhile count as nothing."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
