"""
What makes requests: obstore in this process, obstore in a process of its own, fsspec, or a Zarr store.

obstore must not be used in a child of a process that has used it (see `relay`). Whether this one may is decided once
per process, by `_usable`.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from typing import Any, Protocol, TypeAlias

from ndzarr._remote import relay
from ndzarr._remote.relay import Failed
from ndzarr.errors import StoreError

Spec: TypeAlias = "tuple[str, Any]"
"""How to make a backend, in any process: ('obstore' | 'fsspec' | 'zarr', what it is made of)."""


class Backend(Protocol):
    """Makes the requests of one store, in the event loop of its process."""

    async def perform(self, operation: str, args: tuple[Any, ...], data: Any = None) -> tuple[Any, Any]:
        """Make a request, see `relay.perform`; raise `Failed`."""


def make_backend(spec: Spec) -> Backend:
    """Return what makes the requests of a store in this process."""
    kind, what = spec
    if kind == "fsspec":
        return _Fsspec(*what)
    if kind == "zarr":
        return _ZarrStore(what)
    return _Obstore(what) if _usable() else _Relayed(what)


class _Obstore:
    """obstore in this process."""

    def __init__(self, spec: Any) -> None:
        self._store = relay.made(spec)

    async def perform(self, operation: str, args: tuple[Any, ...], data: Any = None) -> tuple[Any, Any]:
        return await relay.perform(self._store, operation, args, data)


_owner = 0
"""The process that uses obstore; 0 if none of this one and its ancestors does."""
_PATIENCE = 2.0
"""Seconds that a request to memory takes at most where obstore works."""


def _usable() -> bool:
    """Return True if obstore works in this process."""
    global _owner
    if _owner in (0, os.getpid()):
        foreign = _owner == 0 and "obstore" in sys.modules
        try:
            import obstore.store
        except ImportError as error:
            message = "buckets and web servers are read with obstore, which is not installed"
            raise StoreError(message, hint="Run pip install 'ndzarr[remote]'") from error
        # Somebody else may have used it, here or before a fork.
        if not foreign or _answers(obstore.store.MemoryStore()):
            _owner = os.getpid()
            return True
        _owner = -1
    return False


def _answers(store: Any) -> bool:
    """Return True if the threads of obstore answer: a fork does not copy them."""
    import obstore

    answered = []

    async def ask() -> None:
        await asyncio.wait_for(obstore.put_async(store, "a", b"a"), _PATIENCE)
        answered.append(True)

    def run() -> None:
        with suppress(asyncio.TimeoutError):
            asyncio.run(ask())

    thread = threading.Thread(target=run, daemon=True)  # a loop of its own: this thread may be running one
    thread.start()
    thread.join(2 * _PATIENCE)
    return bool(answered)


class _Relay:
    """A process that uses obstore for this one, started with the first request."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[tuple[Any, Any]]] = {}
        self._started: asyncio.Task[asyncio.StreamWriter] | None = None
        self._listening: asyncio.Task[None] | None = None

    async def ask(self, operation: str, args: tuple[Any, ...], data: Any = None) -> tuple[Any, Any]:
        """Send a message and wait for its answer."""
        if self._started is None:
            self._started = asyncio.create_task(self._start())
        writer = await asyncio.shield(self._started)
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        head, view = relay.pack((number, operation, *args), data)
        writer.write(head)
        if view.nbytes:
            writer.write(view)
        try:
            found: tuple[Any, Any] = await answer
        except asyncio.CancelledError:
            writer.write(relay.pack((number, "cancel", number))[0])
            raise
        finally:
            self._answers.pop(number, None)
        return found

    async def _start(self) -> asyncio.StreamWriter:
        ours, theirs = socket.socketpair()
        path = pickle.dumps(sys.path).hex()
        with theirs:
            # Started without the locks and threads of this process: it runs a new program.
            subprocess.Popen(
                [sys.executable, "-P", relay.__file__, str(theirs.fileno()), path],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 22)
        self._listening = asyncio.create_task(self._listen(reader))
        return writer

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                (number, good, facts), data = await relay.receive(reader)
                answer = self._answers.get(number)
                if answer is None or answer.done():
                    continue
                if good:
                    answer.set_result((facts, data))
                else:
                    answer.set_exception(Failed(*facts))
        except (asyncio.IncompleteReadError, ConnectionError):
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(Failed("other", "the process that makes the requests has ended"))
            self._started = None


_RELAYS: dict[int, _Relay] = {}
"""Process to the relay that it has started."""


class _Relayed:
    """obstore in a process of its own."""

    _number: count[int] = count(1)

    def __init__(self, spec: Any) -> None:
        self._relay = _RELAYS.setdefault(os.getpid(), _Relay())
        self._spec = pickle.dumps(spec)
        self._id = next(self._number)
        self._opened: asyncio.Task[tuple[Any, Any]] | None = None

    async def perform(self, operation: str, args: tuple[Any, ...], data: Any = None) -> tuple[Any, Any]:
        if self._opened is None:
            self._opened = asyncio.create_task(self._relay.ask("open", (self._id,), self._spec))
        await asyncio.shield(self._opened)
        return await self._relay.ask(operation, (self._id, args), data)


class _Fsspec:
    """A file system of fsspec, whose calls wait in threads."""

    def __init__(self, fs: Any, root: str) -> None:
        self._root = root
        # Its event loop is that of the process that made it.
        self._fs = pickle.loads(pickle.dumps(_synchronous(fs)))
        self._pool = ThreadPoolExecutor(64, "ndzarr-fsspec")

    async def perform(self, operation: str, args: tuple[Any, ...], data: Any = None) -> tuple[Any, Any]:
        call: Callable[..., tuple[Any, Any]] = getattr(self, f"_{operation}")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: call(*args, data=data))
        except (FileNotFoundError, IsADirectoryError):
            raise Failed("missing") from None
        except FileExistsError:
            raise Failed("exists") from None
        except PermissionError:
            raise Failed("denied") from None
        except (Failed, NotImplementedError):
            raise
        except Exception as error:  # file systems have errors of their own
            status = getattr(error, "status", "")
            kind = "denied" if status in (401, 403) else "busy" if status == 429 or str(status)[:1] == "5" else "other"
            found = isinstance(error, (OSError, TimeoutError, asyncio.TimeoutError)) and kind == "other"
            raise Failed("connection" if found else kind, f"{type(error).__name__} {status}".strip()) from None

    def _get(self, path: str, start: int | None, stop: int | None, data: Any) -> tuple[Any, Any]:
        found = self._fs.cat_file(self._root + path, start=start, end=stop)
        if start is not None and stop is not None and len(found) > stop - start:
            raise Failed("whole")
        begin = 0 if start is None else start if start >= 0 else -1
        return (-1, None, begin), found

    def _head(self, path: str, data: Any) -> tuple[Any, Any]:
        info = self._fs.info(self._root + path)
        tag = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created")
        return (int(info.get("size") or 0), None if tag is None else str(tag)), None

    def _list(self, prefix: str, data: Any) -> tuple[Any, Any]:
        top = self._root + prefix
        # References of kerchunk say that their root does not exist.
        found = self._fs.find(top, detail=True) if not top or self._fs.exists(top) else {}
        return [(name.removeprefix(self._root), int(info.get("size") or 0), None) for name, info in found.items()], None

    def _put(self, path: str, mode: Any, part: int, data: Any) -> tuple[Any, Any]:
        if mode != "overwrite" and self._fs.exists(self._root + path):
            raise Failed("exists" if mode == "create" else "changed")
        self._fs.pipe_file(self._root + path, bytes(data))
        return None, None

    def _delete(self, paths: list[str], data: Any) -> tuple[Any, Any]:
        for path in paths:
            self._fs.rm_file(self._root + path)
        return None, None


def _synchronous(fs: Any) -> Any:
    """Return a file system whose calls wait, of one that zarr-python made for its event loop."""
    if (inner := getattr(fs, "sync_fs", None)) is not None:
        return inner
    if getattr(fs, "asynchronous", False):
        return type(fs)(*fs.storage_args, **{**fs.storage_options, "asynchronous": False})
    return fs


_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


class _ZarrStore:
    """A store object of zarr-python."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def perform(self, operation: str, args: tuple[Any, ...], data: Any = None) -> tuple[Any, Any]:
        from zarr.abc.store import RangeByteRequest, SuffixByteRequest
        from zarr.core.buffer import default_buffer_prototype

        await self._store._ensure_open()  # of a zip
        if operation == "list":
            return [(name, -1, None) async for name in self._store.list_prefix(args[0])], None
        if operation not in ("get", "head"):
            raise Failed("other", "this store is open for reading")
        path, start, stop = args if operation == "get" else (*args, None, None)
        wanted: Any = None
        if path.rpartition("/")[2] in _METADATA:  # as a whole: some stores fail where a range ends behind the object
            found = await self._store.get(path, default_buffer_prototype(), None)
            if found is None:
                raise Failed("missing")
            body = found.to_bytes()
            return (
                ((len(body), None), None) if operation == "head" else ((len(body), None, start or 0), body[start:stop])
            )
        if start is not None:
            wanted = SuffixByteRequest(-start) if start < 0 else RangeByteRequest(start, stop)
        found = await self._store.get(path, default_buffer_prototype(), wanted)
        if found is None:
            raise Failed("missing")
        body = found.to_bytes()
        if operation == "head":
            return (len(body), None), None
        return (-1, None, start if start is not None and start >= 0 else -1 if start else 0), body
