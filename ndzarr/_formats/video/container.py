"""Video containers: open a file with PyAV, choose its video stream, read its headers.

FFmpeg, inside the wheel of PyAV, parses and decodes.  If a container has several video streams, FFmpeg chooses (the
default stream, then the largest picture).  The cover picture of a sound file is not a video.
"""

from __future__ import annotations

import ctypes
import os
import re
import weakref
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
import numpy as np

from ndzarr._concurrency import available_cpus
from ndzarr._files import make_room, open_binary
from ndzarr._formats.base import reason
from ndzarr._formats.video.fragments import fetch_tables
from ndzarr._remote.files import RemotePath
from ndzarr.errors import NdzarrError, SourceError

THREADS = 8
"""Maximum number of threads that decode one video; each holds a few frames."""
_TOKEN = "ndzarr"
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these leave out alpha, which WebM stores as a second picture beside the first."""
_FORMATS = (
    "mov mp4 matroska webm avi flv live_flv kux ogg rm ivr ivf yuv4mpegpipe nsv nut asf asf_o mpeg mpegvideo m4v h261 "
    "h263 h264 hevc vvc evc cavsvideo avs2 avs3 vc1 vc1test av1 obu apv ipu mpegts mpegtsraw mxf gxf dv flic wtv dnxhd "
    "dirac nuv roq film_cpk ipmovie bink smk smush swf mjpeg cine r3d lxf lvf pva ty pmp thp rl2 rpl vividas vivo 4xm "
    "anm bethsoftvid bfi c93 cdxl dsicin dxa ea ea_cdata gdv hnm idcin iff jv mm mods moflex mtv mv mvi mxg nc paf sga "
    "simbiosis_imx siff smjpeg tiertexseq tmv txd usm vmd wc3movie xmv yop"
)
_CLOSED = {"format_whitelist": _FORMATS.replace(" ", ","), "protocol_whitelist": "file"}
"""
Formats that hold their frames themselves.

Playlists and descriptions of streams (HLS, DASH, concat, SDP, image2) lead to other files and hosts, whatever the first
bytes of the file promise.
"""
_ENCRYPTED_TAGS = ("encv", "drmi")
_DECRYPT = "Decrypt it first, with the rights to do so: `ffmpeg -decryption_key KEY -i IN -c copy OUT` for MP4"
_TS_SYNC = 0x47


class _Token:
    """An object that takes weak references."""


def open_container(path: str, threaded: bool = True) -> tuple[Any, Any, Any]:
    """
    Return PyAV's container, which the caller closes, its video stream and the decoder of that.

    Threads decode several frames at once; without them, an error belongs to the packet that was just given.
    """
    make_room()
    try:
        container = _open(path)
    except NdzarrError:
        raise  # the network
    except (av.FFmpegError, OSError, ValueError) as error:
        _refuse_protected(path)
        raise SourceError(
            f"{path}: FFmpeg finds no video in this file ({av_reason(error)})",
            path=path,
            hint="It is damaged, or incomplete (an MP4 without its index): fetch or write it again",
        ) from error
    try:
        stream = _video_stream(path, container)
        codec = _decoder(stream)
        codec.thread_type = "AUTO" if threaded else "SLICE"
        codec.thread_count = min(THREADS, available_cpus())
        # Container and stream refer to each other, so the garbage collector frees them, in whichever process it runs.
        # Neither takes weak references, so a token in the stream's dictionary tells when they go.
        stream.metadata[_TOKEN] = token = _Token()
        free_with_owner(token, codec)
        return container, stream, codec
    except BaseException:
        container.close()
        raise


def free_with_owner(owner: object, *resources: object) -> weakref.finalize[..., object]:
    """
    Free FFmpeg's resources together with their owner, but never in a forked child.

    Freeing a decoder joins its threads.  A forked child has none of its parent's threads and would wait for ever.
    A child calls the returned finalizer before it drops the resources of an owner that lives on.
    """
    return weakref.finalize(owner, _free, os.getpid(), resources)


def _free(pid: int, resources: tuple[object, ...]) -> None:
    if os.getpid() != pid:
        # Nobody gives this reference back.  A list would be emptied when the interpreter exits.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(resources))
        return
    for resource in resources:
        if isinstance(resource, av.CodecContext):
            # PyAV joins the threads while it holds the interpreter's lock.  After av.logging.set_level, a thread that
            # still decodes may wait for that lock to log a message.  Flushing waits for the threads without the lock.
            resource.flush_buffers()


def _open(path: str) -> Any:
    options: dict[str, Any] = {"container_options": _CLOSED}
    if isinstance(path, RemotePath):
        options["buffer_size"] = _BUFFER
        fetch_tables(path)
    try:
        return av.open(path.reader() if isinstance(path, RemotePath) else path, **options)
    except UnicodeDecodeError:  # titles in another encoding
        options["metadata_errors"] = "replace"  # of PyAV 15 to 18
        return av.open(path.reader() if isinstance(path, RemotePath) else path, **options)


_BUFFER = 128 << 10
"""Bytes that FFmpeg asks a remote file for at a time."""


def beginning(path: str, count: int) -> bytes:
    """Return the first bytes of a file."""
    with path.reader() if isinstance(path, RemotePath) else open_binary(path) as file:
        return bytes(file.read(count))


def _video_stream(path: str, container: Any) -> Any:
    videos = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not videos:
        kinds = sorted({s.type for s in container.streams}) or ["nothing"]
        raise SourceError(
            f"{path}: this {container.format.name} file holds {' and '.join(kinds)}, but no video",
            path=path,
            hint="Pass a file that has pictures",
        )
    best = None
    with suppress(av.FFmpegError):  # FFmpeg can decode none of them
        best = container.streams.best("video")
    stream = next((s for s in videos if best is not None and s.index == best.index), videos[0])
    if stream.codec_context is None:
        found, hint = f"{path}: this FFmpeg has no decoder for the video stream", "Convert it to another codec first"
        raise SourceError(found, path=path, hint=hint)
    return stream


def _decoder(stream: Any) -> Any:
    """Return the stream's decoder; for VP8 and VP9 with alpha, the one that decodes alpha."""
    own = stream.codec_context
    if stream.metadata.get("alpha_mode") != "1" or own.name not in _ALPHA_DECODERS:
        return own
    codec = av.CodecContext.create(_ALPHA_DECODERS[own.name], "r")
    codec.extradata = own.extradata
    return codec


def refuse_encrypted(path: str, stream: Any, packet: Any = None) -> None:
    """Raise SourceError if a stream, or a packet of it, is known to be encrypted."""
    if (packet is not None and packet.has_sidedata("encryption_info")) or (
        stream.codec_context.codec_tag in _ENCRYPTED_TAGS
    ):
        raise SourceError(f"{path}: the video is encrypted", path=path, hint=_DECRYPT)


def _refuse_protected(path: str) -> None:
    """Raise SourceError if an MP4 describes encrypted frames (ISO 14496-12, 8.12), which FFmpeg may not even open."""
    head = beginning(path, 1 << 20)
    if head[4:8] == b"ftyp" and b"encv" in head and b"sinf" in head:
        raise SourceError(f"{path}: the video is encrypted", path=path, hint=_DECRYPT)


def refuse_scrambled(path: str) -> None:
    """Raise SourceError if the packets of a transport stream say that they are scrambled (ISO 13818-1, 2.4.3.2)."""
    data = np.frombuffer(beginning(path, 1 << 20), np.uint8)
    for size, start in ((188, 0), (192, 4), (204, 0)):  # plain, with time codes (M2TS), with parity
        packets = data[start : start + (len(data) - start) // size * size].reshape(-1, size)
        if len(packets) and (packets[:, 0] == _TS_SYNC).all() and (packets[:, 3] & 0xC0).any():
            raise SourceError(f"{path}: the transport stream is scrambled (encrypted)", path=path, hint=_DECRYPT)


def av_reason(error: Exception) -> str:
    """Return FFmpeg's own words for an error."""
    return str(getattr(error, "strerror", None) or reason(error))


def as_fraction(value: Any) -> Fraction | None:
    """Convert a ratio of PyAV; None if it is not stated (0/0, 0/1, None)."""
    if value is None or not value.numerator or not value.denominator:
        return None
    return Fraction(value.numerator, value.denominator)


def describe_headers(container: Any, stream: Any) -> dict[str, Any]:
    """Return what the headers say, as metadata of a source."""
    rate = as_fraction(stream.average_rate) or as_fraction(stream.guessed_rate)
    claimed = int(stream.frames or 0)
    duration = _claimed_seconds(container, stream)
    others = sum(s.type == "video" for s in container.streams) - 1
    return {
        "format": "video",
        "container": container.format.name,
        "codec": stream.codec_context.name,
        **({"rate": float(rate)} if rate else {}),
        **({"claimed_frames": claimed} if claimed else {}),
        **({"claimed_seconds": duration} if duration else {}),
        **({"stream": int(stream.index), "other_video_streams": others} if others > 0 else {}),
    }


def _claimed_seconds(container: Any, stream: Any) -> float | None:
    """Return the duration that the header states for the video; None if it states a number of frames, or neither."""
    if stream.frames:
        return None
    if "DURATION" in stream.metadata:  # Matroska, per stream: hours:minutes:seconds
        parts = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata["DURATION"])
        return None if parts is None else int(parts[1]) * 3600 + int(parts[2]) * 60 + float(parts[3])
    # These containers state how long all streams last together.
    if container.format.name in ("matroska,webm", "flv") and len(container.streams) == 1 and container.duration:
        return float(container.duration) / 1e6
    return None
