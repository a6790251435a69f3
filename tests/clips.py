"""Clips whose frames say their own number, encoded here with PyAV, and what PyAV itself decodes of them."""

from __future__ import annotations

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
    with av.open(str(path)) as container:
        with suppress(av.error.FFmpegError):
            out.extend(container.decode(container.streams.video[stream]))
    return out
