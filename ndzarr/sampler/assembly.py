"""How do the assets of several frames become one array?

1. For every frame, the channels asked for are looked up in its assets; neighbours in the output that come from one
   asset make a run, and a run is one `Piece`: a `Crop`, and a transform where the asset is rotated or sheared.
2. All crops of all frames of all samples make one `ReadPlan`; pixels are decoded straight into the sample where they
   need no resampling.
3. What is missing is filled: outside the data, channels that a frame lacks, nodata (`finish`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.geometry.affine import is_scale_offset
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.pyramid.reduce import as_pixel
from ndzarr.pyramid.region import Crop, crop_at, read_crops
from ndzarr.sampler.finish import finish
from ndzarr.sampler.scene import Asset, Frame, Scene
from ndzarr.sampler.warp import Warp, warp_crop


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
    def shape(self) -> tuple[int, int, int, int]:
        """(t, c, y, x), whether or not the sample has an axis t."""
        return len(self.scene.frames), len(self.channels), *self.scene.n

    @property
    def crops(self) -> list[Crop]:
        """What a `ReadPlan` is made from."""
        return [piece.crop for piece in self.pieces]

    @property
    def complete(self) -> bool:
        """True where every frame has every channel and nothing lies outside an asset."""
        covered = sum(p.number for p in self.pieces)
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


def compose(scene: Scene, open_asset: Callable[[Asset], Pyramid]) -> Composition:
    """
    Find what to read.

    Parameters
    ----------
    open_asset
        Gives the pyramid of an asset.

    Raises
    ------
    TargetError
        No frame has a channel that was asked for.
    """
    opened = [[(asset, open_asset(asset)) for asset in frame.assets] for frame in scene.frames]
    tables = [_channel_table(frame, assets) for frame, assets in zip(scene.frames, opened, strict=True)]
    available = tuple(dict.fromkeys(name for table in tables for name in table))
    wanted = available if scene.channels is None else tuple(dict.fromkeys(name for _, name in scene.channels))
    for name in wanted:
        if name not in available:
            raise TargetError(f"channel {name!r} is in none of {_names(scene.frames)}{did_you_mean(name, available)}")
    pieces = [
        _piece(scene, t, first, indices, *table[wanted[first]][:2])
        for t, (frame, table) in enumerate(zip(scene.frames, tables, strict=True))
        for first, indices in _runs(_offered(scene, frame, wanted), table)
    ]
    dtypes = [pyramid.dtype for assets in opened for _, pyramid in assets]
    dtype = np.result_type(*[piece.crop.pyramid.dtype for piece in pieces] or dtypes or [np.dtype(np.uint8)])
    return Composition(scene, wanted, dtype, tuple(pieces))


def read(compositions: Sequence[Composition]) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]]:
    """
    Read samples, planned together.

    Returns
    -------
    (image, valid) each: image (t, c, y, x); valid (t, y, x), or (t, c, y, x) where it differs between channels, or
    None where all pixels are real.
    """
    images = [_canvas(c) for c in compositions]
    pieces = [(image, p) for c, image in zip(compositions, images, strict=True) for p in c.pieces]
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
    return [
        finish(c.scene, image, _valid(c, [next(rest) for _ in c.pieces]), c.result_dtype)
        for c, image in zip(compositions, images, strict=True)
    ]


def _canvas(c: Composition) -> np.ndarray[Any, Any]:
    if c.complete:
        return np.empty(c.shape, c.dtype)
    fill = 0 if c.scene.padding.fill is None else c.scene.padding.fill
    value = as_pixel(fill, c.dtype)
    if value is None and as_pixel(fill, c.result_dtype) is None:
        raise TargetError(f"fill={fill!r} is no value of {c.result_dtype}; choose one that is, or a dtype that has it")
    return np.full(c.shape, 0 if value is None else value, c.dtype)


def _valid(c: Composition, masks: Sequence[np.ndarray[Any, Any] | None]) -> np.ndarray[Any, Any] | None:
    if c.complete and all(m is None for m in masks):
        return None
    valid = np.zeros(c.shape, bool)
    for piece, mask in zip(c.pieces, masks, strict=True):
        part = valid[piece.frame, piece.first : piece.first + piece.number]
        part[...] = True if mask is None else mask.reshape(-1, *c.scene.n)
    return valid


def _channel_table(frame: Frame, assets: Sequence[tuple[Asset, Pyramid]]) -> dict[str, tuple[Asset, Pyramid, int]]:
    """Channel name to the asset that has it, and its position there; the first asset wins."""
    table: dict[str, tuple[Asset, Pyramid, int]] = {}
    for asset, pyramid in assets:
        names = asset.channels or pyramid.channels
        if len(names) > len(pyramid.channels):
            raise TargetError(
                f"{frame.name}: the dataset names {len(names)} channels ({'|'.join(names)}) "
                f"of {asset.path}, which has {len(pyramid.channels)}"
            )
        for extra in pyramid.dims[:-2]:
            if extra != "c" and pyramid.sizes[extra] != 1:
                raise TargetError(
                    f"{frame.name}: {asset.path} has {pyramid.sizes[extra]} planes along {extra}; "
                    "sample it by named axes with ndzarr.Sampler"
                )
        for i, name in enumerate(names):
            table.setdefault(name, (asset, pyramid, i))
    return table


def _offered(scene: Scene, frame: Frame, wanted: Sequence[str]) -> list[str | None]:
    """The channels wanted, None for those that were not asked of the sensor of this frame."""
    if scene.channels is None:
        return list(wanted)
    asked = {name for sensor, name in scene.channels if "*" in (sensor, frame.sensor) or sensor == frame.sensor}
    return [name if name in asked else None for name in wanted]


def _runs(
    wanted: Sequence[str | None], table: dict[str, tuple[Asset, Pyramid, int]]
) -> list[tuple[int, tuple[int, ...]]]:
    """(position of the first channel in the output, positions in the asset) of neighbours that come from one asset."""
    runs: list[tuple[int, tuple[int, ...]]] = []
    previous: Asset | None = None
    for k, name in enumerate(wanted):
        if name is None or name not in table:
            previous = None
            continue
        asset, _, i = table[name]
        if asset is previous:
            first, indices = runs[-1]
            runs[-1] = first, (*indices, i)
        else:
            runs.append((k, (i,)))
        previous = asset
    return runs


def _piece(scene: Scene, t: int, first: int, indices: tuple[int, ...], asset: Asset, pyramid: Pyramid) -> Piece:
    frame, start = scene.frames[t], indices[0]
    consecutive = indices == tuple(range(start, start + len(indices)))
    along_c = slice(start, start + len(indices), 1) if consecutive else indices
    lead = tuple(along_c if d == "c" else slice(0, 1, 1) for d in pyramid.dims[:-2])
    to_space = frame.to_video @ asset.to_image if scene.video else asset.to_image
    if not is_scale_offset(to_space):
        warp = Warp.between(to_space, scene, pyramid)
        return Piece(t, first, len(indices), warp.crop(pyramid, lead, scene.sampling), warp)
    (sx, tx), (sy, ty) = (to_space[0, 0], to_space[0, 2]), (to_space[1, 1], to_space[1, 2])
    py, px = scene.pitch
    origin = (scene.y[0] - ty) / sy, (scene.x[0] - tx) / sx
    fill = as_pixel(scene.padding.fill or 0, pyramid.dtype)
    cut = crop_at(pyramid, origin, (py / sy, px / sx), scene.n, lead, scene.sampling, 0 if fill is None else fill)
    return Piece(t, first, len(indices), cut)


def _names(frames: Sequence[Frame]) -> str:
    shown = ", ".join(f.name for f in frames[:3])
    return shown if len(frames) <= 3 else f"{shown} and {len(frames) - 3} more"
