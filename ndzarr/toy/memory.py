"""How is an array that is only in memory read like a pyramid?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ndzarr.geometry.selection import Selection
from ndzarr.pyramid.pyramid import Level, Pyramid
from ndzarr.pyramid.reduce import reducer

_CHUNK = 256
"""What plans count as one, along y and x."""


@dataclass(frozen=True, eq=False)
class MemoryArray:
    """Pixels of a level, read window by window."""

    name: str
    """What plans call it."""
    pixels: np.ndarray[tuple[int, ...], np.dtype[Any]]
    engine: str = "made on the fly, in memory"
    """What plans say reads it."""

    @property
    def chunked(self) -> Literal[False]:
        """Tells it from arrays that are decoded chunk by chunk."""
        return False

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.pixels.shape

    @property
    def chunks(self) -> tuple[int, ...]:
        """Length of a chunk along each axis."""
        return tuple(n if k < self.pixels.ndim - 2 else min(n, _CHUNK) for k, n in enumerate(self.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self.pixels.dtype

    def encoded_size(self, chunk: tuple[int, ...]) -> None:
        """Nothing is encoded."""

    def read(self, selections: Sequence[Selection]) -> list[np.ndarray[Any, Any]]:
        """Copies of the pixels of each selection."""
        return [self._read(selection) for selection in selections]

    def _read(self, selection: Selection) -> np.ndarray[Any, Any]:
        out = self.pixels
        for axis, wanted in enumerate(selection):
            out = out[(slice(None),) * axis + (wanted if isinstance(wanted, slice) else list(wanted),)]
        return out.copy()


def in_memory(
    name: str, pixels: np.ndarray[Any, Any], channels: tuple[str, ...], reopen: Callable[[str, int], Pyramid]
) -> Pyramid:
    """
    A pyramid of an array.

    Parameters
    ----------
    pixels
        Axes (c, y, x).
    reopen
        Makes it again from its name, after pickling.
    """
    halve = reducer(pixels.dtype, "intensity")
    arrays = [pixels]
    while max(arrays[-1].shape[-2:]) > _CHUNK:
        arrays.append(halve(arrays[-1], len(arrays)))
    levels = [Level(MemoryArray(f"{name}/{k}", a), (1.0, 2.0**k, 2.0**k)) for k, a in enumerate(arrays)]
    return Pyramid(name, ("c", "y", "x"), tuple(levels), channels, {}, reopen=reopen)
