"""Cloud optimized GeoTIFFs, as GDAL writes them."""

import rasterio
import rasterio.shutil

from helpers.arrays import photo
from helpers.georeferences import NORTH_UP


def write_cog(path, pixels, mask=None, **options):
    """A COG of pixels with axes (c, y, x), as GDAL writes it, with a georeference."""
    c, height, width = pixels.shape
    profile = {"count": c, "height": height, "width": width, "dtype": pixels.dtype, "crs": "EPSG:32633"}
    given = {"BLOCKSIZE": 128, "COMPRESS": "DEFLATE", "OVERVIEW_RESAMPLING": "AVERAGE", **options}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", transform=NORTH_UP, **profile) as dataset:
            dataset.write(pixels)
            if mask is not None:
                dataset.write_mask(mask)
        with memory.open() as dataset:
            rasterio.shutil.copy(dataset, path, driver="COG", **given)


def rgb(height=300, width=400):
    return photo(height, width).transpose(2, 0, 1)


def gray(height, width):
    return photo(height, width)[..., 0]
