"""How do pixels that are stored as they are get into the output at the speed of memory?

1. Where whole rows are wanted and the output has the file's layout, bytes are read straight into it.
2. Where little of each long row is wanted, just that is read, row by row.
3. Tiles that lie one after the other in the file, as most writers leave them, are read together.

Everything else goes through a buffer that fits the processor's cache.
"""

from __future__ import annotations

import numpy as np

from ndzarr.sources.base import Pixels
from ndzarr.sources.bytefile import ByteFile
from ndzarr.sources.tiff.frame import FrameFormat

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
