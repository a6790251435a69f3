"""
Bytes of remote objects, kept on a local disk.

Each object has a directory, named by a digest of its URL and tag, and each range of it a file: the bytes, the size and
tag of the object as text, the length of that text (2 bytes), and the crc32c of everything before.  Processes share a
cache without locks: a file appears by a rename, and one that is missing or damaged is fetched again.  Directories that
were not used for longest are removed once the cache is full.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np

from ndzarr._files import Bytes
from ndzarr._remote.settings import Remote
from ndzarr._remote.stores import ObjectInfo, Range

FOLDER = "remote"
"""Directory of the ranges in a cache."""
_LATEST = "latest"
"""The version by which the tag of an object is kept."""
_TAIL = struct.Struct("<HI")
_RESIDUE = 0x48674BC7
"""The crc32c of any bytes followed by their own crc32c."""
_SHARE = 32
"""The cache is looked through once a process has added this part of its budget."""
_MOST_HELD = 1 << 18
"""Files that are remembered to be there, at most."""
_READING = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_KEPT = 0.9
"""Part of its budget that a full cache is reduced to."""


class CachedObject(NamedTuple):
    """The ranges of an object that are kept."""

    folder: Path
    nbytes: int
    used: float
    """When it was last written to or opened, in seconds since 1970."""


class DiskCache:
    """The ranges below one directory."""

    def __init__(self, folder: str, max_bytes: int) -> None:
        self.folder = Path(folder, FOLDER)
        self._root = str(self.folder)
        self.max_bytes = max_bytes
        self._added = self.max_bytes  # the first range looks the cache through
        self._used: set[str] = set()
        self._held: set[str] = set()
        """Files that were there when they were last looked for."""
        self._lock = threading.Lock()

    def _file(self, r: Range) -> str:
        return f"{self._root}/{_digest(r.store.name, r.path, r.tag, r.version)}/{r.start}:{r.stop}"

    def holds(self, r: Range) -> bool:
        """Return True if a range is kept, or was when this process last looked."""
        path = self._file(r)
        if path in self._held:
            return True
        if found := os.path.exists(path):
            if len(self._held) >= _MOST_HELD:
                self._held.clear()
            self._held.add(path)
        return found

    def get(self, r: Range) -> tuple[Bytes, ObjectInfo] | None:
        """Return a range, and what was known of its object; None if it is not kept, or damaged."""
        path = self._file(r)
        try:
            fd = os.open(path, _READING)  # two thirds of the time that a file of Python takes
            try:
                found = os.read(fd, os.fstat(fd).st_size)
            finally:
                os.close(fd)
        except OSError:
            self._held.discard(path)
            return None
        end = len(found) - _TAIL.size
        if end < 0 or google_crc32c.value(found) != _RESIDUE:
            self._held.discard(path)
            with suppress(OSError):
                os.unlink(path)
            return None
        self._note(path[: path.rindex("/")])
        length, _ = _TAIL.unpack_from(found, end)
        size, _, tag = found[end - length : end].decode().partition(" ")
        return np.frombuffer(found, np.uint8)[: end - length], ObjectInfo(r.path, int(size), tag or None)

    def put(self, r: Range, data: Bytes, info: ObjectInfo) -> None:
        """Keep a range, if the disk has room for it."""
        if data.size > self.max_bytes // 4:
            return
        path = self._file(r)
        folder = os.path.dirname(path)
        work = f"{folder}/.{os.getpid()}-{threading.get_ident()}"
        text = f"{info.size} {info.tag or ''}".encode()
        body = b"".join((data.data, text, len(text).to_bytes(2, "little")))
        try:
            os.makedirs(folder, exist_ok=True)
            with open(work, "wb", buffering=0) as file:
                file.write(body + google_crc32c.value(body).to_bytes(4, "little"))
            os.replace(work, path)
        except OSError:  # a full disk, or a directory that another process removed: the range is fetched again
            with suppress(OSError):
                os.unlink(work)
            return
        with self._lock:
            self._added += len(body)
            full, self._added = self._added >= self.max_bytes // _SHARE, self._added % max(1, self.max_bytes // _SHARE)
        if full:
            self.prune(self.max_bytes)

    def latest(self, r: Range) -> str | None:
        """Return the tag of the version of an object that was kept last, if it is still kept."""
        found = self.get(r._replace(tag=None, version=_LATEST))
        tag = None if found is None else found[1].tag
        return tag if tag is not None and self.holds(r._replace(tag=tag)) else None

    def put_latest(self, r: Range, data: Bytes, info: ObjectInfo) -> None:
        """Keep an object by its tag, and which tag that is."""
        self.put(r._replace(tag=info.tag), data, info)
        self.put(r._replace(tag=None, version=_LATEST), data[:0], info)

    def drop(self, r: Range) -> None:
        """Remove what is kept of an object in the version that a range names."""
        shutil.rmtree(os.path.dirname(self._file(r)), ignore_errors=True)

    def _note(self, folder: str) -> None:
        """Remember that an object was used, once per process."""
        if folder not in self._used:
            self._used.add(folder)
            with suppress(OSError):
                os.utime(folder)

    def objects(self) -> Iterator[CachedObject]:
        """Yield the objects of which ranges are kept."""
        with suppress(OSError):
            for entry in os.scandir(self.folder):
                size = 0
                with suppress(OSError):
                    for file in os.scandir(entry.path):
                        with suppress(OSError):
                            size += file.stat().st_size
                    yield CachedObject(Path(entry.path), size, entry.stat().st_mtime)

    def prune(self, most: int, dry_run: bool = False) -> list[CachedObject]:
        """Remove the objects used longest ago until no more than so many bytes are kept; return them."""
        found = sorted(self.objects(), key=lambda held: held.used)
        total = sum(held.nbytes for held in found)
        removed = []
        if total > most:
            for held in found:
                if total <= _KEPT * most:
                    break
                if not dry_run:
                    shutil.rmtree(held.folder, ignore_errors=True)
                total -= held.nbytes
                removed.append(held)
        return removed


@lru_cache(maxsize=4096)
def _digest(store: str, path: str, tag: str | None, version: str | None) -> str:
    """Return the name of the directory of an object in one version."""
    text = f"{store}/{path}\n{tag or f'version {version}'}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def disk_cache(settings: Remote) -> DiskCache | None:
    """Return the cache that settings name; None if they name none."""
    return None if settings.cache_dir is None else cache_at(str(settings.cache_dir), settings.cache_bytes)


@lru_cache(maxsize=64)
def cache_at(folder: str, max_bytes: int) -> DiskCache:
    """Return the cache in a directory."""
    return DiskCache(folder, max_bytes)
