"""Everything that ndzarr writes to disk: how to write it, and how to tell what is there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import tifffile
import xarray
from PIL import Image

import ndzarr
from helpers.video_clips import encode
from ndzarr._formats.options import InPlaceOptions
from ndzarr._formats.video.index import video_index
from ndzarr._library.in_place import open_file
from ndzarr._library.library import Library
from ndzarr.cli import main
from ndzarr.toydata import write_demo

SIDE = 300


def pixels(seed: int) -> np.ndarray:
    """An image that compresses badly; axes (y, x)."""
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), "u1")


def prepare_inputs(inputs: Path) -> None:
    """Write what the operations read, for seeds 1 and 2."""
    for seed in (1, 2):
        Image.fromarray(pixels(seed)).save(inputs / f"{seed}.png")
        ndzarr.transcode(pixels(seed), inputs / f"{seed}.zarr")
        ndzarr.transcode(np.stack([pixels(seed), pixels(seed) | 1]), inputs / f"{seed}a.zarr", **_ALPHA)
        tifffile.imwrite(inputs / f"{seed}.tif", pixels(seed), tile=(64, 64), compression="zlib")
        encode(inputs / f"{seed}.mp4", n=_FRAMES[seed])


_ALPHA: dict[str, Any] = {"axes": "cyx", "channels": ["gray", "a"]}
_FRAMES = {1: 4, 2: 6}


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


def _cog_of_alpha(folder: Path, inputs: Path, seed: int) -> None:
    ndzarr.export_cog(inputs / f"{seed}a.zarr", folder / "c.tif", overwrite=True)


def _crop(name: str, folder: Path, inputs: Path, seed: int) -> None:
    words = ["crop", str(inputs / f"{seed}.zarr"), "-o", str(folder / name), "--overwrite"]
    main(words, standalone_mode=False)


def _levels(folder: Path, inputs: Path, seed: int) -> None:
    options = InPlaceOptions(cache=folder / "levels", in_memory=0)
    open_file(str(inputs / f"{seed}.tif"), 0, options).read(level=1)


def _read_levels(folder: Path) -> set[int]:
    stores = [entry.store for entry in Library(folder / "levels").entries() if entry.state == "current"]
    return set().union(*(_which(ndzarr.open(store).read(), _halves, 1) for store in stores))


def _halves(seed: int) -> np.ndarray:
    """The means of 2 x 2 pixels, before they are rounded."""
    means: np.ndarray = pixels(seed).reshape(SIDE // 2, 2, SIDE // 2, 2).mean((1, 3))
    return means


def _index(folder: Path, inputs: Path, seed: int) -> None:
    os.environ["NDZARR_CACHE"] = str(folder / "index")
    video_index(str(inputs / f"{seed}.mp4"), slow=0)


def _read_index(folder: Path) -> set[int]:
    found = set()
    for file in (folder / "index" / "video-indexes").glob("*.npz"):
        with np.load(file) as stored:
            [seed] = [seed for seed, n in _FRAMES.items() if len(stored["ticks"]) == n]
            found.add(seed)
    return found


def _toy(folder: Path, inputs: Path, seed: int) -> None:
    write_demo(folder, "images", n=2, size=(48, 64), things=1, seed=seed)


def _read_toy(folder: Path) -> set[int]:
    content = json.loads((folder / "images.kwcoco.json").read_text())
    seed: int = content["info"][0]["properties"]["seed"]
    assert _toy_pictures(seed) == {name: (folder / name).read_bytes() for name in _toy_pictures(seed)}
    return {seed}


@lru_cache
def _toy_pictures(seed: int) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        _toy(Path(folder), Path(), seed)
        return {f"images/{file.name}": file.read_bytes() for file in Path(folder, "images").iterdir()}


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


def _which(image: np.ndarray, of: Callable[[int], np.ndarray] = pixels, within: float = 0) -> set[int]:
    found = {seed for seed in (1, 2) if (abs(image.squeeze() - of(seed).astype(float)) <= within).all()}
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
    "cog of alpha": Operation(_cog_of_alpha, "c.tif", lambda folder: _which(tifffile.imread(folder / "c.tif")[..., 0])),
    "crop": Operation(partial(_crop, "a.npy"), "a.npy", lambda folder: _which(np.load(folder / "a.npy"))),
    "crop to TIFF": Operation(
        partial(_crop, "d.tif"), "d.tif", lambda folder: _which(tifffile.imread(folder / "d.tif"))
    ),
    "crop to PNG": Operation(
        partial(_crop, "a.png"), "a.png", lambda folder: _which(np.array(Image.open(folder / "a.png")))
    ),
    "cache": Operation(_cache, "workdir", _read_cache),
    "levels": Operation(_levels, "levels", _read_levels),
    "index": Operation(_index, "index", _read_index),
    "extract": Operation(_extract, "crops.zarr", _read_extracted),
    "toy": Operation(_toy, "images.kwcoco.json", _read_toy),
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
