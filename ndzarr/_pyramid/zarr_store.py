"""Opening Zarr stores as pyramids.

`open_pyramid` reads the metadata of a store, which is one JSON file if they are consolidated, and makes the arrays of
the hot path.  zarr-python reads the arrays that have other codecs, data types or grids of chunks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ndzarr._concurrency import ordered_map
from ndzarr._files import is_store, open_binary, read_bytes, recover
from ndzarr._formats.labelled import Candidate, dimension_names
from ndzarr._formats.options import Options
from ndzarr._formats.registry import recognise
from ndzarr._pyramid.datasets import Tree, contents, factor, open_image
from ndzarr._pyramid.levels import Level
from ndzarr._pyramid.ome_groups import OmeImage, choose, images_of
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._remote.flight import get_ranges
from ndzarr._remote.settings import Remote
from ndzarr._remote.stores import ABSENT, Range, RemoteStore, open_object, open_url
from ndzarr._remote.urls import is_url, joined, zip_of
from ndzarr._store.archive import ArchiveFile, ArchiveObject, archive_of
from ndzarr._store.arrays import ArrayLayout, ChunkArray, Stored, ZarrArray, local_array, parse_array, parse_v2_array
from ndzarr._store.destinations import Dest
from ndzarr._store.metadata import (
    INDEXES,
    SCHEMA,
    axes_of,
    check_attributes,
    interpreting,
    is_sealed,
    parse_json,
    path_within,
    scale_of,
)
from ndzarr._store.remote import Indexes, RemoteArray
from ndzarr._validation import as_number, is_path, shortened
from ndzarr.errors import (
    DamagedError,
    DamagedStoreWarning,
    MissingError,
    NdzarrError,
    OptionError,
    SourceError,
    StoreError,
    warn_caller,
)

if TYPE_CHECKING:
    from ndzarr._store.zarr_python import RemoteZarrStore

PLAIN = Options()
"""No options."""


def warn_changed(file: str) -> None:
    """Warn that metadata were changed since ndzarr wrote them."""
    message = f"{file}: the metadata are not those that were written with the pixels"
    warn_caller(f"{message}. Unless you changed them, transcode the source again", DamagedStoreWarning)


def open_pyramid(
    path: str | os.PathLike[str],
    cache_bytes: int = 0,
    changed: Callable[[str], object] = warn_changed,
    *,
    storage_options: Mapping[str, Any] | None = None,
    remote: Remote | None = None,
    store: Any = None,
    options: Options = PLAIN,
) -> Pyramid:
    """
    Open a Zarr store; see `ndzarr.open` for the parameters.

    `changed` is called with the path of metadata that were changed since ndzarr wrote them, but do not disagree.
    `options` has `axes`, `variable` and `series`.
    """
    name = os.fspath(path)
    if store is not None:
        return open_remote(*open_object(store, name, remote), cache_bytes, changed, options)
    if is_url(name):
        return open_remote(*open_url(name.rstrip("/"), storage_options, remote), cache_bytes, changed, options)
    if not is_path(name):
        raise StoreError(f"{name!r} is not a path", path=name, hint="Pass the name of a directory")
    folder = os.path.abspath(name)
    try:
        with open_binary(os.path.join(folder, "zarr.json")) as file:
            stat = os.fstat(file.fileno())
            root = parse_json(file.read(), folder)
    except (FileNotFoundError, NotADirectoryError):
        if Path(folder).name and recover(Path(folder)):  # '/' has none
            return open_pyramid(folder, cache_bytes, options=options)
        if (zipped := archive_of(folder)) is not None:
            return _open_archive(ArchiveFile(zipped), folder, cache_bytes, changed, options)
        return _not_zarr3(folder, cache_bytes, options)
    except PermissionError as error:
        hint = "Ask its owner for permission to read it (chmod -R a+rX), or choose another workdir"
        raise StoreError(f"{folder}: may not be read by this user", path=folder, hint=hint) from error
    version: tuple[int, ...] = stat.st_mtime_ns, stat.st_ino
    if not _is_ours(root):
        # Other writers change chunks and leave the metadata as they are: shards mapped earlier may be stale.
        version = (*version, time.monotonic_ns())
    return _from_metadata(_Directory(folder, version), root, cache_bytes, changed, options)


def open_dest(dest: Dest, changed: Callable[[str], object] = warn_changed) -> Pyramid:
    """Open a store where it was written."""
    if isinstance(dest, Path):
        return open_pyramid(dest, changed=changed)
    return open_remote(dest.store, dest.path, changed=changed)


def _is_ours(root: Any) -> bool:
    """Return True for the metadata of a store that ndzarr wrote, which is replaced as a whole."""
    attrs = root.get("attributes", {}) if isinstance(root, Mapping) else {}
    return isinstance(attrs, Mapping) and "ndzarr" in attrs


class _Folder(Protocol):
    """Where the arrays of a store are."""

    @property
    def name(self) -> str:
        """Path or URL of the store."""

    @property
    def reopen(self) -> Callable[..., Pyramid]:
        """Opens the store in another process, by its name, `cache_bytes` and the keyword `options`."""

    def root(self, above: bool = False) -> Any:
        """Return the group or array, or the group that holds it, as zarr-python opens it; None if there is none."""

    def below(self, path: str, cache_bytes: int) -> Pyramid:
        """Open a group in this one."""

    def nodes(self, paths: Sequence[str]) -> dict[str, Any]:
        """Return the metadata of arrays, Zarr v3."""

    def documents(self, files: Sequence[str], names: Sequence[str], optional: bool = False) -> dict[str, Any]:
        """Return JSON files by other names; those that do not exist are left out if `optional`."""

    def content(self, file: str) -> bytes | None:
        """Return the bytes of a file; None if there is none."""

    def of(self, path: str, layout: ArrayLayout) -> Stored:
        """Return an array of the hot path."""

    def through_zarr(self, path: str, reason: str, node: Any) -> ZarrArray:
        """Return an array that zarr-python reads."""


class _Directory(NamedTuple):
    """A store on a local disk."""

    name: str
    version: tuple[int, ...]
    archive: ArchiveFile | None = None
    """The zip that `name` is, or that holds it."""
    reopen: Callable[..., Pyramid] = open_pyramid

    def _member(self, path: str) -> str:
        """Return the path in the zip of what is in the folder."""
        assert self.archive is not None
        return joined(self.name[len(self.archive.file.path) + 1 :], path)

    def root(self, above: bool = False) -> Any:
        from ndzarr._store.zarr_python import RemoteZarrStore, open_node

        if self.archive is not None:
            return None if above else open_node(self.name, RemoteZarrStore(self.archive, self._member("")))
        path = os.path.dirname(self.name) if above else self.name
        return open_node(path) if is_store(path) else None

    def below(self, path: str, cache_bytes: int) -> Pyramid:
        return open_pyramid(os.path.join(self.name, path), cache_bytes)

    def nodes(self, paths: Sequence[str]) -> dict[str, Any]:
        return self.documents([f"{path}/zarr.json" for path in paths], paths)

    def documents(self, files: Sequence[str], names: Sequence[str], optional: bool = False) -> dict[str, Any]:
        out = {}
        for file, name in zip(files, names, strict=True):
            try:
                out[name] = parse_json(self._read(file), self.name, file)
            except FileNotFoundError as error:
                if not optional:
                    message = f"{self.name}: {file!r} is named in the metadata but missing, so the store is damaged"
                    raise StoreError(message, path=self.name) from error
        return out

    def content(self, file: str) -> bytes | None:
        try:
            return self._read(file)
        except FileNotFoundError:
            return None

    def _read(self, file: str) -> bytes:
        return read_bytes(Path(self.name, file)) if self.archive is None else self.archive.read(self._member(file))

    def of(self, path: str, layout: ArrayLayout) -> ChunkArray:
        if self.archive is not None:
            self.archive.refuse_compressed(self._member(path))
        return local_array(os.path.join(self.name, path) if path else self.name, layout, self.version, self.archive)

    def through_zarr(self, path: str, reason: str, node: Any) -> ZarrArray:
        from ndzarr._store.zarr_python import RemoteZarrStore

        store = None
        if self.archive is not None:
            self.archive.refuse_compressed(self._member(path))
            store = RemoteZarrStore(self.archive, self._member(path))
        return _zarr_array(os.path.join(self.name, path) if path else self.name, reason, node, store)


def _stored(folder: _Folder, path: str, node: Any, sealed: bool) -> Stored:
    """Return an array by its metadata, Zarr v3."""
    found = parse_array(f"{folder.name}/{path}".rstrip("/"), node, sealed)
    return folder.through_zarr(path, found, node) if isinstance(found, str) else folder.of(path, found)


def _open_archive(
    archive: ArchiveFile | ArchiveObject,
    path: str,
    cache_bytes: int,
    changed: Callable[[str], object],
    options: Options,
) -> Pyramid:
    """Open a store in a zip, without unpacking it: in a bucket with two requests if its metadata are consolidated."""
    folder: _Directory | _Bucket
    if isinstance(archive, ArchiveFile):
        # The file is replaced as a whole, or reading it says that it was changed.
        folder = _Directory(path, tuple(archive.file[1:]), archive)
    else:
        token = time.monotonic_ns() if archive.tag is None else archive.tag
        folder = _Bucket(archive.store, path, token, archive.tag, archive)
    raw = folder.content("zarr.json")
    if raw is None:
        return _open_v2(folder, cache_bytes, options)
    return _from_metadata(folder, parse_json(raw, folder.name), cache_bytes, changed, options)


def _from_metadata(
    folder: _Folder, root: Mapping[str, Any], cache_bytes: int, changed: Callable[[str], object], options: Options
) -> Pyramid:
    name = folder.name
    with interpreting(name):
        attrs = root.get("attributes", {})
        check_attributes(name, attrs)
        if (inner := _chosen(folder, root, options)) is not None:
            return folder.below(inner, cache_bytes)
        if not _is_multiscale(name, root):
            return _open_labelled(folder, cache_bytes, options)
        _refuse(name, options)
        nodes: dict[str, Any] = (root.get("consolidated_metadata") or {}).get("metadata") or {}
        paths = _level_paths(name, root)
        wanted = [p for p, _ in paths] + _mask_paths(name, attrs, paths)
        sealed = is_sealed(attrs, nodes)
        if sealed is False:
            _check_copies(folder, nodes, wanted)
            changed(f"{name}/zarr.json")
        if any(p and p not in nodes for p in wanted):
            nodes = folder.nodes([p for p in wanted if p])
        used = [nodes[p] if p else root for p in wanted]
        arrays = [_stored(folder, p, node, bool(sealed)) for p, node in zip(wanted, used, strict=True)]
        names = used[0].get("dimension_names")
    return _pyramid(folder, attrs, paths, arrays, names, cache_bytes)


def _check_copies(folder: _Folder, nodes: Mapping[str, Any], paths: Sequence[str]) -> None:
    """Raise `DamagedError` if the root's copies of metadata, which alone are read, disagree with the originals."""
    for path, node in folder.nodes([path for path in paths if path in nodes]).items():
        file = os.path.join(folder.name, path, "zarr.json")
        if node != nodes[path]:
            message = f"{file}: differs from the consolidated metadata of the root"
            raise DamagedError(message, path=file, hint="Transcode the source again")


def _mask_paths(folder: str, attrs: Mapping[str, Any], paths: Sequence[tuple[str, Any]]) -> list[str]:
    """Return the path of the mask of each level; none if the store has no mask."""
    name = attrs.get("ndzarr", {}).get("mask")
    if name is None:
        return []
    return [path_within(folder, f"{path.rpartition('/')[0]}/{name}".lstrip("/")) for path, _ in paths]


def _is_multiscale(name: str, root: Mapping[str, Any]) -> bool:
    """Return True for a group whose levels OME-Zarr's metadata name: arrays, or groups that xarray's pyramids have."""
    attrs = root.get("attributes", {})
    schema = attrs.get("ndzarr", {}).get("schema", SCHEMA)
    if schema > SCHEMA:
        message = f"{name}: written by a later ndzarr (schema {schema}, this one knows {SCHEMA})"
        raise StoreError(message, path=name, hint="Upgrade ndzarr")
    ome = attrs.get("ome", attrs)
    multiscales: Any = ome.get("multiscales") if isinstance(ome, Mapping) else None
    if root["node_type"] == "array" or not isinstance(multiscales, list) or not multiscales:
        return False
    return "axes" in multiscales[0] or "ome" in attrs or "version" in multiscales[0]


def _chosen(folder: _Folder, root: Mapping[str, Any], options: Options) -> str | None:
    """Return the path of the image that is meant of an OME-Zarr group that holds several; None for any other node."""
    if root["node_type"] == "array" or _is_multiscale(folder.name, root):
        return None
    images = images_of(folder, root.get("attributes", {}))
    if images is None:
        return None
    _refuse(folder.name, options, ("variable", "axes"))
    return choose(folder.name, images, options.series).path


def list_series(
    path: str, storage_options: Mapping[str, Any] | None = None, remote: Remote | None = None
) -> list[OmeImage] | None:
    """Return the images of an OME-Zarr group that holds several, by its path or URL; None for anything else."""
    folder = _folder(path, storage_options, remote)
    raw = folder.content("zarr.json")
    with interpreting(folder.name):
        if raw is not None:
            root = parse_json(raw, folder.name)
        else:
            attrs = folder.documents([".zattrs"], ["attributes"], optional=True)
            root = {"node_type": "group", **attrs}
        if root["node_type"] == "array" or _is_multiscale(folder.name, root):
            return None
        return images_of(folder, root.get("attributes", {}))


def _refuse(name: str, options: Options, keys: Sequence[str] = ("variable", "axes", "series")) -> None:
    """Raise `OptionError` for options of arrays without names, and of groups that hold several."""
    for key in keys:
        value = getattr(options, key)
        if value is not None:
            message = f"{name}: {key}={value!r} is for arrays and datasets, and this is an OME-Zarr image"
            raise OptionError(message, path=name, key=key, hint="Leave it out, or open one of its arrays by its path")


def _open_labelled(folder: _Folder, cache_bytes: int, options: Options) -> Pyramid:
    """Open an array, or an image of a group that is not one of OME-Zarr."""
    from zarr import Array

    options.refuse_series(folder.name)
    with _asking_zarr(folder.name):
        root = folder.root()
        if root is None:
            raise MissingError(f"{folder.name}: there is no Zarr store", path=folder.name, hint="Check the address")
        around = folder.root(above=True) if isinstance(root, Array) and dimension_names(root) else None
        if around is None or isinstance(around, Array):
            tree, stay = Tree.of(folder.name, root), "" if isinstance(root, Array) else None
        else:
            stay = os.path.basename(folder.name)
            tree = Tree.around(folder.name, root, stay, around)
    if isinstance(root, Array) and options.variable is not None:
        message = f"{folder.name}: variable={options.variable!r} chooses from a group, and this is an array"
        raise OptionError(message, path=folder.name, key="variable", hint="Leave it out")

    def stored(path: str) -> Stored:
        return _stored_at(folder, "" if isinstance(root, Array) else path)

    return open_image(
        tree,
        options,
        stored,
        partial(folder.below, cache_bytes=cache_bytes),
        partial(_asking_zarr, folder.name),
        reopen=partial(folder.reopen, options=options),
        cache_bytes=cache_bytes,
        stay=stay,
        beside=folder.content,
    )


def list_images(path: str) -> list[Candidate]:
    """Return what a Zarr group, by its path or URL, holds that could be opened; [] for anything else."""
    _, tree = _tree(path)
    return list(contents(tree)) if tree.groups else []


def list_arrays(path: str) -> list[Stored]:
    """Return the arrays of numbers of a Zarr array or group, by its path or URL, whatever they mean."""
    folder, tree = _tree(path)
    return [_stored_at(folder, p) for p, node in tree.arrays.items() if node.dtype.kind in "biufc"]


def _tree(path: str) -> tuple[_Folder, Tree]:
    folder = _folder(path)
    with _asking_zarr(folder.name):
        root = folder.root()
        if root is None:
            raise MissingError(f"{folder.name}: there is no Zarr store", path=folder.name, hint="Check the address")
        return folder, Tree.of(folder.name, root)


def _folder(
    path: str, storage_options: Mapping[str, Any] | None = None, remote: Remote | None = None
) -> _Directory | _Bucket:
    if is_url(path):
        store, inner = open_url(path.rstrip("/"), storage_options, remote)
        file = zip_of(inner)
        return _Bucket(store, inner, time.monotonic_ns(), None, None if file is None else ArchiveObject(store, file))
    path = os.path.abspath(path)
    file = archive_of(path)
    return _Directory(path, (time.monotonic_ns(),), None if file is None else ArchiveFile(file))


def _stored_at(folder: _Folder, path: str) -> Stored:
    """Return an array, Zarr v2 or v3, by its path."""
    files = [f"{path}/{name}".lstrip("/") for name in ("zarr.json", ".zarray")]
    found = folder.documents(files, ("v3", "v2"), optional=True)
    if not found:
        message = f"{folder.name}: {path!r} is named in the consolidated metadata but missing, so the store is damaged"
        raise StoreError(message, path=folder.name, hint="Fetch or write the store again")
    with interpreting(joined(folder.name, path)):
        if "v3" in found:
            return _stored(folder, path, found["v3"], False)
        return _stored_v2(folder, path, found["v2"])


def _stored_v2(folder: _Folder, path: str, node: Any) -> Stored:
    """Return an array by its metadata, Zarr v2."""
    layout = parse_v2_array(f"{folder.name}/{path}".rstrip("/"), node)
    return folder.through_zarr(path, f"Zarr v2, {layout}", node) if isinstance(layout, str) else folder.of(path, layout)


def _not_zarr3(folder: str, cache_bytes: int, options: Options) -> Pyramid:
    if not os.path.lexists(folder):
        raise MissingError(f"{folder}: no such file or directory", path=folder)
    if any(os.path.exists(os.path.join(folder, f)) for f in (".zgroup", ".zarray", ".zattrs")):
        return _open_v2(_Directory(folder, (time.monotonic_ns(),)), cache_bytes, options)
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


FIRST_BYTES = 128 << 10
"""Bytes of the root's metadata that are asked for at first; most are smaller."""


def open_remote(
    store: RemoteStore,
    path: str,
    cache_bytes: int = 0,
    changed: Callable[[str], object] = warn_changed,
    options: Options = PLAIN,
) -> Pyramid:
    """
    Open a Zarr store in a bucket or on a web server, with one request if ndzarr wrote it.

    Metadata that are not consolidated are fetched together, as are the files of Zarr v2.
    """
    if (archive := zip_of(path)) is not None:
        return _open_archive(ArchiveObject(store, archive), path, cache_bytes, changed, options)
    file = joined(path, "zarr.json")
    try:
        # By a range, so that a server that ignores ranges is known before it sends a shard.
        data, info = store.get(file, 0, FIRST_BYTES, exact=False)
    except MissingError:
        return _open_v2(_Bucket(store, path, time.monotonic_ns(), None), cache_bytes, options)
    raw = data.tobytes()
    if info.size > len(raw):
        raw += store.get(file, len(raw), info.size)[0].tobytes()
    elif info.size < 0 and len(raw) == FIRST_BYTES:  # a store that does not tell sizes
        raw = store.get(file)[0].tobytes()
    root = parse_json(raw, store.url(path))
    version = info.tag if _is_ours(root) else None
    token = time.monotonic_ns() if version is None else version
    folder = _Bucket(store, path, token, version, indexes=_indexes_of(root))
    pyramid = _from_metadata(folder, root, cache_bytes, changed, options)
    folder.hold_indexes(pyramid)
    return pyramid


def _indexes_of(root: Any) -> Mapping[str, int]:
    """Return where the records of the shards of each array begin in the object of all; {} if there is none."""
    attrs = root.get("attributes") if isinstance(root, Mapping) else None
    own = attrs.get("ndzarr") if isinstance(attrs, Mapping) else None
    found = own.get("indexes") if isinstance(own, Mapping) else None
    return found if isinstance(found, Mapping) else {}


class _Bucket(NamedTuple):
    """A store that is not on a local disk."""

    store: RemoteStore
    path: str
    token: Hashable
    version: str | None
    archive: ArchiveObject | None = None
    """The zip that `path` is, or that holds it."""
    indexes: Mapping[str, int] = {}
    """Where the records of the shards of each array begin in the object of all."""

    @property
    def name(self) -> str:
        return self.store.url(self.path)

    def _member(self, path: str) -> str:
        """Return the path in the zip of what is at the path."""
        assert self.archive is not None
        return joined(self.path[len(self.archive.path) + 1 :], path)

    def hold_indexes(self, pyramid: Pyramid) -> None:
        """Fetch the records of all shards, if one request can; parts of more are fetched when they are needed."""
        arrays = [a for level in pyramid.levels for a in (level.array, level.mask) if isinstance(a, RemoteArray)]
        total = max((array.records_stop for array in arrays), default=0)
        if 0 < total <= self.store.settings.cap:
            path = joined(self.path, INDEXES)
            try:
                [landed] = get_ranges([Range(self.store, path, 0, total, version=self.version)])
            except MissingError as error:
                message = f"{error.path}: is named in the metadata but missing, so the store is damaged"
                raise DamagedError(message, path=error.path, hint="Write the store again") from error
            for array in arrays:
                array.hold(landed.data)

    @property
    def reopen(self) -> Callable[..., Pyramid]:
        return partial(_reopen_remote, self.store, self.path)

    def root(self, above: bool = False) -> Any:
        from zarr.errors import GroupNotFoundError

        from ndzarr._store.zarr_python import RemoteZarrStore, open_node

        if self.archive is not None:
            return None if above else open_node(self.name, RemoteZarrStore(self.archive, self._member("")))
        path = self.path.rpartition("/")[0] if above else self.path
        if above and not self.path:
            return None
        try:
            return open_node(self.store.url(path), RemoteZarrStore(self.store, path))
        except (FileNotFoundError, KeyError, GroupNotFoundError):
            return None

    def below(self, path: str, cache_bytes: int) -> Pyramid:
        return open_remote(self.store, joined(self.path, path), cache_bytes)

    def nodes(self, paths: Sequence[str]) -> dict[str, Any]:
        return self.documents([f"{path}/zarr.json" for path in paths], paths)

    def documents(self, files: Sequence[str], names: Sequence[str], optional: bool = False) -> dict[str, Any]:
        """Return JSON files by other names, fetched together; those that do not exist are left out if `optional`."""
        out = {}
        if self.archive is not None:
            members = self.archive.members
            there = [(f, n) for f, n in zip(files, names, strict=True) if self._member(f) in members]
            if not optional and len(there) < len(files):
                file = next(f for f in files if self._member(f) not in members)
                message = f"{self.name}/{file}: is named in the metadata but missing, so the store is damaged"
                raise StoreError(message, path=f"{self.name}/{file}")
            wanted = [self._member(f) for f, _ in there]
            found = ordered_map(self.archive.read, wanted, len(there) or 1, name="metadata")
            return {n: parse_json(data, self.name, f) for (f, n), data in zip(there, found, strict=True)}
        try:
            for landed in get_ranges([Range(self.store, joined(self.path, f), optional=optional) for f in files]):
                if landed.info is not ABSENT:
                    n = landed.number
                    out[names[n]] = parse_json(landed.data.tobytes(), self.name, files[n])
        except MissingError as error:
            message = f"{error.path}: is named in the metadata but missing, so the store is damaged"
            raise StoreError(message, path=error.path) from error
        return out

    def content(self, file: str) -> bytes | None:
        """Return the bytes of a file; None if there is none."""
        try:
            if self.archive is not None:
                return self.archive.read(self._member(file))
            return self.store.get(joined(self.path, file))[0].tobytes()
        except FileNotFoundError:
            return None

    def of(self, path: str, layout: ArrayLayout) -> RemoteArray:
        """Return an array of the hot path."""
        if self.archive is not None:
            self.archive.refuse_compressed(self._member(path))
        known = layout.seal is not None and path in self.indexes  # what records say is checked by the seal
        indexes = Indexes(joined(self.path, INDEXES), self.indexes[path]) if known else None
        inner = joined(self.path, path)
        return RemoteArray(self.store, inner, layout, self.token, self.version, self.archive, indexes)

    def through_zarr(self, path: str, reason: str, node: Any) -> ZarrArray:
        """Return an array that zarr-python reads."""
        from ndzarr._store.zarr_python import RemoteZarrStore

        inner = joined(self.path, path)
        if self.archive is None:
            return _zarr_array(self.store.url(inner), reason, node, RemoteZarrStore(self.store, inner))
        return _zarr_array(self.store.url(inner), reason, node, RemoteZarrStore(self.archive, self._member(path)))


def _reopen_remote(store: RemoteStore, path: str, _: str, cache_bytes: int, options: Options = PLAIN) -> Pyramid:
    return open_remote(store, path, cache_bytes, options=options)


_V2_FILES = (".zmetadata", ".zattrs", ".zarray", ".zgroup")


def _open_v2(folder: _Folder, cache_bytes: int, options: Options) -> Pyramid:
    """Open a store of Zarr v2, such as OME-Zarr 0.4."""
    found = folder.documents(_V2_FILES, _V2_FILES, optional=True)
    if not found:
        message = f"{folder.name}: there is no Zarr store"
        raise MissingError(message, path=folder.name, hint="Check the address")
    with interpreting(folder.name):
        held: dict[str, Any] = {**found.get(".zmetadata", {}).get("metadata", {}), **found}
        attrs = held.get(".zattrs", {})
        check_attributes(folder.name, attrs)
        root = {"node_type": "array" if ".zarray" in held else "group", "attributes": attrs}
        if (inner := _chosen(folder, root, options)) is not None:
            return folder.below(inner, cache_bytes)
        if not _is_multiscale(folder.name, root):
            return _open_labelled(folder, cache_bytes, options)
        _refuse(folder.name, options)
        paths = _level_paths(folder.name, root)
        names = [f"{p}/{file}".lstrip("/") for p, _ in paths for file in (".zarray", ".zattrs")]
        missing = [name for name in names if name not in held]
        held |= folder.documents(missing, missing, optional=True) if ".zmetadata" not in held else {}
        arrays: list[Stored] = []
        for p, _ in paths:
            node = held.get(f"{p}/.zarray".lstrip("/"))
            if node is None:
                message = f"{folder.name}: level {p!r} is named in the metadata but missing, so the store is damaged"
                raise StoreError(message, path=folder.name)
            arrays.append(_stored_v2(folder, p, node))
        dims = held.get(f"{paths[0][0]}/.zattrs".lstrip("/"), {}).get("_ARRAY_DIMENSIONS")
    return _pyramid(folder, attrs, paths, arrays, dims, cache_bytes)


@contextmanager
def _asking_zarr(name: str) -> Iterator[None]:
    """Report whatever zarr-python makes of a store."""
    try:
        yield
    except NdzarrError:
        raise
    except Exception as error:  # codecs and data types have errors of their own
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
    """Return (path of the array, its `scale` transformation) of each level."""
    attrs = root.get("attributes", {})
    multiscales = attrs.get("ome", attrs)["multiscales"]
    return [
        (path_within(name, d["path"]), _usable(scale_of(d.get("coordinateTransformations"))))
        for d in multiscales[0]["datasets"]
    ]


def _usable(scale: list[Any] | None) -> list[float] | None:
    """Return a scale if all of it are numbers above 0, so that levels can be compared by it."""
    numbers = [as_number(v) for v in scale or ()]
    return [n for n in numbers if n] if numbers and all(n is not None and n > 0 for n in numbers) else None


def _zarr_array(name: str, reason: str, node: Any, store: RemoteZarrStore | None) -> ZarrArray:
    """Return an array that zarr-python reads, from a directory if no store is given."""
    from ndzarr._store.zarr_python import check_names, open_node

    check_names(node, name)
    with _asking_zarr(name):
        return ZarrArray(_array(open_node(name, store), name), name, reason)


def _pyramid(
    folder: _Folder,
    attrs: Mapping[str, Any],
    paths: Sequence[tuple[str, list[float] | None]],
    arrays: Sequence[Stored],
    dimension_names: Sequence[str | None] | None,
    cache_bytes: int,
) -> Pyramid:
    """Return the pyramid of `arrays`: a level for each of `paths`, then their masks, if there are any."""
    name = folder.name
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
                factors = (factor(n, m) for n, m in zip(arrays[0].shape, array.shape, strict=True))
            levels.append(Level(array, tuple(factors), mask))
        channels = _channels(attrs, dims, arrays[0].shape)
        nodata = attrs.get("ndzarr", {}).get("nodata")
        if isinstance(nodata, list) and len(nodata) != len(channels):
            message = f"{name}: nodata={shortened(nodata)} for {len(channels)} channels"
            raise StoreError(message, path=name, key="nodata", hint="Fetch or write the store again")
    return Pyramid(name, dims, tuple(levels), channels, attrs, cache_bytes, folder.reopen)


def _dims(attrs: Mapping[str, Any], names: Sequence[str | None] | None, ndim: int) -> tuple[str, ...]:
    ome = attrs.get("ome", attrs)
    axes = axes_of(ome["multiscales"][0]) if isinstance(ome.get("multiscales"), list) else []
    if axes:
        found = tuple(a if isinstance(a, str) else a["name"] for a in axes)
        if not all(isinstance(name, str) for name in found):
            raise TypeError("the name of an axis is not text")
        return found
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
