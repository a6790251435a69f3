"""Pyramids to export, and what others say about the files."""

import subprocess
import sys

import numpy as np
import pytest

import ndzarr
from helpers.arrays import photo

GDAL_CHECK = """
import sys
from osgeo import gdal
from osgeo_utils.samples.validate_cloud_optimized_geotiff import validate
gdal.UseExceptions()
for path in sys.argv[1:]:
    warnings, errors, _ = validate(gdal.Open(path), full_check=True)
    print(warnings + errors)
"""


@pytest.fixture
def pyramid(tmp_path):
    """Makes a pyramid of an array (c, y, x), or of a photograph of so many channels."""

    def make(pixels=3, name="a.zarr", height=300, width=411, **options):
        if isinstance(pixels, int):
            picture = photo(height, width).transpose(2, 0, 1)
            pixels = np.stack([picture[i % 3] + i // 3 for i in range(pixels)]).astype("u1")
        return ndzarr.transcode(pixels, tmp_path / name, **{"overwrite": True, **options})

    return make


@pytest.fixture
def gdal_check():
    """What GDAL's own checker, in a process of its own, finds wrong with files."""
    pytest.importorskip("osgeo_utils", reason="GDAL's wheels are for newer Pythons only")

    def check(*paths):
        command = [sys.executable, "-c", GDAL_CHECK, *map(str, paths)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    return check
