"""The made-up country of the toy data, and the camera that looks at it.

A `World` is ground with things on it.  Its layout and annotations are made at once, its pixels when they are asked
for.  Everything follows from the seed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, cached_property
from math import atan2, cos, sin
from numbers import Integral
from typing import Any, TypeAlias

import cv2
import numpy as np

from ndzarr.errors import OptionError

Points: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
"""Shape (n, 2): x, y in pixels."""
Pixels: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
"""Shape (y, x, band)."""


@dataclass(frozen=True, eq=False)
class Path:
    """A road or a river."""

    points: Points
    """Middle line."""
    width: float
    """Pixels."""

    @cached_property
    def _stops(self) -> Points:
        steps = np.linalg.norm(np.diff(self.points, axis=0), axis=1)
        return np.concatenate([[0.0], np.cumsum(steps)])

    def at(self, way: float, aside: float = 0.0) -> tuple[float, float, float]:
        """
        Return x, y and direction (radians) at a distance from the beginning, and to the right of the middle line.

        Distances are pixels; beyond an end, the last segment goes on.
        """
        stops, corners = self._lists
        piece = min(max(bisect_left(stops, way) - 1, 0), len(corners) - 2)
        (x0, y0), (x1, y1) = corners[piece], corners[piece + 1]
        angle = atan2(y1 - y0, x1 - x0)
        beyond = way - stops[piece]
        along, across = cos(angle), sin(angle)
        return x0 + beyond * along - aside * across, y0 + beyond * across + aside * along, angle

    @cached_property
    def _lists(self) -> tuple[list[float], list[list[float]]]:
        """`_stops` and `points` as Python numbers, which are quicker for single points."""
        return self._stops.tolist(), self.points.tolist()

    def inside(self, width: int, height: int) -> tuple[float, float]:
        """Return the distances of the first and the last point in a picture; equal if there is none."""
        ways = np.linspace(0, float(self._stops[-1]), 300)
        x, y = (np.interp(ways, self._stops, self.points[:, k]) for k in (0, 1))
        found = ways[(x > 0) & (x < width) & (y > 0) & (y < height)]
        return (float(found[0]), float(found[-1])) if len(found) else (0.0, 0.0)


BANDS = ("r", "g", "b", "nir")
"""Bands of everything that is painted."""
_FIELD = 260.0
"""Typical side of a field in pixels."""
_ROADS = 900.0
"""Side in pixels above which fields are cut by a road."""
_CROPS = (
    (92, 118, 58, 190), (124, 134, 66, 178), (74, 100, 52, 200), (168, 156, 96, 150), (150, 128, 92, 120),
    (186, 172, 122, 140), (110, 124, 72, 185), (132, 108, 80, 105), (98, 128, 66, 205),
)  # fmt: skip
"""Meadows, corn, stubble and ploughed soil."""
_WOOD, _WATER, _ROAD, _TREE = (58, 78, 46, 150), (44, 74, 86, 12), (148, 144, 138, 92), (66, 96, 48, 190)
_TILE = 1024
"""Side of the texture in pixels; it repeats without a seam."""


@dataclass(frozen=True, eq=False)
class Land:
    """The ground."""

    height: int
    width: int
    seed: tuple[int, ...]
    fields: tuple[Points, ...]
    """Corners of each, shape (4, 2)."""
    roads: tuple[Path, ...]
    rivers: tuple[Path, ...]

    @classmethod
    def survey(cls, height: int, width: int, seed: tuple[int, ...]) -> Land:
        """Lay out fields, roads and a river; pixels are made by `paint`."""
        rng = np.random.default_rng([*seed, 0])
        radius = float(np.hypot(height, width)) / 2 + 8
        fields: list[Points] = []
        roads: list[Points] = []
        _cut(rng, (-radius, -radius, radius, radius), fields, roads)
        angle = rng.uniform(0, np.pi)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        middle = np.array([width / 2, height / 2])
        return cls(
            height,
            width,
            seed,
            tuple(corners @ turn + middle for corners in fields),
            tuple(Path(line @ turn + middle, 26.0) for line in roads),
            (_river(rng, radius, middle),),
        )

    def paint(self) -> Pixels:
        """Paint the ground without sensor noise; shape (y, x, band)."""
        rng = np.random.default_rng([*self.seed, 1])
        picture = np.full((self.height, self.width, 4), _CROPS[0], np.uint8)
        furrows = np.zeros((self.height, self.width), np.uint8)
        woods = []
        for corners in self.fields:
            kind = int(rng.integers(len(_CROPS) + 1))
            colour = np.clip(np.array(_CROPS[kind] if kind < len(_CROPS) else _WOOD) + rng.normal(0, 7, 4), 5, 245)
            fill(picture, corners, colour)
            if kind == len(_CROPS):
                woods.append(corners)
            elif rng.random() < 0.5:
                fill(furrows, corners, [rng.uniform(20, 110)])
        _texture(picture, furrows, rng, self.fields)
        for corners in woods:
            _plant(rng, picture, corners)
        for river in self.rivers:
            _line(picture, river, (120, 112, 84, 120), 14)
            _line(picture, river, _WATER, 0)
        for road in self.roads:
            _line(picture, road, (112, 116, 84, 130), 8)
            _line(picture, road, _ROAD, 0)
            _line(picture, road, (188, 186, 180, 120), 2 - road.width)
        return picture


def fill(picture: Pixels, outline: Points, colour: Any) -> None:
    """Fill a polygon with antialiased edges; pixel i covers [i, i + 1)."""
    points = np.rint((outline - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(picture, [points], [float(v) for v in colour], lineType=cv2.LINE_AA, shift=4)


def _cut(
    rng: np.random.Generator, box: tuple[float, float, float, float], fields: list[Points], roads: list[Points]
) -> None:
    x0, y0, x1, y1 = box
    longer = max(x1 - x0, y1 - y0)
    if longer < _FIELD * rng.uniform(0.7, 1.8) and roads:
        fields.append(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
        return
    part = rng.uniform(0.38, 0.62)
    if x1 - x0 >= y1 - y0:
        x = x0 + part * (x1 - x0)
        halves, line = ((x0, y0, x, y1), (x, y0, x1, y1)), [[x, y0], [x, y1]]
    else:
        y = y0 + part * (y1 - y0)
        halves, line = ((x0, y0, x1, y), (x0, y, x1, y1)), [[x0, y], [x1, y]]
    if not roads or longer > 2 * _ROADS:
        roads.append(np.array(line))
    for half in halves:
        _cut(rng, half, fields, roads)


def _river(rng: np.random.Generator, radius: float, middle: Points) -> Path:
    along = np.arange(-radius, radius + 24, 24.0)
    waves = [(rng.uniform(0.5, 1.5) * 30, rng.uniform(250, 700), rng.uniform(0, 6.3)) for _ in range(3)]
    across = sum(size * np.sin(along * 6.28 / length + phase) for size, length, phase in waves)
    across = across + rng.choice([-1, 1]) * rng.uniform(0.2, 0.5) * radius
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return Path(np.stack([along, across], axis=1) @ turn + middle, 90.0)


def _line(picture: Pixels, path: Path, colour: tuple[int, ...], wider: float) -> None:
    points = np.rint((path.points - 0.5) * 16).astype(np.int32)
    thickness = max(1, round(path.width + wider))
    cv2.polylines(picture, [points], False, [float(v) for v in colour], thickness, cv2.LINE_AA, shift=4)


def _plant(rng: np.random.Generator, picture: Pixels, corners: Points) -> None:
    """Paint trees with shadows, the southern ones in front."""
    height, width = picture.shape[:2]
    low, high = np.clip(corners.min(axis=0), 0, (width, height)), np.clip(corners.max(axis=0), 0, (width, height))
    count = int(np.prod(high - low) / 180)
    spots = rng.uniform(low, np.maximum(high, low + 1), (count, 2))
    spots = spots[np.argsort(spots[:, 1])]
    outline = corners.astype(np.float32)
    for (x, y), radius, light in zip(
        spots.tolist(), rng.uniform(4, 11, count).tolist(), rng.normal(1, 0.16, count).tolist(), strict=True
    ):
        if cv2.pointPolygonTest(outline, (x, y), False) < 0:
            continue
        colour = np.array(_TREE) * light
        for shift, size, shade in ((3, 1.0, 0.45), (0, 1.0, 1.0), (-0.35 * radius, 0.5, 1.2)):
            centre = round((x + shift) * 16), round((y + shift) * 16)
            tone = np.clip(colour * shade, 0, 255).tolist()
            cv2.circle(picture, centre, round(radius * size * 16), tone, -1, cv2.LINE_AA, shift=4)


def _texture(picture: Pixels, furrows: Pixels, rng: np.random.Generator, fields: tuple[Points, ...]) -> None:
    """Add a fractal, and the furrows along the fields' first edges, to all bands; bands of rows at a time."""
    height, width = picture.shape[:2]
    edge = fields[0][1] - fields[0][0]
    direction = edge / np.linalg.norm(edge) * (2 * np.pi / 7)
    grain = np.roll(_fractal(), rng.integers(_TILE, size=2).tolist(), axis=(0, 1))
    grain = np.tile(grain, (1, -(-width // _TILE)))[:, :width]
    tall = cv2.resize(_fractal()[::8, ::8], (_TILE // 8, height), interpolation=cv2.INTER_CUBIC)
    x = np.arange(width, dtype=np.float32) * np.float32(direction[0])
    for y in range(0, height, 256):
        rows = slice(y, min(y + 256, height))
        wave = np.sin(x + np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] * np.float32(direction[1]))
        coarse = cv2.resize(tall[rows], (width, len(wave)), interpolation=cv2.INTER_CUBIC)
        change = 9 * grain[np.arange(rows.start, rows.stop) % _TILE] + 6 * coarse
        change += wave * furrows[rows] * np.float32(0.12)
        cv2.add(picture[rows], cv2.merge([change, change, change * 0.8, change * 1.3]), picture[rows], dtype=cv2.CV_8U)


@cache
def _fractal() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return noise of unit variance with a 1/f^2 power spectrum that repeats without a seam; shape (_TILE, _TILE)."""
    rng = np.random.default_rng(7)
    fy, fx = np.fft.fftfreq(_TILE)[:, None], np.fft.rfftfreq(_TILE)
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((_TILE, _TILE))) / frequency
    spectrum[frequency < 4 / _TILE] = 0
    field = np.fft.irfft2(spectrum, (_TILE, _TILE))
    return np.asarray(field / field.std(), np.float32)


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
"""Categories as kwcoco has them."""
KEYPOINTS: tuple[dict[str, Any], ...] = ({"id": 1, "name": "front"}, {"id": 2, "name": "back"})
PIXELS_PER_METRE = 5.0
"""Resolution of everything that is drawn."""
_MOVERS = ("car", "truck", "boat")
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
"""Shadow of something a metre high, in metres along x and y."""


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """A vehicle, boat or building."""

    kind: str
    """Name of its category."""
    path: Path
    start: float
    """Distance along the path at frame 0, in pixels."""
    aside: float
    """Distance to the right of the path, in pixels."""
    speed: float
    """Pixels per frame along the path, negative against it; 0 if it does not move."""
    size: float
    """Size relative to its kind."""
    colour: tuple[int, int, int]
    turn: float = 0.0
    """Added to the direction of the path, in radians."""

    def place(self, points: Points, frame: int = 0) -> Points:
        """Convert points in metres of its own to pixels of the world at a frame."""
        x, y, angle = self.path.at(self.start + self.speed * frame, self.aside)
        angle += self.turn + (np.pi if self.speed < 0 else 0)
        size = self.size * PIXELS_PER_METRE
        a, b = size * cos(angle), size * sin(angle)
        return np.asarray(points @ np.array([[a, b], [-b, a]]) + (x, y))

    def outline(self, frame: int = 0) -> Points:
        """Return its outline in pixels of the world."""
        return self.place(_outline(self.kind), frame)

    def annotation(self, frame: int = 0, offset: tuple[float, float] = (0, 0)) -> dict[str, Any]:
        """Return kwcoco's dictionary without ids, for an image whose origin is at `offset` (x, y)."""
        outline = (self.outline(frame) - offset).round(2)
        (x0, y0), (x1, y1) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
        found: dict[str, Any] = {
            "category_id": _IDS[self.kind],
            "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
            "segmentation": [{"exterior": outline.tolist(), "interiors": []}],
        }
        if self.kind in _MOVERS:
            half = _SIZES[self.kind][0] / 2
            ends = (self.place(np.array([[half, 0.0], [-half, 0.0]]), frame) - offset).round(2)
            found["keypoints"] = [
                {"xy": xy, "keypoint_category_id": point["id"], "keypoint_category": point["name"]}
                for xy, point in zip(ends.tolist(), KEYPOINTS, strict=True)
            ]
        return found

    def draw(self, picture: Pixels, frame: int = 0, offset: tuple[float, float] = (0, 0)) -> None:
        """Draw it and its shadow into a picture whose origin is at `offset` (x, y)."""
        height = {"car": 0.5, "boat": 0.4, "truck": 1.0, "house": 2.2, "tank": 2.5}[self.kind]
        outline = self.outline(frame) - offset
        for part in (0.5, 1.0):
            _shade(picture, outline + _SHADOW * height * PIXELS_PER_METRE * part * self.size)
        for polygon, light in _parts(self.kind):
            tone = np.clip(np.array([*self.colour, 90.0]) * light, 0, 255)
            fill(picture, self.place(polygon, frame) - offset, tone)


def place_things(
    rng: np.random.Generator, kinds: tuple[str, ...], path: Path, reach: tuple[float, float], moving: bool
) -> Thing:
    """Make one of some kinds somewhere along a path, within a reach (first and last distance along it)."""
    kind = kinds[int(rng.integers(len(kinds)))]
    start, side = rng.uniform(*reach), float(2 * rng.integers(2) - 1)
    paint = _PAINTS[kind][int(rng.integers(len(_PAINTS[kind])))]
    size, speed = rng.uniform(0.85, 1.2), rng.uniform(4, 12)
    aside = {"boat": rng.uniform(12, 24), "car": 6.5, "truck": 6.5}.get(kind, 58 + rng.uniform(0, 24)) * side
    if moving and kind in _MOVERS:
        return Thing(kind, path, start, aside, side * speed, size, paint)
    return Thing(kind, path, start, aside, 0.0, size, paint, np.pi if side < 0 else 0.0)


def _box(x0: float, x1: float, half: float, c: float = 0.0) -> Points:
    """Return a box; `c` metres are cut off its corners."""
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
    """Return (polygon, brightness) of the parts, in the order in which they are drawn."""
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


MARGIN = 24
"""Pixels of the world beyond each border of a picture, within which the camera drifts."""
SMALLEST = 32
"""Minimum height and width of a picture, in pixels."""


def picture_size(size: Any) -> tuple[int, int]:
    """Return the (height, width) of a picture in pixels; raise `OptionError` if it is something else."""
    found = tuple(size) if isinstance(size, Iterable) else ()
    if len(found) != 2 or not all(isinstance(n, Integral) for n in found):
        raise OptionError(f"size={size!r}: expected (height, width) in whole pixels", key="size")
    return int(found[0]), int(found[1])


@dataclass(frozen=True, eq=False)
class World:
    """A piece of country, and what is on it."""

    height: int
    """Height of its pictures, in pixels."""
    width: int
    seed: tuple[int, ...]
    land: Land
    """Ground, larger than pictures by `MARGIN` on each side."""
    things: tuple[Thing, ...]

    @classmethod
    def make(cls, height: int, width: int, things: int, seed: tuple[int, ...], moving: bool = False) -> World:
        """Lay out a world of at most so many things; fewer if there is no room. `moving` vehicles and boats move."""
        if min(height, width) < SMALLEST:
            message = f"size=({height}, {width}): pictures have at least {SMALLEST} pixels along y and x"
            raise OptionError(message, key="size")
        land = Land.survey(height + 2 * MARGIN, width + 2 * MARGIN, seed)
        rng = np.random.default_rng([*seed, 2])
        return cls(height, width, seed, land, tuple(_settle(rng, land, things, moving)))

    def annotations(self, frame: int = 0, drift: tuple[float, float] = (0.0, 0.0)) -> list[dict[str, Any]]:
        """
        Return what can be seen at a frame; the position of a thing in `things` is its `track_id`.

        `drift` is the origin of the picture, (x, y) in pixels of the undrifted one.
        """
        found = []
        for number, thing in enumerate(self.things):
            record = thing.annotation(frame, (drift[0] + MARGIN, drift[1] + MARGIN))
            x, y, w, h = record["bbox"]
            if 0 < x + w / 2 < self.width and 0 < y + h / 2 < self.height:
                found.append({**record, "track_id": number})
        return found

    def picture(self, ground: Pixels, frame: int = 0, drift: tuple[float, float] = (0.0, 0.0)) -> Pixels:
        """Return what a camera without noise sees, shape (y, x, band); `ground` is from `land.paint`."""
        dx, dy = drift[0] + MARGIN, drift[1] + MARGIN
        if float(dx).is_integer() and float(dy).is_integer():
            x, y = int(dx), int(dy)
            seen = ground[y : y + self.height, x : x + self.width].copy()
        else:
            shift, flags = np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            seen = np.asarray(cv2.warpAffine(ground, shift, (self.width, self.height), flags=flags), np.uint8)
        for thing in self.things:
            thing.draw(seen, frame, (dx, dy))
        return seen


def _settle(rng: np.random.Generator, land: Land, things: int, moving: bool) -> list[Thing]:
    """Place things along the roads and on the river that do not touch each other at frame 0."""
    found: list[Thing] = []
    spots: list[tuple[float, float, float]] = []
    roads, rivers = ([(path, path.inside(land.width, land.height)) for path in p] for p in (land.roads, land.rivers))
    roads, rivers = ([(path, reach) for path, reach in p if reach[0] < reach[1]] for p in (roads, rivers))
    for _ in range(20 * things if roads or rivers else 0):
        if len(found) == things:
            break
        boat = bool(rivers) and (not roads or rng.random() < 0.2)
        path, reach = rivers[0] if boat else roads[int(rng.integers(len(roads)))]
        thing = place_things(rng, ("boat",) if boat else ("car", "car", "truck", "house", "tank"), path, reach, moving)
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
    """Return True if a building would stand in the river."""
    river = land.rivers[0]
    return bool(np.hypot(*(river.points - (x, y)).T).min() < river.width / 2 + 45)


_ROWS = 256
"""Number of rows that are exposed at a time."""


def exposed(picture: Pixels, rng: np.random.Generator, depth: int = 8) -> np.ndarray[Any, Any]:
    """
    Return a picture as a sensor records it: softened by the lens, with photon noise; shape (y, x, band).

    A depth of 8 bits gives uint8; 16 gives uint16 as reflectance times 10000, at least 1.
    """
    out = np.empty(picture.shape, np.uint8 if depth == 8 else np.uint16)
    scale, low = (1.0, 0) if depth == 8 else (10000 / 255, 1)
    for y in range(0, len(picture), _ROWS):  # so that temporaries stay small
        above = min(y, 2)
        soft = cv2.GaussianBlur(picture[y - above : y + _ROWS + 2], (5, 5), 0.7)
        signal = soft[above : above + len(out[y : y + _ROWS])].astype(np.float32)
        noise = rng.standard_normal(signal.shape, dtype=np.float32)
        signal += noise * np.sqrt(np.maximum(signal, 1) * np.float32(0.03) + np.float32(0.5))
        out[y : y + _ROWS] = np.rint(np.clip(signal * scale, low, 255 * scale))
    return out


def drifts(seed: tuple[int, ...], frames: int) -> list[tuple[float, float]]:
    """Return the origin of each frame: (x, y) in video space, quarters of pixels up to 8 pixels, first (0, 0)."""
    steps = np.random.default_rng([*seed, 3]).normal(0, 8 / 3, (frames, 2)).cumsum(axis=0)
    quarters = np.rint(np.clip(steps - steps[:1], -8, 8) * 4) / 4
    return [(float(x), float(y)) for x, y in quarters]


def date(frame: int) -> str:
    """Return when a frame is taken (ISO 8601): a day after the one before."""
    return (datetime(2024, 5, 1, 10, 30) + timedelta(days=frame)).isoformat()
