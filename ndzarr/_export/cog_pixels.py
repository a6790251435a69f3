"""
The pixels of a cloud optimized GeoTIFF, and the format of its tiles.

`CogContent` chooses one frame, one plane and some channels of a pyramid, and decides which become colour, alpha and the
mask. It reads blocks of a level with the samples of a pixel side by side, as tiles hold them. `TileFormat` encodes a
tile.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np

from ndzarr._indexing.plan import plan_reads
from ndzarr._indexing.selection import select
from ndzarr._indexing.windows import level_count
from ndzarr._pyramid.levels import Level
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._store.read import execute
from ndzarr._store.validity import ALPHA, Nodata, Validity, as_pixel, nodata_of
from ndzarr._validation import check_choice
from ndzarr.errors import OptionError

_RGB = ({"r", "red"}, {"g", "green"}, {"b", "blue"})
_MEANING = {"associated": 1, "unassociated": 2}
Masking: TypeAlias = Literal["own", "data", "alpha", "pyramid"]


@dataclass(frozen=True, slots=True)
class CogContent:
    """The part of a pyramid that is exported."""

    pyramid: Pyramid
    levels: tuple[Level, ...]
    """Those that have this plane, native first."""
    sizes: tuple[tuple[int, int], ...]
    """(height, width) of the image and its overviews."""
    channels: tuple[int, ...]
    """Positions along c of the channels that become samples; empty where the pyramid has no axis c."""
    leading: tuple[tuple[str, slice], ...]
    """The frame along t and the plane along z."""
    nodata: Nodata
    """That of the samples."""
    masking: Masking | None = None
    """Origin of the mask: the pyramid's own, the same where pixels are neither nodata nor NaN, the channel `alpha`, or
    the pyramid `mask`."""
    mask: Pyramid | None = None
    """Nonzero where pixels are real."""
    alpha: int | None = None
    """Position along c of the channel that becomes the mask."""
    made: tuple[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None], ...] = ()
    """Samples (y, sample, x) and mask (y, x) of the overviews from `first_made` on, as far as they are made."""

    @property
    def alpha_sample(self) -> int | None:
        """Number of the sample that is alpha, if there is one."""
        alpha = self.pyramid.validity.alpha
        return self.channels.index(alpha) if alpha in self.channels else None

    @property
    def classes(self) -> bool:
        """True if values are not averaged."""
        return self.pyramid.kind == "labels" or self.pyramid.dtype.kind in "bc"

    @property
    def first_made(self) -> int | None:
        """
        Number of the first overview that is not a level; None if all are.

        Levels differ from GDAL's overviews if alpha counts, or a mask that they do not know, and where sizes are odd.
        """
        foreign = self.alpha_sample is not None or self.masking in ("alpha", "pyramid")
        if foreign and not self.classes and len(self.sizes) > 1:
            return 1
        for k in range(1, len(self.sizes)):
            if k >= len(self.levels) or any(
                n not in (1, 2 * m) for n, m in zip(*self.sizes[k - 1 : k + 1], strict=True)
            ):
                return k
        return None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples; bool becomes uint8, 0 and 1."""
        dtype = self.pyramid.dtype
        return np.dtype(np.uint8) if dtype.kind == "b" else dtype

    @property
    def samples(self) -> int:
        """Number of samples per pixel."""
        return max(1, len(self.channels))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the samples; empty where they have none."""
        return tuple(self.pyramid.channels[i] for i in self.channels)

    @property
    def colour(self) -> bool:
        """True if the first three samples are red, green and blue, of a type that viewers show as colour."""
        names = [name.lower() for name in self.names[:3]]
        return self.dtype in (np.uint8, np.uint16) and len(names) == 3 and all(map(set.__contains__, _RGB, names))

    @property
    def extras(self) -> tuple[int, ...]:
        """Meaning of the samples beyond colour (tag 338): 0 unknown, 1 associated, 2 unassociated alpha."""
        alpha = _MEANING.get(self.pyramid.attrs.get("ndzarr", {}).get("source", {}).get("alpha", ""), 2)
        return tuple(alpha if k == self.alpha_sample else 0 for k in range(3 if self.colour else 1, self.samples))

    @property
    def colour_map(self) -> np.ndarray[Any, Any] | None:
        """Colours of the indices of a palette (tag 320), shape (3, index) of uint16; None if pixels are not indices."""
        palette = self.pyramid.attrs.get("ndzarr", {}).get("source", {}).get("palette")
        if palette is None or (self.names != ("index",) and len(self.pyramid.channels) != 1):
            return None
        if self.dtype not in (np.uint8, np.uint16) or self.samples != 1:
            return None
        colours = np.zeros((3, 1 << (8 * self.dtype.itemsize)), np.uint16)
        stated = np.array(palette, np.uint16)[: colours.shape[1], :3]
        colours[:, : len(stated)] = stated.T * 257  # from 0..255 to 0..65535
        return colours

    @property
    def described(self) -> bool:
        """True if the names say more than the photometric interpretation does."""
        numbered = tuple(f"c{i}" for i in range(self.samples))
        if self.names in ((), ("gray",), ("index",), ("gray", ALPHA), numbered):
            return False
        return not (self.colour and self.names in (("r", "g", "b"), ("r", "g", "b", ALPHA)))

    def size(self, level: int) -> tuple[int, int]:
        """Return (height, width) of a level."""
        return self.sizes[level]

    def read(self, level: int, y: slice, x: slice) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
        """Read a block of a level: pixels (y, x, sample), and where they are real (y, x); None without a mask."""
        planes, valid = self.planes(level, y, x)
        return _interleaved(planes), valid

    def planes(self, level: int, y: slice, x: slice) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
        """Return the same with axes (sample, y, x)."""
        first = self.first_made
        if first is not None and level >= first:
            pixels, mask = self.made[level - first]
            return pixels[y, :, x].transpose(1, 0, 2), None if mask is None else np.asarray(mask[y, x])
        return self.level_planes(level, y, x)

    def level_planes(self, level: int, y: slice, x: slice) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
        """Return the pixels of a level of the pyramid, as `planes` does."""
        window: dict[str, Any] = {**dict(self.leading), "y": y, "x": x}
        if self.channels:
            wanted = self.channels if self.alpha is None else (*self.channels, self.alpha)
            start = wanted[0]
            run = wanted == tuple(range(start, start + len(wanted)))
            window["c"] = slice(start, start + len(wanted)) if run else list(wanted)
        planes = self.pyramid.read(level, **window)
        planes = planes.reshape(-1, *planes.shape[-2:])  # (channel, y, x)
        valid = self._own_mask(level, y, x) if self.masking is not None else None
        if self.masking == "alpha":
            planes, shown = planes[:-1], planes[-1] > 0
            valid = np.asarray(shown if valid is None else shown & valid)
        elif self.masking == "data":
            known = self._holds_data(planes)
            valid = np.asarray(known if valid is None else known & valid)
        elif self.mask is not None:
            chosen = {d: slice(0, 1) for d in self.mask.dims[:-2]}
            valid = np.asarray(self.mask.read(level, y=y, x=x, **chosen).reshape(planes.shape[-2:]) != 0)
        return planes.view(self.dtype) if planes.dtype.kind == "b" else planes, valid

    def _holds_data(self, planes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return True where some sample but alpha is neither nodata nor NaN, shape (y, x)."""
        colours = [k for k in range(len(planes)) if k != self.alpha_sample]
        marker = Validity(nodata=nodata_of(self.nodata, colours)).marker(planes.dtype, range(len(colours)))
        shown = planes if len(colours) == len(planes) else planes[colours]
        if marker is not None:
            return np.asarray(marker.is_not(shown).any(axis=0))
        return np.asarray((~np.isnan(shown) if shown.dtype.kind in "fc" else np.ones(shown.shape, bool)).any(axis=0))

    def _own_mask(self, level: int, y: slice, x: slice) -> np.ndarray[Any, Any] | None:
        """Return the mask that the pyramid has, shape (y, x); None if it has none."""
        mask = self.pyramid.levels[level].mask
        if mask is None:
            return None
        leading = dict(self.leading)
        dims = [d for d in self.pyramid.dims if d != "c"]
        selection = select(dims, mask.shape, {d: leading[d] for d in dims if d in leading} | {"y": y, "x": x})
        [found] = execute(plan_reads([(mask, selection)]), threads=1)
        return np.asarray(found.reshape(found.shape[-2:]) != 0)


def _interleaved(planes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return (sample, y, x) as contiguous (y, x, sample)."""
    if len(planes) == 1:
        return np.ascontiguousarray(planes[0])[..., None]
    if len(planes) <= 4 and planes.dtype.itemsize <= 4 and planes.dtype.str[1:] not in ("u4", "f2"):
        import cv2  # ten times as fast as numpy for few samples

        return np.asarray(cv2.merge(tuple(planes)))
    return np.ascontiguousarray(planes.transpose(1, 2, 0))


def choose_content(
    pyramid: Pyramid,
    *,
    overviews: bool = True,
    channels: Sequence[str] | None = None,
    t: int | None = None,
    z: int | None = None,
    nodata: float | None = None,
    mask: bool | str | Pyramid = "auto",
) -> CogContent:
    """Choose what is exported; raise `OptionError` if the options do not settle it, or do not fit the pyramid."""
    path = pyramid.path
    if pyramid.dims[-2:] != ("y", "x") or 0 in pyramid.shape:
        axes = " ".join(pyramid.dims)
        raise OptionError(f"{path}: has axes {axes} of {pyramid.shape}; an image has y x last", path=path)
    leading = tuple(_one(pyramid, d, {"t": t, "z": z}.get(d)) for d in pyramid.dims[:-2] if d != "c")
    for d, i in (("t", t), ("z", z)):
        if i is not None and d not in pyramid.dims:
            raise OptionError(f"{d}={i!r}: {path} has no axis {d}", path=path, key=d, hint="Leave it out")
    if as_pixel(nodata, pyramid.dtype) is None and nodata is not None:
        raise OptionError(f"nodata={nodata!r} is not a value of {pyramid.dtype}; choose one that is", key="nodata")
    chosen = tuple(pyramid.channel_indices(channels)) if channels is not None else tuple(range(len(pyramid.channels)))
    if channels is not None and not chosen:
        raise OptionError("channels=(): a file needs at least one channel", key="channels")
    levels = pyramid.planar_levels if overviews else pyramid.planar_levels[:1]
    height, width = pyramid.shape[-2:]
    number = max(len(levels), level_count(height, width) if len(levels) < len(pyramid.levels) else 0)
    sizes = tuple((-(-height // 2**k), -(-width // 2**k)) for k in range(number if overviews else 1))
    colours = [i for i in chosen if i != pyramid.validity.alpha]
    own = nodata_of(pyramid.nodata, colours or chosen) if nodata is None else nodata
    masking, source, alpha = _mask(pyramid, mask, chosen, own, len(levels))
    chosen = tuple(i for i in chosen if i != alpha)
    if isinstance(own, tuple):  # alpha has none
        own = nodata_of(pyramid.nodata, chosen)
    return CogContent(pyramid, levels, sizes, chosen, leading, own, masking, source, alpha)


def _one(pyramid: Pyramid, dim: str, wanted: int | None) -> tuple[str, slice]:
    """Return (axis, slice of one index), which must be given unless there is but one."""
    n, path = pyramid.sizes[dim], pyramid.path
    if wanted is None and n != 1:
        hint = f"Choose one with {dim}=0 to {dim}={n - 1}" if dim in "tz" else "Transcode a part of it"
        raise OptionError(f"{path}: has {n} planes along {dim}, a COG holds one", path=path, key=dim, hint=hint)
    i = wanted or 0
    if not 0 <= i < n:
        raise OptionError(f"{dim}={wanted!r}: {path} has {dim}=0 to {dim}={n - 1}", path=path, key=dim)
    return dim, slice(i, i + 1)


def _mask(
    pyramid: Pyramid, mask: bool | str | Pyramid, chosen: Sequence[int], nodata: Nodata, levels: int
) -> tuple[Masking | None, Pyramid | None, int | None]:
    """Return (masking, mask, alpha) of a `CogContent`."""
    if mask is False or mask is None:
        return None, None, None
    if isinstance(mask, str) and mask == "auto":
        if isinstance(nodata, tuple) and None not in nodata:  # a file has one value at most
            return "data", None, None
        return "own" if pyramid.validity.masked else None, None, None
    path = pyramid.path
    if isinstance(mask, Pyramid):
        want, have = pyramid.planar_shapes[:levels], mask.planar_shapes[:levels]
        if want != have or any(mask.sizes[d] != 1 for d in mask.dims[:-2]):
            found = f"{mask.path} has levels of {have} with axes {' '.join(mask.dims)}"
            hint = "Transcode one channel of the same size with kind='labels'"
            raise OptionError(f"mask: {found}, the image {want}", path=mask.path, key="mask", hint=hint)
        return "pyramid", mask, None
    if mask is True:
        if nodata is None and pyramid.dtype.kind not in "fc" and not pyramid.validity.masked:
            message = f"mask=True: {path} has no mask, and states no value of missing pixels"
            raise OptionError(message, path=path, key="mask", hint="Give nodata=, mask='alpha' or a pyramid")
        return "data", None, None
    if mask != "alpha":
        expected = "expected 'auto', True, False, 'alpha' or a pyramid that is nonzero where pixels are real"
        raise OptionError(f"mask={mask!r}: {expected}", key="mask")
    if ALPHA not in pyramid.channels or len(chosen) < 2:
        others = ", ".join(pyramid.channels)
        raise OptionError(f"mask='alpha': there is no channel {ALPHA!r} beside others in {others}", key="mask")
    return "alpha", None, pyramid.channels.index(ALPHA)


# The format of tiles

Pixels: TypeAlias = np.ndarray[Any, Any]

CODES = {"none": 1, "lzw": 5, "jpeg": 7, "deflate": 8, "lerc": 34887, "zstd": 50000, "webp": 50001}
"""Names of compressions to values of tag 259."""
PREDICTORS = {"none": 1, "horizontal": 2, "float": 3}
"""Names of predictors to values of tag 317."""
_LERC = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
"""Types that lerc takes."""
_LEVELS = {"deflate": (6, 12), "zstd": (9, 22)}
"""(default, highest) level; the defaults are GDAL's."""
QUALITY = 75
"""Default quality of jpeg and webp, as in GDAL."""


@dataclass(frozen=True, slots=True)
class TileFormat:
    """The compression of tiles, one of `CODES`, and its options."""

    compression: str
    dtype: np.dtype[Any]
    samples: int
    """Number of samples per pixel."""
    predictor: int = 1
    """Value of tag 317."""
    level: int | None = None
    quality: int = QUALITY
    """1 to 100; webp is lossless at 100."""
    max_error: float = 0.0

    @property
    def jpeg_tables(self) -> bytes | None:
        """Tables that the tiles of a JPEG share (tag 347); None for other compressions."""
        if self.compression != "jpeg":
            return None
        return _SOI + _jpeg_parts(_whole_jpeg(self, np.zeros((16, 16, self.samples), np.uint8)))[0] + _EOI

    def bound(self, pixels: int) -> int:
        """Return the largest number of bytes that a tile of so many pixels takes."""
        raw = pixels * self.samples * self.dtype.itemsize
        # A code of LZW has 12 bits at most and stands for 8 or more; the other lossless codecs fall back to copies.
        grown = {"lzw": raw * 3 // 2, "jpeg": raw * 2, "webp": raw * 2}.get(self.compression, raw + raw // 64)
        return grown + 1024

    def encode(self, tile: Pixels) -> bytes:
        """Encode a tile: axes (y, x, sample), contiguous, of `dtype`; it is not written to."""
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
    """Return the format of tiles. Where values are `classes`, differences between neighbours mean nothing."""
    check_choice("compression", compression, CODES)
    _refuse_pixels(compression, dtype, samples)
    lossy = compression in ("jpeg", "webp")
    _refuse_stray("quality", quality, lossy, "jpeg or webp")
    _refuse_stray("max_error", max_error or None, compression == "lerc", "lerc")
    _refuse_stray("level", level, compression in _LEVELS, "deflate or zstd")
    if quality is not None and not 1 <= quality <= 100:
        raise OptionError(f"quality={quality!r}: expected 1 to 100", key="quality")
    if not (max_error >= 0 and np.isfinite(max_error)):
        raise OptionError(f"max_error={max_error!r}: expected a number of at least 0", key="max_error")
    default, highest = _LEVELS.get(compression, (None, 0))
    if level is not None and not 1 <= level <= highest:
        raise OptionError(f"level={level!r}: {compression} has levels 1 to {highest}", key="level")
    number = _predictor(predictor, compression, dtype, classes)
    level, quality = default if level is None else level, QUALITY if quality is None else quality
    return TileFormat(compression, dtype, samples, number, level, quality, max_error)


def _refuse_stray(option: str, value: Any, fits: bool, where: str) -> None:
    if value is not None and not fits:
        raise OptionError(f"{option}={value!r} goes with compression {where} only", key=option, hint="Leave it out")


def _refuse_pixels(compression: str, dtype: np.dtype[Any], samples: int) -> None:
    able = {"jpeg": (1, 3), "webp": (3, 4)}.get(compression)
    hint = "Use compression='zstd' or 'deflate'"
    if able is not None and (dtype != np.uint8 or samples not in able):
        stored = f"{able[0]} or {able[1]} channels of uint8"
        hint += f", or choose {able[0]} or {able[1]} with channels=" if dtype == np.uint8 else ""
        hint += ", or mask='alpha' if the last is alpha" if compression == "jpeg" and samples in (2, 4) else ""
        message = f"compression={compression!r} stores {stored}, not {samples} of {dtype}"
        raise OptionError(message, key="compression", hint=hint)
    if compression == "lerc" and dtype.name not in _LERC:
        raise OptionError(f"compression='lerc' has no {dtype}", key="compression", hint=hint)


def _predictor(name: str, compression: str, dtype: np.dtype[Any], classes: bool) -> int:
    packs = compression in ("lzw", "deflate", "zstd")
    fitting = "horizontal" if dtype.kind in "iu" else "float" if dtype.kind == "f" else "none"
    if name == "auto":
        # libtiff before 4.4 takes no differences of 64-bit integers.
        return PREDICTORS[fitting] if packs and not classes and (dtype.kind == "f" or dtype.itemsize < 8) else 1
    check_choice("predictor", name, ("auto", *PREDICTORS))
    if name != "none" and (not packs or name != fitting):
        where = dtype if packs else f"compression={compression!r}"
        hint = f"Use predictor={fitting if packs else 'none'!r} or 'auto'"
        raise OptionError(f"predictor={name!r} does not go with {where}", key="predictor", hint=hint)
    return PREDICTORS[name]


def _differences(tile: Pixels) -> Pixels:
    rows = tile.reshape(tile.shape[0], -1)
    out = np.empty_like(rows)
    samples = tile.shape[-1]
    out[:, :samples] = rows[:, :samples]
    np.subtract(rows[:, samples:], rows[:, :-samples], out=out[:, samples:])
    return out


def _codecs() -> Any:
    """Return the package imagecodecs untyped: it takes more than its types say."""
    import imagecodecs

    return imagecodecs


def _whole_jpeg(form: TileFormat, tile: Pixels) -> bytes:
    imagecodecs = _codecs()
    if form.samples == 1:
        return bytes(imagecodecs.jpeg8_encode(tile[..., 0], level=form.quality, optimize=True))
    made = imagecodecs.jpeg8_encode(
        tile, level=form.quality, colorspace="RGB", outcolorspace="YCBCR", subsampling="420", optimize=True
    )
    return bytes(made)


_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_APP0, _DQT, _SOS = 0xE0, 0xDB, 0xDA
"""Markers of JPEG (ITU T.81, table B.1): the header of JFIF, quantization tables, start of scan."""


def _jpeg_parts(jpeg: bytes) -> tuple[bytes, bytes]:
    """Return (quantization tables, everything else but the header of JFIF) of a JPEG, without its first marker."""
    tables, rest, at = b"", b"", 2
    while jpeg[at + 1] != _SOS:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] == _DQT:
            tables += jpeg[at:end]
        elif jpeg[at + 1] != _APP0:
            rest += jpeg[at:end]
        at = end
    return tables, rest + jpeg[at:]


def _jpeg(form: TileFormat, tile: Pixels) -> bytes:
    """Encode a tile without the tables that all tiles share, as libtiff does; Huffman tables are its own."""
    return _SOI + _jpeg_parts(_whole_jpeg(form, tile))[1]


def _lzw(form: TileFormat, tile: Pixels) -> bytes:
    """
    Encode with libtiff, which clears its table where TIFF 6.0 says (page 60); imagecodecs does so later.

    Readers whose table has no more room fail then, such as geotiff.js.
    """
    from PIL import Image

    raw, file = tile.reshape(-1).view(np.uint8), io.BytesIO()
    Image.fromarray(raw[None]).save(file, "TIFF", compression="tiff_lzw")  # one row is one strip
    made = file.getvalue()
    [at] = struct.unpack_from("<I", made, 4)
    [number] = struct.unpack_from("<H", made, at)
    values = {tag: value for tag, _, _, value in struct.iter_unpack("<HHII", made[at + 2 : at + 2 + 12 * number])}
    return made[values[_STRIP_OFFSET] :][: values[_STRIP_SIZE]]


_STRIP_OFFSET, _STRIP_SIZE = 273, 279
"""Tags whose values stand in their entries, since there is one strip."""


def _lerc(form: TileFormat, tile: Pixels) -> Any:
    encode = partial(_codecs().lerc_encode, level=form.max_error, version=4)
    if form.samples == 1:
        return encode(tile[..., 0], planar=False)
    if form.dtype.kind == "f":
        missing = np.isnan(tile)
        if (missing != missing[..., :1]).any():  # a mask per sample, which libtiff takes for separate planes
            planes, mask = (np.ascontiguousarray(np.moveaxis(a, -1, 0)) for a in (tile, ~missing))
            planes[~mask] = 0
            return encode(planes, masks=mask, planar=True)
    return encode(tile, planar=False)


def _general(name: str, form: TileFormat, tile: Pixels) -> Any:
    """Encode with a codec of bytes of any kind."""
    options = {} if form.level is None else {"level": form.level}
    return getattr(_codecs(), f"{name}_encode")(tile.reshape(-1).view(np.uint8), **options)  # some take uint8 only


_ENCODERS: dict[str, Callable[[TileFormat, Pixels], Any]] = {
    "none": lambda form, tile: tile.tobytes(),
    "lzw": _lzw,
    "deflate": partial(_general, "deflate"),
    "zstd": partial(_general, "zstd"),
    "jpeg": _jpeg,
    "webp": lambda form, tile: _codecs().webp_encode(tile, level=form.quality, lossless=form.quality == 100),
    "lerc": _lerc,
}
