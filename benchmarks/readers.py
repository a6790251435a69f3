"""How does each library read one window of one image, at its best, from a file that it can read?

A `Reader` opens once, outside the timing, and then answers windows with pixels (c, y, x) or (y, x, c).  Libraries are
imported when a reader is opened, so that those that are not installed can be left out by name.

Every reader gives the pixels of memory that it owns: a view of a memory map is copied, as the others' pixels are.
Decoded pixels are not kept from one window to the next, except where a reader's name says so: GDAL's block cache, which
would come to hold the whole image, gets `GDAL_CACHE_MB`, enough for the blocks of one window of 512 x 512.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import Data, disk_bytes

Pixels = np.ndarray[Any, Any]
Window = tuple[slice, slice]
"""Half-open, along y and x."""

GDAL_CACHE_MB = 16


@dataclass(frozen=True)
class Reader:
    """One way to read windows."""

    name: str
    open: Callable[[], Any]
    """Gives what `read` reads from."""
    read: Callable[[Any, slice, slice], Pixels]
    """(opened, along y, along x) to pixels."""
    close: Callable[[Any], None] = lambda opened: None
    file: Path | None = None
    """What is read, for its size on disk."""
    interleaved: bool = False
    """True where pixels are (y, x, c)."""

    @property
    def megabytes(self) -> float | None:
        """Size on disk."""
        return None if self.file is None else disk_bytes(self.file) / 1e6


def crop_readers(data: Data) -> list[Reader]:
    """All readers of one image; those of packages that are not installed fail to open with ImportError."""
    fast, compact = data.pyramid("fast"), data.pyramid("compact")
    readers = [
        Reader("ndzarr", lambda: _ndzarr(fast), _read_ndzarr, file=fast),
        Reader("ndzarr, compact", lambda: _ndzarr(compact), _read_ndzarr, file=compact),
        Reader("bare loop", lambda: BareLoop(fast), BareLoop.read, file=fast),
        Reader("tensorstore", lambda: _tensorstore(fast, 0), _read_tensorstore, file=fast),
        Reader("tensorstore, 64 MB cache", lambda: _tensorstore(fast, 64 << 20), _read_tensorstore, file=fast),
        Reader("zarr-python", lambda: _zarr(fast), _read_zarr, file=fast),
        Reader("zarr-python, fused pipeline", lambda: _zarr_fused(fast), _read_fused, file=fast),
    ]
    for compression in ("deflate", "zstd"):
        cog = data.cog(compression)
        readers += [
            Reader(f"rasterio, COG {compression}", lambda cog=cog: _rasterio(cog), _read_rasterio, _close, cog),  # type: ignore[misc]
            Reader(
                f"rasterio, COG {compression}, opened per crop",
                lambda cog=cog: _rasterio_path(cog),  # type: ignore[misc]
                _open_read_rasterio,
                file=cog,
            ),
        ]
    return [
        *readers,
        Reader("np.load(mmap)", lambda: np.load(data.npy, mmap_mode="r"), _read_npy, file=data.npy, interleaved=True),
        Reader("ndsampler, npy", lambda: _ndsampler(data), _read_ndsampler, file=data.npy, interleaved=True),
    ]


# ------------------------------------------------------------------------------------------------------------- ndzarr


def _ndzarr(path: Path) -> Any:
    import ndzarr

    return ndzarr.open(path)


def _read_ndzarr(pyramid: Any, y: slice, x: slice) -> Pixels:
    return pyramid.read(y=y, x=x)  # type: ignore[no-any-return]


class BareLoop:
    """
    What a reader cannot do without: look up the chunks in mapped shards, decode each with numcodecs, copy its part.

    It knows that the image is (c, y, x), that chunks hold all channels and that all of them are stored; it checks
    neither the window nor the checksums.
    """

    def __init__(self, path: Path) -> None:
        import json

        import numcodecs.blosc

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
        """A window that lies within the image."""
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


# --------------------------------------------------------------------------------------------------- other Zarr readers


def _tensorstore(path: Path, cache_bytes: int) -> Any:
    import tensorstore

    return tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/0/image/"}},
        context=tensorstore.Context({"cache_pool": {"total_bytes_limit": cache_bytes}}),
        read=True,
    ).result()


def _read_tensorstore(store: Any, y: slice, x: slice) -> Pixels:
    return store[:, y, x].read().result()  # type: ignore[no-any-return]


def _zarr(path: Path) -> Any:
    import zarr

    return zarr.open_array(path / "0" / "image", mode="r")


def _read_zarr(array: Any, y: slice, x: slice) -> Pixels:
    return array[:, y, x]  # type: ignore[no-any-return]


FUSED = {"codec_pipeline.path": "zarr.core.codec_pipeline.FusedCodecPipeline"}
"""Setting of zarr >= 3.2 that decodes without an event loop."""


def _zarr_fused(path: Path) -> Any:
    import zarr
    import zarr.core.codec_pipeline as pipelines

    if not hasattr(pipelines, "FusedCodecPipeline"):
        raise ImportError(f"zarr {zarr.__version__} has no FusedCodecPipeline")
    with zarr.config.set(FUSED):
        return zarr.open_array(path / "0" / "image", mode="r")


def _read_fused(array: Any, y: slice, x: slice) -> Pixels:
    return array[:, y, x]  # type: ignore[no-any-return]


# ----------------------------------------------------------------------------------------------------------------- GDAL


@contextmanager
def small_gdal_cache() -> Iterator[None]:
    """Readers through GDAL are opened and used within."""
    try:
        import rasterio
    except ImportError:
        yield
        return
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_MB):
        yield


def _rasterio(path: Path) -> Any:
    import rasterio

    return rasterio.open(path)


def _rasterio_path(path: Path) -> Path:
    import rasterio  # noqa: F401 - is it there?

    return path


def _read_rasterio(dataset: Any, y: slice, x: slice) -> Pixels:
    from rasterio.windows import Window

    return dataset.read(window=Window(x.start, y.start, x.stop - x.start, y.stop - y.start))  # type: ignore[no-any-return]


def _open_read_rasterio(path: Path, y: slice, x: slice) -> Pixels:
    import rasterio

    with rasterio.open(path) as dataset:
        return _read_rasterio(dataset, y, x)


def _close(opened: Any) -> None:
    opened.close()


# ------------------------------------------------------------------------------------------------------------ ndsampler


def _read_npy(mapped: Pixels, y: slice, x: slice) -> Pixels:
    return np.array(mapped[y, x])


def _ndsampler(data: Data) -> Any:
    """The sampler of ndsampler, its cache filled."""
    import kwcoco
    import ndsampler

    dset = kwcoco.CocoDataset(
        {
            "images": [{"id": 1, "file_name": str(data.tif), "width": data.size, "height": data.size}],
            "annotations": [],
            "categories": [],
        }
    )
    sampler = ndsampler.CocoSampler(dset, workdir=data.folder / "ndsampler", backend="npy")
    sampler.load_sample({"gid": 1, "cx": 64, "cy": 64, "width": 64, "height": 64})
    return sampler


def _read_ndsampler(sampler: Any, y: slice, x: slice) -> Pixels:
    return np.array(sampler.load_sample({"gid": 1, "space_slice": (y, x)})["im"])
