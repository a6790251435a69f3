"""Which level, and which pixels of it, does a window at some scale need, and where do they land?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import index
from typing import TYPE_CHECKING, Any

from ndzarr.errors import OptionError, WindowError, did_you_mean
from ndzarr.geometry.region import OVERSAMPLING, Region, output_length, region_at
from ndzarr.geometry.selection import Selection, lengths, outside, select
from ndzarr.geometry.taps import SUPPORT
from ndzarr.pyramid.reduce import as_pixel

if TYPE_CHECKING:
    from ndzarr.pyramid.pyramid import Pyramid


@dataclass(frozen=True, slots=True)
class Sampling:
    """How output pixels are made from those of a pyramid."""

    interpolation: str = "auto"
    """'area', 'nearest', 'linear', 'cubic', 'lanczos'; 'auto' is nearest for labels, which must not mix, area for
    all else."""
    antialias: bool | None = None
    """Where reducing, let every native pixel count: None means unless interpolation is nearest.  Without it, native
    pixels are read, since coarser levels are means."""

    def settled(self, pyramid: Pyramid) -> Sampling:
        """
        What 'auto' and None stand for.

        Raises
        ------
        OptionError
            The interpolation is unknown.
        """
        name = self.interpolation
        labels = pyramid.kind == "labels" or pyramid.dtype.kind == "b"
        if name == "auto":
            name = "nearest" if labels else "area"
        if name not in SUPPORT:
            raise OptionError(f"interpolation={name!r} is not known{did_you_mean(name, (*SUPPORT, 'auto'))}")
        antialias = self.antialias if self.antialias is not None else labels or name != "nearest"
        return Sampling(name, antialias)


AUTO = Sampling()
"""Nearest for labels, anti-aliased means for all else."""


@dataclass(frozen=True, slots=True)
class Crop:
    """One window of one pyramid, ready to be planned."""

    pyramid: Pyramid
    region: Region
    """Along y and x."""
    lead: Selection
    """Along the axes before y."""
    sampling: Sampling
    """How pixels are made where they are not copied."""
    fill: float
    """Value of pixels outside the image."""
    outer: tuple[tuple[range, slice] | None, ...] | None = None
    """Along the axes before y, (all positions asked for, where those that exist land), None for an axis on which all
    exist; None where that is so for all axes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the output, along the pyramid's axes."""
        lead = lengths(self.lead)
        if self.outer is not None:
            lead = tuple(n if out is None else len(out[0]) for n, out in zip(lead, self.outer, strict=True))
        return (*lead, *self.region.shape)

    @property
    def inside(self) -> tuple[Any, ...]:
        """Where what is read lands in the output."""
        ends = (self.region.y.target, self.region.x.target)
        if self.outer is None:
            return (..., *ends)
        return (*(slice(None) if out is None else out[1] for out in self.outer), *ends)

    @property
    def request(self) -> tuple[Any, Selection]:
        """What a `ReadPlan` is made from."""
        return self.pyramid.levels[self.region.level].array, (*self.lead, self.region.y.read, self.region.x.read)


def crop(
    pyramid: Pyramid,
    window: Mapping[str, Any],
    scale: float | tuple[float, float] = 1.0,
    sampling: Sampling = AUTO,
    fill: float = 0,
) -> Crop:
    """
    A window with named axes as a `Crop`.

    Raises
    ------
    WindowError
        An axis or channel is unknown, or the window is empty.
    OptionError
        The interpolation is unknown.
    """
    lead: dict[str, Any] = {d: s for d, s in window.items() if d not in ("y", "x")}
    if lead.get("c") is not None and not isinstance(lead["c"], slice):
        lead["c"] = pyramid.channel_indices(lead["c"])
    dims, shape = pyramid.dims, pyramid.shape
    if dims[-2:] != ("y", "x"):
        raise WindowError(
            f"{pyramid.path} has axes {' '.join(dims)}; a window needs y x as the last two, read() does not"
        )
    for name in window:
        if name not in dims:
            raise WindowError(f"unknown axis {name!r}{did_you_mean(name, dims)}")
    if as_pixel(fill, pyramid.dtype) is None:
        raise OptionError(f"fill={fill!r} is no value of {pyramid.dtype}; choose one that is")
    sx, sy = scale if isinstance(scale, tuple) else (scale, scale)
    y, x = _interval("y", window.get("y"), shape[-2]), _interval("x", window.get("x"), shape[-1])
    n = output_length("y", y, sy), output_length("x", x, sx)
    pitch = (y[1] - y[0]) / n[0], (x[1] - x[0]) / n[1]
    outer = _outer(dims[:-2], shape[:-2], lead)
    cut = crop_at(pyramid, (y[0], x[0]), pitch, n, select(dims[:-2], shape[:-2], lead), sampling, fill)
    return cut if outer is None else replace(cut, outer=outer)


def _outer(dims: Sequence[str], shape: Sequence[int], lead: dict[str, Any]) -> Any:
    """`Crop.outer`; the intervals in `lead` are cut at the borders."""
    found: list[tuple[range, slice] | None] = []
    for d, n in zip(dims, shape, strict=True):
        want = lead.get(d)
        beyond = outside(n, want) if isinstance(want, slice) and d != "c" else None
        if beyond is None:
            found.append(None)
        else:
            lead[d] = beyond[1]
            found.append((beyond[0], beyond[2]))
    return tuple(found) if any(found) else None


def crop_at(
    pyramid: Pyramid,
    origin: tuple[float, float],
    pitch: tuple[float, float],
    n: tuple[int, int],
    lead: Selection,
    sampling: Sampling = AUTO,
    fill: float = 0,
) -> Crop:
    """
    A window whose borders need not fall on pixels.

    Parameters
    ----------
    origin
        Where the first output pixel begins along (y, x), in native pixels.
    pitch
        Native pixels per output pixel along (y, x).
    n
        Output pixels along (y, x).
    lead
        Selection along the axes before y.
    """
    settled = sampling.settled(pyramid)
    cut = _region_at(
        origin,
        pitch,
        n,
        pyramid.planar_shapes,
        pyramid.planar_factors if settled.antialias else pyramid.planar_factors[:1],
        SUPPORT[settled.interpolation],
        1.0 if settled.interpolation == "nearest" else OVERSAMPLING,
    )
    return Crop(pyramid, cut, lead, settled, fill)


_region_at = lru_cache(maxsize=512)(region_at)
"""The frames and assets of a sample have few different ones."""


def _interval(name: str, want: Any, n: int) -> tuple[int, int]:
    if want is None:
        return 0, n
    if not isinstance(want, slice) or want.step not in (None, 1):
        raise WindowError(f"{name}={want!r}: expected a slice with step 1 along y and x; use scale= to reduce")
    try:
        return 0 if want.start is None else index(want.start), n if want.stop is None else index(want.stop)
    except TypeError as error:
        raise WindowError(
            f"{name}={want!r}: expected integers; windows begin and end between pixels ({error})"
        ) from error
