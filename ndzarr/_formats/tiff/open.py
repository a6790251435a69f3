"""How does a TIFF file become a source?

1. tifffile parses the file; what it complains about becomes an error or a note (`quiet`).
2. What the file says is put together (`parsed`), and its first and last frame are found, so that a truncated file is
   noticed here.
3. A read translates the window to segments (`layout`, `segments`), then colour and orientation are applied.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import tifffile

from ndzarr._formats.arrays import ArraySource, open_numpy
from ndzarr._formats.base import BaseSource, Facts, Pixels, Region, reason
from ndzarr._formats.options import Options
from ndzarr._formats.orientation import Orientation
from ndzarr._formats.tiff.colour import Conversion
from ndzarr._formats.tiff.metadata import listening, refuse_broken_chain
from ndzarr._formats.tiff.series import Layout, parse
from ndzarr._formats.tiff.strips import Frames, Request, SegmentReader
from ndzarr.errors import NdzarrError, SourceError

# --- When are the pages of a TIFF not images, but the rows of one?


_TOGETHER = 4
"""Longest last axis that is taken for the channels of a pixel."""


def open_shaped(path: str, tif: Any, options: Options) -> ArraySource | None:
    """The source, or None if the file is not of this kind."""
    series = tif.series[0]
    if series.kind != "shaped" or len(series.shape) != 3 or series.axes[-2:] != "YX" or series.dataoffset is None:
        return None
    height, width, samples = series.shape
    if not _is_interleaved(height, width, samples, options):
        return None
    options.check_pixels(path, height, width, whole=False)
    dtype = series.dtype.newbyteorder(tif.byteorder)
    pixels = np.memmap(path, dtype, "r", series.dataoffset, series.shape)
    orient: Any = True  # rows of pixels have no orientation, and their size is checked here
    return open_numpy(pixels, replace(options, axes="yxc", orient=orient), path, "TIFF")


def _is_interleaved(height: int, width: int, samples: int, options: Options) -> bool:
    if options.axes is not None:
        return options.axes == "yxc"
    if isinstance(options.orient, tuple):
        return options.orient == (width, height) != (samples, width)
    return samples <= _TOGETHER < min(height, width)


class TiffSource(BaseSource):
    """A TIFF file, read segment by segment."""

    def __init__(
        self, facts: Facts, orientation: Orientation, layout: Layout, frames: Frames, colour: Conversion, fill: float
    ) -> None:
        """
        Describe a TIFF.

        Parameters
        ----------
        fill
            Stored value of pixels that are not in the file.
        """
        super().__init__(facts, orientation)
        self._layout, self._frames, self._colour = layout, frames, colour
        self._reader = SegmentReader(facts.name, frames.form, fill)

    def _pixels(self, region: Region) -> Pixels:
        window = dict(zip(self.dims, region, strict=True))
        t, z, c = window.get("t", slice(0, 1)), window.get("z", slice(0, 1)), window["c"]
        stored = slice(0, self._layout.lengths[1]) if self._colour.whole else c
        pixels = self._stored(t, stored, z, window["y"], window["x"])
        if self._colour.convert is not None:
            pixels = self._colour.convert(pixels)
            if self._colour.whole:
                pixels = pixels[:, c]
        return pixels[tuple(slice(None) if d in self.dims else 0 for d in "tczyx")]

    def _stored(self, t: slice, c: slice, z: slice, y: slice, x: slice) -> Pixels:
        """Samples as stored, axes t, c, z, y, x."""
        form, layout = self._frames.form, self._layout
        nt, nc, nz, ny, nx = (s.stop - s.start for s in (t, c, z, y, x))
        if form.shape[4] > 1 and layout.samples[0] == "c" and layout.frames.shape[1] == 1:
            # samples of a pixel side by side, as in the file
            out = np.empty((nt, nz, ny, nx, nc), form.dtype).transpose(0, 4, 1, 2, 3)
        else:
            out = np.empty((nt, nc, nz, ny, nx), form.dtype)
        order = [a for a in ("t", "c", "z") if a not in (layout.samples[0], layout.depths[0])]
        axes = ["tcz".index(a) for a in (layout.samples[0], layout.depths[0], *order)]
        requests = []
        for piece in layout.pieces(t, c, z):
            part = out[piece.target].transpose(*axes, 3, 4)
            frame = self._frames.table(piece.frame)
            requests.append(Request(frame, (piece.samples, piece.depths, y, x), part[:, :, 0]))
        self._reader.read(requests)
        return out

    def _release(self) -> None:
        self._frames.close()
        self._reader.forget()


def open_tiff(path: str, options: Options) -> TiffSource | ArraySource:
    """Open a TIFF file of any flavour that tifffile knows."""
    with listening() as messages:
        try:
            tif = tifffile.TiffFile(path)
        except Exception as error:  # damaged files raise whatever they provoke in the parser
            raise _unparsed(path, messages, error) from error
        try:
            refuse_broken_chain(path, tif)  # before tifffile looks for series: it would follow a loop for ever
            if (shaped := open_shaped(path, tif, options)) is not None:
                tif.close()
                return shaped
            return _open(path, tif, options, messages)
        except NdzarrError:
            tif.close()
            raise
        except Exception as error:
            tif.close()
            raise _unparsed(path, messages, error) from error


def _open(path: str, tif: Any, options: Options, messages: list[str]) -> TiffSource:
    parsed = parse(path, tif, options, messages)
    frames = Frames(path, tif, parsed.series, parsed.form, parsed.layout.frames.size)
    facts = parsed.facts(messages).settle(options)
    frames.settle()  # nothing more is asked of tifffile
    return TiffSource(facts, parsed.orientation, parsed.layout, frames, parsed.colour, parsed.fill(options))


def _unparsed(path: str, messages: list[str], error: Exception) -> SourceError:
    found = "; ".join([*messages, reason(error)])
    return SourceError(
        f"{path}: this TIFF cannot be parsed ({' '.join(found.split())}); it is truncated or "
        f"damaged, fetch or write it again"
    )
