"""How are levels made whose planes are halved as well as their rows and columns?

Rows of one level follow those of the one before while an image is read (`writer`).  Planes cannot: two of them lie a
whole image apart.  So each level is made from the finished one before it, block by block, in little memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from math import prod
from pathlib import Path
from typing import Any

from ndzarr.plan.plan import plan_reads
from ndzarr.pyramid.array import ChunkArray
from ndzarr.pyramid.execute import execute
from ndzarr.pyramid.metadata import LevelShape
from ndzarr.pyramid.reduce import Reducer
from ndzarr.pyramid.writer import PyramidWriter

BLOCK_BYTES = 32 << 20
"""Pixels read at a time, at least one row of chunks."""


def halve(
    root: Path, levels: Sequence[LevelShape], reduce: Reducer, workers: int | None, advance: Callable[[int], Any]
) -> None:
    """
    Make all levels but the first, whose chunks are there.

    Parameters
    ----------
    levels
        From native to coarsest; axes end in z y x.
    reduce
        As `reducer` makes it for volumes.
    workers
        Threads that encode.
    advance
        Is told how many rows of a finer level were read.
    """
    for k, (finer, coarser) in enumerate(pairwise(levels), 1):
        array = _array(root / str(k - 1) / "image", finer)
        with PyramidWriter(root, [coarser], reduce, workers, first=k) as writer:
            for block, selection in _blocks(finer, coarser):
                [pixels] = execute(plan_reads([(array, selection)]))
                writer.write(block, reduce(pixels, k))
                advance(prod(pixels.shape[:-1]))
            writer.finish()


def _array(folder: Path, level: LevelShape) -> ChunkArray:
    codec, per_shard = level.layout.codec, level.layout.per_shard
    return ChunkArray(str(folder), level.shape, codec, per_shard, codec.dtype.type(0), complete=True)


def _blocks(finer: LevelShape, coarser: LevelShape) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """(first index of a block of the coarser level before y, what it is made from), rows top to bottom."""
    lead, chunks = coarser.shape[:-2], coarser.layout.chunks
    height = coarser.shape[-2]
    factors = [b // a for a, b in zip(finer.factors, coarser.factors, strict=True)]
    row = prod(chunks[:-2]) * coarser.shape[-1] * 8 * coarser.layout.codec.dtype.itemsize
    rows = chunks[-2] * max(1, int(BLOCK_BYTES // max(1, row * chunks[-2])))
    for start in product(*(range(0, n, c) for n, c in zip(lead, chunks, strict=False))):
        for top in range(0, height, rows):
            first = (*start, top, 0)
            length = (*chunks[:-2], rows, coarser.shape[-1])
            yield (
                start,
                tuple(
                    slice(a * f, min((a + n) * f, whole), 1)
                    for a, n, f, whole in zip(first, length, factors, finer.shape, strict=True)
                ),
            )
