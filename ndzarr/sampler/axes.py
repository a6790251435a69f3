"""Has a file the axes of a sample?  Zarr arrays are read as they are, and may have any."""

from __future__ import annotations

from itertools import combinations

from ndzarr.errors import TargetError
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.sampler.scene import Asset, Frame
from ndzarr.sources.source import AXES

_ORDERED = {(*lead, "y", "x") for n in range(4) for lead in combinations(AXES[:3], n)}
"""Axes of files whose parts are parts of samples as they are."""


def check_axes(frame: Frame, asset: Asset, pyramid: Pyramid) -> None:
    """Raise `TargetError` for axes in another order, but for those of one position before y and x."""
    dims = pyramid.dims
    if dims in _ORDERED:
        return
    sizes = pyramid.sizes
    if (*[d for d in dims[:-2] if sizes[d] != 1], *dims[-2:]) not in _ORDERED:
        raise TargetError(
            f"{frame.name}: {asset.path} has axes {' '.join(dims)}, a sample {' '.join(AXES)}; write it in that order, "
            "or sample it by named axes with ndzarr.Sampler"
        )
