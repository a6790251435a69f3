"""How does an extraction that was broken off go on where it was?

It works in a hidden directory beside its destination, whose name derives from everything that the result depends on:
the dataset, its files as they are now, the targets and the options.  The same call finds the same directory, and in it
the shards that are done; another call finds another one.  Whoever works in it holds a lock, which ends with its
process.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ndzarr.bulk.job import PARTS, STORE, part
from ndzarr.errors import ExistsError, MissingError, WriteError
from ndzarr.locks import trying
from ndzarr.pyramid.publish import PARTIAL, explained


@contextmanager
def workplace(dest: Path, *ingredients: Any) -> Iterator[Path]:
    """
    The directory in which an extraction to `dest` is made, locked; it stays if the block ends with an error.

    Raises
    ------
    ExistsError
        Another process works in it now.
    MissingError, WriteError
        The directory of `dest` is not there, or cannot be written.
    """
    from dask.base import tokenize

    if not dest.parent.is_dir():
        raise MissingError(f"{dest}: the directory {dest.parent} does not exist; make it first")
    folder = dest.with_name(f".{dest.name}.{tokenize(*ingredients)[:12]}{PARTIAL}")
    with trying(folder.with_name(f"{folder.name}.lock")) as mine, explained(dest):
        if not mine and not os.access(dest.parent, os.W_OK):
            raise WriteError(f"{dest}: may not be written; check the permissions of {dest.parent}")
        if not mine:
            raise ExistsError(f"{dest}: another process is extracting it now; wait for it")
        if not (folder / STORE).is_dir():  # it was published, but not removed
            shutil.rmtree(folder, ignore_errors=True)
        for name in (PARTS, STORE):
            (folder / name).mkdir(parents=True, exist_ok=True)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def missing(folder: Path, shards: int) -> list[int]:
    """Shards that are not done."""
    return [k for k in range(shards) if not part(folder, k).exists()]


def identities(files: Iterator[str]) -> list[tuple[str, int, int]]:
    """Path, size and time of modification of files (of a store, its metadata); without those that are not there."""
    out = []
    for path in dict.fromkeys(files):
        name = os.path.join(path, "zarr.json") if os.path.isdir(path) else path
        if os.path.exists(name):
            status = os.stat(name)
            out.append((path, status.st_size, status.st_mtime_ns))
    return out
