"""
Crops as files: JPEG, PNG and TIFF of single images, MP4 and GIF of clips.

Every encoder runs outside Python's lock.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import imagecodecs
import numpy as np
import tifffile

from ndzarr._validation import check_choice
from ndzarr.errors import OptionError

Array = np.ndarray[Any, Any]
SUFFIXES = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif", "mp4": ".mp4", "gif": ".gif"}
"""Kind of a file to its suffix."""
CLIPS = ("mp4", "gif")
_PNG_LEVEL = 1
"""Level 6 takes five times as long for 6% fewer bytes (measured on photographs)."""
_CRF = 18
"""x264's constant rate factor: what it calls visually lossless or nearly so."""


@dataclass(frozen=True, slots=True)
class CropEncoder:
    """Encodes crops as files of one kind."""

    kind: str
    """One of `SUFFIXES`."""
    quality: int
    """Quality of JPEG, from 1 to 100."""
    fps: float
    """Frames per second of clips."""

    def __post_init__(self) -> None:
        check_choice("image", self.kind, tuple(SUFFIXES), OptionError)
        if not 1 <= self.quality <= 100:
            raise OptionError(f"quality={self.quality!r}: expected a number from 1 to 100", key="quality")
        if not 0 < self.fps < 1e4:
            raise OptionError(f"fps={self.fps!r}: expected a number of frames per second", key="fps")

    @property
    def suffix(self) -> str:
        """The suffix of files."""
        return SUFFIXES[self.kind]

    @property
    def clips(self) -> bool:
        """True where a file holds all frames of a target."""
        return self.kind in CLIPS

    def check(self, dtype: np.dtype[Any], channels: int) -> None:
        """Raise `OptionError` if a file cannot hold pixels of a type, or so many channels."""
        bits, counts = {
            "png": (("uint8", "uint16"), (1, 2, 3, 4)),
            "tiff": (None, None),
        }.get(self.kind, (("uint8",), (1, 3)))
        if bits is not None and dtype.name not in bits:
            what = f"image={self.kind!r} holds {' and '.join(bits)}, and the crops are {dtype}"
            hint = "Pass image='tiff', or dtype='uint8' for the targets"
            raise OptionError(what, key="image", hint=hint)
        if counts is not None and channels not in counts:
            what = f"image={self.kind!r} holds {' or '.join(map(str, counts))} channels, and the crops have {channels}"
            raise OptionError(what, key="image", hint="Pass image='tiff', or channels= such as 'r|g|b'")

    def encode(self, pixels: Array, channels: Sequence[str]) -> bytes:
        """Encode an image (c, y, x); a clip (t, c, y, x); of what `check` allows."""
        last = _interleaved(pixels) if pixels.ndim == 3 else np.stack([_interleaved(frame) for frame in pixels])
        match self.kind:
            case "jpeg":
                return bytes(imagecodecs.jpeg8_encode(last, level=self.quality))
            case "png":
                return bytes(imagecodecs.png_encode(last, level=_PNG_LEVEL))
            case "tiff":
                return _tiff(last, channels)
            case "mp4":
                return _mp4(last, self.fps)
            case _:
                return _gif(last, self.fps)


def _interleaved(pixels: Array) -> Array:
    """Return (c, y, x) as (y, x, c), or as (y, x) where there is one channel."""
    if len(pixels) == 1:
        return np.ascontiguousarray(pixels[0])
    if pixels.dtype.name in ("uint8", "uint16", "float32") and len(pixels) <= 4:  # ten times as fast as numpy
        return np.asarray(cv2.merge([np.ascontiguousarray(plane) for plane in pixels]))
    return np.ascontiguousarray(np.moveaxis(pixels, 0, -1))


def _tiff(pixels: Array, channels: Sequence[str]) -> bytes:
    """Encode (y, x) or (y, x, c), losslessly."""
    names = [name.lower() for name in channels]
    colours = pixels.ndim == 3 and pixels.dtype.kind == "u" and names[:3] in (["r", "g", "b"], ["red", "green", "blue"])
    colours = colours and (len(names) == 3 or (len(names) == 4 and names[3] in ("a", "alpha")))
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        pixels,
        photometric="rgb" if colours else "minisblack",
        planarconfig="contig" if pixels.ndim == 3 else None,
        extrasamples=["unassalpha"] if colours and len(names) == 4 else None,
        compression=None if pixels.dtype.kind in "bc" else "adobe_deflate",
        predictor=pixels.dtype.kind in "iu",
        metadata=None,
    )
    return file.getvalue()


def _mp4(frames: Array, fps: float) -> bytes:
    """Encode (t, y, x) or (t, y, x, c) as H.264; odd lengths gain a row or column, as its colours need."""
    import av

    odd = [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)][: frames.ndim]
    frames = np.pad(frames, odd, mode="edge")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        try:
            stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        except (ValueError, av.error.FFmpegError) as error:
            what = f"this build of PyAV cannot encode H.264 ({error})"
            raise OptionError(what, key="image", hint="Pass image='gif', or install PyAV's wheel") from error
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.options, stream.thread_count = {"crf": str(_CRF)}, 1
        for frame in frames:
            shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "gray" if frame.ndim == 2 else "rgb24")
            container.mux(stream.encode(shown))
        container.mux(stream.encode(None))
    return file.getvalue()


def _gif(frames: Array, fps: float) -> bytes:
    """Encode (t, y, x) or (t, y, x, c); each frame has its own 256 colours."""
    from PIL import Image

    first, *rest = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=max(20, round(1000 / fps)), loop=0)
    return file.getvalue()
