"""Of what is a sample composed, and how do its spaces fit together?

A `Frame` is one image: assets (files with some channels each) that `to_image` maps into image space, which
`to_video` maps into the space of its video.  An image target samples image space, a video target video space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ndzarr.pyramid.region import Sampling


@dataclass(frozen=True, slots=True, eq=False)
class Asset:
    """One file of an image."""

    path: str
    """Absolute path of the file."""
    channels: tuple[str, ...] | None
    """Names of its channels as the dataset states them; None if it does not."""
    to_image: np.ndarray[Any, Any]
    """3x3, from pixels of the asset to image space."""
    size: tuple[int, int] | None
    """(width, height) as the dataset states it."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a dataset, alone or in a video."""

    gid: Any
    """Its id."""
    assets: tuple[Asset, ...]
    """Its files; empty for a frame that only pads a time window."""
    size: tuple[int, int] | None
    """(width, height) of image space."""
    to_video: np.ndarray[Any, Any]
    """3x3, from image space to video space."""
    index: int
    """frame_index; the image's id where it is in no video."""
    time: Any = None
    """When it was taken (numpy datetime64), if the dataset says so."""
    name: str = ""
    """What messages call it."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What a target resolves to: frames, and a window in the space that is sampled."""

    frames: tuple[Frame, ...]
    """In the order of t; exactly one for an image target."""
    video: bool
    """True where the sample has an axis t."""
    y: tuple[int, int]
    """Half-open interval in the sampled space."""
    x: tuple[int, int]
    """Half-open interval in the sampled space."""
    n: tuple[int, int]
    """Output pixels along (y, x)."""
    channels: tuple[str, ...] | None
    """Channels asked for; None for all that the frames have."""
    sampling: Sampling
    """How pixels are made where they are not copied."""
    fill: float
    """Value of pixels that are not there."""

    @property
    def pitch(self) -> tuple[float, float]:
        """Native pixels per output pixel along (y, x)."""
        return (self.y[1] - self.y[0]) / self.n[0], (self.x[1] - self.x[0]) / self.n[1]

    @property
    def transform(self) -> np.ndarray[Any, Any]:
        """3x3, from sample pixels to the sampled space."""
        py, px = self.pitch
        return np.array([[px, 0, self.x[0]], [0, py, self.y[0]], [0, 0, 1.0]])
