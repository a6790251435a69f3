"""Which pixels go into a file, at every level?

`Content` picks one frame, one plane and some channels of a pyramid and knows what each becomes: colour, alpha, the
mask.  It reads blocks of a level with the samples of a pixel side by side, as tiles want them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndzarr.errors import OptionError
from ndzarr.pyramid.pyramid import Level, Pyramid
from ndzarr.pyramid.reduce import as_pixel, holds_data

ALPHA = "a"
_RGB = ({"r", "red"}, {"g", "green"}, {"b", "blue"})
_MEANING = {"associated": 1, "unassociated": 2}


@dataclass(frozen=True, slots=True)
class Content:
    """What is exported of a pyramid."""

    pyramid: Pyramid
    levels: tuple[Level, ...]
    """Native first."""
    channels: tuple[int, ...]
    """Positions along c of what become samples; empty where the pyramid has no axis c."""
    lead: tuple[tuple[str, slice], ...]
    """One frame and one plane of the axes t and z."""
    nodata: float | None
    """Value of pixels without data."""
    masking: str | None = None
    """Where the mask comes from: 'data' (what is neither nodata nor NaN), 'alpha', 'pyramid'; None for no mask."""
    mask: Pyramid | None = None
    """The pyramid that is nonzero where pixels are real."""
    alpha: int | None = None
    """Position of the channel that becomes the mask."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of samples; bool becomes uint8, 0 and 1."""
        dtype = self.pyramid.dtype
        return np.dtype(np.uint8) if dtype.kind == "b" else dtype

    @property
    def samples(self) -> int:
        """Per pixel."""
        return max(1, len(self.channels))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the samples; empty where they have none."""
        return tuple(self.pyramid.channels[i] for i in self.channels)

    @property
    def colour(self) -> bool:
        """True if the first three samples are red, green and blue, of a type that viewers take for colour."""
        names = [name.lower() for name in self.names[:3]]
        return self.dtype in (np.uint8, np.uint16) and len(names) == 3 and all(map(set.__contains__, _RGB, names))

    @property
    def extras(self) -> tuple[int, ...]:
        """Meaning of the samples beyond colour, as TIFF's tag 338 has it."""
        alpha = _MEANING.get(self.pyramid.attrs.get("ndzarr", {}).get("source", {}).get("alpha", ""), 2)
        beyond = self.names[3 if self.colour else 1 :]
        return tuple(alpha if name == ALPHA else 0 for name in beyond)

    @property
    def described(self) -> bool:
        """True if names say more than the photometric interpretation does."""
        plain = self.names in ((), ("gray",), ("gray", ALPHA)) or self.names == tuple(
            f"c{i}" for i in range(len(self.names))
        )
        return not plain and not (self.colour and self.names in (("r", "g", "b"), ("r", "g", "b", ALPHA)))

    def size(self, level: int) -> tuple[int, int]:
        """(height, width) of a level."""
        height, width = self.levels[level].shape[-2:]
        return height, width

    def read(self, level: int, y: slice, x: slice) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
        """
        A block of a level.

        Returns
        -------
        (pixels, valid): pixels have axes (y, x, sample); valid (y, x), True where pixels are real, None without a mask.
        """
        window: dict[str, Any] = {**dict(self.lead), "y": y, "x": x}
        if self.channels:
            wanted = self.channels if self.alpha is None else (*self.channels, self.alpha)
            start = wanted[0]
            run = wanted == tuple(range(start, start + len(wanted)))
            window["c"] = slice(start, start + len(wanted)) if run else list(wanted)
        planes = self.pyramid.read(level, **window)
        planes = planes.reshape(-1, *planes.shape[-2:])
        valid = None
        if self.masking == "alpha":
            planes, valid = planes[:-1], planes[-1] > 0
        elif self.masking == "data":
            valid = holds_data(planes, as_pixel(self.nodata, planes.dtype)).any(axis=0)
        elif self.mask is not None:
            chosen = {d: slice(0, 1) for d in self.mask.dims[:-2]}
            valid = self.mask.read(level, y=y, x=x, **chosen).reshape(planes.shape[-2:]) != 0
        return _interleaved(planes.view(self.dtype) if planes.dtype.kind == "b" else planes), valid


def _interleaved(planes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(sample, y, x) as contiguous (y, x, sample)."""
    if len(planes) == 1:
        return np.ascontiguousarray(planes[0])[..., None]
    if len(planes) <= 4 and planes.dtype.itemsize <= 4 and planes.dtype.str[1:] not in ("u4", "f2"):
        import cv2  # ten times as fast as numpy for few samples

        return np.asarray(cv2.merge(tuple(planes)))
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def content(
    pyramid: Pyramid,
    *,
    overviews: bool = True,
    channels: Sequence[str] | None = None,
    t: int | None = None,
    z: int | None = None,
    nodata: float | None = None,
    mask: bool | str | Pyramid = False,
) -> Content:
    """
    Choose what is exported; see `export_cog`.

    Raises
    ------
    OptionError
        The choice is open, or does not fit the pyramid.
    """
    if pyramid.dims[-2:] != ("y", "x") or 0 in pyramid.shape:
        raise OptionError(
            f"{pyramid.path}: has axes {' '.join(pyramid.dims)} of {pyramid.shape}; an image has y x last"
        )
    lead = tuple(_one(pyramid, d, {"t": t, "z": z}.get(d)) for d in pyramid.dims[:-2] if d != "c")
    for d, i in (("t", t), ("z", z)):
        if i is not None and d not in pyramid.dims:
            raise OptionError(f"{d}={i!r}: {pyramid.path} has no axis {d}; leave it out")
    nodata = pyramid.nodata if nodata is None else nodata
    if as_pixel(nodata, pyramid.dtype) is None and nodata is not None:
        raise OptionError(f"nodata={nodata!r} is no value of {pyramid.dtype}; choose one that is")
    chosen = tuple(pyramid.channel_indices(channels)) if channels is not None else tuple(range(len(pyramid.channels)))
    if channels is not None and not chosen:
        raise OptionError("channels=(): a file needs at least one channel")
    levels = pyramid.planar_levels if overviews else pyramid.planar_levels[:1]
    masking, source, alpha = _mask(pyramid, mask, chosen, nodata)
    if alpha is not None:
        chosen = tuple(i for i in chosen if i != alpha)
    _refuse_mask(pyramid, source, len(levels))
    return Content(pyramid, levels, chosen, lead, nodata, masking, source, alpha)


def _one(pyramid: Pyramid, dim: str, wanted: int | None) -> tuple[str, slice]:
    n = pyramid.sizes[dim]
    if wanted is None and n != 1:
        options = f"choose one with {dim}=0 to {dim}={n - 1}" if dim in "tz" else "transcode a part of it"
        raise OptionError(f"{pyramid.path}: has {n} planes along {dim}, a COG holds one; {options}")
    i = wanted or 0
    if not 0 <= i < n:
        raise OptionError(f"{dim}={wanted!r}: {pyramid.path} has {dim}=0 to {dim}={n - 1}")
    return dim, slice(i, i + 1)


def _mask(
    pyramid: Pyramid, mask: bool | str | Pyramid, chosen: Sequence[int], nodata: float | None
) -> tuple[str | None, Pyramid | None, int | None]:
    """(masking, pyramid, position of alpha) of a `Content`."""
    if mask is False or mask is None:
        return None, None, None
    if isinstance(mask, Pyramid):
        return "pyramid", mask, None
    if mask is True:
        if nodata is None and pyramid.dtype.kind not in "fc":
            raise OptionError(
                f"mask=True: {pyramid.path} states no value of missing pixels; give nodata=, mask='alpha', or a pyramid"
            )
        return "data", None, None
    if mask != "alpha":
        raise OptionError(f"mask={mask!r}: expected True, False, 'alpha' or a pyramid that is nonzero where data are")
    if ALPHA not in pyramid.channels or len(chosen) < 2:
        raise OptionError(f"mask='alpha': no channel {ALPHA!r} beside others in {', '.join(pyramid.channels)}")
    return "alpha", None, pyramid.channels.index(ALPHA)


def _refuse_mask(pyramid: Pyramid, mask: Pyramid | None, levels: int) -> None:
    if mask is None:
        return
    want, have = pyramid.planar_shapes[:levels], mask.planar_shapes[:levels]
    extra = [d for d in mask.dims[:-2] if mask.sizes[d] != 1]
    if want != have or extra:
        raise OptionError(
            f"mask: {mask.path} has levels of {have} with axes {' '.join(mask.dims)}, the image {want}; "
            f"transcode one channel of the same size with kind='labels'"
        )
