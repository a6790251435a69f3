"""What the tests of TIFFs that are read where they lie share: a photograph, and files written by others."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.arrays import photo


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache directory, of this test alone."""
    monkeypatch.setenv("NDZARR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """uint8 (y, x, c), of odd size."""
    return photo(301, 413)


def write_gdal(path: Path, pixels: np.ndarray, driver: str = "COG", **options: Any) -> Path:
    """Pixels (c, y, x) as GDAL writes them."""
    rasterio, shutil = pytest.importorskip("rasterio"), pytest.importorskip("rasterio.shutil")
    from rasterio.io import MemoryFile

    profile = {k: options.pop(k) for k in ("nodata", "photometric") if k in options}
    count, height, width = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with MemoryFile() as memory:
            with memory.open(
                driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype, **profile
            ) as target:
                target.write(pixels)
            with memory.open() as source:
                shutil.copy(source, path, driver=driver, **options)
    return path


def read_gdal(path: Path, overview: int | None = None) -> np.ndarray:
    """Pixels (c, y, x) as GDAL reads them."""
    rasterio = pytest.importorskip("rasterio")
    options = {} if overview is None else {"overview_level": overview}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, **options) as source:
            return source.read()


@pytest.fixture
def gdal():
    return write_gdal


@pytest.fixture
def through_gdal():
    return read_gdal
