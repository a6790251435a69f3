"""
Labels of Pascal VOC: an XML file per image, as LabelImg, CVAT and Label Studio write them, too.

Format: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html; pixels count from 1 and both corners
belong to a box, so that it reaches from xmin - 1 to xmax.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ndzarr._formats.sequence import natural
from ndzarr._labels.builder import Builder, ImageFinder, list_images, missing_image, numbers, wrong

_NOTES = ("difficult", "truncated", "occluded")


def read_voc(builder: Builder, labels: Path, images: Any) -> None:
    """Read a directory of VOC's XML files, or one of them."""
    files = sorted(labels.rglob("*.xml"), key=lambda file: natural(str(file))) if labels.is_dir() else [labels]
    root = labels if labels.is_dir() else labels.parent
    if images is None and root.name == "Annotations" and (root.parent / "JPEGImages").is_dir():
        images = root.parent / "JPEGImages"
    finder = ImageFinder(list_images(images, root))
    splits = _splits(root.parent if root.name == "Annotations" else root)
    for file in files:
        top = _tree(file)
        if top.tag != "annotation":
            builder.leave_out(f"XML files that begin with <{top.tag}>")
            continue
        path = finder.find(top.findtext("filename") or file.stem) or finder.find(file.stem)
        if path is None:
            raise missing_image(file, top.findtext("filename") or file.stem, finder)
        image = builder.image(path, **splits.get(file.stem, {}))
        for entry in top.iter("object"):
            _object(builder, image, file, entry)


def _tree(file: Path) -> ElementTree.Element:
    text = file.read_bytes()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise wrong(file, None, "holds a document type, which labels do not need", "Remove it, if you trust the file")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise wrong(file, error.position[0], f"is not XML ({error})") from error


def _object(builder: Builder, image: Any, file: Path, entry: ElementTree.Element) -> None:
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise wrong(file, None, "an <object> has no <name>")
    more: dict[str, Any] = {}
    for key in _NOTES:
        if (value := (entry.findtext(key) or "").strip()).isdigit():
            more[key] = int(value)
    if (polygon := entry.find("polygon")) is not None:
        values = numbers(file, None, [(child.text or "").strip() for child in polygon if child.tag[:1] in "xy"])
        builder.add_polygon(image, name, [list(zip(values[::2], values[1::2], strict=True))], **more)
        return
    box = entry.find("bndbox")
    if box is None:
        builder.leave_out("objects without a box")
        return
    words = [(box.findtext(key) or "").strip() for key in ("xmin", "ymin", "xmax", "ymax")]
    left, top, right, bottom = numbers(file, None, words)
    if right < left or bottom < top:
        raise wrong(file, None, f"the box of {name!r} ends before it begins: {' '.join(words)}")
    left, top = max(left - 1, 0), max(top - 1, 0)
    builder.add(image, name, (left, top, right - left, bottom - top), **more)


def _splits(root: Path) -> dict[str, dict[str, str]]:
    """Return {"split": name} of the images that ImageSets/Main names."""
    found: dict[str, dict[str, str]] = {}
    for split in ("train", "val", "test"):
        file = root / "ImageSets" / "Main" / f"{split}.txt"
        if file.is_file():
            found |= {line.split()[0]: {"split": split} for line in file.read_text().splitlines() if line.strip()}
    return found
