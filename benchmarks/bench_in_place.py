"""What does reading windows of a TIFF where it lies cost, in time, tiles and bytes?

Each call reads `CROPS` windows; `track_` values are totals of those, the same on every machine.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

import ndzarr
from benchmarks.stores import EDGE, windows

COMPRESSIONS = ("zlib", "zstd", "lzw", "jpeg", "none")


class InPlace:
    """Random windows of a photograph in tiles of 256, with overviews."""

    params = COMPRESSIONS
    param_names = ("compression",)
    timeout = 300

    def setup_cache(self) -> str:
        """Write a TIFF per compression; returns the directory."""
        import tifffile

        from benchmarks.photographs import photograph

        folder = Path.cwd() / "in-place"
        folder.mkdir(exist_ok=True)
        native = np.ascontiguousarray(np.moveaxis(photograph(EDGE, EDGE), 0, -1))
        for name in COMPRESSIONS:
            with tifffile.TiffWriter(folder / f"{name}.tif") as tif:
                for k in range(4):
                    tif.write(
                        np.ascontiguousarray(native[:: 2**k, :: 2**k]),
                        photometric="rgb",
                        tile=(256, 256),
                        compression=None if name == "none" else name,
                        predictor=name in ("zlib", "zstd"),
                        subfiletype=min(k, 1),
                    )
        return str(folder)

    def setup(self, folder: str, compression: str) -> None:
        self.path = Path(folder) / f"{compression}.tif"
        self.pyramid = ndzarr.open(self.path)
        self.windows = windows(256)
        self.pyramid.read_many(self.windows)  # warm

    def time_open(self, folder: str, compression: str) -> None:
        ndzarr.open(self.path)

    def time_read(self, folder: str, compression: str) -> None:
        for window in self.windows:
            self.pyramid.read(**window)

    def time_read_many(self, folder: str, compression: str) -> None:
        self.pyramid.read_many(self.windows)

    def time_overview(self, folder: str, compression: str) -> None:
        self.pyramid.window(scale=1 / 8)

    def track_tiles_decoded(self, folder: str, compression: str) -> int:
        return sum(self.pyramid.plan([window]).explain().chunks for window in self.windows)

    def track_bytes_read(self, folder: str, compression: str) -> int:
        return sum(self.pyramid.plan([window]).explain().encoded_bytes or 0 for window in self.windows)

    def track_pickle_bytes(self, folder: str, compression: str) -> int:
        return len(pickle.dumps(self.pyramid))


InPlace.track_tiles_decoded.unit = "tiles"  # type: ignore[attr-defined]
InPlace.track_bytes_read.unit = "bytes"  # type: ignore[attr-defined]
InPlace.track_pickle_bytes.unit = "bytes"  # type: ignore[attr-defined]
