"""What does a kwcoco dataset say about its images, in our own terms?

All knowledge of kwcoco's dictionaries is here: where the assets of an image are, how they are aligned, what their
channels are called, which frames make a video.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ndzarr.errors import MissingError, SourceError, TargetError, did_you_mean
from ndzarr.geometry.affine import IDENTITY
from ndzarr.sampler.scene import Asset, Channel, Frame


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
    SourceError
        kwcoco cannot read it.
    """
    if isinstance(dset, (str, os.PathLike)):
        path = Path(dset)
        if not path.exists():
            raise MissingError(f"{path.absolute()}: no such kwcoco dataset")
        return _read(os.fspath(path), os.fspath(path))
    if isinstance(dset, Mapping):
        return _read(dict(dset), "the dictionary")
    if not hasattr(dset, "index"):
        raise TargetError(f"{type(dset).__name__}: expected a kwcoco.CocoDataset, a path or a dictionary")
    return dset


def _read(data: Any, name: str) -> Any:
    import kwcoco

    try:
        return kwcoco.CocoDataset(data)
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(f"{name} is no kwcoco dataset ({reason}); see `kwcoco validate`") from error


class Dataset:
    """A kwcoco dataset, as far as sampling needs to know it; frames are looked at once."""

    def __init__(self, coco: Any) -> None:
        self.coco = coco
        """The `kwcoco.CocoDataset`."""
        self._frames: dict[Any, Frame] = {}
        self._known: tuple[dict[str, None], set[str]] | None = None

    def frame(self, gid: Any) -> Frame:
        """
        An image with its assets.

        Raises
        ------
        TargetError
            There is no such image.
        """
        found = self._frames.get(gid)
        if found is None:
            image = self.coco.index.imgs.get(gid)
            if image is None:
                raise TargetError(f"gid={gid!r}: no such image; the dataset has {some(self.coco.index.imgs)}")
            found = self._frames[gid] = _frame(image, self.coco.bundle_dpath)
        return found

    def known(self) -> tuple[Mapping[str, None], set[str]]:
        """Channels that the dataset states for any image, in their order, and its sensors; found when first needed."""
        if self._known is None:
            names: dict[str, None] = {}
            sensors = set()
            for image in self.coco.index.imgs.values():
                sensors.add(_sensor(image))
                for obj in _asset_dicts(image):
                    if obj.get("channels"):
                        names |= dict.fromkeys(_channel_names(str(obj["channels"])))
            self._known = names, sensors
        return self._known

    def annotation(self, aid: Any) -> Mapping[str, Any]:
        """
        The dictionary of an annotation.

        Raises
        ------
        TargetError
            There is no such annotation.
        """
        found: Mapping[str, Any] | None = self.coco.index.anns.get(aid)
        if found is None:
            raise TargetError(f"aid={aid!r}: no such annotation; the dataset has {some(self.coco.index.anns)}")
        return found

    def video_frames(self, vidid: Any) -> tuple[Any, ...]:
        """
        Image ids of a video, in the order of its frames.

        Raises
        ------
        TargetError
            There is no such video, or it has no frames.
        """
        if vidid not in self.coco.index.videos:
            raise TargetError(f"vidid={vidid!r}: no such video; the dataset has {some(self.coco.index.videos)}")
        gids = tuple(self.coco.index.vidid_to_gids[vidid])
        if not gids:
            raise TargetError(f"vidid={vidid!r}: the video has no frames")
        return gids

    def video_of(self, gid: Any) -> Any:
        """The id of an image's video; None if it is in none."""
        return self.coco.index.imgs[gid].get("video_id")

    def video_size(self, gid: Any) -> tuple[int, int] | None:
        """(height, width) of the space of an image's video; None if it is in none or that states no size."""
        video = self.coco.index.videos.get(self.video_of(gid))
        size = None if video is None else _size(video)
        return None if size is None else (size[1], size[0])

    def resolution(self, gid: Any, video: bool) -> tuple[float, float]:
        """
        Metres per pixel of the sampled space, along (x, y).

        Raises
        ------
        TargetError
            The dataset does not say.
        """
        try:
            found = self.coco.coco_image(gid).resolution("video" if video else "image")
            x, y = (float(v) for v in found["mag"])
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise TargetError(
                f"gid={gid!r}: the dataset states no resolution (`resolution` or `target_gsd`); use scale"
            ) from error
        return x, y

    def channels(self, spec: Any) -> tuple[Channel, ...] | None:
        """
        (sensor, name) of the channels that a code (`r|g|b`, `S2:red,L8:B.0:3`) or a list of names means; None for all.

        Raises
        ------
        TargetError
            The code cannot be parsed.
        """
        if spec is None:
            return None
        codes = (spec,) if isinstance(spec, str) else spec
        wanted = tuple(dict.fromkeys(pair for code in codes for pair in _sensor_channels(code)))
        for sensor in dict.fromkeys(sensor for sensor, _ in wanted):
            sensors = self.known()[1] if sensor != "*" else {sensor}
            if sensor not in sensors and "*" not in sensors:
                raise TargetError(f"channels={spec!r}: no image has sensor {sensor!r}{did_you_mean(sensor, sensors)}")
        return wanted


FUSED = ("rgb", "rgba", "dxdy", "fxfy")
"""Names that stand for several channels."""


@cache
def _sensor_channels(spec: str) -> tuple[Channel, ...]:
    if spec.replace("_", "").isalnum() and spec not in FUSED:  # a plain name needs no parser
        return (("*", spec),)
    import delayed_image

    try:
        streams = delayed_image.SensorChanSpec.coerce(spec).normalize().streams()
        pairs = [(stream.sensor.spec or "*", name) for stream in streams for name in stream.chans.normalize().as_list()]
    except Exception as error:  # its parser raises whatever its grammar library does
        raise TargetError(
            f"channels={spec!r} is no channel code ({str(error).splitlines()[0]}); write 'r|g|b' or 'S2:red|nir'"
        ) from error
    return tuple(dict.fromkeys(pairs))


@cache
def _channel_names(spec: str) -> tuple[str, ...]:
    """Names of the channels of one file."""
    import delayed_image

    return tuple(delayed_image.FusedChannelSpec.coerce(spec).normalize().as_list())


def _frame(image: Mapping[str, Any], folder: str) -> Frame:
    gid = image["id"]
    index = image.get("frame_index")
    return Frame(
        gid=gid,
        assets=tuple(_asset(obj, image, folder) for obj in _asset_dicts(image)),
        size=_size(image),
        to_video=_affine(image, image.get("warp_img_to_vid")),
        index=gid if index is None else index,
        time=_time(image),
        name=f"image {gid!r}" + (f" ({image['name']})" if image.get("name") else ""),
        sensor=_sensor(image),
    )


def _sensor(image: Mapping[str, Any]) -> str:
    return str(image.get("sensor_coarse") or image.get("sensor") or "*")


def _asset_dicts(image: Mapping[str, Any]) -> list[Mapping[str, Any]]:
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
        channels=None if not channels else _channel_names(str(channels)),
        to_image=IDENTITY if obj is image else _affine(image, obj.get("warp_aux_to_img")),
        size=_size(obj),
        nodata=_nodata(obj, image),
    )


def _nodata(obj: Mapping[str, Any], image: Mapping[str, Any]) -> float | None:
    value = obj.get("nodata")
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise TargetError(f"image {image['id']!r}: nodata={value!r} of {obj['file_name']} is no number") from None


def _size(obj: Mapping[str, Any]) -> tuple[int, int] | None:
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


def some(ids: Iterable[Any]) -> str:
    """A few ids of many, as messages name them."""
    known = list(ids)
    if not known:
        return "none"
    return ", ".join(map(repr, known[:5])) + (f" ... {known[-1]!r} ({len(known)})" if len(known) > 5 else "")
