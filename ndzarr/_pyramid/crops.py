"""Crops: windows of pyramids at any scale, planned and read many at a time.

1. `make_crop` chooses the level and its pixels (`windows.region_at`).
2. `read_crops` plans the chunk reads of all crops together.  Pixels that are copied are decoded into the output; pixels
   that are resampled are decoded into buffers of a pool.
3. If resampling takes long, other threads do it while this one decodes the next crops.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from operator import index
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ndzarr._concurrency import available_cpus, decode_pool
from ndzarr._indexing.plan import ReadPlan, check_memory, plan_reads
from ndzarr._indexing.resample import SUPPORT, resample
from ndzarr._indexing.selection import Selection, lengths, outside, select
from ndzarr._indexing.windows import OVERSAMPLING, Region, output_length, region_at
from ndzarr._pyramid.levels import Multiscale
from ndzarr._store.arrays import Stored
from ndzarr._store.read import execute
from ndzarr._store.validity import Marker, as_pixel
from ndzarr.errors import OptionError, WindowError, did_you_mean

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Sampling:
    """The way output pixels are computed from those of a pyramid."""

    interpolation: str = "auto"
    """'area', 'nearest', 'linear', 'cubic', 'lanczos' or 'auto': nearest for labels, which must not mix, else area."""
    antialias: bool | None = None
    """When reducing, let every native pixel count; None means yes, unless the interpolation is nearest.  If False, only
    native pixels are read, since coarser levels are means."""

    def resolved(self, pyramid: Multiscale) -> Sampling:
        """Replace 'auto' and None by what they mean for a pyramid."""
        name = self.interpolation
        labels = pyramid.kind == "labels" or pyramid.dtype.kind == "b"
        if name == "auto":
            name = "nearest" if labels else "area"
        if name not in SUPPORT:
            known = did_you_mean(name, (*SUPPORT, "auto"))
            raise OptionError(f"interpolation={name!r} is not known{known}", key="interpolation")
        antialias = self.antialias if self.antialias is not None else labels or name != "nearest"
        return Sampling(name, antialias)


AUTO = Sampling()
"""Nearest for labels, anti-aliased means for all else."""


class Crop(NamedTuple):
    """One window of one pyramid, ready to be planned."""

    pyramid: Multiscale
    region: Region
    leading: Selection
    """Along the axes before y."""
    sampling: Sampling
    """Resolved; used where pixels are not copied."""
    fill: float
    outer: tuple[tuple[range, slice] | None, ...] | None = None
    """Per axis before y, (all positions asked for, place of those that exist), or None if all exist; None if that is so
    for all axes."""
    weighted: bool = False
    """Return weights of pixels instead of a mask, to whoever resamples them; only where pixels are copied."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output, along the pyramid's axes."""
        leading = lengths(self.leading)
        if self.outer is not None:
            leading = tuple(n if out is None else len(out[0]) for n, out in zip(leading, self.outer, strict=True))
        return (*leading, *self.region.shape)

    @property
    def bytes(self) -> int:
        """Bytes of the output, and of the pixels that it is resampled from."""
        made = prod(self.shape)
        if not self.region.exact:
            made += prod(lengths(self.request[1]))
        return made * self.pyramid.dtype.itemsize

    @property
    def inside(self) -> tuple[Any, ...]:
        """Index of the output pixels that are read; all others are padding."""
        ends = (self.region.y.target, self.region.x.target)
        if self.outer is None:
            return (..., *ends)
        return (*(slice(None) if out is None else out[1] for out in self.outer), *ends)

    @property
    def request(self) -> tuple[Stored, Selection]:
        """(array, selection) for a `ReadPlan`."""
        return self.pyramid.levels[self.region.level].array, (*self.leading, self.region.y.read, self.region.x.read)

    @property
    def veils(self) -> list[tuple[Stored, Selection]]:
        """The same for alpha and for the mask, whichever the pyramid has, in this order."""
        pyramid, out = self.pyramid, list[tuple[Stored, Selection]]()
        if not pyramid.validity.veiled:
            return out
        array, selection = self.request
        c = pyramid.dims.index("c") if "c" in pyramid.dims else len(pyramid.dims)
        alpha, mask = pyramid.validity.alpha, pyramid.levels[self.region.level].mask
        if alpha is not None:
            out.append((array, (*selection[:c], slice(alpha, alpha + 1, 1), *selection[c + 1 :])))
        if mask is not None:
            out.append((mask, (*selection[:c], *selection[c + 1 :])))
        return out

    @property
    def channels(self) -> tuple[int, ...] | None:
        """Positions of the channels of the crop, where its validity is by channel."""
        if not self.pyramid.validity.by_channel:
            return None
        want = self.leading[self.pyramid.dims.index("c")]
        return tuple(range(want.start, want.stop, want.step) if isinstance(want, slice) else want)


def make_crop(
    pyramid: Multiscale,
    window: Mapping[str, Any],
    scale: float | tuple[float, float] = 1.0,
    sampling: Sampling = AUTO,
    fill: float = 0,
) -> Crop:
    """Return the crop of a window with named axes; see `Pyramid.window` for the parameters."""
    leading: dict[str, Any] = {d: s for d, s in window.items() if d not in ("y", "x")}
    if leading.get("c") is not None and not isinstance(leading["c"], slice):
        leading["c"] = pyramid.channel_indices(leading["c"])
    dims, shape = pyramid.dims, pyramid.shape
    if dims[-2:] != ("y", "x"):
        message = f"{pyramid.path} has axes {' '.join(dims)}, but a window needs y x as the last two"
        raise WindowError(message, path=pyramid.path, hint="Use read(), which does not")
    for name in window:
        if name not in dims:
            raise WindowError(f"unknown axis {name!r}{did_you_mean(name, dims)}", key=name, window=window)
    if as_pixel(fill, pyramid.dtype) is None:
        raise OptionError(f"fill={fill!r} is not a value of {pyramid.dtype}", key="fill", hint="Choose one that is")
    sx, sy = scale if isinstance(scale, tuple) else (scale, scale)
    y, x = _interval("y", window.get("y"), shape[-2]), _interval("x", window.get("x"), shape[-1])
    n = output_length("y", y, sy), output_length("x", x, sx)
    extent = y[1] - y[0], x[1] - x[0]
    outer = _clip_leading(dims[:-2], shape[:-2], leading)
    crop = crop_at(pyramid, (y[0], x[0]), extent, n, select(dims[:-2], shape[:-2], leading), sampling, fill)
    crop = crop if outer is None else crop._replace(outer=outer)
    check_memory(crop.bytes, path=pyramid.path, window=window, hint="Use a smaller window or scale")
    return crop


def _clip_leading(
    dims: Sequence[str], shape: Sequence[int], leading: dict[str, Any]
) -> tuple[tuple[range, slice] | None, ...] | None:
    """Return `Crop.outer`, and clip the intervals in `leading` to their axes."""
    found: list[tuple[range, slice] | None] = []
    for d, n in zip(dims, shape, strict=True):
        want = leading.get(d)
        beyond = outside(d, n, want) if isinstance(want, slice) and d != "c" else None
        if beyond is None:
            found.append(None)
        else:
            leading[d] = beyond[1]
            found.append((beyond[0], beyond[2]))
    return tuple(found) if any(found) else None


def crop_at(
    pyramid: Multiscale,
    origin: tuple[float, float],
    extent: tuple[float, float],
    n: tuple[int, int],
    leading: Selection,
    sampling: Sampling = AUTO,
    fill: float = 0,
) -> Crop:
    """
    Return the crop of a window whose borders need not fall on pixels; `leading` selects along the axes before y.

    Along (y, x), `origin` is the begin of the first output pixel and `extent` the length of the window, in native
    pixels; there are `n` output pixels.
    """
    resolved = sampling.resolved(pyramid)
    region = _region_at(
        origin,
        extent,
        n,
        pyramid.planar_shapes,
        pyramid.planar_factors if resolved.antialias else pyramid.planar_factors[:1],
        SUPPORT[resolved.interpolation],
        1.0 if resolved.interpolation == "nearest" else OVERSAMPLING,
    )
    return Crop(pyramid, region, leading, resolved, fill)


_region_at = lru_cache(maxsize=512)(region_at)
"""Cached, since the frames and assets of a sample have few different regions."""


def _interval(name: str, want: Any, n: int) -> tuple[int, int]:
    if want is None:
        return 0, n
    if not isinstance(want, slice) or want.step not in (None, 1):
        message = f"{name}={want!r}: expected a slice with step 1 along y and x"
        raise WindowError(message, key=name, window=want, hint="Use scale= to reduce")
    try:
        return 0 if want.start is None else index(want.start), n if want.stop is None else index(want.stop)
    except TypeError as error:
        raise WindowError(
            f"{name}={want!r}: expected integers; windows begin and end between pixels ({error})", key=name, window=want
        ) from error


# Buffers for pixels that are resampled at once.

SMALLEST_BUFFER, LARGEST_BUFFER = 128 << 10, 4 << 20
"""Bytes of a buffer that is kept: malloc keeps smaller ones itself; larger ones are few, and take long to fill."""

_free: deque[Array] = deque(maxlen=8)
"""Buffers in no use; if there are more, the oldest is dropped."""


def take_buffer(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Return an uninitialised array, in a buffer of the pool if one is free."""
    size = prod(shape) * dtype.itemsize
    if not SMALLEST_BUFFER <= size <= LARGEST_BUFFER:
        return np.empty(shape, dtype)
    try:
        memory = _free.pop()
    except IndexError:
        memory = None
    if memory is None or memory.size < size:
        memory = np.empty(size, np.uint8)
    return memory[:size].view(dtype).reshape(shape)


def return_buffer(array: Array) -> None:
    """Give an array of `take_buffer` back to the pool; no view of it may be left."""
    memory = array.base
    if memory is not None:  # None if it was too small or too large for the pool
        _free.append(memory)


Result: TypeAlias = tuple[Array, Array | None]
"""(image, valid) of a crop, as `read_crops` returns them."""

Decoded: TypeAlias = tuple[Array, list[Array]]
"""(pixels of a level, those of `Crop.veils`)."""


def plan_crops(crops: Sequence[Crop]) -> ReadPlan:
    """Plan the chunk reads of many crops, then those of their veils; each chunk is read once."""
    return plan_reads(
        [c.request for c in crops] + [veil for c in crops if not c.pyramid.validity.plain for veil in c.veils]
    )


def read_crops(crops: Sequence[Crop], out: Sequence[Array] | None = None) -> list[Result]:
    """
    Read crops, planned together: each chunk is decoded once.

    Returns (image, valid) per crop; images are the arrays `out` if given.  The image has the axes of the pyramid.  The
    mask is True where pixels are real: it has the same axes if the pyramid says which pixels are, else (y, x); it is
    None if all pixels are real.  Crops that are `weighted` have the mask and the weights of pixels, stacked.
    """
    images = [_blank(c) for c in crops] if out is None else list(out)
    if not _overlaps(crops):
        return _resample_all(crops, images, _decode(crops, images))
    return _read_overlapping(crops, images)


OVERLAPPED = 1 << 20
"""Bytes to resample from which another thread does so while this one decodes."""


def _overlaps(crops: Sequence[Crop]) -> bool:
    """Return True if resampling takes so long that it should not wait for the last chunk."""
    if len(crops) < 2 or available_cpus() < 2:
        return False
    inexact = [c for c in crops if not c.region.exact]
    return sum(c.pyramid.dtype.itemsize * prod(lengths(c.request[1])) for c in inexact) > OVERLAPPED


def _read_overlapping(crops: Sequence[Crop], images: Sequence[Array]) -> list[Result]:
    """
    Decode the crops of one array, which may share chunks, while other threads resample those of the array before.

    Crops that no other thread has begun in the end are resampled by this one.
    """
    by_array: dict[int, list[int]] = {}
    for k, c in enumerate(crops):
        by_array.setdefault(id(c.request[0]), []).append(k)
    works: list[Callable[[], list[Result]]] = [list] * len(crops)
    jobs: dict[int, Future[list[Result]]] = {}
    try:
        for members in by_array.values():
            decoded = _decode([crops[k] for k in members], [images[k] for k in members])
            for k, pixels in zip(members, decoded, strict=True):
                works[k] = partial(_resample_all, [crops[k]], [images[k]], [pixels])
                jobs[k] = decode_pool().submit(works[k])
        done = {k: works[k]() if jobs[k].cancel() else None for k in reversed(jobs)}
        return [(done[k] or jobs[k].result())[0] for k in range(len(crops))]
    finally:
        wait([job for job in jobs.values() if not job.cancel()])


def _decode(crops: Sequence[Crop], images: Sequence[Array]) -> list[Decoded]:
    """Return the pixels of levels: views of the images where they are copied, else buffers to resample."""
    plan, n = plan_crops(crops), len(crops)
    targets = [
        image[c.inside] if c.region.exact else take_buffer(shape, image.dtype)
        for c, image, shape in zip(crops, images, plan.shapes[:n], strict=True)
    ]
    veils = [
        np.empty(shape, plan.arrays[a].dtype) for shape, (a, _) in zip(plan.shapes[n:], plan.windows[n:], strict=True)
    ]
    execute(plan, [*targets, *veils], crops[0].pyramid.cache if crops else None)
    rest = iter(veils)
    return [
        (px, [] if c.pyramid.validity.plain else [next(rest) for _ in c.veils])
        for c, px in zip(crops, targets, strict=True)
    ]


def _resample_all(crops: Sequence[Crop], images: Sequence[Array], found: Sequence[Decoded]) -> list[Result]:
    decoded = [pixels for pixels, _ in found]
    buffers = [pixels for c, pixels in zip(crops, decoded, strict=True) if not c.region.exact]
    _resample_alike(crops, images, decoded)
    done = [
        (image, _resample_and_mask(c, image, pixels, veils))
        for c, image, pixels, (_, veils) in zip(crops, images, decoded, found, strict=True)
    ]
    for pixels in buffers:
        return_buffer(pixels)
    return done


SMALL = 1 << 20
"""Bytes up to which crops are stacked: calls, not pixels, take the time to resample them."""


def _resample_alike(crops: Sequence[Crop], images: Sequence[Array], decoded: list[Array]) -> None:
    """
    Resample together the small crops that have the same place on their levels, such as the frames of a video.

    `decoded` then holds the image itself.
    """
    alike: dict[Any, list[int]] = {}
    for k, (c, pixels) in enumerate(zip(crops, decoded, strict=True)):
        if not c.region.exact and pixels.dtype.kind in "iu" and c.pyramid.validity.plain and 0 < pixels.nbytes <= SMALL:
            alike.setdefault((c.region.y.grid, c.region.x.grid, c.sampling, pixels.shape, pixels.dtype), []).append(k)
    for (y, x, sampling, _, _), members in alike.items():
        largest = max(decoded[members[0]].nbytes, images[members[0]].nbytes)
        together = max(1, SMALL // largest)  # more would not fit into the caches of the processor
        for some in (members[i : i + together] for i in range(0, len(members), together)):
            settings = y, x, sampling.interpolation, None, bool(sampling.antialias)
            if len(some) == 1:
                resample(decoded[some[0]], *settings, out=images[some[0]][crops[some[0]].inside])
            else:
                done = resample(np.stack([decoded[k] for k in some]), *settings)
                for k, part in zip(some, done, strict=True):
                    images[k][crops[k].inside] = part
            for k in some:
                decoded[k] = images[k]


def _blank(c: Crop) -> Array:
    dtype = c.pyramid.dtype
    return np.full(c.shape, c.fill, dtype) if c.region.padded or c.outer is not None else np.empty(c.shape, dtype)


def _resample_and_mask(c: Crop, image: Array, pixels: Array, veils: Sequence[Array]) -> Array | None:
    """Resample a crop where that is not done yet, and return the mask of real pixels, None if all are."""
    region, plain = c.region, c.pyramid.validity.plain
    ready = region.exact or pixels is image
    padded = region.padded or c.outer is not None
    if ready and plain and not padded:
        return None
    inside = c.inside
    if not ready and region.y.grid.n and region.x.grid.n:
        marker = c.pyramid.validity.marker(pixels.dtype, c.channels)
        image[inside] = _resampled(c, pixels, None if plain else _weights(c, pixels, veils), marker)
        veils = _resampled_veils(c, veils)
    if plain and not padded:
        return None
    if plain:
        valid = np.zeros(region.shape if c.outer is None else c.shape, bool)
        valid[inside] = True
        return valid
    real = _real(c, image[inside], veils)
    if not c.weighted:
        valid = np.zeros(c.shape, bool)
        valid[inside] = True if real is None else real
        return valid
    weights = _weights(c, image[inside], veils)
    both = np.zeros((2, *c.shape), bool if weights is None else weights.dtype)
    both[0][inside], both[1][inside] = True if real is None else real, True if weights is None else weights
    return both


def _resampled(c: Crop, pixels: Array, weights: Array | None, marker: Marker | None = None) -> Array:
    y, x = c.region.y.grid, c.region.x.grid
    avoid = None if marker is None else (marker.value, marker.beside)
    return resample(pixels, y, x, c.sampling.interpolation, weights, bool(c.sampling.antialias), avoid=avoid)


def _resampled_veils(c: Crop, veils: Sequence[Array]) -> list[Array]:
    """Resample alpha as the channel is, and the mask: True where any real pixel counts."""
    alpha, mask = _split(c, veils)
    out = []
    if alpha is not None:
        dims = c.pyramid.dims
        out.append(_resampled(c, alpha, None if mask is None else np.expand_dims(mask, dims.index("c"))))
    if mask is not None:
        # Kernels with negative lobes leave shares near 0.
        out.append(_resampled(c, mask.astype(np.float32), None) > 1e-3)
    return out


def _real(c: Crop, pixels: Array, veils: Sequence[Array]) -> Array | None:
    """Return where pixels are real, given the veils of the crop at the same pixels."""
    alpha, mask = _split(c, veils)
    validity, channels = c.pyramid.validity, c.channels
    at = validity.alpha_among(channels)
    if at is not None:
        alpha = pixels.take([at], axis=validity.axis)
    return validity.real(pixels, alpha, mask, channels)


def _weights(c: Crop, pixels: Array, veils: Sequence[Array]) -> Array | None:
    """Return how much pixels count, given the veils of the crop at the same pixels."""
    alpha, mask = _split(c, veils)
    judge = c.pyramid.validity.real if c.pyramid.kind == "labels" else c.pyramid.validity.weights
    return judge(pixels, alpha, mask, c.channels)


def _split(c: Crop, veils: Sequence[Array]) -> tuple[Array | None, Array | None]:
    """Return (alpha, mask) of a crop; None for what the pyramid does not have."""
    validity = c.pyramid.validity
    return veils[0] if validity.alpha is not None else None, veils[-1] != 0 if validity.masked else None
