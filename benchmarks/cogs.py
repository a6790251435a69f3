"""Is a COG exported as quickly as GDAL writes one, and is it as small?

`python -m benchmarks.cogs` writes the same photograph with `ndzarr.export_cog`, from a pyramid, and with GDAL's COG
driver (through rasterio), from an uncompressed tiled TIFF, with the same compression, predictor, level, quality and
block size, each on two threads.  They take turns; what counts are the medians of the ratios of neighbouring runs.

GDAL also makes the overviews, which a pyramid already has; so the table has `--from-image` too, which transcodes first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ndzarr
from benchmarks.photographs import elevation, photograph
from benchmarks.report import Table, load, machine

COMPRESSIONS = ("deflate", "zstd", "lzw", "jpeg", "webp", "none")
THREADS = 2
PREDICTED = ("deflate", "zstd", "lzw")


def make_sources(folder: Path, size: int) -> tuple[Path, Path]:
    """(TIFF, pyramid) of a photograph."""
    import rasterio

    tif, store = folder / "source.tif", folder / "source.zarr"
    pixels = photograph(size, size)
    profile = {"driver": "GTiff", "height": size, "width": size, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    with rasterio.open(tif, "w", **profile, tiled=True, interleave="pixel") as file:
        file.write(pixels)
    ndzarr.transcode(pixels, store, channels=["r", "g", "b"])
    return tif, store


def gdal(source: Path, dest: Path, compression: str) -> None:
    """GDAL's COG driver."""
    from rasterio.shutil import copy

    options = {"PREDICTOR": "YES"} if compression in PREDICTED else {}
    dest.unlink(missing_ok=True)
    copy(
        source, dest, driver="COG", COMPRESS=compression.upper(), BLOCKSIZE=512, OVERVIEW_RESAMPLING="AVERAGE",
        NUM_THREADS=THREADS, **options,
    )  # fmt: skip


def export(store: Path, dest: Path, compression: str) -> None:
    """Ours, from a pyramid."""
    ndzarr.export_cog(store, dest, compression=compression, overwrite=True, workers=THREADS)


def from_image(source: Path, dest: Path, compression: str) -> None:
    """Ours, from the image: `ndzarr cog --from-image`."""
    with tempfile.TemporaryDirectory(dir=dest.parent) as work:
        pyramid = ndzarr.transcode(source, Path(work, "a.zarr"), workers=THREADS)
        ndzarr.export_cog(pyramid, dest, compression=compression, overwrite=True, workers=THREADS)


def timed(work: Callable[..., Any], *args: Any) -> float:
    """Seconds."""
    start = time.perf_counter()
    work(*args)
    return time.perf_counter() - start


def compare(folder: Path, size: int, rounds: int) -> Table:
    """One row per compression."""
    tif, store = make_sources(folder, size)
    ours, theirs, whole = (folder / f"{name}.tif" for name in ("ours", "gdal", "whole"))
    rows = []
    for compression in COMPRESSIONS:
        runs = [
            (
                timed(export, store, ours, compression),
                timed(gdal, tif, theirs, compression),
                timed(from_image, tif, whole, compression),
            )
            for _ in range(rounds)
        ]
        export_s, gdal_s, whole_s = (statistics.median(column) for column in zip(*runs, strict=True))
        speed = statistics.median(b / a for a, b, _ in runs)
        through = statistics.median(b / c for _, b, c in runs)
        ratio = ours.stat().st_size / theirs.stat().st_size
        cells = (export_s, gdal_s, whole_s)
        rows.append(
            (
                compression,
                *(f"{s:.2f}" for s in cells),
                f"{speed:.2f}x",
                f"{through:.2f}x",
                f"{100 * (ratio - 1):+.1f}%",
            )
        )
    header = ("compression", "export s", "GDAL s", "from image s", "GDAL / export", "GDAL / from image", "size")
    return Table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8192, help="pixels along each side")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # rasterio's, that the image has no place on earth
    print(f"{machine()}. {load()}. {options.size} x {options.size} x 3 uint8, medians of {options.rounds} rounds.\n")
    with tempfile.TemporaryDirectory() as folder:
        print(compare(Path(folder), options.size, options.rounds))


def sources_for_asv(folder: Path) -> dict[str, Path]:
    """Small pyramids of a photograph and of heights."""
    out = {"photograph": folder / "photograph.zarr", "heights": folder / "heights.zarr"}
    ndzarr.transcode(photograph(2048, 2048), out["photograph"], channels=["r", "g", "b"], overwrite=True)
    ndzarr.transcode(np.asarray(elevation(2048, 2048)), out["heights"], overwrite=True)
    return out


if __name__ == "__main__":
    main()
