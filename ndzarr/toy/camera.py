"""What does a camera make of what it sees, and where and when does it look?"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import cv2
import numpy as np

from ndzarr.toy.land import Pixels

_FIRST = datetime(2024, 5, 1, 10, 30)
"""When the first frame of a video is taken."""

_ROWS = 256
"""That are exposed at a time."""


def exposed(picture: Pixels, rng: np.random.Generator, depth: int = 8) -> np.ndarray[Any, Any]:
    """
    A picture as a sensor records it: softened by the lens, with photon noise; shape (y, x, band).

    Parameters
    ----------
    depth
        Bits: 8 gives uint8, 16 gives uint16 as reflectance times 10000, at least 1.
    """
    out = np.empty(picture.shape, np.uint8 if depth == 8 else np.uint16)
    scale, low = (1.0, 0) if depth == 8 else (10000 / 255, 1)
    for y in range(0, len(picture), _ROWS):  # so that temporaries stay small
        above = min(y, 2)
        soft = cv2.GaussianBlur(picture[y - above : y + _ROWS + 2], (5, 5), 0.7)
        signal = soft[above : above + len(out[y : y + _ROWS])].astype(np.float32)
        noise = rng.standard_normal(signal.shape, dtype=np.float32)
        signal += noise * np.sqrt(np.maximum(signal, 1) * np.float32(0.03) + np.float32(0.5))
        out[y : y + _ROWS] = np.rint(np.clip(signal * scale, low, 255 * scale))
    return out


def drifts(seed: tuple[int, ...], frames: int, most: float = 8.0) -> list[tuple[float, float]]:
    """Where the origin of each frame lies: (x, y) in video space, quarters of pixels up to `most`, at first 0, 0."""
    steps = np.random.default_rng([*seed, 3]).normal(0, most / 3, (frames, 2)).cumsum(axis=0)
    quarters = np.rint(np.clip(steps - steps[:1], -most, most) * 4) / 4
    return [(float(x), float(y)) for x, y in quarters]


def date(frame: int, days: float) -> str:
    """When a frame is taken (ISO 8601), so many days after the one before."""
    return (_FIRST + timedelta(days=days * frame)).isoformat()
