"""asv: reading windows of stores and of TIFFs in place, transcoding, and exporting COGs.

A call reads `CROPS` windows. `track_` values are totals of those, the same on every machine.
"""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import ndzarr
from benchmarks.data import COMPRESSIONS, EDGE, KINDS, PRESETS, Cached, disk_bytes, kind_options, units, windows

CROPS = 16


class Crops(Cached):
    """Random windows of a store at native scale."""

    params = ((64, 256, 1024), PRESETS, KINDS)
    param_names = ("edge", "preset", "kind")

    def setup(self, folder: Path, edge: int, preset: str, kind: str) -> None:
        self.pyramid = ndzarr.open(self.file(folder, f"{kind}-{preset}.zarr"))
        self.windows = windows(EDGE, edge, CROPS)
        self.pyramid.read_many(self.windows)

    def time_read(self, *_: Any) -> None:
        for window in self.windows:
            self.pyramid.read(**window)

    peakmem_read = time_read

    def time_window(self, *_: Any) -> None:
        for window in self.windows:
            self.pyramid.window(**window)

    def time_read_many(self, *_: Any) -> None:
        self.pyramid.read_many(self.windows)


class InPlace(Crops):
    """The same of a TIFF in tiles of 256, with overviews."""

    params = COMPRESSIONS
    param_names = ("compression",)

    def setup(self, folder: Path, compression: str) -> None:  # type: ignore[override]
        self.path = self.file(folder, f"{compression}.tif")
        self.pyramid, self.windows = ndzarr.open(self.path), windows(EDGE, 256, CROPS)
        self.pyramid.read_many(self.windows)

    def time_open(self, *_: Any) -> None:
        ndzarr.open(self.path)

    def time_overview(self, *_: Any) -> None:
        self.pyramid.window(scale=1 / 8)


class Plans(Cached):
    """What windows of 64, 256 and 1024 pixels decode, `CROPS` of each."""

    params = (*(f"{kind}-fast.zarr" for kind in KINDS), *(f"{name}.tif" for name in COMPRESSIONS))
    param_names = ("file",)

    def setup(self, folder: Path, name: str) -> None:
        self.pyramid = ndzarr.open(self.file(folder, name))
        self.windows = [window for edge in (64, 256, 1024) for window in windows(EDGE, edge, CROPS)]
        self.plans = [self.pyramid.plan([window]).explain() for window in self.windows]

    def track_chunks_decoded(self, *_: Any) -> int:
        return sum(plan.chunks for plan in self.plans)

    def track_chunks_decoded_together(self, *_: Any) -> int:
        return self.pyramid.plan(self.windows).explain().chunks

    def track_bytes_read(self, *_: Any) -> int:
        return sum(plan.encoded_bytes or 0 for plan in self.plans)

    def track_amplification(self, *_: Any) -> float:
        """Decoded bytes per wanted byte."""
        return sum(plan.decoded_bytes for plan in self.plans) / sum(plan.wanted_bytes for plan in self.plans)


class Scaled(Cached):
    """The whole image, reduced: exactly a level, between two levels, and enlarged a little from one."""

    params = (("1/8", "1/9", "1/7"), KINDS)
    param_names = ("scale", "kind")

    def setup(self, folder: Path, scale: str, kind: str) -> None:
        self.pyramid = ndzarr.open(self.file(folder, f"{kind}-fast.zarr"))
        self.scale = 1 / int(scale[2:])
        self.pyramid.window(scale=self.scale)

    def time_window(self, *_: Any) -> None:
        self.pyramid.window(scale=self.scale)

    peakmem_window = time_window


class Stores(Cached):
    """The store as such."""

    params = (PRESETS, KINDS)
    param_names = ("preset", "kind")

    def setup(self, folder: Path, preset: str, kind: str) -> None:
        self.path = self.file(folder, f"{kind}-{preset}.zarr")

    def time_open(self, *_: Any) -> None:
        ndzarr.open(self.path)

    def track_bytes(self, *_: Any) -> int:
        return disk_bytes(self.path)

    def track_files(self, *_: Any) -> int:
        return sum(f.is_file() for f in self.path.rglob("*"))

    def track_pickle_bytes(self, *_: Any) -> int:
        """Without the path, which differs from run to run."""
        return len(pickle.dumps(ndzarr.open(self.path))) - len(str(self.path))


class Transcode(Cached):
    """From an uncompressed tiled TIFF."""

    params = (PRESETS, KINDS)
    param_names = ("preset", "kind")

    def setup(self, folder: Path, preset: str, kind: str) -> None:
        self.source, self.dest = self.file(folder, f"{kind}.tif"), folder / "written.zarr"
        self.how = {"preset": preset, "overwrite": True, **kind_options(kind)}

    def teardown(self, *_: Any) -> None:
        shutil.rmtree(self.dest, ignore_errors=True)

    def time_transcode(self, *_: Any) -> None:
        ndzarr.transcode(self.source, self.dest, **self.how)

    peakmem_transcode = time_transcode

    def time_transcode_in_one_thread(self, *_: Any) -> None:
        ndzarr.transcode(self.source, self.dest, workers=1, **self.how)


class ExportCog(Cached):
    """From a store."""

    params = (("deflate", "zstd", "lzw"), ("photograph", "elevation"))
    param_names = ("compression", "kind")

    def setup(self, folder: Path, compression: str, kind: str) -> None:
        self.pyramid = ndzarr.open(self.file(folder, f"{kind}-fast.zarr"))
        self.dest, self.compression = folder / "written.tif", compression

    def teardown(self, *_: Any) -> None:
        self.dest.unlink(missing_ok=True)

    def time_export(self, *_: Any) -> None:
        ndzarr.export_cog(self.pyramid, self.dest, compression=self.compression, overwrite=True)

    peakmem_export = time_export

    def track_bytes(self, *_: Any) -> int:
        self.time_export()
        return disk_bytes(self.dest)


units(
    Plans, chunks_decoded="chunks", chunks_decoded_together="chunks", bytes_read="bytes", amplification="bytes / byte"
)
units(Stores, bytes="bytes", files="files", pickle_bytes="bytes")
units(ExportCog, bytes="bytes")
