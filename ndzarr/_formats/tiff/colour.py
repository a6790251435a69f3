"""
The meaning of a TIFF's samples, and their conversion to channels.

The photometric interpretation (tag 262, TIFF 6.0) decides:

- palettes become r, g, b of 8 bits, and a where one index means no data; the indices are kept if they are asked for;
- gray where 0 is white is inverted, so that 0 is black;
- inks become r, g, b, and so do luma and chroma where the decoder has not converted them;
- everything else is kept and named; samples that the file calls alpha (tag 338) are named a.

A `Conversion` works on arrays with axes t, c, z, y, x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ndzarr._formats.base import Pixels
from ndzarr._formats.colour import ALPHA, GRAY, RGB, InkMixer, plain_names, with_extras
from ndzarr._formats.options import numbered
from ndzarr._formats.tiff.libtiff import SGILOG, SGILOG24
from ndzarr._formats.tiff.metadata import ICC_PROFILE, INK_SET, LUMA_COEFFICIENTS, REFERENCE_BLACK_WHITE, Page, Series
from ndzarr._store.validity import UNSTATED, Nodata, as_nodata
from ndzarr.errors import SourceError

_MINISWHITE, _RGB, _PALETTE, _INKS, _YCBCR = 0, 2, 3, 5, 6
_LOG_LUV = 32845
_DECODED_TO_RGB = (6, 7, 34892, 33007, 33005, 34712, 50001, 50002, 52546, 22610, 34934)
"""Compressions whose decoders return RGB whatever the photometric interpretation says."""
_YCBCR_JPEG2000 = 33003
_ALPHA = {1: "associated", 2: "unassociated"}


Convert: TypeAlias = Callable[[Pixels, Pixels], Pixels]
"""Takes samples, axes t, c, z, y, x, and the numbers of the frames that hold them, axes t, z; returns channels."""


@dataclass(frozen=True, slots=True, eq=False)
class Conversion:
    """How stored samples become channels."""

    channels: tuple[str, ...]
    dtype: np.dtype[Any]
    """Type of pixels after the conversion."""
    said: str
    """What metadata say about colour."""
    convert: Convert | None = None
    """None if samples are channels."""
    whole: bool = False
    """True if every channel needs all samples."""
    nodata: Nodata = None
    """What marks missing data after the conversion."""
    about_alpha: str | None = None
    """'associated' if colours are multiplied with alpha, 'unassociated' if not, `UNSTATED`."""
    palette: list[list[int]] | None = None
    """(r, g, b) of each index, 0 to 255, if pixels are indices that all frames have the same colours for."""
    indexed: bool = False
    """True if pixels are indices of a palette."""
    notes: tuple[str, ...] = ()


def conversion(path: str, series: Series, stored: int, per_frame: int, nodata: Nodata, palette: str) -> Conversion:
    """
    Work out what samples mean.

    `stored` is the length of c as stored; `per_frame` of these samples are in one frame.  `nodata` is a stored value.
    `palette` is one of `options.PALETTES`.
    """
    page = series.page
    dtype, photometric = np.dtype(page.dtype), page.photometric
    if photometric == _PALETTE and dtype.kind in "ub" and dtype.itemsize <= 2:
        if palette == "indices":
            return _kept_indices(path, series, stored, per_frame, dtype, nodata)
        if stored == per_frame:
            return _from_palette(path, series, stored, dtype, nodata)
    if page.compression in (SGILOG, SGILOG24):
        if photometric == _LOG_LUV:
            return Conversion(("X", "Y", "Z"), np.dtype(np.float32), "LogLuv converted to CIE XYZ")
        return Conversion(GRAY, np.dtype(np.float32), "LogL converted to luminance")
    if photometric == _MINISWHITE and dtype.kind in "ub":
        return _from_inverted(page, stored, per_frame, dtype, nodata)
    plain = _kept(page, stored, per_frame, dtype, nodata)
    if stored != per_frame:
        return plain
    if photometric == _INKS and stored >= 4 and dtype.kind in "uf" and page.tags.get(INK_SET, 1) == 1:
        mixer = InkMixer(page.data(ICC_PROFILE), dtype)
        return _with_colours(mixer, 4, mixer.said, plain)
    if dtype == np.uint8 and stored == 3 and _is_luma(page):
        return _with_colours(_luma_to_rgb(page), 3, "YCbCr converted to RGB", plain)
    return plain


def _kept(page: Page, stored: int, per_frame: int, dtype: np.dtype[Any], nodata: Nodata) -> Conversion:
    extras = page.extra_samples
    if not extras and page.photometric == _RGB and per_frame == 4:
        extras = (2,)  # many writers of RGBA leave the tag out; libtiff and Pillow take the fourth for alpha, too
    colours = per_frame - len(extras)
    alpha = next((colours + i for i, e in enumerate(extras) if e in _ALPHA), None)
    if stored != per_frame or per_frame == 1:
        names = plain_names(stored) if stored == 1 else numbered(stored)
    elif page.photometric in (_RGB, _YCBCR) and colours == 3:
        names = with_extras(RGB if _is_rgb(page) else ("y", "cb", "cr"), stored, alpha)
    elif colours == 1 and stored == 2 and alpha is not None:
        names = (*GRAY, ALPHA)
    elif page.photometric == _INKS and colours == 4:
        names = with_extras(("c", "m", "y", "k"), stored, alpha)
    else:
        names = with_extras((), stored, alpha)
    about_alpha = None
    if alpha is not None:
        about_alpha = _ALPHA[extras[alpha - colours]] if page.extra_samples else UNSTATED
    return Conversion(names, dtype, page.photometric_name, nodata=nodata, about_alpha=about_alpha)


def _from_palette(path: str, series: Series, stored: int, dtype: np.dtype[Any], nodata: Nodata) -> Conversion:
    """Look colours up.  Samples behind the index are kept, in the depth of the file where that is 16 bits."""
    page = series.page
    maps, which = series.colour_maps(path)
    top = 65535 if stored > 1 and dtype == np.uint16 else 255
    tables = np.stack([_table(path, page, values, top) for values in maps])  # palette, index, (r, g, b)
    extras = page.extra_samples[: stored - 1]
    alpha = next((1 + i for i, extra in enumerate(extras) if extra in _ALPHA), None)  # position as stored
    said = f"palette of {1 << _bits(page)} colours expanded to RGB"
    if len(maps) > 1:
        said = f"{len(maps)} palettes of {1 << _bits(page)} colours, each of its frames, expanded to RGB"
    of_index = nodata[0] if isinstance(nodata, tuple) else nodata
    transparent = int(of_index) if of_index is not None and 0 <= of_index < tables.shape[1] else None
    if transparent is not None:
        said += f", index {transparent} transparent"
    names = with_extras(RGB, 2 + stored, None if alpha is None else 2 + alpha)
    if transparent is not None and alpha is None:
        names = (*names, ALPHA)

    def look_up(pixels: Pixels, frames: Pixels) -> Pixels:
        indices = pixels[:, 0].astype(np.intp)  # t, z, y, x
        chosen = which[frames][:, :, None, None] if len(tables) > 1 else 0
        out = np.empty((len(indices), len(names), *indices.shape[1:]), tables.dtype)
        out[:, :3] = np.moveaxis(tables[chosen, indices], -1, 1)
        out[:, 3 : 2 + stored] = pixels[:, 1:]
        if alpha is not None and _bits(page) < 8:
            out[:, 2 + alpha] = pixels[:, alpha] * (255 // ((1 << _bits(page)) - 1))
        if transparent is not None:
            seen = indices != transparent
            at = names.index(ALPHA)
            out[:, at] = np.where(seen, out[:, at] if alpha is not None else top, 0)
        return out

    about_alpha = None if alpha is None else _ALPHA[extras[alpha - 1]]
    return Conversion(names, tables.dtype, said, look_up, True, about_alpha=about_alpha)


def _table(path: str, page: Page, stored: Sequence[float], top: int) -> Pixels:
    """Colours of all values that an index can have, shape (index, 3), from a colour map (tag 320); 0 to `top`."""
    entries, dtype = 1 << _bits(page), np.dtype(page.dtype)
    values = np.asarray(stored, np.int64)
    if values.size != 3 * entries:
        what = f"a palette of {entries} colours needs {3 * entries} values, but {values.size} are stored"
        hint = "Pass palette='indices' to read the indices, or write the file again"
        raise SourceError(f"{path}: {what}", path=path, hint=hint)
    table = np.zeros((1 << (8 * dtype.itemsize), 3), np.uint8 if top == 255 else np.uint16)
    if values.max(initial=0) <= 255:  # the specification scales to 16 bits; some writers did not
        values = values * 257
    table[:entries] = (values >> (8 if top == 255 else 0)).reshape(3, entries).T
    return table


def _kept_indices(
    path: str, series: Series, stored: int, per_frame: int, dtype: np.dtype[Any], nodata: Nodata
) -> Conversion:
    """Keep indices, as numbers of 8 or 16 bits; their colours are metadata."""
    page = series.page
    plain = _kept(page, stored, per_frame, dtype, nodata)
    names = ("index", *plain.channels[1:]) if per_frame == stored else plain.channels
    maps, _ = series.colour_maps(path)
    said, palette = f"palette of {1 << _bits(page)} colours, indices kept", None
    notes: tuple[str, ...] = ()
    if len(maps) > 1:
        notes = (f"its frames have {len(maps)} different palettes, so an index has no one colour",)
    elif len(maps[0]) == 3 << _bits(page):
        palette = _table(path, page, maps[0], 255)[: 1 << _bits(page)].tolist()
    convert = None if dtype.kind != "b" else lambda pixels, _: pixels.view(np.uint8)
    made = np.dtype(np.uint8) if convert else dtype
    return Conversion(
        names, made, said, convert, False, nodata, plain.about_alpha, palette=palette, indexed=True, notes=notes
    )


def _from_inverted(page: Page, stored: int, per_frame: int, dtype: np.dtype[Any], nodata: Nodata) -> Conversion:
    top = 1 if dtype.kind == "b" else (1 << _bits(page)) - 1
    names = _kept(page, stored, per_frame, dtype, None).channels
    alpha = names.index(ALPHA) if ALPHA in names else None

    def invert(pixels: Pixels, _: Pixels) -> Pixels:
        out = ~pixels if pixels.dtype.kind == "b" else np.subtract(dtype.type(top), pixels)
        if alpha is not None:
            out[:, alpha] = pixels[:, alpha]
        return out

    given = nodata if isinstance(nodata, tuple) else (nodata,)
    inverted = as_nodata([v if v is None or i == alpha else top - v for i, v in enumerate(given)])
    return Conversion(names, dtype, "gray with 0 as white, inverted", invert, alpha is not None, inverted)


def _with_colours(mix: Callable[[Pixels], Pixels], count: int, said: str, plain: Conversion) -> Conversion:
    """Replace the first `count` samples by r, g, b; what follows is kept."""

    def convert(pixels: Pixels, _: Pixels) -> Pixels:
        mixed = mix(pixels.swapaxes(0, 1)[:count]).swapaxes(0, 1)
        return mixed if pixels.shape[1] == count else np.concatenate([mixed, pixels[:, count:]], axis=1)

    names = (*RGB, *plain.channels[count:])
    return Conversion(names, plain.dtype, said, convert, True, about_alpha=plain.about_alpha)


def _bits(page: Page) -> int:
    """Bits of the first sample."""
    return page.bits if isinstance(page.bits, int) else page.bits[0]


def _is_rgb(page: Page) -> bool:
    return page.photometric == _RGB or (page.compression in _DECODED_TO_RGB and page.planar == 1)


def _is_luma(page: Page) -> bool:
    return page.compression == _YCBCR_JPEG2000 or (page.photometric == _YCBCR and not _is_rgb(page))


def _luma_to_rgb(page: Page) -> Callable[[Pixels], Pixels]:
    """The conversion of TIFF 6.0, section 21, axes c first; without tags that of JFIF, ITU-R BT.601 at full range."""
    coefficients = _ratios(page.numbers(LUMA_COEFFICIENTS), 3) or (0.299, 0.587, 0.114)
    of_red, of_green, of_blue = coefficients if 0 not in coefficients else (0.299, 0.587, 0.114)
    levels = _ratios(page.numbers(REFERENCE_BLACK_WHITE), 6) or (0, 255, 128, 255, 128, 255)
    black, white = np.array(levels[::2]), np.array(levels[1::2])
    # How far each sample is from black, luma from 0 to 255 and chroma from -127 to 127.
    scale = np.array([255, 127, 127]) / np.where(white == black, 1, white - black)

    def convert(planes: Pixels) -> Pixels:
        luma, blue, red = (
            (plane.astype(np.float32) - np.float32(b)) * np.float32(s)
            for plane, b, s in zip(planes, black, scale, strict=True)
        )
        r, b = luma + np.float32(2 - 2 * of_red) * red, luma + np.float32(2 - 2 * of_blue) * blue
        g = (luma - np.float32(of_red) * r - np.float32(of_blue) * b) / np.float32(of_green)
        return np.asarray(np.rint(np.stack([r, g, b])).clip(0, 255), np.uint8)

    return convert


def _ratios(values: Sequence[float], count: int) -> tuple[float, ...] | None:
    """`count` finite fractions, from numerators and denominators; None if they are not all there."""
    if len(values) == count:  # some writers store plain numbers
        return tuple(values)
    if len(values) != 2 * count or 0 in values[1::2]:
        return None
    return tuple(n / d for n, d in zip(values[::2], values[1::2], strict=True))
