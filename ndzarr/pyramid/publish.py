"""How does a store, or a file, appear whole or not at all?

It is written to a hidden directory beside its destination, then renamed: a rename within one file system is atomic.
What a killed process leaves behind is a hidden `.NAME.*.partial`, which nothing reads and `ndzarr cache prune` removes.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ndzarr.errors import ExistsError, MissingError, OptionError, WriteError

PARTIAL = ".partial"
"""Suffix of what is not published yet."""

_STORE_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""A directory that holds one of these is a Zarr store."""


@contextmanager
def publishing(dest: Path, overwrite: bool = False) -> Iterator[Path]:
    """
    A directory to fill, that becomes `dest` when the block ends without an error and vanishes if there was one.

    Raises
    ------
    ExistsError
        `dest` exists and is not to be overwritten, or is no Zarr store.
    MissingError
        The directory that is to hold it does not exist.
    WriteError
        The disk is full, or may not be written.
    """
    refuse_existing(dest, overwrite)
    with _beside(dest) as work:
        yield work
        refuse_existing(dest, overwrite)
        _replace(dest, work)


def put_in_place(work: Path, dest: Path, overwrite: bool = False) -> None:
    """
    Rename a store that is complete to its name.

    Raises
    ------
    ExistsError, WriteError
        As `publishing`.
    """
    refuse_existing(dest, overwrite)
    with explained(dest):
        _replace(dest, work)


@contextmanager
def publishing_file(dest: Path, overwrite: bool = False) -> Iterator[Path]:
    """
    A path to write a file to, that becomes `dest` when the block ends without an error and vanishes if there was one.

    Raises
    ------
    ExistsError, MissingError, WriteError
        As `publishing`.
    """
    refuse_existing_file(dest, overwrite)
    with _beside(dest) as work:
        yield work / dest.name
        refuse_existing_file(dest, overwrite)
        os.replace(work / dest.name, dest)


@contextmanager
def _beside(dest: Path) -> Iterator[Path]:
    """A hidden directory beside `dest` that is gone when the block ends."""
    if not dest.parent.is_dir():
        raise MissingError(f"{dest}: the directory {dest.parent} does not exist; make it first")
    with explained(dest):
        work = partial_path(dest)
        try:
            work.mkdir()
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def local(dest: str | os.PathLike[str]) -> Path:
    """
    A destination as an absolute path.

    Raises
    ------
    OptionError
        It is a URL.
    """
    if "://" in os.fspath(dest):
        raise OptionError(f"{os.fspath(dest)}: is written to local disks only; write it there, then copy it")
    return Path(os.path.abspath(dest))


def partial_path(dest: Path) -> Path:
    """A new name for what is not, or no longer, published as `dest`."""
    return dest.parent / f".{dest.name}.{secrets.token_hex(6)}{PARTIAL}"


def refuse_existing(dest: Path, overwrite: bool) -> None:
    """Raise `ExistsError` if `dest` is there and must not be replaced by a store."""
    if not overwrite:
        _refuse(dest)
    elif os.path.lexists(dest) and not is_store(dest) and not _is_empty_directory(dest):
        raise ExistsError(
            f"{dest}: exists and is no Zarr store, so it is not overwritten; remove it, or choose another destination"
        )


def refuse_existing_file(dest: Path, overwrite: bool) -> None:
    """Raise `ExistsError` if `dest` is there and must not be replaced by a file."""
    if not overwrite:
        _refuse(dest)
    elif dest.is_dir():
        raise ExistsError(f"{dest}: is a directory, so it is not overwritten; choose another destination")


def _refuse(dest: Path) -> None:
    if os.path.lexists(dest):
        raise ExistsError(
            f"{dest}: exists already; choose another destination, or overwrite it (overwrite=True, --overwrite)"
        )


def is_store(path: str | os.PathLike[str]) -> bool:
    """True for a directory with the metadata of a Zarr store, of format 2 or 3."""
    return any(os.path.exists(os.path.join(path, name)) for name in _STORE_FILES)


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _replace(dest: Path, work: Path) -> None:
    """Rename `work` to `dest`, which is removed first if it exists; readers that have it open keep what they mapped."""
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


@contextmanager
def explained(dest: Path, kept: str = "nothing was kept") -> Iterator[None]:
    """
    Say what to do about the errors of a file system.

    Parameters
    ----------
    kept
        What is left of the work if the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WriteError(f"{dest}: the disk is full; {kept}. Free some space or choose another disk") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise WriteError(
                f"{dest}: may not be written ({error.strerror}); check the permissions of {dest.parent}"
            ) from error
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise ExistsError(f"{dest}: another process made it meanwhile; use that one, or overwrite it") from error
        if error.errno == errno.EFBIG:
            raise WriteError(
                f"{dest}: the file system, or `ulimit -f`, allows no file of this size; choose another disk"
            ) from error
        if error.errno == errno.EMFILE:
            raise WriteError(
                f"{dest}: too many open files; raise the limit (ulimit -n) or use larger shards"
            ) from error
        raise
