"""Where is something that has gone some way along a road?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Points = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Path:
    """A road or a river."""

    points: Points
    """Its middle line; shape (n, 2): x, y in pixels."""
    width: float
    """In pixels."""

    @cached_property
    def _stops(self) -> Points:
        steps = np.linalg.norm(np.diff(self.points, axis=0), axis=1)
        return np.concatenate([[0.0], np.cumsum(steps)])

    @property
    def length(self) -> float:
        """In pixels."""
        return float(self._stops[-1])

    def at(self, way: float, aside: float = 0.0) -> tuple[float, float, float]:
        """
        x, y and direction (radians) at a distance from its beginning.

        Parameters
        ----------
        way
            In pixels; what is beyond an end lies on the prolongation of the last piece.
        aside
            Distance to the right of the middle line, in pixels.
        """
        piece = int(np.clip(np.searchsorted(self._stops, way) - 1, 0, len(self.points) - 2))
        (x0, y0), (x1, y1) = self.points[piece], self.points[piece + 1]
        angle = float(np.arctan2(y1 - y0, x1 - x0))
        beyond = way - self._stops[piece]
        x = x0 + beyond * np.cos(angle) - aside * np.sin(angle)
        y = y0 + beyond * np.sin(angle) + aside * np.cos(angle)
        return float(x), float(y), angle

    def inside(self, width: int, height: int) -> tuple[float, float]:
        """Where along it the first and the last point lie that are in a picture; equal where none is."""
        ways = np.linspace(0, self.length, 400)
        x, y = (np.interp(ways, self._stops, self.points[:, k]) for k in (0, 1))
        found = ways[(x > 0) & (x < width) & (y > 0) & (y < height)]
        return (float(found[0]), float(found[-1])) if len(found) else (0.0, 0.0)
