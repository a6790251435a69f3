"""
Stores written to buckets.

A bucket has no rename and no lock, so that a store appears by the last object that is written: the root's `zarr.json`.

1. A writer *claims* the prefix: it makes the object `.ndzarr/claim`, which must not exist (`If-None-Match: *`), and
   renews it every few seconds.  The claim of a writer that gives no sign of life is taken over.
2. A store that is overwritten loses its root first, then everything else.
3. Shards, then the metadata of arrays, are written.  The root follows, which must not exist; then the claim goes.

What is there of the same content is not written again by the next writer; of other content it is removed.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ndzarr._concurrency import OrderedQueue
from ndzarr._remote.stores import RemoteStore, RequestError
from ndzarr._remote.urls import joined
from ndzarr.errors import ExistsError, MissingError, NdzarrError, WriteError

ROOT = "zarr.json"
OWN = ".ndzarr"
"""Prefix, below that of the store, of what is there only while it is written."""
CLAIM = f"{OWN}/claim"
SIGN_SECONDS = 5.0
"""Seconds between signs of life of a writer."""
PATIENCE = 20.0
"""Seconds without a sign of life after which a writer is taken for dead."""
UPLOADS = 8
"""Objects that are written at a time: few, so that each is done in time on a slow line."""
PUT_SECONDS = 600.0
"""Seconds that writing an object may take, at least."""
MAPPED_BYTES = 64 << 20
"""Files of more bytes are not read into memory to be sent."""


class Place(NamedTuple):
    """Where a store or a file is, or will be, in a bucket."""

    store: RemoteStore
    path: str

    @property
    def url(self) -> str:
        """Its URL, without secrets."""
        return self.store.url(self.path)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    def key(self, *parts: str) -> str:
        """Return the path of an object below it."""
        return joined(self.path, *parts)

    def below(self, name: str) -> Place:
        """Return a place below it."""
        return Place(self.store, self.key(name))

    def refuse_existing(self, overwrite: bool) -> None:
        """Raise `ExistsError` if there is a store, and it is not to be overwritten."""
        if not overwrite and self.store.exists(self.key(ROOT)):
            raise _exists(self.url)

    def patient(self) -> Place:
        """Return the same place, whose requests may take long."""
        settings = self.store.settings
        return Place(
            replace(self.store, settings=replace(settings, timeout=max(settings.timeout, PUT_SECONDS))), self.path
        )

    def put_file(self, path: Path, *parts: str, create: bool = False) -> None:
        """Write a file as an object; if `create`, raise `ExistsError` if there is one."""
        large = path.stat().st_size > MAPPED_BYTES
        data: Any = np.memmap(path, np.uint8, "r") if large else path.read_bytes()
        if create and large:  # which is sent in parts, that know no such condition
            self.refuse_object()
        self.store.put(self.key(*parts), data, create=create and not large)

    def refuse_object(self) -> None:
        """Raise `ExistsError` if there is an object."""
        if self.store.exists(self.path):
            raise _exists(self.url)

    def put_empty(self, *parts: str) -> None:
        """Write an object without content, whose name says it all."""
        self.store.put(self.key(*parts), b"")

    def present(self, *parts: str) -> dict[str, int]:
        """Return the size of each object below a prefix, by its path below the place."""
        start = len(self.key()) + 1 if self.path else 0
        return {info.path[start:]: info.size for info in self.store.list(self.key(*parts))}

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects below it."""
        self.store.delete([self.key(name) for name in names])


def _exists(url: str) -> OccupiedError:
    hint = "Choose another destination, or pass overwrite=True"
    return OccupiedError(f"{url}: exists already", path=url, hint=hint)


class OccupiedError(ExistsError):
    """Another process writes the store now, or has just written it."""


class Uploads:
    """
    Writes files as objects below a place, several at a time; at the end of its block they are there.

    Shards that an earlier writer of a claim has written are not sent again.
    """

    def __init__(self, place: Place, claim: Claim | None = None) -> None:
        self._place, self._claim = place.patient(), claim
        self._queue = OrderedQueue[None](UPLOADS, UPLOADS, "upload")
        self._stack = ExitStack()

    def __enter__(self) -> Uploads:
        self._stack.enter_context(self._queue)
        return self

    def __exit__(self, *raised: Any) -> None:
        try:
            if raised[0] is None:
                self.wait()
        finally:
            self._stack.__exit__(*raised)

    def add(self, path: Path, name: str, keep: bool = False) -> None:
        """Write a file, and remove it then unless it is to be kept; raise what went wrong with earlier ones."""
        if self._claim is not None:
            self._claim.check()
        for _ in self._queue.submit(self._put, path, name, keep):
            pass

    def _put(self, path: Path, name: str, keep: bool) -> None:
        if self._claim is None or not self._claim.holds(path, name):
            self._place.put_file(path, name)
        if not keep:
            path.unlink()

    def wait(self) -> None:
        """Wait until all are there."""
        for _ in self._queue.finish():
            pass


@dataclass
class Claim:
    """The right to write a store, while its block lasts."""

    place: Place
    what: str
    """What is written: a claim of the same is gone on with."""
    overwrite: bool = False
    whatever: bool = False
    """Remove also what does not look like a store: its name says that it is one."""
    present: dict[str, int] = field(default_factory=dict, init=False)
    """Objects of an earlier writer of the same, and their sizes."""
    sign_seconds: float = SIGN_SECONDS
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        self._me = secrets.token_hex(8)
        self._tag: str | None = None
        self._lost: NdzarrError | None = None
        self._gone = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Claim:
        place = self.place
        place.refuse_existing(self.overwrite)
        before = self._take()
        try:
            found = place.present()
            found.pop(CLAIM, None)
            if ROOT in found and not self.overwrite:  # written since then
                before = None
                raise _exists(place.url)
            kept = before is not None and before.get("what") == self.what and before.get("clean") and ROOT not in found
            if found and not kept:
                if before is None and ROOT not in found and not self.whatever:
                    message = f"{place.url}: holds objects that are not those of a store, so it is not overwritten"
                    raise ExistsError(message, path=place.url, hint="Remove them, or choose another destination")
                place.remove([ROOT])  # readers see no store from here on
                place.remove([name for name in found if name != ROOT])
            self.present = found if kept else {}
            self._sign(clean=True)
        except BaseException:
            if before is None:
                place.remove([CLAIM])
            raise
        self._thread = threading.Thread(target=self._live, name="ndzarr-claim", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        self._stop()
        if kind is not None and not self.lost:
            self._sign(clean=True, holder=None)  # the next writer need not wait

    def _stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    @property
    def lost(self) -> bool:
        """True if the claim is not held any more."""
        return self._gone or self._lost is not None

    def holds(self, path: Path, name: str) -> bool:
        """Return True if an earlier writer of the same has written a file that holds pixels."""
        return self.present.get(name) == path.stat().st_size and not is_metadata(name)

    def check(self) -> None:
        """Raise an error if another writer took over."""
        if self._lost is not None:
            raise self._lost

    def publish(self, root: bytes) -> None:
        """Write the root's metadata: from now on there is a store.  Then remove what was there to write it."""
        self._stop()
        self.check()
        key = self.place.key(ROOT)
        try:
            self.place.store.put(key, root, create=True)
        except ExistsError:
            if bytes(self.place.store.get(key)[0]) != root:  # else an earlier attempt of this request came through
                raise
        self._gone = True
        self.place.remove(list(self.place.present(OWN)))

    def clear(self) -> None:
        """Remove everything that was written, and the claim."""
        self._stop()
        if not self.lost:
            self.place.remove([name for name in self.place.present() if name != CLAIM])
            self.place.remove([CLAIM])
            self._gone = True

    def _content(self, clean: bool, holder: str | None) -> bytes:
        host, pid = socket.gethostname(), os.getpid()
        content = {"holder": holder, "host": host, "pid": pid, "what": self.what, "clean": clean, "time": time.time()}
        return json.dumps(content).encode()

    def _sign(self, clean: bool, holder: str | None = "") -> None:
        holder = self._me if holder == "" else holder
        self._tag = self.place.store.put(self.place.key(CLAIM), self._content(clean, holder), tag=self._tag)

    def _live(self) -> None:
        while not self._ended.wait(self.sign_seconds):
            try:
                self._sign(clean=True)
            except ExistsError as error:
                if self._mine() is None:
                    url = self.place.url
                    self._lost = WriteError(f"{url}: another process took over writing it", path=url)
                    self._lost.__cause__ = error
                    return
            except NdzarrError:
                continue  # the network may come back before others lose patience

    def _mine(self) -> str | None:
        """Return the tag of the claim if this writer holds it: a request that was repeated came through before."""
        try:
            data, info = self.place.store.get(self.place.key(CLAIM))
        except MissingError:
            return None
        if _parsed(data).get("holder") != self._me:
            return None
        self._tag = info.tag
        return info.tag

    def _take(self) -> dict[str, Any] | None:
        """Make the claim, or take over that of a dead writer, which is returned."""
        key, store = self.place.key(CLAIM), self.place.store
        mine = self._content(False, self._me)
        while True:
            try:
                self._tag = store.put(key, mine, create=True)
                return None
            except ExistsError:
                pass
            except MissingError as error:
                message = f"{self.place.url}: there is no such bucket"
                raise MissingError(message, path=self.place.url, hint="Make it first, or check its name") from error
            try:
                data, info = store.get(key)
            except MissingError:
                continue  # its writer has just finished
            found = _parsed(data)
            if found.get("holder") == self._me:
                self._tag = info.tag
                return None
            if not _is_dead(found) and self._signs(info.tag):
                url = self.place.url
                raise OccupiedError(f"{url}: another process is writing it now", path=url, hint="Wait for it")
            try:
                self._tag = store.put(key, self._content(False, self._me), tag=info.tag)
                return found
            except ExistsError:
                continue

    def _signs(self, tag: str | None) -> bool:
        return _signs(self.place, tag, self.patience)


def _signs(place: Place, tag: str | None, patience: float) -> bool:
    """Return True if the writer that holds a claim gives a sign of life."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        time.sleep(min(1.0, patience / 10))
        try:
            if place.store.head(place.key(CLAIM)).tag != tag:
                return True
        except MissingError:
            return True
    return False


def is_being_written(place: Place) -> bool:
    """Return True if the store at a place is claimed by a writer that is alive; it may take `PATIENCE` to know."""
    try:
        data, info = place.store.get(place.key(CLAIM))
    except MissingError:
        return False
    return not _is_dead(_parsed(data)) and _signs(place, info.tag, PATIENCE)


def _parsed(data: Any) -> dict[str, Any]:
    try:
        found = json.loads(bytes(data))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_dead(claim: dict[str, Any]) -> bool:
    """Return True if a claim was given up, or its process ran on this machine and has ended."""
    if claim.get("holder") is None:
        return True
    pid = claim.get("pid")
    if claim.get("host") != socket.gethostname() or not isinstance(pid, int) or pid <= 0:
        return False
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def is_metadata(name: str) -> bool:
    """Return True for objects that make others visible, and are written after them."""
    return name.rpartition("/")[2] in ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")


def upload_tree(
    root: Path,
    uploads: Uploads,
    keep: bool = False,
    done: Callable[[Path], object] = lambda path: None,
) -> None:
    """Write all files below a directory but the root's metadata: first what holds pixels, then the other metadata."""
    uploads.wait()  # they remove what they have written
    files = sorted((path.relative_to(root).as_posix(), path) for path in root.rglob("*") if path.is_file())
    for last in (False, True):
        for name, path in files:
            if name == ROOT or is_metadata(name) is not last:
                continue
            uploads.add(path, name, keep)
            done(path)
        uploads.wait()


@contextmanager
def publishing_at(place: Place, what: str | None, overwrite: bool) -> Iterator[tuple[Path, Callable[[Path], object]]]:
    """
    Yield (a local directory to fill, a function for files in it that are complete); then it is the store at a place.

    Shards that are complete are written at once, and removed here.  `what` names all that they depend on: a writer of
    the same keeps those of one that was interrupted, or that the network stopped.  Nothing else leaves any.
    """
    what_else = what or secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="ndzarr-") as name, Claim(place, what_else, overwrite) as claim:
        root = Path(name)
        try:
            with Uploads(place, claim) as uploads:
                yield root, lambda path: uploads.add(path, path.relative_to(root).as_posix())
                upload_tree(root, uploads)
            claim.publish((root / ROOT).read_bytes())
        except BaseException as error:
            again = isinstance(error, NdzarrError) and not isinstance(error, WriteError | RequestError)
            if what is None or again:  # it would fail again in the same way
                claim.clear()
            raise
