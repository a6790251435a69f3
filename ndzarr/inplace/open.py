"""Is it a store, or a file that is read where it lies?"""

from __future__ import annotations

import os

from ndzarr.pyramid.open import open_pyramid
from ndzarr.pyramid.pyramid import Pyramid


def open(path: str | os.PathLike[str], cache_bytes: int = 0) -> Pyramid:
    """
    Open a pyramid for reading.

    Parameters
    ----------
    path
        Directory of a Zarr store: one that ndzarr wrote, an OME-Zarr image (0.4, 0.5), a `multiscales` group, or a
        single array.  URLs (s3://, https://) need the extra `remote` and are read by zarr-python.
    cache_bytes
        Keep so many bytes of decoded chunks between reads; 0 keeps none.

    Raises
    ------
    MissingError
        There is nothing at `path`.
    StoreError
        There is something else than a pyramid.

    Examples
    --------
    >>> import ndzarr, numpy as np, tempfile
    >>> path = tempfile.mkdtemp() + "/a.zarr"
    >>> _ = ndzarr.transcode(np.zeros((300, 400), "u1"), path)
    >>> ndzarr.open(path).levels
    (<Level 1/1: 1 x 300 x 400, chunks 1 x 128 x 128>, <Level 1/2: 1 x 150 x 200, chunks 1 x 128 x 128>)
    """
    return open_pyramid(path, cache_bytes)
