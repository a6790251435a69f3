"""
Groups of Zarr that are not OME-Zarr: datasets of xarray, GDAL and EOPF, and trees of them.

1. `contents` lists the images of a group: arrays with axes y and x, alone or as levels of `multiscales`
   (https://github.com/zarr-conventions/multiscales), and OME-Zarr images.
2. One of them is taken; its coordinates, which are short, are read through zarr-python.
3. `_formats.labelled` says what they mean.  The pixels are read by the hot path.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ndzarr._formats.base import reason
from ndzarr._formats.labelled import (
    NODATA,
    PACKED,
    Candidate,
    Described,
    Packing,
    array_attributes,
    choose,
    dimension_names,
    holds_numbers,
    is_image,
    missing_values,
    place_attributes,
    read_labels,
)
from ndzarr._formats.options import Options
from ndzarr._geo.georeference import GRID_MAPPING, stated_place
from ndzarr._pyramid.levels import Level
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.views import as_view, described_pyramid
from ndzarr._store.arrays import Stored
from ndzarr._store.metadata import axes_of
from ndzarr.errors import SourceError, StoreError


class AmbiguousError(StoreError):
    """A store does not say what its pixels are, or which of several images is meant; the caller has to."""


LONGEST_LABELS = 1 << 24
"""Most values of a coordinate that are read."""


@dataclass(frozen=True)
class Tree:
    """The nodes of a Zarr group, as zarr-python opens them."""

    name: str
    """Path or URL of the group."""
    arrays: Mapping[str, Any]
    """`zarr.Array` by path; the root, if it is an array, by ''."""
    groups: Mapping[str, Mapping[str, Any]]
    """Attributes of groups by path; those of the root by ''."""
    trouble: tuple[str, ...] = ()
    """What zarr-python says of nodes that it does not understand."""

    @classmethod
    def of(cls, name: str, root: Any) -> Tree:
        """Return the nodes below a `zarr.Group` or `zarr.Array`, found by its consolidated metadata or by listing."""
        import zarr

        if isinstance(root, zarr.Array):
            return cls(name, {"": root}, {})
        arrays, groups = {}, {"": dict(root.attrs)}
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for path, node in root.members(max_depth=None):
                if isinstance(node, zarr.Array):
                    arrays[path] = node
                else:
                    groups[path] = dict(node.attrs)
        trouble = [str(w.message) for w in said if "not recognized" in str(w.message)]
        return cls(name, dict(sorted(arrays.items())), dict(sorted(groups.items())), tuple(trouble))

    @classmethod
    def around(cls, name: str, array: Any, key: str, group: Any) -> Tree:
        """Return an array, and what of the group that holds it, as `key`, tells about it; nothing else is looked at."""
        import zarr

        wanted = [*dimension_names(array), *_mentioned(dict(array.attrs)), GRID_MAPPING]
        arrays = {n: found for n in dict.fromkeys(wanted) if isinstance(found := group.get(n), zarr.Array) and n != key}
        return cls(name, {key: array, **arrays}, {"": dict(group.attrs)})

    def above(self, path: str) -> list[str]:
        """Return the groups that hold a node, from the innermost one to the root."""
        out = []
        while path:
            path = path.rpartition("/")[0]
            out.append(path)
        return out

    def dims(self, path: str) -> tuple[str, ...]:
        """Return the names of an array's axes."""
        return dimension_names(self.arrays[path])

    def coordinate(self, name: str, path: str) -> str | None:
        """Return the path of the array that a name means to an array: in its group, or in one around it."""
        return next(
            (p for g in self.above(path) if (p := f"{g}/{name}".lstrip("/")) in self.arrays and p != path), None
        )

    def axis_attributes(self, path: str) -> dict[str, Mapping[str, Any]]:
        """Return the attributes of the coordinates of an array, by the name of the axis."""
        found = {d: self.coordinate(d, path) for d in self.dims(path)}
        return {d: dict(self.arrays[p].attrs) for d, p in found.items() if p is not None}


def contents(tree: Tree) -> dict[Candidate, tuple[str, ...]]:
    """Return what a group holds that could be opened, each with the paths of its levels; () for OME-Zarr images."""
    out: dict[Candidate, tuple[str, ...]] = {}
    taken: list[str] = []
    for group, attributes in tree.groups.items():
        if any(group.startswith(t) for t in taken):
            continue
        levels = _levels(tree, group, attributes)
        if levels is None:
            continue
        if (below := levels.get("")) is not None:  # OME-Zarr
            node = tree.arrays[below[0]]
            out[Candidate(group, _ome_axes(attributes), node.shape, str(node.dtype), len(below))] = ()
            taken.append(f"{group}/".lstrip("/"))
            continue
        for paths in levels.values():
            out[_candidate(tree, paths[0], len(paths))] = tuple(paths)
            taken += paths
    plain = [p for p in tree.arrays if not any(p == t or (t.endswith("/") and p.startswith(t)) for t in taken)]
    labels = {str(n) for p in tree.arrays for n in _mentioned(dict(tree.arrays[p].attrs))}
    numeric = [
        p
        for p in plain
        if tree.arrays[p].ndim > 1
        and holds_numbers(tree.arrays[p].dtype, tree.arrays[p].attrs)
        and p.rpartition("/")[2] not in labels
    ]
    images = [p for p in numeric if is_image(tree.dims(p), tree.axis_attributes(p))]
    out |= {_candidate(tree, p): (p,) for p in (images if images or out else numeric)}
    return dict(sorted(out.items()))


def _candidate(tree: Tree, path: str, levels: int = 1) -> Candidate:
    node = tree.arrays[path]
    return Candidate(path, tree.dims(path), tuple(node.shape), str(node.dtype), levels)


def _mentioned(attributes: Mapping[str, Any]) -> list[str]:
    """Return the names of coordinates, bounds and grid mappings that attributes of an array mention."""
    told = [attributes.get(key) for key in ("coordinates", "bounds", "grid_mapping", "ancillary_variables")]
    return [name.rstrip(":") for text in told if isinstance(text, str) for name in text.split()]


def _levels(tree: Tree, group: str, attributes: Mapping[str, Any]) -> dict[str, list[str]] | None:
    """
    Return the levels of each image of a group with `multiscales`, by its name; None if there are none.

    The name is '' for OME-Zarr.  Levels that are groups hold an array of the same name for each image; the native level
    of GDAL is an array, too.
    """
    ome = attributes.get("ome", attributes)
    stated = ome.get("multiscales", attributes.get("multiscales")) if isinstance(ome, Mapping) else None
    if isinstance(stated, Mapping):
        items = stated.get("layout")
        assets = [i.get("asset") for i in items if isinstance(i, Mapping)] if isinstance(items, list) else []
        images = False
    elif isinstance(stated, list) and stated and isinstance(stated[0], Mapping):
        assets = [d.get("path") for d in stated[0].get("datasets") or () if isinstance(d, Mapping)]
        images = True
    else:
        return None
    paths = [f"{group}/{a}".strip("/") for a in assets if isinstance(a, str)]
    if paths and all(p in tree.arrays for p in paths):
        return {"" if images else paths[0]: _by_size(tree, paths)}
    out: dict[str, list[str]] = {}
    for p in paths:
        for array in [p] if p in tree.arrays else tree.arrays:
            here, _, name = array.rpartition("/")
            if array == p or (here == p and is_image(tree.dims(array), tree.axis_attributes(array))):
                out.setdefault(name, []).append(array)
    return {name: _by_size(tree, found) for name, found in out.items()} or None


def _by_size(tree: Tree, paths: Sequence[str]) -> list[str]:
    """Return the arrays that can be levels of the largest, from that to the smallest."""
    order = sorted(paths, key=lambda p: [-n for n in sorted(tree.arrays[p].shape, reverse=True)])
    alike = [p for p in order if tree.arrays[p].ndim == tree.arrays[order[0]].ndim]
    return [p for p in alike if tree.dims(p) == tree.dims(order[0])]


def _ome_axes(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    ome = attributes.get("ome", attributes)
    axes = axes_of(ome["multiscales"][0]) if isinstance(ome.get("multiscales"), list) else []
    return tuple(str(a.get("name") if isinstance(a, Mapping) else a) for a in axes)


def open_image(
    tree: Tree,
    options: Options,
    stored: Callable[[str], Stored],
    open_group: Callable[[str], Pyramid],
    reading: Callable[[], AbstractContextManager[None]],
    *,
    reopen: Callable[[str, int], Pyramid],
    cache_bytes: int,
    stay: str | None = None,
    beside: Callable[[str], bytes | None] = lambda name: None,
) -> Pyramid:
    """
    Open an image of a group.

    Parameters
    ----------
    stored
        Returns an array of the group for reading, by its path.
    open_group
        Opens a group in it, such as an OME-Zarr image, by its path.
    reading
        Returns a context that reports what zarr-python raises.
    stay
        Path of the array to open; the one that `options.variable` chooses if None.
    beside
        Returns a file of the group, None if there is none.
    """
    try:
        if stay is None:
            found = contents(tree)
            if not found and tree.trouble:
                what = f"{tree.name}: zarr-python does not understand its arrays ({'; '.join(tree.trouble)})"
                raise SourceError(what, path=tree.name, hint="Write it again")
            chosen = choose(tree.name, list(found), options.variable)
            paths = found[chosen]
            if not paths:
                return open_group(chosen.path)
        else:
            paths = (stay,)
        native, path = tree.arrays[paths[0]], paths[0]
        if native.dtype.kind not in "biufc":
            what = f"{tree.name}: the data type of {path or 'the array'} is {native.dtype}, which is not one of pixels"
            raise SourceError(what, path=tree.name, key="data_type", hint="Open an array of numbers")
        notes: list[str] = []
        with reading():
            coords = _coordinates(tree, path, notes)
        own = array_attributes(native)
        attributes = {**own, **place_attributes([*(tree.groups[g] for g in reversed(tree.above(path))), own])}
        if {"X", "Y"} <= coords.keys() and not stated_place(attributes):  # GDAL has the system in a file
            attributes |= _system_of_pam(beside("pam.aux.xml"), notes)
        image = Described.of(native, attributes, coords)
        form = f"Zarr v{native.metadata.zarr_format}"
        labels = read_labels(tree.name, image, options, form, _chunks(native), notes)
    except SourceError as error:
        kind = AmbiguousError if error.key in ("axes", "variable") else StoreError
        raise kind.like(error, tree.name) from error
    axes = labels.arrangement.axes
    order = [axes.index(d) for d in labels.arrangement.dims if d in axes]
    kept = [p for p in paths if _packed_alike(tree.name, native, tree.arrays[p])]
    if len(kept) < len(paths):
        what = f"{len(paths) - len(kept)} levels are not used: their values are packed in another way"
        facts = labels.facts
        told = (*facts.metadata.get("notes", ()), what)
        labels = replace(labels, facts=replace(facts, metadata={**facts.metadata, "notes": list(told)}))
    arrays = [as_view(stored(p), order, labels.packing) for p in kept]
    size = arrays[0].shape
    levels = [Level(a, tuple(factor(n, m) for n, m in zip(size, a.shape, strict=True))) for a in arrays]
    said = {**tree.groups.get("", {}), **({} if path else dict(native.attrs))}
    said.pop("multiscales", None)
    origin = {"variable": path} if path else {}
    return described_pyramid(
        tree.name, labels.facts, levels, reopen=reopen, cache_bytes=cache_bytes, beside=said, origin=origin
    )


def _system_of_pam(xml: bytes | None, notes: list[str]) -> dict[str, Any]:
    """Return as attributes the reference system that GDAL keeps in a file beside an array."""
    try:
        found = None if xml is None else ElementTree.fromstring(xml).findtext("Array/SRS")
    except ElementTree.ParseError as error:
        notes.append(f"pam.aux.xml is not XML ({error}), so that its reference system is not known")
        return {}
    return {} if found is None else {"proj:wkt2": found}


def _packed_alike(name: str, native: Any, level: Any) -> bool:
    """Return True if the values of two arrays are packed, and marked as missing, in the same way."""
    if native.dtype != level.dtype:
        return False
    one, other = array_attributes(native), array_attributes(level)
    if not other.keys() & {*PACKED, *NODATA} and repr(native.fill_value) == repr(level.fill_value):
        return True  # GDAL says it of the native level alone
    first, second = (repr((Packing.of(name, native.dtype, t), missing_values(t, native.dtype))) for t in (one, other))
    return first == second  # as text, in which NaN equals NaN


def _chunks(node: Any) -> tuple[int, ...]:
    try:
        return tuple(max(1, int(n)) for n in node.chunks)
    except (NotImplementedError, TypeError):  # rectilinear grids (zarr >= 3.2)
        return tuple(max(1, n) for n in node.shape)


def factor(native: int, length: int) -> float:
    """Return native pixels per pixel, derived from lengths: a whole number if they allow for one."""
    ratio = native / max(1, length)
    whole = max(1, round(ratio))
    return float(whole) if length in (native // whole, -(-native // whole)) else ratio


def _coordinates(tree: Tree, path: str, notes: list[str]) -> dict[str, Any]:
    """Return the coordinates of an array as variables of xarray: those of its axes, and its grid mapping."""
    from xarray import Variable

    node, dims = tree.arrays[path], tree.dims(path)
    out: dict[str, Any] = {}
    for name, length in zip(dims, node.shape, strict=False):
        where = tree.coordinate(name, path)
        if where is not None and tree.dims(where) == (name,) and tree.arrays[where].shape == (length,) and length:
            if length > LONGEST_LABELS:
                notes.append(f"the coordinate {name!r} is too long to be read")
            else:
                out[name] = _decoded(name, tree.arrays[where], notes)
    stated = str(node.attrs.get("grid_mapping", GRID_MAPPING)).split(":")[0].strip()
    where = tree.coordinate(stated, path)
    if where is not None and stated not in out:
        out[stated] = Variable((), 0, dict(tree.arrays[where].attrs))
    for name in _mentioned(dict(node.attrs)):
        where = tree.coordinate(name, path)
        if where is None or name in out:
            continue
        other, along = tree.arrays[where], tree.dims(where)
        if along and along in [(d,) for d in dims] and other.shape[0] <= LONGEST_LABELS:
            out[name] = _decoded(along[0], other, notes)
        elif len(along) == 2:  # told by its attributes alone
            out[name] = Variable(along, np.broadcast_to(np.int8(0), other.shape), dict(other.attrs))
    return out


def _decoded(name: str, node: Any, notes: list[str]) -> Any:
    from xarray import Variable
    from xarray.conventions import decode_cf_variable

    from ndzarr._store.zarr_python import bounded

    attributes = {k: v for k, v in node.attrs.items() if k not in ("_ARRAY_DIMENSIONS", "_FillValue")}
    raw = Variable((name,), bounded(node, labels=True)[...], attributes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about dates that only cftime can hold
            found = decode_cf_variable(name, raw, decode_timedelta=True)
            return Variable((name,), found.values, found.attrs)
    except (ValueError, ImportError, OverflowError) as error:
        notes.append(f"the coordinate {name!r} is not understood ({reason(error)})")
        return raw
