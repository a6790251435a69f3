"""How long does transcoding take, and what does it cost on disk, in memory and at reading?"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import writers
from benchmarks.data import Data, disk_bytes
from benchmarks.race import race
from benchmarks.reading import EDGE, Settings, windows
from benchmarks.report import Line, Section, Table, number

SIZES = (("fast", 1.45), ("compact", 1.0))
"""Preset, and how large its store may be relative to each COG."""


def transcode(data: Data, settings: Settings) -> Section:
    """Item 6: from an uncompressed tiled TIFF to a pyramid."""
    work = data.folder / "written"
    work.mkdir(exist_ok=True)
    names = [*writers.NDZARR, *writers.ENCODE, *writers.COGS, *writers.ZARRS]
    runs: dict[str, list[writers.Run]] = {name: [] for name in names}
    sizes: dict[str, float] = {}
    missing: list[str] = []
    stores = {preset: data.pyramid(preset) for preset, _ in SIZES}
    for _ in range(settings.rounds):
        for name in names:
            if any(m.startswith(name) for m in missing):
                continue
            dest = work / name.replace(" ", "-").replace(",", "")
            source = stores[name.split()[-1]] if name in writers.ENCODE else data.tif
            try:
                runs[name].append(writers.run(name, source, dest))
            except writers.NotInstalledError as error:
                missing.append(f"{name} ({error})")
                continue
            if dest.exists():
                sizes[name] = disk_bytes(dest) / 1e6
    times = {name: statistics.median(r.seconds for r in taken) for name, taken in runs.items() if taken}
    peaks = {name: statistics.median(r.peak for r in taken) for name, taken in runs.items() if taken}
    rows = [
        (
            name,
            f"{times[name]:.2f}",
            f"{times[name] / times['ndzarr fast']:.2f}",
            f"{sizes[name]:.0f}" if name in sizes else "",
            f"{peaks[name]:.0f}" if name not in writers.ENCODE else "",
        )
        for name in names
        if name in times
    ]
    slower = _compact_crops(stores, data.size, settings)
    edge = data.size
    return Section(
        "6. Transcoding",
        Table(("writer", "seconds", "/ ndzarr fast", "MB", "peak MiB"), rows),
        _lines(times, sizes, peaks, slower),
        [
            f"{edge} x {edge} x 3 uint8 from an uncompressed TIFF of tiles of 256 x 256, all levels included, each in "
            f"a process of its own, the median of {settings.rounds} in turn. Imports are not counted, neither in time "
            "nor in memory; files are in the system's cache and are not flushed to disk. `Encoding alone` encodes the "
            "same chunks of all levels from memory in as many threads, and writes nothing. GDAL's driver has all "
            "processors, average overviews and blocks of 512; ngff-zarr writes chunks of 512 x 512 through tensorstore "
            "and ome-zarr chunks of 128 x 128 in shards of 1024 x 1024, with their default codecs.",
            f"Crops of {EDGE} x {EDGE} take {number(slower)} times as long from `compact` as from `fast`.",
            *([f"Left out: {'; '.join(missing)}."] if missing else []),
        ],
    )


def _compact_crops(stores: dict[str, Path], size: int, settings: Settings) -> float:
    """How many times as long crops take from the compact store."""
    import ndzarr

    wanted = windows(size, settings.crops, settings.seed)

    def read(pyramid: ndzarr.Pyramid, i: int) -> None:
        pyramid.read(y=wanted[i][0], x=wanted[i][1])

    contestants = {name: partial(read, ndzarr.open(path)) for name, path in stores.items()}
    return race(contestants, len(wanted), settings.rounds).ratio("compact", "fast")


def _lines(times: dict[str, float], sizes: dict[str, float], peaks: dict[str, float], slower: float) -> Sequence[Line]:
    cogs = [name for name in writers.COGS if name in times]
    lines = [
        Line("6", f"transcode: {name} / ndzarr fast", times[name] / times["ndzarr fast"], limit, at_least=True)
        for names, limit in ((cogs, 2), ([n for n in writers.ZARRS if n in times], 3))
        for name in names
    ]
    for preset, limit in SIZES:
        lines += [
            Line("6", f"size: {preset} / {name}", sizes[f"ndzarr {preset}"] / sizes[name], limit) for name in cogs
        ]
    lines.append(Line("6", "crop: compact / fast", slower, 2.2))
    for name, alone in zip(writers.NDZARR, writers.ENCODE, strict=True):
        lines.append(Line("6", f"transcode: {name} / encoding alone", times[name] / times[alone], 1.5))
    lines.append(Line("6", "peak memory of transcoding", max(peaks[n] for n in writers.NDZARR), 400, unit=" MiB"))
    return lines
