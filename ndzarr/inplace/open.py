"""Is it a store, or a file that is read where it lies?

1. A directory or a URL is a store (`pyramid.open`).
2. A file is told by its content.  What can be read in pieces without being transcoded (TIFF with tiles) becomes a
   pyramid of its own; all other files are told to be transcoded.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ndzarr.pyramid.open import open_pyramid
from ndzarr.pyramid.pyramid import Pyramid
from ndzarr.sources.sniff import HEAD, is_video

if TYPE_CHECKING:
    from ndzarr.inplace.reading import Reading

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF and BigTIFF begin, in either byte order."""


def open(path: str | os.PathLike[str], cache_bytes: int = 0) -> Pyramid:
    """
    Open a pyramid, or an image file that is read where it lies.

    Parameters
    ----------
    path
        Directory of a Zarr store: one that ndzarr wrote, an OME-Zarr image (0.4, 0.5), a `multiscales` group, or a
        single array.  URLs (s3://, https://) need the extra `remote` and are read by zarr-python.  Or a TIFF file with
        tiles (COG, OME-TIFF), whose overviews become levels; see docs/in-place.md.  Or a video, which is decoded as
        far as each window needs it; see docs/videos.md.
    cache_bytes
        Keep so many bytes of decoded chunks between reads; 0 keeps none.

    Raises
    ------
    MissingError
        There is nothing at `path`.
    StoreError
        There is something else than a pyramid, or a file that cannot be read where it lies; the message says why.
    DamagedError
        The file is truncated or damaged.

    Examples
    --------
    >>> import ndzarr, numpy as np, tempfile, tifffile
    >>> path = tempfile.mkdtemp() + "/a.zarr"
    >>> _ = ndzarr.transcode(np.zeros((300, 400), "u1"), path)
    >>> ndzarr.open(path).levels
    (<Level 1/1: 1 x 300 x 400, chunks 1 x 128 x 128>, <Level 1/2: 1 x 150 x 200, chunks 1 x 128 x 128>)
    >>> path = tempfile.mkdtemp() + "/a.tif"
    >>> tifffile.imwrite(path, np.zeros((300, 400, 3), "u1"), tile=(64, 64), compression="zlib", photometric="rgb")
    >>> ndzarr.open(path).levels[0]
    <Level 1/1: 3 x 300 x 400, chunks 3 x 64 x 64>
    """
    name = os.fspath(path)
    if "://" not in name and file_kind(name) is not None:
        from ndzarr.inplace.reading import Reading

        return open_file(name, Reading(), cache_bytes)
    return open_pyramid(path, cache_bytes)


def file_kind(path: str) -> str | None:
    """What kind of file that may be read where it lies this is; None for stores, other files and what is not there."""
    head = _head(path)
    if head[:4] in _TIFF:
        return "TIFF"
    return "video" if is_video(head) else None


def open_file(path: str, reading: Reading, cache_bytes: int = 0) -> Pyramid:
    """
    Open a file that is read where it lies.

    Parameters
    ----------
    path
        A file that `file_kind` knows.
    reading
        How it is to be read.

    Raises
    ------
    StoreError
        It cannot be read where it lies; the message says why, and what to do.
    DamagedError
        It is truncated or damaged.
    """
    if file_kind(path) == "video":
        from ndzarr.inplace.video.open import open_video

        return open_video(path, reading, cache_bytes)
    from ndzarr.inplace.tiff.open import open_tiff

    return open_tiff(path, reading, cache_bytes)


def _head(path: str) -> bytes:
    """The first bytes of a file; none of what cannot be read, which is for others to complain about."""
    try:
        if not os.path.isfile(path):  # reading a pipe would wait
            return b""
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError):
        return b""
    try:
        return os.read(fd, HEAD)
    except OSError:
        return b""
    finally:
        os.close(fd)
