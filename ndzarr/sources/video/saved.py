"""Which videos have been looked at before, by this person on this machine?

Indexes that took long to make are kept in the user's cache, under a name that changes with the file, with the version
of FFmpeg, and with what an index is.  The ones that were used longest ago go first.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zipfile
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np

from ndzarr.request import settle, signature
from ndzarr.sources.video.index import Index, make_index

SCHEMA = 3
"""Changes with the fields of `Index`, and with how it is made."""
SLOW = 0.1
"""Seconds that making an index has to take for it to be kept."""
MOST = 1000
"""Indexes that are kept."""


def index_of(path: str) -> Index:
    """
    The index of a video, made now if it is not known.

    Raises
    ------
    SourceError
        It has no video.
    """
    file = _file(path)
    with suppress(OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):  # not there, or cut by a full disk
        index = _load(file)
        os.utime(file)
        return index
    settle(os.stat(path).st_mtime_ns)
    begun = time.perf_counter()
    index = make_index(path)
    if time.perf_counter() - begun > SLOW and _file(path) == file:
        with suppress(OSError):  # no place for it: it will be made again
            _save(file, index)
    return index


def _file(path: str) -> Path:
    import av

    from ndzarr.library import default_root

    told = [SCHEMA, os.path.realpath(path), signature(path), av.library_versions["libavcodec"]]
    key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]
    return default_root() / "video-indexes" / f"{key}.npz"


def _load(file: Path) -> Index:
    with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as data:
        facts = json.loads(str(data["facts"]))
        return Index(
            ticks=data["ticks"],
            order=data["order"],
            keys=data["keys"],
            marks=data["marks"],
            base=Fraction(facts["base"]),
            rate=None if facts["rate"] is None else Fraction(facts["rate"]),
            end=facts["end"],
            mapped=facts["mapped"],
            notes=tuple(facts["notes"]),
        )


def _save(file: Path, index: Index) -> None:
    rate = None if index.rate is None else str(index.rate)
    facts = json.dumps(
        {"base": str(index.base), "rate": rate, "end": index.end, "mapped": index.mapped, "notes": index.notes}
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}-{time.monotonic_ns()}")
    try:
        with open(part, "wb") as out:
            np.savez_compressed(
                out, facts=facts, ticks=index.ticks, order=index.order, keys=index.keys, marks=index.marks
            )
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    kept = sorted(file.parent.glob("*.npz"), key=os.path.getmtime)
    for old in kept[: max(0, len(kept) - MOST)]:
        old.unlink(missing_ok=True)
