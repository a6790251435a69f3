"""What can benchmarks read that compresses like real imagery, without downloading any?

Lossless codecs are judged by what they make of sensor noise, texture and edges, so noise-free gradients flatter them
and white noise slanders them. The four generators here imitate the statistics of real data, are deterministic for a
seed, and make 8192 x 8192 x 3 samples in a few seconds:

1. A *fractal* field, doubled in size step by step with equally strong new detail each time, has the 1/f^2 power
   spectrum of natural scenes.
2. *Dead leaves*, opaque discs and boxes whose sizes follow a power law, give the occluding edges and the flat and
   rough regions side by side.
3. *Sensor noise* is added last, scaled with the square root of the signal, and the sum is rounded to the dtype.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

_BANK = 1 << 22
"""Normal deviates drawn once for a seed; every band of rows reads them from another offset."""
_BAND = 256
"""Rows composed at a time, so that the temporaries stay near the cache."""


class _Noise:
    """Normal deviates at the cost of a copy: windows at random offsets into one bank of them."""

    def __init__(self, rng: np.random.Generator, size: int = _BANK) -> None:
        self._rng = rng
        self._bank = rng.standard_normal(size, dtype=np.float32)

    def field(self, height: int, width: int) -> Float:
        """Return (height, width) deviates; two fields never start at the same deviate, so no compressor sees a repeat within a chunk."""
        out = np.empty(height * width, np.float32)
        step = self._bank.size // 4
        for first in range(0, out.size, step):
            piece = out[first : first + step]
            start = int(self._rng.integers(self._bank.size - piece.size))
            piece[:] = self._bank[start : start + piece.size]
        return out.reshape(height, width)


def photograph(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Return a uint8 (c, y, x) array that compresses like a photograph of a natural or aerial scene.

    STATS
    """
    rng = np.random.default_rng(seed)
    noise = _Noise(rng)
    leaves = _leaves(rng, height, width, channels)
    detail = _fractal(noise, height, width, persistence=0.75)
    tint = [_fractal(noise, -(-height // 16), -(-width // 16)) for _ in range(channels)]
    out = np.empty((channels, height, width), np.uint8)
    for rows in _bands(height):
        patch = cv2.GaussianBlur(leaves[rows.start : rows.stop], (3, 3), 0.8).astype(np.float32)
        rough = patch[..., channels] * (1 / 255)
        texture = detail[rows.start : rows.stop] * (1.0 + 20.0 * rough**5)
        for c in range(channels):
            colour = _rows(tint[c], rows, height, width) * 9.0
            signal = patch[..., c] + colour + texture * (1.0 - 0.12 * c)
            sigma = np.sqrt(np.clip(signal, 1, 255) * 0.012 + 0.15)
            cv2.add(signal, noise.field(len(rows), width) * sigma, out[c, rows.start : rows.stop], dtype=cv2.CV_8U)
    return out


def multispectral(height: int, width: int, channels: int = 8, seed: int = 0) -> NDArray[np.uint16]:
    """Return a uint16 (c, y, x) array of reflectances times 10000 as in Sentinel-2: mostly 200 to 4000, noise of
    some 15 levels, bands correlated through the land cover they share but each with its own contrast."""
    rng = np.random.default_rng(seed)
    noise = _Noise(rng)
    cover = _leaves(rng, height, width, 2, largest=600)
    detail = _fractal(noise, height, width, persistence=0.75)
    gains = rng.uniform(0.4, 1.6, (channels, 2)) * (7.0, 5.0)
    out = np.empty((channels, height, width), np.uint16)
    for rows in _bands(height):
        patch = cv2.GaussianBlur(cover[rows.start : rows.stop], (3, 3), 0.7).astype(np.float32)
        texture = detail[rows.start : rows.stop] * (20.0 + patch[..., 2] * 0.4)
        for c in range(channels):
            signal = 150.0 + gains[c, 0] * patch[..., 0] + gains[c, 1] * patch[..., 1] + texture * gains[c, 0] / 9
            sigma = 2.0 + 0.25 * np.sqrt(np.clip(signal, 1, None))
            cv2.add(signal, noise.field(len(rows), width) * sigma, out[c, rows.start : rows.stop], dtype=cv2.CV_16U)
    return out


def elevation(height: int, width: int, seed: int = 0) -> Float:
    """Return float32 (1, y, x) heights in metres: 1/f^3.5 terrain over 2 km of relief with 5 cm of noise, so that
    about ten mantissa bits are as random as those of a lidar or stereo elevation model."""
    noise = _Noise(np.random.default_rng(seed))
    terrain = _fractal(noise, height, width, persistence=0.52)
    out = np.empty((1, height, width), np.float32)
    for rows in _bands(height):
        out[0, rows.start : rows.stop] = 900.0 + 350.0 * terrain[rows.start : rows.stop]
        out[0, rows.start : rows.stop] += 0.05 * noise.field(len(rows), width)
    return out


def labels(height: int, width: int, classes: int = 12, seed: int = 0) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return a (1, y, x) class map of blobs with ragged borders, uint8 (uint16 beyond 256 classes)."""
    rng = np.random.default_rng(seed)
    dtype = np.uint8 if classes <= 256 else np.uint16
    leaves = np.zeros((height, width), dtype)
    for centre, axes, angle in _shapes(rng, height, width, smallest=12, largest=700):
        cv2.ellipse(leaves, centre, axes, angle, 0, 360, int(rng.integers(classes)), cv2.FILLED)
    shift = _fractal(_Noise(rng), height, width, persistence=0.7) * 8.0
    out = np.empty((1, height, width), dtype)
    columns = np.arange(width, dtype=np.float32)[None]
    for rows in _bands(height):
        move = shift[rows.start : rows.stop]
        lines = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        out[0, rows.start : rows.stop] = cv2.remap(
            leaves, columns + move, lines - move, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
        )
    return out


def _bands(height: int) -> Iterator[range]:
    return (range(y, min(y + _BAND, height)) for y in range(0, height, _BAND))


def _fractal(noise: _Noise, height: int, width: int, persistence: float = 1.0) -> Float:
    """Return a (height, width) field of unit variance; ``persistence`` is how strong each octave is relative to the
    coarser one before it (1 gives a 1/f^2 power spectrum, 0.5 gives 1/f^4)."""
    sizes = [(height, width)]
    while min(sizes[-1]) > 8:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    out = noise.field(*sizes.pop())
    strength = variance = 1.0
    while sizes:
        h, w = sizes.pop()
        strength *= persistence
        variance += strength**2
        out = cv2.resize(out, (w, h), interpolation=cv2.INTER_LINEAR)
        cv2.scaleAdd(noise.field(h, w), strength, out, dst=out)
    out /= np.float32(variance**0.5)
    return out


def _rows(coarse: Float, rows: range, height: int, width: int) -> Float:
    """Return ``rows`` of the (height, width) enlargement of ``coarse``."""
    scale = (coarse.shape[0] - 1) / height
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] * scale + np.zeros((1, width), np.float32)
    x = np.arange(width, dtype=np.float32)[None] * ((coarse.shape[1] - 1) / width) + np.zeros_like(y)
    return cv2.remap(coarse, x, y, cv2.INTER_LINEAR)


def _shapes(
    rng: np.random.Generator, height: int, width: int, smallest: int, largest: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int], float]]:
    """Yield (centre, half axes, angle) of leaves that cover the image about three times, the largest first."""
    largest = max(smallest + 1, min(largest, min(height, width) // 2))
    # radii with density r^-3 between the bounds: equal area per octave, hence scale invariance
    mean_area = np.pi * 2 * np.log(largest / smallest) / (smallest**-2 - largest**-2)
    count = int(3 * height * width / mean_area) + 16
    u = rng.random(count)
    radii = (largest**-2 + u * (smallest**-2 - largest**-2)) ** -0.5
    ys, xs = rng.integers(0, height, count), rng.integers(0, width, count)
    aspects, angles = rng.uniform(0.4, 1.0, count), rng.uniform(0, 180, count)
    busy = rng.standard_normal((8, 8))[ys * 8 // height, xs * 8 // width] > 0.3
    for y, x, r, aspect, angle, crowded in zip(ys, xs, np.sort(radii)[::-1], aspects, angles, busy, strict=True):
        # small things come in crowds: towns and woods beside fields, water and sky
        if r < 60 and not crowded:
            continue
        yield (int(x), int(y)), (int(r), max(1, int(r * aspect))), float(angle)


def _leaves(
    rng: np.random.Generator, height: int, width: int, channels: int, smallest: int = 5, largest: int = 900
) -> NDArray[np.uint8]:
    """Return a uint8 (y, x, channels + 1) picture of opaque leaves; the last channel says how rough each is."""
    out = np.full((height, width, channels + 1), 110, np.uint8)
    for number, (centre, axes, angle) in enumerate(_shapes(rng, height, width, smallest, largest)):
        grey = rng.normal(110, 36)
        colour = [*(grey + rng.normal(0, 14, channels)).clip(5, 245).tolist(), float(rng.integers(256))]
        if number % 3:
            cv2.ellipse(out, centre, axes, angle, 0, 360, colour, cv2.FILLED)
        else:
            box = cv2.boxPoints((centre, (2.0 * axes[0], 2.0 * axes[1]), angle)).astype(np.int32)
            cv2.fillConvexPoly(out, box, colour)
    return out
