"""How long does a library take to make a pyramid from a TIFF, and how much memory beyond its own imports?

Each writer runs in a process of its own, `python -m benchmarks.writers NAME SOURCE DEST`, which prints seconds and
mebibytes as JSON: imports are not timed, and the peak is that of the process minus what it was after the imports.  The
peak is Linux's `VmHWM`, the same quantity as getrusage's `ru_maxrss`, but for the process alone: a child's `ru_maxrss`
starts at the size of its parent.

All are lossless and make levels of halves down to 256 pixels, by the mean of 2 x 2 pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

Job = Callable[[], Any]
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Writer:
    """One way to write a pyramid."""

    name: str
    prepare: Callable[[Path, Path], Job]
    """(source, dest) to what is timed; imports, and reads what is not to be timed."""


@dataclass(frozen=True)
class Run:
    """What one run took."""

    seconds: float
    peak: float
    """MiB above what the process took before."""


class NotInstalledError(Exception):
    """A writer's package is missing."""


def run(name: str, source: Path, dest: Path) -> Run:
    """
    Run a writer in a process of its own; what was at `dest` is removed.

    Raises
    ------
    NotInstalledError
        Its package is missing.
    """
    if dest.is_dir():
        shutil.rmtree(dest)
    dest.unlink(missing_ok=True)
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.writers", name, str(source), str(dest)]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    if done.returncode == MISSING:
        raise NotInstalledError(done.stdout.strip())
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    return Run(**json.loads(done.stdout.splitlines()[-1]))


MISSING = 3
"""Exit code of a process whose package is not there."""


def _ndzarr(preset: str) -> Callable[[Path, Path], Job]:
    def prepare(source: Path, dest: Path) -> Job:
        import ndzarr
        import ndzarr._formats.tiff.open
        import ndzarr._pyramid.transcode

        return lambda: ndzarr.transcode(source, dest, preset=preset)

    return prepare


TASK = 16
"""Chunks that a thread encodes at a time."""


def _encode_only(preset: str) -> Callable[[Path, Path], Job]:
    """Encoding the chunks of all levels of a store, from memory to nowhere, in as many threads as transcoding takes."""

    def prepare(source: Path, dest: Path) -> Job:
        import ndzarr

        pyramid = ndzarr.open(source)
        levels = [(pyramid.read(k), level.array.codec) for k, level in enumerate(pyramid.levels)]  # type: ignore[union-attr]
        tasks = []
        for pixels, codec in levels:
            grid = [range(0, n, c) for n, c in zip(pixels.shape, codec.shape, strict=True)]
            cuts = [tuple(slice(i, i + c) for i, c in zip(at, codec.shape, strict=True)) for at in product(*grid)]
            tasks += [(pixels, codec, cuts[i : i + TASK]) for i in range(0, len(cuts), TASK)]

        def encode(pixels: Any, codec: Any, cuts: list[tuple[slice, ...]]) -> int:
            return sum(len(codec.encode(pixels[cut])) for cut in cuts if pixels[cut].shape == codec.shape)

        def job() -> int:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return sum(pool.map(lambda task: encode(*task), tasks))

        return job

    return prepare


def _cog(compression: str) -> Callable[[Path, Path], Job]:
    def prepare(source: Path, dest: Path) -> Job:
        import rasterio.shutil  # noqa: F401

        from benchmarks.data import write_cog

        return lambda: write_cog(source, dest, compression)

    return prepare


def _factors(edge: int) -> list[int]:
    out = [2]
    while edge // out[-1] > 256:
        out.append(2 * out[-1])
    return out


def _lazy(source: Path) -> Any:
    """The pixels (y, x, c) of a TIFF as a dask array of its tiles."""
    import dask.array
    import tifffile
    import zarr

    return dask.array.from_zarr(zarr.open_array(tifffile.imread(source, aszarr=True), mode="r"))


def _ngff_zarr(source: Path, dest: Path) -> Job:
    """Its writer through tensorstore, chunks of 512 x 512: faster than through zarr-python, and than shards."""
    import ngff_zarr

    lazy = _lazy(source)

    def job() -> None:
        image = ngff_zarr.to_ngff_image(lazy, dims=["y", "x", "c"])
        method = ngff_zarr.Methods.DASK_BIN_SHRINK
        levels = ngff_zarr.to_multiscales(image, scale_factors=_factors(lazy.shape[0]), method=method, chunks=512)
        ngff_zarr.to_ngff_zarr(dest, levels, version="0.5", use_tensorstore=True)

    return job


def _ome_zarr(source: Path, dest: Path) -> Job:
    """Its writer from blocks of 1024 x 1024, which is faster than from the TIFF's tiles, to shards of that size."""
    import dask.array
    from ome_zarr.scale import Methods
    from ome_zarr.writer import write_image

    lazy = dask.array.moveaxis(_lazy(source).rechunk((1024, 1024, -1)), -1, 0)
    options = {"chunks": (3, 128, 128), "shards": (3, 1024, 1024)}
    factors = _factors(lazy.shape[1])
    return lambda: write_image(
        lazy, str(dest), scale_factors=factors, method=Methods.LOCAL_MEAN, axes="cyx", storage_options=options
    )


NDZARR = ("ndzarr fast", "ndzarr compact")
ENCODE = ("encoding alone, fast", "encoding alone, compact")
COGS = ("GDAL COG deflate", "GDAL COG zstd")
ZARRS = ("ngff-zarr", "ome-zarr")

WRITERS = {
    w.name: w
    for w in (
        *[Writer(name, _ndzarr(name.split()[1])) for name in NDZARR],
        *[Writer(name, _encode_only(name.split()[-1])) for name in ENCODE],
        *[Writer(name, _cog(name.split()[-1])) for name in COGS],
        Writer("ngff-zarr", _ngff_zarr),
        Writer("ome-zarr", _ome_zarr),
    )
}


def _resident(field: str) -> float:
    """MiB that this process takes now ('VmRSS') or took at most ('VmHWM')."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(field))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Run one writer and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=WRITERS)
    parser.add_argument("source", type=Path)
    parser.add_argument("dest", type=Path)
    args = parser.parse_args()
    try:
        job = WRITERS[args.name].prepare(args.source, args.dest)
    except ImportError as error:
        print(error)
        sys.exit(MISSING)
    before = _resident("VmHWM")
    start = time.perf_counter()
    job()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": _resident("VmHWM") - before}))


if __name__ == "__main__":
    main()
