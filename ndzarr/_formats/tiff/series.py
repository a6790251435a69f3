"""What does a TIFF say, before any pixel of it is read?

`parse` picks the series to read: the first that is neither a thumbnail nor a mask; smaller copies of it, as pyramids
hold, are levels of the same series to tifffile, not frames.  Its axes, colour and orientation are worked out, and
`ParsedTiff.facts` tells them in the words of a source.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ndzarr._formats.base import Facts, Pixels, in_order
from ndzarr._formats.colour import describe_profile
from ndzarr._formats.options import Options
from ndzarr._formats.orientation import TAG, Orientation, choose_orientation, describe_orientation
from ndzarr._formats.tiff.colour import Conversion, conversion
from ndzarr._formats.tiff.metadata import OmeImage as about_OmeImage
from ndzarr._formats.tiff.metadata import gdal_names as about_gdal_names
from ndzarr._formats.tiff.metadata import georeference, refuse_missing
from ndzarr._formats.tiff.metadata import imagej_interval as about_imagej_interval
from ndzarr._formats.tiff.metadata import imagej_pixel_size as about_imagej_pixel_size
from ndzarr._formats.tiff.metadata import nodata_of as about_nodata_of
from ndzarr._formats.tiff.metadata import times as about_times
from ndzarr._formats.tiff.strips import FrameFormat, frame_format
from ndzarr.errors import OptionError, SourceError, StoreError

# --- Which frame of a TIFF, and which part of it, holds a window of t, c and z?


_ROLES = {"T": "t", "C": "c", "S": "c", "Z": "z", "Y": "y", "X": "x"}
_OUTER = ("t", "c", "z")


class Piece(NamedTuple):
    """What a window needs of one frame."""

    frame: int
    """Number of the frame in the series."""
    samples: slice
    """Samples of the frame."""
    depths: slice
    """Planes in depth of the frame."""
    target: tuple[slice, slice, slice]
    """Where they land in the output, along t, c and z."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where t, c and z are in the frames of a series."""

    dims: tuple[str, ...]
    """Axis names of the source."""
    frames: Pixels
    """Numbers of frames, shape (outer t, outer c, outer z)."""
    samples: tuple[str, int]
    """The axis that samples within a frame belong to, and how many there are."""
    depths: tuple[str, int]
    """The same for planes in depth."""

    def inner(self, axis: str) -> int:
        """How many positions along `axis` one frame holds."""
        return prod(n for a, n in (self.samples, self.depths) if a == axis)

    @property
    def lengths(self) -> tuple[int, int, int]:
        """Length of t, c and z; 1 where there is none."""
        t, c, z = (n * self.inner(a) for a, n in zip(_OUTER, self.frames.shape, strict=True))
        return t, c, z

    def pieces(self, t: slice, c: slice, z: slice) -> Iterator[Piece]:
        """What a window needs, frame by frame."""
        cuts = [list(_cuts(w, self.inner(a))) for a, w in zip(_OUTER, (t, c, z), strict=True)]
        for found in product(*cuts):
            inside = {a: cut[1] for a, cut in zip(_OUTER, found, strict=True)}
            yield Piece(
                frame=int(self.frames[tuple(cut[0] for cut in found)]),
                samples=inside[self.samples[0]] if self.samples[1] > 1 else slice(0, 1),
                depths=inside[self.depths[0]] if self.depths[1] > 1 else slice(0, 1),
                target=(found[0][2], found[1][2], found[2][2]),
            )


def _cuts(window: slice, inner: int) -> Iterator[tuple[int, slice, slice]]:
    """(outer position, positions within a frame, positions in the output) of a window along one axis."""
    for outer in range(window.start // inner, -(-window.stop // inner)):
        start, stop = max(window.start, outer * inner), min(window.stop, (outer + 1) * inner)
        yield (
            outer,
            slice(start - outer * inner, stop - outer * inner),
            slice(start - window.start, stop - window.start),
        )


def make_layout(
    path: str, axes: str, shape: Sequence[int], frame: tuple[int, int, int, int, int], asked: str | None, keep: str
) -> Layout:
    """
    Find t, c and z in a series.

    Parameters
    ----------
    axes, shape
        Of the series, as tifffile tells them.
    frame
        Shape of a frame: samples stored apart, depth, rows, columns, samples stored together.
    asked
        The option `axes`.
    keep
        Letters of axes that are kept though they have length 1; y and x always are.
    """
    if asked is None:
        roles = [
            _ROLES.get(a, "t") if n > 1 or a in keep or a in "YX" else None for a, n in zip(axes, shape, strict=True)
        ]
    else:
        roles = _asked(path, axes, shape, asked)
    kept = [(role, int(n)) for role, n in zip(roles, shape, strict=True) if role is not None]
    apart, depth, height, width, together = frame
    rest = [(role, n) for role, n in kept if n > 1]
    inside: dict[str, tuple[str, int]] = {}
    for name, length in (("together", together), ("x", width), ("y", height), ("depth", depth), ("apart", apart)):
        if length > 1:
            inside[name] = rest.pop() if rest else ("", 0)
            if inside[name][1] != length or (name in "xy" and inside[name][0] != name):
                raise _mismatch(path, axes, shape, frame)
    depth_axis = inside.get("depth")
    samples = inside.get("together") or inside.get("apart") or ("c" if depth_axis != ("c", depth) else "t", 1)
    depths = depth_axis or ("z" if samples[0] != "z" else "t", 1)
    if {samples[0], depths[0]} & {"x", "y"} or any(role in "xy" for role, _ in rest):
        raise _mismatch(path, axes, shape, frame)
    if samples[0] == depths[0]:
        raise SourceError(f"{path}: samples and depth of its pages cannot both be {samples[0]}; pass other axes=")
    return Layout(in_order("".join(role for role, _ in kept) + "yx"), _frames(rest), samples, depths)


def _frames(axes: list[tuple[str, int]]) -> Pixels:
    """Numbers of frames by outer position along t, c and z."""
    numbers = np.arange(prod(n for _, n in axes)).reshape([n for _, n in axes])
    order = [i for role in _OUTER for i, (r, _) in enumerate(axes) if r == role]
    return numbers.transpose(order).reshape([prod(n for r, n in axes if r == role) for role in _OUTER])


def _asked(path: str, axes: str, shape: Sequence[int], asked: str) -> list[str | None]:
    """A role for each axis of the series, from the option; it may leave out axes of length 1 (no role), and samples."""
    long = [a for a, n in zip(axes, shape, strict=True) if n > 1 or a in "YX"]
    for left_out in ([], [a for a in axes if a not in long], [a for a in axes if a not in long or a == "S"]):
        if len(axes) - len(left_out) == len(asked) and not ("S" in left_out and "S" in long and "c" in asked):
            given = iter(asked)
            return [next(given) if a not in left_out else "c" if a == "S" else None for a in axes]
    found = ", ".join(f"{a} {n}" for a, n in zip(axes, shape, strict=True) if a in long)
    raise OptionError(f"{path}: axes={asked!r} names {len(asked)} axes, but the file has {len(long)}: {found}")


def _mismatch(path: str, axes: str, shape: Sequence[int], frame: tuple[int, ...]) -> SourceError:
    found = ", ".join(f"{a} {n}" for a, n in zip(axes, shape, strict=True))
    return SourceError(
        f"{path}: its axes are {found}, but its pages hold {frame[3]} x {frame[2]} pixels, so it is not clear which "
        f"axes are y and x; pass axes= with y and x for the last two axes of a page"
    )


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
        ome = about_OmeImage(self.tif.ome_metadata if self.tif.is_ome else None, self.tif.series.index(self.series))
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

    def _names(self, ome: about_OmeImage) -> tuple[str, ...]:
        names = self.colour.channels
        if found := ome.names(len(names)):
            return found
        if self.layout.inner("c") == self.layout.lengths[1] and (found := about_gdal_names(self.page, names)):
            return found
        return names

    def _times(self, ome: about_OmeImage) -> Pixels | None:
        if "t" not in self.layout.dims:
            return None
        interval = ome.interval() if self.tif.is_ome else about_imagej_interval(self.tif.imagej_metadata or {})
        return about_times(interval, self.layout.lengths[0])

    def _metadata(self, ome: about_OmeImage, notes: list[str]) -> dict[str, Any]:
        kind = "BigTIFF" if self.tif.is_bigtiff else "TIFF"
        size = (
            ome.pixel_size() if self.tif.is_ome else about_imagej_pixel_size(self.tif.imagej_metadata or {}, self.page)
        )
        optional = {"alpha": self.colour.about_alpha, "pixel_size": size, "notes": notes}
        return {
            "format": f"OME-{kind}" if self.tif.is_ome else kind,
            "compression": getattr(self.page.compression, "name", str(self.page.compression)).lower(),
            "segments": "{} of {} x {}".format("tiles" if self.form.tiled else "strips", *self.form.segment[:0:-1]),
            "colour": self.colour.said,
            **describe_profile(_tag(self.page, _PROFILE)),
            **georeference(self.page, self.orientation),
            **describe_orientation(self.tag, self.orientation),
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
    nodata, more = about_nodata_of(page, form.dtype)
    tag = _tag(page, TAG) or 1
    return ParsedTiff(
        path=path,
        tif=tif,
        series=series,
        page=page,
        form=form,
        layout=layout,
        colour=conversion(path, page, layout.lengths[1], layout.inner("c"), nodata),
        orientation=choose_orientation(path, tag, form.shape[2], form.shape[3], options),
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


# --- Which images of a TIFF are levels, and can they be read where they lie?


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
