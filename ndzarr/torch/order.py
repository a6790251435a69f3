"""
A random order of targets whose neighbours share chunks.

1. The targets in one block of one source (a shard, roughly) are a group. Groups are shuffled.
2. The targets of some neighbouring groups are shuffled together.
3. Positions are then jittered by up to the length of a buffer, as by a shuffle buffer, to mix neighbouring sets.

The order depends on seed and epoch alone, never on who reads it. It is the two-level shuffle of streamed training data
(shards, then a buffer) as in WebDataset, on windows instead of files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from ndzarr._store.presets import SHARD
from ndzarr._validation import is_missing
from ndzarr.targets.table import Rows

SOURCES = ("gid", "image_id", "vidid", "video_id", "key", "gids", "aid", "annot_id")
"""Keys that name the source of a target; the first that it has counts."""
TIMES = ("time_start", "time_slice", "t")
"""Keys that give the first frame of a target; the first that it has counts."""
SPACES = ("space_slice", "slices")
"""Keys that hold the slices of y and x."""
BLOCK_T = 64
"""Frames of a block."""
FAR = 2**40
"""Positions beyond are one block."""


def groups(rows: Rows, block: int = SHARD) -> np.ndarray[Any, Any]:
    """
    Return the group of each target, shape (n,): equal for targets of the same source and block.

    `block` is the height and width of a block in native pixels.
    """
    columns, n = _columns(rows), len(rows)
    code = _sources(columns, n)
    for names, axis, size in ((TIMES, 0, BLOCK_T), (("cy", "y", *SPACES), 0, block), (("cx", "x", *SPACES), 1, block)):
        begin = np.clip(np.nan_to_num(_begins(columns, names, axis), posinf=0, neginf=0), -FAR, FAR)
        place = np.broadcast_to(np.floor(begin / size).astype(np.int64), n)
        if n and place.min() != place.max():
            place = place - place.min()
            code = np.unique(code * (place.max() + 1) + place, return_inverse=True)[1]  # no larger than n
    return np.unique(code, return_inverse=True)[1].reshape(-1)


def _columns(rows: Rows) -> dict[str, np.ndarray[Any, Any]]:
    """Return the keys that count here, each with a value per target, None where it has none."""
    wanted = (*SOURCES, *TIMES, *SPACES, "cy", "cx", "y", "x")
    frame = rows.frame
    if frame is not None:
        return {name: frame[name].to_numpy() for name in wanted if name in frame.columns}
    targets = list(rows)
    columns = {name: [target.get(name) for target in targets] for name in wanted}
    return {name: _objects(found) for name, found in columns.items() if any(v is not None for v in found)}


def _sources(columns: Mapping[str, np.ndarray[Any, Any]], n: int) -> np.ndarray[Any, Any]:
    """Number sources in the order in which they come first; 0 for targets that name none."""
    code = np.zeros(n, np.int64)
    start = 1
    for name in SOURCES:
        if name in columns and not code.all():
            values: dict[Any, int] = {}
            found = [tuple(v) if isinstance(v, list | np.ndarray) else v for v in columns[name].tolist()]
            more = [0 if is_missing(v) else values.setdefault(v, start + len(values)) for v in found]
            start += len(values)
            code = np.where(code == 0, more, code)
    return code


def _begins(columns: Mapping[str, np.ndarray[Any, Any]], names: Iterable[str], axis: int = 0) -> np.ndarray[Any, Any]:
    """Return where targets begin, by the first key of each that says so; NaN where none does."""
    parts = [_numbers(columns[name], axis) for name in names if name in columns]
    out = parts[0] if parts else np.array(np.nan)
    for more in parts[1:]:
        out = np.where(np.isnan(out), more, out)
    return out


def _numbers(values: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    if values.dtype.kind in "iuf":
        return values.astype(float)
    return np.array([_begin(v, axis) for v in values.tolist()], float)


def _begin(value: Any, axis: int) -> float:
    """Return the first position of a number, a slice, a list of positions, or one of the slices of y and x."""
    if isinstance(value, tuple | list | np.ndarray) and len(value):
        value = value[-2:][axis] if isinstance(value[-1], slice) else value[0]
    if isinstance(value, slice):
        value = value.start or 0
    return float(value) if isinstance(value, Real) and math.isfinite(value) else math.nan


def _objects(values: list[Any]) -> np.ndarray[Any, Any]:
    out = np.empty(len(values), object)
    out[:] = values
    return out


def passes(
    group: np.ndarray[Any, Any] | int, seed: int, start: int, size: int, together: int = 16, buffer: int = 1024
) -> np.ndarray[Any, Any]:
    """
    Return `size` targets, from position `start` on, of an endless sequence of passes over all targets.

    Each pass is `shuffled` by its number.  `group` may be the number of targets, which then keep their order.

    Examples
    --------
    >>> passes(3, 0, 2, 5)
    array([2, 0, 1, 2, 0])
    """
    n = group if isinstance(group, int) else len(group)
    if not n:
        return np.empty(0, np.int64)
    parts, (number, skipped) = [np.empty(0, np.int64)], divmod(start, n)
    while size > 0:
        whole = np.arange(n) if isinstance(group, int) else shuffled(group, seed, number, together, buffer)
        parts.append(whole[skipped : skipped + size])
        size, number, skipped = size - len(parts[-1]), number + 1, 0
    return np.concatenate(parts)


def interleaved(counts: Sequence[int], rng: np.random.Generator | None) -> np.ndarray[Any, Any]:
    """
    Return a sequence of as many of each number as it counts, evenly mixed; shape (sum of counts,).

    Examples
    --------
    >>> interleaved([4, 2], None)
    array([0, 1, 0, 0, 1, 0])
    """
    number = np.repeat(np.arange(len(counts)), counts)
    k = np.concatenate([np.arange(n) for n in counts])
    within = 0.5 if rng is None else rng.random(len(k))
    place = (k + within) / np.repeat(counts, counts)
    return number[np.argsort(place, kind="stable")]


def apportioned(total: int, weights: Sequence[float]) -> list[int]:
    """
    Return whole numbers with a sum, in proportion to weights, by largest remainders.

    Examples
    --------
    >>> apportioned(10, [1, 1, 1])
    [4, 3, 3]
    """
    exact = np.asarray(weights, float) / np.sum(weights) * total
    counts = np.floor(exact).astype(np.int64)
    most = np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]
    counts[most] += 1
    found: list[int] = counts.tolist()
    return found


def shuffled(
    group: np.ndarray[Any, Any], seed: int, epoch: int, together: int = 16, buffer: int = 1024
) -> np.ndarray[Any, Any]:
    """
    Return a random order of targets, a permutation of 0..n-1, that keeps groups together.

    `group` holds the group of each target, shape (n,). The targets of `together` groups are shuffled together, and the
    order is mixed further over `buffer` positions.
    """
    n = len(group)
    if not n:
        return np.empty(0, np.int64)
    rng = np.random.default_rng((seed, epoch))
    place = rng.permutation(int(group.max()) + 1)  # of each group among the groups
    opened = place[group] // max(1, together)
    first = np.lexsort((rng.random(n), opened))
    position = np.empty(n)
    position[first] = np.arange(n)
    return np.argsort(position + rng.uniform(0, max(1, buffer), n), kind="stable")
