"""Which codec, grouping of channels and chunks for which kind of data: the studies behind docs/layouts.md.

    python -m benchmarks.layouts --quick                  # a subset, on smaller images
    python -m benchmarks.layouts --out docs/layouts.md    # replace the tables of that page

1. Make four kinds of data: a photograph, multispectral reflectances, an elevation model, a class map.
2. Encode them under each layout (codec, grouping of channels, chunk edge), and read random windows in turn.
3. Name the candidates that nothing else beats in both latency and size, and apply the stated rules for the presets.

MB are 10^6 bytes of pixels, windows are square, `ratio` is bytes of pixels over bytes stored.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numcodecs.blosc
import numcodecs.zstd
import numpy as np

import ndzarr
from benchmarks.data import clip, disk_bytes, write_cog
from benchmarks.harness import Report, Section, Table, installed, options
from benchmarks.layouts.chunks import ORDERS, Layout, Result, chunks, crops, encode, measure, positions, times
from benchmarks.layouts.codecs import COMPACT, JPEG, Array, Blosc, Codec, Delta, Pcodec, Picture, Zstd
from benchmarks.photographs import elevation, labels, multispectral, photograph

EDGES = (64, 96, 128, 192, 256, 512)
SIZES = (64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Kind:
    """A kind of data with what is usual for it."""

    name: str
    make: Any
    """Side in pixels to (c, y, x)."""
    grouping: str = "single"
    fast_size: float = 1.45
    """A `fast` store may be this many times the size of GDAL's COG (zstd, predictor) of the same image."""
    compact_slower: float = 2.2
    """A window of a `compact` store should take at most this many times as long as one of a `fast` store."""
    nearest: bool = False
    """Pyramid levels by nearest neighbour, not by the mean; no predictor in a COG."""


KINDS = (
    Kind("photograph, uint8 RGB", lambda side: photograph(side, side), "planar"),
    Kind("multispectral, uint16, 4 channels", lambda side: multispectral(side, side, 4)),
    Kind("elevation, float32", lambda side: elevation(side, side)),
    # class maps are small and quick whatever is chosen: here speed may cost space, and space may cost speed
    Kind("labels, uint8", lambda side: labels(side, side), "single", math.inf, 5.0, nearest=True),
)


@dataclass(frozen=True)
class Chosen:
    """What the rules choose for one kind of data; `packed` is `compact` if pcodec may be used."""

    fast: Result
    compact: Result
    packed: Result

    def presets(self) -> list[tuple[str, Result]]:
        """(name, result) of each, the third only where it differs."""
        some = [("fast", self.fast), ("compact", self.compact)]
        return some if self.packed is self.compact else [*some, ("compact, were pcodec allowed", self.packed)]


class Study:
    """One run: how much is measured, and the report."""

    def __init__(self, quick: bool) -> None:
        self.quick, self.side, self.jobs = quick, 768 if quick else 1536, 30 if quick else 211
        self.report = Report(f"Images of {self.side} x {self.side}; medians of {self.jobs} windows, processor time")

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[Any]], *notes: str) -> None:
        """Print a table under a heading."""
        self.report.add(Section(title, Table(head, [[str(cell) for cell in row] for row in rows]), notes=notes))

    def codecs(self, image: Array) -> Iterator[Codec]:
        """The codecs to try."""
        shuffles = ("noshuffle", "bitshuffle") if image.itemsize == 1 else ("noshuffle", "shuffle", "bitshuffle")
        levels = {"lz4": (5, 1, 9), "lz4hc": (4, 2, 3, 6, 9), "zstd": (3, 1, 5)}
        for name, some in levels.items():
            for level in some[:1] if self.quick else some:
                yield from (Blosc(name, level, shuffle) for shuffle in shuffles)
        yield from map(Zstd, (1,) if self.quick else (-1, 1, 3))
        if image.dtype.kind in "iu":
            yield from (Delta(Zstd(level)) for level in ((1,) if self.quick else (-1, 1, 2, 3)))
            inner = (("lz4", 5), ("lz4hc", 4), ("zstd", 1))
            yield from (Delta(Blosc(name, level, shuffle)) for name, level in inner for shuffle in shuffles[1:])
            yield COMPACT
        if image.itemsize > 1 and installed("pcodec"):
            yield from map(Pcodec, (4,) if self.quick else (1, 4, 8))

    def pictures(self, image: Array) -> Iterator[Layout]:
        """Image formats that take this dtype and number of channels."""
        colour = image.shape[0] == 3 and image.dtype == np.uint8
        some: list[Picture] = []
        if image.dtype.kind == "u":
            some += [Picture("png", (("level", 6),)), Picture("jpegls")]
            some += [Picture("jpegxl", (("lossless", True), ("effort", n))) for n in ((1,) if self.quick else (1, 3))]
        if colour:
            some += [replace(JPEG, options=(("level", level),)) for level in ((90,) if self.quick else (85, 90, 95))]
            some += [replace(JPEG, options=(("level", 90), ("subsampling", "444")))]
            some += [Picture("webp", (("lossless", True),)), Picture("qoi")]
        return (Layout(codec, "interleaved" if colour else "single") for codec in some)

    def realism(self) -> None:
        """Do the synthetic photographs compress like real ones?"""
        layouts = {
            "lz4 5 bitshuffle": Layout(Blosc("lz4", 5, "bitshuffle"), "planar"),
            "lz4hc 4 bitshuffle": Layout(Blosc("lz4hc", 4, "bitshuffle"), "planar"),
            "zstd 3 bitshuffle": Layout(Blosc("zstd", 3, "bitshuffle"), "planar"),
            "delta + zstd 1": Layout(Delta(Zstd(1)), "planar"),
            "delta + zstd 1 min_match=7": Layout(COMPACT, "planar"),
            "PNG": Layout(Picture("png", (("level", 6),)), "interleaved"),
            "JPEG 90": Layout(JPEG, "interleaved"),
        }
        pictures = {f"**photograph(seed={seed})**": photograph(1536, 1536, seed=seed) for seed in range(3)}
        rows = []
        for name, image in {**_real_photographs(), **pictures}.items():
            whole = image[:, : image.shape[1] // 128 * 128, : image.shape[2] // 128 * 128]
            rows.append([name, *(f"{encode(whole, layout).ratio:.2f}" for layout in layouts.values())])
        note = "Ratios of 128 x 128 x 3 chunks: photographs that scikit-image and scikit-learn ship, and made ones."
        self.table("Is the synthetic photograph realistic?", ["picture", *layouts], rows, note)

    def choose(self, kind: Kind) -> Chosen:
        """Which codec at chunk edge 128, and which by the rules?"""
        image = kind.make(self.side)
        layouts = [Layout(codec, kind.grouping) for codec in self.codecs(image)]
        if kind.grouping == "planar":  # the same with channels interleaved, for the codecs that could gain by it
            some = (Blosc("lz4", 5, "noshuffle"), Blosc("lz4hc", 4, "bitshuffle"), Zstd(1))
            layouts += [Layout(codec, "interleaved") for codec in some]
        results = measure(image, [*layouts, *self.pictures(image)], self.jobs)
        front: list[Result] = []
        for one in sorted((r for r in results if r.layout.codec.lossless), key=lambda r: (r.crop_ms, -r.ratio)):
            if not front or one.ratio > front[-1].ratio:
                front.append(one)
        rows = [
            [
                f"{r.layout.codec.name} ({r.layout.grouping})" + (f", {r.psnr:.1f} dB" if r.psnr < math.inf else ""),
                r.layout.codec.support,
                *(f"{v:.2f}" if v is r.ratio else f"{v:.0f}" for v in (r.ratio, r.encode_rate, r.decode_rate)),
                f"{r.crop_ms:.3f}",
                "front" if r in front else "",
            ]
            for r in sorted(results, key=lambda r: r.crop_ms)
        ]
        head = ["codec (grouping)", "read by", "ratio", "encode MB/s", "decode MB/s", "256 window, ms", "Pareto"]
        note = (
            f"{image.shape} {image.dtype}, chunk edge 128, random 256 windows of all channels; decoding includes "
            "crc32c. On the front are those that no other beats in both latency and ratio."
        )
        self.table(f"Codecs: {kind.name}", head, rows, note)
        cog = image.nbytes / estimated_cog(image)
        ours = [r for r in results if r.layout.grouping == kind.grouping and not isinstance(r.layout.codec, Picture)]
        fast = choose_fast(ours, cog / kind.fast_size)
        compact, packed = (choose_compact(ours, fast, kind, cog, more) for more in ((), ("with pcodec",)))
        found = Chosen(fast, compact, packed)
        rows = [
            [name, r.layout.codec.name, f"{r.ratio:.2f}", f"{cog / r.ratio:.2f}", f"{r.crop_ms:.3f}",
             f"{r.crop_ms / fast.crop_ms:.2f}", f"{r.encode_rate:.0f}"]
            for name, r in found.presets()
        ]  # fmt: skip
        head = ["preset", "codec", "ratio", "times the COG", "256 window, ms", "times `fast`", "encode MB/s"]
        self.table(f"By rule: {kind.name}", head, rows, f"The tiles of a COG (estimated) have ratio {cog:.2f}.")
        return found

    def sizes(self, chosen: dict[Kind, Chosen]) -> None:
        """How large are whole pyramids beside GDAL's COG of the same image?"""
        rows = []
        for kind, found in chosen.items():
            levels = [kind.make(1024 if self.quick else 4096)]
            while max(levels[-1].shape[1:]) > 256:
                height, width = levels[-1].shape[1:]
                method = cv2.INTER_NEAREST if kind.nearest else cv2.INTER_AREA
                levels.append(np.stack([cv2.resize(p, (-(-width // 2), -(-height // 2)), None, 0, 0, method)
                                        for p in levels[-1]]))  # fmt: skip
            estimate, cog = sum(map(estimated_cog, levels)), gdal_cog(levels[0], kind.nearest)
            for label, result in found.presets():
                stored = sum(encode(level, result.layout).stored for level in levels)
                name = f"{kind.name}: {label} ({result.layout.codec.name})"
                real = f"{stored / cog:.2f}" if cog else "rasterio is missing"
                rows.append([name, f"{stored / 1e6:.2f}", f"{estimate / 1e6:.2f}", f"{stored / estimate:.2f}", real])
        head = ["store", "pyramid, MB", "COG estimated, MB", "times the estimate", "times GDAL's COG"]
        note = "COG: 512-pixel tiles, zstd level 9 with a predictor (none for labels), overviews included, in both."
        self.table("Sizes of pyramids", head, rows, note)

    def grouping(self) -> None:
        """All channels in a chunk, or one?"""
        rows = []
        for name, image in (
            ("RGB", photograph(self.side, self.side)),
            ("8 channels", multispectral(self.side, self.side)),
        ):
            encoded = [encode(image, Layout(Blosc("lz4hc", 4, "bitshuffle"), grouping)) for grouping in ORDERS]
            wanted = sorted({1, 3, image.shape[0]})
            windows = positions(self.side, 256, self.jobs)
            found = iter(times([crops(one, windows, 256, n) for one in encoded for n in wanted], self.jobs))
            for one in encoded:
                cells = [f"{next(found) * 1e3:.3f}" for _ in wanted] + [""] * (3 - len(wanted))
                rows.append([f"{name}, {one.layout.grouping}", f"{one.ratio:.2f}", *cells])
        head = ["data, grouping", "ratio", "1 channel, ms", "3 channels, ms", "all, if more, ms"]
        self.table("Channel grouping (blosc lz4hc 4 bitshuffle, edge 128, 256 windows)", head, rows)

    def edges(self, kind: Kind, chosen: Chosen) -> None:
        """Which chunk edge, for windows of which size?"""
        image = kind.make(self.side)
        sizes = [size for size in SIZES if size < self.side]
        presets = [(name, one.layout) for name, one in chosen.presets()]
        if kind.grouping == "planar":
            presets.append(("jpeg", Layout(JPEG, "interleaved")))
        for label, layout in presets:
            encoded = [encode(image, replace(layout, edge=edge)) for edge in ((64, 128, 256) if self.quick else EDGES)]
            medians, amplified = [], []
            for size, multiple in [*((size, 1) for size in sizes), (256, 256)]:
                windows = positions(self.side, size, self.jobs // 3, multiple)
                medians.append(times([crops(one, windows, size) for one in encoded], len(windows)))
                amplified.append([amplification(one.layout.edge, windows, size) for one in encoded])
            rows = []
            for place, one in enumerate(encoded):
                cells = [f"{m[place] * 1e3:.3f} ({a[place]:.1f})" for m, a in zip(medians, amplified, strict=True)]
                slow = [m[place] / min(m) for m, size in zip(medians, sizes, strict=False) if size in (128, 256, 512)]
                mean = math.exp(np.mean(np.log(slow)))
                rows.append([one.layout.edge, f"{one.ratio:.2f}", *cells, f"{mean:.2f}"])
            head = ["edge", "ratio", *(f"{size}, ms (amp.)" for size in sizes), "256 on a grid", "128-512 vs best"]
            note = (
                "Median ms for a random window of each size, in brackets the pixels decoded over the pixels asked for; "
                "then windows on a grid of 256 pixels; then the mean slowdown against the best edge."
            )
            self.table(f"Chunk edges: {kind.name}, {label} ({layout.codec.name}, {layout.grouping})", head, rows, note)

    def shards(self) -> None:
        """Which shard edge? Arithmetic only: chunk edge 128, RGB uint8."""
        rows = []
        for edge in (512, 1024, 2048, 4096):
            files = [sum(math.ceil((side >> level) / edge) ** 2 for level in range(8)) for side in (8192, 65536)]
            shard, row = (3 * edge * length / 1e6 for length in (edge, 65536))
            inside = (edge // 128) ** 2
            rows.append([edge, inside, 16 * inside + 4, *files, f"{shard:.1f}", f"{row:.0f}"])
        head = [
            "shard edge",
            "chunks",
            "index, bytes",
            "files of 8192^2",
            "files of 65536^2",
            "a shard, MB",
            "a row, MB",
        ]
        note = "Files count eight pyramid levels; a row is one row of shards of the larger image, uncompressed."
        self.table("Shards (RGB uint8, chunk edge 128)", head, rows, note)

    def space_time(self) -> None:
        """Which chunks along t, y and x, for whole frames, for short tubes, and for both?

        The frames were encoded as H.264 and decoded again, as nearly all videos are: noise that a camera adds to each
        frame is mostly gone then, and what moves is blurred.
        """
        cuts = [(1, 64), (1, 128), (1, 256), (2, 64), (2, 96), (2, 128), (4, 64), (4, 96), (4, 128), (8, 64), (8, 128),
                (16, 64)]  # fmt: skip
        names = {(1, 128): "frames", (2, 64): "mixed", (4, 64): "tubes"}
        count, *size = (32, 360, 640) if self.quick else (96, 720, 1280)
        jobs, rng = self.jobs // 3, np.random.default_rng(0)
        numbers = rng.integers(0, count, jobs).tolist()
        corners = rng.integers(0, (count - 15, size[0] - 127, size[1] - 127), (jobs, 3)).tolist()

        def tube(pyramid: ndzarr.Pyramid, length: int, i: int) -> Any:
            t, y, x = corners[i]
            return pyramid.read(t=slice(t, t + length), y=slice(y, y + 128), x=slice(x, x + 128))

        def frame(pyramid: ndzarr.Pyramid, i: int) -> Any:
            return pyramid.read(t=slice(numbers[i], numbers[i] + 1))

        with tempfile.TemporaryDirectory(prefix="ndzarr-space-time-") as folder:
            path = clip(Path(folder, "clip.mp4"), count, (size[0], size[1]))
            for preset in ("fast", "compact"):
                made = [
                    ndzarr.transcode(path, Path(folder, f"{preset}-{t}-{edge}.zarr"), preset=preset,
                                     chunks={"t": t, "y": edge, "x": edge})
                    for t, edge in cuts
                ]  # fmt: skip
                columns = [
                    times([partial(frame, one) for one in made], jobs),
                    times([partial(tube, one, 16) for one in made], jobs),
                    times([partial(tube, one, 1) for one in made], jobs),
                ]
                pixels = math.prod(made[0].shape)
                rows = [
                    [f"{t} x {edge} x {edge}", names.get((t, edge), ""),
                     f"{pixels / disk_bytes(Path(one.path, '0', 'image')):.2f}", *(f"{s * 1e3:.2f}" for s in seconds)]
                    for (t, edge), one, *seconds in zip(cuts, made, *columns, strict=True)
                ]  # fmt: skip
                head = ["chunk (t, y, x), all channels", "access", "ratio", "frame, ms", "16 x 128 x 128, ms",
                        "1 x 128 x 128, ms"]  # fmt: skip
                note = f"{made[0].shape} uint8 (t, c, y, x), decoded H.264; levels left out of the ratio."
                self.table(f"Space and time: {preset}", head, rows, note)


def _real_photographs() -> dict[str, Array]:
    """Photographs (c, y, x) that are installed."""
    try:
        import skimage.data
        from sklearn.datasets import load_sample_images
    except ImportError:
        return {}
    names = ("astronaut", "coffee", "chelsea", "rocket", "retina")
    some = {name: getattr(skimage.data, name)()[..., :3] for name in names}
    some |= dict(zip(("china", "flower"), load_sample_images().images, strict=True))
    return {name: image.transpose(2, 0, 1) for name, image in some.items()}


def choose_fast(results: Sequence[Result], least_ratio: float) -> Result:
    """Return the core candidate for `fast`: of those within 10 % of the lowest latency and within 2 % of the best
    ratio among these, the one that encodes fastest.
    """
    able = [r for r in results if r.layout.codec.support == "core" and r.ratio >= least_ratio]
    near = [r for r in able if r.crop_ms <= 1.1 * min(r.crop_ms for r in able)]
    smallest = max(r.ratio for r in near)
    return max((r for r in near if r.ratio >= 0.98 * smallest), key=lambda r: r.encode_rate)


def choose_compact(results: Sequence[Result], fast: Result, kind: Kind, cog: float, more: Sequence[str]) -> Result:
    """Return the candidate for `compact` of those that zarr-python reads, given the packages `more`.

    Of those no larger than the COG, whose ratio is `cog`: the smallest within 10 % of the lowest latency. Where there
    is none: the quickest within 2 % of the best ratio that costs at most `kind.compact_slower` times `fast`.
    """
    readable = [r for r in results if r.layout.codec.support in ("core", "zarr-python", *more)]
    small = [r for r in readable if r.ratio >= cog]
    if small:
        quickest = min(r.crop_ms for r in small)
        return max((r for r in small if r.crop_ms <= 1.1 * quickest), key=lambda r: r.ratio)
    able = [r for r in readable if r.crop_ms <= kind.compact_slower * fast.crop_ms]
    smallest = max(r.ratio for r in able)
    return min((r for r in able if r.ratio >= 0.98 * smallest), key=lambda r: r.crop_ms)


def amplification(edge: int, windows: Sequence[tuple[int, int]], size: int) -> float:
    """Pixels decoded over pixels asked for."""
    first = np.array(windows)
    spans = ((first + size - 1) // edge - first // edge + 1) * edge
    return float(spans.prod(axis=1).mean() / size**2)


def estimated_cog(image: Array) -> int:
    """Bytes of the 512-pixel tiles of a COG with zstd level 9, with the predictor or without, as is less."""
    tiles = list(chunks(image, Layout(Zstd(9), "interleaved", 512)))
    if image.dtype.kind == "f":
        predicted = [imagecodecs.floatpred_encode(tile, axis=-2) for tile in tiles]
    else:
        predicted = [np.diff(tile, axis=1, prepend=np.zeros_like(tile[:, :1])) for tile in tiles]
    plain, other = (
        sum(len(numcodecs.zstd.compress(np.ascontiguousarray(tile), 9)) for tile in some) for some in (tiles, predicted)
    )
    return min(plain, other)


def gdal_cog(image: Array, nearest: bool) -> int | None:
    """Size of the COG that GDAL writes with zstd level 9 and a predictor; None without rasterio."""
    if not installed("rasterio"):
        return None
    import rasterio

    with tempfile.TemporaryDirectory() as folder:
        plain, cog = Path(folder, "plain.tif"), Path(folder, "cog.tif")
        count, height, width = image.shape
        profile = {"count": count, "height": height, "width": width, "dtype": image.dtype, "driver": "GTiff"}
        with rasterio.open(plain, "w", **profile) as target:
            target.write(image)
        resampling = {
            "OVERVIEW_RESAMPLING": "NEAREST" if nearest else "AVERAGE",
            "PREDICTOR": "NO" if nearest else "YES",
        }
        write_cog(plain, cog, COMPRESS="ZSTD", LEVEL=9, **resampling)
        return disk_bytes(cog)


def main() -> None:
    """Run all studies."""
    args = options(
        "layouts", __doc__,
        quick=(False, "a subset, on smaller images"),
        out=(None, "a Markdown page to put the tables into"),
    )  # fmt: skip
    numcodecs.blosc.use_threads = False  # here and not on import: asv imports this module, and times ndzarr
    study = Study(args.quick)
    study.realism()
    chosen = {kind: study.choose(kind) for kind in KINDS}
    study.sizes(chosen)
    study.grouping()
    for kind in KINDS[:1] if args.quick else KINDS:
        study.edges(kind, chosen[kind])
    study.shards()
    study.space_time()
    study.report.write("layouts", args.out)


if __name__ == "__main__":
    main()
