"""
The images of a TIFF: which of them are read, which are levels, and where t, c, z, y and x are in them.

`parse` picks the series to read: the first that is neither a thumbnail nor a mask.  Smaller copies of it, as pyramids
hold, are levels of the same series to tifffile, not frames.  `find_levels` tells which of them can be read in place.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ndzarr._formats.base import Facts, Pixels, in_order
from ndzarr._formats.colour import describe_profile
from ndzarr._formats.options import Options, find_series
from ndzarr._formats.orientation import Orientation, choose_orientation, describe_orientation
from ndzarr._formats.sidecars import NOT_TOGETHER, TOGETHER, Sidecar, read_sidecar
from ndzarr._formats.tiff.colour import Conversion, conversion
from ndzarr._formats.tiff.libtiff import WHOLE
from ndzarr._formats.tiff.metadata import (
    AGAIN,
    ICC_PROFILE,
    Content,
    OmeImage,
    Series,
    gdal_names,
    gdal_nodata,
    georeference,
    parsing,
    states_item,
)
from ndzarr._formats.tiff.pixel_size import stated_size
from ndzarr._formats.tiff.segments import FrameFormat, frame_format
from ndzarr._remote.files import OpenedFile
from ndzarr._store.validity import Nodata, as_pixel
from ndzarr.errors import OptionError, SourceError, StoreError

_ROLES = {"T": "t", "C": "c", "S": "c", "Z": "z", "Y": "y", "X": "x"}
_OUTER = ("t", "c", "z")


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where t, c and z are in the frames of a series."""

    dims: tuple[str, ...]
    """Axis names of the source."""
    frames: Pixels
    """Numbers of frames, shape (outer t, outer c, outer z)."""
    samples: tuple[str, int]
    """The axis that samples within a frame are the inner positions of, and how many there are."""
    depths: tuple[str, int]
    """The same for planes in depth; another axis."""

    def inner(self, axis: str) -> int:
        """Positions along `axis` that one frame holds."""
        return prod(n for a, n in (self.samples, self.depths) if a == axis)

    @property
    def lengths(self) -> tuple[int, int, int]:
        """Length of t, c and z; 1 for an axis that `dims` does not have."""
        t, c, z = (n * self.inner(a) for a, n in zip(_OUTER, self.frames.shape, strict=True))
        return t, c, z

    def frames_of(self, t: slice, z: slice) -> Pixels:
        """Return the number of the frame that holds the first channel at each position, axes t, z."""
        times, planes = (np.arange(s.start, s.stop) // self.inner(axis) for s, axis in ((t, "t"), (z, "z")))
        return np.asarray(self.frames[times[:, None], 0, planes])


def make_layout(
    path: str, axes: str, shape: Sequence[int], frame: tuple[int, int, int, int, int], asked: str | None, keep: str
) -> Layout:
    """
    Find t, c and z in a series.

    Parameters
    ----------
    axes, shape
        Axes of the series, as tifffile names them, and their lengths.
    frame
        Samples stored apart, planes in depth, rows, columns, samples stored together.
    asked
        The option `axes`.
    keep
        Letters of axes that are kept even if they have length 1; y and x always are.
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
        what = f"samples and depth of its pages cannot both be axis {samples[0]}"
        raise SourceError(f"{path}: {what}", path=path, hint="Pass other axes=")
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
    raise OptionError(
        f"{path}: axes={asked!r} names {len(asked)} axes, but the file has {len(long)}: {found}", path=path, key="axes"
    )


def _mismatch(path: str, axes: str, shape: Sequence[int], frame: tuple[int, ...]) -> SourceError:
    found = ", ".join(f"{a} {n}" for a, n in zip(axes, shape, strict=True))
    return SourceError(
        f"{path}: its axes are {found}, but its pages hold {frame[3]} x {frame[2]} pixels, so it is not clear which "
        f"axes are y and x",
        path=path,
        hint="Pass axes= with y and x for the last two axes of a page",
    )


REDUCED, MASK = 1, 4
"""Bits of the subfile type (tag 254)."""
_SLIDES = ("bif", "ndpi", "philips", "qpi", "scn", "svs")
"""Formats of slides, whose levels tifffile finds; their other reduced images show the label, the glass and the like."""
_COLUMNS = 512
"""Columns of plain strips to read at a time where they become rows."""


@dataclass(frozen=True, slots=True, eq=False)
class ParsedTiff:
    """What is known about a TIFF before any pixel of it is read."""

    content: Content
    series: Series
    """The images that are read."""
    form: FrameFormat
    layout: Layout
    colour: Conversion
    orientation: Orientation
    nodata: Nodata
    """Stored value of missing data, or that of each channel as stored."""
    notes: tuple[str, ...]
    """What the user should know."""
    beside: Sidecar
    """What the files beside it say."""

    def facts(self) -> Facts:
        is_ome = self.content.ome_xml is not None
        ome = OmeImage(self.content.ome_xml, self.content.series.index(self.series))
        size, notes = stated_size(self.content, self.series.page, ome)
        step = None if size.t is None or "t" not in self.layout.dims else size.t.base
        facts = Facts(
            name=self.content.path,
            dims=self.layout.dims,
            shape=self._shape(len(self.colour.channels), *self.orientation.size(*self.form.shape[2:4])),
            dtype=self.colour.dtype,
            channels=self._names(ome),
            band=self._band(),
            interleaved=self.colour.whole or (self.form.shape[4] > 1 and self.layout.samples[0] == "c"),
            nodata=self.colour.nodata,
            classes=self.colour.indexed,
            times=None if step is None else np.arange(self.layout.lengths[0]) * step,
            pixel_size=size.transposed() if self.orientation.transposes else size,
            metadata=self._metadata(is_ome, notes),
            trouble=tuple(self.content.remarks.trouble),
        )
        expanded = len(self.colour.channels) != self.layout.lengths[1]
        return self.beside.add_to(facts, self.orientation.tag == 1, expanded)

    @property
    def decoded_whole(self) -> bool:
        """True if libtiff decodes whole pages of this file."""
        return self.series.page.compression in WHOLE

    def pages(self) -> Pixels:
        """
        Return the number of the directory of each frame, shape (t,), for `decoded_whole`.

        Raise `SourceError` if frames are not whole images of the axis t, in the main chain of directories.
        """
        path, layout, frames = self.content.path, self.layout, self.series.frames
        numbers = []
        with parsing(path):
            for frame in layout.frames[:, 0, 0]:
                page = frames[int(frame)] if frame < len(self.series) else None
                numbers.append(-1 if page is None or not isinstance(page.index, int) else page.index)
        apart, depth, *_ = self.form.shape
        if min(numbers) < 0 or layout.frames[0].size > 1 or layout.samples[0] != "c" or max(apart, depth) > 1:
            what = f"{self.series.page.compression_name} is read of plain images only, whose frames are pages"
            raise SourceError(f"{path}: {what}", path=path, hint="Convert it to another compression first")
        return np.array(numbers)

    def fill(self, options: Options) -> float | tuple[float, ...]:
        """
        Stored value of pixels that are not in the file: one that becomes nodata if there is one, else 0.

        Where channels have different ones, it is that of each channel as stored.
        """
        if self.nodata is not None:
            return tuple(v or 0 for v in self.nodata) if isinstance(self.nodata, tuple) else self.nodata
        wanted, dtype = options.nodata, self.form.dtype
        if wanted is None or self.colour.convert is not None or dtype.kind not in "iuf":
            return 0
        own = [as_pixel(value, dtype) for value in (wanted if isinstance(wanted, tuple) else (wanted,))]
        fills = tuple(0.0 if value is None else float(value) for value in own)
        return fills if isinstance(wanted, tuple) and len(fills) == self.layout.lengths[1] else fills[0]

    def stored_shape(self) -> tuple[int, ...]:
        """Length of each axis as stored."""
        return self._shape(self.layout.lengths[1], *self.form.shape[2:4])

    def _shape(self, channels: int, height: int, width: int) -> tuple[int, ...]:
        t, _, z = self.layout.lengths
        lengths = {"t": t, "c": channels, "z": z, "y": height, "x": width}
        return tuple(lengths[d] for d in self.layout.dims)

    def _band(self) -> int:
        form = self.form
        height, _ = self.orientation.size(form.shape[2], form.shape[3])
        if self.orientation.transposes:
            step = form.segment[2] if form.tiled else _COLUMNS if form.is_plain else height
        else:
            step = 1 if form.is_plain and not form.tiled else form.segment[1]
        return min(step, height)

    def _names(self, ome: OmeImage) -> tuple[str, ...]:
        names = self.colour.channels
        # Descriptions are those of samples, which palettes and inks are expanded from.
        in_gdal = self.layout.inner("c") == self.layout.lengths[1] == len(names)
        return ome.names(len(names)) or (gdal_names(self.series.page, names) if in_gdal else None) or names

    def _metadata(self, is_ome: bool, about_size: list[str]) -> dict[str, Any]:
        kind, page = "BigTIFF" if self.content.big else "TIFF", self.series.page
        notes = [
            *self.notes,
            *about_size,
            *self.colour.notes,
            *self.content.remarks.trouble,
            *self.content.remarks.messages,
        ]
        optional = {
            "series": _listed(self.content.series) if len(self.content.series) > 1 else None,
            "palette": self.colour.palette,
            "alpha": self.colour.about_alpha,
            "notes": notes,
        }
        return {
            "format": f"OME-{kind}" if is_ome else kind,
            "compression": page.compression_name,
            "segments": "{} of {} x {}".format("tiles" if self.form.tiled else "strips", *self.form.segment[:0:-1]),
            "colour": self.colour.said,
            **describe_profile(page.data(ICC_PROFILE)),
            **georeference(page, self.orientation),
            **describe_orientation(page.orientation, self.orientation),
            **{key: value for key, value in optional.items() if value},
        }


def parse(content: Content, options: Options, remote: OpenedFile | None = None) -> ParsedTiff:
    """Work out what a TIFF says; `remote` is the file if that is not on a local disk."""
    path = content.path
    series, notes = _chosen_series(path, content.series, options.series)
    page = series.page
    options.check_pixels(path, page.height, page.width, whole=False)
    form = frame_format(path, page)
    if not form.is_plain:  # then a segment has to be decoded as a whole
        options.check_pixels(path, form.segment[0] * form.segment[1], form.segment[2], whole=True)
    if prod(series.shape) // prod(form.shape) > content.size:
        what = f"it announces an array of shape {series.shape} in {content.size} bytes"
        raise SourceError(f"{path}: {what}; the TIFF is truncated or damaged", path=path, hint=AGAIN)
    # tifffile tells axes of length 1 for OME and ImageJ whether or not they mean anything.
    keep = "TZ" if series.kind == "shaped" else ""
    layout = make_layout(path, series.axes, series.shape, form.shape, options.axes, keep)
    _check_regular(path, form, layout)
    orientation = choose_orientation(path, page.orientation, form.shape[2], form.shape[3], options)
    placed = bool(georeference(page, orientation).keys() & {"transform", "gcps"})
    beside = read_sidecar(path, remote, placed) if options.series is None else Sidecar()
    stored = layout.lengths[1]
    bands = stored if layout.inner("c") == stored else None
    nodata, more = beside.values(np.dtype(form.dtype), bands, gdal_nodata(page))
    if states_item(page, TOGETHER):
        more = [*more, NOT_TOGETHER]
    return ParsedTiff(
        content=content,
        series=series,
        form=form,
        layout=layout,
        colour=conversion(path, series, stored, layout.inner("c"), nodata, options.palette),
        orientation=orientation,
        nodata=nodata,
        notes=(*notes, *more),
        beside=beside,
    )


def _listed(found: Sequence[Series]) -> list[dict[str, Any]]:
    """The images of a file that `series=` chooses from, as JSON values."""
    return [
        {"number": k, "name": s.name, "axes": s.axes, "shape": list(s.shape), "dtype": str(s.page.dtype)}
        for k, s in enumerate(found)
    ]


def _chosen_series(path: str, found: Sequence[Series], wanted: str | int | None) -> tuple[Series, list[str]]:
    """The series to read, and notes about those that are not read."""
    if wanted is not None:
        return found[find_series(path, [s.name for s in found], wanted)], []
    whole = [s for s in found if not s.page.subfile_type & MASK and not _is_reduced(s)]
    main = whole[0] if whole else found[0]
    others = [f"{k} {s.name}".strip() for k, s in enumerate(found) if s is not main and s in whole]
    notes = []
    if others:
        named = ", ".join(others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
        notes.append(f"{len(others)} other images of the file are not read; series= chooses one: {named}")
    if main.transformed:
        notes.append("pixels are as stored; the transform that tifffile knows for this format is not applied")
    return main, notes


def _is_reduced(series: Series) -> bool:
    """Return True for an image that the file marks as a smaller copy of another one."""
    return series.kind not in _SLIDES and series.page.subfile_type & (REDUCED | MASK) == REDUCED


_NAMED = 5
"""Images of a file that a note names."""


def _check_regular(path: str, form: FrameFormat, layout: Layout) -> None:
    """Raise `SourceError` if frames end within a deep tile, so that segments are not a regular grid."""
    axis, depth = layout.depths
    if depth > 1 and depth % form.segment[0] and layout.frames.shape[_OUTER.index(axis)] > 1:
        what = (
            f"its volumes of {depth} planes are stacked along {axis}, but its tiles are {form.segment[0]} planes deep"
        )
        raise SourceError(f"{path}: {what}", path=path, hint="Pass axes= with another axis for the volumes")


_MOST_BYTES = 256 << 20
"""Decoded bytes of a tile beyond which it is not read in place."""


class Image(NamedTuple):
    """An image that is a level."""

    power: int
    """It has 1 / 2**power of the pixels along each axis."""
    series: Series
    form: FrameFormat
    colour: Conversion


def find_levels(parsed: ParsedTiff, kind: str, beside: Sequence[Series] = ()) -> tuple[list[Image], list[str]]:
    """
    Find the levels of a file, and say which overviews are left out.

    `kind` is 'intensity', or 'labels', whose overviews are left out, because they may mix labels.  `beside` are the
    images of a file of overviews.
    """
    _refuse(parsed)
    found, notes = {0: Image(0, parsed.series, parsed.form, parsed.colour)}, []
    own = [*_candidates(parsed)]
    whole = [s for series in beside for s in (series, *series.levels) if not s.page.subfile_type & MASK]
    for series in (*own, *whole):
        image = "labels may be mixed in it" if kind == "labels" else _overview(parsed, series)
        if isinstance(image, Image) and image.power in found:
            image = "there is another one of its size"
        if isinstance(image, Image):
            found[image.power] = image
        else:
            page = series.page
            notes.append(f"the overview of {page.width} x {page.height} pixels is not used: {image}")
    return [found[power] for power in sorted(found)], notes


def _candidates(parsed: ParsedTiff) -> list[Series]:
    """Images that may be overviews: those tifffile calls levels, and others that are marked as of less resolution."""
    main, _ = _chosen_series(parsed.content.path, parsed.content.series, None)
    others = [s for s in (parsed.content.series if parsed.series is main else ()) if s is not main and _is_reduced(s)]
    return [*parsed.series.levels, *(level for series in others for level in (series, *series.levels))]


def _refuse(parsed: ParsedTiff) -> None:
    """Raise `StoreError` if a file cannot be read in place."""
    form, layout = parsed.form, parsed.layout
    why = None
    if parsed.decoded_whole:
        why = f"{form.compression} is decoded as a whole"
    elif not form.tiled:
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
        main, _ = _chosen_series(parsed.content.path, parsed.content.series, None)
        chosen = None if parsed.series is main else parsed.series.name or parsed.content.series.index(parsed.series)
        raise not_in_place(parsed.content.path, f"{why}, so it is not read in place", chosen)


def _huge_tiles(form: FrameFormat) -> str | None:
    if form.segment_bytes <= _MOST_BYTES:
        return None
    return f"its tiles are as large as {form.segment[2]} x {form.segment[1]} pixels"


def not_in_place(path: str, why: str, series: str | int | None = None) -> StoreError:
    """The error about a file, or an image of it, that cannot be read in place; it says what to do instead."""
    chosen = "" if series is None else f", series={series!r}"
    hint = f"Make a store with ndzarr.transcode({os.path.basename(path)!r}, ...{chosen})"
    return StoreError(f"{path}: {why}", path=path, hint=hint)


def power_of(native: tuple[int, ...], shape: tuple[int, int]) -> int | None:
    """The k of an image with n / 2**k pixels along each axis, rounded up or down; None if there is no such k."""
    for k in range(max(native).bit_length() + 1):
        if all(m in (max(1, n >> k), -(-n >> k)) for n, m in zip(native, shape, strict=True)):
            return k
    return None


def _overview(parsed: ParsedTiff, series: Series) -> Image | str:
    """An overview as a level, or why it is not one."""
    path, page = parsed.content.path, series.page
    power = power_of(parsed.form.shape[2:4], (page.height, page.width))
    if not power:
        return "it does not halve the image"
    if not page.tiled:
        return "it has strips"
    if len(series) != len(parsed.series):
        return f"it has {len(series)} frames"
    try:
        form = frame_format(path, page)
        palette = "indices" if parsed.colour.indexed else "colours"
        lengths = parsed.layout.lengths[1], parsed.layout.inner("c")
        colour = conversion(path, series, *lengths, parsed.nodata, palette)
    except SourceError as error:
        return str(error)
    stored = [(f.shape[0], f.shape[1], f.shape[4], f.segment[0], f.dtype) for f in (form, parsed.form)]
    meant = [(c.channels, c.dtype, c.convert is None) for c in (colour, parsed.colour)]
    if stored[0] != stored[1] or meant[0] != meant[1]:
        return "its samples are not those of the image"
    if huge := _huge_tiles(form):
        return huge
    return Image(power, series, form, colour)
