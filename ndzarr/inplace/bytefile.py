"""How do any number of threads and processes read ranges of a file, and notice that it has changed?

1. A descriptor per file is kept open, the oldest closed first.  `os.preadv` takes the position along, so that threads,
   and processes after a fork, share it without a lock; a file that shrinks ends a read, where a map would end the
   process.
2. After each read the file is looked at: bytes count only if its size and time of modification are those that it had
   when it was opened.  So a file that is replaced or rewritten is never mixed with offsets of the old one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ndzarr.errors import DamagedError, MissingError, StoreError

_KEPT_BUFFER = 16 << 20
"""Bytes of a thread's buffer that is kept between reads, at most."""
_LOCAL = threading.local()


class FileId(NamedTuple):
    """A file as it was when it was opened."""

    path: str
    """Absolute."""
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str) -> FileId:
        """
        The file as it is now.

        Raises
        ------
        MissingError
            It is not there.
        """
        try:
            now = os.stat(path)
        except OSError as error:
            raise MissingError(f"{path}: the file is gone, or cannot be looked at ({error.strerror})") from error
        return cls(path, now.st_ino, now.st_size, now.st_mtime_ns)

    def check(self) -> None:
        """Raise `StoreError` if the file is another one by now."""
        try:
            self.compare(os.stat(self.path))
        except OSError as error:
            raise StoreError(
                f"{self.path}: the file is gone ({error.strerror}); open it again once it is back"
            ) from error

    def compare(self, now: os.stat_result) -> None:
        """Raise `StoreError` if this is another file."""
        if now.st_mtime_ns != self.mtime_ns or now.st_size != self.size or now.st_ino != self.inode:
            raise StoreError(f"{self.path}: the file was changed since it was opened; open it again")

    def read(self, offset: int, count: int) -> np.ndarray[Any, Any]:
        """
        Bytes of the file, in a buffer of this thread that the next read overwrites.

        Raises
        ------
        StoreError
            The file was changed since.
        DamagedError
            It ends before.
        """
        out = buffer("read", count)
        self.read_into(offset, out)
        return out

    def read_into(self, offset: int, out: np.ndarray[Any, Any]) -> None:
        """Fill a contiguous array of uint8; raises as `read`."""
        try:
            held = DESCRIPTORS[self]  # a name of its own: what another thread drops must not be closed yet
            found = _read(held.fd, offset, out)
        except OSError as error:
            self.check()
            raise StoreError(f"{self.path}: the file cannot be read ({error.strerror}); check the disk") from error
        self.check()
        if found != out.size:
            raise DamagedError(f"the file ends within bytes {offset} to {offset + out.size}")


def buffer(name: str, count: int) -> np.ndarray[Any, Any]:
    """Bytes that belong to this thread until it asks for those of the same name again."""
    if count > _KEPT_BUFFER:
        return np.empty(count, np.uint8)
    held: np.ndarray[Any, Any] | None = getattr(_LOCAL, name, None)
    if held is None or held.size < count:
        held = np.empty(max(count, 1 << 18), np.uint8)
        setattr(_LOCAL, name, held)
    return held[:count]


def _read(fd: int, offset: int, out: np.ndarray[Any, Any]) -> int:
    """Bytes read: fewer than asked for only at the end of the file."""
    done = os.preadv(fd, [out.data], offset)
    while 0 < done < out.size:
        more = os.preadv(fd, [out[done:].data], offset + done)
        if not more:
            break
        done += more
    return done


class _Descriptor:
    """An open file, closed when nobody reads from it any more."""

    __slots__ = ("fd",)

    def __init__(self, file: FileId) -> None:
        self.fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        file.compare(os.fstat(self.fd))

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # `os` is gone when the interpreter ends
        if hasattr(self, "fd"):
            close(self.fd)


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


MOST_FILES = 256
"""Files that stay open, at most; opening one again takes 20 us."""
DESCRIPTORS = _Descriptors()
"""The files that this process has open; shared by all pyramids."""
