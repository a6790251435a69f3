"""Which images of a TIFF are levels, and can they be read where they lie?

1. The first level is the image that transcoding would read.
2. Overviews (sub-directories, pages of reduced resolution) follow, if each axis has n / 2**k pixels, rounded up or
   down, and samples are as those of the first.  Others are left out, which is noted.
3. `refuse` says of what cannot be read in place why not.
"""

from __future__ import annotations

import os
from math import prod
from typing import Any, NamedTuple

from ndzarr.errors import SourceError, StoreError
from ndzarr.sources.tiff.colour import Conversion, conversion
from ndzarr.sources.tiff.frame import FrameFormat, frame_format
from ndzarr.sources.tiff.parsed import ParsedTiff

MOST_BYTES = 256 << 20
"""Decoded bytes of a tile beyond which it is not read in place."""
_MOST_POWER = 40
REDUCED, MASK = 1, 4
"""Bits of the subfile type (tag 254)."""


class Image(NamedTuple):
    """An image that is a level."""

    power: int
    """It has 1 / 2**power of the pixels along each axis."""
    series: Any
    """tifffile's."""
    form: FrameFormat
    """How its frames are stored."""
    colour: Conversion
    """What becomes of its samples."""


def find_levels(parsed: ParsedTiff, kind: str) -> tuple[list[Image], list[str]]:
    """
    The levels of a file, and notes about overviews that are left out.

    Parameters
    ----------
    kind
        Of 'labels', overviews are left out: nobody knows whether they mix labels.

    Raises
    ------
    StoreError
        The file cannot be read in place.
    """
    refuse(parsed)
    found, notes = {0: Image(0, parsed.series, parsed.form, parsed.colour)}, []
    for series in _candidates(parsed):
        image = "labels may be mixed in it" if kind == "labels" else _overview(parsed, series)
        if isinstance(image, Image) and image.power in found:
            image = "there is another one of its size"
        if isinstance(image, Image):
            found[image.power] = image
        else:
            page = series.keyframe
            notes.append(f"the overview of {page.imagewidth} x {page.imagelength} pixels is not used: {image}")
    return [found[power] for power in sorted(found)], notes


def _candidates(parsed: ParsedTiff) -> list[Any]:
    """Images that may be overviews: what tifffile says are levels, and others that say they are of less resolution."""
    others = [s for s in parsed.tif.series if s is not parsed.series and _is_reduced(s)]
    return [*parsed.series.levels[1:], *(level for series in others for level in series.levels)]


def _is_reduced(series: Any) -> bool:
    return int(series.keyframe.subfiletype or 0) & (REDUCED | MASK) == REDUCED


def refuse(parsed: ParsedTiff) -> None:
    """
    Raise an error about what cannot be read in place.

    Raises
    ------
    StoreError
        It has strips, is turned, or is stored in a way that needs more than one tile per chunk.
    """
    form, layout = parsed.form, parsed.layout
    why = None
    if not form.tiled:
        why = f"it has strips of {form.segment[1]} rows, not tiles"
    elif parsed.orientation.tag != 1:
        why = "its orientation tag asks for it to be turned"
    elif form.segment[0] > 1 or layout.depths[1] > 1:
        why = "its tiles are deep"
    elif parsed.series.kind == "imagej" or layout.frames.size > len(parsed.series):
        why = "its frames have no pages of their own"
    elif max(form.shape[0], form.shape[4]) > 1 and layout.samples[0] != "c":
        why = f"its samples are read as axis {layout.samples[0]}"
    elif parsed.colour.whole and (form.shape[0] > 1 or layout.frames.shape[1] > 1):
        why = "its colours have to be converted, but their samples are stored apart"
    else:
        why = _huge_tiles(form)
    if why is not None:
        raise not_in_place(parsed.path, f"{why}, so it is not read in place")


def _huge_tiles(form: FrameFormat) -> str | None:
    if prod(form.segment) * form.pixel_bytes <= MOST_BYTES:
        return None
    return f"its tiles are as large as {form.segment[2]} x {form.segment[1]} pixels"


def not_in_place(path: str, why: str) -> StoreError:
    """The error that says so, and what to do."""
    return StoreError(f"{path}: {why}; make a store with ndzarr.transcode({os.path.basename(path)!r}, ...)")


def _power(native: tuple[int, ...], shape: tuple[int, int]) -> int | None:
    """The k of an image with n / 2**k pixels along each axis, rounded up or down; None if there is none."""
    for k in range(1, _MOST_POWER):
        if all(m in (max(1, n >> k), -(-n >> k)) for n, m in zip(native, shape, strict=True)):
            return k
    return None


def _overview(parsed: ParsedTiff, series: Any) -> Image | str:
    """An overview as a level, or why it is none."""
    page = series.keyframe
    power = _power(parsed.form.shape[2:4], (page.imagelength, page.imagewidth))
    if power is None:
        return "it does not halve the image"
    if not page.is_tiled:
        return "it has strips"
    if len(series) != len(parsed.series):
        return f"it has {len(series)} frames"
    try:
        form = frame_format(parsed.path, page)
        colour = conversion(parsed.path, page, parsed.layout.lengths[1], parsed.layout.inner("c"), parsed.nodata)
    except SourceError as error:
        return str(error)
    stored = [(f.shape[0], f.shape[1], f.shape[4], f.segment[0], f.dtype) for f in (form, parsed.form)]
    meant = [(c.channels, c.dtype, c.convert is None) for c in (colour, parsed.colour)]
    if stored[0] != stored[1] or meant[0] != meant[1]:
        return "its samples are not those of the image"
    if huge := _huge_tiles(form):
        return huge
    return Image(power, series, form, colour)
