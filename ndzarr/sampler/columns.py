"""How do kwcoco's annotation dictionaries become columns?

A million of them in a second or two: what is as it should be is converted at once; only what is not is looked at one by
one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.sampler.forms import whole

NO_ID = -1
"""Stands for a category or track that an annotation does not have."""


def boxes_of(annotations: Sequence[dict[str, Any]]) -> np.ndarray[Any, Any]:
    """Boxes, shape (n, 4), NaN where there is none; errors are those of `box_of`."""
    missing = (float("nan"),) * 4
    try:
        boxes = [a.get("bbox") or missing for a in annotations]
        flat = np.fromiter(chain.from_iterable(boxes), float, 4 * len(boxes)).reshape(-1, 4)
        plain = all(len(box) == 4 for box in boxes) and not (flat[:, 2:] < 0).any() and not np.isinf(flat).any()
    except (TypeError, ValueError):
        plain = False
    if plain:
        return flat
    found = [box_of(a) for a in annotations]  # takes arrays too, and names what is no box
    return np.array([missing if box is None else box for box in found], float).reshape(-1, 4)


def box_of(annotation: Mapping[str, Any]) -> np.ndarray[Any, Any] | None:
    """
    The box of an annotation: x, y, width, height in image space; None if it has none.

    Raises
    ------
    TargetError
        It has one of another form.
    """
    given = annotation.get("bbox")
    try:
        box = np.asarray(() if given is None else given, float)
    except (TypeError, ValueError):
        box = np.empty(0, float) if given is None else np.full(1, np.inf)
    if box.size == 0 or (box.shape == (4,) and np.isnan(box).any()):
        return None
    if box.shape != (4,) or np.isinf(box).any() or box[2:].min() < 0:
        raise TargetError(
            f"annotation {annotation.get('id')!r}: bbox={given!r} is not x, y, width, height, with a size of at least 0"
        )
    return box


def ids_of(values: list[Any]) -> np.ndarray[Any, Any]:
    """Integers with `NO_ID` for none; strings with '' for none as soon as one of them is a string."""
    kinds = set(map(type, values))
    if str in kinds:
        return np.array(["" if v is None else str(v) for v in values])
    known = values if kinds <= {int} else [NO_ID if v is None or v != v else v for v in values]
    try:
        ids = np.array(known, np.int64)
    except OverflowError:
        ids = np.array(known, np.float64)
    if not kinds <= {int, type(None)} and (wrong := [v for v in known if whole(v) is None]):
        raise TargetError(f"track_id={wrong[0]!r} is neither a whole number nor text")
    if ids.dtype != np.int64:
        raise TargetError(f"track_id or category_id={max(known, key=abs)!r} has more than 64 bits")
    return ids
