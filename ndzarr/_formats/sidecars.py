"""Files beside an image that say more of it: world files, GDAL's `.aux.xml`, and overviews in `.ovr`.

1. `IMAGE.EXT.aux.xml` (GDAL's PAM) states georeference, nodata and descriptions of bands, and comes before what the
   image itself states, as in GDAL.
2. A world file (`IMAGE.tfw`, `IMAGE.tifw`, `IMAGE.wld`) gives the transform of an image that has none.
3. `IMAGE.EXT.ovr` is a TIFF of overviews, which are levels of a TIFF that is read in place.
4. `IMAGE.EXT.msk` is a TIFF of a mask (`tiff.masks`).

Format rules: https://gdal.org/user/raster_data_model.html, https://en.wikipedia.org/wiki/World_file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ndzarr._files import MASK_SUFFIX, open_binary
from ndzarr._formats.base import Facts
from ndzarr._remote.files import OpenedFile
from ndzarr._store.validity import Nodata, as_nodata

TOGETHER = "NODATA_VALUES"
"""GDAL's metadata of images whose pixels are missing where all bands have their value at once."""
NOT_TOGETHER = f"{TOGETHER} of GDAL's metadata, which hide pixels where all bands have their value, are not used"
_MOST_BYTES = 1 << 24
"""Bytes of the largest sidecar that is read."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What the files beside an image say."""

    names: Mapping[int, str] = field(default_factory=dict)
    """Descriptions of bands, by position from 0."""
    nodata: Mapping[int, str] = field(default_factory=dict)
    """Values of missing data, by position of their band from 0."""
    georeference: Mapping[str, Any] = field(default_factory=dict)
    """`transform`, for corners of stored pixels, `epsg` and `wkt`, as in the metadata of a source."""
    world: bool = False
    """True if the transform is that of a world file, which an image's own comes before."""
    notes: tuple[str, ...] = ()

    def values(self, dtype: np.dtype[Any], bands: int | None, otherwise: str | None = None) -> tuple[Nodata, list[str]]:
        """
        Return the nodata of `bands` channels, and notes about values that a dtype lacks or that cannot be used.

        `bands` is None if channels are not the bands that the file beside the image speaks of: then only a value that
        all of them have can be used.  `otherwise` is what the image itself says of bands that it does not name.
        """
        notes = dict[str, None]()
        if bands is None:
            own = {otherwise} if not self.nodata else {*self.nodata.values()}
            if len(own) > 1:
                return None, ["its bands have different nodata values beside it, which are not used"]
            stated = [*own]
        else:
            stated = [self.nodata.get(i, otherwise) for i in range(bands)]
        return as_nodata([_nodata_value(text, dtype, notes) for text in stated]), [*notes]

    def add_to(self, facts: Facts, upright: bool, expanded: bool) -> Facts:
        """
        Return the facts of an image with names and georeference.

        `upright` is False if its pixels were turned, `expanded` True if its channels are not the bands of the file.
        """
        channels = tuple(self.names.get(i, name) for i, name in enumerate(facts.channels))
        if expanded or len(set(channels)) != len(channels):
            channels = facts.channels
        metadata, notes = dict(facts.metadata), list(self.notes)
        placed = "transform" in metadata or "gcps" in metadata
        if self.georeference and not upright:
            notes.append("the georeference beside the image is not used, because the image was turned")
        elif self.georeference and not (self.world and placed):
            if not self.world:
                metadata = {k: v for k, v in metadata.items() if k not in ("gcps", "pixel_is_point")}
            if "epsg" in self.georeference or "wkt" in self.georeference:
                metadata.pop("geotiff", None)
            metadata = {"epsg": None, **metadata, **self.georeference}
        if notes:
            metadata["notes"] = [*metadata.get("notes", ()), *notes]
        return replace(facts, channels=channels, metadata=metadata)


def _nodata_value(text: str | None, dtype: np.dtype[Any], notes: dict[str, None]) -> float | None:
    """Return a value of a dtype, as a number that is exactly that; a note and None if there is none."""
    if text is None or dtype.kind not in "iufb":
        return None
    try:
        value = float(text.replace(",", "."))
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                return float(dtype.type(value))
        lowest, highest = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        if lowest <= int(value) <= highest and value == int(value):
            return value
    except (ValueError, OverflowError):
        pass
    notes[f"nodata value {text!r} is not a value of {dtype} and was left out"] = None
    return None


def sidecar_names(path: str) -> tuple[str, ...]:
    """Return the paths of the files beside an image that change how it is read, whether they exist or not."""
    return *_world_files(path), f"{path}.aux.xml", f"{path}.ovr", path + MASK_SUFFIX


def sidecar_states(path: str) -> list[list[Any]]:
    """Return (name, bytes, time of modification) of each file beside an image that changes how it is read."""
    found = []
    for name in sidecar_names(path):
        try:
            state = os.stat(name)
        except OSError:
            continue
        found.append([os.path.basename(name), state.st_size, state.st_mtime_ns])
    return found


def read_sidecar(path: str, remote: OpenedFile | None = None, placed: bool = False) -> Sidecar:
    """
    Read the files beside an image; an empty `Sidecar` if there are none.

    They are those beside `remote`, if that is given; no world file is then asked for if the image is `placed`.
    """
    aux = _read_aux(path, _text(f"{path}.aux.xml") if remote is None else _remote_aux(remote))
    if "transform" in aux.georeference or (remote is not None and placed):
        return aux
    names = _world_files(path)
    found = _first_text(names) if remote is None else remote.text(names, _MOST_BYTES)
    if found is None:
        return aux
    name, text = found
    transform = _world_transform(text)
    if transform is None:
        note = f"{os.path.basename(name)} does not hold the six numbers of a world file, and is not used"
        return replace(aux, notes=(*aux.notes, note))
    return replace(aux, georeference={**aux.georeference, "transform": transform}, world=True)


def copy_world_file(remote: OpenedFile, path: Path) -> None:
    """Write the world file beside a remote image, if there is one, beside its copy."""
    found = remote.text(_world_files(remote.file.path), _MOST_BYTES)
    if found is not None:
        path.with_name(os.path.basename(found[0])).write_text(found[1], "utf-8")


def _first_text(names: Sequence[str]) -> tuple[str, str] | None:
    return next(((name, text) for name in names if (text := _text(name)) is not None), None)


AUX_SUFFIX, OVERVIEWS_SUFFIX = ".aux.xml", ".ovr"
BESIDE = (AUX_SUFFIX, OVERVIEWS_SUFFIX, MASK_SUFFIX)
"""What the names of files beside an image add to its name."""


def _remote_aux(remote: OpenedFile) -> str | None:
    found = remote.beside.get(AUX_SUFFIX)
    if found is None or found.file.size > _MOST_BYTES:
        return None
    with found.reader() as reader:
        return reader.readall().decode("utf-8", "replace")


def _world_files(path: str) -> list[str]:
    stem, ext = os.path.splitext(path)
    ext = ext[1:]
    ends = ([f"{ext[0]}{ext[-1]}w", f"{ext}w"] if ext else []) + ["wld"]
    return [f"{stem}.{spelt}" for end in ends for spelt in dict.fromkeys((end, end.lower(), end.upper()))]


def _text(name: str) -> str | None:
    try:
        if os.path.getsize(name) > _MOST_BYTES:
            return None
        with open_binary(name) as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return None


def _world_transform(text: str) -> list[float] | None:
    """Return (a, b, c, d, e, f) for corners of pixels; a world file gives a, d, b, e and the centre of the first."""
    try:
        a, d, b, e, c, f = (float(word.replace(",", ".")) for word in text.split()[:6])
    except ValueError:
        return None
    if not all(map(isfinite, (a, b, c, d, e, f))) or a * e == b * d:
        return None
    return [a, b, c - (a + b) / 2, d, e, f - (d + e) / 2]


def _read_aux(path: str, text: str | None) -> Sidecar:
    if text is None:
        return Sidecar()
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        return Sidecar(notes=(f"{os.path.basename(path)}.aux.xml is not XML ({error}), and is not used",))
    bands = {int(b.get("band", "0")) - 1: b for b in root.findall("PAMRasterBand") if b.get("band", "").isdecimal()}
    descriptions = {i: (band.findtext("Description") or "").strip() for i, band in bands.items()}
    values = {i: (band.findtext("NoDataValue") or "").strip() for i, band in bands.items()}
    of_pixels = any(item.get("key") == TOGETHER for item in root.findall("Metadata/MDI"))
    return Sidecar(
        notes=(NOT_TOGETHER,) if of_pixels else (),
        names={i: name for i, name in descriptions.items() if name},
        nodata={i: value for i, value in values.items() if value},
        georeference=_aux_georeference(root),
    )


_EPSG = re.compile(r'(?:^EPSG:(\d+)|AUTHORITY\["EPSG","(\d+)"\]\]|ID\["EPSG",(\d+)\]\])\s*$')
"""The code at the end of the WKT of a whole system."""


def _aux_georeference(root: ElementTree.Element) -> dict[str, Any]:
    out: dict[str, Any] = {}
    wkt = (root.findtext("SRS") or "").strip()
    if wkt:
        code = _EPSG.search(wkt)
        out |= {"wkt": wkt} if code is None else {"epsg": int(code[code.lastindex or 1])}
    try:
        c, a, b, f, d, e = (float(word) for word in (root.findtext("GeoTransform") or "").split(","))
    except ValueError:
        return out
    if all(map(isfinite, (a, b, c, d, e, f))) and a * e != b * d:
        out["transform"] = [a, b, c, d, e, f]
    return out
