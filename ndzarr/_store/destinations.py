"""
Where stores are written: by one process at once, or in parts by many.

A store appears whole or not at all.  One process writes into a hidden directory, which is published.  Many processes
share one (`sharing`): each writes its part into a directory of its own, which is renamed when it is complete, so that
a worker that was killed leaves nothing, and the same part, written twice, is there once.  If the caller is killed, the
same call goes on with the parts that are there.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from ndzarr._files import PARTIAL, explained, flush, publish, trying
from ndzarr.errors import ExistsError, MissingError, WriteError

STORE = "store"
"""Directory of what will be published, of a part and of all of them."""
PARTS = "parts"


def _nothing(path: Path) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Work:
    """A local directory to write in."""

    root: Path
    written: Callable[[Path], object] = _nothing
    """To be called with each shard that is complete; it may be gone afterwards."""

    @property
    def store(self) -> Path:
        """The directory of what belongs to the store."""
        return self.root / STORE


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """The directory in which processes that see the same file system write one store."""

    folder: str

    def part(self, name: str) -> AbstractContextManager[Work]:
        """Yield a directory for a part, which is there as a whole once the block ends without an error."""
        return _part(Path(self.folder), name)

    def done(self, name: str) -> bool:
        """Return True if a part is there."""
        return (Path(self.folder) / PARTS / name).exists()

    def read(self, name: str, file: str) -> Path:
        """Return the path of a file of a part that is there."""
        return Path(self.folder) / PARTS / name / file

    @contextmanager
    def finishing(self) -> Iterator[Path]:
        """Yield the directory of the store, which has the files of all parts, for what is still to be written."""
        store = Path(self.folder) / STORE
        for part in sorted((Path(self.folder) / PARTS).iterdir()):
            for path in [p for p in (part / STORE).rglob("*") if p.is_file()]:  # what an earlier call did not move
                target = store / path.relative_to(part / STORE)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
        yield store
        flush([store])

    def publish(self, dest: Path, overwrite: bool) -> None:
        """Make the store that at `dest`."""
        publish(Path(self.folder) / STORE, dest, overwrite)


@contextmanager
def _part(folder: Path, name: str) -> Iterator[Work]:
    parts = folder / PARTS
    if not parts.is_dir():
        raise MissingError(
            f"{folder}: this worker does not see the destination",
            path=str(folder),
            hint="Give all workers a file system in common with the process that made the call",
        )
    work = parts / f".{name}.{secrets.token_hex(4)}{PARTIAL}"
    with explained(work, "what is finished is kept"):
        try:
            work.mkdir()
            (work / STORE).mkdir()
            yield Work(work)
            flush([work])
            try:
                os.rename(work, parts / name)
            except OSError:
                if not (parts / name).exists():  # else another worker was faster: it wrote the same
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def sharing(dest: Path, kind: str, token: str) -> Iterator[SharedFolder]:
    """
    Lock the directory in which many processes write the store `dest`, and yield it.

    `kind` and `token` name what is written: the same ones find what an earlier call has done.  It stays if the block
    ends with an error and some parts are done.
    """
    if not dest.parent.is_dir():
        message = f"{dest}: the directory {dest.parent} does not exist"
        raise MissingError(message, path=str(dest), hint="Make it first")
    folder = dest.with_name(f".{dest.name}.{kind}_{token}{PARTIAL}")
    kept = f"what is finished is kept in {folder.name}: the same call goes on from there"
    with explained(dest, kept), trying(_lock(folder)) as mine:
        if not mine and not _lock(folder).exists():
            hint = f"Check the permissions of {dest.parent}"
            raise WriteError(f"{dest}: may not be written", path=str(dest), hint=hint)
        if not mine:
            raise ExistsError(f"{dest}: another process is writing it now", path=str(dest), hint="Wait for it")
        if not (folder / STORE).is_dir():  # it was published, but not removed
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        with suppress(PermissionError):  # of somebody else
            folder.chmod(0o700)
        for name in (PARTS, STORE):
            (folder / name).mkdir(exist_ok=True)
        for left in (folder / PARTS).glob(f".*{PARTIAL}"):  # by workers that were killed
            shutil.rmtree(left, ignore_errors=True)
        try:
            yield SharedFolder(str(folder))
        except BaseException:
            if all(part.name.startswith(".") for part in (folder / PARTS).iterdir()):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        for other in dest.parent.glob(f".{escape(dest.name)}.{kind}_*{PARTIAL}"):
            with nullcontext(True) if other == folder else trying(_lock(other)) as free:
                if free:
                    shutil.rmtree(other, ignore_errors=True)


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
