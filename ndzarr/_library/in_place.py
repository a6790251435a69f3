"""Files that are read in place: TIFFs with tiles, and videos, as pyramids that are not transcoded.

1. The file is parsed, as for transcoding.
2. The images of a TIFF that are levels become arrays whose chunks are tiles (`_formats.tiff.array`).  A video becomes
   one array that decodes as far as each window needs it (`_formats.video.source`).
3. Overviews that a TIFF lacks are made when they are first read (`_library.overviews`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from ndzarr._files import MASK_SUFFIX, FileId, settle
from ndzarr._formats.base import Facts, Source
from ndzarr._formats.options import InPlaceOptions, Options, choose_palette, make_options
from ndzarr._formats.readers import READERS, level_arrays, open_reader
from ndzarr._formats.registry import file_kind, kind_of
from ndzarr._formats.sidecars import BESIDE, OVERVIEWS_SUFFIX, sidecar_states
from ndzarr._formats.tiff.array import TiffArray
from ndzarr._formats.tiff.masks import internal_masks, mask_notes, masks_beside, overview_masks
from ndzarr._formats.tiff.metadata import DamagedTiffError, Series, open_parsed, read_content
from ndzarr._formats.tiff.open import open_shaped
from ndzarr._formats.tiff.segments import TiffFile, make_decoder, read_table
from ndzarr._formats.tiff.series import Image, ParsedTiff, find_levels, not_in_place, parse
from ndzarr._library.overviews import Base, make_overviews
from ndzarr._pyramid.levels import Level
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.transcode import identity
from ndzarr._pyramid.views import described_pyramid
from ndzarr._remote.cache import DiskCache
from ndzarr._remote.files import OpenedFile, RemoteFile, RemotePath, open_again
from ndzarr._store.arrays import Stored
from ndzarr.errors import DamagedError, DamagedFileWarning, DamagedVideoWarning, SourceError, StoreError, warn_caller


def open_file(path: str, cache_bytes: int = 0, options: InPlaceOptions | None = None) -> Pyramid:
    """
    Open a file that `registry.file_kind` knows in place.

    `cache_bytes` is the budget for decoded tiles kept between reads; frames of videos have a budget of their own.
    """
    kind = file_kind(path)
    opener = open_video if kind == "video" else open_tiff if kind == "TIFF" else open_with_reader
    return opener(path, cache_bytes, options or InPlaceOptions())


def open_remote_file(opened: OpenedFile, cache_bytes: int = 0, options: InPlaceOptions | None = None) -> Pyramid:
    """
    Open a file in a bucket or on a web server in place, as `open_file` does.

    Raises `StoreError` if it is neither a TIFF nor a video.
    """
    kind = kind_of(opened.first.tobytes())
    if kind is None:
        raise not_in_place(opened.file.path, "only TIFFs with tiles and videos are read in place")
    if kind == "video":
        return open_video(opened.file.path, cache_bytes, options or InPlaceOptions(), opened=opened)
    return open_tiff(opened.file.path, cache_bytes, options or InPlaceOptions(), opened=opened)


def _reopen_remote(
    url: str, cache_bytes: int, file: RemoteFile, options: InPlaceOptions, kept: DiskCache | None
) -> Pyramid:
    opened = open_again(file, BESIDE, kept)
    opener = open_video if kind_of(opened.first.tobytes()) == "video" else open_tiff
    return opener(url, cache_bytes, options, False, opened)


def open_tiff(
    path: str, cache_bytes: int, options: InPlaceOptions, warn: bool = True, opened: OpenedFile | None = None
) -> Pyramid:
    """
    Open a TIFF with tiles; see `open_file`.

    `warn` is False when it is opened again in another process; `opened` is the file if it is not on a local disk.
    """
    checked = _check_options(options)
    file: TiffFile
    if opened is None:
        path = os.path.realpath(path)  # not abspath, which would take `link/..` for the directory that holds the link
        file = FileId.of(path)
        settle(file.mtime_ns)
    else:
        file = opened.file
    try:
        with open_parsed(path, opened) as (tif, remarks):
            if opened is None and open_shaped(path, tif, checked) is not None:
                raise not_in_place(path, "the rows of its image are stored as pages, so it is not read in place")
            parsed = parse(read_content(path, tif, remarks), checked, opened)
            kind = "labels" if parsed.colour.indexed else options.kind
            with _beside(path, checked, opened) as (ovr, series):
                images, notes = find_levels(parsed, kind, series)
                masks = _masks(file, parsed, ovr, series, opened)
                notes += mask_notes(parsed, masks)
                if masks and (bare := [image for image in images if image.power not in masks]):
                    images = [image for image in images if image.power in masks]
                    sizes = ", ".join(f"{i.form.shape[3]} x {i.form.shape[2]}" for i in bare)
                    notes.append(f"overviews of {sizes} pixels are not used: the mask has none of this size")
                facts = replace(parsed, notes=(*parsed.notes, *notes)).facts().settle(checked)
                facts = replace(facts, masked=bool(masks))
                files = [ovr if ovr is not None and _is_of(image, series) else file for image in images]
                native = [
                    _tiff_array(source, k, image, parsed, facts, checked)
                    for k, (source, image) in enumerate(zip(files, images, strict=True))
                ]
    except DamagedTiffError as error:
        raise DamagedError.like(error, path) from error
    except SourceError as error:
        raise StoreError.like(error, path) from error
    for source in dict.fromkeys(files):
        source.check()
    _warn(facts, warn, DamagedFileWarning)
    powers = [image.power for image in images]
    states: list[Any] = sidecar_states(path) if opened is None else [("", opened.file.tag), *_tags(opened)]
    changing = (options.axes, options.nodata, options.palette, options.series, states)
    veils: list[Stored | None] = [masks.get(power) for power in powers]
    base = Base(native[-1], veils[-1], powers[-1], file, facts, kind, options.cache, options.in_memory, changing)
    overviews = make_overviews(base)
    powers += range(powers[-1] + 1, powers[-1] + 1 + len(overviews))
    origin = {"path": path, "size": file.size, "mtime_ns": file.mtime_ns}
    reopen: partial[Pyramid]
    if opened is None:
        reopen = partial(open_tiff, options=options, warn=False)
    else:
        reopen = partial(_reopen_remote, file=opened.file, options=options, kept=opened.kept)
    arrays = [*zip(native, veils, strict=True), *overviews]
    scales = [(2**k, 2**k) for k in powers]
    return _pyramid(path, facts, arrays, scales, origin, options, cache_bytes, reopen)


def _tags(opened: OpenedFile) -> list[Any]:
    return [(end, other.file.tag) for end, other in opened.beside.items()]


def _masks(
    file: TiffFile, parsed: ParsedTiff, ovr: TiffFile | None, beside: Sequence[Series], opened: OpenedFile | None
) -> dict[int, TiffArray]:
    """Return the masks of a TIFF, in it or beside it, by the power of 2 by which they are smaller."""
    dims = tuple(d for d in parsed.layout.dims if d != "c")
    masks = internal_masks(file, parsed, dims)
    if masks and ovr is not None:
        masks = {**overview_masks(ovr, beside, parsed, dims), **masks}
    remote = None if opened is None else opened.beside.get(MASK_SUFFIX)
    if not masks and (remote is not None or (opened is None and os.path.isfile(file.path + MASK_SUFFIX))):
        masks = masks_beside(file.path, parsed.form.shape[2:4], parsed.layout, dims, remote)
    return masks


@contextmanager
def _beside(
    path: str, options: Options, opened: OpenedFile | None
) -> Iterator[tuple[TiffFile | None, Sequence[Series]]]:
    """Yield the file of overviews beside a TIFF, and its images; (None, ()) if there is none, or for another series."""
    name = path + OVERVIEWS_SUFFIX
    remote = None if opened is None else opened.beside.get(OVERVIEWS_SUFFIX)
    if options.series is not None or (remote is None and (opened is not None or not os.path.isfile(name))):
        yield None, ()
        return
    file: TiffFile
    if remote is None:
        file = FileId.of(name)
        settle(file.mtime_ns)
    else:
        file = remote.file
    with open_parsed(name, remote) as (tif, remarks):
        yield file, read_content(name, tif, remarks).series


def _is_of(image: Image, found: Sequence[Series]) -> bool:
    return any(image.series is s for series in found for s in (series, *series.levels))


def _tiff_array(
    file: TiffFile, level: int, image: Image, parsed: ParsedTiff, facts: Facts, options: Options
) -> TiffArray:
    form, layout = image.form, parsed.layout
    shape = (*facts.shape[:-2], *form.shape[2:4])
    table = read_table(file, level, image.series, form, layout.frames.size)
    decoder = make_decoder(image.series.page, form)
    array = TiffArray(level, facts.dims, shape, form, decoder, table, layout, parsed.fill(options), image.colour)
    if array.files != (file,):
        raise not_in_place(file.path, "its frames are in several files, so it is not read in place")
    return array


def open_video(
    path: str, cache_bytes: int, options: InPlaceOptions, warn: bool = True, opened: OpenedFile | None = None
) -> Pyramid:
    """
    Open a video; see `open_file`.

    `warn` is False when it is opened again in another process; `opened` is the file if it is not on a local disk.
    """
    from ndzarr._formats.video import source as video  # imports av, which TIFFs do without

    checked = _check_options(options)
    checked.refuse_series(path)
    if opened is None:
        path = os.path.realpath(path)
        origin, file = identity(path), path
    else:
        file = RemotePath(opened)
        origin = {"path": path, "size": opened.file.size, "mtime_ns": 0}
    try:
        source = video.open_video(file, checked)
        shape, keys = source.shape, len(source.index.starts[0])
    except SourceError as error:
        raise StoreError.like(error, path) from error
    _warn(source, warn, DamagedVideoWarning)
    array = video.VideoArray(path, shape, source.dtype, keys, source.windows())
    reopen: partial[Pyramid] = partial(open_video, options=options, warn=False)
    if opened is not None:
        reopen = partial(_reopen_remote, file=opened.file, options=options, kept=opened.kept)
    return _pyramid(path, source, [(array, None)], [(1, 1)], origin, options, cache_bytes, reopen)


def open_with_reader(path: str, cache_bytes: int, options: InPlaceOptions) -> Pyramid:
    """Open a file that an optional package reads; see `open_file`."""
    checked, path = _check_options(options), os.path.realpath(path)
    form = file_kind(path)
    if form is None or form not in READERS:
        raise not_in_place(path, "its format has changed")
    origin = identity(path)
    try:
        source = open_reader(path, form, checked)
    except SourceError as error:
        raise StoreError.like(error, path) from error
    arrays = level_arrays(source, form, checked)
    factors = [tuple(map(_ratio, source.sizes[0], size)) for size in source.sizes]
    reopen: partial[Pyramid] = partial(open_with_reader, options=options)
    return _pyramid(path, source, [(a, None) for a in arrays], factors, origin, options, cache_bytes, reopen)


def _ratio(native: int, length: int) -> float:
    """Return native pixels per pixel: a whole number, if the rest is that of rounding a length."""
    whole = max(1, round(native / length))
    return float(whole) if length in (native // whole, -(-native // whole)) else native / length


def _warn(source: Facts | Source, warn: bool, category: type[DamagedFileWarning]) -> None:
    if warn and source.trouble:
        warn_caller(f"{source.name}: {'; '.join(source.trouble)}", category)


def _check_options(options: InPlaceOptions) -> Options:
    return make_options(
        options.axes,
        options.channels,
        options.nodata,
        options.orient,
        options.max_pixels,
        palette=choose_palette(options.palette, options.kind),
        series=options.series,
    )


def _pyramid(
    path: str,
    facts: Facts | Source,
    arrays: Sequence[tuple[Stored, Stored | None]],
    scales: Sequence[tuple[float, ...]],
    origin: Mapping[str, Any],
    options: InPlaceOptions,
    cache_bytes: int,
    reopen: partial[Pyramid],
) -> Pyramid:
    """
    Return the pyramid of a file.

    `arrays` are (image, mask), `scales` the native pixels per pixel of each along y and x.
    """
    factors = [(*(1.0,) * (len(facts.dims) - 2), *map(float, scale)) for scale in scales]
    levels = [Level(a, f, m) for (a, m), f in zip(arrays, factors, strict=True)]
    how: dict[str, Any] = {"kind": options.kind, "origin": origin, "cache_bytes": cache_bytes, "reopen": reopen}
    return described_pyramid(path, facts, levels, **how)
