"""GeoTIFFs of many kinds, written by GDAL."""

import warnings

import pytest
import rasterio
from rasterio.crs import CRS

import ndzarr
from helpers.arrays import photo
from helpers.georeferences import KINDS


@pytest.fixture
def geotiff(tmp_path):
    """Writes a GeoTIFF of a kind, and returns its path."""

    def write(kind="utm", name="a.tif", height=300, width=400, pixels=None, **changes):
        how = {**KINDS.get(kind, {}), **changes}
        tags = how.pop("tags", {})
        crs = how.pop("crs", None)
        pixels = photo(height, width).transpose(2, 0, 1) if pixels is None else pixels
        profile = {"driver": "GTiff", "count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            crs = None if crs is None else CRS.from_user_input(crs)
            with rasterio.open(tmp_path / name, "w", **profile, dtype=pixels.dtype, crs=crs, **how) as file:
                file.write(pixels)
                file.update_tags(**tags)
        return tmp_path / name

    return write


@pytest.fixture
def pyramid(geotiff, tmp_path):
    """Makes a pyramid of a GeoTIFF of a kind."""

    def make(kind="utm", **changes):
        return ndzarr.transcode(geotiff(kind, **changes), tmp_path / "a.zarr", overwrite=True)

    return make
