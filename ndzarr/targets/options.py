"""What may an option that chooses windows be?

Each function takes what a person wrote, and returns it in one form, or says what was expected.
"""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from ndzarr.errors import TargetError


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """
    A number of pixels, frames or windows.

    Raises
    ------
    TargetError
        It is no whole number, or too small, or too large.
    """
    if not isinstance(value, Integral) or int(value) < least or (most is not None and int(value) > most):
        above = "" if most is None else f" and at most {most}"
        raise TargetError(f"{name}={value!r}: expected a whole number of at least {least}{above}")
    return int(value)


def portion(name: str, value: Any) -> float:
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


def factor(name: str, value: Any) -> float:
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


def several(value: Any) -> list[Any]:
    """
    Ids or names, of which one need not be in a list.

    Examples
    --------
    >>> several("cat"), several(7), several((7, 8))
    (['cat'], [7], [7, 8])
    """
    return [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
