"""A video as a source of pixels, and as the array of a pyramid.

1. The first frame decides what all frames become: channels, depth, size, orientation.
2. Transcoding decodes a video once, from its first frame to its last (`blocks`).  The number of frames is known at the
   end, whatever the header says.
3. The length, a window or a range of time is needed earlier only if somebody asks.  Then the index answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ndzarr._formats.base import Facts, Pixels, Region, Source
from ndzarr._formats.colour import ALPHA, GRAY, RGB
from ndzarr._formats.options import Clip, Options
from ndzarr._formats.orientation import Orientation, choose_orientation, describe_orientation
from ndzarr._formats.video.colour import Converter, Output, colours_of, orientation_tag, output_for
from ndzarr._formats.video.container import as_fraction, describe_headers, refuse_scrambled
from ndzarr._formats.video.decode import MISSING, VideoDecoding
from ndzarr._formats.video.frames import FrameReader, FrameWindows
from ndzarr._formats.video.index import Index, IndexRecorder, video_index
from ndzarr._indexing.selection import Selection
from ndzarr.errors import OptionError, SourceError

_IN_ONE_WORD: dict[tuple[str, ...], tuple[str, ...]] = {("rgb",): RGB, ("rgba",): (*RGB, ALPHA)}


def open_video(path: str, options: Options) -> VideoSource:
    """Open a video."""
    if options.axes not in (None, "tcyx"):
        found = f"{path}: axes={options.axes!r}, but this is a video, whose axes are t c y x"
        raise OptionError(found, path=path, key="axes", hint="Leave it out")
    header, frame, aspect = _first_frame(path)
    wanted = None if options.channels is None else _IN_ONE_WORD.get(options.channels, options.channels)
    known = wanted in (GRAY, RGB, (*RGB, ALPHA))  # else names for what the video has
    output = output_for(path, frame, wanted if known else None)
    tag = orientation_tag(frame)
    options.check_pixels(path, frame.height, frame.width, whole=True)
    orientation = choose_orientation(path, tag, frame.height, frame.width, options)
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
            "colour": f"{colours_of(frame).description}, made {' '.join(output.channels)} in full range",
            **_pixel_aspect(aspect, orientation),
            **describe_orientation(tag, orientation),
            **({"interlaced": True} if frame.interlaced_frame else {}),
        },
    )
    facts = facts.settle(replace(options, channels=None) if known else options)
    stored = orientation.size(*upright)
    return VideoSource(facts, orientation, output, stored, options.clip)


def _first_frame(path: str) -> tuple[dict[str, Any], Any, Fraction | None]:
    """Return what the headers say, the first frame, and the aspect ratio of its pixels."""
    decoding = VideoDecoding(path)
    for _, frame in decoding:
        decoder = decoding.decoder
        assert decoder is not None
        aspect = as_fraction(decoder.codec.sample_aspect_ratio or decoder.stream.sample_aspect_ratio)
        return describe_headers(decoder.container, decoder.stream), frame, aspect
    if decoding.decoder is not None and decoding.decoder.container.format.name == "mpegts":
        refuse_scrambled(path)
    raise _nothing_decodes(path)


def _nothing_decodes(path: str) -> SourceError:
    hint = "It is damaged or empty: fetch or write it again"
    return SourceError(f"{path}: no frame of this video decodes", path=path, hint=hint)


def _pixel_aspect(stated: Fraction | None, orientation: Orientation) -> dict[str, str]:
    """Return the upright width : height of a pixel as metadata, unless it is a square."""
    if stated is None or stated == 1:
        return {}
    upright = 1 / stated if orientation.transposes else stated
    return {"pixel_aspect": f"{upright.numerator}:{upright.denominator}"}


class VideoSource(Source):
    """The frames of a video."""

    growing = True
    """The length is known once all of `blocks` has been read."""

    def __init__(
        self, facts: Facts, orientation: Orientation, output: Output, stored: tuple[int, int], clip: Clip
    ) -> None:
        """`stored` is the (height, width) of converted frames, before they are turned upright."""
        super().__init__(facts)  # without the orientation: frames are turned here
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
        """Seconds at which each frame is shown, shape (t,)."""
        return np.asarray(self.index.times[self._frames])

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What else is known, as JSON values."""
        notes = [*self.trouble, *self.index.time_notes]
        claimed = self.facts.metadata.get("claimed_frames")
        return {
            **{key: value for key, value in self.facts.metadata.items() if not key.startswith("claimed")},
            **({"claimed": claimed} if claimed not in (None, len(self.index)) else {}),
            **({"start": self._clip.start} if self._clip.start is not None else {}),
            **({"stop": self._clip.stop} if self._clip.stop is not None else {}),
            **({"step": self._clip.step} if self._clip.step > 1 else {}),
            **({"notes": notes} if notes else {}),
        }

    @property
    def index(self) -> Index:
        """All frames of the file."""
        if self._counted is None:
            self._counted = video_index(self.name)
            if not len(self._counted):
                raise _nothing_decodes(self.name)
        return self._counted

    @cached_property
    def _frames(self) -> np.ndarray[Any, Any]:
        """Numbers of the wanted frames, shape (t,)."""
        clip, times = self._clip, self.index.times
        first = 0 if clip.start is None else int(np.searchsorted(times, clip.start))
        last = len(times) if clip.stop is None else int(np.searchsorted(times, clip.stop))
        if first >= last:
            raise SourceError(
                f"{self.name}: no frame is shown from start={clip.start} to stop={clip.stop} seconds; the video lasts "
                f"from {times[0]:g} to {times[-1]:g}",
                path=self.name,
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
        promised = header.get("claimed_seconds", 0.0)
        # Some headers count from 0, others from the first frame.
        begins = min(0, int(index.ticks[index.ticks != MISSING].min(initial=index.end)))
        lasts = 0.0 if index.end == MISSING else float((index.end - begins) * index.base)
        if lasts and promised > lasts + max(0.02 * promised, 3 / (header.get("rate") or 10)):
            out.append(f"its header promises {promised:g} s, and it ends after {lasts:g} s")
        return out

    def blocks(self, length: int) -> Iterator[Pixels]:
        """
        Yield the wanted frames in order, `length` at a time, the last time the rest; axes (t, c, y, x).

        After the last block, `shape`, `times` and `metadata` describe what has been read.
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
        """Yield every `step`-th frame, decoding the file once."""
        recorder = IndexRecorder()
        decoding = VideoDecoding(self.name, recorder.add_packet)
        for k, (number, frame) in enumerate(decoding):
            recorder.add_frame(number, frame)
            if k % self._clip.step == 0:
                yield frame
        assert decoding.decoder is not None
        self._counted = recorder.index_from_frames(decoding.decoder)

    def _ranged(self) -> Iterator[Any]:
        """Yield the frames of a range of time."""
        reader = self._open_reader()
        for number in self._frames:
            yield reader.frame(int(number))

    def windows(self) -> FrameWindows:
        """Return what reads windows of the wanted frames."""
        return FrameWindows(self._open_reader(), self._converter, self._turn, self._frames)

    def _pixels(self, region: Region) -> Pixels:
        return self.windows().read([tuple(slice(s.start, s.stop, 1) for s in region)])[0]

    def _open_reader(self) -> FrameReader:
        if self._reader is None:
            self._reader = FrameReader(self.name, self.index)
        return self._reader

    def _release(self) -> None:
        if self._reader is not None:
            self._reader.close()


class VideoArray:
    """A video as the array of a pyramid's level, with axes (t, c, y, x)."""

    chunked: Literal[False] = False
    engine = "video decoder"

    def __init__(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic], keys: int, windows: FrameWindows
    ) -> None:
        """`keys` is the number of frames at which decoding can begin."""
        self.name, self.shape, self.dtype = name, shape, dtype
        self.chunks = (-(-shape[0] // max(1, keys)), *shape[1:])
        """What is decoded together on average: the frames from one key to the next."""
        self._windows = windows

    def encoded_size(self, chunk: tuple[int, ...]) -> None:
        """Return None: the size is not known beforehand."""

    def read(self, selections: Sequence[Selection]) -> list[Pixels]:
        """Return the pixels of each selection."""
        return self._windows.read(selections)
