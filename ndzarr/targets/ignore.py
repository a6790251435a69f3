"""How much of a window do regions to ignore cover?

Regions are the segmentations of annotations, or their boxes where they have none.  Those of one frame are united first,
so that pixels under two of them count once.  A window of several frames has the mean of them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.errors import TargetError
from ndzarr.geometry.affine import IDENTITY
from ndzarr.targets.spaces import Array, Boxes, Spaces
from ndzarr.targets.windows import Windows

if TYPE_CHECKING:
    from ndzarr.sampler.coco import CocoSampler


def covered(sampler: CocoSampler, spaces: Spaces, windows: Windows, boxes: Boxes, window: Array, box: Array) -> Array:
    """
    The fraction of each window that is covered.

    Parameters
    ----------
    window, box
        The pairs of a window and a region that touches it; shape (pair,).

    Returns
    -------
    Fractions from 0 to 1; shape (window,).
    """
    import shapely

    area = np.zeros(len(windows))
    if not len(box):
        return area
    used, position = np.unique(box, return_inverse=True)
    regions = _regions(sampler, spaces, boxes.take(used))
    frames, of_frame = np.unique(np.stack([boxes.space[used], boxes.frame[used]]), axis=1, return_inverse=True)
    of_frame = of_frame.reshape(-1)
    united = np.empty(frames.shape[1], object)
    for k, group in enumerate(np.split(regions[np.argsort(of_frame, kind="stable")], _ends(of_frame))):
        united[k] = shapely.union_all(group)
    shapely.prepare(united)
    pairs = np.unique(np.stack([window, of_frame[position]]), axis=1)
    w = windows.take(pairs[0])
    shapes = shapely.box(w.x0, w.y0, w.x1, w.y1)
    np.add.at(area, pairs[0], shapely.area(shapely.intersection(shapes, united[pairs[1]])))
    frames_held = -(-(windows.t1 - windows.t0) // windows.step)
    out: Array = np.minimum(area / windows.area / frames_held, 1.0)
    return out


def _ends(group: Array) -> Array:
    """Where to split values that are sorted by group, groups being 0, 1, 2, ..."""
    return np.cumsum(np.bincount(group))[:-1]


def _regions(sampler: CocoSampler, spaces: Spaces, boxes: Boxes) -> Array:
    """The shape of each annotation in its space."""
    import shapely

    shapes: Array = shapely.box(boxes.x0, boxes.y0, boxes.x1, boxes.y1)
    ids = sampler.annotations.annot_id[boxes.row].tolist()
    for k, (aid, space, t) in enumerate(zip(ids, boxes.space.tolist(), boxes.frame.tolist(), strict=True)):
        record = sampler.dset.index.anns[aid]
        if record.get("segmentation"):
            warp = sampler.frame(spaces.frames[space][t]).to_video if spaces.video else IDENTITY
            shapes[k] = shapely.transform(_polygon(record), partial(_warped, warp))
    return shapes


def _warped(matrix: Array, points: Array) -> Array:
    """Points, shape (n, 2), mapped."""
    out: Array = points @ matrix[:2, :2].T + matrix[:2, 2]
    return out


def _polygon(record: dict[str, Any]) -> Any:
    """A segmentation, in any form that kwcoco stores, in image space."""
    import kwimage
    import shapely

    try:
        polygons = kwimage.Segmentation.coerce(record["segmentation"]).to_multi_polygon()
        shape = shapely.union_all([shapely.make_valid(p.to_shapely()) for p in polygons.data])
    except (ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:
        raise TargetError(f"annotation {record.get('id')!r}: the segmentation is not understood ({error})") from error
    return shape
