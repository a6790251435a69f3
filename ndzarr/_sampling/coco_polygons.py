"""kwimage's polygons, filled as COCO fills them: the segmentations of `sample.ndzarr.detections`."""

from __future__ import annotations

from math import ceil
from typing import Any

import kwimage
import numpy as np

from ndzarr._indexing.affine import scale_offset
from ndzarr._sampling.segmentations import Polygons


class CocoMultiPolygon(kwimage.MultiPolygon):  # type: ignore[misc]
    """
    A `kwimage.MultiPolygon` whose pixels are those of pycocotools.

    kwimage counts the pixels of the far edges too, so that shapes that touch overlap.  Arguments that choose another
    of kwimage's conventions change nothing here.
    """

    def to_mask(self, dims: Any = None, pixels_are: str = "areas", origin_convention: str = "corner") -> Any:
        """Return the `kwimage.Mask` of the pixels inside; `dims` is (height, width)."""
        if dims is None:
            right, below = self.box().to_ltrb().data[2:]
            dims = ceil(below), ceil(right)
        return kwimage.Mask(self._inside(dims).astype(np.uint8), "c_mask")

    def fill(
        self,
        image: Any,
        value: Any = 1,
        pixels_are: str = "areas",
        origin_convention: str = "corner",
        assert_inplace: bool = False,
    ) -> Any:
        """Give the pixels inside a value, in place."""
        image[self._inside(image.shape[:2])] = value
        return image

    def _inside(self, dims: Any) -> np.ndarray[Any, Any]:
        x, y = self.meta.get("origin", (0, 0)) if self.meta else (0, 0)
        rings = [(one.data["exterior"].data, *[ring.data for ring in one.data["interiors"]]) for one in self.data]
        own = Polygons(tuple([tuple([np.asarray(ring, float) for ring in part]) for part in rings]))
        return own.warped(scale_offset((1, 1), (x, y))).filled((int(dims[0]), int(dims[1])), (x, y))


def coco_multi_polygon(shape: Polygons, origin: tuple[int, int]) -> CocoMultiPolygon:
    """Return polygons in sample pixels; `origin` is (x, y) of the first pixel in the whole image, at that scale."""
    parts = [kwimage.Polygon(exterior=exterior, interiors=interiors) for exterior, *interiors in shape.parts]
    return CocoMultiPolygon(parts, meta={"origin": origin})
