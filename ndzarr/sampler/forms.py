"""Of which form is a value that a person wrote?

Numbers of any library, pairs, flags and words; what has another form is None, or an error that says what was expected.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
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


def slices(name: str, value: Any, lengths: Sequence[int]) -> tuple[Any, ...]:
    """The slices of several axes; none if not given."""
    if value is None:
        return ()
    found = several(value)
    if found is None or len(found) not in lengths:
        axes = "(slice along y, slice along x)"
        longer = " or (slice along t, slice along y, slice along x)" if 3 in lengths else ""
        raise TargetError(f"{name}={value!r}: expected {axes}{longer}")
    return found


def time(value: Any, name: str = "time_slice") -> Any:
    """A slice of whole numbers, or one of them; None for all frames."""
    if value is None:
        return None
    if isinstance(value, slice):
        given = value.start, value.stop, value.step
        parts = [None if part is None else whole(part) for part in given]
        if parts.count(None) == given.count(None):
            return slice(*parts)
    elif isinstance(value, Integral):
        return int(value)
    raise TargetError(f"{name}={value!r}: expected slice(start, stop, step) of whole numbers, or one position")


def ids_of_images(value: Any) -> tuple[Any, ...]:
    """What `gids` means: at least one id, in an order."""
    found = several(value)
    ids = (value,) if found is None else found
    if not ids:
        raise TargetError("gids=[]: a target needs at least one image")
    return tuple([one_id("gids", i) for i in ids])


def one_id(key: str, value: Any) -> Any:
    """An id of a kwcoco dictionary: numbers from tables and arrays become Python's."""
    if type(value) in (int, str, type(None)):
        return value
    if isinstance(value, np.generic | np.ndarray) and not value.ndim:
        return value.item()
    if not isinstance(value, Hashable):
        raise TargetError(
            f"{key}={value!r}: expected {'ids in an order' if key == 'gids' else 'one id; gids takes several'}"
        )
    return value
