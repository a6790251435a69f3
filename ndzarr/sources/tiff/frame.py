"""Where are the segments of a TIFF's frames in the file, and how does one decode?

A frame is a page, or one of many images that lie one after the other behind a single page (ImageJ and tifffile write
stacks so).  All frames of a series share one `FrameFormat`; each has a `SegmentTable`.  `Frames` makes tables when they
are needed, and refuses those that point behind the end of the file.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ndzarr.errors import SourceError
from ndzarr.sources.base import Pixels, reason
from ndzarr.sources.bytefile import ByteFile
from ndzarr.sources.tiff.decoding import Decode, segment_decoder
from ndzarr.sources.tiff.quiet import listening, refuse_missing

_JPEG = (6, 7, 34892, 33007)
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
        jpeg=keyframe.compression in _JPEG,
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
