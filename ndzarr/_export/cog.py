"""
Export of pyramids as cloud optimized GeoTIFFs.

1. `cog_pixels` chooses the pixels of each level and the format of tiles, and refuses what does not fit.
2. `tiff_writer` makes the header, as TIFF or, where the tiles might not fit, as BigTIFF; then it encodes and appends
   the tiles. The levels of the pyramid are the overviews.
3. The file gets its name once it is complete.

The layout is GDAL's (https://gdal.org/drivers/raster/cog.html); GDAL itself is not needed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ndzarr._concurrency import available_cpus
from ndzarr._export.cog_pixels import choose_content, tile_format
from ndzarr._export.overviews import with_overviews
from ndzarr._export.tiff_writer import Image, Writing, header, names_tag, nodata_tag, write_tiff
from ndzarr._files import publishing_file, refuse_existing_file
from ndzarr._progress import progress_bar
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._remote.settings import Remote
from ndzarr._store.destinations import Dest, destination
from ndzarr._validation import check_count
from ndzarr.errors import OptionError


def export_cog(
    pyr: Pyramid | str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    compression: str = "deflate",
    predictor: str = "auto",
    blocksize: int = 512,
    overviews: bool = True,
    bigtiff: bool | str = "auto",
    nodata: float | None = None,
    mask: bool | str | Pyramid = "auto",
    channels: Sequence[str] | None = None,
    t: int | None = None,
    z: int | None = None,
    level: int | None = None,
    quality: int | None = None,
    max_error: float = 0.0,
    overwrite: bool = False,
    progress: bool = False,
    workers: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    remote: Remote | None = None,
) -> Path | str:
    """
    Write a pyramid as a cloud optimized GeoTIFF.

    Its levels become the overviews. If there is alpha, or a mask that the levels do not know, overviews are made as
    GDAL makes them: means of the pixels that are shown. Its georeference, if it has one, goes into the file.

    Parameters
    ----------
    pyr
        A pyramid, or the path of one.
    dest
        File to make, or its URL, such as 's3://bucket/a.tif'.
    compression
        Lossless: 'deflate', 'zstd', 'lzw', 'lerc', 'none'.  Lossy: 'jpeg' (uint8, 1 or 3 channels), 'webp' (uint8, 3 or
        4 channels; lossless at quality 100).
    predictor
        'horizontal' for integers, 'float' for floats, 'none', or 'auto': the one for the type, 'none' for labels.
    blocksize
        Height and width of tiles in pixels, a multiple of 16.
    overviews
        Write the coarser levels, too.
    bigtiff
        True, False, or 'auto': only if the tiles might not fit into the 4 GiB of a TIFF.
    nodata
        Value of pixels without data; the pyramid's own by default.  A file has one for all channels: if theirs differ,
        it has none.
    mask
        'auto' writes the pyramid's own mask, if it has one, as an internal mask; False writes none.  True leaves out
        pixels that are nodata or NaN in all channels, too, and so does 'auto' where channels have different nodata;
        'alpha' turns channel a into a mask; a pyramid of the same
        size is one where it is nonzero.
    channels
        Names of the channels to export, in order; all by default.
    t, z
        Index of the frame and of the plane, where there are several.
    level
        Compression level of deflate (1 to 12, default 6) or zstd (1 to 22, default 9).
    quality
        Quality of jpeg or webp, 1 to 100, default 75.
    max_error
        Largest error of a pixel with lerc; 0 is lossless.
    overwrite
        Replace `dest` if it exists, once the new file is complete.
    progress
        Show a progress bar.
    workers
        Number of threads that encode; the number of CPUs by default.
    storage_options, remote
        Credentials and settings for the URL `dest`; see `open`.

    Returns
    -------
    The absolute path of the file, or its URL.

    Raises
    ------
    OptionError
        An option cannot store these pixels; the message names one that can.
    ExistsError, MissingError, WriteError
        The file cannot be written; nothing is left of it.
    DamagedError
        The pyramid is damaged; nothing is left of the file.

    Examples
    --------
    >>> import ndzarr, numpy as np, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> pyr = ndzarr.transcode(np.zeros((3, 700, 900), "u1"), folder + "/a.zarr")
    >>> ndzarr.export_cog(pyr, folder + "/a.tif", compression="zstd").name
    'a.tif'
    """
    target = destination(dest, storage_options, remote)
    refuse(target, overwrite)
    if workers is not None:
        check_count("workers", workers)
    writing = prepare(
        pyr,
        compression=compression,
        predictor=predictor,
        blocksize=blocksize,
        overviews=overviews,
        nodata=nodata,
        mask=mask,
        channels=channels,
        t=t,
        z=z,
        level=level,
        quality=quality,
        max_error=max_error,
    )
    write_file(writing, target, bigtiff=bigtiff, overwrite=overwrite, progress=progress, workers=workers)
    return target if isinstance(target, Path) else target.url


def refuse(dest: Dest, overwrite: bool) -> None:
    """Raise `ExistsError` if something is there that must not be replaced."""
    if isinstance(dest, Path):
        refuse_existing_file(dest, overwrite)
    elif not overwrite:
        dest.refuse_object()


def prepare(
    pyr: Pyramid | str | os.PathLike[str],
    *,
    compression: str = "deflate",
    predictor: str = "auto",
    blocksize: int = 512,
    level: int | None = None,
    quality: int | None = None,
    max_error: float = 0.0,
    **choice: Any,
) -> Writing:
    """Return everything that the options of `export_cog` settle; raise `OptionError` if one does not fit the pixels."""
    if not isinstance(pyr, Pyramid):
        from ndzarr._library.open import open as open_any

        pyr = open_any(pyr)
    chosen = choose_content(pyr, **choice)
    form = tile_format(
        compression,
        chosen.dtype,
        chosen.samples,
        predictor=predictor,
        classes=pyr.kind == "labels" or pyr.dtype.kind == "b",
        level=level,
        quality=quality,
        max_error=max_error,
    )
    if blocksize % 16 or not 16 <= blocksize <= 1 << 14:
        expected = "expected a multiple of 16 between 16 and 16384, such as 512"
        raise OptionError(f"blocksize={blocksize!r}: {expected}", key="blocksize")
    return Writing(chosen, form, blocksize)


def write_file(
    writing: Writing,
    dest: Dest,
    *,
    bigtiff: bool | str = "auto",
    overwrite: bool = False,
    progress: bool = False,
    workers: int | None = None,
    check: Callable[[], object] | None = None,
) -> None:
    """Write the file; see `export_cog`. `check` is called between tiles, and gives up by raising."""
    if not isinstance(dest, Path):
        with tempfile.TemporaryDirectory(prefix="ndzarr-") as folder:
            file = Path(folder, dest.name)
            write_file(writing, file, bigtiff=bigtiff, progress=progress, workers=workers, check=check)
            dest.patient().put_file(file, create=not overwrite)
        return
    with with_overviews(writing.content, dest, workers) as content:
        _write_file(replace(writing, content=content), dest, bigtiff, overwrite, progress, workers, check)


def _write_file(
    writing: Writing,
    dest: Path,
    bigtiff: bool | str,
    overwrite: bool,
    progress: bool,
    workers: int | None,
    check: Callable[[], object] | None,
) -> None:
    head = header(_images(writing), writing.blocksize, _big(writing, bigtiff))
    with (
        publishing_file(dest, overwrite) as path,
        path.open("wb") as file,
        progress_bar(writing.tiles, dest.name, "tile", progress) as advance,
    ):

        def done(tiles: int) -> None:
            if check is not None:
                check()
            advance(tiles)

        write_tiff(file, head, writing, workers or available_cpus(), done)


def _images(writing: Writing) -> list[Image]:
    """Return the directories of the file, native image first, each followed by its mask."""
    chosen = writing.content
    value = None if isinstance(chosen.nodata, tuple) else chosen.nodata
    nodata = () if value is None else (nodata_tag(value, chosen.dtype),)
    about: tuple[tuple[Any, ...], ...] = (names_tag(chosen.names),) if chosen.described else ()
    place = chosen.pyramid.georeference
    about += () if place is None else tuple(place.tags())
    photometric = "rgb" if chosen.colour else "minisblack" if chosen.colour_map is None else "palette"
    out = []
    for k in range(len(chosen.sizes)):
        tags = nodata if k else (*about, *nodata)
        out.append(Image(chosen.size(k), writing.form, k > 0, photometric, chosen.extras, tags, chosen.colour_map))
        if chosen.masking is not None:
            out.append(Image(chosen.size(k), None, k > 0))
    return out


def _big(writing: Writing, wanted: bool | str) -> bool:
    if isinstance(wanted, bool):
        return wanted
    if wanted != "auto":
        raise OptionError(f"bigtiff={wanted!r}: expected True, False or 'auto'", key="bigtiff")
    masked = writing.content.masking is not None
    each = writing.form.bound(writing.blocksize**2) + masked * (writing.blocksize**2 // 4 + 64)
    return writing.tiles * each + (1 << 20) > writing.largest
