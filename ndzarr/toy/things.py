"""What stands or moves on the ground, how is it drawn, and how is it annotated?

Shapes are drawn in metres, the front along +x, and turned to where things go.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import cos, sin
from typing import Any

import numpy as np

from ndzarr.toy.land import Pixels, fill
from ndzarr.toy.paths import Path, Points

CATEGORIES: tuple[dict[str, Any], ...] = (
    {"id": 1, "name": "mover"},
    {"id": 2, "name": "vehicle", "supercategory": "mover"},
    {"id": 3, "name": "car", "supercategory": "vehicle", "keypoints": ["front", "back"]},
    {"id": 4, "name": "truck", "supercategory": "vehicle", "keypoints": ["front", "back"]},
    {"id": 5, "name": "boat", "supercategory": "mover", "keypoints": ["front", "back"]},
    {"id": 6, "name": "building"},
    {"id": 7, "name": "house", "supercategory": "building"},
    {"id": 8, "name": "tank", "supercategory": "building"},
)
"""As kwcoco has them."""

KEYPOINTS: tuple[dict[str, Any], ...] = ({"id": 1, "name": "front"}, {"id": 2, "name": "back"})
"""Keypoint categories."""

PIXELS_PER_METRE = 5.0
"""Of everything that is drawn."""

_IDS = {category["name"]: category["id"] for category in CATEGORIES}
_SIZES = {"car": (4.6, 2.0), "truck": (9.5, 2.6), "boat": (9.0, 3.2), "house": (12.0, 9.0), "tank": (10.0, 10.0)}
"""(length, width) in metres."""
_PAINTS = {
    "car": ((176, 32, 36), (236, 236, 232), (40, 66, 120), (32, 34, 38), (150, 154, 158), (214, 170, 52)),
    "truck": ((226, 226, 220), (46, 92, 148), (198, 96, 40)),
    "boat": ((240, 238, 230), (222, 210, 180), (166, 52, 44)),
    "house": ((170, 84, 62), (142, 76, 60), (120, 116, 116), (188, 110, 76)),
    "tank": ((214, 214, 208), (190, 196, 198)),
}
_SHADOW = np.array([1.2, 1.4])
"""Of something a metre high, in metres along x and y."""


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """Something to be found in a picture."""

    kind: str
    """Its category."""
    path: Path
    """The road or river where it is."""
    start: float
    """How far along the path it is at first, in pixels."""
    aside: float
    """How far to the right of the path, in pixels."""
    speed: float
    """Pixels per frame along the path, negative against it; 0 for what stands."""
    size: float
    """Relative to others of its kind."""
    colour: tuple[int, int, int]
    """Red, green, blue."""
    turn: float = 0.0
    """Added to the direction of the path, in radians."""

    def place(self, points: Points, frame: int = 0) -> Points:
        """Points in metres of its own, shape (n, 2), to pixels of the world at a frame."""
        x, y, angle = self.path.at(self.start + self.speed * frame, self.aside)
        angle += self.turn + (np.pi if self.speed < 0 else 0)
        size = self.size * PIXELS_PER_METRE
        a, b = size * cos(angle), size * sin(angle)
        out: Points = points @ np.array([[a, b], [-b, a]]) + (x, y)
        return out

    def outline(self, frame: int = 0) -> Points:
        """Its outline in pixels of the world, shape (n, 2)."""
        return self.place(_outline(self.kind), frame)

    def annotation(self, frame: int = 0, offset: tuple[float, float] = (0, 0)) -> dict[str, Any]:
        """Kwcoco's dictionary, in an image whose origin lies at `offset` (x, y); without ids of its own."""
        outline = (self.outline(frame) - offset).round(2)
        (x0, y0), (x1, y1) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
        found: dict[str, Any] = {
            "category_id": _IDS[self.kind],
            "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
            "segmentation": [{"exterior": outline.tolist(), "interiors": []}],
        }
        if self.moves:
            half = _SIZES[self.kind][0] / 2
            ends = (self.place(np.array([[half, 0.0], [-half, 0.0]]), frame) - offset).round(2)
            found["keypoints"] = [
                {"xy": xy, "keypoint_category_id": point["id"], "keypoint_category": point["name"]}
                for xy, point in zip(ends.tolist(), KEYPOINTS, strict=True)
            ]
        return found

    @property
    def moves(self) -> bool:
        """Whether it is of a kind that does."""
        return self.kind in ("car", "truck", "boat")

    def draw(self, picture: Pixels, frame: int = 0, offset: tuple[float, float] = (0, 0)) -> None:
        """Draw it, and its shadow, into a picture whose origin lies at `offset` (x, y)."""
        height = {"car": 0.5, "boat": 0.4, "truck": 1.0, "house": 2.2, "tank": 2.5}[self.kind]
        outline = self.outline(frame) - offset
        for part in (0.5, 1.0):
            _shade(picture, outline + _SHADOW * height * PIXELS_PER_METRE * part * self.size)
        for polygon, light in _parts(self.kind):
            tone = np.clip(np.array([*self.colour, 90.0]) * light, 0, 255)
            fill(picture, self.place(polygon, frame) - offset, tone)


def placed(
    rng: np.random.Generator, kinds: tuple[str, ...], path: Path, reach: tuple[float, float], moving: bool
) -> Thing:
    """One of some kinds, somewhere along a path within a reach (first and last pixel along it)."""
    kind = kinds[int(rng.integers(len(kinds)))]
    start, side = rng.uniform(*reach), float(2 * rng.integers(2) - 1)
    paint = _PAINTS[kind][int(rng.integers(len(_PAINTS[kind])))]
    size, speed = rng.uniform(0.85, 1.2), rng.uniform(4, 12)
    aside = {"boat": rng.uniform(12, 24), "car": 6.5, "truck": 6.5}.get(kind, 58 + rng.uniform(0, 24)) * side
    goes = kind not in ("house", "tank")
    # who does not move looks along the path or against it all the same
    turn = 0.0 if moving and goes else (np.pi if side < 0 else 0.0)
    return Thing(kind, path, start, aside, side * speed if moving and goes else 0.0, size, paint, turn)


def _box(x0: float, x1: float, half: float, corner: float = 0.0) -> Points:
    """A box whose corners are cut off."""
    c = corner
    if not c:
        return np.array([(x0, -half), (x1, -half), (x1, half), (x0, half)])
    return np.array(
        [(x0, c - half), (x0 + c, -half), (x1 - c, -half), (x1, c - half), (x1, half - c), (x1 - c, half),
         (x0 + c, half), (x0, half - c)]
    )  # fmt: skip


def _disc(x: float, y: float, radius: float) -> Points:
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def _hull(length: float, width: float) -> Points:
    half = length / 2
    return np.array(
        [(-half, -0.38 * width), (0.1 * half, -width / 2), (0.65 * half, -0.3 * width), (half, 0.0),
         (0.65 * half, 0.3 * width), (0.1 * half, width / 2), (-half, 0.38 * width)]
    )  # fmt: skip


@cache
def _outline(kind: str) -> Points:
    length, width = _SIZES[kind]
    if kind == "boat":
        return _hull(length, width)
    if kind == "tank":
        return _disc(0, 0, length / 2)
    return _box(-length / 2, length / 2, width / 2, {"car": 0.5, "truck": 0.3, "house": 0.0}[kind])


@cache
def _parts(kind: str) -> list[tuple[Points, float]]:
    """(polygon, brightness) of what is drawn over each other."""
    length, width = _SIZES[kind]
    whole = _outline(kind)
    if kind == "car":
        return [
            (whole, 1.0),
            (_box(0.2, 1.1, 0.8, 0.2), 0.25),
            (_box(-1.9, -1.3, 0.75, 0.2), 0.3),
            (_box(-1.2, 0.1, 0.8, 0.2), 1.12),
        ]
    if kind == "truck":
        return [
            (whole, 0.35),
            (_box(-length / 2, 2.0, width / 2), 1.0),
            (_box(2.3, length / 2, width / 2 - 0.1, 0.3), 0.8),
            (_box(3.6, 4.2, 1.0, 0.1), 0.3),
        ]
    if kind == "boat":
        return [(whole, 1.0), (whole * 0.78, 0.72), (_box(-2.2, 0.8, 0.85, 0.2), 1.1), (_box(0.3, 0.8, 0.8, 0.1), 0.3)]
    if kind == "house":
        h, w = length / 2, width / 2
        north, south = np.array([(-h, -w), (h, -w), (h, 0), (-h, 0)]), np.array([(-h, 0), (h, 0), (h, w), (-h, w)])
        chimney = _box(1.5, 2.7, 0.6) - np.array([0, 2.2])
        return [(north, 1.12), (south, 0.78), (chimney, 0.5)]
    return [(whole, 0.9), (_disc(-0.3, -0.3, 4.3), 1.05), (_disc(-0.8, -0.8, 2.2), 1.12), (_disc(0, 0, 0.5), 0.6)]


def _shade(picture: Pixels, outline: Points) -> None:
    """Darken a polygon."""
    height, width = picture.shape[:2]
    x0, y0 = np.clip(np.floor(outline.min(axis=0)) - 1, 0, (width, height)).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(outline.max(axis=0)) + 2, 0, (width, height)).astype(int).tolist()
    if x0 >= x1 or y0 >= y1:
        return
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    fill(mask, outline - (x0, y0), [255])
    part = picture[y0:y1, x0:x1]
    part[:] = part * (1 - mask[..., None] * (0.3 / 255))
