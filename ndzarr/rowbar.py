"""How far along is a transcoding?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod
from typing import Any, Self

from ndzarr.pyramid.metadata import LevelShape
from ndzarr.sources.source import Source
from ndzarr.streaming import as_stream


class _NoBar:
    """Stands in for tqdm, which starts a thread and makes locks even when it is told to show nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, rows: int) -> None:
        """Show nothing."""


def row_bar(source: Source, progress: bool, halved: Sequence[LevelShape]) -> Any:
    """A bar that counts the rows of the source, and those of levels that are read again to be halved."""
    if not progress:
        return _NoBar()
    from tqdm.auto import tqdm

    stream = as_stream(source)
    shape = source.shape if stream is None else stream.expected_shape
    total = sum(prod(s[:-1]) for s in (shape, *(level.shape for level in halved))) or None
    name = os.path.basename(source.name)
    return tqdm(total=total, unit="row", unit_scale=True, desc=name, leave=False, delay=1)
