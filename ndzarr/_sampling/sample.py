"""Samples: Datasets that are made of arrays, and what they know about where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import xarray

from ndzarr._geo.georeference import Georeference, Transform
from ndzarr._indexing.affine import scale_offset
from ndzarr._pyramid.window import crop_nodata
from ndzarr._pyramid.xarray import (
    attach_nodata,
    attach_spatial_ref,
    build_dataset,
    centre_axis,
    common_axis,
    earth_axes,
    index_axis,
    name_axis,
)
from ndzarr._sampling.annotations import GEOMETRY, Found, Lookup, find_annotations
from ndzarr._sampling.compose import Mask, SampleRequest, compose, read, read_lazily
from ndzarr._sampling.native_scale import native_requests
from ndzarr._sampling.protocols import Lookups, SampleSource
from ndzarr._sampling.resolve import resolve, resolved_target
from ndzarr._sampling.scene import Scene, frame_ids, time_coordinate
from ndzarr._sampling.target import Target, merged, parse
from ndzarr._store import core
from ndzarr.errors import TargetError


def load_sample(
    source: SampleSource, target: Mapping[str, Any] | None, keys: Mapping[str, Any], lookup: Lookup
) -> xarray.Dataset:
    """Load one window; see `CocoSampler.load_sample`."""
    core.expect()
    given = merged(target, keys)
    parsed = parse(given)
    if parsed.native is not None:
        return load_native(source, given, {}, lookup)  # type: ignore[return-value]
    request = compose(resolve(parsed, source), source)
    context = cache(lambda: context_of(source, given, parsed, request.scene, lookup))
    [(image, mask)] = [read_lazily(request)] if parsed.lazy else read([request], meanwhile=context)
    return to_dataset(context(), labels_of(request), image, mask)


def load_native(
    source: SampleSource, target: Mapping[str, Any] | None, keys: Mapping[str, Any], lookup: Lookup
) -> xarray.DataTree:
    """Load one child per frame and asset, all by one plan; see `CocoSampler.load_native`."""
    given = {**merged(target, keys), "use_native_scale": True}
    parsed = parse(given)
    parts = native_requests(source, parsed)
    requests = list(parts.values())
    pixels = [read_lazily(r) for r in requests] if parsed.lazy else read(requests)
    children: dict[str, Any] = {}
    for path, request, (image, mask) in zip(parts, requests, pixels, strict=True):
        context = context_of(source, given, parsed, request.scene, lookup)
        children[path] = to_dataset(context, labels_of(request), image, mask)
    return xarray.DataTree.from_dict(children)


class Context:
    """The origin of a sample, for its accessor `sample.ndzarr`."""

    __slots__ = (
        "_dataset",
        "_given",
        "_parsed",
        "_target",
        "classes",
        "earth",
        "found",
        "geometry",
        "keypoint_classes",
        "scene",
    )

    def __init__(
        self,
        given: Mapping[str, Any],
        parsed: Target,
        scene: Scene,
        dataset: Lookups,
        found: Found | None = None,
        classes: Any = (),
        keypoint_classes: Any = (),
        geometry: tuple[str, ...] = (),
    ) -> None:
        self._given, self._parsed, self._dataset = given, parsed, dataset
        self._target: dict[str, Any] | None = None
        self.scene = scene
        self.found = found
        """Annotations; None where none were looked up."""
        self.classes = classes
        """Category dictionaries of the dataset."""
        self.keypoint_classes = keypoint_classes
        """Keypoint category dictionaries of the dataset."""
        self.geometry = geometry
        """The geometry that `detections` holds."""
        self.earth: Transform | None = None
        """From pixels of the sample to coordinates on earth; None where its y and x are pixels of the sampled space."""

    @property
    def target(self) -> dict[str, Any]:
        """The target with the window that it was resolved to; found when it is first asked for."""
        if self._target is None:
            self._target = resolved_target(self._given, self._parsed, self.scene, self._dataset)
        return self._target

    def __getstate__(self) -> tuple[Any, ...]:
        """It pickles with the resolved target, not with the dataset."""
        return self.target, self.scene, self.found, self.classes, self.keypoint_classes, self.geometry, self.earth

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._target, self.scene, self.found, self.classes, self.keypoint_classes, self.geometry, self.earth = state


def origin_of(sample: xarray.Dataset) -> Context:
    """Return where a sample comes from; raise `TargetError` if it does not say."""
    context = sample.encoding.get("ndzarr")
    if not isinstance(context, Context):
        raise TargetError(
            "this Dataset does not come from an ndzarr sampler, or an operation on it dropped its origin",
            hint="Ask the sample as it was loaded",
        )
    return context


def context_of(source: SampleSource, given: Mapping[str, Any], parsed: Target, scene: Scene, lookup: Lookup) -> Context:
    """Return the context of a sample, with its annotations."""
    dset = source.dset
    if dset is None:
        return Context(given, parsed, scene, source.dataset)
    found, table = None, source.annotations
    everything = lookup.with_annots is True
    if everything or lookup.wanted:
        if len(table.annot_id) != len(dset.index.anns):
            what = "the dataset was changed after annotations were looked up"
            raise TargetError(what, hint="Make another CocoSampler")
        found = find_annotations(table, dset.index.anns, scene, lookup)
    content = dset.dataset
    classes, points = content.get("categories", ()), content.get("keypoint_categories", ())
    geometry = GEOMETRY if everything else lookup.geometry
    return Context(given, parsed, scene, source.dataset, found, classes, points, geometry)


class Labels(NamedTuple):
    """The names of the axes of a sample.  They hold no pyramid and are cheap to send to other processes."""

    dims: tuple[str, ...]
    channels: tuple[str, ...] | None
    """Names along c."""
    lead: dict[str, np.ndarray[Any, Any]]
    """Coordinates along axes that lie within files."""
    place: Georeference | None
    """Where the pixels of an asset lie on earth; None if that is not known."""
    transform: Transform | None
    """From pixels of the sample to coordinates on earth."""
    nodata: float | None = None
    """Value of pixels without data, if it is the same in all of its files and channels."""


def labels_of(request: SampleRequest) -> Labels:
    """Return the labels of a sample; it lies on earth where the first of its pieces that is georeferenced does."""
    lead = {d: p.labels for d, p in request.positions.items()} if request.positions else {}
    nodata = _nodata(request)
    for piece in request.pieces:
        place = piece.crop.pyramid.georeference
        if place is None or place.transform is None:
            continue
        if piece.warp is not None:
            a, b, c, d, e, f = (place.matrix @ piece.warp.to_native)[:2].ravel().tolist()
            return Labels(request.dims, request.channels, lead, place, (a, b, c, d, e, f), nodata)
        y, x = piece.crop.region.y, piece.crop.region.x
        transform = place.window_transform(y.origin, x.origin, y.step, x.step)
        return Labels(request.dims, request.channels, lead, place, transform, nodata)
    return Labels(request.dims, request.channels, lead, None, None, nodata)


def _nodata(request: SampleRequest) -> float | None:
    """Return the value of pixels without data, unless the target replaces it or the files of a sample differ."""
    if request.scene.nodata not in (None, "ma") or {p.crop.pyramid.nodata for p in request.pieces} <= {None}:
        return None
    values = [crop_nodata(piece.crop) for piece in request.pieces]
    return values[0] if values and values[0] is not None and all(v == values[0] for v in values) else None


def to_dataset(context: Context, labels: Labels, image: np.ndarray[Any, Any], mask: Mask) -> xarray.Dataset:
    """
    Name everything.

    Parameters
    ----------
    image, mask
        As `compose.read` returns them.
    """
    scene, dims = context.scene, labels.dims
    variables: dict[str, Any] = {"image": (dims, image)}
    axes = {}
    along_t: tuple[str, ...] = ()
    if scene.video:
        axes["t"] = common_axis("t", time_coordinate(scene))
        along_t = "gid", "frame_index"
        variables["gid"] = ("t",), frame_ids(scene)
        variables["frame_index"] = ("t",), np.array([f.index for f in scene.frames])
    if labels.channels is not None:
        axes["c"] = name_axis("c", labels.channels)
    for d, values in labels.lead.items():
        axes[d] = index_axis(d, values)
    if labels.transform is None:
        (y0, y1), (x0, x1), (h, w) = scene.y, scene.x, scene.n
        axes["y"] = centre_axis("y", y0, (y1 - y0) / h, h)
        axes["x"] = centre_axis("x", x0, (x1 - x0) / w, w)
    else:
        context.earth = labels.transform
        axes |= earth_axes(labels.transform, *scene.n)
    if mask is not None:
        variables["valid"] = mask
    if context.found is not None:
        for name, column in context.found.columns.items():
            variables[name] = ("annot",) if column.ndim == 1 else ("annot", "xywh"), column
    made = build_dataset(variables, axes, along_t, {"ndzarr": context})
    if labels.nodata is not None:
        attach_nodata(made._variables["image"], labels.nodata)
    if labels.place is not None and labels.transform is not None:
        return attach_spatial_ref(made, labels.place, labels.transform)
    return made


# The part of a loaded sample that a Dataset made from it is.


_TOLERANCE = 1e-3
"""Pixels by which coordinates may be off, through rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """The place of a Dataset in the sample that was loaded."""

    scale: tuple[float, float]
    """Pixels of the loaded sample per pixel of the Dataset along (y, x); negative where an axis was turned round."""
    offset: tuple[float, float]
    """Where the first pixel of the Dataset begins along (y, x), in pixels of the loaded sample."""
    size: tuple[int, int]
    """Pixels of the Dataset along (y, x)."""
    frames: tuple[int, ...]
    """Positions of its frames in the loaded sample."""

    @property
    def to_loaded(self) -> np.ndarray[Any, Any]:
        """3x3, from pixels of the Dataset to those of the loaded sample."""
        (sy, sx), (y, x) = self.scale, self.offset
        return scale_offset((sx, sy), (x, y))

    @property
    def from_loaded(self) -> np.ndarray[Any, Any]:
        """3x3, from pixels of the loaded sample to those of the Dataset."""
        (sy, sx), (y, x) = self.scale, self.offset
        return scale_offset((1 / sx, 1 / sy), (-x / sx, -y / sy))

    def is_whole(self, context: Context) -> bool:
        """True for all of the loaded sample, as it was."""
        scene = context.scene
        return (*self.scale, *self.offset, *self.size) == (1, 1, 0, 0, *scene.n) and self.frames == tuple(
            range(len(scene.frames))
        )


def cut_of(sample: xarray.Dataset, context: Context) -> Cut:
    """Return the place of a Dataset in the sample that it was made from."""
    (y, sy, height), (x, sx, width) = (_along(sample, context, k) for k in (0, 1))
    return Cut((sy, sx), (y, x), (height, width), _frames(sample, context))


def _along(sample: xarray.Dataset, context: Context, k: int) -> tuple[float, float, int]:
    """(offset, scale, size) along y or x."""
    dim, loaded = "yx"[k], context.scene.n[k]
    n = sample.sizes.get(dim)
    if n is None:
        raise _cut_apart(f"this sample has no axis {dim} any more, so what is known of it does not fit", dim)
    if dim not in sample.coords:
        if n != loaded:
            raise _cut_apart(f"this sample was cut and has no coordinate {dim} that would say where", dim)
        return 0.0, 1.0, n
    origin, pitch = _grid(context, k)
    at = (sample[dim].values.astype(float) - origin) / pitch - 0.5
    scale = float(at[-1] - at[0]) / (n - 1) if n > 1 else 1.0
    if n == 0 or scale == 0 or not np.allclose(at, at[0] + scale * np.arange(n), rtol=0, atol=_TOLERANCE):
        raise _cut_apart(f"the {dim} of this sample are not evenly spaced any more", dim)
    scale = _tidy(scale, _TOLERANCE / n)
    return _tidy(float(at[0]) + (1 - scale) / 2, _TOLERANCE), scale, n


def _cut_apart(what: str, key: str) -> TargetError:
    return TargetError(what, key=key, hint="Ask the sample as it was loaded, or load the window that is wanted")


def _grid(context: Context, k: int) -> tuple[float, float]:
    """Return the start of the loaded sample along y or x, and the length of a pixel, in its coordinates."""
    scene, earth = context.scene, context.earth
    if earth is None:
        return float((scene.y, scene.x)[k][0]), scene.pitch[k]
    a, b, c, d, e, f = earth
    if b != 0 or d != 0:  # coordinates are then pixels of the window
        return 0.0, 1.0
    return ((f, e), (c, a))[k]


def _tidy(value: float, tolerance: float) -> float:
    """Half a pixel is the finest offset that slices and means of even blocks make."""
    near = round(2 * value) / 2
    return near if abs(near - value) < tolerance else value


def _frames(sample: xarray.Dataset, context: Context) -> tuple[int, ...]:
    """Positions along t of the frames that are left, by their ids and indices."""
    frames = context.scene.frames
    whole = tuple(range(len(frames)))
    if not context.scene.video or not {"gid", "frame_index"} <= set(sample.coords):
        return whole
    known = [(-1 if frame.gid is None else frame.gid, frame.index) for frame in frames]
    gids, indices = (np.atleast_1d(sample[name].values).tolist() for name in ("gid", "frame_index"))
    left = list(zip(gids, indices, strict=True))
    if left == known:  # an image may be there twice
        return whole
    strangers = [name for name in left if name not in known]
    if strangers:
        raise _cut_apart(f"gid={strangers[0][0]} is not a frame of the sample that was loaded", "gid")
    return tuple(map(known.index, left))
