"""How long until a fresh process has its first pixels?"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.data import Data
from benchmarks.reading import Settings
from benchmarks.report import Line, Section, Table, number
from benchmarks.writers import ROOT

IMPORTS = ("numpy, xarray", "ndzarr", "numpy", "zarr", "tensorstore", "rasterio")
BASE = IMPORTS[0]
RUNS = 11

WINDOW = "1000:1256, 2000:2256"
FIRST = {
    "ndzarr": (
        "import ndzarr",
        "pyr = ndzarr.open({store!r}); pyr.read(y=slice(1000, 1256), x=slice(1000, 1256))",
    ),
    "ndzarr, labelled": (
        "import ndzarr",
        "pyr = ndzarr.open({store!r}); pyr.window(y=slice(1000, 1256), x=slice(1000, 1256))",
    ),
    "zarr-python": (
        "import zarr",
        "zarr.open_array({store!r} + '/0/image', mode='r')[:, 1000:1256, 1000:1256]",
    ),
    "tensorstore": (
        "import tensorstore as ts",
        "ts.open(dict(driver='zarr3', kvstore=dict(driver='file', path={store!r} + '/0/image/')), read=True).result()"
        "[:, 1000:1256, 1000:1256].read().result()",
    ),
    "rasterio, COG deflate": (
        "import rasterio; from rasterio.windows import Window",
        "rasterio.open({cog!r}).read(window=Window(1000, 1000, 256, 256))",
    ),
}
"""What is imported before the clock starts, and what is timed."""


def starting(data: Data, settings: Settings) -> Section:
    """Item 7: imports, and the first crop."""
    store, cog = str(data.pyramid("fast")), str(data.cog("deflate"))
    programs: dict[str, tuple[str, str]] = {f"import {what}": ("", f"import {what}") for what in IMPORTS}
    programs |= {
        f"first crop, {name}": (before, what.format(store=store, cog=cog)) for name, (before, what) in FIRST.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    missing: list[str] = []
    for turn in range(RUNS + 1):
        for name, (before, what) in programs.items():
            if name in missing:
                continue
            try:
                taken = _seconds(before, what)
            except ImportError:
                missing.append(name)
                continue
            if turn:  # the first fills the system's cache
                seconds[name].append(taken)
    times = {name: statistics.median(taken) for name, taken in seconds.items() if taken}
    ratio = times["import ndzarr"] / times[f"import {BASE}"]
    first = times["first crop, ndzarr"] * 1e3
    return Section(
        "7. Starting",
        Table(("what", "median ms"), [(name, number(t * 1e3)) for name, t in times.items()]),
        [
            Line("7", f"import ndzarr / import {BASE}", ratio, 1.2),
            Line("7", "first crop of a process, opening included", first, 10, unit=" ms"),
        ],
        [
            f"Each in a fresh process, the median of {RUNS} in turn. The first crop includes opening the store, and "
            "excludes importing the package itself, but not what that imports later.",
            *([f"Left out: {', '.join(missing)}."] if missing else []),
        ],
    )


def _seconds(before: str, what: str) -> float:
    """Time of a statement in a fresh interpreter."""
    code = f"import time\n{before}\nstart = time.perf_counter()\n{what}\nprint(time.perf_counter() - start)"
    path = os.pathsep.join([_package_root(), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    if "ModuleNotFoundError" in done.stderr:
        raise ImportError(done.stderr.splitlines()[-1])
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return float(done.stdout)


def _package_root() -> str:
    """Where ndzarr is imported from, installed or not."""
    import ndzarr

    return str(Path(ndzarr.__file__).parents[1] if ndzarr.__file__ else ROOT)
