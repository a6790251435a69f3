"""How is a Zarr array, of format 2 or 3, read as a source?

Through zarr-python.  Axes are told by `dimension_names` (format 3) or the `_ARRAY_DIMENSIONS` attribute that xarray
writes to format 2, else guessed from the shape.  A directory is recognised by its metadata files, not by its name.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ndzarr.errors import SourceError
from ndzarr.sources.array import ArraySource, open_array
from ndzarr.sources.axes import Arrangement, from_names, from_shape
from ndzarr.sources.base import reason
from ndzarr.sources.labelled import nodata_of
from ndzarr.sources.options import Options

_NAMED = 8
"""Most arrays of a group that an error lists."""


def open_zarr(array: Any, options: Options, name: str | None = None) -> ArraySource:
    """Read a `zarr.Array`."""
    name = name or f"<Zarr array {array.store_path}>"
    if not hasattr(array, "chunks"):
        raise SourceError(f"{name}: it is a Zarr {type(array).__name__.lower()}; pass one of its arrays")
    attributes = dict(array.attrs)
    arrangement = _arrangement(name, array, attributes, options)
    lengths = dict(zip(arrangement.dims, arrangement.shape(array.shape), strict=True))
    options.check_pixels(name, lengths["y"], lengths["x"], whole=False)
    return open_array(
        name,
        array,
        arrangement,
        options,
        blocks=tuple(array.chunks),
        nodata=nodata_of(attributes),
        metadata={"format": f"Zarr v{array.metadata.zarr_format}"},
    )


def open_zarr_directory(path: str, options: Options) -> ArraySource:
    """Read the Zarr array that a directory holds."""
    kind = _kind(Path(path))
    if kind is None:
        raise SourceError(
            f"{path}: it is a directory without a Zarr array in it (no zarr.json, no .zarray); pass an image file or "
            f"the directory of a Zarr array"
        )
    if kind == "group":
        found = _arrays(Path(path))
        which = f"one of its arrays, such as {', '.join(found)}" if found else "a Zarr array; this group has none"
        raise SourceError(f"{path}: it is a Zarr group; pass the path of {which}")
    import zarr

    try:
        array = zarr.open_array(path, mode="r")
    except Exception as error:  # whatever zarr makes of damaged metadata
        raise SourceError(f"{path}: zarr-python cannot open this array ({reason(error)}); write it again") from error
    return open_zarr(array, options, path)


def _arrangement(name: str, array: Any, attributes: dict[str, Any], options: Options) -> Arrangement:
    names = getattr(array.metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS")
    if names and len(names) == array.ndim and None not in names:
        return from_names(name, names, array.shape, options)
    return from_shape(name, array.shape, options)


def _kind(folder: Path) -> str | None:
    """'array', 'group' or None."""
    if (folder / ".zarray").is_file():
        return "array"
    try:
        node = json.loads((folder / "zarr.json").read_bytes()).get("node_type")
    except FileNotFoundError:
        return "group" if (folder / ".zgroup").is_file() else None
    except (ValueError, AttributeError) as error:
        raise SourceError(f"{folder}: its zarr.json is not a JSON object ({reason(error)}); write it again") from error
    return "array" if node == "array" else "group"


def _arrays(group: Path) -> list[str]:
    """Paths, within the group, of the first few arrays."""
    found: list[str] = []
    for folder, inner, _ in os.walk(group):
        here = Path(folder)
        if _kind(here) == "array":
            inner.clear()  # do not walk through chunks
            found.append(here.relative_to(group).as_posix())
        inner.sort()
        if len(found) == _NAMED:
            break
    return found
