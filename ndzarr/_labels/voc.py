"""
Labels of Pascal VOC: an XML file per image, as LabelImg, CVAT and Label Studio write them, too.

Format: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html; pixels count from 1 and both corners
belong to a box, so that it reaches from xmin - 1 to xmax.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from ndzarr._formats.sequence import natural
from ndzarr._labels.builder import Builder, ImageFinder, list_images, numbers, wrong
from ndzarr.errors import SourceError

_NOTES = ("difficult", "truncated", "occluded")


@dataclass(frozen=True, eq=False)
class Xml:
    """An XML file, with the lines of its elements."""

    file: Path
    top: ElementTree.Element
    lines: Mapping[ElementTree.Element, int]

    @classmethod
    def read(cls, file: Path) -> Xml:
        """Read a file; raise `SourceError` if it is not XML, or has a document type, which may make it endless."""
        text = file.read_bytes()
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise wrong(
                file, None, "holds a document type, which labels do not need", "Remove it, if you trust the file"
            )
        parser, builder = expat.ParserCreate(), ElementTree.TreeBuilder()
        lines: dict[ElementTree.Element, int] = {}

        def start(tag: str, attributes: dict[str, str]) -> None:
            lines[builder.start(tag, attributes)] = parser.CurrentLineNumber

        parser.StartElementHandler, parser.EndElementHandler = start, builder.end
        parser.CharacterDataHandler = builder.data
        try:
            parser.Parse(text, True)
        except expat.ExpatError as error:
            raise wrong(file, error.lineno, f"is not XML ({error})") from error
        return cls(file, builder.close(), lines)

    def line(self, element: ElementTree.Element) -> int:
        """Return the line on which an element begins."""
        return self.lines[element]

    def wrong(self, element: ElementTree.Element, what: str, hint: str | None = None) -> SourceError:
        """Return the error of an element that is not understood."""
        return wrong(self.file, self.line(element), what, hint)

    def numbers(self, element: ElementTree.Element, *names: str) -> list[float]:
        """Return attributes of an element, which must be numbers."""
        return numbers(self.file, self.line(element), [element.get(name) or f"<{name}>" for name in names])

    def texts(self, element: ElementTree.Element, *names: str) -> list[float]:
        """Return the texts of children of an element, which must be numbers."""
        words = [(element.findtext(name) or "").strip() or f"<{name}>" for name in names]
        return numbers(self.file, self.line(element), words)


def read_voc(builder: Builder, labels: Path, images: Any) -> None:
    """Read a directory of VOC's XML files, or one of them."""
    files = sorted(labels.rglob("*.xml"), key=lambda file: natural(str(file))) if labels.is_dir() else [labels]
    root = labels if labels.is_dir() else labels.parent
    if images is None and root.name == "Annotations" and (root.parent / "JPEGImages").is_dir():
        images = root.parent / "JPEGImages"
    finder = ImageFinder(list_images(images, root))
    splits = _splits(root.parent if root.name == "Annotations" else root)
    for file in files:
        xml = Xml.read(file)
        if xml.top.tag != "annotation":
            builder.leave_out(f"XML files that begin with <{xml.top.tag}>")
            continue
        path = finder.require(file, xml.top.findtext("filename") or file.stem, file.stem)
        image = builder.image(path, **splits.get(file.stem, {}))
        for entry in xml.top.iter("object"):
            _object(builder, image, xml, entry)


def _object(builder: Builder, image: Any, xml: Xml, entry: ElementTree.Element) -> None:
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise xml.wrong(entry, "an <object> has no <name>")
    more: dict[str, Any] = {}
    for key in _NOTES:
        if (value := (entry.findtext(key) or "").strip()).isdigit():
            more[key] = int(value)
    if (polygon := entry.find("polygon")) is not None:
        values = xml.texts(polygon, *[child.tag for child in polygon if child.tag[:1] in "xy"])
        if len(values) < 6 or len(values) % 2:
            raise xml.wrong(
                polygon, f"a polygon of {len(values)} numbers", "It has x1, y1 and so on of three points or more"
            )
        builder.add_polygon(image, name, [list(zip(values[::2], values[1::2], strict=True))], **more)
        return
    box = entry.find("bndbox")
    if box is None:
        builder.leave_out("objects without a box")
        return
    left, top, right, bottom = xml.texts(box, "xmin", "ymin", "xmax", "ymax")
    if right < left or bottom < top:
        raise xml.wrong(box, f"the box of {name!r} ends before it begins: {left:g} {top:g} {right:g} {bottom:g}")
    left, top = max(left - 1, 0), max(top - 1, 0)
    builder.add(image, name, (left, top, right - left, bottom - top), **more)


def _splits(root: Path) -> dict[str, dict[str, str]]:
    """Return {"split": name} of the images that ImageSets/Main names."""
    found: dict[str, dict[str, str]] = {}
    for split in ("train", "val", "test"):
        file = root / "ImageSets" / "Main" / f"{split}.txt"
        if file.is_file():
            found |= {
                line.split()[0]: {"split": split} for line in file.read_text("utf-8-sig").splitlines() if line.strip()
            }
    return found
