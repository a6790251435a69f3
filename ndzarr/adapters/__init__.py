"""
Pyramids in the shape of other libraries' readers, for code by others that takes any object of that shape.

`Raster` reads as a dataset of rasterio, `Slide` as a slide of OpenSlide. `ndzarr.adapters.torchgeo` has a GeoDataset.
"""

from ndzarr.adapters.raster import Raster
from ndzarr.adapters.slide import Slide

__all__ = ["Raster", "Slide"]
