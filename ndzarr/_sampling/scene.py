"""Frames of assets, and the window of them that a target means.

A `Frame` is one image: assets (files with some channels each) that `to_image` maps into image space, which `to_video`
maps into the space of its video.  An image target samples image space, a video target samples video space.  A named
source is a frame with one asset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ndzarr._pyramid.crops import Sampling
from ndzarr._sampling.target import Padding

Channel: TypeAlias = tuple[str, str]
"""(sensor, name) of a channel asked for; the sensor '*' stands for any."""


@dataclass(slots=True, eq=False)
class Clock:
    """The times of the frames of one file; shared by all images that are frames of it."""

    seconds: tuple[float, ...] | None = None
    """Time of each frame, once the file has been opened; empty if the file has none."""


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
    nodata: float | tuple[float | None, ...] | None = None
    """Value of missing pixels, or that of each channel, as the dataset states it; if not, the file's own holds."""
    position: int | None = None
    """Frame of the file, where the file holds a video; None if the dataset does not say."""
    container: bool = False
    """True where the dataset says that the file holds a video."""
    clock: Clock | None = None
    """Times of the frames of the file; None where `position` is."""
    palette: str | None = None
    """'colours' or 'indices', if that is known."""
    series: str | int | None = None
    """Image of a TIFF that holds several, if the dataset names one."""
    kind: str | None = None
    """'intensity', or 'labels', whose channels a sample has only if they are asked for; None if that is not stated."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image, alone or in a video."""

    gid: Any
    """Its id, or the name of a named source; None for a frame that pads a window in time."""
    assets: tuple[Asset, ...]
    size: tuple[int, int] | None
    """(width, height) of image space."""
    to_video: np.ndarray[Any, Any]
    """3x3, from image space to video space."""
    index: int
    """frame_index; the image's id where it is in no video."""
    time: Any = None
    """When it was taken (numpy datetime64), if the dataset says so."""
    name: str = ""
    """Its name in messages."""
    sensor: str = "*"
    """Its sensor; '*' if the dataset does not say."""

    @property
    def seconds(self) -> float | None:
        """Its time in the video that its file holds, if that is known by now."""
        first = self.assets[0] if self.assets else None
        if first is None or first.clock is None or not first.clock.seconds:
            return None
        return first.clock.seconds[first.position] if first.position < len(first.clock.seconds) else None  # type: ignore[operator,index]


class Scene(NamedTuple):
    """Frames, and a window in the space that is sampled: a target with everything filled in that needs no file."""

    frames: tuple[Frame, ...]
    """In the order of t; exactly one for an image target or a named source."""
    video: bool
    """True where the frames make an axis t of the sample."""
    space: tuple[int, int]
    """(height, width) of the sampled space."""
    y: tuple[int, int]
    """Half-open interval in the sampled space."""
    x: tuple[int, int]
    """Half-open interval in the sampled space."""
    n: tuple[int, int]
    """Output pixels along (y, x)."""
    channels: tuple[Channel, ...] | None
    """Channels asked for; None for all that the frames have."""
    sampling: Sampling
    padding: Padding
    nodata: str | None = None
    """How missing pixels are returned, one of `target.NODATA`; None leaves them as they are stored."""
    dtype: np.dtype[Any] | None = None
    """Type of the sample; None for that of the data."""
    lead: tuple[tuple[str, Any], ...] = ()
    """(axis, slice or positions) asked for along axes of the files: z, of named sources also t."""
    named: bool = False
    """True for a named source: the sample has the axes of the file."""

    @property
    def pitch(self) -> tuple[float, float]:
        """Native pixels per output pixel along (y, x)."""
        return (self.y[1] - self.y[0]) / self.n[0], (self.x[1] - self.x[0]) / self.n[1]

    @property
    def transform(self) -> np.ndarray[Any, Any]:
        """3x3, from sample pixels to the sampled space."""
        py, px = self.pitch
        return np.array([[px, 0, self.x[0]], [0, py, self.y[0]], [0, 0, 1.0]])

    def of_asset(self, frame: Frame, asset: Asset, n: tuple[int, int], channels: tuple[str, ...]) -> Scene:
        """Return the same window of one asset of one frame alone, at another size."""
        alone = replace(frame, assets=(asset,))
        return self._replace(frames=(alone,), n=n, channels=tuple([("*", name) for name in channels]))


def dates(times: Sequence[np.datetime64 | None]) -> np.ndarray[Any, Any]:
    """Return dates in nanoseconds, or, where some are before 1678 or after 2261, in microseconds; NaT for None."""
    fine = np.array([np.datetime64("NaT", "us") if t is None else t for t in times], "datetime64[us]")
    near = np.isnat(fine) | ((fine >= np.datetime64("1678")) & (fine < np.datetime64("2262")))
    return fine.astype("datetime64[ns]") if near.all() else fine


def same_unit(columns: Sequence[np.ndarray[Any, Any]]) -> Sequence[np.ndarray[Any, Any]]:
    """Return dates in one unit, the coarsest, which holds them all; other columns as they are."""
    units = {c.dtype for c in columns if c.dtype.kind == "M"}
    if len(units) < 2:
        return columns
    return [c.astype("datetime64[us]") if c.dtype.kind == "M" else c for c in columns]


def time_coordinate(scene: Scene) -> np.ndarray[Any, Any]:
    """Return dates where every frame has one; else seconds, for frames of video files; else frame indices."""
    real = [f for f in scene.frames if f.gid is not None]
    if all(f.time is not None for f in real):
        return dates([f.time for f in scene.frames])
    seconds = [f.seconds for f in real]
    if seconds and None not in seconds:
        return np.array([np.nan if f.gid is None else f.seconds for f in scene.frames], np.float64)
    return np.array([f.index for f in scene.frames])


def frame_ids(scene: Scene) -> np.ndarray[Any, Any]:
    """Return the image ids of the frames, -1 for frames that pad; shape (t,)."""
    return np.array([-1 if f.gid is None else f.gid for f in scene.frames])
