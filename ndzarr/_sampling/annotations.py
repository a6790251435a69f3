"""The annotations that touch a window.

The annotations of a dataset as columns, sorted by image, so that a look-up is a few vector operations on one image's
rows.  Boxes are x, y, width, height in image space; look-ups in another space warp them first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from ndzarr._indexing.affine import scale_offset, warp_boxes
from ndzarr._sampling.scene import Scene
from ndzarr._sampling.segmentations import box_of_shape, oriented_corners, understood
from ndzarr._validation import as_integer, as_tuple, check_choice, check_flag, check_fraction
from ndzarr.errors import TargetError

# --- Columns from kwcoco's annotation dictionaries.


NO_ID = -1
"""Stands for a missing category or track."""


def boxes_of(annotations: Sequence[dict[str, Any]], sizes: Sizes) -> np.ndarray[Any, Any]:
    """Boxes, shape (n, 4), NaN where there is none; errors are those of `box_of`."""
    missing = (float("nan"),) * 4
    try:
        boxes = [a.get("bbox") or missing for a in annotations]
        flat = np.fromiter(chain.from_iterable(boxes), float, 4 * len(boxes)).reshape(-1, 4)
        plain = all(len(box) == 4 for box in boxes) and not (flat[:, 2:] < 0).any() and not np.isinf(flat).any()
    except (TypeError, ValueError, OverflowError):
        plain = False
    if not plain:
        flat, odd = np.full((len(annotations), 4), np.nan), list(range(len(annotations)))
    else:
        odd = np.flatnonzero(np.isnan(flat).any(axis=1) | ~flat[:, 2:].any(axis=1)).tolist()
        flat[odd] = np.nan
    for k in odd:  # takes arrays too, and names the annotation whose box is wrong
        box = box_of(annotations[k], sizes(annotations[k]))
        if box is not None:
            flat[k] = box
    return flat


Sizes: TypeAlias = Callable[[Mapping[str, Any]], tuple[int, int] | None]
"""From an annotation to the (width, height) of its image, None if that is not stated."""


def box_of(annotation: Mapping[str, Any], size: tuple[int, int] | None) -> np.ndarray[Any, Any] | None:
    """
    The box of an annotation: x, y, width, height in image space; None if it has none.

    An oriented box has the upright box around it.  An annotation without a box, or with one of no size, has the box of
    its segmentation or else of its keypoints.

    Parameters
    ----------
    size
        (width, height) of its image, for masks; None if it is not known.

    Raises
    ------
    TargetError
        Its box, or what stands for it, has none of COCO's forms.
    """
    given = annotation.get("bbox")
    with understood(annotation, "bbox"):
        if (corners := oriented_corners(given)) is not None:
            low = corners.min(axis=0)
            return np.concatenate([low, corners.max(axis=0) - low])
    try:
        box = np.asarray(() if given is None else given, float)
    except (TypeError, ValueError, OverflowError):
        box = np.full(1, np.inf)
    if box.size == 0 or (box.shape == (4,) and np.isnan(box).any()):
        return box_of_shape(annotation, size)
    if box.shape != (4,) or np.isinf(box).any() or box[2:].min() < 0:
        what = f"bbox={given!r} is neither x, y, width, height, with a size of at least 0, nor an oriented box"
        raise TargetError(f"annotation {annotation.get('id')!r}: {what}", key="bbox")
    if box[2:].any():
        return box
    found = box_of_shape(annotation, size)
    return box if found is None else found


def ids_of(key: str, values: list[Any]) -> np.ndarray[Any, Any]:
    """
    Return the ids that annotations have under a key.

    Integers with `NO_ID` for none; strings with '' for none as soon as one of them is a string.
    """
    kinds = set(map(type, values))
    if str in kinds:
        return np.array(["" if v is None else str(v) for v in values])
    known = values if kinds <= {int} else [NO_ID if v is None or v != v else v for v in values]
    try:
        ids = np.array(known, np.int64)
    except OverflowError:
        ids = np.array(known, np.float64)
    if not kinds <= {int, type(None)} and (wrong := [v for v in known if as_integer(v) is None]):
        raise TargetError(f"{key}={wrong[0]!r} is neither a whole number nor text", key=key)
    if ids.dtype != np.int64:
        raise TargetError(f"{key}={max(known, key=abs)!r} has more than 64 bits", key=key)
    return ids


# Keys beside the geometry.

OWN_COLUMNS = ("annot_id", "category_id", "track_id", "frame", "bbox")
"""Columns that every sample has."""

_NOT_COLUMNS = frozenset(
    ("id", "image_id", "category_id", "track_id", "bbox", "segmentation", "keypoints", "num_keypoints", "bbox_mode")
)
"""Keys that other columns or `detections` hold."""

_TAKEN = frozenset((
    "annot", "annot_id", "frame", "xywh", "annot_sample", "sample", "image", "valid", "t", "c", "z", "y", "x", "gid",
    "key", "frame_index", "spatial_ref", "time", "native_z", "native_y", "native_x", "size_t", "size_z", "size_y",
    "size_x", "transform", "row", "column", "index", "boxes", "labels", "annot_ids", "track_ids", "frames", "masks",
))  # fmt: skip
"""Names that samples, batches and tensors use."""


def further_columns(annotations: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """
    Return all other keys of annotations as columns, shape (n,).

    Whole numbers are int64, other numbers float64, flags bool.  Text is objects, and so are lists and dictionaries, as
    JSON.  Where an annotation lacks a key that others have, `iscrowd` and `ignore` are 0, numbers NaN and text ''.  A
    key that a sample uses for something else gets the prefix `annot_`, and blanks and slashes become `_`.
    """
    columns: dict[str, np.ndarray[Any, Any]] = {}
    for key in dict.fromkeys(chain.from_iterable(annotations)):
        if key in _NOT_COLUMNS:
            continue
        name = re.sub(r"[\s/]+", "_", str(key))
        while not name or name in _TAKEN or name in columns:
            name = f"annot_{name}"
        columns[name] = _column(name, [a.get(key) for a in annotations])
    return columns


_FLAGS = ("iscrowd", "ignore")
"""Keys of COCO that are 0 where they are missing."""


def _column(name: str, values: list[Any]) -> np.ndarray[Any, Any]:
    kinds = set(map(type, values))
    numbers = (bool, int, float, np.bool_, np.integer, np.floating)
    if all(kind is type(None) or issubclass(kind, numbers) for kind in kinds):
        if name in _FLAGS:
            values = [0 if v is None or v != v else v for v in values]
        missing = type(None) in kinds and name not in _FLAGS
        if not missing and all(issubclass(kind, bool | np.bool_) for kind in kinds):
            return np.array(values, bool)
        try:
            whole = not missing and not any(issubclass(kind, float | np.floating) for kind in kinds - {type(None)})
            if whole or name in _FLAGS:
                return np.array(values, np.int64)
            return np.array([np.nan if v is None else v for v in values], np.float64)
        except OverflowError:  # beyond 64 bits, or beyond floats: as text, with all digits
            pass
    column = np.empty(len(values), object)
    column[:] = ["" if v is None else v if isinstance(v, str) else json.dumps(v, default=str) for v in values]
    return column


# Boxes in the space of a window.


KEPT_BYTES = 64 << 20
"""Budget of the boxes that a table keeps in other spaces: about 900,000 boxes."""

_ENTRY_BYTES = 1024
"""Memory of the objects besides their numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """The boxes of some images in one space."""

    frame: np.ndarray[Any, Any]
    """Position of the image of each among those that are sampled; shape (n,)."""
    offset: np.ndarray[Any, Any]
    """Added to a position here, it gives the row of the table; one per image."""
    near: np.ndarray[Any, Any]
    """x and y of the near corner; shape (2, n), NaN where there is no box."""
    far: np.ndarray[Any, Any]
    """x and y of the far corner; shape (2, n).  Boxes without area, points and lines, reach a little further than they
    do, so that they touch the window that holds them."""
    boxes: np.ndarray[Any, Any]
    """x, y, width, height in the space; shape (n, 4).  Corners are compared column by column, boxes gathered whole:
    rows of four are gathered several times as quickly as four columns."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        arrays = self.frame, self.offset, self.near, self.far, self.boxes
        return _ENTRY_BYTES + sum([array.nbytes for array in arrays])

    def touching(
        self, window: tuple[float, float, float, float]
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Rows (k,), frames (k,) and boxes (k, 4) that share area with a window: y start, y stop, x start, x stop."""
        y0, y1, x0, x1 = window
        hit = self.near[0] < x1
        hit &= self.near[1] < y1
        hit &= self.far[0] > x0
        hit &= self.far[1] > y0
        found = hit.nonzero()[0]
        boxes = self.boxes.take(found, axis=0)  # take() gathers rows many times faster than an index does
        if len(self.offset) == 1:
            return found + self.offset, np.zeros(len(found), np.intp), boxes
        frame = self.frame[found]
        return found + self.offset[frame], frame, boxes


def place_annotations(parts: Sequence[tuple[slice, np.ndarray[Any, Any], np.ndarray[Any, Any] | None]]) -> Placed:
    """
    Move boxes to the sampled space.

    Each part is an image: its rows in the table, their columns x, y, width, height, shape (4, n), and the transform to
    the space, None if that is the image's own.
    """
    ends = [0, *accumulate(rows.stop - rows.start for rows, _, _ in parts)]
    near, far, boxes = np.empty((2, ends[-1])), np.empty((2, ends[-1])), np.empty((ends[-1], 4))
    frame = np.zeros(ends[-1], np.intp)
    for k, (_, columns, to_space) in enumerate(parts):
        mine = slice(ends[k], ends[k + 1])
        if k:
            frame[mine] = k
        corner, size = near[:, mine], columns[2:]
        if to_space is None:
            corner[...] = columns[:2]
        else:
            size = _warped(to_space[:2], columns, corner)
        np.maximum(size, 1e-9, out=far[:, mine])
        for j, column in enumerate((*corner, *size)):
            boxes[mine, j] = column
    far += near
    offset = np.array([own.start - end for (own, _, _), end in zip(parts, ends[:-1], strict=True)], np.intp)
    return Placed(frame, offset, near, far, boxes)


def _warped(
    matrix: np.ndarray[Any, Any], boxes: np.ndarray[Any, Any], corner: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Sizes of the upright boxes that hold the images of boxes; their corners go into `corner`.  As `warp_boxes`."""
    linear, shift = matrix[:, :2], matrix[:, 2:]
    if not linear[0, 1] and not linear[1, 0] and linear.min() >= 0:  # nearly always: scaled and shifted
        scale = linear.diagonal()[:, None]
        np.multiply(boxes[:2], scale, out=corner)
        corner += shift
        return np.asarray(boxes[2:] * scale)
    np.matmul(linear, boxes[:2], out=corner)
    if linear.min() < 0:  # another corner becomes the first
        corner += np.minimum(linear, 0) @ boxes[2:]
    corner += shift
    return np.asarray(abs(linear) @ boxes[2:])


class Kept:
    """A cache of placed boxes that drops the oldest first; it pickles empty."""

    def __init__(self, max_bytes: int = KEPT_BYTES) -> None:
        self._placed: dict[Hashable, Placed] = {}
        self._bytes = 0
        self.max_bytes = max_bytes

    def get(self, key: Hashable) -> Placed | None:
        """Return what was put there; None if it is not held."""
        return self._placed.get(key)

    def put(self, key: Hashable, placed: Placed) -> None:
        """Hold it, unless it is larger than the budget."""
        if placed.nbytes > self.max_bytes:
            return
        while self._placed and self._bytes + placed.nbytes > self.max_bytes:
            try:
                self._bytes -= self._placed.pop(next(iter(self._placed))).nbytes
            except (StopIteration, KeyError, RuntimeError):  # another thread was faster
                break
        if not self._placed:
            self._bytes = 0  # threads that race may count one twice; this is where that ends
        if self._placed.setdefault(key, placed) is placed:
            self._bytes += placed.nbytes

    def clear(self) -> None:
        """Forget everything."""
        self._placed.clear()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return self._bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, (self.max_bytes,)


NO_ROWS = slice(0, 0)
"""Those of an image without annotations."""


@dataclass(frozen=True, slots=True)
class AnnotationTable:
    """All annotations, sorted by image."""

    gids: np.ndarray[Any, Any]
    """Image of each row, ascending; shape (n,)."""
    annot_id: np.ndarray[Any, Any]
    """Shape (n,)."""
    category_id: np.ndarray[Any, Any]
    """Shape (n,); `NO_ID` where there is none."""
    track_id: np.ndarray[Any, Any]
    """Shape (n,); integers, or strings where a dataset names its tracks."""
    columns: np.ndarray[Any, Any]
    """Shape (4, n): x, y, width, height in image space, each contiguous, so that a look-up streams through them; NaN
    where an annotation has no box."""
    rows: dict[Any, slice]
    """The rows of each image that has any."""
    position: np.ndarray[Any, Any]
    """Where the dataset lists the annotation of each row; shape (n,)."""
    further: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    """Columns of the other keys, such as iscrowd, area and those of one's own; shape (n,) each."""
    crowd: np.ndarray[Any, Any] | None = None
    """True for regions that hold a crowd; shape (n,), None if there is none."""
    kept: Kept = field(default_factory=Kept, repr=False, compare=False)
    """Boxes in the spaces that were sampled lately."""

    def __len__(self) -> int:
        return len(self.annot_id)

    @property
    def bbox(self) -> np.ndarray[Any, Any]:
        """Shape (n, 4): x, y, width, height in image space; NaN where an annotation has no box."""
        return self.columns.T

    def touching(
        self, gid: Any, window: tuple[float, float, float, float], to_space: np.ndarray[Any, Any] | None = None
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """
        Rows (k,) and boxes (k, 4) of an image that share area with a window: y start, y stop, x start, x stop.

        `to_space` maps image space to the space of the window; None if they are the same.
        """
        rows, _, boxes = self.placed(((gid, to_space),)).touching(window)
        return rows, boxes

    def placed(self, images: Sequence[tuple[Any, np.ndarray[Any, Any] | None]]) -> Placed:
        """The boxes of images, each with its transform (or None) to the sampled space; kept for the next look-up."""
        key = []
        for gid, to in images:  # a comprehension is a call
            key.append((gid, None if to is None else to.tobytes()))
        found = self.kept.get(tuple(key))
        if found is None:
            parts = [(self.rows.get(gid, NO_ROWS), to) for gid, to in images]
            found = place_annotations([(rows, self.columns[:, rows], to) for rows, to in parts])
            self.kept.put(tuple(key), found)
        return found


def tabulate(annotations: Sequence[dict[str, Any]], sizes: Sizes = lambda annotation: None) -> AnnotationTable:
    """The table of kwcoco's annotation dictionaries."""
    gids = np.array([a["image_id"] for a in annotations])
    boxes = boxes_of(annotations, sizes)
    order = np.argsort(gids, kind="stable") if len(gids) else np.empty(0, np.intp)
    sorted_gids = gids[order]
    starts = np.flatnonzero(np.r_[True, sorted_gids[1:] != sorted_gids[:-1]]) if len(gids) else np.empty(0, np.intp)
    stops = [*starts[1:].tolist(), len(gids)] if len(gids) else []
    further = {name: column[order] for name, column in further_columns(annotations).items()}
    crowd = further.get("iscrowd", np.zeros(0)).astype(bool)
    return AnnotationTable(
        gids=sorted_gids,
        annot_id=np.array([a["id"] for a in annotations])[order] if len(gids) else np.empty(0, np.int64),
        category_id=ids_of("category_id", [a.get("category_id") for a in annotations])[order],
        track_id=ids_of("track_id", [a.get("track_id") for a in annotations])[order],
        columns=np.ascontiguousarray(boxes[order].T),
        rows={
            gid: slice(*ends) for gid, *ends in zip(sorted_gids[starts].tolist(), starts.tolist(), stops, strict=True)
        },
        position=order,
        further=further,
        crowd=crowd if crowd.any() else None,
    )


Crowd: TypeAlias = Literal["keep", "drop", "ignore"]
CROWD = ("keep", "drop", "ignore")
"""Treatments of annotations whose `iscrowd` is 1: as all others, left out, or marked as regions to ignore."""

GEOMETRY = ("boxes", "segmentation", "keypoints")
"""The geometry that `with_annots` may name."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """The annotations that are wanted with a sample."""

    with_annots: bool | str | Sequence[str] = True
    """False for none; text or a sequence restricts the geometry to some of `GEOMETRY`."""
    annot_ids: Sequence[Any] | None = None
    """Exactly these; None for those that touch the window."""
    visible_thresh: float = 0.0
    """Least fraction of the area of a box that lies in the window."""
    clip: bool = False
    """Clip boxes to the window."""
    crowd: str = "keep"
    """One of `CROWD`."""

    def __post_init__(self) -> None:
        if self.with_annots is True and self.annot_ids is None and self.visible_thresh == 0.0 and self.clip is False:
            if self.crowd != "keep":
                check_choice("crowd", self.crowd, CROWD)
            return  # nearly always
        check_choice("crowd", self.crowd, CROWD)
        if self.annot_ids is not None and as_tuple(self.annot_ids) is None:
            raise TargetError(f"annot_ids={self.annot_ids!r}: expected a sequence of annotation ids", key="annot_ids")
        check_fraction("visible_thresh", self.visible_thresh)
        if not isinstance(self.with_annots, str | bool) and as_tuple(self.with_annots) is None:
            check_flag("with_annots", self.with_annots)
        check_flag("clip", self.clip)
        unknown = set(self.geometry) - set(GEOMETRY)
        if unknown:
            expected = f"expected True, False or some of {', '.join(GEOMETRY)}"
            raise TargetError(f"with_annots={self.with_annots!r}: {expected}", key="with_annots")

    @property
    def wanted(self) -> bool:
        """False where no annotations are looked up."""
        return self.with_annots is True or as_tuple(self.with_annots) is not None or bool(self.with_annots)

    @property
    def geometry(self) -> tuple[str, ...]:
        """The part of `GEOMETRY` that is wanted."""
        if self.with_annots is True:
            return GEOMETRY
        if isinstance(self.with_annots, str):
            return tuple(self.with_annots.split("+"))
        named = as_tuple(self.with_annots)
        return GEOMETRY if named is None else named


class Found(NamedTuple):
    """Annotations of a sample."""

    columns: dict[str, np.ndarray[Any, Any]]
    """annot_id, category_id, track_id, frame (position along t), each (annot,); bbox (annot, 4): x, y, width, height in
    sample pixels; and the other keys of annotations, (annot,)."""
    known: Mapping[Any, dict[str, Any]]
    """Annotation id to kwcoco's dictionary: these, and perhaps more."""
    scene: Scene
    """The window, and its frames."""

    @property
    def records(self) -> tuple[dict[str, Any], ...]:
        """Dictionaries of kwcoco, in the order of the columns."""
        return tuple([self.known[i] for i in self.columns["annot_id"].tolist()])

    @property
    def to_sample(self) -> tuple[np.ndarray[Any, Any], ...]:
        """3x3 from image space to sample pixels, per frame."""
        scene = self.scene
        py, px = scene.pitch
        inverse = scale_offset((1 / px, 1 / py), (-scene.x[0] / px, -scene.y[0] / py))
        return tuple(inverse @ f.to_video if scene.video else inverse for f in scene.frames)

    def __reduce__(self) -> tuple[Any, ...]:
        """It pickles with the dictionaries of these annotations, not with those of the whole dataset."""
        ids = self.columns["annot_id"].tolist()
        return Found, (self.columns, dict(zip(ids, self.records, strict=True)), self.scene)


def find_annotations(
    table: AnnotationTable, records: Mapping[Any, dict[str, Any]], scene: Scene, lookup: Lookup
) -> Found:
    """The annotations of a scene, moved to sample pixels; `records` are kwcoco's dictionaries by id."""
    window = (*scene.y, *scene.x)
    if lookup.annot_ids is None:
        images = [(f.gid, f.to_video) for f in scene.frames] if scene.video else [(scene.frames[0].gid, None)]
        rows, frame, boxes = table.placed(images).touching(window)
    else:
        rows, frame, boxes = _asked(table, records, scene, lookup.annot_ids)
    if lookup.visible_thresh > 0:
        seen = _visible(boxes, window) >= lookup.visible_thresh
        rows, frame, boxes = rows[seen], frame[seen], boxes[seen]
    if lookup.crowd == "drop" and table.crowd is not None:
        single = ~table.crowd[rows]
        rows, frame, boxes = rows[single], frame[single], boxes[single]
    # Boxes (k, 4) were gathered for this sample, so that they are moved to sample pixels in place; column by column,
    # because numpy is slow along axes of four.
    (y0, y1), (x0, x1), (height, width) = scene.y, scene.x, scene.n
    columns = boxes.T
    columns[0] -= float(x0)  # which may be more than 64 bits hold
    columns[1] -= float(y0)
    if width != x1 - x0:
        columns[0::2] /= (x1 - x0) / width
    if height != y1 - y0:
        columns[1::2] /= (y1 - y0) / height
    found = {
        "annot_id": table.annot_id[rows],
        "category_id": table.category_id[rows],
        "track_id": table.track_id[rows],
        "frame": frame,
        "bbox": _clipped(boxes, scene.n) if lookup.clip else boxes,
    }
    for name, column in table.further.items():
        found[name] = column[rows]
    if lookup.crowd == "ignore" and table.crowd is not None:
        found["ignore"] = ignored(table, rows)
    return Found(found, records, scene)


def ignored(table: AnnotationTable, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the column `ignore` of rows where crowds are to be ignored."""
    stated = table.further.get("ignore")
    crowd = np.zeros(len(rows), bool) if table.crowd is None else table.crowd[rows]
    return np.asarray(crowd | (False if stated is None else stated[rows].astype(bool)), np.int64)


def _asked(
    table: AnnotationTable, records: Mapping[Any, dict[str, Any]], scene: Scene, ids: Sequence[Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rows, frames and boxes, in the sampled space, of exactly these annotations."""
    strangers = [aid for aid in ids if not isinstance(aid, Hashable) or aid not in records]
    if strangers:
        raise TargetError(f"annot_ids: the dataset has no annotation {strangers[0]!r}", key="annot_ids")
    hits = [
        np.array([row for aid in ids if (row := _row(table, frame.gid, aid)) is not None], np.intp)
        for frame in scene.frames
    ]
    boxes = [
        warp_boxes(frame.to_video, table.bbox[rows]) if scene.video else table.bbox[rows]
        for frame, rows in zip(scene.frames, hits, strict=True)
    ]
    return np.concatenate(hits), np.repeat(np.arange(len(hits)), [len(rows) for rows in hits]), np.concatenate(boxes)


def _row(table: AnnotationTable, gid: Any, aid: Any) -> int | None:
    """The row of an annotation, if it is one of that image."""
    whole = table.rows.get(gid, NO_ROWS)
    found = np.flatnonzero(table.annot_id[whole] == aid)
    return whole.start + int(found[0]) if len(found) else None


def _visible(boxes: np.ndarray[Any, Any], window: tuple[float, float, float, float]) -> np.ndarray[Any, Any]:
    """Fraction of the area of each box that lies in the window; boxes without area count as visible."""
    y0, y1, x0, x1 = window
    x, y, w, h = boxes.T
    common = np.maximum(np.minimum(x + w, x1) - np.maximum(x, x0), 0) * np.maximum(
        np.minimum(y + h, y1) - np.maximum(y, y0), 0
    )
    return np.where(w * h > 0, common / np.where(w * h > 0, w * h, 1), 1.0)


def _clipped(boxes: np.ndarray[Any, Any], n: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Boxes in sample pixels, cut at the borders of the sample."""
    low = np.clip(boxes[:, :2], 0, (n[1], n[0]))
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, (n[1], n[0]))
    return np.concatenate([low, high - low], axis=1)
