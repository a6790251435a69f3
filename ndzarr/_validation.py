"""Is this a number of samples, of workers, of pixels, of an epoch?"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from functools import partial
from math import floor, isfinite
from numbers import Integral, Real
from operator import index
from typing import Any

import numpy as np

from ndzarr.errors import NdzarrError, OptionError, TargetError, did_you_mean


def check_count(
    name: str, value: Any, least: int = 1, most: int | None = None, error: type[NdzarrError] = OptionError
) -> int:
    """
    An option that counts something.

    Parameters
    ----------
    error
        What is raised.

    Raises
    ------
    NdzarrError
        It is no whole number, or too small, or too large.

    Examples
    --------
    >>> check_count("batch_size", 8)
    8
    """
    try:
        number = index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        above = "" if most is None else f" and at most {most}"
        raise error(f"{name}={value!r}: expected a whole number of at least {least}{above}")
    return number


# --- What may an option that chooses windows be?


check_target_count = partial(check_count, error=TargetError)
"""A number of pixels, frames or windows."""


def check_fraction(name: str, value: Any) -> float:
    """
    A number from 0 to 1, both included.

    Raises
    ------
    TargetError
        It is none.
    """
    if not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise TargetError(f"{name}={value!r}: expected a number from 0 to 1")
    return float(value)


def check_factor(name: str, value: Any) -> float:
    """
    A number above 0.

    Raises
    ------
    TargetError
        It is none.
    """
    if not isinstance(value, Real) or not float(value) > 0:
        raise TargetError(f"{name}={value!r}: expected a factor above 0")
    return float(value)


def as_list(value: Any) -> list[Any]:
    """
    Ids or names, of which one need not be in a list.

    Examples
    --------
    >>> as_list("cat"), as_list(7), as_list((7, 8))
    (['cat'], [7], [7, 8])
    """
    return [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)


# --- Of which form is a value that a person wrote?


def as_number(value: Any) -> float | None:
    """A finite number, of whatever type; None for anything else."""
    if isinstance(value, str | bytes) or (hasattr(value, "ndim") and value.ndim):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def as_integer(value: Any) -> int | None:
    """A whole number, of whatever type; None for anything else."""
    if type(value) is int:  # nearly always
        return value
    number = as_number(value)
    return int(value) if number is not None and number == floor(number) else None


def as_tuple(value: Any) -> tuple[Any, ...] | None:
    """The items of what is one value per axis, in order; None for what has no items, or none in an order."""
    if type(value) is tuple:  # nearly always
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return None
    if isinstance(value, str | bytes | Mapping | Set) or not isinstance(value, Iterable):
        return None
    return tuple(value)


def as_flag(name: str, value: Any) -> bool | None:
    """True or False, also as 1 or 0, which tables may make of them; None if not given."""
    if value is None:
        return None
    if not isinstance(value, bool | np.bool_ | Integral | float) or value not in (0, 1):
        raise TargetError(f"{name}={value!r}: expected True or False")
    return bool(value)


def as_size(name: str, value: Any) -> tuple[int, int] | None:
    """(height, width), or None."""
    if value is None:
        return None
    numbers = [as_integer(n) for n in as_tuple(value) or ()]
    if len(numbers) != 2 or any(n is None or n < 1 for n in numbers):
        raise TargetError(f"{name}={value!r}: expected (height, width), each at least 1")
    return numbers[0], numbers[1]  # type: ignore[return-value]


def as_choice(name: str, value: Any, known: Sequence[str]) -> str | None:
    """A value that must be one of a few words; None if not given."""
    if value is None:
        return None
    if not isinstance(value, str) or value not in known:
        raise TargetError(f"{name}={value!r} is not known{did_you_mean(value, known)}")
    return str(value)


def as_slices(name: str, value: Any, lengths: Sequence[int]) -> tuple[Any, ...]:
    """The slices of several axes; none if not given."""
    if value is None:
        return ()
    found = as_tuple(value)
    if found is None or len(found) not in lengths:
        axes = "(slice along y, slice along x)"
        longer = " or (slice along t, slice along y, slice along x)" if 3 in lengths else ""
        raise TargetError(f"{name}={value!r}: expected {axes}{longer}")
    return found


def as_time_slice(value: Any, name: str = "time_slice") -> Any:
    """A slice of whole numbers, or one of them; None for all frames."""
    if value is None:
        return None
    if isinstance(value, slice):
        given = value.start, value.stop, value.step
        parts = [None if part is None else as_integer(part) for part in given]
        if parts.count(None) == given.count(None):
            return slice(*parts)
    elif isinstance(value, Integral):
        return int(value)
    raise TargetError(f"{name}={value!r}: expected slice(start, stop, step) of whole numbers, or one position")


def as_ids(value: Any) -> tuple[Any, ...]:
    """What `gids` means: at least one id, in an order."""
    found = as_tuple(value)
    ids = (value,) if found is None else found
    if not ids:
        raise TargetError("gids=[]: a target needs at least one image")
    return tuple([as_id("gids", i) for i in ids])


def as_id(key: str, value: Any) -> Any:
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


# --- How do a table, a dictionary and a list of dictionaries become targets?


def present(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without its missing values."""
    return {str(name): value for name, value in row.items() if not is_missing(value)}


def is_missing(value: Any) -> bool:
    """True for None, NaN, NaT and NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and value != value
