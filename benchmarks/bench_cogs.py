"""What does exporting a pyramid as a COG cost, in time, memory and bytes on disk?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import ndzarr
from benchmarks.cogs import sources_for_asv


class Export:
    """From a pyramid of 2048 x 2048 pixels."""

    params = (("deflate", "zstd", "lzw"), ("photograph", "heights"))
    param_names = ("compression", "kind")
    timeout = 300

    def setup_cache(self) -> dict[str, Path]:
        return sources_for_asv(Path.cwd())

    def setup(self, paths: dict[str, Path], compression: str, kind: str) -> None:
        self.pyramid, self.dest = ndzarr.open(paths[kind]), Path.cwd() / "written.tif"

    def teardown(self, paths: dict[str, Path], compression: str, kind: str) -> None:
        self.dest.unlink(missing_ok=True)

    def time_export(self, paths: dict[str, Path], compression: str, kind: str) -> None:
        ndzarr.export_cog(self.pyramid, self.dest, compression=compression, overwrite=True)

    def peakmem_export(self, paths: dict[str, Path], compression: str, kind: str) -> None:
        ndzarr.export_cog(self.pyramid, self.dest, compression=compression, overwrite=True)

    def track_ratio(self, paths: dict[str, Path], compression: str, kind: str) -> float:
        """Bytes of native pixels per byte of the file, overviews included."""
        ndzarr.export_cog(self.pyramid, self.dest, compression=compression, overwrite=True)
        return float(np.prod(self.pyramid.shape)) * self.pyramid.dtype.itemsize / self.dest.stat().st_size


Export.track_ratio.unit = "pixel bytes per stored byte"  # type: ignore[attr-defined]
