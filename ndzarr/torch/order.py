"""In which order are targets visited, so that it is random and yet neighbours share chunks?

1. Targets in one block of one source (a shard, roughly) are a *group*; groups are shuffled.
2. Some groups at a time are open: all of their targets are shuffled together.
3. Positions are then jittered by up to the length of a buffer, as a shuffle buffer would, so that what was open
   together does not stay together.

The order depends on seed and epoch alone, never on who reads it.  It is the two-level shuffle of streamed training data
(shards, then a buffer) as in WebDataset, on windows instead of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ndzarr.pyramid.layout import SHARD
from ndzarr.targets.rows import Rows

SOURCES = ("gid", "image_id", "vidid", "video_id", "key", "aid", "annot_id")
"""Keys that say which source a target reads; the first that it has counts."""


def groups(rows: Rows, block: int = SHARD) -> np.ndarray[Any, Any]:
    """
    Which targets are near one another.

    Parameters
    ----------
    block
        Edge of a block in native pixels.

    Returns
    -------
    A number per target, equal where source and block are, shape (n,).
    """
    frame = rows.frame
    columns = {name: frame[name].to_numpy() for name in frame.columns} if frame is not None else _columns(list(rows))
    n = len(rows)
    code = np.zeros(n, np.int64)
    known = np.zeros(n, bool)
    for kind, name in enumerate(SOURCES):
        if name in columns:
            values = columns[name]
            here = ~known & np.array([v is not None and v == v for v in values.tolist()])
            _, number = np.unique([str(v) for v in values[here].tolist()], return_inverse=True)
            code[here] = number * len(SOURCES) + kind
            known |= here
    keys = [code]
    for name in ("cy", "cx"):
        if name in columns:
            centre = np.nan_to_num(columns[name].astype(float), nan=0.0)
            keys.append(np.floor(centre / block).astype(np.int64))
    return np.unique(np.stack(keys, 1), axis=0, return_inverse=True)[1].reshape(-1)


def _columns(targets: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    out: dict[str, np.ndarray[Any, Any]] = {}
    for name in (*SOURCES, "cy", "cx"):
        if any(target.get(name) is not None for target in targets):
            out[name] = np.array([target.get(name) for target in targets], object)
    for name, axis in (("cy", 0), ("cx", 1)):
        if name not in out:
            out[name] = np.array([_centre(target, axis) for target in targets], object)
    return out


def _centre(target: Mapping[str, Any], axis: int) -> float | None:
    """Where a window that is given by slices begins."""
    found = target.get("yx"[axis])
    slices = target.get("space_slice") or tuple(target.get("slices") or ())[-2:]
    found = slices[axis] if found is None and len(slices) == 2 else found
    start = found.start if isinstance(found, slice) else None
    return None if start is None else float(start)


def shuffled(
    group: np.ndarray[Any, Any], seed: int, epoch: int, together: int = 16, buffer: int = 1024
) -> np.ndarray[Any, Any]:
    """
    A random order of targets that keeps groups near one another.

    Parameters
    ----------
    group
        Number of the group of each target, shape (n,).
    together
        Groups that are open at a time.
    buffer
        Targets over which order is mixed further.

    Returns
    -------
    A permutation of 0..n-1.
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
