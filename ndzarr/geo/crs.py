"""In which coordinate reference system are coordinates?

A system is known by its code, by well-known text, or by GeoTIFF keys.  Whatever needs to understand it, rather than to
pass it on, asks pyproj, which is the extra `geo`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ndzarr.errors import OptionError
from ndzarr.geo import geokeys
from ndzarr.geo.geokeys import GeoKeys


@dataclass(frozen=True)
class Crs:
    """A coordinate reference system."""

    code: str | None = None
    """Authority and code, such as 'EPSG:32633'; of the horizontal part where keys say more."""
    wkt: str | None = None
    """Well-known text."""
    keys: GeoKeys | None = None
    """GeoTIFF keys as they were read."""

    @property
    def defined(self) -> bool:
        """True if there is anything to know it by."""
        return self.code is not None or self.wkt is not None or self.keys is not None

    @property
    def whole(self) -> str | None:
        """The code, if it says all that is known: it has no heights beside it."""
        return None if self.keys is not None and self.keys.vertical is not None else self.code

    @property
    def epsg(self) -> int | None:
        """Its EPSG code, if it is known by that."""
        name, _, number = (self.code or "").partition(":")
        return int(number) if name == "EPSG" and number.isdigit() else None

    def pyproj(self) -> Any:
        """
        The `pyproj.CRS`; None where what is known defines none that pyproj understands.

        Raises
        ------
        ImportError
            pyproj is not installed.
        """
        return _understood(self)

    def understood(self, what: str) -> Any:
        """
        The `pyproj.CRS`, for something that cannot be done without.

        Raises
        ------
        OptionError
            pyproj is not installed, or does not understand the system.
        """
        found = needs_pyproj(what, self)
        if found is None:
            raise OptionError(f"{what}: the coordinate reference system of the image is not understood ({self.name})")
        return found

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.code or (self.keys.text(geokeys.CITATION) if self.keys else "") or (self.wkt or "none")[:60]

    def text(self) -> str | None:
        """Well-known text, version 2; None where pyproj is missing or does not understand the system."""
        if self.wkt is not None:
            return self.wkt
        try:
            found = self.pyproj()
        except ImportError:
            return None
        return None if found is None else str(found.to_wkt())

    def metres(self) -> float | None:
        """
        Metres per unit of a projected system; None for a geographic one, whose unit is a degree.

        Raises
        ------
        OptionError
            Only pyproj could tell, and it is not installed or does not understand the system.
        """
        if self.keys is not None and (self.keys.values.get(geokeys.MODEL) == 2 or self.keys.metres is not None):
            return self.keys.metres
        found = self.understood("the size of a pixel in metres")
        return None if found.is_geographic else float(found.axis_info[0].unit_conversion_factor)

    def geotiff(self) -> GeoKeys | None:
        """
        GeoTIFF keys: those that were read, else those of its definition; None where nothing is known.

        Raises
        ------
        OptionError
            Only pyproj could make them, and it is not installed or does not understand the system.
        """
        if self.keys is not None or not self.defined:
            return self.keys
        found = self.understood("writing GeoTIFF keys")
        code = self.epsg or found.to_epsg()
        if code is not None:
            return geokeys.from_epsg(code, found.is_geographic)
        metres = None if found.is_geographic else float(found.axis_info[0].unit_conversion_factor)
        return geokeys.from_esri(found.to_wkt("WKT1_ESRI"), metres)


@lru_cache(maxsize=256)
def _understood(crs: Crs) -> Any:
    import pyproj

    from ndzarr.geo.wkt import to_pyproj

    try:
        if crs.wkt is not None or crs.whole is not None:
            return pyproj.CRS.from_user_input(crs.wkt or crs.whole)
    except pyproj.exceptions.CRSError:
        pass  # the keys may say it in another way
    found = None if crs.keys is None else to_pyproj(crs.keys)
    # Heights that pyproj does not know cost the heights.
    return pyproj.CRS.from_user_input(crs.code) if found is None and crs.code != crs.whole else found


def needs_pyproj(what: str, crs: Crs) -> Any:
    """
    What `Crs.pyproj` returns.

    Raises
    ------
    OptionError
        pyproj is not installed.
    """
    try:
        return crs.pyproj()
    except ImportError as error:
        raise OptionError(f"{what} needs pyproj to understand {crs.name}; pip install 'ndzarr[geo]'") from error
