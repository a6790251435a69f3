"""Which part of a sample that was loaded is a Dataset that came from it?

xarray's operations (`isel`, arithmetic, `coarsen`, ...) keep what the accessor knows, but not the pixels that it was
known of.  The coordinates tell how the two lie to each other: along y and x any slice, stride, reversal or coarsening
is a scale and an offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray

from ndzarr.errors import TargetError
from ndzarr.geometry.affine import scale_offset
from ndzarr.sampler.sample import Context

_TOLERANCE = 1e-3
"""Pixels by which coordinates may be off, through rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """How the pixels of a Dataset lie in the sample that was loaded."""

    scale: tuple[float, float]
    """Pixels of the loaded sample per pixel of the Dataset along (y, x); negative where an axis was turned round."""
    offset: tuple[float, float]
    """Where the first pixel of the Dataset begins along (y, x), in pixels of the loaded sample."""
    size: tuple[int, int]
    """Pixels of the Dataset along (y, x)."""
    frames: tuple[int, ...]
    """Positions of its frames in the loaded sample."""

    @property
    def to_loaded(self) -> np.ndarray[Any, Any]:
        """3x3, from pixels of the Dataset to those of the loaded sample."""
        (sy, sx), (y, x) = self.scale, self.offset
        return scale_offset((sx, sy), (x, y))

    @property
    def from_loaded(self) -> np.ndarray[Any, Any]:
        """3x3, from pixels of the loaded sample to those of the Dataset."""
        (sy, sx), (y, x) = self.scale, self.offset
        return scale_offset((1 / sx, 1 / sy), (-x / sx, -y / sy))

    def is_whole(self, context: Context) -> bool:
        """True for all of the loaded sample, as it was."""
        scene = context.scene
        return (*self.scale, *self.offset, *self.size) == (1, 1, 0, 0, *scene.n) and self.frames == tuple(
            range(len(scene.frames))
        )


def cut_of(sample: xarray.Dataset, context: Context) -> Cut:
    """
    Where a Dataset lies in the sample that its context tells of.

    Raises
    ------
    TargetError
        Its coordinates do not tell.
    """
    (y, sy, height), (x, sx, width) = (_along(sample, context, k) for k in (0, 1))
    return Cut((sy, sx), (y, x), (height, width), _frames(sample, context))


def _along(sample: xarray.Dataset, context: Context, k: int) -> tuple[float, float, int]:
    """(offset, scale, size) along y or x."""
    dim, loaded = "yx"[k], context.scene.n[k]
    n = sample.sizes.get(dim)
    if n is None:
        raise TargetError(f"this sample has no axis {dim} any more, so what is known of it does not fit: {_REMEDY}")
    if dim not in sample.coords:
        if n != loaded:
            raise TargetError(f"this sample was cut and has no coordinate {dim} that would say where: {_REMEDY}")
        return 0.0, 1.0, n
    origin, pitch = _grid(context, k)
    at = (sample[dim].values.astype(float) - origin) / pitch - 0.5
    scale = float(at[-1] - at[0]) / (n - 1) if n > 1 else 1.0
    if n == 0 or scale == 0 or not np.allclose(at, at[0] + scale * np.arange(n), rtol=0, atol=_TOLERANCE):
        raise TargetError(f"the {dim} of this sample are not evenly spaced any more: {_REMEDY}")
    scale = _tidy(scale, _TOLERANCE / n)
    return _tidy(float(at[0]) + (1 - scale) / 2, _TOLERANCE), scale, n


_REMEDY = "ask the sample as it was loaded, or load the window that is wanted"


def _grid(context: Context, k: int) -> tuple[float, float]:
    """Where the loaded sample begins along y or x, and how long its pixels are, in its coordinates."""
    scene, earth = context.scene, context.earth
    if earth is None:
        return float((scene.y, scene.x)[k][0]), scene.pitch[k]
    a, b, c, d, e, f = earth
    if b != 0 or d != 0:  # coordinates are then pixels of the window
        return 0.0, 1.0
    return ((f, e), (c, a))[k]


def _tidy(value: float, tolerance: float) -> float:
    """Half a pixel is the finest offset that slices and means of even blocks make."""
    near = round(2 * value) / 2
    return near if abs(near - value) < tolerance else value


def _frames(sample: xarray.Dataset, context: Context) -> tuple[int, ...]:
    """Positions along t of the frames that are left, by their ids and indices."""
    frames = context.scene.frames
    whole = tuple(range(len(frames)))
    if not context.scene.video or not {"gid", "frame_index"} <= set(sample.coords):
        return whole
    known = [(-1 if frame.gid is None else frame.gid, frame.index) for frame in frames]
    gids, indices = (np.atleast_1d(sample[name].values).tolist() for name in ("gid", "frame_index"))
    left = list(zip(gids, indices, strict=True))
    if left == known:  # an image may be there twice
        return whole
    strangers = [name for name in left if name not in known]
    if strangers:
        raise TargetError(f"image {strangers[0][0]} is no frame of the sample that was loaded: {_REMEDY}")
    return tuple(map(known.index, left))
