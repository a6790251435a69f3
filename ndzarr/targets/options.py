"""What may an option that chooses windows be?

Each function takes what a person wrote, and returns it in one form, or says what was expected.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from numbers import Real
from typing import Any

from ndzarr import counts
from ndzarr.errors import TargetError

whole = partial(counts.whole, error=TargetError)
"""A number of pixels, frames or windows."""


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
