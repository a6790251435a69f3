"""
Presets: the chunks, shards and codec of each level.

A preset is a named point on the line between speed and size, chosen by `python -m benchmarks.layouts` (its tables are
in docs/layouts.md). `choose_layout` turns it into the chunk shape, shard shape and codec of a level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from ndzarr._store.codecs import ChunkCodec
from ndzarr._validation import check_choice
from ndzarr.errors import OptionError

PRESETS = ("fast", "compact", "jpeg")
KINDS = ("intensity", "labels")

CHUNK = 128
"""Pixels along y and x of a chunk."""
ACCESS = {"frames": (1, CHUNK), "mixed": (2, CHUNK // 2), "tubes": (4, CHUNK // 2)}
"""How frames and planes will be read (whole frames, both, short tubes through many), to the lengths of a chunk along t
or z, and along y and x."""
SHARD = 2048
"""Pixels along y and x of a shard, at most."""
SHARD_BYTES = 64 << 20
"""Decoded bytes of a shard beyond which it takes no more channels, planes or frames."""
JPEG_QUALITY = 90
"""Quality of the preset 'jpeg', on libjpeg's scale from 1 to 100."""
TOGETHER = 4
"""Images of up to so many channels (RGBA) keep them in one chunk; those of more give each channel its own."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Chunks, shards and codec of one level."""

    chunks: tuple[int, ...]
    per_shard: tuple[int, ...]
    """Chunks of a shard along each axis."""
    codec: ChunkCodec

    @property
    def shards(self) -> tuple[int, ...]:
        """Shape of a shard."""
        return tuple(c * n for c, n in zip(self.chunks, self.per_shard, strict=True))


OME_VERSIONS = ("0.5", "0.6")
"""Versions of OME-Zarr in which metadata are written; 0.6 is a draft."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """The options of a user; the same encoding of the same source gives the same store."""

    preset: str = "fast"
    """One of `PRESETS`."""
    kind: str = "intensity"
    """'intensity' (levels are means) or 'labels' (levels are modes)."""
    chunks: tuple[tuple[str, int], ...] = ()
    """(axis, length) of chunks, where they are not the preset's."""
    shard: int = SHARD
    """Longest side of a shard along y and x, in pixels."""
    access: str = "frames"
    """One of `ACCESS`."""
    reduce: str = "yx"
    """The axes that are halved from level to level: 'yx' or 'zyx'."""
    indexes: bool = False
    """True for one more file, with the indexes of all shards."""
    ome_version: str = OME_VERSIONS[0]
    """One of `OME_VERSIONS`."""

    def __post_init__(self) -> None:
        check_choice("preset", self.preset, PRESETS)
        check_choice("kind", self.kind, KINDS)
        check_choice("access", self.access, tuple(ACCESS))
        check_choice("reduce", self.reduce, ("yx", "zyx"))
        check_choice("ome_version", self.ome_version, OME_VERSIONS)
        for axis, n in self.chunks:
            if axis not in "tczyx" or n < 1:
                wanted = "expected lengths of at least 1 for axes among t c z y x"
                raise OptionError(f"chunks={dict(self.chunks)!r}: {wanted}", key="chunks")

    def as_json(self) -> dict[str, Any]:
        """Return the form in which a store records it."""
        found = {**asdict(self), "chunks": dict(self.chunks)}
        usual = {"indexes": False, "ome_version": OME_VERSIONS[0]}
        return {key: value for key, value in found.items() if key not in usual or value != usual[key]}


def choose_layout(dims: Sequence[str], shape: Sequence[int], dtype: np.dtype[Any], encoding: Encoding) -> Layout:
    """Return the layout of a level of this shape."""
    asked = dict(encoding.chunks)
    length = dict(zip(dims, shape, strict=True))
    together = (1, 3) if encoding.preset == "jpeg" else range(1, TOGETHER + 1)
    channels = length.get("c", 1)
    depth, edge = ACCESS[encoding.access]
    depth = 1 if encoding.preset == "jpeg" else depth  # a JPEG is one picture
    along = "z" if length.get("z", 1) > 1 else "t"  # planes rather than frames: a chunk of both would be too large
    default = {"t": 1, "z": 1, "c": channels if channels in together else 1, "y": edge, "x": edge, along: depth}
    chunk = {d: min(asked.get(d, default[d]), max(1, length[d])) for d in dims}
    number = dict.fromkeys(dims, 1)
    for d in ("y", "x"):
        number[d] = max(1, min(encoding.shard // chunk[d], ceil(length[d] / chunk[d])))
    plane = dtype.itemsize * np.prod([chunk[d] * number[d] for d in dims])
    if "c" in number:
        number["c"] = max(1, min(ceil(length["c"] / chunk["c"]), int(SHARD_BYTES // plane)))
        plane *= number["c"]
    for d in ("z", "t"):
        if d in number:
            number[d] = max(1, min(ceil(length[d] / chunk[d]), int(SHARD_BYTES // plane)))
            plane *= number[d]
    chunks = tuple(chunk[d] for d in dims)
    return Layout(chunks, tuple(number[d] for d in dims), choose_codec(dims, chunks, dtype, encoding))


def choose_codec(dims: Sequence[str], chunks: tuple[int, ...], dtype: np.dtype[Any], encoding: Encoding) -> ChunkCodec:
    """Return the codec of a preset for pixels of a dtype."""
    classes = encoding.kind == "labels" or dtype.kind == "b"
    bytewise = dtype.itemsize == 1
    blosc = ChunkCodec(chunks, dtype, "blosc")
    if encoding.preset == "fast":
        level, shuffle = (6, "noshuffle") if classes else (2, "bitshuffle") if bytewise else (4, "shuffle")
        return replace(blosc, cname="lz4hc", level=level, shuffle=shuffle)
    if encoding.preset == "compact":
        if classes:
            return replace(blosc, cname="zstd", level=5, shuffle="noshuffle")
        if bytewise:
            return replace(blosc, compressor="zstd", level=1, delta=True)
        return replace(blosc, cname="zstd", level=5, shuffle="shuffle")
    if classes or dtype != np.uint8:
        message = f"preset='jpeg' stores photographs of uint8, not {encoding.kind} of {dtype}"
        raise OptionError(message, key="preset", hint="Use 'compact', which is lossless")
    return _jpeg(dims, chunks)


def _jpeg(dims: Sequence[str], chunks: tuple[int, ...]) -> ChunkCodec:
    length = dict(zip(dims, chunks, strict=True))
    if length["c"] not in (1, 3) or any(length.get(d, 1) > 1 for d in "tz"):
        raise OptionError(
            f"chunks={length!r}: preset='jpeg' needs 1 or 3 channels, 1 frame and 1 plane per chunk", key="chunks"
        )
    c = list(dims).index("c")
    order = (*[i for i in range(len(dims)) if i != c], c) if length["c"] == 3 else None
    return ChunkCodec(chunks, np.dtype("u1"), "jpeg", level=JPEG_QUALITY, order=order)


def chunks_option(chunks: Mapping[str, int] | None) -> tuple[tuple[str, int], ...]:
    """Return the `chunks` of an `Encoding` from a mapping of axes to lengths."""
    return tuple(sorted((chunks or {}).items()))
