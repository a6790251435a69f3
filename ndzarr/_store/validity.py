"""
Which pixels are real, and how much each counts in a mean.

Three things can say that a pixel is not real:

- a value that marks missing data (nodata), channel by channel;
- alpha, where it is 0: it is a channel, so that stores and levels hold it anyway;
- a mask beside the image, with the axes of the image but c: True where pixels are real.

`Validity` knows which of them an image has.  Everything that averages pixels (levels, windows at a scale, warps) asks
it for weights.  Colours that are not multiplied by alpha (unassociated) count by their alpha, as in premultiplied
resizing; those that are (associated) count alike, since their mean is that of the premultiplied colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

ALPHA = "a"
UNSTATED = "unstated"
"""What sources say of a fourth sample beside r, g and b that the file does not explain: it may be infrared."""
_COLOURS = ({"gray"}, {"r", "g", "b"})
"""Names of channels beside which a channel `ALPHA` is alpha; elsewhere, the file has to say so."""


@dataclass(frozen=True, slots=True)
class Validity:
    """What says of an image which of its pixels are real."""

    axis: int = -3
    """The axis c, counted from the last one."""
    nodata: float | None = None
    """Value that marks missing data."""
    alpha: int | None = None
    """Position of alpha along c."""
    associated: bool = False
    """True if colours are multiplied by alpha."""
    masked: bool = False
    """True if the image has a mask."""
    binary: bool = False
    """True if all real pixels count alike, alpha included, as in GDAL's overviews."""
    veiled: bool = field(init=False)
    """True if alpha or a mask has to be read besides the channels; a field, since every sample asks for it."""
    plain: bool = field(init=False)
    """True if nothing says that a pixel is not real, NaN aside."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "veiled", self.alpha is not None or self.masked)
        object.__setattr__(self, "plain", self.nodata is None and not self.veiled)

    @classmethod
    def of(
        cls,
        dims: Sequence[str],
        channels: Sequence[str],
        nodata: float | None,
        source: Mapping[str, Any],
        masked: bool = False,
    ) -> Validity:
        """Return the validity of an image; `source` is what its format said (`Facts.metadata`)."""
        says = source.get("alpha")
        stated = says is not None or {*channels} - {ALPHA} in _COLOURS
        is_alpha = "c" in dims and ALPHA in channels and stated and says != UNSTATED
        axis = list(dims).index("c") - len(dims) if "c" in dims else -3
        return cls(axis, nodata, list(channels).index(ALPHA) if is_alpha else None, says == "associated", masked)

    def real(self, pixels: Array, alpha: Array | None, mask: Array | None, at: int | None) -> Array | None:
        """
        Return True where pixels are real, broadcastable to `pixels`; None if all are.

        Parameters
        ----------
        pixels
            Axes (..., y, x) of the image, with some of its channels.
        alpha
            Alpha of these pixels, of length 1 along c, if the image has it.
        mask
            The mask of these pixels, without an axis c, if the image has one.
        at
            Position of alpha among the channels of `pixels`; None if it is not one of them.
        """
        found: Array | None = None
        if self.nodata is not None:
            found = holds_data(pixels, as_pixel(self.nodata, pixels.dtype))
            if at is not None:
                self.channel(found, at)[...] = True  # nodata is a colour
        if mask is not None:
            found = self._with_c(mask, pixels) if found is None else found & self._with_c(mask, pixels)
        if alpha is not None:
            found = alpha > 0 if found is None else found & (alpha > 0)
        return found

    def weights(self, pixels: Array, alpha: Array | None, mask: Array | None, at: int | None) -> Array | None:
        """
        Return the weights of pixels in means: bool, integers up to the largest of their type, or numbers up to 1.

        Parameters are those of `real`.
        """
        if alpha is None or self.binary:
            return self.real(pixels, alpha, mask, at)
        found = self.real(pixels, None, mask, at)
        if self.associated or _alike(alpha) or (pixels.shape[self.axis] == 1 and at is not None):
            return found
        out = np.where(alpha > 0, alpha, 0).astype(alpha.dtype)  # NaN is not above 0
        if found is not None:
            out = out * found
        if at is not None:
            top = alpha.dtype.type(np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1)
            out = np.array(np.broadcast_to(out, pixels.shape))
            self.channel(out, at)[...] = top if found is None else top * self.channel(found, at)
        return out

    def _with_c(self, mask: Array, pixels: Array) -> Array:
        return np.expand_dims(mask, self.axis) if mask.ndim < pixels.ndim else mask

    def channel(self, array: Array, at: int) -> Array:
        """Return a view of one channel, or of the one that stands for all of them."""
        return array[(..., min(at, array.shape[self.axis] - 1), *(slice(None),) * (-self.axis - 1))]


ALL_REAL = Validity()
"""The validity of images that hide no pixel."""


def _alike(alpha: Array) -> bool:
    """Return True if all pixels count alike, as in most photographs."""
    return bool(alpha.size and alpha.flat[0] > 0 and (alpha == alpha.flat[0]).all())


def as_pixel(nodata: float | None, dtype: np.dtype[Any]) -> Any:
    """Return the nodata value as a pixel of a dtype; None where no pixel can have it (-9999 in uint8)."""
    if nodata is None:
        return None
    if dtype.kind not in "iub" or nodata == 0:
        return dtype.type(nodata)
    if not (np.isfinite(nodata) and float(nodata).is_integer()):
        return None
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return dtype.type(int(nodata)) if low <= int(nodata) <= high else None


def beside(marker: Any) -> Any:
    """
    Return the pixel that a mean becomes which happens to be the nodata value: the next one, as in GDAL's overviews.

    `marker` is as `as_pixel` returns it.
    """
    if marker.dtype.kind in "iub":
        return marker.dtype.type(int(marker) + (1 if marker < np.iinfo(marker.dtype).max else -1))
    return np.nextafter(marker.real, np.inf).astype(marker.dtype)


def holds_data(image: Array, marker: Any) -> Array:
    """Return True where pixels are neither NaN nor the nodata value, as `as_pixel` returns it."""
    if image.dtype.kind not in "fc":
        return np.ones(image.shape, bool) if marker is None else np.asarray(image != marker)
    real = ~np.isnan(image)
    return np.asarray(real if marker is None else real & (image != marker))
