"""What does executing a plan need to know of an array?

Two kinds.  `Decoded`: its chunks are decoded one by one, each once per plan (shards of a store, tiles of a TIFF).
`Windowed`: something else reads whole windows (zarr-python, a video decoder), and is given all windows of a plan at
once, so that it can share work between them.  `chunked` tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from ndzarr.geometry.selection import Selection
from ndzarr.plan.plan import Chunked


class Codec(Protocol):
    """How a chunk is laid out once it is decoded."""

    @property
    def order(self) -> tuple[int, ...] | None:
        """Order of axes in memory, None where it is that of the array."""

    @property
    def threaded_bytes(self) -> int:
        """Decoded bytes of a chunk from which on threads pay."""

    @property
    def slow(self) -> bool:
        """True where even a single chunk takes so long to decode that each of a plan is worth a thread."""

    def scratch(self) -> np.ndarray[Any, Any]:
        """A buffer that a chunk can be decoded into."""

    def view(self, scratch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The buffer with the axes of the array."""


class Decoded(Chunked, Protocol):
    """An array whose chunks are decoded one by one."""

    @property
    def chunked(self) -> Literal[True]:
        """Tells it from `Windowed`."""

    @property
    def codec(self) -> Codec:
        """Layout of decoded chunks."""

    @property
    def fill(self) -> Any:
        """Value of the pixels of a chunk that is missing."""

    @property
    def shards(self) -> tuple[int, ...]:
        """Shape of what lies together, and is best read together."""

    def key(self, chunk: tuple[int, ...]) -> tuple[Any, ...]:
        """What identifies a chunk in caches; it changes when the file does."""

    def decode(
        self, chunk: tuple[int, ...], out: np.ndarray[Any, Any], wanted: tuple[slice, ...] | None = None
    ) -> bool:
        """
        Decode a whole chunk, also at the border, into a buffer; False, and nothing written, where it is missing.

        Of `wanted`, if it is given, no more than that part of the chunk need be right.
        """


class Windowed(Chunked, Protocol):
    """An array that is read window by window."""

    @property
    def chunked(self) -> Literal[False]:
        """Tells it from `Decoded`."""

    def read(self, selections: Sequence[Selection]) -> list[np.ndarray[Any, Any]]:
        """The pixels of each selection."""


Stored: TypeAlias = "Decoded | Windowed"
"""Where the pixels of a level are."""
