"""
How a chunk of pixels becomes bytes, and back.

A `ChunkCodec` is one of the short codec chains that the hot path knows. It is parsed from, and printed to, the `codecs`
of Zarr v3 metadata (https://zarr-specs.readthedocs.io/en/latest/v3/core/):

    [transpose] -> [numcodecs.delta] -> bytes -> [blosc | zstd | gzip | zlib] -> [crc32c]
    [transpose] -> imagecodecs_jpeg -> [crc32c]

Compressors may have the names of numcodecs, too ('numcodecs.zlib'). An array of Zarr v2 has the same chains, with order
F as the transpose of all axes (`_store.arrays.parse_v2_array`).

Decoding goes straight into the caller's buffer. `parse_codecs` returns None for any other chain: zarr-python reads
those.
"""

from __future__ import annotations

import gzip
import io
import struct
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import google_crc32c
import imagecodecs
import numcodecs.zstd
import numpy as np

from ndzarr._store import core
from ndzarr._store.core import KINDS, ChunkFormat
from ndzarr.errors import DamagedError

COMPRESSORS = ("blosc", "zstd", "gzip", "zlib")
"""Codecs of Zarr v3, and of numcodecs, that make bytes fewer."""
_CRC_BYTES = 4
_CRC_RESIDUE = 0x48674BC7
"""The crc32c of any bytes followed by their own crc32c."""


@dataclass(frozen=True, slots=True)
class ChunkCodec:
    """A codec chain for chunks of one shape and dtype."""

    shape: tuple[int, ...]
    """Shape of a chunk, in the order of the array's axes."""
    dtype: np.dtype[Any]
    """Native dtype of the pixels."""
    compressor: Literal["blosc", "zstd", "gzip", "zlib", "jpeg"] | None = None
    cname: str = "lz4"
    """Blosc's inner compressor."""
    level: int = 5
    """Compression level, or the quality of JPEG."""
    shuffle: str = "bitshuffle"
    """Blosc's filter: 'noshuffle', 'shuffle' or 'bitshuffle'."""
    delta: bool = False
    """Differences between neighbours along the flattened chunk (`numcodecs.delta`), integers only."""
    order: tuple[int, ...] | None = None
    """Axis order in which pixels are stored (the `transpose` codec), None for the array's own."""
    crc: bool = True
    """A crc32c behind the compressed bytes, checked at every decode."""
    swapped: bool = False
    """Pixels are stored in the order of bytes that this machine does not have."""

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of a chunk with its axes in the stored order."""
        return self.shape if self.order is None else tuple(self.shape[i] for i in self.order)

    @property
    def readers(self) -> str:
        """Who reads such chunks: 'delta' and JPEG are not registered for Zarr v3."""
        if self.compressor == "jpeg":
            return "ndzarr, and zarr-python where ndzarr or imagecodecs is installed"
        return "ndzarr and zarr-python" if self.delta else ANYONE

    @property
    def threaded_bytes(self) -> int:
        """Decoded bytes of a chunk from which on two threads gain by decoding outside Python's lock."""
        slow = self.compressor in ("zstd", "gzip", "zlib", "jpeg") or self.cname == "zstd" or self.delta
        return 128 << 10 if slow else 512 << 10

    @property
    def slow(self) -> bool:
        """False: waking a thread takes as long as decoding one of our chunks."""
        return False

    def chunk_format(self, fill: Any) -> ChunkFormat | None:
        """Return how the compiled core decodes such chunks; None if it cannot."""
        kind = self.compressor or "raw"
        if kind not in KINDS:
            return None
        row: tuple[int, int] | None = (prod(self.shape), 1) if self.delta or self.swapped else None
        if kind == "jpeg":
            *_, width, samples = self.stored_shape if self.order is not None else (*self.shape, 1)
            if samples not in (1, 3):
                return None
            row = width * samples, samples
        return ChunkFormat(
            kind,
            self.shape,
            self.dtype,
            self.order,
            self.crc,
            fill,
            row,
            predictor="horizontal" if self.delta else "none",
            swapped=self.swapped,
            early=kind == "jpeg" and self.crc,  # the checksum covers what the core does not decode
            ycbcr=kind == "jpeg" and row is not None and row[1] == 3,
        )

    def scratch(self) -> np.ndarray[Any, Any]:
        """Return a new buffer to decode into, with axes in the stored order."""
        if self.compressor != "jpeg":
            return np.empty(self.stored_shape, self.dtype)
        # libjpeg-turbo writes past the caches to buffers that begin on 32 bytes: the copy that follows then takes
        # as long as decoding did.
        spare = np.empty(prod(self.shape) + 80, np.uint8)
        start = (16 - spare.ctypes.data) % 64
        return spare[start : start + prod(self.shape)].reshape(self.stored_shape)

    def view(self, stored: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return a decoded buffer with axes in the array's order."""
        return stored if self.order is None else stored.transpose(np.argsort(self.order))

    def decode(
        self, encoded: np.ndarray[Any, Any], out: np.ndarray[Any, Any], where: Callable[[], tuple[str, str]]
    ) -> None:
        """
        Decode the uint8 bytes of a chunk into a C-contiguous buffer of `stored_shape`.

        `where` returns the file and the name of the chunk; it is called only if there is an error.
        """
        if self.crc:
            if google_crc32c.value(encoded) != _CRC_RESIDUE:
                file, name = where()
                raise DamagedError(f"{file}: {name}: the checksum does not match the bytes", path=file, hint=_AGAIN)
            if self.compressor != "blosc":  # which knows its own length
                encoded = encoded[:-_CRC_BYTES]
        try:
            self._decompress(encoded, out)
        except (RuntimeError, ValueError, struct.error) as error:
            file, name = where()
            raise DamagedError(f"{file}: {name} does not decode ({error})", path=file, hint=_AGAIN) from error

    def _decompress(self, encoded: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
        target = np.empty(out.shape, out.dtype) if self.delta else out
        # The decompressors trust their input: they read beyond the end of a truncated one, and leave `out` as it was
        # behind a short one.
        if self.compressor == "blosc":
            nbytes, _, stored = _BLOSC_HEADER.unpack_from(encoded.data, 4)
            if nbytes != out.nbytes or stored > encoded.size:
                raise ValueError(f"{nbytes} bytes in {stored}, expected {out.nbytes} in {encoded.size}")
            # A tenth faster than numcodecs' binding to the same library, and no global switch for Blosc's own threads,
            # which are not safe to fork and slower than ours on chunks of this size.
            imagecodecs.blosc_decode(encoded, numthreads=1, out=target.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        elif self.compressor == "zstd":
            if zstd_size(encoded) == out.nbytes:
                numcodecs.zstd.decompress(encoded, target)
            else:  # the frame does not say its size, or a wrong one; what does not fit the buffer is refused
                room = target.reshape(-1).view(np.uint8)
                _expect(len(imagecodecs.zstd_decode(encoded, out=room)), out.nbytes)  # type: ignore[arg-type]
        elif self.compressor == "zlib":
            # libdeflate, three times as fast as zlib.
            _expect(len(imagecodecs.deflate_decode(encoded, out=target.reshape(-1).view(np.uint8))), out.nbytes)  # type: ignore[arg-type]
        elif self.compressor == "gzip":
            _gunzip(encoded, target.reshape(-1).view(np.uint8))
        elif self.compressor == "jpeg":
            imagecodecs.jpeg8_decode(encoded, out=self._picture(out))  # type: ignore[arg-type]
        else:
            _expect(encoded.size, out.nbytes)
            target.reshape(-1)[:] = encoded.view(self.dtype)
        if self.swapped:
            target.byteswap(inplace=True)
        if self.delta:
            _undo_delta(target.reshape(-1), out.reshape(-1))

    def _picture(self, stored: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return a chunk (..., y, x, 3) or (..., y, x) with the axes of a JPEG."""
        shape = stored.shape[-2:] if self.order is None else stored.shape[-3:]
        return stored.reshape(-1).reshape(shape)  # through one axis: imagecodecs refuses numpy's strides of axes of 1

    def split(self, strip: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """
        Return the chunks of a strip (..., y, x) side by side along x as an array (chunk, ..., y, x).

        Each is in memory as it is stored. Those beyond a border are filled with copies of the last pixels: nobody reads
        them, they cost least, and they leave no edge in a JPEG.
        """
        number = -(-strip.shape[-1] // self.shape[-1])
        whole = (*self.shape[:-1], number * self.shape[-1])
        if strip.shape != whole:
            strip = np.pad(strip, [(0, n - have) for n, have in zip(whole, strip.shape, strict=True)], mode="edge")
        chunks = np.moveaxis(strip.reshape(*self.shape[:-1], number, self.shape[-1]), -2, 0)
        stored = np.empty((number, *self.stored_shape), self.dtype)
        out = stored if self.order is None else stored.transpose(0, *(np.argsort(self.order) + 1))
        for plane in np.ndindex(self.shape[:-2]):  # all at once, numpy would copy interleaved channels pixel by pixel
            out[:, *plane] = chunks[:, *plane]
        return out

    def encode_all(self, chunks: np.ndarray[Any, Any], wanted: Sequence[bool]) -> list[bytes | None]:
        """Encode the chunks that are wanted of what `split` returns."""
        if self.compressor == "blosc" and not self.delta and not self.swapped:
            stored = chunks if self.order is None else chunks.transpose(0, *(k + 1 for k in self.order))
            found = core.encode(stored, wanted, self.cname, self.level, self.shuffle, self.crc)
            if found is not None:
                return found
        return [self.encode(chunk) if want else None for chunk, want in zip(chunks, wanted, strict=True)]

    def encode(self, chunk: np.ndarray[Any, Any]) -> bytes:
        """Encode a chunk of `shape`; any strides."""
        stored = np.ascontiguousarray(chunk if self.order is None else chunk.transpose(self.order))
        if self.delta:
            stored = _delta(stored.reshape(-1))
        if self.swapped:
            stored = stored.byteswap()
        if self.compressor == "blosc":
            body = imagecodecs.blosc_encode(
                stored,  # type: ignore[arg-type]
                level=self.level,
                compressor=self.cname,
                shuffle=self.shuffle,
                typesize=stored.itemsize,
                blocksize=0,
                numthreads=1,
            )
        elif self.compressor == "zstd":
            body = _zstd(stored, self.level)
        elif self.compressor in ("gzip", "zlib"):
            body = zlib.compress(stored.data, self.level, wbits=31 if self.compressor == "gzip" else 15)
        elif self.compressor == "jpeg":
            body = imagecodecs.jpeg8_encode(self._picture(stored), level=self.level)
        else:
            body = stored.tobytes()
        encoded = bytes(body)
        return encoded + google_crc32c.value(encoded).to_bytes(_CRC_BYTES, "little") if self.crc else encoded

    def metadata(self) -> list[dict[str, Any]]:
        """Return the `codecs` of Zarr v3 metadata for this chain."""
        chain: list[dict[str, Any]] = []
        if self.order is not None:
            chain.append({"name": "transpose", "configuration": {"order": list(self.order)}})
        if self.delta:
            chain.append({"name": "numcodecs.delta", "configuration": {"dtype": self.dtype.str}})
        if self.compressor == "jpeg":
            chain.append({"name": JPEG, "configuration": {"level": self.level}})
        else:
            chain.append(BYTES if self.dtype.itemsize == 1 else BIG_ENDIAN if self.swapped else LITTLE_ENDIAN)
        if self.compressor == "blosc":
            config = {"typesize": self.dtype.itemsize, "cname": self.cname, "clevel": self.level}
            chain.append({"name": "blosc", "configuration": {**config, "shuffle": self.shuffle, "blocksize": 0}})
        elif self.compressor == "zstd":
            chain.append({"name": "zstd", "configuration": {"level": self.level, "checksum": False}})
        elif self.compressor in ("gzip", "zlib"):
            name = "gzip" if self.compressor == "gzip" else "numcodecs.zlib"
            chain.append({"name": name, "configuration": {"level": self.level}})
        if self.crc:
            chain.append({"name": "crc32c"})
        return chain


ANYONE = "every implementation of Zarr v3"
JPEG = "imagecodecs_jpeg"
"""Name of the codec in `imagecodecs.zarr`, and of ours in `jpeg_codec`."""
BYTES: dict[str, Any] = {"name": "bytes"}
LITTLE_ENDIAN: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
BIG_ENDIAN: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "big"}}


def parse_codecs(
    codecs: Sequence[Mapping[str, Any]], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> ChunkCodec | None:
    """Return the `ChunkCodec` for a Zarr v3 codec chain, None if the hot path does not know it."""
    chain = list(codecs)
    options: dict[str, Any] = {"crc": False}
    if chain and chain[-1]["name"] == "crc32c":
        chain.pop()
        options["crc"] = True
    if chain and chain[-1]["name"].removeprefix(_NUMCODECS) in COMPRESSORS:
        options |= _compressor(chain.pop())
    if chain and chain[-1]["name"] == JPEG:
        config = chain.pop().get("configuration") or {}
        if dtype != np.uint8 or set(config) - {"level"}:
            return None
        options |= {"compressor": "jpeg", "level": config.get("level", 90)}
    elif not chain or chain[-1]["name"] != "bytes":
        return None
    else:
        options["swapped"] = _is_swapped(chain.pop(), dtype)
    if chain and chain[-1]["name"] == "numcodecs.delta":
        config = chain.pop().get("configuration", {})
        if dtype.kind not in "iu" or np.dtype(config["dtype"]) != dtype or config.get("astype", dtype.str) != dtype.str:
            return None
        options["delta"] = True
    if chain and chain[-1]["name"] == "transpose":
        options["order"] = tuple(chain.pop()["configuration"]["order"])
    return None if chain else ChunkCodec(shape, dtype, **options)


def _compressor(codec: Mapping[str, Any]) -> dict[str, Any]:
    config, name = codec.get("configuration", {}), codec["name"].removeprefix(_NUMCODECS)
    if name != "blosc":
        return {"compressor": name, "level": config.get("level", 0)}
    return {"compressor": name, "cname": config["cname"], "level": config["clevel"], "shuffle": config["shuffle"]}


def _is_swapped(codec: Mapping[str, Any], dtype: np.dtype[Any]) -> bool:
    """Return True if the `bytes` codec stores another order of bytes than the machine's."""
    endian = (codec.get("configuration") or {}).get("endian", "little")
    return dtype.itemsize > 1 and np.dtype(dtype).newbyteorder("<" if endian == "little" else ">") != dtype


_NUMCODECS = "numcodecs."
"""What the name of a codec of numcodecs begins with in Zarr v3."""
_BLOSC_HEADER = struct.Struct("<III")
"""Decoded size, block size, encoded size: at byte 4 of a Blosc chunk."""
_AGAIN = "Transcode the source again"


def blosc_size(encoded: np.ndarray[Any, Any]) -> int:
    """Return the decoded size that the header of a Blosc chunk states; 0 for what is shorter than one."""
    return int(_BLOSC_HEADER.unpack_from(encoded.data, 4)[0]) if encoded.size >= 16 else 0


def zstd_size(encoded: np.ndarray[Any, Any]) -> int:
    """Return the decoded size of a zstd frame, -1 if it does not say (RFC 8878, section 3.1.1.1)."""
    head = encoded[:18].tobytes()
    if len(head) < 6:
        return -1
    flags = head[4]
    whole = flags >> 5 & 1
    n = (whole, 2, 4, 8)[flags >> 6]
    start = 6 - whole + (0, 1, 2, 4)[flags & 3]
    return int.from_bytes(head[start : start + n], "little") + 256 * (n == 2) if n else -1


def _gunzip(encoded: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
    """Decode gzip (RFC 1952) to exactly fill the bytes `out`."""
    # What the last member decodes to, modulo 2**32, is at the end: if it is all, there is only that member.
    if int.from_bytes(encoded[-4:].tobytes(), "little") == out.nbytes:
        _expect(len(imagecodecs.gzip_decode(encoded, out=out)), out.nbytes)  # type: ignore[arg-type]
        return
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(encoded.tobytes())) as file:
            found = file.read(out.nbytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from error
    _expect(len(found), out.nbytes)
    out[:] = np.frombuffer(found, np.uint8)


def _expect(found: int, wanted: int) -> None:
    if found != wanted:
        raise ValueError(f"{found} bytes instead of {wanted}")


_local = threading.local()
"""A zstd compressor per thread, as they must not be shared."""


def _zstd(stored: np.ndarray[Any, Any], level: int) -> bytes:
    """Return a plain zstd frame; matches of at least 7 bytes make photographs smaller, and faster both ways."""
    import zstandard

    key = (level, stored.nbytes)
    if getattr(_local, "key", None) != key:
        settings = zstandard.ZstdCompressionParameters.from_level(level, source_size=stored.nbytes, min_match=7)
        _local.key, _local.compressor = key, zstandard.ZstdCompressor(compression_params=settings)
    body: bytes = _local.compressor.compress(stored)
    return body


def _delta(flat: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    out = np.empty_like(flat)
    out[:1] = flat[:1]
    np.subtract(flat[1:], flat[:-1], out=out[1:])
    return out


def _undo_delta(flat: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
    # imagecodecs' running sum is several times faster than numpy's.
    imagecodecs.delta_decode(flat, axis=0, out=out)
