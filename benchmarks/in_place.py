"""How fast are windows of COGs that are read where they lie, beside GDAL's?

    python -m benchmarks.in_place                         # ten COGs of 8192 x 8192, about ten minutes, 2 GB of files
    python -m benchmarks.in_place --quick                 # a small image, once: to see that it works
    python -m benchmarks.in_place --dir data              # keep the files there, and use them again
    python -m benchmarks.in_place --cache 512             # both keep so many megabytes of decoded tiles

GDAL's COG driver writes the files.  Readers take turns on the same random windows (`benchmarks.race`); before that, the
pixels of each are compared.  Decoded tiles are kept by nobody: GDAL's block cache, which cannot be turned off, gets
16 MB, the blocks of a few windows.  With `--cache`, GDAL and ndzarr keep as much.

ndzarr decodes the tiles of a window in as many threads as there are processors; GDAL does where a file is opened with
NUM_THREADS, which rasterio does not do unless it is told to.  So there are rows for both, with threads and without.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import ndzarr
from benchmarks.data import COG_OPTIONS, Data, made, version_of
from benchmarks.race import Race, race
from benchmarks.readers import GDAL_CACHE_MB
from benchmarks.report import Table, load, machine, milliseconds, number
from ndzarr._store.read import execute

COMPRESSIONS = ("deflate", "zstd", "jpeg", "lzw", "none")
BLOCKS = (512, 256)
EDGE = 256
HEADER = (
    "COG", "MB", "ndzarr", "one thread", "rasterio, kept open", "with threads", "opened per crop",
    "kept open / ndzarr", "/ one thread", "opened / ndzarr",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table of milliseconds per crop."""
    args = _arguments(argv)
    size, crops, rounds = (2048, 20, 1) if args.quick else (args.size, args.crops, args.rounds)
    warnings.simplefilter("ignore")  # rasterio's, of files without a place on earth
    print(f"{machine()}. {load()}.")
    print(f"{size} x {size} x 3 uint8, {crops} crops of {EDGE} x {EDGE}, {rounds} rounds, medians in ms.")
    print(f"GDAL_CACHEMAX={args.cache or GDAL_CACHE_MB} MB; ndzarr keeps {args.cache or 0} MB of tiles.\n")
    with nullcontext(args.dir) if args.dir else tempfile.TemporaryDirectory(prefix="ndzarr-in-place-") as folder:
        source = Path(__file__).with_name("photographs.py")
        data = Data(Path(folder) / f"{size}-{version_of(source)}", size)
        rows = []
        for compression in args.only.split(","):
            for block in BLOCKS:
                path = cog(data, compression, block)
                found = measure(path, size, crops, rounds, args.cache)
                rows.append(_row(f"{compression}, {block}", path, found))
                print(" | ".join(rows[-1]), flush=True)
    print(f"\n{Table(HEADER, rows)}\n\n{load()}")


def cog(data: Data, compression: str, block: int) -> Path:
    """GDAL's COG of the photograph; predictor 2 for deflate and zstd, quality 90 for JPEG."""

    def write(path: Path) -> None:
        import rasterio.shutil

        options = {**COG_OPTIONS, "BLOCKSIZE": block, "COMPRESS": compression}
        options["PREDICTOR"] = "YES" if compression in ("deflate", "zstd") else "NO"
        if compression == "jpeg":
            options["QUALITY"] = 90
        rasterio.shutil.copy(data.tif, path, driver="COG", **options)

    return made(data.folder / f"in-place-{compression}-{block}.tif", write)


def measure(path: Path, size: int, crops: int, rounds: int, cache: int | None) -> Race:
    """Let all readers of a file take turns."""
    import rasterio
    from rasterio.windows import Window

    rng = random.Random(0)
    corners = [(rng.randrange(size - EDGE), rng.randrange(size - EDGE)) for _ in range(crops)]
    windows = [Window(x, y, EDGE, EDGE) for y, x in corners]
    slices = [{"y": slice(y, y + EDGE), "x": slice(x, x + EDGE)} for y, x in corners]
    pyramid = ndzarr.open(path, cache_bytes=(cache or 0) << 20)

    def opened(i: int) -> Any:
        with rasterio.open(path) as dataset:
            return dataset.read(window=windows[i])

    with (
        rasterio.Env(GDAL_CACHEMAX=cache or GDAL_CACHE_MB),
        rasterio.open(path) as kept,
        rasterio.open(path, num_threads="ALL_CPUS", sharing=False) as threaded,
    ):
        readers: dict[str, Callable[[int], Any]] = {
            "ndzarr": lambda i: pyramid.read(**slices[i]),
            "one thread": lambda i: execute(pyramid.plan([slices[i]]), cache=pyramid.cache, threads=1)[0],
            "kept": lambda i: kept.read(window=windows[i]),
            "threaded": lambda i: threaded.read(window=windows[i]),
            "opened": opened,
        }
        for i in range(min(10, crops)):
            wanted = readers["kept"](i)
            for name, read in readers.items():
                difference = np.abs(read(i).astype(int) - wanted)
                # GDAL's libjpeg and libjpeg-turbo, which tifffile uses, interpolate chroma differently.
                same = difference.mean() < 1 if "jpeg" in path.name else not difference.any()
                assert same, f"{name} reads other pixels of {path}"
        return race(readers, crops, rounds)


def _row(name: str, path: Path, found: Race) -> tuple[str, ...]:
    times = [milliseconds(found.median(reader)) for reader in found.names]
    ratios = [("kept", "ndzarr"), ("kept", "one thread"), ("opened", "ndzarr")]
    return (
        name,
        f"{os.stat(path).st_size / 1e6:.0f}",
        *times,
        *(f"{number(found.ratio(slow, fast))}x" for slow, fast in ratios),
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.in_place",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a small image, few crops: numbers mean little")
    parser.add_argument("--size", type=int, default=8192, help="edge of the image in pixels (8192)")
    parser.add_argument("--crops", type=int, default=150, help="windows per race (150)")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is read (3)")
    parser.add_argument("--cache", type=int, metavar="MB", help="keep so many megabytes of decoded tiles")
    parser.add_argument("--only", default=",".join(COMPRESSIONS), help=f"of {','.join(COMPRESSIONS)}")
    parser.add_argument("--dir", type=Path, help="keep the data here, and use what is there")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
