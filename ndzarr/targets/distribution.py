"""How are the windows of a table distributed over the values of attributes?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.targets.balance import tree
from ndzarr.targets.footprint import as_table, column
from ndzarr.targets.hierarchy import Shares
from ndzarr.targets.rows import Rows, Targets

if TYPE_CHECKING:
    import pandas

    from ndzarr.sampler.coco import CocoSampler

SHOWN = 20
"""Groups that a repr shows."""
BAR = 24
"""Characters of the longest bar of a repr."""


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """Windows per group of values."""

    by: tuple[str, ...]
    """Attributes, the first divides first."""
    groups: tuple[tuple[Any, ...], ...]
    """A value of each attribute; None for windows that have none."""
    windows: np.ndarray[Any, Any]
    """Windows in each group, a window with several values in several; shape (group,)."""
    share: np.ndarray[Any, Any]
    """Of the windows, or of their probabilities where the table has some; sums to 1; shape (group,)."""
    wanted: np.ndarray[Any, Any]
    """The share that a balanced table would have; shape (group,)."""
    total: int
    """Windows in the table."""

    def to_frame(self) -> pandas.DataFrame:
        """A table with a column per attribute, and windows, share and wanted."""
        import pandas

        columns: dict[str, Any] = {name: [g[k] for g in self.groups] for k, name in enumerate(self.by)}
        return pandas.DataFrame(columns | {"windows": self.windows, "share": self.share, "wanted": self.wanted})

    def plot(self, ax: Any = None) -> Any:
        """
        Bars of the shares, with marks where those wanted are.

        Parameters
        ----------
        ax
            Axes of matplotlib; made if left out.

        Returns
        -------
        The axes.
        """
        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.subplots(figsize=(6, 1 + 0.25 * max(2, len(self.groups))), layout="constrained")[1]
        names = [" / ".join(map(str, g)) for g in self.groups]
        place = np.arange(len(names))
        ax.barh(place, self.share, label="share")
        ax.plot(self.wanted, place, "k|", markersize=12, label="wanted")
        ax.set_yticks(place, names)
        ax.invert_yaxis()
        ax.set_xlabel(f"share of {self.total} windows")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        head = f"<Distribution of {self.total} windows by {', '.join(self.by)}: {len(self.groups)} groups"
        if not self.groups:
            return f"{head}>"
        worst = float(np.abs(self.share - self.wanted).max())
        shown = min(len(self.groups), SHOWN)
        longest = float(self.share.max()) or 1.0
        cells = [(*self.by, "windows", "share", "wanted", "")]
        for k in range(shown):
            bar = "#" * round(BAR * self.share[k] / longest)
            numbers = str(self.windows[k]), f"{self.share[k]:.1%}", f"{self.wanted[k]:.1%}"
            cells.append((*map(str, self.groups[k]), *numbers, bar))
        widths = [max(map(len, c)) for c in zip(*cells, strict=True)]
        keys = len(self.by)
        lines = [
            "  ".join(
                text.ljust(w) if k < keys or k == keys + 3 else text.rjust(w)
                for k, (text, w) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        more = [f"... {len(self.groups) - shown} more"] if len(self.groups) > shown else []
        return "\n  ".join([f"{head}, at most {worst:.1%} off>", *lines, *more])


def distribution(
    sampler: CocoSampler, table: Targets | Rows, by: str | Sequence[str] = "category", shares: Shares | None = None
) -> Distribution:
    """
    How windows are distributed.

    Parameters
    ----------
    table
        Targets; a column `probability` is taken into account.
    by, shares
        As `balanced` takes them.

    Raises
    ------
    TargetError
        An attribute is unknown.
    """
    table = as_table(table)
    levels = tree(sampler, table, by, shares)
    weight = column(table, "probability", 0.0) if "probability" in table else np.ones(len(table))
    wanted = np.ones(1)
    for level in levels:
        wanted = level.wanted(wanted)
    leaves = levels[-1]
    amount = leaves.amounts(weight)
    return Distribution(
        by=tuple(level.name for level in levels),
        groups=_values(levels),
        windows=np.bincount(leaves.group, minlength=len(leaves)),
        share=amount / (amount.sum() or 1.0),
        wanted=wanted,
        total=len(table),
    )


def _values(levels: Sequence[Any]) -> tuple[tuple[Any, ...], ...]:
    found: list[tuple[Any, ...]] = [()]
    for level in levels:
        pairs = zip(level.parent.tolist(), level.value.tolist(), strict=True)
        found = [(*found[p], level.values[v]) for p, v in pairs]
    return tuple(found)
