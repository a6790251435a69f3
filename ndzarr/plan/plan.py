"""For a set of windows, which chunks must be decoded, and where does each part of them land?

1. Each window is a selection on one array; its axes are cut at chunk borders (`geometry.selection.segments`).
2. The product of the cuts names the chunks; parts of one chunk that several windows want are gathered under one read.
3. Reads are ordered by array and by chunk, so that execution walks each file forwards.

A `ReadPlan` knows neither files nor codecs.  The same plan serves one crop, a batch, a dask task and a torch fetch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ndzarr.geometry.selection import Selection, lengths, segments
from ndzarr.plan.explain import Explanation, explain


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


class Part(NamedTuple):
    """One rectangle to copy from a decoded chunk to the output of a window."""

    window: int
    """Index of the window in the plan."""
    source: tuple[slice, ...]
    """Where it lies in the chunk."""
    target: tuple[slice, ...]
    """Where it lands in the window's output."""


class ChunkRead(NamedTuple):
    """One chunk to decode, once."""

    array: int
    """Index of the array in the plan."""
    chunk: tuple[int, ...]
    """Position of the chunk in the array's chunk grid."""
    parts: tuple[Part, ...]
    """What is copied from it; at least one."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Deduplicated chunk reads for a sequence of windows."""

    arrays: tuple[Chunked, ...]
    """The arrays read from."""
    windows: tuple[tuple[int, Selection], ...]
    """(index of the array, selection) of each window, in the order asked for."""
    shapes: tuple[tuple[int, ...], ...]
    """Shape of the output of each window, along the axes of its array."""
    reads: tuple[ChunkRead, ...]
    """Every chunk that holds a pixel of a window, each exactly once."""

    def __len__(self) -> int:
        return len(self.windows)

    def explain(self) -> Explanation:
        """Count what executing this plan would read and decode; print it to see a table."""
        return explain(self)

    def __repr__(self) -> str:
        return f"<ReadPlan: {len(self.windows)} windows, {len(self.reads)} chunk reads, {len(self.arrays)} arrays>"


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
    wanted: dict[tuple[int, tuple[int, ...]], list[Part]] = {}
    for array, selection in requests:
        a = number.get(id(array), -1)
        if a < 0:
            a = number[id(array)] = len(arrays)
            arrays.append(array)
        _cut(a, array.chunks, selection, len(windows), wanted)
        windows.append((a, selection))
    keys = sorted(wanted) if len(windows) > 1 else wanted
    return ReadPlan(
        arrays=tuple(arrays),
        windows=tuple(windows),
        shapes=tuple(lengths(selection) for _, selection in windows),
        reads=tuple([ChunkRead(key[0], key[1], tuple(wanted[key])) for key in keys]),
    )


def _cut(
    a: int,
    chunks: Sequence[int],
    selection: Selection,
    window: int,
    wanted: dict[tuple[int, tuple[int, ...]], list[Part]],
) -> None:
    """Add the parts of one window, axis by axis, to what is wanted of each chunk."""
    found: list[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]] = [((), (), ())]
    for want, chunk in zip(selection, chunks, strict=True):
        cuts = segments(want, chunk)
        if len(cuts) == 1:  # the common case along c, t and z: extend in place
            k, source, target = cuts[0]
            found = [((*f[0], k), (*f[1], source), (*f[2], target)) for f in found]
        else:
            found = [((*f[0], k), (*f[1], source), (*f[2], target)) for f in found for k, source, target in cuts]
    for position, source_slices, target_slices in found:
        part = Part(window, source_slices, target_slices)
        parts = wanted.setdefault((a, position), [])
        parts.append(part)
