"""What do the GeoTIFF keys of a file say about its coordinate reference system?

Three tags hold them (OGC 19-008r4, GeoTIFF 1.1): a directory of (key, place, count, value), and the numbers and texts
that it points to.  They are kept as they are, so that what is not understood here still goes out again in a COG.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

DIRECTORY, DOUBLES, TEXTS = 34735, 34736, 34737
"""Tags."""
MODEL, RASTER, CITATION = 1024, 1025, 1026
GEOGRAPHIC, GEOGRAPHIC_CITATION, PROJECTED, PROJECTED_CITATION = 2048, 2049, 3072, 3073
LINEAR_UNIT, LINEAR_SIZE, VERTICAL = 3076, 3077, 4096
"""Keys."""
USER_DEFINED = 32767
IS_POINT = 2
"""Value of RASTER where coordinates are those of pixel centres."""
UNITS = {9001: ("metre", 1.0), 9002: ("foot", 0.3048), 9003: ("US survey foot", 12 / 39.37), 9036: ("kilometre", 1e3)}
"""Linear units by EPSG code, with their size in metres."""

Value: TypeAlias = "int | float | str | tuple[float, ...]"


@dataclass(frozen=True)
class GeoKeys:
    """The three tags."""

    directory: tuple[int, ...]
    doubles: tuple[float, ...] = ()
    texts: str = ""

    @cached_property
    def values(self) -> dict[int, Value]:
        """Key to its value; keys whose value is not there are left out."""
        out: dict[int, Value] = {}
        numbers = self.directory[4:]
        for key, place, count, value in zip(*(numbers[k::4] for k in range(4)), strict=False):
            if place == 0:
                out[key] = value
            elif place == DOUBLES and value + count <= len(self.doubles) and count:
                found = self.doubles[value : value + count]
                out[key] = found[0] if count == 1 else found
            elif place == TEXTS:
                out[key] = self.texts[value : value + count].rstrip("|\0")
        return out

    def integer(self, key: int) -> int | None:
        """A code, None where it is missing, undefined or the user's own."""
        value = self.values.get(key)
        return value if isinstance(value, int) and value not in (0, USER_DEFINED) else None

    def number(self, *keys: int) -> float | None:
        """The first of some keys that holds a number."""
        return next((float(v) for key in keys if isinstance(v := self.values.get(key), int | float)), None)

    def text(self, key: int) -> str:
        """A citation; '' where it is missing."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    @property
    def epsg(self) -> int | None:
        """The EPSG code of the horizontal system, if it has one."""
        model = self.values.get(MODEL)
        if model == 1 or (model != 2 and PROJECTED in self.values):
            return self.integer(PROJECTED)
        return self.integer(GEOGRAPHIC) if model in (2, None) else None

    @property
    def vertical(self) -> int | None:
        """The EPSG code of the heights, if they count: as for GDAL, from GeoTIFF 1.1 on."""
        return None if self.directory[2:3] == (0,) else self.integer(VERTICAL)

    @property
    def metres(self) -> float | None:
        """Metres per unit along x and y; None for degrees, and where it is not said."""
        if self.values.get(MODEL) == 2:
            return None
        code = self.integer(LINEAR_UNIT)
        return UNITS[code][1] if code in UNITS else self.number(LINEAR_SIZE)

    @property
    def point(self) -> bool:
        """True where coordinates are those of pixel centres."""
        return self.values.get(RASTER) == IS_POINT

    def as_json(self) -> dict[str, Any]:
        """The form in which a store records them."""
        return {"directory": list(self.directory), "doubles": list(self.doubles), "ascii": self.texts}

    def tags(self) -> list[tuple[Any, ...]]:
        """The tags as tifffile writes them."""
        out: list[tuple[Any, ...]] = [(DIRECTORY, 3, len(self.directory), self.directory, True)]
        if self.doubles:
            out.append((DOUBLES, 12, len(self.doubles), self.doubles, True))
        if self.texts:
            out.append((TEXTS, 2, 0, self.texts, True))
        return out


def from_json(found: Mapping[str, Any]) -> GeoKeys:
    """What `GeoKeys.as_json` returned."""
    return GeoKeys(tuple(found["directory"]), tuple(found.get("doubles", ())), found.get("ascii", ""))


def from_epsg(code: int, geographic: bool) -> GeoKeys:
    """The keys of a system that has an EPSG code."""
    entries = [(MODEL, 2 if geographic else 1), (RASTER, 1), (GEOGRAPHIC if geographic else PROJECTED, code)]
    return GeoKeys((1, 1, 0, len(entries), *(n for key, value in entries for n in (key, 0, 1, value))))


def from_esri(wkt: str, metres: float | None) -> GeoKeys:
    """
    The keys of a system of one's own, with its definition in Esri's well-known text.

    GDAL writes those so that keys have no numbers for.
    """
    text = f"ESRI PE String = {wkt}|"
    unit = next((code for code, (_, size) in UNITS.items() if size == metres), None)
    entries = [(MODEL, 0, 1, USER_DEFINED), (RASTER, 0, 1, 1), (PROJECTED_CITATION, TEXTS, len(text), 0)]
    entries += [(LINEAR_UNIT, 0, 1, unit)] if unit is not None else []
    return GeoKeys((1, 1, 0, len(entries), *(n for entry in entries for n in entry)), (), text)
