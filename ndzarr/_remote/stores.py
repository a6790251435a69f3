"""
Stores of objects, and requests to them.

A `RemoteStore` says how to reach a bucket, a server or a store object of the user's; it is small, can be pickled, and
works in any process.  `open_url` makes one.  What it sends goes through the budget of the process (`engine`).
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ndzarr._files import Bytes
from ndzarr._remote import urls
from ndzarr._remote.backends import Backend, Spec, make_backend
from ndzarr._remote.credentials import login
from ndzarr._remote.engine import Job, engine
from ndzarr._remote.relay import Failed
from ndzarr._remote.settings import Remote
from ndzarr.errors import DamagedError, ExistsError, MissingError, NdzarrError, OptionError, StoreError, WriteError

PART_BYTES = 8 << 20
"""Bytes of a part of a large upload; longer objects are sent in parts, several at a time."""


class ObjectInfo(NamedTuple):
    """What a server says of an object."""

    path: str
    size: int
    """In bytes; -1 if the store does not tell."""
    tag: str | None
    """Changes with the object: its ETag, else its time of modification; None if the store tells neither."""


class Range(NamedTuple):
    """Bytes of an object."""

    store: RemoteStore
    path: str
    start: int | None = None
    """First byte; the last -start bytes if it is negative; the whole object if it is None."""
    stop: int | None = None
    """Behind the last byte, where start is not negative."""
    tag: str | None = None
    """What `ObjectInfo.tag` was when the object was opened: another one is an error; None if it is not known."""
    optional: bool = False
    """An object that does not exist raises nothing: its answer is `ABSENT`."""
    version: str | None = None
    """Changes with the object, for the cache on disk, where its tag is not known."""
    session: Hashable = None
    """
    Something that an object of unknown version is read within, if not None.  Where there is a cache on the disk, it is
    asked for once, and counts as unchanged from then on.
    """
    end: bytes | None = None
    """The last bytes of the range when the object was written: others are damage, or of another version."""


ABSENT = ObjectInfo("", 0, None)
"""What is answered of an object that does not exist."""


class Landed(NamedTuple):
    """An answer to a `Range`."""

    number: int
    """Position of the range among those asked for."""
    data: Bytes
    """Read-only."""
    info: ObjectInfo


@dataclass(frozen=True)
class RemoteStore:
    """A bucket, a container, a web server, or a store object of the user's."""

    name: str
    """Its URL, without secrets: 's3://bucket', 'https://example.org'."""
    kind: str
    """'s3', 'gs', 'az', 'http', or 'object' for what the user opened."""
    settings: Remote = field(default_factory=Remote)
    tried: str = field(default="those of the store object", repr=False)
    """Where the credentials are from, for messages."""
    spec: Spec = field(default=("", None), repr=False, compare=False)
    identity: str = field(default="", repr=False)
    """Tells stores of the same name with other options apart; may hold secrets."""

    def url(self, path: str) -> str:
        """Return the URL of an object, without secrets."""
        return f"{self.name}/{path}" if path else self.name

    def backend(self) -> Backend:
        """Return what makes requests in this process."""
        key = os.getpid(), self.name, self.identity, self.settings.timeout
        with _LOCKS.setdefault(key[0], threading.Lock()):
            found = _BACKENDS.get(key)
            if found is None:
                try:
                    found = make_backend(self.spec)
                except NdzarrError:
                    raise
                except Exception as error:  # obstore's, of options; their text may hold secrets
                    message = f"{self.name}: the options are not understood by obstore ({type(error).__name__})"
                    raise OptionError(message, path=self.name, key="storage_options") from None
                _BACKENDS[key] = found
        return found

    def get(
        self, path: str, start: int | None = None, stop: int | None = None, *, exact: bool = True
    ) -> tuple[Bytes, ObjectInfo]:
        """
        Return bytes of an object, all by default, with one request; a negative start means the last -start bytes.

        Raises `MissingError` if there is no such object, and `StoreError` as all requests do: also if it ends before
        `stop`, unless `exact` is False.
        """
        job = self._call("get", (path, start, stop), stop - start if exact and start is not None and stop else None)
        size, tag, _ = job.facts
        data = np.frombuffer(job.body, np.uint8)
        return data, ObjectInfo(path, data.size if size < 0 and start is None else size, tag)

    async def get_async(self, path: str, start: int | None = None, stop: int | None = None) -> Bytes | None:
        """Return bytes as `get`, for other event loops; None if there is no such object."""
        loop = asyncio.get_running_loop()
        landed: asyncio.Future[Job] = loop.create_future()

        def settle(job: Job) -> None:
            if not landed.done():
                landed.set_result(job)

        def land(job: Job) -> None:
            loop.call_soon_threadsafe(settle, job)

        waiting = self.job("get", (path, start, stop), land)
        engine().submit([waiting])
        try:
            job = await landed
        except asyncio.CancelledError:
            engine().cancel([waiting])
            raise
        if isinstance(job.error, Failed) and job.error.kind == "missing":
            return None
        if job.error is not None:
            raise explained(self, job)
        return np.frombuffer(job.body, np.uint8)

    def head(self, path: str) -> ObjectInfo:
        """Return size and tag of an object; raise `MissingError` if there is none."""
        return ObjectInfo(path, *self._call("head", (path,)).facts)

    def exists(self, path: str) -> bool:
        """Return True if there is an object."""
        try:
            self.head(path)
        except MissingError:
            return False
        return True

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """Return all objects below a prefix, which ends at a slash of their paths."""
        return [ObjectInfo(*found) for found in self._call("list", (prefix,)).facts]

    def put(self, path: str, data: Any, *, create: bool = False, tag: str | None = None) -> str | None:
        """
        Write an object, in parts if it is large; return its tag.

        If `create`, it must not exist; with a `tag`, it must still be the object of that tag. Otherwise raises
        `ExistsError`.
        """
        mode: Any = "create" if create else "overwrite" if tag is None else {"e_tag": tag}
        found: str | None = self._call("put", (path, mode, PART_BYTES), data=data).facts
        return found

    def delete(self, paths: Sequence[str]) -> None:
        """Remove objects; those that do not exist are passed over."""
        if paths:
            self._call("delete", ([*paths],))

    def _call(self, operation: str, args: tuple[Any, ...], expected: int | None = None, data: Any = None) -> Job:
        job = self.job(operation, args, _ignore, expected, data)
        engine().call(job)
        if job.error is not None:
            raise explained(self, job)
        return job

    def job(
        self,
        operation: str,
        args: tuple[Any, ...],
        done: Callable[[Job], object],
        expected: int | None = None,
        data: Any = None,
    ) -> Job:
        """Return a request that has not begun."""
        return Job(self.backend, operation, args, self.settings, self.name, done, data, expected)


def _ignore(_: Job) -> None:
    pass


class RequestError(StoreError):
    """A request failed for a reason that says nothing about what is stored."""


_BACKENDS: dict[tuple[Any, ...], Backend] = {}
"""(process, store) to what makes its requests; those of a parent are never closed in a child."""
_LOCKS: dict[int, threading.Lock] = {}


def open_url(
    url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None, remote: Remote | None = None
) -> tuple[RemoteStore, str]:
    """
    Return the store that a URL names, and the path in it; nothing is requested.

    Raises
    ------
    OptionError
        An option is not known.
    StoreError
        The URL names no object, or what opens it is not installed.
    """
    text, settings = os.fspath(url), remote or Remote()
    address = urls.parse(text)
    if not address.kind:
        return _through_fsspec(text, storage_options, settings)
    found = login(address, storage_options, settings.timeout)
    spec = _SPECS[address.kind](address, found.options)
    identity = json.dumps([address.query, address.user, found.options], sort_keys=True, default=repr)
    return RemoteStore(address.root, address.kind, settings, found.tried, ("obstore", spec), identity), address.path


def _http(address: urls.Address, options: dict[str, Any]) -> Any:
    scheme, _, host = address.root.partition("://")
    user = f"{address.user}@" if address.user else ""
    query = f"?{address.query}" if address.query else ""
    return "HTTPStore", (f"{scheme}://{user}{host}/{query}",), options


def _of_bucket(name: str) -> Callable[[urls.Address, dict[str, Any]], Any]:
    def spec(address: urls.Address, options: dict[str, Any]) -> Any:
        return name, (address.root.partition("://")[2].partition("@")[0],), options

    return spec


_SPECS = {"s3": _of_bucket("S3Store"), "gs": _of_bucket("GCSStore"), "az": _of_bucket("AzureStore"), "http": _http}


def _through_fsspec(url: str, options: Mapping[str, Any] | None, settings: Remote) -> tuple[RemoteStore, str]:
    name = urls.shown(url)
    try:
        import fsspec  # type: ignore[import-untyped]  # comes with the extra `remote`

        fs, path = fsspec.core.url_to_fs(url, **(options or {}))
    except ImportError as error:
        message = f"{name}: reading it needs another package ({error})"
        raise StoreError(message, path=name, hint="Run pip install 'ndzarr[remote]'") from error
    except ValueError as error:
        message = f"{name}: no package knows this kind of address"
        raise StoreError(message, path=name, hint="Check the address") from error
    return _of_fsspec(fs, path, name.partition("://")[0], settings)


def _of_fsspec(fs: Any, path: str, protocol: str, settings: Remote) -> tuple[RemoteStore, str]:
    root = "/" if path.startswith("/") else ""  # of the local file system
    store = _wrapped("fsspec", (fs, root), f"{protocol}:/{root}", settings)
    return store, path.strip("/")


def open_object(store: Any, path: str = "", remote: Remote | None = None) -> tuple[RemoteStore, str]:
    """
    Return a store object of obstore, fsspec or zarr-python as a `RemoteStore`, and the path in it.

    Raises `OptionError` for any other object.
    """
    settings = remote or Remote()
    module = type(store).__module__.partition(".")[0]
    bases = {base.__module__.partition(".")[0] for base in type(store).__mro__}
    kind = type(store).__name__
    if module == "zarr" and kind == "ObjectStore":
        store, bases = store.store, {"obstore"}
    elif module == "zarr" and kind == "FsspecStore":
        path, store, bases = _inside(store.path, path), store.fs, {"fsspec"}
    elif kind == "FSMap" and hasattr(store, "fs"):
        path, store, bases = _inside(store.root, path), store.fs, {"fsspec"}
    if "obstore" in bases:
        return _wrapped("obstore", store, _named(store), settings), path.strip("/")
    if "fsspec" in bases:
        return _of_fsspec(store, path, _protocol(store), settings)
    if "zarr" in bases:
        return _wrapped("zarr", store, f"{kind}:/", settings), path.strip("/")
    message = f"store={kind}: expected a store of obstore, a file system of fsspec, or a store of zarr-python"
    raise OptionError(message, key="store")


def _inside(root: str, path: str) -> str:
    """Return a path of a file system; that of a local one begins with a slash."""
    return "/".join(part for part in (root, path) if part)


def _named(store: Any) -> str:
    """Return the URL of a store of obstore, without secrets."""
    config = getattr(store, "config", None) or {}
    prefix = getattr(store, "prefix", None)
    bucket = config.get("bucket") or config.get("container_name")
    scheme = {"S3Store": "s3", "GCSStore": "gs", "AzureStore": "az"}.get(type(store).__name__)
    if scheme and bucket:
        return f"{scheme}://{urls.joined(bucket, str(prefix or ''))}"
    url = getattr(store, "url", None)
    return urls.shown(str(url)).rstrip("/") if url else f"{type(store).__name__}:/"


def _protocol(fs: Any) -> str:
    found = fs.protocol
    return found if isinstance(found, str) else str(found[0])


def _wrapped(kind: str, what: Any, name: str, settings: Remote) -> RemoteStore:
    # The object is kept, so that no other gets its id.
    return RemoteStore(name, "object", settings, spec=(kind, what), identity=f"{kind} {id(what)} {os.getpid()}")


def explained(store: RemoteStore, job: Job) -> NdzarrError:
    """Return the error of a job that failed, with its URL, range and attempts; never with a secret."""
    error = job.error
    if isinstance(error, NdzarrError):
        return error
    path = job.args[0] if isinstance(job.args[0], str) else ""
    url = store.url(path)
    if not isinstance(error, Failed):
        raise error or AssertionError(job)
    kind, said = error.kind, f" ({error.detail})" if error.detail else ""
    writing = job.operation in ("put", "delete")
    if kind == "missing":
        what = "bucket" if any(code in said for code in ("NoSuchBucket", "ContainerNotFound")) else "object"
        return MissingError(f"{url}: there is no such {what}{said}", path=url, hint="Check the address")
    if kind == "denied":
        message = f"{url}: access was denied{said}; the credentials tried were {store.tried}"
        hint = "Pass storage_options with valid credentials, or anon=True if it is public"
        return (WriteError if writing else RequestError)(message, path=url, key="storage_options", hint=hint)
    if kind in ("exists", "changed") and writing:
        return ExistsError(f"{url}: exists already, or was changed meanwhile{said}", path=url)
    if kind == "changed":
        return changed(url)
    if kind == "whole":
        message = f"{url}: its server ignores range requests (as `python -m http.server`){_times(job)}"
        return RequestError(message, path=url, hint="Use a server that answers range requests, or copy the file")
    if kind == "region":
        message = f"{url}: the bucket is in another region{said}"
        return RequestError(
            message, path=url, key="region", hint="Pass storage_options={'region': ...}, or set AWS_REGION"
        )
    if kind == "missing range":
        message = f"{url}: ends before {_range(job)}{said}"
        return DamagedError(message, path=url, hint="Open it again if it was replaced, else write it again")
    if kind == "option":
        return OptionError(f"{url}: the options are not understood{said}", path=url, key="storage_options")
    what = _FAILURES.get(kind, "the request failed")
    message = f"{url}: {what}{said} for {_range(job)}{_times(job)}"
    return (WriteError if writing else RequestError)(message, path=url, hint=_HINTS.get(kind))


_FAILURES = {
    "busy": "the server is busy",
    "connection": "the connection failed",
    "timeout": "the server did not answer in time",
    "short": "the server sent too little",
}
_HINTS = {
    "busy": "Try again later, or lower Remote.inflight",
    "connection": "Check the address and the network",
    "timeout": "Check the network, or raise Remote.timeout",
    "short": "Check the server, or the proxy before it",
}


ON_CHANGE: list[Callable[[str], object]] = []
"""Called with the URL of each object that was found to be another one than when it was opened."""


def changed(url: str) -> StoreError:
    """Return the error for an object that is another one than when it was opened."""
    for forget in ON_CHANGE:
        forget(url)
    return StoreError(f"{url}: was changed since it was opened", path=url, hint="Open it again")


def _range(job: Job) -> str:
    if job.operation != "get" or job.args[1] is None:
        return {"get": "the object"}.get(job.operation, f"the operation {job.operation!r}")
    start, stop = job.args[1:3]
    return f"the last {-start} bytes" if start < 0 else f"bytes {start} to {stop}"


def _times(job: Job) -> str:
    return f", {job.attempts} attempts" if job.attempts > 1 else ""
