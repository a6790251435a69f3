"""Readers of tests/openness/readers.py that tests need anyway find what was written."""

from pathlib import Path

import numpy as np
import pytest

import ndzarr
from openness.readers import READERS, digest

QUICK = ("zarr-python", "tensorstore", "xarray", "rioxarray", "odc-geo")
TRANSFORM = (10.0, 0.0, 300000.0, 0.0, -10.0, 7000000.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A store, the same one in a file, and what readers have to find."""
    rasterio = pytest.importorskip("rasterio")
    folder = tmp_path_factory.mktemp("readers")
    pixels = np.linspace(-500, 500, 150 * 260, dtype="f4").reshape(1, 150, 260)
    pixels[:, :40, :50] = -9999
    how = {"driver": "GTiff", "count": 1, "height": 150, "width": 260, "dtype": "float32", "crs": "EPSG:3067"}
    with rasterio.open(folder / "a.tif", "w", **how, nodata=-9999, transform=rasterio.Affine(*TRANSFORM)) as file:
        file.write(pixels)
    pyramid = ndzarr.transcode(folder / "a.tif", folder / "a.zarr")
    zipped = ndzarr.transcode(folder / "a.tif", folder / "a.ozx")
    facts = {
        "pixels": [digest(pyramid.read(k)) for k in (0, 1)],
        "pixels0": digest(pixels),
        "axes": ["c", "y", "x"],
        "channels": ["gray"],
        "scale": [[1, 10, 10], [1, 20, 20]],
        "translation": [[0, 0, 0], [0, 5, 5]],
        "epsg": 3067,
        "transform": list(TRANSFORM),
        "nodata": -9999,
        "fill": -9999,
    }
    return pyramid.path, zipped.path, facts


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", QUICK)
def test_it_finds_what_was_written(written, reader):
    pytest.importorskip("pyproj")
    pytest.importorskip(reader.replace("-python", "").replace("-", "_").replace("odc_geo", "odc.geo"))
    folder, zipped, facts = written
    for path in (folder, zipped):
        found = READERS[reader](Path(path))
        assert found
        assert found == {key: facts[key] for key in found}
