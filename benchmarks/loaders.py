"""How fast are torch loaders with two workers, beside what people use today?

    python -m benchmarks.loaders --dir /tmp/loaders --out docs/torch.md

The same 224 x 224 crops of 4096 x 4096 x 3 photographs, in the same random order, through the same torch DataLoader
with two workers: ndzarr, rasterio on COGs (kept open in each worker, and opened per crop), xbatcher on the same Zarr.
Loaders take turns; a turn is an epoch with new workers, without their start, cut short after ten seconds.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

import ndzarr
import ndzarr.torch
from benchmarks.photographs import photograph

SIDE, EDGE, STEP = 4096, 224, 112
"""Pixels of an image, of a crop, and between the places of crops (which are xbatcher's with an overlap of a half)."""
BATCH = 32


class Images:
    """The same photographs as pyramids and as COGs."""

    def __init__(self, folder: Path, number: int) -> None:
        self.pyramids = [folder / f"{k}.zarr" for k in range(number)]
        self.cogs = [folder / f"{k}.tif" for k in range(number)]

    def make(self) -> None:
        """Write what is missing."""
        import rasterio

        for k, (pyramid, cog) in enumerate(zip(self.pyramids, self.cogs, strict=True)):
            if pyramid.exists() and cog.exists():
                continue
            pixels = photograph(SIDE, SIDE, seed=k)
            ndzarr.transcode(pixels, pyramid, axes="cyx", overwrite=True)
            profile = {"driver": "COG", "count": 3, "dtype": "uint8", "height": SIDE, "width": SIDE}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # not georeferenced
                with rasterio.open(cog, "w", **profile, compress="DEFLATE", predictor=2, num_threads=2) as file:
                    file.write(pixels)


class Windows(Dataset[torch.Tensor]):
    """Crops by (image, y, x), read one by one."""

    def __init__(self, paths: list[Path], places: np.ndarray[Any, Any]) -> None:
        self.paths, self.places = paths, places
        self._opened: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, k: int) -> torch.Tensor:
        image, y, x = self.places[k].tolist()
        return torch.from_numpy(self.read(image, y, x))

    def read(self, image: int, y: int, x: int) -> np.ndarray[Any, Any]:
        """A crop (c, y, x)."""
        raise NotImplementedError


class Rasterio(Windows):
    """Windowed reads of COGs, each opened once in each worker."""

    keep = True
    cache = 0
    """Megabytes of decoded blocks that GDAL may keep; 0 for its default, a twentieth of the memory."""

    def read(self, image: int, y: int, x: int) -> np.ndarray[Any, Any]:
        import rasterio
        from rasterio.windows import Window

        if self.cache and not self._opened:
            rasterio.Env(GDAL_CACHEMAX=self.cache).__enter__()  # of this worker, for good
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = self._opened.get(image) or rasterio.open(self.paths[image])
        pixels = file.read(window=Window(x, y, EDGE, EDGE))
        if self.keep:
            self._opened[image] = file
        else:
            file.close()
        return pixels


class RasterioSmallCache(Rasterio):
    """The same where the images are more than the cache holds, as they are outside benchmarks."""

    cache = 64


class RasterioPerCrop(Rasterio):
    """The same, opened for each crop, as torchgeo does without its cache."""

    keep = False


class XBatcher(Windows):
    """Xbatcher's generator over the Zarr that ndzarr wrote, read by xarray without dask."""

    chunks: dict[str, int] | None = None

    @cached_property
    def generators(self) -> list[Any]:
        """One per image, made in the worker."""
        import xarray
        import xbatcher

        found = [xarray.open_zarr(path / "0", consolidated=False, chunks=self.chunks)["image"] for path in self.paths]
        size, overlap = {"y": EDGE, "x": EDGE}, {"y": EDGE - STEP, "x": EDGE - STEP}
        return [xbatcher.BatchGenerator(image, size, overlap, cache=None) for image in found]

    def read(self, image: int, y: int, x: int) -> np.ndarray[Any, Any]:
        columns = (SIDE - EDGE) // STEP + 1
        batch = self.generators[image][y // STEP * columns + x // STEP]
        return np.asarray(batch.transpose("c", "y", "x").values)


class XBatcherDask(XBatcher):
    """The same as its documentation has it: an array of dask's, whose chunks are those of the store."""

    chunks: dict[str, int] | None = {}  # noqa: RUF012


def places(images: int, number: int) -> np.ndarray[Any, Any]:
    """Random (image, y, x), shape (number, 3)."""
    steps = (SIDE - EDGE) // STEP + 1
    return np.random.default_rng(0).integers(0, (images, steps, steps), (number, 3)) * (1, STEP, STEP)


def runners(images: Images, crops: np.ndarray[Any, Any]) -> dict[str, Callable[[], Iterator[Any]]]:
    """What is compared, each as a fresh iterator over all crops."""
    gid, y, x = crops.T
    size = {"width": EDGE, "height": EDGE}
    table = pd.DataFrame({"key": gid, "cy": y + EDGE // 2, "cx": x + EDGE // 2, **size})
    sampler = ndzarr.Sampler(dict(enumerate(images.pyramids)))
    dataset = ndzarr.torch.CropDataset(sampler, table)
    held = {k: ndzarr.open(path, cache_bytes=(SIDE * SIDE * 3)) for k, path in enumerate(images.pyramids)}
    cached = ndzarr.torch.CropDataset(ndzarr.Sampler(held), table)
    options: dict[str, Any] = {"batch_size": BATCH, "num_workers": 2}

    def peer(kind: type[Windows], paths: list[Path]) -> Callable[[], Iterator[Any]]:
        return lambda: iter(DataLoader(kind(paths, crops), **options))

    collate = ndzarr.torch.collate
    return {
        "ndzarr, the same order": lambda: iter(DataLoader(dataset, collate_fn=collate, **options)),
        "ndzarr, the same order, cache of all images": lambda: iter(DataLoader(cached, collate_fn=collate, **options)),
        "ndzarr, shuffled by locality": lambda: iter(
            ndzarr.torch.loader(dataset, BATCH, workers=2, persistent_workers=False)
        ),
        "rasterio, COG deflate, kept open, cache of 64 MB": peer(RasterioSmallCache, images.cogs),
        "rasterio, COG deflate, kept open, cache of all images": peer(Rasterio, images.cogs),
        "rasterio, COG deflate, opened per crop": peer(RasterioPerCrop, images.cogs),
        "xbatcher, the same Zarr, without dask": peer(XBatcher, images.pyramids),
        "xbatcher, the same Zarr, through dask": peer(XBatcherDask, images.pyramids),
    }


def check(found: dict[str, Callable[[], Iterator[Any]]]) -> None:
    """Raise unless all give the same pixels, where the order is the same."""
    first = {name: next(make()) for name, make in found.items() if "locality" not in name}
    pixels = {name: batch["image"] if isinstance(batch, dict) else batch for name, batch in first.items()}
    wanted = pixels["ndzarr, the same order"]
    for name, one in pixels.items():
        if not torch.equal(one, wanted):
            raise ValueError(f"{name} gave other pixels")


PATIENCE = 10
"""Seconds after which a turn of a slow loader ends."""


def crops_per_second(make: Callable[[], Iterator[Any]]) -> float:
    """Crops per second of an epoch, after the first two batches, which wait for the workers to start."""
    batches = make()
    next(batches), next(batches)
    began, count, took = time.perf_counter(), 0, 0.0
    for batch in batches:
        count += len(batch["image"] if isinstance(batch, dict) else batch)
        took = time.perf_counter() - began
        if took > PATIENCE:
            break
    return count / took


def measure(folder: Path, images: int, crops: int, turns: int) -> str:
    """Run all and return a table."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Images(folder, images)
    files.make()
    chosen = places(images, crops)
    found = runners(files, chosen)
    check(found)
    rates: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(turns):
        for name in np.random.default_rng(turn).permutation(list(found)):
            rates[name].append(crops_per_second(found[name]))
    own = rates["ndzarr, the same order"]
    lines = ["| loader, 2 workers | crops/s | ndzarr is |", "| --- | ---: | ---: |"]
    for name, some in rates.items():
        ratio = median(a / b for a, b in zip(own, some, strict=True))
        lines.append(f"| {name} | {median(some):.0f} | {ratio:.1f}x |")
    note = f"{crops} crops of {EDGE} x {EDGE} x 3 from {images} images, batches of {BATCH}, medians of {turns} turns."
    return "\n".join([note, "", *lines])


MARKS = "<!-- benchmarks.loaders -->", "<!-- end -->"


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loaders", description=__doc__.partition("\n")[0])
    parser.add_argument("--dir", type=Path, default=Path("/tmp/ndzarr-loaders"), help="where the images are kept")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--crops", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, metavar="FILE", help="a page to put the table into, between its marks")
    given = parser.parse_args()
    text = measure(given.dir, given.images, given.crops, given.turns)
    print(text)
    if given.out:
        page = given.out.read_text()
        before, rest = page.split(MARKS[0])
        after = rest.split(MARKS[1], 1)[1]
        given.out.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
