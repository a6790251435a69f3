"""Files and datasets that the benchmarks read, made when one first needs them.

Pixels come from :mod:`benchmarks.photographs`. A file is written under another name and renamed when it is complete, so
that an interrupted run leaves nothing half done.
"""

from __future__ import annotations

import inspect
import json
import os
import random
import shutil
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import ndzarr
from benchmarks import photographs
from benchmarks.harness import fresh
from ndzarr._store.codecs import ChunkCodec
from ndzarr._store.presets import Encoding

Pixels = np.ndarray[Any, Any]
Window = dict[str, slice]
"""Half-open, along y and x (and t)."""

TILE = 256
"""Edge of a tile of the source TIFFs."""


def disk_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a directory."""
    return sum(f.stat().st_size for f in (path.rglob("*") if path.is_dir() else [path]) if f.is_file())


def version_of(*sources: Any) -> str:
    """A name that changes when the module of one of these objects does."""
    return f"{zlib.crc32(b''.join(Path(inspect.getfile(s)).read_bytes() for s in sources)):08x}"


def made(path: Path, make: Callable[[Path], Any]) -> Path:
    """`path`, made now unless it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        work = path.with_name(f"making-{path.name}")
        shutil.rmtree(work) if work.is_dir() else work.unlink(missing_ok=True)
        make(work)
        os.rename(work, path)
    return path


def windows(size: int, edge: int, n: int, seed: int = 0) -> list[Window]:
    """Random windows within an image of `size` x `size`."""
    rng = random.Random(seed)
    corners = [(rng.randrange(size - edge), rng.randrange(size - edge)) for _ in range(n)]
    return [{"y": slice(y, y + edge), "x": slice(x, x + edge)} for y, x in corners]


def write_tif(path: Path, pixels: Pixels) -> None:
    """A TIFF of planes (c, y, x) in tiles, or of colour pixels where there are three channels of uint8."""
    import tifffile

    if len(pixels) == 3 and pixels.dtype == np.uint8:
        tifffile.imwrite(path, np.moveaxis(pixels, 0, -1), photometric="rgb", tile=(TILE, TILE))
    else:
        planes, planar = (pixels, "separate") if len(pixels) > 1 else (pixels[0], None)
        tifffile.imwrite(path, planes, photometric="minisblack", tile=(TILE, TILE), planarconfig=planar)


def write_cog(source: Path, dest: Path, **other: Any) -> None:
    """A COG with overviews by GDAL's own driver, whose block size is 512 unless `BLOCKSIZE` is given."""
    from rasterio.shutil import copy

    common = {"NUM_THREADS": "ALL_CPUS", "OVERVIEW_RESAMPLING": "AVERAGE", "BIGTIFF": "IF_SAFER"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the image has no place on earth
        copy(source, dest, driver="COG", **{**common, **other})


@dataclass(frozen=True)
class Data:
    """The files of one photograph of `size` x `size` x 3 uint8."""

    folder: Path
    size: int = 8192
    seed: int = 0

    @classmethod
    def within(cls, folder: Path, size: int, seed: int = 0) -> Data:
        """Files that are kept apart from those of another version of the generator."""
        return cls(folder / f"{size}-{seed}-{version_of(photographs)}", size, seed)

    @property
    def image(self) -> Pixels:
        """Pixels (c, y, x), generated."""
        return photographs.photograph(self.size, self.size, seed=self.seed)

    @property
    def npy(self) -> Path:
        """Pixels (y, x, c), which is what ndsampler's uncompressed backend maps."""

        def write(path: Path) -> None:
            with open(path, "wb") as file:
                np.save(file, np.ascontiguousarray(np.moveaxis(self.image, 0, -1)))

        return made(self.folder / "image.npy", write)

    @cached_property
    def pixels(self) -> Pixels:
        """The image, (c, y, x), mapped."""
        return np.moveaxis(np.load(self.npy, mmap_mode="r"), -1, 0)

    @property
    def tif(self) -> Path:
        """Uncompressed, in interleaved tiles: the source of all others."""
        return made(self.folder / "image.tif", lambda path: write_tif(path, self.image))

    @property
    def png(self) -> Path:
        """Compressed at level 1."""
        import cv2

        def write(path: Path) -> None:
            bgr = np.ascontiguousarray(np.moveaxis(self.image[::-1], 0, -1))
            path.write_bytes(cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())

        return made(self.folder / "image.png", write)

    @cached_property
    def stores(self) -> Path:
        """Where ndzarr's stores are: elsewhere when presets change, so that no outdated one is read."""
        return self.folder / f"stores-{version_of(ChunkCodec, Encoding)}"

    def pyramid(self, preset: str = "fast") -> Path:
        """Ndzarr's store."""
        return made(
            self.stores / f"{preset}.zarr", lambda path: ndzarr.transcode(self.tif, path, preset=preset, workers=None)
        )

    def cog(self, compression: str, block: int = 512) -> Path:
        """GDAL's, with the horizontal predictor for deflate and zstd, quality 90 for JPEG."""
        more = {"QUALITY": 90} if compression == "jpeg" else {}
        predictor = "YES" if compression in ("deflate", "zstd") else "NO"
        return made(
            self.folder / f"{compression}-{block}.tif",
            lambda path: write_cog(
                self.tif, path, COMPRESS=compression.upper(), PREDICTOR=predictor, BLOCKSIZE=block, **more
            ),
        )

    def grown(self, edge: int) -> Path:
        """A store of `edge` x `edge` pixels that are 0 but for copies of one corner of the photograph at `spots`."""
        import dask.array as da

        corner = np.ascontiguousarray(self.pixels[:, :SPOT, :SPOT])

        def band(block_id: tuple[int, int, int]) -> Pixels:
            top = block_id[1] * TILE
            out = np.zeros((3, TILE, edge), np.uint8)
            for y, x in spots(edge):
                if y <= top < y + SPOT:
                    out[:, :, x : x + SPOT] = corner[:, top - y : top - y + TILE]
            return out

        def write(path: Path) -> None:
            image = da.map_blocks(
                band,
                chunks=((3,), (TILE,) * (edge // TILE), (edge,)),
                dtype=np.uint8,
                meta=np.empty((0,) * 3, np.uint8),
            )
            ndzarr.transcode(image, path, axes="cyx", max_pixels=edge**2)

        return made(self.stores / "growth" / f"{edge}.zarr", write)


SPOT = 2048
"""Edge of a copy in the images of `Data.grown`, and of a shard."""


def spots(edge: int) -> list[tuple[int, int]]:
    """Where at most 4 x 4 copies begin, (y, x), evenly spread and aligned to shards."""
    n = min(4, edge // SPOT)
    return [(i * (edge // n), j * (edge // n)) for i in range(n) for j in range(n)]


def clip(path: Path, frames: int, size: tuple[int, int] = (720, 1280), rate: int = 30, seed: int = 0) -> Path:
    """Encode a camera that pans over a scene in which things move, with noise in every frame, by x264's defaults."""
    import av

    height, width = size
    scene = np.ascontiguousarray(np.moveaxis(photographs.photograph(height + 400, width + 800, seed=seed), 0, -1))
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 2, (4, height, width, 1)).astype(np.int16)
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for i in range(frames):
            y, x = int(200 + 180 * np.sin(i / 50)), int(400 + 380 * np.sin(i / 83))
            view = scene[y : y + height, x : x + width].astype(np.int16)
            top, left = height * 5 // 12, 7 * i % (width - 96)
            view[top : top + 64, left : left + 96] = 255 - view[top : top + 64, left : left + 96]
            view += np.roll(noise[i % 4], 37 * i, axis=1)
            frame = av.VideoFrame.from_ndarray(np.clip(view, 0, 255).astype(np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


# ------------------------------------------------------------------------------------------------------------ datasets


def coco(
    files: Sequence[Any], side: int, gids: Sequence[int] = (), boxes: Any = (), frames: int = 0, **image: Any
) -> dict[str, Any]:
    """A kwcoco dictionary of images of `side` x `side`, in videos of `frames` frames if any; one box per `gids`."""
    images = [{"id": k + 1, "file_name": str(f), "width": side, "height": side, **image} for k, f in enumerate(files)]
    content: dict[str, Any] = {
        "images": images,
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, 10)],
        "annotations": [
            {"id": k + 1, "image_id": gid, "category_id": 1 + k % 9, "bbox": list(box)}
            for k, (gid, box) in enumerate(zip(gids, boxes, strict=True))
        ],
    }
    if frames:
        for k, one in enumerate(images):
            one |= {"video_id": 1 + k // frames, "frame_index": k % frames}
        videos = range(1, 2 + (len(images) - 1) // frames)
        content["videos"] = [{"id": v, "name": f"v{v}", "width": side, "height": side} for v in videos]
    return content


def random_boxes(n: int, side: int, smallest: float = 2, largest: float = 60, seed: int = 0) -> list[list[float]]:
    """Boxes (x, y, width, height) anywhere in an image."""
    rng = np.random.default_rng(seed)
    corners, sizes = rng.uniform(0, side - largest, (n, 2)), rng.uniform(smallest, largest, (n, 2))
    return np.concatenate([corners, sizes], axis=1).round(1).tolist()  # type: ignore[no-any-return]


def ten_each(file: Path, side: int, edge: int = 256) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """A dataset of one image in which each cell of `edge` + 8 pixels has ten annotations, and the corners of cells."""
    rng = random.Random(0)
    pitch = edge + 8
    cells = [(pitch * i, pitch * j) for i in range(side // pitch) for j in range(side // pitch)]
    boxes = [[x + rng.randrange(8, 200), y + rng.randrange(8, 200), 40, 40] for y, x in cells for _ in range(10)]
    return coco([file], side, [1] * len(boxes), boxes), cells


def multispectral_video(folder: Path) -> dict[str, Any]:
    """Kwcoco's demo video of 5 frames of 5 bands, of three resolutions."""
    import kwcoco

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dset = kwcoco.CocoDataset.demo("vidshapes1-frames5-multispectral", verbose=0, dpath=str(folder))
    dset.reroot(absolute=True)
    return dict(dset.dataset)


def large_video(folder: Path, side: int, n: int = 4) -> dict[str, Any]:
    """A video of n photographs of `side` x `side`."""
    frames = [made(folder / f"{t}.png", lambda p, t=t: shutil.copy(Data(p.parent / f"{t}", side, t).png, p))  # type: ignore[misc]
              for t in range(n)]  # fmt: skip
    return coco(frames, side, frames=n, channels="r|g|b")


# -------------------------------------------------------------------------------------------------------- files of asv

EDGE = 2048
"""Pixels of the images that the asv benchmarks read."""
PRESETS = ("fast", "compact")
KINDS = ("photograph", "multispectral", "elevation", "labels")
"""uint8 (3, y, x), uint16 (8, y, x), float32 (1, y, x), uint8 classes (1, y, x)."""
COMPRESSIONS = ("zlib", "zstd", "lzw", "jpeg", "none")


def kind_options(kind: str) -> dict[str, Any]:
    """How a kind is transcoded."""
    return {"kind": "labels"} if kind == "labels" else {}


def make(path: Path) -> None:
    """Make a file of the asv benchmarks by its name: KIND.tif, KIND-PRESET.zarr, COMPRESSION.tif, clip-N.mp4, ..."""
    stem, _, what = path.stem.partition("-")
    if stem in KINDS and path.suffix == ".tif":
        made(path, lambda p: write_tif(p, getattr(photographs, stem)(EDGE, EDGE)))
    elif stem in KINDS:
        make(source := path.with_name(f"{stem}.tif"))
        made(path, lambda p: ndzarr.transcode(source, p, preset=what, **kind_options(stem)))
    elif stem in COMPRESSIONS:
        made(path, lambda p: _write_overviews(p, stem))
    elif path.suffix == ".mp4":
        made(path, lambda p: clip(p, int(what)))
    elif stem == "clip":
        make(source := path.with_suffix(".mp4"))
        made(path, lambda p: ndzarr.transcode(source, p))
    elif path.suffix == ".json":
        number, images = map(int, what.split("-"))
        gids = np.random.default_rng(0).integers(1, images + 1, number).tolist()
        names = [f"{k}.png" for k in range(images)]
        made(path, lambda p: p.write_text(json.dumps(coco(names, 1000, gids, random_boxes(number, 1000)))))
    else:
        raise ValueError(path)


def _write_overviews(path: Path, compression: str) -> None:
    import tifffile

    native = np.ascontiguousarray(np.moveaxis(photographs.photograph(EDGE, EDGE), 0, -1))
    with tifffile.TiffWriter(path) as tif:
        for k in range(4):
            tif.write(
                np.ascontiguousarray(native[:: 2**k, :: 2**k]),
                photometric="rgb",
                tile=(TILE, TILE),
                compression=None if compression == "none" else compression,
                predictor=compression in ("zlib", "zstd"),
                subfiletype=min(k, 1),
            )


def units(benchmark: type, **tracked: str) -> None:
    """Set the units of `track_` methods."""
    for name, unit in tracked.items():
        getattr(benchmark, f"track_{name}").unit = unit


class Cached:
    """What all asv benchmarks start from: a directory that asv keeps while they run, filled when files are needed.

    A benchmark without a package that it needs is skipped, and asv shows which one.
    """

    timeout = 600

    def setup_cache(self) -> Path:
        """Asv runs this once for all subclasses."""
        return Path.cwd()

    def file(self, folder: Path, name: str) -> Path:
        """A file by its name (see `make`), made in a process of its own, whose memory `peakmem_` must not count."""
        path = folder / name
        if not path.exists():
            try:
                fresh(f"from pathlib import Path; from benchmarks.data import make; make(Path({str(path)!r}))")
            except ImportError as error:
                print(error)  # asv skips, but does not show what an exception says
                raise NotImplementedError(str(error)) from error
        return path
