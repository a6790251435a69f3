"""What does `Pyramid.window` return?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray

from ndzarr.labels.template import label
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.pyramid.region import crop, read_crops


def labelled_window(
    pyramid: Pyramid,
    window: Mapping[str, Any],
    scale: float | tuple[float, float],
    interpolation: str,
    fill: float,
) -> xarray.DataArray:
    """A window, read and labelled; see `Pyramid.window`."""
    wanted = crop(pyramid, window, scale, interpolation, fill)
    [(image, valid)] = read_crops([wanted])
    return label(wanted, image, valid)
