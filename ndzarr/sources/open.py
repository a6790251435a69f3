"""Which adapter reads this?

Objects are told apart by the package that made them, so that none of xarray, dask and zarr is imported unless the
caller did; files by their content (`sniff`), directories by the Zarr metadata in them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ndzarr.errors import MissingError, SourceError
from ndzarr.sources.base import reason
from ndzarr.sources.options import Options, make_options
from ndzarr.sources.sequence import check_stack, is_sequence, open_sequence
from ndzarr.sources.sniff import HEAD, sniff
from ndzarr.sources.source import Source
from ndzarr.sources.video.clip import make_clip

_REMOTE = ("http://", "https://", "s3://", "gs://", "gcs://", "az://", "abfs://", "ftp://")


def open_source(
    source: Any,
    *,
    axes: str | None = None,
    channels: Sequence[str] | None = None,
    nodata: float | None = None,
    orient: bool | tuple[int, int] = True,
    max_pixels: int | None = None,
    stack: str = "t",
    start: float | None = None,
    stop: float | None = None,
    step: int = 1,
    size: tuple[int, int] | float | None = None,
) -> Source:
    """
    Open an image or video file or an array as a source of pixels.

    Parameters
    ----------
    source
        Path of an image (PNG, JPEG, TIFF, OME-TIFF, WebP, BMP, GIF, JPEG 2000, JPEG XL, NPY), of a video in any
        container and codec that FFmpeg decodes, or of a Zarr array; or a numpy, dask, xarray or Zarr array; or a list
        of them, or a pattern of paths, that make one source.
    axes
        One letter of 't c z y x' per axis of the data, such as 'tyxc'; needed for arrays of more than 3 axes without
        names.
    channels
        Names of the channels, in order.
    nodata
        Value of pixels that hold no data; what the source says if left out.
    orient
        True turns images upright by their EXIF orientation, False leaves pixels as stored, (width, height) takes
        whichever of the two has this size.
    max_pixels
        Refuse an image of more pixels; by default 2**30 if its format has to be decoded whole, else 2**36.
    stack
        What the images of a list or pattern are: frames, 't', or planes, 'z'.
    start, stop, step, size
        Which frames of a video are wanted, and how large; see `ndzarr.transcode`.

    Returns
    -------
    An open source; a context manager.

    Raises
    ------
    MissingError
        There is no such file.
    SourceError
        It cannot be used as a source of pixels.
    OptionError
        An option is not understood, or contradicts the source.
    """
    check_stack(stack)
    options = make_options(axes, channels, nodata, orient, max_pixels, make_clip(start, stop, step, size))
    if is_sequence(source):
        return open_sequence(source, stack, options, _open)
    return _open(source, options)


def _open(source: Any, options: Options) -> Source:
    if isinstance(source, str | os.PathLike):
        return _open_path(os.fspath(source), options)
    options.refuse_clip("an array")
    if isinstance(source, np.ndarray):
        from ndzarr.sources.array import open_numpy

        return open_numpy(source, options)
    package = next((p for p in map(_package, type(source).__mro__) if p in _PACKAGES), None)
    if package is None:
        raise SourceError(
            f"a {type(source).__module__}.{type(source).__qualname__} is not a source of pixels; pass a path, or a "
            f"numpy, dask, xarray or Zarr array (numpy.asarray may make one)"
        )
    return _PACKAGES[package](source, options)


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _open_dask(source: Any, options: Options) -> Source:
    from ndzarr.sources.array import open_dask

    if not hasattr(source, "chunks") or not hasattr(source, "shape"):
        raise SourceError(f"a dask {type(source).__name__} is not a source of pixels; pass a dask array")
    return open_dask(source, options)


def _open_xarray(source: Any, options: Options) -> Source:
    from ndzarr.sources.labelled import open_labelled

    return open_labelled(source, options)


def _open_zarr(source: Any, options: Options) -> Source:
    from ndzarr.sources.zarr_array import open_zarr

    return open_zarr(source, options)


_PACKAGES: dict[str, Callable[[Any, Options], Source]] = {
    "dask": _open_dask,
    "xarray": _open_xarray,
    "zarr": _open_zarr,
}


def _open_path(given: str | bytes, options: Options) -> Source:
    given = os.fsdecode(given)
    if given.startswith(_REMOTE):
        raise SourceError(f"{given}: sources are read from local files; download it first")
    path = os.path.abspath(os.path.expanduser(given))
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError(f"{path}: there is no such file{_nearest_parent(path)}") from error
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{path}: it cannot be looked at ({reason(error)}); check the path and its permissions"
        ) from error
    if stat.S_ISDIR(mode):
        from ndzarr.sources.zarr_array import open_zarr_directory

        options.refuse_clip(path)
        return open_zarr_directory(path, options)
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path}: it is neither a file nor a directory; pass an image file")
    return _open_file(path, options)


def _open_file(path: str, options: Options) -> Source:
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise SourceError(f"{path}: it cannot be read ({error.strerror}); check its permissions") from error
    form = sniff(path, head)
    if form == "video":
        from ndzarr.sources.video.source import open_video

        return open_video(path, options)
    options.refuse_clip(path)
    if form == "TIFF":
        from ndzarr.sources.tiff.open import open_tiff

        return open_tiff(path, options)
    if form == "NPY":
        from ndzarr.sources.array import open_npy

        return open_npy(path, options)
    if form == "PNG":
        from ndzarr.sources.png import open_png

        return open_png(path, options)
    if form == "JPEG 2000":
        from ndzarr.sources.jpeg2000 import open_jpeg2000

        return open_jpeg2000(path, options)
    if form == "JPEG XL":
        from ndzarr.sources.jpegxl import open_jpegxl

        return open_jpegxl(path, options)
    from ndzarr.sources.raster import open_raster

    return open_raster(path, form, options)


def _nearest_parent(path: str) -> str:
    """The part of a message that says where the path stops to exist."""
    parent = os.path.dirname(path)
    if os.path.isdir(parent):
        return "; check its name"
    while parent != os.path.dirname(parent) and not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    return f"; {parent} exists, what follows does not"
