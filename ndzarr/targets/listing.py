"""Which windows of a size are free, all of them?

A plane is what a window lies in: an image, or the frames of a video from one on.  `room` lists what is free in each.
A plane that is too full for one size is too full for all that are larger, and is not looked at again: among sizes of
many annotations, few have to be tried in many planes.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ndzarr.targets.footprint import ramps
from ndzarr.targets.places import Places
from ndzarr.targets.room import Limit, free
from ndzarr.targets.spaces import Array, Boxes


class Listing:
    """
    Lists of free windows.

    Parameters
    ----------
    places
        Sizes of windows, and where they may lie.
    boxes
        Sorted by space.
    limit
        What windows and boxes may share.
    """

    def __init__(self, places: Places, boxes: Boxes, limit: Limit) -> None:
        self._places, self._boxes = places, boxes
        self.limit = limit
        """What windows and boxes may share."""
        self._full: list[tuple[Array, Array]] = []

    @cached_property
    def planes(self) -> Array:
        """(space, first frame) of each; shape (2, plane)."""
        starts = self._places.starts(self._places.spaces.lengths)
        return np.stack([np.repeat(np.arange(len(starts)), starts), ramps(starts)])

    @cached_property
    def _of_planes(self) -> Boxes:
        """The boxes of each plane: one of a frame is in all windows that have this frame."""
        boxes, duration = self._boxes, self._places.duration
        starts = self._places.starts(self._places.spaces.lengths)
        base = np.cumsum(starts) - starts
        low, high = np.zeros(len(boxes), np.int64), starts[boxes.space]
        if duration is not None:
            low, high = np.maximum(boxes.frame - duration + 1, 0), np.minimum(boxes.frame + 1, high)
        number = np.maximum(high - low, 0)
        plane = np.repeat(base[boxes.space] + low, number) + ramps(number)
        order = np.argsort(plane, kind="stable")
        several = boxes.take(np.repeat(np.arange(len(boxes)), number)[order])
        return Boxes(plane[order], several.frame, several.row, several.x0, several.y0, several.x1, several.y1)

    def free(self, size: int) -> tuple[Array, Array]:
        """
        All free windows of a size, which is given by position.

        Returns
        -------
        Rectangles of beginnings y0, y1, x0, x1, shape (4, rectangle); (space, first frame) of each, shape (2,
        rectangle).
        """
        shape = self._places.sizes[size]
        open_ = np.ones(self.planes.shape[1], bool)
        for smaller, full in self._full:
            if (smaller <= shape).all():
                open_ &= ~full
        looked = np.flatnonzero(open_)
        spaces, boxes = self._places.spaces, self._of_planes
        inner = boxes.take(open_[boxes.space])
        number = np.cumsum(open_) - 1
        inner = Boxes(number[inner.space], inner.frame, inner.row, inner.x0, inner.y0, inner.x1, inner.y1)
        space = self.planes[0, looked]
        extents = np.stack([spaces.height[space], spaces.width[space]], axis=1)
        rectangles, plane = free((int(shape[0]), int(shape[1])), extents, inner, self.limit)
        if self.limit.nested:
            full = np.ones(len(open_), bool)
            full[looked[plane]] = False
            self._full.append((shape, full))
        return rectangles, self.planes[:, looked[plane]]
