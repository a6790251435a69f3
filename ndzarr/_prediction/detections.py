"""
Detections back on the image: boxes and polygons that a model found in windows become one list in native pixels.

Windows add what was found in them; `merging` makes each object one, also where a window's border cut it; and the result
is written as COCO, kwcoco, GeoJSON or QuPath's.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray

from ndzarr._files import local_path, publishing_file
from ndzarr._geo.georeference import Georeference, from_attributes
from ndzarr._indexing.affine import warp_boxes
from ndzarr._indexing.plan import counted
from ndzarr._prediction.canvas import Canvas
from ndzarr._prediction.merging import cut_sides, fuse, join_parts, joined_boxes, suppress
from ndzarr._sampling.segmentations import Polygons, Runs, shape_of
from ndzarr._validation import check_choice, check_fraction
from ndzarr.errors import OptionError, TargetError

Array: TypeAlias = np.ndarray[Any, Any]
Merge: TypeAlias = Literal["nms", "wbf"]
BoxFormat: TypeAlias = Literal["xyxy", "xywh", "cxcywh"]
DetectionFormat: TypeAlias = Literal["coco", "kwcoco", "geojson", "qupath"]
_FORMATS = ("coco", "kwcoco", "geojson", "qupath")
_BORDER = 4.0
"""Pixels by which boxes of objects that a border cut end before it, as models place them."""


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """An object that was found."""

    bbox: tuple[float, float, float, float]
    """x, y, width, height in native pixels of the image."""
    score: float
    category: str
    shape: Polygons | None
    """Its outline in native pixels; None if only boxes were added."""


class DetectionStitcher:
    """
    Put the boxes and polygons that were found in windows together: each object of the image once.

    Parameters
    ----------
    like
        The image that is predicted, as for `ndzarr.Stitcher`.
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

    Raises
    ------
    OptionError
        An option is not understood, or `like` is not an image.

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
        *,
        classes: Sequence[str] | Mapping[Any, str] | None = None,
        merge: Merge = "nms",
        threshold: float = 0.5,
        border: float = _BORDER,
        min_score: float = 0.0,
        box_format: BoxFormat = "xyxy",
    ) -> None:
        check_choice("merge", merge, ("nms", "wbf"), OptionError)
        check_choice("box_format", box_format, ("xyxy", "xywh", "cxcywh"), OptionError)
        check_fraction("threshold", threshold)
        if not 0 <= border < np.inf:
            raise OptionError(f"border={border!r}: expected a number of pixels", key="border")
        self._canvas = like.scaled(1.0) if isinstance(like, Canvas) else Canvas.like(like, 1.0)
        if set(self._canvas.dims) != {"c", "y", "x"}:
            what = f"like has the axes {' '.join(self._canvas.dims)}, and detections are of images"
            raise OptionError(what, key="like", hint="Predict the frames one by one")
        self._names = dict(enumerate(classes)) if isinstance(classes, Sequence) else dict(classes or {})
        self._merge, self._threshold, self._border, self._min_score = merge, threshold, border, min_score
        self._box_format = box_format
        self._windows: list[tuple[Array, float]] = []
        """(left, top, right, bottom in native pixels, border in native pixels) of each window."""
        self._added: list[tuple[int, Array, float, str, Polygons | None]] = []
        """(window, box, score, category, shape) of each detection."""

    def __repr__(self) -> str:
        found = counted(len(self._added), "detection")
        return f"<ndzarr.DetectionStitcher: {found} in {counted(len(self._windows), 'window')}>"

    def __len__(self) -> int:
        """Return the number of detections that were added."""
        return len(self._added)

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
        matrix, size = self._window_of(where)
        self.add_placed(matrix, size, boxes, scores, labels, segmentations)

    def add_placed(
        self, matrix: Array, size: tuple[int, int], boxes: Any, scores: Any, labels: Any, segmentations: Any
    ) -> None:
        """Add what was found in a window of (height, width) pixels that a matrix (3, 3) takes to native pixels."""
        shapes = None if segmentations is None else [_outline(one, size) for one in segmentations]
        if boxes is None and shapes is None:
            raise OptionError("add needs boxes or segmentations", key="boxes")
        found = _numbers("boxes", boxes, (-1, 4)) if boxes is not None else _around(shapes or [])
        found = found if boxes is None else _corners(found, self._box_format)
        n = len(found)
        given = np.ones(n) if scores is None else _numbers("scores", scores, (-1,))
        names = [0] * n if labels is None else _listed(labels)
        for key, values in (("scores", given), ("labels", names), ("segmentations", shapes)):
            if values is not None and len(values) != n:
                raise OptionError(f"{key}: {len(values)} for {n} boxes", key=key, hint="Give one for each")
        moved = warp_boxes(matrix, np.concatenate([found[:, :2], found[:, 2:] - found[:, :2]], axis=1))
        moved = np.concatenate([moved[:, :2], moved[:, :2] + moved[:, 2:]], axis=1)
        window = warp_boxes(matrix, np.array([[0, 0, size[1], size[0]]], float))[0]
        self._windows.append(
            (np.concatenate([window[:2], window[:2] + window[2:]]), self._border * float(abs(matrix[0, 0])))
        )
        for k in np.flatnonzero(given >= self._min_score).tolist():
            shape = None if shapes is None or shapes[k] is None else shapes[k].warped(matrix)  # type: ignore[union-attr]
            name = str(self._names.get(names[k], names[k]))
            self._added.append((len(self._windows) - 1, moved[k], float(given[k]), name, shape))

    def merged(self) -> list[Detection]:
        """Return the objects, each once, by descending score; boxes are clipped to the image."""
        if not self._added:
            return []
        owner = np.array([one[0] for one in self._added])
        boxes, scores = np.array([one[1] for one in self._added]), np.array([one[2] for one in self._added])
        names, classes = np.unique([one[3] for one in self._added], return_inverse=True)
        shapes = [one[4] for one in self._added]
        windows = np.array([self._windows[k][0] for k in owner])
        border = max(border for _, border in self._windows)
        height, width = self._canvas.native
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
            )
            for b, score, k in chosen
        ]

    def write(
        self,
        path: str | os.PathLike[str],
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
            The file to make.
        format
            'coco' or 'kwcoco' (a dataset of one image, with `score`), 'geojson' (polygons in the reference system of
            the image), or 'qupath' (in pixels).  By default it follows from the name: `.kwcoco.json`, `.geojson`,
            `.json`.
        image
            Further keys of the image in COCO's dictionary, such as its `id` and `file_name`.
        overwrite
            Replace the file.

        Returns
        -------
        The path of the file.

        Raises
        ------
        OptionError
            The format is not understood, or the image is not georeferenced.
        ExistsError
            The file exists.
        """
        target = local_path(path)
        format = format_of(target) if format is None else format
        check_choice("format", format, _FORMATS, OptionError)
        content = self._geographic(format) if format in ("geojson", "qupath") else self._coco(format, image or {})
        with publishing_file(target, overwrite) as work:
            work.write_text(json.dumps(content), "utf-8")
        return target

    def _window_of(self, where: Any) -> tuple[Array, tuple[int, int]]:
        """Return (matrix to native pixels, (height, width)) of a sample or a target."""
        if isinstance(where, xarray.Dataset):
            image = where["image"]
            return np.asarray(where.ndzarr.transform, float), (image.sizes["y"], image.sizes["x"])
        if isinstance(where, Mapping) and (scaled := {"scale", "resolution", "output_dims"} & where.keys()):
            key = min(scaled)
            what = f"where has {key}={where[key]!r}: how large its sample is depends on the image"
            raise TargetError(what, key=key, hint="Pass the sample")
        (y, height), (x, width) = self._canvas.place_of(where, 1).covered
        return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]]), (round(height), round(width))

    def _coco(self, format: str, image: Mapping[str, Any]) -> dict[str, Any]:
        found = self.merged()
        names = list(dict.fromkeys([*map(str, self._names.values()), *sorted({one.category for one in found})]))
        height, width = self._canvas.native
        about = {"id": 1, "file_name": self._canvas.name, "width": width, "height": height, **image}
        annotations = []
        for k, one in enumerate(found, 1):
            annotation = {"id": k, "image_id": about["id"], "category_id": 1 + names.index(one.category)}
            annotation |= {"bbox": list(one.bbox), "area": one.bbox[2] * one.bbox[3], "iscrowd": 0, "score": one.score}
            if one.shape is not None:
                annotation["segmentation"] = _segmentation(one.shape, (height, width), format == "kwcoco")
                annotation["area"] = float(one.shape.geometry.area)
            annotations.append(annotation)
        categories = [{"id": k, "name": name} for k, name in enumerate(names, 1)]
        return {"images": [about], "categories": categories, "annotations": annotations}

    def _geographic(self, format: str) -> dict[str, Any]:
        place = self._georeference() if format == "geojson" else None
        found = [
            {
                "type": "Feature",
                "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{one.category} {one.bbox}")),
                "geometry": _geometry(one.shape or Polygons.around(np.array(one.bbox)), place),
                "properties": {"category": one.category, "score": one.score}
                if place is not None
                else {
                    "objectType": "detection",
                    "classification": {"name": one.category},
                    "measurements": {"score": one.score},
                },
            }
            for one in self.merged()
        ]
        out: dict[str, Any] = {"type": "FeatureCollection"}
        if place is not None:
            out["crs"] = {"type": "name", "properties": {"name": _crs_name(place)}}
        return {**out, "features": found}

    def _georeference(self) -> Georeference:
        place = from_attributes({"ndzarr": {"source": dict(self._canvas.place or {})}})
        if place is None or place.transform is None or not place.crs.defined:
            what = f"format='geojson': {self._canvas.name} has no reference system"
            raise OptionError(
                what, path=self._canvas.name, key="format", hint="Pass format='qupath' for pixels, or 'coco'"
            )
        return place


def format_of(path: Path) -> DetectionFormat:
    """Return the format that the name of a file means."""
    name = path.name.lower()
    for end, format in ((".kwcoco.json", "kwcoco"), (".geojson", "geojson"), (".json", "coco")):
        if name.endswith(end):
            return format  # type: ignore[return-value]
    raise OptionError(f"{path}: no format has this suffix", path=str(path), key="format", hint="Pass format=")


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


def _segmentation(shape: Polygons, size: tuple[int, int], holes: bool) -> Any:
    """Return COCO's form of an outline; holes have none in lists of COCO, only in those of kwcoco."""
    if all(len(part) == 1 for part in shape.parts):
        return [part[0].ravel().tolist() for part in shape.parts]
    if holes:
        return [
            {"exterior": part[0].tolist(), "interiors": [ring.tolist() for ring in part[1:]]} for part in shape.parts
        ]
    runs = Runs.of(shape.filled(size))
    return {"size": [runs.height, runs.width], "counts": runs.counts}


def _geometry(shape: Polygons, place: Georeference | None) -> dict[str, Any]:
    """Return GeoJSON's geometry: exteriors counter-clockwise on earth, rings closed (RFC 7946)."""
    import shapely
    from shapely.geometry.polygon import orient

    moved = shape if place is None else shape.warped(place.matrix)
    polygons = [orient(shapely.Polygon(e, i)) for e, *i in moved.parts if len(e) > 2]
    whole = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    found: dict[str, Any] = json.loads(shapely.to_geojson(whole))
    return found


def _crs_name(place: Georeference) -> str:
    """Return the name of a reference system for the member `crs` of GeoJSON's draft."""
    epsg = place.crs.epsg
    if epsg is not None:
        return "urn:ogc:def:crs:OGC:1.3:CRS84" if epsg == 4326 else f"urn:ogc:def:crs:EPSG::{epsg}"
    return str(place.crs.text())
