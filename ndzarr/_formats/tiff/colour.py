"""What do the samples of a TIFF mean, and how do they become channels?

Going by the photometric interpretation (tag 262, TIFF 6.0):

- palettes become r, g, b of 8 bits, and a where one index means no data;
- gray where 0 is white is inverted, so that 0 is black;
- inks become r, g, b (`sources.colour`), and so do luma and chroma where the decoder has not seen to it;
- everything else is kept and named; samples that the file calls alpha (tag 338) are named a.

A `Conversion` works on arrays with axes t, c, z, y, x.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ndzarr._formats.base import Pixels
from ndzarr._formats.colour import ALPHA, GRAY, RGB, InkMixer, look_up, plain_names, with_extras
from ndzarr._formats.options import numbered
from ndzarr.errors import SourceError

_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _INKS, _YCBCR = 0, 1, 2, 3, 5, 6
_DECODED_TO_RGB = (6, 7, 34892, 33007, 33005, 34712, 50001, 50002, 52546)
"""Compressions whose decoders return RGB whatever the photometric interpretation says."""
_YCBCR_JPEG2000 = 33003
_PHOTOMETRIC, _COLOUR_MAP, _INK_SET, _PROFILE = 262, 320, 332, 34675
_ALPHA = {1: "associated", 2: "unassociated"}


@dataclass(frozen=True, slots=True, eq=False)
class Conversion:
    """How stored samples become channels."""

    channels: tuple[str, ...]
    """Names after the conversion."""
    dtype: np.dtype[Any]
    """Of pixels after the conversion."""
    said: str
    """What metadata say about colour."""
    convert: Callable[[Pixels], Pixels] | None = None
    """Takes and returns axes t, c, z, y, x; None if samples are channels."""
    whole: bool = False
    """True if every channel needs all samples."""
    nodata: float | None = None
    """The value that marks missing data after the conversion."""
    about_alpha: str | None = None
    """'associated' if colours are multiplied with alpha, 'unassociated' if not."""


def conversion(path: str, page: Any, stored: int, per_frame: int, nodata: float | None) -> Conversion:
    """
    Find out what samples mean.

    Parameters
    ----------
    page
        tifffile's page that stands for all frames.
    stored
        Length of c as stored.
    per_frame
        Samples of one frame that belong to c.
    nodata
        As the file states it, in stored values.
    """
    dtype = np.dtype(page.dtype).newbyteorder("=")
    photometric = _photometric(page)
    if photometric == _PALETTE and stored == 1 and dtype.kind == "u" and dtype.itemsize <= 2:
        return _from_palette(path, page, nodata)
    if photometric == _MINISWHITE and dtype.kind in "ub":
        return _from_inverted(page, stored, per_frame, dtype, nodata)
    plain = _kept(page, stored, per_frame, dtype, nodata)
    if stored != per_frame:
        return plain
    if photometric == _INKS and stored >= 4 and dtype.kind in "uf" and _value(page, _INK_SET) in (None, 1):
        mixer = InkMixer(_bytes(_value(page, _PROFILE)), dtype)
        return _with_colours(mixer, 4, mixer.said, plain)
    if dtype == np.uint8 and stored == 3 and _is_luma(page):
        return _with_colours(_luma_to_rgb, 3, "YCbCr converted to RGB", plain)
    return plain


def _kept(page: Any, stored: int, per_frame: int, dtype: np.dtype[Any], nodata: float | None) -> Conversion:
    extras = tuple(int(e) for e in (page.extrasamples or ()))
    if not extras and _photometric(page) == _RGB and per_frame == 4:
        extras = (2,)  # many writers of RGBA leave the tag out; libtiff and Pillow take the fourth for alpha, too
    colours = per_frame - len(extras)
    alpha = next((colours + i for i, e in enumerate(extras) if e in _ALPHA), None)
    if stored != per_frame or per_frame == 1:
        names = plain_names(stored) if stored == 1 else numbered(stored)
    elif _photometric(page) in (_RGB, _YCBCR) and colours == 3:
        names = with_extras(RGB if _is_rgb(page) else ("y", "cb", "cr"), stored, alpha)
    elif colours == 1 and stored == 2 and alpha is not None:
        names = (*GRAY, ALPHA)
    elif _photometric(page) == _INKS and colours == 4:
        names = with_extras(("c", "m", "y", "k"), stored, alpha)
    else:
        names = with_extras((), stored, alpha)
    kind = getattr(page.photometric, "name", str(page.photometric))
    return Conversion(
        names, dtype, kind, nodata=nodata, about_alpha=None if alpha is None else _ALPHA[extras[alpha - colours]]
    )


def _from_palette(path: str, page: Any, nodata: float | None) -> Conversion:
    entries = 1 << int(page.bitspersample)
    values = np.asarray(_value(page, _COLOUR_MAP) if _value(page, _COLOUR_MAP) is not None else ())
    if values.size != 3 * entries:
        raise SourceError(
            f"{path}: a palette of {entries} colours needs {3 * entries} values, but {values.size} are stored; "
            f"write the file again"
        )
    # The specification scales to 16 bits; some writers did not.
    shift = 8 if values.max(initial=0) > 255 else 0
    table = np.zeros((1 << (8 * page.dtype.itemsize), 3), np.uint8)
    table[:entries] = (values.reshape(3, entries).T >> shift).astype(np.uint8)
    names, said = RGB, f"palette of {entries} colours expanded to RGB"
    if nodata is not None and 0 <= nodata < entries:
        opaque = np.full((len(table), 1), 255, np.uint8)
        opaque[int(nodata)] = 0
        table = np.concatenate([table, opaque], axis=1)
        return Conversion(
            (*names, ALPHA), table.dtype, f"{said}, index {int(nodata)} transparent", _looker(table), True
        )
    return Conversion(names, table.dtype, said, _looker(table), True)


def _looker(table: Pixels) -> Callable[[Pixels], Pixels]:
    return lambda pixels: np.moveaxis(look_up(table, pixels[:, 0]), -1, 1)


def _from_inverted(page: Any, stored: int, per_frame: int, dtype: np.dtype[Any], nodata: float | None) -> Conversion:
    top = 1 if dtype.kind == "b" else (1 << int(page.bitspersample)) - 1
    names = _kept(page, stored, per_frame, dtype, None).channels
    alpha = names.index(ALPHA) if ALPHA in names else None

    def invert(pixels: Pixels) -> Pixels:
        out = ~pixels if pixels.dtype.kind == "b" else np.subtract(dtype.type(top), pixels)
        if alpha is not None:
            out[:, alpha] = pixels[:, alpha]
        return out

    return Conversion(
        channels=names,
        dtype=dtype,
        said="gray with 0 as white, inverted",
        convert=invert,
        whole=alpha is not None,
        nodata=None if nodata is None else top - nodata,
    )


def _with_colours(mix: Callable[[Pixels], Pixels], count: int, said: str, plain: Conversion) -> Conversion:
    """Replace the first `count` samples by r, g, b; what follows is kept."""

    def convert(pixels: Pixels) -> Pixels:
        mixed = mix(pixels.swapaxes(0, 1)[:count]).swapaxes(0, 1)
        return mixed if pixels.shape[1] == count else np.concatenate([mixed, pixels[:, count:]], axis=1)

    names = (*RGB, *plain.channels[count:])
    return Conversion(names, plain.dtype, said, convert, True, about_alpha=plain.about_alpha)


def _is_rgb(page: Any) -> bool:
    decoded = int(page.compression) in _DECODED_TO_RGB and int(page.planarconfig) == 1
    return _photometric(page) == _RGB or decoded


def _is_luma(page: Any) -> bool:
    return int(page.compression) == _YCBCR_JPEG2000 or (_photometric(page) == _YCBCR and not _is_rgb(page))


def _photometric(page: Any) -> int:
    """The photometric interpretation; 0 is black where the file does not say."""
    return int(page.photometric) if page.photometric or _PHOTOMETRIC in page.tags else _MINISBLACK


def _luma_to_rgb(planes: Pixels) -> Pixels:
    """ITU-R BT.601 at full range, as JFIF has it; axes c first."""
    luma, blue, red = planes[0].astype(np.float32), planes[1] - np.float32(128), planes[2] - np.float32(128)
    out = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue])
    return np.asarray(np.rint(out).clip(0, 255), np.uint8)


def _value(page: Any, code: int) -> Any:
    tag = page.tags.get(code)
    return None if tag is None else tag.value


def _bytes(value: Any) -> bytes | None:
    return bytes(value) if value is not None else None
