"""Which stores do the asv benchmarks read, and who makes them?

`Prepared.setup_cache` writes every source and store once; all benchmark classes inherit it, so asv runs it once for
all of them. It is not parameterised: it returns paths, and `setup` picks one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EDGE = 2048
PRESETS = ("fast", "compact")
CROPS = 16
"""Windows that one call of a benchmark reads."""

Pixels = np.ndarray[Any, Any]
Maker = Callable[[], Pixels]


def _makers() -> dict[str, Maker]:
    from benchmarks import photographs

    return {
        "photograph": lambda: photographs.photograph(EDGE, EDGE),
        "multispectral": lambda: photographs.multispectral(EDGE, EDGE),
        "elevation": lambda: photographs.elevation(EDGE, EDGE),
        "labels": lambda: photographs.labels(EDGE, EDGE),
    }


KINDS = ("photograph", "multispectral", "elevation", "labels")
"""uint8 (3, y, x), uint16 (8, y, x), float32 (1, y, x), uint8 classes (1, y, x)."""


@dataclass(frozen=True)
class Paths:
    """Where everything is."""

    folder: Path

    def source(self, kind: str) -> Path:
        """An uncompressed tiled TIFF."""
        return self.folder / f"{kind}.tif"

    def store(self, kind: str, preset: str) -> Path:
        """The pyramid of it."""
        return self.folder / f"{kind}-{preset}.zarr"

    @property
    def workdir(self) -> Path:
        """Of samplers."""
        return self.folder / "workdir"


def write_source(path: Path, pixels: Pixels) -> None:
    """A TIFF of planes, or of colour pixels where there are three channels of uint8."""
    import tifffile

    if pixels.shape[0] == 3 and pixels.dtype == np.uint8:
        tifffile.imwrite(path, np.moveaxis(pixels, 0, -1), photometric="rgb", tile=(256, 256))
    else:
        planes = pixels if len(pixels) > 1 else pixels[0]
        planar = "separate" if len(pixels) > 1 else None
        tifffile.imwrite(path, planes, photometric="minisblack", tile=(256, 256), planarconfig=planar)


def options(kind: str) -> dict[str, Any]:
    """How a kind is transcoded."""
    return {"kind": "labels"} if kind == "labels" else {}


def windows(edge: int, n: int = CROPS, seed: int = 0) -> list[dict[str, Any]]:
    """Random windows within the images."""
    rng = random.Random(seed)
    corners = [(rng.randrange(EDGE - edge), rng.randrange(EDGE - edge)) for _ in range(n)]
    return [{"y": slice(y, y + edge), "x": slice(x, x + edge)} for y, x in corners]


class Prepared:
    """What all benchmarks start from."""

    timeout = 300

    def setup_cache(self) -> Paths:
        """Make sources and stores; asv runs this in a directory that it keeps while the benchmarks run."""
        import ndzarr

        paths = Paths(Path.cwd() / "stores")
        paths.folder.mkdir(exist_ok=True)
        for kind, make in _makers().items():
            write_source(paths.source(kind), make())
            for preset in PRESETS:
                ndzarr.transcode(paths.source(kind), paths.store(kind, preset), preset=preset, **options(kind))
        return paths
