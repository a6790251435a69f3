"""Verification of stores and of TIFFs with tiles: metadata, files and the bytes of every chunk.

1. Metadata: each node agrees with the consolidated metadata of the root; levels have the size that their scale implies;
   there are as many channels, times and coordinates as pixels along their axis.
2. Files: every shard of a level exists, and no other file; the index of a shard accounts for all of its bytes.
3. Chunks: each is decoded, which checks its checksum.  Arrays that only zarr-python reads are read through it.
4. Places: the metadata are those that were written with the pixels, and so are the index and the chunks of each shard
   (`Seal`).  Stores of earlier versions and of other software do not tell.

Reading does 2 and 3 for the chunks that it touches.  A TIFF has only 3, for its tiles.  Extracted samples have 2 to 4;
their columns are compared with the checksums in their metadata.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, product
from math import ceil, floor, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import google_crc32c
import numcodecs.zstd
import numpy as np

from ndzarr._concurrency import available_cpus, ordered_map
from ndzarr._files import open_binary
from ndzarr._formats.registry import file_kind
from ndzarr._formats.tiff.array import TiffArray
from ndzarr._indexing.plan import human_bytes
from ndzarr._library.in_place import open_file, open_remote_file
from ndzarr._library.open import find_remote
from ndzarr._progress import progress_bar
from ndzarr._pyramid.datasets import AmbiguousError
from ndzarr._pyramid.levels import Multiscale
from ndzarr._pyramid.views import stored_array
from ndzarr._pyramid.zarr_store import list_arrays, open_pyramid, open_remote
from ndzarr._remote.flight import get_ranges
from ndzarr._remote.settings import Remote
from ndzarr._remote.stores import ABSENT, Range, open_url
from ndzarr._remote.urls import is_url, names_zip, shown
from ndzarr._store.archive import is_archive, read_file
from ndzarr._store.arrays import COMPLETE, SEAL, ChunkArray, Stored, ZarrArray, open_array, positions
from ndzarr._store.buckets import ROOT, Place
from ndzarr._store.metadata import CHECKSUM, INDEXES, files_sum, interpreting, is_sealed, parse_json
from ndzarr._store.remote import RemoteArray, fetch
from ndzarr._store.sharding import Record, chunks_sum
from ndzarr._store.zarr_python import check_growth
from ndzarr.errors import DamagedError, MissingError, StoreError

Position: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a store or file."""

    file: str
    """Absolute path of the file, or of the array's directory."""
    chunk: Position | None
    """Position of the chunk in the array's chunk grid; None if the fault is not that of a chunk."""
    what: str
    """Description of the fault."""

    def __str__(self) -> str:
        if self.file in self.what:
            return self.what
        return f"{self.file}: {self.what}" if self.chunk is None else f"{self.file} chunk {self.chunk}: {self.what}"


@dataclass(frozen=True, slots=True)
class Report:
    """The result of `verify`."""

    path: str
    """Absolute path of the store or file."""
    levels: int
    """Levels checked; 0 if the metadata are too damaged to tell."""
    chunks: int
    """Chunks decoded."""
    empty: int
    """Chunks that are not stored, because they hold only the fill value."""
    nbytes: int
    """Encoded bytes of the chunks that were decoded."""
    problems: tuple[Problem, ...]
    """All faults; empty for a sound store."""

    @property
    def ok(self) -> bool:
        """True if there is no problem."""
        return not self.problems

    def __str__(self) -> str:
        counts = f"{self.levels} levels, {self.chunks:,} chunks, {human_bytes(self.nbytes)}"
        if self.ok:
            return f"{self.path}: sound ({counts})"
        n = len(self.problems)
        return "\n  ".join([f"{self.path}: {n} problem{'s' * (n > 1)} ({counts})", *map(str, self.problems)])


def verify(
    path: str | os.PathLike[str],
    progress: bool = False,
    threads: int | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    remote: Remote | None = None,
) -> Report:
    """
    Check every byte of a store, or every tile of a TIFF.

    Parameters
    ----------
    path
        A store or a TIFF with tiles, as `ndzarr.open` takes it, or extracted samples.  What is behind a URL is fetched
        piece by piece; zips and extracted samples are verified on a disk only.
    progress
        Show a bar, once the check takes longer than a second.
    threads
        Number of threads that decode; the number of CPUs if None, and at least 8 for a URL.
    storage_options, remote
        Credentials and settings for URLs; see `open`.

    Returns
    -------
    What was checked, and all problems that were found.

    Raises
    ------
    MissingError
        Nothing exists at `path`.
    StoreError
        `path` is neither a Zarr store nor a file that can be read in place.

    Examples
    --------
    >>> import ndzarr, numpy as np, tempfile
    >>> pyr = ndzarr.transcode(np.eye(300, dtype="u1"), tempfile.mkdtemp() + "/a.zarr")
    >>> report = ndzarr.verify(pyr.path)
    >>> report.ok, report.levels, report.chunks, report.empty
    (True, 2, 5, 8)
    """
    name = os.fspath(path)
    if is_url(name):
        return _verify_remote(name, progress, threads or max(_FETCHING, available_cpus()), storage_options, remote)
    is_tiff = file_kind(name) == "TIFF"
    if (node := _extraction(name)) is not None:
        name = os.path.abspath(name)
        found, problems = _open_extraction(name, node)
        return _report(name, _Tally(problems=problems), found, progress, threads)
    try:
        pyramid: Multiscale = open_file(name) if is_tiff else open_pyramid(name, changed=lambda file: None)
    except StoreError as error:
        if isinstance(error, AmbiguousError):  # bytes can be checked without knowing what they mean
            return _report(error.path or name, _Tally(), list_arrays(name), progress, threads)
        name = os.path.realpath(name) if is_tiff else os.path.abspath(name)
        file = name if is_tiff else os.path.join(name, "zarr.json")
        # A TIFF that is sound but not tiled, or a directory without metadata, is not damaged: it is something else.
        whole = is_tiff or is_archive(name)
        if not (isinstance(error, DamagedError) if whole else os.path.exists(file)):
            raise
        return Report(name, 0, 0, 0, 0, (Problem(name if whole else file, None, str(error)),))
    total = _Tally(problems=[] if is_tiff else list(_check_metadata(pyramid)))
    native = [stored_array(level.array) for level in pyramid.levels]
    arrays = [array for array in native if isinstance(array, TiffArray | ZarrArray | ChunkArray)]
    masks = [level.mask for level in pyramid.levels if level.mask is not None]
    return _report(pyramid.path, total, arrays, progress, threads, masks)


_FETCHING = 8
"""Shards, or rows of tiles, that are fetched at a time."""


def _verify_remote(
    url: str, progress: bool, threads: int, storage_options: Mapping[str, Any] | None, remote: Remote | None
) -> Report:
    """Check a store, or a TIFF with tiles, on a web server or in a bucket; see `verify`."""
    name = shown(url)
    try:
        if (opened := find_remote(url, storage_options, remote)) is not None:
            pyramid = open_remote_file(opened)
            arrays = [level.array for level in pyramid.levels if isinstance(level.array, TiffArray)]
            masks = [level.mask for level in pyramid.levels if isinstance(level.mask, TiffArray)]
            if not arrays:
                hint = "Decode it with FFmpeg, or transcode it and verify the store"
                raise StoreError(f"{name}: only TIFFs with tiles, and stores, are verified", path=name, hint=hint)
            return _report(name, _Tally(), arrays, progress, threads, masks)
        place = Place(*open_url(url.rstrip("/"), storage_options, remote))
        if names_zip(place.path):
            message = f"{name}: a store in one file is verified on a disk only"
            raise StoreError(message, path=name, hint="Copy it to a disk, and verify the copy")
        pyramid = open_remote(place.store, place.path, changed=lambda file: None)
    except DamagedError as error:
        return Report(name, 0, 0, 0, 0, (Problem(error.path or name, None, str(error)),))
    with TemporaryDirectory(prefix="ndzarr-") as folder:
        return _verify_store(place, pyramid, folder, progress, threads)


def _verify_store(place: Place, pyramid: Multiscale, folder: str, progress: bool, threads: int) -> Report:
    """Check a remote store, of which the metadata, and each shard while it is checked, are in a local directory."""
    far = [array for level in pyramid.levels for array in (level.array, level.mask) if array is not None]
    nodes = _fetch_metadata(place, Path(folder))
    checked: Multiscale = open_pyramid(folder, changed=lambda file: None) if nodes else pyramid
    listed = None if place.store.kind == "http" else list(place.present())
    found, checks = list(_check_metadata(checked)), list[Callable[[], _Tally]]()
    for array in far:
        checks += _far_checks(place, array, folder, listed) if isinstance(array, RemoteArray) else _checks(array)
    report = _finished(place.url, _Tally(problems=found), checks, len(pyramid.levels), progress, threads)
    problems = [
        Problem(p.file.replace(folder, place.url), p.chunk, p.what.replace(folder, place.url)) for p in report.problems
    ]
    return replace(report, problems=tuple(problems))


def _fetch_metadata(place: Place, folder: Path) -> bool:
    """Fetch the metadata of a store, its coordinates and its indexes; return False if they are not consolidated."""
    try:
        raw = bytes(place.store.get(place.key(ROOT))[0])
    except MissingError:  # Zarr v2
        return False
    (folder / ROOT).write_bytes(raw)
    root = parse_json(raw, place.url)
    if _extraction(str(folder)) is not None:
        message = f"{place.url}: extracted samples are verified on a disk only"
        raise StoreError(message, path=place.url, hint="Copy them to a disk, and verify the copy")
    if not (nodes := _nodes(root)):
        return False
    files = [f"{name}/{ROOT}" for name in nodes] + [INDEXES]
    files += [f"{name}/c/0" for name, node in nodes.items() if CHECKSUM in node.get("attributes", {})]
    for landed in get_ranges([Range(place.store, place.key(file), optional=True) for file in files]):
        if landed.info is not ABSENT:
            path = folder / files[landed.number]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(landed.data.data)
    return True


def _far_checks(
    place: Place, remote: RemoteArray, folder: str, listed: Sequence[str] | None
) -> Iterator[Callable[[], _Tally]]:
    """Yield functions that fetch and check one shard each; `listed` are all objects of the store, if it tells."""
    array = remote.local(f"{folder}/{remote.path[len(place.path) :].strip('/')}".rstrip("/"))
    if listed is None:
        number = prod(array.grid)
        if number > _MISSING_CHUNKS * (_count_files(place.url) + _FEW_FILES):
            what = f"its metadata state {number:,} shards, too many to be asked for one by one"
            yield lambda: _Tally(problems=[Problem(array.name, None, what)])
            return
        found: Mapping[str, Position | None] = {array.shard_file(p): p for p in positions(array.grid)}
    else:
        found = dict(array.files([f"{folder}/{name}" for name in listed]))
        yield partial(_check_listing, array, found)
    for path, position in found.items():
        if position is not None:
            yield partial(_check_far, place, array, folder, path, position)


def _check_far(place: Place, array: ChunkArray, folder: str, path: str, position: Position) -> _Tally:
    """Fetch one shard, or one chunk that is an object of its own, and check it."""
    try:
        data = place.store.get(place.key(os.path.relpath(path, folder).replace(os.sep, "/")))[0]
    except MissingError:
        missing = Problem(path, None, "the file is missing; transcode the source again")
        return _Tally(problems=[missing]) if array.complete else _Tally(empty=1)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(path).write_bytes(data.data)
    try:
        return _check_file(array, path, position)
    finally:
        os.unlink(path)


def _report(
    path: str,
    total: _Tally,
    arrays: Sequence[Stored],
    progress: bool,
    threads: int | None,
    masks: Sequence[Stored] = (),
) -> Report:
    """Check the chunks of arrays, and return that together with what was found before."""
    checks = [check for array in (*arrays, *masks) for check in _checks(array)]
    return _finished(path, total, checks, len(arrays), progress, threads)


def _finished(
    path: str,
    total: _Tally,
    checks: Sequence[Callable[[], _Tally]],
    levels: int,
    progress: bool,
    threads: int | None,
) -> Report:
    """Run checks, and return what they found together with what was found before."""
    with progress_bar(len(checks), "verifying", "part", progress) as advance:
        for tally in ordered_map(lambda check: check(), checks, threads or available_cpus(), name="verify"):
            total.add(tally)
            advance()
    total.problems.sort(key=lambda p: (p.file, p.chunk or (), p.what))
    return Report(path, levels, total.chunks, total.empty, total.nbytes, tuple(total.problems))


def _extraction(folder: str) -> Mapping[str, Any] | None:
    """Return the metadata of the root of extracted samples; None if the directory is something else."""
    try:
        with open_binary(os.path.join(folder, "zarr.json")) as file:
            node = parse_json(file.read(), folder)
    except (OSError, StoreError):
        return None  # which `open_pyramid` explains
    attributes = node.get("attributes") if isinstance(node, Mapping) else None
    own = attributes.get("ndzarr") if isinstance(attributes, Mapping) else None
    return node if isinstance(own, Mapping) and "extracted" in own else None


def _nodes(root: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the consolidated metadata of a root; None if they are not those of nodes."""
    inner = root.get("consolidated_metadata") or {}
    nodes = inner.get("metadata") or {} if isinstance(inner, Mapping) else None
    if not isinstance(nodes, Mapping) or not all(map(_is_node, nodes.values())):
        return None
    inside = all(os.path.normpath(name) == name and not name.startswith(("..", "/")) for name in nodes)
    return nodes if inside else None


_NO_NODES = "its consolidated metadata are not those of nodes"


def _open_extraction(folder: str, root: Mapping[str, Any]) -> tuple[list[ChunkArray], list[Problem]]:
    """Return the sharded arrays of extracted samples, and what is wrong with the metadata and the columns."""
    file, nodes = os.path.join(folder, "zarr.json"), _nodes(root)
    if nodes is None:
        return [], [Problem(file, None, _NO_NODES)]
    arrays, problems = list[ChunkArray](), list(_check_seal(file, root, nodes))
    sealed = bool(is_sealed(root["attributes"], nodes))
    for name, node in nodes.items():
        path, attributes = os.path.join(folder, name), node.get("attributes", {})
        problems += _check_node(os.path.join(path, "zarr.json"), node)
        if COMPLETE in attributes:
            try:
                with interpreting(path):
                    array = open_array(path, node, sealed=sealed)
            except StoreError as error:
                array = str(error)
            if isinstance(array, ChunkArray):
                arrays.append(array)
            else:
                problems.append(Problem(path, None, array))
        elif attributes.get(CHECKSUM, files_sum(Path(path))) != files_sum(Path(path)):
            problems.append(Problem(path, None, "its files are not those that were written here (another checksum)"))
    return arrays, problems


@dataclass(slots=True)
class _Tally:
    """Counts and problems of a part of a pyramid."""

    chunks: int = 0
    empty: int = 0
    nbytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, other: _Tally) -> None:
        self.chunks += other.chunks
        self.empty += other.empty
        self.nbytes += other.nbytes
        self.problems += other.problems


def _checks(array: Stored) -> Iterator[Callable[[], _Tally]]:
    """Yield functions that check one part of an array each: a file, a row of tiles, or a chunk of zarr-python."""
    if isinstance(array, TiffArray):
        for row in product(*(range(n) for n in array.segments[:-1])):
            yield partial(_check_tiles, array, row)
    elif isinstance(array, ZarrArray):
        number, files = _cells(array.shape, array.chunks), _count_files(array.name)
        if number > _MISSING_CHUNKS * (files + _FEW_FILES):
            what = f"its metadata state {number:,} chunks, which are too many for its {files:,} files"
            yield lambda: _Tally(problems=[Problem(array.name, None, what)])
            return
        stored = [chunk for chunk in _grid(array.shape, array.chunks) if array.exists(chunk)]
        yield lambda: _Tally(empty=number - len(stored))
        for chunk in stored:
            yield partial(_check_through_zarr, array, chunk)
    elif isinstance(array, ChunkArray):
        found = dict(array.files())
        yield partial(_check_listing, array, found)
        for path, position in found.items():
            if position is not None:
                yield partial(_check_file, array, path, position)


def _grid(shape: tuple[int, ...], step: tuple[int, ...]) -> Iterator[Position]:
    return product(*(range(ceil(n / s)) for n, s in zip(shape, step, strict=True)))


_MISSING_CHUNKS = 1000
"""Chunks per file beyond which the stated shape of an array that zarr-python reads is not believed."""
_FEW_FILES = 100
"""Files that every array is taken to have: asking for the chunks of so many takes some seconds."""


def _cells(shape: tuple[int, ...], step: tuple[int, ...]) -> int:
    return prod(-(-n // s) for n, s in zip(shape, step, strict=True))


def _count_files(folder: str) -> int:
    """Return the number of files below a directory; 10,000 for what is elsewhere."""
    return 10_000 if "://" in folder else sum(len(names) for _, _, names in os.walk(folder))


def _check_file(array: ChunkArray, path: str, position: Position) -> _Tally:
    """Check one shard, or one chunk that is a file of its own."""
    tally = _Tally()
    inside = tuple(s // c for s, c in zip(array.shards, array.chunks, strict=True))
    try:
        shard = array.open_shard(position) if array.sharded else None
    except DamagedError as error:
        return _Tally(problems=[Problem(path, None, str(error))])
    scratch, ends = array.codec.scratch(), []
    first = tuple(p * n for p, n in zip(position, inside, strict=True))
    for k, offset in enumerate(np.ndindex(inside)):
        chunk = tuple(f + o for f, o in zip(first, offset, strict=True))
        if any(i * c >= n for i, c, n in zip(chunk, array.chunks, array.shape, strict=True)):
            continue
        try:
            encoded = array.encoded(chunk) if shard is None else shard.encoded(k)
            if encoded is None:
                tally.empty += 1
                continue
            tally.add(_Tally(1, 0, encoded.size))
            ends.append(encoded[-4:].tobytes())
            array.codec.decode(encoded, scratch, partial(_where, path, chunk))
        except DamagedError as error:
            tally.problems.append(Problem(path, chunk, str(error)))
    if shard is None:
        return tally
    used = sum(shard.length(k) for k in range(prod(inside))) + 16 * prod(inside) + 4
    if array.complete and used != shard.size:
        tally.problems.append(Problem(path, None, f"{shard.size} bytes, of which the index accounts for {used}"))
    if array.seal is not None and not tally.problems and chunks_sum(ends) != array.seal.at(position)[1]:
        what = "its chunks are sound, but not those that were written here; transcode the source again"
        tally.problems.append(Problem(path, None, what))
    return tally


def _where(path: str, chunk: Position) -> tuple[str, str]:
    return path, f"chunk {chunk}"


def _check_tiles(array: TiffArray, row: Position) -> _Tally:
    scratch, tally = array.codec.scratch(), _Tally()
    chunks = [(*row, x) for x in range(array.segments[-1])]
    if array.remote:
        try:
            for number, encoded in fetch([(array, chunk) for chunk in chunks]):
                size = 0 if encoded is None else sum(piece.size for piece in encoded)
                tally.add(_Tally(size > 0, size == 0, size))
                if encoded is not None:
                    decode = partial(array.decode_fetched, encoded=encoded, out=scratch)
                    _check_tile(array, chunks[number], decode, tally)
        except DamagedError as error:  # of the tables
            tally.problems.append(Problem(array.files[0].path, None, str(error)))
        return tally
    for chunk in chunks:
        size = array.encoded_size(chunk)
        tally.add(_Tally(size > 0, size == 0, size))
        _check_tile(array, chunk, partial(array.decode, out=scratch), tally)
    return tally


def _check_tile(array: TiffArray, chunk: Position, decode: Callable[[Position], object], tally: _Tally) -> None:
    try:
        decode(chunk)
    except DamagedError as error:
        tally.problems.append(Problem(array.files[0].path, chunk, str(error)))


def _check_through_zarr(array: ZarrArray, chunk: Position) -> _Tally:
    box = tuple(slice(i * c, min(n, (i + 1) * c), 1) for i, c, n in zip(chunk, array.chunks, array.shape, strict=True))
    try:
        [pixels] = array.read([box])
    except StoreError as error:
        return _Tally(1, problems=[Problem(array.name, chunk, f"zarr-python cannot read it ({error.__cause__!r})")])
    return _Tally(1, nbytes=pixels.nbytes)


MOST_MISSING = 100
"""Missing files of an array that are named one by one."""


def _check_listing(array: ChunkArray, found: Mapping[str, Position | None]) -> _Tally:
    """Find files among the shards that are not shards, and shards that are missing."""
    problems = [Problem(path, None, "not a file of this array; remove it") for path in found if found[path] is None]
    missing = prod(array.grid) - (len(found) - len(problems)) if array.complete else 0
    if missing:
        # `found` is as long as the directory, whatever the metadata state: the first gaps come early.
        gaps = (path for p in positions(array.grid) if (path := array.shard_file(p)) not in found)
        named = list(islice(gaps, min(missing, MOST_MISSING)))
        problems += [Problem(path, None, "the file is missing; transcode the source again") for path in named]
        if missing > len(named):
            problems.append(Problem(array.name, None, f"{missing - len(named):,} more files are missing"))
    return _Tally(problems=problems)


def _check_metadata(pyramid: Multiscale) -> Iterator[Problem]:
    root = os.path.join(pyramid.path, "zarr.json")
    own = pyramid.attrs.get("ndzarr")
    for what in _disagreements(pyramid, own):
        yield Problem(root, None, what)
    try:
        node = json.loads(read_file(root))
    except FileNotFoundError:  # Zarr v2, or remote
        return
    if (nodes := _nodes(node)) is None:
        yield Problem(root, None, _NO_NODES)
        return
    yield from _check_seal(root, node, nodes)
    for name, inner in nodes.items():
        yield from _check_node(os.path.join(pyramid.path, name, "zarr.json"), inner)
    if own is not None and "ndzarr" in (node.get("attributes") or {}):
        yield from _check_coordinates(pyramid, nodes)
        if "indexes" in own:
            yield from _check_indexes(pyramid, own["indexes"])


def _is_node(node: Any) -> bool:
    return isinstance(node, Mapping) and isinstance(node.get("attributes", {}), Mapping)


def _check_seal(file: str, root: Mapping[str, Any], nodes: Mapping[str, Any]) -> Iterator[Problem]:
    """Check that the metadata are those that ndzarr wrote with the pixels."""
    attributes = root.get("attributes") or {}
    sealed = is_sealed(attributes, nodes)
    if sealed is False:
        yield Problem(file, None, "the metadata are not those that were written with the pixels (another digest)")
    elif sealed is None and any(SEAL in (node.get("attributes") or {}) for node in nodes.values()):
        yield Problem(file, None, "the digest of the metadata is missing")
    if sealed is not None:
        consolidated = {"kind": "inline", "must_understand": False, "metadata": nodes}
        whole = {
            "zarr_format": 3,
            "node_type": "group",
            "consolidated_metadata": consolidated,
            "attributes": attributes,
        }
        if root != whole:
            yield Problem(file, None, "not the metadata of a Zarr group, or not consolidated")


def _disagreements(pyramid: Multiscale, own: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield contradictions between levels, channels and times."""
    for k, level in enumerate(pyramid.levels):
        for d, n, whole, factor in zip(pyramid.dims, level.shape, pyramid.shape, level.factors, strict=True):
            least = ceil(whole / factor) if own is not None else max(1, floor(whole / factor))
            if not least <= n <= ceil(whole / factor):
                yield f"level {k} has {n} pixels along {d}; {ceil(whole / factor)} are 1/{factor:g} of {whole}"
        if level.mask is not None:
            want = tuple(n for d, n in zip(pyramid.dims, level.shape, strict=True) if d != "c")
            if level.mask.shape != want:
                yield f"the mask of level {k} has shape {level.mask.shape}; {want} is that of the image"
        if level.array.dtype != pyramid.dtype:
            yield f"level {k} holds {level.array.dtype}, level 0 holds {pyramid.dtype}"
    for axis, key in (("c", "channels"), ("t", "times")):
        values = (own or {}).get(key)
        if values is not None and axis in pyramid.dims and len(values) != pyramid.sizes[axis]:
            yield f"there are {len(values)} {key}, but {pyramid.sizes[axis]} pixels along {axis}"


def _check_node(file: str, node: Any) -> Iterator[Problem]:
    """Check that the metadata of a node are those in the consolidated metadata."""
    try:
        if parse_json(read_file(file), file) != node:
            yield Problem(file, None, "differs from the consolidated metadata of the root")
    except FileNotFoundError:
        yield Problem(file, None, "the file is missing")
    except StoreError as error:
        yield Problem(file, None, str(error))


def _check_indexes(pyramid: Multiscale, starts: Mapping[str, int]) -> Iterator[Problem]:
    """Check that the file of the indexes of all shards says of each what its seal says."""
    file = os.path.join(pyramid.path, INDEXES)
    try:
        content = read_file(file)
    except FileNotFoundError:
        yield Problem(file, None, "the file is missing")
        return
    for array in [array for level in pyramid.levels for array in (level.array, level.mask)]:
        if not isinstance(array, ChunkArray) or array.seal is None:
            continue
        length = Record.length(prod(array.per_shard))
        at = starts.get(Path(os.path.relpath(array.name, pyramid.path)).as_posix(), len(content))
        for position in positions(array.grid):
            record = content[at : at + length]
            if len(record) < length or Record.parse(record).seal != array.seal.at(position):
                yield Problem(file, None, f"what it says of {array.shard_file(position)} is not what was written")
            at += length


def _check_coordinates(pyramid: Multiscale, nodes: Mapping[str, Any]) -> Iterator[Problem]:
    """Check that every axis of every level has as many coordinates as pixels."""
    for k, level in enumerate(pyramid.levels):
        for d, n in zip(pyramid.dims, level.shape, strict=True):
            file = os.path.join(pyramid.path, str(k), d, "c", "0")
            stated = nodes.get(f"{k}/{d}", {}).get("shape")
            if stated != [n]:
                yield Problem(file, None, f"the metadata state {stated} coordinates for {n} pixels along {d}")
                continue
            try:
                encoded = read_file(file)
                check_growth("zstd", encoded, min(8 * n + (1 << 20), 1 << 28))
                raw = bytes(numcodecs.zstd.decompress(encoded))
            except FileNotFoundError:
                yield Problem(file, None, "the coordinates are missing")
            except (RuntimeError, ValueError) as error:
                yield Problem(file, None, f"the coordinates do not decode ({error})")
            else:
                stated = nodes[f"{k}/{d}"].get("attributes", {}).get(CHECKSUM)
                if stated is not None and stated != google_crc32c.value(encoded):
                    yield Problem(file, None, "the coordinates are not those that were written here (another checksum)")
                held = int.from_bytes(raw[:4], "little") if d == "c" else len(raw) / 8
                if held != n:
                    yield Problem(file, None, f"holds {held:g} coordinates for {n} pixels along {d}")
