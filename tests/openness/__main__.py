"""
What readers that are not ours find in our stores and COGs, and what ndzarr finds in the stores of others.

`python tests/openness` makes small stores of each preset and COGs of each compression, installs each reader into an
environment of its own, and compares what it finds with what was written.  Then it does the same the other way round,
with stores that others write (`foreign.py`), in an environment that has their writers.  `--write` prints both tables
into docs/openness.md.

Environments stay below `--environments`, where the next call finds them.  They come from PyPI, from npm (`node` is
needed), and GDAL from Debian sid (root and `debootstrap`).  vizarr is built from its source on GitHub (`git`, npm), and
needs `chromium` as neuroglancer does.  Readers whose environment cannot be had are left out of the table, and named.
The exit code is 1 if a cell of preset 'fast', a COG or a store of others is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from platformdirs import user_cache_path
from readers import COG_READERS, NODE_PACKAGES, PACKAGES, VIZARR, digest

import ndzarr

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "openness.md"
MARKS = "<!-- openness: begin -->", "<!-- openness: end -->"
FOREIGN_MARKS = "<!-- foreign: begin -->", "<!-- foreign: end -->"
WRITERS = (
    *("dask", "h5netcdf", "h5py", "icechunk", "kerchunk", "ngff-zarr", "obstore", "odc-geo"),
    *("ome-zarr", "rasterio", "rioxarray", "tensorstore", "virtualizarr", "zarrs"),
)
"""What writes the stores of the second table, besides what ndzarr needs itself."""
PYTHON = "3.13"
"""Of the environments, if uv makes them; the newest releases of some readers need it."""
CODE, TRANSFORM = 32633, (10.0, 0.0, 300000.0, 0.0, -10.0, 7000000.0)
PIXELS = ("pixels", "pixels0", "first")
"""Facts that are not compared where pixels are stored with loss."""
EXACT = "deflate", "zstd", "lzw", "lerc", "none"


@dataclass(frozen=True)
class Written:
    """A store or a COG, and what is true of it."""

    column: str
    path: Path
    facts: dict[str, Any]
    exact: bool
    """False if pixels are stored with loss."""
    settled: bool = True
    """False for a draft of OME-Zarr, which readers may not know yet."""


def _pictures() -> Iterator[tuple[str, np.ndarray[Any, Any], dict[str, Any]]]:
    y, x = np.mgrid[:301, :517]
    rgb = np.stack([x // 3, y // 2, (x + y) // 4]).astype("u1")
    rgb[:, :140, :150] = 7
    yield "rgb", rgb, {}
    yield "deep", (rgb.astype("u2") * 200), {}
    heights = (np.sin(x / 40) * np.cos(y / 30) * 500)[None].astype("f4")
    heights[:, :140, :150] = -9999
    yield "heights", heights, {"nodata": -9999}
    yield "slopes", np.gradient(heights, axis=2), {}
    yield "classes", (rgb[:1] // 16), {"kind": "labels"}


def written(folder: Path) -> Iterator[Written]:
    """Write a store of each preset and picture, and COGs of one picture."""
    for name, pixels, options in _pictures():
        source, kept = folder / f"{name}.tif", dict(options)
        how = {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2], "dtype": pixels.dtype}
        with rasterio.open(
            source, "w", driver="GTiff", crs=f"EPSG:{CODE}", transform=rasterio.Affine(*TRANSFORM),
            nodata=kept.pop("nodata", None), **how,
        ) as file:  # fmt: skip
            file.write(pixels)
        forms = [("fast", ".zarr", "0.5"), ("compact", ".zarr", "0.5")][: 1 if name == "slopes" else 2]
        forms += [("fast", ".ozx", "0.5"), ("fast", ".zarr", "0.6"), ("jpeg", ".zarr", "0.5")] if name == "rgb" else []
        for preset, suffix, version in forms:
            path = folder / f"{name}-{preset}-{version}{suffix}"
            pyr = ndzarr.transcode(source, path, preset=preset, ome_version=version, **kept)
            scale = [[1.0, 10.0 * 2**k, 10.0 * 2**k] for k in range(len(pyr.levels))]
            facts = {
                "pixels": [digest(pyr.read(k)) for k in range(len(pyr.levels))],
                "pixels0": digest(pixels),
                "axes": list(pyr.dims),
                "channels": list(pyr.channels),
                "scale": scale,
                "translation": [[0.0, *[5.0 * (2**k - 1)] * 2] for k in range(len(pyr.levels))],
                "epsg": CODE,
                "transform": list(TRANSFORM),
                "nodata": pyr.nodata,
                "fill": pyr.nodata if pyr.nodata is not None else np.nan if pixels.dtype.kind == "f" else 0,
                "first": digest(pixels[0]),
                "layer": "labels" if pyr.kind == "labels" else "image",
                "levels": len(pyr.levels),
                "valid": True,
            }
            column = f"{name}, {preset}" + ", .ozx" * (suffix == ".ozx") + ", OME-Zarr 0.6" * (version == "0.6")
            yield Written(column, path, facts, preset != "jpeg", version != "0.6")
        if name == "rgb":
            pyr = ndzarr.open(folder / "rgb-fast-0.5.zarr")
            for compression in (*EXACT, "jpeg", "webp"):
                path = ndzarr.export_cog(pyr, folder / f"{compression}.tif", compression=compression, blocksize=128)
                found = {"pixels0": digest(pixels), "levels": len(pyr.levels), "size": [517, 301]}
                place = {"epsg": CODE, "transform": list(TRANSFORM), "nodata": pyr.nodata}
                yield Written(f"COG, {compression}", path, found | place, compression in EXACT)


def cells(command: Sequence[str | Path], reader: str, columns: Sequence[Written]) -> Iterator[str]:
    """Yield the name and release of a reader, and what it finds right in each store, or that it finds nothing."""
    paths = [made.path for made in columns]
    if command[0] == "chroot":
        inside = Path(command[1], "tmp", "openness")
        shutil.rmtree(inside, ignore_errors=True)
        shutil.copytree(paths[0].parent, inside)
        paths = [Path("/tmp/openness", path.name) for path in paths]
    done = subprocess.run([*command, reader, *paths], capture_output=True, text=True, check=False)
    first, *told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")] or [{}]
    yield f"{re.sub(r' ([0-9.]+|[(]COG[)])$', '', reader)} {first.get('version', '')}".strip()
    if len(told) < len(paths):
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason"]
        told += [{"error": reason[0]}] * (len(paths) - len(told))
    for found, made in zip(told, columns, strict=True):
        yield _judged(reader, made, found)


def _judged(reader: str, made: Written, found: dict[str, Any]) -> str:
    if "error" in found:
        print(f"{reader}, {made.column}: {found['error'][:300]}", file=sys.stderr)
        return "-"
    told = [k for k in found if k in made.facts and (made.exact or k not in PIXELS)]
    wrong = [k for k in told if not _equal(found[k], made.facts[k])]
    for key in wrong:
        print(f"{reader}, {made.column}: {key} is {found[key]}, not {made.facts[key]}", file=sys.stderr)
    return "wrong: " + ", ".join(wrong) if wrong else "yes"


def _equal(found: Any, wanted: Any) -> bool:
    numbers = found if isinstance(found, list) and found else [found]
    if isinstance(numbers[0], int | float | list) and wanted is not None:
        return bool(np.allclose(found, wanted, equal_nan=True))
    return bool(found == wanted)


def environment(folder: Path, reader: str) -> list[str | Path]:
    """Return the command that runs a reader in an environment that has it, which is made unless it is there."""
    if reader.startswith("GDAL"):
        return gdal_environment(folder / "GDAL")
    where = folder / re.sub(r"\W", "-", reader)
    if not where.exists():
        try:
            _make(where, reader)
        except (OSError, subprocess.CalledProcessError):
            shutil.rmtree(where, ignore_errors=True)
            raise
    if reader in NODE_PACKAGES:
        return ["node", shutil.copy(HERE / "readers.mjs", where)]
    if reader == "vizarr":
        shutil.copy(HERE / "vizarr.html", where / "vizarr" / "dist" / "page.html")
    return [where / "bin" / "python", HERE / "readers.py"]


def _make(where: Path, reader: str) -> None:
    if reader in NODE_PACKAGES:
        _run("npm", "install", "--silent", "--prefix", where, *NODE_PACKAGES[reader])
        return
    _make_python(where, "numpy", *PACKAGES[reader])
    if reader == "vizarr":
        source, commit = VIZARR
        _run("git", "clone", "-q", source, where / "vizarr")
        _run("git", "checkout", "-q", commit, cwd=where / "vizarr")
        _run("npm", "install", "--silent", "--legacy-peer-deps", cwd=where / "vizarr")
        _run("npx", "vite", "build", "--logLevel", "error", cwd=where / "vizarr")


def _make_python(where: Path, *packages: str | Path) -> None:
    """Make an environment of Python with packages of PyPI."""
    python = where / "bin" / "python"
    if shutil.which("uv"):
        _run("uv", "venv", "-q", "--python", PYTHON, where)
        _run("uv", "pip", "install", "-q", "--python", python, *packages)
    else:
        _run(sys.executable, "-m", "venv", where)
        _run(python, "-m", "pip", "install", "-q", *packages)


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run(command, check=True, cwd=cwd, stdout=sys.stderr)


def gdal_environment(folder: Path) -> list[str | Path]:
    """Return the command for a Debian sid, whose GDAL has the Zarr driver that PyPI's wheel lacks."""
    if not (folder / "usr/bin/gdalinfo").exists():
        _run("debootstrap", "--variant=minbase", "sid", folder, "http://deb.debian.org/debian")
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends"]
        _run("chroot", folder, *install, "python3-gdal", "gdal-bin")
    shutil.copy(HERE / "readers.py", folder / "tmp")
    return ["chroot", folder, "python3", "/tmp/readers.py"]


def ours(environments: Path, readers: Sequence[str], work: Path) -> tuple[str, int]:
    """Return the tables of stores and of COGs that readers find right, and how many cells are wrong."""
    everything = list(written(work))
    tables, bad = [], 0
    for wanted in (False, True):
        columns = [m for m in everything if (m.path.suffix == ".tif") == wanted]
        lines = ["| reader | " + " | ".join(m.column for m in columns) + " |", "| --- |" + " --- |" * len(columns)]
        for reader in readers:
            if (reader in COG_READERS) != wanted:
                continue
            try:
                command = environment(environments, reader)
            except (OSError, subprocess.CalledProcessError) as error:
                print(f"{reader}: left out ({error})", file=sys.stderr)
                continue
            name, *row = cells(command, reader, columns)
            for found, made in zip(row, columns, strict=True):  # a reader may lack the codec of a COG
                bad += found != "yes" if made.column.endswith("fast") else found.startswith("wrong") and made.settled
            lines.append(f"| {name} | " + " | ".join(row) + " |")
            print(lines[-1], file=sys.stderr, flush=True)
        if len(lines) > 2:
            tables.append("\n".join(lines))
    return "\n\n".join(tables), bad


def theirs(environments: Path) -> tuple[str, int]:
    """Return the table of stores that others write, and 1 if something in it is wrong."""
    where = environments / "writers"
    if not where.exists():
        _make_python(where, ROOT, *WRITERS)
    done = subprocess.run(
        [where / "bin" / "python", HERE / "foreign.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.stdout.strip(), done.returncode


def main() -> int:
    """Run everything; return 1 if something that must be right is wrong."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kept = user_cache_path("ndzarr-openness")
    options.add_argument("--environments", type=Path, default=kept, help=f"where the readers are ({kept})")
    options.add_argument("--readers", nargs="*", help="only these, and no stores of others")
    options.add_argument("--screenshots", type=Path, help="a folder for what neuroglancer and vizarr show")
    options.add_argument("--write", action="store_true", help="write the tables into docs/openness.md")
    asked = options.parse_args()
    if asked.screenshots:
        os.environ["SCREENSHOTS"] = str(asked.screenshots.resolve())
    environments = asked.environments.resolve()
    environments.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        text, bad = ours(environments, asked.readers or [*PACKAGES, *NODE_PACKAGES], Path(work))
    found = {MARKS: text}
    if not asked.readers:
        found[FOREIGN_MARKS], wrong = theirs(environments)
        bad += wrong
    for marks, table in found.items():
        print(table, end="\n\n")
        if asked.write:
            _put(table, marks)
    return int(bad > 0)


def _put(text: str, marks: tuple[str, str]) -> None:
    """Write a table into the page, between its marks."""
    page = PAGE.read_text()
    head, rest = page.split(marks[0])
    PAGE.write_text(f"{head}{marks[0]}\n\n{text}\n\n{marks[1]}{rest.split(marks[1])[1]}")


if __name__ == "__main__":
    sys.exit(main())
