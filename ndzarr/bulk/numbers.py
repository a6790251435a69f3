"""Is this a number of samples, shards or workers?"""

from __future__ import annotations

from operator import index
from typing import Any

from ndzarr.errors import OptionError


def at_least_one(name: str, value: Any) -> int:
    """
    An option that counts something.

    Raises
    ------
    OptionError
        It is no whole number, or below 1.

    Examples
    --------
    >>> at_least_one("batch_size", 8)
    8
    """
    try:
        number = index(value)
    except TypeError as error:
        raise OptionError(f"{name}={value!r}: expected a whole number of at least 1") from error
    if number < 1:
        raise OptionError(f"{name}={value!r}: expected a whole number of at least 1")
    return number
