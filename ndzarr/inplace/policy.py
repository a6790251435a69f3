"""Is a file read where it lies, or transcoded?

The option `transcode` of samplers and libraries says:

- 'auto': a file that is efficiently tiled is read where it lies, all others are transcoded;
- 'always': all are transcoded;
- 'never': all are read where they lie, and those that cannot be are an error.

Efficiently tiled means: windows cost little more than a store's.  `inefficient` says what that takes.
"""

from __future__ import annotations

import os
from pathlib import Path

from ndzarr.errors import NdzarrError, OptionError, StoreError, did_you_mean
from ndzarr.inplace.open import file_kind, open_file
from ndzarr.inplace.reading import Reading
from ndzarr.pyramid.layout import Encoding
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.request import Request

POLICIES = ("auto", "always", "never")

SIDES = (64, 1024)
"""Least and most pixels along a side of an efficient tile."""
TILE_BYTES = 4 << 20
"""Decoded bytes of an efficient tile, at most."""
TILES = 4 << 20
"""Tiles of an efficient file, at most: their places take 16 bytes each in memory."""
FRAMES = 1024
"""Frames of an efficient file, at most: each has a directory that is read when the file is opened."""
QUICK = frozenset(
    "none lzw deflate adobe_deflate packbits zstd zstd_deprecated jpeg webp lerc".split()  # noqa: SIM905
)
"""Compressions that decode about as quickly as deflate."""


def checked(transcode: str) -> str:
    """
    The option, if it is one of `POLICIES`.

    Raises
    ------
    OptionError
        It is not.
    """
    if transcode not in POLICIES:
        raise OptionError(f"transcode={transcode!r} is not known{did_you_mean(transcode, POLICIES)}")
    return transcode


def where_it_lies(
    request: Request, transcode: str, encoding: Encoding, max_pixels: int | None, cache: Path
) -> Pyramid | None:
    """
    The pyramid of a file that is read where it lies; None if the file is to be transcoded.

    Parameters
    ----------
    transcode
        One of `POLICIES`.
    encoding
        How it would be transcoded.
    cache
        Where levels are kept that the file does not have.

    Raises
    ------
    StoreError
        `transcode` is 'never', and the file cannot be read where it lies.
    """
    if transcode == "always":
        return None
    path = os.path.realpath(request.path)
    kind = file_kind(path)
    known = kind is not None
    if transcode == "auto":
        return _if_efficient(path, request, encoding, max_pixels, cache) if kind == "TIFF" else None
    if not known and os.path.exists(path):
        raise StoreError(
            f"{request.path}: this file cannot be read where it lies, and transcode='never' forbids to transcode it; "
            f"pass transcode='auto', or convert it to a TIFF with tiles"
        )
    return open_file(path, _reading(request, encoding, max_pixels, cache)) if known else None


def _if_efficient(
    path: str, request: Request, encoding: Encoding, max_pixels: int | None, cache: Path
) -> Pyramid | None:
    if encoding.chunks or encoding.access != "frames" or encoding.reduce != "yx":
        return None  # somebody wants chunks, or levels, that the file does not have
    try:
        pyramid = open_file(path, _reading(request, encoding, max_pixels, cache))
    except NdzarrError:
        return None  # transcoding may do, or else says what is wrong with the source
    return pyramid if inefficient(pyramid) is None else None


def _reading(request: Request, encoding: Encoding, max_pixels: int | None, cache: Path) -> Reading:
    return Reading(
        request.orient, request.axes, request.channels, request.nodata, max_pixels, kind=encoding.kind, cache=cache
    )


def inefficient(pyramid: Pyramid) -> str | None:
    """Why windows of a file that was opened where it lies would be slow; None if they would not."""
    from ndzarr.inplace.overviews import side_store
    from ndzarr.inplace.tiff.tiles import TileLevel

    native = pyramid.levels[0].array
    if native.engine == "video decoder":
        return "it is a video, of which whole frames are decoded"
    if not isinstance(native, TileLevel):
        return None
    height, width = native.chunks[-2:]
    *lead, rows, columns = native.tiles
    if min(height, width) < SIDES[0] or max(height, width) > SIDES[1] or native.tile_bytes > TILE_BYTES:
        return f"its tiles have {width} x {height} pixels"
    if native.decoder.name not in QUICK:
        return f"{native.decoder.name} decodes slowly"
    if native.converts:
        return "its colours have to be converted"
    frames = 1
    for n in lead:
        frames *= n
    if frames * rows * columns > TILES or native.frames > FRAMES:
        return f"it has {native.frames} frames of {rows * columns} tiles"
    if side_store(pyramid) is not None:
        return "it has no overviews"
    return None


def agreeing(pyramid: Pyramid, request: Request) -> Pyramid:
    """
    A store that was not made for a request, if it says what the request does.

    Raises
    ------
    OptionError
        It says something else.
    """
    for option, own in (("axes", "".join(pyramid.dims)), ("channels", pyramid.channels), ("nodata", pyramid.nodata)):
        asked = getattr(request, option)
        if asked is not None and asked != own and not (asked != asked and own != own):
            raise OptionError(
                f"{request.path}: {option}={asked!r} was asked for, but this Zarr store has {own!r}, and is taken as "
                f"it is; leave it out, or transcode the store"
            )
    return pyramid
