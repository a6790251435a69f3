"""Names of channels, and conversion of palettes and inks to r, g and b.

A source names its planes: gray, or r g b, with a for alpha.  Files that store something else are converted:

- palettes are looked up (the alpha of a transparent entry is kept as a);
- cyan, magenta, yellow and black become r, g, b through the ICC profile in the file, else by multiplying what each
  ink leaves of white, rounded as Pillow does.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from ndzarr._formats.base import Pixels, reason
from ndzarr._formats.options import numbered

GRAY = ("gray",)
RGB = ("r", "g", "b")
ALPHA = "a"

_PIXELS_AT_ONCE = 1 << 20


def plain_names(count: int) -> tuple[str, ...]:
    """Name channels of which only the number is known."""
    known = {1: GRAY, 3: RGB, 4: (*RGB, ALPHA)}
    return known.get(count, numbered(count))


def with_extras(colours: Sequence[str], count: int, alpha: int | None) -> tuple[str, ...]:
    """Name `count` channels: colours first, then others; `alpha` is the position of alpha, if there is one."""
    names = [*colours[:count], *(f"c{i}" for i in range(len(colours), count))]
    if alpha is not None and alpha < count:
        names[alpha] = ALPHA
    return tuple(names)


class InkMixer:
    """Converts cyan, magenta, yellow and black to red, green and blue; metadata say what `said` holds."""

    def __init__(self, profile: bytes | None, dtype: np.dtype[Any]) -> None:
        self._profile = profile if dtype in (np.uint8, np.uint16) else None
        self.said = "CMYK converted to RGB without a profile"
        if self._profile is not None:
            try:
                _transform(np.zeros((1, 1, 4), dtype), self._profile)
                self.said = f"CMYK converted to sRGB by the ICC profile {_profile_name(self._profile)!r}"
            except RuntimeError as error:
                self.said += f" (the embedded one cannot be used: {reason(error)})"
                self._profile = None

    def __call__(self, inks: Pixels) -> Pixels:
        """
        Convert inks, shape (4, ...), to shape (3, ...) of the same dtype.

        0 leaves white; the maximum of an unsigned integer, or 1.0, is full ink.
        """
        profile = self._profile
        if profile is None:
            return _leave_of_white(inks)
        flat = np.moveaxis(inks, 0, -1).reshape(1, -1, 4)
        mixed = np.empty((1, flat.shape[1], 3), inks.dtype)
        for i in range(0, flat.shape[1], _PIXELS_AT_ONCE):
            part = np.ascontiguousarray(flat[:, i : i + _PIXELS_AT_ONCE])
            mixed[:, i : i + _PIXELS_AT_ONCE] = _transform(part, profile)
        return np.moveaxis(mixed.reshape(*inks.shape[1:], 3), -1, 0)


def _profile_name(profile: bytes) -> str:
    from PIL import ImageCms

    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return "unreadable"


def describe_profile(profile: bytes | None) -> dict[str, str]:
    """Return the name of an embedded profile as metadata."""
    return {"icc_profile": _profile_name(profile)} if profile else {}


def _transform(part: Pixels, profile: bytes) -> Pixels:
    import imagecodecs

    srgb = imagecodecs.cms_profile("srgb")
    mixed: Pixels = imagecodecs.cms_transform(part, profile, srgb, colorspace="cmyk", outcolorspace="rgb")
    return mixed


def _leave_of_white(inks: Pixels) -> Pixels:
    """Multiply what each ink leaves of white."""
    if inks.dtype.kind == "f":
        return np.asarray((1 - inks[:3]) * (1 - inks[3]))
    if inks.dtype == np.uint8:  # as Pillow multiplies bytes, within 16 bits
        rest = 255 - inks[3]
        product = inks[:3].astype(np.uint16) * rest + np.uint16(128)
        return np.asarray(rest - (((product >> 8) + product) >> 8).astype(np.uint8))
    top = np.iinfo(inks.dtype).max
    white = (top - inks).astype(np.float64)
    return np.asarray(np.rint(white[:3] * white[3] / top), inks.dtype)
