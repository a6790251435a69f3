"""TIFFs that no library writes: the bytes of one page, from its tags and segments."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

FORMATS = {1: "B", 3: "H", 4: "I", 5: "II"}
"""Types of tags to characters of struct."""


def tiff_bytes(
    tags: Mapping[int, tuple[int, Sequence[int]]], segments: Sequence[bytes] = (), tiled: bool = False
) -> bytes:
    """Return a TIFF with these tags (code to type and values); offsets and sizes of the segments are added."""
    body = bytearray(8)
    offsets = []
    for segment in segments:
        offsets.append(len(body))
        body += segment + b"\0" * (len(segment) % 2)
    places = (324, 325) if tiled else (273, 279)
    given = dict(zip(places, ((4, offsets), (4, [len(s) for s in segments])), strict=True)) if segments else {}
    directory = bytearray()
    for code, (kind, values) in sorted({**given, **tags}.items()):
        data = struct.pack(f"<{len(values)}{FORMATS[kind][0]}", *values)
        count = len(values) // len(FORMATS[kind])
        if len(data) > 4:
            at = len(body)
            body += data + b"\0" * (len(data) % 2)
            data = struct.pack("<I", at)
        directory += struct.pack("<HHI", code, kind, count) + data.ljust(4, b"\0")
    struct.pack_into("<2sHI", body, 0, b"II", 42, len(body))
    return bytes(body + struct.pack("<H", len(directory) // 12) + directory + bytes(4))


def gray_tags(height: int, width: int, rows: int, compression: int = 1) -> dict[int, tuple[int, list[int]]]:
    """Return tags of a gray image of 8 bits in strips."""
    sizes = {256: (4, [width]), 257: (4, [height]), 278: (4, [rows])}
    return {**sizes, 258: (3, [8]), 259: (3, [compression]), 262: (3, [1]), 277: (3, [1])}
