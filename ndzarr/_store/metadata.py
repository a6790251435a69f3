"""
The metadata of a store.

The attributes of the root group serve three readers: `ome` (OME-Zarr 0.5, https://ngff.openmicroscopy.org/0.5/),
`multiscales` (https://github.com/zarr-conventions/multiscales) and `ndzarr` (where the pixels came from and how they
were encoded). `spatial` and `proj` georeference the pixels (`_geo.georeference`). Levels are groups `0`, `1`, ... that
each hold `image` and 1-D coordinates, as `xarray.open_datatree` wants them, and `mask` if the source has one. The
root's consolidated metadata hold all array metadata, so that opening a store reads one file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import google_crc32c
import numcodecs.zstd
import numpy as np

from ndzarr._files import open_binary
from ndzarr._geo.bounds import georeferenced_size
from ndzarr._geo.georeference import (
    GRID_MAPPING,
    Georeference,
    add_conventions,
    cf_grid_mapping,
    earth_centres,
    from_attributes,
    grid_mapping_attributes,
    level_conventions,
)
from ndzarr._geo.pixel_size import LENGTH, NOT_KNOWN, TIME, PixelSize, Quantity, Statements
from ndzarr._store.arrays import COMPLETE, SEAL
from ndzarr._store.codecs import LITTLE_ENDIAN
from ndzarr._store.presets import Encoding, Layout, choose_layout
from ndzarr._store.sharding import INDEX_CODECS, Seal
from ndzarr._store.validity import Nodata, as_pixel
from ndzarr._validation import as_number, shortened
from ndzarr.errors import NdzarrError, StoreError

SCHEMA = 2
"""
Version of the `ndzarr` attribute and of what pixels of levels mean; caches keep stores of this one, and stores of a
later one are refused.  Levels are weighted by alpha since 2, and `nodata` may be a list with one entry per channel.
"""

MASK = "mask"
"""Name of the mask beside `image`, bool, True where pixels are real; the root's attribute `ndzarr.mask` holds it."""

_MULTISCALES = {
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/multiscales/refs/tags/v0.1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/multiscales/blob/v0.1/README.md",
    "uuid": "d35379db-88df-4056-af3a-620245f8e347",
    "name": "multiscales",
    "description": "Multiscale layout of zarr datasets",
}
_READ_ATTRIBUTES = ("ome", "multiscales", "ndzarr", "zarr_conventions")
_TRANSFORMS = "coordinateTransformations"
_AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_PALETTE = ("FF0000", "00FF00", "0000FF", "00FFFF", "FF00FF", "FFFF00", "FFFFFF")
_COLORS = {"r": "FF0000", "red": "FF0000", "g": "00FF00", "green": "00FF00", "b": "0000FF", "blue": "0000FF"}


def parse_json(raw: bytes, path: str, file: str = "zarr.json") -> Any:
    """Parse a file of a store at a path; raise `StoreError` for what is not JSON, or nested beyond Python's limit."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        message = f"{path}: {file} is not valid JSON ({error}), so the store is damaged"
        raise StoreError(message, path=path, hint="Transcode the source again") from error


@contextmanager
def interpreting(name: str) -> Iterator[None]:
    """Report metadata of an unexpected structure as a `StoreError`; nothing but JSON is interpreted within."""
    try:
        yield
    except NdzarrError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError) as error:
        message = f"{name}: its metadata are not those of a Zarr image ({type(error).__name__}: {error})"
        raise StoreError(message, path=name, hint="Fetch or write the store again") from error


def check_attributes(name: str, attrs: Any) -> None:
    """
    Check the attributes of a root group that are read later, wherever they are.

    Raises
    ------
    StoreError
        One of them has another type than ndzarr, or a writer of OME-Zarr, gives it.
    """
    own = attrs.get("ndzarr", {}) if isinstance(attrs, Mapping) else None
    if not isinstance(own, Mapping) or not isinstance(attrs.get("ome", {}), Mapping):
        raise _wrong(name, "attributes", attrs)
    for key, fits in _OWN.items():
        value = own.get(key)
        if not fits(value) and (value is not None or key in own.keys() & {"encoding", "source"}):  # others may be null
            raise _wrong(name, key, own[key])
    notes = (own.get("source") or {}).get("notes")
    if notes is not None and not _is_text(notes):
        raise _wrong(name, "notes", notes)


def _wrong(name: str, key: str, value: Any) -> StoreError:
    message = f"{name}: {key}={shortened(value)} in its attributes is not understood"
    return StoreError(message, path=name, key=key, hint="Fetch or write the store again")


def _is_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _is_number(value: Any) -> bool:
    return as_number(value) is not None and not isinstance(value, bool)


def _is_nodata(value: Any) -> bool:
    return value is None or _is_number(value) or value in ("NaN", "Infinity", "-Infinity")


_OWN: dict[str, Callable[[Any], bool]] = {
    "schema": lambda value: type(value) is int,
    "dims": _is_text,
    "channels": _is_text,
    "nodata": lambda value: all(_is_nodata(v) for v in (value if isinstance(value, list) else [value])),
    "times": lambda value: isinstance(value, list) and all(map(_is_number, value)),
    "mask": lambda value: isinstance(value, str),
    "indexes": lambda value: isinstance(value, Mapping) and all(type(n) is int and n >= 0 for n in value.values()),
    **dict.fromkeys(("encoding", "source", "grid_mapping", "pixel_size"), lambda value: isinstance(value, Mapping)),
}
"""Whether a value of the `ndzarr` attribute is one that `root_attributes` writes."""


def path_within(name: str, path: Any) -> str:
    """Return the path of a level, which lies in its store; raise `StoreError` for any other."""
    if not isinstance(path, str) or os.path.isabs(path) or ".." in path.split("/") or "\0" in path:
        message = f"{name}: path={shortened(path)} in its metadata is not that of an array in this store"
        raise StoreError(message, path=name, key="path", hint="Fetch or write the store again")
    return path


class DisplayWindow(NamedTuple):
    """The values of a channel that viewers offer (`min`, `max`) and show at first (`start` black, `end` white)."""

    min: float
    max: float
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Description:
    """Everything that a store says besides its pixels."""

    dims: tuple[str, ...]
    channels: tuple[str, ...]
    dtype: np.dtype[Any]
    encoding: Encoding
    nodata: Nodata = None
    masked: bool = False
    """True if levels have a mask beside the image."""
    times: tuple[float, ...] | None = None
    """Seconds along t."""
    pixel_size: PixelSize = NOT_KNOWN
    """What the source says of the physical size of a pixel."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """Identity of the source (path, size, mtime_ns) and what its format said."""


@dataclass(frozen=True, slots=True)
class LevelShape:
    """The shape of a level and its layout on disk."""

    shape: tuple[int, ...]
    layout: Layout
    factors: tuple[int, ...]
    """Native pixels per pixel of this level, along each axis."""
    fill: Any = np.False_
    """Pixel of chunks that are not stored, of the level's dtype."""


def mask_levels(dims: Sequence[str], levels: Sequence[LevelShape], encoding: Encoding) -> list[LevelShape]:
    """Return the levels of a mask: those of the image without axis c, with chunks of the same lengths."""
    out = []
    for level in levels:
        kept = [k for k, d in enumerate(dims) if d != "c"]
        shape, factors = (tuple(values[k] for k in kept) for values in (level.shape, level.factors))
        chunks = tuple((dims[k], level.layout.chunks[k]) for k in kept)
        own = replace(encoding, preset="fast", kind="labels", chunks=chunks)
        layout = choose_layout([dims[k] for k in kept], shape, np.dtype(bool), own)
        out.append(LevelShape(shape, layout, factors))
    return out


def root_attributes(
    about: Description, levels: Sequence[LevelShape], windows: Sequence[DisplayWindow], complete: bool = False
) -> dict[str, Any]:
    """
    Return the attributes of the root group, with the display range of each channel (`windows`).

    If `complete`, they include all that pyproj, if it is installed, knows of the coordinate reference system.
    """
    method, method_name = ("mode", "mode") if about.encoding.kind == "labels" else ("mean", "average")
    size = _with_georeference(about.pixel_size, from_attributes({"ndzarr": {"source": about.source}}), complete)
    out: dict[str, Any] = {
        "ome": {
            "version": about.encoding.ome_version,
            "multiscales": [_ome(about, levels, method, size)],
            **_shown(about, windows),
        },
        "zarr_conventions": [_MULTISCALES],
        "multiscales": {"layout": _multiscales(levels, method_name), "resampling_method": method_name},
        "ndzarr": {
            "schema": SCHEMA,
            "dims": list(about.dims),
            "channels": list(about.channels),
            "nodata": _json_nodata(about.nodata),
            **({"mask": MASK} if about.masked else {}),
            "times": None if about.times is None else list(about.times),
            **({"pixel_size": about.pixel_size.as_json()} if about.pixel_size.known else {}),
            "encoding": about.encoding.as_json(),
            "source": dict(about.source),
        },
    }
    if isinstance(about.nodata, tuple):
        out["bands"] = _bands(about.channels, about.nodata)
    if (place := from_attributes(out)) is not None:
        sizes = [(level.shape[-2], level.shape[-1]) for level in levels]
        add_conventions(out, place, sizes, [(level.factors[-2], level.factors[-1]) for level in levels], complete)
        if complete and (mapping := cf_grid_mapping(place.crs)) is not None:
            out["ndzarr"]["grid_mapping"] = mapping
    return out


def _shown(about: Description, windows: Sequence[DisplayWindow]) -> dict[str, Any]:
    classes = about.encoding.kind == "labels" and about.dtype.kind in "iu"
    return {"image-label": _image_label(about)} if classes else {"omero": _omero(about, windows)}


def _named_size(size: PixelSize, axis: str) -> Quantity | None:
    """Return the size along an axis, if OME-Zarr has a unit for it."""
    found: Quantity | None = getattr(size, axis) if axis in ("t", "z", "y", "x") else None
    return None if found is None or found.kind not in (LENGTH, TIME) else found


def _ome(about: Description, levels: Sequence[LevelShape], method: str, size: PixelSize) -> dict[str, Any]:
    axes, pixel, first = [], [], []
    clock = regular_times(about.times)
    origin = about.source.get(ORIGIN) or {}
    for d in about.dims:
        length = Quantity(clock[1], "second") if d == "t" and clock is not None else _named_size(size, d)
        axes.append({"name": d, "type": _AXIS_TYPES[d], **({} if length is None else {"unit": length.unit})})
        pixel.append(1.0 if length is None else length.value)
        first.append(clock[0] if d == "t" and clock is not None else origin.get(d, 0.0) * pixel[-1])
    datasets = []
    for k, level in enumerate(levels):
        scale = [p * f for p, f in zip(pixel, level.factors, strict=True)]
        # Pixel centres: the centre of a mean over f pixels is (f - 1) / 2 native pixels further.
        shift = [o + p * (f - 1) / 2 for o, p, f in zip(first, pixel, level.factors, strict=True)]
        steps = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
        datasets.append({"path": f"{k}/image", _TRANSFORMS: steps})
    name = os.path.basename(about.source.get("name", "image"))  # what viewers call the layer
    reduced = " ".join(d for d in about.dims if d in about.encoding.reduce)
    how = {"description": f"each level is the {method} of 2 pixels along {reduced}", "method": "ndzarr.transcode"}
    image = {"name": name, "axes": axes, "datasets": datasets, "type": method, "metadata": how}
    return image if about.encoding.ome_version == "0.5" else _with_systems(image)


INTRINSIC = "intrinsic"
"""The coordinate system of an image of OME-Zarr 0.6."""


def _with_systems(image: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return an image of OME-Zarr 0.5 as one of 0.6: its axes are those of a coordinate system, which each level leads to.

    https://ngff.openmicroscopy.org/rfc/5/index.html, as of the specification's 0.6rc0.
    """
    datasets = [
        {
            "path": dataset["path"],
            _TRANSFORMS: [
                {
                    "type": "sequence",
                    "input": {"path": dataset["path"]},
                    "output": {"name": INTRINSIC},
                    "transformations": dataset[_TRANSFORMS],
                }
            ],
        }
        for dataset in image["datasets"]
    ]
    own = {key: value for key, value in image.items() if key not in ("axes", "datasets")}
    return {**own, "coordinateSystems": [{"name": INTRINSIC, "axes": image["axes"]}], "datasets": datasets}


def regular_times(times: Sequence[float] | None) -> tuple[float, float] | None:
    """Return (first, step) of times that are evenly spaced, up to half a step; None of all others."""
    if times is None or len(times) < 2:
        return None
    step = (times[-1] - times[0]) / (len(times) - 1)
    ideal = times[0] + step * np.arange(len(times))
    return (times[0], step) if step > 0 and np.abs(np.asarray(times) - ideal).max() < step / 2 else None


def _with_georeference(stated: PixelSize, place: Georeference | None, ask_pyproj: bool) -> PixelSize:
    """Return a size with y and x by the georeference, where that tells them."""
    on_earth = georeferenced_size(place, ask_pyproj)
    return stated if on_earth is None else on_earth.filled(stated)


def pixel_size_of(attrs: Mapping[str, Any], place: Georeference | None) -> tuple[PixelSize | None, list[str]]:
    """
    Return the size of a native pixel by the attributes of a root group, and notes about what cannot be a size.

    The georeference comes first, then ndzarr's own record, then OME-Zarr's axes and scales.
    """
    own, notes = attrs.get("ndzarr", {}).get("pixel_size"), list[str]()
    stated = _ome_size(attrs, notes) if "ndzarr" not in attrs else PixelSize.from_json(own or {})
    size = _with_georeference(stated, place, True)
    return (size if size.known else None), notes


def _ome_size(attrs: Mapping[str, Any], notes: list[str]) -> PixelSize:
    """Return what OME-Zarr says: the scale of a native pixel, in the axes' units."""
    image = _ome_image(attrs)
    axes, stated = axes_of(image), _native_transformations(image)
    factors = [scale_of(steps) for steps in stated]
    if any(step.get("type") == "identity" for steps in stated[:1] for step in _steps(steps)):
        factors.append([1.0] * len(axes))
    said, sizes = Statements("OME-Zarr", notes), dict[str, Any]()
    for k, axis in enumerate(axes):
        name, unit = (axis.get("name"), axis.get("unit")) if isinstance(axis, Mapping) else (axis, None)
        numbers = [scale[k] for scale in factors if scale is not None and len(scale) == len(axes)]
        if name not in ("t", "z", "y", "x") or not numbers or (unit is None and all(n == 1 for n in numbers)):
            continue
        if unit is None:
            notes.append(f"OME-Zarr: the scale along {name} is {numbers[0]}, without a unit; it was left out")
        elif all(said.number(f"the scale along {name}", str(n)) is not None for n in numbers):
            kind = TIME if name == "t" else LENGTH
            sizes[name] = said.quantity(f"the scale along {name}", prod(map(float, numbers)), unit, kind)
    return PixelSize(**sizes, source="OME-Zarr")


ORIGIN = "origin"
"""Key of a source: axis to the position of the centre of the first native pixel, in native pixels, if that is not 0."""
OMERO = "omero"
"""Key of a source: how viewers show its channels, as OME-Zarr says it."""


def ome_record(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a source records of the OME-Zarr metadata that it is made from, besides sizes: `ORIGIN`, `OMERO`."""
    if "ndzarr" in attrs:  # recorded before
        return {}
    image = _ome_image(attrs)
    axes = axes_of(image)
    scale, shift = [1.0] * len(axes), [0.0] * len(axes)
    for step in (step for steps in _native_transformations(image) for step in _steps(steps)):
        found = next((step.get(key) for key in ("scale", "translation") if step.get("type") == key), None)
        numbers = [as_number(v) for v in found] if isinstance(found, list) and len(found) == len(axes) else []
        for k, number in enumerate(numbers):
            if number is not None and step["type"] == "scale":
                scale[k], shift[k] = scale[k] * number, shift[k] * number
            elif number is not None:
                shift[k] += number
    names = [axis.get("name") if isinstance(axis, Mapping) else axis for axis in axes]
    origin = {n: t / s for n, s, t in zip(names, scale, shift, strict=True) if n in ("z", "y", "x") and t and s > 0}
    omero = attrs.get("ome", attrs).get("omero")
    shown = {OMERO: dict(omero)} if isinstance(omero, Mapping) and isinstance(omero.get("channels"), list) else {}
    return ({ORIGIN: origin} if origin else {}) | shown


def _ome_image(attrs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first of the `multiscales` of OME-Zarr; empty if there is none."""
    ome = attrs.get("ome", attrs)
    multiscales = ome.get("multiscales") if isinstance(ome, Mapping) else None
    found = multiscales[0] if isinstance(multiscales, list) and multiscales else {}
    return found if isinstance(found, Mapping) else {}


def _native_transformations(image: Mapping[str, Any]) -> list[Any]:
    """
    Return the `coordinateTransformations` that lead from native pixels to the axes of an image.

    Up to OME-Zarr 0.5 they are those of the first dataset, and then those of all datasets.  In 0.6 the latter relate
    the axes to other coordinate systems.
    """
    datasets = image.get("datasets")
    if not isinstance(datasets, list) or not datasets:
        return []
    own = datasets[0].get(_TRANSFORMS)
    return [own] if "coordinateSystems" in image else [own, image.get(_TRANSFORMS)]


def axes_of(image: Mapping[str, Any]) -> list[Any]:
    """
    Return the axes of an image of OME-Zarr; [] if it states none.

    In OME-Zarr 0.6 they are those of the coordinate system that the transformations of levels lead to.
    """
    axes = image.get("axes")
    systems = [s for s in image.get("coordinateSystems") or () if isinstance(s, Mapping)]
    if axes is None and systems:
        steps = [s for d in image.get("datasets") or () for s in d.get(_TRANSFORMS) or ()]
        output = steps[0].get("output") if steps else None
        name = output.get("name") if isinstance(output, Mapping) else output
        axes = next((s for s in systems if s.get("name") == name), systems[0]).get("axes")
    return axes if isinstance(axes, list) else []


def _steps(transformations: Any) -> Iterator[Mapping[str, Any]]:
    """Yield coordinate transformations one by one: OME-Zarr 0.6 may hold them in sequences."""
    waiting = list(transformations) if isinstance(transformations, list) else []
    while waiting:
        step = waiting.pop(0)
        if isinstance(step, Mapping) and step.get("type") == "sequence":
            waiting = [*(step.get("transformations") or ()), *waiting]
        elif isinstance(step, Mapping):
            yield step


def scale_of(steps: Any) -> list[Any] | None:
    """Return the `scale` of OME-Zarr's coordinate transformations; None if they have none."""
    scale = next((step.get("scale") for step in _steps(steps) if step.get("type") == "scale"), None)
    return scale if isinstance(scale, list) else None


def _omero(about: Description, windows: Sequence[DisplayWindow]) -> dict[str, Any]:
    """Return how viewers show the channels; https://ngff.openmicroscopy.org/0.5/#omero-md."""
    channels = [
        {"label": name, "color": colour, "active": shown, "window": window._asdict()}
        for name, (colour, shown), window in zip(about.channels, display_colours(about.channels), windows, strict=True)
    ]
    stated = about.source.get(OMERO) or {}
    if stated and len(stated["channels"]) == len(channels):
        channels = [
            own | {key: value for key, value in other.items() if key in own and key != "label"}
            for own, other in zip(channels, stated["channels"], strict=True)
        ]
    return {**stated, "channels": channels}


def display_colours(channels: Sequence[str]) -> list[tuple[str, bool]]:
    """Return (colour, whether it is shown at first) of each channel, such that those shown add up to a picture."""
    own = [_COLORS.get(name.lower()) for name in channels]
    if set(_COLORS.values()) <= set(own):
        return [("FFFFFF", False) if colour is None else (colour, True) for colour in own]
    if len(channels) < 3:
        return [(colour, True) for colour in (["FFFFFF"], ["00FF00", "FF00FF"])[len(channels) > 1]][: len(channels)]
    return [(_PALETTE[k % len(_PALETTE)], k < 3) for k in range(len(channels))]


def _image_label(about: Description) -> dict[str, Any]:
    """Return what viewers need to show classes, with the colours of a palette; see the `image-label` of OME-Zarr."""
    palette = about.source.get("palette") or ()
    colours = [{"label-value": k, "rgba": [*colour, 255][:4]} for k, colour in enumerate(palette)]
    return {"colors": colours} if colours else {}


def _multiscales(levels: Sequence[LevelShape], method: str) -> list[dict[str, Any]]:
    layout: list[dict[str, Any]] = []
    for k, level in enumerate(levels):
        item: dict[str, Any] = {"asset": str(k)}
        if k:
            item["derived_from"] = str(k - 1)
        base = levels[max(0, k - 1)].factors  # the transform is relative to what the level is derived from
        scale = [f / b for f, b in zip(level.factors, base, strict=True)]
        item["transform"] = {"scale": scale, "translation": [0.0] * len(scale)}
        if k:
            item["resampling_method"] = method
        layout.append(item)
    return layout


def write_metadata(
    root: Path,
    about: Description,
    levels: Sequence[LevelShape],
    windows: Sequence[DisplayWindow],
    records: Records,
    masks: Sequence[LevelShape] = (),
) -> None:
    """
    Write every `zarr.json` and the coordinates of a store whose chunks are there.

    `masks` are levels of a mask; `records` are those of all shards.
    """
    nodes: dict[str, Any] = {}
    attributes = root_attributes(about, levels, windows, complete=True)
    place = from_attributes(attributes)
    if place is not None and place.transform is None:
        place = None
    for k, level in enumerate(levels):
        image = sharded_array(level.shape, about.dims, level.layout, level.fill)
        nodes[str(k)] = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        nodes[f"{k}/image"] = image
        image["attributes"] |= _nodata_attribute(about.nodata, about.dtype)
        for mask in masks[k : k + 1]:
            dims = [d for d in about.dims if d != "c"]
            nodes[f"{k}/{MASK}"] = sharded_array(mask.shape, dims, mask.layout, mask.fill)
        if place is not None:
            size, transform = (level.shape[-2], level.shape[-1]), place.window_transform(0, 0, *level.factors[-2:])
            nodes[f"{k}/{GRID_MAPPING}"] = _array((), (), "int64", (), [LITTLE_ENDIAN], 0)
            nodes[f"{k}/{GRID_MAPPING}"]["attributes"] = dict(grid_mapping_attributes(place, transform))
            image["attributes"] |= {"grid_mapping": GRID_MAPPING, "coordinates": GRID_MAPPING}
            image["attributes"] |= level_conventions(place, size, transform)
        for name, values in coordinates(about, level, place).items():
            nodes[f"{k}/{name}"] = _write_coordinate(root / str(k) / name, name, values)
    arrays = {f"{k}/image": level for k, level in enumerate(levels)}
    arrays |= {f"{k}/{MASK}": level for k, level in enumerate(masks)}
    for path, level in arrays.items():
        grid = tuple(-(-n // s) for n, s in zip(level.shape, level.layout.shards, strict=True))
        nodes[path]["attributes"][SEAL] = str(Seal.of(records[path], grid))
    if about.encoding.indexes:
        attributes["ndzarr"]["indexes"], joined = join_records(records)
        (root / INDEXES).write_bytes(joined)
    for path, node in nodes.items():
        (root / path).mkdir(parents=True, exist_ok=True)
        (root / path / "zarr.json").write_text(json.dumps(node))
    attributes["ndzarr"][DIGEST] = metadata_digest(attributes, nodes)
    consolidated = {"kind": "inline", "must_understand": False, "metadata": nodes}
    root_node = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": attributes,
        "consolidated_metadata": consolidated,
    }
    (root / "zarr.json").write_text(json.dumps(root_node))


Position: TypeAlias = tuple[int, ...]
Records: TypeAlias = dict[str, dict[Position, bytes]]
"""The `Record` of each shard, by the path of the array and the position of the shard."""

INDEXES = "0/image/indexes"
"""
File of the records of all shards, if the attribute `ndzarr.indexes` states where those of each array begin in it.

Readers that list a store look for nothing in an array, so that the file disturbs none of them.
"""


def join_records(records: Records) -> tuple[dict[str, int], bytes]:
    """Return where the records of each array begin, and all records: those of an array in C order of its shards."""
    starts, parts, at = {}, list[bytes](), 0
    for path in sorted(records):
        starts[path] = at
        parts += [records[path][position] for position in sorted(records[path])]
        at += sum(map(len, records[path].values()))
    return starts, b"".join(parts)


DIGEST = "digest"
"""Key of the `ndzarr` attribute: the digest of everything that the metadata say of the pixels."""
_DIGESTED = ("shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "attributes", "dimension_names")
"""What the digest covers of an array; other software writes the codecs in other words, and damage to them shows."""


def metadata_digest(attributes: Mapping[str, Any], nodes: Mapping[str, Any]) -> str:
    """
    Return a digest of the attributes of a root group and of the metadata of its arrays, 16 hexadecimal digits.

    Attributes that others added do not change it, nor does the order in which they write the metadata.
    """
    own = {k: v for k, v in attributes["ndzarr"].items() if k != DIGEST}
    names = sorted(k for k in attributes if k in _READ_ATTRIBUTES or k.partition(":")[0] in ("spatial", "proj"))
    facts: list[Any] = [[k, own if k == "ndzarr" else attributes[k]] for k in names]
    arrays = sorted((name, node) for name, node in nodes.items() if node.get("node_type") == "array")
    facts += [[name, *(node.get(key) for key in _DIGESTED)] for name, node in arrays]
    text = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def is_sealed(attributes: Mapping[str, Any], nodes: Mapping[str, Any]) -> bool | None:
    """Return True if metadata are as ndzarr wrote them, False if not, None if they do not tell (older stores)."""
    stated = attributes.get("ndzarr", {}).get(DIGEST)
    return None if stated is None else bool(stated == metadata_digest(attributes, nodes))


def coordinates(
    about: Description, level: LevelShape, place: Georeference | None
) -> dict[str, np.ndarray[Any, Any] | list[str]]:
    """
    Return the 1-D coordinates of a level: pixel centres, channel names, seconds or indices along t.

    Pixel centres are in native pixels, or on earth as `to_xarray` has them if there is a `place` with a transform.
    """
    out: dict[str, np.ndarray[Any, Any] | list[str]] = {}
    for d, n, f in zip(about.dims, level.shape, level.factors, strict=True):
        if d == "c":
            out[d] = list(about.channels)
        elif d == "t":
            out[d] = np.asarray(about.times if about.times is not None else np.arange(n), np.float64)
        else:
            out[d] = (np.arange(n) + 0.5) * f - (0 if d in "yx" else 0.5)  # centres; of planes, in indices
    if place is not None:
        transform = place.window_transform(0, 0, *level.factors[-2:])
        out["y"], out["x"] = earth_centres(transform, *level.shape[-2:])
    return out


def sharded_array(shape: Sequence[int], dims: Sequence[str], layout: Layout, fill: Any) -> dict[str, Any]:
    """Return the `zarr.json` of an array of which every shard has a file; chunks that are missing in it are `fill`."""
    codec = layout.codec
    sharding = {
        "chunk_shape": list(codec.shape),
        "codecs": codec.metadata(),
        "index_codecs": INDEX_CODECS,
        "index_location": "end",
    }
    codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    return {**_array(shape, dims, codec.dtype, layout.shards, codecs, _json_fill(fill)), "attributes": {COMPLETE: True}}


def _json_fill(fill: Any) -> Any:
    """Return a `fill_value`, https://zarr-specs.readthedocs.io/en/latest/v3/data-types/index.html."""
    if fill.dtype.kind == "c":
        return [_json_fill(fill.real), _json_fill(fill.imag)]
    return fill.item() if fill.dtype.kind != "f" or np.isfinite(fill) else _json_number(float(fill))


def _nodata_attribute(nodata: Nodata, dtype: np.dtype[Any]) -> dict[str, Any]:
    """
    Return the attribute of an image by which rioxarray and odc-geo know the value of missing data.

    It is not CF's `_FillValue`, for which xarray would turn integers into floats.  NaN needs none.
    """
    value = None if isinstance(nodata, tuple) or dtype.kind in "bc" else as_pixel(nodata, dtype)
    return {} if value is None or not np.isfinite(value) else {"nodata": value.item()}


def _array(
    shape: Sequence[int],
    dims: Sequence[str],
    dtype: np.dtype[Any] | str,
    chunks: Sequence[int],
    codecs: list[dict[str, Any]],
    fill: Any,
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype if isinstance(dtype, str) else dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [max(1, n) for n in chunks]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": {},
        "dimension_names": list(dims),
        "storage_transformers": [],
    }


CHECKSUM = "ndzarr_crc32c"
"""Attribute of a coordinate: the checksum of its files (`files_sum`), whose codecs have none."""


def files_sum(folder: Path) -> int:
    """Return the crc32c of the chunks of an array that is not sharded: their files one after another, in C order."""
    start = folder / "c"
    files = [start] if start.is_file() else [f for f in start.rglob("*") if f.is_file()]
    total = 0
    for file in sorted(files, key=lambda f: [int(i) if i.isdecimal() else -1 for i in f.relative_to(start).parts]):
        with open_binary(file) as opened:
            while block := opened.read(1 << 20):
                total = google_crc32c.extend(total, block)
    return total


def _write_coordinate(folder: Path, name: str, values: np.ndarray[Any, Any] | list[str]) -> dict[str, Any]:
    """Write a coordinate as one zstd chunk; strings as numcodecs' vlen-utf8."""
    fill: Any
    first: dict[str, Any]
    if isinstance(values, list):
        words = [len(v).to_bytes(4, "little") + v for v in map(str.encode, values)]
        raw = len(values).to_bytes(4, "little") + b"".join(words)
        dtype, fill, first = "string", "", {"name": "vlen-utf8"}
    else:
        raw, dtype, fill = values.astype("<f8").tobytes(), "float64", 0.0
        first = LITTLE_ENDIAN
    (folder / "c").mkdir(parents=True)
    encoded = bytes(numcodecs.zstd.compress(raw, 3))
    (folder / "c" / "0").write_bytes(encoded)
    codecs = [first, {"name": "zstd", "configuration": {"level": 3, "checksum": False}}]
    array = _array([len(values)], [name], dtype, [len(values)], codecs, fill)
    return {**array, "attributes": {CHECKSUM: google_crc32c.value(encoded)}}


def _bands(channels: Sequence[str], nodata: tuple[float | None, ...]) -> list[dict[str, Any]]:
    """Return names and nodata of channels as STAC has them, https://github.com/radiantearth/stac-spec (`bands`)."""
    words = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}
    out = []
    for name, value in zip(channels, nodata, strict=True):
        number = _json_nodata(value)
        out.append({"name": name} if number is None else {"name": name, "nodata": words.get(number, number)})
    return out


def _json_nodata(nodata: Nodata) -> Any:
    if isinstance(nodata, tuple):
        return [_json_nodata(value) for value in nodata]
    return None if nodata is None else _json_number(nodata)


def _json_number(value: float) -> float | int | str:
    if not np.isfinite(value):  # JSON has no numbers for these
        return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return int(value) if float(value).is_integer() else float(value)
