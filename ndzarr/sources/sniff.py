"""What kind of file is this, going by its first bytes?

`sniff` names a format that can be read, or raises an error that says what the file is instead and what to do about
it.  The suffix is never looked at: a JPEG called .png opens, a text file called .png is called a text file.
"""

from __future__ import annotations

import re

from ndzarr.errors import SourceError

HEAD = 4096
"""Bytes at the beginning of a file that are looked at."""

_READABLE: tuple[tuple[bytes, str], ...] = (
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"II\*\0|MM\0\*|II\+\0\x08\0|MM\0\+\0\x08", "TIFF"),
    (rb"RIFF.{4}WEBP", "WebP"),
    (rb"GIF8[79]a", "GIF"),
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (rb"\x93NUMPY", "NPY"),
)

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
"""How containers of videos begin, and bare streams; FFmpeg then says what they are."""

_CONVERT = "convert it to TIFF or PNG first"
_UNPACK = "unpack it first"

_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (rb".{4}ftyp(?:avif|avis)", "an AVIF image", _CONVERT),
    (rb".{4}ftyp(?:hei|hev|mif1|msf1)", "a HEIF image", _CONVERT),
    (rb"ID3|\xff[\xfb\xf3\xf2]|fLaC|RIFF.{4}WAVE|FORM.{4}AIF", "sound", "pass a file that has pictures"),
    (rb"\x89HDF\r\n\x1a\n", "a HDF5 or NetCDF-4 file", "open a variable of it with xarray and pass that"),
    (rb"CDF[\x01\x02\x05]", "a NetCDF file", "open a variable of it with xarray and pass that"),
    (rb"GRIB", "a GRIB file", "open a variable of it with xarray and pass that"),
    (rb"%PDF-", "a PDF document", "render its pages as PNG first"),
    (rb"%!PS", "a PostScript document", "render its pages as PNG first"),
    (rb"8BPS", "a Photoshop document", _CONVERT),
    (rb"\x76\x2f\x31\x01", "an OpenEXR image", _CONVERT),
    (rb"II\xbc", "a JPEG XR image", _CONVERT),
    (rb"SIMPLE  =", "a FITS image", "read it with astropy and pass the array"),
    (rb".{128}DICM", "a DICOM image", "read it with pydicom and pass the array"),
    (rb"NITF", "a NITF image", _CONVERT),
    (rb"\0\0\x01\0[^\0]\0", "a Windows icon", _CONVERT),
    (rb"P[1-7]\s", "a netpbm image", _CONVERT),
    (rb"qoif", "a QOI image", _CONVERT),
    (rb"DDS ", "a DDS texture", _CONVERT),
    (rb"PK\x03\x04\x14\0\0\0.{22}[\w.-]+\.npy", "a NPZ archive", "load it with numpy and pass one of its arrays"),
    (rb"PK\x03\x04", "a ZIP archive", _UNPACK),
    (rb"\x1f\x8b", "a gzip archive", _UNPACK),
    (rb"BZh|\xfd7zXZ\0|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", "a compressed archive", _UNPACK),
    (rb"\x80[\x02-\x05].{0,20}[c}\](\x8c\x95]", "a Python pickle", "load it and pass the array"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file it stands for", "run `git lfs pull`"),
)


def sniff(name: str, head: bytes) -> str:
    """
    Name the format of a file.

    Parameters
    ----------
    name
        What the error calls the file.
    head
        Its first `HEAD` bytes, or all of them if it has fewer.

    Returns
    -------
    One of PNG, JPEG, TIFF, WebP, GIF, BMP, JPEG 2000, JPEG XL, NPY, video.

    Raises
    ------
    SourceError
        It is none of these.

    Examples
    --------
    >>> sniff("a.dat", b"GIF89a")
    'GIF'
    """
    if not head:
        raise SourceError(f"{name}: the file is empty; fetch or write it again")
    for pattern, form in _READABLE:
        if re.match(pattern, head, re.DOTALL):
            return form
    if is_video(head):
        return "video"
    for pattern, what, advice in _OTHERS:
        if re.match(pattern, head, re.DOTALL):
            raise SourceError(f"{name}: it is {what}, not an image that can be read; {advice}")
    raise SourceError(
        f"{name}: {_impression(head)}; expected PNG, JPEG, TIFF, WebP, BMP, GIF, JPEG 2000, JPEG XL, NPY or a video"
    )


def is_video(head: bytes) -> bool:
    """True where a file begins like a container of videos."""
    return _VIDEO.match(head) is not None


def _impression(head: bytes) -> str:
    """What a file that is no known format looks like."""
    if not head.strip(b"\0"):
        return "it begins with zero bytes only, as an interrupted download leaves it"
    text = head.decode("latin-1")
    try:
        text = head[: max(1, len(head) - 4)].decode()  # 4: the last character may be cut
    except UnicodeDecodeError:
        return f"not an image: it begins with the bytes {head[:8].hex(' ')}"
    if any(ord(character) < 32 and character not in "\t\n\r\f\x1b" for character in text):
        return f"not an image: it begins with the bytes {head[:8].hex(' ')}"
    if re.search(r"<svg[\s>]", text):
        return "it is a SVG drawing, which has no pixels; render it as PNG first"
    kind = "HTML" if re.match(r"\s*<(?:!doctype html|html)", text, re.IGNORECASE) else "text"
    return f"it looks like {kind}, not an image: it begins with {' '.join(text.split())[:40]!r}"
