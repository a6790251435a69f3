"""The inventory of a cache, a directory or a place in a bucket: its stores, their state, and which of them may go.

Each store records the file that it was made from, with its size and time of modification.  Comparing that with the file
tells whether the store will be read again.  Only stores that a library made, with the key in their name and in their
metadata, are looked at; others in the same directory are left alone.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ndzarr._concurrency import ordered_map
from ndzarr._files import LOCK, PARTIAL, Slot, discard, lock_of, read_bytes, trying
from ndzarr._library.keys import is_damaged, is_unchanged, source_record
from ndzarr._remote.stores import RequestError
from ndzarr._store.buckets import CLAIM, ROOT, OccupiedError, Place, is_being_written
from ndzarr._store.destinations import Dest, discard_at
from ndzarr._store.metadata import parse_json
from ndzarr.errors import MissingError, StoreError

STORE = re.compile(r".*-([0-9a-f]{16})\.zarr")
"""Names of a library's stores; the group is the key."""

BANDS = re.compile(r"\..*\.zarr\.bands_[0-9a-f]+\.partial")
"""Names of directories in which workers write the bands of a huge image."""

State = Literal["current", "stale", "orphaned", "damaged", "partial", "making", "unreadable"]
"""
Whether a store will be read again.

'current': it will.  'making': a process is making it.  'unreadable': this user may not read the store, or not look at
its source, so that it stays.  The others may go: 'stale', the source was changed since;
'orphaned', the source is gone; 'damaged', the metadata cannot be read, or a shard is missing, cut or zeroed; 'partial',
the process that made it was killed.
"""

USEFUL = ("current", "making", "unreadable")
"""States in which a store stays."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A store in a cache directory."""

    store: Dest
    """The store, or the hidden directory of an unfinished one."""
    source: str | None
    """The file that it was made from; None if unknown."""
    state: State
    nbytes: int
    """Size of all files, or objects."""

    @property
    def useless(self) -> bool:
        """True if the store will not be read again."""
        return self.state not in USEFUL


_TOGETHER = 16
"""Stores in a bucket that are looked at at a time: each waits for requests."""


def entries(root: Dest) -> Iterator[Entry]:
    """Yield all stores of a library, by name."""
    if isinstance(root, Path):
        yield from _local_entries(root)
    else:
        places = sorted(_places(root).items())
        for entry in ordered_map(lambda found: _entry(root.below(found[0]), found[1]), places, _TOGETHER):
            yield from () if entry is None else (entry,)


def _places(root: Place) -> dict[str, dict[str, int]]:
    """Return what may be stores below a place by name, each with the sizes of its objects."""
    out: dict[str, dict[str, int]] = defaultdict(dict)
    for name, size in root.present().items():
        store, _, path = name.partition("/")
        if STORE.fullmatch(store):
            out[store][path] = size
    return out


def _entry(place: Place, objects: Mapping[str, int]) -> Entry | None:
    """Return a place with objects in a bucket; None if it is not a store of the library."""
    size = sum(objects.values())
    if ROOT not in objects:
        state: State = "damaged" if CLAIM not in objects else "making" if is_being_written(place) else "partial"
        return Entry(place, None, state, size)
    try:
        raw = bytes(place.store.get(place.key(ROOT))[0])
    except RequestError:
        return Entry(place, None, "unreadable", size)
    except MissingError:  # removed, or being overwritten, since it was listed
        return None
    judged = _judged(place, raw, objects)
    return None if judged is None else Entry(place, judged[1], judged[0], size)


def _local_entries(root: Path) -> Iterator[Entry]:
    for path in _paths(root):
        free = True
        if path.suffix == PARTIAL:
            with trying(_lock(path)) as free:
                pass
        judged = _judge(path, free)
        if judged is not None:
            state, source = judged
            yield Entry(path, source, state, size_on_disk(path))


def prune(root: Dest, dry_run: bool = False) -> list[Entry]:
    """Remove useless stores, and the locks of dead processes; see `Library.prune`."""
    useless = [entry for entry in entries(root) if entry.useless]
    if dry_run:
        return useless
    if isinstance(root, Path):
        removed = [entry for entry in useless if isinstance(entry.store, Path) and _remove(entry.store)]
        _remove_locks(root)
        return removed
    return [entry for entry, gone in zip(useless, ordered_map(_discard, useless, _TOGETHER), strict=True) if gone]


def _discard(entry: Entry) -> bool:
    try:
        discard_at(entry.store)
    except OccupiedError:  # somebody has begun to make it again
        return False
    return True


def remove_partial(root: Dest) -> None:
    """
    Remove what killed processes left: locks and unfinished stores, but not bands, which are gone on from.

    In a bucket whoever makes the same store goes on from there.
    """
    if not isinstance(root, Path):
        return
    for path in _paths(root):
        if path.suffix == PARTIAL and not BANDS.fullmatch(path.name):
            _remove(path)
    _remove_locks(root)


def _paths(root: Path) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(root))
    except FileNotFoundError:
        return []


def _lock(path: Path) -> Path:
    """Return the lock of a store, or of the slot that an unfinished one has."""
    if BANDS.fullmatch(path.name):
        return path.with_name(f"{path.name}.lock")
    slot = Slot.of(path)
    return lock_of(path) if slot is None else slot.lock


def _judge(path: Path, free: bool) -> tuple[State, str | None] | None:
    """Return (state, source) of a path in a cache directory; None if it is not a store of the library."""
    if Slot.of(path) is not None or BANDS.fullmatch(path.name):
        return ("partial" if free else "making"), None
    if STORE.fullmatch(path.name) is None or not path.is_dir():
        return None
    try:
        raw = read_bytes(path / ROOT)
    except PermissionError:
        return "unreadable", None
    except (OSError, StoreError):
        return "damaged", None
    return _judged(path, raw)


def _judged(store: Dest, raw: bytes, objects: Mapping[str, int] | None = None) -> tuple[State, str | None] | None:
    """Return (state, source) of a complete store by its metadata; None if it is not a store of the library."""
    try:
        root = parse_json(raw, store.name)
    except StoreError:
        return "damaged", None
    key = STORE.fullmatch(store.name)
    record = source_record(root.get("attributes") if isinstance(root, dict) else None)
    if record is None:
        return "damaged", None
    if key is None or record.get("key") != key[1]:
        return None
    state = _state(record)
    if state == "current" and is_damaged(store, objects):
        state = "damaged"
    return state, str(record.get("path"))


def _state(record: Mapping[str, Any]) -> State:
    source = record.get("path")
    if not isinstance(source, str):
        return "damaged"
    try:
        return "current" if is_unchanged(record) else "stale"
    except (FileNotFoundError, NotADirectoryError):
        return "orphaned"
    except ValueError:  # a NUL in it
        return "damaged"
    except OSError:
        return "unreadable"


def _remove(path: Path) -> bool:
    """Remove a store if it is useless and its lock is free."""
    with trying(_lock(path)) as free:
        judged = _judge(path, free)
        if not free or judged is None or judged[0] in USEFUL:
            return False
        if (slot := Slot.of(path)) is not None:
            slot.clear()
        else:
            try:
                discard(path)
            except PermissionError:  # only its owner may
                return False
    return not os.path.lexists(path)


def _remove_locks(root: Path) -> None:
    for path in _paths(root):
        if LOCK.fullmatch(path.name):
            with trying(path):
                pass  # releasing the lock removes it


def size_on_disk(path: str | os.PathLike[str]) -> int:
    """Return the bytes of a file, or of all below a directory; files that vanish meanwhile count as nothing."""
    total = os.path.getsize(path) if os.path.isfile(path) else 0
    for folder, _, files in os.walk(path):
        for name in files:
            with suppress(FileNotFoundError, PermissionError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
