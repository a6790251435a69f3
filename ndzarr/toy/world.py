"""What does a camera see of the country at a moment?

A `World` is ground with things on it.  Its layout and annotations are made at once, its pixels when they are asked
for; everything follows from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    spots = np.empty((0, 3))
    inner = land.width, land.height
    for _ in range(20 * things):
        if len(found) == things:
            break
        boat = rng.random() < 0.2
        path = land.rivers[0] if boat else land.roads[int(rng.integers(len(land.roads)))]
        thing = placed(rng, ("boat",) if boat else ("car", "car", "truck", "house", "tank"), path, *inner, moving)
        if thing is None:
            continue
        outline = thing.outline()
        (x, y), radius = outline.mean(axis=0), float(np.ptp(outline, axis=0).max()) / 2
        inside = MARGIN < x < inner[0] - MARGIN and MARGIN < y < inner[1] - MARGIN
        free = not len(spots) or bool((np.hypot(*(spots[:, :2] - (x, y)).T) > spots[:, 2] + radius + 4).all())
        dry = thing.kind == "boat" or not _wet(land, x, y, thing.kind)
        if inside and free and dry:
            found.append(thing)
            spots = np.vstack([spots, (x, y, radius)])
    return found


def _wet(land: Land, x: float, y: float, kind: str) -> bool:
    """Whether a building would stand in the river."""
    if kind in ("car", "truck"):
        return False  # on bridges
    river = land.rivers[0]
    return bool(np.hypot(*(river.points - (x, y)).T).min() < river.width / 2 + 45)
