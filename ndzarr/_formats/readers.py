"""
Formats of slides, microscopes and volumes, which optional packages read.

`READERS` says which package reads a format, and which module here adapts it: its function `open_file` returns an
`ImageReader`. A new format takes a line here and such a module.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np

from ndzarr._formats.base import Facts, Pixels, Region, Source, reason
from ndzarr._formats.options import Options, find_series
from ndzarr._indexing.selection import Selection
from ndzarr.errors import DamagedError, SourceError


@dataclass(frozen=True, slots=True)
class Format:
    """A format, and what reads it."""

    module: str
    """Module here that adapts the package."""
    package: str
    """Package that is imported."""
    extra: str
    """Extra of ndzarr that installs it."""


READERS = {
    "CZI": Format("czi", "pylibCZIrw", "czi"),
    "DICOM": Format("dicom", "wsidicom", "slides"),
    "MIRAX": Format("mirax", "openslide", "slides"),
    "ND2": Format("nikon", "nd2", "nd2"),
    "NIfTI": Format("nifti", "nibabel", "nifti"),
}
"""By the names that `registry.sniff` gives."""


class ImageReader(Source):
    """One image of a file, at one or more sizes."""

    sizes: tuple[tuple[int, int], ...]
    """(height, width) of each level, from native to coarsest; other axes have the same lengths in all of them."""
    tile: tuple[int, int] = (512, 512)
    """(height, width) of what is read together."""

    @abstractmethod
    def read_plane(self, level: int, at: Mapping[str, int], box: tuple[slice, slice, slice]) -> Pixels:
        """
        Return the pixels of a frame and plane of a level, axes (c, y, x).

        `at` has the indices along t and z, as far as the image has these; `box` is not empty and has steps of 1.
        """

    def read_level(self, level: int, wanted: Sequence[Sequence[int]]) -> Pixels:
        """Return the pixels of a level, axes `dims`, by the indices that are wanted along each axis."""
        out = np.empty(list(map(len, wanted)), self.dtype)
        if out.size == 0:
            return out
        within = dict(zip(self.dims, wanted, strict=True))
        planar, outer = [within.pop(d) for d in "cyx"], list(within)
        c, y, x = (slice(min(k), max(k) + 1) for k in planar)
        inner = np.ix_(*([i - s.start for i in k] for k, s in zip(planar, (c, y, x), strict=True)))
        for place in np.ndindex(*map(len, within.values())):
            at = {d: within[d][k] for d, k in zip(outer, place, strict=True)}
            found = self.read_plane(level, at, (c, y, x))[inner]
            out[tuple(place[outer.index(d)] if d in outer else slice(None) for d in self.dims)] = found
        return out

    def __del__(self) -> None:  # nobody closes the image of a pyramid
        if hasattr(self, "_closed"):
            self.close()

    def _pixels(self, region: Region) -> Pixels:
        return self.read_level(0, [range(s.start, s.stop) for s in region])


def open_reader(path: str, form: str, options: Options) -> ImageReader:
    """Open an image of a file of one of `READERS`; raise `SourceError` if the package that reads it is missing."""
    known = READERS[form]
    try:
        import_module(known.package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != known.package:
            raise
        what = f"{path}: {form} is read with the package {known.package}, which is not installed"
        raise SourceError(what, path=path, hint=f"Run: pip install 'ndzarr[{known.extra}]'") from error
    source: ImageReader = import_module(f"ndzarr._formats.{known.module}").open_file(path, options)
    height, width = source.shape[-2:]
    try:
        options.check_pixels(path, height, width, whole=False)
    except SourceError:
        source.close()
        raise
    source.facts = source.facts.settle(options)
    source.channels, source.nodata = source.facts.channels, source.facts.nodata
    return source


@contextmanager
def reading(path: str, form: str) -> Iterator[None]:
    """Turn what a package raises into a `SourceError`; to enclose calls of the package only."""
    try:
        yield
    except (MemoryError, SourceError):
        raise
    except Exception as error:  # each package has errors of its own, and lets those of others through
        what = f"{path}: it begins like a {form} file, but {READERS[form].package} cannot read it ({reason(error)})"
        raise SourceError(what, path=path, hint="Fetch or write the file again") from error


def choose_image(path: str, names: Sequence[str], options: Options) -> tuple[int, dict[str, Any]]:
    """Return the number of the image to read, and what the metadata say of the others."""
    wanted = 0 if options.series is None else find_series(path, names, options.series)
    about: dict[str, Any] = {}
    if len(names) > 1:
        about["series"] = [{"number": k, "name": name} for k, name in enumerate(names)]
    if len(names) > 1 and options.series is None:
        others = ", ".join(f"{k} {name}" for k, name in enumerate(names) if k)
        about["notes"] = [f"{len(names) - 1} other images of the file are not read; series= chooses one: {others}"]
    return wanted, about


class _Opened:
    """An image that is open in each process that reads it: libraries share positions in files with forked children."""

    def __init__(self, opener: Callable[[], ImageReader], first: ImageReader) -> None:
        self._opener = opener
        self._by_process = {os.getpid(): first}

    def get(self) -> ImageReader:
        found = self._by_process.get(os.getpid())
        return self._by_process.setdefault(os.getpid(), self._opener()) if found is None else found


class LevelArray:
    """A level of an image that a package reads, as an array with axes `dims`."""

    chunked: Literal[False] = False

    def __init__(self, opened: _Opened, level: int, facts: Facts, form: str, tile: tuple[int, int]) -> None:
        source = opened.get()
        self.name, self.dtype = facts.name, facts.dtype
        self.engine = f"{READERS[form].package} ({form})"
        self.shape = (*facts.shape[:-2], *source.sizes[level])
        leading = zip(facts.dims, self.shape[:-2], strict=False)
        self.chunks = (
            *(n if d == "c" and facts.interleaved else 1 for d, n in leading),
            *map(min, tile, source.sizes[level]),
        )
        self._opened, self._level = opened, level

    def encoded_size(self, chunk: tuple[int, ...]) -> None:
        """Return None: it is not known."""

    def read(self, selections: Sequence[Selection]) -> list[Pixels]:
        """Return the pixels of each selection."""
        source = self._opened.get()
        try:
            return [self._read(source, selection) for selection in selections]
        except SourceError as error:
            raise DamagedError.like(error, self.name) from error

    def _read(self, source: ImageReader, selection: Selection) -> Pixels:
        wanted = [range(n)[s] if isinstance(s, slice) else s for s, n in zip(selection, self.shape, strict=True)]
        return source.read_level(self._level, wanted)


def level_arrays(source: ImageReader, form: str, options: Options) -> list[LevelArray]:
    """Return the levels of an open image, which other processes open anew."""
    path = source.name
    opened = _Opened(lambda: open_reader(path, form, options), source)
    return [LevelArray(opened, k, source.facts, form, source.tile) for k in range(len(source.sizes))]
