"""How do the assets of several frames become one array?

1. For every frame, the channels asked for are looked up in its assets; neighbours in the output that come from one
   asset make a run, and a run is one `Crop`.
2. All crops of all frames make one `ReadPlan`; pixels are decoded straight into the sample where they need no
   resampling.
3. Channels that a frame lacks are filled, and `valid` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.geometry.affine import is_scale_offset
from ndzarr.plan.plan import ReadPlan
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.pyramid.reduce import as_pixel
from ndzarr.pyramid.region import Crop, crop_at, plan_crops, read_crops
from ndzarr.sampler.scene import Asset, Frame, Scene


@dataclass(frozen=True, slots=True)
class Piece:
    """A crop and where it lands in the sample."""

    frame: int
    """Position along t."""
    first: int
    """Position along c of its first channel."""
    crop: Crop


@dataclass(frozen=True, slots=True)
class Composition:
    """Everything that is read for one sample."""

    scene: Scene
    channels: tuple[str, ...]
    """Names along c."""
    dtype: np.dtype[Any]
    """Of the sample."""
    pieces: tuple[Piece, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(t, c, y, x), whether or not the sample has an axis t."""
        return len(self.scene.frames), len(self.channels), *self.scene.n

    @property
    def crops(self) -> list[Crop]:
        """What a `ReadPlan` is made from."""
        return [piece.crop for piece in self.pieces]

    def plan(self) -> ReadPlan:
        """The chunk reads of this sample."""
        return plan_crops(self.crops)


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
    wanted = available if scene.channels is None else scene.channels
    for name in wanted:
        if name not in available:
            raise TargetError(f"channel {name!r} is in none of {_names(scene.frames)}{did_you_mean(name, available)}")
    pieces = [
        Piece(t, first, _crop(scene, frame, *table[wanted[first]][:2], indices))
        for t, (frame, table) in enumerate(zip(scene.frames, tables, strict=True))
        for first, indices in _runs(wanted, table)
    ]
    dtypes = [pyramid.dtype for assets in opened for _, pyramid in assets]
    dtype = np.result_type(*[piece.crop.pyramid.dtype for piece in pieces] or dtypes or [np.dtype(np.uint8)])
    if as_pixel(scene.fill, dtype) is None:
        raise TargetError(f"fill={scene.fill!r} is no value of {dtype}; choose one that is")
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
    crops = [crop for c in compositions for crop in c.crops]
    views = [
        image[p.frame, p.first : p.first + p.crop.shape[p.crop.pyramid.dims.index("c")]].reshape(p.crop.shape)
        for c, image in zip(compositions, images, strict=True)
        for p in c.pieces
    ]
    masks = iter([mask for _, mask in read_crops(crops, views)])
    return [(image, _valid(c, [next(masks) for _ in c.pieces])) for c, image in zip(compositions, images, strict=True)]


def _canvas(c: Composition) -> np.ndarray[Any, Any]:
    covered = sum(p.crop.shape[p.crop.pyramid.dims.index("c")] for p in c.pieces)
    whole = covered == c.shape[0] * c.shape[1] and not any(p.crop.region.padded for p in c.pieces)
    return np.empty(c.shape, c.dtype) if whole else np.full(c.shape, c.scene.fill, c.dtype)


def _valid(c: Composition, masks: Sequence[np.ndarray[Any, Any] | None]) -> np.ndarray[Any, Any] | None:
    covered = sum(p.crop.shape[p.crop.pyramid.dims.index("c")] for p in c.pieces)
    if covered == c.shape[0] * c.shape[1] and all(m is None for m in masks):
        return None
    valid = np.zeros(c.shape, bool)
    for piece, mask in zip(c.pieces, masks, strict=True):
        n = piece.crop.shape[piece.crop.pyramid.dims.index("c")]
        valid[piece.frame, piece.first : piece.first + n] = True if mask is None else mask.reshape(c.scene.n)
    same = (valid == valid[:, :1]).all()
    return valid[:, 0] if same else valid


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


def _runs(wanted: Sequence[str], table: dict[str, tuple[Asset, Pyramid, int]]) -> list[tuple[int, tuple[int, ...]]]:
    """(position of the first channel in the output, positions in the asset) of neighbours that come from one asset."""
    runs: list[tuple[int, tuple[int, ...]]] = []
    previous: Asset | None = None
    for k, name in enumerate(wanted):
        if name not in table:
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


def _crop(scene: Scene, frame: Frame, asset: Asset, pyramid: Pyramid, indices: tuple[int, ...]) -> Crop:
    to_space = frame.to_video @ asset.to_image if scene.video else asset.to_image
    if not is_scale_offset(to_space):
        raise TargetError(
            f"{frame.name}: {asset.path} is rotated or sheared against the sampled space; that is not supported"
        )
    (sx, tx), (sy, ty) = (to_space[0, 0], to_space[0, 2]), (to_space[1, 1], to_space[1, 2])
    py, px = scene.pitch
    start = indices[0]
    along_c = slice(start, start + len(indices), 1) if indices == tuple(range(start, start + len(indices))) else indices
    lead = tuple(along_c if d == "c" else slice(0, 1, 1) for d in pyramid.dims[:-2])
    origin = (scene.y[0] - ty) / sy, (scene.x[0] - tx) / sx
    return crop_at(pyramid, origin, (py / sy, px / sx), scene.n, lead, scene.sampling, scene.fill)


def _names(frames: Sequence[Frame]) -> str:
    shown = ", ".join(f.name for f in frames[:3])
    return shown if len(frames) <= 3 else f"{shown} and {len(frames) - 3} more"
