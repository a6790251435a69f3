"""
Files: published atomically and durably, locked, read by ranges, and recognised when they change.

A store or a file is written under a hidden name beside its destination, flushed to the disk, then renamed: a rename
within one file system is atomic.  The hidden names are numbered *slots*; a writer holds the lock of its slot as long as
it lives, so that the next writer of the same destination tells what a killed one left, and removes it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ndzarr.errors import DamagedError, ExistsError, MissingError, NdzarrError, OptionError, StoreError, WriteError

if TYPE_CHECKING:
    from filelock import BaseFileLock

Bytes: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"

PARTIAL = ".partial"
"""Suffix of what is not published yet."""

SLOTS = 16
"""Processes and threads that may write one destination at a time."""

_HIDDEN = re.compile(r"\.(.+)\.([0-9a-z]+)(?:_ready|_old)?\.partial")
"""Names of a slot: its destination and its number; earlier versions had random ones."""

ARCHIVE = ".ozx"
"""A file of this name is a store: a zip of its files (OME-NGFF's RFC-9)."""

_STORE_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""A directory that holds one of these is a Zarr store."""


class Slot(NamedTuple):
    """The hidden names beside a destination of one writer, who holds `lock`."""

    dest: Path
    number: str

    @classmethod
    def of(cls, path: Path) -> Slot | None:
        """Return the slot of a hidden name; None if it is not one."""
        found = _HIDDEN.fullmatch(path.name)
        return None if found is None else cls(path.with_name(found[1]), found[2])

    def _path(self, end: str) -> Path:
        return self.dest.with_name(f".{self.dest.name}.{self.number}{end}")

    @property
    def lock(self) -> Path:
        """The lock of the slot."""
        return self._path(".lock")

    @property
    def work(self) -> Path:
        """What is being written, or, once it was swapped with the destination, what was there before."""
        return self._path(PARTIAL)

    @property
    def ready(self) -> Path:
        """A complete store whose destination may be absent: the journal of a swap in two renames."""
        return self._path(f"_ready{PARTIAL}")

    @property
    def old(self) -> Path:
        """What was at the destination, during a swap in two renames."""
        return self._path(f"_old{PARTIAL}")

    def names(self) -> list[Path]:
        """Return the names that exist, without the lock."""
        return [path for path in (self.ready, self.work, self.old) if os.path.lexists(path)]

    def clear(self) -> None:
        """Finish the swap that a killed process began, and remove what it left; the caller holds the lock."""
        if os.path.lexists(self.ready) and not os.path.lexists(self.dest):
            os.rename(self.ready, self.dest)
            flush_one(self.dest.parent)
        for path in self.names():
            _remove(path)


def slots(dest: Path) -> Iterator[Slot]:
    """Yield all slots of a destination: names to look at, so that no large directory is listed."""
    return (Slot(dest, str(number)) for number in range(SLOTS))


@contextmanager
def claiming(dest: Path) -> Iterator[Slot]:
    """Hold a slot of a destination; what killed processes left in any of them is cleared before."""
    make_room()
    with ExitStack() as held:
        mine: Slot | None = None
        for slot in slots(dest):
            if mine is None:
                with ExitStack() as tried:
                    if tried.enter_context(_locking(slot.lock)):
                        slot.clear()
                        if not slot.names():  # else it is another user's, and stays
                            mine = slot
                            held.push(tried.pop_all())
            elif os.path.lexists(slot.lock):  # which its holder removes last
                with trying(slot.lock) as free:
                    if free:
                        slot.clear()
        if mine is None:
            hint = f"Wait for them; if there are none, remove the files .{dest.name}.*{PARTIAL}"
            raise ExistsError(f"{dest}: {SLOTS} others are writing it", path=str(dest), hint=hint)
        yield mine


def recover(dest: Path) -> bool:
    """Finish a swap in which a process was killed while the destination was absent; return True if one was found."""
    for slot in slots(dest):
        if os.path.lexists(slot.ready):
            with trying(slot.lock) as free:
                if free:
                    slot.clear()
            return os.path.lexists(dest)
    return False


class Batch:
    """
    Stores that are written one by one and published together, about once a second: the disk is waited for once.

    Threads share one.  Whoever waits for another process calls `publish` meanwhile, since that may wait for what the
    batch holds.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._written: list[tuple[Slot, bool]] = []
        self._held: list[ExitStack] = []
        self._due = time.monotonic() + _BATCH_SECONDS

    def add(self, slot: Slot, overwrite: bool, held: ExitStack) -> None:
        """Take a complete store, and what is to be released once it is published."""
        with self._lock:
            self._written.append((slot, overwrite))
            self.hold(held)

    def hold(self, held: ExitStack) -> None:
        """Take what is to be released once everything that was added before is published."""
        with self._lock:
            self._held.append(held)

    def publish_if_due(self) -> None:
        """Publish if many stores are waiting, or one for long."""
        most = min(_BATCH_STORES, descriptor_limit() // _BATCH_SHARE)
        if len(self._held) >= 2 * most or time.monotonic() > self._due:
            self.publish()

    def publish(self) -> None:
        """Publish everything that was added."""
        with self._lock, ExitStack() as held:
            written, self._written = self._written, []
            for stack in self._held:
                held.push(stack)
            self._held = []
            if written:
                with explained(written[0][0].dest):
                    flush(slot.work for slot, _ in written)
                    _place(written)
            self._due = time.monotonic() + _BATCH_SECONDS


_BATCH_SECONDS = 1.0
_BATCH_STORES = 32
"""Each holds two locks, that is two descriptors."""
_BATCH_SHARE = 16
"""Part of the descriptors of the process that limits the number of stores: an eighth of them are locks."""


@contextmanager
def publishing(dest: Path, overwrite: bool = False, batch: Batch | None = None) -> Iterator[Path]:
    """
    Yield a directory to fill; it becomes `dest` when the block ends without an error, and vanishes otherwise.

    With a batch it becomes `dest` when the batch is published.
    """
    refuse_existing(dest, overwrite)
    with explained_parent(dest), ExitStack() as held:
        slot = held.enter_context(claiming(dest))
        held.callback(slot.clear)
        refuse_existing(dest, overwrite)  # a swap that was finished only now
        slot.work.mkdir()
        yield slot.work
        if batch is None:
            flush([slot.work])
            _place([(slot, overwrite)])
        else:
            batch.add(slot, overwrite, held.pop_all())


@contextmanager
def publishing_file(dest: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path to write a file to; it becomes `dest` when the block ends without an error."""
    refuse_existing_file(dest, overwrite)
    with explained_parent(dest), replacing(dest) as work:
        yield work
        refuse_existing_file(dest, overwrite)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Yield a path to write a file to; it replaces `path` when the block ends without an error, else it is removed.

    For files of ndzarr's own, such as those of a cache; what a user named goes through `publishing_file`.
    """
    with claiming(path) as slot:
        try:
            yield slot.work
            flush_one(slot.work)
            os.replace(slot.work, path)
            flush_one(path.parent)
        finally:
            slot.clear()


@contextmanager
def scratch(dest: Path) -> Iterator[Path]:
    """Yield a hidden directory beside a destination, which vanishes when the block ends."""
    with claiming(dest) as slot:
        try:
            slot.work.mkdir()
            yield slot.work
        finally:
            slot.clear()


def publish(work: Path, dest: Path, overwrite: bool = False) -> None:
    """
    Make a complete store, which lies in the same file system, that at `dest`.

    Readers that have an earlier store open keep what they mapped of it.
    """
    with explained(dest), claiming(dest) as slot:
        refuse_existing(dest, overwrite)
        flush([work])
        try:
            os.rename(work, slot.work)
            _place([(slot, overwrite)])
        finally:
            slot.clear()


def _place(written: list[tuple[Slot, bool]]) -> None:
    """Rename flushed stores of one directory to their destinations; then remove what they replace."""
    for slot, overwrite in written:
        refuse_existing(slot.dest, overwrite)
        _rename(slot)
    for parent in {slot.dest.parent for slot, _ in written}:
        flush_one(parent)
    for slot, _ in written:
        slot.clear()


def _rename(slot: Slot) -> None:
    """Rename a store to its destination; swap both if there is one: it is never absent."""
    dest = slot.dest
    if not os.path.lexists(dest):
        os.rename(slot.work, dest)
    elif not exchange(slot.work, dest):
        os.rename(slot.work, slot.ready)
        flush_one(dest.parent)
        os.rename(dest, slot.old)
        try:
            os.rename(slot.ready, dest)
        except BaseException:
            os.rename(slot.old, dest)
            raise


def discard(path: Path) -> None:
    """Remove a store or a link to one, at once as far as readers can tell."""
    with claiming(path) as slot:
        os.rename(path, slot.work)
        slot.clear()


def _remove(path: Path) -> None:
    """Remove what is hidden; what another user forbids to remove stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(PermissionError):
            path.unlink(missing_ok=True)


_FLUSHERS = 8
"""Threads that flush files: file systems write their journal once for all that wait (3 to 6 times as fast as one)."""
_FLUSH_ALL = 16
"""From so many files on, flushing the whole file system is three times as fast; it also waits for what others write."""


def flush(paths: Iterable[Path]) -> None:
    """Wait until files and directories of one file system, with all that is in them, are on the disk."""
    each = (path for top in paths for path in _tree(top))
    found = list(islice(each, _FLUSH_ALL))
    if len(found) >= _FLUSH_ALL and _flush_file_system(found[0]):
        return
    found += each
    if len(found) < _FLUSHERS:
        for path in found:
            flush_one(path)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_FLUSHERS, "flush") as pool:
        for _ in pool.map(flush_one, found):
            pass


def _tree(top: Path) -> Iterator[Path]:
    yield top
    for folder, folders, files in os.walk(top):
        yield from (Path(folder, name) for name in (*folders, *files))


def flush_one(path: Path) -> None:
    """Flush a file, or the names in a directory."""
    if sys.platform == "win32" and path.is_dir():
        return  # NTFS keeps names in its journal, and directories cannot be opened
    descriptor = os.open(path, (os.O_RDWR if sys.platform == "win32" else os.O_RDONLY) | getattr(os, "O_CLOEXEC", 0))
    try:
        _fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that know no such thing
            raise
    finally:
        os.close(descriptor)


def _fsync(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync leaves it in the cache of the disk
    else:
        os.fsync(descriptor)


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _flush_file_system(path: Path) -> bool:
    """Flush the file system of a path; return False where that cannot be done."""
    syncfs = getattr(_libc(), "syncfs", None)
    if syncfs is None:
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    finally:
        os.close(descriptor)
    return True


_SYNC_FILE_RANGE_WRITE = 2


def flush_soon(descriptor: int) -> None:
    """Start to write a file to the disk, if the system allows it without waiting, so that `flush` takes less time."""
    start = getattr(_libc(), "sync_file_range", None)
    if start is not None:
        start(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)  # `flush` reports errors


_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two files or directories in one step; return False if the system cannot do that."""
    rename = getattr(_libc(), "renameat2", None)
    if rename is None:
        return False
    if not rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE):
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):  # the file system, or the kernel, has no such call
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


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
    elif dest.exists() and not dest.is_file():  # renaming would replace /dev/null
        message = f"{dest}: is {'a directory' if dest.is_dir() else 'not a file'}, so it is not overwritten"
        raise ExistsError(message, path=str(dest), hint="Choose another destination")


def _refuse(dest: Path) -> None:
    if os.path.lexists(dest):
        hint = "Choose another destination, or pass overwrite=True"
        raise ExistsError(f"{dest}: exists already", path=str(dest), hint=hint)


def names_archive(path: str | os.PathLike[str]) -> bool:
    """Return True for the name of a store in one file."""
    return os.fspath(path).lower().endswith(ARCHIVE)


def is_store(path: str | os.PathLike[str]) -> bool:
    """Return True for a directory with the metadata of a Zarr store, of format 2 or 3, and for an `.ozx`."""
    return (names_archive(path) and os.path.isfile(path)) or any(
        os.path.exists(os.path.join(path, name)) for name in _STORE_FILES
    )


@contextmanager
def explained_parent(dest: Path) -> Iterator[None]:
    """Raise `MissingError` if a file or store is to be written where no directory is; else as `explained`."""
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
        named = _visible(dest)
        message = f"{named}: {found.format(kept=kept, error=error.strerror, name=error.filename2 or error.filename)}"
        raise kind(message, path=str(named), hint=hint.format(parent=named.parent)) from error


def _visible(dest: Path) -> Path:
    """Return the destination that something hidden is made for: users know no other name of it."""
    for path in (dest, *dest.parents):
        if (slot := Slot.of(path)) is not None:
            return slot.dest
    return dest


_FULL = WriteError, "the disk is full; {kept}", "Free some space or choose another disk"
_FAILED = WriteError, "could not be written ({error}); {kept}", "Check the disk that it is on, and that of the source"
_FORBIDDEN = WriteError, "may not be written ({error})", "Check the permissions of {parent}"
_MANY = WriteError, "too many open files; {kept}", "Raise the limit (ulimit -n) or use larger shards"
_TAKEN = ExistsError, "another process made it meanwhile", "Use that one, or overwrite it"
_CAUSES: Mapping[int, tuple[type[NdzarrError], str, str]] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: (WriteError, "your quota of the disk is used up; {kept}", "Free some space or choose another disk"),
    errno.EIO: _FAILED,
    getattr(errno, "ESTALE", errno.EIO): _FAILED,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: _FORBIDDEN,
    errno.ENOMEM: (
        WriteError,
        "there is not enough memory; {kept}",
        "Raise the limit (ulimit -v) or use less at a time",
    ),
    errno.EISDIR: (WriteError, "{name} is a directory", "Remove it, or choose another destination"),
    errno.ENOTEMPTY: _TAKEN,
    errno.EEXIST: _TAKEN,
    errno.EFBIG: (WriteError, "the file system, or `ulimit -f`, allows no file of this size", "Choose another disk"),
    errno.EMFILE: _MANY,
    errno.ENFILE: _MANY,
}
"""Error numbers to the error to raise, what was found and what to do."""


LOCK = re.compile(r"\.(.+\.zarr)(\.[0-9]+)?\.lock")
"""Names of locks of stores and of their slots."""

_PATIENCE = 1.0
"""Seconds between looks at whether waiting still makes sense."""


def lock_of(store: Path) -> Path:
    """Return the path of a store's lock."""
    return store.with_name(f".{store.name}.lock")


def _lock(path: Path) -> BaseFileLock:
    from filelock import FileLock

    # Other users of a shared directory take the lock of a process that was killed, whatever its umask; any thread of a
    # batch releases it.
    return FileLock(path, mode=0o666, thread_local=False)


@contextmanager
def holding(path: Path, check: Callable[[], None] | None = None) -> Iterator[None]:
    """Wait for a lock and hold it; while waiting, call `check` now and then, which ends it by raising."""
    from filelock import Timeout

    lock = _lock(path)
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
    """Hold a lock if nobody else does; yield False if somebody does, or if it cannot be taken in this directory."""
    with ExitStack() as held:
        free = False
        try:
            free = held.enter_context(_locking(path))
        except (PermissionError, FileNotFoundError):
            pass
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
        yield free


@contextmanager
def _locking(path: Path) -> Iterator[bool]:
    """Hold a lock if nobody else does; yield False if somebody does."""
    from filelock import Timeout

    lock = _lock(path)
    with suppress(Timeout):
        lock.acquire(timeout=0)
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
RESERVED_FILES = 40
"""Descriptors that caches leave to the work at hand and to the caller."""


def descriptor_limit() -> int:
    """Return how many files the system allows this process to have open (`ulimit -n`)."""
    try:
        import resource
    except ImportError:  # Windows has no such limit to ask for; its C library has this one
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def open_files_limit(share: int, most: int) -> int:
    """Return how many files a cache may keep open: 1 / `share` of those that the system allows the process."""
    return max(4, min(most, (descriptor_limit() - RESERVED_FILES) // share))


_FILES_OF_WRITER = 8
"""Files that whoever makes a store has open: its source, locks, a shard of each level that is being written."""


def most_writers() -> int:
    """Return how many stores may be made at a time: their files take a quarter of those that the process may open."""
    return max(1, descriptor_limit() // (4 * _FILES_OF_WRITER))


_CLOSE: list[Callable[[], object]] = []


def close_when_short(close: Callable[[], object]) -> None:
    """Register a function that closes cached files, for when the process has no descriptor left."""
    _CLOSE.append(close)


def close_cached_files() -> None:
    """Close the cached files that nobody is reading."""
    for close in _CLOSE:
        close()


_FEW_FILES = 4096
"""Limit from which on there is room: looking at all open files would take long."""


def make_room() -> None:
    """Close cached files if three quarters of the descriptors are in use; call it before a library opens a file."""
    limit = descriptor_limit()
    if limit < _FEW_FILES:
        try:
            used = len(os.listdir("/dev/fd"))
        except FileNotFoundError:  # Windows
            return
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            used = limit
        if used > limit - limit // 4:
            close_cached_files()


def open_descriptor(path: str, flags: int = os.O_RDONLY | getattr(os, "O_BINARY", 0)) -> int:
    """
    Open a file for reading by position.

    If the process has no descriptor left, cached files are closed first; raises `StoreError` if that does not help.
    """
    flags |= getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(path, flags)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
    close_cached_files()
    try:
        return os.open(path, flags)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        hint = "Raise the limit (ulimit -n), or close files of your own"
        raise StoreError(f"{path}: too many files are open in this process", path=path, hint=hint) from error


def open_binary(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file for reading as `open` does; raises as `open_descriptor`."""
    return open(path, "rb", opener=open_descriptor)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file; raises as `open_descriptor`."""
    with open_binary(path) as file:
        return file.read()


_SEEKING = threading.Lock()


def _pread(fd: int, count: int, offset: int) -> bytes:
    with _SEEKING:  # Windows: the descriptor has one position for all threads
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, count)


pread: Callable[[int, int, int], bytes] = getattr(os, "pread", _pread)
"""Read bytes at a position of a file; fewer at its end, or if a signal came."""


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
            raise self._unreadable(error) from error
        self.check()
        if found != out.size:
            raise DamagedError(f"the file ends within bytes {offset} to {offset + out.size}", path=self.path)

    def opened(self) -> OpenFile:
        """Return the open file; whoever reads from it calls `check` afterwards.  Raises as `read`."""
        try:
            return DESCRIPTORS[self]
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> StoreError:
        """Return the error of a file that cannot be read; raises that of one that was changed."""
        self.check()
        message = f"{self.path}: the file cannot be read ({error.strerror})"
        return StoreError(message, path=self.path, hint="Check the disk")

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


class OpenFile:
    """An open file with the descriptor `fd`, closed when nobody refers to it any more."""

    __slots__ = ("fd", "lock")

    def __init__(self, path: str) -> None:
        self.lock = threading.Lock()
        self.fd = open_descriptor(path)

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


class _Descriptors(dict[FileId, OpenFile]):
    """Open files, the oldest dropped first; `descriptors[file]` opens one that is not held."""

    def __missing__(self, file: FileId) -> OpenFile:
        opened = OpenFile(file.path)
        file.compare(os.fstat(opened.fd))
        while len(self) >= open_files_limit(6, MOST_FILES):
            try:
                del self[next(iter(self))]
            except (StopIteration, KeyError, RuntimeError):  # another thread was faster
                break
        self[file] = opened
        return opened


DESCRIPTORS = _Descriptors()
"""The files that this process has open for reading ranges."""
close_when_short(DESCRIPTORS.clear)


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
        try:  # noqa: SIM105 - samples ask this each time
            found = os.stat(f"{path}/zarr.json")
        except FileNotFoundError:
            pass
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


MASK_SUFFIX = ".msk"
"""What the name of GDAL's mask beside a file adds to its name."""


def settle(mtime_ns: int) -> None:
    """Wait until another change of the file would show in its time of modification."""
    age = time.time() - mtime_ns / 1e9
    if 0 <= age < _TICK:
        time.sleep(_TICK - age)
