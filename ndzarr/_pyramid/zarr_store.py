"""Opening Zarr stores as pyramids.

`open_pyramid` reads one JSON file of a local Zarr v3 store (its consolidated metadata) and makes the arrays of the hot
path.  All other stores that hold a pyramid or a single array (Zarr v2, OME-Zarr 0.4, remote stores, other codecs) are
opened through zarr-python.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ndzarr._files import open_binary, read_bytes, recover
from ndzarr._formats.registry import recognise
from ndzarr._pyramid.levels import Level
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._store.arrays import ChunkArray, ZarrArray, open_array
from ndzarr._store.metadata import (
    SCHEMA,
    check_attributes,
    interpreting,
    is_sealed,
    parse_json,
    path_within,
    scale_of,
)
from ndzarr._validation import as_number, is_path, shortened
from ndzarr.errors import (
    DamagedError,
    DamagedStoreWarning,
    MissingError,
    NdzarrError,
    SourceError,
    StoreError,
    warn_caller,
)


def warn_changed(file: str) -> None:
    """Warn that metadata were changed since ndzarr wrote them."""
    message = f"{file}: the metadata are not those that were written with the pixels"
    warn_caller(f"{message}. Unless you changed them, transcode the source again", DamagedStoreWarning)


def open_pyramid(
    path: str | os.PathLike[str], cache_bytes: int = 0, changed: Callable[[str], object] = warn_changed
) -> Pyramid:
    """
    Open a Zarr store; see `ndzarr.open` for the parameters.

    `changed` is called with the path of metadata that were changed since ndzarr wrote them, but do not disagree.
    """
    name = os.fspath(path)
    if "://" in name:
        return _remote(name.rstrip("/"), cache_bytes)
    if not is_path(name):
        raise StoreError(f"{name!r} is not a path", path=name, hint="Pass the name of a directory")
    folder = os.path.abspath(name)
    try:
        with open_binary(os.path.join(folder, "zarr.json")) as file:
            stat = os.fstat(file.fileno())
            root = parse_json(file.read(), folder)
    except (FileNotFoundError, NotADirectoryError):
        if Path(folder).name and recover(Path(folder)):  # '/' has none
            return open_pyramid(folder, cache_bytes)
        return _not_zarr3(folder, cache_bytes)
    except PermissionError as error:
        hint = "Ask its owner for permission to read it (chmod -R a+rX), or choose another workdir"
        raise StoreError(f"{folder}: may not be read by this user", path=folder, hint=hint) from error
    return _from_metadata(folder, root, (stat.st_mtime_ns, stat.st_ino), cache_bytes, changed)


def _from_metadata(
    folder: str,
    root: Mapping[str, Any],
    version: tuple[int, ...],
    cache_bytes: int,
    changed: Callable[[str], object],
) -> Pyramid:
    with interpreting(folder):
        check_attributes(folder, root.get("attributes", {}))
        if "ndzarr" not in root.get("attributes", {}):
            # Other writers change chunks and leave the metadata as they are: shards mapped earlier may be stale.
            version = (*version, time.monotonic_ns())
        nodes: dict[str, Any] = (root.get("consolidated_metadata") or {}).get("metadata") or {}
        paths = _level_paths(folder, root)
        wanted = [p for p, _ in paths] + _mask_paths(folder, root.get("attributes", {}), paths)
        sealed = is_sealed(root.get("attributes", {}), nodes)
        if sealed is False:
            _check_copies(folder, nodes, wanted)
            changed(f"{folder}/zarr.json")
        if any(p and p not in nodes for p in wanted):
            nodes = {p: _node(folder, p) for p in wanted}
        folders = [os.path.join(folder, p) if p else folder for p in wanted]
        used = [nodes[p] if p else root for p in wanted]
        found = [open_array(f, node, version, bool(sealed)) for f, node in zip(folders, used, strict=True)]
        first = nodes[paths[0][0]] if paths[0][0] else root
        names = first.get("dimension_names")
    arrays = [_zarr_array(f, a, n) if isinstance(a, str) else a for f, a, n in zip(folders, found, used, strict=True)]
    return _pyramid(folder, root.get("attributes", {}), paths, arrays, names, cache_bytes)


def _check_copies(folder: str, nodes: Mapping[str, Any], paths: Sequence[str]) -> None:
    """Raise `DamagedError` if the root's copies of metadata, which alone are read, disagree with the originals."""
    for path in paths:
        file = os.path.join(folder, path, "zarr.json")
        if path in nodes and _node(folder, path) != nodes[path]:
            message = f"{file}: differs from the consolidated metadata of the root"
            raise DamagedError(message, path=file, hint="Transcode the source again")


def _mask_paths(folder: str, attrs: Mapping[str, Any], paths: Sequence[tuple[str, Any]]) -> list[str]:
    """Return the path of the mask of each level; none if the store has no mask."""
    name = attrs.get("ndzarr", {}).get("mask")
    if name is None:
        return []
    return [path_within(folder, f"{path.rpartition('/')[0]}/{name}".lstrip("/")) for path, _ in paths]


def _not_zarr3(folder: str, cache_bytes: int) -> Pyramid:
    if not os.path.lexists(folder):
        raise MissingError(f"{folder}: no such file or directory", path=folder)
    if any(os.path.exists(os.path.join(folder, f)) for f in (".zgroup", ".zarray", ".zattrs")):
        return _through_zarr(folder, cache_bytes)
    if os.path.isdir(folder):
        message = f"{folder}: a directory without zarr.json is not a Zarr store"
        raise StoreError(message, path=folder, hint="Make one from images with ndzarr.transcode")
    if os.path.isfile(folder):  # reading a pipe would wait
        try:
            recognise(folder)
        except SourceError as error:  # a format that `transcode` would refuse, too
            error.path = folder
            raise StoreError.like(error) from error
    message = f"{folder}: a file, not a Zarr store"
    raise StoreError(message, path=folder, hint=f"Make one with ndzarr.transcode({os.path.basename(folder)!r}, ...)")


def _remote(url: str, cache_bytes: int) -> Pyramid:
    try:
        pyramid = _through_zarr(url, cache_bytes)
    except ImportError as error:
        message = f"{url}: reading it needs another package ({error})"
        raise StoreError(
            message, path=url, hint="Run pip install 'ndzarr[remote]', which has those for https:// and s3://"
        ) from error
    except (MissingError, StoreError):
        raise
    except Exception as error:  # protocols raise their own errors: no server, no credentials, unknown schemes
        raise StoreError(
            f"{url}: cannot be opened ({type(error).__name__}: {error})", path=url, hint="Check the address"
        ) from error
    if url.startswith("http") and not _answers_ranges(f"{url}/zarr.json", pyramid):
        raise StoreError(
            f"{url}: its server ignores range requests (as `python -m http.server`), and chunks are parts of shards",
            path=url,
            hint="Use a server that answers range requests, or copy the store",
        )
    return pyramid


def _answers_ranges(url: str, pyramid: Pyramid) -> bool:
    """Return False if the server ignores range requests; stores without shards need none."""
    if not any(isinstance(v.array, ZarrArray) and v.array.sharded for v in pyramid.levels):
        return True
    import fsspec  # type: ignore[import-untyped]  # comes with the extra `remote`

    return len(fsspec.filesystem("http").cat_file(url, 0, 1)) == 1


def _through_zarr(name: str, cache_bytes: int) -> Pyramid:
    import zarr

    from ndzarr._store.zarr_python import open_node

    with _asking_zarr(name):
        try:
            node = open_node(name)
        except (FileNotFoundError, KeyError) as error:
            raise MissingError(f"{name}: there is no Zarr store", path=name, hint="Check the address") from error
        attrs = dict(node.attrs)
    root = {"node_type": "array" if isinstance(node, zarr.Array) else "group", "attributes": attrs}
    with interpreting(name):
        check_attributes(name, attrs)
        paths = _level_paths(name, root)
    wanted = [p for p, _ in paths] + _mask_paths(name, attrs, paths)
    with _asking_zarr(name):
        arrays = [_array(node[p] if p else node, f"{name}/{p}") for p in wanted]
    metadata = arrays[0].metadata
    dims = getattr(metadata, "dimension_names", None) or arrays[0].attrs.get("_ARRAY_DIMENSIONS")
    reason = "remote store" if "://" in name else f"Zarr v{metadata.zarr_format} store"
    wrapped = [ZarrArray(a, f"{name}/{p}", reason) for a, p in zip(arrays, wanted, strict=True)]
    return _pyramid(name, attrs, paths, wrapped, dims, cache_bytes)


@contextmanager
def _asking_zarr(name: str) -> Iterator[None]:
    """Report whatever zarr-python makes of a local store; `_remote` does so for protocols, which have more reasons."""
    try:
        yield
    except NdzarrError:
        raise
    except Exception as error:  # codecs and data types have errors of their own
        if "://" in name:
            raise
        message = f"{name}: zarr-python cannot open it ({type(error).__name__}: {error})"
        raise StoreError(message, path=name, hint="Fetch or write the store again") from error


def _array(node: Any, name: str) -> Any:
    """Return the array that a path of the metadata names, its chunks bounded."""
    import zarr

    from ndzarr._store.zarr_python import bounded

    if not isinstance(node, zarr.Array):
        raise StoreError(f"{name}: expected a Zarr array, found a group", path=name)
    return bounded(node)


def _level_paths(name: str, root: Mapping[str, Any]) -> list[tuple[str, list[float] | None]]:
    """Return (path of the array, its `scale` transformation) of each level; the path is '' for the root itself."""
    if root["node_type"] == "array":
        return [("", None)]
    attrs = root.get("attributes", {})
    schema = attrs.get("ndzarr", {}).get("schema", SCHEMA)
    if schema > SCHEMA:
        message = f"{name}: written by a later ndzarr (schema {schema}, this one knows {SCHEMA})"
        raise StoreError(message, path=name, hint="Upgrade ndzarr")
    ome = attrs.get("ome", attrs)
    multiscales = ome.get("multiscales") if isinstance(ome, Mapping) else None
    if isinstance(multiscales, list) and multiscales:
        return [
            (path_within(name, d["path"]), _usable(scale_of(d.get("coordinateTransformations"))))
            for d in multiscales[0]["datasets"]
        ]
    message = f"{name}: a Zarr group without OME-Zarr `multiscales`"
    raise StoreError(message, path=name, hint="Open one of its arrays by its path, or transcode that")


def _usable(scale: list[Any] | None) -> list[float] | None:
    """Return a scale if all of it are numbers above 0, so that levels can be compared by it."""
    numbers = [as_number(v) for v in scale or ()]
    return [n for n in numbers if n] if numbers and all(n is not None and n > 0 for n in numbers) else None


def _node(folder: str, path: str) -> Any:
    try:
        return parse_json(read_bytes(Path(folder, path, "zarr.json")), folder, f"{path}/zarr.json")
    except FileNotFoundError as error:
        message = f"{folder}: level {path!r} is named in the metadata but missing, so the store is damaged"
        raise StoreError(message, path=folder) from error


def _zarr_array(folder: str, reason: str, node: Any) -> ZarrArray:
    from ndzarr._store.zarr_python import check_names, open_node

    check_names(node, folder)
    with _asking_zarr(folder):
        return ZarrArray(_array(open_node(folder), folder), folder, reason)


def _pyramid(
    name: str,
    attrs: Mapping[str, Any],
    paths: Sequence[tuple[str, list[float] | None]],
    arrays: Sequence[ChunkArray | ZarrArray],
    dimension_names: Sequence[str | None] | None,
    cache_bytes: int,
) -> Pyramid:
    """Return the pyramid of `arrays`: a level for each of `paths`, then their masks, if there are any."""
    if not arrays or not arrays[0].shape:
        raise StoreError(f"{name}: an array without axes is not an image", path=name)
    with interpreting(name):
        dims = _dims(attrs, dimension_names, len(arrays[0].shape))
        numbers = {len(array.shape) for array in arrays[: len(paths)]}
        if numbers != {len(dims)} or len(set(dims)) < len(dims):
            message = f"{name}: its metadata name the axes {shortened(dims)} for arrays of {sorted(numbers)} axes"
            raise StoreError(message, path=name, key="axes", hint="Fetch or write the store again")
        base = paths[0][1]
        levels = []
        n = len(paths)
        for k, (_, scale) in enumerate(paths):
            array, mask = arrays[k], arrays[n + k] if len(arrays) > n else None
            if scale and base:
                if len(scale) != len(dims):
                    raise ValueError(f"scale={scale} for the axes {' '.join(dims)}")
                factors = (s / b for s, b in zip(scale, base, strict=True))
            else:
                factors = (_factor(n, m) for n, m in zip(arrays[0].shape, array.shape, strict=True))
            levels.append(Level(array, tuple(factors), mask))
        channels = _channels(attrs, dims, arrays[0].shape)
        nodata = attrs.get("ndzarr", {}).get("nodata")
        if isinstance(nodata, list) and len(nodata) != len(channels):
            message = f"{name}: nodata={shortened(nodata)} for {len(channels)} channels"
            raise StoreError(message, path=name, key="nodata", hint="Fetch or write the store again")
    return Pyramid(name, dims, tuple(levels), channels, attrs, cache_bytes, open_pyramid)


def _factor(native: int, length: int) -> float:
    """Return native pixels per pixel, derived from lengths: a whole number if they allow for one."""
    ratio = native / max(1, length)
    whole = max(1, round(ratio))
    return float(whole) if length in (native // whole, -(-native // whole)) else ratio


def _dims(attrs: Mapping[str, Any], names: Sequence[str | None] | None, ndim: int) -> tuple[str, ...]:
    ome = attrs.get("ome", attrs)
    axes = ome["multiscales"][0].get("axes") if isinstance(ome.get("multiscales"), list) else None
    if axes:
        axes = tuple(a if isinstance(a, str) else a["name"] for a in axes)
        if not all(isinstance(name, str) for name in axes):
            raise TypeError("the name of an axis is not text")
        return axes
    if names and None not in names:
        return tuple(str(n) for n in names)
    return tuple("tczyx"[-ndim:]) if ndim <= 5 else tuple(f"d{i}" for i in range(ndim))


MOST_CHANNELS = 1 << 20
"""Most channels without names that are believed; each of them gets a name when a store is opened."""


def _channels(attrs: Mapping[str, Any], dims: Sequence[str], shape: Sequence[int]) -> tuple[str, ...]:
    if "c" not in dims:
        return ()
    n = shape[list(dims).index("c")]
    own = attrs.get("ndzarr", {}).get("channels")
    omero = attrs.get("ome", attrs).get("omero", {}).get("channels", [])
    names = own or [c.get("label") for c in omero if isinstance(c.get("label"), str)]
    if len(names) != n and n > MOST_CHANNELS:
        message = f"its metadata state {n} channels along c, more than {MOST_CHANNELS}, and do not name them"
        raise StoreError(message, hint="Fetch or write the store again; if it is true, read it with zarr-python")
    if len(names) != n or len(set(names)) != n:
        return tuple(f"c{i}" for i in range(n))
    return tuple(names)
