"""How does a kwcoco video become one pyramid?

As a source whose windows are samples: every frame and asset is aligned, scaled and put together as `load_sample` does,
in the blocks that the writer asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._formats.base import BaseSource, Facts, Pixels, Region
from ndzarr.errors import TargetError, did_you_mean

if TYPE_CHECKING:
    from ndzarr.coco_sampler import CocoSampler


PIXEL_KEYS = ("channels", "interpolation", "antialias", "padkw", "fill", "nodata", "dtype")
"""Keys of a target that say how pixels are made, and not which."""

BAND = 256
"""Rows that are read together: a few rows of chunks of any asset."""


class SampledVideo(BaseSource):
    """
    A video of a sampler as a source, axes t c y x, of volumes t c z y x.

    Parameters
    ----------
    keys
        Further keys of its targets, among `KEYS`.
    """

    def __init__(self, sampler: CocoSampler, vidid: Any, keys: Mapping[str, Any]) -> None:
        for key in keys:
            if key not in PIXEL_KEYS:
                raise TargetError(
                    f"{key}={keys[key]!r}: a video becomes a pyramid whole and as it is{did_you_mean(key, PIXEL_KEYS)}"
                )
        self._sampler = sampler
        self._target = {**keys, "vidid": vidid}
        about = sampler.load_sample({**self._target, "lazy": True}, with_annots=False)
        image = about["image"]
        super().__init__(
            Facts(
                name=f"<video {vidid!r} of {sampler.dset.tag}>",
                dims=tuple(map(str, image.dims)),
                shape=image.shape,
                dtype=image.dtype,
                channels=tuple(map(str, about["c"].values)),
                band=min(BAND, image.shape[-2]),
                interleaved=False,
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
        sample = self._sampler.load_sample(target, with_annots=False)
        return np.asarray(sample["image"].values[:, c])

    def _release(self) -> None:
        """Nothing is held."""


def _seconds(times: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Seconds from the first frame, where all frames have dates."""
    if times.dtype.kind != "M" or np.isnat(times).any():
        return None
    return np.asarray((times - times[0]) / np.timedelta64(1, "s"))


def _start(times: np.ndarray[Any, Any]) -> dict[str, str]:
    return {} if _seconds(times) is None else {"time_origin": str(times[0])}
