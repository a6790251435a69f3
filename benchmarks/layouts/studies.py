"""Which codec, grouping of channels, chunk edge and shard edge, for which kind of data, and at what size?

Each ``study_`` asks what its docstring says, measures, and prints one table or one for each preset. What is studied of
decoding itself is in :mod:`~benchmarks.layouts.decoding` and :mod:`~benchmarks.layouts.threads`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from benchmarks.layouts.candidates import KINDS, Kind, codecs, pictures
from benchmarks.layouts.choice import Chosen, pareto
from benchmarks.layouts.chunks import Grouping, Layout, amplification, encode
from benchmarks.layouts.codecs import Array, Blosc, Delta, Picture, Zstd, installed
from benchmarks.layouts.cogs import estimated_cog, gdal_cog, levels
from benchmarks.layouts.measurement import Result, Settings, crop_at, measure, positions, race
from benchmarks.layouts.report import Report
from benchmarks.photographs import multispectral, photograph

EDGES = (64, 96, 128, 192, 256, 512)
SIZES = (64, 128, 256, 512, 1024)


def study_realism(report: Report) -> None:
    """Do the synthetic photographs compress like real ones?"""
    encoders = {
        "lz4 5 bitshuffle": Layout(Blosc("lz4", 5, "bitshuffle"), "planar", 128),
        "lz4hc 4 bitshuffle": Layout(Blosc("lz4hc", 4, "bitshuffle"), "planar", 128),
        "zstd 3 bitshuffle": Layout(Blosc("zstd", 3, "bitshuffle"), "planar", 128),
        "delta + zstd 1": Layout(Delta(Zstd(1)), "planar", 128),
        **({"delta + zstd 1 min_match=7": Layout(Delta(Zstd(1, 7)), "planar", 128)} if installed("zstandard") else {}),
        "PNG": Layout(Picture("png", (("level", 6),)), "interleaved", 128),
        "JPEG 90": Layout(Picture("jpeg8", (("level", 90),), lossless=False), "interleaved", 128),
    }
    rows = []
    for name, image in _real_photographs():
        whole = image[:, : image.shape[1] // 128 * 128, : image.shape[2] // 128 * 128]
        rows.append([name, *(f"{_ratio(whole, layout):.2f}" for layout in encoders.values())])
    for seed in range(3):
        ratios = (_ratio(photograph(1536, 1536, seed=seed), layout) for layout in encoders.values())
        rows.append([f"**photograph(seed={seed})**", *(f"{ratio:.2f}" for ratio in ratios)])
    note = "Ratios of 128 x 128 x 3 chunks: the photographs that scikit-image and scikit-learn ship, and the made one."
    report.table("Is the synthetic photograph realistic?", ["picture", *encoders], rows, note)


def _ratio(image: Array, layout: Layout) -> float:
    encoded = encode(image, layout)
    return encoded.nbytes / encoded.stored


def _real_photographs() -> Iterator[tuple[str, Array]]:
    """Yield (name, (c, y, x)) of photographs that are installed."""
    try:
        import skimage.data
        from sklearn.datasets import load_sample_images
    except ImportError:
        return
    for name in ("astronaut", "coffee", "chelsea", "rocket", "retina"):
        yield name, getattr(skimage.data, name)()[..., :3].transpose(2, 0, 1)
    for name, image in zip(("china", "flower"), load_sample_images().images, strict=True):
        yield name, image.transpose(2, 0, 1)


def study_codecs(report: Report, kind: Kind, settings: Settings) -> list[Result]:
    """Which codec at chunk edge 128?"""
    image = kind.make(settings.side)
    depth = 1 if kind.grouping == "single" else image.shape[0]
    candidates = codecs(image.dtype, depth * 128 * 128 * image.itemsize, settings.quick)
    layouts = [Layout(codec, kind.grouping, 128) for codec in candidates]
    if kind.grouping == "planar" and not settings.quick:
        # the same with channels interleaved, for the codecs that could gain by it
        some = (Blosc("lz4", 5, "noshuffle"), Blosc("lz4hc", 4, "bitshuffle"), Blosc("zstd", 3, "bitshuffle"), Zstd(1))
        layouts += [Layout(codec, "interleaved", 128) for codec in some]
    results = measure(image, layouts + pictures(image, settings.quick), settings.seconds)
    front = {id(r) for r in pareto(results)}
    rows = [
        [
            f"{r.layout.codec.name} ({r.layout.grouping})" + (f", {r.psnr:.1f} dB" if r.psnr < math.inf else ""),
            r.layout.codec.support,
            f"{r.ratio:.2f}",
            f"{r.encode_rate:.0f}",
            f"{r.decode_rate:.0f}",
            f"{r.crop_ms:.3f}",
            "front" if id(r) in front else "",
        ]
        for r in sorted(results, key=lambda r: r.crop_ms)
    ]
    head = ["codec (grouping)", "read by", "ratio", "encode MB/s", "decode MB/s", "256 window, ms", "Pareto"]
    note = f"{image.shape} {image.dtype}, chunk edge 128, random 256 windows of all channels; decoding includes crc32c."
    report.table(f"Codecs: {kind.name}", head, rows, note)
    return results


def study_grouping(report: Report, settings: Settings) -> None:
    """All channels in a chunk, or one?"""
    rows = []
    count = 4 if settings.quick else 8
    for name, image in (
        ("RGB", photograph(settings.side, settings.side)),
        (f"{count} channels", multispectral(settings.side, settings.side, count)),
    ):
        groupings: list[Grouping] = ["planar", "single", "interleaved", "rows"]
        encoded = [encode(image, Layout(Blosc("lz4hc", 4, "bitshuffle"), one, 128)) for one in groupings]
        windows = positions(settings.side, 256)
        wanted = sorted({1, 3, image.shape[0]})
        runners = [crop_at(one, windows, 256, channels) for one in encoded for channels in wanted]
        times = iter(race(runners, settings.seconds / 2))
        for one in encoded:
            cells = [f"{next(times) * 1e3:.3f}" for _ in wanted] + [""] * (3 - len(wanted))
            rows.append([f"{name}, {one.layout.grouping}", f"{one.nbytes / one.stored:.2f}", *cells])
    head = ["data, grouping", "ratio", "1 channel, ms", "3 channels, ms", "all, if more, ms"]
    report.table("Channel grouping (blosc lz4hc 4 bitshuffle, edge 128, 256 windows)", head, rows)


def study_edges(report: Report, kind: Kind, chosen: Chosen, settings: Settings) -> None:
    """Which chunk edge, for windows of which size?"""
    image = kind.make(settings.side)
    sizes = tuple(size for size in SIZES if size < settings.side)
    edges = (64, 128, 256) if settings.quick else EDGES
    presets = [(name, one.layout) for name, one in chosen.presets()]
    if kind.grouping == "planar":
        presets.append(("jpeg", Layout(Picture("jpeg8", (("level", 90),), lossless=False), "interleaved", 128)))
    for label, layout in presets:
        encoded = [encode(image, replace(layout, edge=edge)) for edge in edges]
        medians, amplified = [], []
        for size in sizes:
            windows = positions(settings.side, size)
            medians.append(race([crop_at(one, windows, size) for one in encoded], settings.seconds / 5))
            amplified.append([amplification(one.layout, windows, size) for one in encoded])
        grid = positions(settings.side, 256, multiple=256)
        aligned = race([crop_at(one, grid, 256) for one in encoded], settings.seconds / 5)
        rows = []
        for place, one in enumerate(encoded):
            cells = [f"{m[place] * 1e3:.3f} ({a[place]:.1f})" for m, a in zip(medians, amplified, strict=True)]
            slow = [m[place] / min(m) for m, size in zip(medians, sizes, strict=True) if size in (128, 256, 512)]
            mean = math.exp(np.mean(np.log(slow)))
            ratio = f"{one.nbytes / one.stored:.2f}"
            rows.append([one.layout.edge, ratio, *cells, f"{aligned[place] * 1e3:.3f}", f"{mean:.2f}"])
        head = ["edge", "ratio", *(f"{size}, ms (amp.)" for size in sizes), "256 on a grid", "128-512 vs best"]
        note = (
            "Median ms for a random window of each size, in brackets the pixels decoded over the pixels asked for; "
            "then windows on a grid of 256 pixels; then the mean slowdown against the best edge."
        )
        report.table(f"Chunk edges: {kind.name}, {label} ({layout.codec.name}, {layout.grouping})", head, rows, note)


def study_sizes(report: Report, settings: Settings, chosen: dict[str, Chosen]) -> None:
    """How large are whole pyramids beside GDAL's COG of the same image?"""
    rows = []
    for kind in KINDS:
        image = kind.make(1024 if settings.quick else 4096)
        pyramid = list(levels(image, kind.nearest))
        estimate = sum(map(estimated_cog, pyramid))
        cog = gdal_cog(image, kind.nearest)
        for label, result in chosen[kind.name].presets():
            stored = sum(encode(level, result.layout).stored for level in pyramid)
            name = f"{kind.name}: {label} ({result.layout.codec.name})"
            real = f"{stored / cog:.2f}" if cog else "rasterio is missing"
            rows.append([name, f"{stored / 1e6:.2f}", f"{estimate / 1e6:.2f}", f"{stored / estimate:.2f}", real])
    head = ["store", "pyramid, MB", "COG estimated, MB", "times the estimate", "times GDAL's COG"]
    note = "COG: 512-pixel tiles, zstd level 9 with a predictor (none for labels), overviews included, in both."
    report.table("Sizes of pyramids", head, rows, note)


def study_shards(report: Report) -> None:
    """Which shard edge? Arithmetic only: chunk edge 128, RGB uint8."""
    rows = []
    for edge in (512, 1024, 2048, 4096):
        chunks = (edge // 128) ** 2
        files = [sum(math.ceil((side >> level) / edge) ** 2 for level in range(8)) for side in (8192, 65536)]
        shard, row = (3 * edge * length / 1e6 for length in (edge, 65536))
        rows.append([edge, chunks, 16 * chunks + 4, *files, f"{shard:.1f}", f"{row:.0f}"])
    head = ["shard edge", "chunks", "index, bytes", "files of 8192^2", "files of 65536^2", "a shard, MB", "a row, MB"]
    note = "Files count eight pyramid levels; a row is one row of shards of the larger image, uncompressed."
    report.table("Shards (RGB uint8, chunk edge 128)", head, rows, note)
