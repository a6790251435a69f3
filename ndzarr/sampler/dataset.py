"""What does a kwcoco dataset say about its images, in our own terms?

All knowledge of kwcoco's dictionaries is here: where the assets of an image are, how they are aligned, what their
channels are called, which frames make a video.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ndzarr.errors import MissingError, TargetError
from ndzarr.geometry.affine import IDENTITY
from ndzarr.sampler.scene import Asset, Frame


def coerce(dset: Any) -> Any:
    """
    The `kwcoco.CocoDataset` that a person means.

    Parameters
    ----------
    dset
        A dataset, its path, or its dictionary.

    Raises
    ------
    MissingError
        The path does not exist.
    """
    import kwcoco

    if isinstance(dset, (str, os.PathLike)):
        path = Path(dset)
        if not path.exists():
            raise MissingError(f"{path.absolute()}: no such kwcoco dataset")
        return kwcoco.CocoDataset(os.fspath(path))
    if isinstance(dset, Mapping):
        return kwcoco.CocoDataset(dict(dset))
    if not hasattr(dset, "index"):
        raise TargetError(f"{type(dset).__name__}: expected a kwcoco.CocoDataset, a path or a dictionary")
    return dset


def frame(dset: Any, gid: Any) -> Frame:
    """The `Frame` of an image."""
    image = dset.index.imgs[gid]
    name = f"image {gid!r}" + (f" ({image['name']})" if image.get("name") else "")
    assets = tuple(_asset(dset, obj, image) for obj in _asset_dicts(image))
    return Frame(
        gid=gid,
        assets=assets,
        size=_size(image),
        to_video=_affine(image.get("warp_img_to_vid")),
        index=image.get("frame_index", gid) if image.get("frame_index") is not None else gid,
        time=_time(image),
        name=name,
    )


def _asset_dicts(image: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The image's own file first, then its assets, under any of the names that kwcoco has given them."""
    own = [image] if image.get("file_name") else []
    for key in ("assets", "auxiliary"):
        listed = image.get(key) or []
        own += list(listed.values()) if isinstance(listed, Mapping) else list(listed)
    return own


def _asset(dset: Any, obj: Mapping[str, Any], image: Mapping[str, Any]) -> Asset:
    return Asset(
        path=os.path.abspath(os.path.join(dset.bundle_dpath, obj["file_name"])),
        channels=channel_names(obj.get("channels")),
        to_image=IDENTITY if obj is image else _affine(obj.get("warp_aux_to_img")),
        size=_size(obj),
    )


def _size(obj: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = obj.get("width"), obj.get("height")
    return None if width is None or height is None else (int(width), int(height))


def _affine(warp: Any) -> np.ndarray[Any, Any]:
    """A transform in any form that kwcoco stores: a dictionary, a matrix, nothing."""
    if warp is None:
        return IDENTITY
    import kwimage

    matrix = np.asarray(kwimage.Affine.coerce(warp).matrix, float)
    return matrix if matrix.shape == (3, 3) else np.vstack([matrix, [0, 0, 1]])


def channel_names(spec: Any) -> tuple[str, ...] | None:
    """
    Channel names that a kwcoco channel code (`r|g|b`, `rgb`, `B.0:3`) or a list of names means; None for None.

    Examples
    --------
    >>> channel_names("r|g|b"), channel_names(["nir"]), channel_names("rgb")
    (('r', 'g', 'b'), ('nir',), ('r', 'g', 'b'))
    """
    if not spec:
        return None
    return _parsed(spec) if isinstance(spec, str) else tuple(str(s) for s in spec)


@cache
def _parsed(spec: str) -> tuple[str, ...]:
    import delayed_image

    return tuple(delayed_image.FusedChannelSpec.coerce(spec).normalize().as_list())


def video_frames(dset: Any, vidid: Any) -> tuple[Any, ...]:
    """
    Image ids of a video, in the order of its frames.

    Raises
    ------
    TargetError
        There is no such video, or it has no frames.
    """
    if vidid not in dset.index.videos:
        raise TargetError(f"vidid={vidid!r}: no such video; the dataset has {list(dset.index.videos)[:5]}")
    gids = tuple(dset.index.vidid_to_gids[vidid])
    if not gids:
        raise TargetError(f"vidid={vidid!r}: the video has no frames")
    return gids


def video_size(dset: Any, gid: Any) -> tuple[int, int] | None:
    """(height, width) of the video space that an image belongs to; None if it is in no video or that states none."""
    video = dset.index.videos.get(dset.index.imgs[gid].get("video_id"))
    size = None if video is None else _size(video)
    return None if size is None else (size[1], size[0])


def _time(image: Mapping[str, Any]) -> np.datetime64 | None:
    """When an image was taken, in UTC; None if it does not say, or not in a form that is a date."""
    value = image.get("date_captured") or image.get("timestamp")
    if value is None or value == "":
        return None
    try:
        moment = (
            datetime.fromtimestamp(value, UTC) if isinstance(value, (int, float)) else datetime.fromisoformat(value)
        )
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(moment, "ns")
