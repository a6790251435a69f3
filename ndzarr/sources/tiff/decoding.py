"""How does a segment of a TIFF decode, where tifffile's decoder does not give what libtiff gives?

- LERC keeps pixels without data in a mask, which tifffile drops.  In floats they are NaN; libtiff also stores an alpha
  of 0 and 255 so, and the samples of a pixel apart where they have different masks.
- A JPEG that holds one of three samples is gray, whatever colour the three make together.

Everything else is tifffile's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import imagecodecs
import numpy as np

from ndzarr.sources.base import Pixels

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
