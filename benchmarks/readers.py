"""Readers of one window of one image: ndzarr and its peers, each at its best.

A `Reader` opens once, outside the timing, and then answers windows with pixels in memory of its own: a view of a memory
map is copied. Libraries are imported when a reader is opened, so that missing ones are left out by name. Decoded
pixels are not kept between windows, except where a reader's name says so: GDAL's block cache, which would come to hold
the whole image, gets `GDAL_CACHE_MB`, enough for the blocks of one window.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np

import ndzarr
from benchmarks.data import Data, Pixels, Window, coco, disk_bytes

GDAL_CACHE_MB = 16


@dataclass(frozen=True)
class Reader:
    """One way to read windows."""

    name: str
    open: Callable[[], Any]
    """Gives what `read` reads from."""
    read: Callable[[Any, slice, slice], Pixels]
    """(opened, along y, along x) to pixels (c, y, x), or (y, x, c) where `interleaved`."""
    file: Path
    interleaved: bool = False


def crop_readers(data: Data) -> list[Reader]:
    """All readers of one image; those of packages that are missing fail to open with ImportError."""
    fast, compact, npy = data.pyramid("fast"), data.pyramid("compact"), data.npy
    readers = [
        Reader("ndzarr", partial(ndzarr.open, fast), _ndzarr, fast),
        Reader("ndzarr, compact", partial(ndzarr.open, compact), _ndzarr, compact),
        Reader("bare loop", partial(BareLoop, fast), BareLoop.read, fast),
        Reader("tensorstore", partial(tensorstore, fast), _tensorstore, fast),
        Reader("tensorstore, 64 MB cache", partial(tensorstore, fast, 64 << 20), _tensorstore, fast),
        Reader("zarr-python", partial(zarr_array, fast), _sliced, fast),
        Reader("zarr-python, fused pipeline", partial(_zarr_fused, fast), _sliced, fast),
        Reader("np.load(mmap)", partial(np.load, npy, "r"), lambda a, y, x: np.array(a[y, x]), npy, True),
        Reader("ndsampler, npy", partial(_ndsampler, data), _read_ndsampler, npy, True),
    ]
    try:
        cogs = {compression: data.cog(compression) for compression in ("deflate", "zstd")}
    except ImportError:
        cogs = {}
    for compression, cog in cogs.items():
        name = f"rasterio, COG {compression}"
        readers.append(Reader(name, partial(rasterio_open, cog), read_rasterio, cog))
        readers.append(Reader(f"{name}, opened per crop", partial(str, cog), read_rasterio_opened, cog))
    return readers


class Opened:
    """Readers that work here, their pixels compared with the image; the others by name."""

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
            for w in wanted[:20]:
                got = reader.read(opened, **w)
                if not np.array_equal(np.moveaxis(got, -1, 0) if reader.interleaved else got, crop(data, w)):
                    raise AssertionError(f"{reader.name} reads other pixels at {w}")

    def runners(self, wanted: Sequence[Window]) -> dict[str, Callable[[int], Any]]:
        """For each reader, what reads the i-th window."""

        def run(read: Callable[..., Any], opened: Any, i: int) -> Any:
            return read(opened, **wanted[i])

        return {name: partial(run, reader.read, opened) for name, (reader, opened) in self.readers.items()}

    def megabytes(self, name: str) -> float:
        """What a reader's file takes on disk."""
        return disk_bytes(self.readers[name][0].file) / 1e6


def crop(data: Data, window: Window) -> Pixels:
    """The true pixels (c, y, x) of a window."""
    return data.pixels[:, window["y"], window["x"]]


def _ndzarr(pyramid: Any, y: slice, x: slice) -> Pixels:
    return pyramid.read(y=y, x=x)  # type: ignore[no-any-return]


class BareLoop:
    """What a reader cannot do without: look up chunks in mapped shards, decode each with numcodecs, copy its part.

    It knows that the image is (c, y, x), that chunks hold all channels and that all of them are stored; it checks
    neither the window nor the checksums.
    """

    def __init__(self, path: Path) -> None:
        numcodecs.blosc.use_threads = False
        self._decompress = numcodecs.blosc.decompress
        folder = path / "0" / "image"
        about = json.loads((folder / "zarr.json").read_text())
        self.shape = about["shape"]
        shard = about["chunk_grid"]["configuration"]["chunk_shape"]
        chunk = about["codecs"][0]["configuration"]["chunk_shape"]
        assert chunk[0] == self.shape[0]
        assert chunk[1] == chunk[2]
        self.chunk, self.per_shard = chunk[1], shard[1] // chunk[1]
        self._scratch = np.empty(chunk, np.uint8)
        n = -(-self.shape[1] // shard[1])
        self._shards = {(i, j): self._map(folder / "c" / "0" / str(i) / str(j)) for i in range(n) for j in range(n)}

    def _map(self, path: Path) -> tuple[Pixels, list[list[list[int]]]]:
        with open(path, "rb") as file:
            buffer = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        n = self.per_shard
        index = np.frombuffer(buffer[-16 * n * n - 4 : -4].tobytes(), "<u8").reshape(n, n, 2)
        return buffer, index.tolist()

    def read(self, y: slice, x: slice) -> Pixels:
        """A window within the image."""
        size, per_shard, scratch, decompress = self.chunk, self.per_shard, self._scratch, self._decompress
        top, left, bottom, right = y.start, x.start, y.stop, x.stop
        out = np.empty((self.shape[0], bottom - top, right - left), np.uint8)
        for i in range(top // size, -(-bottom // size)):
            first = i * size
            a, b = max(top, first), min(bottom, first + size)
            for j in range(left // size, -(-right // size)):
                start = j * size
                c, d = max(left, start), min(right, start + size)
                buffer, index = self._shards[i // per_shard, j // per_shard]
                offset, length = index[i % per_shard][j % per_shard]
                decompress(buffer[offset : offset + length], scratch)
                out[:, a - top : b - top, c - left : d - left] = scratch[
                    :, a - first : b - first, c - start : d - start
                ]
        return out

    def decode(self, i: int, j: int) -> None:
        """Decode one chunk by its row and column, and copy nothing."""
        buffer, index = self._shards[i // self.per_shard, j // self.per_shard]
        offset, length = index[i % self.per_shard][j % self.per_shard]
        self._decompress(buffer[offset : offset + length], self._scratch)


def tensorstore(path: Path, cache_bytes: int = 0) -> Any:
    import tensorstore as ts

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/0/image/"}}
    context = ts.Context({"cache_pool": {"total_bytes_limit": cache_bytes}})
    return ts.open(spec, context=context, read=True).result()


def _tensorstore(store: Any, y: slice, x: slice) -> Pixels:
    return store[:, y, x].read().result()  # type: ignore[no-any-return]


def zarr_array(path: Path) -> Any:
    import zarr

    return zarr.open_array(path / "0" / "image", mode="r")


def _zarr_fused(path: Path) -> Any:
    """Zarr >= 3.2 can decode without an event loop."""
    import zarr
    from zarr.core import codec_pipeline

    if not hasattr(codec_pipeline, "FusedCodecPipeline"):
        raise ImportError(f"zarr {zarr.__version__} has no FusedCodecPipeline")
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.FusedCodecPipeline"}):
        return zarr_array(path)


def _sliced(array: Any, y: slice, x: slice) -> Pixels:
    return array[:, y, x]  # type: ignore[no-any-return]


@contextmanager
def small_gdal_cache(megabytes: int = GDAL_CACHE_MB) -> Iterator[None]:
    """Readers through GDAL are opened and used within."""
    try:
        import rasterio
    except ImportError:
        yield
        return
    with rasterio.Env(GDAL_CACHEMAX=megabytes):
        yield


def rasterio_open(path: Path, **more: Any) -> Any:
    import rasterio

    return rasterio.open(path, **more)


def read_rasterio(dataset: Any, y: slice, x: slice) -> Pixels:
    from rasterio.windows import Window as Box

    return dataset.read(window=Box(x.start, y.start, x.stop - x.start, y.stop - y.start))  # type: ignore[no-any-return]


def read_rasterio_opened(path: Any, y: slice, x: slice) -> Pixels:
    with rasterio_open(path) as dataset:
        return read_rasterio(dataset, y, x)


def _ndsampler(data: Data) -> Any:
    sampler = ndsampler_peer(coco([data.tif], data.size), data.folder / "ndsampler", "npy")
    sampler.load_sample({"gid": 1, "cx": 64, "cy": 64, "width": 64, "height": 64})
    return sampler


def _read_ndsampler(sampler: Any, y: slice, x: slice) -> Pixels:
    return np.array(sampler.load_sample({"gid": 1, "space_slice": (y, x)})["im"])


def ndsampler_peer(content: dict[str, Any], workdir: Path, backend: str | None) -> Any:
    """The sampler of ndsampler, its cache filled where it has one."""
    import kwcoco
    import ndsampler

    sampler = ndsampler.CocoSampler(kwcoco.CocoDataset(content), workdir=workdir, backend=backend)
    if backend is not None:
        sampler.frames.prepare()
    return sampler
