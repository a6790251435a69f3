"""Recognition of file formats, and the opening of any source.

Objects are recognised by the package that made them, so that xarray, dask and zarr are imported only if the caller did.
Files are recognised by their first bytes, directories by their Zarr metadata.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ndzarr._files import MASK_SUFFIX, make_room, open_binary
from ndzarr._formats.base import Source, reason
from ndzarr._formats.options import Options, make_clip, make_options
from ndzarr._formats.readers import READERS, open_reader
from ndzarr._formats.sequence import check_stack, is_sequence, open_sequence
from ndzarr._formats.sidecars import BESIDE, copy_world_file
from ndzarr._remote.files import download, open_file
from ndzarr._remote.settings import Remote
from ndzarr._remote.urls import is_url
from ndzarr.errors import MissingError, NdzarrError, SourceError, StoreError

HEAD = 4096
"""Bytes at the beginning of a file by which its format is recognised."""

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".svs", ".scn", ".ndpi", ".bif", ".webp", ".bmp"),
    *(".gif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".jxl", ".npy", ".czi", ".mrxs", ".nd2", ".nii"),
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2ts"),
    *(".mts", ".flv", ".wmv", ".3gp", ".ogv", ".mxf", ".y4m"),
)
"""Suffixes of the images and videos in a directory; a file that is named itself may have any."""

_READABLE: tuple[tuple[bytes, str], ...] = (
    (rb".{128}DICM", "DICOM"),  # first, since what precedes it may be the header of another format
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"II\*\0|MM\0\*|II\+\0\x08\0|MM\0\+\0\x08", "TIFF"),
    (rb"RIFF.{4}WEBP", "WebP"),
    (rb"GIF8[79]a", "GIF"),
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (rb"\x93NUMPY", "NPY"),
    (rb"ZISRAWFILE", "CZI"),
    (rb"\xda\xce\xbe\x0a", "ND2"),
    (rb".{344}n(?:\+1|i1)\0|.{4}n(?:\+2|i2)\0\r\n", "NIfTI"),
)

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF, in either byte order."""
_VIDEO = re.compile(
    rb".{4}(?:ftyp(?!avif|avis|hei|hev|mif1|msf1)|moov|mdat|wide|free|skip|pnot)"  # MP4, QuickTime, 3GP
    rb"|\x1a\x45\xdf\xa3"  # Matroska, WebM
    rb"|RIFF.{4}(?:AVI |AMV )|RF64.{4}AVI |FLV\x01|OggS|\.RMF|DKIF|YUV4MPEG2 |NSVf|nut/multimedia container|KwKf"
    rb"|\x30\x26\xb2\x75\x8e\x66\xcf\x11"  # ASF: Windows Media
    rb"|\0\0\x01[\xba\xb3\xb0]|\0\0\0\x01[\x06\x07\x09\x27\x40\x42\x44\x46\x67]"  # MPEG, H.264, H.265
    rb"|\x47.{187}\x47.{187}\x47|.{4}\x47.{191}\x47.{191}\x47"  # MPEG transport streams
    rb"|\x06\x0e\x2b\x34\x02\x05\x01\x01|\0\0\0\0\x01\xbc\0\0"  # MXF, GXF
    rb"|\x1f\x07\0[\x3f\xbf]|.{4}[\x11\x12\x44]\xaf"  # DV, FLIC
    rb"|\xb7\xd8\0\x20\x37\x49\xda\x11|\0\0\x02\x80[\x01-\x03]|\x12\0\x0a"  # WTV, bare DNxHD and AV1
    rb"|NuppelVideo|MythTVVideo|\x84\x10\xff\xff\xff\xff|FILM.{12}FDSC|Interplay MVE File"  # NUV, RoQ, other games
    rb"|BIK[bdfghi]|KB2[adfghijk]|SMK[24]|BBCD\0|(?:F|C)WS[\x03-\x2b]",  # Bink, Smacker, Dirac, Flash
    re.DOTALL,
)
"""First bytes of video containers and bare streams; FFmpeg says which one it is."""

_CONVERT = "convert it to TIFF or PNG first"
_UNPACK = "unpack it first"
_ZIPPED = "unpack it first, or ndzarr.open it if it is a zipped Zarr store"
_BIOFORMATS = "convert it to OME-TIFF or OME-Zarr with bioformats2raw or QuPath first"

_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (rb".{4}ftyp(?:avif|avis)", "an AVIF image", "read it with Pillow and pass the array"),
    (rb".{4}ftyp(?:hei|hev|mif1|msf1)", "a HEIF image", "read it with pillow-heif and pass the array"),
    (rb"ID3|\xff[\xfb\xf3\xf2]|fLaC|RIFF.{4}WAVE|FORM.{4}AIF", "sound", "pass a file that has pictures"),
    (rb"\x89HDF\r\n\x1a\n", "a HDF5 or NetCDF-4 file", "open a variable of it with xarray and pass that"),
    (rb"CDF[\x01\x02\x05]", "a NetCDF file", "open a variable of it with xarray and pass that"),
    (rb"GRIB", "a GRIB file", "open a variable of it with xarray and pass that"),
    (rb"%PDF-", "a PDF document", "render its pages as PNG first"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript document", "render its pages as PNG first"),
    (rb"\x70\0\0\0.{4}\x2a", "a LIF image of Leica", "read it with liffile or readlif and pass the array"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an OLE document such as OIB, ZVI or FlashPix", _BIOFORMATS),
    (rb"8BPS", "a Photoshop document", _CONVERT),
    (rb"\x76\x2f\x31\x01", "an OpenEXR image", _CONVERT),
    (rb"II\xbc", "a JPEG XR image", _CONVERT),
    (rb"SIMPLE  =", "a FITS image", "read it with astropy and pass the array"),
    (rb"NITF", "a NITF image", _CONVERT),
    (rb"\0\0\x01\0[^\0]\0", "a Windows icon", _CONVERT),
    (rb"P[1-7]\s", "a netpbm image", _CONVERT),
    (rb"qoif", "a QOI image", _CONVERT),
    (rb"DDS ", "a DDS texture", _CONVERT),
    (rb"\x01\xda[\0\x01][\x01\x02]", "an SGI image", _CONVERT),
    (rb"\x0a[\0\x02-\x05]\x01", "a PCX image", _CONVERT),
    (rb"\x59\xa6\x6a\x95", "a Sun raster image", _CONVERT),
    (rb"#\?R(?:ADIANCE|GBE)\n", "a Radiance HDR image", _CONVERT),
    (rb"FUJIFILMCCD-RAW|IIU\0", "a raw image of a camera", "develop it with rawpy and pass the array"),
    (rb"PK\x03\x04\x14\0\0\0.{22}[\w.-]+\.npy", "a NPZ archive", "load it with numpy and pass one of its arrays"),
    (rb"PK\x03\x04", "a ZIP archive", _ZIPPED),
    (rb"\x1f\x8b", "a gzip archive", _UNPACK),
    (rb"BZh|\xfd7zXZ\0|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", "a compressed archive", _UNPACK),
    (rb"\x80[\x02-\x05].{0,20}[c}\](\x8c\x95]", "a Python pickle", "load it and pass the array"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file it stands for", "run `git lfs pull`"),
    # TGA has no magic number: kinds of colour map and of image, bits of an entry and of a pixel.
    (rb".[\0\x01][\x01-\x03\x09-\x0b].{4}[\0\x0f\x10\x18\x20].{8}[\x08\x0f\x10\x18\x20]", "a TGA image", _CONVERT),
)


def open_source(
    source: Any,
    *,
    axes: str | None = None,
    channels: Sequence[str] | None = None,
    nodata: float | Sequence[float | None] | None = None,
    orient: bool | tuple[int, int] = True,
    max_pixels: int | None = None,
    stack: str = "t",
    start: float | None = None,
    stop: float | None = None,
    step: int = 1,
    size: tuple[int, int] | float | None = None,
    palette: str = "colours",
    series: str | int | None = None,
    variable: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    remote: Remote | None = None,
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
        Value of pixels that hold no data, or one (or None) per channel; default: what the source says.
    orient
        True turns images upright by their EXIF orientation, False leaves pixels as stored, (width, height) chooses
        the one that has this size.
    max_pixels
        Maximum of height times width; default: 2**30 if the format has to be decoded whole, else 2**36.
    stack
        The axis that the images of a list or pattern make: 't' (frames) or 'z' (planes).
    start, stop, step, size
        Wanted frames of a video, and their size; see `ndzarr.transcode`.
    palette
        What indices of a palette become: 'colours' (r, g, b) or 'indices' (kept).
    series
        Name or number of the image of a TIFF that holds several; the main one if None.
    variable
        Name of the image of a dataset of xarray; the only one if None.
    storage_options, remote
        How a URL is reached; see `ndzarr.open`.

    Returns
    -------
    An open source; a context manager.
    """
    check_stack(stack)
    clip = make_clip(start, stop, step, size)
    options = make_options(axes, channels, nodata, orient, max_pixels, clip, palette, series, variable)
    if isinstance(source, str | os.PathLike) and is_url(name := os.fsdecode(source)):
        return _open_remote(name, options, storage_options, remote)
    if is_sequence(source):
        far = partial(_open, storage_options=storage_options, remote=remote)
        return open_sequence(source, stack, options, far)
    return _open(source, options)


def _open(
    source: Any,
    options: Options,
    storage_options: Mapping[str, Any] | None = None,
    remote: Remote | None = None,
) -> Source:
    if isinstance(source, str | os.PathLike):
        if is_url(name := os.fsdecode(source)):
            return _open_remote(name, options, storage_options, remote)
        return _open_path(os.fspath(source), options)
    options.refuse_clip("an array")
    options.refuse_series("an array")
    from ndzarr._formats import arrays, labelled

    packages = {kind.__module__.partition(".")[0] for kind in type(source).__mro__}
    if "xarray" not in packages:
        options.refuse_variable("an array")
    if isinstance(source, np.ndarray):
        return arrays.open_numpy(source, options)
    for package, opener in (("dask", arrays.open_dask), ("xarray", labelled.open_xarray), ("zarr", labelled.open_zarr)):
        if package in packages:
            return opener(source, options)
    raise SourceError(
        f"a {type(source).__module__}.{type(source).__qualname__} is not a source of pixels",
        hint="Pass a path, or a numpy, dask, xarray or Zarr array (numpy.asarray may make one)",
    )


def _open_path(given: str | bytes, options: Options) -> Source:
    path = os.path.abspath(os.path.expanduser(os.fsdecode(given)))
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError(f"{path}: there is no such file{_where_path_ends(path)}", path=path) from error
    except (OSError, ValueError) as error:
        what = f"it cannot be looked at ({reason(error)})"
        raise SourceError(f"{path}: {what}", path=path, hint="Check the path and its permissions") from error
    if stat.S_ISDIR(mode):
        from ndzarr._formats.labelled import open_zarr_directory

        options.refuse_clip(path)
        options.refuse_series(path)
        return open_zarr_directory(path, options)
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path}: it is neither a file nor a directory", path=path, hint="Pass an image file")
    try:
        source = _open_file(path, options)
        if not source.masked and os.path.isfile(path + MASK_SUFFIX):
            from ndzarr._formats.tiff.open import open_mask_beside

            source.add_mask(open_mask_beside(path, source.orientation.size(*source.shape[-2:])))
        return source
    except NdzarrError as error:
        error.path = error.path or path
        raise


def _open_remote(
    url: str,
    options: Options,
    storage_options: Mapping[str, Any] | None = None,
    remote: Remote | None = None,
) -> Source:
    """Open a copy of a file in a bucket or on a web server, and of those beside it; the copy goes with the source."""
    try:
        opened = open_file(url, storage_options, remote, BESIDE)
    except StoreError as error:
        raise SourceError.like(error) from error
    name = opened.file.path
    try:
        recognised = sniff(name, opened.first[:HEAD].tobytes())  # before all of it is fetched
    except SourceError as error:
        error.path = error.path or name
        raise
    folder = tempfile.mkdtemp(prefix="ndzarr-")
    try:
        path = download(opened, Path(folder))
        if recognised == "TIFF":
            copy_world_file(opened, path)
        source = _open_path(str(path), options)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, StoreError):
            raise SourceError.like(error) from error
        if isinstance(error, NdzarrError) and folder in (error.path or ""):
            error.path = name
            error.args = (str(error).replace(str(path), name),)
        raise
    source.keep_while_open(name, partial(shutil.rmtree, folder, ignore_errors=True))
    return source


def recognise(path: str) -> str:
    """Return the format of a file, as `sniff` does; raise `SourceError`, which names a format that is not read."""
    try:
        with open_binary(path) as file:
            head = file.read(HEAD)
    except OSError as error:
        what = f"it cannot be read ({error.strerror})"
        raise SourceError(f"{path}: {what}", path=path, hint="Check its permissions") from error
    return sniff(path, head)


def _open_file(path: str, options: Options) -> Source:
    make_room()
    form = recognise(path)
    options.refuse_variable(path)
    # Each opener imports the libraries of its formats only.
    if form == "video":
        from ndzarr._formats.video.source import open_video

        options.refuse_series(path)
        return open_video(path, options)
    options.refuse_clip(path)
    if form == "TIFF":
        from ndzarr._formats.tiff.open import open_tiff

        return open_tiff(path, options)
    if form in READERS:
        return open_reader(path, form, options)
    options.refuse_series(path)
    if form == "NPY":
        from ndzarr._formats.arrays import open_npy

        return open_npy(path, options)
    if form == "PNG":
        from ndzarr._formats.png import open_png

        return open_png(path, options)
    if form == "JPEG 2000":
        from ndzarr._formats.jpeg2000 import open_jpeg2000

        return open_jpeg2000(path, options)
    if form == "JPEG XL":
        from ndzarr._formats.jpegxl import open_jpegxl

        return open_jpegxl(path, options)
    from ndzarr._formats.raster import open_pillow

    return open_pillow(path, form, options)


def _where_path_ends(path: str) -> str:
    """Return the part of a message that says up to where a path exists."""
    parent = os.path.dirname(path)
    if os.path.isdir(parent):
        return ". Check its name"
    while parent != os.path.dirname(parent) and not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    return f"; {parent} exists, what follows does not"


def sniff(name: str, head: bytes) -> str:
    """
    Recognise the format of a file by its first `HEAD` bytes, or all of them if it has fewer.

    Returns
    -------
    One of PNG, JPEG, TIFF, WebP, GIF, BMP, JPEG 2000, JPEG XL, NPY, video, or a key of `readers.READERS`.
    """
    if not head:
        raise SourceError(f"{name}: the file is empty", hint="Fetch or write it again")
    if name.lower().endswith(".mrxs"):  # a preview in JPEG; the slide is in the folder beside it
        return "MIRAX"
    if name.lower().endswith(".nii.gz"):
        return "NIfTI"
    for pattern, form in _READABLE:
        if re.match(pattern, head, re.DOTALL):
            return form
    if _VIDEO.match(head):
        return "video"
    for pattern, what, advice in _OTHERS:
        if re.match(pattern, head, re.DOTALL):
            raise SourceError(f"{name}: it is {what}, not an image that can be read", hint=f"To use it, {advice}")
    hint = "Pass PNG, JPEG, TIFF, WebP, BMP, GIF, JPEG 2000, JPEG XL, NPY or a video"
    raise SourceError(f"{name}: {_impression(head)}", hint=hint)


def file_kind(path: str) -> str | None:
    """
    Return the format of a file that may be read in place; None for stores, other and missing files.

    It is 'TIFF', 'video' or a key of `readers.READERS`.
    """
    head = b""
    with suppress(OSError, ValueError):  # whoever opens the file complains
        if os.path.isfile(path):  # reading a pipe would wait
            with open_binary(path) as file:
                head = file.read(HEAD)
    try:
        form = sniff(path, head)
    except SourceError:
        form = None
    return form if form in READERS else kind_of(head)


def kind_of(head: bytes) -> str | None:
    """Return 'TIFF' or 'video' for the beginning of a file that may be read in place, else None."""
    if head[:4] in _TIFF:
        return "TIFF"
    return "video" if _VIDEO.match(head) else None


def _impression(head: bytes) -> str:
    """Describe the beginning of a file of unknown format, without quoting it: it may be anybody's."""
    if not head.strip(b"\0"):
        return "it begins with zero bytes only, as after an interrupted download"
    try:
        text = head[: max(1, len(head) - 4)].decode()  # 4: the last character may be cut
    except UnicodeDecodeError:
        text = "\0"
    if any(ord(character) < 32 and character not in "\t\n\r\f\x1b" for character in text):
        return "its first bytes are those of no image that is known"
    if re.search(r"<svg[\s>]", text):
        return "it is an SVG drawing, which has no pixels (render it as PNG first)"
    kind = "HTML" if re.match(r"\s*<(?:!doctype html|html)", text, re.IGNORECASE) else "text"
    return f"it looks like {kind}, not an image"
