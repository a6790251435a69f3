"""What does the ground look like from the air?

1. The plane is cut into fields, again and again, along two directions at right angles; the first cuts are roads.
2. A river winds through it.
3. Fields are painted in the colours of crops, some with furrows, some with trees; then the river, and the roads.
4. A fractal texture (power spectrum 1/f^2, as natural scenes have) lies over everything.

Pictures have four bands: red, green, blue and near infrared, where plants are bright and water is black.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np

from ndzarr.toy.paths import Path, Points

BANDS = ("r", "g", "b", "nir")
"""Of everything that is painted."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

_FIELD = 260.0
"""Typical side of a field in pixels."""
_ROADS = 900.0
"""Fields larger than this are cut by a road."""
_CROPS = (
    (92, 118, 58, 190), (124, 134, 66, 178), (74, 100, 52, 200), (168, 156, 96, 150), (150, 128, 92, 120),
    (186, 172, 122, 140), (110, 124, 72, 185), (132, 108, 80, 105), (98, 128, 66, 205),
)  # fmt: skip
"""Meadows, corn, stubble and ploughed soil."""
_WOOD, _WATER, _ROAD, _TREE = (58, 78, 46, 150), (44, 74, 86, 12), (148, 144, 138, 92), (66, 96, 48, 190)
_TILE = 1024
"""Side of the texture, which repeats without a seam."""


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
        """The ground without sensor noise; shape (y, x, band)."""
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
    """Fill a polygon of points x, y, whose edges are antialiased; pixel i covers [i, i + 1)."""
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
    """Trees with shadows, the southern ones in front."""
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
    """A field of unit variance with a 1/f^2 power spectrum that repeats without a seam; shape (_TILE, _TILE)."""
    rng = np.random.default_rng(7)
    fy, fx = np.fft.fftfreq(_TILE)[:, None], np.fft.rfftfreq(_TILE)
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((_TILE, _TILE))) / frequency
    spectrum[frequency < 4 / _TILE] = 0
    field = np.fft.irfft2(spectrum, (_TILE, _TILE))
    return np.asarray(field / field.std(), np.float32)
