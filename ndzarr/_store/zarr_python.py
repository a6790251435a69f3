"""
The door to zarr-python: which codecs and data types a store may name, and how far its chunks may grow.

A store names the code that decodes it. zarr-python imports that code from any installed package that offers it (by an
entry point), and some of numcodecs' own codecs run what the chunk says (`pickle`). `open_node` therefore reads all
metadata through `_Guard`, which knows the codecs below by name, and refuses others before anything is imported.

A chunk also says how long it will be once it is decompressed. The codecs of opened arrays are wrapped, so that this is
checked before memory is taken.
"""

from __future__ import annotations

import asyncio
import bz2
import json
import lzma
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_bytes
from zarr.abc.codec import BytesBytesCodec
from zarr.abc.store import Store
from zarr.codecs import ShardingCodec
from zarr.storage import WrapperStore

from ndzarr._indexing.plan import check_memory
from ndzarr._remote.stores import RemoteStore
from ndzarr._remote.urls import joined
from ndzarr._store.archive import ArchiveFile, ArchiveObject
from ndzarr._store.arrays import LONGEST, MOST_AXES, complete_array
from ndzarr._store.codecs import JPEG, blosc_size, zstd_size
from ndzarr._store.metadata import parse_json
from ndzarr._validation import shortened
from ndzarr.errors import DamagedError, StoreError

if TYPE_CHECKING:
    import zarr
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer

_FILTERS = (
    *("adler32", "astype", "bitround", "blosc", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset", "fletcher32"),
    *("gzip", "jenkins_lookup3", "lz4", "lzma", "packbits", "quantize", "shuffle", "zlib", "zstd"),
)
"""numcodecs' codecs of numbers."""
_OF_TEXT = ("vlen-utf8", "vlen-bytes")
"""Codecs of coordinates beside images; they make strings and nothing else."""
CODECS = frozenset(
    (
        *("bytes", "transpose", "blosc", "zstd", "gzip", "crc32c", "sharding_indexed", "scale_offset", "cast_value"),
        *(JPEG, *_FILTERS, *_OF_TEXT),
        *(f"numcodecs.{name}" for name in _FILTERS),
    )
)
"""Names of the codecs that a store may ask for, of Zarr v2 (numcodecs) and v3."""
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
_HINT = "If you trust it, open it with zarr-python and pass the array to ndzarr.transcode"


def open_node(path: str, store: RemoteZarrStore | None = None) -> Any:
    """
    Open a Zarr array or group, by its directory, or by its URL and store, for reading.

    Raises
    ------
    StoreError
        A codec or data type of it is not known to be safe.
    """
    import zarr
    from zarr.storage import LocalStore

    return zarr.open(_Guard(store or LocalStore(path, read_only=True), path), mode="r")


def bounded(array: zarr.Array[Any], labels: bool = False) -> zarr.Array[Any]:
    """
    Return an array whose chunks are refused if they would grow far beyond their size.

    Arrays of `labels` may hold text and dates, others only numbers.
    """
    import zarr

    if array.dtype.kind not in "biufc" and not labels:
        raise StoreError(f"{array.store_path}: its data type is {array.dtype}, which is not one of pixels", hint=_HINT)
    try:
        chunks = array.chunks
    except NotImplementedError:  # rectilinear grids (zarr >= 3.2) have chunks of many shapes
        chunks = (1,) * array.ndim
    if len(array.shape) > MOST_AXES or any(n >= LONGEST for n in array.shape) or not all(chunks):
        stated = f"shape={shortened(array.shape)} and chunks={shortened(chunks)}"
        message = f"{array.store_path}: {stated} in its metadata are those of no image"
        raise StoreError(message, path=str(array.store_path), key="shape", hint=_HINT)
    nbytes = prod(chunks) * array.dtype.itemsize
    what = f"a chunk of chunk_shape={chunks}"
    check_memory(nbytes, StoreError, what=what, path=str(array.store_path), key="chunk_shape", hint=_HINT)
    found: Any = array.metadata
    if found.zarr_format == 2:
        most = _most(nbytes)
        filters = None if found.filters is None else tuple(_BoundedNumcodec(f, most) for f in found.filters)
        compressor = None if found.compressor is None else _BoundedNumcodec(found.compressor, most)
        found = replace(found, filters=filters, compressor=compressor)
    else:
        found = replace(found, codecs=tuple(map(_bounded, found.codecs)))
    # Both are private before zarr 3.1.6, which needs NumPy 2.
    inner: Any = getattr(array, "async_array", None) or array._async_array
    config = getattr(inner, "config", None) or inner._config
    return zarr.Array(type(inner)(found, inner.store_path, config))


class _Guard(WrapperStore[Any]):
    """A store whose metadata are looked at before zarr-python sees them."""

    def __init__(self, store: Any, name: str = "") -> None:
        super().__init__(store)
        self._name = name

    def _with_store(self, store: Any) -> Self:
        return type(self)(store, self._name)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Buffer | None:
        found: Buffer | None = await super().get(key, prototype, byte_range)
        if found is not None and key.rpartition("/")[2] in _METADATA:
            node = parse_json(found.to_bytes(), self._name, key)
            if not key.endswith(".zattrs"):
                check_names(node, self._name)
            if (whole := _complete(node)) != node:
                return prototype.buffer.from_bytes(json.dumps(whole).encode())  # type: ignore[no-any-return]
        return found


def _complete(node: Any) -> Any:
    """Return the metadata of an array, or of a group and the arrays consolidated in it, with what GDAL leaves out."""
    if not isinstance(node, Mapping):
        return node
    if node.get("node_type") == "array":
        return complete_array(node)
    inner = node.get("consolidated_metadata")
    if not isinstance(inner, Mapping) or not isinstance(nodes := inner.get("metadata"), Mapping):
        return node
    return {**node, "consolidated_metadata": {**inner, "metadata": {k: _complete(v) for k, v in nodes.items()}}}


class RemoteZarrStore(Store):
    """A path of a `RemoteStore`, or in a zip, for zarr-python to read from: its requests are those of all others."""

    def __init__(self, store: RemoteStore | ArchiveFile | ArchiveObject, path: str) -> None:
        super().__init__(read_only=True)
        self._remote, self._path = store, path
        self._listed: Sequence[str] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteZarrStore) and (self._remote, self._path) == (other._remote, other._path)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Buffer | None:
        start, stop = _bounds(byte_range)
        data = await self._remote.get_async(joined(self._path, key), start, stop)
        return None if data is None else prototype.buffer.from_bytes(data.tobytes())

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> list[Buffer | None]:
        return list(await asyncio.gather(*(self.get(key, prototype, r) for key, r in key_ranges)))

    async def exists(self, key: str) -> bool:
        return await self._remote.get_async(joined(self._path, key)) is not None

    supports_writes = supports_deletes = supports_partial_writes = False
    supports_listing = True

    async def set(self, key: str, value: Buffer) -> None:
        raise NotImplementedError

    async def set_partial_values(self, key_start_values: Any) -> None:
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        raise NotImplementedError

    def list(self) -> AsyncIterator[str]:
        return self.list_prefix("")

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for name in await self._names(prefix):
            yield name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        inside = f"{prefix.rstrip('/')}/".lstrip("/")
        for name in dict.fromkeys(n.removeprefix(inside).partition("/")[0] for n in await self._names(inside)):
            yield name

    async def _names(self, prefix: str) -> Sequence[str]:
        """Return the keys that begin with a prefix; a bucket is listed once."""
        if self._listed is None:
            inner = f"{self._path}/".lstrip("/")
            if hasattr(self._remote, "list"):
                found = [info.path for info in await asyncio.to_thread(self._list, inner)]
            else:
                found = [name for name in self._remote.members if name.startswith(inner)]
            self._listed = [name.removeprefix(inner) for name in found]
        return [name for name in self._listed if name.startswith(prefix)]

    def _list(self, prefix: str) -> Any:
        """Return the objects of a bucket; web servers, which cannot be listed, answer with none or an error."""
        name, why = self._remote.url(self._path), ""  # type: ignore[union-attr]  # not of a zip
        try:
            if found := self._remote.list(prefix):  # type: ignore[union-attr]
                return found
        except StoreError as error:
            why = f" ({error})"
        message = f"{name}: it has no consolidated metadata, and cannot be listed{why}"
        hint = "Open one of its arrays by its path, or consolidate its metadata (zarr.consolidate_metadata)"
        raise StoreError(message, path=name, hint=hint)


def _bounds(byte_range: Any) -> tuple[int | None, int | None]:
    """Return first byte and end of a byte range of zarr-python, as `RemoteStore.get` takes them."""
    if byte_range is None:
        return None, None
    if hasattr(byte_range, "suffix"):
        return -byte_range.suffix, None
    return (byte_range.start, byte_range.end) if hasattr(byte_range, "end") else (byte_range.offset, None)


def check_names(node: Any, path: str) -> None:
    """Raise `StoreError` if the metadata of a node, or those consolidated in it, name a codec that is not known."""
    for name in _names(node):
        if name not in CODECS:
            message = f"{path}: the codec {name!r} is not one that ndzarr lets a store run"
            raise StoreError(message, path=path, key=str(name), hint=_HINT)


def _names(node: Any) -> Iterator[Any]:
    """Yield the names of all codecs in metadata of Zarr v2 or v3, however deep they are nested."""
    waiting = [node]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found
        if not isinstance(found, Mapping):
            continue
        inner = found.get("consolidated_metadata")
        documents = [inner.get("metadata") if isinstance(inner, Mapping) else None]
        documents.append(found.get("metadata") if "zarr_consolidated_format" in found else None)
        waiting += [v for d in documents if isinstance(d, Mapping) for k, v in d.items() if not k.endswith(".zattrs")]
        for key in ("codecs", "index_codecs", "filters", "compressor"):
            for codec in _listed(found.get(key)):
                name = codec.get("name", codec.get("id")) if isinstance(codec, Mapping) else codec
                yield name if isinstance(name, str) else repr(name)
                if isinstance(codec, Mapping):
                    waiting.append(codec.get("configuration"))


def _listed(codecs: Any) -> Iterable[Any]:
    return codecs if isinstance(codecs, list) else () if codecs is None else (codecs,)


def _most(nbytes: int) -> int:
    """Return how many bytes a step of decoding may make for a chunk: filters may hold wider numbers than pixels."""
    return 8 * nbytes + (1 << 20)


def check_growth(name: str, encoded: Any, most: int) -> None:
    """Raise `DamagedError` if a chunk would decompress to more than so many bytes."""
    raw = np.frombuffer(encoded, np.uint8)
    kind = _kind(name)
    if kind in _STREAMS:
        size = _streamed(raw, _STREAMS[kind], most) if kind in ("bz2", "lzma") or 1032 * raw.size > most else 0
    elif kind == "zstd":
        size = zstd_size(raw)
        size = _streamed(raw, _zstd_stream, most) if size < 0 else size
    elif kind == "blosc":
        size = blosc_size(raw)
    elif kind == "lz4":
        size = int.from_bytes(raw[:4].tobytes(), "little")
    else:
        return
    if size > most:
        raise DamagedError(f"a chunk of {raw.size} bytes would decompress to more than {most} ({name})")


def _zstd_stream() -> Any:
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()


_STREAMS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "zlib": zlib.decompressobj,
    "bz2": bz2.BZ2Decompressor,
    "lzma": lzma.LZMADecompressor,
}
_GROWING = ("zstd", "blosc", "lz4", *_STREAMS)
_STEP = 512
"""Bytes that are decompressed at a time; those of zstd may make 16 MiB, which zstandard holds twice."""


def _kind(name: str) -> str:
    return name.removeprefix("numcodecs.")


def _streamed(raw: np.ndarray[Any, Any], make: Callable[[], Any], most: int) -> int:
    """Return how much bytes grow to, counted up to the first number above `most`; faults are left to the decoder."""
    import zstandard

    stream, size, data = make(), 0, raw.tobytes()
    for start in range(0, len(data), _STEP):
        try:
            size += len(stream.decompress(data[start : start + _STEP]))
        except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError, zstandard.ZstdError):
            break
        if size > most or getattr(stream, "eof", False):
            break
    return size


def _bounded(codec: Any) -> Any:
    if isinstance(codec, ShardingCodec):
        return replace(codec, codecs=tuple(map(_bounded, codec.codecs)))
    # Not by `is_fixed_size`, which zarr-python before 3.1.6 states of zstd, too.
    grows = isinstance(codec, BytesBytesCodec) and _kind(str(codec.to_dict()["name"])) in _GROWING
    return _BoundedCodec(codec) if grows else codec


@dataclass(frozen=True)
class _BoundedCodec(BytesBytesCodec):
    """A compressor of Zarr v3."""

    inner: Any
    is_fixed_size = False

    def to_dict(self) -> Any:
        return self.inner.to_dict()

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        return replace(self, inner=self.inner.evolve_from_array_spec(array_spec))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        return int(self.inner.compute_encoded_size(input_byte_length, chunk_spec))

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> Buffer:
        size = prod(chunk_spec.shape) * np.dtype(chunk_spec.dtype.to_native_dtype()).itemsize
        check_growth(str(self.to_dict()["name"]), chunk_data.to_bytes(), _most(size))
        # By the public method: how a codec decodes a single chunk differs between releases of zarr-python.
        [decoded] = await self.inner.decode([(chunk_data, chunk_spec)])
        return decoded  # type: ignore[no-any-return]


class _BoundedNumcodec(Codec):  # type: ignore[misc]  # numcodecs has no types
    """A codec of Zarr v2."""

    codec_id = "bounded"

    def __init__(self, inner: Any, most: int) -> None:
        self._inner, self._most = inner, most

    def encode(self, buf: Any) -> Any:
        return self._inner.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        name = self._inner.codec_id
        if name in _GROWING:
            check_growth(name, ensure_bytes(buf), self._most)
        return self._inner.decode(buf, out)

    def get_config(self) -> Any:
        return self._inner.get_config()
