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

_TILE = 1024
"""Edge of a tile of noise in pixels; the bank it is cut from has twice this edge."""
_BAND = 256
"""Rows composed at a time, so that the temporaries stay near the cache."""


class _Noise:
    """Normal deviates at the cost of a copy: tiles at random places of one bank of them."""

    def __init__(self, rng: np.random.Generator, blur: float = 0.0) -> None:
        """Draw the bank; ``blur`` (pixels) correlates neighbours as demosaicing does, the variance stays one."""
        self._rng = rng
        self._bank = rng.standard_normal((2 * _TILE, 2 * _TILE), dtype=np.float32)
        if blur:
            self._bank = cv2.GaussianBlur(self._bank, (5, 5), blur).astype(np.float32, copy=False)
            self._bank /= self._bank.std()

    def field(self, height: int, width: int) -> Float:
        """Return (height, width) deviates; tiles begin at different places, so that nothing repeats in a chunk."""
        out = np.empty((height, width), np.float32)
        for y in range(0, height, _TILE):
            for x in range(0, width, _TILE):
                tile = out[y : y + _TILE, x : x + _TILE]
                top, left = self._rng.integers(_TILE, size=2)
                tile[:] = self._bank[top : top + tile.shape[0], left : left + tile.shape[1]]
        return out


def photograph(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Return a uint8 (c, y, x) array that compresses like a photograph of a natural or aerial scene.

    Compared with the photographs that scikit-image and scikit-learn ship, at their own resolution and cut into
    128 x 128 x 3 chunks (``python -m benchmarks.layouts`` prints the table): between ``astronaut``, ``coffee``,
    ``chelsea`` and ``china``, which are sharper or noisier and compress less, and ``rocket`` and ``retina``, which are
    blurred by JPEG and compress more; nearest to ``flower``.
    Their power spectra fall as f^-2 to f^-3, this one as f^-2.8; the correlations between channels (0.86) and between
    horizontal gradients of channels (0.83) and the gradients' kurtosis (about 38) lie in their range too.
    """
    rng = np.random.default_rng(seed)
    noise = _Noise(rng)
    grain = _Noise(rng, blur=0.6)
    leaves = _leaves(rng, height, width, channels)
    detail = _fractal(noise, height, width, persistence=0.75)
    tint = [_fractal(noise, -(-height // 16), -(-width // 16)) for _ in range(channels)]
    out = np.empty((channels, height, width), np.uint8)
    for rows in _bands(height):
        patch = _optics(leaves, rows, 0.8)
        # most surfaces are smooth and a few very rough
        rough = np.square(np.square(patch[channels] * (1 / 255)))
        texture = detail[rows.start : rows.stop] * (1.0 + 20.0 * rough * (patch[channels] * (1 / 255)))
        # demosaicing and colour correction leave part of the noise in common to the channels
        common = 0.5 * grain.field(len(rows), width)
        for c in range(channels):
            signal = patch[c] + _rows(tint[c], rows, height, width) * 6.0 + texture * (1.0 - 0.12 * c)
            sigma = np.sqrt(np.clip(signal, 1, 255) * 0.022 + 0.15)
            noisy = (common + 0.87 * grain.field(len(rows), width)) * sigma
            cv2.add(signal, noisy, out[c, rows.start : rows.stop], dtype=cv2.CV_8U)
    return out


def multispectral(height: int, width: int, channels: int = 8, seed: int = 0) -> NDArray[np.uint16]:
    """Return a uint16 (c, y, x) array of reflectances times 10000 as in Sentinel-2: mostly 200 to 4000, noise of
    some 10 levels, bands correlated through the land cover they share but each with its own contrast.

    No real scene was at hand to compare with.
    """
    rng = np.random.default_rng(seed)
    noise, grain = _Noise(rng), _Noise(rng, blur=0.5)
    cover = _leaves(rng, height, width, 3, largest=400)
    detail = _fractal(noise, height, width, persistence=0.7)
    gains = rng.uniform(0.3, 1.0, (channels, 3)) * (6.0, 5.0, 4.0)
    gains[::3, 2] *= -0.8  # as vegetation is dark in red and bright in the near infrared
    out = np.empty((channels, height, width), np.uint16)
    for rows in _bands(height):
        patch = _optics(cover, rows, 0.9)
        texture = detail[rows.start : rows.stop] * (16.0 + 0.3 * patch[3])
        for c in range(channels):
            a, b, d = (float(gain) for gain in gains[c])
            signal = a * (patch[0] + texture) + b * (patch[1] + texture) + d * patch[2] + 500.0
            sigma = 3.0 + 0.2 * np.sqrt(np.clip(signal, 1, None))
            noisy = grain.field(len(rows), width) * sigma
            cv2.add(signal, noisy, out[c, rows.start : rows.stop], dtype=cv2.CV_16U)
    return out


def elevation(height: int, width: int, seed: int = 0) -> Float:
    """Return float32 (1, y, x) heights in metres: 1/f^4 terrain over 2 km of relief with 5 cm of noise, so that
    about ten mantissa bits are as random as those of a lidar or stereo elevation model.
    """
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
    coarser one before it (1 gives a 1/f^2 power spectrum, 0.5 gives 1/f^4).
    """
    sizes = [(height, width)]
    while min(sizes[-1]) > 8:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    out = noise.field(*sizes.pop())
    strength = variance = 1.0
    while sizes:
        h, w = sizes.pop()
        strength *= persistence
        variance += strength**2
        out = cv2.resize(out, (w, h), interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
        cv2.scaleAdd(noise.field(h, w), strength, out, dst=out)
    out /= np.float32(variance**0.5)
    return out


def _optics(leaves: NDArray[np.uint8], rows: range, blur: float) -> list[Float]:
    """Return ``rows`` of each channel of ``leaves`` (y, x, c) with edges as soft as a lens leaves them."""
    halo = slice(max(0, rows.start - 4), rows.stop + 4)
    soft = cv2.GaussianBlur(leaves[halo], (5, 5), blur)
    return [plane.astype(np.float32) for plane in cv2.split(soft[rows.start - halo.start :][: len(rows)])]


def _rows(coarse: Float, rows: range, height: int, width: int) -> Float:
    """Return ``rows`` of the (height, width) enlargement of ``coarse``."""
    scale = (coarse.shape[0] - 1) / height
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] * scale + np.zeros((1, width), np.float32)
    x = np.arange(width, dtype=np.float32)[None] * ((coarse.shape[1] - 1) / width) + np.zeros_like(y)
    return cv2.remap(coarse, x, y, cv2.INTER_LINEAR).astype(np.float32, copy=False)


def _shapes(
    rng: np.random.Generator, height: int, width: int, smallest: int, largest: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int], float]]:
    """Yield (centre, half axes, angle) of leaves, the largest first; they cover the image about twice."""
    largest = max(smallest + 1, min(largest, min(height, width) // 2))
    # radii with density r^-3 between the bounds: equal area per octave, hence the same picture at every scale
    mean_square = 2 * np.log(largest / smallest) / (smallest**-2 - largest**-2)
    count = int(6 * height * width / (np.pi * mean_square)) + 16
    radii = np.sort((largest**-2 + rng.random(count) * (smallest**-2 - largest**-2)) ** -0.5)[::-1]
    ys, xs = rng.integers(0, height, count), rng.integers(0, width, count)
    # small things come in crowds: towns and woods between fields, water and sky
    crowds = cv2.resize(rng.standard_normal((12, 12)), (48, 48), interpolation=cv2.INTER_CUBIC)
    drawn = (radii >= 12 * smallest) | (crowds[ys * 48 // height, xs * 48 // width] > 0.8)
    minor = np.maximum(1, radii * rng.uniform(0.4, 1.0, count))
    columns = (xs, ys, radii.astype(int), minor.astype(int), rng.uniform(0, 180, count))
    for x, y, a, b, angle in zip(*(column[drawn].tolist() for column in columns), strict=True):
        yield (x, y), (a, b), angle


def _leaves(
    rng: np.random.Generator, height: int, width: int, channels: int, smallest: int = 5, largest: int = 900
) -> NDArray[np.uint8]:
    """Return a uint8 (y, x, channels + 1) picture of opaque leaves; the last channel says how rough each is."""
    shapes = list(_shapes(rng, height, width, smallest, largest))
    greys = rng.normal(105, 40, (len(shapes), 1))
    colours = np.empty((len(shapes), channels + 1))
    colours[:, :channels] = (greys + rng.normal(0, 14, (len(shapes), channels))).clip(5, 245)
    colours[:, channels] = rng.integers(0, 256, len(shapes))
    out = np.full((height, width, channels + 1), 110, np.uint8)
    for number, ((centre, axes, angle), colour) in enumerate(zip(shapes, colours.tolist(), strict=True)):
        if number % 3:
            cv2.ellipse(out, centre, axes, angle, 0, 360, colour, cv2.FILLED)
        else:
            box = cv2.boxPoints((centre, (2.0 * axes[0], 2.0 * axes[1]), angle)).astype(np.int32)
            cv2.fillConvexPoly(out, box, colour)
    return out
