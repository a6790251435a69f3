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
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise SourceError(f"{path}: it cannot be read ({error.strerror}); check that it is still there") from error
        self.size = os.fstat(self._fd).st_size
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
        rest = memoryview(out.reshape(-1).view(np.uint8))
        while rest:
            got = self._read_some(offset, rest)
            if not got:
                raise SourceError(
                    f"{self.path}: the file is truncated: bytes {offset} to {offset + len(rest)} are missing from it; "
                    f"fetch or write it again"
                )
            offset += got
            rest = rest[got:]

    def close(self) -> None:
        """Release the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read_some(self, offset: int, out: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._fd, [out], offset)
        with self._lock:  # Windows
            os.lseek(self._fd, offset, os.SEEK_SET)
            data = os.read(self._fd, len(out))
            out[: len(data)] = data
            return len(data)
