"""Windows of COGs that are read in place, beside GDAL.

    python -m benchmarks.in_place                         # ten COGs of 8192 x 8192, about ten minutes, 2 GB of files
    python -m benchmarks.in_place --quick                 # a small image, once: to see that it works
    python -m benchmarks.in_place --dir data              # keep the files there, and use them again
    python -m benchmarks.in_place --cache 512             # both keep so many megabytes of decoded tiles

GDAL's COG driver writes the files. Readers take turns on the same random windows; before that, the pixels of each are
compared. Nobody keeps decoded tiles: GDAL's block cache, which cannot be turned off, gets 16 MB, the blocks of a few
windows. With `--cache`, GDAL and ndzarr keep as much.

ndzarr decodes the tiles of a window in as many threads as there are processors; GDAL does where a file is opened with
NUM_THREADS, which rasterio does not do unless it is told to. So there are rows for both, with threads and without.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import ndzarr
from benchmarks.data import Data, windows
from benchmarks.harness import Race, Report, Section, Table, chosen, milliseconds, number, options, race, workspace
from benchmarks.readers import GDAL_CACHE_MB, rasterio_open, read_rasterio, read_rasterio_opened, small_gdal_cache
from ndzarr._store.read import execute

COMPRESSIONS = ("deflate", "zstd", "jpeg", "lzw", "none")
BLOCKS = (512, 256)
EDGE = 256
HEADER = (
    "COG", "MB", "ndzarr", "one thread", "rasterio, kept open", "with threads", "opened per crop",
    "kept open / ndzarr", "/ one thread", "opened / ndzarr",
)  # fmt: skip


def measure(path: Path, size: int, crops: int, rounds: int, cache: int) -> Race:
    """Let all readers of a file take turns."""
    wanted = windows(size, EDGE, crops)
    pyramid = ndzarr.open(path, cache_bytes=cache << 20)
    with (
        small_gdal_cache(cache or GDAL_CACHE_MB),
        rasterio_open(path) as kept,
        rasterio_open(path, num_threads="ALL_CPUS", sharing=False) as threaded,
    ):
        readers: dict[str, Callable[[int], Any]] = {
            "ndzarr": lambda i: pyramid.read(**wanted[i]),
            "one thread": lambda i: execute(pyramid.plan([wanted[i]]), cache=pyramid.cache, threads=1)[0],
            "kept": lambda i: read_rasterio(kept, **wanted[i]),
            "threaded": lambda i: read_rasterio(threaded, **wanted[i]),
            "opened": lambda i: read_rasterio_opened(path, **wanted[i]),
        }
        for i in range(min(10, crops)):
            truth = readers["kept"](i)
            for name, read in readers.items():
                difference = np.abs(read(i).astype(int) - truth)
                # GDAL's libjpeg and libjpeg-turbo, which tifffile uses, interpolate chroma differently.
                same = difference.mean() < 1 if "jpeg" in path.name else not difference.any()
                assert same, f"{name} reads other pixels of {path}"
        return race(readers, crops, rounds)


def _row(name: str, path: Path, found: Race) -> tuple[str, ...]:
    ratios = [("kept", "ndzarr"), ("kept", "one thread"), ("opened", "ndzarr")]
    return (
        name,
        f"{path.stat().st_size / 1e6:.0f}",
        *(milliseconds(found.median(reader)) for reader in found.names),
        *(f"{number(found.ratio(slow, fast))}x" for slow, fast in ratios),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table of milliseconds per crop."""
    args = options(
        "in_place", __doc__, argv,
        quick=(False, "a small image, few crops: numbers mean little"),
        size=(8192, "edge of the image in pixels"),
        crops=(150, "windows per race"),
        rounds=(3, "times that each is read"),
        cache=(0, "megabytes of decoded tiles to keep"),
        only=(",".join(COMPRESSIONS), "some of the compressions"),
        dir=(None, "keep the data here, and use what is there"),
        out=(None, "put the table between the markers of this page"),
    )  # fmt: skip
    size, crops, rounds = (2048, 20, 1) if args.quick else (args.size, args.crops, args.rounds)
    warnings.simplefilter("ignore")  # rasterio's, of files without a place on earth
    report = Report(f"{size} x {size} x 3 uint8, {crops} crops of {EDGE} x {EDGE}, {rounds} rounds, medians in ms")
    rows = []
    with workspace(args.dir) as folder:
        data = Data.within(folder, size)
        for compression in chosen(args.only, dict.fromkeys(COMPRESSIONS)):
            for block in BLOCKS:
                path = data.cog(compression, block)
                rows.append(_row(f"{compression}, {block}", path, measure(path, size, crops, rounds, args.cache)))
                print(" | ".join(rows[-1]), flush=True)
    note = f"GDAL_CACHEMAX={args.cache or GDAL_CACHE_MB} MB; ndzarr keeps {args.cache} MB of tiles."
    report.add(Section("COGs in place", Table(HEADER, rows), notes=[note]))
    report.write("in_place", args.out)


if __name__ == "__main__":
    main()
