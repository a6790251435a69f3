"""What does one value of a target mean?

Each function takes what a person wrote under a key, and returns it in one form, or says what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.pyramid.region import Sampling

PAD_MODES = (
    "constant", "edge", "linear_ramp", "maximum", "mean", "median", "minimum", "reflect", "symmetric", "wrap", "empty",
)  # fmt: skip
"""The modes of numpy.pad."""


Bounds: TypeAlias = tuple[int | None, int | None]
"""Start and stop of an interval; None where it is open."""


@dataclass(frozen=True, slots=True)
class Padding:
    """What is put where a window lies outside the data."""

    mode: str = "constant"
    """One of `PAD_MODES`."""
    fill: float | None = None
    """Value of what is padded, and of missing channels and nodata where those do not become NaN; None means 0, or NaN
    for nodata='float'."""
    options: tuple[tuple[str, Any], ...] = ()
    """Other arguments of numpy.pad."""


NO_PADDING = Padding()
"""Constant, with the fill value that suits the type."""

NODATA = ("float", "ma", "auto", "fill")
"""'float': NaN, in a floating type; 'ma': kept, `valid` says where; 'fill': replaced by the fill value; 'auto':
'float' for floating types, else 'ma'."""


def bounds(name: str, want: Any) -> Bounds | None:
    """Start and stop of a slice along an axis, None where it is open; None for the whole axis."""
    if want is None or want == slice(None):
        return None
    if not isinstance(want, slice) or want.step not in (None, 1):
        raise TargetError(f"{name}={want!r}: expected slice(start, stop) with step 1")
    return _position(name, want, want.start), _position(name, want, want.stop)


def _position(name: str, want: slice, value: Any) -> int | None:
    if value is None:
        return None
    if int(value) != value:
        raise TargetError(f"{name}={want!r}: expected whole pixels; use cx, cy, width and height for others")
    return int(value)


def window_dims(value: Any) -> Any:
    """'extent', 'square', (height, width) or None."""
    if value is None or (isinstance(value, str) and value in ("extent", "square")):
        return value
    if isinstance(value, str) or not isinstance(value, Iterable) or len(dims := tuple(value)) != 2 or min(dims) <= 0:
        raise TargetError(f"window_dims={value!r}: expected 'extent', 'square' or (height, width)")
    return dims


def sized(dims: Any, size: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    """(height, width) after `window_dims` has had its say."""
    if isinstance(dims, tuple):
        return dims
    if dims == "square":
        if size[0] is None or size[1] is None:
            raise TargetError("window_dims='square' needs width and height, or aid")
        return max(size[0], size[1]), max(size[0], size[1])
    return size


def channels(value: Any) -> str | tuple[str, ...] | None:
    """A channel code (or an object of delayed_image or kwcoco that has one), or names; None for all."""
    value = getattr(value, "spec", value)
    if value is None or (isinstance(value, str) and value == "<all>"):
        return None
    if not isinstance(value, Iterable):
        raise TargetError(f"channels={value!r}: expected a code such as 'r|g|b', or a list of names")
    named = value if isinstance(value, str) else tuple(str(v) for v in value)
    if not named:
        raise TargetError(f"channels={value!r}: a target needs at least one channel; leave the key out for all")
    return named


def padding(given: Mapping[str, Any]) -> Padding:
    """What `padkw` and `fill` mean together."""
    options = dict(given.get("padkw") or {})
    mode = one_of("padkw mode", options.pop("mode", "constant"), PAD_MODES) or "constant"
    fill = options.pop("constant_values", given.get("fill"))
    if fill is not None and not np.isscalar(fill):
        raise TargetError(f"padkw constant_values={fill!r}: expected one number for all sides")
    return Padding(mode, fill, tuple(sorted(options.items())))  # type: ignore[arg-type]


def pad(value: Any, video: bool) -> tuple[tuple[int, int], ...]:
    """(before, after) along (t, y, x) from a number, one per axis, or a pair per axis."""
    if value is None:
        return ((0, 0), (0, 0), (0, 0))
    axes = [value, value] if isinstance(value, Integral) else list(value) if isinstance(value, Iterable) else []
    pairs = [(a, a) if isinstance(a, Integral) else tuple(a) if isinstance(a, Iterable) else () for a in axes]
    if len(pairs) == 2:
        pairs = [(0, 0), *pairs]
    if len(pairs) != 3 or (any(pairs[0]) and not video):
        raise TargetError(f"pad={value!r}: expected a number, (y, x), or for videos (t, y, x)")
    if any(len(p) != 2 or not all(isinstance(n, Integral) and int(n) >= 0 for n in p) for p in pairs):
        raise TargetError(f"pad={value!r}: expected integers of at least 0, or (before, after) per axis")
    return tuple((int(p[0]), int(p[1])) for p in pairs)


def pair(name: str, value: Any) -> tuple[int, int] | None:
    """(height, width), or None."""
    if value is None:
        return None
    numbers = () if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)
    if len(numbers) != 2 or min(numbers) < 1 or any(int(n) != n for n in numbers):
        raise TargetError(f"{name}={value!r}: expected (height, width), each at least 1")
    return int(numbers[0]), int(numbers[1])


def one_of(name: str, value: Any, known: Sequence[str]) -> str | None:
    """A value that must be one of a few words; None if not given."""
    if value is None:
        return None
    if value not in known:
        raise TargetError(f"{name}={value!r} is not known{did_you_mean(value, known)}")
    return str(value)


def dtype(value: Any) -> np.dtype[Any] | None:
    """A numpy type, or None."""
    if value is None:
        return None
    try:
        wanted: np.dtype[Any] = np.dtype(value)
        return wanted
    except TypeError:
        raise TargetError(f"dtype={value!r} is no numpy type") from None


def native(given: Mapping[str, Any]) -> str | None:
    """What `use_native_scale` and `realign_native` mean together."""
    realign = given.get("realign_native")
    if realign not in (None, False, "largest"):
        raise TargetError(f"realign_native={realign!r}: expected 'largest'")
    if not given.get("use_native_scale"):
        return None
    return "largest" if realign else "ragged"


def sampling(given: Mapping[str, Any]) -> Sampling:
    """What `interpolation` and `antialias` mean together."""
    antialias = given.get("antialias")
    return Sampling(given.get("interpolation") or "auto", None if antialias in (None, "auto") else bool(antialias))


def scale(value: Any) -> tuple[float, float]:
    """(along x, along y) from a number or a pair."""
    if value is None:
        return 1.0, 1.0
    pair = tuple(value) if isinstance(value, (Sequence, Mapping)) or hasattr(value, "__len__") else (value, value)
    try:
        sx, sy = (float(v) for v in pair)
    except (TypeError, ValueError):
        raise TargetError(f"scale={value!r}: expected a number or a pair (along x, along y)") from None
    if not (sx > 0 and sy > 0):
        raise TargetError(f"scale={value!r}: expected numbers above 0")
    return sx, sy


def centred(centre: float, size: float) -> tuple[int, int]:
    """
    The half-open interval of exactly `ceil(size)` pixels (at least 1) around a continuous centre, as ndsampler has it.

    Examples
    --------
    >>> centred(50, 20), centred(50.5, 3), centred(50, 19.5)
    ((40, 60), (49, 52), (40, 60))
    """
    n = max(1, ceil(size - 1e-6))
    start = floor(centre - n / 2 + 1e-9)
    return start, start + n


def interval(given: Bounds | None, centre: float | None, size: float | None, length: int) -> tuple[int, int]:
    """
    A half-open interval along one axis from what a target gives; what is not given is the whole axis.

    Examples
    --------
    >>> interval(None, 50, 20, 100), interval(None, None, None, 100)
    ((40, 60), (0, 100))
    """
    if given is not None:
        return 0 if given[0] is None else given[0], length if given[1] is None else given[1]
    if centre is None:
        return (0, length) if size is None else centred(length / 2, size)
    return centred(centre, length if size is None else size)


def metres(resolution: Any) -> float:
    """Metres per pixel from a number or from text such as '10GSD' or '0.5 m'."""
    found = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(GSD|mGSD|m|meters?|metres?)?\s*", str(resolution), re.IGNORECASE)
    try:
        value = float(found.group(1)) if found else 0.0
    except ValueError:
        value = 0.0
    if not value > 0:
        raise TargetError(f"resolution={resolution!r}: expected metres per pixel, such as 10 or '10GSD'")
    return value


def box(bounds: Any, crs: Any) -> tuple[tuple[float, ...], Any] | None:
    """A box in coordinates, (left, bottom, right, top), and their reference system, None for that of the image."""
    if bounds is None:
        if crs is not None:
            raise TargetError(
                f"crs={crs!r} says in which coordinates bounds are; give bounds=(left, bottom, right, top)"
            )
        return None
    try:
        return tuple(float(v) for v in bounds), crs
    except (TypeError, ValueError) as error:
        raise TargetError(f"bounds={bounds!r}: expected four numbers, (left, bottom, right, top)") from error
