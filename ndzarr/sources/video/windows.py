"""How are windows cut out of frames that are decoded one after the other, each once?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ndzarr.geometry.selection import Selection, lengths
from ndzarr.sources.base import Pixels
from ndzarr.sources.orientation import Orientation
from ndzarr.sources.video.colour import Box, Converter
from ndzarr.sources.video.reader import FrameReader


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
