"""Copying a store to a bucket, where it appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ndzarr._library.keys import is_damaged, stored_arrays
from ndzarr._progress import progress_bar
from ndzarr._pyramid.zarr_store import open_pyramid
from ndzarr._remote.settings import Remote
from ndzarr._store.archive import ArchiveFile, is_archive
from ndzarr._store.arrays import ChunkArray, positions
from ndzarr._store.buckets import ROOT, Claim, Place, Uploads, upload_tree
from ndzarr._store.destinations import destination, refuse_existing_at
from ndzarr._store.metadata import DIGEST, INDEXES, join_records, metadata_digest, parse_json
from ndzarr.errors import DamagedError, MissingError, OptionError, StoreError


def push(
    store: str | os.PathLike[str],
    url: str,
    *,
    overwrite: bool = False,
    progress: bool = False,
    indexes: bool = False,
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
    indexes
        Write one more object, with the indexes of all shards of a pyramid, as `transcode` does.
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
    OptionError
        `url` is not that of a bucket, or `store` has no checksums of its shards, which `indexes` needs.
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
        return _push_archive(folder, place, overwrite, indexes)
    root = read = _root(folder)
    records = None
    if indexes:
        root, records = _with_indexes(folder, root)
    files = {path.relative_to(folder).as_posix(): path.stat() for path in folder.rglob("*") if path.is_file()}
    facts = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in sorted(files.items())]
    what = hashlib.sha256(root + json.dumps(facts).encode()).hexdigest()
    total = sum(stat.st_size for stat in files.values())
    with (
        Claim(place, what, overwrite) as claim,
        Uploads(place, claim) as uploads,
        progress_bar(total, folder.name, "B", progress) as advance,
    ):
        upload_tree(folder, uploads, keep=True, done=lambda path: advance(path.stat().st_size))
        if records is not None:
            place.store.put(place.key(INDEXES), records)
        if _root(folder) != read:
            message = f"{folder}: was changed while it was copied"
            raise StoreError(message, path=str(folder), hint="Push it again")
        claim.publish(root)
    return place.url


def _with_indexes(folder: Path, root: bytes) -> tuple[bytes, bytes | None]:
    """Return the root's metadata with the places of records of shards, and the records; None if the store has them."""
    node = parse_json(root, str(folder))
    own = node.get("attributes", {}).get("ndzarr", {})
    if "indexes" in own:
        return root, None
    if "extracted" in own or DIGEST not in own:
        message = f"{folder}: indexes=True is for pyramids that ndzarr wrote with checksums of their shards"
        hint = "Leave it out, or transcode the source again"
        raise OptionError(message, path=str(folder), key="indexes", hint=hint)
    arrays = {os.path.relpath(a.name, folder): a for a in stored_arrays(open_pyramid(folder))}
    records = {
        Path(path).as_posix(): {p: bytes(array.open_shard(p).record()) for p in positions(array.grid)}
        for path, array in arrays.items()
        if isinstance(array, ChunkArray)
    }
    own["indexes"], joined = join_records(records)
    own[DIGEST] = metadata_digest(node["attributes"], node["consolidated_metadata"]["metadata"])
    return json.dumps(node).encode(), joined


def _push_archive(file: Path, place: Place, overwrite: bool, indexes: bool) -> str:
    """Copy a store in one file, as one object."""
    if indexes:
        message = f"{file}: indexes=True is for stores that are directories"
        raise OptionError(message, path=str(file), key="indexes", hint="Leave it out")
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
