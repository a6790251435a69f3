"""How is a source written whose length is known only when it ends?

A video is decoded once, whatever its header says of the number of its frames.  Its frames are written as they come, to
levels that are taken to be endless; when the last ones have come, the levels, and the shards that wait for more, are
told how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, Protocol, cast

import numpy as np

from ndzarr.errors import SourceError
from ndzarr.pyramid.metadata import LevelShape
from ndzarr.pyramid.writer import PyramidWriter
from ndzarr.sources.source import Source

ENDLESS = 2**40
"""More frames than any video has."""


class Stream(Source, Protocol):
    """What a source whose `growing` is True has besides what all sources have."""

    @property
    def expected_shape(self) -> tuple[int, ...]:
        """The shape that its header promises, with 0 frames if it does not say; all but their number is true."""

    @property
    def trouble(self) -> Sequence[str]:
        """What is wrong with it, once all frames have come."""

    def blocks(self, length: int) -> Iterator[np.ndarray[Any, Any]]:
        """All frames in order, `length` at a time, the last time what is left; axes (t, ...)."""


def as_stream(source: Source) -> Stream | None:
    """The source, if its length is known only in the end."""
    return cast(Stream, source) if getattr(source, "growing", False) else None


def write_stream(
    stream: Stream,
    levels: Callable[[int], list[LevelShape]],
    writer: Callable[[list[LevelShape]], PyramidWriter],
    block_bytes: int,
    progress: Callable[[int], object],
) -> list[LevelShape]:
    """
    Write all frames of a stream.

    Parameters
    ----------
    levels
        The levels of so many frames.
    writer
        Makes what writes them.
    block_bytes
        Of native pixels that are gathered before they are encoded, where the chunks are not longer.
    progress
        Is told of rows that were written.

    Returns
    -------
    The levels as they are.

    Raises
    ------
    SourceError
        It has no frames, or one cannot be used.
    """
    endless = levels(ENDLESS)[0]
    chunk = endless.layout.chunks[0]
    frame = prod(endless.shape[1:]) * endless.layout.codec.dtype.itemsize
    blocks = stream.blocks(chunk * max(1, block_bytes // (chunk * frame)))
    block, following = next(blocks, None), next(blocks, None)
    if block is None:
        raise SourceError(f"{stream.name}: it has no frames")
    at = 0
    with writer(levels(len(block) if following is None else ENDLESS)) as out:
        while block is not None:
            if following is None:
                out.end(at + len(block))
            out.write((at, *[0] * (block.ndim - 3)), block)
            at += len(block)
            progress(prod(block.shape[:-1]))
            block, following = following, next(blocks, None)
        out.finish()
        return out.levels
