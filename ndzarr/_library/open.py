"""Is it a store, or a file that is read where it lies?

1. A directory or a URL is a store (`pyramid.open`).
2. A file is told by its content.  What can be read in pieces without being transcoded (TIFF with tiles) becomes a
   pyramid of its own; all other files are told to be transcoded.
"""

from __future__ import annotations

import os

from ndzarr._formats.registry import file_kind
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.zarr_store import open_pyramid


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
        from ndzarr._formats.options import InPlaceOptions
        from ndzarr._library.in_place import open_file

        return open_file(name, InPlaceOptions(), cache_bytes)
    return open_pyramid(path, cache_bytes)
