"""How do the pixels of a tile become bytes of a TIFF, and can they?

TIFF 6.0 with the compressions that libtiff knows (https://libtiff.gitlab.io/libtiff/internals.html).  Samples of a
pixel lie side by side (PlanarConfiguration 1).  A predictor replaces each sample by its difference to the one before
in its row (2: horizontal, integers; 3: floating point, TIFF Technical Note 3), which deflate, zstd and lzw then find
easier to compress.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ndzarr.errors import OptionError, did_you_mean

Pixels: TypeAlias = "np.ndarray[Any, Any]"

CODES = {"none": 1, "lzw": 5, "jpeg": 7, "deflate": 8, "lerc": 34887, "zstd": 50000, "webp": 50001}
"""Compressions by name, with the value of tag 259."""
PREDICTORS = {"none": 1, "horizontal": 2, "float": 3}
"""Predictors by name, with the value of tag 317."""
_GENERAL = ("none", "lzw", "deflate", "zstd")
"""Compressions that take bytes of any kind."""
_LEVELS = {"deflate": (6, 12), "zstd": (9, 22)}
"""(default, highest) level; the defaults are GDAL's."""
QUALITY = 75
"""Of jpeg and webp, GDAL's default too."""


@dataclass(frozen=True, slots=True)
class TileFormat:
    """How tiles of one kind of pixels are stored."""

    compression: str
    """One of `CODES`."""
    dtype: np.dtype[Any]
    """Of samples."""
    samples: int
    """Per pixel."""
    predictor: int = 1
    """Value of tag 317."""
    level: int | None = None
    """How hard deflate and zstd try."""
    quality: int = QUALITY
    """Of jpeg and webp, up to 100; webp is lossless at 100."""
    max_error: float = 0.0
    """How far lerc may be off."""

    @property
    def lossless(self) -> bool:
        """True if pixels come back as they were."""
        if self.compression == "lerc":
            return self.max_error == 0
        return self.compression in _GENERAL or (self.compression == "webp" and self.quality == 100)

    def bound(self, pixels: int) -> int:
        """Bytes that a tile of so many pixels takes at most."""
        raw = pixels * self.samples * self.dtype.itemsize
        # A code of lzw has 12 bits at most and stands for 8 or more; the other lossless ones fall back to copies.
        grown = {"lzw": raw * 3 // 2, "jpeg": raw * 2, "webp": raw * 2}.get(self.compression, raw + raw // 64)
        return grown + 1024

    def encode(self, tile: Pixels) -> bytes:
        """
        The bytes of a tile.

        Parameters
        ----------
        tile
            Axes (y, x, sample), contiguous, of `dtype`; not written to.
        """
        if self.predictor == 2:
            tile = _differences(tile)
        elif self.predictor == 3:
            tile = _codecs().floatpred_encode(tile, axis=-2)
        return bytes(_ENCODERS[self.compression](self, tile))


def tile_format(
    compression: str,
    dtype: np.dtype[Any],
    samples: int,
    *,
    predictor: str = "auto",
    classes: bool = False,
    level: int | None = None,
    quality: int | None = None,
    max_error: float = 0.0,
) -> TileFormat:
    """
    The format of tiles, if there is one for such pixels.

    Parameters
    ----------
    classes
        Values are names, so that differences between neighbours mean nothing.

    Raises
    ------
    OptionError
        An option is unknown, or cannot go with the pixels or another option; says which can.
    """
    if compression not in CODES:
        raise OptionError(f"compression={compression!r} is not known{did_you_mean(compression, CODES)}")
    _refuse_pixels(compression, dtype, samples)
    lossy = compression in ("jpeg", "webp")
    _refuse_stray("quality", quality, lossy, "jpeg or webp")
    _refuse_stray("max_error", max_error or None, compression == "lerc", "lerc")
    _refuse_stray("level", level, compression in _LEVELS, "deflate or zstd")
    if quality is not None and not 1 <= quality <= 100:
        raise OptionError(f"quality={quality!r}: expected 1 to 100")
    if not (max_error >= 0 and np.isfinite(max_error)):
        raise OptionError(f"max_error={max_error!r}: expected a number that is not below 0")
    default, highest = _LEVELS.get(compression, (None, 0))
    if level is not None and not 1 <= level <= highest:
        raise OptionError(f"level={level!r}: {compression} has levels 1 to {highest}")
    return TileFormat(
        compression,
        dtype,
        samples,
        _predictor(predictor, compression, dtype, classes),
        default if level is None else level,
        QUALITY if quality is None else quality,
        max_error,
    )


def _refuse_stray(option: str, value: Any, fits: bool, where: str) -> None:
    if value is not None and not fits:
        raise OptionError(f"{option}={value!r} means something with compression {where} only; leave it out")


def _refuse_pixels(compression: str, dtype: np.dtype[Any], samples: int) -> None:
    able = {"jpeg": (1, 3), "webp": (3, 4)}.get(compression)
    if able is not None and (dtype != np.uint8 or samples not in able):
        raise OptionError(
            f"compression={compression!r} stores {able[0]} or {able[1]} channels of uint8, not {samples} of {dtype}; "
            f"use compression='zstd' or 'deflate'"
            + (f", or choose {able[0]} or {able[1]} with channels=" if dtype == np.uint8 else "")
            + (", or mask='alpha' if the last is alpha" if compression == "jpeg" and samples in (2, 4) else "")
        )
    if compression == "lerc" and (dtype.kind not in "iuf" or dtype.itemsize > 4) and dtype != np.float64:
        raise OptionError(f"compression='lerc' has no {dtype}; use compression='zstd' or 'deflate'")
    if compression == "lerc" and dtype == np.float16:
        raise OptionError("compression='lerc' has no float16; use compression='zstd' or 'deflate'")


def _predictor(name: str, compression: str, dtype: np.dtype[Any], classes: bool) -> int:
    packs = compression in ("lzw", "deflate", "zstd")
    fitting = "horizontal" if dtype.kind in "iu" else "float" if dtype.kind == "f" else "none"
    if name == "auto":
        # libtiff before 4.4 takes no differences of 64-bit integers.
        return PREDICTORS[fitting] if packs and not classes and (dtype.kind == "f" or dtype.itemsize < 8) else 1
    if name not in PREDICTORS:
        raise OptionError(f"predictor={name!r} is not known{did_you_mean(name, ('auto', *PREDICTORS))}")
    if name != "none" and (not packs or name != fitting):
        where = dtype if packs else f"compression={compression!r}"
        raise OptionError(
            f"predictor={name!r} does not go with {where}; use predictor={fitting if packs else 'none'!r} or 'auto'"
        )
    return PREDICTORS[name]


def _differences(tile: Pixels) -> Pixels:
    rows = tile.reshape(tile.shape[0], -1)
    out = np.empty_like(rows)
    samples = tile.shape[-1]
    out[:, :samples] = rows[:, :samples]
    np.subtract(rows[:, samples:], rows[:, :-samples], out=out[:, samples:])
    return out


def _codecs() -> Any:
    """The package imagecodecs, whose types say less than it takes."""
    import imagecodecs

    return imagecodecs


def _jpeg(form: TileFormat, tile: Pixels) -> Any:
    imagecodecs = _codecs()
    if form.samples == 1:
        return imagecodecs.jpeg8_encode(tile[..., 0], level=form.quality, optimize=True)
    return imagecodecs.jpeg8_encode(
        tile, level=form.quality, colorspace="RGB", outcolorspace="YCBCR", subsampling="420", optimize=True
    )


def _lerc(form: TileFormat, tile: Pixels) -> Any:
    encode = partial(_codecs().lerc_encode, level=form.max_error, version=4)
    if form.samples == 1:
        return encode(tile[..., 0], planar=False)
    if form.dtype.kind == "f":
        missing = np.isnan(tile)
        if (missing != missing[..., :1]).any():  # a mask per sample, which libtiff takes where samples lie apart
            planes, mask = (np.ascontiguousarray(np.moveaxis(a, -1, 0)) for a in (tile, ~missing))
            planes[~mask] = 0
            return encode(planes, masks=mask, planar=True)
    return encode(tile, planar=False)


def _general(name: str) -> Callable[[TileFormat, Pixels], Any]:
    def encode(form: TileFormat, tile: Pixels) -> Any:
        # uint8, since some codecs take no other buffers
        options = {} if form.level is None else {"level": form.level}
        return getattr(_codecs(), f"{name}_encode")(tile.reshape(-1).view(np.uint8), **options)

    return encode


def _webp(form: TileFormat, tile: Pixels) -> Any:
    return _codecs().webp_encode(tile, level=form.quality, lossless=form.quality == 100)


_ENCODERS: dict[str, Callable[[TileFormat, Pixels], Any]] = {
    "none": lambda form, tile: tile.tobytes(),
    "lzw": _general("lzw"),
    "deflate": _general("deflate"),
    "zstd": _general("zstd"),
    "jpeg": _jpeg,
    "webp": _webp,
    "lerc": _lerc,
}
