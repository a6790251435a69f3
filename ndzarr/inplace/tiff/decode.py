"""How do the bytes of a tile become pixels?

1. Pixels that are stored as they are are read straight into the output (`Decoder.plain`).
2. Deflate, Zstandard, LZW and PackBits of whole numbers of bytes in this machine's byte order are decompressed straight
   into the output, where the predictor is undone.
3. Everything else (JPEG, WebP, LERC, JPEG 2000, bits, the other byte order) is tifffile's to decode; so is a tile whose
   size is not what it should be, since some writers cut tiles at the border of the image.

All give what tifffile gives, to the bit.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import imagecodecs
import numpy as np

from ndzarr.inplace.bytefile import buffer
from ndzarr.sources.base import Pixels, reason
from ndzarr.sources.tiff.frame import FrameFormat


def _lzw(data: Pixels, out: Pixels) -> Pixels:
    """
    Decompress LZW by libtiff, which takes 0.6 of the time of imagecodecs' own decoder.

    libtiff reads files; so the bytes get the header of one, of a single row of pixels of 8 bits.
    """
    tags = ((256, out.size), (257, 1), (258, 8), (259, 5), (262, 1), (273, _LZW_START), (277, 1), (278, 1))
    head = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in (*tags, (279, data.size)))
    file = buffer("lzw", _LZW_START + data.size)
    file[:_LZW_START] = np.frombuffer(struct.pack("<2sHIH", b"II", 42, 8, len(tags) + 1) + head + bytes(4), np.uint8)
    file[_LZW_START:] = data
    imagecodecs.tiff_decode(file, out=out.reshape(1, -1))  # type: ignore[arg-type]
    return out


def _zstd_beginning(data: Pixels, out: Pixels) -> Pixels:
    """Decompress as much of a Zstandard frame as fits the output."""
    decompressor = getattr(_LOCAL, "decompressor", None)
    if decompressor is None:
        import zstandard

        decompressor = _LOCAL.decompressor = zstandard.ZstdDecompressor()
    found: int = decompressor.stream_reader(data.data).readinto(out.data)
    return out[:found]


_LOCAL = threading.local()
"""A decompressor per thread, as they must not be shared."""
_LZW_START = 8 + 2 + 9 * 12 + 4
"""Bytes of such a header."""
_DECOMPRESS: Mapping[int, Callable[..., Any]] = {
    8: imagecodecs.deflate_decode,
    32946: imagecodecs.deflate_decode,
    5: _lzw,
    32773: imagecodecs.packbits_decode,
    34926: imagecodecs.zstd_decode,
    50000: imagecodecs.zstd_decode,
}
"""Compressions (tag 259) that give bytes, and take `out`."""
_BEGINNING: Mapping[int, Callable[..., Any]] = {5: _lzw, 34926: _zstd_beginning, 50000: _zstd_beginning}
"""Those of which the beginning can be decompressed alone; deflate's checksum needs all of it."""
_NONE, _HORIZONTAL, _FLOATING_POINT = 1, 2, 3
"""Predictors (tag 317)."""
_BITS = (8, 16, 32, 64)


Part: TypeAlias = tuple[slice, slice]
"""Rows and columns of a tile."""


class TileError(Exception):
    """A tile cannot be decoded; whoever asked for it knows its name."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """Decodes the tiles of one level."""

    form: FrameFormat
    """What all frames have in common."""
    name: str
    """Of the compression."""
    decompress: Callable[..., Any] | None
    """Of a compression that gives bytes which are pixels, up to the predictor; None if tifffile decodes."""
    beginning: Callable[..., Any] | None
    """The same for the first rows of a tile alone, where that takes less time."""
    predictor: int
    """Tag 317, if `decompress` is there."""

    @property
    def plain(self) -> bool:
        """True if pixels are stored as they are."""
        return self.form.is_plain

    def directly(self, data: Pixels, out: Pixels, part: Part | None = None) -> bool:
        """
        Decompress a tile into the output.

        Parameters
        ----------
        data
            Its bytes.
        out
            Axes y, x, samples; C-contiguous.
        part
            Rows and columns that are wanted, columns from the first on.  Others may be left as they are; None for all.

        Returns
        -------
        False if the compression is not one of those that are done here, or something about the tile is odd, which
        tifffile may know how to handle.
        """
        if self.decompress is None:
            return False
        flat = out.reshape(-1).view(np.uint8)
        target = buffer("tile", flat.size) if self.predictor == _FLOATING_POINT else flat
        decompress = self.decompress
        if part is not None and self.beginning is not None and part[0].stop < len(out):
            target = target[: part[0].stop * out[0].nbytes]
            decompress = self.beginning
        try:
            if decompress(data, out=target).size != target.size:
                return False
        except Exception:  # each codec has errors of its own
            return False
        if self.predictor == _HORIZONTAL:
            whole = out.view(f"u{out.itemsize}")
            wanted = whole if part is None else whole[part]
            imagecodecs.delta_decode(wanted, axis=-2, out=wanted)
        elif self.predictor == _FLOATING_POINT:
            rows = out[: target.size // out[0].nbytes]
            imagecodecs.floatpred_decode(target.view(out.dtype).reshape(rows.shape), axis=-2, out=rows)
        return True

    def by_tifffile(
        self, data: Pixels, number: int, tables: bytes | None, inside: tuple[int, int], out: Pixels
    ) -> None:
        """
        Let tifffile decode a tile.

        Parameters
        ----------
        data
            Its bytes.
        number
            Of the tile in its frame.
        tables
            What goes before each JPEG.
        inside
            Rows and columns of the tile that lie in the image; what is beyond may be left as it is.
        out
            Axes y, x, samples.

        Raises
        ------
        TileError
            The bytes are not a tile of this size and type.
        """
        extra = {"jpegtables": tables, "jpegheader": self.form.jpegheader} if self.form.jpeg else {}
        try:
            pixels = self.form.decode(data.tobytes(), number, **extra)[0]
        except Exception as error:  # each codec has errors of its own
            raise TileError(f"does not decode ({reason(error)})") from error
        if pixels is None:
            raise TileError("decodes to nothing")
        # Fax decoders return bits as bytes.
        castable = out.dtype == bool or np.can_cast(pixels.dtype, out.dtype)
        rows, columns = (min(n, have) for n, have in zip(out.shape, pixels.shape[1:3], strict=False))
        if rows < inside[0] or columns < inside[1] or pixels.shape[3:] != out.shape[2:] or not castable:
            raise TileError(f"decodes to {pixels.dtype} pixels of shape {pixels.shape[1:]} instead of {out.shape}")
        out[:rows, :columns] = pixels[0, :rows, :columns]


def decoder(page: Any, form: FrameFormat) -> Decoder:
    """
    How tiles of frames like this page are decoded.

    Parameters
    ----------
    page
        tifffile's.
    """
    name = getattr(page.compression, "name", str(page.compression)).lower()
    decompress = _DECOMPRESS.get(int(page.compression))
    predictor = int(page.predictor)
    kinds = {_NONE: "iufc", _HORIZONTAL: "iu", _FLOATING_POINT: "f"}.get(predictor, "")
    usual = (
        page.fillorder == 1
        and page.bitspersample in _BITS
        and page.bitspersample == 8 * form.dtype.itemsize
        and form.dtype.kind in kinds
        and (form.dtype.itemsize == 1 or _is_native(page))
        and not page.is_subsampled
        and _is_one_format(page)
    )
    beginning = _BEGINNING.get(int(page.compression)) if usual else None
    return Decoder(form, name, decompress if usual else None, beginning, predictor)


def _is_native(page: Any) -> bool:
    return np.dtype(f"{page.parent.byteorder}u2").isnative


def _is_one_format(page: Any) -> bool:
    """True unless samples are of several formats, which tifffile refuses."""
    tag = page.tags.get(339)
    return tag is None or tag.count == 1 or len(set(tag.value)) == 1
