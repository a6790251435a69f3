"""How does a store appear whole or not at all?

It is written to a hidden directory beside its destination, then renamed: a rename within one directory is atomic. 
What a killed process leaves behind is a hidden `.NAME.*.partial`, which nothing reads and `ndzarr cache prune` removes.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ndzarr.errors import ExistsError, MissingError, WriteError

PARTIAL = ".partial"
"""Suffix of what is not published yet."""


@contextmanager
def publishing(dest: Path, overwrite: bool = False) -> Iterator[Path]:
    """
    A directory to fill, that becomes `dest` when the block ends without an error and vanishes if there was one.

    Raises
    ------
    ExistsError
        `dest` exists and is not to be overwritten.
    MissingError
        The directory that is to hold it does not exist.
    WriteError
        The disk is full, or may not be written.
    """
    refuse_existing(dest, overwrite)
    if not dest.parent.is_dir():
        raise MissingError(f"{dest}: the directory {dest.parent} does not exist; make it first")
    with _explained(dest):
        work = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", suffix=PARTIAL, dir=dest.parent))
    try:
        with _explained(dest):
            os.chmod(work, 0o777 & ~_umask())  # mkdtemp's are private
            yield work
            _move(work, dest, overwrite)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def refuse_existing(dest: Path, overwrite: bool) -> None:
    """Raise `ExistsError` if `dest` is there and must not be replaced."""
    if not overwrite and os.path.lexists(dest):
        raise ExistsError(f"{dest}: exists already; choose another destination, or overwrite it (overwrite=True, --overwrite)")


def _move(work: Path, dest: Path, overwrite: bool) -> None:
    refuse_existing(dest, overwrite)
    if not os.path.lexists(dest):
        os.rename(work, dest)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{dest.name}.", suffix=PARTIAL, dir=dest.parent))
    try:
        os.rename(dest, old / "old")
        try:
            os.rename(work, dest)
        except BaseException:
            os.rename(old / "old", dest)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _explained(dest: Path) -> Iterator[None]:
    """Say what to do about the errors of a file system."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WriteError(f"{dest}: the disk is full; nothing was kept. Free some space or choose another disk") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise WriteError(f"{dest}: may not be written ({error.strerror}); check the permissions of {dest.parent}") from error
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise ExistsError(f"{dest}: another process made it meanwhile; use that one, or overwrite it") from error
        if error.errno == errno.EMFILE:
            raise WriteError(f"{dest}: too many open files; raise the limit (ulimit -n) or use larger shards") from error
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
