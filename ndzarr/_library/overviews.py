"""Where do levels come from that a file does not have?

1. They are made from the coarsest level that it has, as transcoding would make them, when one is first read.
2. Up to `IN_MEMORY` decoded bytes of that level, they are kept in memory: that takes a tenth of a second, and a third
   of its size.
3. Else they are written as a store of their own in a cache directory, never beside the file, once for all processes.
   The store says of which file, of what size and age, it was made; a changed file has another one, and
   `ndzarr cache prune` removes what is left of the old.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ndzarr._files import FileId, default_root
from ndzarr._indexing.plan import plan_reads
from ndzarr._indexing.selection import Selection
from ndzarr._indexing.windows import level_count as count
from ndzarr._library.keys import CacheEntry as Slot
from ndzarr._library.keys import cache_entry as slot
from ndzarr._library.keys import make_root
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._store.downsample import Reducer, reducer
from ndzarr._store.presets import Encoding, Layout
from ndzarr._store.presets import choose_layout as layout
from ndzarr._store.read import execute

IN_MEMORY = 16 << 20
"""Decoded bytes of the coarsest level of a file up to which the levels above it are made in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """The coarsest level of a file, and what is known about the file."""

    array: Any
    """A `Decoded` array, axes `dims`."""
    power: int
    """It has 1 / 2**power of the native pixels along y and x."""
    file: FileId
    """The file."""
    dims: tuple[str, ...]
    channels: tuple[str, ...]
    nodata: float | None
    kind: str
    """'intensity' or 'labels'."""
    cache: Path | None
    """Where stores of levels are kept; the user's cache directory if None."""
    asked: tuple[Any, ...]
    """All else that its pixels depend on; repr tells different ones apart."""

    @property
    def nbytes(self) -> int:
        """Decoded."""
        shape: tuple[int, ...] = self.array.shape
        return prod(shape) * int(self.array.dtype.itemsize)

    @property
    def above(self) -> int:
        """Number of levels that a pyramid has above this one."""
        height, width = self.array.shape[-2:]
        return count(height, width) - 1

    @property
    def reduce(self) -> Reducer:
        """How it is halved; halves are rounded by the number of the level in the whole pyramid."""
        plain = reducer(self.array.dtype, self.kind, self.nodata)
        return lambda image, level: plain(image, level + self.power)

    def shape(self, step: int) -> tuple[int, ...]:
        """Of the level `step` above this one."""
        *lead, height, width = self.array.shape
        return (*lead, -(-height // 2**step), -(-width // 2**step))

    def read(self, selection: Selection) -> np.ndarray[Any, Any]:
        """Pixels of this level, in this thread: it may be one of those that `execute` waits for."""
        return execute(plan_reads([(self.array, selection)]), threads=1)[0]


def levels_above(base: Base) -> list[Any]:
    """Arrays of the levels above the coarsest one of a file; none of them is made yet."""
    steps = range(1, base.above + 1)
    if base.nbytes <= IN_MEMORY:
        memory = Memory(base)
        return [MemoryLevel(memory, step) for step in steps]
    store = SideStore(base)
    return [StoredLevel(store, step) for step in steps]


class Memory:
    """Levels in memory, made together."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self._levels: list[np.ndarray[Any, Any]] | None = None

    def level(self, step: int) -> np.ndarray[Any, Any]:
        """Pixels of the level `step` above the base; threads that come at the same time may all make it."""
        if self._levels is None:
            image, made = self.base.read(tuple(slice(0, n, 1) for n in self.base.array.shape)), []
            for k in range(1, self.base.above + 1):
                image = self.base.reduce(image, k)
                made.append(image)
            self._levels = made
        return self._levels[step - 1]


class MemoryLevel:
    """A level in memory."""

    chunked: Literal[False] = False

    def __init__(self, memory: Memory, step: int) -> None:
        self._memory, self._step, base = memory, step, memory.base
        self.name = f"{base.file.path}, made level {base.power + step}"
        self.engine = f"made in memory from {os.path.basename(base.file.path)}"
        self.shape = self.chunks = base.shape(step)
        self.dtype = base.array.dtype

    def encoded_size(self, chunk: tuple[int, ...]) -> int | None:
        """Nothing is read for it, once it is made."""
        return None

    def read(self, selections: Sequence[Selection]) -> list[np.ndarray[Any, Any]]:
        """The pixels of each selection."""
        pixels = self._memory.level(self._step)
        return [_cut(pixels, selection) for selection in selections]


def _cut(pixels: np.ndarray[Any, Any], selection: Selection) -> np.ndarray[Any, Any]:
    for axis, want in enumerate(selection):
        pixels = pixels[(slice(None),) * axis + (want if isinstance(want, slice) else list(want),)]
    return pixels


class SideStore:
    """The levels above as a store in a cache directory, made when it is first needed."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self._arrays: list[Any] | None = None

    @property
    def encoding(self) -> Encoding:
        """Of the store."""
        return Encoding(kind=self.base.kind)

    def layout(self, step: int) -> Layout:
        """Chunks and codec of the level `step` above the base, known before it is made."""
        return layout(self.base.dims, self.base.shape(step), self.base.array.dtype, self.encoding)

    @property
    def slot(self) -> Slot:
        """Where it is, and what it says of its source."""
        file, base = self.base.file, self.base
        told = ["levels above", base.power, list(base.array.shape), repr(base.asked), base.kind]
        return slot(base.cache or default_root(), file.path, file.size, file.mtime_ns, *told)

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.slot.store

    @property
    def made(self) -> bool:
        """True if it is there."""
        return self._arrays is not None or (self.path / "zarr.json").exists()

    def array(self, step: int) -> Any:
        """The array of the level `step` above the base; raises as `make`."""
        return self.make()[step - 1]

    def make(self) -> list[Any]:
        """
        Its arrays, made now if they are not there.

        Raises
        ------
        WriteError
            The cache directory cannot be written.
        """
        if self._arrays is None:
            where = self.slot
            self._arrays = [level.array for level in (where.find() or self._make(where)).levels]
        return self._arrays

    def _make(self, slot: Slot) -> Pyramid:
        make_root(slot.store.parent)
        return slot.make(partial(self._write, slot))

    def _write(self, slot: Slot) -> None:
        from ndzarr._pyramid.transcode import write_pyramid

        number = self.base.power + 1
        write_pyramid(Half(self.base), slot.store, self.encoding, origin=slot.origin, number=number)
        self.base.file.check()


def side_store(pyramid: Pyramid) -> SideStore | None:
    """The store of the levels of a pyramid that its file does not have, if they are not kept in memory."""
    array = pyramid.levels[-1].array
    return array.store if isinstance(array, StoredLevel) else None


class StoredLevel:
    """A level in a store that is made when it is first read."""

    chunked: Literal[True] = True
    fill: Any = 0

    def __init__(self, store: SideStore, step: int) -> None:
        self.store, self._step, base = store, step, store.base
        found = store.layout(step)
        self.name = f"{base.file.path}, made level {base.power + step}"
        self.shape, self.dtype = base.shape(step), base.array.dtype
        self.chunks, self.shards, self.codec = found.chunks, found.shards, found.codec

    @property
    def engine(self) -> str:
        """Where it is."""
        name = os.path.basename(self.store.base.file.path)
        return f"levels of {name} in the cache" + ("" if self.store.made else ", still to be made")

    def key(self, chunk: tuple[int, ...]) -> tuple[Any, ...]:
        """What identifies a chunk in caches."""
        return (str(self.store.path), self._step, chunk)

    def encoded_size(self, chunk: tuple[int, ...]) -> int | None:
        """Bytes of a chunk; None if the store is not made yet."""
        return int(self.store.array(self._step).encoded_size(chunk)) if self.store.made else None

    def decode(
        self, chunk: tuple[int, ...], out: np.ndarray[Any, Any], wanted: tuple[slice, ...] | None = None
    ) -> bool:
        """Decode a chunk; the store is made if it is not there."""
        return bool(self.store.array(self._step).decode(chunk, out, wanted))


class Half:
    """A level of half the size of the base, as a source of pixels that `write_pyramid` takes."""

    band = 512
    interleaved = True
    times = None

    def __init__(self, base: Base) -> None:
        self._base = base
        self.name = base.file.path
        self.dims, self.channels, self.nodata = base.dims, base.channels, base.nodata
        self.shape, self.dtype = base.shape(1), base.array.dtype
        self.metadata: Mapping[str, Any] = {"levels_above": base.power}

    def read(self, window: Mapping[str, slice]) -> np.ndarray[Any, Any]:
        """Rows, whole along x."""
        rows, height = window["y"], self._base.array.shape[-2]
        lead = tuple(
            slice(window[d].start or 0, window[d].stop, 1) if d in window else slice(0, n, 1)
            for d, n in zip(self.dims[:-2], self.shape[:-2], strict=True)
        )
        y = slice(2 * rows.start, min(2 * rows.stop, height), 1)
        return self._base.reduce(self._base.read((*lead, y, slice(0, self._base.array.shape[-1], 1))), 1)

    def close(self) -> None:
        """Nothing to release."""

    def __enter__(self) -> Half:
        return self

    def __exit__(self, *error: object) -> None:
        pass
