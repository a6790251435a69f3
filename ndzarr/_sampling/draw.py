"""Pictures of samples with their annotations."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import xarray
from PIL import Image, ImageDraw

from ndzarr._indexing.affine import scale_offset, warp_boxes
from ndzarr._pyramid.repr import displayable
from ndzarr._sampling.detections import image_size_of
from ndzarr._sampling.sample import Context, cut_of
from ndzarr._sampling.segmentations import shape_of
from ndzarr.errors import TargetError

SEEN = 384
"""Samples whose longest side is smaller are enlarged to about this many pixels."""


def draw(sample: xarray.Dataset, context: Context, scale: float | None = None) -> Image.Image:
    """Frames side by side, of volumes the first plane, with boxes, outlines and names; padding is hatched in grey."""
    if "image" not in sample:
        what = f"this sample has no `image` to draw, only {', '.join(map(str, sample)) or 'nothing'}"
        raise TargetError(what, key="image")
    sample = sample.isel(z=0) if "z" in sample.dims else sample
    cut = cut_of(sample, context)
    frames = _arranged(sample["image"]).values
    valid = _arranged(sample["valid"]).any("c").values if "valid" in sample else None
    factor = scale or max(1, SEEN // max(frames.shape[-2:]))
    panels = [_panel(frames[t], None if valid is None else valid[t], factor) for t in range(len(frames))]
    if context.found is not None:
        for panel, t in zip(panels, cut.frames, strict=True):
            _annotate(panel, context, t, scale_offset((factor, factor), (0, 0)) @ cut.from_loaded)
    width, height = sum(p.width for p in panels) + 4 * (len(panels) - 1), panels[0].height
    picture = Image.new("RGB", (width, height), "white")
    x = 0
    for panel in panels:
        picture.paste(panel, (x, 0))
        x += panel.width + 4
    return picture


def _arranged(array: xarray.DataArray) -> xarray.DataArray:
    """Axes t, c, y, x, whichever of them there are; of volumes the first plane."""
    array = array.isel(z=0) if "z" in array.dims else array
    strange = set(array.dims) - {*_AXES}
    if strange:
        axis = min(map(str, strange))
        raise TargetError(f"this sample has an axis {axis!r}, not a single picture", key=axis, hint="Choose one")
    return array.expand_dims([d for d in _AXES if d not in array.dims]).transpose(*_AXES)


_AXES = ("t", "c", "y", "x")


def _panel(pixels: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None, factor: float) -> Image.Image:
    shown = displayable(pixels)
    if valid is not None:
        y, x = np.indices(valid.shape)
        shown[~valid] = np.where((x + y) % 8 < 2, 96, 48)[~valid][:, None]
    size = max(1, round(shown.shape[1] * factor)), max(1, round(shown.shape[0] * factor))
    return Image.fromarray(shown).resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX)


def _annotate(panel: Image.Image, context: Context, t: int, to_panel: np.ndarray[Any, Any]) -> None:
    """Draw the annotations of a frame of the loaded sample, whose pixels a transform maps to the panel."""
    pen = ImageDraw.Draw(panel)
    names = {c["id"]: c.get("name", str(c["id"])) for c in context.classes}
    found = context.found
    assert found is not None
    boxes = warp_boxes(to_panel, found.columns["bbox"])
    for i in np.flatnonzero(found.columns["frame"] == t):
        category = found.columns["category_id"][i].item()
        color = _color(category)
        shape = shape_of(found.records[i], image_size_of(context, t))
        parts = () if shape is None else shape.to_polygons().warped(to_panel @ found.to_sample[t]).parts
        for ring in [ring for part in parts for ring in part]:
            pen.line([*map(tuple, ring), tuple(ring[0])], fill=color, width=2)
        x, y, w, h = boxes[i]
        if np.isfinite(x):
            pen.rectangle((x, y, x + w, y + h), outline=color)
            pen.text((max(x, 0) + 2, max(y, 0) + 1), str(names.get(category, "")), fill=color)


def _color(category: Any) -> tuple[int, ...]:
    hue = (hash(category) * 0.618033988749895) % 1 if isinstance(category, int) else 0.5
    return tuple(round(255 * v) for v in colorsys.hsv_to_rgb(hue, 0.9, 1.0))
