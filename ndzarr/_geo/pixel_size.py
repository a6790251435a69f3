"""The physical size of a pixel: lengths along z, y and x, a time along t, and the magnification of the objective.

All sources are read into a `PixelSize`; a store records it, and `resolution=` is compared with it.  Units have those
names of UDUNITS-2 that OME-Zarr recommends (https://ngff.openmicroscopy.org/0.5/#axes-md); other units are converted
into one of these when they are read.  `parse_quantity` understands what people write: '0.5 µm', '10GSD', '20x'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from math import hypot
from typing import Any

import numpy as np

from ndzarr._validation import ErrorType, as_number
from ndzarr.errors import OptionError, did_you_mean

LENGTH, TIME, ANGLE, MAGNIFICATION = "length", "time", "angle", "magnification"
"""Kinds of units."""
PLAIN = ""
"""Unit of a number that stands alone."""
TIMES = "x"
"""Unit of a magnification."""
_AXES = ("z", "y", "x", "t")
_MOST = 1e60
"""Numbers from 1 / _MOST to _MOST can be sizes; ratios of them are floats."""

_PREFIXES = {
    "yotta": ("Y", 24), "zetta": ("Z", 21), "exa": ("E", 18), "peta": ("P", 15), "tera": ("T", 12), "giga": ("G", 9),
    "mega": ("M", 6), "kilo": ("k", 3), "hecto": ("h", 2), "": ("", 0), "deci": ("d", -1), "centi": ("c", -2),
    "milli": ("m", -3), "micro": ("µ", -6), "nano": ("n", -9), "pico": ("p", -12), "femto": ("f", -15),
    "atto": ("a", -18), "zepto": ("z", -21), "yocto": ("y", -24),
}  # fmt: skip
_UNITS: dict[str, tuple[str, float, str]] = {
    **{f"{name}meter": (f"{symbol}m", float(f"1e{power}"), LENGTH) for name, (symbol, power) in _PREFIXES.items()},
    **{f"{name}second": (f"{symbol}s", float(f"1e{power}"), TIME) for name, (symbol, power) in _PREFIXES.items()},
    "angstrom": ("Å", 1e-10, LENGTH),
    "inch": ("in", 0.0254, LENGTH),
    "foot": ("ft", 0.3048, LENGTH),
    "yard": ("yd", 0.9144, LENGTH),
    "mile": ("mi", 1609.344, LENGTH),
    "parsec": ("pc", 3.0856775814913673e16, LENGTH),
    "minute": ("min", 60.0, TIME),
    "hour": ("h", 3600.0, TIME),
    "day": ("d", 86400.0, TIME),
    "degree": ("°", 1.0, ANGLE),
    TIMES: ("x", 1.0, MAGNIFICATION),
}
"""Name of a unit to (symbol, factor to metres, seconds or degrees, kind)."""

_SPELLINGS: dict[str, tuple[str, float]] = {
    **{name: (name, 1.0) for name in _UNITS},
    **{f"{name}s": (name, 1.0) for name in _UNITS if name != TIMES},
    **{symbol: (name, 1.0) for name, (symbol, _, _) in _UNITS.items()},
    **{f"{name}metre{s}": (f"{name}meter", 1.0) for name in _PREFIXES for s in ("", "s")},
    **dict.fromkeys(("um", "micron", "microns", "mpp"), ("micrometer", 1.0)),
    **dict.fromkeys(("us", "usec", "µsec"), ("microsecond", 1.0)),
    **dict.fromkeys(("sec", "secs"), ("second", 1.0)),
    **dict.fromkeys(("msec", "msecs"), ("millisecond", 1.0)),
    **dict.fromkeys(("mins",), ("minute", 1.0)),
    **dict.fromkeys(("hr", "hrs"), ("hour", 1.0)),
    **dict.fromkeys(("gsd", "mgsd"), ("meter", 1.0)),  # ground sampling distance, as kwcoco writes it
    **dict.fromkeys(("ångström", "ångstrom"), ("angstrom", 1.0)),
    **dict.fromkeys(("inches", '"'), ("inch", 1.0)),
    **dict.fromkeys(("feet",), ("foot", 1.0)),
    **dict.fromkeys(("deg", "degs"), ("degree", 1.0)),
    **dict.fromkeys(("dam", "dekameter", "decameter"), ("meter", 10.0)),
    **dict.fromkeys(("thou", "mil"), ("inch", 1e-3)),
    **dict.fromkeys(("li", "line"), ("inch", 1 / 12)),
    **dict.fromkeys(("pt", "point"), ("inch", 1 / 72)),
    **dict.fromkeys(("ua", "au"), ("meter", 149597870700.0)),
    "ly": ("meter", 9460730472580800.0),
}
"""What files and people write to (name of the unit, factor)."""

USE_SCALE = "Use scale, and windows in pixels"
"""The hint of errors about images that do not state the size of a pixel."""
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(.*)", re.IGNORECASE | re.DOTALL)
_PER_PIXEL = re.compile(r"\s*(?:/|\bper\b)\s*(?:px|pix|pixels?)\s*$", re.IGNORECASE)


def find_unit(text: str) -> tuple[str, float] | None:
    """
    Return (name, factor) of a unit, however it is spelled; None if it is unknown.

    Symbols count as written, since Mm is not mm; other case is understood where it is not ambiguous.

    Examples
    --------
    >>> find_unit("µm"), find_unit("microns"), find_unit("GSD"), find_unit("thou")
    (('micrometer', 1.0), ('micrometer', 1.0), ('meter', 1.0), ('inch', 0.001))
    """
    # Two code points each for micro and angstrom, and UTF-8 that was once read as Latin-1.
    plain = text.strip().replace("Âµ", "µ").replace("Ã…", "Å").replace("\u03bc", "µ").replace("\u212b", "Å")
    return _SPELLINGS.get(plain) or _SPELLINGS.get(plain.lower())


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit."""

    value: float
    unit: str
    """A name of UDUNITS-2, 'x' for a magnification, or '' for a number that stands alone."""

    @property
    def base(self) -> float:
        """The value in metres, seconds or degrees."""
        return float(self.exact)

    @property
    def exact(self) -> Fraction:
        """The value in metres, seconds or degrees, by the decimals that are written: ratios of them are exact."""
        return Fraction(repr(self.value)) * Fraction(repr(_UNITS[self.unit][1]))

    @property
    def kind(self) -> str:
        """'length', 'time', 'angle', 'magnification' or '' for a number that stands alone."""
        return _UNITS[self.unit][2] if self.unit else PLAIN

    def __str__(self) -> str:
        symbol = _UNITS[self.unit][0] if self.unit else ""
        return f"{self.value:.6g}{'' if self.unit in (PLAIN, TIMES) else ' '}{symbol}"


def parse_quantity(name: str, value: Any, error: ErrorType = OptionError, position: bool = False) -> Quantity:
    """
    Return the size of a pixel or of a window that a person wrote: '0.5 µm', '500nm', '0.5 mpp', '20x', '10GSD', 10.

    A `position` may also be 0 or below.

    Examples
    --------
    >>> parse_quantity("resolution", "500 nm"), parse_quantity("resolution", 10)
    (Quantity(value=500.0, unit='nanometer'), Quantity(value=10.0, unit=''))
    """
    if isinstance(value, Quantity):
        return value
    expected = "expected a size such as '0.5um', '10GSD' or '20x', or a number"
    number, unit = (None if isinstance(value, bool) else as_number(value)), ""
    if isinstance(value, str) and (found := _QUANTITY.fullmatch(value.strip())):
        number, unit = as_number(float(found.group(1))), _PER_PIXEL.sub("", found.group(2))
    if number is None or not (
        (position and number == 0) or 1 / _MOST <= (abs(number) if position else number) <= _MOST
    ):
        raise error(f"{name}={value!r}: {expected}{'' if position else ', above 0'}", key=name)
    known = find_unit(unit) if unit else (PLAIN, 1.0)
    if known is None or (known[0] and _UNITS[known[0]][2] == TIME):
        why = "is a time" if known else f"is not a unit of length{did_you_mean(unit, _COMMON)}"
        raise error(f"{name}={value!r}: {unit!r} {why}; {expected}", key=name)
    return Quantity(number * known[1], known[0])


_COMMON = ("nm", "um", "mm", "cm", "m", "km", "mpp", "GSD", "x", "ft")
"""Units that messages name."""


def is_physical(value: object) -> bool:
    """Return True for a length that a person wrote with its unit, rather than as a number of pixels."""
    return isinstance(value, Quantity) or (isinstance(value, str) and _QUANTITY.fullmatch(value.strip()) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSize:
    """The size of a native pixel; what is not known is None."""

    z: Quantity | None = None
    """Distance of planes."""
    y: Quantity | None = None
    """Height: a length, or an angle where coordinates are degrees."""
    x: Quantity | None = None
    """Width: a length, or an angle where coordinates are degrees."""
    t: Quantity | None = None
    """Time between frames."""
    magnification: float | None = None
    """Nominal magnification of the objective, 20 for 20x."""
    source: str = ""
    """What states y and x, such as 'OME-XML'."""

    @property
    def known(self) -> bool:
        """True if anything is known."""
        return any(v is not None for v in (self.z, self.y, self.x, self.t, self.magnification))

    @property
    def unit(self) -> str | None:
        """Unit of a resolution that is a number alone: that of x; None if no size is known."""
        known = self.x or self.y
        return None if known is None else known.unit

    def filled(self, other: PixelSize) -> PixelSize:
        """Return this size with what it lacks taken from another one; y and x are taken together."""
        out = self
        if self.y is None is self.x and (other.y or other.x):
            out = replace(out, y=other.y, x=other.x, source=other.source)
        missing = {n: getattr(other, n) for n in ("z", "t", "magnification") if getattr(out, n) is None}
        return replace(out, **missing)

    def stepped(self, steps: Mapping[str, float]) -> PixelSize:
        """Return the size of steps of so many pixels along some axes; those along x divide the magnification."""
        sizes: dict[str, Any] = {
            a: Quantity(v.value * n, v.unit) for a, n in steps.items() if (v := getattr(self, a)) is not None
        }
        seen = None if self.magnification is None else self.magnification / steps.get("x", 1.0)
        return replace(self, **sizes, magnification=seen)

    def transposed(self) -> PixelSize:
        """Return the size after rows have become columns."""
        return replace(self, y=self.x, x=self.y)

    def transformed(self, matrix: np.ndarray[Any, Any]) -> PixelSize:
        """Return the size of the pixels of a space into which a 3x3 matrix maps these pixels."""
        if np.array_equal(matrix, np.eye(3)) or self.x is None or self.y is None or self.x.kind != self.y.kind:
            return self
        back = np.linalg.inv(matrix)  # how far one pixel of the space reaches, in pixels of this size
        height = float(self.y.exact / Quantity(1.0, self.x.unit).exact)
        across, down = (hypot(back[0, k] * self.x.value, back[1, k] * height) for k in (0, 1))
        seen = None if self.magnification is None else self.magnification * self.x.value / across
        return replace(self, y=Quantity(down, self.x.unit), x=Quantity(across, self.x.unit), magnification=seen)

    def scale_to(self, wanted: Quantity, name: str, error: ErrorType = OptionError) -> tuple[float, float]:
        """
        Return output pixels per pixel along (x, y), so that an output pixel has the size that is wanted.

        `name` is the path of the image.  Raise `error` if the image does not say what is needed to know.
        """
        if wanted.unit == TIMES:
            if self.magnification is None:
                message = f"{name}: states no magnification of an objective, so resolution='{wanted}' has no meaning"
                raise error(message, path=name, key="resolution", hint="Give a length, such as '0.5um'")
            return (wanted.value / self.magnification,) * 2
        if wanted.unit == PLAIN and self.unit is not None:
            wanted = Quantity(wanted.value, self.unit)
        return float(1 / self._pixels("x", wanted, name, error)), float(1 / self._pixels("y", wanted, name, error))

    def pixels(self, axis: str, length: Quantity, name: str, error: ErrorType = OptionError) -> float:
        """Return how many pixels along an axis have a length together; raise `error` if that cannot be known."""
        return float(self._pixels(axis, length, name, error))

    def whole_pixels(self, axis: str, length: Quantity | float, name: str, error: ErrorType) -> float:
        """Return a number of pixels as it is, and a length as the nearest whole number of pixels, at least 1."""
        if not isinstance(length, Quantity):
            return length
        return max(1, round(self._pixels(axis, length, name, error)))

    def _pixels(self, axis: str, length: Quantity, name: str, error: ErrorType) -> Fraction:
        have: Quantity | None = getattr(self, axis)
        if have is None:
            message = f"{name}: a resolution or a length needs the size of a pixel along {axis}; it states none"
            raise error(message, path=name, key="resolution", hint=USE_SCALE)
        if have.kind != length.kind:
            message = f"{name}: a resolution or a length of {length} does not compare with its pixels of {have}"
            raise error(message, path=name, key="resolution", hint=USE_SCALE)
        return length.exact / have.exact

    def __str__(self) -> str:
        words = [f"{axis} {size}" for axis in _AXES if (size := getattr(self, axis)) is not None]
        if self.x is not None and self.y is not None and (self.x, self.z) == (self.y, None):
            words[:2] = [str(self.x)]
        if self.magnification is not None:
            words.append(f"{self.magnification:g}x")
        return ", ".join(words) + (f" ({self.source})" if self.source else "")

    def as_json(self) -> dict[str, Any]:
        """Return the form in which a store records it: axis to {'size', 'unit'}, and the rest."""
        out: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value != "":
                out[field.name] = {"size": value.value, "unit": value.unit} if isinstance(value, Quantity) else value
        return out

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> PixelSize:
        """Return what `as_json` recorded; what it cannot have recorded is left out."""
        sizes = {
            axis: Quantity(number, v["unit"])
            for axis in _AXES
            if isinstance(v := found.get(axis), Mapping)
            and (number := as_number(v.get("size"))) is not None
            and number > 0
            and v.get("unit") in _UNITS
        }
        return cls(**sizes, magnification=as_number(found.get("magnification")), source=str(found.get("source", "")))


NOT_KNOWN = PixelSize()
"""What a source says that states no size."""


class Statements:
    """Sizes that a file states, checked one by one; what cannot be a size becomes a note."""

    def __init__(self, source: str, notes: list[str]) -> None:
        self.source = source
        self.notes = notes

    def quantity(self, name: str, value: object, unit: object, kind: str = LENGTH) -> Quantity | None:
        """Return a size; None if the file does not state it (None), or states what cannot be one."""
        if value is None:
            return None
        number = self.number(name, value)
        if number is None:
            return None
        known = find_unit(str(unit))
        if known is None or _UNITS[known[0]][2] != kind:
            self.notes.append(f"{self.source}: {name} is {value} {unit}, whose unit is unknown; it was left out")
            return None
        return Quantity(number * known[1], known[0])

    def number(self, name: str, value: object) -> float | None:
        """Return a number above 0; None if the file states none (None), or something else."""
        if value is None:
            return None
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = float("nan")
        if 1 / _MOST <= number <= _MOST:  # not so for NaN
            return number
        self.notes.append(f"{self.source}: {name} is {value}, which is not a size; it was left out")
        return None
