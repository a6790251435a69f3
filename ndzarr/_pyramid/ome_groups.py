"""
OME-Zarr groups that hold several images: plates, wells, bioformats2raw's roots, and labels.

https://ngff.openmicroscopy.org/0.5/ says how a plate names its wells, a well its fields, a group its labels, and a root
with `bioformats2raw.layout` its series, whose names are in `OME/METADATA.ome.xml`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from xml.etree import ElementTree

from ndzarr._formats.options import find_series
from ndzarr._pyramid.datasets import AmbiguousError
from ndzarr._store.metadata import path_within
from ndzarr.errors import StoreError

LAYOUT = "bioformats2raw.layout"
_NAMED = 5
"""Images that an error names."""
_AT_ONCE = 16
"""Series that are looked for together where nothing counts them."""


@dataclass(frozen=True, slots=True)
class OmeImage:
    """An image of a group."""

    name: str
    """'B/03/0' on a plate; what the metadata call a series."""
    path: str
    """Within the group."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """On a plate: `well`, `row`, `column`, `field` and `acquisition`, as far as the metadata state them."""

    def __str__(self) -> str:
        return repr(self.name) + ("" if self.name == self.path else f", at {self.path}")


class Documents(Protocol):
    """Reads files of a group; see `zarr_store`."""

    @property
    def name(self) -> str:
        """Path or URL of the group."""

    def documents(self, files: Sequence[str], names: Sequence[str], optional: bool = False) -> dict[str, Any]:
        """Return JSON files by other names; those that do not exist are left out if `optional`."""

    def content(self, file: str) -> bytes | None:
        """Return the bytes of a file; None if there is none."""


def images_of(folder: Documents, attributes: Mapping[str, Any]) -> list[OmeImage] | None:
    """Return the images that the attributes of a group name; None for a group that names none."""
    ome = _ome(attributes)
    if isinstance(ome.get("plate"), Mapping):
        return list(_of_plate(folder, ome["plate"]))
    if isinstance(ome.get("well"), Mapping):
        return list(_of_well(folder.name, ome["well"], "", {}))
    if LAYOUT in ome:
        return _of_series(folder)
    if isinstance(ome.get("labels"), list):
        return [OmeImage(str(name), path_within(folder.name, name)) for name in ome["labels"]]
    return None


def choose(name: str, images: Sequence[OmeImage], series: str | int | None) -> OmeImage:
    """Return the image that `series` names; raise `StoreError` if there are several and it is None."""
    names = [image.name for image in images]
    if not images:
        hint = "Fetch or write the store again"
        raise StoreError(f"{name}: its metadata name no image", path=name, key="series", hint=hint)
    if series is None and len(images) > 1:
        listed = ", ".join(map(repr, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")
        message = f"{name}: holds {len(names)} images: {listed}"
        hint = f"Choose one, such as series={names[0]!r}; ndzarr.Sampler({name!r}) has all of them"
        raise AmbiguousError(message, path=name, key="series", hint=hint)
    return images[0 if series is None else find_series(name, names, series)]


def _ome(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    found = attributes.get("ome", attributes)
    return found if isinstance(found, Mapping) else {}


def attributes_of(folder: Documents, paths: Sequence[str]) -> list[Mapping[str, Any] | None]:
    """Return the attributes of groups, Zarr v2 or v3; None for those that do not exist."""
    files = [f"{p}/{file}" for p in paths for file in ("zarr.json", ".zattrs", ".zgroup")]
    found = folder.documents(files, files, optional=True)
    out: list[Mapping[str, Any] | None] = []
    for p in paths:
        v3, v2 = found.get(f"{p}/zarr.json"), found.get(f"{p}/.zattrs", found.get(f"{p}/.zgroup"))
        out.append(v2 if v3 is None else v3.get("attributes", {}))
    return out


def _of_plate(folder: Documents, plate: Mapping[str, Any]) -> Iterator[OmeImage]:
    rows, columns = ([str(axis["name"]) for axis in plate.get(key) or ()] for key in ("rows", "columns"))
    wells = [(path_within(folder.name, well["path"]), well) for well in plate.get("wells") or ()]
    for (path, well), attributes in zip(wells, attributes_of(folder, [p for p, _ in wells]), strict=True):
        if attributes is None:
            message = f"{folder.name}: well {path!r} is named in the metadata but missing, so the store is damaged"
            raise StoreError(message, path=folder.name)
        about = {"well": path}
        for key, names, index in (("row", rows, well.get("rowIndex")), ("column", columns, well.get("columnIndex"))):
            if isinstance(index, int) and 0 <= index < len(names):
                about[key] = names[index]
        yield from _of_well(folder.name, _ome(attributes)["well"], f"{path}/", about)


def _of_well(name: str, well: Mapping[str, Any], start: str, about: Mapping[str, Any]) -> Iterator[OmeImage]:
    for image in well.get("images") or ():
        path = path_within(name, image["path"])
        stated = {"acquisition": image["acquisition"]} if "acquisition" in image else {}
        yield OmeImage(start + path, start + path, {**about, "field": path, **stated})


def _of_series(folder: Documents) -> list[OmeImage]:
    xml = folder.content("OME/METADATA.ome.xml")
    names = [] if xml is None else _names(folder.name, xml)
    [stated] = attributes_of(folder, ["OME"])
    paths = None if stated is None else _ome(stated).get("series")
    if paths is None:
        paths = [str(k) for k in range(len(names))] if names else list(_numbered(folder))
    named = [names[k] if k < len(names) and names[k] else str(path) for k, path in enumerate(paths)]
    return [OmeImage(name, path_within(folder.name, path)) for name, path in zip(named, paths, strict=True)]


def _names(name: str, xml: bytes) -> list[str]:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        message = f"{name}: OME/METADATA.ome.xml is not XML ({error})"
        raise StoreError(message, path=name, hint="Fetch or write the store again") from error
    return [image.get("Name", "") for image in root.iterfind("{*}Image")]


def _numbered(folder: Documents) -> Iterator[str]:
    """Yield '0', '1', ... as long as there is such a group."""
    first = 0
    while True:
        paths = [str(k) for k in range(first, first + _AT_ONCE)]
        for path, attributes in zip(paths, attributes_of(folder, paths), strict=True):
            if attributes is None:
                return
            yield path
        first += _AT_ONCE
