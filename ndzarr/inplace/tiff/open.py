"""How does a TIFF become a pyramid?

1. tifffile parses the file, and `sources.tiff.parsed` works out what it says, as for transcoding.
2. `levels` picks the images that are levels; `table` finds their tiles.
3. Levels that a pyramid has above the coarsest one of the file are made when they are first read (`overviews`).

No file stays open but through `bytefile`, and nothing of tifffile is used later but its decoders.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import tifffile

from ndzarr.errors import DamagedError, NdzarrError, SourceError, StoreError
from ndzarr.inplace.bytefile import FileId
from ndzarr.inplace.overviews import Base, levels_above
from ndzarr.inplace.reading import Reading
from ndzarr.inplace.tiff.decode import decoder
from ndzarr.inplace.tiff.levels import Image, find_levels, not_in_place
from ndzarr.inplace.tiff.table import read_table
from ndzarr.inplace.tiff.tiles import TileLevel
from ndzarr.pyramid import metadata
from ndzarr.pyramid.layout import Encoding
from ndzarr.pyramid.metadata import LevelShape
from ndzarr.pyramid.pyramid import Level, Pyramid
from ndzarr.request import settle
from ndzarr.sources.base import Facts, reason
from ndzarr.sources.options import Options, make_options
from ndzarr.sources.tiff.chain import refuse_broken_chain
from ndzarr.sources.tiff.parsed import ParsedTiff, parse
from ndzarr.sources.tiff.quiet import listening
from ndzarr.sources.tiff.shaped import open_shaped


@dataclass(frozen=True, slots=True)
class _Reopen:
    """How a pyramid of a file is opened in another process."""

    reading: Reading

    def __call__(self, path: str, cache_bytes: int) -> Pyramid:
        return open_tiff(path, self.reading, cache_bytes)


def open_tiff(path: str, reading: Reading, cache_bytes: int = 0) -> Pyramid:
    """
    Open a TIFF with tiles as a pyramid.

    Parameters
    ----------
    reading
        How the file is to be read.
    cache_bytes
        Keep so many bytes of decoded tiles between reads.

    Raises
    ------
    StoreError
        It cannot be read where it lies.
    DamagedError
        It is truncated or damaged.
    """
    path = os.path.realpath(path)  # not abspath, which would take `link/..` for the directory that holds the link
    options = make_options(reading.axes, reading.channels, reading.nodata, reading.orient, reading.max_pixels)
    file = FileId.of(path)
    settle(file.mtime_ns)
    with listening() as messages:
        try:
            with tifffile.TiffFile(path) as tif:
                pyramid = _open(file, tif, options, reading, messages, cache_bytes)
        except StoreError:
            raise
        except SourceError as error:
            raise StoreError(str(error)) from error
        except NdzarrError:
            raise
        except Exception as error:  # damaged files raise whatever they provoke in the parser
            found = " ".join("; ".join([*messages, reason(error)]).split())
            raise DamagedError(
                f"{path}: this TIFF cannot be parsed ({found}); it is truncated or damaged, fetch or write it again"
            ) from error
    file.check()
    return pyramid


def _open(file: FileId, tif: Any, options: Options, reading: Reading, messages: list[str], cache_bytes: int) -> Pyramid:
    refuse_broken_chain(file.path, tif)  # before tifffile looks for series: it would follow a loop for ever
    if open_shaped(file.path, tif, options) is not None:
        raise not_in_place(file.path, "the rows of its image are stored as pages, so it is not read in place")
    parsed = parse(file.path, tif, options, messages)
    images, notes = find_levels(parsed, reading.kind)
    facts = replace(parsed, notes=(*parsed.notes, *notes)).facts(messages).settle(options)
    arrays: list[Any] = [_tiles(file, k, image, parsed, facts, options) for k, image in enumerate(images)]
    powers = [image.power for image in images]
    asked = reading.axes, reading.nodata
    base = Base(
        arrays[-1], powers[-1], file, facts.dims, facts.channels, facts.nodata, reading.kind, reading.cache, asked
    )
    above = levels_above(base)
    powers += range(powers[-1] + 1, powers[-1] + 1 + len(above))
    return _pyramid(file, facts, [*arrays, *above], powers, reading, cache_bytes)


def _tiles(file: FileId, number: int, image: Image, parsed: ParsedTiff, facts: Facts, options: Options) -> TileLevel:
    height, width = image.form.shape[2:4]
    return TileLevel(
        file,
        number,
        facts.dims,
        (*facts.shape[:-2], height, width),
        decoder(image.series.keyframe, image.form),
        read_table(file.path, file.size, number, image.series, image.form, parsed.layout),
        image.colour,
        parsed.fill(options),
    )


def _pyramid(
    file: FileId, facts: Facts, arrays: Sequence[Any], powers: Sequence[int], reading: Reading, cache_bytes: int
) -> Pyramid:
    from ndzarr.transcoding import describe, display

    origin = {"path": file.path, "size": file.size, "mtime_ns": file.mtime_ns}
    about: Any = describe(facts, Encoding(kind=reading.kind), origin)  # type: ignore[arg-type]
    factors = [tuple(2**k if d in "yx" else 1 for d in facts.dims) for k in powers]
    shapes: list[Any] = [LevelShape(a.shape, None, f) for a, f in zip(arrays, factors, strict=True)]  # type: ignore[arg-type]
    attrs = metadata.attributes(about, shapes, [display(facts.dtype)] * len(facts.channels))
    attrs["ndzarr"]["encoding"] = {"kind": reading.kind}
    levels = tuple(Level(a, tuple(map(float, f))) for a, f in zip(arrays, factors, strict=True))
    return Pyramid(file.path, facts.dims, levels, facts.channels, attrs, cache_bytes, _Reopen(reading))
