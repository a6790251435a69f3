"""Assets that are rotated, sheared or flipped against the sampled space.

1. The level is chosen as for upright assets, from the smaller of the two scales.
2. The upright box around the window, with a margin, is read from it.
3. OpenCV warps it onto the output once; where the output is coarser than the level, it is warped at twice the
   resolution and averaged, so that fine detail does not alias.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np

from ndzarr._indexing.affine import scale_offset
from ndzarr._indexing.resample import Grid, pixels_at, rounded
from ndzarr._indexing.selection import Selection
from ndzarr._indexing.windows import Region, Span, finest_needed
from ndzarr._pyramid.crops import Crop, Sampling
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._sampling.scene import Scene

MARGIN = 4
"""Pixels around the box that the widest kernel (lanczos4) looks at."""


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """From output pixels to pixels of a crop."""

    matrix: np.ndarray[Any, Any]
    """3x3, from continuous coordinates of the output to those of the crop."""
    to_native: np.ndarray[Any, Any]
    """3x3, from continuous coordinates of the output to native pixels of the asset."""
    level: int
    """Level of the asset's pyramid that is read."""
    y: slice
    """Rows of that level."""
    x: slice
    """Columns of that level."""
    n: tuple[int, int]
    """Output pixels along (y, x)."""
    reducing: bool
    """True where an output pixel covers clearly more than one pixel of the level."""

    @classmethod
    def between(cls, to_space: np.ndarray[Any, Any], scene: Scene, pyramid: Pyramid) -> Warp:
        """The warp from an asset, given the transform from its pixels to the sampled space."""
        to_native = np.linalg.inv(to_space) @ scene.transform
        scales = np.linalg.svd(to_native[:2, :2], compute_uv=False)
        settled = scene.sampling.resolved(pyramid)
        levels = pyramid.planar_levels if settled.antialias else pyramid.planar_levels[:1]
        level = finest_needed(1 / float(scales.min()), [max(found.factors[-2:]) for found in levels])
        fy, fx = levels[level].factors[-2:]
        matrix = scale_offset((1 / fx, 1 / fy), (0, 0)) @ to_native
        corners = matrix @ np.array(
            [[0, scene.n[1], 0, scene.n[1]], [0, 0, scene.n[0], scene.n[0]], [1, 1, 1, 1]], float
        )
        x, y = (
            _range(float(c.min()), float(c.max()), n)
            for c, n in zip(corners[:2], levels[level].shape[:-3:-1], strict=True)
        )
        matrix = scale_offset((1, 1), (-x.start, -y.start)) @ matrix
        reducing = bool(settled.antialias and float(scales.max()) / min(fy, fx) > 1.25)
        return cls(matrix, to_native, level, y, x, scene.n, reducing)

    def crop(self, pyramid: Pyramid, lead: Selection, sampling: Sampling) -> Crop:
        """The box that is read, as pixels of its level."""
        region = Region.of(self.level, _as_stored(self.y), _as_stored(self.x))
        return Crop(pyramid, region, lead, sampling.resolved(pyramid), 0, weighted=not pyramid.validity.plain)


def _range(low: float, high: float, n: int) -> slice:
    start = min(max(0, floor(low) - MARGIN), n - 1)
    return slice(start, max(start + 1, min(n, ceil(high) + MARGIN)), 1)


def _as_stored(want: slice) -> Span:
    n = want.stop - want.start
    return Span(want, slice(0, n, 1), Grid(0.0, 1.0, n), n, float(want.start), 1.0)


def warp_crop(
    warp: Warp,
    crop: Crop,
    pixels: np.ndarray[Any, Any],
    weights: np.ndarray[Any, Any] | None,
    out: np.ndarray[Any, Any],
) -> np.ndarray[Any, Any]:
    """
    Warp what a crop read into `out`, axes (c, [z,] y, x), and return where output pixels are real, (y, x) or as `out`.

    `weights` are two arrays of the shape of `pixels`: where they are real, and how much they count.  None stands for
    pixels that are all real.
    """
    planes = pixels.reshape(-1, *pixels.shape[-2:])
    real = inside(warp, crop)
    name = crop.sampling.interpolation
    if weights is not None:
        shown, loads = weights.reshape(2, *planes.shape)
        share, weight = (
            np.stack([_warped(w.astype(np.float64), warp, name) for w in some]).reshape(out.shape)
            for some in (shown != 0, loads)
        )
        seen = real & (share > 0.5)
        values = np.stack(
            [
                _warped(np.where(w > 0, p, 0) * w.astype(np.float64), warp, name)
                for w, p in zip(loads, planes, strict=True)
            ]
        ).reshape(out.shape)
        values = values / np.where(seen & (weight > 0), weight, 1)
        out[seen] = rounded(values, out.dtype)[seen]
        return np.asarray(seen)
    for plane, at in zip(planes, np.ndindex(out.shape[:-2]), strict=True):
        out[at][real] = _as_pixels(_warped(plane, warp, name), out.dtype)[real]
    return real


def _as_pixels(values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """OpenCV has rounded integers already."""
    return values.astype(dtype, copy=False) if values.dtype.kind in "iu" else rounded(values, dtype)


def inside(warp: Warp, crop: Crop) -> np.ndarray[Any, Any]:
    """True where the centre of an output pixel lies in the asset, shape (y, x)."""
    rows, columns = np.arange(warp.n[0])[:, None] + 0.5, np.arange(warp.n[1]) + 0.5
    height, width = crop.pyramid.shape[-2:]
    x, y = (pixels_at(m[0] * columns + m[1] * rows + m[2]) for m in warp.to_native[:2])
    return np.asarray((x >= 0) & (x < width) & (y >= 0) & (y < height))


def _warped(plane: np.ndarray[Any, Any], warp: Warp, interpolation: str) -> np.ndarray[Any, Any]:
    """One plane on the grid of the output; the border of what was read is repeated."""
    import cv2

    if interpolation == "nearest":
        return _nearest(plane, warp)
    flags = {"cubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}.get(interpolation, cv2.INTER_LINEAR)
    finer = 2 if warp.reducing else 1
    # OpenCV counts from pixel centres, we from their borders.
    to_crop = (
        scale_offset((1, 1), (-0.5, -0.5))
        @ warp.matrix
        @ scale_offset((1 / finer, 1 / finer), (0.5 / finer, 0.5 / finer))
    )
    source = (
        plane if plane.dtype.name in ("uint8", "uint16", "int16", "float32", "float64") else plane.astype(np.float64)
    )
    size = warp.n[1] * finer, warp.n[0] * finer
    done = cv2.warpAffine(
        np.ascontiguousarray(source),
        to_crop[:2],
        size,
        flags=flags | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return done if finer == 1 else cv2.resize(done, (warp.n[1], warp.n[0]), interpolation=cv2.INTER_AREA)


def _nearest(plane: np.ndarray[Any, Any], warp: Warp) -> np.ndarray[Any, Any]:
    """The pixel that holds the centre of each output pixel; OpenCV rounds coordinates to fractions of a pixel
    before.
    """
    rows, columns = np.arange(warp.n[0])[:, None] + 0.5, np.arange(warp.n[1]) + 0.5
    x, y = (pixels_at(m[0] * columns + m[1] * rows + m[2]) for m in warp.matrix[:2])
    return np.asarray(plane[np.clip(y, 0, plane.shape[0] - 1), np.clip(x, 0, plane.shape[1] - 1)])
