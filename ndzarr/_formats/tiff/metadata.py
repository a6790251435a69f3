"""
What a TIFF file says about its images, as typed values.

tifffile parses the file.  Damaged files make it raise almost anything, so every call into the parser runs under
`parsing`, and the values that other modules need are copied into `Page` and `Series` there.  Damaged metadata
(names, times, pixel sizes, the place on earth) are left out, because pixels can be read without them.
"""

from __future__ import annotations

import io
import logging
import os
import re
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from traceback import walk_tb
from typing import Any, Literal, NamedTuple
from xml.etree import ElementTree
from xml.sax.saxutils import unescape

import numpy as np
import tifffile

from ndzarr._files import make_room
from ndzarr._formats.base import Pixels, reason
from ndzarr._formats.orientation import Orientation
from ndzarr._geo.crs import DIRECTORY, DOUBLES, TEXTS, GeoKeys
from ndzarr._remote.files import OpenedFile, RemoteReader
from ndzarr._validation import shortened
from ndzarr.errors import NdzarrError, SourceError

ORIENTATION, PHOTOMETRIC, COLOUR_MAP, INK_SET, SAMPLE_FORMAT, ICC_PROFILE = 274, 262, 320, 332, 339, 34675
LUMA_COEFFICIENTS, REFERENCE_BLACK_WHITE = 529, 532
_XMP = 700
_GDAL_METADATA, _GDAL_NODATA = 42112, 42113
_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION = 33550, 33922, 34264
_TAGS = (
    *(ORIENTATION, PHOTOMETRIC, COLOUR_MAP, INK_SET, SAMPLE_FORMAT, ICC_PROFILE),
    *(LUMA_COEFFICIENTS, REFERENCE_BLACK_WHITE),
    *(_GDAL_METADATA, _GDAL_NODATA, _PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION, DIRECTORY, DOUBLES, TEXTS),
)
"""Tags whose values `Page` keeps."""
_ABOUT = (282, 283, 296, 305, 33560, 33628, 34118, 34412, 34680, 34682, 51123, 65000, 65421)
"""Tags about the pixel size, which `Page` keeps if tifffile can read them; `pixel_size` names them."""
AGAIN = "Fetch the file again, or write it again"
"""The hint of errors about damaged files."""


class DamagedTiffError(SourceError):
    """The parser cannot make sense of a file."""


_FATAL = re.compile(r"invalid (page )?offset|invalid circular reference|corrupted tag list|failed to read '")
"""Log messages after which pages are missing."""
_HEARD = threading.local()
"""Messages of the current thread, while it listens."""


def _keep(record: logging.LogRecord) -> bool:
    """Collect a record of tifffile's logger instead of passing it on, if its thread listens."""
    heard: list[str] | None = getattr(_HEARD, "messages", None)
    if heard is None:
        return True
    if record.levelno >= logging.WARNING and "GDAL_NODATA" not in record.getMessage():  # `nodata` reads that tag
        heard.append(re.sub(r"<tifffile\.\S+ [^>]*> ?", "", record.getMessage()))
    return False


logging.getLogger("tifffile").addFilter(_keep)


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect what tifffile logs in this thread."""
    before = getattr(_HEARD, "messages", None)
    messages: list[str] = []
    _HEARD.messages = messages
    try:
        yield messages
    finally:
        _HEARD.messages = before


@contextmanager
def parsing(path: str, messages: Sequence[str] = ()) -> Iterator[None]:
    """
    Turn whatever tifffile raises into a `DamagedTiffError`; wrap calls into the parser and nothing else.

    The error repeats `messages`, which tifffile has logged so far.  Errors that arise outside tifffile are faults of
    ndzarr, and pass.
    """
    try:
        yield
    except NdzarrError:
        raise
    except Exception as error:  # damaged files raise whatever they provoke in the parser
        if not isinstance(error, UnexpectedValueError) and not _in_tifffile(error):
            raise
        found = " ".join("; ".join([*messages, reason(error)]).split())
        raise _damaged(path, f"this TIFF cannot be parsed ({found}); it is truncated or damaged") from error


class UnexpectedValueError(ValueError):
    """A value that tifffile found in a file has a form that its tag does not have."""


def _in_tifffile(error: BaseException) -> bool:
    """Return True if an exception passed through code of tifffile."""
    frames = (frame for frame, _ in walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__", "").partition(".")[0] == "tifffile" for frame in frames)


def _whole(value: Any, missing: int | None = None) -> int:
    """Return a whole number that tifffile found; damaged files may hold something else in its place."""
    value = missing if value is None else value
    if not isinstance(value, int | np.integer | np.bool_):
        raise UnexpectedValueError(f"expected a whole number, found {str(value)[:40]}")
    return int(value)


def _damaged(path: str, what: str) -> DamagedTiffError:
    return DamagedTiffError(f"{path}: {what}", path=path, hint=AGAIN)


class FarTable(NamedTuple):
    """An array of numbers in a file."""

    start: int
    dtype: np.dtype[Any]
    length: int

    @property
    def stop(self) -> int:
        """The byte behind it."""
        return self.start + self.length * self.dtype.itemsize


class FarTables(NamedTuple):
    """Where the offsets and sizes of the tiles of a page are."""

    offsets: FarTable
    counts: FarTable


@dataclass(frozen=True, slots=True)
class Remarks:
    """What is said about a file while it is parsed."""

    messages: list[str]
    """What tifffile has logged; it may log more when frames are looked up."""
    trouble: list[str] = field(default_factory=list)
    """What of the file is missing or damaged, though the rest of it can be read."""
    far: Mapping[int, FarTables] = field(default_factory=dict)
    """Tables that are not read with their page, by the byte at which the page begins."""


@contextmanager
def open_parsed(path: str, remote: OpenedFile | None = None) -> Iterator[tuple[tifffile.TiffFile, Remarks]]:
    """
    Open a file with tifffile, as far as its pages can be found; also yield what there is to say about it.

    It is the file `path`, or the `remote` one, whose URL is `path`.
    """
    if remote is None:
        make_room()
    with listening() as messages, ExitStack() as opened:
        reader = None if remote is None else opened.enter_context(remote.reader())
        far = {} if reader is None else _fetch_pages(reader)
        with parsing(path, messages):
            given: Any = path if reader is None else reader
            tif = opened.enter_context(tifffile.TiffFile(given))
            if reader is None:  # of others, tifffile opens no file but the one that it is given
                _refuse_strangers(path, tif)
        remarks = Remarks(messages, far=far)
        if (broken := broken_link(path, tif)) is not None:
            remarks.trouble.append(broken.found)
            if reader is None:
                raw: Any = io.BufferedReader(_EndedFile(path, broken.at, tif.tiff.offsetsize))
            else:
                raw = reader
                reader.patch(broken.at, bytes(tif.tiff.offsetsize))
                reader.seek(0)
            with parsing(path, messages):
                tif = opened.enter_context(tifffile.TiffFile(opened.enter_context(raw)))
        yield tif, remarks


def _refuse_strangers(path: str, tif: tifffile.TiffFile) -> None:
    """
    Raise `SourceError` if a TIFF names other files of its series outside of its directory.

    tifffile opens whatever is named.  Only metadata may name files: what a link leads to is outside, too.
    """
    folder = os.path.realpath(tif.filehandle.dirname)
    for name in dict.fromkeys(_named_files(tif)):
        try:
            found = os.path.realpath(os.path.join(folder, name))
            inside = os.path.commonpath([folder, found]) == folder
        except ValueError:  # NUL in a name
            inside = False
        if not inside:
            what = f"it names a file of its series outside of its directory, {shortened(name)}"
            raise SourceError(f"{path}: {what}", path=path, hint="Put all files of the series into one directory")


def _named_files(tif: tifffile.TiffFile) -> Iterator[str]:
    """Yield the names of other files that tifffile would open for the series of a file."""
    folder = tif.filehandle.dirname
    if tif.is_ome and (text := tif.ome_metadata) is not None and ("FileName" in text or "<!" in text):
        with suppress(ElementTree.ParseError):  # which tifffile logs
            root = ElementTree.fromstring(text)
            for element in root.iter():
                name, uuid = element.get("FileName"), element.text
                if name is not None and uuid != root.get("UUID") and name.lower() != tif.filename.lower():
                    yield name
    if tif.is_micromanager and (tif.is_ndtiff or "_MMStack" in tif.filename):
        names = os.listdir(folder)
        if tif.is_ndtiff:
            yield "NDTiff.index"
            yield from (row[1] for row in tifffile.read_ndtiff_index(os.path.join(folder, "NDTiff.index")))
        yield from (name for name in names if "_MMStack" in name and name.lower().endswith(".tif"))


_SUB_PAGES = 330
_TILE_OFFSETS, _TILE_COUNTS = 324, 325
_MOST_PAGES = 1 << 16
"""Pages whose values are fetched together; those behind them are fetched as tifffile reads them."""
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value of each type of the format (TIFF 6.0, section 2; BigTIFF)."""


def _fetch_pages(reader: RemoteReader) -> dict[int, FarTables]:
    """
    Fetch everything that tifffile reads of a file, with few requests; return the tables that are left out.

    Pages that are known and not held are asked for together, and with them the values of the tags of others.  Tables of
    tiles that are not held are left out: a COG has them behind all of its pages, and a crop needs little of them.
    tifffile finds tables of one zero in their place.  What is damaged is left to tifffile.
    """
    head = reader.read(16)
    form = _Form.of(head)
    if form is None:
        return {}
    found: dict[int, FarTables] = {}
    waiting, seen = [form.first(head)], set[int]()
    values: list[tuple[int, int]] = []
    while waiting and len(seen) < _MOST_PAGES:
        missing: list[tuple[int, int]] = []
        lists: list[FarTable] = []
        while waiting:
            at = waiting.pop()
            if at in seen or not 0 < at < reader.file.size - form.number:
                continue
            stop = form.stop(reader, at)
            if stop > reader.file.size:
                continue
            if not reader.holds(at, stop):
                missing.append((at, stop))
                continue
            seen.add(at)
            waiting.append(form.unpack(form.offset_code, reader, stop - form.offset))
            tables, others, pages = _values(reader, form, at, stop)
            values += others
            lists += pages
            if len(tables) == 2 and not all(reader.holds(t.start, t.stop) for t, *_ in tables.values()):
                found[at] = FarTables(tables[_TILE_OFFSETS][0], tables[_TILE_COUNTS][0])
                for code, (_, place, kind) in tables.items():
                    reader.patch(place, struct.pack(form.tag_code, code, kind, 1, bytes(form.offset)))
            else:
                values += [(t.start, t.stop) for t, *_ in tables.values()]
        asked = [*missing, *((t.start, t.stop) for t in lists)]
        if any(not reader.holds(*r) for r in asked):
            reader.need([*asked, *values])
            values = []
        waiting = [at for at, _ in missing]
        for table in lists:
            reader.seek(table.start)
            waiting += np.frombuffer(reader.read(table.stop - table.start), table.dtype).tolist()
    reader.need(values, ahead=False)
    reader.seek(0)
    return found


def _values(
    reader: RemoteReader, form: _Form, at: int, stop: int
) -> tuple[dict[int, tuple[FarTable, int, int]], list[tuple[int, int]], list[FarTable]]:
    """
    Return what the tags of a page refer to.

    Returns
    -------
    tables
        Tag to (table of tiles, byte of the tag, type of its values).
    values
        (start, stop) of the values of all other tags.
    pages
        Lists of where further pages are.
    """
    tables, values, pages = {}, [], []
    for place in range(at + form.number, stop - form.offset, form.tag):
        reader.seek(place)
        code, kind, count, value = struct.unpack(form.tag_code, reader.read(form.tag))
        size = _SIZES.get(kind, 0) * count
        start = struct.unpack(form.offset_code, value)[0] if size > form.offset else place + form.tag - form.offset
        if not size or start + size > reader.file.size:
            continue
        table = FarTable(start, np.dtype(form.order + _INTEGERS.get(kind, "u1")), count)
        if code in (_TILE_OFFSETS, _TILE_COUNTS) and kind in _INTEGERS:
            tables[code] = table, place, kind
            continue
        values.append((start, start + size))
        if code == _SUB_PAGES and kind in _INTEGERS:
            pages.append(table)
    return tables, values, pages


class _Form(NamedTuple):
    """How numbers are stored in a TIFF or a BigTIFF."""

    order: str
    number: int
    """Bytes of the number of tags of a page."""
    tag: int
    offset: int
    count_code: str
    offset_code: str
    tag_code: str

    @classmethod
    def of(cls, head: bytes) -> _Form | None:
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 16:
            return None
        if struct.unpack(f"{order}H", head[2:4])[0] == 43:
            return cls(order, 8, 20, 8, f"{order}Q", f"{order}Q", f"{order}HHQ8s")
        return cls(order, 2, 12, 4, f"{order}H", f"{order}I", f"{order}HHI4s")

    def first(self, head: bytes) -> int:
        """Return where the first page begins."""
        return int(struct.unpack_from(self.offset_code, head, 8 if self.offset == 8 else 4)[0])

    def stop(self, reader: RemoteReader, at: int) -> int:
        """Return where a page ends, as far as it is held."""
        if not reader.holds(at, at + self.number):
            return at + self.number
        return at + self.number + self.tag * self.unpack(self.count_code, reader, at) + self.offset

    def unpack(self, code: str, reader: RemoteReader, at: int) -> int:
        """Read a number."""
        reader.seek(at)
        return int(struct.unpack(code, reader.read(struct.calcsize(code)))[0])


def refuse_missing(path: str, messages: Sequence[str]) -> None:
    """Raise `DamagedTiffError` if a log message means that pages are missing."""
    for message in messages:
        if _FATAL.search(message):
            raise _damaged(path, f"this TIFF is truncated or damaged ({message})")


class BrokenLink(NamedTuple):
    """A reference to a next page that does not lead to one."""

    at: int
    """Byte at which the reference is stored."""
    found: str


def broken_link(path: str, tif: tifffile.TiffFile) -> BrokenLink | None:
    """
    Return the first reference that leads back to an earlier page, or to one that does not end within the file.

    tifffile looks for a loop once, when it has found 100 pages, and follows a loop that starts behind them for ever
    (version 2026.3.3, the last one for Python 3.11).  libtiff ends at such a reference.
    """
    file, layout = tif.filehandle, tif.tiff
    seen: set[int] = set()
    with parsing(path):
        start = _whole(tif.pages.first.offset) if tif.pages else 0
    at, link = start, 0
    while at:
        if at in seen:
            return BrokenLink(link, f"after {len(seen)} pages, this TIFF refers back to an earlier one")
        try:
            file.seek(at)
            (count,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
            end = at + layout.tagnosize + count * layout.tagsize
            file.seek(end)
            (following,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
        except (struct.error, OSError, ValueError, OverflowError):
            if at == start:
                return None  # which tifffile logs
            what = f"page {len(seen)} of this TIFF is not within the file; it and those behind it are missing"
            return BrokenLink(link, what)
        seen.add(at)
        at, link = following, end
    return None


class _EndedFile(io.FileIO):
    """A file that is read as if the reference to a next page at some byte were 0, which says that there is none."""

    def __init__(self, path: str, link: int, size: int) -> None:
        super().__init__(path)
        self._link = range(link, link + size)

    def readinto(self, buffer: Any) -> int | None:  # BufferedReader reads with nothing else
        start, count = self.tell(), super().readinto(buffer)
        for at in self._link:
            if start <= at < start + (count or 0):
                memoryview(buffer).cast("B")[at - start] = 0
        return count


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """The page that stands for all frames of a series."""

    height: int
    width: int
    shape: tuple[int, int, int, int, int]
    """Samples stored apart, planes in depth, rows, columns, samples stored together."""
    segment: tuple[int, int, int]
    """Planes, rows and columns of a tile or strip."""
    tiled: bool
    dtype: np.dtype[Any] | None
    """Native byte order; None if NumPy has no such type."""
    byteorder: Literal["<", ">"]
    bits: int | tuple[int, ...]
    """Bits of a sample, or of each."""
    sample_format: int | tuple[int, ...]
    samples: int
    """Samples of a pixel."""
    extra_samples: tuple[int, ...]
    compression: int
    compression_name: str
    predictor: int
    fill_order: int
    planar: int
    """Planar configuration; 2 if samples are stored apart."""
    subsampling: tuple[int, int]
    """Columns and rows of luma for each sample of chroma."""
    photometric: int
    """1, black is zero, where the file does not say."""
    photometric_name: str
    subfile_type: int
    decode: Any
    """tifffile's decoder of a segment."""
    jpeg_header: bytes | None
    """What precedes each JPEG segment of an NDPI file."""
    jfif: bool
    """True if the first segment is a JPEG with the marker of JFIF."""
    tags: dict[int, Any]
    """Values of `_TAGS` and `_ABOUT` that the page has."""

    @classmethod
    def of(cls, page: tifffile.TiffPage) -> Page:
        """Copy what is needed from tifffile's page; call it under `parsing`."""
        tiled = bool(_whole(page.is_tiled))
        if tiled:
            segment = _whole(page.tiledepth), _whole(page.tilelength), _whole(page.tilewidth)
        else:
            segment = 1, min(_whole(page.rowsperstrip), _whole(page.imagelength)), _whole(page.imagewidth)
        photometric = _whole(page.photometric, 0) if PHOTOMETRIC in page.tags else _whole(page.photometric, 0) or 1
        extra: Any = page.extrasamples  # what it is in a damaged file is anybody's guess
        extra = extra if isinstance(extra, tuple) else () if extra is None else (extra,)
        return cls(
            height=_whole(page.imagelength),
            width=_whole(page.imagewidth),
            shape=tuple(_whole(n) for n in page.shaped),  # type: ignore[arg-type]
            segment=segment,
            tiled=tiled,
            dtype=None if page.dtype is None else np.dtype(page.dtype).newbyteorder("="),
            byteorder=page.parent.byteorder,
            bits=page.bitspersample,
            sample_format=page.sampleformat,
            samples=_whole(page.samplesperpixel),
            extra_samples=tuple(_whole(e) for e in extra),
            compression=_whole(page.compression),
            compression_name=getattr(page.compression, "name", str(page.compression)).lower(),
            predictor=_whole(page.predictor),
            fill_order=_whole(page.fillorder),
            planar=_whole(page.planarconfig, 1) or 1,
            subsampling=_subsampling(page),
            photometric=photometric,
            photometric_name=getattr(page.photometric, "name", str(page.photometric)),
            subfile_type=_whole(page.subfiletype, 0),
            decode=page.decode,
            jpeg_header=page.jpegheader,
            jfif=bool(page.is_jfif),
            tags=_about(page) | {code: tag.value for code in _TAGS if (tag := page.tags.get(code)) is not None},
        )

    @property
    def subsampled(self) -> bool:
        """True if chroma has fewer samples than luma."""
        return self.subsampling != (1, 1)

    @property
    def orientation(self) -> int:
        """Value of its tag, 1 (upright) if it has none."""
        value = self.tags.get(ORIENTATION)
        return int(value) if isinstance(value, int) and value else 1

    def data(self, code: int) -> bytes | None:
        """Value of a tag that holds bytes."""
        value = self.tags.get(code)
        return value if isinstance(value, bytes) else None

    def text(self, code: int) -> str | None:
        """Value of a tag that holds text."""
        value = self.tags.get(code)
        if isinstance(value, bytes):
            value = value.decode("latin1")
        return None if value is None else str(value).strip().rstrip("\0").strip()

    def numbers(self, code: int) -> tuple[float, ...]:
        """Values of a tag that holds numbers; empty if the page does not have it, or if it holds something else."""
        return _numbers(self.tags.get(code, ()))

    def mapping(self, code: int) -> Mapping[str, Any]:
        """Value of a tag that tifffile turns into a dictionary; empty if the page does not have it."""
        value = self.tags.get(code)
        return value if isinstance(value, Mapping) else {}


def _subsampling(page: tifffile.TiffPage) -> tuple[int, int]:
    """Tag 530; YCbCr without it has a fourth of the chroma (TIFF 6.0, section 21)."""
    found: Any = page.subsampling
    if found is None:
        return (2, 2) if _whole(page.photometric, 0) == 6 else (1, 1)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise UnexpectedValueError(f"expected two factors of subsampling, found {str(found)[:40]}")
    return _whole(found[0]), _whole(found[1])


def _numbers(value: Any) -> tuple[float, ...]:
    try:
        values = np.asarray(value, float)
    except (TypeError, ValueError, OverflowError):
        return ()
    return tuple(values.ravel().tolist())


def _about(page: tifffile.TiffPage) -> dict[int, Any]:
    """Return the values of `_ABOUT`, without those that tifffile cannot read: pixels do not depend on them."""
    out = {}
    for code in _ABOUT:
        if (tag := page.tags.get(code)) is not None:
            with suppress(tifffile.TiffFileError, ValueError, TypeError, IndexError, KeyError, struct.error, OSError):
                out[code] = tag.value
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Images of one kind, as tifffile groups them."""

    kind: str
    name: str
    """Empty if the file gives it none."""
    axes: str
    """A letter per axis of `shape`."""
    shape: tuple[int, ...]
    page: Page
    levels: tuple[Series, ...]
    """Smaller copies, the first of them half as large; not including the image itself."""
    transformed: bool
    """True if tifffile knows a transform of pixels for this format."""
    frames: tifffile.TiffPageSeries
    """tifffile's, to look frames up."""
    far: Mapping[int, FarTables]
    """Tables that were not read with their page, by the byte at which the page begins."""

    @classmethod
    def of(cls, series: tifffile.TiffPageSeries, far: Mapping[int, FarTables]) -> Series:
        """Copy what is needed from tifffile's series; call it under `parsing`."""
        if series.keyframe is None:
            raise UnexpectedValueError("a series of images has no first page")
        return cls(
            kind=str(series.kind),
            name=str(series.name or "").strip(),
            axes=series.axes,
            shape=tuple(_whole(n) for n in series.shape),
            page=Page.of(series.keyframe),
            levels=tuple(cls.of(level, far) for level in series.levels[1:]),
            transformed=series.transform is not None,
            frames=series,
            far=far,
        )

    def __len__(self) -> int:
        return len(self.frames)

    def colour_maps(self, path: str) -> tuple[list[tuple[float, ...]], Pixels]:
        """Return the different colour maps of the frames, as stored, and the position of each frame's among them."""
        found = {self.page.numbers(COLOUR_MAP): 0}
        which = np.zeros(len(self), np.intp)
        for number in range(1, len(self)):
            with parsing(path):
                frame = self.frames[number]
                # tifffile keeps the tags of the first page only.
                tag = None if frame is None else frame.aspage().tags.get(COLOUR_MAP)
            if tag is not None:
                which[number] = found.setdefault(_numbers(tag.value), len(found))
        return list(found), which


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What a whole file says."""

    path: str
    size: int
    """Bytes of the file."""
    series: tuple[Series, ...]
    big: bool  # BigTIFF
    ome_xml: str | None
    """None if this is not an OME-TIFF."""
    imagej: dict[str, Any]
    """ImageJ's description; empty if there is none."""
    description: str
    """That of the first page."""
    xmp: str
    """XMP of the first page; empty if there is none."""
    remarks: Remarks


def read_content(path: str, tif: tifffile.TiffFile, remarks: Remarks) -> Content:
    messages = remarks.messages
    with parsing(path, messages):
        series = tuple(Series.of(series, remarks.far) for series in tif.series)
        ome = tif.ome_metadata if tif.is_ome else None
        imagej = tif.imagej_metadata or {}
        size, big = tif.filehandle.size, tif.is_bigtiff
        description, xmp = tif.pages.first.description, tif.pages.first.tags.valueof(_XMP, b"")
        announced = tif.is_ome or tif.is_imagej or tif.is_shaped
    refuse_missing(path, messages)
    if remarks.trouble and (announced or messages):  # what announces frames may lie in the part that is missing
        raise _damaged(path, f"{'; '.join([*remarks.trouble, *messages])}; it is truncated or damaged")
    if not series:
        raise _damaged(path, "this TIFF holds no image; it is truncated or damaged")
    text = xmp.decode("utf-8", "replace") if isinstance(xmp, bytes) else str(xmp)
    return Content(path, size, series, big, ome, imagej, description, text.strip("\0 \n"), remarks)


def gdal_nodata(page: Page) -> str | None:
    """What GDAL's tag says marks missing data, in all bands."""
    return page.text(_GDAL_NODATA)


def states_item(page: Page, name: str) -> bool:
    """Return True if GDAL's metadata of the file have an item of a name."""
    root = parse_xml(page.text(_GDAL_METADATA))
    return root is not None and any(item.get("name") == name for item in root.iter("Item"))


def gdal_names(page: Page, names: Sequence[str]) -> tuple[str, ...] | None:
    """Names of channels with GDAL's descriptions of bands in place of those given; None if they are not unique."""
    root = parse_xml(page.text(_GDAL_METADATA))
    if root is None:
        return None
    found = list(names)
    for item in root.iter("Item"):
        # GDAL escapes the text before XML does.
        sample, text = item.get("sample", ""), unescape((item.text or "").strip(), {"&quot;": '"'})
        if item.get("role") == "description" and sample.isdecimal() and int(sample) < len(found) and text:
            found[int(sample)] = text
    return tuple(found) if tuple(found) != tuple(names) and len(set(found)) == len(found) else None


class OmeImage:
    """What OME-XML says about one image of the file."""

    def __init__(self, xml: str | None, index: int) -> None:
        self._root = root = parse_xml(xml)
        images = [] if root is None else root.findall("{*}Image")
        self._image = image = images[min(index, len(images) - 1)] if images else None
        self._pixels = None if image is None else image.find("{*}Pixels")

    def names(self, count: int) -> tuple[str, ...] | None:
        """Names of `count` channels, if each has one and they are unique."""
        if self._pixels is None:
            return None
        names = tuple((c.get("Name") or "").strip() for c in self._pixels.findall("{*}Channel"))
        return names if len(names) == count and all(names) and len(set(names)) == count else None

    def attribute(self, name: str) -> str | None:
        """Return an attribute of the image's pixels."""
        return None if self._pixels is None else self._pixels.get(name)

    def lens(self) -> str | None:
        """Return the nominal magnification of the objective that the image names, or else of the only one."""
        if self._root is None or self._image is None:
            return None
        settings = self._image.find("{*}ObjectiveSettings")
        lenses = self._root.findall("{*}Instrument/{*}Objective")
        named = [e for e in lenses if settings is not None and e.get("ID") == settings.get("ID")]
        found = named or lenses
        return found[0].get("NominalMagnification") if len(found) == 1 else None


def parse_xml(text: str | None) -> ElementTree.Element | None:
    """Return the root of an XML document; None without text, and if it is damaged."""
    try:
        return ElementTree.fromstring(text) if text else None
    except ElementTree.ParseError:
        return None


def georeference(page: Page, orientation: Orientation) -> dict[str, Any]:
    """
    Coordinates of pixels, from the tags of GeoTIFF.

    Returns
    -------
    Empty if the page has no such tags, else a dictionary of JSON values:

    - `transform` is (a, b, c, d, e, f): x = a * column + b * row + c, y = d * column + e * row + f, for corners of
      upright pixels; `pixel_is_point` is True if the file gives it for centres;
    - `gcps` are ground control points (column, row, level, x, y, z);
    - `geotiff` holds the keys as stored, and `epsg` the code of the horizontal system if they name one.
    """
    keys = _keys(page)
    matrix = _transform(page)
    gcps = _control_points(page) if matrix is None else ()
    if matrix is None and not gcps and keys is None:
        return {}
    out: dict[str, Any] = {"epsg": None if keys is None else keys.epsg}
    if matrix is not None:
        if keys is not None and keys.point:  # from centres to corners
            matrix = matrix @ np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
        stored = matrix @ _upright_to_stored(orientation, page.height, page.width)
        out["transform"] = stored[:2].ravel().tolist()
    elif gcps and orientation.tag == 1:
        out["gcps"] = [list(gcp) for gcp in gcps]
    if keys is not None:
        out["geotiff"] = keys.as_json()
        if keys.point:
            out["pixel_is_point"] = True
    return out


def _transform(page: Page) -> Pixels | None:
    """3x3, from stored pixels."""
    matrix, scale, ties = (page.numbers(code) for code in (_TRANSFORMATION, _PIXEL_SCALE, _TIEPOINTS))
    if len(matrix) == 16:
        found = [[matrix[0], matrix[1], matrix[3]], [matrix[4], matrix[5], matrix[7]], [0, 0, 1]]
    elif len(scale) >= 2 and len(ties) >= 6:
        a, e = scale[0], -scale[1]
        found = [[a, 0, ties[3] - ties[0] * a], [0, e, ties[4] - ties[1] * e], [0, 0, 1]]
    else:
        return None
    array = np.array(found, float)
    return array if np.isfinite(array).all() and np.linalg.det(array) != 0 else None


def _control_points(page: Page) -> tuple[tuple[float, ...], ...]:
    ties = page.numbers(_TIEPOINTS)
    if len(ties) < 12 or len(ties) % 6 or not np.isfinite(ties).all():
        return ()
    return tuple(ties[i : i + 6] for i in range(0, len(ties), 6))


def _upright_to_stored(orientation: Orientation, height: int, width: int) -> Pixels:
    """3x3, of an image stored with this height and width."""
    # Where the first upright pixel, its right neighbour and the one below it are stored determines the matrix.
    tall, wide = orientation.size(height, width)
    at = [orientation.stored(slice(y, y + 1), slice(x, x + 1), tall, wide) for y, x in ((0, 0), (0, 1), (1, 0))]
    first, right, below = np.array([(rows.start, columns.start) for rows, columns in at]) + 0.5  # centres
    across, down = right - first, below - first
    start = first - 0.5 * (across + down)
    return np.array([[across[1], down[1], start[1]], [across[0], down[0], start[0]], [0, 0, 1]])


def _keys(page: Page) -> GeoKeys | None:
    values, numbers, text = page.numbers(DIRECTORY), page.numbers(DOUBLES), page.tags.get(TEXTS, "")
    if len(values) < 4 or values[0] != 1 or not np.isfinite([*values, *numbers]).all():
        return None
    if isinstance(text, bytes):
        text = text.decode("latin1")
    return GeoKeys(tuple(map(int, values)), numbers, text if isinstance(text, str) else "")
