"""What does a transcoder need to know about a source of pixels?

A `Source` is anything whose pixels can be read in pieces: an image file, a TIFF with tiles or strips,
an array, a video.  Its axes are always in the order t c z y x; `c`, `y` and `x` are always
there, `t` and `z` only where the data has them.  Colour is already explicit: palettes are expanded,
and `channels` names what each plane is.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from ndzarr._formats.options import Options
from ndzarr._formats.orientation import Orientation
from ndzarr._indexing.selection import AXES
from ndzarr.errors import SourceError, WindowError, did_you_mean


class Source(Protocol):
    """Pixels that can be read in bands of rows."""

    @property
    def name(self) -> str:
        """What error messages call it: an absolute path, or a description of an array."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Axis names, a subsequence of `AXES` that holds at least c, y and x."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis of `dims`."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native byte order."""

    @property
    def channels(self) -> tuple[str, ...]:
        """One unique name per position along c, such as ('r', 'g', 'b', 'a') or ('gray',)."""

    @property
    def band(self) -> int:
        """Rows that are cheapest to read together (tile height, rows per strip); the height if decoded whole."""

    @property
    def interleaved(self) -> bool:
        """True where reading one channel costs as much as reading all of them."""

    @property
    def nodata(self) -> float | None:
        """The value that marks pixels that hold no data, if the source states one."""

    @property
    def times(self) -> np.ndarray[Any, Any] | None:
        """Seconds of each frame along t, shape (t,), where the source knows them."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What else is known, as JSON values: format, compression, what was done to colour and orientation."""

    def read(self, window: Mapping[str, slice]) -> np.ndarray[Any, Any]:
        """
        Read a window.

        Parameters
        ----------
        window
            Half-open slice with step 1 per axis name; axes left out are read whole.

        Returns
        -------
        Array with axes `dims`, contiguous or a view, of `dtype`.  The caller does not write to it.

        Raises
        ------
        SourceError
            The bytes cannot be decoded; names the file.
        """

    def close(self) -> None:
        """Release files.  Reading afterwards is an error."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


# --- What do all sources have in common?


Pixels = np.ndarray[Any, Any]
Region = tuple[slice, ...]
"""One half-open slice per axis, within the array and with step 1."""
_REASON = 200
"""Most letters of what a library says that go into a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about a source before any pixel is read; the fields mean what they mean in `Source`."""

    name: str
    """What error messages call it."""
    dims: tuple[str, ...]
    """Axis names in the order of `AXES`."""
    shape: tuple[int, ...]
    """Length of each axis, upright."""
    dtype: np.dtype[Any]
    """Native byte order."""
    channels: tuple[str, ...]
    """One name per position along c."""
    band: int
    """Rows that are cheapest to read together."""
    interleaved: bool = True
    """True where one channel costs as much as all of them."""
    nodata: float | None = None
    """The value of pixels that hold no data."""
    times: Pixels | None = None
    """Seconds, shape (t,)."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """JSON values."""

    def settle(self, options: Options) -> Facts:
        """The facts after the caller's say on names and nodata."""
        return replace(
            self,
            channels=options.name_channels(self.name, self.channels),
            nodata=self.nodata if options.nodata is None else options.nodata,
        )


class BaseSource(ABC):
    """A source that is described by `Facts`."""

    def __init__(self, facts: Facts, orientation: Orientation | None = None) -> None:
        self.facts = facts
        self.orientation = orientation or Orientation()
        self._closed = False

    @property
    def name(self) -> str:
        """What error messages call it."""
        return self.facts.name

    @property
    def dims(self) -> tuple[str, ...]:
        """Axis names."""
        return self.facts.dims

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis of `dims`."""
        return self.facts.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native byte order."""
        return self.facts.dtype

    @property
    def channels(self) -> tuple[str, ...]:
        """One unique name per position along c."""
        return self.facts.channels

    @property
    def band(self) -> int:
        """Rows that are cheapest to read together."""
        return self.facts.band

    @property
    def interleaved(self) -> bool:
        """True where one channel costs as much as all of them."""
        return self.facts.interleaved

    @property
    def nodata(self) -> float | None:
        """The value of pixels that hold no data."""
        return self.facts.nodata

    @property
    def times(self) -> Pixels | None:
        """Seconds of each frame along t."""
        return self.facts.times

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What else is known, as JSON values."""
        return self.facts.metadata

    def read(self, window: Mapping[str, slice]) -> Pixels:
        """Read a window; see `Source.read`."""
        if self._closed:
            raise SourceError(f"{self.name}: the source is closed; open it again to read")
        region = self._region(window)
        lengths = tuple(s.stop - s.start for s in region)
        if 0 in lengths:
            return np.empty(lengths, self.dtype)
        y, x = self.orientation.stored(region[-2], region[-1], self.shape[-2], self.shape[-1])
        return self.orientation.turn(self._pixels((*region[:-2], y, x)))

    def close(self) -> None:
        """Release files."""
        if not self._closed:
            self._closed = True
            self._release()

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
        """Pixels of a stored window, axes `dims`, of `dtype`."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of files and arrays."""

    def _region(self, window: Mapping[str, slice]) -> Region:
        for axis in window:
            if axis not in self.dims:
                raise WindowError(f"{self.name}: the window names axis {axis!r}{did_you_mean(axis, self.dims)}")
        return tuple(
            self._interval(axis, window[axis], length) if axis in window else slice(0, length)
            for axis, length in zip(self.dims, self.shape, strict=True)
        )

    def _interval(self, axis: str, want: slice, length: int) -> slice:
        start, stop = want.start or 0, length if want.stop is None else want.stop
        if start < 0 or stop < 0 or want.step not in (None, 1):
            raise WindowError(
                f"{self.name}: {axis}={want} cannot be read; start and stop have to be at least 0, and step 1"
            )
        start = min(int(start), length)
        return slice(start, max(start, min(int(stop), length)))


def reason(error: BaseException) -> str:
    """What a library says went wrong, short and on one line."""
    found = " ".join(str(error).split())
    named = f"{type(error).__name__}: {found}" if found else type(error).__name__
    return named if len(named) <= _REASON else f"{named[: _REASON - 1]}…"


def in_order(axes: str) -> tuple[str, ...]:
    """Axis letters as dims: in the order of `AXES`, with c."""
    return tuple(a for a in AXES if a in axes or a == "c")


# --- How is an image read whose format has to be decoded as a whole?


class WholeSource(BaseSource):
    """An image that is decoded at the first read."""

    def __init__(self, facts: Facts, orientation: Orientation, decode: Callable[[], Pixels]) -> None:
        """
        Describe an image that `decode` makes when it is needed.

        Parameters
        ----------
        decode
            Returns all pixels, axes `facts.dims`, as stored; raises SourceError.
        """
        super().__init__(facts, orientation)
        self._decode: Callable[[], Pixels] | None = decode
        self._lock = threading.Lock()
        self._decoded: Pixels | None = None

    def _pixels(self, region: Region) -> Pixels:
        with self._lock:
            if self._decode is None:
                raise SourceError(f"{self.name}: the source is closed; open it again to read")
            if self._decoded is None:
                self._decoded = self._checked(self._decode())
            return self._decoded[region]

    def _checked(self, pixels: Pixels) -> Pixels:
        stored = (*self.shape[:-2], *self.orientation.size(*self.shape[-2:]))
        if pixels.shape != stored or pixels.dtype != self.dtype:
            raise SourceError(
                f"{self.name}: the header announces {self.dtype} pixels of shape {stored}, but the data decode to "
                f"{pixels.dtype} of shape {pixels.shape}; the file is damaged or changed since it was opened"
            )
        return pixels

    def _release(self) -> None:
        with self._lock:
            self._decode = self._decoded = None
