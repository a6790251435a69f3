"""What is in a JPEG 2000 file, and how is it decoded?

The SIZ segment at the beginning of the codestream (ISO 15444-1, A.5.1) tells size, number of components, bits and
sign; the boxes of the JP2 container around it, if there is one, tell what the components mean.  OpenJPEG decodes,
through imagecodecs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndzarr.errors import SourceError
from ndzarr.sources.base import Facts, Pixels, reason
from ndzarr.sources.colour import GRAY, RGB, with_extras
from ndzarr.sources.options import Options, numbered
from ndzarr.sources.orientation import choose
from ndzarr.sources.whole import WholeSource

_HEAD = 1 << 20
"""Bytes in which the codestream has to begin."""
_SIZ = b"\xff\x4f\xff\x51"
_END = b"\xff\xd9"
_COLOURS = {16: RGB, 17: GRAY, 18: RGB}
"""Names of the first components per enumerated colour space: sRGB, grey, sYCC (which OpenJPEG converts)."""


@dataclass(frozen=True, slots=True)
class Codestream:
    """What the SIZ segment says."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    components: int
    """Number of channels."""
    bits: int
    """Per sample."""
    signed: bool
    """True for signed samples."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of decoded samples."""
        size = 1 if self.bits <= 8 else 2 if self.bits <= 16 else 4
        return np.dtype(f"{'i' if self.signed else 'u'}{size}")


def open_jpeg2000(path: str, options: Options) -> WholeSource:
    """Open a JP2 file or a bare codestream."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    stream = _codestream(path, head)
    options.check_pixels(path, stream.height, stream.width, whole=True)
    boxes = dict(_boxes(head))
    orientation = choose(path, 1, stream.height, stream.width, options)
    channels, dtype = _channels(boxes, stream.components), stream.dtype
    pixels = None
    if b"pclr" in boxes:  # a palette: what it decodes to is simplest seen by decoding
        pixels = _decode(path)
        channels, dtype = with_extras(RGB, len(pixels), None), pixels.dtype
    facts = Facts(
        name=path,
        dims=("c", "y", "x"),
        shape=(len(channels), stream.height, stream.width),
        dtype=dtype,
        channels=channels,
        band=stream.height,
        metadata={"format": "JPEG 2000", "colour": f"{stream.bits}-bit, {stream.components} components"},
    )
    decode = (lambda: _decode(path)) if pixels is None else (lambda: pixels)
    return WholeSource(facts.settle(options), orientation, decode)


def _codestream(path: str, head: bytes) -> Codestream:
    at = head.find(_SIZ)
    try:
        width, height, left, top = struct.unpack_from(">IIII", head, at + 8)
        (components,) = struct.unpack_from(">H", head, at + 40)
        depth = head[at + 42]
        if at < 0 or not components:
            raise IndexError
    except (struct.error, IndexError) as error:
        raise SourceError(
            f"{path}: this JPEG 2000 file has no valid codestream header; fetch or write it again"
        ) from error
    return Codestream(width - left, height - top, components, (depth & 0x7F) + 1, bool(depth & 0x80))


def _boxes(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes of the header."""
    at, end = (0, len(head)) if head[4:8] == b"jP  " else (0, 0)
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", head, at)
        if kind == b"jp2c" or length < 8:
            return
        if kind == b"jp2h":  # a box of boxes
            at += 8
            continue
        yield kind, head[at + 8 : at + length]
        at += length


def _channels(boxes: dict[bytes, bytes], components: int) -> tuple[str, ...]:
    colour = boxes.get(b"colr", b"")
    space = int.from_bytes(colour[3:7], "big") if colour[:1] == b"\x01" else None
    if space is None:  # a bare codestream, or an ICC profile
        colours = {1: GRAY, 3: RGB}.get(components, numbered(components))
    else:
        colours = _COLOURS.get(space, numbered(components))
    alpha = _alpha(boxes.get(b"cdef"))
    if alpha is None and space in _COLOURS and components == len(colours) + 1:
        alpha = len(colours)  # encoders that leave out the definition of channels put alpha behind the colours
    return with_extras(colours, components, alpha)


def _alpha(definitions: bytes | None) -> int | None:
    """The component that a channel definition box calls opacity."""
    if not definitions or len(definitions) < 2:
        return None
    for index, kind, _ in struct.iter_unpack(">HHH", definitions[2 : 2 + (len(definitions) - 2) // 6 * 6]):
        if kind in (1, 2):
            return int(index)
    return None


def _decode(path: str) -> Pixels:
    import imagecodecs

    with open(path, "rb") as file:
        data = file.read()
    # Compressed bits never look like this marker.  Older decoders fill with gray what is missing.
    if data.rfind(_END) < data.find(_SIZ):
        raise SourceError(f"{path}: this JPEG 2000 file is truncated: its end is missing; fetch or write it again")
    try:
        pixels: Pixels = imagecodecs.jpeg2k_decode(data)
    except (RuntimeError, ValueError) as error:
        raise SourceError(
            f"{path}: this JPEG 2000 file does not decode ({reason(error)}); it is damaged (fetch or write it again), "
            f"or of a rare kind (convert it to TIFF or PNG)"
        ) from error
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
