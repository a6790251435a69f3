"""Sizes of windows as lengths, and output pixels of a physical size, in tables.

Images differ in the size of their pixels: a length is another number of pixels in each.  `WindowSizes` converts for all
spaces of a table; output pixels are then of one size, and `output_dims` makes windows of a table equal in shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._geo.pixel_size import PixelSize, Quantity, is_physical
from ndzarr._sampling.resolve import path_of, sampled_pixel_size
from ndzarr._sampling.target import parse_length, parse_resolution
from ndzarr._validation import check_target_count
from ndzarr.errors import TargetError
from ndzarr.targets.windows import Array, Spaces, Windows

if TYPE_CHECKING:
    from ndzarr._sampling.protocols import SampleSource


@dataclass(frozen=True, eq=False)
class WindowSizes:
    """Sizes in pixels of each space, from pixels or lengths."""

    source: SampleSource
    spaces: Spaces
    resolution: Any
    """Size of an output pixel, of which sizes in pixels are then; None for native pixels."""

    @cached_property
    def scales(self) -> Array | None:
        """Output pixels per pixel along (y, x) of each space, shape (2, space); None without a resolution."""
        wanted = parse_resolution(self.resolution)
        if wanted is None:
            return None
        found = [size.scale_to(wanted, name, TargetError)[::-1] for size, name in self._pixel_sizes(wanted)]
        return np.array(found, float).reshape(-1, 2).T

    def pixels(self, axis: str, name: str, value: Any, least: int = 1) -> int | Array:
        """Return a size along 'y' or 'x' in native pixels: one, or one of each space, shape (space,)."""
        exact = self.exact(axis, name, value, least)
        return exact if isinstance(exact, int) else whole(exact, least)

    def exact(self, axis: str, name: str, value: Any, least: int = 1) -> int | Array:
        """Return a size before it is rounded to whole native pixels."""
        if is_physical(value):
            length = parse_length(name, value)
            many = [size.pixels(axis, length, image, TargetError) for size, image in self._pixel_sizes(length)]
            return np.array(many, float)
        number = check_target_count(name, value, least)
        return number if self.scales is None else number / self.scales["yx".index(axis)]

    def output_dims(self, windows: Windows, dims: Any) -> dict[str, Array]:
        """Return the column `output_dims` of windows whose size was given as `dims`; nothing without a resolution."""
        if self.scales is None:
            return {}
        shape = [
            whole((stop - start) * scale[windows.space], 1)
            for start, stop, scale in zip((windows.y0, windows.x0), (windows.y1, windows.x1), self.scales, strict=True)
        ]
        for k, n in enumerate(dims if isinstance(dims, tuple) else ()):
            if not isinstance(n, str | Quantity) and n is not None:
                shape[k][:] = n
        column = np.empty(len(windows), object)
        column[:] = list(zip(*(n.tolist() for n in shape), strict=True))
        return {"output_dims": column}

    def _pixel_sizes(self, wanted: Quantity) -> list[tuple[PixelSize, str]]:
        """Return the size of a pixel in the middle of each space, and the path of its first file."""
        spaces, out = self.spaces, []
        for ident, frames, height, width in zip(
            spaces.ids.tolist(), spaces.frames, spaces.height.tolist(), spaces.width.tolist(), strict=True
        ):
            members = [self.source.frame(i) for i in ([ident] if spaces.kind == "source" else frames)]
            size = sampled_pixel_size(self.source, members, spaces.video, wanted, height / 2, width / 2)
            out.append((size, path_of(members)))
        return out


def whole(numbers: Array, least: int) -> Array:
    """Return the nearest whole numbers, none below `least`."""
    return np.asarray(np.maximum(np.rint(numbers), least).astype(np.int64))
