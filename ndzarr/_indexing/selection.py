"""Selections: the indices wanted along each axis, and their cuts at chunk borders.

A *selection* has one entry per axis of an array: a slice with a step of at least 1, or a tuple of indices.  `select`
makes one from named axes, by numpy's rules for stops beyond the end; `cuts` cuts it at chunk borders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from operator import index
from typing import Any, TypeAlias

from ndzarr.errors import NdzarrError, WindowError, did_you_mean

AXES = ("t", "c", "z", "y", "x")
"""Every axis name, in the order in which axes are stored."""

AxisSelection: TypeAlias = slice | tuple[int, ...]
"""Indices along one axis: a half-open slice with step >= 1, or a tuple of non-negative indices."""

Selection: TypeAlias = tuple[AxisSelection, ...]
"""One `AxisSelection` per axis of an array."""

Segment: TypeAlias = tuple[int, slice, slice]
"""(chunk index along the axis, slice within that chunk, slice of the output)."""

Cut: TypeAlias = tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]
"""One box of a selection: (position of its chunk, place in the chunk, place in the output)."""

_EXPECTED = "expected a half-open slice of integers, or a sequence of indices"


def select(
    dims: Sequence[str], shape: Sequence[int], window: Mapping[str, slice | Sequence[int] | int | None]
) -> Selection:
    """
    Return the selection of a window, by numpy's rules: stops are clipped, nothing is padded.

    `window` maps axis names to a half-open slice, a sequence of indices, or None for the whole axis, as if left out.

    Examples
    --------
    >>> select(("c", "y", "x"), (3, 100, 100), {"y": slice(90, 120), "c": [2, 0]})
    ((2, 0), slice(90, 100, 1), slice(0, 100, 1))
    """
    for name in window:
        if name not in dims:
            raise WindowError(f"unknown axis {name!r}{did_you_mean(name, dims)}", key=name, window=window)
    return tuple(
        slice(0, n, 1) if (want := window.get(name)) is None else _axis(name, n, want)
        for name, n in zip(dims, shape, strict=True)
    )


MOST_PADDED = 1 << 24
"""Maximum number of positions of an axis that lies partly outside what exists; more can only be a mistake."""


def check_padding(key: str, asked: range, n: int, want: Any, error: type[NdzarrError] = WindowError) -> None:
    """Raise `error` if so many positions of an axis of length n are asked for that they do not fit memory."""
    positions = (asked.stop - asked.start) // asked.step  # len() of a range is limited to 64 bits
    if positions > max(n, MOST_PADDED):
        found = f"{key}={want!r} asks for {positions} positions, of which {n} exist"
        raise error(found, key=key, window=want, hint="Give a shorter interval")


def outside(name: str, n: int, want: slice) -> tuple[range, slice, slice] | None:
    """
    Split an interval that lies partly outside the named axis of length n; its step is at least 1.

    Return (all positions, the slice of the axis that exists, its place among the positions); None if all positions
    exist, or if the slice is invalid, which `select` reports.

    Examples
    --------
    >>> outside("t", 10, slice(-3, 14, 2))
    (range(-3, 14, 2), slice(1, 10, 2), slice(2, 7, None))
    """
    try:
        start = 0 if want.start is None else index(want.start)
        stop = n if want.stop is None else index(want.stop)
        step = 1 if want.step is None else index(want.step)
    except TypeError:
        return None
    asked = range(start, stop, max(1, step))
    if step < 1 or not asked or (asked[0] >= 0 and asked[-1] < n):
        return None
    check_padding(name, asked, n, want)
    before = min(len(asked), max(0, -(start // step)))
    there = range(start + before * step, min(stop, n), step)
    if not there:
        return asked, slice(0, 0, 1), slice(0, 0)
    return asked, slice(there[0], there[-1] + 1, step), slice(before, before + len(there))


def _axis(name: str, n: int, want: slice | Sequence[int] | int) -> AxisSelection:
    if isinstance(want, slice):
        return _clip(name, n, want)
    if not isinstance(want, Iterable):
        if hasattr(want, "__index__"):
            hint = f"Give slice({want}, {want} + 1)"
            raise WindowError(f"{name}={want!r}: an integer would drop the axis", key=name, window=want, hint=hint)
        raise WindowError(f"{name}={want!r}: {_EXPECTED}", key=name, window=want)
    try:
        picks = tuple([index(i) for i in want])
    except TypeError as error:
        raise WindowError(f"{name}={want!r}: {_EXPECTED} ({error})", key=name, window=want) from error
    for i in picks:
        if not 0 <= i < n:
            raise WindowError(f"{name}={list(picks)!r}: index {i} lies outside [0, {n})", key=name, window=picks)
    return picks


def _clip(name: str, n: int, want: slice) -> slice:
    try:
        start = 0 if want.start is None else index(want.start)
        stop = n if want.stop is None else index(want.stop)
        step = 1 if want.step is None else index(want.step)
    except TypeError as error:
        raise WindowError(f"{name}={want!r}: {_EXPECTED} ({error})", key=name, window=want) from error
    if start < 0 or stop < 0:
        message = f"{name}={start}:{stop} has a negative index; read() counts from the start of the axis, of length {n}"
        hint = "Use window(), which pads, for windows that lie partly outside"
        raise WindowError(message, key=name, window=want, hint=hint)
    if step < 1:
        raise WindowError(f"{name}={start}:{stop}:{step}: the step must be at least 1", key=name, window=want)
    stop = min(stop, n)
    return slice(min(start, stop), stop, step)


def lengths(selection: Selection) -> tuple[int, ...]:
    """
    Return the shape of a selection.

    Examples
    --------
    >>> lengths((slice(2, 9, 3), (5, 5)))
    (3, 2)
    """
    return tuple([max(0, -((s.start - s.stop) // s.step)) if isinstance(s, slice) else len(s) for s in selection])


def cuts(selection: Selection, chunks: Sequence[int]) -> list[Cut]:
    """Cut a selection at the borders of chunks of a shape; the boxes are in C order."""
    axes = [segments(want, chunk) for want, chunk in zip(selection, chunks, strict=True)]
    return [tuple(zip(*cut, strict=True)) for cut in product(*axes)]  # type: ignore[misc]


def segments(want: AxisSelection, chunk: int) -> list[Segment]:
    """
    Cut one axis of a selection at chunk borders: one `Segment` per chunk touched, or per index of a tuple, in order.

    Examples
    --------
    >>> segments(slice(100, 300, 1), 128)
    [(0, slice(100, 128, 1), slice(0, 28, 1)), (1, slice(0, 128, 1), slice(28, 156, 1)), (2, slice(0, 44, 1),
    slice(156, 200, 1))]
    """
    if not isinstance(want, slice):
        return [(i // chunk, slice(i % chunk, i % chunk + 1, 1), slice(k, k + 1, 1)) for k, i in enumerate(want)]
    if want.step != 1:
        return list(_strided(want, chunk))
    start, stop = want.start, want.stop
    if start >= stop:
        return []
    first, last = start // chunk, (stop - 1) // chunk
    if first == last:
        base = first * chunk
        return [(first, slice(start - base, stop - base, 1), slice(0, stop - start, 1))]
    cuts = [(first, slice(start - first * chunk, chunk, 1), slice(0, (first + 1) * chunk - start, 1))]
    cuts += [
        (k, slice(0, chunk, 1), slice(k * chunk - start, (k + 1) * chunk - start, 1)) for k in range(first + 1, last)
    ]
    cuts.append((last, slice(0, stop - last * chunk, 1), slice(last * chunk - start, stop - start, 1)))
    return cuts


def _strided(want: slice, chunk: int) -> Iterator[Segment]:
    start, stop, step = want.start, want.stop, want.step
    done, i = 0, start
    while i < stop:
        k = i // chunk
        end = min(stop, (k + 1) * chunk)
        n = -((i - end) // step)
        yield k, slice(i - k * chunk, end - k * chunk, step), slice(done, done + n, 1)
        done += n
        i += n * step
