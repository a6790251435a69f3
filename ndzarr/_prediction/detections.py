"""
Detections back on the image: boxes and polygons that a model found in windows become one list in native pixels.

Windows add what was found in them; `merging` makes each object one, also where a window's border cut it; and the result
is written as COCO, kwcoco, GeoJSON or QuPath's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import xarray

from ndzarr._files import local_path, publishing_file
from ndzarr._indexing.affine import warp_boxes
from ndzarr._indexing.plan import counted
from ndzarr._prediction.canvas import Canvas
from ndzarr._prediction.detection_files import (
    FORMATS,
    Detection,
    DetectionFormat,
    ImageDetections,
    content,
    format_of,
)
from ndzarr._prediction.merging import cut_sides, fuse, iou, join_parts, joined_boxes, suppress
from ndzarr._prediction.workspace import RECORDS, RecordFile, Workspace
from ndzarr._sampling.segmentations import Polygons, Runs, shape_of
from ndzarr._validation import check_choice, check_fraction
from ndzarr.errors import OptionError, TargetError

Array: TypeAlias = np.ndarray[Any, Any]
Merge: TypeAlias = Literal["nms", "wbf"]
BoxFormat: TypeAlias = Literal["xyxy", "xywh", "cxcywh"]
_Record: TypeAlias = dict[str, Any]
"""
What was found in a window, as JSON: `image` is the repr of its id; `window` (left, top, right, bottom) and `border` are
in native pixels; `found` has [box, score, category, rings of its parts or None] of each detection.
"""
_BORDER = 4.0
"""Pixels by which boxes of objects that a border cut end before it, as models place them."""


class DetectionStitcher:
    """
    Put the boxes and polygons that were found in windows together: each object of the image once.

    Parameters
    ----------
    like
        The image that is predicted, as for `ndzarr.Stitcher`; or a mapping of ids to images, of which samples and
        targets name one by `gid` or `key`.
    dest
        The file to make.  What is added is then kept beside it, so that a killed run goes on where it was; else it is
        in memory alone.
    classes
        Names of the labels that the model gives: a sequence, or a mapping.  Labels without a name are named by
        themselves.
    merge
        'nms', non-maximum suppression: of boxes that overlap the one with the highest score stays; or 'wbf', weighted
        boxes fusion: they become their mean, weighted by their scores.
    threshold
        Intersection over union from which on two boxes of a class are one object.
    border
        Pixels of a sample.  A box that ends nearer to its window's border than this may go on beyond it: it is joined
        with what the neighbouring windows see of the same object, by comparing both in the area that both windows see.
    min_score
        Detections with a lower score are left out.
    box_format
        'xyxy' (left, top, right, bottom, as torchvision and ultralytics give them), 'xywh' (as COCO) or 'cxcywh'.
    resume, run
        As for `ndzarr.Stitcher`, if there is a `dest`.

    Raises
    ------
    OptionError
        An option is not understood, or `like` is not an image.
    ExistsError
        Another process is stitching `dest`, or what is to be taken up belongs to another result.

    Notes
    -----
    Objects that two windows saw as a whole are merged by `merge`.  Parts of one that is larger than the overlap are
    joined to one box, and the union of their polygons.  Windows without overlap are joined along their seam, where two
    objects that happen to end at the same place on either side cannot be told from one.

    Examples
    --------
    >>> import ndzarr, numpy as np, tempfile
    >>> pyr = ndzarr.transcode(np.zeros((64, 128), "u1"), tempfile.mkdtemp() + "/a.zarr")
    >>> found = ndzarr.DetectionStitcher(pyr, classes=["boat"])
    >>> found.add({"y": slice(0, 64), "x": slice(0, 64)}, [[50, 10, 64, 20]], [0.9], [0])
    >>> found.add({"y": slice(0, 64), "x": slice(64, 128)}, [[0, 10, 20, 20]], [0.8], [0])
    >>> [(d.category, d.bbox, d.score) for d in found.merged()]
    [('boat', (50.0, 10.0, 34.0, 10.0), 0.9)]
    """

    def __init__(
        self,
        like: Any,
        dest: str | os.PathLike[str] | None = None,
        *,
        classes: Sequence[str] | Mapping[Any, str] | None = None,
        merge: Merge = "nms",
        threshold: float = 0.5,
        border: float = _BORDER,
        min_score: float = 0.0,
        box_format: BoxFormat = "xyxy",
        resume: bool = True,
        run: str = "",
    ) -> None:
        check_choice("merge", merge, ("nms", "wbf"), OptionError)
        check_choice("box_format", box_format, ("xyxy", "xywh", "cxcywh"), OptionError)
        check_fraction("threshold", threshold)
        if not 0 <= border < np.inf:
            raise OptionError(f"border={border!r}: expected a number of pixels", key="border")
        self._several = isinstance(like, Mapping) and not isinstance(like, xarray.Dataset)
        self._images: dict[Any, _Image] = {}
        self._likes: Mapping[Any, Any] = like if self._several else {None: like}
        self._ids = {repr(key): key for key in self._likes}
        if not self._several:
            self._image(None)
        self._names = dict(enumerate(classes)) if isinstance(classes, Sequence) else dict(classes or {})
        self._merge, self._threshold, self._border, self._min_score = merge, threshold, border, min_score
        self._box_format = box_format
        self.path = None if dest is None else local_path(dest)
        """The destination."""
        self._workspace: Workspace | None = None
        self._file: RecordFile | None = None
        if self.path is not None:
            size = None if self._several else list(self._image(None).canvas.native)
            about: dict[str, Any] = {"images": list(self._ids), "size": size, "classes": repr(self._names)}
            about |= {"border": border, "min_score": min_score, "run": run}
            self._workspace = Workspace(self.path, about, resume)
            for record in _read_records(self._workspace.path):
                self._take(record)

    def __repr__(self) -> str:
        windows = sum(len(image.windows) for image in self._images.values())
        return f"<ndzarr.DetectionStitcher: {counted(len(self), 'detection')} in {counted(windows, 'window')}>"

    def __len__(self) -> int:
        """Return the number of detections that were added."""
        return sum(len(image.found) for image in self._images.values())

    def __contains__(self, where: Any) -> bool:
        """Return True if what was found in this sample's or target's window was added, now or before a kill."""
        image = self._image(self._id_of(where))
        return _rounded(image.window_of(where)) in image.known

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the file, if there is a destination that was not written; keep what was added after an error."""
        try:
            if kind is None and self._workspace is not None:
                self.write()
        finally:
            self._release()

    def add(
        self,
        where: Any,
        boxes: Any = None,
        scores: Any = None,
        labels: Any = None,
        segmentations: Sequence[Any] | None = None,
    ) -> None:
        """
        Add what was found in a window.

        Parameters
        ----------
        where
            The sample that was predicted, or a target with its window in native pixels; see `Stitcher.add`.  For a
            batch all others are sequences of what each sample has.
        boxes
            Shape (n, 4), in pixels of the sample; those around the segmentations if left out.
        scores
            Shape (n,); 1 if left out.
        labels
            Shape (n,): numbers or names; 0 if left out.
        segmentations
            An outline of each, in pixels of the sample: points (m, 2), COCO's lists or run lengths, or a mask of the
            size of the sample, where values above 0.5 are inside.

        Raises
        ------
        OptionError
            Boxes, scores, labels or segmentations are not as many, or have another form.
        """
        if isinstance(where, xarray.Dataset) and "sample" in where.dims:
            for k in range(where.sizes["sample"]):
                one = [None if v is None else v[k] for v in (boxes, scores, labels, segmentations)]
                self.add(where.ndzarr.sample(k), *one)
            return
        key = self._id_of(where)
        self.add_placed(key, *self._image(key).placed(where), boxes, scores, labels, segmentations)

    def add_placed(
        self, key: Any, matrix: Array, size: tuple[int, int], boxes: Any, scores: Any, labels: Any, segmentations: Any
    ) -> None:
        """Add what was found in a window of (height, width) pixels that a matrix (3, 3) takes to native pixels."""
        record = self._record(key, matrix, size, boxes, scores, labels, segmentations)
        if self._workspace is not None:
            if self._file is None or self._file.pid != os.getpid():
                self._file = RecordFile(self._workspace.path)
            self._file.append(json.dumps(record).encode() + b"\n")
        self._take(record)

    def agrees(
        self, key: Any, matrix: Array, size: tuple[int, int], boxes: Any, scores: Any, labels: Any, segmentations: Any
    ) -> bool:
        """Return True if this is what was added for the window, as far as it has high scores; see `add_placed`."""
        image, window = self._image(key), _rounded(_window(matrix, size))
        have = [one[1:4] for one in image.found if _rounded(image.windows[one[0]][0]) == window]
        record = self._record(key, matrix, size, boxes, scores, labels, segmentations)
        found = [(np.array(box), score, name) for box, score, name, _ in record["found"]]
        return _among(have, found) and _among(found, have)

    def _record(
        self, key: Any, matrix: Array, size: tuple[int, int], boxes: Any, scores: Any, labels: Any, segmentations: Any
    ) -> _Record:
        shapes = None if segmentations is None else [_outline(one, size) for one in segmentations]
        if boxes is None and shapes is None:
            raise OptionError("add needs boxes or segmentations", key="boxes")
        found = _numbers("boxes", boxes, (-1, 4)) if boxes is not None else _around(shapes or [])
        found = found if boxes is None else _corners(found, self._box_format)
        n = len(found)
        given = np.ones(n) if scores is None else _numbers("scores", scores, (-1,))
        names = [0] * n if labels is None else _listed(labels)
        for name, values in (("scores", given), ("labels", names), ("segmentations", shapes)):
            if values is not None and len(values) != n:
                raise OptionError(f"{name}: {len(values)} for {n} boxes", key=name, hint="Give one for each")
        moved = warp_boxes(matrix, np.concatenate([found[:, :2], found[:, 2:] - found[:, :2]], axis=1))
        moved = np.concatenate([moved[:, :2], moved[:, :2] + moved[:, 2:]], axis=1)
        own = []
        for k in np.flatnonzero(given >= self._min_score).tolist():
            shape = None if shapes is None or shapes[k] is None else shapes[k].warped(matrix)  # type: ignore[union-attr]
            parts = None if shape is None else [[ring.tolist() for ring in part] for part in shape.parts]
            own.append([moved[k].tolist(), float(given[k]), str(self._names.get(names[k], names[k])), parts])
        border = self._border * float(abs(matrix[0, 0]))
        return {"image": repr(key), "window": _window(matrix, size).tolist(), "border": border, "found": own}

    def _take(self, record: _Record) -> None:
        """Take what was found in a window into memory."""
        image = self._image(self._ids[record["image"]])
        window = np.array(record["window"])
        image.windows.append((window, record["border"]))
        image.known.add(_rounded(window))
        for box, score, category, parts in record["found"]:
            shape = None if parts is None else Polygons(tuple(tuple(map(np.array, part)) for part in parts))
            image.found.append((len(image.windows) - 1, np.array(box), score, category, shape))

    def merged(self) -> list[Detection]:
        """Return the objects, each once, by image and descending score; boxes are clipped to the image."""
        return [found for key in self._likes for found in self._merged(key)]

    def _merged(self, key: Any) -> list[Detection]:
        image = self._image(key)
        if not image.found:
            return []
        # In an order that does not depend on that of adding.
        added = sorted(image.found, key=lambda one: (*image.windows[one[0]][0], *one[1], one[2], one[3]))
        owner = np.array([one[0] for one in added])
        boxes, scores = np.array([one[1] for one in added]), np.array([one[2] for one in added])
        names, classes = np.unique([one[3] for one in added], return_inverse=True)
        shapes = [one[4] for one in added]
        windows = np.array([image.windows[k][0] for k in owner])
        border = max(border for _, border in image.windows)
        height, width = image.canvas.native
        cut = cut_sides(boxes, windows, (width, height), border)
        group = join_parts(boxes, classes, owner, windows, cut, border, self._threshold)
        boxes, scores, members = joined_boxes(boxes, scores, cut, group)
        classes = classes[[own[0] for own in members]]
        limits = np.array([width, height, width, height], float)
        boxes = np.clip(boxes, 0, limits)
        real = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        boxes, scores, classes, members = boxes[real], scores[real], classes[real], [members[k] for k in real]
        if self._merge == "nms":
            kept = suppress(boxes, scores, classes, self._threshold).tolist()
            chosen = [(boxes[k], float(scores[k]), k) for k in kept]
        else:
            fused = fuse(boxes, scores, classes, self._threshold)
            chosen = sorted([(box, score, own[0]) for box, score, own in fused], key=lambda one: -one[1])
        return [
            Detection(
                (float(b[0]), float(b[1]), float(b[2] - b[0]), float(b[3] - b[1])),
                score,
                str(names[classes[k]]),
                _union([shapes[m] for m in members[k]]),
                key,
            )
            for b, score, k in chosen
        ]

    def write(
        self,
        path: str | os.PathLike[str] | None = None,
        format: DetectionFormat | None = None,
        *,
        image: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """
        Merge the detections and write them to a file.

        Parameters
        ----------
        path
            The file to make; `dest` by default.
        format
            'coco' or 'kwcoco' (a dataset, with `score`), 'geojson' (polygons in the reference system of the images), or
            'qupath' (in pixels of one image).  By default it follows from the name: `.kwcoco.json`, `.geojson`,
            `.json`.
        image
            Further keys of the image in COCO's dictionary, such as its `id` and `file_name`; if `like` is a mapping,
            one of ids to such.
        overwrite
            Replace the file.

        Returns
        -------
        The path of the file.

        Raises
        ------
        OptionError
            The format is not understood, or the images have no reference system, or several.
        ExistsError
            The file exists.
        """
        target = self.path if path is None else local_path(path)
        if target is None:
            raise OptionError("write needs a path, since the stitcher has no destination", key="path")
        format = format_of(target) if format is None else format
        check_choice("format", format, FORMATS, OptionError)
        about = image or {}
        images = [
            ImageDetections(
                self._image(key).canvas,
                {"id": key, **about.get(key, {})} if self._several else about,
                self._merged(key),
            )
            for key in self._likes
        ]
        whole = content(images, [*map(str, self._names.values())], format)
        with publishing_file(target, overwrite) as work:
            work.write_text(json.dumps(whole), "utf-8")
        if self._workspace is not None and target == self.path:
            self._release(remove=True)
        return target

    def _release(self, remove: bool = False) -> None:
        if self._workspace is not None:
            if remove:
                self._workspace.remove()
            self._workspace.release()
        self._file = self._workspace = None

    def _image(self, key: Any) -> _Image:
        found = self._images.get(key)
        if found is None:
            found = self._images[key] = _Image.like(self._likes[key])
        return found

    def _id_of(self, where: Any) -> Any:
        """Return the id of the image that a sample or a target is a window of."""
        if not self._several:
            return None
        target = where.ndzarr.target if isinstance(where, xarray.Dataset) else where
        key = target.get("gid", target.get("key"))
        if key not in self._likes:
            raise TargetError(f"where names the image {key!r}, which is none of those given", key="gid")
        return key


@dataclass(frozen=True, slots=True)
class _Image:
    """An image, and what was found in it."""

    canvas: Canvas
    windows: list[tuple[Array, float]] = field(default_factory=list)
    """(left, top, right, bottom in native pixels, border in native pixels) of each window."""
    known: set[tuple[int, ...]] = field(default_factory=set)
    """Windows, in whole pixels."""
    found: list[tuple[int, Array, float, str, Polygons | None]] = field(default_factory=list)
    """(window, box, score, category, shape) of each detection."""

    @classmethod
    def like(cls, like: Any) -> _Image:
        canvas = like.scaled(1.0) if isinstance(like, Canvas) else Canvas.like(like, 1.0)
        if set(canvas.dims) != {"c", "y", "x"}:
            what = f"like has the axes {' '.join(canvas.dims)}, and detections are of images"
            raise OptionError(what, key="like", hint="Predict the frames one by one")
        return cls(canvas)

    def window_of(self, where: Any) -> Array:
        """Return left, top, right, bottom of a window in native pixels."""
        if isinstance(where, xarray.Dataset):
            return _window(*self.placed(where))
        (y, height), (x, width) = self.canvas.place_of(where, 1).covered
        return np.array([x, y, x + width, y + height])

    def placed(self, where: Any) -> tuple[Array, tuple[int, int]]:
        """Return (matrix to native pixels, (height, width)) of a sample or a target."""
        if isinstance(where, xarray.Dataset):
            image = where["image"]
            return np.asarray(where.ndzarr.transform, float), (image.sizes["y"], image.sizes["x"])
        if isinstance(where, Mapping) and (scaled := {"scale", "resolution", "output_dims"} & where.keys()):
            key = min(scaled)
            what = f"where has {key}={where[key]!r}: how large its sample is depends on the image"
            raise TargetError(what, key=key, hint="Pass the sample")
        left, top, right, bottom = self.window_of(where).tolist()
        return np.array([[1, 0, left], [0, 1, top], [0, 0, 1.0]]), (round(bottom - top), round(right - left))


def _among(some: Sequence[tuple[Array, float, str]], others: Sequence[tuple[Array, float, str]]) -> bool:
    """Return True if all of some (box, score, category) with at least half the highest score are among others."""
    highest = max((score for _, score, _ in some), default=0.0)
    return all(
        any(name == other and iou(box, near) > 0.5 for near, _, other in others)
        for box, score, name in some
        if score >= highest / 2
    )


def _window(matrix: Array, size: tuple[int, int]) -> Array:
    """Return left, top, right, bottom in native pixels of a window of (height, width) pixels."""
    left, top, width, height = warp_boxes(matrix, np.array([[0, 0, size[1], size[0]]], float))[0].tolist()
    return np.array([left, top, left + width, top + height])


def _rounded(window: Array) -> tuple[int, ...]:
    return tuple(np.rint(window).astype(int).tolist())


def _read_records(folder: Path) -> Iterator[_Record]:
    """Yield the complete records of a workspace."""
    for path in sorted(folder.glob(f"*{RECORDS}")):
        lines = path.read_bytes().splitlines(keepends=True)
        yield from (json.loads(line) for line in lines if line.endswith(b"\n"))


def _numbers(key: str, given: Any, shape: tuple[int, ...]) -> Array:
    given = given.detach().cpu().numpy() if hasattr(given, "detach") else given
    try:
        found = np.asarray(given, float)
        found = found.reshape(shape) if found.size == 0 else found
    except (TypeError, ValueError) as error:
        raise OptionError(f"{key}: expected numbers ({error})", key=key) from error
    if found.ndim != len(shape) or found.shape[1:] != shape[1:] or not np.isfinite(found).all():
        want = "n" if len(shape) == 1 else f"n, {shape[1]}"
        raise OptionError(f"{key} has shape {found.shape}: expected ({want}) finite numbers", key=key)
    return found


def _listed(labels: Any) -> list[Any]:
    labels = labels.detach().cpu().numpy() if hasattr(labels, "detach") else labels
    return [int(v) if isinstance(v, float) and v == int(v) else v for v in np.asarray(labels).reshape(-1).tolist()]


def _corners(boxes: Array, box_format: str) -> Array:
    if box_format == "xyxy":
        return np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    low = boxes[:, :2] - (boxes[:, 2:] / 2 if box_format == "cxcywh" else 0)
    return np.concatenate([low, low + boxes[:, 2:]], axis=1)


def _outline(given: Any, size: tuple[int, int]) -> Polygons | None:
    """Return the polygons of an outline in any form, in pixels of the sample."""
    given = given.detach().cpu().numpy() if hasattr(given, "detach") else given
    if isinstance(given, np.ndarray) and given.ndim > 1 and given.shape[-2:] == size:
        found = Runs.of(given.reshape(size) > 0.5).to_polygons()
        return found if found.parts else None
    if isinstance(given, np.ndarray):
        given = [given.reshape(-1).tolist()]
    shape = shape_of({"segmentation": given}, (size[1], size[0]))
    if shape is None:
        return None
    found = shape.to_polygons()
    return found if found.parts else None


def _around(shapes: Sequence[Polygons | None]) -> Array:
    """Return left, top, right, bottom around outlines."""
    boxes = [None if one is None else one.box for one in shapes]
    found = np.array([np.zeros(4) if box is None else box for box in boxes]).reshape(-1, 4)
    found[:, 2:] += found[:, :2]
    return found


def _union(shapes: Sequence[Polygons | None]) -> Polygons | None:
    """Return the union of outlines; None if there is none."""
    import shapely

    real = [one for one in shapes if one is not None]
    if len(real) < 2:
        return real[0] if real else None
    return Polygons.of_geometry(shapely.union_all([one.geometry for one in real]))
