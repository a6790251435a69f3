"""What does reading windows of a pyramid cost, in time, memory, chunks and bytes?

Each call reads `CROPS` windows; `track_` values are totals of those, the same on every machine.
"""

from __future__ import annotations

import pickle

import ndzarr
from benchmarks.data import disk_bytes
from benchmarks.stores import KINDS, PRESETS, Paths, Prepared, windows


class Crops(Prepared):
    """Random windows at native scale."""

    params = ((64, 256, 1024), PRESETS, KINDS)
    param_names = ("edge", "preset", "kind")

    def setup(self, paths: Paths, edge: int, preset: str, kind: str) -> None:
        self.pyramid = ndzarr.open(paths.store(kind, preset))
        self.windows = windows(edge)
        self.pyramid.read_many(self.windows)  # warm

    def time_read(self, paths: Paths, edge: int, preset: str, kind: str) -> None:
        for window in self.windows:
            self.pyramid.read(**window)

    def time_window(self, paths: Paths, edge: int, preset: str, kind: str) -> None:
        for window in self.windows:
            self.pyramid.window(**window)

    def time_read_many(self, paths: Paths, edge: int, preset: str, kind: str) -> None:
        self.pyramid.read_many(self.windows)

    def peakmem_read(self, paths: Paths, edge: int, preset: str, kind: str) -> None:
        for window in self.windows:
            self.pyramid.read(**window)

    def track_chunks_decoded(self, paths: Paths, edge: int, preset: str, kind: str) -> int:
        return sum(self.pyramid.plan([window]).explain().chunks for window in self.windows)

    def track_chunks_decoded_together(self, paths: Paths, edge: int, preset: str, kind: str) -> int:
        return self.pyramid.plan(self.windows).explain().chunks

    def track_bytes_read(self, paths: Paths, edge: int, preset: str, kind: str) -> int:
        return sum(self.pyramid.plan([window]).explain().encoded_bytes or 0 for window in self.windows)

    def track_amplification(self, paths: Paths, edge: int, preset: str, kind: str) -> float:
        found = [self.pyramid.plan([window]).explain() for window in self.windows]
        return sum(f.decoded_bytes for f in found) / sum(f.wanted_bytes for f in found)


Crops.track_chunks_decoded.unit = "chunks"  # type: ignore[attr-defined]
Crops.track_chunks_decoded_together.unit = "chunks"  # type: ignore[attr-defined]
Crops.track_bytes_read.unit = "bytes"  # type: ignore[attr-defined]
Crops.track_amplification.unit = "decoded bytes per wanted byte"  # type: ignore[attr-defined]


class Scaled(Prepared):
    """The whole image, reduced: exactly a level, between two levels, and enlarged a little from one."""

    params = (("1/8", "1/9", "1/7"), KINDS)
    param_names = ("scale", "kind")

    def setup(self, paths: Paths, scale: str, kind: str) -> None:
        self.pyramid = ndzarr.open(paths.store(kind, "fast"))
        self.scale = 1 / int(scale[2:])
        self.pyramid.window(scale=self.scale)

    def time_window(self, paths: Paths, scale: str, kind: str) -> None:
        self.pyramid.window(scale=self.scale)

    def peakmem_window(self, paths: Paths, scale: str, kind: str) -> None:
        self.pyramid.window(scale=self.scale)


class Stores(Prepared):
    """The store as such."""

    params = (PRESETS, KINDS)
    param_names = ("preset", "kind")

    def setup(self, paths: Paths, preset: str, kind: str) -> None:
        self.path = paths.store(kind, preset)

    def time_open(self, paths: Paths, preset: str, kind: str) -> None:
        ndzarr.open(self.path)

    def track_bytes(self, paths: Paths, preset: str, kind: str) -> int:
        return disk_bytes(self.path)

    def track_files(self, paths: Paths, preset: str, kind: str) -> int:
        return sum(f.is_file() for f in self.path.rglob("*"))

    def track_pickle_bytes(self, paths: Paths, preset: str, kind: str) -> int:
        """Without the path, which differs from run to run."""
        return len(pickle.dumps(ndzarr.open(self.path))) - len(str(self.path))


Stores.track_bytes.unit = "bytes"  # type: ignore[attr-defined]
Stores.track_files.unit = "files"  # type: ignore[attr-defined]
Stores.track_pickle_bytes.unit = "bytes"  # type: ignore[attr-defined]
