"""
Writing all levels of a pyramid in one pass over its source.

1. Bands of rows come in, top to bottom. Each level gathers them until they make a row of chunks.
2. Threads encode a row of chunks (codecs run outside Python's lock) while it is halved for the next level. A level's
   row of chunks is made as soon as its pixels exist, and the source is read once.
3. Encoded chunks are appended to their shard files in order; a shard gets its index after its last chunk.

At any time a few rows of chunks per level are in memory, whatever the height of the image.

A writer may write a part of the rows, if they are whole rows of shards on all its levels. What is stored does not
depend on that: the order of chunks within a shard is that of rows, however many rows come together, and the halved rows
of the last level go on to whoever makes the next one (`Rest`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import numpy as np

from ndzarr._concurrency import OrderedQueue, available_cpus
from ndzarr._indexing.plan import plan_reads
from ndzarr._store.arrays import ChunkArray
from ndzarr._store.downsample import Reducer, halve_mask
from ndzarr._store.metadata import MASK, LevelShape, Position, Records
from ndzarr._store.read import execute
from ndzarr._store.sharding import ShardWriter
from ndzarr.errors import SourceError

Encoded: TypeAlias = list[tuple[Position, list[bytes | None]]]
"""Chunks side by side along x, in one shard: the position of the first, and their bytes, None for fill value."""

CHUNKS_PER_TASK = 16
"""Enough for a task to be worth its overhead, few enough to keep all threads busy."""
TASKS_AHEAD = 8
"""Tasks that encoders have to do while the next rows are read and halved, besides 4 for each."""


class Rest(Protocol):
    """Takes the halved rows of the last level that a writer writes."""

    def push(self, block: Position, rows: np.ndarray[Any, Any], mask: np.ndarray[Any, Any] | None = None) -> None:
        """Take the next rows of a block, and their mask if the image has one."""


class PyramidWriter:
    """Takes bands of native rows, writes every level."""

    def __init__(
        self,
        root: Path,
        levels: Sequence[LevelShape],
        reduce: Reducer,
        workers: int | None = None,
        first: int = 0,
        name: str = "image",
        rows: slice | None = None,
        rest: Rest | None = None,
        written: Callable[[Path], object] = lambda path: None,
    ) -> None:
        """
        Write levels from number `first` on below `root`, into arrays of this name.

        `rows` of the first level will come, all by default: whole rows of shards on all levels.  `rest` takes the rows
        of the next level.  `written` is called with each shard file that is complete.
        """
        workers = workers or available_cpus()
        self._queue = OrderedQueue[tuple[LevelWriter, Encoded]](workers, 4 * workers + TASKS_AHEAD, "encode")
        self._chain: list[LevelWriter] = []
        following = rest
        rows = slice(0, levels[0].shape[-2]) if rows is None else rows
        for k in reversed(range(len(levels))):
            own = slice(rows.start >> k, -(-rows.stop >> k))
            folder = root / str(first + k) / name
            level = LevelWriter(folder, levels[k], first + k, own, reduce, self, following, written)
            self._chain.insert(0, level)
            following = level
        self._first = self._chain[0]

    def __enter__(self) -> Self:
        self._queue.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.__exit__(kind, value, trace)
        for level in self._chain:
            level.close()

    def write(self, block: Position, rows: np.ndarray[Any, Any], mask: np.ndarray[Any, Any] | None = None) -> None:
        """
        Take the next rows of a block of frames, channels and planes: axes (..., rows, x), the whole width.

        `block` is its first index along each axis before y, a multiple of the chunk length. Blocks may come in any
        order, their rows top to bottom. Nothing writes to the rows. `mask` is that of the rows, without axis c, if the
        image has one; it decides which pixels count in the levels, and is written by another writer.
        """
        self._first.check(block, rows)
        self._first.push(block, rows, mask)

    def end(self, length: int) -> None:
        """
        Set the length of the first axis, if it was unknown and any larger number stood for it.

        Call this before the last block is written, whose length need not be that of a chunk.
        """
        for level in self._chain:
            level.end(length)

    @property
    def levels(self) -> list[LevelShape]:
        """The levels, with the lengths that are known by now."""
        return [level.shape for level in self._chain]

    @property
    def records(self) -> Records:
        """What is known of the shards, once all rows are written."""
        return {level.path: level.records for level in self._chain}

    def finish(self) -> None:
        """Write what is under way; raise what an encoder raised, and `SourceError` if rows are missing."""
        _store(self._queue.finish())
        self._first.check_complete()

    def submit(self, level: LevelWriter, runs: list[Position], start: Position, rows: np.ndarray[Any, Any]) -> None:
        """Queue chunks of a level for encoding; append earlier ones that are encoded to their shards."""
        _store(self._queue.submit(level.encode, runs, start, rows))


def _store(results: Iterable[tuple[LevelWriter, Encoded]]) -> None:
    for level, runs in results:
        for position, encoded in runs:
            level.store(position, encoded)


class LevelWriter:
    """Gathers rows of one level and writes its shards."""

    def __init__(
        self,
        folder: Path,
        level: LevelShape,
        number: int,
        rows: slice,
        reduce: Reducer,
        writer: PyramidWriter,
        following: Rest | None,
        written: Callable[[Path], object],
    ) -> None:
        self._next = following
        self._folder = folder
        self._level = level
        self._number = number
        self._span = rows
        self._reduce = reduce
        self._writer = writer
        self._written = written
        self._rows: dict[Position, tuple[int, list[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]] = {}
        self._shards: dict[Position, ShardWriter] = {}
        self.records: dict[Position, bytes] = {}
        self._left = self._chunks()

    def check(self, block: Position, rows: np.ndarray[Any, Any]) -> None:
        """Raise `SourceError` for rows that cannot be part of the level."""
        level = self._level
        for start, n, chunk, length in zip(block, rows.shape, level.layout.chunks, level.shape, strict=False):
            if (start + n) % chunk and start + n != length:
                raise SourceError(f"the source gave a block of {rows.shape} where it had promised {level.shape}")
        if (rows.dtype, rows.shape[-1]) != (level.layout.codec.dtype, level.shape[-1]):
            raise SourceError(
                f"the source gave rows of {rows.shape[-1]} x {rows.dtype} where it had promised "
                f"{level.shape[-1]} x {level.layout.codec.dtype}"
            )

    def check_complete(self) -> None:
        """Raise `SourceError` unless every chunk has come."""
        if self._left:
            raise SourceError(f"the source ended too soon: {self._left} chunks of level {self._number} have no pixels")

    def push(self, block: Position, rows: np.ndarray[Any, Any], mask: np.ndarray[Any, Any] | None = None) -> None:
        """Gather rows until they make a row of chunks of even height; then write it and pass on its halves."""
        height, step = self._span.stop, _even(self._level.layout.chunks[-2])
        done, waiting, masks = self._rows.pop(block, (self._span.start, [], []))
        waiting.append(rows)
        if mask is not None:
            masks.append(mask)
        have = sum(w.shape[-2] for w in waiting)
        if done + have > height:
            raise SourceError(f"the source gave {done + have} rows where it had promised {height}")
        if have < step and done + have < height:
            self._rows[block] = done, waiting, masks
            return
        band, veil = _joined(waiting), _joined(masks) if masks else None
        take = have if done + have == height else have - have % step
        self._write_rows(block, done, band[..., :take, :])
        if self._next is not None:
            if veil is None:
                self._next.push(block, self._reduce(band[..., :take, :], self._number + 1))
            else:
                shown = veil[..., :take, :]
                halves = self._reduce(band[..., :take, :], self._number + 1, shown)
                self._next.push(block, halves, halve_mask(shown))
        if done + take < height:
            rest = [band[..., take:, :]] if have > take else []
            self._rows[block] = done + take, rest, [veil[..., take:, :]] if rest and veil is not None else []

    def _write_rows(self, block: Position, top: int, band: np.ndarray[Any, Any]) -> None:
        chunks, start = self._level.layout.chunks, (*block, top, 0)
        *lead, ys, xs = [range(a // c, -(-(a + n) // c)) for a, n, c in zip(start, band.shape, chunks, strict=True)]
        # Row by row, so that the order in a shard does not depend on how many rows came together.
        length = min(self._level.layout.per_shard[-1], len(xs))
        runs = [(*at, y, x) for y in ys for at in product(*lead) for x in xs[::length]]
        step = max(1, CHUNKS_PER_TASK // length)
        for i in range(0, len(runs), step):
            self._writer.submit(self, runs[i : i + step], start, band)

    def encode(self, runs: list[Position], start: Position, band: np.ndarray[Any, Any]) -> tuple[LevelWriter, Encoded]:
        """Encode runs of chunks, each in a row of a shard and from a position on, of a band that begins at `start`."""
        layout, fill = self._level.layout, self._level.fill
        codec = layout.codec
        lengths = (*codec.shape[:-1], codec.shape[-1] * layout.per_shard[-1])
        out: Encoded = []
        for position in runs:
            first = [k * c - s for k, c, s in zip(position, codec.shape, start, strict=True)]
            strip = band[tuple(slice(a, a + n) for a, n in zip(first, lengths, strict=True))]
            chunks = codec.split(strip)
            out.append((position, codec.encode_all(chunks, [not is_blank(chunk, fill) for chunk in chunks])))
        return self, out

    def store(self, position: Position, encoded: list[bytes | None]) -> None:
        """Append a run of encoded chunks to its shard."""
        per_shard = self._level.layout.per_shard
        shard = tuple(k // n for k, n in zip(position, per_shard, strict=True))
        file = self._shards.get(shard)
        if file is None:
            path = self._folder.joinpath("c", *map(str, shard))
            file = self._shards[shard] = ShardWriter(path, per_shard, self._expected(shard))
        self._left -= len(encoded)
        if file.add(tuple(k % n for k, n in zip(position, per_shard, strict=True)), *encoded):
            self._finish(shard)

    def _finish(self, shard: Position) -> None:
        file = self._shards.pop(shard)
        self.records[shard] = file.finish()
        self._written(file.path)

    @property
    def shape(self) -> LevelShape:
        """The level, with the length that is known by now."""
        return self._level

    @property
    def path(self) -> str:
        """The path of the array in the store."""
        return f"{self._number}/{self._folder.name}"

    def end(self, length: int) -> None:
        """Make the first axis shorter; finish shards that were waiting only for chunks beyond its end."""
        before = {shard: self._expected(shard) for shard in self._shards}
        self._left -= self._chunks()
        self._level = replace(self._level, shape=(length, *self._level.shape[1:]))
        self._left += self._chunks()
        for shard, expected in before.items():
            if self._shards[shard].expect_fewer(expected - self._expected(shard)):
                self._finish(shard)

    def _chunks(self) -> int:
        """Return the number of chunks that will come."""
        *lead, _, x = self._level.shape
        rows = self._span.stop - self._span.start
        return prod(-(-n // c) for n, c in zip((*lead, rows, x), self._level.layout.chunks, strict=True))

    def _expected(self, shard: Position) -> int:
        """Return the number of chunks that a shard will get."""
        layout, number = self._level.layout, 1
        for k, n, c, length in zip(shard, layout.per_shard, layout.chunks, self._level.shape, strict=True):
            number *= min(n, -(-length // c) - k * n)
        return number

    def close(self) -> None:
        """Close files that were not finished, after an error."""
        for file in self._shards.values():
            file.close()


def _joined(bands: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return bands[0] if len(bands) == 1 else np.concatenate(bands, axis=-2)


def is_blank(chunk: np.ndarray[Any, Any], fill: Any) -> bool:
    """Return True if all pixels are the fill value, of the same dtype, to the bit: -0.0 is not 0.0, NaN may be NaN."""
    if chunk[(0,) * chunk.ndim].tobytes() != fill.tobytes():  # tells nearly always, and costs a hundredth of them all
        return False
    bits = f"u{chunk.real.itemsize}"
    parts = ((chunk.real, fill.real), (chunk.imag, fill.imag)) if chunk.dtype.kind == "c" else ((chunk, fill),)
    return all(bool((pixels.view(bits) == value.view(bits)).all()) for pixels, value in parts)


def _even(n: int) -> int:
    return n if n % 2 == 0 else 2 * n


BLOCK_BYTES = 32 << 20
"""Pixels read at a time, at least one row of chunks."""


def halve(
    root: Path,
    levels: Sequence[LevelShape],
    reduce: Reducer,
    workers: int | None,
    advance: Callable[[int], Any],
    name: str = "image",
    masks: Sequence[LevelShape] = (),
    whole: int | None = None,
) -> Records:
    """
    Make all levels of a volume but the first, whose chunks exist; axes end in z y x.  Return the records of the shards.

    `reduce` is a `reducer` for volumes; `advance` is called with the number of rows of a finer level that were read.
    `masks` are the levels of the mask, which exist, if the image has one.  `whole` is an axis that is never cut.
    """
    c = len(levels[0].shape) - len(masks[0].shape) if masks else 0
    records: Records = {}
    version = object()  # another store may have been written at this path, whose shards may be cached
    for k, (finer, coarser) in enumerate(pairwise(levels), 1):
        array = _finer(root, k, name, finer, version)
        veil = _finer(root, k, MASK, masks[k - 1], version) if masks else None
        with PyramidWriter(root, [coarser], reduce, workers, first=k, name=name) as writer:
            for block, selection in _blocks(finer, coarser, whole):
                [pixels] = execute(plan_reads([(array, selection)]))
                if veil is None:
                    writer.write(block, reduce(pixels, k))
                else:
                    [mask] = execute(plan_reads([(veil, (*selection[: -3 - c], *selection[-3:]))]))
                    writer.write(block, reduce(pixels, k, mask))
                advance(prod(pixels.shape[:-1]))
            writer.finish()
            records |= writer.records
    return records


def _finer(root: Path, number: int, name: str, level: LevelShape, version: Hashable) -> ChunkArray:
    """Return the array of the level from which number `number` is made."""
    layout, folder = level.layout, root / str(number - 1) / name
    return ChunkArray(
        str(folder), level.shape, layout.codec, layout.per_shard, level.fill, version=version, complete=True
    )


def _blocks(
    finer: LevelShape, coarser: LevelShape, whole: int | None
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Yield (first index of a block of the coarser level before y, its selection of the finer one), top to bottom."""
    lead, chunks = coarser.shape[:-2], list(coarser.layout.chunks)
    if whole is not None:
        chunks[whole] = lead[whole]
    height = coarser.shape[-2]
    factors = [b // a for a, b in zip(finer.factors, coarser.factors, strict=True)]
    row = prod(chunks[:-2]) * coarser.shape[-1] * 8 * coarser.layout.codec.dtype.itemsize
    rows = chunks[-2] * max(1, int(BLOCK_BYTES // max(1, row * chunks[-2])))
    for start in product(*(range(0, n, c) for n, c in zip(lead, chunks, strict=False))):
        for top in range(0, height, rows):
            axes = zip((*start, top, 0), (*chunks[:-2], rows, coarser.shape[-1]), factors, finer.shape, strict=True)
            yield start, tuple(slice(a * f, min((a + n) * f, end), 1) for a, n, f, end in axes)
