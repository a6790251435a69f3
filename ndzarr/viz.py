"""Pictures of samples, batches, tables of targets and read plans.

`sample.ndzarr.draw()` and `batch.ndzarr.draw()` draw what was loaded.  This module has the rest: clips of samples with
several frames, windows over the images they come from, and the chunks that a plan touches.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ndzarr._files import local_path, publishing_file
from ndzarr._indexing.plan import ReadPlan, counted
from ndzarr._pyramid.repr import displayable
from ndzarr.errors import OptionError, TargetError

if TYPE_CHECKING:
    import xarray
    from PIL.Image import Image

    from ndzarr._viewer.items import Source
    from ndzarr.coco_sampler import CocoSampler
    from ndzarr.sampler import Sampler
    from ndzarr.targets.table import TargetsLike

__all__ = ["Overview", "animate", "composite", "draw_plan", "draw_targets"]

_SIDE = 1024
"""Longest side of a picture of targets, in pixels."""


def composite(
    image: xarray.DataArray, channels: Sequence[str | int] | None = None, stretch: tuple[float, float] = (2, 98)
) -> Image:
    """
    Make a picture of three channels of any type, or of one in grey, stretched robustly.

    Parameters
    ----------
    image
        Axes c, y, x; others of length 1 are dropped.
    channels
        Names or numbers of one or three channels; the first ones if left out.
    stretch
        Percentiles of each channel that become black and white.

    Returns
    -------
    An RGB image of Pillow.

    Raises
    ------
    TargetError
        There are no such channels, or the array is not a single picture.

    Examples
    --------
    >>> import ndzarr.viz, numpy as np, xarray
    >>> bands = np.arange(4 * 50 * 60, dtype="u2").reshape(4, 50, 60)
    >>> image = xarray.DataArray(bands, dims=[*"cyx"], coords={"c": ["b", "g", "r", "nir"]})
    >>> ndzarr.viz.composite(image, ["nir", "r", "g"]).size
    (60, 50)
    """
    from PIL import Image

    from ndzarr._sampling.draw import chosen_channels

    axes = ("c", "y", "x")
    single = chosen_channels(image, channels)
    single = single.squeeze([d for d in single.dims if d not in axes and single.sizes[d] == 1])
    strange = set(single.dims) - set(axes)
    if strange:
        axis = min(map(str, strange))
        raise TargetError(f"this array has an axis {axis!r}, not a single picture", key=axis, hint="Choose one")
    planes = single.expand_dims("c") if "c" not in single.dims else single
    return Image.fromarray(displayable(planes.transpose(*axes).values, stretch=stretch))


def animate(
    sample: xarray.Dataset,
    path: str | os.PathLike[str],
    *,
    fps: float = 5.0,
    scale: float | None = None,
    channels: Sequence[str | int] | None = None,
    stretch: tuple[float, float] | None = None,
    overwrite: bool = False,
) -> None:
    """
    Write the frames of a sample, with their annotations, as a clip.

    Parameters
    ----------
    path
        A file that ends in .gif or .mp4.
    fps
        Frames per second.
    scale, channels, stretch
        As for `sample.ndzarr.draw`.
    overwrite
        Replace the file.

    Raises
    ------
    OptionError
        The file ends otherwise, or this build of PyAV cannot write it.
    ExistsError
        The file exists.
    """
    from ndzarr._batches.crop_files import CLIPS, CropEncoder
    from ndzarr._sampling.draw import panels
    from ndzarr._sampling.sample import origin_of

    target = local_path(path)
    kind = target.suffix.lower().lstrip(".")
    if kind not in CLIPS:
        raise OptionError(f"{path}: a clip ends in .gif or .mp4", key="path", path=str(path))
    frames = panels(sample, origin_of(sample), scale, channels, stretch)
    pixels = np.stack([np.moveaxis(np.asarray(frame), -1, 0) for frame in frames])  # (t, c, y, x)
    with publishing_file(target, overwrite) as work:
        work.write_bytes(CropEncoder(kind, 95, fps).encode(pixels, ("r", "g", "b")))


def draw_targets(
    sampler: CocoSampler | Sampler, targets: TargetsLike, ident: Any = None, *, channels: Sequence[str] | None = None
) -> Image:
    """
    Draw the windows of a table over the image that they come from.

    Positives are green, negatives red, ignored ones grey, all others yellow.

    Parameters
    ----------
    sampler
        Reads the image.
    targets
        A table, or dictionaries.
    ident
        The image (`gid`) or named pyramid (`key`); that of the first row if left out.
    channels
        As for targets; the first ones if left out.

    Returns
    -------
    An RGB image of Pillow, at most 1024 pixels wide and high.

    Raises
    ------
    TargetError
        No window is in that image, or the windows are in the space of a video.
    """
    from ndzarr._viewer.overview import draw_windows
    from ndzarr.targets.table import as_table

    table = as_table(targets)
    name = next((n for n in ("gid", "key") if n in table.columns), None)
    if name is None or not len(table):
        raise TargetError("no window in the space of an image", key="gid", hint="Choose rows with `gid`, or with `key`")
    ident = table[name].iloc[0] if ident is None else ident
    rows = table[table[name] == ident]
    if not len(rows):
        raise TargetError(f"no window is in {name} {ident!r}", key=name)
    about = {name: ident} | ({} if channels is None else {"channels": "|".join(channels)})
    pyramid = sampler.open(ident)
    height, width = pyramid.sizes["y"], pyramid.sizes["x"]
    scale = min(1.0, _SIDE / max(height, width))
    keys: dict[str, Any] = {"with_annots": False} if name == "gid" else {}
    picture: Image = sampler.load_sample({**about, "scale": scale}, **keys).ndzarr.draw(1)
    corners = rows[["cx", "cy"]].to_numpy() - rows[["width", "height"]].to_numpy() / 2
    boxes = np.hstack([corners, rows[["width", "height"]].to_numpy()])
    kinds = rows["kind"].astype(str) if "kind" in rows.columns else [""] * len(rows)
    draw_windows(picture, zip(boxes, kinds, strict=True), scale)
    return picture


class Overview:
    """
    The images of a sampler, with windows of a table, as a notebook shows them.

    It shows the coarsest level of the first images, if they are local and open or transcoded; nothing is made for it.
    Positives are green, negatives red, ignored ones grey, all others yellow.

    Parameters
    ----------
    sampler
        Whose images are shown.
    targets
        A table, or dictionaries.

    Raises
    ------
    TargetError
        A target is not understood.
    """

    def __init__(self, sampler: CocoSampler | Sampler, targets: TargetsLike) -> None:
        from ndzarr._viewer.overlays import TargetWindows

        self._windows = TargetWindows(targets, cast("Source", sampler.targets.source))

    def __repr__(self) -> str:
        kinds, numbers = np.unique(self._windows.kinds.astype(str), return_counts=True)
        counts = ", ".join(f"{n} {kind}" for n, kind in zip(numbers, kinds, strict=True))
        return f"<{counts or 'no windows'} in {counted(len(self._windows.columns.gids), 'image')}>"

    def _repr_html_(self) -> str:
        from ndzarr._viewer.overview import overview_html

        return overview_html(repr(self), self._windows.source, self._windows)


def draw_plan(plan: ReadPlan, array: int = 0) -> str:
    """
    Draw the chunks of an array that a plan reads, as the text of an SVG.

    Parameters
    ----------
    array
        Which of `plan.arrays`.

    Returns
    -------
    Grey lines are borders of chunks. The more windows want a chunk, the darker it is. The first windows are outlined.
    """
    from ndzarr._indexing.plan_drawing import plan_svg

    return plan_svg(plan, array)
