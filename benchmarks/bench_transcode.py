"""What does making a pyramid cost, in time, memory and bytes on disk?"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

import ndzarr
from benchmarks.data import disk_bytes
from benchmarks.stores import KINDS, PRESETS, Paths, Prepared, options


class Transcode(Prepared):
    """From an uncompressed tiled TIFF."""

    params = (PRESETS, KINDS)
    param_names = ("preset", "kind")

    def setup(self, paths: Paths, preset: str, kind: str) -> None:
        self.source, self.dest = paths.source(kind), Path.cwd() / "written.zarr"
        self.preset, self.options = preset, options(kind)
        shutil.rmtree(self.dest, ignore_errors=True)

    def teardown(self, paths: Paths, preset: str, kind: str) -> None:
        shutil.rmtree(self.dest, ignore_errors=True)

    def time_transcode(self, paths: Paths, preset: str, kind: str) -> None:
        ndzarr.transcode(self.source, self.dest, preset=self.preset, overwrite=True, **self.options)

    def time_transcode_in_one_thread(self, paths: Paths, preset: str, kind: str) -> None:
        ndzarr.transcode(self.source, self.dest, preset=self.preset, overwrite=True, workers=1, **self.options)

    def peakmem_transcode(self, paths: Paths, preset: str, kind: str) -> None:
        ndzarr.transcode(self.source, self.dest, preset=self.preset, overwrite=True, **self.options)

    def track_ratio(self, paths: Paths, preset: str, kind: str) -> float:
        """Bytes of native pixels per byte of the store, all levels included."""
        store = paths.store(kind, preset)
        pyramid = ndzarr.open(store)
        return float(np.prod(pyramid.shape)) * pyramid.dtype.itemsize / disk_bytes(store)


Transcode.track_ratio.unit = "pixel bytes per stored byte"  # type: ignore[attr-defined]
