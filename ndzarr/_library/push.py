"""Copying a store to a bucket, where it appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ndzarr._library.keys import is_damaged
from ndzarr._progress import progress_bar
from ndzarr._remote.settings import Remote
from ndzarr._store.archive import ArchiveFile, is_archive
from ndzarr._store.buckets import ROOT, Claim, Place, Uploads, upload_tree
from ndzarr._store.destinations import destination, refuse_existing_at
from ndzarr._store.metadata import DIGEST, parse_json
from ndzarr.errors import DamagedError, MissingError, OptionError, StoreError


def push(
    store: str | os.PathLike[str],
    url: str,
    *,
    overwrite: bool = False,
    progress: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    remote: Remote | None = None,
) -> str:
    """
    Copy a local Zarr v3 store to a bucket: a pyramid, or what `extract` wrote.

    Shards go first, several at a time, and the root's metadata last, so that the store appears whole or not at all.  A
    call that was interrupted, or killed, goes on where it was when it is made again; see docs/remote.md.

    Parameters
    ----------
    store
        Directory of the store, or an `.ozx`, which becomes one object.
    url
        Where it will be, such as 's3://bucket/a.zarr'; a URL that ends in a slash gets the name of the directory.
    overwrite
        Replace a store that is there.  It is absent until the new one is complete.
    progress
        Show a bar.
    storage_options, remote
        Credentials and settings; see `open`.

    Returns
    -------
    The URL of the store.

    Raises
    ------
    MissingError, StoreError
        `store` does not exist, is not a Zarr v3 store, or was changed while it was copied.
    DamagedError
        Shards of `store` are missing or cut; nothing was copied.
    ExistsError
        A store is at `url`, or another process is writing one.
    WriteError
        The bucket cannot be written.

    Examples
    --------
    >>> import ndzarr
    >>> ndzarr.push("a.zarr", "s3://bucket/a.zarr")  # doctest: +SKIP
    's3://bucket/a.zarr'
    """
    folder = Path(os.path.abspath(store))
    place = destination(f"{url}{folder.name}" if url.endswith("/") else url, storage_options, remote)
    if not isinstance(place, Place):
        message = f"url={url!r}: is not the URL of a bucket"
        raise OptionError(message, path=url, key="url", hint="Give a URL such as s3://bucket/a.zarr")
    if is_archive(folder):
        return _push_archive(folder, place, overwrite)
    root = _root(folder)
    files = {path.relative_to(folder).as_posix(): path.stat() for path in folder.rglob("*") if path.is_file()}
    facts = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in sorted(files.items())]
    what = hashlib.sha256(root + json.dumps(facts).encode()).hexdigest()
    total = sum(stat.st_size for stat in files.values())
    with (
        Claim(place, what, overwrite) as claim,
        Uploads(place) as uploads,
        progress_bar(total, folder.name, "B", progress) as advance,
    ):

        def is_there(name: str, path: Path) -> bool:
            claim.check()
            return claim.present.get(name) == files[name].st_size if name in files else False

        upload_tree(folder, uploads, keep=True, skip=is_there, done=lambda path: advance(path.stat().st_size))
        if _root(folder) != root:
            message = f"{folder}: was changed while it was copied"
            raise StoreError(message, path=str(folder), hint="Push it again")
        claim.publish(root)
    return place.url


def _push_archive(file: Path, place: Place, overwrite: bool) -> str:
    """Copy a store in one file, as one object."""
    archive = ArchiveFile(str(file))
    refuse_existing_at(place, overwrite)
    place.patient().put_file(file, create=not overwrite)
    archive.file.check()
    return place.url


def _root(folder: Path) -> bytes:
    """Return the root's metadata of a store; raise what is wrong with it."""
    if not folder.is_dir():
        raise MissingError(f"{folder}: there is no such store", path=str(folder), hint="Check its name")
    try:
        root = (folder / ROOT).read_bytes()
    except FileNotFoundError:
        message = f"{folder}: is not a Zarr v3 store"
        raise StoreError(message, path=str(folder), hint="Transcode it with ndzarr first") from None
    node = parse_json(root, str(folder))
    own = node.get("attributes", {}).get("ndzarr", {}) if isinstance(node, dict) else {}
    if DIGEST in own and is_damaged(folder):
        message = f"{folder}: is damaged, so it is not copied"
        raise DamagedError(message, path=str(folder), hint="Run ndzarr verify, or transcode its source again")
    return root
