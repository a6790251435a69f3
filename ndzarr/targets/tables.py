"""How do windows become rows of a table, and rows windows?

A row states the centre and the size of a window, from which `load_sample` computes the same integers again, and what
the window holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.targets.footprint import Footprints, footprints
from ndzarr.targets.spaces import Array, Spaces
from ndzarr.targets.windows import Windows

if TYPE_CHECKING:
    import pandas

    from ndzarr.targets.indexed import Indexed

KINDS = ("negative", "positive", "ignored")
"""What the column `kind` says, in the order of its codes."""


def as_columns(windows: Windows, spaces: Spaces) -> dict[str, Array]:
    """The keys of targets: what `load_sample` needs to read exactly these windows."""
    height, width = windows.y1 - windows.y0, windows.x1 - windows.x0
    columns = {
        spaces.column: spaces.ids[windows.space],
        "cx": windows.x0 + width / 2,
        "cy": windows.y0 + height / 2,
        "width": width,
        "height": height,
    }
    if spaces.video:
        columns |= {"time_start": windows.t0, "time_stop": windows.t1, "time_step": windows.step}
    return columns


def held(window: Array, ids: Array, n: int) -> tuple[Array, Array]:
    """
    Ids that each window holds, as a column of tuples.

    Only windows that hold any cost a Python object: the others share the empty tuple.

    Parameters
    ----------
    window, ids
        Pairs, in any order; shape (pair,).
    n
        Number of windows.

    Returns
    -------
    Tuples in the order of the pairs, and their lengths; shape (n,).

    Examples
    --------
    >>> held(np.array([2, 0, 2]), np.array([7, 8, 9]), 3)[0].tolist()
    [(8,), (), (7, 9)]
    """
    counts = np.bincount(window, minlength=n)
    order = np.argsort(window, kind="stable")
    flat = ids[order].tolist()
    some = np.flatnonzero(counts)
    stops = np.cumsum(counts[some]).tolist()
    column = np.empty(n, object)
    column.fill(())
    bounds = zip([0, *stops], stops, strict=False)
    column[some] = np.fromiter((tuple(flat[a:b]) for a, b in bounds), object, len(some))
    return column, counts


def names(labels: tuple[str, ...], codes: Array) -> pandas.Series:
    """A column of text of which each word is stored once."""
    import pandas

    return pandas.Series(np.array(labels, object)[codes], dtype=object)


def as_table(
    targets: Indexed, spaces: Spaces, windows: Windows, kind: str, further: dict[str, Array] | None = None
) -> pandas.DataFrame:
    """Windows of one kind as targets, with what they hold."""
    import pandas

    index = targets.index(spaces)
    pairs = index.touching(windows)
    ids, counts = held(pairs.window, targets.annotations.annot_id[index.boxes.row[pairs.box]], len(windows))
    columns = as_columns(windows, spaces) | (further or {}) | {"annot_ids": ids, "n_annots": counts}
    return pandas.DataFrame(columns | {"kind": names((kind,), np.zeros(len(windows), np.intp))})


def windows_in(targets: Indexed, table: pandas.DataFrame, spaces: Spaces) -> tuple[Windows, Array]:
    """
    The windows of a table of targets, and the row of each: several windows of one row lie in different frames.

    Raises
    ------
    TargetError
        A column is missing, or a row has no value in it.
    """
    if "gids" in table.columns and not _sliced(table):
        return _frame_by_frame(footprints(targets.sampler, table), spaces)
    needed = (spaces.column, "cx", "cy", "width", "height")
    missing = [name for name in needed if name not in table.columns or table[name].isna().any()]
    if missing:
        raise TargetError(
            f"the table lacks {', '.join(missing)} (in whole or in some rows); each row needs {', '.join(needed)}"
        )
    space = spaces.positions(table[spaces.column].tolist())
    height, width = (np.maximum(np.ceil(_floats(table, c) - 1e-6), 1).astype(np.int64) for c in ("height", "width"))
    y0 = np.floor(_floats(table, "cy") - height / 2 + 1e-9).astype(np.int64)
    x0 = np.floor(_floats(table, "cx") - width / 2 + 1e-9).astype(np.int64)
    t0, t1, step = (
        _times(table, name, default)
        for name, default in (
            ("time_start", np.zeros(len(space), np.int64)),
            ("time_stop", spaces.lengths[space]),
            ("time_step", np.ones(len(space), np.int64)),
        )
    )
    return Windows(space, t0, t1, step, y0, y0 + height, x0, x0 + width), np.arange(len(space))


def _sliced(table: pandas.DataFrame) -> bool:
    """True where every row also says its frames as a slice of its video's, which then are the same."""
    names = ("vidid", "time_start", "time_stop", "time_step")
    return all(name in table.columns and bool(table[name].notna().all()) for name in names)


def _frame_by_frame(found: Footprints, spaces: Spaces) -> tuple[Windows, Array]:
    """A window for every frame of every row, since listed frames may be any; each frame of a row counts once."""
    real = found.frame >= 0
    row, frame = np.unique(np.stack([found.row[real], found.frame[real]]), axis=1)
    where = {gid: (k, t) for k, gids in enumerate(spaces.frames) for t, gid in enumerate(gids)}
    strange = [gid for gid in found.gids if gid not in where]
    if strange or not found.video.all():
        name = f"gids with {strange[0]!r}" if strange else "gid"
        raise TargetError(f"a table of videos has a row with {name}, which is in none of their spaces")
    place = np.array([where[gid] for gid in found.gids], np.int64).reshape(-1, 2)
    space, t = place[frame].T
    order = np.lexsort((t, row))
    row, space, t = row[order], space[order], t[order]
    (y0, y1), (x0, x1) = found.y[row].T, found.x[row].T
    return Windows(space, t, t + 1, np.ones_like(t), y0, y1, x0, x1), row


def _floats(table: Any, name: str) -> Array:
    out: Array = table[name].to_numpy(float)
    return out


def _times(table: Any, name: str, default: Array) -> Array:
    if name not in table.columns:
        return default
    given = table[name].to_numpy(float, na_value=np.nan)
    return np.where(np.isnan(given), default, given).astype(np.int64)
