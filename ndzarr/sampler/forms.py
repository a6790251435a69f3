"""Of which form is a value that a person wrote?

Numbers of any library, pairs, flags and words; what has another form is None, or an error that says what was expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from math import floor, isfinite
from numbers import Integral
from typing import Any

import numpy as np

from ndzarr.errors import TargetError, did_you_mean


def real(value: Any) -> float | None:
    """A finite number, of whatever type; None for anything else."""
    if isinstance(value, str | bytes) or (hasattr(value, "ndim") and value.ndim):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def whole(value: Any) -> int | None:
    """A whole number, of whatever type; None for anything else."""
    if type(value) is int:  # nearly always
        return value
    number = real(value)
    return int(value) if number is not None and number == floor(number) else None


def several(value: Any) -> tuple[Any, ...] | None:
    """The items of what is one value per axis, in order; None for what has no items, or none in an order."""
    if type(value) is tuple:  # nearly always
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return None
    if isinstance(value, str | bytes | Mapping | Set) or not isinstance(value, Iterable):
        return None
    return tuple(value)


def flag(name: str, value: Any) -> bool | None:
    """True or False, also as 1 or 0, which tables may make of them; None if not given."""
    if value is None:
        return None
    if not isinstance(value, bool | np.bool_ | Integral | float) or value not in (0, 1):
        raise TargetError(f"{name}={value!r}: expected True or False")
    return bool(value)


def pair(name: str, value: Any) -> tuple[int, int] | None:
    """(height, width), or None."""
    if value is None:
        return None
    numbers = [whole(n) for n in several(value) or ()]
    if len(numbers) != 2 or any(n is None or n < 1 for n in numbers):
        raise TargetError(f"{name}={value!r}: expected (height, width), each at least 1")
    return numbers[0], numbers[1]  # type: ignore[return-value]


def one_of(name: str, value: Any, known: Sequence[str]) -> str | None:
    """A value that must be one of a few words; None if not given."""
    if value is None:
        return None
    if not isinstance(value, str) or value not in known:
        raise TargetError(f"{name}={value!r} is not known{did_you_mean(value, known)}")
    return str(value)
