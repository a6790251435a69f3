"""How do the assets of several frames become one array?

1. For every frame, the channels asked for are looked up in its assets; neighbours in the output that come from one
   asset make a run, and a run is one `Piece`: a `Crop`, and a transform where the asset is rotated or sheared.
2. All crops of all frames of all samples make one `ReadPlan`; pixels are decoded straight into the sample where they
   need no resampling.
3. What is missing is filled: outside the data, channels that a frame lacks, nodata (`finish`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.geometry.affine import IDENTITY, is_scale_offset
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.pyramid.reduce import as_pixel
from ndzarr.pyramid.region import Crop, crop_at, read_crops
from ndzarr.sampler.finish import compact, finish
from ndzarr.sampler.scene import Asset, Frame, Scene
from ndzarr.sampler.warp import Warp, inside, warp_crop


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


def compose(
    scene: Scene, open_asset: Callable[[Asset], Pyramid], known: Callable[[], Iterable[str]] = tuple
) -> Composition:
    """
    Find what to read.

    Parameters
    ----------
    open_asset
        Gives the pyramid of an asset.
    known
        Gives channels that other images have: frames may lack them all the same.

    Raises
    ------
    TargetError
        Neither a frame nor another image has a channel that was asked for.
    """
    tables = [_channel_table(frame, open_asset) for frame in scene.frames]
    available = tuple(dict.fromkeys(name for table in tables for name in table))
    wanted = available if scene.channels is None else tuple(dict.fromkeys(name for _, name in scene.channels))
    absent = [name for name in wanted if name not in available]
    elsewhere = set(known()) if absent else set()
    for name in absent:
        if name not in elsewhere:
            raise TargetError(f"channel {name!r} is in none of {_names(scene.frames)}{did_you_mean(name, available)}")
    pieces = []
    for t, (frame, table) in enumerate(zip(scene.frames, tables, strict=True)):
        for first, asset, indices in _runs(_offered(scene, frame, wanted), table):
            pyramid = open_asset(asset)
            _check(frame, asset, pyramid)
            pieces.append(_piece(scene, t, first, indices, asset, pyramid))
    return Composition(scene, wanted, _dtype(scene, pieces, open_asset), tuple(pieces))


def _dtype(scene: Scene, pieces: Sequence[Piece], open_asset: Callable[[Asset], Pyramid]) -> np.dtype[Any]:
    """The smallest type that holds every piece; where there is none, that of the frames' first file."""
    dtypes = {piece.crop.pyramid.dtype for piece in pieces}
    if not dtypes:
        dtypes = {open_asset(frame.assets[0]).dtype for frame in scene.frames if frame.assets}
    return np.result_type(*dtypes) if dtypes else np.dtype(np.uint8)


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


def uncertain(c: Composition) -> bool:
    """True where a value marks missing data, so that only reading tells which pixels are real."""
    floating = c.scene.nodata is not None and c.dtype.kind in "fc"
    return floating or any(p.crop.pyramid.nodata is not None for p in c.pieces)


def valid_by_geometry(c: Composition) -> np.ndarray[Any, Any] | None:
    """The mask of a sample that is not `uncertain`, as `read` returns it, without reading."""
    masks = [None if p.warp is None and not p.crop.region.padded else _covered(p) for p in c.pieces]
    valid = _valid(c, masks)
    if valid is None and c.scene.nodata == "ma":
        valid = np.ones((len(c.scene.frames), 1, *c.scene.n), bool)
    return compact(valid)


def _covered(piece: Piece) -> np.ndarray[Any, Any]:
    if piece.warp is not None:
        return inside(piece.warp, piece.crop)
    cut = piece.crop.region
    mask = np.zeros(cut.shape, bool)
    mask[cut.y.target, cut.x.target] = True
    return mask


def _canvas(c: Composition) -> np.ndarray[Any, Any]:
    fill = 0 if c.scene.padding.fill is None else c.scene.padding.fill
    if as_pixel(fill, c.result_dtype) is None:
        raise TargetError(f"fill={fill!r} is no value of {c.result_dtype}; choose one that is, or a dtype that has it")
    able = as_pixel(fill, c.dtype) is not None
    dtype = c.dtype if able else np.result_type(c.dtype, c.result_dtype)
    return np.empty(c.shape, dtype) if c.complete else np.full(c.shape, fill, dtype)


def _valid(c: Composition, masks: Sequence[np.ndarray[Any, Any] | None]) -> np.ndarray[Any, Any] | None:
    if c.complete and all(m is None for m in masks):
        return None
    valid = np.zeros(c.shape, bool)
    for piece, mask in zip(c.pieces, masks, strict=True):
        part = valid[piece.frame, piece.first : piece.first + piece.number]
        part[...] = True if mask is None else mask.reshape(-1, *c.scene.n)
    return valid


Table: TypeAlias = dict[str, tuple[Asset, int]]
"""Channel name to the asset that has it, and its position there."""


def _channel_table(frame: Frame, open_asset: Callable[[Asset], Pyramid]) -> Table:
    """The channels of a frame; the first asset wins.  Files are opened only where the dataset does not name theirs."""
    table: Table = {}
    for asset in frame.assets:
        for i, name in enumerate(asset.channels or open_asset(asset).channels):
            table.setdefault(name, (asset, i))
    return table


def _check(frame: Frame, asset: Asset, pyramid: Pyramid) -> None:
    """Refuse a file that does not have what the dataset says, or more axes than an image."""
    if asset.channels is not None and len(asset.channels) > len(pyramid.channels):
        raise TargetError(
            f"{frame.name}: the dataset names {len(asset.channels)} channels ({'|'.join(asset.channels)}) "
            f"of {asset.path}, which has {len(pyramid.channels)}"
        )
    for extra in pyramid.dims[:-2]:
        if extra != "c" and pyramid.sizes[extra] != 1:
            raise TargetError(
                f"{frame.name}: {asset.path} has {pyramid.sizes[extra]} planes along {extra}; "
                "sample it by named axes with ndzarr.Sampler"
            )


def asked_of(scene: Scene, frame: Frame) -> tuple[str, ...] | None:
    """The channels that were asked of the sensor of a frame, in order; None for all."""
    if scene.channels is None:
        return None
    any_sensor = frame.sensor == "*"
    return tuple(dict.fromkeys(name for sensor, name in scene.channels if any_sensor or sensor in ("*", frame.sensor)))


def _offered(scene: Scene, frame: Frame, wanted: Sequence[str]) -> list[str | None]:
    """The channels wanted, None for those that were not asked of the sensor of this frame."""
    asked = asked_of(scene, frame)
    if asked is None:
        return list(wanted)
    return [name if name in asked else None for name in wanted]


def _runs(wanted: Sequence[str | None], table: Table) -> list[tuple[int, Asset, tuple[int, ...]]]:
    """(position of the first channel in the output, asset, positions there) of neighbours that come from one asset."""
    runs: list[tuple[int, Asset, tuple[int, ...]]] = []
    previous: Asset | None = None
    for k, name in enumerate(wanted):
        if name is None or name not in table:
            previous = None
            continue
        asset, i = table[name]
        if asset is previous:
            first, _, indices = runs[-1]
            runs[-1] = first, asset, (*indices, i)
        else:
            runs.append((k, asset, (i,)))
        previous = asset
    return runs


def _piece(scene: Scene, t: int, first: int, indices: tuple[int, ...], asset: Asset, pyramid: Pyramid) -> Piece:
    frame, start = scene.frames[t], indices[0]
    consecutive = indices == tuple(range(start, start + len(indices)))
    along_c = slice(start, start + len(indices), 1) if consecutive else indices
    lead = tuple(along_c if d == "c" else _ONE for d in pyramid.dims[:-2])
    placed = _placement((frame.to_video if scene.video else IDENTITY).tobytes(), asset.to_image.tobytes())
    if placed.upright is None:
        warp = Warp.between(placed.matrix, scene, pyramid)
        return Piece(t, first, len(indices), warp.crop(pyramid, lead, scene.sampling), warp)
    sx, sy, tx, ty = placed.upright
    py, px = scene.pitch
    origin = (scene.y[0] - ty) / sy, (scene.x[0] - tx) / sx
    return Piece(t, first, len(indices), crop_at(pyramid, origin, (py / sy, px / sx), scene.n, lead, scene.sampling))


_ONE = slice(0, 1, 1)
"""Along an axis that has one plane."""


class Placement(NamedTuple):
    """How an asset lies in the sampled space."""

    matrix: np.ndarray[Any, Any]
    """3x3, from its pixels to the space."""
    upright: tuple[float, float, float, float] | None
    """Scale along x and y, offset along x and y; None where it is rotated, sheared or flipped."""


@lru_cache(maxsize=4096)
def _placement(to_video: bytes, to_image: bytes) -> Placement:
    """From the matrices' bytes: a dataset has few different ones, and numpy is slow with nine numbers."""
    matrix = np.frombuffer(to_video).reshape(3, 3) @ np.frombuffer(to_image).reshape(3, 3)
    if not is_scale_offset(matrix):
        return Placement(matrix, None)
    return Placement(matrix, (float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])))


def _names(frames: Sequence[Frame]) -> str:
    shown = ", ".join(f.name for f in frames[:3])
    return shown if len(frames) <= 3 else f"{shown} and {len(frames) - 3} more"
