"""Would another way of decoding a chunk pay: other blosc blocks, only the touched rows, another address?"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import google_crc32c
import numcodecs.blosc
import numpy as np

from benchmarks.layouts.chunks import ORDERS, Encoded, Layout, Scratch, encode, placed
from benchmarks.layouts.codecs import Array, Blosc, Delta, Picture, Zstd
from benchmarks.layouts.measurement import Runner, Settings, crop_at, positions, race
from benchmarks.layouts.report import Report
from benchmarks.photographs import photograph


def study_blocksizes(report: Report, settings: Settings) -> None:
    """Does blosc's block size matter?"""
    image = photograph(settings.side, settings.side)
    sizes = (0, 1 << 16) if settings.quick else (0, 1 << 13, 1 << 14, 1 << 15, 1 << 16, 1 << 17, 1 << 18)
    rows = []
    for edge in (128,) if settings.quick else (128, 256):
        encoded = []
        for name, level in (("lz4", 5), ("lz4hc", 4), ("zstd", 3)):
            encoded += [encode(image, Layout(Blosc(name, level, "bitshuffle", size), "planar", edge)) for size in sizes]
        windows = positions(settings.side, 256)
        times = race([crop_at(one, windows, 256) for one in encoded], settings.seconds)
        for one, seconds in zip(encoded, times, strict=True):
            name = one.layout.codec.name
            cells = (_blocksize(one), f"{one.nbytes / one.stored:.2f}", f"{seconds * 1e3:.3f}")
            rows.append([f"edge {edge}, {name}", *cells])
    head = ["codec, block size asked for", "block size got", "ratio", "256 window, ms"]
    report.table("Blosc block sizes (photograph, planar)", head, rows)


def _blocksize(encoded: Encoded) -> int:
    """Return the block size in the header of the first blosc chunk."""
    return int(encoded.data[8:12].view("<u4")[0])


def study_partial(report: Report, settings: Settings) -> None:
    """Idea (a): would decoding only the touched rows of a chunk pay?"""
    public = hasattr(numcodecs.blosc, "decompress_partial")
    report.say(f"\nnumcodecs.blosc.decompress_partial exists: {public}.")
    getitem = _getitem()
    if getitem is None:
        report.say("The library that numcodecs links does not export blosc_getitem either: not measured.")
        return
    image = photograph(settings.side, settings.side)
    windows = positions(settings.side, 256)
    base = encode(image, Layout(Blosc("lz4hc", 4, "bitshuffle"), "planar", 128))
    names, runners, ratios, blocks = ["planar, edge 128, whole chunks"], [crop_at(base, windows, 256)], [base], [base]
    for edge in (128, 256) if settings.quick else (128, 256, 512):
        for codec in (Blosc("lz4hc", 4, "bitshuffle", 1 << 16), Blosc("zstd", 3, "bitshuffle", 1 << 14)):
            one = encode(image, Layout(codec, "rows", edge))
            if not np.array_equal(_partial_crop(getitem, one, one.scratch(), 50, 77, 256), image[:, 50:306, 77:333]):
                raise ValueError(f"blosc_getitem returned other pixels for {one.layout}")
            partly = _partial_at(getitem, one, windows)
            names += [f"rows, edge {edge}, {codec.cname}, {how}" for how in ("whole chunks", "touched rows only")]
            runners += [crop_at(one, windows, 256), partly]
            ratios += [one, one]
            blocks += [one, one]
    times = race(runners, settings.seconds / 2)
    rows = [
        [name, _blocksize(one), f"{one.nbytes / one.stored:.2f}", f"{seconds * 1e3:.3f}"]
        for name, one, seconds in zip(names, ratios, times, strict=True)
    ]
    note = "Chunks stored (y, c, x), so that rows of a window are one run of bytes; blosc_getitem called with ctypes."
    report.table("Idea (a): decoding only the touched rows", ["layout", "block size", "ratio", "256 ms"], rows, note)


def _getitem() -> Any:
    """Return blosc_getitem(src, start, items, dest) of the library inside numcodecs, which is no public interface."""
    try:
        function = ctypes.CDLL(numcodecs.blosc.__file__).blosc_getitem
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    return function


def _partial_crop(getitem: Any, image: Encoded, scratch: Scratch, y: int, x: int, size: int) -> Array:
    """Return a window, decoding of each chunk stored (y, c, x) the touched rows."""
    out = np.empty((image.shape[0], size, size), image.dtype)
    stored, chunk, _ = scratch
    base, target = image.data.ctypes.data, stored.ctypes.data
    items = image.shape[0] * image.layout.edge
    for touch in image.touches(y, x, size):
        start, stop, crc = image.spans[touch.chunk]
        if google_crc32c.value(image.data[start:stop]) != crc:
            raise ValueError(f"chunk {touch.chunk} of {image.layout} is damaged")
        rows, columns = touch.part
        height = rows.stop - rows.start
        getitem(base + start, rows.start * items, height * items, target)
        out[:, touch.place[0], touch.place[1]] = chunk[:, :height, columns]
    return out


def _partial_at(getitem: Any, image: Encoded, windows: Sequence[tuple[int, int]]) -> Runner:
    scratch = image.scratch()
    return lambda turn: _partial_crop(getitem, image, scratch, *windows[turn % len(windows)], 256)


def study_alignment(report: Report, settings: Settings) -> None:
    """Where should the scratch array lie into which chunks are decoded?"""
    image = photograph(settings.side, settings.side)
    codecs = (Blosc("lz4hc", 4, "bitshuffle"), Delta(Zstd(1)), Picture("jpeg8", (("level", 90),), lossless=False))
    offsets = (0, 8, 16, 32, 48)
    rows = []
    for codec in codecs:
        encoded = encode(image, Layout(codec, "interleaved" if isinstance(codec, Picture) else "planar", 128))
        runners = [_decode_and_copy(encoded, offset) for offset in offsets]
        rows.append([codec.name, *(f"{t * 1e6:.1f}" for t in race(runners, settings.seconds / 8))])
    note = "Microseconds to decode a 128 x 128 x 3 chunk and copy it, by the address of the scratch array modulo 64."
    report.table("Alignment of the scratch array", ["codec", *map(str, offsets)], rows, note)


def _decode_and_copy(encoded: Encoded, offset: int) -> Runner:
    stored, chunk, spare = encoded.scratch()
    there = placed(stored.shape, stored.dtype, offset)
    seen = there.transpose(np.argsort(ORDERS[encoded.layout.grouping]))
    out = np.empty_like(chunk, order="C")

    def run(turn: int) -> None:
        encoded.decode_chunk(turn, (there, seen, spare))
        out[:] = seen

    return run
