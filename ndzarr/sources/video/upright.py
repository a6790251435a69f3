"""Which way up is a video?

A container states a matrix of 3x3 fixed-point numbers that maps the stored picture to the one shown (ISO 14496-12,
8.5.2: `a b u c d v x y w`, 16.16 and for u, v, w 2.30).  Those that turn by quarters or mirror have a number from 1 to
8, as EXIF has them; all others leave the picture as it is stored.
"""

from __future__ import annotations

import struct
from typing import Any

_TAGS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}
"""Signs of (a, b, c, d), where x' = a x + c y and y' = b x + d y, to EXIF's number."""
_TURNED = {0: 1, 90: 8, 180: 3, -180: 3, -90: 6}
"""Degrees that FFmpeg makes of a matrix, to EXIF's number."""


def tag_of(frame: Any) -> int:
    """The orientation of a frame as EXIF's number; 1 where none is stated."""
    try:
        data = bytes(frame.side_data["DISPLAYMATRIX"])
    except KeyError:
        return 1
    except ValueError:  # beside it lies something that PyAV has no name for, and will not look past
        return _TURNED.get(int(frame.rotation), 1)
    a, b, _, c, d = struct.unpack("=5i", data[:20])
    return _TAGS.get((_sign(a), _sign(b), _sign(c), _sign(d)), 1)


def _sign(value: int) -> int:
    """Of a 16.16 number that is -1, 0 or 1 but for rounding; 2 for any other."""
    nearest = round(value / 65536)
    return nearest if abs(value - nearest * 65536) < 256 and abs(nearest) <= 1 else 2
