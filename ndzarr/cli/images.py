"""
Writing an array with named axes as an image file.

NPY holds the array. TIFF has one page per frame and plane, colour interleaved, other channels as separate planes of a
page (or as pages, where there are frames), axes and channel names in its metadata. PNG and JPEG hold one frame of one,
three or four channels; an array that does not fit is an error, never converted.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np

from ndzarr.errors import OptionError, did_you_mean

Pixels = np.ndarray[Any, Any]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy")
_RGB = (("r", "g", "b"), ("red", "green", "blue"))
_ALPHA = ("a", "alpha")
_GDAL_NODATA = 42113
_BIG = 0xF000_0000
"""Bytes of pixels beyond which a TIFF needs 64-bit offsets."""
_QUALITY = 95


def check_suffix(path: Path) -> None:
    """
    Raise `OptionError` for a file that `save` could not write.

    >>> check_suffix(Path("crop.pnq"))
    Traceback (most recent call last):
    ndzarr.errors.OptionError: crop.pnq: its suffix does not say which format; did you mean '.png'? Known: ...
    """
    if path.suffix.lower() not in SUFFIXES:
        hint = did_you_mean(path.suffix.lower(), SUFFIXES)
        raise OptionError(f"{path.name}: its suffix does not say which format{hint}", path=str(path))


def save(
    path: Path, name: str, image: Pixels, dims: Sequence[str], channels: Sequence[str], nodata: float | None
) -> None:
    """
    Write an image whose axes `dims` are in the order t c z y x; raise `OptionError` if the format cannot hold it.

    The suffix of `name`, the name of the file once it is complete, says the format.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix in (".npy", ".tif", ".tiff"):
        with _Through(io.FileIO(path, "w")) as file:
            if suffix == ".npy":
                np.save(file, image, allow_pickle=False)
            else:
                _save_tiff(file, name, image, dims, channels, nodata)
    else:
        path.write_bytes(_encoded(name, image, dims, channels, suffix == ".png"))


class _Through(io.BufferedWriter):
    """Hides its descriptor from numpy, whose own way to write files (`tofile`) does not report what went wrong."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation


def _encoded(name: str, image: Pixels, dims: Sequence[str], channels: Sequence[str], png: bool) -> bytes:
    import imagecodecs

    types = ("uint8", "uint16") if png else ("uint8",)
    form, stem = "PNG" if png else "JPEG", PurePath(name).stem
    other = f"{stem}.tif or {stem}.npy instead"
    if image.dtype.name not in types:
        message = f"{name}: {form} holds {' and '.join(types)}, not {image.dtype}"
        raise OptionError(message, path=name, hint=f"Write {other}")
    for d, n in zip(dims, image.shape, strict=True):
        if d in ("t", "z") and n > 1:
            message = f"{name}: {form} holds one image, not {n} along {d}"
            raise OptionError(message, path=name, key=d, hint=f"Choose one with --{d}, or write {other}")
    pixels = np.moveaxis(image.reshape(-1, *image.shape[-2:]), 0, -1)
    n = pixels.shape[-1]
    if n not in (1, 3) and not (png and n in (2, 4) and channels[-1].lower() in _ALPHA):
        raise OptionError(
            f"{name}: {form} holds grey or colour, not the {n} channels {' '.join(channels)}",
            path=name,
            key="c",
            hint=f"Choose one or three with --c, or write {other}",
        )
    pixels = np.ascontiguousarray(pixels[..., 0] if n == 1 else pixels)
    encoded = imagecodecs.png_encode(pixels) if png else imagecodecs.jpeg8_encode(pixels, level=_QUALITY)
    return bytes(encoded)


def _save_tiff(
    file: BinaryIO, name: str, image: Pixels, dims: Sequence[str], channels: Sequence[str], nodata: float | None
) -> None:
    import tifffile

    names = tuple(name.lower() for name in channels)
    options: dict[str, Any] = {"photometric": "minisblack"}
    axes = "".join(dims).upper()
    if "c" in dims:
        c = list(dims).index("c")
        if names[:3] in _RGB and (len(names) == 3 or (len(names) == 4 and names[3] in _ALPHA)):
            image, axes = np.moveaxis(image, c, -1), axes.replace("C", "") + "S"
            options = {"photometric": "rgb", "extrasamples": ["unassalpha"] if len(names) == 4 else None}
        elif len(names) == 1:
            image, axes = image.take(0, axis=c), axes.replace("C", "")
        elif len(axes) == 3:
            options |= {"planarconfig": "separate", "extrasamples": ["unspecified"] * (len(names) - 1)}
    if nodata is not None:
        text = "nan" if np.isnan(nodata) else f"{nodata:g}"
        options["extratags"] = [(_GDAL_NODATA, 2, len(text) + 1, text, True)]
    ome = name.lower().endswith((".ome.tif", ".ome.tiff"))
    known: dict[str, Any] = {"Channel": {"Name": list(channels)}} if ome else {"channels": list(channels)}
    tifffile.imwrite(
        file,
        np.ascontiguousarray(image),
        bigtiff=image.nbytes > _BIG,
        ome=ome,
        metadata={"axes": axes, **known},
        **options,
    )
