"""Which annotations count, by their category?

Categories are named, in any case as ndsampler has it, or given by their id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ndzarr.errors import TargetError, did_you_mean
from ndzarr.targets.options import several
from ndzarr.targets.spaces import Array

NEGATIVE = ("ignore", "background")
"""Categories that make no window positive, unless others are named; a dataset need not have them."""

BACKGROUND = "background"
"""The one of `NEGATIVE` that is no reason to ignore a window: it says that nothing is there."""


class Classes:
    """
    The categories of a dataset.

    Parameters
    ----------
    categories
        Id to kwcoco's dictionary.
    """

    def __init__(self, categories: Mapping[Any, Mapping[str, Any]]) -> None:
        self._ids: dict[str, list[Any]] = {}
        self._names: dict[str, str] = {}
        for i, category in categories.items():
            self._ids.setdefault(str(category["name"]).lower(), []).append(i)
            self._names[str(category["name"]).lower()] = str(category["name"])
        self._known = set(categories)

    def ids(self, wanted: Iterable[Any]) -> list[Any]:
        """
        Ids of the categories that are named.

        Raises
        ------
        TargetError
            There is no such category.
        """
        found: list[Any] = []
        for one in several(wanted):
            if not isinstance(one, str) and one in self._known:
                found.append(one)
            elif isinstance(one, str) and one.lower() in self._ids:
                found += self._ids[one.lower()]
            elif one not in NEGATIVE:
                raise TargetError(f"category {one!r} does not exist{did_you_mean(one, self._names.values())}")
        return found

    def among(self, category: Array, wanted: Iterable[Any]) -> Array:
        """Where annotations, given by their category ids, are of the named ones; shape (annotation,)."""
        return np.isin(category, np.array(self.ids(wanted), category.dtype))

    def counting(self, category: Array, of_interest: Iterable[Any] | None, negative: Iterable[Any]) -> Array:
        """Where annotations make a window positive: those of interest, or else all that are not negative."""
        if of_interest is not None:
            return self.among(category, of_interest)
        return ~self.among(category, negative)

    def ignored(self, category: Array, negative: Iterable[Any]) -> Array:
        """Where annotations are regions to ignore: those of negative classes other than the background."""
        background = self._ids.get(BACKGROUND, [])
        return self.among(category, [i for i in self.ids(negative) if i not in background])
