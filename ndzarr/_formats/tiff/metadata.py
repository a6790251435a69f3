"""What do the metadata of a TIFF say about names, sizes and times?

OME-XML, ImageJ's description and GDAL's tags are read for what a source can hold: names of channels, times of frames,
the value of missing data and the size of a pixel.  Metadata that are damaged are left out, as pixels can be read
without them.  Where on earth the image lies is in `georeference`.
"""

from __future__ import annotations

import logging
import re
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import unescape

import numpy as np

from ndzarr._formats.base import Pixels
from ndzarr._formats.orientation import Orientation
from ndzarr._geo.crs import DIRECTORY, DOUBLES, TEXTS, GeoKeys
from ndzarr.errors import SourceError

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


# --- Where does a GeoTIFF lie?


_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION = 33550, 33922, 34264


def georeference(page: Any, orientation: Orientation) -> dict[str, Any]:
    """
    What the tags of a page say; empty where they say nothing.

    `transform` is (a, b, c, d, e, f): x = a * column + b * row + c, y = d * column + e * row + f, for corners of
    upright pixels; `pixel_is_point` is True where the file gave it for centres.  `gcps` are (column, row, level, x, y,
    z).
    `geotiff` holds the keys as stored, `epsg` the code of the horizontal system if they name one.
    """
    keys = _keys(page)
    matrix = _transform(page)
    gcps = _control_points(page) if matrix is None else ()
    if matrix is None and not gcps and keys is None:
        return {}
    out: dict[str, Any] = {"epsg": None if keys is None else keys.epsg}
    if matrix is not None:
        if keys is not None and keys.point:  # coordinates are of centres; move to corners
            matrix = matrix @ np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
        stored = matrix @ _turned(orientation, int(page.imagelength), int(page.imagewidth))
        out["transform"] = stored[:2].ravel().tolist()
    elif gcps and orientation.tag == 1:
        out["gcps"] = [list(gcp) for gcp in gcps]
    if keys is not None:
        out["geotiff"] = keys.as_json()
        if keys.point:
            out["pixel_is_point"] = True
    return out


def _transform(page: Any) -> np.ndarray[Any, Any] | None:
    """3x3, from stored pixels."""
    matrix, scale, ties = (_floats(page, code) for code in (_TRANSFORMATION, _PIXEL_SCALE, _TIEPOINTS))
    if len(matrix) == 16:
        found = [[matrix[0], matrix[1], matrix[3]], [matrix[4], matrix[5], matrix[7]], [0, 0, 1]]
    elif len(scale) >= 2 and len(ties) >= 6:
        a, e = scale[0], -scale[1]
        found = [[a, 0, ties[3] - ties[0] * a], [0, e, ties[4] - ties[1] * e], [0, 0, 1]]
    else:
        return None
    array = np.array(found, float)
    return array if np.isfinite(array).all() and np.linalg.det(array) != 0 else None


def _control_points(page: Any) -> tuple[tuple[float, ...], ...]:
    ties = _floats(page, _TIEPOINTS)
    if len(ties) < 12 or len(ties) % 6 or not np.isfinite(ties).all():
        return ()
    return tuple(ties[i : i + 6] for i in range(0, len(ties), 6))


def _turned(orientation: Orientation, height: int, width: int) -> np.ndarray[Any, Any]:
    """3x3, from upright pixels to stored ones, of an image stored with this height and width."""
    # Where the first pixel, the one right of it and the one below it are stored tells the whole transform.
    tall, wide = orientation.size(height, width)
    corner = np.array([_stored(orientation, y, x, tall, wide) for y, x in ((0, 0), (0, 1), (1, 0))], float)
    first, right, below = corner + 0.5  # centres
    across, down = right - first, below - first
    start = first - 0.5 * (across + down)
    return np.array([[across[1], down[1], start[1]], [across[0], down[0], start[0]], [0, 0, 1]])


def _stored(orientation: Orientation, y: int, x: int, height: int, width: int) -> tuple[int, int]:
    """Stored (row, column) of an upright pixel; also of one beyond the border."""
    rows, columns = orientation.stored(slice(y, y + 1), slice(x, x + 1), height, width)
    return rows.start, columns.start


def _keys(page: Any) -> GeoKeys | None:
    directory, texts = page.tags.get(DIRECTORY), page.tags.get(TEXTS)
    values = () if directory is None else tuple(int(v) for v in np.atleast_1d(directory.value))
    if len(values) < 4 or values[0] != 1:
        return None
    text, numbers = "" if texts is None else texts.value, _floats(page, DOUBLES)
    if not np.isfinite(numbers).all():
        return None
    return GeoKeys(values, numbers, text if isinstance(text, str) else text.decode("latin1"))


def _floats(page: Any, code: int) -> tuple[float, ...]:
    tag = page.tags.get(code)
    return () if tag is None else tuple(float(v) for v in np.atleast_1d(tag.value))


# --- What does tifffile complain about, and who hears it?


_FATAL = re.compile(r"invalid (page )?offset|invalid circular reference|corrupted tag list|failed to read '")
"""Messages after which pages are missing."""
_HEARD = threading.local()
"""Messages of the thread that listens."""


def _keep(record: logging.LogRecord) -> bool:
    """Keep records of threads that listen from handlers; a filter of tifffile's logger."""
    heard: list[str] | None = getattr(_HEARD, "messages", None)
    if heard is None:
        return True
    if record.levelno >= logging.WARNING and "GDAL_NODATA" not in record.getMessage():  # read here, not there
        heard.append(re.sub(r"<tifffile\.\S+ [^>]*> ?", "", record.getMessage()))
    return False


for _name in ("tifffile", "tifffile.tifffile"):  # the second until 2023
    logging.getLogger(_name).addFilter(_keep)


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect what tifffile logs in this thread."""
    before = getattr(_HEARD, "messages", None)
    messages: list[str] = []
    _HEARD.messages = messages
    try:
        yield messages
    finally:
        _HEARD.messages = before


def refuse_missing(path: str, messages: list[str]) -> None:
    """Raise an error if a message means that pages are missing."""
    for message in messages:
        if _FATAL.search(message):
            raise SourceError(f"{path}: this TIFF is truncated or damaged ({message}); fetch or write it again")


# --- Do the directories of a TIFF come to an end, within the file?


def refuse_broken_chain(path: str, tif: Any) -> None:
    """
    Raise an error if directories refer back, or beyond the end of the file.

    Parameters
    ----------
    tif
        An open `tifffile.TiffFile`.
    """
    file, layout = tif.filehandle, tif.tiff
    seen: set[int] = set()
    at = int(tif.pages.first.offset) if tif.pages else 0
    while at:
        if at >= file.size:
            raise SourceError(
                f"{path}: page {len(seen)} of this TIFF would begin at byte {at}, but the file ends at {file.size}; it "
                f"is truncated, fetch or write it again"
            )
        if at in seen:
            raise SourceError(
                f"{path}: after {len(seen)} pages, this TIFF refers back to an earlier one; it is damaged, fetch or "
                f"write it again"
            )
        seen.add(at)
        try:
            file.seek(at)
            (count,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
            file.seek(at + layout.tagnosize + count * layout.tagsize)
            (at,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
        except (struct.error, OSError, ValueError, OverflowError):
            return  # the directory does not end within the file, or nowhere at all, which tifffile notices
