"""What is known of the pixels of each channel, and how are images normalised with it?"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ndzarr.errors import OptionError, did_you_mean

if TYPE_CHECKING:
    import pandas

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
