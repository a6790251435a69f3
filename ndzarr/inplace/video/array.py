"""How are windows of a video decoded, only as far as they need it?

All windows of a plan are given at once: each frame that one of them wants is decoded once, from the nearest key frame
or from where the decoder was left (`sources.video.reader`), and of a frame only the part is converted that is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ndzarr.geometry.selection import Selection
from ndzarr.sources.base import Pixels
from ndzarr.sources.video.windows import FrameWindows


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
