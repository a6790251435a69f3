"""Which fraction of a window is real data?

1. The mask of an image is read once, from the finest level that has at most `max_pixels` pixels: False outside the
   assets, where a value marks missing data, and at NaN.  Images that can have neither are not read at all.
2. Its summed-area table (Crow, "Summed-area tables for texture mapping", 1984) answers any number of windows with four
   look-ups each, linear between the pixels of the level.
3. A window of several frames has the mean of its frames; what lies outside the image, or pads in time, is not real.

A pixel of a coarser level counts as real if one of the native pixels below it is: borders of missing regions are known
to within a pixel of that level, and missing pixels strewn singly are overlooked.  With `max_pixels=None`, or images
that are not larger, fractions are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._indexing.affine import warp_boxes
from ndzarr._progress import delayed_bar as bar
from ndzarr._pyramid.crops import Sampling
from ndzarr._sampling.compose import SampleRequest, compose, is_uncertain, mask_by_geometry, read
from ndzarr._sampling.resolve import resolve
from ndzarr._sampling.target import parse, parse_window_dims
from ndzarr._validation import check_fraction as portion
from ndzarr._validation import check_target_count as whole
from ndzarr.errors import OptionError, TargetError
from ndzarr.targets.table import Rows
from ndzarr.targets.table import TargetsLike as Targets
from ndzarr.targets.windows import Footprints, as_table, footprints, spaces_of

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.protocols import SampleSource


Array: TypeAlias = "np.ndarray[Any, Any]"

MAX_PIXELS = 1 << 22
"""Masks are read from the finest level that has at most so many pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Where an image holds real data."""

    sums: Array | None
    """Real pixels of the level above and to the left of each corner, shape (y + 1, x + 1); None where all are real."""
    size: tuple[int, int]
    """(height, width) of what the image covers, in native pixels."""
    factor: int = 1
    """Native pixels per pixel of the level."""
    origin: tuple[int, int] = (0, 0)
    """Where it begins in the space, along (y, x)."""

    @classmethod
    def of(cls, real: Array | None, size: tuple[int, int], factor: int, origin: tuple[int, int] = (0, 0)) -> Mask:
        """From pixels of the level, shape (y, x); None where all are real."""
        if real is None or real.all():
            return cls(None, size, factor, origin)
        sums = np.zeros((real.shape[0] + 1, real.shape[1] + 1))
        np.cumsum(real, axis=0, out=sums[1:, 1:])
        np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
        return cls(sums, size, factor, origin)

    def fraction(self, y: Array, x: Array) -> Array:
        """
        Real pixels of windows.

        Parameters
        ----------
        y, x
            Half-open intervals in native pixels, shape (window, 2).

        Returns
        -------
        From 0 to 1, shape (window,).
        """
        area = (y[:, 1] - y[:, 0]) * (x[:, 1] - x[:, 0])
        y, x = (np.clip(v - o, 0, n) for v, o, n in zip((y, x), self.origin, self.size, strict=True))
        if self.sums is None:
            return np.asarray((y[:, 1] - y[:, 0]) * (x[:, 1] - x[:, 0]) / area)
        (y0, y1), (x0, x1) = y.T, x.T
        real = self._until(y1, x1) - self._until(y0, x1) - self._until(y1, x0) + self._until(y0, x0)
        return np.asarray(np.clip(real * self.factor**2 / area, 0, 1))

    def _until(self, y: Array, x: Array) -> Array:
        """Integral of the mask up to a corner, in pixels of the level."""
        assert self.sums is not None
        if self.factor == 1:
            return np.asarray(self.sums[y, x])
        (iy, wy), (ix, wx) = (np.divmod(v, self.factor) for v in (y, x))
        wy, wx = wy / self.factor, wx / self.factor
        jy, jx = (np.minimum(i + 1, n - 1) for i, n in zip((iy, ix), self.sums.shape, strict=True))
        upper = self.sums[iy, ix] * (1 - wx) + self.sums[iy, jx] * wx
        lower = self.sums[jy, ix] * (1 - wx) + self.sums[jy, jx] * wx
        return np.asarray(upper * (1 - wy) + lower * wy)


Judge: TypeAlias = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
"""Pixels of a quality band to True where they are good."""


@dataclass(frozen=True, slots=True)
class Observable:
    """What makes a pixel real, or good."""

    channels: Any = None
    """Channels that must all be real; None for all that the image has."""
    good: Judge | None = None
    """Says which values of those channels are good, where they are a quality band."""
    max_pixels: int | None = MAX_PIXELS
    """As `MAX_PIXELS`; None reads native pixels."""


def observe(source: SampleSource, gid: Any, video: bool, what: Observable) -> Mask:
    """The mask of an image, in its own space or in that of its video, wherever it has pixels there."""
    (top, bottom), (left, right) = _extent(source, gid, video)
    factor = 1
    while what.max_pixels is not None and -(-(bottom - top) // factor) * -(-(right - left) // factor) > max(
        1, what.max_pixels
    ):
        factor *= 2
    # Whole multiples, so that pixels are those of the level itself.
    top, left = (start // factor * factor for start in (top, left))
    height, width = (-(-n // factor) * factor for n in (bottom - top, right - left))
    target: dict[str, Any] = {"gids": [gid]} if video else {"gid": gid}
    target |= {"space_slice": (slice(top, top + height), slice(left, left + width))}
    target |= {"nodata": "ma", "scale": 1 / factor}
    target |= {} if what.channels is None else {"channels": what.channels}
    scene = resolve(parse(target), source)
    composition = compose(scene, source)
    if what.good is not None and any(p.crop.pyramid.kind != "labels" for p in composition.pieces):
        # Means of codes are no codes: native pixels are read.
        composition = compose(replace(scene, sampling=Sampling("nearest", False)), source)
    return Mask.of(_real(composition, what), (bottom - top, right - left), factor, (top, left))


def _extent(source: SampleSource, gid: Any, video: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """Half-open intervals along y and x that hold all assets of an image."""
    frame = source.frame(gid)
    boxes = []
    for asset in frame.assets:
        height, width = source.open_asset(asset).shape[-2:]
        matrix = frame.to_video @ asset.to_image if video else asset.to_image
        boxes.append(warp_boxes(matrix, np.array([[0, 0, width, height]]))[0])
    if not boxes:
        return (0, 1), (0, 1)
    x, y, w, h = np.array(boxes).T
    return tuple(  # type: ignore[return-value]
        (int(np.floor(low.min() + 1e-6)), max(int(np.ceil(high.max() - 1e-6)), int(np.floor(low.min() + 1e-6)) + 1))
        for low, high in ((y, y + h), (x, x + w))
    )


def _real(request: SampleRequest, what: Observable) -> Array | None:
    if what.good is None and not is_uncertain(request):
        mask, good = mask_by_geometry(request), None
    else:
        [(image, mask)] = read([request])
        image = image[0] if request.scene.video else image
        good = None if what.good is None else np.asarray(what.good(image), bool)
        if good is not None and good.shape != image.shape:
            raise OptionError(f"good: expected a mask of shape {image.shape}, got {good.shape}")
    valid = None if mask is None else _everywhere(mask[1])
    if good is not None:
        valid = _everywhere(good) if valid is None else valid & _everywhere(good)
    return valid


def _everywhere(mask: Array) -> Array:
    """Pixels (y, x) for which it holds in all channels and planes."""
    return np.asarray(mask.all(axis=tuple(range(mask.ndim - 2))))


def entry_fractions(
    source: SampleSource, found: Footprints, what: Sequence[Observable], code: Array, progress: bool = True
) -> Array:
    """
    Real fraction of every frame of every row.

    Parameters
    ----------
    what, code
        What is asked of each entry of `found`, as positions in `what`.

    Returns
    -------
    Shape (entry,).
    """
    out = np.zeros(len(found.row))
    real = np.flatnonzero(found.frame >= 0)
    if not len(real):
        return out
    space = found.space[found.row[real]]
    key = (code[real] * len(found.spaces) + space) * len(found.gids) + found.frame[real]
    order = np.argsort(key, kind="stable")
    edges = np.flatnonzero(np.r_[True, np.diff(key[order]) > 0, True])
    with bar(len(edges) - 1, "valid regions", "image", progress) as advance:
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


def valid_fraction(
    source: SampleSource,
    table: Targets | Rows,
    max_pixels: int | None = MAX_PIXELS,
    channels: Any = None,
    progress: bool = True,
) -> Array:
    """
    Fraction of each window that is real data: inside the image, not nodata, not NaN.

    Parameters
    ----------
    table
        Targets.
    max_pixels
        Masks are read from the finest level with at most so many pixels; None reads native pixels.
    channels
        Those that must all be real; by default those that the row asks for, else all of the image.
    progress
        Show a bar if it takes longer than a second.

    Returns
    -------
    From 0 to 1, shape (row,); the mean over the frames of a row.

    Raises
    ------
    TargetError
        A row is no target of this dataset.
    """
    table = as_table(table)
    found = footprints(source, table)
    what, code = [Observable(channels, None, max_pixels)], np.zeros(len(found.row), np.int64)
    if channels is None and "channels" in table and table["channels"].notna().any():
        given = table["channels"].notna().tolist()
        wanted = [c if there else None for c, there in zip(table["channels"].tolist(), given, strict=True)]
        names = {repr(c): c for c in wanted}
        positions = {name: k for k, name in enumerate(names)}
        what = [Observable(c, None, max_pixels) for c in names.values()]
        code = np.array([positions[repr(c)] for c in wanted], np.int64)[found.row]
    fractions = entry_fractions(source, found, what, code, progress)
    number = np.bincount(found.row, minlength=len(found))
    return np.bincount(found.row, fractions, minlength=len(found)) / np.maximum(number, 1)


def valid(
    source: SampleSource,
    table: Targets | Rows,
    min_fraction: float = 0.5,
    max_pixels: int | None = MAX_PIXELS,
    channels: Any = None,
    progress: bool = True,
) -> pandas.DataFrame:
    """
    The windows of which at least a fraction is real data.

    Parameters
    ----------
    min_fraction
        From 0 (keep all) to 1.
    max_pixels, channels, progress
        See `valid_fraction`.

    Returns
    -------
    Those rows of the table, with a column `valid_fraction`.

    Raises
    ------
    TargetError
        A row is no target of this dataset, or the threshold is none.
    """
    min_fraction = portion("min_fraction", min_fraction)
    table = as_table(table)
    fractions = valid_fraction(source, table, max_pixels, channels, progress)
    table = table.assign(valid_fraction=fractions)
    return table[fractions >= min_fraction].reset_index(drop=True)


# --- Where are windows of one size that hold enough real data?


MAX_POSITIONS = 1 << 20
"""Positions of a window that are looked at per image, about."""


def observed(
    source: SampleSource,
    n: int,
    window_dims: tuple[int, int],
    min_fraction: float = 0.9,
    channels: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> pandas.DataFrame:
    """
    Draw windows of which at least a fraction is real data, from all images.

    Parameters
    ----------
    n
        How many.
    window_dims
        (height, width) in image space; windows lie wholly in their image.
    min_fraction
        From 0 to 1.
    channels
        Those that must all be real; None for all of the image.
    seed
        The same one gives the same table.

    Returns
    -------
    A table with gid, cx, cy, width, height and valid_fraction.

    Raises
    ------
    TargetError
        No image has such a window.
    """
    import pandas

    n, min_fraction = whole("n", n, least=0), portion("min_fraction", min_fraction)
    dims = parse_window_dims(window_dims)
    if not isinstance(dims, tuple):
        raise TargetError(f"window_dims={window_dims!r}: expected (height, width)")
    height, width = (whole("window_dims", length) for length in dims)
    spaces = spaces_of(source, "image")
    parts = []
    with bar(len(spaces), "valid regions", "image", progress) as advance:
        for k in range(len(spaces)):
            size = int(spaces.height[k]), int(spaces.width[k])
            if size[0] >= height and size[1] >= width:
                mask = observe(source, spaces.frames[k][0], False, Observable(channels, None, MAX_POSITIONS))
                step = max(1, int(np.ceil(np.sqrt(size[0] * size[1] / MAX_POSITIONS))))
                y, x = _positions(size[0] - height, step), _positions(size[1] - width, step)
                y0, x0 = (v.ravel() for v in np.meshgrid(y, x, indexing="ij"))
                found = mask.fraction(np.stack([y0, y0 + height], 1), np.stack([x0, x0 + width], 1))
                keep = np.flatnonzero(found >= min_fraction)
                parts.append((np.full(len(keep), k), y0[keep], x0[keep], found[keep]))
            advance()
    total = sum(len(p[0]) for p in parts)
    if not total and n:
        raise TargetError(
            f"no image has a window of {height} x {width} of which {min_fraction:g} is real data; ask for less"
        )
    image, y0, x0, fraction = (np.concatenate(c) for c in zip(*parts, strict=True)) if parts else [np.empty(0, int)] * 4
    chosen = _draw(total, n, seed)
    return pandas.DataFrame(
        {
            "gid": spaces.ids[image[chosen]],
            "cx": x0[chosen] + width / 2,
            "cy": y0[chosen] + height / 2,
            "width": width,
            "height": height,
            "valid_fraction": fraction[chosen],
        }
    )


def _positions(room: int, step: int) -> np.ndarray[Any, Any]:
    """Where a window may begin along one axis; the last one ends at the border."""
    return np.unique(np.r_[np.arange(0, room + 1, step), room])


def _draw(total: int, n: int, seed: int) -> np.ndarray[Any, Any]:
    """Positions in a random order, each once before any is there twice."""
    rng = np.random.default_rng(seed)
    if n <= total:
        return rng.choice(total, n, replace=False, shuffle=True)
    whole = [rng.permutation(total) for _ in range(n // max(total, 1))]
    return np.concatenate([*whole, rng.choice(total, n - total * len(whole), replace=False)])
