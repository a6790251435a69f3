"""How large is a COG of the same image, which the sizes of stores are compared with?

An estimate from its tiles alone, which needs no GDAL, and the file that GDAL writes, where rasterio is installed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import imagecodecs
import numcodecs.zstd
import numpy as np

from benchmarks.layouts.chunks import Layout, chunks
from benchmarks.layouts.codecs import Array, Zstd


def levels(image: Array, nearest: bool) -> Iterator[Array]:
    """Yield ``image`` (c, y, x) and its halvings until one fits into 256 pixels."""
    yield image
    while max(image.shape[1:]) > 256:
        shape = (-(-image.shape[2] // 2), -(-image.shape[1] // 2))
        method = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA
        image = np.stack([cv2.resize(plane, shape, interpolation=method) for plane in image])
        yield image


def estimated_cog(image: Array) -> int:
    """Return the bytes of the 512-pixel tiles of a COG with zstd level 9, with the predictor or without, as is less."""
    tiles = [np.ascontiguousarray(tile) for tile in chunks(image, Layout(Zstd(9), "interleaved", 512))]
    plain = sum(len(numcodecs.zstd.compress(tile, 9)) for tile in tiles)
    if image.dtype.kind == "f":
        predicted = (imagecodecs.floatpred_encode(tile, axis=-2) for tile in tiles)
    else:
        predicted = (np.diff(tile, axis=1, prepend=np.zeros_like(tile[:, :1])) for tile in tiles)
    return min(plain, sum(len(numcodecs.zstd.compress(np.ascontiguousarray(tile), 9)) for tile in predicted))


def gdal_cog(image: Array, nearest: bool) -> int | None:
    """Return the size of the COG that GDAL writes with zstd level 9 and a predictor; None without rasterio."""
    try:
        import rasterio
        from rasterio.shutil import copy
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        plain, cog = Path(folder, "plain.tif"), Path(folder, "cog.tif")
        count, height, width = image.shape
        profile = {"count": count, "height": height, "width": width, "dtype": image.dtype, "driver": "GTiff"}
        with rasterio.open(plain, "w", **profile) as target:
            target.write(image)
        how = {"RESAMPLING": "NEAREST" if nearest else "AVERAGE", "COMPRESS": "ZSTD", "LEVEL": 9}
        copy(plain, cog, driver="COG", PREDICTOR="NO" if nearest else "YES", **how)
        return cog.stat().st_size
