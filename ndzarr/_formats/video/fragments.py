"""
Fragmented MP4 in buckets and on web servers: what tells where its frames are, fetched without them.

Such a file is a chain of boxes (ISO 14496-12): `moov`, which says that fragments follow (`mvex`), then pairs of `moof`,
the table of a fragment, and `mdat`, its frames.  FFmpeg walks the chain, and would wait for each link.  Two boxes name
the links beforehand, where they are written: `sidx`, the index of segments, and `mfra`, at the end of the file.  Those
are asked for together, and then what they did not name is walked to.  FFmpeg finds all of it fetched.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from ndzarr._remote.files import RemotePath, RemoteReader

_AHEAD = 4 << 10
"""Bytes that are asked for of a fragment: the tables of most are shorter."""
_BEFORE = 256
"""Bytes before a `moof` that are asked for with it: a segment begins with short boxes, which `mfra` passes over."""
_MOST_BYTES = 64 << 20
"""Bytes of tables beyond which FFmpeg walks the chain."""
_FRAMES = (b"mdat", b"free", b"skip")
"""Boxes that are passed over."""
_MFRO = 16
"""Bytes of the last box of `mfra`, which holds the length of that in the last 4."""


def fetch_tables(path: RemotePath) -> None:
    """Fetch everything but the frames of a fragmented MP4, once; nothing of other files."""
    if path.mapped is None:
        path.mapped = False
        if path.opened.first[4:8].tobytes() == b"ftyp":
            path.mapped = _walk(path.reader(), path.opened.file.size)


def _walk(reader: RemoteReader, size: int) -> bool:
    """Return True if all but the frames of a fragmented file is fetched."""
    at, fetched, fragmented = 0, 0, False
    while at + 8 <= size:
        head = _held(reader, at, 16, size)
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1:
            [length] = struct.unpack(">Q", head[8:16])
        length = length or size - at
        if length < 8 or at + length > size:
            return False
        if kind in _FRAMES:
            if not fragmented and kind == b"mdat":
                return False
        else:
            fetched += length
            if fetched > _MOST_BYTES:
                return False
            box = _held(reader, at, length, size)
            if kind == b"moov":
                if not any(inner == b"mvex" for inner, _ in _boxes(box)):
                    return False
                fragmented = True
                _hold(reader, _random_access(reader, size))
            elif kind == b"sidx":
                _hold(reader, _segments(box, at + length))
        at += length
    return fragmented


def _hold(reader: RemoteReader, fragments: Sequence[int]) -> None:
    """Fetch the tables of fragments that begin at bytes of the file, in one flight."""
    reader.hold([(max(0, k - _BEFORE), k + _AHEAD) for k in fragments[: _MOST_BYTES // _AHEAD]])


def _held(reader: RemoteReader, at: int, length: int, size: int) -> bytes:
    """Return bytes of the file."""
    stop = min(at + length, size)
    if not reader.holds(at, stop):
        reader.hold([(at, max(stop, min(at + _AHEAD, size)))])
    reader.seek(at)
    return reader.read(stop - at)


def _boxes(box: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (kind, content) of the boxes within a box."""
    at = 8
    while at + 8 <= len(box):
        length, kind = struct.unpack_from(">I4s", box, at)
        yield kind, box[at + 8 : at + max(8, length)]
        at += max(8, length)


def _random_access(reader: RemoteReader, size: int) -> list[int]:
    """Return where the `mfra` at the end of a file says that fragments begin; [] if it has none."""
    tail = _held(reader, max(0, size - _AHEAD), _AHEAD, size)
    length = int.from_bytes(tail[-4:], "big")
    if tail[-_MFRO + 4 : -_MFRO + 8] != b"mfro" or not _MFRO + 8 <= length <= min(size, _MOST_BYTES):
        return []
    found = set[int]()
    for kind, table in _boxes(_held(reader, size - length, length, size)):
        if kind == b"tfra" and len(table) >= 16:
            wide = table[0]
            sizes, count = struct.unpack_from(">II", table, 8)
            step = (16 if wide else 8) + sum((sizes >> shift & 3) + 1 for shift in (0, 2, 4))
            form = struct.Struct(">8xQ" if wide else ">4xI")
            entries = min(count, (len(table) - 16) // step)
            found |= {form.unpack_from(table, 16 + k * step)[0] for k in range(entries)}
    return sorted(k for k in found if k < size)


def _segments(box: bytes, end: int) -> Sequence[int]:
    """Return where the segments begin that a `sidx` names, which ends at a byte of the file."""
    if len(box) < 32:
        return []
    wide = box[8]
    offset = struct.unpack_from(">Q", box, 28)[0] if wide else struct.unpack_from(">I", box, 24)[0]
    start = 40 if wide else 32
    [count] = struct.unpack_from(">H", box, start - 2)
    at, out = end + offset, []
    for k in range(min(count, (len(box) - start) // 12)):
        out.append(at)
        at += struct.unpack_from(">I", box, start + 12 * k)[0] & 0x7FFFFFFF
    return out
