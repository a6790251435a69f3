"""What else can be asked of a sample?  `sample.ndzarr`: annotations as kwimage objects, transforms, a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from ndzarr.errors import TargetError
from ndzarr.sampler.cut import cut_of
from ndzarr.sampler.sample import Context

if TYPE_CHECKING:
    from PIL.Image import Image


class SampleAccessor:
    """What a sample knows about where it came from."""

    def __init__(self, sample: xarray.Dataset) -> None:
        self._sample = sample

    @property
    def _context(self) -> Context:
        context = self._sample.encoding.get("ndzarr")
        if context is None:
            raise TargetError(
                "this Dataset does not come from an ndzarr sampler, or an operation on it dropped its origin"
            )
        return context  # type: ignore[no-any-return]

    @property
    def target(self) -> dict[str, Any]:
        """The target, with the window that it was resolved to: of all that was loaded, also where it was cut since."""
        return self._context.target

    @property
    def transform(self) -> np.ndarray[Any, Any]:
        """3x3, maps continuous sample pixels (x, y, 1) to native pixels of the sampled space, also after slicing."""
        context = self._context
        cut = cut_of(self._sample, context)
        return context.scene.transform if cut.is_whole(context) else context.scene.transform @ cut.to_loaded

    @property
    def detections(self) -> list[Any]:
        """
        One `kwimage.Detections` per frame, in sample pixels: boxes, class indices, segmentations and keypoints.

        They are not clipped to the window.  `data['aids']` holds the annotation ids.  After slicing they are those of
        the frames that are left, in pixels of what is left; the column `bbox` stays in pixels of what was loaded.
        """
        from ndzarr.sampler.detections import detections

        context = self._context
        return detections(context, cut_of(self._sample, context))

    def to_ndsampler(self) -> dict[str, Any]:
        """
        The dictionary that ndsampler's `load_sample` returned, for code that was written for it.

        Raises
        ------
        TargetError
            The sample was cut since it was loaded.
        """
        from ndzarr.sampler.legacy import to_ndsampler

        return to_ndsampler(self._sample, self._context)

    def draw(self, scale: float | None = None) -> Image:
        """
        A picture of the sample and its annotations, frames side by side.

        Parameters
        ----------
        scale
            Enlargement; chosen so that small samples can be seen if left out.
        """
        from ndzarr.sampler.draw import draw

        return draw(self._sample, self._context, scale)


@xarray.register_dataset_accessor("ndzarr")  # type: ignore[untyped-decorator]
def accessor(dataset: xarray.Dataset) -> Any:
    """What `dataset.ndzarr` is: a `SampleAccessor`, or, for a batch, a `BatchAccessor`."""
    context = dataset.encoding.get("ndzarr")
    return SampleAccessor(dataset) if context is None or isinstance(context, Context) else context.accessor(dataset)
