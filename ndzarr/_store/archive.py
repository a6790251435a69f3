"""
Stores in one file: a zip whose members are the files of a store, such as an `.ozx` (OME-NGFF's RFC-9).

A member that is stored, not compressed, is a range of bytes of the file, so that a shard is read as one in a directory
is: by its descriptor, or by ranges of one object. Metadata may be compressed, chunks and shards may not.

The directory at the end of a zip gives the place of a member's header, which its bytes follow. How long that header is
stands in the header alone; it is read only where the next member does not tell (`_placed`).

`ArchiveFile` is such a file on a disk, `ArchiveObject` one in a bucket or on a web server. Paths of what is inside
continue that of the file: `/data/a.ozx/0/image/c/0/0/0`.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO, NamedTuple, TypeAlias
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from ndzarr._files import FileId, open_binary, read_bytes
from ndzarr._indexing.plan import check_memory
from ndzarr._remote.stores import Landed, Range, RemoteStore
from ndzarr._remote.urls import names_zip
from ndzarr.errors import DamagedError, StoreError

_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
_AGAIN = "Fetch or write the file again"
_HEADER = 30
"""Bytes of a member's header before its name."""
_ZIP64_EXTRA = 20
"""Bytes that a header has more if it states its sizes in 64 bits."""
_ZIP64_VERSION = 45
_HAS_DESCRIPTOR = 1 << 3
_ENCRYPTED = 1 << 0
_UTF8 = 1 << 11
_TAIL_BYTES = 256 << 10
"""Bytes that are read of the end of a remote file at first: its directory, if it has no more than 2000 members."""


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Return True for a local file that is a zip by its suffix."""
    return names_zip(path) and os.path.isfile(path)


def archive_of(path: str | os.PathLike[str]) -> str | None:
    """Return the local zip that a path names, or that holds it; None if there is none."""
    parts = Path(path)
    return next((str(p) for p in (parts, *parts.parents) if is_archive(p)), None)


class Member(NamedTuple):
    """A file within a zip."""

    header: int
    """Offset of its header."""
    start: int | None
    """Offset of its bytes; None if only its header tells."""
    size: int
    """Bytes that it takes."""
    whole: int
    """Bytes that it has once it is inflated."""
    method: int
    crc: int

    def start_after(self, header: bytes) -> int | None:
        """Return the offset of its bytes from the first bytes of its header; None if that is not a header."""
        if len(header) < _HEADER or header[:4] != b"PK\3\4":
            return None
        return self.header + _HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


Members = Mapping[str, Member]


def _listed(file: BinaryIO | io.BufferedReader, name: str) -> dict[str, Member]:
    """Return the files in a zip by their paths below the root of its store; raise `StoreError` for what is not one."""
    try:
        with ZipFile(file) as opened:
            found = [info for info in opened.infolist() if not info.is_dir()]
            end = opened.start_dir
    except (BadZipFile, UnicodeDecodeError, NotImplementedError, ValueError) as error:
        message = f"{name}: the directory at its end cannot be read ({error}): it is cut, damaged, or not a zip"
        raise DamagedError(message, path=name, hint=_AGAIN) from error
    ends = _ends(found, end)
    if any(not 0 <= m.header_offset <= end or m.header_offset + m.compress_size > end for m in found):
        message = f"{name}: its directory names members that lie behind the end of the file"
        raise DamagedError(message, path=name, hint=_AGAIN)
    if any(m.flag_bits & _ENCRYPTED for m in found):
        raise StoreError(f"{name}: it is encrypted", path=name, hint="Unpack it, and open the directory")
    members = {m.filename.replace("\\", "/"): _placed(m, ends[m.header_offset]) for m in found}
    root = _root(members, name)
    return {path[len(root) :]: member for path, member in members.items() if path.startswith(root)}


def _ends(found: Iterable[ZipInfo], end: int) -> dict[int, int]:
    """Return where the next member begins behind each header."""
    starts = [*sorted({m.header_offset for m in found}), end]
    return dict(pairwise(starts))


def _placed(info: ZipInfo, end: int) -> Member:
    """Return a member; its bytes reach up to the next one if the gap before them is as long as the header must be."""
    name = len(info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437"))
    gap = end - info.compress_size - info.header_offset - _HEADER - name
    sure = gap == 0 or (gap == _ZIP64_EXTRA and info.extract_version >= _ZIP64_VERSION)
    start = end - info.compress_size if sure and not info.flag_bits & _HAS_DESCRIPTOR else None
    return Member(info.header_offset, start, info.compress_size, info.file_size, info.compress_type, info.CRC)


def _root(members: Members, name: str) -> str:
    """Return the path of the store in a zip, with a slash at its end: the root, or the only directory in it."""
    tops = {path.partition("/")[0] for path in members}
    places = ["", f"{next(iter(tops))}/"] if len(tops) == 1 else [""]
    for place in places:
        if any(place + file in members for file in _FILES):
            return place
    inside = sorted({path.rpartition("/")[0] for path in members if path.rpartition("/")[2] in _FILES}, key=_depth)
    found = f"; it holds {', '.join(inside[:5])}" if inside else ""
    message = f"{name}: the root of this zip is not a Zarr store{found}"
    raise StoreError(message, path=name, hint="Unpack it, and open one of the directories in it")


def _depth(path: str) -> tuple[int, str]:
    return path.count("/"), path


def _refuse_compressed(members: Members, name: str, path: str) -> None:
    """Raise `StoreError` if chunks of an array are compressed by the zip: they are read by ranges."""
    below = f"{path}/" if path else ""
    for inner, member in members.items():
        if member.method != ZIP_STORED and inner.startswith(below) and inner.rpartition("/")[2] not in _FILES:
            message = f"{name}/{inner}: is compressed by the zip, so that it is no range of bytes of the file"
            hint = "Pack the store again without compression (zip -0 -r), or unpack it and open the directory"
            raise StoreError(message, path=name, key=inner, hint=hint)


def _inflated(data: bytes, member: Member, path: str) -> bytes:
    """Return the content of a member from its bytes; raise `DamagedError` if its checksum is another."""
    if member.method == ZIP_DEFLATED:
        check_memory(member.whole, StoreError, what="a member of a zip", path=path, hint=_AGAIN)
        try:
            data = zlib.decompressobj(-15).decompress(data, max(1, member.whole))
        except zlib.error as error:
            raise DamagedError(f"{path}: does not inflate ({error})", path=path, hint=_AGAIN) from error
    elif member.method != ZIP_STORED:
        message = f"{path}: is compressed by method {member.method} of zip, which is not read"
        raise StoreError(message, path=path, hint="Unpack the file, and open the directory")
    if len(data) != member.whole or zlib.crc32(data) != member.crc:
        raise DamagedError(f"{path}: its checksum in the zip does not match", path=path, hint=_AGAIN)
    return data


def _cut(name: str, inner: str) -> DamagedError:
    message = f"{name}/{inner}: there is no member where the directory of the zip says, so it is damaged"
    return DamagedError(message, path=name, key=inner, hint=_AGAIN)


class ArchiveFile:
    """A zip on a local disk, as it was when it was opened; any number of threads and processes read from it."""

    __slots__ = ("file", "members")

    def __init__(self, path: str) -> None:
        """Read the directory of a zip by its absolute path; raise `DamagedError` or `StoreError` if it is not one."""
        self.file = FileId.of(path)
        with open_binary(path) as opened:
            self.members = _listed(opened, path)
        self.file.check()

    def __reduce__(self) -> tuple[Any, ...]:
        return ArchiveFile, (self.file.path,)

    def __hash__(self) -> int:
        return hash(self.file)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArchiveFile) and self.file == other.file

    def place(self, inner: str) -> tuple[int, int]:
        """Return offset and length of the bytes of a member; raise `FileNotFoundError` if there is none."""
        member = self._member(inner)
        start = member.start
        if start is None:
            start = member.start_after(self.file.read(member.header, _HEADER).tobytes())
        if start is None or start + member.size > self.file.size:
            raise _cut(self.file.path, inner)
        return start, member.size

    def read(self, inner: str) -> bytes:
        """Return the content of a member, its checksum compared; raise `FileNotFoundError` if there is none."""
        path = f"{self.file.path}/{inner}"
        member = self._member(inner)
        check_memory(member.size, StoreError, what="a member of a zip", path=path, hint=_AGAIN)
        return _inflated(self.file.read(*self.place(inner)).tobytes(), member, path)

    def refuse_compressed(self, path: str) -> None:
        """Raise `StoreError` if chunks below a path are compressed by the zip."""
        _refuse_compressed(self.members, self.file.path, path)

    async def get_async(self, inner: str, start: int | None = None, stop: int | None = None) -> Any:
        """Return bytes of a member, as `RemoteStore.get_async` does."""
        if inner not in self.members:
            return None
        if start is None:
            return memoryview(self.read(inner))
        offset, size = self.place(inner)
        first, last = _within(start, stop, size)
        return memoryview(self.file.read(offset + first, last - first).tobytes())

    def _member(self, inner: str) -> Member:
        try:
            return self.members[inner]
        except KeyError:
            raise FileNotFoundError(f"{self.file.path}/{inner}") from None


def _within(start: int, stop: int | None, size: int) -> tuple[int, int]:
    if start < 0:
        return max(0, size + start), size
    return min(start, size), size if stop is None else min(stop, size)


def read_file(path: str) -> bytes:
    """Return the content of a file, which may be a member of a zip; raise `FileNotFoundError` if there is none."""
    try:
        return read_bytes(path)
    except NotADirectoryError:
        inside = next((p for p in Path(path).parents if p.is_file()), None)
        if inside is None:
            raise FileNotFoundError(path) from None
        return ArchiveFile(str(inside)).read(Path(path).relative_to(inside).as_posix())


Look: TypeAlias = Callable[[Hashable, Callable[[], Range], Callable[[Landed], Any]], Any]
"""What tells what was found in bytes: see `arrays.Tables.look`."""


class ArchiveObject:
    """A zip in a bucket or on a web server, as it was when it was opened."""

    __slots__ = ("members", "path", "size", "store", "tag")

    def __init__(self, store: RemoteStore, path: str) -> None:
        """Fetch the directory of a zip, with one request if it is short."""
        self.store, self.path = store, path
        data, info = store.get(path, -_TAIL_BYTES)
        self.size, self.tag = (info.size if info.size >= 0 else store.head(path).size), info.tag
        self.members = _listed(io.BufferedReader(_Tail(self, data.tobytes())), store.url(path))

    def place(self, inner: str, look: Look) -> tuple[int, int] | None:
        """Return offset and length of the bytes of a member that exists; None if its header must be fetched first."""
        member = self.members[inner]
        start = member.start
        if start is None:
            key = self.store.identity, self.store.url(self.path), self.tag, member.header
            start = look(key, partial(self._header, member), partial(self._parse, inner))
        return None if start is None else (start, member.size)

    def _header(self, member: Member) -> Range:
        return Range(self.store, self.path, member.header, member.header + _HEADER, self.tag)

    def _parse(self, inner: str, landed: Landed) -> int:
        member = self.members[inner]
        start = member.start_after(landed.data.tobytes())
        if start is None or start + member.size > self.size:
            raise _cut(self.store.url(self.path), inner)
        return start

    def range(self, start: int, stop: int) -> Range:
        """Return a range of its bytes."""
        return Range(self.store, self.path, start, stop, self.tag, version=self.tag)

    def read(self, inner: str) -> bytes:
        """Return the content of a member, its checksum compared; raise `FileNotFoundError` if there is none."""
        path = f"{self.store.url(self.path)}/{inner}"
        if (member := self.members.get(inner)) is None:
            raise FileNotFoundError(path)
        check_memory(member.size, StoreError, what="a member of a zip", path=path, hint=_AGAIN)
        start = member.start
        if start is None:
            header = self.store.get(self.path, member.header, member.header + _HEADER)[0]
            start = member.start_after(header.tobytes())
        if start is None or start + member.size > self.size:
            raise _cut(self.store.url(self.path), inner)
        data = self.store.get(self.path, start, start + member.size)[0].tobytes() if member.size else b""
        return _inflated(data, member, path)

    def refuse_compressed(self, path: str) -> None:
        """Raise `StoreError` if chunks below a path are compressed by the zip."""
        _refuse_compressed(self.members, self.store.url(self.path), path)

    async def get_async(self, inner: str, start: int | None = None, stop: int | None = None) -> Any:
        """Return bytes of a member, as `RemoteStore.get_async` does."""
        if (member := self.members.get(inner)) is None:
            return None
        if start is None:
            return memoryview(await asyncio.to_thread(self.read, inner))
        at = member.start
        if at is None:
            header = await self.store.get_async(self.path, member.header, member.header + _HEADER)
            at = None if header is None else member.start_after(header.tobytes())
        first, last = _within(start, stop, member.size)
        data = None if at is None else await self.store.get_async(self.path, at + first, at + last)
        if data is None:
            raise _cut(self.store.url(self.path), inner)
        return data


class _Tail(io.RawIOBase):
    """The end of a remote file, for `zipfile` to read from; what is before it is fetched when it is asked for."""

    def __init__(self, archive: ArchiveObject, data: bytes) -> None:
        self._archive, self._data, self._at = archive, data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._archive.size)[whence]
        if self._at < 0:
            raise ValueError("before the beginning of the file")
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, out: Any) -> int:
        archive = self._archive
        first = archive.size - len(self._data)
        if self._at < first:  # a long directory: all of it, with one more request
            self._data = archive.store.get(archive.path, self._at, first)[0].tobytes() + self._data
            first = self._at
        found = self._data[self._at - first : self._at - first + len(out)]
        out[: len(found)] = found
        self._at += len(found)
        return len(found)


def pack(folder: Path, file: Path) -> None:
    """
    Write the directory of an OME-Zarr store as an `.ozx`, as RFC-9 recommends; files are removed once they are in it.

    Metadata come first, breadth first. Sizes have 64 bits, and the comment of the zip says what it is.
    """
    root = json.loads((folder / "zarr.json").read_bytes())
    comment = {
        "ome": {"version": root["attributes"]["ome"]["version"], "zipFile": {"centralDirectory": {"jsonFirst": True}}}
    }
    with ZipFile(file, "w", ZIP_STORED) as out:
        out.comment = json.dumps(comment).encode()
        for inner in sorted(_inside(folder), key=_order):
            path = folder / inner
            info = ZipInfo(inner)  # without the time, so that the same pixels make the same file
            info.external_attr = 0o644 << 16
            info.file_size = path.stat().st_size
            with path.open("rb") as source, out.open(info, "w", force_zip64=True) as target:
                copyfileobj(source, target, 1 << 20)
            path.unlink()


def _inside(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _order(inner: str) -> tuple[bool, int, tuple[tuple[int, str], ...]]:
    parts = inner.split("/")
    natural = tuple((int(p) if p.isdigit() else -1, p) for p in parts)
    return parts[-1] != "zarr.json", len(parts) if parts[-1] == "zarr.json" else 0, natural
