"""
Files: published atomically, locked, read by ranges, and recognised when they change.

A store or a file is written under a hidden name beside its destination, then renamed: a rename within one file system
is atomic. What a killed process leaves behind is a hidden `.NAME.*.partial`, which nothing reads and
`ndzarr cache prune` removes.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ndzarr.errors import DamagedError, ExistsError, MissingError, NdzarrError, OptionError, StoreError, WriteError

if TYPE_CHECKING:
    from filelock import BaseFileLock

Bytes: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"

PARTIAL = ".partial"
"""Suffix of what is not published yet."""

_STORE_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""A directory that holds one of these is a Zarr store."""


@contextmanager
def publishing(dest: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a directory to fill; it becomes `dest` when the block ends without an error, and vanishes otherwise."""
    refuse_existing(dest, overwrite)
    with _explained_parent(dest):
        work = partial_path(dest)
        try:
            work.mkdir()
            yield work
            publish(work, dest, overwrite)
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def publishing_file(dest: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path to write a file to; it becomes `dest` when the block ends without an error."""
    refuse_existing_file(dest, overwrite)
    with _explained_parent(dest), replacing(dest) as work:
        yield work
        refuse_existing_file(dest, overwrite)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Yield a path to write a file to; it replaces `path` when the block ends without an error, else it is removed.

    For files of ndzarr's own, such as those of a cache; what a user named goes through `publishing_file`.
    """
    work = partial_path(path)
    try:
        yield work
        os.replace(work, path)
    finally:
        work.unlink(missing_ok=True)


def publish(work: Path, dest: Path, overwrite: bool = False) -> None:
    """Rename a complete store to `dest`.  Readers that have an earlier store open keep what they mapped of it."""
    refuse_existing(dest, overwrite)
    with explained(dest):
        if not os.path.lexists(dest):
            os.rename(work, dest)
            return
        old = partial_path(dest)
        os.rename(dest, old)
        try:
            os.rename(work, dest)
        except BaseException:
            os.rename(old, dest)
            raise
        discard(old)


def discard(path: Path) -> None:
    """Remove a store or a link to one, at once as far as readers can tell."""
    if path.suffix != PARTIAL:
        hidden = partial_path(path)
        os.rename(path, hidden)
        path = hidden
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def partial_path(dest: Path) -> Path:
    """Return a new hidden name beside `dest` for what is not, or no longer, published."""
    return dest.parent / f".{dest.name}.{secrets.token_hex(6)}{PARTIAL}"


def local_path(dest: str | os.PathLike[str]) -> Path:
    """Return a destination as an absolute path; raise `OptionError` for a URL."""
    if "://" in os.fspath(dest):
        name = os.fspath(dest)
        raise OptionError(f"{name}: is written to local disks only", path=name, hint="Write it there, then copy it")
    return Path(os.path.abspath(dest))


def refuse_existing(dest: Path, overwrite: bool) -> None:
    """Raise `ExistsError` if `dest` exists and must not be replaced by a store."""
    if not overwrite:
        _refuse(dest)
    elif os.path.lexists(dest) and not is_store(dest) and not (dest.is_dir() and not any(dest.iterdir())):
        message = f"{dest}: exists and is not a Zarr store, so it is not overwritten"
        raise ExistsError(message, path=str(dest), hint="Remove it, or choose another destination")


def refuse_existing_file(dest: Path, overwrite: bool) -> None:
    """Raise `ExistsError` if `dest` exists and must not be replaced by a file."""
    if not overwrite:
        _refuse(dest)
    elif dest.is_dir():
        message = f"{dest}: is a directory, so it is not overwritten"
        raise ExistsError(message, path=str(dest), hint="Choose another destination")


def _refuse(dest: Path) -> None:
    if os.path.lexists(dest):
        hint = "Choose another destination, or overwrite it (overwrite=True, --overwrite)"
        raise ExistsError(f"{dest}: exists already", path=str(dest), hint=hint)


def is_store(path: str | os.PathLike[str]) -> bool:
    """Return True for a directory with the metadata of a Zarr store, of format 2 or 3."""
    return any(os.path.exists(os.path.join(path, name)) for name in _STORE_FILES)


@contextmanager
def _explained_parent(dest: Path) -> Iterator[None]:
    if not dest.parent.is_dir():
        raise MissingError(f"{dest}: the directory {dest.parent} does not exist", path=str(dest), hint="Make it first")
    with explained(dest):
        yield


@contextmanager
def explained(dest: Path, kept: str = "nothing was kept") -> Iterator[None]:
    """Raise the errors of a file system as errors that say what to do, and what was kept if the disk is full."""
    try:
        yield
    except OSError as error:
        cause = _CAUSES.get(error.errno or 0)
        if cause is None:
            raise
        kind, found, hint = cause
        message = f"{dest}: {found.format(kept=kept, error=error.strerror)}"
        raise kind(message, path=str(dest), hint=hint.format(parent=dest.parent)) from error


_FULL = WriteError, "the disk is full; {kept}", "Free some space or choose another disk"
_FORBIDDEN = WriteError, "may not be written ({error})", "Check the permissions of {parent}"
_TAKEN = ExistsError, "another process made it meanwhile", "Use that one, or overwrite it"
_CAUSES: Mapping[int, tuple[type[NdzarrError], str, str]] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: _FORBIDDEN,
    errno.ENOMEM: (
        WriteError,
        "there is not enough memory; {kept}",
        "Raise the limit (ulimit -v) or use less at a time",
    ),
    errno.ENOTEMPTY: _TAKEN,
    errno.EEXIST: _TAKEN,
    errno.EFBIG: (WriteError, "the file system, or `ulimit -f`, allows no file of this size", "Choose another disk"),
    errno.EMFILE: (WriteError, "too many open files", "Raise the limit (ulimit -n) or use larger shards"),
}
"""Error numbers to the error to raise, what was found and what to do."""


LOCK = re.compile(r"\.(.+\.zarr)\.lock")
"""Names of locks."""

_PATIENCE = 1.0
"""Seconds between looks at whether waiting still makes sense."""


def lock_of(store: Path) -> Path:
    """Return the path of a store's lock."""
    return store.with_name(f".{store.name}.lock")


@contextmanager
def holding(path: Path, check: Callable[[], None] | None = None) -> Iterator[None]:
    """Wait for a lock and hold it; while waiting, call `check` now and then, which ends it by raising."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    while not lock.is_locked:
        with explained(path), suppress(Timeout):
            lock.acquire(timeout=-1 if check is None else _PATIENCE)
        if check is not None and not lock.is_locked:
            check()
    try:
        yield
    finally:
        _drop(lock, path)


@contextmanager
def trying(path: Path) -> Iterator[bool]:
    """Hold a lock if nobody else does; yield False if somebody does, or if the directory cannot be written."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, PermissionError, FileNotFoundError):
        pass
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    try:
        yield lock.is_locked
    finally:
        if lock.is_locked:
            _drop(lock, path)


def _drop(lock: BaseFileLock, path: Path) -> None:
    with suppress(FileNotFoundError, PermissionError):  # Windows removes it on release
        path.unlink()
    lock.release()


MOST_FILES = 256
"""Files that stay open, at most; opening one again takes 20 us."""
_KEPT_BUFFER = 16 << 20
"""Bytes of a thread's buffer that is kept between reads, at most."""
_LOCAL = threading.local()


class FileId(NamedTuple):
    """
    A file as it was when it was opened; any number of threads and processes read ranges of it without a lock.

    Each read checks that the file is still the same one.
    """

    path: str
    """Absolute."""
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str) -> FileId:
        """Return the file as it is now; raise `MissingError` if it does not exist."""
        try:
            now = os.stat(path)
        except OSError as error:
            message = f"{path}: the file is gone, or cannot be looked at ({error.strerror})"
            raise MissingError(message, path=path) from error
        return cls(path, now.st_ino, now.st_size, now.st_mtime_ns)

    def check(self) -> None:
        """Raise `StoreError` if the path leads to another file by now."""
        try:
            self.compare(os.stat(self.path))
        except OSError as error:
            message = f"{self.path}: the file is gone ({error.strerror})"
            raise StoreError(message, path=self.path, hint="Open it again when it is back") from error

    def compare(self, now: os.stat_result) -> None:
        """Raise `StoreError` if this is another file."""
        if now.st_mtime_ns != self.mtime_ns or now.st_size != self.size or now.st_ino != self.inode:
            message = f"{self.path}: the file was changed since it was opened"
            raise StoreError(message, path=self.path, hint="Open it again")

    def read(self, offset: int, count: int) -> Bytes:
        """Return bytes of the file, in a buffer of this thread that the next read overwrites."""
        out = buffer("read", count)
        self.read_into(offset, out)
        return out

    def read_into(self, offset: int, out: Bytes) -> None:
        """Fill a contiguous array of uint8; raises as `read`."""
        try:
            held = DESCRIPTORS[self]  # a name of its own: what another thread drops must not be closed yet
            found = held.read(offset, out)
        except OSError as error:
            self.check()
            message = f"{self.path}: the file cannot be read ({error.strerror})"
            raise StoreError(message, path=self.path, hint="Check the disk") from error
        self.check()
        if found != out.size:
            raise DamagedError(f"the file ends within bytes {offset} to {offset + out.size}", path=self.path)

    def close(self) -> None:
        """Close the file as soon as nobody reads from it; the next read opens it again."""
        DESCRIPTORS.pop(self, None)


def buffer(name: str, count: int) -> Bytes:
    """Return bytes that belong to this thread until it asks for those of the same name again."""
    if count > _KEPT_BUFFER:
        return np.empty(count, np.uint8)
    held: Bytes | None = getattr(_LOCAL, name, None)
    if held is None or held.size < count:
        held = np.empty(max(count, 1 << 18), np.uint8)
        setattr(_LOCAL, name, held)
    return held[:count]


class _Descriptor:
    """An open file, closed when nobody reads from it any more."""

    __slots__ = ("fd", "lock")

    def __init__(self, file: FileId) -> None:
        self.lock = threading.Lock()
        self.fd = os.open(file.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
        file.compare(os.fstat(self.fd))

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # `os` is gone when the interpreter ends
        if hasattr(self, "fd"):
            close(self.fd)

    def read(self, offset: int, out: Bytes) -> int:
        """Return the number of bytes read: fewer than asked for only at the end of the file."""
        if not hasattr(os, "preadv"):
            return self._read_locked(offset, out)
        done = os.preadv(self.fd, [out.data], offset)
        while 0 < done < out.size:
            more = os.preadv(self.fd, [out[done:].data], offset + done)
            if not more:
                break
            done += more
        return done

    def _read_locked(self, offset: int, out: Bytes) -> int:
        with self.lock:  # Windows: the descriptor has one position for all threads
            os.lseek(self.fd, offset, os.SEEK_SET)
            data = bytearray()
            while len(data) < out.size and (more := os.read(self.fd, out.size - len(data))):
                data += more
        out[: len(data)] = np.frombuffer(data, np.uint8)
        return len(data)


class _Descriptors(dict[FileId, _Descriptor]):
    """Open files, the oldest dropped first; `descriptors[file]` opens one that is not held."""

    def __missing__(self, file: FileId) -> _Descriptor:
        opened = _Descriptor(file)
        while len(self) >= MOST_FILES:
            try:
                del self[next(iter(self))]
            except (StopIteration, KeyError, RuntimeError):  # another thread was faster
                break
        self[file] = opened
        return opened


DESCRIPTORS = _Descriptors()
"""The files that this process has open for reading ranges."""


def cache_root() -> Path:
    """Return `$NDZARR_CACHE`, else the user's cache directory for ndzarr: ~/.cache/ndzarr on Linux."""
    if own := os.environ.get("NDZARR_CACHE"):
        return Path(own).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("ndzarr")


_TICK = 0.02
"""Seconds; file systems note times of modification a little more often than this."""


def signature(path: str) -> tuple[int, ...]:
    """Return what changes when a file, or the metadata of a store, is replaced or written to; () for a URL."""
    if "://" in path:
        return ()
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        with suppress(FileNotFoundError):
            found = os.stat(os.path.join(path, "zarr.json"))
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


MASK_SUFFIX = ".msk"
"""What the name of GDAL's mask beside a file adds to its name."""


def settle(mtime_ns: int) -> None:
    """Wait until another change of the file would show in its time of modification."""
    age = time.time() - mtime_ns / 1e9
    if 0 <= age < _TICK:
        time.sleep(_TICK - age)
