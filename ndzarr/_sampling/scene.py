"""Of what is a sample composed, and how do its spaces fit together?

A `Frame` is one image: assets (files with some channels each) that `to_image` maps into image space, which `to_video`
maps into the space of its video.  An image target samples image space, a video target video space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from ndzarr._indexing.selection import AxisSelection, lengths, outside, select
from ndzarr._pyramid.crops import Sampling
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._sampling.target import Padding
from ndzarr.errors import TargetError, WindowError

Channel: TypeAlias = tuple[str, str]
"""(sensor, name) of a channel asked for; the sensor '*' stands for any."""


@dataclass(slots=True, eq=False)
class Clock:
    """When the frames of one file are shown; shared by all images that are frames of it."""

    seconds: tuple[float, ...] | None = None
    """Of each frame, once the file has been opened; empty if it does not say."""


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
    nodata: float | None = None
    """Value of missing pixels as the dataset states it; the file's own holds if it does not."""
    position: int | None = None
    """Which frame of the file it is, where the file holds a video; None if the dataset does not say."""
    container: bool = False
    """True where the dataset says that the file holds a video."""
    clock: Clock | None = None
    """When the frames of the file are shown; None where `position` is."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a dataset, alone or in a video."""

    gid: Any
    """Its id; None for a frame that pads a window in time."""
    assets: tuple[Asset, ...]
    """Its files."""
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
    sensor: str = "*"
    """What took it."""

    @property
    def seconds(self) -> float | None:
        """When it is shown in the video that its file holds, if that is known by now."""
        first = self.assets[0] if self.assets else None
        if first is None or first.clock is None or not first.clock.seconds:
            return None
        return first.clock.seconds[first.position] if first.position < len(first.clock.seconds) else None  # type: ignore[operator,index]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What a target resolves to: frames, and a window in the space that is sampled."""

    frames: tuple[Frame, ...]
    """In the order of t; exactly one for an image target."""
    video: bool
    """True where the sample has an axis t."""
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
    """How pixels are made where they are not copied."""
    padding: Padding
    """What is put where there are no pixels."""
    nodata: str | None = None
    """How missing pixels are returned; see `values.NODATA`."""
    dtype: np.dtype[Any] | None = None
    """Of the sample; None for that of the data."""
    z: Any = None
    """Planes asked for; None for all."""
    planes: Planes | None = None
    """What these are, once files were opened; None where the sample has no axis z."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Axes of the sample."""
        lead = ("t", "c") if self.video else ("c",)
        return (*lead, "y", "x") if self.planes is None else (*lead, "z", "y", "x")

    @property
    def pitch(self) -> tuple[float, float]:
        """Native pixels per output pixel along (y, x)."""
        return (self.y[1] - self.y[0]) / self.n[0], (self.x[1] - self.x[0]) / self.n[1]

    @property
    def transform(self) -> np.ndarray[Any, Any]:
        """3x3, from sample pixels to the sampled space."""
        py, px = self.pitch
        return np.array([[px, 0, self.x[0]], [0, py, self.y[0]], [0, 0, 1.0]])

    def to_space(self, frame: Frame) -> np.ndarray[Any, Any] | None:
        """3x3 from the image space of a frame to the sampled space; None where they are the same."""
        return frame.to_video if self.video else None

    def of_asset(self, frame: Frame, asset: Asset, n: tuple[int, int]) -> Scene:
        """The same window of one asset of one frame alone, at another size."""
        alone = replace(frame, assets=(asset,))
        return replace(self, frames=(alone,), n=n)


# --- Which planes of volumes make a sample?


@dataclass(frozen=True, slots=True)
class Planes:
    """The axis z of a sample."""

    positions: tuple[int, ...]
    """Of its planes in their files; negative, or behind the last, for those that do not exist."""
    read: AxisSelection
    """Those that exist."""
    target: slice
    """Where these land among all."""

    @property
    def complete(self) -> bool:
        """True where all exist."""
        return self.target == slice(0, len(self.positions))

    @property
    def number_read(self) -> int:
        """How many exist."""
        return lengths((self.read,))[0]


def planes_of(
    wanted: Any, files: Sequence[tuple[Frame, Asset]], open_asset: Callable[[Asset], Pyramid]
) -> Planes | None:
    """
    The planes of a sample; None where its files have one each.

    Parameters
    ----------
    wanted
        `z` of the target; None for all planes.
    files
        What the sample is made from.

    Raises
    ------
    TargetError
        Files differ in their number of planes, there are no planes to choose from, or the choice is not understood.
    """
    if wanted is None and not any("z" in dims for dims in {open_asset(asset).dims for _, asset in files}):
        return None
    depths = [open_asset(asset).sizes.get("z", 1) for _, asset in files]
    depth = max(depths, default=1)
    if depth == 1:
        if wanted is not None:
            shown = f"{_name(files[0])} has no planes" if files else "there is no file that has planes"
            raise TargetError(f"z={wanted!r}: {shown}; leave z out")
        return None
    if min(depths) != depth:
        few, many = (depths.index(n) for n in (min(depths), depth))
        raise TargetError(
            f"{_name(files[few])} has {depths[few]} plane{'s' * (depths[few] != 1)} along z, {_name(files[many])} has "
            f"{depth}; what makes one sample has to have as many: choose other channels or frames, or load them apart"
        )
    try:
        return _chosen(wanted, depth)
    except WindowError as error:
        raise TargetError(f"{error}; {_name(files[0])} has {depth} planes") from error


def _chosen(wanted: Any, depth: int) -> Planes:
    """As `Pyramid.window` understands it."""
    beyond = outside(depth, wanted) if isinstance(wanted, slice) else None
    if beyond is not None:
        asked, read, target = beyond
        return Planes(tuple(asked), read, target)
    [there] = select(("z",), (depth,), {"z": wanted})
    positions = tuple(range(depth)[there]) if isinstance(there, slice) else there
    return Planes(positions, there, slice(0, len(positions)))


def _name(file: tuple[Frame, Asset]) -> str:
    frame, asset = file
    return f"{frame.name}: {asset.path}"
