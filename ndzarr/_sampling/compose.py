"""From a scene to a request, and from requests to pixels.

1. Every run of channels that come from one asset of one frame (`channels`) is one `Piece`: a `Crop`, and a transform
   where the asset is rotated or sheared.  They make a `SampleRequest`.
2. All crops of all pieces of all requests make one `ReadPlan`; pixels are decoded straight into the sample where they
   need no resampling.
3. What is missing is filled in: outside the data, channels that a frame lacks, nodata.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ndzarr._indexing.plan import ReadPlan, check_memory, plan_reads
from ndzarr._indexing.resample import Grid, rounded
from ndzarr._indexing.selection import AxisSelection, lengths, outside, select
from ndzarr._indexing.windows import Region, Span
from ndzarr._pyramid.crops import Crop, crop_at, read_crops
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.window import compact_mask
from ndzarr._sampling.channels import ChannelMap, Run, map_channels
from ndzarr._sampling.coco_assets import ORDERED, check_axes, position_of
from ndzarr._sampling.protocols import SampleSource
from ndzarr._sampling.scene import Asset, Frame, Scene, frame_ids, time_coordinate
from ndzarr._sampling.warp import Warp, inside, warp_crop
from ndzarr._store.read import execute
from ndzarr._store.validity import as_pixel
from ndzarr.errors import TargetError, WindowError, did_you_mean

Array: TypeAlias = np.ndarray[Any, Any]

_LARGE = 1 << 28
"""Bytes of a sample from which it is compared with the memory of this process."""
_SMALLER = "Check its window, scale, resolution and output_dims, or cut it into smaller windows"

Mask: TypeAlias = "tuple[tuple[str, ...], Array] | None"
"""Where pixels are real, with the axes of the mask; None where all of them are."""


@dataclass(frozen=True, slots=True)
class Positions:
    """The positions of a sample along one axis of its files, such as z."""

    labels: Array
    """Positions in the files, negative or behind the last for those that do not exist; or their seconds, then NaN."""
    read: AxisSelection
    """Those that exist."""
    target: slice
    """Place of those among all."""


class Piece(NamedTuple):
    """A crop, and where it lands in the sample."""

    place: tuple[int | slice, ...]
    """Index of the sample along its axes before y."""
    crop: Crop
    warp: Warp | None = None
    """Transform of the crop, where it is rotated or sheared against the sample."""


class SampleRequest(NamedTuple):
    """One sample before it is read, with its files opened."""

    scene: Scene
    """Its frames and window."""
    dims: tuple[str, ...]
    """Axes of its image."""
    shape: tuple[int, ...]
    channels: tuple[str, ...] | None
    """Names along c; None where there is no such axis."""
    positions: dict[str, Positions]
    """Lengths of the axes within files: z, and for named sources all but c, y and x."""
    pieces: tuple[Piece, ...]
    stored: np.dtype[Any]
    """Type of the pixels as they are read."""
    dtype: np.dtype[Any]
    """Type of the sample."""
    complete: bool
    """True where every frame has every channel and nothing lies outside an asset."""
    copied: bool
    """True where its pixels are copies of stored ones that are all real."""

    @property
    def crops(self) -> list[Crop]:
        """Windows of the files."""
        return [piece.crop for piece in self.pieces]

    @property
    def fill(self) -> float:
        """The value of pixels that are not real; where it is left open, NaN if missing pixels are NaN, else 0."""
        if self.scene.padding.fill is not None:
            return self.scene.padding.fill
        return float("nan") if self.scene.nodata in ("float", "auto") and self.dtype.kind in "fc" else 0

    def labels(self, dim: str) -> Array:
        """Return the coordinate along t, z or another axis before y: dates or seconds where known, else positions."""
        return time_coordinate(self.scene) if dim == "t" and self.scene.video else self.positions[dim].labels

    @property
    def ids(self) -> dict[str, Any]:
        """Columns that name the source: the id or name of an image, arrays along t for a video."""
        frames = self.scene.frames
        if not self.scene.video:
            return {"key" if self.scene.named else "gid": frames[0].gid}
        return {"gid": frame_ids(self.scene), "frame_index": np.array([f.index for f in frames])}


def compose(scene: Scene, source: SampleSource) -> SampleRequest:
    """Open the files of a scene, and find what to read of them."""
    frames = scene.frames
    opened: dict[Asset, Pyramid] = {}
    if source.remote:
        source.open_together(frames)

    def open_asset(asset: Asset) -> Pyramid:
        found = opened.get(asset)
        if found is None:
            found = opened[asset] = source.open_asset(asset)
        return found

    stated = []
    for frame in frames:
        for asset in frame.assets:
            stated.append(asset.channels or open_asset(asset).channels or GRAY)  # noqa: PERF401  a comprehension is a call
    found = map_channels(frames, scene.video, scene.channels, tuple(stated))
    if found.absent or not found.wanted:
        wider = tuple(map(source.with_labels, frames))
        if wider != frames:
            return compose(scene._replace(frames=wider), source)
        _check_channels(frames, found, source)
    files = []
    for run in found.runs:
        files.append((frames[run.frame], run.asset, open_asset(run.asset)))  # noqa: PERF401
    if not files:  # the type and the planes are then those of the frames' first files
        files = [(f, f.assets[0], open_asset(f.assets[0])) for f in frames if f.assets]
    dims, positions = _axes(scene, files)
    number = 1  # of the positions that are read along axes of the files
    for along in positions.values():
        [n] = lengths((along.read,))
        number *= n

    pieces: list[Piece] = []
    alike: dict[Any, tuple[Crop, Warp | None]] = {}
    dtype = files[0][2].dtype if files else np.dtype(np.uint8)
    planes, padded, exact = 0, False, True
    for k, run in enumerate(found.runs):
        frame, asset, pyramid = files[k]
        if not scene.named and (asset.channels is not None or pyramid.dims not in ORDERED):
            _check_file(frame, asset, pyramid)
        t = position_of(frame, asset, pyramid) if pyramid.dims[0] == "t" and not scene.named else 0
        if len(files) == 1:
            crop, warp = _crop(scene, run, pyramid, positions)
        else:
            # Frames of a video differ in little but their pixels: what is found for one asset holds for those alike.
            picks = run.selection if isinstance(run.selection, tuple) else run.selection.start
            grid = pyramid.dims, pyramid.planar_shapes, pyramid.planar_factors
            key = run.placed, picks, run.number, grid, pyramid.kind, pyramid.dtype
            if key not in alike:
                alike[key] = _crop(scene, run, pyramid, positions)
            crop, warp = alike[key]
            if pyramid.dtype != dtype:
                dtype = np.result_type(dtype, pyramid.dtype)
        if t or crop.pyramid is not pyramid:
            lead = (slice(t, t + 1, 1), *crop.leading[1:]) if t else crop.leading
            weighted = warp is not None and not pyramid.validity.plain
            crop = Crop(pyramid, crop.region, lead, crop.sampling, crop.fill, None, weighted)
        place: list[int | slice] = []
        for d in dims[:-2]:
            if d == "c":
                place.append(slice(run.first, run.first + run.number))
            else:
                place.append(positions[d].target if d in positions else run.frame)
        pieces.append(Piece(tuple(place), crop, warp))
        planes += run.number * number
        padded = padded or warp is not None or crop.region.padded
        exact = exact and crop.region.exact and pyramid.validity.plain
    shape = []
    for d in dims[:-2]:
        if d == "c":
            shape.append(len(found.wanted))
        else:
            shape.append(len(positions[d].labels) if d in positions else len(frames))
    complete = not padded and planes == prod(shape)
    result = scene.dtype or dtype
    if scene.dtype is None and scene.nodata == "float" and dtype.kind not in "fc":
        result = np.dtype("f4") if dtype.itemsize <= 2 else np.dtype("f8")
    if scene.padding.fill is not None and as_pixel(scene.padding.fill, result) is None:
        raise TargetError(
            f"fill={scene.padding.fill!r} is not a value of {result}",
            key="fill",
            hint="Choose one that is, or a dtype that has it",
        )
    whole = (*shape, *scene.n)
    needed = prod(whole) * result.itemsize
    if not exact:
        needed += sum(p.crop.bytes for p in pieces)
    if needed > _LARGE:
        check_memory(needed, TargetError, window=(scene.y, scene.x), hint=_SMALLER)
    return SampleRequest(
        scene,
        dims,
        whole,
        found.wanted if "c" in dims else None,
        positions,
        tuple(pieces) if planes else (),
        dtype,
        result,
        complete,
        complete and exact and result == dtype and scene.nodata is None,
    )


GRAY = ("gray",)
"""The channel of a file without an axis c, such as a Zarr array."""


def _check_channels(frames: Sequence[Frame], found: ChannelMap, source: SampleSource) -> None:
    """Raise `TargetError` for a channel that no image has, or if none is known."""
    elsewhere = source.dataset.known()[0]  # frames may lack what other images have
    for name in found.absent:
        if name not in elsewhere:
            known = did_you_mean(name, found.available)
            raise TargetError(f"channels: {name!r} is in none of {_names(frames)}{known}", key="channels")
    if not found.wanted:
        what = f"{_names(frames)}: neither a file nor assets, so that no channel is known"
        raise TargetError(what, key="channels", hint="Give channels")


def _names(frames: Sequence[Frame]) -> str:
    shown = ", ".join(f.name for f in frames[:3])
    return shown if len(frames) <= 3 else f"{shown} and {len(frames) - 3} more"


_MEANING = {"red": "r", "green": "g", "blue": "b", "grey": "gray", "alpha": "a"}
"""Names of channels that mean another."""


def _are_named(stated: Sequence[str], have: Sequence[str]) -> bool:
    """
    Return True if `stated` can be names of the channels that a file has.

    They are taken by position, so all must be named; alpha may be left out if the others are what their names say.
    """
    if len(stated) == len(have):
        return True
    if have[-1] != "a" or len(stated) != len(have) - 1:
        return False
    meant = [_MEANING.get(name.lower(), name.lower()) for name in stated]
    return (len(meant) == 1 and meant != ["a"]) or meant == [name.lower() for name in have[:-1]]


def _check_file(frame: Frame, asset: Asset, pyramid: Pyramid) -> None:
    """Refuse a file that does not have what the dataset says, or the axes of a sample."""
    check_axes(frame, asset, pyramid)
    have = pyramid.channels or GRAY
    if asset.channels is not None and not _are_named(asset.channels, have):
        stated, found = "|".join(asset.channels), "|".join(have[:20])
        raise TargetError(
            f"{frame.name}: the dataset names {len(asset.channels)} channels ({stated}) "
            f"of {asset.path}, which has {len(have)} ({found})",
            path=asset.path,
            key="channels",
            hint="Name every channel of the file in the dataset; channels= of a target selects some",
        )


def _crop(scene: Scene, run: Run, pyramid: Pyramid, positions: dict[str, Positions]) -> tuple[Crop, Warp | None]:
    """Return the window of an asset, and its transform where the asset is not upright."""
    lead: list[AxisSelection] = []
    for d in pyramid.dims[:-2]:
        if d == "c":
            lead.append(run.selection)
        else:
            lead.append(positions[d].read if d in positions else _ONE)
    if run.placed.upright is None:
        warp = Warp.between(run.placed.matrix, scene, pyramid)
        return warp.crop(pyramid, tuple(lead), scene.sampling), warp
    sx, sy, tx, ty = run.placed.upright
    (h, w), (y0, y1), (x0, x1) = scene.n, scene.y, scene.x
    top, left = (y0 - ty) / sy, (x0 - tx) / sx
    if sx == sy == 1 and h == y1 - y0 and w == x1 - x0 and top % 1 == left % 1 == 0:
        height, width = pyramid.shape[-2:]
        if 0 <= top <= height - h and 0 <= left <= width - w:  # copied, as `crop_at` finds it in more steps
            j, i = int(top), int(left)
            y = Span(slice(j, j + h, 1), slice(0, h, 1), Grid(0.0, 1.0, h), h, top, 1.0)
            x = Span(slice(i, i + w, 1), slice(0, w, 1), Grid(0.0, 1.0, w), w, left, 1.0)
            return Crop(pyramid, Region(0, y, x, True, False), tuple(lead), scene.sampling, 0), None
    return crop_at(pyramid, (top, left), ((y1 - y0) / sy, (x1 - x0) / sx), scene.n, tuple(lead), scene.sampling), None


_ONE = slice(0, 1, 1)
"""Along an axis that has one plane."""


# The axes of a sample.


File: TypeAlias = tuple[Frame, Asset, Pyramid]


def _axes(scene: Scene, files: Sequence[File]) -> tuple[tuple[str, ...], dict[str, Positions]]:
    """The axes of a sample, and the positions along those that lie within files."""
    if scene.named:
        return _axes_of_file(scene, [pyramid for _, _, pyramid in files])
    dims = ("t", "c") if scene.video else ("c",)
    deep = bool(scene.lead)  # z is asked for; t was refused before
    for _, _, pyramid in files:
        deep = deep or "z" in pyramid.dims
    planes = _planes(scene.lead[0][1] if scene.lead else None, files) if deep else None
    return ((*dims, "y", "x"), {}) if planes is None else ((*dims, "z", "y", "x"), {"z": planes})


def _planes(wanted: Any, files: Sequence[File]) -> Positions | None:
    """The planes of a sample; None where its files have one each."""
    depths = [pyramid.sizes.get("z", 1) for _, _, pyramid in files]
    depth = max(depths, default=1)
    if depth == 1:
        if wanted is not None:
            shown = f"{_of(files[0])} has no planes" if files else "there is no file that has planes"
            path = files[0][1].path if files else None
            raise TargetError(f"z={wanted!r}: {shown}", path=path, key="z", hint="Leave z out")
        return None
    if min(depths) != depth:
        few, many = (depths.index(n) for n in (min(depths), depth))
        raise TargetError(
            f"{_of(files[few])} has {depths[few]} plane{'s' * (depths[few] != 1)} along z, {_of(files[many])} has "
            f"{depth}; what makes one sample has to have as many",
            path=files[few][1].path,
            key="z",
            hint="Choose other channels or frames, or load them apart",
        )
    try:
        return _chosen("z", wanted, depth)
    except WindowError as error:
        what = f"{error}; {_of(files[0])} has {depth} planes"
        raise TargetError(what, path=files[0][1].path, key="z", window=wanted) from error


def _of(file: File) -> str:
    return f"{file[0].name}: {file[1].path}"


def _axes_of_file(scene: Scene, pyramids: Sequence[Pyramid]) -> tuple[tuple[str, ...], dict[str, Positions]]:
    """The axes of a named source, perhaps with its label images; and the positions along all but c, y and x."""
    pyramid = pyramids[0]
    dims = pyramid.dims
    if dims[-2:] != ("y", "x"):
        raise WindowError(
            f"{pyramid.path} has axes {' '.join(dims)}; a window needs y x as the last two",
            path=pyramid.path,
            hint="Use read(), which takes any",
        )
    for other in pyramids[1:]:
        if any(pyramid.sizes.get(d) != other.sizes.get(d) for d in "tz"):
            what = f"{other.path} has the lengths {other.sizes}, and {pyramid.path} has {pyramid.sizes}"
            raise TargetError(what, path=other.path, key="channels", hint="Load their channels one by one")
    if len(pyramids) > 1 and "c" not in dims:
        dims = (*dims[:-2], "c", "y", "x")
    wanted = dict(scene.lead)
    for d in wanted:
        if d not in dims:
            what = f"{pyramid.path} has axes {' '.join(dims)}, and no {d!r}{did_you_mean(d, dims)}"
            raise WindowError(what, path=pyramid.path, key=d, window=wanted)
    times = pyramid.times
    return dims, {
        d: _chosen(d, wanted.get(d), pyramid.sizes[d], times if d == "t" else None) for d in dims[:-2] if d != "c"
    }


def _chosen(dim: str, wanted: Any, length: int, times: Sequence[float] | None = None) -> Positions:
    """Positions along an axis, as `Pyramid.window` understands them: slices may reach beyond it."""
    there: AxisSelection
    beyond = outside(dim, length, wanted) if isinstance(wanted, slice) else None
    if beyond is not None:
        asked, there, target = np.array(beyond[0], np.int64), beyond[1], beyond[2]
    else:
        [there] = select((dim,), (length,), {dim: wanted})
        asked = np.arange(length)[list(there) if isinstance(there, tuple) else there]
        target = slice(0, len(asked))
    if times is None:
        return Positions(asked, there, target)
    seconds = np.full(len(asked), np.nan)
    seconds[target] = np.asarray(times)[list(there) if isinstance(there, tuple) else there]
    return Positions(seconds, there, target)


# Reading.


def read(
    requests: Sequence[SampleRequest],
    out: Sequence[Array] | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> list[tuple[Array, Mask]]:
    """
    Read samples, planned together.

    Parameters
    ----------
    out
        Where the pixels of each go, of its `shape` and `dtype`; made if left out.
    meanwhile
        What may be done while other threads decode.

    Returns
    -------
    (image, mask) each: the image has the axes of its request, the mask the same, without c where all channels agree.
    """
    if len(requests) == 1 and out is None and requests[0].copied and len(requests[0].pieces) == 1:
        # One window of one file, as it is stored: nearly all samples, and the rest of this function does the same.
        [r] = requests
        crop = r.pieces[0].crop
        shape = (*lengths(crop.leading), *r.scene.n)
        y, x = crop.region.y.read, crop.region.x.read
        image = np.empty(r.shape, r.dtype)
        array = crop.pyramid.levels[crop.region.level].array
        plan = ReadPlan((array,), ((0, (*crop.leading, y, x)),), (shape,))
        execute(plan, [image[r.pieces[0].place].reshape(shape)], crop.pyramid.cache, meanwhile=meanwhile)
        return [(image, None)]
    places = [None] * len(requests) if out is None else out
    images = [_canvas(r, place) for r, place in zip(requests, places, strict=True)]
    pieces = [(image, piece) for r, image in zip(requests, images, strict=True) for piece in r.pieces]
    views = [
        image[p.place].reshape(p.crop.shape) if p.warp is None else np.empty(p.crop.shape, p.crop.pyramid.dtype)
        for image, p in pieces
    ]
    if pieces and all(r.copied for r in requests):
        execute(plan_reads([p.crop.request for _, p in pieces]), views, pieces[0][1].crop.pyramid.cache)
        masks: list[Array | None] = [None] * len(pieces)
    else:
        masks = []
        for (image, p), (pixels, mask) in zip(pieces, read_crops([p.crop for _, p in pieces], views), strict=True):
            masks.append(mask if p.warp is None else warp_crop(p.warp, p.crop, pixels, mask, image[p.place]))
    rest = iter(masks)
    done: list[tuple[Array, Mask]] = []
    for r, image, place in zip(requests, images, places, strict=True):  # one at a time: other dtypes are copies
        valid: Mask = None
        own = [next(rest) for _ in r.pieces]
        if not r.copied:
            image, valid = _finish(r, image, _valid(r, own))
        if place is not None and image is not place:
            place[...] = image
        done.append((image if place is None else place, valid))
    return done


def _canvas(r: SampleRequest, place: Array | None) -> Array:
    """Return the array that a sample is read into: its place, if that has the type of the stored pixels."""
    fill = 0 if r.scene.padding.fill is None else r.scene.padding.fill
    able = r.dtype == r.stored or as_pixel(fill, r.stored) is not None
    dtype = r.stored if able else np.result_type(r.stored, r.dtype)
    canvas = place if place is not None and place.dtype == dtype else np.empty(r.shape, dtype)
    if not r.complete:
        canvas[...] = fill
    return canvas


def _valid(r: SampleRequest, masks: Sequence[Array | None]) -> Array | None:
    """Where pixels are real, with all axes; None where all of them are."""
    if r.complete and all(mask is None for mask in masks):
        return None
    valid = np.zeros(r.shape, bool)
    for piece, mask in zip(r.pieces, masks, strict=True):
        part = valid[piece.place]
        part[...] = True if mask is None else mask if mask.ndim == 2 else mask.reshape(part.shape)
    return valid


def is_uncertain(r: SampleRequest) -> bool:
    """Return True where nodata, alpha or a mask tells which pixels are real, so that they have to be read."""
    floating = r.scene.nodata is not None and r.stored.kind in "fc"
    return floating or any(not p.crop.pyramid.validity.plain for p in r.pieces)


def mask_by_geometry(r: SampleRequest) -> Mask:
    """Return the mask of a sample that is not uncertain, without reading."""
    masks = [None if p.warp is None and not p.crop.region.padded else _covered(p) for p in r.pieces]
    valid = _valid(r, masks)
    if valid is None and r.scene.nodata == "ma":
        valid = np.ones(r.shape, bool)
    return None if valid is None else compact_mask(r.dims, valid)


def _covered(piece: Piece) -> Array:
    """True where a piece makes pixels, shape (y, x)."""
    if piece.warp is not None:
        return inside(piece.warp, piece.crop)
    region = piece.crop.region
    mask = np.zeros(region.shape, bool)
    mask[region.y.target, region.x.target] = True
    return mask


def read_lazily(r: SampleRequest) -> tuple[Any, tuple[tuple[str, ...], Any] | None]:
    """
    Return what `read` returns for one request, as dask arrays that one task makes.

    The mask is in memory where it follows from the geometry; else it is a dask array.  That has an axis c unless it is
    known before reading that all channels agree.
    """
    import dask.array
    from dask.delayed import delayed

    left = tuple(d for d in r.dims if d != "c" or not _channels_agree(r))
    task = delayed(_read_whole, pure=False)(r, left)
    image = dask.array.from_delayed(task[0], r.shape, r.dtype)
    if not is_uncertain(r):
        return image, mask_by_geometry(r)
    shape = tuple(n for n, d in zip(r.shape, r.dims, strict=True) if d in left)
    return image, (left, dask.array.from_delayed(task[1], shape, bool))


def _channels_agree(r: SampleRequest) -> bool:
    """Return True if every frame is one file of all channels, whose alpha or mask hides them together."""
    if "c" not in r.dims or (r.scene.nodata is not None and r.stored.kind in "fc"):
        return False
    c = r.dims.index("c")
    whole = slice(0, r.shape[c])
    # Where assets are warped, alpha itself is real at pixels that it hides.
    return all(p.place[c] == whole and p.warp is None and p.crop.pyramid.validity.nodata is None for p in r.pieces)


def _read_whole(r: SampleRequest, left: tuple[str, ...]) -> tuple[Array, Array]:
    """Return image and mask; the mask has the axes `left`."""
    shape = tuple(n for n, d in zip(r.shape, r.dims, strict=True) if d in left)
    [(image, mask)] = read([r])
    if mask is None:
        return image, np.ones(shape, bool)
    dims, valid = mask
    missing = [k for k, d in enumerate(left) if d not in dims]
    return image, np.ascontiguousarray(np.broadcast_to(np.expand_dims(valid, missing), shape))


# Pixels that are not real: outside the data, of channels that a frame lacks, without data.


def _finish(r: SampleRequest, image: Array, valid: Array | None) -> tuple[Array, Mask]:
    """Fill in what is missing; `valid` has all axes, and is None where all pixels are real."""
    if r.scene.nodata is not None:
        valid = _without_nan(r, image, valid)
    if valid is not None and not valid.all():
        if r.scene.nodata is not None:
            image = _filled(r, image, valid)
        if r.scene.padding.mode != "constant":
            image = _continued(r, image)
    return _as_type(image, r.dtype), None if valid is None else compact_mask(r.dims, valid)


def _without_nan(r: SampleRequest, image: Array, valid: Array | None) -> Array | None:
    """Where pixels hold data, once the target asks for that: NaN never does."""
    if image.dtype.kind in "fc" and image.size and np.isnan(image.min()):  # min propagates NaN
        return np.asarray(~np.isnan(image) if valid is None else valid & ~np.isnan(image))
    return np.ones(image.shape, bool) if valid is None and r.scene.nodata == "ma" else valid


def _filled(r: SampleRequest, image: Array, valid: Array) -> Array:
    nodata, fill = r.scene.nodata, r.scene.padding.fill
    if nodata == "auto":
        nodata = "float" if image.dtype.kind in "fc" else "ma"
    if nodata == "float":
        image = image.astype(r.dtype if r.dtype.kind in "fc" else np.dtype("f8"), copy=False)
        image[~valid] = np.nan
        if fill is not None:
            outside_space = np.ones(image.shape, bool)
            outside_space[_interior(r)] = False
            image[~valid & outside_space] = fill
    elif nodata == "fill":
        image[~valid] = 0 if fill is None else fill
    return image


def _as_type(image: Array, dtype: np.dtype[Any]) -> Array:
    """The image in the type asked for: rounded, and limited to what that can hold."""
    if image.dtype == dtype:
        return image
    if image.dtype.kind == "c" and dtype.kind != "c":
        raise TargetError(
            f"dtype={dtype} has no imaginary part, and the image is {image.dtype}",
            key="dtype",
            hint="Take .real or abs of it",
        )
    if dtype.kind not in "iu" or np.can_cast(image.dtype, dtype):
        return image.astype(dtype)
    if image.dtype.kind == "f" and np.isnan(image.min(initial=0)):
        what = f"dtype={dtype} has no NaN, and there is some"
        raise TargetError(what, key="dtype", hint="Give padkw constant_values, or another dtype")
    limits = np.iinfo(dtype)
    if image.dtype.kind in "iu":
        low, high = max(limits.min, np.iinfo(image.dtype).min), min(limits.max, np.iinfo(image.dtype).max)
        return np.asarray(np.clip(image, low, high), dtype)
    return rounded(image, dtype)


def _interior(r: SampleRequest) -> tuple[slice, ...]:
    """Return the part of a sample that lies in the sampled space at least in part, along all axes."""
    scene = r.scene
    spans = []
    for d in r.dims[:-2]:
        if d == "t" and scene.video:
            real = [k for k, f in enumerate(scene.frames) if f.gid is not None]
            spans.append(slice(real[0], real[-1] + 1))
        else:
            spans.append(slice(0, r.shape[r.dims.index(d)]) if d == "c" else r.positions[d].target)
    for (start, _), n, pitch, length in zip((scene.y, scene.x), scene.n, scene.pitch, scene.space, strict=True):
        first = min(n, max(0, floor(-start / pitch + 1e-6)))
        spans.append(slice(first, max(first, min(n, ceil((length - start) / pitch - 1e-6)))))
    return tuple(spans)


def _continued(r: SampleRequest, image: Array) -> Array:
    """The sample with its padding made from what lies inside."""
    padding, interior = r.scene.padding, _interior(r)
    if any(s.start >= s.stop for s in interior):
        what = f"padkw mode {padding.mode!r}: the window lies wholly outside, there is nothing to continue"
        raise TargetError(what, key="padkw", window=(slice(*r.scene.y), slice(*r.scene.x)))
    widths = [(s.start, n - s.stop) for s, n in zip(interior, image.shape, strict=True)]
    if not any(map(any, widths)):
        return image
    options = dict(padding.options)
    try:
        return np.pad(image[interior], widths, mode=padding.mode, **options)  # type: ignore[call-overload,no-any-return]
    except (ValueError, TypeError) as error:
        raise TargetError(f"padkw={options!r}: {error}", key="padkw") from error
