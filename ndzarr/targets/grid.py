"""Sliding windows over images, videos and named sources, and the annotations that each window touches."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import fsum
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._geo.pixel_size import is_physical
from ndzarr._indexing.affine import IDENTITY
from ndzarr._indexing.plan import check_memory
from ndzarr._sampling.segmentations import shape_of
from ndzarr._sampling.target import NOTE
from ndzarr._validation import as_list, check_fraction, check_target_count
from ndzarr.errors import TargetError
from ndzarr.targets.overlaps import KINDS, TargetContext, as_tuples, kind_column
from ndzarr.targets.physical import WindowSizes
from ndzarr.targets.windows import Array, Boxes, Spaces, Windows, column_of_ids, ramps

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.named_sources import NamedSource
    from ndzarr._sampling.protocols import SampleSource
    from ndzarr.targets.attributes import Names


BORDERS = ("shift", "pad", "drop")
"""What becomes of a window that would reach beyond the end: moved inward, left in place (what lies outside is padded),
or left out."""

WINDOW_BYTES = 160
"""Memory that a window takes while its table is made."""

Length: TypeAlias = "int | str"  # pixels or frames, a length such as '100 um', or 'full' for the whole extent
WindowDims: TypeAlias = "str | tuple[Length, Length]"  # (height, width), one length for both, or 'full'

Overlap: TypeAlias = "float | str | Sequence[float | str]"
"""A float below 1 is a fraction of the window, an integer is pixels, text a length; a pair is (along y, along x)."""


def grid_table(
    context: TargetContext,
    spaces: Spaces,
    windows: SlidingWindows,
    classes_of_interest: Names | None,
    negative_classes: Names,
    ignore_coverage: float | None,
    crowd: str,
) -> pandas.DataFrame:
    """Return sliding windows as targets, with the columns that say what they hold; see `Targets.grid`."""
    import pandas

    if ignore_coverage is not None:
        check_fraction("ignore_coverage", ignore_coverage)
    annotations, categories = context.source.annotations, context.categories
    boxes, crowds = context.index(spaces).boxes, context.crowds(spaces, crowd)
    if crowd == "drop":
        boxes, crowds = boxes.take(~crowds), crowds[~crowds]
    every = windows.windows()
    window, box = windows.touching(boxes)
    category = annotations.category_id[boxes.row]
    counting = categories.positive(category, classes_of_interest, negative_classes) & ~crowds
    kind = (np.bincount(window[counting[box]], minlength=len(every)) > 0).astype(np.int8)
    ids, counts = as_tuples(window, annotations.annot_id[boxes.row[box]], len(every))
    columns: dict[str, Any] = every.target_columns(spaces) | windows.output | {"annot_ids": ids, "n_annots": counts}
    regions = categories.ignored(category, negative_classes) | crowds
    if ignore_coverage is not None and regions.any():
        meant = regions[box]
        columns["coverage"] = _coverage(context.source, spaces, every, boxes, window[meant], box[meant])
        kind[columns["coverage"] > ignore_coverage] = KINDS.index("ignored")
    return pandas.DataFrame(columns | {"kind": kind_column(kind)})


def source_grid(
    source: NamedSource,
    window_dims: WindowDims,
    overlap: Overlap,
    keep_borders: bool | str,
    resolution: Any,
    ids: Iterable[Hashable] | None,
) -> pandas.DataFrame:
    """Return sliding windows over named sources; see `SourceTargets.grid`."""
    import pandas

    names = list(source.sources) if ids is None else as_list(ids)
    sizes = [source.open(name).sizes for name in names]
    height, width = (np.array([size[axis] for size in sizes], np.int64) for axis in ("y", "x"))
    spaces = Spaces("source", column_of_ids(names), height, width, ((None,),) * len(names))
    sizes_of = WindowSizes(source, spaces, resolution)
    sliding = sliding_windows(sizes_of, window_dims, overlap, None, 0, keep_borders)
    table = pandas.DataFrame(sliding.windows().target_columns(spaces) | sliding.output)
    stated = dict.fromkeys(key for name in names for key in source.about.get(name, ()))
    for key in stated:
        table[f"{NOTE}{key}"] = [source.about.get(name, {}).get(key) for name in table["key"]]
    return table


def parse_borders(keep_borders: bool | str) -> str:
    """Return one of `BORDERS`."""
    borders = ("drop", "shift")[bool(keep_borders)] if isinstance(keep_borders, (bool, np.bool_)) else keep_borders
    if borders not in BORDERS:
        message = f"keep_borders={keep_borders!r}: expected True, False or one of {', '.join(BORDERS)}"
        raise TargetError(message, key="keep_borders")
    return borders


@dataclass(frozen=True, slots=True, eq=False)
class SlidingAxis:
    """Windows along one axis of each space, in pixels or frames; arrays have shape (space,)."""

    length: Array  # of the space
    size: Array  # of a window
    stride: Array
    count: Array  # number of windows
    borders: str  # one of `BORDERS`

    def start(self, space: Array, number: Array) -> Array:
        """Return where the windows of these numbers begin."""
        start = number * self.stride[space]
        if self.borders != "shift":
            return start
        return np.asarray(np.minimum(start, np.maximum(self.length - self.size, 0)[space]))

    def touched(self, space: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """Return the first window that ends after `low`, and the number of windows that begin before `high`."""
        stride, size, count = self.stride[space], self.size[space], self.count[space]
        first = np.clip((np.floor(low).astype(np.int64) - size) // stride + 1, 0, count)
        stop = np.clip(-(-np.ceil(high).astype(np.int64) // stride), 0, count)
        if self.borders == "shift":  # the last window may begin, and end, earlier than its number says
            last = self.start(space, count - 1)
            first = np.where((first == count - 1) & (last + size <= low), count, first)
            stop = np.where((stop == count - 1) & (last < high), count, stop)
        return first, stop


def sliding_axis(
    name: str, lengths: Array, size: int | Array | None, overlap: float | Array, borders: str
) -> SlidingAxis:
    """
    Return the windows along an axis.

    `size` and `overlap` are pixels or frames, one number or one of each space; None is the whole length, and an overlap
    that is a float is a fraction of the size.  An overlap below 0 is a gap.

    Examples
    --------
    >>> along = sliding_axis("x", np.array([100]), 40, 0.25, "shift")
    >>> along.start(np.zeros(along.count[0], int), np.arange(along.count[0]))
    array([ 0, 30, 60])
    """
    if size is None:
        return SlidingAxis(lengths, lengths, lengths, np.ones_like(lengths), borders)
    sizes = np.full_like(lengths, size) if isinstance(size, int) else size
    stride = sizes - _overlap_in_pixels(name, sizes, overlap)
    beyond = lengths - sizes
    count = np.maximum(beyond // stride + 1, 0) if borders == "drop" else np.maximum(-(-beyond // stride), 0) + 1
    if borders == "pad":  # none begins beyond the end, where windows have gaps
        count = np.minimum(count, np.maximum(-(-lengths // stride), 1))
    return SlidingAxis(lengths, sizes, stride, count, borders)


def _overlap_in_pixels(name: str, sizes: Array, overlap: object) -> Array:
    if isinstance(overlap, np.ndarray):  # was checked before it became pixels
        return np.asarray(np.minimum(overlap, sizes - 1))
    if _is_fraction(overlap):
        return np.asarray(np.minimum(np.rint(sizes * float(overlap)), sizes - 1).astype(np.int64))  # type: ignore[arg-type]
    if not isinstance(overlap, Integral) or (len(sizes) and not -_WIDEST < int(overlap) < sizes.min()):
        size = int(sizes.min()) if len(sizes) else 0
        raise TargetError(
            f"overlap={overlap!r} of {name}={size}: expected a fraction below 1, or pixels below {size}", key="overlap"
        )
    return np.full_like(sizes, int(overlap))


_WIDEST = 1 << 31
"""Pixels or windows that no gap has."""


def _is_fraction(overlap: object) -> bool:
    return isinstance(overlap, Real) and not isinstance(overlap, Integral) and -_WIDEST < float(overlap) < 1


def _unsigned(overlap: Any) -> tuple[int, Any]:
    """Return the sign and the size of an overlap in pixels or of a length; below 0, it is a gap."""
    if isinstance(overlap, str) and overlap.lstrip().startswith("-"):
        return -1, overlap.lstrip()[1:]
    return (-1, -overlap) if isinstance(overlap, Integral) and overlap < 0 else (1, overlap)


@dataclass(frozen=True, slots=True, eq=False)
class SlidingWindows:
    """All windows of a grid, numbered by space, then by t, y and x."""

    axes: Sequence[SlidingAxis]  # along t, y, x
    sizes: WindowSizes
    dims: tuple[Any, Any]  # (height, width), as given

    @property
    def output(self) -> dict[str, Array]:
        """The column `output_dims`, if a resolution is asked for."""
        return self.sizes.output_dims(self.windows(), self.dims)

    @property
    def counts(self) -> Array:
        """Windows of each space; shape (space,)."""
        t, y, x = (a.count for a in self.axes)
        return t * y * x

    def windows(self) -> Windows:
        """
        Return all of them.

        Raises
        ------
        TargetError
            They do not fit memory.
        """
        total = int(fsum(np.prod([a.count.astype(float) for a in self.axes], axis=0)))  # int64 could overflow
        what = f"window_dims={self.dims!r}: a grid of {total:,} windows"
        hint = "Use larger windows, less overlap, or fewer images at a time"
        check_memory(total * WINDOW_BYTES, TargetError, what, key="window_dims", hint=hint)
        counts = self.counts
        space = np.repeat(np.arange(len(counts)), counts)
        number = ramps(counts)  # of each window within its space
        edges: list[Array] = []
        for along in reversed(self.axes):
            count = along.count[space]
            start = along.start(space, number % count)
            number = number // count
            edges = [start, start + along.size[space], *edges]
        t0, t1, *rest = edges
        return Windows(space, t0, t1, np.ones_like(t0), *rest)

    def touching(self, boxes: Boxes) -> tuple[Array, Array]:
        """Return the pairs of a window and a box that share area, sorted by window, then by box; shape (pair,) each."""
        t, y, x = self.axes  # no tree is needed: the windows that a box touches are a range along each axis
        ranges = [
            t.touched(boxes.space, boxes.frame, boxes.frame + 1),
            y.touched(boxes.space, boxes.y0, boxes.y1),
            x.touched(boxes.space, boxes.x0, boxes.x1),
        ]
        many = [np.maximum(stop - first, 0) for first, stop in ranges]
        each = many[0] * many[1] * many[2]
        box = np.repeat(np.arange(len(boxes)), each)
        number = ramps(each)  # of each pair among those of its box
        space = boxes.space[box]
        window = (np.cumsum(self.counts) - self.counts)[space]
        unit = np.ones(len(box), np.int64)
        for along, (first, _), n in reversed(list(zip(self.axes, ranges, many, strict=True))):
            window = window + (first[box] + number % n[box]) * unit
            number = number // n[box]
            unit = unit * along.count[space]
        order = np.argsort(window, kind="stable")
        return window[order], box[order]


def sliding_windows(
    sizes: WindowSizes,
    window_dims: WindowDims,
    overlap: Overlap,
    time_dims: Length | None,
    time_overlap: float,
    keep_borders: bool | str,
) -> SlidingWindows:
    """Return the windows of a grid; see `Targets.grid`."""
    borders, spaces = parse_borders(keep_borders), sizes.spaces
    dims, overlaps = _pair("window_dims", window_dims), _pair("overlap", overlap)
    spaces.refuse_time(time_dims)
    t = sliding_axis(
        "time_dims", spaces.lengths, _size("time_dims", time_dims, check_target_count), time_overlap, borders
    )
    axes = [t]
    for k, (axis, lengths) in enumerate((("y", spaces.height), ("x", spaces.width))):
        name, convert = f"window_dims[{k}]", partial(sizes.pixels, axis)
        size, over = _size(name, dims[k], convert), overlaps[k]
        in_output = isinstance(over, Integral) and sizes.scales is not None
        sign, positive = _unsigned(over)
        if size is not None and (is_physical(positive) or in_output):
            if np.any(sign * sizes.exact(axis, "overlap", positive, 0) >= np.asarray(sizes.exact(axis, name, dims[k]))):
                raise TargetError(
                    f"overlap={over!r} of {name}={dims[k]!r}: expected less than the window", key="overlap"
                )
            over = np.full_like(lengths, sign * convert("overlap", positive, 0))
        axes.append(sliding_axis(name, lengths, size, over, borders))
    return SlidingWindows(tuple(axes), sizes, dims)


def _size(name: str, size: Length | None, convert: Callable[[str, Any], int | Array]) -> int | Array | None:
    """Return pixels or frames; None for the whole extent."""
    if size is None or (isinstance(size, str) and size == "full"):
        return None
    if isinstance(size, str) and not is_physical(size):
        raise TargetError(f"{name}={size!r}: expected a number, a length such as '100 um', or 'full'", key=name)
    return convert(name, size)


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    """Return (along y, along x)."""
    if value is None or isinstance(value, str) or not isinstance(value, Iterable):
        if name == "window_dims" and value != "full" and not is_physical(value):
            expected = "expected (height, width), each a number, a length or 'full', or one length, or 'full'"
            raise TargetError(f"window_dims={value!r}: {expected}", key=name)
        return value, value
    pair = tuple(value)
    if len(pair) != 2:
        raise TargetError(f"{name}={value!r}: expected one value, or one along y and one along x", key=name)
    return pair


def _coverage(source: SampleSource, spaces: Spaces, windows: Windows, boxes: Boxes, window: Array, box: Array) -> Array:
    """Return the fraction of each window that regions cover, from pairs of a window and a box that touch."""
    import shapely

    area = np.zeros(len(windows))
    if not len(box):
        return area
    used, position = np.unique(box, return_inverse=True)
    regions = _regions(source, spaces, boxes.take(used))
    # The regions of each frame, united.
    frames, of_frame = np.unique(np.stack([boxes.space[used], boxes.frame[used]]), axis=1, return_inverse=True)
    of_frame = of_frame.reshape(-1)
    by_frame = regions[np.argsort(of_frame, kind="stable")]
    united = np.empty(frames.shape[1], object)
    for k, group in enumerate(np.split(by_frame, np.cumsum(np.bincount(of_frame))[:-1])):
        united[k] = shapely.union_all(group)
    shapely.prepare(united)
    # Each window meets each frame's united region once.
    pairs = np.unique(np.stack([window, of_frame[position]]), axis=1)
    w = windows.take(pairs[0])
    shapes = shapely.box(w.x0, w.y0, w.x1, w.y1)
    np.add.at(area, pairs[0], shapely.area(shapely.intersection(shapes, united[pairs[1]])))
    frames_held = -(-(windows.t1 - windows.t0) // windows.step)
    return np.asarray(np.minimum(area / windows.area / frames_held, 1.0))


def _regions(source: SampleSource, spaces: Spaces, boxes: Boxes) -> Array:
    """Return the shape of each annotation in its space; shape (box,)."""
    import shapely

    shapes: Array = shapely.box(boxes.x0, boxes.y0, boxes.x1, boxes.y1)
    ids = source.annotations.annot_id[boxes.row].tolist()
    for k, (aid, space, t) in enumerate(zip(ids, boxes.space.tolist(), boxes.frame.tolist(), strict=True)):
        record = source.dset.index.anns[aid]
        frame = source.frame(spaces.frames[space][t])
        stated = (int(spaces.width[space]), int(spaces.height[space]))
        shape = shape_of(record, frame.size if frame.size is not None or spaces.video else stated)
        if shape is not None:
            warp = frame.to_video if spaces.video else IDENTITY
            shapes[k] = shapely.transform(shape.geometry, lambda points, m=warp: points @ m[:2, :2].T + m[:2, 2])
    return shapes
