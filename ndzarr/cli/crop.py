"""How is a window cut out of a pyramid from a shell?"""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from ndzarr._indexing.plan import human_bytes
from ndzarr._library.open import open as open_pyramid
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr.cli.options import indices, interval, names
from ndzarr.errors import OptionError


@click.command(
    epilog="""\b
Examples:
  A window at full resolution, as PNG:
    ndzarr crop huge.zarr --x 4000:4512 --y 1000:1512 -o crop.png
  A quarter of the resolution, two channels by name, exactly as stored, with all axes:
    ndzarr crop huge.zarr --x 0:4096 --y 0:4096 --scale 0.25 --c red,nir -o crop.npy
  Out of a COG, or another TIFF with tiles, as it lies:
    ndzarr crop scene.tif --x 4000:4512 --y 1000:1512 -o crop.png
  What reading it would cost:
    ndzarr crop huge.zarr --x 4000:4512 --y 1000:1512 --explain
"""
)
@click.argument("store")
@click.option("-o", "--output", "dest", metavar="FILE", help="File to write: .png, .jpg, .tif, .ome.tif or .npy.")
@click.option(
    "--x",
    type=interval,
    metavar="START:STOP",
    help="Columns in native pixels, half-open; may lie outside, which gives 0.",
)
@click.option("--y", type=interval, metavar="START:STOP", help="Rows in native pixels.")
@click.option("--c", type=names, metavar="NAME,...", help="Channels by name or position, in this order.")
@click.option("--t", type=indices, metavar="INDEX|START:STOP", help="Frames.")
@click.option("--z", type=indices, metavar="INDEX|START:STOP", help="Planes.")
@click.option("--scale", type=float, help="Output pixels per native pixel, such as 0.25.")
@click.option("--level", type=int, help="Read this level as it is stored; x and y are then its pixels.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@click.option("--explain", is_flag=True, help="Print what is read.")
def command(
    store: str,
    dest: str | None,
    scale: float | None,
    level: int | None,
    overwrite: bool,
    explain: bool,
    **axes: Any,
) -> None:
    """
    Write a window of the pyramid STORE (or of a TIFF with tiles) as an image file.

    Axes that are left out are taken whole.  PNG takes uint8 and uint16, JPEG uint8; TIFF takes every type, and NPY is
    exactly the array, with axes t c z y x.
    """
    from ndzarr._files import local_path, publishing_file, refuse_existing_file
    from ndzarr.cli.images import check_suffix, save

    if dest is None and not explain:
        raise click.UsageError("say where to write with -o FILE, or what it would read with --explain")
    if scale is not None and level is not None:
        raise click.UsageError("--scale chooses the level itself; give one of --scale and --level")
    if dest is not None:
        target = local_path(dest)
        check_suffix(target)
        refuse_existing_file(target, overwrite)
    pyramid = open_pyramid(store)
    window = _window(pyramid, axes)
    if explain:
        click.echo(_plan(pyramid, window, scale, level).explain())
    if dest is None:
        return
    image, channels = _read(pyramid, window, scale, level)
    with publishing_file(target, overwrite) as work:
        save(work, target.name, image, pyramid.dims, channels, pyramid.nodata)
    sizes = ", ".join(f"{d}: {n}" for d, n in zip(pyramid.dims, image.shape, strict=True))
    click.echo(f"wrote {dest} ({sizes}) {image.dtype}, {human_bytes(target.stat().st_size)}")


def _window(pyramid: Pyramid, axes: dict[str, Any]) -> dict[str, Any]:
    """The axes asked for; channels that are numbers and not names are positions."""
    window = {axis: want for axis, want in axes.items() if want is not None}
    for axis in window:
        if axis not in pyramid.dims:
            raise OptionError(f"--{axis}: {pyramid.path} has no axis {axis}, only {' '.join(pyramid.dims)}")
    if "c" in window:
        known = pyramid.channels
        window["c"] = [int(c) if c.isdecimal() and c not in known else c for c in window["c"]]
        window["c"] = pyramid.channel_indices(window["c"])
    return window


def _plan(pyramid: Pyramid, window: dict[str, Any], scale: float | None, level: int | None) -> Any:
    from ndzarr._pyramid.crops import make_crop as crop
    from ndzarr._pyramid.crops import plan_crops

    if level is not None:
        return pyramid.plan([window], level)
    return plan_crops([crop(pyramid, window, scale or 1.0)])


def _read(
    pyramid: Pyramid, window: dict[str, Any], scale: float | None, level: int | None
) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    """(pixels, names of their channels)."""
    from ndzarr._pyramid.crops import make_crop as crop
    from ndzarr._pyramid.crops import read_crops

    if level is not None:
        image = pyramid.read(level, **window)
    else:
        [(image, _)] = read_crops([crop(pyramid, window, 1.0 if scale is None else scale)])
    picked = window.get("c", range(len(pyramid.channels)))
    return image, tuple(pyramid.channels[i] for i in picked)
