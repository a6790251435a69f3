"""
The layouts of exported datasets: where a crop and its labels go, and what stands beside them.

Formats: https://docs.ultralytics.com/datasets/detect/ and segment/; https://cocodataset.org/#format-data;
http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html; torchvision's `ImageFolder`; and
https://github.com/webdataset/webdataset (files of a sample share a name up to the first dot).
"""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import imagecodecs
import numpy as np

from ndzarr._sampling.clipped import ClippedAnnotation
from ndzarr._sampling.segmentations import Polygons, Runs, masks_in
from ndzarr.errors import OptionError, TargetError

Array = np.ndarray[Any, Any]
BACKGROUND = "background"
"""The class of crops without objects."""
WINDOWS = "windows.csv"
"""The table that says where each crop comes from."""


@dataclass(frozen=True, eq=False)
class Crop:
    """A file of an exported dataset: an image, or a clip."""

    name: str
    """Its name, without suffix; unique, without a dot."""
    split: str
    """'' if the targets were not split."""
    number: int
    """Position of its target."""
    frame: int | None
    """Position along t; None for the images of image targets, and for clips."""
    size: tuple[int, int]
    """(height, width) in pixels."""
    labels: Sequence[ClippedAnnotation]
    origin: Mapping[str, Any]
    """Where it comes from: gid or vidid, and x, y, width and height of its window in native pixels."""
    own: Any
    """Category id of the annotation that the target is a window around; None if there is none."""


@dataclass(frozen=True)
class Classes:
    """The categories of a dataset, numbered from 0 in its order."""

    categories: Sequence[Mapping[str, Any]]
    """kwcoco's dictionaries."""
    keypoint_categories: Sequence[Mapping[str, Any]]
    """The same of classes of keypoints."""
    most_keypoints: int
    """Keypoints of the annotation that has most."""

    @classmethod
    def of(cls, dataset: Mapping[str, Any]) -> Classes:
        """Return the classes of a dataset."""
        points = (a["keypoints"] for a in dataset.get("annotations") or () if a.get("keypoints"))
        most = max((len(p) if isinstance(p[0], Mapping) else len(p) // 3 for p in points), default=0)
        return cls(tuple(dataset.get("categories") or ()), tuple(dataset.get("keypoint_categories") or ()), most)

    @cached_property
    def names(self) -> Mapping[Any, str]:
        """Category id to name."""
        return {category["id"]: str(category["name"]) for category in self.categories}

    @cached_property
    def _numbers(self) -> Mapping[Any, int]:
        return {category: k for k, category in enumerate(self.names)}

    def index(self, label: ClippedAnnotation) -> int:
        """Return the number of the class of a label."""
        return self._numbers[self._known(label.record.get("category_id"), label)]

    def name(self, label: ClippedAnnotation) -> str:
        """Return the name of the class of a label."""
        return self.names[self._known(label.record.get("category_id"), label)]

    def _known(self, category: Any, label: ClippedAnnotation) -> Any:
        if category not in self.names:
            what = f"annotation {label.record.get('id')!r} has no category of the dataset"
            raise TargetError(what, key="category_id", hint="Give it one, or pass format='coco'")
        return category

    @cached_property
    def keypoints(self) -> tuple[str, ...]:
        """Names of keypoints, in the order of all labels: those of the category that has most, else of all classes."""
        named = max((c.get("keypoints") or () for c in self.categories), key=len, default=())
        names = [str(name) for name in named or [c["name"] for c in self.keypoint_categories]]
        return tuple(names + [str(k) for k in range(len(names), self.most_keypoints)])

    def points(self, label: ClippedAnnotation) -> Array:
        """Return the keypoints of a label: x, y and visibility, 0 where it has none; shape (keypoint, 3)."""
        out = np.zeros((len(self.keypoints), 3))
        given = label.keypoints or ()
        if given and isinstance(given[0], Mapping):
            names = {c["id"]: str(c["name"]) for c in self.keypoint_categories}
            for k, point in enumerate(given):
                name = names.get(point.get("keypoint_category_id"))
                place = self.keypoints.index(name) if name in self.keypoints else k
                out[place] = *point["xy"], point.get("visible", 2)
        elif given:
            out[: len(given) // 3] = np.reshape(given, (-1, 3))
        return out

    def of_crop(self, crop: Crop) -> str:
        """Return the class of a crop: that of its target's annotation, else the only one that it shows."""
        if crop.own is not None:
            return self.names[crop.own]
        found = sorted({self.name(label) for label in crop.labels})
        if len(found) > 1:
            what = f"target {crop.number} shows objects of {len(found)} classes: {', '.join(found)}"
            hint = "Pass windows around annotations, as of targets.positives, or smaller ones"
            raise TargetError(what, key="targets", hint=hint)
        return found[0] if found else BACKGROUND


Write = Callable[[str, bytes], None]
"""Writes a file of the dataset: (path below its root, content)."""


@dataclass(frozen=True)
class Layout:
    """A format of datasets; subclasses say where things go."""

    classes: Classes
    labels: str
    """One of `LABELS`."""
    suffix: str
    """The suffix of files of crops."""

    LABELS: ClassVar[tuple[str, ...]] = ("",)
    """What labels may be; the first is the default."""
    CLIPS: ClassVar[bool] = False
    """True where clips have a place."""
    TABLE: ClassVar[bool] = True
    """True where the table of windows stands beside."""

    def image_path(self, crop: Crop) -> str:
        """Return the path of the file of a crop, below the root."""
        return _joined("images", crop.split, crop.name + self.suffix)

    def add(self, crop: Crop, image: bytes, write: Write) -> dict[str, Any]:
        """Write a crop with its labels; return what `finish` needs to know of it, as JSON."""
        write(self.image_path(crop), image)
        self.add_labels(crop, write)
        return {"file": self.image_path(crop), "split": crop.split, "number": crop.number, **crop.origin}

    def add_labels(self, crop: Crop, write: Write) -> None:
        """Write the labels of a crop, where they are files."""

    def finish(self, root: Path, crops: Sequence[Mapping[str, Any]]) -> None:
        """Write what says something about all crops; `crops` is what `add` returned, in the order of targets."""


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def splits_of(crops: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the crops of each split, in the order in which splits come."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for crop in crops:
        found.setdefault(crop["split"], []).append(crop)
    return found


class YoloLayout(Layout):
    """`images/train`, `labels/train` and `data.yaml`; without splits everything is for training."""

    LABELS = ("boxes", "segments", "obb", "pose")

    def image_path(self, crop: Crop) -> str:
        """Return the path of the file of a crop, below the root."""
        return _joined("images", crop.split or "train", crop.name + self.suffix)

    def add_labels(self, crop: Crop, write: Write) -> None:
        """Write a line per object: its class, and what is said of it, as fractions of the crop."""
        lines = []
        for label in crop.labels:
            numbers = self._numbers(label, *crop.size)
            lines.append(" ".join([str(self.classes.index(label)), *[f"{v:.9g}" for v in numbers]]) + "\n")
        write(_joined("labels", crop.split or "train", crop.name + ".txt"), "".join(lines).encode())

    def _numbers(self, label: ClippedAnnotation, height: int, width: int) -> list[float]:
        if self.labels in ("segments", "obb"):
            shape = Polygons.around(label.box) if label.shape is None else label.shape.to_polygons()
            outline = bridged(shape) if self.labels == "segments" else oriented_box(shape)
            return list((outline / (width, height)).clip(0, 1).ravel().tolist())
        x, y, w, h = label.box.tolist()
        box = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
        if self.labels == "boxes":
            return box
        return box + list((self.classes.points(label) / (width, height, 1)).ravel().tolist())

    def finish(self, root: Path, crops: Sequence[Mapping[str, Any]]) -> None:
        """Write `data.yaml`, whose paths are relative to it."""
        import yaml

        splits = [split or "train" for split in splits_of(crops)]
        about: dict[str, Any] = {split: f"images/{split}" for split in splits}
        about.setdefault("val", about.get("train", f"images/{splits[0]}"))  # ultralytics needs both
        about.setdefault("train", about["val"])
        about["names"] = dict(enumerate(self.classes.names.values()))
        if self.labels == "pose":
            about |= _pose(self.classes.keypoints)
        (root / "data.yaml").write_text(yaml.safe_dump(about, sort_keys=False, allow_unicode=True), "utf-8")


def _pose(names: Sequence[str]) -> dict[str, Any]:
    """Return what `data.yaml` says of keypoints; where names tell left from right, also which ones a flip exchanges."""
    other = {"left": "right", "right": "left"}
    flipped = [re.sub("left|right", lambda side: other[side[0]], name) for name in names]
    found: dict[str, Any] = {"kpt_shape": [len(names), 3]}
    if flipped != list(names) and set(flipped) <= set(names):
        found["flip_idx"] = [names.index(name) for name in flipped]
    return found


def oriented_box(polygons: Polygons) -> Array:
    """Return the corners (4, 2) of the smallest rectangle around polygons; a single ring of four points as it is."""
    import shapely

    [ring, *others] = [part[0] for part in polygons.parts]
    if len(ring) == 4 and not others:
        return ring
    points = shapely.multipoints(np.concatenate([ring, *others]))
    return np.asarray(shapely.oriented_envelope(points).exterior.coords)[:-1]


def bridged(polygons: Polygons) -> Array:
    """
    Return one ring (point, 2) around all polygons: further parts and holes hang on bridges that enclose nothing.

    Filled by the rule of even and odd crossings, it has the pixels of the polygons.
    """
    rings = [ring for part in polygons.parts for ring in part]
    if len(rings) == 1:
        return rings[0]
    anchor = rings[0][:1]
    return np.concatenate([piece for ring in rings for piece in (ring, ring[:1], anchor)])


class CocoLayout(Layout):
    """`annotations.json`, or `train.json` and so on, beside `images`; frames of a target make a video, as in kwcoco."""

    LABELS = ("segments", "boxes")

    def add(self, crop: Crop, image: bytes, write: Write) -> dict[str, Any]:
        """Write a crop; its labels wait for `finish`."""
        about = super().add(crop, image, write)
        about |= {"size": list(crop.size), "frame": crop.frame, "name": crop.name}
        return about | {
            "labels": [coco_annotation(label, crop.size, self.labels == "segments") for label in crop.labels]
        }

    def finish(self, root: Path, crops: Sequence[Mapping[str, Any]]) -> None:
        """Write a file per split."""
        for split, own in splits_of(crops).items():
            dataset = self._dataset(own)
            (root / f"{split or 'annotations'}.json").write_text(json.dumps(dataset), "utf-8")

    def _dataset(self, crops: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        videos: dict[int, dict[str, Any]] = {}
        for number, crop in enumerate(crops, 1):
            height, width = crop["size"]
            image = {"id": number, "file_name": crop["file"], "width": width, "height": height}
            image["source"] = {key: crop[key] for key in ORIGIN if key in crop}
            if crop["frame"] is not None:
                video = videos.setdefault(
                    crop["number"], {"id": len(videos) + 1, "name": f"target_{crop['number']}", "width": width}
                )
                video["height"] = height
                image |= {"video_id": video["id"], "frame_index": crop["frame"]}
            images.append(image)
            for label in crop["labels"]:
                annotations.append({"id": len(annotations) + 1, "image_id": number, **label})
        out = {"images": images, "annotations": annotations, "categories": list(self.classes.categories)}
        if self.classes.keypoint_categories:
            out["keypoint_categories"] = list(self.classes.keypoint_categories)
        return {**out, "videos": list(videos.values())} if videos else out


ORIGIN = ("gid", "vidid", "x", "y", "width", "height")
"""Columns that say where a crop comes from."""


def coco_annotation(label: ClippedAnnotation, size: tuple[int, int], segments: bool) -> dict[str, Any]:
    """Return a label as COCO's dictionary, without ids; holes make its segmentation run lengths."""
    out = {**label.further, "iscrowd": int(label.record.get("iscrowd") or 0), "bbox": label.box.tolist()}
    shape = label.shape
    out["area"] = float(label.box[2] * label.box[3])
    if shape is not None and segments:
        if isinstance(shape, Polygons) and (out["iscrowd"] or any(len(part) > 1 for part in shape.parts)):
            shape = Runs.of(masks_in([shape], [np.eye(3)], size)[0])
        if isinstance(shape, Runs):
            out["segmentation"] = {"size": [shape.height, shape.width], "counts": shape.counts}
            out["area"] = float(sum(shape.counts[1::2]))
        else:
            out["segmentation"] = [exterior.ravel().tolist() for exterior, *_ in shape.parts]
            out["area"] = float(sum(_area(exterior) for exterior, *_ in shape.parts))
    if label.keypoints is not None:
        out["keypoints"] = label.keypoints
        if not isinstance(label.keypoints[0], Mapping):
            out["num_keypoints"] = sum(v > 0 for v in label.keypoints[2::3])
    return _plain(out)


def _area(ring: Array) -> float:
    """Return the area of a ring (point, 2) in square pixels."""
    x, y = ring.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dictionary that JSON takes."""
    found: dict[str, Any] = json.loads(
        json.dumps(record, default=lambda v: v.tolist() if hasattr(v, "tolist") else str(v))
    )
    return found


class VocLayout(Layout):
    """`JPEGImages`, `Annotations` and `ImageSets/Main`; whole pixels that count from 1."""

    LABELS = ("boxes",)

    def image_path(self, crop: Crop) -> str:
        """Return the path of the file of a crop, below the root."""
        return f"JPEGImages/{crop.name}{self.suffix}"

    def add(self, crop: Crop, image: bytes, write: Write) -> dict[str, Any]:
        """Write a crop with its labels."""
        return {**super().add(crop, image, write), "name": crop.name}

    def add_labels(self, crop: Crop, write: Write) -> None:
        """Write the XML file of a crop; borders of boxes go to the nearest pixel."""
        top = ElementTree.Element("annotation")
        _element(top, "folder", "JPEGImages")
        _element(top, "filename", crop.name + self.suffix)
        size = ElementTree.SubElement(top, "size")
        _element(size, "width", crop.size[1])
        _element(size, "height", crop.size[0])
        for label in crop.labels:
            entry = ElementTree.SubElement(top, "object")
            _element(entry, "name", self.classes.name(label))
            for key in ("truncated", "occluded", "difficult"):
                if key in label.further:
                    _element(entry, key, int(label.further[key]))
            box = ElementTree.SubElement(entry, "bndbox")
            low = np.round(label.box[:2]).astype(int)
            low = np.minimum(low, np.array(crop.size[::-1]) - 1)
            high = np.maximum(np.round(label.box[:2] + label.box[2:]).astype(int), low + 1)
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), (*(low + 1), *high), strict=True):
                _element(box, key, value)
        ElementTree.indent(top)
        write(f"Annotations/{crop.name}.xml", ElementTree.tostring(top, encoding="utf-8"))

    def finish(self, root: Path, crops: Sequence[Mapping[str, Any]]) -> None:
        """Write the names of the crops of each split."""
        folder = root / "ImageSets" / "Main"
        folder.mkdir(parents=True, exist_ok=True)
        for split, own in splits_of(crops).items():
            (folder / f"{split or 'train'}.txt").write_text("".join(f"{crop['name']}\n" for crop in own), "utf-8")


def _element(parent: ElementTree.Element, tag: str, value: Any) -> None:
    ElementTree.SubElement(parent, tag).text = str(value)


class FolderLayout(Layout):
    """A directory per class, below one per split: torchvision's `ImageFolder`."""

    CLIPS = True

    def image_path(self, crop: Crop) -> str:
        """Return the path of the file of a crop, below the root."""
        return _joined(crop.split, safe_name(self.classes.of_crop(crop)), crop.name + self.suffix)


class MaskLayout(Layout):
    """`masks` beside `images`: PNG files of numbers, 0 where there is nothing, and `classes.txt` with their names."""

    LABELS = ("classes", "instances")

    def add_labels(self, crop: Crop, write: Write) -> None:
        """Write the mask of a crop; where objects overlap, the one that the dataset lists last is on top."""
        shapes = [label.shape or Polygons.around(label.box) for label in crop.labels]
        values = [self.classes.index(label) + 1 for label in crop.labels]
        if self.labels == "instances":
            values = list(range(1, len(shapes) + 1))
        most = max(values) if self.labels == "instances" and values else len(self.classes.names)
        mask = np.zeros(crop.size, np.uint8 if most < 256 else np.uint16)
        for value, inside in zip(values, masks_in(shapes, [np.eye(3)] * len(shapes), crop.size), strict=True):
            mask[inside] = value
        write(_joined("masks", crop.split, crop.name + ".png"), bytes(imagecodecs.png_encode(mask, level=1)))

    def finish(self, root: Path, crops: Sequence[Mapping[str, Any]]) -> None:
        """Write the name of each value, from 0 on, a line each."""
        if self.labels == "classes":
            names = [BACKGROUND, *self.classes.names.values()]
            (root / "classes.txt").write_text("".join(f"{name}\n" for name in names), "utf-8")


@dataclass(frozen=True)
class WebDatasetLayout(Layout):
    """Tar files `train-000000.tar`: a crop, its labels as JSON, and its class in `.cls` where it has one alone."""

    shards: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """(split, part) to the number of its tar file."""

    LABELS = ("segments", "boxes")
    CLIPS = True
    TABLE = False

    def image_path(self, crop: Crop) -> str:
        """Return the name of the file of a crop within its tar file."""
        return crop.name + self.suffix

    def add_labels(self, crop: Crop, write: Write) -> None:
        """Write the labels of a crop."""
        segments = self.labels == "segments"
        found = []
        for label in crop.labels:
            more = {"frame": label.frame} if crop.frame is None and label.frame else {}
            found.append({**coco_annotation(label, crop.size, segments), **more, "category": self.classes.name(label)})
        about = {"width": crop.size[1], "height": crop.size[0], "source": dict(crop.origin), "annotations": found}
        write(f"{crop.name}.json", json.dumps(about).encode())
        names = {crop.own} if crop.own is not None else {label.record["category_id"] for label in crop.labels}
        if len(names) == 1:
            write(f"{crop.name}.cls", str(list(self.classes.names).index(names.pop())).encode())

    def shard_path(self, split: str, part: int) -> str:
        """Return the name of the tar file of the crops of a split in a part."""
        return f"{split or 'crops'}-{self.shards[split, part]:06d}.tar"

    def finish(self, root: Path, crops: Sequence[Mapping[str, Any]]) -> None:
        """Write the names of the classes."""
        (root / "classes.txt").write_text("".join(f"{name}\n" for name in self.classes.names.values()), "utf-8")


LAYOUTS: dict[str, type[Layout]] = {
    "yolo": YoloLayout,
    "coco": CocoLayout,
    "voc": VocLayout,
    "imagefolder": FolderLayout,
    "webdataset": WebDatasetLayout,
    "mask": MaskLayout,
}


def labels_of(layout: type[Layout], format: str, labels: str | None) -> str:
    """Return what labels are in a format: what was asked for, or the default."""
    if labels is None:
        return layout.LABELS[0]
    if labels not in layout.LABELS or not labels:
        known = " or ".join(map(repr, layout.LABELS)) if layout.LABELS[0] else "no such choice"
        raise OptionError(f"labels={labels!r}: format={format!r} has {known}", key="labels", hint="Leave it out")
    return labels


def safe_name(text: str) -> str:
    """Return a text as the name of a file or directory that every system takes, without dots and blanks."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in text) or "_"


def tar_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file to a tar file; its date is always the same, so that the same crops give the same bytes."""
    about = tarfile.TarInfo(name)
    about.size, about.mode = len(content), 0o644
    tar.addfile(about, io.BytesIO(content))


def write_windows(root: Path, crops: Sequence[Mapping[str, Any]]) -> None:
    """Write the table that says where each crop comes from."""
    columns = ["file", "split", *[name for name in ORIGIN if any(name in crop for crop in crops)]]
    with (root / WINDOWS).open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
        table.writeheader()
        table.writerows(crops)
