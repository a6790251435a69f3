"""
Masks, as GDAL writes them: in a TIFF, or as a TIFF beside a file of any format.

An internal mask is a page with bit 4 of the subfile type (tag 254) for each page of the image, 1 bit a pixel.  The mask
of another file `name` is a TIFF `name.msk`, and holds for all frames.  Both may have overviews of the mask.  Pixels are
real where the mask is not 0 (https://gdal.org/development/rfc/rfc15_nodatabitmask.html).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ndzarr._files import MASK_SUFFIX, FileId
from ndzarr._formats.tiff.array import TiffArray
from ndzarr._formats.tiff.metadata import Series, open_parsed, read_content
from ndzarr._formats.tiff.segments import TiffFile, frame_format, make_decoder, read_table
from ndzarr._formats.tiff.series import MASK, Layout, ParsedTiff, power_of
from ndzarr._remote.files import OpenedFile
from ndzarr.errors import SourceError

_STILL = Layout(("c", "y", "x"), np.zeros((1, 1, 1), np.intp), ("c", 1), ("z", 1))
"""The layout of a mask beside a file of another format."""


def internal_masks(file: TiffFile, parsed: ParsedTiff, dims: tuple[str, ...]) -> dict[int, TiffArray]:
    """
    Return the masks in a file of the images that are read: power of 2 by which it is smaller, to array of `dims`.

    Call it while tifffile has the file open.
    """
    masks = overview_masks(file, parsed.content.series, parsed, dims)
    return masks if 0 in masks else {}


def overview_masks(
    file: TiffFile, found: Sequence[Series], parsed: ParsedTiff, dims: tuple[str, ...]
) -> dict[int, TiffArray]:
    """Return the same of masks among the images `found` of a file, such as one of overviews."""
    layout = parsed.layout
    if layout.samples[0] != "c" or layout.depths[1] > 1:
        return {}
    of_frames = Layout(layout.dims, layout.frames[:, :1], ("c", 1), ("z", 1))
    masks = [s for s in found if s.page.subfile_type & MASK]
    return _masks(file, masks, parsed.form.shape[2:4], of_frames, dims)


def mask_notes(parsed: ParsedTiff, used: Mapping[int, TiffArray]) -> list[str]:
    """Return a note if a file has a mask that is not used."""
    if used or not any(s.page.subfile_type & MASK for s in parsed.content.series):
        return []
    return ["its internal mask is not read, since it does not have the size and the frames of the image"]


def masks_beside(
    path: str,
    size: tuple[int, int],
    image: Layout | None = None,
    dims: tuple[str, ...] = _STILL.dims,
    remote: OpenedFile | None = None,
) -> dict[int, TiffArray]:
    """
    Return the same of the mask beside a file, whose image is stored with (height, width) `size`.

    `image` is the layout of the image, to all of whose frames the mask is repeated; `remote` the mask, if it is not on
    a local disk.
    """
    name = path + MASK_SUFFIX
    file = FileId.of(name) if remote is None else remote.file
    frames = _STILL.frames if image is None else np.zeros_like(image.frames[:, :1])
    layout = Layout(_STILL.dims if image is None else image.dims, frames, ("c", 1), ("z", 1))
    with open_parsed(name, remote) as (tif, remarks):
        series = read_content(name, tif, remarks).series
        found = _masks(file, series, size, layout, dims)
    if 0 not in found:
        height, width = series[0].page.height, series[0].page.width
        what = f"this mask of {width} x {height} pixels is beside an image of {size[1]} x {size[0]}"
        raise SourceError(f"{name}: {what}", path=name, hint="Write the mask again, or remove it")
    return found


def _masks(
    file: TiffFile, found: Sequence[Series], size: tuple[int, int], layout: Layout, dims: tuple[str, ...]
) -> dict[int, TiffArray]:
    """Return the masks of an image of (height, width) `size`; `found` may hold images of other sizes."""
    frames, out = int(layout.frames.max()) + 1, dict[int, TiffArray]()
    for series in (level for s in found for level in (s, *s.levels)):
        page = series.page
        power = power_of(size, (page.height, page.width))
        if power is None or power in out or len(series) < frames:
            continue
        if page.samples > 1:
            what = f"the mask has {page.samples} bands, one for each of the image, which is not supported"
            raise SourceError(f"{file.path}: {what}", path=file.path, hint="Write a mask of one band")
        form = frame_format(file.path, page)
        table = read_table(file, power, series, form, frames)
        lengths = {"t": layout.lengths[0], "c": 1, "z": layout.lengths[2], "y": page.height, "x": page.width}
        shape = tuple(lengths[d] for d in dims)
        out[power] = TiffArray(power, dims, shape, form, make_decoder(page, form), table, layout, 0)
    return out
