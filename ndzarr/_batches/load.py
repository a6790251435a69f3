"""How do many targets become one array in memory, with every chunk decoded once?

1. Targets become members: parsed, resolved, nothing read (`member`).
2. All members must agree on axes, channels and dtype; the largest sets the size of the batch.
3. One array is made, and all members are read into their places in it by one `ReadPlan`.
4. One Dataset is put together at the end (`content`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._batches.form import (
    BulkSampler,
    Labeller,
    Lacking,
    Mask,
    Member,
    Sizes,
    agree,
    check_sizes,
    read_batch,
    rows_with,
)
from ndzarr._indexing.affine import IDENTITY
from ndzarr._pyramid.crops import Crop, read_crops
from ndzarr._pyramid.window import channel_names as channels
from ndzarr._pyramid.window import compact_mask, label_window, leading_axis
from ndzarr._sampling.annotations import AnnotationTable, Found, Lookup
from ndzarr._sampling.annotations import find_annotations as find
from ndzarr._sampling.compose import Composition, uncertain
from ndzarr._sampling.compose import read_compositions as read
from ndzarr._sampling.resolve import locate as located
from ndzarr._sampling.sample import Context, Located, mask_dims
from ndzarr._sampling.sample import label_sample as label
from ndzarr._sampling.sample import time_coordinate as times
from ndzarr._sampling.scene import Scene
from ndzarr._sampling.target import Target
from ndzarr.targets.table import Rows
from ndzarr.targets.table import TargetsLike as Targets

if TYPE_CHECKING:
    import xarray

    from ndzarr._batches.form import Origin
    from ndzarr.coco_sampler import CocoSampler
    from ndzarr.sampler import Sampler


def load_batch(
    sampler: BulkSampler, targets: Targets | Rows, lookup: Lookup, sizes: Sizes, keys: Mapping[str, Any]
) -> xarray.Dataset:
    """
    Load many windows; see `CocoSampler.load_batch`.

    Parameters
    ----------
    keys
        Keys that every target gets.
    """
    from ndzarr._batches.columnar import copies
    from ndzarr._batches.dataset import BatchContext, LazyMembers, of_copies
    from ndzarr._batches.dataset import batch_dataset as dataset

    check_sizes(sizes)
    rows = Rows(targets)
    if lookup.annot_ids is None and (found := copies(sampler, rows, keys, lookup)) is not None:
        context = BatchContext(LazyMembers(sampler, rows, dict(keys), lookup), (None,) * len(rows))
        return of_copies(found.read(), found.known, context)
    members: list[Member] = sampler.members(rows_with(rows, keys), lookup)
    form = agree(members, sizes)
    return dataset(members, form, read_batch(members, form))


# --- What is a sample of a kwcoco dataset before it is read?


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
        return self.scene.dims

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
        """Dates or frame indices along t, positions of planes along z."""
        if dim == "z":
            assert self.scene.planes is not None
            return np.array(self.scene.planes.positions, np.int64)
        return times(self.scene)

    @property
    def found(self) -> Found | None:
        """Its annotations; None where none are looked up."""
        if not self.lookup.wanted:
            return None
        return find(self.sampler._source.annotations, self.sampler.dset.index.anns, self.scene, self.lookup)

    def context(self) -> Context:
        """What the accessor of the sample knows."""
        return self.sampler.context(self.given, self.parsed, self.scene, self.lookup)

    @property
    def copied_from(self) -> Origin | None:
        """Where windows of its image are stored; None where they are not simply copied."""
        from ndzarr._batches.columnar import origin_of

        c = self.composition
        if len(c.pieces) != 1 or not c.complete or c.dtype != c.result_dtype or self.scene.nodata is not None:
            return None
        return None if self.scene.video else origin_of(c.pieces[0].crop, self.origin)

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
        frame = self.sampler._source.frame(name)
        if len(frame.assets) != 1 or frame.assets[0].nodata is not None:
            return None
        [asset] = frame.assets
        if asset.size is None or asset.size != frame.size or not np.array_equal(asset.to_image, IDENTITY):
            return None
        return asset.size[1], asset.size[0]

    @property
    def annotation_table(self) -> AnnotationTable | None:
        """The annotations of its dataset; None where none are looked up."""
        return self.sampler._source.annotations if self.lookup.wanted else None

    @property
    def labeller(self) -> Labeller:
        """Puts names on its pixels, without the sampler."""
        return label_coco, (self.channels, located(self.composition))

    def label(self, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None) -> xarray.Dataset:
        """What `load_sample` returns."""
        return label_coco(self.context(), (self.channels, located(self.composition)), image, valid)

    @classmethod
    def read(cls, members: Sequence[CocoMember], out: Sequence[np.ndarray[Any, Any]]) -> list[Mask]:
        """Read by one plan."""
        images = [o if m.scene.video else o[None] for m, o in zip(members, out, strict=True)]
        return [
            _coco_mask(m, valid)
            for m, (_, valid) in zip(members, read([m.composition for m in members], images), strict=True)
        ]


def label_coco(
    context: Context,
    known: tuple[tuple[str, ...], Located | None],
    image: np.ndarray[Any, Any],
    valid: np.ndarray[Any, Any] | None,
) -> xarray.Dataset:
    """The Dataset of a sample of a kwcoco dataset, of which the channels and the place on earth are known."""
    if not context.scene.video:
        image, valid = image[None], None if valid is None else valid[None]
    return label(context, known[0], image, valid, known[1])


def _coco_mask(member: CocoMember, valid: np.ndarray[Any, Any] | None) -> Mask:
    if valid is None:
        return None
    return mask_dims(member.scene, valid), valid if member.scene.video else valid[0]


# --- What is a sample of a named pyramid before it is read?


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
        return self.crop.region.y.step, self.crop.region.x.step

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
        found = leading_axis(self.crop, self.dims.index(dim))
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
        from ndzarr._batches.columnar import origin_of

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
