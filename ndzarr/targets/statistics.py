"""What is known of the pixels of each channel, and how are images normalised with it?"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from itertools import count, islice
from math import prod
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from ndzarr._concurrency import available_cpus as processors
from ndzarr._progress import delayed_bar as bar
from ndzarr._sampling.compose import compose, read
from ndzarr._sampling.resolve import resolve
from ndzarr._sampling.target import parse
from ndzarr._validation import as_list as several
from ndzarr._validation import check_fraction as portion
from ndzarr._validation import check_target_count as whole
from ndzarr.errors import OptionError, TargetError, did_you_mean
from ndzarr.targets._quantiles import Running, of_windows, pixels_that_count
from ndzarr.targets.table import Rows
from ndzarr.targets.table import TargetsLike as Targets
from ndzarr.targets.windows import as_table, footprints, spaces_of

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.protocols import SampleSource


Array: TypeAlias = "np.ndarray[Any, Any]"

WHOLE = ("count", "missing", "histogram")
"""Fields of whole numbers."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Statistics:
    """
    Statistics of pixels, per channel.

    Pixels that are not real are left out: outside the image, nodata, NaN, infinite.
    """

    channels: tuple[str, ...]
    """Names."""
    count: Array
    """Pixels; shape (c,)."""
    missing: Array
    """Pixels that were left out; shape (c,)."""
    mean: Array
    """Shape (c,)."""
    std: Array
    """Of the pixels that were read, with divisor n; shape (c,)."""
    min: Array
    """Shape (c,)."""
    max: Array
    """Shape (c,)."""
    mean_error: Array
    """Standard error of `mean`, the windows that were read being a sample of others; 0 where the whole dataset was
    read, NaN for a single window; shape (c,)."""
    std_native: Array
    """What `std` is at native resolution: pixels of a coarser level are means, which vary less.  Estimated from a few
    windows read at both; shape (c,)."""
    probabilities: Array
    """Of `quantiles`; shape (q,)."""
    quantiles: Array
    """Shape (c, q)."""
    quantile_error: Array
    """How far each quantile may be from that of the pixels that were read; 0 for up to 16 bits; shape (c, q)."""
    edges: Array
    """Of the bins of `histogram`; shape (c, bins + 1)."""
    histogram: Array
    """Pixels in each bin; shape (c, bins)."""
    level: int | None
    """Level that was read; None where rows of a table were read at their own scale."""
    windows: int
    """How many were read."""

    def select(self, channels: Sequence[str]) -> Statistics:
        """
        Some channels, in the order given.

        Raises
        ------
        OptionError
            There is no such channel.
        """
        for name in channels:
            if name not in self.channels:
                raise OptionError(f"channel {name!r} has no statistics{did_you_mean(name, self.channels)}")
        index = [self.channels.index(name) for name in channels]
        shared = ("channels", "probabilities", "level", "windows")
        own = [f.name for f in fields(self) if f.name not in shared]
        arrays: dict[str, Any] = {name: getattr(self, name)[index] for name in own}
        return replace(self, channels=tuple(channels), **arrays)

    def normalise(self, image: Any, native: bool = True) -> Any:
        """
        Subtract the mean and divide by the standard deviation.

        Parameters
        ----------
        image
            A DataArray with an axis c, whose channels are found by name; or an array or torch tensor (..., c, y, x)
            with the channels of these statistics.
        native
            Divide by `std_native`, rather than by the `std` of the level that was read.

        Returns
        -------
        Of the same kind, float32 (float64 stays).  Channels that do not vary become 0.

        Raises
        ------
        OptionError
            There are no statistics of a channel, or another number of channels.
        """
        if hasattr(image, "dims") and hasattr(image, "coords"):
            import xarray

            found = self.select([str(c) for c in image.coords["c"].values])
            mean, std = found._scale(native, image.dtype)
            coords = {"c": image.coords["c"]}
            return (image - xarray.DataArray(mean, coords, ["c"])) / xarray.DataArray(std, coords, ["c"])
        if image.ndim < 3 or image.shape[-3] != len(self.channels):
            raise OptionError(
                f"an image of shape {tuple(image.shape)}: expected (..., {len(self.channels)}, y, x), the channels "
                f"{', '.join(self.channels)}; use select() for some of them"
            )
        if type(image).__module__.partition(".")[0] == "torch":
            import torch

            wide = np.dtype("f8" if image.dtype == torch.float64 else "f4")
            mean, std = (torch.from_numpy(v[:, None, None]).to(image.device) for v in self._scale(native, wide))
            return (image - mean) / std
        mean, std = (v[:, None, None] for v in self._scale(native, image.dtype))
        return (image - mean) / std

    def _scale(self, native: bool, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        wide = np.dtype("f8") if dtype == np.dtype("f8") else np.dtype("f4")
        std = self.std_native if native else self.std
        return self.mean.astype(wide), np.where(std > 0, std, 1).astype(wide)

    def to_frame(self) -> pandas.DataFrame:
        """A table with a row per channel."""
        import pandas

        names = ("count", "missing", "mean", "mean_error", "std", "std_native", "min", "max")
        columns = {name: getattr(self, name) for name in names}
        columns |= {f"q{p:g}": self.quantiles[:, k] for k, p in enumerate(self.probabilities.tolist())}
        return pandas.DataFrame(columns, index=pandas.Index(self.channels, name="channel"))

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """As text, which is also written to a file if one is named."""
        text = json.dumps({name: _plain(v) for name, v in asdict(self).items()})
        if path is not None:
            Path(path).write_text(text)
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> Statistics:
        """
        From what `to_json` gave: text, or the path of a file.

        Raises
        ------
        OptionError
            It is something else.
        """
        text = os.fspath(source)
        try:
            found = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text())
            channels, level, windows = (found.pop(name) for name in ("channels", "level", "windows"))
            arrays: dict[str, Any] = {
                name: np.array(v, np.int64 if name in WHOLE else float) for name, v in found.items()
            }
            return cls(channels=tuple(channels), level=level, windows=windows, **arrays)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise OptionError(f"{text[:80]!r} holds no statistics of ndzarr ({error})") from error

    def __repr__(self) -> str:
        level = "at the scale of each row" if self.level is None else f"at level {self.level}"
        lines = [f"<Statistics of {self.windows} windows {level}: {len(self.channels)} channels>"]
        names = ("channel", "pixels", "missing", "mean", "+-", "std", "native", "min", "median", "max")
        cells: list[tuple[str, ...]] = [names]
        for k, name in enumerate(self.channels):
            total = int(self.count[k] + self.missing[k])
            share = f"{self.missing[k] / total:.1%}" if total else "-"
            middle = float(np.interp(0.5, self.probabilities, self.quantiles[k])) if len(self.probabilities) else np.nan
            numbers = (
                self.mean[k],
                self.mean_error[k],
                self.std[k],
                self.std_native[k],
                self.min[k],
                middle,
                self.max[k],
            )
            cells.append((name, str(int(self.count[k])), share, *(f"{v:.5g}" for v in numbers)))
        widths = [max(map(len, c)) for c in zip(*cells, strict=True)]
        lines += [
            "  ".join(t.ljust(w) if k == 0 else t.rjust(w) for k, (t, w) in enumerate(zip(line, widths, strict=True)))
            for line in cells
        ]
        return "\n  ".join(lines)


def _plain(value: Any) -> Any:
    """JSON knows no NaN."""
    if not isinstance(value, np.ndarray):
        return value
    boxed = value.astype(object)
    boxed[np.isnan(value)] = None
    return boxed.tolist()


# --- Which windows are read for statistics, as targets whose pixels are those of a level?


class Numbered(Protocol):
    """Targets, made when asked for."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, k: int, /) -> dict[str, Any]:
        """One of them."""


class Tiles:
    """Tiles of all images, at whole pixels of a level."""

    def __init__(self, source: SampleSource, factor: int, edge: int) -> None:
        self._factor, self._edge = factor, edge
        spaces = spaces_of(source, "image")
        self._gids = [frames[0] for frames in spaces.frames]
        self._size = -(-np.stack([spaces.height, spaces.width], axis=1) // factor)
        self._grid = -(-self._size // edge)
        self._ends = np.cumsum(self._grid.prod(axis=1))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, k: int, /) -> dict[str, Any]:
        image = int(np.searchsorted(self._ends, k, side="right"))
        inner = int(k - (self._ends[image - 1] if image else 0))
        place = divmod(inner, int(self._grid[image, 1]))
        factor, edge = self._factor, self._edge
        y, x = (
            slice(p * edge * factor, min((p + 1) * edge, n) * factor)
            for p, n in zip(place, self._size[image].tolist(), strict=True)
        )
        return {"gid": self._gids[image], "space_slice": (y, x), "scale": 1 / factor}


class Snapped:
    """Rows of a table, widened to whole pixels of a level."""

    def __init__(self, source: SampleSource, targets: Targets | Rows, factor: int) -> None:
        table = as_table(targets)
        self._factor, self._found = factor, footprints(source, table)
        self._ends = np.searchsorted(self._found.row, np.arange(len(table) + 1))
        self._channels = table["channels"].tolist() if "channels" in table else None

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, k: int, /) -> dict[str, Any]:
        found, factor = self._found, self._factor
        y, x = (slice(int(a // factor * factor), int(-(-b // factor) * factor)) for a, b in (found.y[k], found.x[k]))
        frames = [found.gids[f] for f in found.frame[self._ends[k] : self._ends[k + 1]].tolist() if f >= 0]
        name = {"gids": frames} if found.spaces[int(found.space[k])][0] == "video" else {"gid": frames[0]}
        own = None if self._channels is None else self._channels[k]
        target = name | {"space_slice": (y, x), "scale": 1 / factor}
        return target if own is None or own != own else target | {"channels": own}


# --- How are statistics of many pixels made from windows that are read one after the other?

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
    source: SampleSource,
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
        windows: Numbered = Tiles(source, 1 << (level or 0), TILE if sample is None else SAMPLE_TILE)
    else:
        windows = Rows(table) if level is None else Snapped(source, table, 1 << level)
    total = len(windows)
    if not total:
        raise TargetError("there are no windows to read")
    rng = np.random.default_rng(seed)
    chosen = np.arange(total)
    if sample is not None and sample < total:
        chosen = np.sort(rng.choice(total, sample, replace=False))
    jobs = _batches(source, (_asked(target, extra) for target in _taken(windows, chosen)))
    found = _measured(source, jobs, len(chosen), workers, progress)
    if not found:
        raise TargetError("no window has any channel")
    loss = _loss(source, windows, chosen, level or 0, extra, rng)
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


def _batches(source: SampleSource, targets: Iterable[dict[str, Any]]) -> Iterator[list[Any]]:
    """What is read together."""
    rest = iter(targets)
    while part := list(islice(rest, BATCH)):
        compositions = [compose(resolve(parse(t), source), source) for t in part]
        batch: list[Any] = []
        pixels = 0
        for c in compositions:
            size = prod(c.shape) // len(c.channels or ())
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
    for c, (image, mask) in zip(compositions, read(compositions), strict=True):
        if image.dtype.kind == "c":
            raise TargetError("complex pixels have no order, and so no statistics; take their magnitude first")
        axis = c.dims.index("c")
        for k, name in enumerate(c.channels or ()):
            channel = image.take(k, axis) if axis else image[k]
            real = None if mask is None else mask[1].take(k, axis) if "c" in mask[0] else mask[1]
            values = pixels_that_count(channel, real)
            pixels.setdefault((name, values.dtype), []).append(values)
            missing[name] = missing.get(name, 0) + channel.size - values.size
    found = {name: Running(missing=number) for name, number in missing.items()}
    for (name, _), windows in pixels.items():
        found[name].merge(of_windows(windows))
    return found


def _measured(source: SampleSource, batches: Iterator[list[Any]], total: int, workers: int, progress: bool) -> Found:
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
    source: SampleSource,
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
            part = _measure([compose(resolve(parse(target | {"space_slice": (y, x), "scale": scale}), source), source)])
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
