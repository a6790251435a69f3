"""
Labelled arrays: those of xarray and Zarr, whose names, coordinates and attributes say what their pixels are.

1. `image_of` takes the image of a dataset or tree; where there are several, an error lists them.
2. `read_labels` reads axes, channels, times, the place on earth, nodata and packing of an array, by the CF conventions
   (https://cfconventions.org), GDAL's `_CRS`, and the Zarr conventions `spatial` and `proj`.

Values that are packed (`scale_factor`, `add_offset`) are unpacked when they are read, as xarray does it: they become
floats, and missing ones NaN.  Values that are not packed keep their type, and their `_FillValue` is the nodata.
"""

from __future__ import annotations

import base64
import json
import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ndzarr._files import read_bytes
from ndzarr._formats.arrays import (
    Arrangement,
    ArraySource,
    Fetch,
    arrange_named,
    axis_letters,
    check_pixels,
    facts_of,
)
from ndzarr._formats.base import Facts, Pixels, reason
from ndzarr._formats.options import Options
from ndzarr._geo.crs import EPSG_IN_TEXT
from ndzarr._geo.georeference import GRID_MAPPING, SYSTEM, stated_place
from ndzarr._geo.pixel_size import NOT_KNOWN, TIME, PixelSize, Quantity, find_unit
from ndzarr._store.metadata import parse_json
from ndzarr._store.validity import Nodata, as_nodata, as_pixel, same_nodata
from ndzarr._validation import as_number
from ndzarr.errors import NdzarrError, OptionError, SourceError, StoreError, did_you_mean

if TYPE_CHECKING:
    from xarray import DataArray

NODATA = ("_FillValue", "missing_value", "nodata")
PACKED = ("scale_factor", "add_offset", "_Unsigned")
_EVEN = 1e-3
"""Tolerance of evenly spaced coordinates, in pixels."""
LISTED = 24
"""Maximum number of arrays that an error lists."""
_KILOMETRES = ("km", "kilometer", "kilometre", "kilometers", "kilometres")


@dataclass(frozen=True, slots=True)
class Packing:
    """How stored values become those that they stand for, by CF (8.1)."""

    attributes: Mapping[str, Any]
    """Those of `scale_factor`, `add_offset`, `_FillValue` and `_Unsigned` that there are."""
    missing: tuple[float, ...] = ()
    """Further values that mark missing data."""

    @classmethod
    def of(cls, name: str, dtype: np.dtype[Any], attributes: Mapping[Any, Any]) -> Packing | None:
        """Return the packing of an array; None if its values are stored as they are."""
        if dtype.kind not in "iuf":
            return None
        found = {key: attributes[key] for key in PACKED if attributes.get(key) is not None}
        for key in found.keys() & {"scale_factor", "add_offset"}:
            number = _single(found[key])
            found[key] = number if np.ndim(found[key]) else found[key]
            if as_number(number) is None:
                what = f"{name}: {key}={found[key]!r} among its attributes is not a number"
                raise SourceError(what, path=name, key=key, hint=f"Remove the attribute {key}, or write the number")
        missing = missing_values(attributes, dtype)
        scaled = _single(found.get("scale_factor", 1)) != 1 or _single(found.get("add_offset", 0)) != 0
        signs = dtype.kind == "i" and str(found.get("_Unsigned", "")).lower() == "true"
        if not scaled and not signs and len(missing) < 2:
            return None
        fill = {"_FillValue": dtype.type(missing[0])} if missing else {}
        return cls(found | fill, tuple(missing[1:]))

    def unpack(self, block: Pixels) -> Pixels:
        """Return the values that stored ones stand for; missing ones are NaN."""
        from xarray import Variable
        from xarray.conventions import decode_cf_variable

        for value in self.missing:
            block = np.where(block == value, self.attributes["_FillValue"], block)
        packed = Variable([f"dim_{k}" for k in range(block.ndim)], block, dict(self.attributes))
        return np.asarray(decode_cf_variable("image", packed, decode_times=False, decode_timedelta=False).values)

    def dtype(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type of unpacked values."""
        found: np.dtype[Any] = self.unpack(np.zeros(1, stored)).dtype
        return found

    @property
    def nodata(self) -> float | None:
        """NaN if some value marks missing data."""
        return float("nan") if "_FillValue" in self.attributes else None


def missing_values(attributes: Mapping[Any, Any], dtype: np.dtype[Any]) -> list[float]:
    """Return the values that CF's `_FillValue` and `missing_value` mark as missing, each once."""
    out: list[float] = []
    for value in (v for key in NODATA[:2] if attributes.get(key) is not None for v in np.ravel(attributes[key])):
        try:
            number = float(value)
        except (TypeError, ValueError):  # text, which is no pixel
            continue
        possible = dtype.kind == "f" or as_pixel(number, dtype) is not None
        if possible and not any(same_nodata(number, known) for known in out):
            out.append(number)
    return out


def _single(value: Any) -> Any:
    """Return a number that may be an array of one."""
    flat = np.ravel(value)
    return flat[0].item() if flat.size == 1 and flat.dtype.kind in "biufc" else None


class Candidate(NamedTuple):
    """An array, or several that are levels of one image, that could be opened."""

    path: str
    """Within its dataset or group."""
    dims: tuple[str, ...]
    """Names of its axes, as it has them; empty if it has none."""
    shape: tuple[int, ...]
    dtype: str
    levels: int = 1

    def __str__(self) -> str:
        names = self.dims or ["?"] * len(self.shape)
        size = ", ".join(f"{d}: {n}" for d, n in zip(names, self.shape, strict=True))
        return f"{self.path!r} ({size}) {self.dtype}{f', {self.levels} levels' * (self.levels > 1)}"


def choose(name: str, found: Sequence[Candidate], variable: str | None) -> Candidate:
    """Return the candidate that `variable` names, by its path or the last part of it, or the only one there is."""
    if variable is None:
        matches: Sequence[Candidate] = found
    else:
        wanted = variable.strip("/")
        ends = [c for c in found if c.path.rpartition("/")[2] == wanted]
        matches = [c for c in found if c.path == wanted] or ends
    if len(matches) == 1:
        return matches[0]
    if not found:
        what = f"{name}: it holds no array with two axes or more that could be an image"
        raise SourceError(what, path=name, hint="Pass the path of a group that has images in it")
    matches = sorted(matches, key=lambda c: (-c.levels, -prod(c.shape)))  # likely ones first
    listed = "; ".join(map(str, (matches or found)[:LISTED]))
    listed += f"; and {len(matches or found) - LISTED} more" if len(matches or found) > LISTED else ""
    if variable is not None and not matches:
        close = did_you_mean(variable, [c.path for c in found])
        raise OptionError(
            f"{name}: variable={variable!r} is not in it{close}. It holds {listed}", path=name, key="variable"
        )
    what = f"{name}: {len(matches)} arrays could be the image: {listed}"
    raise SourceError(what, path=name, key="variable", hint=f"Choose one, such as variable={matches[0].path!r}")


def holds_numbers(dtype: np.dtype[Any], attributes: Mapping[Any, Any]) -> bool:
    """Return True for an array whose values may be pixels: neither text, nor dates or durations that CF encodes."""
    units, decoded = str(attributes.get("units", "")), str(attributes.get("dtype", ""))
    return dtype.kind in "biufc" and " since " not in units and not decoded.startswith(("datetime64", "timedelta64"))


def is_image(names: Sequence[object], attributes: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return True if the names of an array's axes, or the attributes of their coordinates, say which is y and x."""
    return {"y", "x"} <= {*axis_letters(names, attributes)}


def is_place(name: object, attributes: Mapping[str, Any]) -> bool:
    """Return True for a coordinate along y or x, such as a latitude."""
    return axis_letters([name], {str(name): attributes})[0] in ("y", "x")


def image_of(data: Any, variable: str | None, name: str) -> DataArray:
    """Return the image of a DataArray, Dataset or DataTree of xarray; see `choose`."""
    kind = type(data).__name__
    if kind == "DataArray":
        if variable not in (None, data.name):
            what = f"{name}: variable={variable!r} chooses from a dataset, and this is a single array"
            raise OptionError(what, path=name, key="variable", hint="Leave it out")
        return data  # type: ignore[no-any-return]
    if kind == "Dataset":
        datasets = {"": data}
    elif kind == "DataTree":
        datasets = {node.path.strip("/"): node.to_dataset() for node in data.subtree}
    else:
        raise SourceError(f"an xarray {kind} is not a source of pixels", hint="Pass a DataArray, Dataset or DataTree")
    found: dict[Candidate, DataArray] = {}
    for path, dataset in datasets.items():
        for key, array in dataset.data_vars.items():
            where = f"{path}/{key}".lstrip("/")
            found[Candidate(where, tuple(map(str, array.dims)), array.shape, str(array.dtype))] = array
    numeric = [c for c, array in found.items() if holds_numbers(array.dtype, array.attrs) and array.ndim > 1]
    images = [c for c in numeric if is_image(c.dims, _attributes(found[c]))]
    chosen = choose(name, images or numeric, variable)
    array = found[chosen]
    inner = chosen.path.rpartition("/")[0]
    around = [d for path, d in datasets.items() if path in ("", inner) or inner.startswith(f"{path}/")]  # from the root
    mapping = grid_mapping(array)
    for dataset in reversed(around):
        if mapping in dataset.data_vars and mapping not in array.coords:
            array = array.assign_coords({mapping: dataset[mapping]})
    return array.assign_attrs({**array.attrs, **place_attributes([*(d.attrs for d in around), array.attrs])})


def grid_mapping(array: Labelled) -> str:
    """Return the name of the variable that describes the reference system of an array; the usual one by default."""
    stated = array.encoding.get("grid_mapping", array.attrs.get("grid_mapping", GRID_MAPPING))
    return str(stated).split(":")[0].strip()


def place_attributes(nodes: Sequence[Mapping[Any, Any]]) -> dict[str, Any]:
    """
    Return what attributes of groups and an array in them, from the root inwards, say of where its pixels are.

    Whoever states a reference system, by any of several attributes, replaces what was stated further out.
    """
    out: dict[str, Any] = {}
    for attributes in nodes:
        found = {str(k): v for k, v in attributes.items() if str(k).startswith(("proj:", "spatial:")) or k in SYSTEM}
        stac = attributes.get("stac_discovery")  # of EOPF products
        said = stac.get("properties") if isinstance(stac, Mapping) else None
        if isinstance(said, Mapping):
            found |= {k: v for k, v in said.items() if k in SYSTEM and v is not None}
        if found.keys() & set(SYSTEM):
            out = {k: v for k, v in out.items() if k not in SYSTEM}
        out |= found
    return out


def _attributes(array: Labelled) -> dict[str, Mapping[str, Any]]:
    coords: Mapping[Any, Any] = array.coords
    return {str(d): coords[d].attrs for d in array.dims if d in coords}


Labelled: TypeAlias = "DataArray | Described"


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known of a labelled array."""

    arrangement: Arrangement
    facts: Facts
    packing: Packing | None


def read_labels(
    name: str,
    array: DataArray | Described,
    options: Options,
    form: str = "xarray",
    blocks: tuple[int, ...] | None = None,
    noted: Sequence[str] = (),
) -> Labels:
    """
    Return what an array's names, coordinates and attributes say; no pixels are looked at.

    `blocks` are the lengths, along each axis of the array, of what is decoded together; None if pixels are in memory.
    """
    arrangement = arrange_named(name, array.dims, array.shape, options, _attributes(array))
    packing = Packing.of(name, array.dtype, array.attrs)
    notes = list(noted)
    times, origin = _times(array, arrangement, notes)
    dims = dict(zip(arrangement.axes, array.dims, strict=True))
    place = _georeference(array, dims["y"], dims["x"], notes)
    nodata: Nodata
    if packing is not None:
        nodata = packing.nodata
        if packing.attributes.keys() & {"scale_factor", "add_offset"}:
            scale, offset = (_single(packing.attributes.get(k, n)) for k, n in (("scale_factor", 1), ("add_offset", 0)))
            notes.append(f"values are unpacked: {scale} times the stored ones, plus {offset}")
    else:
        nodata = _nodata(array.attrs) if "nodata" not in array.coords else _nodata_along_c(array, arrangement)
        if nodata is None and array.dtype.kind == "f" and set(NODATA[:2]) & array.encoding.keys():
            nodata = float("nan")  # xarray put NaN where the file has that value
    facts = facts_of(
        name,
        array if isinstance(array, Described) or blocks is not None else array.data,
        arrangement,
        options,
        dtype=None if packing is None else packing.dtype(array.dtype),
        blocks=blocks,
        nodata=nodata,
        channels=_channels(array, arrangement, notes),
        times=times,
        pixel_size=_pixel_size(array, arrangement),
        classes=bool({"flag_values", "flag_masks"} & array.attrs.keys()),
        metadata={"format": form, **origin, **place, **({"notes": notes} if notes else {})},
    )
    return Labels(arrangement, facts, packing)


def open_xarray(data: Any, options: Options) -> ArraySource:
    """Open a DataArray, or an array of a Dataset or DataTree; what xarray loads lazily stays lazy."""
    label = getattr(data, "name", None)
    name = f"<xarray {type(data).__name__}{f' {label}' if label is not None else ''}>"
    array = image_of(data, options.variable, name)
    in_memory = isinstance(getattr(array.variable, "_data", None), np.ndarray)  # `.data` would load the file
    labels = read_labels(name, array, options, blocks=None if in_memory else _blocks(array))
    fetch: Fetch = array.data.__getitem__ if in_memory else lambda index: array[index].to_numpy()
    return _source(labels, fetch)


def _source(labels: Labels, fetch: Fetch) -> ArraySource:
    packing = labels.packing
    unpacked = fetch if packing is None else lambda index: packing.unpack(np.asarray(fetch(index)))
    return ArraySource(labels.facts, labels.arrangement, unpacked)


def _pixel_size(array: Labelled, arrangement: Arrangement) -> PixelSize:
    """Return what the attribute says that `Pyramid.to_xarray` sets, times the steps of the coordinates."""
    try:
        found = PixelSize.from_json(json.loads(array.attrs.get("pixel_size", "{}")))
    except (TypeError, ValueError, AttributeError):  # an attribute of somebody else
        return NOT_KNOWN
    steps = {axis: _spacing(_coordinate(array, arrangement, axis)) for axis in "zyx"}
    return found.stepped({axis: abs(step[0]) for axis, step in steps.items() if step is not None})


def _nodata(attributes: Mapping[Any, Any]) -> float | None:
    """Return the value that attributes say marks missing data, if it is a real number."""
    for key in NODATA:
        try:
            return float(attributes[key])
        except (KeyError, TypeError, ValueError):
            continue
    return None


def _nodata_along_c(array: Labelled, arrangement: Arrangement) -> Nodata:
    """Return the nodata of channels that the coordinate says which `Pyramid.to_xarray` sets; None without one."""
    found = array.coords.get("nodata")
    if "c" not in arrangement.axes or found is None or found.dtype.kind != "f":
        return None
    along = (array.dims[arrangement.axes.index("c")],)
    return as_nodata([None if v != v else v for v in found.to_numpy().tolist()]) if found.dims == along else None


def _blocks(array: DataArray) -> tuple[int, ...]:
    if array.chunks is not None:
        return tuple(chunks[0] for chunks in array.chunks)
    # xarray may know the blocks of a file; if not, a row may cost as much as all of them.
    return tuple(array.encoding.get("preferred_chunks", {}).get(d, n) for d, n in array.sizes.items())


def _coordinate(array: Labelled, arrangement: Arrangement, axis: str) -> Any:
    if axis not in arrangement.axes:
        return None
    coords: Mapping[Any, Any] = array.coords
    return coords.get(array.dims[arrangement.axes.index(axis)])


def _channels(array: Labelled, arrangement: Arrangement, notes: list[str]) -> tuple[str, ...] | None:
    """Return the names along c: text, or numbers that do more than count; None if there are none."""
    found = _coordinate(array, arrangement, "c")
    if found is None or found.dtype.kind not in "UOTiuf":
        return None
    values = found.to_numpy()
    if found.dtype.kind in "iuf" and any(np.array_equal(values, np.arange(k, k + len(values))) for k in (0, 1)):
        return None
    names = tuple(f"{n:g}" if found.dtype.kind in "iuf" else str(n) for n in values)
    if len(set(names)) == len(names) and all(names):
        return names
    notes.append("the names along c are not used: some are empty or equal")
    return None


def _times(array: Labelled, arrangement: Arrangement, notes: list[str]) -> tuple[Pixels | None, dict[str, Any]]:
    """Return seconds along t, and as metadata the date from which they count, if there is one."""
    found = _coordinate(array, arrangement, "t")
    if found is None:
        return None, {}
    values = found.to_numpy()
    if values.dtype.kind == "O" and len(values) and hasattr(values[0], "calendar"):  # of a calendar that numpy lacks
        seconds = [(v - values[0]).total_seconds() for v in values]
        return np.array(seconds), {"time_origin": values[0].isoformat(), "calendar": values[0].calendar}
    if values.dtype.kind == "M" and not np.isnat(values).any():
        return (values - values[0]) / np.timedelta64(1, "s"), {"time_origin": str(values[0])}
    if values.dtype.kind == "m" and not np.isnat(values).any():
        return values / np.timedelta64(1, "s"), {}
    if values.dtype.kind in "mM":
        notes.append("some times along t are missing: frames have no times")
    if values.dtype.kind in "UOST":
        notes.append("the coordinate along t is text, or dates as text: frames have no times")
    if values.dtype.kind not in "iuf":
        return None, {}
    stated = str(found.attrs.get("units", ""))
    if not stated:  # integers without a unit are frame numbers
        return (values.astype(np.float64), {}) if values.dtype.kind == "f" else (None, {})
    unit = find_unit(stated)
    if unit is None or Quantity(1.0, unit[0]).kind != TIME:
        notes.append(f"the unit along t is {stated!r}, which is not one of time that is known: frames have no times")
        return None, {}
    return values * (unit[1] * Quantity(1.0, unit[0]).base), {}


def _georeference(array: Labelled, y: Any, x: Any, notes: list[str]) -> dict[str, Any]:
    """Return `transform`, and `wkt` or `epsg`, as metadata; empty where nothing says that coordinates are on earth."""
    name = grid_mapping(array)
    mapping = array.coords.get(name)
    if mapping is None and name != GRID_MAPPING:
        notes.append(f"its grid mapping {name!r} is missing")
    stated = stated_place(array.attrs)
    system: dict[str, Any] = {k: stated[k] for k in ("epsg", "wkt") if k in stated}
    if mapping is not None:
        system = _cf_system(mapping.attrs, notes) or system
    height = None if mapping is None else as_number(_single(mapping.attrs.get("perspective_point_height")))
    across, down = (_Placed.of(array, dim, height) for dim in (x, y))
    geographic = across.degrees and down.degrees
    if not system and mapping is None and geographic and across.spacing and down.spacing:
        system = {"epsg": 4326}
        notes.append("latitudes and longitudes without a reference system are taken for those of EPSG:4326")
    given = _geotransform(None if mapping is None else mapping.attrs.get("GeoTransform")) or stated.get("transform")
    rotated = given is not None and (given[1] != 0 or given[3] != 0)
    trusted = mapping is not None or (given is None and (bool(system) or (across.on_earth and down.on_earth)))
    if (
        across.spacing and down.spacing and trusted and not rotated
    ):  # they win over a stated transform, which may be stale
        given = [across.spacing[0], 0.0, across.spacing[1], 0.0, down.spacing[0], down.spacing[1]]
    if given is None:
        notes += [
            f"pixels have 2-D coordinates, {name!r}, so that no transform maps pixels to them"
            for name, other in array.coords.items()
            if {y, x} == set(other.dims) and is_place(name, other.attrs)
        ]
        notes.extend(
            f"the coordinates along {dim} are not evenly spaced, so that no transform maps pixels to them"
            for dim, placed in ((y, down), (x, across))
            if placed.uneven
        )
        return {}
    if geographic and across.last is not None and across.last > 180 + abs(given[0]):
        notes.append(f"longitudes are counted up to {across.last:g}: those west of Greenwich are 360 more than usual")
    return {"transform": given, **system}


def _cf_system(attributes: Mapping[Any, Any], notes: list[str]) -> dict[str, Any]:
    """Return the reference system that a CF grid mapping defines, as metadata."""
    text = str(attributes.get("crs_wkt") or attributes.get("spatial_ref") or "")
    code = re.fullmatch(r"EPSG:(\d+)", text, re.IGNORECASE)
    if code:
        return {"epsg": int(code.group(1))}
    if not text and "grid_mapping_name" in attributes:
        try:
            from pyproj import CRS
            from pyproj.exceptions import CRSError
        except ImportError:
            notes.append("its reference system is given by CF parameters, which takes pyproj to understand")
            return {}
        try:
            text = str(CRS.from_cf({str(k): v for k, v in attributes.items()}).to_wkt())
        except (CRSError, KeyError, ValueError, TypeError) as error:
            notes.append(f"its grid mapping is not understood ({reason(error)})")
    code = EPSG_IN_TEXT.search(text)
    return {**({"epsg": int(code.group(1))} if code else {}), **({"wkt": text} if text else {})}


def _geotransform(stated: object) -> list[float] | None:
    """Return the affine transform of a `GeoTransform` in GDAL's order, as text."""
    try:
        c, a, b, f, d, e = (float(v) for v in str(stated).split())
    except ValueError:
        return None
    return [a, b, c, d, e, f]


class _Placed(NamedTuple):
    """What a coordinate along y or x says."""

    spacing: tuple[float, float] | None
    """(step, border of the first pixel) of evenly spaced centres."""
    uneven: bool
    degrees: bool
    """True for latitudes and longitudes."""
    on_earth: bool
    last: float | None
    """The largest value of evenly spaced coordinates."""

    @classmethod
    def of(cls, array: Labelled, dim: Any, height: float | None = None) -> _Placed:
        """
        Return what the coordinate of an axis says; nothing if it has none.

        `height` is that of a geostationary satellite in metres, whose projection has it times angles in radians.
        """
        # One along the axis may have another name than it.
        along = [dim, *(n for n, c in array.coords.items() if c.dims == (dim,) and is_place(n, c.attrs))]
        label = next((n for n in along if n in array.coords), None)
        if label is None:
            return cls(None, False, False, False, None)
        found = array.coords[label]
        units = str(found.attrs.get("units", ""))
        standard = str(found.attrs.get("standard_name", ""))
        name = str(label).lower()
        degrees = standard in ("latitude", "longitude") or (
            not standard and (name in ("lat", "latitude", "lon", "long", "longitude") or _is_degrees(units))
        )
        earth = degrees or name in ("northing", "easting") or standard.startswith(("projection_", "grid_"))
        factor = 1000.0 if units.lower() in _KILOMETRES and earth else 1.0
        if height is not None and units.lower() in ("rad", "radian", "radians"):
            factor = height
        spacing = _spacing(found)
        uneven = spacing is None and found.ndim == 1 and found.size > 1 and found.dtype.kind in "fiu"
        if spacing is None:
            return cls(None, uneven, degrees, earth, None)
        return cls((spacing[0] * factor, spacing[1] * factor), False, degrees, earth, float(found.to_numpy().max()))


def _is_degrees(units: str) -> bool:
    return units.lower().startswith(("degrees_", "degree_", "degreen", "degreee", "degreesn", "degreese"))


def _spacing(coordinate: Any) -> tuple[float, float] | None:
    """Return (step, border of the first pixel) of evenly spaced centres."""
    if coordinate is None or coordinate.ndim != 1 or coordinate.size < 2 or coordinate.dtype.kind not in "fiu":
        return None
    values = coordinate.to_numpy().astype(float)
    step = (values[-1] - values[0]) / (len(values) - 1)
    # Coordinates in float32 are as even as they can be.
    rounding = (
        float(np.finfo(coordinate.dtype).eps) * float(np.abs(values).max()) if coordinate.dtype.kind == "f" else 0.0
    )
    ideal = values[0] + step * np.arange(len(values))
    if not np.isfinite(values).all() or step == 0:
        return None
    if np.abs(values - ideal).max() > max(_EVEN * abs(step), 2 * rounding):
        return None
    return float(step), float(values[0] - step / 2)


def decoded_fill(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return a `_FillValue` of Zarr v3, of which xarray writes floats as bytes in base64."""
    if isinstance(value, str) and dtype.kind == "f":
        try:
            return float(value) if len(value) < 10 else struct.unpack("<d", base64.standard_b64decode(value))[0]
        except (ValueError, struct.error):
            return None
    return value


def array_attributes(node: Any) -> dict[str, Any]:
    """
    Return the attributes of a `zarr.Array`, with its value of missing data as `_FillValue`.

    In arrays that xarray and GDAL write, the `fill_value` of Zarr v2 is that value, and so it is in GDAL's of v3.
    """
    attributes = {str(k): v for k, v in node.attrs.items()}
    old = node.metadata.zarr_format == 2
    fills = bool({"_CRS", "spatial:transform"} & attributes.keys()) or (old and "_ARRAY_DIMENSIONS" in attributes)
    if "_FillValue" in attributes:
        attributes["_FillValue"] = decoded_fill(attributes["_FillValue"], node.dtype)
    elif fills and node.fill_value is not None and (old or node.fill_value != 0):  # v3 needs one, and 0 is the usual
        attributes["_FillValue"] = np.asarray(node.fill_value).item()
    return attributes


def dimension_names(node: Any) -> tuple[str, ...]:
    """Return the names of the axes of a `zarr.Array`; empty if not all of them have one."""
    names = getattr(node.metadata, "dimension_names", None) or node.attrs.get("_ARRAY_DIMENSIONS") or ()
    fits = len(names) == node.ndim and None not in names
    return tuple(map(str, names)) if fits else ()


@dataclass(frozen=True, slots=True)
class Described:
    """What `read_labels` asks of an array, without its pixels."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attrs: Mapping[str, Any]
    coords: Mapping[str, Any]
    """Variables of xarray by name."""
    encoding: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, node: Any, attributes: Mapping[str, Any], coords: Mapping[str, Any]) -> Described:
        """Describe a `zarr.Array`."""
        names = dimension_names(node) or tuple(f"dim_{k}" for k in range(node.ndim))
        return cls(names, tuple(node.shape), np.dtype(node.dtype), attributes, coords)


def open_zarr(array: Any, options: Options, name: str | None = None) -> ArraySource:
    """Open a `zarr.Array` of format 2 or 3, which may have any codec that zarr-python knows."""
    name = name or f"<Zarr array {array.store_path}>"
    if not hasattr(array, "chunks"):
        raise SourceError(f"{name}: it is a Zarr {type(array).__name__.lower()}", hint="Pass one of its arrays")
    form = f"Zarr v{array.metadata.zarr_format}"
    labels = read_labels(name, Described.of(array, array_attributes(array), {}), options, form, tuple(array.chunks))
    check_pixels(name, array.shape, labels.arrangement, options)
    return _source(labels, array.__getitem__)


def open_zarr_directory(path: str, options: Options) -> ArraySource:
    """Open the Zarr array in a directory."""
    kind = _node_type(Path(path))
    if kind is None:
        what = "it is a directory without a Zarr array in it (no zarr.json, no .zarray)"
        raise SourceError(f"{path}: {what}", path=path, hint="Pass an image file or the directory of a Zarr array")
    if kind == "group":
        found = _arrays(Path(path))
        which = f"one of its arrays, such as {', '.join(found)}" if found else "a Zarr array: this group has none"
        raise SourceError(f"{path}: it is a Zarr group", path=path, hint=f"Pass the path of {which}")
    from ndzarr._store.zarr_python import bounded, open_node

    try:
        array = bounded(open_node(path))
    except NdzarrError as error:
        raise SourceError.like(error) from error
    except Exception as error:  # whatever zarr makes of damaged metadata
        raise SourceError(
            f"{path}: zarr-python cannot open this array ({reason(error)})", path=path, hint="Write it again"
        ) from error
    return open_zarr(array, options, path)


def _node_type(folder: Path) -> str | None:
    """Return 'array', 'group' or None."""
    if (folder / ".zarray").is_file():
        return "array"
    try:
        node = parse_json(read_bytes(folder / "zarr.json"), str(folder)).get("node_type")
    except FileNotFoundError:
        return "group" if (folder / ".zgroup").is_file() else None
    except (StoreError, AttributeError) as error:
        raise SourceError(
            f"{folder}: its zarr.json is not a JSON object ({reason(error)})", path=str(folder), hint="Write it again"
        ) from error
    return "array" if node == "array" else "group"


def _arrays(group: Path) -> list[str]:
    """Return paths of the first few arrays, within the group."""
    found: list[str] = []
    for folder, inner, _ in os.walk(group):
        here = Path(folder)
        if _node_type(here) == "array":
            inner.clear()  # do not walk through chunks
            found.append(here.relative_to(group).as_posix())
        inner.sort()
        if len(found) == LISTED:
            break
    return found
