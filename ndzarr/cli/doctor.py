"""The command `ndzarr doctor`."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from ndzarr._indexing.plan import human_bytes

_PACKAGES = ("numpy", "zarr", "numcodecs", "imagecodecs", "tifffile", "xarray", "dask", "kwcoco", "av")
_OPTIONAL = ("obstore", "distributed", "pyproj", "torch", "pyarrow", "matplotlib", "onnxruntime")
_SIDE, _WINDOWS = 2048, 200
"""Pixels of the image that is measured with, and crops of 256 x 256 that are read from it."""


@click.command(
    epilog="""\b
Examples:
  Say how this machine reads:
    ndzarr doctor
  For a report of a fault, or a program:
    ndzarr doctor --json
"""
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--measure/--no-measure", default=True, help="Time reads of an image made here (a second).")
def command(as_json: bool, measure: bool) -> None:
    """
    Report versions, the compiled core, CPUs, limits, the speed of decoding and remote settings.

    Names of credentials are printed, never their values.
    """
    found = _report(measure)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for title, facts in found.items():
        click.secho(title, bold=True)
        for name, value in facts.items():
            click.echo(f"  {name:<16} {value}")


def _report(measure: bool) -> dict[str, dict[str, Any]]:
    report = {
        "ndzarr": {"version": version("ndzarr"), "from": str(Path(__file__).parents[1])},
        "machine": _machine(),
        "compiled core": _core(),
        "packages": _versions(_PACKAGES),
        "optional packages": _versions(_OPTIONAL),
        "remote": _remote(),
        "cache": _cache(),
    }
    if measure:
        report["speed"] = _speed()
    return report


def _machine() -> dict[str, Any]:
    from ndzarr._concurrency import available_cpus, memory_limit
    from ndzarr._files import descriptor_limit

    return {
        "python": f"{platform.python_version()} in {sys.executable}",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "CPUs": f"{available_cpus()} of {os.cpu_count()} may be used",
        "memory": f"{human_bytes(memory_limit())} may be used",
        "open files": f"at most {descriptor_limit()}",
    }


def _core() -> dict[str, Any]:
    from ndzarr._store import core

    return {"status": core.status()}


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    out = {}
    for name in names:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out


def _remote() -> dict[str, Any]:
    from ndzarr._remote.settings import Remote

    prefixes = ("AWS_", "GOOGLE_", "AZURE_")
    settings = {name: value for name, value in asdict(Remote()).items() if value is not None}
    return {
        "settings": ", ".join(f"{name}={value}" for name, value in settings.items()),
        "environment": ", ".join(sorted(name for name in os.environ if name.startswith(prefixes)))
        or "none of AWS_*, GOOGLE_*, AZURE_*",
    }


def _cache() -> dict[str, Any]:
    from ndzarr._files import cache_root

    root = cache_root()
    near = next(path for path in (root, *root.parents) if path.exists())
    usage = os.statvfs(near) if hasattr(os, "statvfs") else None
    free = "unknown" if usage is None else human_bytes(usage.f_bavail * usage.f_frsize)
    return {"directory": str(root), "free": free, "writable": "yes" if os.access(near, os.W_OK) else "no"}


def _speed() -> dict[str, Any]:
    """Time crops of an image with soft shapes and a little noise, as photographs have."""
    import numpy as np

    import ndzarr

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:_SIDE, :_SIDE].astype(np.float32)
    soft = 128 + 60 * np.sin(x / 90) * np.cos(y / 70)
    noise = rng.normal(0, 4, (_SIDE, _SIDE, 3)).astype(np.float32)
    image = np.clip(soft[..., None] + noise, 0, 255).astype(np.uint8)
    places = rng.integers(0, _SIDE - 256, (_WINDOWS, 2)).tolist()
    windows = [{"y": slice(a, a + 256), "x": slice(b, b + 256)} for a, b in places]
    with tempfile.TemporaryDirectory(prefix="ndzarr-") as folder:
        begin = time.perf_counter()
        pyramid = ndzarr.transcode(image, Path(folder, "a.zarr"))
        written = time.perf_counter() - begin
        pyramid.read_many(windows)
        times = []
        for window in windows:
            begin = time.perf_counter()
            pyramid.read(y=window["y"], x=window["x"])
            times.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        pyramid.read_many(windows)
        together = time.perf_counter() - begin
    return {
        "a crop": f"{1e3 * float(np.median(times)):.2f} ms, 256 x 256 RGB of the preset fast",
        "together": f"{_WINDOWS / together:,.0f} crops/s, {human_bytes(_WINDOWS * 3 * 256**2 / together)}/s of pixels",
        "writing": f"{human_bytes(image.nbytes / written)}/s of pixels",
    }
