"""
Which pixels are real, and how much each counts in a mean.

Three things can say that a pixel is not real:

- a value that marks missing data (nodata): one for all channels, or one for each;
- alpha, where it is 0: it is a channel, so that stores and levels hold it anyway;
- a mask beside the image, with the axes of the image but c: True where pixels are real.

`Validity` knows which of them an image has.  Everything that averages pixels (levels, windows at a scale, warps) asks
it for weights.  Colours that are not multiplied by alpha (unassociated) count by their alpha, as in premultiplied
resizing; those that are (associated) count alike, since their mean is that of the premultiplied colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

Array = np.ndarray[Any, Any]
Nodata: TypeAlias = float | tuple[float | None, ...] | None
"""Value that marks missing data: one for all channels, a tuple with that of each, which is None where a channel has
none, or None if no channel has one.  Alpha, which is a channel, never has one."""

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
    nodata: Nodata = None
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
    by_channel: bool = field(init=False)
    """True if it matters which channels pixels are of: one is alpha, or they have values of their own."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "veiled", self.alpha is not None or self.masked)
        object.__setattr__(self, "by_channel", self.alpha is not None or isinstance(self.nodata, tuple))
        object.__setattr__(self, "plain", self.nodata is None and not self.veiled)

    @classmethod
    def of(
        cls,
        dims: Sequence[str],
        channels: Sequence[str],
        nodata: Nodata,
        source: Mapping[str, Any],
        masked: bool = False,
    ) -> Validity:
        """Return the validity of an image; `source` is what its format said (`Facts.metadata`)."""
        says = source.get("alpha")
        stated = says is not None or {*channels} - {ALPHA} in _COLOURS
        is_alpha = "c" in dims and ALPHA in channels and stated and says != UNSTATED
        axis = list(dims).index("c") - len(dims) if "c" in dims else -3
        return cls(axis, nodata, list(channels).index(ALPHA) if is_alpha else None, says == "associated", masked)

    def marker(self, dtype: np.dtype[Any], channels: Sequence[int] | None) -> Marker | None:
        """
        Return the pixels that mark missing data; None if no pixel can.

        `channels` are positions along c of the channels of pixels; they are needed where the validity is `by_channel`.
        """
        if self.nodata is None:
            return None
        if not self.by_channel:
            return _one_marker(self.nodata, dtype)
        assert channels is not None
        return _own_markers(self.nodata, self.alpha, self.axis, dtype, tuple(channels))

    def tells_values(self, dtype: np.dtype[Any]) -> bool:
        """Return True if some value of a dtype marks missing data, NaN aside."""
        values = self.nodata if isinstance(self.nodata, tuple) else (self.nodata,)
        return any((v := as_pixel(value, dtype)) is not None and v == v for value in values)

    def channels_of(self, pixels: Array) -> Sequence[int] | None:
        """Return the `channels` of pixels that have all of them."""
        return range(pixels.shape[self.axis]) if self.by_channel else None

    def alpha_among(self, channels: Sequence[int] | None) -> int | None:
        """Return the position of alpha among channels; None if it is not one of them."""
        return channels.index(self.alpha) if channels is not None and self.alpha in channels else None

    def real(
        self, pixels: Array, alpha: Array | None, mask: Array | None, channels: Sequence[int] | None
    ) -> Array | None:
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
        channels
            Positions of the channels of `pixels`, as for `marker`.
        """
        marker = self.marker(pixels.dtype, channels)
        found = None if marker is None else marker.is_not(pixels)
        if mask is not None:
            found = self._with_c(mask, pixels) if found is None else found & self._with_c(mask, pixels)
        if alpha is not None:
            found = alpha > 0 if found is None else found & (alpha > 0)
        return found

    def weights(
        self, pixels: Array, alpha: Array | None, mask: Array | None, channels: Sequence[int] | None
    ) -> Array | None:
        """
        Return the weights of pixels in means: bool, integers up to the largest of their type, or numbers up to 1.

        Parameters are those of `real`.
        """
        if alpha is None or self.binary:
            return self.real(pixels, alpha, mask, channels)
        found, at = self.real(pixels, None, mask, channels), self.alpha_among(channels)
        if self.associated or _alike(alpha) or (pixels.shape[self.axis] == 1 and at is not None):
            return found
        out = np.where(alpha > 0, alpha, 0).astype(alpha.dtype)  # NaN is not above 0
        if found is not None:
            out = out * found
        if at is not None:
            top = alpha.dtype.type(np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1)
            out = np.array(np.broadcast_to(out, pixels.shape))
            self._channel(out, at)[...] = top if found is None else top * self._channel(found, at)
        return out

    def _with_c(self, mask: Array, pixels: Array) -> Array:
        return np.expand_dims(mask, self.axis) if mask.ndim < pixels.ndim else mask

    def _channel(self, array: Array, at: int) -> Array:
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


def fill_value(nodata: Nodata, dtype: np.dtype[Any]) -> Any:
    """
    Return the pixel of chunks that are not stored: nodata; NaN or 0 where channels have none, or different ones.

    GDAL takes it for nodata, so that a 0 in heights or differences would be missing; NaN is missing anyway.
    """
    value = None if isinstance(nodata, tuple) else as_pixel(nodata, dtype)
    return dtype.type(np.nan if dtype.kind in "fc" else 0) if value is None else value


@dataclass(frozen=True, slots=True, eq=False)
class Marker:
    """The pixels that mark missing data, as numbers of a dtype or arrays of them that broadcast to images."""

    value: Any
    """The pixel; 0 for channels that have none."""
    beside: Any
    """What a mean becomes which happens to be it: the next pixel, as in GDAL's overviews; 0 for channels without."""
    marks: Array | None = None
    """False for channels that have none; None if all have one."""

    def is_not(self, image: Array) -> Array:
        """Return True where pixels are neither NaN nor the value that marks missing data."""
        real = np.asarray(image != self.value)
        if image.dtype.kind in "fc":
            real &= ~np.isnan(image)
        return real if self.marks is None else real | ~self.marks

    def avoided(self, means: Array) -> Array:
        """Return means, each beside the value that marks missing data if it happens to be that."""
        hit = means == self.value
        return np.where(hit, self.beside, means) if hit.any() else means


@lru_cache(maxsize=256)
def _one_marker(nodata: float, dtype: np.dtype[Any]) -> Marker | None:
    value = as_pixel(nodata, dtype)
    return None if value is None else Marker(value, _next_pixel(value))


@lru_cache(maxsize=256)
def _own_markers(
    nodata: float | tuple[float | None, ...],
    alpha: int | None,
    axis: int,
    dtype: np.dtype[Any],
    channels: tuple[int, ...],
) -> Marker | None:
    """Return the pixels of each of some channels, along c; None if none of them has one."""
    own = [
        None if i == alpha else as_pixel(nodata[i] if isinstance(nodata, tuple) else nodata, dtype) for i in channels
    ]
    if all(value is None for value in own):
        return None
    along_c = (-1, *(1,) * (-axis - 1))
    value = np.array([dtype.type(0) if v is None else v for v in own], dtype).reshape(along_c)
    following = np.array([dtype.type(0) if v is None else _next_pixel(v) for v in own], dtype).reshape(along_c)
    return Marker(value, following, np.array([v is not None for v in own]).reshape(along_c))


def _next_pixel(value: Any) -> Any:
    if value.dtype.kind in "iub":
        return value.dtype.type(
            int(value) + (1 if value.dtype.kind == "b" or value < np.iinfo(value.dtype).max else -1)
        )
    above = value.real.dtype.type(np.inf)  # of the same type: NumPy 1 would take the next float64
    return np.nextafter(value.real, above).astype(value.dtype)


def as_nodata(values: Sequence[float | None]) -> Nodata:
    """Return the nodata of channels: one value if all have the same, None if none has one."""
    own = tuple(None if v is None else float(v) for v in values)
    return own[0] if own and all(same_nodata(v, own[0]) for v in own) else own or None


def nodata_of(nodata: Nodata, channels: Sequence[int]) -> Nodata:
    """Return the nodata of some channels of an image."""
    return as_nodata([nodata[i] for i in channels]) if isinstance(nodata, tuple) else nodata


def same_nodata(a: Nodata, b: Nodata) -> bool:
    """Return True if two are the same; NaN is the same as NaN."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same_nodata, a, b))
    return a == b or (a != a and b != b)
