"""PNG files, still and animated (ISO/IEC 15948; APNG as in the third edition of the W3C recommendation).

Chunks are read here, as libpng knows more than is wanted of some and less of others; imagecodecs decodes the pixels.
Each frame of an animation is decoded as a PNG of its own, and drawn over what the frame before has left.  (Pillow drops
the low bytes of 16 bits, and averages alpha where a frame is drawn over another.)
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from ndzarr._files import open_binary
from ndzarr._formats.base import Pixels, Source, WholeSource
from ndzarr._formats.colour import ALPHA, GRAY, RGB, describe_profile
from ndzarr._formats.options import Options
from ndzarr._formats.orientation import find_orientation
from ndzarr._formats.raster import AnimatedSource, channels_first, decoding, describe_image, open_pillow, refusal

_FORM = "PNG"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Chunks that decoding a still image needs."""
_ANIMATED = (*_NEEDED, b"acTL", b"fcTL", b"fdAT")
_SMALL = 1 << 24
"""Maximum size of a chunk, and of a text, that is read before decoding, in bytes."""
_TO_BACKGROUND, _TO_PREVIOUS = 1, 2
"""What happens to the area of a frame once it was shown."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame of an animation."""

    width: int
    height: int
    left: int
    top: int
    seconds: float
    disposal: int
    blends: bool
    data: list[bytes] = field(default_factory=list)
    """Compressed bytes."""


def open_png(path: str, options: Options) -> Source:
    """Open a PNG file, still or animated."""
    chunks: dict[bytes, bytes] = {}
    info: dict[str, Any] = {}
    with open_binary(path) as file:
        for kind, data, _ in _chunks(path, file):
            if data is not None:
                chunks.setdefault(kind, data)
                info.update(_text(kind, data))
    try:
        width, height, depth, colour_type = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    except (KeyError, struct.error) as error:
        raise refusal(path, _FORM, "has no valid header") from error
    options.check_pixels(path, height, width, whole=True)
    tag = find_orientation({**info, "exif": chunks.get(b"eXIf")})
    palette, coloured, alpha = (bool(colour_type & bit) for bit in (1, 2, 4))
    if palette and options.palette == "indices":
        return open_pillow(path, _FORM, options, tag)
    alpha = alpha or b"tRNS" in chunks  # makes palette entries, or one colour, transparent
    channels = (*(RGB if coloured else GRAY), *((ALPHA,) if alpha else ()))
    if palette:
        colour = f"palette of {depth}-bit indices expanded to RGB{'A' if alpha else ''}"
    else:
        colour = f"{depth}-bit {'RGB' if coloured else 'gray'}{', scaled to 8 bits' if depth < 8 else ''}"
    about: dict[str, Any] = {"format": _FORM, "colour": colour, **describe_profile(_profile(chunks.get(b"iCCP")))}
    dtype: np.dtype[Any] = np.dtype(np.uint16 if depth == 16 else np.uint8)
    announced = int.from_bytes(chunks.get(b"acTL", b"")[:4], "big")
    frames, in_order = _read_frames(path)[1:] if announced > 1 else ([], True)
    if len(frames) < 2:
        facts, orientation = describe_image(path, options, (len(channels), height, width), dtype, channels, about, tag)
        return WholeSource(facts, orientation, lambda: _decode(path))
    notes = [] if in_order else ["the parts of the animation are not numbered in order, and may be damaged"]
    if announced != len(frames):
        notes.append(f"the header announces {announced} frames, but the file has {len(frames)}")
    if notes:
        about["notes"] = notes
    durations = [frame.seconds for frame in frames]
    times = np.cumsum([0.0, *durations[:-1]]) if all(durations[:-1]) else None
    canvas = len(channels), height, width
    if alpha and all(frame[-1].min() == (1 << 8 * dtype.itemsize) - 1 for frame in _draw_frames(path, canvas, dtype)):
        channels = channels[:-1]  # encoders use transparency for what does not change

    def draw() -> Generator[Pixels]:
        return (frame[: len(channels)] for frame in _draw_frames(path, canvas, dtype))

    stored = len(durations), len(channels), height, width
    facts, orientation = describe_image(path, options, stored, dtype, channels, about, tag, times)
    return AnimatedSource(facts, orientation, draw)


def _chunks(path: str, file: BinaryIO) -> Iterator[tuple[bytes, bytes | None, int]]:
    """Yield kind, content and size in the file of each chunk; no content of pixels and of large chunks."""
    size = file.seek(0, 2)
    at = 8
    kind = b""
    while kind != b"IEND":
        file.seek(at)
        head = file.read(8)
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (size, b"")
        if at + 12 + length > size:
            raise refusal(path, _FORM, f"is truncated: it has {size} bytes and no IEND chunk")
        yield kind, None if kind in (b"IDAT", b"fdAT") or length > _SMALL else file.read(length), 12 + length
        at += 12 + length


def _text(kind: bytes, data: bytes) -> dict[str, str]:
    """Return keyword and text of a chunk of text, {} of other and of damaged chunks."""
    keyword, _, text = data.partition(b"\0")
    try:
        if kind == b"zTXt":  # a byte for the method, compressed bytes
            text = zlib.decompressobj().decompress(text[1:], _SMALL)
        elif kind == b"iTXt":  # whether compressed, the method, language, translated keyword
            compressed, text = text[:1] == b"\x01", text[2:].split(b"\0", 2)[2]
            text = zlib.decompressobj().decompress(text, _SMALL) if compressed else text
        elif kind != b"tEXt":
            return {}
    except (zlib.error, IndexError):
        return {}
    return {keyword.decode("latin-1"): text.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")}


def _profile(chunk: bytes | None) -> bytes | None:
    """Return the ICC profile in an iCCP chunk: a name, a zero, the compression method, compressed bytes."""
    try:
        return zlib.decompress(chunk[chunk.index(b"\0") + 2 :]) if chunk else None
    except (ValueError, zlib.error):
        return None


def _needed(path: str, data: bytes, kinds: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and bytes of all chunks of some kinds; the bytes with length, kind and checksum."""
    at = 8
    for kind, _, size in _chunks(path, io.BytesIO(data)):
        if kind in kinds:
            part = data[at : at + size]
            if zlib.crc32(part[4:-4]) != int.from_bytes(part[-4:], "big"):  # libpng may only warn
                found = f"does not decode (the checksum of its chunk {kind.decode()} does not match the bytes)"
                raise refusal(path, _FORM, found)
            yield kind, part
        at += size


def _decode(path: str) -> Pixels:
    with open_binary(path) as file:
        data = file.read()
    # Only the chunks that matter to pixels: libpng fails at some of the others.
    return _decode_chunks(path, [part for _, part in _needed(path, data, _NEEDED)])


def _decode_chunks(path: str, parts: list[bytes]) -> Pixels:
    import imagecodecs

    with decoding(path, _FORM):
        pixels = imagecodecs.png_decode(_SIGNATURE + b"".join(parts))
    return channels_first(pixels)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _read_frames(path: str) -> tuple[list[bytes], list[_Frame], bool]:
    """Return the chunks that precede pixels, the header first; the frames; and whether all are numbered in order."""
    with open_binary(path) as file:
        data = file.read()
    head: list[bytes] = []
    frames: list[_Frame] = []
    numbers: list[int] = []
    for kind, part in _needed(path, data, _ANIMATED):
        if kind in (b"fcTL", b"fdAT"):
            numbers.append(int.from_bytes(part[8:12], "big"))
        if kind == b"fcTL":
            try:
                width, height, left, top, numerator, denominator, disposal, blend = struct.unpack_from(
                    ">IIIIHHBB", part, 12
                )
            except struct.error as error:
                raise refusal(path, _FORM, "has a frame without a valid header") from error
            seconds = numerator / (denominator or 100)
            frames.append(_Frame(width, height, left, top, seconds, disposal, blend == 1))
        elif kind == b"fdAT" and frames:
            frames[-1].data.append(part[12:-4])
        elif kind == b"IDAT" and frames:  # before the first frame it is a still that is no frame
            frames[-1].data.append(part[8:-4])
        elif kind in (b"IHDR", b"PLTE", b"tRNS"):
            head.append(part)
    return head, frames, numbers == list(range(len(numbers)))


def _draw_frames(path: str, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Generator[Pixels]:
    """Yield the frames of an animation, (c, y, x), each drawn over what the one before has left."""
    head, frames, _ = _read_frames(path)
    canvas = np.zeros(shape, dtype)
    for number, frame in enumerate(frames):
        header = _chunk(b"IHDR", struct.pack(">II", frame.width, frame.height) + head[0][16:-4])
        parts = [header, *head[1:], _chunk(b"IDAT", b"".join(frame.data)), _chunk(b"IEND", b"")]
        drawn = _decode_chunks(path, parts)
        area = (slice(None), slice(frame.top, frame.top + frame.height), slice(frame.left, frame.left + frame.width))
        before = canvas.copy()
        if canvas[area].shape != drawn.shape:
            raise refusal(path, _FORM, f"does not decode (frame {number} reaches beyond the image)")
        canvas[area] = _blend(drawn, canvas[area]) if frame.blends and shape[0] in (2, 4) else drawn
        yield canvas.copy()
        if frame.disposal == _TO_BACKGROUND or (frame.disposal == _TO_PREVIOUS and number == 0):
            canvas[area] = 0
        elif frame.disposal == _TO_PREVIOUS:
            canvas = before


def _blend(over: Pixels, under: Pixels) -> Pixels:
    """Draw over what is there, by alpha, the last channel; colours are not multiplied with it."""
    top = float(np.iinfo(over.dtype).max)
    alpha, below = over[-1] / top, under[-1] / top
    total = alpha + below * (1 - alpha)
    out = np.empty_like(over)
    out[-1] = np.rint(total * top)
    weighted = over[:-1] * alpha + under[:-1] * (below * (1 - alpha))
    out[:-1] = np.rint(np.divide(weighted, total, out=under[:-1].astype(np.float64), where=total > 0))
    return out
