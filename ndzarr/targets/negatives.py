"""Which windows hold none, or little, of any annotation?

Every window of the wanted size that fits into a space is as likely as every other, and those that overlap too much are
drawn again: so images count by their free area.  After some rounds, whatever is still missing is drawn from the exact
list of free windows (`listing`), which ends with a window or with the proof that there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.errors import OptionError, TargetError, did_you_mean
from ndzarr.sampler import values
from ndzarr.targets.listing import Listing
from ndzarr.targets.options import portion, whole
from ndzarr.targets.overlap import CRITERIA, Index, fraction
from ndzarr.targets.places import Places
from ndzarr.targets.room import Limit
from ndzarr.targets.spaces import Array, Spaces, refuse_time
from ndzarr.targets.tables import as_table
from ndzarr.targets.windows import Windows

if TYPE_CHECKING:
    import pandas
    from numpy.random import Generator

    from ndzarr.targets.indexed import Indexed

SIZES = ("like_annotations", "square")
"""`window_dims` by name: sizes of annotations, or the squares around these."""

ROUNDS = (1, 1, 2, 4, 8, 16, 32, 64)
"""Draws for each window that is still missing; afterwards, what is free is listed."""

AGAIN = 20
"""Draws from a list: a window on the very limit may miss it by a rounding error."""

AT_ONCE = 1 << 20
"""Draws that are looked at together: bounds memory."""

ENOUGH = 1000
"""So many draws of one round in vain say that there is little room."""


def negatives(
    targets: Indexed,
    n: int,
    window_dims: Any,
    spaces: Spaces,
    limit: Limit,
    duration: int | None,
    avoid: Any,
    seed: Any,
) -> pandas.DataFrame:
    """What `Targets.negatives` returns."""
    refuse_time(spaces, duration)
    every = index = targets.index(spaces)
    if avoid is not None:
        category = targets.annotations.category_id[every.boxes.row]
        index = Index(spaces, every.boxes.take(targets.classes.among(category, avoid)))
    windows = draw(n, window_dims, every, index, limit, duration, np.random.default_rng(seed))
    return as_table(targets, spaces, windows, "negative")


def draw(
    n: int, window_dims: Any, every: Index, index: Index, limit: Limit, duration: int | None, rng: Generator
) -> Windows:
    """
    Windows that overlap no box of an index more than allowed.

    Parameters
    ----------
    window_dims
        (height, width), or one of `SIZES`.
    every
        The boxes from which sizes are taken.
    duration
        Frames of a window of a video; None for all.

    Raises
    ------
    OptionError, TargetError
        An option is not understood; there is no such window.
    """
    if limit.criterion not in CRITERIA:
        raise OptionError(f"criterion={limit.criterion!r}: unknown{did_you_mean(limit.criterion, CRITERIA)}")
    portion("max_overlap", limit.most)
    n = whole("n", n, least=0)
    duration = None if duration is None else whole("time_dims", duration)
    sizes, choices = _sizes(window_dims, every)
    places = Places(index.spaces, sizes, duration)
    size = choices[rng.integers(0, len(choices), n)]
    begins, missing, listing = np.zeros((4, n), np.int64), np.arange(n), Listing(places, index.boxes, limit)
    while len(missing):
        missing = _by_chance(places, size, begins, missing, index, limit, rng)
        missing = _listed(places, size, begins, missing, index, listing, rng)
        choices = choices[~np.isin(choices, size[missing])]
        if len(missing) and not len(choices):
            raise TargetError(_no_room(window_dims, places, limit))
        size[missing] = choices[rng.integers(0, max(len(choices), 1), len(missing))]
    return places.windows(size, begins)


def _sizes(window_dims: Any, every: Index) -> tuple[Array, Array]:
    """Different sizes, shape (size, 2), and those that are drawn from, by position, as often as they shall count."""
    if not isinstance(window_dims, str):
        dims = values.window_dims(window_dims)
        if dims is None:
            raise TargetError(f"window_dims=None: expected (height, width) or one of {', '.join(SIZES)}")
        return np.array([[whole("window_dims", length) for length in dims]], np.int64), np.zeros(1, np.int64)
    if window_dims not in SIZES:
        raise TargetError(f"window_dims={window_dims!r}: expected (height, width){did_you_mean(window_dims, SIZES)}")
    if not len(every.boxes):
        raise TargetError(
            f"window_dims={window_dims!r}: there are no annotations to take a size from; give (height, width)"
        )
    sizes, choices = every.sizes
    return (np.repeat(sizes.max(axis=1, keepdims=True), 2, axis=1) if window_dims == "square" else sizes), choices


def _by_chance(
    places: Places, size: Array, begins: Array, missing: Array, index: Index, limit: Limit, rng: Generator
) -> Array:
    """Fill in what is found by drawing; returns what is still missing."""
    for times in ROUNDS:
        step = AT_ONCE // times
        hits = []
        for start in range(0, len(missing), step):
            asked = np.repeat(missing[start : start + step], times)
            windows, fits = places.draw(size[asked], rng)
            good = np.flatnonzero(fits & _allowed(windows, index, limit))
            hit, first = np.unique(asked[good], return_index=True)
            w = windows.take(good[first])
            begins[:, hit] = w.space, w.t0, w.y0, w.x0
            hits.append(hit)
        found = np.concatenate([*hits, np.empty(0, np.int64)])
        in_vain = not len(found) and len(missing) * times >= ENOUGH
        missing = missing[~np.isin(missing, found)]
        if not len(missing) or in_vain:
            break
    return missing


def _allowed(windows: Windows, index: Index, limit: Limit) -> Array:
    """Whether windows keep the promise; shape (window,)."""
    pairs = index.touching(windows)
    bad = fraction(windows, index.boxes, pairs, limit.criterion) > limit.most
    clean: Array = np.bincount(pairs.window[bad], minlength=len(windows)) == 0
    return clean


def _listed(
    places: Places, size: Array, begins: Array, missing: Array, index: Index, listing: Listing, rng: Generator
) -> Array:
    """Fill in what is missing from lists of all that is free; returns that for which there is no room."""
    full = [missing[:0]]
    wanted = np.unique(size[missing])
    for one in wanted[np.argsort(places.sizes[wanted].prod(axis=1), kind="stable")].tolist():
        mine = missing[size[missing] == one]
        rectangles, planes = listing.free(one)
        y0, y1, x0, x1 = rectangles
        ends = np.cumsum((y1 - y0) * (x1 - x0))
        for _ in range(AGAIN if len(ends) else 0):
            number = rng.integers(0, ends[-1], len(mine))
            which = np.searchsorted(ends, number, side="right")
            y, x = np.divmod(ends[which] - 1 - number, (x1 - x0)[which])
            begins[:, mine] = *planes[:, which], y0[which] + y, x0[which] + x
            mine = mine[~_allowed(places.windows(size[mine], begins[:, mine]), index, listing.limit)]
            if not len(mine):
                break
        full.append(mine)
    return np.concatenate(full)


def _no_room(window_dims: Any, places: Places, limit: Limit) -> str:
    kind, spaces = places.spaces.kind, places.spaces
    counts = sum(places.count(k) for k in range(len(places.sizes)))
    if not np.any(counts):
        largest = int(np.argmax(spaces.height * spaces.width))
        frames = "" if places.duration is None else f" of {places.duration} frames"
        return (
            f"window_dims={window_dims!r}{frames} fits into none of {len(spaces)} {kind}s, of which the largest is "
            f"{spaces.height[largest]} x {spaces.width[largest]}; ask for smaller windows"
        )
    return (
        f"there is no room for window_dims={window_dims!r} with max_overlap={limit.most:g} (criterion "
        f"{limit.criterion!r}): {np.count_nonzero(counts)} of {len(spaces)} {kind}s are large enough, but none of the "
        f"{np.sum(counts):,} windows in them is free of annotations; ask for smaller windows or a larger max_overlap"
    )
