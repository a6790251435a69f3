"""A pyramid as a slide of OpenSlide: `read_region`, `level_dimensions`, `level_downsamples`, `properties`."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ndzarr._geo.pixel_size import LENGTH
from ndzarr._validation import as_integer, as_tuple
from ndzarr.adapters.planes import Reader
from ndzarr.errors import OptionError, WindowError

COLOURS = (1, 3, 4)
"""Numbers of channels that have colours: gray, r g b, and r g b with alpha."""


class Slide(Reader):
    """
    A pyramid that reads as an `openslide.OpenSlide`, for MONAI, deep zoom generators and tile loaders.

    Regions are RGBA images of Pillow; pixels outside the slide are transparent, as OpenSlide's are.

    Parameters
    ----------
    source
        A pyramid of uint8 with one, three or four channels, or the path of one or of a file that `ndzarr.open` opens.
    **place
        The frame or plane of a pyramid that has several, such as `t=0` or `z=3`.

    Raises
    ------
    OptionError
        The pyramid has other pixels, or several planes.

    Examples
    --------
    >>> import ndzarr, ndzarr.adapters, numpy as np, tempfile
    >>> pyr = ndzarr.transcode(np.zeros((600, 800, 3), "u1"), tempfile.mkdtemp() + "/a.zarr")
    >>> slide = ndzarr.adapters.Slide(pyr)
    >>> slide.level_dimensions[:2], slide.read_region((40, 20), 1, (64, 32)).size
    (((800, 600), (400, 300)), (64, 32))
    """

    def __init__(self, source: Any, **place: int) -> None:
        super().__init__(source, place)
        count = self.pyramid.sizes.get("c", 1)
        if self.pyramid.dtype != np.uint8 or count not in COLOURS:
            message = f"{self.pyramid.path}: has {count} channels of {self.pyramid.dtype}, of which no colours are made"
            raise OptionError(message, path=self.pyramid.path, hint="Use pyramids of uint8 with 1, 3 or 4 channels")
        self._filename = self.pyramid.path  # MONAI asks for it
        self.level_dimensions = tuple((width, height) for height, width in self.pyramid.planar_shapes)
        self.level_downsamples = tuple((y + x) / 2 for y, x in self.pyramid.planar_factors)
        self.associated_images: dict[str, Any] = {}
        self.color_profile = None

    def __repr__(self) -> str:
        return f"<ndzarr.adapters.Slide: {self.pyramid.path}, {self.level_count} levels>"

    @property
    def dimensions(self) -> tuple[int, int]:
        """(width, height) of the native level."""
        return self.level_dimensions[0]

    @property
    def level_count(self) -> int:
        """Number of levels."""
        return len(self.level_dimensions)

    @property
    def properties(self) -> dict[str, str]:
        """What OpenSlide calls the vendor, the size of pixels in µm, the objective, and the sizes of levels."""
        out = {"openslide.vendor": "ndzarr", "openslide.level-count": str(self.level_count)}
        size = self.pyramid.pixel_size
        for axis in "xy":
            length = None if size is None else getattr(size, axis)
            if length is not None and length.kind == LENGTH:
                out[f"openslide.mpp-{axis}"] = repr(float(length.exact * 10**6))
        if size is not None and size.magnification is not None:
            out["openslide.objective-power"] = f"{size.magnification:g}"
        for k, ((width, height), downsample) in enumerate(
            zip(self.level_dimensions, self.level_downsamples, strict=True)
        ):
            out |= {f"openslide.level[{k}].width": str(width), f"openslide.level[{k}].height": str(height)}
            out[f"openslide.level[{k}].downsample"] = repr(downsample)
        return out

    def get_best_level_for_downsample(self, downsample: float) -> int:
        """Return the coarsest level that is at least as fine; the native one if none is."""
        fine = [k for k, own in enumerate(self.level_downsamples) if own <= downsample + 1e-9]
        return max(fine, default=0)

    def read_region(self, location: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        """
        Read a region of a level.

        Parameters
        ----------
        location
            (x, y) of its first corner, in native pixels; may lie outside.
        level
            Number of the level.
        size
            (width, height) in pixels of the level.

        Raises
        ------
        WindowError
            There is no such level, or the corner or the size are not two whole numbers.
        """
        x, y = _pair("location", location)
        width, height = _pair("size", size)
        if not 0 <= level < self.level_count:
            raise WindowError(f"level={level!r}: there are {self.level_count}", path=self.pyramid.path, key="level")
        if width < 1 or height < 1:
            raise WindowError(f"size={size!r}: expected a width and a height of at least 1", key="size")
        (down, across), (rows, columns) = self.pyramid.planar_factors[level], self.pyramid.planar_shapes[level]
        top, left = int(np.floor(y / down)), int(np.floor(x / across))
        y0, y1, x0, x1 = max(top, 0), min(top + height, rows), max(left, 0), min(left + width, columns)
        out = np.zeros((height, width, 4), np.uint8)
        if y0 < y1 and x0 < x1:
            found = self.pyramid.read(level=level, y=slice(y0, y1), x=slice(x0, x1), **self._place)
            pixels = found.reshape(-1, y1 - y0, x1 - x0)  # (c, y, x)
            part = out[y0 - top : y1 - top, x0 - left : x1 - left]
            part[..., :3] = np.moveaxis(pixels[:3], 0, -1)
            part[..., 3] = pixels[3] if len(pixels) == 4 else 255
        return Image.fromarray(out, "RGBA")

    def get_thumbnail(self, size: tuple[int, int]) -> Image.Image:
        """Return the whole slide as an RGB image that fits into (width, height)."""
        downsample = max(own / wanted for own, wanted in zip(self.dimensions, size, strict=True))
        level = self.get_best_level_for_downsample(downsample)
        whole = self.read_region((0, 0), level, self.level_dimensions[level])
        page = Image.new("RGB", whole.size, "white")
        page.paste(whole, None, whole)
        page.thumbnail(size, Image.Resampling.LANCZOS)
        return page


def _pair(name: str, value: Any) -> tuple[int, int]:
    numbers = [as_integer(n) for n in as_tuple(value) or ()]
    if len(numbers) != 2 or None in numbers:
        raise WindowError(f"{name}={value!r}: expected two whole numbers", key=name)
    return numbers[0], numbers[1]  # type: ignore[return-value]
