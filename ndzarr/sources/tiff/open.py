"""How does a TIFF file become a source?

1. tifffile parses the file; what it complains about becomes an error or a note (`quiet`).
2. The first series that is neither a thumbnail nor a mask is taken; smaller copies of it, as pyramids hold, are not
   frames.
3. Axes, frames and colour are found out (`layout`, `frame`, `colour`), names and times looked up (`about`).
4. A read translates the window to segments (`segments`), then colour and orientation are applied.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile

from ndzarr.errors import NdzarrError, SourceError
from ndzarr.sources.base import BaseSource, Facts, Pixels, Region, reason
from ndzarr.sources.colour import describe_profile
from ndzarr.sources.options import Options
from ndzarr.sources.orientation import TAG, Orientation, choose, describe
from ndzarr.sources.tiff import about
from ndzarr.sources.tiff.chain import refuse_loop
from ndzarr.sources.tiff.colour import Conversion, conversion
from ndzarr.sources.tiff.frame import FrameFormat, Frames, frame_format
from ndzarr.sources.tiff.layout import Layout, make_layout
from ndzarr.sources.tiff.quiet import listening, refuse_missing
from ndzarr.sources.tiff.segments import Request, SegmentReader

_PROFILE = 34675
_REDUCED, _MASK = 1, 4
"""Bits of the subfile type."""
_COLUMNS = 512
"""Columns of plain strips to read at a time where they become rows."""


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


def open_tiff(path: str, options: Options) -> TiffSource:
    """Open a TIFF file of any flavour that tifffile knows."""
    with listening() as messages:
        try:
            tif = tifffile.TiffFile(path)
        except Exception as error:  # damaged files raise whatever they provoke in the parser
            raise _unparsed(path, messages, error) from error
        try:
            return _open(path, tif, options, messages)
        except NdzarrError:
            tif.close()
            raise
        except Exception as error:
            tif.close()
            raise _unparsed(path, messages, error) from error


def _open(path: str, tif: Any, options: Options, messages: list[str]) -> TiffSource:
    refuse_loop(path, tif)
    series, others = _main_series(path, tif, messages)
    ome = about.OmeImage(tif.ome_metadata if tif.is_ome else None, list(tif.series).index(series))
    page = series.keyframe
    options.check_pixels(path, int(page.imagelength), int(page.imagewidth), whole=False)
    form = frame_format(path, page)
    if not form.is_plain:  # then a segment has to be decoded as a whole
        options.check_pixels(path, form.segment[0] * form.segment[1], form.segment[2], whole=True)
    # tifffile writes axes of length 1 for OME and ImageJ whether or not they mean anything.
    keep = "TZ" if series.kind == "shaped" else ""
    layout = make_layout(path, series.axes, series.shape, form.shape, options.axes, keep)
    nodata, notes = about.nodata_of(page, form.dtype)
    colour = conversion(path, page, layout.lengths[1], layout.inner("c"), nodata)
    if layout.frames.size > tif.filehandle.size:
        raise SourceError(
            f"{path}: it announces {layout.frames.size} frames in {tif.filehandle.size} bytes; the TIFF is truncated or "
            f"damaged, fetch or write it again"
        )
    frames = Frames(path, tif, series, form, layout.frames.size)
    notes += others + messages
    tag = _tag(page, TAG) or 1
    orientation = choose(path, tag, form.shape[2], form.shape[3], options)
    facts = Facts(
        name=path,
        dims=layout.dims,
        shape=_shape(layout, colour, orientation, form),
        dtype=colour.dtype,
        channels=_names(ome, page, layout, colour),
        band=_band(form, orientation),
        interleaved=colour.whole or (form.shape[4] > 1 and layout.samples[0] == "c"),
        nodata=colour.nodata,
        times=_times(tif, ome, layout),
        metadata={
            **_metadata(tif, ome, page, form, colour),
            **describe(tag, orientation),
            **({"notes": notes} if notes else {}),
        },
    )
    frames.settle()
    fill = nodata if nodata is not None else _stored(options.nodata, form.dtype, colour)
    return TiffSource(facts.settle(options), orientation, layout, frames, colour, fill)


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
    if main.transform is not None:
        notes.append("pixels are as stored; the transform that tifffile knows for this format is not applied")
    return main, notes


def _shape(layout: Layout, colour: Conversion, orientation: Orientation, form: FrameFormat) -> tuple[int, ...]:
    height, width = orientation.size(form.shape[2], form.shape[3])
    t, _, z = layout.lengths
    lengths = {"t": t, "c": len(colour.channels), "z": z, "y": height, "x": width}
    return tuple(lengths[d] for d in layout.dims)


def _band(form: FrameFormat, orientation: Orientation) -> int:
    height = orientation.size(form.shape[2], form.shape[3])[0]
    if orientation.transposes:
        step = form.segment[2] if form.tiled else _COLUMNS if form.is_plain else height
    else:
        step = 1 if form.is_plain and not form.tiled else form.segment[1]
    return min(step, height)


def _names(ome: about.OmeImage, page: Any, layout: Layout, colour: Conversion) -> tuple[str, ...]:
    count = len(colour.channels)
    if found := ome.names(count):
        return found
    if layout.inner("c") == layout.lengths[1] and (found := about.gdal_names(page, colour.channels)):
        return found
    return colour.channels


def _times(tif: Any, ome: about.OmeImage, layout: Layout) -> Pixels | None:
    if "t" not in layout.dims:
        return None
    interval = ome.interval() if tif.is_ome else about.imagej_interval(tif.imagej_metadata or {})
    return about.times(interval, layout.lengths[0])


def _metadata(tif: Any, ome: about.OmeImage, page: Any, form: FrameFormat, colour: Conversion) -> dict[str, Any]:
    kind = "BigTIFF" if tif.is_bigtiff else "TIFF"
    out: dict[str, Any] = {
        "format": f"OME-{kind}" if tif.is_ome else kind,
        "compression": getattr(page.compression, "name", str(page.compression)).lower(),
        "segments": f"{'tiles' if form.tiled else 'strips'} of {form.segment[2]} x {form.segment[1]}",
        "colour": colour.said,
        **describe_profile(_tag(page, _PROFILE)),
        **about.georeference(page),
    }
    if colour.about_alpha:
        out["alpha"] = colour.about_alpha
    size = ome.pixel_size() if tif.is_ome else about.imagej_pixel_size(tif.imagej_metadata or {}, page)
    return {**out, **({"pixel_size": size} if size else {})}


def _stored(nodata: float | None, dtype: np.dtype[Any], colour: Conversion) -> float:
    """What to fill gaps with that is nodata after the conversion, 0 if there is no such value."""
    if nodata is None or colour.convert is not None:
        return 0
    with np.errstate(all="ignore"):
        back = dtype.type(nodata) if dtype.kind == "f" or np.isfinite(nodata) else dtype.type(0)
    return nodata if back == nodata or back != back else 0


def _tag(page: Any, code: int) -> Any:
    tag = page.tags.get(code)
    return None if tag is None else tag.value


def _unparsed(path: str, messages: list[str], error: Exception) -> SourceError:
    found = "; ".join([*messages, reason(error)])
    return SourceError(
        f"{path}: this TIFF cannot be parsed ({' '.join(found.split())}); it is truncated or "
        f"damaged, fetch or write it again"
    )
