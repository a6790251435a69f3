"""How do the assets of several frames become one array?

1. Every run of channels that come from one asset of one frame (`arrangement`) is one `Piece`: a `Crop`, and a
   transform where the asset is rotated or sheared.
2. All crops of all frames of all samples make one `ReadPlan`; pixels are decoded straight into the sample where they
   need no resampling.
3. What is missing is filled: outside the data, channels that a frame lacks, nodata (`finish`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil, floor
from typing import Any

import dask.array
import numpy as np
from dask.delayed import delayed

from ndzarr._indexing.resample import rounded
from ndzarr._pyramid.crops import Crop, crop_at, read_crops
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._sampling.channels import Run, arrange, names_in
from ndzarr._sampling.coco_assets import check_axes, position_of
from ndzarr._sampling.protocols import SampleSource
from ndzarr._sampling.scene import Asset, Frame, Scene, planes_of
from ndzarr._sampling.warp import Warp, inside, warp_crop
from ndzarr._store.downsample import as_pixel
from ndzarr.errors import TargetError, did_you_mean

# --- What becomes of pixels that are not real: outside the data, of channels that a frame lacks, without data?


def finish_sample(
    scene: Scene, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None, dtype: np.dtype[Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """
    Fill in what is missing.

    Parameters
    ----------
    image, valid
        Axes (t, c, [z,] y, x); valid is None where all pixels are real.
    dtype
        Of the result.

    Returns
    -------
    (image, valid), valid without c where all channels agree.
    """
    if scene.nodata is not None:
        valid = _without_nan(scene, image, valid)
    if valid is not None and not valid.all():
        if scene.nodata is not None:
            image = _filled(scene, image, valid, dtype)
        if scene.padding.mode != "constant":
            image = _continued(scene, image)
    return _as_type(image, dtype), compact_mask(valid)


def compact_mask(valid: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any] | None:
    """A mask (t, c, [z,] y, x) without c where all channels agree."""
    if valid is None:
        return None
    agree = valid.shape[1] == 1 or bool((valid == valid[:, :1]).all())
    return valid[:, 0] if agree else valid


def _without_nan(
    scene: Scene, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None
) -> np.ndarray[Any, Any] | None:
    """Where pixels hold data, once the target asks for that: NaN never does."""
    if image.dtype.kind in "fc" and image.size and np.isnan(image.min()):  # min propagates NaN
        return np.asarray(~np.isnan(image) if valid is None else valid & ~np.isnan(image))
    return np.ones((len(image), 1, *image.shape[2:]), bool) if valid is None and scene.nodata == "ma" else valid


def _filled(
    scene: Scene, image: np.ndarray[Any, Any], valid: np.ndarray[Any, Any], dtype: np.dtype[Any]
) -> np.ndarray[Any, Any]:
    nodata, fill = scene.nodata, scene.padding.fill
    if nodata == "auto":
        nodata = "float" if image.dtype.kind in "fc" else "ma"
    missing = np.broadcast_to(~valid, image.shape)
    if nodata == "float":
        image = image.astype(dtype if dtype.kind in "fc" else np.dtype("f8"), copy=False)
        image[missing] = np.nan
        if fill is not None:
            image[missing & ~_in_space(scene, image.shape)] = fill
    elif nodata == "fill":
        image[missing] = 0 if fill is None else fill
    return image


def _as_type(image: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The image in the type asked for: rounded, and limited to what that can hold."""
    if image.dtype == dtype:
        return image
    if image.dtype.kind == "c" and dtype.kind != "c":
        raise TargetError(
            f"dtype={dtype} has no imaginary part, and the image is {image.dtype}; take .real or abs of it"
        )
    if dtype.kind not in "iu" or np.can_cast(image.dtype, dtype):
        return image.astype(dtype)
    if image.dtype.kind == "f" and np.isnan(image.min(initial=0)):
        raise TargetError(f"dtype={dtype} has no NaN, and there is some; give padkw constant_values, or another dtype")
    limits = np.iinfo(dtype)
    if image.dtype.kind in "iu":
        low, high = max(limits.min, np.iinfo(image.dtype).min), min(limits.max, np.iinfo(image.dtype).max)
        return np.asarray(np.clip(image, low, high), dtype)
    return rounded(image, dtype)


def _in_space(scene: Scene, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """True within the sampled space, whether or not there is data; shape (t, c, [z,] y, x)."""
    inside = np.zeros(shape, bool)
    inside[_interior(scene, shape)] = True
    return inside


def _interior(scene: Scene, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """What of a sample, shape (t, c, [z,] y, x), lies in the sampled space at least in part."""
    real = [k for k, f in enumerate(scene.frames) if f.gid is not None]
    spans = [slice(real[0], real[-1] + 1), slice(0, shape[1])]
    if scene.planes is not None:
        spans.append(scene.planes.target)
    for (start, _), n, pitch, length in zip((scene.y, scene.x), scene.n, scene.pitch, scene.space, strict=True):
        first = min(n, max(0, floor(-start / pitch + 1e-6)))
        spans.append(slice(first, max(first, min(n, ceil((length - start) / pitch - 1e-6)))))
    return tuple(spans)


def _continued(scene: Scene, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The sample with its padding made from what lies inside."""
    inside = _interior(scene, image.shape)
    if any(s.start >= s.stop for s in inside):
        raise TargetError(
            f"padkw mode {scene.padding.mode!r}: the window lies wholly outside, there is nothing to continue"
        )
    widths = [(s.start, n - s.stop) for s, n in zip(inside, image.shape, strict=True)]
    if not any(map(any, widths)):
        return image
    options = dict(scene.padding.options)
    try:
        return np.pad(image[inside], widths, mode=scene.padding.mode, **options)  # type: ignore[call-overload,no-any-return]
    except (ValueError, TypeError) as error:
        raise TargetError(f"padkw={options!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class Piece:
    """A crop and where it lands in the sample."""

    frame: int
    """Position along t."""
    first: int
    """Position along c of its first channel."""
    number: int
    """Channels."""
    crop: Crop
    warp: Warp | None = None
    """How the crop becomes part of the sample, where it is rotated or sheared against it."""


@dataclass(frozen=True, slots=True)
class Composition:
    """Everything that is read for one sample."""

    scene: Scene
    channels: tuple[str, ...]
    """Names along c."""
    dtype: np.dtype[Any]
    """Of the pixels as they are read."""
    pieces: tuple[Piece, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(t, c, y, x), of volumes (t, c, z, y, x), whether or not the sample has an axis t."""
        scene = self.scene
        planes = () if scene.planes is None else (len(scene.planes.positions),)
        return len(scene.frames), len(self.channels), *planes, *scene.n

    @property
    def crops(self) -> list[Crop]:
        """What a `ReadPlan` is made from."""
        return [piece.crop for piece in self.pieces]

    @property
    def complete(self) -> bool:
        """True where every frame has every channel and nothing lies outside an asset."""
        if self.scene.planes is not None and not self.scene.planes.complete:
            return False
        covered = sum([p.number for p in self.pieces])
        partial = any(p.warp is not None or p.crop.region.padded for p in self.pieces)
        return covered == len(self.scene.frames) * len(self.channels) and not partial

    @property
    def result_dtype(self) -> np.dtype[Any]:
        """Of the sample."""
        scene = self.scene
        if scene.dtype is not None:
            return scene.dtype
        if scene.nodata == "float" and self.dtype.kind not in "fc":
            return np.dtype("f4") if self.dtype.itemsize <= 2 else np.dtype("f8")
        return self.dtype


def compose(scene: Scene, source: SampleSource) -> Composition:
    """
    Find what to read.

    Raises
    ------
    TargetError
        Neither a frame nor another image has a channel that was asked for, or files do not have the planes.
    """
    open_asset = cache(source.open_asset)  # one look at each file
    frames, found = scene.frames, arrange(scene, open_asset)
    elsewhere = set(source.dataset.known()[0]) if found.absent else set()
    for name in found.absent:
        if name not in elsewhere:
            raise TargetError(f"channel {name!r} is in none of {_names(frames)}{did_you_mean(name, found.available)}")
    if not found.wanted:
        raise TargetError(f"{_names(frames)}: neither a file nor assets, so that no channel is known; give channels")
    files = [(frames[run.frame], run.asset) for run in found.runs] or [(f, f.assets[0]) for f in frames if f.assets]
    planes = planes_of(scene.z, files, open_asset)
    if planes is not None:
        scene = replace(scene, planes=planes)
    alike: dict[Any, tuple[Crop, Warp | None]] = {}
    pieces = []
    for run in found.runs:
        pyramid = open_asset(run.asset)
        _check(frames[run.frame], run.asset, pyramid)
        t = position_of(frames[run.frame], run.asset, pyramid) if pyramid.dims[0] == "t" else 0
        # Frames of a video differ in little but their pixels: what is found for one asset holds for those alike.
        grid = pyramid.dims, pyramid.planar_shapes, pyramid.planar_factors
        key = run.placed, run.indices, grid, pyramid.kind, pyramid.dtype
        made = alike.get(key)
        if made is None:
            made = alike[key] = _crop(scene, run, pyramid)
        crop, warp = made
        if crop.pyramid is not pyramid or t:
            lead = (slice(t, t + 1, 1), *crop.leading[1:]) if t else crop.leading
            crop = Crop(pyramid, crop.region, lead, crop.sampling, crop.fill)
        pieces.append(Piece(run.frame, run.first, len(run.indices), crop, warp))
    dtype = _dtype(scene, pieces, open_asset)
    if planes is not None and not planes.number_read:
        pieces = []
    return Composition(scene, found.wanted, dtype, tuple(pieces))


def _dtype(scene: Scene, pieces: Sequence[Piece], open_asset: Callable[[Asset], Pyramid]) -> np.dtype[Any]:
    """The smallest type that holds every piece; where there is none, that of the frames' first file."""
    dtypes = {piece.crop.pyramid.dtype for piece in pieces}
    if not dtypes:
        dtypes = {open_asset(frame.assets[0]).dtype for frame in scene.frames if frame.assets}
    return np.result_type(*dtypes) if dtypes else np.dtype(np.uint8)


def read_compositions(
    compositions: Sequence[Composition], out: Sequence[np.ndarray[Any, Any]] | None = None
) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]]:
    """
    Read samples, planned together.

    Parameters
    ----------
    out
        Where the pixels of each go, of its `shape` and `result_dtype`; made if left out.

    Returns
    -------
    (image, valid) each: image (t, c, [z,] y, x); valid the same, without c where it does not differ between channels,
    or None where all pixels are real.
    """
    places = [None] * len(compositions) if out is None else out
    images = [_canvas(c, place) for c, place in zip(compositions, places, strict=True)]
    there = [_there(c, image) for c, image in zip(compositions, images, strict=True)]
    pieces = [(image, p) for c, image in zip(compositions, there, strict=True) for p in c.pieces]
    views = [
        image[p.frame, p.first : p.first + p.number].reshape(p.crop.shape)
        if p.warp is None
        else np.empty(p.crop.shape, p.crop.pyramid.dtype)
        for image, p in pieces
    ]
    masks = []
    for (image, p), (pixels, mask) in zip(pieces, read_crops([p.crop for _, p in pieces], views), strict=True):
        if p.warp is not None:
            part = image[p.frame, p.first : p.first + p.number]
            mask = warp_crop(p.warp, p.crop, pixels, mask, part)
        masks.append(mask)
    rest = iter(masks)
    done = (  # one at a time, since those of another dtype are copies
        finish_sample(c.scene, image, _valid(c, [next(rest) for _ in c.pieces]), c.result_dtype)
        for c, image in zip(compositions, images, strict=True)
    )
    if out is None:
        return list(done)
    return [(_put(image, place), valid) for (image, valid), place in zip(done, out, strict=True)]


def _put(image: np.ndarray[Any, Any], place: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Pixels in their place, where most were decoded already."""
    if image is not place:
        place[...] = image
    return place


def uncertain(c: Composition) -> bool:
    """True where a value marks missing data, so that only reading tells which pixels are real."""
    floating = c.scene.nodata is not None and c.dtype.kind in "fc"
    return floating or any(p.crop.pyramid.nodata is not None for p in c.pieces)


def valid_by_geometry(c: Composition) -> np.ndarray[Any, Any] | None:
    """The mask of a sample that is not `uncertain`, as `read` returns it, without reading."""
    masks = [None if p.warp is None and not p.crop.region.padded else _covered(p) for p in c.pieces]
    valid = _valid(c, masks)
    if valid is None and c.scene.nodata == "ma":
        valid = np.ones((len(c.scene.frames), 1, *c.shape[2:]), bool)
    return compact_mask(valid)


def _covered(piece: Piece) -> np.ndarray[Any, Any]:
    if piece.warp is not None:
        return inside(piece.warp, piece.crop)
    cut = piece.crop.region
    mask = np.zeros(cut.shape, bool)
    mask[cut.y.target, cut.x.target] = True
    return mask


def _canvas(c: Composition, place: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
    fill = 0 if c.scene.padding.fill is None else c.scene.padding.fill
    if as_pixel(fill, c.result_dtype) is None:
        raise TargetError(f"fill={fill!r} is no value of {c.result_dtype}; choose one that is, or a dtype that has it")
    able = as_pixel(fill, c.dtype) is not None
    dtype = c.dtype if able else np.result_type(c.dtype, c.result_dtype)
    canvas = place if place is not None and place.dtype == dtype else np.empty(c.shape, dtype)
    if not c.complete:
        canvas[...] = fill
    return canvas


def _valid(c: Composition, masks: Sequence[np.ndarray[Any, Any] | None]) -> np.ndarray[Any, Any] | None:
    if c.complete and all(m is None for m in masks):
        return None
    valid = np.zeros(c.shape, bool)
    there = _there(c, valid)
    for piece, mask in zip(c.pieces, masks, strict=True):
        part = there[piece.frame, piece.first : piece.first + piece.number]
        part[...] = True if mask is None else mask if mask.ndim == 2 else mask.reshape(part.shape)
    return valid


def _there(c: Composition, sample: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The planes of a sample that exist: what is read lands in them."""
    planes = c.scene.planes
    return sample if planes is None else sample[:, :, planes.target]


def _check(frame: Frame, asset: Asset, pyramid: Pyramid) -> None:
    """Refuse a file that does not have what the dataset says, or the axes of a sample."""
    if asset.channels is not None and len(asset.channels) > len(names_in(pyramid)):
        raise TargetError(
            f"{frame.name}: the dataset names {len(asset.channels)} channels ({'|'.join(asset.channels)}) "
            f"of {asset.path}, which has {len(names_in(pyramid))}"
        )
    check_axes(frame, asset, pyramid)


def _crop(scene: Scene, run: Run, pyramid: Pyramid) -> tuple[Crop, Warp | None]:
    """What is read of an asset, and how it becomes part of the sample, where it is not upright."""
    start = run.indices[0]
    consecutive = run.indices == tuple(range(start, start + len(run.indices)))
    along_c = slice(start, start + len(run.indices), 1) if consecutive else run.indices
    along = {"c": along_c, "z": _ONE if scene.planes is None else scene.planes.read}
    lead = tuple(along.get(d, _ONE) for d in pyramid.dims[:-2])
    if run.placed.upright is None:
        warp = Warp.between(run.placed.matrix, scene, pyramid)
        return warp.crop(pyramid, lead, scene.sampling), warp
    sx, sy, tx, ty = run.placed.upright
    py, px = scene.pitch
    origin = (scene.y[0] - ty) / sy, (scene.x[0] - tx) / sx
    return crop_at(pyramid, origin, (py / sy, px / sx), scene.n, lead, scene.sampling), None


_ONE = slice(0, 1, 1)
"""Along an axis that has one plane."""


def _names(frames: Sequence[Frame]) -> str:
    shown = ", ".join(f.name for f in frames[:3])
    return shown if len(frames) <= 3 else f"{shown} and {len(frames) - 3} more"


# --- How does a sample become dask-backed?  One task reads the whole sample, with its own plan, when it is computed.


def read_lazily(composition: Composition) -> tuple[Any, Any]:
    """
    What `assembly.read` returns for one composition, as dask arrays.

    Where pixels are real follows from the geometry alone, and `valid` is that, in memory.  Only where a value marks
    missing data it is not known before reading, and `valid` is a dask array with all axes.
    """
    task = delayed(_read, pure=False)(composition)
    image = dask.array.from_delayed(task[0], composition.shape, composition.result_dtype)
    if not uncertain(composition):
        return image, valid_by_geometry(composition)
    return image, dask.array.from_delayed(task[1], composition.shape, bool)


def _read(composition: Composition) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    [(image, valid)] = read_compositions([composition])
    mask = np.ones((), bool) if valid is None else valid
    if mask.ndim == image.ndim - 1:  # without c
        mask = mask[:, None]
    return image, np.ascontiguousarray(np.broadcast_to(mask, image.shape))
