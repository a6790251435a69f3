"""JPEG XL files: codestreams, bare or in a container (ISO/IEC 18181-1 and -2).

imagecodecs decodes them, but gives at most one alpha beside r, g, b, and does not tell frames from channels.  The image
metadata at the start of the codestream say what there is: depth, frames, colour space and kinds of extra channels.
Where the decoder leaves out extra channels, each is decoded as if it were alpha: from a copy of the codestream whose
metadata say so.  The kind of a channel is not needed to decompress it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ndzarr._files import open_binary
from ndzarr._formats.base import Pixels, WholeSource
from ndzarr._formats.colour import ALPHA, GRAY, RGB
from ndzarr._formats.options import Options
from ndzarr._formats.raster import decoding, describe_image, refusal

_FORM = "JPEG XL"
_SIGNATURE = b"\xff\x0a"
_HEAD = 1 << 16
"""Bytes of the codestream within which the image metadata end."""
_LENGTHS = ((0, 9), (0, 13), (0, 18), (0, 30))
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
"""Width to height per value of the ratio field; after 0 the width follows."""
_DEPTHS = ((8, 0), (10, 0), (12, 0), (1, 6))
_FLOAT_DEPTHS = ((32, 0), (16, 0), (24, 0), (1, 6))
_ENUM = ((0, 0), (1, 0), (2, 4), (18, 6))
_NAME_LENGTHS = ((0, 0), (0, 4), (16, 5), (48, 10))
_SHIFTS = ((0, 0), (3, 0), (4, 0), (1, 3))
_COUNTS = ((0, 0), (1, 0), (2, 4), (1, 12))
"""Coding of a number: for each value of two bits, (offset, further bits)."""
_GRAY_SPACE = 1
_ALPHA_KIND, _SPOT, _BLACK, _CFA, _OTHER = 0, 2, 4, 5, 6
"""Kinds of extra channels; `_OTHER` (thermal) has no fields of its own."""


class _Bits:
    """Reads a stream of bits, least significant first."""

    def __init__(self, data: bytes) -> None:
        self._value, self.length, self.at = int.from_bytes(data, "little"), 8 * len(data), 0

    def take(self, count: int) -> int:
        if self.at + count > self.length:
            raise ValueError("the image metadata are truncated")
        found = self._value >> self.at & ((1 << count) - 1)
        self.at += count
        return found

    def number(self, coding: tuple[tuple[int, int], ...]) -> int:
        offset, count = coding[self.take(2)]
        return offset + self.take(count)


class _Writer:
    """Writes a stream of bits."""

    def __init__(self) -> None:
        self.value, self.at = 0, 0

    def put(self, value: int, count: int) -> None:
        self.value |= value << self.at
        self.at += count

    def number(self, value: int, coding: tuple[tuple[int, int], ...], selector: int | None = None) -> None:
        for k, (offset, count) in enumerate(coding):
            if selector in (None, k) and offset <= value < offset + (1 << count):
                self.put(k, 2)
                self.put(value - offset, count)
                return
        raise ValueError(f"{value} has no such code")


@dataclass(frozen=True, slots=True)
class _Extra:
    """An extra channel."""

    kind: int
    bits: int
    exponent: int
    """Bits of the exponent of floats; 0 for integers."""
    shift: int
    """Binary logarithm of the pixels per sample."""


@dataclass(frozen=True, slots=True)
class _Header:
    """Size and image metadata of a codestream."""

    height: int
    width: int
    tag: int
    """Orientation."""
    animated: bool
    gray: bool
    bits: int
    exponent: int
    extras: tuple[_Extra, ...]
    body: tuple[int, int]
    """Bits, from the signature, of what follows the size up to the number of extra channels."""
    end: int
    """Bit behind the extra channels."""


def open_jpegxl(path: str, options: Options) -> WholeSource:
    """Open a JPEG XL file, still or animated."""
    with open_binary(path) as file:
        data = b"".join(_codestream(path, file.read()))
    try:
        header = _read_header(data[:_HEAD])
    except ValueError as error:
        raise refusal(path, _FORM, f"has no valid header ({error})") from error
    options.check_pixels(path, header.height, header.width, whole=True)
    pixels = _decode(path, data, header)
    about: dict[str, Any] = {"format": _FORM}
    if not header.exponent and header.bits < 8 * pixels.dtype.itemsize:
        about["bits"] = header.bits
    names = _names(header)
    if "k" in names:
        about["colour"] = "CMYK as stored, where 0 is full ink"
    facts, orientation = describe_image(path, options, pixels.shape, pixels.dtype, names, about, header.tag)
    return WholeSource(facts, orientation, lambda: pixels)


def _names(header: _Header) -> tuple[str, ...]:
    kinds = [extra.kind for extra in header.extras]
    inks = not header.gray and _BLACK in kinds
    names = [*(GRAY if header.gray else ("c", "m", "y") if inks else RGB)]
    named = {_ALPHA_KIND: ALPHA, _BLACK: "k"} if inks else {_ALPHA_KIND: ALPHA}
    for kind in kinds:
        name = named.pop(kind, None)
        names.append(name or f"c{len(names)}")
    return tuple(names)


def _codestream(path: str, data: bytes) -> Iterator[bytes]:
    """Yield the parts of the codestream, without the boxes of the container."""
    if data.startswith(_SIGNATURE):
        yield data
        return
    at, found = 0, False
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = at + 8
        if length == 1 and at + 16 <= len(data):  # the length does not fit into 32 bits and follows in 64
            (length,) = struct.unpack_from(">Q", data, body)
            body += 8
        end = len(data) if length == 0 else at + length
        if kind in (b"jxlc", b"jxlp"):
            found = True
            yield data[body + (4 if kind == b"jxlp" else 0) : end]
        if end < body:
            break
        at = end
    if not found:
        raise refusal(path, _FORM, "has no codestream")


def _read_size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)

    def length() -> int:
        return (bits.take(5) + 1) * 8 if small else bits.number(_LENGTHS) + 1

    height = length()
    ratio = bits.take(3)
    return height, height * _RATIOS[ratio][0] // _RATIOS[ratio][1] if ratio else length()


def _read_preview(bits: _Bits) -> None:
    coding = ((16, 0), (32, 0), (1, 5), (33, 9)) if bits.take(1) else ((1, 6), (65, 8), (321, 10), (1345, 12))
    bits.number(coding)
    if not bits.take(3):
        bits.number(coding)


def _read_depth(bits: _Bits) -> tuple[int, int]:
    """Return bits of a sample, and of its exponent."""
    if not bits.take(1):
        return bits.number(_DEPTHS), 0
    depth = bits.number(_FLOAT_DEPTHS)
    return depth, bits.take(4) + 1


def _read_extra(bits: _Bits) -> _Extra:
    if bits.take(1):
        return _Extra(_ALPHA_KIND, 8, 0, 0)
    kind = bits.number(_ENUM)
    depth, exponent = _read_depth(bits)
    shift = bits.number(_SHIFTS)
    bits.take(8 * bits.number(_NAME_LENGTHS))
    if kind == _ALPHA_KIND:
        bits.take(1)  # whether colours are multiplied with it
    elif kind == _SPOT:
        bits.take(64)
    elif kind == _CFA:
        bits.number(((1, 0), (0, 2), (3, 4), (19, 8)))
    return _Extra(kind, depth, exponent, shift)


def _read_header(data: bytes) -> _Header:
    """Read SizeHeader and ImageMetadata; raise ValueError if they are damaged."""
    bits = _Bits(data)
    bits.take(16)
    height, width = _read_size(bits)
    start = bits.at
    tag, animated, gray, depth, exponent, body, end = 1, False, False, 8, 0, start, start
    extras: tuple[_Extra, ...] = ()
    if not bits.take(1):  # not all default
        if bits.take(1):
            tag = bits.take(3) + 1
            if bits.take(1):
                _read_size(bits)
            if bits.take(1):
                _read_preview(bits)
            animated = bool(bits.take(1))
            if animated:
                bits.number(((100, 0), (1000, 0), (1, 10), (1, 30)))
                bits.number(((1, 0), (1001, 0), (1, 8), (1, 10)))
                bits.number(((0, 0), (0, 3), (0, 16), (0, 32)))
                bits.take(1)
        depth, exponent = _read_depth(bits)
        bits.take(1)  # whether 16 bits are enough for the modular mode
        body = bits.at
        extras = tuple(_read_extra(bits) for _ in range(bits.number(_COUNTS)))
        end = bits.at
        bits.take(1)  # XYB
        if not bits.take(1):  # the colour encoding is not sRGB
            bits.take(1)  # an ICC profile follows
            gray = bits.number(_ENUM) == _GRAY_SPACE
    return _Header(height, width, tag, animated, gray, depth, exponent, extras, (start, body), end)


def _decode(path: str, data: bytes, header: _Header) -> Pixels:
    """Return all pixels with axes (c, y, x), or (t, c, y, x) of several frames."""
    import imagecodecs

    colours, count = 1 if header.gray else 3, len(header.extras)
    alpha = next((i for i, extra in enumerate(header.extras) if extra.kind == _ALPHA_KIND), None)

    def decode(codestream: bytes, samples: int) -> Pixels:
        """Return axes (t, c, y, x)."""
        with decoding(path, _FORM):
            found = np.asarray(imagecodecs.jpegxl_decode(codestream, keeporientation=True))
            return np.moveaxis(found.reshape(-1, header.height, header.width, samples), -1, -3)

    if header.gray and count and alpha is None:  # the one case in which imagecodecs gives planes, and all of them
        with decoding(path, _FORM):
            planes = np.asarray(imagecodecs.jpegxl_decode(data, keeporientation=True))
            pixels = planes.reshape(-1, 1 + count, header.height, header.width)
    else:
        pixels = decode(data, colours + (alpha is not None))
        if pixels.shape[1] < colours + count:
            found = [pixels if i == alpha else decode(_with_alpha(data, header, i), colours + 1) for i in range(count)]
            pixels = np.concatenate([pixels[:, :colours], *(part[:, colours:] for part in found)], axis=1)
    return pixels if len(pixels) > 1 else pixels[0]


def _with_alpha(data: bytes, header: _Header, number: int) -> bytes:
    """
    Return the codestream with extra channel `number` as its only alpha.

    What follows the metadata is copied and must keep its place within a byte.  Several codes stand for the same size,
    depth and length of name; those are chosen that make the metadata longer by whole bytes.
    """
    start, stop = header.body
    head = int.from_bytes(data[:_HEAD], "little")
    body = head >> start & ((1 << stop - start) - 1)
    for rows, columns, name, count, depth in product(range(4), range(4), range(4), (None, 3), (None, 3)):
        out = _Writer()
        try:
            out.put(int.from_bytes(_SIGNATURE, "little"), 17)  # and the bit that a size of few bits would have
            out.number(header.height - 1, _LENGTHS, rows)
            out.put(0, 3)
            out.number(header.width - 1, _LENGTHS, columns)
            out.put(body, stop - start)
            out.number(len(header.extras), _COUNTS, count)
            for i, extra in enumerate(header.extras):
                _write_extra(out, extra, i == number, name if i == number else 0, depth)
        except ValueError:  # a number has no such code
            continue
        if (out.at - header.end) % 8 == 0:
            after = -(-header.end // 8)
            out.put(head >> header.end & ((1 << 8 * after - header.end) - 1), 8 * after - header.end)
            return out.value.to_bytes(out.at // 8, "little") + data[after:]
    raise ValueError("no codes of this header give the alignment")


def _write_extra(out: _Writer, extra: _Extra, alpha: bool, name: int, depth: int | None) -> None:
    """Write the metadata of an extra channel; `name` and `depth` select the codes of the two."""
    out.put(0, 1)
    out.number(_ALPHA_KIND if alpha else _OTHER, _ENUM)
    if extra.exponent:
        out.put(1, 1)
        out.number(extra.bits, _FLOAT_DEPTHS, depth)
        out.put(extra.exponent - 1, 4)
    else:
        out.put(0, 1)
        out.number(extra.bits, _DEPTHS, depth)
    out.number(extra.shift, _SHIFTS)
    letters = _NAME_LENGTHS[name][0]
    out.number(letters, _NAME_LENGTHS, name)
    out.put(0, 8 * letters)
    if alpha:
        out.put(0, 1)  # colours are not multiplied with it
