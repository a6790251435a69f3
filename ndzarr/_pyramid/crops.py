"""Which level, and which pixels of it, does a window at some scale need, and where do they land?"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import prod
from operator import index
from typing import Any, TypeAlias

import numpy as np

from ndzarr._concurrency import available_cpus, decode_pool
from ndzarr._indexing.plan import ReadPlan, plan_reads
from ndzarr._indexing.resample import SUPPORT, resample
from ndzarr._indexing.selection import Selection, lengths, outside, select
from ndzarr._indexing.windows import OVERSAMPLING, Region, output_length, region_at
from ndzarr._pyramid.levels import Multiscale
from ndzarr._store.downsample import as_pixel, holds_data
from ndzarr._store.read import execute
from ndzarr.errors import OptionError, WindowError, did_you_mean


@dataclass(frozen=True, slots=True)
class Sampling:
    """How output pixels are made from those of a pyramid."""

    interpolation: str = "auto"
    """'area', 'nearest', 'linear', 'cubic', 'lanczos'; 'auto' is nearest for labels, which must not mix, area for
    all else."""
    antialias: bool | None = None
    """Where reducing, let every native pixel count: None means unless interpolation is nearest.  Without it, native
    pixels are read, since coarser levels are means."""

    def resolved(self, pyramid: Multiscale) -> Sampling:
        """
        What 'auto' and None stand for.

        Raises
        ------
        OptionError
            The interpolation is unknown.
        """
        name = self.interpolation
        labels = pyramid.kind == "labels" or pyramid.dtype.kind == "b"
        if name == "auto":
            name = "nearest" if labels else "area"
        if name not in SUPPORT:
            raise OptionError(f"interpolation={name!r} is not known{did_you_mean(name, (*SUPPORT, 'auto'))}")
        antialias = self.antialias if self.antialias is not None else labels or name != "nearest"
        return Sampling(name, antialias)


AUTO = Sampling()
"""Nearest for labels, anti-aliased means for all else."""


@dataclass(frozen=True, slots=True)
class Crop:
    """One window of one pyramid, ready to be planned."""

    pyramid: Multiscale
    region: Region
    """Along y and x."""
    leading: Selection
    """Along the axes before y."""
    sampling: Sampling
    """How pixels are made where they are not copied."""
    fill: float
    """Value of pixels outside the image."""
    outer: tuple[tuple[range, slice] | None, ...] | None = None
    """Along the axes before y, (all positions asked for, where those that exist land), None for an axis on which all
    exist; None where that is so for all axes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the output, along the pyramid's axes."""
        lead = lengths(self.leading)
        if self.outer is not None:
            lead = tuple(n if out is None else len(out[0]) for n, out in zip(lead, self.outer, strict=True))
        return (*lead, *self.region.shape)

    @property
    def inside(self) -> tuple[Any, ...]:
        """Where what is read lands in the output."""
        ends = (self.region.y.target, self.region.x.target)
        if self.outer is None:
            return (..., *ends)
        return (*(slice(None) if out is None else out[1] for out in self.outer), *ends)

    @property
    def request(self) -> tuple[Any, Selection]:
        """What a `ReadPlan` is made from."""
        return self.pyramid.levels[self.region.level].array, (*self.leading, self.region.y.read, self.region.x.read)


def make_crop(
    pyramid: Multiscale,
    window: Mapping[str, Any],
    scale: float | tuple[float, float] = 1.0,
    sampling: Sampling = AUTO,
    fill: float = 0,
) -> Crop:
    """
    A window with named axes as a `Crop`.

    Raises
    ------
    WindowError
        An axis or channel is unknown, or the window is empty.
    OptionError
        The interpolation is unknown.
    """
    lead: dict[str, Any] = {d: s for d, s in window.items() if d not in ("y", "x")}
    if lead.get("c") is not None and not isinstance(lead["c"], slice):
        lead["c"] = pyramid.channel_indices(lead["c"])
    dims, shape = pyramid.dims, pyramid.shape
    if dims[-2:] != ("y", "x"):
        raise WindowError(
            f"{pyramid.path} has axes {' '.join(dims)}; a window needs y x as the last two, read() does not"
        )
    for name in window:
        if name not in dims:
            raise WindowError(f"unknown axis {name!r}{did_you_mean(name, dims)}")
    if as_pixel(fill, pyramid.dtype) is None:
        raise OptionError(f"fill={fill!r} is no value of {pyramid.dtype}; choose one that is")
    sx, sy = scale if isinstance(scale, tuple) else (scale, scale)
    y, x = _interval("y", window.get("y"), shape[-2]), _interval("x", window.get("x"), shape[-1])
    n = output_length("y", y, sy), output_length("x", x, sx)
    step = (y[1] - y[0]) / n[0], (x[1] - x[0]) / n[1]
    outer = _outer(dims[:-2], shape[:-2], lead)
    cut = crop_at(pyramid, (y[0], x[0]), step, n, select(dims[:-2], shape[:-2], lead), sampling, fill)
    return cut if outer is None else replace(cut, outer=outer)


def _outer(dims: Sequence[str], shape: Sequence[int], lead: dict[str, Any]) -> Any:
    """`Crop.outer`; the intervals in `lead` are cut at the borders."""
    found: list[tuple[range, slice] | None] = []
    for d, n in zip(dims, shape, strict=True):
        want = lead.get(d)
        beyond = outside(n, want) if isinstance(want, slice) and d != "c" else None
        if beyond is None:
            found.append(None)
        else:
            lead[d] = beyond[1]
            found.append((beyond[0], beyond[2]))
    return tuple(found) if any(found) else None


def crop_at(
    pyramid: Multiscale,
    origin: tuple[float, float],
    step: tuple[float, float],
    n: tuple[int, int],
    lead: Selection,
    sampling: Sampling = AUTO,
    fill: float = 0,
) -> Crop:
    """
    A window whose borders need not fall on pixels.

    Parameters
    ----------
    origin
        Where the first output pixel begins along (y, x), in native pixels.
    step
        Native pixels per output pixel along (y, x).
    n
        Output pixels along (y, x).
    lead
        Selection along the axes before y.
    """
    resolved = sampling.resolved(pyramid)
    cut = _region_at(
        origin,
        step,
        n,
        pyramid.planar_shapes,
        pyramid.planar_factors if resolved.antialias else pyramid.planar_factors[:1],
        SUPPORT[resolved.interpolation],
        1.0 if resolved.interpolation == "nearest" else OVERSAMPLING,
    )
    return Crop(pyramid, cut, lead, resolved, fill)


_region_at = lru_cache(maxsize=512)(region_at)
"""The frames and assets of a sample have few different ones."""


def _interval(name: str, want: Any, n: int) -> tuple[int, int]:
    if want is None:
        return 0, n
    if not isinstance(want, slice) or want.step not in (None, 1):
        raise WindowError(f"{name}={want!r}: expected a slice with step 1 along y and x; use scale= to reduce")
    try:
        return 0 if want.start is None else index(want.start), n if want.stop is None else index(want.stop)
    except TypeError as error:
        raise WindowError(
            f"{name}={want!r}: expected integers; windows begin and end between pixels ({error})"
        ) from error


# --- Where do pixels land that are made something else at once?


LARGEST_BUFFER = 4 << 20
"""Bytes of a buffer that is worth keeping: larger ones are few, and take long to fill."""

SMALLEST_BUFFER = 128 << 10
"""Smaller ones are malloc's own, which keeps them."""

_free: deque[np.ndarray[Any, Any]] = deque(maxlen=8)
"""Buffers of bytes that nobody uses; of more, the oldest goes."""


def take_buffer(shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array with anything in it."""
    size = prod(shape) * dtype.itemsize
    if not SMALLEST_BUFFER <= size <= LARGEST_BUFFER:
        return np.empty(shape, dtype)
    try:
        memory = _free.pop()
    except IndexError:
        memory = np.empty(size, np.uint8)
    if memory.size < size:
        memory = np.empty(size, np.uint8)
    return memory[:size].view(dtype).reshape(shape)


def return_buffer(array: np.ndarray[Any, Any]) -> None:
    """Take back an array of which no view is left."""
    memory = array.base
    if memory is not None:  # else it was not worth keeping
        _free.append(memory)


# --- How are windows at any scale read, many at a time?


Array: TypeAlias = np.ndarray[Any, Any]

Result: TypeAlias = tuple[Array, Array | None]
"""(image, valid) of a crop, as `read_crops` returns them."""


def plan_crops(crops: Sequence[Crop]) -> ReadPlan:
    """The chunk reads of many crops, each chunk once."""
    return plan_reads([c.request for c in crops])


def read_crops(crops: Sequence[Crop], out: Sequence[Array] | None = None) -> list[Result]:
    """
    Read crops, planned together.

    Parameters
    ----------
    out
        Where the pixels of each go, of the crop's shape; made if left out.

    Returns
    -------
    (image, valid) per crop: axes of the pyramid; a mask that is True where pixels are real, with the same axes where a
    value marks missing data, else (y, x), or None where all pixels are real.
    """
    images = [_blank(c) for c in crops] if out is None else list(out)
    if not _overlaps(crops):
        return _finished(crops, images, _landed(crops, images))
    return _read_overlapping(crops, images)


OVERLAPPED = 1 << 20
"""Bytes to be resampled from which on another thread does so while this one decodes."""


def _overlaps(crops: Sequence[Crop]) -> bool:
    """True where resampling takes so long that it should not wait for the last chunk."""
    if len(crops) < 2 or available_cpus() < 2:
        return False
    inexact = [c for c in crops if not c.region.exact]
    return sum(c.pyramid.dtype.itemsize * prod(lengths(c.request[1])) for c in inexact) > OVERLAPPED


def _read_overlapping(crops: Sequence[Crop], images: Sequence[Array]) -> list[Result]:
    """
    Decode the crops of one array, which may share chunks, while those of the one before are finished.

    What no other thread has begun in the end is finished here.
    """
    turns: dict[int, list[int]] = {}
    for k, c in enumerate(crops):
        turns.setdefault(id(c.request[0]), []).append(k)
    works: list[Callable[[], list[Result]]] = [list] * len(crops)
    jobs: dict[int, Future[list[Result]]] = {}
    try:
        for turn in turns.values():
            landed = _landed([crops[k] for k in turn], [images[k] for k in turn])
            for k, pixels in zip(turn, landed, strict=True):
                works[k] = partial(_finished, [crops[k]], [images[k]], [pixels])
                jobs[k] = decode_pool().submit(works[k])
        done = {k: works[k]() if jobs[k].cancel() else None for k in reversed(jobs)}
        return [(done[k] or jobs[k].result())[0] for k in range(len(crops))]
    finally:
        wait([job for job in jobs.values() if not job.cancel()])


def _landed(crops: Sequence[Crop], images: Sequence[Array]) -> list[Array]:
    """Array of levels: in their places where they are copied, else to be resampled."""
    plan = plan_crops(crops)
    places = [
        image[c.inside] if c.region.exact else take_buffer(shape, image.dtype)
        for c, image, shape in zip(crops, images, plan.shapes, strict=True)
    ]
    execute(plan, places, crops[0].pyramid.cache if crops else None)
    return places


def _finished(crops: Sequence[Crop], images: Sequence[Array], landed: list[Array]) -> list[Result]:
    spent = [pixels for c, pixels in zip(crops, landed, strict=True) if not c.region.exact]
    _resample_alike(crops, images, landed)
    done = [(image, _finish(c, image, pixels)) for c, image, pixels in zip(crops, images, landed, strict=True)]
    for pixels in spent:
        return_buffer(pixels)
    return done


SMALL = 1 << 20
"""Bytes up to which crops are worth stacking: calls, not pixels, take the time to resample them."""


def _resample_alike(crops: Sequence[Crop], images: Sequence[Array], landed: list[Array]) -> None:
    """
    Resample together the small crops that lie alike on their levels, such as the frames of a video.

    Where that was done, `landed` holds the image itself.
    """
    alike: dict[Any, list[int]] = {}
    for k, (c, pixels) in enumerate(zip(crops, landed, strict=True)):
        if not c.region.exact and pixels.dtype.kind in "iu" and c.pyramid.nodata is None and 0 < pixels.nbytes <= SMALL:
            alike.setdefault((c.region.y.grid, c.region.x.grid, c.sampling, pixels.shape, pixels.dtype), []).append(k)
    for (y, x, sampling, _, _), members in alike.items():
        largest = max(landed[members[0]].nbytes, images[members[0]].nbytes)
        together = max(1, SMALL // largest)  # more would not fit into the processor's caches
        for some in (members[i : i + together] for i in range(0, len(members), together)):
            settings = y, x, sampling.interpolation, None, bool(sampling.antialias)
            if len(some) == 1:
                resample(landed[some[0]], *settings, out=images[some[0]][crops[some[0]].inside])
            else:
                done = resample(np.stack([landed[k] for k in some]), *settings)
                for k, part in zip(some, done, strict=True):
                    images[k][crops[k].inside] = part
            for k in some:
                landed[k] = images[k]


def _blank(c: Crop) -> Array:
    dtype = c.pyramid.dtype
    return np.full(c.shape, c.fill, dtype) if c.region.padded or c.outer is not None else np.empty(c.shape, dtype)


def _finish(c: Crop, image: Array, pixels: Array) -> Array | None:
    """Resample where that is still needed, and say which pixels are real."""
    cut, nodata = c.region, c.pyramid.nodata
    ready = cut.exact or pixels is image
    padded = cut.padded or c.outer is not None
    if ready and nodata is None and not padded:
        return None
    inside = c.inside
    marker = as_pixel(nodata, c.pyramid.dtype)
    present = None if nodata is None else holds_data(pixels, marker)
    if not ready:
        if cut.y.grid.n and cut.x.grid.n:
            image[inside] = resample(
                pixels, cut.y.grid, cut.x.grid, c.sampling.interpolation, present, bool(c.sampling.antialias)
            )
        present = None if nodata is None else holds_data(image[inside], marker)
    if present is None and not padded:
        return None
    shape = c.shape
    if c.outer is None:
        shape = cut.shape if present is None else (*present.shape[:-2], *cut.shape)
    valid = np.zeros(shape, bool)
    valid[inside] = True if present is None else present
    return valid
