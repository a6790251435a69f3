"""The files of an image of a kwcoco dataset, and their alignment.

An image has a file of its own, or assets, or both.  A frame of a video that has neither is a position in the file of
its video.  Where the file of an image holds a video, `frame_index` gives the frame.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import combinations
from numbers import Integral
from typing import Any, Literal, TypeAlias

import numpy as np

from ndzarr._formats.sidecars import sidecar_names
from ndzarr._indexing.affine import IDENTITY
from ndzarr._indexing.selection import AXES
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._remote.urls import is_url, shown
from ndzarr._sampling.scene import Asset, Clock, Frame
from ndzarr._store.presets import KINDS
from ndzarr._validation import as_integer, is_path, shortened
from ndzarr.errors import TargetError


def wrong(
    image: Mapping[str, Any], key: str, what: str, *, path: str | None = None, hint: str | None = None
) -> TargetError:
    """Return the error about what a key of an image's dictionary says, or one of its files."""
    return TargetError(f"image {image['id']!r}: {what}", key=key, path=path, hint=hint)


def channels_of(obj: Mapping[str, Any], image: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names of the channels of a file as the dataset states them, as a code or a list of names; None if it does not."""
    stated = obj.get("channels")
    if not stated:
        return None
    try:
        names = channel_names(stated if isinstance(stated, str) else "|".join(stated))
    except (TypeError, ValueError):
        names = ("",)
    if "" in names:
        raise wrong(image, "channels", f"channels={stated!r} is not a channel code", hint="Write 'r|g|b'")
    return names


@cache
def channel_names(spec: str) -> tuple[str, ...]:
    """Names of the channels of one file."""
    import delayed_image

    return tuple(delayed_image.FusedChannelSpec.coerce(without_blanks(spec)).normalize().as_list())


def without_blanks(spec: str) -> str:
    """A channel code without blanks around its names."""
    return re.sub(r"\s*([|,:()])\s*", r"\1", spec.strip())


Allow: TypeAlias = Literal["bundle", "files", "urls"]
"""How far the names of files in a dataset may lead: into its own directory, to all local files, or anywhere."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the names of files in a dataset begin, and how far they may lead."""

    folder: str
    """What paths are relative to."""
    allow: Allow = "files"

    def path(self, name: Any, image: Mapping[str, Any]) -> str:
        """Return an absolute path, or the URL of a file or store; raise `TargetError` for what is not allowed."""
        if not is_path(name):
            raise wrong(image, "file_name", f"file_name={shortened(name)} is not a path")
        name = os.fspath(name)
        if is_url(name):
            return self._url(name, image)
        path = os.path.abspath(os.path.join(self.folder, name))
        if self.allow == "bundle":
            root = os.path.realpath(self.folder)
            for file in reachable(path):
                if os.path.commonpath([root, os.path.realpath(file)]) != root:
                    beside = "" if file == path else f" leads to {file}, which"
                    what = f"file_name={shortened(name)}{beside} is outside of {self.folder}, and allow='bundle'"
                    hint = "If you trust the dataset, pass allow='files'"
                    raise wrong(image, "file_name", what, path=file, hint=hint)
        return path

    def _url(self, name: str, image: Mapping[str, Any]) -> str:
        seen = shown(name)
        if self.allow != "urls":
            what = f"file_name={shortened(seen)} is a URL, and allow={self.allow!r}"
            raise wrong(image, "file_name", what, path=seen, hint="If you trust the dataset, pass allow='urls'")
        return name.rstrip("/")


def reachable(path: str) -> Iterator[str]:
    """Yield a path, and whatever else reading it may open: files beside an image, and links within a store."""
    yield path
    real = os.path.realpath(path)
    for file in dict.fromkeys((path, real)):
        yield from sidecar_names(file)
    if os.path.isdir(real):
        yield from links_within(real)


def links_within(folder: str) -> Iterator[str]:
    """Yield all links in a directory, and in those that they lead to."""
    seen, waiting = {folder}, [folder]
    while waiting:
        with suppress(PermissionError), os.scandir(waiting.pop()) as entries:  # nobody reads what may not be listed
            for entry in entries:
                if entry.is_symlink():
                    yield entry.path
                if os.path.isdir(entry.path) and (inner := os.path.realpath(entry.path)) not in seen:
                    seen.add(inner)
                    waiting.append(inner)


def frame_of(image: Mapping[str, Any], video: Mapping[str, Any], access: Access, clocks: dict[str, Clock]) -> Frame:
    """
    An image, from its dictionary.

    Parameters
    ----------
    video
        The dictionary of its video, empty if it is in none.
    access
        What paths are relative to, and how far they may lead.
    clocks
        Those of files, by path; new ones are added.
    """
    gid = image["id"]
    index = image.get("frame_index")
    if not isinstance(image.get("frame_index"), int | float | str | np.generic | None):
        raise wrong(image, "frame_index", f"frame_index={shortened(index)} is not a position")
    return Frame(
        gid=gid,
        assets=tuple(_asset(obj, image, video, access, clocks) for obj in asset_dicts(image, video)),
        size=size_of(image),
        to_video=_affine(image, image, "warp_img_to_vid"),
        index=gid if index is None else index,
        time=time_of(image, asset_dicts(image, video)[:1] == [video]),
        name=f"image {gid!r}" + (f" ({image['name']})" if image.get("name") else ""),
        sensor=sensor_of(image),
    )


def sensor_of(image: Mapping[str, Any]) -> str:
    """Return the sensor of an image, '*' if it is not stated."""
    return str(image.get("sensor_coarse") or image.get("sensor") or "*")


def asset_dicts(image: Mapping[str, Any], video: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """
    The image's own file first, then its assets, under any of the names that kwcoco has given them; where there is
    neither, the video, if that has a file.
    """
    own = [image] if image.get("file_name") else []
    for key in ("assets", "auxiliary"):
        listed = image.get(key) or []
        listed = list(listed.values()) if isinstance(listed, Mapping) else listed
        if not isinstance(listed, Sequence) or not all(isinstance(obj, Mapping) for obj in listed):
            raise wrong(image, key, f"{key}={listed!r} is not a list of dictionaries")
        own += listed
    return own or ([video] if video and _path(video) else [])


def _path(video: Mapping[str, Any]) -> Any:
    """The file that holds the frames of a video."""
    return video.get("file_name") or video.get("path")


def _asset(
    obj: Mapping[str, Any], image: Mapping[str, Any], video: Mapping[str, Any], access: Access, clocks: dict[str, Clock]
) -> Asset:
    position = _position(obj, image, video)
    if obj is video:
        path = access.path(_path(video), image)
        return Asset(
            path=path,
            channels=channels_of(image, image) or channels_of(video, image),
            to_image=IDENTITY,
            size=size_of(image),
            nodata=_nodata(image, image),
            position=position,
            container=True,
            clock=clocks.setdefault(path, Clock()),
        )
    if not obj.get("file_name"):
        what = f"an asset is without file_name ({obj.get('channels') or 'no channels'})"
        raise wrong(image, "file_name", what)
    path = access.path(obj["file_name"], image)
    channels = channels_of(obj, image)
    return Asset(
        path=path,
        channels=channels,
        to_image=IDENTITY if obj is image else _affine(image, obj, "warp_aux_to_img"),
        size=size_of(obj),
        nodata=_nodata(obj, image),
        position=position,
        clock=None if position is None else clocks.setdefault(path, Clock()),
        # One channel of a file with a palette can only be its indices.
        palette=obj.get("palette") or ("indices" if channels is not None and len(channels) == 1 else None),
        series=obj.get("series"),
        kind=_kind(obj, image),
    )


def _kind(obj: Mapping[str, Any], image: Mapping[str, Any]) -> str | None:
    value = obj.get("kind") if obj is not image else None
    if value not in (None, *KINDS):
        what = f"kind={shortened(value)} of {obj['file_name']} is neither 'intensity' nor 'labels'"
        raise wrong(image, "kind", what)
    return value


def _position(obj: Mapping[str, Any], image: Mapping[str, Any], video: Mapping[str, Any]) -> int | None:
    """The frame of its file that an image is, where the file holds a video."""
    value = obj.get("frame_index", image.get("frame_index")) if obj is not video else image.get("frame_index")
    if value is None:
        if obj is video:
            what = f"it has no file of its own, and no frame_index that says which frame of {_path(video)} it is"
            raise wrong(image, "frame_index", what, hint="Give it one")
        return None
    if not isinstance(value, Integral) or value < 0:
        if obj is not video:
            return None
        raise wrong(image, "frame_index", f"frame_index={value!r} is not a frame of {_path(video)}; they begin at 0")
    return int(value)


def _nodata(obj: Mapping[str, Any], image: Mapping[str, Any]) -> float | tuple[float | None, ...] | None:
    value = obj.get("nodata")
    try:
        if isinstance(value, list | tuple):
            return tuple(None if v is None else float(v) for v in value)
        return None if value is None else float(value)
    except (TypeError, ValueError):
        what = f"nodata={value!r} of {obj.get('file_name', 'its file')} is neither a number nor one per channel"
        raise wrong(image, "nodata", what) from None


_LONGEST = 1 << 53
"""Pixels that no image has, and that floats do not count exactly."""


def size_of(obj: Mapping[str, Any]) -> tuple[int, int] | None:
    """(width, height) as an image, asset or video states it."""
    width, height = obj.get("width"), obj.get("height")
    if width is None or height is None:
        return None
    if type(width) is type(height) is int and 0 < width < _LONGEST and 0 < height < _LONGEST:  # nearly always
        return width, height
    numbers = [as_integer(float(n) if isinstance(n, str) and n.isdecimal() else n) for n in (width, height)]
    if any(n is None or not 1 <= n < _LONGEST for n in numbers):
        what = obj.get("file_name") or obj.get("name") or f"id {obj.get('id')!r}"
        raise TargetError(
            f"{what}: the dataset states width={width!r} and height={height!r}, which is not a size in pixels",
            key="height" if numbers[0] is not None and numbers[0] >= 1 else "width",
        )
    return numbers[0], numbers[1]  # type: ignore[return-value]


def _affine(image: Mapping[str, Any], obj: Mapping[str, Any], key: str) -> np.ndarray[Any, Any]:
    """The transform of an image or asset, in any form that kwcoco stores: a dictionary, a matrix, nothing."""
    warp = obj.get(key)
    if warp is None:
        return IDENTITY
    import kwimage

    try:
        given = np.asarray(warp, float) if isinstance(warp, Sequence) else warp
        if isinstance(given, np.ndarray) and given.shape not in ((2, 3), (3, 3)):
            raise ValueError(f"its shape is {given.shape}, not (2, 3) or (3, 3)")
        matrix = np.asarray(kwimage.Affine.coerce(given).matrix, float)
        matrix = matrix if matrix.shape == (3, 3) else np.vstack([matrix, [0, 0, 1]])
        if (matrix[2] != (0, 0, 1)).any():
            raise ValueError("its last row is not 0, 0, 1")
    except (TypeError, ValueError, KeyError) as error:
        raise wrong(image, key, f"{key}={warp!r} is not an affine transform ({error})") from error
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise wrong(image, key, f"{key}={warp!r} has no inverse")
    return matrix


def time_of(image: Mapping[str, Any], shown: bool) -> np.datetime64 | None:
    """
    When an image was taken, in UTC; None if it does not say, or not in a form that is a date.

    Text is ISO 8601, or EXIF's form of it, '2020:06:30 12:00:00'; a number is seconds since 1970.

    A number of a frame that is `shown` in a video file says when it is shown there, as the file does.
    """
    value = image.get("date_captured") or image.get("timestamp")
    if value is None or value == "" or (shown and isinstance(value, (int, float))):
        return None
    try:
        if isinstance(value, (int, float)):
            moment = datetime.fromtimestamp(value, UTC)
        else:
            moment = datetime.fromisoformat(re.sub(r"^(\d{4}):(\d\d):(\d\d)(?= |T|$)", r"\1-\2-\3", value.strip(" \0")))
    except (ValueError, TypeError, AttributeError, OverflowError, OSError):
        return None
    ahead = np.timedelta64(moment.utcoffset() or timedelta(), "us")
    return np.datetime64(moment.replace(tzinfo=None), "us") - ahead


# The frame of a file that an image is.


VIDEOS = ("video", "GIF", "PNG", "WebP")
"""Formats whose files hold the frames of a video, if they hold several."""


def position_of(frame: Frame, asset: Asset, pyramid: Pyramid) -> int:
    """Position along t of an asset in its file, which has an axis t."""
    length = pyramid.sizes["t"]
    if not asset.container:
        if length == 1:
            return 0
        if pyramid.attrs.get("ndzarr", {}).get("source", {}).get("format") not in VIDEOS:
            what = f"{frame.name}: {asset.path} has {length} planes along t"
            raise TargetError(what, path=asset.path, hint="Sample it by named axes with ndzarr.Sampler")
    if asset.position is None:
        what = f"{frame.name}: {asset.path} is a video of {length} frames"
        raise TargetError(what, path=asset.path, key="frame_index", hint="Give the image its frame_index")
    if asset.position >= length:
        what = f"frame_index={asset.position}, but {asset.path} has {length} frames, 0 to {length - 1}"
        raise TargetError(f"{frame.name}: {what}", path=asset.path, key="frame_index")
    return asset.position


# The axes of files: Zarr arrays are read as they are, and may have any.


ORDERED = {(*lead, "y", "x") for n in range(4) for lead in combinations(AXES[:3], n)}
"""Axes of files whose parts are parts of samples as they are."""


def check_axes(frame: Frame, asset: Asset, pyramid: Pyramid) -> None:
    """Raise `TargetError` for axes in another order, but for those of one position before y and x."""
    dims = pyramid.dims
    if dims in ORDERED:
        return
    sizes = pyramid.sizes
    if (*[d for d in dims[:-2] if sizes[d] != 1], *dims[-2:]) not in ORDERED:
        raise TargetError(
            f"{frame.name}: {asset.path} has axes {' '.join(dims)}, a sample {' '.join(AXES)}",
            path=asset.path,
            hint="Write it in that order, or sample it by named axes with ndzarr.Sampler",
        )
