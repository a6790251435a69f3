"""
Overviews as GDAL makes them, where the levels of a pyramid are others.

GDAL averages the pixels that alpha or a mask shows, each of them alike, and alpha itself over the same pixels
(gcore/overview.cpp, `AVERAGE`), while levels are weighted by alpha.  They are made from native pixels, as a store that
is removed when the file is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ndzarr._export.cog_pixels import CogContent
from ndzarr._files import explained, scratch
from ndzarr._formats.base import Facts, Source
from ndzarr._pyramid.transcode import write_pyramid
from ndzarr._pyramid.zarr_store import open_pyramid
from ndzarr._store.downsample import halve_mask, reducer
from ndzarr._store.presets import Encoding
from ndzarr._store.validity import Validity

Array = np.ndarray[Any, Any]


@contextmanager
def with_overviews(content: CogContent, dest: Path, workers: int | None) -> Iterator[CogContent]:
    """Yield what is exported to `dest`, with overviews that are made for it if the levels of the pyramid do not do."""
    if not content.needs_overviews:
        yield content
        return
    with explained(dest), scratch(dest) as work:
        path = work / "overviews.zarr"
        with FirstOverview(content) as source:
            write_pyramid(source, path, Encoding(), number=1, origin={}, workers=workers)
        made = open_pyramid(path)
        yield replace(content, levels=(content.levels[0], *made.levels), overviews=made)


class FirstOverview(Source):
    """The first overview of what is exported, as a source with axes c y x."""

    def __init__(self, content: CogContent) -> None:
        height, width = (-(-n // 2) for n in content.size(0))
        channels = content.names or ("gray",)
        masked = content.masking is not None
        super().__init__(
            Facts(
                name=content.pyramid.path,
                dims=("c", "y", "x"),
                shape=(len(channels), height, width),
                dtype=content.dtype,
                channels=channels,
                band=512,
                nodata=content.nodata,
                masked=masked,
            )
        )
        self._content = content
        self._rule = Validity(nodata=content.nodata, alpha=content.alpha_sample, masked=masked, binary=True)
        self._reduce = reducer(content.dtype, "intensity", self._rule)
        self._valid: tuple[tuple[slice, ...], Array] | None = None

    @property
    def validity(self) -> Validity:
        return self._rule

    def read_mask(self, window: Mapping[str, slice]) -> Array:
        """Return the mask of the window that was read last, axes y x."""
        region = self._region(window)[-2:]
        if self._valid is None or self._valid[0] != region:
            self._pixels(self._region(window))
        assert self._valid is not None
        return self._valid[1]

    def _pixels(self, region: tuple[slice, ...]) -> Array:
        y, x = (slice(2 * s.start, min(2 * s.stop, n)) for s, n in zip(region[1:], self._content.size(0), strict=True))
        planes, valid = self._content.planes(0, y, x)
        if valid is not None:
            self._valid = region[1:], halve_mask(valid)
        return self._reduce(planes, 1, valid)[region[0]]

    def _release(self) -> None:
        self._valid = None
