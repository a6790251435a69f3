"""
Segments of a TIFF: where each tile or strip is in the file, and how its bytes become pixels.

- `FrameFormat` says how all frames of a series are stored.
- `SegmentTable` holds offset and size of every segment, for every frame.
- `Decoder` turns the bytes of one segment into pixels, straight into a buffer where it can.

A segment is a tile, or a strip: a block of whole rows.  Strips of uncompressed pixels may be cut into smaller blocks of
rows (`cut_strips`), so that little memory is needed however large they are.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple, TypeAlias

import imagecodecs
import numpy as np
import tifffile

from ndzarr._files import FileId, buffer
from ndzarr._formats.base import Pixels, reason
from ndzarr._formats.tiff.libtiff import WHOLE
from ndzarr._formats.tiff.metadata import (
    AGAIN,
    SAMPLE_FORMAT,
    FarTables,
    Page,
    Series,
    listening,
    parsing,
    refuse_missing,
)
from ndzarr._remote.files import RemoteFile
from ndzarr._remote.flight import get_ranges
from ndzarr._store.core import PREDICTORS, ChunkFormat
from ndzarr.errors import DamagedError, SourceError

_NONE, _LZW, _JPEG, _DEFLATE, _OLD_DEFLATE, _PACKBITS = 1, 5, 7, 8, 32946, 32773
_LERC, _ZSTD, _OLD_ZSTD = 34887, 34926, 50000
"""Compressions (tag 259)."""
_WITH_TABLES = (6, _JPEG, 34892, 33007)
"""Compressions whose segments need JPEG tables that are stored apart."""
_HORIZONTAL, _FLOATING_POINT = 2, 3  # predictors (tag 317)
_LSB_FIRST = 2  # fill order (tag 266)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6  # photometric interpretation (tag 262)
_APART, _COMPLEX_INTEGER = 2, 5  # planar configuration, sample format
_SEGMENT_BYTES = 4
"""Fewest bytes that a segment takes in the tables of a file: its offset; its size may take 2 bytes, or none."""
_ANY_SEGMENTS = 1 << 22
"""Segments that are believed of a file of any size, because other files may list them; their table takes 64 MiB."""

Decode: TypeAlias = Callable[..., tuple[Pixels | None, Any, Any]]
"""Takes bytes and number of a segment; the first item returned has axes depth, rows, columns, samples."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameFormat:
    """What all frames of a series have in common."""

    shape: tuple[int, int, int, int, int]
    """Samples stored apart, planes in depth, rows, columns, samples stored together."""
    segment: tuple[int, int, int]
    """Planes, rows and columns of a segment."""
    tiled: bool
    """True for tiles, which are whole at the border; the last strip has only the rows that are left."""
    dtype: np.dtype[Any]
    """Type of decoded pixels; native byte order."""
    stored: np.dtype[Any] | None
    """The dtype in the file, with its byte order, if pixels are not encoded; else None."""
    compression: str

    @property
    def grid(self) -> tuple[int, int, int, int]:
        """Number of segments along samples stored apart, depth, rows, columns."""
        n = [-(-length // step) for length, step in zip(self.shape[1:4], self.segment, strict=True)]
        return self.shape[0], n[0], n[1], n[2]

    @property
    def is_plain(self) -> bool:
        """True if pixels are not encoded."""
        return self.stored is not None

    @property
    def pixel_bytes(self) -> int:
        """Decoded bytes of a pixel, with all samples that are stored together."""
        return self.dtype.itemsize * self.shape[4]

    @property
    def segment_bytes(self) -> int:
        """Decoded bytes of a segment."""
        return prod(self.segment) * self.pixel_bytes

    def plain_bytes(self) -> Pixels:
        """Bytes of each segment if pixels are not encoded, shape `grid`."""
        return self.bytes_of_rows(self.segment[2] * self.pixel_bytes)

    def bytes_of_rows(self, row: int) -> Pixels:
        """Bytes of each segment, shape `grid`, if those of a row of one are `row`."""
        out = np.full(self.grid, self.segment[0] * self.segment[1] * row, np.int64)
        if not self.tiled:
            out[:, :, -1] = (self.shape[2] - (self.grid[2] - 1) * self.segment[1]) * row
        return out


def frame_format(path: str, page: Page) -> FrameFormat:
    """Describe frames like this page."""
    if page.dtype is None:
        raise SourceError(
            f"{path}: pixels of {page.bits} bits in sample format {page.sample_format} are not supported",
            path=path,
            hint="Convert the file to 8, 16, 32 or 64 bits first",
        )
    if page.compression not in (_NONE, *WHOLE) and page.compression not in tifffile.TIFF.DECOMPRESSORS:
        what = f"its compression {page.compression_name} (tag 259: {page.compression}) is not supported"
        hint = "Convert it first, such as with `tiffcp -c zip` or `gdal_translate`"
        raise SourceError(f"{path}: {what}", path=path, hint=hint)
    by_units = page.subsampled and page.compression not in _WITH_TABLES
    if by_units and (page.planar == _APART or page.bits != 8 or page.samples != 3 or page.predictor != 1):
        what = (
            f"YCbCr of {page.samples} samples of {page.bits} bits with subsampled chroma, planar configuration "
            f"{page.planar} and predictor {page.predictor} is not supported"
        )
        raise SourceError(f"{path}: {what}", path=path, hint="Convert it to RGB, or to JPEG in TIFF, first")
    if min(page.segment) < 1:
        what = f"its tiles or strips are {page.segment[2]} x {page.segment[1]} pixels"
        raise SourceError(f"{path}: {what}", path=path, hint=AGAIN)
    is_plain = (
        page.compression == _NONE
        and page.predictor == 1
        and page.fill_order == 1
        and page.bits in (8, 16, 32, 64, 128)
        and page.sample_format != _COMPLEX_INTEGER
        and not page.subsampled
    )
    stored = page.dtype.newbyteorder(page.byteorder) if is_plain else None
    return FrameFormat(page.shape, page.segment, page.tiled, page.dtype, stored, page.compression_name)


TiffFile: TypeAlias = FileId | RemoteFile
"""A file that segments are read from."""


class FrameFile(NamedTuple):
    """What all segments of a frame share."""

    file: TiffFile
    jpeg_tables: bytes | None
    """What precedes each JPEG segment."""


@dataclass(frozen=True, slots=True, eq=False)
class SegmentTable:
    """Where segments are; arrays have axes frame, samples stored apart, depth, rows, columns."""

    offsets: Pixels
    counts: Pixels
    """Bytes; 0 where nothing is stored."""
    files: tuple[FrameFile, ...]
    """At least one."""
    which: Pixels | None
    """Index into `files`; None if there is only one."""
    far: tuple[FarTables, ...] | None = None
    """
    Where the tables of each frame are, if they are too long to be read at once.  `offsets` and `counts` are then the
    numbers of segments, counted through all frames.
    """

    def arranged(self, arrange: Callable[[Pixels], Pixels]) -> SegmentTable:
        """The table with all of its arrays rearranged."""
        which = None if self.which is None else arrange(self.which)
        return replace(self, offsets=arrange(self.offsets), counts=arrange(self.counts), which=which)


def read_table(file: TiffFile, level: int, series: Series, form: FrameFormat, frames: int) -> SegmentTable:
    """Find the segments of a series of `frames` frames, which errors call `level`."""
    number = prod(form.grid)
    if (start := _stack_start(file.path, series, form, frames)) is not None:
        size = form.plain_bytes()
        first = start + np.cumsum(size).reshape(size.shape) - size
        offsets = first + int(size.sum()) * np.arange(frames, dtype=np.int64).reshape(-1, 1, 1, 1, 1)
        table = SegmentTable(offsets, np.broadcast_to(size, offsets.shape), (FrameFile(file, None),), which=None)
        return _checked(level, form, table)
    if frames * number > max(_ANY_SEGMENTS, file.size // _SEGMENT_BYTES):
        what = f"has {frames * number} tiles or strips by its header, more than a file of {file.size} bytes can list"
        raise DamagedError(f"{file.path}: level {level} {what}; it is truncated or damaged", path=file.path, hint=AGAIN)
    far = _far_tables(file, series, frames) if series.far else {}
    if len(far) == frames:
        return _far_table(file, level, series, form, far)
    read = _read_far(file, far)
    offsets, counts = np.zeros((2, frames, number), np.int64)
    files: dict[FrameFile, int] = {}
    known: dict[str, TiffFile]
    # tifffile resolves links
    known = {file.path if isinstance(file, RemoteFile) else os.path.realpath(file.path): file}
    which = np.zeros(frames, np.int32)
    packed = _packed_bytes(series.page, form)
    for frame in range(frames):
        found = _frame(file, level, series, frame)
        if found is None:  # OME-TIFF may leave frames out
            continue
        path, jpeg_tables, starts, sizes = found
        starts, sizes = read.get(frame, (starts, sizes))
        if packed is not None and (len(sizes) < number or (number == 1 and sizes[0] == 0)):  # as libtiff does
            sizes = packed.ravel().tolist()
        for into, values, what in ((offsets, starts, "offsets"), (counts, sizes, "sizes")):
            if len(values) < number:
                raise _damaged(file, level, frame, f"has {len(values)} {what} for {number} tiles or strips")
            try:
                into[frame] = values[:number]
            except OverflowError as error:
                raise _damaged(file, level, frame, f"has impossible {what} of tiles or strips") from error
        if path not in known:
            known[path] = FileId.of(path)
        shared = FrameFile(known[path], jpeg_tables if series.page.compression in _WITH_TABLES else None)
        which[frame] = files.setdefault(shared, len(files))
    counts[offsets == 0] = 0
    shape = (frames, *form.grid)
    offsets, counts = offsets.reshape(shape), counts.reshape(shape)
    if form.is_plain and not form.tiled:
        needed = form.plain_bytes()
        # Classic TIFF cannot tell the size of a single strip of 4 GB or more.
        counts = np.minimum(counts, needed) if number > 1 else np.where(counts > 0, needed, 0)
    indices = np.broadcast_to(which.reshape(-1, 1, 1, 1, 1), shape) if len(files) > 1 else None
    return _checked(level, form, SegmentTable(offsets, counts, tuple(files) or (FrameFile(file, None),), indices))


def _far_tables(file: TiffFile, series: Series, frames: int) -> dict[int, FarTables]:
    """Return where the tables of frames are that were not read with their pages."""
    found = {}
    for frame in range(frames):
        with parsing(file.path):
            page = series.frames[frame]
        if page is not None and page.offset in series.far:
            found[frame] = series.far[page.offset]
    return found


def _far_table(
    file: TiffFile, level: int, series: Series, form: FrameFormat, far: Mapping[int, FarTables]
) -> SegmentTable:
    """Return the table of frames whose own are all read piece by piece."""
    number = prod(form.grid)
    for frame, tables in far.items():
        if (length := min(tables.offsets.length, tables.counts.length)) < number:
            raise _damaged(file, level, frame, f"has {length} offsets or sizes for {number} tiles")
    files: dict[FrameFile, int] = {}
    which = np.zeros(len(far), np.int32)
    for frame in far:
        with parsing(file.path):
            page: Any = series.frames[frame]
            jpeg_tables = page.jpegtables if series.page.compression in _WITH_TABLES else None
        which[frame] = files.setdefault(FrameFile(file, jpeg_tables), len(files))
    numbers = np.arange(len(far) * number).reshape(len(far), *form.grid)
    indices = np.broadcast_to(which.reshape(-1, 1, 1, 1, 1), numbers.shape) if len(files) > 1 else None
    return SegmentTable(numbers, numbers, tuple(files), indices, tuple(far.values()))


def _read_far(file: TiffFile, far: Mapping[int, FarTables]) -> dict[int, tuple[list[int], list[int]]]:
    """Read the tables of some frames, since those of others were read with their pages: frame to (offsets, sizes)."""
    if not far:
        return {}
    assert isinstance(file, RemoteFile)
    tables = [table for pair in far.values() for table in pair]
    landed = {found.number: found.data for found in get_ranges([file.range(t.start, t.stop) for t in tables])}
    values = [np.frombuffer(landed[k], table.dtype).tolist() for k, table in enumerate(tables)]
    return {frame: (values[2 * k], values[2 * k + 1]) for k, frame in enumerate(far)}


def _packed_bytes(page: Page, form: FrameFormat) -> Pixels | None:
    """Bytes of each segment whose samples are packed but not compressed, shape `grid`; None if they depend on it."""
    if page.compression != _NONE or page.subsampled or not isinstance(page.bits, int):
        return None
    return form.bytes_of_rows(-(-form.segment[2] * form.shape[4] * page.bits // 8))


def _stack_start(path: str, series: Series, form: FrameFormat, frames: int) -> int | None:
    """First byte of a stack of plain frames behind a single page; None if each frame has a page."""
    if frames <= len(series) and series.kind != "imagej":
        return None
    start = None
    if form.is_plain:
        with parsing(path):
            start = series.frames.dataoffset  # None if the frames do not follow each other
    if start is None and frames > len(series):
        what = f"it announces {frames} frames but has {len(series)} pages"
        raise SourceError(f"{path}: {what}; it is truncated or damaged", path=path, hint=AGAIN)
    return start


def _frame(
    file: TiffFile, level: int, series: Series, frame: int
) -> tuple[str, bytes | None, Sequence[int], Sequence[int]] | None:
    """Path of its file, JPEG tables, offsets and sizes of a frame; None if it is missing."""
    with listening() as messages:
        try:
            found = None
            if (page := series.frames[frame]) is not None:
                offsets, sizes = _from_bytes(page.dataoffsets), _from_bytes(page.databytecounts)
                found = page.parent.filehandle.path, page.jpegtables, offsets, sizes
        except Exception as error:  # damaged files raise whatever they provoke in the parser
            raise _damaged(file, level, frame, f"cannot be found ({reason(error)})") from error
    refuse_missing(file.path, messages)
    return found


def _from_bytes(values: Sequence[Any]) -> Sequence[int]:
    """Numbers of a tag; tifffile gives those of type BYTE as bytes."""
    if isinstance(values, bytes):
        return list(values)
    return [int.from_bytes(v) if isinstance(v, bytes) else v for v in values] if bytes in map(type, values) else values


_LARGE = 256 << 20
"""Decoded bytes from which on a segment or a file has to be plausible."""
_MOST_RATIO = 1100
"""Decoded bytes for a stored one that segments are believed; deflate cannot exceed 1032."""
_MOST_SPARSE = 1 << 20
"""The same of a whole file, which may have left out most segments and listed them with 8 bytes each."""


def refuse_implausible(file: TiffFile, form: FrameFormat, table: SegmentTable) -> None:
    """Raise `SourceError` if a header announces far more pixels than the bytes of the file can hold."""
    announced = int(np.prod(table.counts.shape, dtype=object)) * form.segment_bytes
    largest = int(table.counts.max(initial=0))
    what = None
    if form.segment_bytes > max(_LARGE, largest * _MOST_RATIO):
        segment = f"{'tiles' if form.tiled else 'strips'} of {form.segment[2]} x {form.segment[1]} pixels"
        what = f"announces {segment}, {form.segment_bytes} bytes, and stores at most {largest} bytes of one"
    elif announced > max(_LARGE, file.size * _MOST_SPARSE):
        what = f"announces {announced} bytes of pixels in a file of {file.size}"
    if what is not None:
        raise SourceError(f"{file.path}: its header {what}; it is damaged", path=file.path, hint=AGAIN)


def _checked(level: int, form: FrameFormat, table: SegmentTable) -> SegmentTable:
    """Raise `DamagedError` if a segment lies beyond its file, or holds fewer bytes than its plain pixels need."""
    offsets, counts, sizes = table.offsets, table.counts, np.array([f.file.size for f in table.files])
    size = sizes[0 if table.which is None else table.which]
    stored = counts > 0
    bad = (counts < 0) | (offsets < 0)
    if form.is_plain:
        bad |= stored & (counts < form.plain_bytes())
    bad |= stored & (counts > size - offsets)  # the sum may overflow
    if not bad.any():
        return table
    frame, _, _, row, column = at = tuple(int(i) for i in np.argwhere(bad)[0])
    start, count = int(offsets[at]), int(counts[at])
    file = table.files[0 if table.which is None else table.which[at]].file
    end = start + count
    found = f"ends at byte {end} of {file.size}" if end > file.size else f"has {count} bytes, too few for its pixels"
    where = f"frame {frame}, " if len(offsets) > 1 else ""
    what = f"level {level}, {where}{segment_name(form, row, column)} {found}"
    raise DamagedError(f"{file.path}: {what}; the file is truncated or damaged", path=file.path, hint=AGAIN)


def segment_name(form: FrameFormat, row: int, column: int) -> str:
    """What errors call a segment."""
    kind = "tile" if form.tiled else "strip"
    return f"the {kind} at row {row * form.segment[1]}, column {column * form.segment[2]}"


def _damaged(file: TiffFile, level: int, frame: int, found: str) -> DamagedError:
    what = f"level {level}, frame {frame} {found}"
    return DamagedError(f"{file.path}: {what}; the TIFF is truncated or damaged", path=file.path, hint=AGAIN)


def cut_strips(form: FrameFormat, table: SegmentTable, most: int) -> tuple[FrameFormat, SegmentTable]:
    """
    Cut plain strips into blocks of rows that hold at most `most` bytes, but at least a row.

    Strips that follow each other in the file are first joined to one.
    """
    if form.tiled or not form.is_plain:
        return form, table
    height, rows, row = form.shape[2], form.segment[1], form.shape[3] * form.pixel_bytes
    offsets, stored = table.offsets, table.counts > 0
    following = offsets[..., :-1, :] + rows * row == offsets[..., 1:, :]
    step = min(height, max(1, most // row))
    if not (stored.all() and following.all()):
        if rows <= step:
            return form, table
        step = next(n for n in range(step, 0, -1) if not rows % n)  # no block may lie in two strips
    first = np.arange(0, height, step)  # rows
    strip, inside = np.divmod(first, rows)
    sizes = np.minimum(step, height - first) * row
    cut = replace(form, segment=(1, step, form.segment[2]))
    counts = np.where(stored[..., strip, :], sizes[:, None], 0)
    which = None if table.which is None else table.which[..., strip, :]
    return cut, SegmentTable(offsets[..., strip, :] + (inside * row)[:, None], counts, table.files, which)


class SegmentError(Exception):
    """A segment cannot be decoded; whoever asked for it knows its name."""


def _lzw(data: Pixels, out: Pixels) -> Pixels:
    """
    Decompress LZW with libtiff.

    imagecodecs' own decoder takes 1.6 times as long (`benchmarks.in_place --only lzw`).  libtiff reads files; so the
    bytes get the header of one, of a single row of pixels of 8 bits.
    """
    tags = ((256, out.size), (257, 1), (258, 8), (259, 5), (262, 1), (273, _LZW_START), (277, 1), (278, 1))
    head = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in (*tags, (279, data.size)))
    file = buffer("lzw", _LZW_START + data.size)
    file[:_LZW_START] = np.frombuffer(struct.pack("<2sHIH", b"II", 42, 8, len(tags) + 1) + head + bytes(4), np.uint8)
    file[_LZW_START:] = data
    imagecodecs.tiff_decode(file, out=out.reshape(1, -1))  # type: ignore[arg-type]
    return out


_LZW_START = 8 + 2 + 9 * 12 + 4
"""Bytes of the header."""


def _refuse_bad_lzw(data: Pixels, size: int) -> None:
    """
    Raise `SegmentError` for LZW that kills imagecodecs' decoder: one whose table begins with a code that is not a byte.

    That decoder (2026.5.10) looks such a code up in a table without entries.  What libtiff decodes to `size` bytes is
    sound; all else is looked through, code by code.
    """
    try:
        _lzw(data, np.empty(size, np.uint8))
    except Exception:  # each codec has errors of its own
        if not _begins_with_bytes(data.tobytes()):
            raise SegmentError("its LZW codes are damaged") from None


def _begins_with_bytes(data: bytes) -> bool:
    """Return True if the first code after each clear code (256) of LZW is a byte, or its end (257)."""
    old = data[:1] == b"\0"  # the bits of each byte from the lowest on, and longer codes one code later
    held = count = entries = 0
    width, begins = 9, False
    for byte in data:
        held = held | byte << count if old else (held << 8 | byte) & 0xFFFFFF
        count += 8
        if count < width:  # the shortest code is longer than a byte
            continue
        count -= width
        code = (held if old else held >> count) & (1 << width) - 1
        held = held >> width if old else held
        if code == 257:
            return True
        if code == 256:
            width, entries, begins = 9, 258, True
        elif begins:
            if code > 255:
                return False
            begins = False
        else:
            entries += 1
            width = max(9, min(12, (entries + (not old)).bit_length()))
    return True


def _zstd_beginning(data: Pixels, out: Pixels) -> Pixels:
    """Decompress as much of a Zstandard frame as fits the output."""
    decompressor = getattr(_LOCAL, "decompressor", None)
    if decompressor is None:
        import zstandard

        decompressor = _LOCAL.decompressor = zstandard.ZstdDecompressor()
    found: int = decompressor.stream_reader(data.data).readinto(out.data)
    return out[:found]


_LOCAL = threading.local()
"""A decompressor per thread, because threads must not share one."""
_DECOMPRESS: Mapping[int, Callable[..., Any]] = {
    _DEFLATE: imagecodecs.deflate_decode,
    _OLD_DEFLATE: imagecodecs.deflate_decode,
    _LZW: _lzw,
    _PACKBITS: imagecodecs.packbits_decode,
    _ZSTD: imagecodecs.zstd_decode,
    _OLD_ZSTD: imagecodecs.zstd_decode,
}
"""Decompressors to bytes; they take `out`."""
_BEGINNING: Mapping[int, Callable[..., Any]] = {_LZW: _lzw, _ZSTD: _zstd_beginning, _OLD_ZSTD: _zstd_beginning}
"""Decompressors that can stop early; deflate's checksum needs all bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """Decodes the segments of one series."""

    form: FrameFormat
    decompress: Callable[..., Any] | None
    """For compressions whose bytes are pixels, up to the predictor; None if tifffile has to decode."""
    beginning: Callable[..., Any] | None
    """The same for the first rows of a segment alone, where that takes less time."""
    predictor: int
    """Tag 317; what `decompress` leaves to do."""
    decode: Decode
    """The decoder of all other segments."""
    takes_tables: bool
    """True if `decode` takes JPEG tables."""
    jpeg_header: bytes | None
    kind: str | None
    """What the compiled core calls the compression; None if it does not decode it."""
    swapped: bool
    """True if numbers are in the byte order that is not this machine's, once they are decompressed."""
    ycbcr: bool
    """True if the colours of JPEGs are YCbCr, which become RGB."""

    def chunk_format(
        self, shape: tuple[int, ...], order: tuple[int, ...] | None, fill: Any, tables: bytes | None
    ) -> ChunkFormat | None:
        """
        Return how the compiled core decodes segments into chunks of this shape and order of axes; None if it cannot.

        `tables` are those of JPEG.
        """
        form = self.form
        if self.kind is None or not form.tiled or form.segment[0] > 1:
            return None
        together = form.shape[4]
        return ChunkFormat(
            self.kind,
            shape,
            form.dtype,
            order,
            fill=fill,
            row=(form.segment[2] * together, together),
            predictor=PREDICTORS[self.predictor - 1] if self.kind not in ("raw", "jpeg") else "none",
            swapped=self.swapped,
            early=self.kind != "zlib",  # its checksum needs all bytes
            ycbcr=self.ycbcr,
            tables=tables or b"",
        )

    def directly(self, data: Pixels, out: Pixels, rows: int, columns: int) -> bool:
        """
        Decompress a segment straight into the output, or return False where `by_tifffile` has to.

        The output is C-contiguous, with axes rows, columns, samples, or depth before them; only the first `rows` and
        `columns` of it are wanted, others may be left as they are.
        """
        if self.decompress is None:
            return False
        target = flat = out.reshape(-1).view(np.uint8)
        if self.predictor == _FLOATING_POINT:
            target = buffer("segment", flat.size)
        decompress = self.decompress
        if rows < len(out) and self.beginning is not None and out.ndim == 3:
            target = target[: rows * out[0].nbytes]
            decompress = self.beginning
        try:
            if decompress(data, out=target).size != target.size:
                return False
        except Exception:  # each codec has errors of its own; tifffile gets to say what is wrong
            return False
        if self.predictor == _HORIZONTAL:
            wanted = out.view(f"u{out.itemsize}")
            if out.ndim == 3:
                wanted = wanted[:rows, :columns]
            imagecodecs.delta_decode(wanted, axis=-2, out=wanted)
        elif self.predictor == _FLOATING_POINT:
            done = out[: target.size // out[0].nbytes]
            imagecodecs.floatpred_decode(target.view(out.dtype).reshape(done.shape), axis=-2, out=done)
        return True

    def by_tifffile(
        self, data: Pixels, number: int, jpeg_tables: bytes | None, inside: tuple[int, ...], out: Pixels
    ) -> None:
        """
        Let tifffile decode segment `number` of a frame; axes rows, columns, samples, or depth before them.

        `inside` counts the planes, rows and columns that lie in the image; others may be left as they are.
        """
        extra = {"jpegtables": jpeg_tables, "jpegheader": self.jpeg_header} if self.takes_tables else {}
        encoded = data.tobytes()
        if self.form.compression == "lzw":
            _refuse_bad_lzw(data, out.nbytes)
        try:
            pixels = self.decode(encoded, number, **extra)[0]
        except Exception as error:  # each codec has errors of its own
            # Tiles are whole at the border, so that more pixels than a tile has can only be damage.
            shorter = None if self.form.tiled else _without_surplus(self.form.compression, encoded, out.nbytes)
            if shorter is None:
                raise SegmentError(f"does not decode ({reason(error)})") from error
            pixels = self.decode(shorter, number, **extra)[0]
        if pixels is None:
            raise SegmentError("decodes to nothing")
        whole = out if out.ndim == 4 else out[None]
        # Fax decoders return bits as bytes.
        castable = out.dtype == bool or np.can_cast(pixels.dtype, out.dtype)
        have = tuple(min(n, m) for n, m in zip(whole.shape[:3], pixels.shape[:3], strict=True))
        if any(n < m for n, m in zip(have, inside, strict=True)) or pixels.shape[3:] != out.shape[-1:] or not castable:
            raise SegmentError(f"decodes to {pixels.dtype} pixels of shape {pixels.shape} instead of {whole.shape}")
        part = tuple(slice(n) for n in have)
        whole[part] = pixels[part]


def _without_surplus(compression: str, data: bytes, most: int) -> bytes | None:
    """
    Encode the first `most` bytes of a segment anew; None if it has no more, or is damaged.

    Some writers fill the last strip with rows beyond the image.  Most decoders refuse what does not fit their output.
    """
    begin, encode = _SURPLUS.get(compression, (None, None))
    if begin is None or encode is None:
        return None
    try:
        found = begin(data, most + 1)
    except Exception:  # each codec has errors of its own; the caller has the one that counts
        return None
    return bytes(encode(found[:most])) if len(found) > most else None


def _begin_deflate(data: bytes, most: int) -> bytes:
    return zlib.decompressobj().decompress(data, most)


def _begin_zstd(data: bytes, most: int) -> bytes:
    return _zstd_beginning(np.frombuffer(data, np.uint8), np.empty(most, np.uint8)).tobytes()


def _begin_packbits(data: bytes, most: int) -> bytes:
    return bytes(imagecodecs.packbits_decode(data))[:most]  # of one byte come 64 at most


_SURPLUS: Mapping[str, tuple[Callable[[bytes, int], bytes], Callable[[bytes], Any]]] = {
    **dict.fromkeys(("deflate", "adobe_deflate"), (_begin_deflate, zlib.compress)),
    **dict.fromkeys(("zstd", "zstd_deprecated"), (_begin_zstd, imagecodecs.zstd_encode)),
    "packbits": (_begin_packbits, imagecodecs.packbits_encode),
}
"""Decoders of the first bytes of a segment, and encoders."""


def make_decoder(page: Page, form: FrameFormat) -> Decoder:
    """The decoder of segments of frames like this page."""
    kinds = {1: "iufc", _HORIZONTAL: "iu", _FLOATING_POINT: "f"}.get(page.predictor, "")
    formats = page.tags.get(SAMPLE_FORMAT, 1)
    native = form.dtype.itemsize == 1 or np.dtype(f"{page.byteorder}u2").isnative
    plain = (
        page.fill_order == 1
        and page.bits in (8, 16, 32, 64)
        and page.bits == 8 * form.dtype.itemsize
        and form.dtype.kind in kinds
        and not page.subsampled
        and (not isinstance(formats, tuple) or len(set(formats)) == 1)  # else tifffile refuses
    )
    usual = plain and native
    kind = "raw" if form.is_plain else _KINDS.get(page.compression) if plain else None
    if page.compression == _JPEG and _is_usual_jpeg(page, form):
        kind = "jpeg"
    return Decoder(
        form=form,
        decompress=_DECOMPRESS.get(page.compression) if usual else None,
        beginning=_BEGINNING.get(page.compression) if usual else None,
        predictor=page.predictor,
        decode=_decode_function(page),
        takes_tables=page.compression in _WITH_TABLES,
        jpeg_header=page.jpeg_header,
        kind=kind,
        swapped=not native and page.predictor != _FLOATING_POINT,  # which knows one order only
        ycbcr=page.photometric == _YCBCR and page.planar != _APART,
    )


_KINDS = {_DEFLATE: "zlib", _OLD_DEFLATE: "zlib", _LZW: "lzw", _ZSTD: "zstd", _OLD_ZSTD: "zstd"}
"""Compressions to the compiled core's names of them."""


def _is_usual_jpeg(page: Page, form: FrameFormat) -> bool:
    """Return True if libtiff and tifffile mean the same colours: YCbCr, RGB, or samples by themselves."""
    if form.shape[4] == 1:
        known = page.planar == _APART or page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    else:
        colours = page.photometric == _YCBCR or (page.photometric == _RGB and not page.jfif)
        known = form.shape[4] == 3 and colours and not page.extra_samples
    return known and form.dtype == np.uint8 and page.bits == 8 and page.predictor == 1 and page.jpeg_header is None


def _decode_function(page: Page) -> Decode:
    """Return tifffile's decoder, or one with its interface where tifffile's does not give what libtiff gives."""
    apart = page.planar == _APART
    if page.subsampled and page.compression not in _WITH_TABLES:
        return _subsampled(page)
    if page.compression == _LERC:
        return _lerc(1 if apart else page.samples)
    if page.compression == _JPEG and apart and page.photometric == _RGB:
        return _gray_jpeg
    decode: Decode = page.decode
    return decode


def _subsampled(page: Page) -> Decode:
    """
    Decode YCbCr whose chroma has fewer samples than its luma (TIFF 6.0, section 21).

    Each unit holds the lumas of a block of pixels, then their one Cb and one Cr, which are repeated as libtiff does.
    """
    if page.compression in tifffile.TIFF.IMAGE_COMPRESSIONS:  # the tag says nothing about what such codecs return
        return _by_image_codec(page)
    across, down = page.subsampling
    decompress = None if page.compression == _NONE else tifffile.TIFF.DECOMPRESSORS[page.compression]
    columns, strips = page.segment[2], -(-page.height // page.segment[1])
    wide = -(-columns // across)

    def decode(data: bytes, number: int) -> tuple[Pixels, None, None]:
        if page.fill_order == _LSB_FIRST:
            data = bytes(imagecodecs.bitorder_decode(data))
        rows = page.segment[1]
        if not page.tiled:  # the last strip has only the rows that are left
            rows = min(rows, page.height - number % strips * rows)
        high = -(-rows // down)
        size = high * wide * (across * down + 2)
        stored = np.frombuffer(data if decompress is None else decompress(data, out=size), np.uint8)
        if stored.size < size:
            raise ValueError(f"{stored.size} bytes instead of {size}")
        units = stored[:size].reshape(high, wide, -1)
        out = np.empty((high, down, wide, across, 3), np.uint8)
        out[..., 0] = units[..., :-2].reshape(high, wide, down, across).swapaxes(1, 2)
        out[..., 1:] = units[:, None, :, None, -2:]
        return out.reshape(1, high * down, wide * across, 3)[:, :rows, :columns], None, None

    return decode


def _by_image_codec(page: Page) -> Decode:
    decompress = tifffile.TIFF.DECOMPRESSORS[page.compression]

    def decode(data: bytes, number: int) -> tuple[Pixels, None, None]:
        pixels = decompress(data)
        return pixels.reshape(1, *pixels.shape[:2], -1), None, None

    return decode


def _lerc(samples: int) -> Decode:
    def decode(data: bytes, number: int) -> tuple[Pixels, None, None]:
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
    """Decode a JPEG of one sample of RGB, which tifffile would take for luma."""
    # 1 is imagecodecs' number of gray.
    pixels = imagecodecs.jpeg_decode(data, tables=jpegtables, header=jpegheader, outcolorspace=1)
    return pixels[None, ..., None], None, None
