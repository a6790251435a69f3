"""Of which files is an image of a kwcoco dataset made, and how are they aligned?

An image has a file of its own, or assets, or both.  A frame of a video that has neither is a position in the file of its
video; and where a file that is named for an image holds a video, `frame_index` says which of its frames the image is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.geometry.affine import IDENTITY
from ndzarr.sampler.scene import Asset, Clock, Frame


@cache
def channel_names(spec: str) -> tuple[str, ...]:
    """Names of the channels of one file."""
    import delayed_image

    return tuple(delayed_image.FusedChannelSpec.coerce(spec).normalize().as_list())


def _frame(image: Mapping[str, Any], folder: str) -> Frame:
    gid = image["id"]
    index = image.get("frame_index")
    return Frame(
        gid=gid,
        assets=tuple(_asset(obj, image, folder) for obj in asset_dicts(image)),
        size=size_of(image),
        to_video=_affine(image, image.get("warp_img_to_vid")),
        index=gid if index is None else index,
        time=_time(image),
        name=f"image {gid!r}" + (f" ({image['name']})" if image.get("name") else ""),
        sensor=sensor_of(image),
    )


def sensor_of(image: Mapping[str, Any]) -> str:
    return str(image.get("sensor_coarse") or image.get("sensor") or "*")


def asset_dicts(image: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The image's own file first, then its assets, under any of the names that kwcoco has given them."""
    own = [image] if image.get("file_name") else []
    for key in ("assets", "auxiliary"):
        listed = image.get(key) or []
        own += list(listed.values()) if isinstance(listed, Mapping) else list(listed)
    return own


def _asset(obj: Mapping[str, Any], image: Mapping[str, Any], folder: str) -> Asset:
    if not obj.get("file_name"):
        raise TargetError(
            f"image {image['id']!r} has an asset without file_name ({obj.get('channels') or 'no channels'})"
        )
    channels = obj.get("channels")
    return Asset(
        path=os.path.abspath(os.path.join(folder, obj["file_name"])),
        channels=None if not channels else channel_names(str(channels)),
        to_image=IDENTITY if obj is image else _affine(image, obj.get("warp_aux_to_img")),
        size=size_of(obj),
        nodata=_nodata(obj, image),
    )


def _nodata(obj: Mapping[str, Any], image: Mapping[str, Any]) -> float | None:
    value = obj.get("nodata")
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise TargetError(f"image {image['id']!r}: nodata={value!r} of {obj['file_name']} is no number") from None


def size_of(obj: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = obj.get("width"), obj.get("height")
    return None if width is None or height is None else (int(width), int(height))


def _affine(image: Mapping[str, Any], warp: Any) -> np.ndarray[Any, Any]:
    """A transform in any form that kwcoco stores: a dictionary, a matrix, nothing."""
    if warp is None:
        return IDENTITY
    import kwimage

    try:
        given = np.asarray(warp, float) if isinstance(warp, Sequence) else warp
        matrix = np.asarray(kwimage.Affine.coerce(given).matrix, float)
        matrix = matrix if matrix.shape == (3, 3) else np.vstack([matrix, [0, 0, 1]])
    except (TypeError, ValueError, KeyError) as error:
        raise TargetError(f"image {image['id']!r}: {warp!r} is no affine transform ({error})") from error
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise TargetError(f"image {image['id']!r}: the transform {warp!r} has no inverse")
    return matrix


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


