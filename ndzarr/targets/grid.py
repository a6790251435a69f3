"""Which windows slide over images and videos, and what does each of them hold?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.targets.ignore import covered
from ndzarr.targets.lattice import Lattice, at_borders, axis
from ndzarr.targets.options import portion
from ndzarr.targets.spaces import Spaces, refuse_time
from ndzarr.targets.tables import KINDS, as_columns, held, names

if TYPE_CHECKING:
    import pandas

    from ndzarr.targets.indexed import Indexed


def lattice(
    spaces: Spaces, window_dims: Any, overlap: Any, time_dims: Any, time_overlap: Any, keep_borders: bool | str
) -> Lattice:
    """
    The windows of a grid.

    Raises
    ------
    TargetError
        An option has another form.
    """
    borders = at_borders(keep_borders)
    height, width = _pair("window_dims", window_dims)
    over_y, over_x = _pair("overlap", overlap)
    refuse_time(spaces, time_dims)
    return Lattice(
        (
            axis("time_dims", spaces.lengths, time_dims, time_overlap, borders),
            axis("window_dims[0]", spaces.height, height, over_y, borders),
            axis("window_dims[1]", spaces.width, width, over_x, borders),
        )
    )


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    """(along y, along x)."""
    if value is None or isinstance(value, str) or not isinstance(value, Iterable):
        if name == "window_dims" and value != "full":
            raise TargetError(f"window_dims={value!r}: expected (height, width), each a number or 'full', or 'full'")
        return value, value
    pair = tuple(value)
    if len(pair) != 2:
        raise TargetError(f"{name}={value!r}: expected one value, or one along y and one along x")
    return pair


def annotated(
    targets: Indexed,
    spaces: Spaces,
    over: Lattice,
    classes_of_interest: Iterable[Any] | None,
    negative_classes: Iterable[Any],
    ignore_coverage: float | None,
) -> pandas.DataFrame:
    """The windows of a grid as targets, with the columns that say what they hold."""
    import pandas

    if ignore_coverage is not None:
        portion("ignore_coverage", ignore_coverage)
    annotations, classes = targets.annotations, targets.classes
    boxes = targets.index(spaces).boxes
    windows = over.windows()
    window, box = over.touching(boxes)
    category = annotations.category_id[boxes.row]
    counting = classes.counting(category, classes_of_interest, negative_classes)
    positive = np.bincount(window[counting[box]], minlength=len(windows)) > 0
    kind = positive.astype(np.int8)
    ids, counts = held(window, annotations.annot_id[boxes.row[box]], len(windows))
    columns: dict[str, Any] = as_columns(windows, spaces) | {"annot_ids": ids, "n_annots": counts}
    regions = classes.ignored(category, negative_classes)
    if ignore_coverage is not None and regions.any():
        meant = regions[box]
        columns["coverage"] = covered(targets.sampler, spaces, windows, boxes, window[meant], box[meant])
        kind[columns["coverage"] > ignore_coverage] = KINDS.index("ignored")
    return pandas.DataFrame(columns | {"kind": names(KINDS, kind)})
