"""
CZI files of ZEISS, through pylibCZIrw (https://github.com/ZEISS/pylibczirw).

Scenes are the images of a file. Tiles are put together as ZEISS' library does; where a scene has none, pixels are 0.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ndzarr._formats.base import Facts, Pixels, in_order
from ndzarr._formats.options import Options
from ndzarr._formats.readers import ImageReader, choose_image, reading
from ndzarr._geo.pixel_size import PixelSize, Statements
from ndzarr.errors import SourceError

_PIXELS = {"Gray8": ("u1", 1), "Gray16": ("u2", 1), "Gray32Float": ("f4", 1), "Bgr24": ("u1", 3), "Bgr48": ("u2", 3)}
"""dtype and number of samples of ZEISS' types of pixels."""


def open_file(path: str, options: Options) -> Czi:
    """Open a scene of a CZI file."""
    from pylibCZIrw import czi

    with reading(path, "CZI"):
        document = czi.CziReader(path)
        box, types = document.total_bounding_box, document.pixel_types
        scenes = document.scenes_bounding_rectangle
        xml, whole = document.raw_metadata, document.total_bounding_rectangle
    further = [d for d, (start, stop) in box.items() if d not in "TZCXY" and stop - start > 1]
    kinds = {types.get(c) for c in range(box["C"][0], box["C"][1])}
    if further or len(kinds) > 1 or not kinds <= set(_PIXELS):
        what = f"it has the axes {' '.join(further)}" if further else f"its channels are {', '.join(map(str, kinds))}"
        raise SourceError(f"{path}: {what}", path=path, hint="Convert it to OME-TIFF, or read it with pylibCZIrw")
    numbers = sorted(scenes) or [None]
    names = [f"scene {k}" for k in numbers] if scenes else ["image"]
    chosen, about = choose_image(path, names, options)
    number = numbers[chosen]
    code, samples = _PIXELS[kinds.pop()]
    about_pixels = _metadata(path, xml)
    rectangle = whole if number is None else scenes[number]
    shape = {"c": (box["C"][1] - box["C"][0]) * samples, "y": rectangle.h, "x": rectangle.w}
    shape |= {d.lower(): box[d][1] - box[d][0] for d in "TZ" if d in box and box[d][1] - box[d][0] > 1}
    dims = in_order("".join(shape))
    notes = about_pixels.pop("notes") + list(about.get("notes", ()))
    facts = Facts(
        name=path,
        dims=dims,
        shape=tuple(shape[d] for d in dims),
        dtype=np.dtype(code),
        channels=_names(about_pixels.pop("channels"), shape["c"], samples),
        band=512,
        interleaved=samples > 1,
        pixel_size=about_pixels.pop("size"),
        metadata={"format": "CZI", **about, **({"notes": notes} if notes else {})},
    )
    return Czi(facts, document, number, rectangle, {d: box[d][0] for d in box})


def _metadata(path: str, xml: str) -> dict[str, Any]:
    """Return `size`, `channels` and `notes` by the XML of a file."""
    notes: list[str] = []
    with reading(path, "CZI"):
        root = ElementTree.fromstring(xml)
    said = Statements("CZI", notes)
    metres = {item.get("Id"): item.findtext("Value") for item in root.iterfind("./Metadata/Scaling/Items/Distance")}
    sizes = {
        axis: said.quantity(f"the distance along {axis}", _micrometres(metres.get(axis.upper())), "um")
        for axis in "zyx"
    }
    objective = root.findtext(".//Instrument/Objectives/Objective/NominalMagnification")
    size = PixelSize(**sizes, magnification=said.number("the magnification", objective), source="CZI")
    channels = [c.get("Name") for c in root.iterfind("./Metadata/Information/Image/Dimensions/Channels/Channel")]
    return {"size": size, "channels": channels, "notes": notes}


def _micrometres(metres: str | None) -> str | None:
    """Return metres, as a file writes them, in micrometres; None where there is no size."""
    try:
        value = float(metres or 0) * 1e6
    except ValueError:
        return metres
    return f"{value:.9g}" if value else None


def _names(stated: list[str | None], count: int, samples: int) -> tuple[str, ...]:
    if samples == 3:
        return ("r", "g", "b") if count == 3 else tuple(f"c{k // 3}.{'rgb'[k % 3]}" for k in range(count))
    if len(stated) == count and all(stated) and len(set(stated)) == count:
        return tuple(str(name) for name in stated)
    return ("gray",) if count == 1 else tuple(f"c{k}" for k in range(count))


class Czi(ImageReader):
    """A scene of a CZI file."""

    def __init__(self, facts: Facts, document: Any, scene: int | None, rectangle: Any, first: dict[str, int]) -> None:
        super().__init__(facts)
        self._document, self._scene, self._first = document, scene, first
        self._corner = rectangle.x, rectangle.y
        self._samples = 3 if facts.interleaved else 1
        self._lock = threading.Lock()
        self._powers = _pyramid_powers(document, facts.name, rectangle)
        height, width = facts.shape[-2:]
        self.sizes = tuple((height >> k, width >> k) for k in self._powers)

    def read_plane(self, level: int, at: Mapping[str, int], box: tuple[slice, slice, slice]) -> Pixels:
        c, y, x = box
        factor = 2 ** self._powers[level]
        place = self._corner[0] + x.start * factor, self._corner[1] + y.start * factor
        roi = (*place, (x.stop - x.start) * factor, (y.stop - y.start) * factor)
        plane = {d: first + at.get(d.lower(), 0) for d, first in self._first.items() if d in "TZ"}
        blocks = []
        for channel in range(c.start // self._samples, -(-c.stop // self._samples)):
            with self._lock, reading(self.name, "CZI"):
                found = self._document.read(roi, {**plane, "C": channel + self._first["C"]}, self._scene, 1 / factor)
            blocks.append(np.moveaxis(found[..., ::-1], -1, 0))  # from the order blue, green, red
        first = c.start // self._samples * self._samples
        return np.concatenate(blocks)[c.start - first : c.stop - first]

    def _release(self) -> None:
        self._document.close()


def _pyramid_powers(document: Any, path: str, rectangle: Any) -> list[int]:
    """Return the powers of two by which stored copies of tiles are smaller, beginning with 0."""
    zooms: set[float] = set()

    def look(_: int, block: Any) -> bool:
        zooms.add(round(block.get_zoom(), 3))
        return True

    with reading(path, "CZI"):
        document.enumerate_subblocks(look)
    coarsest = min((z for z in zooms if z > 0), default=1.0)
    powers = range(1 + max(0, round(np.log2(1 / coarsest))))
    return [k for k in powers if min(rectangle.h, rectangle.w) >> k > 0]
