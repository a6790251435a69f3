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
from itertools import chain
from typing import Any, Self, TypeAlias

from ndzarr.sources.video.container import fraction, open_container, what

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
