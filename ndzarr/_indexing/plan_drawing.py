"""A read plan as a drawing: the chunks of each array, and which of them are read."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any, Protocol

WIDTH = 320
"""Pixels of a drawing, at most."""
MOST = 4
"""Arrays that are drawn."""
MOST_CELLS = 64
"""Rows or columns of chunks that are drawn; of more, several are drawn as one."""
MOST_WINDOWS = 500
"""Windows that are outlined."""


class Plan(Protocol):
    """What a drawing needs to know of a `ReadPlan`."""

    @property
    def arrays(self) -> Sequence[Any]:
        """What is read."""

    @property
    def windows(self) -> Sequence[tuple[int, tuple[Any, ...]]]:
        """(index of the array, selection) of each window."""

    @property
    def reads(self) -> Sequence[tuple[int, tuple[int, ...], Sequence[Any]]]:
        """(index of the array, position of the chunk, parts of windows) of each chunk."""


def plan_html(plan: Plan, found: str) -> str:
    """Return what `explain` counts, and a drawing of each of the first arrays, as an element of a page."""
    drawings = "".join(_array(plan, a) for a in range(min(len(plan.arrays), MOST)))
    more = f"<p>and {len(plan.arrays) - MOST} more arrays</p>" if len(plan.arrays) > MOST else ""
    return f"<div style='display:flex;gap:1em;flex-wrap:wrap'><pre>{html.escape(found)}</pre>{drawings}{more}</div>"


def plan_svg(plan: Plan, number: int = 0) -> str:
    """
    Return the rows and columns of an array as an SVG.

    Grey lines are borders of chunks. The more windows want a chunk, the darker it is. The first windows are outlined.
    """
    array = plan.arrays[number]
    height, width = array.shape[-2:]
    scale = WIDTH / max(height, width, 1)
    rows, columns = array.chunks[-2:]
    together = max(1, -(-max(height // rows, width // columns) // MOST_CELLS))
    rows, columns = rows * together, columns * together
    wanted: Counter[tuple[int, int]] = Counter()
    for a, position, parts in plan.reads:
        if a == number:
            wanted[position[-2] // together, position[-1] // together] += len(parts)
    most = max(wanted.values(), default=1)
    chunks = "".join(
        f'<rect x="{x * columns * scale:.1f}" y="{y * rows * scale:.1f}" '
        f'width="{min(columns, width - x * columns) * scale:.1f}" '
        f'height="{min(rows, height - y * rows) * scale:.1f}" fill-opacity="{0.25 + 0.6 * n / most:.2f}"/>'
        for (y, x), n in wanted.items()
    )
    across = "".join(f"M0 {y * scale:.1f}H{width * scale:.1f}" for y in range(0, height + 1, rows))
    down = "".join(f"M{x * scale:.1f} 0V{height * scale:.1f}" for x in range(0, width + 1, columns))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * scale:.0f}" height="{height * scale:.0f}">'
        f'<rect width="100%" height="100%" fill="#f1f5f9"/><g fill="#0d9488">{chunks}</g>'
        f'<path d="{across}{down}" stroke="#94a3b8" stroke-width=".5" fill="none"/>'
        f'<g fill="none" stroke="#b45309">{_windows(plan, number, scale)}</g></svg>'
    )


def _windows(plan: Plan, number: int, scale: float) -> str:
    """Return the outlines of the first windows of an array whose rows and columns are slices."""
    out = []
    for y, x in islice((selection[-2:] for a, selection in plan.windows if a == number), MOST_WINDOWS):
        if isinstance(y, slice) and isinstance(x, slice):
            size = f'width="{(x.stop - x.start) * scale:.1f}" height="{(y.stop - y.start) * scale:.1f}"'
            out.append(f'<rect x="{x.start * scale:.1f}" y="{y.start * scale:.1f}" {size}/>')
    return "".join(out)


def _array(plan: Plan, number: int) -> str:
    array = plan.arrays[number]
    if len(array.shape) < 2:
        return ""
    name = html.escape(array.name.rsplit("/", 3)[-3] if array.name.count("/") > 3 else array.name)
    chunks = " x ".join(map(str, array.chunks))
    return f"<figure style='margin:0'>{plan_svg(plan, number)}<figcaption>{name}, chunks {chunks}</figcaption></figure>"
