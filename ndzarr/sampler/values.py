"""What does one value of a target mean?

Each function takes what a person wrote under a key, and returns it in one form, or says what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor, isnan
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.geometry.taps import SUPPORT
from ndzarr.pyramid.region import AUTO, Sampling
from ndzarr.sampler.forms import flag, one_of, real, several, whole

PAD_MODES = (
    "constant", "edge", "linear_ramp", "maximum", "mean", "median", "minimum", "reflect", "symmetric", "wrap", "empty",
)  # fmt: skip
"""The modes of numpy.pad."""

PAD_OPTIONS = {
    "linear_ramp": ("end_values",),
    **dict.fromkeys(("maximum", "mean", "median", "minimum"), ("stat_length",)),
    **dict.fromkeys(("reflect", "symmetric"), ("reflect_type",)),
}
"""Arguments of numpy.pad by mode; beside them, `constant_values` is understood with every mode."""


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
    if (found := whole(value)) is None:
        raise TargetError(f"{name}={want!r}: expected whole pixels; use cx, cy, width and height for others")
    return found


def window_dims(value: Any) -> Any:
    """'extent', 'square', (height, width) or None."""
    if value is None or (isinstance(value, str) and value in ("extent", "square")):
        return value
    dims = several(value) or ()
    numbers = [real(n) for n in dims]
    if len(dims) != 2 or any(n is None or n <= 0 for n in numbers):
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
    if isinstance(value, str):
        named: str | tuple[str, ...] = value.strip()
    else:
        found = several(value)
        items: list[Any] = [getattr(v, "spec", v.item() if hasattr(v, "item") else v) for v in found or ()]
        if found is None or not all(isinstance(v, str) and v for v in items):
            raise TargetError(f"channels={value!r}: expected a code such as 'r|g|b', or a list of names")
        named = tuple(items)
    if not named:
        raise TargetError(f"channels={value!r}: a target needs at least one channel; leave the key out for all")
    return named


def padding(given: Mapping[str, Any]) -> Padding:
    """What `padkw` and `fill` mean together."""
    if given.get("padkw") is None and given.get("fill") is None:
        return NO_PADDING
    asked = given.get("padkw")
    if asked is not None and not isinstance(asked, Mapping):
        raise TargetError(f"padkw={asked!r}: expected a dictionary, such as {{'mode': 'reflect'}}")
    options = dict(asked or {})
    mode = one_of("padkw mode", options.pop("mode", "constant"), PAD_MODES) or "constant"
    fills = _fill("padkw constant_values", options.pop("constant_values", None)), _fill("fill", given.get("fill"))
    if None not in fills and fills[0] != fills[1] and not (isnan(fills[0]) and isnan(fills[1])):  # type: ignore[arg-type]
        raise TargetError(f"a target has both padkw constant_values={fills[0]!r} and fill={fills[1]!r}; give only one")
    able = PAD_OPTIONS.get(mode, ())
    for name in options:
        if name not in able:
            known = did_you_mean(name, ("mode", "constant_values", *able))
            raise TargetError(f"padkw {name!r} means nothing with mode {mode!r}{known}")
    if options.get("reflect_type", "even") not in ("even", "odd"):
        raise TargetError(f"padkw reflect_type={options['reflect_type']!r}: expected 'even' or 'odd'")
    return Padding(mode, fills[0] if fills[0] is not None else fills[1], tuple(sorted(options.items())))


def _fill(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if np.ndim(value) or isinstance(value, str | bytes) or (real(value) is None and not _special(value)):
        raise TargetError(f"{name}={value!r}: expected one number for all sides")
    return value.item() if isinstance(value, np.ndarray) else value  # type: ignore[no-any-return]


def _special(value: Any) -> bool:
    """True for NaN and the infinities."""
    return isinstance(value, float | np.floating)


def pad(value: Any, along_t: bool) -> tuple[tuple[int, int], ...]:
    """(before, after) along (t, y, x) from a number, one per axis, or a pair per axis; none along t without frames."""
    if value is None:
        return ((0, 0), (0, 0), (0, 0))
    value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    axes = (value, value) if isinstance(value, Integral) else several(value) or ()
    pairs = [(a, a) if isinstance(a, Integral) else several(a) or () for a in axes]
    if len(pairs) == 2:
        pairs = [(0, 0), *pairs]
    if len(pairs) != 3 or (any(pairs[0]) and not along_t):
        raise TargetError(f"pad={value!r}: expected a number, (y, x), or for videos (t, y, x)")
    if any(len(p) != 2 or not all(isinstance(n, Integral) and int(n) >= 0 for n in p) for p in pairs):
        raise TargetError(f"pad={value!r}: expected integers of at least 0, or (before, after) per axis")
    return tuple((int(p[0]), int(p[1])) for p in pairs)


def dtype(value: Any) -> np.dtype[Any] | None:
    """A numpy type, or None."""
    if value is None:
        return None
    try:
        wanted: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise TargetError(f"dtype={value!r} is no numpy type") from None
    if wanted.kind not in "biufc":
        raise TargetError(f"dtype={value!r}: expected a type of numbers")
    return wanted


def native(given: Mapping[str, Any]) -> str | None:
    """What `use_native_scale` and `realign_native` mean together."""
    realign = given.get("realign_native")
    realign = None if isinstance(realign, bool | np.bool_) and not realign else realign
    if realign is not None and (not isinstance(realign, str) or realign != "largest"):
        raise TargetError(f"realign_native={realign!r}: expected 'largest'")
    if not flag("use_native_scale", given.get("use_native_scale")):
        return None
    for key in ("output_dims", "resolution"):
        if given.get(key) is not None:
            raise TargetError(f"a target has both use_native_scale and {key}={given[key]!r}; give only one of them")
    return "largest" if realign else "ragged"


def lazy(given: Mapping[str, Any]) -> bool:
    """What `lazy` and `finalize` mean together."""
    wanted, finalize = flag("lazy", given.get("lazy")), flag("finalize", given.get("finalize"))
    if wanted is not None and wanted == finalize:
        raise TargetError(f"a target has both lazy={wanted} and finalize={finalize}; give only one of them")
    return finalize is False if wanted is None else wanted


def sampling(given: Mapping[str, Any]) -> Sampling:
    """What `interpolation` and `antialias` mean together."""
    antialias = given.get("antialias")
    if antialias is None and given.get("interpolation") is None:
        return AUTO
    name = one_of("interpolation", given.get("interpolation"), ("auto", *SUPPORT)) or "auto"
    return Sampling(name, None if isinstance(antialias, str) and antialias == "auto" else flag("antialias", antialias))


def scale(value: Any) -> tuple[float, float]:
    """(along x, along y) from a number or a pair."""
    if value is None:
        return 1.0, 1.0
    pair = several(value) if several(value) is not None else (value, value)
    sx, sy = (real(v) for v in pair) if pair is not None and len(pair) == 2 else (None, None)
    if sx is None or sy is None:
        raise TargetError(f"scale={value!r}: expected a number or a pair (along x, along y)")
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
    numbers = [real(v) for v in several(bounds) or ()]
    if len(numbers) != 4 or None in numbers:
        raise TargetError(f"bounds={bounds!r}: expected four numbers, (left, bottom, right, top)")
    return tuple(numbers), crs  # type: ignore[arg-type]
