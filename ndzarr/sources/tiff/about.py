"""What do the metadata of a TIFF say about names, sizes and times?

OME-XML, ImageJ's description and GDAL's tags are read for what a source can hold: names of channels, times of frames,
the value of missing data and the size of a pixel.  Metadata that are damaged are left out, as pixels can be read
without them.  Where on earth the image lies is in `georeference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import unescape

import numpy as np

from ndzarr.sources.base import Pixels

_GDAL_METADATA, _GDAL_NODATA = 42112, 42113
_SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0}


def nodata_of(page: Any, dtype: np.dtype[Any]) -> tuple[float | None, list[str]]:
    """The value that GDAL's tag says marks missing data, and a note if it cannot be one."""
    text = _text(page, _GDAL_NODATA)
    if text is None or dtype.kind not in "iufb":
        return None, []
    try:
        value = float(text.replace(",", "."))
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                return float(dtype.type(value)), []
        lowest, highest = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        if lowest <= int(value) <= highest and value == int(value):
            return value, []
    except (ValueError, OverflowError):
        pass
    return None, [f"nodata value {text!r} is no {dtype} and was left out"]


def gdal_names(page: Any, names: Sequence[str]) -> tuple[str, ...] | None:
    """Descriptions of bands from GDAL's metadata, the given names where there is none, if that makes unique names."""
    root = _xml(_text(page, _GDAL_METADATA))
    if root is None:
        return None
    found = list(names)
    for item in root.iter("Item"):
        # GDAL escapes the text before XML does.
        sample, text = item.get("sample", ""), unescape((item.text or "").strip(), {"&quot;": '"'})
        if item.get("role") == "description" and sample.isdigit() and int(sample) < len(found) and text:
            found[int(sample)] = text
    return tuple(found) if tuple(found) != tuple(names) and len(set(found)) == len(found) else None


class OmeImage:
    """What OME-XML says about one image of the file."""

    def __init__(self, xml: str | None, index: int) -> None:
        root = _xml(xml)
        images = [] if root is None else root.findall("{*}Image")
        image = images[min(index, len(images) - 1)] if images else None
        self._pixels = None if image is None else image.find("{*}Pixels")

    def names(self, count: int) -> tuple[str, ...] | None:
        """Names of `count` channels, if all have one and no two are alike."""
        if self._pixels is None:
            return None
        names = tuple((c.get("Name") or "").strip() for c in self._pixels.findall("{*}Channel"))
        return names if len(names) == count and all(names) and len(set(names)) == count else None

    def pixel_size(self) -> dict[str, Any]:
        """Size and unit along each axis for which both are known."""
        out: dict[str, Any] = {}
        for axis in "xyz":
            size = self._number(f"PhysicalSize{axis.upper()}")
            if size is not None:
                out[axis] = {"size": size, "unit": self._get(f"PhysicalSize{axis.upper()}Unit") or "µm"}
        return out

    def interval(self) -> float | None:
        """Seconds between frames."""
        step = self._number("TimeIncrement")
        unit = _SECONDS.get(self._get("TimeIncrementUnit") or "s")
        return None if step is None or unit is None or step <= 0 else step * unit

    def _get(self, key: str) -> str | None:
        return None if self._pixels is None else self._pixels.get(key)

    def _number(self, key: str) -> float | None:
        try:
            return float(self._get(key) or "")
        except ValueError:
            return None


def imagej_pixel_size(metadata: dict[str, Any], page: Any) -> dict[str, Any]:
    """Size of a pixel from ImageJ's metadata and the resolution tags, which hold pixels per unit."""
    unit = str(metadata.get("unit") or "").replace("\\u00B5", "µ")
    if unit in ("", "pixel", "pixels", "inch"):
        return {}
    sizes = {"x": _reciprocal(page, 282), "y": _reciprocal(page, 283), "z": metadata.get("spacing")}
    return {axis: {"size": float(size), "unit": unit} for axis, size in sizes.items() if size}


def imagej_interval(metadata: dict[str, Any]) -> float | None:
    """Seconds between frames."""
    step = metadata.get("finterval")
    return float(step) if isinstance(step, int | float) and step > 0 else None


def times(interval: float | None, frames: int) -> Pixels | None:
    """Seconds of each frame."""
    return None if interval is None else np.arange(frames) * interval


def _reciprocal(page: Any, code: int) -> float | None:
    tag = page.tags.get(code)
    if tag is None:
        return None
    over, under = tag.value
    return under / over if over else None


def _text(page: Any, code: int) -> str | None:
    tag = page.tags.get(code)
    return None if tag is None else str(tag.value).strip().rstrip("\0").strip()


def _xml(text: str | None) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(text) if text else None
    except ElementTree.ParseError:
        return None
