"""What is in a PNG file, and how is it decoded without losing bits?

1. The chunks of the file are walked (https://www.w3.org/TR/png-3/#5Chunk-layout): the header tells size and colour,
   eXIf the orientation, and a file without an IEND chunk is truncated.
2. Still images are decoded by libpng through imagecodecs, which keeps 16 bits per sample, scales samples of 1, 2 and
   4 bits to 8, looks up palettes and makes tRNS an alpha channel.  Pillow would truncate 16-bit colour to 8.
3. Animations, which libpng does not know, are left to Pillow (`raster`).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ndzarr.errors import SourceError
from ndzarr.sources.base import BaseSource, Facts, Pixels, reason
from ndzarr.sources.colour import ALPHA, GRAY, RGB, describe_profile
from ndzarr.sources.options import Options
from ndzarr.sources.orientation import choose, describe, exif_tag
from ndzarr.sources.whole import WholeSource

_GRAY, _PALETTE = 0, 3
_COLOUR, _HAS_ALPHA = 2, 4
"""Bits of the colour type."""
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Chunks that decoding needs."""
_SMALL = 1 << 24
"""Most bytes of a chunk that is looked into."""


@dataclass(frozen=True, slots=True)
class PngHeader:
    """What the chunks before and after the pixels say."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    depth: int
    """Bits per sample, or per palette index."""
    colour: int
    """Colour type: bit 0 palette, bit 1 colour, bit 2 alpha."""
    transparent: bool
    """True if a tRNS chunk makes palette entries or one colour transparent."""
    exif: bytes | None
    """Content of the eXIf chunk."""
    profile: bytes | None
    """The ICC profile."""
    frames: int
    """Frames of an animation, 1 for a still image."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of decoded samples."""
        return np.dtype(np.uint16 if self.depth == 16 else np.uint8)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of decoded channels."""
        colours = RGB if self.colour & _COLOUR else GRAY
        return (*colours, ALPHA) if self.transparent or self.colour & _HAS_ALPHA else colours

    @property
    def said(self) -> str:
        """What metadata say about colour."""
        if self.colour == _PALETTE:
            return f"palette of {self.depth}-bit indices expanded to RGB{'A' if self.transparent else ''}"
        said = f"{self.depth}-bit {'RGB' if self.colour & _COLOUR else 'gray'}"
        return f"{said}, scaled to 8 bits" if self.depth < 8 else said


def open_png(path: str, options: Options) -> BaseSource:
    """Open a PNG file, still or animated."""
    with open(path, "rb") as file:
        header = read_header(path, file)
    options.check_pixels(path, header.height, header.width, whole=True)
    if header.frames > 1:
        from ndzarr.sources.raster import open_raster

        return open_raster(path, "PNG", options)
    tag = exif_tag(header.exif)
    orientation = choose(path, tag, header.height, header.width, options)
    height, width = orientation.size(header.height, header.width)
    facts = Facts(
        name=path,
        dims=("c", "y", "x"),
        shape=(len(header.channels), height, width),
        dtype=header.dtype,
        channels=header.channels,
        band=height,
        metadata={
            "format": "PNG",
            "colour": header.said,
            **describe(tag, orientation),
            **describe_profile(header.profile),
        },
    )
    return WholeSource(facts.settle(options), orientation, lambda: _decode(path))


def read_header(path: str, file: BinaryIO) -> PngHeader:
    """
    Walk the chunks of a PNG file.

    Raises
    ------
    SourceError
        The file ends before its IEND chunk, or its header makes no sense.
    """
    found = {kind: data for kind, data, _ in _chunks(path, file) if data is not None}
    try:
        width, height, depth, colour = struct.unpack_from(">IIBB", found[b"IHDR"])
    except (KeyError, struct.error) as error:
        raise SourceError(f"{path}: this PNG has no valid header; fetch or write it again") from error
    return PngHeader(
        width=width,
        height=height,
        depth=depth,
        colour=colour,
        transparent=b"tRNS" in found,
        exif=found.get(b"eXIf"),
        profile=_profile(found.get(b"iCCP")),
        frames=int.from_bytes(found[b"acTL"][:4], "big") if b"acTL" in found else 1,
    )


def _chunks(path: str, file: BinaryIO) -> Iterator[tuple[bytes, bytes | None, int]]:
    """Kind, content and bytes in the file of each chunk up to IEND; None as content of pixels and of what is large."""
    file.seek(0, 2)
    size = file.tell()
    at = 8
    kind = b""
    while kind != b"IEND":
        file.seek(at)
        head = file.read(8)
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (size, b"")
        if at + 12 + length > size:
            raise SourceError(
                f"{path}: this PNG is truncated: it has {size} bytes and no IEND chunk; fetch or write it again"
            )
        yield kind, None if kind in (b"IDAT", b"fdAT") or length > _SMALL else file.read(length), 12 + length
        at += 12 + length


def _profile(chunk: bytes | None) -> bytes | None:
    """The ICC profile in an iCCP chunk: a name, a zero, the compression method, compressed bytes."""
    try:
        return zlib.decompress(chunk[chunk.index(b"\0") + 2 :]) if chunk else None
    except (ValueError, zlib.error):
        return None


def _damaged(path: str, found: str) -> SourceError:
    return SourceError(f"{path}: this PNG does not decode ({found}); it is damaged, fetch or write it again")


def _only_pixels(path: str, data: bytes) -> bytes:
    """The file without the chunks that do not matter to pixels: libpng prints warnings about some of them."""
    parts = [data[:8]]
    at = 8
    for kind, _, size in _chunks(path, io.BytesIO(data)):
        if kind in _PIXELS:
            part = data[at : at + size]
            if zlib.crc32(part[4:-4]) != int.from_bytes(part[-4:], "big"):  # libpng may only warn
                raise _damaged(path, f"the checksum of a {kind.decode()} chunk does not match its bytes")
            parts.append(part)
        at += size
    return b"".join(parts)


def _decode(path: str) -> Pixels:
    import imagecodecs

    with open(path, "rb") as file:
        data = file.read()
    try:
        pixels: Pixels = imagecodecs.png_decode(_only_pixels(path, data))
    except (RuntimeError, ValueError) as error:
        raise _damaged(path, reason(error)) from error
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
