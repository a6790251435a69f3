"""What does bulk work need to know of a sampler, and of one sample that is not read yet?

`CocoSampler` and `Sampler` each make `Member`s out of targets; everything in `ndzarr.bulk` works on those alone, so
that batches, lazy batches and extractions mean the same with either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.geometry.affine import IDENTITY
from ndzarr.labels.window import compact_mask, lead_axis
from ndzarr.labels.window import label as label_window
from ndzarr.pyramid.region import Crop, read_crops
from ndzarr.sampler.annotations import AnnotationTable, Found, Lookup, find
from ndzarr.sampler.assembly import Composition, read, uncertain
from ndzarr.sampler.sample import Context, label, times
from ndzarr.sampler.scene import Scene
from ndzarr.sampler.target import Target

if TYPE_CHECKING:
    import xarray

    from ndzarr.sampler.coco import CocoSampler
    from ndzarr.sampler.named import Sampler

Mask: TypeAlias = "tuple[tuple[str, ...], np.ndarray[Any, Any]] | None"
"""Where pixels are real, with its axes; None where all of them are."""

Lacking: TypeAlias = Literal["nothing", "planes", "channels"]
"""Which pixels may not be real: none, the same of all channels, or others of other channels."""

Labeller: TypeAlias = "tuple[Callable[[Context, Any, np.ndarray[Any, Any], Any], xarray.Dataset], Any]"
"""Makes the Dataset of a sample of its context, the second item, its pixels and its mask."""


class Member(Protocol):
    """One sample of a batch, before it is read."""

    @property
    def dims(self) -> tuple[str, ...]:
        """Axes of its image."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its image."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its image."""

    @property
    def channels(self) -> tuple[str, ...] | None:
        """Names along c; None where there is no such axis."""

    @property
    def crops(self) -> Sequence[Crop]:
        """What a `ReadPlan` is made from."""

    @property
    def scene(self) -> Scene:
        """Its window and frames."""

    @property
    def origin(self) -> tuple[float, float]:
        """Where its first pixel begins along (y, x), in native pixels."""

    @property
    def pitch(self) -> tuple[float, float]:
        """Native pixels per pixel along (y, x)."""

    @property
    def beyond(self) -> float:
        """Value of the pixels that make it as large as the largest of its batch."""

    @property
    def ids(self) -> dict[str, Any]:
        """What it was read from: columns along sample (and t, where the value is an array)."""

    def labels(self, dim: str) -> np.ndarray[Any, Any]:
        """Labels along t or z."""

    @property
    def found(self) -> Found | None:
        """Its annotations; None where none are looked up."""

    @property
    def parsed(self) -> Target:
        """What was asked for."""

    @property
    def lacking(self) -> Lacking:
        """Which of its pixels may not be real, as far as can be known without reading it."""

    def whole(self, name: Any) -> tuple[int, int] | None:
        """(height, width) of an image, or of a named pyramid, of which every pixel is real; None if some may not be."""

    @property
    def annotation_table(self) -> AnnotationTable | None:
        """The annotations of its dataset; None where none are looked up."""

    @property
    def labeller(self) -> Labeller:
        """Puts names on its pixels, without the sampler."""

    def context(self) -> Context:
        """What the accessor of the sample knows."""

    def label(self, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None) -> xarray.Dataset:
        """What `load_sample` returns, from its pixels and a mask as `read` returned it."""

    @classmethod
    def read(cls, members: Sequence[Any], out: Sequence[np.ndarray[Any, Any]]) -> list[Mask]:
        """Read members of this kind by one plan, into arrays of their shapes and dtypes."""


class BulkSampler(Protocol):
    """A sampler, as far as bulk work needs to know it."""

    def members(self, targets: Iterable[Mapping[str, Any]], lookup: Lookup) -> list[Any]:
        """The targets, parsed and resolved; none of their pixels is read."""

    def source_files(self, images: Iterable[Any] | None) -> Iterator[str]:
        """Paths of the files of some images; None for all."""


@dataclass(frozen=True, slots=True, eq=False)
class CocoMember:
    """A sample of a kwcoco dataset."""

    sampler: CocoSampler
    given: Mapping[str, Any]
    """The target as it was given."""
    parsed: Target
    composition: Composition
    lookup: Lookup

    @property
    def scene(self) -> Scene:
        """Its window and frames."""
        return self.composition.scene

    @property
    def dims(self) -> tuple[str, ...]:
        """Axes of its image."""
        return ("t", "c", "y", "x") if self.scene.video else ("c", "y", "x")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its image."""
        return self.composition.shape[0 if self.scene.video else 1 :]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its image."""
        return self.composition.result_dtype

    @property
    def channels(self) -> tuple[str, ...]:
        """Names along c."""
        return self.composition.channels

    @property
    def crops(self) -> Sequence[Crop]:
        """What a `ReadPlan` is made from."""
        return self.composition.crops

    @property
    def origin(self) -> tuple[float, float]:
        """Where its first pixel begins along (y, x), in native pixels."""
        return self.scene.y[0], self.scene.x[0]

    @property
    def pitch(self) -> tuple[float, float]:
        """Native pixels per pixel along (y, x)."""
        return self.scene.pitch

    @property
    def beyond(self) -> float:
        """The fill value; without one, NaN where missing pixels are NaN, else 0."""
        if self.scene.padding.fill is not None:
            return self.scene.padding.fill
        return float("nan") if self.scene.nodata in ("float", "auto") and self.dtype.kind in "fc" else 0

    @property
    def ids(self) -> dict[str, Any]:
        """Image ids, and the positions of frames in their video."""
        frames = self.scene.frames
        if not self.scene.video:
            return {"gid": frames[0].gid}
        gids = np.array([-1 if f.gid is None else f.gid for f in frames])
        return {"gid": gids, "frame_index": np.array([f.index for f in frames])}

    def labels(self, dim: str) -> np.ndarray[Any, Any]:
        """Dates or frame indices."""
        return times(self.scene)

    @property
    def found(self) -> Found | None:
        """Its annotations; None where none are looked up."""
        if not self.lookup.wanted:
            return None
        return find(self.sampler.annotations, self.sampler.dset.index.anns, self.scene, self.lookup)

    def context(self) -> Context:
        """What the accessor of the sample knows."""
        return self.sampler.context(self.given, self.parsed, self.scene, self.lookup)

    @property
    def lacking(self) -> Lacking:
        """Which of its pixels may not be real, as far as can be known without reading it."""
        c, frames = self.composition, len(self.scene.frames)
        if uncertain(c):
            return "channels"
        if c.complete:
            return "planes" if self.scene.nodata == "ma" else "nothing"
        return (
            "planes" if len(c.pieces) == frames and all(p.number == len(c.channels) for p in c.pieces) else "channels"
        )

    def whole(self, name: Any) -> tuple[int, int] | None:
        """(height, width) of an image that one file covers exactly."""
        frame = self.sampler.frame(name)
        if len(frame.assets) != 1 or frame.assets[0].nodata is not None:
            return None
        [asset] = frame.assets
        if asset.size is None or asset.size != frame.size or not np.array_equal(asset.to_image, IDENTITY):
            return None
        return asset.size[1], asset.size[0]

    @property
    def annotation_table(self) -> AnnotationTable | None:
        """The annotations of its dataset; None where none are looked up."""
        return self.sampler.annotations if self.lookup.wanted else None

    @property
    def labeller(self) -> Labeller:
        """Puts names on its pixels, without the sampler."""
        return label_coco, self.channels

    def label(self, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None) -> xarray.Dataset:
        """What `load_sample` returns."""
        return label_coco(self.context(), self.channels, image, valid)

    @classmethod
    def read(cls, members: Sequence[CocoMember], out: Sequence[np.ndarray[Any, Any]]) -> list[Mask]:
        """Read by one plan."""
        images = [o if m.scene.video else o[None] for m, o in zip(members, out, strict=True)]
        return [
            _coco_mask(m, valid)
            for m, (_, valid) in zip(members, read([m.composition for m in members], images), strict=True)
        ]


def label_coco(
    context: Context, channels: tuple[str, ...], image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None
) -> xarray.Dataset:
    """The Dataset of a sample of a kwcoco dataset."""
    if not context.scene.video:
        image, valid = image[None], None if valid is None else valid[None]
    return label(context, channels, image, valid)


def _coco_mask(member: CocoMember, valid: np.ndarray[Any, Any] | None) -> Mask:
    if valid is None:
        return None
    dims = ("t", "c", "y", "x") if valid.ndim == 4 else ("t", "y", "x")
    return (dims, valid) if member.scene.video else (dims[1:], valid[0])


def batchable(target: Target) -> Target:
    """
    The target.

    Raises
    ------
    TargetError
        It cannot be one of many samples of one array.
    """
    if target.native is not None:
        raise TargetError("use_native_scale gives every asset a size of its own; such samples are loaded one by one")
    if target.lazy:
        raise TargetError("lazy: a target in a batch is never lazy by itself; use lazy_batch")
    return target


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
        return tuple(map(str, self.labels("c").tolist())) if "c" in self.dims else None

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
