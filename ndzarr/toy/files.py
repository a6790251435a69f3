"""How are pictures written to files?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

NODATA = 0
"""In TIFFs that say so; pixels with data are at least 1."""

_ON_ITS_SIDE = 6
"""EXIF's orientation of a picture that has to be turned clockwise."""


def write(file: Path, image: np.ndarray[Any, Any], nodata: bool = False, on_its_side: bool = False) -> None:
    """
    Write an image file; the ending of its name says of which kind.

    Parameters
    ----------
    image
        Shape (y, x, band).
    nodata
        Let the file say that 0 means no data (.tif alone).
    on_its_side
        As phones do: stored turned, with a note (.jpg alone).
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".tif":
        _write_tiff(file, image, nodata)
        return
    from PIL import Image

    photo = Image.fromarray(image)
    if on_its_side:
        exif = Image.Exif()
        exif[274] = _ON_ITS_SIDE
        photo.transpose(Image.Transpose.ROTATE_90).save(file, quality=92, exif=exif)
    elif file.suffix == ".jpg":
        photo.save(file, quality=92)
    else:
        photo.save(file, compress_level=3)


def _write_tiff(file: Path, image: np.ndarray[Any, Any], nodata: bool) -> None:
    import tifffile

    rgb = image.shape[-1] == 3
    options: dict[str, Any] = {
        "tile": (256, 256), "compression": "zlib", "compressionargs": {"level": 3}, "predictor": True, "metadata": None,
        "photometric": "rgb" if rgb else "minisblack", "planarconfig": "contig",
        "extratags": [(42113, "s", 0, str(NODATA), True)] if nodata else [],  # GDAL_NODATA
    }  # fmt: skip
    tifffile.imwrite(file, image if image.shape[-1] > 1 else image[..., 0], **options)
