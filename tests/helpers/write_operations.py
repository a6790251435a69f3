"""Everything that ndzarr writes to disk: how to write it, and how to tell what is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
import xarray
from PIL import Image

import ndzarr
from ndzarr._library.library import Library
from ndzarr.cli import main

SIDE = 300


def pixels(seed: int) -> np.ndarray:
    """An image that compresses badly; axes (y, x)."""
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), "u1")


def prepare_inputs(inputs: Path) -> None:
    """Write what the operations read, for seeds 1 and 2."""
    for seed in (1, 2):
        Image.fromarray(pixels(seed)).save(inputs / f"{seed}.png")
        ndzarr.transcode(pixels(seed), inputs / f"{seed}.zarr")


def _sampler(folder: Path, inputs: Path, seed: int) -> ndzarr.CocoSampler:
    image = {"id": 1, "file_name": str(inputs / f"{seed}.png"), "width": SIDE, "height": SIDE}
    return ndzarr.CocoSampler({"images": [image], "annotations": [], "categories": []}, workdir=folder / "workdir")


def _store(folder: Path, inputs: Path, seed: int) -> None:
    ndzarr.transcode(inputs / f"{seed}.png", folder / "a.zarr", overwrite=True)


def _cog(folder: Path, inputs: Path, seed: int) -> None:
    ndzarr.export_cog(inputs / f"{seed}.zarr", folder / "a.tif", overwrite=True)


def _cog_of_image(folder: Path, inputs: Path, seed: int) -> None:
    main(
        ["cog", "--from-image", str(inputs / f"{seed}.png"), "-o", str(folder / "b.tif"), "--overwrite", "--quiet"],
        standalone_mode=False,
    )


def _crop(folder: Path, inputs: Path, seed: int) -> None:
    words = ["crop", str(inputs / f"{seed}.zarr"), "-o", str(folder / "a.npy"), "--overwrite"]
    main(words, standalone_mode=False)


def _cache(folder: Path, inputs: Path, seed: int) -> None:
    _sampler(folder, inputs, seed).prepare()


def _extract(folder: Path, inputs: Path, seed: int) -> None:
    targets = [{"gid": 1, "cx": x, "cy": 150, "width": 64, "height": 64} for x in range(50, 250, 10)]
    sampler = _sampler(folder, inputs, seed)
    sampler.extract(targets, folder / "crops.zarr", shard=4, overwrite=True, scheduler="threads")


def _read_extracted(folder: Path) -> set[int]:
    image = xarray.open_zarr(folder / "crops.zarr").image.values
    starts = range(18, 218, 10)
    rows = {s: np.stack([pixels(s)[118:182, x : x + 64] for x in starts]) for s in (1, 2)}
    return {s for s, expected in rows.items() if np.array_equal(image[:, 0], expected)}


def _read_cache(folder: Path) -> set[int]:
    found = set()
    for entry in Library(folder / "workdir").entries():
        if entry.state == "current":
            assert entry.source is not None
            found |= _which(ndzarr.open(entry.store).read())
    return found


def _which(image: np.ndarray) -> set[int]:
    found = {seed for seed in (1, 2) if np.array_equal(image.squeeze(), pixels(seed))}
    assert found, "neither the old pixels nor the new ones"
    return found


class Operation(NamedTuple):
    """One kind of writing."""

    write: Callable[[Path, Path, int], None]
    """Called with the folder to write to, that of the inputs and a seed; replaces what another seed wrote."""
    dest: str
    read: Callable[[Path], set[int]]
    """Return the seeds whose pixels are there; raises if what is there is damaged."""


OPERATIONS = {
    "transcode": Operation(_store, "a.zarr", lambda folder: _which(ndzarr.open(folder / "a.zarr").read())),
    "cog": Operation(_cog, "a.tif", lambda folder: _which(tifffile.imread(folder / "a.tif"))),
    "cog of an image": Operation(_cog_of_image, "b.tif", lambda folder: _which(tifffile.imread(folder / "b.tif"))),
    "crop": Operation(_crop, "a.npy", lambda folder: _which(np.load(folder / "a.npy"))),
    "cache": Operation(_cache, "workdir", _read_cache),
    "extract": Operation(_extract, "crops.zarr", _read_extracted),
}


def run(name: str, folder: Path, inputs: Path, seed: int) -> None:
    """Write; the function of a process."""
    OPERATIONS[name].write(folder, inputs, seed)


def found(name: str, folder: Path) -> set[int]:
    """Return the seeds whose pixels are there, empty if nothing is; raise if it is damaged."""
    operation = OPERATIONS[name]
    dest = folder / operation.dest
    if name in ("transcode", "extract") and dest.exists():
        json.loads((dest / "zarr.json").read_text())
    if name == "transcode" and dest.exists():
        report = ndzarr.verify(dest)
        assert report.ok, report.problems
    return operation.read(folder) if dest.exists() else set()
