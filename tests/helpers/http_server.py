"""
An HTTP/1.1 server on the loopback address, as far away and as faulty as a test or a benchmark wants it.

It serves and takes the files of a folder (GET with ranges, HEAD, PUT, DELETE; ETag, If-Match, If-None-Match; kept
connections), and counts requests, bytes and round trips.  It runs in a process of its own, so that it does not take
turns with the client for Python's lock; `HttpServer` starts it and talks to it through its standard input and output.
The module needs the standard library only.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

PIECE = 64 << 10
"""Bytes that are written at a time."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong with some of the requests."""

    kind: str
    """
    `503`, or another status: that instead of an answer.
    `reset`: the connection is cut before an answer; `short`: in the middle of it.
    `stall`: half of an answer, then silence.
    `whole`: the whole file and status 200, as from a server without ranges.
    `shifted`: the bytes behind those asked for, and a Content-Range that says so.
    `unstated`: no Content-Range.
    `changed`: another ETag each time, as if the file were written again and again.
    """
    share: float = 1.0
    """Probability that a request is hit."""
    times: int | None = None
    """Requests that are hit at most; None is no limit."""
    path: str = ""
    """Pattern (`re.search`) of the paths that are hit."""
    methods: Sequence[str] = ("GET",)
    retry_after: float | None = None
    """Seconds that a status tells the client to wait for."""


@dataclass(frozen=True)
class Counters:
    """What was asked of a server since it was last reset."""

    requests: int = 0
    sent: int = 0
    """Bytes of bodies of answers."""
    received: int = 0
    """Bytes of bodies of requests."""
    waves: int = 0
    """
    Round trips, one after another: a request belongs to the wave after that of the latest answer before it.  Set
    `gather` to count them exactly.
    """
    connections: int = 0
    faults: int = 0
    log: list[tuple[str, str, str, int]] = field(default_factory=list)
    """Method, path, range (or empty) and status of each request, in the order of the answers."""


class HttpServer:
    """
    A server in a process of its own; a context manager.

    Parameters
    ----------
    folder
        What is served and written to.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        command = [sys.executable, "-I", __file__, os.fspath(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.url = f"http://127.0.0.1:{self._answer()}"

    def settings(
        self,
        latency: float = 0.0,
        bandwidth: float | None = None,
        gather: float = 0.0,
        faults: Sequence[Fault] = (),
        seed: int = 0,
        ranges: bool = True,
        etags: bool = True,
    ) -> None:
        """
        Set how the server behaves from now on, and reset its counters.

        Parameters
        ----------
        latency
            Seconds from the arrival of a request to the first byte of its answer.
        bandwidth
            Bytes per second and connection; None is no limit.
        gather
            Requests wait until none has arrived for so many seconds, and are then answered together: each time is one
            wave, however long the client takes to send its requests.
        faults
            The first that hits a request counts.
        seed
            Of what is hit.
        ranges
            False for a server that knows no ranges, and does not claim to.
        etags
            False for a server without ETags.
        """
        chosen = {"latency": latency, "bandwidth": bandwidth, "gather": gather, "seed": seed}
        self._ask({**chosen, "ranges": ranges, "etags": etags, "faults": [asdict(fault) for fault in faults]})

    def counters(self) -> Counters:
        """Return what was asked since the last call of `settings` or `reset`."""
        found = self._ask({"what": "counters"})
        return Counters(**{**found, "log": [tuple(entry) for entry in found["log"]]})

    def reset(self) -> None:
        """Set the counters to zero."""
        self._ask({"what": "reset"})

    def close(self) -> None:
        """End the server, and whatever it still answers."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.terminate()  # its end of the pipe stays open where a forked child of this process has it, too
        self._process.wait()

    def __enter__(self) -> HttpServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, message: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"the server of {self.folder} has ended")
        return json.loads(line)


class Served(NamedTuple):
    """A folder that a server shows."""

    server: HttpServer
    url: str
    folder: Path


# ---------------------------------------------------------------------------------------------- in the server's process


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    wave: int


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class _Cut(Exception):
    """The connection is to be cut."""


class _Server:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._gathering: asyncio.Event | None = None
        self._arrived = 0.0
        self._set(
            {"faults": [], "latency": 0, "bandwidth": None, "gather": 0, "seed": 0, "ranges": True, "etags": True}
        )

    def _set(self, chosen: dict[str, Any]) -> None:
        self._faults = [Fault(**fault) for fault in chosen.pop("faults")]
        self._hits = [0] * len(self._faults)
        self._random = random.Random(chosen.pop("seed"))
        self._chosen = chosen
        self._reset()

    def _reset(self) -> None:
        self._counts = {"requests": 0, "sent": 0, "received": 0, "waves": 0, "connections": 0, "faults": 0}
        self._log: list[tuple[str, str, str, int]] = []
        self._answered = 0  # wave of the latest answer

    def command(self, message: dict[str, Any]) -> Any:
        """Answer one line of standard input."""
        if message.get("what") == "counters":
            return {**self._counts, "log": self._log}
        if message.get("what") == "reset":
            self._reset()
        else:
            self._set(message)
        return None

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self._counts["connections"] += 1
        transport: Any = writer.transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while (request := await self._request(reader)) is not None:
                await self._answer(request, reader, writer)
        except (_Cut, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            transport.abort()  # without waiting for what the client does not read

    async def _request(self, reader: asyncio.StreamReader) -> Request | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        self._counts["requests"] += 1
        self._arrived = time.monotonic()
        wave = self._answered + 1
        self._counts["waves"] = max(self._counts["waves"], wave)
        first, *lines = head.decode("latin1").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.split(":", 1) for line in lines if line)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self._counts["received"] += len(body)
        path = urllib.parse.unquote(urllib.parse.urlsplit(target).path)
        return Request(method, path, headers, body, wave)

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = time.monotonic()
        kind, retry_after = self._hit(request)
        if self._chosen["gather"]:
            await self._gathered()
        if wait := began + self._chosen["latency"] - time.monotonic():
            await asyncio.sleep(max(0.0, wait))
        answer = self._answer_to(request, kind, retry_after)
        self._answered = max(self._answered, request.wave)
        self._log.append((request.method, request.path, request.headers.get("range", ""), answer.status))
        if kind == "reset":
            raise _Cut
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin1"))
        body = b"" if request.method == "HEAD" else answer.body
        if kind in ("short", "stall"):
            body = body[: len(body) // 2]
        await self._write(writer, body)
        if kind == "short":
            raise _Cut
        if kind == "stall":
            await reader.read(1)  # until the client gives up
            raise _Cut

    def _hit(self, request: Request) -> tuple[str | None, float | None]:
        for k, fault in enumerate(self._faults):
            if request.method not in fault.methods or not re.search(fault.path, request.path):
                continue
            if (fault.times is None or self._hits[k] < fault.times) and self._random.random() < fault.share:
                self._hits[k] += 1
                self._counts["faults"] += 1
                return fault.kind, fault.retry_after
        return None, None

    async def _gathered(self) -> None:
        """Return when no request has arrived for `gather` seconds."""
        if self._gathering is None:
            self._gathering = event = asyncio.Event()
            while (rest := self._arrived + self._chosen["gather"] - time.monotonic()) > 0:
                await asyncio.sleep(rest)
            self._gathering = None
            event.set()
        else:
            await self._gathering.wait()

    async def _write(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        began, bandwidth = time.monotonic(), self._chosen["bandwidth"]
        for start in range(0, len(body), PIECE):
            piece = body[start : start + PIECE]
            if bandwidth:
                due = began + (start + len(piece)) / bandwidth - time.monotonic()
                if due > 1e-3:
                    await asyncio.sleep(due)
            writer.write(piece)
            self._counts["sent"] += len(piece)
            await writer.drain()
        await writer.drain()

    def _answer_to(self, request: Request, kind: str | None, retry_after: float | None) -> Answer:
        if kind is not None and kind.isdigit():
            headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
            return _plain(int(kind), headers)
        path = self._folder.joinpath(*(p for p in request.path.split("/") if p not in ("", ".", "..")))
        try:
            stat = path.stat()
            found = path.is_file()
        except (FileNotFoundError, NotADirectoryError):
            found = False
        etag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"' if found else ""
        if kind == "changed":
            etag = f'"{self._random.getrandbits(64):x}"'
        if refused := _precondition(request, found, etag):
            return _plain(refused)
        if request.method == "PUT":
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{self._random.getrandbits(64):x}")
            temporary.write_bytes(request.body)
            temporary.replace(path)
            stat = path.stat()
            return _plain(201, {"ETag": f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'})
        if not found:
            return _plain(404)
        if request.method == "DELETE":
            path.unlink()
            return _plain(204)
        if request.method not in ("GET", "HEAD"):
            return _plain(405)
        headers = {"Last-Modified": email.utils.formatdate(stat.st_mtime, usegmt=True)}
        if self._chosen["etags"]:
            headers["ETag"] = etag
        if self._chosen["ranges"]:
            headers["Accept-Ranges"] = "bytes"
        asked = _range(request.headers.get("range"), stat.st_size) if self._chosen["ranges"] else None
        if kind == "whole" or asked is None:
            status, start, stop = 200, 0, stat.st_size
        else:
            status, (start, stop) = 206, asked
            if start >= stop:
                return _plain(416, {"Content-Range": f"bytes */{stat.st_size}"})
            if kind == "shifted":
                start, stop = min(start + 1, stat.st_size - 1), min(stop + 1, stat.st_size)
            if kind != "unstated":
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stat.st_size}"
        headers["Content-Length"] = str(stop - start)
        if request.method == "HEAD":
            return Answer(status, headers, b"")
        with open(path, "rb") as file:
            return Answer(status, headers, os.pread(file.fileno(), stop - start, start))


def _plain(status: int, headers: dict[str, str] | None = None) -> Answer:
    body = b"" if status in (204, 304) else f"{status} {HTTPStatus(status).phrase}\n".encode()
    return Answer(status, {**(headers or {}), "Content-Length": str(len(body))}, body)


def _precondition(request: Request, found: bool, etag: str) -> int | None:
    """Return the status of a request whose conditions do not hold (RFC 9110, section 13)."""
    match, none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
    if match is not None and (not found or (match != "*" and etag not in match)):
        return 412
    if none_match is not None and found and (none_match == "*" or etag in none_match):
        return 304 if request.method in ("GET", "HEAD") else 412
    return None


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and end of the only range of a header (RFC 9110, section 14.1.2); None without one."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), size if not last else min(int(last) + 1, size)


async def _serve(folder: Path) -> None:
    """Serve until standard input ends."""
    server = _Server(folder)
    listening = await asyncio.start_server(server.connection, "127.0.0.1", 0, backlog=1024)
    print(listening.sockets[0].getsockname()[1], flush=True)
    commands = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        print(json.dumps(server.command(json.loads(line))), flush=True)
    os._exit(0)  # without a word about the connections that are open


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
