"""What does a sample look like as a Dataset?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import xarray

from ndzarr._geo.georeference import Georeference, Transform
from ndzarr._indexing.affine import scale_offset
from ndzarr._pyramid.xarray import attach_spatial_ref as attach
from ndzarr._pyramid.xarray import build_dataset as dataset
from ndzarr._pyramid.xarray import centre_axis as centres
from ndzarr._pyramid.xarray import common_axis, earth_axes
from ndzarr._pyramid.xarray import index_axis as axis
from ndzarr._pyramid.xarray import name_axis as names
from ndzarr._sampling.annotations import GEOMETRY, Found
from ndzarr._sampling.scene import Scene
from ndzarr.errors import TargetError


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What the accessor `sample.ndzarr` knows besides the pixels."""

    target: dict[str, Any]
    """The target, resolved."""
    scene: Scene
    found: Found | None
    classes: Any
    """Category dictionaries of the dataset."""
    keypoint_classes: Any = ()
    """Keypoint category dictionaries of the dataset."""
    geometry: tuple[str, ...] = GEOMETRY
    """Which geometry `detections` holds."""
    earth: Transform | None = None
    """From pixels of the sample to coordinates on earth; None where its y and x are pixels of the sampled space."""


def label_sample(
    context: Context,
    channels: tuple[str, ...],
    image: np.ndarray[Any, Any],
    valid: np.ndarray[Any, Any] | None,
    where: Located | None = None,
) -> xarray.Dataset:
    """
    Name everything.

    Parameters
    ----------
    image, valid
        Axes (t, c, [z,] y, x); valid may lack c, or be None.
    where
        Where on earth it lies, if anywhere.
    """
    scene = context.scene
    axes = {"c": names("c", channels)}
    if scene.planes is not None:
        axes["z"] = axis("z", np.array(scene.planes.positions, np.int64))
    if where is None:
        py, px = scene.pitch
        axes |= {"y": centres("y", scene.y[0], py, scene.n[0]), "x": centres("x", scene.x[0], px, scene.n[1])}
    else:
        context = replace(context, earth=where.transform)
        axes |= earth_axes(where.transform, *scene.n)
    variables: dict[str, Any] = {"image": (scene.dims, image if scene.video else image[0])}
    if valid is not None:
        variables["valid"] = mask_dims(scene, valid), valid if scene.video else valid[0]
    if scene.video:
        axes = {"t": common_axis("t", time_coordinate(scene)), **axes}
        variables["gid"] = (("t",), np.array([-1 if f.gid is None else f.gid for f in scene.frames]))
        variables["frame_index"] = (("t",), np.array([f.index for f in scene.frames]))
    if context.found is not None:
        for name, column in context.found.columns.items():
            variables[name] = (("annot", "xywh")[: column.ndim], column)
    along_t = ("gid", "frame_index") if scene.video else ()
    made = dataset(variables, axes, along_t, {"ndzarr": context})
    return made if where is None else attach(made, *where)


def mask_dims(scene: Scene, valid: np.ndarray[Any, Any]) -> tuple[str, ...]:
    """Axes of the mask (t, c, [z,] y, x) of a sample, which may lack c."""
    with_c = valid.ndim == (4 if scene.planes is None else 5)
    return scene.dims if with_c else tuple([d for d in scene.dims if d != "c"])


def time_coordinate(scene: Scene) -> np.ndarray[Any, Any]:
    """Dates where every frame has one; else seconds, for frames of video files; else frame indices."""
    real = [f for f in scene.frames if f.gid is not None]
    if all(f.time is not None for f in real):
        return np.array(
            [np.datetime64("NaT", "ns") if f.time is None else f.time for f in scene.frames], "datetime64[ns]"
        )
    seconds = [f.seconds for f in real]
    if seconds and None not in seconds:
        return np.array([np.nan if f.gid is None else f.seconds for f in scene.frames], np.float64)
    return np.array([f.index for f in scene.frames])


# --- Which part of a sample that was loaded is a Dataset that came from it?


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


# --- Where on earth does a sample lie, and which window is meant by a box in coordinates?


class Located(NamedTuple):
    """Where a sample lies."""

    place: Georeference
    """The reference system, and where the pixels of an asset lie."""
    transform: Transform
    """From pixels of the sample to coordinates."""
