"""How fast are windows read: single ones against other readers, labelled, many together, reduced, from large images?

Each function measures one item of the list of targets and returns a `Section`.  Windows are `EDGE` x `EDGE` pixels at
random places, and every reader's pixels are compared with the image before anything is timed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.data import SPOT, SPOTS, Data, disk_bytes, spots
from benchmarks.race import race
from benchmarks.readers import GDAL_CACHE_MB, Reader, Window, crop_readers, small_gdal_cache
from benchmarks.report import Line, Section, Table, milliseconds, number

EDGE = 256
BURST = 10
"""Crops in a row."""


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    crops: int = 300
    """Windows per race."""
    rounds: int = 3
    """Times each is read."""
    seed: int = 0


def windows(size: int, n: int, seed: int) -> list[Window]:
    """Windows that lie within an image."""
    rng = random.Random(seed)
    corners = [(rng.randrange(size - EDGE), rng.randrange(size - EDGE)) for _ in range(n)]
    return [(slice(y, y + EDGE), slice(x, x + EDGE)) for y, x in corners]


class Opened:
    """Readers that work here, checked against the image; the others by name."""

    def __init__(self, readers: Sequence[Reader], data: Data, wanted: Sequence[Window]) -> None:
        self.readers: dict[str, tuple[Reader, Any]] = {}
        self.missing: list[str] = []
        for reader in readers:
            try:
                opened = reader.open()
            except ImportError as error:
                self.missing.append(f"{reader.name} ({error})")
                continue
            self.readers[reader.name] = reader, opened
            for y, x in wanted[:20]:
                truth = data.pixels[y, x]
                got = reader.read(opened, y, x)
                if not np.array_equal(got, truth if reader.interleaved else np.moveaxis(truth, -1, 0)):
                    raise AssertionError(f"{reader.name} reads other pixels at {y}, {x}")

    def runners(self, wanted: Sequence[Window]) -> dict[str, Callable[[int], Any]]:
        """For each reader, what reads the i-th window."""
        return {name: partial(_read, reader.read, opened, wanted) for name, (reader, opened) in self.readers.items()}

    def close(self) -> None:
        """Close all."""
        for reader, opened in self.readers.values():
            reader.close(opened)


def _read(read: Callable[[Any, slice, slice], Any], opened: Any, wanted: Sequence[Window], i: int) -> Any:
    y, x = wanted[i]
    return read(opened, y, x)


CROP_TARGETS = {
    "zarr-python": (12, False),
    "tensorstore": (1.5, False),
    "rasterio, COG deflate": (3, False),
    "rasterio, COG zstd": (1.8, False),
    "ndsampler, npy": (1, True),
    "np.load(mmap)": (1, True),
}
"""How many times as long as ndzarr a reader should take at least; True for what is only aimed at."""


def crops(data: Data, settings: Settings) -> Section:
    """Item 1: single windows against other readers."""
    wanted = windows(data.size, settings.crops, settings.seed)
    with small_gdal_cache():
        opened = Opened(crop_readers(data), data, wanted)
        runners = opened.runners(wanted)
        result = race(runners, len(wanted), settings.rounds)
        loop = race(runners, len(wanted), settings.rounds, BURST)
        opened.close()
    rows = []
    for name in sorted(result.names, key=result.median):
        size = opened.readers[name][0].megabytes
        cells = [
            cell
            for r in (result, loop)
            for cell in (milliseconds(r.median(name)), milliseconds(r.slow(name)), f"{r.ratio(name, 'ndzarr'):.2f}")
        ]
        rows.append((name, *cells, f"{size:.0f}" if size else ""))
    races = (("in turn", result), ("in bursts", loop))
    lines = [
        Line("1", f"crop: {name} / ndzarr, {how}", r.ratio(name, "ndzarr"), limit, at_least=True, aim=aim)
        for name, (limit, aim) in CROP_TARGETS.items()
        if name in result.names
        for how, r in races
    ]
    lines += [Line("1", f"crop: ndzarr / bare loop, {how}", r.ratio("ndzarr", "bare loop"), 1.3) for how, r in races]
    share = disk_bytes(data.pyramid("fast") / "0") / disk_bytes(data.npy)
    lines.append(Line("1", "disk: native level / .npy", share, 0.75, aim=True))
    return Section(
        f"1. Crops of {EDGE} x {EDGE}",
        Table(("reader", "in turn, ms", "95%", "/ ndzarr", "in bursts, ms", "95%", "/ ndzarr", "MB"), rows),
        lines,
        [
            f"{len(wanted)} random crops of an image of {data.size} x {data.size} x 3 uint8, each read by every reader "
            f"{settings.rounds} times after one round to warm up, one thread asking; medians. In turn, a reader reads "
            "one crop and then the others have theirs, as in a program that does other things between crops; in "
            f"bursts, it reads {BURST} in a row, as in a loop that does nothing else. MB is the size on disk, with all "
            "levels of pyramids and COGs.",
            "Zarr readers read ndzarr's store (preset fast); the COGs, by GDAL's driver, have blocks of 512 and the "
            "horizontal predictor. The bare loop maps the shards, decodes the chunks that are touched with numcodecs "
            f"and copies, and does nothing else. GDAL's block cache is limited to {GDAL_CACHE_MB} MB and tensorstore's "
            "is off, except where it is named. np.load and ndsampler copy out of an uncompressed file.",
            *_left_out(opened.missing),
        ],
    )


def _left_out(missing: Sequence[str]) -> list[str]:
    return [f"Left out: {'; '.join(missing)}."] if missing else []


CELL = EDGE + 8
"""Pixels between windows that have annotations of their own."""
ANNOTATIONS = 10


def labelled(data: Data, settings: Settings) -> Section:
    """Item 2: what labels and annotations add to a read."""
    import ndzarr

    rng = random.Random(settings.seed)
    n = data.size // CELL
    cells = [(CELL * i, CELL * j) for i in range(n) for j in range(n)]
    boxes = [
        [x + rng.randrange(8, 200), y + rng.randrange(8, 200), 40, 40] for y, x in cells for _ in range(ANNOTATIONS)
    ]
    annotations = [{"id": k + 1, "image_id": 1, "category_id": 1, "bbox": box} for k, box in enumerate(boxes)]
    image = {"id": 1, "file_name": str(data.tif), "width": data.size, "height": data.size}
    dataset = {"images": [image], "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    sampler = ndzarr.CocoSampler(dataset, workdir=data.stores / "workdir")
    sampler.prepare()
    pyramid = sampler.open(1)
    chosen = [rng.choice(cells) for _ in range(settings.crops)]
    corners = [(y + rng.randrange(8), x + rng.randrange(8)) for y, x in chosen]
    wanted = [(slice(y, y + EDGE), slice(x, x + EDGE)) for y, x in corners]
    for y, x in wanted[:20]:
        sample = sampler.load_sample({"gid": 1, "space_slice": (y, x)})
        truth = np.moveaxis(data.pixels[y, x], -1, 0)
        assert sample.sizes["annot"] == ANNOTATIONS
        assert np.array_equal(sample.image, truth)
        assert np.array_equal(pyramid.window(y=y, x=x), truth)
    contestants = {
        "pyr.read": lambda i: pyramid.read(y=wanted[i][0], x=wanted[i][1]),
        "pyr.window": lambda i: pyramid.window(y=wanted[i][0], x=wanted[i][1]),
        "load_sample": lambda i: sampler.load_sample({"gid": 1, "space_slice": wanted[i]}),
    }
    result = race(contestants, len(wanted), settings.rounds)
    added = {name: result.difference(name, "pyr.read") * 1e6 for name in contestants}
    rows = [
        (name, milliseconds(result.median(name)), milliseconds(result.slow(name)), f"{added[name]:.0f}")
        for name in contestants
    ]
    return Section(
        "2. Labels and annotations",
        Table(("call", "median ms", "95% ms", "more than pyr.read, microseconds"), rows),
        [Line("2", f"{name} - pyr.read", added[name], 150, unit=" us") for name in ("pyr.window", "load_sample")],
        [
            f"The same {len(wanted)} windows of {EDGE} x {EDGE} of one store. {ANNOTATIONS} annotations lie in each "
            f"window, of {len(annotations):,} in the dataset. The difference is taken window by window."
        ],
    )


def many(data: Data, settings: Settings) -> Section:
    """Item 3: windows planned together."""
    import ndzarr

    n = max(20, settings.crops * 10 // 3)
    wanted = windows(data.size, n, settings.seed + 1)
    pyramid = ndzarr.open(data.pyramid("fast"))
    asked = [{"y": y, "x": x} for y, x in wanted]
    runs: dict[str, tuple[int, Callable[[int], Any]]] = {
        "read_many": (n, lambda _: pyramid.read_many(asked)),
        "pyr.read, one by one": (n, lambda _: [pyramid.read(y=y, x=x) for y, x in wanted]),
    }
    readers = {r.name: r for r in crop_readers(data) if r.name in ("tensorstore", "zarr-python")}
    opened = Opened(list(readers.values()), data, wanted)
    if "tensorstore" in opened.readers:
        store = opened.readers["tensorstore"][1]
        runs["tensorstore, futures together"] = (n, lambda _: _futures(store, wanted))
    if "zarr-python" in opened.readers:
        array, few = opened.readers["zarr-python"][1], wanted[: max(1, n // 10)]
        runs["zarr-python, one by one"] = (len(few), lambda _: [array[:, y, x] for y, x in few])
    for one, (y, x) in zip(pyramid.read_many(asked[:50]), wanted, strict=False):
        assert np.array_equal(one, np.moveaxis(data.pixels[y, x], -1, 0))
    turns = max(3, 2 * settings.rounds + 1)
    result = race({name: run for name, (_, run) in runs.items()}, 1, turns)
    each = {name: result.median(name) / count for name, (count, _) in runs.items()}
    rows = [
        (name, f"{count:,}", milliseconds(each[name]), f"{each[name] / each['read_many']:.2f}")
        for name, (count, _) in runs.items()
    ]
    targets = {"pyr.read, one by one": 1.6, "tensorstore, futures together": 2, "zarr-python, one by one": 20}
    found = pyramid.plan(asked).explain()
    return Section(
        "3. Many crops",
        Table(("call", "crops", "ms per crop", "/ read_many"), rows),
        [
            Line("3", f"many: {name} / read_many", each[name] / each["read_many"], limit, at_least=True)
            for name, limit in targets.items()
            if name in each
        ],
        [
            f"{n:,} random crops of {EDGE} x {EDGE}, in turn, the median of {turns} turns after one to warm up. "
            f"Planned together they touch {found.chunks:,} chunks, {found.shared:,} of them more than once; decoded "
            f"bytes per wanted byte: {found.amplification:.2f}.",
            *_left_out(opened.missing),
        ],
    )


def _futures(store: Any, wanted: Sequence[Window]) -> list[Any]:
    pending = [store[:, y, x].read() for y, x in wanted]
    return [future.result() for future in pending]


def scale(data: Data, settings: Settings) -> Section:
    """Item 4: a large region, reduced."""
    import ndzarr

    pyramid = ndzarr.open(data.pyramid("fast"))
    side, factor = data.size, data.size // EDGE
    wanted = windows(data.size, settings.crops, settings.seed)
    contestants = {
        f"pyr.read of {EDGE} x {EDGE}": lambda i: pyramid.read(y=wanted[i][0], x=wanted[i][1]),
        f"pyr.window of {side} x {side} at 1/{factor}": lambda i: pyramid.window(
            y=slice(0, side), x=slice(0, side), scale=1 / factor
        ),
        f"pyr.window of {side - 100} x {side - 100} at 1/{factor + 1}, resampled": lambda i: pyramid.window(
            y=slice(50, side - 50), x=slice(50, side - 50), scale=1 / (factor + 1)
        ),
    }
    plain, exact, _ = contestants
    result = race(contestants, len(wanted), settings.rounds)
    rows = [
        (name, milliseconds(result.median(name)), milliseconds(result.slow(name)), f"{result.ratio(name, plain):.2f}")
        for name in contestants
    ]
    return Section(
        "4. Scale",
        Table(("call", "median ms", "95% ms", "/ plain read"), rows),
        [Line("4", f"{side} x {side} at 1/{factor} / plain read", result.ratio(exact, plain), 2)],
        ["The first has another window each time, the others the same, so their chunks lie in the processor's cache."],
    )


def growth(data: Data, settings: Settings) -> Section:
    """Item 5: the same crops in ever larger images."""
    import ndzarr

    edges = [edge for edge in (2048, 8192, 32768, 65536) if edge <= 8 * data.size]
    pyramids = {edge: ndzarr.open(data.grown(edge)) for edge in edges}
    inside = windows(SPOT, settings.crops, settings.seed)
    rng = random.Random(settings.seed)
    picks = [rng.random() for _ in inside]

    def moved(edge: int) -> list[Window]:
        places = spots(edge)
        corners = [places[int(p * len(places))] for p in picks]
        return [
            (slice(y.start + top, y.stop + top), slice(x.start + left, x.stop + left))
            for (y, x), (top, left) in zip(inside, corners, strict=True)
        ]

    wanted = {edge: moved(edge) for edge in edges}
    for edge, pyramid in pyramids.items():
        for (y, x), (v, u) in zip(wanted[edge][:20], inside, strict=False):
            assert np.array_equal(pyramid.read(y=y, x=x), np.moveaxis(data.pixels[v, u], -1, 0))
    contestants = {
        str(edge): partial(_read, lambda p, y, x: p.read(y=y, x=x), pyramid, wanted[edge])
        for edge, pyramid in pyramids.items()
    }
    result = race(contestants, len(inside), settings.rounds)
    first, last = str(edges[0]), str(edges[-1])
    rows = [
        (
            f"{name} x {name}",
            milliseconds(result.median(name)),
            milliseconds(result.slow(name)),
            number(result.ratio(name, first)),
            f"{disk_bytes(data.grown(int(name))) / 1e6:.0f}",
        )
        for name in contestants
    ]
    return Section(
        "5. Growth",
        Table(("image", "median ms", "95% ms", f"/ {first}", "MB"), rows),
        [Line("5", f"crop of {last}^2 / of {first}^2", result.ratio(last, first), 1.2)],
        [
            f"The same {len(inside)} crops from all images: {SPOT} x {SPOT} pixels of the photograph stand at up to "
            f"{SPOTS} x {SPOTS} places spread over each image, aligned to shards, and each crop is taken from one of "
            "them at random. All else is 0 and not stored. The source is generated band by band."
        ],
    )
