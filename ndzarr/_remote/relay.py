"""
Requests to obstore, and a process that makes them for a forked child.

obstore runs in threads that a fork does not copy: in a child of a process that has used it, each call waits for ever.
Such a child starts this file as a program, and talks to it through a socket: each message is a header (lengths of two
parts), a pickled tuple, and bytes.  The program ends with its end of the socket.  This file imports obstore alone, so
that it starts quickly.
"""

from __future__ import annotations

import asyncio
import pickle
import re
import socket
import struct
import sys
from typing import Any

HEADER = struct.Struct("<II")
"""Lengths of the pickled tuple and of the bytes that follow it."""


class Failed(Exception):
    """A request failed: `kind` says how, `detail` is what may be shown of it (no URL, no text of the server)."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind, self.detail = kind, detail

    @property
    def transient(self) -> bool:
        """True if the same request may succeed a little later."""
        return self.kind in ("busy", "connection", "timeout", "short", "whole")


def made(spec: Any) -> Any:
    """Return the obstore object of a specification: (name of the class, positional arguments, options), or itself."""
    if not isinstance(spec, tuple):
        return spec
    from datetime import timedelta

    import obstore.store

    name, args, options = spec
    second = timedelta(seconds=1)
    # ndzarr repeats requests itself, so that it can count them.
    no_retries = {
        "max_retries": 0,
        "retry_timeout": 180 * second,
        "backoff": {"init_backoff": 0.1 * second, "max_backoff": 15 * second, "base": 2.0},
    }
    cls = getattr(obstore.store, name)
    build = cls.from_url if name == "HTTPStore" else cls
    return build(*args, retry_config=no_retries, **options)


async def perform(store: Any, operation: str, args: tuple[Any, ...], data: Any = None) -> tuple[Any, Any]:
    """Make a request; return (facts, bytes or None).  Raises `Failed` alone."""
    try:
        answer: tuple[Any, Any] = await _OPERATIONS[operation](store, data, *args)
    except Failed:
        raise
    except Exception as error:  # obstore's exceptions have no common builtin base in all of its releases
        kind, detail = describe(error)
        # The text of the error holds the URL with its query, and what the server said.
        raise Failed(kind, detail) from None
    return answer


async def _get(store: Any, _: Any, path: str, start: int | None, stop: int | None) -> tuple[Any, Any]:
    """Return ((size, tag, where the bytes begin), bytes): from start to stop, the last -start, or all if it is None."""
    options: Any = None
    if start is not None:
        options = {"range": {"suffix": -start} if start < 0 else (start, stop)}
    return await _got(store, path, start, options)


async def _get_unless(store: Any, _: Any, path: str, tag: str) -> tuple[Any, Any]:
    """Return an object as `_get`, unless it has this tag, which is a failure of kind 'unchanged'."""
    return await _got(store, path, None, {"if_none_match": tag})


async def _got(store: Any, path: str, start: int | None, options: Any) -> tuple[Any, Any]:
    import obstore

    result = await obstore.get_async(store, path, options=options)
    meta, (begin, end) = result.meta, result.range
    data = await result.bytes_async()
    if len(data) != end - begin or (start is not None and start >= 0 and begin != start):
        raise Failed("short", f"{len(data)} bytes instead of {end - begin}")
    return (meta["size"], _tag(meta), begin), data


async def _head(store: Any, _: Any, path: str) -> tuple[Any, Any]:
    import obstore

    meta = await obstore.head_async(store, path)
    return (meta["size"], _tag(meta)), None


async def _list(store: Any, _: Any, prefix: str) -> tuple[Any, Any]:
    import obstore

    batches = obstore.list(store, prefix or None, chunk_size=1000)
    return [(meta["path"], meta["size"], _tag(meta)) async for batch in batches for meta in batch], None


async def _put(store: Any, data: Any, path: str, mode: Any, part: int) -> tuple[Any, Any]:
    import obstore

    multipart = len(data) > part and mode == "overwrite"
    options: dict[str, Any] = {"chunk_size": part, "use_multipart": multipart}
    if mode != "overwrite":
        options["mode"] = mode
    result = await obstore.put_async(store, path, data, **options)
    return result.get("e_tag"), None


async def _delete(store: Any, _: Any, paths: list[str]) -> tuple[Any, Any]:
    import obstore

    await obstore.delete_async(store, paths)
    return None, None


_OPERATIONS: dict[str, Any] = {
    "get": _get,
    "get_unless": _get_unless,
    "head": _head,
    "list": _list,
    "put": _put,
    "delete": _delete,
}


def _tag(meta: Any) -> str | None:
    """Return what changes with the object: its ETag, else its time and size; None if the server tells neither."""
    if meta.get("e_tag"):
        return str(meta["e_tag"])
    time = meta.get("last_modified")
    return None if time is None or time.year <= 1970 else f"{time.isoformat()} {meta['size']}"


_KINDS = {
    "FileNotFoundError": "missing",
    "NotFoundError": "missing",
    "PermissionDeniedError": "denied",
    "UnauthenticatedError": "denied",
    "PreconditionError": "changed",
    "NotModifiedError": "unchanged",
    "AlreadyExistsError": "exists",
    "InvalidPathError": "invalid",
    "UnknownConfigurationKeyError": "option",
}
"""obstore's exceptions to kinds of failures."""
_STATUS = re.compile(r"status(?: code)?:? (\d{3})|Client error with status (\d{3})|Server error.*?(\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")


def describe(error: BaseException) -> tuple[str, str]:
    """Return the kind of an error of obstore, and of its text what holds no secrets: status and code."""
    text = str(error)
    found = _STATUS.search(text)
    status = next((group for group in found.groups() if group), "") if found else ""
    code = _CODE.search(text)
    said = " ".join([f"HTTP {status}" if status else "", code[1] if code else ""]).strip()
    kind = _KINDS.get(type(error).__name__)
    if kind is not None:
        return kind, said
    if "Range request not supported" in text or "non-partial response" in text or "RangeNotSupported" in text:
        return "whole", said
    if status == "416":
        return "missing range", said
    if status in ("401", "403"):
        return "denied", said
    if status in ("404", "410"):
        return "missing", said
    if status in ("408", "409", "425", "429") or status.startswith("5"):
        return "busy", said
    if "redirect without LOCATION" in text:
        return "region", said
    if "UnexpectedRange" in text or ("Requested " in text and ", got " in text):
        return "short", "another range than was asked for"
    if "Content-Range" in text or "ContentRange" in text:
        return "short", "the answer does not say which bytes it holds"
    if "TimedOut" in text or "Timeout" in text or "timed out" in text:
        return "timeout", said
    if "dns error" in text:
        return "connection", "the name of the host is not known"
    if "Connection refused" in text or "ConnectionRefused" in text:
        return "connection", "refused"
    if any(word in text for word in ("error sending request", "body error", "Interrupted", "Connect", "hyper")):
        return "connection", said
    if any(word in text.lower() for word in ("credential", "imds", "169.254", "metadata token", "oauth")):
        return "denied", "no credentials were found"
    return "other", said or type(error).__name__


def pack(header: Any, data: Any = None) -> tuple[bytes, Any]:
    """Return a message: the head, and the bytes to send after it."""
    body = pickle.dumps(header)
    view = memoryview(b"" if data is None else data)
    return HEADER.pack(len(body), view.nbytes) + body, view


async def receive(reader: asyncio.StreamReader) -> tuple[Any, bytes]:
    """Return (tuple, bytes) of the next message; raise `asyncio.IncompleteReadError` at the end."""
    lengths = HEADER.unpack(await reader.readexactly(HEADER.size))
    body = await reader.readexactly(lengths[0])
    return pickle.loads(body), await reader.readexactly(lengths[1]) if lengths[1] else b""


async def serve(connection: socket.socket) -> None:
    """Make the requests that come in through a socket, until it is closed."""
    reader, writer = await asyncio.open_connection(sock=connection, limit=1 << 22)
    stores: dict[int, Any] = {}
    tasks: dict[int, asyncio.Task[None]] = {}

    async def answer(number: int, store: int, operation: str, args: tuple[Any, ...], data: bytes) -> None:
        try:
            facts, found = await perform(stores[store], operation, args, data)
            head, view = pack((number, True, facts), found)
        except Failed as failed:
            head, view = pack((number, False, (failed.kind, failed.detail)))
        writer.write(head)
        if view.nbytes:
            writer.write(view)
        tasks.pop(number, None)

    while True:
        try:
            (number, operation, *rest), data = await receive(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            break
        if operation == "open":
            try:
                stores[rest[0]] = made(pickle.loads(data))
            except Exception as error:  # obstore's, of options; or of unpickling an object of the user's
                head, _ = pack((number, False, ("option", type(error).__name__)))
            else:
                head, _ = pack((number, True, None))
            writer.write(head)
        elif operation == "cancel":
            if (task := tasks.pop(rest[0], None)) is not None:
                task.cancel()
        else:
            tasks[number] = asyncio.create_task(answer(number, rest[0], operation, rest[1], data))


if __name__ == "__main__":
    sys.path[:] = pickle.loads(bytes.fromhex(sys.argv[2]))  # before: where objects of the user's are imported from
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
