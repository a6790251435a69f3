"""Can a video be decoded from the packets that its container calls keys?

Some do not know and call all of them keys (H.261 and H.263 in AVI), and a decoder that begins at another makes up what
it lacks without a word.  So near the beginning, where several are said to be, the first frames that come of the last of
them are compared with those that come of decoding everything before.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.sources.video.frames import Decoder, ThreadsFailed
from ndzarr.sources.video.seeking import go

if TYPE_CHECKING:
    from ndzarr.sources.video.index import Index

NEAR = 32
"""Frames from the beginning within which keys are tried."""
TRIED = 2
"""Keys that are: of a video of frames that all look alike to the container, one may be a key by chance."""


def confirmed(frame: Any) -> bool:
    """True where the decoder says that a frame needs no other."""
    return bool(frame.key_frame) or int(frame.pict_type) == 1


def keys_hold(path: str, index: Index) -> bool:
    """True unless a frame that is decoded from a key is another than the one decoded from the beginning."""
    frames, positions = index.starts
    near = positions[(frames > 0) & (frames < NEAR)][-TRIED:]
    if not len(near):
        return True
    try:
        found = dict(first for k in near if (first := _first_from(path, index, int(k))) is not None)
        return found.items() <= _from_beginning(path, set(found)).items()
    except ThreadsFailed:  # something that is no key gives the decoder nothing to begin with
        return False


def _first_from(path: str, index: Index, k: int) -> tuple[int, int] | None:
    """(packet, digest) of the first frame that is decoded from a key and shown no earlier; None if none comes soon."""
    begins = index.frame_of[index.keys[k]]
    with Decoder(path) as decoder:
        for number, frame in decoder.frames(go(decoder, index.keys, index.marks, k)):
            if number is not None and begins <= index.frame_of[number]:
                return (number, _digest(frame)) if index.frame_of[number] < 2 * NEAR else None
    return None


def _from_beginning(path: str, wanted: set[int]) -> dict[int, int]:
    """Digests of the frames of some packets."""
    found: dict[int, int] = {}
    with Decoder(path) as decoder:
        for number, frame in decoder.frames(enumerate(decoder.packets())):
            if number in wanted:
                found[number] = _digest(frame)
                if len(found) == len(wanted):
                    break
    return found


def _digest(frame: Any) -> int:
    """Of the bytes of each plane that are pixels for sure; what fills up its rows may be anything."""
    found = 0
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        found = zlib.crc32(rows.tobytes(), found)
    return found
