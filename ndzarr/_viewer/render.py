"""From pixels of any type to pictures for the screen: contrast, colours of channels and of classes, PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import imagecodecs
import numpy as np

from ndzarr._store.metadata import display_colours

Array: TypeAlias = np.ndarray[Any, Any]

BINS = 64
"""Bins of the histogram of a channel."""
CLASSES = 4096
"""Colours of classes; values beyond are counted from 1 again."""


@dataclass(frozen=True, slots=True)
class Channel:
    """How a channel is shown at first, and what its contrast may be."""

    name: str
    color: str
    """Six hexadecimal digits: red, green, blue."""
    visible: bool
    low: float
    """Value that is shown black."""
    high: float
    """Value that is shown in full colour."""
    minimum: float
    maximum: float
    histogram: tuple[int, ...]
    """Number of pixels between minimum and maximum, in bins of equal width."""

    def as_json(self) -> dict[str, Any]:
        """Return what the page needs of it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Display:
    """One channel as the page asks for it."""

    channel: int
    """Position along c."""
    low: float
    high: float
    color: tuple[int, int, int]
    """Red, green and blue of `high`, 0 to 255."""


def display_channels(
    names: Sequence[str], pixels: Array, valid: Array | None, attrs: Mapping[str, Any]
) -> list[Channel]:
    """
    Return how channels are shown at first, found on an overview with axes (c, y, x).

    What OME-Zarr's `omero` states holds.  uint8 is shown as it is, and other types between their 1st and 99th
    percentile.
    """
    stated = attrs.get("ome", attrs).get("omero", {}).get("channels", [])
    stated = stated if len(stated) == len(names) else [{}] * len(names)
    out = []
    for name, plane, (color, visible), own in zip(names, pixels, display_colours(names), stated, strict=True):
        real = plane if valid is None else plane[valid]
        real = (np.abs(real) if plane.dtype.kind == "c" else real).astype(np.float64)
        real = real[np.isfinite(real)] if np.isfinite(real).any() else np.zeros(1)
        least, most = (0.0, 255.0) if plane.dtype == np.uint8 else (float(real.min()), float(real.max()))
        low, high = (least, most) if plane.dtype == np.uint8 else map(float, np.percentile(real, (1, 99)))
        if plane.dtype.kind in "iu":
            low, high = round(low), round(high)
        window = own.get("window", {})
        low, high = float(window.get("start", low)), float(window.get("end", high))
        least, most = min(least, low), max(most, high)
        if not least < most:
            least, most = least - 0.5, most + 0.5
        if not low < high:
            low, high = least, most
        histogram = np.histogram(real, BINS, (least, most))[0].tolist()
        known = str(own.get("color", color)).lstrip("#").upper()
        color = known if len(known) == 6 and not set(known) - set("0123456789ABCDEF") else color
        out.append(Channel(name, color, own.get("active", visible), low, high, least, most, tuple(histogram)))
    return out


def rendered(pixels: Array, valid: Array | None, displays: Sequence[Display]) -> Array:
    """
    Return a picture, uint8 with axes (y, x, rgb), or (y, x, rgba) if some pixels are not real.

    `pixels` have axes (c, y, x): one channel for each of `displays`, whose colours are added.
    """
    height, width = pixels.shape[-2:]
    out = np.zeros((height, width, 3 if valid is None else 4), np.uint8)
    grey = [_stretched(plane, show.low, show.high) for plane, show in zip(pixels, displays, strict=True)]
    for k in range(3):
        parts = [(plane, show.color[k]) for plane, show in zip(grey, displays, strict=True) if show.color[k]]
        if len(parts) == 1 and parts[0][1] == 255:
            out[..., k] = parts[0][0]
        elif parts:
            total = sum(plane.astype(np.uint32) * weight for plane, weight in parts)
            out[..., k] = np.minimum((total + 127) // 255, 255)
    if valid is not None:
        out[..., 3] = valid * np.uint8(255)
    return out


def _stretched(plane: Array, low: float, high: float) -> Array:
    """Return values between low and high as 0 to 255, rounded."""
    if plane.dtype.kind == "b":
        plane = plane.view(np.uint8)
    if plane.dtype in (np.uint8, np.uint16):
        return _table(plane.dtype.str, low, high)[plane]
    return _scaled(np.abs(plane) if plane.dtype.kind == "c" else plane, low, high)


@lru_cache(maxsize=64)
def _table(dtype: str, low: float, high: float) -> Array:
    """Return what `_scaled` makes of every value of a type: looking it up is quicker."""
    return _scaled(np.arange(np.iinfo(dtype).max + 1), low, high)


def _scaled(values: Array, low: float, high: float) -> Array:
    part = (values.astype(np.float64) - low) * (255 / max(high - low, 1e-300))
    return np.rint(np.clip(np.nan_to_num(part), 0, 255)).astype(np.uint8)


def rendered_labels(pixels: Array, valid: Array | None, attrs: Mapping[str, Any]) -> Array:
    """Return a picture of classes or objects, as `rendered` does: a colour for each value, black for 0."""
    values = pixels[0] if pixels.dtype.kind in "iub" else np.nan_to_num(pixels[0]).astype(np.int64)
    table = class_colors().copy()
    for color in attrs.get("ome", attrs).get("image-label", {}).get("colors", ()):
        if 0 <= color["label-value"] < CLASSES:
            table[color["label-value"]] = color["rgba"][:3]
    plain = values.astype(np.int64)
    out = table[np.where(plain < CLASSES, np.abs(plain), 1 + np.abs(plain) % (CLASSES - 1))]
    return out if valid is None else np.dstack([out, valid * np.uint8(255)])


@lru_cache(maxsize=1)
def class_colors() -> Array:
    """Return distinct colours, uint8 (CLASSES, rgb), with hues a golden section of the circle apart; 0 is black."""
    hue = (np.arange(CLASSES)[:, None] * 0.618033988749895 + np.array([1.0, 2 / 3, 1 / 3])) % 1
    light = np.where(np.arange(CLASSES) % 2, 1.0, 0.8)[:, None]
    colors: Array = np.rint(255 * light * np.clip(np.abs(hue * 6 - 3) - 1, 0.4, 1)).astype(np.uint8)
    colors[0] = 0
    return colors


def rgb(digits: str) -> tuple[int, int, int]:
    """Return red, green and blue of six hexadecimal digits."""
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def png(picture: Array) -> bytes:
    """Return a picture as PNG, by the options that encode fastest: run lengths of differences along x."""
    codec = imagecodecs.PNG
    how = {"strategy": codec.STRATEGY.RLE, "filter": codec.FILTER.SUB}
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(picture), level=1, **how))
