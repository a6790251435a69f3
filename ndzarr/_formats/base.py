"""The contract of a source of pixels, and what all sources have in common.

A `Source` is anything whose pixels can be read in windows: an image file, a TIFF with tiles or strips, an array, a
video.  Its axes are in the order t c z y x; `c`, `y` and `x` are always there, `t` and `z` only if the data has them.
Colour is explicit: palettes are expanded, and `channels` names each plane.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np

from ndzarr._formats.options import Options
from ndzarr._formats.orientation import Orientation
from ndzarr._geo.pixel_size import NOT_KNOWN, PixelSize
from ndzarr._indexing.selection import AXES
from ndzarr._store.validity import Nodata, Validity, as_nodata
from ndzarr.errors import OptionError, SourceError, WindowError, did_you_mean

Pixels: TypeAlias = np.ndarray[Any, Any]
Region: TypeAlias = tuple[slice, ...]
"""One half-open slice per axis, within the array and with step 1."""
_REASON_LENGTH = 200
"""Maximum number of letters of another library's message that an error repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about a source before any pixel is read; its attributes are the same."""

    name: str
    """Name in errors: an absolute path, or a description of an array."""
    dims: tuple[str, ...]
    """A subsequence of `AXES` that holds at least c, y and x."""
    shape: tuple[int, ...]
    """Length of each axis of `dims`, upright."""
    dtype: np.dtype[Any]
    """Type of the samples, in native byte order."""
    channels: tuple[str, ...]
    """One unique name per position along c, such as ('r', 'g', 'b', 'a') or ('gray',)."""
    band: int
    """Rows that are cheapest to read together: tile height, rows per strip, or all if decoded whole."""
    interleaved: bool = True
    """True if reading one channel costs as much as reading all of them."""
    nodata: Nodata = None
    """Value of pixels that hold no data, if the source states one, or that of each channel."""
    masked: bool = False
    """True if the source has a mask, which `Source.read_mask` reads."""
    times: Pixels | None = None
    """Seconds of each frame along t, shape (t,), if the source knows them."""
    pixel_size: PixelSize = NOT_KNOWN
    """Physical size of an upright pixel, as far as the source states it; `metadata` has the place on earth."""
    classes: bool = False
    """True if pixels are indices of a palette, which levels must not mix."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What else is known, as JSON values: format, compression, what was done to colour and orientation."""
    trouble: tuple[str, ...] = ()
    """What of a damaged source is left out; also among the notes of `metadata`."""

    @property
    def validity(self) -> Validity:
        """What says which pixels are real."""
        return Validity.of(self.dims, self.channels, self.nodata, self.metadata, self.masked)

    def settle(self, options: Options) -> Facts:
        """Apply the caller's names of channels and nodata."""
        asked, count = options.nodata, len(self.channels)
        if isinstance(asked, tuple):
            if len(asked) != count:
                what = f"nodata={list(asked)} has {len(asked)} values, but there are {count} channels"
                raise OptionError(f"{self.name}: {what}", path=self.name, key="nodata", hint="Give one value for all")
            asked = as_nodata(asked)
        return replace(
            self,
            channels=options.name_channels(self.name, self.channels),
            nodata=self.nodata if asked is None else asked,
        )


class Source(ABC):
    """Pixels that can be read in windows; a context manager."""

    def __init__(self, facts: Facts, orientation: Orientation | None = None) -> None:
        self.facts = facts
        self.name, self.dims, self.dtype = facts.name, facts.dims, facts.dtype
        self.channels, self.nodata = facts.channels, facts.nodata
        self.band, self.interleaved = facts.band, facts.interleaved
        self.orientation = orientation or Orientation()
        self._mask: Source | None = None
        self._closed = False
        self._let_go: Callable[[], object] | None = None

    @property
    def masked(self) -> bool:
        return self.facts.masked

    @property
    def validity(self) -> Validity:
        return self.facts.validity

    @property
    def shape(self) -> tuple[int, ...]:
        return self.facts.shape

    @property
    def times(self) -> Pixels | None:
        return self.facts.times

    @property
    def pixel_size(self) -> PixelSize:
        return self.facts.pixel_size

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.facts.metadata

    @property
    def trouble(self) -> Sequence[str]:
        """What of a damaged source is left out; of a video, known once all frames were read."""
        return self.facts.trouble

    def read(self, window: Mapping[str, slice]) -> Pixels:
        """
        Read a window: a half-open slice with step 1 per axis name; axes left out are read whole.

        Return an array with axes `dims`, contiguous or a view, of `dtype`.  The caller does not write to it.
        """
        if self._closed:
            raise SourceError(f"{self.name}: the source is closed", hint="Open it again to read")
        region = self._region(window)
        lengths = tuple(s.stop - s.start for s in region)
        if 0 in lengths:
            return np.empty(lengths, self.dtype)
        y, x = self.orientation.stored(region[-2], region[-1], self.shape[-2], self.shape[-1])
        return self.orientation.turn(self._pixels((*region[:-2], y, x)))

    def read_mask(self, window: Mapping[str, slice]) -> Pixels:
        """
        Read the mask of a window; only of a source that is `masked`.

        Return bool, axes `dims` without c: True where pixels are real.
        """
        mask = self._mask
        if mask is None:
            raise SourceError(f"{self.name}: the source has no mask")
        region = dict(zip(self.dims, self._region(window), strict=True))
        shown = mask.read({d: region[d] for d in mask.dims if d != "c"}) != 0
        shown = shown.any(axis=mask.dims.index("c"))
        missing = [k for k, d in enumerate(d for d in self.dims if d != "c") if d not in mask.dims]
        shape = [s.stop - s.start for d, s in region.items() if d != "c"]
        return np.broadcast_to(np.expand_dims(shown, missing), shape)

    def add_mask(self, mask: Source) -> None:
        """
        Add a mask, which is closed with this source: its pixels are 0 where those of this source are not real.

        It has one channel, the lengths that this source has as stored, and any of its other axes.
        """
        mask.orientation = self.orientation
        mask.facts = replace(mask.facts, shape=(*mask.shape[:-2], *self.shape[-2:]))
        self._mask = mask
        self.facts = replace(self.facts, masked=True)

    def keep_while_open(self, name: str, let_go: Callable[[], object]) -> None:
        """Call `let_go` when the source is closed: its file is a copy of the one that is called `name`."""
        self.name, self._let_go = name, let_go
        self.facts = replace(self.facts, name=name)

    def close(self) -> None:
        """Release files.  Reading afterwards is an error."""
        if not self._closed:
            self._closed = True
            if self._mask is not None:
                self._mask.close()
            self._release()
            if self._let_go is not None:
                self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        axes = ", ".join(f"{d}={n}" for d, n in zip(self.dims, self.shape, strict=True))
        return f"<{type(self).__name__}: {self.name} ({axes}) {self.dtype}>"

    @abstractmethod
    def _pixels(self, region: Region) -> Pixels:
        """Return the pixels of a stored window, axes `dims`, of `dtype`."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of files and arrays."""

    def _region(self, window: Mapping[str, slice]) -> Region:
        for axis in window:
            if axis not in self.dims:
                what = f"{self.name}: the window names axis {axis!r}{did_you_mean(axis, self.dims)}"
                raise WindowError(what, key=axis, window=window)
        return tuple(
            self._interval(axis, window[axis], length) if axis in window else slice(0, length)
            for axis, length in zip(self.dims, self.shape, strict=True)
        )

    def _interval(self, axis: str, want: slice, length: int) -> slice:
        start, stop = want.start or 0, length if want.stop is None else want.stop
        if start < 0 or stop < 0 or want.step not in (None, 1):
            raise WindowError(
                f"{self.name}: {axis}={want} cannot be read", hint="Pass a start and a stop of at least 0, and step 1"
            )
        start = min(int(start), length)
        return slice(start, max(start, min(int(stop), length)))


class WholeSource(Source):
    """An image whose format has to be decoded as a whole; decoded at the first read and kept."""

    def __init__(self, facts: Facts, orientation: Orientation, decode: Callable[[], Pixels]) -> None:
        """`decode` returns all pixels as stored, axes `facts.dims`; it raises SourceError."""
        super().__init__(facts, orientation)
        self._decode: Callable[[], Pixels] | None = decode
        self._lock = threading.Lock()
        self._decoded: Pixels | None = None

    def _pixels(self, region: Region) -> Pixels:
        with self._lock:
            if self._decode is None:
                raise SourceError(f"{self.name}: the source is closed", hint="Open it again to read")
            if self._decoded is None:
                self._decoded = self._checked(self._decode())
            return self._decoded[region]

    def _checked(self, pixels: Pixels) -> Pixels:
        stored = (*self.shape[:-2], *self.orientation.size(*self.shape[-2:]))
        if pixels.shape != stored or pixels.dtype != self.dtype:
            raise SourceError(
                f"{self.name}: the header announces {self.dtype} pixels of shape {stored}, but the data decode to "
                f"{pixels.dtype} of shape {pixels.shape}",
                hint="Fetch or write the file again, or open it again if it has changed",
            )
        return pixels

    def _release(self) -> None:
        with self._lock:
            self._decode = self._decoded = None


class _Quiet(logging.Filter):
    """Drops what imagecodecs logs in threads that decode for ndzarr."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(self.depth, "value", 0)


_QUIET = _Quiet()


@contextmanager
def quiet_codecs() -> Iterator[None]:
    """
    Drop the warnings of the libraries that imagecodecs decodes with, in this thread.

    imagecodecs logs them, and Python prints them to stderr in programs that do not set up logging.  They say nothing
    that a caller needs: what changes pixels is raised.
    """
    logging.getLogger("imagecodecs").addFilter(_QUIET)  # once: a logger has a filter only once
    _QUIET.depth.value = getattr(_QUIET.depth, "value", 0) + 1
    try:
        yield
    finally:
        _QUIET.depth.value -= 1


def reason(error: BaseException) -> str:
    """Return what a library says went wrong, short and on one line."""
    found = " ".join(str(error).split())
    named = f"{type(error).__name__}: {found}" if found else type(error).__name__
    return named if len(named) <= _REASON_LENGTH else f"{named[: _REASON_LENGTH - 1]}…"


def in_order(axes: str) -> tuple[str, ...]:
    """Return axis letters as dims: in the order of `AXES`, with c."""
    return tuple(a for a in AXES if a in axes or a == "c")
