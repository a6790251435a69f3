"""How is a video container read as a source of pixels?

1. The first frame says what all of them become: channels, depth, size, which way is up.
2. Written as a pyramid, a video is decoded once, from the first frame to the last; how many there are is known in the
   end (`blocks`), whatever its header says.
3. Whoever wants its length or a window of it before gets them through an index (`index`); so does a range of time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ndzarr._formats.base import BaseSource, Facts, Pixels, Region
from ndzarr._formats.options import Clip, Options
from ndzarr._formats.orientation import Orientation, choose, describe
from ndzarr._formats.video.colour import Converter, Output, colours_of, output_for, tag_of
from ndzarr._formats.video.container import describe as container_describe
from ndzarr._formats.video.container import fraction as container_fraction
from ndzarr._formats.video.decode import MISSING, Decoding
from ndzarr._formats.video.frames import FrameReader, FrameWindows
from ndzarr._formats.video.index import Index, Recorder, index_of
from ndzarr._indexing.selection import Selection
from ndzarr.errors import OptionError, SourceError

RGB_NAMES: dict[tuple[str, ...], tuple[str, ...]] = {("rgb",): ("r", "g", "b"), ("rgba",): ("r", "g", "b", "a")}
"""Channels that may be asked for in one word."""


def open_video(path: str, options: Options) -> VideoSource:
    """
    Open a video.

    Raises
    ------
    SourceError
        It has no video, or no frame of it decodes.
    OptionError
        An option does not fit it.
    """
    if options.axes not in (None, "tcyx"):
        raise OptionError(f"{path}: axes={options.axes!r}, but this is a video, whose axes are t c y x; leave it out")
    header, frame, aspect = _first(path)
    wanted = None if options.channels is None else RGB_NAMES.get(options.channels, options.channels)
    known = wanted in (("gray",), *RGB_NAMES.values())
    output = output_for(path, frame, wanted if known else None)
    tag = tag_of(frame)
    options.check_pixels(path, frame.height, frame.width, whole=True)
    orientation = choose(path, tag, frame.height, frame.width, options)
    upright = options.clip.scaled(*orientation.size(frame.height, frame.width))
    facts = Facts(
        name=path,
        dims=("t", "c", "y", "x"),
        shape=(1, len(output.channels), *upright),
        dtype=output.dtype,
        channels=output.channels,
        band=upright[0],
        metadata={
            **header,
            "pix_fmt": frame.format.name,
            "bits": output.bits,
            "colour": f"{colours_of(frame).said}, made {' '.join(output.channels)} in full range",
            **_aspect(aspect, orientation),
            **describe(tag, orientation),
            **({"interlaced": True} if frame.interlaced_frame else {}),
        },
    )
    facts = facts.settle(replace(options, channels=None) if known else options)
    stored = orientation.size(*upright)
    return VideoSource(facts, orientation, output, stored, options.clip)


def _first(path: str) -> tuple[dict[str, Any], Any, Any]:
    """What the headers say, the first frame, and the shape of its pixels."""
    decoding = Decoding(path)
    for _, frame in decoding:
        decoder: Any = decoding.decoder
        aspect = container_fraction(decoder.stream.codec_context.sample_aspect_ratio)
        return container_describe(decoder.container, decoder.stream), frame, aspect
    raise SourceError(f"{path}: no frame of this video decodes; it is damaged or empty, fetch or write it again")


def _aspect(stated: Any, orientation: Orientation) -> dict[str, str]:
    """The shape of a pixel, upright, where it is no square."""
    if stated is None or stated == 1:
        return {}
    upright = 1 / stated if orientation.transposes else stated
    return {"pixel_aspect": f"{upright.numerator}:{upright.denominator}"}


class VideoSource(BaseSource):
    """The frames of a video."""

    growing = True
    """Its length is known once it has been read; see `blocks`."""

    def __init__(
        self, facts: Facts, orientation: Orientation, output: Output, stored: tuple[int, int], clip: Clip
    ) -> None:
        """
        Parameters
        ----------
        stored
            (height, width) that frames become, before they are turned upright.
        clip
            Which frames are wanted.
        """
        super().__init__(facts)  # not turned there, but here
        self._clip = clip
        self._converter = Converter(facts.name, output, stored, clip.size is not None)
        self._turn = orientation
        self._counted: Index | None = None
        self._reader: FrameReader | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis of `dims`."""
        return len(self._frames), *self.facts.shape[1:]

    @property
    def times(self) -> Pixels:
        """Seconds of each frame along t."""
        return np.asarray(self.index.times[self._frames])

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What else is known, as JSON values."""
        said = [*self.trouble, *self.index.said[len(self.index.notes) :]]
        notes = {"notes": said} if said else {}
        clip = {name: value for name in ("start", "stop") if (value := getattr(self._clip, name)) is not None}
        step = {"step": self._clip.step} if self._clip.step > 1 else {}
        claimed = self.facts.metadata.get("claimed_frames")
        return {
            **{key: value for key, value in self.facts.metadata.items() if not key.startswith("claimed")},
            **({"claimed": claimed} if claimed not in (None, len(self.index)) else {}),
            **clip,
            **step,
            **notes,
        }

    @property
    def index(self) -> Index:
        """All frames of the file."""
        if self._counted is None:
            self._counted = index_of(self.name)
            if not len(self._counted):
                raise SourceError(f"{self.name}: no frame of this video decodes; fetch or write it again")
        return self._counted

    @cached_property
    def _frames(self) -> np.ndarray[Any, Any]:
        """Numbers of the frames that are wanted."""
        clip, times = self._clip, self.index.times
        first = 0 if clip.start is None else int(np.searchsorted(times, clip.start))
        last = len(times) if clip.stop is None else int(np.searchsorted(times, clip.stop))
        if first >= last:
            raise SourceError(
                f"{self.name}: no frame is shown from start={clip.start} to stop={clip.stop} seconds; the video lasts "
                f"from {times[0]:g} to {times[-1]:g}"
            )
        return np.arange(first, last, clip.step)

    @property
    def expected_shape(self) -> tuple[int, ...]:
        """The shape that the header promises, with 0 frames if it does not say."""
        return -(-int(self.facts.metadata.get("claimed_frames", 0)) // self._clip.step), *self.facts.shape[1:]

    @property
    def trouble(self) -> list[str]:
        """What is wrong with the file."""
        index, header, out = self.index, self.facts.metadata, list(self.index.notes)
        claimed, found = header.get("claimed_frames", 0), len(index.ticks)
        if claimed > found:
            out.append(f"its header promises {claimed} frames, and {found} are there")
        lasts = header.get("claimed_seconds", 0.0)
        # Some headers count from 0, others from the first frame.
        begun = min(0, int(index.ticks[index.ticks != MISSING].min(initial=index.end)))
        lasted = 0.0 if index.end == MISSING else float((index.end - begun) * index.base)
        if lasted and lasts > lasted + max(0.02 * lasts, 3 / (header.get("rate") or 10)):
            out.append(f"its header promises {lasts:g} s, and it ends after {lasted:g} s")
        return out

    def blocks(self, length: int) -> Iterator[Pixels]:
        """
        All frames in order, `length` at a time, the last time what is left; axes (t, c, y, x).

        When all have come, `shape`, `times` and `metadata` are those of what has come.
        """
        waiting: list[Pixels] = []
        for frame in self._ranged() if self._clip.ranged else self._all():
            waiting.append(self._turn.turn(self._converter.pixels(frame)))
            if len(waiting) == length:
                yield np.stack(waiting)
                waiting = []
        if waiting:
            yield np.stack(waiting)

    def _all(self) -> Iterator[Any]:
        """Every `step`-th frame, decoding the file once from its beginning to its end."""
        recorder = Recorder()
        decoding = Decoding(self.name, recorder)
        for k, (number, frame) in enumerate(decoding):
            recorder.shown(number, frame)
            if k % self._clip.step == 0:
                yield frame
        assert decoding.decoder is not None
        self._counted = recorder.index(decoding.decoder)

    def _ranged(self) -> Iterator[Any]:
        """The frames of a range of time."""
        reader = self._open()
        for number in self._frames:
            yield reader.frame(int(number))

    def windows(self) -> FrameWindows:
        """What reads windows of the frames wanted."""
        return FrameWindows(self._open(), self._converter, self._turn, self._frames)

    def _pixels(self, region: Region) -> Pixels:
        return self.windows().read([tuple(slice(s.start, s.stop, 1) for s in region)])[0]

    def _open(self) -> FrameReader:
        if self._reader is None:
            self._reader = FrameReader(self.name, self.index)
        return self._reader

    def _release(self) -> None:
        if self._reader is not None:
            self._reader.close()


# --- How are windows of a video decoded, only as far as they need it?


class VideoArray:
    """A video as an array with axes (t, c, y, x)."""

    chunked: Literal[False] = False
    engine = "video decoder"

    def __init__(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic], keys: int, windows: FrameWindows
    ) -> None:
        """
        Parameters
        ----------
        keys
            Frames that decoding can begin at.
        """
        self.name, self.shape, self.dtype = name, shape, dtype
        self.chunks = (-(-shape[0] // max(1, keys)), *shape[1:])
        """What is decoded together, on average: the frames from one key to the next."""
        self._windows = windows

    def encoded_size(self, chunk: tuple[int, ...]) -> None:
        """Not known beforehand."""
        return

    def read(self, selections: Sequence[Selection]) -> list[Pixels]:
        """The pixels of each selection."""
        return self._windows.read(selections)
