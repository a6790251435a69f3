"""What is a sample of a named pyramid before it is read?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.bulk.member import Labeller, Lacking, Mask
from ndzarr.labels.window import channels, compact_mask, lead_axis
from ndzarr.labels.window import label as label_window
from ndzarr.pyramid.crops import read_crops
from ndzarr.pyramid.region import Crop
from ndzarr.sampler.annotations import Lookup
from ndzarr.sampler.sample import Context
from ndzarr.sampler.scene import Scene
from ndzarr.sampler.target import Target

if TYPE_CHECKING:
    import xarray

    from ndzarr.bulk.direct import Origin
    from ndzarr.sampler.named import Sampler


@dataclass(frozen=True, slots=True, eq=False)
class NamedMember:
    """A sample of a named pyramid."""

    sampler: Sampler
    given: Mapping[str, Any]
    parsed: Target
    crop: Crop

    @property
    def scene(self) -> Scene:
        """Its window and frames."""
        return self.context().scene

    @property
    def dims(self) -> tuple[str, ...]:
        """Axes of its image."""
        return self.crop.pyramid.dims

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its image."""
        return self.crop.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its image."""
        return self.crop.pyramid.dtype

    @property
    def channels(self) -> tuple[str, ...] | None:
        """Names along c."""
        return channels(self.crop)

    @property
    def crops(self) -> Sequence[Crop]:
        """What a `ReadPlan` is made from."""
        return (self.crop,)

    @property
    def origin(self) -> tuple[float, float]:
        """Where its first pixel begins along (y, x), in native pixels."""
        return self.crop.region.y.origin, self.crop.region.x.origin

    @property
    def pitch(self) -> tuple[float, float]:
        """Native pixels per pixel along (y, x)."""
        return self.crop.region.y.pitch, self.crop.region.x.pitch

    @property
    def beyond(self) -> float:
        """The fill value."""
        return self.crop.fill

    @property
    def ids(self) -> dict[str, Any]:
        """The name of the pyramid."""
        return {"key": self.sampler.key_of(self.parsed)}

    def labels(self, dim: str) -> np.ndarray[Any, Any]:
        """Seconds or positions."""
        found = lead_axis(self.crop, self.dims.index(dim))
        return np.asarray(found.variable.values)

    @property
    def found(self) -> None:
        """Pyramids have no annotations."""
        return None

    def context(self) -> Context:
        """What the accessor of the sample knows."""
        return self.sampler.context(self.given, self.parsed, self.crop)

    @property
    def copied_from(self) -> Origin | None:
        """Where windows of its pyramid are stored; None where they are not simply copied."""
        from ndzarr.bulk.direct import origin_of

        return origin_of(self.crop, self.origin)

    @property
    def lacking(self) -> Lacking:
        """Which of its pixels may not be real, as far as can be known without reading it."""
        if self.crop.pyramid.nodata is not None:
            return "channels"
        return "planes" if self.crop.region.padded else "nothing"

    def whole(self, name: Any) -> tuple[int, int] | None:
        """(height, width) of a pyramid without nodata."""
        pyramid = self.sampler.pyramid(name)
        return None if pyramid.nodata is not None else (pyramid.shape[-2], pyramid.shape[-1])

    @property
    def lookup(self) -> Lookup:
        """None are wanted: pyramids have none."""
        return Lookup(False)

    @property
    def annotation_table(self) -> None:
        """Pyramids have no annotations."""
        return None

    @property
    def labeller(self) -> Labeller:
        """Puts names on its pixels, without the sampler."""
        return label_named, self.crop

    def label(self, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None) -> xarray.Dataset:
        """What `load_sample` returns."""
        return label_named(self.context(), self.crop, image, valid)

    @classmethod
    def read(cls, members: Sequence[NamedMember], out: Sequence[np.ndarray[Any, Any]]) -> list[Mask]:
        """Read by one plan."""
        for m, image in zip(members, out, strict=True):
            if m.crop.region.padded:
                image[...] = m.crop.fill
        done = read_crops([m.crop for m in members], list(out))
        return [
            None if valid is None else compact_mask(m.dims, valid) for m, (_, valid) in zip(members, done, strict=True)
        ]


def label_named(
    context: Context, crop: Crop, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None
) -> xarray.Dataset:
    """The Dataset of a sample of a named pyramid."""
    dims = crop.pyramid.dims
    if valid is not None and 2 < valid.ndim < len(dims):  # without c
        valid = np.broadcast_to(np.expand_dims(valid, dims.index("c")), crop.shape)
    sample = label_window(crop, image, valid)
    sample.encoding["ndzarr"] = context
    return sample
