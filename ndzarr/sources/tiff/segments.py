"""How do the segments that a window touches get into the output, fast and in little memory?

1. Each segment that overlaps the window is a task; tasks run in a few threads, as decoders and file reads release
   Python's lock.
2. Plain pixels are not decoded: only the rows wanted are read, straight into the output where it has the same layout,
   else through a buffer that fits the processor's cache.
3. Other segments are decoded by tifffile and the part wanted is copied.  A large strip that is only used in part is
   kept, as the next window will want the rest.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ndzarr.errors import SourceError
from ndzarr.sources.base import Pixels
from ndzarr.sources.tiff.frame import FrameFormat, SegmentTable

_BUFFER = 1 << 20
"""Bytes read at a time where they cannot go straight into the output."""
_DIRECT = 4 << 20
"""Bytes read at a time where they can."""
_FAR = 1 << 14
"""Bytes between rows from which it is cheaper to read the part wanted of each than all of them."""
_KEEP = 4 << 20
"""Decoded bytes from which a strip is kept."""
_ALONE = 1 << 20
"""Output bytes up to which plain reads are not worth a thread."""
_MOST_THREADS = 8


class Request(NamedTuple):
    """A window of one frame."""

    table: SegmentTable
    """Where the segments of the frame are."""
    window: tuple[slice, slice, slice, slice]
    """Samples, depth, rows, columns."""
    out: Pixels
    """Where pixels go: axes samples, depth, rows, columns; any strides."""


class SegmentReader:
    """Reads windows of frames of one format."""

    def __init__(self, path: str, form: FrameFormat, fill: float) -> None:
        """
        Read frames of a format.

        Parameters
        ----------
        path
            What errors call the file.
        fill
            Value of pixels that are not stored.
        """
        self._path, self._form, self._fill = path, form, fill
        self._threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
        self._lock = threading.Lock()
        self._kept: tuple[tuple[str, int], Pixels] | None = None

    def read(self, requests: list[Request]) -> None:
        """Fill the outputs of all requests."""
        tasks = [task for request in requests for task in self._tasks(request)]
        size = sum(request.out.nbytes for request in requests)
        threads = min(self._threads, len(tasks))
        if threads < 2 or (self._form.plain is not None and size <= _ALONE):
            for task in tasks:
                task()
            return
        pool = ThreadPoolExecutor(threads, thread_name_prefix="ndzarr-tiff")
        try:
            for _ in pool.map(lambda task: task(), tasks):
                pass
        finally:
            pool.shutdown(cancel_futures=True)

    def forget(self) -> None:
        """Release what was kept."""
        with self._lock:
            self._kept = None

    def _tasks(self, request: Request) -> Iterator[Callable[[], None]]:
        table, window, out = request
        for s in _range(window[0]) if self._form.shape[0] > 1 else (0,):
            here, samples = out, window[0]
            if self._form.shape[0] > 1:  # a plane per sample
                here, samples = out[s - window[0].start : s - window[0].start + 1], slice(0, 1)
            if table.together:
                yield from self._rows_of_strips(table, s, (samples, *window[1:]), here)
            else:
                yield from self._segments(table, s, (samples, *window[1:]), here)

    def _rows_of_strips(
        self, table: SegmentTable, s: int, window: tuple[slice, ...], out: Pixels
    ) -> Iterator[Callable[[], None]]:
        """Tasks for rows of plain strips that lie one after the other."""
        samples, depths, y, x = window
        row = self._form.shape[3] * self._form.pixel_bytes
        step = max(1, (_DIRECT if _whole(out[:, 0], self._form) else _BUFFER) // row)
        for d in _range(depths):
            start = int(table.offsets[s, d, 0, 0])
            for top in range(y.start, y.stop, step):
                part = slice(top, min(top + step, y.stop))
                target = out[:, d - depths.start, part.start - y.start : part.stop - y.start]
                yield partial(self._plain, table, start, part, self._form.shape[3], samples, x, target)

    def _segments(
        self, table: SegmentTable, s: int, window: tuple[slice, ...], out: Pixels
    ) -> Iterator[Callable[[], None]]:
        """Tasks for one segment each."""
        samples, *box = window
        cuts = [list(_overlaps(w, n)) for w, n in zip(box, self._form.segment, strict=True)]
        for di, d_in, d_out in cuts[0]:
            for yi, y_in, y_out in cuts[1]:
                for xi, x_in, x_out in cuts[2]:
                    at = (s, di, yi, xi)
                    target = out[:, d_out, y_out, x_out]
                    if table.file is None or not table.counts[at]:
                        target[...] = self._fill
                    elif self._form.plain is None:
                        yield partial(self._decode, table, at, (d_in, y_in, x_in, samples), target)
                    else:
                        yield partial(self._plain_segment, table, at, (samples, d_in, y_in, x_in), target)

    def _plain_segment(
        self, table: SegmentTable, at: tuple[int, ...], window: tuple[slice, slice, slice, slice], out: Pixels
    ) -> None:
        samples, depths, y, x = window
        _, rows, columns = self._form.segment
        for d in _range(depths):
            start = int(table.offsets[at]) + d * rows * columns * self._form.pixel_bytes
            self._plain(table, start, y, columns, samples, x, out[:, d - depths.start])

    def _plain(
        self, table: SegmentTable, start: int, y: slice, columns: int, samples: slice, x: slice, out: Pixels
    ) -> None:
        """Read rows `y` of `columns` pixels that begin at byte `start`; `out` has axes samples, rows, columns."""
        assert table.file is not None
        assert self._form.plain is not None
        pixel = self._form.pixel_bytes
        row = columns * pixel
        first = start + y.start * row
        target = out.transpose(1, 2, 0)  # (rows, columns, samples)
        if x.stop - x.start == columns and _whole(out, self._form):
            table.file.read_into(first, target)
            if not self._form.plain.isnative:
                target.byteswap(inplace=True)
            return
        if row >= _FAR and (x.stop - x.start) * 4 < columns:
            buffer = np.empty((x.stop - x.start, self._form.shape[4]), self._form.plain)
            for i, line in enumerate(target):
                table.file.read_into(first + i * row + x.start * pixel, buffer)
                line[...] = buffer[:, samples]
            return
        step = max(1, _BUFFER // row)
        lines = np.empty((min(step, len(target)), columns, self._form.shape[4]), self._form.plain)
        for i in range(0, len(target), step):
            part = target[i : i + step]
            table.file.read_into(first + i * row, lines[: len(part)])
            part[...] = lines[: len(part), x, samples]

    def _decode(self, table: SegmentTable, at: tuple[int, ...], window: tuple[slice, ...], out: Pixels) -> None:
        pixels = self._decoded(table, at, window)[window]
        if pixels.shape != (*out.shape[1:], out.shape[0]) or not np.can_cast(pixels.dtype, self._form.dtype):
            raise self._damaged(at, f"decodes to {pixels.dtype} pixels of shape {pixels.shape}")
        out[...] = pixels.transpose(3, 0, 1, 2)

    def _decoded(self, table: SegmentTable, at: tuple[int, ...], window: tuple[slice, ...]) -> Pixels:
        """A segment, axes depth, rows, columns, samples."""
        assert table.file is not None
        key = (table.file.path, int(table.offsets[at]))
        kept = self._kept
        if kept is not None and kept[0] == key:
            return kept[1]
        data = table.file.read(key[1], int(table.counts[at]))
        number = int(np.ravel_multi_index(at, self._form.grid))
        extra: dict[str, Any] = {}
        if self._form.jpeg:
            extra = {"jpegtables": table.jpegtables, "jpegheader": self._form.jpegheader}
        try:
            pixels = self._form.decode(data, number, **extra)[0]
        except Exception as error:  # each codec has errors of its own
            raise self._damaged(at, f"does not decode ({error})") from error
        if pixels is None:
            raise self._damaged(at, "decodes to nothing")
        in_part = window[1].stop - window[1].start < pixels.shape[1]
        if not self._form.tiled and in_part and pixels.nbytes >= _KEEP:
            with self._lock:
                self._kept = key, pixels
        return pixels

    def _damaged(self, at: tuple[int, ...], found: str) -> SourceError:
        kind = "tile" if self._form.tiled else "strip"
        top, left = at[2] * self._form.segment[1], at[3] * self._form.segment[2]
        found = " ".join(found.split())
        return SourceError(
            f"{self._path}: the {kind} at row {top}, column {left} {found}; the TIFF is damaged or uses a compression "
            f"that is not supported, convert or fetch it again"
        )


def _range(part: slice) -> range:
    return range(part.start, part.stop)


def _whole(out: Pixels, form: FrameFormat) -> bool:
    """True if pixels in the file's order fill `out`, axes samples, rows, columns, without gaps."""
    return out.shape[0] == form.shape[4] and out.transpose(1, 2, 0).flags.c_contiguous and prod(out.shape) > 0


def _overlaps(window: slice, step: int) -> Iterator[tuple[int, slice, slice]]:
    """(segment, part of it, part of the window) for the segments of length `step` that a window touches."""
    for i in range(window.start // step, -(-window.stop // step)):
        start, stop = max(window.start, i * step), min(window.stop, (i + 1) * step)
        yield i, slice(start - i * step, stop - i * step), slice(start - window.start, stop - window.start)
