"""Canvases: the space that predictions are put together in, and the places of windows on it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray

from ndzarr._formats.base import Facts
from ndzarr._geo.crs import Crs
from ndzarr._geo.georeference import GRID_MAPPING, Georeference
from ndzarr._geo.pixel_size import NOT_KNOWN, PixelSize
from ndzarr._library.open import open as open_pyramid
from ndzarr._pyramid.levels import Multiscale
from ndzarr._sampling.sample import origin_of
from ndzarr._sampling.target import parse, window_interval, window_size
from ndzarr._store.validity import Nodata
from ndzarr.errors import OptionError, TargetError, WindowError

_SLACK = 1e-6
"""Part of a pixel of the canvas by which a window may lie beside its pixels, from rounding."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the array of a window lies on a canvas, along the axes of the canvas."""

    start: tuple[int, ...]
    """First pixel; may lie before the canvas."""
    length: tuple[int, ...]
    """Pixels; may reach beyond the canvas."""
    covered: tuple[tuple[float, float], tuple[float, float]]
    """(start, length) along y and x as they are, in pixels of the canvas, which the window may cut."""

    def fits(self, shape: Sequence[int]) -> bool:
        """Return True for an array with as many pixels as the window has on the canvas, to less than a pixel."""
        near = all(abs(m - n) < 1 - _SLACK for m, (_, n) in zip(shape[-2:], self.covered, strict=True))
        return near and tuple(shape[:-2]) == self.length[:-2]

    def fitted(self, pixels: np.ndarray[Any, Any], nearest: bool) -> np.ndarray[Any, Any]:
        """
        Return an array with the pixels of the canvas: as it is, or interpolated where the window cuts pixels.

        Interpolation is linear between centres of pixels; `nearest` takes the nearest one.
        """
        for axis, start, (first, n) in zip((-2, -1), self.start[-2:], self.covered, strict=True):
            m, length = pixels.shape[axis], self.length[axis]
            if m == length and abs(first - start) <= _SLACK * max(1.0, abs(first)):
                continue
            # Centres of pixels of the canvas, in pixels of the array.
            at = np.clip((start + np.arange(length) + 0.5 - first) * (m / n) - 0.5, 0, m - 1)
            pixels = _interpolated(pixels, axis, at, nearest or pixels.dtype.kind == "b")
        return pixels


def _interpolated(pixels: np.ndarray[Any, Any], axis: int, at: np.ndarray[Any, Any], nearest: bool) -> Any:
    """Return the values of an array at positions along an axis, in its type."""
    if nearest:
        return np.take(pixels, np.floor(at + 0.5).astype(np.intp), axis)
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, pixels.shape[axis] - 1)
    wide = np.result_type(np.float32, pixels.dtype)
    weight = (at - low).astype(wide)[(..., None) if axis == -2 else ...]
    first = np.take(pixels, low, axis).astype(wide)
    found = first + (np.take(pixels, high, axis) - first) * weight
    return (np.rint(found) if pixels.dtype.kind in "iu" else found).astype(pixels.dtype)


@dataclass(frozen=True, slots=True)
class Canvas:
    """A space of pixels, without values."""

    name: str
    """What it was made like, in errors."""
    dims: tuple[str, ...]
    """Axis names, in the order t c z y x."""
    sizes: Mapping[str, int]
    """Axis name to length in pixels of the canvas; without c."""
    scale: float = 1.0
    """Pixels of the canvas per native pixel along y and x."""
    native: tuple[int, int] = (0, 0)
    """(height, width) in native pixels."""
    times: tuple[float, ...] | None = None
    """Seconds of each frame along t."""
    pixel_size: PixelSize = NOT_KNOWN
    """Physical size of a pixel of the canvas."""
    gids: tuple[Any, ...] = ()
    """Images along t, where it is the canvas of a video."""
    place: Mapping[str, Any] | None = None
    """Its georeference, as the metadata of a source hold one."""

    @classmethod
    def like(cls, like: Any, scale: float) -> Canvas:
        """Return the canvas of a pyramid, of what `ndzarr.open` opens, or of the image that a sample is a window of."""
        if isinstance(like, xarray.Dataset):
            return canvas_of_sample(like).scaled(scale)
        if isinstance(like, (str, os.PathLike)):
            like = open_pyramid(like)
        if not isinstance(like, Multiscale):
            what = f"like={type(like).__name__}: expected a pyramid, the path of one, or a sample"
            raise OptionError(what, key="like")
        place = like.georeference
        return cls(
            like.path,
            like.dims if "c" in like.dims else (*like.dims[:-2], "c", *like.dims[-2:]),
            {d: like.sizes[d] for d in like.dims if d != "c"},
            times=like.times,
            pixel_size=like.pixel_size or NOT_KNOWN,
            place=None if place is None else place.metadata(),
        ).scaled(scale)

    def scaled(self, scale: float) -> Canvas:
        """Return a native canvas at a scale."""
        if not 0 < scale < np.inf:
            raise OptionError(f"scale={scale!r}: expected a number above 0", key="scale")
        native = self.sizes["y"], self.sizes["x"]
        # The last pixel may lie in part beyond the image, as in levels.
        height, width = (max(1, int(np.ceil(n * scale - _SLACK))) for n in native)
        place = dict(self.place or {})
        if "transform" in place:
            a, b, c, d, e, f = place["transform"]
            place["transform"] = (a / scale, b / scale, c, d / scale, e / scale, f)
        return replace(
            self,
            sizes={**self.sizes, "y": height, "x": width},
            scale=scale,
            native=native,
            pixel_size=self.pixel_size.stepped({"y": 1 / scale, "x": 1 / scale}),
            place=place or None,
        )

    def facts(self, dtype: np.dtype[Any], channels: Sequence[str], nodata: Nodata) -> Facts:
        """Return the facts of an image on it."""
        sizes = {**self.sizes, "c": len(channels)}
        return Facts(
            name=f"predictions like {self.name}",
            dims=self.dims,
            shape=tuple(sizes[d] for d in self.dims),
            dtype=dtype,
            channels=tuple(channels),
            band=1,
            nodata=nodata,
            times=None if self.times is None else np.array(self.times),
            pixel_size=self.pixel_size,
            metadata={"format": "predictions", **(self.place or {})},
        )

    def signature(self) -> dict[str, Any]:
        """What two canvases have in common if parts of one fit the other; as JSON."""
        return {"dims": list(self.dims), "sizes": dict(self.sizes), "scale": self.scale}

    def place_of(self, where: Any, channels: int) -> Place:
        """
        Return the place of a window; it may lie beyond the canvas.

        A window that cuts pixels has those whose centres it holds, and the last of the image if it ends there.

        `where` is a sample, or a target whose window is in native pixels.
        """
        if isinstance(where, xarray.Dataset):
            corner, covered = _window_of_sample(where, self)
        elif isinstance(where, Mapping):
            corner, covered = self._window_of_target(where)
        else:
            what = f"where={type(where).__name__}: expected a sample or a target, such as dict(y=slice(0, 256), ...)"
            raise TargetError(what, key="where")
        start, length, cut = {"c": 0}, {"c": channels}, []
        for d in self.dims:
            if d in "yx":
                first, n = corner[d] * self.scale, covered[d] * self.scale
                slack = 0.5 + _SLACK * max(1.0, abs(first), n)
                start[d], stop = int(np.ceil(first - slack)), int(np.ceil(first + n - slack))
                if corner[d] + covered[d] == self.native["yx".index(d)]:
                    stop = max(stop, self.sizes[d])
                length[d] = max(1, stop - start[d])
                cut.append((first, n))
            elif d != "c":
                start[d], length[d] = int(corner.get(d, 0)), int(covered.get(d, self.sizes[d]))
        along_y, along_x = cut
        return Place(tuple(start[d] for d in self.dims), tuple(length[d] for d in self.dims), (along_y, along_x))

    def _window_of_target(self, where: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
        given = parse(where)
        height, width = window_size(given.window_dims, given.size)
        y = window_interval(given.y, given.centre[0], height, self.native[0])
        x = window_interval(given.x, given.centre[1], width, self.native[1])
        corner: dict[str, float] = {"y": y[0], "x": x[0]}
        covered: dict[str, float] = {"y": y[1] - y[0], "x": x[1] - x[0]}
        lead = dict(given.lead)
        if given.time is not None:
            lead["t"] = given.time
        for d, want in lead.items():
            if d in self.dims:
                corner[d], covered[d] = _interval(d, want, self.sizes[d])
        return corner, covered


def _interval(axis: str, want: Any, n: int) -> tuple[int, int]:
    """Return (start, length) of a slice, an index or a list of neighbours."""
    if isinstance(want, slice):
        start, stop, step = want.indices(n)
        if step == 1:
            return start, stop - start
    positions = [want] if isinstance(want, int) else list(want) if not isinstance(want, slice) else [0, 2]
    if positions != list(range(positions[0], positions[0] + len(positions))):
        hint = "Add them one by one"
        raise WindowError(f"{axis}={want!r}: only positions that follow one another can be added", key=axis, hint=hint)
    return positions[0], len(positions)


def _window_of_sample(sample: xarray.Dataset, canvas: Canvas) -> tuple[dict[str, float], dict[str, float]]:
    scene = origin_of(sample).scene
    matrix = sample.ndzarr.transform
    corner = {"y": float(matrix[1, 2]), "x": float(matrix[0, 2])}
    image = sample["image"]
    covered = {"y": float(matrix[1, 1] * image.sizes["y"]), "x": float(matrix[0, 0] * image.sizes["x"])}
    for d in set(canvas.dims) & {"t", "z"}:
        if d == "t" and scene.video:
            labels = [canvas.gids.index(f.gid) if canvas.gids else f.index for f in scene.frames]
            corner[d], covered[d] = _interval(d, labels, canvas.sizes[d])
        elif d in image.dims:
            values = np.asarray(sample[d].values)
            if d == "t" and canvas.times is not None:
                values = np.searchsorted(np.array(canvas.times), values - 1e-9)
            corner[d], covered[d] = _interval(d, [int(v) for v in values], canvas.sizes[d])
    return corner, covered


def canvas_of_sample(sample: xarray.Dataset, gids: Sequence[Any] = ()) -> Canvas:
    """Return the space that a sample is a window of; `gids` are all images of the video."""
    context = origin_of(sample)
    scene = context.scene
    dims = tuple(d for d in sample["image"].dims if d != "t" or not gids)
    if scene.named or (scene.video and not gids) or not {*dims} <= {"c", "y", "x"}:
        what = "like is a sample of a video, a volume or a named source, which does not say how large that is"
        raise OptionError(what, key="like", hint="Pass the pyramid")
    place = None
    if context.earth is not None and GRID_MAPPING in sample.coords:
        a, b, c, d, e, f = context.earth
        earth = np.array([[a, b, c], [d, e, f], [0, 0, 1]]) @ np.linalg.inv(scene.transform)
        wkt = sample[GRID_MAPPING].attrs.get("crs_wkt")
        transform = tuple(float(v) for v in earth[:2].ravel())
        place = Georeference(Crs(wkt=wkt), transform).metadata()  # type: ignore[arg-type]
    frame = scene.frames[0]
    sizes = {**({"t": len(gids)} if gids else {}), "y": scene.space[0], "x": scene.space[1]}
    in_order = tuple(d for d in ("t", "c", "y", "x") if d == "c" or d in sizes)
    return Canvas(frame.name or str(frame.gid), in_order, sizes, gids=tuple(gids), place=place)
