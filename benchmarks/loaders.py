"""torch loaders with two workers beside what people use today.

    python -m benchmarks.loaders --dir /tmp/loaders --out docs/torch.md

The same 224 x 224 crops of 4096 x 4096 x 3 photographs, in the same random order, through the same torch DataLoader
with two workers: ndzarr, rasterio on COGs (kept open in each worker, and opened per crop), xbatcher on the same Zarr.
Loaders take turns; a turn is an epoch with new workers, without their start, cut short after ten seconds.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

import ndzarr
from benchmarks.data import Data, Pixels
from benchmarks.harness import Report, Section, Table, options

SIDE, EDGE, STEP = 4096, 224, 112
"""Pixels of an image, of a crop, and between the places of crops (which are xbatcher's with an overlap of a half)."""
BATCH = 32
PATIENCE = 10
"""Seconds after which a turn of a slow loader ends."""
OWN = "ndzarr, the same order"


class Windows:
    """A map-style dataset of crops by (image, y, x), read one by one from files that each worker opens once."""

    def __init__(self, paths: Sequence[Path], places: Pixels) -> None:
        self.paths, self.places = paths, places
        self._opened: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, k: int) -> Any:
        import torch

        image, y, x = self.places[k].tolist()
        if image not in self._opened:
            self._opened[image] = self.open(self.paths[image])
        return torch.from_numpy(self.read(self._opened[image], y, x))

    def open(self, path: Path) -> Any:
        raise NotImplementedError

    def read(self, opened: Any, y: int, x: int) -> Pixels:
        """A crop (c, y, x)."""
        raise NotImplementedError


class Rasterio(Windows):
    """Windowed reads of COGs.

    `cache` is how many megabytes of decoded blocks GDAL may keep, 0 for its default, a twentieth of the memory.
    """

    def __init__(self, paths: Sequence[Path], places: Pixels, cache: int = 0) -> None:
        super().__init__(paths, places)
        self.cache = cache

    def open(self, path: Path) -> Any:
        import rasterio

        if self.cache and not self._opened:
            rasterio.Env(GDAL_CACHEMAX=self.cache).__enter__()  # for this worker, for good
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not georeferenced
            return rasterio.open(path)

    def read(self, opened: Any, y: int, x: int) -> Pixels:
        from rasterio.windows import Window

        return opened.read(window=Window(x, y, EDGE, EDGE))  # type: ignore[no-any-return]


class RasterioPerCrop(Rasterio):
    """The same, opened for each crop, as torchgeo does without its cache."""

    def open(self, path: Path) -> Any:
        return path

    def read(self, opened: Any, y: int, x: int) -> Pixels:
        with super().open(opened) as file:
            return super().read(file, y, x)


class XBatcher(Windows):
    """Xbatcher's generator over the Zarr that ndzarr wrote, read by xarray: without dask where `chunks` is None.

    `chunks={}` is what its documentation has: an array of dask's, whose chunks are those of the store.
    """

    def __init__(self, paths: Sequence[Path], places: Pixels, chunks: dict[str, int] | None) -> None:
        super().__init__(paths, places)
        self.chunks = chunks

    def open(self, path: Path) -> Any:
        import xarray
        import xbatcher

        image = xarray.open_zarr(path / "0", consolidated=False, chunks=self.chunks)["image"]
        return xbatcher.BatchGenerator(image, {"y": EDGE, "x": EDGE}, {"y": EDGE - STEP, "x": EDGE - STEP}, cache=None)

    def read(self, opened: Any, y: int, x: int) -> Pixels:
        columns = (SIDE - EDGE) // STEP + 1
        return np.asarray(opened[y // STEP * columns + x // STEP].transpose("c", "y", "x").values)


def runners(images: Sequence[Data], crops: Pixels) -> dict[str, Callable[[], Iterator[Any]]]:
    """What is compared, each as a fresh iterator over all crops."""
    from torch.utils.data import DataLoader

    from ndzarr.torch import CropDataset, collate, loader

    gid, y, x = crops.T
    size = {"width": EDGE, "height": EDGE}
    table = pd.DataFrame({"key": gid, "cy": y + EDGE // 2, "cx": x + EDGE // 2, **size})
    pyramids, cogs = [image.pyramid() for image in images], [image.cog("deflate") for image in images]
    held = {k: ndzarr.open(path, cache_bytes=SIDE * SIDE * 3) for k, path in enumerate(pyramids)}
    dataset = CropDataset(ndzarr.Sampler(dict(enumerate(pyramids))), table)
    cached = CropDataset(ndzarr.Sampler(held), table)

    def loading(dataset: Any, **more: Any) -> Callable[[], Iterator[Any]]:
        return lambda: iter(DataLoader(dataset, batch_size=BATCH, num_workers=2, **more))

    return {
        OWN: loading(dataset, collate_fn=collate),
        "ndzarr, the same order, cache of all images": loading(cached, collate_fn=collate),
        "ndzarr, shuffled by locality": lambda: iter(loader(dataset, BATCH, workers=2, persistent_workers=False)),
        "rasterio, COG deflate, kept open, cache of 64 MB": loading(Rasterio(cogs, crops, 64)),
        "rasterio, COG deflate, kept open, cache of all images": loading(Rasterio(cogs, crops)),
        "rasterio, COG deflate, opened per crop": loading(RasterioPerCrop(cogs, crops)),
        "xbatcher, the same Zarr, without dask": loading(XBatcher(pyramids, crops, None)),
        "xbatcher, the same Zarr, through dask": loading(XBatcher(pyramids, crops, {})),
    }


def pixels_of(batch: Any) -> Any:
    """The crops of a batch."""
    return batch["image"] if isinstance(batch, dict) else batch


def crops_per_second(make: Callable[[], Iterator[Any]]) -> float:
    """Crops per second of an epoch, after the first two batches, which wait for the workers to start."""
    batches = make()
    next(batches), next(batches)
    began, count, took = time.perf_counter(), 0, 0.0
    for batch in batches:
        count += len(pixels_of(batch))
        took = time.perf_counter() - began
        if took > PATIENCE:
            break
    return count / took


def measure(folder: Path, number: int, crops: int, turns: int) -> Section:
    """Compare the pixels of all, and let them take turns."""
    images = [Data.within(folder, SIDE, seed) for seed in range(number)]
    steps = (SIDE - EDGE) // STEP + 1
    places = np.random.default_rng(0).integers(0, (number, steps, steps), (crops, 3)) * (1, STEP, STEP)
    found = runners(images, places)
    wanted = pixels_of(next(found[OWN]()))
    for name, make in found.items():
        if "locality" not in name and not np.array_equal(pixels_of(next(make())), wanted):
            raise ValueError(f"{name} gave other pixels")
    rates: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(turns):
        for name in np.random.default_rng(turn).permutation(list(found)):
            rates[name].append(crops_per_second(found[name]))
    times = {name: median(a / b for a, b in zip(rates[OWN], some, strict=True)) for name, some in rates.items()}
    rows = [(name, f"{median(some):.0f}", f"{times[name]:.1f}x") for name, some in rates.items()]
    note = f"{crops} crops of {EDGE} x {EDGE} x 3 from {number} images, batches of {BATCH}, medians of {turns} turns."
    return Section("Loaders", Table(("loader, 2 workers", "crops/s", "ndzarr is"), rows), notes=[note])


def main() -> None:
    """Parse the command line and run."""
    args = options(
        "loaders", __doc__,
        dir=(Path(tempfile.gettempdir()) / "ndzarr-loaders", "where the images are kept"),
        images=(20, "photographs"),
        crops=(10_000, "of an epoch"),
        turns=(5, "of each loader"),
        out=(None, "a page to put the table into, between its marks"),
    )  # fmt: skip
    report = Report(f"{args.images} images of {SIDE} x {SIDE} x 3")
    report.add(measure(args.dir, args.images, args.crops, args.turns))
    report.write("loaders", args.out)


if __name__ == "__main__":
    main()
