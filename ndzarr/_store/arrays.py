"""
Stored arrays, and the way to read each.

`ChunkArray` is the hot path: a local array of Zarr v2 or v3 with a regular chunk grid, sharded or not, whose chain of
codecs `ChunkCodec` knows. `ZarrArray` is every other array: zarr-python reads it, with the same result. `parse_array`
decides; the `engine` of each says which it is and why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod
from operator import ge
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ndzarr._concurrency import ordered_map
from ndzarr._files import Bytes
from ndzarr._indexing.plan import Chunked, check_memory
from ndzarr._indexing.selection import Selection, lengths
from ndzarr._remote.stores import Landed, Range
from ndzarr._remote.urls import is_url
from ndzarr._store import core
from ndzarr._store.archive import ArchiveFile
from ndzarr._store.codecs import COMPRESSORS, ChunkCodec, parse_codecs
from ndzarr._store.core import MISSING, ChunkFormat
from ndzarr._store.sharding import SHARDS, ChunkKeys, Folder, IndexLayout, Seal, Shard
from ndzarr._validation import shortened
from ndzarr.errors import DamagedError, NdzarrError, StoreError

COMPLETE = "ndzarr_complete"
"""Attribute of an array of which every shard has a file: a missing one is damage, not fill value."""
SEAL = "ndzarr_shards"
"""Attribute of an array with the checksums of its shards (`Seal`), in base64."""


class Codec(Protocol):
    """The layout of decoded chunks, and what decoding them costs."""

    @property
    def order(self) -> tuple[int, ...] | None:
        """Order of axes in memory, None where it is that of the array."""

    @property
    def threaded_bytes(self) -> int:
        """Decoded bytes of a chunk from which on threads pay."""

    @property
    def slow(self) -> bool:
        """True where even a single chunk takes so long to decode that each of a plan is worth a thread."""

    def scratch(self) -> np.ndarray[Any, Any]:
        """Return a buffer that a chunk can be decoded into."""

    def view(self, scratch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the buffer with the axes of the array."""


class Decoded(Chunked, Protocol):
    """An array whose chunks are decoded one by one."""

    @property
    def chunked(self) -> Literal[True]:
        """Tells it from `Windowed`."""

    @property
    def remote(self) -> bool:
        """True for `Fetched`."""

    @property
    def codec(self) -> Codec:
        """Layout of decoded chunks."""

    @property
    def fill(self) -> Any:
        """Value of the pixels of a missing chunk."""

    @property
    def chunk_format(self) -> ChunkFormat | None:
        """How the compiled core decodes a chunk; None if it cannot, as the array is not `Located`."""

    @property
    def shards(self) -> tuple[int, ...]:
        """Shape of what is stored together, and best read together."""

    def key(self, chunk: tuple[int, ...]) -> tuple[Any, ...]:
        """Return what identifies a chunk in caches; it changes when the file does."""

    def decode(
        self, chunk: tuple[int, ...], out: np.ndarray[Any, Any], wanted: tuple[slice, ...] | None = None
    ) -> bool:
        """
        Decode a whole chunk, also at the border, into a buffer.

        If `wanted` is given, only that part of the buffer need be right. A missing chunk writes nothing and returns
        False.
        """


class OpenShard(Protocol):
    """Chunks that are stored together, while their file is open."""

    @property
    def source(self) -> tuple[int, int]:
        """Descriptor of the open file, and address of offset and length of each chunk; as long as the object lives."""


class Located(Decoded, Protocol):
    """An array with a `chunk_format`: it says where the bytes of its chunks are, and the compiled core decodes them."""

    @property
    def per_shard(self) -> tuple[int, ...]:
        """Number of chunks in a shard along each axis."""

    @property
    def shard_count(self) -> int:
        """Number of shards of the array."""

    def shards_touched(self, selection: Selection) -> int:
        """Return an upper bound of the number of shards that a window touches, which are open while it is read."""

    def shards_of(self, selection: Sequence[slice]) -> Sequence[OpenShard | None]:
        """Return the open shards that a window with steps of 1 touches, in C order; None where there is no file."""

    def check(self) -> None:
        """Raise `StoreError` if chunks that were just decoded may be those of another version of the file."""

    def place(self, chunk: tuple[int, ...]) -> tuple[tuple[int, int, int], object]:
        """Return source, offset and length of one chunk (`core.FlatPlan.chunks`), and what must live meanwhile."""

    def locate(self, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], object]:
        """Do the same for many: positions have the shape (chunk, axis), the result has (chunk, 3)."""


class Fetched(Decoded, Protocol):
    """An array whose encoded chunks are fetched over the network, together with those of others (`_store.fetch`)."""

    @property
    def fetched_format(self) -> ChunkFormat | None:
        """How the compiled core decodes the bytes of a chunk; None if it cannot."""

    def where(self, chunk: tuple[int, ...], tables: Tables) -> tuple[Range, ...] | None:
        """
        Return where the bytes of a chunk are: () if it is missing, which means that it is all fill value.

        What has to be read before that is known is looked up in `tables`; None if that did not hold it yet.
        """

    def ranges(self, chunks: Sequence[tuple[int, ...]]) -> Sequence[tuple[Range, ...]]:
        """Return where the bytes of chunks are, as `where` does; fetches the tables that tell."""

    def decode_fetched(
        self,
        chunk: tuple[int, ...],
        encoded: Sequence[Bytes],
        out: np.ndarray[Any, Any],
        wanted: tuple[slice, ...] | None = None,
    ) -> None:
        """Decode a chunk from the bytes of its ranges, as `decode` does."""

    def missing(self, chunk: tuple[int, ...]) -> Any:
        """Return the pixels of a chunk that has no bytes: a number, or an array of its shape."""


class Tables(Protocol):
    """What is known of where chunks are: shard indexes, tables of tiles."""

    def known(self, key: Hashable) -> Any:
        """Return what `look` does if it is fetched already, else None."""

    def look(self, key: Hashable, source: Callable[[], Range], parse: Callable[[Landed], Any]) -> Any:
        """Return what `parse` made of the bytes of `source`; None if they are not fetched yet, which is then done."""


class Windowed(Chunked, Protocol):
    """An array that is read window by window."""

    @property
    def chunked(self) -> Literal[False]:
        """Tells it from `Decoded`."""

    def read(self, selections: Sequence[Selection]) -> list[np.ndarray[Any, Any]]:
        """Return the pixels of each selection."""


Stored: TypeAlias = "Decoded | Windowed"
"""Where the pixels of a level are."""


class ChunkArray:
    """A local array whose chunks are decoded without zarr-python."""

    __slots__ = (
        "_folder",
        "_per_shard",
        "chunk_format",
        "chunks",
        "codec",
        "complete",
        "dtype",
        "fill",
        "name",
        "repair",
        "shape",
        "shard_count",
        "sharded",
    )  # fmt: skip

    chunked: Literal[True] = True
    remote = False
    engine = "local files"

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        codec: ChunkCodec,
        per_shard: tuple[int, ...] | None,
        fill: Any,
        version: Hashable = 0,
        complete: bool = False,
        seal: Seal | None = None,
        keys: ChunkKeys = ChunkKeys(),  # noqa: B008 - a tuple
        index: IndexLayout | None = None,
        archive: ArchiveFile | None = None,
    ) -> None:
        """
        Describe the array in a directory, by its absolute path; nothing is opened.

        `per_shard` counts the chunks of a shard along each axis, None if chunks are files of their own. `version`
        changes when the store is replaced, so that nothing cached outlives it. In a `complete` array every shard has a
        file; one that is missing was lost. A `seal` tells the shards that were written here from all others. `keys` and
        `index` are where shards and their indexes are, if not where ndzarr writes them. If the directory is in a zip,
        that is `archive`.
        """
        self.name = name
        self.shape = shape
        self.codec = codec
        self.chunks = codec.shape
        self.dtype = codec.dtype
        self.fill = fill
        self.sharded = per_shard is not None
        self.chunk_format = codec.chunk_format(fill) if self.sharded else None
        self.complete = complete
        self.repair: Callable[[DamagedError], object] | None = None
        """Makes the store again, if it is a cache; raises the error if it cannot."""
        self._per_shard = per_shard or (1,) * len(shape)
        self.shard_count = prod(self.grid)
        self._folder = Folder(name, version, keys, index or IndexLayout(prod(self._per_shard)), seal, archive)

    @property
    def decoder(self) -> str:
        """What decodes its chunks."""
        return (
            "compiled core" if core.enabled and self.chunk_format is not None and self.chunk_format.known else "Python"
        )

    @property
    def per_shard(self) -> tuple[int, ...]:
        """Number of chunks in a file along each axis."""
        return self._per_shard

    @property
    def shards(self) -> tuple[int, ...]:
        """Shape of the part of the array that is in one file."""
        return tuple([c * n for c, n in zip(self.chunks, self._per_shard, strict=True)])

    def key(self, chunk: tuple[int, ...]) -> tuple[Any, ...]:
        """Return what identifies a chunk in caches."""
        return (self._folder, chunk)

    def encoded(self, chunk: tuple[int, ...]) -> np.ndarray[Any, Any] | None:
        """Return the bytes of a chunk; None if it is missing, which means that it is all fill value."""
        if not self.sharded:
            try:
                return self._folder.content(chunk)
            except FileNotFoundError:
                self._folder.refuse_gone()
                return None
        k, position = 0, []
        for i, n in zip(chunk, self._per_shard, strict=True):
            k = k * n + i % n
            position.append(i // n)
        shard = self._shard(tuple(position))
        return None if shard is None else shard.encoded(k)

    def locate(self, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], list[Shard]]:
        """
        Return source, offset and length of chunks, shape (chunk, 3), and what must live while they are read.

        `positions` has the shape (chunk, axis). The chunks of a shard that has no file are missing.
        """
        shard, within = np.divmod(positions, self._per_shard)
        k = np.ravel_multi_index(tuple(within.T), self._per_shard)
        number = np.ravel_multi_index(tuple(shard.T), self.grid)
        order = np.argsort(number, kind="stable")
        borders = np.flatnonzero(np.diff(number[order], prepend=-1, append=-1))
        out = np.full((len(positions), 3), MISSING, np.int64)
        held = []
        for start, stop in pairwise(borders.tolist()):
            rows = order[start:stop]
            found = self._shard(tuple(shard[rows[0]].tolist()))
            if found is not None:
                out[rows, 0] = found.source[0]
                out[rows, 1:] = found.table[k[rows]]
                held.append(found)
        return out, held

    def shards_of(self, selection: Sequence[slice]) -> list[Shard | None]:
        """Return the open shards that a window with steps of 1 touches, in C order; None where there is no file."""
        touched = [
            range(s.start // n, (s.stop - 1) // n + 1) if s.start < s.stop else range(0)
            for s, n in zip(selection, self.shards, strict=True)
        ]
        return [self._shard(position) for position in product(*touched)]

    def check(self) -> None:
        """Do nothing: the files of a store are not written to."""

    def shards_touched(self, selection: Selection) -> int:
        """Return an upper bound of the number of shards that a window touches."""
        counts = [
            len(s) if isinstance(s, tuple) else max(0, (s.stop - 1) // n - s.start // n + 1)
            for s, n in zip(selection, self.shards, strict=True)
        ]
        return min(prod(counts), self.shard_count)

    def place(self, chunk: tuple[int, ...]) -> tuple[tuple[int, int, int], Shard | None]:
        """Return source, offset and length of one chunk, and what must live while it is read."""
        k, position = 0, []
        for i, n in zip(chunk, self._per_shard, strict=True):
            k = k * n + i % n
            position.append(i // n)
        shard = self._shard(tuple(position))
        return (MISSING if shard is None else shard.place(k)), shard

    def _shard(self, position: tuple[int, ...]) -> Shard | None:
        """Return an open shard; None if it has no file, and its chunks are fill value."""
        shard = SHARDS[self._folder, position]
        if shard is None and self.complete:
            raise _missing(self.shard_file(position))
        return shard

    def encoded_size(self, chunk: tuple[int, ...]) -> int:
        """Return the number of bytes that a chunk takes in its file, 0 if it is missing."""
        found = self.encoded(chunk)
        return 0 if found is None else found.size

    def decode(
        self, chunk: tuple[int, ...], out: np.ndarray[Any, Any], wanted: tuple[slice, ...] | None = None
    ) -> bool:
        """
        Decode a chunk into a buffer of the codec's stored shape; return False where it is missing, and write nothing.

        All of it is decoded, whatever is wanted, since its checksum covers all of it.
        """
        found = self.encoded(chunk)
        if found is None:
            return False
        self.codec.decode(found, out, lambda: (self._file(chunk), f"chunk {chunk}"))
        return True

    def _file(self, chunk: tuple[int, ...]) -> str:
        return self.shard_file(tuple(i // n for i, n in zip(chunk, self._per_shard, strict=True)))

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of shards along each axis."""
        return tuple(-(-n // s) for n, s in zip(self.shape, self.shards, strict=True))

    @property
    def seal(self) -> Seal | None:
        """Checksums of the shards, if the metadata state them."""
        return self._folder.seal

    @property
    def version(self) -> Hashable:
        """Changes when the store is replaced."""
        return self._folder.version

    def holds(self, path: str | None) -> bool:
        """Return True for the path of the array's directory, or of one of its files."""
        return path is not None and f"{path}/".startswith(f"{self.name}/")

    def adopt(self, other: ChunkArray) -> bool:
        """Read the files of the same array from now on, made again; return False if their layout is another."""
        same = (self.name, self.shape, self.codec, self._per_shard) == (
            (other.name, other.shape, other.codec, other._per_shard)
        )
        if same:
            self._folder = other._folder
        return same

    def open_shard(self, position: tuple[int, ...]) -> Shard:
        """Open a shard anew, and check its index; raise `DamagedError` if the file is missing."""
        try:
            return self._folder.shard(position)
        except FileNotFoundError as error:
            raise _missing(self.shard_file(position)) from error

    def check_shards(self) -> None:
        """Raise `DamagedError` for the first shard of a complete array that is missing, cut or zeroed; decode none."""
        if self.complete:
            for position in positions(self.grid):
                self.open_shard(position)

    def files(self, paths: Iterable[str] | None = None) -> Iterator[tuple[str, tuple[int, ...] | None]]:
        """
        Yield the files in place of shards, and their positions; None for all other files there.

        `paths` are all files below the array, those on the disk by default.
        """
        keys = self._folder.keys
        start = f"{self.name}/c{keys.separator}" if keys.prefixed else f"{self.name}/"
        for path in self._folder.files() if paths is None else paths:
            if path.startswith(start) and path[len(start) :] not in _METADATA:
                indices = path[len(start) :].split(keys.separator)
                position = tuple(int(i) for i in indices if i.isascii() and i.isdigit())
                known = len(position) == len(self.grid) and not any(map(ge, position, self.grid))
                yield path, position if known and self.shard_file(position) == path else None

    def shard_file(self, position: tuple[int, ...]) -> str:
        """Return the path of a shard, by its position in the grid of shards."""
        return self._folder.file(position)


def positions(grid: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield all positions of a grid in C order, one by one: a stated one may have any size."""
    for k in range(prod(grid)):
        position = []
        for n in reversed(grid):
            k, i = divmod(k, n)
            position.append(i)
        yield tuple(reversed(position))


def _missing(path: str) -> DamagedError:
    return DamagedError(f"{path}: this shard is missing", path=path, hint="Transcode the source again")


_TOGETHER = 16
"""Windows of a remote array that zarr-python reads at a time; each waits for many requests."""


class ZarrArray:
    """Any array that zarr-python can open; reads whole windows through it."""

    __slots__ = ("_zarr", "chunks", "dtype", "engine", "fill", "name", "shape")

    chunked: Literal[False] = False

    def __init__(self, array: Any, name: str, reason: str) -> None:
        self._zarr = array
        self.name = name
        self.shape = tuple(array.shape)
        try:
            self.chunks = tuple(max(1, int(n)) for n in array.chunks)
        except (NotImplementedError, TypeError, AttributeError):  # rectilinear grids (zarr >= 3.2) count as one chunk
            self.chunks = tuple(max(1, n) for n in array.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        self.fill = array.fill_value
        self.engine = f"zarr-python ({reason})"

    @property
    def sharded(self) -> bool:
        """True where chunks are parts of files."""
        return getattr(self._zarr, "shards", None) is not None

    def exists(self, chunk: tuple[int, ...]) -> bool:
        """Return False if a chunk, or the shard that holds it, has no file; True if only reading would tell."""
        if not os.path.isdir(self.name):  # a URL, or within a zip
            return True
        whole = getattr(self._zarr, "shards", None) or self._zarr.chunks
        position = tuple(i * c // n for i, c, n in zip(chunk, self.chunks, whole, strict=True))
        return os.path.exists(os.path.join(self.name, self._zarr.metadata.encode_chunk_key(position)))

    def encoded_size(self, chunk: tuple[int, ...]) -> None:
        """Return None: zarr-python does not tell beforehand."""
        return

    def read(self, selections: Sequence[Selection]) -> list[np.ndarray[Any, Any]]:
        """Return the pixels of each selection; those of a remote array are read concurrently."""
        if is_url(self.name):
            return list(ordered_map(self._read, selections, min(_TOGETHER, len(selections)) or 1, name="zarr"))
        return [self._read(selection) for selection in selections]

    def _read(self, selection: Selection) -> np.ndarray[Any, Any]:
        shape = lengths(selection)
        if not all(shape):  # zarr-python takes no empty sequence of indices
            return np.empty(shape, self.dtype)
        try:
            if all(isinstance(s, slice) for s in selection):
                return np.asarray(self._zarr[selection])
            return np.asarray(self._zarr.oindex[tuple(list(s) if isinstance(s, tuple) else s for s in selection)])
        except (MemoryError, NdzarrError):
            raise
        except Exception as error:  # whatever a codec, or a connection, raises
            where = ", ".join(f"{s.start}:{s.stop}" if isinstance(s, slice) else str(list(s)) for s in selection)
            kind = StoreError if is_url(self.name) or isinstance(error, OSError) else DamagedError
            raise kind(
                f"{self.name}: zarr-python cannot read [{where}] of it ({type(error).__name__}: {error})",
                path=self.name,
                window=selection,
            ) from error


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """What metadata say of an array that the hot path reads."""

    shape: tuple[int, ...]
    codec: ChunkCodec
    per_shard: tuple[int, ...] | None
    """Chunks of a shard along each axis, None if chunks are objects of their own."""
    fill: Any
    keys: ChunkKeys
    index: IndexLayout
    """Where the index of a shard stands, and how it is encoded; unused without shards."""
    complete: bool = False
    """True if every shard was written."""
    seal: Seal | None = None


def open_array(path: str, metadata: Mapping[str, Any], version: Hashable = 0, sealed: bool = False) -> ChunkArray | str:
    """
    Return the hot-path array that Zarr v3 metadata describe, or the reason why zarr-python has to read it.

    `sealed` metadata are as ndzarr wrote them, so that what they say of the shards is true.
    """
    found = parse_array(path, metadata, sealed)
    return found if isinstance(found, str) else local_array(path, found, version)


def local_array(
    path: str, layout: ArrayLayout, version: Hashable = 0, archive: ArchiveFile | None = None
) -> ChunkArray:
    """Return the array in a directory, which may be in a zip, of which the layout is known."""
    form = layout.shape, layout.codec, layout.per_shard, layout.fill
    return ChunkArray(path, *form, version, layout.complete, layout.seal, layout.keys, layout.index, archive)


def parse_array(path: str, metadata: Mapping[str, Any], sealed: bool = False) -> ArrayLayout | str:
    """Return the layout that Zarr v3 metadata describe, or the reason why zarr-python has to read the array."""
    if metadata.get("node_type") != "array":
        found = metadata.get("node_type")
        raise StoreError(f"{path}: expected the metadata of a Zarr array, found {found!r}", path=path)
    metadata = complete_array(metadata)
    grid = metadata["chunk_grid"]
    if grid["name"] != "regular":
        return f"chunk grid {grid['name']!r}"
    name = metadata["data_type"]
    if not isinstance(name, str) or name not in _DTYPES:
        return f"data type {name!r}"
    dtype = np.dtype(_DTYPES[name])
    if metadata.get("storage_transformers"):
        return "storage transformers"
    keys = _named(metadata.get("chunk_key_encoding", "default"))
    if keys["name"] not in _SEPARATORS:
        return f"chunk keys {keys['name']!r}"
    shape = _lengths(path, "shape", metadata["shape"], 0)
    if prod(shape) >= 1 << 63:
        raise StoreError(f"{path}: shape={shape} is that of no image", path=path, key="shape", hint=_DAMAGED)
    outer = _lengths(path, "chunk_shape", grid["configuration"]["chunk_shape"], 1, len(shape))
    codecs = [_named(c) for c in metadata["codecs"]]
    per_shard: tuple[int, ...] | None = None
    chunks, index = outer, IndexLayout(1)
    if [c["name"] for c in codecs] == ["sharding_indexed"]:
        config = codecs[0]["configuration"]
        chunks, codecs = (
            _lengths(path, "chunk_shape", config["chunk_shape"], 1, len(shape)),
            [_named(c) for c in config["codecs"]],
        )
        per_shard = tuple(n // k for n, k in zip(outer, chunks, strict=True))
        found = IndexLayout.parse(
            prod(per_shard), config.get("index_location", "end"), [_named(c) for c in config["index_codecs"]]
        )
        if found is None:
            return "shard index"
        index = found
        if any(n % k for n, k in zip(outer, chunks, strict=True)):
            message = f"{path}: its metadata state shards of {outer}, which are not whole chunks of {chunks}"
            raise StoreError(message, path=path, key="chunk_shape", hint=_DAMAGED)
    what = f"a chunk of chunk_shape={chunks}"
    check_memory(prod(chunks) * dtype.itemsize, StoreError, what=what, path=path, key="chunk_shape", hint=_DAMAGED)
    codec = parse_codecs(codecs, chunks, dtype)
    if codec is None:
        return f"codecs {' '.join(c['name'] for c in codecs)}"
    if codec.order is not None and sorted(codec.order) != list(range(len(shape))):
        raise StoreError(f"{path}: order={codec.order} is not one of its axes", path=path, key="order", hint=_DAMAGED)
    separator = (keys.get("configuration") or {}).get("separator", _SEPARATORS[keys["name"]])
    if separator not in ("/", "."):
        raise StoreError(f"{path}: separator={shortened(separator)}", path=path, key="separator", hint=_DAMAGED)
    attributes = metadata.get("attributes") or {}
    complete = bool(attributes.get(COMPLETE)) and per_shard is not None
    fill, seal = _fill(metadata["fill_value"], dtype), None
    if sealed and complete and SEAL in attributes:
        seal = Seal.parse(attributes[SEAL], tuple(-(-n // s) for n, s in zip(shape, outer, strict=True)))
    where = ChunkKeys(separator, keys["name"] == "default")
    return ArrayLayout(shape, codec, per_shard, fill, where, index, complete, seal)


_OF_BYTES = ("gzip", "zstd", "blosc", "crc32c")


def complete_array(node: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the metadata of an array of Zarr v3 with what GDAL leaves out, though the specification wants it.

    Before 3.11 that is the codec that makes bytes of pixels, which are little-endian; since 3.13 it is the fill value
    of arrays without nodata.
    """
    whole = {**node, "codecs": _complete_codecs(node.get("codecs"))}
    if node.get("fill_value", 0) is None:
        kind = str(node.get("data_type"))
        whole["fill_value"] = [0, 0] if kind.startswith("complex") else False if kind == "bool" else 0
    return whole


def _complete_codecs(codecs: Any) -> list[Any]:
    found = [] if codecs is None else list(codecs)
    names = [_named(c)["name"] for c in found]
    first = next((k for k, name in enumerate(names) if name != "transpose"), len(names))
    if all(name in _OF_BYTES for name in names[first:]):
        found.insert(first, {"name": "bytes", "configuration": {"endian": "little"}})
    return found


def parse_v2_array(path: str, metadata: Mapping[str, Any]) -> ArrayLayout | str:
    """Return the layout that a `.zarray` of Zarr v2 describes, or the reason why zarr-python has to read the array."""
    order, shape, named = metadata.get("order"), metadata["shape"], metadata["dtype"]
    if order not in ("C", "F"):
        return f"order of axes {shortened(order)}"
    if not isinstance(named, str) or named[:1] not in "<|>" or named[1:] not in _V2_NAMES:
        return f"data type {shortened(named)}"
    codecs: list[Any] = []
    if order == "F":
        codecs.append({"name": "transpose", "configuration": {"order": list(range(len(shape)))[::-1]}})
    native = np.dtype(named).newbyteorder("=").str
    for codec in metadata.get("filters") or ():
        # The filter sees the bytes as they are stored, so it has to know them by the same type.
        if codec["id"] != "delta" or {np.dtype(codec[k]) for k in ("dtype", "astype") if k in codec} != {
            np.dtype(named)
        }:
            return f"filters {' '.join(str(c.get('id')) for c in metadata['filters'])}"
        codecs.append({"name": "numcodecs.delta", "configuration": {"dtype": native}})
    codecs.append({"name": "bytes", "configuration": {"endian": "big" if named[0] == ">" else "little"}})
    compressor = metadata.get("compressor")
    if compressor is not None:
        if compressor["id"] not in COMPRESSORS:
            return f"codec {shortened(compressor['id'])}"
        config = {"cname": compressor.get("cname"), "shuffle": "noshuffle"} if compressor["id"] == "blosc" else {}
        level = {"clevel": compressor.get("clevel"), "level": compressor.get("level", 0)}
        codecs.append({"name": compressor["id"], "configuration": config | level})
    fill = metadata.get("fill_value")
    as_v3 = {
        "node_type": "array",
        "shape": shape,
        "data_type": _V2_NAMES[named[1:]],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": metadata["chunks"]}},
        "chunk_key_encoding": {
            "name": "v2",
            "configuration": {"separator": metadata.get("dimension_separator", ".")},
        },
        "fill_value": 0 if fill is None else fill,
        "codecs": codecs,
    }
    return parse_array(path, as_v3)


_METADATA = ("zarr.json", ".zarray", ".zattrs")
"""Files of an array that are not chunks."""
_SEPARATORS = {"default": "/", "v2": "."}
"""Ways in which chunks are named to what stands between their indices, if the metadata do not say."""
_DAMAGED = "Fetch or write the store again"

LONGEST = 1 << 53
"""Pixels along an axis that no array has, and that floats do not count exactly."""
MOST_AXES = 16


def _lengths(path: str, key: str, value: Any, least: int, number: int | None = None) -> tuple[int, ...]:
    """Return the length of each axis of an array, or of its chunks."""
    fits = isinstance(value, list) and len(value) <= MOST_AXES and number in (None, len(value))
    if not fits or any(type(n) is not int or not least <= n < LONGEST for n in value):
        message = f"{path}: {key}={shortened(value)} in its metadata does not give the lengths of its axes"
        raise StoreError(message, path=path, key=key, hint=_DAMAGED)
    return tuple(value)


def _named(codec: Any) -> Mapping[str, Any]:
    """Zarr v3.1 lets a codec without options be just its name."""
    return {"name": codec} if isinstance(codec, str) else codec


_DTYPES = {
    "bool": "?",
    **{f"{kind}{bits}": f"{kind[0]}{bits // 8}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"f{bits // 8}" for bits in (16, 32, 64)},
    **{f"complex{bits}": f"c{bits // 8}" for bits in (64, 128)},
}
"""Zarr's names of data types to numpy's."""


def _fill(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return a fill value from its JSON form (https://zarr-specs.readthedocs.io/en/latest/v3/data-types/)."""
    if isinstance(value, list):
        return dtype.type(complex(_fill(value[0], np.dtype("f8")), _fill(value[1], np.dtype("f8"))))
    if isinstance(value, str) and value.startswith("0x"):
        return np.frombuffer(int(value, 16).to_bytes(dtype.itemsize, "little"), dtype)[0]
    return dtype.type(float(value) if isinstance(value, str) else value)


_V2_NAMES = {"b1": "bool", **{code: name for name, code in _DTYPES.items() if name != "bool"}}
"""Types of Zarr v2, without their order of bytes, to Zarr's names of data types."""
