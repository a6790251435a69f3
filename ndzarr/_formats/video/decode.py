"""How are all frames of a video decoded, each once, in the order in which they are shown?

1. Packets come in the order in which they are stored, and are numbered.  Instead of its timestamp the decoder is given
   a packet's number, which it hands on to the frame that it makes of it: so each frame is known by its packet, also
   where timestamps are missing, wrong or not unique.
2. A packet that does not decode is noted and left out; so are one that was cut by the end of the file, and a frame that
   the decoder marks as damaged.  An error of the container ends the video.
3. Several frames are decoded at once.  Where one of them fails, the frames that were made with it are lost, and it is
   not known whose error it is; so the video is then decoded again, frame by frame, up to where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain, dropwhile
from typing import Any, Self, TypeAlias

import numpy as np

from ndzarr._formats.video.container import fraction, open_container, what

Numbered: TypeAlias = tuple[int | None, Any]
"""(number of its packet, frame of PyAV); None where the decoder did not hand the number on."""

Hear: TypeAlias = Callable[[int, Any], object]
"""Is told of each packet, by its number, before it is decoded."""


class ThreadsFailed(Exception):
    """A packet does not decode, and frames may have been lost with it; nobody gets to see this."""


class Decoder:
    """An open container."""

    def __init__(self, path: str, threaded: bool = True) -> None:
        self.path = path
        self.threaded = threaded
        self.container, self.stream = open_container(path, threaded)
        self.base = fraction(self.stream.time_base) or Fraction(1)
        """Seconds per tick of its clock."""
        self.rate = fraction(self.stream.average_rate) or fraction(self.stream.guessed_rate)
        """Frames per second, as far as that is known."""
        self.trouble: list[str] = []
        """What is wrong with the file, as far as it was decoded."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def reopen(self) -> None:
        """Begin at the beginning again."""
        self.close()
        self.container, self.stream = open_container(self.path, self.threaded)

    def packets(self) -> Iterator[Any]:
        """The packets of the video from here on, without empty ones and one that the end of the file cuts."""
        import av

        cut = None
        try:
            for packet in self.container.demux(self.stream):
                if not packet.size:  # an empty one would tell the decoder that there are no more
                    continue
                if cut is not None:
                    yield cut
                    cut = None
                if packet.is_corrupt:
                    cut = packet
                else:
                    yield packet
        except av.FFmpegError as error:
            self.trouble.append(f"the file is damaged or ends too soon ({what(error)}); what comes before is kept")
        if cut is not None:
            self.trouble.append("the file ends within its last frame, which is left out")

    def frames(self, packets: Iterator[tuple[int, Any]], hear: Hear | None = None) -> Iterator[Numbered]:
        """
        Decode numbered packets, in the order in which they are stored.

        Raises
        ------
        ThreadsFailed
            One does not decode, and this decoder is threaded.
        """
        failed = damaged = 0
        for number, packet in chain(packets, [(-1, None)]):  # None: there are no more
            if packet is not None:
                if hear is not None:
                    hear(number, packet)
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

    def _decode(self, packet: Any) -> list[Numbered] | None:
        """What a packet, or the end, lets the decoder put out; None where it does not decode."""
        import av

        try:
            return [(frame.pts, frame) for frame in self.stream.codec_context.decode(packet)]
        except av.error.EOFError:
            return []
        except av.FFmpegError as error:
            if self.threaded:
                raise ThreadsFailed from error
            return None


class Decoding:
    """All frames of a video: iterate over (number of the packet, frame) once."""

    def __init__(self, path: str, hear: Hear | None = None) -> None:
        """
        Parameters
        ----------
        hear
            May be told of the same packets twice.
        """
        self._path, self._hear = path, hear
        self.decoder: Decoder | None = None
        """What decodes, once the first frame has come; not to be touched after the last but for what it says."""

    def __iter__(self) -> Iterator[Numbered]:
        done = 0
        for threaded in (True, False):
            with Decoder(self._path, threaded) as decoder:
                self.decoder = decoder
                try:
                    for k, item in enumerate(decoder.frames(enumerate(decoder.packets()), self._hear)):
                        if k >= done:
                            done += 1
                            yield item
                except ThreadsFailed:
                    continue
                return


# --- At which second is each frame shown?


MISSING = int(np.iinfo(np.int64).min)
"""Stands for a timestamp that the container does not state."""

Ticks = np.ndarray[Any, Any]
"""int64, shape (t,)."""


def ticks_of(packet: Any) -> int:
    """When a packet's frame is to be shown, in ticks; `MISSING` if the container does not say."""
    return MISSING if packet.pts is None else int(packet.pts)


def seconds(ticks: Ticks, base: Fraction, rate: Fraction | None) -> tuple[np.ndarray[Any, Any], str | None]:
    """
    Ticks of frames in the order in which they are shown as seconds.

    Parameters
    ----------
    base
        Seconds per tick.
    rate
        Frames per second, for those without a timestamp.

    Returns
    -------
    (seconds, shape (t,); what had to be made up, if anything)
    """
    known = ticks != MISSING
    if not known.all():
        return _filled(ticks, known, base, rate or Fraction(25)), f"{int((~known).sum())} frames have no timestamp"
    note = None
    if len(ticks) > 1 and not (np.diff(ticks) > 0).all():
        # AVI counts packets as they are stored; all frames together have the right times, in another order.
        note = "timestamps are not in the order of the frames, and were sorted"
        ticks = np.sort(ticks)
    return ticks.astype(np.float64) * base.numerator / base.denominator, note


def _filled(ticks: Ticks, known: np.ndarray[Any, Any], base: Fraction, rate: Fraction) -> np.ndarray[Any, Any]:
    """Seconds, where a frame without a timestamp follows the last one that has one at the usual distance."""
    where = np.arange(len(ticks))
    last = np.maximum.accumulate(np.where(known, where, -1))
    start = np.where(last >= 0, ticks[np.maximum(last, 0)] * float(base), 0.0)
    return np.asarray(start + (where - np.maximum(last, 0)) / float(rate))


# --- How is a packet found again?


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
