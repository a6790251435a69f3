"""Codecs that turn the bytes of a chunk into fewer bytes and back, and who can read them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, cast

import imagecodecs
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import zstandard
from numpy.typing import NDArray

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
Support = Literal["core", "zarr-python", "with pcodec", "with imagecodecs"]
"""Who reads it: any Zarr v3 reader; zarr-python out of the box, or with one more package installed."""
SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")


class Codec(Protocol):
    """One way to encode C-contiguous chunks."""

    support: Any
    lossless: Any

    @property
    def name(self) -> str: ...

    def encode(self, chunk: Array) -> bytes: ...

    def decode(self, data: Bytes, out: Array, spare: Bytes) -> None:
        """Decode `data` into `out`; `spare` is a buffer of the same size for codecs in two steps."""
        ...


@dataclass(frozen=True)
class Blosc:
    """The Zarr v3 core codec `blosc`."""

    cname: str
    level: int
    shuffle: str
    support = "core"
    lossless = True

    @property
    def name(self) -> str:
        return f"blosc {self.cname} {self.level} {self.shuffle}"

    def encode(self, chunk: Array) -> bytes:
        return bytes(numcodecs.blosc.compress(chunk, self.cname.encode(), self.level, SHUFFLES.index(self.shuffle)))

    def decode(self, data: Bytes, out: Array, spare: Bytes) -> None:
        numcodecs.blosc.decompress(data, out)


@dataclass(frozen=True)
class Zstd:
    """The Zarr v3 core codec `zstd`."""

    level: int
    min_match: int = 0
    """Shortest repeat that the encoder looks for, 0 for what the level implies. Differences of noise hold hardly a
    repeat worth its bits: without them Huffman codes alone are smaller, and decode faster."""
    support = "core"
    lossless = True

    @property
    def name(self) -> str:
        return f"zstd {self.level}" + f" min_match={self.min_match}" * bool(self.min_match)

    def encode(self, chunk: Array) -> bytes:
        if self.min_match:
            return bytes(_zstandard(self.level, self.min_match, chunk.nbytes).compress(chunk))
        return bytes(numcodecs.zstd.compress(chunk, self.level))

    def decode(self, data: Bytes, out: Array, spare: Bytes) -> None:
        numcodecs.zstd.decompress(data, out)


@lru_cache
def _settings(level: int, min_match: int, nbytes: int) -> Any:
    return zstandard.ZstdCompressionParameters.from_level(level, source_size=nbytes, min_match=min_match)


def _zstandard(level: int, min_match: int, nbytes: int) -> Any:
    return zstandard.ZstdCompressor(
        compression_params=_settings(level, min_match, nbytes)
    )  # not to be shared by threads


@dataclass(frozen=True)
class Delta:
    """`numcodecs.delta` of the flattened chunk in its own integer dtype, wrapping around, before `inner`."""

    inner: Blosc | Zstd
    support = "zarr-python"
    lossless = True

    @property
    def name(self) -> str:
        return f"delta + {self.inner.name}"

    def encode(self, chunk: Array) -> bytes:
        flat = chunk.reshape(-1)
        differences = np.empty_like(flat)
        differences[:1] = flat[:1]
        np.subtract(flat[1:], flat[:-1], out=differences[1:])
        return self.inner.encode(differences)

    def decode(self, data: Bytes, out: Array, spare: Bytes) -> None:
        differences = spare[: out.nbytes].view(out.dtype)
        self.inner.decode(data, differences, spare)
        imagecodecs.delta_decode(differences, axis=0, out=out.reshape(-1))


@dataclass(frozen=True)
class Pcodec:
    """`numcodecs.pcodec`, made for numeric columns."""

    level: int
    support = "with pcodec"
    lossless = True

    @property
    def name(self) -> str:
        return f"pcodec {self.level}"

    def encode(self, chunk: Array) -> bytes:
        from numcodecs.pcodec import PCodec

        return bytes(PCodec(level=self.level).encode(chunk))

    def decode(self, data: Bytes, out: Array, spare: Bytes) -> None:
        imagecodecs.pcodec_decode(cast("Any", data), out.shape, out.dtype, out=out)


@dataclass(frozen=True)
class Picture:
    """An image format of imagecodecs, on a 2-D or interleaved (y, x, c) chunk."""

    format: str
    options: tuple[tuple[str, Any], ...] = ()
    lossless: bool = True
    support = "with imagecodecs"

    @property
    def name(self) -> str:
        return " ".join([self.format, *(f"{key}={value}" for key, value in self.options)])

    def encode(self, chunk: Array) -> bytes:
        return bytes(getattr(imagecodecs, f"{self.format}_encode")(_squeezed(chunk), **dict(self.options)))

    def decode(self, data: Bytes, out: Array, spare: Bytes) -> None:
        getattr(imagecodecs, f"{self.format}_decode")(data, out=_squeezed(out))


def _squeezed(chunk: Array) -> Array:
    """A (1, y, x) chunk as (y, x), which is what image formats take for a single channel."""
    return chunk[0] if chunk.shape[0] == 1 else chunk


FAST = Blosc("lz4hc", 2, "bitshuffle")
COMPACT = Delta(Zstd(1, 7))
JPEG = Picture("jpeg8", (("level", 90),), lossless=False)
PRESET_CODECS: dict[str, Codec] = {"fast": FAST, "compact": COMPACT}
"""What the presets write uint8 pictures with."""
