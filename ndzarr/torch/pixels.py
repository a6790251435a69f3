"""
The pixels of crops before training: which of them count, and how they are scaled.

`Screening` leaves out pixels that are filled with one colour or that lack a band, and tells which frames show too
little. `Normalisation` scales channels by measured statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ndzarr._validation import as_list, check_count, check_fraction
from ndzarr.errors import OptionError, did_you_mean
from ndzarr.targets.statistics import Statistics

if TYPE_CHECKING:
    import xarray

Array = np.ndarray[Any, Any]


def mask_of(batch: xarray.Dataset) -> Array | None:
    """Return `valid` of a batch with all axes of its image, of length 1 where it lacks them; None if all are real."""
    if "valid" not in batch:
        return None
    valid, dims = batch["valid"].variable, batch["image"].dims
    own = valid.transpose(*[d for d in dims if d in valid.dims]).values
    return np.asarray(own.reshape([valid.sizes[d] if d in valid.dims else 1 for d in dims]))


ANY = "*"
"""The sensor of images that state none, and the statistics of all sensors that have none of their own."""
NORMAL = 1.3489795003921634
"""Interquartile range of a normal distribution with a standard deviation of 1."""


@dataclass(frozen=True, slots=True)
class Screening:
    """
    Pixels that do not count, and frames that show too little.

    Pixels that do not count become NaN, of integers 0, and `valid` is False there in all channels.
    """

    same_colour: float | None = None
    """Pixels of one value do not count if they are more than this fraction of a channel of a frame."""
    colour_channels: Sequence[str] | None = None
    """Channels that are looked at for that; all by default."""
    required: Sequence[str] = ()
    """Channels without which a pixel does not count: where one is NaN or missing, all channels are left out."""
    min_valid: float = 0.0
    """Least fraction of pixels of a frame that have to count, in all channels.  A frame with less is replaced by the
    nearest other one of its video; a crop whose frames cannot be replaced fails."""
    tries: int = 3
    """How often frames of a crop are replaced before it fails."""

    def __post_init__(self) -> None:
        if self.same_colour is not None:
            check_fraction("same_colour", self.same_colour, OptionError)
        check_fraction("min_valid", self.min_valid, OptionError)
        check_count("tries", self.tries, 0)

    def apply(self, batch: xarray.Dataset) -> tuple[Array, Array]:
        """Return the image of a batch and True for the pixels that count, with the same axes."""
        image, dims = batch["image"].values, batch["image"].dims
        valid = np.ones(image.shape, bool)
        if (given := mask_of(batch)) is not None:
            valid &= given
        if image.dtype.kind == "f":
            valid &= ~np.isnan(image)
        c = dims.index("c")
        names = list(map(str, batch["c"].values)) if "c" in batch.coords else []
        bad = np.zeros([n for d, n in zip(dims, image.shape, strict=True) if d != "c"], bool)
        for k in _positions("required", self.required, names):
            bad |= ~valid.take(k, c)
        if self.same_colour is not None:
            wanted = list(range(image.shape[c]))
            if self.colour_channels is not None:
                wanted = _positions("colour_channels", self.colour_channels, names)
            for k in wanted:
                bad |= _same_colour(image.take(k, c), valid.take(k, c), self.same_colour, 1 + ("t" in dims))
        if bad.any():
            spread = np.broadcast_to(np.expand_dims(bad, c), image.shape)
            image = np.where(spread, image.dtype.type(np.nan if image.dtype.kind == "f" else 0), image)
            valid &= ~spread
        return image, valid

    def too_little(self, valid: Array, dims: Sequence[Any]) -> Array:
        """Return True for frames that show too little; shape (sample, t), or (sample, 1) of images."""
        counting = valid.all(axis=dims.index("c"))
        lead = counting.shape[: 1 + ("t" in dims)]
        found = counting.reshape(*lead, -1).mean(axis=-1) < self.min_valid
        return np.asarray(found.reshape(lead[0], -1))


def _positions(option: str, wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    for name in as_list(wanted):
        if name not in names:
            raise OptionError(f"{option}={name!r}: no such channel{did_you_mean(name, names)}", key=option)
    return [names.index(name) for name in as_list(wanted)]


def _same_colour(channel: Array, valid: Array, most: float, lead: int) -> Array:
    """Return True for pixels of a value that fills more than a fraction of its frame; `lead` axes are of frames."""
    bad = np.zeros(channel.shape, bool)
    for frame in np.ndindex(channel.shape[:lead]):
        pixels = channel[frame][valid[frame]]
        if pixels.size:
            values, counts = np.unique(pixels, return_counts=True)
            large = values[counts > most * channel[frame].size]
            bad[frame] = np.isin(channel[frame], large) & valid[frame]
    return bad


@dataclass(frozen=True, slots=True, eq=False)
class Normalisation:
    """Scaling of channels by statistics, to a mean of 0 and a standard deviation of 1; missing pixels become 0."""

    statistics: Statistics | Mapping[str, Statistics]
    """Those of `targets.statistics`; or sensor to its own, with '*' for all others."""
    robust: bool = False
    """Subtract the median and divide by the interquartile range, scaled to the standard deviation of a normal
    distribution, so that outliers do not count."""
    clip: tuple[float, float] | None = None
    """Limits of the values after that."""

    def apply(self, image: torch.Tensor, batch: xarray.Dataset, sensors: Array) -> torch.Tensor:
        """Return the image of a batch scaled; `sensors` has shape (sample,), of videos (sample, t)."""
        dims = batch["image"].dims
        if "c" not in batch.coords:
            raise OptionError("normalise: the channels of the crops have no names", key="normalise")
        names, codes = np.unique(sensors, return_inverse=True)
        scales = np.array([self._scale(str(sensor), [str(c) for c in batch["c"].values]) for sensor in names])
        # (2, sample, c) or (2, sample, t, c), with length 1 along all other axes of the image
        of_each = np.moveaxis(scales[codes.reshape(sensors.shape)], -2, 0)
        lengths = dict(zip((*("sample", "t")[: sensors.ndim], "c"), of_each.shape[1:], strict=True))
        shape = [lengths.get(str(d), 1) for d in dims]
        wide = torch.float64 if image.dtype == torch.float64 else torch.float32
        centre, scale = (torch.from_numpy(part.reshape(shape)).to(wide) for part in of_each)
        out = image.to(wide).sub(centre).div_(scale)
        if self.clip is not None:
            out.clamp_(*self.clip)
        if (valid := mask_of(batch)) is not None:
            out.masked_fill_(torch.from_numpy(~valid), 0)
        return out

    def _scale(self, sensor: str, channels: Sequence[str]) -> tuple[Array, Array]:
        """Return what is subtracted from channels, and what they are divided by."""
        found: Any = self.statistics
        if isinstance(found, Mapping):
            if sensor not in found and ANY not in found:
                message = f"normalise has no statistics for sensor {sensor!r}"
                raise OptionError(message, key="normalise", hint="Give them for '*', which stands for all others")
            found = found.get(sensor, found.get(ANY))
        mine = found.select(channels)
        if not self.robust:
            return mine.mean, np.where(mine.std_native > 0, mine.std_native, 1.0)
        at = [int(k) for p in (0.25, 0.5, 0.75) for k in np.flatnonzero(np.isclose(mine.probabilities, p))]
        if len(at) != 3:
            hint = "Measure them with quantiles=(0.25, 0.5, 0.75)"
            raise OptionError(
                "normalise: robust=True needs quartiles, which the statistics lack", key="normalise", hint=hint
            )
        low, middle, high = mine.quantiles[:, at].T
        spread = (high - low) / NORMAL
        return middle, np.where(spread > 0, spread, 1.0)
