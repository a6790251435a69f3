"""How do the segments that a window touches get into the output, fast and in little memory?

1. Each segment that overlaps the window is a task; tasks run in a few threads, as decoders and file reads release
   Python's lock.
2. Plain pixels are not decoded: only the rows wanted are read (`plain`).
3. Other segments are decoded by tifffile and the part wanted is copied.  A large strip that is only used in part is
   kept, as the next window will want the rest.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, NamedTuple, TypeAlias

import imagecodecs
import numpy as np

from ndzarr._files import ByteFile
from ndzarr._formats.base import Pixels, reason
from ndzarr._formats.tiff.metadata import listening, refuse_missing
from ndzarr.errors import SourceError

# --- How does a segment of a TIFF decode, where tifffile's decoder does not give what libtiff gives?


Decode: TypeAlias = Callable[..., tuple[Pixels | None, Any, Any]]
"""Takes bytes and the number of a segment; the first that it returns has axes depth, rows, columns, samples."""
_JPEG, _LERC = 7, 34887
_RGB, _APART = 2, 2
"""Photometric interpretation and planar configuration."""
_GRAY = 1
"""What imagecodecs calls gray."""


def segment_decoder(page: Any) -> Decode:
    """The decoder of the segments of a page, with the interface of tifffile's."""
    compression, apart = int(page.compression), int(page.planarconfig) == _APART
    if compression == _LERC:
        return _lerc(1 if apart else int(page.samplesperpixel))
    if compression == _JPEG and apart and int(page.photometric) == _RGB:
        return _gray_jpeg
    decode: Decode = page.decode
    return decode


def _lerc(samples: int) -> Decode:
    def decode(data: bytes, number: int, **extra: Any) -> tuple[Pixels, None, None]:
        values, mask = imagecodecs.lerc_decode(data, masks=True)
        return _with_missing(values, mask, samples)[None], None, None

    return decode


def _with_missing(values: Pixels, mask: Pixels | None, samples: int) -> Pixels:
    """Rows, columns, samples, from what LERC keeps."""
    if values.ndim == 2:
        values = values[..., None]
    elif values.shape[-1] not in (samples, samples - 1) or (mask is not None and mask.ndim == 3):
        values = np.moveaxis(values, 0, -1)
        mask = None if mask is None else np.moveaxis(mask, 0, -1)
    if values.shape[-1] == samples - 1 and values.dtype == np.uint8:
        alpha = np.full((*values.shape[:2], 1), 255, np.uint8) if mask is None else mask[..., None] * np.uint8(255)
        return np.concatenate([values, alpha], axis=-1)
    if mask is None or values.dtype.kind != "f":
        return values
    return np.where(mask[..., None] if mask.ndim == 2 else mask, values, values.dtype.type(np.nan))


def _gray_jpeg(
    data: bytes, number: int, *, jpegtables: bytes | None = None, jpegheader: bytes | None = None
) -> tuple[Pixels, None, None]:
    pixels = imagecodecs.jpeg_decode(data, tables=jpegtables, header=jpegheader, outcolorspace=_GRAY)
    return pixels[None, ..., None], None, None


# --- Where are the segments of a TIFF's frames in the file, and how does one decode?


_FRAME_JPEG = (6, 7, 34892, 33007)
"""Compressions whose segments need tables that are stored apart."""
_PLAIN_BITS = (8, 16, 32, 64, 128)
_COMPLEX_INTEGER = 5
_KEPT_TABLES = 16


@dataclass(frozen=True, slots=True, eq=False)
class FrameFormat:
    """What all frames of a series have in common."""

    shape: tuple[int, int, int, int, int]
    """Samples stored apart, planes in depth, rows, columns, samples stored together."""
    segment: tuple[int, int, int]
    """Planes, rows and columns of a segment: a tile, or a strip as wide as the frame."""
    tiled: bool
    """True for tiles, which are whole at the border; the last strip may be shorter."""
    dtype: np.dtype[Any]
    """Of decoded pixels."""
    stored: np.dtype[Any] | None
    """The dtype in the file, byte order included, if pixels are stored as they are; else None."""
    decode: Decode
    """The decoder of this kind of segment."""
    jpegheader: bytes | None
    """What goes before each JPEG segment in NDPI files."""
    jpeg: bool
    """True if the decoder wants JPEG tables."""

    @property
    def grid(self) -> tuple[int, int, int, int]:
        """Number of segments along samples stored apart, depth, rows, columns."""
        n = [-(-length // step) for length, step in zip(self.shape[1:4], self.segment, strict=True)]
        return self.shape[0], n[0], n[1], n[2]

    @property
    def is_plain(self) -> bool:
        """True if pixels are stored as they are."""
        return self.stored is not None

    @property
    def swapped(self) -> bool:
        """True if plain pixels have the other byte order."""
        return self.stored is not None and not self.stored.isnative

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel, with all samples that are stored together."""
        return self.dtype.itemsize * self.shape[4]

    def needed(self) -> Pixels:
        """Bytes of each segment if it is plain, shape `grid`."""
        out = np.full(self.grid, prod(self.segment) * self.pixel_bytes, np.int64)
        if not self.tiled:
            last = self.shape[2] - (self.grid[2] - 1) * self.segment[1]
            out[:, :, -1] = last * self.segment[2] * self.pixel_bytes
        return out


@dataclass(frozen=True, slots=True, eq=False)
class SegmentTable:
    """Where the segments of one frame are."""

    file: ByteFile | None
    """Where they are read from; None if the whole frame is missing."""
    offsets: Pixels
    """First byte, shape `FrameFormat.grid`."""
    counts: Pixels
    """Number of bytes; 0 where nothing is stored."""
    jpegtables: bytes | None
    """What goes before each JPEG segment."""
    together: bool
    """True for plain strips that lie one after the other, so that any rows can be read at once."""


def frame_format(path: str, keyframe: Any) -> FrameFormat:
    """Describe frames like this page."""
    if keyframe.dtype is None:
        raise SourceError(
            f"{path}: pixels of {keyframe.bitspersample} bits in sample format {keyframe.sampleformat} are not "
            f"supported; convert the file to 8, 16, 32 or 64 bits first"
        )
    if keyframe.is_tiled:
        segment = (keyframe.tiledepth, keyframe.tilelength, keyframe.tilewidth)
    else:
        segment = (1, keyframe.rowsperstrip, keyframe.imagewidth)
    if min(segment) < 1:
        raise SourceError(f"{path}: its tiles or strips are {segment[2]} x {segment[1]} pixels; write it again")
    return FrameFormat(
        shape=tuple(int(n) for n in keyframe.shaped),  # type: ignore[arg-type]
        segment=segment,
        tiled=keyframe.is_tiled,
        dtype=np.dtype(keyframe.dtype).newbyteorder("="),
        stored=_stored(keyframe),
        decode=segment_decoder(keyframe),
        jpegheader=getattr(keyframe, "jpegheader", None),
        jpeg=keyframe.compression in _FRAME_JPEG,
    )


def _stored(page: Any) -> np.dtype[Any] | None:
    stored_as_is = (
        page.compression == 1
        and page.predictor == 1
        and page.fillorder == 1
        and page.bitspersample in _PLAIN_BITS
        and page.sampleformat != _COMPLEX_INTEGER
        and not page.is_subsampled
    )
    order = {"<": "little", ">": "big"}[page.parent.byteorder]
    dtype = np.dtype(page.dtype).newbyteorder("=")
    return (dtype if order == sys.byteorder else dtype.newbyteorder("S")) if stored_as_is else None


class Frames:
    """The frames of a series."""

    def __init__(self, path: str, tif: Any, series: Any, form: FrameFormat, count: int) -> None:
        """
        Look up frames in an open file.

        Parameters
        ----------
        tif, series
            tifffile's; kept open while there are frames whose directory was not read.
        count
            Number of frames.
        """
        self._path, self._tif, self._series, self.form = path, tif, series, form
        self._lock = threading.Lock()
        self._files: dict[str, ByteFile] = {}
        self._tables: dict[int, SegmentTable] = {}
        self._start = self._stack_start(count)
        self._count = count
        for frame in {0, count - 1}:
            self.table(frame)

    def table(self, frame: int) -> SegmentTable:
        """Where the segments of a frame are; from any thread."""
        with self._lock:
            found = self._tables.get(frame)
            if found is None:
                if len(self._tables) >= _KEPT_TABLES:
                    self._tables.clear()
                found = self._tables[frame] = self._make(frame)
            return found

    def settle(self) -> None:
        """Close tifffile's handle if it is not needed any more."""
        if self._count <= 2:
            self._tif.close()

    def close(self) -> None:
        """Release files."""
        with self._lock:
            self._tif.close()
            for file in self._files.values():
                file.close()

    def _stack_start(self, count: int) -> int | None:
        """Where the pixels of a stack behind a single page begin; None if every frame has a page."""
        if count <= len(self._series) and self._series.kind != "imagej":
            return None
        start = self._series.dataoffset if self.form.is_plain else None
        if start is None and count > len(self._series):
            raise SourceError(
                f"{self._path}: it announces {count} frames but has {len(self._series)} pages; it is truncated or "
                f"damaged, fetch or write it again"
            )
        return None if start is None else int(start)

    def _make(self, frame: int) -> SegmentTable:
        form = self.form
        if self._start is not None:
            needed = form.needed()
            before = np.cumsum(needed) - needed.reshape(-1)
            offsets = self._start + frame * int(needed.sum()) + before.reshape(needed.shape)
            return self._checked(frame, self._file(self._path), offsets, needed, None)
        page, offsets, counts = self._page(frame)
        if page is None:
            nothing = np.zeros(form.grid, np.int64)
            return SegmentTable(None, nothing, nothing, None, False)
        number = prod(form.grid)
        offsets, counts = offsets[:number], counts[:number]
        if len(offsets) < number or len(counts) < number:
            raise self._damaged(frame, f"has {len(offsets)} offsets and {len(counts)} sizes for {number} segments")
        if min(offsets.min(), counts.min()) < 0:
            raise self._damaged(frame, "has segments of negative size or offset")
        needed = form.needed()
        offsets, counts = offsets.reshape(form.grid), np.where(offsets > 0, counts, 0).reshape(form.grid)
        if form.is_plain:
            stored = counts > 0
            if number > 1 and (counts[stored] < needed[stored]).any():
                raise self._damaged(frame, "has segments that are smaller than their pixels")
            counts = np.where(stored, needed, 0)  # a single strip of more than 4 GB has a wrong size in classic TIFF
        tables = page.jpegtables if form.jpeg else None
        return self._checked(frame, self._file(page.parent.filehandle.path), offsets, counts, tables)

    def _checked(
        self, frame: int, file: ByteFile, offsets: Pixels, counts: Pixels, tables: bytes | None
    ) -> SegmentTable:
        end = int((offsets + counts)[counts > 0].max(initial=0))
        if end > file.size:
            raise self._damaged(frame, f"has pixels up to byte {end}, but the file ends at {file.size}")
        flat, sizes = offsets.reshape(-1), counts.reshape(-1)
        together = (
            self.form.is_plain
            and not self.form.tiled
            and bool((sizes > 0).all())
            and bool((flat[:-1] + sizes[:-1] == flat[1:]).all())
        )
        return SegmentTable(file, offsets, counts, tables, together)

    def _page(self, frame: int) -> tuple[Any, Pixels, Pixels]:
        """A page of tifffile, None if it is missing, with offsets and sizes of its segments."""
        offsets = counts = np.empty(0, np.int64)
        with listening() as messages:
            try:
                page = self._series[frame]
                if page is not None:
                    offsets, counts = (np.asarray(a, np.int64) for a in (page.dataoffsets, page.databytecounts))
            except Exception as error:  # whatever tifffile makes of a damaged directory
                raise self._damaged(frame, f"cannot be found ({reason(error)})") from error
        refuse_missing(self._path, messages)
        return page, offsets, counts

    def _file(self, path: str) -> ByteFile:
        if path not in self._files:
            self._files[path] = ByteFile(path)
        return self._files[path]

    def _damaged(self, frame: int, found: str) -> SourceError:
        return SourceError(
            f"{self._path}: frame {frame} {found}; the TIFF is truncated or damaged, fetch or write it again"
        )


# --- How do pixels that are stored as they are get into the output at the speed of memory?


BUFFER = 1 << 20
"""Bytes read at a time where they cannot go straight into the output."""
DIRECT = 4 << 20
"""Bytes read at a time where they can."""
_FAR = 1 << 14
"""Bytes between rows from which it is cheaper to read the part wanted of each than all of them."""


def read_rows(
    file: ByteFile, form: FrameFormat, start: int, columns: int, window: tuple[slice, slice, slice], out: Pixels
) -> None:
    """
    Read part of a block of rows.

    Parameters
    ----------
    start
        Where the block begins in the file.
    columns
        Pixels in a row of the block.
    window
        Samples, rows and columns of the block.
    out
        Axes samples, rows, columns.
    """
    samples, y, x = window
    row = columns * form.pixel_bytes
    first = start + y.start * row
    target = out.transpose(1, 2, 0)
    if x.stop - x.start == columns and fits(out, form):
        file.read_into(first, target)
        if form.swapped:
            target.byteswap(inplace=True)
    elif row >= _FAR and (x.stop - x.start) * 4 < columns:
        part = np.empty((x.stop - x.start, form.shape[4]), form.stored)
        for i, line in enumerate(target):
            file.read_into(first + i * row + x.start * form.pixel_bytes, part)
            line[...] = part[:, samples]
    else:
        step = max(1, BUFFER // row)
        lines = np.empty((min(step, len(target)), columns, form.shape[4]), form.stored)
        for i in range(0, len(target), step):
            some = target[i : i + step]
            file.read_into(first + i * row, lines[: len(some)])
            some[...] = lines[: len(some), x, samples]


def read_run(file: ByteFile, form: FrameFormat, start: int, samples: slice, y: slice, out: Pixels) -> None:
    """
    Read rows of tiles that are neighbours in the file as in the image.

    Parameters
    ----------
    start
        Where the first tile begins in the file.
    samples, y
        What is wanted of each tile.
    out
        Axes samples, rows, columns; whole tiles wide.
    """
    _, rows, columns = form.segment
    count = out.shape[2] // columns
    tiles = np.empty((count, rows, columns, form.shape[4]), form.stored)
    file.read_into(start, tiles)
    # (samples, rows, tiles * columns) -> (rows, tiles, columns, samples), a view
    target = out.reshape(out.shape[0], out.shape[1], count, columns).transpose(1, 2, 3, 0)
    target[...] = tiles[:, y, :, samples].swapaxes(0, 1)


def fits(out: Pixels, form: FrameFormat) -> bool:
    """True if pixels in the file's order fill `out`, axes samples, rows, columns, without gaps."""
    return out.shape[0] == form.shape[4] and out.transpose(1, 2, 0).flags.c_contiguous


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
