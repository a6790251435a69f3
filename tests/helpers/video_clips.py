"""Video clips whose frames show their own number, encoded with PyAV, and PyAV's decoding of them as the oracle."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

BITS = 10
"""Of the number that is drawn."""
BLOCK = 16
"""Pixels of the square that stands for one bit."""
SIZE = (64, 160)
"""(height, width): a row of bits, a row of their complements, and a picture."""


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray[Any, Any]:
    """A frame (y, x, 3): the bits of its number in black and white above a picture that moves."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    out = np.stack([(x * 2 + number * 5) % 256, (y * 3 + number) % 256, (x + y + number * 3) % 256], -1).astype("u1")
    for k in range(BITS):
        bit = number >> k & 1
        out[:BLOCK, k * BLOCK : (k + 1) * BLOCK] = 235 * bit + 10
        out[BLOCK : 2 * BLOCK, k * BLOCK : (k + 1) * BLOCK] = 235 * (1 - bit) + 10
    return out


def number(frame: np.ndarray[Any, Any]) -> int:
    """The number drawn in a frame (c, y, x), which survives compression; an error where it cannot be read."""
    top = np.iinfo(frame.dtype).max if frame.dtype == np.uint8 else frame.max()
    found = 0
    for k in range(BITS):
        bit, complement = (
            float(frame[:, r * BLOCK + 4 : r * BLOCK + 12, k * BLOCK + 4 : k * BLOCK + 12].mean()) for r in (0, 1)
        )
        assert abs(bit - complement) > 0.4 * top, f"bit {k} is not readable: {bit} against {complement}"
        found |= (bit > complement) << k
    return found


def numbers(frames: np.ndarray[Any, Any]) -> list[int]:
    """Those of all frames of (t, c, y, x)."""
    return [number(frame) for frame in frames]


def encode(
    path: Path | str,
    codec: str = "libx264",
    n: int = 40,
    *,
    size: tuple[int, int] = SIZE,
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    form: str | None = None,
    options: Mapping[str, str] | None = None,
    muxer: Mapping[str, str] | None = None,
    ticks: Sequence[int] | None = None,
    colour: Mapping[str, int] | None = None,
    frames: Sequence[av.VideoFrame] | None = None,
) -> str:
    """
    Encode frames 0 to n - 1.

    Parameters
    ----------
    ticks
        When each frame is shown, in 1000ths of a second; a constant rate if left out.
    colour
        Attributes of the encoder such as `colorspace` and `color_range`.
    frames
        What is encoded, instead of numbered pictures.
    """
    with av.open(str(path), "w", format=form, options=dict(muxer or {})) as out:
        stream = out.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        if ticks is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in (colour or {}).items():
            setattr(stream.codec_context, name, value)
        for i in range(n if frames is None else len(frames)):
            if frames is None:
                frame = av.VideoFrame.from_ndarray(picture(i, size), format="rgb24").reformat(format=pix_fmt)
            else:
                frame = frames[i]
            if ticks is not None:
                frame.pts, frame.time_base = ticks[i], Fraction(1, 1000)
            else:
                frame.pts, frame.time_base = i, Fraction(1, rate)
            frame.pict_type = 0
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return str(path)


def can_encode(codec: str) -> bool:
    """True where this FFmpeg has the encoder."""
    try:
        return bool(av.Codec(codec, "w"))
    except (av.codec.codec.UnknownCodecError, ValueError):
        return False


def decoded(path: Path | str, stream: int = 0) -> list[av.VideoFrame]:
    """Every frame that PyAV decodes, in its order; what comes before an error."""
    out = []
    with av.open(str(path)) as container, suppress(av.error.FFmpegError):
        out.extend(container.decode(container.streams.video[stream]))
    return out


def converted(frame: av.VideoFrame, to: str | None = None) -> np.ndarray[Any, Any]:
    """
    A frame as (c, y, x), by FFmpeg's scale filter with everything said explicitly.

    Parameters
    ----------
    to
        FFmpeg's format of planes; that of as many channels and bits if left out.
    """
    depth = max(c.bits for c in frame.format.components)
    gray, alpha = len(frame.format.components) == 1, any(c.is_alpha for c in frame.format.components)
    to = to or ("rgba" if alpha else "gray" if gray else "gbrp") + (f"{depth}le" if depth > 8 else "")
    full = frame.color_range == 2 or "yuvj" in frame.format.name or (gray and frame.color_range == 0)
    matrix = {1: "bt709", 9: "bt2020"}.get(frame.colorspace, "bt601")
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1), name="in"
    )
    flags = "bilinear+accurate_rnd+full_chroma_int+bitexact"
    scale = graph.add(
        "scale", f"in_range={'full' if full else 'limited'}:in_color_matrix={matrix}:out_range=full:flags={flags}"
    )
    graph.link_nodes(source, scale, graph.add("format", to), graph.add("buffersink")).configure()
    graph.vpush(frame)
    made = graph.vpull()
    dtype = np.dtype("<u2" if depth > 8 else "u1")
    if to == "rgba":
        return np.moveaxis(made.to_ndarray(), -1, 0)
    planes = [
        np.frombuffer(bytes(p), dtype).reshape(p.height, -1)[:, : made.width].astype(dtype.newbyteorder("="))
        for p in made.planes
    ]
    return np.stack([planes[k] for k in {1: (0,), 3: (2, 0, 1)}[len(planes)]])


def box(data: bytes, *names: bytes) -> int:
    """Where the content of a box of an MP4 begins, by its path of names, which are looked for one after the other."""
    at = 0
    for name in names:
        at = data.index(name, at) + 4
    return at


def patch_matrix(path: str, matrix: Sequence[int]) -> None:
    """Write a display matrix (a, b, c, d as whole numbers) into the track header of an MP4."""
    data = bytearray(Path(path).read_bytes())
    at = box(bytes(data), b"tkhd") + 40
    a, b, c, d = (n << 16 for n in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    Path(path).write_bytes(data)


def patch_edit_list(path: str, first_shown: int, rate: int = 25) -> None:
    """Let the edit list of an MP4 begin at a later frame."""
    data = bytearray(Path(path).read_bytes())
    at = box(bytes(data), b"elst") + 8
    ticks = struct.unpack_from(">I", data, box(bytes(data), b"mdhd") + 12)[0]
    _, begin = struct.unpack_from(">Ii", data, at)
    struct.pack_into(">i", data, at + 4, begin + first_shown * ticks // rate)
    Path(path).write_bytes(data)


def patch_avi_length(path: str, frames: int) -> None:
    """Let the headers of an AVI promise another number of frames."""
    data = bytearray(Path(path).read_bytes())
    struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, frames)
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, frames)
    Path(path).write_bytes(data)
