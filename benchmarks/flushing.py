"""
What waiting for the disk costs: writing with and without it, in pairs.

    python benchmarks/flushing.py [DIRECTORY]
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import ndzarr
from ndzarr import _files
from ndzarr._library.library import Library
from ndzarr._store import sharding


def photograph(height: int, width: int) -> np.ndarray[Any, Any]:
    """Return smooth shades with noise, of shape (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    shades = (np.sin(x / 17) + np.cos(y / 23)) * 55 + 128
    noise = np.random.default_rng(0).normal(0, 4, (height, width, 3))
    return np.clip(shades[..., None] + noise, 0, 255).astype(np.uint8)


FLUSHING = _files.flush, _files.flush_one, sharding.flush_soon


def switch(on: bool) -> None:
    """Let ndzarr wait for the disk, or not."""
    nothing = (lambda _: None,) * 3
    _files.flush, _files.flush_one, sharding.flush_soon = FLUSHING if on else nothing


def compare(name: str, write: Callable[[], object], pairs: int) -> None:
    """Print the median of both times, and the median and the quartiles of their ratios."""
    write()
    times: dict[bool, list[float]] = {True: [], False: []}
    for k in range(2 * pairs):
        on = k % 4 in (0, 3)
        switch(on)
        os.sync()
        begun = time.perf_counter()
        write()
        times[on].append(time.perf_counter() - begun)
    ratios = [a / b for a, b in zip(times[True], times[False], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    with_it, without = (1e3 * statistics.median(times[on]) for on in (True, False))
    print(
        f"{name}: {with_it:.0f} ms, without {without:.0f} ms; ratio {middle:.2f} ({low:.2f} to {high:.2f})", flush=True
    )


def main() -> None:
    """Write stores, a COG and a cache."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        folder = Path(name)
        small, large = photograph(700, 900), photograph(4000, 6000)
        compare("transcode 700x900", lambda: ndzarr.transcode(small, folder / "a.zarr", overwrite=True), 20)
        compare("transcode 4000x6000", lambda: ndzarr.transcode(large, folder / "b.zarr", overwrite=True), 8)
        pyramid = ndzarr.open(folder / "b.zarr")
        compare("COG 4000x6000", lambda: ndzarr.export_cog(pyramid, folder / "a.tif", overwrite=True), 6)
        paths = [folder / f"{k}.png" for k in range(60)]
        for path in paths:
            Image.fromarray(photograph(300, 400)).save(path, compress_level=1)

        def prepare() -> None:
            shutil.rmtree(folder / "cache", ignore_errors=True)
            Library(folder / "cache").prepare(paths)

        compare("prepare 60 of 300x400", prepare, 6)


if __name__ == "__main__":
    main()
