"""Decoding a video from its packets, and finding a packet again.

1. Packets come in the order in which they are stored, and are numbered.  The decoder gets a packet's number in place of
   its timestamp, and hands it on to the frame.  This identifies each frame by its packet, also where timestamps are
   missing, wrong or not unique.
2. A packet that does not decode is counted and left out, and so are a packet that the end of the file cuts and a frame
   that the decoder marks as damaged.  An error of the container ends the video.
3. A threaded decoder works on several frames at once.  If a packet fails, it is unknown which packet that was, and
   frames of its neighbours are lost.  The video is then decoded again, packet by packet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain, dropwhile
from typing import Any, Self, TypeAlias

import av
import numpy as np

from ndzarr._formats.video.container import as_fraction, av_reason, open_container, refuse_encrypted

Array: TypeAlias = np.ndarray[Any, Any]
NumberedFrame: TypeAlias = tuple[int | None, Any]
"""Number of the packet, frame of PyAV; the number is None if the decoder did not hand it on."""
Mark: TypeAlias = tuple[int, int, int, int]
"""(pts, dts, byte offset, size) of a packet; `MISSING` for what the container does not state."""
PacketListener: TypeAlias = Callable[[int, Any], object]
"""Called with each packet and its number, before the packet is decoded."""
MISSING = int(np.iinfo(np.int64).min)
"""Stands for a timestamp that the container does not state."""
_REORDERED = 32
"""Most frames by which a packet is stored away from its place in display order; H.264 and HEVC allow 16."""
_SEEK_BACK = (0, 1, 4)
"""Number of keys before the wanted one that a seek aims at, tried in this order."""


class ThreadsFailed(Exception):
    """A packet failed in a threaded decoder, and other frames may be lost; never leaves this package."""


class Decoder:
    """An open container that is being decoded."""

    def __init__(self, path: str, threaded: bool = True) -> None:
        self.path = path
        self.threaded = threaded
        self.container, self.stream, self.codec = open_container(path, threaded)
        self.base = as_fraction(self.stream.time_base) or Fraction(1)
        """Seconds per tick of the stream's clock."""
        self.rate = as_fraction(self.stream.average_rate) or as_fraction(self.stream.guessed_rate)
        """Frames per second, if known."""
        self.trouble: list[str] = []
        """What is wrong with the part of the file that has been decoded."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def reopen(self) -> None:
        """Go back to the beginning of the file."""
        self.close()
        self.container, self.stream, self.codec = open_container(self.path, self.threaded)

    def packets(self) -> Iterator[Any]:
        """Yield the remaining packets of the video, without empty ones and one that the end of the file cuts."""
        cut = None
        try:
            for packet in self.container.demux(self.stream):
                if not packet.size:  # tells the decoder that the stream ends, so it must not get there early
                    continue
                refuse_encrypted(self.path, self.stream, packet)
                if cut is not None:
                    yield cut
                    cut = None
                if packet.is_corrupt:
                    cut = packet
                else:
                    yield packet
        except av.FFmpegError as error:
            self.trouble.append(f"the file is damaged or ends too soon ({av_reason(error)}); what comes before is kept")
        if cut is not None:
            self.trouble.append("the file ends within its last frame, which is left out")

    def frames(
        self, packets: Iterator[tuple[int, Any]], on_packet: PacketListener | None = None
    ) -> Iterator[NumberedFrame]:
        """Decode numbered packets in stored order."""
        failed = damaged = 0
        for number, packet in chain(packets, [(-1, None)]):  # None flushes the decoder
            if packet is not None:
                if on_packet is not None:
                    on_packet(number, packet)
                packet.pts = packet.dts = number
            made = self._decode(packet)
            failed += made is None
            whole = [item for item in made or () if not item[1].is_corrupt]
            damaged += len(made or ()) - len(whole)
            yield from whole
        if failed:
            self.trouble.append(f"{failed} of its packets do not decode and are left out")
        if damaged:
            self.trouble.append(f"{damaged} of its frames are damaged and are left out")

    def _decode(self, packet: Any) -> list[NumberedFrame] | None:
        """Return the frames that the decoder puts out for a packet; None if the packet does not decode."""
        try:
            return [(frame.pts, frame) for frame in self.codec.decode(packet)]
        except av.error.EOFError:
            return []
        except av.FFmpegError as error:
            if self.threaded:
                raise ThreadsFailed from error
            return None


class VideoDecoding:
    """All frames of a video, once: iterate over (number of the packet, frame)."""

    def __init__(self, path: str, on_packet: PacketListener | None = None) -> None:
        """`on_packet` may see the same packets twice, the second time after a threaded decoder failed."""
        self._path, self._on_packet = path, on_packet
        self.decoder: Decoder | None = None
        """The decoder at work, set before the first frame; after the last frame it is closed."""

    def __iter__(self) -> Iterator[NumberedFrame]:
        done = 0
        for threaded in (True, False):
            with Decoder(self._path, threaded) as decoder:
                self.decoder = decoder
                try:
                    for k, item in enumerate(decoder.frames(enumerate(decoder.packets()), self._on_packet)):
                        if k >= done:
                            done += 1
                            yield item
                except ThreadsFailed:
                    continue
                return


def stated(value: int | None) -> int:
    """Return a timestamp of PyAV; `MISSING` if the container does not state it."""
    return MISSING if value is None else int(value)


def frame_times(ticks: Array, base: Fraction, rate: Fraction | None) -> tuple[Array, str | None]:
    """
    Convert timestamps in display order, int64 of shape (t,), to seconds; also return what had to be made up, if any.

    `base` is seconds per tick; `rate`, frames per second, serves frames without a timestamp.
    """
    known = ticks != MISSING
    if not known.all():
        # A frame without a timestamp follows the last one that has one, at the usual distance.
        position = np.arange(len(ticks))
        last = np.maximum.accumulate(np.where(known, position, -1))
        start = np.where(last >= 0, ticks[np.maximum(last, 0)] * float(base), 0.0)
        filled = start + (position - np.maximum(last, 0)) / float(rate or 25)
        return filled, f"{int((~known).sum())} frames have no timestamp"
    note = None
    drops = np.flatnonzero(np.diff(ticks) < 0) + 1
    if len(drops) and is_reordered(ticks):
        # AVI counts packets in stored order: together the times are right, but each belongs to another frame.
        note = "timestamps are not in the order of the frames, and were sorted"
        ticks = np.sort(ticks)
    elif len(drops):
        # Joined files: each part goes on where the one before ends, at the usual distance.
        times = "once" if len(drops) == 1 else f"{len(drops)} times"
        note = f"timestamps begin anew {times}, first at frame {drops[0]}; frames follow there at the usual distance"
        usual = int(np.median(np.diff(ticks)[np.diff(ticks) > 0])) if rate is None else round(1 / (rate * base))
        steps = np.diff(ticks, prepend=ticks[:1])
        steps[drops] = max(1, usual)
        ticks = ticks[0] + np.cumsum(steps)
    return ticks.astype(np.float64) * base.numerator / base.denominator, note


def is_reordered(ticks: Array) -> bool:
    """Return True if sorting int64 timestamps, shape (t,), moves each by no more than decoders reorder frames."""
    order = np.argsort(ticks, kind="stable")
    return bool((np.abs(order - np.arange(len(ticks))) <= _REORDERED).all()) and len(np.unique(ticks)) == len(ticks)


def mark_packet(packet: Any) -> Mark:
    """Return what tells a packet from others."""
    offset = packet.pos if packet.pos is not None and packet.pos >= 0 else None
    return stated(packet.pts), stated(packet.dts), stated(offset), int(packet.size)


def seek_key(decoder: Decoder, keys: Array, marks: Array, k: int) -> Iterator[tuple[int, Any]]:
    """Return an iterator over numbered packets that begins with key packet `k` of an `Index`, given its fields."""
    wanted, number = marks[k], int(keys[k])
    behind = {(int(m[0]), int(m[3])) for m in marks[k + 1 : k + 64]}
    for back in _SEEK_BACK:
        # Containers are sorted by pts or by dts, so aim at the earlier of the two.
        times = [int(n) for n in marks[k - back][:2] if n != MISSING] if k >= back else []
        if not times:
            break
        try:
            decoder.container.seek(min(times), stream=decoder.stream, backward=True)
        except (av.FFmpegError, OverflowError):  # not every container can seek
            break
        packets = decoder.packets()
        found = _find_key(packets, wanted, behind)
        if found is not None:
            return enumerate(chain([found], packets), number)
    decoder.reopen()
    return dropwhile(lambda item: item[0] < number, enumerate(decoder.packets()))


def _find_key(packets: Iterator[Any], wanted: Array, behind: set[tuple[int, int]]) -> Any:
    """Advance to the wanted packet; return None at the end, or at a key behind the wanted one."""
    for packet in packets:
        if packet.is_keyframe:
            mark = mark_packet(packet)
            if _is_same_packet(mark, wanted):
                return packet
            if (mark[0], mark[3]) in behind:
                return None
    return None


def _is_same_packet(mark: Mark, wanted: Array) -> bool:
    """Compare two marks.  After a seek, some containers no longer state the offset or the dts of a packet."""
    pts, dts, offset, size = (int(n) for n in wanted)
    if mark[3] != size or mark[0] != pts:
        return False
    if MISSING not in (mark[2], offset):
        return mark[2] == offset
    return pts != MISSING or mark[1] == dts != MISSING
