"""Which windows are read for statistics, as targets whose pixels are those of a level?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ndzarr.targets.footprint import as_table, footprints
from ndzarr.targets.rows import Rows, Targets
from ndzarr.targets.spaces import spaces_of

if TYPE_CHECKING:
    from ndzarr.sampler.coco import CocoSampler


class Numbered(Protocol):
    """Targets, made when asked for."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, k: int, /) -> dict[str, Any]:
        """One of them."""


class Tiles:
    """Tiles of all images, at whole pixels of a level."""

    def __init__(self, sampler: CocoSampler, factor: int, edge: int) -> None:
        self._factor, self._edge = factor, edge
        spaces = spaces_of(sampler, "image")
        self._gids = [frames[0] for frames in spaces.frames]
        self._size = -(-np.stack([spaces.height, spaces.width], axis=1) // factor)
        self._grid = -(-self._size // edge)
        self._ends = np.cumsum(self._grid.prod(axis=1))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, k: int, /) -> dict[str, Any]:
        image = int(np.searchsorted(self._ends, k, side="right"))
        inner = int(k - (self._ends[image - 1] if image else 0))
        place = divmod(inner, int(self._grid[image, 1]))
        factor, edge = self._factor, self._edge
        y, x = (
            slice(p * edge * factor, min((p + 1) * edge, n) * factor)
            for p, n in zip(place, self._size[image].tolist(), strict=True)
        )
        return {"gid": self._gids[image], "space_slice": (y, x), "scale": 1 / factor}


class Snapped:
    """Rows of a table, widened to whole pixels of a level."""

    def __init__(self, sampler: CocoSampler, targets: Targets | Rows, factor: int) -> None:
        table = as_table(targets)
        self._factor, self._found = factor, footprints(sampler, table)
        self._ends = np.searchsorted(self._found.row, np.arange(len(table) + 1))
        self._channels = table["channels"].tolist() if "channels" in table else None

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, k: int, /) -> dict[str, Any]:
        found, factor = self._found, self._factor
        y, x = (slice(int(a // factor * factor), int(-(-b // factor) * factor)) for a, b in (found.y[k], found.x[k]))
        frames = [found.gids[f] for f in found.frame[self._ends[k] : self._ends[k + 1]].tolist() if f >= 0]
        name = {"gids": frames} if found.spaces[int(found.space[k])][0] == "video" else {"gid": frames[0]}
        own = None if self._channels is None else self._channels[k]
        target = name | {"space_slice": (y, x), "scale": 1 / factor}
        return target if own is None or own != own else target | {"channels": own}
