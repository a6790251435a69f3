"""A kwcoco video as a source of one pyramid.

Its windows are samples: every frame and asset is aligned, scaled and put together as `load_sample` does, in the blocks
that the writer asks for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ndzarr._formats.base import Facts, Pixels, Region, Source
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.transcode import write_pyramid
from ndzarr._pyramid.zarr_store import open_dest
from ndzarr._remote.settings import Remote
from ndzarr._sampling.annotations import Lookup
from ndzarr._sampling.protocols import SampleSource
from ndzarr._sampling.sample import load_sample
from ndzarr._store.destinations import destination, refuse_existing_at
from ndzarr._store.presets import Encoding
from ndzarr.errors import TargetError, did_you_mean

PIXEL_KEYS = ("channels", "interpolation", "antialias", "padkw", "fill", "nodata", "dtype")
"""Keys of a target that say how pixels are made, and not which."""

BAND = 256
"""Rows that are read together: a few rows of chunks of any asset."""


def transcode_video(
    source: SampleSource,
    vidid: Any,
    dest: str | os.PathLike[str],
    keys: Mapping[str, Any],
    encoding: Encoding,
    *,
    overwrite: bool,
    progress: bool,
    storage_options: Mapping[str, Any] | None,
    remote: Remote | None,
) -> Pyramid:
    """Write a video as one pyramid; see `CocoSampler.transcode_video`."""
    target = destination(dest, storage_options, remote)
    refuse_existing_at(target, overwrite)
    with SampledVideo(source, vidid, keys) as video:
        write_pyramid(video, target, encoding, overwrite=overwrite, progress=progress)
    return open_dest(target)


class SampledVideo(Source):
    """
    A video as a source, axes t c y x, of volumes t c z y x.

    Parameters
    ----------
    keys
        Further keys of its targets, among `PIXEL_KEYS`.
    """

    def __init__(self, source: SampleSource, vidid: Any, keys: Mapping[str, Any]) -> None:
        for key in keys:
            if key not in PIXEL_KEYS:
                known = did_you_mean(key, PIXEL_KEYS)
                raise TargetError(f"{key}={keys[key]!r}: a video becomes a pyramid whole and as it is{known}", key=key)
        self._source = source
        self._target = {**keys, "vidid": vidid}
        self._last: tuple[Region, Pixels] | None = None
        about = load_sample(source, {**self._target, "lazy": True}, {}, Lookup(False))
        image = about["image"]
        super().__init__(
            Facts(
                name=f"<video {vidid!r} of {source.dset.tag}>",
                dims=tuple(map(str, image.dims)),
                shape=image.shape,
                dtype=image.dtype,
                channels=tuple(map(str, about["c"].values)),
                band=min(BAND, image.shape[-2]),
                interleaved=False,
                masked="valid" in about,
                times=_seconds(about["t"].values),
                metadata={
                    "format": "kwcoco video",
                    "video_id": vidid,
                    "gids": about["gid"].values.tolist(),
                    **_start(about["t"].values),
                },
            )
        )

    def _pixels(self, region: Region) -> Pixels:
        t, c, *z, y, x = region
        target = {**self._target, "time_slice": t, "space_slice": (y, x), "z": z[0] if z else None}
        sample = load_sample(self._source, target, {}, Lookup(False))
        if self.masked:
            shown = np.ones([n for d, n in sample["image"].sizes.items() if d != "c"], bool)
            if "valid" in sample:  # a store has one mask for all channels
                valid = sample["valid"].broadcast_like(sample["image"]).transpose(*sample["image"].dims)
                shown = valid.any("c").values
            self._last = (t, *z, y, x), shown
        return np.asarray(sample["image"].values[:, c])

    def read_mask(self, window: Mapping[str, slice]) -> Pixels:
        """Return the mask of a window, axes `dims` without c: True where any channel is real."""
        region = self._region(window)
        here = region[0], *region[2:]
        if self._last is None or self._last[0] != here:
            self._pixels(region)
        assert self._last is not None
        return self._last[1]

    def _release(self) -> None:
        self._last = None


def _seconds(times: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Seconds from the first frame, where all frames have dates."""
    if times.dtype.kind != "M" or np.isnat(times).any():
        return None
    return np.asarray((times - times[0]) / np.timedelta64(1, "s"))


def _start(times: np.ndarray[Any, Any]) -> dict[str, str]:
    return {} if _seconds(times) is None else {"time_origin": str(times[0])}
