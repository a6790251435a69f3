"""Is this a number of samples, of workers, of pixels, of an epoch?"""

from __future__ import annotations

from operator import index
from typing import Any

from ndzarr.errors import NdzarrError, OptionError


def whole(
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
    >>> whole("batch_size", 8)
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
