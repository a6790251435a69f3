"""What does a transcoder need to know about a source of pixels?

A `Source` is anything whose pixels can be read in pieces: an image file, a TIFF with tiles or strips,
an array, a video.  Its axes are always in the order t c z y x; `c`, `y` and `x` are always
there, `t` and `z` only where the data has them.  Colour is already explicit: palettes are expanded,
and `channels` names what each plane is.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

AXES = ("t", "c", "z", "y", "x")
"""Every axis name, in the order in which axes are stored."""


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
