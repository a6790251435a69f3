"""What can be done with a table of windows: balance it, choose frames and valid regions, part it, measure its pixels?

Each method is a function of the module that its docstring names, where every argument is explained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ndzarr.targets.indexed import Indexed

if TYPE_CHECKING:
    import numpy as np
    import pandas

    from ndzarr.targets.distribution import Distribution
    from ndzarr.targets.hierarchy import Shares
    from ndzarr.targets.rows import Rows, Targets
    from ndzarr.targets.statistics import Statistics
    from ndzarr.targets.valid import Judge


class Arranging(Indexed):
    """Mixed into `Targets`."""

    def balanced(
        self,
        table: Targets | Rows,
        by: str | Sequence[str] = "category",
        n: int | None = None,
        replace: bool = True,
        shares: Shares | None = None,
        seed: int = 0,
    ) -> pandas.DataFrame:
        """
        Balance windows over attributes: a column `probability`, or n windows drawn; `balance.balanced`.

        Examples
        --------
        >>> import ndzarr, pandas
        >>> targets = ndzarr.CocoSampler({"images": []}).targets
        >>> table = pandas.DataFrame({"gid": [1, 1, 1, 2], "kind": ["a", "a", "a", "b"]})
        >>> sorted(targets.balanced(table, by="kind", n=6).kind)
        ['a', 'a', 'a', 'b', 'b', 'b']
        """
        from ndzarr.targets.balance import balanced

        return balanced(self.sampler, table, by, n, replace, shares, seed)

    def distribution(
        self, table: Targets | Rows, by: str | Sequence[str] = "category", shares: Shares | None = None
    ) -> Distribution:
        """How windows are distributed over attributes, to print and plot; `distribution.distribution`."""
        from ndzarr.targets.distribution import distribution

        return distribution(self.sampler, table, by, shares)

    def times(
        self,
        table: Targets | Rows | None = None,
        n: int | None = None,
        method: str | None = None,
        *,
        step: int | None = None,
        overlap: int = 0,
        kernel: Any = None,
        span: Any = None,
        main: Any = None,
        include: Sequence[Any] | None = None,
        exclude: Sequence[Any] = (),
        always: Sequence[Any] = (),
        min_quality: float | None = None,
        quality_channels: Any = None,
        good: Judge | None = None,
        max_pixels: int | None = 1 << 22,
        seed: int = 0,
        progress: bool = True,
    ) -> pandas.DataFrame:
        """Choose the frames of windows of videos: contiguous, strided, by kernel, spread, around; `times.times`."""
        from ndzarr.targets.times import times

        return times(
            self.sampler,
            table,
            n,
            method,
            step=step,
            overlap=overlap,
            kernel=kernel,
            span=span,
            main=main,
            include=include,
            exclude=exclude,
            always=always,
            min_quality=min_quality,
            quality_channels=quality_channels,
            good=good,
            max_pixels=max_pixels,
            seed=seed,
            progress=progress,
        )

    def valid_fraction(
        self,
        table: Targets | Rows,
        max_pixels: int | None = 1 << 22,
        channels: Any = None,
        progress: bool = True,
    ) -> np.ndarray[Any, Any]:
        """Fraction of each window that is real data, from coarse levels; `valid.valid_fraction`."""
        from ndzarr.targets.valid import valid_fraction

        return valid_fraction(self.sampler, table, max_pixels, channels, progress)

    def valid(
        self,
        table: Targets | Rows,
        min_fraction: float = 0.5,
        max_pixels: int | None = 1 << 22,
        channels: Any = None,
        progress: bool = True,
    ) -> pandas.DataFrame:
        """Keep the windows that hold enough real data; `valid.valid`."""
        from ndzarr.targets.valid import valid

        return valid(self.sampler, table, min_fraction, max_pixels, channels, progress)

    def observed(
        self,
        n: int,
        window_dims: tuple[int, int],
        min_fraction: float = 0.9,
        channels: Any = None,
        seed: int = 0,
        progress: bool = True,
    ) -> pandas.DataFrame:
        """Draw windows that hold enough real data, from all images; `observed.observed`."""
        from ndzarr.targets.observed import observed

        return observed(self.sampler, n, window_dims, min_fraction, channels, seed, progress)

    def split(
        self,
        table: Targets | Rows,
        fractions: Mapping[str, float] | None = None,
        by: str = "video",
        stratify: str | None = None,
        block: int | None = None,
        margin: int = 0,
        seed: int = 0,
    ) -> pandas.DataFrame:
        """Part windows into training, validation and test, no two of which share a pixel; `splits.split`."""
        from ndzarr.targets.splits import split

        return split(self.sampler, table, fractions, by, stratify, block, margin, seed)

    def statistics(
        self,
        table: Targets | Rows | None = None,
        level: int | None = None,
        channels: Any = None,
        sample: int | None = None,
        quantiles: Sequence[float] | None = None,
        bins: int = 256,
        range: tuple[float, float] | None = None,
        workers: int | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Statistics:
        """Mean, std, extremes, quantiles and histogram of each channel; `measure.statistics`."""
        from ndzarr.targets.measure import QUANTILES, statistics

        asked = QUANTILES if quantiles is None else quantiles
        return statistics(self.sampler, table, level, channels, sample, asked, bins, range, workers, seed, progress)
