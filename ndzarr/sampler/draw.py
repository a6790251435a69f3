"""What does a sample look like?"""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import xarray
from PIL import Image, ImageDraw

from ndzarr.labels.show import displayable
from ndzarr.sampler.sample import Context
from ndzarr.sampler.shapes import understood

SEEN = 384
"""Samples whose longest side is smaller are enlarged to about this many pixels."""


def draw(sample: xarray.Dataset, context: Context, scale: float | None = None) -> Image.Image:
    """Frames side by side, of volumes the first plane, with boxes, outlines and names; padding is hatched in grey."""
    sample = sample.isel(z=0) if "z" in sample.dims else sample
    image = sample["image"].values
    frames = image if context.scene.video else image[None]
    valid = sample["valid"].values if "valid" in sample else None
    factor = scale or max(1, SEEN // max(frames.shape[-2:]))
    panels = [_panel(frames[t], _mask(valid, t, context.scene.video), context, t, factor) for t in range(len(frames))]
    width, height = sum(p.width for p in panels) + 4 * (len(panels) - 1), panels[0].height
    picture = Image.new("RGB", (width, height), "white")
    x = 0
    for panel in panels:
        picture.paste(panel, (x, 0))
        x += panel.width + 4
    return picture


def _mask(valid: np.ndarray[Any, Any] | None, t: int, video: bool) -> np.ndarray[Any, Any] | None:
    if valid is None:
        return None
    mask: np.ndarray[Any, Any] = valid[t] if video and valid.ndim > 2 else valid
    return mask if mask.ndim == 2 else np.asarray(mask.reshape(-1, *mask.shape[-2:]).any(axis=0))


def _panel(
    pixels: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None, context: Context, t: int, factor: float
) -> Image.Image:
    shown = displayable(pixels)
    if valid is not None:
        y, x = np.indices(valid.shape)
        shown[~valid] = np.where((x + y) % 8 < 2, 96, 48)[~valid][:, None]
    size = max(1, round(shown.shape[1] * factor)), max(1, round(shown.shape[0] * factor))
    panel = Image.fromarray(shown).resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX)
    if context.found is not None:
        _annotate(panel, context, t, factor)
    return panel


def _annotate(panel: Image.Image, context: Context, t: int, factor: float) -> None:
    pen = ImageDraw.Draw(panel)
    names = {c["id"]: c.get("name", str(c["id"])) for c in context.classes}
    found = context.found
    assert found is not None
    for i in np.flatnonzero(found.columns["frame"] == t):
        category = found.columns["category_id"][i].item()
        color = _color(category)
        with understood(found.records[i], "segmentation"):
            outlines = _outlines(found.records[i])
        for outline in outlines:
            points = np.c_[outline, np.ones(len(outline))] @ found.to_sample[t].T
            pen.line([*map(tuple, points[:, :2] * factor)], fill=color, width=2)
        x, y, w, h = found.columns["bbox"][i] * factor
        if np.isfinite(x):
            pen.rectangle((x, y, x + w, y + h), outline=color)
            pen.text((max(x, 0) + 2, max(y, 0) + 1), str(names.get(category, "")), fill=color)


def _outlines(annotation: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    """Closed outlines of a segmentation in polygon form, shape (n, 2) each, in image space; masks have none."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict) and "exterior" in segmentation:
        segmentation = [segmentation]
    if not isinstance(segmentation, list):
        return []
    rings = []
    for part in [segmentation] if segmentation and np.isscalar(segmentation[0]) else segmentation:
        points = part["exterior"] if isinstance(part, dict) else part
        ring = np.asarray(points, float).reshape(-1, 2)
        rings.append(np.r_[ring, ring[:1]])
    return rings


def _color(category: Any) -> tuple[int, ...]:
    hue = (hash(category) * 0.618033988749895) % 1 if isinstance(category, int) else 0.5
    return tuple(round(255 * v) for v in colorsys.hsv_to_rgb(hue, 0.9, 1.0))
