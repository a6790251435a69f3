"""When are the pages of a TIFF not images, but the rows of one?

`tifffile.imwrite(path, array)` of an array (y, x, c) takes c for x unless told otherwise, and writes each row as a
page of x times c pixels; kwcoco's demo data are so.  Such a file says the array's shape in its description, and
its pages lie one after the other.  It is read as the array, if nobody says that it is a stack, where

- its last axis is no longer than RGBA's, as for arrays in memory, or
- its rows and columns are the size that the caller expects, which its pages are not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ndzarr.sources.array import ArraySource, open_numpy
from ndzarr.sources.options import Options

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
