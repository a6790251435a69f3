"""
Transcoding by one process, or by many: one task per source, and for a huge image one task per band of shards.

1. A worker opens the source.  It writes the store, unless the image is huge: then it returns the *stages*.
2. A stage writes two levels in bands of whole shards.  Each band also leaves the rows of the level after those, which
   the next stage reads; the last stage has one band, which makes all levels that are left.
3. The last task writes the metadata, and the caller publishes the store.

The store has the bytes that one process would write: bands end where shards end on each of their levels, and a pixel of
a level depends on nothing but the pixels that it covers.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, lcm
from pathlib import Path
from typing import Any

import numpy as np

from ndzarr._executors import Job, Scheduler, checked, run_jobs, working
from ndzarr._formats.base import Pixels, Region, Source
from ndzarr._formats.options import choose_palette
from ndzarr._formats.sequence import frames_of, is_sequence
from ndzarr._formats.sidecars import sidecar_states
from ndzarr._progress import progress_bar
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.sources import open_source
from ndzarr._pyramid.transcode import Making, finish, identity, warn_of_trouble, write_pyramid, write_rows
from ndzarr._pyramid.zarr_store import open_dest
from ndzarr._remote.settings import Remote
from ndzarr._remote.stores import open_url
from ndzarr._remote.urls import is_url, names_file
from ndzarr._store.buckets import ROOT, Place
from ndzarr._store.destinations import Dest, Shared, destination, refuse_existing_at, sharing
from ndzarr._store.metadata import Position, Records
from ndzarr._store.presets import Encoding, chunks_option
from ndzarr.errors import MissingError, NdzarrError, OptionError

LEVELS = 2
"""Levels that a stage writes: the rows that it leaves to the next one are then a sixteenth of its own."""
MOST_AT_ONCE = 4
"""Bands of up to so many are not worth tasks of their own."""
RECORDS = "records.json"


@dataclass(frozen=True, slots=True)
class Stage:
    """Levels that are written in bands of rows."""

    first: int
    """The level whose pixels are read."""
    count: int
    """Number of levels that are written."""
    height: int
    """Rows of a band, of level `first`."""
    bands: int

    def name(self, band: int) -> str:
        """Return the name of the part that a band is."""
        return f"{self.first}.{band}"


def stages(source: Source, making: Making) -> list[Stage]:
    """Return the stages in which the store of a huge image is written; none for others, or if rows cost too much."""
    out: list[Stage] = []
    k = 0
    while k < len(making.levels):
        count = min(LEVELS, len(making.levels) - k)
        rows = making.levels[k].shape[-2]
        together = [levels[k + i].layout.shards[-2] << i for levels in _pairs(making) for i in range(count)]
        height = lcm(1 << count, *together)
        bands = ceil(rows / height)
        if bands <= MOST_AT_ONCE:
            out.append(Stage(k, len(making.levels) - k, rows, 1))
            break
        out.append(Stage(k, count, height, bands))
        k += count
    huge = bool(out) and out[0].bands > 1 and not making.volume
    return out if huge and 2 * source.band <= out[0].height else []


def _pairs(making: Making) -> list[list[Any]]:
    return [making.levels, making.masks] if making.masks else [making.levels]


class _RestFile:
    """The rows of a level that a band leaves to the next stage, C order."""

    def __init__(self, path: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        """`shape` is that of all rows that will come."""
        self._file = path.open("wb")
        self._shape, self._dtype = tuple(shape), dtype
        self._done: dict[Position, int] = {}

    def push(self, block: Position, rows: Pixels, mask: Pixels | None = None) -> None:
        """Write rows of a block."""
        done = self._done.get(block, 0)
        *lead, height, width = self._shape
        for at in np.ndindex(*rows.shape[:-2]):
            index = tuple(b + i for b, i in zip(block, at, strict=True))
            row = int(np.ravel_multi_index(index, lead)) * height + done
            self._file.seek(row * width * self._dtype.itemsize)
            self._file.write(np.ascontiguousarray(rows[at]).data)
        self._done[block] = done + rows.shape[-2]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Rests(Source):
    """The rows that the bands of a stage left, as the source of the next one."""

    def __init__(self, source: Source, making: Making, before: Stage, shared: Shared, folder: Path) -> None:
        """Files that are far are fetched to `folder`."""
        level = making.levels[before.first + before.count]
        super().__init__(replace(source.facts, shape=level.shape, band=1))
        self._before, self._shared, self._folder = before, shared, folder

    def _pixels(self, region: Region) -> Pixels:
        return self._rows("image", region, self.shape, self.dtype)

    def read_mask(self, window: Mapping[str, slice]) -> Pixels:
        """Return the mask of a window, axes `dims` without c."""
        kept = [k for k, d in enumerate(self.dims) if d != "c"]
        region = self._region(window)
        return self._rows("mask", [region[k] for k in kept], [self.shape[k] for k in kept], np.dtype(bool))

    def _rows(self, name: str, region: Sequence[slice], shape: Sequence[int], dtype: np.dtype[Any]) -> Pixels:
        out = np.empty([s.stop - s.start for s in region], dtype)
        *lead, ys, xs = region
        height, total, width = self._before.height >> self._before.count, shape[-2], shape[-1]
        for band in range(ys.start // height, ceil(ys.stop / height)):
            top, end = band * height, min((band + 1) * height, total)
            start, stop = max(ys.start, top), min(ys.stop, end)
            path = self._shared.read(self._before.name(band), name, self._folder)
            for at in np.ndindex(*out.shape[:-2]):
                index = tuple(s.start + i for s, i in zip(lead, at, strict=True))
                row = int(np.ravel_multi_index(index, shape[:-2])) * (end - top) + start - top
                found = np.fromfile(path, dtype, (stop - start) * width, offset=row * width * dtype.itemsize)
                out[(*at, slice(start - ys.start, stop - ys.start))] = found.reshape(-1, width)[:, xs]
        return out

    def _release(self) -> None:
        pass


@dataclass(frozen=True)
class Image:
    """A source as it is opened, here or by workers, and the store that it becomes; for files, it pickles to little."""

    source: Any
    """Absolute path or URL, a list of them for a sequence, or what is not a file."""
    reading: Mapping[str, Any]
    """Options of `open_source`."""
    encoding: Encoding
    origin: Mapping[str, Any] | None
    """What the store records of the source; its `identity` once it is open if None."""

    def open(self) -> Source:
        """Open the source."""
        return open_source(self.source, **self.reading)

    @property
    def files(self) -> list[str]:
        """The paths and URLs that it is opened by."""
        names = self.source if isinstance(self.source, list) else [self.source]
        return [name for name in names if isinstance(name, str)]

    def _open_here(self) -> Source:
        """Open the source in a worker; raise `MissingError` if that does not see it."""
        for path in self.files:
            if "://" not in path and not is_sequence(path):
                refuse_unseen(path)
        return self.open()

    def begin(self, dest: Dest, overwrite: bool) -> tuple[list[Stage], list[str]]:
        """Write the store and return ([], trouble of the source); if the image is huge, return (its stages, [])."""
        with self._open_here() as source:
            found = stages(source, Making.of(source, self.encoding))
            if found:
                return found, []
            self.write_whole(source, dest, overwrite=overwrite, workers=1)
            return [], list(source.trouble)

    def write_whole(self, source: Source, dest: Dest, **how: Any) -> None:
        """Write the store of the opened source; see `write_pyramid` for `how`."""
        what = self.token() if isinstance(dest, Place) else None
        write_pyramid(source, dest, self.encoding, origin=self.origin, what=what, **how)

    def bands(self, steps: Sequence[Stage], shared: Shared) -> Job:
        """Write everything but the metadata, the bands that are not there yet."""
        for number, stage in enumerate(steps):
            done = shared.done()
            todo = [k for k in range(stage.bands) if stage.name(k) not in done]
            yield [partial(self.write, shared, number, k) for k in todo]

    def write(self, shared: Shared, number: int, band: int) -> None:
        """Write a band of a stage."""
        with self._open_here() as source:
            making = Making.of(source, self.encoding)
            steps = stages(source, making)
            stage = steps[number]
            total = making.levels[stage.first].shape[-2]
            rows = slice(band * stage.height, min((band + 1) * stage.height, total))
            with tempfile.TemporaryDirectory(prefix="ndzarr-") as near, shared.part(stage.name(band)) as part:
                pixels = source if number == 0 else _Rests(source, making, steps[number - 1], shared, Path(near))
                rests = _rest_files(part.root, making, stage, rows) if number + 1 < len(steps) else []
                image, mask = [*rests, None, None][:2]
                try:
                    records = write_rows(
                        pixels,
                        part.store,
                        making,
                        first=stage.first,
                        count=stage.count,
                        rows=rows,
                        rests=(image, mask),
                        workers=1,
                        written=part.written,
                    )
                finally:
                    for rest in rests:
                        rest.close()
                (part.root / RECORDS).write_text(json.dumps(_as_json(records)))

    def finish(self, steps: Sequence[Stage], shared: Shared) -> list[str]:
        """Write the metadata once all bands are there; return what of a damaged source was left out."""
        with self._open_here() as source:
            making = Making.of(source, self.encoding)
            records: Records = {path: {} for path in making.arrays}
            with tempfile.TemporaryDirectory(prefix="ndzarr-") as near:
                for name in [stage.name(band) for stage in steps for band in range(stage.bands)]:
                    for path, own in _from_json(shared.read(name, RECORDS, Path(near)).read_text()).items():
                        records[path] |= own
            with shared.finishing() as store:
                shared.bring(str(len(making.levels) - 1), store)  # the metadata say what viewers show of it
                finish(source, store, making, records, self.origin or {})
            return list(source.trouble)

    def token(self, steps: Sequence[Stage] = ()) -> str | None:
        """Return a digest of all that the shards of its store depend on; None for arrays, of which nothing tells."""
        names = self.source if isinstance(self.source, list) else [self.source]
        states = [] if "key" in (self.origin or {}) else [self._state(name) for name in names]
        if None in states:
            return None
        how = sorted((name, value) for name, value in self.reading.items() if name not in ("storage_options", "remote"))
        content = [self.source, states, how, self.encoding.as_json(), self.origin, steps]
        return hashlib.sha256(repr(content).encode()).hexdigest()[:12]

    def _state(self, source: Any) -> Any:
        """Return what changes with a file, or with the metadata of a store; None if nothing tells."""
        if not isinstance(source, str):
            return None
        if is_url(source):
            store, path = open_url(source, self.reading.get("storage_options"), self.reading.get("remote"))
            try:
                return store.head(path if names_file(source) else f"{path}/{ROOT}")
            except NdzarrError:  # of a store of others, or whoever opens it complains
                return None
        main = f"{source}/{ROOT}" if os.path.isdir(source) else source
        return (identity(main), sidecar_states(source)) if os.path.exists(main) else None

    def shared(self, dest: Dest, steps: Sequence[Stage], overwrite: bool = False) -> AbstractContextManager[Shared]:
        """Return the context of where the bands come together."""
        return sharing(dest, "bands", self.token(steps) or secrets.token_hex(6), overwrite)


def _rest_files(root: Path, making: Making, stage: Stage, rows: slice) -> list[_RestFile]:
    """Return the files for the rows after those of a stage, and for their mask, if there is one."""
    out = []
    number = stage.first + stage.count
    count = -(-rows.stop >> stage.count) - (rows.start >> stage.count)
    for name, levels in zip(("image", "mask"), _pairs(making), strict=False):
        *lead, _, width = levels[number].shape
        out.append(_RestFile(root / name, (*lead, count, width), levels[number].layout.codec.dtype))
    return out


def _as_json(records: Records) -> dict[str, dict[str, str]]:
    return {path: {"/".join(map(str, at)): s.hex() for at, s in own.items()} for path, own in records.items()}


def _from_json(text: str) -> Records:
    found = json.loads(text)
    return {
        path: {tuple(map(int, at.split("/"))): bytes.fromhex(s) for at, s in own.items()} for path, own in found.items()
    }


def refuse_unseen(path: str) -> None:
    """Raise `MissingError` in a worker that does not see a file of the caller."""
    if not os.path.lexists(path):
        message = f"{path}: this worker does not see the file"
        raise MissingError(
            message, path=path, hint="Give all workers a file system in common with the process that made the call"
        )


def as_image(source: Any, reading: Mapping[str, Any], encoding: Encoding) -> Image:
    """Return a source that is not open; raise `MissingError` if a pattern has no match."""
    if is_sequence(source):
        return Image([_full_name(frame) for frame in frames_of(source)], reading, encoding, {})
    name = _full_name(source)
    return Image(name, reading, encoding, identity(name) if isinstance(name, str) else None)


def _full_name(source: Any) -> Any:
    """Return the absolute path of a file, which workers open by it; anything else as it is."""
    if not isinstance(source, str | os.PathLike) or is_url(source):
        return source
    return os.path.abspath(os.path.expanduser(os.fsdecode(source)))


def for_workers(image: Image) -> Image:
    """Return an image; raise `OptionError` for arrays, whose pixels are in this process, and `MissingError`."""
    if image.files != (image.source if isinstance(image.source, list) else [image.source]):
        message = "scheduler= is for files: the pixels of an array are in this process"
        raise OptionError(message, key="scheduler", hint="Leave it out, or pass the path of a file")
    for name in image.files:
        if not is_url(name) and not os.path.lexists(name):
            raise MissingError(f"{name}: there is no such file", path=name, hint="Check its name")
    return image


def transcode(
    source: Any,
    dest: str | os.PathLike[str],
    *,
    preset: str = "fast",
    kind: str = "intensity",
    axes: str | None = None,
    channels: Sequence[str] | None = None,
    nodata: float | Sequence[float | None] | None = None,
    orient: bool | tuple[int, int] = True,
    chunks: Mapping[str, int] | None = None,
    access: str = "frames",
    reduce: str = "yx",
    stack: str = "t",
    start: float | None = None,
    stop: float | None = None,
    step: int = 1,
    size: tuple[int, int] | float | None = None,
    overwrite: bool = False,
    progress: bool = False,
    workers: int | None = None,
    max_pixels: int | None = None,
    palette: str | None = None,
    series: str | int | None = None,
    variable: str | None = None,
    indexes: bool = False,
    ome_version: str = "0.5",
    scheduler: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    remote: Remote | None = None,
) -> Pyramid:
    """
    Write a source as a pyramid in a Zarr store.

    Parameters
    ----------
    source
        Path of an image (PNG, JPEG, TIFF, OME-TIFF, WebP, BMP, GIF, JPEG 2000, JPEG XL, NPY), of a video (anything
        that FFmpeg decodes; see docs/videos.md) or of a Zarr array or group; a numpy, dask or Zarr array; a Dataset,
        DataTree or array of xarray; a Zarr group or store; an open pyramid, whose native level is taken; or a list of
        images or arrays, or a pattern such as 'frames/*.png', which become one pyramid.
    dest
        Directory of the store to make, or a URL such as 's3://bucket/a.zarr'; by convention its name ends in .zarr.
        A name that ends in .ozx makes one file (OME-NGFF's RFC-9).
    preset
        'fast' (lossless), 'compact' (lossless, smaller, slower) or 'jpeg' (lossy); see docs/layouts.md.  Every reader
        of Zarr v3 reads 'fast', and 'compact' but for pictures of 8 bits; the pyramid's repr says so where it is not
        everyone, and docs/openness.md which ones.
    kind
        'intensity', or 'labels' for class maps and masks, whose levels must not mix values.
    axes
        Names of the source's axes, such as 'tyxc'; needed for arrays of more than 3 axes without names.  Without it,
        two axes without names are y x, and three are y x c if the last has up to 4 pixels, else c y x.
    channels
        Names of the channels, instead of the source's own.  'gray' or 'rgb' converts a video.
    nodata
        Value of pixels that hold no data, or one (or None) per channel; the source's own if None.
    orient
        True turns photographs upright by their EXIF orientation; (width, height) in pixels chooses the orientation
        that has this size.
    chunks
        Axis name to length of chunks in pixels, instead of those of `preset` and `access`.
    access
        Expected access to frames or planes: 'frames' (windows of one), 'tubes' (small windows through many) or
        'mixed'; see docs/layouts.md.
    reduce
        Axes that levels halve: 'yx', or 'zyx' for volumes whose planes are as close as their pixels.
    stack
        Axis along which the images of a list are stacked: 't' or 'z'.
    start, stop
        Half-open interval of a video, in seconds of its own clock; the first frame is the first one shown at or after
        `start`.
    step
        Take every `step`-th of these frames.
    size
        (height, width) in pixels that frames of a video are scaled to, or a factor.
    overwrite
        Replace `dest` if it exists, once the new store is complete.
    progress
        Show a progress bar.
    workers
        Number of threads that encode; the number of CPUs if None.
    max_pixels
        Refuse images of more pixels (height times width).  None means 2**30, or 2**36 for formats that are read in
        pieces.
    palette
        'colours' turns indices of a palette into r, g, b; 'indices' keeps them, as class maps need it: the store is
        then one of labels, and its attributes hold the colours.  None means 'indices' for labels, else 'colours'.
    series
        Name or number of the image of a file or OME-Zarr group that holds several, such as "label" of a slide or
        "B/03/0" of a plate; `ndzarr info` lists those of a TIFF.
        None means the main one.
    variable
        Name or path of the image of a Zarr group, Dataset or DataTree that holds several, such as 'air' or
        'r10m/b02'; the error that asks for it lists them.
    indexes
        Write one more file, with the indexes of all shards, for stores that are read over the network: opening takes
        two requests then, and reading whatever window, of any level, one round trip; see docs/remote.md.
    ome_version
        Version of the OME-Zarr metadata: '0.5', or '0.6' (coordinate systems), which is a draft that few readers know.
    scheduler
        'processes', a `distributed.Client`, or the address of a dask scheduler: its workers write the store, a huge
        image in bands.  They need to see the file and `dest`.  A call that was interrupted, or killed, goes on where it
        was when it is made again; see docs/remote.md.  None writes it in threads of this process.
    storage_options, remote
        Credentials and settings for URLs; see `open`.

    Returns
    -------
    The pyramid, open for reading.

    Raises
    ------
    SourceError, MissingError
        The source cannot be used; nothing was written.
    OptionError
        An option is not understood, contradicts the source, or cannot hold its pixels.
    ExistsError
        `dest` exists.
    WriteError
        `dest` cannot be written, or the disk is full; nothing is left of it.

    Warns
    -----
    DamagedFileWarning
        Frames of a video do not decode (`DamagedVideoWarning`), or the pages of a TIFF end too soon; the others were
        written.

    Notes
    -----
    Levels of intensities are means of 2 x 2 real pixels, weighted by alpha and rounded.  Levels of labels are the most
    frequent value.  Masks of the source (GDAL's internal ones and `.msk` files) become an array `mask` in each level.
    """
    how: Any = {"access": access, "reduce": reduce, "indexes": indexes, "ome_version": ome_version}
    encoding = Encoding(preset, kind, chunks_option(chunks), **how)
    far = any(
        isinstance(one, str) and is_url(one) for one in (source if isinstance(source, list | tuple) else [source])
    )
    known = (None, None) if far and not is_url(dest) else (storage_options, remote)
    target = destination(dest, *known)
    refuse_existing_at(target, overwrite)
    reading: dict[str, Any] = {
        "axes": axes,
        "channels": channels,
        "nodata": nodata,
        "orient": orient,
        "max_pixels": max_pixels,
        "stack": stack,
        "start": start,
        "stop": stop,
        "step": step,
        "size": size,
        "palette": choose_palette(palette, kind),
        "series": series,
        "variable": variable,
        **({"storage_options": storage_options, "remote": remote} if far else {}),
    }
    image = as_image(source, reading, encoding)
    if scheduler is not None:
        transcode_on(scheduler, workers, image, target, overwrite=overwrite, progress=progress)
        return open_dest(target)
    with image.open() as opened:
        image.write_whole(opened, target, overwrite=overwrite, progress=progress, workers=workers)
    return open_dest(target)


def transcode_on(
    scheduler: Scheduler, workers: int | None, image: Image, dest: Dest, *, overwrite: bool, progress: bool
) -> None:
    """Transcode an image by the workers of a scheduler; see `transcode`."""
    checked(scheduler, workers)
    with (
        working(scheduler, workers, "smaller chunks") as pool,
        progress_bar(0, dest.name, "task", progress) as advance,
    ):
        job = transcoding(for_workers(image), dest, overwrite)
        for error in run_jobs(pool, [job], lambda _: advance(), lambda tasks: advance(0, more=tasks)).values():
            raise error


def transcoding(image: Image, dest: Dest, overwrite: bool) -> Job:
    """Transcode an image by workers that see its file and the destination."""
    [(steps, trouble)] = yield [partial(image.begin, dest, overwrite)]
    if steps:
        with image.shared(dest, steps, overwrite) as shared:
            yield from image.bands(steps, shared)
            [trouble] = yield [partial(image.finish, steps, shared)]
            shared.publish(dest, overwrite)
    refuse_elsewhere(dest)
    warn_of_trouble(image.files[0], trouble)


def refuse_elsewhere(dest: Dest) -> None:
    """Raise `MissingError` if a store that a worker has made is not seen by the caller."""
    if not isinstance(dest, Path):
        return
    # Listing the directory makes a network file system look again.
    if not dest.exists() and dest.name not in os.listdir(dest.parent):
        message = f"{dest}: a worker has written it, but this process does not see it"
        hint = "Write to a file system that all workers have in common with the process that made the call"
        raise MissingError(message, path=str(dest), hint=hint)
