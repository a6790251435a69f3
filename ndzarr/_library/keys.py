"""Cache keys: the store that belongs to a source, its name and its identity.

A *key* is a digest of everything that the pixels of a store depend on.  It is part of the store's name,
`STEM-KEY.zarr`, and of its metadata, so that a store is known by both.  The first process to take the lock of a key, or
to claim its place in a bucket, makes the store; the others wait for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ndzarr._files import Batch, FileId, explained, open_binary
from ndzarr._pyramid.levels import Multiscale
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.zarr_store import open_dest
from ndzarr._remote.files import RemoteFile
from ndzarr._remote.stores import RequestError
from ndzarr._remote.urls import is_url, names_file
from ndzarr._store.archive import archive_of
from ndzarr._store.arrays import ChunkArray
from ndzarr._store.buckets import OccupiedError
from ndzarr._store.destinations import Dest, child, discard_at, is_left, is_there, locking, shown_name
from ndzarr._store.metadata import SCHEMA
from ndzarr._store.remote import RemoteArray
from ndzarr._validation import is_path
from ndzarr.errors import (
    DamagedError,
    DamagedStoreWarning,
    MissingError,
    SourceError,
    StoreError,
    WriteError,
    warn_caller,
)

_NAN = float("nan")
"""Stands for every NaN: tuples that hold the same object are equal."""


class SourceRequest(NamedTuple):
    """A source, and how it is to be read; see `ndzarr.transcode`."""

    path: str
    orient: bool | tuple[int, int] = True
    axes: str | None = None
    channels: tuple[str, ...] | None = None
    nodata: float | tuple[float | None, ...] | None = None
    palette: str | None = None
    series: str | int | None = None
    kind: str | None = None
    """'intensity' or 'labels', if that is not the library's."""


def as_source_request(
    source: str | os.PathLike[str],
    orient: bool | tuple[int, int] = True,
    axes: str | None = None,
    channels: Sequence[str] | None = None,
    nodata: float | Sequence[float | None] | None = None,
    palette: str | None = None,
    series: str | int | None = None,
    kind: str | None = None,
) -> SourceRequest:
    """Return the normal form of a request, so that equal ones compare equal."""
    path = os.fsdecode(source)
    if not is_path(path):
        raise SourceError(f"{path!r} is not a path", path=path, hint="Pass the name of a file")
    if path[:1] == "~":
        path = os.path.expanduser(path)
    own = tuple(map(_hashed, nodata)) if isinstance(nodata, Sequence) else _hashed(nodata)
    return SourceRequest(path, orient, axes, None if channels is None else tuple(channels), own, palette, series, kind)


def _hashed(value: float | None) -> float | None:
    return _NAN if value is not None and value != value else value


def is_opened_in_place(path: str) -> bool:
    """Return True for what is never transcoded: directories, what is in zips, and URLs that can only name a store."""
    return not names_file(path) if is_url(path) else os.path.isdir(path) or archive_of(path) is not None


def source_record(attrs: object) -> Mapping[str, Any] | None:
    """Return what the attributes of a store record of its source; None if they record nothing."""
    found = attrs
    for name in ("ndzarr", "source"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


Write = Callable[[bool], None]
"""Writes the store of an entry; replaces the one that is there if the argument is true."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """The store of a source, made or still to be made."""

    store: Dest
    origin: dict[str, Any]
    """What a new store records of its source: path, size, mtime_ns, inode, key, and digest if that is its identity."""

    def find(self) -> Pyramid | None:
        """Return the pyramid, if it is there, its metadata undamaged, and of this source."""
        try:
            pyramid = open_dest(self.store, _refuse_changed)
        except RequestError:  # which says nothing about the store
            raise
        except (MissingError, StoreError) as error:
            if isinstance(error.__cause__, PermissionError):  # another user's, which is not damaged
                raise
            return None
        record = source_record(pyramid.attrs) or {}
        return pyramid if all(record.get(name) == self.origin[name] for name in identified_by(self.origin)) else None

    def sound(self) -> Pyramid | None:
        """Return what `find` does, if no shard is missing, cut or zeroed."""
        pyramid = self.find()
        return None if pyramid is None or _lacks_shards(pyramid, self.store) else pyramid

    def make(self, write: Write) -> Pyramid:
        """Return the pyramid, made by `write` unless another process makes it first.  A damaged one is replaced."""
        with self.lock():
            return self.make_locked(write)

    def lock(self) -> AbstractContextManager[None]:
        """Return a context in which no other thread or process makes the store."""
        return locking(self.store)

    def make_locked(self, write: Write, damaged: object = None) -> Pyramid:
        """
        Make the store within `lock`, as `make` does.

        `damaged` is the `version_of` one that was found to be damaged by reading it.
        """
        return self._make(write, damaged) or open_dest(self.store)

    def make_with(self, batch: Batch, write: Write, check: Callable[[], None]) -> None:
        """
        Make the store, to be published with a batch, unless another process makes it first.

        `check` is called now and then while another process makes it; it ends the waiting by raising.
        """

        def waiting() -> None:
            batch.publish()
            check()

        with ExitStack() as held:
            held.enter_context(locking(self.store, waiting))
            if self._make(write, check=waiting) is None:
                batch.hold(held.pop_all())  # others wait until it is there
        batch.publish_if_due()

    def _make(self, write: Write, damaged: object = None, check: Callable[[], None] | None = None) -> Pyramid | None:
        while True:
            pyramid = self.sound()
            if pyramid is not None and version_of(pyramid) != damaged:
                return pyramid
            left = is_left(self.store)
            if left:
                message = f"{shown_name(self.store)}: this cached store is damaged, so it is made again"
                warn_caller(message, DamagedStoreWarning)
            try:
                write(left and self.make_way())
                return None
            except OccupiedError:  # another process has claimed its place in the bucket, and makes it
                if check is not None:
                    check()

    def make_way(self) -> bool:
        """
        Remove what is not a store; return True if a store is left, which the new one is to replace.

        They are swapped: others who read the old one never find the place empty.  In a bucket, they do.
        """
        if is_there(self.store):
            return True
        if is_left(self.store):
            discard_at(self.store)
        return False


def _refuse_changed(file: str) -> None:
    raise DamagedError(f"{file}: the metadata are not those that were written with the pixels", path=file)


def stored_arrays(pyramid: Multiscale) -> list[ChunkArray | RemoteArray]:
    """Return the arrays of a store that ndzarr wrote: levels and masks."""
    arrays = [array for level in pyramid.levels for array in (level.array, level.mask)]
    return [array for array in arrays if isinstance(array, ChunkArray | RemoteArray)]


def version_of(pyramid: Multiscale) -> object:
    """Return what changes when a store is replaced."""
    return [array.version for array in stored_arrays(pyramid)]


def is_damaged(store: Dest, objects: Collection[str] | None = None) -> bool:
    """
    Return True if a store's metadata are damaged, or a shard is missing, cut or zeroed.

    `objects` are those below a place in a bucket, if they are known.
    """
    try:
        return _lacks_shards(open_dest(store, _refuse_changed), store, objects)
    except (PermissionError, RequestError):  # another user's
        return False
    except (MissingError, StoreError):
        return True


def _lacks_shards(pyramid: Multiscale, store: Dest, objects: Collection[str] | None = None) -> bool:
    """
    Return True if a shard is missing, cut or zeroed.  The bytes of chunks are not looked at.

    Listing the objects of a bucket is enough: each is whole.
    """
    there = set() if isinstance(store, Path) else {store.key(name) for name in objects or store.present()}
    try:
        for array in stored_arrays(pyramid):
            if isinstance(array, ChunkArray):
                array.check_shards()
            else:
                array.check_shards(there)
    except DamagedError:
        return True
    return False


IDENTITIES = ("stat", "content")
"""What tells that a file is still the same: its size, time of modification and inode, or a digest of its content."""


def cache_entry(root: Dest, file: FileId | RemoteFile, *inputs: Any, identity: str = "stat") -> CacheEntry:
    """
    Return the cache entry, below `root`, of a source, whose path is absolute with links resolved.

    `inputs` are JSON values, everything else that the pixels of the store depend on; they are hashed into the key.
    """
    origin: dict[str, Any] = {"path": file.path, "size": file.size, "mtime_ns": file.mtime_ns, "inode": file.inode}
    if identity == "content":
        origin["digest"] = digest_of(file.path)
    known = {name: origin[name] for name in identified_by(origin)}
    key = hashlib.sha256(json.dumps([SCHEMA, known, *inputs], sort_keys=True).encode()).hexdigest()[:16]
    stem = re.sub(r"[^\w.-]", "_", Path(file.path).stem, flags=re.ASCII)[:64]
    return CacheEntry(child(root, f"{stem}-{key}.zarr"), {**origin, "key": key})


def identified_by(origin: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of what identifies a source in what a store records of it."""
    names = ("path", "size", "digest") if "digest" in origin else ("path", "size", "mtime_ns", "inode")
    return (*names, "key") if "key" in origin else names


def digest_of(path: str) -> str:
    """Return a digest of the content of a file."""
    with open_binary(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_unchanged(origin: Mapping[str, Any]) -> bool:
    """
    Return True if a file is the one that a store records; raises `OSError` if it cannot be looked at.

    A server is not asked: what a URL names counts as unchanged.
    """
    if is_url(origin["path"]):
        return True
    now = os.stat(origin["path"])
    if now.st_size != origin.get("size"):
        return False
    if (now.st_mtime_ns, now.st_ino) == (origin.get("mtime_ns"), origin.get("inode", now.st_ino)):
        return True
    return "digest" in origin and digest_of(origin["path"]) == origin["digest"]


def make_root(root: Dest) -> None:
    """Make the directory of stores; a bucket needs none."""
    if not isinstance(root, Path):
        return
    try:
        with explained(root):
            root.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        message = f"{root}: the path, or a part of it, is a file"
        raise WriteError(message, path=str(root), hint="Choose another workdir") from error
