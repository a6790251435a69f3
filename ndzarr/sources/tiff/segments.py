"""How do the segments that a window touches get into the output, fast and in little memory?

1. Each segment that overlaps the window is a task; tasks run in a few threads, as decoders and file reads release
   Python's lock.
2. Plain pixels are not decoded: only the rows wanted are read (`plain`).
3. Other segments are decoded by tifffile and the part wanted is copied.  A large strip that is only used in part is
   kept, as the next window will want the rest.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ndzarr.errors import SourceError
from ndzarr.sources.base import Pixels, reason
from ndzarr.sources.tiff.frame import FrameFormat, SegmentTable
from ndzarr.sources.tiff.plain import BUFFER, DIRECT, fits, read_rows, read_run

_KEEP = 4 << 20
"""Decoded bytes from which a strip is kept."""
_ALONE = 1 << 20
"""Output bytes up to which plain reads are not worth a thread."""
_MOST_THREADS = 8


Window: TypeAlias = tuple[slice, slice, slice, slice]
"""Samples, depth, rows, columns of a frame or a segment."""
Cut: TypeAlias = tuple[int, slice, slice]
"""A segment along one axis, the part of it that is wanted, and where that is in the window."""


class Request(NamedTuple):
    """A window of one frame."""

    table: SegmentTable
    """Where the segments of the frame are."""
    window: Window
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
        if threads < 2 or (self._form.is_plain and size <= _ALONE):
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
        if self._form.shape[0] == 1:
            yield from self._plane(table, 0, window, out)
            return
        for i, s in enumerate(_range(window[0])):  # a plane per sample
            yield from self._plane(table, s, (slice(0, 1), *window[1:]), out[i : i + 1])

    def _plane(self, table: SegmentTable, s: int, window: Window, out: Pixels) -> Iterator[Callable[[], None]]:
        if table.together:
            return self._rows_of_strips(table, s, window, out)
        if self._form.is_plain and self._form.tiled and self._form.segment[0] == 1:
            return self._runs_of_tiles(table, s, window, out)
        return self._segments(table, s, window, out)

    def _rows_of_strips(self, table: SegmentTable, s: int, window: Window, out: Pixels) -> Iterator[Callable[[], None]]:
        """Tasks for rows of plain strips that lie one after the other."""
        assert table.file is not None
        samples, depths, y, x = window
        columns = self._form.shape[3]
        step = max(1, (DIRECT if fits(out[:, 0], self._form) else BUFFER) // (columns * self._form.pixel_bytes))
        for i, d in enumerate(_range(depths)):
            start = int(table.offsets[s, d, 0, 0])
            for top in range(y.start, y.stop, step):
                part = slice(top, min(top + step, y.stop))
                target = out[:, i, part.start - y.start : part.stop - y.start]
                yield partial(read_rows, table.file, self._form, start, columns, (samples, part, x), target)

    def _runs_of_tiles(self, table: SegmentTable, s: int, window: Window, out: Pixels) -> Iterator[Callable[[], None]]:
        """Tasks for plain tiles that are neighbours in the file, and for others one by one."""
        samples, depths, y, x = window
        size = self._form.segment[1] * self._form.segment[2] * self._form.pixel_bytes
        columns = list(_overlaps(x, self._form.segment[2]))
        for i, d in enumerate(_range(depths)):
            for yi, y_in, y_out in _overlaps(y, self._form.segment[1]):
                most = BUFFER // size if 2 * (y_in.stop - y_in.start) >= self._form.segment[1] else 1
                offsets, counts = table.offsets[s, d, yi], table.counts[s, d, yi]
                for run in _runs(columns, offsets, counts, size, most, self._form.segment[2]):
                    xi, x_in, x_out = run[0]
                    target = out[:, i, y_out, slice(x_out.start, run[-1][2].stop)]
                    start = int(offsets[xi])
                    if not counts[xi] or table.file is None:
                        target[...] = self._fill
                    elif len(run) > 1:
                        yield partial(read_run, table.file, self._form, start, samples, y_in, target)
                    else:
                        cut = (samples, y_in, x_in)
                        yield partial(read_rows, table.file, self._form, start, self._form.segment[2], cut, target)

    def _segments(self, table: SegmentTable, s: int, window: Window, out: Pixels) -> Iterator[Callable[[], None]]:
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
                    elif self._form.is_plain:
                        yield partial(self._plain, table, at, (samples, d_in, y_in, x_in), target)
                    else:
                        yield partial(self._decode, table, at, (d_in, y_in, x_in, samples), target)

    def _plain(self, table: SegmentTable, at: tuple[int, ...], window: Window, out: Pixels) -> None:
        assert table.file is not None
        samples, depths, y, x = window
        _, rows, columns = self._form.segment
        for i, d in enumerate(_range(depths)):
            start = int(table.offsets[at]) + d * rows * columns * self._form.pixel_bytes
            read_rows(table.file, self._form, start, columns, (samples, y, x), out[:, i])

    def _decode(self, table: SegmentTable, at: tuple[int, ...], window: tuple[slice, ...], out: Pixels) -> None:
        pixels = self._decoded(table, at, window)[window]
        # Fax decoders return bits as bytes.
        castable = self._form.dtype == bool or np.can_cast(pixels.dtype, self._form.dtype)
        if pixels.shape != (*out.shape[1:], out.shape[0]) or not castable:
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
            raise self._damaged(at, f"does not decode ({reason(error)})") from error
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


def _overlaps(window: slice, step: int) -> Iterator[Cut]:
    """(segment, part of it, part of the window) for the segments of length `step` that a window touches."""
    for i in range(window.start // step, -(-window.stop // step)):
        start, stop = max(window.start, i * step), min(window.stop, (i + 1) * step)
        yield i, slice(start - i * step, stop - i * step), slice(start - window.start, stop - window.start)


def _runs(cuts: list[Cut], offsets: Pixels, counts: Pixels, size: int, most: int, columns: int) -> Iterator[list[Cut]]:
    """Group cuts along x: whole tiles, stored one right after the other, at most so many."""
    run: list[Cut] = []
    next_to_run = -1
    for cut in cuts:
        stored, whole = counts[cut[0]] > 0, cut[1].stop - cut[1].start == columns
        if run and not (stored and whole and len(run) < most and offsets[cut[0]] == next_to_run):
            yield run
            run = []
        run.append(cut)
        next_to_run = int(offsets[cut[0]]) + size if stored and whole else -1
    yield run
