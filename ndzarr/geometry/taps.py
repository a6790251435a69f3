"""Which input pixels make an output pixel, with which weights, when two grids differ by scale and shift only?

Each output pixel is a weighted sum of a few input pixels per axis (its *taps*):

- 'area', reducing: the mean over the interval that the output pixel covers, pixels at its ends counting in part.
  This is the anti-aliasing of a box filter, and at equal scale with a fractional shift it is linear interpolation.
- 'area', enlarging: linear interpolation between pixel centres, the border repeated.
- 'nearest': the pixel that holds the centre of the output pixel.
- 'linear', 'cubic' (Keys 1981, a = -1/2), 'lanczos' (3 lobes): the named kernel around the centre of the output
  pixel, stretched by the reduction factor where anti-aliasing is wanted, as Pillow does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np

SUPPORT = {"area": 0.5, "nearest": 0.5, "linear": 1.0, "cubic": 2.0, "lanczos": 3.0}
"""Interpolation to the distance, in pixels, at which its kernel ends."""

ROUNDING = 1e-9
"""Pixels: computed positions within images of up to a million pixels along an axis are wrong by less."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Output pixels along one axis, in coordinates of the input: pixel j covers [start + j*step, start +
    (j+1)*step).
    """

    start: float
    """Where the first output pixel begins."""
    step: float
    """Input pixels per output pixel."""
    n: int
    """Number of output pixels."""

    @property
    def exact(self) -> bool:
        """True where output pixels are input pixels."""
        return self.step == 1 and float(self.start).is_integer()


@lru_cache(maxsize=128)
def taps(
    grid: Grid, length: int, interpolation: str, antialias: bool = True
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """
    Which input pixels make each output pixel, and with which weights.

    Parameters
    ----------
    length
        Number of input pixels; taps beyond them have weight 0 ('area' reducing) or fall on the border.
    interpolation
        One of `SUPPORT`.
    antialias
        Where reducing, stretch the kernel so that every input pixel counts.

    Returns
    -------
    indices, weights
        Both of shape (taps, n); weights of an output pixel add up to 1.  They are remembered: the frames and assets
        of a sample have few different grids, so callers must not write to them.
    """
    begin = grid.start + np.arange(grid.n) * grid.step
    centre = begin + grid.step / 2
    if interpolation == "nearest":
        return np.clip(pixels_at(centre), 0, length - 1)[None], np.ones((1, grid.n))
    if interpolation != "area" or grid.step < 1 or not antialias:
        kernel = "linear" if interpolation == "area" else interpolation
        return _kernel_taps(centre, grid.step if antialias else 1.0, length, kernel)
    first = np.floor(begin + ROUNDING)
    index = first + np.arange(ceil(grid.step) + 1)[:, None]
    weights = np.minimum(begin + grid.step, index + 1) - np.maximum(begin, index)
    weights[(weights < ROUNDING) | (index < 0) | (index >= length)] = 0
    weights[0, ~weights.any(axis=0)] = 1  # wholly beyond the input: the border repeated
    keep = weights.any(axis=1)
    weights, index = weights[keep], index[keep]
    return _settled(index, weights / weights.sum(axis=0), length)


def pixels_at(positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """
    Return the index of the pixel that holds each position; pixel i covers [i, i + 1).

    A position within rounding error of a border between pixels lies on it, and belongs to the pixel that begins there.

    Examples
    --------
    >>> (0.1 + 0.7) * 10
    7.999999999999999
    >>> pixels_at(np.array([7.9, (0.1 + 0.7) * 10, -0.1]))
    array([ 7,  8, -1])
    """
    return np.asarray(np.floor(positions + ROUNDING).astype(np.intp))


def _kernel_taps(
    centre: np.ndarray[Any, Any], step: float, length: int, interpolation: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Taps of a kernel around centres; beyond the input the border is repeated."""
    stretch = max(1.0, step)
    reach = SUPPORT[interpolation] * stretch
    first = np.ceil(centre - 0.5 - reach + ROUNDING)
    index = first + np.arange(ceil(2 * reach))[:, None]
    weights = _KERNELS[interpolation]((index + 0.5 - centre) / stretch)
    weights[np.abs(weights) < 1e-12] = 0
    keep = weights.any(axis=1)
    weights, index = weights[keep], index[keep]
    return _settled(index, weights / weights.sum(axis=0), length)


def _linear(d: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(np.maximum(1 - np.abs(d), 0))


def _cubic(d: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    d = np.abs(d)
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0))


def _lanczos(d: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.where(np.abs(d) < 3, np.sinc(d) * np.sinc(d / 3), 0)


_KERNELS = {"linear": _linear, "cubic": _cubic, "lanczos": _lanczos}


def _settled(
    index: np.ndarray[Any, Any], weights: np.ndarray[Any, Any], length: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Taps within the input."""
    return np.clip(index, 0, length - 1).astype(np.intp), weights
