"""Writers of pyramids from a TIFF: their time, peak memory and size, each in a process of its own.

All are lossless and make levels of halves down to 256 pixels by the mean of 2 x 2 pixels. Imports are not counted,
neither in time nor in memory.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

import ndzarr
from benchmarks.data import Data, Pixels, disk_bytes, windows, write_cog
from benchmarks.harness import Line, Section, Table, fresh, left_out, number, race, spend
from benchmarks.layouts.codecs import FAST, PRESET_CODECS, Codec

if TYPE_CHECKING:
    from benchmarks.peers import Settings

Job = Callable[[], Any]
CHUNK = 128


def chunks(pixels: Pixels) -> Iterator[Pixels]:
    """The whole chunks (..., CHUNK, CHUNK) of an image."""
    height, width = pixels.shape[-2:]
    for y in range(0, height - CHUNK + 1, CHUNK):
        for x in range(0, width - CHUNK + 1, CHUNK):
            yield np.ascontiguousarray(pixels[..., y : y + CHUNK, x : x + CHUNK])


def encode_all(pieces: Sequence[Pixels], codec: Codec = FAST) -> None:
    """Encode chunks in as many threads as there are processors, and keep nothing."""
    groups = [pieces[i : i + 16] for i in range(0, len(pieces), 16)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda group: [len(codec.encode(piece)) for piece in group], groups):
            pass


def _ndzarr(preset: str, source: Path, dest: Path) -> Job:
    import cv2  # noqa: F401 - levels are halved with it

    ndzarr.open(source)  # imports the reader of TIFF
    return partial(ndzarr.transcode, source, dest, preset=preset)


def _encode_only(preset: str, source: Path, dest: Path) -> Job:
    """Encoding the chunks of all levels of a store, from memory to nowhere."""
    pyramid = ndzarr.open(dest.parent / "ndzarr-fast")
    pieces = [piece for k in range(len(pyramid.levels)) for piece in chunks(pyramid.read(k))]
    return partial(encode_all, pieces, PRESET_CODECS[preset])


def _cog(compression: str, source: Path, dest: Path) -> Job:
    import rasterio.shutil  # noqa: F401

    return partial(write_cog, source, dest, COMPRESS=compression.upper(), PREDICTOR="YES")


def _factors(edge: int) -> list[int]:
    return [2**k for k in range(1, max(2, (edge // 256).bit_length()))]


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
    storage = {"chunks": (3, 128, 128), "shards": (3, 1024, 1024)}
    how = {"scale_factors": _factors(lazy.shape[1]), "method": Methods.LOCAL_MEAN, "storage_options": storage}
    return partial(write_image, lazy, str(dest), axes="cyx", **how)


WRITERS: dict[str, Callable[[Path, Path], Job]] = {
    "ndzarr fast": partial(_ndzarr, "fast"),
    "encoding alone, fast": partial(_encode_only, "fast"),  # next to what it is compared with
    "ndzarr compact": partial(_ndzarr, "compact"),
    "encoding alone, compact": partial(_encode_only, "compact"),
    "GDAL COG deflate": partial(_cog, "deflate"),
    "GDAL COG zstd": partial(_cog, "zstd"),
    "ngff-zarr": _ngff_zarr,
    "ome-zarr": _ome_zarr,
}
"""Name to what takes (source, dest), imports all that is needed and returns the job that is timed."""
ALONE = "encoding alone"
LIMITS = {"GDAL COG deflate": 2, "GDAL COG zstd": 2, "ngff-zarr": 3, "ome-zarr": 3}
"""How many times as long as `fast` a writer should take at least."""
SIZES = {"fast": 1.4, "compact": 0.97}
"""How large a store of a preset may be relative to each COG."""


def run(name: str, source: str, dest: str) -> dict[str, float]:
    """Run a writer in this process."""
    return spend(WRITERS[name](Path(source), Path(dest)))


def transcode(data: Data, settings: Settings) -> Section:
    """Item 6: from an uncompressed tiled TIFF to a pyramid."""
    work = data.folder / "written"
    work.mkdir(exist_ok=True)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in WRITERS}
    sizes: dict[str, float] = {}
    missing: dict[str, str] = {}
    for _ in range(settings.rounds):
        for name in WRITERS:
            if name in missing:
                continue
            dest = work / name.replace(" ", "-").replace(",", "")
            shutil.rmtree(dest) if dest.is_dir() else dest.unlink(missing_ok=True)
            call = f"run({name!r}, {str(data.tif)!r}, {str(dest)!r})"
            try:
                runs[name].append(fresh(f"import json; from benchmarks.writers import run; print(json.dumps({call}))"))
            except ImportError as error:
                missing[name] = f"{name} ({error})"
                continue
            if dest.exists():
                sizes[name] = disk_bytes(dest) / 1e6
    times = {name: median(r["seconds"] for r in taken) for name, taken in runs.items() if taken}
    peaks = {name: median(r["peak"] for r in taken) for name, taken in runs.items() if taken and ALONE not in name}
    rows = [
        (
            name,
            f"{seconds:.2f}",
            f"{seconds / times['ndzarr fast']:.2f}",
            f"{sizes[name]:.0f}" if name in sizes else "",
            f"{peaks[name]:.0f}" if name in peaks else "",
        )
        for name, seconds in times.items()
    ]
    wanted = windows(data.size, 256, settings.crops, settings.seed)
    opened = {preset: ndzarr.open(data.pyramid(preset)) for preset in SIZES}
    reads = {name: partial(lambda p, i: p.read(**wanted[i]), pyramid) for name, pyramid in opened.items()}
    slower = race(reads, len(wanted), settings.rounds).ratio("compact", "fast")
    lines = [
        Line("6", f"transcode: {name} / ndzarr fast", times[name] / times["ndzarr fast"], limit, at_least=True)
        for name, limit in LIMITS.items()
        if name in times
    ]
    lines += [
        Line("6", f"size: {preset} / {cog}", sizes[f"ndzarr {preset}"] / sizes[cog], limit)
        for preset, limit in SIZES.items()
        for cog in sizes
        if cog.startswith("GDAL")
    ]
    lines.append(Line("6", "crop: compact / fast", slower, 1.8))
    for preset in SIZES:
        pairs = zip(runs[f"ndzarr {preset}"], runs[f"{ALONE}, {preset}"], strict=True)
        share = median(whole["seconds"] / alone["seconds"] for whole, alone in pairs)
        lines.append(Line("6", f"transcode: ndzarr {preset} / encoding alone", share, 1.5))
    lines.append(Line("6", "peak memory of transcoding", max(peaks[f"ndzarr {p}"] for p in SIZES), 400, unit=" MiB"))
    return Section(
        "6. Transcoding",
        Table(("writer", "seconds", "/ ndzarr fast", "MB", "peak MiB"), rows),
        lines,
        [
            f"{data.size} x {data.size} x 3 uint8 from an uncompressed TIFF of tiles of 256 x 256, all levels included,"
            f" each in a process of its own, the median of {settings.rounds} in turn. Imports are not counted, neither "
            "in time nor in memory; files are in the system's cache, and ndzarr alone flushes what it wrote to the "
            "disk. `Encoding alone` encodes the same chunks of all levels from memory in as many threads, without "
            "checksums, and writes nothing. GDAL's driver has all processors, average overviews and blocks of 512; "
            "ngff-zarr writes chunks of 512 x 512 through tensorstore and ome-zarr chunks of 128 x 128 in shards of "
            "1024 x 1024, with their default codecs.",
            f"Crops of 256 x 256 take {number(slower)} times as long from `compact` as from `fast`.",
            *left_out(list(missing.values())),
        ],
    )
