"""What does a TIFF say, before any pixel of it is read?

`parse` picks the series to read: the first that is neither a thumbnail nor a mask; smaller copies of it, as pyramids
hold, are levels of the same series to tifffile, not frames.  Its axes, colour and orientation are worked out, and
`ParsedTiff.facts` tells them in the words of a source.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ndzarr.errors import SourceError
from ndzarr.sources.base import Facts, Pixels
from ndzarr.sources.colour import describe_profile
from ndzarr.sources.options import Options
from ndzarr.sources.orientation import TAG, Orientation, choose, describe
from ndzarr.sources.tiff import about
from ndzarr.sources.tiff.colour import Conversion, conversion
from ndzarr.sources.tiff.frame import FrameFormat, frame_format
from ndzarr.sources.tiff.georeference import georeference
from ndzarr.sources.tiff.layout import Layout, make_layout
from ndzarr.sources.tiff.quiet import refuse_missing

_PROFILE = 34675
_REDUCED, _MASK = 1, 4
"""Bits of the subfile type."""
_COLUMNS = 512
"""Columns of plain strips to read at a time where they become rows."""


@dataclass(frozen=True, slots=True, eq=False)
class ParsedTiff:
    """What is known about a TIFF; `tif`, `series` and `page` are tifffile's."""

    path: str
    """What errors call the file."""
    tif: Any
    """The open file."""
    series: Any
    """The images that are read."""
    page: Any
    """The page that stands for all of them."""
    form: FrameFormat
    """How each of them is stored."""
    layout: Layout
    """Which of them is where along t, c and z."""
    colour: Conversion
    """What becomes of samples."""
    orientation: Orientation
    """What is applied to pixels."""
    tag: int
    """Orientation tag of the file."""
    nodata: float | None
    """Stored value of missing data."""
    notes: tuple[str, ...]
    """What the user should know."""

    def facts(self, messages: list[str]) -> Facts:
        """
        Describe the source.

        Parameters
        ----------
        messages
            What tifffile complained about.
        """
        ome = about.OmeImage(self.tif.ome_metadata if self.tif.is_ome else None, self.tif.series.index(self.series))
        return Facts(
            name=self.path,
            dims=self.layout.dims,
            shape=self._shape(),
            dtype=self.colour.dtype,
            channels=self._names(ome),
            band=self._band(),
            interleaved=self.colour.whole or (self.form.shape[4] > 1 and self.layout.samples[0] == "c"),
            nodata=self.colour.nodata,
            times=self._times(ome),
            metadata=self._metadata(ome, [*self.notes, *messages]),
        )

    def fill(self, options: Options) -> float:
        """Stored value of pixels that are not in the file: such that they become nodata, else 0."""
        if self.nodata is not None:
            return self.nodata
        wanted, dtype = options.nodata, self.form.dtype
        if wanted is None or self.colour.convert is not None or dtype.kind not in "iuf":
            return 0
        if dtype.kind == "f":
            return wanted
        return wanted if np.isfinite(wanted) and np.iinfo(dtype).min <= wanted <= np.iinfo(dtype).max else 0

    def _shape(self) -> tuple[int, ...]:
        height, width = self.orientation.size(self.form.shape[2], self.form.shape[3])
        t, _, z = self.layout.lengths
        lengths = {"t": t, "c": len(self.colour.channels), "z": z, "y": height, "x": width}
        return tuple(lengths[d] for d in self.layout.dims)

    def _band(self) -> int:
        form = self.form
        height = self.orientation.size(form.shape[2], form.shape[3])[0]
        if self.orientation.transposes:
            step = form.segment[2] if form.tiled else _COLUMNS if form.is_plain else height
        else:
            step = 1 if form.is_plain and not form.tiled else form.segment[1]
        return min(step, height)

    def _names(self, ome: about.OmeImage) -> tuple[str, ...]:
        names = self.colour.channels
        if found := ome.names(len(names)):
            return found
        if self.layout.inner("c") == self.layout.lengths[1] and (found := about.gdal_names(self.page, names)):
            return found
        return names

    def _times(self, ome: about.OmeImage) -> Pixels | None:
        if "t" not in self.layout.dims:
            return None
        interval = ome.interval() if self.tif.is_ome else about.imagej_interval(self.tif.imagej_metadata or {})
        return about.times(interval, self.layout.lengths[0])

    def _metadata(self, ome: about.OmeImage, notes: list[str]) -> dict[str, Any]:
        kind = "BigTIFF" if self.tif.is_bigtiff else "TIFF"
        size = (
            ome.pixel_size() if self.tif.is_ome else about.imagej_pixel_size(self.tif.imagej_metadata or {}, self.page)
        )
        optional = {"alpha": self.colour.about_alpha, "pixel_size": size, "notes": notes}
        return {
            "format": f"OME-{kind}" if self.tif.is_ome else kind,
            "compression": getattr(self.page.compression, "name", str(self.page.compression)).lower(),
            "segments": "{} of {} x {}".format("tiles" if self.form.tiled else "strips", *self.form.segment[:0:-1]),
            "colour": self.colour.said,
            **describe_profile(_tag(self.page, _PROFILE)),
            **georeference(self.page, self.orientation),
            **describe(self.tag, self.orientation),
            **{key: value for key, value in optional.items() if value},
        }


def parse(path: str, tif: Any, options: Options, messages: list[str]) -> ParsedTiff:
    """
    Work out what an open TIFF says.

    Raises
    ------
    SourceError
        Pages are missing, or there are more pixels than are believed.
    """
    series, notes = _main_series(path, tif, messages)
    page = series.keyframe
    options.check_pixels(path, int(page.imagelength), int(page.imagewidth), whole=False)
    form = frame_format(path, page)
    if not form.is_plain:  # then a segment has to be decoded as a whole
        options.check_pixels(path, form.segment[0] * form.segment[1], form.segment[2], whole=True)
    if prod(series.shape) // prod(form.shape) > tif.filehandle.size:
        raise SourceError(
            f"{path}: it announces an array of shape {tuple(series.shape)} in {tif.filehandle.size} bytes; the TIFF is "
            f"truncated or damaged, fetch or write it again"
        )
    # tifffile tells axes of length 1 for OME and ImageJ whether or not they mean anything.
    keep = "TZ" if series.kind == "shaped" else ""
    layout = make_layout(path, series.axes, series.shape, form.shape, options.axes, keep)
    nodata, more = about.nodata_of(page, form.dtype)
    tag = _tag(page, TAG) or 1
    return ParsedTiff(
        path=path,
        tif=tif,
        series=series,
        page=page,
        form=form,
        layout=layout,
        colour=conversion(path, page, layout.lengths[1], layout.inner("c"), nodata),
        orientation=choose(path, tag, form.shape[2], form.shape[3], options),
        tag=tag,
        nodata=nodata,
        notes=(*notes, *more),
    )


def _main_series(path: str, tif: Any, messages: list[str]) -> tuple[Any, list[str]]:
    """The series to read, and a note about those that are not."""
    found = list(tif.series)
    refuse_missing(path, messages)
    if not found:
        raise SourceError(f"{path}: this TIFF holds no image; it is truncated or damaged, fetch or write it again")
    whole = [s for s in found if not int(s.keyframe.subfiletype or 0) & (_REDUCED | _MASK)]
    main = whole[0] if whole else found[0]
    others = [s for s in whole if s is not main]
    notes = [f"{len(others)} other images of the file, of other shapes, are not read"] if others else []
    if any(int(s.keyframe.subfiletype or 0) & _MASK for s in found):
        notes.append(
            "its internal mask is not read: pixels that the mask hides are as stored, and count as real unless they "
            "have the value given as nodata="
        )
    if main.transform is not None:
        notes.append("pixels are as stored; the transform that tifffile knows for this format is not applied")
    return main, notes


def _tag(page: Any, code: int) -> Any:
    tag = page.tags.get(code)
    return None if tag is None else tag.value
