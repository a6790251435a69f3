"""Random access to the frames of a video, and windows of them.

1. The decoder stays where it is: the frames that follow are decoded by going on.  A seek is quicker only across a key
   frame.
2. The last frames are kept within a budget of bytes, so that windows that overlap in time decode them once.
3. If a frame does not come where the index says (a stream that refreshes its picture bit by bit, a false key), decoding
   begins at earlier keys, and at last at the beginning.

One thread reads at a time.  A forked child opens the file again and never touches its parent's decoder, whose threads
do not exist in the child.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from ndzarr._files import MOST_FILES, close_when_short, open_files_limit, signature
from ndzarr._formats.base import Pixels
from ndzarr._formats.orientation import Orientation
from ndzarr._formats.video.colour import Box, Converter
from ndzarr._formats.video.container import free_with_owner
from ndzarr._formats.video.decode import Decoder, NumberedFrame, ThreadsFailed, seek_key
from ndzarr._formats.video.index import Index
from ndzarr._indexing.selection import AxisSelection, Selection, lengths
from ndzarr._remote.files import RemotePath
from ndzarr.errors import SourceError

KEPT_BYTES = 64 << 20
"""Maximum number of bytes of decoded frames that a reader keeps, unless told otherwise."""
AHEAD = 8
"""Number of frames that are decoded rather than skipped by a seek, which drops what the threads have begun."""
_KEYS_BACK = (0, 1, 2, 8)
"""Number of keys before the last possible one at which decoding begins, tried in this order."""


class FrameReader:
    """The frames of one video, by number."""

    def __init__(self, path: str, index: Index, kept_bytes: int = KEPT_BYTES) -> None:
        self.path, self.index, self.kept_bytes = path, index, kept_bytes
        self._signature = _signature(path)
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = Lock()
        self._decoder: Decoder | None = None
        self._decoded: Iterator[NumberedFrame] = iter(())
        self._next = -1  # the frame that comes next; -1 if there is none
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._kept_bytes = 0
        self._threaded = True
        self._missing: set[int] = set()
        self._free_kept = free_with_owner(self, self._kept)

    def visit(self, frames: Sequence[int], see: Callable[[int, Any], object]) -> None:
        """Decode frames, given by ascending numbers, and call `see(number, frame)` for each, under a lock."""
        if os.getpid() != self._process:  # a forked child
            self._free_kept()
            self._reset()
        with self._lock:
            if _signature(self.path) != self._signature:
                found = f"{self.path}: the file was changed since it was opened"
                raise SourceError(found, path=self.path, hint="Open it again")
            self._fetch(frames)
            for frame in frames:
                see(frame, self._frame(frame))

    def _fetch(self, frames: Sequence[int]) -> None:
        """Fetch what frames of a remote file are decoded from, in one flight, as far as the index tells."""
        path, index = self.path, self.index
        if not isinstance(path, RemotePath) or not index.mapped:
            return
        starts = [k for f in frames if f not in self._kept and (k := index.start_of(f)) >= 0]
        offsets = index.marks[:, 2]
        ranges = []
        for k in dict.fromkeys(int(index.starts[1][k]) for k in starts):
            # A seek aims before the key, and decoders want some packets behind the frame.
            start = int(offsets[max(0, k - 1)])
            stop = int(offsets[k + 1]) + _BEHIND if k + 1 < len(offsets) else path.opened.file.size
            if 0 <= start < stop:
                ranges.append((start, min(stop, start + _MOST_AHEAD)))
        while sum(stop - start for start, stop in ranges) > _MOST_AHEAD:
            ranges.pop()  # fetched when it is their turn
        path.reader().need(ranges, ahead=False)

    def frame(self, number: int) -> Any:
        """Return one frame; see `visit`."""
        seen: list[Any] = []
        self.visit([number], lambda _, frame: seen.append(frame))
        return seen[0]

    def close(self) -> None:
        """Close the file; a later `visit` opens it again."""
        with self._lock:
            self._stop()
            self._kept.clear()
            self._kept_bytes = 0

    def rest(self) -> None:
        """Close the file, unless somebody reads: frames are kept, and a later `visit` opens it again."""
        if self._process == os.getpid() and self._lock.acquire(blocking=False):
            try:
                self._stop()
            finally:
                self._lock.release()

    def _open(self) -> Decoder:
        _OPEN.pop(id(self), None)
        most = open_files_limit(6, MOST_FILES)
        for number, reader in list(_OPEN.items())[: max(0, len(_OPEN) + 1 - most)]:
            _OPEN.pop(number, None)
            reader.rest()
        self._decoder = Decoder(self.path, self._threaded)
        _OPEN[id(self)] = self
        return self._decoder

    def _stop(self) -> None:
        self._decoded, self._next = iter(()), -1
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _frame(self, frame: int) -> Any:
        kept = self._kept.get(frame)
        if kept is not None:
            return kept
        if frame not in self._missing:
            start = self.index.start_of(frame) if self.index.mapped else -1
            first = int(self.index.starts[0][start]) if start >= 0 else 0
            goes_on = 0 <= self._next <= frame and first <= self._next + AHEAD
            if goes_on and (found := self._advance(frame)) is not None:
                return found
            for place in [*(start - back for back in _KEYS_BACK if start >= back), -1]:
                if (found := self._from_start(place, frame)) is not None:
                    return found
            self._missing.add(frame)
        raise SourceError(
            f"{self.path}: frame {frame}, at {self.index.times[frame]:g} s, does not decode: the file is damaged there",
            path=self.path,
            hint="Transcode the video: ndzarr.transcode keeps every frame that decodes",
        )

    def _from_start(self, start: int, frame: int) -> Any:
        """Decode a frame from a position in `Index.starts`; again without threads if a packet on the way fails."""
        threaded = self._threaded
        self._seek(start)
        found = self._advance(frame)
        if found is None and threaded != self._threaded:
            self._seek(start)
            found = self._advance(frame)
        return found

    def _seek(self, start: int) -> None:
        """Begin decoding at a position in `Index.starts`; -1 for the beginning of the file."""
        index = self.index
        if start < 0 or self._decoder is None or self._decoder.threaded != self._threaded:
            self._stop()
            decoder = self._open()
        else:
            decoder = self._decoder
        if start < 0:
            self._next = 0
            packets: Iterator[tuple[int, Any]] = enumerate(decoder.packets())
        else:
            self._next = int(index.starts[0][start])
            packets = seek_key(decoder, index.keys, index.marks, int(index.starts[1][start]))
        self._decoded = decoder.frames(packets)

    def _advance(self, wanted: int) -> Any:
        """Decode up to a frame; return None if it does not come."""
        try:
            for number, frame in self._decoded:
                position = self._next if not self.index.mapped else int(self.index.frame_of[number])
                if position < self._next:  # shown before the key that decoding began at: its references are missing
                    continue
                self._next = position + 1
                self._keep(position, frame)
                if position == wanted:
                    return frame
                if position > wanted:
                    return None
        except ThreadsFailed:
            self._stop()
            self._threaded = False
            return None
        self._next = -1
        return None

    def _keep(self, position: int, frame: Any) -> None:
        if position in self._kept:
            return
        self._kept[position] = frame
        self._kept_bytes += _size(frame)
        while self._kept_bytes > self.kept_bytes and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= _size(oldest)


_BEHIND = 256 << 10
"""Bytes behind a key that are fetched with the frames before it."""
_MOST_AHEAD = 32 << 20
"""Most bytes of a remote file that are fetched before its frames are decoded."""


def _signature(path: str) -> tuple[Any, ...]:
    return path.signature if isinstance(path, RemotePath) else signature(path)


_OPEN: WeakValueDictionary[int, FrameReader] = WeakValueDictionary()
"""The readers whose files are open, the one that was opened first in front."""


def _rest_all() -> None:
    for reader in list(_OPEN.values()):
        reader.rest()


close_when_short(_rest_all)


def _size(frame: Any) -> int:
    return sum(plane.buffer_size for plane in frame.planes)


class FrameWindows:
    """A video as an array with axes (t, c, y, x), upright."""

    def __init__(
        self, reader: FrameReader, converter: Converter, orientation: Orientation, frames: np.ndarray[Any, Any]
    ) -> None:
        """`frames` holds the frame of the video at each position along t; integers, shape (t,)."""
        self._reader, self._converter, self._orientation, self._frames = reader, converter, orientation, frames
        self.size = orientation.size(*converter.size)
        """(height, width), upright."""

    def read(self, selections: Sequence[Selection]) -> list[Pixels]:
        """Read windows, decoding each frame once."""
        out = [np.empty(lengths(selection), self._converter.output.dtype) for selection in selections]
        wanted: dict[int, list[tuple[int, int]]] = {}  # frame to (selection, position along its t)
        for k, selection in enumerate(selections):
            if out[k].size:
                for position, t in enumerate(_indices(selection[0])):
                    wanted.setdefault(int(self._frames[t]), []).append((k, position))
        boxes = {k: _box(selections[k]) for takers in wanted.values() for k, _ in takers}

        def see(number: int, frame: Any) -> None:
            takers = wanted[number]
            parts = self._parts(frame, {boxes[k] for k, _ in takers})
            for k, position in takers:
                pixels, top, left = parts[boxes[k]]
                out[k][position] = pixels[_within(selections[k], top, left)]

        self._reader.visit(sorted(wanted), see)
        return out

    def _parts(self, frame: Any, boxes: set[Box]) -> dict[Box, tuple[Pixels, int, int]]:
        """Return (pixels, top, left) of an upright part around each box: the whole frame if boxes are most of it."""
        height, width = self.size
        if sum((b[1] - b[0]) * (b[3] - b[2]) for b in boxes) * 2 >= height * width:
            return dict.fromkeys(boxes, (self._orientation.turn(self._converter.pixels(frame)), 0, 0))
        return {box: (self._upright(frame, box), box[0], box[2]) for box in boxes}

    def _upright(self, frame: Any, box: Box) -> Pixels:
        y, x = self._orientation.stored(slice(*box[:2]), slice(*box[2:]), *self.size)
        return self._orientation.turn(self._converter.pixels(frame, (y.start, y.stop, x.start, x.stop)))


def _indices(want: AxisSelection) -> Sequence[int]:
    return range(want.start, want.stop, want.step or 1) if isinstance(want, slice) else want


def _box(selection: Selection) -> Box:
    """Return the bounds of a selection along y and x, upright."""
    y, x = _indices(selection[-2]), _indices(selection[-1])
    return min(y), max(y) + 1, min(x), max(x) + 1


def _within(selection: Selection, top: int, left: int) -> Any:
    """Return the (c, y, x) of a selection as an index into pixels that begin at (top, left)."""
    shifted = [_shifted(selection[1], 0), _shifted(selection[2], top), _shifted(selection[3], left)]
    if all(isinstance(s, slice) for s in shifted):
        return tuple(shifted)
    return np.ix_(*[_indices(s) for s in shifted])


def _shifted(want: AxisSelection, by: int) -> AxisSelection:
    if isinstance(want, slice):
        return slice(want.start - by, want.stop - by, want.step)
    return tuple(i - by for i in want)
