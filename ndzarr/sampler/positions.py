"""Which frame of a file is an image?

Where the dataset says that a file holds the frames of a video, or the file is a video, it is the one at `frame_index`.
"""

from __future__ import annotations

from ndzarr.errors import TargetError
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.sampler.scene import Asset, Frame

VIDEOS = ("video", "GIF", "PNG", "WebP")
"""Formats whose files hold the frames of a video, if they hold several."""


def position_of(frame: Frame, asset: Asset, pyramid: Pyramid) -> int:
    """
    Position along t of an asset in its file, which has an axis t.

    Raises
    ------
    TargetError
        The dataset does not say which, or names one that the file does not have; or the file is no video.
    """
    length = pyramid.sizes["t"]
    if not asset.container:
        if length == 1:
            return 0
        if pyramid.attrs.get("ndzarr", {}).get("source", {}).get("format") not in VIDEOS:
            raise TargetError(
                f"{frame.name}: {asset.path} has {length} planes along t; sample it by named axes with ndzarr.Sampler"
            )
    if asset.position is None:
        raise TargetError(f"{frame.name}: {asset.path} is a video of {length} frames; give the image its frame_index")
    if asset.position >= length:
        raise TargetError(
            f"{frame.name}: frame_index={asset.position}, but {asset.path} has {length} frames, 0 to {length - 1}"
        )
    return asset.position
