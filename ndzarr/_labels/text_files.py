"""
Labels in a text file per image or per sequence: YOLO, DOTA, MOT.

Formats: https://docs.ultralytics.com/datasets/ (detection, segmentation, oriented boxes, poses),
https://captain-whu.github.io/DOTA/dataset.html, and https://motchallenge.net/instructions/ (arXiv:1603.00831).
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ndzarr._formats.sequence import natural
from ndzarr._labels.builder import Builder, ImageFinder, check_size, list_images, numbers, stem, wrong

SPLITS = ("train", "val", "test")


def lines_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (number, words) of each line that is not empty."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise wrong(path, None, f"is not text ({error.reason})") from error
    for number, line in enumerate(text.splitlines(), 1):
        if words := line.replace(",", " ").split():
            yield number, words


# YOLO


def read_yolo(builder: Builder, labels: Path, images: Any) -> None:
    """
    Read a YOLO dataset: a `data.yaml`, or a directory of images and labels.

    The labels of `images/a.jpg` are `labels/a.txt`, or `a.txt` beside the image.  An image without a file of labels has
    no objects.  Lines hold a class and a box (centre and size), or a polygon of 3 points or more, of which oriented
    boxes are one, or a box and keypoints, if `kpt_shape` says so; all as fractions of the image.  A score may follow.
    """
    about: Mapping[str, Any] = {}
    root = labels
    if labels.is_file():
        about, root = _yaml(labels), labels.parent
    elif any((found := labels / name).is_file() for name in ("data.yaml", "data.yml", "dataset.yaml")):
        about = _yaml(found)
    names = _class_names(labels, about, root)
    for name in names:
        builder.category(name)
    parts = _yolo_splits(about, root) if images is None else {None: list_images(images, root)}
    points = _points_of(labels, about)
    folders = [path for path in (root, root / "labels") if path.is_dir()]
    read: dict[Path, str] = {}
    seen: set[str] = set()
    for split, paths in parts.items():
        for path in paths:
            if path in seen:  # small datasets name the same images for training and validation
                continue
            seen.add(path)
            image = builder.image(path, **({} if split is None else {"split": split}))
            if (file := _labels_of(path, folders)) is None:
                continue
            if (other := read.setdefault(file, path)) != path:
                raise wrong(file, None, f"is the file of labels of both {other} and {path}", "Rename one image")
            _yolo_file(builder, image, file, names, points)
    beside = {name for folder in {file.parent for file in read} for name in folder.glob("*.txt")}
    lists = {path for path in beside if path.name in _LISTS}
    builder.left_out["files of labels without an image"] += len(beside - lists - read.keys())


_LISTS = {"classes.txt", *(f"{split}.txt" for split in SPLITS)}
"""Names of text files that do not belong to an image."""


def _yaml(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(path.read_text("utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise wrong(path, None, f"is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(found, Mapping):
        raise wrong(path, None, "holds no keys", "A data.yaml has `names`, and paths of `train` and `val`")
    return found


def _points_of(labels: Path, about: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return (number of keypoints, numbers for each) of a data.yaml; None if it has no poses."""
    shape = about.get("kpt_shape")
    if shape is None:
        return None
    if not (
        isinstance(shape, list) and len(shape) == 2 and type(shape[0]) is int and shape[0] > 0 and shape[1] in (2, 3)
    ):
        raise wrong(labels, None, f"kpt_shape={shape!r}", "Give the number of keypoints, and 2 or 3 numbers for each")
    return shape[0], shape[1]


def _class_names(labels: Path, about: Mapping[str, Any], root: Path) -> list[str]:
    names = about.get("names")
    if isinstance(names, Mapping):
        if not all(isinstance(k, int) and k >= 0 for k in names):
            raise wrong(labels, None, f"names={names!r} are not numbered")
        return [str(names.get(k, k)) for k in range(max(names, default=-1) + 1)]
    if isinstance(names, list):
        return [str(name) for name in names]
    for file in (root / "classes.txt", root / "labels" / "classes.txt", root / "obj.names"):
        if file.is_file():
            return [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    return [str(k) for k in range(int(about["nc"]))] if isinstance(about.get("nc"), int) else []


def _yolo_splits(about: Mapping[str, Any], root: Path) -> dict[str | None, list[str]]:
    base = root / str(about.get("path", "."))
    base = base if base.is_dir() else root  # `path` is often that of another machine
    found: dict[str | None, list[str]] = {}
    for split in SPLITS:
        given = about.get(split)
        if given is None:
            continue
        found[split] = []
        for one in given if isinstance(given, list) else [given]:
            place = next((p for b in (base, root) if (p := b / str(one).removeprefix("../")).exists()), base / str(one))
            if place.suffix == ".txt" and place.is_file():  # a list of images
                found[split] += list_images([" ".join(words) for _, words in lines_of(place)], base)
            else:
                found[split] += list_images(place, base)
    return found or {None: list_images(None, root)}


def _labels_of(image: str, folders: Sequence[Path]) -> Path | None:
    """Return the file of labels of an image, as ultralytics finds it: the last `images` of its path is `labels`."""
    head, mark, tail = image.rpartition(f"{os.sep}images{os.sep}")
    name = stem(os.path.basename(image)) + ".txt"
    places = [Path(stem(f"{head}{os.sep}labels{os.sep}{tail}") + ".txt")] if mark else []
    places += [Path(stem(image) + ".txt"), *(folder / name for folder in folders)]
    return next((path for path in places if path.is_file()), None)


def _yolo_file(
    builder: Builder, image: Mapping[str, Any], file: Path, names: list[str], points: tuple[int, int] | None
) -> None:
    width, height = image["width"], image["height"]
    pose = 4 + points[0] * points[1] if points else 4
    for line, words in lines_of(file):
        values = numbers(file, line, words)
        number, rest = int(values[0]), values[1:]
        if values[0] != number or number < 0 or (names and number >= len(names)):
            known = f"the dataset has {len(names)} classes" if names else "classes are whole numbers from 0 on"
            raise wrong(file, line, f"class {words[0]}: {known}", "Name all classes in data.yaml")
        category = names[number] if names else str(number)
        # A prediction ends with its score.
        scored = len(rest) in (5, pose + 1) or (len(rest) > 6 and len(rest) % 2 == 1 and len(rest) != pose)
        more: dict[str, Any] = {"score": rest.pop()} if scored else {}
        posed = len(rest) == pose > 4
        places = rest[:4] if posed or len(rest) == 4 else rest
        if any(not -_BEYOND < value < 1 + _BEYOND for value in places):
            what = f"{' '.join(words[1:5])} are no fractions of the image"
            raise wrong(file, line, what, "Divide pixels by the width and the height of the image")
        if len(places) == 4:
            x, y, w, h = rest[0] * width, rest[1] * height, rest[2] * width, rest[3] * height
            check_size(file, line, w, h)
            if posed and points:
                more["keypoints"] = _keypoints(rest[4:], points[1], width, height)
            builder.add(image, category, (x - w / 2, y - h / 2, w, h), **more)
        elif len(rest) >= 6 and len(rest) % 2 == 0:
            ring = [(x * width, y * height) for x, y in zip(rest[::2], rest[1::2], strict=True)]
            builder.add_polygon(image, category, [ring], **more)
        else:
            hint = "A line holds a class and 4 numbers of a box, or 2 numbers for each point of a polygon"
            raise wrong(file, line, f"{len(words)} numbers", hint)


_BEYOND = 0.5
"""Fraction of an image by which a label may lie beyond it; pixels that were not divided lie further."""


def _keypoints(values: Sequence[float], step: int, width: int, height: int) -> list[float]:
    """Return COCO's list of x, y, visibility."""
    out: list[float] = []
    for k in range(0, len(values), step):
        x, y, *seen = values[k : k + step]
        out += [x * width, y * height, seen[0] if seen else 2 * (x > 0 or y > 0)]
    return out


# DOTA


def read_dota(builder: Builder, labels: Path, images: Any) -> None:
    """
    Read a directory of DOTA's labels, one file per image: four corners in pixels, a category, and how difficult it is.

    `imagesource:` and `gsd:` at the head of a file become keys of the image.
    """
    finder = ImageFinder(list_images(images, labels if labels.is_dir() else labels.parent))
    files = sorted(labels.rglob("*.txt"), key=lambda file: natural(str(file))) if labels.is_dir() else [labels]
    for file in files:
        image = builder.image(finder.require(file, file.name))
        for line, words in lines_of(file):
            key, mark, value = " ".join(words).partition(":")
            if mark and key in ("imagesource", "gsd", "acquisition dates"):
                image[key.replace(" ", "_")] = value.strip()
                continue
            if len(words) not in (9, 10) or not all(word.isdigit() for word in words[9:]):
                what = f"{' '.join(words)[:80]!r} is not x1 y1 x2 y2 x3 y3 x4 y4 category difficult"
                raise wrong(file, line, what, "Names of categories hold no blanks, and `difficult` is a number")
            corners = numbers(file, line, words[:8])
            more = {"difficult": int(words[9])} if len(words) > 9 else {}
            builder.add_polygon(image, words[8], [list(zip(corners[::2], corners[1::2], strict=True))], **more)


# MOT

MOT_CLASSES = (
    *("pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non motorized vehicle", "static person"),
    *("distractor", "occluder", "occluder on the ground", "occluder full", "reflection", "crowd"),
)
"""Classes of MOT16 to MOT20, from 1 on."""
_IGNORED = {"distractor", "reflection", "static person", "person on vehicle", "crowd"}
"""Classes that the challenge's evaluation ignores."""


def read_mot(builder: Builder, labels: Path, images: Any) -> None:
    """
    Read sequences of the MOT challenge: a directory with `gt/gt.txt` (or `det/det.txt`), or one of many of these.

    Each sequence becomes a video, and identities become tracks.  Frames and boxes count from 1 in the files.  Rows
    whose confidence is 0 are marked `ignore`.
    """
    for sequence in mot_sequences(labels):
        about = _sequence_info(sequence)
        folder = images if images is not None else sequence / about.get("imdir", "img1")
        paths = list_images(folder, sequence)
        first = builder.image(paths[0])
        width, height = first["width"], first["height"]
        rate = (
            {"framerate": numbers(sequence / "seqinfo.ini", None, [about["framerate"]])[0]}
            if "framerate" in about
            else {}
        )
        video = builder.video(about.get("name", sequence.name), width, height, **rate)
        frames = {
            k: builder.image(path, width=width, height=height, video_id=video, frame_index=k - 1)
            for k, path in _numbered(paths)
        }
        file = next(p for p in (sequence / "gt" / "gt.txt", sequence / "det" / "det.txt") if p.is_file())
        _mot_file(builder, file, frames)


def _numbered(paths: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield images with the numbers of their frames: those that are their names, if all count from 1 on."""
    names = [stem(os.path.basename(path)) for path in paths]
    named = all(name.isdigit() and int(name) > 0 for name in names) and len(set(map(int, names))) == len(names)
    yield from zip(map(int, names) if named else range(1, len(paths) + 1), paths, strict=True)


def mot_sequences(labels: Path) -> list[Path]:
    """Return the directories of sequences below a directory, or of a file."""
    if labels.is_file():
        return [labels.parent.parent]
    files = [*labels.rglob("gt/gt.txt")] or [*labels.rglob("det/det.txt")]
    return sorted({file.parent.parent for file in files}, key=lambda path: natural(str(path)))


def _sequence_info(sequence: Path) -> Mapping[str, str]:
    file = sequence / "seqinfo.ini"
    if not file.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(file, "utf-8-sig")
        return dict(parser["Sequence"])
    except (configparser.Error, KeyError) as error:
        raise wrong(file, None, f"has no section [Sequence] ({' '.join(str(error).split())})") from error


def _mot_file(builder: Builder, file: Path, frames: Mapping[int, Mapping[str, Any]]) -> None:
    for line, words in lines_of(file):
        values = numbers(file, line, words)
        if len(values) < 6:
            raise wrong(file, line, f"{len(values)} numbers", "MOT has frame, id, left, top, width, height, ...")
        frame, track = int(values[0]), int(values[1])
        if frame not in frames or (frame, track) != tuple(values[:2]):
            raise wrong(file, line, f"frame {words[0]}, of {len(frames)} images", "Pass the sequence's images=")
        check_size(file, line, values[4], values[5])
        category = (
            MOT_CLASSES[int(values[7]) - 1] if len(values) > 7 and 0 < values[7] <= len(MOT_CLASSES) else "object"
        )
        more: dict[str, Any] = {"track_id": track} if track >= 0 else {}
        if len(values) > 6 and file.name == "gt.txt":
            if values[6] == 0 or category in _IGNORED:
                more["ignore"] = 1
        elif len(values) > 6:
            more["score"] = values[6]
        if len(values) > 8 and values[8] >= 0:
            more["visibility"] = values[8]
        builder.add(frames[frame], category, (values[2] - 1, values[3] - 1, values[4], values[5]), **more)
