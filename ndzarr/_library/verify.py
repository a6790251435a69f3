"""Are the bytes of a store those that were written, and do its metadata agree with each other and with the files?

1. Metadata: each node says of itself what the root says of it; levels have the size that their scale implies; channels,
   times and coordinates are as many as there are pixels along their axis.
2. Files: every shard that there should be is there, and no other; its index is sound, and accounts for all its bytes.
3. Chunks: each is decoded, which checks its checksum.  Arrays that only zarr-python can read are read through it.

Reading does 2 and 3 as well, for what it touches; this does them for all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from math import ceil, floor, prod
from typing import Any

import numcodecs.zstd
import numpy as np

from ndzarr._concurrency import available_cpus
from ndzarr._formats.options import InPlaceOptions as Reading
from ndzarr._formats.registry import file_kind
from ndzarr._formats.tiff.array import TiffArray
from ndzarr._indexing.plan import human_bytes
from ndzarr._library.in_place import open_file
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.zarr_store import open_pyramid
from ndzarr._store.arrays import ChunkArray, ZarrArray
from ndzarr._store.sharding import Shard
from ndzarr.errors import DamagedError, StoreError

Position = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a store."""

    file: str
    """Absolute path of the file, or of the array's directory."""
    chunk: Position | None
    """Position of the chunk in the array's chunk grid; None if it is not about one."""
    what: str
    """What is wrong with it."""

    def __str__(self) -> str:
        if self.file in self.what:
            return self.what
        return f"{self.file}: {self.what}" if self.chunk is None else f"{self.file} chunk {self.chunk}: {self.what}"


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found."""

    path: str
    """Absolute path of the store."""
    levels: int
    """Levels checked; 0 if the metadata are too damaged to tell."""
    chunks: int
    """Chunks decoded."""
    empty: int
    """Chunks that are not stored, because they hold only the fill value."""
    nbytes: int
    """Encoded bytes of the chunks that were decoded."""
    problems: tuple[Problem, ...]
    """Everything that is wrong; empty for a sound store."""

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        counts = f"{self.levels} levels, {self.chunks:,} chunks, {human_bytes(self.nbytes)}"
        if self.ok:
            return f"{self.path}: sound ({counts})"
        n = len(self.problems)
        return "\n  ".join([f"{self.path}: {n} problem{'s' * (n > 1)} ({counts})", *map(str, self.problems)])


def verify_store(path: str | os.PathLike[str], progress: bool = False, threads: int | None = None) -> Report:
    """
    Check a whole store.

    Parameters
    ----------
    path
        As `ndzarr.open` takes it.
    progress
        Show a bar of files, once it takes longer than a second.
    threads
        Decode in so many threads; the number of processors if left out.

    Returns
    -------
    What was checked and what is wrong.

    Raises
    ------
    MissingError, StoreError
        There is nothing at `path`, or nothing that looks like a Zarr store.

    Examples
    --------
    >>> import ndzarr, numpy as np, tempfile
    >>> pyr = ndzarr.transcode(np.eye(300, dtype="u1"), tempfile.mkdtemp() + "/a.zarr")
    >>> report = ndzarr.verify(pyr.path)
    >>> report.ok, report.levels, report.chunks, report.empty
    (True, 2, 5, 8)
    """
    name = os.fspath(path)
    try:
        pyramid = open_pyramid(path)
    except (StoreError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        root = os.path.join(os.path.abspath(name), "zarr.json")
        if not os.path.exists(root):
            raise
        what = str(error) if isinstance(error, StoreError) else f"the metadata are malformed ({error!r})"
        return Report(os.path.abspath(name), 0, 0, 0, 0, (Problem(root, None, what),))
    found = list(_metadata(pyramid))
    chunks = empty = nbytes = 0
    for tally in _tallies(pyramid, progress, threads):
        chunks, empty, nbytes = chunks + tally.chunks, empty + tally.empty, nbytes + tally.nbytes
        found += tally.problems
    found.sort(key=lambda p: (p.file, p.chunk or ()))
    return Report(pyramid.path, len(pyramid.levels), chunks, empty, nbytes, tuple(found))


@dataclass(slots=True)
class _Tally:
    """What was found in one file."""

    chunks: int
    empty: int
    nbytes: int
    problems: list[Problem]


def _tallies(pyramid: Pyramid, progress: bool, threads: int | None) -> Iterator[_Tally]:
    """One tally per file of each level, in any order."""
    pool = ThreadPoolExecutor(threads or available_cpus(), thread_name_prefix="ndzarr-verify")
    try:
        jobs = []
        for level in pyramid.levels:
            array: Any = level.array
            if isinstance(array, ZarrArray):
                jobs += [pool.submit(_through_zarr, array, chunk) for chunk in _grid(array.shape, array.chunks)]
                continue
            yield _Tally(0, 0, 0, list(_strays(array)))
            jobs += [pool.submit(_file, array, where) for where in _grid(array.shape, array.shards)]
        done = as_completed(jobs)
        if progress:
            from tqdm.auto import tqdm

            done = tqdm(done, total=len(jobs), unit="file", desc="verifying", delay=1)
        for job in done:
            yield job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _grid(shape: tuple[int, ...], step: tuple[int, ...]) -> Iterator[Position]:
    return product(*(range(ceil(n / s)) for n, s in zip(shape, step, strict=True)))


def _file(array: ChunkArray, where: Position) -> _Tally:
    """Check one shard, or one chunk that is a file of its own."""
    tally = _Tally(0, 0, 0, [])
    path = array.shard_file(where)
    inside = tuple(s // c for s, c in zip(array.shards, array.chunks, strict=True))
    try:
        shard = Shard(path, prod(inside)) if array.sharded else None
        size = os.stat(path).st_size
    except FileNotFoundError:
        if array.complete:
            tally.problems.append(Problem(path, None, "the file is missing; transcode the source again"))
        return tally
    except DamagedError as error:
        tally.problems.append(Problem(path, None, str(error)))
        return tally
    scratch = array.codec.scratch()
    first = tuple(w * n for w, n in zip(where, inside, strict=True))
    for k, offset in enumerate(np.ndindex(inside)):
        chunk = tuple(f + o for f, o in zip(first, offset, strict=True))
        if any(i * c >= n for i, c, n in zip(chunk, array.chunks, array.shape, strict=True)):
            continue
        encoded = np.fromfile(path, np.uint8) if shard is None else shard.encoded(k)
        _decode(array, chunk, encoded, scratch, path, tally)
    used = 0 if shard is None else sum(shard.size(k) for k in range(prod(inside))) + 16 * prod(inside) + 4
    if array.complete and used != size:
        tally.problems.append(Problem(path, None, f"{size} bytes, of which the index accounts for {used}"))
    return tally


def _decode(
    array: ChunkArray,
    chunk: Position,
    encoded: np.ndarray[Any, Any] | None,
    scratch: np.ndarray[Any, Any],
    path: str,
    tally: _Tally,
) -> None:
    if encoded is None:
        tally.empty += 1
        return
    tally.chunks += 1
    tally.nbytes += encoded.size
    try:
        array.codec.decode(encoded, scratch, lambda: f"{path}: chunk {chunk}")
    except DamagedError as error:
        tally.problems.append(Problem(path, chunk, str(error)))


def _through_zarr(array: ZarrArray, chunk: Position) -> _Tally:
    box = tuple(slice(i * c, min(n, (i + 1) * c), 1) for i, c, n in zip(chunk, array.chunks, array.shape, strict=True))
    try:
        [pixels] = array.read([box])
    except StoreError as error:
        return _Tally(1, 0, 0, [Problem(array.name, chunk, f"zarr-python cannot read it ({error.__cause__!r})")])
    return _Tally(1, 0, pixels.nbytes, [])


def _strays(array: ChunkArray) -> Iterator[Problem]:
    """Files among the chunks that are none."""
    known = {array.shard_file(where) for where in _grid(array.shape, array.shards)}
    for folder, _, files in os.walk(os.path.join(array.name, "c")):
        for name in files:
            path = os.path.join(folder, name)
            if path not in known:
                yield Problem(path, None, "not a file of this array; remove it")


def _metadata(pyramid: Pyramid) -> Iterator[Problem]:
    root = os.path.join(pyramid.path, "zarr.json")
    own = pyramid.attrs.get("ndzarr")
    for what in _disagreements(pyramid, own):
        yield Problem(root, None, what)
    if not os.path.exists(root):  # Zarr v2, or remote
        return
    with open(root, "rb") as file:
        nodes = (json.loads(file.read()).get("consolidated_metadata") or {}).get("metadata") or {}
    for name, node in nodes.items():
        yield from _node(os.path.join(pyramid.path, name, "zarr.json"), node)
    if own is not None:
        yield from _coordinates(pyramid, nodes)


def _disagreements(pyramid: Pyramid, own: Mapping[str, Any] | None) -> Iterator[str]:
    """What the levels, the channels and the times say of each other that cannot be."""
    for k, level in enumerate(pyramid.levels):
        for d, n, whole, factor in zip(pyramid.dims, level.shape, pyramid.shape, level.factors, strict=True):
            least = ceil(whole / factor) if own is not None else max(1, floor(whole / factor))
            if not least <= n <= ceil(whole / factor):
                yield f"level {k} has {n} pixels along {d}; {ceil(whole / factor)} are 1/{factor:g} of {whole}"
        if level.array.dtype != pyramid.dtype:
            yield f"level {k} holds {level.array.dtype}, level 0 holds {pyramid.dtype}"
    for axis, key in (("c", "channels"), ("t", "times")):
        values = (own or {}).get(key)
        if values is not None and axis in pyramid.dims and len(values) != pyramid.sizes[axis]:
            yield f"there are {len(values)} {key}, but {pyramid.sizes[axis]} pixels along {axis}"


def _node(file: str, node: Any) -> Iterator[Problem]:
    """Check that a node's own metadata are those that the root has of it."""
    try:
        with open(file, "rb") as opened:
            if json.loads(opened.read()) != node:
                yield Problem(file, None, "says something else than the consolidated metadata of the root")
    except FileNotFoundError:
        yield Problem(file, None, "the file is missing")
    except ValueError as error:
        yield Problem(file, None, f"not valid JSON ({error})")


def _coordinates(pyramid: Pyramid, nodes: Mapping[str, Any]) -> Iterator[Problem]:
    """Check that each axis of each level has as many coordinates as pixels."""
    for k, level in enumerate(pyramid.levels):
        for d, n in zip(pyramid.dims, level.shape, strict=True):
            file = os.path.join(pyramid.path, str(k), d, "c", "0")
            stated = nodes.get(f"{k}/{d}", {}).get("shape")
            if stated != [n]:
                yield Problem(file, None, f"the metadata state {stated} coordinates for {n} pixels along {d}")
                continue
            try:
                with open(file, "rb") as opened:
                    raw = bytes(numcodecs.zstd.decompress(opened.read()))
            except FileNotFoundError:
                yield Problem(file, None, "the coordinates are missing")
            except (RuntimeError, ValueError) as error:
                yield Problem(file, None, f"the coordinates do not decode ({error})")
            else:
                held = int.from_bytes(raw[:4], "little") if d == "c" else len(raw) / 8
                if held != n:
                    yield Problem(file, None, f"holds {held:g} coordinates for {n} pixels along {d}")


# --- Are all bytes of a store, or of a file that is read where it lies, sound?


def verify(path: str | os.PathLike[str], progress: bool = False, threads: int | None = None) -> Report:
    """
    Check a whole store, or a TIFF with tiles.

    Parameters
    ----------
    path
        As `ndzarr.open` takes it.
    progress
        Show a bar, once it takes longer than a second.
    threads
        Decode in so many threads; the number of processors if left out.

    Returns
    -------
    What was checked and what is wrong.

    Raises
    ------
    MissingError, StoreError
        There is nothing at `path`, or nothing that looks like a Zarr store, or a file that cannot be read in place.

    Examples
    --------
    >>> import ndzarr, numpy as np, tempfile
    >>> pyr = ndzarr.transcode(np.eye(300, dtype="u1"), tempfile.mkdtemp() + "/a.zarr")
    >>> report = ndzarr.verify(pyr.path)
    >>> report.ok, report.levels, report.chunks, report.empty
    (True, 2, 5, 8)
    """
    name = os.fspath(path)
    if "://" in name or file_kind(name) != "TIFF":
        return verify_store(path, progress, threads)
    try:
        pyramid = open_file(name, Reading())
    except DamagedError as error:
        where = os.path.realpath(name)
        return Report(where, 0, 0, 0, 0, (Problem(where, None, str(error)),))
    levels = [level.array for level in pyramid.levels if isinstance(level.array, TiffArray)]
    found = [tally for tallies in _checked(levels, progress, threads) for tally in tallies]
    sizes = [size for size, _ in found]
    problems = [Problem(pyramid.path, None, str(error)) for _, error in found if error is not None]
    problems.sort(key=lambda problem: problem.what)
    stored = sum(size > 0 for size in sizes)
    return Report(pyramid.path, len(levels), stored, len(sizes) - stored, sum(sizes), tuple(problems))


def _checked(levels: list[Any], progress: bool, threads: int | None) -> Iterator[list[tuple[int, DamagedError | None]]]:
    """What `_row` says of each row of tiles."""
    pool = ThreadPoolExecutor(threads or available_cpus(), thread_name_prefix="ndzarr-verify")
    try:
        jobs = [
            pool.submit(_row, level, lead)
            for level in levels
            for lead in product(*(range(n) for n in level.segments[:-1]))
        ]
        done: Any = as_completed(jobs)
        if progress:
            from tqdm.auto import tqdm

            done = tqdm(done, total=len(jobs), unit="row", desc="verifying", delay=1)
        for job in done:
            yield job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _row(level: Any, lead: tuple[int, ...]) -> list[tuple[int, DamagedError | None]]:
    """(encoded size, what is wrong) of each tile of a row."""
    scratch, found = level.codec.scratch(), []
    for x in range(level.segments[-1]):
        chunk = (*lead, x)
        wrong = None
        try:
            level.decode(chunk, scratch)
        except DamagedError as error:
            wrong = error
        found.append((level.encoded_size(chunk), wrong))
    return found
