"""What does a camera see of the country at a moment?

A `World` is ground with things on it.  Its layout and annotations are made at once, its pixels when they are asked
for; everything follows from the seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import cv2
import numpy as np

from ndzarr.errors import OptionError
from ndzarr.toy.land import Land, Pixels
from ndzarr.toy.things import Thing, placed

MARGIN = 24
"""Pixels of the world beyond each border of a picture, so that the camera may drift."""

SMALLEST = 32
"""Least height and width of a picture, in pixels."""


def picture_size(size: Any) -> tuple[int, int]:
    """
    (height, width) of a picture, in pixels.

    Raises
    ------
    OptionError
        It is something else.
    """
    found = tuple(size) if isinstance(size, Iterable) else ()
    if len(found) != 2 or not all(isinstance(n, Integral) for n in found):
        raise OptionError(f"size={size!r}: expected (height, width) in whole pixels")
    return int(found[0]), int(found[1])


@dataclass(frozen=True, eq=False)
class World:
    """A piece of country, and what is on it."""

    height: int
    """Of pictures, in pixels."""
    width: int
    seed: tuple[int, ...]
    land: Land
    """With `MARGIN` more on each side."""
    things: tuple[Thing, ...]

    @classmethod
    def make(cls, height: int, width: int, things: int, seed: tuple[int, ...], moving: bool = False) -> World:
        """
        Lay out a world.

        Parameters
        ----------
        height, width
            Of its pictures, in pixels.
        things
            How many there are at most; fewer where there is no room.
        seed
            Whole numbers.
        moving
            Let vehicles and boats move.

        Raises
        ------
        OptionError
            Pictures would be smaller than `SMALLEST`.
        """
        if min(height, width) < SMALLEST:
            raise OptionError(f"size=({height}, {width}): pictures have at least {SMALLEST} pixels along y and x")
        land = Land.survey(height + 2 * MARGIN, width + 2 * MARGIN, seed)
        rng = np.random.default_rng([*seed, 2])
        return cls(height, width, seed, land, tuple(_settle(rng, land, things, moving)))

    def paint(self) -> Pixels:
        """The ground, with a margin; shape (y, x, band)."""
        return self.land.paint()

    def annotations(self, frame: int = 0, drift: tuple[float, float] = (0.0, 0.0)) -> list[dict[str, Any]]:
        """
        What can be seen at a frame; the position of a thing in `things` is its `track_id`.

        Parameters
        ----------
        drift
            Where the origin of the picture lies, (x, y) in pixels of the undrifted one.
        """
        found = []
        for number, thing in enumerate(self.things):
            record = thing.annotation(frame, (drift[0] + MARGIN, drift[1] + MARGIN))
            x, y, w, h = record["bbox"]
            if 0 < x + w / 2 < self.width and 0 < y + h / 2 < self.height:
                found.append({**record, "track_id": number})
        return found

    def picture(self, ground: Pixels, frame: int = 0, drift: tuple[float, float] = (0.0, 0.0)) -> Pixels:
        """
        What a camera without noise would see; shape (y, x, band).

        Parameters
        ----------
        ground
            From `paint`.
        """
        dx, dy = drift[0] + MARGIN, drift[1] + MARGIN
        size = (self.width, self.height)
        shift = np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]])
        if float(dx).is_integer() and float(dy).is_integer():
            x, y = int(dx), int(dy)
            seen = ground[y : y + self.height, x : x + self.width].copy()
        else:
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            seen = np.asarray(cv2.warpAffine(ground, shift, size, flags=flags), np.uint8)
        for thing in self.things:
            thing.draw(seen, frame, (dx, dy))
        return seen


def _settle(rng: np.random.Generator, land: Land, things: int, moving: bool) -> list[Thing]:
    """Things along the roads and on the river that do not touch each other at first."""
    found: list[Thing] = []
    spots: list[tuple[float, float, float]] = []
    roads, rivers = ([(path, path.inside(land.width, land.height)) for path in p] for p in (land.roads, land.rivers))
    roads, rivers = ([(path, reach) for path, reach in p if reach[0] < reach[1]] for p in (roads, rivers))
    for _ in range(20 * things if roads or rivers else 0):
        if len(found) == things:
            break
        boat = bool(rivers) and (not roads or rng.random() < 0.2)
        path, reach = rivers[0] if boat else roads[int(rng.integers(len(roads)))]
        thing = placed(rng, ("boat",) if boat else ("car", "car", "truck", "house", "tank"), path, reach, moving)
        outline = thing.outline()
        low, high = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
        x, y, radius = (low[0] + high[0]) / 2, (low[1] + high[1]) / 2, max(high[0] - low[0], high[1] - low[1]) / 2
        inside = MARGIN < x < land.width - MARGIN and MARGIN < y < land.height - MARGIN
        free = all((x - a) ** 2 + (y - b) ** 2 > (radius + r + 4) ** 2 for a, b, r in spots)
        if inside and free and not (thing.kind in ("house", "tank") and _wet(land, x, y)):
            found.append(thing)
            spots.append((x, y, radius))
    return found


def _wet(land: Land, x: float, y: float) -> bool:
    """Whether a building would stand in the river."""
    river = land.rivers[0]
    return bool(np.hypot(*(river.points - (x, y)).T).min() < river.width / 2 + 45)
