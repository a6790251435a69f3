"""Which annotations touch which of many windows of images?

1. Windows are sorted by image, the boxes of an image by where they begin along x.
2. Two binary searches per window, done for all windows at once, leave the few boxes that can touch it.
3. Those pairs are compared exactly as `sampler.annotations.find` does, which this agrees with to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ndzarr.bulk.uniform import Windows
from ndzarr.sampler.annotations import AnnotationTable, Lookup

Array = np.ndarray[Any, Any]


def touching(table: AnnotationTable, windows: Windows, lookup: Lookup) -> tuple[dict[str, Array], Array]:
    """
    The annotations of windows in image space.

    Returns
    -------
    columns, owner
        As a sample has them, for all windows; and the window of each row, ascending.
    """
    rows, owner = _pairs(table, windows)
    boxes = table.columns[:, rows]
    y, x = windows.y.T[:, owner], windows.x.T[:, owner]
    if lookup.visible_thresh > 0:
        seen = _visible(boxes, y, x) >= lookup.visible_thresh
        rows, owner, boxes, y, x = rows[seen], owner[seen], boxes[:, seen], y[:, seen], x[:, seen]
    pitch = windows.pitch[owner].T[::-1]  # (x, y)
    boxes[:2] -= np.stack([x[0], y[0]])
    boxes[:2] /= pitch
    boxes[2:] /= pitch
    if lookup.clip:
        limit = windows.n[owner].T[::-1]
        low = np.clip(boxes[:2], 0, limit)
        boxes = np.concatenate([low, np.clip(boxes[:2] + boxes[2:], 0, limit) - low])
    columns = {
        "annot_id": table.annot_id[rows],
        "category_id": table.category_id[rows],
        "track_id": table.track_id[rows],
        "frame": np.zeros(len(rows), np.intp),
        "bbox": np.ascontiguousarray(boxes.T),
    }
    return columns, owner


def _pairs(table: AnnotationTable, windows: Windows) -> tuple[Array, Array]:
    """(row, window) of all that share area, by window and then by row."""
    found_rows, found_windows = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    for gid, members in windows.by_id():
        own = table.rows.get(gid)
        if own is None:
            continue
        boxes = table.columns[:, own]
        order = np.argsort(boxes[0], kind="stable")
        x, y, w, h = boxes[:, order]
        right, bottom = x + np.maximum(w, 1e-9), y + np.maximum(h, 1e-9)
        (x0, x1), (y0, y1) = windows.x[members].T, windows.y[members].T
        widest = np.nanmax(right - x, initial=0) + 1e-6
        first, last = np.searchsorted(x, x0 - widest), np.searchsorted(x, x1)
        count = np.maximum(last - first, 0)
        window = np.repeat(np.arange(len(members)), count)
        box = np.arange(len(window)) - np.repeat(np.cumsum(count) - count - first, count)
        hit = (x[box] < x1[window]) & (y[box] < y1[window]) & (right[box] > x0[window]) & (bottom[box] > y0[window])
        found_rows.append(order[box[hit]] + own.start)
        found_windows.append(members[window[hit]])
    rows, owner = np.concatenate(found_rows), np.concatenate(found_windows)
    order = np.lexsort((rows, owner))
    return rows[order], owner[order]


def _visible(boxes: Array, window_y: Array, window_x: Array) -> Array:
    """Fraction of the area of each box that lies in its window; boxes without area count as visible."""
    x, y, w, h = boxes
    common = np.maximum(np.minimum(x + w, window_x[1]) - np.maximum(x, window_x[0]), 0) * np.maximum(
        np.minimum(y + h, window_y[1]) - np.maximum(y, window_y[0]), 0
    )
    return np.where(w * h > 0, common / np.where(w * h > 0, w * h, 1), 1.0)
