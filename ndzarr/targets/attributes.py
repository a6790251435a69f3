"""Values of attributes for the rows of a table, and categories by name.

An attribute is named as a column of the table, as 'category', or as a key of kwcoco's dictionaries:
'image.sensor_coarse', 'video.name', 'annot.weight', 'category.supercategory'.  A row may have several values: a window
that holds boats and cars has both.  Dictionaries are looked up once per id; rows are handled as whole columns.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._sampling.annotations import NO_ID
from ndzarr._validation import as_list
from ndzarr.errors import TargetError, did_you_mean
from ndzarr.targets.windows import Array, ramps, window_columns

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.protocols import SampleSource


KINDS = ("image", "video", "annot", "category")  # tables of kwcoco whose dictionaries have attributes


@dataclass(frozen=True, slots=True, eq=False)
class Membership:
    """The values of an attribute that each row has."""

    name: str
    values: tuple[Any, ...]  # different values, sorted; None stands for rows that have none
    row: Array  # ascending; every row has at least one entry, and no value twice; shape (entry,)
    code: Array  # position among `values`; shape (entry,)


def membership(source: SampleSource, table: pandas.DataFrame, name: str) -> Membership:
    """Return the values of an attribute for all rows."""
    if name in table:
        row, cells = _cells(table[name])
        values, code = _factorized(cells)
        return _membership(name, len(table), row, code, values)
    kind, _, key = name.partition(".")
    if kind not in KINDS:
        raise TargetError(
            f"{name!r} is neither a column of the table nor an attribute{did_you_mean(name, [*table.columns, *KINDS])} "
            "(attributes are named as 'image.sensor_coarse')",
            key=name,
        )
    if kind == "category":
        row, ids = _categories(source, table)
        key = key or "name"
    elif kind == "annot":
        row, ids = _annotations(table)
    else:
        row, ids = (_images if kind == "image" else _videos)(source, table)
    index = source.dset.index
    tables = dict(zip(KINDS, (index.imgs, index.videos, index.anns, index.cats), strict=True))
    records: Mapping[Any, Mapping[str, Any]] = tables[kind]
    different, code = _factorized(ids)
    lists = [_values_of_cell(records[i].get(key) if i in records else None) if key else (i,) for i in different]
    if key and different and not any(key in records.get(i, ()) for i in different):
        known = dict.fromkeys(chain.from_iterable(records.get(i, ()) for i in different))
        raise TargetError(f"{name!r}: no {kind} of the table has {key!r}{did_you_mean(key, known)}", key=name)
    number = np.array([len(found) for found in lists], np.int64)
    first = np.cumsum(number) - number
    each = number[code]
    flat, value = _factorized(list(chain.from_iterable(lists)))
    entry = np.repeat(first[code], each) + ramps(each)  # where the values of each (row, id) lie in the flat list
    return _membership(name, len(table), np.repeat(row, each), value[entry], flat)


def _values_of_cell(value: Any) -> Sequence[Any]:
    """Return the items of a list, one value, or nothing for a missing value."""
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return [_hashable(v) for v in value]
    missing = value is None or value != value or type(value).__name__ in ("NAType", "NaTType")
    return () if missing else (_hashable(value),)


def _hashable(value: Any) -> Any:
    if isinstance(value, (list, np.ndarray)):
        return tuple(value)
    return str(value) if isinstance(value, (dict, set)) else value


def _cells(column: pandas.Series) -> tuple[Array, Any]:
    """Return (row, value) of all values of a column, whose cells may be lists; missing values are left out."""
    n = len(column)
    if column.dtype.kind in "biuf":
        present = column.notna().to_numpy(bool)
        return np.flatnonzero(present), column.to_numpy()[present]
    values = column.tolist() if column.dtype == object else []
    if any(isinstance(v, (list, tuple, set, frozenset, np.ndarray, dict)) for v in values):
        lists = [_values_of_cell(v) for v in values]
        number = np.fromiter(map(len, lists), np.int64, n)
        return np.repeat(np.arange(n), number), list(chain.from_iterable(lists))
    present = column.notna().to_numpy(bool)
    return np.flatnonzero(present), column[present].tolist()


def _factorized(values: Any) -> tuple[list[Any], Array]:
    """Return the different values, and the position of each value among them."""
    import pandas

    if not isinstance(values, np.ndarray):
        boxed = np.empty(len(values), object)
        boxed[:] = values
        values = boxed
    code, different = pandas.factorize(values)
    return [v.item() if isinstance(v, np.generic) else v for v in different], np.asarray(code, np.int64)


def _membership(name: str, n: int, row: Array, code: Array, values: Sequence[Any]) -> Membership:
    """Sort the values, drop repeated entries, and add an entry for each row that has none."""
    order = sorted(range(len(values)), key=lambda k: _sort_key(values[k]))
    rank = np.empty(len(values), np.int64)
    rank[order] = np.arange(len(values))
    without = np.ones(n, bool)
    without[row] = False
    bare = np.flatnonzero(without)
    row, code = np.r_[row, bare], np.r_[rank[code], np.full(len(bare), len(values))]
    names = [values[k] for k in order] + [None] * bool(len(bare))
    entries = np.sort(row * (len(names) or 1) + code)  # np.unique takes ten times as long for a million
    entries = entries[np.r_[True, entries[1:] > entries[:-1]]] if len(entries) else entries
    row, code = np.divmod(entries, len(names) or 1)
    used = np.bincount(code, minlength=len(names)) > 0
    return Membership(name, tuple(v for v, u in zip(names, used, strict=True) if u), row, (np.cumsum(used) - 1)[code])


def _sort_key(value: Any) -> tuple[Any, ...]:
    return (0, value, "") if isinstance(value, (int, float)) else (1, 0, str(value))


def _images(source: SampleSource, table: pandas.DataFrame) -> tuple[Array, Any]:
    if "gid" in table and "vidid" not in table and "gids" not in table and table["gid"].notna().all():
        return _cells(table["gid"])
    found = window_columns(table, source)
    row, frame = found.real_entries()
    gids = np.empty(len(found.gids), object)
    gids[:] = found.gids
    return row, gids[frame]


def _videos(source: SampleSource, table: pandas.DataFrame) -> tuple[Array, Any]:
    row, gids = _images(source, table)
    different, code = _factorized(gids)
    videos = [source.dataset.video_of(g) if g in source.dset.index.imgs else None for g in different]
    return _looked_up(row, code, videos)


def _annotations(table: pandas.DataFrame, others: str = "") -> tuple[Array, Any]:
    for name in ("annot_ids", "aid", "annot_id"):
        if name in table:
            return _cells(table[name])
    message = f"the table has no column {others}annot_ids or aid, to say what a window holds"
    raise TargetError(message, key="annot_ids", hint="Use a table from sampler.targets, or add one")


def _categories(source: SampleSource, table: pandas.DataFrame) -> tuple[Array, Any]:
    for name in ("category_ids", "category_id"):
        if name in table:
            row, ids = _cells(table[name])
            if len(ids) and isinstance(ids, np.ndarray) and ids.dtype.kind in "if":
                return row[ids != NO_ID], ids[ids != NO_ID]
            return row, ids
    row, aids = _annotations(table, "category_ids, category_id, ")
    different, code = _factorized(aids)
    anns = source.dset.index.anns
    return _looked_up(row, code, [anns[a].get("category_id") if a in anns else None for a in different])


def _looked_up(row: Array, code: Array, found: Sequence[Any]) -> tuple[Array, Array]:
    """Return (row, value) where a value was found for the code of a row."""
    values = np.empty(len(found), object)
    values[:] = found
    keep = np.array([v is not None for v in found], bool)[code]
    return row[keep], values[code][keep]


NEGATIVE = ("ignore", "background")
"""Categories that do not make a window positive, unless others are named; a dataset need not have them."""

BACKGROUND = "background"
"""The one of `NEGATIVE` that is not a reason to ignore a window: it says that nothing is there."""

Names: TypeAlias = Iterable[Hashable]  # names or ids of categories; one alone need not be in a list


class Categories:
    """The categories of a dataset (id to kwcoco's dictionary), looked up by name or id."""

    def __init__(self, records: Mapping[Any, Mapping[str, Any]]) -> None:
        self._ids: dict[str, list[Any]] = {}
        self._names: dict[str, str] = {}
        for i, category in records.items():
            self._ids.setdefault(str(category["name"]).lower(), []).append(i)
            self._names[str(category["name"]).lower()] = str(category["name"])
        self._known = set(records)

    def ids(self, option: str, wanted: Names) -> list[Any]:
        """Return the ids of the categories that an option names."""
        found: list[Any] = []
        for one in as_list(wanted):
            if not isinstance(one, str) and one in self._known:
                found.append(one)
            elif isinstance(one, str) and one.lower() in self._ids:
                found += self._ids[one.lower()]
            elif one not in NEGATIVE:
                known = did_you_mean(one, self._names.values())
                raise TargetError(f"{option}={one!r}: no such category{known}", key=option)
        return found

    def among(self, category: Array, option: str, wanted: Names) -> Array:
        """Return True for annotations of the named categories, given the category ids of all; shape (annotation,)."""
        return np.isin(category, np.array(self.ids(option, wanted), category.dtype))

    def positive(self, category: Array, of_interest: Names | None, negative: Names) -> Array:
        """Return True for annotations that make a window positive: of interest, else all but the negative ones."""
        if of_interest is None:
            return ~self.among(category, "negative_classes", negative)
        return self.among(category, "classes_of_interest", of_interest)

    def ignored(self, category: Array, negative: Names) -> Array:
        """Return True for regions to ignore: annotations of negative categories other than the background."""
        background = self._ids.get(BACKGROUND, [])
        ids = [i for i in self.ids("negative_classes", negative) if i not in background]
        return self.among(category, "negative_classes", ids)
