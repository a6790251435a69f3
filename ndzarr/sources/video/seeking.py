"""How is a packet found again?

Containers find packets by time, some of them roughly, some not at all.  So a seek is only trusted when the packet that
was wanted comes: packets before it are read and thrown away, which costs little, as they are not decoded.  If another
key comes that lies behind it, the seek went too far, and the next one begins further back; the last begins at the
beginning of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, dropwhile
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr.sources.video.timestamps import MISSING

if TYPE_CHECKING:
    from ndzarr.sources.video.frames import Decoder

Mark: TypeAlias = tuple[int, int, int, int]
"""(pts, dts, place in the file, size) of a packet; `MISSING` for what is not stated."""

_BACK = (0, 1, 4)
"""Keys before the wanted one that a seek aims at, one after the other."""


def mark_of(packet: Any) -> Mark:
    """What tells a packet from others."""
    place = packet.pos if packet.pos is not None and packet.pos >= 0 else None
    return _stated(packet.pts), _stated(packet.dts), _stated(place), int(packet.size)


def go(decoder: Decoder, keys: np.ndarray[Any, Any], marks: np.ndarray[Any, Any], k: int) -> Iterator[tuple[int, Any]]:
    """
    Packets from a key on, with their numbers.

    Parameters
    ----------
    keys, marks
        As `Index` has them.
    k
        Position in both.
    """
    import av

    wanted, number = marks[k], int(keys[k])
    behind = {(int(m[0]), int(m[3])) for m in marks[k + 1 : k + 64]}
    for back in _BACK:
        aim = marks[k - back] if k >= back else None
        if aim is None or (when := _when(aim)) is None:
            break
        try:
            decoder.container.seek(when, stream=decoder.stream, backward=True)
        except (av.FFmpegError, OverflowError):  # not every container can
            break
        packets = decoder.packets()
        found = _found(packets, wanted, behind)
        if found is not None:
            return enumerate(chain([found], packets), number)
    decoder.reopen()
    return dropwhile(lambda item: item[0] < number, enumerate(decoder.packets()))


def _found(packets: Iterator[Any], wanted: np.ndarray[Any, Any], behind: set[tuple[int, int]]) -> Any:
    """The packet that was wanted; None if one behind it comes first, or the end."""
    for packet in packets:
        if packet.is_keyframe:
            mark = mark_of(packet)
            if _same(mark, wanted):
                return packet
            if (mark[0], mark[3]) in behind:
                return None
    return None


def _same(mark: Mark, wanted: np.ndarray[Any, Any]) -> bool:
    """True for one packet met twice: some containers state its place, or when it is decoded, only the first time."""
    pts, dts, place, size = (int(n) for n in wanted)
    if mark[3] != size or mark[0] != pts:
        return False
    if MISSING not in (mark[2], place):
        return mark[2] == place
    return pts != MISSING or mark[1] == dts != MISSING


def _when(mark: np.ndarray[Any, Any]) -> int | None:
    """The earlier of the times of a packet: containers are sorted by either."""
    stated = [int(n) for n in mark[:2] if n != MISSING]
    return min(stated) if stated else None


def _stated(value: Any) -> int:
    return MISSING if value is None else int(value)
