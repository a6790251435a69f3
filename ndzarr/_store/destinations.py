"""
Where stores are written: directories and places in buckets; by one process, or in parts by many.

A store appears whole or not at all.  One process writes into a hidden directory, which is published; for a bucket see
`buckets`.  Many processes share a store (`sharing`): each writes its part into a directory of its own, whose files
become those of the store when it is complete, so that a worker that was killed leaves nothing, and the same part,
written twice, is there once.  If the caller is killed, the same call goes on with the parts that are there.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ndzarr._files import (
    ARCHIVE,
    PARTIAL,
    Batch,
    discard,
    explained,
    flush,
    holding,
    is_store,
    lock_of,
    names_archive,
    publish,
    publishing,
    publishing_file,
    refuse_existing,
    refuse_existing_file,
    scratch,
    trying,
)
from ndzarr._remote.settings import Remote
from ndzarr._remote.stores import open_url
from ndzarr._remote.urls import is_url
from ndzarr._store.archive import pack
from ndzarr._store.buckets import CLAIM, OWN, ROOT, Claim, Place, Uploads, publishing_at, upload_tree
from ndzarr.errors import ExistsError, MissingError, OptionError, WriteError

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


Dest: TypeAlias = Path | Place
"""A local path, or a place in a bucket."""


def destination(
    dest: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None, remote: Remote | None = None
) -> Dest:
    """
    Return where a path or a URL leads to; nothing is requested.

    Raises `OptionError` for options without a URL, and for a URL without a path.
    """
    if not is_url(dest):
        for key, value in (("storage_options", storage_options), ("remote", remote)):
            if value is not None:
                message = f"{os.fspath(dest)}: {key}= is for URLs, and this is a path"
                raise OptionError(message, path=os.fspath(dest), key=key, hint="Leave it out")
        return Path(os.path.abspath(dest))
    place = folder_at(dest, storage_options, remote)
    if not place.path:
        message = f"{place.url}: a store is written below a bucket, and this is a bucket as a whole"
        raise OptionError(message, path=place.url, hint="Give a URL such as s3://bucket/a.zarr")
    return place


def folder_at(
    url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None, remote: Remote | None = None
) -> Place:
    """
    Return where the URL of a place for many stores leads to; nothing is requested.

    Raises `OptionError` for a web server, which takes no objects.
    """
    place = Place(*open_url(url, storage_options, remote))
    if place.store.kind == "http":
        message = f"{place.url}: a store is written below a bucket, and this is a web server"
        raise OptionError(message, path=place.url, hint="Give a URL such as s3://bucket/a.zarr")
    return place


def shown_name(dest: Dest) -> str:
    """Return how a destination is named in messages, without secrets."""
    return str(dest) if isinstance(dest, Path) else dest.url


def refuse_existing_at(dest: Dest, overwrite: bool) -> None:
    """Raise `ExistsError` if something is there that must not be replaced by a store."""
    if isinstance(dest, Place) and names_archive(dest.path):
        if not overwrite:
            dest.refuse_object()
    elif isinstance(dest, Path):
        (refuse_existing_file if names_archive(dest) else refuse_existing)(dest, overwrite)
    else:
        dest.refuse_existing(overwrite)


def child(folder: Dest, name: str) -> Dest:
    """Return the destination of a store in a directory or a place of stores."""
    return folder / name if isinstance(folder, Path) else folder.below(name)


def is_there(dest: Dest) -> bool:
    """Return True if there is a store."""
    return is_store(dest) if isinstance(dest, Path) else dest.store.exists(dest.key(ROOT))


_LOCKS: dict[tuple[int, str], threading.Lock] = {}
"""Process and URL to the lock of its threads."""


@contextmanager
def locking(dest: Dest, check: Callable[[], None] | None = None) -> Iterator[None]:
    """
    Wait until nobody else makes a store, and hold its lock; `check` is called now and then, and may raise.

    A bucket has no locks between processes: who writes there claims the place, and others get an `OccupiedError`.
    """
    if isinstance(dest, Path):
        with holding(lock_of(dest), check):
            yield
        return
    lock = _LOCKS.setdefault((os.getpid(), dest.url), threading.Lock())
    while not lock.acquire(timeout=-1 if check is None else _CHECK_SECONDS):
        if check is not None:
            check()
    try:
        yield
    finally:
        lock.release()


_CHECK_SECONDS = 1.0
"""Seconds between looks at whether waiting still makes sense."""


def is_left(dest: Dest) -> bool:
    """Return True if there is a store, or a part of one, that nobody has begun to write."""
    if isinstance(dest, Path):
        return os.path.lexists(dest)
    found = dest.present()
    return ROOT in found or (bool(found) and CLAIM not in found)


def discard_at(dest: Dest) -> None:
    """Remove a store, or what is left of it; raise `OccupiedError` if a bucket gets it just now."""
    if isinstance(dest, Path):
        discard(dest)
        return
    with Claim(dest, secrets.token_hex(8), overwrite=True, whatever=True) as claim:
        claim.clear()


def size_of(dest: Dest) -> int:
    """Return the bytes of all files of a store."""
    if isinstance(dest, Path):
        return sum(path.stat().st_size for path in dest.rglob("*") if path.is_file())
    return sum(dest.present().values())


@contextmanager
def writing(dest: Dest, overwrite: bool = False, batch: Batch | None = None, what: str | None = None) -> Iterator[Work]:
    """
    Yield a local directory to fill; it becomes the store when the block ends without an error, else nothing is left.

    With a batch, a local store is there when the batch is published.  An `.ozx` is packed once all is written.  A store
    in a bucket may be gone on with: see `publishing_at` for `what`.
    """
    if isinstance(dest, Path) and names_archive(dest):
        with publishing_file(dest, overwrite) as file, scratch(dest) as root:
            yield Work(root)
            pack(root, file)
    elif isinstance(dest, Place) and names_archive(dest.path):
        refuse_existing_at(dest, overwrite)
        with tempfile.TemporaryDirectory(prefix="ndzarr-") as near:
            root = Path(near, STORE)
            root.mkdir()
            yield Work(root)
            pack(root, Path(near, dest.name))
            dest.patient().put_file(Path(near, dest.name), create=not overwrite)
    elif isinstance(dest, Path):
        with publishing(dest, overwrite, batch) as root:
            yield Work(root)
    else:
        with publishing_at(dest, what, overwrite) as (root, written):
            yield Work(root, written)


class Shared(Hashable, Protocol):
    """Where the parts of a store come together; it pickles to little."""

    def part(self, name: str) -> AbstractContextManager[Work]:
        """Yield a directory for a part, which is there as a whole once the block ends without an error."""

    def done(self) -> set[str]:
        """Return the names of the parts that are there."""

    def read(self, name: str, file: str, into: Path) -> Path:
        """Return the path of a file of a part that is there; it is fetched to a directory if it is far."""

    def finishing(self) -> AbstractContextManager[Path]:
        """Yield a directory for what is still to be written once all parts are there, such as the metadata."""

    def bring(self, name: str, store: Path) -> None:
        """Fetch what parts have written below a name to the directory of `finishing`, if it is far."""

    def publish(self, dest: Dest, overwrite: bool) -> None:
        """Make the store that at `dest`; only in the block of `sharing`."""


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """The directory in which processes that see the same file system write one store."""

    folder: str

    def part(self, name: str) -> AbstractContextManager[Work]:
        """Yield a directory for a part, which is there as a whole once the block ends without an error."""
        return _part(Path(self.folder), name)

    def done(self) -> set[str]:
        """Return the names of the parts that are there."""
        return set(os.listdir(Path(self.folder) / PARTS))

    def read(self, name: str, file: str, into: Path) -> Path:
        """Return the path of a file of a part that is there."""
        return Path(self.folder) / PARTS / name / file

    @contextmanager
    def finishing(self) -> Iterator[Path]:
        """Yield the directory of the store, which has the files of all parts, for what is still to be written."""
        store = Path(self.folder) / STORE
        for part in sorted((Path(self.folder) / PARTS).glob("[!.]*")):
            for path in [p for p in (part / STORE).rglob("*") if p.is_file()]:  # what an earlier call did not move
                target = store / path.relative_to(part / STORE)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
        yield store

    def bring(self, name: str, store: Path) -> None:
        """Do nothing: all files are there."""

    def publish(self, dest: Dest, overwrite: bool) -> None:
        """Make the store that at `dest`."""
        assert isinstance(dest, Path)
        if names_archive(dest):
            with publishing_file(dest, overwrite) as file:
                pack(Path(self.folder) / STORE, file)
            return
        publish(Path(self.folder) / STORE, dest, overwrite)


_BEGUN = "begun"
"""File of a part that is being written."""


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
    try:
        work.mkdir()
        (work / STORE).mkdir()
        (work / _BEGUN).touch()
        yield Work(work)
        flush([work])
        try:
            (work / _BEGUN).unlink()  # else it was taken away meanwhile, and what is there is only what came after that
            os.rename(work, parts / name)
        except OSError:
            if not (parts / name).exists():  # else another worker was faster: it wrote the same
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def sharing(dest: Dest, kind: str, token: str, overwrite: bool) -> AbstractContextManager[Shared]:
    """
    Lock where many processes write the store `dest`, and yield it.

    `kind` and `token` name what is written: the same ones find what an earlier call has done.  It stays if the block
    ends with an error and some parts are done.  Raises `OptionError` for an `.ozx` in a bucket, and of samples.
    """
    if names_archive(shown_name(dest)) and (isinstance(dest, Place) or kind != "bands"):
        message = f"{shown_name(dest)}: an {ARCHIVE} holds one image, and workers write it to a disk they share"
        raise OptionError(message, path=shown_name(dest), hint="Give a name that ends in .zarr")
    return _shared_folder(dest, kind, token) if isinstance(dest, Path) else _shared_bucket(dest, token, overwrite)


@contextmanager
def _shared_folder(dest: Path, kind: str, token: str) -> Iterator[Shared]:
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
        for left in (folder / PARTS).glob(f".*{PARTIAL}"):  # by workers that were killed, or whose caller was
            gone = folder / left.name
            with suppress(FileNotFoundError):  # such a worker may make it a part at this moment: one of both succeeds
                os.rename(left, gone)
            shutil.rmtree(gone, ignore_errors=True)
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


@dataclass(frozen=True, slots=True)
class SharedBucket:
    """The prefix of a bucket at which processes write one store."""

    place: Place

    @property
    def url(self) -> str:
        """The URL of the store."""
        return self.place.url

    def put(self, name: str, content: bytes) -> None:
        """Write an object that all processes see until the store is published."""
        self.place.store.put(self.place.key(OWN, name), content)

    def get(self, name: str) -> bytes:
        """Return what `put` wrote."""
        return bytes(self.place.store.get(self.place.key(OWN, name))[0])

    @contextmanager
    def part(self, name: str) -> Iterator[Work]:
        """Yield a local directory, whose files are uploaded as they are complete."""
        with tempfile.TemporaryDirectory(prefix="ndzarr-") as folder:
            work = Path(folder)
            (work / STORE).mkdir()
            with Uploads(self.place) as uploads:
                yield Work(work, lambda path: uploads.add(path, path.relative_to(work / STORE).as_posix()))
                upload_tree(work / STORE, uploads)
            shutil.rmtree(work / STORE)
            own = self.place.below(f"{OWN}/{PARTS}/{name}")
            with Uploads(own) as uploads:
                upload_tree(work, uploads)
            self.place.below(f"{OWN}/done").put_empty(name)

    def done(self) -> set[str]:
        """Return the names of the parts that are there."""
        return {path.rpartition("/")[2] for path in self.place.present(OWN, "done")}

    def read(self, name: str, file: str, into: Path) -> Path:
        """Fetch a file of a part, unless it is there already."""
        path = into / f"{name}-{file}"
        if not path.exists():
            into.mkdir(exist_ok=True)
            place = self.place.patient()
            path.write_bytes(place.store.get(place.key(OWN, PARTS, name, file))[0].data)
        return path

    @contextmanager
    def finishing(self) -> Iterator[Path]:
        """Yield a local directory, whose files are uploaded; the root's metadata wait for `publish`."""
        with tempfile.TemporaryDirectory(prefix="ndzarr-") as folder:
            store = Path(folder, STORE)
            store.mkdir()
            yield store
            with Uploads(self.place) as uploads:
                upload_tree(store, uploads)
            self.place.put_file(store / ROOT, OWN, ROOT)

    def bring(self, name: str, store: Path) -> None:
        """Fetch what parts have written below a name."""
        for path in self.place.present(name):
            file = store / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.place.store.get(self.place.key(path))[0].data)

    def publish(self, dest: Dest, overwrite: bool) -> None:
        """Write the root's metadata."""
        _CLAIMS[self.place.url].publish(bytes(self.place.store.get(self.place.key(OWN, ROOT))[0]))


_CLAIMS: dict[str, Claim] = {}
"""Claims that this process holds, by URL."""


@contextmanager
def _shared_bucket(dest: Place, token: str, overwrite: bool) -> Iterator[Shared]:
    with Claim(dest, token, overwrite) as claim:
        _CLAIMS[dest.url] = claim
        shared = SharedBucket(dest)
        try:
            yield shared
        except BaseException:
            if not claim.lost and not shared.done():
                claim.clear()
            raise
        finally:
            del _CLAIMS[dest.url]
