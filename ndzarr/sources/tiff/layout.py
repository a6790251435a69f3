"""Which frame of a TIFF, and which part of it, holds a window of t, c and z?

A series of pages is an array with axes that tifffile names.  The last of them are within a frame (samples stored apart,
depth, rows, columns, samples stored together), those before count frames.  Each axis belongs to t, c or z:

1. T is t, C and S are c, Z is z; whatever else (pages of a plain multi-page TIFF) is t.  An option overrides this.
2. If several axes belong to one of t, c, z, they are combined, the first slowest.
3. `frames[i, j, k]` is the frame at outer position i of t, j of c and k of z; the positions within a frame come after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np

from ndzarr.errors import OptionError, SourceError
from ndzarr.sources.base import Pixels, in_order

_ROLES = {"T": "t", "C": "c", "S": "c", "Z": "z", "Y": "y", "X": "x"}
_OUTER = ("t", "c", "z")


class Piece(NamedTuple):
    """What a window needs of one frame."""

    frame: int
    """Number of the frame in the series."""
    samples: slice
    """Samples of the frame."""
    depths: slice
    """Planes in depth of the frame."""
    target: tuple[slice, slice, slice]
    """Where they land in the output, along t, c and z."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where t, c and z are in the frames of a series."""

    dims: tuple[str, ...]
    """Axis names of the source."""
    frames: Pixels
    """Numbers of frames, shape (outer t, outer c, outer z)."""
    samples: tuple[str, int]
    """The axis that samples within a frame belong to, and how many there are."""
    depths: tuple[str, int]
    """The same for planes in depth."""

    def inner(self, axis: str) -> int:
        """How many positions along `axis` one frame holds."""
        return prod(n for a, n in (self.samples, self.depths) if a == axis)

    @property
    def lengths(self) -> tuple[int, int, int]:
        """Length of t, c and z; 1 where there is none."""
        t, c, z = (n * self.inner(a) for a, n in zip(_OUTER, self.frames.shape, strict=True))
        return t, c, z

    def pieces(self, t: slice, c: slice, z: slice) -> Iterator[Piece]:
        """What a window needs, frame by frame."""
        cuts = [list(_cuts(w, self.inner(a))) for a, w in zip(_OUTER, (t, c, z), strict=True)]
        for found in product(*cuts):
            inside = {a: cut[1] for a, cut in zip(_OUTER, found, strict=True)}
            yield Piece(
                frame=int(self.frames[tuple(cut[0] for cut in found)]),
                samples=inside[self.samples[0]] if self.samples[1] > 1 else slice(0, 1),
                depths=inside[self.depths[0]] if self.depths[1] > 1 else slice(0, 1),
                target=(found[0][2], found[1][2], found[2][2]),
            )


def _cuts(window: slice, inner: int) -> Iterator[tuple[int, slice, slice]]:
    """(outer position, positions within a frame, positions in the output) of a window along one axis."""
    for outer in range(window.start // inner, -(-window.stop // inner)):
        start, stop = max(window.start, outer * inner), min(window.stop, (outer + 1) * inner)
        yield (
            outer,
            slice(start - outer * inner, stop - outer * inner),
            slice(start - window.start, stop - window.start),
        )


def make_layout(
    path: str, axes: str, shape: Sequence[int], frame: tuple[int, int, int, int, int], asked: str | None, keep: str
) -> Layout:
    """
    Find t, c and z in a series.

    Parameters
    ----------
    axes, shape
        Of the series, as tifffile tells them.
    frame
        Shape of a frame: samples stored apart, depth, rows, columns, samples stored together.
    asked
        The option `axes`.
    keep
        Letters of axes that are kept though they have length 1; y and x always are.
    """
    if asked is None:
        roles = [
            _ROLES.get(a, "t") if n > 1 or a in keep or a in "YX" else None for a, n in zip(axes, shape, strict=True)
        ]
    else:
        roles = _asked(path, axes, shape, asked)
    kept = [(role, int(n)) for role, n in zip(roles, shape, strict=True) if role is not None]
    apart, depth, height, width, together = frame
    rest = [(role, n) for role, n in kept if n > 1]
    inside: dict[str, tuple[str, int]] = {}
    for name, length in (("together", together), ("x", width), ("y", height), ("depth", depth), ("apart", apart)):
        if length > 1:
            inside[name] = rest.pop() if rest else ("", 0)
            if inside[name][1] != length or (name in "xy" and inside[name][0] != name):
                raise _mismatch(path, axes, shape, frame)
    depth_axis = inside.get("depth")
    samples = inside.get("together") or inside.get("apart") or ("c" if depth_axis != ("c", depth) else "t", 1)
    depths = depth_axis or ("z" if samples[0] != "z" else "t", 1)
    if {samples[0], depths[0]} & {"x", "y"} or any(role in "xy" for role, _ in rest):
        raise _mismatch(path, axes, shape, frame)
    if samples[0] == depths[0]:
        raise SourceError(f"{path}: samples and depth of its pages cannot both be {samples[0]}; pass other axes=")
    return Layout(in_order("".join(role for role, _ in kept) + "yx"), _frames(rest), samples, depths)


def _frames(axes: list[tuple[str, int]]) -> Pixels:
    """Numbers of frames by outer position along t, c and z."""
    numbers = np.arange(prod(n for _, n in axes)).reshape([n for _, n in axes])
    order = [i for role in _OUTER for i, (r, _) in enumerate(axes) if r == role]
    return numbers.transpose(order).reshape([prod(n for r, n in axes if r == role) for role in _OUTER])


def _asked(path: str, axes: str, shape: Sequence[int], asked: str) -> list[str | None]:
    """A role for each axis of the series, from the option; it may leave out axes of length 1 (no role), and samples."""
    long = [a for a, n in zip(axes, shape, strict=True) if n > 1 or a in "YX"]
    for left_out in ([], [a for a in axes if a not in long], [a for a in axes if a not in long or a == "S"]):
        if len(axes) - len(left_out) == len(asked) and not ("S" in left_out and "S" in long and "c" in asked):
            given = iter(asked)
            return [next(given) if a not in left_out else "c" if a == "S" else None for a in axes]
    found = ", ".join(f"{a} {n}" for a, n in zip(axes, shape, strict=True) if a in long)
    raise OptionError(f"{path}: axes={asked!r} names {len(asked)} axes, but the file has {len(long)}: {found}")


def _mismatch(path: str, axes: str, shape: Sequence[int], frame: tuple[int, ...]) -> SourceError:
    found = ", ".join(f"{a} {n}" for a, n in zip(axes, shape, strict=True))
    return SourceError(
        f"{path}: its axes are {found}, but its pages hold {frame[3]} x {frame[2]} pixels, so it is not clear which "
        f"axes are y and x; pass axes= with y and x for the last two axes of a page"
    )
