"""The columnar fast path: tables of targets that are understood without looking at each row.

Their rows differ in nothing but the image (`gid` or `key`) and the window (`cx cy width height`), and in the annotation
it is around (`aid`), if any.  The first row is resolved, which settles everything else; all windows follow from columns
by the same arithmetic.  Other tables take Python's time per row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ndzarr._batches.form import Array, Form, Lacking, Pending, agree, lacking, mask_dims, numbered, pending_samples
from ndzarr._geo.pixel_size import Quantity
from ndzarr._indexing.affine import scale_offset
from ndzarr._indexing.plan import ChunkRead, Part, ReadPlan
from ndzarr._indexing.selection import Selection, cuts, lengths, segments
from ndzarr._sampling.annotations import AnnotationTable, Lookup, ignored
from ndzarr._sampling.clipped import ClippedAnnotation, clipped_rows
from ndzarr._sampling.compose import SampleRequest
from ndzarr._sampling.protocols import SampleSource
from ndzarr._sampling.target import ALIASES, NOTE, NOTES, centred_intervals
from ndzarr._store.read import execute
from ndzarr.targets.table import Rows

_WINDOW = ("cx", "cy", "width", "height")
_EXACT = 2.0**52
"""Below it, floats are exact to half a pixel."""


@dataclass(frozen=True)
class Windows:
    """Windows of images, as columns."""

    name: str
    """'gid' or 'key'."""
    ids: Array
    y: Array
    """Half-open intervals in native pixels, shape (window, 2); `x` alike."""
    x: Array
    n: Array
    """Output pixels along (y, x), shape (window, 2)."""

    @property
    def labels(self) -> Array:
        """The ids as text or int64."""
        return self.ids.astype(str) if self.ids.dtype == object else self.ids.astype(np.int64)

    @property
    def origin(self) -> Array:
        """Start of each along (y, x), shape (window, 2)."""
        return np.stack([self.y[:, 0], self.x[:, 0]], axis=1).astype(float)

    @cached_property
    def pitch(self) -> Array:
        """Native pixels per output pixel along (y, x), shape (window, 2)."""
        return np.asarray(np.stack([self.y[:, 1] - self.y[:, 0], self.x[:, 1] - self.x[:, 0]], axis=1) / self.n)

    @cached_property
    def by_id(self) -> list[tuple[Any, Array]]:
        """Each image with the positions of its windows, ascending."""
        import pandas

        codes, names = pandas.factorize(self.ids)
        order = np.argsort(codes, kind="stable")
        ends = np.cumsum(np.bincount(codes, minlength=len(names)))
        starts = np.r_[0, ends[:-1]]
        return [(_plain(v), order[a:b]) for v, a, b in zip(names, starts.tolist(), ends.tolist(), strict=True)]


@dataclass(frozen=True)
class Uniform:
    """A table that was understood: its first row, the windows of all, and the keys of targets by column."""

    first: Pending
    windows: Windows
    columns: dict[str, Array]

    @cached_property
    def form(self) -> Form:
        """The form of all samples, if images are as the first is."""
        first = self.first.request
        shape = (*first.shape[:-2], *self.windows.n.max(axis=0).tolist())
        return Form(first.dims, shape, first.dtype, first.channels)

    @cached_property
    def mask_dims(self) -> tuple[str, ...] | None:
        """Axes of `valid` of a sample; None where all pixels are real."""
        odd = bool((self.windows.n != self.windows.n[0]).any())
        beyond = _lacking(self.first.source, self.windows)
        lacks = lacking(self.first.request), beyond, "planes" if odd else "nothing"
        return mask_dims(self.form, [self.first.request.shape], lacks)


def uniform_windows(
    source: SampleSource, rows: Rows, keys: Mapping[str, Any], lookup: Lookup, sizes: str = "pad"
) -> Uniform | None:
    """Return the table; None if its rows must be looked at one by one, or if sizes differ and `sizes` is 'refuse'."""
    if not len(rows):
        return None
    columns = _meaningful(rows.frame, keys) if rows.frame is not None else _of_rows(rows, keys)
    columns |= {name: np.full(len(rows), keys[name]) for name in _WINDOW if type(keys.get(name)) in (int, float)}
    if {"aid", "gid", *_WINDOW} <= columns.keys():
        # As in tables of positives, the window is stated, so that `aid` may only repeat which image is meant.
        images = source.dataset.images_of(columns["aid"].tolist())
        if images is not None and images == columns["gid"].tolist():
            del columns["aid"]
    others = columns.keys() - {*_WINDOW, "gid", "key"}
    if not set(_WINDOW) <= columns.keys() or not all(_constant(columns[name]) for name in others):
        return None
    name = next((n for n in ("gid", "key") if n in columns), None)
    window = [w for n in _WINDOW if (w := _numbers(columns[n])) is not None]
    if name is None or len(window) < len(_WINDOW) or not _present(columns[name]):
        return None
    first = _row(source, columns, 0, keys, lookup)
    made = _windows(name, columns[name], first, *window)
    if made is None or (sizes == "refuse" and (made.n != made.n[0]).any()):
        return None
    scene = first.request.scene
    same = (tuple(made.y[0]), tuple(made.x[0]), tuple(made.n[0])) == (scene.y, scene.x, scene.n)
    return Uniform(first, made, columns) if same else None


def _meaningful(table: Any, keys: Mapping[str, Any]) -> dict[str, Array]:
    """Return the columns that change what is loaded, under the names of keys; without empty columns."""
    named = _names(map(str, table.columns), keys)
    return {name: table[label].to_numpy() for label, name in named if not table[label].isna().all()}


def _names(labels: Iterable[str], keys: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return labels with the names of the keys that they give, without notes and without those in `keys`."""
    named = [(label, ALIASES.get(label, label)) for label in labels]
    return [(label, name) for label, name in named if not (name in NOTES or name.startswith(NOTE) or name in keys)]


def _of_rows(rows: Rows, keys: Mapping[str, Any]) -> dict[str, Array]:
    """The same of dictionaries that all have the same keys; else none."""
    targets = list(rows)
    names = targets[0].keys()
    if not set(_WINDOW) <= names | keys.keys() or any(t.keys() != names for t in targets):
        return {}
    out = {}
    for label, name in _names(names, keys):
        values = [t[label] for t in targets]
        if set(map(type, values)) <= {int, float, np.int64, np.float64}:
            out[name] = np.array(values)
        else:
            out[name] = np.empty(len(values), object)
            out[name][:] = values
    return out


def _row(
    source: SampleSource, columns: Mapping[str, Array], i: int, keys: Mapping[str, Any], lookup: Lookup
) -> Pending:
    row = {name: _plain(values[i]) for name, values in columns.items()}
    return pending_samples(source, [{**row, **keys}], lookup, i)[0]


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
    """Return True for a column of integers, or of text alone."""
    return values.dtype.kind in "iuTU" or (values.dtype == object and set(map(type, values.tolist())) == {str})


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _windows(
    name: str, ids: Array, first: Pending, cx: Array, cy: Array, width: Array, height: Array
) -> Windows | None:
    """Windows of all rows, as `resolve` makes them of one; None where it looks at more than columns tell."""
    target = first.parsed
    elsewhere = target.resolution is not None or target.bounds is not None or target.aid is not None
    if target.video or elsewhere or {"t", "z"} & set(first.request.dims):
        return None
    if min(width.min(), height.min()) <= 0:
        return None
    dims = target.window_dims
    if isinstance(dims, tuple) and any(isinstance(n, Quantity) for n in dims):
        return None
    if isinstance(dims, tuple):
        height, width = np.full(len(cy), float(dims[0])), np.full(len(cx), float(dims[1]))
    elif dims == "square":
        height = width = np.maximum(height, width)
    (before_y, after_y), (before_x, after_x) = target.pad[1:]
    y, x = centred_intervals(cy, height), centred_intervals(cx, width)
    y, x = y + np.array([-before_y, after_y]), x + np.array([-before_x, after_x])
    sx, sy = target.scale
    n = np.stack([np.rint((y[:, 1] - y[:, 0]) * sy), np.rint((x[:, 1] - x[:, 0]) * sx)], axis=1).astype(np.int64)
    if target.output_dims is not None:
        n[:] = target.output_dims
    return None if n.min() < 1 else Windows(name, ids, y, x, n)


def _lacking(source: SampleSource, windows: Windows) -> Lacking:
    """Which pixels of windows may not be real, as far as can be known without opening every file."""
    found: Lacking = "nothing"
    for name, members in windows.by_id:
        [whole] = numbered(source.covered_size, [name], int(members[0]))
        if whole is None:
            return "channels"
        (y0, y1), (x0, x1) = ((w[members, 0].min(), w[members, 1].max()) for w in (windows.y, windows.x))
        if min(y0, x0) < 0 or y1 > whole[0] or x1 > whole[1]:
            found = "planes"
    return found


def _origin(r: SampleRequest) -> tuple[Any, Selection, tuple[int, int]] | None:
    """
    Return where one window says that the pixels of its image are; None where they are not simply copied.

    It is an array, the selection before y, and the shift from sampled space to pixels of the array along (y, x).
    """
    if not r.copied or len(r.pieces) != 1 or r.scene.video:
        return None
    crop = r.pieces[0].crop
    if crop.region.level:
        return None
    shift = crop.region.y.read.start - r.scene.y[0], crop.region.x.read.start - r.scene.x[0]
    return crop.pyramid.levels[0].array, crop.leading, shift


@dataclass(frozen=True)
class Copies:
    """A batch that is nothing but copies."""

    known: Uniform
    plan: ReadPlan

    def read(self) -> Array:
        """Read the pixels, (sample, *form.dims)."""
        form = self.known.form
        image = form.empty(len(self.plan))
        places = [place.reshape(shape) for place, shape in zip(image, self.plan.shapes, strict=True)]
        execute(self.plan, places, self.known.first.request.crops[0].pyramid.cache)
        return image


def copies(source: SampleSource, rows: Rows, keys: Mapping[str, Any], lookup: Lookup) -> Copies | None:
    """Return the batch, if all of its windows are copies and no annotations are chosen by id."""
    if lookup.annot_ids is not None:
        return None
    known = uniform_windows(source, rows, keys, lookup)
    if known is None or (known.windows.pitch != 1).any() or (known.windows.n != known.windows.n[0]).any():
        return None
    windows = known.windows
    arrays: list[Any] = []
    requests: list[Any] = [None] * len(windows.ids)
    for _, members in windows.by_id:
        i = int(members[0])
        sample = known.first if i == 0 else _row(source, known.columns, i, keys, lookup)
        agree([sample], first=known.first, start=i)
        origin = _origin(sample.request)
        if origin is None:
            return None
        array, lead, shift = origin
        y, x = windows.y[members] + shift[0], windows.x[members] + shift[1]
        height, width = array.shape[-2:]
        if min(y.min(), x.min()) < 0 or y.max() > height or x.max() > width:
            return None
        for k, (top, bottom), (left, right) in zip(members.tolist(), y.tolist(), x.tolist(), strict=True):
            requests[k] = len(arrays), (*lead, slice(top, bottom, 1), slice(left, right, 1))
        arrays.append(array)
    shapes = (lengths(requests[0][1]),) * len(requests)
    return Copies(known, WindowPlan(tuple(arrays), tuple(requests), shapes))


@dataclass(frozen=True)
class WindowPlan(ReadPlan):
    """A plan whose windows differ along y and x alone: what one finds out serves all that lie alike on their chunks."""

    @cached_property
    def reads(self) -> tuple[ChunkRead, ...]:
        """Every chunk that holds a pixel of a window, each exactly once."""
        wanted: defaultdict[tuple[int, tuple[int, ...]], list[Part]] = defaultdict(list)
        heads: dict[int, list[Any]] = {}
        known: dict[tuple[int, int, int], list[Any]] = {}
        for w, (a, selection) in enumerate(self.windows):
            if a not in heads:
                heads[a] = cuts(selection[:-2], self.arrays[a].chunks[:-2]) if selection[:-2] else [((), (), ())]
            (cy, cx), (y, x) = self.arrays[a].chunks[-2:], selection[-2:]
            ky, oy = divmod(y.start, cy)  # type: ignore[union-attr]
            kx, ox = divmod(x.start, cx)  # type: ignore[union-attr]
            rows = _cut(known, oy, y.stop - y.start, cy)  # type: ignore[union-attr]
            columns = _cut(known, ox, x.stop - x.start, cx)  # type: ignore[union-attr]
            for position, source, target in heads[a]:
                for j, from_y, to_y in rows:
                    for i, from_x, to_x in columns:
                        key = a, (*position, ky + j, kx + i)
                        part = w, (*source, from_y, from_x), (*target, to_y, to_x)
                        wanted[key].append(part)
        return tuple([(*key, tuple(wanted[key])) for key in sorted(wanted)])


def _cut(known: dict[tuple[int, int, int], list[Any]], start: int, n: int, chunk: int) -> list[Any]:
    key = start, n, chunk
    found = known.get(key)
    if found is None:
        found = known[key] = segments(slice(start, start + n, 1), chunk)
    return found


def touching(table: AnnotationTable, windows: Windows, lookup: Lookup) -> tuple[dict[str, Array], Array]:
    """Return the annotations of windows in image space as columns, and the window of each row, ascending."""
    rows, owner = _pairs(table, windows)
    boxes = table.columns[:, rows]
    y, x = windows.y.T[:, owner], windows.x.T[:, owner]
    if lookup.visible_thresh > 0:
        seen = _visible(boxes, y, x) >= lookup.visible_thresh
        rows, owner, boxes, y, x = rows[seen], owner[seen], boxes[:, seen], y[:, seen], x[:, seen]
    if lookup.crowd == "drop" and table.crowd is not None:
        single = ~table.crowd[rows]
        rows, owner, boxes, y, x = rows[single], owner[single], boxes[:, single], y[:, single], x[:, single]
    pitch = windows.pitch[owner].T[::-1]  # (x, y)
    boxes[:2] -= np.stack([x[0], y[0]])
    boxes[:2] /= pitch
    boxes[2:] /= pitch
    if lookup.clip:
        limit = windows.n[owner].T[::-1]
        low = np.clip(boxes[:2], 0, limit)
        boxes = np.concatenate([low, np.clip(boxes[:2] + boxes[2:], 0, limit) - low])
    columns = {
        "annot_id": table.annot_id[rows],
        "category_id": table.category_id[rows],
        "track_id": table.track_id[rows],
        "frame": np.zeros(len(rows), np.intp),
        "bbox": np.ascontiguousarray(boxes.T),
        **{name: column[rows] for name, column in table.further.items()},
    }
    if lookup.crowd == "ignore" and table.crowd is not None:
        columns["ignore"] = ignored(table, rows)
    return columns, owner


def window_labels(known: Uniform) -> list[list[ClippedAnnotation]]:
    """Return what each window shows of the annotations of its image, as `clipped_annotations` does of a sample."""
    labels: list[list[ClippedAnnotation]] = [[] for _ in known.windows.ids]
    source = known.first.source
    context = known.first.context()  # which refuses a dataset that was changed
    if context.found is None:
        return labels
    columns, owner = touching(source.annotations, known.windows, known.first.lookup)
    if not len(owner):
        return labels
    windows, frames = known.windows, {gid: source.frame(gid) for gid, _ in known.windows.by_id}
    owners, ids = owner.tolist(), windows.ids.tolist()
    scale, origin = 1 / windows.pitch, windows.origin

    def to_sample(k: int) -> Array:
        (y, x), (top, left) = scale[owner[k]].tolist(), origin[owner[k]].tolist()
        return scale_offset((x, y), (-left * x, -top * y))

    def image_size(k: int) -> tuple[int, int]:
        frame = frames[ids[owners[k]]]
        return frame.size or source.size_in_file(frame)[::-1]

    records = [context.found.known[aid] for aid in columns["annot_id"].tolist()]
    size = known.form.shape[-2], known.form.shape[-1]
    clipped = clipped_rows(records, columns["frame"].tolist(), columns["bbox"], size, to_sample, image_size)
    for number, label in zip(owners, clipped, strict=True):
        if label is not None:
            labels[number].append(label)
    return labels


def _pairs(table: AnnotationTable, windows: Windows) -> tuple[Array, Array]:
    """(row, window) of all that share area, by window and then by row."""
    found_rows, found_windows = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    for gid, members in windows.by_id:
        own = table.rows.get(gid)
        if own is None:
            continue
        boxes = table.columns[:, own]
        order = np.argsort(boxes[0], kind="stable")
        x, y, w, h = boxes[:, order]
        right, bottom = x + np.maximum(w, 1e-9), y + np.maximum(h, 1e-9)
        (x0, x1), (y0, y1) = windows.x[members].T, windows.y[members].T
        widest = np.nanmax(right - x, initial=0) + 1e-6
        first, last = np.searchsorted(x, x0 - widest), np.searchsorted(x, x1)
        count = np.maximum(last - first, 0)
        window = np.repeat(np.arange(len(members)), count)
        box = np.arange(len(window)) - np.repeat(np.cumsum(count) - count - first, count)
        hit = (x[box] < x1[window]) & (y[box] < y1[window]) & (right[box] > x0[window]) & (bottom[box] > y0[window])
        found_rows.append(order[box[hit]] + own.start)
        found_windows.append(members[window[hit]])
    rows, owner = np.concatenate(found_rows), np.concatenate(found_windows)
    order = np.lexsort((rows, owner))
    return rows[order], owner[order]


def _visible(boxes: Array, window_y: Array, window_x: Array) -> Array:
    """Fraction of the area of each box that lies in its window; boxes without area count as visible."""
    x, y, w, h = boxes
    width = np.maximum(np.minimum(x + w, window_x[1]) - np.maximum(x, window_x[0]), 0)
    height = np.maximum(np.minimum(y + h, window_y[1]) - np.maximum(y, window_y[0]), 0)
    return np.where(w * h > 0, width * height / np.where(w * h > 0, w * h, 1), 1.0)
