"""
What readers that are not ours find in our stores and COGs, printed into docs/openness.md.

`python tests/openness` makes small stores of each preset and COGs of each compression, installs each reader into an
environment of its own, and compares what it finds with what was written.  Environments are below a temporary folder, or
below `--environments DIR`, where the next call finds them; they come from PyPI, from npm (`node` is needed), and GDAL
from Debian sid (root and `debootstrap`).  neuroglancer needs `chromium`.  Readers whose environment cannot be had are
left out of the table, and named.  The exit code is 1 if a cell of preset 'fast' or a COG is wrong.

The second table (`--foreign`) is of stores that others write (`foreign.py`), which ndzarr opens and transcodes.  Their
writers have to be installed beside ndzarr (`FOREIGN`); a store whose writer is missing counts as wrong.
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
from foreign import table as foreign_table
from readers import COG_READERS, NODE_PACKAGES, PACKAGES, digest

import ndzarr

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "openness.md"
MARKS = "<!-- openness: begin -->", "<!-- openness: end -->"
FOREIGN_MARKS = "<!-- foreign: begin -->", "<!-- foreign: end -->"
FOREIGN = "icechunk kerchunk virtualizarr h5netcdf ngff-zarr zarrs ome-zarr rioxarray odc-geo tensorstore obstore"
"""What writes the stores of the second table, besides what ndzarr needs itself."""
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


def _pictures() -> Iterator[tuple[str, np.ndarray[Any, Any], dict[str, Any]]]:
    y, x = np.mgrid[:301, :517]
    rgb = np.stack([x // 3, y // 2, (x + y) // 4]).astype("u1")
    rgb[:, :140, :150] = 7
    yield "rgb", rgb, {}
    yield "deep", (rgb.astype("u2") * 200), {}
    heights = (np.sin(x / 40) * np.cos(y / 30) * 500)[None].astype("f4")
    heights[:, :140, :150] = -9999
    yield "heights", heights, {"nodata": -9999}
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
        forms = [("fast", ".zarr"), ("compact", ".zarr")]
        forms += [("fast", ".ozx"), ("jpeg", ".zarr")] if name == "rgb" else []
        for preset, suffix in forms:
            pyr = ndzarr.transcode(source, folder / f"{name}-{preset}{suffix}", preset=preset, **kept)
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
                "fill": pyr.nodata or 0,
                "first": digest(pixels[0]),
                "layer": "labels" if pyr.kind == "labels" else "image",
                "levels": len(pyr.levels),
                "valid": True,
            }
            column = f"{name}, {preset}" + (", .ozx" if suffix == ".ozx" else "")
            yield Written(column, Path(pyr.path), facts, preset != "jpeg")
        if name == "rgb":
            pyr = ndzarr.open(folder / "rgb-fast.zarr")
            for compression in (*EXACT, "jpeg", "webp"):
                path = ndzarr.export_cog(pyr, folder / f"{compression}.tif", compression=compression, blocksize=128)
                found = {"pixels0": digest(pixels), "levels": len(pyr.levels), "size": [517, 301]}
                place = {"epsg": CODE, "transform": list(TRANSFORM), "nodata": pyr.nodata}
                yield Written(f"COG, {compression}", path, found | place, compression in EXACT)


def cells(command: Sequence[str | Path], reader: str, columns: Sequence[Written]) -> Iterator[str]:
    """Yield what a reader finds right in each store, or why it finds nothing."""
    paths = [made.path for made in columns]
    if command[0] == "chroot":
        inside = Path(command[1], "tmp", "openness")
        shutil.rmtree(inside, ignore_errors=True)
        shutil.copytree(paths[0].parent, inside, ignore=shutil.ignore_patterns("environments"))
        paths = [Path("/tmp/openness", path.name) for path in paths]
    done = subprocess.run([*command, reader, *paths], capture_output=True, text=True, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
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
    if isinstance(found, list) and found and isinstance(found[0], int | float | list) and not isinstance(found[0], str):
        return bool(np.allclose(found, wanted))
    return bool(found == wanted)


def environment(folder: Path, reader: str) -> list[str | Path]:
    """Return the command that runs a reader in an environment that has it, which is made unless it is there."""
    if reader.startswith("GDAL"):
        return gdal_environment(folder / "GDAL")
    where = folder / re.sub(r"\W", "-", reader)
    if reader in NODE_PACKAGES:
        if not where.exists():
            subprocess.run(["npm", "install", "--silent", "--prefix", where, *NODE_PACKAGES[reader]], check=True)
        return ["node", shutil.copy(HERE / "readers.mjs", where)]
    python = where / "bin" / "python"
    if not where.exists():
        made = [sys.executable, "-m", "venv", where], [python, "-m", "pip", "install", "-q", "numpy", *PACKAGES[reader]]
        if shutil.which("uv"):
            made = ["uv", "venv", "-q", where], ["uv", "pip", "install", "-q", "--python", python, *made[1][5:]]
        for command in made:
            subprocess.run(command, check=True)
    return [python, HERE / "readers.py"]


def gdal_environment(folder: Path) -> list[str | Path]:
    """Return the command for a Debian sid, whose GDAL has the Zarr driver that PyPI's wheel lacks."""
    if not (folder / "usr/bin/gdalinfo").exists():
        mirror = "http://deb.debian.org/debian"
        subprocess.run(["debootstrap", "--variant=minbase", "sid", folder, mirror], check=True, stdout=sys.stderr)
        install = ["chroot", folder, "apt-get", "install", "-y", "-q", "--no-install-recommends"]
        subprocess.run([*install, "python3-gdal", "gdal-bin"], check=True, stdout=sys.stderr)
    shutil.copy(HERE / "readers.py", folder / "tmp")
    return ["chroot", folder, "python3", "/tmp/readers.py"]


def main() -> int:
    """Run everything; return 1 if something that must be right is wrong."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--environments", type=Path, help="where the readers are, and stay; else a temporary folder")
    options.add_argument("--readers", nargs="*", default=[*PACKAGES, *NODE_PACKAGES], help="only these")
    options.add_argument("--screenshots", type=Path, help="a folder for what neuroglancer shows")
    options.add_argument("--foreign", action="store_true", help=f"only the second table; needs {FOREIGN}")
    options.add_argument("--write", action="store_true", help="write the table into docs/openness.md")
    asked = options.parse_args()
    if asked.foreign:
        with tempfile.TemporaryDirectory() as work:
            text, bad = foreign_table(Path(work))
        print(text)
        if asked.write:
            _put(text, FOREIGN_MARKS)
        return int(bad > 0)
    if asked.screenshots:
        os.environ["SCREENSHOTS"] = str(asked.screenshots.resolve())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        environments = (asked.environments or Path(work, "environments")).resolve()
        environments.mkdir(exist_ok=True)
        everything = list(written(Path(work)))
        stores = [m for m in everything if m.path.suffix != ".tif"]
        cogs = [m for m in everything if m.path.suffix == ".tif"]
        tables, bad = [], 0
        for columns, wanted in ((stores, False), (cogs, True)):
            lines = ["| reader | " + " | ".join(m.column for m in columns) + " |", "| --- |" + " --- |" * len(columns)]
            for reader in asked.readers:
                if (reader in COG_READERS) == wanted:
                    try:
                        command = environment(environments, reader)
                    except (OSError, subprocess.CalledProcessError) as error:
                        print(f"{reader}: left out ({error})", file=sys.stderr)
                        continue
                    row = list(cells(command, reader, columns))
                    for found, made in zip(row, columns, strict=True):  # a reader may lack the codec of a COG
                        bad += found != "yes" if made.column.endswith("fast") else found.startswith("wrong")
                    lines.append(f"| {reader} | " + " | ".join(row) + " |")
                    print(lines[-1], file=sys.stderr, flush=True)
            tables.append("\n".join(lines))
    text = "\n\n".join(tables)
    print(text)
    if asked.write:
        _put(text, MARKS)
    return int(bad > 0)


def _put(text: str, marks: tuple[str, str]) -> None:
    """Write a table into the page, between its marks."""
    page = PAGE.read_text()
    head, rest = page.split(marks[0])
    PAGE.write_text(f"{head}{marks[0]}\n\n{text}\n\n{marks[1]}{rest.split(marks[1])[1]}")


if __name__ == "__main__":
    sys.exit(main())
