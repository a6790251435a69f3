"""Which files do the benchmarks read, and how are they made?

Everything is derived from one photograph-like image (:mod:`benchmarks.photographs`), made once per directory and kept:

- `image.npy`, pixels (y, x, c), which is what ndsampler's uncompressed backend maps;
- `image.tif`, uncompressed, 256 x 256 tiles, interleaved: the source of everything below;
- `stores-*/fast.zarr`, `compact.zarr`: ndzarr's presets;
- `deflate.tif`, `zstd.tif`: COGs by GDAL's driver with the horizontal predictor;
- `stores-*/growth/N.zarr`: images of N x N that hold the same photograph at the same places (`Scattered`).

A file is written under another name and renamed when it is complete, so that a run that was broken off leaves nothing
half done.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np

Pixels = np.ndarray[Any, Any]

TILE = 256
"""Edge of a tile of the source TIFF."""
COG_OPTIONS = {"PREDICTOR": "YES", "NUM_THREADS": "ALL_CPUS", "OVERVIEW_RESAMPLING": "AVERAGE", "BIGTIFF": "IF_SAFER"}
"""Of GDAL's COG driver; its block size is left at the default of 512."""


def disk_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a directory."""
    if path.is_file():
        return path.stat().st_size
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def version_of(*sources: Path) -> str:
    """Changes when one of these files does."""
    return f"{zlib.crc32(b''.join(source.read_bytes() for source in sources)):08x}"


def made(path: Path, make: Callable[[Path], Any]) -> Path:
    """`path`, made now unless it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        work = path.with_name(f"making-{path.name}")
        _remove(work)
        make(work)
        os.rename(work, path)
    return path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_cog(source: Path, dest: Path, compression: str) -> None:
    """A COG with overviews, by GDAL's own driver."""
    import rasterio.shutil

    rasterio.shutil.copy(source, dest, driver="COG", COMPRESS=compression, **COG_OPTIONS)


@dataclass(frozen=True)
class Data:
    """The files of one image, made when they are first asked for."""

    folder: Path
    """Where they lie."""
    size: int = 8192
    """Edge of the image in pixels."""

    @property
    def npy(self) -> Path:
        """Pixels (y, x, c)."""
        return made(self.folder / "image.npy", self._write_npy)

    def _write_npy(self, path: Path) -> None:
        from benchmarks.photographs import photograph

        with open(path, "wb") as file:
            np.save(file, np.ascontiguousarray(np.moveaxis(photograph(self.size, self.size), 0, -1)))

    @cached_property
    def pixels(self) -> Pixels:
        """The image itself, (y, x, c), mapped."""
        return np.load(self.npy, mmap_mode="r")  # type: ignore[no-any-return]

    @property
    def tif(self) -> Path:
        """The source of all others."""
        return made(self.folder / "image.tif", self._write_tif)

    def _write_tif(self, path: Path) -> None:
        import tifffile

        tifffile.imwrite(path, self.pixels, photometric="rgb", tile=(TILE, TILE))

    @cached_property
    def stores(self) -> Path:
        """Where ndzarr's stores lie; another place when presets change, so that none is read that is out of date."""
        import ndzarr._store.codecs
        import ndzarr._store.presets

        modules = (ndzarr._store.codecs, ndzarr._store.presets)
        return self.folder / f"stores-{version_of(*(Path(str(m.__file__)) for m in modules))}"

    def pyramid(self, preset: str) -> Path:
        """Ndzarr's store."""

        def make(path: Path) -> None:
            import ndzarr

            ndzarr.transcode(self.tif, path, preset=preset)

        return made(self.stores / f"{preset}.zarr", make)

    def cog(self, compression: str) -> Path:
        """GDAL's, 'deflate' or 'zstd'."""
        return made(self.folder / f"{compression}.tif", lambda path: write_cog(self.tif, path, compression))

    def grown(self, edge: int) -> Path:
        """A store of `edge` x `edge` pixels that holds `SPOTS` copies of one corner of the photograph."""

        def make(path: Path) -> None:
            from ndzarr._pyramid.transcode import write_pyramid
            from ndzarr._store.presets import Encoding

            corner = np.ascontiguousarray(np.moveaxis(self.pixels[:SPOT, :SPOT], -1, 0))
            write_pyramid(Scattered(edge, corner), path, Encoding("fast"))

        return made(self.stores / "growth" / f"{edge}.zarr", make)


SPOT = 2048
"""Edge of what `Scattered` images hold, and of a shard."""
SPOTS = 4
"""Along each axis, at most."""


def spots(edge: int) -> list[tuple[int, int]]:
    """Where the copies begin, (y, x), evenly spread and aligned to shards."""
    n = min(SPOTS, edge // SPOT)
    return [(i * (edge // n), j * (edge // n)) for i in range(n) for j in range(n)]


@dataclass(frozen=True)
class Scattered:
    """
    A source of pixels that is 0 but for copies of one picture, so that images of any size hold the same crops.

    It is generated band by band, as `ndzarr._formats.base.Source` asks for; chunks of zeros are not stored.
    """

    edge: int
    """Pixels along y and x."""
    picture: Pixels
    """(c, y, x), of `SPOT` x `SPOT`."""

    name = "scattered photographs"
    dims = ("c", "y", "x")
    dtype = np.dtype(np.uint8)
    channels = ("r", "g", "b")
    band = 256
    interleaved = True
    nodata = None
    times = None
    metadata: ClassVar[Mapping[str, Any]] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.edge, self.edge

    def read(self, window: Mapping[str, slice]) -> Pixels:
        """Rows of the image, whole."""
        rows = window["y"]
        out = np.zeros((3, rows.stop - rows.start, self.edge), np.uint8)
        for y, x in spots(self.edge):
            low, high = max(y, rows.start), min(y + SPOT, rows.stop)
            if low < high:
                out[:, low - rows.start : high - rows.start, x : x + SPOT] = self.picture[:, low - y : high - y]
        return out

    def close(self) -> None:
        """Nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
