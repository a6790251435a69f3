"""What do many targets have in common, and in which order are they best read?

Known before any pixel is read: by columns where a table allows that (`uniform`), else by resolving the targets a block
at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from ndzarr.bulk.batch import Form, agree
from ndzarr.bulk.member import BulkSampler, Member
from ndzarr.bulk.store import Taken
from ndzarr.bulk.uniform import Windows, mask_dims, uniform
from ndzarr.errors import TargetError
from ndzarr.geometry.selection import lengths
from ndzarr.pyramid.layout import CHUNK, SHARD
from ndzarr.sampler.annotations import Lookup
from ndzarr.targets.rows import Rows

BLOCK = 1024
"""Targets that are resolved at a time."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Survey:
    """What is known of all samples."""

    form: Form
    mask_dims: tuple[str, ...] | None
    """Axes of `valid` of a sample; None where all pixels are real."""
    locality: Array
    """Positions of the targets, those that lie near each other together; shape (sample,)."""
    taken: Taken


def survey(sampler: BulkSampler, rows: Rows, keys: Mapping[str, Any], lookup: Lookup, sizes: str) -> Survey:
    """
    Look at all targets.

    Raises
    ------
    TargetError
        There is none, one is not understood, or they do not fit together.
    """
    if not len(rows):
        raise TargetError("targets is empty: there is nothing to extract")
    known = uniform(sampler, rows, keys, lookup)
    if known is not None and (sizes != "refuse" or (known.windows.n == known.windows.n[0]).all()):
        return Survey(known.form, known.mask_dims, _near(*_places(known.windows)), _taken(known.first))
    first: Member | None = None
    forms: list[Form] = []
    lacks: set[str] = set()
    taken = Taken()
    names, corners = [], []
    for start in range(0, len(rows), BLOCK):
        members = sampler.members([{**row, **keys} for row in rows[start : start + BLOCK]], lookup, start)
        first = first or members[0]
        forms.append(agree(members, sizes, first, start))
        taken = reduce(Taken.most, map(_taken, members), taken)
        lacks |= {m.lacking for m in members}
        lacks |= {"planes"} if any(m.shape != forms[0].shape for m in members) else set()
        names += [str(m.ids) for m in members]
        corners += [m.origin for m in members]
    assert first is not None
    shape = tuple(map(max, zip(*[f.shape for f in forms], strict=True)))
    form = Form(forms[0].dims, shape, forms[0].dtype, forms[0].channels)
    codes = np.unique(names, return_inverse=True)[1]
    return Survey(form, mask_dims(form, [], lacks), _near(codes, np.array(corners, float)), taken)


def _taken(member: Member) -> Taken:
    read = [c for c in member.crops if not c.region.exact or c.region.shape != member.shape[-2:]]  # or is warped
    stored = sum(prod(lengths(c.request[1])) * c.pyramid.dtype.itemsize for c in read)
    converted = sum(prod(c.shape) * c.pyramid.dtype.itemsize for c in member.crops if c.pyramid.dtype != member.dtype)
    resampled = [prod(lengths(c.request[1])) + 2 * prod(c.shape) for c in member.crops if not c.region.exact]
    return Taken(stored + converted, max(4, member.dtype.itemsize) * max(resampled, default=0))


def _places(windows: Windows) -> tuple[Array, Array]:
    codes = np.empty(len(windows.ids), np.intp)
    for k, (_, members) in enumerate(windows.by_id()):
        codes[members] = k
    return codes, windows.origin


def _near(images: Array, origin: Array) -> Array:
    """Order by image, then by shard, then by rows of chunks, alternately from left to right and back."""
    shard = np.floor(origin / SHARD)
    row = np.floor(origin[:, 0] / CHUNK)
    x = np.where(row % 2, -origin[:, 1], origin[:, 1])
    return np.lexsort((x, row, shard[:, 1], shard[:, 0], images))
