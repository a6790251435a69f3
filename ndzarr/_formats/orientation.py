"""EXIF orientation: which way up an image is, and which stored pixels make an upright window.

Cameras store pixels as the sensor gives them, with a number from 1 to 8 that says how to turn them (TIFF 6.0, tag 274,
which EXIF uses).  Turning is a transpose followed by flips of rows and columns.  All of them are views, so an upright
window is read as one stored window and turned without a copy.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndzarr._formats.options import Options
from ndzarr.errors import SourceError

TAG = 274
"""Number of the orientation tag."""

_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
"""(transpose, then flip rows, then flip columns) per value of the tag."""


_XMP = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])""")
"""The orientation in a packet of XMP, as an attribute or an element."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pixels become upright ones."""

    tag: int = 1
    """Value of the tag that is applied; 1 leaves pixels as they are stored."""

    @property
    def transposes(self) -> bool:
        """True if rows become columns."""
        return _TURNS[self.tag][0]

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Turn a stored (height, width) upright, or an upright one back."""
        return (width, height) if self.transposes else (height, width)

    def stored(self, y: slice, x: slice, height: int, width: int) -> tuple[slice, slice]:
        """Return the stored (y, x) window that holds an upright one of an upright image of this size."""
        transpose, flip_y, flip_x = _TURNS[self.tag]
        if flip_y:
            y = slice(height - y.stop, height - y.start)
        if flip_x:
            x = slice(width - x.stop, width - x.start)
        return (x, y) if transpose else (y, x)

    def turn(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Turn the last two axes (y, x) of stored pixels upright; a view."""
        transpose, flip_y, flip_x = _TURNS[self.tag]
        if transpose:
            pixels = pixels.swapaxes(-1, -2)
        if flip_y:
            pixels = pixels[..., ::-1, :]
        if flip_x:
            pixels = pixels[..., ::-1]
        return pixels


def choose_orientation(name: str, tag: int, height: int, width: int, options: Options) -> Orientation:
    """Apply the option `orient` to an image of this stored size, whose file has this tag (1 if none)."""
    upright = Orientation(tag if tag in _TURNS else 1)
    if isinstance(options.orient, bool):
        return upright if options.orient else Orientation()
    for orientation in (upright, Orientation()):
        if orientation.size(height, width) == options.orient[::-1]:
            return orientation
    turned = upright.size(height, width)
    either = f" ({turned[1]} x {turned[0]} upright)" if upright.transposes else ""
    raise SourceError(
        f"{name}: expected {options.orient[0]} x {options.orient[1]} pixels (orient), found {width} x {height}{either}",
        hint="Correct the size, or pass orient=True or False",
    )


def describe_orientation(tag: int, applied: Orientation) -> dict[str, Any]:
    """Return the tag of a file, and whether it was applied, as metadata."""
    if tag not in _TURNS or tag == 1:
        return {}
    return {"orientation": {"tag": tag, "applied": applied.tag == tag}}


def find_orientation(info: Mapping[Any, Any]) -> int:
    """
    Return the orientation of an image by its metadata, keyed as Pillow does; 1 if they have none.

    EXIF comes first: a block of its own, or one in a text of a PNG, as ImageMagick writes it.  Then comes XMP.
    """
    for exif in (info.get("exif"), *(_raw_profile(info.get(f"Raw profile type {kind}")) for kind in ("exif", "APP1"))):
        found = exif_orientation(exif)
        if found is not None:
            return found
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or _raw_profile(info.get("Raw profile type xmp"))
    packet = xmp.encode() if isinstance(xmp, str) else xmp
    stated = _XMP.search(packet) if isinstance(packet, bytes) else None
    return int(stated[1]) if stated else 1


def _raw_profile(text: str | None) -> bytes | None:
    """Return the bytes in a text of ImageMagick's: an empty line, kind, length, and hexadecimal digits in lines."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:])) if text else None
    except ValueError:
        return None


def exif_orientation(exif: bytes | None) -> int | None:
    """Return the orientation in a block of EXIF, a small TIFF with the tag in its first directory; None without it."""
    # A damaged block counts as none: cameras that write one are common, and orientation is only a hint.
    data = (exif or b"").removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for i in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", data, start + 2 + 12 * i)
            if tag == TAG and kind == 3:
                return int(value) if value in _TURNS else 1
    except struct.error:
        return None
    return None
