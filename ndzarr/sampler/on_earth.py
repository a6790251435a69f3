"""Where on earth does a sample lie, and which window is meant by a box in coordinates?

Assets that are georeferenced place the space that is sampled: an asset's transform from pixels to coordinates, after
the way back from the space to the asset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from ndzarr.errors import TargetError
from ndzarr.geo.bounds import metres_per_pixel, pixels
from ndzarr.geo.georeference import Georeference, Transform
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.sampler.assembly import Composition
from ndzarr.sampler.scene import Asset, Frame
from ndzarr.sampler.target import Target

Places: TypeAlias = "Callable[[Frame, bool], Georeference | None]"
"""The georeference of the space of a frame: of its video where True."""


class Located(NamedTuple):
    """Where a sample lies."""

    place: Georeference
    """The reference system, and where the pixels of an asset lie."""
    transform: Transform
    """From pixels of the sample to coordinates."""


def located(composition: Composition) -> Located | None:
    """Where a sample lies by the first of its pieces that knows; None where none does."""
    for piece in composition.pieces:
        place = piece.crop.pyramid.georeference
        if place is None or place.transform is None:
            continue
        if piece.warp is not None:
            a, b, c, d, e, f = (place.matrix @ piece.warp.to_native)[:2].ravel().tolist()
            return Located(place, (a, b, c, d, e, f))
        y, x = piece.crop.region.y, piece.crop.region.x
        return Located(place, place.at(y.origin, x.origin, y.pitch, x.pitch))
    return None


def place_of(frame: Frame, video: bool, open_asset: Callable[[Asset], Pyramid]) -> Georeference | None:
    """The georeference of image space, or of video space, by the first asset that has one."""
    for asset in frame.assets:
        place = open_asset(asset).georeference
        if place is not None and place.transform is not None:
            return place.moved(frame.to_video @ asset.to_image if video else asset.to_image)
    return None


def windowed(target: Target, frames: Sequence[Frame], places: Places | None) -> Target:
    """
    A target whose box in coordinates has become a window of the space that is sampled.

    Raises
    ------
    TargetError
        No frame is georeferenced.
    """
    if target.bounds is None:
        return target
    place = _first(target, frames, places)
    if place is None:
        raise TargetError(f"bounds={target.bounds[0]!r}: none of the images is georeferenced; give a window in pixels")
    y, x = pixels(place, *target.bounds)
    return replace(target, y=y, x=x, centre=(None, None), size=(None, None), window_dims=None)


def metres(
    target: Target, frames: Sequence[Frame], places: Places | None, y: tuple[int, int], x: tuple[int, int]
) -> tuple[float, float] | None:
    """Metres per pixel of the sampled space along (x, y) in the middle of a window; None where it has no place."""
    place = _first(target, frames, places)
    return None if place is None else metres_per_pixel(place, (y[0] + y[1]) / 2, (x[0] + x[1]) / 2)


def _first(target: Target, frames: Sequence[Frame], places: Places | None) -> Georeference | None:
    if places is None:
        return None
    found = (places(frame, target.video) for frame in frames if frame.gid is not None)
    return next((place for place in found if place is not None), None)
