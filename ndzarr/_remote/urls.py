"""
Addresses of objects: which store they name, and how they are shown.

A URL may hold secrets (a user and password, the signature in a query).  `shown` returns it without them: nothing else
is ever put into a message, a name, a plan or metadata.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from ndzarr._files import ARCHIVE
from ndzarr.errors import StoreError

_SCHEMES = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gs"),
    **dict.fromkeys(("az", "azure", "abfs", "abfss", "adl"), "az"),
    **dict.fromkeys(("http", "https"), "http"),
}
"""Scheme of a URL to the kind of store."""


class Address(NamedTuple):
    """Where an object or a group of objects is."""

    kind: str
    """'s3', 'gs', 'az', 'http', or '' for what fsspec opens."""
    root: str
    """URL of the bucket, container or server, without secrets."""
    path: str
    """Path below it, without a slash at either end."""
    query: str = ""
    """What follows '?' in an http URL; it may be a secret."""
    user: str = ""
    """User and password of an http URL."""


def is_url(path: str | os.PathLike[str]) -> bool:
    """Return True for the address of something that is not on a local disk."""
    return "://" in os.fspath(path)


def names_zip(path: str | os.PathLike[str]) -> bool:
    """Return True if a path or URL ends in the suffix of a store in one file: `.ozx`, or `.zip`."""
    return shown(os.fspath(path)).lower().endswith((ARCHIVE, ".zip"))


def zip_of(path: str) -> str | None:
    """
    Return the path of the store in one file that a path of an object names, or that holds it; None if there is none.

    Examples
    --------
    >>> zip_of("a/plate.ozx/B/03/0"), zip_of("a/b.zarr")
    ('a/plate.ozx', None)
    """
    ends = [k for k, letter in enumerate(path) if letter == "/"]
    return next((path[:k] for k in (*ends, len(path)) if names_zip(path[:k])), None)


def names_file(url: str) -> bool:
    """
    Return True if a URL may name an image: its last part has an extension, and no part that of a store.

    Examples
    --------
    >>> names_file("s3://bucket/a.tif"), names_file("s3://bucket/a.zarr/0"), names_file("s3://bucket/a")
    (True, False, False)
    """
    parts = shown(url).partition("://")[2].rstrip("/").split("/")[1:]
    stored = any(p.lower().endswith(".zarr") or names_zip(p) for p in parts)
    return bool(parts and os.path.splitext(parts[-1])[1]) and not stored


def shown(url: str) -> str:
    """
    Return a URL without its user, password, query and fragment.

    Examples
    --------
    >>> shown("https://me:secret@example.org/a.tif?X-Amz-Signature=abc")
    'https://example.org/a.tif'
    """
    # Not by urlsplit, which refuses some of what may be given.
    start, separator, rest = url.partition("://")
    if not separator:
        return url
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{start}://{host.rpartition('@')[2] if start in ('http', 'https') else host}{slash}{path}"


def parse(url: str) -> Address:
    """
    Return the parts of a URL.

    Examples
    --------
    >>> parse("s3://bucket/a/b.zarr").root, parse("s3://bucket/a/b.zarr").path
    ('s3://bucket', 'a/b.zarr')
    """
    scheme = url.partition("://")[0].lower()
    kind = _SCHEMES.get(scheme, "")
    if not kind:
        return Address("", shown(url), "")
    try:
        # A key of a bucket may hold any character, a path of the web is quoted.
        found = urlsplit(url) if kind == "http" else _bucket(url)
        host = found.hostname if kind == "http" else found.netloc
        port = found.port if kind == "http" else None
    except ValueError:
        host = port = None
    if not host:
        message = f"{shown(url)}: is not the address of an object"
        raise StoreError(message, path=shown(url), hint="Give a URL such as s3://bucket/a.zarr or https://host/a.tif")
    if kind == "http":
        host = f"[{host}]" if ":" in host else host
        root = f"{scheme}://{host}" + (f":{port}" if port else "")
        user = found.netloc.rpartition("@")[0]
        return Address(kind, root, unquote(found.path).strip("/"), found.query, user)
    path = found.path.strip("/")
    if "@" in host:  # abfs://container@account.dfs.core.windows.net/path
        container, _, account = host.partition("@")
        return Address(kind, f"az://{container}@{account.partition('.')[0]}", path)
    return Address(kind, f"{kind}://{host}", path)


def _bucket(url: str) -> SplitResult:
    scheme, _, rest = url.partition("://")
    bucket, _, path = rest.partition("/")
    return SplitResult(scheme, bucket, path, "", "")


def joined(*parts: str) -> str:
    """Return a path of an object from parts, of which some may be empty."""
    return "/".join(part.strip("/") for part in parts if part.strip("/"))
