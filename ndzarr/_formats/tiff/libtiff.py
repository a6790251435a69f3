"""
Pages of a TIFF that libtiff decodes as a whole.

Old-style JPEG (TIFF 6.0, section 22) spreads a JPEG stream over tags and strips in ways that only libtiff knows.  SGI's
LogL and LogLuv hold luminance by its logarithm.  A page is decoded at the first read of its frame and kept until
another frame is read.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import imagecodecs
import numpy as np
import tifffile

from ndzarr._files import open_binary
from ndzarr._formats.base import Facts, Pixels, Region, Source, quiet_codecs, reason
from ndzarr._formats.orientation import Orientation
from ndzarr._formats.tiff.metadata import AGAIN
from ndzarr.errors import SourceError

OLD_JPEG, SGILOG, SGILOG24 = WHOLE = 6, 34676, 34677
"""Compressions (tag 259) that are decoded here."""


class LibtiffSource(Source):
    """Frames that are pages, decoded whole; axes [t] c y x."""

    def __init__(self, facts: Facts, orientation: Orientation, pages: Pixels) -> None:
        """`pages` are the numbers of the directories of the frames, shape (t,)."""
        super().__init__(facts, orientation)
        self._pages = pages
        self._lock = threading.Lock()
        self._last: tuple[int, Pixels] | None = None

    def _pixels(self, region: Region) -> Pixels:
        times = region[0] if self.dims[0] == "t" else slice(0, 1)
        with self._lock:
            parts = [self._frame(t)[region[-3:]] for t in range(times.start, times.stop)]
        return np.stack(parts) if self.dims[0] == "t" else parts[0]

    def _frame(self, t: int) -> Pixels:
        if self._last is None or self._last[0] != t:
            self._last = None  # the memory is needed for the next one
            self._last = t, self._decode(int(self._pages[t]))
        return self._last[1]

    def _decode(self, page: int) -> Pixels:
        """Return the channels of a page, axes c, y, x."""
        try:
            pixels = _decode(self.name, page)
        except Exception as error:  # libtiff and tifffile report whatever they find
            what = f"page {page} does not decode ({reason(error)})"
            raise SourceError(f"{self.name}: {what}; it is damaged", path=self.name, hint=AGAIN) from error
        if pixels.dtype == np.int16:
            pixels = luminance(pixels)
        planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
        want = (len(self.channels), *self.orientation.size(*self.shape[-2:]))
        if planes.shape != want or planes.dtype != self.dtype:
            what = f"page {page} decodes to {planes.dtype} of shape {planes.shape} instead of {self.dtype} of {want}"
            raise SourceError(f"{self.name}: {what}; it is damaged", path=self.name, hint=AGAIN)
        return planes

    def _release(self) -> None:
        with self._lock:
            self._last = None


MOST_READ = 256 << 20
"""Bytes of a file that is read and not mapped: libtiff dies (SIGBUS) if a mapped file loses its end meanwhile."""


@contextmanager
def _content(path: str) -> Iterator[bytes | mmap.mmap]:
    with open_binary(path) as file:
        if os.fstat(file.fileno()).st_size <= MOST_READ:
            yield file.read()
        else:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data


def _decode(path: str, page: int) -> Pixels:
    with _content(path) as data:
        try:
            with quiet_codecs():
                return np.asarray(imagecodecs.tiff_decode(data, index=page))
        except imagecodecs.TiffError as error:
            if "Missing JPEG tables" not in str(error):
                raise
    # Each strip is a whole JPEG stream, which libtiff does not expect here.
    with tifffile.TiffFile(path) as tif:
        return np.asarray(tif.pages[page].asarray())


def luminance(codes: Pixels) -> Pixels:
    """Return the luminance that codes of LogL mean (G. W. Larson, "LogLuv encoding for full-gamut images", 1998)."""
    magnitude = codes & 0x7FFF
    found = np.exp2((magnitude + np.float32(0.5)) / np.float32(256) - np.float32(64))
    return np.where(magnitude == 0, 0, np.where(codes < 0, -found, found)).astype(np.float32)
