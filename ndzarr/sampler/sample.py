"""How does a sample become a labelled Dataset in tens of microseconds?

As for single windows (`labels.template`): a Dataset without pixels, of the whole sampled space, is sliced, and the pixels and
the columns of annotations are put in.  Samples that are padded or resampled off the grid get coordinates of their own.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray

from ndzarr.sampler.scene import Scene

COLUMNS = ("annot_id", "category_id", "track_id", "frame", "bbox")
"""Columns along `annot`."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Annotations of a sample."""

    columns: dict[str, np.ndarray[Any, Any]]
    """`COLUMNS`; bbox (annot, 4) is x, y, width, height in sample pixels, frame is the position along t."""
    records: tuple[dict[str, Any], ...]
    """kwcoco's dictionaries, in the same order."""
    to_sample: tuple[np.ndarray[Any, Any], ...]
    """3x3 from image space to sample pixels, per frame."""


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


class SampleTemplates:
    """Datasets without pixels, kept for the shapes that were asked for last."""

    def __init__(self, keep: int = 64) -> None:
        self._held: OrderedDict[Any, xarray.Dataset] = OrderedDict()
        self._keep = keep

    def __reduce__(self) -> tuple[Any, ...]:
        return SampleTemplates, (self._keep,)

    def build(
        self,
        context: Context,
        space: tuple[int, int],
        channels: tuple[str, ...],
        image: np.ndarray[Any, Any],
        valid: np.ndarray[Any, Any] | None,
    ) -> xarray.Dataset:
        """
        Label a sample.

        Parameters
        ----------
        space
            (height, width) of the sampled space.
        image, valid
            Axes (t, c, y, x); valid may lack c, or be None.
        """
        scene = context.scene
        grid = _on_grid(scene, space)
        number = 0 if context.found is None else len(context.found.columns["annot_id"])
        if grid is not None:
            step, y, x = grid
            base = self._template(scene, space, step, channels, image.dtype, number, context.found)
            out = base.isel(y=y, x=x, annot=slice(0, number)) if context.found else base.isel(y=y, x=x)
        else:
            coords = {"y": _centres(scene.y, scene.n[0]), "x": _centres(scene.x, scene.n[1])}
            out = _blank(scene, coords, channels, image.dtype, number, context.found)
        _fill_in(out, context, image, valid)
        return out

    def _template(
        self, scene: Scene, space: tuple[int, int], step: tuple[float, float], channels: tuple[str, ...],
        dtype: np.dtype[Any], number: int, found: Found | None,
    ) -> xarray.Dataset:  # fmt: skip
        room = 0 if found is None else 1 << max(4, (number - 1).bit_length())
        kind = None if found is None else found.columns["track_id"].dtype.kind
        key = (scene.video and len(scene.frames), space, step, channels, dtype, room, kind)
        held = self._held.get(key)
        if held is None:
            coords = {d: _centres((0, n - n % round(s)), n // round(s)) for d, n, s in zip("yx", space, step, strict=True)}
            held = self._held[key] = _blank(scene, coords, channels, dtype, room, found)
            while len(self._held) > self._keep:
                self._held.popitem(last=False)
        return held


def _on_grid(scene: Scene, space: tuple[int, int]) -> tuple[tuple[float, float], slice, slice] | None:
    """Steps along (y, x) and the slices of the template, if the sample lies inside on a grid of whole steps."""
    steps, slices = scene.pitch, []
    for (start, stop), n, step, length in zip((scene.y, scene.x), scene.n, steps, space, strict=True):
        if step != int(step) or start % step or start < 0 or stop > length - length % step:
            return None
        slices.append(slice(start // int(step), start // int(step) + n))
    return steps, slices[0], slices[1]


def _centres(interval: tuple[int, int], n: int) -> np.ndarray[Any, Any]:
    pitch = (interval[1] - interval[0]) / n if n else 1.0
    return interval[0] + (np.arange(n) + 0.5) * pitch


def _blank(
    scene: Scene, coords: dict[str, np.ndarray[Any, Any]], channels: tuple[str, ...], dtype: np.dtype[Any],
    number: int, found: Found | None,
) -> xarray.Dataset:  # fmt: skip
    """A Dataset of the right names, shapes and coordinates, with nothing in it."""
    sizes = {"t": len(scene.frames), "c": len(channels), "y": len(coords["y"]), "x": len(coords["x"])}
    dims = ("t", "c", "y", "x") if scene.video else ("c", "y", "x")
    variables: dict[str, Any] = {"image": (dims, np.broadcast_to(dtype.type(0), [sizes[d] for d in dims]))}
    if found is not None:
        for name in COLUMNS:
            column = found.columns[name]
            shape = (number, *column.shape[1:])
            variables[name] = (("annot", "xywh")[: column.ndim], np.broadcast_to(column.dtype.type(), shape))
    named: dict[str, Any] = {"c": np.array(channels), **coords}
    if scene.video:
        named["t"] = np.arange(len(scene.frames))
        named["gid"] = ("t", np.zeros(len(scene.frames), np.int64))
        named["frame_index"] = ("t", np.zeros(len(scene.frames), np.int64))
    return xarray.Dataset(variables, named)


def _fill_in(
    out: xarray.Dataset, context: Context, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None
) -> None:
    scene = context.scene
    if scene.video:
        out["t"] = ("t", _times(scene))
    variables = out.variables
    variables["image"].data = image if scene.video else image[0]
    if context.found is not None:
        for name, column in context.found.columns.items():
            variables[name].data = column
    if scene.video:
        variables["gid"].data = np.array([-1 if f.gid is None else f.gid for f in scene.frames])
        variables["frame_index"].data = np.array([f.index for f in scene.frames])
    if valid is not None:
        mask = valid if scene.video else valid[0]
        out["valid"] = (("t", "c", "y", "x") if valid.ndim == 4 else ("t", "y", "x"))[0 if scene.video else 1 :], mask
    out.encoding["ndzarr"] = context


def _times(scene: Scene) -> np.ndarray[Any, Any]:
    if all(f.time is not None for f in scene.frames):
        return np.array([f.time for f in scene.frames], "datetime64[ns]")
    return np.array([f.index for f in scene.frames])
