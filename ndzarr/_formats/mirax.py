"""
MIRAX slides (MRXS), through OpenSlide (https://openslide.org).

The slide is the first image of a file; the others are what OpenSlide calls associated images, such as label and macro.
Where nothing was scanned, pixels have the slide's background colour, which is white if it states none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ndzarr._formats.base import Facts, Pixels
from ndzarr._formats.colour import RGB
from ndzarr._formats.options import Options
from ndzarr._formats.readers import ImageReader, choose_image, reading
from ndzarr._geo.pixel_size import PixelSize, Statements


def open_file(path: str, options: Options) -> Slide:
    """Open an image of a slide."""
    import openslide

    with reading(path, "MIRAX"):
        slide = openslide.OpenSlide(path)
        properties, names = dict(slide.properties), ["slide", *sorted(slide.associated_images)]
        sizes = [(height, width) for width, height in slide.level_dimensions]
    chosen, about = choose_image(path, names, options)
    picture = None
    size, notes = PixelSize(), list(about.get("notes", ()))
    if chosen:
        with reading(path, "MIRAX"):
            picture = np.asarray(slide.associated_images[names[chosen]])
        sizes = [picture.shape[:2]]
    else:
        said = Statements("OpenSlide", notes)
        y, x = (said.quantity(f"openslide.mpp-{d}", properties.get(f"openslide.mpp-{d}"), "um") for d in "yx")
        power = said.number("openslide.objective-power", properties.get("openslide.objective-power"))
        size = PixelSize(y=y, x=x, magnification=power, source="OpenSlide")
    facts = Facts(
        name=path,
        dims=("c", "y", "x"),
        shape=(3, *sizes[0]),
        dtype=np.dtype(np.uint8),
        channels=RGB,
        band=256,
        pixel_size=size,
        metadata={"format": "MIRAX", **about, **({"notes": notes} if notes else {})},
    )
    colour = bytes.fromhex(properties.get("openslide.background-color", "FFFFFF"))
    return Slide(facts, slide, sizes, np.frombuffer(colour, np.uint8), picture)


class Slide(ImageReader):
    """A slide, or a picture of it."""

    def __init__(
        self, facts: Facts, slide: Any, sizes: list[tuple[int, int]], background: Pixels, picture: Pixels | None
    ) -> None:
        super().__init__(facts)
        self._slide, self._background, self._picture = slide, background, picture
        self.sizes = tuple(sizes)

    def read_plane(self, level: int, at: Mapping[str, int], box: tuple[slice, slice, slice]) -> Pixels:
        c, y, x = box
        if self._picture is not None:
            rgba = self._picture[y, x]
        else:
            # OpenSlide takes the corner in pixels of level 0, whatever the level.
            factor = self._slide.level_downsamples[level]
            size = x.stop - x.start, y.stop - y.start
            with reading(self.name, "MIRAX"):
                rgba = np.asarray(
                    self._slide.read_region((round(x.start * factor), round(y.start * factor)), level, size)
                )
        alpha = rgba[..., 3:].astype(np.uint16)
        over = (rgba[..., :3] * alpha + self._background * (255 - alpha) + 127) // 255
        return np.moveaxis(over.astype(np.uint8), -1, 0)[c]

    def _release(self) -> None:
        self._slide.close()
