"""
ND2 files of Nikon, through nd2 (https://github.com/tlambert03/nd2).

Positions of the stage are the images of a file. Frames are decoded as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from ndzarr._formats.base import Facts, Pixels, in_order
from ndzarr._formats.options import Options
from ndzarr._formats.readers import ImageReader, choose_image, reading
from ndzarr._geo.pixel_size import PixelSize, Statements
from ndzarr.errors import SourceError


def open_file(path: str, options: Options) -> Nd2:
    """Open a position of an ND2 file."""
    import nd2

    with ExitStack() as opened:
        with reading(path, "ND2"):
            file = opened.enter_context(nd2.ND2File(path))
        source = _describe(path, file, options)
        opened.pop_all()
        return source


def _describe(path: str, file: Any, options: Options) -> Nd2:
    with reading(path, "ND2"):
        sizes, dtype = dict(file.sizes), np.dtype(file.dtype)
        voxel, magnification, stated = file.voxel_size(), _magnification(file), _channels(file)
    further = [d for d, n in sizes.items() if d not in "PTZCYXS" and n > 1]
    if further:
        hint = "Read it with nd2 and pass an array"
        raise SourceError(f"{path}: it has the axes {' '.join(further)}", path=path, hint=hint)
    names = [f"position {k}" for k in range(sizes.get("P", 1))]
    chosen, about = choose_image(path, names, options)
    notes = list(about.get("notes", ()))
    said = Statements("ND2", notes)
    samples, channels = sizes.get("S", 1), sizes.get("C", 1)
    shape = {"c": channels * samples} | {d.lower(): sizes[d] for d in "TZYX" if d in "YX" or sizes.get(d, 1) > 1}
    dims = in_order("".join(shape))
    known = {d: said.quantity(f"the voxel along {d}", getattr(voxel, d) or None, "um") for d in "zyx" if d in shape}
    facts = Facts(
        name=path,
        dims=dims,
        shape=tuple(shape[d] for d in dims),
        dtype=dtype.newbyteorder("="),
        channels=_names(stated, channels, samples),
        band=sizes["Y"],
        pixel_size=PixelSize(**known, magnification=said.number("the magnification", magnification), source="ND2"),
        metadata={"format": "ND2", **about, **({"notes": notes} if notes else {})},
    )
    return Nd2(facts, file, sizes, chosen)


def _magnification(file: Any) -> float | None:
    found = file.metadata.channels
    return found[0].microscope.objectiveMagnification if found and found[0].microscope else None


def _channels(file: Any) -> list[str]:
    return [c.channel.name for c in file.metadata.channels or ()]


def _names(stated: list[str], channels: int, samples: int) -> tuple[str, ...]:
    if samples > 1:
        whole = ("r", "g", "b") if samples == 3 else tuple(f"s{k}" for k in range(samples))
        return whole if channels == 1 else tuple(f"c{k}.{s}" for k in range(channels) for s in whole)
    if len(stated) == channels and len(set(stated)) == channels:
        return tuple(stated)
    return ("gray",) if channels == 1 else tuple(f"c{k}" for k in range(channels))


class Nd2(ImageReader):
    """A position of an ND2 file."""

    def __init__(self, facts: Facts, file: Any, sizes: dict[str, int], position: int) -> None:
        super().__init__(facts)
        self.sizes = (facts.shape[-2:],)  # type: ignore[assignment]
        self.tile = self.sizes[0]
        self._file, self._lengths, self._position = file, sizes, position
        self._lock = threading.Lock()

    def read_plane(self, level: int, at: Mapping[str, int], box: tuple[slice, slice, slice]) -> Pixels:
        place = {"P": self._position} | {d.upper(): i for d, i in at.items()}
        frame = 0
        for d, n in self._lengths.items():
            frame = frame * n + place.get(d, 0) if d in "PTZ" else frame
        with self._lock, reading(self.name, "ND2"):
            found = np.asarray(self._file.read_frame(frame))
        return _channels_first(found, self._lengths)[box]

    def _release(self) -> None:
        self._file.close()


def _channels_first(frame: Pixels, sizes: dict[str, int]) -> Pixels:
    """Return a frame, axes (C, Y, X[, S]) as far as it has them, with axes (channel and sample, y, x)."""
    channels, samples = sizes.get("C", 1), sizes.get("S", 1)
    whole = frame.reshape(channels, sizes["Y"], sizes["X"], samples)
    return np.moveaxis(whole, -1, 1).reshape(channels * samples, sizes["Y"], sizes["X"])
