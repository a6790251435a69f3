"""Overviews of files that have none, or too few: levels made from the coarsest one of the file.

1. They are made as transcoding would make them, when one of them is first read.
2. If the coarsest level of the file is small (`InPlaceOptions.in_memory`), they are kept in memory.
3. Otherwise they are written as a store in a cache directory, never beside the file, once for all processes.  The store
   records the file, its size and its time of modification; a changed file has another store, and `ndzarr cache prune`
   removes the old one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any, Literal

import numpy as np

from ndzarr._files import cache_root
from ndzarr._formats.base import Facts, Source
from ndzarr._formats.tiff.segments import TiffFile
from ndzarr._indexing.plan import plan_reads
from ndzarr._indexing.selection import Selection
from ndzarr._indexing.windows import level_count
from ndzarr._library.keys import CacheEntry, cache_entry, make_root, version_of
from ndzarr._pyramid.levels import Multiscale
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._store.arrays import Decoded, Stored
from ndzarr._store.destinations import Dest, is_there, shown_name
from ndzarr._store.downsample import Reducer, halve_mask, reducer
from ndzarr._store.metadata import LevelShape, mask_levels
from ndzarr._store.presets import Encoding, Layout, choose_layout
from ndzarr._store.read import execute
from ndzarr.errors import DamagedError, NdzarrError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """The coarsest level of a file, and what is known about the file."""

    array: Decoded
    mask: Stored | None
    """Nonzero where pixels of the level are real, with its axes but c; None if the file has no mask."""
    power: int
    """The level has 1 / 2**power of the native pixels along y and x."""
    file: TiffFile
    facts: Facts
    kind: str
    """'intensity' or 'labels'."""
    cache: Dest | None
    """Directory, or place in a bucket, for stores of overviews; the user's cache directory if None."""
    in_memory: int
    """Most decoded bytes of the level whose overviews are made in memory."""
    options: tuple[Any, ...]
    """Options of reading that change its pixels; hashed by their repr."""

    @property
    def count(self) -> int:
        """Number of overviews that a pyramid needs above this level."""
        return level_count(*self.array.shape[-2:]) - 1

    @property
    def reduce(self) -> Reducer:
        """Halves an image; rounding depends on the number of the level in the whole pyramid."""
        plain = reducer(self.array.dtype, self.kind, self.facts.validity)
        return lambda image, level, mask=None: plain(image, level + self.power, mask)

    def shape(self, number: int) -> tuple[int, ...]:
        """Return the shape of an overview; the first above this level has number 1."""
        *leading, height, width = self.array.shape
        return (*leading, -(-height // 2**number), -(-width // 2**number))

    def mask_shape(self, number: int) -> tuple[int, ...]:
        """Return the shape of the mask of an overview."""
        return self.without_c(self.shape(number))

    def without_c(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Return what belongs to the axes of the mask."""
        return tuple(v for d, v in zip(self.facts.dims, values, strict=True) if d != "c")

    def read(self, selection: Selection) -> Array:
        """Read pixels in this thread, which may be one that `execute` waits for."""
        return execute(plan_reads([(self.array, selection)]), threads=1)[0]

    def read_mask(self, selection: Selection) -> Array | None:
        """Read the mask of pixels, if there is one."""
        if self.mask is None:
            return None
        [found] = execute(plan_reads([(self.mask, self.without_c(selection))]), threads=1)
        return np.asarray(found != 0)


def make_overviews(base: Base) -> list[tuple[Stored, Stored | None]]:
    """Return the array and the mask of all overviews; no pixels are made yet."""
    numbers = range(1, base.count + 1)
    masked = base.mask is not None
    if prod(base.array.shape) * base.array.dtype.itemsize <= base.in_memory:
        memory = MemoryOverviews(base)
        return [(MemoryOverview(memory, k), MemoryOverview(memory, k, True) if masked else None) for k in numbers]
    store = OverviewStore(base)
    return [(StoredOverview(store, k), StoredOverview(store, k, True) if masked else None) for k in numbers]


class MemoryOverviews:
    """Overviews in memory, made together."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self._levels: list[tuple[Array, Array | None]] | None = None

    def level(self, number: int) -> tuple[Array, Array | None]:
        """Return (pixels, mask) of an overview.  Threads that ask for it at the same time may each make it."""
        if self._levels is None:
            whole, levels = tuple(slice(0, n, 1) for n in self.base.array.shape), []
            image, mask = self.base.read(whole), self.base.read_mask(whole)
            for k in range(1, self.base.count + 1):
                image, mask = self.base.reduce(image, k, mask), None if mask is None else halve_mask(mask)
                levels.append((image, mask))
            self._levels = levels
        return self._levels[number - 1]


class MemoryOverview:
    """An overview in memory, or its mask, as an array."""

    chunked: Literal[False] = False

    def __init__(self, memory: MemoryOverviews, number: int, mask: bool = False) -> None:
        self._memory, self._number, self._mask, base = memory, number, mask, memory.base
        self.name = f"{base.file.path}, made level {base.power + number}{', mask' * mask}"
        self.engine = f"made in memory from {os.path.basename(base.file.path)}"
        self.shape = self.chunks = base.mask_shape(number) if mask else base.shape(number)
        self.dtype = np.dtype(bool) if mask else base.array.dtype

    def encoded_size(self, chunk: tuple[int, ...]) -> int | None:
        """Return None: nothing is read from a file."""
        return None

    def read(self, selections: Sequence[Selection]) -> list[Array]:
        """Return the pixels of each selection."""
        return [self._select(selection) for selection in selections]

    def _select(self, selection: Selection) -> Array:
        image, mask = self._memory.level(self._number)
        pixels = mask if self._mask and mask is not None else image
        for axis, want in enumerate(selection):
            pixels = pixels[(slice(None),) * axis + (want if isinstance(want, slice) else list(want),)]
        return pixels


class OverviewStore:
    """Overviews as a store in a cache directory, made when one is first needed."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.encoding = Encoding(kind=base.kind)
        self._pyramid: Pyramid | None = None
        self._repaired = False

    def layout(self, number: int, mask: bool = False) -> Layout:
        """Return chunks and codec of an overview, or of its mask, which are known before it is made."""
        base, dims = self.base, self.base.facts.dims
        layout = choose_layout(dims, base.shape(number), base.array.dtype, self.encoding)
        if not mask:
            return layout
        level = LevelShape(base.shape(number), layout, (1,) * len(dims))
        return mask_levels(dims, [level], self.encoding)[0].layout

    @property
    def entry(self) -> CacheEntry:
        """The place of the store, and what it records of its source."""
        file, base = self.base.file, self.base
        # "levels above" and the order of the inputs must not change: keys of existing stores depend on them.
        inputs = ["levels above", base.power, list(base.array.shape), repr(base.options), base.kind]
        return cache_entry(self._root, file, *inputs)

    @property
    def _root(self) -> Dest:
        return self.base.cache or cache_root()

    @property
    def place(self) -> Dest:
        """Directory of the store, or its place in a bucket."""
        return self.entry.store

    @property
    def exists(self) -> bool:
        """True if the store is made."""
        return self._pyramid is not None or is_there(self.place)

    @property
    def sound(self) -> bool:
        """True if the store is made, and no shard is missing, cut or zeroed."""
        return self.entry.sound() is not None

    def make(self) -> Pyramid:
        """Return the pyramid of the store, which is made now if it does not exist."""
        if self._pyramid is None:
            entry = self.entry
            pyramid = entry.find()
            if pyramid is None:
                make_root(self._root)
                pyramid = entry.make(partial(self._write, entry))
            self._pyramid = pyramid
        return self._pyramid

    def repair(self, damaged: Pyramid, error: DamagedError) -> None:
        """Make the store again, of which reading raised an error, once; raise it if that is not possible."""
        entry = self.entry
        with entry.lock():
            if self._pyramid is not damaged:
                return  # another thread was faster
            if self._repaired:
                raise error
            try:
                self._pyramid = entry.make_locked(partial(self._write, entry), damaged=version_of(damaged))
                self._repaired = True
            except NdzarrError as cause:
                raise error from cause

    def _write(self, entry: CacheEntry, overwrite: bool) -> None:
        from ndzarr._pyramid.transcode import write_pyramid

        number = self.base.power + 1
        source = HalfSource(self.base)
        write_pyramid(source, entry.store, self.encoding, overwrite=overwrite, origin=entry.origin, number=number)
        self.base.file.check()


def overview_store(pyramid: Multiscale) -> OverviewStore | None:
    """Return the store of a pyramid's overviews; None if it needs none or keeps them in memory."""
    array = pyramid.levels[-1].array
    return array.store if isinstance(array, StoredOverview) else None


class StoredOverview:
    """An overview, or its mask, in a store that is made when one of its chunks is first read."""

    chunked: Literal[True] = True
    chunk_format = None
    remote = False

    def __init__(self, store: OverviewStore, number: int, mask: bool = False) -> None:
        self.store, self._number, self._mask, base = store, number, mask, store.base
        layout = store.layout(number, mask)
        self.name = f"{base.file.path}, made level {base.power + number}{', mask' * mask}"
        self.shape = base.mask_shape(number) if mask else base.shape(number)
        self.dtype = np.dtype(bool) if mask else base.array.dtype
        self.chunks, self.shards, self.codec = layout.chunks, layout.shards, layout.codec

    @property
    def engine(self) -> str:
        """Place of the store."""
        name = os.path.basename(self.store.base.file.path)
        return f"levels of {name} in the cache" + ("" if self.store.exists else ", still to be made")

    @property
    def made(self) -> bool:
        """True if reading makes nothing."""
        return self.store.exists

    @property
    def fill(self) -> Any:
        """Pixel of chunks that `decode` found missing, which the store says."""
        return self._array(self.store.make()).fill

    def _array(self, pyramid: Pyramid) -> Any:
        level = pyramid.levels[self._number - 1]
        return level.mask if self._mask else level.array

    def key(self, chunk: tuple[int, ...]) -> tuple[Any, ...]:
        """Return what identifies a chunk in caches."""
        return (shown_name(self.store.place), self._number, self._mask, chunk)

    def encoded_size(self, chunk: tuple[int, ...]) -> int | None:
        """Return the bytes of a chunk; None if the store is not made yet."""
        return int(self._array(self.store.make()).encoded_size(chunk)) if self.store.exists else None

    def decode(self, chunk: tuple[int, ...], out: Array, wanted: tuple[slice, ...] | None = None) -> bool:
        """Decode a chunk; the store is made if it does not exist, and again if it is damaged."""
        pyramid = self.store.make()
        try:
            return bool(self._array(pyramid).decode(chunk, out, wanted))
        except DamagedError as error:
            self.store.repair(pyramid, error)
        return bool(self._array(self.store.make()).decode(chunk, out, wanted))


class HalfSource(Source):
    """The first overview, as a source of pixels for `write_pyramid`."""

    def __init__(self, base: Base) -> None:
        about = {"levels_above": base.power, "alpha": base.facts.metadata.get("alpha")}
        facts = replace(base.facts, name=base.file.path, shape=base.shape(1), band=512, times=None, metadata=about)
        super().__init__(replace(facts, dtype=base.array.dtype, interleaved=True))
        self._base = base

    def _pixels(self, region: tuple[slice, ...]) -> Array:
        twice = self._twice(region)
        return self._base.reduce(self._base.read(twice), 1, self._base.read_mask(twice))

    def read_mask(self, window: Mapping[str, slice]) -> Array:
        """Read the mask of a window, axes `dims` without c."""
        mask = self._base.read_mask(self._twice(self._region(window)))
        assert mask is not None
        return halve_mask(mask)

    def _twice(self, region: tuple[slice, ...]) -> tuple[slice, ...]:
        """Return the pixels of the level that a region is made from."""
        twice = (
            slice(2 * s.start, min(2 * s.stop, n), 1)
            for s, n in zip(region[-2:], self._base.array.shape[-2:], strict=True)
        )
        return (*(slice(s.start, s.stop, 1) for s in region[:-2]), *twice)

    def _release(self) -> None:
        """Do nothing: the file is not held open."""
