"""Arrays that are read through something else: with another order of axes, unpacked, or from a source of pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ndzarr._formats.base import Facts, Pixels, Source
from ndzarr._formats.labelled import Packing
from ndzarr._indexing.plan import plan_reads
from ndzarr._indexing.selection import Selection
from ndzarr._pyramid.levels import Level, Multiscale
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.transcode import describe, whole_range
from ndzarr._store.arrays import Stored
from ndzarr._store.metadata import LevelShape, root_attributes
from ndzarr._store.presets import Encoding
from ndzarr._store.read import execute


class View:
    """An array with its axes in another order, or with unpacked values."""

    chunked: Literal[False] = False

    def __init__(self, inner: Stored, order: Sequence[int], packing: Packing | None = None) -> None:
        """`order` has, for each axis, its number in `inner`."""
        self._inner, self._order, self._packing = inner, tuple(order), packing
        self.name = inner.name
        done = [
            *(["axes moved"] if self._order != tuple(range(len(order))) else []),
            *(["unpacked"] if packing else []),
        ]
        self.engine = f"{inner.engine}, {' and '.join(done)}"
        self.shape, self.chunks = (tuple(lengths[k] for k in order) for lengths in (inner.shape, inner.chunks))
        self.dtype = inner.dtype if packing is None else packing.dtype(inner.dtype)

    def encoded_size(self, chunk: tuple[int, ...]) -> int | None:
        """Return the bytes of a chunk, None if that is not known."""
        return self._inner.encoded_size(tuple(chunk[self._order.index(k)] for k in range(len(chunk))))

    def read(self, selections: Sequence[Selection]) -> list[Pixels]:
        """Return the pixels of each selection."""
        within = [tuple(s[self._order.index(k)] for k in range(len(s))) for s in selections]
        # In this thread, which may be one that the reader waits for.
        blocks = execute(plan_reads([(self._inner, s) for s in within]), threads=1)
        moved = [block.transpose(self._order) for block in blocks]
        return moved if self._packing is None else [self._packing.unpack(block) for block in moved]


def as_view(inner: Stored, order: Sequence[int], packing: Packing | None = None) -> Stored:
    """Return an array as `View` describes it: itself if nothing changes."""
    return inner if list(order) == list(range(len(order))) and packing is None else View(inner, order, packing)


def stored_array(array: Stored) -> Stored:
    """Return the array whose bytes are read for another."""
    return array._inner if isinstance(array, View) else array


class SourceArray:
    """A source of pixels as an array, without an axis c of its own if the source has none."""

    chunked: Literal[False] = False

    def __init__(self, source: Source, dims: Sequence[str]) -> None:
        self._source, self._dims = source, tuple(dims)
        sizes = dict(zip(source.dims, source.shape, strict=True))
        self.name, self.dtype = source.name, source.dtype
        self.engine = str(source.metadata.get("format", "array"))
        self.shape = tuple(sizes[d] for d in dims)
        self.chunks = (*self.shape[:-2], min(max(1, source.band), self.shape[-2]), self.shape[-1])

    def encoded_size(self, chunk: tuple[int, ...]) -> None:
        """Return None: it is not known."""

    def read(self, selections: Sequence[Selection]) -> list[Pixels]:
        """Return the pixels of each selection."""
        return [self._read(selection) for selection in selections]

    def _read(self, selection: Selection) -> Pixels:
        lists = [range(n)[s] if isinstance(s, slice) else s for s, n in zip(selection, self.shape, strict=True)]
        if not all(lists):
            return np.empty([len(k) for k in lists], self.dtype)
        box = {d: slice(min(k), max(k) + 1) for d, k in zip(self._dims, lists, strict=True)}
        block = self._source.read(box)
        if block.ndim > len(self._dims):
            block = block[(slice(None),) * self._source.dims.index("c") + (0,)]
        return block[np.ix_(*([i - min(k) for i in k] for k in lists))]


def described_pyramid(
    path: str,
    facts: Facts | Source,
    levels: Sequence[Level],
    *,
    reopen: Callable[[str, int], Multiscale],
    kind: str = "intensity",
    origin: Mapping[str, Any] | None = None,
    cache_bytes: int = 0,
    beside: Mapping[str, Any] | None = None,
) -> Pyramid:
    """
    Return the pyramid of a source, with the attributes that a store of it would have.

    Without an axis c in the levels, the pyramid has none, either.  `beside` are attributes that the source itself has.
    """
    known = facts if isinstance(facts, Facts) else facts.facts
    description = describe(facts, Encoding(kind=kind), origin or {})
    if len(levels[0].shape) < len(known.dims):
        description = replace(description, dims=tuple(d for d in known.dims if d != "c"), channels=())
    shapes = [LevelShape(v.shape, None, v.factors) for v in levels]  # type: ignore[arg-type]
    limits = whole_range(description.dtype, facts.metadata.get("bits"))
    attrs = root_attributes(description, shapes, [limits] * len(description.channels))
    attrs["ndzarr"]["encoding"] = {"kind": description.encoding.kind}
    attrs = {**(beside or {}), **attrs}
    return Pyramid(path, description.dims, tuple(levels), description.channels, attrs, cache_bytes, reopen)
