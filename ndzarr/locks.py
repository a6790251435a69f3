"""Who may make, or remove, this store now?

A lock is a file beside the store that the system locks for one process (one thread) at a time, and takes from processes
that die.  It is removed before it is released: whoever waits for the removed file notices, and makes a new one
(filelock >= 3.29.5 does).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ndzarr.pyramid.publish import explained

LOCK = re.compile(r"\.(.+\.zarr)\.lock")
"""Names of locks."""

_PATIENCE = 1.0
"""Seconds between looks at whether waiting still makes sense."""


def lock_of(store: Path) -> Path:
    """The lock of a store."""
    return store.with_name(f".{store.name}.lock")


@contextmanager
def holding(path: Path, check: Callable[[], None] | None = None) -> Iterator[None]:
    """
    Hold a lock, waiting for it.

    Parameters
    ----------
    check
        Called now and then while waiting; ends it by raising.

    Raises
    ------
    WriteError
        Its directory cannot be written.
    """
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
    """Hold a lock if nobody else does; False if somebody does, or if the directory cannot be written."""
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


def _drop(lock: Any, path: Path) -> None:
    with suppress(FileNotFoundError, PermissionError):  # Windows removes it on release
        path.unlink()
    lock.release()
