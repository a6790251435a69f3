"""Statistics of the pixels of each channel, and images normalised with them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from math import prod
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from ndzarr._concurrency import available_cpus, ordered_map
from ndzarr._files import local_path, publishing_file
from ndzarr._progress import progress_bar
from ndzarr._sampling.compose import SampleRequest, compose, read
from ndzarr._sampling.resolve import resolve
from ndzarr._sampling.target import parse
from ndzarr._validation import as_list, check_fraction, check_target_count
from ndzarr.errors import MissingError, OptionError, TargetError, did_you_mean
from ndzarr.targets._quantiles import StreamingMoments, moments_of, pixels_that_count
from ndzarr.targets.table import Rows, TargetsLike, aligned, as_table
from ndzarr.targets.windows import Array, spaces_of, window_columns

if TYPE_CHECKING:
    import pandas

    from ndzarr._sampling.protocols import SampleSource


QUANTILES = (0.01, 0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98, 0.99)  # probabilities, unless others are asked for
TILE = 1024  # edge of the tiles of whole images, in pixels of the level
SAMPLE_TILE = 256  # edge of the tiles if only some are read: many small tiles say more than few large ones
BATCH = 32  # windows that are read together, at most
BATCH_PIXELS = 1 << 22  # pixels of a band that are read together, about
AT_ONCE = 1000  # rows of a table that are made into dictionaries together: pandas is slow with single rows
PROBES = 32  # windows that are also read at native resolution, to find what a level does to the standard deviation
PROBE_EDGE = 512  # edge of these windows in native pixels, about
LARGEST_LEVEL = 30  # a level whose pixels are wider than any image
WHOLE = ("count", "missing", "histogram")  # fields of whole numbers

HANDED_OVER = ("lazy", "finalize", "use_native_scale", "realign_native", "nodata", "dtype", "fill", "padkw")
"""Keys that change how a sample is handed over, and not what is read."""

Image = TypeVar("Image", bound=Any)  # an xarray.DataArray, numpy array or torch tensor
NumberedTargets: TypeAlias = "Rows | TileTargets | SnappedTargets"  # each target is made when it is asked for
Moments: TypeAlias = "dict[str, StreamingMoments]"  # channel to what is known of its pixels


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Statistics:
    """
    Statistics of the pixels of each channel, in the units of the pixels.

    Pixels without data (outside, nodata, NaN, infinite) are left out.  Shapes are (c,) where none is given.
    """

    channels: tuple[str, ...]
    count: Array
    """Pixels; shape (c,)."""
    missing: Array
    """Pixels that were left out; shape (c,)."""
    mean: Array
    std: Array
    """Standard deviation of the pixels that were read, with divisor n; shape (c,)."""
    min: Array
    max: Array
    mean_error: Array
    """Standard error of `mean`, if the windows that were read are a sample of others; 0 if the whole dataset was read,
    NaN for a single window; shape (c,)."""
    std_native: Array
    """Standard deviation at native resolution: pixels of a coarser level are means, which vary less.  Estimated from a
    few windows read at both; shape (c,)."""
    probabilities: Array
    """Probabilities of `quantiles`, from 0 to 1; shape (q,)."""
    quantiles: Array
    """Shape (c, q)."""
    quantile_error: Array
    """How far each quantile may be from that of the pixels that were read; 0 for types of up to 16 bits; shape (c,
    q)."""
    edges: Array
    """Edges of the bins of `histogram`; shape (c, bins + 1)."""
    histogram: Array
    """Pixels in each bin; shape (c, bins)."""
    level: int | None
    """Level that was read; None if rows of a table were read at their own scale."""
    windows: int
    """Number of windows that were read."""

    def select(self, channels: Sequence[str]) -> Statistics:
        """Return the statistics of some channels, in the order given."""
        for name in channels:
            if name not in self.channels:
                known = did_you_mean(name, self.channels)
                raise OptionError(f"channels: {name!r} has no statistics{known}", key="channels")
        index = [self.channels.index(name) for name in channels]
        shared = ("channels", "probabilities", "level", "windows")
        own = [f.name for f in fields(self) if f.name not in shared]
        arrays: dict[str, Any] = {name: getattr(self, name)[index] for name in own}
        return replace(self, channels=tuple(channels), **arrays)

    def normalise(self, image: Image, native: bool = True) -> Image:
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
        An image of the same kind as float32, or float64 if it was.  Channels that do not vary become 0.
        """
        if hasattr(image, "dims") and hasattr(image, "coords"):
            import xarray

            found = self.select([str(c) for c in image.coords["c"].values])
            mean, std = found._scale(native, image.dtype)
            coords = {"c": image.coords["c"]}
            done: Image = (image - xarray.DataArray(mean, coords, ["c"])) / xarray.DataArray(std, coords, ["c"])
            return done
        if image.ndim < 3 or image.shape[-3] != len(self.channels):
            raise OptionError(
                f"image of shape {tuple(image.shape)}: expected (..., {len(self.channels)}, y, x), the channels "
                f"{', '.join(self.channels)}",
                key="image",
                hint="Use select() for some of them",
            )
        if type(image).__module__.partition(".")[0] == "torch":
            import torch

            wide = np.dtype("f8" if image.dtype == torch.float64 else "f4")
            mean, std = (torch.from_numpy(v[:, None, None]).to(image.device) for v in self._scale(native, wide))
        else:
            mean, std = (v[:, None, None] for v in self._scale(native, image.dtype))
        done = (image - mean) / std
        return done

    def _scale(self, native: bool, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        wide = np.dtype("f8") if dtype == np.dtype("f8") else np.dtype("f4")
        std = self.std_native if native else self.std
        return self.mean.astype(wide), np.where(std > 0, std, 1).astype(wide)

    def to_frame(self) -> pandas.DataFrame:
        """Return a table with a row per channel."""
        import pandas

        names = ("count", "missing", "mean", "mean_error", "std", "std_native", "min", "max")
        columns = {name: getattr(self, name) for name in names}
        columns |= {f"q{p:g}": self.quantiles[:, k] for k, p in enumerate(self.probabilities.tolist())}
        return pandas.DataFrame(columns, index=pandas.Index(self.channels, name="channel"))

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the statistics as JSON; also write it to `path`, if given."""
        text = json.dumps({name: _plain(v) for name, v in asdict(self).items()})
        if path is not None:
            with publishing_file(local_path(path), overwrite=True) as work:
                work.write_text(text)
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> Statistics:
        """Read what `to_json` returned or wrote: JSON, or the path of a file."""
        text = os.fspath(source)
        try:
            found = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text())
            channels, level, windows = (found.pop(name) for name in ("channels", "level", "windows"))
            arrays: dict[str, Any] = {
                name: np.array(v, np.int64 if name in WHOLE else float) for name, v in found.items()
            }
            return cls(channels=tuple(channels), level=level, windows=windows, **arrays)
        except FileNotFoundError as error:
            raise MissingError(f"{text}: there is no such file", path=text, hint="Check its name") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            path = None if text.lstrip().startswith("{") else text
            raise OptionError(f"{path or text[:80]!r} holds no statistics of ndzarr ({error})", path=path) from error

    def __repr__(self) -> str:
        level = "at the scale of each row" if self.level is None else f"at level {self.level}"
        lines = [f"<Statistics of {self.windows} windows {level}: {len(self.channels)} channels>"]
        names = ("channel", "pixels", "missing", "mean", "+-", "std", "native", "min", "median", "max")
        cells: list[tuple[str, ...]] = [names]
        for k, name in enumerate(self.channels):
            total = int(self.count[k] + self.missing[k])
            share = f"{self.missing[k] / total:.1%}" if total else "-"
            middle = float(np.interp(0.5, self.probabilities, self.quantiles[k])) if len(self.probabilities) else np.nan
            spread = (self.mean, self.mean_error, self.std, self.std_native, self.min)
            numbers = *(v[k] for v in spread), middle, self.max[k]
            cells.append((name, str(int(self.count[k])), share, *(f"{v:.5g}" for v in numbers)))
        return "\n  ".join(lines + aligned(cells, (0,)))


def _plain(value: Any) -> Any:
    """Return lists, with None for NaN, which JSON does not have."""
    if not isinstance(value, np.ndarray):
        return value
    boxed = value.astype(object)
    boxed[np.isnan(value)] = None
    return boxed.tolist()


def statistics(
    source: SampleSource,
    targets: TargetsLike | Rows | None,
    level: int | None,
    channels: str | Sequence[str] | None,
    sample: int | None,
    quantiles: Sequence[float] | None,
    bins: int,
    range: tuple[float, float] | None,
    workers: int | None,
    seed: int | np.random.Generator | None,
    progress: bool,
) -> Statistics:
    """Return the statistics of each channel; see `Targets.statistics`."""
    probabilities = as_list(QUANTILES if quantiles is None else quantiles)
    asked = np.array([check_fraction("quantiles", q) for q in probabilities])
    bins = check_target_count("bins", bins)
    level = None if level is None else check_target_count("level", level, least=0, most=LARGEST_LEVEL)
    sample = None if sample is None else check_target_count("sample", sample)
    workers = available_cpus() if workers is None else check_target_count("workers", workers)
    range = None if range is None else _ascending(range)
    if targets is None and level is None:
        level = 0
    extra: dict[str, Any] = {} if channels is None else {"channels": channels}
    if targets is None:
        windows: NumberedTargets = TileTargets(source, 1 << (level or 0), TILE if sample is None else SAMPLE_TILE)
    else:
        windows = Rows(targets) if level is None else SnappedTargets(source, targets, 1 << level)
    total = len(windows)
    if not total:
        raise TargetError("targets: there are no windows to read", key="targets")
    rng = np.random.default_rng(seed)
    chosen = np.arange(total)
    if sample is not None and sample < total:
        chosen = np.sort(rng.choice(total, sample, replace=False))
    batches = _batches(source, (_asked(target, extra) for target in _chosen(windows, chosen)))
    found = _measured(batches, len(chosen), workers, progress)
    if not found:
        raise TargetError("channels: no window has any channel", key="channels")
    loss = _variance_lost(source, windows, chosen, level or 0, extra, rng)
    # A census has no sampling error, and a large part of a finite whole has less of it.
    factor = np.sqrt(1 - len(chosen) / total) if targets is None else 1.0
    return _result(found, loss, factor, asked, bins, range, level, len(chosen))


def _ascending(limits: Any) -> tuple[float, float]:
    """Return the limits of a histogram."""
    found = as_list(limits)
    numbers = all(isinstance(v, Real) and np.isfinite(float(v)) for v in found)
    if len(found) != 2 or not numbers or not found[0] < found[1]:
        raise TargetError(f"range={limits!r}: expected (least, greatest)", key="range")
    return float(found[0]), float(found[1])


def _asked(target: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in target.items() if key not in HANDED_OVER}
    return kept | {"nodata": "ma"} | extra


def _chosen(windows: NumberedTargets, chosen: Array) -> Iterator[dict[str, Any]]:
    if not isinstance(windows, Rows):
        yield from (windows[int(k)] for k in chosen)
        return
    for start in range(0, len(chosen), AT_ONCE):
        yield from windows.take(chosen[start : start + AT_ONCE])


def _batches(source: SampleSource, targets: Iterable[dict[str, Any]]) -> Iterator[list[SampleRequest]]:
    """Group what is read together."""
    rest = iter(targets)
    while part := list(islice(rest, BATCH)):
        batch: list[SampleRequest] = []
        pixels = 0
        for request in [compose(resolve(parse(t), source), source) for t in part]:
            size = prod(request.shape) // len(request.channels or ())
            if batch and pixels + size > BATCH_PIXELS:
                yield batch
                batch, pixels = [], 0
            batch.append(request)
            pixels += size
        yield batch


def _measure(requests: Sequence[SampleRequest]) -> Moments:
    """Read some windows together and measure every channel."""
    pixels: dict[tuple[str, Any], list[Array]] = {}
    missing: dict[str, int] = {}
    for request, (image, mask) in zip(requests, read(requests), strict=True):
        if image.dtype.kind == "c":
            raise TargetError("complex pixels have no order, and so no statistics", hint="Take their magnitude first")
        axis = request.dims.index("c")
        for k, name in enumerate(request.channels or ()):
            channel = image[k] if axis == 0 else image[:, k]
            real = None if mask is None else mask[1].take(k, axis) if "c" in mask[0] else mask[1]
            values = pixels_that_count(channel, real)
            pixels.setdefault((name, values.dtype), []).append(values)
            missing[name] = missing.get(name, 0) + channel.size - values.size
    found = {name: StreamingMoments(missing=number) for name, number in missing.items()}
    for (name, _), windows in pixels.items():
        found[name].merge(moments_of(windows))
    return found


def _measured(batches: Iterable[list[SampleRequest]], total: int, workers: int, progress: bool) -> Moments:
    """Measure batches in threads and merge the results in order, so that the number of threads changes nothing."""
    found: Moments = {}
    with progress_bar(total, "statistics", "window", progress) as advance:
        for size, part in ordered_map(lambda b: (len(b), _measure(b)), batches, workers, name="statistics"):
            for name, moments in part.items():
                found.setdefault(name, StreamingMoments()).merge(moments)
            advance(size)
    return found


def _variance_lost(
    source: SampleSource,
    windows: NumberedTargets,
    chosen: Array,
    level: int,
    extra: dict[str, Any],
    rng: np.random.Generator,
) -> dict[str, float]:
    """Return by how much the variance of native pixels exceeds that of pixels of the level, per channel."""
    if not level:
        return {}
    factor = 1 << level
    some = np.sort(rng.choice(chosen, min(PROBES, len(chosen)), replace=False))
    coarse: Moments = {}
    fine: Moments = {}
    for k in some:
        target = _asked(windows[int(k)], extra)
        middle = [(s.start + s.stop) // 2 // factor * factor for s in target["space_slice"]]
        half = max(factor, PROBE_EDGE // 2 // factor * factor)
        y, x = (
            slice(max(s.start, m - half), min(s.stop, m + half))
            for s, m in zip(target["space_slice"], middle, strict=True)
        )
        for scale, into in ((1 / factor, coarse), (1.0, fine)):
            probe = parse(target | {"space_slice": (y, x), "scale": scale})
            for name, moments in _measure([compose(resolve(probe, source), source)]).items():
                into.setdefault(name, StreamingMoments()).merge(moments)
    return {name: max(0.0, fine[name].moments[1] - coarse[name].moments[1]) for name in fine if fine[name].count}


def _result(
    found: Moments,
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
            quantiles[:, k] = r.sketch.quantiles(probabilities, r.least, r.greatest)
        values = np.clip(r.sketch.middle(), r.least, r.greatest) if r.count else np.empty(0)
        between = limits or ((r.least, r.greatest) if r.count else (0.0, 1.0))
        weights = r.sketch.counts if r.count else None
        counts, edges[k] = np.histogram(values, bins, between, weights=weights)
        histogram[k] = np.rint(counts).astype(np.int64)
    return Statistics(
        channels=tuple(found),
        count=np.array([r.count for r in runs]),
        missing=np.array([r.missing for r in runs]),
        mean=moments[:, 0],
        std=np.sqrt(moments[:, 1]),
        min=np.array([r.least if r.count else np.nan for r in runs]),
        max=np.array([r.greatest if r.count else np.nan for r in runs]),
        mean_error=np.array([r.error * factor if factor else 0.0 for r in runs]),
        std_native=np.sqrt(moments[:, 1] + np.array([loss.get(name, 0.0) for name in found])),
        probabilities=probabilities,
        quantiles=quantiles[0],
        quantile_error=quantiles[1],
        edges=edges,
        histogram=histogram,
        level=level,
        windows=windows,
    )


class TileTargets:
    """Tiles of all images as targets, at whole pixels of a level."""

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


class SnappedTargets:
    """Rows of a table as targets, widened to whole pixels of a level."""

    def __init__(self, source: SampleSource, targets: TargetsLike | Rows, factor: int) -> None:
        table = as_table(targets)
        self._factor, self._found = factor, window_columns(table, source)
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
