"""
Whole slides in DICOM, through wsidicom (https://github.com/imi-bigpicture/wsidicom).

A slide is several files of one series in a folder: its levels, and pictures of its label and of the whole glass. Any of
them names the slide.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from ndzarr._formats.base import Facts, Pixels
from ndzarr._formats.colour import GRAY, RGB
from ndzarr._formats.options import Options
from ndzarr._formats.readers import ImageReader, choose_image, reading
from ndzarr._geo.pixel_size import PixelSize, Statements
from ndzarr.errors import SourceError


def open_file(path: str, options: Options) -> DicomSlide:
    """Open an image of the slide that a file belongs to."""
    import wsidicom

    with reading(path, "DICOM"):
        files = _series(path)
    if files is None:
        what = f"{path}: it is a DICOM image, but not a whole slide"
        raise SourceError(what, path=path, hint="Read it with pydicom and pass the array")
    with reading(path, "DICOM"):
        slide = wsidicom.WsiDicom.open(files)
        levels = {level.level: level for level in slide.levels}
    extra: dict[str, Callable[[], Any]] = {}
    for name, pictures, read in (("label", "labels", "read_label"), ("overview", "overviews", "read_overview")):
        if getattr(slide, pictures, None):
            extra[name] = getattr(slide, read)
    names = ["slide", *extra]
    chosen, about = choose_image(path, names, options)
    notes = list(about.get("notes", ()))
    base, size, picture = slide.levels[0], PixelSize(), None
    channels, axes = tuple(slide.levels[0].optical_paths), {"z": tuple(sorted(base.focal_planes))}
    with reading(path, "DICOM"):
        sample = np.asarray(slide.read_region((0, 0), min(levels), (1, 1)))
        picture = None if not chosen else np.atleast_3d(np.asarray(extra[names[chosen]]()))
    colours = RGB if sample.ndim == 3 else GRAY if len(channels) < 2 else channels
    if picture is not None:
        sizes, axes = [picture.shape[:2]], {"z": ()}
        colours = RGB if picture.shape[2] == 3 else GRAY
        channels = channels[:1]
    else:
        sizes = [(level.size.height, level.size.width) for level in levels.values()]
        said = Statements("DICOM", notes)
        y, x = (
            said.quantity(f"the size along {d}", getattr(base.mpp, a), "um")
            for d, a in zip("yx", ("height", "width"), strict=True)
        )
        size = PixelSize(y=y, x=x, source="DICOM")
    planes = len(axes["z"]) if len(axes["z"]) > 1 else 0
    facts = Facts(
        name=path,
        dims=("c", *("z",) * bool(planes), "y", "x"),
        shape=(len(colours), *(planes,) * bool(planes), *sizes[0]),
        dtype=np.dtype("u1" if (sample if picture is None else picture).itemsize == 1 else "u2"),
        channels=colours,
        band=base.tile_size.height,
        interleaved=sample.ndim == 3,
        pixel_size=size,
        metadata={"format": "DICOM", **about, **({"notes": notes} if notes else {})},
    )
    return DicomSlide(facts, slide, sizes, list(levels), channels, axes["z"], picture)


def _series(path: str) -> list[str] | None:
    """Return the files in the folder of a slide that belong to it; None if the file is not one of a slide."""
    import pydicom

    tags = ["SOPClassUID", "SeriesInstanceUID"]
    first = pydicom.dcmread(path, specific_tags=tags, stop_before_pixels=True)
    if first.get("SOPClassUID") != pydicom.uid.VLWholeSlideMicroscopyImageStorage:
        return None
    folder, found = os.path.dirname(path), []
    for name in sorted(os.listdir(folder)):
        file = os.path.join(folder, name)
        with suppress(pydicom.errors.InvalidDicomError, IsADirectoryError, PermissionError):
            other = pydicom.dcmread(file, specific_tags=tags, stop_before_pixels=True)
            if other.get("SeriesInstanceUID") == first.SeriesInstanceUID:
                found.append(file)
    return found


class DicomSlide(ImageReader):
    """A slide, or a picture of it."""

    def __init__(
        self,
        facts: Facts,
        slide: Any,
        sizes: list[tuple[int, int]],
        levels: list[int],
        paths: tuple[str, ...],
        focal: tuple[float, ...],
        picture: Pixels | None,
    ) -> None:
        """`levels` are the numbers of levels, `paths` those of optical paths, `focal` the heights of focal planes."""
        super().__init__(facts)
        self._slide, self._levels, self._paths, self._focal, self._picture = slide, levels, paths, focal, picture
        self.sizes = tuple(sizes)
        self._lock = threading.Lock()

    def read_plane(self, level: int, at: Mapping[str, int], box: tuple[slice, slice, slice]) -> Pixels:
        c, y, x = box
        if self._picture is not None:
            return np.moveaxis(self._picture[y, x], -1, 0)[c]
        z = self._focal[at["z"]] if "z" in at else None
        corner, size = (x.start, y.start), (x.stop - x.start, y.stop - y.start)
        colours = self.interleaved
        blocks = []
        for optical in self._paths[:1] if colours else self._paths[c]:
            with self._lock, reading(self.name, "DICOM"):
                found = np.asarray(self._slide.read_region(corner, self._levels[level], size, z=z, path=optical))
            blocks.append(np.moveaxis(found, -1, 0)[c] if colours else found[np.newaxis])
        return np.concatenate(blocks).astype(self.dtype, copy=False)  # Pillow may hold 16 bits in 32

    def _release(self) -> None:
        self._slide.close()
