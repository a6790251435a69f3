"""Read plans: which chunks a set of windows needs, and where each part of a chunk goes.

1. Each window is a selection on one array; its axes are cut at chunk borders (`selection.segments`).
2. The product of the cuts names the chunks.  Parts of one chunk that several windows want are gathered under one read.
3. Reads are ordered by array and by chunk, so that execution walks each file forwards.

A `ReadPlan` knows neither files nor codecs.  The same plan serves one crop, a batch, a dask task and a torch fetch, and
`explain` counts what it would cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Protocol, TypeAlias

import numpy as np

from ndzarr._concurrency import memory_limit
from ndzarr._indexing.selection import Selection, cuts, lengths
from ndzarr._remote.flight import Request, planned
from ndzarr.errors import NdzarrError, WindowError


class Chunked(Protocol):
    """What planning needs to know of an N-D array."""

    @property
    def name(self) -> str:
        """Name for explanations and messages."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """Length of a chunk along each axis; a chunk is decoded as a whole."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the decoded pixels."""

    @property
    def engine(self) -> str:
        """What reads the array, and why, if that is not the hot path."""

    def encoded_size(self, chunk: tuple[int, ...]) -> int | None:
        """Return the bytes of a chunk in its file; 0 if it is missing (all fill value), None if unknown."""


Part: TypeAlias = tuple[int, tuple[slice, ...], tuple[slice, ...]]
"""One box to copy: (index of the window in the plan, place in the chunk, place in the output)."""

ChunkRead: TypeAlias = tuple[int, tuple[int, ...], tuple[Part, ...]]
"""One chunk to decode: (index of the array in the plan, position in its chunk grid, parts)."""


@dataclass(frozen=True)
class ReadPlan:
    """Deduplicated chunk reads for a sequence of windows."""

    arrays: tuple[Chunked, ...]
    windows: tuple[tuple[int, Selection], ...]
    """(index of the array, selection) of each window, in the order given."""
    shapes: tuple[tuple[int, ...], ...]
    """Shape of the output of each window."""

    @cached_property
    def reads(self) -> tuple[ChunkRead, ...]:
        """Every chunk that holds a pixel of a window, each once; computed when first used."""
        wanted: dict[tuple[int, tuple[int, ...]], list[Part]] = {}
        for w, (a, selection) in enumerate(self.windows):
            for position, source, target in cuts(selection, self.arrays[a].chunks):
                parts = wanted.get((a, position))
                if parts is None:
                    wanted[a, position] = [(w, source, target)]
                else:
                    parts.append((w, source, target))
        keys = sorted(wanted) if len(self.windows) > 1 else wanted
        return tuple([(*key, tuple(wanted[key])) for key in keys])

    @property
    def wanted_bytes(self) -> int:
        """Bytes of pixels in all windows."""
        sizes = [self.arrays[a].dtype.itemsize for a, _ in self.windows]
        return sum(prod(shape) * size for shape, size in zip(self.shapes, sizes, strict=True))

    def __len__(self) -> int:
        return len(self.windows)

    def explain(self) -> Explanation:
        """Count what executing this plan would read and decode; it reads shard indexes, but no chunks."""
        return _explain(self)

    def __repr__(self) -> str:
        numbers = {"window": self.windows, "chunk read": self.reads, "array": self.arrays}
        decoders = {decoder for array in self.arrays if (decoder := _decoder(array)) is not None}
        how = f"; decoded by {' and '.join(sorted(decoders))}" if decoders else ""
        return f"<ReadPlan: {', '.join(counted(len(some), noun) for noun, some in numbers.items())}{how}>"

    def _repr_html_(self) -> str:
        from ndzarr._indexing.plan_drawing import plan_html

        return plan_html(self, str(self.explain()))


def _decoder(array: Chunked) -> str | None:
    """Return what decodes the chunks of an array, "compiled core" or "Python"; None if its engine does it all."""
    return getattr(array, "decoder", None)


def plan_reads(requests: Iterable[tuple[Chunked, Selection]]) -> ReadPlan:
    """Plan the reads of windows: (array, selection within it, as `selection.select` returns it) of each."""
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


@dataclass(frozen=True, slots=True)
class Explanation:
    """The cost of a `ReadPlan`, in counts that are the same on every machine."""

    windows: int
    chunks: int
    """Chunks that hold wanted pixels, each counted once."""
    missing: int
    """Chunks among them that are not stored, because they hold only the fill value."""
    shared: int
    """Chunks among them that more than one window needs."""
    encoded_bytes: int | None
    """Bytes to read from files; None if an engine cannot tell beforehand."""
    decoded_bytes: int
    """Bytes of pixels to decode; nothing is decoded for missing chunks."""
    wanted_bytes: int
    """Bytes of pixels in all windows."""
    engines: tuple[tuple[str, int], ...]
    """(engine, number of chunks that it reads), most first."""
    requests: int
    """Requests to buckets and web servers, without those of shard indexes, which explaining has read."""
    fetched_bytes: int
    """Bytes that these requests move, gaps included."""
    decoders: tuple[tuple[str, int], ...]
    """("compiled core" or "Python", number of chunks that it decodes), most first; without those of other engines."""

    @property
    def amplification(self) -> float:
        """Decoded bytes per wanted byte; below 1 if windows share chunks."""
        return self.decoded_bytes / self.wanted_bytes if self.wanted_bytes else 0.0

    def __str__(self) -> str:
        encoded = "unknown" if self.encoded_bytes is None else human_bytes(self.encoded_bytes)
        rows = [
            ("windows", f"{self.windows:,}"),
            ("chunks", f"{self.chunks:,} ({self.missing:,} missing, {self.shared:,} shared between windows)"),
            ("read", f"{encoded} encoded"),
            ("decode", f"{human_bytes(self.decoded_bytes)} for {human_bytes(self.wanted_bytes)} wanted"),
            ("amplification", f"{self.amplification:.2f}"),
        ]
        if self.requests:
            moved = human_bytes(self.fetched_bytes)
            rows.append(("network", f"{counted(self.requests, 'request')} in 1 flight, {moved}"))
        rows += [("engine", f"{name}: {n:,} chunks") for name, n in self.engines]
        rows += [("decoded by", f"{name}: {n:,} chunks") for name, n in self.decoders]
        return "\n".join(f"{key:<14}{value}" for key, value in rows)


def _explain(plan: ReadPlan) -> Explanation:
    requests = _requests(plan)  # first: it reads the indexes of all shards at once
    sizes = [plan.arrays[a].encoded_size(chunk) for a, chunk, _ in plan.reads]
    decoded = sum(
        plan.arrays[a].dtype.itemsize * prod(plan.arrays[a].chunks)
        for (a, _, _), size in zip(plan.reads, sizes, strict=True)
        if size != 0
    )
    engines = Counter(plan.arrays[a].engine for a, _, _ in plan.reads)
    decoders = Counter(decoder for a, _, _ in plan.reads if (decoder := _decoder(plan.arrays[a])) is not None)
    return Explanation(
        windows=len(plan.windows),
        chunks=len(plan.reads),
        missing=sum(size == 0 for size in sizes),
        shared=sum(len({window for window, _, _ in parts}) > 1 for _, _, parts in plan.reads),
        encoded_bytes=None if None in sizes else sum(size or 0 for size in sizes),
        decoded_bytes=decoded,
        wanted_bytes=plan.wanted_bytes,
        engines=tuple(engines.most_common()),
        decoders=tuple(decoders.most_common()),
        requests=len(requests),
        fetched_bytes=sum((r.stop or 0) - (r.start or 0) for r in requests),
    )


def _requests(plan: ReadPlan) -> list[Request]:
    """Return the requests that fetch the chunks of remote arrays."""
    arrays: Any = plan.arrays
    chunks: dict[int, list[tuple[int, ...]]] = {}
    for a, chunk, _ in plan.reads:
        if getattr(arrays[a], "remote", False):
            chunks.setdefault(a, []).append(chunk)
    return planned([r for a, some in chunks.items() for found in arrays[a].ranges(some) for r in found])


def counted(n: int, noun: str) -> str:
    """
    Return a number with its noun.

    Examples
    --------
    >>> counted(1, "image"), counted(2000, "image"), counted(3, "category")
    ('1 image', '2000 images', '3 categories')
    """
    if n == 1:
        return f"1 {noun}"
    return f"{n} {noun[:-1]}ies" if noun.endswith("y") else f"{n} {noun}s"


def check_memory(
    needed: int, error: type[NdzarrError] = WindowError, what: str = "the pixels asked for", **attributes: Any
) -> None:
    """Raise `error`, with its attributes, if a request needs more bytes than this process may use."""
    if needed > memory_limit():
        limit = human_bytes(memory_limit())
        found = f"{what} would take {human_bytes(needed)}, and this process may use {limit}"
        path = attributes.get("path")
        raise error(found if path is None else f"{path}: {found}", **attributes)


def human_bytes(n: float) -> str:
    """
    Return a size in binary units.

    Examples
    --------
    >>> human_bytes(1536), human_bytes(12)
    ('1.5 KiB', '12 B')
    """
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if n < 1024:
            return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.3g} EiB"
