"""The plane of a pyramid that an adapter shows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self

from ndzarr._library.open import open as open_pyramid
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr.errors import OptionError


def opened(source: Any) -> Pyramid:
    """Return a pyramid, opened if it is a path."""
    return open_pyramid(source) if isinstance(source, str | os.PathLike) else source


def plane_of(pyramid: Pyramid, place: Mapping[str, int]) -> dict[str, list[int]]:
    """
    Return the positions along all axes but c, y and x.

    Raises
    ------
    OptionError
        The pyramid has several frames or planes, and `place` does not say which is meant; or it names something else.
    """
    out = {}
    leading = [d for d in pyramid.dims if d not in ("c", "y", "x")]
    for axis in place:
        if axis not in leading:
            raise OptionError(f"{pyramid.path}: has no axis {axis!r} to choose from", path=pyramid.path, key=axis)
    for axis in leading:
        if axis not in place and pyramid.sizes[axis] > 1:
            message = f"{pyramid.path}: has {pyramid.sizes[axis]} positions along {axis}"
            raise OptionError(message, path=pyramid.path, key=axis, hint=f"Say which is meant, such as {axis}=0")
        out[axis] = [int(place.get(axis, 0))]
    return out


class Reader:
    """A plane of a pyramid, in the shape of another library's reader."""

    def __init__(self, source: Any, place: Mapping[str, int]) -> None:
        self.pyramid = opened(source)
        self._place = plane_of(self.pyramid, place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: a pyramid holds no file that has to be closed."""
