"""Is this a number of samples, of workers, of an epoch?"""

from __future__ import annotations

from operator import index
from typing import Any

from ndzarr.errors import OptionError


def whole(name: str, value: Any, least: int = 1) -> int:
    """
    An option that counts something.

    Raises
    ------
    OptionError
        It is no whole number, or too small.

    Examples
    --------
    >>> whole("batch_size", 8)
    8
    """
    try:
        number = index(value)
    except TypeError as error:
        raise OptionError(f"{name}={value!r}: expected a whole number of at least {least}") from error
    if number < least:
        raise OptionError(f"{name}={value!r}: expected a whole number of at least {least}")
    return number
