"""
Labels as annotation tools keep them: CVAT's XML, and Label Studio's JSON.

Formats: https://docs.cvat.ai/docs/manual/advanced/xml_format/ (1.1, for images and for videos),
https://labelstud.io/guide/export and https://labelstud.io/tags/.  Both turn boxes clockwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from ndzarr._labels.builder import Builder, ImageFinder, check_size, list_images, numbers, wrong
from ndzarr._labels.folders import run_lengths
from ndzarr._labels.voc import Xml

Array = np.ndarray[Any, Any]
_ELLIPSE = 72
"""Corners of the polygon that stands for an ellipse."""


def turned(points: Array, degrees: float, pivot: Sequence[float]) -> Array:
    """Return points (n, 2), y down, turned clockwise around a pivot."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.asarray((points - pivot) @ np.array([[cos, sin], [-sin, cos]]) + pivot)


def _corners(x: float, y: float, width: float, height: float) -> Array:
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])


def _ellipse(x: float, y: float, rx: float, ry: float) -> Array:
    angle = np.linspace(0, 2 * np.pi, _ELLIPSE, endpoint=False)
    return np.column_stack([x + rx * np.cos(angle), y + ry * np.sin(angle)])


# CVAT


def read_cvat(builder: Builder, labels: Path, images: Any) -> None:
    """
    Read CVAT's XML of images, or of a video, whose tracks lie on numbered images or on the frames of a file.

    Attributes become keys.  Boxes of a track that are `outside` are left out, since the object is not seen there.
    """
    xml = Xml.read(labels)
    if xml.top.tag != "annotations":
        raise wrong(labels, 1, f"<{xml.top.tag}>, and CVAT's XML begins with <annotations>")
    paths = list_images(images, labels.parent)
    finder = ImageFinder(paths)
    for name in xml.top.iterfind("meta//labels/label/name"):
        builder.category(name.text or "")
    for entry in xml.top.iterfind("image"):
        split = {"split": entry.get("subset", "").lower()} if entry.get("subset") else {}
        image = builder.image(finder.require(labels, entry.get("name") or entry.get("id") or ""), **split)
        for shape in entry:
            _cvat_shape(builder, image, xml, shape, shape.get("label") or "", {})
    tracks = xml.top.findall("track")
    if tracks:
        frames = _cvat_frames(builder, xml, paths, 1 + max(int(f.get("frame") or 0) for t in tracks for f in t))
        for track in tracks:
            more = {"track_id": int(xml.numbers(track, "id")[0])}
            for shape in track:
                place = int(xml.numbers(shape, "frame")[0])
                if not 0 <= place < len(frames):
                    raise xml.wrong(shape, f"frame {place}, of {len(frames)} images", "Pass the video's images=")
                if shape.get("outside") == "1":
                    builder.leave_out("shapes of tracks outside of the picture")
                else:
                    _cvat_shape(builder, frames[place], xml, shape, track.get("label") or "", more)


def _cvat_frames(builder: Builder, xml: Xml, paths: Sequence[str], least: int) -> list[dict[str, Any]]:
    """Return the images of a video: files, or at least so many frames of one."""
    first = builder.image(paths[0]) if len(paths) > 1 else None
    original = xml.top.find("meta//original_size")
    if first is not None:
        width, height = first["width"], first["height"]
    elif original is not None:
        width, height = (int(v) for v in xml.texts(original, "width", "height"))
    else:
        raise wrong(xml.file, None, "states no original_size of its video", "Pass the frames as images=")
    about = {"width": width, "height": height, "video_id": builder.video(xml.file.stem, width, height)}
    if first is not None:
        return [builder.image(path, frame_index=k, **about) for k, path in enumerate(paths)]
    stated = xml.top.findtext("meta//size") or ""
    count = int(stated) if stated.isdigit() else least
    return [builder.image(paths[0], k, frame_index=k, **about) for k in range(max(count, least))]


def _cvat_shape(
    builder: Builder, image: Mapping[str, Any], xml: Xml, shape: Any, label: str, more: Mapping[str, Any]
) -> None:
    about = {a.get("name") or "": (a.text or "").strip() for a in shape.iterfind("attribute")}
    more = {**about, **more, **({"occluded": 1} if shape.get("occluded") == "1" else {})}
    degrees = float(shape.get("rotation") or 0)
    match shape.tag:
        case "box":
            left, top, right, bottom = xml.numbers(shape, "xtl", "ytl", "xbr", "ybr")
            check_size(xml.file, xml.line(shape), right - left, bottom - top)
            if not degrees:
                builder.add(image, label, (left, top, right - left, bottom - top), **more)
                return
            middle = (left + right) / 2, (top + bottom) / 2
            ring = turned(_corners(left, top, right - left, bottom - top), degrees, middle)
            builder.add_polygon(image, label, [ring], **more)
        case "polygon":
            words = re.split("[;,]", shape.get("points") or "")
            values = numbers(xml.file, xml.line(shape), words)
            if len(values) < 6 or len(values) % 2:
                raise xml.wrong(shape, f"a polygon of {len(values)} numbers", "It has x,y of three points or more")
            builder.add_polygon(image, label, [values], **more)
        case "ellipse":
            x, y, rx, ry = xml.numbers(shape, "cx", "cy", "rx", "ry")
            builder.add_polygon(image, label, [turned(_ellipse(x, y, rx, ry), degrees, (x, y))], **more)
        case "mask":
            left, top, width, height = (int(v) for v in xml.numbers(shape, "left", "top", "width", "height"))
            runs = [int(v) for v in numbers(xml.file, xml.line(shape), (shape.get("rle") or "").split(","))]
            if sum(runs) != width * height or min(runs) < 0:
                raise xml.wrong(shape, f"runs of {sum(runs)} pixels for a mask of {width} x {height}")
            mask = np.zeros((image["height"], image["width"]), bool)
            inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
            if min(left, top) < 0 or left + width > mask.shape[1] or top + height > mask.shape[0]:
                raise xml.wrong(shape, f"a mask that lies beyond its image of {mask.shape[1]} x {mask.shape[0]}")
            mask[top : top + height, left : left + width] = inside
            box = left, top, width, height
            builder.add(image, label, box, segmentation=run_lengths(mask), **more)
        case _:
            builder.leave_out(f"shapes of the kind {shape.tag}")


# Label Studio


def read_label_studio(builder: Builder, labels: Path, images: Any) -> None:
    """
    Read Label Studio's JSON or JSON_MIN: percents of images, and boxes that turn around their first corner.

    The first annotation of an image that was not cancelled counts.
    """
    try:
        tasks = json.loads(labels.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise wrong(labels, None, f"is not text ({error.reason})") from error
    except json.JSONDecodeError as error:
        raise wrong(labels, error.lineno, f"is not JSON ({error.msg})") from error
    finder = ImageFinder(list_images(images, labels.parent))
    for number, task in enumerate(tasks if isinstance(tasks, list) else [tasks], 1):
        if not isinstance(task, Mapping):
            raise wrong(labels, None, f"task {number} is not an object")
        where = f"task {task.get('id', number)}"
        names = [*_strings(task.get("data", task))]
        if not names:
            raise wrong(labels, None, f"{where} names no image")
        image = builder.image(finder.require(labels, *[way for name in names for way in _ways(name)]))
        for region in _regions(builder, task):
            try:
                _studio_region(builder, image, region)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                what = f"{where}: a region is not understood ({type(error).__name__}: {error})"
                raise wrong(labels, None, what) from error


def _strings(data: Any) -> Iterator[str]:
    """Yield what may be the path of an image, the likeliest first."""
    found = [(key, v) for key, v in data.items() if isinstance(v, str)] if isinstance(data, Mapping) else []
    yield from (v for key, v in sorted(found, key=lambda pair: pair[0] not in ("image", "img")) if "." in v)


def _ways(name: str) -> Iterator[str]:
    """Yield what a URL of Label Studio may name: a file of local storage, or an upload with digits before its name."""
    url = urlsplit(name)
    path = parse_qs(url.query).get("d", [unquote(url.path)])[0]
    yield path
    yield re.sub(r"^[0-9a-f]{6,}-", "", path.rpartition("/")[2])


def _regions(builder: Builder, task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield (kind, value, size of the image) of what is labelled."""
    if "annotations" not in task:  # JSON_MIN
        yield from (
            {"value": one, **one, "type": next((k for k in one if k.endswith("labels")), "")}
            for value in task.values() if isinstance(value, list) for one in value if isinstance(one, Mapping)
        )  # fmt: skip
        return
    valid = [one for one in task["annotations"] if not one.get("was_cancelled")]
    builder.left_out["further annotations of an image, by others"] += max(len(valid) - 1, 0)
    builder.left_out["annotations that were cancelled"] += len(task["annotations"]) - len(valid)
    yield from valid[0].get("result") or () if valid else ()


def _studio_region(builder: Builder, image: Mapping[str, Any], region: Mapping[str, Any]) -> None:
    kind, value = str(region.get("type") or ""), region["value"]
    if kind not in ("rectanglelabels", "polygonlabels", "ellipselabels"):
        builder.leave_out(f"regions of the kind {kind or 'unknown'}")
        return
    if region.get("image_rotation"):
        builder.leave_out("regions of images that were turned")
        return
    [label, *others] = value[kind]
    builder.left_out["further classes of a region"] += len(others)
    scale = np.array([image["width"], image["height"]]) / 100
    more = {"score": float(region["score"])} if region.get("score") is not None else {}
    degrees = float(value.get("rotation") or 0)
    if kind == "polygonlabels":
        ring = np.array(value["points"], float).reshape(-1, 2) * scale
    else:
        place = np.array([value["x"], value["y"]], float) * scale
        width, height = (np.array([value[k] for k in _SIZES[kind]], float) * scale).tolist()
        if min(width, height) < 0:
            raise ValueError(f"a size of {width:g} x {height:g} pixels")
        if kind == "rectanglelabels" and not degrees:
            builder.add(image, str(label), (*place.tolist(), width, height), **more)
            return
        x, y = place.tolist()
        ring = _corners(x, y, width, height) if kind == "rectanglelabels" else _ellipse(x, y, width, height)
        ring = turned(ring, degrees, (x, y))
    if len(ring) < 3 or not np.isfinite(ring).all():
        raise ValueError(f"a polygon of {len(ring)} points")
    builder.add_polygon(image, str(label), [ring], **more)


_SIZES = {"rectanglelabels": ("width", "height"), "ellipselabels": ("radiusX", "radiusY")}
