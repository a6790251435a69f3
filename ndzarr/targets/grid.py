"""Which windows slide over images and videos, and what does each of them hold?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr._indexing.affine import IDENTITY
from ndzarr._validation import as_list as several
from ndzarr._validation import check_fraction as portion
from ndzarr._validation import check_target_count as whole
from ndzarr.errors import TargetError, did_you_mean
from ndzarr.targets.windows import KINDS, Array, Boxes, Spaces, Windows, as_columns, held, names, refuse_time

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.protocols import SampleSource
    from ndzarr.targets.accessor import Indexed


# --- Where do the windows of a sliding grid lie, and which of them does a box touch?


BORDERS = ("shift", "pad", "drop")
"""What becomes of the last window, where windows do not end with the space: moved inward, left as it is (what lies
outside is padded), or left out."""


def at_borders(keep_borders: bool | str) -> str:
    """
    One of `BORDERS`.

    Raises
    ------
    TargetError
        It is neither True, False nor one of them.
    """
    borders = ("drop", "shift")[bool(keep_borders)] if isinstance(keep_borders, (bool, np.bool_)) else keep_borders
    if borders not in BORDERS:
        raise TargetError(f"keep_borders={keep_borders!r}: expected True, False or one of {', '.join(BORDERS)}")
    return borders


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Windows along one axis of each space; all have shape (space,)."""

    length: Array
    """Pixels or frames of the space."""
    size: Array
    """Pixels or frames of a window."""
    stride: Array
    """From one window to the next."""
    count: Array
    """Number of windows."""
    borders: str
    """One of `BORDERS`."""

    def start(self, space: Array, number: Array) -> Array:
        """Where windows begin."""
        start = number * self.stride[space]
        if self.borders != "shift":
            return start
        out: Array = np.minimum(start, np.maximum(self.length - self.size, 0)[space])
        return out

    def touched(self, space: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """The first window that ends after `low`, and the number of windows that begin before `high`."""
        stride, size, count = self.stride[space], self.size[space], self.count[space]
        first = np.clip((np.floor(low).astype(np.int64) - size) // stride + 1, 0, count)
        stop = np.clip(-(-np.ceil(high).astype(np.int64) // stride), 0, count)
        if self.borders == "shift":  # the last window may begin, and end, earlier than its number says
            last = self.start(space, count - 1)
            first = np.where((first == count - 1) & (last + size <= low), count, first)
            stop = np.where((stop == count - 1) & (last < high), count, stop)
        return first, stop


def axis(name: str, lengths: Array, size: Any, overlap: Any, borders: str) -> Axis:
    """
    Windows along an axis.

    Parameters
    ----------
    size
        Pixels or frames, or 'full' for the whole length.
    overlap
        Of neighbours: an integer is pixels or frames, a float below 1 the fraction of the window.

    Raises
    ------
    TargetError
        A size below 1, or an overlap that leaves no step.

    Examples
    --------
    >>> along = axis("x", np.array([100]), 40, 0.25, "shift")
    >>> along.start(np.zeros(along.count[0], int), np.arange(along.count[0]))
    array([ 0, 30, 60])
    """
    if isinstance(size, str) or size is None:
        if size not in ("full", None):
            raise TargetError(f"{name}={size!r}: expected a number or 'full'")
        return Axis(lengths, lengths, lengths, np.ones_like(lengths), borders)
    size = whole(name, size)
    stride = size - _pixels(name, size, overlap)
    beyond = lengths - size
    count = np.maximum(beyond // stride + 1, 0) if borders == "drop" else np.maximum(-(-beyond // stride), 0) + 1
    return Axis(lengths, np.full_like(lengths, size), np.full_like(lengths, stride), count, borders)


def _pixels(name: str, size: int, overlap: Any) -> int:
    """Overlap in pixels."""
    pixels = overlap
    if isinstance(overlap, Real) and not isinstance(overlap, Integral) and 0 <= float(overlap) < 1:
        pixels = min(round(size * float(overlap)), size - 1)
    if not isinstance(pixels, Integral) or not 0 <= int(pixels) < size:
        raise TargetError(
            f"overlap={overlap!r} of {name}={size}: expected a fraction from 0 to below 1, or whole pixels below {size}"
        )
    return int(pixels)


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """All windows of a grid, numbered through: by space, then by t, y and x."""

    axes: Sequence[Axis]
    """Along t, y, x."""

    @property
    def counts(self) -> Array:
        """Windows of each space; shape (space,)."""
        t, y, x = (a.count for a in self.axes)
        return t * y * x

    def windows(self) -> Windows:
        """All of them."""
        counts = self.counts
        space = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(space)) - np.repeat(np.cumsum(counts) - counts, counts)
        edges: list[Array] = []
        for along in reversed(self.axes):
            count = along.count[space]
            start = along.start(space, number % count)
            number = number // count
            edges = [start, start + along.size[space], *edges]
        t0, t1, *rest = edges
        return Windows(space, t0, t1, np.ones_like(t0), *rest)

    def touching(self, boxes: Boxes) -> tuple[Array, Array]:
        """Pairs of the number of a window and the position of a box that share area, sorted by window, then box."""
        t, y, x = self.axes
        ranges = [
            t.touched(boxes.space, boxes.frame, boxes.frame + 1),
            y.touched(boxes.space, boxes.y0, boxes.y1),
            x.touched(boxes.space, boxes.x0, boxes.x1),
        ]
        many = [np.maximum(stop - first, 0) for first, stop in ranges]
        each = many[0] * many[1] * many[2]
        box = np.repeat(np.arange(len(boxes)), each)
        number = np.arange(len(box)) - np.repeat(np.cumsum(each) - each, each)
        space = boxes.space[box]
        window = (np.cumsum(self.counts) - self.counts)[space]
        unit = np.ones(len(box), np.int64)
        for along, (first, _), n in reversed(list(zip(self.axes, ranges, many, strict=True))):
            window = window + (first[box] + number % n[box]) * unit
            number = number // n[box]
            unit = unit * along.count[space]
        order = np.argsort(window, kind="stable")
        return window[order], box[order]


# --- How much of a window do regions to ignore cover?


def covered(source: SampleSource, spaces: Spaces, windows: Windows, boxes: Boxes, window: Array, box: Array) -> Array:
    """
    The fraction of each window that is covered.

    Parameters
    ----------
    window, box
        The pairs of a window and a region that touches it; shape (pair,).

    Returns
    -------
    Fractions from 0 to 1; shape (window,).
    """
    import shapely

    area = np.zeros(len(windows))
    if not len(box):
        return area
    used, position = np.unique(box, return_inverse=True)
    regions = _regions(source, spaces, boxes.take(used))
    frames, of_frame = np.unique(np.stack([boxes.space[used], boxes.frame[used]]), axis=1, return_inverse=True)
    of_frame = of_frame.reshape(-1)
    united = np.empty(frames.shape[1], object)
    for k, group in enumerate(np.split(regions[np.argsort(of_frame, kind="stable")], _ends(of_frame))):
        united[k] = shapely.union_all(group)
    shapely.prepare(united)
    pairs = np.unique(np.stack([window, of_frame[position]]), axis=1)
    w = windows.take(pairs[0])
    shapes = shapely.box(w.x0, w.y0, w.x1, w.y1)
    np.add.at(area, pairs[0], shapely.area(shapely.intersection(shapes, united[pairs[1]])))
    frames_held = -(-(windows.t1 - windows.t0) // windows.step)
    out: Array = np.minimum(area / windows.area / frames_held, 1.0)
    return out


def _ends(group: Array) -> Array:
    """Where to split values that are sorted by group, groups being 0, 1, 2, ..."""
    return np.cumsum(np.bincount(group))[:-1]


def _regions(source: SampleSource, spaces: Spaces, boxes: Boxes) -> Array:
    """The shape of each annotation in its space."""
    import shapely

    shapes: Array = shapely.box(boxes.x0, boxes.y0, boxes.x1, boxes.y1)
    ids = source.annotations.annot_id[boxes.row].tolist()
    for k, (aid, space, t) in enumerate(zip(ids, boxes.space.tolist(), boxes.frame.tolist(), strict=True)):
        record = source.dset.index.anns[aid]
        if record.get("segmentation"):
            warp = source.frame(spaces.frames[space][t]).to_video if spaces.video else IDENTITY
            shapes[k] = shapely.transform(_polygon(record), partial(_warped, warp))
    return shapes


def _warped(matrix: Array, points: Array) -> Array:
    """Points, shape (n, 2), mapped."""
    out: Array = points @ matrix[:2, :2].T + matrix[:2, 2]
    return out


def _polygon(record: dict[str, Any]) -> Any:
    """A segmentation, in any form that kwcoco stores, in image space."""
    import kwimage
    import shapely

    try:
        polygons = kwimage.Segmentation.coerce(record["segmentation"]).to_multi_polygon()
        shape = shapely.union_all([shapely.make_valid(p.to_shapely()) for p in polygons.data])
    except (ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:
        raise TargetError(f"annotation {record.get('id')!r}: the segmentation is not understood ({error})") from error
    return shape


def lattice(
    spaces: Spaces, window_dims: Any, overlap: Any, time_dims: Any, time_overlap: Any, keep_borders: bool | str
) -> Lattice:
    """
    The windows of a grid.

    Raises
    ------
    TargetError
        An option has another form.
    """
    borders = at_borders(keep_borders)
    height, width = _pair("window_dims", window_dims)
    over_y, over_x = _pair("overlap", overlap)
    refuse_time(spaces, time_dims)
    return Lattice(
        (
            axis("time_dims", spaces.lengths, time_dims, time_overlap, borders),
            axis("window_dims[0]", spaces.height, height, over_y, borders),
            axis("window_dims[1]", spaces.width, width, over_x, borders),
        )
    )


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    """(along y, along x)."""
    if value is None or isinstance(value, str) or not isinstance(value, Iterable):
        if name == "window_dims" and value != "full":
            raise TargetError(f"window_dims={value!r}: expected (height, width), each a number or 'full', or 'full'")
        return value, value
    pair = tuple(value)
    if len(pair) != 2:
        raise TargetError(f"{name}={value!r}: expected one value, or one along y and one along x")
    return pair


def annotated(
    targets: Indexed,
    spaces: Spaces,
    over: Lattice,
    classes_of_interest: Iterable[Any] | None,
    negative_classes: Iterable[Any],
    ignore_coverage: float | None,
) -> pandas.DataFrame:
    """The windows of a grid as targets, with the columns that say what they hold."""
    import pandas

    if ignore_coverage is not None:
        portion("ignore_coverage", ignore_coverage)
    annotations, classes = targets.annotations, targets.classes
    boxes = targets.index(spaces).boxes
    windows = over.windows()
    window, box = over.touching(boxes)
    category = annotations.category_id[boxes.row]
    counting = classes.counting(category, classes_of_interest, negative_classes)
    positive = np.bincount(window[counting[box]], minlength=len(windows)) > 0
    kind = positive.astype(np.int8)
    ids, counts = held(window, annotations.annot_id[boxes.row[box]], len(windows))
    columns: dict[str, Any] = as_columns(windows, spaces) | {"annot_ids": ids, "n_annots": counts}
    regions = classes.ignored(category, negative_classes)
    if ignore_coverage is not None and regions.any():
        meant = regions[box]
        columns["coverage"] = covered(targets.source, spaces, windows, boxes, window[meant], box[meant])
        kind[columns["coverage"] > ignore_coverage] = KINDS.index("ignored")
    return pandas.DataFrame(columns | {"kind": names(KINDS, kind)})


# --- Which annotations count, by their category?


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
