"""Fraction of a window that is real data, or shown by a mask, and windows that hold enough of it.

1. The mask of an image is read once, from the finest level that has at most `max_pixels` pixels: False outside the
   assets, where a value marks missing data, and at NaN.  Images that can have neither are not read at all.
2. Its summed-area table (Crow, "Summed-area tables for texture mapping", 1984) answers any number of windows with four
   look-ups each, linear between the pixels of the level.
3. A mask of one's own, such as tissue, is made of the same pixels by a function, or is a label image of any size.
4. A window of several frames has the mean of its frames; what lies outside the image, or pads in time, is not real.

A pixel of a coarser level counts as real if one of the native pixels below it is: borders of missing regions are known
to within a pixel of that level, and single missing pixels are overlooked.  With `max_pixels=None`, or images that are
not larger, fractions are exact.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._indexing.affine import IDENTITY, warp_boxes
from ndzarr._progress import progress_bar
from ndzarr._pyramid.crops import Sampling
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._sampling.compose import SampleRequest, compose, is_uncertain, mask_by_geometry, read
from ndzarr._sampling.resolve import resolve
from ndzarr._sampling.scene import Asset
from ndzarr._sampling.target import SIZE_SLACK, parse, parse_window_dims
from ndzarr._validation import check_fraction, check_target_count
from ndzarr.errors import OptionError, TargetError
from ndzarr.targets.physical import WindowSizes
from ndzarr.targets.table import Rows, TargetsLike, as_table
from ndzarr.targets.windows import Array, WindowColumns, Windows, present_in, space_size, spaces_of, window_columns

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.protocols import SampleSource


MAX_PIXELS = 1 << 22  # masks are read from the finest level that has at most so many pixels
MAX_POSITIONS = 1 << 20  # positions of a window that `observed` looks at per image, about
MOST_DRAWN = 1 << 16  # windows that are drawn at once, and that tell that there are none
Channels: TypeAlias = "str | Sequence[str] | None"  # a channel code or names; None for all channels

Judge: TypeAlias = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
"""Pixels of a quality band to True where they are good."""

ObservedDims: TypeAlias = "str | tuple[int | str, int | str]"
"""(height, width) as pixels or lengths, or one length for both."""

MaskLike: TypeAlias = "Judge | Mapping[Any, Any] | None"
"""A function from an image of a coarse level (c, y, x) to True where a window may show it, shape (y, x); or image id to
a label image, which is not 0 there: an array (y, x), a pyramid, or the path of a file."""


def valid_fraction(
    source: SampleSource,
    targets: TargetsLike | Rows,
    max_pixels: int | None,
    channels: Channels,
    mask: MaskLike,
    progress: bool,
) -> Array:
    """Return the fraction of each window that is real data; see `Targets.valid_fraction`."""
    table = as_table(targets)
    found, shown = window_columns(table, source), Shown.parse(mask)
    what, code = [Observable(channels, None, max_pixels, shown)], np.zeros(len(found.row), np.int64)
    given = present_in(table, "channels")
    if channels is None and given.any():
        wanted = [c if there else None for c, there in zip(table["channels"].tolist(), given.tolist(), strict=True)]
        names = {repr(c): c for c in wanted}
        positions = {name: k for k, name in enumerate(names)}
        what = [Observable(c, None, max_pixels, shown) for c in names.values()]
        code = np.array([positions[repr(c)] for c in wanted], np.int64)[found.row]
    fractions = _entry_fractions(source, found, what, code, progress)
    number = np.bincount(found.row, minlength=len(found))
    return np.bincount(found.row, fractions, minlength=len(found)) / np.maximum(number, 1)


def valid(
    source: SampleSource,
    targets: TargetsLike | Rows,
    min_fraction: float,
    max_pixels: int | None,
    channels: Channels,
    mask: MaskLike,
    progress: bool,
) -> pandas.DataFrame:
    """Return the windows that hold enough real data; see `Targets.valid`."""
    min_fraction = check_fraction("min_fraction", min_fraction)
    table = as_table(targets)
    fractions = valid_fraction(source, table, max_pixels, channels, mask, progress)
    table = table.assign(valid_fraction=fractions)
    return table[fractions >= min_fraction].reset_index(drop=True)


def with_data(
    source: SampleSource, table: pandas.DataFrame, valid_only: bool | float, mask: MaskLike
) -> pandas.DataFrame:
    """Return the windows with any data (`valid_only=True`, or a mask), or with at least that fraction of it."""
    if valid_only is False and mask is None:
        return table
    least = 1e-9 if isinstance(valid_only, bool) else valid_only
    return valid(source, table, least, MAX_PIXELS, None, mask, True)


def drawn_with_data(
    source: SampleSource,
    n: int,
    draw: Callable[[int, np.random.Generator], pandas.DataFrame],
    valid_only: bool | float,
    mask: MaskLike,
    seed: int | np.random.Generator | None,
) -> pandas.DataFrame:
    """Return n windows as `with_data` does, from those that `draw` draws: (how many, generator) to a table."""
    import pandas

    rng = np.random.default_rng(seed)
    if valid_only is False and mask is None:
        return draw(n, rng)
    found, tried, step = [draw(0, rng)], 0, 4 * check_target_count("n", n, least=0)
    while (there := sum(map(len, found))) < n:
        if tried >= MOST_DRAWN and not there:
            what = f"mask, valid_only: none of {tried} windows holds enough of what a window may show"
            raise TargetError(what, key="mask" if mask is not None else "valid_only", hint="Ask for a smaller fraction")
        found.append(with_data(source, draw(step, rng), valid_only, mask))
        tried += step
        step = min(4 * step, MOST_DRAWN)
    return pandas.concat(found, ignore_index=True).head(n)


def observed(
    source: SampleSource,
    n: int,
    window_dims: ObservedDims,
    resolution: Any,
    min_fraction: float,
    channels: Channels,
    mask: MaskLike,
    seed: int | np.random.Generator | None,
    progress: bool,
) -> pandas.DataFrame:
    """Draw windows that hold enough real data; see `Targets.observed`."""
    import pandas

    n, min_fraction = check_target_count("n", n, least=0), check_fraction("min_fraction", min_fraction)
    dims = parse_window_dims(window_dims)
    if not isinstance(dims, tuple):
        raise TargetError(f"window_dims={window_dims!r}: expected (height, width)", key="window_dims")
    spaces = spaces_of(source, "image")
    sizes = WindowSizes(source, spaces, resolution)
    heights, widths = (
        np.broadcast_to(sizes.pixels(axis, "window_dims", length), len(spaces))
        for axis, length in zip("yx", dims, strict=True)
    )
    what = Observable(channels, None, MAX_POSITIONS, Shown.parse(mask))
    parts = [(np.empty(0, np.int64),) * 3 + (np.empty(0),)]
    with progress_bar(len(spaces), "valid regions", "image", progress) as advance:
        for k in range(len(spaces)):
            height, width = int(heights[k]), int(widths[k])
            rows, columns = int(spaces.height[k]) - height, int(spaces.width[k]) - width
            if rows >= 0 and columns >= 0:
                real = observe(source, spaces.frames[k][0], False, what)
                step = max(1, int(np.ceil(np.sqrt(spaces.height[k] * spaces.width[k] / MAX_POSITIONS))))
                y, x = (np.unique(np.r_[0 : last + 1 : step, last]) for last in (rows, columns))  # the border included
                y0, x0 = (v.ravel() for v in np.meshgrid(y, x, indexing="ij"))
                found = real.fraction(np.stack([y0, y0 + height], 1), np.stack([x0, x0 + width], 1))
                keep = np.flatnonzero(found >= min_fraction)
                parts.append((np.full(len(keep), k), y0[keep], x0[keep], found[keep]))
            advance()
    image, y0, x0, fraction = (np.concatenate(c) for c in zip(*parts, strict=True))
    if not len(image) and n:
        size = " x ".join(map(str, dims))
        message = f"min_fraction={min_fraction:g}: no image has a window of {size} with as much real data"
        raise TargetError(message, key="min_fraction", hint="Ask for less")
    chosen = _draw(len(image), n, seed)
    image, y0, x0, zero = image[chosen], y0[chosen], x0[chosen], np.zeros(n, np.int64)
    windows = Windows(image, zero, zero + 1, zero + 1, y0, y0 + heights[image], x0, x0 + widths[image])
    cells = windows.target_columns(spaces) | sizes.output_dims(windows, dims)
    return pandas.DataFrame(cells | {"valid_fraction": fraction[chosen]})


def _draw(total: int, n: int, seed: int | np.random.Generator | None) -> Array:
    """Return n positions in a random order; each comes once before any comes twice."""
    rng = np.random.default_rng(seed)
    if n <= total:
        return rng.choice(total, n, replace=False, shuffle=True)
    whole = [rng.permutation(total) for _ in range(n // max(total, 1))]
    return np.concatenate([*whole, rng.choice(total, n - total * len(whole), replace=False)])


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """The real data of an image, as a summed-area table."""

    sums: Array | None
    """Real pixels of the level above and to the left of each corner, shape (y + 1, x + 1); None if all are real."""
    size: tuple[int, int]  # (height, width) of the part that the image covers, in native pixels
    factor: int = 1  # native pixels per pixel of the level
    origin: tuple[int, int] = (0, 0)  # start of that part in the space, along (y, x)

    @classmethod
    def of(cls, real: Array | None, size: tuple[int, int], factor: int, origin: tuple[int, int] = (0, 0)) -> Mask:
        """Return the mask of pixels of the level, shape (y, x); None if all are real."""
        if real is None or real.all():
            return cls(None, size, factor, origin)
        sums = np.zeros((real.shape[0] + 1, real.shape[1] + 1))
        np.cumsum(real, axis=0, out=sums[1:, 1:])
        np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
        return cls(sums, size, factor, origin)

    def fraction(self, y: Array, x: Array) -> Array:
        """Return the real fraction of windows, half-open intervals in native pixels of shape (window, 2)."""
        area = (y[:, 1] - y[:, 0]) * (x[:, 1] - x[:, 0])
        y, x = (np.clip(v - o, 0, n) for v, o, n in zip((y, x), self.origin, self.size, strict=True))
        if self.sums is None:
            return np.asarray((y[:, 1] - y[:, 0]) * (x[:, 1] - x[:, 0]) / area)
        (y0, y1), (x0, x1) = y.T, x.T
        real = self._until(y1, x1) - self._until(y0, x1) - self._until(y1, x0) + self._until(y0, x0)
        return np.asarray(np.clip(real * self.factor**2 / area, 0, 1))

    def _until(self, y: Array, x: Array) -> Array:
        """Return the integral of the mask up to a corner, in pixels of the level."""
        assert self.sums is not None
        if self.factor == 1:
            return np.asarray(self.sums[y, x])
        (iy, wy), (ix, wx) = (np.divmod(v, self.factor) for v in (y, x))
        wy, wx = wy / self.factor, wx / self.factor
        jy, jx = (np.minimum(i + 1, n - 1) for i, n in zip((iy, ix), self.sums.shape, strict=True))
        upper = self.sums[iy, ix] * (1 - wx) + self.sums[iy, jx] * wx
        lower = self.sums[jy, ix] * (1 - wx) + self.sums[jy, jx] * wx
        return np.asarray(upper * (1 - wy) + lower * wy)


@dataclass(frozen=True, slots=True)
class Observable:
    """The condition under which a pixel counts as real, or good."""

    channels: Channels = None  # channels that must all be real
    good: Judge | None = None  # tells good values of those channels, if they are a quality band
    max_pixels: int | None = MAX_PIXELS  # most pixels of the level that is read; None reads native pixels
    shown: Shown | None = None  # a mask of one's own, which has to be True as well


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A mask of one's own: what windows may show."""

    judge: Judge | None  # of the pixels (c, y, x) of a level
    labels: Mapping[Any, Any] | None  # image id to label image

    @classmethod
    def parse(cls, mask: MaskLike) -> Shown | None:
        """Check what was asked for."""
        if mask is None:
            return None
        if isinstance(mask, Mapping):
            return cls(None, mask)
        if not callable(mask):
            expected = "expected a function of an image (c, y, x), or image ids to label images"  # type: ignore[unreachable]
            raise OptionError(f"mask={mask!r}: {expected}", key="mask")
        return cls(mask, None)

    def judged(self, image: Array) -> Array | None:
        """Return True where the function says so; shape (y, x), None if there is none."""
        if self.judge is None:
            return None
        found = np.asarray(self.judge(image))
        if found.shape not in (image.shape, image.shape[-2:]):
            message = f"mask: expected shape {image.shape[-2:]} for an image of shape {image.shape}, got {found.shape}"
            raise OptionError(message, key="mask")
        return _everywhere(found.astype(bool))

    def labelled(self, source: SampleSource, gid: Any, at: Array, max_pixels: int | None) -> Array | None:
        """Return True where the label image is not 0, at (x, y) in image space, shape (2, y, x); None without one."""
        if self.labels is None:
            return None
        if gid not in self.labels:
            message = f"mask has no label image for image {gid!r}"
            raise TargetError(message, key="mask", hint="Give one for each image, or choose images with ids")
        labels = _label_image(source, self.labels[gid], max_pixels)
        height, width = space_size(source, "image", gid)
        x, y = (
            np.floor(position * (n / extent)).astype(np.int64)
            for position, n, extent in zip(at, labels.shape[::-1], (width, height), strict=True)
        )
        inside = (x >= 0) & (y >= 0) & (x < labels.shape[1]) & (y < labels.shape[0])
        return np.asarray(labels[np.where(inside, y, 0), np.where(inside, x, 0)] & inside)


def _label_image(source: SampleSource, labels: Any, max_pixels: int | None) -> Array:
    """Return True where a label image is not 0; shape (y, x)."""
    if isinstance(labels, str | os.PathLike):
        labels = source.open_asset(Asset(os.fspath(labels), None, IDENTITY, None))
    if isinstance(labels, Pyramid):
        level = 0
        if labels.kind == "labels" and max_pixels is not None:  # others have means, which are no labels
            sizes = [prod(one.shape[-2:]) for one in labels.levels]
            level = next((k for k, n in enumerate(sizes) if n <= max_pixels), len(sizes) - 1)
        labels = labels.read(level=level)
    found = np.asarray(labels) != 0
    if found.ndim < 2:
        raise OptionError(f"mask: a label image has axes y and x, not shape {found.shape}", key="mask")
    return np.asarray(found.any(axis=tuple(range(found.ndim - 2))))


def observe(source: SampleSource, gid: Any, video: bool, what: Observable) -> Mask:
    """Read the mask of an image, in its own space or in that of its video, wherever it has pixels there."""
    (top, bottom), (left, right) = _extent(source, gid, video)
    factor = 1
    while what.max_pixels is not None and -(-(bottom - top) // factor) * -(-(right - left) // factor) > max(
        1, what.max_pixels
    ):
        factor *= 2
    # Whole multiples of the factor, so that pixels are those of the level itself.
    top, left = (start // factor * factor for start in (top, left))
    height, width = (-(-n // factor) * factor for n in (bottom - top, right - left))
    target: dict[str, Any] = {"gids": [gid]} if video else {"gid": gid}
    target |= {"space_slice": (slice(top, top + height), slice(left, left + width))}
    target |= {"nodata": "ma", "scale": 1 / factor}
    target |= {} if what.channels is None else {"channels": what.channels}
    scene = resolve(parse(target), source)
    request = compose(scene, source)
    if what.good is not None and any(p.crop.pyramid.kind != "labels" for p in request.pieces):
        # A mean of codes is not a code: native pixels are read.
        request = compose(scene._replace(sampling=Sampling("nearest", False)), source)
    real = _real(request, what)
    if what.shown is not None:
        y, x = (np.arange(n) + 0.5 for n in (height // factor, width // factor))
        at = np.stack(np.meshgrid(left + x * factor, top + y * factor))  # centres of pixels of the level: (2, y, x)
        if video:
            back = np.linalg.inv(source.frame(gid).to_video)
            at = np.tensordot(back[:2, :2], at, 1) + back[:2, 2, None, None]
        labelled = what.shown.labelled(source, gid, at, what.max_pixels)
        real = _both(real, labelled)
    return Mask.of(real, (bottom - top, right - left), factor, (top, left))


def _extent(source: SampleSource, gid: Any, video: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return half-open intervals along y and x that hold all assets of an image."""
    frame = source.frame(gid)
    boxes = []
    for asset in frame.assets:
        height, width = source.open_asset(asset).shape[-2:]
        matrix = frame.to_video @ asset.to_image if video else asset.to_image
        boxes.append(warp_boxes(matrix, np.array([[0, 0, width, height]]))[0])
    if not boxes:
        return (0, 1), (0, 1)
    x, y, w, h = np.array(boxes).T

    def around(low: Array, high: Array) -> tuple[int, int]:
        first = int(np.floor(low.min() + SIZE_SLACK))
        return first, max(int(np.ceil(high.max() - SIZE_SLACK)), first + 1)

    return around(y, y + h), around(x, x + w)


def _real(request: SampleRequest, what: Observable) -> Array | None:
    judged = None
    if what.good is None and (what.shown is None or what.shown.judge is None) and not is_uncertain(request):
        mask, good = mask_by_geometry(request), None
    else:
        [(image, mask)] = read([request])
        image = image[0] if request.scene.video else image
        judged = None if what.shown is None else what.shown.judged(image)
        good = None if what.good is None else np.asarray(what.good(image), bool)
        if good is not None and good.shape != image.shape:
            raise OptionError(f"good: expected a mask of shape {image.shape}, got {good.shape}", key="good")
    valid = None if mask is None else _everywhere(mask[1])
    return _both(_both(valid, None if good is None else _everywhere(good)), judged)


def _both(one: Array | None, other: Array | None) -> Array | None:
    """Return where both are True; None stands for a mask that is True everywhere."""
    if one is None or other is None:
        return other if one is None else one
    return np.asarray(one & other)


def _everywhere(mask: Array) -> Array:
    """Return True for pixels (y, x) that are True in all channels and planes."""
    return np.asarray(mask.all(axis=tuple(range(mask.ndim - 2))))


def _entry_fractions(
    source: SampleSource, found: WindowColumns, what: Sequence[Observable], code: Array, progress: bool
) -> Array:
    """Return the real fraction of every frame of every row; `code` is the position in `what` of each entry."""
    out = np.zeros(len(found.row))
    real = np.flatnonzero(found.frame >= 0)
    if not len(real):
        return out
    space = found.space[found.row[real]]
    # Entries of one condition, space and image are answered by one mask.
    key = (code[real] * len(found.spaces) + space) * len(found.gids) + found.frame[real]
    order = np.argsort(key, kind="stable")
    edges = np.flatnonzero(np.r_[True, np.diff(key[order]) > 0, True])
    with progress_bar(len(edges) - 1, "valid regions", "image", progress) as advance:
        for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            entries = real[order[start:stop]]
            first = entries[0]
            rows = found.row[entries]
            k = int(found.space[rows[0]])
            gid = found.gids[int(found.frame[first])]
            mask = observe(source, gid, found.spaces[k][0] == "video", what[int(code[first])])
            out[entries] = mask.fraction(found.y[rows], found.x[rows])
            advance()
    return out
