"""
Checks and conversions of values that a person wrote.

`as_*` functions convert a value, and return None for one of another form. `check_*` functions return the value as a
plain Python object, or raise `error` with a message that names the option and echoes the value.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Hashable, Iterable, Mapping, Set
from functools import partial
from math import floor, isfinite
from numbers import Integral, Real
from operator import index
from typing import Any, TypeAlias

import numpy as np

from ndzarr.errors import NdzarrError, OptionError, TargetError, did_you_mean

ErrorType: TypeAlias = type[NdzarrError]


def as_number(value: object) -> float | None:
    """Return a finite number of any numeric type or spelling as a float."""
    if isinstance(value, str | bytes) or getattr(value, "ndim", False):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever has __float__
    except (TypeError, ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def as_integer(value: object) -> int | None:
    """Return a whole number of any numeric type as an int: 3, 3.0, numpy.int8(3)."""
    if type(value) is int:  # nearly always
        return value
    number = as_number(value)
    return int(value) if number is not None and number == floor(number) else None  # type: ignore[call-overload]


def as_tuple(value: object) -> tuple[Any, ...] | None:
    """Return the items of an ordered collection; None for scalars, strings, mappings and sets."""
    if type(value) is tuple:  # nearly always
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return None
    if isinstance(value, str | bytes | Mapping | Set) or not isinstance(value, Iterable):
        return None
    return tuple(value)


def as_list(value: Any) -> list[Any]:
    """
    Return ids or names as a list; a single one need not be in a list.

    Examples
    --------
    >>> as_list("cat"), as_list(7), as_list((7, 8))
    (['cat'], [7], [7, 8])
    """
    return [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)


def check_count(name: str, value: Any, least: int = 1, most: int | None = None, error: ErrorType = OptionError) -> int:
    """
    Return a whole number within bounds, both included.

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
        raise error(f"{name}={value!r}: expected a whole number of at least {least}{above}", key=name)
    return number


check_target_count = partial(check_count, error=TargetError)
"""`check_count` of an option that chooses windows."""


def check_fraction(name: str, value: Any, error: ErrorType = TargetError) -> float:
    """Return a number from 0 to 1, both included."""
    if not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise error(f"{name}={value!r}: expected a number from 0 to 1", key=name)
    return float(value)


def check_factor(name: str, value: Any, error: ErrorType = TargetError) -> float:
    """Return a number above 0."""
    if not isinstance(value, Real) or not float(value) > 0:
        raise error(f"{name}={value!r}: expected a factor above 0", key=name)
    return float(value)


def check_choice(
    name: str, value: object, known: Collection[str], error: ErrorType = OptionError, default: str | None = None
) -> str:
    """Return one of the known words; the default, if there is one, for None."""
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or value not in known:
        key = name.partition(" ")[0]  # "padkw mode" is a part of `padkw`
        raise error(f"{name}={value!r} is not known{did_you_mean(value, known)}", key=key)
    return str(value)


def check_flag(name: str, value: object, error: ErrorType = TargetError) -> bool | None:
    """Return True or False, also for the 1 and 0 that tables make of them; None for None."""
    if value is None:
        return None
    if not isinstance(value, bool | np.bool_ | Integral | float) or value not in (0, 1):
        raise error(f"{name}={value!r}: expected True or False", key=name)
    return bool(value)


def check_size(name: str, value: object, error: ErrorType = TargetError) -> tuple[int, int] | None:
    """Return (height, width), each at least 1; None for None."""
    if value is None:
        return None
    numbers = [n for n in map(as_integer, as_tuple(value) or ()) if n is not None and n >= 1]
    if len(numbers) != 2 or len(as_tuple(value) or ()) != 2:
        raise error(f"{name}={value!r}: expected (height, width), each at least 1", key=name)
    return numbers[0], numbers[1]


def check_slices(name: str, value: object, lengths: Collection[int], error: ErrorType = TargetError) -> tuple[Any, ...]:
    """Return the slices of [t,] y and x, of which `lengths` says how many there may be; () for None."""
    if value is None:
        return ()
    found = as_tuple(value)
    if found is None or len(found) not in lengths:
        axes = "(slice along y, slice along x)"
        longer = " or (slice along t, slice along y, slice along x)" if 3 in lengths else ""
        raise error(f"{name}={value!r}: expected {axes}{longer}", key=name)
    return found


def check_time_slice(value: object, name: str = "time_slice", error: ErrorType = TargetError) -> slice | int | None:
    """Return a slice of whole numbers, or one position; None for None, which stands for all frames."""
    if value is None:
        return None
    if isinstance(value, slice):
        given = value.start, value.stop, value.step
        parts = [None if part is None else as_integer(part) for part in given]
        if parts.count(None) == given.count(None):
            return slice(*parts)
    elif isinstance(value, Integral):
        return int(value)
    raise error(f"{name}={value!r}: expected slice(start, stop, step) of whole numbers, or one position", key=name)


def check_id(key: str, value: Any, error: ErrorType = TargetError) -> Any:
    """Return an id of a kwcoco dictionary; the numbers of tables and arrays become Python's."""
    if type(value) in (int, str, type(None)):
        return value
    if isinstance(value, np.generic | np.ndarray) and not value.ndim:
        return value.item()
    if not isinstance(value, Hashable):
        expected = "ids in an order" if key == "gids" else "one id; gids takes several"
        raise error(f"{key}={value!r}: expected {expected}", key=key)
    return value


def check_ids(value: Any, key: str = "gids", error: ErrorType = TargetError) -> tuple[Any, ...]:
    """Return the ids of at least one image, in order; a single id need not be in a list."""
    found = as_tuple(value)
    ids = (value,) if found is None else found
    if not ids:
        raise error(f"{key}=[]: a target needs at least one image", key=key)
    return tuple([check_id(key, i, error) for i in ids])


def is_path(value: object) -> bool:
    """Return True for what the system takes as a path: no NUL, nothing that its encoding does not have."""
    if not isinstance(value, str | os.PathLike):
        return False
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def is_missing(value: object) -> bool:
    """Return True for the values that tables use for nothing: None, NaN, NaT and NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and value != value


def drop_missing(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a table without its missing values."""
    return {str(name): value for name, value in row.items() if not is_missing(value)}


def shortened(value: object) -> str:
    """
    Return a value of a file as messages show it: no longer than a line.

    Examples
    --------
    >>> shortened([1, 2]), len(shortened("a" * 1000))
    ('[1, 2]', 60)
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # numbers of thousands of digits, nested lists
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
