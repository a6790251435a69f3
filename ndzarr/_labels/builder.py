"""What readers of labels share: the images they mean, categories, annotations, and what was left out."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ndzarr._files import is_store
from ndzarr._formats.registry import IMAGE_SUFFIXES, open_source
from ndzarr._formats.sequence import natural
from ndzarr._geo.georeference import Georeference, from_attributes
from ndzarr._library.keys import is_opened_in_place
from ndzarr.errors import MissingError, OptionError, SourceError, did_you_mean


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of an image file from its head."""

    height: int
    width: int
    channels: tuple[str, ...]
    place: Georeference | None
    """Where it lies on earth, if it has a transform."""


def image_facts(path: str) -> ImageFacts:
    """Return the size, channels and georeference of an image file or a store; its pixels are not read."""
    if is_opened_in_place(path):
        from ndzarr._library.open import open as open_pyramid

        pyramid = open_pyramid(path)
        place = pyramid.georeference
        return ImageFacts(pyramid.sizes["y"], pyramid.sizes["x"], pyramid.channels, _placed(place))
    with open_source(path) as source:
        place = from_attributes({"ndzarr": {"source": source.metadata}})
        return ImageFacts(source.shape[-2], source.shape[-1], tuple(source.channels), _placed(place))


def _placed(place: Georeference | None) -> Georeference | None:
    return place if place is not None and place.transform is not None else None


def list_images(images: Any, root: Path) -> list[str]:
    """
    Return the paths of image files.

    Parameters
    ----------
    images
        A directory (searched with its subdirectories), a pattern, a path, or a sequence of these; None for `root`.
    root
        The directory that relative names are looked for in, after the current one.
    """
    if images is None:
        images = root
    if isinstance(images, (str, os.PathLike)):
        return _expanded(os.fspath(images), root)
    return [path for one in images for path in _expanded(os.fspath(one), root)]


def _expanded(name: str, root: Path) -> list[str]:
    for place in (name, os.path.join(root, name)):
        if os.path.isdir(place) and not is_store(place):
            found = [path for path in _walk(place) if is_store(path) or path.lower().endswith(IMAGE_SUFFIXES)]
            if found:
                return found
        elif os.path.lexists(place):
            return [os.path.abspath(place)]
        elif glob.has_magic(place):
            matches = sorted(glob.glob(os.path.expanduser(place), recursive=True), key=natural)
            if matches:
                return [os.path.abspath(path) for path in matches]
    raise MissingError(f"{name}: no image file", path=name, key="images", hint="Name a directory, files or a pattern")


def _walk(folder: str) -> list[str]:
    found = []
    for place, folders, files in os.walk(os.path.abspath(folder)):
        stores = [name for name in folders if is_store(os.path.join(place, name))]
        folders[:] = [name for name in folders if name not in stores and not name.startswith(".")]
        found += [os.path.join(place, name) for name in (*files, *stores) if not name.startswith(".")]
    return sorted(found, key=natural)


class ImageFinder:
    """Finds the files of images that labels name: by path, by file name, or by file name without suffix."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = tuple(dict.fromkeys(paths))
        self._by_name: dict[str, list[str]] = {}
        for path in self.paths:
            name = os.path.basename(path)
            for key in {path, name, stem(name)}:
                self._by_name.setdefault(key, []).append(path)

    def find(self, name: str, file: str | os.PathLike[str]) -> str | None:
        """
        Return the path that a name in a file of labels means, which may end with directories; None if there is none.

        Among several images of that name, it is the one whose directories are most like those of the labels.
        """
        base = os.path.basename(name.replace("\\", "/"))
        found = self._by_name.get(base) or self._by_name.get(stem(base)) or []
        if len(found) > 1:
            tail = os.sep + name.replace("\\", "/").lstrip("./")
            found = [path for path in found if path.endswith(tail) or stem(path).endswith(stem(tail))] or found
        if len(found) > 1:
            likeness = [_likeness(path, os.path.abspath(file)) for path in found]
            found = [path for path, like in zip(found, likeness, strict=True) if like == max(likeness)]
        if len(found) > 1:
            what = f"{name} may be any of {len(found)} images, such as {found[0]} and {found[1]}"
            raise wrong(file, None, what, "Name the images that are meant")
        return found[0] if found else None

    def require(self, file: str | os.PathLike[str], *names: str) -> str:
        """Return the path of the image of a file of labels, by any of these names; `SourceError` if there is none."""
        for name in names:
            if (found := self.find(name, file)) is not None:
                return found
        known = did_you_mean(names[0], [os.path.basename(path) for path in self.paths[:1000]])
        what = f"its image {names[0]!r} is not among {len(self.paths)} images{known}"
        raise wrong(file, None, what, "Pass images=")


def _likeness(path: str, file: str) -> tuple[int, int]:
    """Return how many directories of two files have the same names, from the last one up, and from the first down."""
    ours, theirs = (os.path.dirname(one).split(os.sep) for one in (path, file))
    pairs = list(zip(ours[::-1], theirs[::-1], strict=False)), list(zip(ours, theirs, strict=False))
    up, down = (next((k for k, (a, b) in enumerate(pair) if a != b), len(pair)) for pair in pairs)
    return up, down


def stem(name: str) -> str:
    """Return a file name without its suffix, that of OME-TIFF as one."""
    for suffix in (".ome.tiff", ".ome.tif", ".ome.zarr"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return os.path.splitext(name)[0]


@dataclass
class Builder:
    """A dataset that is being put together; ids count from 1 in the order in which things come."""

    source: str
    """The labels, in errors."""
    categories: dict[str, int] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    videos: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason to the number of things that were left out for it."""
    places: dict[int, Georeference] = field(default_factory=dict)
    """Id of an image to its place on earth, as far as that was looked up."""
    _gids: dict[tuple[str, int | None], dict[str, Any]] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def category(self, name: str) -> int:
        """Return the id of a category, which is made if it is new."""
        return self.categories.setdefault(name, len(self.categories) + 1)

    def image(self, path: str, frame: int | None = None, /, **more: Any) -> dict[str, Any]:
        """
        Return the dictionary of an image file, or of a frame of a video file, which is made if it is new.

        `more` are its other keys.
        """
        found = self._gids.get((path, frame))
        if found is None:
            facts = image_facts(path) if not {"width", "height"} <= more.keys() else None
            name = stem(os.path.basename(path)) + ("" if frame is None else f"-{frame}")
            found = {"id": len(self.images) + 1, "name": self._unique(name), "file_name": path}
            if facts is not None:
                found |= {"width": facts.width, "height": facts.height, "channels": "|".join(facts.channels)}
            self._gids[path, frame] = found
            self.images.append(found)
        found |= more
        return found

    def _unique(self, name: str) -> str:
        unique, k = name, 1
        while unique in self._names:
            k += 1
            unique = f"{name}-{k}"
        self._names.add(unique)
        return unique

    def video(self, name: str, width: int, height: int, **more: Any) -> int:
        """Make a video; return its id."""
        number = len(self.videos) + 1
        self.videos.append({"id": number, "name": name, "width": width, "height": height, **more})
        return number

    def add(self, image: Mapping[str, Any], category: str, bbox: Sequence[float], /, **more: Any) -> dict[str, Any]:
        """Add an annotation; `bbox` is x, y, width, height in pixels."""
        annotation = {
            "id": len(self.annotations) + 1,
            "image_id": image["id"],
            "category_id": self.category(category),
            "bbox": [float(v) for v in bbox],
            **more,
        }
        self.annotations.append(annotation)
        return annotation

    def add_polygon(
        self, image: Mapping[str, Any], category: str, rings: Sequence[Any], /, **more: Any
    ) -> dict[str, Any]:
        """Add a polygon: its exterior and its interiors, each (n, 2) of x and y in pixels."""
        exterior, *holes = [np.asarray(ring, float).reshape(-1, 2) for ring in rings]
        low, high = exterior.min(axis=0), exterior.max(axis=0)
        shape: Any = [exterior.ravel().tolist()]
        if holes:  # as kwimage writes them: COCO's own lists have no holes
            shape = [{"exterior": exterior.tolist(), "interiors": [hole.tolist() for hole in holes]}]
        return self.add(image, category, (*low, *(high - low)), segmentation=shape, **more)

    def leave_out(self, reason: str) -> None:
        """Count something that is left out."""
        self.left_out[reason] += 1

    def name_keys(self, pattern: str) -> None:
        """Give images the named groups of a regular expression that their file names match."""
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise OptionError(f"filename_regex={pattern!r}: {error}", key="filename_regex") from error
        if not compiled.groupindex:
            hint = "Name groups, such as (?P<date>[0-9]{8})"
            raise OptionError(f"filename_regex={pattern!r}: no named groups", key="filename_regex", hint=hint)
        names = {"date": "date_captured", "sensor": "sensor_coarse"}
        for image in self.images:
            path = image["file_name"] or image["assets"][0]["file_name"]
            if (found := compiled.search(os.path.basename(path))) is None:
                raise SourceError(f"{path}: does not match filename_regex={pattern!r}", path=path, key="filename_regex")
            image |= {names.get(key, key): value for key, value in found.groupdict().items() if value is not None}

    def dataset(self) -> dict[str, Any]:
        """Return the dataset as kwcoco's dictionary."""
        about = {"type": "ndzarr", "labels": self.source, "left_out": {k: n for k, n in self.left_out.items() if n}}
        return {
            "info": [about],
            "categories": [{"id": number, "name": name} for name, number in self.categories.items()],
            "videos": self.videos,
            "images": self.images,
            "annotations": self.annotations,
        }


def wrong(path: str | os.PathLike[str], line: int | None, what: str, hint: str | None = None) -> SourceError:
    """Return the error of labels that are not understood, with the file and the line."""
    place = os.fspath(path) if line is None else f"{os.fspath(path)}, line {line}"
    return SourceError(f"{place}: {what}", path=os.fspath(path), hint=hint)


def numbers(path: str | os.PathLike[str], line: int | None, words: Sequence[str]) -> list[float]:
    """Return the finite numbers that words are."""
    try:
        found = [float(word) for word in words]
    except ValueError:
        raise wrong(path, line, f"{' '.join(words)[:80]!r} holds something other than numbers") from None
    if not np.isfinite(found).all():
        raise wrong(path, line, f"{' '.join(words)[:80]!r} holds a number that is not finite")
    return found


def check_size(path: str | os.PathLike[str], line: int | None, width: float, height: float) -> None:
    """Raise `SourceError` for a box whose size is below 0."""
    if min(width, height) < 0:
        raise wrong(path, line, f"a box of {width:g} x {height:g}", "Width and height are at least 0")
