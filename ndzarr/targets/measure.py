"""How are statistics of many pixels made from windows that are read one after the other?

1. Windows are the rows of a table, or the tiles of all images; some are drawn if only a sample is wanted.
2. Batches of them are read together, by several threads if there are several batches, and each gives a `Running` per
   channel.
3. These are merged in the order of the batches, so that the result does not depend on the number of threads.  Memory
   holds a few batches, and one tally per channel.

From level k, means are those of native pixels up to the rounding of levels; the standard deviation is that of means of
up to 4^k pixels.  What it lacks against native pixels is measured on a few windows that are read at both resolutions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import count, islice
from math import prod
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr.batch import processors
from ndzarr.errors import TargetError
from ndzarr.sampler.assembly import read
from ndzarr.targets.bar import bar
from ndzarr.targets.options import portion, several, whole
from ndzarr.targets.pieces import Numbered, Snapped, Tiles
from ndzarr.targets.rows import Rows, Targets
from ndzarr.targets.running import Running, of_windows, pixels_that_count
from ndzarr.targets.statistics import Statistics

if TYPE_CHECKING:
    from ndzarr.sampler.coco import CocoSampler

Array: TypeAlias = "np.ndarray[Any, Any]"
Found: TypeAlias = "dict[str, Running]"

TILE = 1024
"""Edge of the tiles of whole images, in pixels of the level."""
SAMPLE_TILE = 256
"""The same where only some tiles are read: many small ones say more than few large ones."""
BATCH = 32
"""Windows read together, at most."""
BATCH_PIXELS = 1 << 22
"""Pixels of a band read together, about."""
AT_ONCE = 1000
"""Rows of a table that are looked at together."""
PROBES = 32
"""Windows that are read at native resolution too, to say what a level does to the standard deviation."""
PROBE_EDGE = 512
"""Native pixels along their edges, about."""
LARGEST_LEVEL = 30
"""Of which a pixel is wider than any image."""
QUANTILES = (0.01, 0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98, 0.99)


def statistics(
    sampler: CocoSampler,
    table: Targets | Rows | None = None,
    level: int | None = None,
    channels: Any = None,
    sample: int | None = None,
    quantiles: Sequence[float] = QUANTILES,
    bins: int = 256,
    range: tuple[float, float] | None = None,
    workers: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Statistics:
    """
    Mean, standard deviation, extremes, quantiles and histogram of each channel.

    Parameters
    ----------
    table
        Targets; None for all of all images.
    level
        Level to read, 0 being native; windows of a table are widened to whole pixels of it.  None means 0 for whole
        images, and for a table the scale that each row asks for.
    channels
        A channel code; None for those of the row, else all.
    sample
        Read only so many windows (tiles of whole images), drawn by seed.
    quantiles
        Probabilities.
    bins, range
        Of the histogram, as `numpy.histogram` takes them.
    workers
        Threads; the number of processors if left out.  The result does not depend on it.
    seed
        Of the sample.
    progress
        Show a bar if it takes longer than a second.

    Raises
    ------
    TargetError
        There is nothing to read, or an argument is not understood.
    """
    asked = np.array([portion("quantiles", q) for q in several(quantiles)])
    bins = whole("bins", bins)
    level = None if level is None else whole("level", level, least=0, most=LARGEST_LEVEL)
    sample = None if sample is None else whole("sample", sample)
    workers = processors() if workers is None else whole("workers", workers)
    range = None if range is None else _ascending(range)
    if table is None and level is None:
        level = 0
    extra = {} if channels is None else {"channels": channels}
    if table is None:
        windows: Numbered = Tiles(sampler, 1 << (level or 0), TILE if sample is None else SAMPLE_TILE)
    else:
        windows = Rows(table) if level is None else Snapped(sampler, table, 1 << level)
    total = len(windows)
    if not total:
        raise TargetError("there are no windows to read")
    rng = np.random.default_rng(seed)
    chosen = np.arange(total)
    if sample is not None and sample < total:
        chosen = np.sort(rng.choice(total, sample, replace=False))
    jobs = _batches(sampler, (_asked(target, extra) for target in _taken(windows, chosen)))
    found = _measured(sampler, jobs, len(chosen), workers, progress)
    if not found:
        raise TargetError("no window has any channel")
    loss = _loss(sampler, windows, chosen, level or 0, extra, rng)
    # A census has no sampling error; a large part of a finite whole has less of it.
    factor = np.sqrt(1 - len(chosen) / total) if table is None else 1.0
    return _result(found, loss, factor, asked, bins, range, level, len(chosen))


def _ascending(limits: Any) -> tuple[float, float]:
    """The limits of a histogram."""
    found = several(limits)
    if (
        len(found) != 2
        or not all(isinstance(v, Real) and np.isfinite(float(v)) for v in found)
        or not found[0] < found[1]
    ):
        raise TargetError(f"range={limits!r}: expected (least, greatest)")
    return float(found[0]), float(found[1])


_DROPPED = ("lazy", "finalize", "use_native_scale", "realign_native", "nodata", "dtype", "fill", "padkw")
"""Keys that change how a sample is handed over, and not what is read."""


def _asked(target: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in target.items() if key not in _DROPPED}
    return kept | {"nodata": "ma"} | extra


def _taken(windows: Numbered, chosen: Array) -> Iterator[dict[str, Any]]:
    """Some of them; rows of a table a thousand at a time, since pandas is slow with single ones."""
    if not isinstance(windows, Rows):
        yield from (windows[int(k)] for k in chosen)
        return
    for start in count(0, AT_ONCE):
        if start >= len(chosen):
            return
        yield from windows.take(chosen[start : start + AT_ONCE])


def _batches(sampler: CocoSampler, targets: Iterable[dict[str, Any]]) -> Iterator[list[Any]]:
    """What is read together."""
    rest = iter(targets)
    while part := list(islice(rest, BATCH)):
        compositions = [sampler.composition(t) for t in part]
        batch: list[Any] = []
        pixels = 0
        for c in compositions:
            size = c.shape[0] * prod(c.shape[2:])
            if batch and pixels + size > BATCH_PIXELS:
                yield batch
                batch, pixels = [], 0
            batch.append(c)
            pixels += size
        yield batch


def _measure(compositions: Sequence[Any]) -> Found:
    """Every channel of some windows, read together."""
    pixels: dict[tuple[str, Any], list[Array]] = {}
    missing: dict[str, int] = {}
    for c, (image, valid) in zip(compositions, read(compositions), strict=True):
        if image.dtype.kind == "c":
            raise TargetError("complex pixels have no order, and so no statistics; take their magnitude first")
        for k, name in enumerate(c.channels):
            real = None if valid is None else valid if valid.ndim < image.ndim else valid[:, k]
            values = pixels_that_count(image[:, k], real)
            pixels.setdefault((name, values.dtype), []).append(values)
            missing[name] = missing.get(name, 0) + image[:, k].size - values.size
    found = {name: Running(missing=number) for name, number in missing.items()}
    for (name, _), windows in pixels.items():
        found[name].merge(of_windows(windows))
    return found


def _measured(sampler: CocoSampler, batches: Iterator[list[Any]], total: int, workers: int, progress: bool) -> Found:
    found: Found = {}
    waiting: deque[tuple[int, Future[Found]]] = deque()
    with (
        bar(total, "statistics", "window", progress) as advance,
        ThreadPoolExecutor(workers, thread_name_prefix="ndzarr-statistics") if workers > 1 else nullcontext() as pool,
    ):

        def finish(size: int, part: Found) -> None:
            for name, running in part.items():
                if name in found:
                    found[name].merge(running)
                else:
                    found[name] = running
            advance(size)

        for batch in batches:
            if pool is None:
                finish(len(batch), _measure(batch))
                continue
            waiting.append((len(batch), pool.submit(_measure, batch)))
            if len(waiting) > workers:
                size, future = waiting.popleft()
                finish(size, future.result())
        for size, future in waiting:
            finish(size, future.result())
    return found


def _loss(
    sampler: CocoSampler,
    windows: Numbered,
    chosen: Array,
    level: int,
    extra: dict[str, Any],
    rng: np.random.Generator,
) -> dict[str, float]:
    """By how much the variance of native pixels exceeds that of pixels of the level, per channel."""
    if not level:
        return {}
    factor = 1 << level
    some = np.sort(rng.choice(chosen, min(PROBES, len(chosen)), replace=False))
    coarse: Found = {}
    fine: Found = {}
    for k in some:
        target = _asked(windows[int(k)], extra)
        middle = [(s.start + s.stop) // 2 // factor * factor for s in target["space_slice"]]
        half = max(factor, PROBE_EDGE // 2 // factor * factor)
        y, x = (
            slice(max(s.start, m - half), min(s.stop, m + half))
            for s, m in zip(target["space_slice"], middle, strict=True)
        )
        for scale, into in ((1 / factor, coarse), (1.0, fine)):
            part = _measure([sampler.composition(target | {"space_slice": (y, x), "scale": scale})])
            for name, running in part.items():
                into.setdefault(name, Running()).merge(running)
    return {name: max(0.0, fine[name].moments[1] - coarse[name].moments[1]) for name in fine if fine[name].count}


def _result(
    found: Found,
    loss: dict[str, float],
    factor: float,
    probabilities: Array,
    bins: int,
    limits: tuple[float, float] | None,
    level: int | None,
    windows: int,
) -> Statistics:
    runs = list(found.values())
    moments = np.array([r.moments for r in runs])
    quantiles = np.full((2, len(runs), len(probabilities)), np.nan)
    histogram, edges = np.zeros((len(runs), bins), np.int64), np.zeros((len(runs), bins + 1))
    for k, r in enumerate(runs):
        if r.count:
            quantiles[:, k] = r.tally.quantiles(probabilities, r.least, r.greatest)
        values = np.clip(r.tally.middle(), r.least, r.greatest) if r.count else np.empty(0)
        between = limits or ((r.least, r.greatest) if r.count else (0.0, 1.0))
        weights = r.tally.counts if r.count else None
        counts, edges[k] = np.histogram(values, bins, between, weights=weights)
        histogram[k] = np.rint(counts).astype(np.int64)
    exact = factor == 0
    return Statistics(
        channels=tuple(found),
        count=np.array([r.count for r in runs]),
        missing=np.array([r.missing for r in runs]),
        mean=moments[:, 0],
        std=np.sqrt(moments[:, 1]),
        min=np.array([r.least if r.count else np.nan for r in runs]),
        max=np.array([r.greatest if r.count else np.nan for r in runs]),
        mean_error=np.array([0.0 if exact else r.error * factor for r in runs]),
        std_native=np.sqrt(moments[:, 1] + np.array([loss.get(name, 0.0) for name in found])),
        probabilities=probabilities,
        quantiles=quantiles[0],
        quantile_error=quantiles[1],
        edges=edges,
        histogram=histogram,
        level=level,
        windows=windows,
    )
