"""
The server of the viewer: a page on the loopback address.

The path of every URL begins with a token that nobody can guess, so that other users and other pages cannot ask for
anything.  A `Host` that is not the loopback address is refused, since a foreign name may be made to resolve to it (DNS
rebinding); so are requests that another page sends.  URLs name what was opened by its number, and never a path.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, Self, cast
from urllib.parse import parse_qs, urlsplit

from ndzarr._sampling.named_sources import Named, NamedSource
from ndzarr._viewer.items import Item, Position, Source, items_of
from ndzarr._viewer.overlays import TargetWindows, annotations_of, categories_of
from ndzarr._viewer.render import Display, png, rgb
from ndzarr.errors import NdzarrError, OptionError, TargetError
from ndzarr.targets.table import TargetsLike

ADDRESS = "127.0.0.1"
HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""Names by which a browser may call this machine; a tunnel may have another port."""
LISTED = 200
"""Most items that are listed at a time."""
IDLE = 120
"""Seconds after which a silent connection is closed."""

STATIC = {
    "": ("index.html", "text/html; charset=utf-8"),
    "viewer.css": ("viewer.css", "text/css; charset=utf-8"),
    "viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "openseadragon.min.js": ("openseadragon.min.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Name in the URL to the file of the package, and its type."""

STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
"""Digest of the one style sheet that OpenSeadragon 6.1.1 writes into the page."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; script-src 'self'; style-src 'self' {STYLE}; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Viewer:
    """
    A page in the browser that shows images, annotations and targets, until it is closed.

    `sampler.view()` returns it.  It is a context manager.

    Attributes
    ----------
    url
        Address of the page, with the token that gives access to it.
    """

    def __init__(self, items: Sequence[Item], beside: int | None, targets: TargetWindows | None, port: int) -> None:
        self.items = items
        self.beside = beside
        """Position of the item that is shown beside the first one."""
        self.targets = targets
        self.token = secrets.token_urlsafe(24)
        try:
            self._server = _Server((ADDRESS, port), self)
        except (OSError, OverflowError) as error:
            what = f"port={port!r} of {ADDRESS} cannot be used ({getattr(error, 'strerror', error)})"
            raise OptionError(what, key="port", hint="Choose another, or 0 for any") from error
        self.url = f"http://{ADDRESS}:{self._server.server_port}/{self.token}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="ndzarr-view", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<ndzarr viewer of {len(self.items)} at {self.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def wait(self) -> None:
        """Wait until the viewer is closed, or Ctrl-C is pressed."""
        self._thread.join()

    def close(self) -> None:
        """Stop serving the page."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def view(source: Source, targets: TargetsLike | None, beside: Named | None, port: int, browser: bool) -> Viewer:
    """Serve a sample source; see `CocoSampler.view`."""
    items = list(items_of(source))
    if not items:
        raise TargetError("there is no image to show", hint="Give a source that has images")
    position = None
    if beside is not None:
        items += items_of(NamedSource({str(getattr(beside, "path", beside)): beside}, source.library))
        position = len(items) - 1
    windows = None if targets is None else TargetWindows(targets, source)
    for item in items if len(items) == 1 else items[-1:] if position else ():
        item.about()  # what was named and cannot be opened is said here; one of many, on the page
    viewer = Viewer(items, position, windows, port)
    if browser:
        webbrowser.open(viewer.url)
    return viewer


class BadRequestError(Exception):
    """A URL is not one of those that the page asks for."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], viewer: Viewer) -> None:
        super().__init__(address, _Handler)
        self.viewer = viewer

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the page no longer wants it
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "ndzarr"
    sys_version = ""
    timeout = IDLE
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        viewer = cast(_Server, self.server).viewer
        if (why := self._refusal(viewer.token)) is not None:
            self._send(403, "text/plain; charset=utf-8", why.encode())
            return
        url = urlsplit(self.path)
        name = url.path[len(viewer.token) + 2 :]
        if name in STATIC:
            file, kind = STATIC[name]
            self._send(200, kind, files("ndzarr._viewer").joinpath("static", file).read_bytes())
            return
        try:
            kind, body = answer(viewer, name, {key: values[-1] for key, values in parse_qs(url.query).items()})
            self._send(200, kind, body)
        except BadRequestError as error:
            self._send(404, "text/plain; charset=utf-8", str(error).encode())
        except NdzarrError as error:
            self._send(500, "text/plain; charset=utf-8", " ".join(str(error).split()).encode())

    def _refusal(self, token: str) -> str | None:
        """Return why a request is refused, which does not tell what exists; None if it is the page's own."""
        headers = self.headers
        host = headers.get("Host", "")
        if re.sub(r":\d+$", "", host).lower() not in HOSTS:
            return "refused: this host name is not that of the viewer"
        if headers.get("Origin", f"http://{host}") != f"http://{host}":
            return "refused: the request comes from another page"
        # Links to the page may be anywhere; what it loads, it asks for itself.
        foreign = headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        if foreign and headers.get("Sec-Fetch-Mode") != "navigate":
            return "refused: the request comes from another page"
        given = self.path.split("/", 2)[1:2] if self.path.count("/") >= 2 else [""]
        if not secrets.compare_digest(given[0].encode(), token.encode()):
            return "refused: the address lacks the token that ndzarr view has printed"
        return None

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: the terminal is the user's."""


# Answers.

Query = Mapping[str, str]


def answer(viewer: Viewer, name: str, query: Query) -> tuple[str, bytes]:
    """Return the type and the body of what the page asks for; raise `BadRequestError` if there is no such thing."""
    if name == "items":
        return _json(_listed(viewer, query.get("find", "")))
    for pattern, function in ROUTES.items():
        if (found := re.fullmatch(pattern, name)) is not None:
            number, *rest = map(int, found.groups())
            if number >= len(viewer.items):
                raise BadRequestError("there is no such item")
            item = viewer.items[number]
            at = Position(_number(query, "t", item.frames), _number(query, "z", item.planes))
            return function(viewer, item, at, rest, query)
    raise BadRequestError("there is no such page")


def _listed(viewer: Viewer, find: str) -> dict[str, Any]:
    names = [(k, item.name) for k, item in enumerate(viewer.items) if find.lower() in item.name.lower()]
    listed = [{"number": k, "name": name} for k, name in names[:LISTED]]
    return {"total": len(names), "items": listed, "beside": viewer.beside, "targets": viewer.targets is not None}


def _about(viewer: Viewer, item: Item, at: Position, rest: list[int], query: Query) -> tuple[str, bytes]:
    return _json(item.about() | {"categories": categories_of(item)})


def _tile(viewer: Viewer, item: Item, at: Position, rest: list[int], query: Query) -> tuple[str, bytes]:
    k, row, column = rest
    displays = _displays(query.get("show", ""), len(item.channels))
    found = item.tile(k, row, column, at, [show.channel for show in displays]) if k < 32 else None
    if found is None:
        raise BadRequestError("there is no such tile")
    pixels, valid = found
    return "image/png", png(item.rendered(pixels, valid, displays))


def _annotations(viewer: Viewer, item: Item, at: Position, rest: list[int], query: Query) -> tuple[str, bytes]:
    return _json(annotations_of(item, at, *_window(query)))


def _targets(viewer: Viewer, item: Item, at: Position, rest: list[int], query: Query) -> tuple[str, bytes]:
    if viewer.targets is None:
        raise BadRequestError("there are no targets")
    return _json(viewer.targets.of(item, at, *_window(query)))


def _call(viewer: Viewer, item: Item, at: Position, rest: list[int], query: Query) -> tuple[str, bytes]:
    k = _number(query, "k", 32)
    channels = [show.channel for show in _displays(query.get("show", ""), len(item.channels))]
    return "text/plain; charset=utf-8", item.call(at, *_window(query), k, channels).encode()


def _values(viewer: Viewer, item: Item, at: Position, rest: list[int], query: Query) -> tuple[str, bytes]:
    """Return the values of all channels at one native pixel."""
    y, x = (_number(query, name, n) for name, n in zip("yx", item.size, strict=True))
    pixels, _ = item.read(0, (y, y + 1), (x, x + 1), at, None)
    return _json([f"{value:.6g}" for value in pixels.ravel().tolist()])


Answer = Callable[[Viewer, Item, Position, list[int], Query], tuple[str, bytes]]
ROUTES: dict[str, Answer] = {
    r"item/(\d{1,9})": _about,
    r"tile/(\d{1,9})/(\d{1,2})/(\d{1,9})/(\d{1,9})": _tile,
    r"annotations/(\d{1,9})": _annotations,
    r"targets/(\d{1,9})": _targets,
    r"call/(\d{1,9})": _call,
    r"values/(\d{1,9})": _values,
}
"""Pattern of the rest of a path, which begins with the number of an item, to what answers it."""


def _json(found: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(found, default=str).encode()


def _number(query: Query, name: str, end: int) -> int:
    """Return an integer from 0 to `end` - 1; 0 if it is left out."""
    text = query.get(name, "0")
    if not re.fullmatch(r"\d{1,10}", text) or int(text) >= end:
        raise BadRequestError(f"{name} is not a number below {end}")
    return int(text)


def _window(query: Query) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return half-open intervals along y and x."""
    found = re.fullmatch(r"(\d{1,10}),(\d{1,10}),(\d{1,10}),(\d{1,10})", query.get("window", ""))
    if found is None:
        raise BadRequestError("window is not y start, y stop, x start, x stop")
    y0, y1, x0, x1 = map(int, found.groups())
    if y0 >= y1 or x0 >= x1:
        raise BadRequestError("the window is empty")
    return (y0, y1), (x0, x1)


_DISPLAY = re.compile(r"(\d{1,7}),(-?[\d.]{1,24}(?:e[+-]?\d{1,3})?),(-?[\d.]{1,24}(?:e[+-]?\d{1,3})?),([0-9a-fA-F]{6})")


def _displays(text: str, channels: int) -> list[Display]:
    """Return the channels that are shown, such as '0,0,255,ff0000;1,0,255,00ff00'."""
    out = []
    for part in text.split(";"):
        found = _DISPLAY.fullmatch(part)
        if found is None or int(found[1]) >= channels:
            raise BadRequestError("show is not a list of channel, low, high, colour")
        try:
            out.append(Display(int(found[1]), float(found[2]), float(found[3]), rgb(found[4])))
        except ValueError:  # 1.2.3
            raise BadRequestError("low and high are not numbers") from None
    if len({show.channel for show in out}) < len(out):
        raise BadRequestError("a channel is named twice")
    return sorted(out, key=lambda show: show.channel)
