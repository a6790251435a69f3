"""How are windows at any scale read, many at a time?

1. All crops make one `ReadPlan`; those that are copies are decoded straight into their output.
2. The others are resampled from what was read.  What lies outside the image is filled.

Where much is resampled, another thread does so while this one decodes: its calls are long and let go of Python's lock,
which decoding small chunks in two threads does not do well (`execute`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from math import prod
from typing import Any, TypeAlias

import numpy as np

from ndzarr.geometry.resample import resample
from ndzarr.geometry.selection import lengths
from ndzarr.plan.plan import ReadPlan, plan_reads
from ndzarr.pyramid import landing
from ndzarr.pyramid.execute import execute
from ndzarr.pyramid.reduce import as_pixel, holds_data
from ndzarr.pyramid.region import Crop
from ndzarr.pyramid.threads import PROCESSORS, pool

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
    if PROCESSORS < 2 or len(crops) < 2:
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
                jobs[k] = pool().submit(works[k])
        done = {k: works[k]() if jobs[k].cancel() else None for k in reversed(jobs)}
        return [(done[k] or jobs[k].result())[0] for k in range(len(crops))]
    finally:
        wait([job for job in jobs.values() if not job.cancel()])


def _landed(crops: Sequence[Crop], images: Sequence[Array]) -> list[Array]:
    """Array of levels: in their places where they are copied, else to be resampled."""
    plan = plan_crops(crops)
    places = [
        image[c.inside] if c.region.exact else landing.take(shape, image.dtype)
        for c, image, shape in zip(crops, images, plan.shapes, strict=True)
    ]
    execute(plan, places, crops[0].pyramid.cache if crops else None)
    return places


def _finished(crops: Sequence[Crop], images: Sequence[Array], landed: list[Array]) -> list[Result]:
    spent = [pixels for c, pixels in zip(crops, landed, strict=True) if not c.region.exact]
    _resample_alike(crops, images, landed)
    done = [(image, _finish(c, image, pixels)) for c, image, pixels in zip(crops, images, landed, strict=True)]
    for pixels in spent:
        landing.give(pixels)
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
