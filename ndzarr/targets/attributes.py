"""Which values of an attribute does each row of a table have?

An attribute is named as a column of the table, as 'category', or as a key of kwcoco's dictionaries:
'image.sensor_coarse', 'video.name', 'annot.weight', 'category.supercategory'.  A row may have several values: a window
that holds boats and cars has both.  Dictionaries are looked up once per id; rows are handled as whole columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._sampling.annotations import NO_ID
from ndzarr.errors import TargetError, did_you_mean
from ndzarr.targets.windows import footprints

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.protocols import SampleSource


Array: TypeAlias = "np.ndarray[Any, Any]"

KINDS = ("image", "video", "annot", "category")
"""What has attributes in a kwcoco dataset."""


@dataclass(frozen=True, slots=True, eq=False)
class Membership:
    """Which rows have which values of an attribute."""

    name: str
    """The attribute."""
    values: tuple[Any, ...]
    """Its different values, sorted; None stands for rows that have none."""
    row: Array
    """Ascending; every row has at least one entry, and no value twice; shape (entry,)."""
    code: Array
    """Position among `values`; shape (entry,)."""


def membership(source: SampleSource, table: pandas.DataFrame, name: str) -> Membership:
    """
    The values of an attribute for all rows.

    Raises
    ------
    TargetError
        The table does not say, or the dataset has no such attribute.
    """
    if name in table:
        return _from_column(name, table[name])
    kind, _, key = name.partition(".")
    if kind not in KINDS:
        raise TargetError(
            f"{name!r} is neither a column of the table nor an attribute{did_you_mean(name, [*table.columns, *KINDS])} "
            "(attributes are named as 'image.sensor_coarse')"
        )
    row, ids = {"image": _images, "video": _videos, "annot": _annotations, "category": _categories}[kind](source, table)
    index = source.dset.index
    records: Mapping[Any, Mapping[str, Any]] = {
        "image": index.imgs, "video": index.videos, "annot": index.anns, "category": index.cats,
    }[kind]  # fmt: skip
    if kind == "category" and not key:
        key = "name"
    different, code = _factorized(ids)
    lists = [_attribute(records, ident, key) for ident in different]
    if key and different and not any(key in records.get(i, ()) for i in different):
        known = dict.fromkeys(chain.from_iterable(records.get(i, ()) for i in different))
        raise TargetError(f"{name!r}: no {kind} of the table has {key!r}{did_you_mean(key, known)}")
    number = np.array([len(found) for found in lists], np.int64)
    first = np.cumsum(number) - number
    each = number[code]
    within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    flat, value = _factorized(list(chain.from_iterable(lists)))
    return _membership(name, len(table), np.repeat(row, each), value[np.repeat(first[code], each) + within], flat)


def _attribute(records: Mapping[Any, Mapping[str, Any]], ident: Any, key: str) -> Sequence[Any]:
    if not key:
        return (ident,)
    value = records[ident].get(key) if ident in records else None
    return _several(value)


def _several(value: Any) -> Sequence[Any]:
    """The values of a cell: those of a list, none for a missing value."""
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return [_hashable(v) for v in value]
    missing = value is None or value != value or type(value).__name__ in ("NAType", "NaTType")
    return () if missing else (_hashable(value),)


def _hashable(value: Any) -> Any:
    if isinstance(value, (list, np.ndarray)):
        return tuple(value)
    return str(value) if isinstance(value, (dict, set)) else value


def _from_column(name: str, column: pandas.Series) -> Membership:
    row, flat = cells(column)
    values, code = _factorized(flat)
    return _membership(name, len(column), row, code, values)


def cells(column: pandas.Series) -> tuple[Array, Any]:
    """(row, value) of all values of a column, of which cells may be lists; missing ones are left out."""
    n = len(column)
    if column.dtype.kind in "biuf":
        present = column.notna().to_numpy(bool)
        return np.flatnonzero(present), column.to_numpy()[present]
    values = column.tolist() if column.dtype == object else []
    if any(isinstance(v, (list, tuple, set, frozenset, np.ndarray, dict)) for v in values):
        lists = [_several(v) for v in values]
        number = np.fromiter(map(len, lists), np.int64, n)
        return np.repeat(np.arange(n), number), list(chain.from_iterable(lists))
    present = column.notna().to_numpy(bool)
    return np.flatnonzero(present), column[present].tolist()


def _factorized(values: Any) -> tuple[list[Any], Array]:
    """Different values, and the position of each among them."""
    import pandas

    if not isinstance(values, np.ndarray):
        boxed = np.empty(len(values), object)
        boxed[:] = values
        values = boxed
    code, different = pandas.factorize(values)
    return [v.item() if isinstance(v, np.generic) else v for v in different], np.asarray(code, np.int64)


def _membership(name: str, n: int, row: Array, code: Array, values: Iterable[Any]) -> Membership:
    """Sorted, without doubles, with an entry for rows that have none."""
    values = list(values)
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
    if isinstance(value, (int, float)):
        return 0, value, ""
    return 1, 0, str(value)


def _images(source: SampleSource, table: pandas.DataFrame) -> tuple[Array, Any]:
    if "gid" in table and "vidid" not in table and "gids" not in table and table["gid"].notna().all():
        return cells(table["gid"])
    found = footprints(source, table)
    real = found.frame >= 0
    gids = np.empty(len(found.gids), object)
    gids[:] = found.gids
    return found.row[real], gids[found.frame[real]]


def _videos(source: SampleSource, table: pandas.DataFrame) -> tuple[Array, Any]:
    row, gids = _images(source, table)
    different, code = _factorized(gids)
    videos = np.empty(len(different), object)
    videos[:] = [source.dataset.video_of(g) if g in source.dset.index.imgs else None for g in different]
    of_row = videos[code]
    inside = np.array([v is not None for v in videos.tolist()], bool)[code]
    return row[inside], of_row[inside]


def _annotations(source: SampleSource, table: pandas.DataFrame) -> tuple[Array, Any]:
    for name in ("annot_ids", "aid", "annot_id"):
        if name in table:
            return cells(table[name])
    raise TargetError("the table has no column annot_ids or aid, which say what annotations a window holds")


def _categories(source: SampleSource, table: pandas.DataFrame) -> tuple[Array, Any]:
    for name in ("category_ids", "category_id"):
        if name in table:
            row, ids = cells(table[name])
            if len(ids) and isinstance(ids, np.ndarray) and ids.dtype.kind in "if":
                return row[ids != NO_ID], ids[ids != NO_ID]
            return row, ids
    try:
        row, aids = _annotations(source, table)
    except TargetError:
        raise TargetError(
            "the table has no column category_ids, category_id, annot_ids or aid, one of which must say what a "
            "window holds"
        ) from None
    different, code = _factorized(aids)
    anns = source.dset.index.anns
    of_annot = [anns[a].get("category_id") if a in anns else None for a in different]
    ids = np.empty(len(of_annot), object)
    ids[:] = of_annot
    keep = np.array([i is not None for i in of_annot], bool)[code]
    return row[keep], ids[code][keep]
