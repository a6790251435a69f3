"""Opening stores and files, and the choice between reading a file in place and transcoding it.

A directory is a store, and so is a URL without an extension, or of which nothing is found.  A file is recognised by its
content: TIFFs with tiles and videos can be read in place, all other files must be transcoded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from math import prod
from typing import Any

from ndzarr._formats.options import InPlaceOptions, Options, make_options
from ndzarr._formats.registry import file_kind, kind_of
from ndzarr._formats.sidecars import BESIDE
from ndzarr._library.keys import SourceRequest
from ndzarr._pyramid.levels import Multiscale
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._pyramid.sources import open_object
from ndzarr._pyramid.zarr_store import PLAIN, open_pyramid
from ndzarr._remote.cache import DiskCache
from ndzarr._remote.files import OpenedFile
from ndzarr._remote.files import open_file as open_remote
from ndzarr._remote.settings import Remote
from ndzarr._remote.urls import is_url, names_file, shown
from ndzarr._store.destinations import Dest
from ndzarr._store.presets import Encoding
from ndzarr._store.validity import as_nodata, same_nodata
from ndzarr.errors import MissingError, NdzarrError, OptionError, StoreError


def open(
    path: Any,
    cache_bytes: int = 0,
    *,
    palette: str | None = None,
    series: str | int | None = None,
    variable: str | None = None,
    axes: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    remote: Remote | None = None,
    store: Any = None,
) -> Pyramid:
    """
    Open a pyramid, or a file that is read in place.

    Parameters
    ----------
    path
        Directory of a Zarr store: one that ndzarr wrote, an OME-Zarr image (0.4 to 0.6), a `multiscales` group, or a
        single array.  Or an `.ozx` or `.zip` that holds one, not compressed.  Or the URL of either (s3://, gs://,
        az://, https://), which needs the extra `remote`; see docs/remote.md.  Or a TIFF file with tiles (COG,
        OME-TIFF), whose overviews become levels; see docs/in-place.md.  Or a video, which is decoded as far as each
        window needs it; see docs/videos.md.  Or a slide, a file of a microscope or a volume that an optional package
        reads; see docs/formats.md.  Or an object: a Zarr group, array or store (also those of icechunk and kerchunk),
        or a Dataset, DataTree or DataArray of xarray.
    cache_bytes
        Budget for decoded chunks that are kept between reads, in bytes; 0 keeps none.
    palette
        'colours' (default) or 'indices' for a TIFF with a palette; see `transcode`.
    series
        Name or number of an image of a file that holds several; see `transcode`.
    variable
        Name or path of the image of a Zarr group, Dataset or DataTree that holds several; see `transcode`.
    axes
        One letter of 't c z y x' per axis of the data, in its order, such as 'tyxc'; needed for arrays of more than 3
        axes without names, by the rule of `transcode`.
    storage_options
        How a bucket is reached: fsspec's or obstore's names, such as `key` and `secret`, `anon`, `endpoint_url`.
        Credentials that are left out are those of the environment.
    remote
        Settings of requests and of the cache on the disk.
    store
        A store of obstore, a file system of fsspec or a store of zarr-python, in which `path` is.

    Returns
    -------
    The pyramid, open for reading.

    Raises
    ------
    MissingError
        Nothing exists at `path`.
    StoreError
        `path` holds neither a pyramid nor a file that can be read in place; the message says why.
    DamagedError
        The file is truncated or damaged.
    OptionError
        `path` is a store, which is used as it is, and `palette` is given; or there is no such series.

    Warns
    -----
    DamagedFileWarning
        Frames of a video do not decode (`DamagedVideoWarning`), or the pages of a TIFF end too soon; the others can be
        read.

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
    options = PLAIN
    if (axes, variable, series) != (None, None, None):
        options = make_options(axes, None, None, True, None, series=series, variable=variable)
    if not isinstance(path, str | os.PathLike):
        _refuse_palette("an object", palette)
        return open_object(path, cache_bytes, options, remote)
    name = os.fspath(path)
    remotely = store is not None or is_url(name)
    if remotely and (opened := find_remote(name, storage_options, remote, store=store)) is not None:
        from ndzarr._library.in_place import open_remote_file

        return open_remote_file(opened, cache_bytes, _of_file(opened.file.path, palette, series, options))
    if store is None and not is_url(name) and file_kind(name) is not None:
        from ndzarr._library.in_place import open_file

        return open_file(name, cache_bytes, _of_file(name, palette, series, options))
    _refuse_palette(shown(name), palette)
    far: dict[str, Any] = {"storage_options": storage_options, "remote": remote, "store": store}
    return open_pyramid(path, cache_bytes, options=options, **far)


def _of_file(name: str, palette: str | None, series: str | int | None, options: Options) -> InPlaceOptions:
    options.refuse_variable(name)
    return InPlaceOptions(palette=palette, series=series, axes=options.axes)


def _refuse_palette(name: str, palette: str | None) -> None:
    if palette is not None:
        message = f"{name}: palette={palette!r} is for TIFFs that are read in place, and this is not one"
        hint = "Leave palette out, or pass it to ndzarr.transcode"
        raise OptionError(message, path=name, key="palette", hint=hint)


def find_remote(
    url: str,
    storage_options: Mapping[str, Any] | None = None,
    remote: Remote | None = None,
    kept: DiskCache | None = None,
    store: Any = None,
) -> OpenedFile | None:
    """
    Return the file that a URL names, opened with one flight of requests; None if it may be a store.

    If `store` is given, it is a path in that.
    """
    if not names_file(url if store is None else f"store://-/{url}"):
        return None
    try:
        return open_remote(url, storage_options, remote, BESIDE, kept, store)
    except MissingError:
        return None  # opening the store complains


POLICIES = ("auto", "always", "never")
"""Which files a library transcodes: those that are not efficiently tiled, all, or none."""

TILE_SIDES = (64, 1024)
"""Least and most pixels along a side of an efficient tile."""
TILE_BYTES = 4 << 20
"""Most decoded bytes of an efficient tile."""
TILES = 4 << 20
"""Most tiles of an efficient file: their offsets and sizes take 16 bytes each in memory."""
FRAMES = 1024
"""Most frames of an efficient file: each has a directory that is read when the file is opened."""
FAST_COMPRESSIONS = frozenset(
    ("none", "lzw", "deflate", "adobe_deflate", "packbits", "zstd", "zstd_deprecated", "jpeg", "webp", "lerc")
)
"""Compressions that decode about as fast as deflate."""


def open_unless_transcoded(
    request: SourceRequest,
    transcode: str,
    encoding: Encoding,
    max_pixels: int | None,
    cache: Dest,
    remote: OpenedFile | None = None,
) -> Pyramid | None:
    """
    Open a file in place; return None if it is to be transcoded by the policy `transcode`, with this encoding.

    Overviews that the file lacks are kept below `cache`.  `remote` is the file if it is not on a local disk.
    """
    if transcode == "always":
        return None
    path = os.path.realpath(request.path)
    kind = file_kind(path) if remote is None else kind_of(remote.first.tobytes())
    if transcode == "never" and kind is None and (remote is not None or os.path.exists(path)):
        message = f"{request.path}: this file cannot be read in place, and transcode='never' forbids transcoding it"
        raise StoreError(
            message,
            path=request.path,
            key="transcode",
            hint="Pass transcode='auto', or convert the file to a TIFF with tiles",
        )
    # Files do not have the chunks or levels that other encodings ask for.
    plain = not encoding.chunks and encoding.access == "frames" and encoding.reduce == "yx"
    if kind is None or (transcode == "auto" and (kind != "TIFF" or not plain)):
        return None
    from ndzarr._library.in_place import open_file, open_remote_file

    wanted = {name: value for name, value in request._asdict().items() if name not in ("path", "kind")}
    options = InPlaceOptions(**wanted, max_pixels=max_pixels, kind=encoding.kind, cache=cache)
    opener = partial(open_file, path) if remote is None else partial(open_remote_file, remote)
    if transcode == "never":
        return opener(0, options)
    try:
        pyramid = opener(0, options)
    except NdzarrError:
        return None  # transcoding may work; if not, it reports what is wrong with the source
    return pyramid if why_inefficient(pyramid) is None else None


def why_inefficient(pyramid: Multiscale) -> str | None:
    """Return why windows of a file opened in place are slow to read; None if they are not."""
    from ndzarr._formats.tiff.array import TiffArray
    from ndzarr._library.overviews import overview_store

    native = pyramid.levels[0].array
    if native.engine == "video decoder":
        return "it is a video, of which whole frames are decoded"
    if not isinstance(native, TiffArray):
        return None
    height, width = native.chunks[-2:]
    *leading, rows, columns = native.segments
    least, most = TILE_SIDES
    if min(height, width) < least or max(height, width) > most or native.form.segment_bytes > TILE_BYTES:
        return f"its tiles have {width} x {height} pixels"
    if native.form.compression not in FAST_COMPRESSIONS:
        return f"{native.form.compression} decodes slowly"
    if native.converts:
        return "its colours have to be converted"
    if prod(leading) * rows * columns > TILES or native.frames > FRAMES:
        return f"it has {native.frames} frames of {rows * columns} tiles"
    if overview_store(pyramid) is not None:
        return "it has no overviews"
    return None


def refuse_disagreement(pyramid: Multiscale, request: SourceRequest) -> None:
    """
    Raise `OptionError` if a request states other axes, channels or nodata than the store that it names.

    A store is used as it is, so the options of a request cannot change how it is read.
    """
    for option, own in (
        ("axes", "".join(pyramid.dims)),
        ("channels", pyramid.channels),
        ("nodata", pyramid.nodata),
        ("kind", pyramid.kind),
    ):
        asked: Any = getattr(request, option)
        asked = as_nodata(asked) if option == "nodata" and isinstance(asked, tuple) else asked
        alike = same_nodata(asked, pyramid.nodata) if option == "nodata" else asked == own
        if asked is not None and not alike:
            message = f"{request.path}: {option}={asked!r} was asked for, but this Zarr store has {own!r}"
            raise OptionError(
                message, path=request.path, key=option, hint=f"Leave {option} out, or transcode the store"
            )
