"""How do several threads read ranges of one file, without a lock and without copies?

`os.preadv` takes the position along, so a file descriptor is shared by any number of threads, and fills the caller's
buffer.  Unlike a memory map, it fails with an error, not a signal, if the file shrinks.
"""

from __future__ import annotations

import os
import threading

import numpy as np

from ndzarr.errors import SourceError
from ndzarr.sources.base import Pixels


class ByteFile:
    """A file of which ranges are read."""

    def __init__(self, path: str) -> None:
        """Look at a file; it is opened at the first read, so that many may be known at once."""
        self.path = path
        try:
            self.size = os.stat(path).st_size
        except OSError as error:
            raise self._unreadable(error) from error
        self._fd: int | None = None
        self._closed = False
        self._lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytes:
        """
        Return `count` bytes.

        Raises
        ------
        SourceError
            The file ends before.
        """
        out = bytearray(count)
        self.read_into(offset, np.frombuffer(out, np.uint8))
        return bytes(out)

    def read_into(self, offset: int, out: Pixels) -> None:
        """
        Fill a C-contiguous array.

        Raises
        ------
        SourceError
            The file ends before the array is full.
        """
        rest = out.reshape(-1).view(np.uint8).data
        while rest:
            try:
                got = self._read_some(offset, rest)
            except OSError as error:
                raise self._unreadable(error) from error
            if not got:
                raise SourceError(
                    f"{self.path}: the file is truncated: bytes {offset} to {offset + len(rest)} are missing from it; "
                    f"fetch or write it again"
                )
            offset += got
            rest = rest[got:]

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._closed = True
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _descriptor(self) -> int:
        if self._fd is not None:
            return self._fd
        with self._lock:
            if self._closed:
                raise SourceError(f"{self.path}: the source is closed; open it again to read")
            if self._fd is None:
                self._fd = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            return self._fd

    def _read_some(self, offset: int, out: memoryview) -> int:
        fd = self._descriptor()
        if hasattr(os, "preadv"):
            return os.preadv(fd, [out], offset)
        with self._lock:  # Windows
            os.lseek(fd, offset, os.SEEK_SET)
            data = os.read(fd, len(out))
            out[: len(data)] = data
            return len(data)

    def _unreadable(self, error: OSError) -> SourceError:
        return SourceError(f"{self.path}: it cannot be read ({error.strerror}); check that it is still there")
