"""Where is something that has gone some way along a road?"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from math import atan2, cos, sin
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
        stops, corners = self._lists
        piece = min(max(bisect_left(stops, way) - 1, 0), len(corners) - 2)
        (x0, y0), (x1, y1) = corners[piece], corners[piece + 1]
        angle = atan2(y1 - y0, x1 - x0)
        beyond = way - stops[piece]
        x = x0 + beyond * cos(angle) - aside * sin(angle)
        y = y0 + beyond * sin(angle) + aside * cos(angle)
        return x, y, angle

    @cached_property
    def _lists(self) -> tuple[list[float], list[list[float]]]:
        """The same as Python's numbers, with which single points are quicker."""
        return self._stops.tolist(), self.points.tolist()

    def inside(self, width: int, height: int) -> tuple[float, float]:
        """Where along it the first and the last point lie that are in a picture; equal where none is."""
        ways = np.linspace(0, self.length, 300)
        x, y = (np.interp(ways, self._stops, self.points[:, k]) for k in (0, 1))
        found = ways[(x > 0) & (x < width) & (y > 0) & (y < height)]
        return (float(found[0]), float(found[-1])) if len(found) else (0.0, 0.0)
