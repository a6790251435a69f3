"""
The compiled core: what is done outside Python's lock.

All chunks of a plan are decoded by one call, in threads of the core's own.

`decode` takes a flat plan, which is a few tables of integers:

1. `ChunkFormat` says how the bytes of a chunk become pixels: codec, checksum, differences, shape and strides.
2. A row of `chunks` says where the bytes are, in a file or in memory, and which parts the chunk has.
3. A row of `parts` is a box: its start in the chunk, its start in a window, its size.

The decoders are those of libraries that are installed anyway: their functions are looked up in the extension modules
of imagecodecs, google-crc32c and numcodecs, and in the libraries that these bring along. That needs no foreign header
and no second copy of a decoder, and gives the same bytes as the Python way, which calls the same functions. Names and
signatures are those of the libraries' public C interfaces (blosc.h, zstd.h, libdeflate.h, crc32c.h, tiffio.h), which
have not changed for years. A codec whose functions are not found is decoded the Python way.

LZW and JPEG are decoded by libtiff, which takes the bytes of a tile from memory (`TIFFReadFromUserBuffer`): libjpeg's
own interface is structures, whose layout only its headers tell.

The core is optional: without it, with `NDZARR_CORE=0`, and for chunks that it reports, the Python way is taken, with
the same result. That also raises the errors: the core only says which chunks are damaged.
"""

from __future__ import annotations

import ctypes
import os
import zlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import import_module
from importlib.util import find_spec
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ndzarr._concurrency import available_cpus
from ndzarr.errors import warn_caller

Table: TypeAlias = "npt.NDArray[np.int64] | array[int] | bytes"
"""Rows of int64, C-contiguous."""

SWITCH = "NDZARR_CORE"
"""Environment variable: "0" switches the core off."""

enabled = os.environ.get(SWITCH) != "0"
"""False switches the core off from now on."""

THREAD_BYTES = 96 << 10
"""Decoded bytes per thread, below which waking another thread costs more than it saves."""

KINDS = ("raw", "blosc", "zstd", "zlib", "lzw", "jpeg")
"""Codecs, by their numbers in `_core.c`."""

PREDICTORS = ("none", "horizontal", "floating")
"""What was done to the numbers of each row before they were encoded, by numbers in `_core.c` (TIFF, tag 317)."""

_FUNCTIONS = {
    "crc32c": ("crc32c_value",),
    "blosc": ("blosc_decompress_ctx", "blosc_compress_ctx"),
    "zstd": ("ZSTD_createDCtx", "ZSTD_decompressDCtx", "ZSTD_initDStream", "ZSTD_decompressStream"),
    "libdeflate": ("libdeflate_alloc_decompressor", "libdeflate_zlib_decompress"),
    "libtiff": (
        *("TIFFOpenOptionsAlloc", "TIFFOpenOptionsFree"),
        *("TIFFOpenOptionsSetErrorHandlerExtR", "TIFFOpenOptionsSetWarningHandlerExtR"),
        *("TIFFClientOpenExt", "TIFFSetField", "TIFFReadFromUserBuffer", "TIFFClose"),
    ),
}
"""Functions of each library that the core calls, in its order."""
_PLACES = {
    "crc32c": ("google_crc32c._crc32c", "google_crc32c/extra-dll/crc32c.dll"),
    "blosc": ("imagecodecs._blosc", "numcodecs.blosc"),
    "zstd": ("imagecodecs._zstd", "numcodecs.zstd", "numcodecs.blosc"),
    "libdeflate": ("imagecodecs._deflate",),
    "libtiff": ("imagecodecs._tiff",),
}
"""Modules and files to look for a library in; all of its functions are taken from one, since they share structures."""
_NEEDS = {"blosc": "blosc", "zstd": "zstd", "zlib": "libdeflate", "lzw": "libtiff", "jpeg": "libtiff"}
"""The library that a codec needs."""

MISSING = (-1, 0, -1)
"""Source, offset and length of a chunk that is not stored."""
MEMORY = -1
"""Source of a chunk whose offset is an address."""


@dataclass(frozen=True)
class ChunkFormat:
    """How the bytes of a chunk become pixels."""

    kind: str
    """One of `KINDS`."""
    shape: tuple[int, ...]
    """Shape of a chunk, in the order of the array's axes."""
    dtype: np.dtype[Any]
    order: tuple[int, ...] | None = None
    """Order of the axes in memory, None for the array's own."""
    crc: bool = False
    """A crc32c of the bytes follows them."""
    fill: Any = 0
    """Value of the pixels of chunks that are not stored."""
    row: tuple[int, int] | None = None
    """Numbers in a row and in a pixel of the decoded bytes; None if nothing that follows needs to know."""
    predictor: str = "none"
    """One of `PREDICTORS`; undone within rows, from pixel to pixel."""
    swapped: bool = False
    """Numbers are in the byte order that is not this machine's."""
    early: bool = False
    """What follows the last row wanted need not be decoded: nothing at its end tells whether a chunk is damaged."""
    ycbcr: bool = False
    """A JPEG's three components become r, g, b; else all are kept as they are."""
    tables: bytes = b""
    """What precedes each JPEG."""

    @cached_property
    def nbytes(self) -> int:
        """Bytes of a decoded chunk."""
        return prod(self.shape) * self.dtype.itemsize

    @cached_property
    def known(self) -> bool:
        """True if the core is there and can decode such chunks."""
        item = self.dtype.itemsize
        needed = [_NEEDS[self.kind]] if self.kind in _NEEDS else []
        if self.crc:
            needed.append("crc32c")
        return (
            is_built()
            and all(map(_bind, needed))
            and item in (1, 2, 4, 8, 16)
            and not (self.predictor != "none" and item > 8)
            and not (self.kind == "jpeg" and not _one_libjpeg())
        )

    def table_row(self, axes: int) -> bytes:
        """Return the row of `formats` in a plan of so many axes, of which the array has the last ones."""
        return self._row if axes == len(self.shape) else self._make_row(axes)

    @cached_property
    def _row(self) -> bytes:
        return self._make_row(len(self.shape))

    def _make_row(self, axes: int) -> bytes:
        item = self.dtype.itemsize
        order = range(len(self.shape)) if self.order is None else self.order
        strides, step = [0] * len(self.shape), item
        for axis in reversed(order):
            strides[axis] = step
            step *= self.shape[axis]
        row, lag = self.row or (0, 0)
        swap = (item // 2 if self.dtype.kind == "c" else item) if self.swapped and item > 1 else 0
        pixel = np.asarray(self.fill, self.dtype).tobytes().ljust(16, b"\0")
        fill = np.frombuffer(pixel, np.int64).tolist()
        more = axes - len(self.shape)
        tables = np.frombuffer(self.tables, np.uint8).ctypes.data if self.tables else 0
        head = [KINDS.index(self.kind), self.crc, PREDICTORS.index(self.predictor), lag, row, item, *fill]
        head += swap, self.early, self.ycbcr, tables, len(self.tables)
        return array("q", [*map(int, head), *[1] * more, *self.shape, *[0] * more, *strides]).tobytes()


class FlatPlan(NamedTuple):
    """
    Chunks to decode, and where their parts go: what `decode` does.

    Tables are buffers of int64, row by row: numpy's arrays, those of the standard library, or bytes.
    """

    axes: int
    """The most axes that an array of the plan has; shorter rows begin with axes of size 1."""
    formats: tuple[ChunkFormat, ...]
    """Those of the arrays that the chunks belong to."""
    outputs: Sequence[np.ndarray[Any, Any]]
    """Arrays of any strides, one per window, with the dtypes of their chunks."""
    steps: Table
    """(window, axis): distance of the wanted pixels of a chunk along each axis, at least 1."""
    chunks: Table
    """
    (chunk, 6): source, offset, length, format, first part, part behind the last.

    The source is the descriptor of a file that stays open, or `MEMORY`: then the offset is the address of bytes that
    stay where they are. The length is that of the encoded bytes, -1 if the chunk is not stored: its parts get the fill
    value.
    """
    parts: Table
    """(part, 1 + 3 * axes): window, start in the chunk, start in the window, and size, in pixels along each axis."""

    def decode(self, threads: int | None = None, meanwhile: Callable[[], object] | None = None) -> list[int]:
        """
        Decode all chunks; return the numbers of those that the core could not decode, in ascending order.

        Those are damaged, or only the Python way can decode them; what their parts contain is undefined. At most
        `threads` threads take part, by default as many as there are CPUs. This one first calls `meanwhile`, once the
        others have begun. Raise `ValueError` if the tables do not fit one another, `KeyboardInterrupt` if the user
        stops it, and whatever `meanwhile` raises.
        """
        core = _module()
        assert core is not None, "ChunkFormat.known is False"
        formats = b"".join([format.table_row(self.axes) for format in self.formats])
        number = memoryview(self.chunks).nbytes // 48  # type: ignore[arg-type]
        size = sum([format.nbytes for format in self.formats]) // len(self.formats) * number
        most = available_cpus() if threads is None else threads
        wanted = min(most, number, 1 + size // THREAD_BYTES)
        found: list[int] = core.decode(
            self.axes, formats, self.steps, list(self.outputs), self.chunks, self.parts, wanted, meanwhile
        )
        return found


def cut(axes: int, windows: Sequence[int], arrays: Sequence[int], shards: Sequence[int]) -> tuple[bytes, bytes]:
    """
    Cut windows at the borders of the chunks of sharded arrays; return the tables `chunks` and `parts` of a `FlatPlan`.

    Each chunk gets one part, so no two windows may share chunks. Chunks are in C order, window by window. Rows are

    - of `windows`: number of its array, number of the first of its shards; start along each axis; stop along each axis,
    - of `arrays`: shape of a chunk; number of chunks in a shard along each axis,
    - of `shards`: descriptor of its file, -1 if there is none; address of its index. Those that a window touches follow
      one another in C order.
    """
    core = _module()
    assert core is not None, "ChunkFormat.known is False"
    found: tuple[bytes, bytes] = core.cut(axes, array("q", windows), array("q", arrays), array("q", shards))
    return found


def expect() -> None:
    """Wake a thread of the core for a plan that is about to be made, if the last one had use for it."""
    core = _module()
    if core is not None:
        core.expect()


_BLENDED = [np.dtype(code) for code in ("u1", "i1", "u2", "i2", "f4", "f8", "V1", "V2", "V4", "V8")]
"""Types of arrays that can be blended, by their numbers in `_core.c`; those of bytes are classes."""
MEANS = {np.dtype(np.float32): _BLENDED[:5], np.dtype(np.float64): _BLENDED[5:6]}
"""Types of arrays, and of the output, whose means are computed in float32, and in float64."""


def blend(
    out: np.ndarray[Any, Any],
    covered: np.ndarray[Any, Any],
    starts: Sequence[tuple[int, int]],
    pixels: Sequence[np.ndarray[Any, Any]],
    weights: Sequence[np.ndarray[Any, Any]],
) -> None:
    """
    Write the weighted mean of arrays that overlap, and where there are any.

    All have axes (y, x), and numbers that follow one another along x.

    Parameters
    ----------
    out
        Of a type of `MEANS`: means of integers are rounded, half to even.  Or `V1` to `V8`: the first of the pixels
        with the largest weight is taken.  Pixels that no array covers become 0.
    covered
        bool.
    starts
        Row and column of each array in the output.
    pixels
        Of the types that `MEANS` has beside that of the output, or of the output's.
    weights
        float32, above 0; of the shapes of `pixels`.

    Raises
    ------
    ValueError
        Types or shapes do not fit one another.
    """
    core = _module()
    assert core is not None, "is_built() is False"
    rows = ((*start, _BLENDED.index(own.dtype)) for start, own in zip(starts, pixels, strict=True))
    table = array("q", [n for row in rows for n in row])
    core.blend(out, _BLENDED.index(out.dtype), covered, list(pixels), list(weights), table)


SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
"""Filters of Blosc, by their numbers in blosc.h."""


def encode(
    chunks: np.ndarray[Any, Any], wanted: Sequence[bool], cname: str, level: int, shuffle: str, crc: bool
) -> list[bytes | None] | None:
    """
    Compress chunks with Blosc, outside Python's lock; return the bytes of each that is wanted.

    Return None if the core cannot do it.  `chunks` is C-contiguous, its first axis that of the chunks.  With `crc`, a
    crc32c follows the bytes.
    """
    core = _module() if enabled else None
    if core is None or not (_bind("blosc") and _bind("crc32c")):
        return None
    found: list[bytes | None] = core.encode(
        chunks.view(np.uint8), bytes(wanted), cname, level, SHUFFLES.index(shuffle), chunks.itemsize, crc
    )
    return found


def is_built() -> bool:
    """Return True if the core is there, whether it is switched on or not."""
    return _module() is not None


def status() -> str:
    """Say whether the core is used, and for which codecs, or why not."""
    if not enabled:
        return f"switched off ({SWITCH}=0)"
    if _module() is None:
        return "not built: the package was installed where no C compiler was found, or from a changed source"
    dtype = np.dtype(np.uint8)
    known = [kind for kind in KINDS if ChunkFormat(kind, (1,), dtype, crc=True).known]
    return f"in use: {', '.join(known)}; up to {available_cpus()} threads"


@lru_cache(maxsize=1)
def _module() -> ModuleType | Any | None:
    """Return the extension module; None if it was not built, or of another source."""
    if find_spec("ndzarr._store._core") is None:
        return None
    core = import_module("ndzarr._store._core")
    source = Path(__file__).with_name("_core.c")
    if source.is_file() and core.source_crc not in (0, zlib.crc32(source.read_bytes()) & 0x7FFFFFFF):
        warn_caller("the compiled core is of another source and is not used: install ndzarr again", RuntimeWarning)
        return None
    return core


@lru_cache(maxsize=16)
def _bind(library: str) -> bool:
    """Find a library and give its functions to the core; return False if it is nowhere."""
    core = _module()
    assert core is not None, "is_built() is False"
    tried = ([_address(name, place) for name in _FUNCTIONS[library]] for place in _PLACES[library])
    found = next(filter(all, tried), None)
    if found is not None:
        core.bind([a for name in _FUNCTIONS for a in (found if name == library else [0] * len(_FUNCTIONS[name]))])
    return found is not None


@lru_cache(maxsize=1)
def _one_libjpeg() -> bool:
    """Return True if libtiff decodes JPEG with the library that the Python way calls, so that pixels are the same."""
    first, second = (_address("jpeg_read_scanlines", place) for place in ("imagecodecs._tiff", "imagecodecs._jpeg8"))
    return first == second != 0


def _address(name: str, place: str) -> int:
    """Return the address of a function in an extension module, in what that is linked to, or in a file; 0 if none."""
    library = _library(place)
    function = None if library is None else getattr(library, name, None)
    return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0


@lru_cache(maxsize=16)
def _library(place: str) -> ctypes.CDLL | None:
    package, _, inside = place.partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    if inside:
        path = Path(spec.origin).parent / inside
        if not path.exists():
            return None
    else:
        import_module(package)  # as the module loads what it is linked to
        path = Path(spec.origin)
    return ctypes.CDLL(os.fspath(path))
