"""How is a batch of windows read that are nothing but copies of stored pixels?

The windows that most training reads: at native scale, wholly inside, of one file, upright.  What one window of an image
says about where its pixels are stored holds for all of that image, so a table of windows becomes a plan by arithmetic
alone, and only the plan costs Python's time per window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ndzarr.bulk.batch import Form, agree
from ndzarr.bulk.member import BulkSampler
from ndzarr.bulk.uniform import Uniform, uniform
from ndzarr.geometry.selection import Selection, lengths, segments
from ndzarr.plan.plan import ChunkRead, Part, ReadPlan
from ndzarr.pyramid.execute import execute
from ndzarr.pyramid.region import Crop
from ndzarr.sampler.annotations import Lookup
from ndzarr.targets.rows import Rows

Array = np.ndarray[Any, Any]


class Origin(NamedTuple):
    """Where the pixels of an image are, if windows of it are copies."""

    array: Any
    lead: Selection
    """Along the axes before y."""
    shift: tuple[int, int]
    """From the sampled space to pixels of the array, along (y, x)."""


def origin_of(crop: Crop, start: tuple[float, float]) -> Origin | None:
    """
    What the crop of one window says about all of its image; None where its pixels are not simply copied.

    Parameters
    ----------
    start
        Where the window begins along (y, x).
    """
    cut, level = crop.region, crop.pyramid.levels[crop.region.level]
    if not cut.exact or cut.padded or cut.level or crop.pyramid.nodata is not None:
        return None
    shift = cut.y.read.start - int(start[0]), cut.x.read.start - int(start[1])
    return Origin(level.array, crop.lead, shift)


@dataclass(frozen=True)
class Copies:
    """A batch that is nothing but copies."""

    known: Uniform
    plan: ReadPlan

    @property
    def form(self) -> Form:
        """What all samples have in common."""
        return self.known.form

    def read(self, out: Array | None = None) -> Array:
        """The pixels, (sample, *form.dims)."""
        image = np.empty((len(self.plan), *self.form.shape), self.form.dtype) if out is None else out
        places = [place.reshape(shape) for place, shape in zip(image, self.plan.shapes, strict=True)]
        execute(self.plan, places, self.known.first.crops[0].pyramid.cache)
        return image


def copies(sampler: BulkSampler, rows: Rows, keys: Mapping[str, Any], lookup: Lookup) -> Copies | None:
    """
    The batch, if all of its windows are copies.

    Raises
    ------
    TargetError
        Images have different axes, channels or dtypes.
    """
    known = uniform(sampler, rows, keys, lookup)
    if known is None or (known.windows.pitch != 1).any() or (known.windows.n != known.windows.n[0]).any():
        return None
    windows = known.windows
    arrays: list[Any] = []
    requests: list[Any] = [None] * len(windows.ids)
    for _, members in windows.by_id():
        i = int(members[0])
        member = known.first if i == 0 else known.member(sampler, i, keys, lookup)
        agree([member], first=known.first, start=i)
        origin = member.copied_from
        if origin is None:
            return None
        y, x = windows.y[members] + origin.shift[0], windows.x[members] + origin.shift[1]
        height, width = origin.array.shape[-2:]
        if min(y.min(), x.min()) < 0 or y.max() > height or x.max() > width:
            return None
        for k, (top, bottom), (left, right) in zip(members.tolist(), y.tolist(), x.tolist(), strict=True):
            requests[k] = len(arrays), (*origin.lead, slice(top, bottom, 1), slice(left, right, 1))
        arrays.append(origin.array)
    shape = lengths(requests[0][1])
    return Copies(known, WindowPlan(tuple(arrays), tuple(requests), (shape,) * len(requests)))


@dataclass(frozen=True)
class WindowPlan(ReadPlan):
    """A plan whose windows differ along y and x alone: what one finds out serves all that lie alike on their chunks."""

    @cached_property
    def reads(self) -> tuple[ChunkRead, ...]:
        """Every chunk that holds a pixel of a window, each exactly once."""
        wanted: dict[tuple[int, tuple[int, ...]], list[Part]] = {}
        heads: dict[int, list[Any]] = {}
        known: dict[tuple[int, int, int], list[Any]] = {}
        for w, (a, selection) in enumerate(self.windows):
            if a not in heads:
                heads[a] = _product(selection[:-2], self.arrays[a].chunks[:-2])
            (cy, cx), (y, x) = self.arrays[a].chunks[-2:], selection[-2:]
            ky, oy = divmod(y.start, cy)  # type: ignore[union-attr]
            kx, ox = divmod(x.start, cx)  # type: ignore[union-attr]
            rows = _cut(known, oy, y.stop - y.start, cy)  # type: ignore[union-attr]
            columns = _cut(known, ox, x.stop - x.start, cx)  # type: ignore[union-attr]
            for position, source, target in heads[a]:
                for j, from_y, to_y in rows:
                    for i, from_x, to_x in columns:
                        key = a, (*position, ky + j, kx + i)
                        part = w, (*source, from_y, from_x), (*target, to_y, to_x)
                        parts = wanted.get(key)
                        if parts is None:
                            wanted[key] = [part]
                        else:
                            parts.append(part)
        return tuple([(*key, tuple(wanted[key])) for key in sorted(wanted)])


def _product(selection: Selection, chunks: tuple[int, ...]) -> list[Any]:
    """(positions, sources, targets) of every part of a selection along the axes before y."""
    out: list[Any] = [((), (), ())]
    for want, chunk in zip(selection, chunks, strict=True):
        out = [((*p, k), (*s, a), (*t, b)) for p, s, t in out for k, a, b in segments(want, chunk)]
    return out


def _cut(known: dict[tuple[int, int, int], list[Any]], start: int, n: int, chunk: int) -> list[Any]:
    key = start, n, chunk
    found = known.get(key)
    if found is None:
        found = known[key] = segments(slice(start, start + n, 1), chunk)
    return found
