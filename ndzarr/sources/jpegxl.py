"""What is in a JPEG XL file, and how is it decoded?

The first bits of the codestream (ISO 18181-1, annex D) tell size and orientation, enough to refuse what is too large;
all else is learnt by decoding, with libjxl through imagecodecs, when the file is opened.
"""

from __future__ import annotations

import struct

import numpy as np

from ndzarr.errors import SourceError
from ndzarr.sources.base import Facts, Pixels, reason
from ndzarr.sources.colour import ALPHA, GRAY, RGB
from ndzarr.sources.options import Options, numbered
from ndzarr.sources.orientation import choose, describe
from ndzarr.sources.whole import WholeSource

_HEADER = 32
"""Bytes that surely hold size and orientation."""
_SIGNATURE = b"\xff\x0a"
_NAMES = {1: GRAY, 2: (*GRAY, ALPHA), 3: RGB, 4: (*RGB, ALPHA)}
_SIZE_BITS = (9, 13, 18, 30)
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
"""Width to height per value of the ratio field; 0 means that the width follows."""


class _Bits:
    """Reads numbers bit by bit, the lowest first."""

    def __init__(self, data: bytes) -> None:
        self._rest = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._rest & ((1 << count) - 1)
        self._rest >>= count
        return value


def open_jpegxl(path: str, options: Options) -> WholeSource:
    """Open a JPEG XL file, still or animated."""
    with open(path, "rb") as file:
        data = file.read()
    height, width, tag = _header(path, data)
    options.check_pixels(path, height, width, whole=True)
    pixels = _decode(path, data, height, width)
    animated = pixels.ndim == 4
    orientation = choose(path, tag, height, width, options)
    count = pixels.shape[-3]
    facts = Facts(
        name=path,
        dims=("t", "c", "y", "x") if animated else ("c", "y", "x"),
        shape=(*pixels.shape[:-2], *orientation.size(height, width)),
        dtype=pixels.dtype,
        channels=_NAMES.get(count, numbered(count)),
        band=orientation.size(height, width)[0],
        metadata={"format": "JPEG XL", **describe(tag, orientation)},
    )
    return WholeSource(facts.settle(options), orientation, lambda: pixels)


def _header(path: str, data: bytes) -> tuple[int, int, int]:
    """(height, width, orientation tag), as stored."""
    at = _codestream(path, data) + len(_SIGNATURE)
    bits = _Bits(data[at : at + _HEADER])
    small = bits.take(1)
    height = _length(bits, small)
    ratio = bits.take(3)
    width = height * _RATIOS[ratio][0] // _RATIOS[ratio][1] if ratio else _length(bits, small)
    everything_default, extra = bits.take(1), bits.take(1)
    return height, width, 1 if everything_default or not extra else bits.take(3) + 1


def _length(bits: _Bits, small: int) -> int:
    return (bits.take(5) + 1) * 8 if small else bits.take(_SIZE_BITS[bits.take(2)]) + 1


def _codestream(path: str, data: bytes) -> int:
    """Where the codestream begins, bare or in a box of the container."""
    at = 0
    while not data.startswith(_SIGNATURE, at):
        length, kind = struct.unpack_from(">I4s", data, at) if at + 16 <= len(data) else (0, b"")
        body = at + 8
        if length == 1:  # the length does not fit into 32 bits and follows in 64
            (length,) = struct.unpack_from(">Q", data, body)
            body += 8
        if kind in (b"jxlc", b"jxlp"):
            return body + (4 if kind == b"jxlp" else 0)
        if length < 8:
            raise SourceError(f"{path}: this JPEG XL file has no codestream; fetch or write it again")
        at += length
    return at


def _decode(path: str, data: bytes, height: int, width: int) -> Pixels:
    import imagecodecs

    try:
        pixels: Pixels = imagecodecs.jpegxl_decode(data, keeporientation=True)
        frames = pixels.shape[:1] if pixels.shape[:2] != (height, width) else ()
        return np.moveaxis(pixels.reshape(*frames, height, width, -1), -1, -3)
    except (RuntimeError, ValueError) as error:
        raise SourceError(
            f"{path}: this JPEG XL file does not decode ({reason(error)}); it is damaged, fetch or write it again"
        ) from error
