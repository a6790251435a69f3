"""Shapes of annotations: polygons, run lengths, oriented boxes and keypoints; their boxes, and their pixels.

Pixels are those of COCO: `masks_in` fills polygons as pycocotools does.  That cannot fill a window without filling
the whole image, so it is the oracle of the tests and not used here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr._indexing.affine import scale_offset, warp_boxes
from ndzarr.errors import TargetError

if TYPE_CHECKING:
    import shapely

Array: TypeAlias = np.ndarray[Any, Any]
Size: TypeAlias = tuple[int, int]


_LARGEST = 2.0**40
"""Pixels beyond which there is no shape."""


@contextmanager
def understood(record: Mapping[str, Any], key: str) -> Iterator[None]:
    """Name the annotation in errors about a value that has none of COCO's forms."""
    try:
        yield
    except (
        ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, NotImplementedError, OverflowError
    ) as error:  # fmt: skip
        if isinstance(error, TargetError):
            raise
        reason = " ".join(str(error).split())
        raise TargetError(
            f"annotation {record.get('id')!r}: its {key} has none of COCO's forms "
            f"({type(error).__name__}{': ' * bool(reason)}{reason[:200]})",
            key=key,
        ) from error


def _is_empty(value: Any) -> bool:
    return value is None or (hasattr(value, "__len__") and len(value) == 0)


def shape_of(record: Mapping[str, Any], size: Size | None) -> Polygons | Runs | None:
    """
    Return the shape of an annotation in image space: its segmentation, else its oriented box; None if it has neither.

    Parameters
    ----------
    record
        kwcoco's dictionary.
    size
        (width, height) of the image; None if it is not known.

    Raises
    ------
    TargetError
        The shape has none of COCO's forms, or a mask has another size than the image.
    """
    outline = record.get("segmentation")
    if not _is_empty(outline):
        with understood(record, "segmentation"):
            if isinstance(outline, Mapping) and "counts" in outline:
                return _runs(record, outline, size)
            polygons = _polygons(outline)
        if polygons.parts:
            return polygons
    given = record.get("bbox")
    if given is None or (type(given) is list and len(given) == 4):  # nearly always
        return None
    with understood(record, "bbox"):
        corners = oriented_corners(record.get("bbox"))
        return None if corners is None else Polygons(((corners,),))


def box_of_shape(record: Mapping[str, Any], size: Size | None) -> Array | None:
    """Return x, y, width, height around the shape of an annotation, else around its keypoints; None without both."""
    shape = shape_of(record, size)
    box = None if shape is None else shape.box
    if box is not None:
        return box
    given = record.get("keypoints")
    if _is_empty(given):
        return None
    with understood(record, "keypoints"):
        return _box_around(labelled_points(given))


def labelled_points(given: Any) -> Array:
    """Return the keypoints, shape (n, 2), without those that COCO's visibility 0 says are not labelled."""
    if isinstance(given[0], Mapping):
        rows = [(*point["xy"], point.get("visible", 2)) for point in given]
    else:
        rows = list(map(tuple, np.asarray(given, float).reshape(-1, 3).tolist()))
    points = np.array([(x, y) for x, y, visible in rows if visible is None or visible > 0], float).reshape(-1, 2)
    return _finite(points)


def _finite(points: Array) -> Array:
    if not (np.abs(points) < _LARGEST).all():  # nor is NaN
        raise ValueError("a coordinate is not a number of pixels")
    return points


def _box_around(points: Array) -> Array | None:
    if not len(points):
        return None
    low = points.min(axis=0)
    return np.concatenate([low, points.max(axis=0) - low])


def oriented_corners(bbox: Any) -> Array | None:
    """
    Return the corners of an oriented box, shape (4, 2); None for boxes of another form.

    Five numbers are x and y of the centre, width, height and an angle in degrees, counter-clockwise as one sees it
    (Detectron2's XYWHA_ABS). Eight are the corners, as in DOTA.

    Examples
    --------
    >>> oriented_corners([10, 10, 8, 4, 90]).round().tolist()
    [[8.0, 14.0], [8.0, 6.0], [12.0, 6.0], [12.0, 14.0]]
    """
    if not hasattr(bbox, "__len__") or len(bbox) not in (4, 5, 8):
        return None
    numbers = np.asarray(bbox, float)
    if numbers.size == 8:
        return _finite(numbers.reshape(4, 2))
    if numbers.shape != (5,):
        return None
    x, y, width, height, angle = _finite(numbers).tolist()
    if min(width, height) < 0:
        raise ValueError("its width or height is negative")
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (width / 2, height / 2)
    return np.asarray(corners @ np.array([[cos, -sin], [sin, cos]]) + (x, y))


# Polygons.


def _polygons(outline: Any) -> Polygons:
    """Polygons in any form that COCO and kwcoco store; other forms are kwimage's to understand."""
    if type(outline) is list and {*map(type, outline)} == {list} and min(map(len, outline)) > 2:  # nearly always
        return Polygons(tuple([(_finite(np.array(ring, float).reshape(-1, 2)),) for ring in outline]))
    if isinstance(outline, Mapping) and "exterior" in outline:
        outline = [outline]
    if isinstance(outline, list | tuple) and not isinstance(outline[0], str | list | tuple | Mapping | np.ndarray):
        outline = [outline]  # one flat list of coordinates
    if isinstance(outline, list | tuple) and all(_is_part(part) for part in outline):
        if len(outline) > 2 and all(not isinstance(part, Mapping) and len(part) == 2 for part in outline):
            outline = [outline]  # the points of one polygon
        parts = [_rings(part) for part in outline if not _is_empty(part)]
        return Polygons(tuple([part for part in parts if len(part[0])]))
    import kwimage

    found = kwimage.MultiPolygon.coerce(outline)
    if found is None:
        raise ValueError("it is not a polygon")
    return Polygons(
        tuple([
            tuple([_finite(np.asarray(ring.data, float)) for ring in (one.data["exterior"], *one.data["interiors"])])
            for one in found.data
        ])
    )  # fmt: skip


def _is_part(part: Any) -> bool:
    return isinstance(part, list | tuple | np.ndarray) or (isinstance(part, Mapping) and "exterior" in part)


def _rings(part: Any) -> tuple[Array, ...]:
    """The exterior and the interiors of a polygon, shape (n, 2) each."""
    rings = [part["exterior"], *(part.get("interiors") or ())] if isinstance(part, Mapping) else [part]
    return tuple([_finite(np.asarray(ring, float).reshape(-1, 2)) for ring in rings])


@dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons with holes, in continuous pixels."""

    parts: tuple[tuple[Array, ...], ...]
    """The exterior and the interiors of each, shape (n, 2): x, y."""

    @classmethod
    def around(cls, box: Array) -> Polygons:
        """Return the outline of x, y, width, height."""
        x, y, width, height = box.tolist()
        return cls(((np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)]),),))

    @classmethod
    def of_geometry(cls, geometry: shapely.Geometry) -> Polygons | None:
        """Return the polygons of shapely's geometry; None if it has no area."""
        import shapely

        parts = [one for one in shapely.get_parts(shapely.get_parts(geometry)).tolist() if one.geom_type == "Polygon"]
        rings = [[np.asarray(r.coords)[:-1] for r in (one.exterior, *one.interiors)] for one in parts if one.area]
        return cls(tuple([tuple(part) for part in rings])) if rings else None

    @property
    def box(self) -> Array | None:
        """x, y, width, height; None where there is no point."""
        return _box_around(np.concatenate([part[0] for part in self.parts])) if self.parts else None

    def warped(self, matrix: Array) -> Polygons:
        """Return them under an affine transform (3 x 3)."""
        (a, b, c), (d, e, f) = matrix[:2].tolist()

        def moved(ring: Array) -> Array:
            x, y = ring.T
            return np.stack([a * x + c if b == 0 else a * x + b * y + c, e * y + f if d == 0 else d * x + e * y + f], 1)

        return Polygons(tuple([tuple(map(moved, part)) for part in self.parts]))

    def to_polygons(self) -> Polygons:
        """Return themselves."""
        return self

    def filled(self, size: Size, origin: tuple[int, int] = (0, 0)) -> Array:
        """
        Return the pixels inside, bool (height, width).

        Parameters
        ----------
        size
            (height, width) in pixels.
        origin
            (x, y) of the first pixel.
        """
        out = np.zeros((1, *size), bool)
        _fill(out, [self], [origin])
        return np.asarray(out[0])

    @property
    def geometry(self) -> shapely.Geometry:
        """As shapely's geometry."""
        import shapely

        valid = [shapely.make_valid(shapely.Polygon(e, i)) for e, *i in self.parts if len(e) > 2]
        return shapely.union_all(valid)


def origin_of(to_sample: Array) -> tuple[int, int]:
    """
    Return (x, y) of the first pixel of a sample in the whole image, at the scale of the sample.

    COCO rounds coordinates of whole images, so that a window has the pixels that the image has there.
    """
    x, y = np.round(-to_sample[:2, 2]).tolist()
    return (int(x), int(y)) if max(abs(x), abs(y)) < _LARGEST else (0, 0)


_FINE = 5
"""COCO rounds polygons to fifths of a pixel."""


def _fill(out: Array, polygons: Sequence[Polygons], origins: Sequence[tuple[int, int]]) -> None:
    """Fill polygons, each into its mask in `out`, bool (polygon, height, width), which begins at its origin (x, y)."""
    rings = [ring for one in polygons for part in one.parts for ring in part]
    if not rings:
        return
    starts = [origin for one, origin in zip(polygons, origins, strict=True) for part in one.parts for _ in part]
    found = iter(_insides(rings, starts, out.shape[1:]))
    for mask, one in zip(out, polygons, strict=True):
        for _, *interiors in one.parts:
            place, inside = next(found)
            if interiors:
                whole = np.zeros(mask.shape, bool)
                whole[place] = inside
                for _ in interiors:
                    place, inside = next(found)
                    whole[place] &= ~inside
                mask |= whole
            else:
                mask[place] |= inside


def _insides(
    rings: Sequence[Array], origins: Sequence[tuple[int, int]], size: tuple[int, ...]
) -> list[tuple[tuple[slice, slice], Array]]:
    """
    Return the part of each window (y, x) that a ring touches, and its pixels inside.

    They are those of `rleFrPoly` in pycocotools' maskApi.c, which draws a ring on a grid five times as fine and toggles
    column k from the row where an edge steps from 5k + 2 to 5k + 3 on; here for the columns of the window alone.
    """
    lengths = [len(ring) for ring in rings]
    ends = np.cumsum(lengths)
    points = np.trunc(_FINE * np.concatenate(rings) + 0.5)
    after = np.arange(1, len(points) + 1)
    after[ends[ends > 0] - 1] = (ends - lengths)[ends > 0]  # the last point of a ring is followed by its first
    owner = np.repeat(np.arange(len(rings)), lengths)
    left, top = np.array(origins, float).T[:, owner]
    (x, y), (to_x, to_y) = points.T, points[after].T
    dx, dy = abs(to_x - x), abs(to_y - y)
    first = np.maximum(np.ceil((np.minimum(x, to_x) - 2) / _FINE), left)
    last = np.minimum(np.floor((np.maximum(x, to_x) - 3) / _FINE), left + size[1] - 1)
    number = np.maximum(last - first + 1, 0).astype(np.intp)
    # Edges run towards the larger coordinate of their longer axis.
    flat = dx >= dy
    turned = np.where(flat, x > to_x, y > to_y)
    x, to_x = np.where(turned, to_x, x), np.where(turned, x, to_x)
    y, to_y = np.where(turned, to_y, y), np.where(turned, y, to_y)
    slope = np.where(flat, to_y - y, to_x - x) / np.maximum(np.where(flat, dx, dy), 1)
    # One entry per edge and column that it crosses.
    edge = np.repeat(np.arange(len(number)), number)
    column = np.arange(len(edge)) - (np.cumsum(number) - number - first)[edge]
    step, x, y, slope, flat, owner = _FINE * column + 2, x[edge], y[edge], slope[edge], flat[edge], owner[edge]
    fine = np.trunc(y + slope * (step - x + (slope < 0)) + 0.5)
    steep = np.flatnonzero(~flat)
    fine[steep] = y[steep] + _step_before(x[steep], slope[steep], step[steep])
    rows = np.minimum(np.maximum((fine + 2) // _FINE - top[edge], 0), size[0]).astype(np.intp)
    columns = (column - left[edge]).astype(np.intp)
    stops = np.cumsum(np.bincount(owner, minlength=len(rings))).tolist()
    return [_toggled(rows[a:b], columns[a:b]) for a, b in zip([0, *stops], stops, strict=False)]


def _toggled(row: Array, column: Array) -> tuple[tuple[slice, slice], Array]:
    """Return the part of a window that toggles touch, and its pixels with an odd number of toggles above."""
    if not len(row):
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
    top, left, height, width = int(row.min()), int(column.min()), int(np.ptp(row)), int(np.ptp(column)) + 1
    place = (column - left) * (height + 1) + row - top
    toggles = np.bincount(place, minlength=width * (height + 1)).astype(np.uint8).reshape(width, height + 1)
    counts = np.add.accumulate(toggles, axis=1, dtype=np.uint8)[:, :-1]
    return (slice(top, top + height), slice(left, left + width)), (counts & 1).view(bool).T


def _step_before(x: Array, slope: Array, column: Array) -> Array:
    """Return the last step along y of steep edges before they pass from a column to the next, or back."""

    def passed(steps: Array) -> Array:
        return np.asarray((np.floor(x + slope * steps + 0.5) > column) == (slope > 0))

    steps = np.ceil((column + 0.5 - x) / slope)
    steps -= passed(steps - 1)  # the division may be off by a rounding error
    steps += ~passed(steps)
    return np.asarray(steps - 1)


# Run lengths.


def _runs(record: Mapping[str, Any], given: Mapping[str, Any], size: Size | None) -> Runs:
    """A mask of run lengths: numbers, or the text that pycocotools makes of them."""
    stated = given.get("size", given.get("shape", given.get("dims")))
    if stated is None and size is None:
        raise ValueError("a mask needs its size, (height, width)")
    height, width = map(int, size[::-1] if stated is None else stated)  # type: ignore[index]
    if size is not None and (width, height) != size:
        raise TargetError(
            f"annotation {record.get('id')!r}: its segmentation is a mask of {height} x {width} pixels (height x "
            f"width), but image {record.get('image_id')!r} is {size[1]} x {size[0]}",
            key="segmentation",
            hint="Give the mask the size of the image",
        )
    counts = given["counts"]
    numbers = np.asarray(_counts(counts) if isinstance(counts, str | bytes) else counts, np.int64).reshape(-1)
    if (numbers < 0).any():
        raise ValueError(f"a run of {int(numbers.min())} pixels")
    if (total := int(numbers.sum())) != height * width:
        raise ValueError(f"its runs are {total} pixels, {height} x {width} are {height * width}")
    return Runs(height, width, np.cumsum(numbers))


def _counts(text: str | bytes) -> list[int]:
    """
    Decode the run lengths in pycocotools' text, without pycocotools.

    Five bits a letter, the low ones first; a sixth says that more follow, the last one's highest is the sign.  From the
    fourth run on it is the difference to the last but one.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text.encode() if isinstance(text, str) else text:
        bits = letter - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{chr(letter)!r} is not a letter of a compressed mask")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (1 << shift) if bits & 16 else 0
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


@dataclass(frozen=True, eq=False)
class Runs:
    """A mask as run lengths, column by column: outside and inside in turn."""

    height: int
    width: int
    ends: Array
    """Pixels up to the end of each run; shape (run,)."""

    @classmethod
    def of(cls, mask: Array) -> Runs:
        """Return a mask (y, x) as run lengths."""
        flat = np.concatenate(([False], mask.ravel(order="F").astype(bool)))
        height, width = mask.shape
        return cls(height, width, np.append(np.flatnonzero(flat[1:] != flat[:-1]), mask.size))

    @property
    def counts(self) -> list[int]:
        """The lengths of runs, outside and inside in turn: COCO's `counts`."""
        return [int(n) for n in np.diff(self.ends, prepend=0)]

    @cached_property
    def _columns(self) -> Array:
        """The parts of columns inside: (column, first row, row behind the last); shape (3, part)."""
        start, stop = self.ends[:-1:2], self.ends[1::2]
        start, stop = start[: len(stop)][stop > start[: len(stop)]], stop[stop > start[: len(stop)]]
        first, last = start // self.height, (stop - 1) // self.height
        number = last - first + 1
        run = np.repeat(np.arange(len(number)), number)
        column = np.arange(len(run)) - np.repeat(np.cumsum(number) - number - first, number)
        top = np.where(column == first[run], start[run] % self.height, 0)
        below = np.where(column == last[run], (stop[run] - 1) % self.height + 1, self.height)
        return np.stack([column, top, below])

    @property
    def box(self) -> Array | None:
        """x, y, width, height; None where no pixel is inside."""
        column, top, below = self._columns
        if not len(column):
            return None
        x, y = column.min(), top.min()
        return np.array([x, y, column.max() + 1 - x, below.max() - y], float)

    def mask(self, to_sample: Array, size: Size) -> Array:
        """Return the pixels of a window of that size, to which a transform leads, whose centres are inside."""
        out = np.zeros(size, bool)
        if self.box is None:
            return out
        x, y, width, height = warp_boxes(to_sample, self.box)[0].tolist()
        left, right = (int(np.clip(v, 0, size[1])) for v in (np.floor(x), np.ceil(x + width)))
        top, below = (int(np.clip(v, 0, size[0])) for v in (np.floor(y), np.ceil(y + height)))
        (a, b, c), (d, e, f) = np.linalg.inv(to_sample)[:2].tolist()
        across, down = np.arange(left, right) + 0.5, np.arange(top, below)[:, None] + 0.5
        column = np.floor(a * across + c if b == 0 else a * across + b * down + c)
        row = np.floor(e * down + f if d == 0 else d * across + e * down + f)
        real = (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        place = np.where(real, column * self.height + row, 0).astype(np.int64)
        out[top:below, left:right] = (np.searchsorted(self.ends, place, side="right") & 1).astype(bool) & real
        return out

    def to_polygons(self) -> Polygons:
        """Return the outlines of the pixels inside."""
        return Polygons.of_geometry(self.geometry) or Polygons(())

    @property
    def geometry(self) -> shapely.Geometry:
        """As shapely's geometry."""
        import shapely

        column, top, below = self._columns
        return shapely.union_all(shapely.box(column, top, column + 1, below)).simplify(0)


def masks_in(shapes: Sequence[Polygons | Runs | None], to_sample: Sequence[Array], size: Size) -> Array:
    """
    Return the pixels inside shapes, bool (shape, height, width).

    Parameters
    ----------
    to_sample
        From the image space of each shape to pixels of the window.
    size
        (height, width) of the window.
    """
    out = np.zeros((len(shapes), *size), bool)
    polygons, origins = [Polygons(())] * len(shapes), [(0, 0)] * len(shapes)
    for k, (shape, matrix) in enumerate(zip(shapes, to_sample, strict=True)):
        if isinstance(shape, Runs):
            out[k] = shape.mask(matrix, size)
        elif shape is not None:
            origins[k] = origin_of(matrix)
            # COCO rounds coordinates of the whole image.
            polygons[k] = shape.warped(scale_offset((1, 1), origins[k]) @ matrix)
    _fill(out, polygons, origins)
    return out
