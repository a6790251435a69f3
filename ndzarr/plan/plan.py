"""For a set of windows, which chunks must be decoded, and where does each part of them land?

1. Each window is a selection on one array; its axes are cut at chunk borders (`geometry.selection.segments`).
2. The product of the cuts names the chunks; parts of one chunk that several windows want are gathered under one read.
3. Reads are ordered by array and by chunk, so that execution walks each file forwards.

A `ReadPlan` knows neither files nor codecs.  The same plan serves one crop, a batch, a dask task and a torch fetch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Protocol, TypeAlias

import numpy as np

from ndzarr.geometry.selection import Selection, lengths, segments
from ndzarr.plan.explain import Explanation, counted, explain


class Chunked(Protocol):
    """An N-D array in chunks, as far as planning needs to know it."""

    @property
    def name(self) -> str:
        """What explanations call it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """Length of a chunk along each axis; a chunk is what can be decoded on its own."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the decoded pixels."""

    @property
    def engine(self) -> str:
        """What will read it, and why, where that is not the hot path."""

    def encoded_size(self, chunk: tuple[int, ...]) -> int | None:
        """Bytes a chunk takes in its file; 0 if it is missing (all fill value), None if the engine cannot tell."""


Part: TypeAlias = tuple[int, tuple[slice, ...], tuple[slice, ...]]
"""One rectangle to copy: (index of the window in the plan, its place in the chunk, its place in the output)."""

Cut: TypeAlias = tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]
"""A part of a window: (position of its chunk, its place in the chunk, its place in the output)."""

ChunkRead: TypeAlias = tuple[int, tuple[int, ...], tuple[Part, ...]]
"""One chunk to decode, once: (index of the array in the plan, position in its chunk grid, parts)."""


@dataclass(frozen=True)
class ReadPlan:
    """Deduplicated chunk reads for a sequence of windows."""

    arrays: tuple[Chunked, ...]
    """The arrays read from."""
    windows: tuple[tuple[int, Selection], ...]
    """(index of the array, selection) of each window, in the order asked for."""
    shapes: tuple[tuple[int, ...], ...]
    """Shape of the output of each window, along the axes of its array."""

    @cached_property
    def reads(self) -> tuple[ChunkRead, ...]:
        """Every chunk that holds a pixel of a window, each exactly once; found when first asked for."""
        wanted: dict[tuple[int, tuple[int, ...]], list[Part]] = {}
        for w, (a, selection) in enumerate(self.windows):
            for position, source, target in cuts(self.arrays[a], selection):
                parts = wanted.get((a, position))
                if parts is None:
                    wanted[a, position] = [(w, source, target)]
                else:
                    parts.append((w, source, target))
        keys = sorted(wanted) if len(self.windows) > 1 else wanted
        return tuple([(*key, tuple(wanted[key])) for key in keys])

    def __len__(self) -> int:
        return len(self.windows)

    def explain(self) -> Explanation:
        """Count what executing this plan would read and decode; print it to see a table."""
        return explain(self)

    def __repr__(self) -> str:
        numbers = {"window": self.windows, "chunk read": self.reads, "array": self.arrays}
        return f"<ReadPlan: {', '.join(counted(len(some), noun) for noun, some in numbers.items())}>"


def plan_reads(requests: Iterable[tuple[Chunked, Selection]]) -> ReadPlan:
    """
    Plan the reads for windows.

    Parameters
    ----------
    requests
        (array, selection) per window; selections lie within the array, as `geometry.selection.select` makes them.
    """
    arrays: list[Chunked] = []
    number: dict[int, int] = {}
    windows: list[tuple[int, Selection]] = []
    for array, selection in requests:
        a = number.get(id(array), -1)
        if a < 0:
            a = number[id(array)] = len(arrays)
            arrays.append(array)
        windows.append((a, selection))
    return ReadPlan(tuple(arrays), tuple(windows), tuple([lengths(selection) for _, selection in windows]))


def cuts(array: Chunked, selection: Selection) -> list[Cut]:
    """Every part of a window, in C order."""
    axes = [segments(want, chunk) for want, chunk in zip(selection, array.chunks, strict=True)]
    return [tuple(zip(*cut, strict=True)) for cut in product(*axes)]  # type: ignore[misc]
