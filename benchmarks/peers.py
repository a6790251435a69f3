"""ndzarr beside the libraries that people use today, and beside its own targets.

    python -m benchmarks.peers                            # everything; five to ten minutes with all peers
    python -m benchmarks.peers --quick                    # a small image, once: to see that it works
    python -m benchmarks.peers --only crops,many          # of crops, labels, many, scale, growth, transcode, import
    python -m benchmarks.peers --dir data --out docs/benchmarks.md --json peers.json
    python -m benchmarks.peers --out docs/benchmarks.md --readme README.md  # its table, and the plots in docs/pictures

It makes a photograph-like image, writes it in every format, checks that every reader gives the same pixels, lets them
take turns, and prints a table per item and one of all targets. Missing peers are left out by name.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import ndzarr
from benchmarks.data import SPOT, Data, Window, disk_bytes, spots, ten_each, windows
from benchmarks.harness import (
    ROOT,
    Line,
    Race,
    Report,
    Section,
    Table,
    bars,
    chosen,
    fresh,
    left_out,
    milliseconds,
    number,
    options,
    put,
    race,
    timed,
    workspace,
)  # fmt: skip
from benchmarks.readers import GDAL_CACHE_MB, Opened, crop, crop_readers, small_gdal_cache
from benchmarks.writers import transcode

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


def _rows(found: Race, base: str) -> list[tuple[str, ...]]:
    """Median, 95% and ratio of each contestant."""
    return [
        (name, milliseconds(found.median(name)), milliseconds(found.slow(name)), f"{found.ratio(name, base):.2f}")
        for name in found.names
    ]


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
    wanted = windows(data.size, EDGE, settings.crops, settings.seed)
    with small_gdal_cache():
        opened = Opened(crop_readers(data), data, wanted)
        runners = opened.runners(wanted)
        races = {
            "in turn": race(runners, len(wanted), settings.rounds),
            "in bursts": race(runners, len(wanted), settings.rounds, BURST),
        }
    tables = [{row[0]: row[1:] for row in _rows(r, "ndzarr")} for r in races.values()]
    names = sorted(runners, key=races["in turn"].median)
    rows = [(name, *tables[0][name], *tables[1][name], f"{opened.megabytes(name):.0f}") for name in names]
    lines = [
        Line("1", f"crop: {name} / ndzarr, {how}", r.ratio(name, "ndzarr"), limit, at_least=True, aim=aim)
        for name, (limit, aim) in CROP_TARGETS.items()
        if name in runners
        for how, r in races.items()
    ]
    lines += [
        Line("1", f"crop: ndzarr / bare loop, {how}", r.ratio("ndzarr", "bare loop"), 1.3) for how, r in races.items()
    ]
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
            *left_out(opened.missing),
        ],
    )


def sample_calls(data: Data, crops: int, seed: int = 0) -> tuple[dict[str, Callable[[int], Any]], int]:
    """`pyr.read`, `pyr.window` and `load_sample` of the same windows with ten annotations each, and how many in all."""
    content, cells = ten_each(data.pyramid(), data.size, EDGE)
    sampler, pyramid = ndzarr.CocoSampler(content, workdir=data.folder), ndzarr.open(data.pyramid())
    rng = random.Random(seed)
    corners = [(y + rng.randrange(8), x + rng.randrange(8)) for y, x in rng.choices(cells, k=crops)]
    wanted = [{"y": slice(y, y + EDGE), "x": slice(x, x + EDGE)} for y, x in corners]
    targets = [{"gid": 1, "space_slice": (w["y"], w["x"])} for w in wanted]
    for w, target in list(zip(wanted, targets, strict=True))[:20]:
        sample = sampler.load_sample(target)
        assert sample.sizes["annot"] == 10
        assert np.array_equal(sample.image, crop(data, w))
        assert np.array_equal(pyramid.window(**w), crop(data, w))
    return {
        "pyr.read": lambda i: pyramid.read(**wanted[i]),
        "pyr.window": lambda i: pyramid.window(**wanted[i]),
        "load_sample": lambda i: sampler.load_sample(targets[i]),
    }, len(content["annotations"])


def labelled(data: Data, settings: Settings) -> Section:
    """Item 2: what labels and annotations add to a read."""
    calls, annotations = sample_calls(data, settings.crops, settings.seed)
    found = race(calls, settings.crops, settings.rounds)
    added = {name: found.difference(name, "pyr.read") * 1e6 for name in calls}
    return Section(
        "2. Labels and annotations",
        Table(
            ("call", "median ms", "95% ms", "more than pyr.read, microseconds"),
            [(*row[:3], f"{added[row[0]]:.0f}") for row in _rows(found, "pyr.read")],
        ),
        [
            Line("2", "pyr.window - pyr.read", added["pyr.window"], 150, unit=" us"),
            Line("2", "load_sample - pyr.read", added["load_sample"], 80, unit=" us"),
        ],
        [
            f"The same {settings.crops} windows of {EDGE} x {EDGE} of one store. 10 annotations lie in each "
            f"window, of {annotations:,} in the dataset. The difference is taken window by window."
        ],
    )


def many(data: Data, settings: Settings) -> Section:
    """Item 3: windows planned together."""
    n = max(20, settings.crops * 10 // 3)
    wanted = windows(data.size, EDGE, n, settings.seed + 1)
    pyramid = ndzarr.open(data.pyramid())
    few = wanted[: max(1, n // 10)]
    runs: dict[str, tuple[int, Callable[[int], Any]]] = {
        "read_many": (n, lambda _: pyramid.read_many(wanted)),
        "pyr.read, one by one": (n, lambda _: [pyramid.read(**w) for w in wanted]),
    }
    opened = Opened([r for r in crop_readers(data) if r.name in ("tensorstore", "zarr-python")], data, wanted)
    if "tensorstore" in opened.readers:
        store = opened.readers["tensorstore"][1]
        runs["tensorstore, futures together"] = n, lambda _: _futures(store, wanted)
    if "zarr-python" in opened.readers:
        array = opened.readers["zarr-python"][1]
        runs["zarr-python, one by one"] = len(few), lambda _: [array[:, w["y"], w["x"]] for w in few]
    for one, w in zip(pyramid.read_many(wanted[:50]), wanted, strict=False):
        assert np.array_equal(one, crop(data, w))
    turns = max(3, 2 * settings.rounds + 1)
    result = race({name: run for name, (_, run) in runs.items()}, 1, turns)
    each = {name: result.median(name) / count for name, (count, _) in runs.items()}
    rows = [
        (name, f"{count:,}", milliseconds(each[name]), f"{each[name] / each['read_many']:.2f}")
        for name, (count, _) in runs.items()
    ]
    targets = {"pyr.read, one by one": 1.6, "tensorstore, futures together": 2, "zarr-python, one by one": 20}
    found = pyramid.plan(wanted).explain()
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
            *left_out(opened.missing),
        ],
    )


def _futures(store: Any, wanted: Sequence[Window]) -> list[Any]:
    pending = [store[:, w["y"], w["x"]].read() for w in wanted]
    return [future.result() for future in pending]


def scale(data: Data, settings: Settings) -> Section:
    """Item 4: a large region, reduced."""
    pyramid = ndzarr.open(data.pyramid())
    side, factor = data.size, data.size // EDGE
    wanted = windows(side, EDGE, settings.crops, settings.seed)
    whole, inner = slice(0, side), slice(50, side - 50)
    plain, exact = f"pyr.read of {EDGE} x {EDGE}", f"pyr.window of {side} x {side} at 1/{factor}"
    between = f"pyr.window of {side - 100} x {side - 100} at 1/{factor + 1}, resampled"
    found = race(
        {
            plain: lambda i: pyramid.read(**wanted[i]),
            exact: lambda i: pyramid.window(y=whole, x=whole, scale=1 / factor),
            between: lambda i: pyramid.window(y=inner, x=inner, scale=1 / (factor + 1)),
        },
        len(wanted),
        settings.rounds,
    )
    return Section(
        "4. Scale",
        Table(("call", "median ms", "95% ms", "/ plain read"), _rows(found, plain)),
        [Line("4", f"{side} x {side} at 1/{factor} / plain read", found.ratio(exact, plain), 2)],
        ["The first has another window each time, the others the same, so their chunks lie in the processor's cache."],
    )


def growth(data: Data, settings: Settings) -> Section:
    """Item 5: the same crops in ever larger images."""
    edges = [edge for edge in (2048, 8192, 32768, 65536) if edge <= 8 * data.size]
    pyramids = {edge: ndzarr.open(data.grown(edge)) for edge in edges}
    inside = windows(SPOT, EDGE, settings.crops, settings.seed)
    rng = random.Random(settings.seed)
    picks = [rng.random() for _ in inside]

    def moved(edge: int) -> list[Window]:
        places = spots(edge)
        corners = [dict(zip("yx", places[int(p * len(places))], strict=True)) for p in picks]
        return [
            {axis: slice(s.start + at[axis], s.stop + at[axis]) for axis, s in w.items()}
            for w, at in zip(inside, corners, strict=True)
        ]

    wanted = {edge: moved(edge) for edge in edges}
    for edge, pyramid in pyramids.items():
        for w, true in zip(wanted[edge][:20], inside, strict=False):
            assert np.array_equal(pyramid.read(**w), crop(data, true))

    def read(edge: int, i: int) -> Any:
        return pyramids[edge].read(**wanted[edge][i])

    found = race({f"{edge} x {edge}": partial(read, edge) for edge in edges}, len(inside), settings.rounds)
    first, last = found.names[0], found.names[-1]
    rows = [
        (*row[:3], number(found.ratio(row[0], first)), f"{disk_bytes(data.grown(edge)) / 1e6:.0f}")
        for edge, row in zip(edges, _rows(found, first), strict=True)
    ]
    return Section(
        "5. Growth",
        Table(("image", "median ms", "95% ms", f"/ {edges[0]}", "MB"), rows),
        [Line("5", f"crop of {edges[-1]}^2 / of {edges[0]}^2", found.ratio(last, first), 1.2)],
        [
            f"The same {len(inside)} crops from all images: {SPOT} x {SPOT} pixels of the photograph stand at up to "
            "4 x 4 places spread over each image, aligned to shards, and each crop is taken from one of "
            "them at random. All else is 0 and not stored. The source is generated band by band."
        ],
    )


RUNS = 11
BOX = "y=slice(1000, 1256), x=slice(1000, 1256)"
FIRST = {
    "ndzarr": ("import ndzarr", f"ndzarr.open({{store!r}}).read({BOX})"),
    "ndzarr, labelled": ("import ndzarr", f"ndzarr.open({{store!r}}).window({BOX})"),
    "zarr-python": ("import zarr", "zarr.open_array({store!r} + '/0/image', mode='r')[:, 1000:1256, 1000:1256]"),
    "tensorstore": (
        "import tensorstore as ts",
        "ts.open(dict(driver='zarr3', kvstore=dict(driver='file', path={store!r} + '/0/image/')), read=True).result()"
        "[:, 1000:1256, 1000:1256].read().result()",
    ),
    "rasterio, COG deflate": (
        "import rasterio; from rasterio.windows import Window",
        "rasterio.open({cog!r}).read(window=Window(1000, 1000, 256, 256))",
    ),
}
"""What is imported before the clock starts, and what is timed."""


def starting(data: Data, settings: Settings) -> Section:
    """Item 7: imports, and the first crop of a process."""
    imports = ("numpy, xarray", "ndzarr", "numpy", "zarr", "tensorstore", "rasterio")
    programs = {f"import {what}": ("", f"import {what}") for what in imports}
    paths = {"store": str(data.pyramid()), "cog": str(data.cog("deflate"))}
    programs |= {f"first crop, {name}": (before, what.format(**paths)) for name, (before, what) in FIRST.items()}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    missing: list[str] = []
    for turn in range(RUNS + 1):
        for name, (before, what) in programs.items():
            if name in missing:
                continue
            try:
                taken = fresh(f"import time\n{before}\nt = time.perf_counter()\n{what}\nprint(time.perf_counter() - t)")
            except ImportError:
                missing.append(name)
                continue
            if turn:  # the first fills the system's cache
                seconds[name].append(taken)
    times = {name: float(np.median(taken)) for name, taken in seconds.items() if taken}
    ratio = times["import ndzarr"] / times[f"import {imports[0]}"]
    first = times["first crop, ndzarr"] * 1e3
    return Section(
        "7. Starting",
        Table(("what", "median ms"), [(name, number(t * 1e3)) for name, t in times.items()]),
        [
            Line("7", f"import ndzarr / import {imports[0]}", ratio, 1.2),
            Line("7", "first crop of a process, opening included", first, 10, unit=" ms"),
        ],
        [
            f"Each in a fresh process, the median of {RUNS} in turn. The first crop includes opening the store, and "
            "excludes importing the package itself, but not what that imports later.",
            *left_out(missing),
        ],
    )


def summary(report: Report, page: Path) -> None:
    """Put the measurements that matter most into a page, and plot them beside the documentation's pictures."""
    single, together, writing = (
        next(s.table.rows for s in report.sections if s.title.startswith(f"{n}.")) for n in (1, 3, 6)
    )
    shown = [row for row in single if row[0] not in ("np.load(mmap)", "bare loop")]
    ours = {row[0]: float(row[1]) for row in single}["ndzarr"]
    header = (f"crops of {EDGE} x {EDGE}, one at a time", "median ms", "95% ms", "/ ndzarr", "MB on disk")
    table = Table(header, [(row[0], row[1], row[2], f"{float(row[1]) / ours:.1f}", row[7]) for row in shown])
    day = time.strftime("%Y-%m-%d", time.gmtime(report.started))
    about = f"{day}, {report.machine}. {report.settings}."
    put(page, "summary", f"{about}\n\n{table}")
    pictures = ROOT / "docs" / "pictures"
    bars(
        f"Milliseconds a crop of {EDGE} x {EDGE}, one at a time (line: 95%)",
        [(row[0], float(row[1]), float(row[2])) for row in shown],
        pictures / "crops.svg",
        "ndzarr",
    )
    bars(
        "Milliseconds a crop, hundreds in one go",
        [(row[0].replace("read_many", "ndzarr, read_many"), float(row[2]), float(row[2])) for row in together],
        pictures / "many.svg",
        "ndzarr",
    )
    bars(
        "Seconds to write the image with all levels",
        [(row[0], float(row[1]), float(row[1])) for row in writing if "alone" not in row[0]],
        pictures / "writing.svg",
        "ndzarr",
    )


ITEMS: dict[str, Callable[[Data, Settings], Section]] = {
    "crops": crops,
    "labels": labelled,
    "many": many,
    "scale": scale,
    "growth": growth,
    "transcode": transcode,
    "import": starting,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is asked for."""
    args = options(
        "peers", __doc__, argv,
        quick=(False, "a small image, few crops: numbers mean little"),
        size=(8192, "edge of the image in pixels, a multiple of 2048"),
        crops=(300, "windows per race"),
        rounds=(3, "times that each is read"),
        seed=(0, "of the windows"),
        only=(",".join(ITEMS), "some of the items"),
        dir=(None, "keep the data here, and use what is there"),
        json=(None, "write the numbers here, too"),
        out=(None, "put the tables between the markers of this page"),
        readme=(None, "put a summary between the markers of this page, and plots into docs/pictures"),
    )  # fmt: skip
    if args.quick:
        args.size, args.crops, args.rounds = 2048, 40, 1
    settings = Settings(args.crops, args.rounds, args.seed)
    report = Report(f"{args.size} x {args.size} x 3 uint8, {args.crops} crops, {args.rounds} rounds, seed {args.seed}")
    with workspace(args.dir) as folder:
        data = Data.within(folder, args.size)
        for name in chosen(args.only, ITEMS):
            spent = timed(lambda name=name: report.add(ITEMS[name](data, settings)))
            print(f"{name}: {spent:.0f} s\n", flush=True)
    report.write("peers", args.out, args.json)
    if args.readme:
        summary(report, args.readme)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of the peers: their deprecations say nothing about speed
    main()
