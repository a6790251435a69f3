"""What is one level of a pyramid?"""

from __future__ import annotations

from dataclasses import dataclass

from ndzarr._store.arrays import Stored


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a pyramid."""

    array: Stored
    """Where its pixels are."""
    factors: tuple[float, ...]
    """Native pixels per pixel of this level, along each axis of the pyramid."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.array.shape

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of what is decoded together."""
        return self.array.chunks

    def __repr__(self) -> str:
        scale = max(self.factors)
        return f"<Level 1/{scale:g}: {' x '.join(map(str, self.shape))}, chunks {' x '.join(map(str, self.chunks))}>"
