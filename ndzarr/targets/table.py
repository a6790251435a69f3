"""Targets as a table, a dictionary or a list of dictionaries.

Whatever takes many targets takes all of these.  Rows of a table become dictionaries only when they are asked for, so
that a table of a million rows costs nothing beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from ndzarr._sampling.target import ALIASES
from ndzarr._validation import drop_missing, is_missing
from ndzarr.errors import TargetError

if TYPE_CHECKING:
    import pandas


TargetsLike: TypeAlias = "pandas.DataFrame | Mapping[str, Any] | Iterable[Mapping[str, Any]]"
"""A table with a column per key, one target, or any number of them."""


class Rows(Sequence[dict[str, Any]]):
    """
    A sequence of targets, each made into a dictionary when it is asked for.

    In a table, a missing value (None, NaN, NaT, NA) means that the target does not have that key.

    Examples
    --------
    >>> import pandas
    >>> Rows(pandas.DataFrame({"gid": [1, 2], "cx": [5.0, None]}))[1]
    {'gid': 2}
    """

    def __init__(self, targets: TargetsLike | Rows) -> None:
        self._items: Any
        if isinstance(targets, Rows):
            self._items = targets._items
        elif hasattr(targets, "iloc") and hasattr(targets, "columns"):
            names = targets.columns
            if not names.is_unique:
                twice = list(map(str, names[names.duplicated()].unique()))
                message = f"the table of targets has more than one column named {', '.join(twice)}"
                raise TargetError(message, key=twice[0], hint="Drop the others")
            self._items = targets
        elif isinstance(targets, Mapping) or (hasattr(targets, "keys") and hasattr(targets, "iloc")):  # a Series
            self._items = [targets]
        elif isinstance(targets, Iterable) and not isinstance(targets, str | bytes):
            self._items = _dictionaries(targets)
        else:
            raise TargetError(
                f"targets={targets!r}: expected a target, a sequence of targets or a pandas table", key="targets"
            )

    @property
    def frame(self) -> pandas.DataFrame | None:
        """The table; None for dictionaries."""
        return None if isinstance(self._items, list) else self._items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | Rows:
        if isinstance(index, slice):
            return Rows(self._items[index] if self.frame is None else self._items.iloc[index])
        if self.frame is None:
            item = self._items[index]
            if not isinstance(item, Mapping) and not hasattr(item, "iloc"):
                raise TargetError(
                    f"targets[{index}]={item!r}: expected a dictionary, such as {{'gid': 1}}", key="targets"
                )
            return drop_missing(item) if hasattr(item, "iloc") else dict(item)
        row = self._items.iloc[index : index + 1 or None]
        return list(Rows(row))[0]  # noqa: RUF015

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.frame is None:
            return iter([self[k] for k in range(len(self._items))])
        columns = {str(name): self._items[name].tolist() for name in self._items.columns}
        return iter([_row(columns, k) for k in range(len(self._items))])

    def take(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> Rows:
        """Return some of them, in the order given."""
        if self.frame is None:
            return Rows([self._items[int(k)] for k in indices])
        chosen = np.asarray(indices, np.intp)
        columns = {name: values[chosen].tolist() for name, values in self._columns.items()}
        return Rows([_row(columns, k) for k in range(len(chosen))])

    @cached_property
    def _columns(self) -> dict[str, np.ndarray[Any, Any]]:
        """The table as arrays: they are indexed many times as fast as a table."""
        return {str(name): self._items[name].to_numpy() for name in self._items.columns}

    def __reduce__(self) -> tuple[Any, ...]:
        return Rows, (self._items,)


def as_table(targets: TargetsLike | Rows) -> pandas.DataFrame:
    """Return targets in any form as a table."""
    import pandas

    rows = Rows(targets)
    return pandas.DataFrame(list(rows)) if rows.frame is None else rows.frame


def aligned(cells: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """Return the lines of a text table, with columns flush right but for those of `left`."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    pads = [str.ljust if k in left else str.rjust for k in range(len(widths))]
    return ["  ".join(pad(t, w) for pad, t, w in zip(pads, line, widths, strict=True)).rstrip() for line in cells]


def without_aliases(table: pandas.DataFrame) -> pandas.DataFrame:
    """Return a table with one column per key, under the key's own name."""
    for alias, name in ALIASES.items():
        if alias in table and name in table:
            table = table.assign(**{name: table[name].where(table[name].notna(), table[alias])}).drop(columns=alias)
    return table.rename(columns=ALIASES)


def _dictionaries(targets: Iterable[Any]) -> list[Any]:
    items = list(targets)
    for k, item in enumerate(items):
        if not isinstance(item, Mapping) and not hasattr(item, "iloc"):  # or a Series
            message = f"targets[{k}]={item!r}: expected a dictionary with keys such as gid, cx and cy"
            raise TargetError(message, key="targets")
    return items


def _row(columns: Mapping[str, list[Any]], k: int) -> dict[str, Any]:
    return {name: values[k] for name, values in columns.items() if not is_missing(values[k])}
