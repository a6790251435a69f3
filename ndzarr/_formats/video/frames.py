"""How are single frames of a video decoded, in any order, without decoding more than is needed?

1. A decoder stays where it was: the next frames are had by going on.  Only where a key frame lies between is it
   quicker to go there.
2. The last frames are kept, within a budget of bytes, so that windows that overlap in time decode them once.
3. A frame that does not come where the index says (a stream that refreshes its picture bit by bit, a key that is none)
   is looked for from earlier keys, and at last from the beginning.

One thread reads at a time.  A child that was forked opens the file again, and leaves its parent's decoder alone: the
threads that it would wait for are not there.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from ndzarr._files import signature
from ndzarr._formats.base import Pixels
from ndzarr._formats.orientation import Orientation
from ndzarr._formats.video.colour import Box, Converter
from ndzarr._formats.video.container import abandon
from ndzarr._formats.video.decode import Decoder, Numbered, ThreadsFailed, go
from ndzarr._formats.video.index import Index
from ndzarr._indexing.selection import Selection, lengths
from ndzarr.errors import SourceError

KEPT_BYTES = 64 << 20
"""Of decoded frames that are kept."""
AHEAD = 8
"""Frames that are rather decoded than jumped over: a decoder that jumps gives up what its threads have begun."""


class FrameReader:
    """The frames of one video, by number."""

    def __init__(self, path: str, index: Index) -> None:
        self.path, self.index = path, index
        self._signature = signature(path)
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = Lock()
        self._decoder: Decoder | None = None
        self._flow: Iterator[Numbered] = iter(())
        self._at = -1
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._bytes = 0
        self._threaded = True
        self._missing: set[int] = set()

    def visit(self, frames: Sequence[int], see: Callable[[int, Any], object]) -> None:
        """
        Decode frames, and show each to a function, under a lock.

        Parameters
        ----------
        frames
            Numbers, rising.

        Raises
        ------
        SourceError
            One does not decode, or the file was changed.
        """
        if os.getpid() != self._process:
            abandon(self._decoder, self._flow, self._kept)
            self._begin()
        with self._lock:
            if signature(self.path) != self._signature:
                raise SourceError(f"{self.path}: was changed since it was opened; open it again")
            for frame in frames:
                see(frame, self._frame(frame))

    def frame(self, number: int) -> Any:
        """One frame; see `visit`."""
        seen: list[Any] = []
        self.visit([number], lambda _, frame: seen.append(frame))
        return seen[0]

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self._lock:
            self._stop()
            self._kept.clear()
            self._bytes = 0

    def _stop(self) -> None:
        self._flow, self._at = iter(()), -1
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _frame(self, frame: int) -> Any:
        held = self._kept.get(frame)
        if held is not None:
            return held
        if frame not in self._missing:
            start = self.index.start_of(frame) if self.index.mapped else -1
            first = int(self.index.starts[0][start]) if start >= 0 else 0
            goes_on = 0 <= self._at <= frame and first <= self._at + AHEAD
            if goes_on and (found := self._advance(frame)) is not None:
                return found
            for place in _places(start):
                if (found := self._from(place, frame)) is not None:
                    return found
            self._missing.add(frame)
        raise SourceError(
            f"{self.path}: frame {frame}, at {self.index.times[frame]:g} s, does not decode: the file is damaged "
            f"there; ndzarr.transcode keeps every frame that does"
        )

    def _from(self, place: int, frame: int) -> Any:
        """Decode a frame from a key; a second time, frame by frame, if a packet on the way does not decode."""
        threaded = self._threaded
        self._go(place)
        found = self._advance(frame)
        if found is None and threaded != self._threaded:
            self._go(place)
            found = self._advance(frame)
        return found

    def _go(self, start: int) -> None:
        """Let the decoder begin at a key, by its position in `starts`; -1 for the beginning of the file."""
        index = self.index
        if start < 0 or self._decoder is None or self._decoder.threaded != self._threaded:
            self._stop()
            self._decoder = Decoder(self.path, self._threaded)
        if start < 0:
            self._at = 0
            packets: Iterator[tuple[int, Any]] = enumerate(self._decoder.packets())
        else:
            self._at = int(index.starts[0][start])
            packets = go(self._decoder, index.keys, index.marks, int(index.starts[1][start]))
        self._flow = self._decoder.frames(packets)

    def _advance(self, wanted: int) -> Any:
        """Decode up to a frame; None where another comes in its place, or none."""
        try:
            for number, frame in self._flow:
                position = self._at if not self.index.mapped else int(self.index.frame_of[number])
                if position < self._at:  # shown before the key that decoding began at: its references are missing
                    continue
                self._at = position + 1
                self._keep(position, frame)
                if position == wanted:
                    return frame
                if position > wanted:
                    return None
        except ThreadsFailed:
            self._stop()
            self._threaded = False
            return None
        self._at = -1
        return None

    def _keep(self, position: int, frame: Any) -> None:
        if position in self._kept:
            return
        self._kept[position] = frame
        self._bytes += _size(frame)
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)


def _places(start: int) -> Iterator[int]:
    """Where to begin, as positions in `Index.starts`: the last key, earlier ones, -1 for the beginning of the file."""
    for back in (0, 1, 2, 8):
        if start >= back:
            yield start - back
    yield -1


def _size(frame: Any) -> int:
    return sum(plane.buffer_size for plane in frame.planes)


# --- How are windows cut out of frames that are decoded one after the other, each once?


class _Part(NamedTuple):
    """Pixels of a part of a frame, upright."""

    pixels: Pixels
    """Axes (c, y, x)."""
    top: int
    left: int


class FrameWindows:
    """A video as an array with axes (t, c, y, x), upright."""

    def __init__(
        self, reader: FrameReader, converter: Converter, orientation: Orientation, frames: np.ndarray[Any, Any]
    ) -> None:
        """
        Parameters
        ----------
        frames
            The frame of the video at each position along t, integers of shape (t,).
        """
        self._reader, self._converter, self._orientation, self._frames = reader, converter, orientation, frames
        self.size = orientation.size(*converter.size)
        """(height, width), upright."""

    def read(self, selections: Sequence[Selection]) -> list[Pixels]:
        """
        Read windows, decoding every frame once.

        Raises
        ------
        SourceError
            A frame does not decode.
        """
        out = [np.empty(lengths(selection), self._converter.output.dtype) for selection in selections]
        wanted: dict[int, list[tuple[int, int]]] = {}
        for k, selection in enumerate(selections):
            if out[k].size:
                for position, t in enumerate(_indices(selection[0])):
                    wanted.setdefault(int(self._frames[t]), []).append((k, position))
        boxes = {k: _box(selections[k]) for takers in wanted.values() for k, _ in takers}

        def see(number: int, frame: Any) -> None:
            takers = wanted[number]
            parts = self._parts(frame, {boxes[k] for k, _ in takers})
            for k, position in takers:
                part = parts[boxes[k]]
                out[k][position] = part.pixels[_within(selections[k], part.top, part.left)]

        self._reader.visit(sorted(wanted), see)
        return out

    def whole(self, frame: Any) -> Pixels:
        """All pixels of a frame, axes (c, y, x)."""
        return self._orientation.turn(self._converter.pixels(frame))

    def _parts(self, frame: Any, boxes: Iterable[Box]) -> dict[Box, _Part]:
        """The pixels of each box: converted box by box, or all at once where they are most of the frame."""
        boxes = set(boxes)
        height, width = self.size
        if sum((b[1] - b[0]) * (b[3] - b[2]) for b in boxes) * 2 >= height * width:
            return dict.fromkeys(boxes, _Part(self.whole(frame), 0, 0))
        return {box: _Part(self._turned(frame, box), box[0], box[2]) for box in boxes}

    def _turned(self, frame: Any, box: Box) -> Pixels:
        y, x = self._orientation.stored(slice(*box[:2]), slice(*box[2:]), *self.size)
        return self._orientation.turn(self._converter.pixels(frame, (y.start, y.stop, x.start, x.stop)))


def _indices(want: Any) -> Sequence[int]:
    return range(want.start, want.stop, want.step or 1) if isinstance(want, slice) else list(want)


def _box(selection: Selection) -> Box:
    """What a selection covers along y and x, upright."""
    y, x = _indices(selection[-2]), _indices(selection[-1])
    return min(y), max(y) + 1, min(x), max(x) + 1


def _within(selection: Selection, top: int, left: int) -> Any:
    """The (c, y, x) of a selection as an index into pixels that begin at (top, left)."""
    shifted = [_shifted(selection[1], 0), _shifted(selection[2], top), _shifted(selection[3], left)]
    if all(isinstance(s, slice) for s in shifted):
        return tuple(shifted)
    return np.ix_(*[_indices(s) for s in shifted])


def _shifted(want: Any, by: int) -> Any:
    if isinstance(want, slice):
        return slice(want.start - by, want.stop - by, want.step)
    return [i - by for i in want]
