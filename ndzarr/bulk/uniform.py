"""Which tables of targets are understood without looking at each row?

Those whose rows differ in nothing but the image (`gid` or `key`) and the window (`cx cy width height`), and in which
annotation it is around (`aid`), if any.  The first row is parsed and resolved, which settles everything else; all
windows follow from columns by the same arithmetic.  Other tables take Python's time per row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ndzarr.bulk.batch import Form
from ndzarr.bulk.member import BulkSampler, Lacking, Member, numbered
from ndzarr.sampler.annotations import Lookup
from ndzarr.sampler.target import ALIASES, NOTE, NOTES
from ndzarr.targets.rows import Rows

Array = np.ndarray[Any, Any]

_WINDOW = ("cx", "cy", "width", "height")
_EXACT = 2.0**52
"""Below it, floats are exact to half a pixel; centres are rounded as `sampler.resolve` rounds them."""


@dataclass(frozen=True)
class Windows:
    """Windows of images, as columns."""

    name: str
    """'gid' or 'key'."""
    ids: Array
    """Shape (window,)."""
    y: Array
    """Half-open intervals in native pixels, shape (window, 2)."""
    x: Array
    """The same along x."""
    n: Array
    """Output pixels along (y, x), shape (window, 2)."""

    @property
    def labels(self) -> Array:
        """The ids as a batch has them."""
        return self.ids.astype(str) if self.ids.dtype == object else self.ids.astype(np.int64)

    @property
    def origin(self) -> Array:
        """Where each begins along (y, x), shape (window, 2)."""
        return np.stack([self.y[:, 0], self.x[:, 0]], axis=1).astype(float)

    @cached_property
    def pitch(self) -> Array:
        """Native pixels per output pixel along (y, x), shape (window, 2)."""
        return np.asarray(np.stack([self.y[:, 1] - self.y[:, 0], self.x[:, 1] - self.x[:, 0]], axis=1) / self.n)

    @cached_property
    def _groups(self) -> list[tuple[Any, Array]]:
        import pandas

        codes, names = pandas.factorize(self.ids)
        order = np.argsort(codes, kind="stable")
        ends = np.cumsum(np.bincount(codes, minlength=len(names)))
        starts = np.r_[0, ends[:-1]]
        return [(_plain(v), order[a:b]) for v, a, b in zip(names, starts.tolist(), ends.tolist(), strict=True)]

    def by_id(self) -> Iterator[tuple[Any, Array]]:
        """Each image with the positions of its windows, ascending."""
        return iter(self._groups)


@dataclass(frozen=True)
class Uniform:
    """A table that was understood."""

    first: Member
    """What its first row means."""
    windows: Windows
    columns: dict[str, Array]
    """What a target is made from, by column."""

    def member(self, sampler: BulkSampler, i: int, keys: Mapping[str, Any], lookup: Lookup) -> Member:
        """What a row means."""
        return _member(sampler, self.columns, i, keys, lookup)

    @cached_property
    def form(self) -> Form:
        """What all samples have in common, if images are as the first is."""
        first = self.first
        shape = (*first.shape[:-2], *self.windows.n.max(axis=0).tolist())
        return Form(first.dims, shape, first.dtype, first.channels)

    @cached_property
    def mask_dims(self) -> tuple[str, ...] | None:
        """Axes of `valid` of a sample; None where all pixels are real."""
        odd = bool((self.windows.n != self.windows.n[0]).any())
        lacks = self.first.lacking, lacking(self.first, self.windows), "planes" if odd else "nothing"
        return mask_dims(self.form, [self.first], lacks)


def mask_dims(form: Form, members: Sequence[Member], lacks: Collection[str]) -> tuple[str, ...] | None:
    """Axes of `valid`: none where no pixel can be missing, c only where channels can differ."""
    if "channels" in lacks and len(form.channels or ()) != 1:
        return form.dims
    if set(lacks) - {"nothing"} or any(m.shape != form.shape for m in members):
        return tuple(d for d in form.dims if d != "c")
    return None


def uniform(sampler: BulkSampler, rows: Rows, keys: Mapping[str, Any], lookup: Lookup) -> Uniform | None:
    """The table, or None if its rows have to be looked at one by one."""
    if not len(rows):
        return None
    columns = _meaningful(rows.frame, keys) if rows.frame is not None else _of_rows(rows, keys)
    columns |= {name: np.full(len(rows), keys[name]) for name in _WINDOW if type(keys.get(name)) in (int, float)}
    if "aid" in columns and _says_nothing(sampler, columns):
        del columns["aid"]
    if not set(_WINDOW) <= columns.keys() or not _alike(columns):
        return None
    name = next((n for n in ("gid", "key") if n in columns), None)
    window = [w for n in _WINDOW if (w := _numbers(columns[n])) is not None]
    if name is None or len(window) < len(_WINDOW) or not _present(columns[name]):
        return None
    first = _member(sampler, columns, 0, keys, lookup)
    made = _windows(name, columns[name], first, *window)
    agrees = made is not None and (
        (tuple(made.origin[0]), tuple(made.pitch[0]), tuple(made.n[0])) == (first.origin, first.pitch, first.shape[-2:])
    )
    return Uniform(first, made, columns) if made is not None and agrees else None


def _says_nothing(sampler: BulkSampler, columns: Mapping[str, Array]) -> bool:
    """True where `aid` only repeats which image is meant: the window is stated, as tables of positives do."""
    if not {"gid", *_WINDOW} <= columns.keys():
        return False
    images = sampler.images_of(columns["aid"].tolist())
    return images is not None and images == columns["gid"].tolist()


def _meaningful(table: Any, keys: Mapping[str, Any]) -> dict[str, Array]:
    """Columns that change what is loaded, under the names of keys; without those of which every value is missing."""
    out = {}
    for label in table.columns:
        name = ALIASES.get(str(label), str(label))
        if name in NOTES or name.startswith(NOTE) or name in keys or table[label].isna().all():
            continue
        out[name] = table[label].to_numpy()
    return out


def _of_rows(rows: Rows, keys: Mapping[str, Any]) -> dict[str, Array]:
    """The same of dictionaries that all have the same keys; else none."""
    targets = list(rows)
    names = targets[0].keys()
    if not set(_WINDOW) <= names | keys.keys() or any(t.keys() != names for t in targets):
        return {}
    out = {}
    for label in names:
        name = ALIASES.get(label, label)
        if name in NOTES or name.startswith(NOTE) or name in keys:
            continue
        values = [t[label] for t in targets]
        if set(map(type, values)) <= {int, float, np.int64, np.float64}:
            out[name] = np.array(values)
        else:
            out[name] = np.empty(len(values), object)
            out[name][:] = values
    return out


def _member(
    sampler: BulkSampler, columns: Mapping[str, Array], i: int, keys: Mapping[str, Any], lookup: Lookup
) -> Member:
    row = {name: _plain(values[i]) for name, values in columns.items()}
    made: list[Member] = sampler.members([{**row, **keys}], lookup, i)
    return made[0]


def _alike(columns: Mapping[str, Array]) -> bool:
    """True where all other columns hold one value."""
    others = [values for name, values in columns.items() if name not in (*_WINDOW, "gid", "key")]
    return all(_constant(values) for values in others)


def _constant(values: Array) -> bool:
    first = values[0]
    if values.dtype != object:
        return bool((values == first).all())
    return isinstance(first, str | int | float | tuple) and all(v == first for v in values.tolist())


def _numbers(values: Array) -> Array | None:
    """Numbers that are exact as floats, else None."""
    if values.dtype.kind not in "iuf":
        return None
    numbers = values.astype(float)
    return numbers if (np.abs(numbers) < _EXACT).all() else None  # NaN is not


def _present(values: Array) -> bool:
    """True for a column of integers, or of text alone."""
    if values.dtype != object:
        return values.dtype.kind in "iuTU"
    return set(map(type, values.tolist())) == {str}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _windows(name: str, ids: Array, first: Member, cx: Array, cy: Array, width: Array, height: Array) -> Windows | None:
    """Windows of all rows, as `sampler.resolve` and `values.centred` make them of one."""
    target = first.parsed
    elsewhere = target.resolution is not None or target.bounds is not None or target.aid is not None
    if target.video or elsewhere or {"t", "z"} & set(first.dims):
        return None
    if min(width.min(), height.min()) <= 0:
        return None
    dims = target.window_dims
    if isinstance(dims, tuple):
        height, width = np.full(len(cy), float(dims[0])), np.full(len(cx), float(dims[1]))
    elif dims == "square":
        height = width = np.maximum(height, width)
    (before_y, after_y), (before_x, after_x) = target.pad[1:] if name == "gid" else ((0, 0), (0, 0))
    y, x = _centred(cy, height), _centred(cx, width)
    y, x = y + np.array([-before_y, after_y]), x + np.array([-before_x, after_x])
    sx, sy = target.scale
    n = np.stack([np.rint((y[:, 1] - y[:, 0]) * sy), np.rint((x[:, 1] - x[:, 0]) * sx)], axis=1).astype(np.int64)
    if target.output_dims is not None and name == "gid":
        n[:] = target.output_dims
    return None if n.min() < 1 else Windows(name, ids, y, x, n)


def _centred(centre: Array, size: Array) -> Array:
    """`values.centred` of columns, shape (window, 2)."""
    n = np.maximum(1, np.ceil(size - 1e-6))
    start = np.floor(centre - n / 2 + 1e-9)
    return np.stack([start, start + n], axis=1).astype(np.int64)


def lacking(first: Member, windows: Windows) -> Lacking:
    """What pixels of windows may not be real, as far as can be known without opening every file."""
    found: Lacking = "nothing"
    for name, members in windows.by_id():
        [whole] = numbered(first.whole, [name], int(members[0]))
        if whole is None:
            return "channels"
        (y0, y1), (x0, x1) = ((w[members, 0].min(), w[members, 1].max()) for w in (windows.y, windows.x))
        if min(y0, x0) < 0 or y1 > whole[0] or x1 > whole[1]:
            found = "planes"
    return found
