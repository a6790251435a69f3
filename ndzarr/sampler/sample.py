"""What does a sample look like as a Dataset?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from ndzarr.geo.georeference import Transform
from ndzarr.labels.construct import axis, centres, common_axis, dataset, names
from ndzarr.labels.spatial_ref import attach, earth_axes
from ndzarr.sampler.annotations import GEOMETRY, Found
from ndzarr.sampler.scene import Scene

if TYPE_CHECKING:
    from ndzarr.sampler.on_earth import Located


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


def label(
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
        axes = {"t": common_axis("t", times(scene)), **axes}
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


def times(scene: Scene) -> np.ndarray[Any, Any]:
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
