"""Which stream of a container is the video, and what does the container say of it?

FFmpeg, inside the wheel of PyAV, parses and decodes.  Of several video streams its own choice is taken (the default
one, then the largest picture); a cover picture of a sound file is not a video.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
from contextlib import suppress
from fractions import Fraction
from typing import Any

from ndzarr._formats.base import reason
from ndzarr.errors import SourceError

THREADS = 8
"""That decode one video, at most: each holds a few frames."""


def open_container(path: str, threaded: bool = True) -> tuple[Any, Any]:
    """
    Open a container, and the stream of it that is the video.

    Parameters
    ----------
    threaded
        Decode several frames at once; else one, so that an error is known to be that of the packet that was given.

    Returns
    -------
    (container, stream) of PyAV; the container is to be closed.

    Raises
    ------
    SourceError
        It has no video, or one that this FFmpeg cannot decode.
    """
    import av

    try:
        container = _open(path)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceError(
            f"{path}: FFmpeg finds no video in it ({what(error)}); it is damaged, or was not written to its end "
            f"(an MP4 without its index), so fetch or write it again"
        ) from error
    try:
        stream = _video(path, container)
        stream.thread_type = "AUTO" if threaded else "SLICE"
        stream.codec_context.thread_count = min(THREADS, os.cpu_count() or 1)
        return container, stream
    except BaseException:
        container.close()
        raise


def _open(path: str) -> Any:
    import av

    try:
        return av.open(path)
    except UnicodeDecodeError:  # titles in some other encoding
        options: dict[str, Any] = {"metadata_errors": "replace"}  # of PyAV 15 to 18
        return av.open(path, **options)


def _video(path: str, container: Any) -> Any:
    import av

    videos = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not videos:
        kinds = sorted({s.type for s in container.streams}) or ["nothing"]
        raise SourceError(
            f"{path}: this {container.format.name} file holds {' and '.join(kinds)}, but no video; pass a file that "
            f"has pictures"
        )
    best = None
    with suppress(av.FFmpegError):  # none that can be decoded
        best = container.streams.best("video")
    stream = next((s for s in videos if best is not None and s.index == best.index), videos[0])
    if stream.codec_context is None:
        raise SourceError(f"{path}: this FFmpeg has no decoder for its video stream; convert it to another codec first")
    return stream


def what(error: Exception) -> str:
    """What FFmpeg says is wrong."""
    return str(getattr(error, "strerror", None) or reason(error))


def fraction(value: Any) -> Fraction | None:
    """A ratio of PyAV, None where it is not stated (0/0, 0/1, None)."""
    if value is None or not value.numerator or not value.denominator:
        return None
    return Fraction(value.numerator, value.denominator)


def describe(container: Any, stream: Any) -> dict[str, Any]:
    """What the headers say, as metadata."""
    rate = fraction(stream.average_rate) or fraction(stream.guessed_rate)
    claimed = int(stream.frames or 0)
    lasts = _lasts(container, stream)
    others = sum(s.type == "video" for s in container.streams) - 1
    return {
        "format": "video",
        "container": container.format.name,
        "codec": stream.codec_context.name,
        **({"rate": float(rate)} if rate else {}),
        **({"claimed_frames": claimed} if claimed else {}),
        **({"claimed_seconds": lasts} if lasts else {}),
        **({"stream": int(stream.index), "other_video_streams": others} if others > 0 else {}),
    }


def _lasts(container: Any, stream: Any) -> float | None:
    """
    Seconds that the video lasts as the header has it; None if it does not say.

    Headers that state the number of frames need not be asked; those of other containers say how long all streams last.
    """
    if stream.frames:
        return None
    if "DURATION" in stream.metadata:  # Matroska, per stream: hours:minutes:seconds
        parts = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata["DURATION"])
        return None if parts is None else int(parts[1]) * 3600 + int(parts[2]) * 60 + float(parts[3])
    if container.format.name in ("matroska,webm", "flv") and len(container.streams) == 1 and container.duration:
        return float(container.duration) / 1e6
    return None


# --- What becomes of a decoder in a child that was forked?


def abandon(*objects: object) -> None:
    """Never free objects, whatever else becomes of them."""
    for one in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=gc.freeze)
