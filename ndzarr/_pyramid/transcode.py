"""Transcoding: a source of pixels becomes a pyramid.

1. The source is opened (`_formats.registry`).
2. Its bands of rows go to a `PyramidWriter`, top to bottom and each once; the writer makes all levels on the way.
3. The metadata are written, and the store is published by a rename.

`estimate` predicts the size of the store from a few windows.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import ceil, floor, prod, sqrt
from pathlib import Path
from typing import Any, cast

import numpy as np

from ndzarr._files import Batch
from ndzarr._formats.base import Facts, Pixels, Source
from ndzarr._formats.sequence import SequenceSource
from ndzarr._indexing.plan import plan_reads
from ndzarr._indexing.selection import Selection, select
from ndzarr._indexing.windows import level_count, level_shape
from ndzarr._progress import progress_bar
from ndzarr._store.arrays import ChunkArray
from ndzarr._store.destinations import Dest, writing
from ndzarr._store.downsample import Reducer, halve_mask, reducer
from ndzarr._store.metadata import (
    MASK,
    Description,
    DisplayWindow,
    LevelShape,
    Records,
    mask_levels,
    write_metadata,
)
from ndzarr._store.presets import PRESETS, Encoding, choose_layout
from ndzarr._store.read import execute
from ndzarr._store.validity import Validity, fill_value
from ndzarr._store.writer import PyramidWriter, Rest, halve, is_blank
from ndzarr.errors import DamagedFileWarning, DamagedVideoWarning, OptionError, SourceError, warn_caller

BAND_BYTES = 16 << 20
"""Bytes of pixels read at a time."""


def _stays(path: Path) -> None:
    """Do nothing with a shard that is complete."""


def write_pyramid(
    source: Source,
    dest: Dest,
    encoding: Encoding,
    *,
    overwrite: bool = False,
    progress: bool = False,
    workers: int | None = None,
    origin: Mapping[str, Any] | None = None,
    number: int = 0,
    check: Callable[[], object] | None = None,
    band_bytes: int = BAND_BYTES,
    batch: Batch | None = None,
    what: str | None = None,
) -> None:
    """
    Write an open source as a store; see `transcode`.

    Parameters
    ----------
    origin
        The `identity` of the source's file before it was opened, and other facts that the store records of it; its
        identity now if None.
    number
        Number of the source's level, if that is not the native one of a pyramid: rounding depends on it.
    check
        Called between steps; gives up by raising.
    band_bytes
        Bytes of pixels that are read at a time, at most; at least one band of the source is.
    batch
        The store is there once this is published; at once if None.
    what
        Digest of all that the shards depend on, by which a bucket gets what an interrupted call has not written; the
        key of a cached store if None.
    """
    origin = identity(source.name) if origin is None else origin
    stream = as_stream(source)
    making = Making.of(source, encoding, number)
    total = row_count(source, making.levels[:-1] if making.volume else [])
    name = os.path.basename(source.name)
    with (
        writing(dest, overwrite, batch, what or origin.get("key")) as into,
        progress_bar(total, name, "row", progress) as show,
    ):

        def advance(rows: int) -> None:
            if check is not None:
                check()
            show(rows)

        advance(0)
        work, last = into.root, into.root / str(len(making.levels) - 1)

        def written(path: Path) -> None:
            if stream is None and last not in path.parents:  # the metadata say what viewers show of the last level
                into.written(path)

        if stream is not None:
            writer_of = partial(PyramidWriter, work, reduce=making.reduce, workers=workers, written=written)
            levels, records = write_stream(stream, making.encoding, writer_of, advance, band_bytes)
            making = replace(making, levels=levels)
        else:
            count = 1 if making.volume else len(making.levels)
            records = write_rows(
                source,
                work,
                making,
                count=count,
                workers=workers,
                advance=advance,
                band_bytes=band_bytes,
                written=_stays if making.volume else written,
            )
        if making.volume:
            records |= making.halve(source, work, workers, advance)
        finish(source, work, making, records, origin)
    warn_of_trouble(source.name, source.trouble, video=stream is not None)


def finish(source: Source, work: Path, making: Making, records: Records, origin: Mapping[str, Any]) -> None:
    """Write the metadata of a store whose shards are written, unless the source was changed meanwhile."""
    _refuse_changed(source, origin)
    about = describe(source, making.encoding, origin)
    windows = display_windows(work, about, making.levels, making.masks)
    write_metadata(work, about, making.levels, windows, records, making.masks)


def warn_of_trouble(name: str, trouble: Sequence[str], video: bool = False) -> None:
    """Warn about what of a damaged source was left out."""
    if trouble:
        warn_caller(f"{name}: {'; '.join(trouble)}", DamagedVideoWarning if video else DamagedFileWarning)


@dataclass(frozen=True, slots=True)
class Making:
    """The levels of a store, and how their pixels are made."""

    encoding: Encoding
    levels: list[LevelShape]
    """Empty for a stream, whose length is not known."""
    masks: list[LevelShape]
    """Levels of the mask, if the source has one."""
    reduce: Reducer
    reduce_mask: Reducer
    volume: bool
    """True if z is halved, too: levels are then made from those that are stored."""

    @classmethod
    def of(cls, source: Source, encoding: Encoding, number: int = 0) -> Making:
        """Return how the store of a source is made; `number` is that of the source's level in the whole pyramid."""
        encoding = suited(encoding, source.facts)
        levels = level_shapes(source, encoding) if as_stream(source) is None else []
        volume = "z" in encoding.reduce and "z" in source.dims
        plain = reducer(source.dtype, encoding.kind, source.validity, volume)

        def reduce(image: Pixels, level: int, mask: Pixels | None = None) -> Pixels:
            return plain(image, level + number, mask)

        def reduce_mask(mask: Pixels, level: int, _: Pixels | None = None) -> Pixels:
            return halve_mask(mask, volume)

        masks = mask_levels(source.dims, levels, encoding) if source.masked else []
        return cls(encoding, levels, masks, reduce, reduce_mask, volume)

    @property
    def arrays(self) -> dict[str, LevelShape]:
        """The level of each array, by its path."""
        image = {f"{k}/image": level for k, level in enumerate(self.levels)}
        return image | {f"{k}/{MASK}": level for k, level in enumerate(self.masks)}

    def halve(self, source: Source, work: Path, workers: int | None, advance: Callable[[int], object]) -> Records:
        """Make all levels of a volume but the first, which is stored."""
        records: Records = {}
        if self.masks:
            records |= halve(work, self.masks, self.reduce_mask, workers, lambda rows: None, MASK)
        whole = source.dims.index("c") if source.validity.by_channel else None
        return records | halve(work, self.levels, self.reduce, workers, advance, masks=self.masks, whole=whole)


def write_rows(
    source: Source,
    work: Path,
    making: Making,
    *,
    first: int = 0,
    count: int | None = None,
    rows: slice | None = None,
    rests: tuple[Rest | None, Rest | None] = (None, None),
    workers: int | None = None,
    advance: Callable[[int], object] = lambda rows: None,
    band_bytes: int = BAND_BYTES,
    written: Callable[[Path], object] = _stays,
) -> Records:
    """
    Write `count` levels, from number `first` on, of rows of a source; return the records of their shards.

    The pixels of the source are those of level `first`.  `rows` are whole rows of shards of each of these levels; all
    rows by default.  `rests` take the rows of the next level, and of its mask.  `written` is called with each shard.
    """
    chosen = slice(first, None if count is None else first + count)
    rows = slice(0, source.shape[-2]) if rows is None else rows
    with ExitStack() as writers:

        def writer_of(levels: list[LevelShape], reduce: Reducer, name: str, rest: Rest | None) -> PyramidWriter:
            writer = PyramidWriter(work, levels, reduce, workers, first, name, rows, rest, written)
            return writers.enter_context(writer)

        writer = writer_of(making.levels[chosen], making.reduce, "image", rests[0])
        masked = bool(making.masks)
        veil = writer_of(making.masks[chosen], making.reduce_mask, MASK, rests[1]) if masked else None
        for block, window in _bands(source, making.levels[first], band_bytes, rows):
            pixels = source.read(window)
            mask = None if veil is None else source.read_mask(window)
            writer.write(block, pixels, mask)
            if veil is not None and mask is not None and window["c"].start == 0:
                veil.write(tuple(n for n, d in zip(block, source.dims, strict=False) if d != "c"), mask)
            advance(prod(pixels.shape[:-1]))
        writer.finish()
        if veil is not None:
            veil.finish()
        return writer.records | ({} if veil is None else veil.records)


def row_count(source: Source, halved: Sequence[LevelShape]) -> int | None:
    """Return the rows of the source and of levels that are read again to be halved; None if not known yet."""
    stream = as_stream(source)
    shape = source.shape if stream is None else stream.expected_shape
    return sum(prod(s[:-1]) for s in (shape, *(level.shape for level in halved))) or None


def suited(encoding: Encoding, facts: Facts) -> Encoding:
    """Return the encoding for a source: one of labels if its pixels are indices of a palette."""
    return replace(encoding, kind="labels") if facts.classes else encoding


def describe(source: Source | Facts, encoding: Encoding, origin: Mapping[str, Any]) -> Description:
    """Return what a store of a source records about itself."""
    facts = source if isinstance(source, Facts) else source.facts
    return Description(
        dims=source.dims,
        channels=source.channels,
        dtype=source.dtype,
        encoding=suited(encoding, facts),
        nodata=source.nodata,
        masked=source.masked,
        times=None if source.times is None else tuple(float(t) for t in source.times),
        pixel_size=source.pixel_size,
        source={"name": source.name, **source.metadata, **origin},
    )


def identity(name: str) -> dict[str, Any]:
    """Return path, size, time and inode of a file, which tell whether it changed; {} for other sources."""
    try:
        stat = os.stat(name)
    except OSError:
        return {}
    return {"path": name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}


def _refuse_changed(source: Source, origin: Mapping[str, Any]) -> None:
    """Raise `SourceError` if the file of a source was changed since `origin` was taken."""
    if isinstance(source, SequenceSource):
        source.refuse_changed()
    now = identity(origin["path"]) if origin else {}
    if any(now[key] != origin[key] for key in now):
        path = origin["path"]
        raise SourceError(f"{path}: was changed while it was read", path=path, hint="Transcode it once it is complete")


def level_shapes(source: Source, encoding: Encoding, native: tuple[int, ...] | None = None) -> list[LevelShape]:
    """Return the levels of a source's pyramid, from native to coarsest; `native` is the shape if not the source's."""
    native = source.shape if native is None else native
    out = []
    for k in range(level_count(*native[-2:])):
        shape = level_shape(k, source.dims, native, encoding.reduce)
        factors = tuple(2**k if d in encoding.reduce else 1 for d in source.dims)
        layout = choose_layout(source.dims, shape, source.dtype, encoding)
        out.append(LevelShape(shape, layout, factors, fill_value(source.nodata, source.dtype)))
    return out


def _bands(
    source: Source, level: LevelShape, band_bytes: int, wanted: slice
) -> Iterator[tuple[tuple[int, ...], dict[str, slice]]]:
    """Yield (first indices along the axes before y, window to read): whole chunks, rows from top to bottom."""
    lengths = dict(zip(source.dims, source.shape, strict=True))
    block = dict(zip(source.dims, level.layout.shards, strict=True))
    step = dict(zip(source.dims, level.layout.chunks, strict=True))
    # Alpha decides how much all other channels count, and channels with their own nodata are told by their position.
    step["c"] = lengths["c"] if source.interleaved or source.validity.by_channel else block["c"]
    leading = source.dims[:-2]
    row_bytes = source.dtype.itemsize * lengths["x"] * prod(min(step[d], lengths[d]) for d in leading)
    unit = max(1, source.band)
    rows = min(lengths["y"], unit * max(1, band_bytes // max(1, unit * row_bytes)))
    for start in product(*(range(0, lengths[d], step[d]) for d in leading)):
        window = {d: slice(i, min(i + step[d], lengths[d])) for d, i in zip(leading, start, strict=True)}
        y = wanted.start
        while y < wanted.stop:
            end = min(y - y % rows + rows, wanted.stop)
            yield start, {**window, "y": slice(y, end)}
            y = end


def whole_range(dtype: np.dtype[Any], bits: int | None = None) -> DisplayWindow:
    """Return the range of the values that there can be; `bits` is the number used, if not all of the type are."""
    low, high = 0.0, 1.0
    if bits is not None and dtype.kind == "u":
        high = float(2**bits - 1)
    elif dtype.kind in "iu":
        low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    return DisplayWindow(low, high, low, high)


SHOWN = (1.0, 99.5)
"""Percentiles of the pixels that viewers show as black and as white."""
_PLANES = 8
"""Frames, and planes, that are looked at for it."""


def display_windows(
    root: Path, about: Description, levels: Sequence[LevelShape], masks: Sequence[LevelShape]
) -> list[DisplayWindow]:
    """
    Return what viewers show of each channel: all values of pictures of 8 bits, percentiles of the coarsest level else.

    Channels r, g and b share theirs, so that the hues of a picture stay as they are.
    """
    dtype, bits = about.dtype, about.source.get("bits")
    whole = whole_range(dtype, bits)
    if about.encoding.kind == "labels" or bits is not None or dtype.itemsize == 1:
        return [whole] * len(about.channels)
    coarsest, number = levels[-1], len(levels) - 1
    spread = {d: tuple(sorted({n * k // _PLANES for k in range(_PLANES)})) for d, n in
              zip(about.dims, coarsest.shape, strict=True) if d in "tz"}  # fmt: skip
    version = object()
    pixels = _read_level(root / f"{number}/image", coarsest, select(about.dims, coarsest.shape, spread), version)
    mask = None
    if masks:
        dims = [d for d in about.dims if d != "c"]
        own = {d: k for d, k in spread.items() if d in dims}
        mask = _read_level(root / f"{number}/{MASK}", masks[-1], select(dims, masks[-1].shape, own), version)
    rule = Validity.of(about.dims, about.channels, about.nodata, about.source, bool(masks))
    alpha = None if rule.alpha is None else pixels.take([rule.alpha], axis=rule.axis)
    real = rule.real(pixels, alpha, mask, rule.channels_of(pixels))
    shown = np.isfinite(pixels) if real is None else np.isfinite(pixels) & real
    sizes = np.abs(pixels) if dtype.kind == "c" else pixels
    found = [_window(sizes.take(k, axis=rule.axis), shown.take(k, axis=rule.axis), whole) for k in
             range(len(about.channels))]  # fmt: skip
    colours = [k for k, name in enumerate(about.channels) if name in ("r", "g", "b", "red", "green", "blue")]
    if len(colours) == 3:
        limits = np.array([found[k] for k in colours])
        low, high = limits[:, ::2].min(0), limits[:, 1::2].max(0)
        for k in colours:
            found[k] = DisplayWindow(float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    return found


def _window(pixels: np.ndarray[Any, Any], shown: np.ndarray[Any, Any], whole: DisplayWindow) -> DisplayWindow:
    values = pixels[shown].astype(float)
    if not len(values):
        return whole
    start, end = map(float, np.percentile(values, SHOWN))
    if not start < end:
        start, end = start, max(start + 1, float(values.max()))
    if pixels.dtype.kind in "iu":
        return DisplayWindow(whole.min, whole.max, float(floor(start)), float(min(ceil(end), whole.max)))
    return DisplayWindow(min(start, float(values.min())), max(end, float(values.max())), start, end)


def _read_level(path: Path, level: LevelShape, selection: Selection, version: object) -> np.ndarray[Any, Any]:
    layout = level.layout
    array = ChunkArray(str(path), level.shape, layout.codec, layout.per_shard, level.fill, version=version)
    [pixels] = execute(plan_reads([(array, selection)]))
    return pixels


ENDLESS = 2**40
"""Number of frames that stands for one that is known only when a source ends; no video has as many."""


class Stream(Source):
    """A source whose length is known only when it ends; its attribute `growing` is True."""

    @property
    @abstractmethod
    def expected_shape(self) -> tuple[int, ...]:
        """Shape by the header; the number of frames may be wrong, and is 0 if the header does not say."""

    @abstractmethod
    def blocks(self, length: int) -> Iterator[np.ndarray[Any, Any]]:
        """Yield all frames in order, `length` at a time, in the end those that are left; axes (t, ...)."""


def as_stream(source: Source) -> Stream | None:
    """Return the source if its length is known only when it ends, else None."""
    return cast(Stream, source) if getattr(source, "growing", False) else None


def write_stream(
    stream: Stream,
    encoding: Encoding,
    writer_of: Callable[[list[LevelShape]], PyramidWriter],
    progress: Callable[[int], object],
    band_bytes: int,
) -> tuple[list[LevelShape], Records]:
    """
    Write all frames of a stream; return the levels that were written, and the records of their shards.

    `writer_of` returns the writer of given levels.  At least one chunk and `band_bytes` of frames are gathered before
    they are encoded.  `progress` is told the number of rows written.
    """

    def levels(frames: int) -> list[LevelShape]:
        return level_shapes(stream, encoding, (frames, *stream.expected_shape[1:]))

    endless = levels(ENDLESS)[0]
    chunk = endless.layout.chunks[0]
    frame = prod(endless.shape[1:]) * endless.layout.codec.dtype.itemsize
    blocks = stream.blocks(chunk * max(1, band_bytes // (chunk * frame)))
    block, following = next(blocks, None), next(blocks, None)
    if block is None:
        raise SourceError(f"{stream.name}: it has no frames", path=stream.name)
    at = 0
    with writer_of(levels(len(block) if following is None else ENDLESS)) as out:
        while block is not None:
            if following is None:
                out.end(at + len(block))
            out.write((at, *[0] * (block.ndim - 3)), block)
            at += len(block)
            progress(prod(block.shape[:-1]))
            block, following = following, next(blocks, None)
        out.finish()
        return out.levels, out.records


WINDOWS = 24
"""Windows that are encoded for an estimate."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Predicted size of a store."""

    preset: str
    nbytes: int
    """Expected bytes of all levels."""
    error: int
    """Standard error of `nbytes`, in bytes."""
    raw: int
    """Bytes of the native pixels."""

    @property
    def ratio(self) -> float:
        """Native pixels per byte on disk."""
        return self.raw / max(1, self.nbytes)


def estimate(
    source: Source,
    encoding: Encoding | None = None,
    windows: int = WINDOWS,
    advance: Callable[[], object] = lambda: None,
) -> list[Estimate]:
    """
    Predict the size of a store under each preset that can hold the source's pixels.

    At most `windows` windows are read, in order, and encoded; `advance` is called after each of them.
    """
    given = suited(encoding or Encoding(), source.facts)
    layouts: dict[str, list[LevelShape]] = {}
    for preset in PRESETS:
        try:
            layouts[preset] = level_shapes(source, replace(given, preset=preset))
        except OptionError:  # jpeg holds photographs only
            continue
    reduce = reducer(source.dtype, given.kind, source.validity, "z" in given.reduce and "z" in source.dims)
    costs: dict[str, list[tuple[float, float]]] = {preset: [] for preset in layouts}  # per pixel: native, halved
    for window in _spread(source, next(iter(layouts.values()))[0], windows):
        pixels = source.read(window)
        halves = reduce(pixels, 1, source.read_mask(window) if source.masked else None)
        for preset, levels in layouts.items():
            costs[preset].append((_bytes_per_pixel(pixels, levels[0]), _bytes_per_pixel(halves, levels[:2][-1])))
        advance()
    return [_total(preset, layouts[preset], costs[preset], source) for preset in layouts]


def _spread(source: Source, level: LevelShape, number: int) -> Iterator[Mapping[str, slice]]:
    """Yield windows of 2 x 2 chunks, spread evenly without lining up."""
    lengths = dict(zip(source.dims, source.shape, strict=True))
    size = dict(zip(source.dims, level.layout.chunks, strict=True))
    size |= {"y": 2 * size["y"], "x": 2 * size["x"]}
    if source.validity.by_channel:
        size["c"] = lengths["c"]
    grid = {d: ceil(lengths[d] / size[d]) for d in source.dims}
    order = [d for d in source.dims if d != "x"] + ["x"]
    total = prod(grid.values())
    golden = 0.6180339887498949  # steps that fill an interval evenly
    places = sorted({int((k + (k * golden) % 1) * total / number) for k in range(min(number, total))})
    for place in places:
        window = {}
        for d in reversed(order):
            place, k = divmod(place, grid[d])
            window[d] = slice(k * size[d], min((k + 1) * size[d], lengths[d]))
        yield window


def _bytes_per_pixel(pixels: np.ndarray[Any, Any], level: LevelShape) -> float:
    codec = level.layout.codec
    total = 0
    for start in product(*(range(0, n, c) for n, c in zip(pixels.shape, codec.shape, strict=True))):
        chunk = pixels[tuple(slice(a, a + c) for a, c in zip(start, codec.shape, strict=True))]
        if not is_blank(chunk, level.fill):
            beyond = [(0, c - n) for c, n in zip(codec.shape, chunk.shape, strict=True)]
            total += len(codec.encode(np.pad(chunk, beyond, mode="edge")))
        total += 16  # in the shard's index
    return total / pixels.size


def _total(preset: str, levels: Sequence[LevelShape], costs: Sequence[tuple[float, float]], source: Source) -> Estimate:
    native, coarser = prod(levels[0].shape), sum(prod(level.shape) for level in levels[1:])
    sizes = np.array([a * native + b * coarser for a, b in costs])
    error = float(sizes.std(ddof=1)) / sqrt(len(sizes)) if len(sizes) > 1 else 0.0
    return Estimate(preset, int(sizes.mean()), int(error), native * source.dtype.itemsize)
