"""Pictures of samples with their annotations."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray
from PIL import Image, ImageDraw

from ndzarr._indexing.affine import scale_offset, warp_boxes
from ndzarr._pyramid.repr import displayable_frames
from ndzarr._sampling.annotations import NO_ID
from ndzarr._sampling.detections import image_size_of
from ndzarr._sampling.sample import Context, cut_of
from ndzarr._sampling.segmentations import shape_of
from ndzarr.errors import TargetError

GAP = 4
"""Pixels between pictures."""
SEEN = 384
"""Samples whose longest side is smaller are enlarged to about this many pixels."""


def draw(
    sample: xarray.Dataset,
    context: Context,
    scale: float | None = None,
    channels: Sequence[str | int] | None = None,
    stretch: tuple[float, float] | None = None,
) -> Image.Image:
    """
    Frames side by side, of volumes the first plane: boxes, outlines, keypoints, names, and the ways of tracks.

    Padding is hatched in grey.  Channels and stretch are those of `displayable`.
    """
    frames = panels(sample, context, scale, channels, stretch)
    picture = Image.new("RGB", (sum(p.width for p in frames) + GAP * (len(frames) - 1), frames[0].height), "white")
    for number, frame in enumerate(frames):
        picture.paste(frame, (number * (frame.width + GAP), 0))
    return picture


def panels(
    sample: xarray.Dataset,
    context: Context,
    scale: float | None = None,
    channels: Sequence[str | int] | None = None,
    stretch: tuple[float, float] | None = None,
) -> list[Image.Image]:
    """Return a picture for each frame; see `draw`."""
    if "image" not in sample:
        what = f"this sample has no `image` to draw, only {', '.join(map(str, sample)) or 'nothing'}"
        raise TargetError(what, key="image")
    sample = sample.isel(z=0) if "z" in sample.dims else sample
    cut = cut_of(sample, context)
    image = _arranged(chosen_channels(sample["image"], channels))
    shown = displayable_frames(image.values, stretch)  # (t, y, x, rgb)
    valid = _arranged(sample["valid"]).any("c").values if "valid" in sample else None
    factor = scale or max(1, SEEN // max(shown.shape[1:3]))
    out = [_panel(frame, None if valid is None else valid[t], factor) for t, frame in enumerate(shown)]
    if context.found is not None:
        to_panel = scale_offset((factor, factor), (0, 0)) @ cut.from_loaded
        for panel, t in zip(out, cut.frames, strict=True):
            _annotate(panel, context, t, to_panel)
    return out


def sheet(pictures: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """Return pictures in rows, as many columns as make the whole about as wide as high by default."""
    width, height = max(p.width for p in pictures), max(p.height for p in pictures)
    if columns is None:
        columns = max(1, round((len(pictures) * height / width) ** 0.5))
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), "white")
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        whole.paste(picture, (column * (width + GAP), row * (height + GAP)))
    return whole


def chosen_channels(image: xarray.DataArray, channels: Sequence[str | int] | None) -> xarray.DataArray:
    """Return some of the channels, by name or number."""
    if channels is None or "c" not in image.dims:
        return image
    names = image["c"].values.tolist() if "c" in image.coords else []
    numbers = []
    for channel in channels:
        known = isinstance(channel, int) and channel < image.sizes["c"]
        if not known and channel not in names:
            what = f"channels={list(channels)!r}: this sample has {', '.join(map(str, names))}"
            raise TargetError(what, key="channels", hint="Name one channel, or three for red, green and blue")
        numbers.append(channel if known else names.index(channel))
    return image.isel(c=numbers)


def _arranged(array: xarray.DataArray) -> xarray.DataArray:
    """Axes t, c, y, x, whichever of them there are; of volumes the first plane."""
    array = array.isel(z=0) if "z" in array.dims else array
    strange = set(array.dims) - {*_AXES}
    if strange:
        axis = min(map(str, strange))
        raise TargetError(f"this sample has an axis {axis!r}, not a single picture", key=axis, hint="Choose one")
    return array.expand_dims([d for d in _AXES if d not in array.dims]).transpose(*_AXES)


_AXES = ("t", "c", "y", "x")


def _panel(shown: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None, factor: float) -> Image.Image:
    """Return a frame (y, x, rgb) at its size on the screen."""
    if valid is not None:
        y, x = np.indices(valid.shape)
        shown = shown.copy()
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
    here = np.flatnonzero(found.columns["frame"] == t)
    to_frame = [to_panel @ matrix for matrix in found.to_sample]
    for i in here:
        category, track = (found.columns[key][i].item() for key in ("category_id", "track_id"))
        color = _color(category)
        record = found.records[i]
        shape = shape_of(record, image_size_of(context, t))
        parts = () if shape is None else shape.to_polygons().warped(to_frame[t]).parts
        for ring in [ring for part in parts for ring in part]:
            pen.line([*map(tuple, ring), tuple(ring[0])], fill=color, width=2)
        _points(pen, record, to_frame[t], color)
        x, y, w, h = boxes[i]
        if not np.isfinite(x):
            continue
        pen.rectangle((x, y, x + w, y + h), outline=color)
        name = str(names.get(category, ""))
        if track not in (NO_ID, None, ""):
            name += f" #{track}"
            _way(
                pen, boxes, np.flatnonzero((found.columns["track_id"] == track) & (found.columns["frame"] <= t)), color
            )
        if name:
            _label(pen, (max(x, 0), max(y, 0)), name, color)


def _points(pen: ImageDraw.ImageDraw, record: Any, to_panel: np.ndarray[Any, Any], color: tuple[int, ...]) -> None:
    """Draw keypoints as dots: dictionaries with `xy`, or COCO's flat x, y, visibility (0 is none)."""
    given = record.get("keypoints")
    if given is None or not len(given):
        return
    if isinstance(given[0], Mapping):
        places = [point["xy"] for point in given]
    else:
        places = [(x, y) for x, y, seen in np.reshape(given, (-1, 3)) if seen]
    moved = np.reshape(np.asarray(places, float), (-1, 2)) @ to_panel[:2, :2].T + to_panel[:2, 2]
    for x, y in moved.tolist():
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=color, outline="white")


def _way(pen: ImageDraw.ImageDraw, boxes: np.ndarray[Any, Any], rows: Any, color: tuple[int, ...]) -> None:
    """Draw the way of a track up to a frame, through the middles of its boxes."""
    middles = boxes[rows, :2] + boxes[rows, 2:] / 2
    if len(rows) > 1 and np.isfinite(middles).all():
        pen.line([*map(tuple, middles)], fill=color, width=1)


def _label(pen: ImageDraw.ImageDraw, corner: tuple[float, float], name: str, color: tuple[int, ...]) -> None:
    """Write a name on a plate of its colour, which can be read on any picture."""
    left, top, right, bottom = pen.textbbox((corner[0] + 2, corner[1]), name)
    pen.rectangle((left - 2, top - 1, right + 2, bottom + 1), fill=color)
    pen.text((corner[0] + 2, corner[1]), name, fill="black" if sum(color) > 380 else "white")


def _color(category: Any) -> tuple[int, ...]:
    hue = (hash(category) * 0.618033988749895) % 1 if isinstance(category, int) else 0.5
    return tuple(round(255 * v) for v in colorsys.hsv_to_rgb(hue, 0.9, 1.0))
