"""COGs that `ndzarr.export_cog` writes beside those of GDAL's driver: speed and size.

`python -m benchmarks.cogs` writes the same photograph from a pyramid, and with GDAL (through rasterio) from an
uncompressed tiled TIFF, with the same compression, predictor, level, quality and block size, each on two threads. They
take turns; medians of the ratios of neighbouring runs count. GDAL also makes the overviews, which a pyramid already
has; so the table has `--from-image` too, which transcodes first.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np

import ndzarr
from benchmarks.data import Data, write_cog
from benchmarks.harness import Report, Section, Table, options, timed, workspace

COMPRESSIONS = ("deflate", "zstd", "lzw", "jpeg", "webp", "none")
THREADS = 2
PREDICTED = ("deflate", "zstd", "lzw")


def gdal(source: Path, dest: Path, compression: str) -> None:
    """GDAL's COG driver."""
    dest.unlink(missing_ok=True)
    predictor = {"PREDICTOR": "YES"} if compression in PREDICTED else {}
    write_cog(source, dest, COMPRESS=compression.upper(), BLOCKSIZE=512, NUM_THREADS=THREADS, **predictor)


def from_image(source: Path, dest: Path, compression: str) -> None:
    """Ours, from the image: `ndzarr cog --from-image`."""
    with tempfile.TemporaryDirectory(dir=dest.parent) as work:
        pyramid = ndzarr.transcode(source, Path(work, "a.zarr"), workers=THREADS)
        ndzarr.export_cog(pyramid, dest, compression=compression, overwrite=True, workers=THREADS)


def compare(data: Data, compression: str, rounds: int) -> tuple[str, ...]:
    """A row of the table."""
    ours, theirs, whole = (data.folder / f"written-{name}.tif" for name in ("ours", "gdal", "whole"))
    tif, store = data.tif, data.pyramid()
    how = {"compression": compression, "overwrite": True, "workers": THREADS}
    runs = np.array([
        (
            timed(lambda: ndzarr.export_cog(store, ours, **how)),
            timed(lambda: gdal(tif, theirs, compression)),
            timed(lambda: from_image(tif, whole, compression)),
        )
        for _ in range(rounds)
    ])  # fmt: skip
    speed, through = np.median(runs[:, 1] / runs[:, 0]), np.median(runs[:, 1] / runs[:, 2])
    larger = 100 * (ours.stat().st_size / theirs.stat().st_size - 1)
    seconds = (f"{s:.2f}" for s in np.median(runs, axis=0))
    return compression, *seconds, f"{speed:.2f}x", f"{through:.2f}x", f"{larger:+.1f}%"


def main() -> None:
    """Measure, and print a table."""
    args = options(
        "cogs", __doc__,
        size=(8192, "pixels along each side"),
        rounds=(3, "of each"),
        dir=(None, "keep the files here"),
        out=(None, "put the table between the markers of this page"),
    )  # fmt: skip
    warnings.simplefilter("ignore")  # rasterio's, that the image has no place on earth
    report = Report(f"{args.size} x {args.size} x 3 uint8, medians of {args.rounds} rounds")
    with workspace(args.dir) as folder:
        data = Data.within(folder, args.size)
        rows = [compare(data, compression, args.rounds) for compression in COMPRESSIONS]
    header = ("compression", "export s", "GDAL s", "from image s", "GDAL / export", "GDAL / from image", "size")
    report.add(Section("COGs", Table(header, rows)))
    report.write("cogs", args.out)


if __name__ == "__main__":
    main()
